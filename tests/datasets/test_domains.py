"""Domains that are not boxes, and variable diffusivity: exact solutions and finite elements by scikit-fem."""

import numpy as np
import pytest
import skfem
from skfem.helpers import dot, grad

from sklearn_hss.datasets import _sparse, make_poisson
from sklearn_hss.datasets._box import axis_grid, box_solver
from sklearn_hss.datasets._sparse import (
    cut_cells,
    diffusion_matrix,
    diffusion_solver,
    domain_mask,
    face_diffusivity,
    l_shape_solver,
    perforated_solver,
    refined_mask,
)

PI = np.pi
RADIUS = 0.2


def grid(shape, boundary):
    return np.meshgrid(*(axis_grid(n, boundary) for n in shape), indexing="ij")


def rms(errors):
    return np.sqrt(np.mean(errors**2))


def finite_elements(mesh, f, points, a=None, dirichlet=None):
    """-div(a grad u) = f by quadratic elements; `dirichlet` says where u = 0, elsewhere the normal derivative is 0."""
    basis = skfem.Basis(mesh, skfem.ElementTriP2(), intorder=6)
    stiffness = skfem.BilinearForm(lambda u, v, w: (1 if a is None else a(*w.x)) * dot(grad(u), grad(v))).assemble(
        basis
    )
    load = skfem.LinearForm(lambda v, w: f(*w.x) * v).assemble(basis)
    if dirichlet is None:  # only what has mean zero can be solved for
        ones = skfem.LinearForm(lambda v, w: v).assemble(basis)
        load -= ones * load.sum() / ones.sum()
    fixed = np.array([0]) if dirichlet is None else basis.get_dofs(mesh.facets_satisfying(dirichlet, True))
    u = skfem.solve(*skfem.condense(stiffness, load, D=fixed))
    return basis.probes(points) @ u


# L-shape


@pytest.mark.parametrize("order", [2, 4])
def test_order_on_an_l_shape(check_order, order):
    sizes, errors = (16, 32, 64, 128), []
    for n in sizes:
        shape = (n, n + n // 2)
        x, y = grid(shape, "dirichlet")
        exact = np.sin(2 * PI * x) * np.sin(4 * PI * y) * domain_mask("l-shape", shape, "dirichlet", None)
        errors.append(np.abs(l_shape_solver(shape, order)(20 * PI**2 * exact[None])[0] - exact).max())
    check_order(f"Poisson, L-shape, {order + 1} points per axis", sizes, errors, order)


def l_mesh():
    mesh = skfem.MeshTri.init_lshaped().scaled(0.5).translated((0.5, 0.5)).refined(4)
    for level in range(10):  # towards the corner, where grad u is infinite
        middles = mesh.p[:, mesh.t].mean(axis=1)
        mesh = mesh.refined(np.flatnonzero(np.hypot(*(middles - 0.5)) < 0.25 / 2**level))
    return mesh


def test_order_on_an_l_shape_with_a_singular_corner(check_order):
    # The solution is of the kind r^(2/3) at the corner, so any uniform grid is of order 4/3.
    def f(x, y):
        return 1 + x - 2 * y

    points = np.array([(i / 16, j / 16) for i in range(1, 16) for j in range(1, 16) if min(i, j) < 8]).T
    reference = finite_elements(l_mesh(), f, points, dirichlet=lambda x: np.full(x.shape[1], True))
    i, j = (points * 16).astype(int)
    for order in (2, 4):
        sizes, errors = (32, 64, 128), []
        for n in sizes:
            u = l_shape_solver((n, n), order)(f(*grid((n, n), "dirichlet"))[None])[0]
            errors.append(rms(u[i * n // 16, j * n // 16] - reference))
        check_order(f"Poisson, L-shape, {order + 1} points, against finite elements", sizes, errors, 1.33, atol=0.25)


def test_sine_forcing_makes_the_l_shape_the_masked_square():
    F, U, mask = make_poisson(3, (64, 64), domain="l-shape", return_mask=True, random_state=0)
    box_f, box_u = make_poisson(3, (64, 64), random_state=0)
    np.testing.assert_allclose(F, box_f * mask, atol=1e-12)
    np.testing.assert_allclose(U, box_u * mask, atol=1e-14)


# Perforated square


def bump(r):
    """Smooth function of the radius, its derivative zero on the disk, and zero near the square; two derivatives."""
    width = 0.48 - RADIUS
    s = np.minimum((r - RADIUS) / width, 1)
    base = 1 - s**2
    return base**6, -12 * s * base**5 / width, (-12 * base**5 + 120 * s**2 * base**4) / width**2


def diffusivity(x, y):
    return 1 + 0.5 * np.sin(2 * PI * x) * np.cos(2 * PI * y)


ROUND_DISKS = [("periodic", False), ("neumann", True), ("dirichlet", True)]  # the others are slow, not other


@pytest.mark.parametrize(
    ("boundary", "variable"),
    [
        pytest.param(boundary, variable, marks=() if (boundary, variable) in ROUND_DISKS else pytest.mark.slow)
        for boundary in ("periodic", "neumann", "dirichlet")
        for variable in (False, True)
    ],
)
def test_order_around_a_disk(check_order, boundary, variable):
    sizes, errors = (50, 70, 100, 140, 200, 280), []
    for n in sizes:
        shape = (n, n)
        x, y = grid(shape, boundary)
        r, theta = np.maximum(np.hypot(x - 0.5, y - 0.5), 0.1), np.arctan2(y - 0.5, x - 0.5)
        radial, slope, curvature = bump(r)
        exact = radial * np.cos(3 * theta)
        u_r, u_theta = slope * np.cos(3 * theta), -3 * radial * np.sin(3 * theta)
        laplace = (curvature + slope / r - 9 * radial / r**2) * np.cos(3 * theta)
        a, a_x, a_y = 1, 0, 0
        if variable:
            a = diffusivity(x, y)
            a_x, a_y = PI * np.cos(2 * PI * x) * np.cos(2 * PI * y), -PI * np.sin(2 * PI * x) * np.sin(2 * PI * y)
        u_x = u_r * np.cos(theta) - u_theta * np.sin(theta) / r
        u_y = u_r * np.sin(theta) + u_theta * np.cos(theta) / r
        f = -(a * laplace + a_x * u_x + a_y * u_y)
        u = perforated_solver(shape, boundary, RADIUS, diffusivity if variable else None)(f[None])[0]
        error = (u - exact)[domain_mask("perforated", shape, boundary, RADIUS)]
        errors.append(rms(error if boundary == "dirichlet" else error - error.mean()))
    what = "variable a" if variable else "a = 1"
    check_order(f"Poisson around a disk, {boundary}, {what}, finite volumes", sizes, errors, 2, atol=0.2, fitted=True)


def disk_mesh(n_around=256, n_out=48):
    """Triangles between the circle and the square around it."""
    theta = 2 * PI * np.arange(n_around) / n_around
    circle = np.array([np.cos(theta), np.sin(theta)])
    square = 0.5 * circle / np.abs(circle).max(axis=0)
    s = np.linspace(0, 1, n_out + 1)[:, None, None]
    points = 0.5 + (1 - s) * RADIUS * circle + s * square
    number = np.arange(points.shape[0] * n_around).reshape(-1, n_around)
    after = np.roll(number, -1, axis=1)
    quads = np.array([number[:-1], after[:-1], after[1:], number[1:]]).reshape(4, -1)
    return skfem.MeshQuad(points.transpose(1, 0, 2).reshape(2, -1), quads).to_meshtri()


@pytest.mark.parametrize(
    ("parities", "variable"),
    [
        ("odd, even", True),
        *(
            pytest.param(parities, variable, marks=pytest.mark.slow)
            for parities in ("odd, odd", "odd, even", "even, even")
            for variable in (False, True)
            if (parities, variable) != ("odd, even", True)
        ),
    ],
)
def test_order_around_a_disk_against_finite_elements(check_order, parities, variable):
    # Where f is odd or even about the middle of the square, so is u, and that it is periodic says that u, or its
    # normal derivative, is zero on the outside.
    odd = [parity == "odd" for parity in parities.split(", ")]

    def f(x, y):
        return [np.cos, np.sin][odd[0]](2 * PI * x) * [np.cos, np.sin][odd[1]](4 * PI * y)

    def a(x, y):
        return 1 + 0.5 * np.cos(2 * PI * x) * np.cos(2 * PI * y)

    def outside(x):
        ends = np.abs(x - 0.5) > 0.5 - 1e-9
        return (ends[0] & odd[0]) | (ends[1] & odd[1])

    mesh = disk_mesh()
    x, y = grid((32, 32), "periodic")
    kept = (np.hypot(x - 0.5, y - 0.5) > RADIUS + 1e-3) & (x > 0) & (y > 0)
    reference = finite_elements(
        mesh, f, np.array([x[kept], y[kept]]), a if variable else None, outside if any(odd) else None
    )
    sizes, errors = (32, 64, 96, 128, 192, 256), []
    for n in sizes:
        every = slice(None, None, n // 32)
        u = perforated_solver((n, n), "periodic", RADIUS, a if variable else None)(f(*grid((n, n), "periodic"))[None])
        error = u[0, every, every][kept] - reference
        errors.append(rms(error if any(odd) else error - error.mean()))
    what = "variable a" if variable else "a = 1"
    check_order(f"Poisson around a disk, {what}, f {parities}, against f.e.", sizes, errors, 2, atol=0.25, fitted=True)


@pytest.mark.parametrize("shape", [(16, 16), (33, 20), (64, 64)])
@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
def test_area_and_faces_of_cut_cells(shape, boundary):
    axes = [axis_grid(n, boundary) for n in shape]
    _, area = cut_cells(axes, boundary, RADIUS)
    assert area.sum() / np.prod(shape) == pytest.approx(1 - PI * RADIUS**2, rel=1e-10)
    # By brute force: a hundred points per axis in every cell.
    fine = (np.arange(100) + 0.5) / 100 - 0.5
    x, y = ((x[:, None] + fine / n).ravel() for x, n in zip(axes, shape, strict=True))
    outside = (x[:, None] - 0.5) ** 2 + (y - 0.5) ** 2 > RADIUS**2
    np.testing.assert_allclose(area, outside.reshape(shape[0], 100, shape[1], 100).mean(axis=(1, 3)), atol=2e-3)


@pytest.mark.parametrize("boundary", ["periodic", "neumann", "dirichlet"])
def test_what_flows_out_of_a_cell_flows_into_another(boundary):
    shape = (24, 20)
    axes = [axis_grid(n, boundary) for n in shape]
    apertures, area = cut_cells(axes, boundary, RADIUS)
    A = diffusion_matrix(shape, boundary, face_diffusivity(diffusivity, shape, boundary), apertures).toarray()
    np.testing.assert_allclose(A, A.T, atol=1e-10)
    assert np.linalg.eigvalsh(A).min() > -1e-8
    if boundary != "dirichlet":
        np.testing.assert_allclose(A.sum(axis=0), 0, atol=1e-9)
    closed = np.flatnonzero(area.ravel() == 0)
    assert len(closed) > 20
    assert not A[closed].any()


def test_problem_around_a_disk_is_made_compatible():
    # A constant in f does not matter where no boundary condition could carry it away.
    f = np.random.RandomState(0).standard_normal((2, 24, 24))
    solve = perforated_solver((24, 24), "periodic", RADIUS)
    u = solve(f)
    np.testing.assert_allclose(solve(f + 3), u, atol=1e-13)
    mask = domain_mask("perforated", (24, 24), "periodic", RADIUS)
    assert np.abs(u[:, mask]).max() > 1e-3
    assert not u[:, ~mask].any()


def test_reflection_and_rotation_of_the_square_around_a_disk():
    f = np.random.RandomState(0).standard_normal((2, 25, 25))
    solve = perforated_solver((25, 25), "neumann", RADIUS)
    u = solve(f)
    np.testing.assert_allclose(solve(f[:, ::-1]), u[:, ::-1], atol=1e-13)
    np.testing.assert_allclose(solve(f.swapaxes(1, 2)), u.swapaxes(1, 2), atol=1e-13)


# Variable diffusivity


def outer(factors):
    return np.prod(np.broadcast_arrays(*np.ix_(*factors)), axis=0)


@pytest.mark.parametrize("kind", ["function", "array"])
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_order_with_variable_diffusivity(check_order, n_axes, boundary, kind):
    # u = prod w(x_i), a = 1 + prod c(x_i) / 2
    wave = PI if boundary == "neumann" else 2 * PI
    w = np.cos if boundary == "neumann" else np.sin
    dw = (lambda x: -np.sin(x)) if boundary == "neumann" else np.cos

    def a(*x):
        return 1 + 0.5 * np.prod(np.broadcast_arrays(*(np.cos(2 * PI * x_i) for x_i in x)), axis=0)

    sizes, errors = (16, 32, 64) if n_axes < 3 else (8, 16, 32), []
    for n in sizes:
        shape = (n, n + n // 4, n + n // 2)[:n_axes]
        axes = [axis_grid(m, boundary) for m in shape]
        exact = outer([w(wave * x) for x in axes])
        values = a(*np.ix_(*axes))
        f = n_axes * wave**2 * values * exact
        for i in range(n_axes):
            slopes = [
                (wave * dw(wave * x) * -PI * np.sin(2 * PI * x)) if i == j else w(wave * x) * np.cos(2 * PI * x)
                for j, x in enumerate(axes)
            ]
            f -= outer(slopes)
        error = diffusion_solver(shape, boundary, a if kind == "function" else values)(f[None])[0] - exact
        errors.append(np.abs(error if boundary == "dirichlet" else error - error.mean()).max())
    name = f"Poisson, {n_axes}-D, {boundary}, a(x) as {'a' if kind == 'function' else 'an'} {kind}"
    check_order(name, sizes, errors, 2, atol=0.25)


def test_order_with_variable_diffusivity_against_finite_elements(check_order):
    def f(x, y):
        return np.exp(x) * (1 + y**2)

    points = np.array([(i / 8, j / 8) for i in range(1, 8) for j in range(1, 8)]).T
    mesh = skfem.MeshTri.init_tensor(*[np.linspace(0, 1, 65)] * 2)
    reference = finite_elements(mesh, f, points, diffusivity, lambda x: np.full(x.shape[1], True))
    sizes, errors = (16, 32, 64), []
    for n in sizes:
        u = diffusion_solver((n, n), "dirichlet", diffusivity)(f(*grid((n, n), "dirichlet"))[None])[0]
        errors.append(rms(u[:: n // 8, :: n // 8][1:, 1:].ravel() - reference))
    check_order("Poisson, 2-D, dirichlet, a(x), against finite elements", sizes, errors, 2)


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("shape", [(12,), (12, 9), (8, 7, 6)])
def test_constant_diffusivity_is_that_of_the_fast_solver(boundary, shape):
    f = np.random.RandomState(0).standard_normal((3, *shape))
    expected = box_solver(shape, boundary, 2)(f) / 2.5
    np.testing.assert_allclose(diffusion_solver(shape, boundary, np.full(shape, 2.5))(f), expected, atol=1e-12)


def test_layers_of_two_materials_have_the_flux_of_both_in_series():
    # -(a u')' = 0 but for a unit source in one cell: between the source and the end, the flux is constant.
    a = np.where(np.arange(40) < 20, 1.0, 100.0)
    u = diffusion_solver((40,), "dirichlet", a)(np.eye(40)[5:6])[0]
    slopes = np.diff(np.append(u, 0)) * 40
    assert slopes[10] == pytest.approx(100 * slopes[30])
    assert slopes[19] == pytest.approx(slopes[10] * (1 + 1 / 100) / 2)


def test_every_sample_may_have_its_own_diffusivity():
    rng = np.random.RandomState(0)
    a = np.exp(rng.standard_normal((3, 12, 12)))
    F, U = make_poisson(3, (12, 12), diffusivity=a, forcing="gaussian", random_state=0)
    for i in range(3):
        one = make_poisson(n_samples=1, n_points=(12, 12), diffusivity=a[i], forcing=F[i : i + 1])[1][0]
        np.testing.assert_allclose(U[i], one, atol=1e-15)
        apart = make_poisson(n_samples=1, n_points=(12, 12), diffusivity=a[i - 1], forcing=F[i : i + 1])[1][0]
        assert np.abs(U[i] - apart).max() > 1e-4


def test_a_solver_that_does_not_converge_names_the_sample(monkeypatch):
    monkeypatch.setattr(_sparse, "_MAX_ITERATIONS", 2)
    forcing = np.zeros((5, 8, 8, 8))
    forcing[3] = np.random.RandomState(0).standard_normal((8, 8, 8))
    a = np.exp(np.random.RandomState(1).standard_normal((8, 8, 8)))
    with pytest.raises(RuntimeError, match=r"Sample 3 could not be solved: conjugate gradients did not converge in 2"):
        make_poisson(forcing=forcing, diffusivity=a)


# Masks


def some_mask(shape):
    mask = np.random.RandomState(2).uniform(size=shape) < 0.8
    mask[(slice(0, 3),) * len(shape)] = True  # at the ends of the box, too
    return mask


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("shape", [(20,), (12, 15), (8, 9, 7)])
@pytest.mark.parametrize("variable", [False, True])
def test_data_on_a_mask_obey_the_balance_of_every_cell(shape, boundary, variable):
    inside = some_mask(shape)
    a = np.random.RandomState(1).uniform(1, 3, size=shape) if variable else np.ones(shape)
    F, U, mask = make_poisson(
        *(3, shape),
        domain=inside.tolist(),
        diffusivity=a if variable else None,
        boundary=boundary,
        forcing="gaussian",
        return_mask=True,
        random_state=0,
    )
    np.testing.assert_array_equal(mask, inside)
    assert not F[:, ~inside].any()
    assert not U[:, ~inside].any()
    outflow = 0
    for axis, n in enumerate(shape):
        u, resistance = np.moveaxis(U, axis + 1, 1), np.moveaxis(1 / a, axis, 0)
        for step in (1, -1):
            flux = n**2 * (u - np.roll(u, step, 1)) / ((resistance + np.roll(resistance, step, 0)) / 2)
            if boundary != "periodic":
                end = 0 if step == 1 else -1
                flux[:, end] = 0 if boundary == "neumann" else n**2 * u[:, end] / resistance[end]
            outflow = outflow + np.moveaxis(flux, 1, axis + 1)
    unknown = inside.copy()
    if boundary == "dirichlet":
        for axis in range(len(shape)):
            np.moveaxis(unknown, axis, 0)[0] = False
        assert not U[:, ~unknown].any()
    np.testing.assert_allclose(outflow[:, unknown], F[:, unknown], atol=1e-9)
    assert (U[:, unknown] != 0).all()


@pytest.mark.parametrize(("forcing", "refinement"), [("gaussian", 1), ("grf", 1), ("grf", 3), ("sine", 2)])
def test_the_mask_of_an_l_shape_is_the_l_shape(forcing, refinement):
    options = dict(n_points=(24, 28), forcing=forcing, order=2, refinement=refinement, modes=None, random_state=0)
    options["modes"] = (1, 5) if forcing == "sine" else None
    expected = make_poisson(3, domain="l-shape", **options)
    x, y = grid((24, 28), "dirichlet")
    F, U = make_poisson(3, domain=(x < 0.5) | (y < 0.5), **options)
    np.testing.assert_allclose(F, expected[0], atol=1e-12)
    np.testing.assert_allclose(U, expected[1], atol=1e-14)


@pytest.mark.parametrize(("boundary", "refinement"), [("dirichlet", 4), ("periodic", 2), ("neumann", 3)])
def test_the_boundary_of_a_mask_stays_on_finer_grids(boundary, refinement):
    shape = (12, 10)
    x, y = (axis_grid(n, boundary) for n in shape)
    fine_x, fine_y = (axis_grid(n * refinement, boundary) for n in shape)
    # Points outside are the columns x[2] and x[8], and all to the right of it.
    mask = np.outer((x < x[8]) & (x != x[2]), y >= 0)
    fine = refined_mask(mask, refinement, boundary)
    # Behind the last point there is the first one where u is periodic.
    again = (fine_x > x[-1]) & (boundary == "periodic")
    expected = ((fine_x < x[8] - 1e-9) & (np.abs(fine_x - x[2]) > 1e-9)) | again
    np.testing.assert_array_equal(fine, np.outer(expected, fine_y >= 0))
    np.testing.assert_array_equal(refined_mask(mask.T, refinement, boundary), fine.T)


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_a_mask_without_a_point_outside_is_the_box(boundary):
    options = dict(n_points=(10, 9), boundary=boundary, forcing="gaussian", order=2, random_state=0)
    F, U = make_poisson(3, **options)
    for found, expected in zip(make_poisson(3, domain=np.ones((10, 9), bool), **options), (F, U), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-13)


# Domains in make_poisson


@pytest.mark.parametrize("arguments", [dict(domain="l-shape"), dict(domain="perforated")])
@pytest.mark.parametrize("forcing", ["sine", "gaussian", "grf"])
def test_data_are_zero_outside_the_domain_and_f_determines_u(arguments, forcing):
    F, U, mask = make_poisson(4, (32, 32), forcing=forcing, refinement=1, return_mask=True, random_state=0, **arguments)
    assert 0.7 < mask.mean() < 0.95
    assert not F[:, ~mask].any()
    assert not U[:, ~mask].any()
    assert (F[:, mask] != 0).mean() > 0.8
    if arguments == dict(domain="l-shape"):  # where u = 0, f has no effect
        assert not F[:, 16, 16:].any()
        assert not F[:, 16:, 16].any()
    _, again = make_poisson(forcing=F, **arguments)
    np.testing.assert_allclose(again, U, atol=1e-14)


def test_points_of_the_fine_grid_that_are_kept():
    F, U = make_poisson(2, (24, 24), domain="perforated", random_state=0)
    fine_f, fine_u = make_poisson(2, (48, 48), domain="perforated", refinement=1, random_state=0)
    np.testing.assert_allclose(F, fine_f[:, ::2, ::2], atol=1e-12)
    np.testing.assert_allclose(U, fine_u[:, ::2, ::2], atol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(domain="circle"), "'domain' parameter of make_poisson must be a str among"),
        (dict(domain="l-shape", boundary="neumann"), "boundary='neumann' is not available for domain='l-shape'"),
        (
            dict(domain="l-shape", n_points=256),
            r"two-dimensional, but n_points gives a grid of dimension 1; use for example n_points=\(64, 64\)",
        ),
        (dict(domain="l-shape", n_points=(33, 32), refinement=1), r"\(33, 32\) points to solve on must be even"),
        (dict(domain="l-shape", diffusivity=np.ones((64, 64))), "diffusivity is not available for domain='l-shape'"),
        (dict(domain="perforated", order=4), "order=4 is not available for domain='perforated'"),
        (dict(diffusivity=np.ones((64, 64)), order=4), "order=4 is not available for a variable diffusivity"),
        (dict(domain="perforated", hole_radius=0.5), "'hole_radius' parameter of make_poisson must be a float"),
        (dict(domain="perforated", hole_radius=0.01), "hole_radius=0.01 must be between two cells"),
        (dict(domain="perforated", hole_radius=0.497), "hole_radius=0.497 must be between two cells"),
        (dict(diffusivity=np.ones((64, 32))), r"diffusivity has shape \(64, 32\); it must be \(64, 64\)"),
        (dict(diffusivity=np.zeros((64, 64))), "diffusivity must be positive and finite everywhere; its smallest.* 0"),
        (dict(diffusivity=lambda x, y: x - y), "diffusivity must be positive and finite"),
        (dict(diffusivity=np.full((64, 64), np.nan)), "diffusivity contains NaN"),
        (dict(diffusivity=np.ones((64, 64)), refinement=2), "refinement=2 does not apply to a forcing or coefficient"),
        (dict(diffusivity=lambda x, y: np.ones(5)), r"an array of shape \(5,\) and type float64 .* one real number"),
        (dict(diffusivity=lambda x, y: 1j + x), "and type complex128"),
        (dict(domain=np.ones((64, 32), bool)), r"domain is a mask of shape \(64, 32\); it must be \(64, 64\)"),
        (dict(domain=np.ones((64, 64))), "domain is an array of type float64 .* a mask must be boolean"),
        (dict(domain=np.zeros((64, 64), bool)), "domain is a mask without a point inside"),
        (dict(domain=np.eye(64, k=1 - 64, dtype=bool).T), "domain is a mask without a point in the interior"),
        (dict(domain=np.ma.array(np.ones((64, 64), bool), mask=np.eye(64))), "domain is a masked array with 64 masked"),
        (dict(domain=np.ones((64, 64), bool), order=4), "order=4 is not available for a domain that is a mask"),
        (dict(domain=np.ones((64, 64), bool), boundary="neumann", refinement=2), "does not nest the grids"),
        (dict(device="cuda:77"), "device='cuda:77' cannot be used here"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_poisson(**{"n_samples": 2, "n_points": (64, 64), **arguments})
