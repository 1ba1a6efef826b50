"""Errors of models against the number of samples that they have learned from."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.parallel import Parallel, delayed

from .._warnings import warn_user
from ..metrics import relative_l2_scorer
from ._geometry import rows_of
from ._style import LEGEND, line_style, short_labels, single

# Errors below this one are drawn there: they are rounding, and zero has no place on a logarithmic axis.
_FLOOR = 1e-17
# Sizes nearer than this part of the axis get no label of their own.
_APART = 0.07


class DataEfficiencyDisplay:
    """Error of one or several models against the number of training samples, both axes logarithmic.

    Made by :meth:`from_estimators`, which fits them, or from numbers that there are already, by :meth:`from_errors` or
    :meth:`from_frame`. Lines go through the medians over repetitions, other training sets of the same size, and bands
    from the smallest to the largest error.

    Parameters
    ----------
    train_sizes : array-like of int and shape (n_sizes,)
        Numbers of training samples.
    errors : dict of str to array-like of shape (n_sizes,) or (n_sizes, n_repetitions)
        Errors of every model, by its name; NaN where there is none.
    error_name : str, default="relative L2 error"
        Label of the axis.

    Attributes
    ----------
    train_sizes : ndarray of shape (n_sizes,)
        The sizes in increasing order.
    errors : dict of str to ndarray of shape (n_sizes, n_repetitions)
        The errors.
    lines_ : list of matplotlib Line2D
        One for each model.
    bands_ : list of matplotlib PolyCollection
        One for each model; empty if nothing was repeated.
    ax_ : matplotlib Axes
        Where the picture was drawn.
    figure_ : matplotlib Figure
        The figure that holds `ax_`.

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : Training and test scores of one estimator.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn_hss import HSSRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> from sklearn_hss.plotting import DataEfficiencyDisplay
    >>> F, U = make_poisson(60, 32, random_state=0)
    >>> models = {"HSS": HSSRegressor(random_state=0), "ridge": Ridge(fit_intercept=False)}
    >>> display = DataEfficiencyDisplay.from_estimators(
    ...     models, F[:40], U[:40], train_sizes=[5, 10, 20], X_test=F[40:], y_test=U[40:], n_seeds=2, random_state=0
    ... )
    >>> display.errors["ridge"].shape  # sizes, training sets
    (3, 2)
    >>> bool(display.errors["HSS"][-1].max() < 1e-3 * display.errors["ridge"][-1].min())
    True

    Numbers of scikit-learn's ``learning_curve``:

    >>> from sklearn.model_selection import learning_curve
    >>> from sklearn_hss.metrics import relative_l2_scorer
    >>> sizes, _, scores = learning_curve(Ridge(), F, U, train_sizes=[5, 10], scoring=relative_l2_scorer, cv=3)
    >>> display = DataEfficiencyDisplay.from_errors({"ridge": -scores}, train_sizes=sizes)
    """

    def __init__(
        self, *, train_sizes: ArrayLike, errors: Mapping[str, ArrayLike], error_name: str = "relative L2 error"
    ) -> None:
        sizes = _check_sizes(train_sizes)
        if not isinstance(errors, Mapping) or not errors:
            raise TypeError("errors must be a dict with at least one name and the errors of its model.")
        order = np.argsort(sizes)
        self.train_sizes, self.errors, self.error_name = sizes[order], {}, error_name
        for name, values in errors.items():
            of_model = np.asarray(values, dtype=np.float64)
            if of_model.ndim not in (1, 2) or len(of_model) != len(sizes):
                raise ValueError(
                    f"errors of {name!r} have shape {of_model.shape}; it must be ({len(sizes)},) or ({len(sizes)}, "
                    "n_repetitions), as there are so many train_sizes."
                )
            if (of_model < 0).any():
                raise ValueError(f"errors of {name!r} have negative ones; scores of scikit-learn are minus the error.")
            self.errors[str(name)] = of_model.reshape(len(sizes), -1)[order]

    @classmethod
    def from_estimators(
        cls,
        estimators,
        X,
        y=None,
        *,
        train_sizes,
        X_test=None,
        y_test=None,
        cv=None,
        n_seeds=3,
        scoring=None,
        error_name="relative L2 error",
        random_state=None,
        n_jobs=None,
        ax=None,
    ) -> "DataEfficiencyDisplay":
        """Fit clones of estimators to ever more samples, and draw their errors for others.

        Parameters
        ----------
        estimators : dict of str to estimator
            The models, by their names in the picture. All get the same training sets.
        X : array-like of shape (n_samples, ...)
            Inputs; or trajectories, without `y`, for estimators and a `scoring` that take them.
        y : array-like of shape (n_samples, ...), default=None
            Targets.
        train_sizes : sequence of int
            Numbers of training samples.
        X_test, y_test : array-likes, default=None
            Samples to test with; training sets are then drawn from `X`. Smaller ones are part of larger ones.
        cv : int or cross-validation generator, default=None
            Splits of `X` into samples to train and to test with, if there is no `X_test`; 5 folds if None.
        n_seeds : int, default=3
            Number of training sets of each size, with `X_test`.
        scoring : str, callable or None, default=None
            Scorer, whose values are minus the error. If None, :data:`~sklearn_hss.metrics.relative_l2_scorer`.
        error_name : str, default="relative L2 error"
            Label of the axis.
        random_state : int, RandomState instance or None, default=None
            Determines the training sets. Estimators have their own.
        n_jobs : int or None, default=None
            Fits that run at the same time; None is 1 unless in a :obj:`joblib.parallel_config` context.
        ax : matplotlib Axes, default=None
            Where to draw; on a new figure if None.

        Returns
        -------
        DataEfficiencyDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            For data, sizes or splits that do not fit each other, before any estimator is fitted.

        Warns
        -----
        sklearn.exceptions.FitFailedWarning
            If an estimator refuses to be fitted, to too few samples perhaps; there is no point in the picture then.
        """
        if not isinstance(estimators, Mapping) or not estimators:
            raise TypeError("estimators must be a dict with at least one name and its estimator.")
        sizes = np.unique(_check_sizes(train_sizes))
        check_consistent_length(X, y)
        splits = _splits(X, y, sizes, X_test, y_test, cv, n_seeds, random_state)
        scoring = relative_l2_scorer if scoring is None else scoring
        tasks = [
            (estimator, check_scoring(estimator, scoring), train[:size], test)
            for estimator in estimators.values()
            for size in sizes
            for train, test in splits
        ]
        found = Parallel(n_jobs=n_jobs)(delayed(_error)(*task, X, y, X_test, y_test) for task in tasks)
        errors, failures = zip(*found, strict=True)
        failed = [failure for failure in failures if failure]
        if failed:
            warn_user(
                f"{len(failed)} of {len(tasks)} fits failed and have no point, the first one with: {failed[0]}",
                FitFailedWarning,
            )
        table = np.reshape(errors, (len(estimators), len(sizes), len(splits)))
        display = cls(train_sizes=sizes, errors=dict(zip(estimators, table, strict=True)), error_name=error_name)
        return display.plot(ax=ax)

    @classmethod
    def from_errors(cls, errors, *, train_sizes, error_name="relative L2 error", ax=None) -> "DataEfficiencyDisplay":
        """Draw errors that are known.

        Parameters
        ----------
        errors : dict of str to array-like of shape (n_sizes,) or (n_sizes, n_repetitions)
            Errors of every model, by its name: minus the test scores of `learning_curve`, for instance.
        train_sizes : array-like of int and shape (n_sizes,)
            Numbers of training samples.
        error_name : str, default="relative L2 error"
            Label of the axis.
        ax : matplotlib Axes, default=None
            Where to draw; on a new figure if None.

        Returns
        -------
        DataEfficiencyDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            For errors that are negative, or of another shape.
        """
        return cls(train_sizes=train_sizes, errors=errors, error_name=error_name).plot(ax=ax)

    @classmethod
    def from_frame(
        cls, frame, *, model="model", samples="samples", error="error", error_name="relative L2 error", ax=None
    ) -> "DataEfficiencyDisplay":
        """Draw errors of a table with a row for every fit.

        Parameters
        ----------
        frame : pandas.DataFrame
            The table. Rows of the same model and number of samples are repetitions.
        model, samples, error : str
            Names of the columns with the name of the model, the number of its samples and its error.
        error_name : str, default="relative L2 error"
            Label of the axis.
        ax : matplotlib Axes, default=None
            Where to draw; on a new figure if None.

        Returns
        -------
        DataEfficiencyDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            If there is no such column.
        """
        for name, column in (("model", model), ("samples", samples), ("error", error)):
            if column not in frame:
                raise ValueError(
                    f"{name}={column!r} is no column of the frame, which has {', '.join(map(str, frame))}."
                )
        names, counts = frame[model].to_numpy(), frame[samples].to_numpy()
        values, sizes = frame[error].to_numpy(dtype=np.float64), np.unique(counts)
        errors = {}
        for name in dict.fromkeys(names):
            repeated = [values[(names == name) & (counts == size)] for size in sizes]
            table = np.full((len(sizes), max(map(len, repeated))), np.nan)
            for row, some in zip(table, repeated, strict=True):
                row[: len(some)] = some
            errors[name] = table
        return cls(train_sizes=sizes, errors=errors, error_name=error_name).plot(ax=ax)

    def plot(self, ax=None) -> "DataEfficiencyDisplay":
        """Draw the picture, once more or elsewhere.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; on a new figure if None.

        Returns
        -------
        DataEfficiencyDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.ax_ = single(ax)
        self.figure_ = self.ax_.figure
        self.lines_, self.bands_ = [], []
        for i, (name, errors) in enumerate(self.errors.items()):
            errors = np.where(np.isfinite(errors), np.maximum(errors, _FLOOR), np.nan)
            known = np.isfinite(errors).any(axis=1)
            sizes, errors = self.train_sizes[known], errors[known]
            style = line_style(i)
            if errors.shape[1] > 1:
                ends = np.nanmin(errors, axis=1), np.nanmax(errors, axis=1)
                self.bands_.append(self.ax_.fill_between(sizes, *ends, color=style["color"], alpha=0.2, linewidth=0))
            self.lines_ += self.ax_.plot(sizes, np.nanmedian(errors, axis=1), label=name, **style)
        self.ax_.set(xscale="log", yscale="log", xlabel="training samples", ylabel=self.error_name)
        ticks = _readable(self.train_sizes)
        self.ax_.set_xticks(ticks, short_labels(ticks))
        self.ax_.set_xticks([], minor=True)
        self.ax_.grid(color="0.92")
        self.ax_.legend(**LEGEND)
        return self


def _check_sizes(train_sizes):
    sizes = np.asarray(train_sizes)
    if sizes.ndim != 1 or not len(sizes) or sizes.dtype.kind not in "iu" or (sizes < 1).any():
        raise ValueError(f"train_sizes={train_sizes!r} must be positive integers, one or several.")
    return sizes


def _readable(sizes):
    """Sizes that are far enough from each other to be written on a logarithmic axis."""
    logs = np.log(sizes)
    room = _APART * float(np.ptp(logs))
    kept: list[int] = []
    for i in range(len(sizes)):
        if not kept or logs[i] - logs[kept[-1]] >= room:
            kept.append(i)
    return sizes[kept]


def _splits(X, y, sizes, X_test, y_test, cv, n_seeds, random_state):
    """Pairs of indices to train and to test with; None for all samples of the test."""
    n_samples = len(X)
    splits: list
    if X_test is None:
        if y_test is not None:
            raise ValueError("y_test was given without X_test.")
        splits = list(check_cv(5 if cv is None else cv).split(X, y))
        fewest = min(len(train) for train, _ in splits)
    else:
        if cv is not None:
            raise ValueError(f"cv={cv!r} splits X, but X_test has samples to test with; leave one of them out.")
        if not isinstance(n_seeds, Integral) or isinstance(n_seeds, bool) or n_seeds < 1:
            raise ValueError(f"n_seeds={n_seeds!r} must be a positive integer.")
        if (y is None) != (y_test is None):
            raise ValueError("y and y_test belong together; give both or neither.")
        check_consistent_length(X_test, y_test)
        rng = check_random_state(random_state)
        splits, fewest = [(rng.permutation(n_samples), None) for _ in range(n_seeds)], n_samples
    if sizes.max() > fewest:
        raise ValueError(f"train_sizes goes up to {sizes.max()}, but there are {fewest} samples to train with.")
    return splits


def _error(estimator, scorer, train, test, X, y, X_test, y_test):
    """Error of a fit, and no message; or NaN and that of its failure."""
    tested = (X_test, y_test) if test is None else (rows_of(X, test), None if y is None else rows_of(y, test, "y"))
    try:
        fitted = clone(estimator).fit(rows_of(X, train), None if y is None else rows_of(y, train, "y"))
    except ValueError as failure:
        return np.nan, f"{type(estimator).__name__}, {len(train)} samples: {failure}"
    return -float(scorer(fitted, *tested)), ""
