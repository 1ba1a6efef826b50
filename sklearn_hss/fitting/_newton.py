"""Nonlinear local laws M f = N(u), solved for u by Newton's method with sparse Jacobians."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu

from ._polynomials import Polynomial

# Relative step size at which a solution has converged, since convergence is quadratic.
_CONVERGED = 1e-8
# Maximal numbers of Newton steps, of halvings of a step, and of continuation steps from a known forcing.
_STEPS, _HALVINGS, _PARTS = 40, 12, 200
# Shortest continuation step, and number of Newton steps in each.
_SHORTEST, _STEPS_OF_PART = 1 / 512, 12


@dataclass(frozen=True, eq=False)
class NonlinearInverse:
    """Solutions u of M f = N(u).

    Attributes
    ----------
    law : Polynomial
        N, at the points of the domain.
    M : sparse array of shape (n_values, n_values)
    free : ndarray of bool, of shape (n_values,)
        Values of u that are unknown; the others are zero.
    grid_in : tuple of int
        Grid of the fields, channels first if there are several.
    known : pair of ndarrays of shape (n_values, n_samples)
        Forcings and their solutions, as initial values.
    averages : tuple of (str, int, float)
        Names of the differences of f in M, such as ``f_xx``, with their channels and coefficients. A star marks those
        that apply to some rows only.
    """

    law: Polynomial
    M: sp.csr_array
    free: np.ndarray
    grid_in: tuple[int, ...]
    known: tuple[np.ndarray, np.ndarray] = field(repr=False)
    averages: tuple[tuple[str, int, float], ...] = ()

    @property
    def grid_out(self):
        """Grid of the solutions, which is that of the forcings."""
        return self.grid_in

    @property
    def shape(self):
        """Shape of the map between flat fields."""
        return len(self.free), len(self.free)

    @property
    def n_parameters(self):
        """Number of coefficients of both sides."""
        return len(self.averages) + sum(int(np.count_nonzero(c)) for c in self.law.coefficients)

    @property
    def degree(self):
        """Degree of the polynomial."""
        return max(
            (int(group.degrees[c.any(axis=1)].max(initial=0)) for group, c in self._with_coefficients), default=0
        )

    @property
    def _with_coefficients(self):
        return list(zip(self.law.groups, self.law.coefficients, strict=True))

    def table(self):
        """Terms with their coefficients, as dictionaries."""
        n_channels = self.law.n_channels
        names = [name for group in self.law.groups for name in group.names(channel_names("u", n_channels))]
        coefficients = np.concatenate(self.law.coefficients)
        found = [{"side": "f", "term": name, "channel": a, "coefficient": c} for name, a, c in self.averages]
        for a in range(n_channels):
            found += [
                {"side": "u", "term": name, "channel": a, "coefficient": float(c)}
                for name, c in zip(names, coefficients[:, a], strict=True)
                if c and name != "*"
            ]
        return found

    def formula(self):
        """The law with one line per channel."""
        lines, table = [], self.table()
        for a, f in enumerate(channel_names("f", self.law.n_channels)):
            sides = []
            for side, text in (("f", f), ("u", "")):
                for row in table:
                    if (row["side"], row["channel"]) == (side, a) and "*" not in row["term"]:
                        sign = "-" if row["coefficient"] < 0 else "+"
                        factors = [f"{abs(row['coefficient']):.4g}", row["term"]]
                        term = " ".join([factor for factor in factors if factor != "1"]) or "1"
                        text += f" {sign} {term}" if text else f"{sign if sign == '-' else ''}{term}"
                sides.append(text or "0")
            lines.append(" = ".join(sides))
        return "\n".join(lines)

    def linear_matrix(self):
        """Matrix of N for a law with linear terms only, with unit diagonal entries for known values."""
        linear = self.law._parts[1]
        n, free = len(self.free), sp.diags_array(self.free.astype(float))
        L = sp.csr_array((n, n)) if linear is None else free @ linear @ free
        return sp.csr_array(L + sp.diags_array((~self.free).astype(float)))

    def apply(self, fields):
        """Solutions (n_samples, *grid) for forcings; NaN if none was found, so that such a law is not chosen."""
        U, converged = self.solve(fields.flatten(1).numpy().T)
        return torch.from_numpy(np.where(converged, U, np.nan).T.copy()).view(fields.shape)

    def __matmul__(self, F):
        """Solutions for flat forcings in columns; the last iterate if none was found."""
        return self.solve(F)[0]

    def in_channel_units(self, rows, columns):
        """The map in other units: u is multiplied by `rows`, and f by 1 / `columns`, channel by channel."""
        rows, columns = np.asarray(rows, dtype=np.float64), np.asarray(columns, dtype=np.float64)
        coefficients = []
        for group, c in zip(self.law.groups, self.law.coefficients, strict=True):
            channels = [feature.channel for feature in group.features]
            units = np.prod(rows[channels] ** -group.powers.astype(float), axis=1) if channels else np.ones(len(c))
            coefficients.append(c * units[:, None] / columns)
        per_value = [np.repeat(z, len(self.free) // len(z)) for z in (rows, columns)]
        known = self.known[0] / per_value[1][:, None], self.known[1] * per_value[0][:, None]
        # Channels of f do not mix in M.
        return replace(self, law=replace(self.law, coefficients=tuple(coefficients)), known=known)

    def sides(self, F, U):
        """M f and N(u) for flat fields in columns, at the unknowns; zero elsewhere."""
        return self.M @ F, np.where(self.free[:, None], self.law(U), 0)

    # Newton

    @cached_property
    def _jacobian(self):
        return Jacobian(self.law, self.free)

    def solve(self, F):
        """Solutions for forcings in columns.

        Newton's method starts from the solution of the nearest known forcing. If it fails, solutions are continued from
        there; if that fails as well, they are continued from zero forcing, where the linear terms dominate.

        Parameters
        ----------
        F : ndarray of shape (n_values, n_samples)

        Returns
        -------
        U : ndarray of shape (n_values, n_samples)
        converged : ndarray of bool, of shape (n_samples,)
        """
        F = np.asarray(F, dtype=np.float64)
        rhs, known = (self.M @ F)[self.free], (self.M @ self.known[0])[self.free]
        distances = np.square(rhs).sum(0)[:, None] - 2 * rhs.T @ known + np.square(known).sum(0)
        nearest = np.argmin(distances, axis=1)
        near = known[:, nearest], self.known[1][self.free][:, nearest]
        with np.errstate(all="ignore"):
            solved, converged = self._newton(rhs, near[1], _STEPS)
            for start in (near, (np.zeros_like(rhs), np.zeros_like(rhs))):
                if not (left := np.flatnonzero(~converged)).size:
                    break
                solved[:, left], converged[left] = self._followed(rhs[:, left], *(z[:, left] for z in start))
        U = np.zeros_like(F)
        U[self.free] = np.where(np.isfinite(solved), solved, 0)
        return U, converged

    def _followed(self, rhs, rhs_known, u):
        """Solutions by continuation in the forcing, from known ones."""
        way, length = np.zeros(rhs.shape[1]), np.full(rhs.shape[1], 0.25)
        u, first = u.copy(), np.ones(rhs.shape[1], dtype=bool)
        for _ in range(_PARTS):
            going = np.flatnonzero((way < 1) & (length >= _SHORTEST))
            if not going.size:
                break
            # The known state may be rounded, or solve another law, so the first step of length zero corrects it.
            ahead = np.where(first[going], 0.0, np.minimum(way[going] + length[going], 1.0))
            part = rhs_known[:, going] + ahead * (rhs[:, going] - rhs_known[:, going])
            new, fine = self._newton(part, u[:, going], _STEPS_OF_PART)
            u[:, going[fine]], way[going[fine]] = new[:, fine], ahead[fine]
            length[going] = np.where(fine, np.where(first[going], 1, 2), 0.5) * length[going]
            length[going[first[going] & ~fine]] = 0.0
            first[going] = False
        return u, way >= 1

    def _residual(self, u, rhs):
        U = np.zeros((len(self.free), u.shape[1]))
        U[self.free] = u
        return self.law(U)[self.free] - rhs

    def _newton(self, rhs, u, n_steps):
        """Solutions from an initial value, with steps that reduce the residual."""
        u, converged = u.copy(), np.zeros(rhs.shape[1], dtype=bool)
        residual, going = self._residual(u, rhs), np.arange(rhs.shape[1])
        for _ in range(n_steps):
            if not going.size:
                break
            step = self._jacobian.solve(u[:, going], residual[:, going])
            size = np.linalg.norm(residual[:, going], axis=0)
            small = np.linalg.norm(step, axis=0) <= _CONVERGED * np.linalg.norm(u[:, going], axis=0)
            small |= size == 0
            factor, trying = np.ones(going.size), np.arange(going.size)
            lost = ~np.isfinite(step).all(0)
            for _ in range(_HALVINGS):
                at = going[trying]
                new = u[:, at] - factor[trying] * step[:, trying]
                left = self._residual(new, rhs[:, at])
                # If the step is at rounding level, so is the change of the residual.
                fine = (np.linalg.norm(left, axis=0) < (1 - 1e-4 * factor[trying]) * size[trying]) | small[trying]
                fine &= np.isfinite(left).all(0)
                u[:, at[fine]], residual[:, at[fine]] = new[:, fine], left[:, fine]
                trying = trying[~fine]
                if not trying.size:
                    break
                factor[trying] /= 2
            lost[trying] = True
            converged[going[small & ~lost]] = True
            going = going[~small & ~lost]
        return u, converged


def channel_names(letter, n_channels):
    """Names of the channels of a field in formulas."""
    return [letter] if n_channels == 1 else [f"{letter}{a + 1}" for a in range(n_channels)]


class Jacobian:
    """Jacobians of a polynomial at several fields, with a common sparsity pattern.

    Parameters
    ----------
    law : Polynomial
    free : ndarray of bool, of shape (n_values,)
        Rows and columns.
    """

    def __init__(self, law, free):
        self.law, self.free = law, free
        parts, linear = law._parts
        number = np.full(len(free), -1)
        number[free] = np.arange(free.sum())
        self.n = int(free.sum())
        rows, columns, sources, values, n_slopes = [], [], [], [], 0
        for group, c in parts:
            if not group.features:  # a constant
                continue
            n_rows = group.features[0].matrix.shape[0]
            out = sp.eye_array(n_rows, format="coo") if group.divergence is None else sp.coo_array(group.divergence)
            for feature in group.features:
                S = sp.csr_array(feature.matrix)
                counts = np.diff(S.indptr)[out.col]
                entry = np.repeat(np.arange(out.nnz), counts)
                within = np.arange(len(entry)) - np.repeat(np.cumsum(counts) - counts, counts)
                at = S.indptr[out.col[entry]] + within
                for a in range(len(c)):
                    rows.append(out.row[entry] + a * law.n_points)
                    columns.append(S.indices[at])
                    sources.append(out.col[entry] + n_slopes)
                    values.append(out.data[entry] * S.data[at])
                    n_slopes += n_rows
        fixed = sp.coo_array((len(free), len(free)) if linear is None else linear)
        rows.append(fixed.row)
        columns.append(fixed.col)
        sources.append(np.full(fixed.nnz, n_slopes))  # times one
        values.append(fixed.data)
        row, column = number[np.concatenate(rows)], number[np.concatenate(columns)]
        kept = (row >= 0) & (column >= 0)
        keys, entry = np.unique(column[kept] * self.n + row[kept], return_inverse=True)
        self.indices = (keys % self.n).astype(np.int32)
        self.indptr = np.searchsorted(keys, self.n * np.arange(self.n + 1)).astype(np.int32)
        source, value = np.concatenate(sources)[kept], np.concatenate(values)[kept]
        self.assembly = sp.csr_array((value, (entry, source)), shape=(len(keys), n_slopes + 1))

    def data(self, u):
        """Entries (n_entries, batch) of the Jacobians at unknowns in columns."""
        U = np.zeros((len(self.free), u.shape[1]))
        U[self.free] = u
        slopes = [by_feature.reshape(-1, u.shape[1]) for _, by_feature in self.law.at(U).slopes]
        return self.assembly @ np.concatenate([*slopes, np.ones((1, u.shape[1]))])

    def solve(self, u, residual):
        """Newton steps; NaN where a Jacobian is singular."""
        steps, data = np.full(u.shape, np.nan), np.ascontiguousarray(self.data(u).T)
        for k in range(u.shape[1]):
            J = sp.csc_array((data[k], self.indices, self.indptr), shape=(self.n, self.n))
            try:
                steps[:, k] = splu(J, permc_spec="MMD_AT_PLUS_A").solve(np.ascontiguousarray(residual[:, k]))
            except (RuntimeError, ValueError):  # singular, or not finite
                continue
        return steps
