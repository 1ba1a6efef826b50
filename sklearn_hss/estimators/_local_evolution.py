"""Local laws du/dt = N(u), learned from pairs of consecutive states."""

import time
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_consistent_length, check_random_state, check_scalar
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from tqdm.auto import tqdm

from .._endings import python_waits
from .._fields import (
    Domain,
    FieldShape,
    as_rows,
    check_grid_shape,
    check_mask,
    check_same_fields,
    check_spacing,
    check_weight,
    domain_mask,
    input_shape,
    inside_domain,
    masked_grid,
    output_shape,
    refuse_nan,
    warn_of_channels_last,
)
from .._parameters import Count, unchanged_on_error
from .._warnings import warn_user
from ..exceptions import DataWarning, DivergenceWarning, PoorFitWarning, UnverifiedFitWarning
from ..fitting._ends import KINDS
from ..fitting._evolution import Evolution, RidgeStep, fit_evolution
from ..fitting._integrators import ByCoefficient
from ._linear_map import merged_rows
from ._score import FieldRegressorMixin
from ._trajectories import STATES, pairs_of

# Targets with at most this fraction of the values of the inputs are not treated as fields.
_NUMBERS = 0.5
# A law is poor if its error on held-out states is above the first number, and above the second times that of
# persistence.
_GOOD, _EXPLAINS = 1e-3, 0.5
# Factor by which the error of ridge regression must be below that of a law that is not poor.
_BETTER = 0.5
# Rollouts are poor if their error is this many times that of a step.
_GROWS = 30.0
# Second differences of the first size, relative to the deviations from the mean, indicate fields that the grid does not
# resolve; changes of the second size indicate steps that are too long.
_ROUGH, _LONG = 0.7, 0.8
# Terms in the formula that each have less than this share of the largest one are counted, not written.
_MINOR = 1e-3
_NAMES = "uvw"


class LocalEvolutionRegressor(FieldRegressorMixin, BaseEstimator):
    r"""Local law du/dt = N(u), learned from a handful of pairs of states; predictions integrate it.

    Partial differential equations that evolve in time are local: the rate of change at a point depends on the values
    around it, for most equations of physics as a polynomial. A few coefficients, which are the same at all points,
    determine this polynomial. They are computed by shooting: its candidate terms,

    .. math:: u_t = \sum_k c_k T_k(u), \qquad T_k = (u^2)_x,\ u_{xx},\ (u u_x)_x,\ u v^2,\ \dots

    are integrated in time from every state to the next, and Gauss-Newton steps fit the coefficients to the later
    states; the time between states therefore need not be short. Increasingly rich dictionaries of terms are used as
    long as this improves the prediction of held-out states, and negligible terms are removed.

    Parameters
    ----------
    degree : {1, 2, 3} or "auto", default="auto"
        Maximal degree of the polynomial. "auto" tries degrees up to 3.
    radius : {1, 2} or "auto", default="auto"
        Number of neighbours on either side along an axis. "auto" tries radii up to 2, which also corrects the
        discretisation errors of differences on a coarse grid.
    conservative : bool or "auto", default="auto"
        If True, all terms are fluxes between neighbours, so that the sum of u changes at boundaries only; if False,
        they are products of values and differences at each point. "auto" uses fluxes and products of values (reactions
        and sources), and adds products such as ``u v_x`` if these are not sufficient.
    boundary : {"auto", "periodic", "odd", "even"}, or a tuple of these, default="auto"
        Condition at the ends of the axes, for all or for each: "odd" (Dirichlet) continues u beyond an end with the
        opposite sign, so that u is zero there; "even" (Neumann) continues it with equal values, so that the flux
        vanishes. "auto" selects, for every channel, the continuation that is smoothest across the boundary; the same
        applies at the edge of a mask.
    dt : float, default=1.0
        Time between the states of a pair, which determines the unit of the coefficients.
    spacing : float or tuple of float, default=1.0
        Distance between neighbouring points, along all axes or along each.
    form : {"auto", "law"}, default="auto"
        "auto" predicts by ridge regression if this is more accurate on held-out states than any law, as for data that
        satisfy none; "law" always uses a law.
    field_names : list of str, default=None
        Names of the channels in formulas, those of the parameters last. If None, u, v, w, and p1, p2, ... for
        parameters.
    random_state : int, RandomState instance or None, default=None
        Determines which trajectories are held out. All pairs enter the final fit.
    grid_shape : int or tuple of int, default=None
        Grid of the states, such as ``(64, 64)``, required if they are flattened or have channels. If None, it is the
        shape of the mask, if there is one, otherwise all dimensions of a state.
    mask : array-like of bool and shape (\*grid), "auto" or None, default=None
        Points of a domain that is not rectangular, True inside. Values outside, such as NaN, are ignored. "auto"
        selects the points where the later states are neither zero nor NaN in all samples.
    verbose : int, default=0
        With 1, a progress bar is shown; with 2, every candidate law is printed.

    Attributes
    ----------
    formula_ : str
        The law, with one line for each channel, such as ``u_t = -0.5 (u^2)_x + 0.001 u_xx``. Terms with a share below
        a thousandth are not written, but their number is given.
    law_ : list of dict
        Terms of the law: "field", "term", "coefficient", and "share", the size of the term on the training states
        relative to the largest term of its field; ``pandas.DataFrame(model.law_)`` converts it to a table. Empty if
        ridge regression is used.
    form_ : {"law", "ridge"}
        The form used for predictions.
    errors_ : dict
        Mean relative errors on held-out pairs: of the "law" in one step; "rollout", its mean over the steps of held-out
        trajectories; of "ridge" regression; and of "persistence", the assumption of no change.
    residual_ : float
        Mean relative error of the law for all training pairs.
    boundary_ : list of list of str
        For every channel and axis, "periodic", or the continuations at the lower and upper ends.
    candidates_ : list of dict
        The candidate laws; ``pandas.DataFrame(model.candidates_)`` converts it to a table.
    reason_ : str
        Reason for the choice.
    n_parameters_ : int
        Number of coefficients of the law, or of the ridge regression.
    mask_ : ndarray of bool and shape (\*grid) or None
        Points inside the domain; None if all are.
    grid_shape_ : tuple of int
        Grid of the states.
    n_features_in_ : int
        Number of values of a state, including any parameters in `X`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the inputs, if `X` had string column names.

    See Also
    --------
    RolloutRegressor : Time stepping with any regressor, including this one.
    ResidualRegressor : A law and a correction that learns its residuals.
    LocalOperatorRegressor : Laws of stationary problems, and linear time steps.

    Notes
    -----
    The law describes the states on their grid, not the equation in the limit of fine grids: on coarse grids, the
    coefficients differ from those of the equation, and further terms account for unresolved scales.

    The method does not apply to laws that are not polynomials or not local, to fields that depend on unobserved fields,
    or to states that are too far apart in time or too rough for their grid. This is detected on held-out states (see
    `errors_`), and a warning names the most likely cause.

    References
    ----------
    Brunton, Proctor, Kutz: Discovering governing equations from data by sparse identification of nonlinear dynamical
    systems, PNAS 113 (2016), who differentiate densely sampled data instead.

    Bock: Recent advances in parameter identification techniques for ODE (1983), on shooting.

    Examples
    --------
    Burgers' equation from ten states of one simulation:

    >>> from sklearn_hss import LocalEvolutionRegressor
    >>> from sklearn_hss.datasets import make_burgers
    >>> from sklearn_hss.metrics import relative_l2_error
    >>> times, U = make_burgers(2, 64, viscosity=1e-2, t_final=2.0, return_trajectories=True, random_state=0)
    >>> model = LocalEvolutionRegressor(degree=2, dt=0.2, spacing=1 / 64, random_state=0).fit(U[:1])
    >>> bool(relative_l2_error(U[1], model.rollout(U[1:, 0], 10)[0]) < 0.03)
    True
    """

    _domain: Domain
    _input_shape: FieldShape
    _output_shape: FieldShape
    _source_shape: tuple[int, ...]
    _target_shape: tuple[int, ...]
    _evolution: Evolution | None
    _linear: RidgeStep
    _n_evolving: int

    _parameter_constraints: dict = {
        "degree": [Count(1, 3), StrOptions({"auto"})],
        "radius": [Count(1, 2), StrOptions({"auto"})],
        "conservative": ["boolean", StrOptions({"auto"})],
        "boundary": [StrOptions({"auto", *KINDS}), tuple, list],
        "dt": [Interval(Real, 0, None, closed="neither")],
        "spacing": [Interval(Real, 0, None, closed="neither"), tuple, list],
        "form": [StrOptions({"auto", "law"})],
        "field_names": [list, tuple, None],
        "random_state": ["random_state"],
        "grid_shape": [tuple, list, Count(1), None],
        "mask": ["array-like", StrOptions({"auto"}), None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        degree="auto",
        radius="auto",
        *,
        conservative="auto",
        boundary="auto",
        dt=1.0,
        spacing=1.0,
        form="auto",
        field_names=None,
        random_state=None,
        grid_shape=None,
        mask=None,
        verbose=0,
    ):
        self.degree = degree
        self.radius = radius
        self.conservative = conservative
        self.boundary = boundary
        self.dt = dt
        self.spacing = spacing
        self.form = form
        self.field_names = field_names
        self.random_state = random_state
        self.grid_shape = grid_shape
        self.mask = mask
        self.verbose = verbose

    # Fit

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        r"""Learn the law from all pairs of consecutive states.

        Parameters
        ----------
        X : array-like of shape (n_trajectories, n_times, \*state), or (n_samples, \*state) if y is given
            Trajectories of at least two times, or states: fields on the grid, or (n_channels, \*grid) together with
            `grid_shape` or a mask. Trajectories of different lengths are passed as a list of arrays. Last channels that
            never change are parameters of the law, such as rates or coefficients.
        y : array-like of shape (n_samples, \*state), default=None
            The states a time `dt` after those in `X`. They may have fewer channels, in which case the remaining
            channels of `X` are parameters.
        sample_weight : array-like of shape (n_trajectories,) or (n_samples,), default=None
            Weights of the trajectories, or of the pairs.

        Returns
        -------
        object
            This estimator, fitted.

        Raises
        ------
        ValueError
            If the data or parameters are invalid, before any fitting.

        Warns
        -----
        sklearn_hss.exceptions.PoorFitWarning
            If the law predicts held-out states poorly, or worse than ridge regression, which is then used. The message
            names the most likely cause.
        sklearn_hss.exceptions.UnverifiedFitWarning
            If there are too few pairs to hold any out.
        sklearn_hss.exceptions.DataWarning
            If the targets are not fields, for which there is no law: ridge regression then predicts them.
        """
        with unchanged_on_error(self), python_waits(), torch.inference_mode(False), torch.enable_grad():
            warnings = self._fit(X, y, sample_weight)
        for message, category in warnings:
            warn_user(message, category)
        return self

    def _fit(self, X, y, sample_weight):
        if y is None:
            X, y, given = pairs_of(X, {} if sample_weight is None else {"sample_weight": sample_weight}, self)
            sample_weight = given.get("sample_weight")
        mask = check_mask(self.mask)
        (X, x_shape), (y, y_shape) = as_rows(X), as_rows(y, "y")
        grid_shape = masked_grid(mask, check_grid_shape(self.grid_shape), x_shape)
        X, y, domain = inside_domain(mask, X, y, (x_shape, y_shape), grid_shape, sample_weight)
        X, y = validate_data(
            self, X, y, validate_separately=(STATES, {**STATES, "ensure_2d": False, "estimator": self})
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
        n_in, n_out = inputs.n_channels or 1, outputs.n_channels or 1
        is_field = outputs.grid == inputs.grid and n_in >= n_out
        if not is_field and outputs.size > max(1, _NUMBERS * inputs.size):
            raise ValueError(
                f"y has states of shape {outputs.shape}, but X has states of shape {inputs.shape}; they must be equal, "
                "except that X may have further channels, after those of the state."
            )
        spacing, boundary = self._per_axis(inputs.grid)
        names = self._field_names(n_in, n_out)
        X, y, roots, _ = merged_rows(X, y, sample_weight)
        Z, U = np.ascontiguousarray(X.T), np.ascontiguousarray(y.T)
        evolution, n_evolving = None, n_out
        if is_field:
            changes = np.ptp((U - Z[: len(U)]).reshape(n_out, -1), axis=1) + abs(U - Z[: len(U)]).reshape(
                n_out, -1
            ).max(1)
            n_evolving = int(np.flatnonzero(changes).max(initial=0)) + 1
        if is_field and min(inputs.grid) > 2:
            evolution = self._find(
                Z,
                U[: n_evolving * int(np.prod(inputs.grid))],
                roots,
                inputs,
                outputs,
                n_evolving,
                domain,
                spacing,
                boundary,
            )
            linear = evolution.linear
        else:
            linear = RidgeStep(Z, U, roots, increments=is_field)
        self.grid_shape_, self._domain = inputs.grid, domain
        self._source_shape, self._target_shape = x_shape, target_shape
        self._input_shape, self._output_shape = inputs, outputs
        self._evolution, self._linear, self._n_evolving = evolution, linear, n_evolving
        self._largest = float(np.abs(U).max(initial=0.0))
        self.mask_ = domain_mask(domain, outputs)
        return self._describe(Z, U, names, is_field)

    @property
    def _target_fields(self):
        return self._output_shape

    def _per_axis(self, grid):
        """Spacing and boundary condition of every axis."""
        boundary = (self.boundary,) * len(grid) if isinstance(self.boundary, str) else tuple(self.boundary)
        if len(boundary) != len(grid) or not all(kind in ("auto", *KINDS) for kind in boundary):
            raise ValueError(
                f"boundary={self.boundary!r} must be 'auto', 'periodic', 'odd' or 'even', or one of these for each of "
                f"the axes of the grid {grid}."
            )
        return check_spacing(self.spacing, grid), boundary

    def _field_names(self, n_in, n_out):
        if self.field_names is not None:
            if len(self.field_names) != n_in or not all(isinstance(name, str) for name in self.field_names):
                raise ValueError(
                    f"field_names={self.field_names!r} must be {n_in} strings, one for each of the channels of X."
                )
            return list(self.field_names)
        states = list(_NAMES[:n_out]) if n_out <= len(_NAMES) else [f"u{c + 1}" for c in range(n_out)]
        n_further = n_in - n_out
        return states + (["p"] if n_further == 1 else [f"p{c + 1}" for c in range(n_further)])

    def _find(self, Z, U, roots, inputs, outputs, n_evolving, domain, spacing, boundary):
        inside = domain_mask(domain, outputs)
        bar, begun = None, time.perf_counter()
        if self.verbose == 1:
            bar = tqdm(desc="LocalEvolutionRegressor", unit="stage", dynamic_ncols=True)

        def report(stage, stages, n_terms, error):
            if bar is not None:
                bar.total = len(stages)
                if stage in stages:
                    bar.n = stages.index(stage) + 1
                bar.set_postfix_str(f"{n_terms} terms, error {error:.1e}")
            elif self.verbose:
                seconds = time.perf_counter() - begun
                print(f"[HSS] {seconds:7.2f} s  error {error:8.1e}  {n_terms} terms, {stage}", flush=True)

        try:
            return fit_evolution(
                Z,
                U,
                roots,
                inputs.grid,
                n_channels=n_evolving,
                dt=float(self.dt),
                spacing=spacing,
                inside=inside,
                conditions=boundary,
                options={
                    "degree": 3 if self.degree == "auto" else self.degree,
                    "radius": min(2 if self.radius == "auto" else self.radius, (min(inputs.grid) - 1) // 2),
                    "conservative": self.conservative,
                },
                rng=check_random_state(self.random_state),
                report=report if self.verbose else None,
            )
        finally:
            if bar is not None:
                bar.close()

    def _describe(self, Z, U, names, is_field):
        """Set the attributes that describe the fit, and return the warnings for the user."""
        evolution = self._evolution
        self.errors_, self.candidates_, self.boundary_ = {}, [], None
        self.residual_, self.form_ = np.nan, "ridge"
        self.law_, self.formula_ = [], ""
        if evolution is None:
            self.n_parameters_ = self._linear.n_parameters
            if is_field:
                self.reason_ = f"the grid {self.grid_shape_} has too few points for a law"
            else:
                self.reason_ = "the targets are not fields on the grid of X"
            return [(f"There is no law, as {self.reason_}: ridge regression is used instead.", DataWarning)]
        self.errors_, self.candidates_ = dict(evolution.errors), list(evolution.candidates)
        self.residual_ = evolution.residual
        self.boundary_ = [
            ["periodic" if e[0] == "periodic" else "/".join(e) for e in line.ends] for line in evolution.lines
        ]
        errors = self.errors_
        poor = errors["law"] > max(_GOOD, _EXPLAINS * errors["persistence"])
        # The end of a trajectory lies in the span of its beginning, where ridge regression may look too accurate.
        better = errors["ridge"] < (_BETTER if evolution.independent and not poor else 1.0) * errors["law"]
        by_law = self.form == "law" or not (better and (poor or evolution.independent))
        if by_law:
            self.form_, self.n_parameters_ = "law", len(evolution.law.slots)
            self.law_ = _table(evolution.law, Z, names)
            self.formula_ = _formula(self.law_, names[: self._n_evolving])
        else:
            self.n_parameters_ = self._linear.n_parameters
        kinds = {"law": "local law", "ridge": "ridge regression"}
        self.reason_ = (
            f"errors for held-out states are {errors['law']:.1e} by the local law, {errors['ridge']:.1e} by ridge "
            f"regression and {errors['persistence']:.1e} without any change; {kinds[self.form_]} predicts"
        )
        found: list[tuple[str, type[Warning]]] = []
        if not evolution.verified:
            found.append(
                ("There are too few pairs to hold any out: the error of the law is unknown.", UnverifiedFitWarning)
            )
        unstable = (
            errors["rollout"] > max(_GROWS * errors["law"], 3 * _GOOD) and errors["rollout"] > errors["persistence"]
        )
        if not by_law or poor or unstable:
            found.append(
                (
                    f"No local law was found that explains the states: {self.reason_}. {self._cause(Z, U)}",
                    PoorFitWarning,
                )
            )
        return found

    def _cause(self, Z, U):
        """Likeliest cause of a poor law, in a sentence."""
        n = int(np.prod(self.grid_shape_))
        fields = Z[: self._n_evolving * n].reshape(self._n_evolving, *self.grid_shape_, -1)
        deviation = fields - fields.mean(axis=tuple(range(1, fields.ndim - 1)), keepdims=True)
        size = np.sqrt(np.square(deviation).mean()) or 1.0
        rough = max(
            np.sqrt(np.square(np.diff(fields, 2, axis=axis)).mean()) / size for axis in range(1, fields.ndim - 1)
        )
        if rough > _ROUGH:
            return "Likeliest cause: the grid does not resolve the states, or they have noise; finer grids help."
        if self.errors_["persistence"] > _LONG:
            return "Likeliest cause: the time between the states of a pair is too long; intermediate states help."
        if Z.shape[1] < 3:
            return "Likeliest cause: too few pairs."
        return (
            "Likeliest cause: a law that is not a polynomial of degree 3, or not local, or that depends on fields or "
            "forces which are not given; a ResidualRegressor or a network may learn the residuals of the law."
        )

    # Use

    def _states(self, X, name="X"):
        """Rows of checked states."""
        check_is_fitted(self, "errors_")
        X, shape = as_rows(X, name)
        check_same_fields(shape, self._input_shape, name)
        X = self._domain.fill_inputs(X)
        refuse_nan(X, name, self.mask)
        return validate_data(self, X, reset=False, **STATES)

    def _step(self, Z):
        """States a step later, in columns, including the channels of parameters; NaN where the law is unstable."""
        if self._evolution is None or self.form_ == "ridge":
            found = self._linear.step(Z)
            return np.concatenate([found, Z[len(found) : self._output_shape.size]])
        found = self._evolution.step(Z)
        return np.concatenate([found, Z[len(found) : self._output_shape.size]])

    def predict(self, X):
        r"""Predict the states a time `dt` later.

        Parameters
        ----------
        X : array-like of shape (n_samples, \*state)
            States, of the shape seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, \*state)
            The later states, in the floating-point type of `X`, without the parameters in `X`.

        Warns
        -----
        sklearn_hss.exceptions.DivergenceWarning
            If the law is unstable for some states, for which no change is predicted.
        """
        X = self._states(X)
        Z = np.ascontiguousarray(X.T, dtype=np.float64)
        found = self._step(Z)
        bad = ~np.isfinite(found).all(axis=0)
        if bad.any():
            found[:, bad] = Z[: len(found), bad]
            warn_user(
                f"The law is unstable for {bad.sum()} of {len(bad)} states, which may be larger or steeper than the "
                "training states; no change is predicted for them.",
                DivergenceWarning,
            )
        found = self._domain.finish(np.ascontiguousarray(found.T, dtype=X.dtype))
        return found.reshape(len(X), *self._target_shape)

    def rollout(self, u0, n_steps):
        r"""Predict trajectories step by step.

        Parameters
        ----------
        u0 : array-like of shape (n_samples, \*state)
            Initial states, such as ``trajectories[:, 0]``.
        n_steps : int
            Number of steps.

        Returns
        -------
        ndarray of shape (n_samples, n_steps + 1, \*state)
            Trajectories that begin with the initial states, parameters included. One that becomes unstable is NaN from
            there on.

        Raises
        ------
        ValueError
            If the states do not have the shape seen in `fit`, or `n_steps` is negative.

        Warns
        -----
        sklearn_hss.exceptions.DivergenceWarning
            If trajectories become unstable; the message states their number and the first such step.
        """
        n_steps = check_scalar(n_steps, "n_steps", Integral, min_val=0)
        X = self._states(u0, "u0")
        Z = np.array(X.T, dtype=np.float64, order="C")
        found = np.repeat(Z.T[:, None], n_steps + 1, axis=1)
        running, failures = np.arange(len(X)), []
        for step in range(1, n_steps + 1):
            now = self._step(Z[:, running])
            good = np.isfinite(now).all(axis=0)
            if not good.all():
                failures.append((step, np.count_nonzero(~good)))
                found[running[~good], step:] = np.nan
                running, now = running[good], now[:, good]
            if not len(running):
                break
            Z[: len(now), running] = now
            found[running, step] = Z[:, running].T
        if failures:
            warn_user(
                f"{sum(n for _, n in failures)} of {len(X)} rollouts become unstable, the first at step "
                f"{failures[0][0]} of {n_steps}; they are NaN from there on.",
                DivergenceWarning,
            )
        n_out = self._output_shape.size
        flat = found.reshape(-1, found.shape[2])
        flat[:, :n_out] = self._domain.finish(flat[:, :n_out].copy())
        return found.astype(X.dtype).reshape(len(X), n_steps + 1, *self._source_shape)

    def derivative(self, X):
        r"""Evaluate the rates of change du/dt of states, by the law.

        Parameters
        ----------
        X : array-like of shape (n_samples, \*state)
            States, of the shape seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, \*state)

        Raises
        ------
        ValueError
            If there is no law.
        """
        X = self._states(X)
        if self._evolution is None or self.form_ == "ridge":
            raise ValueError(f"There is no law: {self.reason_}.")
        Z = np.ascontiguousarray(X.T, dtype=np.float64)
        rates = self._evolution.law.polynomial(Z)
        found = np.zeros((len(X), self._output_shape.size))
        found[:, : len(rates)] = rates.T
        found = self._domain.finish(found.astype(X.dtype))
        return found.reshape(len(X), *self._target_shape)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False  # trajectories contain their targets
        return tags


def _table(law, Z, names):
    """Terms of a law with their coefficients and shares, grouped by field, in descending order of the shares."""
    some = Z[:, :: max(Z.shape[1] // 20, 1)]
    sizes = np.sqrt(np.square(ByCoefficient(law.polynomial, law.slots)(some)).mean((0, 1)))
    rows = [
        {
            "field": names[c],
            "term": law.groups[g].names(names)[t],
            "coefficient": float(value),
            "share": abs(value) * size,
        }
        for (g, t, c), value, size in zip(law.slots, law.values, sizes, strict=True)
    ]
    largest = {name: max(row["share"] for row in rows if row["field"] == name) for name in {r["field"] for r in rows}}
    rows = [{**row, "share": float(row["share"] / (largest[row["field"]] or 1.0))} for row in rows]
    return sorted(rows, key=lambda row: (names.index(row["field"]), -row["share"]))


def _formula(table, names):
    """The law with one line for each field."""
    lines = []
    for name in names:
        own = [row for row in table if row["field"] == name]
        text = ""
        for row in own:
            if row["share"] >= _MINOR:
                sign = "-" if row["coefficient"] < 0 else "+"
                factor = "" if row["term"] == "1" else f" {row['term']}"
                text += f" {sign} {abs(row['coefficient']):.4g}{factor}"
        text = text.removeprefix(" + ").replace(" - ", "-", 1) if text.startswith(" - ") else text.removeprefix(" + ")
        n_minor = sum(row["share"] < _MINOR for row in own)
        if n_minor:
            text += f" + {n_minor} small term{'s' if n_minor > 1 else ''}"
        lines.append(f"{name}_t = {text or '0'}")
    return "\n".join(lines)
