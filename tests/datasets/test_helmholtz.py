import numpy as np
import pytest

from sklearn_hss.datasets import make_helmholtz, make_poisson

PI = np.pi


def test_default_is_the_data_of_appendix_f_4():
    F, U = make_helmholtz(4, random_state=3)
    np.testing.assert_array_equal(F, make_poisson(4, (64, 64), random_state=3)[0])
    # Every mode of the series is an eigenfunction of the nine-point cross on 128 x 128 points.
    k = np.arange(1, 11)
    waves = np.sin(2 * PI * k[:, None] * np.arange(64) / 64)
    symbol = (2 * np.sin(PI * k / 128)) ** 2
    symbol = (symbol + symbol**2 / 12) * 128**2
    coefficients = np.random.RandomState(3).uniform(size=(4, 10, 10)) / (symbol[:, None] + symbol - 70**2)
    np.testing.assert_allclose(U, np.einsum("nkl,kx,ly->nxy", coefficients, waves, waves), atol=1e-13)


def second_difference(n, boundary):
    A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    if boundary == "periodic":
        A[0, -1] = A[-1, 0] = -1
    elif boundary == "neumann":
        A[0, 0] = A[-1, -1] = 1
    return A * n**2


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("n_points", [(30,), (12, 9), (6, 7, 8)])
def test_agrees_with_a_dense_solve(n_points, order, boundary):
    F, U = make_helmholtz(
        4, n_points, wavenumber=11.0, boundary=boundary, forcing="gaussian", order=order, random_state=0
    )
    inside = (slice(None), *[slice(1, None) if boundary == "dirichlet" else slice(None)] * len(n_points))
    F, U = (fields[inside].reshape(4, -1) for fields in (F, U))
    sizes = [n - (boundary == "dirichlet") for n in n_points]
    A = []
    for axis, n in enumerate(n_points):
        matrix = second_difference(n, boundary)[(slice(n - sizes[axis], None),) * 2]
        before, after = np.eye(int(np.prod(sizes[:axis]))), np.eye(int(np.prod(sizes[axis + 1 :])))
        A.append(np.kron(np.kron(before, matrix), after))
    mass = np.eye(len(A[0]))
    if order == 4 and len(n_points) < 3:
        A = [a + a @ a / (12 * n**2) for a, n in zip(A, n_points, strict=True)]
    elif order == 4:
        h2 = [1 / n**2 for n in n_points]
        mass -= sum(s * a for s, a in zip(h2, A, strict=True)) / 12
        A += [-(h2[i] + h2[j]) / 12 * A[i] @ A[j] for i, j in ((0, 1), (0, 2), (1, 2))]
    expected = np.linalg.solve(sum(A) - 11.0**2 * mass, mass @ F.T).T
    np.testing.assert_allclose(U, expected, atol=1e-10 * np.abs(expected).max())


def test_without_the_zeroth_order_term_it_is_poisson():
    arguments = {"n_samples": 3, "n_points": (24, 24), "boundary": "dirichlet", "random_state": 0}
    np.testing.assert_allclose(make_helmholtz(**arguments, wavenumber=1e-6), make_poisson(**arguments), atol=1e-12)


@pytest.mark.parametrize("forcing", ["sine", "gaussian", "grf"])
def test_same_seed_same_data(forcing):
    first, second = (make_helmholtz(3, forcing=forcing, random_state=1) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("n_points", "boundary"), [(32, "periodic"), ((32, 32), "periodic"), ((32, 32), "neumann")])
def test_resonant_wavenumbers_are_refused(n_points, boundary):
    eigenvalue = np.linalg.eigvalsh(second_difference(32, boundary))[3]
    arguments = {"n_points": n_points, "boundary": boundary, "forcing": "gaussian", "order": 2}
    wavenumber = eigenvalue**0.5
    with pytest.raises(ValueError, match=rf"is resonant: .* choose one farther from {str(wavenumber)[:9]}"):
        make_helmholtz(**arguments, wavenumber=wavenumber)
    _, U = make_helmholtz(**arguments, wavenumber=1.001 * wavenumber)
    assert np.isfinite(U).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wavenumber": 0}, "'wavenumber' parameter"),
        ({"wavenumber": np.inf}, "'wavenumber' parameter"),
        ({"n_points": (8, 1)}, r"n_points=\(8, 1\) must be"),
        ({"modes": (1, 40)}, r"modes=\(1, 40\) cannot be represented"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_helmholtz(**arguments)
