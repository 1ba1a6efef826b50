"""Spectral radii: against eigenvalues of dense matrices."""

import numpy as np
import pytest

from sklearn_hss.fitting._stability import spectral_radius

RNG = np.random.RandomState(0)
TURN = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
BASIS = RNG.standard_normal((200, 200))

MATRICES = {
    "1 x 1": np.array([[-3.0]]),
    "zero": np.zeros((5, 5)),
    "identity": np.eye(60),
    "rank one": np.outer(np.arange(1, 60), np.ones(59)),
    "complex pair": 1.2 * np.kron(np.eye(3), TURN),
    "not symmetric, small": RNG.standard_normal((30, 30)),
    "decay of 200 modes": np.linalg.solve(BASIS, np.diag(0.97 / np.arange(1, 201) ** 2) @ BASIS),
    "one mode of 200 grows": np.linalg.solve(BASIS, np.diag([-1.1, *np.linspace(0, 1, 199)]) @ BASIS),
}


@pytest.mark.parametrize("name", MATRICES)
def test_is_that_of_the_eigenvalues(name):
    A = MATRICES[name]
    expected = np.abs(np.linalg.eigvals(A)).max()
    assert spectral_radius(A.__matmul__, len(A)) == pytest.approx(expected, rel=1e-4, abs=1e-12)


def test_takes_few_products():
    calls = []
    spectral_radius(lambda x: calls.append(x) or x * np.linspace(0, 1, 1000), 1000)
    assert len(calls) <= 40


def test_of_what_overflows_is_infinite():
    with np.errstate(all="ignore"):
        assert spectral_radius(lambda x: 1e200 * x * 1e200 * x, 4) == np.inf
