"""Speed and memory of HSS layers on one thread: ``python bench_layer.py``.

1. Time of a one-dimensional layer over that of ``torch.nn.Linear`` of the same size. "in a stack" hands the layer its
   input as the layer before it would, as a transposed view of (features, batch) columns; "alone" hands it a plain
   (batch, features) array and a gradient of that layout. Below 1, HSSLinear is faster.
2. Layers of several dimensions: the share of the speed of a large matrix product that they reach, counting the flops of
   the products with materialised factors once forward and twice backward. The time for their own work, forming the
   factors and recomputing, does not count as work.
3. Their memory over that of the input. "kept" is all that the backward pass has to find, the input included; "total" is
   the peak of both passes, temporary memory and the formed factors included, but without the output and the gradient of
   the input, which every layer has to make.
4. Materialised factors against products with HSS matrices, forward + backward, and which of them "auto" picks.
5. The time of a training step (forward, backward, AdamW) of Neural-HSS over that of other networks, on the same batch.
   Below 1, Neural-HSS is faster.
"""

import os

import torch
from _timing import interleaved_medians
from _training import PAPER_FNO

from sklearn_hss.nn import FNO, DeepONet, HSSLinear, HSSMultilinear, NeuralHSS, ResNet

SIZES = [  # n, batch, levels, rank, and the ratio of forward + backward to reach
    (256, 256, 3, 2, 0.35),
    (1024, 256, 3, 32, 0.30),
    (4096, 64, 6, 8, 0.03),
]

GRIDS = [  # grid, batch, rank, recompute, and the shares of forward and forward + backward to reach; outer rank 8
    ((64, 64), 128, 2, False, (0.75, 0.60)),
    ((64, 64), 128, 2, True, (0.75, 0.60)),
    ((128, 128), 64, 8, True, None),
    ((64, 64, 64), 4, 2, False, None),
    ((64, 64, 64), 4, 2, True, None),
]

CONTRACTIONS = [  # grid, batch, outer rank, rank, levels, channels
    ((64,), 64, 1, 2, 2, 16),
    ((256,), 64, 1, 2, 3, 16),
    ((1024,), 64, 1, 8, 5, None),
    ((4096,), 64, 1, 8, 6, None),
    ((64, 64), 32, 8, 2, 2, None),
    ((128, 128), 8, 8, 8, 2, None),
    ((256, 256), 4, 8, 2, 3, None),
    ((1024, 1024), 1, 1, 8, 5, None),
    ((32, 32, 32), 4, 8, 2, 1, None),
    ((64, 64, 64), 1, 8, 2, 2, None),
    ((1024, 8, 8), 1, 4, 2, (5, 0, 0), None),
]


STEPS = [  # grid, batch, levels
    ((256,), 64, 3),
    ((64, 64), 16, 2),
    ((64, 64), 64, 2),
]


def forward(layer, x):
    def call():
        with torch.no_grad():
            layer(x)

    return call


def forward_backward(layer, x, gradient):
    x = x.detach().requires_grad_()

    leaves = [x, *layer.parameters()]

    def call():
        for leaf in leaves:
            leaf.grad = None
        layer(x).backward(gradient)

    return call


def one_dimension():
    print("Time of HSSLinear / time of nn.Linear")
    print(f"{'':37}|{'forward':^23} |{'forward + backward':^31}")
    print(
        f"{'n':>5} {'batch':>6} {'levels':>7} {'rank':>5} {'nn.Linear':>10} | {'in a stack':>11} {'alone':>10} |"
        f" {'in a stack':>11} {'alone':>10} {'to reach':>9}"
    )
    for n, batch, levels, rank, goal in SIZES:
        hss, linear = HSSLinear(n, n, rank, levels), torch.nn.Linear(n, n, bias=False)
        rows, rows_gradient = torch.randn(batch, n), torch.randn(batch, n)
        columns, columns_gradient = torch.randn(n, batch).T, torch.randn(n, batch).T
        forwards = interleaved_medians(
            {
                "linear": forward(linear, rows),
                "stack": forward(hss, columns),
                "alone": forward(hss, rows),
            }
        )
        both = interleaved_medians(
            {
                "linear": forward_backward(linear, rows, rows_gradient),
                "stack": forward_backward(hss, columns, columns_gradient),
                "alone": forward_backward(hss, rows, rows_gradient),
            }
        )
        ratios = [times[key] / times["linear"] for times in (forwards, both) for key in ("stack", "alone")]
        print(
            f"{n:>5} {batch:>6} {levels:>7} {rank:>5} {both['linear'] * 1e3:>7.2f} ms |"
            f" {ratios[0]:>11.3f} {ratios[1]:>10.3f} | {ratios[2]:>11.3f} {ratios[3]:>10.3f} {goal:>9.2f}"
        )


def memory(call, x):
    """Memory for the backward pass, and the peak without output and gradient, relative to the memory of x."""
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler talks a lot
    call()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        call()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    # The input was there before; the output and the gradient were allocated.
    return sum(kept.values()) / x.nbytes, peak / x.nbytes - 1


def several_dimensions():
    print("\nHSSMultilinear, outer rank 8: share of the speed of a large matrix product; memory in inputs")
    print(
        f"{'grid':>10} {'batch':>6} {'rank':>5} {'recompute':>10} {'GEMM':>11} | {'forward':>8} {'to reach':>9} |"
        f" {'+ backward':>11} {'to reach':>9} | {'kept':>5} {'total':>6} {'to reach':>9}"
    )
    A = torch.randn(1024, 1024)
    for grid, batch, rank, recompute, goals in GRIDS:
        layer = HSSMultilinear(grid, rank=rank, recompute=recompute, contraction="dense")
        x, gradient = torch.randn(batch, *grid), torch.randn(batch, *grid)
        both = forward_backward(layer, x, gradient)
        times = interleaved_medians(
            {"gemm": lambda: A @ A, "forward": forward(layer, x), "both": both},
        )
        peak = 2 * len(A) ** 3 / times["gemm"]
        work = sum(2 * n * x.numel() * layer.outer_rank for n in grid)
        shares = work / times["forward"] / peak, 3 * work / times["both"] / peak
        kept, total = memory(both, x)
        wanted = [f"{goal:.2f}" for goal in goals] if goals else ["", ""]
        print(
            f"{'x'.join(map(str, grid)):>10} {batch:>6} {rank:>5} {recompute!s:>10} {peak / 1e9:>4.0f} Gflop/s |"
            f" {shares[0]:>8.2f} {wanted[0]:>9} | {shares[1]:>11.2f} {wanted[1]:>9} |"
            f" {kept:>5.1f} {total:>6.1f} {'3.0' if recompute else '':>9}"
        )


def contractions():
    print("\nMaterialised factors and products with HSS matrices, forward + backward; ratio above 1: HSS is faster")
    print(
        f"{'grid':>10} {'batch':>6} {'channels':>9} {'terms':>6} {'rank':>5} {'levels':>9} {'dense':>11} {'hss':>11}"
        f" {'ratio':>6} {'picked':>7}"
    )
    for grid, batch, outer_rank, rank, levels, channels in CONTRACTIONS:
        arguments = {"outer_rank": outer_rank, "rank": rank, "levels": levels, "channels": channels}
        x = torch.randn(batch, *([] if channels is None else [channels]), *grid)
        gradient = torch.randn_like(x)
        times = interleaved_medians(
            {
                kind: forward_backward(HSSMultilinear(grid, contraction=kind, **arguments), x, gradient)
                for kind in ("dense", "hss")
            }
        )
        ratio = times["dense"] / times["hss"]
        picked = HSSMultilinear(grid, **arguments)._contraction(batch)
        print(
            f"{'x'.join(map(str, grid)):>10} {batch:>6} {channels or '':>9} {outer_rank:>6} {rank:>5}"
            f" {','.join(map(str, levels)) if isinstance(levels, tuple) else levels:>9}"
            f" {times['dense'] * 1e3:>8.2f} ms {times['hss'] * 1e3:>8.2f} ms {ratio:>6.2f} {picked:>7}"
            f"{'' if (picked == 'hss') == (ratio > 1) else '  (the slower)'}"
        )


def step(net, x):
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)

    def call():
        optimizer.zero_grad()
        (net(x) - x).square().mean().backward()
        optimizer.step()

    return call


def training_steps():
    print("\nTime of a training step; Neural-HSS over the others, below 1: Neural-HSS is faster")
    networks = ("Neural-HSS", "FNO", "ResNet", "DeepONet")
    print(f"{'grid':>7} {'batch':>6} |", *(f"{name:>13}" for name in networks), "|", end="")
    print(*(f"{'/ ' + name:>11}" for name in networks[1:]))
    for grid, batch, levels in STEPS:
        nets = {
            "Neural-HSS": NeuralHSS(grid, grid, depth=3, rank=2, levels=levels, outer_rank=8),
            "FNO": FNO(grid, **PAPER_FNO[len(grid)]),
            "ResNet": ResNet(grid, width=64, depth=4),
            "DeepONet": DeepONet(grid, width=64, depth=4),
        }
        x = torch.randn(batch, *grid)
        times = interleaved_medians({name: step(net, x) for name, net in nets.items()}, rounds=5, calls=1)
        print(
            f"{'x'.join(map(str, grid)):>7} {batch:>6} |",
            *(f"{times[name] * 1e3:>10.1f} ms" for name in nets),
            "|",
            end="",
        )
        print(*(f"{times['Neural-HSS'] / times[name]:>11.2f}" for name in networks[1:]))


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread")
    one_dimension()
    several_dimensions()
    contractions()
    training_steps()


if __name__ == "__main__":
    main()
