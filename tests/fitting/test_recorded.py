"""Fits of the problems in examples/benchmarks/_linear_problems.py are no worse than those of version 0.1.0."""

import importlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from sklearn_hss import HSSRegressor
from sklearn_hss.metrics import relative_l2_error

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
# Errors below the first are rounding, which depends on the processor; any below the second is as good as zero.
ROUNDING, NOTHING = 1e-10, 1e-12
# Those that take a second or more.
SLOW = {
    "2-D Poisson, paper, N = 150",
    "2-D rough coefficients, N = 100",
    "2-D Poisson, 1 % noise, N = 40",
    "2-D Poisson, 1e-3 noise, N = 40",
    "2-D cubic, N = 60",
}


@pytest.fixture(scope="module")
def problems():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "examples" / "benchmarks")
        yield importlib.import_module("_linear_problems")


def allowed(recorded):
    return max((20 if recorded < ROUNDING else 2) * recorded, NOTHING)


def pairs(samples):
    return [pair for pair in (samples.train, samples.test, samples.other) if pair is not None]


def test_every_problem_is_recorded(problems):
    assert set(RECORDED) == set(problems.PROBLEMS)
    assert set(RECORDED) >= SLOW


@pytest.mark.skipif(os.environ.get("HSS_TEST_SEED", "0") != "0", reason="the records are of other samples")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in RECORDED]
)
def test_errors_are_no_larger_than_recorded(problems, name):
    problem, recorded = problems.PROBLEMS[name], RECORDED[name]
    samples = problem.make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some problems have no good fit
        model = HSSRegressor(random_state=0, **problem.parameters).fit(*samples.train)
        assert (samples.other is None) == (recorded["other_error"] is None)
        errors = [recorded["error"], recorded["other_error"]]
        for (f, u), error in zip(pairs(samples)[1:], errors, strict=False):
            assert relative_l2_error(u, model.predict(f)) <= allowed(error)


# The problems themselves


def neighbours(u, axis):
    """Values before and after each point along an axis, zero beyond the ends."""
    width = [(1, 1) if j == axis else (0, 0) for j in range(u.ndim)]
    padded = np.pad(u, width)
    return tuple(np.take(padded, range(k, k + u.shape[axis]), axis) for k in (0, 2))


def minus_laplace(u):
    total = 0.0
    for axis in range(1, u.ndim):
        before, after = neighbours(u, axis)
        total = total + (2 * u - before - after) * (u.shape[axis] + 1) ** 2
    return total


def test_samples_are_finite_and_as_many_as_the_name_says(problems):
    for name, problem in problems.PROBLEMS.items():
        samples = problem.make()
        n_train = int(name.rsplit("N = ", 1)[1])
        assert len(samples.train[0]) == len(samples.train[1]) == n_train, name
        assert all(np.isfinite(z).all() for pair in pairs(samples) for z in pair), name
        dimensions = int(name[0])
        assert samples.train[0].ndim == dimensions + 1, name
        # No sample of the training is in the test.
        distances = np.abs(samples.train[0][:, None] - samples.test[0][None]).reshape(n_train, 20, -1).max(-1)
        assert distances.min() > 0, name


@pytest.mark.parametrize(
    ("name", "velocity", "shift"),
    [
        ("1-D Poisson, white, N = 8", 0.0, 0.0),
        ("1-D convection, white, N = 10", 20.0, 0.0),
        ("2-D Poisson, white, N = 4", 0.0, 0.0),
        ("2-D Helmholtz, white, N = 8", 0.0, 900.0),
        ("3-D Poisson, white, N = 4", 0.0, 0.0),
    ],
)
def test_solutions_satisfy_the_stencil(problems, name, velocity, shift):
    for f, u in pairs(problems.PROBLEMS[name].make()):
        before, after = neighbours(u, 1)
        # The weights before and after a point are those of solve_banded: u' is taken from after to before.
        slope = (after - before) * (u.shape[1] + 1) / 2
        np.testing.assert_allclose(minus_laplace(u) + velocity * slope - shift * u, f, atol=1e-7 * np.abs(f).max())


def test_solutions_of_an_l_shape_satisfy_the_stencil_inside(problems):
    inside = problems.l_shape(24)
    assert inside.sum() == 24 * 24 * 3 // 4
    for f, u in pairs(problems.PROBLEMS["2-D L-shape, smooth, N = 20"].make()):
        assert not u[:, ~inside].any()
        assert not f[:, ~inside].any()
        np.testing.assert_allclose(minus_laplace(u)[:, inside], f[:, inside], atol=1e-9 * np.abs(f).max())


@pytest.mark.parametrize(
    ("name", "coefficients"),
    [("2-D separable coefficients, N = 10", "separable"), ("2-D rough coefficients, N = 100", "rough")],
)
def test_fluxes_balance(problems, name, coefficients):
    samples = problems.PROBLEMS[name].make()
    n = samples.train[0].shape[1]
    a = getattr(problems, coefficients)(n)
    for f, u in pairs(samples):
        around = np.pad(u, [(0, 0), (1, 1), (1, 1)])
        outflow = np.zeros_like(u)
        for i in range(n):
            for j in range(n):
                for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                    beyond = a[min(max(i + di, 0), n - 1), min(max(j + dj, 0), n - 1)]
                    step = u[:, i, j] - around[:, i + 1 + di, j + 1 + dj]
                    outflow[:, i, j] += (a[i, j] + beyond) / 2 * (n + 1) ** 2 * step
        np.testing.assert_allclose(outflow, f, atol=1e-8 * np.abs(f).max())


@pytest.mark.parametrize(
    "name", ["1-D Neumann, mean-zero, N = 20", "2-D Neumann, mean-zero, N = 8", "2-D periodic, mean-zero, N = 8"]
)
def test_free_problems_have_no_mean_and_no_flux_at_the_ends(problems, name):
    for f, u in pairs(problems.PROBLEMS[name].make()):
        axes = tuple(range(1, f.ndim))
        np.testing.assert_allclose(f.mean(axes), 0, atol=1e-12 * np.abs(f).max())
        np.testing.assert_allclose(u.mean(axes), 0, atol=1e-9 * np.abs(u).max())
        total = 0.0
        for axis in axes:
            periodic, n = "periodic" in name, u.shape[axis]
            # Beyond an end is the point at the end itself, or the one at the other end.
            width = [(1, 1) if j == axis else (0, 0) for j in range(u.ndim)]
            padded = np.pad(u, width, mode="wrap" if periodic else "edge")
            before, after = (np.take(padded, range(k, k + n), axis) for k in (0, 2))
            total = total + (2 * u - before - after) * (n if periodic else n + 1) ** 2
        np.testing.assert_allclose(total, f, atol=1e-8 * np.abs(f).max())


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("1-D low rank, 64 to 96, N = 30", 5),
        ("2-D two products, N = 200", None),
        ("1-D HSS, not symmetric, N = 90", None),
    ],
)
def test_maps_are_linear(problems, name, rank):
    """Least squares over training and test together leaves nothing, if there are as many samples as points."""
    samples = problems.PROBLEMS[name].make()
    F, U = (np.concatenate([z.reshape(len(z), -1) for z in zs]) for zs in zip(*pairs(samples), strict=True))
    if rank is not None:
        assert np.linalg.matrix_rank(U) == rank
    if len(F) > F.shape[1]:
        left = U - F @ np.linalg.lstsq(F, U, rcond=None)[0]
        assert np.abs(left).max() < 1e-10 * np.abs(U).max()


def test_the_matrix_that_is_not_symmetric(problems):
    samples = problems.PROBLEMS["1-D HSS, not symmetric, N = 90"].make()
    f, u = samples.train
    for i in (0, 5, 127):
        row = [
            np.exp(-(i - j) / 20) if j < i else 0.5 * np.exp(-(j - i) / 5) + (2 + np.sin(i) if i == j else 0)
            for j in range(128)
        ]
        np.testing.assert_allclose(u[:, i], f @ row, atol=1e-12 * np.abs(u).max())


def test_the_difference_operator(problems):
    for f, u in pairs(problems.PROBLEMS["1-D difference operator, N = 10"].make()):
        before, after = neighbours(f, 1)
        # Second differences in units of (n / (n + 1))², with n + 1 steps between n points.
        expected = -((129 / 128) ** 2) * (2 * f - before - after) + (after - before) / 7
        np.testing.assert_allclose(u, expected, atol=1e-12 * np.abs(u).max())


def test_disturbances(problems):
    plain = problems.interval(40, 128)
    noisy = problems.noisy(plain, 1e-2)
    noise = noisy.train[1] - plain.train[1]
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1e-2 * np.sqrt(np.mean(plain.train[1] ** 2)), rel=0.1)
    # Tests are without.
    assert noisy.test is plain.test
    moved = problems.offset(plain)
    c = moved.train[1] - plain.train[1]
    np.testing.assert_allclose(c, np.broadcast_to(c[0], c.shape), atol=1e-12)
    np.testing.assert_allclose(moved.test[1] - plain.test[1], np.broadcast_to(c[0], plain.test[1].shape), atol=1e-12)
    bent = problems.cubic(plain)
    top = np.abs(plain.train[1]).max()
    np.testing.assert_allclose(bent.train[1] / plain.train[1], 1 + 0.3 * (plain.train[1] / top) ** 2)
    cut = problems.single(plain)
    assert all(z.dtype == np.float32 for pair in pairs(cut) for z in pair)
