"""LocalEvolutionRegressor: laws from few states, on any domain, and the truth where there is none."""

import pickle
import warnings

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV

from sklearn_hss import LocalEvolutionRegressor, RolloutRegressor
from sklearn_hss.datasets import make_burgers
from sklearn_hss.exceptions import DataWarning, DivergenceWarning, PoorFitWarning
from sklearn_hss.metrics import relative_l2_error, trajectory_l2_scorer

N = 48


@pytest.fixture(scope="module")
def burgers():
    return make_burgers(
        4, N, viscosity=1e-2, t_final=2.0, return_trajectories=True, random_state=0, verbose=0, rtol=1e-8, atol=1e-10
    )[1]


@pytest.fixture(scope="module")
def burgers_model(burgers):
    return LocalEvolutionRegressor(2, 1, dt=0.2, spacing=1 / N, random_state=0).fit(burgers[:1])


def evolved(rates, u0, times):
    """Trajectories of du/dt = rates(u), solved on their own grid."""
    return np.stack(
        [solve_ivp(lambda _, y: rates(y), (0, times[-1]), u, t_eval=times, rtol=1e-10, atol=1e-12).y.T for u in u0]
    )


def smooth(n_samples, n, seed=0):
    """Smooth periodic fields between about -1 and 1."""
    k, x = np.arange(1, 5)[:, None], 2 * np.pi * np.arange(n) / n
    waves = np.concatenate([np.cos(k * x), np.sin(k * x)])
    return np.random.default_rng(seed).uniform(-0.4, 0.4, (n_samples, 8)) @ waves


def test_one_trajectory_of_burgers_equation(burgers, burgers_model):
    assert burgers_model.form_ == "law"
    assert relative_l2_error(burgers[1:, 1:], burgers_model.rollout(burgers[1:, 0], 10)[:, 1:]) < 0.1
    coefficients = {row["term"]: row["coefficient"] for row in burgers_model.law_}
    assert coefficients["(u^2)_x"] == pytest.approx(-0.5, rel=0.2)
    assert coefficients["u_xx"] == pytest.approx(1e-2, rel=0.5)
    assert burgers_model.formula_.startswith("u_t = ")
    assert burgers_model.n_parameters_ == len(burgers_model.law_)


def test_pairs_and_trajectories_are_the_same_to_a_fit(burgers, burgers_model):
    U = burgers[0]
    order = np.random.default_rng(0).permutation(10)
    model = clone(burgers_model).fit(U[:-1][order], U[1:][order])
    np.testing.assert_array_equal(model.predict(burgers[1, :3]), burgers_model.predict(burgers[1, :3]))


def test_trajectories_of_different_lengths(burgers):
    model = LocalEvolutionRegressor(2, 1, dt=0.2, spacing=1 / N, random_state=0)
    model.fit([burgers[0, :6], burgers[1], burgers[2, :4]])
    assert relative_l2_error(burgers[3, 1:], model.predict(burgers[3, :-1])) < 0.1


def test_coefficients_are_in_units_of_time_and_length(burgers):
    settings = {"degree": 2, "radius": 1, "random_state": 0}
    models = [
        LocalEvolutionRegressor(dt=dt, spacing=h, **settings).fit(burgers[:1]) for dt, h in ((0.2, 1 / N), (0.4, 3 / N))
    ]
    first, second = ({row["term"]: row["coefficient"] for row in model.law_} for model in models)
    assert second["(u^2)_x"] == pytest.approx(first["(u^2)_x"] * 3 / 2, rel=1e-4)
    assert second["u_xx"] == pytest.approx(first["u_xx"] * 9 / 2, rel=1e-3)


def test_a_conservative_law_conserves(burgers):
    u0 = smooth(3, N, seed=3)
    model = LocalEvolutionRegressor(2, 1, conservative=True, boundary="periodic", dt=0.2, spacing=1 / N, random_state=0)
    model.fit(burgers[:1])
    sums = model.rollout(u0, 5).sum(axis=2)
    np.testing.assert_allclose(sums, sums[:, :1].repeat(6, axis=1), atol=1e-11)
    assert all(row["term"].endswith("_x") or "_x" in row["term"] for row in model.law_)


def test_two_fields_with_a_rate_that_is_a_channel():
    def rates(y, p):
        u, v = y.reshape(2, N)
        spread = [np.roll(w, 1) - 2 * w + np.roll(w, -1) for w in (u, v)]
        return np.concatenate([0.2 * spread[0] - p * u * v, 0.1 * spread[1] + p * u * v - 0.3 * v])

    u0 = 0.5 + 0.3 * smooth(10, N).reshape(5, 2 * N)
    P = np.array([0.2, 0.4, 0.6, 0.9, 0.5])
    later = np.stack(
        [evolved(lambda y, p=p: rates(y, p), u[None], [0, 0.5])[0, -1] for u, p in zip(u0, P, strict=True)]
    )
    X = np.concatenate([u0.reshape(5, 2, N), np.broadcast_to(P[:, None, None], (5, 1, N))], axis=1)
    y = later.reshape(5, 2, N)
    model = LocalEvolutionRegressor(3, 1, dt=0.5, grid_shape=(N,), field_names=["a", "b", "rate"], random_state=0)
    model.fit(X[:4], y[:4])
    assert relative_l2_error(y[4:], model.predict(X[4:])) < 1e-6
    assert "a_t" in model.formula_
    assert "b_t" in model.formula_
    assert model.rollout(X[4:], 2).shape == (1, 3, 3, N)
    np.testing.assert_array_equal(model.rollout(X[4:], 2)[0, :, 2], 0.5)


def test_channels_of_trajectories_that_never_change_are_parameters():
    u0, p = 0.5 + 0.3 * smooth(4, N), np.array([0.2, 0.5, 0.8, 1.0])
    U = np.stack([evolved(lambda u, a=a: -a * u**2, u[None], [0, 0.5, 1.0])[0] for u, a in zip(u0, p, strict=True)])
    X = np.stack([U, np.broadcast_to(p[:, None, None], U.shape)], axis=2)
    model = LocalEvolutionRegressor(3, 1, dt=0.5, grid_shape=(N,), random_state=0).fit(X[:3])
    assert relative_l2_error(X[3:], model.rollout(X[3:, 0], 2)) < 1e-6


def test_land_that_is_nan():
    rng = np.random.default_rng(0)
    inside = np.ones((16, 16), dtype=bool)
    inside[5:9, 6:11] = False

    def rates(y):
        u = y.reshape(16, 16)
        total = 0.3 * u * (1 - u) * inside
        for axis in (0, 1):
            for step in (1, -1):
                there = np.roll(inside, step, axis) & inside
                edge = np.moveaxis(there, axis, 0)
                edge[0 if step == 1 else -1] = False
                total += 0.4 * np.where(there, np.roll(u, step, axis) - u, 0)
        return total.ravel()

    waves = [np.cos(np.pi * k * (np.arange(16) + 0.5) / 16) for k in range(3)]
    fields = np.einsum("nij,ix,jy->nxy", rng.uniform(-0.1, 0.1, (3, 3, 3)), waves, waves) + 0.5
    U = evolved(rates, fields.reshape(3, -1), np.arange(5) * 0.5).reshape(3, 5, 16, 16)
    U[..., ~inside] = np.nan
    model = LocalEvolutionRegressor(2, 1, dt=0.5, mask="auto", random_state=0).fit(U[:2])
    np.testing.assert_array_equal(model.mask_, inside)
    predicted = model.rollout(U[2:, 0], 4)
    assert np.isnan(predicted[..., ~inside]).all()
    assert relative_l2_error(U[2:][..., inside], predicted[..., inside]) < 1e-5
    assert model.boundary_ == [["even/even", "even/even"]]


def test_it_rolls_out_in_rollout_regressors_and_searches(burgers, burgers_model):
    search = GridSearchCV(
        RolloutRegressor(clone(burgers_model)), {"estimator__degree": [1, 2]}, cv=3, scoring=trajectory_l2_scorer
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoorFitWarning)
        search.fit(burgers[:3])
    assert search.best_params_ == {"estimator__degree": 2}
    own = search.best_estimator_.estimator_.rollout(burgers[3:, 0], 5)
    np.testing.assert_allclose(search.best_estimator_.rollout(burgers[3:, 0], 5), own, rtol=1e-12)


def test_pickles_predict_the_same(burgers, burgers_model):
    again = pickle.loads(pickle.dumps(burgers_model))
    np.testing.assert_array_equal(again.predict(burgers[1]), burgers_model.predict(burgers[1]))


def test_rollouts_leave_the_states_alone_and_start_with_them(burgers, burgers_model):
    u0 = burgers[1:2, 0].copy()
    found = burgers_model.rollout(u0, 3)
    np.testing.assert_array_equal(u0, burgers[1:2, 0])
    np.testing.assert_array_equal(found[:, 0], u0)


def test_derivatives_are_those_of_the_formula(burgers, burgers_model):
    model = pickle.loads(pickle.dumps(burgers_model))
    rates = model.derivative(burgers[1, :2])
    u, h = burgers[1, :2], 1 / N
    terms = {row["term"]: row["coefficient"] for row in model.law_}
    right = np.concatenate([u[:, 1:], np.zeros((2, 1))], axis=1)
    mean, slope = (u + right) / 2, (right - u) / h
    values = {"u": mean, "u_x": slope}
    flux = np.zeros_like(u)
    for term, c in terms.items():
        if term == "u_xx":
            flux += c * slope
        elif term.startswith("("):
            product = np.ones_like(u)
            for factor in term[1 : term.index(")")].split():
                name, _, power = factor.partition("^")
                product *= values[name] ** int(power or 1)
            flux += c * product
    expected = np.diff(flux, axis=1) / h
    others = [row for row in model.law_ if not row["term"].startswith("(") and row["term"] != "u_xx"]
    assert not others
    np.testing.assert_allclose(rates[:, 1:], expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["rational", "nonlocal"])
def test_what_is_no_local_polynomial_is_never_worse_than_ridge(kind):
    def rates(u):
        if kind == "nonlocal":
            return u * (1 - 8 * np.mean(u**2))
        a = 1 / (1 + 200 * ((u + np.roll(u, -1)) / 2) ** 2)
        flux = a * (np.roll(u, -1) - u)
        return 3 * (flux - np.roll(flux, 1))

    U = evolved(rates, smooth(12, N), np.arange(4) * 0.5)
    model = LocalEvolutionRegressor(dt=0.5, random_state=0)
    if kind == "nonlocal":
        with pytest.warns(PoorFitWarning, match="not local"):
            model.fit(U[:10])
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PoorFitWarning)
            model.fit(U[:10])
    X, y, fresh, truth = (Z.reshape(-1, N) for Z in (U[:10, :-1], U[:10, 1:], U[10:, :-1], U[10:, 1:]))
    ridge = RidgeCV(np.logspace(-8, 4, 13)).fit(X, y)
    assert relative_l2_error(truth, model.predict(fresh)) < 1.1 * relative_l2_error(truth, ridge.predict(fresh))


def test_rough_states_are_said_to_be_unresolved():
    rng = np.random.default_rng(0)
    U = rng.standard_normal((6, 2, N))
    with pytest.warns(PoorFitWarning, match="does not resolve"):
        LocalEvolutionRegressor(dt=1.0, random_state=0).fit(U)


def test_unstable_states_are_named_and_not_changed(burgers, burgers_model):
    huge = 1e6 * burgers[:1, 0]
    with pytest.warns(DivergenceWarning, match="unstable for 1 of 1"):
        predicted = burgers_model.predict(huge)
    np.testing.assert_array_equal(predicted, huge)
    with pytest.warns(DivergenceWarning, match="the first at step 1 of 2"):
        assert np.isnan(burgers_model.rollout(huge, 2)[0, 1:]).all()


def test_numbers_have_no_law():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, N))
    with pytest.warns(DataWarning, match="are not fields"):
        model = LocalEvolutionRegressor(random_state=0).fit(X, X[:, :2] @ [1.0, 2.0])
    assert model.form_ == "ridge"
    assert model.law_ == []
    with pytest.raises(ValueError, match="no law"):
        model.derivative(X)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"boundary": ("odd", "even")}, "boundary=.* must be 'auto'"),
        ({"boundary": ["open"]}, "boundary=.* must be 'auto'"),
        ({"spacing": (0.1, 0.2)}, "spacing=.* must be a positive number"),
        ({"spacing": (-0.1,)}, "spacing=.* must be a positive number"),
        ({"field_names": ["u", "v"]}, "field_names=.* must be 1 strings"),
        ({"degree": 4}, "'degree' parameter"),
        ({"radius": 0}, "'radius' parameter"),
        ({"dt": 0}, "'dt' parameter"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(burgers, parameters, message):
    with pytest.raises(ValueError, match=message):
        LocalEvolutionRegressor(**parameters).fit(burgers[:1])


def test_states_on_other_grids_are_refused(burgers, burgers_model):
    with pytest.raises(ValueError, match="X has 20 features"):
        burgers_model.predict(burgers[0, :, :20])
    with pytest.raises(ValueError, match="states of shape"):
        LocalEvolutionRegressor().fit(burgers[0], burgers[0][:, : N - 4])
