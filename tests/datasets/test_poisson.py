import numpy as np
import pytest
import scipy.linalg

from sklearn_hss.datasets import make_poisson
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
def test_observed_order_of_convergence_is_the_nominal_one(name, order):
    boundary, f, exact, slope = EXACT[name]
    errors = []
    for n in (32, 64, 128):
        x = axis_grid(n, boundary)
        u = box_solver((n,), boundary, order)(f(x)[None], None if slope is None else [np.array([slope])])
        errors.append(np.abs(u - exact(x)).max())
    observed = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(observed, order, atol=0.1)


def test_zeroed_ends_cost_the_default_data_one_order():
    # As the paper prescribes, f is set to zero at the outermost points; otherwise this is the exact series solution.
    errors = []
    for n in (64, 128, 256):
        _, U = make_poisson(20, n, modes=(1, 3), refinement=1, random_state=0)
        waves = 2 * PI * np.arange(1, 4)[:, None]
        coefficients = np.random.RandomState(0).uniform(size=(20, 3))
        exact = coefficients @ (np.sin(waves * axis_grid(n, "dirichlet")) / waves**2)
        errors.append(np.abs(U - exact).max())
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 3, atol=0.1)


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


@pytest.mark.parametrize(("boundary", "variance"), [("dirichlet", 1), ("neumann", 1), ("periodic", 1)])
def test_random_fields_have_unit_variance(boundary, variance):
    F, _ = make_poisson(2000, 128, boundary=boundary, forcing="grf", random_state=0)
    assert F.var() == pytest.approx(variance, rel=0.05)


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


def test_same_seed_same_data():
    for forcing in ("sine", "gaussian", "grf"):
        first, second = (make_poisson(3, 64, forcing=forcing, random_state=1) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, make_poisson(3, 64, forcing=forcing, random_state=2))


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
        ({"boundary": "robin"}, "'boundary' parameter"),
        ({"forcing": "cosine"}, "'forcing' parameter"),
        ({"forcing": [[np.nan] * 8] * 2}, "forcing contains NaN"),
        ({"length_scale": 0}, "'length_scale' parameter"),
        ({"order": 3}, "'order' parameter"),
        (
            {"modes": (1, 128)},
            r"modes=\(1, 128\) cannot be represented on n_points=256: the largest mode that can is 127",
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
