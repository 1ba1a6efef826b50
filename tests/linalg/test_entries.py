import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_hss.linalg import ClusterTree, HSSMatrix


def random_hss(m, n, levels, rank, batch_shape=(), seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    trees = ClusterTree(m, levels), ClusterTree(n, levels)
    return HSSMatrix.random(*trees, rank, batch_shape=batch_shape, generator=generator, dtype=dtype)


@st.composite
def hss_matrices(draw, max_size=30):
    m, n = draw(st.integers(1, max_size)), draw(st.integers(1, max_size))
    levels = draw(st.integers(0, ClusterTree.max_levels(min(m, n))))
    return random_hss(m, n, levels, draw(st.integers(0, 4)), draw(st.sampled_from([(), (3,), (2, 1), (0,)])))


def indices(n):
    return st.one_of(st.integers(-n, n - 1), st.slices(n))


@settings(max_examples=100)
@given(hss_matrices(), st.data())
def test_items_are_those_of_the_dense_twin(A, data):
    i, j = (data.draw(indices(n)) for n in A.shape[-2:])
    dense = A.to_dense().numpy()  # torch tensors know no negative steps
    for found, expected in ((A[i, j], dense[..., i, j]), (A[i], dense[..., i, :]), (A[:, j], dense[..., :, j])):
        assert isinstance(found, torch.Tensor)
        assert found.dtype == A.dtype
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(hss_matrices(), st.data())
def test_blocks_are_those_of_the_dense_twin(A, data):
    rows, cols = (data.draw(st.lists(st.integers(-n, n - 1), max_size=8)) for n in A.shape[-2:])
    expected = A.to_dense().numpy()[..., np.array(rows, dtype=int)[:, None], np.array(cols, dtype=int)]
    for as_type in (list, np.array, torch.tensor):
        if as_type is not list and not (rows and cols):
            continue
        found = A.block(as_type(rows), as_type(cols))
        assert found.shape == (*A.batch_shape, len(rows), len(cols))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(hss_matrices())
def test_diagonal_trace_and_norms(A):
    dense = A.to_dense()
    close = {"rtol": 1e-11, "atol": 1e-11}
    torch.testing.assert_close(A.diagonal(), torch.diagonal(dense, dim1=-2, dim2=-1), **close)
    torch.testing.assert_close(A.trace(), torch.diagonal(dense, dim1=-2, dim2=-1).sum(-1), **close)
    torch.testing.assert_close(A.norm(), torch.linalg.matrix_norm(dense), **close)
    torch.testing.assert_close(A.norm("fro"), torch.linalg.matrix_norm(dense), **close)
    torch.testing.assert_close(A.norm(2), torch.linalg.matrix_norm(dense, 2), **close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(300, 300), (211, 307), (307, 211)])
def test_norms_of_larger_matrices(shape, dtype):
    A = random_hss(*shape, 4, 3, dtype=dtype)
    for ord in ("fro", 2):
        norm = A.norm(ord)
        assert norm.dtype == dtype
        assert norm.shape == ()
        torch.testing.assert_close(norm, torch.linalg.matrix_norm(A.to_dense(), ord), rtol=1e-5, atol=0)


def test_norms_of_batches_of_larger_matrices():
    A = random_hss(100, 100, 2, 2, batch_shape=(2, 1))
    torch.testing.assert_close(A.norm(2), torch.linalg.matrix_norm(A.to_dense(), 2))


@pytest.mark.parametrize("n", [60, 200])
def test_norm_of_a_difference_sees_rounding_errors_only(n):
    # Squares of the generators would leave the square root of the precision.
    A = random_hss(n, n, 3, 3)
    difference = A.truncate() - A
    assert difference.norm() < 1e-13 * A.norm()
    assert difference.norm(2) < 1e-13 * A.norm()


@pytest.mark.parametrize("n", [40, 200])
def test_norm_of_zero(n):
    zero = HSSMatrix.from_dense(np.zeros((n, n)), levels=2)
    assert zero.norm() == zero.norm(2) == zero.trace() == 0


def with_generators(A, generators):
    k = A.levels + 1
    return HSSMatrix(A.row_tree, A.col_tree, generators[:k], generators[k : 2 * k - 1], generators[2 * k - 1 :])


@pytest.mark.parametrize("shape", [(8, 8, 2), (7, 5, 1), (6, 9, 0)])
def test_gradients_of_norm_diagonal_and_blocks(shape):
    A = random_hss(*shape, rank=1)
    generators = [g.requires_grad_() for g in (*A.D, *A.U, *A.V)]
    assert torch.autograd.gradcheck(lambda *g: with_generators(A, g).norm(), generators)
    assert torch.autograd.gradcheck(lambda *g: with_generators(A, g).diagonal(), generators)
    assert torch.autograd.gradcheck(lambda *g: with_generators(A, g).block([0, 2], [3, 1]), generators)


# Below the leaf size; above it, with padding and without.
@pytest.mark.parametrize(("n", "rank"), [(33, 3), (33, 12), (40, 12)])
def test_gradient_of_the_norm_is_that_of_the_dense_twin(n, rank):
    A = random_hss(40, n, 2, rank)
    generators = [g.requires_grad_() for g in (*A.D, *A.U, *A.V)]
    M = with_generators(A, generators)
    found = torch.autograd.grad(M.norm(), generators)
    expected = torch.autograd.grad(torch.linalg.matrix_norm(M.to_dense()), generators)
    torch.testing.assert_close(found, expected)


def test_indices_out_of_range_are_refused():
    A = random_hss(9, 6, 1, 2)
    for key in ((9, 0), (-10, 0), (0, 6), (0, -7), (9, slice(None)), 9):
        with pytest.raises(IndexError, match="out of range"):
            A[key]
    for rows, cols, name in (([9], [0], "row"), ([0, -10], [0], "row"), ([0], [6], "column"), ([0], [-7], "column")):
        with pytest.raises(IndexError, match=rf"A {name} index is out of range for an HSSMatrix of shape \(9, 6\)"):
            A.block(rows, cols)


def test_lists_and_ellipses_are_refused():
    A = random_hss(9, 6, 1, 2)
    for key in ([0, 1], (0, [1, 2]), ..., (..., 0), None, (None, 0), 0.0, (0, 1, 2), "x", np.array([0, 1])):
        with pytest.raises(TypeError, match=r"takes integers and slices.*A\.block"):
            A[key]


def test_other_norms_are_refused():
    for ord in (1, "nuc", None):
        with pytest.raises(ValueError, match="must be 'fro' or 2"):
            random_hss(9, 6, 1, 2).norm(ord)


def test_a_matrix_is_no_endless_sequence():
    # __getitem__ without __len__ makes Python iterate until an IndexError.
    A = random_hss(9, 6, 1, 2)
    torch.testing.assert_close(torch.stack(list(A)), A.to_dense())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_norms_of_what_is_not_finite(value):
    A = HSSMatrix.identity(100, dtype=torch.float32)
    A = HSSMatrix(A.row_tree, A.col_tree, [torch.where(A.D[0] > 0, value, 0), *A.D[1:]], A.U, A.V)
    for ord in ("fro", 2):
        torch.testing.assert_close(A.norm(ord), torch.tensor(value), equal_nan=True)
