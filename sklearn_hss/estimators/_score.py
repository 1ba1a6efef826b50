"""The score of regressors whose targets are fields."""

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_consistent_length

from .._containers import as_plain
from .._fields import as_rows

# Deviations from the mean field, relative to the largest value, that are rounding errors.
_CONSTANT = 1e-13


def field_r2(y_true, y_pred, sample_weight=None, n_channels=1, multioutput="uniform_average"):
    """R² of rows, with both sums of squares over rows and the points of a channel together.

    Parameters
    ----------
    y_true, y_pred : ndarrays of shape (n_samples, n_values)
    sample_weight : array-like of shape (n_samples,), default=None
    n_channels : int, default=1
        Channels, of as many values each, one after the other.
    multioutput : {"uniform_average", "raw_values"}, default="uniform_average"
        The mean over the channels, or an array with one number for each.

    Raises
    ------
    ValueError
        If `multioutput` is something else.
    """
    if multioutput not in ("uniform_average", "raw_values"):
        raise ValueError(f"multioutput={multioutput!r} must be 'uniform_average' or 'raw_values'.")
    if len(y_true) < 2:
        undefined = r2_score(y_true, y_pred)  # warns, and is NaN
        return np.full(n_channels, undefined) if multioutput == "raw_values" else undefined
    parts = zip(*_split(n_channels, y_true, y_pred), strict=True)
    channels = [_channel_r2(true, predicted, sample_weight) for true, predicted in parts]
    return np.array(channels) if multioutput == "raw_values" else float(np.mean(channels))


def _split(n_channels, *rows):
    """Channels of several arrays of rows, in float64: float32 has too short a range for squares."""
    return [np.array_split(np.asarray(values, dtype=np.float64), n_channels, axis=1) for values in rows]


def _channel_r2(y_true, y_pred, sample_weight):
    # In units of the largest magnitude, as squares of very large or small values would leave the range of the type.
    scale = max(float(np.abs(y_true).max(initial=0.0)), np.finfo(np.float64).tiny)
    y_true, y_pred = y_true / scale, np.clip(y_pred / scale, -1e100, 1e100)
    mean = np.average(y_true, axis=0, weights=sample_weight)
    if np.abs(y_true - mean).max(initial=0.0) <= _CONSTANT:
        # Nothing varies, and rounding must not be the measure: the error is relative to the fields themselves.
        left, size = (np.average(np.square(Z).sum(1), weights=sample_weight) for Z in (y_true - y_pred, y_true))
        return 1 - left / size if size else float(left == 0)
    if sample_weight is not None:
        sample_weight = np.repeat(sample_weight, y_true.shape[1])
    # About the mean field, the mean over everything is zero, so r2_score of the flat residuals pools the variance.
    return r2_score((y_true - mean).ravel(), (y_pred - mean).ravel(), sample_weight=sample_weight)


class FieldRegressorMixin(RegressorMixin):
    """Regressors of fields: R² pooled over the grid.

    A subclass has the fitted attributes ``_domain`` and ``_target_fields``.
    """

    def score(self, X, y, sample_weight=None, *, multioutput="uniform_average"):
        """Coefficient of determination R² of the predicted fields.

        Both sums of squares, of the residuals and of the targets about their mean field, run over samples and grid
        points together: a point where the target never varies, such as a Dirichlet boundary, has no R² of its own. Of a
        channel that is the same in all samples, the sums are those of residuals and targets.
        Every channel has one, so that none is hidden by another of larger numbers. Points outside of the mask do not
        count.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Input fields.
        y : array-like of shape (n_samples, \\*grid), ... as for X, or (n_samples,)
            True target fields.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        multioutput : {"uniform_average", "raw_values"}, default="uniform_average"
            The mean over the channels, or an array with one number for each.

        Returns
        -------
        float or ndarray of shape (n_channels,)
            1 for a perfect prediction, 0 for one no better than the mean field.

        Raises
        ------
        ValueError
            If `y` has not the size of the predictions, or `multioutput` is something else.
        """
        prediction = self.predict(X)
        sample_weight = as_plain(sample_weight, "sample_weight")
        check_consistent_length(X, y, sample_weight)
        y = np.asarray(as_rows(y, "y")[0])
        if y.size != prediction.size:
            raise ValueError(f"y has shape {y.shape}, but the predictions have shape {prediction.shape}.")
        n_channels, inside = self._target_fields.n_channels or 1, self._domain.outputs
        true, predicted = (values.reshape(len(y), -1) for values in (y, prediction))
        if inside is not None:
            # A zero has no part in either sum.
            true, predicted = (np.where(inside, values, 0) for values in (true, predicted))
        return field_r2(true, predicted, sample_weight, n_channels, multioutput)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
