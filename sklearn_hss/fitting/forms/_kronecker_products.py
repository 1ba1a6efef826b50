"""The map as a sum of Kronecker products: eq. (1) of the Neural-HSS paper."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from ...linalg import KroneckerProductSum
from ...linalg._modes import multilinear
from .._form import EXACT, Form, NotApplicable, OtherDimension, growing
from .._least_squares import mode_basis
from .._products import (
    alternate,
    apply_terms,
    as_factors,
    grow_terms,
    least_squares_terms,
    polish_terms,
    rearranged_map,
)
from .._samples import relative_error

_OUTER_RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# No terms are added once the error is below the first. Between the first and the second, terms are polished. Above the
# third, a penalty may help.
_ENOUGH, _PROMISING, _POOR = 1e-9, 1e-2, 0.05
# Terms with more unknowns than the first are not polished, those with fewer entries of the Jacobian than the second
# always are.
_MANY, _CHEAP = 20_000, 200_000


@dataclass(frozen=True)
class KroneckerProducts(Form):
    """In several dimensions, a sum of Kronecker products by alternating least squares."""

    outer_rank: int = 1
    ridge: float = 0.0
    polished: bool = False
    is_symmetric: bool = False

    solver: ClassVar[str] = "als"
    effort: ClassVar[int] = 3
    everywhere: ClassVar[bool] = False
    worthwhile: ClassVar[float] = 1.2

    @classmethod
    def path(cls, samples, options):
        """Growing numbers of terms, without a penalty first."""
        if len(samples.grid_in) < 2:
            raise OtherDimension("applies to fields of several dimensions, not of one")
        if options.solver == "auto" and least_squares_determined(samples, options):
            raise NotApplicable("needs samples that do not determine the least-squares map")
        symmetric = samples.asymmetry < max(1e-8, 100 * samples.noise)
        symmetric = symmetric if options.symmetric == "auto" else options.symmetric
        terms = [R for R in outer_ranks(samples, options, 1 + symmetric) if R <= 32 or options.outer_rank == R]
        best, R_best = math.inf, 1
        for R in terms if options.alpha in ("auto", 0) else []:
            error = yield cls(options, R, is_symmetric=symmetric)
            n_unknowns = R * unknowns_of_a_term(samples, options)
            many, cheap = n_unknowns > _MANY, n_unknowns * samples.Y.numel() < _CHEAP
            if not many and EXACT < error < (_PROMISING if len(terms) > 1 and not cheap else math.inf):
                error = yield cls(options, R, polished=True, is_symmetric=symmetric)
            if error * 1.1 < best:
                best, R_best = error, R
            elif R > 8 or terms.index(R) > terms.index(R_best) + 1:
                break
            # An error of one or more is no better than predicting zero.
            if best < _ENOUGH or (best >= 1 and R > 1):
                break
        if options.alpha != "auto":
            yield from growing((cls(options, R, options.alpha) for R in terms), enough=_ENOUGH, worthwhile=1.2)
        elif _POOR < best < 1:
            few = [R for R in terms if R_best <= R <= 4 * R_best]
            yield from growing((cls(options, R, 1e-3) for R in few), enough=_ENOUGH, worthwhile=1.2)

    def fit(self, samples, start=None):
        x, y, left, right = whitened(samples, self.options, self.is_symmetric)
        n_unknowns = self.outer_rank * sum(Q.shape[1] * P.shape[1] for Q, P in zip(left, right, strict=True))
        few = samples.enough(n_unknowns, 10, least=200_000, size=x[0].numel()).n_samples
        x, y, W = x[:few], y[:few], None
        if start is not None and start.outer_rank <= self.outer_rank and not self.ridge:
            dense = [factor.to_dense() for factor in start.factors]
            W = [Q.mT @ w @ torch.linalg.pinv(P.mT) for w, Q, P in zip(dense, left, right, strict=True)]
        generator = torch.Generator().manual_seed(0)
        n_before = 0 if W is None else len(W[0])
        W = grow_terms(x, y, self.outer_rank, start=W, ridge=self.ridge, generator=generator)
        # The last fit, which starts from the same number of terms, may take longer.
        for _ in range(12 if n_before == self.outer_rank and not self.polished else 4):
            W = alternate(W, x, y, ridge=self.ridge)
        return expanded(
            polished(W, x, y, left is right, self.options.outer_rank != "auto") if self.polished else W, left, right
        )

    def deliver(self, operator, samples, alpha=None):
        few = samples.enough(operator.n_parameters)
        dense = [W.to_dense() for W in operator.factors]
        return as_factors(dense, few.X, few.Y, self.options, samples.noise)

    def penalty(self, samples):
        return self.ridge

    def __str__(self):
        name = f"alternating least squares, {self.outer_rank} Kronecker products"
        return name + (f", ridge {self.ridge:g}" if self.ridge else "") + (", polished" if self.polished else "")


@dataclass(frozen=True)
class LeastSquaresProducts(KroneckerProducts):
    """In two dimensions, a sum of Kronecker products extracted from the least-squares operator."""

    solver: ClassVar[str] = "least_squares"

    @classmethod
    def path(cls, samples, options):
        if len(samples.grid_in) != 2:
            raise NotApplicable(f"needs fields of two modes, not {len(samples.grid_in)}; solver='als' supports any")
        if options.solver == "auto" and not least_squares_determined(samples, options):
            raise NotApplicable("needs samples that determine the least-squares map")
        alpha = 0.0 if options.alpha == "auto" else options.alpha
        candidates = (cls(options, R, alpha) for R in outer_ranks(samples, options, 1))
        yield from growing(candidates, enough=_ENOUGH, patience=0, worthwhile=1.1)

    def fit(self, samples, start=None):
        x, y, left, right = whitened(samples, self.options, False)
        alpha = self.ridge * float(x.square().sum(0).mean())
        pairs = samples.kept(("pairs", alpha), lambda: rearranged_map(x, y, alpha=alpha))
        W = least_squares_terms(x, y, self.outer_rank, pairs)
        # The terms are optimal for white inputs, and close to those that are optimal for inputs like the samples.
        few = samples.enough(sum(w.numel() for w in W), size=x[0].numel()).n_samples
        x, y = x[:few], y[:few]
        for _ in range(3 if relative_error(apply_terms(W, x), y) > 1e-11 else 0):
            W = alternate(W, x, y, ridge=self.ridge)
        return expanded(W, left, right)

    def __str__(self):
        return f"least squares in {self.outer_rank} Kronecker products"


def outer_ranks(samples, options, symmetries):
    """Numbers of terms to try, with fewer unknowns than equations."""
    if options.outer_rank != "auto":
        return [options.outer_rank]
    n_unknowns = unknowns_of_a_term(samples, options) / symmetries
    return [R for R in _OUTER_RANKS if R == 1 or R * n_unknowns < samples.Y.numel()]


def unknowns_of_a_term(samples, options):
    """Number of entries of the factors of one Kronecker product, on the span of the inputs."""
    bases = samples.bases(tolerance(samples, options), of_inputs=True)
    return sum(P.shape[1] * n for P, n in zip(bases, samples.grid_out, strict=True))


def least_squares_determined(samples, options):
    """Whether there are as many samples as directions of the inputs, in two modes."""
    bases = samples.bases(tolerance(samples, options), of_inputs=True)
    return len(bases) == 2 and math.prod(P.shape[1] for P in bases) <= samples.n_samples


def tolerance(samples, options):
    """Relative size below which singular values of modes are treated as zero."""
    return max(options.tol, 1e-11, 10 * samples.noise)


def whitened(samples, options, symmetric):
    """Samples in bases of the modes, and the bases of outputs and inputs; those of the inputs whiten.

    For symmetric maps, both are the same object, unless the outputs have many more directions than the inputs, in which
    case symmetry would not save unknowns.
    """
    tol = tolerance(samples, options)

    def make():
        modes = range(samples.X.ndim - 1)
        right = [P / s for P, s in (mode_basis([samples.X], j, tol) for j in modes)]
        left = [mode_basis([samples.Y], j, tol)[0] for j in modes]
        if symmetric and math.prod(Q.shape[1] for Q in left) <= 2 * math.prod(P.shape[1] for P in right):
            left = right = samples.bases(tol)
        return (
            *(multilinear(M, [B.mT for B in side]) for M, side in ((samples.X, right), (samples.Y, left))),
            left,
            right,
        )

    return samples.kept(("whitened", tol, symmetric), make)


def polished(W, x, y, symmetric, thorough):
    """Polished terms, with symmetric factors if these fit a symmetric map, otherwise with arbitrary ones."""
    if symmetric:
        candidate = polish_terms(W, x, y, symmetric=True, thorough=thorough)
        if float((y - apply_terms(candidate, x)).norm()) < 0.05 * float(y.norm()):
            return candidate
    return polish_terms(W, x, y, thorough=thorough)


def expanded(W, left, right):
    """Terms in compressed coordinates as Kronecker products on the grids, without cluster trees."""
    return KroneckerProductSum.from_dense([Q @ w @ P.mT for w, Q, P in zip(W, left, right, strict=True)], levels=0)
