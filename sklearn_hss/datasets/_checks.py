"""Checks of parameters that several generators have."""

import math
from operator import index

import numpy as np
from sklearn.utils import check_array


def check_modes(modes, highest, n_points):
    """`modes` as a pair of ints (first, last) of which the last is at most `highest`."""
    try:
        first, last = (index(k) for k in modes)
    except (TypeError, ValueError):
        raise ValueError(f"modes={modes!r} must be a pair of integers (first, last).") from None
    if not 1 <= first <= last:
        raise ValueError(f"modes={modes!r} must satisfy 1 <= first <= last.")
    if last > highest:
        raise ValueError(
            f"modes={modes!r} cannot be represented on n_points={n_points}: the largest mode that can is {highest}."
        )
    return first, last


def count_steps(name, step, interval, what):
    """How often the parameter `name`, whose value is `step`, fits into an interval: a whole number, but for rounding.

    `what` tells the user which interval that is.
    """
    ratio = interval / step
    if not ratio < 1e9:
        raise ValueError(f"{name}={step:g} takes {ratio:.2g} steps to make up {what}; use a larger one.")
    n_steps = max(1, round(ratio))
    if not np.isclose(n_steps * step, interval, rtol=1e-9, atol=0):
        raise ValueError(
            f"{name}={step:g} does not divide {what}; use a whole fraction of that, such as "
            f"{name}={interval:g}/{math.ceil(ratio)}, or change that."
        )
    return n_steps


def check_fields(fields, name, expected):
    """Given fields as an array of floats in C order.

    Parameters
    ----------
    fields : array-like
    name : str
    expected : tuple of int or str
        The shape; names stand for sizes that are not fixed.
    """
    shape = np.shape(fields)
    if len(shape) != len(expected) or any(
        isinstance(wanted, int) and n != wanted for n, wanted in zip(shape, expected, strict=True)
    ):
        raise ValueError(f"{name} has shape {shape}; it must be ({', '.join(map(str, expected))}).")
    if np.iscomplexobj(fields):
        raise ValueError(f"{name} is complex; it must be real.")
    return check_array(fields, dtype=np.float64, order="C", ensure_2d=False, allow_nd=True, input_name=name)
