"""Linear elliptic equations on triangles, by finite elements."""

from collections.abc import Callable, Sequence
from numbers import Real
from os import PathLike
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import reverse_cuthill_mckee
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions, validate_params

from .._memory import check_memory
from .._parameters import Count
from ._checks import check_fields
from ._generation import GENERATION_CONSTRAINTS, Plan, Request
from ._sparse import NotConverged, check_positive, evaluated, factorised_solver

# Number of waves in a smooth random field.
_WAVES = 200

# Count of values in a batch, and of numbers in memory per triangle, as measured (quadrature, matrices and factors).
_BATCH = 2**20
_PER_TRIANGLE = 500


@validate_params(
    {
        **GENERATION_CONSTRAINTS,
        "n_samples": [Count(1)],
        "mesh": [HasMethods(["refined", "boundary_nodes"]), None],
        "diffusivity": [Real, callable],
        "velocity": [tuple, list, None],
        "reaction": [Real, callable],
        "mass": [StrOptions({"consistent", "lumped"})],
        "forcing": [StrOptions({"grf", "gaussian"}), "array-like"],
        "length_scale": [Interval(Real, 0, None, closed="neither")],
        "refinement": [Count(0), None],
        "return_mesh": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_elliptic_mesh(
    n_samples: int = 100,
    mesh: Any = None,
    *,
    diffusivity: float | Callable = 1.0,
    velocity: Sequence[float | Callable] | None = None,
    reaction: float | Callable = 0.0,
    mass: str = "consistent",
    forcing: str | ArrayLike = "grf",
    length_scale: float = 0.1,
    refinement: int | None = None,
    return_mesh: bool = False,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    verbose: int = 1,
    data_home: str | PathLike | None = None,
) -> tuple:
    """Generate right-hand sides and solutions of a linear elliptic equation on a mesh of triangles.

    The equation is -div(a grad u) + b . grad u + c u = f with u = 0 on the boundary, solved by finite elements that are
    linear on every triangle (P1): M f = A u at the interior nodes, with a stiffness matrix A and a mass matrix M. This
    requires scikit-fem, ``pip install "sklearn-hss[fem]"``.

    Parameters
    ----------
    n_samples : int, default=100
        Number of pairs (f, u).
    mesh : skfem.MeshTri, default=None
        The mesh. By default, an L-shape with bent sides, with 8 nodes before the `refinement`.
    diffusivity : float or callable, default=1.0
        The positive function a(x): a number, or a callable, which takes two arrays of coordinates and returns a there.
    velocity : sequence of two floats or callables, default=None
        The function b(x). None means zero.
    reaction : float or callable, default=0.0
        The function c(x), which may be negative.
    mass : {"consistent", "lumped"}, default="consistent"
        Mass matrix: that of the elements, or the diagonal matrix of its row sums.
    forcing : {"grf", "gaussian"} or array-like of shape (n_samples, n_nodes), default="grf"
        Values of f at the nodes, between which f is linear.

        - "grf": smooth random fields, sums of 200 plane waves with covariance exp(-\\|d\\|² / (2 l²)), where d is the
          distance of two points, and l the `length_scale` times the longer side of the mesh; zero at the boundary.
        - "gaussian": independent standard normal values at the nodes, zero at the boundary.
        - an array: given values, which determine `n_samples`.
    length_scale : float, default=0.1
        Correlation length of the "grf" forcing, as a fraction of the longer side of the box around the mesh.
    refinement : int, default=None
        Number of times that every triangle is divided into four. The default is 4 for the default mesh, which then has
        833 nodes, 705 of them in the interior, and 0 for a given mesh.
    return_mesh : bool, default=False
        Whether to return the mesh and its adjacency as well.
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
    F : ndarray of shape (n_samples, n_nodes)
        Right-hand sides at the nodes.
    U : ndarray of shape (n_samples, n_nodes)
        Solutions at the nodes.
    mesh : skfem.MeshTri
        The refined mesh; the coordinates of the nodes are the rows of ``mesh.p.T``, and ``mesh.boundary_nodes()`` are
        the nodes with u = 0. Only if `return_mesh`.
    adjacency : sparse array of bool (n_nodes, n_nodes)
        True where two nodes, or a node and itself, belong to a common triangle. Only if `return_mesh`.

    Raises
    ------
    ImportError
        If scikit-fem is not installed.
    ValueError
        If a parameter is out of range, the mesh does not consist of triangles or has no interior node, f does not
        determine u because minus the reaction is an eigenvalue, or the data do not fit into the memory, or the free
        space of the disk, of this machine.

    See Also
    --------
    make_elliptic : The equation on a grid.

    Examples
    --------
    >>> from sklearn_hss.datasets import make_elliptic_mesh
    >>> F, U, mesh, adjacency = make_elliptic_mesh(
    ...     10, diffusivity=lambda x, y: 1 + x**2, velocity=(5.0, 0.0), return_mesh=True, random_state=0
    ... )
    >>> F.shape, U.shape, mesh.p.shape, adjacency.shape
    ((10, 833), (10, 833), (2, 833), (833, 833))
    """
    skfem = _import_skfem()
    coefficients = _Coefficients(diffusivity, velocity, reaction)
    if mesh is not None and type(mesh) is not skfem.MeshTri:
        raise ValueError(f"mesh is a {type(mesh).__name__}; it must be a skfem.MeshTri, of straight triangles.")
    refinement = (4 if mesh is None else 0) if refinement is None else refinement
    n_triangles = 4**refinement * (6 if mesh is None else mesh.t.shape[1])
    check_memory(8 * _PER_TRIANGLE * n_triangles, f"refinement={refinement}")
    mesh = bent_l_shape(refinement) if mesh is None else mesh.refined(refinement) if refinement else mesh
    n_nodes = mesh.p.shape[1]
    inner = np.ones(n_nodes, bool)
    inner[mesh.boundary_nodes()] = False
    n_alone = n_nodes - len(np.unique(mesh.t))
    if n_alone:
        raise ValueError(f"mesh has {n_alone} nodes that belong to no triangle; remove them.")
    if not inner.any():
        raise ValueError("mesh has no interior node, so that u = 0; refine it, for example by refinement=2.")
    request = Request("make_elliptic_mesh", n_samples, None, random_state, n_jobs, verbose, data_home)
    if not isinstance(forcing, str):
        forcing = given = check_fields(forcing, "forcing", ("n_samples", n_nodes))
        request = request.given(len(given), None)
    shapes: dict[str, tuple[int, ...]] = {"F": (n_nodes,), "U": (n_nodes,)}
    n_bytes = request.check_size(shapes, working=_PER_TRIANGLE * n_triangles)

    def prepare():
        A, M = coefficients.matrices(skfem, mesh)
        if mass == "lumped":
            M = sp.diags_array(M.sum(axis=1))
        solver = coefficients.solver(A, inner)
        draw, field = _sampler(forcing, length_scale, mesh.p, request.n_samples, request.rng())

        def solve(rows, drawn):
            f = field(drawn)
            if isinstance(forcing, str):
                f = f * inner
            return f, solver((M @ f.T).T)

        return Plan(request.n_samples, max(1, _BATCH // n_nodes), shapes, draw, solve)

    recipe = {
        **vars(coefficients),
        "points": mesh.p,
        "triangles": mesh.t,
        "mass": mass,
        "forcing": forcing,
        "length_scale": length_scale if isinstance(forcing, str) and forcing == "grf" else None,
    }
    F, U = request.generate(prepare, n_bytes, **recipe)
    if not return_mesh:
        return F, U
    corners = sp.csr_array(
        (np.ones(mesh.t.size, bool), (np.tile(np.arange(mesh.t.shape[1]), 3), mesh.t.ravel())),
        shape=(mesh.t.shape[1], n_nodes),
    )
    return F, U, mesh, sp.csr_array(corners.T @ corners)


class _Coefficients:
    """Validated coefficients of the equation, as floats and callables."""

    def __init__(self, diffusivity, velocity, reaction):
        if velocity is not None and len(velocity) != 2:
            raise ValueError(
                f"velocity has {len(velocity)} entries; it must have 2, a number or callable for each axis."
            )
        self.diffusivity = _check_coefficient(diffusivity, "diffusivity")
        if not callable(self.diffusivity):
            check_positive(np.asarray(self.diffusivity))
        self.velocity = None if velocity is None else [_check_coefficient(b, "velocity") for b in velocity]
        self.reaction = _check_coefficient(reaction, "reaction")

    def matrices(self, skfem, mesh):
        """Stiffness and mass matrix, for all nodes, by a quadrature that is exact to the fourth degree."""
        basis = skfem.Basis(mesh, skfem.ElementTriP1(), intorder=4)

        @skfem.BilinearForm
        def stiffness(u, v, w):
            a = _values(self.diffusivity, w.x, "diffusivity")
            check_positive(a)
            total = a * (u.grad[0] * v.grad[0] + u.grad[1] * v.grad[1])
            for axis, b in enumerate(self.velocity or []):
                total = total + _values(b, w.x, "velocity") * u.grad[axis] * v
            return total + _values(self.reaction, w.x, "reaction") * u * v

        mass = skfem.BilinearForm(lambda u, v, w: u * v)
        return sp.csr_array(stiffness.assemble(basis)), sp.csr_array(mass.assemble(basis))

    def solver(self, A, inner):
        """Solver of A u = f at the inner nodes, u = 0 at the others."""
        definite = self.velocity is None and not callable(self.reaction) and self.reaction >= 0
        # With neighbours close to each other, the factorisation determines its own ordering many times faster.
        order = reverse_cuthill_mckee(sp.csr_matrix(A), symmetric_mode=True)
        try:
            solve = factorised_solver(A[order][:, order], inner[order], definite=definite)
        except NotConverged as error:
            raise ValueError(
                f"f does not determine u: {error}; take another reaction, farther from minus an eigenvalue."
            ) from None
        back = np.argsort(order)
        return lambda f: solve(f[:, order])[:, back]


def _check_coefficient(value, name):
    if callable(value):
        return value
    if not isinstance(value, Real) or isinstance(value, bool) or not np.isfinite(float(value)):
        raise ValueError(f"{name}={value!r} must be made of finite numbers and callables.")
    return float(value)


def _values(coefficient, x, name):
    if not callable(coefficient):
        return np.asarray(coefficient)
    values = evaluated(coefficient, x, name)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} returned values that are not finite.")
    return values


def _sampler(forcing, length_scale, points, n_samples, rng):
    """Functions `draw` and `field`, as in `_forcing`, for values at nodes."""
    if not isinstance(forcing, str):
        return forcing.__getitem__, np.array
    if forcing == "gaussian":
        return lambda rows: rng.standard_normal((rows.stop - rows.start, points.shape[1])), np.array
    length = length_scale * np.ptp(points, axis=1).max()

    def draw(rows):
        n = rows.stop - rows.start
        return rng.standard_normal((n, _WAVES, 2)) / length, rng.uniform(0, 2 * np.pi, size=(n, _WAVES, 1))

    def field(drawn):
        waves = (np.cos(k @ points + phase).sum(axis=0) for k, phase in zip(*drawn, strict=True))
        return np.stack(list(waves)) * (2 / _WAVES) ** 0.5

    return draw, field


def bent_l_shape(refinement):
    """An L-shape with bent sides and eight nodes, whose triangles are divided `refinement` times."""
    skfem = _import_skfem()
    mesh = skfem.MeshTri.init_lshaped().refined(refinement)
    x, y = mesh.p
    bent = [x + 0.1 * np.sin(np.pi * y) * np.cos(x), y + 0.1 * np.sin(np.pi * x + 1) * y]
    return skfem.MeshTri(np.array(bent), mesh.t)


def _import_skfem():
    try:
        import skfem
    except ImportError as error:
        raise ImportError('make_elliptic_mesh needs scikit-fem: pip install "sklearn-hss[fem]".') from error
    return skfem
