"""The contract of forms, one row per form: see :mod:`sklearn_hss.fitting._form`."""

import contextlib
import itertools
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from grid_operators import (
    as_samples,
    commuting,
    convection,
    dense,
    periodic_difference,
    randn,
    relative,
    second_difference,
    separable,
    solved,
    sparse_sum,
    terms,
)

from sklearn_hss.fitting import FORMS, Form, NotApplicable, Options, fit
from sklearn_hss.fitting import forms as f
from sklearn_hss.fitting._products import apply_terms
from sklearn_hss.linalg import LinearMap
from sklearn_hss.linalg._modes import multilinear

SINGLE = torch.finfo(torch.float32).eps


@dataclass(frozen=True, eq=False)
class Declined:
    """Samples of white noise, and options, that a form does not apply to, and why."""

    why: str
    grid_in: tuple = (16,)
    grid_out: tuple | None = None
    n_samples: int = 5
    options: dict = field(default_factory=dict)
    same: bool = False
    bordered: bool = False

    def samples(self):
        X = randn(self.n_samples, *self.grid_in)
        Y = X if self.same else randn(self.n_samples, *(self.grid_out or self.grid_in), seed=1)
        if self.bordered:
            Y[:, [0, -1]] = Y[:, :, [0, -1]] = 0
        return as_samples(X, Y)


SEVERAL = Declined("applies to one-dimensional fields", (4, 5))
ONE = Declined("applies to fields of several dimensions")
RECTANGLE = Declined(r"needs outputs on the grid of the inputs; got \(4, 6\) and \(4, 5\)", (4, 5), (4, 6))
NO_PRODUCT = Declined("is neither a sum of Kronecker products", (4, 5), options={"outer_rank": 2})


@dataclass(frozen=True, eq=False)
class Row:
    """A problem that a form recovers, and how well.

    Attributes
    ----------
    form : subclass of Form
    name : str
        Candidate that recovers it, as it is printed.
    grid : tuple of int
        Of the inputs.
    apply : callable
        The map.
    n_samples : int
    declined : tuple of Declined
    accuracy : float
        Error on new samples.
    single : float
        The same with samples that were rounded to float32.
    noisy : float or None
        The same through the selection, with noise of 1e-3 in the outputs; None where such samples are declined.
    least : int
        Smallest number of samples.
    least_options : dict
        Options with which that many are enough.
    options : dict
    draw : callable
        Inputs.
    adjoint : callable, default=None
        The transposed map.
    padding : tuple of int
        Points added to the ends of every axis, beyond a mask; the last axis first. Two everywhere if None; zeros for a
        map that changes when its grid is extended, as a periodic one does.
    """

    form: type
    name: str
    grid: tuple
    apply: Callable
    n_samples: int
    declined: tuple
    accuracy: float = 1e-12
    single: float = 5e-6
    noisy: float | None = 2e-2
    least: int = 1
    least_options: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    draw: Callable = randn
    adjoint: Callable | None = None
    padding: tuple | None = None

    def __str__(self):
        return f"{self.form.__name__}: {self.name}"

    def inputs(self, n_samples, seed=0):
        return self.draw(n_samples, *self.grid, seed=seed)


def inverse(*matrices):
    """Solutions of a Kronecker sum of sparse matrices."""
    A = sparse_sum(matrices)
    return lambda F: solved(A, F)


def inexact(apply):
    """With errors of 1e-10 in the outputs, which thus occupy more than the inputs."""

    def disturbed(F):
        U = apply(F)
        return U + 1e-10 * U.square().mean().sqrt() * randn(*U.shape, seed=11)

    return disturbed


def times(A):
    return lambda F: F @ A.mT


def waves(n_samples, *grid, seed=0):
    """Fields in the span of four sines per axis."""
    spans = [torch.linalg.eigh(dense(second_difference(n)))[1][:, :4] for n in grid]
    return multilinear(randn(n_samples, *[4] * len(grid), seed=seed), spans)


def without_mean(n_samples, *grid, seed=0):
    x = randn(n_samples, *grid, seed=seed)
    return x - x.flatten(1).mean(1).view(-1, *[1] * len(grid))


def full(*sizes):
    """Symmetric dense matrices, far from singular."""
    return [sp.csr_matrix((A + A.mT + 4 * n * torch.eye(n)).numpy()) for n in sizes for A in [randn(n, n, seed=n)]]


SYMMETRIC, SKEWED = second_difference(64), convection(64, 9.0)
SKEWED_INVERSE = torch.linalg.inv(dense(SKEWED))
BOX = [second_difference(9), convection(11, 4.0)]
RING = [periodic_difference(9) + 20 * sp.eye(9), periodic_difference(12)]
VARYING = sp.csr_matrix(sparse_sum(BOX).multiply(1 + np.random.RandomState(0).uniform(size=(99, 99)))) + 400 * sp.eye(
    99
)
PRODUCTS, LONG, THREE = terms((5, 6), (5, 6), 2), terms((5, 6), (4, 7), 2), terms((4, 3, 5), (4, 3, 5), 1)
PLAIN = randn(9, 12)

ROWS = [
    Row(
        f.AugmentedNullSpaces,
        "closed form, rank 2, symmetric, samples augmented by a local law, 3 points",
        (64,),
        inverse(SYMMETRIC),
        8,
        (SEVERAL,),
        noisy=None,
        least=3,
    ),
    Row(
        f.NullSpaces,
        "closed form, rank 2, symmetric",
        (64,),
        inverse(SYMMETRIC),
        20,
        (SEVERAL, Declined("needs a symmetric operator or adjoint samples")),
        least=6,
        least_options={"rank": 2, "solver": "closed_form"},
    ),
    Row(
        f.NullSpaces,
        "closed form, rank 2, adjoint samples",
        (64,),
        inverse(SKEWED),
        20,
        (SEVERAL,),
        least=6,
        least_options={"rank": 2, "solver": "closed_form"},
        adjoint=times(SKEWED_INVERSE.mT),
    ),
    Row(f.LocalInverse, "local law, cross of radius 1, per class", (64,), inverse(SKEWED), 24, (RECTANGLE,)),
    Row(
        f.LocalInverse,
        "local law, cross of radius 1, per point",
        (9, 11),
        lambda F: solved(VARYING, F),
        12,
        (RECTANGLE, Declined("is neither a sum of Kronecker products", (4, 5), options={"rank": 2})),
    ),
    Row(
        f.NoisyLocalInverse,
        "symmetric local law fitted to the outputs, smoothness 1e+02",
        (32,),
        inverse(second_difference(32) + sp.diags_array(np.linspace(1, 40, 32))),
        12,
        (RECTANGLE, Declined("needs one field on a grid of one or two", (600,))),
        accuracy=1e-7,
        single=1e-4,
    ),
    Row(f.Local, "local map, cross of radius 1, per class", (64,), times(dense(SKEWED)), 8, (RECTANGLE,)),
    Row(
        f.Local,
        "local map, cross of radius 1, per point",
        (9, 11),
        lambda x: (x.flatten(1) @ dense(VARYING).mT).view(-1, 9, 11),
        12,
        (RECTANGLE, NO_PRODUCT),
    ),
    Row(
        f.VariableProjection,
        "variable projection, rank 2",
        (64,),
        inverse(SKEWED),
        48,
        (
            SEVERAL,
            Declined("needs fewer samples than points", n_samples=16),
            Declined("needs an operator that is not symmetric", same=True),
        ),
        least=34,
        least_options={"rank": 2, "solver": "variable_projection"},
    ),
    Row(
        f.GaussNewton,
        "Gauss-Newton, rank 1",
        (12,),
        inverse(second_difference(12)),
        12,
        (SEVERAL,),
        noisy=1e-1,
        options={"solver": "gauss_newton", "rank": 1, "levels": 1},
    ),
    Row(
        f.KroneckerSum,
        "inverse of a Kronecker sum of 3-point matrices",
        (9, 11),
        inverse(*BOX),
        5,
        (ONE, RECTANGLE),
    ),
    Row(
        f.WeightedKroneckerSum,
        "inverse of a Kronecker sum of 3-point matrices with row weights",
        (9, 11),
        lambda F: solved(separable(9, 11)[0], F),
        10,
        (ONE, RECTANGLE),
    ),
    Row(
        f.PeriodicKroneckerSum,
        "inverse of a Kronecker sum of periodic 3-point matrices",
        (9, 12),
        inverse(*RING),
        6,
        (ONE, RECTANGLE, Declined("is not tried if the outputs vanish", (4, 5), bordered=True)),
        padding=(2, 0),
    ),
    Row(
        f.Eigenbasis,
        "inverse of a Kronecker sum in the span of the samples",
        (6, 9),
        inverse(*full(6, 9)),
        12,
        (ONE, RECTANGLE, Declined("has no factors of a given rank", (4, 5), options={"rank": 1})),
    ),
    Row(
        f.Eigenbasis,
        "map with a free symbol in the span of the samples",
        (7, 9),
        commuting(7, 9).apply,
        12,
        (ONE,),
    ),
    Row(
        f.InputEigenbasis,
        "inverse of a Kronecker sum in the span of the inputs",
        (10, 12),
        inexact(inverse(second_difference(10), second_difference(12))),
        8,
        (
            ONE,
            RECTANGLE,
            Declined("has no factors of a given rank", (4, 5), options={"rank": 1}),
            Declined("needs inputs that span fewer dimensions than the outputs", (4, 5)),
        ),
        accuracy=1e-8,
        draw=waves,
    ),
    Row(
        f.LeastSquaresProducts,
        "least squares in 2 Kronecker products",
        (5, 6),
        lambda x: apply_terms(LONG, x),
        40,
        (
            replace(ONE, why="needs fields of two modes, not 1"),
            Declined("needs fields of two modes, not 3", (4, 5, 2)),
            Declined("needs samples that determine the least-squares map", (4, 5)),
        ),
    ),
    Row(
        f.KroneckerProducts,
        "alternating least squares, 2 Kronecker products, polished",
        (5, 6),
        lambda x: apply_terms(PRODUCTS, x),
        25,
        (ONE, Declined("needs samples that do not determine the least-squares map", (4, 5), n_samples=20)),
    ),
    Row(
        f.KroneckerProducts,
        "alternating least squares, 1 Kronecker products, polished",
        (4, 3, 5),
        lambda x: apply_terms(THREE, x),
        25,
        (ONE,),
    ),
    Row(
        f.Ridge,
        "ridge regression",
        (12,),
        times(PLAIN),
        30,
        (Declined("gives no Kronecker products of a given rank", (4, 5), options={"outer_rank": 2}),),
    ),
    Row(
        f.Ridge,
        "ridge regression",
        (3, 4),
        lambda x: (x.flatten(1) @ randn(12, 12, seed=5)).view(-1, 3, 4),
        30,
        (Declined("gives no Kronecker products of a given rank", (4, 5), options={"rank": 2}),),
    ),
]


@cache
def problem(row):
    """Samples, and further ones."""
    X, test = row.inputs(row.n_samples), row.inputs(20, seed=7)
    adjoint = None
    if row.adjoint is not None:
        P = randn(row.n_samples, *row.grid, seed=8)
        adjoint = P, row.adjoint(P)
    return as_samples(X, row.apply(X), adjoint=adjoint), as_samples(test, row.apply(test))


def walked(row, samples, error_of, **options):
    """Candidates of a path, what each has started from, and its fit."""
    path, error, start = row.form.path(samples, Options(**row.options, **options)), None, None
    while True:
        try:
            candidate = path.send(error)
        except StopIteration:
            return
        operator = candidate.fit(samples, start)
        yield candidate, start, operator
        error, start = error_of(operator), operator


@cache
def candidate_of(row):
    """The candidate that recovers the problem, and what it starts from."""
    samples, test = problem(row)
    for candidate, start, _ in walked(row, samples, lambda operator: test.error(operator.apply(test.X))):
        if str(candidate) == row.name:
            return candidate, start
    raise AssertionError(f"The path does not yield {row.name}.")


def fitted(row, samples):
    candidate, start = candidate_of(row)
    return candidate.fit(samples, start)


def selected(row, samples):
    """By the selection, among the candidates of the form alone."""
    return fit(samples, Options(**row.options), forms=[row.form])


every_row = pytest.mark.parametrize("row", ROWS, ids=str)


def test_every_form_has_a_row():
    assert {row.form for row in ROWS} == set(FORMS)
    assert len(FORMS) == len(set(FORMS))


@pytest.mark.parametrize("form", FORMS)
def test_attributes(form):
    assert form.kind in ("forward", "inverse")
    assert form.effort in (0, 1, 2, 3)
    assert form.worthwhile >= 1
    assert form.solver.isidentifier()
    assert form.__doc__.split("\n\n")[0].strip().endswith(".")
    assert form.path.__func__ is not Form.path.__func__
    candidate = form(Options())
    assert candidate == form(Options())
    assert hash(candidate) == hash(form(Options()))
    with pytest.raises(FrozenInstanceError):
        candidate.options = None
    assert fields(candidate)[0].name == "options"


@every_row
def test_recovery(row):
    samples, test = problem(row)
    assert test.error(fitted(row, samples).apply(test.X)) < row.accuracy


@pytest.mark.parametrize(
    ("row", "declined"),
    [(row, d) for row in ROWS for d in row.declined],
    ids=lambda x: getattr(x, "why", None) or str(x),
)
def test_others_are_declined(row, declined):
    with pytest.raises(NotApplicable, match=declined.why) as caught:
        next(row.form.path(declined.samples(), Options(**{**row.options, **declined.options})))
    assert "\n" not in str(caught.value)


@every_row
def test_fits_are_pure(row):
    samples, test = problem(row)
    X, Y = samples.X.clone(), samples.Y.clone()
    first = fitted(row, samples).apply(test.X)
    random_state = torch.get_rng_state()
    for other in FORMS:
        # The same samples, in which more is kept then. Slow fits of intervals share nothing with others.
        if other is not row.form and (other.effort < 3 or len(row.grid) > 1):
            with contextlib.suppress(NotApplicable, StopIteration, np.linalg.LinAlgError):
                next(other.path(samples, Options(solver=other.solver))).fit(samples)
    assert torch.equal(fitted(row, samples).apply(test.X), first)
    # Nor does it matter what was kept with the samples.
    assert torch.equal(fitted(row, replace(samples)).apply(test.X), first)
    assert torch.equal(samples.X, X)
    assert torch.equal(samples.Y, Y)
    assert torch.equal(torch.get_rng_state(), random_state)


@every_row
def test_samples_in_float32(row):
    samples, test = problem(row)
    adjoint = samples.adjoint and tuple(M.float().double() for M in samples.adjoint)
    rounded = replace(
        samples, X=samples.X.float().double(), Y=samples.Y.float().double(), adjoint=adjoint, noise=SINGLE
    )
    assert test.error(fitted(row, rounded).apply(test.X)) < row.single


@every_row
def test_order_of_the_samples(row):
    samples, test = problem(row)
    order = torch.randperm(samples.n_samples, generator=torch.Generator().manual_seed(3))
    expected = fitted(row, samples).apply(test.X)
    assert relative(fitted(row, samples.pick(order)).apply(test.X), expected) < row.accuracy


@every_row
def test_units(row):
    samples, test = problem(row)
    adjoint = samples.adjoint and (samples.adjoint[0], 1e-12 * samples.adjoint[1])
    others = replace(samples, X=1e5 * samples.X, Y=1e-7 * samples.Y, adjoint=adjoint)
    plain, scaled = selected(row, samples), selected(row, others)
    assert str(plain.form) == str(scaled.form)
    expected = 1e-7 * plain.operator.apply(test.X)
    assert relative(scaled.operator.apply(1e5 * test.X), expected) < row.accuracy


@every_row
def test_masks(row):
    samples, test = problem(row)
    ends = [n for n in row.padding or [2] * len(row.grid) for _ in range(2)]

    def padded(M):
        """Fields in the middle of a larger grid, zero elsewhere."""
        return torch.nn.functional.pad(M, ends)

    inside = padded(torch.ones(samples.grid_out)).bool()
    adjoint = samples.adjoint and tuple(padded(M) for M in samples.adjoint)
    masked = as_samples(padded(samples.X), padded(samples.Y), inside=inside, adjoint=adjoint)
    found = selected(row, masked)
    X, Y = padded(test.X), padded(test.Y)
    prediction = found.operator.apply(X)
    assert relative(prediction, Y) < 10 * row.accuracy
    assert prediction[:, ~inside].abs().sum() < row.accuracy * Y.abs().sum()
    # Whatever stands outside, errors count the inside.
    assert masked.error(torch.where(inside, masked.Y, 1e6)) == 0
    assert masked.error(torch.where(inside, 0, masked.Y)) == pytest.approx(1)


@every_row
def test_noise(row):
    samples, test = problem(row)
    noise = 1e-3 * samples.Y.square().mean().sqrt() * randn(*samples.Y.shape, seed=9)
    noisy = replace(samples, Y=samples.Y + noise)
    if row.noisy is None:
        assert not list(row.form.path(noisy, Options(**row.options)))
        return
    found = selected(row, noisy)
    assert 1e-5 < found.held_out_error < row.noisy
    assert test.error(found.operator.apply(test.X)) < row.noisy


@every_row
def test_the_least_number_of_samples(row):
    samples, test = problem(row)
    options = Options(**{"solver": row.form.solver, **row.options, **row.least_options})
    if row.form is f.AugmentedNullSpaces:
        options = Options()
    enough, few = samples.first(row.least), samples.first(row.least - 1)
    candidate = next(row.form.path(enough, options))
    assert candidate.min_samples == row.least
    error = test.error(candidate.fit(enough).apply(test.X))
    if row.least == 1:
        # Of one sample nothing is asked, but that its map is one.
        assert math.isfinite(error)
    elif row.form is f.AugmentedNullSpaces:
        assert error < 1e-6
        assert not list(row.form.path(few, options))
    else:
        assert error < 1e-6
        with pytest.raises(ValueError, match=rf"n_samples = {len(few.X)} .* needs {row.least}; provide more samples"):
            fit(few, options, forms=[row.form])


@every_row
def test_what_is_delivered(row):
    samples, test = problem(row)
    candidate, operator = candidate_of(row)[0], fitted(row, samples)
    delivered = candidate.deliver(operator, samples)
    assert isinstance(delivered, LinearMap)
    assert (delivered.grid_in, delivered.grid_out) == (samples.grid_in, samples.grid_out)
    for fields_ in (samples.X, test.X):
        assert relative(delivered.apply(fields_), operator.apply(fields_)) < row.accuracy
    transposed = delivered.T.apply(test.Y)
    assert float((transposed * test.X).sum()) == pytest.approx(
        float((test.Y * delivered.apply(test.X)).sum()), rel=1e-6
    )


@every_row
def test_names_are_unique_along_a_path(row):
    samples, _ = problem(row)
    path, names = row.form.path(samples, Options(**row.options)), []
    # Errors that fall keep a path going.
    for k in itertools.count():
        try:
            names.append(str(path.send(5e-3 * 0.3 ** (k - 1) if k else None)))
        except StopIteration:
            break
    assert len(names) == len(set(names))
    assert row.name in names
