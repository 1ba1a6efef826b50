import importlib
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from sklearn_hss.datasets import make_burgers, make_heat

PI = np.pi
TIGHT = {"rtol": 1e-8, "atol": 1e-10, "return_trajectories": True}


def wood(x, t, nu):
    """Exact solution of u_t + u u_x = nu u_xx with u = 0 at both ends (Wood 2006)."""
    decay = np.exp(-(PI**2) * nu * t)
    return 2 * nu * PI * decay * np.sin(PI * x) / (1.5 + decay * np.cos(PI * x))


def travelling(x, t, nu, speed=0.3):
    """A periodic one: the same on twice the wave number, moved along."""
    z = 2 * (x - 0.2 - speed * t)
    return speed + 2 * wood(z, 4 * t, nu)


@pytest.mark.parametrize("beta", [1.0, -2.5])
@pytest.mark.parametrize(("boundary", "exact"), [("dirichlet", wood), ("periodic", travelling)])
def test_order_in_space(boundary, exact, beta, check_order):
    nu, resolutions, errors = 0.05, [32, 64, 128], []
    for n in resolutions:
        x = np.arange(n) / n
        # beta u satisfies the equation with beta = 1.
        times, U = make_burgers(
            initial=[exact(x, 0, nu) / beta], viscosity=nu, beta=beta, boundary=boundary, t_final=2, **TIGHT
        )
        errors.append(np.abs(U[0] - exact(x, times[:, None], nu) / beta).max())
    check_order(f"Burgers, {boundary}, beta={beta:g}, central differences in space", resolutions, errors, 2)


@pytest.fixture(scope="module")
def by_cole_hopf():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "examples" / "benchmarks")
        problems = importlib.import_module("_problems")
    return problems.burgers(4, 256, viscosity=1e-3, n_steps=10, random_state=0)


def test_order_at_the_viscosity_of_the_paper(by_cole_hopf, check_order):
    errors = []
    for refinement in (1, 2, 4):
        _, U = make_burgers(4, refinement=refinement, t_final=2, random_state=0, **TIGHT)
        errors.append(np.sqrt(np.mean((U - by_cole_hopf) ** 2)))
    check_order("Burgers, initial states of the paper, against Cole-Hopf", [256, 512, 1024], errors, 2)


def test_default_is_within_a_few_thousandths_of_cole_hopf(by_cole_hopf):
    _, U = make_burgers(4, t_final=2, return_trajectories=True, random_state=0)
    assert np.abs(U - by_cole_hopf).max() < 5e-3
    assert np.linalg.norm(U - by_cole_hopf) < 5e-4 * np.linalg.norm(by_cole_hopf)


def test_default_is_the_data_of_the_paper():
    c = np.random.RandomState(3).uniform(-1, 1, size=(2, 10))
    x = np.arange(1024) / 1024
    u = c @ np.sin(2 * PI * (np.arange(1, 11)[:, None] + 1) * x)
    u /= np.abs(u).max(axis=1, keepdims=True)

    def right_hand_side(t, inner):
        u = np.concatenate([[0], inner, [0]])
        slope = (u[2:] - u[:-2]) * 1024 / 2
        mean = (u[:-2] + u[1:-1] + u[2:]) / 3
        return 1e-3 * (u[2:] - 2 * u[1:-1] + u[:-2]) * 1024**2 - mean * slope

    times = 0.2 * np.arange(76)
    neighbours = np.eye(1023) + np.eye(1023, k=1) + np.eye(1023, k=-1)
    states = np.zeros((2, 76, 1024))
    for state, start in zip(states, u, strict=True):
        state[:, 1:] = solve_ivp(
            right_hand_side,
            (0, 15),
            start[1:],
            method="Radau",
            t_eval=times,
            jac_sparsity=neighbours,
            rtol=1e-6,
            atol=1e-8,
        ).y.T
    U_t, U_next = make_burgers(2, random_state=3)
    np.testing.assert_allclose(U_t, states[:, :-1, ::4].reshape(-1, 256), atol=3e-4)
    np.testing.assert_allclose(U_next, states[:, 1:, ::4].reshape(-1, 256), atol=3e-4)
    np.testing.assert_allclose(U_t[::75], u[:, ::4], atol=1e-13)
    np.testing.assert_allclose(make_burgers(2, return_trajectories=True, random_state=3)[0], times)


def test_error_of_bdf_falls_with_its_tolerances():
    arguments = {"n_samples": 2, "n_points": 128, "t_final": 2, "random_state": 0}
    reference = np.array(make_burgers(rtol=1e-11, atol=1e-13, **arguments))
    errors = [
        np.abs(np.array(make_burgers(rtol=rtol, atol=rtol / 100, **arguments)) - reference).max()
        for rtol in (1e-3, 1e-5, 1e-7)
    ]
    assert np.all(np.array(errors) < [3e-2, 3e-4, 3e-6])
    assert np.all(np.array(errors[1:]) < 0.2 * np.array(errors[:-1]))


@pytest.mark.parametrize("beta", [1.0, 1e-2, 1e-4])
def test_energy_and_maximum_of_the_default_data_shrink(beta):
    _, U = make_burgers(3, beta=beta, t_final=5, return_trajectories=True, random_state=0)
    assert np.all(np.diff(np.sum(U**2, axis=-1), axis=1) < 0)
    assert np.all(np.abs(U) < 1 + 1e-3)


def test_energy_shrinks_on_a_grid_that_does_not_resolve_the_fronts():
    with pytest.warns(UserWarning, match="cell Peclet number"):
        _, U = make_burgers(5, 64, initial="gaussian", viscosity=1e-5, t_final=2, **TIGHT, random_state=0)
    assert np.all(np.diff(np.sum(U**2, axis=-1), axis=1) < 0)


def test_odd_states_stay_odd_and_satisfy_both_boundary_conditions():
    _, dirichlet = make_burgers(2, 128, random_state=0, t_final=2, **TIGHT)
    np.testing.assert_allclose(dirichlet[..., :0:-1], -dirichlet[..., 1:], atol=1e-7)
    _, periodic = make_burgers(2, 128, boundary="periodic", random_state=0, t_final=2, **TIGHT)
    np.testing.assert_allclose(dirichlet, periodic, atol=1e-6)


def test_periodic_states_keep_their_integral_and_move_along():
    arguments = {"boundary": "periodic", "viscosity": 0.01, "t_final": 2, **TIGHT}
    x = np.arange(128) / 128
    u = np.exp(np.sin(2 * PI * x)) / 4
    _, U = make_burgers(initial=[u, np.roll(u, 40), 1 + u], **arguments)
    np.testing.assert_allclose(U.mean(axis=-1), np.broadcast_to(U[:, :1].mean(axis=-1), U.shape[:2]), atol=1e-10)
    np.testing.assert_allclose(U[1], np.roll(U[0], 40, axis=-1), atol=1e-7)
    # Galilean invariance: seen from a frame of speed 1, which has gone round at t = 1.
    np.testing.assert_allclose(U[2, [5, 10]], 1 + U[0, [5, 10]], atol=1e-2)


def test_without_convection_it_is_the_heat_equation():
    u = np.random.RandomState(0).standard_normal((3, 65))
    u[:, [0, -1]] = 0
    arguments = {"t_final": 3, "step": 0.2, **TIGHT}
    for beta in (0.0, 1e-12):
        _, U = make_burgers(initial=u[:, :-1], beta=beta, **arguments)
        _, V = make_heat(initial=u, diffusivity=1e-3, solver="exact", **arguments)
        np.testing.assert_allclose(U, V[..., :-1], atol=1e-6)


def test_coarse_grids_are_warned_of_and_the_grid_named_in_the_warning_is_not():
    few = {"t_final": 0.2, "random_state": 0}
    with pytest.warns(UserWarning, match=r"is 3.91, .* the grid of refinement=2 would resolve") as caught:
        make_burgers(1, refinement=1, **few)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="the grid of n_points=500 would resolve"):
        make_burgers(1, initial="gaussian", **few)
    with pytest.warns(UserWarning, match="number .* is 2.5, .* the grid of n_points=20 would resolve"):
        make_burgers(initial=np.pad(-np.ones((1, 14)), (0, 2))[:, ::-1], beta=-0.2, viscosity=5e-3, t_final=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_burgers(1, **few)
        make_burgers(1, refinement=2, **few)
        make_burgers(1, 500, initial="gaussian", **few)
        make_burgers(1, 16, beta=1e-2, modes=(1, 3), **few)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"viscosity": 0}, "'viscosity' parameter"),
        ({"viscosity": -1e-3}, "'viscosity' parameter"),
        ({"beta": np.inf}, "'beta' parameter"),
        ({"beta": np.nan}, "'beta' parameter"),
        ({"solver": "exact"}, "'solver' parameter"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_burgers(**arguments)
