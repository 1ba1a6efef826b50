"""Callbacks of users that hold data, which pickles leave out."""

import numpy as np
import torch
from scipy.sparse import issparse

from .._warnings import warn_user

# Numbers in arrays above which a callback holds data.
_MANY_NUMBERS = 10**4


def light_callback(callback):
    """Whether a callback holds few numbers and no data set; a warning names one that does not.

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
        f"The callback {type(callback).__name__} holds data and is left out of copies and pickles of the fitted "
        "estimator; set callbacks again to go on with it.",
        UserWarning,
    )
    return False


def _numbers(part, seen):
    """Numbers in the arrays of an object and of all that it refers to; infinitely many in a data set."""
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
