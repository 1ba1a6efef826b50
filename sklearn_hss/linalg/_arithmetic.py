"""Exact sums and products of HSS matrices, whose ranks add; :meth:`HSSMatrix.truncate` reduces them."""

import torch

from ._blocks import merge_diagonal, without_padding


def broadcast(A, B):
    """Generators of both without padding, over one batch shape."""
    batch = torch.broadcast_shapes(A.batch_shape, B.batch_shape)
    return (
        [[g.expand(*batch, *g.shape[-3:]) for g in generators] for generators in without_padding(M)] for M in (A, B)
    )


def join(top_left, top_right, bottom_left, bottom_right, *, pairs):
    """2 x 2 blocks [[top_left, top_right], [bottom_left, bottom_right]] for either child of a node.

    Blocks are (*batch, N, 2 r_i, c_j), with the rows of the left child before those of the right one. With `pairs`, the
    same holds for their columns, which otherwise belong to both children. The result is
    (*batch, N, 2 (r_0 + r_1), c_0 + c_1).
    """

    def split(x):
        x = x.unflatten(-2, (2, x.shape[-2] // 2))
        return x.unflatten(-1, (2, x.shape[-1] // 2)) if pairs else x.unsqueeze(-2)

    rows = [
        torch.cat([split(left), split(right)], dim=-1)
        for left, right in ((top_left, top_right), (bottom_left, bottom_right))
    ]
    return torch.cat(rows, dim=-3).flatten(-2).flatten(-3, -2)


def add(A, B):
    """A + B, of rank rank(A) + rank(B)."""
    (D_a, U_a, V_a), (D_b, U_b, V_b) = broadcast(A, B)
    D: list[torch.Tensor] = [D_a[0] + D_b[0]]
    U: list[torch.Tensor] = []
    V: list[torch.Tensor] = []
    for i in range(len(U_a)):
        for own, other, out in ((U_a[i], U_b[i], U), (V_a[i], V_b[i], V)):
            if i == 0:
                out.append(torch.cat([own, other], dim=-1))
            else:
                out.append(block_diagonal(own, other, pairs=False))
        D.append(block_diagonal(D_a[i + 1], D_b[i + 1], pairs=True))
    return A._like(D, U, V)


def block_diagonal(a, b, *, pairs):
    """:func:`join` with zeros off the diagonal."""
    return join(a, a.new_zeros(*a.shape[:-1], b.shape[-1]), b.new_zeros(*b.shape[:-1], a.shape[-1]), b, pairs=pairs)


def multiply(A, B):
    """The product A B, of rank rank(A) + rank(B).

    With A = D + U A' V' and B = E + W B' Z' (primes: transposed, or one level up) and G = V' W,

        A B = D E + [U, D W] [[A' G B', A'], [B', 0]] [Z, E' V]',

    and the middle matrix has generators of the same kind, with G' = V₁' G W₁ one level further up.
    """
    (D_a, U_a, V_a), (D_b, U_b, V_b) = broadcast(A, B)
    D: list[torch.Tensor] = [D_a[0] @ D_b[0]]
    U: list[torch.Tensor] = []
    V: list[torch.Tensor] = []
    if not U_a:
        return A._like(D, U, V, col_tree=B.col_tree)
    U.append(torch.cat([U_a[0], D_a[0] @ U_b[0]], dim=-1))
    V.append(torch.cat([V_b[0], D_b[0].mT @ V_a[0]], dim=-1))
    G = V_a[0].mT @ U_b[0]
    for i in range(1, len(U_a) + 1):
        G = merge_diagonal(G)
        d_a, d_b = D_a[i], D_b[i]
        zero = d_a.new_zeros(*d_a.shape[:-2], d_b.shape[-2], d_a.shape[-1])
        D.append(join(d_a @ G @ d_b, d_a, d_b, zero, pairs=True))
        if i < len(U_a):
            u_a, u_b, v_a, v_b = U_a[i], U_b[i], V_a[i], V_b[i]
            U.append(join(u_a, d_a @ G @ u_b, u_b.new_zeros(*u_b.shape[:-1], u_a.shape[-1]), u_b, pairs=False))
            V.append(join(v_b, d_b.mT @ G.mT @ v_a, v_a.new_zeros(*v_a.shape[:-1], v_b.shape[-1]), v_a, pairs=False))
            G = v_a.mT @ G @ u_b
    return A._like(D, U, V, col_tree=B.col_tree)
