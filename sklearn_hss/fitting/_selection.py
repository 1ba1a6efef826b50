"""Selection of a form: every form is fitted to some samples and validated on the others."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..linalg import LinearMap, OperatorSum
from ._form import EXACT, WORTHWHILE, Form, NotApplicable, OtherDimension
from ._options import Options
from ._samples import largest
from ._stability import grows
from ._verdict import EXTENDS, SMALLEST, doubts, explain, rivals
from .forms import FORMS
from .forms._matrix import correction

# Errors above the first indicate noisy samples, errors below the second exact ones; with an error above the third, a
# correction cannot rescue a fit.
_NOISY, _ACCURATE, _HOPELESS = 1e-7, 1e-6, 0.3
# Factor of the smallest error up to which a correction without penalty, exact on the span of the samples, is preferred.
_NEARLY = 1.5
# Error below which slow forms are not tried.
_GOOD = 1e-3
# Error below which a form is nearly correct.
_NEAR = 0.2
# Largest ratio of the residual of a fit to all samples to the error on held-out ones, or to the smallest one reported.
_SUSPICIOUS = 10
# Smallest number of groups of which one can be held out.
_JUDGED = 3
# Number of folds of a cross-validation.
_FOLDS = 5
# Exceptions that torch and SciPy raise for singular matrices.
_DEGENERATE = (NotApplicable, np.linalg.LinAlgError, torch.linalg.LinAlgError)


@dataclass
class Trial:
    """A candidate, fitted to the training samples.

    Attributes
    ----------
    form : Form
    operator : object
        The fit; None if it failed.
    base_error : float
        Mean relative error on held-out samples.
    error : float
        The same with the correction, or after truncation to the requested rank.
    alpha : float or None
        Penalty of the correction.
    fitted : object
        The fit to all samples, once there is one.
    """

    form: Form
    operator: Any
    base_error: float
    error: float
    alpha: float | None = None
    fitted: Any = None

    def released(self):
        """Return the operator and release it, since it may be large with its factors."""
        operator, self.operator = self.operator, None
        return operator


@dataclass
class Fit:
    """The selected map, fitted to all samples; see the attributes of :class:`sklearn_hss.HSSRegressor`.

    Attributes
    ----------
    operator : LinearMap
        The map A with Y = A X + c.
    form : Form
        The selected candidate.
    fitted : object
        Result of its `fit` to all samples, in units of their largest entries.
    alpha : float or None
        Ridge penalty in use.
    held_out_error, residual : float
        Mean relative error on held-out samples (NaN without any) and on all.
    reason : str
        Reason for the choice of this candidate.
    candidates : list of dict
        All candidates that were tried.
    completion : str
        Extrapolation of the map to inputs outside the span of the samples.
    seen : list of Tensors of shape (n_j, p_j), or None
        Orthonormal bases of the span of the inputs in each mode, if the map is determined there only.
    vanishing : Tensor of bool, of shape grid_out
        Points where all outputs are zero.
    intercept : Tensor of shape grid_out, or None
        The field c, if there is one.
    doubts : callable
        Returns a list of warnings for the user, with their categories. It is called only if needed, since the diagnosis
        takes time.
    """

    operator: LinearMap
    form: Form
    fitted: Any
    alpha: float | None
    held_out_error: float
    residual: float
    reason: str
    candidates: list
    completion: str
    seen: list[torch.Tensor] | None
    vanishing: torch.Tensor
    intercept: torch.Tensor | None
    doubts: Callable[[], list[tuple[str, type[Warning]]]]


def fit(samples, options=None, *, intercept=False, random_state=None, forms=FORMS, groups=None, report=None) -> Fit:
    """Fit a linear map to samples: try the applicable forms, and select the best predictor.

    Parameters
    ----------
    samples : Samples
    options : Options, default=None
    intercept : bool or "auto", default=False
        Whether to fit Y = A X + c. "auto" does so if this substantially reduces the error on held-out samples.
    random_state : numpy.random.RandomState, default=None
        Determines the held-out samples.
    forms : list of subclasses of Form
        Candidate forms, in order of preference.
    groups : ndarray of int, of shape (n_samples,), default=None
        Groups of dependent samples, such as trajectories. If there are three or more, whole ones are held out.
    report : callable, default=None
        Called with the name of a candidate, its error and its time in seconds.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If a parameter is invalid for the data.
    """
    options = options or Options()
    options.check(samples.grid_in, samples.grid_out)
    forms = named(forms, options)
    order, n_valid = _random_order(samples.n_samples, groups, random_state or np.random.RandomState(0))
    samples = samples.pick(torch.from_numpy(order))
    search = select(forms, Search(samples, options, forms, report, intercept is True, n_valid))
    missed = {type(form) for form in search.beyond if form.min_samples < samples.n_samples - search.centred}
    if search.wanting and missed:
        # With a single held-out sample, there may be enough training samples for a form that needs more of them.
        rival = Search(samples, options, forms, report, search.centred, n_valid=1)
        rival = select([form for form in forms if form in missed], rival)
        search = rival if rival.betters(search) else search
    if intercept == "auto" and samples.n_samples > 2 and search.wanting:
        rival = Search(samples, options, forms, report, True, n_valid)
        # A constant spoils every form. Whether there is one is tested with a form that is nearly correct without it, or
        # otherwise with the forms that are tried first.
        leader = search.leader
        if leader is not None and search.reached < _NEAR:
            rival.consider([rival.attempt(leader.form, None)])
        else:
            select([f for f in forms if f.effort < 2 or (leader is not None and f is type(leader.form))], rival)
        if rival.betters(search):
            search = select(forms, rival)
    search = select(forms, search, slow=True)
    if search.options.degree > 1 and search.reached > _GOOD:
        search.cross_validate()
    return search.solve()


def _random_order(n_samples, groups, rng):
    """A random order of samples, and the number of the first ones that are held out, a fifth if possible.

    The samples behind these are in random order, too, so that the first ones, to which large fits are restricted, are
    representative.
    """
    n_valid = max(n_samples // 5, 1)
    if groups is None or len(names := _in_order(groups)) < _JUDGED:
        return rng.permutation(n_samples), n_valid
    out = np.isin(groups, rng.permutation(names)[: max(len(names) // 5, 1)])
    return np.concatenate([rng.permutation(np.flatnonzero(part)) for part in (out, ~out)]), int(out.sum())


def _in_order(groups):
    """The different values, in the order in which they come first."""
    names, first = np.unique(groups, return_index=True)
    return names[np.argsort(first)]


def select(forms, search, *, slow=False):
    """Follow the paths of forms from the fast and special to the slow and general.

    A path ends when its form expects no benefit from richer candidates. Its finalist is the simplest candidate whose
    error is about as small as the smallest one of the path, according to `worthwhile` of the form. Forms of effort 0
    are always tried; those of effort 1 unless a finalist is exact for all inputs without a correction, those of effort
    2 unless one is accurate, and those of effort 3 unless one has an error below 1e-3. The map is selected from the
    finalists that are about as good as the best one:

    - With noise, these have up to 1.2 times its error. Maps for all inputs are preferred, and among these, maps that do
      not amplify noise, or whose correction needs no penalty: held-out samples are noisy as well, and hide some of it.
      If nothing fits, forward maps are preferred, since the predictions of a wrong inverse are arbitrary.
    - Without noise, these have up to three times its error. Maps that depend least on their correction are preferred,
      since held-out samples do not test inputs outside the span of the training samples; ties are resolved by the order
      of the list.

    If maps are to be repeated, those that do not blow up are preferred, and ties are resolved in favour of local laws,
    since these describe time steps, and states soon span few dimensions only.

    Parameters
    ----------
    forms : list of subclasses of Form
    search : Search
    slow : bool, default=False
        Whether to try the forms of effort 3, or the others.

    Returns
    -------
    Search
    """
    for form in sorted(forms, key=lambda form: form.effort):
        wanted = (True, not search.exact, search.wanting, search.reached > _GOOD)[form.effort]
        if (form.effort == 3) == slow and (wanted or search.options.solver != "auto") and form not in search.walked:
            search.walk(form)
    return search


def named(forms, options):
    """The forms that the options permit."""
    found = [f for f in forms if options.solver == f.solver or (options.solver == "auto" and not f.by_name_only)]
    found = [f for f in found if options.form in ("auto", f.kind)]
    if not found:
        raise ValueError(
            f"solver={options.solver!r} does not apply to form={options.form!r}; leave one of them at 'auto'."
        )
    return found


class Search:
    """Training and held-out samples, and the trials on them.

    Parameters
    ----------
    samples : Samples
        In random order; the first ones are held out.
    options : Options
    forms : list of subclasses of Form
        Forms in order of preference.
    report : callable or None
        As in :func:`fit`.
    centred : bool
        Whether the means of the training samples are subtracted, also from held-out samples.
    n_valid : int
        Number of held-out samples.
    """

    def __init__(self, samples, options, forms, report, centred, n_valid):
        self.verified = samples.n_samples - n_valid > int(centred)
        parts = (slice(n_valid, None), slice(n_valid)) if self.verified else (slice(None), slice(None))
        self.centred = centred
        self.options, self.forms, self.report = options, forms, report
        self.means: Any = samples.means() if centred else None
        whole = samples.about(self.means) if centred else samples
        units = largest(whole)
        self.everything = whole.scaled(units)
        self.train, self.valid = (self.everything.pick(part) for part in parts)
        if centred and self.verified:
            # Held-out samples must not enter the means.
            means = samples.pick(parts[0]).means()
            self.train, self.valid = (samples.pick(part).about(means).scaled(units) for part in parts)
        self.completing: Any = None  # the trial that extends a map to other inputs
        self.rivalry: Any = None  # the result of `rivals`
        self.walked, self.trials, self.finalists, self.beyond, self.declined = [], [], [], [], []

    @property
    def exact(self):
        """Whether a map for all inputs is exact without correction and truncation."""
        return any(t.base_error <= EXACT and (t.form.everywhere or self.spans_all) for t in self.finalists)

    @property
    def reached(self):
        """The smallest error so far, with or without correction and truncation."""
        return min((min(t.error, t.base_error) for t in self.finalists), default=math.inf)

    @property
    def wanting(self):
        """Whether nothing is accurate yet."""
        return self.reached > self.train.accurate

    @property
    def size(self):
        """Mean norm of the held-out outputs, in the units of the user."""
        return self.everything.units[1] * self.valid.typical

    @property
    def leader(self):
        """The best finalist so far."""
        return min(self.finalists, key=lambda t: t.error, default=None)

    def betters(self, other):
        """Whether the smallest error is clearly below that of another search."""
        return self.reached * self.size * WORTHWHILE < other.reached * other.size

    # Trials

    def walk(self, form):
        """Try the candidates of a path."""
        self.walked.append(form)
        path, error = form.path(self.train, self.options), None
        own: list[Trial] = []
        try:
            while True:
                candidate = path.send(error)
                if candidate.min_samples > self.train.n_samples:
                    self.beyond.append(candidate)
                    break
                own.append(self.attempt(candidate, own[-1].operator if own else None))
                error = own[-1].base_error
        except StopIteration:
            pass
        except NotApplicable as reason:
            self.declined.append(reason)
        self.consider(own)

    def consider(self, trials):
        """Add the trials of a path, and select its finalist."""
        self.trials += trials
        finite = [t for t in trials if math.isfinite(t.base_error)]
        if finite:
            form = finite[0].form
            bound = max(form.worthwhile * min(t.base_error for t in finite), form.floor)
            self.finalists.append(self.finished(next(t for t in finite if t.base_error <= bound)))

    def attempt(self, form, start):
        """Fit a candidate to the training samples, and note its error on the others."""
        begin = time.perf_counter()
        try:
            operator = form.fit(self.train, start)
            error = self.valid.error(self.valid.predictions(operator), self.train.typical)
        except _DEGENERATE:
            operator, error = None, math.inf
        if self.report is not None:
            self.report(f"{form}, about the means" if self.centred else str(form), error, time.perf_counter() - begin)
        return Trial(form, operator, error, error)

    def finished(self, trial):
        """The trial after truncation to a given rank or number of terms, or with the best correction."""
        train, valid, form = self.train, self.valid, trial.form
        if self.options.cut:
            if trial.base_error >= 1:  # no better than zero, and truncation takes time
                return trial
            try:
                prediction = form.deliver(trial.operator, train).apply(valid.X)
            except _DEGENERATE:
                return replace(trial, error=math.inf)
            return replace(trial, error=valid.error(prediction, train.typical))
        if not form.correctable or self.options.alpha is None or not 0.1 * EXACT < trial.base_error < _HOPELESS:
            return trial
        ridge, held_out = correction(trial.operator.apply(train.X), train), trial.operator.apply(valid.X)
        if form.points_per_direction * len(ridge.s) > min(train.X[0].numel(), train.Y[0].numel()):
            return trial
        trials = []
        for alpha in ridge.alphas() if self.options.alpha == "auto" else [train.penalty(self.options.alpha)]:
            left, right = ridge.factors(alpha)
            change = (held_out.flatten(1) @ right @ left.mT).view_as(held_out)
            trials.append(replace(trial, error=valid.error(held_out + change, train.typical), alpha=alpha))
        best = min(trials, key=lambda t: t.error)
        # Exact samples should be reproduced exactly, so that the result is as good as least squares on their span.
        if trials[-1].error < max(_NEARLY * best.error, _ACCURATE):
            best = trials[-1]
        # A correction makes the matrix larger, so it must reduce the error substantially.
        helps = best.error * WORTHWHILE < trial.error or (trial.error > SMALLEST and best.error < _ACCURATE)
        return best if helps or (trial.error > _ACCURATE and best.error <= trial.error) else trial

    def cross_validate(self):
        """Validate the finalists on all samples, each predicted from those of the other folds.

        Solutions of a wrong nonlinear law, or of a linear law for a nonlinear problem, may be inaccurate for one
        forcing and accurate for the next, which few samples would not reveal. Laws whose largest error exceeds that of
        the forward map are rejected.
        """
        everything, n_samples = self.everything, self.everything.n_samples
        if n_samples < 2 * _FOLDS or not any(t.form.kind == "forward" for t in self.finalists):
            return
        judged = []
        for trial in self.finalists:
            errors = []
            for fold in torch.arange(n_samples).tensor_split(_FOLDS):
                rest = everything.pick(torch.from_numpy(np.setdiff1d(np.arange(n_samples), fold)))
                try:
                    operator = trial.form.deliver(trial.form.fit(rest), rest, trial.alpha)
                except _DEGENERATE:
                    errors.append(math.inf)
                    continue
                for k in fold.tolist():
                    held = everything.pick(slice(k, k + 1))
                    errors.append(held.error(held.predictions(operator), rest.typical))
            judged.append(
                (replace(trial, error=float(np.mean(errors)), base_error=float(np.mean(errors))), max(errors))
            )
        worst = min(most for trial, most in judged if trial.form.kind == "forward")
        self.finalists = [trial for trial, most in judged if most <= worst or trial.form.kind == "forward"]

    # The choice

    def choose(self):
        """The best finalist, by the rule of :func:`select`."""
        steps = self.train.repeated is not None
        order = {form: (steps and form.solver != "local", i) for i, form in enumerate(self.forms)}
        finalists = sorted(self.finalists, key=lambda t: order[type(t.form)])
        lowest = min(t.error for t in finalists)
        if lowest > _NOISY:
            equals = self.stable([t for t in finalists if t.error <= 1.2 * lowest])
            if lowest > _HOPELESS:
                return min(equals, key=lambda t: (t.form.kind != "forward", t.error))
            return min(equals, key=lambda t: (not self.holds_everywhere(t), t.form.amplifies and t.alpha != 0, t.error))
        equals = self.stable([t for t in finalists if t.error <= max(WORTHWHILE * lowest, EXACT)])
        least = min(t.base_error for t in equals)
        return next(t for t in equals if t.base_error <= max(WORTHWHILE * least, EXACT))

    def stable(self, trials):
        """Trials whose repetition does not grow beyond the samples; all trials if there are none."""
        if len(trials) < 2 or self.train.repeated is None:
            return trials
        return [t for t in trials if not self.grows(t)] or trials

    def grows(self, trial):
        """Whether repetition of the final map of a trial makes fields grow."""
        if trial.operator is None or not trial.form.linear:  # released; or without a spectral radius
            return False
        try:
            return grows(trial.form.deliver(trial.operator, self.train, trial.alpha), self.train)
        except _DEGENERATE:
            return True

    def holds_everywhere(self, trial):
        """Whether a map is determined for all inputs, and not by its correction alone."""
        return self.spans_all or (trial.form.everywhere and trial.base_error <= WORTHWHILE * trial.error)

    @property
    def seen(self):
        """Orthonormal bases of the spans of the inputs in each mode."""
        return self.everything.bases(max(1e-11, 10 * self.everything.noise), of_inputs=True)

    @property
    def spans_all(self):
        """Whether the inputs span the whole space."""
        return all(P.shape[0] == P.shape[1] for P in self.seen)

    def solve(self):
        """The fit to all samples of the best candidate."""
        if not self.finalists:
            self.finalists.append(self.unverified())
        finalists, fits, self.rivalry = list(self.finalists), [], rivals(self)
        while self.finalists:
            chosen = self.choose()
            fits.append((self.residual_of(operator := self.refit(chosen)), chosen, operator))
            # A fit to all samples that is much worse than that to a part of them has failed.
            if not fits[-1][0] > _SUSPICIOUS * max(chosen.error, SMALLEST):
                break
            self.finalists.remove(chosen)
        else:
            fits.append(min(fits, key=lambda fit: fit[0]))
        residual, chosen, operator = fits[-1]
        self.finalists = finalists
        if operator is None:
            raise ValueError(f"The samples do not determine an operator by {chosen.form}; use form='auto'.")
        return self.found(chosen, operator, residual)

    def refit(self, trial):
        """Map of a candidate fitted to all samples; None if they are degenerate."""
        for other in self.trials:
            if other is not trial:
                other.operator = None
        try:
            trial.fitted = trial.form.fit(self.everything, trial.released())
            return trial.form.deliver(trial.fitted, self.everything, trial.alpha)
        except _DEGENERATE:
            return None

    def residual_of(self, operator):
        return math.inf if operator is None else self.everything.error(self.everything.predictions(operator))

    def found(self, chosen, operator, residual):
        """The selected map with its attributes, in the units of the user."""
        operator, completion, seen = self.extended(chosen, operator)
        units, reason = self.everything.units, explain(self, chosen)
        operator = chosen.form.in_units(operator, units)
        alpha = chosen.form.penalty(self.everything)
        return Fit(
            operator=operator,
            form=chosen.form,
            fitted=chosen.fitted,
            alpha=alpha if chosen.alpha is None else self.everything.users_penalty(chosen.alpha),
            held_out_error=chosen.error if self.verified else math.nan,
            residual=residual,
            reason=reason,
            candidates=[
                {"form": t.form.kind, "solver": t.form.solver, "fit": str(t.form), "held_out_error": t.error}
                for t in self.trials
            ],
            completion=completion,
            seen=seen,
            vanishing=self.everything.vanishing,
            intercept=self.means[1] - operator.apply(self.means[0]) if self.centred else None,
            doubts=lambda: doubts(self, chosen, reason),
        )

    def unverified(self):
        """A candidate that needs all samples, so that none can be held out."""
        possible = [form for form in self.beyond if form.min_samples <= self.everything.n_samples]
        if possible:
            self.verified = False
            return Trial(possible[-1], None, math.inf, math.inf)
        options, needed = self.options, min(self.beyond, key=lambda form: form.min_samples, default=None)
        if needed is not None and math.isfinite(needed.min_samples):
            raise ValueError(
                f"n_samples = {self.everything.n_samples} is too small for a fit by {needed}, which needs "
                f"{needed.min_samples}; provide more samples, or use form='auto' and solver='auto'."
            )
        if self.declined and options.solver != "auto":
            nearest = [r for r in self.declined if not isinstance(r, OtherDimension)] or self.declined
            form = "" if options.form == "auto" else f" with form={options.form!r}"
            raise ValueError(f"solver={options.solver!r}{form} {nearest[-1]}; use solver='auto'.")
        if self.trials:
            raise ValueError("The samples do not determine a map of this form and solver; use 'auto', or more samples.")
        raise ValueError(
            f"No fit with form={options.form!r}, solver={options.solver!r} and rank={options.rank!r} is applicable to "
            f"fields on {self.everything.grid_in}; use form='auto' and solver='auto'."
        )

    def extended(self, chosen, operator):
        """The map extrapolated outside of the span of the samples, a description of how, and bases of that span."""
        if chosen.form.everywhere:
            return operator, chosen.form.completion, None
        if self.spans_all:
            return operator, "the samples reach everything", None
        others = [t for t in self.trials if t.form.everywhere and t.form.kind == "inverse" and t.form.linear]
        best = min(others, key=lambda t: t.base_error, default=None)
        if best is not None and best.base_error <= EXTENDS and self.options.outer_rank == "auto":
            rest = self.refit(best)
            if rest is not None:  # a fit that succeeds for a part of the samples may fail for all of them
                self.completing = best
                operator = OperatorSum([operator, rest, -1 * rest.restricted_to(self.seen)])
                how = f"inputs outside the span of the samples: {best.form}, held-out error {best.base_error:.1e}"
                return operator, how, self.seen
        return operator, "inputs outside the span of the samples give zero", self.seen
