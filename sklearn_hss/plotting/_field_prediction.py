"""Fields, predictions of them, and the difference."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..metrics import relative_l2_error
from ._geometry import GEOMETRY, known_geometry, pick, read_fields, read_geometry, rows_of
from ._style import (
    COLOURS,
    LEGEND,
    colour_bar,
    colours_of,
    documented,
    error_colours,
    panels,
    scientific,
)

_DATA = """
    interval : pair (lower, upper) of array-likes of the shape of y_true, default=None
        Ends of a band around the predictions, as returned by `predict_interval` of a
        :class:`~sklearn_hss.ConformalFieldRegressor`. It is shaded in one dimension; in two, a further column shows its
        width.
    field_names : sequence of str, default=None
        Names of the channels.
"""
_VIEW = """
    samples : int or sequence of int, default=0
        Samples to draw, with one row for every sample and channel.
    channels : int or sequence of int, default=None
        Channels to draw; all if None.
    slice_axis : int, default=-1
        Axis across which a slice of fields of three dimensions is taken.
    slice_index : int, default=None
        Point on that axis; the middle if None.
    axes : array of matplotlib Axes, default=None
        Axes to draw on, one for each panel; those of a new figure if None.
"""


@documented(geometry=GEOMETRY, data=_DATA, view=_VIEW)
class FieldPredictionDisplay:
    """True fields, predicted ones, and the error.

    Created by :meth:`from_estimator` or :meth:`from_predictions`. Truth and prediction share the colour scale of the
    truth, whose bar has pointed ends if predictions exceed its range. The error, prediction minus truth, has its own
    colour bar, and its relative L2 norm in the title. One-dimensional fields are drawn as lines, three-dimensional ones
    as a slice. Pictures are blank outside the mask and where the truth is NaN.

    Parameters
    ----------
    y_true : array-like of shape (n_samples, \\*grid) or (n_samples, n_channels, \\*grid)
        True fields, flat or not.
    y_pred : array-like of the same shape
        Predicted fields.
    {data}
    {geometry}

    Attributes
    ----------
    y_true, y_pred : ndarray of shape (n_samples, n_channels, \\*grid)
        The fields.
    artists_ : ndarray of shape (n_rows, n_columns)
        In one dimension, the list of lines of every panel, in two the image.
    axes_ : ndarray of matplotlib Axes of shape (n_rows, n_columns)
        The panels.
    figure_ : matplotlib Figure
        The figure that holds the axes.

    See Also
    --------
    RolloutDisplay : The equivalent for trajectories.
    sklearn.metrics.PredictionErrorDisplay : The equivalent for scalar targets.

    Examples
    --------
    >>> from sklearn_hss import HSSRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> from sklearn_hss.plotting import FieldPredictionDisplay
    >>> F, U = make_poisson(6, (32, 32), random_state=0)
    >>> model = HSSRegressor(random_state=0).fit(F[:4], U[:4])
    >>> display = FieldPredictionDisplay.from_estimator(model, F[4:], U[4:], samples=[0, 1])
    >>> display.axes_.shape  # two samples; truth, prediction, error
    (2, 3)
    """

    def __init__(
        self,
        *,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        interval: tuple[ArrayLike, ArrayLike] | None = None,
        field_names=None,
        grid_shape=None,
        mask=None,
        points=None,
        triangles=None,
        extent=None,
    ) -> None:
        true, predicted = read_fields(y_true, "y_true"), read_fields(y_pred, "y_pred", may_diverge=True)
        if len(true) != len(predicted) or true[0].size != predicted[0].size:
            raise ValueError(f"y_true has shape {true.shape} and y_pred {predicted.shape}; they must be equal.")
        fields, self._geometry = read_geometry(
            true.shape[1:],
            "y_true",
            grid_shape=grid_shape,
            mask=mask,
            points=points,
            triangles=triangles,
            extent=extent,
        )
        self._shape = (len(true), fields.n_channels or 1, *fields.grid)
        # Of the samples, for labels.
        self._numbers = list(range(len(true)))
        self.y_true, self.y_pred = true.reshape(self._shape), predicted.reshape(self._shape)
        self.interval = None if interval is None else self._read_interval(interval)
        self.field_names = None if field_names is None else list(field_names)
        if self.field_names is not None and len(self.field_names) != self._shape[1]:
            raise ValueError(f"field_names={field_names!r} must be {self._shape[1]} names, one for each channel.")

    def _read_interval(self, interval):
        if not isinstance(interval, tuple | list) or len(interval) != 2:
            raise ValueError("interval must be a pair (lower, upper) of arrays, such as predict_interval returns.")
        ends = []
        for name, end in zip(("lower", "upper"), interval, strict=True):
            end = read_fields(end, f"{name} end of interval", may_diverge=True)
            if end.size != self.y_true.size:
                raise ValueError(
                    f"The {name} end of interval has shape {end.shape}; it must be that of y_true, {self._shape}."
                )
            ends.append(end.reshape(self._shape))
        return tuple(ends)

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        interval=True,
        field_names=None,
        grid_shape=None,
        mask=None,
        points=None,
        triangles=None,
        extent=None,
        samples=0,
        channels=None,
        slice_axis=-1,
        slice_index=None,
        axes=None,
    ) -> "FieldPredictionDisplay":
        """Draw predictions of an estimator; only the drawn samples are predicted.

        Parameters
        ----------
        estimator : estimator
            Fitted, of this package or not; a pipeline or a search, too. If not given, grid, mask and points
            are taken from the estimator, if it stores them.
        X : array-like of shape (n_samples, ...)
            Inputs.
        y : array-like of shape (n_samples, \\*grid) or (n_samples, n_channels, \\*grid)
            True fields.
        interval : bool, default=True
            Whether to draw the band of an estimator that has `predict_interval`.
        field_names : sequence of str, default=None
            Names of the channels.
        {geometry}
        {view}

        Returns
        -------
        FieldPredictionDisplay
            With the picture drawn; it holds the samples in it alone.

        Raises
        ------
        ValueError
            If data or parameters cannot be drawn.
        """
        check_is_fitted(estimator)
        true = read_fields(y, "y")
        chosen = pick(samples, len(true), "samples", "samples")
        grid_shape, mask, points = known_geometry(estimator, grid_shape, mask, points)
        # The shape is checked before any prediction is made.
        read_geometry(true.shape[1:], "y", grid_shape=grid_shape, mask=mask, points=points, triangles=triangles)
        inputs = rows_of(X, chosen)
        band = estimator.predict_interval(inputs) if interval and hasattr(estimator, "predict_interval") else None
        display = cls(
            y_true=true[chosen],
            y_pred=estimator.predict(inputs),
            interval=band,
            field_names=field_names,
            grid_shape=grid_shape,
            mask=mask,
            points=points,
            triangles=triangles,
            extent=extent,
        )
        display._numbers = chosen
        return display.plot(
            samples=range(len(chosen)), channels=channels, slice_axis=slice_axis, slice_index=slice_index, axes=axes
        )

    @classmethod
    def from_predictions(
        cls,
        y_true,
        y_pred,
        *,
        interval=None,
        field_names=None,
        grid_shape=None,
        mask=None,
        points=None,
        triangles=None,
        extent=None,
        samples=0,
        channels=None,
        slice_axis=-1,
        slice_index=None,
        axes=None,
    ) -> "FieldPredictionDisplay":
        """Draw given predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_samples, \\*grid) or (n_samples, n_channels, \\*grid)
            True fields, flat or not.
        y_pred : array-like of the same shape
            Predicted fields.
        {data}
        {geometry}
        {view}

        Returns
        -------
        FieldPredictionDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            If data or parameters cannot be drawn.
        """
        display = cls(
            y_true=y_true,
            y_pred=y_pred,
            interval=interval,
            field_names=field_names,
            grid_shape=grid_shape,
            mask=mask,
            points=points,
            triangles=triangles,
            extent=extent,
        )
        return display.plot(
            samples=samples, channels=channels, slice_axis=slice_axis, slice_index=slice_index, axes=axes
        )

    def plot(self, *, samples=0, channels=None, slice_axis=-1, slice_index=None, axes=None) -> "FieldPredictionDisplay":
        """Draw the picture, once more or elsewhere.

        Parameters
        ----------
        {view}

        Returns
        -------
        FieldPredictionDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            For samples, channels, slices or axes that there are not.
        """
        n_samples, n_channels = self._shape[:2]
        samples = pick(samples, n_samples, "samples", "samples")
        channels = range(n_channels) if channels is None else pick(channels, n_channels, "channels", "channels")
        geometry = self._geometry.sliced(slice_axis, slice_index)
        rows = [(sample, channel) for sample in samples for channel in channels]
        n_columns = 2 if geometry.is_line else 3 if self.interval is None else 4
        shared = {"sharex": True} if geometry.is_line else {"sharex": True, "sharey": True}
        self.axes_ = panels(len(rows), n_columns, axes, **shared)
        self.figure_ = self.axes_[0, 0].figure
        self.artists_ = np.empty(self.axes_.shape, dtype=object)
        for i, (sample, channel) in enumerate(rows):
            draw = self._draw_lines if geometry.is_line else self._draw_maps
            self.artists_[i] = draw(geometry, sample, channel, self.axes_[i])
            name = self._row_name(sample, channel, len(samples) > 1, len(channels) > 1)
            for ax in self.axes_[i]:
                geometry.label(ax)
            first = self.axes_[i, 0]
            first.set_ylabel("\n".join(part for part in (name, first.get_ylabel()) if part))
        for ax in self.axes_.flat:
            if axes is None and not geometry.is_line:
                ax.label_outer()
            elif axes is None and not ax.get_subplotspec().is_last_row():
                ax.set_xlabel("")
                ax.tick_params(labelbottom=False)
        return self

    def _row_name(self, sample, channel, several_samples, several_channels):
        parts = []
        if several_samples:
            parts.append(f"sample {self._numbers[sample]}")
        if self.field_names is not None:
            parts.append(self.field_names[channel])
        elif several_channels:
            parts.append(f"channel {channel}")
        return ", ".join(parts)

    def _fields(self, geometry, sample, channel):
        """Truth, prediction and error, NaN where they are blank."""
        true, predicted = (geometry.blank(y[sample, channel]) for y in (self.y_true, self.y_pred))
        predicted = np.where(np.isnan(true), np.nan, predicted)
        with np.errstate(invalid="ignore"):
            return true, predicted, predicted - true

    def _error_title(self, true, predicted):
        inside = np.isfinite(true)
        if not np.isfinite(predicted[inside]).all():
            return "error (prediction not finite)"
        error = relative_l2_error(true[inside][np.newaxis], predicted[inside][np.newaxis]) if inside.any() else np.nan
        return f"error (relative L2 {scientific(error)})"

    def _draw_lines(self, geometry, sample, channel, axes):
        true, predicted, error = self._fields(geometry, sample, channel)
        lines = [geometry.draw_line(axes[0], true, color="0.65", linewidth=3, label="truth")]
        if self.interval is not None:
            x, order = geometry.abscissa()
            ends = [np.where(np.isnan(true), np.nan, geometry.blank(end[sample, channel])) for end in self.interval]
            style = {"color": COLOURS[5], "alpha": 0.5, "linewidth": 0, "zorder": 1}
            axes[0].fill_between(x, *(end[order] for end in ends), label="band", **style)
        lines.append(geometry.draw_line(axes[0], predicted, color=COLOURS[0], linewidth=1.2, label="prediction"))
        # In the place of a title, where it hides nothing.
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.99), "ncols": 3, "borderpad": 0.2}
        axes[0].legend(**LEGEND, **place, columnspacing=1.0, handlelength=1.2, handletextpad=0.4)
        axes[1].axhline(0, color="0.75", linewidth=0.8)
        of_error = [geometry.draw_line(axes[1], error, color=COLOURS[1], linewidth=1.2)]
        axes[1].set_title(self._error_title(true, predicted), fontsize="medium")
        return _objects([lines, of_error])

    def _draw_maps(self, geometry, sample, channel, axes):
        true, predicted, error = self._fields(geometry, sample, channel)
        shared = colours_of(geometry.seen(true))
        images = [geometry.draw_map(ax, field, **shared) for ax, field in zip(axes, (true, predicted), strict=False)]
        colour_bar(axes[1], images[1], geometry.seen(predicted))
        images.append(geometry.draw_map(axes[2], error, **error_colours(geometry.seen(error))))
        colour_bar(axes[2], images[2])
        where = f", {geometry.cut_label}" if geometry.cut else ""
        titles = [f"truth{where}", f"prediction{where}", self._error_title(true, predicted)]
        if self.interval is not None:
            lower, upper = (geometry.blank(end[sample, channel]) for end in self.interval)
            width = np.where(np.isnan(true), np.nan, upper - lower)
            images.append(geometry.draw_map(axes[3], width, **{**colours_of(geometry.seen(width)), "vmin": 0}))
            colour_bar(axes[3], images[3])
            titles.append("width of the band")
        for ax, title in zip(axes, titles, strict=True):
            ax.set_title(title, fontsize="medium")
        return _objects(images)


def _objects(values):
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found
