"""Coefficients of a law du/dt = N(u) by shooting: the law is integrated from the first to the second state of pairs."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from ._integrators import ByCoefficient, stable_integrator
from ._polynomials import Polynomial

# Count of numbers in the derivatives that are computed at a time.
_CHUNK = 800_000
# Relative size of singular values of scaled derivatives below which coefficients are undetermined.
_OPEN = 1e-10
# Largest damping of a Gauss-Newton step before it is abandoned.
_STUCK = 1e8
# Largest error of the integration relative to the residual of the law.
_NEGLIGIBLE = 0.1
# Number of attempts at an unstable integration, with increasing numbers of steps.
_ATTEMPTS = 4
# Relative accuracy of the integration that is always sufficient.
_ACCURATE = 1e-10
# Growth of states in a step above which the integration is at first regarded as unstable.
_GROWN = 10.0
# Residuals above this indicate unstable integrations.
_UNSTABLE = 1e50
# Number of steps above which laws are too stiff to be useful.
_MOST_STEPS = 4000


@dataclass(frozen=True, eq=False)
class Pairs:
    """States and those a time later, in columns.

    Attributes
    ----------
    Z : ndarray of shape (n_values, n_pairs)
        States, followed by the parameters.
    U : ndarray of shape (n, n_pairs)
        States a time later.
    time : float
    roots : ndarray of shape (n, n_pairs)
        Square roots of the weights of the values.
    chain : ndarray of int, of shape (n_pairs,)
        Index of the trajectory to which a pair belongs; the pairs of a trajectory are consecutive.
    """

    Z: np.ndarray
    U: np.ndarray
    time: float
    roots: np.ndarray
    chain: np.ndarray

    def __len__(self):
        return self.Z.shape[1]

    def pick(self, index):
        """Some of the pairs."""
        return replace(
            self, Z=self.Z[:, index], U=self.U[:, index], roots=self.roots[:, index], chain=self.chain[index]
        )

    def weighted(self, rows):
        """The pairs with additional weights of the rows (n,)."""
        return replace(self, roots=self.roots * np.sqrt(rows)[:, None])

    @property
    def states(self):
        """First states without parameters."""
        return self.Z[: len(self.U)]

    def trajectories(self):
        """Lists of indices of the pairs of every trajectory."""
        starts = np.flatnonzero(np.diff(self.chain, prepend=self.chain[:1] - 1))
        return np.split(np.arange(len(self)), starts[1:])


def error(pairs, predicted):
    """Mean relative error of predictions for pairs, over values with weight; capped where they are not finite."""
    norms = np.linalg.norm(np.nan_to_num(pairs.roots * (pairs.U - predicted), nan=np.inf), axis=0)
    sizes = np.linalg.norm(pairs.roots * pairs.U, axis=0)
    typical = sizes.mean() or 1.0
    return float(np.minimum(norms / np.maximum(sizes, 1e-8 * typical), 10.0).mean())


@dataclass(frozen=True, eq=False)
class Law:
    """A polynomial given by coefficients of some of the terms of a pool.

    Attributes
    ----------
    groups : tuple of Terms
    slots : tuple of (group, term, channel)
    values : ndarray of shape (n_slots,)
    n_channels : int
    """

    groups: tuple
    slots: tuple
    values: np.ndarray
    n_channels: int

    @cached_property
    def polynomial(self):
        """The polynomial."""
        coefficients = [np.zeros((len(group), self.n_channels)) for group in self.groups]
        for (g, t, c), value in zip(self.slots, self.values, strict=True):
            coefficients[g][t, c] = value
        return Polynomial(self.groups, tuple(coefficients))

    def with_slots(self, slots):
        """The law with further terms, whose coefficients are zero."""
        slots = tuple(slots)
        return replace(self, slots=self.slots + slots, values=np.concatenate([self.values, np.zeros(len(slots))]))

    def without(self, dropped):
        """The law without the slots of some indices."""
        kept = np.setdiff1d(np.arange(len(self.slots)), dropped)
        return replace(self, slots=tuple(self.slots[k] for k in kept), values=self.values[kept])


def advance(law, integrator, Z):
    """States a time later (n, batch), with more steps for unstable ones; NaN if they remain unstable.

    Parameters
    ----------
    law : Law
    integrator : Integrator
    Z : ndarray of shape (n_values, batch)
    """
    needed, size = stable_integrator(law.polynomial, Z, integrator.time), np.abs(Z).max()
    if integrator.work < needed.work and needed.n_steps <= _MOST_STEPS:
        integrator = needed
    found = integrator.flow(law.polynomial, Z)[0]
    for _ in range(_ATTEMPTS):
        bad = np.flatnonzero(~(np.abs(found).max(axis=0) < _GROWN * size))
        if not len(bad):
            break
        integrator = integrator.finer()
        found[:, bad] = integrator.flow(law.polynomial, Z[:, bad])[0]
    else:
        found[:, bad] = np.where(np.isfinite(found[:, bad]).all(axis=0), found[:, bad], np.nan)
    return found


class Shooting:
    """Least squares over pairs.

    Parameters
    ----------
    pairs : Pairs
    scales : ndarray of shape (n,)
        Divisors of the rows of residuals.
    lines : list of Lines
        Of every channel, for smoothing.
    """

    def __init__(self, pairs, scales, lines, least=4):
        self.pairs, self.lines, self.least = pairs, lines, least
        self.weights = pairs.roots / scales[:, None]
        self._smoothers: dict = {}

    def smoothed(self, R, scale):
        """Solutions v of (1 - scale² Laplace) v = R in every channel, in units of the grid, for rows R (n, ...)."""
        if not scale:
            return R
        if scale not in self._smoothers:
            line = self.lines[0]
            A = sp.eye_array(len(line))
            for axis in range(len(line.shape)):
                for offset in (-1, 1):
                    beside = sp.csr_array((len(line), len(line))).tolil()
                    beside[line.points] = line.shift(axis, offset)
                    there = sp.diags_array(np.isin(np.arange(len(line)), line.points) * 1.0)
                    A = A + scale**2 * (there - abs(sp.csr_array(beside)))
            self._smoothers[scale] = splu(sp.csc_array(A))
        found = R.reshape(len(R), -1).copy()
        for block in np.split(found, len(R) // len(self.lines[0])):
            block[:] = self._smoothers[scale].solve(block)
        return found.reshape(R.shape)

    def integrator(self, law):
        """Integrator that is stable for a law at the states and their successors."""
        found = stable_integrator(law.polynomial, self.pairs.Z, self.pairs.time, self.least)
        return found if found.n_steps <= _MOST_STEPS else replace(found, n_steps=_MOST_STEPS)

    def residual(self, law, integrator, scale=0):
        """Weighted differences (n, n_pairs) from the later states of the pairs."""
        reached, _ = integrator.flow(law.polynomial, self.pairs.Z)
        with np.errstate(over="ignore", invalid="ignore"):
            left = self.weights * (self.pairs.U - reached)
            # Large residuals are rejected before their squares overflow.
            return self.smoothed(left, scale) if np.abs(left).max() < _UNSTABLE else np.full_like(left, np.nan)

    def factor(self, law, integrator, scale=0):
        """Triangular factor of the derivatives and the residual (n_slots + 1 columns)."""

        def columns(Z, _):
            reached, D = integrator.flow(law.polynomial, Z, law.slots)
            return D, reached

        return self.triangle(columns, len(law.slots), scale)

    def averaged(self, law, integrator, slots, n_nodes=4):
        """Factor of the mean contributions of `slots` over the time, without propagation, and of the residual."""
        h, n = self.pairs.time / n_nodes, len(self.pairs.U)
        short = replace(integrator, time=h, n_steps=-(-integrator.n_steps // n_nodes))
        rates = ByCoefficient(law.polynomial, slots)

        def columns(Z, _):
            Z, total = Z.copy(), 0
            for node in range(n_nodes + 1):
                total = total + (h / 2 if node in (0, n_nodes) else h) * rates(Z)
                if node < n_nodes:
                    Z[:n] = short.flow(law.polynomial, Z)[0]
            return total, Z[:n]

        return self.triangle(columns, len(slots))

    def between(self, law, slots):
        """Factor of the contributions of `slots` by the trapezoidal rule, and of the difference of both states."""
        n, rates = len(self.pairs.U), ByCoefficient(law.polynomial, slots)

        def columns(Z, U):
            after = np.concatenate([U, Z[n:]])
            return self.pairs.time / 2 * (rates(Z) + rates(after)), Z[:n]

        return self.triangle(columns, len(slots))

    def triangle(self, columns, n_slots, scale=0):
        """Triangular factor of weighted columns and of the residual of the later states, some pairs at a time.

        `columns` takes states and later states, and returns columns (n, batch, n_slots) and predictions (n, batch).
        """
        R = np.zeros((0, n_slots + 1))
        n_parts = max(-(-self.pairs.U.size * (n_slots + 1) // _CHUNK), 1)
        for part in np.array_split(np.arange(len(self.pairs)), min(n_parts, len(self.pairs))):
            U, w = self.pairs.U[:, part], self.weights[:, part]
            D, reached = columns(self.pairs.Z[:, part], U)
            with np.errstate(over="ignore", invalid="ignore"):
                both = np.concatenate([w[..., None] * D, (w * (U - reached))[..., None]], axis=2)
                rows = self.smoothed(both, scale).reshape(-1, n_slots + 1)
            if not np.isfinite(rows).all():
                return np.full((n_slots + 1, n_slots + 1), np.nan)
            R = _triangle(np.concatenate([R, rows]))
        return R

    def cost(self, law, integrator, scale=0):
        """Norm of the residual, and an integrator that is stable for a law: the given one, or a finer one.

        Infinite if none of those tried is stable.
        """
        for _ in range(_ATTEMPTS):
            cost = np.linalg.norm(self.residual(law, integrator, scale))
            if np.isfinite(cost) or 2 * integrator.n_steps > _MOST_STEPS:
                break
            integrator = integrator.finer()
        return float(cost) if np.isfinite(cost) else np.inf, integrator

    def refine(self, law, *, scale=0, most=20, tol=1e-2):
        """Levenberg-Marquardt steps from a law.

        Returns
        -------
        law : Law
        cost : float
            Norm of the residual; infinite if the law is unstable.
        R : ndarray or None
            Factor at the law, as :meth:`factor` gives it, where it is known.
        integrator : Integrator
            One that is accurate enough for the law.
        """
        cost, integrator = self.cost(law, self.integrator(law), scale)
        damping, R = 1e-3, None
        for _ in range(most if np.isfinite(cost) else 0):
            R = self.factor(law, integrator, scale)
            trial, new, damping = self.step(law, R, integrator, cost, damping, scale)
            if trial is None:
                break
            # A stable step size may be too large after a change of the law.
            enough = max(self.integrator(trial), integrator, key=lambda scheme: scheme.work)
            if enough is not integrator:
                new, enough = self.cost(trial, enough, scale)
                if not np.isfinite(new):
                    break
            gain, law, cost, R, integrator = 1 - new / cost, trial, new, None, enough
            damping = max(damping / 10, 1e-14)
            if gain < tol:
                finer = self.accurate(law, integrator)
                if finer is integrator:
                    break
                cost, integrator = self.cost(law, finer, scale)
        return law, cost, R, integrator

    def step(self, law, R, integrator, cost, damping, scale):
        """A damped Gauss-Newton step that reduces the cost: law, cost and damping; law is None if there is none."""
        norms = np.linalg.norm(R[:, :-1], axis=0)
        if np.isfinite(norms).all():
            norms = np.where(norms > 0, norms, 1)
            W, s, V = np.linalg.svd(R[:, :-1] / norms, full_matrices=False)
            target, kept = W.T @ R[:, -1], s > _OPEN * s[:1]
            while damping < _STUCK:
                change = V.T @ np.where(kept, s / (s**2 + damping) * target, 0) / norms
                trial = replace(law, values=law.values + change)
                new = np.linalg.norm(self.residual(trial, integrator, scale))
                if new < cost:
                    return trial, float(new), damping
                damping *= 10
        return None, cost, damping

    def accurate(self, law, integrator):
        """The integrator, or a finer one if its errors are not negligible compared with the residual of the law."""
        finer = integrator.finer()
        if finer.n_steps > _MOST_STEPS:
            return integrator
        some = np.unique(np.linspace(0, len(self.pairs) - 1, 4).astype(int))
        pairs, w = self.pairs.pick(some), self.weights[:, some]
        both = [scheme.flow(law.polynomial, pairs.Z)[0] for scheme in (integrator, finer)]
        difference, left = (np.linalg.norm(w * (U - both[1])) for U in (both[0], pairs.U))
        matters = difference > max(_NEGLIGIBLE * left, _ACCURATE * np.linalg.norm(w * pairs.U))
        return finer if matters else integrator


def _triangle(A) -> np.ndarray:
    """Triangular factor of a matrix."""
    return np.linalg.qr(A, mode="r")  # type: ignore[return-value]


def gains(R, chosen):
    """Part of the last column's square that each column explains beyond the chosen ones (n_columns,), and the rest.

    Parameters
    ----------
    R : ndarray of shape (n_rows, n_columns + 1)
    chosen : list of int
    """
    A, y = R[:, :-1], R[:, -1]
    Q = np.linalg.qr(A[:, chosen])[0] if len(chosen) else np.zeros((len(A), 0))
    y = y - Q @ (Q.T @ y)
    before = np.linalg.norm(A, axis=0)
    A = A - Q @ (Q.T @ A)
    after = np.linalg.norm(A, axis=0)
    free = after > 1e-6 * np.where(before > 0, before, np.inf)
    found = np.where(free, (A.T @ y) ** 2 / np.where(free, after, 1) ** 2, 0)
    found[chosen] = 0
    return found, float(y @ y)


def least_squares(R, values):
    """Columns of unit norm, their norms, and the target of the coefficients themselves, of a factor at `values`."""
    A, y = R[:, :-1], R[:, :-1] @ values + R[:, -1]
    norms = np.linalg.norm(A, axis=0)
    norms = np.where(norms > 0, norms, 1)
    return A / norms, norms, y


def eliminated(R, values, allowed, complexity):
    """Remove slots one by one, refitting the others to first order, while the cost stays below a bound.

    Parameters
    ----------
    R : ndarray of shape (n_rows, n_slots + 1)
        Factor as of :meth:`Shooting.factor`, at the coefficients `values`.
    values : ndarray of shape (n_slots,)
    allowed : float
        Largest norm of the residual, relative to that with all slots.
    complexity : ndarray of shape (n_slots,)
        Factors by which slots must explain more to be kept.

    Returns
    -------
    kept : list of int
    fitted : ndarray of shape (n_kept,)
        Coefficients.
    """
    A, norms, y = least_squares(R, values)
    # A small regularisation selects among combinations that the pairs do not distinguish.
    A = np.concatenate([A, _OPEN**0.5 * np.eye(A.shape[1])])
    y = np.concatenate([y, np.zeros(A.shape[1])])
    kept, bound = list(range(A.shape[1])), None
    while True:
        T = _triangle(np.column_stack([A[:, kept], y]))
        n = len(kept)
        c = np.linalg.solve(T[:n, :n], T[:n, n])
        square = T[n, n] ** 2 if len(T) > n else 0.0
        if bound is None:
            bound = allowed**2 * square
        inverse = np.linalg.inv(T[:n, :n])
        rises = c**2 / np.square(inverse).sum(axis=1)
        k = int(np.argmin(np.where(square + rises <= bound, rises / complexity[kept], np.inf)))
        if n == 1 or square + rises[k] > bound:
            return kept, c / norms[kept]
        kept.pop(k)
