import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import scipy.sparse.linalg
import scipy.stats
import torch
from scipy.ndimage import convolve

from sklearn_hss.datasets import _elliptic, make_poisson
from sklearn_hss.datasets._box import axis_grid, box_solver

PI = np.pi

# name: boundary, f, u, slope of f at both ends (None where it is zero)
EXACT = {
    "dirichlet, odd mode": (
        "dirichlet",
        lambda x: np.sin(3 * PI * x),
        lambda x: np.sin(3 * PI * x) / (3 * PI) ** 2,
        None,
    ),
    "dirichlet, polynomial": (
        "dirichlet",  # f = f'' = 0 at both ends
        lambda x: 3 * x**5 - 10 * x**3 + 7 * x,
        lambda x: -(x**7) / 14 + x**5 / 2 - 7 * x**3 / 6 + 31 * x / 42,
        None,
    ),
    "neumann, cosine": ("neumann", lambda x: np.cos(3 * PI * x), lambda x: np.cos(3 * PI * x) / (3 * PI) ** 2, None),
    "neumann, sine": (
        "neumann",
        lambda x: np.sin(4 * PI * x),
        lambda x: np.sin(4 * PI * x) / (4 * PI) ** 2 - (x - 0.5) / (4 * PI),
        4 * PI,
    ),
    "periodic": (
        "periodic",
        lambda x: np.sin(4 * PI * x) + np.cos(2 * PI * x),
        lambda x: np.sin(4 * PI * x) / (4 * PI) ** 2 + np.cos(2 * PI * x) / (2 * PI) ** 2,
        None,
    ),
}


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("name", EXACT)
def test_observed_order_of_convergence_is_the_nominal_one(check_order, name, order):
    boundary, f, exact, slope = EXACT[name]
    sizes, errors = (32, 64, 128), []
    for n in sizes:
        x = axis_grid(n, boundary)
        u = box_solver((n,), boundary, order)(f(x)[None], None if slope is None else [np.array([slope])])
        errors.append(np.abs(u - exact(x)).max())
    check_order(f"Poisson, 1-D, {name}, {order + 1} points", sizes, errors, order)


def outer(*factors):
    return np.prod(np.broadcast_arrays(*np.ix_(*factors)), axis=0)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("n_axes", [1, 2, 3])
@pytest.mark.parametrize("wavenumber", [None, 5.0])
def test_observed_order_of_convergence_on_a_box(check_order, n_axes, boundary, order, wavenumber):
    sizes, errors = (16, 32, 64), []
    for n in sizes:
        shape = (n, n + n // 4, n + n // 2)[:n_axes]
        grids = [axis_grid(m, boundary) for m in shape]
        slopes = None
        if boundary == "neumann":  # f has a slope at the boundary, which the even reflection does not expect
            factors = [np.sin(4 * PI * x) / (4 * PI) ** 2 - (x - 0.5) / (4 * PI) for x in grids]
            seconds = [-np.sin(4 * PI * x) for x in grids]
            slopes = [4 * PI * outer(*factors[:i], *factors[i + 1 :])[None] for i in range(n_axes)]
        else:
            waves = PI * (np.array([3, 2, 1]) if boundary == "dirichlet" else np.array([2, 4, 2]))
            factors = [np.sin(wave * x) for wave, x in zip(waves, grids, strict=False)]
            seconds = [-(wave**2) * u for wave, u in zip(waves, factors, strict=False)]
        exact = outer(*factors)
        f = -sum(outer(*factors[:i], seconds[i], *factors[i + 1 :]) for i in range(n_axes))
        f -= (wavenumber or 0) ** 2 * exact
        error = box_solver(shape, boundary, order, wavenumber)(f[None], slopes)[0] - exact
        if wavenumber is None and boundary != "dirichlet":
            error -= error.mean()
        errors.append(np.abs(error).max())
    equation = f"Helmholtz, kappa {wavenumber}" if wavenumber else "Poisson"
    points = "19 points" if n_axes == 3 and order == 4 else f"{order + 1} points per axis"
    check_order(f"{equation}, {n_axes}-D, {boundary}, {points}", sizes, errors, order)


def test_zeroed_ends_cost_the_default_data_one_order(check_order):
    # As the paper prescribes, f is set to zero at the outermost points; otherwise this is the exact series solution.
    sizes, errors = (64, 128, 256), []
    for n in sizes:
        _, U = make_poisson(20, n, modes=(1, 3), refinement=1, random_state=0)
        waves = 2 * PI * np.arange(1, 4)[:, None]
        coefficients = np.random.RandomState(0).uniform(size=(20, 3))
        exact = coefficients @ (np.sin(waves * axis_grid(n, "dirichlet")) / waves**2)
        errors.append(np.abs(U - exact).max())
    check_order("Poisson, 1-D, the paper's f, zeroed at the ends, 5 points", sizes, errors, 3)


def stencil_matrix(n, boundary, order):
    """The scheme written out row by row; values beyond the boundary are those of the reflected index."""
    stencil = {2: {0: 2, 1: -1}, 4: {0: 5 / 2, 1: -4 / 3, 2: 1 / 12}}[order]
    A = np.zeros((n, n))
    for row in range(n):
        for offset in range(-order // 2, order // 2 + 1):
            col, sign = row + offset, 1
            if boundary == "periodic":
                col %= n
            elif boundary == "neumann":
                col = -1 - col if col < 0 else 2 * n - 1 - col if col >= n else col
            elif col in (0, n):
                continue  # u vanishes at both ends
            elif not 0 < col < n:
                col, sign = (-col if col < 0 else 2 * n - col), -1
            A[row, col] += sign * stencil[abs(offset)] * n**2
    if boundary == "dirichlet":
        A[0] = A[:, 0] = 0
        A[0, 0] = 1
    return A


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("n_points", [5, 16, 37])
def test_agrees_with_a_dense_solve_of_the_stencil(boundary, order, n_points):
    F, U = make_poisson(6, n_points, boundary=boundary, forcing="gaussian", order=order, random_state=0)
    A = stencil_matrix(n_points, boundary, order)
    np.testing.assert_allclose(U @ A.T, F, atol=1e-9 * n_points**2)
    if boundary != "dirichlet":
        np.testing.assert_allclose(U.mean(axis=1), 0, atol=1e-12)


def apply_stencil(kernel, fields, boundary):
    """Convolution with the kernel, the values beyond the boundary filled in by reflection."""
    axes = fields.ndim - 1
    if boundary == "dirichlet":  # the end x = 1, where u is zero, belongs to the reflection
        fields = np.pad(fields, [(0, 0), *[(0, 1)] * axes])
    mode = {
        "dirichlet": {"mode": "reflect", "reflect_type": "odd"},
        "neumann": {"mode": "symmetric"},
        "periodic": {"mode": "wrap"},
    }[boundary]
    applied = convolve(np.pad(fields, [(0, 0), *[(2, 2)] * axes], **mode), kernel[None], mode="constant")
    end = -3 if boundary == "dirichlet" else -2
    return applied[(slice(None), *[slice(2, end)] * axes)]


def cross(n_points, order):
    weights = {2: [0, -1, 2, -1, 0], 4: [1 / 12, -4 / 3, 5 / 2, -4 / 3, 1 / 12]}[order]
    kernel = np.zeros((5,) * len(n_points))
    for axis, n in enumerate(n_points):
        np.moveaxis(kernel, axis, -1)[(2,) * (len(n_points) - 1)] += n**2 * np.array(weights)
    return kernel


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize(
    ("n_points", "order"), [((16, 16), 2), ((16, 16), 4), ((9, 20), 4), ((5, 8, 7), 2), ((5, 5, 6, 7), 2)]
)
def test_box_solutions_satisfy_the_cross_stencil(boundary, n_points, order):
    F, U = make_poisson(3, n_points, boundary=boundary, forcing="gaussian", order=order, random_state=0)
    assert F.shape == U.shape == (3, *n_points)
    interior = (slice(None), *[slice(1, None) if boundary == "dirichlet" else slice(None)] * len(n_points))
    residual = apply_stencil(cross(n_points, order), U, boundary) - F
    assert np.abs(residual[interior]).max() < 1e-10


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_3d_solutions_satisfy_the_19_point_stencil(boundary):
    F, U = make_poisson(3, (12, 12, 12), boundary=boundary, forcing="gaussian", random_state=0)
    distance = np.abs(np.indices((3, 3, 3)) - 1).sum(axis=0)
    left = np.choose(distance, [24, -2, -1, 0]) * 12**2 / 6
    right = np.choose(distance, [6, 1, 0, 0]) / 12
    residual = apply_stencil(left, U, boundary) - apply_stencil(right, F, boundary)
    interior = (slice(None), *[slice(1, None) if boundary == "dirichlet" else slice(None)] * 3)
    assert np.abs(residual[interior]).max() < 1e-10


def test_default_is_the_data_of_appendix_f_2_1():
    F, U = make_poisson(5, random_state=3)
    coefficients = np.random.RandomState(3).uniform(size=(5, 10))
    x = np.arange(1024) / 1024
    f = coefficients @ np.sin(2 * PI * np.arange(1, 11)[:, None] * x)
    f[:, [0, 1, -2, -1]] = 0
    # The banded solve of the paper: five diagonals over the interior points.
    bands = np.zeros((3, 1023))
    bands[0], bands[1], bands[2] = 1 / 12, -4 / 3, 5 / 2
    bands[2, [0, -1]] -= 1 / 12
    u = scipy.linalg.solveh_banded(bands * 1024.0**2, f[:, 1:].T).T
    np.testing.assert_allclose(F, f[:, ::4], atol=1e-13)
    np.testing.assert_allclose(U[:, 1:], u[:, 3::4], atol=1e-11)
    np.testing.assert_array_equal(U[:, 0], 0)


def test_default_in_2d_is_the_data_of_appendix_f_2_2():
    F, U = make_poisson(4, (64, 64), random_state=3)
    coefficients = np.random.RandomState(3).uniform(size=(4, 10, 10))
    waves = np.sin(2 * PI * np.arange(1, 11)[:, None] * np.arange(128) / 128)
    f = np.einsum("nkl,kx,ly->nxy", coefficients, waves, waves)
    A = scipy.sparse.csc_array(stencil_matrix(128, "dirichlet", 4)[1:, 1:])
    one = scipy.sparse.eye(127)
    nine_points = scipy.sparse.kron(A, one) + scipy.sparse.kron(one, A)
    u = scipy.sparse.linalg.spsolve(nine_points.tocsc(), f[:, 1:, 1:].reshape(4, -1).T).T.reshape(4, 127, 127)
    np.testing.assert_allclose(F, f[:, ::2, ::2], atol=1e-12)
    np.testing.assert_allclose(U[:, 1:, 1:], u[:, 1::2, 1::2], atol=1e-12)
    assert not U[:, 0].any()
    assert not U[:, :, 0].any()


def test_default_in_3d_is_the_data_of_appendix_f_2_3():
    F, U = make_poisson(3, (32, 24, 40), refinement=3, random_state=3)
    rng = np.random.RandomState(3)
    k = rng.randint(3, 24, size=(3, 3, 20))
    coefficients = rng.uniform(size=(3, 20, 20, 20))
    f, u = np.zeros((2, 3, 32, 24, 40))
    for i in range(3):
        waves = [np.sin(PI * k[axis, i, :, None] * np.arange(n) / n) for axis, n in enumerate((32, 24, 40))]
        squares = sum(np.ix_(*(PI * k[:, i]) ** 2))
        f[i] = np.einsum("abc,ax,by,cz->xyz", coefficients[i], *waves, optimize=True)
        u[i] = np.einsum("abc,ax,by,cz->xyz", coefficients[i] / squares, *waves, optimize=True)
    np.testing.assert_allclose(F, f, atol=1e-10)
    np.testing.assert_allclose(U, u, atol=5e-4 * np.abs(u).max())


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("forcing", ["sine", "grf"])
@pytest.mark.parametrize("n_points", [(32, 24), (24, 20, 26)])
def test_smooth_data_on_a_box_hardly_depend_on_the_refinement(n_points, forcing, boundary):
    modes = (1, 6) if len(n_points) == 2 else (1, 3)
    arguments = {"boundary": boundary, "forcing": forcing, "modes": modes, "length_scale": 0.3, "random_state": 0}
    F, U = make_poisson(3, n_points, **arguments)
    fine_F, fine_U = make_poisson(3, n_points, **arguments, refinement=5)
    # The mean that a Neumann or periodic problem takes off is that of the grid.
    np.testing.assert_allclose(F, fine_F, atol=1e-10)
    assert np.abs(U - fine_U).max() < 5e-3 * np.abs(U).max()


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("forcing", ["sine", "gaussian", "grf"])
def test_batches_do_not_show(monkeypatch, forcing, boundary):
    arguments = {"n_samples": 7, "n_points": (24, 22), "boundary": boundary, "forcing": forcing, "random_state": 0}
    whole = make_poisson(**arguments)
    monkeypatch.setattr(_elliptic, "_BATCH", 3 * 24 * 22)
    np.testing.assert_allclose(make_poisson(**arguments), whole, atol=1e-12)


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("forcing", ["sine", "grf"])
def test_smooth_data_hardly_depend_on_the_refinement(boundary, forcing):
    # 9 refines further than the default, and nests the grids of all boundary conditions.
    arguments = {"boundary": boundary, "forcing": forcing, "modes": (1, 6), "random_state": 0}
    F, U = make_poisson(4, 64, **arguments)
    fine_F, fine_U = make_poisson(4, 64, **arguments, refinement=9)
    np.testing.assert_allclose(F[:, 1:], fine_F[:, 1:], atol=1e-10)
    # The paper sets f to zero at the two outermost points of the fine grid, which moves with the refinement.
    tolerance = 2e-3 if (boundary, forcing) == ("dirichlet", "sine") else 2e-4
    assert np.abs(U - fine_U).max() < tolerance * np.abs(U).max()


@pytest.mark.parametrize(("modes", "rank"), [((1, 10), 10), ((11, 40), 30), ((3, 3), 1)])
def test_modes_span_their_number_of_dimensions(modes, rank):
    F, _ = make_poisson(60, modes=modes, random_state=0)
    values = np.linalg.svd(F, compute_uv=False)
    assert np.sum(values > 1e-8 * values[0]) == rank


def test_2d_modes_span_their_products():
    F, _ = make_poisson(150, (32, 40), modes=(2, 5), random_state=0)
    for unfolded, rank in ((F.reshape(150, -1), 16), (F.reshape(-1, 40), 4)):
        values = np.linalg.svd(unfolded, compute_uv=False)
        assert np.sum(values > 1e-8 * values[0]) == rank


def test_gaussian_forcing_is_white():
    F, _ = make_poisson(4000, 20, forcing="gaussian", random_state=0)
    np.testing.assert_allclose(np.cov(F[:, 1:], rowvar=False), np.eye(19), atol=0.1)
    np.testing.assert_array_equal(F[:, 0], 0)


@pytest.mark.parametrize("length_scale", [0.05, 0.2])
def test_random_fields_have_the_covariance_they_claim(length_scale):
    # Periodic fields are stationary: squared-exponential, wrapped around, without the constant mode, of unit variance.
    F, _ = make_poisson(
        4000, 64, boundary="periodic", forcing="grf", length_scale=length_scale, refinement=1, random_state=0
    )
    distance = np.arange(64) / 64
    wrapped = sum(np.exp(-((distance + shift) ** 2) / (2 * length_scale**2)) for shift in range(-3, 4))
    wrapped -= wrapped.mean()
    np.testing.assert_allclose(np.mean(F[:, :1] * F, axis=0), wrapped / wrapped[0], atol=0.1)


def test_random_fields_on_a_square_have_the_covariance_they_claim():
    F, _ = make_poisson(4000, (24, 20), boundary="periodic", forcing="grf", length_scale=0.15, random_state=0)
    wrapped = outer(
        *(sum(np.exp(-((np.arange(n) / n + shift) ** 2) / (2 * 0.15**2)) for shift in range(-3, 4)) for n in (24, 20))
    )
    wrapped -= wrapped.mean()
    np.testing.assert_allclose(np.mean(F[:, :1, :1] * F, axis=0), wrapped / wrapped[0, 0], atol=0.1)


def test_neumann_fields_on_a_square_have_the_reflected_covariance():
    F, _ = make_poisson(4000, (16, 16), boundary="neumann", forcing="grf", length_scale=0.2, random_state=0)
    x = axis_grid(16, "neumann")
    axis = sum(
        np.exp(-((x[:, None] - sign * x + shift) ** 2) / (2 * 0.2**2)) for shift in range(-4, 6, 2) for sign in (1, -1)
    )
    covariance = np.einsum("ab,cd->acbd", axis, axis)
    covariance -= covariance.mean()
    covariance /= np.mean(np.einsum("abab->ab", covariance))
    np.testing.assert_allclose(np.einsum("nab,ncd->abcd", F, F) / 4000, covariance, atol=0.4)
    np.testing.assert_allclose(np.mean(F**2, axis=0), np.einsum("abab->ab", covariance), rtol=0.15)


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("n_points", [128, (24, 30), (8, 10, 12)])
def test_random_fields_have_unit_variance(boundary, n_points):
    F, _ = make_poisson(2000, n_points, boundary=boundary, forcing="grf", length_scale=0.2, random_state=0)
    assert F.var() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("n_points", [64, (20, 24)])
def test_random_fields_have_the_spectrum_they_claim_within_the_sampling_error(n_points):
    F, _ = make_poisson(3000, n_points, forcing="grf", length_scale=0.15, refinement=1, random_state=0)
    axes = tuple(range(1, F.ndim))
    inside = (slice(None), *[slice(1, None)] * len(axes))
    coefficients = scipy.fft.dstn(F[inside], type=1, axes=axes)
    observed = np.mean(coefficients**2, axis=0)
    squares = sum(np.ix_(*((PI * np.arange(1, n)) ** 2 for n in F.shape[1:])))
    expected = np.exp(-squares * 0.15**2 / 2)
    expected *= observed.sum() / expected.sum()
    kept = expected > 1e-12 * expected.max()
    deviations = (observed / expected)[kept] - 1  # of a chi-squared variable with 3000 degrees of freedom
    assert kept.sum() > 10
    assert np.abs(deviations).max() < 5 * np.sqrt(2 / 3000)
    assert deviations.std() > 0.5 * np.sqrt(2 / 3000)


def test_coefficients_of_the_sine_series_are_uniform_within_the_sampling_error():
    F, _ = make_poisson(400, (32, 32), refinement=1, random_state=0)
    waves = np.sin(2 * PI * np.arange(1, 11)[:, None] * axis_grid(32, "dirichlet"))
    coefficients = np.einsum("nxy,kx,ly->nkl", F, waves, waves) / 16**2
    assert scipy.stats.kstest(coefficients.ravel(), "uniform").pvalue > 0.01
    correlations = np.corrcoef(coefficients.reshape(400, 100), rowvar=False)[np.triu_indices(100, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(400)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("shape", [(8, 7), (9, 8, 6)])
@pytest.mark.parametrize("wavenumber", [None, 4.0])
def test_products_with_eigenvectors_are_the_fast_transforms(shape, boundary, order, wavenumber):
    f = np.random.RandomState(0).standard_normal((3, *shape))
    slopes = [f.mean(axis=axis) for axis in range(1, f.ndim)] if boundary == "neumann" else None
    expected = box_solver(shape, boundary, order, wavenumber)(f, slopes)
    u = box_solver(shape, boundary, order, wavenumber, torch.device("cpu"))(f, slopes)
    np.testing.assert_allclose(u, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_cuda_solves_in_three_dimensions_as_the_cpu_does():
    arguments = {"n_samples": 3, "n_points": (64, 64, 64), "random_state": 0}
    F, U = make_poisson(**arguments, device="cuda")
    expected_f, expected_u = make_poisson(**arguments, device="cpu")
    np.testing.assert_array_equal(F, expected_f)
    np.testing.assert_allclose(U, expected_u, atol=1e-12 * np.abs(expected_u).max())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_a_device_is_refused_where_scipy_solves():
    with pytest.raises(ValueError, match="device='cuda' requires a three-dimensional box with constant diffusivity"):
        make_poisson(3, 64, device="cuda")


def test_random_fields_of_a_seed_do_not_depend_on_the_grid():
    coarse, _ = make_poisson(3, 64, forcing="grf", random_state=0)
    fine, _ = make_poisson(3, 256, forcing="grf", random_state=0)
    np.testing.assert_allclose(coarse, fine[:, ::4], atol=1e-12)


def test_given_forcing():
    f = np.random.RandomState(0).standard_normal((3, 12))
    before = f.copy()
    F, U = make_poisson(forcing=f, boundary="neumann")
    np.testing.assert_array_equal(f, before)
    np.testing.assert_allclose(F, f - f.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(U @ stencil_matrix(12, "neumann", 4).T, F, atol=1e-8)


def test_given_forcing_on_a_box_is_the_inverse_operator():
    f = np.random.RandomState(0).standard_normal((3, 8, 9))
    F, U = make_poisson(forcing=f)
    np.testing.assert_array_equal(F, f)
    _, V = make_poisson(forcing=f[::-1])
    np.testing.assert_allclose(np.sum(f * V, axis=(1, 2)), np.sum(f[::-1] * U, axis=(1, 2)))  # it is symmetric


@pytest.mark.parametrize("n_points", [64, (24, 32), (24, 25, 26)])
def test_same_seed_same_data(n_points):
    for forcing in ("sine", "gaussian", "grf"):
        first, second = (make_poisson(3, n_points, forcing=forcing, random_state=1) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, make_poisson(3, n_points, forcing=forcing, random_state=2))


@pytest.mark.parametrize("forcing", ["sine", "gaussian", "grf"])
def test_one_axis_as_a_tuple(forcing):
    data = (make_poisson(3, n, forcing=forcing, random_state=1) for n in (64, (64,)))
    np.testing.assert_array_equal(*data)


@pytest.mark.parametrize("n_points", [2, 3, 7, 101, 256])
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_any_size(n_points, boundary):
    F, U = make_poisson(4, n_points, boundary=boundary, forcing="grf", random_state=0)
    assert F.shape == U.shape == (4, n_points)
    assert np.isfinite(U).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_samples": 0}, "'n_samples' parameter"),
        ({"n_points": 1}, "'n_points' parameter"),
        ({"n_points": (8, 1)}, r"n_points=\(8, 1\) must be an integer of at least 2, or a tuple"),
        ({"n_points": ()}, r"n_points=\(\) must be"),
        ({"n_points": (8, 8.5)}, r"n_points=\(8, 8.5\) must be"),
        ({"boundary": "robin"}, "'boundary' parameter"),
        ({"forcing": "cosine"}, "'forcing' parameter"),
        ({"forcing": [[np.nan] * 8] * 2}, "forcing contains NaN"),
        ({"length_scale": 0}, "'length_scale' parameter"),
        ({"order": 3}, "'order' parameter"),
        (
            {"modes": (1, 128)},
            r"modes=\(1, 128\) cannot be represented on n_points=256: the largest mode that can is 127",
        ),
        (
            {"n_points": (64, 16)},
            r"modes=\(1, 10\) cannot be represented on n_points=\(64, 16\): the largest mode that can is 7",
        ),
        (
            {"n_points": (16, 32, 32)},
            r"modes=\(3, 23\) cannot be represented on n_points=\(16, 32, 32\): the largest mode that can is 15",
        ),
        ({"modes": (4, 2)}, r"modes=\(4, 2\) must satisfy 1 <= first <= last"),
        ({"modes": (1, 2.5)}, "must be a pair of integers"),
        ({"refinement": 2, "forcing": "gaussian"}, "refinement=2 does not apply"),
        ({"refinement": 4, "boundary": "neumann"}, "refinement=4 does not nest the grids"),
        ({"n_points": 2, "forcing": "gaussian"}, "n_points=2 with refinement=1 is too small"),
        ({"random_state": "x"}, "'random_state' parameter"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_poisson(**arguments)
