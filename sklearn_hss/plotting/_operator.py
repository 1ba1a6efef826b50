"""Columns of learned operators, which are discrete Green's functions, and their singular values."""

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..linalg import LinearMap
from ._geometry import GEOMETRY, is_index, known_geometry, pick, read_geometry
from ._style import COLOURS, LEGEND, colour_bar, colours_of, documented, line_style, panels

# Columns and rows up to which the singular values are computed: seconds.
_LARGEST = 2048
# Columns of less than this part of the norm of the largest one are not shown unless they are asked for: those of points
# next to boundaries, say.
_LIVE = 0.3

_VIEW = """
    columns : sequence of int or of tuples of int, default=None
        Points at which there is a unit source: indices of flat inputs, or of an array of the shape of one. If None,
        three of those whose columns are large.
    spectrum : bool or "auto", default="auto"
        Whether to draw the singular values, which requires at most 2048 rows and columns. "auto" draws them in this
        case.
    channel : int, default=0
        Channel of the outputs.
    slice_axis, slice_index : int, default=-1 and None
        Slice of outputs of three dimensions: the axis across it, and the point there, that of the source if None.
    axes : array of matplotlib Axes, default=None
        Axes to draw on: one for all columns in one dimension, otherwise one for each, and one for the spectrum. Those
        of a new figure if None.
"""


@documented(geometry=GEOMETRY, view=_VIEW)
class OperatorDisplay:
    """Columns of a linear solution operator, and its spectrum.

    Created by :meth:`from_estimator` or :meth:`from_operator`. A column is the response to a unit source at one point,
    a discrete Green's function. The faster the singular values of the matrix decay, the smoother the solutions.

    Parameters
    ----------
    operator : LinearMap or array-like of shape (n_outputs, n_inputs)
        The map from flat inputs to flat outputs, by columns.
    {geometry}
    input_shape : tuple of int, default=None
        Shape of one input, which may have channels; that of an output if None.

    Attributes
    ----------
    operator : LinearMap or ndarray of shape (n_outputs, n_inputs)
        The map.
    columns_ : ndarray of int, of shape (n_columns,)
        The flat indices of the columns that are drawn.
    responses_ : ndarray of shape (n_columns, n_outputs)
        These columns.
    singular_values_ : ndarray of shape (n,), or None
        Singular values in decreasing order; None if they are not drawn.
    artists_ : list of matplotlib Line2D or of images
        One for each column.
    axes_ : ndarray of matplotlib Axes
        The panels, that of the spectrum last.
    figure_ : matplotlib Figure
        The figure that holds the axes.

    See Also
    --------
    HSSMatrixDisplay : Block structure and ranks of a hierarchical matrix.

    Examples
    --------
    >>> from sklearn_hss import HSSRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> from sklearn_hss.plotting import OperatorDisplay
    >>> F, U = make_poisson(8, 64, forcing="gaussian", order=2, random_state=0)
    >>> model = HSSRegressor(random_state=0).fit(F, U)
    >>> display = OperatorDisplay.from_estimator(model, columns=[16, 32])
    >>> display.responses_.shape
    (2, 64)
    >>> print(f"{display.singular_values_[0]:.4f}")  # 1 / π², of the first sine mode
    0.1013
    """

    def __init__(
        self,
        *,
        operator,
        grid_shape=None,
        mask=None,
        points=None,
        triangles=None,
        extent=None,
        input_shape=None,
    ) -> None:
        if not isinstance(operator, LinearMap):
            operator = np.asarray(operator, dtype=np.float64)
            if operator.ndim != 2:
                raise ValueError(f"operator has shape {operator.shape}; it must be a matrix, or a LinearMap.")
        self.operator = operator
        n_outputs, n_inputs = operator.shape
        if grid_shape is None and mask is None and points is None and getattr(operator, "grid_out", None):
            grid_shape = operator.grid_out
        self._fields, self._geometry = read_geometry(
            (n_outputs,),
            "operator",
            grid_shape=grid_shape,
            mask=mask,
            points=points,
            triangles=triangles,
            extent=extent,
        )
        self._input_shape = self._fields.shape if input_shape is None else tuple(input_shape)
        if np.prod(self._input_shape) != n_inputs:
            if input_shape is not None:
                raise ValueError(f"input_shape={input_shape} has not the {n_inputs} values that the operator takes.")
            self._input_shape = (n_inputs,)

    @classmethod
    def from_estimator(
        cls,
        estimator,
        *,
        grid_shape=None,
        mask=None,
        points=None,
        triangles=None,
        extent=None,
        columns=None,
        spectrum="auto",
        channel=0,
        slice_axis=-1,
        slice_index=None,
        axes=None,
    ) -> "OperatorDisplay":
        """Draw the operator that an estimator has learned.

        Parameters
        ----------
        estimator : estimator
            Fitted, with a linear map as ``operator_``, such as :class:`~sklearn_hss.HSSRegressor`,
            :class:`~sklearn_hss.HSSTransformer` and :class:`~sklearn_hss.LocalOperatorRegressor`; a
            :class:`~sklearn_hss.GreenLearningRegressor`; a linear model of scikit-learn with ``coef_``; or a search
            over one. If not given, grid, mask and points are taken from the estimator.
        {geometry}
        {view}

        Returns
        -------
        OperatorDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            If parameters cannot be drawn.
        TypeError
            If the estimator has no linear operator.
        """
        check_is_fitted(estimator)
        fitted = getattr(estimator, "best_estimator_", estimator)
        operator = _operator_of(fitted)
        grid_shape, mask, points = known_geometry(fitted, grid_shape, mask, points)
        inputs = getattr(fitted, "_input_shape", None)
        display = cls(
            operator=operator,
            grid_shape=grid_shape,
            mask=mask,
            points=points,
            triangles=triangles,
            extent=extent,
            input_shape=getattr(inputs, "shape", None),
        )
        return display.plot(
            columns=columns,
            spectrum=spectrum,
            channel=channel,
            slice_axis=slice_axis,
            slice_index=slice_index,
            axes=axes,
        )

    @classmethod
    def from_operator(
        cls,
        operator,
        *,
        grid_shape=None,
        mask=None,
        points=None,
        triangles=None,
        extent=None,
        columns=None,
        spectrum="auto",
        channel=0,
        slice_axis=-1,
        slice_index=None,
        axes=None,
    ) -> "OperatorDisplay":
        """Draw a linear map.

        Parameters
        ----------
        operator : LinearMap or array-like of shape (n_outputs, n_inputs)
            The map from flat inputs to flat outputs, by columns.
        {geometry}
        {view}

        Returns
        -------
        OperatorDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            If parameters cannot be drawn.
        """
        display = cls(
            operator=operator, grid_shape=grid_shape, mask=mask, points=points, triangles=triangles, extent=extent
        )
        return display.plot(
            columns=columns,
            spectrum=spectrum,
            channel=channel,
            slice_axis=slice_axis,
            slice_index=slice_index,
            axes=axes,
        )

    def plot(
        self, *, columns=None, spectrum="auto", channel=0, slice_axis=-1, slice_index=None, axes=None
    ) -> "OperatorDisplay":
        """Draw the picture, once more or elsewhere.

        Parameters
        ----------
        {view}

        Returns
        -------
        OperatorDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            For columns, channels, slices or axes that there are not, and for the spectrum of an operator that is too
            large.
        """
        n_outputs, n_inputs = self.operator.shape
        (channel,) = pick([channel], self._fields.n_channels or 1, "channel", "channels")
        if spectrum not in (True, False, "auto"):
            raise ValueError(f"spectrum={spectrum!r} must be True, False or 'auto'.")
        if spectrum is True and max(n_outputs, n_inputs) > _LARGEST:
            raise ValueError(
                f"spectrum=True needs the singular values of a matrix of {n_outputs} × {n_inputs}, which takes too "
                f"long above {_LARGEST}; use spectrum=False."
            )
        with_spectrum = spectrum is True or (spectrum == "auto" and max(n_outputs, n_inputs) <= _LARGEST)
        self.columns_ = np.array(self._central() if columns is None else [self._flat_index(c) for c in columns])
        if not len(self.columns_):
            raise ValueError("columns is empty; give one point at least.")
        sources = np.zeros((n_inputs, len(self.columns_)))
        sources[self.columns_, np.arange(len(self.columns_))] = 1
        self.responses_ = self._times(sources).T
        self.singular_values_: Any = None
        if with_spectrum:
            dense = self.operator if isinstance(self.operator, np.ndarray) else self._times(np.eye(n_inputs))
            self.singular_values_ = np.linalg.svd(dense, compute_uv=False)
        fields = self.responses_.reshape(len(self.columns_), -1, *self._fields.grid)[:, channel]
        is_line = self._geometry.sliced(slice_axis, slice_index).is_line
        n_panels = (1 if is_line else len(fields)) + with_spectrum
        self.axes_ = panels(1, n_panels, axes)[0]
        self.figure_ = self.axes_[0].figure
        self.artists_: list = []
        if is_line:
            self._draw_lines(fields)
        else:
            self._draw_maps(fields, slice_axis, slice_index)
        if with_spectrum:
            self._draw_spectrum(self.axes_[-1])
        return self

    def _times(self, columns):
        """Product with columns of numbers."""
        return np.asarray(self.operator @ columns, dtype=np.float64)

    def _flat_index(self, column: Any) -> int:
        n = self.operator.shape[1]
        shape = (n,) if isinstance(column, Integral) else self._input_shape
        index = (column,) if isinstance(column, Integral) else tuple(column)
        if len(index) != len(shape) or not all(is_index(i, size) for i, size in zip(index, shape, strict=True)):
            raise ValueError(
                f"columns has {column!r}, which is no point: give indices below {n}, or tuples within "
                f"{self._input_shape}."
            )
        index = tuple(int(i) % size for i, size in zip(index, shape, strict=True))
        return int(np.ravel_multi_index(index, shape))

    def _central(self):
        """Three points whose columns are large, spread over the domain."""
        n_outputs, n_inputs = self.operator.shape
        probe = np.random.RandomState(0).standard_normal((n_outputs, 12))
        size = np.linalg.norm(np.asarray(self.operator.T @ probe), axis=1)
        n_points = n_inputs // (self._input_shape[0] if len(self._input_shape) > len(self._geometry.grid) else 1)
        live = np.flatnonzero(size[:n_points] >= _LIVE * size[:n_points].max(initial=0.0))
        grid = self._input_shape[-len(self._geometry.grid) :]
        if self._geometry.points is not None and len(self._geometry.points) == n_points:
            where = self._geometry.points[live]
        else:
            where = np.stack(np.unravel_index(live, grid if np.prod(grid) == n_points else (n_points,)), axis=1)
        # About the middle and the two quarters of the diagonal.
        low, high = where.min(axis=0), where.max(axis=0)
        wanted = [low + share * (high - low) for share in (0.2, 0.5, 0.8)]
        return list(dict.fromkeys(int(live[np.square(where - point).sum(axis=1).argmin()]) for point in wanted))

    def _source(self, column):
        """Indices of the point of a column on the grid of the inputs, or None if that is no grid of the outputs."""
        grid = self._input_shape[-len(self._geometry.grid) :]
        if grid != self._geometry.grid or self._geometry.points is not None:
            return None
        return np.unravel_index(column % int(np.prod(grid)), grid)

    def _draw_lines(self, fields):
        ax = self.axes_[0]
        for i, (column, field) in enumerate(zip(self.columns_, fields, strict=True)):
            style = {**line_style(i), "marker": None}
            source = self._source(column)
            label = f"source {column}"
            if source is not None:
                label = f"source at x = {self._geometry.coordinates(0)[source[0]]:.3g}"
            self.artists_.append(self._geometry.draw_line(ax, field, label=label, **style))
        ax.set_title("columns of the operator", fontsize="medium")
        ax.legend(**LEGEND)
        self._geometry.label(ax)

    def _draw_maps(self, fields, slice_axis, slice_index):
        for ax, column, field in zip(self.axes_, self.columns_, fields, strict=False):
            source = self._source(column)
            index = slice_index
            if index is None and source is not None and len(source) == 3:
                index = source[slice_axis]
            geometry = self._geometry.sliced(slice_axis, index)
            values = geometry.seen(field)
            self.artists_.append(geometry.draw_map(ax, field, **colours_of(values)))
            colour_bar(ax, self.artists_[-1])
            geometry.label(ax)
            title = f"column {column}"
            if source is not None:
                title = f"source at ({', '.join(f'{geometry.coordinates(a)[i]:.3g}' for a, i in enumerate(source))})"
            ax.set_title(title, fontsize="medium")

    def _draw_spectrum(self, ax):
        values = self.singular_values_
        rank = int((values > values.max(initial=0.0) * len(values) * np.finfo(float).eps).sum())
        ax.plot(np.arange(1, rank + 1), values[:rank], color=COLOURS[0], linewidth=1.5)
        ax.set(yscale="log", xlabel="index")
        zero = f" ({len(values) - rank} zero)" if rank < len(values) else ""
        ax.set_title(f"singular values{zero}", fontsize="medium")
        ax.grid(color="0.92")


def _operator_of(estimator):
    operator = getattr(estimator, "operator_", None)
    if isinstance(operator, LinearMap):
        return operator
    if operator is not None:
        raise TypeError(
            f"The law of this {type(estimator).__name__} is not linear, so that its solution operator has no columns."
        )
    if hasattr(estimator, "greens_function_"):
        return estimator.greens_function_ * estimator.quadrature_weights_
    if hasattr(estimator, "coef_"):
        return np.atleast_2d(estimator.coef_)
    raise TypeError(
        f"{type(estimator).__name__} has no linear operator to draw: neither operator_, greens_function_ nor coef_."
    )
