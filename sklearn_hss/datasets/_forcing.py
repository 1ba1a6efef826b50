"""Random right-hand sides on the unit box.

Each function draws all the random numbers, or fixes their order, and returns ``field``: ``field(rows)`` evaluates the
samples of a slice, so that the fields of a large grid need not be in memory at once.
"""

from functools import reduce
from itertools import product

import numpy as np


def sine_forcing(axes, n_samples, modes, wave, n_draws, rng):
    """Truncated Fourier sine series sum_k c_k prod_i sin(wave k_i x_i) with c_k ~ U(0, 1) (Appendix F.2).

    Parameters
    ----------
    axes : list of m ndarrays
        Grid of every axis.
    n_samples : int
    modes : tuple (first, last)
        Range of every k_i, both ends included.
    wave : float
        Angular frequency of the mode k = 1.
    n_draws : int or None
        Number of k_i that each sample draws per axis, with replacement; None has all of them present.
    rng : RandomState

    Returns
    -------
    field : callable
        With ``slopes=True``, it returns also a list of the derivatives along every axis at its end x = 0, arrays
        without that axis.
    """
    k = np.arange(modes[0], modes[1] + 1)
    if n_draws is None:
        coefficients = rng.uniform(size=(n_samples, *[len(k)] * len(axes)))
    else:
        drawn = rng.randint(len(k), size=(len(axes), n_samples, n_draws))
        coefficients = rng.uniform(size=(n_samples, *[n_draws] * len(axes)))
        for columns in drawn:
            coefficients = np.einsum("nd...,ndk->n...k", coefficients, np.eye(len(k))[columns])
    bases = [np.sin(wave * k[:, None] * x) for x in axes]

    def field(rows, slopes=False):
        f = _expand(coefficients[rows], bases)
        if not slopes:
            return f
        at_ends = [np.moveaxis(coefficients[rows], i, -1) @ (wave * k) for i in range(1, len(axes) + 1)]
        return f, [_expand(c, bases[:i] + bases[i + 1 :]) for i, c in enumerate(at_ends)]

    return field


def gaussian_random_field(axes, n_samples, boundary, length_scale, max_frequencies, rng):
    """Smooth Gaussian random fields, expanded in the eigenfunctions of the Laplacian with the given boundary condition.

    The eigenfunctions are products of sines and cosines. The standard deviation of the one with frequency vector w is
    proportional to exp(-(|w| length_scale)² / 4): the spectrum of the squared-exponential covariance
    exp(-|d|² / (2 length_scale²)). The constant is left out, and the fields are scaled to unit variance on average over
    the box.

    Parameters
    ----------
    axes : list of m ndarrays
        Grid of every axis.
    n_samples : int
    boundary : {"dirichlet", "neumann", "periodic"}
    length_scale : float
        In units of the box's side.
    max_frequencies : sequence of m floats
        Angular frequency of every axis below which all modes stay.
    rng : RandomState

    Returns
    -------
    field : callable
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
    # Fields of several variables may be constant along some of them.
    first = 0 if len(axes) > 1 and boundary != "dirichlet" else 1
    frequencies = [
        base * np.arange(first, max(2, np.ceil(min(negligible, highest) / base))) for highest in max_frequencies
    ]
    squares = reduce(np.add.outer, [w**2 for w in frequencies])
    constant = squares == 0
    amplitudes = ~constant * np.exp(np.minimum(squares[~constant].min() - squares, 0) * length_scale**2 / 4)
    # A sine or cosine has mean square 1/2 over the interval, a constant 1, which its weight in `bases` makes 1/2.
    powers = reduce(np.multiply.outer, [np.where(w == 0, 1, len(waves)) / 2 for w in frequencies])
    amplitudes /= np.sqrt(np.sum(amplitudes**2 * powers))
    bases = {
        wave: [
            np.where(w == 0, 0.5**0.5, 1)[:, None] * wave(w[:, None] * x)
            for w, x in zip(frequencies, axes, strict=True)
        ]
        for wave in waves
    }
    terms = [
        (
            rng.standard_normal((n_samples, *amplitudes.shape)) * amplitudes,
            [bases[wave][i] for i, wave in enumerate(term)],
        )
        for term in product(waves, repeat=len(axes))
    ]
    return lambda rows: sum(_expand(coefficients[rows], term) for coefficients, term in terms)


def _expand(coefficients, bases):
    """Fields of shape (n_samples, p_1, ..., p_m) from coefficients (n_samples, k_1, ..., k_m) and bases (k_i, p_i)."""
    for basis in bases:
        coefficients = np.tensordot(coefficients, basis, (1, 0))
    return coefficients
