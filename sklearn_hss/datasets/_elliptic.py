"""Data of linear elliptic equations: draw right-hand sides, solve, keep the points of the coarse grid."""

from functools import partial
from math import prod

import numpy as np
from sklearn.utils import check_random_state

from .._containers import as_plain
from .._devices import resolve_device
from ._box import axis_grid, box_solver
from ._checks import as_integer, check_fields, check_modes, real_array
from ._forcing import gaussian_random_field, sine_forcing
from ._generation import Plan, check_size, generate
from ._sparse import (
    NotConverged,
    check_positive,
    diffusion_solver,
    domain_mask,
    l_shape_interior,
    l_shape_solver,
    perforated_solver,
)

# Fine grid points that are worked on at a time: one field of 128³.
_BATCH = 2**21


def make_elliptic_data(
    generator,
    n_samples,
    n_points,
    *,
    boundary,
    forcing,
    modes,
    length_scale,
    order,
    refinement,
    random_state,
    n_jobs,
    device,
    verbose,
    data_home,
    wavenumber=None,
    domain="box",
    hole_radius=None,
    diffusivity=None,
):
    """Data sets of `make_poisson` and `make_helmholtz`, whose parameters these are.

    Returns
    -------
    F, U : ndarrays of shape (n_samples, *n_points)
    mask : ndarray of bool (*n_points)
    """
    kind = forcing if isinstance(forcing, str) else "given"
    if kind == "given":
        forcing = real_array(forcing, "forcing")
        sizes = [f"n_{i}" for i in range(1, forcing.ndim)] or ["n_points"]
        forcing = check_fields(forcing, "forcing", ("n_samples", *sizes))
        n_samples, *n_points = forcing.shape
        random_state = 0  # nothing is random
    shape = _check_shape(n_points)
    boundary = _check_boundary(boundary, domain)
    diffusivity = _check_diffusivity(diffusivity, n_samples, shape)
    on_grid = kind in ("gaussian", "given") or isinstance(diffusivity, np.ndarray)
    refinement = _check_refinement(refinement, on_grid, boundary, len(shape))
    fine = tuple(n * refinement for n in shape)
    if min(fine) < 5:
        raise ValueError(
            f"n_points={n_points} with refinement={refinement} is too small: the schemes need at least 5 points."
        )
    order = _check_order(order, domain, diffusivity)
    _check_domain(domain, fine, boundary, hole_radius, diffusivity)
    # In three dimensions, the paper draws half waves, which are not periodic.
    half_waves = len(shape) > 2 and boundary == "dirichlet"
    if kind == "sine":
        default = (3, 23) if len(shape) > 2 else (1, 10)
        modes = check_modes(default if modes is None else modes, (min(shape) - 1) // (1 if half_waves else 2), n_points)
    device = _check_device(device, len(shape) == 3 and domain == "box" and diffusivity is None)
    shapes = {"F": shape, "U": shape}
    parameters = {"n_samples": n_samples, "n_points": shape, "refinement": refinement}
    # One field of the fine grid at least is worked on at a time, with its transform and the solution of the equation.
    n_bytes = check_size(parameters, n_samples, shapes, working=3 * prod(fine), data_home=data_home)

    def prepare():
        solver = _solver(fine, boundary, order, wavenumber, domain, hole_radius, diffusivity, device)
        rng = check_random_state(random_state)
        axes = [axis_grid(n, boundary) for n in fine]
        if kind == "sine":
            n_draws = 20 if len(shape) > 2 else None
            draw, field = sine_forcing(axes, n_samples, modes, (1 if half_waves else 2) * np.pi, n_draws, rng)
        elif kind == "grf":
            highest = [np.pi * n for n in shape]
            draw, field = gaussian_random_field(axes, n_samples, boundary, length_scale, highest, rng)
        elif kind == "given":
            draw, field = forcing.__getitem__, np.array
        else:
            draw, field = lambda rows: rng.standard_normal((rows.stop - rows.start, *shape)), np.array

        inside = domain_mask(domain, fine, boundary, hole_radius)
        if domain == "l-shape" and kind != "given":  # as at the ends of the box, f is zero where u = 0
            inside = l_shape_interior(fine)
        every = slice(refinement // 2 if boundary == "neumann" else 0, None, refinement)
        kept = (slice(None), *[every] * len(shape))

        def solve(rows, drawn):
            slopes = None
            if kind == "sine" and boundary == "neumann":
                f, slopes = field(drawn, slopes=True)
            else:
                f = field(drawn)
            if boundary == "dirichlet" and kind != "given":
                for axis in range(1, f.ndim):
                    np.moveaxis(f, axis, 0)[0] = 0
                if kind == "sine" and len(shape) == 1:
                    f[:, [1, -2, -1]] = 0
            if domain != "box":
                f *= inside
            if boundary != "dirichlet" and wavenumber is None:
                f -= inside * (f.sum(axis=tuple(range(1, f.ndim)), keepdims=True) / inside.sum())
            return f[kept], solver(rows, f, slopes)[kept]

        return Plan(
            n_samples=n_samples,
            batch_size=max(1, _BATCH // prod(fine)),
            shapes=shapes,
            draw=draw,
            solve=solve,
        )

    recipe = {
        "generator": generator,
        **parameters,
        "domain": domain,
        "hole_radius": hole_radius if domain == "perforated" else None,
        "diffusivity": diffusivity,
        "wavenumber": wavenumber,
        "boundary": boundary,
        "forcing": forcing,
        "modes": modes if kind == "sine" else None,
        "length_scale": length_scale if kind == "grf" else None,
        "order": order,
        "device": device and device.type,
        "random_state": random_state,
    }
    n_jobs = n_jobs if device is None else 1
    F, U = generate(prepare, recipe, n_jobs=n_jobs, verbose=verbose, data_home=data_home, n_bytes=n_bytes)
    return F, U, domain_mask(domain, shape, boundary, hole_radius)


def _solver(shape, boundary, order, wavenumber, domain, hole_radius, diffusivity, device):
    """Solver ``solve(rows, f, slopes)`` of the samples of a slice."""
    if domain == "l-shape":
        solve = l_shape_solver(shape, order)
    elif domain == "box" and diffusivity is None:
        box = box_solver(shape, boundary, order, wavenumber, device)
        return lambda rows, f, slopes: box(f, slopes)
    else:
        prepare = (
            partial(perforated_solver, shape, boundary, hole_radius)
            if domain == "perforated"
            else partial(diffusion_solver, shape, boundary)
        )
        if isinstance(diffusivity, np.ndarray) and diffusivity.ndim > len(shape):
            return lambda rows, f, slopes: np.concatenate(
                [
                    _named(prepare(a), slice(i, i + 1), f[i - rows.start : i - rows.start + 1])
                    for i, a in enumerate(diffusivity[rows], rows.start)
                ]
            )
        solve = prepare(diffusivity)
    return lambda rows, f, slopes: _named(solve, rows, f)


def _named(solve, rows, f):
    try:
        return solve(f)
    except NotConverged as error:
        raise RuntimeError(f"Sample {rows.start + error.index} could not be solved: {error}.") from None


def _check_shape(n_points):
    try:
        shape = tuple(as_integer(n) for n in (n_points if isinstance(n_points, list | tuple) else [n_points]))
    except (TypeError, ValueError):
        shape = ()
    if not shape or min(shape) < 2:
        raise ValueError(f"n_points={n_points!r} must be an integer of at least 2, or a tuple of one per axis.")
    return shape


def _check_boundary(boundary, domain):
    if boundary is None:
        return "periodic" if domain == "perforated" else "dirichlet"
    if domain == "l-shape" and boundary != "dirichlet":
        raise ValueError(f"boundary={boundary!r} is not available for domain='l-shape'; 'dirichlet' is.")
    return boundary


def _check_diffusivity(diffusivity, n_samples, shape):
    if diffusivity is None or callable(diffusivity):
        return diffusivity
    diffusivity = as_plain(diffusivity, "diffusivity")
    given, diffusivity = diffusivity, real_array(diffusivity, "diffusivity")
    if np.asarray(given).dtype == bool:
        raise ValueError("diffusivity holds booleans, such as a mask; it must hold positive numbers.")
    if diffusivity.shape not in (shape, (n_samples, *shape)):
        raise ValueError(
            f"diffusivity has shape {diffusivity.shape}; it must be {shape}, one value per grid point, or "
            f"{(n_samples, *shape)}, one field per sample."
        )
    check_positive(diffusivity)
    return diffusivity


def _check_refinement(refinement, on_grid, boundary, n_axes):
    if refinement is None:
        return 1 if on_grid or n_axes > 2 else 3 if boundary == "neumann" else 4 if n_axes == 1 else 2
    if on_grid and refinement > 1:
        raise ValueError(
            f"refinement={refinement} does not apply to a forcing or diffusivity that lives on the grid itself; use 1."
        )
    if boundary == "neumann" and refinement % 2 == 0:
        raise ValueError(f"refinement={refinement} does not nest the grids of a Neumann problem; use an odd number.")
    return refinement


def _check_order(order, domain, diffusivity):
    if domain != "perforated" and diffusivity is None:
        return 4 if order is None else order
    if order == 4:
        what = "domain='perforated'" if domain == "perforated" else "a variable diffusivity"
        raise ValueError(f"order=4 is not available for {what}; its scheme is of order 2.")
    return 2


def _check_domain(domain, fine, boundary, hole_radius, diffusivity):
    if domain == "box":
        return
    if len(fine) != 2:
        raise ValueError(
            f"domain={domain!r} is one of two dimensions, and n_points gives {len(fine)}; use n_points=(64, 64), say."
        )
    if domain == "l-shape":
        if diffusivity is not None:
            raise ValueError("diffusivity is not available for domain='l-shape'; 'box' and 'perforated' have it.")
        if any(n % 2 for n in fine):
            raise ValueError(f"domain='l-shape' has its corner on the grid: {fine} points to solve on must be even.")
        return
    h = 1 / min(fine)
    if not 2 * h < hole_radius < 0.5 - h:
        raise ValueError(
            f"hole_radius={hole_radius} must be between two cells and half the box less one cell, {2 * h:.4g} and "
            f"{0.5 - h:.4g} on {fine} points."
        )


def _check_device(device, helps):
    """Torch device, or None for the SciPy solvers."""
    if device == "cpu" or (device == "auto" and not helps):
        return None
    resolved = resolve_device(device)
    if resolved.type == "cpu":
        return None
    if not helps:
        raise ValueError(f"device={device!r} is for boxes of three dimensions with constant diffusivity; use 'cpu'.")
    return resolved
