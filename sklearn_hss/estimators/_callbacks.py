"""Callbacks of the user that hold data, which are excluded from pickles."""

import numpy as np
import torch
from scipy.sparse import issparse

from .._warnings import warn_user

# Size of the arrays of a callback above which it is regarded as holding data.
_MANY_NUMBERS = 10**4


def light_callback(callback):
    """Whether a callback holds few numbers and no data set; otherwise a warning names it.

    Parameters
    ----------
    callback : skorch callback

    Returns
    -------
    bool
    """
    if _numbers(callback, set()) <= _MANY_NUMBERS:
        return True
    warn_user(
        f"The callback {type(callback).__name__} holds data and is excluded from copies and pickles of the fitted "
        "estimator; set callbacks again to continue with it.",
        UserWarning,
    )
    return False


def _numbers(part, seen):
    """Total size of the arrays to which an object refers, directly or indirectly; infinite for a data set."""
    if id(part) in seen or isinstance(part, type):
        return 0
    seen.add(id(part))
    if isinstance(part, torch.utils.data.Dataset):
        return np.inf
    if isinstance(part, torch.Tensor):
        return part.numel()
    if isinstance(part, np.ndarray) or issparse(part) or type(part).__module__.startswith("pandas."):
        return part.size
    if isinstance(part, dict):
        return sum(_numbers(value, seen) for value in part.values())
    if isinstance(part, list | tuple | set | frozenset):
        return sum(_numbers(value, seen) for value in part)
    return _numbers(getattr(part, "__dict__", {}), seen)
