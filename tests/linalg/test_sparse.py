"""Sparse matrices and the solution of sparse systems, beyond what holds for every linear map."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.linalg import LinAlgWarning

from sklearn_hss.linalg import LinearMap, OperatorProduct, SparseInverse, SparseMatrix, _sparse_factor


def laplacian(n, periodic=False, neumann=False, slope=0.0):
    L = sp.diags_array([-1.0 - slope, 2.0, -1.0 + slope], offsets=[-1, 0, 1], shape=(n, n)).tolil()
    if periodic:
        L[0, -1], L[-1, 0] = -1 - slope, -1 + slope
    if neumann:
        L[0, 0] = L[-1, -1] = 1
    return L.tocsr()


def on_grid(matrices):
    """Sum of one-dimensional operators, of all modes."""
    result = sp.csr_array((1, 1))
    for A in matrices:
        result = sp.kron(result, sp.eye_array(A.shape[0])) + sp.kron(sp.eye_array(result.shape[0]), A)
    return sp.csr_array(result)


def with_coefficients(shape, drift=0.0, seed=0):
    """Stencil of -div(a grad u) + drift, Dirichlet, where a varies by a factor of a hundred."""
    rng, n = np.random.default_rng(seed), int(np.prod(shape))
    L, index = sp.csr_array((n, n)), np.arange(n).reshape(shape)
    for axis in range(len(shape)):
        first, second = (index.take(range(k, shape[axis] - 1 + k), axis).ravel() for k in (0, 1))
        a = np.exp(rng.uniform(0, np.log(100), len(first)))
        rows = np.concatenate([first, second, first, second])
        columns = np.concatenate([second, first, first, second])
        values = np.concatenate([-a * (1 - drift), -a * (1 + drift), a * (1 + drift), a * (1 - drift)])
        L = L + sp.csr_array((values, (rows, columns)), shape=L.shape)
    return sp.csr_array(L + sp.eye_array(n))


def dense_inverse(L):
    return np.linalg.inv(L.toarray())


def randn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def null_spaces(L):
    u, s, v = np.linalg.svd(L.toarray())
    k = int((s < 1e-10 * s[0]).sum())
    return {"right": v[-k:].T, "left": u[:, -k:]}


# Matrices


def test_what_scipy_reads():
    dense = np.triu(randn(5, 5)) * (randn(5, 5, seed=1) > 0)
    entries = sp.coo_array(dense)
    twice = sp.coo_array(
        (np.tile(entries.data / 2, 2), tuple(np.tile(i, 2) for i in entries.coords)), shape=entries.shape
    )
    for matrix in (dense, dense.tolist(), sp.csr_matrix(dense), sp.csc_array(dense), sp.dia_array(dense), twice):
        A = SparseMatrix(matrix)
        assert (A.grid_in, A.grid_out, A.n_parameters) == ((5,), (5,), np.count_nonzero(dense))
        np.testing.assert_allclose(A.to_scipy().toarray(), dense, rtol=1e-15)
        assert isinstance(A.to_scipy(), sp.csr_array)
    assert SparseMatrix(sp.csr_array(dense.astype(np.float32))).dtype == torch.float32
    assert SparseMatrix(sp.eye_array(3, dtype=int)).dtype == torch.float64


def test_a_matrix_does_not_change_with_what_it_was_made_of():
    given = sp.csr_array(np.eye(3))
    A = SparseMatrix(given)
    given.data[:] = 7
    np.testing.assert_array_equal(A.to_dense(), np.eye(3))


def test_structure_stays_with_conversions():
    A = SparseMatrix(laplacian(6), (2, 3), (3, 2))
    for B in (A.to(torch.float32), A.detach(), copy.deepcopy(A), pickle.loads(pickle.dumps(A)), A.T.T):
        for given, kept in zip(A.matrix[1:], B.matrix[1:], strict=True):
            assert torch.equal(given, kept)
            assert given.dtype == kept.dtype == torch.int32
        assert (B.grid_in, B.grid_out) == ((2, 3), (3, 2))


def test_impossible_matrices():
    with pytest.raises(ValueError, match=r"shape \(6, 6\), which does not fit fields on grid_in=\(2, 2\)"):
        SparseMatrix(laplacian(6), (2, 2))
    for wrong in (sp.eye_array(3, dtype=complex), np.eye(3) * 1j, None, object()):
        with pytest.raises(TypeError):
            SparseMatrix(wrong)
    with pytest.raises(ValueError, match="two dimensions, not 1"):
        SparseMatrix(np.ones(3))
    values, columns, pointers = SparseMatrix(laplacian(6)).matrix
    with pytest.raises(ValueError, match="needs both grids"):
        SparseMatrix((values, columns, pointers))
    with pytest.raises(ValueError, match="indices"):
        SparseMatrix((values, columns + 3, pointers), (6,), (6,))


# Products


def test_factors_of_products_must_fit():
    A, B = SparseMatrix(laplacian(6), (2, 3), (3, 2)), SparseMatrix(laplacian(6), (2, 3), (2, 3))
    np.testing.assert_allclose(OperatorProduct([A, B]).to_dense(), (laplacian(6) @ laplacian(6)).toarray())
    with pytest.raises(ValueError, match=r"takes fields on the grid \(2, 3\) does not match the next one"):
        OperatorProduct([B, A])
    with pytest.raises(ValueError, match="at least one"):
        OperatorProduct([])
    with pytest.raises(TypeError, match="the same type and device"):
        OperatorProduct([A, B.to(torch.float32)])


# Inverses


@pytest.mark.parametrize("solver", ["direct", "multigrid"])
@pytest.mark.parametrize("drift", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(24, 30), (9, 10, 8)])
def test_dense_twins(solver, drift, shape):
    if solver == "multigrid":
        pytest.importorskip("pyamg")
    L = with_coefficients(shape, drift)
    A, expected = SparseInverse(SparseMatrix(L, shape, shape), solver=solver), dense_inverse(L)
    f = randn(2, *shape)
    np.testing.assert_allclose(A.apply(f).reshape(2, -1), f.reshape(2, -1) @ expected.T, rtol=0, atol=1e-11)
    np.testing.assert_allclose(A.T.apply(f).reshape(2, -1), f.reshape(2, -1) @ expected, rtol=0, atol=1e-11)
    assert (A._factor()._direct is None) == (solver == "multigrid")


def test_negative_definite_by_multigrid():
    pytest.importorskip("pyamg")
    L = with_coefficients((30, 30))
    A = SparseInverse(-L, solver="multigrid")
    np.testing.assert_allclose(A @ randn(900), -dense_inverse(L) @ randn(900), rtol=0, atol=1e-11)
    assert A._factor()._direct is None


def test_factorised_where_multigrid_does_not_converge():
    pytest.importorskip("pyamg")
    L = on_grid([laplacian(30)] * 2) - 4.1 * sp.eye_array(900)  # indefinite
    A = SparseInverse(L, solver="multigrid")
    np.testing.assert_allclose(A @ randn(900), dense_inverse(L) @ randn(900), rtol=0, atol=1e-9)
    assert A._factor()._direct is not None


def test_choice_of_solver(monkeypatch):
    pytest.importorskip("pyamg")
    monkeypatch.setattr(_sparse_factor, "_WIDE", 60)
    for shape, is_direct in (((40, 30), True), ((9, 10, 11), False)):
        A = SparseInverse(with_coefficients(shape))
        A @ randn(A.shape[1])
        assert (A._factor()._direct is not None) == is_direct


def test_without_pyamg(monkeypatch):
    monkeypatch.setattr(_sparse_factor, "_WIDE", 5)
    monkeypatch.setattr(_sparse_factor, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "pyamg", None)
    L = with_coefficients((10, 10))
    np.testing.assert_allclose(SparseInverse(L) @ randn(100), dense_inverse(L) @ randn(100), atol=1e-12)
    with pytest.raises(ImportError, match=r"install sklearn-hss\[amg\]"):
        SparseInverse(L, solver="multigrid") @ randn(100)


def test_full_pivoting_where_the_diagonal_is_small():
    n = 200
    P = sp.eye_array(n, format="csr")[np.random.default_rng(0).permutation(n)]
    for L in (P @ with_coefficients((n,)), P @ with_coefficients((n,)) + 1e-13 * sp.eye_array(n)):
        A = SparseInverse(L, solver="direct")
        f = randn(n)
        np.testing.assert_allclose(A @ f, np.linalg.solve(L.toarray(), f), rtol=0, atol=1e-11)


@pytest.mark.parametrize("solver", ["direct", "multigrid"])
def test_periodic(solver):
    if solver == "multigrid":
        pytest.importorskip("pyamg")
    shape = 28, 32
    L = on_grid([laplacian(n, periodic=True) for n in shape])
    constant = np.full((L.shape[0], 1), L.shape[0] ** -0.5)
    A = SparseInverse(SparseMatrix(L, shape, shape), right=constant, left=constant, solver=solver)
    f = randn(3, *shape)
    expected = f.reshape(3, -1) @ np.linalg.pinv(L.toarray(), rcond=1e-12)
    np.testing.assert_allclose(A.apply(f).reshape(3, -1), expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(A.T.apply(f).reshape(3, -1), expected, rtol=0, atol=1e-11)
    assert (A._factor()._factor._direct is None) == (solver == "multigrid")


@pytest.mark.parametrize("case", ["disconnected", "skew", "random"])
def test_several_null_vectors(case):
    if case == "disconnected":
        L = sp.block_diag([laplacian(n, neumann=True) for n in (7, 9, 8)], format="csr")
    elif case == "skew":  # different null vectors on both sides, and a drift
        L = sp.block_diag([sp.diags_array(1 + np.arange(9.0)) @ laplacian(9, periodic=True, slope=0.4)] * 2)
    else:
        dense = randn(12, 12)
        dense[:, 3], dense[:, 5] = dense[:, 0], 2 * dense[:, 1]
        L = sp.csr_array(dense)
    A, inverse = SparseInverse(L, **null_spaces(sp.csr_array(L))), np.linalg.pinv(L.toarray(), rcond=1e-11)
    f = randn(L.shape[0], 2)
    np.testing.assert_allclose(A @ f, inverse @ f, rtol=0, atol=1e-10)
    np.testing.assert_allclose(A.T @ f, inverse.T @ f, rtol=0, atol=1e-10)
    u = inverse @ f
    np.testing.assert_allclose(A.solve(u), L @ u, rtol=0, atol=1e-9)
    with pytest.warns(LinAlgWarning, match="are not in the range of the operator"):
        np.testing.assert_allclose(A.solve(u + A.right.numpy()[:, :1]), L @ u, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "L",
    [
        on_grid([laplacian(8, periodic=True)] * 2),
        on_grid([laplacian(40, neumann=True)] * 2),
        sp.block_diag([laplacian(9), laplacian(9, neumann=True)]),
        sp.csr_array(np.outer(np.arange(1, 5), np.arange(1, 5))),
        sp.csr_array((3, 3)),
        sp.csr_array(np.array([[0.0, 0, 1], [0, 0, 2], [1, 2, 3]])),
        sp.csr_array(randn(30, 29) @ randn(29, 30, seed=1)),
    ],
    ids=["periodic", "Neumann", "block", "rank 1", "zero", "structure", "rank 29"],
)
@pytest.mark.parametrize("solver", ["direct", "multigrid"])
def test_singular_matrices(L, solver):
    if solver == "multigrid":
        pytest.importorskip("pyamg")
    for A in (SparseInverse(L, solver=solver), SparseInverse(L, solver=solver).T):
        with pytest.raises(np.linalg.LinAlgError, match="L is singular: pass orthonormal bases of the null spaces"):
            A @ randn(L.shape[0])


def test_wrong_null_spaces():
    L = sp.block_diag([laplacian(9, neumann=True)] * 2)
    constant = np.full((18, 1), 18**-0.5)
    with pytest.raises(np.linalg.LinAlgError):
        SparseInverse(L, right=constant, left=constant) @ randn(18)


def test_impossible_parameters():
    L, constant = laplacian(6), np.ones((6, 1))
    for wrong, message in (
        ({"solver": "lu"}, r"solver='lu' must be"),
        ({"right": constant}, "must be given together"),
        ({"right": constant, "left": np.ones((6, 2))}, "both null spaces have the same dimension"),
        ({"right": np.ones(6), "left": constant}, r"right has shape \(6,\)"),
        ({"M": sp.eye_array(5)}, r"M gives fields on the grid \(5,\), but L on \(6,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            SparseInverse(L, **wrong)
    with pytest.raises(ValueError, match="L must be square"):
        SparseInverse(sp.csr_array((3, 4)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        SparseInverse(np.nan * L) @ randn(6)


def test_inputs_that_are_not_finite():
    A, f = SparseInverse(laplacian(6)), randn(6, 2)
    f[0, 0] = np.nan
    assert np.isnan(A @ f)[:, 0].all()
    np.testing.assert_allclose((A @ f)[:, 1], dense_inverse(laplacian(6)) @ f[:, 1])


def test_values_that_change_in_place():
    A = SparseInverse(laplacian(6))
    before = A @ np.ones(6)
    A.L.values.mul_(2)
    np.testing.assert_allclose(A @ np.ones(6), before / 2)


def test_the_transpose_and_multiples_share_the_factor(monkeypatch):
    made = []
    monkeypatch.setattr(_sparse_factor._Direct, "__init__", counted(_sparse_factor._Direct.__init__, made))
    A = SparseInverse(laplacian(50), sp.eye_array(50))
    B = A.T
    for C in (A, B, 2 * A, (3 * B).T, copy.copy(A)):
        C @ np.ones(50)
    assert len(made) == 1
    for C in (copy.deepcopy(A), pickle.loads(pickle.dumps(A)), A.to(torch.float32)):
        C @ np.ones(50)
        C.T @ np.ones(50)
    assert len(made) == 4


def counted(function, made):
    def wrapper(*args, **kwargs):
        made.append(1)
        return function(*args, **kwargs)

    return wrapper


def test_threads_share_a_factor(monkeypatch):
    made = []
    monkeypatch.setattr(_sparse_factor._Direct, "__init__", counted(_sparse_factor._Direct.__init__, made))
    L, f = with_coefficients((20, 20)), randn(40, 400)
    A = SparseInverse(L)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: A @ row, f))
    np.testing.assert_allclose(found, f @ dense_inverse(L).T, rtol=0, atol=1e-11)
    assert len(made) == 1


def test_pinned_points():
    """Rows of M that are zero, and inputs that nothing is known of."""
    L, M = laplacian(9).tolil(), sp.diags_array([1.0, 4.0, 1.0], offsets=[-1, 0, 1], shape=(9, 9)).tolil()
    for i in (0, 8):
        L[i], M[i] = 0, 0
        L[i, i] = 1
    f = randn(9)
    f[[0, 8]] = 0
    A = SparseInverse(L, M)
    u = np.linalg.solve(L.toarray(), M @ f)
    np.testing.assert_allclose(A @ f, u, atol=1e-12)
    np.testing.assert_allclose(A.solve(u), f, atol=1e-10)
    np.testing.assert_allclose(A.lstsq(u), f, atol=1e-10)
    identity = SparseInverse(L)
    f[0] = f[8] = 0
    u = identity @ f
    np.testing.assert_allclose(identity.lstsq(u, silent=np.arange(9) % 8 == 0), f, atol=1e-10)
    u[0] += 1
    with pytest.warns(LinAlgWarning, match="are not in the range of the operator"):
        assert identity.lstsq(u, silent=np.arange(9) == 0)[0] == 0


@pytest.mark.parametrize("bordered", [False, True])
def test_second_derivatives(bordered):
    L = laplacian(6, periodic=bordered, slope=0.2)
    A = SparseInverse(L, sp.eye_array(6) + laplacian(6), **(null_spaces(L) if bordered else {}))
    parts = []
    A._rebuilt(lambda x: parts.append(x.clone().requires_grad_()) or x)

    def apply(fields, *parts):
        parts = iter(parts)
        B = A._rebuilt(lambda _: next(parts))
        return B.T.apply(B.apply(fields).sin())

    fields = torch.from_numpy(randn(2, 6)).requires_grad_()
    assert torch.autograd.gradgradcheck(apply, (fields, *parts), fast_mode=True)


def test_files_keep_the_solver(tmp_path):
    A = SparseInverse(SparseMatrix(laplacian(6), (2, 3), (6,)), solver="direct")
    A.save(tmp_path / "map")
    B = LinearMap.load(tmp_path / "map")
    assert repr(B) == repr(A) == "SparseInverse(grid_in=(6,), grid_out=(2, 3), n_parameters=16, solver='direct')"
