"""Laws M f = L u with sparse L and M from samples, by a small least-squares problem at every point.

At a point i, the law is f_i + sum_k m_k (D_k f)_i = sum_k l_k (D_k u)_i with differences D_k in a neighbourhood.
Without the m_k it is one-sided. As the weights of f sum to one, L and M have no common factor that vanishes on
constants.

Rows whose neighbourhoods have the same points form a class. A row is regularised towards the coefficients of its class,
and a class towards those of the rows with all neighbours, as weakly as the errors of the equations allow: for exact
samples, this affects only the coefficients they do not determine. Differences that vanish in all samples are not used.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch

from ._neighbourhoods import Differences, Neighbourhood

# Count of numbers in the small problems that are solved at a time.
_CHUNK = 1_000_000
# Assumed ratio of the errors of single equations to rounding errors.
_SAFETY = 2.0
_TINY = 1e-150
# Number of neighbouring rows that are fitted together, and the ratio of the mean squares of their joint and individual
# residuals up to which they are regarded as equal.
_TILE, _AGREEMENT = 128, 4.0
# Minimal number of equations per unknown for a class with the whole stencil.
_ENOUGH = 1.5
_POINT = Neighbourhood(0)


@dataclass(frozen=True)
class Stencil:
    """Neighbourhoods of a law, and the rows with equal coefficients.

    Attributes
    ----------
    of_u, of_f : Neighbourhood
        Neighbourhoods of u and f; the law is one-sided if that of f has radius 0.
    sharing : {"shared", "class", "row"}
        One set of coefficients for all rows, without those of missing neighbours; one for every class; or one for every
        row.
    conservative : bool
        Whether L maps constants to zero.
    """

    of_u: Neighbourhood
    of_f: Neighbourhood = _POINT
    sharing: str = "row"
    conservative: bool = False

    @property
    def compact(self):
        """Stencil for points near boundaries, if their class has too few points for the whole stencil."""
        return replace(
            self,
            of_u=replace(self.of_u, radius=min(self.of_u.radius, 1)),
            of_f=replace(self.of_f, radius=min(self.of_f.radius, 1)),
        )


@dataclass(frozen=True, eq=False)
class LocalLaw:
    """Sparse matrices with M f = L u.

    Attributes
    ----------
    L, M : sparse arrays of shape (n_values, n_values)
        Matrices of flat fields; where u is zero for every f, rows of L are those of the identity, and rows of M empty.
    undetermined : ndarray of bool, of shape (n_channels, n_points)
        Rows that the samples do not fully determine.
    """

    L: sp.csr_array
    M: sp.csr_array
    undetermined: np.ndarray


class LawFit:
    """Fits of laws with a given stencil to samples.

    Parameters
    ----------
    samples : LocalSamples
    stencil : Stencil
    part : ndarray of bool, of shape (n_points,), default=None
        Points whose rows are fitted; all if None.
    """

    def __init__(self, samples, stencil, part=None):
        self.samples = samples
        U = torch.where(samples.pinned, 0, samples.U)
        self.systems = [
            System(samples, U, rows, of_u, of_f, stencil.conservative)
            for rows, of_u, of_f in groups(samples, stencil, part)
        ]

    def law(self, sharing, *, examined=False):
        """The law for a type of sharing; if `examined`, with the rows that the samples do not determine.

        These are rows at which all samples vanish, as on nodal lines; and, for one-sided laws, individual rows with
        coefficients that are determined by the class. Two-sided laws have many equivalent forms.

        Returns
        -------
        LocalLaw
        """
        pinned = self.samples.pinned
        entries, undetermined = Entries(*pinned.shape), torch.zeros_like(pinned)
        for system in self.systems:
            coefficients, weight = system.solve("free" if self.samples.points.is_mesh else sharing)
            entries.add(system.rows, system.of_u, system.of_f, *system.split(coefficients))
            if examined and weight is not None and (self.samples.points.is_mesh or system.of_f.index.shape[1] == 1):
                undetermined[:, system.rows] = system.is_open(weight)
        L, M = entries.matrices(pinned.flatten())
        return LocalLaw(L, M, ((undetermined | self.samples.quiet) & ~pinned).numpy())


def groups(samples, stencil, part=None):
    """Rows with the whole stencil, and rows with the compact one; with their differences.

    Rows with missing neighbours have the whole stencil only if there are sufficiently many samples for their class.
    """
    points, silent = samples.points, samples.silent
    alive = ~samples.pinned.all(0)
    # On a boundary, u is known to be zero, but central differences would treat it as an interior point.
    whole = ~samples.pinned.any(0)
    rows = torch.nonzero(alive if part is None else alive & torch.from_numpy(part)).squeeze(-1)
    for current in dict.fromkeys([stencil, stencil.compact]):
        of_u, of_f = (points.neighbours(hood)[rows] for hood in (current.of_u, current.of_f))
        of_u = torch.where((of_u >= 0) & alive[of_u], of_u, -1)
        of_f = torch.where((of_f >= 0) & ~silent[of_f], of_f, -1)
        complete = (of_u >= 0).all(1) & whole[of_u].all(1) & (of_f >= 0).all(1) & (not points.is_mesh)
        taken = torch.ones_like(complete)
        if current != stencil.compact:
            there = torch.cat([of_u >= 0, of_f[:, 1:] >= 0], dim=1)
            counts = np.unique(packed(there), return_inverse=True, return_counts=True)[1:]
            equations = torch.from_numpy(counts[1][counts[0]]) * samples.n_samples
            taken = complete | (equations >= _ENOUGH * len(samples.pinned) * there.sum(1))
        if taken.any():
            yield (
                rows[taken],
                *(
                    Differences(index[taken], complete[taken], points.differences(hood))
                    for index, hood in ((of_u, current.of_u), (of_f, current.of_f))
                ),
            )
        rows = rows[~taken]
        if not len(rows):
            return


def packed(bits):
    """One value per row of a mask, equal for equal rows."""
    found = np.packbits(bits.numpy(), axis=1)
    return np.ascontiguousarray(found).view(f"V{found.shape[1]}").ravel()


class System:
    """The small least-squares problems of some rows, |C c - f|², with equal numbers of unknowns.

    Attributes
    ----------
    R : Tensor of shape (n_rows, m, width + n_channels)
        Triangular factors of the columns and the targets, in units of `typical` and `size`.
    error : Tensor of shape (n_rows, width)
        Rounding errors of the columns.
    there : Tensor of bool, of shape (n_rows, width)
        Columns in use.
    """

    def __init__(self, samples, U, rows, of_u, of_f, conservative):
        self.rows, self.of_u, self.of_f = rows, of_u, of_f
        F, pinned, noise = samples.F, samples.pinned, samples.noise
        self.coordinates = samples.points.coordinates[rows.numpy()]
        self.n_samples, self.n_channels = U.shape[:2]
        channels, k_f = range(self.n_channels), of_f.index.shape[1] - 1
        self.width = self.n_channels * (of_u.index.shape[1] + k_f)
        m = self.width + self.n_channels
        self.there = torch.cat(
            [of_u.there & ~pinned[b][of_u.index] for b in channels] + [of_f.there[:, 1:]] * self.n_channels, dim=1
        )
        if conservative:
            self.there[:, : self.n_channels * of_u.index.shape[1] : of_u.index.shape[1]] = False
        self.size = F.square().mean((0, 2)).sqrt()
        self.size = torch.where(self.size > 0, self.size, 1)

        def columns(chunk):
            on_u = [of_u[chunk].of(U[:, b]) for b in channels]
            return torch.cat(on_u + [of_f[chunk].of(F[:, b])[..., 1:] for b in channels], dim=-1)

        chunks = torch.arange(len(rows)).split(max(_CHUNK // (self.n_samples * m), 1))
        # Central differences have their own units.
        self.typical = U.new_ones(len(rows), self.width)
        for kind in (of_u.central, ~of_u.central):
            if kind.any():
                model = torch.nonzero(kind).squeeze(-1)
                squares = columns(model[:: max(len(model) // 10_000, 1)]).square().mean((0, 1))
                self.typical[kind] = torch.where(squares > 0, squares.sqrt(), 1)
        self.R = U.new_empty(len(rows), min(self.n_samples, m), m)
        self.error = U.new_empty(len(rows), self.width)
        sizes = [noise * Z.square().mean(0).sqrt() for Z in (U, F)]
        for chunk in chunks:
            C, f = columns(chunk), F[:, :, rows[chunk]].permute(2, 0, 1)
            self.R[chunk] = torch.linalg.qr(
                torch.cat([C / self.typical[chunk, None], f / self.size], dim=-1), mode="r"
            )[1]
            near = [around(sizes[0][b], of_u[chunk]) for b in channels]
            near += [around(sizes[1][b], of_f[chunk])[:, 1:] for b in channels]
            self.error[chunk] = torch.cat(near, dim=1) / self.typical[chunk]
        self.R[..., : self.width] *= self.there[:, None]

    def solve(self, sharing):
        """Coefficients (n_rows, width, n_channels), and the ridge weights of individual rows, or None."""
        prior = self.R.new_zeros(len(self.R), self.width, self.n_channels)
        if sharing != "free":
            prior = self.of_classes(sharing)
        if sharing in ("shared", "class"):
            return self.in_units(prior), None
        base = self.n_samples * self.error.square().unsqueeze(-1)
        own = self.ridge(base, prior)
        level = torch.maximum(self.misfit(own), self.rounding(own))
        if sharing == "row":
            for members in self.classes:
                level[members] = torch.maximum(level[members], level[members].median(0).values)
                if len(members) > 2 * _TILE:
                    prior[members], alike = self.of_tiles(members, level[members], prior[members])
                    # Rows that agree with those around them within their own residuals are regarded as equal to these.
                    level[members] = torch.where(alike, 1 / torch.finfo(level.dtype).eps, level[members])
        weight = base + level.unsqueeze(1)
        return self.in_units(self.ridge(weight, prior)), weight

    def of_tiles(self, members, level, prior):
        """Joint coefficients (n, width, n_channels) for each tile, and where they fit as well as individual ones."""
        K = self.width
        order = torch.from_numpy(self.near_each_other(members))
        n_tiles = -(-len(members) // _TILE)
        index = torch.linspace(0, len(members), n_tiles + 1).long()
        found, alike = torch.empty_like(prior), torch.zeros(len(members), self.n_channels, dtype=torch.bool)
        root = (level.amax(1) + _TINY).sqrt()
        for begin, end in zip(index[:-1].tolist(), index[1:].tolist(), strict=True):
            tile = order[begin:end]
            R = self.R[members[tile]] / root[tile, None, None]
            T = torch.linalg.qr(R.flatten(0, 1), mode="r")[1]
            weight = 1e-24 * T[:, :K].square().sum()
            for a in range(self.n_channels):
                target = torch.cat([T[:, :K], T[:, K + a, None]], dim=1)
                c = drawn(target, weight.expand(K), prior[tile[0], :, a])
                found[tile, :, a] = c
                misfit = float((target[:, K] - target[:, :K] @ c).square().sum()) / (len(tile) * self.n_samples)
                alike[tile, a] = misfit < _AGREEMENT
        return found, alike

    def near_each_other(self, members):
        """Order of rows in which those of each tile of the grid are consecutive."""
        where = self.coordinates[members.numpy()]
        side = max(round(_TILE ** (1 / where.shape[1])), 1)
        return np.lexsort(np.column_stack([where, where // side]).T)

    def rounding(self, coefficients):
        """Mean squares of the errors in the equations due to those of the columns (n_rows, n_channels)."""
        return _SAFETY**2 * (self.error.square().unsqueeze(-1) * coefficients.square()).sum(1)

    def ridge(self, weight, prior):
        """Minimise |R [c, -1]|² + sum weight (c - prior)² for every row; both (n_rows, width, n_channels)."""
        found, K = torch.empty_like(prior), self.width
        for chunk in torch.arange(len(self.R)).split(max(_CHUNK // (self.R.shape[-1] ** 2), 1)):
            R, there = self.R[chunk], self.there[chunk]
            for a in range(self.n_channels if weight.shape[-1] > 1 else 1):
                targets = slice(a, a + 1) if weight.shape[-1] > 1 else slice(None)
                root = torch.where(there, weight[chunk, :, a].sqrt() + _TINY, 1)
                rows = torch.cat([torch.diag_embed(root), root.unsqueeze(-1) * prior[chunk][..., targets]], dim=-1)
                both = torch.cat([R[..., :K], R[..., K:][..., targets]], dim=-1)
                T = torch.linalg.qr(torch.cat([both, rows], dim=1), mode="r")[1]
                found[chunk, :, targets] = torch.linalg.solve_triangular(T[:, :K, :K], T[:, :K, K:], upper=True)
        return torch.where(self.there.unsqueeze(-1), found, 0)

    def misfit(self, coefficients):
        """Mean squares of the residuals per degree of freedom (n_rows, n_channels)."""
        left = self.R[..., self.width :] - self.R[..., : self.width] @ coefficients
        freedom = self.n_samples - self.there.sum(1, keepdim=True)
        return torch.where(freedom > 0, left.square().sum(1) / freedom.clamp_min(1), 0)

    def is_open(self, weight):
        """Whether the ridge outweighs the samples for some combination of coefficients (n_channels, n_rows)."""
        found = []
        for chunk in torch.arange(len(self.R)).split(max(_CHUNK // self.R.shape[-1] ** 2, 1)):
            scaled = self.R[chunk, :, : self.width] / (weight[chunk].amax(-1).sqrt()[:, None] + _TINY)
            told = (torch.linalg.svdvals(scaled) > 1).sum(1)
            found.append(told < self.there[chunk].sum(1))
        return torch.cat(found).expand(self.n_channels, -1)

    @cached_property
    def classes(self):
        """Lists of rows with the same neighbours, those with all of them first, then the large ones."""
        keys = packed(torch.cat([self.of_u.central[:, None], self.there], dim=1))
        _, number, counts = np.unique(keys, return_inverse=True, return_counts=True)
        members = np.split(np.argsort(number, kind="stable"), np.cumsum(counts)[:-1])
        members.sort(key=lambda rows: (not self.of_u.central[rows[0]], -len(rows)))
        return [torch.from_numpy(rows) for rows in members]

    def of_classes(self, sharing):
        """Coefficients of the class of every row."""
        found = self.R.new_zeros(len(self.R), self.width, self.n_channels)
        for k, members in enumerate(self.classes):
            first, inner = members[:1], self.classes[0][:1]
            towards = found[:1] if k == 0 else self.restricted(found[inner], inner, first)
            if k == 0 or sharing != "shared":
                towards = self.pooled(members, towards[0])
            found[members] = towards
        return found

    def pooled(self, members, prior):
        """Joint coefficients for several rows, regularised towards given ones."""
        there, found = self.there[members[0]], torch.zeros_like(prior)
        used = torch.cat([there, there.new_ones(self.n_channels)])
        T = self.R.new_zeros(0, int(used.sum()))
        for some in members.split(max(_CHUNK // self.R[0].numel(), 1)):
            T = torch.linalg.qr(torch.cat([T, self.R[some].flatten(0, 1)[:, used]]), mode="r")[1]
        k, n_equations = int(there.sum()), len(members) * self.n_samples
        error = self.error[members].square().mean(0)[there]
        freedom = max(n_equations - k, 1)
        for a in range(self.n_channels):
            target = torch.cat([T[:, :k], T[:, k + a, None]], dim=1)
            weight = n_equations * error
            c = drawn(target, weight, prior[there, a])
            misfit = (target[:, k] - target[:, :k] @ c).square().sum() / freedom if n_equations > k else 0.0
            level = max(float(misfit), float(_SAFETY**2 * (error * c.square()).sum()))
            found[there, a] = drawn(target, weight + level, prior[there, a])
        return found

    # Between coefficients and weights of values

    def in_units(self, c, rows=slice(None)):
        return c * self.size / self.typical[rows, :, None]

    def split(self, c, rows=slice(None)):
        """Convert coefficients to weights of the values of u and f, (n_rows, n_channels of the values, k, n_channels).

        `c` are the coefficients of all rows or of some.
        """
        k_u, k_f = self.of_u.index.shape[1], self.of_f.index.shape[1]
        on_u, on_f = c.split([self.n_channels * k_u, self.n_channels * (k_f - 1)], dim=1)
        on_u, on_f = on_u.unflatten(1, (self.n_channels, k_u)), on_f.unflatten(1, (self.n_channels, k_f - 1))
        on_f = torch.cat([torch.zeros_like(on_u[:, :, :1]), on_f], dim=2)
        return tuple(
            torch.stack([differences[rows].weights(w) for w in on.unbind(1)], dim=1)
            for differences, on in ((self.of_u, on_u), (self.of_f, on_f))
        )

    def restricted(self, c, of, to):
        """Coefficients of a row with the weights of another row, restricted to its own neighbours."""
        on_u, on_f = self.split(self.in_units(c, of), of)
        parts = [self.of_u[to].coefficients(w) for w in on_u.unbind(1)]
        parts += [self.of_f[to].coefficients(w)[:, 1:] for w in on_f.unbind(1)]
        c = torch.where(self.there[to].unsqueeze(-1), torch.cat(parts, dim=1), 0)
        return c * self.typical[to, :, None] / self.size


def drawn(T, weight, prior):
    """Minimise |T [c, -1]|² + sum weight (c - prior)²."""
    root = weight.sqrt() + _TINY
    rows = torch.cat([torch.diag(root), (root * prior)[:, None]], dim=1)
    S = torch.linalg.qr(torch.cat([T, rows]), mode="r")[1]
    return torch.linalg.solve_triangular(S[:-1, :-1], S[:-1, -1:], upper=True).squeeze(-1)


def around(sizes, differences):
    """Errors of differences, given the errors at the points."""
    near = torch.cat([sizes, sizes.new_zeros(1)])[differences.index].square()
    count = differences.there.sum(1, keepdim=True)
    return (near.sum(1, keepdim=True) / count).sqrt() * differences.rounding


class Entries:
    """Accumulator for the entries of L and M."""

    def __init__(self, n_channels, n_points):
        self.n_channels, self.n_points = n_channels, n_points
        self.of_L, self.of_M = [], []

    def add(self, rows, of_u, of_f, on_u, on_f):
        """Take the weights of the values at the neighbours of some rows."""
        for b in range(self.n_channels):
            for a in range(self.n_channels):
                self._put(self.of_L, rows, of_u.index, on_u[:, b, :, a], a, b)
                own = -on_f[:, b, :, a]
                if a == b:
                    own[:, 0] += 1
                self._put(self.of_M, rows, of_f.index, own, a, b)

    def _put(self, entries, rows, index, values, a, b):
        there = (index >= 0) & (values != 0)
        row = (rows + a * self.n_points)[:, None].expand_as(index)
        entries.append(torch.stack([row, index + b * self.n_points]).movedim(0, -1)[there].mT.numpy())
        entries.append(values[there].numpy())

    def matrices(self, pinned):
        """L and M; pinned rows of L are those of a multiple of the identity, of M they are empty."""
        n, made = self.n_channels * self.n_points, []
        for entries in (self.of_L, self.of_M):
            where, values = (np.concatenate(z, axis=-1) for z in (entries[::2], entries[1::2]))
            keep = ~pinned.numpy()[where[0]]
            made.append(sp.csr_array((values[keep], tuple(where[:, keep])), shape=(n, n)))
        L, M = made
        # Of the size of the others, so that the matrix is no worse conditioned than need be.
        size = float(np.median(np.abs(L.diagonal())[~pinned.numpy()])) or 1.0
        return sp.csr_array(L + sp.diags_array(size * pinned.numpy())), M
