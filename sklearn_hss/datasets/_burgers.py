"""Burgers' equation."""

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
        "viscosity": [Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, None, None, closed="neither")],
        "solver": [StrOptions({"bdf"})],
    },
    prefer_skip_nested_validation=True,
)
def make_burgers(
    n_samples: int = 100,
    n_points: int = 256,
    *,
    viscosity: float = 1e-3,
    beta: float = 1.0,
    boundary: str = "dirichlet",
    t_final: float = 15.0,
    store_every: float = 0.2,
    step: float = 0.2,
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
    """Generate pairs of consecutive states of Burgers' equation.

    The equation is u_t + beta u u_x = viscosity u_xx on [0, 1], with u = 0 at both ends, or periodic u; second-order
    finite differences in space. The convection is that of the flux beta (a² + a b + b²) / 6 between two points with the
    values a and b, the central difference of beta u² / 2 that conserves the integrals of u and of u². With the defaults
    and 2,000 trajectories, the data have the distribution of the paper's experiment.

    Parameters
    ----------
    n_samples : int, default=100
        Number of trajectories.
    n_points : int, default=256
        Number of grid points that are returned: x_j = j / n_points, without x = 1.
    viscosity : float, default=1e-3
        Positive viscosity, for lengths in units of the interval.
    beta : float, default=1.0
        Strength of the convection, the only nonlinear term; the paper's Appendix J also uses 1e-2 and 1e-4.
    boundary : {"dirichlet", "periodic"}, default="dirichlet"
        Boundary condition. The "sine" states are odd about both ends and remain so: their solutions satisfy both.
    t_final : float, default=15.0
        Length of a trajectory, a multiple of `store_every`.
    store_every : float, default=0.2
        Time between stored states.
    step : float, default=0.2
        Time between the two states of a pair, a multiple of `store_every`.
    initial : {"sine", "gaussian", "grf"} or array-like of shape (n_samples, n_points), default="sine"
        Distribution of the initial states u(0). The random ones are divided by their maximum absolute value.

        - "sine": a sine series, see `modes`.
        - "gaussian": independent standard normal values.
        - "grf": smooth Gaussian random fields with the given `length_scale`.
        - an array: given states, without scaling, which determine `n_samples` and `n_points`. Under Dirichlet
          conditions, they must be zero at their first point, x = 0.
    modes : tuple (first, last), default=(1, 10)
        Range of k in the "sine" series sum_k c_k sin(2 pi (k + 1) x), both ends included, with c_k ~ U(-1, 1).
    length_scale : float, default=0.1
        Correlation length of the "grf" states, as a fraction of the interval.
    refinement : int, default=None
        The equation is solved on a grid this many times finer, of which every `refinement`-th point is returned. The
        default is 4 for "sine" and "grf" (the paper's 1024 points for 256), and 1 for "gaussian" and given states.
    solver : {"bdf"}, default="bdf"
        Method of time integration: SciPy's BDF, as in the paper.
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
        All stored states that have a successor, trajectory by trajectory; 75 per trajectory with the defaults. With
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

    Warns
    -----
    sklearn_hss.exceptions.DataWarning
        If the grid is too coarse for the viscosity, so that central differences oscillate at fronts.

    See Also
    --------
    make_heat : The equation without convection.

    Notes
    -----
    Pairs of one trajectory resemble each other. To avoid trajectories on both sides of a split, pass ``groups =
    np.repeat(np.arange(n_samples), len(U_t) // n_samples)`` to :class:`~sklearn.model_selection.GroupKFold` or
    :class:`~sklearn.model_selection.GroupShuffleSplit`.

    References
    ----------
    Neural-HSS paper, Appendices F.5 and J.

    Examples
    --------
    >>> from sklearn_hss.datasets import make_burgers
    >>> U_t, U_next = make_burgers(n_samples=5, random_state=0)
    >>> U_t.shape, U_next.shape
    ((375, 256), (375, 256))
    >>> times, U = make_burgers(n_samples=5, t_final=1, return_trajectories=True, random_state=0)
    >>> times.shape, U.shape
    ((6,), (5, 6, 256))
    """
    return make_evolution(
        Request("make_burgers", n_samples, n_points, random_state, n_jobs, verbose, data_home, refinement),
        Fields.checked("initial", initial, modes, length_scale, Series(shift=1, lowest=-1.0), n_axes=1),
        Equation(None, boundary == "periodic", float(viscosity), float(beta)),
        Schedule(t_final, store_every, step, return_trajectories),
        Integrator(solver, rtol, atol),
    )
