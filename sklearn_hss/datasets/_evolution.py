"""Trajectories of u_t + beta u u_x = diffusivity u_xx on the unit interval, and the pairs of states cut from them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.sparse as sp
from scipy.integrate import solve_ivp
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions

from .._parameters import Count
from .._warnings import warn_user
from ..exceptions import DataWarning
from ._checks import check_fields, check_modes, count_steps
from ._forcing import gaussian_random_field
from ._generation import GENERATION_CONSTRAINTS, POSITIVE, Plan, check_size, generate, report

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


class Series(NamedTuple):
    """Sine series sum_k c_k sin(half_waves (k + shift) pi x) with c_k ~ U(lowest, 1)."""

    half_waves: int
    shift: int
    lowest: float


@dataclass(frozen=True)
class Equation:
    """Right-hand side of u_t = (diffusivity u_x - beta u² / 2)_x in second-order finite differences.

    The flux between two points with the values a and b is diffusivity (b - a) / h - beta (a² + a b + b²) / 6. Of the
    central fluxes that conserve the integral of u, it is the one whose convective part also leaves the integral of u²
    as it is (Zabusky and Kruskal), so that the discrete energy falls as the true one does, on coarse grids too.

    Attributes
    ----------
    n_intervals : int
        The spacing h is 1 / n_intervals.
    periodic : bool
        The unknowns are u at the points j h, j = 0, ..., n_intervals - 1 of a periodic grid, or j = 1, ...,
        n_intervals - 1 where u = 0 at both ends.
    diffusivity, beta : float
    """

    n_intervals: int
    periodic: bool
    diffusivity: float
    beta: float = 0.0

    def __call__(self, t, u):
        a, b = self._neighbours(u)
        flux = self.diffusivity * self.n_intervals * (b - a) - self.beta / 6 * (a * a + a * b + b * b)
        return self.n_intervals * np.diff(flux)

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
        """Values on the left and on the right of every interval, from that before the first unknown on."""
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
        # SciPy's first step would be NaN, and shortening it would go on for ever.
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


def make_evolution(
    generator,
    n_samples,
    n_points,
    *,
    diffusivity,
    beta,
    boundary,
    both_ends,
    series,
    t_final,
    store_every,
    step,
    initial,
    modes,
    length_scale,
    refinement,
    solver,
    rtol,
    atol,
    return_trajectories,
    random_state,
    n_jobs,
    verbose,
    data_home,
):
    """Generate trajectories; the parameters are those of `make_heat` and `make_burgers`, and two more.

    Parameters
    ----------
    both_ends : bool
        Whether x = 1 belongs to the grid.
    series : Series
        The distribution "sine" of the initial states.

    Returns
    -------
    tuple of ndarrays
        (times, U) or (U_t, U_next).
    """
    given = None
    if not isinstance(initial, str):
        given = check_fields(initial, "initial", ("n_samples", "n_points"))
        n_samples, n_points = given.shape
        random_state = 0  # nothing is random
    on_grid = given is not None or initial == "gaussian"
    refinement = _check_refinement(refinement, n_points, on_grid)
    n_fine = n_points * refinement
    n_intervals = n_fine - 1 if both_ends else n_fine
    if given is None and initial == "sine":
        modes = check_modes(modes, (n_intervals - 1) // (series.half_waves * refinement) - series.shift, n_points)
    n_steps = count_steps("store_every", store_every, t_final, f"t_final={t_final:g}")
    if not return_trajectories:
        lag = count_steps("store_every", store_every, step, f"step={step:g}")
        if lag > n_steps:
            raise ValueError(f"step={step} is longer than the trajectories; choose one of at most t_final={t_final}.")
    shapes: dict[str, tuple[int, ...]] = {"U": (n_steps + 1, n_points)}
    parameters = {
        "n_samples": n_samples,
        "n_points": n_points,
        "refinement": refinement,
        "t_final": t_final,
        "store_every": store_every,
    }
    # Pairs are copies, and so in memory even where the trajectories are on the disk.
    n_copied = 0 if return_trajectories else 2 * n_samples * (n_steps + 1 - lag) * n_points
    working = n_copied + (n_steps + 1) * n_fine
    n_bytes = check_size(parameters, n_samples, shapes, working=working, data_home=data_home)
    equation = Equation(n_intervals, boundary == "periodic", float(diffusivity), float(beta))
    unknowns = slice(None) if equation.periodic else slice(1, n_intervals)
    if given is not None:
        given = _vanishing_outside(given, unknowns)
    _warn_of_coarse_grid(
        equation, 1.0 if given is None else np.abs(given).max(), n_points, None if on_grid else refinement
    )
    times = float(store_every) * np.arange(n_steps + 1)

    def prepare():
        if given is None:
            rng = check_random_state(random_state)
            x, max_frequency = np.arange(n_fine) / n_intervals, np.pi * n_intervals / refinement
            draw = _random_states(
                initial, n_samples, x, unknowns, boundary, series, modes, length_scale, max_frequency, rng
            )
        else:
            draw = given.__getitem__
        solve_batch = _batch_solver(equation, unknowns, times, refinement, solver, rtol, atol)
        # SciPy's BDF is Python code.
        prefer = "processes" if solver == "bdf" else "threads"
        return Plan(n_samples, _BATCH, shapes, draw, solve_batch, prefer=prefer)

    recipe = {
        "generator": generator,
        **parameters,
        "diffusivity": diffusivity,
        "beta": beta,
        "boundary": boundary,
        "initial": initial if given is None else given,
        "modes": modes if given is None and initial == "sine" else None,
        "length_scale": length_scale if given is None and initial == "grf" else None,
        "solver": solver,
        "rtol": rtol if solver == "bdf" else None,
        "atol": atol if solver == "bdf" else None,
        "random_state": random_state,
    }
    (U,) = generate(prepare, recipe, n_jobs=n_jobs, verbose=verbose, data_home=data_home, n_bytes=n_bytes)
    if return_trajectories:
        return times, U
    return tuple(np.array(states).reshape(-1, n_points) for states in (U[:, :-lag], U[:, lag:]))


def _batch_solver(equation, unknowns, times, refinement, solver, rtol, atol) -> Callable:
    def solve(rows, initial):
        n_fine = initial.shape[1]
        U = np.zeros((len(initial), len(times), -(-n_fine // refinement)))
        fine = np.zeros((len(times), n_fine))
        if solver == "exact":
            states = exact_trajectories(equation, initial[:, unknowns], times)
        else:
            states = (_numbered_bdf(i, u[unknowns]) for i, u in enumerate(initial, rows.start))
        for trajectory, state in zip(U, states, strict=True):
            fine[:, unknowns] = state
            trajectory[:] = fine[:, ::refinement]
            report(1)
        return (U,)

    def _numbered_bdf(i, u):
        try:
            return bdf_trajectory(equation, u, times, rtol, atol)
        except RuntimeError as error:
            raise RuntimeError(
                f"Trajectory {i}: {error}; try a finer grid (n_points, refinement), more diffusion, smaller initial "
                f"states, or other tolerances than rtol={rtol}, atol={atol}."
            ) from error

    return solve


def _random_states(kind, n_samples, x, unknowns, boundary, series, modes, length_scale, max_frequency, rng) -> Callable:
    if kind == "sine":
        k = np.arange(modes[0], modes[1] + 1) + series.shift
        coefficients = rng.uniform(series.lowest, 1, size=(n_samples, len(k)))
        basis = np.sin(series.half_waves * np.pi * k[:, None] * x)
        numbers, field = coefficients.__getitem__, lambda drawn: drawn @ basis
    elif kind == "grf":
        numbers, field = gaussian_random_field([x], n_samples, boundary, length_scale, [max_frequency], rng)
    else:
        numbers, field = lambda rows: rng.standard_normal((rows.stop - rows.start, len(x))), np.array

    def draw(rows):
        values = field(numbers(rows))
        states = np.zeros_like(values)
        states[:, unknowns] = values[:, unknowns]
        return states / np.abs(states).max(axis=1, keepdims=True)

    return draw


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


def _vanishing_outside(initial, unknowns):
    """The given states, zero at the ends where they are so up to rounding."""
    inside = np.zeros_like(initial)
    inside[:, unknowns] = initial[:, unknowns]
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
