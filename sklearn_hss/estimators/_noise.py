"""White noise in fields, as far as they show it themselves."""

from math import comb

import numpy as np

# Differences of this order see nothing of a smooth field on a grid that resolves it.
_ORDER = 6
# Number of samples that are looked at.
_ENOUGH = 64


def white_noise(fields, grid, n_channels=None, inside=None):
    """Standard deviation of white noise in every channel, from differences of high order along the grid.

    An upper bound where fields are not smooth: what a grid does not resolve looks like noise. Of several dimensions,
    the one in which the fields are smoothest decides. Medians, so that jumps at a few points do not count.

    Parameters
    ----------
    fields : ndarray of shape (n_samples, n_values)
        The first ones are enough.
    grid : tuple of int
    n_channels : int or None
    inside : ndarray of bool and shape (n_values,), default=None
        Values that count.

    Returns
    -------
    ndarray of shape (n_channels,)
        Zero where no dimension has enough points to tell.
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
