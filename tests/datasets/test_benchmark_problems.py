"""The data of the benchmarks in examples/benchmarks/_problems.py."""

import importlib
from pathlib import Path

import numpy as np
import pytest

PI = np.pi


@pytest.fixture(scope="module")
def problems():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "examples" / "benchmarks")
        yield importlib.import_module("_problems")


def test_burgers_agrees_with_a_spectral_runge_kutta_method(problems):
    U = problems.burgers(3, n_points=64, viscosity=5e-3, n_steps=2, dt=0.2, random_state=0)
    coefficients = np.random.RandomState(0).uniform(-1, 1, size=(3, 10))
    u = coefficients @ np.sin(2 * PI * np.arange(2, 12)[:, None] * np.arange(1024) / 1024)
    u /= np.abs(u).max(axis=1, keepdims=True)
    k = 2j * PI * np.arange(513)
    decay = np.exp(5e-3 * k**2 * 0.4 / 600 / 2)  # half a step

    def slope(v):
        return -0.4 / 600 * k / 2 * np.fft.rfft(np.fft.irfft(v) ** 2)

    v = np.fft.rfft(u)
    for step in range(600):
        if step == 300:
            np.testing.assert_allclose(U[:, 1], np.fft.irfft(v)[:, ::16], atol=1e-4)
        k1 = slope(v)
        k2 = slope(decay * (v + k1 / 2))
        k3 = slope(decay * v + k2 / 2)
        k4 = slope(decay**2 * v + decay * k3)
        v = decay**2 * (v + k1 / 6) + decay * (k2 + k3) / 3 + k4 / 6
    np.testing.assert_allclose(U[:, 0], u[:, ::16], atol=1e-3)  # their largest values lie between the points
    np.testing.assert_allclose(U[:, 2], np.fft.irfft(v)[:, ::16], atol=1e-4)


def test_burgers_of_a_seed_does_not_depend_on_the_grid(problems):
    coarse, fine = (problems.burgers(5, n_points=n, n_steps=3, random_state=0) for n in (96, 192))
    np.testing.assert_allclose(coarse, fine[:, :, ::2], atol=1e-12)


def test_two_phases_obey_the_balance_of_every_cell(problems):
    a, u = problems.two_phase(20, random_state=0)
    assert set(np.unique(a)) == {3, 12}
    assert 0.3 < np.mean(a == 3) < 0.7
    # Half a cell on either side of a face resists; beyond the boundary nothing does.
    resistance = np.pad(1 / a, [(0, 0), (1, 1), (1, 1)])
    u = np.pad(u, [(0, 0), (1, 1), (1, 1)])
    outflow = 0
    for axis, shift in ((1, 1), (1, -1), (2, 1), (2, -1)):
        outflow += (u - np.roll(u, shift, axis)) / np.maximum((resistance + np.roll(resistance, shift, axis)) / 2, 1e-9)
    np.testing.assert_allclose(outflow[:, 1:-1, 1:-1], 1 / 16**2, rtol=1e-10)


def test_odd_l_shape_satisfies_the_stencil(problems):
    F, U = problems.odd_l_shape(5, 32, random_state=0)
    around = sum(np.roll(U, shift, axis) for axis in (1, 2) for shift in (1, -1))
    inside = np.ones((32, 32), dtype=bool)
    inside[0] = inside[:, 0] = inside[16:, 16:] = False
    np.testing.assert_allclose(((4 * U - around) * 32**2)[:, inside], F[:, inside], atol=1e-9)
    assert not F[:, ~inside].any()
    assert not U[:, ~inside].any()


# Local laws: at some points, the rows of L are found again from samples, and hold for others.


@pytest.fixture(scope="module")
def local_problems():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "examples" / "benchmarks")
        yield importlib.import_module("_local_problems")


def check_law(columns, values, other_columns, other_values):
    scale = np.abs(columns).max(axis=0)
    law = np.linalg.lstsq(columns / scale, values, rcond=None)[0]
    np.testing.assert_allclose(other_columns / scale @ law, other_values, atol=1e-9 * np.abs(other_values).max())


STATIONARY = [
    "variable a",
    "L-shape",
    "disk removed",
    "convection-diffusion",
    "anisotropic, mixed derivative",
    "Helmholtz, indefinite",
    "periodic, singular",
    "Neumann, singular",
    "elasticity, two fields",
    "reaction-diffusion pair",
    "rough a on an L-shape",
]


@pytest.mark.parametrize("kind", ["white", "smooth"])
@pytest.mark.parametrize("name", STATIONARY)
def test_stationary_problems_have_a_local_law(local_problems, name, kind):
    assert list(local_problems.OWN_GRID) == STATIONARY
    samples = local_problems.OWN_GRID[name].make(kind, 0)
    (f, _), (new_f, new_u), (other_f, other_u) = samples.train, samples.test, samples.other
    assert len(new_f) == 100
    assert len(other_f) == 20
    corners = name in ("anisotropic, mixed derivative", "elasticity, two fields")
    for x, y in [(5, 7), (12, 55), (31, 10)]:
        near = [(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if corners or i * j == 0]
        columns, other_columns = (u[..., *np.transpose(near)].reshape(len(u), -1) for u in (new_u, other_u))
        assert len(f) == columns.shape[1] + 3
        values, other_values = (f[..., x, y].reshape(len(f), -1) for f in (new_f, other_f))
        check_law(columns, values, other_columns, other_values)


def test_time_steps_are_those_of_crank_nicolson(local_problems):
    for name, make in local_problems.TIME_STEPS.items():
        steps = make()
        start, end = steps.train
        assert len(start) == 20
        dt = 1e-3 if name.startswith("1-D") else 2e-3
        size = start.shape[1:]
        assert steps.test.shape == (10, 51, *size)
        near = [[10], [9], [11]] if len(size) == 1 else [[10, 20], [9, 20], [11, 20], [10, 19], [10, 21]]

        def terms(before, after, near=near, dt=dt):
            """Means of both states around a point, and the rate of change there."""
            means = np.stack([(before + after)[..., *point] / 2 for point in near], axis=-1)
            rate = ((after - before) / dt)[..., *near[0]]
            return means.reshape(-1, len(near)), rate.reshape(-1, 1)

        check_law(*terms(start, end), *terms(steps.test[:, :-1], steps.test[:, 1:]))
