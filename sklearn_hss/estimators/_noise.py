"""Estimation of white noise from the fields themselves."""

from math import comb

import numpy as np

# Differences of this order are negligible for a smooth field on a grid that resolves it.
_ORDER = 6
# Number of samples that enter the estimate.
_ENOUGH = 64


def white_noise(fields, grid, n_channels=None, inside=None):
    """Standard deviation of white noise in every channel, from differences of high order along the grid.

    It is an upper bound if the fields are not smooth, since unresolved scales look like noise. In several dimensions,
    it is the minimum over the axes. It is based on medians, so that jumps at a few points have no influence.

    Parameters
    ----------
    fields : ndarray of shape (n_samples, n_values)
        Fields; only the first ones are used.
    grid : tuple of int
    n_channels : int or None
    inside : ndarray of bool and shape (n_values,), default=None
        Values inside the domain.

    Returns
    -------
    ndarray of shape (n_channels,)
        Zero if no axis has enough points for an estimate.
    """
    shape = (n_channels or 1, *grid)
    fields = fields[:_ENOUGH].reshape(-1, *shape)
    keep = np.ones(shape, dtype=bool) if inside is None else inside.reshape(shape)
    found = np.full(len(fields[0]), np.inf)
    for axis in range(1, len(shape)):
        n = shape[axis] - _ORDER
        if n < _ORDER:
            continue
        differences = np.abs(np.diff(fields, _ORDER, axis + 1)) / comb(2 * _ORDER, _ORDER) ** 0.5
        whole = np.all([np.take(keep, np.arange(i, i + n), axis) for i in range(_ORDER + 1)], axis=0)
        for c, some in enumerate(whole):
            if some.sum() >= _ORDER:
                # The median of the absolute value of a normal number is 0.6745 standard deviations.
                found[c] = min(found[c], np.median(differences[:, c][:, some]) / 0.6745)
    return np.where(np.isfinite(found), found, 0.0)
