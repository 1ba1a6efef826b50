"""The rational activation."""

import numpy as np
import pytest
import torch
from numpy.polynomial import Polynomial

from sklearn_hss.nn import Rational
from sklearn_hss.nn._counting import count_parameters


def with_coefficients(numerator, denominator):
    layer = Rational(dtype=torch.float64)
    with torch.no_grad():
        layer.numerator.copy_(torch.as_tensor(numerator))
        layer.denominator.copy_(torch.as_tensor(denominator))
    return layer


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_is_a_quotient_of_polynomials(seed):
    layer = Rational(dtype=torch.float64)
    if seed is not None:
        rng = np.random.RandomState(seed)
        layer = with_coefficients(rng.standard_normal(4), rng.standard_normal(3))
    b = layer.denominator.tolist()
    p = Polynomial(layer.numerator.tolist())
    q = 0.1 + b[0] ** 2 + Polynomial(b[1:]) ** 2
    x = np.linspace(-3, 3, 101)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), p(x) / q(x), rtol=1e-12, atol=1e-13)


def test_starts_as_the_published_approximation_of_relu():
    x = torch.linspace(-1, 1, 10_001, dtype=torch.float64)
    y = Rational(dtype=torch.float64)(x)
    published = (1.1915 * x**3 + 1.5957 * x**2 + 0.5 * x + 0.0218) / (2.383 * x**2 + 1)
    torch.testing.assert_close(y.detach(), published, rtol=0, atol=1e-14)
    error = (y - torch.relu(x)).detach()
    assert float(error.abs().max()) == pytest.approx(0.0219, abs=2e-4)


@pytest.mark.parametrize("denominator", [(0, 0, 0), (0, -1, 1), (1e-9, 3, -2), (0, -1e3, 1e3)])
def test_has_no_poles(denominator):
    layer = with_coefficients(np.ones(4), denominator)
    x = torch.linspace(-2, 2, 4001, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert float(y.detach().abs().max()) <= 15 / 0.1
    for gradient in (x.grad, layer.numerator.grad, layer.denominator.grad):
        assert bool(torch.isfinite(gradient).all())


def test_gradients():
    layer = with_coefficients([0.3, -0.2, 0.5, 1.0], [0.7, -0.4, 1.1])
    x = torch.linspace(-2, 2, 7, dtype=torch.float64, requires_grad=True)

    def apply(x, numerator, denominator):
        return torch.func.functional_call(layer, {"numerator": numerator, "denominator": denominator}, x)

    arguments = (x, *(p.detach().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(apply, arguments)
    assert torch.autograd.gradgradcheck(apply, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types(dtype):
    layer = Rational(dtype=dtype)
    y = layer(torch.ones(2, 3, dtype=dtype))
    assert y.dtype == dtype
    assert y.shape == (2, 3)
    assert {p.dtype for p in layer.parameters()} == {dtype}
    assert count_parameters(layer) == 7
