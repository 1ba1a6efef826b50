"""Constant-coefficient equations on the unit box, -Laplace(u) - wavenumber² u = f, solved by fast transforms."""

from operator import index

import numpy as np
import scipy.fft
from sklearn.utils import check_array, check_random_state

from ._forcing import gaussian_random_field, sine_forcing

# Fine grid points that are worked on at a time: one field of 128³.
_BATCH = 2**21


def axis_grid(n_points, boundary):
    """Grid of one axis.

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


def box_solver(shape, boundary, order, wavenumber=None):
    """Solver of -Laplace(u) - wavenumber² u = f by central differences on the product of the grids of `axis_grid`.

    Let A be the usual three-point matrix of one axis, with values beyond the boundary filled in by odd (Dirichlet),
    even (Neumann) or periodic reflection. The second-order scheme adds up the A of all axes. So does the fourth-order
    one in one and two dimensions, with the five-point A + h² A² / 12; in three it is the compact one of 19 points,

        (sum_i A_i - sum_{i<j} (h_i² + h_j²) / 12 A_i A_j) u = (1 - sum_i h_i² / 12 A_i) (f + wavenumber² u).

    All are diagonalised by sine, cosine or Fourier transforms, so the linear system is solved exactly in O(n log n).

    Parameters
    ----------
    shape : tuple of m ints
        Numbers of grid points.
    boundary : {"dirichlet", "neumann", "periodic"}
    order : {2, 4}
        Order of accuracy. The reflections, and with them the fourth order, suppose that f vanishes on the boundary
        (Dirichlet) or, unless the solver is given slopes, that its normal derivative does (Neumann).
    wavenumber : float, default=None
        None stands for Poisson's equation: where that is singular (Neumann, periodic), the mean of f is taken off, and
        u has mean zero.

    Returns
    -------
    callable
        ``solve(f, slopes=None)`` takes f of shape (n_samples, *shape) and returns u of that shape. Under Neumann
        conditions, `slopes` may list the derivatives of f along every axis at its ends, equal at both, in arrays of the
        shape of f without that axis.

    Raises
    ------
    ValueError
        If the wavenumber is resonant.
    """
    axes = tuple(range(1, len(shape) + 1))
    compact = order == 4 and len(shape) > 2
    inverse = _inverse_symbol(shape, boundary, order, compact, wavenumber)

    def solve(f, slopes=None):
        if boundary == "dirichlet":
            interior = (slice(None), *[slice(1, None)] * len(shape))
            spectrum = scipy.fft.dstn(f[interior], type=1, axes=axes)
            spectrum *= inverse
            u = np.zeros_like(f)
            u[interior] = scipy.fft.idstn(spectrum, type=1, axes=axes, overwrite_x=True)
            return u
        if boundary == "neumann":
            if order == 4 and slopes is not None:
                f = _with_slopes(f, slopes, compact)
            spectrum = scipy.fft.dctn(f, type=2, axes=axes)
            spectrum *= inverse
            return scipy.fft.idctn(spectrum, type=2, axes=axes, overwrite_x=True)
        spectrum = scipy.fft.rfftn(f, axes=axes)
        spectrum *= inverse
        return scipy.fft.irfftn(spectrum, s=shape, axes=axes, overwrite_x=True)

    return solve


def _inverse_symbol(shape, boundary, order, compact, wavenumber):
    angles = [
        {
            "dirichlet": np.pi * np.arange(1, n) / n,
            "neumann": np.pi * np.arange(n) / n,
            "periodic": 2 * np.pi * np.arange(n) / n,
        }[boundary]
        for n in shape
    ]
    if boundary == "periodic":  # the real transform keeps half of the last axis
        angles[-1] = angles[-1][: shape[-1] // 2 + 1]
    scaled = np.ix_(*((2 * np.sin(angle / 2)) ** 2 for angle in angles))  # h² A
    mass = 1.0
    if compact:
        total = sum(scaled)
        laplacian = sum((1 - (total - a) / 12) * (a * n**2) for a, n in zip(scaled, shape, strict=True))
        mass = 1 - total / 12
    else:
        if order == 4:
            scaled = tuple(a + a**2 / 12 for a in scaled)
        laplacian = sum(a / (1 / n) ** 2 for a, n in zip(scaled, shape, strict=True))
    if wavenumber is None:
        singular = laplacian == 0
        return np.where(singular, 0, mass / np.where(singular, 1, laplacian))
    symbol = laplacian - wavenumber**2 * mass
    closest = np.unravel_index(np.argmin(np.abs(symbol)), symbol.shape)
    if np.abs(symbol[closest]) < 1e-10 * np.abs(symbol).max():
        nearest = np.sqrt(laplacian[closest] / np.broadcast_to(mass, symbol.shape)[closest])
        raise ValueError(
            f"wavenumber={wavenumber} is resonant: its square is an eigenvalue of the discretised -Laplace operator, "
            f"so that f does not determine u; choose one farther from {nearest:.10g}."
        )
    return mass / symbol


def _with_slopes(f, slopes, compact):
    # Where f has the slope s, the third derivative of u is -s, so at a distance d beyond the end, the even reflection
    # of u is off by s d³ / 3. What this does to the scheme is moved to the right-hand side, at the two last points.
    first, second = (1 / 22, -1 / 264) if compact else (11 / 288, 1 / 288)
    f = f.copy()
    for axis, slope in enumerate(slopes, 1):
        points = np.moveaxis(f, axis, 0)
        h = 1 / len(points)
        points[0] -= first * h * slope
        points[1] -= second * h * slope
        points[-1] += first * h * slope
        points[-2] += second * h * slope
    return f


def make_box_data(
    n_samples, n_points, boundary, forcing, modes, length_scale, order, refinement, random_state, wavenumber=None
):
    """Draw right-hand sides and solve; the parameters are those of `make_poisson`, and a wavenumber.

    Returns
    -------
    F, U : ndarrays of shape (n_samples, *n_points)
    """
    kind = forcing if isinstance(forcing, str) else "given"
    if kind == "given":
        given = check_array(forcing, dtype=np.float64, allow_nd=True, input_name="forcing")
        n_samples, *n_points = given.shape
    shape = _check_shape(n_points)
    refinement = _check_refinement(refinement, kind, boundary, len(shape))
    fine = tuple(n * refinement for n in shape)
    if min(fine) < 5:
        raise ValueError(
            f"n_points={n_points} with refinement={refinement} is too small: the schemes need at least 5 points."
        )
    solve = box_solver(fine, boundary, order, wavenumber)
    rng = check_random_state(random_state)
    axes = [axis_grid(n, boundary) for n in fine]
    if kind == "sine":
        # In three dimensions, the paper draws half waves, which are not periodic.
        half_waves = len(shape) > 2 and boundary == "dirichlet"
        modes = _check_modes(modes, n_points, shape, half_waves)
        n_draws = 20 if len(shape) > 2 else None
        field = sine_forcing(axes, n_samples, modes, (1 if half_waves else 2) * np.pi, n_draws, rng)
    elif kind == "grf":
        field = gaussian_random_field(axes, n_samples, boundary, length_scale, [np.pi * n for n in shape], rng)

    every = slice(refinement // 2 if boundary == "neumann" else 0, None, refinement)
    kept = (slice(None), *[every] * len(shape))
    F, U = (np.empty((n_samples, *shape)) for _ in range(2))
    # In one dimension, where everything fits, a single product draws the fields: batches would round otherwise.
    batch = n_samples if len(shape) == 1 else max(1, _BATCH // np.prod(fine))
    for start in range(0, n_samples, batch):
        rows, slopes = slice(start, min(start + batch, n_samples)), None
        if kind == "given":
            f = given[rows]
        elif kind == "gaussian":
            f = rng.standard_normal((rows.stop - rows.start, *shape))
        elif kind == "sine" and boundary == "neumann":
            f, slopes = field(rows, slopes=True)
        else:
            f = field(rows)
        if boundary == "dirichlet" and kind != "given":
            for axis in range(1, f.ndim):
                np.moveaxis(f, axis, 0)[0] = 0
            if kind == "sine" and len(shape) == 1:
                f[:, [1, -2, -1]] = 0
        if boundary != "dirichlet" and wavenumber is None:
            f = f - f.mean(axis=tuple(range(1, f.ndim)), keepdims=True)
        F[rows], U[rows] = f[kept], solve(f, slopes)[kept]
    return F, U


def _check_shape(n_points):
    try:
        shape = tuple(index(n) for n in np.atleast_1d(n_points))
    except TypeError:
        shape = ()
    if not shape or min(shape) < 2:
        raise ValueError(f"n_points={n_points!r} must be an integer of at least 2, or a tuple of one per axis.")
    return shape


def _check_refinement(refinement, kind, boundary, n_axes):
    on_grid = kind in ("gaussian", "given")
    if refinement is None:
        return 1 if on_grid or n_axes > 2 else 3 if boundary == "neumann" else 4 if n_axes == 1 else 2
    if on_grid and refinement > 1:
        raise ValueError(f"refinement={refinement} does not apply to forcings that live on the grid itself; use 1.")
    if boundary == "neumann" and refinement % 2 == 0:
        raise ValueError(f"refinement={refinement} does not nest the grids of a Neumann problem; use an odd number.")
    return refinement


def _check_modes(modes, n_points, shape, half_waves):
    if modes is None:
        modes = (3, 23) if len(shape) > 2 else (1, 10)
    try:
        first, last = (index(k) for k in modes)
    except (TypeError, ValueError):
        raise ValueError(f"modes={modes!r} must be a pair of integers (first, last).") from None
    if not 1 <= first <= last:
        raise ValueError(f"modes={modes!r} must satisfy 1 <= first <= last.")
    highest = (min(shape) - 1) // (1 if half_waves else 2)
    if last > highest:
        raise ValueError(
            f"modes={modes!r} cannot be represented on n_points={n_points}: the largest mode that can is {highest}."
        )
    return first, last
