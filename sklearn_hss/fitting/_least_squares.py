"""Common numerical methods of the forms: bases of modes, ridge regression, LSMR, damped Gauss-Newton, differences."""

from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, lsmr

from ..linalg._modes import modal_product, unfold

# Relative size of singular values below which they are rounding errors.
ROUNDING = 1e-13
# Smallest number of samples from which a penalty is selected.
_FEW = 5


def mode_basis(fields, mode, tol):
    """Orthonormal basis (n_mode, p) of the span of samples in one mode, and the corresponding singular values (p,).

    All fields have the same weight. Relative singular values below `tol` are treated as zero.
    """
    rows = torch.cat([unfold(Z, mode) / (Z.norm() or 1) for Z in fields], dim=1).mT
    _, s, V = torch.linalg.svd(torch.linalg.qr(rows, mode="r")[1], full_matrices=False)
    kept = max(int((s > tol * s[:1]).sum()), 1)
    return V[:kept].mT.contiguous(), s[:kept]


def compress(fields, tol):
    """Common bases (n_j, p_j) of the spans of samples in every mode, and the coordinates of the samples in them.

    Each mode is compressed before the next one is processed, so that all but the first are cheap.
    """
    bases = []
    for j in range(fields[0].ndim - 1):
        bases.append(mode_basis(fields, j, tol)[0])
        fields = [modal_product(Z, bases[j].mT, j + 1) for Z in fields]
    return bases, fields


def lsmr_solution(forward, adjoint, target, n_unknowns, *, damp=0.0, max_iter=300, tol=1e-14):
    """Minimum-norm least-squares solution by LSMR, for a map of tensors that is given by its products.

    `forward` and `adjoint` map a vector of unknowns to a tensor of the shape of `target`, and back; `damp` is the
    weight of the norm of the solution.
    """

    def tensor(v, shape):
        return torch.from_numpy(np.array(v, dtype=np.float64)).view(shape)

    operator = LinearOperator(
        (target.numel(), n_unknowns),
        matvec=lambda v: forward(tensor(v, -1)).reshape(-1).numpy(),
        rmatvec=lambda r: adjoint(tensor(r, target.shape)).reshape(-1).numpy(),
        dtype=np.float64,
    )
    found = lsmr(operator, target.reshape(-1).numpy(), damp=damp, atol=tol, btol=tol, conlim=0, maxiter=max_iter)
    return torch.from_numpy(found[0])


@dataclass
class Point:
    """Unknowns, their residual, and intermediate results."""

    x: Any
    residual: torch.Tensor
    extra: Any = None

    @property
    def size(self):
        return float(self.residual.norm())


def gauss_newton(
    evaluate, linearise, start, scale, *, max_iter, tol=1e-14, slow=0.99, tries=8, damping=1e-3, least=0.0
):
    """Minimise a residual by damped Gauss-Newton steps, each of which reduces it.

    Parameters
    ----------
    evaluate : callable
        Function that maps unknowns to a :class:`Point`.
    linearise : callable
        Function that maps a point to a function from a damping to new unknowns, or to None if there is no such step.
    start : object
        Initial unknowns.
    scale : float
        Norm of the target, to which residuals are compared.
    max_iter : int
        Maximal number of steps.
    tol : float, default=1e-14
        Relative residual at which to stop.
    slow : float, default=0.99
        Factor by which a step must reduce the residual for the iteration to continue.
    tries : int, default=8
        Number of dampings tried in a step, each five times the previous one.
    damping : float, default=1e-3
        Initial damping; it is divided by ten after a step.
    least : float, default=0.0
        Smallest damping.

    Returns
    -------
    Point
    """
    point = evaluate(start)
    for _ in range(max_iter):
        if not point.size > tol * scale:
            break
        before, propose = point, linearise(point)
        for _ in range(tries):
            moved = propose(damping)
            new = None if moved is None else evaluate(moved)
            if new is not None and new.size < point.size:
                point, damping = new, max(damping / 10, least)
                break
            damping *= 5
        if not point.size < slow * before.size:
            break
    return point


def difference_stencils(w):
    """Differences of order 0 to 2 w, centred, as rows over the offsets -w, ..., w."""
    rows = torch.zeros(2 * w + 1, 2 * w + 1, dtype=torch.float64)
    for order in range(2 * w + 1):
        # Odd orders are the mean of the two differences centred half a step off the centre.
        starts = (w - order // 2,) if order % 2 == 0 else (w - order // 2 - 1, w - order // 2)
        for start in starts:
            rows[order, start : start + order + 1] += difference(order) / len(starts)
    return rows


def difference(order):
    """Coefficients of the difference of an order: (-1)^(order - i) binomial(order, i)."""
    return torch.tensor([(-1) ** (order - i) * comb(order, i) for i in range(order + 1)], dtype=torch.float64)


class RidgeRegression:
    """Ridge regression without intercept of Y on X, samples in columns, for many penalties.

    Parameters
    ----------
    svd : triple of Tensors
        Singular value decomposition of X, as :attr:`Samples.input_svd`.
    Y : Tensor of shape (n_rows, n_samples)
    """

    def __init__(self, svd, Y):
        self.W, self.s, self.V = svd
        self.targets, self.Y = Y, Y @ self.V.mT

    def best_alpha(self):
        """Penalty with the smallest leave-one-out error, as in scikit-learn's RidgeCV; zero for very few samples."""
        if self.V.shape[1] < _FEW:
            return 0.0
        Y, unexplained = self.Y, self.targets - self.Y @ self.V
        if len(Y) > Y.shape[1] + unexplained.shape[1]:
            # Rows may be rotated, since only norms are needed.
            both = torch.linalg.qr(torch.cat([Y, unexplained], dim=1), mode="r")[1]
            Y, unexplained = both[:, : Y.shape[1]], both[:, Y.shape[1] :]
        independent = len(self.V) == self.V.shape[1]

        def error(alpha):
            if independent:
                # Residuals and degrees of freedom vanish with the penalty; their ratio does not.
                weight, left, freedom = 1 / (self.s**2 + alpha), 0.0, 0.0
            else:
                weight, left = alpha / (self.s**2 + alpha), unexplained
                freedom = (1 - self.V.square().sum(0)).clamp_min(1e-12)
            left_out = (left + (Y * weight) @ self.V) / (freedom + weight @ self.V.square())
            return float(left_out.square().sum())

        return min(self.alphas(), key=error)

    def denoise(self):
        """Remove noise from the coefficients by shrinkage of their singular values.

        The shrinkage is optimal for the Frobenius norm (Gavish, Donoho 2017); the noise level is that of the part that
        no linear map explains. Outputs along the inputs, where operators of this kind have their largest entries, are
        not changed, so that the noise elsewhere can be identified.
        """
        freedom = self.V.shape[1] - len(self.V)
        if not len(self.V) or freedom <= 0:
            return
        noise = (self.targets - self.Y @ self.V).square().sum(1, keepdim=True) / freedom
        noise = noise.clamp_min(1e-16 * float(noise.max()) + 1e-300).sqrt()
        along = self.W @ (self.W.mT @ self.Y) if len(self.W) == len(self.Y) else torch.zeros_like(self.Y)
        self.Y = along + noise * shrunk((self.Y - along) / noise)

    def alphas(self):
        """Candidate penalties, from a hundred times the largest squared singular value down to zero."""
        largest = float(self.s[0]) ** 2 if len(self.s) else 1.0
        return [*(largest * 10.0**exponent for exponent in range(2, -23, -1)), 0.0]

    def factors(self, alpha, rank=None):
        """Coefficients as left @ right', truncated to `rank` in the directions of the largest fitted values."""
        left, right = self.Y * (self.s / (self.s**2 + alpha)), self.W
        if rank is not None and rank < left.shape[1]:
            basis = torch.linalg.svd(left * self.s, full_matrices=False)[0][:, :rank]
            left, right = basis, right @ (left.mT @ basis)
        return left, right


def shrunk(Y):
    """Optimal shrinkage of the singular values of a matrix with white noise of unit variance."""
    u, s, vh = torch.linalg.svd(Y, full_matrices=False)
    unit = max(Y.shape) ** 0.5
    beta, y = min(Y.shape) / max(Y.shape), s / unit
    new = ((y**2 - beta - 1).square() - 4 * beta).clamp_min(0).sqrt() / y.clamp_min(1e-300)
    return (u * torch.where(y > 1 + beta**0.5, new, 0) * unit) @ vh
