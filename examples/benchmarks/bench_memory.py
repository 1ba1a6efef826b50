"""Seconds, and the memory that a process takes for them beyond what its imports take, on data in files.

Every row is a process of its own, of which the anonymous memory counts: pages of a mapped file, which the system drops
when it needs the room, do not. Files of zeros with holes take no room on the disk::

    python examples/benchmarks/bench_memory.py
    python examples/benchmarks/bench_memory.py --rows fit-fno predict-fno
    python examples/benchmarks/bench_memory.py --gigabytes 50 --rows large-fno
    python examples/benchmarks/bench_memory.py --slopes
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PREPARE = """
import sys, time
import numpy as np
import scipy.fft, scipy.linalg
import torch
from sklearn.pipeline import make_pipeline
from sklearn_hss import FieldScaler, FNORegressor, HSSRegressor, LocalOperatorRegressor, NeuralHSSRegressor
from sklearn_hss import RolloutRegressor
torch.set_num_threads(1)
folder, gigabytes = sys.argv[1], float(sys.argv[2])

def fields(name, n_samples, *grid):
    return np.lib.format.open_memmap(f"{folder}/{name}.npy", "w+", np.float32, (n_samples, *grid))

def noise(name, n_samples, *grid):
    X = fields(name, n_samples, *grid)
    for i in range(0, n_samples, 64):
        X[i : i + 64] = np.random.RandomState(i).standard_normal(X[i : i + 64].shape)
    return X

def large(n_samples, *grid):
    '''Two files with holes, and 64 fields of noise at the beginning.'''
    for name in "XY":
        A = fields(name, n_samples, *grid)
        A[:64] = np.random.RandomState(ord(name)).standard_normal(A[:64].shape)
        yield A

def poisson(n_samples, *grid):
    '''White forcings, and solutions by the sine transform; the same by a banded solver in one dimension.'''
    F = np.random.RandomState(0).standard_normal((n_samples, *grid))
    if len(grid) == 1:
        bands = np.stack([np.full(grid, -1.0), np.full(grid, 2.0)])
        return F, scipy.linalg.solveh_banded(bands, F.T).T
    symbol = sum(np.ix_(*[2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1)) for n in grid]))
    return F, np.stack([scipy.fft.idstn(scipy.fft.dstn(f, 1) / symbol, 1) for f in F])

def network(**parameters):
    return FNORegressor(width=8, modes=4, depth=2, random_state=0, device="cpu", **parameters)

# Memory that a first use takes for good does not count.
tiny = np.random.RandomState(0).standard_normal((8, 16, 16)).astype(np.float32)
network(max_epochs=1).fit(tiny, tiny)
NeuralHSSRegressor(max_epochs=1, random_state=0).fit(tiny, tiny)
"""

# Measurements begin after the line "ready", and end with the process.
ROWS = {
    "fit-fno": (
        "64 MB, FNORegressor.fit, 1 epoch",
        "X = noise('X', 2048, 64, 64); Y = noise('Y', 2048, 64, 64)",
        "network(max_epochs=1).fit(X, Y)",
    ),
    "fit-neural": (
        "64 MB, NeuralHSSRegressor.fit, 1 epoch",
        "X = noise('X', 2048, 64, 64); Y = noise('Y', 2048, 64, 64)",
        "NeuralHSSRegressor(max_epochs=1, random_state=0, architecture='hss').fit(X, Y)",
    ),
    "fit-neural-auto": (
        "64 MB, NeuralHSSRegressor.fit, 1 epoch, the architecture found",
        "X = noise('X', 2048, 64, 64); Y = noise('Y', 2048, 64, 64)",
        "NeuralHSSRegressor(max_epochs=1, random_state=0).fit(X, Y)",
    ),
    "predict-fno": (
        "FNORegressor.predict of 256 MB",
        "X = fields('X', 16384, 64, 64); model = network(max_epochs=1).fit(noise('F', 64, 64, 64), X[:64] + 1)",
        "model.predict(X)",
    ),
    "large-fno": (
        "{gigabytes:g} GB, FNORegressor.fit, 10 s of training",
        "X, Y = large(int(gigabytes * 2**30) // (2 * 4 * 128**2), 128, 128)",
        "network(max_seconds=10).fit(X, Y)",
    ),
    "large-neural": (
        "{gigabytes:g} GB, NeuralHSSRegressor.fit, 10 s of training",
        "X, Y = large(int(gigabytes * 2**30) // (2 * 4 * 128**2), 128, 128)",
        "NeuralHSSRegressor(max_seconds=10, random_state=0).fit(X, Y)",
    ),
    "large-mask": (
        "{gigabytes:g} GB, FNORegressor(mask=L-shape).fit, 10 s of training",
        "X, Y = large(int(gigabytes * 2**30) // (2 * 4 * 128**2), 128, 128); mask = np.ones((128, 128), dtype=bool); "
        "mask[64:, 64:] = False",
        "network(max_seconds=10, mask=mask).fit(X, Y)",
    ),
    "large-pipeline": (
        "{gigabytes:g} GB, make_pipeline(FieldScaler, FNORegressor).fit, 10 s of training",
        "X, Y = large(int(gigabytes * 2**30) // (2 * 4 * 128**2), 128, 128)",
        "make_pipeline(FieldScaler('standard'), network(max_seconds=10)).fit(X, Y)",
    ),
    "large-rollout": (
        "{gigabytes:g} GB of trajectories, RolloutRegressor(FNORegressor).fit, 10 s of training",
        "U, _ = large(int(gigabytes * 2**30) // (32 * 4 * 128**2), 32, 128, 128)",
        "RolloutRegressor(network(max_seconds=10)).fit(U)",
    ),
}

# Fits of growing sizes: points per side, dimensions, and the same three.
SLOPES = [
    (
        "HSSRegressor.fit, 10 samples, white noise, float64",
        (2**14, 2**16, 2**18, 10**6),
        1,
        "F, U = poisson(10, {n})",
        "HSSRegressor(random_state=0).fit(F, U)",
    ),
    (
        "LocalOperatorRegressor.fit and predict, 4 samples, white noise, float64",
        (128, 256, 512, 1024),
        2,
        "F, U = poisson(4, {n}, {n})",
        "LocalOperatorRegressor(random_state=0).fit(F, U).predict(F[:1])",
    ),
]


def anonymous(pid):
    """Megabytes of anonymous memory of a process, None after its end."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), None)


def measure(prepare, action, gigabytes):
    """Seconds of an action, and the most megabytes that it took beyond those before it."""
    script = f"{PREPARE}\n{prepare}\nprint('ready', flush=True)\nsys.stdin.readline()\n{action}\n"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", script, folder, str(gigabytes)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            if child.stdout.readline() != "ready\n":
                raise RuntimeError("The preparation failed; its error is above.")
            before = peak = anonymous(child.pid)
            start = time.perf_counter()
            child.stdin.write("\n")
            child.stdin.flush()
            while (now := anonymous(child.pid)) is not None:
                peak = max(peak, now)
                time.sleep(0.005)
            seconds = time.perf_counter() - start
        if child.returncode:
            raise RuntimeError(f"Exit status {child.returncode}; the error is above.")
    return seconds, peak - before


def slope(points, values):
    """Exponent of the power of the number of points that fits best."""
    return np.polyfit(np.log(points), np.log(values), 1)[0]


def print_slopes():
    """Seconds and memory of fits of growing sizes, and how they grow."""
    for title, sides, n_modes, prepare, action in SLOPES:
        print(f"{title}\n{'points':>12}{'s':>8}{'MB':>8}")
        points, found = [side**n_modes for side in sides], []
        for side, n in zip(sides, points, strict=True):
            found.append(measure(prepare.format(n=side), action, 0))
            print(f"{n:12,}{found[-1][0]:8.1f}{found[-1][1]:8.0f}", flush=True)
        of_time, of_memory = (slope(points, values) for values in zip(*found, strict=True))
        print(f"{'slope':>12}{of_time:8.2f}{of_memory:8.2f}\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--gigabytes", type=float, default=8.0, help="of the large rows, inputs and targets together")
    parser.add_argument("--slopes", action="store_true", help="time and memory of linear fits of growing sizes instead")
    options = parser.parse_args()
    if options.slopes:
        print_slopes()
        return
    print(f"{'':78}{'s':>8}{'MB':>8}")
    for row in options.rows:
        title, prepare, action = ROWS[row]
        seconds, megabytes = measure(prepare, action, options.gigabytes)
        print(f"{title.format(gigabytes=options.gigabytes):78}{seconds:8.1f}{megabytes:8.0f}", flush=True)


if __name__ == "__main__":
    main()
