import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_hss.linalg import ClusterTree, HSSMatrix


def random_hss(m, n, levels, rank, batch_shape=(), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return HSSMatrix.random(
        ClusterTree(m, levels), ClusterTree(n, levels), rank, batch_shape=batch_shape, generator=generator
    )


def smooth_kernel(m, n=None):
    i, j = torch.arange(m, dtype=torch.float64), torch.arange(n or m, dtype=torch.float64)
    return 1 / (1 + (i[:, None] / m - j / (n or m)).abs() * m)


def spectral_norm(dense):
    return torch.linalg.matrix_norm(dense, 2)


def block_rows(dense, row_tree, col_tree):
    """Rows of every node of the tree but the root, without the diagonal block."""
    for level in range(1, row_tree.levels + 1):
        rows, cols = row_tree.offsets(level), col_tree.offsets(level)
        for i in range(2**level):
            outside = torch.cat([dense[..., : cols[i]], dense[..., cols[i + 1] :]], dim=-1)
            yield outside[..., rows[i] : rows[i + 1], :]


def hss_rank(A, threshold):
    """The HSS rank by definition: the largest rank of a block row or column."""
    dense = A.to_dense()
    blocks = [*block_rows(dense, A.row_tree, A.col_tree), *block_rows(dense.mT, A.col_tree, A.row_tree)]
    return max((int(torch.linalg.matrix_rank(block, atol=threshold, rtol=0).max()) for block in blocks), default=0)


def truncation_bound(A, dense, rank):
    """Square root of the sum of squares of all singular values of block rows and columns beyond `rank`."""
    total = 0.0
    for block in (*block_rows(dense, A.row_tree, A.col_tree), *block_rows(dense.mT, A.col_tree, A.row_tree)):
        total += float(torch.linalg.svdvals(block)[rank:].square().sum())
    return total**0.5


def assert_within_tolerance(compressed, dense, tol):
    error, norm = spectral_norm(compressed.to_dense() - dense), spectral_norm(dense)
    assert (error <= max(dense.shape[-2:]) ** 0.5 * norm * (tol + 1e-14)).all()


@st.composite
def dense_matrices(draw, max_size=48):
    m, n = draw(st.integers(1, max_size)), draw(st.integers(1, max_size))
    levels = draw(st.integers(0, ClusterTree.max_levels(min(m, n))))
    batch_shape = draw(st.sampled_from([(), (3,), (2, 1)]))
    noise = torch.randn(*batch_shape, m, n, dtype=torch.float64, generator=torch.Generator().manual_seed(m * n))
    return draw(st.sampled_from([0.0, 1e-4, 1.0])) * noise + smooth_kernel(m, n), levels


@settings(max_examples=40)
@given(dense_matrices(), st.sampled_from([0, 1e-12, 1e-8, 1e-4, 1e-2]))
def test_from_dense_keeps_the_tolerance(matrix, tol):
    dense, levels = matrix
    A = HSSMatrix.from_dense(dense, tol=tol, levels=levels)
    assert A.shape == dense.shape
    assert A.levels == levels
    assert_within_tolerance(A, dense, tol)


@settings(max_examples=40)
@given(dense_matrices(), st.sampled_from([0, 1e-12, 1e-8, 1e-4, 1e-2]))
def test_truncate_keeps_the_tolerance(matrix, tol):
    dense, levels = matrix
    A = HSSMatrix.from_dense(dense, tol=0, levels=levels)
    B = A.truncate(tol)
    assert B.rank <= A.rank
    assert (B.row_tree, B.col_tree, B.dtype) == (A.row_tree, A.col_tree, A.dtype)
    assert_within_tolerance(B, A.to_dense(), tol)


@settings(max_examples=40)
@given(dense_matrices(), st.integers(0, 5))
def test_fixed_ranks_are_as_good_as_their_singular_values(matrix, rank):
    dense, levels = matrix
    A = HSSMatrix.from_dense(dense[(0,) * (dense.ndim - 2)], tol=0, levels=levels)
    dense = A.to_dense()
    bound = truncation_bound(A, dense, rank) + 1e-12 * torch.linalg.matrix_norm(dense)
    for B in (HSSMatrix.from_dense(dense, tol=0, rank=rank, levels=levels), A.truncate(0, rank=rank)):
        assert B.rank <= rank
        assert torch.linalg.matrix_norm(B.to_dense() - dense) <= bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smooth_kernels_have_small_rank(dtype):
    dense = smooth_kernel(500).to(dtype)
    ranks = []
    for tol in (1e-2, 1e-4, 1e-6):
        A = HSSMatrix.from_dense(dense, tol=tol)
        assert A.dtype == dtype
        assert_within_tolerance(A, dense, tol if dtype == torch.float64 else tol + 1e-6)
        # The tolerance refers to a lower bound of the norm, so a few more directions may stay than it asks for.
        assert A.rank <= hss_rank(A, 0.1 * tol * spectral_norm(dense)) + 1
        ranks.append(A.rank)
    assert ranks == sorted(ranks)
    assert ranks[-1] <= 16
    assert HSSMatrix.from_dense(dense, tol=1e-2).n_parameters < dense.numel() / 5


@pytest.mark.parametrize("shape", [(64, 64, 3), (61, 47, 3), (53, 53, 4)])
@pytest.mark.parametrize("batch_shape", [(), (2,)])
def test_the_rank_is_found_again(shape, batch_shape):
    m, n, levels = shape
    A = random_hss(m, n, levels, 2, batch_shape)
    dense = A.to_dense()
    for B in ((A + A).truncate(), (2 * A + A - A).truncate(), HSSMatrix.from_dense(dense, levels=levels)):
        assert B.rank == A.rank
        assert_within_tolerance(B, B.to_dense(), 1e-13)
    torch.testing.assert_close((A + A).truncate().to_dense(), 2 * dense, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close((A @ A.T).truncate().to_dense(), dense @ dense.mT, rtol=1e-12, atol=1e-12)
    assert (A @ A.T).truncate(rank=1).rank == 1


def test_ranks_may_differ_from_level_to_level():
    A = HSSMatrix.from_dense(smooth_kernel(256), tol=1e-6, levels=4)
    assert len({basis.shape[-1] for basis in A.U}) > 1
    assert A.rank == max(basis.shape[-1] for basis in A.U + A.V)


def test_a_batch_has_the_rank_of_its_worst_member():
    easy, hard = random_hss(40, 40, 2, 1).to_dense(), random_hss(40, 40, 2, 4).to_dense()
    A = HSSMatrix.from_dense(torch.stack([easy, hard]), levels=2)
    assert A.rank == 4
    torch.testing.assert_close(A.to_dense()[0], easy, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(A.to_dense()[1], hard, rtol=1e-12, atol=1e-12)
    # Each member has a norm of its own.
    scaled = HSSMatrix.from_dense(torch.stack([easy, 1e-20 * hard]), levels=2)
    torch.testing.assert_close(1e20 * scaled.to_dense()[1], hard, rtol=1e-11, atol=1e-11)


def test_bases_are_orthonormal():
    A = random_hss(48, 32, 2, 3)
    for B in ((A + A).truncate(), HSSMatrix.from_dense(A.to_dense(), levels=2)):
        for basis in B.U + B.V:
            gram = basis.mT @ basis
            torch.testing.assert_close(gram, torch.eye(gram.shape[-1]).to(gram).expand(gram.shape))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_matrices(value):
    dense = torch.full((21, 34), value, dtype=torch.float64)
    A = HSSMatrix.from_dense(dense, levels=3)
    assert A.rank == A.truncate().rank == value
    torch.testing.assert_close(A.to_dense(), dense)


def test_from_dense_takes_what_numpy_takes():
    assert HSSMatrix.from_dense([[1, 2], [3, 4]], levels=1).dtype == torch.float64
    assert HSSMatrix.from_dense(np.eye(3, dtype=np.float32)).dtype == torch.float32
    assert HSSMatrix.from_dense(torch.eye(3, dtype=torch.int32)).dtype == torch.float64
    assert HSSMatrix.from_dense([[2.0]]).to_dense() == 2
    assert HSSMatrix.from_dense(torch.eye(1000)).levels == 5


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_scales(scale):
    A = HSSMatrix.from_dense(scale * smooth_kernel(64), tol=1e-8, levels=2)
    assert A.rank == HSSMatrix.from_dense(smooth_kernel(64), tol=1e-8, levels=2).rank
    torch.testing.assert_close(A.to_dense() / scale, smooth_kernel(64), rtol=0, atol=1e-6)


def test_impossible_arguments_are_refused():
    A = random_hss(16, 16, 1, 2)
    for compress in (A.truncate, lambda *args, **kwargs: HSSMatrix.from_dense(torch.eye(16), *args, **kwargs)):
        for tol in (-1e-3, 1, float("nan")):
            with pytest.raises(ValueError, match=f"tol={tol} must be at least 0 and below 1"):
                compress(tol)
        for rank in (-1, 1.5):
            with pytest.raises(ValueError, match=f"rank={rank} must be None or an integer"):
                compress(rank=rank)
    with pytest.raises(ValueError, match=r"A has shape \(3,\); it must have at least 2 dimensions"):
        HSSMatrix.from_dense(np.ones(3))
    with pytest.raises(TypeError, match="complex"):
        HSSMatrix.from_dense(torch.eye(3, dtype=torch.complex128))
    with pytest.raises(TypeError, match="complex"):
        HSSMatrix.from_dense(np.eye(3, dtype=complex))
    with pytest.raises(ValueError, match="levels=3 is too deep for n=7"):
        HSSMatrix.from_dense(np.ones((7, 9)), levels=3)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_coarsening_changes_the_tree_and_not_the_matrix(m, n, data):
    levels = data.draw(st.integers(0, ClusterTree.max_levels(min(m, n))))
    coarse = data.draw(st.integers(0, levels))
    rank, batch_shape = data.draw(st.integers(0, 3)), data.draw(st.sampled_from([(), (2,)]))
    A = random_hss(m, n, levels, rank, batch_shape)
    B = A.coarsen(coarse)
    assert (B.row_tree, B.col_tree) == (ClusterTree(m, coarse), ClusterTree(n, coarse))
    assert B.rank == (rank if coarse else 0)
    torch.testing.assert_close(B.to_dense(), A.to_dense(), rtol=1e-12, atol=1e-12)


def test_a_matrix_cannot_be_made_finer():
    A = random_hss(16, 16, 1, 2)
    for levels in (-1, 2):
        with pytest.raises(ValueError, match=f"levels={levels} must be between 0 and the current depth, 1"):
            A.coarsen(levels)
