"""Time stepping: a regressor that learns one step and repeats it."""

from functools import partial
from math import prod
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, _fit_context, clone
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import check_consistent_length, check_scalar
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .._containers import PART, LazyFields, Rows, as_lazy, blocks, checked, head, select
from .._fields import (
    Domain,
    FieldShape,
    as_rows,
    check_mask,
    check_same_fields,
    check_weight,
    domain_mask,
    find_domain,
    masked_grid,
    on_grid,
    refuse_nan,
)
from .._parameters import unchanged_on_error
from .._warnings import warn_user
from ..exceptions import DivergenceWarning
from ..fitting._evolution import chains
from ..fitting._stability import GROWS, spectral_radius
from ..linalg import LinearMap
from ._batches import max_scales
from ._linear import HSSRegressor
from ._linear_map import LinearFieldMap
from ._local_evolution import LocalEvolutionRegressor
from ._nested import check_takes, nested_grid_shape, reads_batches, refuse_lost_grid, takes_fields
from ._residual import ResidualRegressor
from ._score import FieldRegressorMixin, field_r2
from ._trajectories import STATES, LazyTrajectories, check_trajectories, lazy_trajectories, pairs_of

# Held-out error of a linear map below which samples are regarded as exact.
_ACCURATE = 1e-9
# Growth, relative to the largest known state, above which a step is regarded as unstable.
_UNSTABLE = 100.0


def _is_law(estimator):
    """Whether an estimator learns du/dt from unscaled states, or corrects one that does."""
    while True:
        if isinstance(estimator, ResidualRegressor):
            estimator = estimator.law
        elif isinstance(estimator, BaseSearchCV):
            estimator = estimator.estimator
        else:
            return isinstance(estimator, LocalEvolutionRegressor)


def _sizes(X, y):
    """Largest magnitude of the states y, and how many times their norms are those of the states before, at most."""
    largest = growth = 0.0
    for part in blocks(y):
        following, before = y[part], X[part][:, : y.shape[1]]
        largest = max(largest, float(np.abs(following).max()))
        growth = max(growth, float((np.linalg.norm(following, axis=1) / _norms(before)).max()))
    return largest, growth


def _norms(rows):
    """Norms of rows, infinite for those that are zero."""
    norms = np.linalg.norm(rows, axis=1)
    return np.where(norms > 0, norms, np.inf)


def _same(rows):
    return rows


def _first(rows, n_values, inside=None):
    """States in rows that may hold more, zero outside of a domain."""
    rows = rows[:, :n_values]
    return rows if inside is None else np.where(inside, rows, 0)


def _difference(following, rows):
    return following - rows[:, : following.shape[1]]


def _divided(rows, scale):
    return (rows.reshape(len(rows), len(scale), -1) / scale[:, None]).reshape(len(rows), -1)


def _trajectories(X, y):
    """Number of the trajectory of every pair of rows."""
    order, number = chains(X.T, y.T)
    return number[np.argsort(order)]


class _DivergedError(ArithmeticError):
    """A rollout became infinite or NaN."""


class _Rollouts:
    """States of rollouts, trajectory by trajectory without the first ones, made when slices are read in their order.

    Parameters
    ----------
    model : RolloutRegressor
    initial : Rows
    n_steps : int
    """

    def __init__(self, model, initial, n_steps):
        self.model, self.initial, self.n_steps = model, initial, n_steps
        self.shape = (len(initial) * n_steps, prod(model._target_shape))
        self._at_once = max(PART // (n_steps * initial.shape[1]), 1)
        self._number, self._held = -1, np.empty(0)

    def __getitem__(self, part):
        found, size = [], self._at_once * self.n_steps
        while part.start < part.stop:
            number, first = divmod(part.start, size)
            if number != self._number:
                some = self.initial[number * self._at_once : (number + 1) * self._at_once]
                self._number, self._held = number, self._of(some)
            found.append(self._held[first : first + part.stop - part.start])
            part = slice(part.start + len(found[-1]), part.stop)
        return np.concatenate(found)

    def _of(self, initial):
        rollouts = self.model.rollout(initial.reshape(-1, *self.initial.field_shape), self.n_steps)[:, 1:]
        rollouts = _first(rollouts.reshape(len(rollouts) * self.n_steps, -1), self.shape[1], self.model._domain.outputs)
        if not np.isfinite(rollouts).all():
            raise _DivergedError
        return rollouts


class RolloutRegressor(MetaEstimatorMixin, FieldRegressorMixin, BaseEstimator):
    """Time stepping with any regressor: learns the map from a state to the next one, and repeats it.

    As in section 3.2 of the Neural-HSS paper, the regressor learns the increments u(t + dt) - u(t), divided by the
    largest one in the training data, and :meth:`rollout` sums them. :class:`HSSRegressor` learns the next states
    instead if the equation is linear, since few pairs determine its steps M u(t) = L u(t + dt).

    :class:`HSSRegressor` and :class:`LocalOperatorRegressor` hold out whole trajectories, if there are three or more.

    Samples are trajectories, ``fit(X)``, so that cross-validation and searches never have one trajectory on both sides
    of a split; or pairs of states, ``fit(X, y)``.

    Parameters
    ----------
    estimator : regressor
        Regressor that learns one step: an estimator of this package or of scikit-learn, a pipeline or a search.
        Estimators of this package, and pipelines and searches that consist of these alone, receive states on their
        original grid; all others receive them flattened.
    residual : bool or "auto", default="auto"
        Whether the regressor learns the increments. If False, it learns the next states themselves. "auto" is True,
        except for :class:`HSSRegressor`: it learns the states and, unless these satisfy a linear step exactly, the
        increments as well, and the map that predicts held-out states better is used. :class:`LocalEvolutionRegressor`,
        and :class:`ResidualRegressor` around it, learn the states.
    scale : {"max", None}, default="max"
        With "max", the targets of the regressor are divided by their largest magnitude in the training data, which
        `predict` inverts. Each channel has its own scale, if ``grid_shape`` of a nested estimator, or the mask,
        distinguishes channels from points. Laws of :class:`LocalEvolutionRegressor` refer to the unscaled states.
    mask : array-like of bool and shape (\\*grid), "auto" or None, default=None
        Points of a domain that is not rectangular, True inside; it applies to every channel. Values outside are set to
        zero before they reach the `estimator`; predictions are zero there, or NaN where all training states were NaN.
        Scores refer to the points inside. "auto" selects the points where the states are neither zero nor NaN in all
        samples.

    Attributes
    ----------
    estimator_ : regressor
        The fitted clone of `estimator`.
    increments_ : bool
        Whether it learned increments.
    scale_ : ndarray of shape (n_channels,) or (1,)
        Divisors of its targets, one for each channel.
    mask_ : ndarray of bool and shape (\\*grid) or None
        Points inside the domain; None if all are.
    spectral_radius_ : float or None
        Lower bound on the largest magnitude of the eigenvalues of the step, by iteration. None if the `estimator`, or
        the best one of a search, is not a linear map of this package, or if `X` contains more than the state.
    n_features_in_ : int
        Number of values of a state, including any further features in `X`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the inputs, if `X` had string column names.

    See Also
    --------
    sklearn_hss.metrics.trajectory_l2_error : Error of rollouts.

    Notes
    -----
    Around a network, or pipelines and searches of networks and scalers, trajectories and pairs in large files
    (memory-mapped, h5py, zarr, dask) are read batch by batch.

    To use steps longer than the time between the states of the trajectories, subsample these: ``X[:, ::4]``.

    Scalers belong inside, ``RolloutRegressor(make_pipeline(FieldScaler(), model))``, where they receive states. In a
    pipeline around this class they would receive trajectories, with a time axis that a state does not have.

    A step changes the state only slightly, so persistence, the prediction of no change, has a small error and a score
    near one. It is the baseline for any model: ``RolloutRegressor(DummyRegressor(strategy="constant",
    constant=np.zeros(n_points)))``.

    With pairs, those of one trajectory must be kept together in cross-validation by ``groups =
    np.repeat(np.arange(n_trajectories), n_pairs)`` and :class:`sklearn.model_selection.GroupKFold`. The same applies to
    a search as the `estimator`, for which ``fit(X, groups=np.arange(n_trajectories))`` sets the groups. A search around
    this class, over parameters such as ``estimator__rank``, needs no groups if it is fitted to trajectories.

    References
    ----------
    Neural-HSS paper, section 3.2.

    Li et al., Learning dissipative dynamics in chaotic systems, NeurIPS 2022.

    Examples
    --------
    >>> from sklearn_hss import HSSRegressor, RolloutRegressor
    >>> from sklearn_hss.datasets import make_heat
    >>> from sklearn_hss.metrics import relative_l2_error
    >>> times, U = make_heat(30, 64, solver="exact", return_trajectories=True, random_state=0)
    >>> model = RolloutRegressor(HSSRegressor(random_state=0)).fit(U[:20])
    >>> rollouts = model.rollout(U[20:, 0], n_steps=40)
    >>> rollouts.shape
    (10, 41, 64)
    >>> bool(relative_l2_error(U[20:], rollouts) < 1e-6)
    True
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"])],
        "residual": ["boolean", StrOptions({"auto"})],
        "scale": [StrOptions({"max"}), None],
        "mask": ["array-like", StrOptions({"auto"}), None],
    }

    _input_shape: tuple[int, ...]
    _target_shape: tuple[int, ...]
    _target_fields: FieldShape
    _domain: Domain
    _as_fields: bool
    _largest: float

    def __init__(self, estimator, *, residual="auto", scale="max", mask=None):
        self.estimator = estimator
        self.residual = residual
        self.scale = scale
        self.mask = mask

    # The nested estimator validates its own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None, **fit_params):
        """Learn the step from all pairs of consecutive states.

        Parameters
        ----------
        X : array-like of shape (n_trajectories, n_times, \\*state), or (n_samples, \\*state) if y is given
            Trajectories of at least two times, or states. A state is a field on a grid of any dimension, flat or not,
            with channels or without, as specified by the parameters of the `estimator`, such as ``grid_shape``. float32
            and float64 are preserved, other types are converted to float64. Trajectories of different lengths are
            passed as a list of arrays (n_times, \\*state).
        y : array-like of shape (n_samples, \\*state) or (n_samples,), default=None
            The states one step after those in `X`. They may have fewer features (of flat states) or channels than `X`.
            In this case, the first ones in `X` are the state, and the others are quantities on which a step also
            depends, such as coefficients of the equation; they are constant in a rollout.
        sample_weight : float or array-like of shape (n_trajectories,) or (n_samples,), default=None
            Weights of the trajectories, or of the pairs, or one for all, for an `estimator` that accepts them.
        **fit_params : dict
            Further arguments, which are passed to ``fit`` of the `estimator`. ``groups`` of a search, and
            ``<step>__sample_weight`` of a pipeline, may also have one entry per trajectory.

        Returns
        -------
        object
            This estimator, fitted.

        Raises
        ------
        ValueError
            If the data or parameters are invalid; an earlier fit is then preserved.

        Warns
        -----
        sklearn_hss.exceptions.DivergenceWarning
            If `spectral_radius_` is above one, and above the growth of all training states: the step is unstable.
        """
        with unchanged_on_error(self):
            return self._fit(X, y, sample_weight, fit_params)

    def _fit(self, X, y, sample_weight, fit_params):
        if sample_weight is not None:
            fit_params = {"sample_weight": sample_weight, **fit_params}
        check_takes(self.estimator, fit_params)
        is_law = _is_law(self.estimator)
        if is_law and self.residual is True:
            raise ValueError("residual=True learns increments, but a law du/dt = N(u) requires states; use 'auto'.")
        mask = check_mask(self.mask)
        lazily = reads_batches(self.estimator)
        if y is None:
            X, y, fit_params = pairs_of(lazy_trajectories(X, self) if lazily else X, fit_params, self)
        elif lazily:
            X, y = as_lazy(X, "X"), as_lazy(y, "y")
        (X, input_shape), (y, target_shape) = as_rows(X), as_rows(y, "y")
        domain = Domain()
        if mask is not None and None not in (input_shape, target_shape):
            fields = self._fields_of(mask, input_shape, target_shape)
            domain = find_domain(mask, X, y, *fields)
        X, y = domain.fill(X, y, mask)
        separately = STATES, {**STATES, "ensure_2d": False, "estimator": self}
        judged = validate_data(self, head(X), head(y), validate_separately=separately)
        check_consistent_length(X, y)
        X, y = map(checked, (X, y), judged)
        self._input_shape = input_shape or X.shape[1:]
        self._target_shape = y.shape[1:] if target_shape is None else target_shape
        self._check_shapes()
        _, self._target_fields = self._fields_of(mask, self._input_shape, self._target_shape)
        self._domain, self.mask_ = domain, domain_mask(domain, self._target_fields)
        kept: slice | np.ndarray = slice(None)
        if "sample_weight" in fit_params:
            weight = check_weight(fit_params["sample_weight"], X, X.dtype)
            fit_params["sample_weight"], kept = weight, weight > 0

        # A single name, so that the memory of the states is freed when their increments have been computed.
        y = y if isinstance(y, Rows) else y.reshape(len(y), -1)
        self._largest, growth = _sizes(select(X, kept), select(y, kept))
        # Read off the states, since increments do not tell which pairs are neighbours.
        details = {"_trajectories": _trajectories(X, y)} if isinstance(self.estimator, LinearFieldMap) else {}
        if self.residual == "auto" and isinstance(self.estimator, HSSRegressor):
            self._learn_either(X, y, kept, fit_params, growth, details)
        else:
            increments = bool(self.residual) and not is_law
            if isinstance(X, Rows) or isinstance(y, Rows):
                difference = LazyFields(_difference, y, X, shape=y.shape[1:])
                y = Rows(difference if increments else LazyFields(_same, y, shape=y.shape[1:]), "y")
            else:
                y = _difference(y, X) if increments else y.copy()
            self._learn(X, y, kept, fit_params, details, increments=increments)
        self.spectral_radius_ = self._spectral_radius()
        if self.spectral_radius_ is not None and not self.spectral_radius_ <= GROWS * max(growth, 1):
            warn_user(
                f"The learned step has a spectral radius of {self.spectral_radius_:.4g}, although no training state "
                f"grows by more than a factor of {growth:.4g} in a step: long rollouts will grow without bound. More "
                "pairs, from more diverse states, may help, or a LocalOperatorRegressor with sharing='class' or "
                "two_sided=True.",
                DivergenceWarning,
            )
        return self

    def _learn(self, X, targets, kept, fit_params, details, *, increments):
        """Fit to increments or states, which are overwritten; `details` are attributes of the regressor for the fit."""
        self.increments_ = increments
        n_channels = self._target_fields.n_channels
        divided = self.scale == "max" and not _is_law(self.estimator)
        self.scale_ = max_scales(select(targets, kept), n_channels) if divided else np.ones(1)
        if isinstance(targets, Rows):
            divide = partial(_divided, scale=self.scale_)
            targets = LazyFields(divide, targets, shape=self._target_shape, dtype=X.dtype)
        else:
            channels = targets.reshape(len(targets), len(self.scale_), -1)
            channels /= self.scale_[:, None]
            # Many regressors take a single target in one dimension only.
            shape = self._target_shape if self._as_fields or not self._target_shape else (-1,)
            targets = targets.astype(X.dtype, copy=False).reshape(len(targets), *shape)
        self.estimator_ = clone(self.estimator)
        if isinstance(self.estimator_, LinearFieldMap) and not increments and len(self.scale_) == 1:
            self.estimator_._repeated = float(self.scale_[0])
        vars(self.estimator_).update(details)
        self.estimator_.fit(self._inputs(X), targets, **fit_params)
        for name in details:
            delattr(self.estimator_, name)

    def _learn_either(self, X, y, kept, fit_params, growth, details):
        """Fit a linear map to the states and, unless it is exact, to the increments; keep the stable or better one.

        If the data are exact, the map of the states generalises best, since M u(t) = L u(t + dt) is local, and neither
        M nor L is close to zero. With noise, shrinkage to the identity is better than shrinkage to zero.
        """
        fits = []
        for increments in (False, True):
            targets = y - X[:, : y.shape[1]] if increments else y.copy()
            size = np.linalg.norm(targets[kept])
            doubts: list = []
            self._learn(X, targets, kept, fit_params, {**details, "_doubts": doubts}, increments=increments)
            error, radius = self.estimator_.held_out_error_, self._spectral_radius()
            grows = radius is not None and not radius <= GROWS * max(growth, 1)
            fits.append(((grows, error * size), increments, self.scale_, self.estimator_, doubts))
            if error <= _ACCURATE:
                break
        best = fits[-1] if fits[-1][0] < fits[0][0] else fits[0]
        _, self.increments_, self.scale_, self.estimator_, doubts = best
        for doubt in doubts:
            warn_user(*doubt)

    def _spectral_radius(self):
        """Spectral radius of the step if it is a linear map of states to states; otherwise None."""
        operator = getattr(getattr(self.estimator_, "best_estimator_", self.estimator_), "operator_", None)
        n = prod(self._target_shape)
        if not isinstance(operator, LinearMap) or operator.shape != (n, n) or self._input_shape != self._target_shape:
            return None
        scale = np.repeat(self.scale_, n // len(self.scale_))
        return spectral_radius(lambda u: scale * (operator @ u) + (u if self.increments_ else 0), n)

    def _fields_of(self, mask, *shapes):
        """Grids and channels of states, if the mask or the estimator specifies the grid; otherwise a single channel."""
        grid = masked_grid(mask, nested_grid_shape(self), shapes[0])
        if grid is None:
            return [FieldShape(shape or (1,)) for shape in shapes]
        return [on_grid(shape or (1,), grid, name) for shape, name in zip(shapes, ("X", "y"), strict=True)]

    def _check_shapes(self):
        inputs, targets = self._input_shape, self._target_shape or (1,)
        if len(inputs) != len(targets) or inputs[1:] != targets[1:] or inputs[0] < targets[0]:
            raise ValueError(
                f"y has states of shape {targets}, but X has states of shape {inputs}; they must be equal, except that "
                "X may have further features or channels, after those of the state."
            )
        self._as_fields = takes_fields(self.estimator)
        if not self._as_fields and len(inputs) > 1:
            refuse_lost_grid("estimator", self.estimator, inputs)

    def _inputs(self, rows):
        if isinstance(rows, Rows):
            return LazyFields(_same, rows, shape=self._input_shape)
        return rows.reshape(len(rows), *self._input_shape) if self._as_fields else rows

    def _check_states(self, X, name="X", lazily=False):
        check_is_fitted(self)
        X, shape = as_rows(as_lazy(X, name) if lazily else X, name)
        check_same_fields(shape, FieldShape(self._input_shape), name)
        X = self._domain.fill_inputs(X)
        refuse_nan(X, name, self.mask)
        return checked(X, validate_data(self, head(X), reset=False, **STATES))

    def _step(self, X):
        """Rows of the next states."""
        prediction = np.asarray(self.estimator_.predict(self._inputs(X))).reshape(len(X), -1)
        following = np.empty(prediction.shape, X.dtype)
        for part in blocks(X):
            following[part] = self._following(X[part], prediction[part])
        return following

    def _following(self, X, prediction):
        """The next states, from what the estimator has predicted."""
        following = (prediction.reshape(len(X), len(self.scale_), -1) * self.scale_[:, None]).reshape(len(X), -1)
        if self._domain.outputs is not None:
            following[:, ~self._domain.outputs] = 0
        if self.increments_:
            following = X[:, : following.shape[1]] + following
        return following

    def predict(self, X):
        """Predict the states one step later.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*state)
            States, of the shape seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, \\*state)
            The next states, in the floating-point type of `X`, without the further features or channels of `X`.
        """
        X = self._check_states(X, lazily=reads_batches(self.estimator))
        return self._domain.finish(self._step(X)).reshape(len(X), *self._target_shape)

    def rollout(self, u0, n_steps):
        """Predict trajectories step by step.

        Parameters
        ----------
        u0 : array-like of shape (n_samples, \\*state)
            Initial states, such as ``trajectories[:, 0]``.
        n_steps : int
            Number of steps.

        Returns
        -------
        ndarray of shape (n_samples, n_steps + 1, \\*state)
            Trajectories that begin with the initial states, in the floating-point type of `u0`. A rollout that becomes
            infinite or NaN is NaN from that step on; the others continue.

        Raises
        ------
        ValueError
            If the states do not have the shape seen in `fit`, or `n_steps` is negative.

        Warns
        -----
        sklearn_hss.exceptions.DivergenceWarning
            If rollouts become infinite or NaN; the message states their number and the first such step. Otherwise, if
            they grow to a hundred times the largest state in `u0` and the training data, except the first states there.
        """
        if isinstance(n_steps, bool | np.bool_):
            raise TypeError(f"n_steps must be an integer, not {n_steps}.")
        n_steps = check_scalar(n_steps, "n_steps", Integral, min_val=0)
        X = self._check_states(u0, "u0")
        states = np.empty((len(X), n_steps + 1, X.shape[1]), X.dtype)
        states[:] = X[:, None]
        running, failures = np.arange(len(X)), []
        for step in range(1, n_steps + 1):
            with np.errstate(over="ignore", invalid="ignore"):  # a specific warning is issued below
                following = self._step(states[running, step - 1])
            finite = np.isfinite(following).all(axis=1)
            if not finite.all():
                # Estimators reject such states, so these rollouts end here.
                states[running[~finite], step:] = np.nan
                failures.append((step, np.count_nonzero(~finite)))
                running, following = running[finite], following[finite]
            if not len(running):
                break
            states[running, step, : following.shape[1]] = following
        if failures:
            warn_user(
                f"{sum(n for _, n in failures)} of {len(X)} rollouts became infinite or NaN, the first at step "
                f"{failures[0][0]} of {n_steps}; they are NaN from there on.",
                DivergenceWarning,
            )
        n_state = prod(self._target_shape)  # further features are constant
        known = max(self._largest, float(np.abs(X[:, :n_state]).max()))
        largest = max(float(np.nanmax(states[..., :n_state])), -float(np.nanmin(states[..., :n_state])))
        if largest > _UNSTABLE * known and not failures:
            warn_user(
                f"Rollouts grow to {largest:.1e} within {n_steps} steps, from states of at most {known:.1e}: the "
                "learned step is unstable. Another estimator, different settings or fewer steps may help.",
                DivergenceWarning,
            )
        states[..., :n_state] = self._domain.finish(states[..., :n_state].reshape(-1, n_state)).reshape(
            len(X), n_steps + 1, n_state
        )
        return states.reshape(len(X), n_steps + 1, *self._input_shape)

    def score(self, X, y=None, sample_weight=None, *, multioutput="uniform_average"):
        """Coefficient of determination R² of rollouts, or of single steps if `y` is given.

        Both sums of squares, of the residuals and of the states about the mean state, are taken over trajectories,
        times and grid points together, for every channel. The initial states, which are given, are excluded.

        Parameters
        ----------
        X : array-like of shape (n_trajectories, n_times, \\*state), or (n_samples, \\*state) if y is given
            Trajectories, to be predicted from their first states, or states.
        y : array-like of shape (n_samples, \\*state) or (n_samples,), default=None
            The states one step later.
        sample_weight : array-like of shape (n_trajectories,) or (n_samples,), default=None
            Weights of the trajectories, or of the pairs.
        multioutput : {"uniform_average", "raw_values"}, default="uniform_average"
            The mean over the channels, or an array with one number for each.

        Returns
        -------
        float or ndarray of shape (n_channels,)
            1 for a perfect prediction, 0 for one no better than the mean state; minus infinity if a rollout becomes
            infinite or NaN. For single steps, the score of persistence is already close to 1.
        """
        if y is not None:
            return super().score(X, y, sample_weight, multioutput=multioutput)
        check_is_fitted(self)
        check_consistent_length(X, sample_weight)
        X = lazy_trajectories(X, self) if reads_batches(self.estimator) else X
        channels = self._target_fields.n_channels or 1
        try:
            true, predicted = (self._rows_later if isinstance(X, LazyTrajectories) else self._rows)(X)
            weight = None if sample_weight is None else np.repeat(sample_weight, len(true) // len(sample_weight))
            return field_r2(true, predicted, weight, channels, multioutput)
        except _DivergedError:
            return np.full(channels, -np.inf) if multioutput == "raw_values" else -np.inf

    def _rows(self, X):
        true, predicted = (states[:, 1:].reshape(-1, states.shape[2]) for states in self._true_and_predicted(X))
        if not np.isfinite(predicted).all():
            raise _DivergedError
        return true, predicted

    def _rows_later(self, X):
        predicted = _Rollouts(self, X.states(slice(1)), X.shape[1] - 1)
        first = partial(_first, n_values=predicted.shape[1], inside=self._domain.outputs)
        true = Rows(LazyFields(first, X.states(slice(1, None)), shape=predicted.shape[1:]), "X")
        true.check()
        return true, predicted

    def _true_and_predicted(self, X):
        """Trajectories and their rollouts, both (n_trajectories, n_times, n_values), for `score` and the scorers.

        They contain the states alone: further features of `X` are not predicted, and would dilute a relative error.
        """
        check_is_fitted(self)
        X = check_trajectories(X, self)
        rollouts = self.rollout(X[:, 0], X.shape[1] - 1)
        n_state, inside = prod(self._target_shape), self._domain.outputs
        true, predicted = (states.reshape(*X.shape[:2], -1)[..., :n_state] for states in (X, rollouts))
        if inside is not None:
            true, predicted = (np.where(inside, states, 0) for states in (true, predicted))
        refuse_nan(true.reshape(len(true), -1), "X", self.mask)
        return true, predicted

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False  # trajectories contain their targets
        return tags
