"""Numerics that forms share, against NumPy and scikit-learn."""

from itertools import pairwise
from math import comb

import numpy as np
import pytest
import torch
from grid_operators import randn, relative
from sklearn.linear_model import Ridge, RidgeCV

from sklearn_hss.fitting._least_squares import (
    Point,
    RidgeRegression,
    compress,
    difference,
    difference_stencils,
    gauss_newton,
    lsmr_solution,
    mode_basis,
    shrunk,
)
from sklearn_hss.linalg._modes import multilinear

# Bases of modes


@pytest.fixture(scope="module")
def spans():
    return [torch.linalg.qr(randn(n, 3, seed=n))[0] for n in (8, 9)]


def test_mode_basis(spans):
    x = multilinear(randn(10, 3, 3), spans)
    for j, span in enumerate(spans):
        basis, sizes = mode_basis([x], j, 1e-10)
        assert basis.shape == (len(span), 3)
        torch.testing.assert_close(basis @ basis.mT, span @ span.mT)
        assert float(sizes.square().sum()) == pytest.approx(1)
    assert mode_basis([0 * x], 0, 1e-10)[0].shape == (8, 1)


def test_every_field_counts_as_much_in_a_basis(spans):
    # Directions of the second one are seen, although it is tiny.
    x, y = randn(10, 8, 2) @ torch.eye(2, 9).double(), 1e-20 * randn(10, 8, 9)
    assert mode_basis([x, y], 1, 1e-10)[0].shape == (9, 9)
    assert mode_basis([x, 0 * y], 1, 1e-10)[0].shape == (9, 2)


def test_compressed_samples(spans):
    x, y = multilinear(randn(10, 3, 3), spans), multilinear(randn(10, 3, 3, seed=1), spans)
    bases, (a, b) = compress([x, y], 1e-10)
    assert a.shape == b.shape == (10, 3, 3)
    for P, span in zip(bases, spans, strict=True):
        torch.testing.assert_close(P @ P.mT, span @ span.mT)
    torch.testing.assert_close(multilinear(a, bases), x)
    torch.testing.assert_close(multilinear(b, bases), y)


# LSMR


@pytest.mark.parametrize(("rows", "columns"), [(20, 7), (7, 20), (9, 9)])
@pytest.mark.parametrize("damp", [0.0, 0.5])
def test_lsmr(rows, columns, damp):
    A, b = randn(rows, columns), randn(rows, seed=1)
    found = lsmr_solution(lambda v: A @ v, lambda r: A.mT @ r, b, columns, damp=damp)
    damped = np.vstack([A.numpy(), damp * np.eye(columns)])
    expected = np.linalg.lstsq(damped, np.concatenate([b.numpy(), np.zeros(columns)]), rcond=None)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


def test_lsmr_of_tensors_and_its_limit():
    A, B, X = randn(5, 3), randn(4, 6, seed=1), randn(3, 6, seed=2)

    def forward(v):
        return A @ v.view(3, 6) @ B.mT

    def adjoint(r):
        assert r.shape == (5, 4)
        return (A.mT @ r @ B).reshape(-1)

    target = forward(X.reshape(-1))
    expected = torch.linalg.pinv(A) @ target @ torch.linalg.pinv(B).mT
    kept = target.clone()
    assert relative(lsmr_solution(forward, adjoint, target, 18).view(3, 6), expected) < 1e-10
    assert relative(lsmr_solution(forward, adjoint, target, 18, max_iter=2).view(3, 6), expected) > 1e-3
    assert torch.equal(target, kept)


# Gauss-Newton


def rosenbrock(x):
    return Point(x, torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]))


def linearised(point):
    """Damped steps of the residual of Rosenbrock's function."""
    x = point.x
    J = torch.tensor([[-20 * x[0], 10.0], [-1.0, 0.0]]).double()

    def propose(damping):
        return x - torch.linalg.solve(J.mT @ J + damping * torch.eye(2).double(), J.mT @ point.residual)

    return propose


def test_gauss_newton():
    start = torch.tensor([-1.2, 1.0]).double()
    found = gauss_newton(rosenbrock, linearised, start, 1.0, max_iter=100, slow=1.0)
    torch.testing.assert_close(found.x, torch.ones(2).double(), rtol=1e-10, atol=1e-10)
    assert found.size < 1e-10
    sizes = [gauss_newton(rosenbrock, linearised, start, 1.0, max_iter=k, slow=1.0).size for k in range(6)]
    assert sizes[0] == rosenbrock(start).size
    assert all(after < before for before, after in pairwise(sizes))


def test_gauss_newton_stops():
    evaluated = []

    def noted(x):
        evaluated.append(x)
        return rosenbrock(x)

    start = torch.tensor([-1.2, 1.0]).double()
    # Accurate enough from the start.
    assert gauss_newton(noted, linearised, start, 100.0, max_iter=9, tol=0.1).x is start
    assert len(evaluated) == 1
    # No step where none lowers the residual, after so many tries with growing damping.
    dampings = []

    def useless(point):
        def propose(damping):
            dampings.append(damping)
            return None if damping < 0.1 else 10 * point.x

        return propose

    assert gauss_newton(noted, useless, start, 1.0, max_iter=9, tries=4, damping=1e-2).x is start
    assert dampings == pytest.approx([0.01, 0.05, 0.25, 1.25])
    assert len(evaluated) == 4
    # NaN is no improvement, and ends the search at once where the start is.
    assert gauss_newton(noted, useless, start * torch.nan, 1.0, max_iter=9).x.isnan().all()


def test_gauss_newton_stops_where_steps_are_small():
    # Every step takes away a tenth.
    def shorten(point):
        return lambda damping: 0.9 * point.x

    def norm(x):
        return Point(x, x)

    x = torch.ones(1).double()
    assert gauss_newton(norm, shorten, x, 1.0, max_iter=50, slow=0.95).x == pytest.approx(0.9**50)
    assert gauss_newton(norm, shorten, x, 1.0, max_iter=50, slow=0.85).x == pytest.approx(0.9)


# Differences


@pytest.mark.parametrize("order", range(6))
def test_differences(order):
    u = randn(12).numpy()
    np.testing.assert_allclose(np.correlate(u, difference(order).numpy()), np.diff(u, n=order), atol=1e-12)
    assert difference(order).abs().tolist() == [comb(order, i) for i in range(order + 1)]


@pytest.mark.parametrize("w", [0, 1, 2, 3])
def test_difference_stencils(w):
    rows = difference_stencils(w)
    # As many independent ones as a row has unknowns.
    assert rows.shape == (2 * w + 1, 2 * w + 1)
    assert np.linalg.matrix_rank(rows) == 2 * w + 1
    u = randn(15).numpy()
    for order, row in enumerate(rows):
        twin = np.diff(u, n=order)
        if order % 2:
            twin = (twin[1:] + twin[:-1]) / 2
        middle = slice(w - (order + 1) // 2, len(u) - w - (order + 1) // 2)
        np.testing.assert_allclose(np.correlate(u, row.numpy()), twin[middle], atol=1e-12)
    # Even ones are symmetric, odd ones antisymmetric.
    for order, row in enumerate(rows):
        torch.testing.assert_close(row.flip(0), (-1) ** order * row)


# Ridge regression


def regression(X, Y):
    """Of samples in rows."""
    W, s, V = torch.linalg.svd(X.mT, full_matrices=False)
    kept = int((s > 1e-12 * s[0]).sum())
    return RidgeRegression((W[:, :kept], s[:kept], V[:kept]), Y.mT)


SHAPES = [(30, 8, 5), (8, 30, 5), (8, 30, 50), (30, 8, 50), (12, 12, 3)]


@pytest.mark.parametrize(("n_samples", "n_in", "n_out"), SHAPES)
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 100.0])
def test_ridge_regression(n_samples, n_in, n_out, alpha):
    X, Y = randn(n_samples, n_in), randn(n_samples, n_out, seed=1)
    left, right = regression(X, Y).factors(alpha)
    expected = Ridge(alpha, fit_intercept=False, solver="svd").fit(X.numpy(), Y.numpy()).coef_
    np.testing.assert_allclose(left @ right.mT, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("n_samples", "n_in", "n_out"), SHAPES)
def test_least_squares(n_samples, n_in, n_out):
    X, Y = randn(n_samples, n_in), randn(n_samples, n_out, seed=1)
    left, right = regression(X, Y).factors(0.0)
    expected = np.linalg.lstsq(X.numpy(), Y.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(left @ right.mT, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("n_samples", "n_in", "n_out"), SHAPES)
@pytest.mark.parametrize("noise", [1e-2, 1.0])
def test_the_penalty_is_that_of_ridgecv(n_samples, n_in, n_out, noise):
    # Inputs of decaying sizes, of which a penalty can choose some.
    X = randn(n_samples, n_in) * 0.5 ** torch.arange(n_in).double()
    Y = X @ randn(n_in, n_out, seed=1) + noise * randn(n_samples, n_out, seed=2)
    ridge = regression(X, Y)
    found = ridge.best_alpha()
    alphas = [alpha for alpha in ridge.alphas() if alpha > 1e-9 * float(ridge.s[0]) ** 2]
    twin = RidgeCV(alphas, fit_intercept=False, store_cv_results=True).fit(X.numpy(), Y.numpy())
    # Where the errors of several penalties are nearly equal, any will do.
    errors = twin.cv_results_.mean(axis=(0, 1))
    assert found in ridge.alphas()
    assert found not in alphas or errors[alphas.index(found)] <= errors.min() * (1 + 1e-6)
    # With a penalty that is in their list, both choose the same one.
    assert found in alphas or errors.argmin() == errors.size - 1


@pytest.mark.parametrize(("n_samples", "n_in", "n_out"), SHAPES)
def test_leave_one_out_errors_are_those_of_fits_without_one(n_samples, n_in, n_out):
    X = randn(n_samples, n_in) * 0.6 ** torch.arange(n_in).double()
    Y = X @ randn(n_in, n_out, seed=1) + 0.1 * randn(n_samples, n_out, seed=2)
    ridge = regression(X, Y)
    found = ridge.best_alpha()

    X, Y = X.numpy(), Y.numpy()

    def left_out(alpha):
        total = 0.0
        for i in range(n_samples):
            others = np.arange(n_samples) != i
            fitted = Ridge(alpha, fit_intercept=False, solver="svd").fit(X[others], Y[others])
            total += float(((fitted.predict(X[[i]]).reshape(1, -1) - Y[[i]]) ** 2).sum())
        return total

    candidates = {alpha: left_out(alpha) for alpha in ridge.alphas()[:14]}
    best = min(candidates.values())
    assert found in candidates
    assert candidates[found] <= best * (1 + 1e-6)


def test_hardly_any_samples_tell_nothing_about_the_penalty():
    assert regression(randn(4, 9), randn(4, 9)).best_alpha() == 0


def test_exact_samples_need_no_penalty():
    X = randn(30, 8)
    ridge = regression(X, X @ randn(8, 5, seed=1))
    left, right = ridge.factors(ridge.best_alpha())
    assert relative(left @ right.mT, randn(8, 5, seed=1).mT) < 1e-9


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_factors_of_a_rank_are_the_best_for_the_fitted_values(rank):
    X, Y = randn(30, 8) * torch.arange(1, 9).double(), randn(30, 6, seed=1)
    left, right = regression(X, Y).factors(0.0, rank)
    assert left.shape[1] == right.shape[1] == rank
    fitted = X @ torch.linalg.lstsq(X, Y).solution
    # Reduced rank regression: the best approximation of the fitted values of that rank.
    u, s, vh = torch.linalg.svd(fitted, full_matrices=False)
    torch.testing.assert_close(X @ right @ left.mT, u[:, :rank] * s[:rank] @ vh[:rank])


def test_denoised_coefficients_are_nearer_to_the_truth():
    A, X = randn(50, 2, seed=1) @ randn(2, 40, seed=2), randn(60, 40)
    noisy = X @ A.mT + 5.0 * randn(60, 50, seed=3)

    def error(ridge):
        left, right = ridge.factors(0.0)
        return relative(left @ right.mT, A)

    plain, denoised, exact = regression(X, noisy), regression(X, noisy), regression(X, X @ A.mT)
    denoised.denoise()
    exact.denoise()
    assert error(denoised) < 0.5 * error(plain)
    assert error(exact) < 1e-10


def test_outputs_along_the_inputs_stay_as_they_are():
    X = torch.cat([randn(30, 5), torch.zeros(30, 4).double()], dim=1)
    Y = X @ randn(9, 9, seed=1).mT + randn(30, 9, seed=3)
    plain, denoised = regression(X, Y), regression(X, Y)
    denoised.denoise()
    (left, right), (left_2, right_2) = plain.factors(0.0), denoised.factors(0.0)
    torch.testing.assert_close((left @ right.mT)[:5], (left_2 @ right_2.mT)[:5])
    assert relative((left_2 @ right_2.mT)[5:], (left @ right.mT)[5:]) > 1e-3


def test_shrunk_matrices():
    # Nothing is left of noise, and of what stands far above it, the optimal part: Gavish and Donoho, eq. 7.
    noise = randn(40, 60)
    assert relative(shrunk(0.9 * noise), noise) > 0.9
    assert not shrunk(0.5 * noise).any()
    u, v = torch.linalg.qr(randn(40, 1, seed=1))[0], torch.linalg.qr(randn(60, 1, seed=2))[0]
    size, beta = 100.0, 40 / 60
    y = size / 60**0.5
    expected = 60**0.5 * ((y**2 - beta - 1) ** 2 - 4 * beta) ** 0.5 / y
    torch.testing.assert_close(shrunk(size * u @ v.mT), expected * u @ v.mT)
