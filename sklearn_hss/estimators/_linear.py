"""Linear map of HSS matrices between fields: the regressor, and the base class it shares with the transformer."""

import textwrap
from numbers import Real

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions

from .._fields import as_rows
from .._parameters import Count
from ..fitting import FORMS, Options
from . import _linear_map
from ._linear_map import LinearFieldMap
from ._score import FieldRegressorMixin


def _entries(forms):
    """Documentation of the solvers: the first paragraph of every form."""
    for form in forms:
        text = " ".join(form.__doc__.split("\n\n")[0].split())
        yield textwrap.fill(
            f'- "{form.solver}", {form.kind}: {text}', 110, initial_indent=" " * 8, subsequent_indent=" " * 10
        )


_SOLVERS = list(dict.fromkeys(form.solver for form in FORMS))
PARAMETERS = """
    rank : int or "auto", default="auto"
        Maximal HSS rank of the operator; in several dimensions, of the factors of its Kronecker products, or of those
        of its inverse. "auto" increases the rank until the error on held-out samples stops decreasing, and permits a
        low-rank correction that makes the operator reproduce the training samples.
    levels : int or "auto", default="auto"
        Depth of the cluster tree. "auto" uses the deepest tree that the rank permits if samples are scarce: the closed
        form needs leaf size + rank samples, and at least 3 * rank.
    outer_rank : int or "auto", default="auto"
        Number of Kronecker products in the sum that represents the operator, in several dimensions. "auto" does not
        truncate an inverse form, which is exact without an outer rank, and increases the outer rank of a forward form
        until the error on held-out samples stops decreasing.
    symmetric : bool or "auto", default="auto"
        Whether the operator is a symmetric matrix, as for self-adjoint equations on a uniform grid. "auto" determines
        this from the samples. Symmetry halves the number of unknowns. In several dimensions, only inverse forms impose
        it exactly (`symmetric_`).
    form : {"auto", "forward", "inverse"}, default="auto"
        Whether to fit the operator or its inverse. The inverse is a sparse matrix for differential equations, on any
        domain and with any coefficients, which needs about as many samples as a point has neighbours, and generalises
        to forcings unlike those in the training data; or, for separable equations, a Kronecker sum of one-dimensional
        matrices, which needs about three samples. An inverse form amplifies noise. "auto" chooses the form with the
        smaller error on held-out samples, and warns if this is not conclusive.
    solver : {SOLVERS}, default="auto"
        Method by which the operator ("forward") or its inverse is fitted:

ENTRIES
    alpha : float or "auto", default="auto"
        Ridge penalty of "least_squares" and of the correction, in units of squared inputs as in
        :class:`sklearn.linear_model.Ridge`. "auto" selects it by leave-one-out errors for "least_squares", and by the
        error on held-out samples for the correction. In several dimensions, it is relative to the mean over the points
        of the inputs' summed squares, and applies to "als" and "least_squares".
    tol : float, default=1e-12
        Relative threshold below which singular values of blocks of the inputs are treated as zero.
"""

PARAMETERS = PARAMETERS.replace("{SOLVERS}", "{" + ", ".join(f'"{name}"' for name in ["auto", *_SOLVERS]) + "}")
PARAMETERS = PARAMETERS.replace("ENTRIES", "\n".join(_entries(FORMS)))
PARAMETERS = PARAMETERS + _linear_map.PARAMETERS[1:]

ATTRIBUTES = f"""
    operator_ : HSSMatrix, or KroneckerProductSum, DiagonalizedOperator or OperatorSum of :mod:`sklearn_hss.linalg`
        The operator, of shape (n_outputs, n_points): a flat field u is ``operator_ @ f``. In several dimensions, a sum
        of Kronecker products of HSS matrices, or the inverse of one (``operator_.inverse``). Predictions add
        `intercept_`, and are zero or NaN outside of the mask.
    form_, solver_, symmetric_ : str, str, bool
        The selected form, solver and symmetry.
    half_bandwidth_ : int or None
        Number of neighbours on either side in the banded matrix; None if none was fitted.
    alpha_ : float or None
        Ridge penalty in use; None if neither least squares nor a correction is used.
    completion_ : str
        Extrapolation of the operator to inputs outside the span of the training samples, in several dimensions.
    rank_, levels_ : int or None
        Rank and depth of the operator; in several dimensions, the maxima over the factors of the Kronecker products,
        None if there are none.
    outer_rank_ : int or None
        Number of Kronecker products of the operator or of its inverse; None if there are none.
{_linear_map.ATTRIBUTES[1:]}"""


class BaseHSSMap(LinearFieldMap):
    """Base class of the regressor and the transformer: parameters and fit."""

    _parameter_constraints: dict = {
        **LinearFieldMap._parameter_constraints,
        "rank": [Count(1), StrOptions({"auto"})],
        "levels": [Count(0), StrOptions({"auto"})],
        "outer_rank": [Count(1), StrOptions({"auto"})],
        "symmetric": ["boolean", StrOptions({"auto"})],
        "form": [StrOptions({"auto", "forward", "inverse"})],
        "solver": [StrOptions({"auto", *_SOLVERS})],
        "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "tol": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        rank="auto",
        levels="auto",
        *,
        outer_rank="auto",
        symmetric="auto",
        form="auto",
        solver="auto",
        alpha="auto",
        tol=1e-12,
        fit_intercept="auto",
        random_state=None,
        grid_shape=None,
        mask=None,
        verbose=0,
    ):
        self.rank = rank
        self.levels = levels
        self.outer_rank = outer_rank
        self.symmetric = symmetric
        self.form = form
        self.solver = solver
        self.alpha = alpha
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.random_state = random_state
        self.grid_shape = grid_shape
        self.mask = mask
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, adjoint=None):
        """Learn the operator.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Input fields. Channels, and flattened fields of several dimensions, need `grid_shape`.
        y : array-like of shape (n_samples, \\*grid), ... as for X, or (n_samples,)
            Output fields.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. A weight of 2 is equivalent to a second copy of the sample.
        adjoint : tuple (P, Z) of array-likes, default=None
            Samples of the transposed operator, ``Z[i] = operator.T @ P[i]``: P of shape (n_adjoint, n_outputs), zero
            outside of the mask, Z of shape (n_adjoint, n_points). With these, the closed form applies to operators that
            are not symmetric. Supported for one-dimensional fields only.

        Returns
        -------
        object
            This estimator, fitted.

        Raises
        ------
        ValueError
            If the data or parameters are invalid, before any fitting.
        """
        return self._fit(X, y, sample_weight, lambda *shapes: {"adjoint": self._check_adjoint(adjoint, *shapes)})

    def _options(self, samples):
        n_axes = len(samples.grid_in) - samples.has_channels
        return Options(
            rank=self.rank,
            levels=(0, *[self.levels] * n_axes) if samples.has_channels else self.levels,
            outer_rank=self.outer_rank,
            symmetric=self.symmetric,
            form=self.form,
            solver=self.solver,
            alpha=self.alpha,
            tol=self.tol,
        )

    def _keep(self, found, scales, samples):
        super()._keep(found, scales, samples)
        form = found.form
        self.form_, self.solver_, self.symmetric_ = form.kind, form.solver, bool(form.symmetric)
        self.half_bandwidth_ = form.half_bandwidth
        self.rank_, self.levels_, self.outer_rank_ = self.operator_.structure

    def _check_adjoint(self, adjoint, inputs, outputs, domain):
        if adjoint is None:
            return None
        if not (inputs.is_flat and outputs.is_flat):
            raise ValueError(f"adjoint samples apply to one-dimensional fields, not to fields on {inputs.grid}.")
        n_points, n_outputs = inputs.size, outputs.size
        try:
            P, Z = adjoint
        except (TypeError, ValueError):
            raise ValueError("adjoint must be a pair (P, Z) of arrays, with Z = P @ operator.") from None
        P, Z = domain.fill_outputs(as_rows(P, "P")[0]), domain.fill_inputs(as_rows(Z, "Z")[0])
        P, Z = (check_array(array, dtype=np.float64, input_name=name) for name, array in (("P", P), ("Z", Z)))
        check_consistent_length(P, Z)
        if (P.shape[1], Z.shape[1]) != (n_outputs, n_points):
            raise ValueError(
                f"adjoint=(P, Z) has {P.shape[1]} and {Z.shape[1]} points, but the outputs have {n_outputs} and the "
                f"inputs {n_points}: P must be like y and Z like X."
            )
        return torch.from_numpy(P.copy()), torch.from_numpy(Z.copy())


class HSSRegressor(FieldRegressorMixin, BaseHSSMap):
    __doc__ = f"""Linear HSS map between fields, fitted by structured linear algebra.

    Learns the solution operator u = A f of a linear equation as an HSS matrix, in float64, without gradient descent.
    A handful of exact samples in general position determine A to machine precision, independently of the number of grid
    points: 3 * rank samples if A is symmetric (Theorem 2.3 of the Neural-HSS paper, after Levitt and Martinsson 2024),
    2 w + 1 if its inverse couples w neighbours on either side, as finite-difference matrices do.

    In two and more dimensions, the inverse of the operator of a separable equation, such as the Poisson or Helmholtz
    equation on a rectangular domain, is a Kronecker sum of one-dimensional matrices, which about three samples
    determine. Other operators are approximated by sums of Kronecker products (eq. 1 of the paper), which need more.

    If f = 0 does not give u = 0, the solution for f = 0 is learned as well (`fit_intercept`).

    Parameters
    ----------{PARAMETERS}
    Attributes
    ----------{ATTRIBUTES}
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
        return product.reshape(len(product), *self._target_shape)
