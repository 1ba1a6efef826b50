"""The balanced cluster tree that determines the block partition of an HSS matrix."""

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch

from ._checks import count


@dataclass(frozen=True)
class ClusterTree:
    """Balanced binary cluster tree over the indices ``0, ..., n - 1``.

    Node ``i`` of level ``l`` holds the indices from ``i * n // 2**l`` up to, not including, ``(i + 1) * n // 2**l``.
    These ranges are nested, so every node is the union of its two children, and the sizes within a level differ by at
    most one. When ``n`` is ``2**levels`` times an integer, this is the balanced cluster tree of Definition A.2 of the
    Neural-HSS paper.

    Parameters
    ----------
    n : int
        Number of indices, at least 1.
    levels : int
        Depth of the tree: level 0 is the root, level ``levels`` holds the ``2**levels`` leaves. 0 gives a single block.

    Raises
    ------
    ValueError
        If `n` is not an integer of at least 1, `levels` is not an integer of at least 0, or a leaf would be empty.

    Examples
    --------
    >>> from sklearn_hss.linalg import ClusterTree
    >>> tree = ClusterTree(10, levels=2)
    >>> tree.leaf_sizes
    (2, 3, 2, 3)
    >>> tree.offsets(1)
    (0, 5, 10)
    """

    n: int
    levels: int
    _parts: ClassVar[tuple[str, ...]] = ("n", "levels")  # for files

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", count(self.n, "n", 1))
        object.__setattr__(self, "levels", count(self.levels, "levels", 0))
        deepest = self.max_levels(self.n)
        if self.levels > deepest:
            raise ValueError(
                f"levels={self.levels} is too deep for n={self.n}: "
                f"the largest value that leaves no leaf empty is {deepest}."
            )

    @staticmethod
    def max_levels(n: int, leaf_size: int = 1) -> int:
        """Deepest tree over `n` indices whose leaves all hold at least `leaf_size` of them.

        Parameters
        ----------
        n : int
            Number of indices.
        leaf_size : int, default=1
            Smallest admissible size of a leaf.

        Returns
        -------
        int
            The depth, 0 if two leaves would already be too small.
        """
        return max(n // max(leaf_size, 1), 1).bit_length() - 1

    @property
    def n_leaves(self) -> int:
        """Number of leaves, ``2**levels``."""
        return 2**self.levels

    @property
    def leaf_sizes(self) -> tuple[int, ...]:
        """Sizes of the leaves, from left to right."""
        offsets = self.offsets(self.levels)
        return tuple(stop - start for start, stop in itertools.pairwise(offsets))

    @property
    def min_leaf_size(self) -> int:
        """Size of the smallest leaf."""
        return self.n // self.n_leaves

    @property
    def max_leaf_size(self) -> int:
        """Size of the largest leaf, to which stacked leaf generators are padded."""
        return -(-self.n // self.n_leaves)

    @property
    def is_uniform(self) -> bool:
        """Whether all leaves have the same size."""
        return self.n % self.n_leaves == 0

    def offsets(self, level: int) -> tuple[int, ...]:
        """Return the boundaries of the nodes of one level.

        Parameters
        ----------
        level : int
            Level between 0 (root) and ``levels`` (leaves).

        Returns
        -------
        tuple of int
            ``2**level + 1`` increasing numbers from 0 to ``n``.

        Raises
        ------
        ValueError
            If there is no such level.
        """
        if not 0 <= count(level, "level") <= self.levels:
            raise ValueError(f"level={level} must be between 0 and levels={self.levels}.")
        return tuple(i * self.n >> level for i in range(2**level + 1))


def _padding_index(tree, device):
    """Position of each index among the padded leaves, and the index that each padded position holds (n if none)."""
    # Export and compilation create placeholders for tensors, which must not be cached.
    make = _make_padding_index if torch.compiler.is_compiling() else _kept_padding_index
    return make(tree, device)


def _make_padding_index(tree, device):
    slots = np.full((tree.n_leaves, tree.max_leaf_size), tree.n)
    for leaf, (start, size) in enumerate(zip(tree.offsets(tree.levels), tree.leaf_sizes, strict=False)):
        slots[leaf, :size] = np.arange(start, start + size)
    slots = slots.ravel()
    # Cached tensors must not be inference tensors, which could not be used outside of inference mode.
    with torch.inference_mode(False):
        return (
            torch.as_tensor(np.flatnonzero(slots < tree.n), device=device),
            torch.as_tensor(slots, device=device),
        )


_kept_padding_index = lru_cache(maxsize=128)(_make_padding_index)


def split_leaves(x: torch.Tensor, tree: ClusterTree) -> torch.Tensor:
    """Split the rows of `x` (*batch, n, k) into the leaves of `tree`: (*batch, n_leaves, max_leaf_size, k).

    Smaller leaves are padded with zeros; if all have the same size, the result is a view.
    """
    if not tree.is_uniform:
        _, slots = _padding_index(tree, x.device)
        x = torch.cat([x, x.new_zeros(*x.shape[:-2], 1, x.shape[-1])], dim=-2).index_select(-2, slots)
    return x.unflatten(-2, (tree.n_leaves, tree.max_leaf_size))


def join_leaves(x: torch.Tensor, tree: ClusterTree) -> torch.Tensor:
    """Undo :func:`split_leaves`: concatenate the leaves and remove their padding."""
    x = x.flatten(-3, -2)
    if not tree.is_uniform:
        positions, _ = _padding_index(tree, x.device)
        x = x.index_select(-2, positions)
    return x
