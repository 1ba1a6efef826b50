"""Linear elliptic equations with convection, reaction and anisotropy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, combinations
from math import prod
from numbers import Real
from os import PathLike
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.sparse.linalg import spsolve
from sklearn.utils._param_validation import StrOptions, validate_params

from .._parameters import Count
from ._checks import coefficient_array
from ._elliptic import EllipticProblem, make_elliptic_data
from ._forcing import Fields
from ._generation import Request
from ._poisson import ELLIPTIC_CONSTRAINTS
from ._sparse import (
    NotConverged,
    along,
    check_positive,
    differences,
    diffusion_matrix,
    evaluated,
    face_diffusivity,
    factorised_solver,
    positions,
    unknown_points,
    with_neighbour,
)


@validate_params(
    {
        **{name: constraint for name, constraint in ELLIPTIC_CONSTRAINTS.items() if name != "device"},
        "domain": [StrOptions({"box"}), "array-like"],
        "diffusivity": [Real, callable, "array-like"],
        "velocity": ["array-like", None],
        "reaction": [Real, callable, "array-like"],
        "boundary": [StrOptions({"dirichlet", "neumann", "periodic"})],
        "refinement": [Count(1)],
        "return_mask": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_elliptic(
    n_samples: int = 100,
    n_points: int | tuple[int, ...] = (64, 64),
    *,
    diffusivity: float | Callable | ArrayLike = 1.0,
    velocity: Sequence[float | Callable | np.ndarray] | ArrayLike | None = None,
    reaction: float | Callable | ArrayLike = 0.0,
    domain: str | np.ndarray = "box",
    boundary: str = "dirichlet",
    forcing: str | ArrayLike = "grf",
    modes: tuple[int, int] | None = None,
    length_scale: float = 0.1,
    refinement: int = 1,
    return_mask: bool = False,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    verbose: int = 1,
    data_home: str | PathLike | None = None,
) -> tuple[np.ndarray, ...]:
    """Generate right-hand sides and solutions of a linear elliptic equation of second order.

    The equation is -div(a grad u) + b . grad u + c u = f on the unit box, or a part of it, with diffusion, which may be
    anisotropic, convection, and reaction; a negative reaction gives the Helmholtz equation.

    The scheme is of second order. Fluxes a du/dx are central differences at the faces of the cells around the grid
    points; those of mixed derivatives are evaluated at the corners of these cells, which gives nine-point stencils in
    two dimensions. grad u is the central difference of two neighbours; where abs(b) > 2 a / h, solutions that the grid
    does not resolve oscillate.

    Parameters
    ----------
    n_samples : int, default=100
        Number of pairs (f, u).
    n_points : int or tuple of ints, default=(64, 64)
        Number of grid points that are returned, per axis; an int means one axis. The grid of an axis of n points is
        x_j = j / n, for Neumann conditions (j + 1/2) / n.
    diffusivity : float, callable or array-like, default=1.0
        The function a(x), positive: a number, a callable, or an array of shape (\\*n_points) with the values at the
        grid points. A callable takes the coordinates, one array per axis that broadcast together, and returns a there.
        Between the points of an array, the harmonic mean is used. In m > 1 dimensions, a nested list of m times m such
        coefficients represents a symmetric positive definite tensor, and so does an array of shape (m, m) or
        (m, m, \\*n_points). Neumann conditions support diagonal tensors only.
    velocity : sequence, default=None
        The function b(x): a number, callable or array for each axis. None means zero.
    reaction : float, callable or array-like, default=0.0
        The function c(x), which may be negative.
    domain : "box" or array-like of bool and shape (\\*n_points), default="box"
        The unit box, or a mask: True at the points inside. At the points outside, u = 0; the boundary passes through
        those next to the domain. Where the mask reaches the boundary of the box, the condition is `boundary`.
    boundary : {"dirichlet", "neumann", "periodic"}, default="dirichlet"
        Boundary condition on the box: u = 0, zero normal derivative, or periodic u. Neumann and periodic problems
        without reaction are solvable only for some f (without convection, those of mean zero), and up to a constant: a
        constant is subtracted from f such that the problem is solvable, and u is the solution of mean zero, on the grid
        on which the equation is solved.
    forcing : {"grf", "gaussian", "sine"} or array-like of shape (n_samples, \\*n_points), default="grf"
        Distribution of f, as in :func:`make_poisson`. All are zero outside a mask.
    modes : tuple (first, last), default=None
        Range of the modes in the "sine" series, as in :func:`make_poisson`.
    length_scale : float, default=0.1
        Correlation length of the "grf" forcing, as a fraction of the box's side.
    refinement : int, default=1
        The equation is solved on a grid this many times finer along every axis, of which every `refinement`-th point is
        returned; 1 gives u = A⁻¹ f on the grid itself. Neumann conditions require an odd number. Not available for
        "gaussian" or given forcings, or coefficients that are arrays. On a finer grid, the domain of a mask includes
        the points between a point inside and its neighbours.
    return_mask : bool, default=False
        Whether to return the mask of the domain as well.
    random_state : int, RandomState instance or None, default=None
        Determines the random forcings. Pass an int for reproducible output.
    n_jobs : int, default=None
        Number of threads that solve batches of samples, -1 for all cores; None is 1 unless in a
        :func:`joblib.parallel_config` context. The data do not depend on it, bit for bit.
    verbose : int, default=1
        Whether to show a progress bar if the generation takes longer than two seconds.
    data_home : str or path, default=None
        Folder in which the data are stored, as in :func:`make_poisson`. Requires an int as `random_state`, and
        coefficients that are not callables.

    Returns
    -------
    F : ndarray of shape (n_samples, \\*n_points)
        Right-hand sides.
    U : ndarray of shape (n_samples, \\*n_points)
        Solutions.
    mask : ndarray of bool and shape (\\*n_points)
        The given mask, or True everywhere; only if `return_mask`.

    Raises
    ------
    ValueError
        If a parameter is out of range, the modes cannot be represented on the grid, f does not determine u because
        minus the reaction is an eigenvalue, or the data do not fit into the memory, or the free space of the disk, of
        this machine. In three dimensions, the factors of the matrix require far more memory than the data.

    See Also
    --------
    make_poisson : Fast solvers of higher order, and other domains, for diffusion only.
    make_helmholtz : The equation with a constant negative reaction.
    make_elliptic_mesh : The equation by finite elements on triangles.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_hss.datasets import make_elliptic
    >>> F, U = make_elliptic(
    ...     10,
    ...     (48, 48),
    ...     diffusivity=lambda x, y: 1 + x * y,
    ...     velocity=(20.0, lambda x, y: 10 * np.sin(np.pi * x)),
    ...     reaction=-50.0,
    ...     random_state=0,
    ... )
    >>> F.shape, U.shape
    ((10, 48, 48), (10, 48, 48))

    An anisotropic equation on a part of the square:

    >>> mask = np.ones((48, 48), bool)
    >>> mask[24:, 24:] = False
    >>> F, U = make_elliptic(10, (48, 48), diffusivity=[[1, 0.5], [0.5, 2]], domain=mask, random_state=0)
    """
    F, U, mask = make_elliptic_data(
        Request("make_elliptic", n_samples, n_points, random_state, n_jobs, verbose, data_home, refinement, "cpu"),
        Fields.checked("forcing", forcing, modes, length_scale),
        GeneralProblem(boundary, 2, domain=domain, diffusivity=diffusivity, velocity=velocity, reaction=reaction),
    )
    return (F, U, mask) if return_mask else (F, U)


@dataclass(frozen=True)
class GeneralProblem(EllipticProblem):
    """The equation of `make_elliptic`, whose parameters are the attributes, and the grid of the solver, `fine`.

    Coefficients are floats, callables and arrays; `on_points` converts the diffusivity to nested lists, in which None
    means zero.
    """

    velocity: Any = None
    reaction: Any = 0.0
    fine: tuple[int, ...] = ()

    @property
    def recipe(self):
        """Parameters that determine the equation and its scheme."""
        names = ("boundary", "domain", "diffusivity", "velocity", "reaction")
        return {name: getattr(self, name) for name in names}

    @property
    def on_grid(self):
        """Whether a coefficient is given on the grid itself."""
        coefficients = [self.reaction, *(self.velocity or []), *chain(*self.diffusivity)]
        return any(isinstance(coefficient, np.ndarray) for coefficient in coefficients)

    def on_points(self, n_samples, shape):
        """The problem with validated domain and coefficients; ValueError if they do not fit the points."""
        return replace(
            self.bounded(shape),
            diffusivity=_check_tensor(self.diffusivity, shape, self.boundary),
            velocity=None if self.velocity is None else _check_vector(self.velocity, shape),
            reaction=_check_coefficient(self.reaction, "reaction", shape),
        )

    def solved_on(self, fine):
        """The problem with the grid of the solver."""
        return replace(self, fine=fine)

    def torch_device(self, device, n_axes):
        """None, since SciPy solves all problems."""

    def factor_size(self, fine):
        """Count of numbers in the factors of the matrix, as measured on squares and cubes up to 256² and 32³."""
        return int({1: 10, 2: 80}.get(len(fine), 24 * prod(fine) ** (1 / 3)) * prod(fine))

    @cached_property
    def singular(self):
        """Whether the equation determines u up to a constant only, and is solvable only for some f."""
        return super().singular and not self._values(self.reaction, "reaction").any()

    @cached_property
    def matrix(self):
        """The scheme at all points of the grid, as a sparse array."""
        shape, boundary = self.fine, self.boundary
        A = self._diffusion() + sp.diags_array(self._values(self.reaction, "reaction").ravel())
        for axis, b in enumerate(self.velocity or []):
            D = differences(shape[axis], boundary) * float(shape[axis])
            slope = abs(differences(shape[axis], boundary)).T / 2 @ D  # the mean of those on both sides
            A = A + sp.diags_array(self._values(b, f"velocity[{axis}]").ravel()) @ along({axis: slope}, shape)
        return A.tocsr()

    def _diffusion(self):
        shape, boundary, tensor = self.fine, self.boundary, self.diffusivity
        diagonal = [np.full(shape, row[i]) if isinstance(row[i], float) else row[i] for i, row in enumerate(tensor)]
        A = diffusion_matrix(shape, boundary, [face_diffusivity(a, shape, boundary)[i] for i, a in enumerate(diagonal)])
        mixed = [(i, j) for i, j in combinations(range(len(shape)), 2) if tensor[i][j] is not None]
        if mixed or any(tensor[j][i] is not None for i, j in combinations(range(len(shape)), 2)):
            self._check_definite()
        for i, j in mixed:
            D = [differences(shape[axis], boundary) for axis in (i, j)]
            first = along({i: D[0] * float(shape[i]), j: abs(D[1]) / 2}, shape)
            second = along({i: abs(D[0]) / 2, j: D[1] * float(shape[j])}, shape)
            fluxes = first.T @ sp.diags_array(self._values(tensor[i][j], "diffusivity", (i, j)).ravel()) @ second
            A = A + fluxes + fluxes.T
        return A

    def _check_definite(self):
        values = np.stack(
            [
                np.stack([self._values(0.0 if a is None else a, "diffusivity") for a in row], axis=-1)
                for row in self.diffusivity
            ],
            axis=-2,
        )
        if not np.allclose(values, values.swapaxes(-1, -2), rtol=1e-10, atol=0):
            raise ValueError("diffusivity is not a symmetric tensor everywhere.")
        smallest = np.linalg.eigvalsh(values).min()
        if not smallest > 0:
            raise ValueError(
                f"diffusivity must be a positive definite tensor everywhere; its smallest eigenvalue is {smallest:.4g}."
            )

    @cached_property
    def left(self):
        """For a singular problem, the vector to which f must be orthogonal for a solution to exist."""
        if self.velocity is None:
            return np.ones(prod(self.fine))
        return np.append(1.0, -spsolve(self.matrix[1:, 1:].T.tocsc(), self.matrix[[0], 1:].toarray()[0]))

    def admissible(self, fine, kind):
        """Function that makes right-hand sides of a kind admissible, in place."""
        fit = super().admissible(fine, kind)

        def fit_range(f):
            fit(f)
            if self.singular and self.velocity is not None:
                f -= (f.reshape(len(f), -1) @ self.left / self.left.sum()).reshape(-1, *[1] * len(fine))

        return fit_range

    def solver(self, fine, device):
        """Solver ``solve(rows, f, slopes)`` of the samples of a slice."""
        mask = None if self.domain_name == "box" else self.mask(fine)
        unknown = unknown_points(fine, self.boundary, mask).ravel()
        weights, left = (np.ones(len(unknown)), self.left) if self.singular else (None, None)
        definite = self.velocity is None and bool((self._values(self.reaction, "reaction") >= 0).all())
        try:
            solve = factorised_solver(self.matrix, unknown, weights, left, definite)
        except NotConverged as error:
            raise ValueError(
                f"f does not determine u: {error}; take another reaction, farther from minus an eigenvalue."
            ) from None
        return lambda rows, f, slopes: solve(f)

    def _values(self, coefficient, name, between=()):
        """Values at the grid points, or in the middles between neighbours along some axes."""
        grid = positions(self.fine, self.boundary, between)
        if callable(coefficient):
            values = evaluated(coefficient, grid, name)
            if not np.isfinite(values).all():
                raise ValueError(f"{name} returned values that are not finite.")
            return values
        if isinstance(coefficient, float):
            return np.full(np.broadcast_shapes(*(x.shape for x in grid)), coefficient)
        for axis in between:
            points = with_neighbour(np.moveaxis(coefficient, axis, 0), self.boundary)
            coefficient = np.moveaxis((points[1:] + points[:-1]) / 2, 0, axis)
        return coefficient


def _check_coefficient(value, name, shape):
    """A coefficient as a float, a callable or an array (*shape) of floats."""
    if callable(value):
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        if not np.isfinite(float(value)):
            raise ValueError(f"{name}={value!r} must be finite.")
        return float(value)
    if not isinstance(value, list | tuple) and np.ndim(value) == 0:
        raise ValueError(f"{name}={value!r} must be a number, a callable, or an array of shape {shape}.")
    value = coefficient_array(value, name)
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}; it must be {shape}, one value per grid point.")
    return value


def _check_vector(velocity, shape):
    """A coefficient for each axis."""
    m = len(shape)
    if not isinstance(velocity, list | tuple) or len(velocity) != m:
        velocity = coefficient_array(velocity, "velocity")
        if velocity.shape not in ((m,), (m, *shape)):
            raise ValueError(
                f"velocity has shape {velocity.shape}; it must hold one number, callable or array of shape {shape} for "
                f"each of {m} axes."
            )
    return [_check_coefficient(b, f"velocity[{axis}]", shape) for axis, b in enumerate(velocity)]


def _check_tensor(diffusivity, shape, boundary):
    """Nested list of coefficients, None for zero."""
    m = len(shape)
    if not callable(diffusivity) and not isinstance(diffusivity, Real | list | tuple):
        diffusivity = coefficient_array(diffusivity, "diffusivity")
    if isinstance(diffusivity, np.ndarray):
        nested = m > 1 and diffusivity.shape in ((m, m), (m, m, *shape))
    else:
        rows = diffusivity if isinstance(diffusivity, list | tuple) else []
        nested = m > 1 and [len(row) for row in rows if isinstance(row, list | tuple)] == [m] * m == [m] * len(rows)
    if nested:
        names = [[f"diffusivity[{i}][{j}]" for j in range(m)] for i in range(m)]
        tensor = [
            [_check_coefficient(a, name, shape) for a, name in zip(row, row_names, strict=True)]
            for row, row_names in zip(diffusivity, names, strict=True)
        ]
        tensor = [[None if i != j and np.all(a == 0) else a for j, a in enumerate(row)] for i, row in enumerate(tensor)]
    else:
        a = _check_coefficient(diffusivity, "diffusivity", shape)
        tensor = [[a if i == j else None for j in range(m)] for i in range(m)]
    for i, row in enumerate(tensor):
        if not callable(row[i]):
            check_positive(np.asarray(row[i]))
        if boundary == "neumann" and any(a is not None for j, a in enumerate(row) if j != i):
            raise ValueError(
                "boundary='neumann' is not available for a diffusivity with mixed derivatives; 'dirichlet' and "
                "'periodic' are."
            )
    return tensor
