"""Validation of parameters and generators."""

from collections.abc import Iterable
from operator import index
from typing import Any

import numpy as np
import torch

from .. import _memory


def count(value, name: str, least: int | None = None) -> int:
    """Validate an integer parameter of at least `least`, which must not be a boolean."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = index(value)
    except TypeError:
        raise ValueError(f"{name}={value!r} must be an integer.") from None
    if least is not None and number < least:
        raise ValueError(f"{name}={number} must be at least {least}.")
    return number


def check_dtype(dtype: torch.dtype) -> None:
    """Reject unsupported types, in particular complex ones, whose imaginary part would be lost."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"Only float32 and float64 matrices are supported, not {dtype}.")


def check_parts(parts: Iterable[Any], owner: str) -> None:
    """Reject parts of a map (tensors or maps) that do not have the same supported type and device."""
    kinds: set[tuple[Any, Any]] = {(getattr(x, "dtype", type(x)), getattr(x, "device", None)) for x in parts}
    for dtype, _ in kinds:
        check_dtype(dtype)
    if len(kinds) > 1:
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise TypeError(f"{owner} must have the same type and device; got {found}.")


def is_factor(c) -> bool:
    """Whether a map can be multiplied by `c`, a real number or a tensor of real numbers; complex numbers raise."""
    if isinstance(c, torch.Tensor):
        kind = c.dtype
        wrong = kind.is_complex or kind == torch.bool
    else:
        wrong = isinstance(c, bool | np.bool_ | complex | np.complexfloating)
    if wrong:
        raise TypeError(f"A matrix can be multiplied by real numbers, not by {c!r}.")
    return isinstance(c, int | float | np.integer | np.floating | torch.Tensor)


def check_tolerance(tol) -> None:
    """Reject invalid tolerances."""
    if isinstance(tol, bool | str) or tol is None or not 0 <= tol < 1:
        raise ValueError(f"tol={tol} must be at least 0 and below 1.")


def check_rank(rank, least: int = 1) -> None:
    """Reject maximal ranks other than None or an integer of at least `least`."""
    try:
        if rank is not None:
            count(rank, "rank", least)
    except ValueError:
        raise ValueError(f"rank={rank} must be None or an integer of at least {least}.") from None


def check_memory(n_numbers: int, dtype: torch.dtype, owner: str) -> None:
    """Reject sizes that exceed the memory of this machine, before anything is allocated."""
    _memory.check_memory(n_numbers * dtype.itemsize, owner)
