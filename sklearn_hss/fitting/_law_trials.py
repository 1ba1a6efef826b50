"""Selection of a local law: neighbourhood, sharing of coefficients, periodic axes and null space.

Laws are fitted to smooth combinations of the samples and validated by their predictions for rough ones.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..linalg import OperatorProduct, SparseInverse, SparseMatrix
from ._boundaries import null_space
from ._form import WORTHWHILE
from ._local_law import LawFit, Stencil
from ._local_samples import local_samples
from ._neighbourhoods import Neighbourhood

# Number of values in the part of the domain on which laws are validated, by the number of dimensions.
_PART = {1: 20_000, 2: 20_000, 3: 4_096}
# Errors above the first indicate that there is no such law; those below the second are practically exact.
_HOPELESS, DONE = 0.7, 1e-10
# Relative contribution to f below which row sums may be zero.
_CONSERVED = 0.1
# Values at the ends of a periodic axis exceed this fraction of the others.
_AT_ENDS = 0.2
# A law whose amplification exceeds that of the samples by this factor has spurious solutions.
SPURIOUS = 1e3
_BOTH = ("class", "row")
# Largest ratio of the roughness of fields that may be of the same kind.
_ALIKE = 2.0
# Largest number of unknowns at a point for laws other than the first.
_MOST = 48


@dataclass
class LawTrial:
    """A law fitted to samples, with its error on their roughest combinations, and its gain relative to theirs."""

    form: Any
    n_samples: int
    error: float
    gain: float

    @property
    def order(self):
        """Sort key: laws with few unknowns come first, shared ones before others."""
        sharing = ("shared", "class", "row").index(self.form.stencil.sharing)
        return sharing == 2, self.form.n_unknowns, any(self.form.periodic), self.form.stencil.conservative, sharing


class Trials:
    """Laws for samples, in order of complexity, as long as further ones may be better.

    The simplest stencils determine whether axes are periodic, whether constants are in the null space, and whether rows
    are equal; only the corresponding variants of further stencils are tried.
    """

    def __init__(self, cls, samples, options):
        self.cls, self.samples, self.options = cls, samples, options
        self.found: list[LawTrial] = []
        # If both are allowed, the better one for the first two-sided law is used for further ones.
        self.sharings = _BOTH if options.sharing == "auto" else (options.sharing,)
        if samples.adjacency is not None:  # every node of a mesh has an individual neighbourhood
            self.sharings = ("row",)
        self.done = max(DONE, 30 * samples.noise)

    @property
    def best(self):
        """The best trial so far."""
        return min(self.found, key=lambda t: (t.gain > SPURIOUS, t.error))

    @property
    def both_sides(self):
        """Whether a law with neighbours of f has been tried; on a mesh, only such laws explain white forcings."""
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
        """Possible combinations of periodic axes and of constants in the null space, according to previous trials."""
        found: dict = {}
        for t in self.found:
            stencil = t.form.stencil
            found.setdefault((t.form.periodic, (stencil.conservative,)), []).append(t.error)
        best = min(min(errors) for errors in found.values())
        return [variant for variant, errors in found.items() if min(errors) <= WORTHWHILE * best]

    def periods(self):
        """Candidate sets of periodic axes: those at whose ends u shows no boundary, or none."""
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
        """Whether f is about as smooth as u, as for states before and after a time step."""
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
            # A time step is two-sided: one-sided laws, none of which is accurate, would end the search prematurely.
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
        """Whether the options permit a stencil."""
        radius, shape, sides = self.options.radius, self.options.neighbourhood, self.options.two_sided
        return (
            radius in ("auto", stencil.of_u.radius)
            and (n_axes == 1 or self.options.symmetric is not True or not stencil.of_f.radius)
            and (shape == "auto" or n_axes == 1 or stencil.of_u.box == (shape == "box"))
            and (sides == "auto" or sides == (stencil.of_f.radius > 0))
        )

    def attempt(self, stencil, periodic, conservative):
        """Try laws with a stencil; if `conservative` is unknown, also with constants in the null space if possible."""
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
    """Error in u of a law, on the whole domain or a part of it, and its amplification relative to the samples."""
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
        inverse = SparseInverse(L, right=gauge, left=V, solver="direct")
        solved = inverse @ rhs
    except np.linalg.LinAlgError:
        return math.inf, math.inf
    with np.errstate(all="ignore"):
        error = float(np.mean(np.linalg.norm(solved - u, axis=0) / np.maximum(np.linalg.norm(u, axis=0), 1e-300)))
    gain = amplification(OperatorProduct([inverse, SparseMatrix(M)])) / largest_gain(local)
    return (error if math.isfinite(error) else math.inf), (gain if math.isfinite(gain) else math.inf)


def largest_gain(local):
    """Largest |u| / |f| of samples; one if all u are zero."""
    return float((local.U.flatten(1).norm(dim=1) / local.F.flatten(1).norm(dim=1).clamp_min(1e-300)).max()) or 1.0


def amplification(operator, n_steps=6):
    """Lower estimate of the largest gain |A f| / |f| of a map, by power iteration."""
    x = torch.randn(operator.shape[1], dtype=operator.dtype, generator=torch.Generator().manual_seed(0))
    gain = 0.0
    for _ in range(n_steps):
        y = operator @ (x / (x.norm() or 1.0))
        gain, x = float(y.norm()), operator.T @ y
    return gain


def part_of(local):
    """Points in a corner of the grid (n_points,), few enough for a quick solution; None for all."""
    most = _PART[min(len(local.points.shape), 3)] // len(local.pinned)
    if len(local.points) <= most:
        return None
    if local.points.is_mesh:
        return np.arange(len(local.points)) < most
    side = int(most ** (1 / len(local.points.shape)))
    return (local.points.coordinates < side).all(1)
