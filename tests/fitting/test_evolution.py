"""Integrators with derivatives, shooting, continuations beyond boundaries, and the choice of terms."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from sklearn_hss.fitting._ends import find_ends
from sklearn_hss.fitting._evolution import RidgeStep, chains, fit_evolution
from sklearn_hss.fitting._growth import make_pool
from sklearn_hss.fitting._integrators import Integrator, stable_integrator
from sklearn_hss.fitting._polynomials import Polynomial, flux_terms
from sklearn_hss.fitting._reflections import Lines
from sklearn_hss.fitting._shooting import Law, Pairs, Shooting, advance, eliminated

N = 32
X = np.arange(N) / N


def burgers_law(viscosity=0.02):
    lines = [Lines((N,), (("odd node", "odd beyond"),))]
    terms = flux_terms(lines, 0, (1 / N,), 1, 2)
    names = terms.names("u")
    c = np.zeros((len(terms), 1))
    c[names.index("u_xx")], c[names.index("(u^2)_x")] = viscosity, -0.5
    return Polynomial((terms,), (c,)), names


def states():
    return np.stack([np.sin(np.pi * X), np.sin(2 * np.pi * X) - 0.3 * np.sin(3 * np.pi * X)], axis=1)


def reference(law, Z, time):
    return np.stack(
        [
            solve_ivp(lambda _, u: law(u[:, None])[:, 0], (0, time), z, method="LSODA", rtol=1e-11, atol=1e-12).y[:, -1]
            for z in Z.T
        ],
        axis=1,
    )


@pytest.mark.parametrize(
    ("integrator", "tol"),
    [(Integrator(0.3, 60), 1e-6), (Integrator(0.3, 60, 6), 1e-3), (Integrator(0.3, 120, 5), 2.5e-4)],
)
def test_integrators_agree_with_scipy(integrator, tol):
    law, _ = burgers_law()
    assert np.abs(integrator.flow(law, states())[0] - reference(law, states(), 0.3)).max() < tol


@pytest.mark.parametrize(("coarse", "order"), [(Integrator(0.3, 30), 4), (Integrator(0.3, 30, 8), 2)])
def test_orders_of_the_integrators(coarse, order):
    law, _ = burgers_law()
    exact = reference(law, states(), 0.3)
    errors = [np.abs(scheme.flow(law, states())[0] - exact).max() for scheme in (coarse, coarse.finer())]
    assert errors[0] / errors[1] > 0.6 * 2**order


@pytest.mark.parametrize("integrator", [Integrator(0.3, 30), Integrator(0.3, 30, 6)])
def test_derivatives_are_those_of_what_is_computed(integrator):
    law, names = burgers_law()
    slots = [(0, t, 0) for t in range(len(names))]
    _, D = integrator.flow(law, states(), slots)
    for k, (_, t, _) in enumerate(slots):
        c = law.coefficients[0]
        eps = 1e-5 * np.eye(len(c))[:, [t]]
        ends = [integrator.flow(Polynomial(law.groups, (c + s * eps,)), states())[0] for s in (1, -1)]
        np.testing.assert_allclose(D[..., k], (ends[0] - ends[1]) / 2e-5, atol=1e-3 * np.abs(D[..., k]).max())


def test_the_stable_integrator_is_stable_and_stiff_problems_get_stages():
    law, _ = burgers_law(viscosity=5.0)
    integrator = stable_integrator(law, states(), 1.0)
    assert integrator.n_stages is not None
    assert np.abs(integrator.flow(law, states())[0]).max() < 1
    unstable = Integrator(1.0, 10)
    assert not np.isfinite(unstable.flow(law, states())[0]).all() or np.abs(unstable.flow(law, states())[0]).max() > 10


def test_unstable_states_get_more_steps():
    polynomial, names = burgers_law(viscosity=0.05)
    slots = [(0, names.index("u_xx"), 0), (0, names.index("(u^2)_x"), 0)]
    law = Law(polynomial.groups, tuple(slots), np.array([0.05, -0.5]), 1)
    found = advance(law, Integrator(0.3, 6), states())
    np.testing.assert_allclose(found, reference(polynomial, states(), 0.3), atol=1e-4)


def test_shooting_finds_the_coefficients_of_a_law_of_its_own_grid():
    polynomial, names = burgers_law()
    Z = states()
    pairs = Pairs(Z, reference(polynomial, Z, 0.3), 0.3, np.ones_like(Z), np.arange(2))
    lines = [Lines((N,), (("odd node", "odd beyond"),))]
    diffusion = np.where(np.array(names) == "u_xx", 0.01, 0.0)
    start = Law(polynomial.groups, tuple((0, t, 0) for t in range(len(names))), diffusion, 1)
    law, cost, _, _ = Shooting(pairs, np.ones(N), lines).refine(start, tol=1e-6, most=40)
    found = dict(zip(names, law.values, strict=True))
    assert cost < 1e-6
    assert found["u_xx"] == pytest.approx(0.02, abs=1e-6)
    assert found["(u^2)_x"] == pytest.approx(-0.5, abs=1e-5)


def test_elimination_keeps_what_least_squares_needs():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((100, 6))
    A[:, 5] = A[:, 0] + 1e-9 * rng.standard_normal(100)  # either of the two would do, and the first one is simpler
    truth = np.array([1.0, 0, 0, -2.0, 0, 0])
    y = A @ truth + 1e-4 * rng.standard_normal(100)
    R = np.linalg.qr(np.column_stack([A, y]), mode="r")
    kept, values = eliminated(R, np.zeros(6), 1.2, np.array([1.0, 1, 1, 1, 1, 5]))
    assert kept == [0, 3]
    np.testing.assert_allclose(values, [1, -2], atol=1e-3)


@pytest.mark.parametrize(
    ("positions", "function", "expected"),
    [
        (np.arange(48) / 48, lambda k, x: np.exp(2j * np.pi * k * x).real + np.sin(2 * np.pi * k * x), "periodic"),
        ((np.arange(48) + 0.5) / 48, lambda k, x: np.cos(np.pi * k * x), "even"),
        (np.arange(48) / 47, lambda k, x: np.cos(np.pi * k * x), "even node"),
        ((np.arange(48) + 0.5) / 48, lambda k, x: np.sin(np.pi * k * x), "odd"),
        (np.arange(1, 49) / 49, lambda k, x: np.sin(np.pi * k * x), "odd beyond"),
        (np.arange(48) / 47, lambda k, x: np.sin(np.pi * k * x), "odd node"),
    ],
)
def test_ends_are_found(positions, function, expected):
    c = np.random.default_rng(0).standard_normal((6, 5))
    fields = c @ function(np.arange(1, 6)[:, None], positions)
    ends, _ = find_ends(fields.T, (48,))
    assert ends == ((expected, expected),)


def test_given_conditions_restrict_the_ends():
    fields = np.random.default_rng(0).standard_normal((20, 5))
    assert find_ends(fields, (20,), conditions=["periodic"])[0] == (("periodic", "periodic"),)
    assert all(end.startswith("odd") for end in find_ends(fields, (20,), conditions=["odd"])[0][0])
    assert all(end.startswith("even") for end in find_ends(fields, (20,), conditions=["even"])[0][0])


def test_holes_are_walls_where_fields_vanish_and_not_where_they_are_flat():
    inside = np.ones((24, 24), dtype=bool)
    inside[8:16, 8:16] = False
    x, y = np.meshgrid(*[np.arange(24) - 11.5] * 2, indexing="ij")
    distance = np.maximum(abs(x), abs(y)) - 3.5  # one at the first points outside the hole
    wall = (np.where(inside, np.sin(distance / 6), 0)).reshape(-1, 1)
    flat = (np.where(inside, np.cos((distance - 0.5) / 6), 0)).reshape(-1, 1)
    assert find_ends(wall, (24, 24), inside)[1] == "odd beyond"
    assert find_ends(flat, (24, 24), inside)[1] == "even"


def test_chains_put_the_pairs_of_a_trajectory_one_after_the_other():
    trajectories = np.random.default_rng(0).standard_normal((3, 5, 7))
    Z, U = trajectories[:, :-1].reshape(-1, 7).T, trajectories[:, 1:].reshape(-1, 7).T
    mixed = np.random.default_rng(1).permutation(12)
    order, number = chains(Z[:, mixed], U[:, mixed])
    Z, U = Z[:, mixed][:, order], U[:, mixed][:, order]
    assert len(np.unique(number)) == 3
    same = number[1:] == number[:-1]
    assert np.array_equal(U[:, :-1][:, same], Z[:, 1:][:, same])
    assert same.sum() == 9


def test_states_that_do_not_change_are_chains():
    Z = np.ones((4, 3))
    order, _ = chains(Z, Z)
    assert sorted(order) == [0, 1, 2]


def test_pools_are_linear_in_parameters_and_leave_out_constant_ones():
    lines = [Lines((N,), (("periodic", "periodic"),))] * 3
    options = {"radius": 1, "degree": 3, "conservative": "auto"}
    pool = make_pool(lines, (1.0,), 1, **options, constant=[2])
    names = {pool.groups[g].names(["u", "p", "q"])[t] for g, t, _ in pool.up_to(len(pool.slots) - 1)}
    assert {"p", "u p", "u^2 p", "u^3", "(u_x p)_x"} <= names
    assert not any("q" in name or "p^2" in name for name in names)


@pytest.mark.parametrize("increments", [True, False])
def test_ridge_steps_learn_exact_affine_maps(increments):
    rng = np.random.default_rng(0)
    A, b, Z = rng.standard_normal((5, 5)), rng.standard_normal((5, 1)), rng.standard_normal((5, 40))
    step = RidgeStep(Z, A @ Z + b, np.ones(40), increments)
    fresh = rng.standard_normal((5, 3))
    np.testing.assert_allclose(step.step(fresh), A @ fresh + b, atol=1e-7)


def test_a_cubic_reaction_of_two_fields_with_a_rate_is_found_to_rounding():
    n = 24
    rng = np.random.default_rng(0)
    x = np.arange(n) / n

    def rates(z):
        u, v, p = z.reshape(3, n)
        spread = [np.roll(w, 1) - 2 * w + np.roll(w, -1) for w in (u, v)]
        return np.concatenate([0.1 * spread[0] - u * v**2 + p * (1 - u), 0.05 * spread[1] + u * v**2 - 0.4 * v])

    waves = np.stack([np.ones(n), np.cos(2 * np.pi * x), np.sin(2 * np.pi * x), np.cos(4 * np.pi * x)])
    Z = []
    for p in (0.1, 0.2, 0.35, 0.5):
        u, v = (0.6 + 0.3 * rng.uniform(-1, 1, 4) @ waves / 2 for _ in range(2))
        Z.append(np.concatenate([u, v, np.full(n, p)]))
    Z = np.array(Z).T
    U = np.stack(
        [
            solve_ivp(
                lambda _, y, p=z[2 * n :]: rates(np.concatenate([y, p])), (0, 0.5), z[: 2 * n], rtol=1e-11, atol=1e-12
            ).y[:, -1]
            for z in Z.T
        ],
        axis=1,
    )
    found = fit_evolution(
        Z, U, np.ones(4), (n,), n_channels=2, dt=0.5, spacing=(1.0,), inside=None, conditions=["auto"],
        options={"radius": 1, "degree": 3, "conservative": "auto"}, rng=np.random.RandomState(0),
    )  # fmt: skip
    names = ["u", "v", "p"]
    law = {
        (names[c], found.law.groups[g].names(names)[t]): v
        for (g, t, c), v in zip(found.law.slots, found.law.values, strict=True)
    }
    expected = {
        ("u", "u_xx"): 0.1, ("u", "u v^2"): -1, ("u", "p"): 1, ("u", "u p"): -1,
        ("v", "v_xx"): 0.05, ("v", "u v^2"): 1, ("v", "v"): -0.4,
    }  # fmt: skip
    for key, value in expected.items():
        assert law.pop(key) == pytest.approx(value, abs=1e-5)
    assert max(map(abs, law.values()), default=0) < 1e-5
    assert found.errors["law"] < 1e-7
