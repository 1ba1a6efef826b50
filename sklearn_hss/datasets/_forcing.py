"""Random right-hand sides on the unit interval."""

import numpy as np


def sine_forcing(x, n_samples, modes, rng):
    """Truncated Fourier sine series sum_k c_k sin(2 k pi x) with c_k ~ U(0, 1) (Appendix F.2.1).

    Parameters
    ----------
    x : ndarray of shape (n_points,)
        Points of the unit interval.
    n_samples : int
    modes : tuple (first, last)
        Range of k, both ends included.
    rng : RandomState

    Returns
    -------
    f : ndarray of shape (n_samples, n_points)
    slope : ndarray of shape (n_samples,)
        f'(0) = f'(1).
    """
    k = np.arange(modes[0], modes[1] + 1)
    coefficients = rng.uniform(size=(n_samples, len(k)))
    return coefficients @ np.sin(2 * np.pi * k[:, None] * x), coefficients @ (2 * np.pi * k)


def gaussian_random_field(x, n_samples, boundary, length_scale, max_frequency, rng):
    """Smooth Gaussian random fields, expanded in the eigenfunctions of the Laplacian with the given boundary condition.

    The standard deviation of the mode with frequency w is proportional to exp(-(w length_scale)² / 4): the spectrum of
    the squared-exponential covariance exp(-d² / (2 length_scale²)). The constant mode is left out, and the fields are
    scaled to unit variance on average over the interval.

    Parameters
    ----------
    x : ndarray of shape (n_points,)
        Points of the unit interval.
    n_samples : int
    boundary : {"dirichlet", "neumann", "periodic"}
    length_scale : float
        In units of the interval.
    max_frequency : float
        Angular frequency below which all modes stay.
    rng : RandomState

    Returns
    -------
    ndarray of shape (n_samples, n_points)
    """
    base, waves = {
        "dirichlet": (np.pi, (np.sin,)),
        "neumann": (np.pi, (np.cos,)),
        "periodic": (2 * np.pi, (np.sin, np.cos)),
    }[boundary]
    # Modes whose amplitude is lost in the rounding of the first one are not drawn: on grids that carry all others, the
    # fields of a seed are the same.
    log_eps = -np.log(np.finfo(float).eps)
    negligible = np.hypot(base, 2 * log_eps**0.5 / length_scale)
    frequencies = base * np.arange(1, max(2, np.ceil(min(negligible, max_frequency) / base)))
    amplitudes = np.exp((base**2 - frequencies**2) * length_scale**2 / 4)
    # A sine or cosine has mean square 1/2 over the interval.
    amplitudes /= np.sqrt(len(waves) * np.sum(amplitudes**2) / 2)
    return sum(
        (rng.standard_normal((n_samples, len(frequencies))) * amplitudes) @ wave(frequencies[:, None] * x)
        for wave in waves
    )
