"""Discrete solution operators that the tests fit: tridiagonal matrices, solved by SciPy."""

import numpy as np
from scipy.linalg import solve_banded


def convection_diffusion(n, velocity=20.0):
    """Diagonals of -u'' + velocity u' on (0, 1), central differences, zero at both ends. Not symmetric."""
    h = 1 / (n + 1)
    ab = np.zeros((3, n))
    ab[0, 1:] = -1 / h**2 + velocity / (2 * h)
    ab[1] = 2 / h**2
    ab[2, :-1] = -1 / h**2 - velocity / (2 * h)
    return ab


def indefinite(n, shift=300.0):
    """Diagonals of -(a u')' - shift u with a varying from 1 to 2.5. Symmetric, indefinite."""
    h = 1 / (n + 1)
    x = h * np.arange(1, n + 1)

    def a(x):
        return 1 + 0.5 * np.sin(3 * x) + x

    left, right = a(x - h / 2), a(x + h / 2)
    ab = np.zeros((3, n))
    ab[0, 1:], ab[1], ab[2, :-1] = -right[:-1] / h**2, (left + right) / h**2 - shift, -left[1:] / h**2
    return ab


def convection_variable(n):
    """Diagonals of -(a u')' + 10 (1 + x) u' - 300 u. Neither symmetric nor definite."""
    ab = indefinite(n)
    h = 1 / (n + 1)
    b = 10 * (1 + h * np.arange(1, n + 1)) / (2 * h)
    ab[0, 1:] += b[:-1]
    ab[2, :-1] -= b[1:]
    return ab


def helmholtz(n, kappa=70.0):
    """Diagonals of -u'' - kappa² u."""
    return indefinite_constant(n, kappa**2)


def indefinite_constant(n, shift):
    """Diagonals of -u'' - shift u."""
    h = 1 / (n + 1)
    ab = np.zeros((3, n))
    ab[0, 1:] = ab[2, :-1] = -1 / h**2
    ab[1] = 2 / h**2 - shift
    return ab


def solutions(ab, F):
    """Rows u with L u = f for the rows f."""
    return solve_banded((1, 1), ab, F.T).T


def white(n, n_samples, seed=0):
    """Independent normal forcings."""
    return np.random.RandomState(seed).standard_normal((n_samples, n))


def smooth(n, n_samples, seed=0, length_scale=0.1):
    """Smooth random forcings that do not vanish at the ends."""
    rng = np.random.RandomState(seed)
    x, k = np.arange(1, n + 1) / (n + 1), np.pi * np.arange(1, 100)
    amplitude = np.exp(-((k * length_scale) ** 2) / 4)
    return sum((rng.standard_normal((n_samples, 99)) * amplitude) @ wave(k[:, None] * x) for wave in (np.sin, np.cos))
