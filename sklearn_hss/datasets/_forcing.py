"""Right-hand sides and initial states on the unit box.

Samplers are pairs of functions. ``draw(rows)`` takes a slice of the samples and returns its random numbers;
``field(drawn)`` evaluates the fields, so that those of a large grid need not be in memory at once, though the
coefficients of series are.
"""

from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from typing import Any

import numpy as np

from ._checks import check_fields, check_modes, real_array


@dataclass(frozen=True)
class Series:
    """Sine series sum_k c_k prod_i sin(half_waves (k_i + shift) pi x_i) with c_k ~ U(lowest, 1).

    Each sample draws `n_draws` of the k_i per axis, with replacement; if None, all of them are used. Their range is
    `modes` unless another one is given, both ends included.
    """

    half_waves: int = 2
    shift: int = 0
    lowest: float = 0.0
    n_draws: int | None = None
    modes: tuple[int, int] = (1, 10)

    def sampler(self, axes, n_samples, modes, rng):
        """Random fields on a grid, a list of m axes.

        With ``slopes=True``, `field` also returns a list of the derivatives along every axis at its end x = 0, as
        arrays without that axis.
        """
        k = np.arange(modes[0], modes[1] + 1) + self.shift
        if self.n_draws is None:
            coefficients = rng.uniform(self.lowest, 1, size=(n_samples, *[len(k)] * len(axes)))
        else:
            drawn = rng.randint(len(k), size=(len(axes), n_samples, self.n_draws))
            coefficients = rng.uniform(self.lowest, 1, size=(n_samples, *[self.n_draws] * len(axes)))
            for columns in drawn:
                coefficients = np.einsum("nd...,ndk->n...k", coefficients, np.eye(len(k))[columns])
        waves = self.half_waves * np.pi * k
        bases = [np.sin(waves[:, None] * x) for x in axes]

        def field(drawn, slopes=False):
            f = _expand(drawn, bases)
            if not slopes:
                return f
            at_ends = [np.moveaxis(drawn, i, -1) @ waves for i in range(1, len(axes) + 1)]
            return f, [_expand(c, bases[:i] + bases[i + 1 :]) for i, c in enumerate(at_ends)]

        return coefficients.__getitem__, field


@dataclass(frozen=True)
class Fields:
    """Right-hand sides or initial states, random or given.

    `name` is the parameter of the public functions with the `values`: "sine", "gaussian", "grf", or an array of shape
    (n_samples, *n_points). The kind "sine" is the `series` with these `modes`; "grf" has the `length_scale`.
    """

    name: str
    values: Any
    modes: tuple[int, int] | None
    length_scale: float | None
    series: Series = Series()

    @classmethod
    def checked(cls, name, values, modes, length_scale, series=Series(), n_axes=None):
        """Validated fields with `n_axes` axes (None for any number)."""
        if not isinstance(values, str):
            values = real_array(values, name)
            values = check_fields(values, name, ("n_samples", *["n_points"] * (n_axes or max(1, values.ndim - 1))))
        return cls(name, values, modes, length_scale, series)

    @property
    def kind(self):
        """One of "sine", "gaussian", "grf" and "given"."""
        return self.values if isinstance(self.values, str) else "given"

    @property
    def on_grid(self):
        """Whether the fields are defined at the grid points only."""
        return self.kind in ("gaussian", "given")

    def settled(self, n_points, n_intervals, refinement):
        """The fields without the parameters of other kinds; ValueError if the grid cannot represent the modes.

        The shortest axis has `n_intervals` intervals on the grid of the solver; `n_points` is for the message.
        """
        modes = None
        if self.kind == "sine":
            series = self.series
            highest = (n_intervals - 1) // (series.half_waves * refinement) - series.shift
            modes = check_modes(series.modes if self.modes is None else self.modes, highest, n_points)
        elif self.modes is not None:
            check_modes(self.modes, np.inf, n_points)
        return replace(self, modes=modes, length_scale=self.length_scale if self.kind == "grf" else None)

    @property
    def recipe(self):
        """Parameters that determine the fields, besides the grid and the random numbers."""
        return {self.name: self.values, "modes": self.modes, "length_scale": self.length_scale}

    def sampler(self, axes, n_samples, boundary, max_frequencies, rng):
        """Functions `draw` and `field`; the parameters are those of :func:`gaussian_random_field`."""
        if self.kind == "sine":
            return self.series.sampler(axes, n_samples, self.modes, rng)
        if self.kind == "grf":
            return gaussian_random_field(axes, n_samples, boundary, self.length_scale, max_frequencies, rng)
        if self.kind == "given":
            return self.values.__getitem__, np.array
        shape = [len(x) for x in axes]
        return lambda rows: rng.standard_normal((rows.stop - rows.start, *shape)), np.array


def gaussian_random_field(axes, n_samples, boundary, length_scale, max_frequencies, rng):
    """Smooth Gaussian random fields, expanded in the eigenfunctions of the Laplacian with the given boundary condition.

    The eigenfunctions are products of sines and cosines. The standard deviation of the one with frequency vector w is
    proportional to exp(-(|w| length_scale)² / 4): the spectrum of the squared-exponential covariance
    exp(-|d|² / (2 length_scale²)). The constant is excluded, and the fields are scaled to unit variance on average over
    the box.

    Parameters
    ----------
    axes : list of m ndarrays
        Grid of every axis.
    n_samples : int
    boundary : {"dirichlet", "neumann", "periodic"}
    length_scale : float
        Correlation length in units of the box's side.
    max_frequencies : sequence of m floats
        Upper bound on the angular frequencies of every axis.
    rng : RandomState

    Returns
    -------
    draw, field : callables
    """
    base, waves = {
        "dirichlet": (np.pi, (np.sin,)),
        "neumann": (np.pi, (np.cos,)),
        "periodic": (2 * np.pi, (np.sin, np.cos)),
    }[boundary]
    # Modes whose amplitude is below the rounding of the first one are not drawn, so that the fields for a seed are the
    # same on all grids that resolve the others.
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
    terms = [[bases[wave][i] for i, wave in enumerate(term)] for term in product(waves, repeat=len(axes))]
    coefficients = [rng.standard_normal((n_samples, *amplitudes.shape)) * amplitudes for _ in terms]

    def draw(rows):
        return [c[rows] for c in coefficients]

    def field(drawn):
        return sum(_expand(c, term) for c, term in zip(drawn, terms, strict=True))

    return draw, field


def _expand(coefficients, bases):
    """Fields of shape (n_samples, p_1, ..., p_m) from coefficients (n_samples, k_1, ..., k_m) and bases (k_i, p_i)."""
    for basis in bases:
        coefficients = np.tensordot(coefficients, basis, (1, 0))
    return coefficients


def torus_random_field(n_points, n_samples, eigenvalues, rng):
    """Gaussian random fields of mean zero on the periodic unit square with a given covariance operator.

    The field is sum_j sqrt(lambda_j) xi_j phi_j with independent standard normal xi_j, where the phi_j are the
    eigenfunctions of the Laplacian, of norm one in L²: sqrt(2) cos(2 pi k.x) and sqrt(2) sin(2 pi k.x). Those that are
    aliased on the grid are excluded. For a given seed, the xi_j are the same on all grids.

    Parameters
    ----------
    n_points : tuple of 2 ints
        The grid of an axis of n points is x_j = j / n.
    n_samples : int
    eigenvalues : callable
        ``eigenvalues(squares)`` returns lambda for the values of -Laplace, (2 pi |k|)².
    rng : RandomState

    Returns
    -------
    draw, field : callables
        One seed per sample is drawn from `rng`, so that no field depends on the number of the others.
    """
    # One of each pair k, -k, in increasing order, so that finer grids extend the list.
    highest = (max(n_points) - 1) // 2
    k = np.mgrid[-highest : highest + 1, 0 : highest + 1].reshape(2, -1)
    k = k[:, (k[1] > 0) | (k[0] > 0)]
    k = k[:, np.lexsort([*k, np.abs(k).max(0)])]
    carried = np.all(2 * np.abs(k) < np.reshape(n_points, (2, 1)), axis=0)
    first, last = k[:, carried]
    amplitudes = np.sqrt(eigenvalues(4 * np.pi**2 * (first**2 + last**2)) / 2)
    on_axis = last == 0

    def field(drawn):
        spectrum = np.zeros((len(drawn), n_points[0], n_points[1] // 2 + 1), complex)
        for values, seed in zip(spectrum, drawn, strict=True):
            xi = np.random.default_rng(seed).standard_normal((k.shape[1], 2))[carried]
            values[first, last] = amplitudes * (xi[:, 0] - 1j * xi[:, 1])
            values[-first[on_axis], 0] = values[first[on_axis], 0].conj()
        return np.fft.irfft2(spectrum, s=n_points, norm="forward")

    return rng.randint(2**63 - 1, size=n_samples, dtype=np.int64).__getitem__, field
