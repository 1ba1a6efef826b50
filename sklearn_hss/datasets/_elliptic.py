"""Data of linear elliptic equations: draw right-hand sides, solve, and restrict to the coarse grid."""

from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from .._devices import resolve_device
from ._box import axis_grid, box_solver
from ._checks import as_integer, check_domain, coefficient_array
from ._forcing import Series
from ._generation import Plan
from ._sparse import (
    NotConverged,
    check_positive,
    diffusion_solver,
    domain_mask,
    l_shape_interior,
    l_shape_solver,
    perforated_solver,
    refined_mask,
)

# Number of fine grid points that are processed at a time: one field of 128³.
_BATCH = 2**21


@dataclass(frozen=True)
class EllipticProblem:
    """The equation -div(diffusivity grad u) - wavenumber² u = f on a domain, and its scheme.

    The attributes are parameters of `make_poisson` and `make_helmholtz`; None means a default that depends on other
    parameters, or an absent term of the equation.
    """

    boundary: str | None
    order: int | None
    wavenumber: float | None = None
    domain: Any = "box"
    hole_radius: float | None = None
    diffusivity: Any = None

    @property
    def domain_name(self):
        """Name of the domain, "mask" for a given one."""
        return self.domain if isinstance(self.domain, str) else "mask"

    @property
    def on_grid(self):
        """Whether a coefficient is given on the grid itself."""
        return isinstance(self.diffusivity, np.ndarray)

    @property
    def singular(self):
        """Whether the equation determines u up to a constant only, and is solvable only for some f."""
        bounded = self.domain_name == "mask" and not self.domain.all()
        return self.boundary != "dirichlet" and self.wavenumber is None and not bounded

    def on_points(self, n_samples, shape):
        """The problem with validated boundary condition, domain and coefficients; ValueError if these are invalid."""
        return replace(self.bounded(shape), diffusivity=_check_diffusivity(self.diffusivity, n_samples, shape))

    def bounded(self, shape):
        """The problem with validated boundary condition and domain; ValueError if these are invalid."""
        boundary = self.boundary or ("periodic" if self.domain_name == "perforated" else "dirichlet")
        if self.domain_name == "l-shape" and boundary != "dirichlet":
            raise ValueError(f"boundary={boundary!r} is not available for domain='l-shape'; 'dirichlet' is.")
        domain = self.domain if isinstance(self.domain, str) else check_domain(self.domain)
        if not isinstance(domain, str):
            if domain.shape != shape:
                raise ValueError(
                    f"domain is a mask of shape {domain.shape}; it must be {shape}, one value per grid point."
                )
            if boundary == "dirichlet" and not domain[(slice(1, None),) * len(shape)].any():
                raise ValueError("domain is a mask without a point in the interior of the box, so that u = 0.")
        return replace(self, boundary=boundary, domain=domain)

    def refinement(self, refinement, n_points, shape, on_grid):
        """Validate the refinement; `on_grid` indicates that the right-hand sides are given on the grid itself."""
        on_grid = on_grid or self.on_grid
        neumann = self.boundary == "neumann"
        if refinement is None:
            unrefined = on_grid or len(shape) > 2 or self.domain_name == "mask"
            refinement = 1 if unrefined else 3 if neumann else 4 if len(shape) == 1 else 2
        if on_grid and refinement > 1:
            raise ValueError(
                f"refinement={refinement} does not apply to a forcing or coefficient that is given on the grid; use 1."
            )
        if neumann and refinement % 2 == 0:
            raise ValueError(
                f"refinement={refinement} does not nest the grids of a Neumann problem; use an odd number."
            )
        if min(shape) * refinement < 5:
            raise ValueError(
                f"n_points={n_points} with refinement={refinement} is too small: the schemes need at least 5 points."
            )
        return refinement

    def solved_on(self, fine):
        """The problem with the order of the scheme; ValueError if this or the fine grid is invalid for the domain."""
        order = self.order
        if self.domain_name in ("perforated", "mask") or self.diffusivity is not None:
            if order == 4:
                which = {"perforated": "domain='perforated'", "mask": "a domain that is a mask"}.get(
                    self.domain_name, "a variable diffusivity"
                )
                raise ValueError(f"order=4 is not available for {which}; its scheme is of order 2.")
            order = 2
        if self.domain_name in ("l-shape", "perforated"):
            self._check_domain(fine)
        return replace(self, order=order or 4)

    def _check_domain(self, fine):
        if len(fine) != 2:
            raise ValueError(
                f"domain={self.domain!r} is two-dimensional, but n_points gives a grid of dimension {len(fine)}; use "
                f"for example n_points=(64, 64)."
            )
        if self.domain == "l-shape":
            if self.diffusivity is not None:
                raise ValueError("diffusivity is not available for domain='l-shape'; 'box' and 'perforated' have it.")
            if any(n % 2 for n in fine):
                raise ValueError(
                    f"domain='l-shape' has its corner on the grid: {fine} points to solve on must be even."
                )
            return
        h = 1 / min(fine)
        if not 2 * h < self.hole_radius < 0.5 - h:
            raise ValueError(
                f"hole_radius={self.hole_radius} must be between two cells and half the box less one cell, {2 * h:.4g} "
                f"and {0.5 - h:.4g} on {fine} points."
            )

    def torch_device(self, device, n_axes):
        """Torch device, or None for the SciPy solvers; ValueError if only these solve the problem."""
        helps = n_axes == 3 and self.domain_name == "box" and self.diffusivity is None
        if device == "cpu" or (device == "auto" and not helps):
            return None
        resolved = resolve_device(device)
        if resolved.type == "cpu":
            return None
        if not helps:
            raise ValueError(
                f"device={device!r} requires a three-dimensional box with constant diffusivity; use 'cpu'."
            )
        return resolved

    def factor_size(self, fine):
        """Count of numbers in factors that are much larger than the fields."""
        return 0

    def mask(self, shape):
        """Points of the closed domain, or of a given mask."""
        if self.domain_name == "mask":
            return refined_mask(self.domain, shape[0] // len(self.domain), self.boundary)
        return domain_mask(self.domain, shape, self.boundary, self.hole_radius)

    def admissible(self, fine, kind):
        """Function that makes right-hand sides of a kind admissible, in place: zero where required, or of mean zero."""
        drawn = kind != "given"
        # As at the ends of the box, a random f is zero where u = 0.
        inside = l_shape_interior(fine) if self.domain_name == "l-shape" and drawn else self.mask(fine)

        def fit(f):
            if self.boundary == "dirichlet" and drawn:
                for axis in range(1, f.ndim):
                    np.moveaxis(f, axis, 0)[0] = 0
                if kind == "sine" and f.ndim == 2 and self.domain_name == "box":
                    f[:, [1, -2, -1]] = 0
            if self.domain_name != "box":
                f *= inside
            if self.singular:
                f -= inside * (f.sum(axis=tuple(range(1, f.ndim)), keepdims=True) / inside.sum())

        return fit

    @property
    def recipe(self):
        """Parameters that determine the equation and its scheme."""
        return {**vars(self), "hole_radius": self.hole_radius if self.domain_name == "perforated" else None}

    def solver(self, fine, device):
        """Solver ``solve(rows, f, slopes)`` of the samples of a slice."""
        a = self.diffusivity
        if self.domain_name == "box" and a is None:
            solve_box = box_solver(fine, self.boundary, self.order, self.wavenumber, device)
            return lambda rows, f, slopes: solve_box(f, slopes)
        if self.domain_name == "l-shape":
            solve = l_shape_solver(fine, self.order)
        else:
            if self.domain_name == "perforated":
                prepare = partial(perforated_solver, fine, self.boundary, self.hole_radius)
            else:
                mask = None if self.domain_name == "box" else self.mask(fine)
                prepare = partial(diffusion_solver, fine, self.boundary, mask=mask)
            if isinstance(a, np.ndarray) and a.ndim > len(fine):  # one field per sample
                return lambda rows, f, slopes: np.concatenate(
                    [
                        _named(prepare(field), i, one)
                        for i, field, one in zip(range(rows.start, rows.stop), a[rows], f[:, None], strict=True)
                    ]
                )
            solve = prepare(a)
        return lambda rows, f, slopes: _named(solve, rows.start, f)


def make_elliptic_data(request, forcing, problem):
    """Data sets of `make_poisson` and `make_helmholtz`.

    Parameters
    ----------
    request : Request
    forcing : Fields
    problem : EllipticProblem

    Returns
    -------
    F, U : ndarrays of shape (n_samples, *n_points)
    mask : ndarray of bool (*n_points)
    """
    if forcing.kind == "given":
        request = request.given(len(forcing.values), list(forcing.values.shape[1:]))
    n_points, shape = request.n_points, _check_shape(request.n_points)
    problem = problem.on_points(request.n_samples, shape)
    refinement = problem.refinement(request.refinement, n_points, shape, forcing.on_grid)
    fine = tuple(n * refinement for n in shape)
    problem = problem.solved_on(fine)
    if len(shape) > 2:  # the paper uses half waves there, which are not periodic
        half_waves = 1 if problem.boundary == "dirichlet" else 2
        forcing = replace(forcing, series=Series(half_waves, n_draws=20, modes=(3, 23)))
    forcing = forcing.settled(n_points, min(fine), refinement)
    device = problem.torch_device(request.device, len(shape))
    request = replace(request, n_points=shape, refinement=refinement, device=device)
    shapes = {"F": shape, "U": shape}
    # At least one field of the fine grid is processed at a time, with its transform and the solution of the equation.
    n_bytes = request.check_size(shapes, working=3 * prod(fine) + problem.factor_size(fine))

    def prepare():
        solver = problem.solver(fine, device)
        boundary = problem.boundary
        axes, highest = [axis_grid(n, boundary) for n in fine], [np.pi * n for n in shape]
        draw, field = forcing.sampler(axes, request.n_samples, boundary, highest, request.rng())
        fit = problem.admissible(fine, forcing.kind)
        with_slopes = forcing.kind == "sine" and boundary == "neumann"
        every = slice(refinement // 2 if boundary == "neumann" else 0, None, refinement)
        kept = (slice(None), *[every] * len(shape))

        def solve(rows, drawn):
            f, slopes = field(drawn, slopes=True) if with_slopes else (field(drawn), None)
            fit(f)
            return f[kept], solver(rows, f, slopes)[kept]

        return Plan(request.n_samples, max(1, _BATCH // prod(fine)), shapes, draw, solve)

    recipe = {**forcing.recipe, **problem.recipe, "device": device and device.type}
    F, U = request.generate(prepare, n_bytes, **recipe)
    return F, U, problem.mask(shape)


def _named(solve, first, f):
    try:
        return solve(f)
    except NotConverged as error:
        raise RuntimeError(f"Sample {first + error.index} could not be solved: {error}.") from None


def _check_shape(n_points):
    try:
        shape = tuple(as_integer(n) for n in (n_points if isinstance(n_points, list | tuple) else [n_points]))
    except (TypeError, ValueError):
        shape = ()
    if not shape or min(shape) < 2:
        raise ValueError(f"n_points={n_points!r} must be an integer of at least 2, or a tuple of one per axis.")
    return shape


def _check_diffusivity(diffusivity, n_samples, shape):
    if diffusivity is None or callable(diffusivity):
        return diffusivity
    diffusivity = coefficient_array(diffusivity, "diffusivity")
    if diffusivity.shape not in (shape, (n_samples, *shape)):
        raise ValueError(
            f"diffusivity has shape {diffusivity.shape}; it must be {shape}, one value per grid point, or "
            f"{(n_samples, *shape)}, one field per sample."
        )
    check_positive(diffusivity)
    return diffusivity
