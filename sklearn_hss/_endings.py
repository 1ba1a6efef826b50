"""The end of Python while threads are at work, as after an interrupt of the main thread.

A thread that is in compiled code of C++ then, such as torch's or SciPy's transforms, aborts the process. So Python
waits for long work in threads, which looks now and then whether it should end early.
"""

import atexit
import threading
from contextlib import contextmanager, suppress

# Threads that are at work, once for each of the contexts that they are in.
_WORKERS: list[int] = []
_CHANGED = threading.Condition()
_ENDING = threading.Event()


class PythonEnds(Exception):
    """Raised in work that nobody will see the result of."""


def check_ending():
    """Raise PythonEnds if Python is about to end. Long work in threads calls this between its steps."""
    if _ENDING.is_set():
        raise PythonEnds


@contextmanager
def python_waits():
    """Context of long work, for the end of which Python waits before it ends itself."""
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
    # A daemon, since others have ended before. It must not get back to what called it, which may be compiled code.
    worker = threading.current_thread()
    if _ENDING.is_set() and worker.ident not in _WORKERS and worker is not threading.main_thread():
        threading.Event().wait()


@atexit.register
def _wait():
    with _CHANGED:
        _ENDING.set()
        # The present thread, the main one, has left its work, however it was interrupted.
        _CHANGED.wait_for(lambda: not set(_WORKERS) - {threading.get_ident()})
