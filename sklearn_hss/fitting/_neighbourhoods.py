"""The points around every point of a grid or a mesh, and the differences of fields there."""

import itertools
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch

from ._least_squares import difference_stencils


@dataclass(frozen=True)
class Neighbourhood:
    """Shape of the neighbourhoods on a grid.

    Attributes
    ----------
    radius : int
        Number of points on either side; on a mesh, number of edges to the farthest neighbour.
    box : bool
        Whether diagonal neighbours are included.
    """

    radius: int
    box: bool = False

    def offsets(self, n_axes):
        """Offsets of the neighbours (k, n_axes); the first one is zero."""
        r = self.radius
        found = set(itertools.product(range(-r, r + 1), repeat=n_axes))
        if not self.box:
            found = {o for o in found if np.count_nonzero(o) <= 1}
        return np.array(sorted(found, key=lambda o: (any(o), o)))

    def differences(self, n_axes):
        """Matrix (k, k) that maps values at the offsets to differences; the first one is the value itself."""
        offsets, stencils = self.offsets(n_axes), difference_stencils(self.radius).numpy()
        orders = set(itertools.product(range(2 * self.radius + 1), repeat=n_axes))
        if not self.box:
            orders = {o for o in orders if np.count_nonzero(o) <= 1}
        rows = []
        for order in sorted(orders, key=lambda o: (any(o), sum(o), o)):
            along = [stencils[o][offsets[:, axis] + self.radius] for axis, o in enumerate(order)]
            rows.append(np.prod(along, axis=0))
        return torch.from_numpy(np.array(rows))

    def __str__(self):
        return f"{'box' if self.box else 'cross'} of radius {self.radius}"


@dataclass(frozen=True, eq=False)
class Points:
    """The points of a grid, or the nodes of a mesh.

    Attributes
    ----------
    shape : tuple of int
        Shape of the grid; (n_nodes,) for a mesh.
    periodic : tuple of bool
        Axes whose ends are neighbours.
    adjacency : sparse array of shape (n_nodes, n_nodes), or None
        Neighbours on a mesh.
    """

    shape: tuple[int, ...]
    periodic: tuple[bool, ...] = ()
    adjacency: sp.csr_array | None = None
    _kept: dict = field(default_factory=dict, init=False, repr=False)

    def __len__(self):
        return int(np.prod(self.shape))

    @cached_property
    def coordinates(self):
        """Indices of the points along the axes."""
        return np.indices(self.shape, dtype=np.int32).reshape(len(self.shape), -1).T

    @property
    def is_mesh(self):
        return self.adjacency is not None

    def differences(self, hood):
        """Matrix of the central differences; meshes have none."""
        if self.is_mesh:
            return torch.eye(self.neighbours(hood).shape[1], dtype=torch.float64)
        return hood.differences(len(self.shape))

    def steps(self, fields):
        """Differences of fields (..., n_points) between neighbours (..., n_pairs)."""
        near = self.neighbours(Neighbourhood(1))
        row, k = torch.nonzero((near >= 0) & (near > near[:, :1]), as_tuple=True)
        return fields[..., near[row, k]] - fields[..., row]

    def neighbours(self, hood):
        """Indices of the neighbours (n_points, k), starting with the point itself; -1 for those that do not exist."""
        if hood not in self._kept:
            self._kept[hood] = self._neighbours(hood)
        return self._kept[hood]

    def _neighbours(self, hood):
        if self.adjacency is not None:
            return self._on_mesh(hood.radius)
        offsets = hood.offsets(len(self.shape))
        index = np.zeros((len(self), len(offsets)), dtype=np.int64)
        missing = np.zeros(index.shape, dtype=bool)
        for axis, n in enumerate(self.shape):
            along = self.coordinates[:, axis, None] + offsets[:, axis]
            if self.periodic and self.periodic[axis] and n > 2 * hood.radius:
                along %= n
            missing |= (along < 0) | (along >= n)
            index = index * n + along
        index[missing] = -1
        return torch.from_numpy(index)

    def _on_mesh(self, radius):
        near = sp.csr_array(self.adjacency).astype(bool).astype(np.int8) + sp.eye_array(len(self), dtype=np.int8)
        reach = near
        for _ in range(radius - 1):
            reach = (reach @ near).astype(bool).astype(np.int8)
        reach = sp.csr_array(reach if radius else sp.eye_array(len(self), dtype=np.int8))
        reach.setdiag(0)
        reach.eliminate_zeros()
        counts = np.diff(reach.indptr)
        index = np.full((len(self), 1 + counts.max(initial=0)), -1, dtype=np.int64)
        index[:, 0] = np.arange(len(self))
        row = np.repeat(np.arange(len(self)), counts)
        index[row, 1 + np.arange(len(row)) - reach.indptr[row]] = reach.indices
        return torch.from_numpy(index)


@dataclass(frozen=True, eq=False)
class Differences:
    """Differences of a field around some points, in which the laws there are expressed.

    If all neighbours exist, these are central differences, whose high orders are small for smooth fields; otherwise,
    they are the value at the point, and its differences from the values at the neighbours.

    Attributes
    ----------
    index : Tensor of shape (n_rows, k)
        Neighbours in use, as returned by :meth:`Points.neighbours`.
    central : Tensor of bool, of shape (n_rows,)
        Where the differences are central.
    matrix : Tensor of shape (k, k)
        Matrix from values to central differences.
    """

    index: torch.Tensor
    central: torch.Tensor
    matrix: torch.Tensor

    def __getitem__(self, rows):
        return Differences(self.index[rows], self.central[rows], self.matrix)

    @property
    def there(self):
        """Which of the differences exist (n_rows, k)."""
        return self.index >= 0

    def of(self, fields):
        """Differences (n_rows, n_samples, k) of fields (n_samples, n_points)."""
        values = torch.cat([fields, fields.new_zeros(len(fields), 1)], dim=1)[:, self.index].movedim(0, 1)
        if self.central.all():
            return values @ self.matrix.mT
        there = self.there[:, None]
        plain = torch.cat([values[..., :1], torch.where(there[..., 1:], values[..., 1:] - values[..., :1], 0)], dim=-1)
        return torch.where(self.central[:, None, None], values @ self.matrix.mT, plain)

    def weights(self, coefficients):
        """Convert coefficients (n_rows, k, ...) of the differences to weights of the values at the neighbours."""
        c = coefficients.flatten(2) if coefficients.ndim > 2 else coefficients.unsqueeze(-1)
        others = torch.where(self.there[:, 1:, None], c[:, 1:], 0)
        plain = torch.cat([c[:, :1] - others.sum(1, keepdim=True), others], dim=1)
        return torch.where(self.central[:, None, None], self.matrix.mT @ c, plain).view_as(coefficients)

    def coefficients(self, weights):
        """Inverse of :meth:`weights`; for rows with missing neighbours, the weights of these are dropped."""
        w = torch.where(self.there.unsqueeze(-1), weights.expand(len(self.index), -1, -1), 0)
        plain = torch.cat([w.sum(1, keepdim=True), w[:, 1:]], dim=1)
        return torch.where(self.central[:, None, None], torch.linalg.inv(self.matrix).mT @ w, plain)

    @property
    def rounding(self):
        """Size of the errors of the differences (n_rows, k), relative to those of the values."""
        plain = torch.cat([self.there[:, :1] * 1.0, 2**0.5 * self.there[:, 1:]], dim=1).to(self.matrix.dtype)
        return torch.where(self.central[:, None], self.matrix.norm(dim=1), plain)
