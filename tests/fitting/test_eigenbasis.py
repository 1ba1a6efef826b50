"""Kronecker sums of any matrices, and maps that are diagonal in a product of bases."""

import pytest
import torch
from grid_operators import commuting, randn, relative

from sklearn_hss.fitting.forms._eigenbasis import extrapolated_symbol, fit_dense_sum, known_part, refine_basis
from sklearn_hss.linalg import DiagonalizedOperator
from sklearn_hss.linalg._modes import multilinear


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


# Free symbols


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
    assert relative(extrapolated_symbol(torch.where(known, G, 0), known), G) < 1e-8
    # Slices without any known number stay zero.
    known[3] = False
    completed = extrapolated_symbol(torch.where(known, G, 0), known)
    assert not completed[3].any()
    others = torch.arange(10) != 3
    # With a slice less, the polynomial is only as good as its degree, and as what is left to determine it.
    assert relative(completed[others], G[others]) < (0.7 if mixed else 1e-8)


def test_symbols_that_are_known_or_not_at_all():
    G = 1 + randn(4, 5).abs()
    assert torch.equal(extrapolated_symbol(G, torch.ones(4, 5, dtype=torch.bool)), G)
    assert not extrapolated_symbol(G, torch.zeros(4, 5, dtype=torch.bool)).any()
