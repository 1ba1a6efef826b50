"""Learnable HSS matrices."""

from collections.abc import Sequence
from itertools import chain
from math import prod

import torch
from torch import nn

from ..linalg import HSSMatrix
from ..linalg._cluster_tree import ClusterTree
from ..linalg._hss_builders import generator_shapes


class HSSParameters(nn.Module):
    """Generators of an HSS matrix, or of a batch of them, as parameters.

    Parameters
    ----------
    in_features, out_features : int
        Numbers of columns and of rows.
    rank, levels : int
        Columns of every basis, and depth of the cluster trees.
    batch_shape : tuple of int, default=()
        Shape of a batch of matrices.
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Attributes
    ----------
    D, U, V : list of Parameter
        Stacked generators from the leaves to the root, registered as ``D0``, ``D1``, ...
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        levels: int,
        batch_shape: Sequence[int] = (),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.rank, self.levels = rank, levels
        self.row_tree = ClusterTree(out_features, levels)
        self.col_tree = ClusterTree(in_features, levels)
        # Plain parameters instead of a ParameterList, whose access takes longer than a small product.
        self._names = []
        for letter, shapes in zip("DUV", generator_shapes(self.row_tree, self.col_tree, rank), strict=True):
            for i, (shape, _) in enumerate(shapes):
                self._names.append(f"{letter}{i}")
                values = torch.empty(*batch_shape, *shape, device=device, dtype=dtype)
                self.register_parameter(self._names[-1], nn.Parameter(values))

    def _draw(self, scale: float = 1.0) -> None:
        """Draw each generator from U(-b, b), b = 1 / sqrt(fan-in), as :class:`torch.nn.Linear` does.

        Unit gain, sqrt(3 / fan-in), would be too large, since the contributions of the levels add.

        Parameters
        ----------
        scale : float, default=1.0
            Factor of the whole matrix, which is applied to its diagonal blocks D.
        """
        shapes = chain(*generator_shapes(self.row_tree, self.col_tree, self.rank))
        for name, generator, (_, fan_in) in zip(self._names, self._generators(), shapes, strict=True):
            bound = fan_in**-0.5 * (scale if name[0] == "D" else 1)
            nn.init.uniform_(generator, -bound, bound)

    @torch.no_grad()
    def _write(self, operator: HSSMatrix) -> None:
        """Set the generators to those of a given matrix, truncated to this tree and rank.

        Parameters
        ----------
        operator : HSSMatrix
            Matrix of shape (out_features, in_features), or a batch (terms, ...) for the first matrices along the last
            dimension of the batch. Additional directions of the bases are not changed but decoupled, so that training
            can use them.
        """
        if operator.levels >= self.levels:
            operator = operator.coarsen(self.levels)
        else:
            operator = HSSMatrix.from_dense(operator.to_dense(), tol=0, rank=self.rank, levels=self.levels)
        operator = operator.truncate(tol=0, rank=self.rank)
        batch = (..., slice(*operator.batch_shape)) if operator.batch_shape else (...,)
        # Rows and columns belong to two children each, except at the leaves.
        for i, (D, new) in enumerate(zip(self.D, operator.D, strict=True)):
            D[*batch, :, :, :] = 0
            parts = 1 if i == 0 else 2
            rows, columns = (size // parts for size in new.shape[-2:])
            blocks = D.unflatten(-1, (parts, -1)).unflatten(-3, (parts, -1))
            new = new.unflatten(-1, (parts, columns)).unflatten(-3, (parts, rows))
            blocks[*batch, :, :, :rows, :, :columns] = new
        for own, given in ((self.U, operator.U), (self.V, operator.V)):
            for i, (basis, new) in enumerate(zip(own, given, strict=True)):
                parts = 1 if i == 0 else 2
                rows, rank = new.shape[-2] // parts, new.shape[-1]
                blocks = basis.unflatten(-2, (parts, -1))
                blocks[*batch, :, :, :, :rank] = 0
                blocks[*batch, :, :, :rows, :rank] = new.unflatten(-2, (parts, rows))

    def _generators(self):
        return [self._parameters[name] for name in self._names]

    @property
    def D(self) -> list[nn.Parameter]:
        """Diagonal blocks, stacked per level, from the leaves to the root."""
        return self._generators()[: self.levels + 1]

    @property
    def U(self) -> list[nn.Parameter]:
        """Column bases, stacked per level, from the leaves to level 1."""
        return self._generators()[self.levels + 1 : 2 * self.levels + 1]

    @property
    def V(self) -> list[nn.Parameter]:
        """Row bases, stacked per level, from the leaves to level 1."""
        return self._generators()[2 * self.levels + 1 :]

    @property
    def weight(self) -> HSSMatrix:
        """The weight as an HSSMatrix that shares, and differentiates to, the parameters."""
        return HSSMatrix(self.row_tree, self.col_tree, self.D, self.U, self.V)

    @property
    def n_padding(self) -> int:
        """Number of parameter entries that only pad smaller leaves, which have neither effect nor gradient."""
        weight = self.weight
        return prod(weight.batch_shape) * weight._n_padding()

    def extra_repr(self) -> str:
        """Return the settings that ``repr`` shows."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, rank={self.rank}, levels={self.levels}"
        )


def check_rank_and_levels(rank: int, levels: int, **sizes: int) -> None:
    """Reject a tree that is too deep, or a rank above the smallest leaf, for any of the named `sizes`.

    Raises
    ------
    ValueError
        The message names the parameter, its value and the largest value that works.
    """
    for name, value, least in (("rank", rank, 1), ("levels", levels, 0)):
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}.")
    name, size = min(sizes.items(), key=lambda item: item[1])
    deepest = ClusterTree.max_levels(size)
    if levels > deepest:
        raise ValueError(f"levels={levels} is too deep for {name}={size}: the largest value that works is {deepest}.")
    smallest_leaf = size >> levels
    if levels and rank > smallest_leaf:
        raise ValueError(
            f"rank={rank} exceeds the smallest leaf of {name}={size} split into 2**{levels} leaves: "
            f"the largest value that works with levels={levels} is {smallest_leaf}."
        )
