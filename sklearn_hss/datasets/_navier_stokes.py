"""The Navier-Stokes equations in two dimensions."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from .._devices import resolve_device
from ._checks import check_fields, count_steps
from ._forcing import torus_random_field
from ._generation import POSITIVE, Plan, Request
from ._spectral import SPECTRAL_CONSTRAINTS, batch_size, check_grid, wavenumbers


@validate_params(
    {
        **SPECTRAL_CONSTRAINTS,
        "viscosity": POSITIVE,
        "t_final": POSITIVE,
        "store_every": POSITIVE,
        "initial": [StrOptions({"grf"}), "array-like"],
        "initial_scale": [Interval(Real, None, None, closed="neither")],
        "forcing": [StrOptions({"paper"}), "array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def make_navier_stokes(
    n_samples: int = 100,
    n_points: tuple[int, int] = (128, 128),
    *,
    viscosity: float = 1e-3,
    t_final: float = 1.0,
    dt: float = 0.02,
    store_every: float = 0.1,
    initial: str | ArrayLike = "grf",
    initial_scale: float = 1.0,
    forcing: str | ArrayLike | None = "paper",
    return_trajectories: bool = False,
    dtype: str = "float64",
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    device: str = "auto",
    verbose: int = 1,
    data_home: str | os.PathLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Generate initial and later vorticities of an incompressible flow on the unit torus.

    The equation is w_t + v.grad(w) = viscosity Laplace(w) + q with div(v) = 0 and w = curl(v), on [0, 1)² with periodic
    boundaries. The velocity is v = (psi_y, -psi_x) with -Laplace(psi) = w. With the defaults, the data are those of the
    paper's experiment, with different random numbers; swap the two arrays for the inverse problem.

    The solver is pseudo-spectral: Fourier modes of wavenumbers k_i below n_i / 3 interact, without aliasing (2/3 rule);
    higher ones, which are negligible in the initial fields, only decay. Time steps are those of ETDRK4, which treats
    the viscous term exactly.

    Parameters
    ----------
    n_samples : int, default=100
        Number of simulations.
    n_points : tuple of 2 ints, default=(128, 128)
        Number of grid points per axis, at least 4; the grid of an axis of n points is x_j = j / n.
    viscosity : float, default=1e-3
        Viscosity, positive.
    t_final : float, default=1.0
        Time of the last state, in seconds.
    dt : float, default=0.02
        Time step in seconds; must divide `t_final`, and `store_every` for trajectories.
    store_every : float, default=0.1
        Time between the states of a trajectory, in seconds; must divide `t_final`. It does not apply to pairs.
    initial : "grf" or array-like of shape (n_samples, \\*n_points), default="grf"
        Initial vorticity.

        - "grf": Gaussian random fields of mean zero with the covariance operator 7^1.5 (-Laplace + 49)^-2.5. For a
          given `random_state`, their Fourier coefficients are the same on all grids that resolve them.
        - an array: given fields, which determine `n_samples` and `n_points`. Their mean, which a vorticity of a
          periodic flow does not have, is constant in time and does not affect the flow.
    initial_scale : float, default=1.0
        Factor of the initial vorticity. With ``sqrt(2) * 7**0.75``, "grf" has the distribution of the widely used code
        of the Fourier neural operator (Li et al.), whose fields are larger by this factor than stated in their text.
    forcing : "paper", array-like of shape n_points, or None, default="paper"
        The term q, constant in time: 0.1 (sin(2 pi (x_1 + x_2)) + cos(2 pi (x_1 + x_2))), an array of values, or none.
    return_trajectories : bool, default=False
        Whether to return all states instead of the first and the last.
    dtype : {"float64", "float32"}, default="float64"
        Precision of the computation and of the data.
    random_state : int, RandomState instance or None, default=None
        Determines the initial fields. Pass an int for reproducible output.
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
    W_0 : ndarray of shape (n_samples, \\*n_points)
        Initial vorticities, in 1/s. With ``return_trajectories=True``, the times instead, an ndarray of shape
        (n_times,), in seconds.
    W_T : ndarray of shape (n_samples, \\*n_points)
        Vorticities at `t_final`. With ``return_trajectories=True``, those at all times, (n_samples, n_times,
        \\*n_points).

    Raises
    ------
    ValueError
        If a parameter is out of range, or the data do not fit into the memory or the disk of this machine.
    RuntimeError
        If a simulation becomes infinite or NaN.

    See Also
    --------
    make_gray_scott : Reaction and diffusion of two substances.

    Notes
    -----
    The error of the time steps, relative to the largest vorticity, is below 1e-10 with the defaults and below 1e-8 with
    ``initial_scale=sqrt(2) * 7**0.75``.

    References
    ----------
    Neural-HSS paper, Appendix F.7. Kassam and Trefethen, Fourth-order time-stepping for
    stiff PDEs, SIAM J. Sci. Comput. 26 (2005).

    Examples
    --------
    >>> from sklearn_hss.datasets import make_navier_stokes
    >>> W_0, W_T = make_navier_stokes(n_samples=3, n_points=(32, 32), random_state=0)
    >>> W_0.shape, W_T.shape
    ((3, 32, 32), (3, 32, 32))
    >>> times, W = make_navier_stokes(n_samples=3, n_points=(32, 32), return_trajectories=True, random_state=0)
    >>> len(times), W.shape
    (11, (3, 11, 32, 32))
    """
    request = Request("make_navier_stokes", n_samples, n_points, random_state, n_jobs, verbose, data_home)
    start: Any = initial
    if not isinstance(initial, str):
        start = check_fields(initial, "initial", ("n_samples", "n_1", "n_2"))
        request = request.given(len(start), list(start.shape[1:]))
    n_points = check_grid(request.n_points)
    request = replace(request, n_points=n_points)
    if return_trajectories:
        n_stored = count_steps("store_every", store_every, t_final, f"t_final={t_final:g}")
        stride = count_steps("dt", dt, store_every, f"store_every={store_every:g}")
        shapes: dict[str, tuple[int, ...]] = {"W": (n_stored + 1, *n_points)}
    else:
        n_stored, stride = 1, count_steps("dt", dt, t_final, f"t_final={t_final:g}")
        shapes = {"W_0": n_points, "W_T": n_points}
    in_time = {"t_final": t_final, "store_every": store_every} if return_trajectories else {}
    # The intermediate states of a time step require as much memory.
    n_bytes = request.check_size(shapes, dtype, working=n_stored + 6 * prod(n_points), **in_time)
    steps = stride * np.arange(n_stored + 1)
    q = _check_forcing(forcing, n_points)
    flow = Flow(viscosity, dt, steps, start, initial_scale, return_trajectories, q, dtype)
    request = replace(request, device=resolve_device(device))
    arrays = request.generate(partial(flow.plan, request, shapes), n_bytes, **vars(flow), device=request.device.type)
    return (np.linspace(0, t_final, n_stored + 1), *arrays) if return_trajectories else arrays


def _check_forcing(forcing, n_points):
    """Validate the forcing and return the values of q."""
    if forcing is None:
        return np.zeros(n_points)
    if not isinstance(forcing, str):
        return check_fields(forcing, "forcing", n_points)
    diagonal = 2 * np.pi * np.add.outer(*(np.arange(n) / n for n in n_points))
    return 0.1 * (np.sin(diagonal) + np.cos(diagonal))


@dataclass(frozen=True)
class Flow:
    """The recipe of the simulations of a request: parameters of `make_navier_stokes`, and `steps`."""

    viscosity: float
    dt: float
    steps: Sequence[int]  # numbers of the time steps after which a state is stored
    initial: Any
    initial_scale: float
    return_trajectories: bool
    forcing: np.ndarray
    dtype: str

    def plan(self, request, shapes):
        """How to generate the data."""
        import torch

        from ._etdrk4 import ETDRK4, trajectory

        n_points, n_samples = request.n_points, request.n_samples
        k_1, k_2 = wavenumbers(n_points, 1.0)
        symbol = -self.viscosity * (k_1**2 + k_2**2)
        stepper = ETDRK4(symbol, self.dt, getattr(torch, self.dtype), request.device)
        advection = _advection(n_points, self.forcing, stepper)
        if isinstance(self.initial, str):
            draw, field = torus_random_field(
                n_points, n_samples, lambda squares: 7**1.5 * (squares + 49) ** -2.5, request.rng()
            )
        else:
            draw, field = self.initial.__getitem__, np.asarray

        def solve(rows, drawn):
            states = trajectory(stepper, self.initial_scale * field(drawn), advection, self.steps, rows.start)
            return (np.stack(list(states), axis=1),) if self.return_trajectories else tuple(states)

        return Plan(n_samples, batch_size(n_points, request.device), shapes, draw, solve, self.dtype)


def _advection(n_points, q, stepper):
    """The nonlinear term -v.grad(w) + q on the coefficients of w.

    It is (d_1² - d_2²)(v_1 v_2) + d_1 d_2 (v_2² - v_1²), up to sign, which requires four transforms instead of the five
    of v.grad(w). The two are equal in the absence of aliasing.
    """
    import torch

    k_1, k_2 = wavenumbers(n_points, 1.0)
    alias_free = (3 * np.abs(k_1) < 2 * np.pi * n_points[0]) & (3 * np.abs(k_2) < 2 * np.pi * n_points[1])
    squares = k_1**2 + k_2**2
    inverse = np.where(alias_free & (squares > 0), 1 / np.where(squares > 0, squares, 1), 0)
    velocity = stepper.tensor(np.stack([1j * k_2 * inverse, -1j * k_1 * inverse]))
    stress = stepper.pairs(alias_free * np.stack([k_1**2 - k_2**2, k_1 * k_2]))
    source = torch.view_as_real(stepper.tensor(np.fft.rfft2(q)))

    def advection(w, out):
        v_1, v_2 = torch.fft.irfft2(w[:, None] * velocity, s=n_points).unbind(1)
        products = torch.stack([v_1 * v_2, v_2.square() - v_1.square()], dim=1)
        first, second = torch.view_as_real(torch.fft.rfft2(products)).unbind(1)
        out = torch.view_as_real(out)
        torch.addcmul(source, first, stress[0], out=out).addcmul_(second, stress[1])

    return advection
