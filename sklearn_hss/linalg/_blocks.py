"""Operations on stacks of blocks, (*batch, 2**level, rows, columns), common to the algorithms of this folder."""

import torch


def merge_rows(x):
    """Stack the blocks of siblings: (*batch, N, r, k) to (*batch, N / 2, 2 r, k)."""
    *batch, n, r, k = x.shape
    return x.reshape(*batch, n // 2, 2 * r, k)


def split_rows(x):
    """Undo :func:`merge_rows`."""
    *batch, n, r, k = x.shape
    return x.reshape(*batch, 2 * n, r // 2, k)


def merge_diagonal(x):
    """Block-diagonal matrices of siblings: (*batch, N, r, k) to (*batch, N / 2, 2 r, 2 k)."""
    *batch, n, r, k = x.shape
    x = x.reshape(*batch, n // 2, 2, r, k)
    merged = x.new_zeros(*batch, n // 2, 2, r, 2, k)
    merged[..., 0, :, 0, :] = x[..., 0, :, :]
    merged[..., 1, :, 1, :] = x[..., 1, :, :]
    return merged.reshape(*batch, n // 2, 2 * r, 2 * k)


def split_diagonal(x):
    """Diagonal blocks of siblings, the left inverse of :func:`merge_diagonal`."""
    *batch, n, r, k = x.shape
    x = x.reshape(*batch, n, 2, r // 2, 2, k // 2)
    return torch.stack([x[..., 0, :, 0, :], x[..., 1, :, 1, :]], dim=-3).reshape(*batch, 2 * n, r // 2, k // 2)


def leaf_mask(tree, dtype, device):
    """1 where a padded leaf holds an index, and 0 otherwise: shape (n_leaves, max_leaf_size, 1)."""
    sizes = torch.tensor(tree.leaf_sizes, device=device)
    return (torch.arange(tree.max_leaf_size, device=device) < sizes[:, None]).to(dtype).unsqueeze(-1)


def without_padding(A):
    """Generators D, U, V of `A` as lists, with zeros in the padding of small leaves."""
    D, U, V = list(A.D), list(A.U), list(A.V)
    for tree, bases in ((A.row_tree, U), (A.col_tree, V)):
        if not tree.is_uniform:
            mask = leaf_mask(tree, A.dtype, A.device)
            D[0] = D[0] * (mask if bases is U else mask.mT)
            if bases:
                bases[0] = bases[0] * mask
    return D, U, V
