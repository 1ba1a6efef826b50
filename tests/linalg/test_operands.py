"""Every container of numbers at every entrance: products, solves and builders."""

import functools
import warnings

import dask.array
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from sklearn_hss.linalg import (
    ClusterTree,
    DiagonalizedOperator,
    HSSMatrix,
    KroneckerProductSum,
    LowRankOperator,
    OperatorSum,
)

N = 20


class Duck:
    """An array of a library that nobody here knows."""

    def __init__(self, x):
        self._x, self.shape, self.dtype = x, x.shape, x.dtype

    def __array__(self, dtype=None, copy=None):
        return np.array(self._x, dtype=dtype)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def in_file(x, tmp_path):
    return h5py.File(tmp_path / f"{x.shape}.h5", "w", driver="core", backing_store=False).create_dataset("x", data=x)


def in_record(x):
    # Strides that are no multiples of the size of a number.
    record = np.zeros(x.shape, dtype=[("flag", "i1"), ("x", x.dtype)])
    record["x"] = x
    return record["x"]


def by_xarray(x):
    xarray = pytest.importorskip("xarray")
    return xarray.DataArray(x, dims=[f"dim{i}" for i in range(x.ndim)])


def by_zarr(x):
    return pytest.importorskip("zarr").array(x)


# Containers of an array x of integers from 0 to 9.
CONTAINERS = {
    "array": lambda x: x.astype(float),
    "list": lambda x: x.tolist(),
    "list of rows": lambda x: list(x),
    "integers": lambda x: x,
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "unsigned": lambda x: x.astype(np.uint16),
    "longdouble": lambda x: x.astype(np.longdouble),
    "objects": lambda x: x.astype(object),
    "big-endian": lambda x: x.astype(">f8"),
    "big-endian integers": lambda x: x.astype(">i4"),
    "read-only": lambda x: read_only(x.astype(float)),
    "negative strides": lambda x: x[::-1].astype(float).copy()[::-1],
    "column-major": lambda x: np.asfortranarray(x.astype(float)),
    "strides of a record": in_record,
    "masked, nothing hidden": lambda x: np.ma.masked_array(x.astype(float)),
    "dask": lambda x: dask.array.from_array(x.astype(float), chunks=3),
    "h5py": in_file,
    "xarray": by_xarray,
    "zarr": by_zarr,
    "duck": Duck,
}

# Rejected operands, and their messages.
REFUSED = {
    "masked": (lambda x: np.ma.masked_array(x, mask=x == x.flat[0]), ValueError, "masked entries"),
    "list of masked": (lambda x: [np.ma.masked_array(row, mask=True) for row in x], ValueError, "masked entries"),
    "complex": (lambda x: x.astype(complex), TypeError, "Complex (operands|matrices) are not supported"),
    "list of complex": (lambda x: (x + 0j).tolist(), TypeError, "Complex (operands|matrices) are not supported"),
    "complex duck": (lambda x: Duck(x + 0j), TypeError, "Complex (operands|matrices) are not supported"),
    "text": (lambda x: x.astype(str), ValueError, "which holds text"),
    "list of text": (lambda x: x.astype(str).tolist(), ValueError, "which holds text"),
    "dates": (lambda x: x.astype("M8[s]"), ValueError, "which holds dates"),
    "objects": (lambda x: np.full(x.shape, None), TypeError, "must hold real numbers, not objects"),
}


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@functools.cache
def matrix():
    return HSSMatrix.from_dense(randn(N, N) / 10 + torch.eye(N), levels=1, tol=0)


@functools.cache
def factor():
    return matrix().factor()


@functools.cache
def operators():
    kronecker = KroneckerProductSum.from_dense([randn(2, 4, 4), randn(2, 5, 5, seed=1)])
    bases = [randn(4, 4), randn(5, 5)]
    return {
        "KroneckerProductSum": kronecker,
        "DiagonalizedOperator": DiagonalizedOperator(bases, bases, randn(4, 5)),
        "LowRankOperator": LowRankOperator(randn(3, 4, 5), randn(3, 4, 5, seed=1)),
        "OperatorSum": OperatorSum([kronecker, 2 * kronecker]),
    }


def products(operator):
    A = operators()[operator]
    return {
        f"{operator} @ x": ((N,), lambda x: A @ x),
        f"{operator} @ block": ((N, 3), lambda x: A @ x),
        f"{operator}.apply": ((2, 4, 5), A.apply),
    }


# Entrances of operands: the shape of x, and a function of it.
ENTRANCES = {
    "A @ x": ((N,), lambda x: matrix() @ x),
    "A @ block": ((N, 3), lambda x: matrix() @ x),
    "x @ A": ((N,), lambda x: x @ matrix()),
    "block @ A": ((3, N), lambda x: x @ matrix()),
    "solve": ((N,), lambda x: matrix().solve(x)),
    "solve block": ((N, 3), lambda x: matrix().solve(x)),
    "ULVFactor.solve": ((N, 3), lambda x: factor().solve(x)),
    "ULVFactor.solve_transposed": ((N, 3), lambda x: factor().solve_transposed(x)),
    **{name: entrance for operator in operators() for name, entrance in products(operator).items()},
}


def numbers(*shape):
    return np.random.RandomState(0).randint(1, 10, shape)


def contained(name, x, tmp_path):
    put = CONTAINERS[name]
    return put(x, tmp_path) if name == "h5py" else put(x)


@pytest.mark.parametrize("container", CONTAINERS)
def test_operands_of_every_kind(container, tmp_path):
    for entrance, (shape, function) in ENTRANCES.items():
        if container == "xarray" and entrance.endswith("@ A"):
            continue  # xarray claims the product for itself
        x = numbers(*shape)
        result = function(contained(container, x, tmp_path))
        assert type(result) is np.ndarray, entrance
        assert result.dtype == np.float64, entrance
        expected = function(torch.from_numpy(x.astype(float))).numpy()
        # Other strides may take other routines, which round differently.
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12 * abs(expected).max(), err_msg=entrance)


@pytest.mark.parametrize("kind", REFUSED)
def test_operands_that_are_no_real_numbers_are_refused(kind):
    make, error, message = REFUSED[kind]
    for shape, function in ENTRANCES.values():
        if len(shape) > 1 or kind != "list of masked":
            with pytest.raises(error, match=message):
                function(make(numbers(*shape)))


def test_data_frames_and_sparse_operands():
    x = numbers(N, 3)
    A, dense = matrix(), matrix().to_dense().numpy()
    for operand in (pd.DataFrame(x), scipy.sparse.csr_array(x), scipy.sparse.coo_matrix(x)):
        np.testing.assert_allclose(A @ operand, dense @ x, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(A.solve(operand), np.linalg.solve(dense, x), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(scipy.sparse.csr_array(x.T) @ A, x.T @ dense, rtol=1e-13, atol=1e-13)


def test_single_reversed_numbers():
    # NumPy calls arrays of one number contiguous, whatever their strides.
    assert HSSMatrix.identity(1) @ np.ones(1)[::-1] == 1
    assert HSSMatrix.from_diagonal(np.ones(1)[::-1]).shape == (1, 1)


def test_operands_are_not_written_to():
    for A in (matrix(), *operators().values()):
        x = np.ones((N, 2))
        A @ x
        np.testing.assert_array_equal(x, 1)
    x = np.ones(N)
    matrix().solve(x)
    np.testing.assert_array_equal(x, 1)


def test_float32_matrices_give_float32():
    A = matrix().to(torch.float32)
    for result in (A @ np.ones(N), np.ones(N) @ A, A.solve([1] * N), A.factor().solve_transposed(np.ones(N))):
        assert result.dtype == np.float32


@pytest.mark.parametrize("x", ["x", None, 1.0, object(), aslinearoperator(np.eye(N))], ids=lambda x: type(x).__name__)
def test_what_is_no_array_is_refused(x):
    for A in (matrix(), *operators().values()):
        with pytest.raises((TypeError, ValueError)):
            A @ x
    for solve in (matrix().solve, factor().solve, factor().solve_transposed):
        with pytest.raises(
            (TypeError, ValueError), match=r"The operand must be an array|scalar does not fit|holds text"
        ):
            solve(x)


def test_wrong_right_hand_sides_are_refused_before_the_factorisation():
    A = HSSMatrix.identity(N)
    with pytest.raises(ValueError, match="operand with 21 rows does not fit"):
        A.solve(np.ones(N + 1))
    assert A._factor is None


# Builders

BUILDERS = {
    "from_dense": ((N, N), HSSMatrix.from_dense, lambda x: x),
    "from_banded": (
        (3, N),
        lambda x: HSSMatrix.from_banded((1, 1), x),
        lambda x: scipy.sparse.dia_array((x, [1, 0, -1]), (N, N)).toarray(),
    ),
    "from_toeplitz": ((N,), HSSMatrix.from_toeplitz, scipy.linalg.toeplitz),
    "from_toeplitz, row": ((N,), lambda x: HSSMatrix.from_toeplitz(x, x), scipy.linalg.toeplitz),
    "from_low_rank": ((N, 2), lambda x: HSSMatrix.from_low_rank(x, x), lambda x: x @ x.T),
    "from_diagonal": ((N,), HSSMatrix.from_diagonal, np.diag),
    "KroneckerProductSum.from_dense": ((1, N, N), lambda x: KroneckerProductSum.from_dense([x]), lambda x: x[0]),
    "from_kernel, points": (
        (N, 2),
        lambda x: in_order(*HSSMatrix.from_kernel(x, lambda X, Y: X @ Y.T)),
        lambda x: x @ x.T,
    ),
}


def in_order(A, order):
    dense = np.empty(A.shape)
    dense[np.ix_(order, order)] = A.to_dense()
    return torch.from_numpy(dense)


def as_dense(A):
    return A.numpy() if isinstance(A, torch.Tensor) else A.to_dense().double().numpy()


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.filterwarnings("ignore:The HSSMatrix holds:UserWarning")
def test_builders_take_every_kind(container, tmp_path):
    tolerance = 1e-4 if container == "float32" else 1e-9
    for builder, (shape, build, expected) in BUILDERS.items():
        x = numbers(*shape)
        A = build(contained(container, x, tmp_path))
        np.testing.assert_allclose(
            as_dense(A), expected(x.astype(float)), rtol=tolerance, atol=tolerance, err_msg=builder
        )


@pytest.mark.parametrize("kind", REFUSED)
def test_builders_refuse_what_is_no_real_numbers(kind):
    make, error, message = REFUSED[kind]
    for shape, build, _ in BUILDERS.values():
        if len(shape) > 1 or kind != "list of masked":
            with pytest.raises(error, match=message):
                build(make(numbers(*shape)))


def test_matrices_do_not_change_with_the_arrays_that_they_were_made_of():
    d = np.ones(N)
    A = HSSMatrix.from_diagonal(d)
    d[:] = 2
    np.testing.assert_array_equal(A.diagonal(), 1)


# Sparse matrices


@pytest.mark.parametrize("make", [scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.coo_array])
def test_sparse_matrices(make):
    dense = np.diag(np.arange(1.0, 101)) + np.diag(np.ones(98), 2) - np.diag(np.ones(99), -1)
    for A in (
        HSSMatrix.from_dense(make(dense)),
        HSSMatrix.from_banded(make(dense)),
        HSSMatrix.from_banded(make(dense.T)).T,
    ):
        np.testing.assert_allclose(A.to_dense(), dense, atol=1e-10)
    A = HSSMatrix.from_banded(make(dense.astype(np.float32)), levels=2)
    assert (A.levels, A.rank, A.dtype) == (2, 3, torch.float32)
    assert HSSMatrix.from_banded(make(np.zeros((9, 9)))).norm() == 0


def test_sparse_matrices_may_hold_zeros_and_duplicates():
    rows, columns, values = [0, 39, 5, 5, 6], [39, 0, 5, 5, 7], [0.0, 0.0, 1.0, 2.0, 4.0]
    S = scipy.sparse.coo_array((values, (rows, columns)), shape=(40, 40))
    A = HSSMatrix.from_banded(S)
    assert A.rank == 1  # zeros in the corners make no diagonals
    np.testing.assert_array_equal(A.to_dense(), S.toarray())
    assert S.nnz == 5


def test_impossible_bands_are_refused():
    S = scipy.sparse.eye_array(4)
    with pytest.raises(ValueError, match=r"must be square, not of shape \(4, 5\)"):
        HSSMatrix.from_banded(scipy.sparse.coo_array(np.ones((4, 5))))
    with pytest.raises(ValueError, match="ab must be None"):
        HSSMatrix.from_banded(S, np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"ab is missing: l_and_u=\(1, 1\) needs 3 diagonals"):
        HSSMatrix.from_banded((1, 1))
    for l_and_u in (np.eye(4), 1, None, (1, 1, 1)):
        with pytest.raises(ValueError, match="l_and_u must be a pair of integers"):
            HSSMatrix.from_banded(l_and_u, np.ones((3, 4)))
    for lower in (1.0, True, "1"):
        with pytest.raises(ValueError, match=f"lower={lower!r} must be an integer"):
            HSSMatrix.from_banded((lower, 1), np.ones((3, 4)))
    with pytest.raises(TypeError, match="ab is complex"):
        HSSMatrix.from_banded(S * 1j)
    with pytest.raises(ValueError, match=r"diagonals of 1000000000 points needs .* GiB of memory"):
        HSSMatrix.from_banded(scipy.sparse.coo_array(([1.0], ([10**9 - 1], [0])), shape=(10**9, 10**9)))
    with pytest.raises(ValueError, match=r"dense form of a sparse matrix of shape \(1000000000, 1000000000\) needs"):
        HSSMatrix.from_dense(scipy.sparse.coo_array((10**9, 10**9)))


# Matrices from products


@functools.cache
def low_rank():
    trees = ClusterTree(70, 2), ClusterTree(60, 2)
    return HSSMatrix.random(*trees, 2, generator=torch.Generator().manual_seed(0)).to_dense()


def sampled(*arguments, **options):
    return HSSMatrix.from_products(*arguments, levels=2, generator=torch.Generator().manual_seed(0), **options)


def from_tensors(M):
    def apply(x):
        assert isinstance(x, torch.Tensor)
        return M @ x

    return apply


def from_arrays(M):
    M = M.numpy()

    def apply(x):
        if not isinstance(x, np.ndarray):
            raise TypeError("only arrays")
        return M @ x

    return apply


def from_arrays_by_methods(M):
    return lambda x: M.numpy() @ x.astype(float)  # tensors have no astype


def with_conversion(M):
    return lambda x: np.dot(M.numpy(), np.asarray(x))  # takes tensors, returns arrays


def overwriting(M):
    def apply(x):
        y = M @ x
        x.zero_()
        return y

    return apply


def as_lists(M):
    return lambda x: (M.numpy() @ np.asarray(x)).tolist()


@pytest.mark.parametrize(
    "kind", [from_tensors, from_arrays, from_arrays_by_methods, with_conversion, overwriting, as_lists]
)
def test_products_by_callables_of_every_kind(kind):
    M = low_rank()
    A = sampled(kind(M), kind(M.T), (70, 60))
    torch.testing.assert_close(A.to_dense(), M, rtol=0, atol=1e-8)
    assert sampled(kind(M), from_tensors(M.T), (70, 60)).shape == (70, 60)


def test_operators_of_scipy_need_nothing_else():
    M = low_rank()
    for operator in (
        aslinearoperator(M.numpy()),
        aslinearoperator(scipy.sparse.csr_array(M.numpy())),
        HSSMatrix.from_dense(M, levels=2).aslinearoperator(),
    ):
        A = sampled(operator)
        torch.testing.assert_close(A.to_dense(), M, rtol=0, atol=1e-8)
        assert sampled(operator, shape=(70, 60), dtype=torch.float32, tol=1e-4).dtype == torch.float32
    matvec = LinearOperator((70, 60), matvec=lambda x: M.numpy() @ x, dtype=float)
    with pytest.raises(
        TypeError, match=r"apply_transposed takes neither tensors nor arrays \(.*\)\. Operators need .*rmatvec"
    ):
        sampled(matvec)
    torch.testing.assert_close(sampled(matvec, from_arrays(M.T)).to_dense(), M, rtol=0, atol=1e-8)


def test_impossible_products_are_refused():
    M = low_rank()
    apply, transposed = from_tensors(M), from_tensors(M.T)
    for arguments, error, message in (
        ((apply, transposed), ValueError, "shape=None must be a pair of integers"),
        ((apply, transposed, 70), ValueError, "shape=70 must be a pair"),
        ((apply, None, (70, 60)), TypeError, "apply_transposed must be a callable, not of type NoneType"),
        ((M, transposed, (70, 60)), TypeError, "apply must be a callable, not of type Tensor"),
        ((aslinearoperator(M.numpy()), None, (60, 70)), ValueError, r"shape=\(60, 70\) is not that of the operator"),
        ((apply, apply, (60, 60)), ValueError, r"apply turned vectors of shape \(60, \d+\) into \(70, \d+\)"),
        ((lambda x: x[:, 0], transposed, (60, 60)), ValueError, r"into \(60,\); the result must have the shape"),
        ((apply, lambda x: M.T @ x * np.nan, (70, 60)), ValueError, "result of apply_transposed holds NaN"),
        ((lambda x: apply(x) * 1j, transposed, (70, 60)), TypeError, "the result of apply is complex"),
        ((lambda x: (apply(x) * 1j).numpy(), transposed, (70, 60)), TypeError, "the result of apply is complex"),
        ((lambda x: None, transposed, (70, 60)), TypeError, "result of apply must be an array, not of type NoneType"),
    ):
        with pytest.raises(error, match=message):
            sampled(*arguments)
    # Errors of the callable itself come through.
    with pytest.raises(ZeroDivisionError):
        sampled(lambda x: 1 / 0, transposed, (70, 60))


# Scattered points


def gaussian(X, Y):
    return np.exp(-((X[:, None] - Y) ** 2).sum(-1) / 0.1)


@pytest.mark.parametrize("dimension", [1, 2])
def test_kernels_of_scattered_points(dimension):
    points = np.random.RandomState(0).uniform(size=(600, dimension))
    dense = gaussian(points, points)
    A, order = HSSMatrix.from_kernel(points, gaussian, tol=1e-4)
    np.testing.assert_array_equal(np.sort(order), np.arange(600))
    error = np.linalg.norm(in_order(A, order).numpy() - dense, 2)
    assert error < 10 * 600**0.5 * 1e-4 * np.linalg.norm(dense, 2)
    assert A.n_parameters < (0.15 if dimension == 1 else 0.6) * dense.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of being larger than the dense matrix
        unordered = HSSMatrix.from_dense(dense, tol=1e-4)
    assert A.n_parameters < 0.8 * unordered.n_parameters


def test_points_in_no_order_get_advice():
    points = np.random.RandomState(0).uniform(size=(300, 2))
    with pytest.warns(UserWarning, match=r"the dense matrix 90000.*HSSMatrix\.from_kernel"):
        HSSMatrix.from_dense(gaussian(points, points), tol=1e-9)


def test_nodes_hold_neighbours():
    # Four clusters, shuffled, at the corners of a square: the four leaves of two levels.
    rng = np.random.RandomState(0)
    corners = rng.permutation(np.repeat(np.arange(4), 10))
    points = np.stack([corners // 2, corners % 2], axis=1) + 0.1 * rng.uniform(size=(40, 2))
    _, order = HSSMatrix.from_kernel(points, gaussian, levels=2)
    assert all(len(set(leaf)) == 1 for leaf in corners[order].reshape(4, 10))


def test_kernels_may_return_tensors_and_keep_their_levels():
    points = np.linspace(0, 1, 100)
    A, order = HSSMatrix.from_kernel(points, lambda X, Y: torch.exp(-torch.as_tensor(abs(X - Y.T))).float(), levels=2)
    assert (A.dtype, A.levels) == (torch.float32, 2)
    np.testing.assert_allclose(A.to_dense(), np.exp(-abs(points[order][:, None] - points[order])), atol=1e-5)


def test_impossible_points_are_refused():
    for points, kernel, message in (
        (np.ones((3, 2, 2)), gaussian, r"points has shape \(3, 2, 2\); it must be"),
        (np.ones((3, 0)), gaussian, r"points has shape \(3, 0\); it must be"),
        (np.ones((3, 2)), lambda X, Y: np.ones((3, 2)), r"kernel\(X, X\) has shape \(3, 2\); for 3 points"),
    ):
        with pytest.raises(ValueError, match=message):
            HSSMatrix.from_kernel(points, kernel)


def test_only_the_user_is_warned_of_large_matrices(recwarn):
    noise = np.random.RandomState(0).standard_normal((2, 40, 40))
    with pytest.warns(
        UserWarning, match=r"The HSSMatrix holds \d+ numbers, the dense matrix 3200: .* otherwise a larger tol"
    ):
        HSSMatrix.from_dense(noise)
    # Who fixes the rank, or lets nothing be dropped, has chosen; sums of Kronecker products fall back to dense factors.
    HSSMatrix.from_dense(noise, tol=0)
    HSSMatrix.from_dense(noise, rank=20)
    HSSMatrix.from_dense(noise, levels=0)
    HSSMatrix.from_dense(np.eye(200))
    assert KroneckerProductSum.from_dense([noise, noise]).levels == (0, 0)
    assert not recwarn.list
