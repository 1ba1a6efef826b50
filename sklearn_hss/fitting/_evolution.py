"""Local laws du/dt = N(u) from pairs of states, and estimates of their errors."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from ._ends import find_ends, shared_conditions
from ._growth import Growth, make_pool, rollout_error
from ._integrators import Integrator
from ._least_squares import RidgeRegression
from ._reflections import Lines
from ._shooting import Law, Pairs, Shooting, advance, error

# Count of values, and number of pairs, from which terms are selected, and held-out fraction of the pairs, or of space.
_GROWTH, _MOST_PAIRS, _HELD_OUT = 150_000, 24, 0.2
# Relative size of states below which the weights of pairs are not increased further.
_SMALL = 1e-2


@dataclass(frozen=True, eq=False)
class Evolution:
    """A law for pairs of states, and its error estimates.

    Attributes
    ----------
    law : Law
    integrator : Integrator
    lines : list of Lines
        Of every channel.
    linear : RidgeStep
        Ridge regression of the increments, as an alternative.
    errors : dict of str to float
        Mean relative errors for held-out pairs of "law", "rollout" (over the steps of held-out trajectories), "ridge"
        and "persistence".
    verified, independent : bool
        Whether pairs, or a part of space, were held out; and whether these pairs belong to other trajectories.
    residual : float
        Mean relative error of the law for all pairs.
    candidates : list of dict
        The candidate laws.
    """

    law: Law
    integrator: Integrator
    lines: list
    linear: "RidgeStep"
    errors: dict
    verified: bool
    independent: bool
    residual: float
    candidates: list

    def step(self, Z):
        """States a step later (n, batch) of states and parameters in columns; NaN where the law is unstable."""
        return advance(self.law, self.integrator, Z)


class RidgeStep:
    """Ridge regression of increments on states and parameters, with the mean increment as intercept.

    Parameters
    ----------
    Z, U : ndarrays of shape (n_values, n_pairs) and (n, n_pairs)
    roots : ndarray of shape (n_pairs,)
        Square roots of weights.
    increments : bool, default=True
        Whether U are states a step later; otherwise they are arbitrary numbers.
    """

    def __init__(self, Z, U, roots, increments=True):
        self.increments = increments
        weights = roots**2 / np.sum(roots**2)
        change = U - Z[: len(U)] if increments else U
        self.means = Z @ weights, change @ weights
        X, Y = (torch.from_numpy((A - mean[:, None]) * roots) for A, mean in zip((Z, change), self.means, strict=True))
        W, s, V = torch.linalg.svd(X, full_matrices=False)
        kept = int((s > 1e-12 * s[:1]).sum()) if float(s[:1].sum()) > 0 else 0
        ridge = RidgeRegression((W[:, :kept], s[:kept], V[:kept]), Y)
        self.left, self.right = (A.numpy() for A in ridge.factors(ridge.best_alpha() if kept else 0.0))

    @property
    def n_parameters(self):
        """Number of values that represent the regression."""
        return sum(A.size for A in (self.left, self.right, *self.means))

    def step(self, Z):
        """States a step later, or numbers (n, batch)."""
        found = self.means[1][:, None] + self.left @ (self.right.T @ (Z - self.means[0][:, None]))
        return found + Z[: len(found)] if self.increments else found


def chains(Z, U):
    """Order in which the pairs of each trajectory are consecutive, and the index of the trajectory of each pair.

    Parameters
    ----------
    Z, U : ndarrays of shape (n_values, n_pairs) and (n, n_pairs)
        A pair follows another one if its first state is the other one's second state.
    """
    first: dict[bytes, int] = {}
    for k in range(Z.shape[1]):
        first.setdefault(np.ascontiguousarray(Z[: len(U), k]).tobytes(), k)
    following = [first.get(np.ascontiguousarray(U[:, k]).tobytes(), -1) for k in range(Z.shape[1])]
    begun = np.ones(Z.shape[1], dtype=bool)
    begun[[k for j, k in enumerate(following) if k >= 0 and k != j]] = False
    order, number, seen = [], [], np.zeros(Z.shape[1], dtype=bool)
    for count, k in enumerate([*np.flatnonzero(begun), *range(Z.shape[1])]):
        while k >= 0 and not seen[k]:
            seen[k] = True
            order.append(k)
            number.append(count)
            k = following[k]
    return np.array(order), np.array(number)


def fit_evolution(Z, U, roots, shape, *, n_channels, dt, spacing, inside, conditions, options, rng, report=None):
    """Find a law for pairs of states.

    Parameters
    ----------
    Z : ndarray of shape (n_values, n_pairs)
        States, channel after channel, followed by channels of parameters.
    U : ndarray of shape (n, n_pairs)
        States a step later.
    roots : ndarray of shape (n_pairs,)
        Square roots of weights.
    shape : tuple of int
        Of the grid.
    n_channels : int
        Of the states.
    dt : float
        Time of a step.
    spacing : tuple of float
        Distance of neighbouring points along every axis.
    inside : ndarray of bool, of shape `shape`, or None
    conditions : sequence of str
        Boundary conditions of the axes.
    options : dict
        `degree`, `radius` and `conservative`, as :func:`make_pool` takes them.
    rng : RandomState
    report : callable, default=None
        Called with the name of a stage, the number of stages, the number of terms and the error of every candidate.

    Returns
    -------
    Evolution
    """
    n_points = int(np.prod(shape))
    order, number = chains(Z, U)
    Z, U, roots = Z[:, order], U[:, order], roots[order]
    channels = np.split(Z, len(Z) // n_points)
    conditions = shared_conditions(channels[:n_channels], shape, inside, conditions)
    lines: list[Lines] = []
    for c, fields in enumerate(channels):
        given = (
            conditions
            if c < n_channels
            else ["periodic" if lines[0].is_periodic(a) else "even" for a in range(len(shape))]
        )
        lines.append(Lines(shape, *_arranged(find_ends(fields, shape, inside, given), inside)))
    constant = [c for c in range(n_channels, len(channels)) if np.ptp(channels[c][lines[0].points]) == 0]
    sizes = np.linalg.norm(U, axis=0)
    weights = np.ones_like(U) * roots / np.maximum(sizes, _SMALL * sizes.mean() or 1.0)
    if inside is not None:
        weights *= np.tile(inside.ravel(), n_channels)[:, None]
    pairs = Pairs(Z, U, dt, weights, number)
    train, judged = held_out(pairs, shape, n_channels, inside, rng)
    change = [np.sqrt(np.square(d).mean()) for d in np.split(U - Z[: len(U)], n_channels)]
    scales = np.repeat([c if c > 0 else 1.0 for c in change], n_points)
    pool = make_pool(lines, spacing, n_channels, constant=constant, **options)

    def judge(law, integrator):
        return rollout_error(judged, law, integrator)

    started, rows = time.perf_counter(), []

    def told(candidate, stage):
        rows.append(
            {
                "stage": stage,
                "n_terms": len(candidate.law.slots),
                "held_out_error": candidate.error,
                "stable": candidate.stable,
                "seconds": time.perf_counter() - started,
            }
        )
        if report is not None:
            report(stage, pool.names, len(candidate.law.slots), candidate.error)

    number = max(min(_GROWTH // len(U), len(train), _MOST_PAIRS), 1)
    some = np.unique(np.linspace(0, len(train) - 1, number).astype(int))
    growth = Growth(Shooting(train.pick(some), scales, lines), judge, pool, told)
    growth.run()
    chosen = growth.simplest()
    everything = Shooting(pairs, scales, lines)
    law, cost, _, integrator = everything.refine(chosen.law)
    # The fit to all pairs, including held-out ones, must not lead to an unstable law.
    if not (np.isfinite(cost) and growth.is_stable(law, integrator)):
        law, integrator = chosen.law, chosen.integrator
    linear = RidgeStep(Z, U, roots)
    errors = {
        "law": error(judged, advance(chosen.law, chosen.integrator, judged.Z)),
        "rollout": chosen.error,
        "ridge": _ridge_error(train, judged, roots),
        "persistence": error(judged, judged.states),
    }
    return Evolution(
        law=law,
        integrator=integrator,
        lines=lines,
        linear=linear,
        errors=errors,
        verified=train is not judged,
        independent=not np.isin(judged.chain, train.chain).any(),
        residual=error(pairs, advance(law, integrator, Z)),
        candidates=rows,
    )


def _arranged(found, inside):
    ends, hidden = found
    return ends, inside, hidden


def held_out(pairs, shape, n_channels, inside, rng):
    """Training pairs and validation pairs.

    Whole trajectories are held out if there are several, otherwise the end of the only one, or a part of space if there
    are no more than two pairs.
    """
    trajectories = pairs.trajectories()
    if len(trajectories) > 2 or (len(trajectories) == 2 and len(pairs) > 2):
        n = max(round(_HELD_OUT * len(trajectories)), 1)
        out = np.zeros(len(pairs), dtype=bool)
        for k in rng.permutation(len(trajectories))[:n]:
            out[trajectories[k]] = True
        return pairs.pick(~out), pairs.pick(out)
    if len(pairs) > 2:
        n = max(round(_HELD_OUT * len(pairs)), 1)
        return pairs.pick(slice(None, -n)), pairs.pick(slice(-n, None))
    rows = np.ones(shape)
    rows[: max(round((1 - _HELD_OUT) * shape[0]), 1)] = 0
    rows = np.tile(rows.ravel(), n_channels)
    alive = rows if inside is None else rows * np.tile(inside.ravel(), n_channels)
    if not alive.any() or alive.all():
        return pairs, pairs
    return pairs.weighted(1 - rows), pairs.weighted(rows)


def _ridge_error(train, judged, roots):
    """Error of ridge regression on held-out pairs; infinite if there are none."""
    if len(train) == len(judged) and np.array_equal(train.Z, judged.Z):
        return np.inf
    inner = np.linalg.norm(train.roots, axis=0)
    return error(judged, RidgeStep(train.Z, train.U, inner / inner.max()).step(judged.Z))
