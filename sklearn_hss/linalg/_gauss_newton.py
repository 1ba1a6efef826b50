"""Least-squares fits of HSS generators to forward samples, where no closed form exists.

:func:`variable_projection` fits a matrix that is not symmetric from forward samples alone: the null-space step of
:mod:`._closed_form` gives every U, then the row bases V are the only nonlinear unknowns. :func:`levenberg_marquardt`
fits all generators at once, from any start, to any samples.
"""

import math

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, lsmr
from torch.func import jvp, vjp

from ._closed_form import leading_basis, separate
from ._cluster_tree import ClusterTree, join_leaves, split_leaves
from ._compression import compress_dense
from ._product import telescopic_product


def best_leaf_size(n, rank):
    """Leaf size for which :func:`variable_projection` needs fewest samples, and how many: 2 m + n rank / m."""
    m = max(rank, round(math.sqrt(n * rank / 2)))
    return m, math.ceil(2 * m + n * rank / m) + 2


def variable_projection(row_tree, col_tree, X, Y, rank, *, max_iter=60, tol=1e-14, input_tol=1e-12):
    """Generators of the HSS matrix A with Y = A X, from forward samples alone.

    At the leaves, Uᵀ Y = (Uᵀ D) X + A' (Vᵀ X) is linear in Uᵀ D and A' for given V: a small least-squares problem per
    leaf. What these leave is minimised over V by Gauss-Newton steps with Levenberg-Marquardt damping, from V = U. The
    Jacobian is held as a dense matrix of n rank columns.

    Parameters
    ----------
    row_tree, col_tree : ClusterTree
        Of at least one level.
    X, Y : Tensors of shape (n_columns, n_samples) and (n_rows, n_samples)
    rank : int
    max_iter : int, default=60
        Largest number of steps.
    tol : float, default=1e-14
        Relative residual at which to stop.
    input_tol : float, default=1e-12
        Relative singular values below this one count as zero in blocks of X.

    Returns
    -------
    D, U, V : lists of tensors
    """
    x, y = split_leaves(X, col_tree), split_leaves(Y, row_tree)  # (N, m, k)
    slope, seen = separate(x, y, input_tol)
    u = leading_basis(seen, y, rank, tol)
    n, m, k = x.shape
    target = u.mT @ y  # (N, r, k)
    v = u if x.shape == y.shape else torch.eye(m, rank, dtype=X.dtype, device=X.device).expand(n, m, rank)
    others = ~torch.eye(n, dtype=torch.bool, device=X.device)

    def project(v):
        """Residual for given V, the linear unknowns, and an orthonormal basis of their regressors."""
        z = v.mT @ x
        rest = z.expand(n, n, rank, k)[others].view(n, (n - 1) * rank, k)
        Q, R = torch.linalg.qr(torch.cat([x, rest], dim=-2).mT)
        linear = (torch.linalg.pinv(R, rtol=input_tol) @ (Q.mT @ target.mT)).mT
        return target - linear @ torch.cat([x, rest], dim=-2), linear, Q

    def couplings(linear):
        """A' of the linear unknowns: (N, r, N, r)."""
        full = linear.new_zeros(n, n, rank, rank)
        full[others] = linear[..., m:].unflatten(-1, (n - 1, rank)).movedim(-2, -3).reshape(-1, rank, rank)
        return full.movedim(1, 2)

    residual, linear, Q = project(v)
    damping, size, last = 1e-3, target.norm(), math.inf
    for _ in range(max_iter):
        if not tol * size < residual.norm() < 0.99 * last:
            break
        last = residual.norm()
        # The residual of leaf t changes by -A'[t, s] dV[s]ᵀ X[s], of which its linear unknowns take up a part.
        off = x - (x.unsqueeze(0) @ Q.unsqueeze(1)) @ Q.unsqueeze(1).mT  # (N_t, N_s, m, k)
        jacobian = torch.einsum("tasb,tsmk->taksmb", couplings(linear), off).reshape(n * rank * k, n * m * rank)
        gram, gradient = jacobian.mT @ jacobian, jacobian.mT @ residual.reshape(-1)
        for _ in range(12):
            shift = damping * torch.diagonal(gram).mean() * torch.eye(len(gram), dtype=X.dtype, device=X.device)
            step, failed = torch.linalg.solve_ex(gram + shift, gradient)
            if not failed and torch.isfinite(step).all():
                candidate = torch.linalg.qr(v + step.view(n, m, rank))[0]
                new = project(candidate)
                if new[0].norm() < residual.norm():
                    v, (residual, linear, Q), damping = candidate, new, damping / 10
                    break
            damping *= 5
        else:
            break
    d = slope - u @ (u.mT @ slope) + u @ linear[..., :m]
    tree = ClusterTree(n * rank, row_tree.levels - 1)
    D, U, V = compress_dense(couplings(linear).reshape(n * rank, n * rank), tree, tree, 1e-14, rank)
    return [d, *D], [u, *U], [v, *V]


def levenberg_marquardt(A, X, Y, *, alpha=0.0, max_iter=50, tol=1e-14, inner=200):
    """Improve the generators of `A` such that A X comes closer to Y in the least-squares sense.

    Minimises |Y - A X|² + alpha |g - g₀|² over all generators g, g₀ those of the start, by Gauss-Newton steps with
    Levenberg-Marquardt damping; the linear systems are solved by LSMR with products of the Jacobian, in O(n r) memory.

    Parameters
    ----------
    A : HSSMatrix
        The start, without batch.
    X, Y : Tensors of shape (n_columns, n_samples) and (n_rows, n_samples)
    alpha : float, default=0.0
        Weight of the distance from the start.
    max_iter : int, default=50
        Largest number of steps.
    tol : float, default=1e-14
        Relative residual, and relative improvement, at which to stop.
    inner : int, default=200
        Largest number of LSMR iterations per step.

    Returns
    -------
    D, U, V : lists of tensors
        Never worse than `A` in that measure.
    """
    start = (*A.D, *A.U, *A.V)
    shapes, sizes, n = [g.shape for g in start], [g.numel() for g in start], A.levels
    x = split_leaves(X, A.col_tree)

    def unpack(g):
        parts = [part.view(shape) for part, shape in zip(g.split(sizes), shapes, strict=True)]
        D, U, V = parts[: n + 1], parts[n + 1 : 2 * n + 1], parts[2 * n + 1 :]
        return D, U, V

    def predict(g):
        D, U, V = unpack(g)
        return join_leaves(telescopic_product(D, U, V, x), A.row_tree).reshape(-1)

    g0 = torch.cat([g.reshape(-1) for g in start])
    g, target = g0, Y.reshape(-1)
    pull = math.sqrt(alpha)
    residual = torch.cat([target - predict(g), pull * (g0 - g)])
    damping = 1e-3
    for _ in range(max_iter):
        loss = residual.norm()
        if not loss > tol * target.norm():
            break
        _, transposed = vjp(predict, g)  # type: ignore[misc]

        def forward(step, g=g):
            step = torch.from_numpy(np.array(step, dtype=np.float64).reshape(-1))
            return torch.cat([jvp(predict, (g,), (step,))[1], pull * step]).numpy()

        def adjoint(r, transposed=transposed):
            r = torch.from_numpy(np.array(r, dtype=np.float64).reshape(-1))
            return (transposed(r[: len(target)])[0] + pull * r[len(target) :]).numpy()

        jacobian = LinearOperator((len(residual), len(g)), matvec=forward, rmatvec=adjoint, dtype=np.float64)
        for _ in range(8):
            damp = damping * float(target.norm()) / math.sqrt(len(g))
            step = lsmr(jacobian, residual.numpy(), damp=damp, atol=1e-12, btol=1e-12, maxiter=inner)[0]
            candidate = g + torch.from_numpy(step)
            new = torch.cat([target - predict(candidate), pull * (g0 - candidate)])
            if new.norm() < loss:
                g, residual, damping = candidate, new, damping / 10
                break
            damping *= 5
        if not residual.norm() < (1 - 1e-6) * loss:
            break
    D, U, V = unpack(g)
    return D, U, V
