"""Trajectories of u_t + beta u u_x = diffusivity u_xx on the unit interval, and pairs of states from them."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse as sp
from scipy.integrate import solve_ivp
from sklearn.utils._param_validation import StrOptions

from .._parameters import Count
from .._warnings import warn_user
from ..exceptions import DataWarning
from ._checks import count_steps
from ._generation import GENERATION_CONSTRAINTS, POSITIVE, Plan, report

EVOLUTION_CONSTRAINTS: dict[str, list] = {
    "n_samples": [Count(1)],
    "n_points": [Count(2)],
    "boundary": [StrOptions({"dirichlet", "periodic"})],
    "t_final": POSITIVE,
    "store_every": POSITIVE,
    "step": POSITIVE,
    "initial": [StrOptions({"sine", "gaussian", "grf"}), "array-like"],
    "modes": [tuple, list],
    "length_scale": POSITIVE,
    "refinement": [Count(1), None],
    "rtol": POSITIVE,
    "atol": POSITIVE,
    "return_trajectories": ["boolean"],
    **GENERATION_CONSTRAINTS,
}

# Trajectories per job: about a second of work.
_BATCH = 16


@dataclass(frozen=True)
class Equation:
    """Right-hand side of u_t = (diffusivity u_x - beta u² / 2)_x in second-order finite differences.

    The flux between two points with the values a and b is diffusivity (b - a) / h - beta (a² + a b + b²) / 6. Among the
    central fluxes that conserve the integral of u, it is the one whose convective part also conserves the integral of
    u² (Zabusky and Kruskal), so that the discrete energy decreases as the true one does, even on coarse grids.

    Attributes
    ----------
    n_intervals : int
        The spacing h is 1 / n_intervals. None until there is a grid.
    periodic : bool
        The unknowns are u at the points j h, j = 0, ..., n_intervals - 1 of a periodic grid, or j = 1, ...,
        n_intervals - 1 where u = 0 at both ends.
    diffusivity, beta : float
    both_ends : bool
        Whether x = 1 is a point of the grid.
    """

    n_intervals: Any
    periodic: bool
    diffusivity: float
    beta: float = 0.0
    both_ends: bool = False

    def __call__(self, t, u):
        a, b = self._neighbours(u)
        flux = self.diffusivity * self.n_intervals * (b - a) - self.beta / 6 * (a * a + a * b + b * b)
        return self.n_intervals * np.diff(flux)

    @property
    def boundary(self):
        """The boundary condition."""
        return "periodic" if self.periodic else "dirichlet"

    @property
    def unknowns(self):
        """Slice of the unknowns among the points of the grid."""
        return slice(None) if self.periodic else slice(1, self.n_intervals)

    def zero_outside(self, states):
        """States with the given values at the unknowns, and zero at the other points."""
        inside = np.zeros_like(states)
        inside[:, self.unknowns] = states[:, self.unknowns]
        return inside

    def jacobian(self, t, u):
        a, b = self._neighbours(u)
        by_a = self.n_intervals * (-self.diffusivity * self.n_intervals - self.beta / 6 * (2 * a + b))
        by_b = self.n_intervals * (self.diffusivity * self.n_intervals - self.beta / 6 * (a + 2 * b))
        diagonals, offsets = [by_a[1:] - by_b[:-1], by_b[1:-1], -by_a[1:-1]], [0, 1, -1]
        if self.periodic:
            diagonals += [-by_a[:1], by_b[-1:]]
            offsets += [len(u) - 1, 1 - len(u)]
        return sp.diags(diagonals, offsets, format="csc")

    def _neighbours(self, u):
        """Values on the left and on the right of every interval, starting before the first unknown."""
        before, after = (u[-1:], u[:1]) if self.periodic else (np.zeros(1), np.zeros(1))
        padded = np.concatenate([before, u, after])
        return padded[:-1], padded[1:]


def bdf_trajectory(equation, initial, times, rtol, atol):
    """Integrate by SciPy's BDF.

    Parameters
    ----------
    equation : Equation
    initial : ndarray of shape (n_unknowns,)
        State at the first of the times.
    times : ndarray of shape (n_times,)
    rtol, atol : float

    Returns
    -------
    ndarray of shape (n_times, n_unknowns)

    Raises
    ------
    RuntimeError
        If the integration fails.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        # SciPy's first step would be NaN, and would be shortened indefinitely.
        if not np.isfinite(equation(times[0], initial)).all():
            raise RuntimeError(f"the right-hand side overflows at t={times[0]:g}")
        solution = solve_ivp(
            equation,
            (times[0], times[-1]),
            initial,
            method="BDF",
            t_eval=times,
            jac=equation.jacobian,
            rtol=rtol,
            atol=atol,
        )
    if not solution.success:
        raise RuntimeError(f"BDF stopped after t={max(solution.t, default=times[0]):g} ({solution.message})")
    finite = np.isfinite(solution.y).all(axis=0)
    if not finite.all():
        raise RuntimeError(f"the state at t={times[np.argmin(finite)]:g} is not finite")
    return solution.y.T


def exact_trajectories(equation, initial, times):
    """Solve the semi-discrete heat equation exactly in time, by sine or Fourier transforms.

    Parameters
    ----------
    equation : Equation
        With beta = 0.
    initial : ndarray of shape (n_samples, n_unknowns)
        States at t = 0.
    times : ndarray of shape (n_times,)

    Returns
    -------
    ndarray of shape (n_samples, n_times, n_unknowns)
    """
    n = equation.n_intervals
    k = np.arange(n // 2 + 1) if equation.periodic else np.arange(1, n) / 2
    with np.errstate(over="ignore"):
        eigenvalues = equation.diffusivity * (2 * n * np.sin(np.pi * k / n)) ** 2
        decay = np.exp(-times[:, None] * np.minimum(eigenvalues, np.finfo(float).max))
    if equation.periodic:
        return scipy.fft.irfft(scipy.fft.rfft(initial)[:, None] * decay, n=n, overwrite_x=True)
    return scipy.fft.idst(scipy.fft.dst(initial, type=1)[:, None] * decay, type=1, overwrite_x=True)


@dataclass(frozen=True)
class Schedule:
    """The stored and returned states; the attributes are parameters of `make_heat`."""

    t_final: float
    store_every: float
    step: float
    return_trajectories: bool

    def count(self):
        """Numbers of steps of a trajectory, and between the states of a pair (or None); ValueError if not integers."""
        n_steps = count_steps("store_every", self.store_every, self.t_final, f"t_final={self.t_final:g}")
        if self.return_trajectories:
            return n_steps, None
        lag = count_steps("store_every", self.store_every, self.step, f"step={self.step:g}")
        if lag > n_steps:
            raise ValueError(
                f"step={self.step} is longer than the trajectories; choose one of at most t_final={self.t_final}."
            )
        return n_steps, lag


@dataclass(frozen=True)
class Integrator:
    """Integration in time; the attributes are parameters of `make_heat`."""

    solver: str
    rtol: float
    atol: float

    @property
    def recipe(self):
        """Parameters that determine the trajectories."""
        return vars(self) if self.solver == "bdf" else {"solver": self.solver, "rtol": None, "atol": None}

    def solve(self, equation, times, refinement, rows, initial):
        """Trajectories of a slice of the samples, whose initial states are given, as in :class:`Plan`."""
        unknowns = equation.unknowns
        if self.solver == "exact":
            states = exact_trajectories(equation, initial[:, unknowns], times)
        else:
            states = (self._numbered_bdf(equation, times, i, u[unknowns]) for i, u in enumerate(initial, rows.start))
        n_fine = initial.shape[1]
        U = np.zeros((len(initial), len(times), -(-n_fine // refinement)))
        fine = np.zeros((len(times), n_fine))
        for trajectory, values in zip(U, states, strict=True):
            fine[:, unknowns] = values
            trajectory[:] = fine[:, ::refinement]
            report(1)
        return (U,)

    def _numbered_bdf(self, equation, times, i, u):
        try:
            return bdf_trajectory(equation, u, times, self.rtol, self.atol)
        except RuntimeError as error:
            raise RuntimeError(
                f"Trajectory {i}: {error}; try a finer grid (n_points, refinement), more diffusion, smaller initial "
                f"states, or other tolerances than rtol={self.rtol}, atol={self.atol}."
            ) from error


def make_evolution(request, initial, equation, schedule, integrator):
    """Data sets of `make_heat` and `make_burgers`.

    Parameters
    ----------
    request : Request
    initial : Fields
    equation : Equation
    schedule : Schedule
    integrator : Integrator

    Returns
    -------
    tuple of ndarrays
        (times, U) or (U_t, U_next).
    """
    given = initial.kind == "given"
    if given:
        request = request.given(*initial.values.shape)
    n_samples, n_points = request.n_samples, request.n_points
    refinement = _check_refinement(request.refinement, n_points, initial.on_grid)
    request, n_fine = replace(request, refinement=refinement), n_points * refinement
    equation = replace(equation, n_intervals=n_fine - equation.both_ends)
    initial = initial.settled(n_points, equation.n_intervals, refinement)
    n_steps, lag = schedule.count()
    shapes: dict[str, tuple[int, ...]] = {"U": (n_steps + 1, n_points)}
    in_time = {"t_final": schedule.t_final, "store_every": schedule.store_every}
    # Pairs are copies, and hence in memory even if the trajectories are on disk.
    n_copied = 2 * n_samples * (n_steps + 1 - lag) * n_points if lag else 0
    n_bytes = request.check_size(shapes, working=n_copied + (n_steps + 1) * n_fine, **in_time)
    if given:
        initial = replace(initial, values=_vanishing_outside(initial.values, equation))
    largest = np.abs(initial.values).max() if given else 1.0
    _warn_of_coarse_grid(equation, largest, n_points, None if initial.on_grid else refinement)
    times = float(schedule.store_every) * np.arange(n_steps + 1)

    def prepare():
        x, highest = np.arange(n_fine) / equation.n_intervals, np.pi * equation.n_intervals / refinement
        draw, field = initial.sampler([x], n_samples, equation.boundary, [highest], request.rng())

        def draw_states(rows):
            states = field(draw(rows))
            if not given:
                states = equation.zero_outside(states)
                states /= np.abs(states).max(axis=1, keepdims=True)
            return states

        solve = partial(integrator.solve, equation, times, refinement)
        # SciPy's BDF is Python code.
        prefer = "processes" if integrator.solver == "bdf" else "threads"
        return Plan(n_samples, _BATCH, shapes, draw_states, solve, prefer=prefer)

    recipe = {name: getattr(equation, name) for name in ("diffusivity", "beta", "boundary")}
    recipe |= {**in_time, **initial.recipe, **integrator.recipe}
    (U,) = request.generate(prepare, n_bytes, **recipe)
    if lag is None:
        return times, U
    return tuple(np.array(states).reshape(-1, n_points) for states in (U[:, :-lag], U[:, lag:]))


def _check_refinement(refinement, n_points, on_grid):
    if refinement is None:
        refinement = 1 if on_grid else 4
    if on_grid and refinement > 1:
        raise ValueError(
            f"refinement={refinement} does not apply to initial states that live on the grid itself; use 1."
        )
    if n_points * refinement < 5:
        raise ValueError(
            f"n_points={n_points} with refinement={refinement} is too small: the scheme needs at least 5 points."
        )
    return refinement


def _vanishing_outside(initial, equation):
    """The given states, with values at the ends that are rounding errors set to zero."""
    inside = equation.zero_outside(initial)
    if not np.allclose(initial, inside, rtol=0, atol=1e-12 * np.abs(initial).max()):
        where = np.unravel_index(np.argmax(np.abs(initial - inside)), initial.shape)
        raise ValueError(
            f"initial has the value {initial[where]:g} at the point {where[1]} of trajectory {where[0]}, where the "
            f"Dirichlet condition is u = 0; set it to zero there, or use boundary='periodic'."
        )
    return inside


def _warn_of_coarse_grid(equation, largest, n_points, refinement):
    speed = abs(equation.beta) * largest
    peclet = speed / (equation.diffusivity * equation.n_intervals)
    if peclet > 2:
        enough = math.ceil(speed / (2 * equation.diffusivity))
        remedy = f"n_points={enough}" if refinement is None else f"refinement={-(-enough // n_points)}"
        warn_user(
            f"The cell Peclet number |beta| max|u| h / viscosity is {peclet:.3g}, and central differences oscillate at "
            f"fronts where it is above 2; the grid of {remedy} would resolve them.",
            DataWarning,
        )
