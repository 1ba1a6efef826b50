"""Selection of the terms of a law du/dt = N(u), which are added as long as held-out states are predicted better."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ._polynomials import Groups, flux_terms, point_terms
from ._shooting import Law, Shooting, advance, eliminated, error, gains

# Scales of smoothing, in points, with which an inaccurate law is fitted.
_SCALES = (8, 4, 2, 1, 0)
# Residual, relative to the change of states, above which laws are inaccurate.
_FAR = 0.3
# Residual, relative to the change of states, below which laws are nearly accurate.
_NEAR = 0.05
# Factors by which a term must reduce the residual, and a stage the error of held-out states.
_WORTHWHILE, _STAGE = 0.97, 0.9
# Error below which no further terms are needed.
_EXACT = 1e-9
# Maximal number of terms of a channel, and of terms whose derivatives are computed to select the best one.
_MOST_TERMS, _MOST_CANDIDATES = 16, 40
# Factors by which the residual may grow when terms are removed; the last one applies to initial laws.
_LESS, _LEAST, _ROUGH = 1.05, 1.005, 1.3
# Factor by which each additional factor or derivative of a term must increase the explained part.
_COMPLEX = 1.5
# Factor by which the residual of an initial law with fewer stages may be larger, and maximal number of its terms.
_SIMPLER, _MOST_START = 3.0, 160
# Count of numbers in the derivatives above which they are approximated, which is also the limit for a search for terms.
_LARGE = 2_000_000
_SEARCH = 6_000_000
# Maximal total number of derivatives in nonlinear terms: others grow too fast with the slope of states.
_MOST_ORDERS = 4
# A law must remain bounded for test states whose deviations are those of the training states times the first number;
# maximal number of these states, and of their values, and the bound.
_STRESS, _N_STRESS, _N_VALUES, _BOUNDED = 1.5, 4, 50_000, 4.0
# Factor by which the error of a simpler law may be larger.
_AS_GOOD = 1.1


@dataclass(frozen=True, eq=False)
class Pool:
    """Terms that a law may have.

    Attributes
    ----------
    groups : tuple of Terms
    slots : list of lists of (group, term, channel)
        Slots that each stage adds, in order of increasing complexity.
    names : list of str
        Names of the stages.
    n_channels : int
    """

    groups: tuple
    slots: list
    names: list
    n_channels: int

    def up_to(self, stage):
        """Slots of a stage and those before."""
        return [slot for slots in self.slots[: stage + 1] for slot in slots]

    def complexity(self, slots):
        """Factors by which terms must explain more than the simplest ones, (n_slots,)."""
        groups = self.groups
        ranks = [int(groups[g].powers[t].sum()) + _total_order(groups[g], groups[g].powers[t]) for g, t, _ in slots]
        return _COMPLEX ** np.array(ranks, dtype=float)

    @property
    def after_quadratic(self):
        """The first stage after those of degree 2."""
        return 1 + max((k for k, name in enumerate(self.names) if name.endswith("degree 2")), default=len(self.names))

    @property
    def diffusion(self):
        """Slots of second derivatives of each channel in itself."""
        found = []
        for g, t, c in self.up_to(len(self.slots) - 1):
            group = self.groups[g]
            if group.powers[t].sum() == 1:
                feature = group.features[int(np.argmax(group.powers[t]))]
                if feature.channel == c and sum(feature.orders) + (group.axis is not None) == 2:
                    found.append((g, t, c))
        return found


def make_pool(lines, spacing, n_channels, *, radius, degree, conservative, constant=()):
    """Terms up to a radius and a degree, in stages.

    Parameters
    ----------
    lines : list of Lines
        Lines of the channels of the state, followed by those of the parameters.
    spacing : tuple of float
    n_channels : int
        Channels of the state.
    radius, degree : int
    conservative : bool or "auto"
        Whether there are fluxes only. "auto" uses fluxes and products of the values at a point, followed by other
        products; False uses no fluxes.
    constant : collection of int
        Channels of parameters that have the same value everywhere, for which there are no terms.

    Returns
    -------
    Pool
    """
    n_axes = len(lines[0].shape)
    groups = []
    if conservative is not False:
        groups += [flux_terms(lines, axis, spacing, radius, degree, n_channels=n_channels) for axis in range(n_axes)]
    if conservative is not True:
        groups.append(point_terms(lines, spacing, 0, degree))
    if conservative is False:
        groups = [point_terms(lines, spacing, radius, degree, n_channels=n_channels)]
    elif conservative == "auto":
        plain = point_terms(lines, spacing, 1, min(degree, 2), n_channels=n_channels)
        mixed = [t for t, powers in enumerate(plain.powers) if powers.sum() > 1 and _order(plain, powers)]
        groups.append(plain[mixed])
    levels = [(r, d) for d in range(1, degree + 1) for r in range(1, radius + 1)]
    names = [f"radius {r}, degree {d}" for r, d in levels]
    slots: list[list] = [[] for _ in levels]
    if conservative is not True:
        names.insert(radius, "reactions")
        slots.insert(radius, [])
    if conservative == "auto":
        names.append("products with derivatives")
        slots.append([])
    for g, group in enumerate(groups):
        for t, powers in enumerate(group.powers):
            total, used = int(powers.sum()), [f.channel for f, p in zip(group.features, powers, strict=True) if p]
            if (total > 1 and _total_order(group, powers) > _MOST_ORDERS) or set(used) & set(constant):
                continue
            n_parameters = sum(c >= n_channels for c in used)
            if n_parameters > 1 or (
                n_parameters and powers[[f.channel >= n_channels for f in group.features]].max() > 1
            ):
                continue  # the law is linear in parameters
            if n_parameters and group.axis is not None and total > 2:
                continue  # diffusivities and velocities that are parameters are factors of single values
            if conservative == "auto" and g == len(groups) - 1:
                stage = len(names) - 1
            elif total > 1 and group.axis is None and not _order(group, powers):
                stage = names.index("reactions")
            else:
                needed = max(_radius(group, powers), 1), max(total, 1)
                stage = names.index("radius {}, degree {}".format(*needed))
            slots[stage] += [(g, t, c) for c in range(n_channels)]
    used = [k for k, some in enumerate(slots) if some]
    return Pool(Groups(groups), [slots[k] for k in used], [names[k] for k in used], n_channels)


def _order(group, powers):
    """Largest order of the derivatives in a term."""
    return max((sum(f.orders) for f, p in zip(group.features, powers, strict=True) if p), default=0)


def _total_order(group, powers):
    """Sum of the orders of the derivatives of the factors of a term."""
    return sum(p * sum(f.orders) for f, p in zip(group.features, powers, strict=True))


def _radius(group, powers):
    order = _order(group, powers)
    return (order + 1) // 2 if group.axis is None else order // 2 + 1


@dataclass(frozen=True, eq=False)
class Candidate:
    """An intermediate law and its error."""

    law: Law
    cost: float
    R: np.ndarray | None
    integrator: object
    error: float
    stable: bool


class Growth:
    """Laws with increasing numbers of terms from a pool.

    Parameters
    ----------
    shooting : Shooting
        Shooting with the training pairs.
    judge : callable
        Function of a law and an integrator that returns the error on held-out states.
    pool : Pool
    report : callable, default=None
        Called with a candidate and the name of its stage.
    """

    def __init__(self, shooting, judge, pool, report=None):
        self.shooting, self.judge, self.pool = shooting, judge, pool
        self.report = report or (lambda candidate, stage: None)
        self.change = float(np.linalg.norm(shooting.weights * (shooting.pairs.U - shooting.pairs.states)))
        self.path: list[Candidate] = []

    def run(self):
        """All intermediate laws, as candidates."""
        self.keep(self.start(), 0)
        if self.is_far:
            self.approach()
        misses, seen = 0, self.pool.after_quadratic
        for stage in range(len(self.pool.slots)):
            before = self.best
            # If quadratic fluxes bring almost no improvement, cubic fluxes are not worth their cost.
            if before.error < _EXACT or (stage >= seen and misses > 1 and before.cost < _NEAR * self.change):
                break
            self.all_at_once(stage)
            self.one_by_one(stage)
            misses = 0 if self.best.error < _STAGE * before.error else misses + 1
        return self.path

    @property
    def best(self):
        """The stable law with the smallest error so far."""
        return min(self.path, key=lambda c: (not c.stable, c.error))

    @property
    def is_far(self):
        """Whether the residual of the last law is a large part of the change of the states."""
        return not self.path[-1].cost < _FAR * self.change

    def keep(self, law, stage, scales=(0,), most=20):
        """Refine a law, and append it to the path."""
        for scale in scales:
            law, cost, R, integrator = self.shooting.refine(law, scale=scale, most=8 if scale else most)
        self.path.append(self.candidate(law, cost, R, integrator))
        self.report(self.path[-1], self.pool.names[stage])

    def candidate(self, law, cost, R, integrator):
        """A law with its error, which is infinite if it is unstable."""
        error = self.judge(law, integrator) if np.isfinite(cost) else np.inf
        return Candidate(law, cost, R, integrator, error, np.isfinite(cost) and self.is_stable(law, integrator))

    def is_stable(self, law, integrator, n_steps=3):
        """Whether a law remains bounded for states that are larger and steeper than the training states."""
        Z, n = self.stress, len(self.shooting.pairs.U)
        Z, size = Z.copy(), np.abs(Z[:n]).max()
        for _ in range(n_steps):
            Z[:n] = advance(law, integrator, Z)
            if not np.abs(Z[:n]).max() < _BOUNDED * size:
                return False
        return True

    @cached_property
    def stress(self):
        """Steepened training states within the range of each channel, and steps between the ends of the range."""
        pairs, n = self.shooting.pairs, len(self.shooting.pairs.U)
        order = np.argsort(np.ptp(pairs.states, axis=0))[::-1]
        rng = np.random.default_rng(0)
        number = 2 + min(_N_STRESS, _N_VALUES // n)
        index = np.unique(np.concatenate([order[:2], rng.permutation(len(pairs))[: number - 2]]))
        states = np.stack(np.split(pairs.Z[:n, index], self.pool.n_channels))
        low, high = (f(np.stack(np.split(pairs.states, self.pool.n_channels)), axis=(1, 2)) for f in (np.min, np.max))
        low, high = low[:, None, None], high[:, None, None]
        deviation = states - states.mean(axis=1, keepdims=True)
        steeper = np.clip(states + (_STRESS - 1) * deviation, low, high)
        steps = np.where(deviation > 0, high, low) * np.any(states != 0, axis=2, keepdims=True)
        Z = np.concatenate([pairs.Z[:, index]] * 2, axis=1)
        Z[:n] = np.concatenate([steeper, steps], axis=2).reshape(n, -1)
        return Z

    def start(self):
        """The initial law.

        If the states change little in a step, the trapezoidal rule selects terms from the simplest sufficient stages.
        If this is too inaccurate, the initial law is pure diffusion.
        """
        nothing = Law(self.pool.groups, (), np.zeros(0), self.pool.n_channels)
        found: list[tuple[float, Law]] = []
        for stage in range(len(self.pool.slots)):
            slots = self.pool.up_to(stage)
            if len(slots) <= _MOST_START or not found:
                R = self.part.between(nothing, slots)
                kept, values = eliminated(R, np.zeros(len(slots)), _ROUGH, self.pool.complexity(slots))
                left = float(np.linalg.norm(R[:, kept] @ values - R[:, -1]))
                found.append((left, Law(self.pool.groups, tuple(slots[k] for k in kept), values, self.pool.n_channels)))
        best = min(left for left, _ in found)
        law = next(law for left, law in found if left <= _SIMPLER * best)
        far = float(np.linalg.norm(self.shooting.residual(law, self.shooting.integrator(law))))
        if far < _FAR * self.change:
            return law
        return nothing.with_slots(self.pool.diffusion or self.pool.slots[0][:1])

    def approach(self):
        """Add terms of low degree to an inaccurate law, based on smoothed residuals."""
        simple = ("radius 1, degree 1", "reactions", "radius 1, degree 2")
        slots = [
            slot for some, name in zip(self.pool.slots, self.pool.names, strict=True) if name in simple for slot in some
        ]
        while self.is_far and len(self.path[-1].law.slots) < _MOST_TERMS * self.pool.n_channels:
            slot = self.best_term(self.path[-1], slots, self.scales[0])
            if slot is None:
                break
            self.keep(self.path[-1].law.with_slots([slot]), 0, self.scales)

    def all_at_once(self, stage):
        """Fit all terms of a stage to first order, remove insignificant ones, and refine the others."""
        now = self.best
        slots = self.candidates(now, self.pool.up_to(stage))
        if now.integrator is None or not slots or not np.isfinite(now.cost):
            return
        law = now.law.with_slots(slots)
        R = self.derivatives(law, now.integrator)
        if np.isfinite(R).all():
            kept, values = eliminated(R, law.values, _LESS, self.pool.complexity(law.slots))
            if {law.slots[k] for k in kept} - set(now.law.slots):
                sparse = Law(law.groups, tuple(law.slots[k] for k in kept), values, law.n_channels)
                ready = law.without(np.setdiff1d(np.arange(len(law.slots)), kept))
                costs = [self.shooting.cost(each, self.shooting.integrator(each))[0] for each in (sparse, ready)]
                self.keep(sparse if costs[0] < costs[1] else ready, stage)

    def derivatives(self, law, integrator, scale=0):
        """Factor for the selection of terms; on large grids, contributions are not propagated through the step."""
        part = self.part
        if not scale and len(law.slots) * part.pairs.U.size > _LARGE:
            return part.averaged(law, integrator, law.slots)
        return part.factor(law, integrator, scale)

    def candidates(self, candidate, slots):
        """Slots that a law does not contain; if there are many, the most promising ones."""
        law = candidate.law
        others = [slot for slot in slots if slot not in set(law.slots)]
        if len(others) > _MOST_CANDIDATES:
            R = self.part.averaged(law, candidate.integrator, [*law.slots, *others])
            if not np.isfinite(R).all():
                return others[:_MOST_CANDIDATES]
            found, _ = gains(R, list(range(len(law.slots))))
            order = np.argsort(found[len(law.slots) :])[::-1]
            others = [others[k] for k in order[:_MOST_CANDIDATES]]
        return others

    def one_by_one(self, stage):
        """Add terms of a stage as long as this reduces the residual, except those that make the law unstable."""
        now, misses, refused = self.best, 0, set()
        while len(now.law.slots) < _MOST_TERMS * self.pool.n_channels and now.error > _EXACT and misses < 2:
            slots = [slot for slot in self.pool.up_to(stage) if slot not in refused]
            slot = self.best_term(now, slots) if np.isfinite(now.cost) else None
            if slot is None:
                break
            self.keep(now.law.with_slots([slot]), stage)
            found = self.path[-1]
            misses = 0 if found.stable and found.cost < _WORTHWHILE * now.cost else misses + 1
            if found.stable:
                now = found
            else:
                refused.add(slot)

    @property
    def scales(self):
        n = min(self.shooting.lines[0].shape)
        return tuple(scale for scale in _SCALES if scale <= n / 8)

    def best_term(self, candidate, slots, scale=0):
        """The term that explains most of the residual of a law, to first order; None if it is insignificant."""
        law, others = candidate.law, self.candidates(candidate, slots)
        if not others:
            return None
        R = self.derivatives(law.with_slots(others), candidate.integrator, scale)
        if not np.isfinite(R).all():
            return None
        found, left = gains(R, list(range(len(law.slots))))
        best = int(np.argmax(found))
        return others[best - len(law.slots)] if found[best] > (1 - _WORTHWHILE**2) * left else None

    @property
    def part(self):
        """Shooting with some of the pairs, few enough to compute derivatives for all candidates."""
        pairs = self.shooting.pairs
        n = max(min(_SEARCH // (len(pairs.U) * _MOST_CANDIDATES), len(pairs)), 1)
        if n == len(pairs):
            return self.shooting
        if "_part" not in self.__dict__:
            index = np.unique(np.linspace(0, len(pairs) - 1, n).astype(int))
            self._part = Shooting(pairs.pick(index), np.ones(len(pairs.U)), self.shooting.lines)
            self._part.weights = self.shooting.weights[:, index]
        return self._part

    def simplest(self):
        """The law with the fewest terms that is about as good as the best stable one, without insignificant terms."""
        best = self.best
        chosen = next(c for c in self.path if c.stable >= best.stable and c.error <= _AS_GOOD * best.error)
        if not np.isfinite(chosen.cost):
            return chosen
        R = chosen.R if chosen.R is not None else self.shooting.factor(chosen.law, chosen.integrator)
        for allowed in (_LESS, _LEAST):
            kept, _ = eliminated(R, chosen.law.values, allowed, self.pool.complexity(chosen.law.slots))
            if len(kept) < len(chosen.law.slots):
                dropped = np.setdiff1d(np.arange(len(chosen.law.slots)), kept)
                found = self.candidate(*self.shooting.refine(chosen.law.without(dropped)))
                self.report(found, "dropped")
                if found.stable and found.error <= _AS_GOOD * best.error:
                    return found
        return chosen


def rollout_error(pairs, law, integrator):
    """Mean error, over the steps of trajectories, of rollouts from their first states; one if they blow up."""
    n, errors, sizes = len(pairs.U), [], []
    chains = pairs.trajectories()
    for length in sorted({len(chain) for chain in chains}):
        same = np.array([chain for chain in chains if len(chain) == length])
        Z = pairs.Z[:, same[:, 0]].copy()
        for step in range(length):
            Z[:n] = advance(law, integrator, Z)
            if not np.isfinite(Z).all():
                errors += [10.0] * (length - step)
                sizes += [len(same)] * (length - step)
                break
            errors.append(error(pairs.pick(same[:, step]), Z[:n]))
            sizes.append(len(same))
    return float(np.average(errors, weights=sizes))
