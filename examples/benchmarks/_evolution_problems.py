"""Time-dependent problems of `bench_evolution`: pure functions of their arguments, seeded."""

import numpy as np
import scipy.sparse as sp
from _problems import sine_series
from scipy.integrate import solve_ivp
from sklearn.utils import check_random_state

from sklearn_hss.datasets import make_gray_scott

#: Names of the patterns of the Gray-Scott model, in the order of the data.
PATTERNS = ("gliders", "bubbles", "maze", "worms", "spirals", "spots")
_STEP = 1e-3  # seconds of a step in time


def noisy(states, level, random_state=None):
    """States with white noise of `level` times their standard deviation."""
    return states + level * states.std() * check_random_state(random_state).standard_normal(states.shape)


def global_kernel(n_points, length=0.2):
    """Matrix of an integral operator on a circle, positive semi-definite and not a convolution.

    Its kernel is g(x) exp(-d(x, y) / length) g(y), with the distance d and g = 1 + sin(2 pi x) / 2.
    """
    x = np.arange(n_points) / n_points
    distance = np.abs(x[:, None] - x)
    weight = 1 + np.sin(2 * np.pi * x) / 2
    return weight[:, None] * np.exp(-np.minimum(distance, 1 - distance) / length) * weight / n_points


def nonlocal_burgers(
    n_trajectories, n_points=128, strength=4.0, viscosity=4e-3, n_steps=15, dt=0.2, refinement=2, random_state=None
):
    """Trajectories of u_t + u u_x = viscosity u_xx - strength K u, periodic, with K of :func:`global_kernel`.

    Pseudo-spectral in space on a grid `refinement` times finer; the method of Runge and Kutta in time, with exact
    diffusion.

    Returns
    -------
    ndarray of shape (n_trajectories, n_steps + 1, n_points)
        At the points j / n_points and the times 0, dt, 2 dt, ...
    """
    n = n_points * refinement
    waves, coefficients = sine_series(n_trajectories, random_state)
    kernel = strength * global_kernel(n)
    k = 2j * np.pi * np.arange(n // 2 + 1)
    n_substeps = round(dt / _STEP)
    tau = dt / n_substeps
    half = np.exp(viscosity * (k**2).real * tau / 2)

    def slope(v):
        u = np.fft.irfft(v, n)
        return tau * (-k / 2 * np.fft.rfft(u**2) - np.fft.rfft(u @ kernel.T))

    u = coefficients @ np.sin(waves * np.arange(n) / n)
    states, v = [u], np.fft.rfft(u)
    for _ in range(n_steps):
        for _ in range(n_substeps):
            k1 = slope(v)
            k2 = slope(half * (v + k1 / 2))
            k3 = slope(half * v + k2 / 2)
            k4 = slope(half**2 * v + half * k3)
            v = half**2 * (v + k1 / 6) + half * (k2 + k3) / 3 + k4 / 6
        states.append(np.fft.irfft(v, n))
    return np.stack(states, axis=1)[:, :, ::refinement]


def diffusion(n_trajectories, diffusivity, n_points=128, n_steps=15, dt=0.2, random_state=None):
    """Trajectories of u_t = (a(u) u_x)_x, periodic, by finite volumes on the grid of the data.

    Parameters
    ----------
    diffusivity : callable
        a, of the mean of both sides of a face.

    Returns
    -------
    ndarray of shape (n_trajectories, n_steps + 1, n_points)
        At the points j / n_points and the times 0, dt, 2 dt, ...
    """
    waves, coefficients = sine_series(n_trajectories, random_state)
    starts = coefficients @ np.sin(waves * np.arange(n_points) / n_points)
    near = sp.diags_array([1.0] * 5, offsets=(-n_points + 1, -1, 0, 1, n_points - 1), shape=(n_points, n_points))

    def slope(_, u):
        following = np.roll(u, -1)
        flux = diffusivity((u + following) / 2) * (following - u) * n_points
        return n_points * (flux - np.roll(flux, 1))

    times = dt * np.arange(n_steps + 1)
    settings = {"method": "BDF", "t_eval": times, "rtol": 1e-8, "atol": 1e-10, "jac_sparsity": near}
    return np.stack([solve_ivp(slope, times[[0, -1]], start, **settings).y.T for start in starts])


def gray_scott(n_samples, states, rates=PATTERNS, random_state=0, n_points=128, folder=None):
    """Trajectories of the Gray-Scott model, with f and k behind A and B.

    Parameters
    ----------
    n_samples : int
        The samples take turns through `rates`.
    states : sequence of int
        State j is that at t = 10 j seconds.
    rates : list of str or pairs (f, k)
    folder : path, default=None
        Where to keep the data.

    Returns
    -------
    ndarray of shape (n_samples, n_states, 4, n_points, n_points)
    """
    rates = list(rates)
    parts = [
        make_gray_scott(
            -(-(n_samples - i) // len(rates)),
            (n_points, n_points),
            pattern=rate,
            states=states,
            return_trajectories=True,
            random_state=1000 * random_state + i,
            data_home=folder,
            verbose=0,
        )[1]
        for i, rate in enumerate(rates[:n_samples])
    ]
    return np.stack([parts[j % len(rates)][j // len(rates)] for j in range(n_samples)])
