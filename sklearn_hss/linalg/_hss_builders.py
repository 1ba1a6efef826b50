"""Constructors of HSS matrices: random, from dense matrices, kernels and products, and with known structure."""

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from scipy.linalg import matmul_toeplitz
from scipy.sparse import issparse

from .._warnings import warn_user
from ..exceptions import CompressionWarning
from . import _building, _compression
from ._checks import check_dtype, check_memory, check_rank, check_tolerance, count
from ._cluster_tree import ClusterTree
from ._linear_map import LinearMap


class HSSBuilders(LinearMap):
    """Constructors of :class:`HSSMatrix`, except the one from generators."""

    if TYPE_CHECKING:

        def __init__(self, row_tree, col_tree, D, U, V) -> None: ...

    @staticmethod
    def _check_trees(row_tree, col_tree):
        for name, tree in (("row_tree", row_tree), ("col_tree", col_tree)):
            if not isinstance(tree, ClusterTree):
                raise TypeError(f"{name}={tree!r} must be a ClusterTree, such as ClusterTree(100, levels=3).")

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
    ) -> Self:
        """HSS matrix with Gaussian generators, scaled so that products neither grow nor vanish.

        Parameters
        ----------
        row_tree, col_tree : ClusterTree
            Trees of equal depth.
        rank : int
            Columns of every U and V.
        batch_shape : tuple of int, default=()
            Shape of a batch of matrices.
        dtype, device : torch.dtype and torch.device or str
            Of the generators; float64 and torch's default device if left out.
        generator : torch.Generator, default=None
            Source of randomness; torch's global one if None.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError, TypeError
            If a parameter makes no sense, or the matrix would not fit into memory.
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

    @classmethod
    def from_dense(cls, A, tol: float = 1e-12, rank: int | None = None, levels: int | str = "auto") -> Self:
        """Compress a dense matrix, or a batch of them. The cost is O(n²) times the leaf size.

        Parameters
        ----------
        A : array-like, sparse matrix or Tensor of shape (\\*batch, n_rows, n_columns)
            The matrix; float32 is kept, everything else becomes float64.
        tol : float, default=1e-12
            Singular values of block rows and columns below `tol` times (a lower bound of) the norm are truncated.
        rank : int, default=None
            Maximal rank, regardless of `tol`.
        levels : int or "auto", default="auto"
            Depth of the cluster trees. "auto" gives leaves of at least 16 points.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError, TypeError
            If `A` contains NaN, infinite or complex numbers, or a parameter is invalid.

        Warns
        -----
        sklearn_hss.exceptions.CompressionWarning
            If the result holds more numbers than `A`, unless `rank` is given or `tol` is zero.
        """
        check_tolerance(tol)
        check_rank(rank, 0)
        if issparse(A):
            check_memory(prod(A.shape), torch.float64, f"The dense form of a sparse matrix of shape {A.shape}")
        A = _building.as_tensor(A, "A", 2)
        compressed = cls._compress(A, tol, rank, levels)
        if tol and rank is None and compressed.n_parameters > A.numel():
            warn_user(
                f"The HSSMatrix holds {compressed.n_parameters} numbers, the dense matrix {A.numel()}: off-diagonal "
                f"blocks have ranks up to {compressed.structure[0]}. If rows and columns represent scattered points, "
                "use an ordering in which neighbours are close, as HSSMatrix.from_kernel does; otherwise a larger tol, "
                "or fewer levels, may help.",
                CompressionWarning,
            )
        return compressed

    @classmethod
    def _compress(cls, A, tol, rank, levels):
        """:meth:`from_dense` of a tensor, without checks."""
        row_tree, col_tree = _building.trees(A.shape[-2], A.shape[-1], levels, rank or 0)
        return cls(row_tree, col_tree, *_compression.compress_dense(A, row_tree, col_tree, tol, rank))

    @classmethod
    def from_kernel(
        cls, points, kernel: Callable, tol: float = 1e-8, rank: int | None = None, levels: int | str = "auto"
    ) -> tuple[Self, np.ndarray]:
        """Compress a kernel matrix of scattered points, in an ordering in which neighbours are close.

        The points are bisected recursively across the longest side of their bounding box, as in a k-d tree. The kernel
        is evaluated for all pairs and compressed by :meth:`from_dense`, which requires O(n²) memory.

        Parameters
        ----------
        points : array-like of shape (n,) or (n, d)
            The points.
        kernel : callable
            ``kernel(X, Y)`` returns the matrix, array or tensor, of the kernel between points X (n, d) and Y (n, d),
            as those of scikit-learn do.
        tol, rank : float and int or None
            As in :meth:`from_dense`.
        levels : int or "auto", default="auto"
            Depth of the cluster tree. "auto" is the depth that requires the fewest numbers.

        Returns
        -------
        A : HSSMatrix
            The kernel between ``points[order]``.
        order : ndarray of shape (n,)
            The permutation. The product of the kernel between `points` with x is ``y[order] = A @ x[order]``.

        Raises
        ------
        ValueError
            If `points` or the kernel contain NaN or infinite values, or shapes or parameters are invalid.

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
    ) -> Self:
        """Build a matrix from products with random blocks of vectors, without access to its entries.

        This is a randomised algorithm (Levitt and Martinsson 2024). It requires about leaf size + rank products with
        the matrix and as many with its transpose, plus O(n r²) operations.

        Parameters
        ----------
        apply : callable or scipy.sparse.linalg.LinearOperator
            Function that returns the product of the matrix with a tensor (n_columns, k). A callable that does not
            support tensors receives and returns arrays. An operator, that is any object with `shape`, `matmat` and
            `rmatmat`, requires neither `apply_transposed` nor `shape`.
        apply_transposed : callable, default=None
            The same for the transpose, with a tensor (n_rows, k).
        shape : (n_rows, n_columns), default=None
            Size of the matrix.
        tol : float, default=1e-10
            Relative accuracy that determines the rank.
        rank : int, default=None
            Fixed rank. If None, samples are added until `tol` is met.
        levels : int or "auto", default="auto"
            Depth of the cluster trees.
        dtype, device : torch.dtype and torch.device or str
            Type and device of the vectors; float64 and torch's default device by default.
        generator : torch.Generator, default=None
            Source of randomness; torch's global one if None.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError, TypeError
            If a product has the wrong shape or contains NaN, infinite or complex numbers, or a parameter is invalid.
        """
        check_tolerance(tol)
        check_rank(rank)
        check_dtype(dtype)
        apply, apply_transposed, (n_rows, n_columns) = _building.products_of(apply, apply_transposed, shape)
        row_tree, col_tree = _building.trees(n_rows, n_columns, levels, rank or 0)
        _check_size(row_tree, col_tree, rank or 0, dtype)
        how: dict[str, Any] = {"tol": tol, "rank": rank, "dtype": dtype, "device": device, "generator": generator}
        generators = _building.from_products(apply, apply_transposed, row_tree, col_tree, **how)
        return cls(row_tree, col_tree, *generators)

    @classmethod
    def from_banded(cls, l_and_u, ab=None, levels: int | str = "auto") -> Self:
        """Banded matrix, exactly, of rank ``lower + upper``.

        Parameters
        ----------
        l_and_u : (lower, upper) or sparse matrix of shape (n, n)
            Numbers of non-zero diagonals below and above the main one; or the matrix itself, instead of both this and
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
        ValueError, TypeError
            If the numbers of diagonals do not match, or `ab` contains NaN, infinite or complex numbers.
        """
        if issparse(l_and_u):
            if ab is not None:
                raise ValueError("ab must be None if a sparse matrix is given instead of (lower, upper).")
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
    def from_toeplitz(cls, c, r=None, tol: float = 1e-10, rank: int | None = None, levels: int | str = "auto") -> Self:
        """Toeplitz matrix, compressed by :meth:`from_products` with products by the fast Fourier transform.

        Parameters
        ----------
        c : array-like of shape (n_rows,)
            First column. The matrix has type float32 if this and `r` do.
        r : array-like of shape (n_columns,), default=None
            First row, whose first entry is ignored as in :func:`scipy.linalg.toeplitz`. `c` if None.
        tol, rank, levels : float, int or None, and int or "auto"
            As in :meth:`from_products`.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError, TypeError
            If `c` or `r` contain NaN, infinite or complex numbers, or a parameter is invalid.
        """
        c = _building.as_tensor(c, "c", 0).detach().cpu().ravel()
        r = c if r is None else _building.as_tensor(r, "r", 0).detach().cpu().ravel()
        dtype, shape = torch.promote_types(c.dtype, r.dtype), (len(c), len(r))
        # Products are computed in float64 for either type.
        c, r = c.double().numpy(), torch.cat([c[:1].double(), r[1:].double()]).numpy()

        def product(first_column, first_row):
            return lambda x: matmul_toeplitz((first_column, first_row), np.asarray(x))

        how: dict[str, Any] = {"tol": tol, "rank": rank, "levels": levels, "dtype": dtype}
        return cls.from_products(product(c, r), product(r, c), shape, generator=torch.Generator().manual_seed(0), **how)

    @classmethod
    def from_low_rank(cls, X, Y, levels: int | str = "auto") -> Self:
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
        ValueError, TypeError
            If the shapes of the factors do not match, or they contain NaN, infinite or complex numbers.
        """
        X, Y = _building.as_tensor(X, "X", 2), _building.as_tensor(Y, "Y", 2)
        if X.shape[-1] != Y.shape[-1]:
            raise ValueError(f"X has {X.shape[-1]} columns and Y {Y.shape[-1]}; these numbers must be equal.")
        dtype = torch.promote_types(X.dtype, Y.dtype)
        row_tree, col_tree = _building.trees(X.shape[-2], Y.shape[-2], levels, X.shape[-1])
        _check_size(row_tree, col_tree, X.shape[-1], dtype, torch.broadcast_shapes(X.shape[:-2], Y.shape[:-2]))
        return cls(row_tree, col_tree, *_building.low_rank(X.to(dtype), Y.to(dtype), row_tree, col_tree))

    @classmethod
    def from_diagonal(cls, d, levels: int | str = "auto") -> Self:
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
        ValueError, TypeError
            If `d` contains NaN, infinite or complex numbers, or the matrix would not fit into memory.
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
    ) -> Self:
        """Identity matrix, of rank 0.

        Parameters
        ----------
        n : int
            Size.
        levels : int or "auto", default="auto"
            Depth of the cluster tree.
        dtype, device : torch.dtype and torch.device or str
            Of the generators; float64 and torch's default device if left out.

        Returns
        -------
        HSSMatrix

        Raises
        ------
        ValueError, TypeError
            If a parameter makes no sense, or the matrix would not fit into memory.
        """
        check_dtype(dtype)
        n = count(n, "n", 1)
        tree, _ = _building.trees(n, n, levels)
        _check_size(tree, tree, 0, dtype)
        return cls.from_diagonal(torch.ones(n, dtype=dtype, device=device), tree.levels)


def _check_size(row_tree, col_tree, rank, dtype, batch_shape=()):
    """Reject matrices that do not fit into the memory of this machine."""
    shapes = [shape for level in generator_shapes(row_tree, col_tree, rank) for shape, _ in level]
    owner = f"An HSSMatrix of shape {(*batch_shape, row_tree.n, col_tree.n)} with levels={row_tree.levels}"
    check_memory(prod(batch_shape) * sum(map(prod, shapes)), dtype, owner)


def generator_shapes(
    row_tree: ClusterTree, col_tree: ClusterTree, rank: int
) -> tuple[list[tuple[tuple[int, int, int], int]], ...]:
    """Shapes and fan-ins of the generators D, U, V of an HSS matrix whose bases all have `rank` columns.

    Lists of (shape, fan_in) from the leaves to the root. The fan-in is the number of terms that are summed in a product
    with the block.
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
