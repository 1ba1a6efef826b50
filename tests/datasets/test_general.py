"""Elliptic equations with convection, reaction and anisotropy: exact solutions, dense matrices, other generators."""

import numpy as np
import pytest

from sklearn_hss.datasets import make_elliptic, make_helmholtz, make_poisson
from sklearn_hss.datasets._box import axis_grid

PI = np.pi


def grid(shape, boundary):
    return np.meshgrid(*(axis_grid(n, boundary) for n in shape), indexing="ij")


def bump(*x):
    return 1 + 0.3 * sum(np.cos(2 * PI * x_i + i) for i, x_i in enumerate(x)) / len(x)


def swing(*x):
    return 0.3 * np.prod([np.sin(2 * PI * x_i + 1) for x_i in np.broadcast_arrays(*x)], axis=0)


def wind(*x):
    return 3 * np.cos(2 * PI * sum(x) + 0.5)


def reaction(*x):
    return -7 * (2 + np.sin(2 * PI * sum(x)))


def exact(boundary, *x):
    """A solution that satisfies the boundary condition, and is no product with the axes exchanged."""
    wave = {"dirichlet": np.sin, "neumann": np.cos, "periodic": lambda z: np.sin(2 * z) + 0.5 * np.cos(2 * z)}[boundary]
    return np.prod([wave((1 + i % 2) * PI * x_i) for i, x_i in enumerate(np.broadcast_arrays(*x))], axis=0)


def derivative(function, axis, x, h=2e-3):
    """Eighth-order difference of a smooth function, exact to ten digits or so."""
    weights = [4 / 5, -1 / 5, 4 / 105, -1 / 280]
    total = 0
    for k, weight in enumerate(weights, 1):
        shifted = [[x_j + sign * k * h * (j == axis) for j, x_j in enumerate(x)] for sign in (1, -1)]
        total = total + weight * (function(*shifted[0]) - function(*shifted[1])) / h
    return total


def right_hand_side(u, x, tensor, velocity, c):
    """f = -div(A grad u) + b . grad u + c u."""
    f = c(*x) * u(*x)
    for i, row in enumerate(tensor):

        def flux(*y, row=row):
            return sum(a(*y) * derivative(u, j, y) for j, a in enumerate(row) if a is not None)

        f = f - derivative(flux, i, x) + velocity[i](*x) * derivative(u, i, x)
    return f


def tensor_of(n_axes, mixed):
    diagonal = [lambda *x, i=i: (1 + i) * bump(*x) for i in range(n_axes)]
    return [[diagonal[i] if i == j else swing if mixed else None for j in range(n_axes)] for i in range(n_axes)]


@pytest.mark.parametrize("kind", ["functions", "arrays"])
@pytest.mark.parametrize(
    ("n_axes", "boundary", "mixed"),
    [
        *((n_axes, boundary, False) for n_axes in (1, 2) for boundary in ("dirichlet", "neumann", "periodic")),
        (2, "dirichlet", True),
        (2, "periodic", True),
        (3, "dirichlet", True),
    ],
)
def test_order(check_order, n_axes, boundary, mixed, kind):
    tensor, velocity = tensor_of(n_axes, mixed), [wind] * n_axes

    def u(*x):
        return exact(boundary, *x)

    def given(function, x):
        return function if kind == "functions" else function(*x)

    sizes, errors = (32, 64, 128) if n_axes < 3 else (8, 12, 16), []
    for n in sizes:
        shape = (n, n + n // 4, n)[:n_axes]
        x = grid(shape, boundary)
        f = right_hand_side(u, x, tensor, velocity, reaction)
        a = [[0.0 if a is None else given(a, x) for a in row] for row in tensor] if n_axes > 1 else given(bump, x)
        _, U = make_elliptic(
            diffusivity=a,
            velocity=[given(wind, x)] * n_axes,
            reaction=given(reaction, x),
            boundary=boundary,
            forcing=f[None],
        )
        errors.append(np.sqrt(np.mean((U[0] - u(*x)) ** 2)))
    name = f"elliptic, {n_axes}-D, {boundary}, {'mixed, ' if mixed else ''}a, b and c as {kind}"
    check_order(name, sizes, errors, 2, atol=0.2 if n_axes < 3 else 0.35)


@pytest.mark.parametrize("n_axes", [1, 2])
def test_order_on_a_mask(check_order, n_axes):
    tensor, velocity, sizes, errors = tensor_of(n_axes, n_axes > 1), [wind] * n_axes, (16, 32, 64), []

    def u(*x):
        return np.prod([np.sin(4 * PI * x_i) for x_i in np.broadcast_arrays(*x)], axis=0)

    for n in sizes:
        x = grid((n,) * n_axes, "dirichlet")
        inside = np.all([(x_i > 0.25) & (x_i < 0.75) for x_i in x], axis=0)
        _, U = make_elliptic(
            diffusivity=bump if n_axes == 1 else tensor,
            velocity=velocity,
            reaction=reaction,
            boundary="periodic",
            domain=inside,
            forcing=right_hand_side(u, x, tensor, velocity, reaction)[None],
        )
        assert not U[0, ~inside].any()
        errors.append(np.abs(U[0] - u(*x))[inside].max())
    check_order(f"elliptic, {n_axes}-D, on a mask", sizes, errors, 2, atol=0.3)


@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
@pytest.mark.parametrize("shape", [(12,), (9, 12)])
def test_singular_equations_with_convection(boundary, shape):
    # By the pseudo-inverse of the matrix, whose columns are the responses to a reaction of one added to it.
    velocity = [wind] * len(shape)
    n = int(np.prod(shape))
    _, G = make_elliptic(velocity=velocity, reaction=1.0, boundary=boundary, forcing=np.eye(n).reshape(n, *shape))
    A = np.linalg.inv(G.reshape(n, n).T) - np.eye(n)
    np.testing.assert_allclose(A.sum(axis=1), 0, atol=1e-8)
    assert np.abs(A.sum(axis=0)).max() > 1
    f = np.random.RandomState(0).standard_normal((4, *shape))
    F, U = make_elliptic(velocity=velocity, boundary=boundary, forcing=f)
    np.testing.assert_allclose(U.reshape(4, n) @ A.T, F.reshape(4, n), atol=1e-8)
    np.testing.assert_allclose(U.reshape(4, n).mean(axis=1), 0, atol=1e-12)
    assert np.ptp((f - F).reshape(4, n), axis=1).max() < 1e-12
    assert np.abs(f - F).max() > 1e-3


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("shape", [(12,), (12, 9), (8, 7, 6)])
def test_agrees_with_other_generators(boundary, shape):
    options = dict(n_samples=3, n_points=shape, boundary=boundary, forcing="gaussian", random_state=0)
    a = np.random.RandomState(1).uniform(1, 2, size=shape)
    for found, expected in [
        (make_elliptic(diffusivity=a, **options), make_poisson(diffusivity=a, **options)),
        (make_elliptic(diffusivity=2.5, **options), make_poisson(diffusivity=np.full(shape, 2.5), **options)),
        (make_elliptic(reaction=-25.0, **options), make_helmholtz(wavenumber=5.0, order=2, **options)),
    ]:
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1], expected[1], atol=1e-11 * np.abs(expected[1]).max())


@pytest.mark.parametrize("forcing", ["sine", "grf", "gaussian"])
def test_refinement_and_mask(forcing):
    x, y = grid((24, 24), "dirichlet")
    disk = np.hypot(x - 0.5, y - 0.5) < 0.4
    refinement = 1 if forcing == "gaussian" else 3
    options = dict(velocity=(5.0, wind), reaction=2.0, forcing=forcing, refinement=refinement, random_state=0)
    F, U, mask = make_elliptic(3, (24, 24), domain=disk, return_mask=True, **options)
    np.testing.assert_array_equal(mask, disk)
    assert not F[:, ~disk].any()
    assert not U[:, ~disk].any()
    assert (U[:, disk] != 0).all()
    if refinement > 1:
        _, own = make_elliptic(domain=disk, velocity=(5.0, wind), reaction=2.0, forcing=F)
        assert 1e-4 < np.abs(own - U).max() / np.abs(U).max() < 0.1


def test_forms_of_a_tensor():
    shape = (10, 12)
    options = dict(n_samples=2, n_points=shape, forcing="gaussian", random_state=0)
    constant = [[2, 0.5], [0.5, 1]]
    expected = make_elliptic(diffusivity=constant, **options)[1]
    field = np.multiply.outer(constant, np.ones(shape))
    for same in (np.array(constant), field, [[2.0, lambda x, y: 0.5], [np.full(shape, 0.5), 1.0]]):
        np.testing.assert_allclose(make_elliptic(diffusivity=same, **options)[1], expected, rtol=1e-10)
    f = np.random.RandomState(0).standard_normal((2, *shape))
    turned = make_elliptic(diffusivity=[[1, 0.5], [0.5, 2]], forcing=f.swapaxes(1, 2))[1]
    np.testing.assert_allclose(turned.swapaxes(1, 2), make_elliptic(diffusivity=constant, forcing=f)[1], atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(domain="l-shape"), "'domain' parameter of make_elliptic must be a str among"),
        (dict(domain=np.ones((8, 9), bool)), r"domain is a mask of shape \(8, 9\); it must be \(8, 8\)"),
        (dict(diffusivity=-1.0), "diffusivity must be positive and finite"),
        (dict(diffusivity=np.inf), "diffusivity=inf must be finite"),
        (dict(diffusivity=True), "diffusivity=True must be a number, a callable, or an array of shape"),
        (dict(reaction=np.ones((8, 8), bool)), "reaction holds booleans, such as a mask"),
        (dict(diffusivity=np.ones((8, 9))), r"diffusivity has shape \(8, 9\); it must be \(8, 8\)"),
        (dict(diffusivity=[[1, 2], [2, 1]]), "must be a positive definite tensor everywhere; its smallest .* -1"),
        (dict(diffusivity=[[2, 1], [0.5, 2]]), "diffusivity is not a symmetric tensor"),
        (dict(diffusivity=[[2, 1], [1, 2]], boundary="neumann"), "not available for a diffusivity with mixed"),
        (dict(diffusivity=[[2, np.ones(8)], [1, 2]]), r"diffusivity\[0\]\[1\] has shape \(8,\); it must be \(8, 8\)"),
        (dict(velocity=1.0), "'velocity' parameter"),
        (dict(velocity=(1.0, 2.0, 3.0)), r"velocity has shape \(3,\); it must hold one number, callable or array"),
        (dict(velocity=(1.0, np.ones(8))), r"velocity\[1\] has shape \(8,\); it must be \(8, 8\)"),
        (dict(velocity=(lambda x, y: x + np.inf, 1.0)), r"velocity\[0\] returned values that are not finite"),
        (dict(reaction=np.nan), "reaction=nan must be finite"),
        (dict(reaction=lambda x, y: np.ones(5)), r"reaction returned an array of shape \(5,\)"),
        (dict(reaction=np.ones((8, 8)), refinement=3), "refinement=3 does not apply to a forcing or coefficient"),
        (dict(reaction=-2 * 64 * 4 * np.sin(PI / 16) ** 2), "f does not determine u: its matrix is singular"),
        (dict(reaction=-(64 * 4 * np.sin(PI / 8) ** 2), boundary="periodic"), "f does not determine u"),
        (dict(boundary="neumann", refinement=2), "refinement=2 does not nest the grids"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_elliptic(**{"n_samples": 2, "n_points": (8, 8), "random_state": 0, **arguments})
