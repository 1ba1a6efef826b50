"""Common parts of all generators: batches, parallel jobs, progress, and atomically written files."""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import prod
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib.parallel import get_active_backend
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from .._endings import check_ending, python_waits
from .._files import delete_abandoned, partial_name
from .._memory import check_memory, gibibytes
from .._parameters import Count

POSITIVE = [Interval(Real, 0, None, closed="neither")]

GENERATION_CONSTRAINTS: dict[str, list] = {
    "random_state": ["random_state"],
    "n_jobs": [Count(1), Interval(Integral, None, -1, closed="right"), None],
    "verbose": ["verbose"],
    "data_home": [str, os.PathLike, None],
}

# Part of the names of the folders, so that data of an older release are not mistaken for those of the current solvers.
_FORMAT = 1
_RECIPE = "recipe.json"
# Folders of processes on other machines, which may still run, are deleted after this many seconds without writes.
_ABANDONED = 24 * 3600.0


@dataclass
class _Call:
    """An active call of :func:`generate`: its progress bar, and the threads that run one of its jobs."""

    bar: tqdm
    threads: set[int] = field(default_factory=set)


# Progress bars cannot be sent to the jobs; threads look up their call here.
_CALLS: dict[int, _Call] = {}
_LOCK = threading.Condition()
_job = threading.local()


class _Ended(Exception):
    """Raised in a job whose call has ended, by an error or an interrupt, so that its result is not needed."""


@dataclass
class Plan:
    """Description of the batchwise generation of a data set.

    Attributes
    ----------
    n_samples : int
    batch_size : int
        Size of the batches, which must not depend on the number of jobs, since it affects rounding.
    shapes : dict of str to tuple
        Name and shape of one sample, for every array of the data set.
    draw : callable
        ``draw(rows)`` takes a slice of the samples and returns their random numbers. It is called in the main process,
        for one batch after the other, so it may use a common random number generator.
    solve : callable
        ``solve(rows, drawn)`` returns one array of shape (rows, *shape) per entry of `shapes`. It runs in any thread or
        process with the same result. It raises RuntimeError, naming the sample, if a solver does not converge.
    dtype : dtype, default=float64
    prefer : {"threads", "processes"}, default="threads"
        Threads if most of the time is spent in compiled code that releases the GIL; processes if it is spent in Python,
        in which case `solve` must be picklable by cloudpickle.
    """

    n_samples: int
    batch_size: int
    shapes: dict[str, tuple[int, ...]]
    draw: Callable[[slice], Any]
    solve: Callable[[slice, Any], tuple[np.ndarray, ...]]
    dtype: Any = np.float64
    prefer: str = "threads"


@python_waits()
def generate(
    prepare: Callable[[], Plan],
    recipe: dict[str, Any],
    *,
    n_jobs: int | None = None,
    verbose: int = 1,
    data_home: str | os.PathLike | None = None,
    n_bytes: int = 0,
) -> tuple[np.ndarray, ...]:
    """Generate the arrays of a data set, or read them from disk.

    Parameters
    ----------
    prepare : callable
        Function that makes the plan. It is not called if the data are on disk.
    recipe : dict
        Everything that determines the data: the name of the generator under "generator", and its parameters.
    n_jobs, verbose, data_home
        As in the public generators.
    n_bytes : int, default=0
        Size of the arrays, from :meth:`Request.check_size`.

    Returns
    -------
    tuple of ndarrays
        Arrays in the order of ``plan.shapes``; read-only memory maps if `data_home` is given.
    """
    if data_home is None:
        plan = prepare()
        arrays = [np.empty((plan.n_samples, *shape), plan.dtype) for shape in plan.shapes.values()]
        _fill(plan, [array.__setitem__ for array in arrays], recipe, n_jobs, verbose)
        return tuple(arrays)
    seed = recipe["random_state"]
    if not isinstance(seed, Integral):
        raise ValueError(f"random_state={seed!r} does not identify the data to store in data_home; use an integer.")
    home = Path(data_home).expanduser()
    folder = home / f"{recipe['generator']}-{digest(recipe)}"
    if not folder.exists():
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"data_home={str(data_home)!r} is not a writable folder ({error}).") from error
        free = shutil.disk_usage(home).free
        if n_bytes > free:
            raise ValueError(
                f"{_size_parameters(recipe)} needs {gibibytes(n_bytes)}, but the disk of data_home={str(data_home)!r} "
                f"has {gibibytes(free)} left; reduce these, or use another disk."
            )
        plan = prepare()
        delete_abandoned(folder)
        _delete_forgotten(home)
        partial = partial_name(folder)
        try:
            partial.mkdir()
            with ExitStack() as files:
                sinks = [_file_sink(files, partial, plan, name) for name in plan.shapes]
                _fill(plan, sinks, recipe, n_jobs, verbose)
            description = {"arrays": list(plan.shapes), **recipe}
            (partial / _RECIPE).write_text(json.dumps(description, indent=1, default=repr) + "\n")
            # The folder gets its final name when it is complete, unless another process has generated the same data.
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


@dataclass(frozen=True)
class Request:
    """A request for samples on a grid, with the parameters of their generation and storage.

    The attributes are the name of the public function and its parameters. `n_points` and `refinement` are None for
    generators that do not have these, or with another meaning, and `device`, a torch device once it is validated, is
    None for data that are generated without torch.
    """

    generator: str
    n_samples: int
    n_points: Any
    random_state: Any
    n_jobs: int | None
    verbose: int
    data_home: str | os.PathLike | None
    refinement: int | None = None
    device: Any = None

    def given(self, n_samples, n_points):
        """The request for given fields, which determine the sizes, without random numbers."""
        return replace(self, n_samples=n_samples, n_points=n_points, random_state=0)

    @property
    def sizes(self):
        """The parameters on which the size of all data depends."""
        sizes = {"n_samples": self.n_samples, "n_points": self.n_points, "refinement": self.refinement}
        return {name: size for name, size in sizes.items() if size is not None}

    def rng(self):
        """The random number generator of a new data set."""
        return check_random_state(self.random_state)

    def check_size(self, shapes, dtype=np.float64, *, working=0, **sizes):
        """Size of the arrays in bytes; ValueError if the data do not fit into the memory of this machine.

        `shapes` and `dtype` are those of a :class:`Plan`, `working` is the count of float64 numbers in memory besides
        the arrays, and `sizes` are further parameters on which the size depends. Arrays in a `data_home` are not in
        memory.
        """
        n_bytes = self.n_samples * sum(map(prod, shapes.values())) * np.dtype(dtype).itemsize
        in_memory = 8 * working + (n_bytes if self.data_home is None else 0)
        check_memory(in_memory, _size_parameters({**self.sizes, **sizes}))
        return n_bytes

    def generate(self, prepare, n_bytes, **recipe):
        """Call :func:`generate`; the recipe consists of that of the request and the further entries."""
        on_cpu = self.device is None or self.device.type == "cpu"
        return generate(
            prepare,
            {"generator": self.generator, **self.sizes, **recipe, "random_state": self.random_state},
            n_jobs=self.n_jobs if on_cpu else 1,
            verbose=self.verbose,
            data_home=self.data_home,
            n_bytes=n_bytes,
        )


def _size_parameters(recipe):
    names = ("n_samples", "n_points", "refinement", "t_final", "store_every", "len(states)")
    return ", ".join(f"{name}={recipe[name]}" for name in names if name in recipe)


def digest(recipe):
    """Name of the data of a recipe: equal values have equal names, regardless of their types."""

    def plain(name, value):
        if callable(value):
            raise ValueError(
                f"data_home cannot store data that depend on a function: {name}={value!r} may change without notice; "
                f"pass an array, or no data_home."
            )
        if isinstance(value, np.ndarray):
            return np.ascontiguousarray(value)
        if isinstance(value, tuple | list):
            return [plain(name, entry) for entry in value]
        return float(value) if isinstance(value, Real) else value

    return joblib.hash({"format": _FORMAT, **{name: plain(name, value) for name, value in recipe.items()}})[:16]


def _file_sink(files, folder, plan, name):
    """Write the batches consecutively. A memory map would crash if the disk were full."""
    file = files.enter_context((folder / f"{name}.npy").open("wb"))
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(plan.dtype)),
        "fortran_order": False,
        "shape": tuple(int(n) for n in (plan.n_samples, *plan.shapes[name])),
    }
    np.lib.format.write_array_header_1_0(file, header)
    return lambda rows, values: file.write(np.ascontiguousarray(values, plan.dtype).data)


def _delete_forgotten(home):
    for partial in home.glob("make_*.partial-*"):
        with suppress(OSError):
            newest = max(file.stat().st_mtime for file in [partial, *partial.iterdir()])
            if time.time() - newest > _ABANDONED:
                shutil.rmtree(partial, ignore_errors=True)


def _fill(plan, sinks, recipe, n_jobs, verbose):
    """Generate all batches, and pass the values of each array to its sink, ``sink(rows, values)``, in order."""
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
        delay=2,  # not shown for short calls
        disable=not verbose,
    )
    # This overrides the backend of the user: plans that prefer threads may contain objects that cannot be sent to a
    # process, and not every backend can send anonymous functions.
    options = {"prefer": plan.prefer, "require": "sharedmem" if plan.prefer == "threads" else None}
    solve = plan.solve if plan.prefer == "threads" else joblib.wrap_non_picklable_objects(plan.solve)
    jobs = (joblib.delayed(_solve)(solve, rows, plan.draw(rows), os.getpid(), id(bar)) for rows in batches)
    with _SINGLE_THREAD, bar, _at_work(bar):
        backend, _ = get_active_backend(**options)
        return_as = "generator" if backend.supports_return_generator else "list"  # custom backends may not
        results = joblib.Parallel(n_jobs=n_jobs, return_as=return_as, **options)(jobs)
        try:
            for rows, (fields, reported) in zip(batches, results, strict=True):
                for sink, values in zip(sinks, fields, strict=True):
                    sink(rows, values)
                with _LOCK:
                    _move(_call(id(bar)).bar, rows.stop - rows.start - reported)
        finally:
            if return_as == "generator":  # otherwise jobs would continue as long as the traceback exists
                results.close()


@contextmanager
def _at_work(bar):
    """Context in which the jobs of a call may run. It waits for all of them to end, also after an error.

    After an interrupt, Python may be shutting down; a thread in compiled code would then abort the process.
    """
    call = _CALLS[id(bar)] = _Call(bar)
    try:
        yield
    finally:
        with _LOCK:
            del _CALLS[id(bar)]
            # The current thread is no longer in a job, even if it was interrupted.
            _LOCK.wait_for(lambda: not call.threads - {threading.get_ident()})


def report(n_samples):
    """Advance the progress bar from within a batch, by samples or fractions of them; no effect in other processes.

    If the call of the job has ended by an error, the job ends here.
    """
    advance = getattr(_job, "advance", None)
    if advance is not None:
        advance(n_samples)


def _move(bar, n_samples):
    # Fractions of samples sum to whole samples only up to rounding.
    bar.update(min(n_samples, bar.total - bar.n))


def _call(call_id):
    check_ending()
    if call_id not in _CALLS:
        raise _Ended
    return _CALLS[call_id]


def _solve(solve, rows, drawn, parent, call_id):
    if os.getpid() != parent:
        with _SINGLE_THREAD:
            return solve(rows, drawn), 0.0
    reported = 0.0

    def advance(n_samples):
        nonlocal reported
        reported += n_samples
        with _LOCK:
            _move(_call(call_id).bar, n_samples)

    with _LOCK:
        call = _call(call_id)
        call.threads.add(threading.get_ident())
    try:
        if "torch" in sys.modules:  # every thread has its own number of OpenMP threads
            sys.modules["torch"].set_num_threads(1)
        _job.advance = advance
        return solve(rows, drawn), reported
    finally:
        _job.advance = None
        with _LOCK:
            call.threads.discard(threading.get_ident())
            _LOCK.notify_all()


class _SingleThread:
    """Context in which BLAS and torch have one thread.

    The cores are used by the jobs, and rounding of sums does not depend on the number of threads. The setting applies
    to the whole process, so among several calls in threads, the first one sets it and the last one restores it.
    """

    def __init__(self):
        self._lock, self._depth = threading.Lock(), 0

    def __enter__(self):
        with self._lock:
            if self._depth == 0:
                torch = sys.modules.get("torch")
                self._torch_threads = torch.get_num_threads() if torch else None
                self._limits = ThreadpoolController().limit(limits=1)
            self._depth += 1

    def __exit__(self, *error):
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._limits.restore_original_limits()
                if self._torch_threads is not None:
                    sys.modules["torch"].set_num_threads(self._torch_threads)


_SINGLE_THREAD = _SingleThread()
