"""Linear maps between fields, learned from pairs of fields: the base class of their estimators."""

import itertools

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .._doc_links import DocLinkMixin
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
from ..fitting import FORMS, Samples, fit
from ..fitting._samples import check_ratio
from ..linalg._modes import multilinear

# Channels whose largest magnitudes differ by less than this factor may have the same unit.
_ONE_UNIT = 100.0

PARAMETERS = """
    fit_intercept : bool or "auto", default="auto"
        Whether to also learn a solution c for f = 0, so that u = A f + c. "auto" decides by the error on held-out
        samples, unless a linear map fits exactly.
    random_state : int, RandomState instance or None, default=None
        Determines which fifth of the samples is held out to compare fits. All samples enter the final fit.
    grid_shape : int or tuple of int, default=None
        Grid of the fields, such as ``(64, 64)``, required if they are flattened or have channels. If None, it is the
        shape of the mask, if there is one, otherwise all dimensions of `X` but the first.
    mask : array-like of bool and shape (\\*grid), "auto" or None, default=None
        Points of a domain that is not rectangular, True inside; it applies to every channel. Values outside, such as
        NaN, are ignored; errors and scores are computed from the points inside; predictions are zero outside, or NaN
        where all training targets were NaN. "auto" selects the points where the targets are neither zero nor NaN in all
        samples, and ignores inputs that are NaN in all samples.
    verbose : int, default=0
        Whether to print every candidate fit, with its error and the elapsed seconds.
"""

ATTRIBUTES = """
    intercept_ : ndarray of the shape of one target, or float
        Prediction for f = 0; 0.0 if no intercept was fitted.
    held_out_error_ : float
        Mean relative error of the selected form on held-out samples, when fitted to the others; with an intercept,
        relative to the targets minus their mean. NaN if there were too few samples.
    residual_ : float
        Mean relative error on the training samples, with the same normalisation.
    mask_ : ndarray of bool and shape (\\*grid) or None
        Points of the targets inside the domain; None if all are.
    reason_ : str
        Reason for the choice of this fit.
    candidates_ : list of dict
        The fits that were compared; ``pandas.DataFrame(model.candidates_)`` converts it to a table.
    n_parameters_ : int
        Number of values that represent the operator.
    grid_shape_ : tuple of int
        Grid of the inputs.
    n_features_in_ : int
        Number of points of the inputs.
    feature_names_in_ : ndarray of shape (n_points,)
        Names of the inputs, if `X` had string column names.
"""


class LinearFieldMap(DocLinkMixin, BaseEstimator):
    """Base class of the estimators of linear maps: the fit by :func:`sklearn_hss.fitting.fit`, and the product.

    A subclass has the parameters of `PARAMETERS`, and implements ``_options(samples)``, the options of the fit. It may
    select other forms (``_forms``) and set further fitted attributes (``_keep``).
    """

    _domain: Domain
    _vanishing: np.ndarray
    _intercept: np.ndarray | None
    _seen: list[torch.Tensor] | None
    # Rows of a local law that the samples do not determine, as flat fields.
    _open: np.ndarray | None
    _channel_scales: list[torch.Tensor] | None
    # Set by RolloutRegressor: factor that converts outputs to inputs.
    _repeated: float | None = None
    # Set by RolloutRegressor for a fit: number of the trajectory of every sample.
    _trajectories: np.ndarray | None = None
    # Set by RolloutRegressor: a list that collects warnings instead of issuing them.
    _doubts: list | None = None

    _parameter_constraints: dict = {
        "fit_intercept": ["boolean", StrOptions({"auto"})],
        "random_state": ["random_state"],
        "grid_shape": [tuple, list, Count(1), None],
        "mask": ["array-like", StrOptions({"auto"}), None],
        "verbose": ["verbose"],
    }

    def _options(self, samples):
        """Options of the fit."""
        raise NotImplementedError

    def _forms(self, samples):
        """Forms to try."""
        return FORMS

    def _grid_shape(self):
        """Grid of the fields, if the parameters specify it."""
        return check_grid_shape(self.grid_shape)

    def _fit(self, X, y, sample_weight, further=None):
        """Fit.

        Parameters
        ----------
        X, y, sample_weight : array-likes
            As passed by the user.
        further : callable, default=None
            Function of the shapes of inputs and outputs and of the domain, which rejects invalid parameters and returns
            further attributes of the samples.
        """
        with unchanged_on_error(self), python_waits(), torch.inference_mode(False), torch.enable_grad():
            doubts = self._find(X, y, sample_weight, further)()
        if self._doubts is not None:
            self._doubts.extend(doubts)
            return self
        for doubt in doubts:
            warn_user(*doubt)
        return self

    def _find(self, X, y, sample_weight, further):
        """Fit, and return the function that gives the warnings for the user."""
        checks = {"dtype": [np.float64, np.float32], "order": "C"}
        mask = check_mask(self.mask)
        (X, x_shape), (y, y_shape) = as_rows(X), as_rows(y, "y")
        grid_shape = masked_grid(mask, self._grid_shape(), x_shape)
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
        details = {} if further is None else further(inputs, outputs, domain)
        X, y, roots, first = weighted_rows(X, y, sample_weight)
        scales, grids = self._channel_scales_of(X, y, inputs, outputs)
        # Channels are an additional mode, which has no cluster tree.
        with_channels = len(grids[0]) > len(inputs.grid)
        F, U = (torch.from_numpy(rows).view(-1, *grid) for rows, grid in zip((X, y), grids, strict=True))
        if with_channels:
            F, U = F / scales[0], U / scales[1]
        samples = Samples(
            F,
            U,
            torch.from_numpy(roots),
            inside=None if domain.outputs is None else torch.from_numpy(domain.outputs).view(grids[1]),
            noise=max(noise or 0, 1e-15),
            has_channels=with_channels,
            repeated=None if with_channels else self._repeated,
            **details,
        )
        found = fit(
            samples,
            self._options(samples),
            intercept=self.fit_intercept,
            random_state=check_random_state(self.random_state),
            forms=self._forms(samples),
            groups=None if self._trajectories is None else self._trajectories[first],
            report=_report if self.verbose else None,
        )
        self.grid_shape_, self._domain = inputs.grid, domain
        self._source_shape, self._target_shape = x_shape, target_shape
        self._input_shape, self._output_shape = inputs, outputs
        self._keep(found, scales if with_channels else None, samples)
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
                f"y has the grid {outputs.grid} and X the grid {inputs.grid}; they must have equally many dimensions."
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

    def _keep(self, found, scales, samples):
        """Set the fitted attributes; the samples of the fit were divided by `scales`, those of the channels, if any."""
        operator, intercept = found.operator, found.intercept
        self._channel_scales = scales
        if scales is not None:
            operator = operator.in_channel_units(scales[1].flatten(), 1 / scales[0].flatten())
            intercept = None if intercept is None else intercept * scales[1]
        self._intercept = None if intercept is None else intercept.flatten().numpy()
        self.operator_ = operator
        self.alpha_ = found.alpha
        self.held_out_error_, self.residual_ = found.held_out_error, found.residual
        self.reason_, self.candidates_ = found.reason, found.candidates
        self.n_parameters_ = operator.n_parameters
        self.completion_, self._seen = found.completion, found.seen
        self._vanishing = found.vanishing.flatten().numpy()
        rows = getattr(found.fitted, "undetermined", None)
        self._open = None if rows is None or self._seen is not None else rows.ravel()

    def _apply(self, X, product=None):
        """Predictions, by the operator or another function of flat fields in columns."""
        X = self._read_inputs(X)
        if self._seen is not None:
            self._warn_of_unseen(X)
        fields = (product or self.operator_.__matmul__)(X.T.astype(np.float64))
        if self._intercept is not None:
            fields += self._intercept[:, None]
        return self._domain.finish(np.ascontiguousarray(fields.T, dtype=X.dtype))

    def _read_inputs(self, X):
        check_is_fitted(self, "operator_")
        X, shape = as_rows(X)
        check_same_fields(shape, self._input_shape, "X")
        X = self._domain.fill_inputs(X)
        refuse_nan(X, "X", self.mask)
        return validate_data(self, X, reset=False, dtype=[np.float64, np.float32])

    def support_distance(self, X):
        """Fraction of every input that lies where the training samples do not determine the operator.

        This is the fraction to which :class:`~sklearn_hss.exceptions.ExtrapolationWarning` refers, for every sample. It
        depends on the fit:

        - If the map is known only on the span of the training inputs, as for ridge regression and general sums of
          Kronecker products, it is the part outside of this span. In several dimensions, the span is the tensor product
          of the spaces that the inputs span along each axis.
        - For a local law, it is the part at points, or channels of points, at which the samples do not determine the
          rows of the law, because they vanish there or are too few; these rows are completed from rows with the same
          neighbours.
        - Other maps, including inverses and hierarchical matrices, have a form that the samples determine for all
          inputs, provided that the form is correct; the fraction is zero, and `held_out_error_` measures whether the
          form is correct.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Input fields, on the grid seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Fractions of the squared norms of the inputs, in float64: 0 if nothing lies outside, including inputs that
            are zero, and 1 if everything does.

        Raises
        ------
        ValueError
            If the fields do not have the shape seen in `fit`.

        See Also
        --------
        ConformalFieldRegressor : Prediction bands for inputs that resemble the training inputs.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_hss import HSSRegressor
        >>> rng = np.random.default_rng(0)
        >>> F = rng.standard_normal((10, 3)) @ np.eye(3, 30)  # they reach three of thirty points
        >>> U = F @ rng.standard_normal((30, 30))
        >>> model = HSSRegressor(form="forward", solver="least_squares", random_state=0).fit(F, U)
        >>> model.support_distance(np.eye(30)[[0, 3]]).round(6)
        array([0., 1.])
        """
        return self._unseen(self._read_inputs(X))

    def _unseen(self, X):
        """Fractions of the squared norms of rows that lie where the samples do not determine the operator."""
        rows = torch.from_numpy(X.astype(np.float64))
        if self._channel_scales is not None:
            scales = self._channel_scales[0].view(-1, 1)
            rows = (rows.view(len(rows), len(scales), -1) / scales).flatten(1)
        # Scaled to magnitude one, since squares of very large or small values would overflow or underflow.
        rows = rows / rows.abs().amax(1, keepdim=True).clamp_min(1e-300)
        if self._seen is not None:
            inside = multilinear(rows.view(-1, *self.operator_.grid_in), [P.mT for P in self._seen])
            outside = rows - multilinear(inside, self._seen).flatten(1)
        elif self._open is not None:
            outside = rows * torch.from_numpy(self._open)
        else:
            return np.zeros(len(rows))
        return (outside.square().sum(1) / rows.square().sum(1).clamp_min(1e-300)).numpy()

    def _warn_of_unseen(self, X):
        share = float(self._unseen(X).mean())
        if share > 0.5:
            warn_user(
                f"{share:.0%} of the squared norm of the inputs lies outside the span of the training inputs, where "
                f"the operator is extrapolated: {self.completion_}. support_distance(X) gives this share per input.",
                ExtrapolationWarning,
            )


def _report(form, error, seconds):
    print(f"[HSS] {seconds:7.2f} s  error {error:8.1e}  {form}", flush=True)


def channel_scales(fields):
    """Largest magnitude of every channel, or ones if these differ so little that the channels may have the same unit.

    Maps between channels of the same unit may be symmetric, which different scales would hide.
    """
    scales = torch.from_numpy(np.abs(fields).max(axis=(0, *range(2, fields.ndim))))
    scales = torch.where(scales > 0, scales, 1)
    return scales if float(scales.max()) > _ONE_UNIT * float(scales.min()) else torch.ones_like(scales)


def weighted_rows(X, y, sample_weight=None):
    """Samples in a canonical order, equal ones merged, times the square roots of their weights.

    The roots come third, and the numbers that the samples had fourth. A weight of two is equivalent to two copies, also
    in the choice of the held-out samples.
    """
    X, y, roots, first = merged_rows(X, y, sample_weight)
    if (roots != 1).any():
        X, y = X * roots[:, None], y * roots[:, None]
    return X, y, roots, first


def merged_rows(X, y, sample_weight=None):
    """Samples in a canonical order, equal ones merged; the square roots of their weights, and the numbers they had."""
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    # Compared byte by byte, without copies, as the fields may take much of the memory.
    X, y = (np.ascontiguousarray(rows, np.result_type(X, y)) for rows in (X, y))
    raw = [rows.view(np.dtype((np.void, rows[0].nbytes)))[:, 0] for rows in (X, y)]
    order = np.lexsort(raw[::-1])
    order = order[weight[order] > 0]
    new = [any(rows[i].tobytes() != rows[j].tobytes() for rows in raw) for i, j in itertools.pairwise(order)]
    groups = np.split(order, 1 + np.flatnonzero(new))
    first = [group[0] for group in groups]
    return X[first], y[first], np.sqrt([weight[group].sum() for group in groups]), first
