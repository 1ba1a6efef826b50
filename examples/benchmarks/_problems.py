"""Data of problems beyond constant coefficients on a box: pure functions of their arguments, seeded."""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu, spsolve
from sklearn.utils import check_random_state

from sklearn_hss.datasets import make_poisson


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
    rng = check_random_state(random_state)
    y = np.arange(8 * n_points) / (8 * n_points)
    waves = 2 * np.pi * np.arange(2, 12)[:, None]
    coefficients = rng.uniform(-1, 1, size=(n_trajectories, 10))
    coefficients /= np.abs(coefficients @ np.sin(waves * np.linspace(0, 1, 4097))).max(axis=1, keepdims=True)
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
    for a_i, u_i in zip(a, u, strict=True):
        # The centres of the outermost cells lie half a cell from the boundary.
        faces = [
            np.concatenate([2 * rows[:1], 2 * rows[:-1] * rows[1:] / (rows[:-1] + rows[1:]), 2 * rows[-1:]])
            for rows in (a_i, a_i.T)
        ]
        u_i[:] = spsolve(_diffusion(faces[0], faces[1].T, n_points), np.ones(n_points**2)).reshape(shape)
    return a, u


def non_separable(x, y):
    """Smooth coefficient between 0.3 and 1.7 that is no sum of few products."""
    return 1 + 0.5 * np.sin(2 * np.pi * x) * np.sin(2 * np.pi * y) + 0.2 * np.cos(3 * np.pi * (x + y**2))


def separable(x, y):
    """Smooth coefficient a(x) b(y)."""
    return (1 + 0.5 * np.sin(2 * np.pi * x)) * (1 + 0.4 * np.cos(3 * np.pi * y))


def variable_diffusion(n_samples, n_points=63, a=non_separable, forcing="sine", random_state=None):
    """Right-hand sides and solutions of -div(a grad u) = f, u = 0 on the boundary, second-order finite differences.

    Parameters
    ----------
    n_samples, n_points : int
    a : callable
        Coefficient a(x, y): `non_separable`, `separable`.
    forcing : {"sine", "odd", "white", "smooth"}
        The paper's 2-D series; one of the same kind in sin(k pi x), odd k included; independent normal values; smooth
        Gaussian fields.
    random_state : int, RandomState instance or None

    Returns
    -------
    f, u : ndarrays of shape (n_samples, n_points, n_points)
        At the points (j + 1) / (n_points + 1).
    """
    n = n_points + 1
    inner, middle = np.arange(1, n) / n, (np.arange(n) + 0.5) / n
    matrix = _diffusion(a(*np.ix_(middle, inner)), a(*np.ix_(inner, middle)), n)
    f = _forcing(forcing, n_samples, n, random_state)[:, 1:, 1:]
    return f, splu(matrix).solve(f.reshape(n_samples, -1).T).T.reshape(f.shape)


def l_shape(n_samples, n_points=64, forcing="sine", random_state=None):
    """Poisson data on the unit square without its top right quarter, five-point stencil.

    Parameters
    ----------
    n_samples, n_points : int
        The number of points is even.
    forcing : {"sine", "odd", "white", "smooth"}
        As in `variable_diffusion`; on the L-shape, the even modes of "sine" have the solutions of the square.
    random_state : int, RandomState instance or None

    Returns
    -------
    f, u : ndarrays of shape (n_samples, n_points, n_points)
        At the points j / n_points; zero on the boundary and in the quarter.
    """
    n = n_points
    inside = np.ones((n, n), dtype=bool)
    inside[0] = inside[:, 0] = inside[n // 2 :, n // 2 :] = False
    kept = np.flatnonzero(inside[1:, 1:])
    matrix = _diffusion(np.ones((n, n - 1)), np.ones((n - 1, n)), n)[kept][:, kept]
    f = _forcing(forcing, n_samples, n, random_state) * inside
    u = np.zeros_like(f)
    u[:, inside] = splu(matrix.tocsc()).solve(f[:, inside].T).T
    return f, u


def _diffusion(ax, ay, n):
    """-div(a grad u) on (p, q) points of spacing 1 / n, u = 0 beyond; a between them, (p + 1, q) and (p, q + 1)."""
    differences = [n * (sp.eye(p + 1, p) - sp.eye(p + 1, p, k=-1)) for p in (ay.shape[0], ax.shape[1])]
    along_x = sp.kron(differences[0], sp.eye(ax.shape[1]))
    along_y = sp.kron(sp.eye(ay.shape[0]), differences[1])
    return (along_x.T @ sp.diags(ax.ravel()) @ along_x + along_y.T @ sp.diags(ay.ravel()) @ along_y).tocsc()


def _forcing(kind, n_samples, n, random_state):
    if kind == "odd":
        waves = np.sin(np.pi * np.arange(1, 21)[:, None] * np.arange(n) / n)
        return waves.T @ check_random_state(random_state).uniform(size=(n_samples, 20, 20)) @ waves
    names = {"sine": "sine", "white": "gaussian", "smooth": "grf"}
    return make_poisson(n_samples, (n, n), forcing=names[kind], refinement=1, random_state=random_state)[0]
