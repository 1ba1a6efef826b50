"""Orderly shutdown of Python while threads are at work, as after an interrupt of the main thread.

A thread that is executing C++ code at shutdown, such as torch's or SciPy's transforms, aborts the process. Python
therefore waits for long work in threads, which checks at intervals whether it should end early.
"""

import atexit
import threading
from contextlib import contextmanager, suppress

# Threads at work, once for each context that they have entered.
_WORKERS: list[int] = []
_CHANGED = threading.Condition()
_ENDING = threading.Event()


class PythonEnds(Exception):
    """Raised in work whose result is no longer needed."""


def check_ending():
    """Raise PythonEnds if Python is shutting down. Long work in threads calls this between its steps."""
    if _ENDING.is_set():
        raise PythonEnds


@contextmanager
def python_waits():
    """Context of long work that Python waits for before it shuts down."""
    worker = threading.get_ident()
    try:
        with _CHANGED:
            if not _ENDING.is_set():
                _WORKERS.append(worker)
        _stay_if_ending()
        yield
    finally:
        with _CHANGED, suppress(ValueError):
            _WORKERS.remove(worker)
            _CHANGED.notify_all()
        _stay_if_ending()


def _stay_if_ending():
    # A daemon thread, since all others have ended. It must not return to its caller, which may be compiled code.
    worker = threading.current_thread()
    if _ENDING.is_set() and worker.ident not in _WORKERS and worker is not threading.main_thread():
        threading.Event().wait()


@atexit.register
def _wait():
    with _CHANGED:
        _ENDING.set()
        # The current thread, which is the main one, is no longer at work, even if it was interrupted.
        _CHANGED.wait_for(lambda: not set(_WORKERS) - {threading.get_ident()})
