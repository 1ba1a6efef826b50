"""LocalOperatorRegressor with a degree above 1: against solutions by Newton's method with dense matrices."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from sklearn_hss import LocalOperatorRegressor, RolloutRegressor
from sklearn_hss.exceptions import PoorFitWarning
from sklearn_hss.fitting import Options, Samples
from sklearn_hss.fitting.forms._polynomial_law import PolynomialLaw
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer

RNG = np.random.RandomState
# Laws with noise in the outputs are slow, and have tests of their own.
MODEL = LocalOperatorRegressor(degree=3, noise=0, random_state=0)


def steps(n, boundary="dirichlet"):
    """Differences of neighbours over h, and their means, a row per face."""
    D, m = np.eye(n + 1, n) - np.eye(n + 1, n, -1), (np.eye(n + 1, n) + np.eye(n + 1, n, -1)) / 2
    if boundary == "periodic":
        D[0, -1], m[0, -1] = -1, 0.5
        D, m = D[:-1], m[:-1]
    if boundary == "neumann":
        D, m = D[1:-1], m[1:-1]
    return D * (n + 1), m


def faces(inside, boundary="dirichlet"):
    """The same along all axes, between the points of a domain."""
    found = []
    for axis in range(inside.ndim):
        both = []
        for matrix in steps(inside.shape[axis], boundary):
            whole = np.eye(1)
            for k, n in enumerate(inside.shape):
                whole = np.kron(whole, matrix if k == axis else np.eye(n))
            both.append(whole[:, inside.ravel()])
        found.append(both)
    return found


def solved(F, inside, a=(1.0,), c=0.0, linear=0.0, d=0.0, boundary="dirichlet"):
    """u with -div(a(u) grad u) + linear u + c u³ + d u mean(u²) = f; a: coefficients, from the constant one on."""
    a, slope = np.polynomial.Polynomial(a), np.polynomial.Polynomial(a).deriv()
    pairs, U = faces(inside, boundary), np.zeros((len(F), inside.size))
    for f, out in zip(F.reshape(len(F), -1)[:, inside.ravel()], U, strict=True):
        u = np.zeros_like(f)
        for part in (0.25, 0.5, 0.75, *[1.0] * 3):
            for _ in range(20):
                r = linear * u + c * u**3 + d * u * np.mean(u**2) - part * f
                J = np.diag(linear + 3 * c * u**2 + d * np.mean(u**2)) + 2 * d * np.outer(u, u) / u.size
                for D, m in pairs:
                    r = r + D.T @ (a(m @ u) * (D @ u))
                    J = J + D.T @ (a(m @ u)[:, None] * D + (slope(m @ u) * (D @ u))[:, None] * m)
                step = np.linalg.solve(J, r)
                u = u - step
                if np.abs(step).max() < 1e-13 * np.abs(u).max():
                    break
        out[inside.ravel()] = u
    return U.reshape(F.shape)


def smooth(n_samples, *grid, seed=0, n_modes=6):
    """Sums of cosines, which do not vanish at the ends."""
    fields = RNG(seed).standard_normal((n_samples, *[n_modes] * len(grid)))
    for axis, n in enumerate(grid, 1):
        k, x = np.arange(n_modes)[:, None], np.arange(1, n + 1) / (n + 1)
        fields = np.moveaxis(np.moveaxis(fields, axis, -1) @ (np.cos(np.pi * k * x) / (1 + k)), -1, axis)
    return fields


N = 40
BOX = np.ones(N, dtype=bool)
CUBIC = {"c": 2000.0}
F = 3 * smooth(30, N)
U = solved(F, BOX, **CUBIC)
L_SHAPE = np.ones((12, 11), dtype=bool)
L_SHAPE[6:, 5:] = False


@pytest.fixture(scope="module")
def fitted():
    return clone(MODEL).set_params(spacing=1 / (N + 1)).fit(F[:8], U[:8])


def error(model, X, y):
    return relative_l2_error(y, model.predict(X))


def test_own_grid(fitted):
    assert error(fitted, F[8:], U[8:]) < 1e-13
    # The law holds for other forcings, too.
    white = 20 * RNG(1).standard_normal((10, N))
    assert error(fitted, white, solved(white, BOX, **CUBIC)) < 1e-13
    assert fitted.degree_ == 3
    assert not fitted.two_sided_
    assert fitted.n_parameters_ == 2


def test_law(fitted):
    law = {row["term"]: row["coefficient"] for row in fitted.law_}
    assert set(law) == {"u_xx", "u^3"}
    np.testing.assert_allclose([law["u_xx"], law["u^3"]], [-1, 2000], rtol=1e-9)
    assert fitted.formula_ == "f = 2000 u^3 - u_xx"
    assert fitted.L_ is None
    np.testing.assert_array_equal(fitted.M_.toarray(), np.eye(N))


def test_residual_and_sample(fitted):
    assert fitted.residual(F, U).max() < 1e-12
    assert fitted.residual(F, 1.1 * U).min() > 1e-3
    X, y = fitted.sample(5, forcing="grf", random_state=0)
    assert relative_l2_error(y, solved(X, BOX, **CUBIC)) < 1e-12


def test_quasilinear_in_fluxes():
    # Variable in u and convex: 1 + u + u².
    X = 20 * smooth(20, N, seed=2)
    y = solved(X, BOX, a=(1, 1, 1))
    model = clone(MODEL).set_params(spacing=1 / (N + 1)).fit(X[:6], y[:6])
    assert error(model, X[6:], y[6:]) < 1e-12
    assert model.formula_ == "f = -u_xx - (u u_x)_x - (u^2 u_x)_x"


def test_one_sample_is_enough_in_two_dimensions_on_a_mask():
    X = 20 * smooth(12, *L_SHAPE.shape, seed=3) * L_SHAPE
    y = solved(X, L_SHAPE, a=(1, 1, 1))
    with pytest.warns(match="leaves none to verify"):
        model = clone(MODEL).set_params(mask=L_SHAPE).fit(X[:1], y[:1])
    assert error(model, X[1:], y[1:]) < 1e-12
    assert not model.predict(X)[:, ~L_SHAPE].any()


@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
def test_other_boundaries(boundary):
    X = 20 * smooth(16, N, seed=4)
    y = solved(X, BOX, linear=5.0, c=50.0, boundary=boundary)
    model = clone(MODEL).fit(X[:8], y[:8])
    assert error(model, X[8:], y[8:]) < 1e-11
    assert model.periodic_ == (boundary == "periodic",)


def test_data_of_a_finer_grid():
    fine = 4 * (31 + 1) - 1
    X = 3 * smooth(20, fine, seed=5)
    y = solved(X, np.ones(fine, dtype=bool), **CUBIC)
    X, y = X[:, 3::4], y[:, 3::4]
    model = clone(MODEL).fit(X[:10], y[:10])
    assert model.two_sided_
    assert error(model, X[10:], y[10:]) < 1e-4


def test_points_of_their_own():
    # Two points next to the corner have another law.
    X = 20 * smooth(20, *L_SHAPE.shape, seed=12, n_modes=4) * L_SHAPE
    extra = np.zeros(L_SHAPE.shape)
    extra[5, 4], extra[5, 5] = 150.0, -40.0
    y = solved(X, L_SHAPE, linear=extra[L_SHAPE], c=20.0)
    train = Samples(torch.from_numpy(X[:12]), torch.from_numpy(y[:12]))
    laws = [
        PolynomialLaw(
            Options(degree=3, spacing=(1.0, 1.0)), two_sided=True, own_rows=own, ends=(("odd beyond",) * 2,) * 2
        )
        for own in (True, False)
    ]
    errors = [relative_l2_error(y[12:], law.fit(train).apply(torch.from_numpy(X[12:])).numpy()) for law in laws]
    assert errors[0] < 1e-6
    assert errors[1] > 1e-3


def test_two_fields():
    # Each diffuses, and they react with each other.
    X = 10 * smooth(24, N, seed=6).reshape(12, 2, N)
    y = np.zeros_like(X)
    D, _ = steps(N)
    A = D.T @ D
    for f, u in zip(X, y, strict=True):
        for _ in range(30):
            r = np.concatenate([A @ u[0] + 30 * u[0] * u[1] ** 2 - f[0], 2 * A @ u[1] - 10 * u[0] - f[1]])
            J = np.block(
                [[A + np.diag(30 * u[1] ** 2), np.diag(60 * u[0] * u[1])], [-10 * np.eye(N), 2 * A]],
            )
            u -= np.linalg.solve(J, r).reshape(2, N)
    scale = np.array([1.0, 1e4])[:, None]  # in units of their own
    model = clone(MODEL).set_params(grid_shape=(N,), spacing=1 / (N + 1)).fit(X[:6], scale * y[:6])
    assert error(model, X[6:], scale * y[6:]) < 1e-11
    law = {(row["channel"], row["term"]): row["coefficient"] for row in model.law_}
    assert law[0, "u1 u2^2"] == pytest.approx(30 / 1e8, rel=1e-8)
    assert law[1, "u2_xx"] == pytest.approx(-2 / 1e4, rel=1e-8)
    assert len(model.formula_.splitlines()) == 2


def test_linear_laws_are_found_with_any_degree():
    y = solved(F, BOX, linear=20.0)
    model = clone(MODEL).fit(F[:8], y[:8])
    assert error(model, F[8:], y[8:]) < 1e-12
    assert model.degree_ == 1
    assert model.L_ is not None
    assert model.law_ is None


def test_degree_of_one_is_as_before():
    assert LocalOperatorRegressor().degree == 1
    with pytest.warns(PoorFitWarning):
        model = LocalOperatorRegressor(noise=0, random_state=0).fit(F[:8], U[:8])
    assert {row["fit"].split()[0] for row in model.candidates_} <= {"local", "symmetric"}


def test_weights_are_copies():
    weights = np.array([1, 2, 1, 1, 3, 1, 0, 1])
    y = U[:8] + 1e-6 * np.abs(U).max() * RNG(7).standard_normal((8, N))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weighted = clone(MODEL).fit(F[:8], y, sample_weight=weights)
        copied = clone(MODEL).fit(np.repeat(F[:8], weights, axis=0), np.repeat(y, weights, axis=0))
        np.testing.assert_allclose(weighted.predict(F), copied.predict(F), rtol=1e-6, atol=1e-9)


# Failures


@pytest.fixture(scope="module")
def without_solutions():
    # -u'' - 300 u² = f has two solutions, or one, or none.
    X = 0.02 * smooth(12, N, seed=8)
    y = np.zeros_like(X)
    D, _ = steps(N)
    for f, u in zip(X, y, strict=True):
        for _ in range(10):
            u -= np.linalg.solve(D.T @ D - 600 * np.diag(u), D.T @ (D @ u) - 300 * u**2 - f)
        assert np.abs(D.T @ (D @ u) - 300 * u**2 - f).max() < 1e-12
    return clone(MODEL).set_params(degree=2).fit(X[:8], y[:8]), X, y


def test_inputs_without_a_solution_are_reported(without_solutions):
    model, X, y = without_solutions
    assert error(model, X[8:], y[8:]) < 1e-11
    both = np.concatenate([X[:2], 1e4 * np.abs(X[:3])])
    with pytest.warns(ConvergenceWarning, match="no solution for 3 of 5 inputs"):
        prediction = model.predict(both)
    assert np.isfinite(prediction).all()
    again, converged = model.predict(both, return_converged=True)
    np.testing.assert_array_equal(again, prediction)
    np.testing.assert_array_equal(converged, [True, True, False, False, False])


def test_linear_laws_always_converge():
    y = solved(F, BOX)
    model = LocalOperatorRegressor(random_state=0).fit(F[:8], y[:8])
    prediction, converged = model.predict(F, return_converged=True)
    np.testing.assert_array_equal(prediction, model.predict(F))
    assert converged.all()


@pytest.mark.parametrize(
    ("law", "cause"),
    [({"d": 2000.0}, "not local"), ({"a": [1.0, *[0.0] * 7, 300.0]}, "not a polynomial of degree 3")],
)
def test_other_laws_are_warned_about(law, cause):
    n = 20
    X = 20 * smooth(60, n, seed=9) if "a" in law else 3 * smooth(60, n, seed=9)
    y = solved(X, np.ones(n, dtype=bool), **law)
    with pytest.warns(PoorFitWarning, match=cause):
        model = clone(MODEL).fit(X[:10], y[:10])
    ridge = np.linalg.lstsq(X[:10], y[:10], rcond=1e-8)[0]
    assert relative_l2_error(y[10:], model.predict(X[10:])) < 1.05 * relative_l2_error(y[10:], X[10:] @ ridge)


def test_without_any_law_ridge_regression_is_chosen():
    X, y = RNG(10).standard_normal((2, 20, N))
    with pytest.warns(PoorFitWarning):
        model = clone(MODEL).fit(X, y)
    assert "ridge regression" in model.reason_.split(":")[0]
    assert model.M_ is None
    with pytest.raises(ValueError, match="no law explained the samples"):
        model.residual(X, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"points": np.arange(N)[:, None]}, "points requires degree=1"),
        ({"symmetric": True}, "symmetric=True requires degree=1"),
        ({"sharing": "row"}, "sharing='row' requires degree=1"),
        ({"fit_intercept": True}, "fit_intercept=True requires degree=1"),
        ({"spacing": (1.0, 2.0)}, r"spacing=\(1.0, 2.0\) must be"),
        ({"spacing": 0.0}, "spacing"),
        ({"degree": 4}, "degree"),
        ({"degree": True}, "degree"),
    ],
)
def test_refusals(parameters, message):
    with pytest.raises(ValueError, match=message):
        clone(MODEL).set_params(**parameters).fit(F[:8], U[:8])


# In scikit-learn's world


def test_pickle_and_clone(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(F), fitted.predict(F))
    assert clone(fitted).get_params()["degree"] == 3


def test_search_over_degree():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = GridSearchCV(MODEL, {"degree": [1, 3]}, scoring=relative_l2_scorer, cv=2).fit(F[:8], U[:8])
    assert search.best_params_ == {"degree": 3}


def test_rollouts_of_implicit_steps():
    # u - dt u'' + dt c u³ = u before.
    dt, states = 1e-2, [2 * smooth(6, N, seed=11)]
    for _ in range(4):
        states.append(solved(states[-1] / dt, BOX, linear=1 / dt, c=20.0))
    trajectories = np.stack(states, axis=1)
    model = RolloutRegressor(MODEL, residual=False).fit(trajectories[:3])
    found, true = model.rollout(trajectories[3:, 0], 4)[:, 1:], trajectories[3:, 1:]
    assert relative_l2_error(true.reshape(3, -1), found.reshape(3, -1)) < 1e-10
