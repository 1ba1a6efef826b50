"""Poisson's equation."""

from numbers import Integral, Real
from operator import index

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_params

from ._forcing import gaussian_random_field, sine_forcing


def poisson_grid(n_points, boundary):
    """Grid of the unit interval on which :func:`make_poisson` samples its fields.

    Parameters
    ----------
    n_points : int
    boundary : {"dirichlet", "neumann", "periodic"}

    Returns
    -------
    ndarray of shape (n_points,)
        ``j / n_points``, for Neumann conditions ``(j + 1/2) / n_points``. The end x = 1 is left out; under Dirichlet
        conditions, u is zero there and at the first point, x = 0.
    """
    return (np.arange(n_points) + (0.5 if boundary == "neumann" else 0.0)) / n_points


def solve_poisson(f, boundary, order, slope=None):
    """Solve -u'' = f on the grid of :func:`poisson_grid` by central differences.

    The matrix of the second-order scheme is the usual three-point one, A, with values beyond the boundary filled in by
    odd (Dirichlet), even (Neumann) or periodic reflection. The fourth-order scheme is the five-point one, which under
    these reflections equals A + h² A² / 12. Both are diagonalised by the sine, cosine or Fourier transform, so the
    linear system is solved exactly in O(n log n).

    Parameters
    ----------
    f : ndarray of shape (n_samples, n_points)
        Right-hand sides. Their mean is taken off where the operator is singular (Neumann, periodic).
    boundary : {"dirichlet", "neumann", "periodic"}
    order : {2, 4}
        Order of accuracy. The reflections, and with them the fourth order, suppose that f vanishes at the ends
        (Dirichlet) or, unless `slope` is given, that f' does (Neumann).
    slope : ndarray of shape (n_samples,), default=None
        f'(0) = f'(1) under Neumann conditions, for the fourth order.

    Returns
    -------
    u : ndarray of shape (n_samples, n_points)
        Solutions; of mean zero where only determined up to a constant.
    """
    n = f.shape[1]
    h = 1 / n
    if boundary == "neumann" and slope is not None and order == 4:
        # The third derivative of u is -f'(0), so at a distance s beyond the end, the even reflection is off by
        # f'(0) s³ / 3.
        f = f.copy()
        for sign, first, second in ((-1, 0, 1), (1, -1, -2)):
            f[:, first] += sign * 11 / 288 * h * slope
            f[:, second] += sign * 1 / 288 * h * slope
    angles = {
        "dirichlet": np.pi * np.arange(1, n) / n,
        "neumann": np.pi * np.arange(n) / n,
        "periodic": 2 * np.pi * np.arange(n // 2 + 1) / n,
    }[boundary]
    symbol = (2 * np.sin(angles / 2)) ** 2
    if order == 4:
        symbol += symbol**2 / 12
    symbol /= h**2

    singular = symbol == 0
    inverse = np.where(singular, 0, 1 / np.where(singular, 1, symbol))
    if boundary == "dirichlet":
        interior = scipy.fft.idst(scipy.fft.dst(f[:, 1:], type=1) * inverse, type=1)
        return np.pad(interior, ((0, 0), (1, 0)))
    if boundary == "neumann":
        return scipy.fft.idct(scipy.fft.dct(f, type=2) * inverse, type=2)
    return scipy.fft.irfft(scipy.fft.rfft(f) * inverse, n=n)


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_points": [Interval(Integral, 2, None, closed="left")],
        "boundary": [StrOptions({"dirichlet", "neumann", "periodic"})],
        "forcing": [StrOptions({"sine", "gaussian", "grf"}), "array-like"],
        "modes": [tuple, list],
        "length_scale": [Interval(Real, 0, None, closed="neither")],
        "order": [Options(Integral, {2, 4})],
        "refinement": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_poisson(
    n_samples: int = 100,
    n_points: int = 256,
    *,
    boundary: str = "dirichlet",
    forcing: str | ArrayLike = "sine",
    modes: tuple[int, int] = (1, 10),
    length_scale: float = 0.1,
    order: int = 4,
    refinement: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Generate right-hand sides and solutions of the 1-D Poisson equation.

    The equation is -u'' = f on the unit interval, with u = 0 (Dirichlet) or u' = 0 (Neumann) at both ends, or with
    periodic u. With the defaults, the data are those of the paper's data-efficiency experiment (Appendix F.2.1), drawn
    by our own random numbers.

    Parameters
    ----------
    n_samples : int, default=100
        Number of pairs (f, u).
    n_points : int, default=256
        Number of grid points that are returned: x_j = j / n_points, for Neumann conditions (j + 1/2) / n_points.
    boundary : {"dirichlet", "neumann", "periodic"}, default="dirichlet"
        Boundary condition. Neumann and periodic problems are solvable for f of mean zero, and only up to a constant: f
        is projected there, and u is the solution of mean zero.
    forcing : {"sine", "gaussian", "grf"} or array-like of shape (n_samples, n_points), default="sine"
        Distribution of f.

        - "sine": the series sum_k c_k sin(2 k pi x), c_k ~ U(0, 1), over the given `modes`; with Dirichlet conditions
          set to zero at the two first and two last points of the fine grid, as in the paper.
        - "gaussian": independent standard normal values, the setting of Theorem 2.3; zero at x = 0 under Dirichlet
          conditions.
        - "grf": smooth Gaussian random fields with the given `length_scale`, in the eigenfunctions of the problem.
        - an array: these right-hand sides; `n_samples` and `n_points` are then taken from it.
    modes : tuple (first, last), default=(1, 10)
        Range of k in the "sine" series, both ends included.
    length_scale : float, default=0.1
        Correlation length of the "grf" forcing, as a fraction of the interval.
    order : {2, 4}, default=4
        Order of the finite-difference scheme: three points, or the paper's five. An array `forcing` reaches the
        fourth order if it vanishes at the ends (Dirichlet) or has zero slope there (Neumann).
    refinement : int, default=None
        The equation is solved on a grid this many times finer, of which every `refinement`-th point is kept. By default
        4 for "sine" and "grf" (the paper's 1024 points for 256), 3 for Neumann conditions, where only odd factors nest
        the grids, and 1 for "gaussian" and given forcings, where u = A⁻¹ f on the grid itself.
    random_state : int, RandomState instance or None, default=None
        Determines the random forcings. Pass an int for reproducible output.

    Returns
    -------
    F : ndarray of shape (n_samples, n_points)
        Right-hand sides.
    U : ndarray of shape (n_samples, n_points)
        Solutions.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or the modes cannot be represented on the (fine) grid.

    References
    ----------
    Neural-HSS paper, Appendix F.2.1 (data efficiency in one dimension) and Theorem 2.3.

    Examples
    --------
    >>> from sklearn_hss.datasets import make_poisson
    >>> F, U = make_poisson(n_samples=10, random_state=0)
    >>> F.shape, U.shape
    ((10, 256), (10, 256))
    """
    kind = forcing if isinstance(forcing, str) else "given"
    if kind == "given":
        f = check_array(forcing, dtype=np.float64, input_name="forcing")
        n_samples, n_points = f.shape
    refinement = _check_refinement(refinement, kind, boundary)
    n_fine = n_points * refinement
    if n_fine < 5:
        raise ValueError(
            f"n_points={n_points} with refinement={refinement} is too small: the schemes need at least 5 points."
        )
    rng = check_random_state(random_state)
    x, slope = poisson_grid(n_fine, boundary), None
    if kind == "sine":
        f, slope = sine_forcing(x, n_samples, _check_modes(modes, n_points), rng)
        if boundary == "dirichlet":
            f[:, [0, 1, -2, -1]] = 0
    elif kind == "gaussian":
        f = rng.standard_normal((n_samples, n_points))
        if boundary == "dirichlet":
            f[:, 0] = 0
    elif kind == "grf":
        f = gaussian_random_field(x, n_samples, boundary, length_scale, np.pi * n_points, rng)
    if boundary != "dirichlet":
        f = f - f.mean(axis=1, keepdims=True)
    u = solve_poisson(f, boundary, order, slope)
    kept = slice(refinement // 2 if boundary == "neumann" else 0, None, refinement)
    return np.ascontiguousarray(f[:, kept]), np.ascontiguousarray(u[:, kept])


def _check_refinement(refinement, kind, boundary):
    on_grid = kind in ("gaussian", "given")
    if refinement is None:
        return 1 if on_grid else 3 if boundary == "neumann" else 4
    if on_grid and refinement > 1:
        raise ValueError(f"refinement={refinement} does not apply to forcings that live on the grid itself; use 1.")
    if boundary == "neumann" and refinement % 2 == 0:
        raise ValueError(f"refinement={refinement} does not nest the grids of a Neumann problem; use an odd number.")
    return refinement


def _check_modes(modes, n_points):
    try:
        first, last = (index(k) for k in modes)
    except (TypeError, ValueError):
        raise ValueError(f"modes={modes!r} must be a pair of integers (first, last).") from None
    if not 1 <= first <= last:
        raise ValueError(f"modes={modes!r} must satisfy 1 <= first <= last.")
    highest = (n_points - 1) // 2
    if last > highest:
        raise ValueError(
            f"modes={modes!r} cannot be represented on n_points={n_points}: the largest mode that can is {highest}."
        )
    return first, last
