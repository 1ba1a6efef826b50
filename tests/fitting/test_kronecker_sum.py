"""Kronecker sums of banded matrices: what few samples determine, and their diagonalisation."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from grid_operators import (
    convection,
    dense,
    periodic_difference,
    randn,
    relative,
    second_difference,
    separable,
    smooth,
    solved,
    sparse_sum,
)

from sklearn_hss.fitting.forms._kronecker_sum import diagonalised, fit_local_sum, fit_weighted_local_sum

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


# Diagonalisation


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
