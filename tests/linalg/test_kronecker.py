"""Properties of single kinds of maps between fields; those of all kinds are in test_linear_map.py."""

import pytest
import torch
from scipy.linalg import LinAlgWarning
from scipy.sparse.linalg import cg, gmres

from sklearn_hss.linalg import ClusterTree, DiagonalizedOperator, HSSMatrix, KroneckerProductSum, LinearMap, OperatorSum


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(actual, expected, tol=1e-11):
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=tol, atol=tol)


def random_sum(*grid, outer_rank=3):
    """A random sum, and its dense twin."""
    first, second = (randn(outer_rank, n, n, seed=j) for j, n in enumerate(grid))
    twin = sum(torch.kron(first[k], second[k]) for k in range(outer_rank))
    return KroneckerProductSum.from_dense([first, second], levels=1), twin


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
    B, twin = random_sum(4, 5, outer_rank=1)
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
    close(KroneckerProductSum.from_dense(dense).to_dense(), sum(torch.kron(*(W[k] for W in dense)) for k in range(2)))


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


def poisson(n, m):
    """A Laplacian's inverse, that knows it, and its dense twin."""
    inverse, twin = laplacian(n, m)
    values, X = torch.linalg.eigh(inverse.factors[0].to_dense()[0])
    others, Z = torch.linalg.eigh(inverse.factors[1].to_dense()[1])
    return DiagonalizedOperator([X, Z], [X, Z], 1 / (values[:, None] + others), inverse), torch.linalg.inv(twin)


def test_the_inverse_goes_along():
    A, twin = poisson(6, 7)
    close(A.to_dense(), twin)
    for B in (A, A.T, 4 * A, -0.5 * A, A.in_channel_units(1 + randn(6).abs(), 1 + randn(6, seed=1).abs())):
        close(B.to_dense() @ B.inverse.to_dense(), torch.eye(42, dtype=torch.float64))
    assert (0 * A).inverse is None
    assert A.to(torch.float32).inverse.dtype == torch.float32
    assert A.structure == (0, 0, 2)


def test_direct_solutions(monkeypatch):
    """By the inverse, or by division in complete bases; neither iterates."""
    A, twin = poisson(6, 7)
    monkeypatch.setattr(LinearMap, "_iterate", None)
    b = randn(42, 2)
    for B in (A, DiagonalizedOperator(A.outputs, A.inputs, A.symbol)):
        close(B.solve(b), torch.linalg.solve(twin, b), 1e-10)
    # Complex pairs, of bases that are no eigenvectors of one operator.
    kinds = [torch.complex(randn(4, 2, seed=i), randn(4, 2, seed=4 + i)) for i in range(2)]
    X, Z = (torch.cat([half, half.conj()], 1) for half in kinds)
    half = torch.complex(randn(2, seed=8), randn(2, seed=9))
    B = DiagonalizedOperator([X], [Z], torch.cat([half, half.conj()]))
    b = randn(4, seed=10)
    close(B.solve(b), torch.linalg.solve(B.to_dense(), b), 1e-10)


def test_known_inverses_are_not_believed():
    """An inverse that does not give back the outputs, as where the map is restricted, and symbols with zeros."""
    A, _ = poisson(6, 7)
    bases = [torch.linalg.qr(randn(n, 3, seed=n))[0] for n in (6, 7)]
    restricted = A.restricted_to(bases)
    with_inverse = DiagonalizedOperator(restricted.outputs, restricted.inputs, restricted.symbol, A.inverse)
    symbol = A.symbol.clone()
    symbol[2, 3] = 1e-17
    for B in (restricted, with_inverse, DiagonalizedOperator(A.outputs, A.inputs, symbol)):
        b = B @ randn(42)
        close(B.solve(b), torch.linalg.pinv(B.to_dense(), rtol=1e-10) @ b, 1e-8)


def test_iterations_that_do_not_converge():
    A = KroneckerProductSum.from_dense([torch.diag(10.0 ** -torch.arange(0, 14).double())[None]], levels=0)
    with pytest.warns(LinAlgWarning, match=r"LSMR has not converged: the inputs returned have a relative residual of"):
        A.solve(torch.ones(14, dtype=torch.float64))
    with pytest.raises(ValueError, match="must not hold NaN or infinite values"):
        A.solve(torch.full((14,), torch.nan, dtype=torch.float64))


# Sums


def test_sums_need_equal_grids():
    A, B = random_sum(4, 5)[0], random_sum(5, 4)[0]
    for terms in ([], [A, B]):
        with pytest.raises(
            ValueError, match=r"terms map between the grids \[.*must be at least one term, on equal grids"
        ):
            OperatorSum(terms)
    assert OperatorSum([A, A]).n_parameters == 2 * A.n_parameters
