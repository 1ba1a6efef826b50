"""The heat equation."""

from numbers import Real
from os import PathLike

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ._evolution import EVOLUTION_CONSTRAINTS, Equation, Integrator, Schedule, make_evolution
from ._forcing import Fields, Series
from ._generation import Request


@validate_params(
    {
        **EVOLUTION_CONSTRAINTS,
        "diffusivity": [Interval(Real, 0, None, closed="neither")],
        "solver": [StrOptions({"bdf", "exact"})],
    },
    prefer_skip_nested_validation=True,
)
def make_heat(
    n_samples: int = 100,
    n_points: int = 256,
    *,
    diffusivity: float = 2e-4,
    boundary: str = "dirichlet",
    t_final: float = 8.0,
    store_every: float = 0.2,
    step: float = 0.8,
    initial: str | ArrayLike = "sine",
    modes: tuple[int, int] = (1, 10),
    length_scale: float = 0.1,
    refinement: int | None = None,
    solver: str = "bdf",
    rtol: float = 1e-4,
    atol: float = 1e-6,
    return_trajectories: bool = False,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    verbose: int = 1,
    data_home: str | PathLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Generate pairs of consecutive states of the heat equation.

    The equation is u_t = diffusivity u_xx on [0, 1], with u = 0 at both ends, or periodic u; second-order finite
    differences in space. With the defaults and 2,000 trajectories, the data have the distribution of the paper's
    experiment.

    Parameters
    ----------
    n_samples : int, default=100
        Number of trajectories.
    n_points : int, default=256
        Number of grid points that are returned: ``x_j = refinement * j / (refinement * n_points - 1)``, since the grid
        of the solver includes both ends; under periodic conditions x_j = j / n_points.
    diffusivity : float, default=2e-4
        Positive diffusivity, for lengths in units of the interval.
    boundary : {"dirichlet", "periodic"}, default="dirichlet"
        Boundary condition.
    t_final : float, default=8.0
        Length of a trajectory, a multiple of `store_every`.
    store_every : float, default=0.2
        Time between stored states.
    step : float, default=0.8
        Time between the two states of a pair, a multiple of `store_every`.
    initial : {"sine", "gaussian", "grf"} or array-like of shape (n_samples, n_points), default="sine"
        Distribution of the initial states u(0). The random ones are divided by their maximum absolute value.

        - "sine": a sine series, see `modes`.
        - "gaussian": independent standard normal values.
        - "grf": smooth Gaussian random fields with the given `length_scale`.
        - an array: given states, without scaling, which determine `n_samples` and `n_points`. Under Dirichlet
          conditions, they must be zero at their first and last points.
    modes : tuple (first, last), default=(1, 10)
        Range of k in the "sine" series sum_k c_k sin(k pi x), or c_k sin(2 k pi x) if u is periodic, both ends
        included, with c_k ~ U(0, 1).
    length_scale : float, default=0.1
        Correlation length of the "grf" states, as a fraction of the interval.
    refinement : int, default=None
        The equation is solved on a grid this many times finer, of which every `refinement`-th point is returned. The
        default is 4 for "sine" and "grf" (the paper's 1024 points for 256), and 1 for "gaussian" and given states.
    solver : {"bdf", "exact"}, default="bdf"
        Method of time integration: SciPy's BDF, as in the paper, or the exact solution of the semi-discrete equation by
        sine or Fourier transforms, which is faster, and linear in the initial state up to rounding.
    rtol, atol : float, default=1e-4 and 1e-6
        Relative and absolute tolerance of BDF.
    return_trajectories : bool, default=False
        Whether to return trajectories instead of pairs.
    random_state : int, RandomState instance or None, default=None
        Determines the random initial states. Pass an int for reproducible output.
    n_jobs : int, default=None
        Number of processes that solve batches of trajectories, -1 for all cores; None is 1 unless in a
        :func:`joblib.parallel_config` context. The data do not depend on it, bit for bit.
    verbose : int, default=1
        Whether to show a progress bar if the generation takes longer than two seconds.
    data_home : str or path, default=None
        Folder in which the trajectories are stored, as in :func:`make_poisson`; pairs with any `step` are extracted
        from them. Requires an int as `random_state`.

    Returns
    -------
    U_t : ndarray of shape (n_samples * n_pairs, n_points)
        All stored states that have a successor, trajectory by trajectory; 37 per trajectory with the defaults. With
        ``return_trajectories=True``, the array of times, of shape (n_times,).
    U_next : ndarray of shape (n_samples * n_pairs, n_points)
        The states `step` later. With ``return_trajectories=True``, the trajectories, of shape (n_samples, n_times,
        n_points); a read-only memory map if `data_home` is given.

    Raises
    ------
    ValueError
        If a parameter is out of range, the modes cannot be represented on the grid, or the data do not fit into the
        memory or the disk of this machine.
    RuntimeError
        If the time integration fails; the message names the trajectory.

    See Also
    --------
    make_burgers : The equation with convection.

    Notes
    -----
    Pairs of one trajectory resemble each other. To avoid trajectories on both sides of a split, pass ``groups =
    np.repeat(np.arange(n_samples), len(U_t) // n_samples)`` to :class:`~sklearn.model_selection.GroupKFold` or
    :class:`~sklearn.model_selection.GroupShuffleSplit`.

    References
    ----------
    Neural-HSS paper, Appendix F.3.

    Examples
    --------
    >>> from sklearn_hss.datasets import make_heat
    >>> U_t, U_next = make_heat(n_samples=5, random_state=0)
    >>> U_t.shape, U_next.shape
    ((185, 256), (185, 256))
    >>> times, U = make_heat(n_samples=5, solver="exact", return_trajectories=True, random_state=0)
    >>> times.shape, U.shape
    ((41,), (5, 41, 256))
    """
    periodic = boundary == "periodic"
    return make_evolution(
        Request("make_heat", n_samples, n_points, random_state, n_jobs, verbose, data_home, refinement),
        # The paper's factor of 2 before the series cancels in the normalisation.
        Fields.checked("initial", initial, modes, length_scale, Series(2 if periodic else 1), n_axes=1),
        Equation(None, periodic, float(diffusivity), both_ends=not periodic),
        Schedule(t_final, store_every, step, return_trajectories),
        Integrator(solver, rtol, atol),
    )
