"""Local laws: f around a point as a combination of u around it, and its inverse, the solution of M f = L u."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
import torch

from ...exceptions import AmbiguousFitWarning, PoorFitWarning
from ...linalg import HSSMatrix, SparseInverse, SparseMatrix
from .._form import EXACT, WORTHWHILE, Form, NotApplicable, growing
from .._local_law import LawFit, LocalSamples, Stencil, boundaries, null_space
from .._neighbourhoods import Neighbourhood, Points
from .._products import in_products
from .._stability import grows
from ._matrix import correction, symmetrised

# Laws are judged by solutions on parts of the domain of so many values, by their number of dimensions.
_PART = {1: 20_000, 2: 20_000, 3: 4_096}
# Errors above the first are those of no law at all; those below the second are as good as exact.
_HOPELESS, _DONE = 0.7, 1e-10
# Row sums that contribute less than this fraction of f may be zero.
_CONSERVED = 0.1
# Values at the ends of a periodic axis are more than this fraction of the others.
_AT_ENDS = 0.2
# A law that amplifies this many times more than the samples show has solutions that the samples do not.
SPURIOUS = 1e3
# A law whose repetition grows is worse than one that amplifies no more than so many times what the samples do, and that
# has up to so many times its error.
_TAME, _FOR_TAMENESS = 1.01, 1e3
# Laws with up to so many times the error of the best one are its rivals.
_RIVAL = 30.0
# Number of values up to which the amplification of a law is looked at once more.
_QUICK = 50_000
_BOTH = ("class", "row")
# Fields that are rougher by less than this factor may be of the same kind.
_ALIKE = 2.0
_COMPACT = Stencil(Neighbourhood(1))
# Laws with more unknowns at a point are not tried, but for the first one.
_MOST = 48
# Rows of their own must be this many times better than those of a class, unless samples are exact.
_OWN = 10.0


def local_samples(samples, periodic=None, *, forward=False):
    """The samples as laws need them; raises where there are none.

    Parameters
    ----------
    samples : Samples
    periodic : tuple of bool, default=None
        Axes whose ends are neighbours; none of them if None.
    forward : bool, default=False
        Whether the map itself is local: f is then its output, and there are no boundaries.

    Returns
    -------
    LocalSamples
    """
    if not samples.is_square:
        raise NotApplicable(f"needs outputs on the grid of the inputs; got {samples.grid_out} and {samples.grid_in}")
    shape = samples.grid_out[int(samples.has_channels) :]
    if np.prod(shape) < 3:
        raise NotApplicable("needs three points or more")
    periodic = tuple(periodic or [False] * len(shape))

    def make():
        points = Points(shape, periodic, samples.adjacency)
        n_channels = samples.grid_out[0] if samples.has_channels else 1
        if not (samples.X.any() and samples.Y.any()):
            raise NotApplicable("needs samples that are not zero")
        F, U = (Z.reshape(samples.n_samples, n_channels, len(points)) for Z in (samples.X, samples.Y))
        if forward:
            nothing = torch.zeros_like(F[0], dtype=torch.bool)
            return LocalSamples(U, F, points, samples.noise, nothing, nothing[0])
        inside = None if samples.inside is None else samples.inside.reshape(n_channels, len(points))
        return LocalSamples(F, U, points, samples.noise, *boundaries(F, U, points, inside))

    return samples.kept(("local", periodic, forward), make)


def refuse_cuts(samples, options):
    """Decline where Kronecker products, or factors of a given rank, are asked for."""
    if options.outer_rank != "auto" or (options.rank != "auto" and not on_line(samples)):
        raise NotApplicable("is no sum of Kronecker products, nor of a given rank")


def wants_products(samples, options):
    """Whether a law is to be delivered as a sum of so many Kronecker products."""
    return options.outer_rank != "auto" and len(samples.grid_in) > 1 and samples.adjacency is None


def on_line(samples):
    """Whether fields are those of one dimension, whose maps are delivered as HSS matrices."""
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
        """What the law is made of, whoever shares it."""
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
    """The inverse of a sparse matrix whose rows couple neighbours, of any domain and any coefficients, as those of
    differential equations are; f may be averaged over neighbours, as finite elements and compact schemes do.
    """

    kind: ClassVar[str] = "inverse"
    effort: ClassVar[int] = 1
    amplifies: ClassVar[bool] = True
    correctable: ClassVar[bool] = True
    # Held-out samples, which are like the others, tell less than rough combinations of them.
    worthwhile: ClassVar[float] = _RIVAL

    @classmethod
    def path(cls, samples, options):
        """The law that predicts the roughest combinations of the samples best, and the next one of another kind."""
        if not wants_products(samples, options):
            refuse_cuts(samples, options)
        trials = sorted(Trials(cls, samples, options).all(), key=lambda t: t.order)
        good = [t for t in trials if t.gain <= SPURIOUS] or trials
        if not good:
            raise NotApplicable("needs more samples")
        best = min(t.error for t in good)
        chosen = next(t for t in good if t.error <= max(WORTHWHILE * best, EXACT))
        if chosen.form.stencil.sharing == "row" and chosen.error > _DONE:
            shared = [t for t in good if t.form.stencil.sharing != "row" and t.error <= _OWN * best]
            chosen = min(shared, key=lambda t: t.error, default=chosen)
        if chosen.error > _DONE and chosen.gain > _TAME and grows(chosen.form.fit(samples), samples):
            tame = [t for t in good if t.gain <= _TAME and t.error <= _FOR_TAMENESS * best]
            chosen = min(tame, key=lambda t: t.error, default=chosen)
        error = yield chosen.form
        if chosen.error > _DONE and samples.repeated is None:
            # Another law as good as this one shows where the two differ.
            others = [t for t in good if t.form.points != chosen.form.points and t.error <= _RIVAL * chosen.error]
            if others:
                yield min(others, key=lambda t: t.error).form
        for trial in sorted(good, key=lambda t: t.error):
            if math.isfinite(error):
                break
            if trial is not chosen:  # which was judged by some of the samples; with others, its L is singular
                error = yield trial.form
        if error > samples.accurate and options.sharing in ("auto", "row") and samples.adjacency is None:
            # Rows of their own had too few samples to be judged; or there are too few in any case.
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
        """In one dimension, an HSS matrix; elsewhere the sparse matrices as they are, with the correction; or so many
        Kronecker products.
        """
        if wants_products(samples, self.options):
            return in_products(operator.operator, samples, self.options)
        operator = self.as_matrix(operator.operator) if on_line(samples) else operator.operator
        operator = self.corrected(operator, samples, alpha)
        return symmetrised(operator, samples, self.options) if on_line(samples) else operator

    def corrected(self, operator, samples, alpha):
        """With what ridge regression on the predictions adds, where there is a penalty."""
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
                f"The samples leave the local law open at {n_open} of {operator.undetermined.size} points; there, it "
                "is that of points with the same neighbours. More samples, or such as do not vanish there, decide it."
            )
            found.append((message, AmbiguousFitWarning))
        if operator.undetermined.size <= _QUICK and (gain := operator.amplification) > SPURIOUS:
            message = (
                f"The local law amplifies some inputs {gain:.0e} times more than the samples show: for inputs of other "
                "kinds it may be wrong. Likeliest cause: too few samples, or noise."
            )
            found.append((message, PoorFitWarning))
        return found

    def as_matrix(self, operator):
        """HSS matrix by products with the inverse, which are more accurate than the ULV factorisation would be."""
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
        Rows that the samples leave open.
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
        """Largest |u| / |f| of the solutions, over that of the samples; from below."""
        return amplification(self.operator) / self.seen


class KeptSparse:
    """For forms of local laws, to keep these as sparse matrices in one dimension, too."""

    points_per_direction: ClassVar[int] = 2

    def deliver(self, operator, samples, alpha=None):
        """The sparse matrices as they are, with the correction."""
        return self.corrected(operator.operator, samples, alpha)


@dataclass(frozen=True)
class SparseLocalInverse(KeptSparse, LocalInverse):
    """The inverse of a local law, as sparse matrices."""


@dataclass
class LawTrial:
    """A law of some samples, judged by the roughest combinations of them: its error there, and its gain over theirs."""

    form: LocalForm
    n_samples: int
    error: float
    gain: float

    @property
    def order(self):
        """Those with few unknowns come first, shared ones before the others."""
        sharing = ("shared", "class", "row").index(self.form.stencil.sharing)
        return sharing == 2, self.form.n_unknowns, any(self.form.periodic), self.form.stencil.conservative, sharing


class Trials:
    """Laws for samples, the simple ones first, as long as others may be better.

    The simplest stencils tell whether axes are periodic, whether constants are in the null space, and whether rows are
    equal: the others are tried accordingly.
    """

    def __init__(self, cls, samples, options):
        self.cls, self.samples, self.options = cls, samples, options
        self.found: list[LawTrial] = []
        # Of both, the better one of the first law with two sides is kept.
        self.sharings = _BOTH if options.sharing == "auto" else (options.sharing,)
        if samples.adjacency is not None:  # of which every node has neighbours of its own
            self.sharings = ("row",)
        self.done = max(_DONE, 30 * samples.noise)

    @property
    def best(self):
        """The best trial so far."""
        return min(self.found, key=lambda t: (t.gain > SPURIOUS, t.error))

    @property
    def both_sides(self):
        """Whether a law with neighbours of f has been tried; on a mesh, nothing else explains white forcings."""
        mesh = self.samples.adjacency is not None
        return not mesh or any(t.form.stencil.of_f.radius for t in self.found)

    def all(self):
        """All trials."""
        first, *others = self.stages()
        periods = self.periods()
        variants = [(periodic, (False, None)) for periodic in periods]
        for stencil in first:
            for periodic, conservative in variants:
                self.attempt(stencil, periodic, conservative)
            variants = self.variants()
        for stage in others:
            if not self.found or self.best.error < self.done or (self.best.error > _HOPELESS and self.both_sides):
                break
            form = self.best.form
            for stencil in stage:
                self.attempt(stencil, form.periodic, (form.stencil.conservative,))
        return self.found

    def variants(self):
        """Which axes are periodic and whether constants are in the null space, as far as trials tell it."""
        found: dict = {}
        for t in self.found:
            stencil = t.form.stencil
            found.setdefault((t.form.periodic, (stencil.conservative,)), []).append(t.error)
        best = min(min(errors) for errors in found.values())
        return [variant for variant, errors in found.items() if min(errors) <= WORTHWHILE * best]

    def periods(self):
        """Which axes to take for periodic: those of whose ends u says that they are no boundaries, or none."""
        shape = self.samples.grid_out[int(self.samples.has_channels) :]
        if self.options.periodic != "auto":
            given = self.options.periodic
            return [tuple(given) if isinstance(given, (tuple, list)) else (bool(given),) * len(shape)]
        none = (False,) * len(shape)
        if self.samples.adjacency is not None:
            return [none]
        U = self.samples.Y.reshape(-1, *shape)
        typical = float(U.square().mean())
        free = tuple(
            n > 4 and all(float(U.select(axis, end).square().mean()) > _AT_ENDS**2 * typical for end in (0, -1))
            for axis, n in enumerate(shape, 1)
        )
        return [none, free] if any(free) else [none]

    @property
    def alike(self):
        """Whether f is about as smooth as u, as the states before and after a time step are."""
        local = local_samples(self.samples)
        f, u = (float(local.points.steps(Z).norm() / Z.norm()) for Z in (local.F, local.U))
        return f < _ALIKE * u

    def stages(self):
        """Stencils, in the order of their numbers of points."""
        options = self.options
        mesh, n_axes = self.samples.adjacency is not None, len(self.samples.grid_out) - int(self.samples.has_channels)

        def hood(radius, box):
            return Neighbourhood(radius, box and n_axes > 1 and not mesh)

        if mesh:
            # Neighbours of f cost fewer unknowns than further neighbours of u.
            pairs = [[((u, False), (f, False))] for u, f in ((1, 0), (1, 1), (2, 0), (2, 1))]
        elif n_axes == 1:
            pairs = [[((w, False), (0, False))] for w in (1, 2, 3)] + [
                [((u, False), (f, False)) for u, f in ((1, 1), (2, 1), (2, 2), (3, 1))]
            ]
        else:
            pairs = [
                [((1, False), (0, False)), ((1, True), (0, False))],
                [((1, True), (1, False)), ((2, False), (0, False))],
                [((1, True), (1, True)), ((2, True), (1, True))],
            ]
        if self.alike:
            # A time step has two sides: trials of laws with one, none of which is near it, would end the search.
            both = ((1, False), (1, False))
            pairs = [[*pairs[0], both], *([pair for pair in stage if pair != both] for stage in pairs[1:])]
        shapes = [[Stencil(hood(*u), hood(*f)) for u, f in stage] for stage in pairs]
        wanted = [[s for s in stage if self.suits(s, n_axes)] for stage in shapes]
        if not any(wanted):
            radius = 1 if options.radius == "auto" else options.radius
            box = options.neighbourhood == "box"
            wanted = [[Stencil(hood(radius, box), hood(min(radius, 1) if options.two_sided is True else 0, box))]]
        return [stage for stage in wanted if stage]

    def suits(self, stencil, n_axes):
        """Whether the options allow a stencil."""
        radius, shape, sides = self.options.radius, self.options.neighbourhood, self.options.two_sided
        return (
            radius in ("auto", stencil.of_u.radius)
            and (n_axes == 1 or self.options.symmetric is not True or not stencil.of_f.radius)
            and (shape == "auto" or n_axes == 1 or stencil.of_u.box == (shape == "box"))
            and (sides == "auto" or sides == (stencil.of_f.radius > 0))
        )

    def attempt(self, stencil, periodic, conservative):
        """Judge laws of a shape; that with constants in the null space where it may be so, if this is not known."""
        whole = local_samples(self.samples, periodic)
        n_unknowns = unknowns(whole, stencil)
        if n_unknowns > _MOST and self.options.radius == "auto" and self.found:
            return
        n_few = round(2.5 * n_unknowns) + 5
        local = local_samples(self.samples.first(n_few), periodic) if n_few < whole.n_samples else whole
        n_rough = max(min(round(0.3 * local.n_samples), local.n_samples - n_unknowns), 1)
        smooth, rough = local.smooth_and_rough(n_rough)
        law = None
        sharings = self.sharings if local.n_samples >= n_unknowns / 2 or self.sharings != _BOTH else self.sharings[:1]
        for known in conservative:
            if known is None and not conserves(law, smooth):
                break
            shape = replace(stencil, conservative=known is not False)
            fit = LawFit(smooth, shape, part_of(local))
            for sharing in sharings:
                law = fit.law(sharing)
                shared = replace(shape, sharing=sharing)
                form = self.cls(self.options, stencil=shared, periodic=periodic, n_unknowns=n_unknowns)
                self.found.append(LawTrial(form, smooth.n_samples, *judged(law, rough, local)))
        if sharings == _BOTH and stencil.of_f.radius:
            shared, own = self.found[-2:]
            self.sharings = sharings[:1] if shared.error < WORTHWHILE * own.error else sharings[1:]


def unknowns(local, stencil):
    """Number of unknown coefficients of a row with all neighbours."""
    count = [int((local.points.neighbours(hood) >= 0).sum(1).max()) for hood in (stencil.of_u, stencil.of_f)]
    return len(local.pinned) * (count[0] + count[1] - 1)


def conserves(law, local):
    """Whether constants contribute little to L u, in rows with all neighbours and in others."""
    free = ~local.pinned.numpy().ravel()
    sums = np.abs(law.L.sum(axis=1)).ravel()[free] * float(local.U.square().mean().sqrt())
    part = sums / (float(local.F.square().mean().sqrt()) or 1.0)
    counts = np.diff(law.L.indptr)[free]
    inner = counts == counts.max()
    return all(np.median(part[which]) <= _CONSERVED for which in (inner, ~inner) if which.any())


def judged(law, rough, local):
    """Error in u of a law, on the whole domain or on a part of it; and how much it amplifies more than the samples."""
    f, u = rough.F.flatten(1).numpy().T, rough.U.flatten(1).numpy().T
    L, M, rhs, (V, gauge) = law.L, law.M, law.M @ f, (None, None)
    try:
        inside = part_of(local)
        if inside is not None:
            inside = np.tile(inside, len(local.pinned))
            rhs = (rhs - L @ np.where(inside[:, None], 0, u))[inside]
            L, M, u = L[inside][:, inside], M[inside][:, inside], u[inside]
        else:
            V, gauge = null_space(L, local.U.flatten(1).numpy(), ~local.pinned.numpy())
        operator = SparseInverse(L, M, right=gauge, left=V, solver="direct")
        solved = SparseInverse(L, right=gauge, left=V, solver="direct") @ rhs
    except np.linalg.LinAlgError:
        return math.inf, math.inf
    with np.errstate(all="ignore"):
        error = float(np.mean(np.linalg.norm(solved - u, axis=0) / np.maximum(np.linalg.norm(u, axis=0), 1e-300)))
    gain = amplification(operator) / largest_gain(local)
    return (error if math.isfinite(error) else math.inf), (gain if math.isfinite(gain) else math.inf)


def largest_gain(local):
    """Largest |u| / |f| of samples; one if all u are zero."""
    return float((local.U.flatten(1).norm(dim=1) / local.F.flatten(1).norm(dim=1).clamp_min(1e-300)).max()) or 1.0


def amplification(operator, n_steps=6):
    """Largest gain |A f| / |f| of a map, from below, by a power iteration."""
    x = torch.randn(operator.shape[1], dtype=operator.dtype, generator=torch.Generator().manual_seed(0))
    gain = 0.0
    for _ in range(n_steps):
        y = operator @ (x / (x.norm() or 1.0))
        gain, x = float(y.norm()), operator.T @ y
    return gain


def part_of(local):
    """Points in a corner of the grid (n_points,), as many as a quick solution allows; None for all."""
    most = _PART[min(len(local.points.shape), 3)] // len(local.pinned)
    if len(local.points) <= most:
        return None
    if local.points.is_mesh:
        return np.arange(len(local.points)) < most
    side = int(most ** (1 / len(local.points.shape)))
    return (local.points.coordinates < side).all(1)
