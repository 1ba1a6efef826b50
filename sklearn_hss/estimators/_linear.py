"""One linear HSS map between fields, as a regressor and as a transformer."""

import warnings
from numbers import Integral, Real

import numpy as np
import torch
from scipy.linalg import LinAlgWarning
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..linalg import HSSMatrix
from ..linalg._fitting import fit_hss
from ._score import FieldRegressorMixin

_PARAMETERS = """
    rank : int or "auto", default="auto"
        Largest HSS rank of the operator. "auto" grows it until the error on held-out samples stops falling, and allows
        for a correction of low rank that makes the operator reproduce the training samples.
    levels : int or "auto", default="auto"
        Depth of the cluster tree. "auto" is as deep as the rank allows where samples are scarce: the closed form needs
        leaf size + rank samples, and 3 * rank.
    symmetric : bool or "auto", default="auto"
        Whether the operator is a symmetric matrix, as for self-adjoint equations on a uniform grid. "auto" finds out
        from the samples. Symmetry halves what has to be learned.
    form : {"auto", "forward", "inverse"}, default="auto"
        What to fit: the operator, or its inverse as a banded matrix, which is right for differential equations, needs 2
        w + 1 samples for w neighbours on either side, and holds for forcings unlike those of the training. It amplifies
        noise. "auto" chooses by the error on held-out samples, and warns where that cannot tell.
    solver : {"auto", "closed_form", "gauss_newton", "banded", "least_squares"}, default="auto"
        How to fit the operator.

        - "closed_form": by null spaces of the samples; for symmetric operators, or with `adjoint` samples.
          Milliseconds.
        - "gauss_newton": nonlinear least squares over the generators, slow.
        - "banded": the operator itself is banded, such as a differential operator.
        - "least_squares": the minimum-norm operator (or ridge regression, with `alpha`), compressed.
    alpha : float or "auto", default="auto"
        Ridge penalty, in units of squared inputs as in :class:`sklearn.linear_model.Ridge`, of "least_squares" and of
        the correction. "auto" chooses by leave-one-out errors, respectively by the error on held-out samples.
    tol : float, default=1e-12
        Relative size below which singular values of blocks of the inputs count as zero.
    random_state : int, RandomState instance or None, default=None
        Determines which fifth of the samples is held out to compare fits. All samples enter the final one.
"""

_ATTRIBUTES = """
    operator_ : sklearn_hss.linalg.HSSMatrix
        The operator, of shape (n_outputs, n_points): a field u is ``operator_ @ f``.
    form_, solver_, symmetric_ : str, str, bool
        What was chosen.
    half_bandwidth_ : int or None
        Neighbours on either side in the banded matrix, where one was fitted.
    alpha_ : float or None
        Ridge penalty in use; None where neither least squares nor a correction is.
    held_out_error_ : float
        Mean relative error, on held-out samples, of the chosen fit to the others. NaN if there were too few.
    residual_ : float
        Mean relative error on the training samples.
    reason_ : str
        Why this fit was chosen.
    candidates_ : list of dict
        The fits that were compared; ``pandas.DataFrame(model.candidates_)`` makes a table of it.
    rank_, levels_ : int
        Rank and depth of the operator.
    n_parameters_ : int
        Numbers that the operator is stored in.
    grid_shape_ : tuple of int
        Grid of the inputs.
    n_features_in_ : int
        Number of points of the inputs.
    feature_names_in_ : ndarray of shape (n_points,)
        Names of the inputs, where `X` had string column names.
"""


class BaseHSSMap(BaseEstimator):
    """What the regressor and the transformer share: parameters, fit, and the product with the operator."""

    _parameter_constraints: dict = {
        "rank": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "levels": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "symmetric": ["boolean", StrOptions({"auto"})],
        "form": [StrOptions({"auto", "forward", "inverse"})],
        "solver": [StrOptions({"auto", "closed_form", "gauss_newton", "banded", "least_squares"})],
        "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        rank="auto",
        levels="auto",
        *,
        symmetric="auto",
        form="auto",
        solver="auto",
        alpha="auto",
        tol=1e-12,
        random_state=None,
    ):
        self.rank = rank
        self.levels = levels
        self.symmetric = symmetric
        self.form = form
        self.solver = solver
        self.alpha = alpha
        self.tol = tol
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, adjoint=None):
        """Learn the operator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_points)
            Input fields.
        y : array-like of shape (n_samples, n_outputs) or (n_samples,)
            Output fields.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. A weight of 2 acts as a second copy of the sample would.
        adjoint : tuple (P, Z) of array-likes, default=None
            Samples of the transposed operator, ``Z[i] = operator.T @ P[i]``: P of shape (n_adjoint, n_outputs), Z of
            shape (n_adjoint, n_points). With them the closed form applies to operators that are not symmetric.

        Returns
        -------
        object
            This estimator, fitted.

        Raises
        ------
        ValueError
            For data or parameters that cannot be used, before any fitting.
        """
        before = self.__dict__.copy()
        try:
            return self._fit(X, y, sample_weight, adjoint)
        except Exception:
            # An earlier fit stays as it was.
            self.__dict__ = before
            raise

    def _fit(self, X, y, sample_weight, adjoint):
        checks = {"dtype": [np.float64, np.float32], "order": "C"}
        X, y = validate_data(
            self, X, y, validate_separately=(checks, {**checks, "ensure_2d": False, "estimator": self})
        )
        check_consistent_length(X, y)
        noise = max(np.finfo(array.dtype).eps for array in (X, y))
        target_shape = y.shape[1:]
        X, y = X.astype(np.float64, copy=False), y.reshape(len(y), -1).astype(np.float64, copy=False)
        adjoint = self._check_adjoint(adjoint, X.shape[1], y.shape[1])
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
            if not sample_weight.any():
                raise ValueError("Sample weights must contain at least one non-zero number.")
        found = fit_hss(
            *weighted_columns(X, y, sample_weight),
            adjoint=adjoint,
            rank=self.rank,
            levels=self.levels,
            symmetric=self.symmetric,
            form=self.form,
            solver=self.solver,
            alpha=self.alpha,
            tol=self.tol,
            noise=noise,
            random_state=check_random_state(self.random_state),
        )
        self.operator_ = found.operator
        self.form_, self.solver_, self.symmetric_ = found.form, found.solver, found.symmetric
        self.half_bandwidth_, self.alpha_ = found.half_bandwidth, found.alpha
        self.held_out_error_, self.residual_ = found.held_out_error, found.residual
        self.reason_, self.candidates_ = found.reason, found.candidates
        self.rank_, self.levels_ = found.operator.rank, found.operator.levels
        self.n_parameters_ = found.operator.n_parameters
        self.grid_shape_, self._target_shape = (X.shape[1],), target_shape
        self._inactive = found.inactive
        return self

    def _check_adjoint(self, adjoint, n_points, n_outputs):
        if adjoint is None:
            return None
        try:
            P, Z = adjoint
        except (TypeError, ValueError):
            raise ValueError("adjoint must be a pair (P, Z) of arrays, with Z = P @ operator.") from None
        P, Z = (check_array(array, dtype=np.float64, input_name=name) for name, array in (("P", P), ("Z", Z)))
        check_consistent_length(P, Z)
        if (P.shape[1], Z.shape[1]) != (n_outputs, n_points):
            raise ValueError(
                f"adjoint=(P, Z) has {P.shape[1]} and {Z.shape[1]} points, but the outputs have {n_outputs} and the "
                f"inputs {n_points}: P must be like y and Z like X."
            )
        return _columns(P), _columns(Z)

    def _apply(self, X):
        check_is_fitted(self, "operator_")
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        product = self.operator_ @ X.T.astype(np.float64)
        return np.ascontiguousarray(product.T, dtype=X.dtype)


def _columns(array):
    """Samples in the columns of a tensor of its own."""
    return torch.from_numpy(array.T.copy())


def weighted_columns(X, y, sample_weight=None):
    """Samples in columns, in a canonical order, equal ones merged, times the square roots of their weights.

    So a weight of two is the same as two copies, also in the choice of the held-out samples.
    """
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    kept = weight > 0
    pairs, weight = np.hstack([X, y])[kept], weight[kept]
    copies: dict[bytes, list[int]] = {}
    for i, pair in enumerate(pairs):
        copies.setdefault(pair.tobytes(), []).append(i)
    groups = [copies[key] for key in sorted(copies)]
    pairs, weight = pairs[[group[0] for group in groups]], np.array([weight[group].sum() for group in groups])
    if (weight != 1).any():
        pairs = pairs * np.sqrt(weight)[:, None]
    return _columns(pairs[:, : X.shape[1]]), _columns(pairs[:, X.shape[1] :])


class HSSRegressor(FieldRegressorMixin, BaseHSSMap):
    __doc__ = f"""Linear HSS map between fields, fitted by structured linear algebra.

    Learns the solution operator u = A f of a linear equation as an HSS matrix, in float64, without gradient descent.
    For exact samples in general position, a handful determines A to machine precision, whatever the number of grid
    points: 3 * rank samples if A is symmetric (Theorem 2.3 of the Neural-HSS paper, after Levitt and Martinsson 2024),
    2 w + 1 if its inverse has w neighbours on either side, as finite-difference matrices have.

    There is no intercept: f = 0 gives u = 0. Center fields that are not so related.

    Parameters
    ----------{_PARAMETERS}
    Attributes
    ----------{_ATTRIBUTES}
    See Also
    --------
    HSSTransformer : The same map as a transformer, with an inverse.
    NeuralHSSRegressor : The nonlinear model; ``init="linear"`` starts it from this one.

    References
    ----------
    Sittoni, Zangrando, Casulli, Guglielmi, Tudisco: Neural-HSS: Hierarchical Semi-Separable Neural PDE Solver.

    Levitt, Martinsson: Linear-complexity black-box randomized compression of rank-structured matrices, SIAM Journal on
    Scientific Computing 46 (2024).

    Examples
    --------
    >>> from sklearn_hss import HSSRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> from sklearn_hss.metrics import relative_l2_error
    >>> F, U = make_poisson(n_samples=108, n_points=1024, forcing="gaussian", order=2, random_state=0)
    >>> model = HSSRegressor(random_state=0).fit(F[:8], U[:8])
    >>> bool(relative_l2_error(U[8:], model.predict(F[8:])) < 1e-12)
    True
    >>> model.operator_
    HSSMatrix(shape=(1024, 1024), levels=8, rank=2, n_parameters=16336, dtype=torch.float64)
    """

    def predict(self, X):
        """Multiply the operator with input fields.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_points)
            Input fields.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs) or (n_samples,)
            Output fields, in the floating-point type of `X`.
        """
        product = self._apply(X)
        return product.reshape(len(product), *self._target_shape)


class HSSTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseHSSMap):
    __doc__ = f"""Linear HSS map between fields as a transformer, learned from pairs of fields.

    ``fit(F, U)`` learns the operator A with u = A f as :class:`HSSRegressor` does, ``transform`` multiplies with it and
    ``inverse_transform`` solves with it, both in O(n rank). In a pipeline, it makes rough solutions of right-hand
    sides, for the next step to improve.

    Parameters
    ----------{_PARAMETERS}
    Attributes
    ----------{_ATTRIBUTES}
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
        """Multiply the operator with input fields.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_points)
            Input fields.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
            Output fields, in the floating-point type of `X`.
        """
        return self._apply(X)

    def inverse_transform(self, X):
        """Solve for the input fields that the operator maps to given output fields, by ULV factorisation.

        At points where all training outputs were zero, such as Dirichlet boundaries, the outputs say nothing about the
        inputs; these are zero there.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_outputs)
            Output fields.

        Returns
        -------
        ndarray of shape (n_samples, n_points)
            Input fields, in the floating-point type of `X`.

        Warns
        -----
        scipy.linalg.LinAlgWarning
            If the operator is not square, or singular to working precision: the inputs of smallest norm are returned,
            at the cost of a dense singular value decomposition.
        """
        check_is_fitted(self, "operator_")
        X = check_array(X, dtype=[np.float64, np.float32])
        n_outputs, n_points = self.operator_.shape
        if X.shape[1] != n_outputs:
            raise ValueError(f"X has {X.shape[1]} features, but the outputs of this transformer have {n_outputs}.")
        U = X.T.astype(np.float64)
        F = self._solve(U) if n_outputs == n_points else None
        if F is None:
            kind = "singular" if n_outputs == n_points else "not square"
            warnings.warn(
                f"The operator is {kind}: the input fields of smallest norm are returned.", LinAlgWarning, stacklevel=2
            )
            F = np.linalg.lstsq(self.operator_.to_dense().numpy(), U, rcond=1e-12)[0]
        return np.ascontiguousarray(F.T, dtype=X.dtype)

    def _solve(self, U):
        A, inactive = self.operator_, self._inactive
        if inactive.any():
            # Rows and columns of these points are zero; any number on their diagonal makes the matrix regular.
            size = A.diagonal().abs().max()
            A = A + HSSMatrix.from_diagonal(size * inactive.double(), levels=A.levels)
            U = np.where(inactive.numpy()[:, None], 0.0, U)
        with warnings.catch_warnings():
            warnings.simplefilter("error", LinAlgWarning)
            try:
                return A.solve(U)
            except (np.linalg.LinAlgError, LinAlgWarning):
                return None

    @property
    def _n_features_out(self):
        return self.operator_.shape[0]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
