"""Gains of a GPU, in one table of five minutes at most: ``python bench_gpu.py``.

Every row has a time, that of something else, and their ratio; below 1, the first is faster.

1. "fit": a training step of `fit` over one of a bare loop for the same network on the same device, with the data there,
   fused AdamW (or SOAP), and one launch after the other. "kernels" is how long the device computes in a step of the
   bare loop, "busy" that over the time of a step of `fit`. One-time costs are excluded: the time for few steps is
   subtracted from that for many. Neural-HSS on patches also trains in bfloat16, over float32.
2. "layer": forward and backward pass of :class:`HSSLinear` over those of ``torch.nn.Linear``, both as CUDA graphs.
3. HSS matrices of float64 over dense ones: product with 64 vectors, factorisation, solution.
4. Generators of data on the device over the same on the CPU, with the threads that OMP_NUM_THREADS allows.

``--device cpu --quick`` tries all of it in seconds, with sizes that tell nothing.
"""

import argparse
import copy
import os
import time
from functools import partial

import torch
from _timing import interleaved_medians
from bench_layer import SIZES as LAYERS
from bench_linalg import greens_matrix
from bench_training import bare_loop

from sklearn_hss import (
    DeepONetRegressor,
    FactFormerRegressor,
    FNORegressor,
    GreenLearningRegressor,
    NeuralHSSRegressor,
    ResNetRegressor,
)
from sklearn_hss.datasets import make_gray_scott, make_helmholtz, make_navier_stokes, make_poisson
from sklearn_hss.nn import SOAP, HSSLinear
from sklearn_hss.nn._graphs import GraphedStep, can_capture

HSS = {"architecture": "hss", "init": "random"}
PATCHES = {"architecture": "patches", "init": "random"}
# Label, estimator, grid, batch size.
FITS = [
    ("Neural-HSS", NeuralHSSRegressor(**HSS, optimizer="adamw"), 256, 256),
    ("Neural-HSS, SOAP", NeuralHSSRegressor(**HSS, optimizer="soap"), 256, 256),
    ("Neural-HSS", NeuralHSSRegressor(**HSS, optimizer="adamw"), (64, 64), 64),
    ("Neural-HSS, SOAP", NeuralHSSRegressor(**HSS, optimizer="soap"), (64, 64), 64),
    ("Neural-HSS, patches", NeuralHSSRegressor(**PATCHES, optimizer="adamw"), (64, 64), 32),
    ("FNO", FNORegressor(), 256, 64),
    ("FNO", FNORegressor(), (64, 64), 32),
    ("ResNet", ResNetRegressor(), 256, 64),
    ("ResNet", ResNetRegressor(), (64, 64), 32),
    ("DeepONet", DeepONetRegressor(), 256, 256),
    ("GreenLearning", GreenLearningRegressor(), 256, 64),
    ("FactFormer", FactFormerRegressor(), (64, 64), 8),
]
QUICK_FITS = [
    ("Neural-HSS, SOAP", NeuralHSSRegressor(**HSS, rank=1, levels=1, optimizer="soap"), 16, 4),
    ("Neural-HSS, patches", NeuralHSSRegressor(**PATCHES, rank=1, levels=1, width=2, depth=1), (8, 8), 4),
]
STEPS, QUICK_STEPS = (20, 80), (2, 4)
QUICK_LAYERS = [(16, 4, 1, 1, None)]
SIZES, QUICK_SIZES = (4096, 16384), (64,)
N_VECTORS = 64
# Generator, its arguments, and smaller ones.
CUBE, SMALL_CUBE = {"forcing": "gaussian", "n_points": (64, 64, 64)}, {"forcing": "gaussian", "n_points": (8, 8, 8)}
GENERATORS = [
    (make_gray_scott, {"n_samples": 6, "states": (0, 100)}, {"n_samples": 6, "n_points": (16, 16), "states": (0, 2)}),
    (make_navier_stokes, {"n_samples": 8}, {"n_samples": 1, "n_points": (16, 16), "t_final": 0.1}),
    (make_poisson, {"n_samples": 4, **CUBE}, {"n_samples": 1, **SMALL_CUBE}),
    (make_helmholtz, {"n_samples": 4, **CUBE}, {"n_samples": 1, **SMALL_CUBE}),
]
TO_REACH = 1.0


class Table:
    """Rows of times, printed together at the end."""

    def __init__(self, device, rounds):
        self.device, self.rounds, self.rows = device, rounds, []

    def medians(self, contenders, calls=1):
        """As of :func:`interleaved_medians`, for functions that leave the device working."""

        def finished(call):
            call()
            self.wait()

        return interleaved_medians(
            {name: partial(finished, call) for name, call in contenders.items()}, self.rounds, calls
        )

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def add(self, what, over, seconds, others, kernels=None):
        self.rows.append((what, over, seconds, others, kernels))

    def print(self):
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        print(f"\ntorch {torch.__version__}, {name}; medians")
        print(f"{'':48} {'ms':>10}  {'over':<14} {'ms':>10} {'ratio':>7} {'to reach':>9} | {'kernels':>10} {'busy':>5}")
        for what, over, seconds, others, kernels in self.rows:
            busy = "" if kernels is None else f"{kernels * 1e3:>10.3f} {kernels / seconds:>5.0%}"
            print(
                f"{what:<48} {seconds * 1e3:>10.3f}  {over:<14} {others * 1e3:>10.3f} {seconds / others:>7.3f} "
                f"{TO_REACH:>9.2f} | {busy}"
            )


def kernel_seconds(run, device):
    """Time that the device computes while `run` runs; on a CPU, that of torch's operations."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler talks a lot
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA if device.type == "cuda" else activity.CPU]) as profile:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    if device.type != "cuda":
        return sum(event.self_cpu_time_total for event in profile.key_averages()) * 1e-6
    kernels = (
        event
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    )
    return sum(event.time_range.elapsed_us() for event in kernels) * 1e-6


def fit_and_bare(table, estimator, grid, batch_size, steps):
    """Seconds of a step of `fit` and of a bare loop, and of the kernels of the latter."""
    F, U = (
        array.astype("float32")
        for array in make_poisson(2 * batch_size, grid, forcing="gaussian", random_state=0, verbose=0)
    )
    few, many = (n // 2 for n in steps)  # epochs, of two steps each
    estimator = copy.deepcopy(estimator).set_params(
        batch_size=batch_size, gradient_clip=1.0, device=table.device, random_state=0
    )
    net = copy.deepcopy(estimator.set_params(max_epochs=1).fit(F, U).net_.module_)
    optimizer = SOAP if estimator.optimizer == "soap" else None
    bare = partial(bare_loop, net, F, U, batch_size=batch_size, device=table.device, optimizer=optimizer)
    times = table.medians(
        {
            "few": lambda: estimator.set_params(max_epochs=few).fit(F, U),
            "many": lambda: estimator.set_params(max_epochs=many).fit(F, U),
            "bare few": lambda: bare(n_epochs=few),
            "bare many": lambda: bare(n_epochs=many),
        }
    )
    n_steps = 2 * (many - few)
    step, bare_step = ((times[f"{kind}many"] - times[f"{kind}few"]) / n_steps for kind in ("", "bare "))
    return step, bare_step, kernel_seconds(lambda: bare(n_epochs=few), table.device) / (2 * few)


def training_steps(table, label, estimator, grid, batch_size, steps):
    size = "x".join(map(str, grid)) if isinstance(grid, tuple) else str(grid)
    times = fit_and_bare(table, estimator, grid, batch_size, steps)
    table.add(f"fit: {label}, {size}, batch {batch_size}", "bare loop", *times)
    if "patches" in label:
        coarse = copy.deepcopy(estimator).set_params(dtype="bfloat16")
        seconds = fit_and_bare(table, coarse, grid, batch_size, steps)[0]
        table.add("fit: the same in bfloat16", "float32", seconds, times[0])


def layers(table, n, batch, levels, rank, _):
    x, gradient = (torch.randn(batch, n, device=table.device, requires_grad=grad) for grad in (True, False))

    def passes(layer):
        parameters = [x, *layer.to(table.device).parameters()]

        def compute(batch):
            for parameter in parameters:
                parameter.grad = None
            output = layer(x)
            output.backward(batch)
            return output.sum()

        return partial(GraphedStep(compute, parameters) if can_capture(table.device) else compute, gradient)

    pairs = {"ours": passes(HSSLinear(n, n, rank, levels)), "theirs": passes(torch.nn.Linear(n, n, bias=False))}
    for _ in range(5):  # until they are captured
        for call in pairs.values():
            call()
    times = table.medians(pairs, calls=20)
    table.add(f"layer: n = {n}, batch {batch}, rank {rank}", "nn.Linear", times["ours"], times["theirs"])


def algebra(table, n):
    A = greens_matrix(n)[0].to(table.device)
    b = torch.randn(n, N_VECTORS, dtype=A.dtype, device=table.device)
    factor, dense = A.factor(), A.to_dense()
    lu = torch.linalg.lu_factor(dense)
    pairs = {
        "product": (lambda: A @ b, lambda: dense @ b),
        # A matrix keeps its factor; the detached one has none yet.
        "factor": (lambda: A.detach().factor(), lambda: torch.linalg.lu_factor(dense)),
        "solve": (lambda: factor.solve(b), lambda: torch.linalg.lu_solve(*lu, b)),
    }
    for name, (ours, theirs) in pairs.items():
        times = table.medians({"ours": ours, "theirs": theirs}, calls=3)
        table.add(f"HSSMatrix: {name}, n = {n}", "dense", times["ours"], times["theirs"])


def generator(table, make, size, small):
    make(**small, device=table.device.type, random_state=0, verbose=0)  # libraries load
    seconds = {}
    for device in ("cpu", table.device.type):
        start = time.perf_counter()
        make(**size, device=device, random_state=0, n_jobs=1, verbose=0)
        seconds[device] = time.perf_counter() - start
    table.add(f"{make.__name__}, {size['n_samples']} samples", "CPU", seconds[table.device.type], seconds["cpu"])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--seconds", type=float, default=240, help="after which nothing new begins")
    parser.add_argument("--networks", nargs="+", help="only their steps; labels as in the table, or parts of them")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    table = Table(options.device, rounds=1 if options.quick else 3)
    fits, steps, sizes = (QUICK_FITS, QUICK_STEPS, QUICK_SIZES) if options.quick else (FITS, STEPS, SIZES)
    jobs = [partial(layers, table, *layer) for layer in (QUICK_LAYERS if options.quick else LAYERS)]
    jobs += [partial(algebra, table, n) for n in sizes]
    jobs += [
        partial(generator, table, make, small if options.quick else size, small) for make, size, small in GENERATORS
    ]
    if options.networks:
        jobs, fits = [], [fit for fit in fits if any(part in fit[0] for part in options.networks)]
    jobs += [partial(training_steps, table, *fit, steps) for fit in fits]
    start = time.monotonic()
    try:
        while jobs and time.monotonic() - start < options.seconds:
            jobs.pop(0)()
    finally:
        table.print()
    if jobs:
        print(f"{options.seconds:g} s were over: the last {len(jobs)} of these measurements are missing.")


if __name__ == "__main__":
    main()
