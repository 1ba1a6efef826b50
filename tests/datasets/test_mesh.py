"""Finite elements on triangles: exact solutions, matrices by the textbook formulas, grids."""

import sys

import numpy as np
import pytest
import scipy.sparse as sp
import skfem
from scipy.sparse.linalg import spsolve

from sklearn_hss.datasets import make_elliptic_mesh

PI = np.pi


def crooked(n):
    """Triangles on the unit square whose inner nodes are shifted by a smooth function."""
    mesh = skfem.MeshTri.init_tensor(*[np.linspace(0, 1, n + 1)] * 2)
    x, y = mesh.p
    shift = 0.08 * np.sin(PI * x) * np.sin(PI * y)
    return skfem.MeshTri(np.array([x + shift, y - shift * np.cos(2 * x)]), mesh.t)


@pytest.mark.parametrize("mass", ["consistent", "lumped"])
def test_order(check_order, mass):
    # a = 1 + x y, b = (2, 3 x), c = -5 and u = sin(pi x) sin(2 pi y)
    sizes, errors = (16, 32, 64), []
    for n in sizes:
        mesh = crooked(n)
        x, y = mesh.p
        u = np.sin(PI * x) * np.sin(2 * PI * y)
        u_x, u_y = PI * np.cos(PI * x) * np.sin(2 * PI * y), 2 * PI * np.sin(PI * x) * np.cos(2 * PI * y)
        f = (1 + x * y) * 5 * PI**2 * u - y * u_x - x * u_y + 2 * u_x + 3 * x * u_y - 5 * u
        F, U = make_elliptic_mesh(
            mesh=mesh,
            diffusivity=lambda x, y: 1 + x * y,
            velocity=(2, lambda x, y: 3 * x),
            reaction=-5,
            mass=mass,
            forcing=f[None],
        )
        np.testing.assert_array_equal(F[0], f)
        errors.append(np.sqrt(np.mean((U[0] - u) ** 2)))
    check_order(f"elliptic, triangles, {mass} mass", sizes, errors, 2)


def textbook(mesh, velocity):
    """Stiffness matrix of a = 1 and a constant velocity, and mass matrix, triangle by triangle."""
    n = mesh.p.shape[1]
    A, M = sp.lil_array((n, n)), sp.lil_array((n, n))
    for triangle in mesh.t.T:
        corners = np.column_stack([np.ones(3), mesh.p[:, triangle].T])
        slopes, area = np.linalg.inv(corners)[1:], abs(np.linalg.det(corners)) / 2
        convection = np.tile(np.array(velocity) @ slopes / 3, (3, 1))
        A[np.ix_(triangle, triangle)] += area * (slopes.T @ slopes + convection)
        M[np.ix_(triangle, triangle)] += area * (1 + np.eye(3)) / 12
    return A.tocsr(), M.tocsr()


@pytest.mark.parametrize("forcing", ["grf", "gaussian"])
@pytest.mark.parametrize("mass", ["consistent", "lumped"])
def test_default_mesh_and_matrices(mass, forcing):
    F, U, mesh, adjacency = make_elliptic_mesh(
        5, velocity=(3, -4), mass=mass, forcing=forcing, refinement=2, return_mesh=True, random_state=0
    )
    n = mesh.p.shape[1]
    assert F.shape == U.shape == (5, n)
    A, M = textbook(mesh, (3, -4))
    M = sp.diags_array(M.sum(axis=1)) if mass == "lumped" else M
    inner = np.setdiff1d(np.arange(n), mesh.boundary_nodes())
    expected = spsolve(A[inner][:, inner].tocsc(), (M @ F.T)[inner]).T
    np.testing.assert_allclose(U[:, inner], expected, atol=1e-12)
    assert (F[:, inner] != 0).all()
    for field in (F, U):
        assert not field[:, mesh.boundary_nodes()].any()
    np.testing.assert_array_equal(adjacency.toarray(), textbook(mesh, (3, -4))[1].toarray() > 0)
    assert adjacency.dtype == bool


def test_the_bent_l_shape_is_not_folded():
    mesh = make_elliptic_mesh(1, return_mesh=True, random_state=0)[2]
    straight = skfem.MeshTri.init_lshaped().refined(4)
    areas = []
    for one in (mesh, straight):
        (x0, x1, x2), (y0, y1, y2) = one.p[:, one.t]
        areas.append((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0))
    assert (areas[0] / areas[1]).min() > 0.5
    assert mesh.p.shape[1] - len(mesh.boundary_nodes()) == 705


def test_smooth_forcings_have_the_covariance_they_claim():
    mesh = crooked(6)
    F, _ = make_elliptic_mesh(4000, mesh, length_scale=0.3, random_state=0)
    inner = np.setdiff1d(np.arange(mesh.p.shape[1]), mesh.boundary_nodes())
    points = mesh.p.T[inner]
    squares = np.sum((points[:, None] - points) ** 2, axis=2)
    np.testing.assert_allclose(F[:, inner].T @ F[:, inner] / 4000, np.exp(-squares / 2 / 0.3**2), atol=0.1)


def test_refinement_of_a_given_mesh_seeds_and_folder(tmp_path):
    mesh = crooked(4)
    options = dict(n_samples=3, refinement=1, reaction=2.0, random_state=0)
    data = make_elliptic_mesh(mesh=mesh, **options)
    assert data[0].shape == (3, 81)
    for same in (make_elliptic_mesh(mesh=mesh.refined(1), **{**options, "refinement": 0}), data):
        np.testing.assert_array_equal(same, data)
    for _ in range(2):
        kept = make_elliptic_mesh(mesh=mesh, data_home=tmp_path, **options)
        np.testing.assert_array_equal(kept, data)
    make_elliptic_mesh(mesh=crooked(8), data_home=tmp_path, **{**options, "refinement": 0})
    assert len(list(tmp_path.iterdir())) == 2
    assert not np.array_equal(make_elliptic_mesh(mesh=mesh, **{**options, "random_state": 1}), data)


def test_without_scikit_fem(monkeypatch):
    monkeypatch.setitem(sys.modules, "skfem", None)
    with pytest.raises(ImportError, match=r"make_elliptic_mesh needs scikit-fem: pip install \"sklearn-hss\[fem\]\""):
        make_elliptic_mesh(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(mesh=np.ones((2, 9))), "'mesh' parameter of make_elliptic_mesh"),
        (dict(mesh=skfem.MeshQuad()), r"mesh is a MeshQuad1; it must be a skfem.MeshTri"),
        (dict(mesh=skfem.MeshTri()), "mesh has no interior node"),
        (dict(mesh=skfem.MeshTri(np.append(crooked(3).p, [[3], [3]], axis=1), crooked(3).t)), "belong to no triangle"),
        (dict(refinement=30), "refinement=30 needs"),
        (dict(n_samples=10**12), "n_samples=1000000000000 needs"),
        (dict(diffusivity=0.0), "diffusivity must be positive"),
        (dict(diffusivity=lambda x, y: x), "diffusivity must be positive"),
        (dict(velocity=(1.0,)), "velocity has 1 entries; it must have 2"),
        (dict(velocity=(1.0, "a")), "velocity='a' must be made of finite numbers and callables"),
        (dict(reaction=np.nan), "reaction=nan must be made of"),
        (dict(reaction=lambda x, y: np.inf * np.ones_like(x)), "reaction returned values that are not finite"),
        (dict(reaction=lambda x, y: np.ones(5)), "it must return one real number per point"),
        (dict(mass="row"), "'mass' parameter"),
        (dict(forcing="sine"), "'forcing' parameter"),
        (dict(forcing=np.ones((2, 7))), r"forcing has shape \(2, 7\); it must be \(n_samples, 833\)"),
        (dict(forcing=np.full((2, 833), np.nan)), "forcing contains NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore:Mesh not valid", "ignore:Initializing")
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_elliptic_mesh(**{"n_samples": 2, "random_state": 0, **arguments})


def test_a_resonant_reaction_is_refused():
    mesh = crooked(4)
    A, M = textbook(mesh, (0, 0))
    inner = np.setdiff1d(np.arange(mesh.p.shape[1]), mesh.boundary_nodes())
    A, M = A.toarray()[np.ix_(inner, inner)], M.toarray()[np.ix_(inner, inner)]
    lowest = np.linalg.eigvals(np.linalg.solve(M, A)).real.min()
    with pytest.raises(ValueError, match="f does not determine u: its matrix is singular"):
        make_elliptic_mesh(1, mesh, reaction=-lowest, random_state=0)
