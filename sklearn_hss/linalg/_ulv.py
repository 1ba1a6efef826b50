"""ULV factorisation (Chandrasekaran, Gu, Pals 2006): solves with HSS matrices in linear time, and their inverses.

At the leaves, A = D + U A' Vᵀ. An orthogonal Q per leaf rotates its rows such that only the first r involve U; the
others are equations of that leaf alone. An orthogonal W per leaf rotates the unknowns such that these equations
determine the first of them, y = L⁻¹ (..), and r unknowns per leaf remain: an HSS matrix over the same tree, one level
shorter. The only divisions are by the triangles L, which are as well conditioned as A, so the algorithm is as stable as
a QR factorisation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.linalg import LinAlgWarning

from .._warnings import warn_user
from ._blocks import leaf_mask, merge_diagonal, merge_rows, without_padding
from ._cluster_tree import join_leaves, split_leaves
from ._operands import as_given, as_linear_operator, as_operand, check_operand
from ._product import dense_form

# A reduced matrix of at most this size is factorised as a dense one: few large steps instead of many small ones.
_DENSE_SIZE = 128


@dataclass
class Elimination:
    """One level: Q = [Q_r, Q_k] and W = [W_k, W_r], Q_k' D W_k = L, and the reduced generators for the level above."""

    Q_r: torch.Tensor  # (*batch, N, m, r)
    Q_k: torch.Tensor  # (*batch, N, m, k), k = m - r
    W_k: torch.Tensor
    W_r: torch.Tensor
    L: torch.Tensor  # (*batch, N, k, k), lower triangular
    D_k: torch.Tensor  # (*batch, N, r, k), Q_r' D W_k
    V_k: torch.Tensor  # (*batch, N, s, k), V' W_k
    D: torch.Tensor  # (*batch, N, r, r), Q_r' D W_r
    U: torch.Tensor  # (*batch, N, r, rank of U)
    V: torch.Tensor  # (*batch, N, r, rank of V)


def eliminate(D, U, V):
    """Eliminate the unknowns that the equations of single leaves determine."""
    m, r = D.shape[-1], min(U.shape[-2:])
    if r == m:
        eye = torch.eye(m, dtype=D.dtype, device=D.device).expand(D.shape)
        none = eye[..., :0]
        return Elimination(eye, none, none, eye, none[..., :0, :], none, V.mT @ none, D, U, V)
    Q, R = torch.linalg.qr(U, mode="complete")
    # One product with all of Q and one with all of W, since the overhead of many small products exceeds their cost.
    D = Q.mT @ D
    k = m - r
    W, T = torch.linalg.qr(D[..., r:, :].mT, mode="complete")
    left = torch.cat([D[..., :r, :], V.mT], dim=-2) @ W
    return Elimination(
        Q_r=Q[..., :r],
        Q_k=Q[..., r:],
        W_k=W[..., :k],
        W_r=W[..., k:],
        L=T[..., :k, :].mT,
        D_k=left[..., :r, :k],
        V_k=left[..., r:, :k],
        D=left[..., :r, k:],
        U=R[..., :r, :],
        V=left[..., r:, k:].mT,
    )


def climb(step, D, U=None, V=None):
    """Matrix of the next level: the reduced blocks of siblings, joined by the generators D, U, V of that level."""
    U_step, V_step = merge_diagonal(step.U), merge_diagonal(step.V)
    D = merge_diagonal(step.D) + U_step @ D @ V_step.mT
    return (D, None, None) if U is None else (D, U_step @ U, V_step @ V)


def padded_identity(A):
    """Generators of square `A` with zeros in the padding of U and V and ones on the diagonal of that of D."""
    D, U, V = without_padding(A)
    if not A.row_tree.is_uniform:
        mask = leaf_mask(A.row_tree, A.dtype, A.device).squeeze(-1)
        D[0] = D[0] + torch.diag_embed(1 - mask)
    return D, U, V


class ULVFactor:
    """ULV factorisation of a square :class:`HSSMatrix`, for many right-hand sides.

    It is computed by :meth:`HSSMatrix.factor` in O(n r²) operations; every solve takes O(n r).

    Parameters
    ----------
    A : HSSMatrix
        The matrix, or a batch of them.
    warn : bool, default=True
        Whether to warn if the matrix is singular to working precision, which `is_singular` indicates in any case.

    Attributes
    ----------
    shape : tuple of int
        (\\*batch, n, n).
    is_singular : bool
        Whether the matrix, or one of a batch, is singular to working precision, so that solutions may have no correct
        digit.
    condition : float
        Lower estimate of the condition number in the Euclidean norm; for a batch, the largest one.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is singular.
    TypeError, ValueError
        If `A` is not an HSSMatrix, or not square.

    Warns
    -----
    scipy.linalg.LinAlgWarning
        If the matrix is singular to working precision and `warn` is true.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import HSSMatrix
    >>> A = HSSMatrix.from_banded((1, 1), [[-1.0] * 100, [2.0] * 100, [-1.0] * 100])
    >>> factor = A.factor()
    >>> x = torch.ones(100, dtype=torch.float64)
    >>> torch.allclose(factor.solve(A @ x), x)
    True
    """

    def __init__(self, A, warn: bool = True) -> None:
        check_square(A)
        self.tree, self.shape, self.dtype, self.device = A.row_tree, A.shape, A.dtype, A.device
        with torch.no_grad():
            self._factorise(*padded_identity(A))
            self.condition = self._estimate_condition(A)
        # Also true for NaN.
        self.is_singular = not self.condition * torch.finfo(self.dtype).eps < 1
        if warn:
            self._warn_if_singular()

    def _warn_if_singular(self):
        """Issue a warning that points to the line of the user's code."""
        if self.is_singular:
            warn_user(
                f"The matrix is singular to working precision (condition number about {self.condition:.1e}): "
                "solutions may have no correct digit.",
                LinAlgWarning,
            )

    def _factorise(self, D, U, V):
        levels, i = len(U), 0
        d, u, v = D[0], U[0] if levels else None, V[0] if levels else None
        # The right-hand side of the system at level i is B h - u A' C h. At the leaves, h is that of the user, B the
        # identity and C zero; above, h contains [b, g] of either child: b the reduced right-hand side, g = Vᵀ x of the
        # unknowns already known.
        B: Any = None
        C: Any = None
        self._steps = []
        while i < levels and d.shape[-1] * d.shape[-3] > _DENSE_SIZE:
            step = eliminate(d, u, v)
            y = substitute(step.L, step.Q_k.mT if B is None else step.Q_k.mT @ B)
            b = (step.Q_r.mT if B is None else step.Q_r.mT @ B) - step.D_k @ y
            g = step.V_k @ y if C is None else step.V_k @ y + C
            self._steps.append((step, y, torch.cat([b, g], dim=-2)))
            i += 1
            U_step, r, s = merge_diagonal(step.U), b.shape[-2], g.shape[-2]
            d, u, v = climb(step, D[i], *((U[i], V[i]) if i < levels else (None, None)))
            # Rows that select the b's and the g's of the children from h.
            pick = torch.eye(2 * (r + s), dtype=d.dtype, device=d.device).view(2, r + s, 2 * (r + s))
            b, g = pick[:, :r].flatten(0, 1), pick[:, r:].flatten(0, 1)
            B = b - U_step @ (D[i] @ g)
            C = V[i].mT @ g if i < levels else None

        upper = (D[i + 1 :], U[i + 1 :], V[i + 1 :])
        u, v, C = ([u], [v], [-C.mT] if i else None) if i < levels else ([], [], [])
        self._right_hand_side = dense_form([B, *upper[0]], u + upper[1], C + upper[2]) if i else None
        self._lu, self._pivots, _ = torch.linalg.lu_factor_ex(dense_form([d, *upper[0]], u + upper[1], v + upper[2]))
        check_pivots(self._lu)

    def solve(self, b):
        """Solve A x = b in O(n r).

        Parameters
        ----------
        b : Tensor or array-like of shape (n,) or (..., n, k)
            Right-hand sides; batches broadcast.

        Returns
        -------
        Tensor or ndarray of the shape of `b`
            Not differentiable; :meth:`HSSMatrix.solve` is.
        """
        return self._apply(self._solve, b)

    def solve_transposed(self, b):
        """Solve Aᵀ x = b in O(n r), with the same factor.

        Parameters
        ----------
        b : Tensor or array-like of shape (n,) or (..., n, k)
            Right-hand sides; batches broadcast.

        Returns
        -------
        Tensor or ndarray of the shape of `b`
        """
        return self._apply(self._solve_transposed, b)

    def _apply(self, function, b):
        b, was_array = as_operand(b, self)
        check_operand(b, self, self.shape[-1])
        with torch.no_grad():
            x = b.unsqueeze(-1) if b.ndim == 1 else b
            x = x.expand(*torch.broadcast_shapes(self.shape[:-2], x.shape[:-2]), *x.shape[-2:])
            x = join_leaves(function(split_leaves(x, self.tree)), self.tree)
            return as_given(x.squeeze(-1) if b.ndim == 1 else x, was_array)

    def _solve(self, h):
        known = []
        for _, y, up in self._steps:
            known.append(y @ h)
            h = merge_rows(up @ h)
        h = h.flatten(-3, -2)
        if self._right_hand_side is not None:
            h = self._right_hand_side @ h
        x = torch.linalg.lu_solve(self._lu, self._pivots, h)
        if not self._steps:
            return x.unflatten(-2, (self.tree.n_leaves, -1))
        for (step, *_), y in zip(reversed(self._steps), reversed(known), strict=True):
            n, r = step.W_r.shape[-3], step.W_r.shape[-1]
            x = step.W_k @ y + step.W_r @ x.reshape(*y.shape[:-3], n, r, y.shape[-1])
        return x

    def _solve_transposed(self, x):
        # The steps of _solve, transposed and in the opposite order.
        known = []
        for step, *_ in self._steps:
            known.append(step.W_k.mT @ x)
            x = merge_rows(step.W_r.mT @ x)
        h = torch.linalg.lu_solve(self._lu, self._pivots, x.flatten(-3, -2), adjoint=True)
        if self._right_hand_side is not None:
            h = self._right_hand_side.mT @ h
        if not self._steps:
            return h.unflatten(-2, (self.tree.n_leaves, -1))
        for (_, y, up), w in zip(reversed(self._steps), reversed(known), strict=True):
            h = y.mT @ w + up.mT @ h.reshape(*w.shape[:-2], up.shape[-2], w.shape[-1])
        return h

    def slogdet(self):
        """Sign and natural logarithm of the absolute value of the determinant.

        Returns
        -------
        tuple of two Tensors of shape (\\*batch,)
            Sign, and logarithm.
        """
        diagonal = torch.diagonal(self._lu, dim1=-2, dim2=-1)
        swaps = (self._pivots != torch.arange(1, diagonal.shape[-1] + 1, device=self.device)).sum(-1)
        sign, logabsdet = diagonal.sign().prod(-1) * (1 - 2 * (swaps % 2)), diagonal.abs().log().sum(-1)
        for step, *_ in self._steps:
            diagonal = torch.diagonal(step.L, dim1=-2, dim2=-1).flatten(-2)
            logabsdet = logabsdet + diagonal.abs().log().sum(-1)
            rotations = [torch.cat(pair, dim=-1) for pair in ((step.Q_k, step.Q_r), (step.W_k, step.W_r))]
            sign = sign * diagonal.sign().prod(-1)
            for rotation in rotations:
                sign = sign * torch.linalg.det(rotation).sign().prod(-1)
        return sign, logabsdet

    def aslinearoperator(self):
        """Inverse of the matrix as a SciPy operator, such as the preconditioner `M` of ``scipy.sparse.linalg.gmres``.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator
            Its products are solves with the matrix, those with its adjoint are transposed solves.
        """
        return as_linear_operator(self.shape, self.dtype, self.solve, self.solve_transposed)

    def _estimate_condition(self, A):
        numbers = np.random.RandomState(0).standard_normal((self.shape[-1], 1))
        start = torch.from_numpy(numbers).to(device=self.device, dtype=self.dtype)
        norms = [
            norm_estimate(start, *pair)
            for pair in ((A.__matmul__, A.T.__matmul__), (self.solve, self.solve_transposed))
        ]
        return float((norms[0] * norms[1]).max()) if norms[0].numel() else 0.0


def norm_estimate(x, apply, adjoint, steps=2):
    """Lower estimate of the spectral norm of an operator, by power iteration from `x`."""
    tiny = torch.finfo(x.dtype).tiny

    def apply_to_unit(x):
        return apply(x / torch.linalg.vector_norm(x, dim=-2, keepdim=True).clamp_min(tiny))

    y = apply_to_unit(x)
    for _ in range(steps - 1):
        y = apply_to_unit(adjoint(y))
    return torch.linalg.vector_norm(y, dim=(-2, -1))


def check_square(A):
    """Reject objects that are not HSS matrices, and matrices that are not square."""
    if not hasattr(A, "row_tree"):
        raise TypeError(f"A must be an HSSMatrix, not of type {type(A).__name__}.")
    if A.shape[-1] != A.shape[-2]:
        raise ValueError(f"Only square matrices can be factorised and inverted; this one has shape {A.shape}.")


def check_pivots(triangle):
    """Raise for zero and non-finite pivots on the diagonal of a factor."""
    pivots = torch.diagonal(triangle, dim1=-2, dim2=-1)
    if not torch.isfinite(pivots).all():
        raise np.linalg.LinAlgError("The matrix holds NaN or infinite values, so it cannot be factorised.")
    if (pivots == 0).any():
        raise np.linalg.LinAlgError("The matrix is singular, so it has no inverse.")


def substitute(L, b):
    """L⁻¹ b for lower triangles."""
    check_pivots(L)
    return torch.linalg.solve_triangular(L, b, upper=False)


def inverse_generators(A):
    """Generators of A⁻¹, whose ranks are those of A, in O(n r²).

    The eliminations of A and of Aᵀ (marked ~) give, of X = A⁻¹, the rows W_kᵀ X = Y = L⁻¹ Q_kᵀ and the columns X W~_k =
    Y~ᵀ, all block diagonal. Hence

        X = W_k Y + W_r W_rᵀ Y~ᵀ W~_kᵀ + W_r (W_rᵀ X W~_r) W~_rᵀ,

    a telescopic form with bases W_r and W~_r. The matrix in the middle is that of the next level, A_r⁻¹ (P - U A' S),
    with A_r the reduced matrix, and is decomposed in the same way.
    """
    check_square(A)
    D, U, V = padded_identity(A)
    sides = [(D, U, V), ([d.mT for d in D], V, U)]
    eye = torch.eye(D[0].shape[-1], dtype=A.dtype, device=A.device).expand(D[0].shape)
    state = [(side[0][0], eye, None) for side in sides]
    bases = [(side[1][0], side[2][0]) if U else (None, None) for side in sides]
    D_inv, U_inv, V_inv = [], [], []
    for i in range(len(U)):
        steps = [eliminate(d, u, v) for (d, *_), (u, v) in zip(state, bases, strict=True)]
        known = [substitute(step.L, step.Q_k.mT @ P) for step, (_, P, _) in zip(steps, state, strict=True)]
        a, b = steps
        D_inv.append(a.W_k @ known[0] + a.W_r @ (a.W_r.mT @ known[1].mT) @ b.W_k.mT)
        U_inv.append(a.W_r)
        V_inv.append(b.W_r)
        for j in range(2):
            step, other, y, (_, P, S), side = steps[j], steps[1 - j], known[j], state[j], sides[j]
            P = merge_diagonal((step.Q_r.mT @ P - step.D_k @ y) @ other.W_r)
            S = step.V_k @ y if S is None else S + step.V_k @ y
            S = merge_diagonal(S @ other.W_r)
            last = i + 1 == len(U)
            level = [side[0][i + 1]] if last else [generators[i + 1] for generators in side]
            d, u, v = climb(step, *level)
            P = P - merge_diagonal(step.U) @ level[0] @ S
            state[j] = (d, P, None if last else level[2].mT @ S)
            bases[j] = (u, v)
    d, P, _ = state[0]
    lu, pivots, _ = torch.linalg.lu_factor_ex(d)
    check_pivots(lu)
    D_inv.append(torch.linalg.lu_solve(lu, pivots, P))
    return D_inv, U_inv, V_inv


class Solve(torch.autograd.Function):
    """x = A⁻¹ b (or A⁻ᵀ b), differentiable any number of times in b and in the generators of A."""

    @staticmethod
    def forward(ctx, A, transposed, b, *generators):
        """Solve with the cached factor of A."""
        factor = A.factor(warn=False)
        x = factor.solve_transposed(b) if transposed else factor.solve(b)
        ctx.A, ctx.transposed, ctx.b_shape = A, transposed, b.shape
        ctx.save_for_backward(x, *generators)
        return x

    @staticmethod
    def backward(ctx, gradient):
        """From A x = b: the gradient of b is w = A⁻ᵀ gradient, that of A is -w xᵀ."""
        x, *generators = ctx.saved_tensors
        A, transposed = ctx.A, ctx.transposed
        w = Solve.apply(A, not transposed, gradient, *generators)
        gradients: list[torch.Tensor | None] = [None] * len(generators)
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        if wanted:
            again = torch.is_grad_enabled()
            with torch.enable_grad():
                # Aliases: x and w also depend on the generators, but not through these.
                inputs = [g.view_as(g) if again else g.detach().requires_grad_() for g in generators]
                n = A.levels
                product = A._like(inputs[: n + 1], inputs[n + 1 : 2 * n + 1], inputs[2 * n + 1 :])
                loss = -(w * ((product.T if transposed else product) @ x)).sum()
                found = torch.autograd.grad(loss, [inputs[i] for i in wanted], create_graph=again, allow_unused=True)
            for i, value in zip(wanted, found, strict=True):
                gradients[i] = value
        return None, None, w.sum_to_size(ctx.b_shape), *gradients
