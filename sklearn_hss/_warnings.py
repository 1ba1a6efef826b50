"""Warnings in the name of the line of the user."""

import os
import sys
import warnings
from contextlib import contextmanager
from contextvars import ContextVar

# Packages whose functions call ours on behalf of the user, as pipelines, searches and iterative solvers do. Those that
# are not imported have no frame on the stack.
_BETWEEN = ("sklearn_hss", "joblib", "numpy", "scipy", "sklearn", "skorch", "torch")


# Of this thread: the filters of the warnings module are those of all.
_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quiet():
    """Within, this thread gives no warnings of this package: for trials, of which users need not know."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn, and name the line outside of this package, and of those that may stand between, which led here.

    Filters by module, and the rule that a line is warned of once, then work as for any warning. In a thread or process
    of joblib, where the user has no line, it is that of the standard library which called joblib.

    Parameters
    ----------
    message : str
        One clear sentence, or two: the finding and a remedy.
    category : type of Warning
        One of :mod:`sklearn_hss.exceptions`, or that which scikit-learn or SciPy have for the same.
    """
    if _QUIET.get():
        return
    # Python 3.12 can do this: skip_file_prefixes. Folders are compared, since a script of the user may lie in one that
    # has the name of a package; what has no file, such as <stdin> or a doctest, is the user's.
    files = (getattr(sys.modules.get(name), "__file__", None) for name in _BETWEEN)
    folders = tuple(os.path.join(os.path.dirname(file), "") for file in files if file)
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(folders):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
