"""The score of regressors whose targets are fields."""

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_consistent_length


def field_r2(y_true, y_pred, sample_weight=None):
    """R² of rows, with both sums of squares over rows and columns together."""
    if len(y_true) < 2:
        return r2_score(y_true, y_pred)  # warns, and is NaN
    mean = np.average(y_true, axis=0, weights=sample_weight)
    if sample_weight is not None:
        sample_weight = np.repeat(sample_weight, y_true.shape[1])
    # About the mean field, the mean over everything is zero, so r2_score of the flat residuals pools the variance.
    return r2_score((y_true - mean).ravel(), (y_pred - mean).ravel(), sample_weight=sample_weight)


class FieldRegressorMixin(RegressorMixin):
    """Regressors of fields: R² pooled over the grid."""

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination R² of the predicted fields.

        Both sums of squares, of the residuals and of the targets about their mean field, run over samples and grid
        points together: a point where the target never varies, such as a Dirichlet boundary, has no R² of its own.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Input fields.
        y : array-like of shape (n_samples, \\*grid), ... as for X, or (n_samples,)
            True target fields.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        float
            1 for a perfect prediction, 0 for one no better than the mean field.
        """
        prediction = self.predict(X)
        check_consistent_length(X, y, sample_weight)
        y = np.asarray(y)
        if y.size != prediction.size:
            raise ValueError(f"y has shape {y.shape}, but the predictions have shape {prediction.shape}.")
        return field_r2(y.reshape(len(y), -1), prediction.reshape(len(y), -1), sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
