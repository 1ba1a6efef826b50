import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_hss.linalg import ClusterTree, HSSMatrix
from sklearn_hss.linalg._product import dense_form


@st.composite
def hss_matrices(draw, max_size=40):
    m, n = draw(st.integers(1, max_size)), draw(st.integers(1, max_size))
    levels = draw(st.integers(0, ClusterTree.max_levels(min(m, n))))
    batch_shape = draw(st.sampled_from([(), (3,), (2, 1)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    rank = draw(st.integers(1, 4))
    return HSSMatrix.random(
        ClusterTree(m, levels), ClusterTree(n, levels), rank, batch_shape=batch_shape, generator=generator
    )


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def definition(A, level=None):
    """Definition 2.1 read literally: block-diagonal matrices, one matrix product after the other. No batch."""
    level = 0 if level is None else level
    if level == A.levels:
        return A.D[level][0]
    D, U, V = (torch.block_diag(*generators[level]) for generators in (A.D, A.U, A.V))
    return D + U @ definition(A, level + 1) @ V.T


@given(hss_matrices())
def test_to_dense_is_the_definition(A):
    dense = A.to_dense()
    assert dense.shape == A.shape
    for single, expected in zip(batch_members(A), dense.reshape(-1, *dense.shape[-2:]), strict=True):
        # The definition on padded leaves; rows and columns of the padding are dropped.
        rows, cols = (
            torch.cat([leaf * tree.max_leaf_size + torch.arange(size) for leaf, size in enumerate(tree.leaf_sizes)])
            for tree in (A.row_tree, A.col_tree)
        )
        torch.testing.assert_close(definition(single)[rows][:, cols], expected, rtol=1e-12, atol=1e-12)


def batch_members(A):
    count = int(np.prod(A.batch_shape))
    D, U, V = ([g.reshape(count, *g.shape[-3:]) for g in generators] for generators in (A.D, A.U, A.V))
    for i in range(count):
        yield HSSMatrix(A.row_tree, A.col_tree, *([g[i] for g in generators] for generators in (D, U, V)))


def test_dense_form_differentiates_twice():
    A = HSSMatrix.random(
        ClusterTree(9, 2), ClusterTree(7, 2), 1, batch_shape=(2,), generator=torch.Generator().manual_seed(0)
    )
    generators = [W.requires_grad_() for W in (*A.D, *A.U, *A.V)]

    def dense(*generators):
        return dense_form(generators[:3], generators[3:5], generators[5:])

    assert torch.autograd.gradcheck(dense, generators, fast_mode=True)
    assert torch.autograd.gradgradcheck(dense, generators, fast_mode=True)


@given(hss_matrices(), st.integers(1, 5))
def test_products_agree_with_the_dense_twin(A, k):
    *batch, m, n = A.shape
    dense = A.to_dense()
    x, y = randn(*batch, n, k), randn(*batch, m, k, seed=1)
    torch.testing.assert_close(A @ x, dense @ x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(A @ x[..., 0].reshape(-1, n)[0], dense @ x[..., 0].reshape(-1, n)[0])
    torch.testing.assert_close(A.T @ y, dense.mT @ y, rtol=1e-12, atol=1e-12)
    # The dot test: <A x, y> = <x, A' y>.
    torch.testing.assert_close(((A @ x) * y).sum(), (x * (A.T @ y)).sum(), rtol=1e-11, atol=1e-11)


@given(hss_matrices())
def test_transpose(A):
    assert A.T.shape == (*A.batch_shape, *A.shape[-2:][::-1])
    torch.testing.assert_close(A.T.to_dense(), A.to_dense().mT)
    torch.testing.assert_close(A.T.T.to_dense(), A.to_dense())


@given(hss_matrices())
def test_off_diagonal_blocks_have_the_rank(A):
    dense = A.to_dense()
    for level in range(1, A.levels + 1):
        rows, cols = A.row_tree.offsets(level), A.col_tree.offsets(level)
        for i in range(2**level):
            off_diagonal = torch.cat([dense[..., : cols[i]], dense[..., cols[i + 1] :]], dim=-1)
            block_row = off_diagonal[..., rows[i] : rows[i + 1], :]
            assert torch.linalg.matrix_rank(block_row, rtol=1e-10).max() <= A.rank


def test_batches_broadcast_as_in_matmul():
    tree = ClusterTree(13, 2)
    A = HSSMatrix.random(tree, tree, 2, batch_shape=(3, 1), generator=torch.Generator().manual_seed(0))
    x = randn(4, 13, 5)
    assert (A @ x).shape == (3, 4, 13, 5)
    torch.testing.assert_close(A @ x, A.to_dense() @ x)


def test_different_ranks_of_rows_and_columns():
    # Nothing in Definition 2.1 needs equal ranks; compressed matrices will not have them.
    tree = ClusterTree(12, 2)
    A = HSSMatrix(
        tree,
        tree,
        D=[randn(4, 3, 3), randn(2, 4, 2, seed=1), randn(1, 2, 6, seed=2)],
        U=[randn(4, 3, 2, seed=3), randn(2, 4, 1, seed=4)],
        V=[randn(4, 3, 1, seed=5), randn(2, 2, 3, seed=6)],
    )
    x = randn(12, 2)
    torch.testing.assert_close(A @ x, A.to_dense() @ x)
    torch.testing.assert_close(A.T @ x, A.to_dense().T @ x)
    assert A.rank == 3


def test_number_of_parameters():
    tree = ClusterTree(256, 3)
    assert HSSMatrix.random(tree, tree, 2).n_parameters == 9424
    tree = ClusterTree(1024, 3)
    assert HSSMatrix.random(tree, tree, 32).n_parameters == 249_856
    # Leaves of 3 and 2: only the entries that matter count.
    A = HSSMatrix.random(ClusterTree(5, 1), ClusterTree(4, 1), 2)
    assert A.n_parameters == (2 * 2 + 3 * 2) + (5 + 4) * 2 + 16
    assert HSSMatrix.random(ClusterTree(5, 1), ClusterTree(4, 1), 2, batch_shape=(7,)).n_parameters == 7 * 44


def test_padding_has_no_effect():
    tree = ClusterTree(5, 1)  # leaves of 2 and 3
    A = HSSMatrix.random(tree, tree, 2, generator=torch.Generator().manual_seed(0))
    D, U, V = ([g.clone() for g in generators] for generators in (A.D, A.U, A.V))
    D[0][0, 2, :] = D[0][0, :, 2] = U[0][0, 2] = V[0][0, 2] = 1e6
    spoilt, x = HSSMatrix(tree, tree, D, U, V), randn(5, 3)
    torch.testing.assert_close(spoilt @ x, A @ x)
    torch.testing.assert_close(spoilt.to_dense(), A.to_dense())


def test_gradients_of_products():
    tree = ClusterTree(7, 1)
    A = HSSMatrix.random(tree, tree, 2, generator=torch.Generator().manual_seed(0))
    generators = [g.requires_grad_() for g in (*A.D, *A.U, *A.V)]

    def product(x, *generators):
        return HSSMatrix(tree, tree, generators[:2], generators[2:3], generators[3:]) @ x

    inputs = (randn(7, 2).requires_grad_(), *generators)
    assert torch.autograd.gradcheck(product, inputs)
    assert torch.autograd.gradgradcheck(product, inputs)


def test_impossible_operands_are_refused():
    A = HSSMatrix.random(ClusterTree(9, 1), ClusterTree(6, 1), 2)
    with pytest.raises(ValueError, match="operand with 9 rows does not fit this HSSMatrix with 6 columns"):
        A @ randn(9, 2)
    with pytest.raises(TypeError):
        A @ "x"
    with pytest.raises(TypeError, match="Complex operands are not supported"):
        A @ np.ones(6, dtype=complex)
    with pytest.raises(ValueError, match="A scalar does not fit"):
        A @ torch.tensor(1.0, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"operand of torch.float32 does not fit this HSSMatrix of torch.float64"):
        A @ torch.ones(6)
    with pytest.raises(TypeError, match="row_tree=9 must be a ClusterTree"):
        HSSMatrix.random(9, 6, 2)


def test_no_columns():
    A = HSSMatrix.random(ClusterTree(9, 1), ClusterTree(6, 1), 2, batch_shape=(2,))
    assert (A @ randn(6, 0)).shape == (2, 9, 0)


def test_impossible_generators_are_refused():
    tree = ClusterTree(8, 1)
    A = HSSMatrix.random(tree, tree, 2)
    with pytest.raises(ValueError, match="row_tree has 1 levels and col_tree 2"):
        HSSMatrix(tree, ClusterTree(8, 2), A.D, A.U, A.V)
    with pytest.raises(ValueError, match="need 2 D, 1 U and 1 V tensors; got 1, 1 and 1"):
        HSSMatrix(tree, tree, A.D[:1], A.U, A.V)
    with pytest.raises(ValueError, match=r"U\[0\] has shape \(2, 3, 2\).* need \(2, 4, 2\)"):
        HSSMatrix(tree, tree, A.D, [A.U[0][:, :3]], A.V)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize("n", [100, 1000])
def test_everything_works_on_a_gpu(n):
    ab = np.vstack([np.full(n, -1.0), np.full(n, 2.5), np.full(n, -1.2)])
    A = HSSMatrix.from_banded((1, 1), ab)
    on_gpu, x = A.to("cuda"), randn(n, 3)
    for name, operation in {
        "product": lambda M, x: M @ x,
        "transpose": lambda M, x: M.T @ x,
        "solve": lambda M, x: M.solve(x),
        "transposed solve": lambda M, x: M.factor().solve_transposed(x),
        "inverse": lambda M, x: M.inverse() @ x,
        "arithmetic": lambda M, x: (2 * M + M @ M - M).truncate() @ x,
        "entries": lambda M, x: M[3:7, ::2] @ x[::2],
        "diagonal": lambda M, x: M.diagonal(),
        "norm": lambda M, x: M.norm(),
        "from dense": lambda M, x: HSSMatrix.from_dense(M.to_dense()) @ x,
        "gradient": lambda M, x: torch.autograd.grad((M.solve(x.requires_grad_()) ** 2).sum(), x)[0],
    }.items():
        torch.testing.assert_close(operation(on_gpu, x.cuda()).cpu(), operation(A, x.clone()), msg=name)
