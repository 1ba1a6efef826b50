import numpy as np
import pytest
import scipy.linalg

from sklearn_hss.datasets import make_heat

PI = np.pi


def stencil(n_points, boundary):
    """Second differences written out on the grid that is returned."""
    n_intervals = n_points if boundary == "periodic" else n_points - 1
    A = np.zeros((n_points, n_points))
    for j in range(n_points):
        if boundary == "periodic" or 0 < j < n_points - 1:
            A[j, j - 1] += n_intervals**2
            A[j, j] -= 2 * n_intervals**2
            A[j, (j + 1) % n_points] += n_intervals**2
    return A


@pytest.mark.parametrize("solver", ["exact", "bdf"])
@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
def test_order_in_space(boundary, solver, check_order):
    kappa, times = 0.01, np.arange(5)
    resolutions, errors = [16, 32, 64], []
    for n in resolutions:
        if boundary == "dirichlet":
            waves, x = PI * np.array([1, 3]), np.linspace(0, 1, n + 1)
            modes = np.sin(waves[:, None] * x)
        else:
            waves, x = 2 * PI * np.array([1, 2]), np.arange(n) / n
            modes = np.cos(waves[:, None] * x - 1)
        _, U = make_heat(
            initial=[modes.sum(axis=0)],
            diffusivity=kappa,
            boundary=boundary,
            t_final=4,
            store_every=1,
            step=1,
            solver=solver,
            rtol=1e-8,
            atol=1e-10,
            return_trajectories=True,
        )
        errors.append(np.abs(U[0] - np.exp(-kappa * np.outer(times, waves**2)) @ modes).max())
    check_order(f"heat, {boundary}, central differences in space, {solver} in time", resolutions, errors, 2)


@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
@pytest.mark.parametrize("n_points", [5, 20, 33])
def test_exact_solver_is_the_matrix_exponential(boundary, n_points):
    u = np.random.RandomState(0).standard_normal((3, n_points))
    if boundary == "dirichlet":
        u[:, [0, -1]] = 0
    arguments = {"diffusivity": 0.01, "boundary": boundary, "t_final": 2, "store_every": 0.5, "step": 0.5}
    times, U = make_heat(initial=u, solver="exact", return_trajectories=True, **arguments)
    expected = [u @ scipy.linalg.expm(0.01 * t * stencil(n_points, boundary)).T for t in times]
    np.testing.assert_allclose(U, np.stack(expected, axis=1), atol=1e-13)


@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
def test_error_of_bdf_falls_with_its_tolerances(boundary):
    arguments = {"n_samples": 3, "n_points": 64, "boundary": boundary, "random_state": 0}
    exact = np.array(make_heat(solver="exact", **arguments))
    errors = [
        np.abs(np.array(make_heat(rtol=rtol, atol=rtol / 100, **arguments)) - exact).max()
        for rtol in (1e-3, 1e-5, 1e-7, 1e-9)
    ]
    assert np.all(np.array(errors) < [1e-2, 1e-4, 1e-6, 1e-8])
    assert np.all(np.array(errors[1:]) < 0.2 * np.array(errors[:-1]))


def test_default_is_the_data_of_the_paper():
    c = np.random.RandomState(3).uniform(size=(5, 10))
    k = np.arange(1, 11)
    x = np.linspace(0, 1, 1024)
    sines = np.sin(PI * k[:, None] * x)
    c /= np.abs(2 * c @ sines).max(axis=1, keepdims=True)
    eigenvalues = (2 * 1023 * np.sin(PI * k / 2046)) ** 2  # of the second differences
    times = 0.2 * np.arange(41)
    states = np.einsum("nk,tk,kx->ntx", 2 * c, np.exp(-2e-4 * np.outer(times, eigenvalues)), sines)[..., ::4]
    U_t, U_next = make_heat(5, solver="exact", random_state=3)
    np.testing.assert_allclose(U_t, states[:, :-4].reshape(-1, 256), atol=1e-12)
    np.testing.assert_allclose(U_next, states[:, 4:].reshape(-1, 256), atol=1e-12)
    times_of_bdf, bdf = make_heat(5, return_trajectories=True, random_state=3)
    np.testing.assert_allclose(times_of_bdf, times, atol=1e-12)
    np.testing.assert_allclose(bdf, states, atol=5e-4)  # rtol=1e-4 for each of some thirty steps
    continuous = np.einsum("nk,tk,kx->ntx", 2 * c, np.exp(-2e-4 * np.outer(times, (PI * k) ** 2)), sines)[..., ::4]
    np.testing.assert_allclose(states, continuous, atol=1e-4)


@pytest.mark.parametrize("initial", ["gaussian", "grf", "sine"])
@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
def test_energy_and_extrema_shrink_and_heat_is_conserved(boundary, initial):
    _, U = make_heat(
        10, 64, boundary=boundary, initial=initial, solver="exact", return_trajectories=True, random_state=0
    )
    assert np.all(np.diff(np.sum(U**2, axis=-1), axis=1) < 0)
    assert np.all(np.diff(U.max(axis=-1), axis=1) < 1e-12)
    assert np.all(np.diff(U.min(axis=-1), axis=1) > -1e-12)
    if boundary == "periodic":
        np.testing.assert_allclose(U.mean(axis=-1), np.broadcast_to(U[:, :1].mean(axis=-1), U.shape[:2]), atol=1e-14)


def test_energy_shrinks_with_bdf():
    _, U = make_heat(5, return_trajectories=True, random_state=0)
    assert np.all(np.diff(np.sum(U**2, axis=-1), axis=1) < 0)
    assert np.all(np.abs(U) <= 1 + 1e-4)


@pytest.mark.parametrize("solver", ["exact", "bdf"])
def test_symmetry_about_the_middle_stays(solver):
    x = np.linspace(0, 1, 65)
    odd, even = np.sin(4 * PI * x) * np.exp(np.sin(2 * PI * x) ** 2), np.sin(3 * PI * x) ** 3
    _, U = make_heat(initial=[odd, even], diffusivity=1e-3, solver=solver, return_trajectories=True)
    np.testing.assert_allclose(U[0, :, ::-1], -U[0], atol=1e-12)
    np.testing.assert_allclose(U[1, :, ::-1], U[1], atol=1e-12)
    assert np.abs(U[:, -1] - U[:, 0]).max() > 0.01


def test_exact_solver_is_linear():
    a, b = np.random.RandomState(0).standard_normal((2, 4, 30))
    a[:, [0, -1]] = b[:, [0, -1]] = 0
    combined, U_a, U_b = (np.array(make_heat(initial=u, solver="exact")) for u in (2 * a - 3 * b, a, b))
    np.testing.assert_allclose(combined, 2 * U_a - 3 * U_b, atol=1e-13)


def test_returned_points_do_not_depend_on_the_solver_s_grid_where_u_is_periodic():
    arguments = {"n_samples": 3, "n_points": 64, "boundary": "periodic", "solver": "exact", "random_state": 0}
    coarse, fine = (np.array(make_heat(refinement=refinement, modes=(1, 4), **arguments)) for refinement in (4, 16))
    np.testing.assert_allclose(coarse, fine, atol=1e-3)


@pytest.mark.parametrize("value", [0, -1e-4, np.inf, np.nan, "large"])
def test_bad_diffusivity_is_refused(value):
    with pytest.raises(ValueError, match="'diffusivity' parameter"):
        make_heat(diffusivity=value)
