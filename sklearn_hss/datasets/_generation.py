"""What all generators share: batches, several cores, progress, and files that are complete or not there."""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib.parallel import get_active_backend
from threadpoolctl import threadpool_limits
from tqdm import tqdm

GENERATION_CONSTRAINTS: dict[str, list] = {
    "random_state": ["random_state"],
    "n_jobs": [Integral, None],
    "verbose": ["verbose"],
    "data_home": [str, os.PathLike, None],
}

# Goes into the names of the folders: data of an older release are not taken for those of the present solvers.
_FORMAT = 1
# Folders of generations that were killed are deleted when nothing was written to them for this many seconds.
_ABANDONED = 24 * 3600.0

# Bars cannot travel to where the jobs run; threads find theirs here.
_BARS: dict[int, tqdm] = {}
_LOCK = threading.Lock()
_job = threading.local()


@dataclass
class Plan:
    """How to generate a data set, batch by batch.

    Attributes
    ----------
    n_samples : int
    batch_size : int
        Must not depend on the number of jobs: results round by batch.
    shapes : dict of str to tuple
        Name and shape of one sample, for every array of the data set.
    draw : callable
        ``draw(rows)`` takes a slice of the samples and returns what is random about them. It is called in the main
        process, for one batch after the other, so it may use a common random number generator.
    solve : callable
        ``solve(rows, drawn)`` returns one array of shape (rows, *shape) per entry of `shapes`. It runs in any thread or
        process and gives the same result in each. It raises RuntimeError, naming the sample, where a solver does not
        converge.
    dtype : dtype, default=float64
    prefer : {"threads", "processes"}, default="threads"
        Threads where the time goes into compiled code that lets others run; processes where it goes into Python. In the
        second case `solve` must be picklable by cloudpickle.
    """

    n_samples: int
    batch_size: int
    shapes: dict[str, tuple[int, ...]]
    draw: Callable[[slice], Any]
    solve: Callable[[slice, Any], tuple[np.ndarray, ...]]
    dtype: Any = np.float64
    prefer: str = "threads"


def generate(
    prepare: Callable[[], Plan],
    recipe: dict[str, Any],
    *,
    n_jobs: int | None = None,
    verbose: int = 1,
    data_home: str | os.PathLike | None = None,
) -> tuple[np.ndarray, ...]:
    """Generate the arrays of a data set, or take them from the disk.

    Parameters
    ----------
    prepare : callable
        Makes the plan. It is not called where the data are on the disk.
    recipe : dict
        Everything that determines the data: the name of the generator under "generator", and its parameters.
    n_jobs, verbose, data_home
        As in the public generators.

    Returns
    -------
    tuple of ndarrays
        In the order of ``plan.shapes``; read-only memory maps where `data_home` is given.
    """
    if data_home is None:
        plan = prepare()
        return _fill(plan, {name: _empty(plan, shape) for name, shape in plan.shapes.items()}, recipe, n_jobs, verbose)
    seed = recipe["random_state"]
    if not isinstance(seed, Integral):
        raise ValueError(f"random_state={seed!r} does not identify the data that data_home would keep; use an integer.")
    home = Path(data_home).expanduser()
    folder = home / f"{recipe['generator']}-{_digest(recipe)}"
    if not folder.exists():
        plan = prepare()
        home.mkdir(parents=True, exist_ok=True)
        _delete_abandoned(folder)
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=home))
        try:
            arrays = {
                name: np.lib.format.open_memmap(
                    partial / f"{i}-{name}.npy", mode="w+", dtype=plan.dtype, shape=(plan.n_samples, *shape)
                )
                for i, (name, shape) in enumerate(plan.shapes.items())
            }
            _fill(plan, arrays, recipe, n_jobs, verbose)
            for array in arrays.values():
                array.flush()
            del arrays
            (partial / "recipe.json").write_text(json.dumps(recipe, indent=1, default=repr) + "\n")
            # The folder gets its name when it is complete. Another process may have been faster with the same data.
            with suppress(OSError):
                partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return tuple(np.load(file, mmap_mode="r") for file in sorted(folder.glob("*.npy")))


def _digest(recipe):
    for name, value in recipe.items():
        if callable(value):
            raise ValueError(
                f"data_home cannot keep data that depend on a function: {name}={value!r} may change without notice; "
                f"give an array, or no data_home."
            )
    return joblib.hash({"format": _FORMAT, **recipe})[:16]


def _delete_abandoned(folder):
    for partial in folder.parent.glob(f"{folder.name}.partial-*"):
        with suppress(OSError):
            newest = max(file.stat().st_mtime for file in [partial, *partial.iterdir()])
            if time.time() - newest > _ABANDONED:
                shutil.rmtree(partial, ignore_errors=True)


def _empty(plan, shape):
    return np.empty((plan.n_samples, *shape), plan.dtype)


def _fill(plan, arrays, recipe, n_jobs, verbose):
    batches = [
        slice(start, min(start + plan.batch_size, plan.n_samples))
        for start in range(0, plan.n_samples, plan.batch_size)
    ]
    # joblib starts its own helpers even for one batch, which costs more than the batch.
    n_jobs = 1 if len(batches) == 1 else n_jobs
    bar = tqdm(
        total=plan.n_samples,
        desc=recipe["generator"],
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} samples [{elapsed}<{remaining}]",
        delay=2,  # it shows up only where there is time to look at it
        disable=not verbose,
    )
    jobs = (joblib.delayed(_solve)(plan.solve, rows, plan.draw(rows), os.getpid(), id(bar)) for rows in batches)
    with _single_threaded(), bar:
        _BARS[id(bar)] = bar
        try:
            backend, _ = get_active_backend(prefer=plan.prefer)
            return_as = "generator" if backend.supports_return_generator else "list"  # not all that users plug in do
            results = joblib.Parallel(n_jobs=n_jobs, prefer=plan.prefer, return_as=return_as)(jobs)
            for rows, (fields, reported) in zip(batches, results, strict=True):
                for array, values in zip(arrays.values(), fields, strict=True):
                    array[rows] = values
                with _LOCK:
                    bar.update(rows.stop - rows.start - reported)
        finally:
            del _BARS[id(bar)]
    return tuple(arrays.values())


def report(n_samples):
    """Move the progress bar on from within a batch, by samples or parts of them; silent in other processes."""
    advance = getattr(_job, "advance", None)
    if advance is not None:
        advance(n_samples)


def _solve(solve, rows, drawn, parent, bar_id):
    if os.getpid() != parent:
        with _single_threaded():
            return solve(rows, drawn), 0.0
    if "torch" in sys.modules:  # every thread has its own number of OpenMP threads
        sys.modules["torch"].set_num_threads(1)
    reported = 0.0

    def advance(n_samples):
        nonlocal reported
        reported += n_samples
        with _LOCK:
            _BARS[bar_id].update(n_samples)

    _job.advance = advance
    try:
        return solve(rows, drawn), reported
    finally:
        _job.advance = None


@contextmanager
def _single_threaded() -> Iterator[None]:
    # One thread per job: the cores are for the jobs, and sums do not round differently with another number of threads.
    torch = sys.modules.get("torch")
    n_threads = torch.get_num_threads() if torch else None
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        if torch:
            torch.set_num_threads(n_threads)
