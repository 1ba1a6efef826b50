"""Banded matrices, fitted row by row: the inverse of the map (form "inverse") or the map itself.

The inverse of a one-dimensional differential operator is local: f at a point depends on u at the nearest points alone.
A row of L with half-bandwidth w has 2 w + 1 unknowns, so as many samples determine it, whatever their forcings. Values
of a smooth u at neighbouring points are nearly equal, hence the unknowns are coefficients of differences of order 0 to
2 w, which rounding hurts far less.

Where the samples leave a combination of coefficients open (near a boundary, say, u is nearly proportional to its
slope), rounding would decide it. So each row is drawn, as weakly as its own errors suggest, towards coefficients that
fit the rows around it together.
"""

from dataclasses import dataclass
from math import comb
from typing import ClassVar

import torch
from scipy.linalg import solve_banded

from ...linalg import ClusterTree, HSSMatrix
from ...linalg._blocks import leaf_mask
from ...linalg._cluster_tree import split_leaves
from .._form import growing
from .._least_squares import difference
from .._samples import NEGLIGIBLE
from ._matrix import MatrixForm, on_interval, square_only

WIDEST = 8
# Rows that are fitted together to learn what coefficients are like in their neighbourhood.
_NEIGHBOURHOOD = 128
# Mean square of their residuals, in units of that of single rows, up to which their coefficients count as equal.
_AGREEMENT = 4.0


@dataclass(frozen=True)
class BandForm(MatrixForm):
    """Base class of the forms with rows of w neighbours on either side."""

    w: int = 1

    @property
    def half_bandwidth(self):
        return self.w

    @property
    def min_samples(self):
        return 2 * self.w + 1


@dataclass(frozen=True)
class Banded(BandForm):
    """In one dimension, a banded matrix: the map itself, such as a differential operator."""

    solver: ClassVar[str] = "banded"
    effort: ClassVar[int] = 1
    floor: ClassVar[float] = 1e-10

    @classmethod
    def path(cls, samples, options):
        """Growing bandwidths. Samples that depend on others determine no more unknowns of a row."""
        n = on_interval(samples, options)
        square_only(samples)
        widest = min(n - 1, WIDEST)
        widths = list(range(min(1, widest), widest + 1))
        if samples.n_samples > 2:
            widths = [w for w in widths if 2 * w + 1 <= samples.n_independent]
        yield from growing((cls(options, w) for w in widths), enough=cls.floor)

    def fit(self, samples, start=None):
        X, Y = samples.with_constant().columns
        return HSSMatrix.from_banded((self.w,) * 2, self.part(fit_rows(Y, X, self.w)[0]), self.options.levels)

    def part(self, ab):
        """Diagonals of the symmetric part, if that is wanted."""
        return symmetric_part(ab) if self.options.symmetric is True else ab

    def __str__(self):
        return f"banded, {2 * self.w + 1} points"


@dataclass(frozen=True)
class BandedInverse(Banded):
    """In one dimension, the inverse of a banded matrix, which is right for differential equations and needs 2 w + 1
    samples for w neighbours on either side.
    """

    kind: ClassVar[str] = "inverse"
    amplifies: ClassVar[bool] = True

    def fit(self, samples, start=None):
        F, U = samples.columns
        ab, pinned = fit_rows(F, U, self.w, samples.noise)
        return BandedSolve(self.part(ab), pinned)

    def as_matrix(self, operator):
        """By products with the inverse, which Gaussian elimination gives more accurately than the ULV factorisation."""
        n, generator = len(operator.pinned), torch.Generator().manual_seed(0)
        rank = max(2 * self.w, 1)
        products = operator.solve, BandedSolve(transposed(operator.ab), operator.pinned).solve
        levels = self.options.levels
        A = HSSMatrix.from_products(*products, (n, n), rank=rank, levels=levels, generator=generator)
        mask = split_leaves((~operator.pinned).to(A.dtype)[:, None], A.row_tree)
        U, V = ([mask * bases[0], *bases[1:]] if bases else [] for bases in (A.U, A.V))
        return HSSMatrix(A.row_tree, A.col_tree, [mask * A.D[0] * mask.mT, *A.D[1:]], U, V)

    def __str__(self):
        return f"banded inverse, {2 * self.w + 1} points"


@dataclass(frozen=True)
class BandedSolve:
    """Solution of L u = f with a banded matrix L, zero at points where u is pinned.

    Attributes
    ----------
    ab : Tensor of shape (2 w + 1, n)
        Diagonals of L as :func:`scipy.linalg.solve_banded` takes them.
    pinned : Tensor of bool, of shape (n,)
    """

    ab: torch.Tensor
    pinned: torch.Tensor

    def solve(self, columns):
        """L⁻¹ times columns."""
        w = len(self.ab) // 2
        if w == 0:  # old versions of SciPy fail for a single point
            return columns / self.ab[0][:, None]
        return torch.from_numpy(solve_banded((w, w), self.ab.numpy(), columns.numpy(), check_finite=False))

    def apply(self, fields):
        """Solutions for fields (n_samples, n)."""
        return torch.where(self.pinned, 0, self.solve(torch.where(self.pinned, 0, fields).mT).mT)


def transposed(ab):
    """Diagonals of the transpose of a banded matrix."""
    w = len(ab) // 2
    return torch.stack([torch.roll(ab[w - d], -d) for d in range(-w, w + 1)])


def symmetric_part(ab):
    """Diagonals of the symmetric part of a banded matrix; corners that hold nothing may hold anything."""
    return (ab + transposed(ab)) / 2


def fit_rows(F, U, w, noise=None):
    """Fit L with L u = f by regularised least squares, one row at a time, in O(n w² n_samples).

    F and U hold the samples in columns, `noise` is the relative error of U. Returns the diagonals (2 w + 1, n), as
    :func:`scipy.linalg.solve_banded` takes them, and a mask of the points at the ends where u is zero, whatever f is.
    """
    n, n_samples = U.shape
    dead, silent = (M.abs().amax(1) <= NEGLIGIBLE * M.abs().max() for M in (U, F))
    # Without forcing, values that are small are zero up to noise.
    sizes = U.square().mean(1).sqrt()
    alive = torch.nonzero(~(dead | silent & (sizes < 0.1 * U.square().mean().sqrt()))).squeeze(-1)
    if not len(alive):
        everything = torch.ones(n, dtype=torch.bool)
        return banded_identity(U, w), everything
    # Where u vanishes at an end of the domain, it does so whatever f is; the equations are those of the rest.
    first, last = int(alive[0]), int(alive[-1]) + 1
    F, U, borrowed = F[first:last], U[first:last], (dead | silent)[first:last]

    columns, start, room = difference_columns(U, w)  # (m, n_samples, 2 w + 1)
    typical = columns.square().mean((0, 1)).sqrt()
    typical, size = torch.where(typical > 0, typical, 1), F.square().mean().sqrt()
    C, f = columns / typical, (F / size).unsqueeze(-1)
    # Errors of the columns, and those that they make in the equations: N e² acts as a ridge, being what the errors add
    # to |C c|² on average.
    spread = torch.tensor([comb(2 * k, k) for k in range(2 * w + 1)], dtype=U.dtype).sqrt()
    noise = torch.finfo(U.dtype).eps if noise is None else noise
    error = noise * U.square().mean(1).sqrt()[:, None] * spread / typical
    R = torch.linalg.qr(torch.cat([C, f], dim=-1), mode="r")[1]
    ridge = n_samples * error**2
    c = ridge_solution(R, ridge, torch.zeros_like(error), room)
    interior = room.all(-1) & ~borrowed
    if interior.any():
        misfit = (f - C @ c.unsqueeze(-1)).square().mean((-2, -1))
        equation_error = torch.maximum(misfit, (error * c).square().sum(-1))
        prior, agree = neighbourhood_solution(R, equation_error, interior, n_samples)
        # Rows that fit their neighbourhood as well as themselves are taken to be equal to it.
        weight = torch.where(agree, 1 / torch.finfo(U.dtype).eps, equation_error)
        c = ridge_solution(R, ridge + torch.where(interior, weight, 0).unsqueeze(-1), prior, room)
    coefficients = borrow(c * size / typical, borrowed, columns, F, typical)

    # From differences to values.
    ab = banded_identity(coefficients.new_zeros(n), w)
    ab[:, first:last] = 0
    rows = torch.arange(first, last)
    for k in range(2 * w + 1):
        inside = room[:, k]
        for i, coefficient in enumerate(difference(k).tolist()):
            column = (first + start[:, k] + i)[inside]
            value = coefficients[inside, k] * coefficient
            ab.index_put_((w + rows[inside] - column, column), value, accumulate=True)
    # Of the size of the others, so that the matrix is no worse conditioned than need be.
    ab[w, :first] = ab[w, last:] = ab[w, first:last].abs().median()
    pinned = torch.ones(n, dtype=torch.bool)
    pinned[first:last] = False
    return ab, pinned


def banded_identity(x, w):
    """Identity matrix with 2 w + 1 diagonals."""
    ab = torch.zeros(2 * w + 1, len(x), dtype=x.dtype)
    ab[w] = 1
    return ab


def difference_columns(U, w):
    """Differences of u of order 0 to 2 w around each point, as far as there is room for them.

    Returns them, (n, n_samples, 2 w + 1), the first point of each, and whether it lies within w points and the domain.
    """
    n = len(U)
    j = torch.arange(n)[:, None]
    k = torch.arange(2 * w + 1)
    first, last = (j - w).clamp_min(0), (j + w).clamp_max(n - 1)
    start, room = torch.maximum(torch.minimum(j - k // 2, last - k), first), k <= last - first
    columns, difference = [], U
    for order in range(2 * w + 1):
        if len(difference):
            columns.append(difference[start[:, order].clamp_max(len(difference) - 1)] * room[:, order, None])
        else:
            columns.append(torch.zeros_like(U))
        difference = difference.diff(dim=0)
    return torch.stack(columns, dim=-1), start, room


def ridge_solution(R, ridge, prior, room):
    """Minimise |R [c, -1]|² + sum ridge (c - prior)² for every row; coefficients without room are zero."""
    weight = torch.where(room, (ridge + torch.finfo(R.dtype).tiny).sqrt(), 1)
    rows = torch.cat([torch.diag_embed(weight), (weight * prior * room).unsqueeze(-1)], dim=-1)
    T = torch.linalg.qr(torch.cat([R, rows], dim=-2), mode="r")[1]
    return torch.linalg.solve_triangular(T[:, :-1, :-1], T[:, :-1, -1:], upper=True).squeeze(-1)


def neighbourhood_solution(R, equation_error, interior, n_samples):
    """Coefficients that fit the interior rows of a neighbourhood together, each weighted by its error.

    Returns
    -------
    c : Tensor of shape (n, 2 w + 1)
    agree : Tensor of bool, of shape (n,)
        Whether they fit a neighbourhood as well as coefficients of every row's own do.
    """
    m = len(R)
    blocks = ClusterTree(m, ClusterTree.max_levels(m, _NEIGHBOURHOOD))
    weight = interior / (equation_error + torch.finfo(R.dtype).tiny).sqrt()
    weighted = R * weight[:, None, None]
    stacked = split_leaves(weighted.flatten(1), blocks)
    T = torch.linalg.qr(stacked.unflatten(-1, R.shape[1:]).flatten(1, 2), mode="r")[1]
    ridge = 1e-12 * torch.linalg.matrix_norm(T)[:, None, None] * torch.eye(*T.shape[-2:], dtype=R.dtype)
    T = torch.linalg.qr(torch.cat([T, ridge[:, :-1]], dim=-2), mode="r")[1]
    c = torch.linalg.solve_triangular(T[:, :-1, :-1], T[:, :-1, -1:], upper=True).squeeze(-1)
    held = leaf_mask(blocks, R.dtype, R.device).squeeze(-1).bool()

    def spread(x):
        return x.unsqueeze(1).expand(-1, held.shape[1], *x.shape[1:])[held]

    c = spread(c)
    # Mean squares of the residuals in units of the errors: one, if the coefficients are the same.
    left = weighted[..., -1] - (weighted[..., :-1] @ c.unsqueeze(-1)).squeeze(-1)
    squares = split_leaves(left.square().sum(-1, keepdim=True), blocks).sum((1, 2))
    counts = split_leaves(interior.to(R.dtype).unsqueeze(-1), blocks).sum((1, 2))
    return c, spread(squares < _AGREEMENT * n_samples * counts)


def borrow(coefficients, borrowed, columns, F, typical):
    """Give rows without samples the mean of the nearest other rows, changed as little as what is known demands."""
    rows, good = torch.nonzero(borrowed).squeeze(-1), torch.nonzero(~borrowed).squeeze(-1)
    if not len(rows) or not len(good):
        return coefficients
    right = torch.searchsorted(good, rows)
    guess = (coefficients[good[(right - 1).clamp_min(0)]] + coefficients[good[right.clamp_max(len(good) - 1)]]) / 2
    left_over = (F[rows] - (columns[rows] @ guess.unsqueeze(-1)).squeeze(-1)).unsqueeze(-1)
    change = torch.linalg.pinv(columns[rows] / typical, rtol=1e-8) @ left_over
    coefficients = coefficients.clone()
    coefficients[rows] = guess + change.squeeze(-1) / typical
    return coefficients
