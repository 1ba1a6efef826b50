import operator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_hss.linalg import ClusterTree, HSSMatrix

BATCHES = [((), ()), ((3,), ()), ((), (2,)), ((2, 1), (3,)), ((0,), ())]


def random_hss(m, n, levels, rank, batch_shape=(), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    trees = ClusterTree(m, levels), ClusterTree(n, levels)
    return HSSMatrix.random(*trees, rank, batch_shape=batch_shape, generator=generator, dtype=dtype)


@st.composite
def pairs(draw, max_size=33):
    """Two matrices for a sum, and a third for the product of the first with it."""
    m, k, n = (draw(st.integers(1, max_size)) for _ in range(3))
    levels = draw(st.integers(0, ClusterTree.max_levels(min(m, k, n))))
    batches, ranks = draw(st.sampled_from(BATCHES)), (draw(st.integers(0, 4)), draw(st.integers(0, 4)))
    A, B = (random_hss(m, k, levels, r, b, seed) for seed, (r, b) in enumerate(zip(ranks, batches, strict=True)))
    return A, B, random_hss(k, n, levels, ranks[1], batches[1], seed=2)


def assert_same(A, dense):
    assert A.shape == dense.shape
    torch.testing.assert_close(A.to_dense(), dense, rtol=1e-11, atol=1e-11)


@settings(max_examples=60)
@given(pairs())
def test_sums_and_products_agree_with_the_dense_twin(matrices):
    A, B, C = matrices
    a, b, c = (M.to_dense() for M in matrices)
    assert_same(A + B, a + b)
    assert_same(A - B, a - b)
    assert_same(-A, -a)
    assert_same(A @ C, a @ c)
    for result in (A + B, A - B, A @ C):
        assert result.rank == (A.rank + B.rank if A.levels else 0)


@settings(max_examples=30)
@given(pairs())
def test_results_are_matrices_like_any_other(matrices):
    A, B, C = matrices
    a, b, c = (M.to_dense() for M in matrices)
    assert_same((A + B) @ C - A @ C, b @ c + torch.zeros_like(a @ c))
    assert_same((A @ C).T, (a @ c).mT)
    assert_same(A @ C @ C.T @ B.T, a @ c @ c.mT @ b.mT)


def test_different_ranks_of_rows_and_columns():
    # Compressed matrices have as many columns in U[i] and V[i] as each needs.
    dense = torch.eye(24, dtype=torch.float64)
    dense[6::6, :6] = torch.from_numpy(np.random.RandomState(0).standard_normal((3, 6)))
    A = HSSMatrix.from_dense(dense, levels=2)
    assert (A.U[0].shape[-1], A.V[0].shape[-1]) == (1, 3)
    for B in (A, A.T):
        b = B.to_dense()
        assert_same(A + B, dense + b)
        assert_same(A @ B, dense @ b)
        assert_same(B @ A, b @ dense)


def test_padding_has_no_effect():
    A, B = random_hss(5, 5, 1, 2), random_hss(5, 5, 1, 2, seed=1)  # leaves of 2 and 3
    D, U, V = ([g.clone() for g in generators] for generators in (A.D, A.U, A.V))
    D[0][0, 2, :] = D[0][0, :, 2] = U[0][0, 2] = V[0][0, 2] = 1e6
    spoilt = HSSMatrix(A.row_tree, A.col_tree, D, U, V)
    for operation in (operator.add, operator.sub, operator.matmul):
        assert_same(operation(spoilt, B), operation(A.to_dense(), B.to_dense()))
        assert_same(operation(B, spoilt), operation(B.to_dense(), A.to_dense()))


@pytest.mark.parametrize("c", [3, -0.5, 0, np.float64(1.5), np.float32(2), np.int64(-2), torch.tensor(0.25)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_multiples_by_a_number(c, dtype):
    A = random_hss(11, 7, 2, 2, dtype=dtype)
    for multiple in (A * c, c * A):
        assert multiple.dtype == dtype
        assert multiple.rank == A.rank
        torch.testing.assert_close(multiple @ torch.ones(7, dtype=dtype), float(c) * (A @ torch.ones(7, dtype=dtype)))
    if c:
        torch.testing.assert_close((A / c).to_dense(), A.to_dense() / float(c))
    else:
        with pytest.raises(ZeroDivisionError):
            A / c


def test_one_number_per_matrix_of_a_batch():
    A = random_hss(11, 7, 2, 2, batch_shape=(2, 3))
    c = torch.arange(1.0, 7.0).double().reshape(2, 3)
    assert_same(A * c, A.to_dense() * c[..., None, None])
    assert_same(c * A, A.to_dense() * c[..., None, None])
    assert_same(A / c, A.to_dense() / c[..., None, None])
    # As one number per matrix of the last axis of the batch, and as float32 numbers.
    assert_same(A * c[0].float(), A.to_dense() * c[0, :, None, None])
    assert_same(A * torch.tensor([1, 2, 3]), A.to_dense() * c[0, :, None, None])


def test_numbers_of_another_type_leave_the_type_of_the_matrix():
    A = random_hss(11, 7, 2, 2, batch_shape=(3,), dtype=torch.float32)
    for c in (torch.ones(3, dtype=torch.float64), torch.ones((), dtype=torch.float64), torch.ones(3, dtype=int)):
        assert {g.dtype for M in (A * c, A / c) for g in (*M.D, *M.U, *M.V)} == {torch.float32}


def test_impossible_operands_are_refused():
    A = random_hss(12, 8, 2, 2)
    with pytest.raises(ValueError, match="different cluster trees cannot be added"):
        A + random_hss(12, 8, 1, 2)
    with pytest.raises(ValueError, match="different cluster trees cannot be added"):
        A - random_hss(8, 12, 2, 2)
    with pytest.raises(ValueError, match=r"columns of the first factor, .*n=8.*, do not match the rows .*n=12"):
        A @ A
    with pytest.raises(ValueError, match="do not match the rows of the second"):
        A @ random_hss(8, 8, 1, 2)
    for operation in (operator.add, operator.sub, lambda A, B: A @ B.T):
        with pytest.raises(TypeError, match=r"torch.float32 .* does not fit one of torch.float64.*\.to\(\)"):
            operation(A, A.to(torch.float32))
        with pytest.raises(RuntimeError, match=r"[Ss]hape mismatch|broadcast|expand"):
            operation(random_hss(12, 8, 2, 2, (2,)), random_hss(12, 8, 2, 2, (3,)))
    for other in (1.0, "x", None, np.ones((12, 8)), torch.ones(12, 8, dtype=torch.float64)):
        for operation in (operator.add, operator.sub):
            with pytest.raises(TypeError):
                operation(A, other)
            with pytest.raises(TypeError):
                operation(other, A)
    for other in ("x", None, A, 1j):
        with pytest.raises(TypeError):
            A * other
    with pytest.raises(TypeError):
        A * torch.ones(3, dtype=torch.float64)


def test_gradients_pass_through_sums_and_products():
    A, B = random_hss(5, 5, 1, 1), random_hss(5, 5, 1, 2, seed=1)
    generators = [g.clone().requires_grad_() for g in (*A.D, *A.U, *A.V)]

    def expression(c, *generators):
        M = HSSMatrix(A.row_tree, A.col_tree, generators[:2], generators[2:3], generators[3:])
        return (c * M @ B + M - M.T).to_dense()

    assert torch.autograd.gradcheck(expression, (torch.tensor(2.0, dtype=torch.float64).requires_grad_(), *generators))
