"""Discrete operators on grids, and samples of them, that the tests fit: sparse matrices, solved by SciPy."""

import math

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu

from sklearn_hss.fitting import Samples
from sklearn_hss.linalg import DiagonalizedOperator
from sklearn_hss.linalg._modes import multilinear


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def smooth(n_samples, *grid, seed=0):
    """Smooth fields, which do not vanish at the ends."""
    fields = randn(n_samples, *[8] * len(grid), seed=seed)
    waves = [torch.cos(torch.arange(8.0).double() * torch.linspace(0, math.pi, n).double()[:, None]) for n in grid]
    decay = [X * torch.exp(-torch.arange(8.0).double() / 2) for X in waves]
    return multilinear(fields, decay)


def relative(actual, expected):
    return float((actual - expected).norm() / expected.norm())


def as_samples(X, Y, **fields):
    """Samples of weight one."""
    return Samples(X, Y, torch.ones(len(X), dtype=torch.float64), **fields)


# Operators


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


def solved(A, F):
    """Solutions of A u = f for fields in a tensor, by a sparse LU."""
    U = splu(sp.csc_matrix(A)).solve(F.flatten(1).numpy().T).T
    return torch.from_numpy(np.ascontiguousarray(U)).view(F.shape)


def dense(A):
    return torch.from_numpy(A.toarray())


def commuting(n, m, mixed=0.02):
    """The map whose inverse is A ⊗ I + I ⊗ B - mixed A ⊗ B, as compact schemes have it; its bases and its symbol."""
    (lam, X), (mu, Y) = (torch.linalg.eigh(dense(second_difference(k)) / (k + 1) ** 2) for k in (n, m))
    symbol = 1 / (lam[:, None] + mu - mixed * lam[:, None] * mu)
    return DiagonalizedOperator([X, Y], [X, Y], symbol)


def terms(grid_in, grid_out, rank, seed=0):
    """Factors of a random sum of Kronecker products."""
    return [randn(rank, n, m, seed=seed + j) for j, (n, m) in enumerate(zip(grid_out, grid_in, strict=True))]
