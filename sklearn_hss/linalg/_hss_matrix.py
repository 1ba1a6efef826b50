"""Hierarchically semi-separable matrices, represented by their telescopic generators."""

import math
from collections.abc import Iterable
from math import prod

import numpy as np
import torch
from scipy.linalg import LinAlgWarning

from .._warnings import warn_user
from . import _arithmetic, _building, _compression, _entries, _ulv
from ._checks import check_parts, check_rank, check_tolerance, count
from ._cluster_tree import ClusterTree, join_leaves, split_leaves
from ._hss_builders import HSSBuilders
from ._linear_map import LinearMap
from ._operands import as_given, as_operand, check_operand
from ._product import dense_form, telescopic_product


class HSSMatrix(HSSBuilders):
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
        the trees; smaller leaves are padded, and the values of the padding have no effect. All generators must have the
        same type, float32 or float64.
    U, V : sequences of L tensors
        Column and row bases, of shapes (\\*batch, 2**(L - i), rows_i, r_i) and (\\*batch, 2**(L - i), cols_i, s_i).
        Siblings are merged one level up: ``rows_{i+1} = 2 * r_i`` and ``cols_{i+1} = 2 * s_i``.

    Attributes
    ----------
    row_tree, col_tree, D, U, V
        The same, the generators in tuples.
    shape, batch_shape : tuple of int
        (\\*batch, n_rows, n_columns), and the shape of the batch, which is empty for a single matrix.
    levels : int
        Depth of the cluster trees.
    rank : int
        HSS rank: the largest number of columns of any basis, 0 for a matrix of a single block.
    n_parameters : int
        Number of generator entries, without padding.
    grid_in, grid_out, structure, dtype, device, T
        As for every :class:`LinearMap`; the transpose is that of every matrix of a batch.

    Raises
    ------
    ValueError
        If the trees differ in depth or a generator's shape does not fit.
    TypeError
        If the generators are not of one type, float32 or float64, on one device.

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

    _parts = ("row_tree", "col_tree", "D", "U", "V")

    def __init__(
        self,
        row_tree: ClusterTree,
        col_tree: ClusterTree,
        D: Iterable[torch.Tensor],
        U: Iterable[torch.Tensor],
        V: Iterable[torch.Tensor],
    ) -> None:
        self.row_tree, self.col_tree = row_tree, col_tree
        self.D, self.U, self.V = (tuple(map(_without_inference, generators)) for generators in (D, U, V))
        self._factor: tuple[_ulv.ULVFactor, tuple[int, ...]] | None = None
        self._check_generators()
        self.grid_in, self.grid_out = (col_tree.n,), (row_tree.n,)

    def _like(self, D, U, V, col_tree=None):
        return HSSMatrix(self.row_tree, col_tree or self.col_tree, D, U, V)

    def _check_generators(self):
        self._check_trees(self.row_tree, self.col_tree)
        levels = self.row_tree.levels
        if self.col_tree.levels != levels:
            raise ValueError(
                f"row_tree has {levels} levels and col_tree {self.col_tree.levels}; these numbers must be equal."
            )
        if (len(self.D), len(self.U), len(self.V)) != (levels + 1, levels, levels):
            raise ValueError(
                f"Trees of {levels} levels need {levels + 1} D, {levels} U and {levels} V tensors; "
                f"got {len(self.D)}, {len(self.U)} and {len(self.V)}."
            )
        check_parts((*self.D, *self.U, *self.V), "The generators of an HSSMatrix")
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

    # Shape and type

    @property
    def levels(self) -> int:
        return self.row_tree.levels

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return tuple(self.D[0].shape[:-3])

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.batch_shape, self.row_tree.n, self.col_tree.n)

    @property
    def rank(self) -> int:
        return max((basis.shape[-1] for basis in self.U + self.V), default=0)

    @property
    def structure(self):
        return self.rank, self.levels, None

    @property
    def n_parameters(self) -> int:
        return super().n_parameters - prod(self.batch_shape) * self._n_padding()

    def _n_padding(self):
        rows, columns = (np.array(tree.leaf_sizes) for tree in (self.row_tree, self.col_tree))
        padding = prod(self.D[0].shape[-3:]) - int(rows @ columns)
        if self.levels:
            for tree, basis in ((self.row_tree, self.U[0]), (self.col_tree, self.V[0])):
                padding += (tree.n_leaves * tree.max_leaf_size - tree.n) * basis.shape[-1]
        return padding

    def __repr__(self):
        return (
            f"HSSMatrix(shape={self.shape}, levels={self.levels}, rank={self.rank}, "
            f"n_parameters={self.n_parameters}, dtype={self.dtype})"
        )

    # Products

    def _transposed(self):
        return HSSMatrix(self.col_tree, self.row_tree, [d.mT for d in self.D], self.V, self.U)

    def __matmul__(self, x):
        """Product with a vector (n_columns,), a block of vectors (..., n_columns, k), or another HSSMatrix.

        The cost is O(n r k). Batches broadcast as in :func:`torch.matmul`. The product with a tensor is a tensor, that
        with any other array-like a NumPy array. The product with an HSSMatrix is an exact HSSMatrix of rank
        ``self.rank + x.rank``.
        """
        if isinstance(x, HSSMatrix):
            if self.col_tree != x.row_tree:
                raise ValueError(
                    f"The columns of the first factor, {self.col_tree}, do not match the rows of the second, "
                    f"{x.row_tree}."
                )
            return _arithmetic.multiply(self, self._same_kind(x))
        return super().__matmul__(x)

    def _apply(self, fields):
        if self.batch_shape:
            raise ValueError(f"Fields need one matrix, not a batch of shape {self.batch_shape}; see A @ x for batches.")
        return self._product(fields.reshape(-1, *self.grid_in).mT).mT.reshape(*fields.shape[:-1], *self.grid_out)

    def _product(self, x):
        # The matrices of a batch are additional blocks of the same size, so the whole batch is one sweep.
        batch = torch.broadcast_shapes(self.batch_shape, x.shape[:-2])
        D, U, V = list(self.D), list(self.U), list(self.V)
        if batch:
            D, U, V = (
                [g.expand(*batch, *g.shape[-3:]).reshape(prod(batch) * g.shape[-3], *g.shape[-2:]) for g in generators]
                for generators in (D, U, V)
            )
        blocks = split_leaves(x.expand(*batch, *x.shape[-2:]), self.col_tree)
        y = telescopic_product(D, U, V, blocks.reshape(D[0].shape[0], *blocks.shape[-2:]))
        return join_leaves(y.reshape(*batch, self.row_tree.n_leaves, *y.shape[-2:]), self.row_tree)

    # Arithmetic

    def _same_kind(self, other):
        if (other.dtype, other.device) != (self.dtype, self.device):
            raise TypeError(
                f"An HSSMatrix of {other.dtype} on {other.device} does not fit one of {self.dtype} on {self.device}; "
                "convert one of them with .to()."
            )
        return other

    def __add__(self, other):
        """Sum, exact, of rank ``self.rank + other.rank``; over the same cluster trees."""
        if not isinstance(other, HSSMatrix):
            return NotImplemented
        if (self.row_tree, self.col_tree) != (other.row_tree, other.col_tree):
            raise ValueError(
                f"Matrices over different cluster trees cannot be added: {self.row_tree}, {self.col_tree} and "
                f"{other.row_tree}, {other.col_tree}."
            )
        return _arithmetic.add(self, self._same_kind(other))

    def __sub__(self, other):
        """Difference, exact, of rank ``self.rank + other.rank``."""
        return self + (-other) if isinstance(other, HSSMatrix) else NotImplemented

    def _scaled(self, c):
        c = c.to(self.D[0])[..., None, None, None] if isinstance(c, torch.Tensor) else c
        # A' is multiplied on its way up: scaling all D scales the matrix.
        return self._like([c * d for d in self.D], self.U, self.V)

    def _plus(self, total, coarsen):
        term, A = total.terms[1], self
        if coarsen:
            leaf = 2 * (A.rank + len(term.outputs))
            A = A.coarsen(min(A.levels, ClusterTree.max_levels(min(A.shape[-2:]), leaf)))
        return A + A._like(*_building.low_rank(term.outputs.mT, term.inputs.mT, A.row_tree, A.col_tree))

    def truncate(self, tol: float = 1e-12, rank: int | None = None) -> "HSSMatrix":
        """Truncate the bases to the directions with large singular values, in O(n r²).

        Parameters
        ----------
        tol : float, default=1e-12
            Singular values of block rows and columns below `tol` times (a lower bound of) the norm are truncated; the
            error in the spectral norm is then at most about sqrt(n) times that.
        rank : int, default=None
            Maximal rank, regardless of `tol`.

        Returns
        -------
        HSSMatrix
            Matrix with orthonormal bases. Ranks may differ from level to level.
        """
        check_tolerance(tol)
        check_rank(rank, 0)
        return _compression.truncate(self, tol, rank)

    def coarsen(self, levels: int) -> "HSSMatrix":
        """Represent the same matrix over shallower trees, by merging leaves.

        Parameters
        ----------
        levels : int
            Depth of the new trees, at most the current depth.

        Returns
        -------
        HSSMatrix
        """
        if not 0 <= count(levels, "levels") <= self.levels:
            raise ValueError(f"levels={levels} must be between 0 and the current depth, {self.levels}.")
        return _building.coarsen(self, levels)

    # Factorisation

    def factor(self, *, warn: bool = True) -> "_ulv.ULVFactor":
        """ULV factorisation, computed in O(n r²) at the first call and cached until the generators change.

        Parameters
        ----------
        warn : bool, default=True
            Whether to warn if the matrix is singular to working precision, which the attribute `is_singular` of the
            factor indicates in any case.

        Returns
        -------
        ULVFactor
            Factor with ``solve``, ``solve_transposed``, ``slogdet``, ``condition``, ``is_singular`` and
            ``aslinearoperator``.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the matrix is singular.

        Warns
        -----
        scipy.linalg.LinAlgWarning
            If it is singular to working precision and `warn` is true.
        """
        # Generators that were modified in place, for example by an optimiser, have a new version. Because of other
        # threads, the factor and its versions are read and stored as one object.
        versions = tuple(g._version for g in (*self.D, *self.U, *self.V))
        kept = self._factor
        if kept is None or kept[1] != versions:
            self._factor = kept = _ulv.ULVFactor(self, warn=False), versions
        if warn:
            kept[0]._warn_if_singular()
        return kept[0]

    def _solve(self, b):
        if self.shape[-1] != self.shape[-2] and not self.batch_shape:
            return None
        factor = self.factor(warn=False)
        factor._warn_if_singular()
        generators = (*self.D, *self.U, *self.V)
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in (b, *generators))):
            return factor.solve(b)
        x = _ulv.Solve.apply(self, False, b.unsqueeze(-1) if b.ndim == 1 else b, *generators)
        return x.squeeze(-1) if b.ndim == 1 else x

    def lstsq(self, b, silent=None):
        b, was_array = as_operand(b, self)
        check_operand(b, self, self.shape[-2], "rows")
        square, A = self.shape[-2] == self.shape[-1], self
        if square and silent is not None and np.any(silent):
            # Any nonzero diagonal entry in the zero rows and columns makes the matrix regular.
            silent = torch.as_tensor(silent, device=self.device).to(self.dtype)
            A = self + HSSMatrix.from_diagonal(self.diagonal().abs().max() * silent, levels=self.levels)
        try:
            factor = A.factor(warn=False) if square else None
        except np.linalg.LinAlgError:
            factor = None
        if factor is not None and not factor.is_singular:
            return as_given(factor.solve(b), was_array)
        kind = "singular" if square else "not square"
        warn_user(f"The operator is {kind}: the input fields of smallest norm are returned.", LinAlgWarning)
        x = np.linalg.lstsq(self.to_dense().detach().cpu().numpy(), b.detach().cpu().numpy(), rcond=1e-12)[0]
        return as_given(torch.from_numpy(x).to(b), was_array)

    lstsq.__doc__ = LinearMap.lstsq.__doc__

    def inverse(self) -> "HSSMatrix":
        """Inverse as an HSSMatrix of the same rank, in O(n r²). For linear systems, :meth:`solve` is more accurate.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        numpy.linalg.LinAlgError
            If the matrix is singular.
        """
        with torch.no_grad():
            return self._like(*_ulv.inverse_generators(self))

    def slogdet(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Sign and natural logarithm of the absolute value of the determinant.

        Returns
        -------
        tuple of two Tensors of shape (\\*batch,)
            Sign and logarithm. For a single matrix that is singular, these are zero and minus infinity.
        """
        try:
            return self.factor(warn=False).slogdet()
        except np.linalg.LinAlgError:
            if self.batch_shape or not all(torch.isfinite(g).all() for g in self.D + self.U + self.V):
                raise
            zero = torch.zeros((), dtype=self.dtype, device=self.device)
            return zero, zero - math.inf

    # Entries and norms

    def __getitem__(self, key):
        """Entry ``A[i, j]`` or dense block ``A[rows, columns]`` for integers and slices, without forming the matrix."""
        rows, cols = key if isinstance(key, tuple) and len(key) == 2 else (key, slice(None))
        if (
            rows is Ellipsis
            or cols is Ellipsis
            or not all(isinstance(k, int | np.integer | slice) and not isinstance(k, bool) for k in (rows, cols))
        ):
            raise TypeError("An HSSMatrix takes integers and slices, as in A[3, 10:20]; for lists, see A.block.")
        picked = [
            range(n)[k] if isinstance(k, slice) else [range(n)[k]]
            for k, n in zip((rows, cols), self.shape[-2:], strict=True)
        ]
        block = self.block(*picked)
        block = block if isinstance(cols, slice) else block[..., :, 0]
        return block if isinstance(rows, slice) else block[..., 0, :] if isinstance(cols, slice) else block[..., 0]

    def block(self, rows, columns) -> torch.Tensor:
        """Dense block of given rows and columns, in O((levels + size) r²) per row and column.

        Parameters
        ----------
        rows, columns : sequences of int
            Indices, negative ones counted from the end.

        Returns
        -------
        Tensor of shape (\\*batch, len(rows), len(columns))
        """
        return _entries.block(self, rows, columns)

    def diagonal(self) -> torch.Tensor:
        """Return the main diagonal, in O(n r²).

        Returns
        -------
        Tensor of shape (\\*batch, min(n_rows, n_columns))
        """
        index = torch.arange(min(self.shape[-2:]), device=self.device)
        return _entries.entries(self, index, index)

    def trace(self) -> torch.Tensor:
        """Sum of the main diagonal.

        Returns
        -------
        Tensor of shape (\\*batch,)
        """
        return self.diagonal().sum(-1)

    def norm(self, ord: str | int = "fro") -> torch.Tensor:
        """Norm of the matrix, without forming it densely.

        Parameters
        ----------
        ord : {"fro", 2}, default="fro"
            Frobenius norm, exact and differentiable; or Euclidean (spectral) norm, by Lanczos.

        Returns
        -------
        Tensor of shape (\\*batch,)
        """
        if ord == "fro":
            D, _, _ = _compression.canonical_generators(self)
            return torch.stack([d.square().sum((-3, -2, -1)) for d in D]).sum(0).sqrt()
        if ord == 2:
            return _entries.spectral_norm(self)
        raise ValueError(f"ord={ord!r} must be 'fro' or 2.")

    def _dense(self):
        dense = dense_form(self.D, self.U, self.V)
        # The rows and columns of small leaves still include their padding.
        rows, cols = self.row_tree, self.col_tree
        dense = join_leaves(dense.unflatten(-2, (rows.n_leaves, rows.max_leaf_size)), rows)
        return join_leaves(dense.mT.unflatten(-2, (cols.n_leaves, cols.max_leaf_size)), cols).mT

    def __getstate__(self):
        # The factor is quickly recomputed, and as large as the matrix.
        return {**vars(self), "_factor": None}


def _without_inference(generator):
    """Copy an inference tensor, which supports neither gradients nor versions, to an ordinary tensor."""
    if isinstance(generator, torch.Tensor) and generator.is_inference():
        with torch.inference_mode(False):
            return generator.clone()
    return generator
