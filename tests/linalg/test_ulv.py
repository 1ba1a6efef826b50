import pickle
import warnings
from unittest import mock

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import LinAlgWarning
from scipy.sparse.linalg import LinearOperator, gmres

from sklearn_hss.linalg import ClusterTree, HSSMatrix, _ulv

EPS = {torch.float32: 1.2e-7, torch.float64: 2.3e-16}


def dense_size(n):
    """Dense switch at `n`: small matrices go through all levels with a small one, and through none with a large one."""
    return mock.patch.object(_ulv, "_DENSE_SIZE", n)


@pytest.fixture(params=[1, 4, 16, 256])
def every_dense_size(request):
    with dense_size(request.param):
        yield request.param


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def random_hss(n, levels, rank, batch_shape=(), seed=0, dtype=torch.float64):
    tree, generator = ClusterTree(n, levels), torch.Generator().manual_seed(seed)
    return HSSMatrix.random(tree, tree, rank, batch_shape=batch_shape, generator=generator, dtype=dtype)


def well_conditioned(*args, **kwargs):
    """Random matrix with a heavy diagonal of both signs, so that no comparison suffers from its condition."""
    A = random_hss(*args, **kwargs)
    signs = torch.where(torch.arange(A.shape[-1]) % 3 == 0, -1.0, 1.0).to(A.dtype)
    shift = 2 * torch.linalg.matrix_norm(A.to_dense(), 2)
    identity = HSSMatrix.from_diagonal(signs.expand(*A.batch_shape, -1), levels=A.levels)
    return A + (shift if A.batch_shape else float(shift)) * identity


def laplacian(n, dtype=torch.float64):
    return HSSMatrix.from_banded((1, 1), torch.tensor([[-1.0], [2.0], [-1.0]], dtype=dtype).expand(3, n))


def backward_error(dense, x, b):
    """Largest over the columns of ||b - A x|| / (||A|| ||x|| + ||b||), in the precision of NumPy's float64."""
    dense, x, b = (torch.as_tensor(t).double() for t in (dense, x, b))
    scale = torch.linalg.matrix_norm(dense, 2)[..., None] * torch.linalg.vector_norm(x, dim=-2)
    scale = scale + torch.linalg.vector_norm(b, dim=-2)
    return float((torch.linalg.vector_norm(b - dense @ x, dim=-2) / scale.clamp_min(1e-300)).max())


@st.composite
def square_matrices(draw, max_size=48, max_rank=5):
    """Of any size, also prime ones, and any rank, also 0 and those larger than the leaves; and a dense switch."""
    n = draw(st.one_of(st.sampled_from([1, 2, 3]), st.integers(4, max_size)))
    levels = draw(st.integers(0, ClusterTree.max_levels(n)))
    batch_shape = draw(st.sampled_from([(), (3,), (2, 1)]))
    arguments = n, levels, draw(st.integers(0, max_rank)), batch_shape, draw(st.integers(0, 2**20))
    return arguments, draw(st.sampled_from([1, 4, 8, 256]))


@settings(max_examples=80)
@given(square_matrices(), st.sampled_from([torch.float32, torch.float64]))
def test_solves_are_backward_stable_whatever_the_matrix(case, dtype):
    # Random matrices of any condition: no shift makes them harmless.
    arguments, size = case
    A = random_hss(*arguments, dtype=dtype)
    dense, b = A.to_dense(), randn(*A.shape[:-1], 2, dtype=dtype)
    with dense_size(size), warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        factor = A.factor()
    x, x_transposed = factor.solve(b), factor.solve_transposed(b)
    assert x.shape == x_transposed.shape == b.shape
    assert x.dtype == x_transposed.dtype == dtype
    assert backward_error(dense, x, b) < 200 * EPS[dtype]
    assert backward_error(dense.mT, x_transposed, b) < 200 * EPS[dtype]


@settings(max_examples=80)
@given(square_matrices())
def test_solve_and_inverse_agree_with_the_dense_twin(case):
    arguments, size = case
    A = well_conditioned(*arguments)
    dense, b = A.to_dense(), randn(*A.shape[:-1], 3)
    expected = np.linalg.inv(dense.numpy())
    close = {"rtol": 1e-11, "atol": 1e-12}
    with dense_size(size):
        np.testing.assert_allclose(A.solve(b), expected @ b.numpy(), **close)
        np.testing.assert_allclose(A.factor().solve_transposed(b), expected.swapaxes(-1, -2) @ b.numpy(), **close)
    inverse = A.inverse()
    np.testing.assert_allclose(inverse.to_dense(), expected, **close)
    assert inverse.rank <= A.rank
    assert (inverse.row_tree, inverse.col_tree) == (A.row_tree, A.col_tree)


@settings(max_examples=80)
@given(square_matrices())
def test_slogdet_is_that_of_the_dense_twin(case):
    arguments, size = case
    A = random_hss(*arguments)
    with dense_size(size), warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        sign, logabsdet = A.slogdet()
        condition = A.factor().condition
    expected_sign, expected = np.linalg.slogdet(A.to_dense().numpy())
    assert sign.shape == logabsdet.shape == A.batch_shape
    if condition < 1e12:
        np.testing.assert_array_equal(sign, expected_sign)
        np.testing.assert_allclose(logabsdet, expected, atol=1e-15 * condition * A.shape[-1] + 1e-12)


@settings(max_examples=60)
@given(square_matrices())
def test_condition_is_estimated_from_below_within_a_factor_of_ten(case):
    arguments, size = case
    A = random_hss(*arguments)
    with dense_size(size), warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        estimate = A.factor().condition
    true = np.linalg.cond(A.to_dense().numpy()).max()
    if true < 1e13:
        assert true / 10 < estimate < true * 1.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [300, 1021])
def test_sizes_above_the_dense_switch(n, dtype):
    A = well_conditioned(n, 5, 3, dtype=dtype)
    assert n > _ulv._DENSE_SIZE
    assert A.factor()._steps
    dense, x = A.to_dense().double(), randn(n, 2, dtype=dtype)
    assert backward_error(dense, A.solve(x), x) < 100 * EPS[dtype]
    assert backward_error(dense.T, A.factor().solve_transposed(x), x) < 100 * EPS[dtype]
    sign, logabsdet = np.linalg.slogdet(dense.numpy())
    assert A.slogdet()[0] == sign
    assert A.slogdet()[1].item() == pytest.approx(logabsdet, rel=10 * EPS[dtype] ** 0.9)
    assert 0.1 < A.factor().condition / np.linalg.cond(dense.numpy()) < 1.01
    inverse = A.inverse()
    assert inverse.rank == A.rank
    assert inverse.dtype == dtype
    torch.testing.assert_close(inverse @ (A @ x), x, rtol=0, atol=300 * EPS[dtype])


def test_inverse_of_a_banded_matrix_has_its_rank():
    A = laplacian(200)
    i = np.arange(1, 201)
    expected = np.minimum.outer(i, i) * (201 - np.maximum.outer(i, i)) / 201  # Green's function of the Laplacian
    np.testing.assert_allclose(A.inverse().to_dense(), expected, rtol=1e-10)
    assert A.inverse().rank == 2
    np.testing.assert_allclose(A.inverse().inverse().to_dense(), A.to_dense(), atol=1e-8)


def test_different_ranks_of_rows_and_columns(every_dense_size):
    tree = ClusterTree(12, 2)
    A = HSSMatrix(
        tree,
        tree,
        D=[randn(4, 3, 3) + 4 * torch.eye(3), randn(2, 4, 2, seed=1), randn(1, 2, 6, seed=2)],
        U=[randn(4, 3, 2, seed=3), randn(2, 4, 1, seed=4)],
        V=[randn(4, 3, 1, seed=5), randn(2, 2, 3, seed=6)],
    )
    for M in (A, A.T):
        b = randn(12, 2)
        torch.testing.assert_close(M.to_dense() @ M.solve(b), b)
        torch.testing.assert_close(M.to_dense().T @ M.factor().solve_transposed(b), b)
        torch.testing.assert_close(M.inverse().to_dense(), torch.linalg.inv(M.to_dense()))


@pytest.mark.parametrize("batch", [(), (3,), (2, 1)])
@pytest.mark.parametrize("b_shape", [(13,), (13, 2), (1, 13, 2), (3, 13, 1), (2, 3, 13, 4), (13, 0)])
def test_right_hand_sides_broadcast_as_in_matmul(batch, b_shape, every_dense_size):
    A, b = well_conditioned(13, 2, 2, batch), randn(*b_shape)
    expected = torch.linalg.inv(A.to_dense()) @ b
    expected_transposed = torch.linalg.inv(A.to_dense()).mT @ b
    for solved, wanted in ((A.solve(b), expected), (A.factor().solve_transposed(b), expected_transposed)):
        assert solved.shape == wanted.shape
        torch.testing.assert_close(solved, wanted)


def test_numpy_in_numpy_out(every_dense_size):
    A = well_conditioned(13, 2, 2)
    for b in (np.arange(13.0), np.arange(26).reshape(13, 2), np.ones((13, 1), dtype=np.float32)):
        for solved, dense in ((A.solve(b), A.to_dense()), (A.factor().solve_transposed(b), A.to_dense().T)):
            assert isinstance(solved, np.ndarray)
            assert solved.dtype == np.float64
            np.testing.assert_allclose(solved, np.linalg.solve(dense.numpy(), b))


def test_zero_columns_are_solved_by_zero(every_dense_size):
    A, b = random_hss(20, 2, 3), randn(20, 3)
    b[:, 1] = 0
    assert (A.solve(b)[:, 1] == 0).all()
    assert (A.factor().solve_transposed(b)[:, 1] == 0).all()
    assert (A.solve(torch.zeros_like(b)) == 0).all()


@pytest.mark.parametrize("spectrum", ["even", "one small", "one large"])
def test_residuals_are_small_even_for_condition_1e12(spectrum, every_dense_size):
    n = 64
    values = {"even": np.logspace(0, -12, n), "one small": np.ones(n), "one large": np.full(n, 1e-12)}[spectrum]
    values[-1] = 1.0 if spectrum == "one large" else 1e-12
    left, right = (np.linalg.qr(np.random.RandomState(seed).standard_normal((n, n)))[0] for seed in range(2))
    dense = left * values @ right
    A = HSSMatrix.from_dense(dense, tol=0, levels=3)
    b = randn(n, 2)
    assert backward_error(dense, A.solve(b), b) < 1e-13
    assert backward_error(dense.T, A.factor().solve_transposed(b), b) < 1e-13
    assert 1e11 < A.factor().condition < 1.1e12


def test_residuals_of_an_ill_conditioned_differential_operator():
    n = 1200
    diagonals = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
    A = HSSMatrix.from_banded((2, 2), np.tile(diagonals[:, None], n))
    dense = scipy.sparse.diags(list(diagonals), offsets=[-2, -1, 0, 1, 2], shape=(n, n)).toarray()
    x, b = A.solve(np.ones((n, 1))), np.ones((n, 1))
    assert backward_error(dense, x, b) < 1e-13
    assert A.factor().condition > 1e10


@pytest.mark.parametrize(
    "permutation",
    [
        np.roll(np.arange(24), 12),
        np.arange(24)[::-1],
        np.roll(np.arange(24), 1),
        np.random.RandomState(0).permutation(24),
    ],
    ids=["[[0, I], [I, 0]]", "reversal", "cyclic shift", "random"],
)
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_leading_blocks_may_be_singular(permutation, levels, every_dense_size):
    dense = np.eye(24)[permutation]
    A = HSSMatrix.from_dense(dense, levels=levels)
    b = randn(24, 2)
    np.testing.assert_allclose(A.solve(b), dense.T @ b.numpy(), atol=1e-13)
    np.testing.assert_allclose(A.factor().solve_transposed(b), dense @ b.numpy(), atol=1e-13)
    np.testing.assert_allclose(A.inverse().to_dense(), dense.T, atol=1e-13)
    sign, logabsdet = A.slogdet()
    assert sign == np.linalg.slogdet(dense)[0]
    assert abs(logabsdet) < 1e-12


def test_saddle_point_matrices(every_dense_size):
    # [[K, B'], [B, 0]]: the second diagonal block vanishes.
    K = np.diag(np.arange(1.0, 17))
    B = np.random.RandomState(0).standard_normal((8, 16))
    dense = np.block([[K, B.T], [B, np.zeros((8, 8))]])
    A, b = HSSMatrix.from_dense(dense, levels=3), np.arange(24.0)
    np.testing.assert_allclose(A.solve(b), np.linalg.solve(dense, b), rtol=1e-9, atol=1e-12)
    assert A.slogdet()[0] == np.linalg.slogdet(dense)[0]


def singular_matrices():
    ones = np.ones(40)
    ones[7] = 0
    yield "diagonal", HSSMatrix.from_diagonal(ones, levels=3)
    yield "zero", HSSMatrix.from_dense(np.zeros((40, 40)), levels=3)
    yield "zero row", HSSMatrix.from_dense(ones[:, None] * (np.eye(40) + np.eye(40, k=1)), levels=3)
    yield "one of a batch", HSSMatrix.from_diagonal(np.stack([ones, ones + 1]), levels=2)
    yield "single", HSSMatrix.from_dense([[0.0]])


@pytest.mark.parametrize(("name", "A"), [*singular_matrices()])
def test_singular_matrices_are_refused(name, A, every_dense_size):
    for attempt in (A.factor, A.inverse, lambda: A.solve(torch.ones(A.shape[-1], dtype=A.dtype))):
        with pytest.raises(np.linalg.LinAlgError, match="singular"):
            attempt()
    if A.batch_shape:
        with pytest.raises(np.linalg.LinAlgError, match="singular"):
            A.slogdet()
    else:
        assert A.slogdet() == (0, -np.inf)


@pytest.mark.parametrize("n", [60, 600])
def test_matrices_singular_to_working_precision_warn(n):
    i = np.arange(n)
    dense = 1 / (1 + i[:, None] / n + i / n)  # Hilbert-like: of numerical rank 10
    A = HSSMatrix.from_dense(dense, tol=0)
    with pytest.warns(
        LinAlgWarning, match=r"singular to working precision \(condition number about .*no correct digit"
    ):
        A.factor()
    assert A.factor().condition > 1e15


def test_warnings_name_the_line_of_the_user():
    A = HSSMatrix.from_diagonal([1.0, 1e-20])
    with pytest.warns(LinAlgWarning) as record:
        A.solve(np.ones(2))
    assert record[0].filename == __file__


def test_well_conditioned_matrices_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        laplacian(600).factor()
        HSSMatrix.from_diagonal([1.0, 1e-14]).factor()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["D", "U", "V"])
def test_nan_is_refused(value, where, every_dense_size):
    A = random_hss(20, 2, 2)
    for i in range(len(getattr(A, where))):
        generators = {name: [g.clone() for g in getattr(A, name)] for name in "DUV"}
        generators[where][i][0, 0, 0] = value
        spoilt = HSSMatrix(A.row_tree, A.col_tree, **generators)
        for attempt in (spoilt.factor, spoilt.slogdet, spoilt.inverse, lambda M=spoilt: M.solve(np.ones(20))):
            with pytest.raises(np.linalg.LinAlgError, match="NaN or infinite"):
                attempt()


def test_impossible_arguments_are_refused():
    rectangular = HSSMatrix.random(ClusterTree(9, 1), ClusterTree(6, 1), 2)
    for attempt in (rectangular.factor, rectangular.inverse, rectangular.slogdet):
        with pytest.raises(ValueError, match=r"Only square matrices .* shape \(9, 6\)"):
            attempt()
    with pytest.raises(TypeError, match=r"Only float32 and float64 .*bfloat16"):
        laplacian(8).to(torch.bfloat16).factor()
    A = laplacian(8)
    with pytest.raises(ValueError, match="operand with 9 rows does not fit this HSSMatrix with 8 rows"):
        A.solve(randn(9))
    with pytest.raises(TypeError, match=r"torch.float32 does not fit this HSSMatrix of torch.float64"):
        A.solve(torch.ones(8))
    with pytest.raises(TypeError, match="Complex operands"):
        A.solve(np.ones(8, dtype=complex))
    with pytest.raises(ValueError, match="A scalar does not fit"):
        A.solve(torch.tensor(1.0, dtype=torch.float64))


def test_the_factor_is_made_once_and_left_out_of_pickles():
    A = laplacian(20)
    factor = A.factor()
    A.solve(np.ones(20))
    A.slogdet()
    assert A.factor() is factor
    copy = pickle.loads(pickle.dumps(A))
    assert copy._factor is None
    np.testing.assert_array_equal(copy.solve(np.ones(20)), A.solve(np.ones(20)))
    assert A.factor() is factor
    assert len(pickle.dumps(A)) == len(pickle.dumps(laplacian(20)))


@pytest.mark.parametrize("batch_shape", [(), (2,)])
@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_of_solutions(batch_shape, transposed, every_dense_size):
    A = well_conditioned(7, 2, 1, batch_shape)
    generators = [g.detach().requires_grad_() for g in (*A.D, *A.U, *A.V)]

    def solution(b, *generators):
        M = HSSMatrix(A.row_tree, A.col_tree, generators[:3], generators[3:5], generators[5:])
        return (M.T if transposed else M).solve(b)

    for b in (randn(7), randn(1, 7, 2)):
        inputs = (b.requires_grad_(), *generators)
        # A projection on few directions, instead of one check per entry.
        assert torch.autograd.gradcheck(solution, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(solution, inputs, fast_mode=True)


def test_gradients_in_every_entry():
    A = well_conditioned(5, 1, 1)
    inputs = [g.detach().requires_grad_() for g in (randn(5, 2), *A.D, *A.U, *A.V)]

    def solution(b, *generators):
        return HSSMatrix(A.row_tree, A.col_tree, generators[:2], generators[2:3], generators[3:]).solve(b)

    with dense_size(1):
        assert torch.autograd.gradcheck(solution, inputs)
        assert torch.autograd.gradgradcheck(solution, inputs)


def test_gradients_are_those_of_the_dense_twin(every_dense_size):
    A, b = well_conditioned(24, 3, 2), randn(24, 2)
    generators = [g.detach().requires_grad_() for g in (*A.D, *A.U, *A.V)]
    M = HSSMatrix(A.row_tree, A.col_tree, generators[:4], generators[4:7], generators[7:])
    found = torch.autograd.grad(M.solve(b).sin().sum(), generators)
    expected = torch.autograd.grad(torch.linalg.solve(M.to_dense(), b).sin().sum(), generators)
    torch.testing.assert_close(found, expected)


def test_gradients_with_respect_to_some_of_the_inputs_only():
    A, b = well_conditioned(8, 1, 1), randn(8).requires_grad_()
    (gradient,) = torch.autograd.grad(A.solve(b).sum(), b)
    torch.testing.assert_close(gradient, A.T.solve(torch.ones_like(b)))
    D = [A.D[0].detach().requires_grad_(), A.D[1]]
    M = HSSMatrix(A.row_tree, A.col_tree, D, A.U, A.V)
    M.solve(b.detach()).sum().backward()
    assert D[0].grad.abs().sum() > 0
    with torch.no_grad():
        assert not M.solve(b).requires_grad
    assert isinstance(M.solve(np.ones(8)), np.ndarray)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scipy_takes_matrix_and_factor_as_operators(dtype):
    n = 600
    A = laplacian(n, dtype=dtype)
    operator, inverse = A.aslinearoperator(), A.factor().aslinearoperator()
    assert isinstance(operator, LinearOperator)
    assert operator.shape == inverse.shape == (n, n)
    assert operator.dtype == inverse.dtype == A.to_dense().numpy().dtype
    x = randn(n, 3, dtype=dtype).numpy()
    tolerance = {"rtol": 0, "atol": 1e6 * n * EPS[dtype]}
    np.testing.assert_allclose(operator @ x, A @ x)
    np.testing.assert_allclose(operator.T @ x[:, 0], A.T @ x[:, 0])
    np.testing.assert_allclose(operator @ (inverse @ x), x, **tolerance)
    np.testing.assert_allclose(operator.H @ (inverse.H @ x), x, **tolerance)


def test_factor_preconditions_gmres():
    n = 600
    A = laplacian(n)
    perturbed = A + HSSMatrix.from_diagonal(1e-4 * np.sin(np.arange(n)))
    b, iterations = np.ones(n), []
    x, info = gmres(
        perturbed.aslinearoperator(),
        b,
        M=A.factor().aslinearoperator(),
        callback=iterations.append,
        callback_type="pr_norm",
    )
    assert info == 0
    assert len(iterations) < 20
    np.testing.assert_allclose(perturbed @ x, b, atol=1e-3)


def test_scipy_knows_no_batches():
    A = well_conditioned(8, 1, 1, (2,))
    for M in (A, A.factor()):
        with pytest.raises(ValueError, match="SciPy does not support batches"):
            M.aslinearoperator()
