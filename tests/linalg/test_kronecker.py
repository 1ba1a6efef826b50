"""Maps between fields against their dense twins."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, cg, gmres

from sklearn_hss.linalg import (
    ClusterTree,
    DiagonalizedOperator,
    HSSMatrix,
    KroneckerProductSum,
    LowRankOperator,
    OperatorSum,
)

GRIDS = [((6, 9), (6, 9)), ((6, 9), (8, 7)), ((5,), (5,)), ((4, 5, 6), (4, 5, 6)), ((4, 5, 6), (6, 4, 5))]


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def kron(matrices):
    result = torch.ones(1, 1, dtype=matrices[0].dtype)
    for A in matrices:
        result = torch.kron(result, A.contiguous())
    return result


def kronecker_sum(grid_in, grid_out, outer_rank=3):
    """A random sum, and its dense twin."""
    dense = [randn(outer_rank, n, m, seed=j) for j, (n, m) in enumerate(zip(grid_out, grid_in, strict=True))]
    twin = sum(kron([W[k] for W in dense]) for k in range(outer_rank))
    return KroneckerProductSum.from_dense(dense, levels=1), twin


def symbol_operator(grid_in, grid_out, kind=torch.float64):
    """A random map that is diagonal in real bases, or in pairs of complex conjugate ones, and its dense twin."""
    p = tuple(min(sizes) for sizes in zip(grid_in, grid_out, strict=True))
    if kind == torch.float64:
        outputs = [randn(n, k, seed=j) for j, (n, k) in enumerate(zip(grid_out, p, strict=True))]
        inputs = [randn(n, k, seed=5 + j) for j, (n, k) in enumerate(zip(grid_in, p, strict=True))]
        symbol = randn(*p, seed=11)
    else:
        # The inverse of a Kronecker sum of matrices with complex eigenvalues.
        matrices = [randn(n, n, seed=j) + 5 * torch.eye(n, dtype=torch.float64) for j, n in enumerate(grid_in)]
        values, outputs = zip(*[torch.linalg.eig(A) for A in matrices], strict=True)
        inputs = [torch.linalg.inv(X).mT for X in outputs]
        total = torch.zeros(*p, dtype=kind)
        for j, v in enumerate(values):
            total = total + v.view([-1 if i == j else 1 for i in range(len(p))])
        symbol = 1 / total
    twin = kron(list(outputs)) @ torch.diag(symbol.reshape(-1)) @ kron([Z.mT for Z in inputs])
    return DiagonalizedOperator(outputs, inputs, symbol), twin.real


def low_rank_operator(grid_in, grid_out):
    outputs, inputs = randn(2, *grid_out), randn(2, *grid_in, seed=1)
    return LowRankOperator(outputs, inputs), outputs.flatten(1).mT @ inputs.flatten(1)


def operator_sum(grid_in, grid_out):
    parts = [make(grid_in, grid_out) for make in (kronecker_sum, symbol_operator, low_rank_operator)]
    return OperatorSum([A for A, _ in parts]), sum(twin for _, twin in parts)


def cases():
    for make in (kronecker_sum, symbol_operator, low_rank_operator, operator_sum):
        for grid_in, grid_out in GRIDS:
            yield pytest.param(*make(grid_in, grid_out), id=f"{make.__name__}-{grid_in}-{grid_out}")
    for grid in ((6, 9), (5,), (3, 4, 5)):
        yield pytest.param(*symbol_operator(grid, grid, torch.complex128), id=f"complex-{grid}")


OPERATORS = pytest.mark.parametrize(("A", "twin"), list(cases()))


def close(actual, expected):
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=1e-11, atol=1e-11)


@OPERATORS
def test_dense_twin(A, twin):
    assert A.shape == tuple(twin.shape)
    close(A.to_dense(), twin)
    assert A.dtype == torch.float64
    assert A.device == torch.device("cpu")


@OPERATORS
@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3), (0,)])
def test_batches_of_fields(A, twin, batch):
    Z = randn(*batch, *A.grid_in, seed=3)
    result = A.apply(Z)
    assert result.shape == (*batch, *A.grid_out)
    close(result, (Z.flatten(-len(A.grid_in)) @ twin.mT).view(*batch, *A.grid_out))


@OPERATORS
def test_products_with_flat_fields(A, twin):
    x, X = randn(A.shape[1], seed=3), randn(A.shape[1], 4, seed=4)
    for operand in (x, X, X[:, :1], X[:, ::2], X[:, :0], randn(4, A.shape[1]).mT):
        product = A @ operand
        assert product.shape == (twin @ operand).shape
        close(product, twin @ operand)
        from_numpy = A @ operand.numpy()
        assert isinstance(from_numpy, np.ndarray)
        close(from_numpy, product)
    # NumPy converts other types, and does not mind the memory layout.
    close(A @ np.ones(A.shape[1], dtype=np.int64), twin.sum(1))
    close(A @ np.asfortranarray(X.numpy()), twin @ X)


@OPERATORS
def test_transpose(A, twin):
    assert A.T.grid_in == A.grid_out
    assert A.T.grid_out == A.grid_in
    close(A.T.to_dense(), twin.mT)
    close(A.T.T.to_dense(), twin)
    assert A.T.n_parameters == A.n_parameters


@OPERATORS
def test_multiples(A, twin):
    for c in (3, -0.5, 0, np.float64(2), np.int64(2)):
        close((c * A).to_dense(), float(c) * twin)
        close((A * c).to_dense(), float(c) * twin)
    close(A.to_dense(), twin)  # the operator itself has not changed


@OPERATORS
def test_linear_operators_of_scipy(A, twin):
    L = A.aslinearoperator()
    assert isinstance(L, LinearOperator)
    assert L.shape == A.shape
    assert L.dtype == np.float64
    x, y = randn(A.shape[1], 2).numpy(), randn(A.shape[0], 2, seed=1).numpy()
    twin = twin.numpy()
    close(L.matvec(x[:, 0]), twin @ x[:, 0])
    close(L.rmatvec(y[:, 0]), twin.T @ y[:, 0])
    close(L.matmat(x), twin @ x)
    close(L.rmatmat(y), twin.T @ y)


@OPERATORS
def test_single_precision(A, twin):
    B = A.to(torch.float32)
    assert B.dtype == torch.float32
    Z = randn(2, *A.grid_in)
    result = B.apply(Z.float())
    assert result.dtype == torch.float32
    error = (result.double() - A.apply(Z)).norm() / A.apply(Z).norm()
    assert 1e-10 < error < 1e-5
    assert (B @ Z[0].reshape(-1).numpy()).dtype == np.float32
    assert A.dtype == torch.float64


@OPERATORS
def test_wrong_operands(A, twin):
    n = A.shape[1]
    for wrong in (torch.zeros(n + 1, dtype=torch.float64), torch.zeros(n + 1, 2, dtype=torch.float64)):
        with pytest.raises(
            ValueError, match=f"with {n + 1} rows does not fit this {type(A).__name__} with {n} columns"
        ):
            A @ wrong
        with pytest.raises(ValueError, match=f"with {n + 1} rows does not fit"):
            A @ wrong.numpy()
    with pytest.raises(TypeError, match=r"An operand of torch\.float32 does not fit"):
        A @ torch.zeros(n)
    with pytest.raises(ValueError, match="A scalar does not fit"):
        A @ torch.zeros((), dtype=torch.float64)
    with pytest.raises(TypeError, match="Complex operands are not supported"):
        A @ np.zeros(n, dtype=complex)
    with pytest.raises(TypeError):
        A @ "x"


@OPERATORS
def test_repr(A, twin):
    text = repr(A)
    assert text.startswith(type(A).__name__)
    assert isinstance(A, OperatorSum) or f"grid_in={A.grid_in}, grid_out={A.grid_out}" in text


# Iterative solvers


def laplacian(n, m):
    def second_difference(n):
        return (
            2 * torch.eye(n, dtype=torch.float64)
            - torch.diag(torch.ones(n - 1).double(), 1)
            - torch.diag(torch.ones(n - 1).double(), -1)
        )

    eyes = [torch.eye(k, dtype=torch.float64) for k in (n, m)]
    first = torch.stack([second_difference(n), eyes[0]])
    second = torch.stack([eyes[1], second_difference(m)])
    return KroneckerProductSum.from_dense([first, second]), torch.kron(first[0], eyes[1]) + torch.kron(
        eyes[0], second[1]
    )


def test_solvers_of_scipy():
    A, twin = laplacian(9, 14)
    b = randn(9 * 14).numpy()
    x, info = cg(A.aslinearoperator(), b, rtol=1e-12)
    assert info == 0
    close(torch.from_numpy(x), torch.linalg.solve(twin, torch.from_numpy(b)))
    B, twin = kronecker_sum((4, 5), (4, 5), outer_rank=1)
    B = OperatorSum([B, 20 * KroneckerProductSum.from_dense([torch.eye(n, dtype=torch.float64)[None] for n in (4, 5)])])
    twin = twin + 20 * torch.eye(20, dtype=torch.float64)
    x, info = gmres(B.aslinearoperator(), b[:20], rtol=1e-12, restart=20)
    assert info == 0
    torch.testing.assert_close(torch.from_numpy(x), torch.linalg.solve(twin, torch.from_numpy(b[:20])))


# Kronecker sums


def test_storage_of_kronecker_sums():
    A = KroneckerProductSum.from_dense([randn(3, 8, 10), randn(3, 7, 12)], levels=0)
    assert A.n_parameters == 3 * (8 * 10 + 7 * 12)
    assert (A.outer_rank, A.levels) == (3, (0, 0))
    # Leaves of 4, rank 1: 2 diagonal blocks, bases of one column in either side, and one 2 x 2 block of the root.
    n, L = 8, laplacian(8, 8)[0]
    twin = KroneckerProductSum.from_dense([W.to_dense() for W in L.factors], levels=1)
    assert (twin.outer_rank, twin.rank) == (2, (1, 1))
    assert twin.n_parameters == 2 * 2 * (2 * 4 * 4 + 2 * n + 2 * 2)


def test_storage_grows_with_the_sides_not_the_points():
    small, large = (laplacian(n, n)[0].n_parameters for n in (32, 64))
    assert 1.8 * small < large < 2.4 * small


def test_ranks_and_levels_per_mode():
    dense = [randn(2, 16, 16), randn(2, 12, 12)]
    A = KroneckerProductSum.from_dense(dense, rank=(3, 2), levels=(2, 1))
    assert (A.rank, A.levels) == ((3, 2), (2, 1))
    B = KroneckerProductSum.from_dense(dense, rank=2, levels=1)
    assert (B.rank, B.levels) == ((2, 2), (1, 1))
    # Random matrices have no structure that would save numbers.
    assert KroneckerProductSum.from_dense(dense).levels == (0, 0)
    close(KroneckerProductSum.from_dense(dense).to_dense(), sum(kron([W[k] for W in dense]) for k in range(2)))


def test_truncate():
    A, twin = laplacian(16, 16)
    fat = KroneckerProductSum.from_dense([W.to_dense() for W in A.factors], levels=2)
    doubled = KroneckerProductSum([(W + W) for W in fat.factors])
    assert (fat.rank, doubled.rank) == ((2, 2), (4, 4))
    thin = doubled.truncate()
    assert thin.rank == (2, 2)
    assert thin.n_parameters < doubled.n_parameters
    close(thin.to_dense(), 4 * twin)
    rough = KroneckerProductSum.from_dense([randn(2, 16, 16), randn(2, 16, 16)], levels=1).truncate(rank=2)
    assert rough.rank == (2, 2)


def test_factors_must_be_batches_of_equal_size():
    W = HSSMatrix.from_dense(randn(2, 4, 4), levels=0)
    for factors in ([], [W, HSSMatrix.from_dense(randn(3, 4, 4), levels=0)], [HSSMatrix.from_dense(randn(4, 4))]):
        with pytest.raises(ValueError, match=r"factors have the batch shapes \[.*every mode needs one batch"):
            KroneckerProductSum(factors)
    tree = ClusterTree(4, 1)
    with pytest.raises(ValueError, match="batch shapes"):
        KroneckerProductSum([HSSMatrix.random(tree, tree, 1, batch_shape=(2, 2))])


# Symbols


def test_symbols_must_fit_the_bases():
    with pytest.raises(
        ValueError, match=r"symbol has shape \(3, 4\), but the bases have \(3, 5\) and \(3, 5\) columns"
    ):
        DiagonalizedOperator([randn(6, 3), randn(6, 5)], [randn(6, 3), randn(6, 5)], randn(3, 4))
    with pytest.raises(ValueError, match=r"the bases have \(3, 4\) and \(2, 4\) columns"):
        DiagonalizedOperator([randn(6, 3), randn(6, 4)], [randn(6, 2), randn(6, 4)], randn(3, 4))


def test_storage_of_symbols():
    A = DiagonalizedOperator([randn(6, 3), randn(7, 4)], [randn(8, 3), randn(9, 4)], randn(3, 4))
    assert A.n_parameters == 6 * 3 + 7 * 4 + 8 * 3 + 9 * 4 + 3 * 4
    inverse, _ = laplacian(6, 7)
    B = DiagonalizedOperator([randn(6, 3), randn(7, 4)], [randn(6, 3), randn(7, 4)], randn(3, 4), inverse)
    assert B.n_parameters == inverse.n_parameters
    assert "inverse=KroneckerProductSum(grid_in=(6, 7)" in repr(B)


def test_the_inverse_goes_along():
    inverse, twin = laplacian(6, 7)
    values, X = torch.linalg.eigh(inverse.factors[0].to_dense()[0])
    others, Z = torch.linalg.eigh(inverse.factors[1].to_dense()[1])
    A = DiagonalizedOperator([X, Z], [X, Z], 1 / (values[:, None] + others), inverse)
    close(A.to_dense(), torch.linalg.inv(twin))
    for B in (A, A.T, 4 * A, -0.5 * A):
        close(B.to_dense() @ B.inverse.to_dense(), torch.eye(42, dtype=torch.float64))
    assert (0 * A).inverse is None
    assert A.to(torch.float32).inverse.dtype == torch.float32


# Sums


def test_sums_need_equal_grids():
    A, B = kronecker_sum((4, 5), (4, 5))[0], kronecker_sum((5, 4), (5, 4))[0]
    for terms in ([], [A, B]):
        with pytest.raises(ValueError, match=r"terms map between the grids \[.*must be at least one, and all the same"):
            OperatorSum(terms)
    assert OperatorSum([A, A]).n_parameters == 2 * A.n_parameters
