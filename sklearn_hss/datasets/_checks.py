"""Checks of parameters that are common to several generators."""

import math
from operator import index

import numpy as np
from sklearn.utils import check_array

from .._containers import as_plain


def as_integer(value):
    """`value` as an int, if it is one.

    Raises
    ------
    TypeError
        If it is not an integer, or a boolean.
    """
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{value} is not an integer.")
    return index(value)


def check_modes(modes, highest, n_points):
    """Validate `modes` as a pair of ints (first, last), the last of which is at most `highest`."""
    try:
        first, last = (as_integer(k) for k in modes)
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
    """Number of steps of the parameter `name`, with value `step`, in an interval: an integer, up to rounding.

    `what` describes the interval for the message.
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


def real_array(values, name):
    """Given values as an array of float64 in C order.

    Parameters
    ----------
    values : array-like
    name : str

    Raises
    ------
    ValueError
        If they are not real, finite numbers in an array.
    """
    values = as_plain(values, name)
    if isinstance(values, list | tuple):
        try:
            values = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"{name} is not an array of numbers ({error}).") from None
        values = as_plain(values, name)
    if np.iscomplexobj(values):
        raise ValueError(f"{name} is complex; it must be real.")
    return check_array(values, dtype=np.float64, order="C", ensure_2d=False, allow_nd=True, input_name=name)


def coefficient_array(values, name):
    """Given values as in :func:`real_array`; booleans, such as a mask, are rejected."""
    given = as_plain(values, name)
    values = real_array(given, name)
    if np.asarray(given).dtype == bool:
        raise ValueError(f"{name} holds booleans, such as a mask; it must hold numbers.")
    return values


def check_fields(fields, name, expected):
    """Given fields as in :func:`real_array`, with a check of the shape.

    Parameters
    ----------
    fields : array-like
    name : str
    expected : tuple of int or str
        The shape; names stand for sizes that are not fixed.
    """
    fields = real_array(fields, name)
    shape = fields.shape
    if len(shape) != len(expected) or any(
        isinstance(wanted, int) and n != wanted for n, wanted in zip(shape, expected, strict=True)
    ):
        raise ValueError(f"{name} has shape {shape}; it must be ({', '.join(map(str, expected))}).")
    return fields


def check_domain(mask):
    """Validate a mask given as `domain`, and return it as a boolean array.

    Raises
    ------
    ValueError
        If it is something else, or nothing is inside.
    """
    mask = np.asarray(as_plain(mask, "domain"))
    if mask.dtype != bool or mask.ndim < 1:
        raise ValueError(
            f"domain is an array of type {mask.dtype} and shape {mask.shape}; a mask must be boolean, True inside."
        )
    if not mask.any():
        raise ValueError("domain is a mask without a point inside; at least one must be True.")
    return np.ascontiguousarray(mask)
