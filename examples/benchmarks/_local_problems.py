"""Problems with a local law M f = L u, both sides sparse: pure functions, seeded, small.

All are solved directly on the grid or mesh that they are given on, so that the law holds to rounding. `OWN_GRID` are
stationary equations, `TIME_STEPS` linear time steps, `MESHES` finite elements on triangles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sp
from _linear_problems import LinearProblem, Samples, box_matrix, flux_matrix, l_shape, rough, smooth, white
from scipy.sparse.linalg import splu

from sklearn_hss.datasets import make_elliptic_mesh

N_TEST, N_OTHER = 100, 20


def draw(kind, boundary, n_samples, grid, seed):
    """White or smooth fields; the smooth ones are sums of the eigenfunctions of -Laplace that belong to the boundary.

    Even and odd ones about the middle are all present. Where a law has a null space of constants, fields have no mean.
    """
    if kind == "white":
        f = white(n_samples, *grid, seed=seed)
    elif boundary == "dirichlet":
        f = smooth(n_samples, *grid, seed=seed)
    else:
        f = waves(n_samples, *grid, boundary=boundary, seed=seed)
    return f if boundary == "dirichlet" else f - f.mean(axis=tuple(range(1, f.ndim)), keepdims=True)


def waves(n_samples, *grid, boundary, seed=0):
    """Sums of cosines (Neumann) or of sines and cosines (periodic), of random amplitudes that fall with the number."""
    bases = []
    for n in grid:
        if boundary == "neumann":
            k, x = np.arange(12)[:, None], (np.arange(n) + 0.5) / n
            bases.append(np.cos(np.pi * k * x) / (1 + k))
        else:
            k, x = np.arange(7)[:, None], np.arange(n) / n
            cosines, sines = np.cos(2 * np.pi * k * x) / (1 + k), np.sin(2 * np.pi * k * x) / (1 + k)
            bases.append(np.concatenate([cosines, sines[1:]]))
    field = white(n_samples, *map(len, bases), seed=seed)
    for basis in bases:
        field = np.tensordot(field, basis, (1, 0))
    return field


def lift(matrix, axis, grid):
    """The matrix of one axis on a field of two."""
    eyes = [sp.eye_array(n) for n in grid]
    return sp.kron(matrix, eyes[1]) if axis == 0 else sp.kron(eyes[0], matrix)


def steps(n, boundary="dirichlet"):
    """Differences of neighbours over h, one row per face; u = 0 beyond the ends of a Dirichlet problem."""
    if boundary == "periodic":
        D = (sp.eye_array(n, k=1) - sp.eye_array(n)).tolil()
        D[-1, 0] = 1.0
        return sp.csr_array(D) * n
    if boundary == "neumann":
        return sp.csr_array(sp.eye_array(n - 1, n, k=1) - sp.eye_array(n - 1, n)) * n
    return sp.csr_array(sp.eye_array(n + 1, n) - sp.eye_array(n + 1, n, k=-1)) * (n + 1)


def slope(axis, grid):
    """Central first derivative, u = 0 beyond the ends."""
    n = grid[axis]
    return lift((sp.eye_array(n, k=1) - sp.eye_array(n, k=-1)) * ((n + 1) / 2), axis, grid)


def flux(a, axis, boundary="dirichlet"):
    """-d/dx a d/dx along one axis, with arithmetic means of a at the faces."""
    D = lift(steps(a.shape[axis], boundary), axis, a.shape)
    a = np.moveaxis(a, axis, 0)
    if boundary == "dirichlet":
        a = np.concatenate([a[:1], a, a[-1:]])
    elif boundary == "periodic":
        a = np.concatenate([a, a[:1]])
    faces = np.moveaxis((a[1:] + a[:-1]) / 2, 0, axis)
    return D.T @ sp.diags_array(faces.ravel()) @ D


def points(grid):
    return np.meshgrid(*(np.arange(1, n + 1) / (n + 1) for n in grid), indexing="ij")


def wavy(grid):
    """A smooth positive coefficient that is no product."""
    x, y = points(grid)
    return 1 + 0.5 * np.sin(2 * np.pi * (x + y) + 1) * np.cos(np.pi * (x - 2 * y)) + x * y


def periodic_wavy(grid):
    x, y = (np.arange(n) / n for n in grid)
    return 1.5 + np.sin(2 * np.pi * (x[:, None] + y)) * np.cos(2 * np.pi * (x[:, None] - 2 * y) + 1)


def disk_removed(grid):
    x, y = points(grid)
    return (x - 0.45) ** 2 + (y - 0.55) ** 2 >= 0.2**2


def diagonal(values):
    return sp.diags_array(np.ravel(values))


def convection_diffusion(grid):
    x, y = points(grid)
    velocity = 20 * np.sin(np.pi * x) * np.cos(np.pi * y), -20 * np.cos(np.pi * x) * np.sin(np.pi * y) + 10
    return flux_matrix(wavy(grid)) + sum(diagonal(b) @ slope(axis, grid) for axis, b in enumerate(velocity))


def anisotropic(grid):
    """-div(K grad u), with a mixed derivative over the four corners."""
    a = wavy(grid)
    c = 0.4 * np.cos(2 * np.pi * points(grid)[0])
    return mixed(c, 0, 1) + mixed(c, 1, 0) + flux(a, 0) + flux(0.5 + 0.5 * a, 1)


def mixed(c, first, last):
    """-d/dx_first c d/dx_last."""
    return -slope(first, c.shape) @ diagonal(c) @ slope(last, c.shape)


def elasticity(grid):
    """Plane elasticity with variable Lamé parameters: two displacements, nine points each."""
    lame, shear = wavy(grid), 0.6 + 0.3 * np.sin(3 * points(grid)[1])
    return sp.block_array(
        [
            [
                flux(lame + 2 * shear, i) + flux(shear, 1 - i)
                if i == j
                else mixed(lame, i, 1 - i) + mixed(shear, 1 - i, i)
                for j in (0, 1)
            ]
            for i in (0, 1)
        ]
    )


def reaction_diffusion(grid):
    """Two fields that diffuse by themselves and react at each point."""
    x, y = points(grid)
    return sp.block_array(
        [
            [flux_matrix(wavy(grid)) + diagonal(10 + 5 * x), diagonal(-40 * np.cos(np.pi * y))],
            [diagonal(30 + 20 * x * y), 0.2 * box_matrix(grid)],
        ]
    )


def solver(A, unknown, singular):
    """Function that solves A u = f on flat fields, with u = 0 where there is no unknown; singular: for u of no mean."""
    at = np.flatnonzero(unknown)
    solved = at[1:] if singular else at  # a value of what is determined up to a constant may be chosen
    lu = splu(sp.csc_matrix(A.tocsr()[solved][:, solved]))

    def solve(f):
        u = np.zeros_like(f)
        u[:, solved] = lu.solve(np.ascontiguousarray(f[:, solved].T)).T
        return u - u.mean(axis=1, keepdims=True) if singular else u

    return solve


def own_grid(kind, seed, n_train, grid, matrix, boundary="dirichlet", mask=None, n_fields=1):
    """Samples of A u = f on a grid, with u = 0 outside the mask.

    Parameters
    ----------
    kind : {"white", "smooth"}
        Of the training samples and of ``other``; the test samples are white.
    seed, n_train : int
    grid : tuple of two ints
    matrix : callable
        Takes the grid and returns the sparse matrix A.
    boundary : {"dirichlet", "neumann", "periodic"}
        The last two are singular: f and u have no mean.
    mask : callable, default=None
        Takes the grid and returns the points of the domain.
    n_fields : int, default=1
        More than one make fields of shape (n_samples, n_fields, *grid).
    """
    inside = np.ones(grid, bool) if mask is None else mask(grid)
    solve = solver(matrix(grid), np.tile(inside.ravel(), n_fields), boundary != "dirichlet")
    shape = grid if n_fields == 1 else (n_fields, *grid)

    def solved(kind, n_samples, seed):
        f = draw(kind, boundary, n_samples * n_fields, grid, seed).reshape(n_samples, *shape) * inside
        return f, solve(f.reshape(n_samples, -1)).reshape(f.shape)

    return Samples(
        solved(kind, n_train, 3 * seed), solved("white", N_TEST, 3 * seed + 1), solved(kind, N_OTHER, 3 * seed + 2)
    )


def table_entry(n_train, n, matrix, parameters=None, **options):
    """A problem whose ``make(kind="white", seed=0, n_train=n_train, grid=(n, n))`` gives samples."""

    def make(kind="white", seed=0, n_train=n_train, grid=(n, n)):
        return own_grid(kind, seed, n_train, grid, matrix, **options)

    return LinearProblem(make, parameters or {})


def five_points(coefficient, boundary):
    return lambda grid: sum(flux(coefficient(grid), axis, boundary) for axis in (0, 1))


# The number of samples is that of the unknowns of one row, and three.
OWN_GRID = {
    "variable a": table_entry(8, 63, lambda grid: flux_matrix(wavy(grid))),
    "L-shape": table_entry(8, 63, box_matrix, mask=lambda grid: l_shape(grid[0])),
    "disk removed": table_entry(8, 63, box_matrix, mask=disk_removed),
    "convection-diffusion": table_entry(8, 63, convection_diffusion),
    "anisotropic, mixed derivative": table_entry(12, 63, anisotropic),
    "Helmholtz, indefinite": table_entry(8, 63, partial(box_matrix, shift=920.0)),
    "periodic, singular": table_entry(8, 63, five_points(periodic_wavy, "periodic"), boundary="periodic"),
    "Neumann, singular": table_entry(8, 63, five_points(wavy, "neumann"), boundary="neumann"),
    "elasticity, two fields": table_entry(21, 63, elasticity, {"grid_shape": (63, 63)}, n_fields=2),
    "reaction-diffusion pair": table_entry(13, 63, reaction_diffusion, {"grid_shape": (63, 63)}, n_fields=2),
    "rough a on an L-shape": table_entry(
        8, 64, lambda grid: flux_matrix(rough(grid[0])), mask=lambda grid: l_shape(grid[0])
    ),
}


@dataclass(frozen=True)
class Trajectories:
    """Pairs (u(t), u(t + dt)) for training, and true trajectories (n, n_steps + 1, *grid) that start at new states."""

    train: tuple[np.ndarray, np.ndarray]
    test: np.ndarray


def crank_nicolson(kind, seed, n_train, grid, matrix, dt, n_steps=50, n_test=10):
    """Samples of the time step (I + dt/2 A) u(t + dt) = (I - dt/2 A) u(t); the states are white or smooth."""
    A = matrix(grid)
    one = sp.eye_array(A.shape[0])
    lu, explicit = splu(sp.csc_matrix(one + dt / 2 * A)), sp.csr_array(one - dt / 2 * A)

    def step(u):
        return lu.solve(np.ascontiguousarray(explicit @ u.reshape(len(u), -1).T)).T.reshape(u.shape)

    start = draw(kind, "dirichlet", n_train, grid, 3 * seed)
    states = [draw(kind, "dirichlet", n_test, grid, 3 * seed + 1)]
    for _ in range(n_steps):
        states.append(step(states[-1]))
    return Trajectories((start, step(start)), np.stack(states, axis=1))


def steps_entry(grid, matrix, dt):
    """Function ``make(kind="smooth", seed=0, n_train=20, grid=grid)`` that gives :class:`Trajectories`."""

    def make(kind="smooth", seed=0, n_train=20, grid=grid):
        return crank_nicolson(kind, seed, n_train, grid, matrix, dt)

    return make


def interval_heat(grid, velocity=0.0):
    """-(a u')' + velocity u' on an interval."""
    (n,) = grid
    faces = 1 + 0.5 * np.sin(2 * np.pi * (np.arange(n + 1) + 0.5) / (n + 1) + 1)
    D = steps(n)
    return D.T @ diagonal(faces) @ D + velocity * (sp.eye_array(n, k=1) - sp.eye_array(n, k=-1)) * ((n + 1) / 2)


TIME_STEPS = {
    "1-D heat, variable a": steps_entry((128,), interval_heat, 1e-3),
    "1-D advection-diffusion": steps_entry((128,), partial(interval_heat, velocity=20.0), 1e-3),
    "2-D heat, variable a": steps_entry((32, 32), lambda grid: flux_matrix(wavy(grid)), 2e-3),
    "2-D advection-diffusion": steps_entry((32, 32), convection_diffusion, 2e-3),
}


@dataclass(frozen=True)
class MeshSamples:
    """Samples at the interior nodes of a mesh, their coordinates (n_nodes, 2), and which of them share a triangle."""

    samples: Samples
    coordinates: np.ndarray
    adjacency: sp.csr_array


def mesh_samples(kind, seed, n_train, refinement, mass):
    """Finite elements for -div(a grad u) + b . grad u = f on a bent L-shape, u = 0 on the boundary."""

    def solved(kind, n_samples, seed):
        return make_elliptic_mesh(
            n_samples,
            diffusivity=lambda x, y: 1 + 0.5 * np.sin(3 * x + y),
            velocity=(lambda x, y: 5 * (1 + y), lambda x, y: -5 * x),
            mass=mass,
            forcing={"white": "gaussian", "smooth": "grf"}[kind],
            length_scale=0.15,
            refinement=refinement,
            return_mesh=True,
            random_state=seed,
            verbose=0,
        )

    def inside(kind, n_samples, seed):
        F, U, *_ = solved(kind, n_samples, seed)
        return F[:, inner], U[:, inner]

    *_, mesh, adjacency = solved("white", 1, 0)
    inner = np.setdiff1d(np.arange(mesh.p.shape[1]), mesh.boundary_nodes())
    samples = Samples(
        inside(kind, n_train, 3 * seed), inside("white", N_TEST, 3 * seed + 1), inside(kind, N_OTHER, 3 * seed + 2)
    )
    return MeshSamples(samples, mesh.p.T[inner], adjacency[inner][:, inner])


def mesh_entry(n_train, refinement, mass):
    """Function ``make(kind="white", seed=0, n_train=n_train)`` that gives :class:`MeshSamples`."""

    def make(kind="white", seed=0, n_train=n_train):
        return mesh_samples(kind, seed, n_train, refinement, mass)

    return make


MESHES: dict[str, Callable[..., MeshSamples]] = {
    "lumped mass, 705 nodes": mesh_entry(12, 4, "lumped"),
    "consistent mass, 705 nodes": mesh_entry(20, 4, "consistent"),
    "lumped mass, 2945 nodes": mesh_entry(12, 5, "lumped"),
    "consistent mass, 2945 nodes": mesh_entry(20, 5, "consistent"),
}
