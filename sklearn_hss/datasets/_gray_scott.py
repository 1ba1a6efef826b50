"""The Gray-Scott model of reaction and diffusion."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import StrOptions, validate_params

from .._containers import as_plain
from .._devices import resolve_device
from ._checks import as_integer, check_fields, count_steps
from ._generation import Plan, Request
from ._spectral import SPECTRAL_CONSTRAINTS, batch_size, check_grid, wavenumbers

#: Feed rate f and kill rate k of the paper's six patterns.
GRAY_SCOTT_PATTERNS = {
    "gliders": (0.014, 0.054),
    "bubbles": (0.098, 0.057),
    "maze": (0.029, 0.057),
    "worms": (0.058, 0.065),
    "spirals": (0.018, 0.051),
    "spots": (0.030, 0.062),
}
# Seconds from a state to the next.
_STATE = 10.0
# Values per axis of which the random Fourier series are the interpolants.
_N_SERIES = 32


@validate_params(
    {
        **SPECTRAL_CONSTRAINTS,
        "pattern": [str, tuple, list],
        "initial": [StrOptions({"fourier", "gaussians", "both"}), "array-like"],
        "states": ["array-like"],
        "diffusivities": [tuple, list],
        "parameter_channels": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_gray_scott(
    n_samples: int = 12,
    n_points: tuple[int, int] = (128, 128),
    *,
    pattern: str | tuple[float, float] | list = "all",
    initial: str | ArrayLike = "both",
    states: Sequence[int] = (0, 1000),
    diffusivities: tuple[float, float] = (2e-5, 1e-5),
    dt: float = 1.0,
    parameter_channels: bool = True,
    return_trajectories: bool = False,
    dtype: str = "float64",
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    device: str = "auto",
    verbose: int = 1,
    data_home: str | os.PathLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Generate concentrations of two reacting substances, initially and after patterns have formed.

    The equations are A_t = d_A Laplace(A) - A B² + f (1 - A) and B_t = d_B Laplace(B) + A B² - (f + k) B on the square
    [-1, 1)² with periodic boundaries, where A is fed at the rate f and B removed at the rate f + k. With the defaults,
    the data have the distribution of the paper's experiment, which uses The Well: 100 samples of both kinds of
    `initial` for each pattern there, which corresponds to ``n_samples=1200`` here.

    The solver is Fourier pseudo-spectral in space and ETDRK4 in time, with exact diffusion and explicit reactions.

    Parameters
    ----------
    n_samples : int, default=12
        Number of simulations.
    n_points : tuple of 2 ints, default=(128, 128)
        Number of grid points per axis, at least 4; the grid of an axis of n points is x_j = -1 + 2 j / n.
    pattern : str, tuple (f, k), or list of those, default="all"
        Feed and kill rates, in 1/s. The names are those of ``GRAY_SCOTT_PATTERNS``: "gliders", "bubbles", "maze",
        "worms", "spirals" and "spots". "all" is the list of all of these. The samples cycle through a list.
    initial : {"both", "fourier", "gaussians"} or array-like of shape (n_samples, 2, \\*n_points), default="both"
        States at t = 0. The random states have the distribution of the code that generated The Well.

        - "gaussians": B is a sum of 10 to 100 bumps a exp(-s r²) at random positions, a ~ U(1, 3), s ~ U(150, 300); A
          is minus an independent sum of bumps. Both are scaled to the range from 0 to 1.
        - "fourier": the trigonometric interpolants of independent uniform random values on a grid of 32 x 32, around
          the steady state (1, 0): from U(3/4, 5/4) and U(-1/4, 1/4). Where steady states with B > 0 exist ("bubbles"),
          around the one of the largest B, with an amplitude of 9/40 of its distance to 0 or 1.
        - "both": the samples of each pattern alternate between the two.
        - an array: given A and B, which determine `n_samples` and `n_points`.
    states : increasing sequence of ints, default=(0, 1000)
        States to return; state j is at t = 10 j seconds. Two states, unless ``return_trajectories=True``.
    diffusivities : tuple (d_A, d_B), default=(2e-5, 1e-5)
        Diffusion coefficients, positive.
    dt : float, default=1.0
        Time step in seconds; must divide the 10 s between two states.
    parameter_channels : bool, default=True
        Whether the constants f and k are appended to A and B as channels of X, or of every state of a trajectory.
    return_trajectories : bool, default=False
        Whether to return all `states` in one array, with their times.
    dtype : {"float64", "float32"}, default="float64"
        Precision of the computation and of the data.
    random_state : int, RandomState instance or None, default=None
        Determines the initial states. Pass an int for reproducible output.
    n_jobs : int, default=None
        Number of threads that solve batches of samples on a CPU, -1 for all cores; None is 1 unless in a
        :func:`joblib.parallel_config` context. The data do not depend on it, bit for bit.
    device : str, default="auto"
        Torch device; "auto" is CUDA if there is a GPU, otherwise the CPU. Data on different devices differ by rounding.
    verbose : int, default=1
        Whether to show a progress bar if the generation takes longer than two seconds.
    data_home : str or path, default=None
        Folder in which the data are stored, as in :func:`make_poisson`. Requires an int as `random_state`.

    Returns
    -------
    X : ndarray of shape (n_samples, 4, \\*n_points)
        A, B, f and k at the first state; A and B alone with ``parameter_channels=False``. With
        ``return_trajectories=True``, the times of the states instead, an ndarray of shape (n_states,), in seconds.
    Y : ndarray of shape (n_samples, 2, \\*n_points)
        A and B at the second state. With ``return_trajectories=True``, all states, (n_samples, n_states, channels,
        \\*n_points).

    Raises
    ------
    ValueError
        If a parameter is out of range, or the data do not fit into the memory or the disk of this machine.
    RuntimeError
        If a simulation becomes infinite or NaN.

    See Also
    --------
    make_navier_stokes : Vorticity of a flow.

    Notes
    -----
    In most samples of "gliders" that start from Fourier series, B vanishes early; this has not been observed for other
    combinations. Initial states from Fourier series contain some negative concentrations, as in the code of The Well.

    The default grid is that of the paper, which is coarse for these patterns: the highest Fourier coefficients of B are
    far from negligible. There is no dealiasing; the code of The Well sets coefficients to zero if both wavenumbers
    exceed a third of the number of points.

    References
    ----------
    Neural-HSS paper, Appendix F.6. Ohana et al., The Well: a large-scale collection of diverse
    physics simulations for machine learning, 2024; code for this part: danfortunato/spectral-gray-scott on GitHub.
    Kassam and Trefethen, Fourth-order time-stepping for stiff PDEs, SIAM J. Sci. Comput. 26 (2005).

    Examples
    --------
    >>> from sklearn_hss.datasets import make_gray_scott
    >>> X, Y = make_gray_scott(n_samples=2, n_points=(32, 32), pattern="maze", states=(0, 20), random_state=0)
    >>> X.shape, Y.shape
    ((2, 4, 32, 32), (2, 2, 32, 32))
    >>> times, U = make_gray_scott(
    ...     n_points=(16, 16), states=range(5), return_trajectories=True, parameter_channels=False, random_state=0
    ... )
    >>> times, U.shape
    (array([ 0., 10., 20., 30., 40.]), (12, 5, 2, 16, 16))
    """
    request = Request("make_gray_scott", n_samples, n_points, random_state, n_jobs, verbose, data_home)
    start: Any = initial
    if not isinstance(initial, str):
        start = check_fields(initial, "initial", ("n_samples", 2, "n_1", "n_2"))
        request = request.given(len(start), list(start.shape[2:]))
    request = replace(request, n_points=check_grid(request.n_points))
    states = as_plain(states, "states")
    first, last = (2 + 2 * parameter_channels, *request.n_points), (2, *request.n_points)
    shapes = {"U": (len(states), *first)} if return_trajectories else {"X": first, "Y": last}
    # The intermediate states of a time step require as much memory, for two substances each.
    working = len(states) + 12 * prod(request.n_points)
    in_time = {"len(states)": len(states)} if return_trajectories else {}
    n_bytes = request.check_size(shapes, dtype, working=working, **in_time)
    stored = _check_states(states, return_trajectories)
    pairs = _check_pattern(pattern)
    if len(diffusivities) != 2 or not all(isinstance(d, Real) and 0 < float(d) < np.inf for d in diffusivities):
        raise ValueError(f"diffusivities={diffusivities!r} must be two positive numbers, such as (2e-5, 1e-5).")
    stride = count_steps("dt", dt, _STATE, f"the {_STATE:g} s between two states")
    request = replace(request, device=resolve_device(device))
    rates = np.array(pairs)[np.arange(request.n_samples) % len(pairs)]
    simulation = Reactions(
        rates, start, len(pairs), stored, tuple(diffusivities), dt, parameter_channels, return_trajectories, dtype
    )
    prepare = partial(simulation.plan, request, shapes, stride * stored)
    arrays = request.generate(prepare, n_bytes, **vars(simulation), device=request.device.type)
    return (_STATE * stored, *arrays) if return_trajectories else arrays


@dataclass(frozen=True)
class Reactions:
    """The recipe of the simulations of a request: parameters of `make_gray_scott`, and two more."""

    rates: np.ndarray  # pairs (f, k), one per sample
    initial: Any
    families: int  # number of samples before the next family of initial states
    states: np.ndarray
    diffusivities: tuple[float, ...]
    dt: float
    parameter_channels: bool
    return_trajectories: bool
    dtype: str

    def plan(self, request, shapes, steps):
        """How to generate the data; `steps` are the numbers of the time steps after which a state is stored."""
        import torch

        from ._etdrk4 import ETDRK4, trajectory

        n_points, n_samples, rates = request.n_points, request.n_samples, self.rates
        k_1, k_2 = wavenumbers(n_points, 2.0)
        symbol = np.multiply.outer(self.diffusivities, -(k_1**2 + k_2**2))
        stepper = ETDRK4(symbol, self.dt, getattr(torch, self.dtype), request.device)
        if isinstance(self.initial, str):
            families = ["fourier", "gaussians"] if self.initial == "both" else [self.initial]
            kinds = [families[i // self.families % len(families)] for i in range(n_samples)]
            draw, field = _random_states(n_points, rates, kinds, request.rng())
        else:
            draw, field = self.initial.__getitem__, np.asarray
        n_rates = 2 * self.parameter_channels

        def solve(rows, drawn):
            U = np.empty((rows.stop - rows.start, len(steps), 2 + n_rates, *n_points), self.dtype)
            U[:, :, 2:] = rates[rows][:, None, :n_rates, None, None]
            reaction = _reaction(n_points, rates[rows], stepper)
            for j, state in enumerate(trajectory(stepper, field(drawn), reaction, steps, rows.start)):
                U[:, j, :2] = state
            return (U,) if self.return_trajectories else (U[:, 0], U[:, 1, :2])

        return Plan(n_samples, batch_size(n_points, request.device), shapes, draw, solve, self.dtype)


def _check_states(states, return_trajectories):
    try:
        stored = np.array([as_integer(j) for j in states])
    except TypeError:
        stored = np.array([-1])
    if len(stored) == 0 or stored.min() < 0 or np.any(np.diff(stored) <= 0):
        raise ValueError(f"states={states!r} must be increasing integers from 0 on, such as (0, 1000).")
    if len(stored) != 2 and not return_trajectories:
        raise ValueError(f"states={states!r} must be two for pairs; return_trajectories=True accepts any number.")
    return stored


def _check_pattern(pattern):
    """List of pairs (f, k)."""
    if isinstance(pattern, str):
        pattern = list(GRAY_SCOTT_PATTERNS) if pattern == "all" else [pattern]
    elif isinstance(pattern, tuple) and len(pattern) == 2 and all(isinstance(rate, Real) for rate in pattern):
        pattern = [pattern]
    pairs = [GRAY_SCOTT_PATTERNS.get(p, p) if isinstance(p, str) else p for p in pattern]
    for pair in pairs or [pattern]:
        if not (
            isinstance(pair, tuple | list)
            and len(pair) == 2
            and all(isinstance(rate, Real) and 0 <= float(rate) < np.inf for rate in pair)
        ):
            raise ValueError(
                f"pattern={pair!r} is unknown; use 'all', one of {', '.join(map(repr, GRAY_SCOTT_PATTERNS))}, a pair "
                f"(f, k) of non-negative rates, or a list of these."
            )
    return [tuple(map(float, pair)) for pair in pairs]


def _random_states(n_points, rates, kinds, rng):
    """Initial states, with one seed per sample, so that they do not depend on each other."""
    axes = [-1 + 2 * np.arange(n) / n for n in n_points]
    # Trigonometric interpolation from the coarse grid, as a sum over its points.
    waves = np.pi * np.arange(_N_SERIES // 2 + 1)
    weights = np.where(np.arange(len(waves)) % (len(waves) - 1) == 0, 1, 2) / _N_SERIES
    coarse = -1 + 2 * np.arange(_N_SERIES) / _N_SERIES
    bases = [np.tensordot(weights, np.cos(np.multiply.outer(waves, x[:, None] - coarse)), 1) for x in axes]

    def fourier(rates, rng):
        f, k = rates
        steady, widths = np.array([1.0, 0.0]), 1.0
        if 4 * (f + k) ** 2 < f:
            B = f / (f + k) * (1 + np.sqrt(1 - 4 * (f + k) ** 2 / f)) / 2
            steady = np.array([1 - (f + k) / f * B, B])
            widths = 0.9 * np.minimum(steady, 1 - steady)[:, None, None]
        values = widths * rng.uniform(-0.25, 0.25, size=(2, _N_SERIES, _N_SERIES))
        return steady[:, None, None] + bases[0] @ values @ bases[1].T

    def bumps(rng):
        n_bumps = rng.integers(10, 101)
        heights = rng.uniform(1, 3, n_bumps)
        sharpness = rng.uniform(150, 300, n_bumps)
        factors = []
        for x in axes:
            distances = (x - rng.uniform(-1, 1, n_bumps)[:, None] + 1) % 2 - 1
            factors.append(sum(np.exp(-sharpness[:, None] * (distances + shift) ** 2) for shift in (-2, 0, 2)))
        total = (heights[:, None] * factors[0]).T @ factors[1]
        return (total - total.min()) / np.ptp(total)

    def field(drawn):
        states = []
        for seed, sample_rates, kind in zip(*drawn, strict=True):
            rng = np.random.default_rng(seed)
            states.append(fourier(sample_rates, rng) if kind == "fourier" else np.stack([1 - bumps(rng), bumps(rng)]))
        return np.stack(states)

    seeds = rng.randint(2**63 - 1, size=len(kinds), dtype=np.int64)
    return lambda rows: (seeds[rows], rates[rows], kinds[rows]), field


def _reaction(n_points, rates, stepper):
    """The reactions and the feed, on the coefficients of A and B."""
    import torch

    f, k = rates.T
    decay = stepper.tensor(-np.stack([f, f + k], axis=1))
    feed = -decay[:, 0] * (n_points[0] * n_points[1])
    decay = decay[:, :, None, None, None]

    def reaction(u, out):
        A, B = torch.fft.irfft2(u, s=n_points).unbind(1)
        # Both substances require the transform of A B² only.
        consumed = torch.view_as_real(torch.fft.rfft2(B.square_().mul_(A)))
        out = torch.view_as_real(out)
        torch.mul(torch.view_as_real(u), decay, out=out)
        out[:, 0] -= consumed
        out[:, 1] += consumed
        out[:, 0, 0, 0, 0] += feed

    return reaction
