"""Offsets, mean-zero data, and what a warning says about a fit that is bad."""

import warnings

import numpy as np
import pytest
from entrances import problem
from numpy.testing import assert_allclose
from sklearn.base import clone

from sklearn_hss import HSSRegressor, HSSTransformer, RolloutRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.fitting import _selection
from sklearn_hss.metrics import relative_l2_error

F, U = make_poisson(240, 64, forcing="gaussian", order=2, random_state=0)
OFFSET = np.abs(U).max() * np.cos(np.linspace(0, 5, 64))


def fitted(F, U, **parameters):
    return HSSRegressor(random_state=0, **parameters).fit(F, U)


def silently(F, U, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return fitted(F, U, **parameters)


@pytest.mark.parametrize("n_samples", [10, 40, 150])
def test_an_offset_is_found(n_samples):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fitted(F[:n_samples], U[:n_samples] + OFFSET)
    assert relative_l2_error(U[200:] + OFFSET, model.predict(F[200:])) < 1e-10
    assert_allclose(model.intercept_, OFFSET, atol=1e-10 * np.abs(OFFSET).max())
    assert_allclose(model.predict(np.zeros((1, 64)))[0], model.intercept_)
    assert "about the mean fields" in model.reason_


def test_an_offset_in_two_dimensions():
    data = problem(12, (6, 7))
    offset = np.add.outer(np.arange(6.0), np.arange(7.0) ** 2)
    model = fitted(data.X[:8], data.Y[:8] + offset)
    assert relative_l2_error(data.Y[8:] + offset, model.predict(data.X[8:])) < 1e-8
    assert_allclose(model.intercept_, offset, atol=1e-8)
    transformer = HSSTransformer(random_state=0).fit(data.X[:8], data.Y[:8] + offset)
    assert_allclose(transformer.inverse_transform(transformer.transform(data.X)), data.X, atol=1e-7)


def test_where_there_is_no_offset_none_is_fitted():
    model = fitted(F[:40], U[:40])
    assert model.intercept_ == 0
    assert relative_l2_error(U[200:], fitted(F[:40], U[:40], fit_intercept=True).predict(F[200:])) < 1e-10


@pytest.mark.parametrize("data", [(F[:12], np.full((12, 64), 3.0)), (problem(8, (6, 7)).X, np.full((8, 6, 7), -1e5))])
def test_constant_targets(data):
    X, Y = data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fitted(X, Y)
    assert_allclose(model.predict(X), Y, rtol=1e-12)
    assert model.held_out_error_ == 0


def test_weights_with_an_offset():
    weight = np.r_[np.full(10, 3.0), np.ones(20)]
    repeated = np.repeat(np.arange(30), weight.astype(int))
    weighted = HSSRegressor(random_state=0, fit_intercept=True).fit(F[:30], U[:30] + OFFSET, sample_weight=weight)
    copies = HSSRegressor(random_state=0, fit_intercept=True).fit(F[repeated], U[repeated] + OFFSET)
    assert_allclose(weighted.predict(F), copies.predict(F), atol=1e-9)


def test_float32_and_inverse_transform():
    transformer = HSSTransformer(random_state=0).fit(F[:40], U[:40] + OFFSET)
    assert_allclose(transformer.inverse_transform(U + OFFSET)[:, 1:-1], F[:, 1:-1], atol=1e-6)
    single = HSSTransformer(random_state=0).fit(F[:40].astype(np.float32), (U[:40] + OFFSET).astype(np.float32))
    assert single.transform(F.astype(np.float32)).dtype == np.float32


# Mean-zero data


def waves(n_samples, n_modes, shift, seed, n_points=64):
    """Sums of travelling modes at two times, without a mean."""
    a = np.random.RandomState(seed).standard_normal((2, n_samples, n_modes))
    phase = 2 * np.pi * np.outer(np.arange(1, n_modes + 1), np.arange(n_points) / n_points)

    def at(t):
        angle = phase - 2 * np.pi * t * np.arange(1, n_modes + 1)[:, None]
        return a[0] @ np.sin(angle) + a[1] @ np.cos(angle)

    return at(0), at(shift), at


@pytest.mark.parametrize("n_samples", [11, 12, 20, 60])
def test_mean_zero_samples_are_fitted_as_least_squares_fit_them(n_samples):
    X, Y, _ = waves(n_samples + 50, 5, 0.013, seed=0)
    model = silently(X[:n_samples], Y[:n_samples])
    reference = np.linalg.lstsq(X[:n_samples], Y[:n_samples], rcond=1e-12)[0]
    assert relative_l2_error(Y[n_samples:], X[n_samples:] @ reference) < 1e-11
    assert relative_l2_error(Y[n_samples:], model.predict(X[n_samples:])) < 1e-10


def test_two_travelling_modes_do_not_grow():
    _, _, at = waves(12, 2, 0.013, seed=1)
    states = np.stack([at(0.013 * step) for step in range(40)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model = RolloutRegressor(HSSRegressor(random_state=0)).fit(states[:8, :5])
        rollouts = model.rollout(states[8:, 0], 39)
    assert relative_l2_error(states[8:], rollouts) < 1e-6


def test_a_fit_is_not_exchanged_for_a_worse_one(monkeypatch):
    X, Y = F[:40], U[:40] + 0.01 * np.abs(U).max() * np.random.RandomState(5).standard_normal((40, 64))
    expected = silently(X, Y, fit_intercept=False)
    residual_of = _selection.Search.residual_of
    monkeypatch.setattr(_selection.Search, "residual_of", lambda *arguments: 1e6 * residual_of(*arguments))
    # All residuals are suspicious now, so that none of them is a reason to leave the smallest.
    found = silently(X, Y, fit_intercept=False)
    assert 1e-6 * found.residual_ <= expected.residual_


# Causes


def cubic(n_samples, seed=0):
    """Solutions of -u'' + c u³ = f with smooth f, by Newton's method."""
    f, _ = make_poisson(n_samples, 64, forcing="grf", random_state=seed)
    n = f.shape[1]
    L = (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)) * (n + 1) ** 2
    u = np.zeros_like(f)
    for _ in range(50):
        residual = u @ L + 3e4 * u**3 - f
        u -= np.stack([np.linalg.solve(L + np.diag(9e4 * x**2), r) for x, r in zip(u, residual, strict=True)])
    assert np.abs(u @ L + 3e4 * u**3 - f).max() < 1e-8
    return f, u


def unrelated(seed=0):
    rng = np.random.RandomState(seed)
    return rng.standard_normal((60, 64)), rng.standard_normal((60, 64))


def noisy(level, n_samples=40):
    noise = np.random.RandomState(5).standard_normal((n_samples, 64))
    return F[:n_samples], U[:n_samples] + level * np.abs(U).max() * noise


CAUSES = {
    "an offset, few samples": ((F[:12], U[:12] + OFFSET), "an offset"),
    "an offset, many samples": ((F[:150], U[:150] + OFFSET), "an offset"),
    "few samples": ((F[:3], F[:3] @ np.random.RandomState(7).standard_normal((64, 64))), "too few samples"),
    "noise": (noisy(0.1), "noise"),
    "noise, many samples": (noisy(0.3, 200), "noise"),
    "no relation": (unrelated(), "noise"),
    "nonlinearity": (cubic(40), "nonlinearity"),
}


@pytest.mark.parametrize("case", CAUSES)
def test_warnings_name_the_cause(case):
    (X, Y), cause = CAUSES[case]
    with pytest.warns(UserWarning, match=f"The best fit found has .* Likeliest cause: {cause}") as caught:
        fitted(X, Y, fit_intercept=False)
    assert all(warning.filename == __file__ for warning in caught)


GRID = problem(40, (6, 7))
# Sixteen sines on a grid.
SINES = np.sin(np.pi * np.outer(np.arange(1, 5), np.linspace(0, 1, 12)))
SMOOTH = np.einsum("nij,ix,jy->nxy", np.random.RandomState(0).standard_normal((40, 4, 4)), SINES, SINES)
GRID_CAUSES = {
    "an offset": (GRID.X, GRID.Y + 100.0, "an offset"),
    "few samples": (GRID.X[:4], GRID.Y[:4], "too few samples"),
    "noise": (GRID.X, GRID.Y + 3 * np.random.RandomState(5).standard_normal(GRID.Y.shape), "noise"),
    "nonlinearity": (SMOOTH, SMOOTH + SMOOTH**2, "nonlinearity"),
}


@pytest.mark.parametrize("case", GRID_CAUSES)
def test_warnings_name_the_cause_in_two_dimensions(case):
    X, Y, cause = GRID_CAUSES[case]
    with pytest.warns(UserWarning, match=f"The best fit found has .* Likeliest cause: {cause}"):
        fitted(X, Y, fit_intercept=False, solver="least_squares")


def test_every_fit_with_an_intercept_is_a_fit_without():
    # Centring is no loss where the inputs have a mean.
    X = F[:40] + 1.0
    Y = U[:40] + U.mean()
    model = clone(HSSRegressor(random_state=0)).fit(X, Y)
    assert model.residual_ < 1e-8


def test_settings_that_do_not_suit_are_named():
    with pytest.warns(UserWarning, match="Likeliest cause: .* not of the requested form"):
        fitted(F[:200], U[:200], solver="local", form="forward")
