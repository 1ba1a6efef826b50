"""The score of regressors whose targets are fields."""

from math import prod

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import assert_all_finite, check_consistent_length

from .._containers import Rows, as_lazy, as_plain, blocks
from .._doc_links import DocLinkMixin
from .._fields import as_rows

# Largest deviation from the mean field, relative to the largest value, that is regarded as rounding.
_CONSTANT = 1e-13


def field_r2(y_true, y_pred, sample_weight=None, n_channels=1, multioutput="uniform_average", inside=None):
    """R² of rows, with both sums of squares over rows and the points of a channel together.

    Rows are read in parts, several times.

    Parameters
    ----------
    y_true, y_pred : ndarrays or Rows of shape (n_samples, n_values)
    sample_weight : array-like of shape (n_samples,), default=None
    n_channels : int, default=1
        Number of channels, which are consecutive and have equally many values.
    multioutput : {"uniform_average", "raw_values"}, default="uniform_average"
        The mean over the channels, or an array with one number for each.
    inside : ndarray of bool and shape (n_values,), default=None
        Values inside the domain.

    Raises
    ------
    ValueError
        If `multioutput` has another value, or predictions are NaN.
    """
    if multioutput not in ("uniform_average", "raw_values"):
        raise ValueError(f"multioutput={multioutput!r} must be 'uniform_average' or 'raw_values'.")
    if len(y_true) < 2:
        undefined = r2_score(np.zeros(len(y_true)), np.zeros(len(y_true)))  # warns, and is NaN
        return np.full(n_channels, undefined) if multioutput == "raw_values" else undefined
    weight = np.ones(len(y_true)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64).ravel()

    def parts(*arrays):
        for part in blocks(y_true):
            # The range of float32 is too short for squares. Zeros do not contribute to either sum.
            values = (np.asarray(rows[part], dtype=np.float64) for rows in arrays)
            values = (rows if inside is None else np.where(inside, rows, 0) for rows in values)
            yield weight[part], *(rows.reshape(len(rows), n_channels, -1) for rows in values)

    # In units of the largest magnitude, since squares of very large or small values would overflow or underflow.
    scale = np.full((n_channels, 1), np.finfo(np.float64).tiny)
    for _, true in parts(y_true):
        scale = np.maximum(scale, np.abs(true).max(axis=(0, 2), initial=0.0)[:, None])
    mean = sum(np.tensordot(w, true / scale, 1) for w, true in parts(y_true)) / weight.sum()
    left, total, size, deviation = np.zeros((4, n_channels))
    for w, true, predicted in parts(y_true, y_pred):
        true, error = true / scale, true / scale - np.clip(predicted / scale, -1e100, 1e100)
        left, size = left + w @ np.square(error).sum(2), size + w @ np.square(true).sum(2)
        true -= mean
        total = total + w @ np.square(true).sum(2)
        deviation = np.maximum(deviation, np.abs(true).max(axis=(0, 2), initial=0.0))
    # If the targets are constant up to rounding, the error is taken relative to the fields themselves.
    constant = deviation <= _CONSTANT
    assert_all_finite(left[~constant])
    reference = np.where(constant, size, total)
    nothing = np.where(left == 0, 1.0, 0.0)
    channels = np.where(reference > 0, 1 - left / np.where(reference > 0, reference, 1), nothing)
    return channels if multioutput == "raw_values" else float(np.mean(channels))


class FieldRegressorMixin(DocLinkMixin, RegressorMixin):
    """Regressors of fields: R² pooled over the grid.

    A subclass has the fitted attributes ``_domain`` and ``_target_fields``.
    """

    def score(self, X, y, sample_weight=None, *, multioutput="uniform_average"):
        """Coefficient of determination R² of the predicted fields.

        Both sums of squares, of the residuals and of the targets about their mean field, are taken over samples and
        grid points together, since a point where the target never varies, such as on a Dirichlet boundary, has no R² of
        its own. For a channel that is the same in all samples, the residuals are compared with the targets themselves.
        Every channel has its own R², so that channels of large values do not dominate. Points outside of the mask are
        ignored.

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
            If `y` does not have the size of the predictions, or `multioutput` has another value.
        """
        prediction = self.predict(X)
        sample_weight = as_plain(sample_weight, "sample_weight")
        check_consistent_length(X, y, sample_weight)
        y, _ = as_rows(as_lazy(y, "y"), "y")
        y = y if isinstance(y, Rows) else np.asarray(y)
        if prod(y.shape) != prediction.size:
            raise ValueError(f"y has shape {y.shape}, but the predictions have shape {prediction.shape}.")
        n_channels = self._target_fields.n_channels or 1
        true, predicted = (
            values if isinstance(values, Rows) else values.reshape(len(values), -1) for values in (y, prediction)
        )
        return field_r2(true, predicted, sample_weight, n_channels, multioutput, self._domain.outputs)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
