"""Checks of parameters that several generators have."""

from operator import index

import numpy as np


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
    if not interval / step < 1e9:
        raise ValueError(f"{name}={step:g} takes {interval / step:.2g} steps to make up {what}; use a larger one.")
    n_steps = max(1, round(interval / step))
    if not np.isclose(n_steps * step, interval, rtol=1e-9, atol=0):
        raise ValueError(
            f"{name}={step:g} does not divide {what}; use a fraction of it such as {name}={interval / n_steps:g}."
        )
    return n_steps
