"""Sums of Kronecker products of HSS matrices."""

from collections.abc import Iterable, Sequence

from ._building import as_tensor
from ._checks import check_parts, check_rank, check_tolerance
from ._hss_matrix import HSSMatrix
from ._linear_map import LinearMap
from ._modes import multilinear, per_mode


class KroneckerProductSum(LinearMap):
    """Sum of Kronecker products of HSS matrices: the m-dimensional HSS map of eq. (1) of the Neural-HSS paper.

    A field Z is mapped to H(Z) = sum_k Z x_1 W1⁽ᵏ⁾ x_2 ... x_m Wm⁽ᵏ⁾, so that on fields flattened in C order, the
    matrix is sum_k W1⁽ᵏ⁾ ⊗ ... ⊗ Wm⁽ᵏ⁾. Storage is O(outer_rank (n_1 + ... + n_m) rank).

    Parameters
    ----------
    factors : sequence of HSSMatrix
        One per mode, each a batch of `outer_rank` matrices of that mode.

    Attributes
    ----------
    factors : tuple of HSSMatrix
        The same.
    outer_rank : int
        Number of terms.
    rank, levels : tuple of int
        HSS rank and depth of the cluster tree per mode.
    grid_in, grid_out, shape, structure, n_parameters, dtype, device, T
        As for every :class:`LinearMap`.

    Raises
    ------
    ValueError, TypeError
        If the factors are not batches of HSS matrices, or their batch sizes, types or devices differ.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import KroneckerProductSum
    >>> L = torch.diag(torch.full((16,), 2.0)) - torch.diag(torch.ones(15), 1) - torch.diag(torch.ones(15), -1)
    >>> first, second = torch.stack([L, torch.eye(16)]), torch.stack([torch.eye(16), L])
    >>> laplacian = KroneckerProductSum.from_dense([first, second], levels=1)
    >>> laplacian
    KroneckerProductSum(grid_in=(16, 16), grid_out=(16, 16), outer_rank=2, rank=(1, 1), levels=(1, 1), n_parameters=656)
    >>> laplacian.apply(torch.ones(16, 16))[0, 0]
    tensor(2.)
    """

    _parts = ("factors",)

    def __init__(self, factors: Sequence[HSSMatrix]) -> None:
        self.factors = tuple(factors)
        for W in self.factors:
            if not isinstance(W, HSSMatrix):
                raise TypeError(f"factors must be HSS matrices, not of type {type(W).__name__}.")
        batches = [W.batch_shape for W in self.factors]
        if not batches or any(len(batch) != 1 or batch != batches[0] for batch in batches):
            raise ValueError(
                f"factors have the batch shapes {batches}; every mode needs one batch of outer_rank matrices."
            )
        check_parts(self.factors, "The factors of a KroneckerProductSum")
        self.grid_in, self.grid_out = (tuple(W.shape[side] for W in self.factors) for side in (-1, -2))

    @classmethod
    def from_dense(
        cls,
        factors: Iterable,
        tol: float = 1e-13,
        rank: int | Sequence[int] | None = None,
        levels: int | str | Sequence[int | str] = "auto",
    ) -> "KroneckerProductSum":
        """Compress dense factors.

        Parameters
        ----------
        factors : sequence of Tensors or array-likes of shape (outer_rank, rows, columns)
            One per mode.
        tol : float, default=1e-13
            Relative size below which singular values of blocks are truncated.
        rank : int or one per mode, default=None
            Maximal HSS rank, regardless of `tol`.
        levels : int or "auto" or one per mode, default="auto"
            Depth of the cluster trees. "auto" is the depth that requires the fewest numbers, which may be zero.

        Returns
        -------
        KroneckerProductSum
        """
        check_tolerance(tol)
        factors = [as_tensor(W, f"factors[{i}]", 3) for i, W in enumerate(factors)]
        ranks, depths = per_mode(rank, len(factors)), per_mode(levels, len(factors))
        return cls([_compressed(W, tol, *how) for W, *how in zip(factors, ranks, depths, strict=True)])

    @property
    def outer_rank(self) -> int:
        return self.factors[0].batch_shape[0]

    @property
    def rank(self) -> tuple[int, ...]:
        return tuple(W.rank for W in self.factors)

    @property
    def levels(self) -> tuple[int, ...]:
        return tuple(W.levels for W in self.factors)

    @property
    def structure(self):
        return max(self.rank), max(self.levels), self.outer_rank

    def __repr__(self) -> str:
        return (
            f"KroneckerProductSum(grid_in={self.grid_in}, grid_out={self.grid_out}, outer_rank={self.outer_rank}, "
            f"rank={self.rank}, levels={self.levels}, n_parameters={self.n_parameters})"
        )

    def _apply(self, Z):
        # The modes are small, so products with their dense matrices are faster than with their generators.
        dense = [W.to_dense() for W in self.factors]
        result = multilinear(Z, [W[0] for W in dense])
        for k in range(1, self.outer_rank):
            result = result + multilinear(Z, [W[k] for W in dense])
        return result

    def _in_channel_units(self, rows, columns):
        channels = HSSMatrix.from_dense(rows[:, None] * self.factors[0].to_dense() * columns, levels=0)
        return KroneckerProductSum([channels, *self.factors[1:]])

    def _transposed(self):
        return KroneckerProductSum([W.T for W in self.factors])

    def _scaled(self, c):
        return KroneckerProductSum([c * self.factors[0], *self.factors[1:]])

    def truncate(self, tol: float = 1e-12, rank: int | None = None) -> "KroneckerProductSum":
        """Return a sum with factors of smaller HSS rank, each truncated by :meth:`HSSMatrix.truncate`.

        Parameters
        ----------
        tol : float, default=1e-12
            Relative size below which singular values are truncated.
        rank : int, default=None
            Maximal rank.

        Returns
        -------
        KroneckerProductSum
        """
        return KroneckerProductSum([W.truncate(tol, rank) for W in self.factors])


def _compressed(W, tol, rank, levels):
    """Compress a batch of dense matrices; "auto" uses no levels if these do not save any numbers."""
    check_rank(rank, 0)
    A = HSSMatrix._compress(W, tol, rank, levels)
    if levels == "auto" and A.n_parameters >= W.numel():
        return HSSMatrix._compress(W, 0, None, 0)
    return A
