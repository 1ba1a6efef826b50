"""Hierarchically semi-separable matrices held by their telescopic generators."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from math import prod

import numpy as np
import torch
from scipy.linalg import LinAlgWarning, matmul_toeplitz
from scipy.sparse import issparse

from .._warnings import warn_user
from . import _arithmetic, _building, _compression, _entries, _ulv
from ._checks import check_dtype, check_memory, check_parts, check_rank, check_tolerance, count
from ._cluster_tree import ClusterTree, join_leaves, split_leaves
from ._linear_map import LinearMap
from ._operands import as_given, as_operand, check_operand
from ._product import dense_form, telescopic_product


class HSSMatrix(LinearMap):
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
        the trees; smaller leaves are padded, and what stands in the padding has no effect. All generators must be of
        one type, float32 or float64.
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
    structure : tuple
        (rank, levels, None).
    grid_in, grid_out : tuple of int
        (n_columns,) and (n_rows,).
    dtype, device
        Those of the generators.
    T : HSSMatrix
        Transpose, of every matrix of a batch. Shares its generators with this one.

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
        self.grid_in, self.grid_out = (col_tree.n,), (row_tree.n,)
        self._factor: tuple[_ulv.ULVFactor, tuple[int, ...]] | None = None
        self._check_generators()

    def _like(self, D, U, V, col_tree=None):
        return HSSMatrix(self.row_tree, col_tree or self.col_tree, D, U, V)

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

        Raises
        ------
        ValueError
            If `rank` is no integer of at least 0, or the matrix would not fit into memory.
        TypeError
            If `dtype` is neither float32 nor float64.
        """
        cls._check_trees(row_tree, col_tree)
        check_dtype(dtype)
        batch_shape = tuple(count(size, "batch_shape", 0) for size in batch_shape)
        _check_size(row_tree, col_tree, count(rank, "rank", 0), dtype, batch_shape)
        D, U, V = (
            [
                torch.randn(*batch_shape, *shape, dtype=dtype, device=device, generator=generator) / fan_in**0.5
                for shape, fan_in in shapes
            ]
            for shapes in generator_shapes(row_tree, col_tree, rank)
        )
        return cls(row_tree, col_tree, D, U, V)

    # Building

    @classmethod
    def from_dense(cls, A, tol: float = 1e-12, rank: int | None = None, levels: int | str = "auto") -> "HSSMatrix":
        """Compress a dense matrix, or a batch of them. Costs O(n²) times the leaf size.

        Parameters
        ----------
        A : array-like, sparse matrix or Tensor of shape (\\*batch, n_rows, n_columns)
            The matrix; float32 is kept, everything else becomes float64.
        tol : float, default=1e-12
            Singular values of block rows and columns below `tol` times (a lower bound of) the norm are dropped.
        rank : int, default=None
            Largest rank to keep, whatever `tol` says.
        levels : int or "auto", default="auto"
            Depth of the cluster trees. "auto" makes leaves of at least 16 points.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError
            If `A` holds NaN or infinite values, or a parameter makes no sense.
        TypeError
            If `A` is complex.

        Warns
        -----
        UserWarning
            If the result holds more numbers than `A`, where neither `rank` nor ``tol=0`` asks for what it holds.
        """
        check_tolerance(tol)
        check_rank(rank, 0)
        if issparse(A):
            check_memory(prod(A.shape), torch.float64, f"The dense form of a sparse matrix of shape {A.shape}")
        A = _building.as_tensor(A, "A", 2)
        compressed = cls._compress(A, tol, rank, levels)
        if tol and rank is None and compressed.n_parameters > A.numel():
            warnings.warn(
                f"The HSSMatrix holds {compressed.n_parameters} numbers, the dense matrix {A.numel()}: off-diagonal "
                f"blocks have ranks up to {compressed.rank}. If rows and columns stand for scattered points, an order "
                "in which neighbours are close helps, as HSSMatrix.from_kernel finds it; else a larger tol, or fewer "
                "levels.",
                UserWarning,
                stacklevel=2,
            )
        return compressed

    @classmethod
    def _compress(cls, A, tol, rank, levels):
        """:meth:`from_dense` of a tensor, for callers that know what they do."""
        row_tree, col_tree = _building.trees(A.shape[-2], A.shape[-1], levels, rank or 0)
        return cls(row_tree, col_tree, *_compression.compress_dense(A, row_tree, col_tree, tol, rank))

    @classmethod
    def from_kernel(
        cls, points, kernel: Callable, tol: float = 1e-8, rank: int | None = None, levels: int | str = "auto"
    ) -> tuple["HSSMatrix", np.ndarray]:
        """Compress the matrix of a kernel between scattered points, in an order in which neighbours are close.

        Points are cut in two across the longest side of what they fill, again and again, as in a k-d tree. The kernel
        is evaluated for all pairs and compressed by :meth:`from_dense`, so this costs O(n²) numbers.

        Parameters
        ----------
        points : array-like of shape (n,) or (n, d)
            The points.
        kernel : callable
            ``kernel(X, Y)`` returns the matrix, array or tensor, of the kernel between points X (n, d) and Y (n, d),
            as those of scikit-learn do.
        tol : float, default=1e-8
            As in :meth:`from_dense`.
        rank : int, default=None
            Largest rank to keep, whatever `tol` says.
        levels : int or "auto", default="auto"
            Depth of the cluster tree. "auto" is the one that needs the fewest numbers.

        Returns
        -------
        A : HSSMatrix
            The kernel between ``points[order]``.
        order : ndarray of shape (n,)
            The permutation. The product of the kernel between `points` with x is ``y[order] = A @ x[order]``.

        Raises
        ------
        ValueError
            If `points` or the kernel hold NaN or infinite values, or shapes or parameters do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_hss.linalg import HSSMatrix
        >>> points = np.random.RandomState(0).uniform(size=(500, 2))
        >>> def kernel(X, Y):
        ...     return np.exp(-np.linalg.norm(X[:, None] - Y, axis=-1) ** 2)
        >>> A, order = HSSMatrix.from_kernel(points, kernel)
        >>> x, y = np.ones(500), np.empty(500)
        >>> y[order] = A @ x[order]
        >>> np.allclose(y, kernel(points, points) @ x)
        True
        """
        check_tolerance(tol)
        check_rank(rank, 0)
        points = _building.as_tensor(points, "points", 1).detach().cpu().numpy()
        points = points[:, None] if points.ndim == 1 else points
        if points.ndim != 2 or not points.shape[1]:
            raise ValueError(f"points has shape {points.shape}; it must be (n,) or (n, d).")
        n = len(points)
        check_memory(n**2, torch.float64, f"The kernel between {n} points")
        tree, _ = _building.trees(n, n, levels, rank or 0)
        order = _building.bisect(points, tree)
        dense = _building.as_tensor(kernel(points[order], points[order]), "kernel(X, X)", 2)
        if dense.shape != (n, n):
            raise ValueError(f"kernel(X, X) has shape {tuple(dense.shape)}; for {n} points, it must be {(n, n)}.")
        A = cls._compress(dense, tol, rank, levels)
        return _building.as_shallow_as_saves(A) if levels == "auto" else A, order

    @classmethod
    def from_products(
        cls,
        apply,
        apply_transposed: Callable | None = None,
        shape: tuple[int, int] | None = None,
        *,
        tol: float = 1e-10,
        rank: int | None = None,
        levels: int | str = "auto",
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> "HSSMatrix":
        """Build a matrix from products with random blocks of vectors; its entries are never asked for.

        Randomised (Levitt and Martinsson 2024). Takes about leaf size + rank products of either kind, besides O(n r²).

        Parameters
        ----------
        apply : callable or scipy.sparse.linalg.LinearOperator
            Takes a tensor (n_columns, k) and returns the product of the matrix with it. A callable that knows no
            tensors gets and returns arrays. An operator, anything with `shape`, `matmat` and `rmatmat`, needs neither
            `apply_transposed` nor `shape`.
        apply_transposed : callable, default=None
            The same for the transpose: takes (n_rows, k).
        shape : (n_rows, n_columns), default=None
            Size of the matrix.
        tol : float, default=1e-10
            Relative accuracy by which the rank is chosen.
        rank : int, default=None
            Fixed rank. None samples until `tol` is met.
        levels : int or "auto", default="auto"
            Depth of the cluster trees.
        dtype : torch.dtype, default=torch.float64
            Type of the vectors.
        device : torch.device or str, default=None
            Where the vectors live.
        generator : torch.Generator, default=None
            Source of randomness; torch's global one if None.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError
            If a product has the wrong shape or holds NaN or infinite values, or a parameter makes no sense.
        TypeError
            If a product is complex, or `dtype` neither float32 nor float64.
        """
        check_tolerance(tol)
        check_rank(rank)
        check_dtype(dtype)
        apply, apply_transposed, (n_rows, n_columns) = _building.products_of(apply, apply_transposed, shape)
        row_tree, col_tree = _building.trees(n_rows, n_columns, levels, rank or 0)
        _check_size(row_tree, col_tree, rank or 0, dtype)
        return cls(
            row_tree,
            col_tree,
            *_building.from_products(
                apply,
                apply_transposed,
                row_tree,
                col_tree,
                tol=tol,
                rank=rank,
                dtype=dtype,
                device=device,
                generator=generator,
            ),
        )

    @classmethod
    def from_banded(cls, l_and_u, ab=None, levels: int | str = "auto") -> "HSSMatrix":
        """Banded matrix, exactly, of rank ``lower + upper``.

        Parameters
        ----------
        l_and_u : (lower, upper) or sparse matrix of shape (n, n)
            Numbers of non-zero diagonals below and above the main one. Or the matrix itself, in place of both this and
            `ab`.
        ab : array-like or Tensor of shape (\\*batch, lower + upper + 1, n), default=None
            The diagonals, as :func:`scipy.linalg.solve_banded` takes them: ``ab[upper + i - j, j] = A[i, j]``.
        levels : int or "auto", default="auto"
            Depth of the cluster tree.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError
            If the numbers of diagonals do not fit, or `ab` holds NaN or infinite values.
        TypeError
            If `ab` is complex.
        """
        if issparse(l_and_u):
            if ab is not None:
                raise ValueError("ab must be left out where a sparse matrix is given in place of (lower, upper).")
            lower, upper, ab = _building.diagonals_of(l_and_u)
        else:
            try:
                lower, upper = l_and_u
            except (TypeError, ValueError):
                raise ValueError("l_and_u must be a pair of integers (lower, upper), or a sparse matrix.") from None
            lower, upper = count(lower, "lower"), count(upper, "upper")
            if ab is None:
                raise ValueError(f"ab is missing: l_and_u={l_and_u} needs {lower + upper + 1} diagonals.")
        ab = _building.as_tensor(ab, "ab", 2)
        if lower < 0 or upper < 0 or ab.shape[-2] != lower + upper + 1:
            raise ValueError(
                f"ab has shape {tuple(ab.shape)}, but l_and_u={l_and_u} needs {lower + upper + 1} diagonals."
            )
        n = ab.shape[-1]
        tree, _ = _building.trees(n, n, levels, lower + upper)
        _check_size(tree, tree, lower + upper, ab.dtype, ab.shape[:-2])
        return cls(tree, tree, *_building.banded(lower, upper, ab, tree))

    @classmethod
    def from_toeplitz(
        cls, c, r=None, tol: float = 1e-10, rank: int | None = None, levels: int | str = "auto"
    ) -> "HSSMatrix":
        """Toeplitz matrix, compressed by :meth:`from_products` with products by the fast Fourier transform.

        Parameters
        ----------
        c : array-like of shape (n_rows,)
            First column. The matrix is of float32 if this and `r` are.
        r : array-like of shape (n_columns,), default=None
            First row, whose first entry is ignored as in :func:`scipy.linalg.toeplitz`. `c` if None.
        tol : float, default=1e-10
            Relative accuracy by which the rank is chosen.
        rank : int, default=None
            Fixed rank.
        levels : int or "auto", default="auto"
            Depth of the cluster trees.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError
            If `c` or `r` hold NaN or infinite values, or a parameter makes no sense.
        TypeError
            If they are complex.
        """
        c = _building.as_tensor(c, "c", 0).detach().cpu().ravel()
        r = c if r is None else _building.as_tensor(r, "r", 0).detach().cpu().ravel()
        dtype = torch.promote_types(c.dtype, r.dtype)
        # Products in float64, whatever the type.
        c, r = c.double().numpy(), torch.cat([c[:1].double(), r[1:].double()]).numpy()

        def product(first_column, first_row):
            return lambda x: matmul_toeplitz((first_column, first_row), np.asarray(x))

        generator = torch.Generator().manual_seed(0)
        return cls.from_products(
            product(c, r),
            product(r, c),
            (len(c), len(r)),
            tol=tol,
            rank=rank,
            levels=levels,
            dtype=dtype,
            generator=generator,
        )

    @classmethod
    def from_low_rank(cls, X, Y, levels: int | str = "auto") -> "HSSMatrix":
        """Matrix X Yᵀ, exactly, of the rank of the factors.

        Parameters
        ----------
        X, Y : array-like or Tensor of shapes (\\*batch, n_rows, k) and (\\*batch, n_columns, k)
            The factors.
        levels : int or "auto", default="auto"
            Depth of the cluster trees.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError
            If the factors do not fit, or hold NaN or infinite values.
        TypeError
            If they are complex.
        """
        X, Y = _building.as_tensor(X, "X", 2), _building.as_tensor(Y, "Y", 2)
        if X.shape[-1] != Y.shape[-1]:
            raise ValueError(f"X has {X.shape[-1]} columns and Y {Y.shape[-1]}; both must have the same number.")
        dtype = torch.promote_types(X.dtype, Y.dtype)
        row_tree, col_tree = _building.trees(X.shape[-2], Y.shape[-2], levels, X.shape[-1])
        _check_size(row_tree, col_tree, X.shape[-1], dtype, torch.broadcast_shapes(X.shape[:-2], Y.shape[:-2]))
        return cls(row_tree, col_tree, *_building.low_rank(X.to(dtype), Y.to(dtype), row_tree, col_tree))

    @classmethod
    def from_diagonal(cls, d, levels: int | str = "auto") -> "HSSMatrix":
        """Diagonal matrix, of rank 0.

        Parameters
        ----------
        d : array-like or Tensor of shape (\\*batch, n)
            The diagonal.
        levels : int or "auto", default="auto"
            Depth of the cluster tree.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError
            If `d` holds NaN or infinite values, or the matrix would not fit into memory.
        TypeError
            If `d` is complex.
        """
        d = _building.as_tensor(d, "d", 1)
        tree, _ = _building.trees(d.shape[-1], d.shape[-1], levels)
        _check_size(tree, tree, 0, d.dtype, d.shape[:-1])
        return cls(tree, tree, *_building.diagonal(d, tree))

    @classmethod
    def identity(
        cls,
        n: int,
        levels: int | str = "auto",
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> "HSSMatrix":
        """Identity matrix, of rank 0.

        Parameters
        ----------
        n : int
            Size.
        levels : int or "auto", default="auto"
            Depth of the cluster tree.
        dtype : torch.dtype, default=torch.float64
            Type of the generators.
        device : torch.device or str, default=None
            Where the generators live.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError
            If `n` is no integer of at least 1, or the matrix would not fit into memory.
        TypeError
            If `dtype` is neither float32 nor float64.
        """
        check_dtype(dtype)
        n = count(n, "n", 1)
        tree, _ = _building.trees(n, n, levels)
        _check_size(tree, tree, 0, dtype)
        return cls.from_diagonal(torch.ones(n, dtype=dtype, device=device), tree.levels)

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
        """Product with a vector (n_columns,), a block of vectors (..., n_columns, k), or a further HSSMatrix.

        Costs O(n r k). Batches broadcast as in :func:`torch.matmul`. A tensor in gives a tensor back, any other
        array-like a NumPy array. The product with an HSSMatrix is one again, exact, of rank ``self.rank + x.rank``.
        """
        if isinstance(x, HSSMatrix):
            if self.col_tree != x.row_tree:
                raise ValueError(
                    f"The columns of the first factor, {self.col_tree}, are not the rows of the second, {x.row_tree}."
                )
            return _arithmetic.multiply(self, self._same_kind(x))
        return super().__matmul__(x)

    def _apply(self, fields):
        if self.batch_shape:
            raise ValueError(f"Fields need one matrix, not a batch of shape {self.batch_shape}; see A @ x for batches.")
        return self._product(fields.reshape(-1, *self.grid_in).mT).mT.reshape(*fields.shape[:-1], *self.grid_out)

    def _product(self, x):
        # Matrices of a batch are more blocks of the same size, so the whole batch is one sweep.
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
        """Matrix of smaller ranks, by dropping directions whose singular values are small. In O(n r²).

        Parameters
        ----------
        tol : float, default=1e-12
            Singular values of block rows and columns below `tol` times (a lower bound of) the norm are dropped; the
            error in the Euclidean norm is then about sqrt(n) times that at most.
        rank : int, default=None
            Largest rank to keep, whatever `tol` says.

        Returns
        -------
        HSSMatrix
            With orthonormal bases. Ranks may differ from level to level.
        """
        check_tolerance(tol)
        check_rank(rank, 0)
        return _compression.truncate(self, tol, rank)

    def coarsen(self, levels: int) -> "HSSMatrix":
        """Equal matrix over a shallower tree: leaves are joined, their blocks multiplied out.

        Parameters
        ----------
        levels : int
            Depth of the new trees, at most the present one.

        Returns
        -------
        HSSMatrix
        """
        if not 0 <= count(levels, "levels") <= self.levels:
            raise ValueError(f"levels={levels} must be between 0 and the present {self.levels}.")
        return _building.coarsen(self, levels)

    # Factorisation

    def factor(self, *, warn: bool = True) -> "_ulv.ULVFactor":
        """ULV factorisation, made in O(n r²) at the first call and kept until generators change.

        Parameters
        ----------
        warn : bool, default=True
            Whether to warn of a matrix that is singular to working precision; the attribute `is_singular` of the factor
            tells in any case.

        Returns
        -------
        ULVFactor
            With ``solve``, ``solve_transposed``, ``slogdet``, ``condition``, ``is_singular`` and ``aslinearoperator``.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the matrix is singular.

        Warns
        -----
        scipy.linalg.LinAlgWarning
            If it is singular to working precision and `warn` is true.
        """
        # Generators that were changed in place, by an optimiser perhaps, have a new version. Other threads may come in
        # between, so the factor and its versions are read, and kept, as one.
        versions = tuple(g._version for g in (*self.D, *self.U, *self.V))
        kept = self._factor
        if kept is None or kept[1] != versions:
            self._factor = kept = _ulv.ULVFactor(self, warn=False), versions
        factor = kept[0]
        if warn:
            factor._warn_if_singular()
        return factor

    def solve(self, b):
        """Solve A x = b with the ULV factor that is kept, in O(n r) per right-hand side.

        Parameters
        ----------
        b : Tensor or array-like of shape (n,) or (..., n, k)
            Right-hand sides; batches broadcast.

        Returns
        -------
        Tensor or ndarray of the shape of `b`
            A tensor if `b` is one. Differentiable any number of times in `b` and in the generators.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the matrix is singular.

        Warns
        -----
        scipy.linalg.LinAlgWarning
            If it is singular to working precision.
        """
        _ulv.check_square(self)
        b, was_array = as_operand(b, self)
        check_operand(b, self, self.shape[-1])
        factor = self.factor(warn=False)
        factor._warn_if_singular()
        generators = (*self.D, *self.U, *self.V)
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in (b, *generators))):
            return as_given(factor.solve(b), was_array)
        columns = b.unsqueeze(-1) if b.ndim == 1 else b
        x = _ulv.Solve.apply(self, False, columns, *generators)
        return as_given(x.squeeze(-1) if b.ndim == 1 else x, was_array)

    def lstsq(self, b, silent=None):
        b, was_array = as_operand(b, self)
        check_operand(b, self, self.shape[-2], "rows")
        square, A = self.shape[-2] == self.shape[-1], self
        if square and silent is not None and np.any(silent):
            # Any number on the diagonal of rows and columns that are zero makes the matrix regular.
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
        """Inverse as an HSSMatrix of the same rank, in O(n r²). To solve systems, :meth:`solve` is more accurate.

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
        sign : Tensor of shape (\\*batch,)
            1, -1 or 0.
        logabsdet : Tensor of shape (\\*batch,)
            The logarithm, minus infinity where the matrix is singular and not one of a batch.
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
        """Entry ``A[i, j]`` or dense block ``A[rows, columns]`` for integers and slices, without the whole matrix."""
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
        if not isinstance(cols, slice):
            block = block[..., 0]
        return block if isinstance(rows, slice) else block[..., 0] if not isinstance(cols, slice) else block[..., 0, :]

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
        """Norm of the matrix, without its dense form.

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

    def to_dense(self) -> torch.Tensor:
        """All entries.

        Returns
        -------
        Tensor of shape (\\*batch, n_rows, n_columns)
            O(n²) numbers.
        """
        check_memory(prod(self.shape), self.dtype, f"The dense form of an HSSMatrix of shape {self.shape}")
        dense = dense_form(self.D, self.U, self.V)
        # Now the rows and columns of small leaves still carry their padding.
        rows, cols = self.row_tree, self.col_tree
        dense = join_leaves(dense.unflatten(-2, (rows.n_leaves, rows.max_leaf_size)), rows)
        return join_leaves(dense.mT.unflatten(-2, (cols.n_leaves, cols.max_leaf_size)), cols).mT

    def __getstate__(self):
        # The factor is quickly made again, and as large as the matrix.
        return {**vars(self), "_factor": None}


def _without_inference(generator):
    """A generator that can be used anywhere: gradients need no part of inference tensors, which know no versions."""
    if isinstance(generator, torch.Tensor) and generator.is_inference():
        with torch.inference_mode(False):
            return generator.clone()
    return generator


def _check_size(row_tree, col_tree, rank, dtype, batch_shape=()):
    """Refuse matrices that this machine cannot hold."""
    shapes = [shape for level in generator_shapes(row_tree, col_tree, rank) for shape, _ in level]
    owner = f"An HSSMatrix of shape {(*batch_shape, row_tree.n, col_tree.n)} with levels={row_tree.levels}"
    check_memory(prod(batch_shape) * sum(map(prod, shapes)), dtype, owner)


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
