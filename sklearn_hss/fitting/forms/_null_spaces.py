"""Block nullification (:mod:`sklearn_hss.linalg._closed_form`), with and without synthetic samples."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ...linalg import ClusterTree, HSSMatrix
from ...linalg._closed_form import closed_form
from .._form import NotApplicable, growing
from .._local_law import Stencil
from .._neighbourhoods import Neighbourhood
from ._local import LocalInverse
from ._matrix import MatrixForm, on_interval, ranks, trees

# Largest residual of an inverse form from which synthetic samples are generated.
_GOOD = 1e-6
# Maximal number of neighbours on either side.
_WIDEST = 3


@dataclass(frozen=True)
class NullSpaces(MatrixForm):
    """In one dimension, an HSS matrix by null spaces of blocks of the samples, in milliseconds; for symmetric maps, or
    with adjoint samples.
    """

    rank: int = 1
    levels: int = 0
    adjoint: bool = False
    # Number of samples needed; larger than the number available if there are too few adjoint samples.
    needed: float = 1

    solver: ClassVar[str] = "closed_form"
    effort: ClassVar[int] = 0

    @classmethod
    def path(cls, samples, options):
        """Growing ranks, each over the deepest tree with leaves of twice the rank, or a deeper one if that helps."""
        smallest, adjoint = on_interval(samples, options), samples.adjoint is not None
        if not adjoint and not may_be_symmetric(samples, options):
            raise NotApplicable(
                "needs a symmetric operator or adjoint samples: pass adjoint=(P, Z), or use solver='gauss_newton' or "
                "form='inverse', for example"
            )
        n_samples, largest = samples.n_samples, max(samples.grid_in[0], samples.grid_out[0])
        available = min(n_samples, len(samples.adjoint[0])) if adjoint else n_samples

        def leaf(levels):
            return -(-largest // 2**levels)

        def candidate(rank):
            levels = options.levels
            if levels == "auto":
                levels = ClusterTree.max_levels(smallest, 2 * rank)
                while leaf(levels) + rank > available and smallest >> (levels + 1) >= rank:
                    levels += 1
            needed = max(leaf(levels) + rank, 3 * rank) if levels else 1
            return cls(options, rank, levels, adjoint, n_samples + 1 if available < needed <= n_samples else needed)

        yield from growing(candidate(rank) for rank in ranks(options))

    @property
    def min_samples(self):
        return self.needed

    @property
    def symmetric(self):
        return self.options.symmetric is True or not self.adjoint

    def fit(self, samples, start=None):
        return nullified(samples.with_constant(), self.rank, self.levels, self.options.tol)

    def __str__(self):
        return f"closed form, rank {self.rank}, {'adjoint samples' if self.adjoint else 'symmetric'}"


@dataclass(frozen=True)
class AugmentedNullSpaces(MatrixForm):
    """In one dimension, an HSS matrix by null spaces of few samples of a symmetric map, to which products with the
    inverse of a local law are added.
    """

    w: int = 1

    solver: ClassVar[str] = "closed_form"
    effort: ClassVar[int] = 1

    @classmethod
    def path(cls, samples, options):
        """The first bandwidth of an inverse form that fits the samples, if these are scarce."""
        on_interval(samples, options)
        if samples.adjoint is not None or options.solver != "auto" or options.form != "auto":
            return
        symmetric = options.symmetric is True or (options.symmetric == "auto" and samples.asymmetry < 1e-8)
        widest = _WIDEST if options.rank == "auto" else options.rank // 2
        for w in range(1, min(widest, len(samples.X[0]) - 1) + 1 if symmetric else 0):
            if 2 * w + 1 > samples.n_independent:
                break
            inverse = cls(options, w).inverse
            if samples.error(inverse.fit(samples).apply(samples.X)) <= _GOOD:
                # Without further samples, leaves must have fewer points than there are samples.
                leaf = 0 if options.levels == "auto" else -(-samples.grid_in[0] // 2**options.levels)
                if samples.n_samples < max(10 * w, leaf + 2 * w):
                    yield cls(options, w)
                break

    @property
    def inverse(self):
        """The law of 2 w + 1 points."""
        return LocalInverse(self.options, stencil=Stencil(Neighbourhood(self.w)), n_unknowns=2 * self.w + 1)

    @property
    def half_bandwidth(self):
        return self.w

    @property
    def min_samples(self):
        return 2 * self.w + 1

    @property
    def symmetric(self):
        return True

    def fit(self, samples, start=None):
        """Fit to the given samples and to synthetic ones of small weight, which determine only the directions that the
        given samples do not; there, the inverse form is accurate, and the closed form is less sensitive to rounding.
        """
        inverse, rank = self.inverse, 2 * self.w
        base = inverse.deliver(inverse.fit(samples), samples, alpha=0.0)
        n, extended = samples.grid_in[0], samples.with_constant()
        levels = self.options.levels
        levels = ClusterTree.max_levels(n, 2 * rank) if levels == "auto" else levels
        largest = ClusterTree(n, levels).max_leaf_size
        missing = max(max(largest + rank, 3 * rank) + rank - extended.n_samples, 0)
        made_up = 1e-4 * torch.randn(n, missing, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).mT
        # Synthetic forcings are zero where all given ones are.
        made_up = made_up * (extended.X != 0).any(0)
        return nullified(extended.joined(made_up, base.apply(made_up)), rank, levels, self.options.tol)

    def __str__(self):
        return f"closed form, rank {2 * self.w}, symmetric, samples augmented by a local law, {2 * self.w + 1} points"


def may_be_symmetric(samples, options):
    """Whether the map may be symmetric, at least approximately."""
    if options.symmetric != "auto":
        return options.symmetric
    return samples.is_square and (options.solver == "closed_form" or samples.asymmetry < 0.1)


def nullified(samples, rank, levels, tol):
    """HSS matrix by the closed form."""
    row_tree, col_tree = trees(samples, levels)
    adjoint = [] if samples.adjoint is None else [M.mT for M in samples.adjoint]
    *generators, _ = closed_form(row_tree, col_tree, *samples.columns, *adjoint, rank=rank, input_tol=tol)
    return HSSMatrix(row_tree, col_tree, *generators)
