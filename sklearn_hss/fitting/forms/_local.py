"""Local laws: f around a point as a combination of u around it, and its inverse, the solution of M f = L u."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
import torch

from ...exceptions import AmbiguousFitWarning, PoorFitWarning
from ...linalg import HSSMatrix, SparseInverse, SparseMatrix
from .._boundaries import null_space
from .._form import EXACT, WORTHWHILE, Form, NotApplicable, growing
from .._law_trials import DONE, SPURIOUS, Trials, amplification, largest_gain, unknowns
from .._local_law import LawFit, Stencil
from .._local_samples import local_samples
from .._neighbourhoods import Neighbourhood
from .._products import in_products
from .._stability import grows
from ._matrix import correction, symmetrised

# If the repetition of a law grows, one that amplifies at most the first number times the samples is preferred, with up
# to the second number times its error.
_TAME, _FOR_TAMENESS = 1.01, 1e3
# Laws with up to this many times the error of the best one are its rivals.
_RIVAL = 30.0
# Number of values up to which the amplification of a law is verified again.
_QUICK = 50_000
_COMPACT = Stencil(Neighbourhood(1))
# Factor by which individual rows must be better than those of a class, unless the samples are exact.
_OWN = 10.0


def refuse_cuts(samples, options):
    """Raise NotApplicable if Kronecker products, or factors of a given rank, are requested."""
    if options.outer_rank != "auto" or (options.rank != "auto" and not on_line(samples)):
        raise NotApplicable("is neither a sum of Kronecker products nor of a given rank")


def wants_products(samples, options):
    """Whether a law is to be delivered as a sum of a given number of Kronecker products."""
    return options.outer_rank != "auto" and len(samples.grid_in) > 1 and samples.adjacency is None


def on_line(samples):
    """Whether fields are one-dimensional, so that maps are delivered as HSS matrices."""
    return len(samples.grid_in) == 1 and samples.adjacency is None


@dataclass(frozen=True)
class LocalForm(Form):
    """Base class of the forms with a local law."""

    stencil: Stencil = _COMPACT
    periodic: tuple[bool, ...] = ()
    n_unknowns: int = 3
    least: int = 1

    solver: ClassVar[str] = "local"

    @property
    def half_bandwidth(self):
        return self.stencil.of_u.radius

    @property
    def min_samples(self):
        return self.least

    @property
    def points(self):
        """The neighbours in the law, regardless of the sharing of coefficients."""
        return self.stencil.of_u, self.stencil.of_f, self.periodic

    def __str__(self):
        u, f = self.stencil.of_u, self.stencil.of_f
        parts = [f"local {'law' if self.kind == 'inverse' else 'map'}", str(u)]
        parts += [f"{f} for f"] if f.radius else []
        parts.append({"shared": "shared", "class": "per class", "row": "per point"}[self.stencil.sharing])
        parts += ["periodic"] if any(self.periodic) else []
        parts += ["constants in the null space"] if self.stencil.conservative else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Local(LocalForm):
    """A sparse matrix whose rows couple neighbours: the map itself, such as a differential operator."""

    effort: ClassVar[int] = 2
    floor: ClassVar[float] = 1e-10

    @classmethod
    def path(cls, samples, options):
        """Growing neighbourhoods."""
        refuse_cuts(samples, options)
        local = local_samples(samples, forward=True)
        laws = []
        n_axes = len(local.points.shape)
        shapes = [(1, False), (1, True), (2, False), (3, False)] if n_axes > 1 else [(w, False) for w in range(1, 9)]
        for hood in (Neighbourhood(*shape) for shape in shapes):
            for sharing in ("class", "row") if options.sharing == "auto" else (options.sharing,):
                stencil = Stencil(hood, sharing=sharing)
                laws.append(cls(options, stencil=stencil, n_unknowns=unknowns(local, stencil)))
        yield from growing(laws, enough=cls.floor)

    def fit(self, samples, start=None):
        local = local_samples(samples, self.periodic, forward=True)
        grid = samples.grid_in
        return SparseMatrix(LawFit(local, self.stencil).law(self.stencil.sharing).L, grid, grid)

    def deliver(self, operator, samples, alpha=None):
        """In one dimension, an HSS matrix."""
        if not on_line(samples):
            return operator
        w, A = self.stencil.of_u.radius, operator.to_scipy()
        bands = np.zeros((2 * w + 1, len(samples.X[0])))
        for offset in range(-w, w + 1):
            diagonal = A.diagonal(offset)
            bands[w - offset, max(offset, 0) : max(offset, 0) + len(diagonal)] = diagonal
        return symmetrised(HSSMatrix.from_banded((w, w), bands, self.options.levels), samples, self.options)


@dataclass(frozen=True)
class LocalInverse(LocalForm):
    """The inverse of a sparse matrix whose rows couple neighbours, as for differential equations on any domain and with
    any coefficients; f may be averaged over neighbours, as in finite elements and compact schemes.
    """

    kind: ClassVar[str] = "inverse"
    effort: ClassVar[int] = 1
    amplifies: ClassVar[bool] = True
    correctable: ClassVar[bool] = True
    # Held-out samples, which resemble the others, are a weaker test than rough combinations of samples.
    worthwhile: ClassVar[float] = _RIVAL

    @classmethod
    def path(cls, samples, options):
        """The law that best predicts the roughest combinations of the samples, and the next one of another kind."""
        if not wants_products(samples, options):
            refuse_cuts(samples, options)
        trials = sorted(Trials(cls, samples, options).all(), key=lambda t: t.order)
        good = [t for t in trials if t.gain <= SPURIOUS] or trials
        if not good:
            raise NotApplicable("needs more samples")
        best = min(t.error for t in good)
        chosen = next(t for t in good if t.error <= max(WORTHWHILE * best, EXACT))
        if chosen.form.stencil.sharing == "row" and chosen.error > DONE:
            shared = [t for t in good if t.form.stencil.sharing != "row" and t.error <= _OWN * best]
            chosen = min(shared, key=lambda t: t.error, default=chosen)
        if chosen.error > DONE and chosen.gain > _TAME and grows(chosen.form.fit(samples), samples):
            tame = [t for t in good if t.gain <= _TAME and t.error <= _FOR_TAMENESS * best]
            chosen = min(tame, key=lambda t: t.error, default=chosen)
        error = yield chosen.form
        if chosen.error > DONE and samples.repeated is None:
            # If another law is as good as this one, the difference between the two indicates the uncertainty.
            others = [t for t in good if t.form.points != chosen.form.points and t.error <= _RIVAL * chosen.error]
            if others:
                yield min(others, key=lambda t: t.error).form
        for trial in sorted(good, key=lambda t: t.error):
            if math.isfinite(error):
                break
            if trial is not chosen:  # L of the chosen law is singular for samples other than those of its validation
                error = yield trial.form
        if error > samples.accurate and options.sharing in ("auto", "row") and samples.adjacency is None:
            # There were too few samples to validate individual rows, or too few for any law.
            own = [t.form for t in trials if t.form.n_unknowns > t.n_samples]
            for form in own[:1]:
                yield replace(form, stencil=replace(form.stencil, sharing="row"), least=form.n_unknowns)

    def fit(self, samples, start=None):
        del start  # with a factor that may be large
        local = local_samples(samples, self.periodic)
        law = LawFit(local, self.stencil).law(self.stencil.sharing, examined=True)
        return SolvedLaw(self.inverse(law, local, samples), law.undetermined, largest_gain(local))

    def inverse(self, law, local, samples):
        """The map from f to the solutions of a law."""
        L, M, grid = self.part(law.L, samples), law.M, samples.grid_in
        V, gauge = null_space(L, local.U.flatten(1).numpy(), ~local.pinned.numpy())
        return SparseInverse(SparseMatrix(L, grid, grid), SparseMatrix(M, grid, grid), right=gauge, left=V)

    @property
    def symmetric(self):
        return self.options.symmetric is True

    def part(self, L, samples):
        """The symmetric part of the matrix of a one-sided law, if the map is symmetric."""
        wanted = self.options.symmetric
        if wanted == "auto":
            wanted = samples.asymmetry < max(1e-8, 100 * samples.noise)
        return sp.csr_array((L + L.T) / 2) if wanted and not self.stencil.of_f.radius else L

    def deliver(self, operator, samples, alpha=None):
        """In one dimension, an HSS matrix; otherwise the sparse matrices with the correction, or a given number of
        Kronecker products.
        """
        if wants_products(samples, self.options):
            return in_products(operator.operator, samples, self.options)
        operator = self.as_matrix(operator.operator) if on_line(samples) else operator.operator
        operator = self.corrected(operator, samples, alpha)
        return symmetrised(operator, samples, self.options) if on_line(samples) else operator

    def corrected(self, operator, samples, alpha):
        """The operator with a correction by ridge regression on its predictions, if there is a penalty."""
        if alpha is None:
            return operator
        left, right = correction(operator.apply(samples.X), samples).factors(alpha)
        outputs = left.mT.unflatten(-1, samples.grid_out)
        inputs = (operator.T @ right).mT.unflatten(-1, samples.grid_in)
        return operator.with_low_rank(outputs, inputs, coarsen=self.options.levels == "auto")

    def doubts(self, operator, samples):
        """Whether rows are undetermined, or the law amplifies inputs far more than the samples show."""
        found: list[tuple[str, type[Warning]]] = []
        n_open = int(operator.undetermined.sum())
        if n_open and (samples.adjacency is None or not self.stencil.of_f.radius):
            message = (
                f"The samples do not determine the local law at {n_open} of {operator.undetermined.size} points, where "
                "it is completed from points with the same neighbours. Provide more samples, or samples that do not "
                "vanish there."
            )
            found.append((message, AmbiguousFitWarning))
        if operator.undetermined.size <= _QUICK and (gain := operator.amplification) > SPURIOUS:
            message = (
                f"The local law amplifies some inputs {gain:.0e} times more than the samples do: for other inputs, it "
                "may be wrong. Likeliest cause: too few samples, or noise."
            )
            found.append((message, PoorFitWarning))
        return found

    def as_matrix(self, operator):
        """HSS matrix from products with the inverse, which are more accurate than a ULV factorisation."""
        rank = max(2 * self.stencil.of_u.radius, 2 * self.stencil.of_f.radius, 1)
        products = operator.__matmul__, operator.T.__matmul__
        generator = torch.Generator().manual_seed(0)
        matrix = HSSMatrix.from_products(
            *products, operator.shape, rank=rank, levels=self.options.levels, generator=generator
        )
        if self.options.rank != "auto" and matrix.rank > self.options.rank:
            matrix = matrix.truncate(tol=0, rank=self.options.rank)
        return matrix


@dataclass(frozen=True, eq=False)
class SolvedLaw:
    """A law with its solutions.

    Attributes
    ----------
    operator : SparseInverse
    undetermined : ndarray of bool, of shape (n_channels, n_points)
        Rows that the samples do not determine.
    seen : float
        Largest |u| / |f| of the samples.
    """

    operator: SparseInverse
    undetermined: np.ndarray
    seen: float

    def apply(self, fields):
        """Solutions."""
        return self.operator.apply(fields)

    @property
    def amplification(self):
        """Lower estimate of the largest |u| / |f| of the solutions, relative to that of the samples."""
        return amplification(self.operator) / self.seen


@dataclass(frozen=True)
class KeptSparse(LocalInverse):
    """Base class of forms of local laws that are delivered as sparse matrices in one dimension as well."""

    points_per_direction: ClassVar[int] = 2

    def deliver(self, operator, samples, alpha=None):
        """The sparse matrices, with the correction."""
        return self.corrected(operator.operator, samples, alpha)


@dataclass(frozen=True)
class SparseLocalInverse(KeptSparse):
    """The inverse of a local law, as sparse matrices."""
