"""Where the values of fields lie, and how one of them is drawn: as a line, an image, or on triangles."""

from dataclasses import dataclass, replace
from math import prod
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing, check_array

from .._containers import as_plain, refuse_complex
from .._fields import FieldShape, check_grid_shape, check_mask, masked_grid, on_grid
from ._style import BLANK

AXES = "xyz"
NO_POINTS = "The nodes of a mesh need coordinates; pass points=, and triangles= if they are known."
# Images keep the proportions of their domain, unless one side is so many times longer.
_LONG = 4.0

GEOMETRY = """
    grid_shape : int or tuple of int, default=None
        Grid of the fields, such as ``(64, 64)``; required if the fields are flattened or have channels. If None, the
        shape of the mask, or without a mask all dimensions but the first.
    mask : array-like of bool and shape (\\*grid), default=None
        Points inside the domain. Pictures are blank outside, and errors count the points inside.
    points : array-like of shape (n_nodes, 1) or (n_nodes, 2), default=None
        Coordinates of the nodes of a mesh, ``mesh.p.T`` of scikit-fem.
    triangles : array-like of int and shape (n_triangles, 3), default=None
        Nodes of every triangle, ``mesh.t.T``. If None, the Delaunay triangulation of the points, which fills holes and
        concave corners.
    extent : sequence of (first, last), default=None
        Coordinates of the first and the last point along every axis of the grid. If None, point indices.
"""


def read_fields(y, name, *, may_diverge=False):
    """Fields as float64; NaN is allowed, and infinity where fields may have diverged.

    Raises
    ------
    ValueError
        If they are not fields.
    """
    y = as_plain(y, name)
    refuse_complex(y, name)
    finite = False if may_diverge else "allow-nan"
    y = check_array(y, dtype=np.float64, ensure_2d=False, allow_nd=True, ensure_all_finite=finite, input_name=name)
    if y.ndim < 2 or y.shape[1] == 1 == prod(y.shape[1:]):
        raise ValueError(
            f"{name} has shape {y.shape}; it must be fields (n_samples, *grid), a single one as y[np.newaxis], and "
            "PredictionErrorDisplay of scikit-learn is for numbers."
        )
    return y


def innermost(estimator, attribute):
    """The estimator, or the one inside of pipelines, searches and the like, that has an attribute; or None."""
    while estimator is not None and not hasattr(estimator, attribute):
        if hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            names = ("best_estimator_", "regressor_", "estimator_")
            estimator = next((getattr(estimator, name) for name in names if hasattr(estimator, name)), None)
    return estimator


def known_geometry(estimator, grid_shape, mask, points):
    """The parameters `grid_shape`, `mask` and `points`, and where they are None what a fitted estimator knows.

    Raises
    ------
    ValueError
        If it was fitted on a mesh without coordinates.
    """
    found = innermost(estimator, "_target_fields")
    if points is None and found is not None:
        points = getattr(found, "points", None)
        if points is None and getattr(found, "neighbours", None) is not None:
            raise ValueError(NO_POINTS)
    if points is not None:
        return None, mask, points
    if grid_shape is None and found is not None:
        grid_shape = found._target_fields.grid
    if mask is None and found is not None:
        mask = found.mask_
    return grid_shape, mask, None


def is_index(i, n):
    """Whether something is an index of n things, negative ones from the end."""
    return isinstance(i, Integral) and not isinstance(i, bool) and -n <= int(i) < n


def pick(indices: Any, n: int, name: str, what: str) -> list[int]:
    """Indices of samples and the like as a list, negative ones from the end.

    Raises
    ------
    ValueError
        If they are something else, or there are not so many.
    """
    several = [indices] if isinstance(indices, Integral) else list(indices)
    if not several or not all(is_index(i, n) for i in several):
        raise ValueError(
            f"{name}={indices!r} must be one or several integers from 0 to {n - 1}, as there are {n} {what}."
        )
    return [int(i) % n for i in several]


def rows_of(X, indices, name="X"):
    """Samples of an array-like, data frames included."""
    return _safe_indexing(as_plain(X, name), indices)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the values of a channel lie.

    Attributes
    ----------
    grid : tuple of int
    mask : ndarray of bool and shape (\\*grid), or None
    points : ndarray of shape (n_nodes, 1 or 2), or None
    triangles : ndarray of int and shape (n_triangles, 3), or None
    extent : tuple of (first, last)
        Of the axes of the grid.
    cut : tuple (axis, index) or None
        Slice of a grid of three dimensions.
    """

    grid: tuple[int, ...]
    mask: np.ndarray | None
    points: Any
    triangles: Any
    extent: tuple[tuple[float, float], ...]
    cut: tuple[int, int] | None = None

    @property
    def axes(self):
        """Axes that are drawn."""
        n_axes = len(self.grid) if self.points is None else self.points.shape[1]
        return [axis for axis in range(n_axes) if self.cut is None or axis != self.cut[0]]

    @property
    def is_line(self):
        """Whether a field is drawn as a line."""
        return len(self.axes) == 1

    @property
    def cut_label(self):
        """Where the slice is, in words."""
        if self.cut is None:
            return ""
        axis, index = self.cut
        return f"{AXES[axis]} = {self.coordinates(axis)[index]:.3g}"

    def coordinates(self, axis):
        """Coordinates of the points along an axis of the grid."""
        first, last = self.extent[axis]
        return np.linspace(first, last, self.grid[axis])

    def sliced(self, axis: Any, index: Any) -> "Geometry":
        """The same with a slice of three dimensions; grids of fewer have none.

        Raises
        ------
        ValueError
            If there is no such slice.
        """
        if len(self.grid) < 3:
            return self
        if not is_index(axis, 3):
            raise ValueError(f"slice_axis={axis!r} must be 0, 1 or 2, the axis across which a slice is taken.")
        n = self.grid[axis]
        index = n // 2 if index is None else index
        if not is_index(index, n):
            raise ValueError(f"slice_index={index!r} must be an integer from 0 to {n - 1}.")
        return replace(self, cut=(int(axis) % 3, int(index) % n))

    def blank(self, field):
        """A field on the grid with NaN outside of the mask."""
        field = np.asarray(field, dtype=np.float64).reshape(self.grid)
        return field if self.mask is None else np.where(self.mask, field, np.nan)

    def seen(self, field):
        """The part of a field that is drawn, NaN where it is blank."""
        field = self.blank(field)
        return field if self.cut is None else field.take(self.cut[1], axis=self.cut[0])

    def draw_line(self, ax, field, **style):
        """A field of one dimension as a line."""
        x, order = self.abscissa()
        return ax.plot(x, self.seen(field)[order], **style)[0]

    def abscissa(self):
        """Coordinates of the points of a line, in increasing order, and that order."""
        if self.points is None:
            return self.coordinates(0), slice(None)
        order = np.argsort(self.points[:, 0], kind="stable")
        return self.points[order, 0], order

    def draw_map(self, ax, field, **colours):
        """A field of two dimensions, or a slice, as an image or on triangles; returns what a colour bar takes."""
        values = self.seen(field)
        if self.points is not None:
            return self._draw_on_mesh(ax, values, colours)
        sides = []
        for axis in self.axes:
            first, last = self.extent[axis]
            half = (last - first) / max(self.grid[axis] - 1, 1) / 2
            sides.append((first - half, last + half))
        (left, right), (bottom, top) = sides
        ratio = abs((top - bottom) / (right - left))
        ax.set_facecolor(BLANK)
        image = ax.imshow(
            np.ma.masked_invalid(values.T),
            origin="lower",
            extent=(left, right, bottom, top),
            aspect="equal" if 1 / _LONG <= ratio <= _LONG else "auto",
            **colours,
        )
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_major_locator().set_params(nbins=4, steps=[1, 2, 2.5, 5, 10])
        return image

    def _draw_on_mesh(self, ax, values, colours):
        from matplotlib.tri import Triangulation

        mesh = Triangulation(self.points[:, 0], self.points[:, 1], self.triangles)
        mesh.set_mask(~np.isfinite(values)[mesh.triangles].all(axis=1))
        image = ax.tripcolor(mesh, np.nan_to_num(values, posinf=0.0, neginf=0.0), shading="gouraud", **colours)
        # Nodes of triangles that are left out do not take part in the limits.
        ax.set(aspect="equal", xlim=_padded(self.points[:, 0]), ylim=_padded(self.points[:, 1]))
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_major_locator().set_params(nbins=4, steps=[1, 2, 2.5, 5, 10])
        return image

    def label(self, ax):
        """Name the axes of a picture."""
        ax.set_xlabel(AXES[self.axes[0]])
        if not self.is_line:
            ax.set_ylabel(AXES[self.axes[1]])


def _padded(values):
    low, high = float(values.min()), float(values.max())
    pad = 0.02 * ((high - low) or 1.0)
    return low - pad, high + pad


def read_geometry(shape, name, *, grid_shape=None, mask=None, points=None, triangles=None, extent=None):
    """Channels of fields, and where their values lie.

    Parameters
    ----------
    shape : tuple of int
        Shape of one field.
    name : str
        Name of the fields, for messages.
    grid_shape, mask, points, triangles, extent
        As users give them.

    Returns
    -------
    fields : FieldShape
    geometry : Geometry

    Raises
    ------
    ValueError
        If these do not fit each other.
    """
    mask = check_mask(mask)
    if isinstance(mask, str):
        raise ValueError("mask='auto' is for estimators; give an array of bool, such as the mask_ of one.")
    points, triangles = _read_mesh(points, triangles)
    grid = (len(points),) if points is not None else masked_grid(mask, check_grid_shape(grid_shape), shape)
    fields = FieldShape(shape) if grid is None else on_grid(shape, grid, name)
    grid = fields.grid
    if len(grid) > 3:
        raise ValueError(
            f"{name} has fields on a grid of {len(grid)} dimensions, {grid}, but pictures have up to 3; give "
            "grid_shape= if the first one counts channels."
        )
    if mask is not None and mask.shape != grid:
        raise ValueError(f"mask has shape {mask.shape}, but the fields are on the grid {grid}; they must be equal.")
    return fields, Geometry(grid, mask, points, triangles, _read_extent(extent, grid, points))


def _read_mesh(points, triangles):
    if points is None:
        if triangles is not None:
            raise ValueError("triangles= joins nodes whose coordinates are not known; give points= as well.")
        return None, None
    points = check_array(as_plain(points, "points"), dtype=np.float64, input_name="points", ensure_min_samples=2)
    if points.shape[1] > 2:
        hint = "give mesh.p.T" if len(points) < 4 else "fields in space have no picture here"
        raise ValueError(f"points has shape {points.shape}; it must be (n_nodes, 1) or (n_nodes, 2): {hint}.")
    if triangles is None:
        return points, None
    triangles = np.asarray(as_plain(triangles, "triangles"))
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.dtype.kind not in "iu":
        hint = ": give mesh.t.T" if triangles.ndim == 2 and triangles.shape[0] == 3 else ""
        raise ValueError(
            f"triangles has shape {triangles.shape} and dtype {triangles.dtype}; it must be (n_triangles, 3), of "
            f"integers{hint}."
        )
    if points.shape[1] != 2 or triangles.min() < 0 or triangles.max() >= len(points):
        raise ValueError(
            f"triangles has nodes from {triangles.min()} to {triangles.max()}, but points are {len(points)} in "
            f"{points.shape[1]} dimensions; there must be a point in the plane for each node."
        )
    return points, triangles


def _read_extent(extent, grid, points):
    if extent is None:
        return tuple((0.0, float(max(n - 1, 1))) for n in grid)
    if points is not None:
        raise ValueError("extent= is for grids, but points tell of a mesh; leave one of them out.")
    pairs = [extent] if np.ndim(extent) == 1 and len(grid) == 1 else list(extent)
    good = len(pairs) == len(grid) and all(np.shape(pair) == (2,) for pair in pairs)
    if not good or not all(isinstance(x, Real) and np.isfinite(float(x)) for pair in pairs for x in pair):
        raise ValueError(f"extent={extent!r} must be a pair (first, last) for each of the axes of the grid {grid}.")
    if any(first == last for first, last in pairs):
        raise ValueError(f"extent={extent!r} must have different first and last coordinates.")
    return tuple((float(first), float(last)) for first, last in pairs)
