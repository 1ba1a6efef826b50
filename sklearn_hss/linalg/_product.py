"""The telescopic product y = A x: one sweep up the cluster tree, one down.

Generators are stacked per level, from the leaves (index 0) to the root, and blocks are the leading dimension of every
operand, so that each step is a single batched matrix product. Siblings are neighbours in memory: halving the number of
blocks and doubling their rows is a view.
"""

from collections.abc import Sequence

import torch


def sweep(D, U, V, x):
    """:func:`telescopic_product`, together with the intermediate results for a backward pass.

    Parameters
    ----------
    D : sequence of levels + 1 tensors, the i-th of shape (batch * 2**(levels - i), rows_i, cols_i)
        Diagonal blocks, from the leaves to the root.
    U, V : sequences of levels tensors, of shapes (batch * 2**(levels - i), rows_i, r_i) and (..., cols_i, s_i)
        Column and row bases. ``rows_{i+1} = 2 r_i`` and ``cols_{i+1} = 2 s_i``.
    x : Tensor of shape (batch * 2**levels, cols_0, k)

    Returns
    -------
    y : Tensor of shape (batch * 2**levels, rows_0, k)
    inputs : list of levels + 1 tensors of shape (batch * 2**(levels - i), cols_i, k)
        Operands of the generators of level i.
    weights : list of levels tensors of shape (batch * 2**(levels - i), r_i, k)
        Coefficients by which the column bases U[i] were multiplied.
    """
    inputs, weights = [x], []
    for v in V:
        z = torch.bmm(v.mT, inputs[-1])
        inputs.append(z.view(z.shape[0] // 2, 2 * z.shape[1], z.shape[2]))
    y = torch.bmm(D[-1], inputs[-1])
    for d, u, x_level in zip(reversed(D[:-1]), reversed(U), reversed(inputs[:-1]), strict=True):
        w = y.view(u.shape[0], u.shape[2], y.shape[2])
        weights.append(w)
        y = torch.bmm(d, x_level).baddbmm_(u, w)
    return y, inputs, weights[::-1]


def telescopic_product(
    D: Sequence[torch.Tensor], U: Sequence[torch.Tensor], V: Sequence[torch.Tensor], x: torch.Tensor
) -> torch.Tensor:
    """Product of an HSS matrix with a block of vectors, from its stacked generators.

    The literal recursion of Algorithm 1 of the Neural-HSS paper, all blocks of a level at once: with z = Vᵀx computed
    leaf by leaf, y = D x + U A' z where A' is the HSS matrix one level up. Shapes are those of :func:`sweep`.
    Differentiable any number of times.
    """
    return sweep(D, U, V, x)[0]


def dense_form(D: Sequence[torch.Tensor], U: Sequence[torch.Tensor], V: Sequence[torch.Tensor]) -> torch.Tensor:
    """Dense form (*batch, 2**levels * rows_0, 2**levels * cols_0) of generators (*batch, 2**(levels - i), ...)."""
    dense = D[-1].squeeze(-3)
    for d, u, v in zip(reversed(D[:-1]), reversed(U), reversed(V), strict=True):
        n_blocks, columns = v.shape[-3:-1]
        diagonal = torch.eye(n_blocks, dtype=d.dtype, device=d.device)[:, None, :, None]
        # The row bases multiply the transpose, so that both products have their blocks in front and nothing is copied.
        right = (v @ dense.mT.unflatten(-2, (n_blocks, v.shape[-1]))).flatten(-3, -2)
        blocks = u @ right.mT.unflatten(-2, (n_blocks, u.shape[-1]))
        blocks = torch.addcmul(blocks.unflatten(-1, (n_blocks, columns)), d.unsqueeze(-2), diagonal)
        dense = blocks.flatten(-2, -1).flatten(-3, -2)
    return dense
