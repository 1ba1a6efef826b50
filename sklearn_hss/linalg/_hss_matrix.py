"""Hierarchically semi-separable matrices held by their telescopic generators."""

from collections.abc import Iterable, Sequence
from math import prod

import numpy as np
import torch

from ._cluster_tree import ClusterTree, join_leaves, split_leaves
from ._product import telescopic_product


class HSSMatrix:
    """Hierarchically semi-separable (HSS) matrix, or a batch of them, in telescopic form.

    Over a cluster tree of depth L, an HSS matrix is, by Definition 2.1 of the Neural-HSS paper,

        A = D⁽ᴸ⁾ + U⁽ᴸ⁾ A⁽ᴸ⁻¹⁾ (V⁽ᴸ⁾)ᵀ,

    with D, U, V block diagonal over the leaves and A⁽ᴸ⁻¹⁾ of the same form one level up, down to a small dense root.
    Storage and products cost O(n r) for rank r.

    Parameters
    ----------
    row_tree, col_tree : ClusterTree
        Trees of equal depth over the rows and the columns.
    D : sequence of L + 1 tensors
        Diagonal blocks, stacked per level and ordered from the leaves to the root: ``D[i]`` has shape
        (\\*batch, 2**(L - i), rows_i, cols_i). At the leaves, ``rows_0`` and ``cols_0`` are the largest leaf sizes of
        the trees; smaller leaves are padded, and what stands in the padding has no effect.
    U, V : sequences of L tensors
        Column and row bases, of shapes (\\*batch, 2**(L - i), rows_i, r_i) and (\\*batch, 2**(L - i), cols_i, s_i).
        Siblings are merged one level up: ``rows_{i+1} = 2 * r_i`` and ``cols_{i+1} = 2 * s_i``.

    Attributes
    ----------
    shape : tuple of int
        (\\*batch, n_rows, n_columns).
    levels : int
        Depth of the cluster trees.
    rank : int
        HSS rank: the largest number of columns of any basis, 0 for a matrix of a single block.
    n_parameters : int
        Number of generator entries, padding left out.
    dtype, device
        Those of the generators.

    Raises
    ------
    ValueError
        If the trees differ in depth or a generator's shape does not fit.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import ClusterTree, HSSMatrix
    >>> tree = ClusterTree(256, levels=3)
    >>> A = HSSMatrix.random(tree, tree, rank=2, generator=torch.Generator().manual_seed(0))
    >>> A
    HSSMatrix(shape=(256, 256), levels=3, rank=2, n_parameters=9424, dtype=torch.float64)
    >>> x = torch.ones(256, dtype=A.dtype)
    >>> torch.allclose(A @ x, A.to_dense() @ x)
    True
    """

    def __init__(
        self,
        row_tree: ClusterTree,
        col_tree: ClusterTree,
        D: Iterable[torch.Tensor],
        U: Iterable[torch.Tensor],
        V: Iterable[torch.Tensor],
    ) -> None:
        self.row_tree, self.col_tree = row_tree, col_tree
        self.D, self.U, self.V = tuple(D), tuple(U), tuple(V)
        self._check_generators()

    @staticmethod
    def _check_trees(row_tree, col_tree):
        for name, tree in (("row_tree", row_tree), ("col_tree", col_tree)):
            if not isinstance(tree, ClusterTree):
                raise TypeError(f"{name}={tree!r} must be a ClusterTree, such as ClusterTree(100, levels=3).")

    def _check_generators(self):
        self._check_trees(self.row_tree, self.col_tree)
        levels = self.row_tree.levels
        if self.col_tree.levels != levels:
            raise ValueError(
                f"row_tree has {levels} levels and col_tree {self.col_tree.levels}; both must have the same."
            )
        if (len(self.D), len(self.U), len(self.V)) != (levels + 1, levels, levels):
            raise ValueError(
                f"Trees of {levels} levels need {levels + 1} D, {levels} U and {levels} V tensors; "
                f"got {len(self.D)}, {len(self.U)} and {len(self.V)}."
            )
        batch = self.D[0].shape[:-3]
        rows, cols = self.row_tree.max_leaf_size, self.col_tree.max_leaf_size
        for i in range(levels + 1):
            wanted = {"D": (*batch, 2 ** (levels - i), rows, cols)}
            if i < levels:
                rank_U, rank_V = self.U[i].shape[-1], self.V[i].shape[-1]
                wanted["U"] = (*batch, 2 ** (levels - i), rows, rank_U)
                wanted["V"] = (*batch, 2 ** (levels - i), cols, rank_V)
                rows, cols = 2 * rank_U, 2 * rank_V
            for name, shape in wanted.items():
                got = tuple(getattr(self, name)[i].shape)
                if got != shape:
                    raise ValueError(f"{name}[{i}] has shape {got}; the trees and the other generators need {shape}.")

    @classmethod
    def random(
        cls,
        row_tree: ClusterTree,
        col_tree: ClusterTree,
        rank: int,
        *,
        batch_shape: Sequence[int] = (),
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> "HSSMatrix":
        """HSS matrix with Gaussian generators, scaled so that products neither grow nor vanish.

        Parameters
        ----------
        row_tree, col_tree : ClusterTree
            Trees of equal depth.
        rank : int
            Columns of every U and V.
        batch_shape : tuple of int, default=()
            Shape of a batch of matrices.
        dtype : torch.dtype, default=torch.float64
            Type of the generators.
        device : torch.device or str, default=None
            Where the generators live; torch's default device if None.
        generator : torch.Generator, default=None
            Source of randomness; torch's global one if None.

        Returns
        -------
        HSSMatrix
        """
        cls._check_trees(row_tree, col_tree)
        D, U, V = (
            [
                torch.randn(*batch_shape, *shape, dtype=dtype, device=device, generator=generator) / fan_in**0.5
                for shape, fan_in in shapes
            ]
            for shapes in generator_shapes(row_tree, col_tree, rank)
        )
        return cls(row_tree, col_tree, D, U, V)

    # Shape and type

    @property
    def levels(self) -> int:
        return self.row_tree.levels

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch, empty for a single matrix."""
        return tuple(self.D[0].shape[:-3])

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.batch_shape, self.row_tree.n, self.col_tree.n)

    @property
    def dtype(self) -> torch.dtype:
        return self.D[0].dtype

    @property
    def device(self) -> torch.device:
        return self.D[0].device

    @property
    def rank(self) -> int:
        return max((basis.shape[-1] for basis in self.U + self.V), default=0)

    @property
    def n_parameters(self) -> int:
        stored = sum(generator.numel() for generator in self.D + self.U + self.V)
        return stored - prod(self.batch_shape) * self._n_padding()

    def _n_padding(self):
        leaves = list(zip(self.row_tree.leaf_sizes, self.col_tree.leaf_sizes, strict=True))
        used = sum(m * k for m, k in leaves)
        stored = self.D[0].shape[-2] * self.D[0].shape[-1] * len(leaves)
        if self.levels:
            used += sum(m * self.U[0].shape[-1] + k * self.V[0].shape[-1] for m, k in leaves)
            stored += prod(self.U[0].shape[-3:]) + prod(self.V[0].shape[-3:])
        return stored - used

    def __repr__(self):
        return (
            f"HSSMatrix(shape={self.shape}, levels={self.levels}, rank={self.rank}, "
            f"n_parameters={self.n_parameters}, dtype={self.dtype})"
        )

    # Products

    @property
    def T(self) -> "HSSMatrix":
        """Transpose, of every matrix of a batch. Shares its generators with this one."""
        return HSSMatrix(self.col_tree, self.row_tree, [d.mT for d in self.D], self.V, self.U)

    def __matmul__(self, x):
        """Product with a vector (n_columns,) or a block of vectors (..., n_columns, k), in O(n r k).

        Batches broadcast as in :func:`torch.matmul`. A NumPy array in gives a NumPy array back.
        """
        if isinstance(x, np.ndarray):
            if np.iscomplexobj(x):
                raise TypeError("Complex operands are not supported; multiply the real and the imaginary part.")
            return (self @ torch.as_tensor(x, dtype=self.dtype, device=self.device)).detach().cpu().numpy()
        if not isinstance(x, torch.Tensor):
            return NotImplemented
        if x.dtype != self.dtype:
            raise TypeError(f"An operand of {x.dtype} does not fit an HSSMatrix of {self.dtype}; convert one of them.")
        if x.ndim == 0:
            raise ValueError("A scalar does not fit an HSSMatrix; the operand must be a vector or a matrix.")
        if x.ndim == 1:
            return (self @ x.unsqueeze(-1)).squeeze(-1)
        if x.shape[-2] != self.shape[-1]:
            raise ValueError(
                f"An operand with {x.shape[-2]} rows does not fit an HSSMatrix with {self.shape[-1]} columns."
            )
        # Matrices of a batch are more blocks of the same size, so the whole batch is one sweep.
        batch = torch.broadcast_shapes(self.batch_shape, x.shape[:-2])
        D, U, V = (
            [g.expand(*batch, *g.shape[-3:]).reshape(prod(batch) * g.shape[-3], *g.shape[-2:]) for g in generators]
            for generators in (self.D, self.U, self.V)
        )
        blocks = split_leaves(x.expand(*batch, *x.shape[-2:]), self.col_tree)
        y = telescopic_product(D, U, V, blocks.reshape(D[0].shape[0], *blocks.shape[-2:]))
        return join_leaves(y.reshape(*batch, self.row_tree.n_leaves, *y.shape[-2:]), self.row_tree)

    # NumPy must leave `array @ A` to the method below, instead of making an array of objects of A.
    __array_ufunc__ = None

    def __rmatmul__(self, x):
        """Product of a row vector (n_rows,) or a block of them (..., k, n_rows) with the matrix."""
        if not isinstance(x, np.ndarray | torch.Tensor):
            return NotImplemented
        if x.ndim < 2:
            return self.T @ x
        return (self.T @ x.swapaxes(-1, -2)).swapaxes(-1, -2)

    def to_dense(self) -> torch.Tensor:
        """Expand the telescopic form, from the root down.

        Returns
        -------
        Tensor of shape (\\*batch, n_rows, n_columns)
            The matrix with all its entries, O(n²) of them.
        """
        dense = self.D[-1].squeeze(-3)
        for d, u, v in zip(reversed(self.D[:-1]), reversed(self.U), reversed(self.V), strict=True):
            blocks = dense.unflatten(-1, (v.shape[-3], v.shape[-1])).unflatten(-3, (u.shape[-3], u.shape[-1]))
            blocks = torch.einsum("...imr,...irjs,...jks->...imjk", u, blocks, v)
            diagonal = torch.eye(d.shape[-3], dtype=d.dtype, device=d.device)
            blocks = blocks + torch.einsum("...imk,ij->...imjk", d, diagonal)
            dense = blocks.flatten(-2, -1).flatten(-3, -2)
        # Now the rows and columns of small leaves still carry their padding.
        rows, cols = self.row_tree, self.col_tree
        dense = join_leaves(dense.unflatten(-2, (rows.n_leaves, rows.max_leaf_size)), rows)
        return join_leaves(dense.mT.unflatten(-2, (cols.n_leaves, cols.max_leaf_size)), cols).mT


def generator_shapes(
    row_tree: ClusterTree, col_tree: ClusterTree, rank: int
) -> tuple[list[tuple[tuple[int, int, int], int]], ...]:
    """Shapes and fan-ins of the generators of an HSS matrix whose bases all have `rank` columns.

    Parameters
    ----------
    row_tree, col_tree : ClusterTree
    rank : int

    Returns
    -------
    D, U, V : lists of (shape, fan_in)
        From the leaves to the root. The fan-in counts the numbers that the block sums over in a product.
    """
    D, U, V = [], [], []
    rows, cols = row_tree.max_leaf_size, col_tree.max_leaf_size
    for level in range(row_tree.levels, 0, -1):
        D.append(((2**level, rows, cols), cols))
        U.append(((2**level, rows, rank), rank))
        V.append(((2**level, cols, rank), cols))
        rows = cols = 2 * rank
    D.append(((1, rows, cols), cols))
    return D, U, V
