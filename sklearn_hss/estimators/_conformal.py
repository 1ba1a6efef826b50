"""Prediction bands with a guaranteed coverage, around any regressor of fields."""

from dataclasses import dataclass
from math import ceil, floor, prod
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, _fit_context, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold, check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from .._fields import (
    Domain,
    FieldShape,
    as_rows,
    check_mask,
    check_same_fields,
    domain_mask,
    inside_domain,
    masked_grid,
    on_grid,
    refuse_nan,
)
from .._parameters import Count, unchanged_on_error
from .._warnings import quiet, warn_user
from ..exceptions import DivergenceWarning
from ._nested import nested_grid_shape, nested_parameter, read_inputs, read_pairs, refuse_lost_grid, takes_fields
from ._score import FieldRegressorMixin, field_r2
from ._trajectories import STATES, check_trajectories

# "auto" splits if at least this many of the held-out samples may lie outside of the band: the coverage after one
# calibration then has a standard deviation of less than half of alpha.
_ENOUGH = 5
# Share of the samples that a split holds out; for "band" around a fitted estimator, the second number.
_HELD_OUT, _HELD_OUT_OF_FITTED = 0.25, 0.75
# The scale of "band" at a point is at least this fraction of its mean, since few samples may miss large errors.
_LEAST_SCALE = 0.1
# Size of errors, relative to the targets, below which their distribution over the points is only rounding.
_ROUNDING = 1e3 * np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class _Fold:
    """A fit and the samples that were held out of it.

    Attributes
    ----------
    estimator : regressor
    scale : ndarray of shape (n_values,), or None
        Scale of its errors at every point, for "band".
    scores : ndarray of shape (n_unseen, n_values) or (n_unseen,)
        Absolute errors for "pointwise", and for "band" their largest ratio to the scale.
    """

    estimator: Any
    scale: np.ndarray | None
    scores: np.ndarray

    @property
    def radii(self):
        """Half-width of the narrowest band around the predictions that contains each unseen sample."""
        return self.scores if self.scale is None else self.scores[:, None] * self.scale


class ConformalFieldRegressor(MetaEstimatorMixin, FieldRegressorMixin, BaseEstimator):
    """Prediction bands around any regressor of fields, with a guaranteed coverage.

    In conformal prediction, the errors on held-out samples determine the width of the band. The only assumption is that
    training samples and new samples are exchangeable, as independent draws from one distribution are. If the estimator
    is inaccurate, the band is wide. The guarantee does not extend to inputs from another distribution; use
    :meth:`calibrate` with samples of these.

    Parameters
    ----------
    estimator : regressor
        Regressor that predicts the fields: an estimator of this package or of scikit-learn, a pipeline or a search.
        Estimators of this package, and pipelines and searches that consist of these alone, receive fields in their
        original shape; all others receive them flattened. To use a fitted estimator without refitting it, wrap it in
        :class:`sklearn.frozen.FrozenEstimator`.
    alpha : float, default=0.1
        Fraction of the samples that may lie outside of the band.
    kind : {"pointwise", "band"}, default="pointwise"
        "pointwise" contains the true value at any one point with probability 1 - alpha; "band" contains the whole
        field, all points and channels at once, and is wider.
    method : {"auto", "split", "cross"}, default="auto"
        "split" fits the estimator to a part of the samples and calibrates with the others. "cross" fits it to all
        samples, and once for each fold of `cv`, so that every sample is used for calibration: CV+, or the jackknife+
        with as many folds as samples. "auto" is "split" if at least five of the held-out samples may lie outside of the
        band, which requires 49 held-out samples for the default of `alpha`, otherwise "cross".
    calibration_fraction : float or "auto", default="auto"
        Fraction of the samples that "split" uses for calibration. "auto" is a quarter. With a FrozenEstimator, it is
        one for "pointwise", and three quarters for "band", whose scale is determined from the remaining samples.
    cv : int or cross-validation generator, default=10
        Folds of "cross". An int is the number of shuffled folds, limited by the number of samples.
    random_state : int, RandomState instance or None, default=None
        Determines the calibration samples and the folds. The `estimator` has its own `random_state`.
    n_jobs : int or None, default=None
        Number of fits of "cross" that run in parallel; None means 1 unless in a :obj:`joblib.parallel_config` context.
    mask : array-like of bool and shape (\\*grid), "auto" or None, default=None
        Points of a domain that is not rectangular, True inside; it applies to every channel. None uses the mask of a
        nested estimator, if there is one. Values outside are set to zero before they reach the estimator; predictions
        and bands are zero there, or NaN where all training targets were NaN. "band" and scores refer to the points
        inside. "auto" selects the points where the targets are neither zero nor NaN in all samples.

    Attributes
    ----------
    estimator_ : regressor
        The fitted clone of `estimator` that `predict` uses: fitted to all but the calibration samples with "split", and
        to all samples with "cross".
    method_ : str
        The method in use, "split" or "cross".
    n_calibration_ : int
        Number of calibration samples.
    coverage_ : float
        The guaranteed coverage, see Notes.
    half_width_ : ndarray of the shape of one target, or None
        Half-width of the band, which is the same around all predictions; None with "cross", whose bands differ.
    mask_ : ndarray of bool and shape (\\*grid) or None
        Points inside the domain; None if all are.
    n_features_in_ : int
        Number of values of an input.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the inputs, if `X` had string column names.

    See Also
    --------
    HSSRegressor.support_distance : Fraction of an input outside of the span of the training samples.

    Notes
    -----
    With n calibration samples and k = ceil((n + 1) (1 - alpha)), "split" takes the k-th smallest of n errors. The
    probability that a new sample lies in the band is then exactly k / (n + 1) if no two errors are equal, and at least
    that in any case: at every single point for "pointwise", and at all points together for "band". This probability is
    a mean over training, calibration and new samples. Given the calibration samples, the coverage fluctuates about it
    with a standard deviation of about sqrt(alpha (1 - alpha) / n). If k exceeds n, the band would be infinite: `fit`
    then raises an error that suggests more samples or a larger `alpha`.

    "cross" guarantees a coverage of 1 - 2 alpha for the jackknife+, and for K folds of one that is lower by the smaller
    of 2 (1 - 1 / K) / (n / K + 1) and (1 - K / n) / (K + 1), at most sqrt(2 / n). In practice, the coverage is about
    1 - alpha. The guarantee for single values carries over to "band": a field that lies in sufficiently many of the
    bands around the predictions of the folds does so at every point.

    The scale of "band" at every point is the root mean square of the errors on the training samples, but at least a
    tenth of its mean. The band is therefore wide where the estimator is inaccurate; the guarantee does not depend on
    the scale.

    Around a :class:`RolloutRegressor` or :class:`LocalEvolutionRegressor`, ``fit(trajectories)`` without `y` gives
    bands for whole trajectories: `predict` and `predict_interval` then take initial states, and return trajectories of
    the same number of times as in training. Pairs of states of one trajectory, ``fit(X, y)``, are not exchangeable with
    those of a new trajectory.

    Sample weights are not supported, since they would violate exchangeability.

    References
    ----------
    Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: Distribution-free predictive inference for regression, Journal of the
    American Statistical Association 113 (2018).

    Barber, Candès, Ramdas, Tibshirani: Predictive inference with the jackknife+, Annals of Statistics 49 (2021).

    Diquigiovanni, Fontana, Vantini: The importance of being a band: finite-sample exact distribution-free prediction
    sets for functional data, Statistica Sinica 35 (2025).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn_hss import ConformalFieldRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> F, U = make_poisson(400, 64, random_state=0)
    >>> U = U + 0.05 * U.std() * np.random.default_rng(0).standard_normal(U.shape)
    >>> model = ConformalFieldRegressor(Ridge(), kind="band", random_state=0).fit(F[:300], U[:300])
    >>> lower, upper = model.predict_interval(F[300:])
    >>> lower.shape
    (100, 64)
    >>> inside = ((lower <= U[300:]) & (U[300:] <= upper)).all(axis=1)
    >>> print(f"{model.coverage_:.3f} {inside.mean():.2f}")
    0.908 0.91
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"])],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "kind": [StrOptions({"pointwise", "band"})],
        "method": [StrOptions({"auto", "split", "cross"})],
        "calibration_fraction": [Interval(Real, 0, 1, closed="neither"), StrOptions({"auto"})],
        "cv": [Count(2), HasMethods(["split", "get_n_splits"])],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "mask": ["array-like", StrOptions({"auto"}), None],
    }

    _input_fields: FieldShape
    _target_fields: FieldShape
    _input_shape: tuple[int, ...]
    _target_shape: tuple[int, ...]
    _domain: Domain
    # Values to which the bands apply; None if all.
    _counted: np.ndarray | None
    # Number of times of trajectories; None after a fit to pairs.
    _n_times: int | None

    def __init__(
        self,
        estimator,
        *,
        alpha=0.1,
        kind="pointwise",
        method="auto",
        calibration_fraction="auto",
        cv=10,
        random_state=None,
        n_jobs=None,
        mask=None,
    ):
        self.estimator = estimator
        self.alpha = alpha
        self.kind = kind
        self.method = method
        self.calibration_fraction = calibration_fraction
        self.cv = cv
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.mask = mask

    # Fit

    # The nested estimator validates its own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Fit the estimator, and calibrate the band.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_features)
            Inputs; or without `y` trajectories of shape (n_samples, n_times, \\*state), for an `estimator` with
            rollouts. float32 and float64 are kept, everything else becomes float64.
        y : array-like of shape (n_samples, \\*grid), ... as for X, or (n_samples,), default=None
            Targets.

        Returns
        -------
        object
            This estimator, fitted.

        Raises
        ------
        ValueError
            If the data or parameters are invalid, or there are too few samples; an earlier fit is then preserved.

        Warns
        -----
        sklearn_hss.exceptions.DivergenceWarning
            If so many predictions are infinite or NaN that the band is infinite.
        """
        with unchanged_on_error(self):
            self._alpha, self._kind = self.alpha, self.kind
            X, y = self._read(X, y)
            self.method_, n_held_out = self._plan(len(X))
            rng = check_random_state(self.random_state)
            if self.method_ == "cross":
                return self._cross(X, y, rng)
            order = rng.permutation(len(X))
            held_out, train = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
            self.estimator_ = self._fitted(X[train], y[train])
            self._scale = self._scale_of(self.estimator_, X[train], y[train])
            return self._split(X[held_out], y[held_out])

    def calibrate(self, X, y=None):
        """Recalibrate the band with samples that were not used in `fit`; the fitted estimator is not changed.

        This is useful for inputs unlike those of `fit`, or to avoid repeating a long training.

        Parameters
        ----------
        X, y : array-likes
            As for `fit`.

        Returns
        -------
        object
            This estimator, with `method_` "split".

        Raises
        ------
        ValueError
            If the samples do not have the shape seen in `fit`, or are too few; the earlier calibration is preserved.

        Warns
        -----
        sklearn_hss.exceptions.DivergenceWarning
            If so many predictions are infinite or NaN that the band is infinite.
        """
        with unchanged_on_error(self):
            X, y = self._read_again(X, y)
            self._refuse_too_few(len(X), f"n_samples = {len(X)} calibrate")
            self.method_ = "split"
            return self._split(X, y)

    def _read(self, X, y):
        """Rows of inputs and targets; for trajectories, the inputs are the first states."""
        mask = nested_parameter(self, "mask") if self.mask is None else self.mask
        self._mask = mask = check_mask(mask)
        self._n_times = None
        if y is None and self._has_rollouts():
            return self._read_trajectories(X, mask)
        X, y = read_pairs(self, X, y, mask)
        self._as_fields = takes_fields(self.estimator)
        if len(self._input_shape) > 1 and not self._as_fields:
            refuse_lost_grid("estimator", self.estimator, self._input_shape)
        self._counted = self._domain.outputs
        return X, y

    def _read_trajectories(self, X, mask):
        X = check_trajectories(X, self)
        n, n_times, *state = X.shape
        grid = masked_grid(mask, nested_grid_shape(self), tuple(state))
        rows = X.reshape(n * n_times, -1)
        rows, _, domain = inside_domain(mask, rows, rows, (tuple(state),) * 2, grid)
        rows = check_array(rows, **STATES, input_name="X", estimator=self).reshape(n, n_times, -1)
        fields = FieldShape(tuple(state)) if grid is None else on_grid(tuple(state), grid, "X")
        self._n_times, self._input_shape, self._target_shape = n_times, tuple(state), (n_times, *state)
        self._as_fields = True
        self._input_fields = self._target_fields = fields
        self.mask_ = domain_mask(domain, fields)
        # First states are given, so there is no band for them.
        counted = np.ones((n_times, rows.shape[-1]), bool)
        if domain.outputs is not None:
            counted &= domain.outputs
        counted[0] = False
        self._counted = counted.ravel()
        tiled = [None if part is None else np.tile(part, n_times) for part in (domain.outputs, domain.blank)]
        self._domain = Domain(domain.inputs, *tiled)
        first = validate_data(self, np.ascontiguousarray(rows[:, 0]), **STATES)
        return first, rows.reshape(n, -1)

    def _read_again(self, X, y):
        """Read further samples, which must have the shape seen in `fit`."""
        check_is_fitted(self)
        self._check_target(y)
        if self._n_times is not None:
            y = check_trajectories(X, self)
            if y.shape[1] != self._n_times:
                raise ValueError(
                    f"X has trajectories of n_times={y.shape[1]}, but those of the fit have n_times={self._n_times}."
                )
            X = y[:, 0]
        X = self._read_inputs(X)
        y, shape = as_rows(y, "y")
        check_same_fields(shape, FieldShape(self._target_shape or (1,)), "y")
        y = self._domain.fill_outputs(y)
        refuse_nan(y, "y", self._mask)
        y = check_array(y, **STATES, ensure_2d=False, input_name="y", estimator=self)
        if len(y) != len(X) or y.size != len(X) * prod(self._target_shape):
            raise ValueError(
                f"y has shape {y.shape}; it must have {len(X)} samples, like X, of the shape {self._target_shape}."
            )
        return X, y.reshape(len(X), -1).astype(X.dtype, copy=False)

    def _check_target(self, y):
        if self._n_times is None and y is None:
            raise ValueError("y is missing, but the fit was to pairs X and y.")
        if self._n_times is not None and y is not None:
            raise ValueError("y was given, but the fit was to trajectories X alone.")

    def _read_inputs(self, X):
        return read_inputs(self, X, self._mask)

    def _has_rollouts(self):
        return hasattr(_stepper(self.estimator), "rollout")

    # Number of calibration samples

    def _plan(self, n):
        """The method, and the number of samples out of n that a split holds out."""
        fraction, frozen = self.calibration_fraction, isinstance(self.estimator, FrozenEstimator)
        if frozen and self.method == "cross":
            raise ValueError("method='cross' requires new fits, but estimator is a FrozenEstimator; use 'split'.")
        if fraction == "auto":
            fraction = _HELD_OUT
            if frozen:
                fraction = 1.0 if self.kind == "pointwise" else _HELD_OUT_OF_FITTED
        n_held_out = floor(round(fraction * n, 9))
        if self.method == "split" or frozen or (self.method == "auto" and n_outside(n_held_out, self.alpha) >= _ENOUGH):
            self._refuse_too_few(
                n_held_out, f"calibration_fraction={fraction:g} of n_samples = {n} leaves {n_held_out} to calibrate"
            )
            return "split", n_held_out
        self._refuse_too_few(n, f"n_samples = {n} calibrate")
        return "cross", 0

    def _refuse_too_few(self, n, found):
        if n_outside(n, self._alpha) >= 1:
            return
        remedies = ["more samples"]
        if n:
            remedies.append(f"alpha={ceil(1000 / (n + 1)) / 1000:g}")
        if "fraction" in found and not isinstance(self.estimator, FrozenEstimator):
            remedies.append("method='cross', by which all samples calibrate")
        raise ValueError(
            f"{found}, but a finite band with alpha={self._alpha:g} needs {least_number(self._alpha)}; use "
            f"{', or '.join(remedies)}."
        )

    # Calibration

    def _split(self, X, y):
        n = self.n_calibration_ = len(X)
        n_out = n_outside(n, self._alpha)
        self.coverage_, self._folds = (n + 1 - n_out) / (n + 1), []
        width = _largest(self._scores(self.estimator_, self._scale, X, y), n_out)
        if self._scale is not None:
            width = width * self._scale if self._counted is None else np.where(self._counted, width * self._scale, 0)
        self._half_width = width
        self.half_width_ = self._finish(width[None], X)[0]
        _warn_if_infinite(width)
        return self

    def _cross(self, X, y, rng):
        n, cv = len(X), self.cv
        cv = KFold(min(cv, n), shuffle=True, random_state=rng) if isinstance(cv, Integral) else check_cv(cv)
        parts = list(cv.split(X, y))
        if not np.array_equal(np.sort(np.concatenate([test for _, test in parts])), np.arange(n)):
            raise ValueError(f"cv={self.cv!r} does not hold out every sample once, as KFold does.")
        self._folds = Parallel(n_jobs=self.n_jobs)(
            delayed(_fit_fold)(self, X[train], y[train], X[test], y[test]) for train, test in parts
        )
        self.estimator_ = self._fitted(X, y)
        self._scale = self._scale_of(self.estimator_, X, y)
        # Theorem 4 of Barber et al. (2021), for folds of equal size.
        k = len(parts)
        loss = min(2 * (1 - 1 / k) / (n / k + 1), (1 - k / n) / (k + 1))
        self.n_calibration_, self.coverage_ = n, max(1 - 2 * self._alpha - loss, 0.0)
        self.half_width_ = self._half_width = None
        scores = np.concatenate([fold.scores for fold in self._folds])
        _warn_if_infinite(_largest(scores, n_outside(n, self._alpha)))
        return self

    def _fitted(self, X, y):
        estimator = clone(self.estimator)
        if isinstance(estimator, FrozenEstimator):
            check_is_fitted(estimator)
            return estimator
        if self._n_times is not None:
            return estimator.fit(y.reshape(len(y), *self._target_shape))
        # Many regressors take a single target in one dimension only.
        shape = self._target_shape if self._as_fields or not self._target_shape else (-1,)
        return estimator.fit(self._inputs(X), y.reshape(len(y), *shape))

    def _inputs(self, X):
        return X.reshape(len(X), *self._input_shape) if self._as_fields else X

    def _predicted(self, estimator, X):
        """Rows of predictions, or rollouts, zero outside of the domain."""
        if self._n_times is None:
            predicted = estimator.predict(self._inputs(X))
        else:
            predicted = _stepper(estimator).rollout(self._inputs(X), self._n_times - 1)
        return self._domain.fill_outputs(np.asarray(predicted).reshape(len(X), -1))

    def _errors(self, estimator, X, y):
        """Absolute errors, in rows; infinite where predictions are not finite, zero outside of the domain."""
        errors = np.abs(self._predicted(estimator, X).astype(np.float64) - y)
        errors[np.isnan(errors)] = np.inf
        if self._counted is not None:
            errors[:, ~self._counted] = 0
        return errors

    def _scores(self, estimator, scale, X, y):
        errors = self._errors(estimator, X, y)
        return errors if scale is None else (errors / scale).max(axis=1)

    def _scale_of(self, estimator, X, y):
        """Root mean square of the errors on training samples, for every value; None for "pointwise"."""
        if self._kind == "pointwise":
            return None
        errors = self._errors(estimator, X, y)
        errors[~np.isfinite(errors)] = 0
        counted = np.ones(errors.shape[1], bool) if self._counted is None else self._counted
        # The channels of trajectories come after the times.
        shape = self._n_times or 1, self._target_fields.n_channels or 1, -1
        errors, targets, counted = (Z.reshape(*Z.shape[:-1], *shape) for Z in (errors, np.abs(y), counted))
        # In units of the largest target of a channel, since squares may overflow or underflow.
        units = targets.max(axis=(0, 1, 3)).astype(np.float64)[:, None]
        units[units == 0] = 1
        squares = np.square(errors / units).mean(axis=0)
        mean = (squares.sum(axis=(0, 2)) / np.maximum(counted.sum(axis=(0, 2)), 1))[:, None]
        return (units * np.sqrt(squares + _LEAST_SCALE**2 * mean + _ROUNDING**2)).ravel()

    # Use

    def predict(self, X):
        """Predict with the fitted estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_features)
            Inputs, of the shape seen in `fit`; after a fit to trajectories, initial states (n_samples, \\*state).

        Returns
        -------
        ndarray of shape (n_samples, \\*target)
            Predictions of the shape of the targets in `fit`, or trajectories, in the floating-point type of `X`.
        """
        check_is_fitted(self)
        X = self._read_inputs(X)
        return self._finish(self._predicted(self.estimator_, X), X)

    def predict_interval(self, X):
        """Predict the ends of the band, which contain the predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_features)
            Inputs, as for `predict`.

        Returns
        -------
        lower : ndarray of shape (n_samples, \\*target)
            The lower ends, in the shape and units of predictions, and in the floating-point type of `X`; minus infinity
            where a prediction is infinite or NaN.
        upper : ndarray of shape (n_samples, \\*target)
            The upper ends, in the same shape; infinity where a prediction is infinite or NaN.
        """
        check_is_fitted(self)
        X = self._read_inputs(X)
        predicted = self._predicted(self.estimator_, X).astype(np.float64)
        if self._half_width is not None:
            lower, upper = predicted - self._half_width, predicted + self._half_width
        else:
            lower, upper = self._ends(X, predicted)
        unknown = ~np.isfinite(predicted)
        lower[unknown], upper[unknown] = -np.inf, np.inf
        return self._finish(lower, X), self._finish(upper, X)

    def _ends(self, X, predicted):
        """The ends of "cross": order statistics of the ends of the bands around the predictions of the folds."""
        lower, upper, n_out = predicted.copy(), predicted.copy(), n_outside(self.n_calibration_, self._alpha)
        radii = np.concatenate([fold.radii for fold in self._folds])
        of_fold = np.repeat(np.arange(len(self._folds)), [len(fold.scores) for fold in self._folds])
        centres = np.stack([self._predicted(fold.estimator, X) for fold in self._folds], axis=1)
        for i, of_sample in enumerate(centres):
            centre, finite = of_sample[of_fold], np.isfinite(of_sample)[of_fold]
            low, high = np.where(finite, centre - radii, -np.inf), np.where(finite, centre + radii, np.inf)
            lower[i] = np.minimum(lower[i], -_largest(-low, n_out))
            upper[i] = np.maximum(upper[i], _largest(high, n_out))
        if self._counted is not None:
            for end in (lower, upper):
                end[:, ~self._counted] = predicted[:, ~self._counted]
        return lower, upper

    def _finish(self, rows, X):
        return self._domain.finish(rows.astype(X.dtype)).reshape(len(rows), *self._target_shape)

    def score(self, X, y=None, sample_weight=None, *, multioutput="uniform_average"):
        """Coefficient of determination R² of the predictions, as in :meth:`HSSRegressor.score`.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_features)
            Inputs; or trajectories, after a fit to these.
        y : array-like of shape (n_samples, \\*target), default=None
            True targets; none after a fit to trajectories.
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
            If `y` is missing, or given after a fit to trajectories, or does not have the size of the predictions.
        """
        check_is_fitted(self)
        self._check_target(y)
        if self._n_times is None:
            return super().score(X, y, sample_weight, multioutput=multioutput)
        # As in RolloutRegressor: first states are given.
        true, predicted = (states[:, 1:] for states in self._true_and_predicted(X))
        n_channels = self._target_fields.n_channels or 1
        if not np.isfinite(predicted).all():
            return np.full(n_channels, -np.inf) if multioutput == "raw_values" else -np.inf
        weight = None if sample_weight is None else np.repeat(sample_weight, true.shape[1])
        true, predicted = (states.reshape(-1, states.shape[-1]) for states in (true, predicted))
        return field_r2(true, predicted, weight, n_channels, multioutput)

    def _true_and_predicted(self, X):
        """Trajectories and their rollouts, both (n_trajectories, n_times, n_values), for `score` and the scorers."""
        check_is_fitted(self)
        X, true = self._read_again(X, None)
        return tuple(Z.reshape(len(X), self._n_times, -1) for Z in (true, self._predicted(self.estimator_, X)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = not self._has_rollouts()  # trajectories contain their targets
        return tags


def _stepper(estimator):
    """The estimator that may have rollouts: the best one of a search, and the one inside a frozen one."""
    while isinstance(estimator, BaseSearchCV | FrozenEstimator):
        estimator = getattr(estimator, "best_estimator_", estimator.estimator)
    return estimator


def _fit_fold(model, X, y, X_unseen, y_unseen):
    # The fit to all samples issues the warnings that are relevant to the user.
    with quiet():
        estimator = model._fitted(X, y)
        scale = model._scale_of(estimator, X, y)
        return _Fold(estimator, scale, model._scores(estimator, scale, X_unseen, y_unseen))


def _warn_if_infinite(width):
    if not np.isfinite(width).all():
        warn_user(
            "So many predictions for calibration samples are infinite or NaN that the band is infinite; another "
            "estimator or different settings may help.",
            DivergenceWarning,
        )


def _largest(values, k):
    """The k-th largest value along the first axis."""
    return np.partition(values, len(values) - k, axis=0)[len(values) - k]


def n_outside(n, alpha):
    """Number of samples, out of n calibration samples and a new one, that may lie outside; the last one is the edge."""
    return floor(round(alpha * (n + 1), 9))


def least_number(alpha):
    """Smallest number of calibration samples for which bands are finite."""
    n = max(floor(1 / alpha) - 2, 1)
    while n_outside(n, alpha) < 1:
        n += 1
    return n
