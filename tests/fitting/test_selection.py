"""The choice among forms, by their errors on held-out samples, and the words about it."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from grid_operators import (
    as_samples,
    convection,
    dense,
    nonseparable,
    randn,
    relative,
    second_difference,
    separable,
    smooth,
    solved,
    sparse_sum,
)
from sklearn.linear_model import RidgeCV

from sklearn_hss.exceptions import AmbiguousFitWarning, PoorFitWarning, UnverifiedFitWarning
from sklearn_hss.fitting import FORMS, Form, NotApplicable, Options, fit, growing
from sklearn_hss.fitting.forms import KroneckerSum, Ridge
from sklearn_hss.linalg import DiagonalizedOperator, KroneckerProductSum, LinearMap, LowRankOperator
from sklearn_hss.linalg._modes import multilinear

# Wider than three points along one axis.
WIDE = [second_difference(15) @ second_difference(15) / 100, second_difference(12)]


def fitted(F, U, **parameters):
    return fit(as_samples(F, U), Options(**parameters))


@pytest.fixture(scope="module")
def poisson():
    F = randn(40, 13, 16)
    return F, solved(sparse_sum([second_difference(13), second_difference(16)]), F)


def test_the_chosen_form(poisson):
    F, U = poisson
    found = fitted(F[:8], U[:8])
    form = found.form
    assert (form.kind, form.solver, form.half_bandwidth, form.symmetric) == ("inverse", "banded", 1, True)
    assert relative(found.operator.apply(F[8:]), U[8:]) < 1e-10
    assert found.held_out_error < 1e-10
    assert found.residual < 1e-10
    assert found.seen is None
    assert found.intercept is None
    assert not found.doubts()
    assert "inverse of a Kronecker sum of 3-point matrices: held-out error" in found.reason
    assert found.candidates[0] == {
        "form": "inverse",
        "solver": "banded",
        "fit": "inverse of a Kronecker sum of 3-point matrices",
        "held_out_error": found.held_out_error,
    }
    # A convection term is seen in the samples.
    U = solved(sparse_sum([convection(13, 5.0), second_difference(16)]), F)
    found = fitted(F[:8], U[:8])
    assert (found.form.solver, found.form.symmetric) == ("banded", False)
    assert relative(found.operator.apply(F[8:]), U[8:]) < 1e-10


@pytest.mark.parametrize(("solver", "kind"), [("banded", "inverse"), ("eigenbasis", "inverse"), ("als", "forward")])
def test_solvers_have_their_form(poisson, solver, kind):
    F, U = poisson
    found = fitted(F[:12], U[:12], solver=solver, outer_rank=2 if solver == "als" else "auto")
    assert (found.form.solver, found.form.kind) == (solver, kind)
    assert {c["solver"] for c in found.candidates} == {solver}


def test_outer_ranks(poisson):
    F, U = poisson
    errors = []
    for outer_rank in (1, 2, 4, 8):
        found = fitted(F[:12], U[:12], outer_rank=outer_rank, form="inverse")
        assert isinstance(found.operator, KroneckerProductSum)
        assert found.operator.outer_rank == outer_rank
        errors.append(relative(found.operator.apply(F[12:]), U[12:]))
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 64 * errors[3]


def test_levels_and_rank_reach_the_factors(poisson):
    F, U = poisson
    found = fitted(F[:8], U[:8], rank=2, levels=2)
    assert found.operator.inverse.levels == (2, 2)
    assert max(found.operator.inverse.rank) <= 2
    found = fitted(F[:8], U[:8], rank=2, levels=(1, 2), outer_rank=4)
    assert (found.operator.rank, found.operator.levels) == ((2, 2), (1, 2))


def test_separable_coefficients_are_found():
    F = randn(30, 13, 16)
    U = solved(separable(13, 16)[0], F)
    for options, form in (({}, "local law"), ({"solver": "banded"}, "with row weights")):
        found = fitted(F[:10], U[:10], **options)
        assert form in found.reason
        assert relative(found.operator.apply(F[10:]), U[10:]) < 1e-8


@pytest.mark.parametrize("draw", [randn, smooth])
def test_the_residual_tells_valid_inverse_forms_from_others(draw):
    F = draw(8, 13, 16)
    for A, valid in (
        (sparse_sum([second_difference(13), second_difference(16)]), True),
        (sparse_sum([convection(13, 5.0), second_difference(16)]), True),
        (separable(13, 16)[0], True),
        (nonseparable(13, 16), False),
    ):
        found = fitted(F, solved(A, F), form="inverse", solver="banded")
        assert found.residual <= 1e-4 if valid else found.residual >= 1e-2


@pytest.mark.parametrize(
    ("form", "solver"),
    [("inverse", "banded"), ("inverse", "eigenbasis"), ("forward", "als"), ("forward", "least_squares")],
)
@pytest.mark.parametrize("n_samples", [1, 4])
def test_no_form_has_huge_entries(form, solver, n_samples):
    F, A = randn(n_samples, 15, 12), sparse_sum(WIDE)
    operator = fitted(F, solved(A, F), form=form, solver=solver).operator
    assert operator.to_dense().abs().max() < 1e4 * torch.linalg.inv(dense(A)).abs().max()
    if getattr(operator, "inverse", None) is not None:
        assert operator.inverse.to_dense().abs().max() < 1e4 * dense(A).abs().max()


def test_nothing_fits():
    F = randn(10, 6, 7)
    found = fitted(F, randn(10, 6, 7, seed=1))
    assert found.held_out_error > 0.1
    (message, category), *_ = found.doubts()
    assert message.startswith("The best fit found has a relative error of")
    assert category is PoorFitWarning


def test_one_sample_cannot_be_verified(poisson):
    F, U = poisson
    found = fitted(F[:1], U[:1])
    message, category = found.doubts()[0]
    assert message.startswith("n_samples = 1 leaves none to verify the fit with")
    assert category is UnverifiedFitWarning
    assert math.isnan(found.held_out_error)
    assert "a single sample leaves none" in found.reason


def test_completion():
    # Samples in the span of four sines per axis, of an operator that the five-point scheme approximates.
    n = 20
    lam, X = torch.linalg.eigh(dense(second_difference(n)))
    mu = lam + lam**2 / 12 / (n + 1) ** 2
    true = DiagonalizedOperator([X, X], [X, X], 1 / (mu[:, None] + mu))
    F = multilinear(randn(12, 4, 4), [X[:, :4], X[:, :4]])
    found = fitted(F[:6], true.apply(F[:6]))
    assert relative(found.operator.apply(F[6:]), true.apply(F[6:])) < 1e-9
    test = randn(5, n, n, seed=1)
    assert found.seen is not None
    assert "give zero" not in found.completion
    for P, span in zip(found.seen, (X[:, :4], X[:, :4]), strict=True):
        torch.testing.assert_close(P @ P.mT, span @ span.mT, rtol=1e-6, atol=1e-6)
    assert found.completion.startswith("inputs outside the span of the samples")
    outside = test - multilinear(test, [X[:, :4] @ X[:, :4].mT] * 2)
    # Better than zero.
    assert relative(found.operator.apply(outside), true.apply(outside)) < 0.5


@pytest.mark.parametrize(("draw", "n_samples"), [(randn, 12), (smooth, 12), (smooth, 40)])
def test_noise(draw, n_samples):
    F, test = draw(n_samples, 7, 8), draw(30, 7, 8, seed=1)
    A = sparse_sum([second_difference(7), second_difference(8)])
    U = solved(A, F)
    noisy = U + 0.01 * U.square().mean().sqrt() * randn(*U.shape, seed=2)
    exact = solved(A, test)
    errors = {}
    for form in ("auto", "inverse", "forward"):
        found = fitted(F, noisy, form=form)
        errors[form] = relative(found.operator.apply(test), exact)
    ridge = RidgeCV(np.logspace(-8, 4, 25), fit_intercept=False).fit(F.flatten(1).numpy(), noisy.flatten(1).numpy())
    errors["ridge"] = relative(torch.from_numpy(ridge.predict(test.flatten(1).numpy())), exact.flatten(1))
    # Held-out errors of few noisy samples are an estimate only: never the worst, and near the best form.
    assert errors["auto"] <= 1.2 * max(errors["inverse"], errors["forward"], errors["ridge"])
    assert errors["auto"] <= 2 * min(errors["inverse"], errors["forward"])


# Intercepts


@pytest.mark.parametrize("intercept", ["auto", True])
@pytest.mark.parametrize("grid", [(20,), (13, 16)])
def test_an_offset_is_found(grid, intercept):
    F = randn(30, *grid)
    U, c = solved(sparse_sum([second_difference(n) for n in grid]), F), smooth(1, *grid, seed=3)[0]
    found = fit(as_samples(F[:12], U[:12] + c), Options(), intercept=intercept)
    assert relative(found.intercept, c) < 1e-9
    assert relative(found.operator.apply(F[12:]), U[12:]) < 1e-9
    assert found.reason.endswith("about the mean fields")
    assert fit(as_samples(F[:12], U[:12]), Options(), intercept="auto").intercept is None


# Requirements by the options


@pytest.mark.parametrize("form", [form for form in FORMS if not form.by_name_only])
def test_solvers_and_kinds_that_exclude_each_other_are_refused(form):
    samples, other = as_samples(randn(6, 8), randn(6, 8)), {"forward": "inverse", "inverse": "forward"}[form.kind]
    if not any(f.solver == form.solver and f.kind == other for f in FORMS):
        with pytest.raises(ValueError, match=f"solver='{form.solver}' does not apply to form='{other}'"):
            fit(samples, Options(solver=form.solver, form=other))


def test_forms_by_name_only_are_not_tried_otherwise():
    found = fitted(randn(10, 8), randn(10, 8, seed=1))
    tried = {c["solver"] for c in found.candidates}
    assert "gauss_newton" not in tried
    assert "least_squares" in tried


def test_the_list_of_forms_is_an_argument(poisson):
    F, U = poisson
    found = fit(as_samples(F[:8], U[:8]), forms=[KroneckerSum])
    assert type(found.form) is KroneckerSum
    found = fit(as_samples(F[:8], U[:8]), forms=[Ridge])
    assert type(found.form) is Ridge
    assert {c["solver"] for c in found.candidates} == {"least_squares"}


def test_the_seed_chooses_what_is_held_out(poisson):
    F, U = poisson
    noisy = U + 0.01 * U.square().mean().sqrt() * randn(*U.shape, seed=2)
    errors = [
        fit(as_samples(F, noisy), forms=[KroneckerSum], random_state=np.random.RandomState(seed)).held_out_error
        for seed in (0, 0, 1)
    ]
    assert errors[0] == errors[1] != errors[2]


def test_reports_name_every_trial(poisson):
    F, U = poisson
    seen = []
    found = fit(as_samples(F[:8], U[:8]), report=lambda form, error, seconds: seen.append((str(form), error, seconds)))
    assert [name for name, _, _ in seen] == [c["fit"] for c in found.candidates]
    assert all(seconds >= 0 for _, _, seconds in seen)


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ((8,), {"levels": 4}, "levels=4 is too deep for fields of 8 points: the largest value that works is 3"),
        (
            (8,),
            {"levels": 2, "rank": 3},
            "rank=3 is too large for fields of 8 points: the largest .* is 2, the smallest leaf with levels=2",
        ),
        ((4, 5), {"outer_rank": 17}, "outer_rank=17 is more than any map .* needs: the largest value that works is 16"),
        ((4, 5), {"levels": (1, 3)}, "too deep for a mode of 5 points: the largest value that works is 2"),
        ((4, 5), {"solver": "closed_form"}, "solver='closed_form' applies to one-dimensional fields"),
        ((4, 5), {"solver": "gauss_newton"}, "solver='gauss_newton' applies to one-dimensional fields"),
        ((8,), {"solver": "als"}, "solver='als' applies to fields of several dimensions"),
        ((8,), {"solver": "eigenbasis"}, "solver='eigenbasis' applies to fields of several dimensions"),
        ((4, 5), {"solver": "eigenbasis", "rank": 2}, "solver='eigenbasis' has no factors of a given rank"),
    ],
)
def test_options_that_no_form_can_meet_are_refused(grid, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        fitted(randn(6, *grid), randn(6, *grid, seed=1), **options)
    text = str(caught.value)
    assert text.endswith(".")
    assert " use;" not in text
    assert " or;" not in text


@pytest.mark.parametrize(
    ("grid_in", "grid_out", "options", "message"),
    [
        ((8,), (9,), {"solver": "local"}, r"needs outputs on the grid of the inputs; got \(9,\) and \(8,\)"),
        ((4, 5, 2), (4, 5, 2), {"solver": "least_squares", "outer_rank": 2}, "needs fields of two modes, not 3"),
        ((4, 5), (4, 6), {"solver": "banded"}, r"needs outputs on the grid of the inputs; got \(4, 6\) and \(4, 5\)"),
    ],
)
def test_the_reason_is_that_of_the_form_which_is_nearest(grid_in, grid_out, options, message):
    with pytest.raises(ValueError, match=message):
        fitted(randn(6, *grid_in), randn(6, *grid_out, seed=1), **options)


@pytest.mark.parametrize("options", [{"symmetric": True}, {"form": "inverse"}])
@pytest.mark.parametrize(("grid_in", "grid_out"), [((8,), (9,)), ((4, 5), (5, 4))])
def test_other_grids_of_the_outputs_are_refused(grid_in, grid_out, options):
    with pytest.raises(ValueError, match=r"needs .*; got"):
        fitted(randn(6, *grid_in), randn(6, *grid_out), **options)


# Forms of the tests


@dataclass(frozen=True)
class Known(Form):
    """The map itself, but for an error, as long as there are no more than so many samples."""

    name: str = "known"
    wrong: float = 0.0
    most: int = 1000
    needed: int = 1

    solver: ClassVar[str] = "known"
    effort: ClassVar[int] = 0
    operator: ClassVar[LinearMap] = LowRankOperator(randn(3, 20, seed=1), randn(3, 20, seed=2))

    @property
    def min_samples(self):
        return self.needed

    def fit(self, samples, start=None):
        units = samples.units[0] / samples.units[1]
        return (units * (1 + self.wrong) if samples.n_samples <= self.most else 0.0) * self.operator

    def __str__(self):
        return self.name


def path_of(*fields, **attributes):
    """A form that yields `Known` with these fields."""

    def path(cls, samples, options):
        for given in fields:
            yield cls(options, **given)

    return type("Path", (Known,), {"path": classmethod(path), **attributes})


@pytest.fixture(scope="module")
def known():
    X = randn(10, 20)
    return as_samples(X, Known.operator.apply(X))


def test_a_fit_to_all_samples_that_is_worse_than_to_a_part_is_dropped(known):
    fickle, steady = {"name": "fickle", "most": 9}, {"name": "steady", "wrong": 1e-6}
    found = fit(known, forms=[path_of(fickle), path_of(steady)])
    assert str(found.form) == "steady"
    assert found.held_out_error == pytest.approx(1e-6, rel=1e-3)
    assert found.residual == pytest.approx(1e-6, rel=1e-3)
    # Where all of them are, the least bad one is taken.
    assert fit(known, forms=[path_of(fickle)]).residual == pytest.approx(1)


def test_of_a_path_the_simplest_of_about_the_lowest_error_is_taken(known):
    errors = {"first": 1e-3, "second": 2e-5, "third": 1e-5, "fourth": 0.9e-5}
    form = path_of(*({"name": name, "wrong": error} for name, error in errors.items()))
    found = fit(known, forms=[form])
    assert str(found.form) == "second"
    assert [c["held_out_error"] for c in found.candidates] == pytest.approx(list(errors.values()), rel=1e-3)
    form.worthwhile = 1.0
    assert str(fit(known, forms=[form]).form) == "fourth"
    form.worthwhile, form.floor = 3.0, 1e-2
    assert str(fit(known, forms=[form]).form) == "first"


def test_among_noisy_fits_those_that_hold_everywhere_come_first(known):
    half = torch.cat([known.X[:, :10], torch.zeros(10, 10).double()], dim=1)
    samples = as_samples(half, Known.operator.apply(half))
    on_span = path_of({"name": "on the span", "wrong": 0.010}, everywhere=False)
    amplifying = path_of({"name": "amplifying", "wrong": 0.0101}, amplifies=True)
    everywhere = path_of({"name": "everywhere", "wrong": 0.011})
    worse = path_of({"name": "worse", "wrong": 0.1})
    assert str(fit(samples, forms=[worse, on_span, amplifying, everywhere]).form) == "everywhere"
    assert str(fit(samples, forms=[worse, on_span, amplifying]).form) == "amplifying"
    assert str(fit(samples, forms=[worse, on_span]).form) == "on the span"


def test_forms_are_tried_by_their_effort(known):
    def tried(*errors):
        forms = [path_of({"name": f"{i}", "wrong": e}, effort=i) for i, e in enumerate(errors)]
        return [c["fit"] for c in fit(known, forms=forms).candidates]

    assert tried(0.0, 0.0, 0.0, 0.0) == ["0"]
    assert tried(1e-9, 0.0, 0.0, 0.0) == ["0", "1"]
    assert tried(1e-3, 1e-3, 1e-3, 0.0) == ["0", "1", "2", "3"]
    assert tried(1e-3, 1e-3, 0.0, 0.0) == ["0", "1", "2"]


def test_too_few_samples_are_refused_by_their_number(known):
    with pytest.raises(ValueError, match="n_samples = 10 is too small for a fit by known, which needs 11; provide"):
        fit(known, forms=[path_of({"needed": 11})])
    # Ten are enough for a fit, but leave none to verify it with.
    found = fit(known, forms=[path_of({"needed": 10})])
    assert math.isnan(found.held_out_error)
    assert found.doubts()[0][1] is UnverifiedFitWarning
    assert "the samples are so few that they leave none" in found.reason


def test_two_kinds_that_are_as_good_are_doubtful(known):
    forward = path_of({"name": "forward", "wrong": 1e-3})
    inverse = path_of({"name": "inverse", "wrong": 1.5e-3}, kind="inverse")
    (message, category), *others = fit(known, forms=[forward, inverse]).doubts()
    assert category is AmbiguousFitWarning
    assert message.startswith("The choice of a forward form is close")
    assert not others
    far = path_of({"name": "far", "wrong": 1e-2}, kind="inverse")
    assert not fit(known, forms=[forward, far]).doubts()
    exact = path_of({"name": "exact", "wrong": 1e-12}), path_of({"name": "as exact", "wrong": 1e-12}, kind="inverse")
    assert not fit(known, forms=exact).doubts()


def test_forms_of_which_none_applies_are_refused(known):
    def declining(cls, samples, options):
        raise NotApplicable("is for others")
        yield

    form = type("Declining", (Known,), {"path": classmethod(declining)})
    with pytest.raises(ValueError, match="solver='known' is for others; use solver='auto'"):
        fit(known, Options(solver="known"), forms=[form])
    with pytest.raises(ValueError, match=r"No fit with form='auto', .* is applicable to fields on \(20,\)"):
        fit(known, forms=[form])


def test_a_candidate_that_fails_is_passed_over(known):
    def failing(self, samples, start=None):
        raise np.linalg.LinAlgError("singular")

    singular = path_of({"name": "singular"}, fit=failing)
    found = fit(known, forms=[singular, path_of({"name": "sound"})])
    assert str(found.form) == "sound"
    assert found.candidates[0] == {
        "form": "forward",
        "solver": "known",
        "fit": "singular",
        "held_out_error": math.inf,
    }
    with pytest.raises(ValueError, match="do not determine"):
        fit(known, forms=[singular])


# The end of a path


@pytest.mark.parametrize(
    ("errors", "options", "n_tried"),
    [
        ([1, 0.1, 0.01, 0.001], {}, 4),
        ([1, 0.5, 0.4, 0.001], {}, 3),
        ([1, 0.5, 0.001, 0.0005, 0.0004, 1e-5], {}, 5),
        ([1, 0.5, 0.4, 0.35, 0.001], {"patience": 2}, 4),
        ([1, 0.5, 0.001], {"patience": 0}, 2),
        ([1, 0.5, 0.25], {"patience": 0, "worthwhile": 1.5}, 3),
        ([1, 1e-12, 1e-13], {}, 2),
        ([1, 1e-5, 1e-6], {"enough": 1e-4}, 2),
        ([math.inf, math.inf, 1.0], {}, 2),
    ],
)
def test_a_path_ends_where_errors_stop_falling(errors, options, n_tried):
    tried, result = [], None
    path, error = growing(range(len(errors)), **options), None
    try:
        while True:
            tried.append(path.send(error))
            error = errors[tried[-1]]
    except StopIteration as end:
        result = end.value
    assert tried == list(range(n_tried))
    assert result == min(errors[:n_tried])
