"""Compression to HSS form, and recompression of HSS matrices.

Bases are truncated to the directions whose singular values exceed `tol` times the norm of the matrix, so that the total
error is at most about sqrt(n) * norm * tol. All blocks of a level, and all matrices of a batch, have the same number of
directions, that of the block which needs most.
"""

import torch

from ._blocks import leaf_mask, merge_diagonal, split_diagonal, split_rows, without_padding
from ._cluster_tree import split_leaves


def at_least_rounding(tol, dtype):
    """Increase a nonzero tolerance to the level of rounding if it is below."""
    return max(tol, 10 * torch.finfo(dtype).eps) if tol else 0.0


def leading_directions(x, threshold, rank):
    """Left singular vectors of the blocks x (*batch, N, m, k) whose singular values exceed `threshold`.

    Their number is the same for all blocks, and at most `rank`.
    """
    u, s, _ = torch.linalg.svd(narrow(x), full_matrices=False)
    above = s > threshold
    kept = int(above.sum(-1).max()) if above.numel() else 0
    return u[..., : kept if rank is None else min(kept, rank)]


def narrow(x):
    """Replace wide blocks x by square blocks with the same x x'."""
    return torch.linalg.qr(x.mT, mode="r")[1].mT if x.shape[-1] > x.shape[-2] else x


def norm_bound(blocks):
    """Lower bound on the spectral norm of each matrix, from some of its blocks: shape (*batch, 1, 1)."""
    bounds = []
    for x in blocks:
        if min(x.shape[-3:]):
            # Squares of very large entries would overflow, and everything would be below the threshold.
            scale = x.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
            norm = scale[..., 0, 0] * torch.linalg.matrix_norm(x / scale)
            bounds.append((norm / min(x.shape[-2:]) ** 0.5).amax(-1))
    return torch.stack(bounds).amax(0)[..., None, None]


def compress_dense(A, row_tree, col_tree, tol, rank):
    """Generators D, U, V of a dense matrix (*batch, n_rows, n_columns), to `tol` or a fixed `rank`.

    From the leaves up, the bases are singular vectors of the block rows and columns without their diagonal block, and
    the coupling between the bases is compressed one level up. The cost is O(n²) times the leaf size.
    """
    tol = at_least_rounding(tol, A.dtype)
    rows = split_leaves(A, row_tree).flatten(-3, -2)
    blocks = split_leaves(rows.mT, col_tree).unflatten(-1, (row_tree.n_leaves, row_tree.max_leaf_size))
    blocks = blocks.movedim((-2, -1), (-4, -2))  # (*batch, N, N, m, k): block i, j
    threshold = tol * norm_bound([A.unsqueeze(-3), *blocks.unbind(-3)])
    D, U, V = [], [], []
    for _ in range(row_tree.levels):
        diagonal = torch.diagonal(blocks, dim1=-4, dim2=-3).movedim(-1, -3)
        D.append(diagonal)
        same = torch.eye(blocks.shape[-3], dtype=torch.bool, device=A.device)[..., None, None]
        blocks = torch.where(same, 0, blocks)
        block_rows = blocks.movedim(-3, -2).flatten(-2)  # (*batch, N, m, N k)
        block_columns = blocks.mT.movedim(-4, -2).flatten(-2)  # (*batch, N, k, N m)
        u = leading_directions(block_rows, threshold, rank)
        v = leading_directions(block_columns, threshold, rank)
        U.append(u)
        V.append(v)
        blocks = u.mT.unsqueeze(-3) @ blocks @ v.unsqueeze(-4)  # (*batch, N, N, r, s)
        *batch, n, _, r, s = blocks.shape
        blocks = blocks.reshape(*batch, n // 2, 2, n // 2, 2, r, s).transpose(-5, -4).transpose(-3, -2)
        blocks = blocks.reshape(*batch, n // 2, n // 2, 2 * r, 2 * s)
    D.append(blocks.squeeze(-3))
    if U:
        # A direction with singular value zero may lie in the padding of a small leaf.
        U[0] = U[0] * leaf_mask(row_tree, A.dtype, A.device)
        V[0] = V[0] * leaf_mask(col_tree, A.dtype, A.device)
    return D, U, V


def orthonormal(basis):
    """Orthonormal basis Q and factor R of `basis` = Q R; the identity and `basis` if that is wider than tall."""
    if basis.shape[-1] < basis.shape[-2]:
        return torch.linalg.qr(basis)
    # The QR factorisation of wide matrices with zero rows, such as padding, has no gradient.
    eye = torch.eye(basis.shape[-2], dtype=basis.dtype, device=basis.device)
    return eye.expand(*basis.shape[:-1], basis.shape[-2]), basis


def orthogonalise(D, U, V):
    """Equal matrix with orthonormal bases on all levels; a basis wider than tall becomes square."""
    D, U, V = list(D), list(U), list(V)
    for i in range(len(U)):
        U[i], r_u = orthonormal(U[i])
        V[i], r_v = orthonormal(V[i])
        r_u, r_v = merge_diagonal(r_u), merge_diagonal(r_v)
        D[i + 1] = r_u @ D[i + 1] @ r_v.mT
        if i + 1 < len(U):
            U[i + 1], V[i + 1] = r_u @ U[i + 1], r_v @ V[i + 1]
    return D, U, V


def standardise(D, U, V):
    """Equal matrix whose D[0] contains the full diagonal blocks, and whose further D contain only sibling couplings."""
    D = list(D)
    for i in range(len(U), 0, -1):
        diagonal = split_diagonal(D[i])
        D[i] = D[i] - merge_diagonal(diagonal)
        D[i - 1] = D[i - 1] + U[i - 1] @ diagonal @ V[i - 1].mT
    return D, U, V


def canonical_generators(A):
    """Generators of `A` with orthonormal bases, in standard form and with zeros in the padding."""
    return standardise(*orthogonalise(*without_padding(A)))


def truncate(A, tol, rank):
    """`A` with smaller bases, to `tol` or a fixed `rank`, in O(n r²).

    Bases are orthonormalised from the leaves up. Then, from the root down, each block row (and column) is represented
    by its weights on its basis, a small matrix whose singular vectors determine the directions that are retained.
    """
    tol = at_least_rounding(tol, A.dtype)
    D, U, V = canonical_generators(A)
    threshold = tol * norm_bound(D)
    weights_u = weights_v = None
    for i in range(len(U), 0, -1):
        # The block row of a node consists of its coupling with its sibling, and of that through the parent's basis.
        rows, columns = split_rows(D[i]), split_rows(D[i].mT)
        if weights_u is not None:
            rows = torch.cat([rows, split_rows(U[i] @ weights_u)], dim=-1)
            columns = torch.cat([columns, split_rows(V[i] @ weights_v)], dim=-1)
        rows, columns = narrow(rows), narrow(columns)
        u, v = leading_directions(rows, threshold, rank), leading_directions(columns, threshold, rank)
        weights_u, weights_v = u.mT @ rows, v.mT @ columns
        both_u, both_v = merge_diagonal(u), merge_diagonal(v)
        D[i] = both_u.mT @ D[i] @ both_v
        if i < len(U):
            U[i], V[i] = both_u.mT @ U[i], both_v.mT @ V[i]
        U[i - 1], V[i - 1] = U[i - 1] @ u, V[i - 1] @ v
    return A._like(D, U, V)
