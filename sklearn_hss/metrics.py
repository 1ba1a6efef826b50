"""Errors of predicted fields, as the Neural-HSS paper measures them (Appendix G)."""

from math import prod

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import _check_sample_weight

from ._containers import as_plain, refuse_complex
from ._fields import check_mask


def _check_fields(y_true, y_pred, sample_weight, mask, multioutput) -> tuple[list, list, np.ndarray | None]:
    """Validate the arguments of a metric; return the fields of each channel as rows, and the weights of the samples."""
    if multioutput not in ("joint", "uniform_average", "raw_values"):
        raise ValueError(f"multioutput={multioutput!r} must be 'joint', 'uniform_average' or 'raw_values'.")
    fields, names = [as_plain(y_true, "y_true"), as_plain(y_pred, "y_pred")], ("y_true", "y_pred")
    for y, name in zip(fields, names, strict=True):
        refuse_complex(y, name)
    shapes = [np.shape(y) for y in fields]
    mask = check_mask(mask)
    if isinstance(mask, str):
        raise ValueError("mask='auto' is supported by estimators only; pass a boolean array, such as their mask_.")
    grid = shapes[0][1:]
    if mask is not None:
        if prod(grid) % mask.size if len(grid) < 2 else grid[-mask.ndim :] != mask.shape:
            raise ValueError(f"mask has shape {mask.shape} and the fields {grid}; it must have the shape of the grid.")
        # Values outside, such as NaN, become zero, which does not contribute to norms. Channels and times come before
        # the grid, so they repeat its points.
        kept = np.tile(mask.ravel(), prod(grid) // mask.size).reshape(grid)
        fields = [np.where(kept, y, 0) if shape == shapes[0] else y for y, shape in zip(fields, shapes, strict=True)]
    checks = {"dtype": np.float64, "ensure_2d": False, "allow_nd": True, "ensure_all_finite": "allow-nan"}
    true, predicted = (
        check_array(y, **checks, input_name=name, estimator="the metric") for name, y in zip(names, fields, strict=True)
    )
    for y, name in zip((true, predicted), names, strict=True):
        if np.isnan(y).any():
            remedy = "pass mask=, such as mask_ of the estimator" if mask is None else "leave these out of the mask"
            raise ValueError(f"Input {name} contains NaN; if this is outside of the domain, {remedy}.")
    check_consistent_length(true, predicted, sample_weight)
    if true.shape != predicted.shape:
        raise ValueError(f"y_true has shape {true.shape} and y_pred {predicted.shape}; they must be equal.")
    if multioutput != "joint" and true.ndim < 3:
        raise ValueError(
            f"multioutput={multioutput!r} requires fields with channels, (n_samples, n_channels, *grid), but y_true "
            f"has shape {true.shape}."
        )
    if sample_weight is not None:
        sample_weight = as_plain(sample_weight, "sample_weight")
        sample_weight = _check_sample_weight(sample_weight, true, ensure_non_negative=True)
        kept = sample_weight > 0  # an infinite ratio of weight zero does not count
        if kept.any():
            true, predicted, sample_weight = true[kept], predicted[kept], sample_weight[kept]
    n_channels = 1 if multioutput == "joint" else true.shape[1]
    return *(list(y.reshape(len(y), n_channels, -1).swapaxes(0, 1)) for y in (true, predicted)), sample_weight


def _summary(errors, multioutput):
    """One number, or one for each channel."""
    return np.array(errors) if multioutput == "raw_values" else float(np.mean(errors))


def _norms(rows):
    """Euclidean norms of rows, whose squares may overflow or underflow."""
    scale = np.abs(rows).max(axis=1, initial=0.0)
    return scale * np.linalg.norm(rows / np.where(scale > 0, scale, 1.0)[:, None], axis=1)


def relative_l2_error(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    multioutput: str = "joint",
) -> float | np.ndarray:
    """Mean over the samples of ||y_pred - y_true||₂ / ||y_true||₂, eq. (2) of the Neural-HSS paper.

    The norms run over everything but the first axis. 0 is perfect, and predicting zero gives 1.

    Parameters
    ----------
    y_true : array-like of shape (n_samples, \\*grid) or (n_samples,)
        True fields, flat or on a grid of any dimension, with channels or without.
    y_pred : array-like of the same shape
        Predicted fields.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the mean.
    mask : array-like of bool and shape (\\*grid), default=None
        Points over which the norms are taken, such as those of a domain that is not rectangular. It applies to every
        channel and time, and to flat fields in C order. Values outside of it, such as NaN, are ignored.
    multioutput : {"joint", "uniform_average", "raw_values"}, default="joint"
        "joint" takes one norm over all channels, in which one with large values dominates the others. "raw_values"
        returns the error of each channel, the second axis of the fields, and "uniform_average" the mean of these.

    Returns
    -------
    float, or ndarray of shape (n_channels,)
        The mean of the ratios (not the ratio of the means). A sample whose true field is zero everywhere contributes 0
        if the prediction is zero as well, and makes the result infinite otherwise.

    Raises
    ------
    ValueError
        If the shapes differ, an entry inside the mask is not finite, the mask does not fit, or there are no channels
        to report.

    Examples
    --------
    >>> from sklearn_hss.metrics import relative_l2_error
    >>> relative_l2_error([[3.0, 4.0], [0.0, 2.0]], [[3.0, 4.0], [0.0, 1.0]])
    0.25
    """
    true, predicted, weights = _check_fields(y_true, y_pred, sample_weight, mask, multioutput)
    errors = [_mean_ratio(*pair, weights) for pair in zip(true, predicted, strict=True)]
    return _summary(errors, multioutput)


def _mean_ratio(true, predicted, weights):
    # Fields are scaled to magnitude one, since squares of very small or large values would underflow or overflow.
    scale = np.abs(true).max(axis=1, keepdims=True, initial=0.0)
    scale[scale == 0] = 1.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        errors = _norms(predicted / scale - true / scale)
        ratios = np.where(errors == 0, 0.0, errors / np.linalg.norm(true / scale, axis=1))
    return float(np.average(ratios, weights=weights))


def trajectory_l2_error(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    multioutput: str = "joint",
) -> float | np.ndarray:
    """Mean over the trajectories of ||y_pred - y_true||₂, eq. (3) of the Neural-HSS paper.

    The norm is taken over time and space together, in the units of the fields.

    Parameters
    ----------
    y_true : array-like of shape (n_trajectories, n_times, \\*grid)
        True trajectories.
    y_pred : array-like of the same shape
        Rolled-out predictions.
    sample_weight : array-like of shape (n_trajectories,), default=None
        Weights of the mean.
    mask : array-like of bool and shape (\\*grid), default=None
        Points over which the norms are taken, such as those of a domain that is not rectangular. It applies to every
        channel and time, and to flat fields in C order. Values outside of it, such as NaN, are ignored.
    multioutput : {"joint", "uniform_average", "raw_values"}, default="joint"
        "joint" takes one norm over all channels. "raw_values" returns the error of each channel, which is the second
        axis here, before the times, and "uniform_average" the mean of these.

    Returns
    -------
    float, or ndarray of shape (n_channels,)
        The mean norm of the errors.

    Raises
    ------
    ValueError
        If the shapes differ, an entry inside the mask is not finite, the mask does not fit, or there are no channels
        to report.

    Examples
    --------
    >>> from sklearn_hss.metrics import trajectory_l2_error
    >>> trajectory_l2_error([[[3.0], [4.0]]], [[[0.0], [0.0]]])
    5.0
    """
    true, predicted, weights = _check_fields(y_true, y_pred, sample_weight, mask, multioutput)
    errors = [np.average(_norms(p - t), weights=weights) for t, p in zip(true, predicted, strict=True)]
    return _summary(errors, multioutput)


def _inside(estimator):
    """Mask of a flat target for the domain of a fitted estimator, or of the one inside a search or pipeline."""
    for name in ("best_estimator_", "regressor_", "estimator_"):
        if hasattr(estimator, name) and not hasattr(estimator, "_domain"):
            return _inside(getattr(estimator, name))
    if hasattr(estimator, "steps"):
        return _inside(estimator.steps[-1][1])
    domain = getattr(estimator, "_domain", None)
    return None if domain is None else domain.outputs


class _FieldScorer:
    """Minus the relative L2 error of predictions, inside of the estimator's mask."""

    def __call__(self, estimator, X, y, sample_weight=None):
        prediction, inside = estimator.predict(X), _inside(estimator)
        if inside is not None:
            y = np.asarray(as_plain(y, "y"))
            inside = inside.reshape(prediction.shape[1:])
            y, prediction = (np.where(inside, fields.reshape(prediction.shape), 0) for fields in (y, prediction))
        return -relative_l2_error(y, prediction, sample_weight=sample_weight)

    def __repr__(self):
        return "relative_l2_scorer"


#: Scorer for ``scoring=`` of ``cross_val_score``, ``GridSearchCV`` or ``learning_curve``: minus the relative L2 error.
#: Points outside of the estimator's mask do not count.
relative_l2_scorer = _FieldScorer()


class _RolloutScorer:
    """Minus the error of a RolloutRegressor, or a search over one, on trajectories; minus infinity if one diverges."""

    def __init__(self, error):
        self.error = error

    def __call__(self, estimator, X, y=None, sample_weight=None):
        if y is not None:
            raise ValueError("y must be None: rollouts are scored on the trajectories X alone.")
        if np.ndim(X) < 3:
            raise ValueError(f"X has shape {np.shape(X)}; it must be trajectories (n_trajectories, n_times, *state).")
        while hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        if not hasattr(estimator, "_true_and_predicted"):
            raise TypeError(
                f"{type(estimator).__name__} has no rollouts to score; a RolloutRegressor or a search over one has, "
                "with the pipeline, if any, inside: RolloutRegressor(make_pipeline(FieldScaler(), model))."
            )
        true, predicted = estimator._true_and_predicted(X)
        if not np.isfinite(predicted).all():
            return -np.inf
        return -self.error(true, predicted, sample_weight=sample_weight)

    def __repr__(self):
        return f"{type(self).__name__}({self.error.__name__})"


#: Scorer for ``scoring=`` that rolls out from the first states of trajectories: minus the trajectory L2 error.
trajectory_l2_scorer = _RolloutScorer(trajectory_l2_error)
#: The same with the relative L2 error of whole trajectories.
relative_trajectory_l2_scorer = _RolloutScorer(relative_l2_error)
