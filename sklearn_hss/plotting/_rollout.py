"""Trajectories and rollouts, in space and time."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ._geometry import GEOMETRY, innermost, known_geometry, pick, read_fields, read_geometry
from ._style import BLANK, LEGEND, PANEL, check_axes, colour_bar, colours_of, documented, line_style, pyplot

# Columns of snapshots of fields of two dimensions.
_N_SNAPSHOTS = 4

_VIEW = """
    trajectory : int, default=0
        Which trajectory to draw. Errors are those of all.
    channel : int, default=0
        Which channel of the states to draw. Errors are those of all channels together.
    snapshots : sequence of int, default=None
        Steps at which two- and three-dimensional states are drawn; four steps if None, including the last.
    slice_axis, slice_index : int, default=-1 and None
        Slice of states of three dimensions: the axis across it, and the point there, the middle one if None.
    axes : array of matplotlib Axes, default=None
        Axes to draw on: truth and models, each with its snapshots if there are any, and the errors last. Those of a new
        figure if None.
"""


@documented(geometry=GEOMETRY, view=_VIEW)
class RolloutDisplay:
    """True trajectories, rollouts of models from their first states, and the growth of the errors.

    Created by :meth:`from_estimator`, :meth:`from_estimators` or :meth:`from_predictions`. One-dimensional states are
    drawn over space and time, others as snapshots. All share the colour scale of the truth, whose bar has pointed ends
    if a rollout exceeds its range. The last panel shows the relative L2 errors after every step: the mean over the
    trajectories, a band from the smallest to the largest, and as a dotted line the error of predicting no change. Lines
    end where a rollout is no longer finite.

    Parameters
    ----------
    y_true : array-like of shape (n_trajectories, n_times, \\*grid) or with channels before the grid
        True trajectories.
    y_pred : array-like of the same shape, or dict of str to these
        Rollouts of one model, or of several models by name.
    times : array-like of shape (n_times,), default=None
        Times of the states; the numbers of the steps if None.
    {geometry}

    Attributes
    ----------
    errors_ : dict of str to ndarray of shape (n_trajectories, n_times)
        Relative L2 errors of every model.
    persistence_ : ndarray of shape (n_trajectories, n_times)
        Errors of the first state, taken as a prediction of all others.
    images_ : ndarray of shape (1 + n_models, n_snapshots)
        Images of the truth and of every model; a single one each in space and time.
    lines_ : list of matplotlib Line2D
        Errors of the models, and last that of no change.
    axes_ : ndarray of matplotlib Axes
        All panels, the one of the errors last.
    figure_ : matplotlib Figure
        The figure that holds the axes.

    See Also
    --------
    FieldPredictionDisplay : The equivalent for single fields.
    sklearn_hss.metrics.trajectory_l2_error : Error of rollouts.

    Examples
    --------
    >>> from sklearn_hss import HSSRegressor, RolloutRegressor
    >>> from sklearn_hss.datasets import make_heat
    >>> from sklearn_hss.plotting import RolloutDisplay
    >>> times, U = make_heat(12, 64, solver="exact", return_trajectories=True, random_state=0)
    >>> model = RolloutRegressor(HSSRegressor(random_state=0)).fit(U[:10])
    >>> display = RolloutDisplay.from_estimator(model, U[10:], times=times, extent=(0, 1))
    >>> bool(display.errors_["RolloutRegressor"].max() < 1e-6)
    True
    """

    def __init__(
        self,
        *,
        y_true: ArrayLike,
        y_pred,
        times: ArrayLike | None = None,
        grid_shape=None,
        mask=None,
        points=None,
        triangles=None,
        extent=None,
    ) -> None:
        true = _read_trajectories(y_true, "y_true")
        self._fields, self._geometry = read_geometry(
            true.shape[2:],
            "y_true",
            grid_shape=grid_shape,
            mask=mask,
            points=points,
            triangles=triangles,
            extent=extent,
        )
        shape = (*true.shape[:2], self._fields.n_channels or 1, *self._fields.grid)
        given = y_pred if isinstance(y_pred, Mapping) else {"prediction": y_pred}
        if not given:
            raise ValueError("y_pred is empty; give the rollouts of one model at least.")
        self.y_true, self.y_pred = true.reshape(shape), {}
        for name, rollouts in given.items():
            rollouts = _read_trajectories(rollouts, f"y_pred of {name}", may_diverge=True)
            if rollouts.shape[:2] != shape[:2] or rollouts.size != true.size:
                raise ValueError(
                    f"y_pred of {name} has shape {rollouts.shape} and y_true {true.shape}; they must be equal."
                )
            self.y_pred[str(name)] = rollouts.reshape(shape)
        self.times = np.arange(shape[1], dtype=float) if times is None else np.asarray(times, dtype=float)
        self._counts_steps = times is None
        if self.times.shape != (shape[1],) or not (np.diff(self.times) > 0).all():
            raise ValueError(
                f"times has shape {self.times.shape}; it must be {shape[1]} increasing numbers, one for each state."
            )
        inside = np.isfinite(self.y_true)
        if self._geometry.mask is not None:
            inside &= self._geometry.mask
        self._inside = inside
        self.errors_ = {name: self._errors(rollouts) for name, rollouts in self.y_pred.items()}
        self.persistence_ = self._errors(np.broadcast_to(self.y_true[:, :1], shape))

    def _errors(self, rollouts):
        """Relative L2 errors, (n_trajectories, n_times); infinite for a state that is not finite."""
        true, predicted = (np.where(self._inside, y, 0).reshape(*y.shape[:2], -1) for y in (self.y_true, rollouts))
        scale = np.abs(true).max(axis=2, initial=0.0, keepdims=True)
        scale = np.where(scale > 0, scale, 1.0)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            error = np.linalg.norm((predicted - true) / scale, axis=2)
            error = np.where(error == 0, 0.0, error / np.linalg.norm(true / scale, axis=2))
        return np.where(np.isnan(error), np.inf, error)

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        times=None,
        grid_shape=None,
        mask=None,
        points=None,
        triangles=None,
        extent=None,
        trajectory=0,
        channel=0,
        snapshots=None,
        slice_axis=-1,
        slice_index=None,
        axes=None,
    ) -> "RolloutDisplay":
        """Draw rollouts of one estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted, with a method `rollout`: a :class:`~sklearn_hss.RolloutRegressor`, a
            :class:`~sklearn_hss.LocalEvolutionRegressor`, or a search over one.
        X : array-like of shape (n_trajectories, n_times, \\*state)
            True trajectories. Rollouts begin with their first states.
        times : array-like of shape (n_times,), default=None
            Times of the states; the numbers of the steps if None.
        {geometry}
        {view}

        Returns
        -------
        RolloutDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            If data or parameters cannot be drawn.
        TypeError
            If the estimator has no rollouts.
        """
        return cls.from_estimators(
            {type(innermost(estimator, "rollout") or estimator).__name__: estimator},
            X,
            times=times,
            trajectory=trajectory,
            channel=channel,
            snapshots=snapshots,
            grid_shape=grid_shape,
            mask=mask,
            points=points,
            triangles=triangles,
            extent=extent,
            slice_axis=slice_axis,
            slice_index=slice_index,
            axes=axes,
        )

    @classmethod
    def from_estimators(
        cls,
        estimators,
        X,
        *,
        times=None,
        grid_shape=None,
        mask=None,
        points=None,
        triangles=None,
        extent=None,
        trajectory=0,
        channel=0,
        snapshots=None,
        slice_axis=-1,
        slice_index=None,
        axes=None,
    ) -> "RolloutDisplay":
        """Draw rollouts of several estimators.

        Parameters
        ----------
        estimators : dict of str to estimator
            Fitted, as for :meth:`from_estimator`, by their names in the picture.
        X : array-like of shape (n_trajectories, n_times, \\*state)
            True trajectories. Rollouts begin with their first states.
        times : array-like of shape (n_times,), default=None
            Times of the states; the numbers of the steps if None.
        {geometry}
        {view}

        Returns
        -------
        RolloutDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            If data or parameters cannot be drawn.
        TypeError
            If an estimator has no rollouts.
        """
        if not isinstance(estimators, Mapping) or not estimators:
            raise TypeError("estimators must be a dict with at least one name and its estimator.")
        models = {}
        for name, estimator in estimators.items():
            check_is_fitted(estimator)
            models[name] = innermost(estimator, "rollout")
            if models[name] is None:
                raise TypeError(f"{type(estimator).__name__} has no rollouts; a RolloutRegressor around it has.")
        true = _read_trajectories(X, "X")
        first = next(iter(models.values()))
        grid_shape, mask, points = known_geometry(first, grid_shape, mask, points)
        read_geometry(true.shape[2:], "X", grid_shape=grid_shape, mask=mask, points=points, triangles=triangles)
        display = cls(
            y_true=true,
            y_pred={name: model.rollout(true[:, 0], true.shape[1] - 1) for name, model in models.items()},
            times=times,
            grid_shape=grid_shape,
            mask=mask,
            points=points,
            triangles=triangles,
            extent=extent,
        )
        return display.plot(
            trajectory=trajectory,
            channel=channel,
            snapshots=snapshots,
            slice_axis=slice_axis,
            slice_index=slice_index,
            axes=axes,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true,
        y_pred,
        *,
        times=None,
        grid_shape=None,
        mask=None,
        points=None,
        triangles=None,
        extent=None,
        trajectory=0,
        channel=0,
        snapshots=None,
        slice_axis=-1,
        slice_index=None,
        axes=None,
    ) -> "RolloutDisplay":
        """Draw given rollouts.

        Parameters
        ----------
        y_true : array-like of shape (n_trajectories, n_times, \\*grid) or with channels before the grid
            True trajectories.
        y_pred : array-like of the same shape, or dict of str to these
            Rollouts of one model, or of several models by name.
        times : array-like of shape (n_times,), default=None
            Times of the states; the numbers of the steps if None.
        {geometry}
        {view}

        Returns
        -------
        RolloutDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            If data or parameters cannot be drawn.
        """
        display = cls(
            y_true=y_true,
            y_pred=y_pred,
            times=times,
            grid_shape=grid_shape,
            mask=mask,
            points=points,
            triangles=triangles,
            extent=extent,
        )
        return display.plot(
            trajectory=trajectory,
            channel=channel,
            snapshots=snapshots,
            slice_axis=slice_axis,
            slice_index=slice_index,
            axes=axes,
        )

    def plot(
        self, *, trajectory=0, channel=0, snapshots=None, slice_axis=-1, slice_index=None, axes=None
    ) -> "RolloutDisplay":
        """Draw the picture, once more or elsewhere.

        Parameters
        ----------
        {view}

        Returns
        -------
        RolloutDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            For trajectories, channels, snapshots, slices or axes that there are not.
        """
        n_trajectories, n_times, n_channels = self.y_true.shape[:3]
        (trajectory,) = pick([trajectory], n_trajectories, "trajectory", "trajectories")
        (channel,) = pick([channel], n_channels, "channel", "channels")
        geometry = self._geometry.sliced(slice_axis, slice_index)
        if geometry.is_line and snapshots is not None:
            raise ValueError("snapshots= is for states of two or three dimensions; all of one dimension are drawn.")
        if snapshots is None:
            n = min(_N_SNAPSHOTS, n_times - 1)
            snapshots = np.unique(np.linspace(0, n_times - 1, n + 1).round().astype(int)[1:]).tolist()
        snapshots = pick(snapshots, n_times, "snapshots", "states")
        names = {"truth": self.y_true, **self.y_pred}
        states = {name: y[trajectory, :, channel] for name, y in names.items()}
        if geometry.is_line:
            self._draw_space_time(geometry, states, axes)
        else:
            self._draw_snapshots(geometry, states, snapshots, axes)
        self.figure_ = self.axes_[0].figure
        self._draw_errors(self.axes_[-1])
        return self

    @property
    def _time_label(self):
        return "step" if self._counts_steps else "time"

    def _draw_space_time(self, geometry, states, axes):
        n = len(states)
        if axes is None:
            size = (PANEL[0] * n + 1.25 * PANEL[0], PANEL[1])
            options = {"width_ratios": [*[1.0] * n, 1.25], "layout": "constrained", "figsize": size}
            axes = pyplot().subplots(1, n + 1, squeeze=False, **options)[1]
            for ax in axes[0, 1:-1]:
                ax.sharey(axes[0, 0])
                ax.tick_params(labelleft=False)
        self.axes_ = check_axes(axes, 1, n + 1)[0]
        x, order = geometry.abscissa()
        fields = {
            name: np.stack([geometry.blank(state) for state in of_times])[:, order] for name, of_times in states.items()
        }
        shared = colours_of(fields["truth"])
        self.images_ = np.empty((n, 1), dtype=object)
        for i, (ax, (name, field)) in enumerate(zip(self.axes_, fields.items(), strict=False)):
            ax.set_facecolor(BLANK)
            field = np.ma.masked_invalid(field.T)
            self.images_[i, 0] = ax.pcolormesh(self.times, x, field, shading="nearest", rasterized=True, **shared)
            ax.set_title(name, fontsize="medium")
            ax.set_xlabel(self._time_label)
            ax.xaxis.get_major_locator().set_params(nbins=4, steps=[1, 2, 5, 10])
        self.axes_[0].set_ylabel("x")
        colour_bar(self.axes_[n - 1], self.images_[-1, 0], *list(fields.values())[1:])

    def _draw_snapshots(self, geometry, states, snapshots, axes):
        n, k = len(states), len(snapshots)
        if axes is None:
            figure = pyplot().figure(figsize=(PANEL[0] * (0.85 * k + 1.4), 0.85 * PANEL[1] * n), layout="constrained")
            grid = figure.add_gridspec(n, k + 1, width_ratios=[*[0.85] * k, 1.4])
            maps = np.empty((n, k), dtype=object)
            for i, j in np.ndindex(n, k):
                share = maps[0, 0] if i or j else None
                maps[i, j] = figure.add_subplot(grid[i, j], sharex=share, sharey=share)
            axes = [*maps.flat, figure.add_subplot(grid[:, k])]
            inner = list(maps.flat)
        else:
            inner = []
        self.axes_ = check_axes(axes, 1, n * k + 1)[0]
        maps = self.axes_[:-1].reshape(n, k)
        shared = colours_of(*(geometry.seen(states["truth"][step]) for step in snapshots))
        self.images_ = np.empty((n, k), dtype=object)
        for i, (name, of_times) in enumerate(states.items()):
            for j, step in enumerate(snapshots):
                ax = maps[i, j]
                self.images_[i, j] = geometry.draw_map(ax, of_times[step], **shared)
                geometry.label(ax)
                if i == 0:
                    when = f"step {step}" if self._counts_steps else f"time {self.times[step]:.3g}"
                    ax.set_title(f"{when}, {geometry.cut_label}" if geometry.cut else when, fontsize="medium")
            maps[i, 0].set_ylabel(f"{name}\n{maps[i, 0].get_ylabel()}")
            colour_bar(maps[i, -1], self.images_[i, -1], *(geometry.seen(of_times[step]) for step in snapshots))
        for ax in inner:
            ax.label_outer()

    def _draw_errors(self, ax):
        # The first states are given.
        times, self.lines_ = self.times[1:], []
        floor = np.finfo(float).eps / 10
        for i, (name, errors) in enumerate(self.errors_.items()):
            errors = np.maximum(errors[:, 1:], floor)
            errors = np.where(np.isfinite(errors), errors, np.nan)
            style = {**line_style(i), "marker": "o" if len(times) == 1 else None}
            if len(errors) > 1:
                low, high = errors.min(axis=0), errors.max(axis=0)
                ax.fill_between(times, low, high, color=style["color"], alpha=0.2, linewidth=0)
            self.lines_ += ax.plot(times, errors.mean(axis=0), label=name, **style)
        persistence = np.maximum(self.persistence_[:, 1:], floor).mean(axis=0)
        persistence = np.where(np.isfinite(persistence), persistence, np.nan)
        self.lines_ += ax.plot(times, persistence, ":", color="0.5", label="no change")
        ax.set(yscale="log", xlabel=self._time_label, xlim=(self.times[0], self.times[-1]))
        n = len(self.y_true)
        ax.set_title(f"relative L2 error, {n} trajector{'ies' if n > 1 else 'y'}", fontsize="medium")
        ax.grid(color="0.92")
        ax.legend(**LEGEND)


def _read_trajectories(y, name, *, may_diverge=False):
    y = read_fields(y, name, may_diverge=may_diverge)
    if y.ndim < 3 or y.shape[1] < 2:
        raise ValueError(
            f"{name} has shape {y.shape}; it must be trajectories (n_trajectories, n_times, *state) of at least 2 "
            "times, a single one as X[np.newaxis]."
        )
    return y
