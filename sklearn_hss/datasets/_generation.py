"""What all generators share: batches, several cores, progress, and files that are complete or not there."""

import json
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib.parallel import get_active_backend
from sklearn.utils._param_validation import Interval
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from .._parameters import Count

POSITIVE = [Interval(Real, 0, None, closed="neither")]

GENERATION_CONSTRAINTS: dict[str, list] = {
    "random_state": ["random_state"],
    "n_jobs": [Count(1), Interval(Integral, None, -1, closed="right"), None],
    "verbose": ["verbose"],
    "data_home": [str, os.PathLike, None],
}

# Goes into the names of the folders: data of an older release are not taken for those of the present solvers.
_FORMAT = 1
_RECIPE = "recipe.json"
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
        arrays = [np.empty((plan.n_samples, *shape), plan.dtype) for shape in plan.shapes.values()]
        _fill(plan, [array.__setitem__ for array in arrays], recipe, n_jobs, verbose)
        return tuple(arrays)
    seed = recipe["random_state"]
    if not isinstance(seed, Integral):
        raise ValueError(f"random_state={seed!r} does not identify the data that data_home would keep; use an integer.")
    home = Path(data_home).expanduser()
    folder = home / f"{recipe['generator']}-{digest(recipe)}"
    if not folder.exists():
        plan = prepare()
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"data_home={str(data_home)!r} is no folder that can be written to ({error}).") from error
        _delete_abandoned(home)
        partial = home / f"{folder.name}.partial-{uuid.uuid4().hex}"
        partial.mkdir()
        try:
            with ExitStack() as files:
                sinks = [_file_sink(files, partial, plan, name) for name in plan.shapes]
                _fill(plan, sinks, recipe, n_jobs, verbose)
            description = {"arrays": list(plan.shapes), **recipe}
            (partial / _RECIPE).write_text(json.dumps(description, indent=1, default=repr) + "\n")
            # The folder gets its name when it is complete. Another process may have been faster with the same data.
            try:
                partial.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    try:
        names = json.loads((folder / _RECIPE).read_text())["arrays"]
        return tuple(np.lib.format.open_memmap(folder / f"{name}.npy", mode="r") for name in names)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} is damaged ({error}); delete it, and the data will be generated again.") from error


def digest(recipe):
    """Name of the data that a recipe stands for: equal values have equal names, whatever their types."""

    def plain(name, value):
        if callable(value):
            raise ValueError(
                f"data_home cannot keep data that depend on a function: {name}={value!r} may change without notice; "
                f"give an array, or no data_home."
            )
        if isinstance(value, np.ndarray):
            return np.ascontiguousarray(value)
        if isinstance(value, tuple | list):
            return [plain(name, entry) for entry in value]
        return float(value) if isinstance(value, Real) else value

    return joblib.hash({"format": _FORMAT, **{name: plain(name, value) for name, value in recipe.items()}})[:16]


def _file_sink(files, folder, plan, name):
    """Write the batches, which come in order, behind each other. A memory map would die where the disk is full."""
    file = files.enter_context((folder / f"{name}.npy").open("wb"))
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(plan.dtype)),
        "fortran_order": False,
        "shape": tuple(int(n) for n in (plan.n_samples, *plan.shapes[name])),
    }
    np.lib.format.write_array_header_1_0(file, header)
    return lambda rows, values: file.write(np.ascontiguousarray(values, plan.dtype).data)


def _delete_abandoned(home):
    for partial in home.glob("make_*.partial-*"):
        with suppress(OSError):
            newest = max(file.stat().st_mtime for file in [partial, *partial.iterdir()])
            if time.time() - newest > _ABANDONED:
                shutil.rmtree(partial, ignore_errors=True)


def _fill(plan, sinks, recipe, n_jobs, verbose):
    """Generate all batches, and hand the values of each array to its sink, ``sink(rows, values)``, in order."""
    batches = [
        slice(start, min(start + plan.batch_size, plan.n_samples))
        for start in range(0, plan.n_samples, plan.batch_size)
    ]
    # joblib starts its own helpers even for one batch, which costs more than the batch.
    n_jobs = 1 if len(batches) == 1 else n_jobs
    bar = tqdm(
        total=plan.n_samples,
        desc=recipe["generator"],
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} samples [{elapsed}<{remaining}]",
        delay=2,  # it shows up only where there is time to look at it
        disable=not verbose,
    )
    # Whatever backend the user has chosen: what prefers threads may hold what cannot be sent to a process, and not
    # every backend sends functions that have no name.
    options = {"prefer": plan.prefer, "require": "sharedmem" if plan.prefer == "threads" else None}
    solve = plan.solve if plan.prefer == "threads" else joblib.wrap_non_picklable_objects(plan.solve)
    jobs = (joblib.delayed(_solve)(solve, rows, plan.draw(rows), os.getpid(), id(bar)) for rows in batches)
    with _SINGLE_THREAD, bar:
        _BARS[id(bar)] = bar
        try:
            backend, _ = get_active_backend(**options)
            return_as = "generator" if backend.supports_return_generator else "list"  # not all that users plug in do
            results = joblib.Parallel(n_jobs=n_jobs, return_as=return_as, **options)(jobs)
            for rows, (fields, reported) in zip(batches, results, strict=True):
                for sink, values in zip(sinks, fields, strict=True):
                    sink(rows, values)
                with _LOCK:
                    _move(bar, rows.stop - rows.start - reported)
        finally:
            del _BARS[id(bar)]


def report(n_samples):
    """Move the progress bar on from within a batch, by samples or parts of them; silent in other processes."""
    advance = getattr(_job, "advance", None)
    if advance is not None:
        advance(n_samples)


def _move(bar, n_samples):
    # Parts of samples do not quite add up to samples.
    bar.update(min(n_samples, bar.total - bar.n))


def _solve(solve, rows, drawn, parent, bar_id):
    if os.getpid() != parent:
        with _SINGLE_THREAD:
            return solve(rows, drawn), 0.0
    if "torch" in sys.modules:  # every thread has its own number of OpenMP threads
        sys.modules["torch"].set_num_threads(1)
    reported = 0.0

    def advance(n_samples):
        nonlocal reported
        reported += n_samples
        with _LOCK:
            if bar_id in _BARS:  # not if the call has ended early, by an error
                _move(_BARS[bar_id], n_samples)

    _job.advance = advance
    try:
        return solve(rows, drawn), reported
    finally:
        _job.advance = None


class _SingleThread:
    """Context in which BLAS and torch have one thread.

    The cores are for the jobs, and sums do not round differently with another number of threads. The number is one for
    the whole process, so that of several calls in threads, the first sets it and the last to end sets it back.
    """

    def __init__(self):
        self._lock, self._depth = threading.Lock(), 0

    def __enter__(self):
        with self._lock:
            if self._depth == 0:
                torch = sys.modules.get("torch")
                self._torch_threads = torch.get_num_threads() if torch else None
                self._limits = threadpool_limits(limits=1)
            self._depth += 1

    def __exit__(self, *error):
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._limits.restore_original_limits()
                if self._torch_threads is not None:
                    sys.modules["torch"].set_num_threads(self._torch_threads)


_SINGLE_THREAD = _SingleThread()
