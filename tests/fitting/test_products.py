"""Sums of Kronecker products: alternating least squares, Gauss-Newton, and decompositions of maps and symbols."""

import pytest
import torch
from grid_operators import commuting, randn, relative, terms

from sklearn_hss.fitting._products import (
    alternate,
    apply_terms,
    cp_decomposition,
    grow_terms,
    least_squares_terms,
    polish_terms,
    project_terms,
    rearranged_map,
    symbol_terms,
    truncated,
)
from sklearn_hss.linalg import DiagonalizedOperator, KroneckerProductSum
from sklearn_hss.linalg._modes import multilinear


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
    pairs = rearranged_map(x, y)
    torch.testing.assert_close(pairs[1], values)
    for rank in (1, 3, 25):
        W = least_squares_terms(x, y, rank, pairs)
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
