from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch

from sklearn_hss.datasets._etdrk4 import ETDRK4, etdrk4_coefficients, trajectory

CPU = torch.device("cpu")


def phi(order, z):
    """phi_n(z) = sum_j z^j / (j + n)!, in 100 digits."""
    with localcontext(prec=100):
        z, factorial = Decimal(z), Decimal(1)
        for j in range(2, order + 1):
            factorial *= j
        term, total = 1 / factorial, Decimal(0)
        for j in range(1, 400):
            total += term
            term *= z / (order + j)
        return total


@pytest.mark.parametrize("z", [0.0, 1e-12, -1e-9, -1e-4, 0.03, -0.5, -1.0, 2.0, -7.5, -50.0])
def test_coefficients_agree_with_the_power_series(z):
    c = etdrk4_coefficients(np.array([z]))
    p1, p2, p3 = (phi(order, z) for order in (1, 2, 3))
    expected = {
        "full": phi(0, z),
        "half": phi(0, z / 2),
        "stage": phi(1, z / 2) / 2,
        "first": p1 - 3 * p2 + 4 * p3,
        "inner": 2 * p2 - 4 * p3,
        "last": 4 * p3 - p2,
    }
    for name, value in expected.items():
        # The contour passes values of the size exp(1), so that the rounding is absolute.
        np.testing.assert_allclose(c[name], float(value), rtol=1e-12, atol=5e-14, err_msg=name)


def test_coefficients_of_large_arguments_are_their_closed_forms():
    z = -np.geomspace(50, 1e9, 30)
    c = etdrk4_coefficients(z)
    e = np.exp(z)
    np.testing.assert_allclose(c["stage"], (np.exp(z / 2) - 1) / z, rtol=1e-12)
    np.testing.assert_allclose(c["first"], (-4 - z + e * (4 - 3 * z + z**2)) / z**3, rtol=1e-12)
    np.testing.assert_allclose(c["inner"], 2 * (2 + z + e * (z - 2)) / z**3, rtol=1e-12)
    np.testing.assert_allclose(c["last"], (-4 - 3 * z - z**2 + e * (4 - z)) / z**3, rtol=1e-12)


def advance(linear, nonlinear, u, dt, n_steps):
    u = torch.tensor(u, dtype=torch.complex128)
    ETDRK4(np.asarray(linear), dt, torch.float64, CPU).advance(u, n_steps, nonlinear)
    return u.numpy()


def test_linear_part_is_exact():
    linear = np.array([0.0, -1e-3, -2.0, -1e3, 0.7])
    u = np.array([[1, 2j, 3 - 1j, 4, 5], [0, 1, 2, 3, 4j]])
    result = advance(linear, lambda u, out: out.zero_(), u, 0.3, 4)
    np.testing.assert_allclose(result, u * np.exp(1.2 * linear), rtol=1e-13, atol=1e-300)


def test_constant_source_is_exact():
    linear = np.array([-1e-3, -2.0, -1e3])
    result = advance(linear, lambda u, out: out.fill_(2 - 1j), np.zeros((1, 3)), 0.3, 4)
    np.testing.assert_allclose(result[0], (2 - 1j) * np.expm1(1.2 * linear) / linear, rtol=1e-12)


def test_order_on_the_logistic_equation(check_order):
    # u' = u - u², the first term exact and the second one explicit: u = 1 / (1 + exp(-t) (1 / u_0 - 1)).
    starts = np.array([0.2, 0.5 + 0.3j, 1.7])
    exact = 1 / (1 + np.exp(-2) * (1 / starts - 1))
    resolutions = [8, 16, 32, 64]
    errors = [
        np.abs(advance([1.0], lambda u, out: torch.mul(u, -u, out=out), starts[:, None], 2 / n, n)[:, 0] - exact).max()
        for n in resolutions
    ]
    check_order("logistic equation, ETDRK4 in time", resolutions, errors, 4, atol=0.3)


def test_nothing_depends_on_how_the_steps_are_divided():
    u = np.random.RandomState(0).standard_normal((2, 1, 4, 5))
    stepper = ETDRK4(-np.arange(12.0).reshape(1, 4, 3), 0.1, torch.float64, CPU)

    def nonlinear(u, out):
        torch.mul(u, u.abs(), out=out).mul_(-0.1)

    states = list(trajectory(stepper, u, nonlinear, [0, 3, 4, 9]))
    assert states[0] is u
    for step, state in zip([3, 4, 9], states[1:], strict=True):
        np.testing.assert_array_equal(state, next(trajectory(stepper, u, nonlinear, [step])))


@pytest.mark.parametrize("n_steps", [30, 70])
def test_a_sample_that_blows_up_is_named(n_steps):
    u = torch.tensor([[0.0], [2.0], [-1.0], [3.0]], dtype=torch.complex128)  # u' = u² has a pole at 1 / u_0
    stepper = ETDRK4(np.zeros(1), 0.25, torch.float64, CPU)
    with pytest.raises(RuntimeError, match=r"samples 11, 13 became infinite or NaN with dt=0.25; try a smaller dt"):
        stepper.advance(u, n_steps, lambda u, out: torch.mul(u, u, out=out), first_sample=10)
