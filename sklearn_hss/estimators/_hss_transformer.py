"""The linear HSS map as a transformer."""

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from .._fields import as_rows, check_same_fields, refuse_nan
from ._linear import ATTRIBUTES, PARAMETERS, BaseHSSMap


class HSSTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseHSSMap):
    __doc__ = f"""Linear HSS map between fields as a transformer, learned from pairs of fields.

    ``fit(F, U)`` learns the operator A with u = A f as :class:`HSSRegressor` does, ``transform`` applies it and
    ``inverse_transform`` solves with it, both in O(n rank). In a pipeline, it maps right-hand sides to approximate
    solutions, which the next step improves.

    Parameters
    ----------{PARAMETERS}
    Attributes
    ----------{ATTRIBUTES}
    See Also
    --------
    HSSRegressor : The same map as a regressor.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_hss import HSSTransformer
    >>> from sklearn_hss.datasets import make_poisson
    >>> F, U = make_poisson(n_samples=20, n_points=64, forcing="gaussian", random_state=0)
    >>> transformer = HSSTransformer(random_state=0).fit(F, U)
    >>> np.allclose(transformer.transform(F), U)
    True
    >>> np.allclose(transformer.inverse_transform(U), F)
    True
    """

    def transform(self, X):
        """Apply the operator to input fields.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Input fields, on the grid seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, ...)
            Output fields, in the shape of the training outputs and the floating-point type of `X`.

        Warns
        -----
        sklearn_hss.exceptions.ExtrapolationWarning
            If most of the input lies outside the span of the training inputs, where the operator is not determined.
        """
        product = self._apply(X)
        return product.reshape(len(product), *(self._target_shape or (1,)))

    def inverse_transform(self, X):
        """Solve for the input fields that the operator maps to given output fields, by ULV factorisation.

        At points where all training outputs were zero, such as Dirichlet boundaries, the outputs do not determine the
        inputs, which are set to zero there.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), ... as the training outputs
            Output fields.

        Returns
        -------
        ndarray of shape (n_samples, ...)
            Input fields, in the shape of the training inputs if `X` has that of the training outputs, otherwise flat;
            in the floating-point type of `X`.

        Warns
        -----
        scipy.linalg.LinAlgWarning
            If the operator is not square, or singular to working precision: the inputs of smallest norm are returned,
            computed by a dense singular value decomposition. In several dimensions, where LSMR is used unless the
            inverse is known, only if the outputs are not in the range of the operator.
        """
        check_is_fitted(self, "operator_")
        X, shape = as_rows(X)
        check_same_fields(shape, self._output_shape, "X")
        X = self._domain.fill_outputs(X)
        refuse_nan(X, "X", self.mask)
        X = check_array(X, dtype=[np.float64, np.float32])
        if X.shape[1] != self.operator_.shape[0]:
            raise ValueError(
                f"X has {X.shape[1]} features, but the outputs of this transformer have {self.operator_.shape[0]}."
            )
        U = X.T.astype(np.float64)
        if self._intercept is not None:
            U -= self._intercept[:, None]
        U[self._vanishing] = 0.0
        F = self.operator_.lstsq(U, silent=self._vanishing)
        fields = np.ascontiguousarray(F.T, dtype=X.dtype)
        flat = shape is None or len(shape) < 2
        return fields if flat else fields.reshape(len(fields), *self._input_shape.shape)

    @property
    def _n_features_out(self):
        return self.operator_.shape[0]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
