"""Data that benchmarks share: pure functions of their arguments, seeded."""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve
from sklearn.utils import check_random_state

from sklearn_hss.datasets import make_poisson


def sine_series(n_trajectories, random_state=None):
    """Initial states of Burgers' equation as in the paper (Appendix F.5).

    Returns
    -------
    waves : ndarray of shape (10, 1)
    coefficients : ndarray of shape (n_trajectories, 10)
        ``coefficients @ np.sin(waves * x)`` has the largest magnitude 1.
    """
    waves = 2 * np.pi * np.arange(2, 12)[:, None]
    coefficients = check_random_state(random_state).uniform(-1, 1, size=(n_trajectories, 10))
    coefficients /= np.abs(coefficients @ np.sin(waves * np.linspace(0, 1, 4097))).max(axis=1, keepdims=True)
    return waves, coefficients


def burgers(n_trajectories, n_points=128, viscosity=1e-3, n_steps=15, dt=0.2, random_state=None):
    """Trajectories of u_t + u u_x = viscosity u_xx from the paper's sine series (Appendix F.5).

    The series is odd about 0 and 1, and stays so: the Dirichlet solution is the periodic one. The Cole-Hopf transform
    gives it as a ratio of integrals of positive functions, which the trapezoidal rule evaluates to near rounding as
    long as the integrands do not underflow, for a viscosity of 2e-4 and more.

    Returns
    -------
    ndarray of shape (n_trajectories, n_steps + 1, n_points)
        u at the points j / n_points and the times 0, dt, 2 dt, ...
    """
    y = np.arange(8 * n_points) / (8 * n_points)
    waves, coefficients = sine_series(n_trajectories, random_state)
    potential = coefficients @ ((1 - np.cos(waves * y)) / waves)  # the integral of u from 0
    weights = np.exp((potential.min(axis=1, keepdims=True) - potential) / (2 * viscosity))
    x = y[::8]
    states = [coefficients @ np.sin(waves * x)]
    for t in dt * np.arange(1, n_steps + 1):
        kernel, moment = np.zeros((2, len(y), n_points))
        for period in range(-int(t) - 2, int(t) + 3):  # speeds are at most 1
            distance = x - y[:, None] + period
            heat = np.exp(-(distance**2) / (4 * viscosity * t))
            kernel += heat
            moment += heat * distance / t
        states.append((weights @ moment) / (weights @ kernel))
    return np.stack(states, axis=1)


def two_phase(n_samples, n_points=16, random_state=None):
    """Coefficients of two phases and the solutions of -div(a grad u) = 1, u = 0 on the boundary.

    a is 12 where a smooth Gaussian field is positive and 3 elsewhere, constant on every cell of the grid; finite
    volumes with harmonic means.

    Returns
    -------
    a, u : ndarrays of shape (n_samples, n_points, n_points)
        At the centres of the cells.
    """
    shape = (n_points, n_points)
    field, _ = make_poisson(
        n_samples, shape, boundary="neumann", forcing="grf", length_scale=0.2, refinement=1, random_state=random_state
    )
    a = np.where(field > 0, 12.0, 3.0)
    u = np.empty_like(a)
    difference = n_points * (sp.eye(n_points + 1, n_points) - sp.eye(n_points + 1, n_points, k=-1))
    along_x, along_y = sp.kron(difference, sp.eye(n_points)), sp.kron(sp.eye(n_points), difference)
    for a_i, u_i in zip(a, u, strict=True):
        # The centres of the outermost cells lie half a cell from the boundary.
        faces = [
            np.concatenate([2 * rows[:1], 2 * rows[:-1] * rows[1:] / (rows[:-1] + rows[1:]), 2 * rows[-1:]])
            for rows in (a_i, a_i.T)
        ]
        along = ((along_x, faces[0]), (along_y, faces[1].T))
        matrix = sum(D.T @ sp.diags(face.ravel()) @ D for D, face in along)
        u_i[:] = spsolve(matrix.tocsc(), np.ones(n_points**2)).reshape(shape)
    return a, u


def odd_l_shape(n_samples, n_points=64, random_state=None):
    """Poisson data on the L-shape, five-point stencil; f is a sum of sin(k pi x) sin(l pi y) with k, l up to 20.

    The even modes alone would have the solutions of the square.

    Returns
    -------
    f, u : ndarrays of shape (n_samples, n_points, n_points)
        At the points j / n_points; zero on the boundary and in the quarter that is not part of the domain.
    """
    waves = np.sin(np.pi * np.arange(1, 21)[:, None] * np.arange(n_points) / n_points)
    f = waves.T @ check_random_state(random_state).uniform(size=(n_samples, 20, 20)) @ waves
    f[:, n_points // 2 :, n_points // 2 :] = 0
    return make_poisson(forcing=f, domain="l-shape", order=2)
