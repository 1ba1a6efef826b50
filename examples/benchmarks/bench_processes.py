"""Steps per second, and weights, of networks that several processes train, against one process with the same batches.

A batch is divided among the processes, so that each of them has a half of what one process alone has, in two. All have
one thread each::

    torchrun --nproc-per-node 2 examples/benchmarks/bench_processes.py
    python examples/benchmarks/bench_processes.py    # one process alone

The difference is that of the weights, relative to the largest, after three epochs in float64; the speed is that in
float32.
"""

import argparse
import warnings

import numpy as np
import torch
from accelerate import Accelerator

from sklearn_hss import FNORegressor, NeuralHSSRegressor

# Name, estimator, its parameters, grid.
ROWS = (
    ("FNO, 64 x 64", FNORegressor, {"width": 16, "batch_size": 16}, (64, 64)),
    ("FNO, 1-D, 256", FNORegressor, {"batch_size": 64}, (256,)),
    (
        "Neural-HSS, 64 x 64, SOAP",
        NeuralHSSRegressor,
        {"architecture": "hss", "init": "random", "optimizer": "soap", "batch_size": 64},
        (64, 64),
    ),
    ("patches, 64 x 64, AdamW", NeuralHSSRegressor, {"architecture": "patches", "batch_size": 16}, (64, 64)),
)
_EPOCHS = 3


def fields(n_samples, grid):
    """Noise, and its running sums."""
    X = np.random.RandomState(0).standard_normal((n_samples, *grid))
    Y = X
    for axis in range(1, X.ndim):
        Y = np.tanh(np.cumsum(Y, axis=axis) / grid[0] ** 0.5)
    return X, Y


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.net_.module_.parameters()])


def steps_per_second(model):
    """Of all epochs but the first, by their median."""
    steps = -(-model.n_samples_ // model.batch_size)
    return steps / np.median([row["dur"] for row in model.history_[1:]])


def fit(kind, parameters, grid, n_batches, **more):
    # Two processes share what is left over by a last batch of an odd number of samples.
    X, Y = fields(n_batches * parameters["batch_size"] + 3, grid)
    model = kind(max_epochs=_EPOCHS, random_state=0, device="cpu", **parameters, **more).fit(X, Y)
    model.n_samples_ = len(X)
    return model


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=range(len(ROWS)), help="which rows of the table")
    parser.add_argument("--batches", type=int, default=3, help="full batches of an epoch (default: 3)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    accelerator = Accelerator(cpu=True)
    count = accelerator.num_processes
    accelerator.print(f"{'network':28}{'batch':>6}{'steps/s of 1':>14}{f'of {count}':>8}{'ratio':>7}{'difference':>12}")
    for name, kind, parameters, grid in (ROWS[i] for i in options.rows):
        found = {}
        for dtype in ("float32", "float64"):
            job = kind, parameters, grid, options.batches
            together = fit(*job, dtype=dtype, accelerator=accelerator)
            if accelerator.is_main_process:  # the others wait
                found[dtype] = fit(*job, dtype=dtype), together
            accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            alone, several = map(steps_per_second, found["float32"])
            expected, weights_found = map(weights, found["float64"])
            difference = float((weights_found - expected).abs().max() / expected.abs().max())
            speeds = f"{alone:>14.2f}{several:>8.2f}{several / alone:>7.2f}"
            print(f"{name:28}{parameters['batch_size']:>6}{speeds}{difference:>12.1e}", flush=True)
    accelerator.end_training()


if __name__ == "__main__":
    main()
