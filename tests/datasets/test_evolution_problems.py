"""The data of the benchmarks in examples/benchmarks/_evolution_problems.py."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm


@pytest.fixture(scope="module")
def problems():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "examples" / "benchmarks")
        yield importlib.import_module("_evolution_problems")


def test_without_the_nonlocal_term_there_is_an_exact_solution(problems):
    settings = {"viscosity": 1e-2, "n_steps": 2, "random_state": 0}
    U = problems.nonlocal_burgers(2, 64, strength=0.0, **settings)
    exact = importlib.import_module("_problems").burgers(2, 64, **settings)
    np.testing.assert_allclose(U, exact, atol=1e-7)


def test_nonlocal_term_by_finite_differences(problems):
    n, viscosity = 512, 2e-2
    found = problems.nonlocal_burgers(1, 64, 8.0, viscosity, n_steps=1, random_state=0)[0]
    start = problems.nonlocal_burgers(1, n, 8.0, viscosity, n_steps=1, refinement=1, random_state=0)[0, 0]
    kernel = 8.0 * problems.global_kernel(n)

    def slope(_, u):
        flux = (u**2 + u * np.roll(u, 1) + np.roll(u, 1) ** 2) / 6 - viscosity * n * (u - np.roll(u, 1))
        return n * (flux - np.roll(flux, -1)) - kernel @ u

    expected = solve_ivp(slope, (0, 0.2), start, method="RK23", rtol=1e-6, atol=1e-8).y[::8, -1]
    np.testing.assert_allclose(found[1], expected, atol=0.02 * np.abs(expected).max())
    local = problems.nonlocal_burgers(1, 64, 0.0, viscosity, n_steps=1, random_state=0)[0, 1]
    assert np.abs(local - expected).max() > 0.1 * np.abs(expected).max()


def test_constant_diffusivity_is_linear(problems):
    U = problems.diffusion(2, lambda u: 5e-3 + 0 * u, 32, n_steps=3, random_state=0)
    laplacian = 32**2 * (np.roll(np.eye(32), 1, 0) + np.roll(np.eye(32), -1, 0) - 2 * np.eye(32))
    np.testing.assert_allclose(U[:, 3], U[:, 0] @ expm(0.6 * 5e-3 * laplacian), atol=1e-6)


def test_gray_scott_takes_turns_through_the_rates(problems):
    U = problems.gray_scott(3, (0, 1), ["maze", (0.037, 0.06)], random_state=1, n_points=16)
    assert U.shape == (3, 2, 4, 16, 16)
    np.testing.assert_allclose(U[:, 1, 2:, 0, 0], [(0.029, 0.057), (0.037, 0.06), (0.029, 0.057)])
    assert np.abs(U[0, 0, 0] - U[2, 0, 0]).max() > 0.1


@pytest.mark.parametrize("name", ["cubic", "quasilinear", "rational", "nonlocal"])
def test_stationary_equations_hold(problems, name):
    del problems  # which has put the folder into the path
    stationary = importlib.import_module("_stationary")
    law, inside = stationary.LAWS[name], stationary.l_shape((15, 15))
    forcing = 5 * stationary.draw("smooth", 2, inside, 0)
    u = stationary.solve(law, forcing, inside)
    padded, left = np.pad(u, [(0, 0), (1, 1), (1, 1)]), law.c * u**3 - forcing
    left += law.d * u * np.square(u[:, inside]).mean(axis=1)[:, None, None]
    for axis, shift in ((1, 1), (1, -1), (2, 1), (2, -1)):
        beside = np.roll(padded, shift, axis)
        left += (16**2 * law.a((padded + beside) / 2) * (padded - beside))[:, 1:-1, 1:-1]
    assert np.abs(left[:, inside]).max() < 1e-8 * np.abs(forcing).max()
    assert (u[:, ~inside] == 0).all()


def test_noise_has_the_given_size(problems):
    states = np.random.RandomState(0).standard_normal((5, 20, 100)) * 7
    noise = problems.noisy(states, 1e-2, 0) - states
    assert np.isclose(noise.std(), 0.07, rtol=0.05)
