"""Poisson's equation."""

from collections.abc import Callable
from numbers import Integral, Real
from os import PathLike

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_params

from .._parameters import Count
from ._elliptic import EllipticProblem, make_elliptic_data
from ._forcing import Fields
from ._generation import GENERATION_CONSTRAINTS, Request

ELLIPTIC_CONSTRAINTS = {
    **GENERATION_CONSTRAINTS,
    "n_samples": [Count(1)],
    "n_points": [Count(2), tuple, list],
    "forcing": [StrOptions({"sine", "gaussian", "grf"}), "array-like"],
    "modes": [tuple, list, None],
    "length_scale": [Interval(Real, 0, None, closed="neither")],
    "refinement": [Count(1), None],
    "device": [str],
}


@validate_params(
    {
        **ELLIPTIC_CONSTRAINTS,
        "domain": [StrOptions({"box", "l-shape", "perforated"}), "array-like"],
        "hole_radius": [Interval(Real, 0, 0.5, closed="neither")],
        "diffusivity": [callable, "array-like", None],
        "boundary": [StrOptions({"dirichlet", "neumann", "periodic"}), None],
        "order": [Options(Integral, {2, 4}), None],
        "return_mask": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_poisson(
    n_samples: int = 100,
    n_points: int | tuple[int, ...] = 256,
    *,
    domain: str | np.ndarray = "box",
    hole_radius: float = 0.2,
    diffusivity: ArrayLike | Callable | None = None,
    boundary: str | None = None,
    forcing: str | ArrayLike = "sine",
    modes: tuple[int, int] | None = None,
    length_scale: float = 0.1,
    order: int | None = None,
    refinement: int | None = None,
    return_mask: bool = False,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    device: str = "auto",
    verbose: int = 1,
    data_home: str | PathLike | None = None,
) -> tuple[np.ndarray, ...]:
    """Generate right-hand sides and solutions of Poisson's equation on an interval, a square or a cube, or part of it.

    The equation is -div(a grad u) = f with a = 1 unless a `diffusivity` is given. With the defaults, the data have the
    distributions of the paper's experiments:

    - Appendix F.2.1 in one dimension, F.2.2 with ``n_points=(64, 64)``, F.2.3 with ``n_points=(128, 128, 128)``;
    - the Neumann problem of its Table 1 with ``boundary="neumann"``;
    - the L-shape with ``n_points=(64, 64), domain="l-shape"``;
    - the mixed boundary conditions of its Table 2 with ``n_points=(64, 64), domain="perforated"``.

    Parameters
    ----------
    n_samples : int, default=100
        Number of pairs (f, u).
    n_points : int or tuple of ints, default=256
        Number of grid points that are returned, per axis; an int means one axis. The grid of an axis of n points is
        x_j = j / n, for Neumann conditions (j + 1/2) / n.
    domain : {"box", "l-shape", "perforated"} or array-like of bool and shape (\\*n_points), default="box"
        The unit box; in two dimensions also the square without its quarter x, y > 1/2, with u = 0 on the whole
        boundary; or the square without a disk around its centre, on which the normal derivative of u vanishes. Outside
        these domains, f and u are zero. An array, in any number of dimensions, is a mask: True at the points inside.
        At the points outside, u = 0; the boundary passes through those next to the domain. Where the mask reaches the
        boundary of the box, the condition is `boundary`.
    hole_radius : float, default=0.2
        Radius of the disk that is removed from the perforated domain, in units of the square's side.
    diffusivity : callable or array-like, default=None
        The positive function a(x), not available for the L-shape. A callable takes the coordinates, one array per axis
        that broadcast together, and returns a there. An array of shape (\\*n_points) contains a at the grid points, one
        of shape (n_samples, \\*n_points) a separate field for each sample; between the points, the harmonic mean is
        used, and the equation is solved on this grid.
    boundary : {"dirichlet", "neumann", "periodic"}, default=None
        Boundary condition on the box: u = 0, zero normal derivative, or periodic u. The default is "periodic" for the
        perforated domain, otherwise "dirichlet". Neumann and periodic problems are solvable for f of mean zero, and
        only up to a constant: f is projected accordingly, and u is the solution of mean zero, on the grid on which the
        equation is solved; for the perforated domain, means are over the area of the domain.
    forcing : {"sine", "gaussian", "grf"} or array-like of shape (n_samples, \\*n_points), default="sine"
        Distribution of f.

        - "sine": a sine series, see `modes`.
        - "gaussian": independent standard normal values, the setting of Theorem 2.3; zero on the boundary under
          Dirichlet conditions.
        - "grf": smooth Gaussian random fields with the given `length_scale`, in the eigenfunctions of -Laplace on the
          box.
        - an array: given right-hand sides, which determine `n_samples` and `n_points`. The equation is solved on the
          grid of the data: to test a model with such forcings, generate its training data with ``refinement=1``.
    modes : tuple (first, last), default=None
        Range of the modes in the "sine" series, both ends included.

        - In one and two dimensions, (1, 10) by default: the series sum_k c_k prod_i sin(2 k_i pi x_i) over all k in the
          range, c_k ~ U(0, 1), so that 2-D forcings span 100 dimensions (the text of F.2.2 can also be read as drawing
          the k of each sample). In 1-D, under Dirichlet conditions, f is set to zero at the two first and two last
          points of the fine grid, as in the paper.
        - In three dimensions, (3, 23) by default: each sample draws 20 k for every axis from the range, with
          replacement, and is the sum of c_k prod_i sin(k_i pi x_i) over their 8,000 triples, c_k ~ U(0, 1). Under
          Neumann and periodic conditions, the waves are sin(2 k_i pi x_i).
    length_scale : float, default=0.1
        Correlation length of the "grf" forcing, as a fraction of the box's side.
    order : {2, 4}, default=None
        Order of the finite-difference scheme: three points per axis, or the paper's five; in three dimensions, the
        fourth-order scheme is the compact one with 19 points. The default is 4, or 2 with a diffusivity, a hole or a
        mask, for which no other order is available. The solutions on an L-shape have a singularity at the corner, at
        which neither scheme attains its order, unless f is odd about the lines x = 1/2 and y = 1/2 as the "sine"
        forcing is. With an array `forcing`, the fourth order is attained if f vanishes on the boundary (Dirichlet) or
        has zero normal derivative there (Neumann).
    refinement : int, default=None
        The equation is solved on a grid this many times finer along every axis, of which every `refinement`-th point is
        returned. The default for "sine" and "grf" is 4 in one dimension (the paper's 1024 points for 256) and 2 in two
        (128 for 64), or 3 for Neumann conditions, where only odd factors nest the grids. It is 1 in three dimensions,
        for masks, and for "gaussian" and given forcings, where u = A⁻¹ f on the grid itself. On a finer grid, the
        domain of a mask includes the points between a point inside and its neighbours.
    return_mask : bool, default=False
        Whether to return the mask of the domain as well.
    random_state : int, RandomState instance or None, default=None
        Determines the random forcings. Pass an int for reproducible output.
    n_jobs : int, default=None
        Number of threads that solve batches of samples, -1 for all cores; None is 1 unless in a
        :func:`joblib.parallel_config` context. The data do not depend on it, bit for bit.
    device : str, default="auto"
        Torch device for the solution on three-dimensional boxes with a = 1: "auto" selects a GPU if there is one, "cpu"
        means SciPy's transforms. All other problems are solved by SciPy.
    verbose : int, default=1
        Whether to show a progress bar if the generation takes longer than two seconds.
    data_home : str or path, default=None
        Folder in which the data are stored. They are written as they are generated, one file per array, and returned as
        read-only memory maps; the same call later reads them again. A folder gets its final name when its data are
        complete, so incomplete data of a killed process are never used, and are deleted by the next call that generates
        them, or after a day if the process was on another machine. Requires an int as `random_state`.

    Returns
    -------
    F : ndarray of shape (n_samples, \\*n_points)
        Right-hand sides.
    U : ndarray of shape (n_samples, \\*n_points)
        Solutions.
    mask : ndarray of bool and shape (\\*n_points)
        True in the domain and on its boundary, or the given mask; only if `return_mask`. The metrics of
        :mod:`sklearn_hss.metrics` accept it.

    Raises
    ------
    ValueError
        If a parameter is out of range, the modes cannot be represented on the grid, or the data do not fit into the
        memory, or the free space of the disk, of this machine.
    RuntimeError
        If the iterative solver for a variable diffusivity or a mask in three dimensions does not converge; the message
        names the sample.

    See Also
    --------
    make_helmholtz : The equation with a zeroth-order term.
    make_elliptic : The equation with convection, reaction and anisotropy.

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
    >>> F, U, mask = make_poisson(10, (64, 64), domain="perforated", return_mask=True, random_state=0)
    >>> U[:, ~mask].any()
    np.False_

    A custom domain:

    >>> import numpy as np
    >>> x, y = np.mgrid[:48, :48] / 48
    >>> disk = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.2
    >>> F, U = make_poisson(10, (48, 48), domain=disk, forcing="grf", random_state=0)
    """
    F, U, mask = make_elliptic_data(
        Request("make_poisson", n_samples, n_points, random_state, n_jobs, verbose, data_home, refinement, device),
        Fields.checked("forcing", forcing, modes, length_scale),
        EllipticProblem(boundary, order, domain=domain, hole_radius=hole_radius, diffusivity=diffusivity),
    )
    return (F, U, mask) if return_mask else (F, U)
