"""Values at the neighbours of the points of a grid along its axes, continued beyond boundaries by reflection."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

#: Continuations beyond an end: the sign of a value there, and the distance of the mirror from the last point, in steps.
REFLECTIONS = {
    "odd": (-1, 0.5),
    "odd beyond": (-1, 1.0),
    "odd node": (-1, 0.0),
    "even": (1, 0.5),
    "even node": (1, 0.0),
}
# Distance that represents the absence of points outside of the domain.
_FAR = 1 << 40


@dataclass(frozen=True, eq=False)
class Lines:
    """The lines of points of a grid along its axes.

    Attributes
    ----------
    shape : tuple of int
        Of the grid.
    ends : tuple of pairs of str
        For every axis, the continuations before its first and after its last point: keys of `REFLECTIONS`, or
        "periodic" for both.
    inside : ndarray of bool, of shape `shape`, or None
        Points of the domain; all if None. Values at the others are not used.
    hidden : str
        Continuation into the points outside: a key of `REFLECTIONS`.
    """

    shape: tuple[int, ...]
    ends: tuple[tuple[str, str], ...]
    inside: np.ndarray | None = None
    hidden: str = "even"

    def __len__(self):
        return int(np.prod(self.shape))

    @cached_property
    def points(self):
        """Indices of the points of the domain, in a flat field."""
        return np.arange(len(self)) if self.inside is None else np.flatnonzero(self.inside)

    def is_periodic(self, axis):
        """Whether the ends of an axis are neighbours."""
        return self.ends[axis][0] == "periodic"

    def first(self, axis):
        """Indices, in a flat field, of the points of the domain without a predecessor along an axis."""
        return self.points[self._along(axis)[1] == 1]

    def beside(self, axis, step):
        """Index of the next point along an axis (step 1 or -1) for each point of the domain; -1 if there is none."""
        x, back, ahead = self._along(axis)
        stride = int(np.prod(self.shape[axis + 1 :]))
        following = (x + step) % self.shape[axis]
        return np.where((back if step < 0 else ahead) == 1, -1, self.points + (following - x) * stride)

    def shift(self, axis, offset, points=None):
        """Matrix that maps a flat field to the values `offset` steps further along an axis.

        Parameters
        ----------
        axis, offset : int
        points : ndarray of int, default=None
            Points at which the shifted values are taken; those of the domain if None.

        Returns
        -------
        sparse array of shape (len(points), n_points)
            Entries are 1 or -1; rows are empty where a value is zero.
        """
        x, back, ahead = self._along(axis)
        rows = np.arange(len(x)) if points is None else np.searchsorted(self.points, points)
        x, back, ahead = x[rows], back[rows], ahead[rows]
        n, step = self.shape[axis], int(np.prod(self.shape[axis + 1 :]))
        first, last = x - back + 1, x + ahead - 1
        t, sign = x + offset, np.ones(len(x))
        for end, outer, which, direction in ((last, n - 1, 1, 1), (first, 0, 0, -1)):
            at_box = (end == outer) & (not self.is_periodic(axis))
            for kind in {self.ends[axis][which] if not self.is_periodic(axis) else self.hidden, self.hidden}:
                own = at_box if kind == self.ends[axis][which] else np.zeros_like(at_box)
                if kind == self.hidden:
                    own = own | ~at_box
                parity, distance = REFLECTIONS[kind]
                beyond = own & (direction * (t - end) > 0)
                mirrored = 2 * end + direction * round(2 * distance) - t
                # The mirror itself is an additional point if values are zero there.
                sign = np.where(beyond, np.where(direction * (mirrored - end) > 0, 0, parity * sign), sign)
                t = np.where(beyond, mirrored, t)
        t = np.clip(t, first, last) % n
        source = self.points[rows] + (t - x) * step
        there = sign != 0
        return sp.csr_array(
            (sign[there], (np.flatnonzero(there), source[there])), shape=(len(x), len(self)), dtype=np.float64
        )

    def _along(self, axis):
        """Coordinates of the points of the domain along an axis, and steps back and ahead to the next one outside."""
        key = f"_axis_{axis}"
        if key not in self.__dict__:
            inside = np.ones(self.shape, bool) if self.inside is None else self.inside
            inside = np.moveaxis(inside, axis, 0)
            found = []
            for line in (inside, inside[::-1]):
                steps = np.empty(line.shape, dtype=np.int64)
                reach = np.full(line.shape[1:], _FAR) if self.is_periodic(axis) else np.zeros(line.shape[1:], int)
                # Periodic axes are traversed twice.
                for k in [*range(len(line))] * (2 if self.is_periodic(axis) else 1):
                    reach = np.where(line[k], np.minimum(reach + 1, _FAR), 0)
                    steps[k] = reach
                found.append(steps)
            x = np.broadcast_to(np.arange(len(inside)).reshape(-1, *[1] * (inside.ndim - 1)), inside.shape)
            arrays = [np.moveaxis(z, 0, axis).ravel()[self.points] for z in (x, found[0], found[1][::-1])]
            self.__dict__[key] = tuple(arrays)
        return self.__dict__[key]
