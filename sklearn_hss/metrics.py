"""Errors of predicted fields, as the Neural-HSS paper measures them (Appendix G)."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import make_scorer
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import _check_sample_weight


def _check_fields(y_true, y_pred, sample_weight, mask) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    y_true, y_pred = (
        check_array(y, dtype=np.float64, ensure_2d=False, allow_nd=True, input_name=name, estimator="the metric")
        for name, y in (("y_true", y_true), ("y_pred", y_pred))
    )
    check_consistent_length(y_true, y_pred, sample_weight)
    if y_true.shape != y_pred.shape:
        raise ValueError(f"y_true has shape {y_true.shape} and y_pred {y_pred.shape}; they must be equal.")
    if sample_weight is not None:
        sample_weight = _check_sample_weight(sample_weight, y_true, ensure_non_negative=True)
        kept = sample_weight > 0  # an infinite ratio of weight zero does not count
        if kept.any():
            y_true, y_pred, sample_weight = y_true[kept], y_pred[kept], sample_weight[kept]
    grid = y_true.shape[1:]
    y_true, y_pred = y_true.reshape(len(y_true), -1), y_pred.reshape(len(y_pred), -1)
    if mask is not None:
        mask = np.asarray(mask)
        flat = len(grid) < 2
        if mask.dtype != bool or not mask.any():
            raise ValueError(
                f"mask has dtype {mask.dtype} and {np.count_nonzero(mask)} points; it must be boolean and not empty."
            )
        if y_true.shape[1] % mask.size if flat else grid[-mask.ndim :] != mask.shape:
            raise ValueError(f"mask has shape {mask.shape} and the fields {grid}; it must be that of their grid.")
        # Channels and times come before the grid, so they repeat its points.
        kept = np.tile(mask.ravel(), y_true.shape[1] // mask.size)
        y_true, y_pred = y_true[:, kept], y_pred[:, kept]
    return y_true, y_pred, sample_weight


def relative_l2_error(
    y_true: ArrayLike, y_pred: ArrayLike, *, sample_weight: ArrayLike | None = None, mask: ArrayLike | None = None
) -> float:
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
        Points that count, such as those of a domain that is not a box. It applies to every channel and time, and to
        flat fields in C order.

    Returns
    -------
    float
        The mean of the ratios (not the ratio of the means). A sample whose true field is zero everywhere counts 0 where
        the prediction is zero too, and makes the result infinite where it is not.

    Raises
    ------
    ValueError
        If the shapes differ, an entry is not finite, or the mask does not fit.

    Examples
    --------
    >>> from sklearn_hss.metrics import relative_l2_error
    >>> relative_l2_error([[3.0, 4.0], [0.0, 2.0]], [[3.0, 4.0], [0.0, 1.0]])
    0.25
    """
    true, predicted, weights = _check_fields(y_true, y_pred, sample_weight, mask)
    # Fields of magnitude one: squares of very small or large values would leave the range of the type.
    scale = np.abs(true).max(axis=1, keepdims=True, initial=0.0)
    scale[scale == 0] = 1.0
    errors = np.linalg.norm((predicted - true) / scale, axis=1)
    norms = np.linalg.norm(true / scale, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(errors == 0, 0.0, errors / norms)
    return float(np.average(ratios, weights=weights))


def trajectory_l2_error(
    y_true: ArrayLike, y_pred: ArrayLike, *, sample_weight: ArrayLike | None = None, mask: ArrayLike | None = None
) -> float:
    """Mean over the trajectories of ||y_pred - y_true||₂, eq. (3) of the Neural-HSS paper.

    The norm runs over time and space together, in the units of the fields.

    Parameters
    ----------
    y_true : array-like of shape (n_trajectories, n_times, \\*grid)
        True trajectories.
    y_pred : array-like of the same shape
        Rolled-out predictions.
    sample_weight : array-like of shape (n_trajectories,), default=None
        Weights of the mean.
    mask : array-like of bool and shape (\\*grid), default=None
        Points that count, such as those of a domain that is not a box. It applies to every channel and time, and to
        flat fields in C order.

    Returns
    -------
    float
        The mean norm of the errors.

    Raises
    ------
    ValueError
        If the shapes differ, an entry is not finite, or the mask does not fit.

    Examples
    --------
    >>> from sklearn_hss.metrics import trajectory_l2_error
    >>> trajectory_l2_error([[[3.0], [4.0]]], [[[0.0], [0.0]]])
    5.0
    """
    true, predicted, weights = _check_fields(y_true, y_pred, sample_weight, mask)
    return float(np.average(np.linalg.norm(predicted - true, axis=1), weights=weights))


#: Scorer for ``scoring=`` of ``cross_val_score``, ``GridSearchCV`` or ``learning_curve``: minus the relative L2 error.
relative_l2_scorer = make_scorer(relative_l2_error, greater_is_better=False)


class _RolloutScorer:
    """Minus the error of a RolloutRegressor, or a search over one, on trajectories; minus infinity if one diverges."""

    def __init__(self, error):
        self.error = error

    def __call__(self, estimator, X, y=None, sample_weight=None):
        if y is not None:
            raise ValueError("y was given, but rollouts are scored on trajectories X alone, without y.")
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


#: Scorer for ``scoring=``, of rollouts from the first states of trajectories: minus the trajectory L2 error.
trajectory_l2_scorer = _RolloutScorer(trajectory_l2_error)
#: The same with the relative L2 error of whole trajectories.
relative_trajectory_l2_scorer = _RolloutScorer(relative_l2_error)
