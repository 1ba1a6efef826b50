"""Boundaries, where solutions are zero for every forcing, and null spaces of laws."""

import numpy as np
import scipy.sparse as sp
import torch
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

from ._neighbourhoods import Neighbourhood
from ._samples import NEGLIGIBLE

# Values of u below this fraction of the others are small.
_SMALL = 0.1
# Row sums below this fraction of the largest sum of magnitudes in a row are treated as zero.
_NULL = 1e-10
# Lower bound on the cosine of the angle between the (negated) values on both sides of a nodal line.
_OPPOSITE = 0.999


def boundaries(F, U, points, inside=None, negligible=NEGLIGIBLE):
    """Values at which u is zero for every f, and points at which f is unknown.

    Values of u that vanish in all samples are on a Dirichlet boundary, or outside of the domain, unless they lie
    between values of opposite signs: these are on a nodal line of the samples, where other solutions may not vanish. If
    f vanishes as well, and u is small up to noise, points at the ends of a grid are treated as outside.

    Parameters
    ----------
    F, U : Tensors of shape (n_samples, n_channels, n_points)
    points : Points
    inside : Tensor of bool, of shape (n_channels, n_points), default=None
        Points of the domain.

    Returns
    -------
    pinned : Tensor of bool, of shape (n_channels, n_points)
    silent : Tensor of bool, of shape (n_points,)
    """
    outside = torch.zeros(U.shape[1:], dtype=torch.bool) if inside is None else ~inside
    size, largest = U.square().mean(0).sqrt(), U.abs().max()
    dead = outside | (U.abs().amax(0) <= negligible * largest)
    quiet = (F.abs().amax(0) <= negligible * F.abs().max()) | outside
    if inside is None and not points.is_mesh:
        small = quiet & (size < _SMALL * U.square().mean().sqrt())
        dead |= torch.stack(
            [at_ends(*(z.view(points.shape) for z in pair)).flatten() for pair in zip(small, size, strict=True)]
        )
    nodal = torch.zeros_like(dead)
    if not points.is_mesh:
        near = points.neighbours(Neighbourhood(1))
        offsets = Neighbourhood(1).offsets(len(points.shape))
        pairs = [(i, j) for i, o in enumerate(offsets) for j, p in enumerate(offsets) if i < j and not (o + p).any()]
        for b in range(len(dead)):
            nodal[b] = between(U[:, b], dead[b], outside[b], near, pairs)
    pinned = dead & ~nodal
    return pinned, pinned.all(0) & quiet.all(0)


def between(U, dead, outside, near, pairs):
    """Dead points between neighbours with values of opposite signs, or between such points."""
    found = torch.zeros_like(dead)
    rows = torch.nonzero(dead & ~outside).squeeze(-1)
    sizes = U.norm(dim=0)
    for i, j in pairs:
        one, other = near[rows, i], near[rows, j]
        inner = (one >= 0) & (other >= 0)
        product = (U[:, one] * U[:, other]).sum(0)
        opposite = product < -_OPPOSITE * sizes[one] * sizes[other]
        found[rows] |= inner & opposite & ~dead[one] & ~dead[other]
    for i, j in pairs:
        one, other = near[rows, i], near[rows, j]
        found[rows] |= (one >= 0) & (other >= 0) & found[one] & found[other]
    return found


def at_ends(small, size):
    """Connected parts of a mask that reach an end of the grid, with values much smaller than those around them."""
    parts, _ = ndimage.label(small.numpy())
    ends = [np.unique(parts.take(end, axis)) for axis in range(parts.ndim) for end in (0, -1)]
    found, size = np.zeros(parts.shape, dtype=bool), size.numpy()
    for k in np.setdiff1d(np.concatenate(ends), 0):
        part = parts == k
        around = ndimage.binary_dilation(part) & ~part
        # Towards a boundary, solutions decrease gradually.
        if around.any() and size[part].max() < _SMALL * np.median(size[around]):
            found |= part
    return torch.from_numpy(found)


def null_space(L, U, free):
    """Constants that L maps to zero, and functionals that are zero for all solutions.

    Constants are those of a channel on a part of the domain that L does not connect to others.

    Parameters
    ----------
    L : sparse array of shape (n_values, n_values)
    U : ndarray of shape (n_samples, n_values)
    free : ndarray of bool, of shape (n_channels, n_points)
        Values that are not pinned.

    Returns
    -------
    constants, gauge : ndarrays of shape (n_values, k), or None
    """
    if (abs(L.sum(axis=1)[free.ravel()]) > _NULL * abs(L).sum(axis=1)[free.ravel()]).all():
        return None, None
    _, part = connected_components(L, directed=False)
    number = np.where(free.ravel(), part * len(free) + np.repeat(np.arange(len(free)), free.shape[1]), -1)
    _, number = np.unique(number, return_inverse=True)
    constants = sp.csc_array((np.ones(number.size), (np.arange(number.size), number)))
    if not free.all():
        constants = constants[:, 1:]
    left_over, size = abs(L @ constants).max(axis=0).toarray().ravel(), abs(L).sum(axis=1).max()
    V = constants[:, left_over <= _NULL * size].toarray()
    if not V.shape[1]:
        return None, None
    V /= np.linalg.norm(V, axis=0)
    # Functionals that vanish on the solutions, and are otherwise as close to the means as possible.
    _, s, vh = np.linalg.svd(U, full_matrices=False)
    vh = vh[s > 1e-10 * s[0]]
    return V, V - vh.T @ (vh @ V)
