"""Reasons for the choice of a form, and warnings about it."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from ..exceptions import AmbiguousFitWarning, PoorFitWarning, UnverifiedFitWarning
from ._diagnosis import likeliest_cause
from ._samples import relative_error

# Errors below this are never commented on.
SMALLEST = 1e-10
# A map known only on the span of the inputs is extended by a map for all inputs if the error of that is below this.
EXTENDS = 0.1
# Errors above which maps, and nonlinear laws, are poor.
_POOR, _NO_LAW = 0.1, 2e-3
# Maps with up to this many times the error of the best one are its rivals; they disagree if they differ by more than
# the second number.
_RIVAL, _DIFFERENT = 30, 0.1


def random_fields(samples, n_samples=4):
    """Random inputs, smooth on grids and white on meshes, zero where all inputs of the samples are."""
    X, n_leading = samples.X, 1 + samples.has_channels
    noise = np.random.RandomState(0).standard_normal((n_samples, *X.shape[1:]))
    widths = [0 if samples.adjacency is not None or axis < n_leading else n / 20 for axis, n in enumerate(X.shape)]
    fields = torch.from_numpy(gaussian_filter(noise, widths))
    return torch.where((X != 0).any(0), fields, 0) * (X.norm() / (fields.norm() or 1.0))


def rivals(search):
    """The two best maps for all inputs, and their difference on random inputs; None if it is insignificant."""
    known = [t for t in search.trials if t.form.everywhere and t.form.kind == "inverse" and t.base_error < EXTENDS]
    known = sorted((t for t in known if t.operator is not None), key=lambda t: t.base_error)[:2]
    if len(known) < 2 or known[0].base_error < SMALLEST or search.spans_all:
        return None
    one, other = known
    if other.base_error > _RIVAL * one.base_error:
        return None
    X = random_fields(search.train)
    difference = relative_error(other.operator.apply(X), one.operator.apply(X))
    return (one, other, difference) if difference > max(_DIFFERENT, _RIVAL * other.base_error) else None


def explain(search, chosen):
    """Reason for the choice of the candidate, in one line."""
    if not search.verified:
        few = "a single sample leaves" if search.everything.n_samples < 2 else "the samples are so few that they leave"
        return f"{chosen.form}: {few} none to verify the fit with"
    reason = f"{chosen.form}: held-out error {chosen.error:.1e}"
    for kind in ("inverse", "forward"):
        others = [t for t in search.finalists if t.form.kind == kind and t is not chosen]
        if others:
            best = min(others, key=lambda t: t.error)
            reason += f"; next best {kind} form, {best.form}: {best.error:.1e}"
    return reason + ("; about the mean fields" if search.centred else "")


def doubts(search, chosen, reason):
    """Warnings for the user if the samples are not conclusive, or no map fits."""
    samples = search.everything
    found: list[tuple[str, type[Warning]]] = []
    if not search.verified:
        message = f"n_samples = {samples.n_samples} leaves none to verify the fit with ({reason})."
        found.append((message, UnverifiedFitWarning))
    for trial in [chosen] if search.completing is None else [chosen, search.completing]:
        if trial.fitted is not None:
            found += trial.form.doubts(trial.fitted, samples)
    if chosen.form.symmetric and samples.asymmetry > 0.1:
        message = (
            "The operator was assumed to be symmetric, but the samples are not those of a symmetric operator "
            f"(asymmetry {samples.asymmetry:.1e}): set symmetric=False."
        )
        found.append((message, PoorFitWarning))
    if chosen.error > (_POOR if search.options.degree == 1 else _NO_LAW) and search.verified:
        causes = [cause for form in search.forms if (cause := form.cause(samples, search.options))]
        cause = causes[0] if causes else likeliest_cause(samples, search.centred)
        message = f"The best fit found has a relative error of {chosen.error:.1e} on held-out samples ({reason})."
        found.append((f"{message} {cause}", PoorFitWarning))
        return found  # which of several poor maps was chosen does not matter
    if search.rivalry is not None and (search.rivalry[0] is search.completing or search.rivalry[0].form == chosen.form):
        one, other, difference = search.rivalry
        message = (
            f"The two best maps for all inputs, {one.form}, and {other.form}, fit the samples about equally well "
            f"and differ by {difference:.0%} on random inputs: away from inputs like those of the samples, "
            "either may be wrong. More diverse samples are needed to decide."
        )
        found.append((message, AmbiguousFitWarning))
    others = [t for t in search.finalists if t.form.kind != chosen.form.kind and t.error < 2 * chosen.error]
    if others and chosen.error > SMALLEST:
        message = (
            f"The choice of a {chosen.form.kind} form is close ({reason}): away from inputs like these, the two may "
            "differ. More diverse samples decide, or form= of HSSRegressor if the equation is known."
        )
        found.append((message, AmbiguousFitWarning))
    return found
