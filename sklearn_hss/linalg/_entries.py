"""Entries, blocks and the spectral norm of an HSS matrix."""

import numpy as np
import torch
from scipy.sparse.linalg import svds

from ._operands import as_array, as_linear_operator


def _path(tree, bases, index):
    """For all levels, from the leaves to the root, the nodes that contain the given indices, and rows of the bases.

    These rows, of shape (*batch, len(index), columns), belong to the indices.
    """
    offsets = torch.tensor(tree.offsets(tree.levels), device=index.device)
    node = torch.searchsorted(offsets, index, right=True) - 1
    rows = torch.nn.functional.one_hot(index - offsets[node], tree.max_leaf_size)
    path = [(node, rows)]
    for basis in bases:
        rows = (rows.to(basis.dtype).unsqueeze(-2) @ basis[..., node, :, :]).squeeze(-2)
        # The left child fills the first half of its parent's row, the right child the second.
        right = (node % 2).to(basis.dtype).unsqueeze(-1)
        rows, node = torch.cat([rows * (1 - right), rows * right], dim=-1), node // 2
        path.append((node, rows))
    return path


def _as_index(values, name):
    """Integer tensor of row or column numbers."""
    if isinstance(values, range):
        values = np.arange(values.start, values.stop, values.step)
    if not isinstance(values, torch.Tensor):
        values = as_array(values, name)
        if values.size and values.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold integers, not {values.dtype}.")
        values = torch.from_numpy(values.astype(np.int64))
    elif values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"{name} must hold integers, not {values.dtype}.")
    return values.reshape(-1).long()


def _paths(A, rows, columns):
    index = []
    for name, values, n in (("row", rows, A.shape[-2]), ("column", columns, A.shape[-1])):
        values = _as_index(values, f"{name}s")
        if values.numel() and not (-n <= int(values.min()) and int(values.max()) < n):
            raise IndexError(f"A {name} index is out of range for an HSSMatrix of shape {A.shape}.")
        index.append((values % n).to(A.device))
    return zip(A.D, _path(A.row_tree, A.U, index[0]), _path(A.col_tree, A.V, index[1]), strict=True)


def entries(A, rows, columns):
    """Entries at pairs of rows and columns: Tensor (*batch, len(rows))."""
    total = A.D[0].new_zeros(())
    for d, (row_node, left), (column_node, right) in _paths(A, rows, columns):
        value = (left.to(d.dtype).unsqueeze(-2) @ d[..., row_node, :, :]).squeeze(-2) * right.to(d.dtype)
        total = total + torch.where(row_node == column_node, value.sum(-1), 0)
    return total


def block(A, rows, columns):
    """Entries at all combinations of rows and columns: Tensor (*batch, len(rows), len(columns))."""
    total = A.D[0].new_zeros(())
    for d, (row_node, left), (column_node, right) in _paths(A, rows, columns):
        left = (left.to(d.dtype).unsqueeze(-2) @ d[..., row_node, :, :]).squeeze(-2)
        total = total + torch.where(row_node[:, None] == column_node, left @ right.to(d.dtype).mT, 0)
    return total


def spectral_norm(A):
    """Euclidean norm of every matrix of a batch, by Lanczos bidiagonalisation."""
    if A.batch_shape:
        members = [
            A._like(*([g[i] for g in generators] for generators in (A.D, A.U, A.V))) for i in range(A.batch_shape[0])
        ]
        if members:
            return torch.stack([spectral_norm(member) for member in members])
        return A.D[0].new_zeros(A.batch_shape)
    if min(A.shape) <= 64:
        return torch.linalg.matrix_norm(A.to_dense(), 2)
    A = A.detach()
    scale = float(A.norm())
    if not 0 < scale < np.inf:
        return torch.as_tensor(scale, dtype=A.dtype, device=A.device)
    A = A / scale  # Lanczos works with squares, which must not vanish
    start = np.random.RandomState(0).standard_normal(min(A.shape))
    operator = as_linear_operator(A.shape, A.dtype, A.__matmul__, A.T.__matmul__)
    norm = svds(operator, k=1, v0=start.astype(operator.dtype), return_singular_vectors=False)[0]
    return torch.as_tensor(scale * norm, dtype=A.dtype, device=A.device)
