"""All generators of an HSS matrix at once."""

import pytest
import torch
from grid_operators import randn, relative

from sklearn_hss.fitting.forms._gauss_newton import fit_generators
from sklearn_hss.linalg import ClusterTree, HSSMatrix


def hss():
    """A random matrix of 12 points, rank 1 and one level, not symmetric."""
    tree = ClusterTree(12, 1)
    U, V = randn(2, 6, 1, seed=2), randn(2, 6, 1, seed=3)
    return HSSMatrix(tree, tree, [randn(2, 6, 6), randn(1, 2, 2, seed=1)], [U], [V])


def disturbed(A, size):
    generators = [[g + size * randn(*g.shape, seed=9 + i) for i, g in enumerate(side)] for side in (A.D, A.U, A.V)]
    return HSSMatrix(A.row_tree, A.col_tree, *generators)


def test_generators_are_recovered_from_a_start_that_is_near():
    A, X = hss(), randn(12, 14, seed=1)
    start = disturbed(A, 1e-2)
    assert relative(start.to_dense(), A.to_dense()) > 1e-2
    found = HSSMatrix(A.row_tree, A.col_tree, *fit_generators(start, X, A @ X))
    assert relative(found.to_dense(), A.to_dense()) < 1e-11


@pytest.mark.parametrize("alpha", [0.0, 1e-2, 1e8])
def test_the_penalty_holds_the_generators_where_they_were(alpha):
    A, X = hss(), randn(12, 14, seed=1)
    start = disturbed(A, 0.1)
    D, U, V = fit_generators(start, X, A @ X, alpha=alpha, max_iter=3)
    found = HSSMatrix(A.row_tree, A.col_tree, D, U, V)
    left = float((A @ X - found @ X).norm())
    moved = sum(
        float((a - b).square().sum()) for a, b in zip([*D, *U, *V], [*start.D, *start.U, *start.V], strict=True)
    )
    assert left**2 + alpha * moved <= float((A @ X - start @ X).norm()) ** 2
    assert moved < 1e-6 if alpha == 1e8 else moved > 1e-2
    assert left < float((A @ X - start @ X).norm())


def test_a_start_that_cannot_be_improved_is_returned():
    A, X = hss(), randn(12, 14, seed=1)
    D, U, V = fit_generators(A, X, A @ X)
    assert all(torch.equal(a, b) for a, b in zip([*D, *U, *V], [*A.D, *A.U, *A.V], strict=True))
