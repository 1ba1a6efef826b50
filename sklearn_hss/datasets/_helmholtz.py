"""The Helmholtz equation."""

from numbers import Integral, Real
from os import PathLike

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_params

from ._elliptic import EllipticProblem, make_elliptic_data
from ._forcing import Fields
from ._generation import Request
from ._poisson import ELLIPTIC_CONSTRAINTS


@validate_params(
    {
        **ELLIPTIC_CONSTRAINTS,
        "boundary": [StrOptions({"dirichlet", "neumann", "periodic"})],
        "order": [Options(Integral, {2, 4})],
        "wavenumber": [Interval(Real, 0, 1e9, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def make_helmholtz(
    n_samples: int = 100,
    n_points: int | tuple[int, ...] = (64, 64),
    *,
    wavenumber: float = 70.0,
    boundary: str = "periodic",
    forcing: str | ArrayLike = "sine",
    modes: tuple[int, int] | None = None,
    length_scale: float = 0.1,
    order: int = 4,
    refinement: int | None = None,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    device: str = "auto",
    verbose: int = 1,
    data_home: str | PathLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Generate right-hand sides and solutions of the Helmholtz equation on an interval, a square or a cube.

    The equation is -Laplace(u) - wavenumber² u = f on the unit box: an indefinite operator with oscillating solutions.
    With the defaults, the data have the distribution of the paper's experiment (Appendix F.4).

    Parameters
    ----------
    n_samples : int, default=100
        Number of pairs (f, u).
    n_points : int or tuple of ints, default=(64, 64)
        Number of grid points that are returned, per axis; an int means one axis.
    wavenumber : float, default=70.0
        Wavenumber. Near the square root of an eigenvalue of -Laplace, one mode dominates all solutions.
    boundary : {"dirichlet", "neumann", "periodic"}, default="periodic"
        Boundary condition: u = 0, zero normal derivative, or periodic u.
    forcing : {"sine", "gaussian", "grf"} or array-like of shape (n_samples, \\*n_points), default="sine"
        Distribution of f, as in :func:`make_poisson`.
    modes : tuple (first, last), default=None
        Range of the modes in the "sine" series, as in :func:`make_poisson`.
    length_scale : float, default=0.1
        Correlation length of the "grf" forcing, as a fraction of the box's side.
    order : {2, 4}, default=4
        Order of the finite-difference scheme, as in :func:`make_poisson`.
    refinement : int, default=None
        The equation is solved on a grid this many times finer along every axis, as in :func:`make_poisson`.
    random_state : int, RandomState instance or None, default=None
        Determines the random forcings. Pass an int for reproducible output.
    n_jobs : int, default=None
        Number of threads that solve batches of samples, -1 for all cores; None is 1 unless in a
        :func:`joblib.parallel_config` context. The data do not depend on it, bit for bit.
    device : str, default="auto"
        Torch device to solve on, in three dimensions, as in :func:`make_poisson`.
    verbose : int, default=1
        Whether to show a progress bar if the generation takes longer than two seconds.
    data_home : str or path, default=None
        Folder in which the data are stored, as in :func:`make_poisson`. Requires an int as `random_state`.

    Returns
    -------
    F : ndarray of shape (n_samples, \\*n_points)
        Right-hand sides.
    U : ndarray of shape (n_samples, \\*n_points)
        Solutions.

    Raises
    ------
    ValueError
        If a parameter is out of range, the modes cannot be represented on the grid, the data do not fit into the memory
        or the disk of this machine, or the wavenumber is resonant, so that f does not determine u.

    See Also
    --------
    make_poisson : The equation without the zeroth-order term.

    References
    ----------
    Neural-HSS paper, Appendix F.4.

    Examples
    --------
    >>> from sklearn_hss.datasets import make_helmholtz
    >>> F, U = make_helmholtz(n_samples=10, random_state=0)
    >>> F.shape, U.shape
    ((10, 64, 64), (10, 64, 64))
    """
    F, U, _ = make_elliptic_data(
        Request("make_helmholtz", n_samples, n_points, random_state, n_jobs, verbose, data_home, refinement, device),
        Fields.checked("forcing", forcing, modes, length_scale),
        EllipticProblem(boundary, order, wavenumber),
    )
    return F, U
