"""One linear map of HSS matrices between fields: the regressor, and what the transformer shares with it."""

import textwrap
from numbers import Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .._endings import python_waits
from .._fields import (
    Domain,
    as_rows,
    check_grid_shape,
    check_mask,
    check_same_fields,
    check_weight,
    domain_mask,
    input_shape,
    inside_domain,
    masked_grid,
    output_shape,
    refuse_nan,
    rounding_unit,
    warn_of_channels_last,
)
from .._parameters import Count, unchanged_on_error
from .._warnings import warn_user
from ..exceptions import ExtrapolationWarning
from ..fitting import FORMS, Options, Samples, fit
from ..fitting._samples import check_ratio
from ..linalg._modes import multilinear
from ._score import FieldRegressorMixin

# Channels whose largest magnitudes differ by less than this factor may be of one unit.
_ONE_UNIT = 100.0


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
        Largest HSS rank of the operator; in several dimensions, of the factors of its Kronecker products, or of those
        of its inverse. "auto" grows it until the error on held-out samples stops falling, and allows for a correction
        of low rank that makes the operator reproduce the training samples.
    levels : int or "auto", default="auto"
        Depth of the cluster tree. "auto" is as deep as the rank allows where samples are scarce: the closed form needs
        leaf size + rank samples, and 3 * rank.
    outer_rank : int or "auto", default="auto"
        Number of Kronecker products that the operator is a sum of, in several dimensions. "auto" keeps an inverse form
        as it is, which is exact where an outer rank is not, and grows a forward form until the error on held-out
        samples stops falling.
    symmetric : bool or "auto", default="auto"
        Whether the operator is a symmetric matrix, as for self-adjoint equations on a uniform grid. "auto" finds out
        from the samples. Symmetry halves what has to be learned. In several dimensions, only inverse forms make use of
        it to the letter (`symmetric_`).
    form : {"auto", "forward", "inverse"}, default="auto"
        What to fit: the operator, or its inverse. In one dimension that is a banded matrix, which is right for
        differential equations, needs 2 w + 1 samples for w neighbours on either side, and holds for forcings unlike
        those of the training; in several, it is a Kronecker sum of one-dimensional matrices, which is right for
        separable equations and needs about three samples. It amplifies noise. "auto" chooses by the error on held-out
        samples, and warns where that cannot tell.
    solver : {SOLVERS}, default="auto"
        How to fit the operator ("forward") or its inverse:

ENTRIES
    alpha : float or "auto", default="auto"
        Ridge penalty, in units of squared inputs as in :class:`sklearn.linear_model.Ridge`, of "least_squares" and of
        the correction. "auto" chooses by leave-one-out errors, respectively by the error on held-out samples. In
        several dimensions, it is relative to the mean over the points of the inputs' summed squares, and applies to
        "als" and "least_squares".
    tol : float, default=1e-12
        Relative size below which singular values of blocks of the inputs count as zero.
    fit_intercept : bool or "auto", default="auto"
        Whether there is a solution for f = 0, u = A f + c, which is learned, too. "auto" finds out where no linear map
        fits exactly, by the error on held-out samples.
    random_state : int, RandomState instance or None, default=None
        Determines which fifth of the samples is held out to compare fits. All samples enter the final one.
    grid_shape : int or tuple of int, default=None
        Grid of the fields, such as ``(64, 64)``, needed where they come flattened or with channels. If None, it is the
        shape of the mask, where there is one, else all dimensions of `X` but the first.
    mask : array-like of bool and shape (\\*grid), "auto" or None, default=None
        Points of a domain that is not a box, True inside; it applies to every channel. Whatever the data hold outside,
        NaN perhaps, is ignored; errors and scores count the points inside; predictions are zero outside, or NaN where
        all training targets were NaN. "auto" takes the points where the targets are neither zero nor NaN in all
        samples, and ignores inputs that are NaN in all.
    verbose : int, default=0
        Whether to print every fit that is tried, with its error and the seconds that it took.
"""

PARAMETERS = PARAMETERS.replace("{SOLVERS}", "{" + ", ".join(f'"{name}"' for name in ["auto", *_SOLVERS]) + "}")
PARAMETERS = PARAMETERS.replace("ENTRIES", "\n".join(_entries(FORMS)))

ATTRIBUTES = """
    operator_ : HSSMatrix, or KroneckerProductSum, DiagonalizedOperator or OperatorSum of :mod:`sklearn_hss.linalg`
        The operator, of shape (n_outputs, n_points): a flat field u is ``operator_ @ f``. In several dimensions, a sum
        of Kronecker products of HSS matrices, or the inverse of one (``operator_.inverse``). Predictions add
        `intercept_`, and are blank outside of the mask.
    intercept_ : ndarray of the shape of one target, or float
        Prediction for f = 0; 0.0 where none was fitted.
    form_, solver_, symmetric_ : str, str, bool
        What was chosen.
    half_bandwidth_ : int or None
        Neighbours on either side in the banded matrix, where one was fitted.
    alpha_ : float or None
        Ridge penalty in use; None where neither least squares nor a correction is.
    completion_ : str
        What the operator does to inputs of a kind that the training samples do not contain, in several dimensions.
    held_out_error_ : float
        Mean relative error, on held-out samples, of the chosen fit to the others; with an intercept, relative to what
        is left of the targets without their mean. NaN if there were too few.
    residual_ : float
        Mean relative error on the training samples, likewise.
    mask_ : ndarray of bool and shape (\\*grid) or None
        Points of the targets inside the domain, None where all are.
    reason_ : str
        Why this fit was chosen.
    candidates_ : list of dict
        The fits that were compared; ``pandas.DataFrame(model.candidates_)`` makes a table of it.
    rank_, levels_ : int or None
        Rank and depth of the operator; in several dimensions, the largest ones of the factors of Kronecker products,
        None where there are none.
    outer_rank_ : int or None
        Number of Kronecker products of the operator or of its inverse. None where there are none.
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
    """Base of the regressor and the transformer: parameters, fit, and the product with the operator."""

    _domain: Domain
    _vanishing: np.ndarray
    _intercept: np.ndarray | None
    _seen: list[torch.Tensor] | None
    _channel_scales: list[torch.Tensor] | None
    # Set by RolloutRegressor: factor that makes outputs inputs.
    _repeated: float | None = None

    _parameter_constraints: dict = {
        "rank": [Count(1), StrOptions({"auto"})],
        "levels": [Count(0), StrOptions({"auto"})],
        "outer_rank": [Count(1), StrOptions({"auto"})],
        "symmetric": ["boolean", StrOptions({"auto"})],
        "form": [StrOptions({"auto", "forward", "inverse"})],
        "solver": [StrOptions({"auto", *_SOLVERS})],
        "alpha": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "fit_intercept": ["boolean", StrOptions({"auto"})],
        "random_state": ["random_state"],
        "grid_shape": [tuple, list, Count(1), None],
        "mask": ["array-like", StrOptions({"auto"}), None],
        "verbose": ["verbose"],
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
            Weights of the samples. A weight of 2 acts as a second copy of the sample would.
        adjoint : tuple (P, Z) of array-likes, default=None
            Samples of the transposed operator, ``Z[i] = operator.T @ P[i]``: P of shape (n_adjoint, n_outputs), zero
            outside of the mask, Z of shape (n_adjoint, n_points). With them the closed form applies to operators that
            are not symmetric. For one-dimensional fields only.

        Returns
        -------
        object
            This estimator, fitted.

        Raises
        ------
        ValueError
            For data or parameters that cannot be used, before any fitting.
        """
        with unchanged_on_error(self), python_waits(), torch.inference_mode(False), torch.enable_grad():
            doubts = self._fit(X, y, sample_weight, adjoint)()
        for doubt in doubts:
            warn_user(*doubt)
        return self

    def _fit(self, X, y, sample_weight, adjoint):
        """Fit, and return the function that tells what the user should be warned of."""
        checks = {"dtype": [np.float64, np.float32], "order": "C"}
        mask = check_mask(self.mask)
        (X, x_shape), (y, y_shape) = as_rows(X), as_rows(y, "y")
        grid_shape = masked_grid(mask, check_grid_shape(self.grid_shape), x_shape)
        noise = rounding_unit(X, y)
        X, y, domain = inside_domain(mask, X, y, (x_shape, y_shape), grid_shape, sample_weight)
        X, y = validate_data(
            self, X, y, validate_separately=(checks, {**checks, "ensure_2d": False, "estimator": self})
        )
        check_consistent_length(X, y)
        x_shape = x_shape or X.shape[1:]
        warn_of_channels_last(x_shape, grid_shape)
        inputs = input_shape(x_shape, grid_shape)
        target_shape = y.shape[1:] if y_shape is None else y_shape
        outputs = output_shape(target_shape, inputs, grid_shape)
        X, y = X.astype(np.float64, copy=False), y.reshape(len(y), -1).astype(np.float64, copy=False)
        if sample_weight is not None:
            sample_weight = check_weight(sample_weight, X)
        if self.fit_intercept is True and len(X) < 2:
            raise ValueError(f"fit_intercept=True needs at least 2 samples, not n_samples = {len(X)}.")
        adjoint = self._check_adjoint(adjoint, inputs, outputs, domain)
        X, y, roots = weighted_rows(X, y, sample_weight)
        scales, grids = self._channel_scales_of(X, y, inputs, outputs)
        # Channels are one more mode, of which there is no tree.
        with_channels = len(grids[0]) > len(inputs.grid)
        F, U = (torch.from_numpy(rows).view(-1, *grid) for rows, grid in zip((X, y), grids, strict=True))
        if with_channels:
            F, U = F / scales[0], U / scales[1]
        samples = Samples(
            F,
            U,
            torch.from_numpy(roots),
            adjoint=adjoint,
            inside=None if domain.outputs is None else torch.from_numpy(domain.outputs).view(grids[1]),
            noise=max(noise or 0, 1e-15),
            has_channels=with_channels,
            repeated=None if with_channels else self._repeated,
        )
        options = Options(
            rank=self.rank,
            levels=(0, *[self.levels] * len(inputs.grid)) if with_channels else self.levels,
            outer_rank=self.outer_rank,
            symmetric=self.symmetric,
            form=self.form,
            solver=self.solver,
            alpha=self.alpha,
            tol=self.tol,
        )
        found = fit(
            samples,
            options,
            intercept=self.fit_intercept,
            random_state=check_random_state(self.random_state),
            report=_report if self.verbose else None,
        )
        self._keep(found, scales if with_channels else None)
        self.grid_shape_, self._target_shape, self._domain = inputs.grid, target_shape, domain
        self._input_shape, self._output_shape = inputs, outputs
        self.mask_ = domain_mask(domain, outputs)
        self.intercept_ = 0.0
        if self._intercept is not None:
            self.intercept_ = domain.finish(self._intercept[None].copy()).reshape(target_shape)
        return found.doubts

    @property
    def _target_fields(self):
        return self._output_shape

    def _channel_scales_of(self, X, y, inputs, outputs):
        """Scales of the channels of inputs and outputs, or ones, and the grids with the channels as a mode."""
        if len(inputs.grid) != len(outputs.grid):
            raise ValueError(
                f"y has the grid {outputs.grid} and X the grid {inputs.grid}; they must have as many dimensions."
            )
        check_ratio(*(float(np.abs(rows).max()) or 1.0 for rows in (X, y)))
        channels = [fields.n_channels or 1 for fields in (inputs, outputs)]
        if max(channels) == 1:
            return (1.0, 1.0), (inputs.grid, outputs.grid)
        grids = [(c, *fields.grid) for c, fields in zip(channels, (inputs, outputs), strict=True)]
        scales = [channel_scales(rows.reshape(len(rows), *grid)) for rows, grid in zip((X, y), grids, strict=True)]
        for x_scale, y_scale in ((scales[0].min(), scales[1].max()), (scales[0].max(), scales[1].min())):
            check_ratio(float(x_scale), float(y_scale))
        return [s.view(-1, *[1] * len(inputs.grid)) for s in scales], grids

    def _keep(self, found, scales):
        """Fitted attributes."""
        operator, intercept, form = found.operator, found.intercept, found.form
        self._channel_scales = scales
        if scales is not None:
            operator = operator.in_channel_units(scales[1].flatten(), 1 / scales[0].flatten())
            intercept = None if intercept is None else intercept * scales[1]
        self._intercept = None if intercept is None else intercept.flatten().numpy()
        self.operator_ = operator
        self.form_, self.solver_, self.symmetric_ = form.kind, form.solver, bool(form.symmetric)
        self.half_bandwidth_, self.alpha_ = form.half_bandwidth, found.alpha
        self.held_out_error_, self.residual_ = found.held_out_error, found.residual
        self.reason_, self.candidates_ = found.reason, found.candidates
        self.n_parameters_ = operator.n_parameters
        self.rank_, self.levels_, self.outer_rank_ = operator.structure
        self.completion_, self._seen = found.completion, found.seen
        self._vanishing = found.vanishing.flatten().numpy()

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

    def _apply(self, X):
        check_is_fitted(self, "operator_")
        X, shape = as_rows(X)
        check_same_fields(shape, self._input_shape, "X")
        X = self._domain.fill_inputs(X)
        refuse_nan(X, "X", self.mask)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        if self._seen is not None:
            self._warn_of_unseen(X, self._seen)
        product = self.operator_ @ X.T.astype(np.float64)
        if self._intercept is not None:
            product += self._intercept[:, None]
        return self._domain.finish(np.ascontiguousarray(product.T, dtype=X.dtype))

    def _warn_of_unseen(self, X, seen):
        fields = torch.from_numpy(X.astype(np.float64)).view(-1, *self.operator_.grid_in)
        if self._channel_scales is not None:
            fields = fields / self._channel_scales[0]
        inside = multilinear(fields, [P.mT for P in seen]).flatten(1).square().sum(1)
        share = float((inside / fields.flatten(1).square().sum(1).clamp_min(1e-300)).mean())
        if share < 0.5:
            warn_user(
                f"{1 - share:.0%} of the squared size of the inputs lies outside the span of the training inputs; "
                f"there, the operator is completed: {self.completion_}.",
                ExtrapolationWarning,
            )


def _report(form, error, seconds):
    print(f"[HSS] {seconds:7.2f} s  error {error:8.1e}  {form}", flush=True)


def channel_scales(fields):
    """Largest magnitude of every channel, or ones where these differ so little that they may be of one unit.

    Maps of channels of one unit may be symmetric, which other scales would hide.
    """
    scales = torch.from_numpy(np.abs(fields).max(axis=(0, *range(2, fields.ndim))))
    scales = torch.where(scales > 0, scales, 1)
    return scales if float(scales.max()) > _ONE_UNIT * float(scales.min()) else torch.ones_like(scales)


def weighted_rows(X, y, sample_weight=None):
    """Samples in a canonical order, equal ones merged, times the square roots of their weights, which come last.

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
    roots = np.sqrt(weight)
    if (weight != 1).any():
        pairs = pairs * roots[:, None]
    return np.ascontiguousarray(pairs[:, : X.shape[1]]), np.ascontiguousarray(pairs[:, X.shape[1] :]), roots


class HSSRegressor(FieldRegressorMixin, BaseHSSMap):
    __doc__ = f"""Linear HSS map between fields, fitted by structured linear algebra.

    Learns the solution operator u = A f of a linear equation as an HSS matrix, in float64, without gradient descent.
    For exact samples in general position, a handful determines A to machine precision, whatever the number of grid
    points: 3 * rank samples if A is symmetric (Theorem 2.3 of the Neural-HSS paper, after Levitt and Martinsson 2024),
    2 w + 1 if its inverse has w neighbours on either side, as finite-difference matrices have.

    In two and more dimensions, the inverse of a separable equation, such as Poisson's or Helmholtz' on a box, is a
    Kronecker sum of one-dimensional matrices, which about three samples determine. Other operators are approximated by
    sums of Kronecker products (eq. 1 of the paper), which needs more.

    Where f = 0 does not give u = 0, the solution for it is learned, too (`fit_intercept`).

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
        """Multiply the operator with input fields.

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
            If most of the input lies outside the span of the training inputs and the operator is not known there.
        """
        product = self._apply(X)
        return product.reshape(len(product), *self._target_shape)
