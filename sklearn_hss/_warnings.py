"""Warnings that point to the line of the user's code."""

import os
import sys
import warnings
from contextlib import contextmanager
from contextvars import ContextVar

# Packages whose functions call ours on behalf of the user, as pipelines, searches and iterative solvers do. A package
# that is not imported has no frame on the stack.
_BETWEEN = ("sklearn_hss", "joblib", "numpy", "scipy", "sklearn", "skorch", "torch")


# Local to the thread, unlike the filters of the warnings module, which apply to all threads.
_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quiet():
    """Context in which this thread issues no warnings of this package, for trial fits that do not concern the user."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


def warn_user(message: str, category: type[Warning]) -> None:
    """Issue a warning that points to the line of the user's code which led here, past this and intermediate packages.

    Filters by module, and the rule that a warning is shown once per line, then work as for any other warning. In a
    thread or process of joblib, which has no line of the user on its stack, the warning points to the line of the
    standard library that called joblib.

    Parameters
    ----------
    message : str
        One clear sentence, or two: the finding and a remedy.
    category : type of Warning
        One of :mod:`sklearn_hss.exceptions`, or the corresponding category of scikit-learn or SciPy.
    """
    if _QUIET.get():
        return
    # Python 3.12 offers this as skip_file_prefixes. Full folders are compared, since a user's script may be in a folder
    # with the name of a package; code without a file, such as <stdin> or a doctest, is the user's.
    files = (getattr(sys.modules.get(name), "__file__", None) for name in _BETWEEN)
    folders = tuple(os.path.join(os.path.dirname(file), "") for file in files if file)
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(folders):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
