"""What is fitted to samples of maps between fields: exact recovery, completion, and the choice among candidates."""

import math
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu
from sklearn.linear_model import RidgeCV

from sklearn_hss.linalg import DiagonalizedOperator, KroneckerProductSum
from sklearn_hss.linalg._fitting import asymmetry
from sklearn_hss.linalg._kronecker_fitting import fit_kronecker
from sklearn_hss.linalg._kronecker_forward import (
    alternate,
    apply_terms,
    cp_decomposition,
    grow_terms,
    least_squares_terms,
    polish_terms,
    project_terms,
    symbol_terms,
    truncated,
)
from sklearn_hss.linalg._kronecker_inverse import (
    complete_symbol,
    diagonalised,
    fit_dense_sum,
    fit_local_sum,
    fit_weighted_local_sum,
    known_part,
    mode_basis,
    refine_basis,
)
from sklearn_hss.linalg._modes import multilinear


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def band(n, *diagonals):
    """Sparse matrix with constant diagonals, the middle one on the main diagonal."""
    w = len(diagonals) // 2
    return sp.diags([float(d) for d in diagonals], range(-w, w + 1), shape=(n, n))


def second_difference(n):
    return (n + 1) ** 2 * band(n, -1, 2, -1)


def convection(n, velocity):
    return second_difference(n) + velocity * (n + 1) / 2 * band(n, -1, 0, 1)


def periodic_difference(n):
    A = second_difference(n).tolil()
    A[0, -1] = A[-1, 0] = A[0, 1]
    return A.tocsr()


def sparse_sum(matrices):
    """A1 ⊗ I ⊗ I + I ⊗ A2 ⊗ I + ..."""
    total = 0
    for j, A in enumerate(matrices):
        term = sp.eye(1)
        for i, B in enumerate(matrices):
            term = sp.kron(term, A if i == j else sp.eye(B.shape[0]))
        total = total + term
    return total


def solved(A, F):
    """Solutions of A u = f for fields in a tensor, by a sparse LU."""
    U = splu(sp.csc_matrix(A)).solve(F.flatten(1).numpy().T).T
    return torch.from_numpy(np.ascontiguousarray(U)).view(F.shape)


def smooth(n_samples, *grid, seed=0):
    """Smooth fields, which do not vanish at the ends."""
    fields = randn(n_samples, *[8] * len(grid), seed=seed)
    waves = [torch.cos(torch.arange(8.0).double() * torch.linspace(0, math.pi, n).double()[:, None]) for n in grid]
    decay = [X * torch.exp(-torch.arange(8.0).double() / 2) for X in waves]
    return multilinear(fields, decay)


def relative(actual, expected):
    return float((actual - expected).norm() / expected.norm())


def dense(A):
    return torch.from_numpy(A.toarray())


# Banded sums

SUMS = {
    "five-point": [second_difference(17), second_difference(23)],
    "shifted": [second_difference(17) - 150 * sp.eye(17), second_difference(23)],
    "convection": [convection(17, 9.0), convection(23, -4.0)],
    "three dimensions": [second_difference(7), convection(9, 3.0), second_difference(8)],
    "one and many": [second_difference(1), second_difference(30)],
}


@pytest.mark.parametrize("name", SUMS)
def test_three_white_samples_determine_a_banded_sum(name):
    matrices = SUMS[name]
    A = sparse_sum(matrices)
    F = randn(23, *(M.shape[0] for M in matrices))
    U = solved(A, F)
    found = fit_local_sum(F[:3], U[:3], 1)
    # Multiples of the identity may pass from one matrix to another; their sum is what counts.
    assert relative(dense(sparse_sum([sp.csr_matrix(M.numpy()) for M in found])), dense(A)) < 1e-9
    for M in found:
        assert not torch.triu(M, 2).any()
        assert not torch.tril(M, -2).any()
    operator = diagonalised(found, symmetric=False)
    assert relative(operator.apply(F[3:]), U[3:]) < 1e-10


WIDE = [second_difference(15) @ second_difference(15) / 100, second_difference(12)]


def test_wider_bands():
    F = randn(10, 15, 12)
    U = solved(sparse_sum(WIDE), F)
    assert relative(diagonalised(fit_local_sum(F[:4], U[:4], 2), symmetric=False).apply(F[4:]), U[4:]) < 1e-9
    assert relative(diagonalised(fit_local_sum(F[:4], U[:4], 1), symmetric=False).apply(F[4:]), U[4:]) > 1e-2


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("half_bandwidth", [1, 2, 3])
@pytest.mark.parametrize("fit", [fit_local_sum, fit_weighted_local_sum])
def test_what_the_samples_leave_open_stays_of_the_size_of_the_rest(fit, half_bandwidth, periodic):
    # Too narrow a band, the right one, and a wider one; a multiple of the identity is open in all of them.
    F = randn(4, 15, 12)
    found = fit(F, solved(sparse_sum(WIDE), F), half_bandwidth, periodic=periodic)
    matrices = found[0] if fit is fit_weighted_local_sum else found
    for A, true in zip(matrices, WIDE, strict=True):
        assert A.abs().max() < 1e4 * dense(true).abs().max()


FORMS = [("inverse", "banded"), ("inverse", "eigenbasis"), ("forward", "als"), ("forward", "least_squares")]


@pytest.mark.parametrize(("form", "solver"), FORMS)
@pytest.mark.parametrize("n_samples", [1, 4])
def test_no_form_has_huge_entries(form, solver, n_samples):
    F, A = randn(n_samples, 15, 12), sparse_sum(WIDE)
    operator = quietly(F, solved(A, F), form=form, solver=solver).operator
    assert operator.to_dense().abs().max() < 1e4 * torch.linalg.inv(dense(A)).abs().max()
    if getattr(operator, "inverse", None) is not None:
        assert operator.inverse.to_dense().abs().max() < 1e4 * dense(A).abs().max()


def test_periodic_bands():
    matrices = [periodic_difference(12) + sp.eye(12), periodic_difference(15)]
    F = randn(10, 12, 15)
    U = solved(sparse_sum(matrices), F)
    operator = diagonalised(fit_local_sum(F[:3], U[:3], 1, periodic=True), symmetric=True)
    assert relative(operator.apply(F[3:]), U[3:]) < 1e-9
    assert relative(diagonalised(fit_local_sum(F[:3], U[:3], 1), symmetric=True).apply(F[3:]), U[3:]) > 1e-2


def test_smooth_samples_determine_the_operator_elsewhere():
    A = sparse_sum([second_difference(17), second_difference(23)])
    F, white = smooth(8, 17, 23), randn(10, 17, 23, seed=1)
    operator = diagonalised(fit_local_sum(F, solved(A, F), 1), symmetric=True)
    assert relative(operator.apply(white), solved(A, white)) < 1e-5


def separable(n, m):
    """-div(a(x) b(y) grad u) with zeros beyond the ends, as a sparse matrix, and the weights a and b."""

    def one_dimensional(coefficient, n):
        h = 1 / (n + 1)
        x = h * np.arange(1, n + 1)
        left, right = coefficient(x - h / 2), coefficient(x + h / 2)
        stiffness = sp.diags([-right[:-1], left + right, -right[:-1]], [-1, 0, 1]) / h**2
        return stiffness, sp.diags(coefficient(x)), coefficient(x)

    Ka, Ma, a = one_dimensional(lambda x: 1 + x + 0.4 * np.sin(5 * x), n)
    Kb, Mb, b = one_dimensional(lambda y: 2 - 1.2 * y**2, m)
    return sp.kron(Ka, Mb) + sp.kron(Ma, Kb), a, b


@pytest.mark.parametrize("draw", [randn, smooth])
def test_separable_coefficients(draw):
    A, a, b = separable(19, 24)
    F, test = draw(8, 19, 24), draw(10, 19, 24, seed=1)
    U = solved(A, F)
    matrices, weights = fit_weighted_local_sum(F, U, 1)
    for found, true in zip(weights, (a, b), strict=True):
        np.testing.assert_allclose(found / found.mean(), true / true.mean(), rtol=1e-10)
    operator = diagonalised(matrices, symmetric=True, weights=weights)
    assert relative(operator.apply(test), solved(A, test)) < 1e-10
    # Without weights there is no such sum.
    plain = diagonalised(fit_local_sum(F, U, 1), symmetric=False)
    assert relative(plain.apply(test), solved(A, test)) > 1e-2


# Dense sums and their inverses


@pytest.mark.parametrize("grid", [(6, 9), (4, 5, 6), (7,)])
def test_dense_sums(grid):
    matrices = [randn(n, n, seed=j) for j, n in enumerate(grid)]
    U = randn(12, *grid, seed=7)
    F = sum(
        multilinear(U, [A if i == j else torch.eye(len(B)).double() for i, B in enumerate(matrices)])
        for j, A in enumerate(matrices)
    )
    found = fit_dense_sum(F, U)
    for A, B in zip(found, matrices, strict=True):
        shift = (A - B).diagonal().mean()
        torch.testing.assert_close(A - shift * torch.eye(len(A)).double(), B, rtol=1e-8, atol=1e-8)


def dense_sum(matrices, weights=None):
    sparse = [sp.csr_matrix(A.numpy()) for A in matrices]
    total = dense(sparse_sum(sparse))
    if weights is None:
        return total
    scale = torch.ones(1).double()
    for a in weights:
        scale = torch.kron(scale, a)
    return scale[:, None] * total


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("grid", [(6, 9), (4, 5, 3)])
def test_diagonalised_is_the_inverse(grid, symmetric, weighted):
    weights = [1 + randn(n, seed=10 + j).abs() for j, n in enumerate(grid)] if weighted else None
    matrices = [randn(n, n, seed=j) + 6 * torch.eye(n).double() for j, n in enumerate(grid)]
    if symmetric:
        matrices = [A + A.mT for A in matrices]
        if weighted:  # symmetric after multiplication with the weights
            matrices = [A / a[:, None] for A, a in zip(matrices, weights, strict=True)]
    twin = dense_sum(matrices, weights)
    operator = diagonalised(matrices, symmetric=symmetric, weights=weights, with_inverse=True)
    torch.testing.assert_close(operator.to_dense(), torch.linalg.inv(twin), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(operator.inverse.to_dense(), twin, rtol=1e-9, atol=1e-9)
    assert operator.inverse.outer_rank == len(grid)


def test_singular_sums_have_the_pseudoinverse():
    def neumann(n):
        A = dense(second_difference(n)) / n**2
        A[0, 0] = A[-1, -1] = A[0, 0] / 2
        return A

    matrices = [neumann(8), neumann(11)]
    operator = diagonalised(matrices, symmetric=True)
    torch.testing.assert_close(operator.to_dense(), torch.linalg.pinv(dense_sum(matrices), rtol=1e-10))
    constant = torch.ones(8, 11).double()
    assert operator.apply(constant).abs().max() < 1e-10


def test_defective_matrices_are_refused():
    jordan = torch.tensor([[1.0, 1.0], [0.0, 1.0]]).double()
    with pytest.raises(np.linalg.LinAlgError, match="ill-conditioned"):
        diagonalised([jordan, torch.eye(2).double()], symmetric=False)


# Free symbols


def commuting(n, m, mixed=0.02):
    """The map whose inverse is A ⊗ I + I ⊗ B - mixed A ⊗ B, as compact schemes have it; its bases and its symbol."""
    (lam, X), (mu, Y) = (torch.linalg.eigh(dense(second_difference(k)) / (k + 1) ** 2) for k in (n, m))
    symbol = 1 / (lam[:, None] + mu - mixed * lam[:, None] * mu)
    return DiagonalizedOperator([X, Y], [X, Y], symbol)


def test_refined_bases():
    true = commuting(7, 9, mixed=0.1)
    F = randn(6, 7, 9)
    U = true.apply(F)
    # The bases are disturbed by small rotations.
    start = [
        X @ torch.linalg.matrix_exp(0.02 * (R - R.mT))
        for X, R in zip(true.outputs, (randn(7, 7), randn(9, 9)), strict=True)
    ]
    bases, symbol, energy = refine_basis(F, U, start, symmetric=True)
    assert known_part(energy).all()
    found = DiagonalizedOperator(bases, bases, symbol)
    test = randn(5, 7, 9, seed=1)
    assert relative(found.apply(test), true.apply(test)) < 1e-9
    share = (start[0].mT @ F @ start[1]).square().sum(0)
    projected = (start[0].mT @ F @ start[1] * (start[0].mT @ U @ start[1])).sum(0) / share
    assert relative(DiagonalizedOperator(start, start, projected).apply(test), true.apply(test)) > 1e-2


def test_refined_bases_of_maps_that_are_not_symmetric():
    X, Y = torch.eye(5).double() + 0.2 * randn(5, 5), torch.eye(6).double() + 0.2 * randn(6, 6, seed=1)
    dual = [torch.linalg.inv(B).mT for B in (X, Y)]
    true = DiagonalizedOperator([X, Y], dual, 1 / (1 + randn(5, 6, seed=2).abs()))
    F, test = randn(8, 5, 6, seed=3), randn(5, 5, 6, seed=4)
    start = [B + 0.01 * randn(*B.shape, seed=5) for B in (X, Y)]
    bases, symbol, _ = refine_basis(F, true.apply(F), start, symmetric=False)
    found = DiagonalizedOperator(bases, [torch.linalg.inv(B).mT for B in bases], symbol)
    assert relative(found.apply(test), true.apply(test)) < 1e-9


@pytest.mark.parametrize("mixed", [0.0, 0.02])
def test_completed_symbols(mixed):
    G = commuting(10, 12, mixed).symbol
    known = torch.rand(10, 12, generator=torch.Generator().manual_seed(0)) > 0.3
    assert relative(complete_symbol(torch.where(known, G, 0), known), G) < 1e-8
    # Slices without any known number stay zero.
    known[3] = False
    completed = complete_symbol(torch.where(known, G, 0), known)
    assert not completed[3].any()
    others = torch.arange(10) != 3
    # With a slice less, the polynomial is only as good as its degree, and as what is left to determine it.
    assert relative(completed[others], G[others]) < (0.7 if mixed else 1e-8)


def test_symbols_that_are_known_or_not_at_all():
    G = 1 + randn(4, 5).abs()
    assert torch.equal(complete_symbol(G, torch.ones(4, 5, dtype=torch.bool)), G)
    assert not complete_symbol(G, torch.zeros(4, 5, dtype=torch.bool)).any()


# Terms


def terms(grid_in, grid_out, rank, seed=0):
    return [randn(rank, n, m, seed=seed + j) for j, (n, m) in enumerate(zip(grid_out, grid_in, strict=True))]


def test_apply_terms():
    W, x = terms((4, 5, 3), (6, 2, 4), 2), randn(7, 4, 5, 3, seed=5)
    torch.testing.assert_close(apply_terms(W, x), torch.einsum("kad,kbe,kcf,ndef->nabc", *W, x))


def test_a_sweep_solves_for_one_mode():
    W, x = terms((4, 5), (6, 3), 2), randn(30, 4, 5, seed=5)
    y = apply_terms(W, x)
    spoilt = [randn(2, 6, 4, seed=9), W[1]]
    torch.testing.assert_close(alternate(spoilt, x, y, modes=[0])[0], W[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("grid_in", "grid_out"), [((5, 6), (5, 6)), ((5, 6), (4, 7)), ((4, 3, 5), (4, 3, 5))])
def test_known_sums_are_recovered(grid_in, grid_out):
    W, x = terms(grid_in, grid_out, 2), randn(40, *grid_in, seed=5)
    y, test = apply_terms(W, x), randn(20, *grid_in, seed=6)
    one = grow_terms(x, y, 1, generator=torch.Generator().manual_seed(0))
    two = grow_terms(x, y, 2, start=one, generator=torch.Generator().manual_seed(0))
    assert [len(found[0]) for found in (one, two)] == [1, 2]
    assert relative(apply_terms(two, x), y) < relative(apply_terms(one, x), y)
    polished = polish_terms(two, x, y)
    assert relative(apply_terms(polished, test), apply_terms(W, test)) < 1e-9


def test_symmetric_terms_need_fewer_samples():
    W = [A + A.mT for A in terms((5, 6), (5, 6), 2)]
    x, test = randn(4, 5, 6, seed=5), randn(20, 5, 6, seed=6)
    start = [A + 0.01 * randn(*A.shape, seed=8) for A in W]
    polished = polish_terms(start, x, apply_terms(W, x), symmetric=True)
    assert relative(apply_terms(polished, test), apply_terms(W, test)) < 1e-8
    for A in polished:
        torch.testing.assert_close(A, A.mT)


def test_least_squares_terms_are_the_best_ones():
    A, x = randn(30, 30), randn(50, 5, 6, seed=5)
    y = (x.flatten(1) @ A.mT).view(-1, 5, 6)
    # The rearrangement of Van Loan and Pitsianis, entry by entry.
    rearranged = torch.stack([A[6 * a : 6 * a + 6, 6 * b : 6 * b + 6].reshape(-1) for a in range(5) for b in range(5)])
    values = torch.linalg.svdvals(rearranged)
    for rank in (1, 3, 25):
        W = least_squares_terms(x, y, rank)
        twin = sum(torch.kron(W[0][k].contiguous(), W[1][k].contiguous()) for k in range(len(W[0])))
        assert float((twin - A).norm()) == pytest.approx(float(values[rank:].norm()), abs=1e-10)


def test_symbol_terms_are_the_best_ones():
    operator = commuting(9, 12)
    values = torch.linalg.svdvals(operator.symbol)
    for rank in (1, 2, 4):
        W = symbol_terms(operator, rank, [torch.ones(9).double(), torch.ones(12).double()])
        twin = sum(torch.kron(W[0][k].contiguous(), W[1][k].contiguous()) for k in range(rank))
        distance = float((twin - operator.to_dense()).norm())
        assert distance == pytest.approx(float(values[rank:].norm()), rel=1e-6)


def test_symbol_terms_in_three_dimensions():
    bases = [torch.linalg.qr(randn(n, n, seed=n))[0] for n in (5, 6, 7)]
    vectors = [randn(n, 2, seed=n + 10) for n in (5, 6, 7)]
    operator = DiagonalizedOperator(bases, bases, torch.einsum("ak,bk,ck->abc", *vectors))
    W = symbol_terms(operator, 2, [torch.ones(n).double() for n in (5, 6, 7)])
    x = randn(3, 5, 6, 7)
    assert relative(apply_terms(W, x), operator.apply(x)) < 1e-6


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_cp_decomposition(rank):
    vectors = [randn(n, rank, seed=n) for n in (5, 6, 7)]
    T = torch.einsum("ak,bk,ck->abc", *vectors)
    found = cp_decomposition(T, rank)
    assert [v.shape for v in found] == [(n, rank) for n in (5, 6, 7)]
    assert relative(torch.einsum("ak,bk,ck->abc", *found), T) < 1e-8
    # In two dimensions, no sum of products is closer than that of the SVD.
    M = randn(6, 8)
    u, v = cp_decomposition(M, rank)
    best = float(torch.linalg.svdvals(M)[rank:].norm())
    assert best * (1 - 1e-9) <= float((M - u @ v.mT).norm()) <= best * 1.01


def test_truncation_is_exact_on_the_span():
    # Random matrices of 16 points, rank 1: far from it, but with four directions in leaves of eight, all is given back.
    W, P = randn(2, 16, 16), torch.linalg.qr(randn(16, 4, seed=1))[0]
    A = truncated(W, P, 1, 1)
    assert (A.rank, A.levels) == (1, 1)
    torch.testing.assert_close(A @ P, W @ P, rtol=1e-9, atol=1e-9)
    assert relative(A.to_dense(), W) > 0.1
    dense = truncated(W, P, 1, 0)
    torch.testing.assert_close(dense.to_dense(), W)


def test_projected_terms_are_refitted():
    W = terms((16, 12), (16, 12), 2)
    spans = [torch.linalg.qr(randn(n, p, seed=n))[0] for n, p in ((16, 3), (12, 3))]
    x = multilinear(randn(10, 3, 3), spans)
    y = apply_terms(W, x)
    factors = project_terms(W, x, y, rank=1, levels=1)
    A = KroneckerProductSum(factors)
    assert (A.rank, A.levels) == ((1, 1), (1, 1))
    assert relative(A.apply(x), y) < 1e-8
    plain = KroneckerProductSum.from_dense(W, rank=1, levels=1)
    assert relative(plain.apply(x), y) > 0.1


def test_mode_basis():
    spans = [torch.linalg.qr(randn(n, 3, seed=n))[0] for n in (8, 9)]
    x = multilinear(randn(10, 3, 3), spans)
    for j, span in enumerate(spans):
        basis, sizes = mode_basis([x], j, 1e-10)
        assert basis.shape == (len(span), 3)
        torch.testing.assert_close(basis @ basis.mT, span @ span.mT)
        assert float(sizes.square().sum()) == pytest.approx(1)
    assert mode_basis([0 * x], 0, 1e-10)[0].shape == (8, 1)


# The choice


def quietly(*samples, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return fit_kronecker(*samples, **parameters)


@pytest.fixture(scope="module")
def poisson():
    F = randn(40, 13, 16)
    return F, solved(sparse_sum([second_difference(13), second_difference(16)]), F)


def test_the_chosen_form(poisson):
    F, U = poisson
    found = fit_kronecker(F[:8], U[:8])
    assert (found.form, found.solver, found.half_bandwidth, found.symmetric) == ("inverse", "banded", 1, True)
    assert relative(found.operator.apply(F[8:]), U[8:]) < 1e-10
    assert found.held_out_error < 1e-10
    assert found.residual < 1e-10
    assert found.seen is None
    assert "inverse of a Kronecker sum of 3-point matrices: held-out error" in found.reason
    assert found.candidates[0] == {
        "form": "inverse",
        "solver": "banded",
        "fit": "inverse of a Kronecker sum of 3-point matrices",
        "held_out_error": found.held_out_error,
    }
    # A convection term is seen in the samples.
    U = solved(sparse_sum([convection(13, 5.0), second_difference(16)]), F)
    found = fit_kronecker(F[:8], U[:8])
    assert (found.solver, found.symmetric) == ("banded", False)
    assert relative(found.operator.apply(F[8:]), U[8:]) < 1e-10


@pytest.mark.parametrize(("solver", "form"), [("banded", "inverse"), ("eigenbasis", "inverse"), ("als", "forward")])
def test_solvers_have_their_form(poisson, solver, form):
    F, U = poisson
    found = quietly(F[:12], U[:12], solver=solver, outer_rank=2 if solver == "als" else "auto")
    assert (found.solver, found.form) == (solver, form)
    assert {c["solver"] for c in found.candidates} == {solver}


def test_outer_ranks(poisson):
    F, U = poisson
    errors = []
    for outer_rank in (1, 2, 4, 8):
        found = quietly(F[:12], U[:12], outer_rank=outer_rank, form="inverse")
        assert isinstance(found.operator, KroneckerProductSum)
        assert found.operator.outer_rank == outer_rank
        errors.append(relative(found.operator.apply(F[12:]), U[12:]))
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 64 * errors[3]


def test_levels_and_rank_reach_the_factors(poisson):
    F, U = poisson
    found = fit_kronecker(F[:8], U[:8], rank=2, levels=2)
    assert found.operator.inverse.levels == (2, 2)
    assert max(found.operator.inverse.rank) <= 2
    found = quietly(F[:8], U[:8], rank=2, levels=(1, 2), outer_rank=4)
    assert (found.operator.rank, found.operator.levels) == ((2, 2), (1, 2))


def test_separable_coefficients_are_found():
    F = randn(30, 13, 16)
    U = solved(separable(13, 16)[0], F)
    found = fit_kronecker(F[:10], U[:10])
    assert found.solver == "banded"
    assert "with row weights" in found.reason
    assert relative(found.operator.apply(F[10:]), U[10:]) < 1e-8


def nonseparable(n, m):
    """-div(a(x, y) grad u), where a is no product."""
    h, k = 1 / (n + 1), 1 / (m + 1)
    x, y = (np.arange(1, s + 1) / (s + 1) for s in (n, m))

    def a(x, y):
        return 1 + 5 * np.exp(-20 * ((x - y) ** 2 + (x + y - 1) ** 2 / 4))

    A = sp.lil_matrix((n * m, n * m))
    for i in range(n):
        for j in range(m):
            here = i * m + j
            for di, dj, step in ((1, 0, h), (-1, 0, h), (0, 1, k), (0, -1, k)):
                value = a(x[i] + di * h / 2, y[j] + dj * k / 2) / step**2
                A[here, here] += value
                if 0 <= i + di < n and 0 <= j + dj < m:
                    A[here, (i + di) * m + j + dj] = -value
    return A.tocsc()


@pytest.mark.parametrize("draw", [randn, smooth])
def test_the_residual_tells_valid_inverse_forms_from_others(draw):
    F = draw(8, 13, 16)
    for A, valid in (
        (sparse_sum([second_difference(13), second_difference(16)]), True),
        (sparse_sum([convection(13, 5.0), second_difference(16)]), True),
        (separable(13, 16)[0], True),
        (nonseparable(13, 16), False),
    ):
        found = quietly(F, solved(A, F), form="inverse", solver="banded")
        assert found.residual <= 1e-4 if valid else found.residual >= 1e-2


def test_nothing_fits():
    F = randn(10, 6, 7)
    found = fit_kronecker(F, randn(10, 6, 7, seed=1))
    assert found.held_out_error > 0.1
    assert found.doubts()[0].startswith("The best fit found has a relative error of")


def test_one_sample_cannot_be_verified(poisson):
    F, U = poisson
    found = fit_kronecker(F[:1], U[:1])
    assert found.doubts()[0].startswith("n_samples = 1 leaves none to verify the fit with")
    assert math.isnan(found.held_out_error)
    assert "a single sample leaves none" in found.reason


def test_completion():
    # Samples in the span of four sines per axis, of an operator that the five-point scheme approximates.
    n = 20
    lam, X = torch.linalg.eigh(dense(second_difference(n)))
    mu = lam + lam**2 / 12 / (n + 1) ** 2
    true = DiagonalizedOperator([X, X], [X, X], 1 / (mu[:, None] + mu))
    F = multilinear(randn(12, 4, 4), [X[:, :4], X[:, :4]])
    found = fit_kronecker(F[:6], true.apply(F[:6]))
    assert relative(found.operator.apply(F[6:]), true.apply(F[6:])) < 1e-9
    test = randn(5, n, n, seed=1)
    assert found.seen is not None
    assert "give zero" not in found.completion
    for P, span in zip(found.seen, (X[:, :4], X[:, :4]), strict=True):
        torch.testing.assert_close(P @ P.mT, span @ span.mT, rtol=1e-6, atol=1e-6)
    assert found.completion.startswith("inputs outside the span of the samples")
    outside = test - multilinear(test, [X[:, :4] @ X[:, :4].mT] * 2)
    # Better than zero.
    assert relative(found.operator.apply(outside), true.apply(outside)) < 0.5


@pytest.mark.parametrize(("draw", "n_samples"), [(randn, 12), (smooth, 12), (smooth, 40)])
def test_noise(draw, n_samples):
    F, test = draw(n_samples, 7, 8), draw(30, 7, 8, seed=1)
    A = sparse_sum([second_difference(7), second_difference(8)])
    U = solved(A, F)
    noisy = U + 0.01 * U.square().mean().sqrt() * randn(*U.shape, seed=2)
    exact = solved(A, test)
    errors = {}
    for form in ("auto", "inverse", "forward"):
        found = quietly(F, noisy, form=form)
        errors[form] = relative(found.operator.apply(test), exact)
    ridge = RidgeCV(np.logspace(-8, 4, 25), fit_intercept=False).fit(F.flatten(1).numpy(), noisy.flatten(1).numpy())
    errors["ridge"] = relative(torch.from_numpy(ridge.predict(test.flatten(1).numpy())), exact.flatten(1))
    # Held-out errors of few noisy samples are an estimate only: never the worst, and near the best form.
    assert errors["auto"] <= 1.2 * max(errors["inverse"], errors["forward"], errors["ridge"])
    assert errors["auto"] <= 2 * min(errors["inverse"], errors["forward"])


@pytest.mark.parametrize("n_samples", [3, 10, 40])
@pytest.mark.parametrize("kind", ["symmetric", "antisymmetric", "any"])
def test_asymmetry(n_samples, kind):
    rng = np.random.RandomState(0)
    A, X = rng.randn(5, 5), rng.randn(5, n_samples)
    A = {"symmetric": A + A.T, "antisymmetric": A - A.T, "any": A}[kind]
    S = X.T @ A @ X
    expected = np.linalg.norm(S - S.T) / np.linalg.norm(S) / 2
    found = asymmetry(torch.from_numpy(X), torch.from_numpy(A @ X))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)
    assert {"symmetric": found < 1e-14, "antisymmetric": found > 1 - 1e-14, "any": 0.1 < found < 0.9}[kind]
