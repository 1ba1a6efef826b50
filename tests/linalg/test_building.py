import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_hss.linalg import ClusterTree, HSSMatrix


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def random_hss(m, n, levels, rank, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return HSSMatrix.random(ClusterTree(m, levels), ClusterTree(n, levels), rank, generator=generator)


def sampled(dense, seed=0, counts=None, **options):
    """Matrix from products with `dense`, whose numbers of vectors are added to `counts`."""

    def product(M, name):
        def apply(x):
            if counts is not None:
                counts[name] = counts.get(name, 0) + x.shape[-1]
            return M @ x

        return apply

    return HSSMatrix.from_products(
        product(dense, "A"),
        product(dense.T, "A'"),
        tuple(dense.shape),
        generator=torch.Generator().manual_seed(seed),
        dtype=dense.dtype,
        **options,
    )


def relative_error(A, dense):
    dense = torch.as_tensor(dense)
    return float(torch.linalg.matrix_norm(A.to_dense() - dense, 2) / torch.linalg.matrix_norm(dense, 2))


# Banded matrices


@settings(max_examples=60)
@given(st.integers(1, 50), st.integers(0, 4), st.integers(0, 4), st.sampled_from([(), (3,), (2, 1)]), st.data())
def test_banded_matrices_are_those_of_scipy(n, lower, upper, batch_shape, data):
    levels = data.draw(st.one_of(st.just("auto"), st.integers(0, ClusterTree.max_levels(n, max(lower, upper)))))
    # Entries outside of the matrix hold something, too, which must not matter.
    ab = randn(*batch_shape, lower + upper + 1, n, seed=n)
    A = HSSMatrix.from_banded((lower, upper), ab, levels=levels)
    offsets = np.arange(upper, -lower - 1, -1)
    dense = [
        scipy.sparse.dia_array((diagonals, offsets), shape=(n, n)).toarray()
        for diagonals in ab.reshape(-1, *ab.shape[-2:]).numpy()
    ]
    np.testing.assert_array_equal(A.to_dense(), np.reshape(dense, A.shape))
    assert A.batch_shape == batch_shape
    assert A.rank == (lower + upper if A.levels else 0)


@pytest.mark.parametrize("l_and_u", [(0, 0), (2, 0), (0, 3), (1, 1), (40, 40)])
def test_banded_solves_are_those_of_scipy(l_and_u):
    ab = randn(sum(l_and_u) + 1, 500).numpy()
    ab[l_and_u[1]] = 3 * sum(l_and_u) + 1
    b = np.arange(500.0)
    np.testing.assert_allclose(
        HSSMatrix.from_banded(l_and_u, ab).solve(b), scipy.linalg.solve_banded(l_and_u, ab, b), rtol=1e-9, atol=1e-9
    )


def test_banded_matrices_take_lists_and_keep_float32():
    assert HSSMatrix.from_banded((0, 0), [[1, 2, 3]]).dtype == torch.float64
    assert HSSMatrix.from_banded((1, 0), np.ones((2, 40), dtype=np.float32), levels=2).dtype == torch.float32


def test_gradients_reach_the_diagonals():
    ab, x = randn(3, 12).requires_grad_(), randn(12)
    (HSSMatrix.from_banded((1, 1), ab, levels=2) @ x).sum().backward()
    expected = x.expand(3, 12).clone()  # the sum of column j is weighted with x[j]
    expected[0, 0] = expected[2, -1] = 0
    torch.testing.assert_close(ab.grad, expected)


def test_impossible_bands_are_refused():
    with pytest.raises(ValueError, match=r"ab has shape \(2, 9\), but l_and_u=\(1, 1\) needs 3 diagonals"):
        HSSMatrix.from_banded((1, 1), np.ones((2, 9)))
    with pytest.raises(ValueError, match=r"ab has shape \(2, 9\), but l_and_u=\(-1, 2\)"):
        HSSMatrix.from_banded((-1, 2), np.ones((2, 9)))
    with pytest.raises(ValueError, match=r"ab has shape \(9,\); it must have at least 2 dimensions"):
        HSSMatrix.from_banded((0, 0), np.ones(9))
    with pytest.raises(ValueError, match=r"levels=3 is too deep for 3 lower and 1 upper .* works is 2"):
        HSSMatrix.from_banded((3, 1), np.ones((5, 16)), levels=3)
    HSSMatrix.from_banded((3, 1), np.ones((5, 16)), levels=2)
    with pytest.raises(ValueError, match="levels=4 is too deep for n=9"):
        HSSMatrix.from_banded((0, 0), np.ones((1, 9)), levels=4)
    with pytest.raises(TypeError, match="ab is complex"):
        HSSMatrix.from_banded((0, 0), np.ones((1, 9), dtype=complex))


# Low-rank and diagonal matrices


@settings(max_examples=50)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 5),
    st.sampled_from([((), ()), ((3,), ()), ((2, 1), (3,))]),
    st.data(),
)
def test_low_rank_matrices(m, n, k, batches, data):
    levels = data.draw(st.one_of(st.just("auto"), st.integers(0, ClusterTree.max_levels(min(m, n)))))
    X, Y = randn(*batches[0], m, k), randn(*batches[1], n, k, seed=1)
    A = HSSMatrix.from_low_rank(X, Y, levels=levels)
    torch.testing.assert_close(A.to_dense(), X @ Y.mT)
    assert A.rank == (k if A.levels else 0)


def test_factors_of_different_width_are_refused():
    with pytest.raises(ValueError, match="X has 2 columns and Y 3; these numbers must be equal"):
        HSSMatrix.from_low_rank(np.ones((5, 2)), np.ones((5, 3)))


@settings(max_examples=50)
@given(st.integers(1, 40), st.sampled_from([(), (3,), (2, 1)]), st.data())
def test_diagonal_matrices(n, batch_shape, data):
    levels = data.draw(st.one_of(st.just("auto"), st.integers(0, ClusterTree.max_levels(n))))
    d, x = randn(*batch_shape, n), randn(n, 2)
    A = HSSMatrix.from_diagonal(d, levels=levels)
    assert A.rank == 0
    torch.testing.assert_close(A.to_dense(), torch.diag_embed(d))
    torch.testing.assert_close(A @ x, d.unsqueeze(-1) * x)
    torch.testing.assert_close(A.T @ x, d.unsqueeze(-1) * x)
    torch.testing.assert_close(A.solve(x), x / d.unsqueeze(-1))
    torch.testing.assert_close(A.inverse().diagonal(), 1 / d)


@pytest.mark.parametrize("n", [1, 2, 37, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identity(n, dtype):
    eye, x = HSSMatrix.identity(n, dtype=dtype), randn(n, 2, dtype=dtype)
    assert eye.rank == 0
    assert eye.dtype == dtype
    assert torch.equal(eye @ x, x)
    assert torch.equal(eye.to_dense(), torch.eye(n, dtype=dtype))
    assert torch.equal(eye.factor().solve(x), x)
    assert eye.slogdet() == (1, 0)
    assert eye.factor().condition == pytest.approx(1)


def test_shifts_of_the_spectrum():
    A = random_hss(60, 60, 2, 2)
    shifted = A + 5 * HSSMatrix.identity(60, levels=2)
    assert shifted.rank == A.rank
    torch.testing.assert_close(shifted.to_dense(), A.to_dense() + 5 * torch.eye(60))


def test_leaves_suit_the_rank():
    for n, k in ((1000, 2), (1000, 40), (100, 60)):
        A = HSSMatrix.from_low_rank(randn(n, k), randn(n, k))
        assert A.row_tree.min_leaf_size >= min(n, 2 * k, 16)
        assert A.levels == 0 or A.row_tree.min_leaf_size >= 2 * k


# Matrices from products


@pytest.mark.parametrize("shape", [(64, 64, 3), (61, 61, 2), (90, 70, 2), (70, 90, 2), (20, 20, 0), (3, 5, 0)])
def test_products_find_a_matrix_of_low_rank(shape):
    m, n, levels = shape
    dense = random_hss(m, n, levels, 3).to_dense()
    A = sampled(dense, levels=levels)
    assert A.shape == dense.shape
    assert A.rank == (3 if levels else 0)
    assert relative_error(A, dense) < 1e-10
    fixed = sampled(dense, levels=levels, rank=3)
    assert fixed.rank == (3 if levels else 0)
    assert relative_error(fixed, dense) < 1e-10


@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-9])
def test_products_keep_the_tolerance(tol):
    i = torch.arange(400, dtype=torch.float64)
    dense = 1 / (1 + (i[:, None] - i).abs())
    A = sampled(dense, tol=tol)
    assert relative_error(A, dense) < 20 * 400**0.5 * tol
    assert A.rank <= 3 * HSSMatrix.from_dense(dense, tol=tol).rank


@pytest.mark.parametrize("rank", [20, 30])
def test_a_rank_beyond_the_first_guess_is_found(rank):
    dense = random_hss(512, 512, 3, rank).to_dense()
    counts = {}
    A = sampled(dense, counts=counts, levels=3)
    assert A.rank == rank
    assert relative_error(A, dense) < 1e-9
    # Far fewer products than columns.
    assert max(counts.values()) < 300
    assert set(counts) == {"A", "A'"}


def test_products_of_a_matrix_of_full_rank_end():
    dense = randn(64, 64)
    counts = {}
    A = sampled(dense, counts=counts, levels=2)
    assert relative_error(A, dense) < 1e-8
    assert max(counts.values()) <= 74


@pytest.mark.parametrize("shape", [(350, 300), (175, 350), (350, 90)])
def test_leaves_smaller_than_the_rank_are_sampled(shape):
    # Bases of small, padded leaves are square and reach into the padding.
    dense = torch.from_numpy(scipy.linalg.toeplitz(*(1.0 / (1 + np.arange(n)) for n in shape)))
    assert relative_error(sampled(dense), dense) < 1e-8


def test_fixed_ranks_give_an_approximation():
    i = torch.arange(256, dtype=torch.float64)
    dense = 1 / (1 + (i[:, None] - i).abs())
    errors = [relative_error(sampled(dense, rank=rank, levels=3), dense) for rank in (2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


def test_products_of_float32():
    dense = random_hss(64, 64, 2, 2).to_dense().float()
    A = sampled(dense, tol=1e-4, levels=2)
    assert A.dtype == torch.float32
    assert relative_error(A, dense) < 1e-3


def test_the_seed_decides():
    dense = random_hss(64, 64, 2, 2).to_dense()
    first, second, other = (sampled(dense, seed, levels=2).to_dense() for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("n", [1, 5, 100, 300])
def test_toeplitz_matrices_are_those_of_scipy(n):
    c, r = 1 / (1.0 + np.arange(n)), np.exp(-np.arange(n) / 5.0)
    for arguments, m in (((c,), n), ((c, r), n), ((c, r[: max(n // 2, 1)]), max(n // 2, 1))):
        A = HSSMatrix.from_toeplitz(*arguments)
        assert A.shape == (n, m)
        np.testing.assert_allclose(A.to_dense(), scipy.linalg.toeplitz(*arguments), atol=1e-8)
    assert HSSMatrix.from_toeplitz(c, levels=0).rank == 0


def test_toeplitz_matrices_take_lists():
    np.testing.assert_allclose(
        HSSMatrix.from_toeplitz([2, -1, 0]).to_dense(), scipy.linalg.toeplitz([2, -1, 0]), atol=1e-12
    )
    with pytest.raises(TypeError, match="Complex"):
        HSSMatrix.from_toeplitz([1, 1j])
