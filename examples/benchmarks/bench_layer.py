"""Time of an HSS layer over that of ``torch.nn.Linear`` of the same size, on one thread: ``python bench_layer.py``.

"in a stack" hands the layer its input as the layer before it would, as a transposed view of (features, batch) columns;
"alone" hands it a plain (batch, features) array and a gradient of that layout. Below 1, HSSLinear is faster.
"""

import torch
from _timing import interleaved_medians

from sklearn_hss.nn import HSSLinear

SIZES = [  # n, batch, levels, rank, and the ratio of forward + backward to reach
    (256, 256, 3, 2, 0.35),
    (1024, 256, 3, 32, 0.30),
    (4096, 64, 6, 8, 0.03),
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


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread; time of HSSLinear / time of nn.Linear")
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


if __name__ == "__main__":
    main()
