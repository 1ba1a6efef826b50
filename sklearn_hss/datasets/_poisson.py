"""Poisson's equation."""

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_params

from ._box import make_box_data

BOX_CONSTRAINTS = {
    "n_samples": [Interval(Integral, 1, None, closed="left")],
    "n_points": [Interval(Integral, 2, None, closed="left"), tuple, list],
    "boundary": [StrOptions({"dirichlet", "neumann", "periodic"})],
    "forcing": [StrOptions({"sine", "gaussian", "grf"}), "array-like"],
    "modes": [tuple, list, None],
    "length_scale": [Interval(Real, 0, None, closed="neither")],
    "order": [Options(Integral, {2, 4})],
    "refinement": [Interval(Integral, 1, None, closed="left"), None],
    "random_state": ["random_state"],
}


@validate_params(BOX_CONSTRAINTS, prefer_skip_nested_validation=True)
def make_poisson(
    n_samples: int = 100,
    n_points: int | tuple[int, ...] = 256,
    *,
    boundary: str = "dirichlet",
    forcing: str | ArrayLike = "sine",
    modes: tuple[int, int] | None = None,
    length_scale: float = 0.1,
    order: int = 4,
    refinement: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Generate right-hand sides and solutions of Poisson's equation on an interval, a square or a cube.

    The equation is -Laplace(u) = f on the unit box, with u = 0 (Dirichlet) or zero normal derivative (Neumann) on its
    boundary, or with periodic u. With the defaults, the data are those of the paper's experiments, drawn by our own
    random numbers: Appendix F.2.1 in one dimension, F.2.2 with ``n_points=(64, 64)``, F.2.3 with
    ``n_points=(128, 128, 128)``.

    Parameters
    ----------
    n_samples : int, default=100
        Number of pairs (f, u).
    n_points : int or tuple of ints, default=256
        Number of grid points that are returned, one per axis; an int stands for one axis. The grid of an axis of n
        points is x_j = j / n, for Neumann conditions (j + 1/2) / n.
    boundary : {"dirichlet", "neumann", "periodic"}, default="dirichlet"
        Boundary condition. Neumann and periodic problems are solvable for f of mean zero, and only up to a constant: f
        is projected there, and u is the solution of mean zero.
    forcing : {"sine", "gaussian", "grf"} or array-like of shape (n_samples, \\*n_points), default="sine"
        Distribution of f.

        - "sine": a sine series, see `modes`.
        - "gaussian": independent standard normal values, the setting of Theorem 2.3; zero on the boundary under
          Dirichlet conditions.
        - "grf": smooth Gaussian random fields with the given `length_scale`, in the eigenfunctions of the problem.
        - an array: these right-hand sides; `n_samples` and `n_points` are then taken from it.
    modes : tuple (first, last), default=None
        Range of the modes in the "sine" series, both ends included.

        - In one and two dimensions, (1, 10) by default: the series sum_k c_k prod_i sin(2 k_i pi x_i) over all k in the
          range, c_k ~ U(0, 1), so that 2-D forcings span 100 dimensions (the text of F.2.2 can also be read as drawing
          the k of each sample). In 1-D, under Dirichlet conditions, f is set to zero at the two first and two last
          points of the fine grid, as in the paper.
        - In three, (3, 23) by default: each sample draws 20 k for every axis from the range, with replacement, and sums
          c_k prod_i sin(k_i pi x_i) over their 8,000 triples, c_k ~ U(0, 1). Under Neumann and periodic conditions the
          waves are sin(2 k_i pi x_i).
    length_scale : float, default=0.1
        Correlation length of the "grf" forcing, as a fraction of the box's side.
    order : {2, 4}, default=4
        Order of the finite-difference scheme: three points per axis, or the paper's five; in three dimensions, the
        fourth order is that of the compact scheme of 19 points. An array `forcing` reaches the fourth order if it
        vanishes on the boundary (Dirichlet) or has zero normal derivative there (Neumann).
    refinement : int, default=None
        The equation is solved on a grid this many times finer along every axis, of which every `refinement`-th point is
        kept. By default, for "sine" and "grf", 4 in one dimension (the paper's 1024 points for 256), 2 in two (128 for
        64), or 3 for Neumann conditions, where only odd factors nest the grids; 1 in three, and for "gaussian" and
        given forcings, where u = A⁻¹ f on the grid itself.
    random_state : int, RandomState instance or None, default=None
        Determines the random forcings. Pass an int for reproducible output.

    Returns
    -------
    F : ndarray of shape (n_samples, \\*n_points)
        Right-hand sides.
    U : ndarray of shape (n_samples, \\*n_points)
        Solutions.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or the modes cannot be represented on the grid.

    See Also
    --------
    make_helmholtz : The same with a zeroth-order term.

    References
    ----------
    Neural-HSS paper, Appendix F.2 and Theorem 2.3.

    Examples
    --------
    >>> from sklearn_hss.datasets import make_poisson
    >>> F, U = make_poisson(n_samples=10, random_state=0)
    >>> F.shape, U.shape
    ((10, 256), (10, 256))
    >>> F, U = make_poisson(n_samples=10, n_points=(64, 64), random_state=0)
    >>> U.shape
    (10, 64, 64)
    """
    return make_box_data(n_samples, n_points, boundary, forcing, modes, length_scale, order, refinement, random_state)
