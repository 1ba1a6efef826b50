"""Poisson's equation without fast transforms: domains that are not boxes, and variable diffusivity.

Each discretisation gives a sparse matrix A over the unknowns, which `factorised_solver` converts to a solver of fields.
"""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, cg, onenormest, splu

from .._containers import as_plain
from ._box import axis_grid, box_solver

# Centre of the disk and corner of the square that are removed.
_CENTRE = 0.5
_CORNER = 0.5

# Relative residual at which the conjugate gradients stop; the remaining error is below that of the discretisation.
_TOLERANCE = 1e-12
_MAX_ITERATIONS = 1000

# Condition number above which a matrix is singular to working precision.
_SINGULAR = 1e14


def domain_mask(domain, shape, boundary, hole_radius):
    """Points of the closed domain.

    Returns
    -------
    ndarray of bool and the given shape
    """
    axes = np.ix_(*(axis_grid(n, boundary) for n in shape))
    if domain == "l-shape":
        return ~((axes[0] > _CORNER) & (axes[1] > _CORNER))
    if domain == "perforated":  # points on the circle belong to the domain, however they are rounded
        return (axes[0] - _CENTRE) ** 2 + (axes[1] - _CENTRE) ** 2 >= hole_radius**2 * (1 - 1e-12)
    return np.ones(shape, bool)


def refined_mask(mask, refinement, boundary):
    """The domain of a mask on a finer grid, which includes points between a point inside and its neighbours.

    On every grid, the boundary thus passes through the points outside that are next to the domain.
    """
    for axis in range(mask.ndim if refinement > 1 else 0):
        points = np.moveaxis(mask, axis, 0)
        n = len(points)
        before = {"periodic": points[:0], "dirichlet": points[:0], "neumann": points[:1]}[boundary]
        after = {"periodic": points[:1], "dirichlet": np.zeros_like(points[:1]), "neumann": points[-1:]}[boundary]
        points = np.concatenate([before, points, after])
        fine = np.repeat(points[:-1] | points[1:], refinement, axis=0)
        fine[::refinement] = points[:-1]
        first = refinement - refinement // 2 if boundary == "neumann" else 0
        mask = np.moveaxis(fine[first : first + n * refinement], 0, axis)
    return mask


def l_shape_interior(shape):
    """Points off the boundary of the L-shape, where the equation holds: an ndarray of bool."""
    x, y = (axis_grid(n, "dirichlet") for n in shape)
    return np.outer(x > 0, y > 0) & ~np.outer(x >= _CORNER, y >= _CORNER)


def l_shape_solver(shape, order):
    """Solver of -Laplace(u) = f on the unit square without its quarter x, y > 1/2, with u = 0 on the boundary.

    Along every grid line, from boundary to boundary, the scheme is that of `box_solver`: three points, or five for
    fourth order, with odd reflection at both ends.

    Parameters
    ----------
    shape : tuple of two even ints
    order : {2, 4}

    Returns
    -------
    solve : callable
        Takes f of shape (n_samples, *shape); values outside the domain or on its boundary are ignored.
    """
    x, y = (axis_grid(n, "dirichlet") for n in shape)
    short, long = (
        [_line(n, length, order) for n, length in zip(shape, lengths, strict=True)]
        for lengths in ([n // 2 for n in shape], shape)
    )
    A = (
        sp.kron(long[0], sp.diags_array((y < _CORNER) * 1.0))
        + sp.kron(short[0], sp.diags_array((y >= _CORNER) * 1.0))
        + sp.kron(sp.diags_array((x < _CORNER) * 1.0), long[1])
        + sp.kron(sp.diags_array((x >= _CORNER) * 1.0), short[1])
    )
    return factorised_solver(A, l_shape_interior(shape).ravel())


def _line(n, length, order):
    """Second derivative along a line of n points, the first `length` of which form the domain."""
    inside = sp.eye_array(length - 1)
    A = 2 * inside - sp.eye_array(length - 1, k=1) - sp.eye_array(length - 1, k=-1)
    if order == 4:
        A = A + A @ A / 12
    return sp.block_diag([np.zeros((1, 1)), A * n**2, np.zeros((n - length, n - length))], format="csr")


def diffusion_matrix(shape, boundary, diffusivity, apertures=None):
    """Finite volumes for -div(a grad u): the fluxes a du/dx through the faces of the cells around the grid points.

    Parameters
    ----------
    shape : tuple of ints
    boundary : {"dirichlet", "neumann", "periodic"}
    diffusivity : list of ndarrays
        For every axis, a at the faces across it, see `face_diffusivity`.
    apertures : list of ndarrays, default=None
        For every axis, the fraction of each face that is open.

    Returns
    -------
    sparse array
        Symmetric matrix. Under Dirichlet conditions, it applies to the interior points.
    """
    A = sp.csr_array((int(np.prod(shape)),) * 2)
    for axis, (n, a) in enumerate(zip(shape, diffusivity, strict=True)):
        D = sp.kron(
            sp.kron(sp.eye_array(int(np.prod(shape[:axis]))), differences(n, boundary)),
            sp.eye_array(int(np.prod(shape[axis + 1 :]))),
        )
        weights = a if apertures is None else a * apertures[axis]
        A = A + D.T @ sp.diags_array(weights.ravel() * float(n) ** 2) @ D
    return A


def along(matrices, shape):
    """Kronecker product of the matrices of some axes, {axis: matrix}, with the identities of the others."""
    product = sp.eye_array(1)
    for axis, n in enumerate(shape):
        product = sp.kron(product, matrices.get(axis, sp.eye_array(n)))
    return product.tocsr()


def differences(n, boundary):
    """Differences between neighbours, (faces, points); for a Dirichlet problem, the last is to x = 1, where u = 0."""
    D = sp.eye_array(n, k=1) - sp.eye_array(n)
    if boundary == "periodic":
        D = D + sp.coo_array(([1.0], ([n - 1], [0])), shape=(n, n))
    return D.tocsr()[: n - 1 if boundary == "neumann" else n]


def face_diffusivity(diffusivity, shape, boundary):
    """Diffusivity at the faces between neighbouring points, for every axis.

    A function is evaluated at the faces. An array contains values at the grid points, and a face has the harmonic mean
    of the two adjacent ones, which is correct for layers of different materials. The face next to the end x = 1 of a
    Dirichlet problem has one adjacent point only.
    """
    faces = []
    for axis in range(len(shape)):
        if callable(diffusivity):
            a = evaluated(diffusivity, positions(shape, boundary, [axis]), "diffusivity")
            check_positive(a)
        else:
            points = with_neighbour(np.moveaxis(diffusivity, axis, 0), boundary)
            a = np.moveaxis(2 / (1 / points[1:] + 1 / points[:-1]), 0, axis)
        faces.append(a)
    return faces


def positions(shape, boundary, between=()):
    """Coordinates of the grid points, or of the middles between neighbours along some axes; they broadcast together."""
    axes = [axis_grid(n, boundary) for n in shape]
    for axis in between:
        n = shape[axis]
        axes[axis] = (np.arange(n - 1) + 1.0 if boundary == "neumann" else np.arange(n) + 0.5) / n
    return np.meshgrid(*axes, indexing="ij", sparse=True)


def with_neighbour(points, boundary):
    """Values along the first axis, extended beyond the last face; at a Dirichlet end, the last value is repeated."""
    after = {"periodic": points[:1], "dirichlet": points[-1:], "neumann": points[:0]}[boundary]
    return np.concatenate([points, after])


def evaluated(function, grid, name):
    """Values of a coefficient at the points of a grid; ValueError with its name if they are not real numbers."""
    a = np.asarray(as_plain(function(*grid), f"The array that {name} returned"))
    shape = np.broadcast_shapes(*(x.shape for x in grid))
    fits = a.ndim <= len(shape) and all(n in (1, m) for n, m in zip(a.shape[::-1], shape[::-1], strict=False))
    if a.dtype.kind not in "fiu" or not fits:
        raise ValueError(
            f"{name} returned an array of shape {a.shape} and type {a.dtype} for coordinates that "
            f"broadcast to {shape}; it must return one real number per point."
        )
    return np.broadcast_to(a, shape).astype(float)


def check_positive(diffusivity):
    if not (np.isfinite(diffusivity).all() and (diffusivity > 0).all()):
        raise ValueError(
            f"diffusivity must be positive and finite everywhere; its smallest value is {diffusivity.min():.4g}."
        )


def unknown_points(shape, boundary, mask=None):
    """Boolean array of the points where u is unknown: those of the mask, without the ends of a Dirichlet problem."""
    unknown = np.ones(shape, bool) if mask is None else mask.copy()
    if boundary == "dirichlet":
        for axis in range(len(shape)):
            np.moveaxis(unknown, axis, 0)[0] = False
    return unknown


def diffusion_solver(shape, boundary, diffusivity=None, mask=None):
    """Solver of -div(a grad u) = f on the unit box, of second order; see `diffusion_matrix` for the parameters.

    If there is a mask, u = 0 at the points outside, where f is ignored.

    In one and two dimensions, A is factorised. In three, where this requires too much memory, conjugate gradients are
    preconditioned by the fast solver for a = 1, so that the number of steps depends on the contrast of a, but not on
    the grid.
    """
    faces = face_diffusivity(np.ones(shape) if diffusivity is None else diffusivity, shape, boundary)
    A = diffusion_matrix(shape, boundary, faces)
    unknown = unknown_points(shape, boundary, mask).ravel()
    singular = unknown.all()
    if len(shape) < 3:
        return factorised_solver(A, unknown, weights=np.ones(A.shape[0]) if singular else None)
    A = sp.diags_array(unknown * 1.0) @ A @ sp.diags_array(unknown * 1.0)
    precondition = box_solver(shape, boundary, 2)
    M = LinearOperator(A.shape, lambda f: unknown * precondition(f.reshape(1, *shape)).ravel(), dtype=np.float64)
    contrast = max(a.max() for a in faces) / min(a.min() for a in faces)

    def solve(fields):
        solutions = np.empty_like(fields)
        for i, f in enumerate(fields.reshape(len(fields), -1)):
            f = f - f.mean() if singular else np.where(unknown, f, 0)
            u, failed = cg(A, f, rtol=_TOLERANCE, maxiter=_MAX_ITERATIONS, M=M)
            if failed:
                raise NotConverged(
                    i,
                    f"conjugate gradients did not converge in {_MAX_ITERATIONS} steps; a diffusivity with less "
                    f"contrast than {contrast:.2g} would help",
                )
            solutions[i] = (u - u.mean() if singular else u).reshape(shape)
        return solutions

    return solve


class NotConverged(RuntimeError):
    """A solver failed for the field `index` of a batch."""

    def __init__(self, index, reason):
        super().__init__(reason)
        self.index = index


def perforated_solver(shape, boundary, hole_radius, diffusivity=None):
    """Solver of -div(a grad u) = f on the unit square without a disk, of second order.

    The normal derivative of u vanishes on the disk; `boundary` applies to the outer boundary. Cut cells retain the part
    of their area and of their faces outside the disk, and the fluxes through the faces remain central differences
    between the centres of the cells, inside the disk or not (Ng, Min & Gibou, J. Comput. Phys. 228, 2009, for the
    pressure around solids). A is therefore symmetric, and the scheme is conservative.

    In cells whose centre is inside the disk, where f is not given, the values of the neighbours are used.

    Returns
    -------
    solve : callable
        Takes f of shape (n_samples, *shape); values inside the disk are ignored, and u is zero there. Without a
        Dirichlet condition, the mean of f is subtracted, and u has mean zero, both over the area of the domain.
    """
    axes = [axis_grid(n, boundary) for n in shape]
    apertures, area = cut_cells(axes, boundary, hole_radius)
    faces = [np.ones(1)] * 2 if diffusivity is None else face_diffusivity(diffusivity, shape, boundary)
    A = diffusion_matrix(shape, boundary, faces, apertures)
    unknown = area > 0
    if boundary == "dirichlet":
        unknown[0] = unknown[:, 0] = False
    mask = domain_mask("perforated", shape, boundary, hole_radius).ravel()
    hidden = np.flatnonzero(unknown.ravel() & ~mask)
    open_faces = -diffusion_matrix(shape, boundary, [np.ones(1)] * 2, apertures)[hidden] @ sp.diags_array(mask * 1.0)
    extension = sp.diags_array(1 / open_faces.sum(axis=1)) @ open_faces
    weights = area.ravel()
    solve_cells = factorised_solver(A, unknown.ravel(), None if boundary == "dirichlet" else weights)

    def solve(fields):
        f = fields.reshape(len(fields), -1) * mask
        f[:, hidden] = (extension @ f.T).T
        if boundary != "dirichlet":
            f -= f @ weights[:, None] / weights.sum()
        u = solve_cells((f * weights).reshape(fields.shape))
        return u * mask.reshape(shape)

    return solve


def cut_cells(axes, boundary, hole_radius):
    """Parts of the cells around the grid points that are outside the disk.

    Returns
    -------
    apertures : list of two ndarrays
        Open fraction of the faces across each axis, in the shapes of `face_diffusivity`.
    area : ndarray
        Fraction of the area of each cell that is outside the disk.
    """
    h = [1 / len(x) for x in axes]
    middles = [x - _CENTRE for x in axes]
    edges = [np.append(x - width / 2, x[-1] + width / 2) for x, width in zip(middles, h, strict=True)]

    def open_fraction(position, low, high):
        half_chord = np.sqrt(np.maximum(hole_radius**2 - position**2, 0))
        return 1 - np.maximum(np.minimum(high, half_chord) - np.maximum(low, -half_chord), 0) / (high - low)

    across_x = open_fraction(edges[0][:, None], edges[1][:-1], edges[1][1:])
    across_y = open_fraction(edges[1][None, :], edges[0][:-1, None], edges[0][1:, None])
    # Gauss' theorem for the part of a cell outside the circle: the integral of n over its boundary is zero, which gives
    # the length of the arc, and that of x · n is twice the area.
    outward_x, outward_y = np.diff(across_x, axis=0) * h[1], np.diff(across_y, axis=1) * h[0]
    arc = 2 * hole_radius * np.arcsin(np.minimum(np.hypot(outward_x, outward_y) / (2 * hole_radius), 1))
    moment = np.diff(edges[0][:, None] * across_x, axis=0) * h[1] + np.diff(edges[1] * across_y, axis=1) * h[0]
    area = (moment - hole_radius * arc) / (2 * h[0] * h[1])
    area[area < 1e-12] = 0
    inner = slice(1, -1 if boundary == "neumann" else None)
    return [across_x[inner], across_y[:, inner]], area


def factorised_solver(A, unknown, weights=None, left=None, definite=True):
    """Solver of A u = f by one sparse factorisation.

    Parameters
    ----------
    A : sparse array (n, n)
    unknown : ndarray of bool (n,)
        Points where the equation holds; u is zero at the others.
    weights : ndarray (n,), default=None
        None for a regular A. Otherwise the kernel of A consists of the constants and its range of the vectors with sum
        zero, and u is the solution whose mean with these weights is zero.
    left : ndarray (n,), default=None
        For a singular A with another range, the vector orthogonal to the range: A' left = 0.
    definite : bool, default=True
        Whether A is symmetric and positive (semi)definite, so that no pivots need to be chosen.

    Returns
    -------
    solve : callable
        Takes and returns fields of shape (n_samples, *shape).
    """
    points = np.flatnonzero(unknown)
    # If the solution is determined up to a constant, one of its values may be prescribed.
    solved = points if weights is None else points[1:]
    try:
        factors = splu(
            A.tocsr()[solved][:, solved].tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0 if definite else 0.1,
            options={"SymmetricMode": True},
        )
    except RuntimeError as error:
        raise NotConverged(0, f"its matrix is singular to rounding ({error})") from error
    if not definite:
        inverse = LinearOperator(
            factors.shape, factors.solve, rmatvec=lambda f: factors.solve(f, trans="T"), dtype=np.float64
        )
        condition = onenormest(inverse, t=1) * abs(A).sum(axis=0).max()
        if not condition < _SINGULAR:
            raise NotConverged(0, f"its matrix is singular to rounding (condition {condition:.1e})")

    def solve(fields):
        f = fields.reshape(len(fields), -1)
        if weights is not None:
            f = f - (f[:, points].mean(axis=1, keepdims=True) if left is None else f @ left[:, None] / left.sum())
        u = np.zeros_like(f)
        u[:, solved] = factors.solve(np.ascontiguousarray(f[:, solved].T)).T
        if weights is not None:
            u[:, points] -= u @ weights[:, None] / weights[points].sum()
        return u.reshape(fields.shape)

    return solve
