"""Integration in time of du/dt = N(u) with a polynomial N, and of its derivatives with respect to coefficients.

Steps have fixed size and are explicit: the classical fourth-order Runge-Kutta scheme or, if diffusion makes that slow,
the stabilised second-order Runge-Kutta-Chebyshev scheme, whose stable step size grows with the square of its number of
stages. The derivatives are those of the discrete solution, and no step requires a linear system.

References
----------
Sommeijer, Shampine, Verwer: RKC, an explicit solver for parabolic PDEs, J. Comput. Appl. Math. 88 (1998).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import Chebyshev

# Approximate |eigenvalue| times step up to which the fourth-order scheme is stable in the left half-plane.
_STABLE = 2.6
# The same for imaginary parts and the Chebyshev scheme, determined empirically.
_OSCILLATING = 0.5
# Damping of the Chebyshev scheme, and its stable interval divided by the square of the number of stages.
_DAMPING, _CHEBYSHEV = 2 / 13, 0.65
# Factor by which the second-order scheme must reduce the work.
_WORTH = 3
# Largest number of stages of a step; more would lose accuracy.
_MOST_STAGES = 150


@dataclass(frozen=True)
class Integrator:
    """Steps of an integration over a time.

    Attributes
    ----------
    time : float
        Time to integrate over.
    n_steps : int
    n_stages : int or None
        Number of stages of the Chebyshev scheme; None for the fourth-order scheme.
    """

    time: float
    n_steps: int
    n_stages: int | None = None

    @property
    def work(self):
        """Number of evaluations of N."""
        return self.n_steps * (self.n_stages or 4)

    def finer(self):
        """The same with twice as many steps."""
        stages = None if self.n_stages is None else max(math.ceil(self.n_stages / 2**0.5) + 1, 2)
        return Integrator(self.time, 2 * self.n_steps, stages)

    def flow(self, law, Z, slots=()):
        """State after the time, and its derivatives.

        Parameters
        ----------
        law : Polynomial
        Z : ndarray of shape (n_values, batch)
            States, followed by parameters.
        slots : sequence of (group, term, channel)
            Coefficients of the law with respect to which to differentiate.

        Returns
        -------
        U : ndarray of shape (n, batch)
            Not finite where the integration is unstable.
        D : ndarray of shape (n, batch, n_slots)
        """
        n = law.n_channels * law.n_points
        full = np.array(Z)
        state = [full[:n].copy(), np.zeros((n, Z.shape[1], len(slots)))]
        by_coefficient = ByCoefficient(law, slots)

        def rates(state):
            full[:n] = state[0]
            if not len(slots):
                return [law(full), state[1]]
            return [law(full), law.at(full)(state[1]) + by_coefficient(full)]

        step, h = self._step, self.time / self.n_steps
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(self.n_steps):
                state = step(rates, state, h)
                if not np.isfinite(state[0].sum()):
                    break
        return state[0], state[1]

    def _step(self, rates, y, h):
        if self.n_stages is not None:
            return _chebyshev(rates, y, h, self.n_stages)
        k1 = rates(y)
        k2 = rates(_sum((1, y), (h / 2, k1)))
        k3 = rates(_sum((1, y), (h / 2, k2)))
        k4 = rates(_sum((1, y), (h, k3)))
        return _sum((1, y), (h / 6, k1), (h / 3, k2), (h / 3, k3), (h / 6, k4))


def _sum(*terms):
    """Linear combination of states."""
    total = [terms[0][0] * part for part in terms[0][1]]
    for factor, state in terms[1:]:
        for part, other in zip(total, state, strict=True):
            part += factor * other
    return total


def _chebyshev(rates, y, h, s):
    """A step of the Runge-Kutta-Chebyshev scheme of second order with s stages, at least 2."""
    stages, first = _chebyshev_weights(s)
    start = rates(y)
    before, now = y, _sum((1, y), (first * h, start))
    for mu, nu, of_rates, of_start in stages:
        following = _sum((mu, now), (1 - mu - nu, y), (nu, before), (of_rates * h, rates(now)), (of_start * h, start))
        before, now = now, following
    return now


@lru_cache(maxsize=64)
def _chebyshev_weights(s):
    w0 = 1 + _DAMPING / s**2
    T = [Chebyshev.basis(j) for j in range(s + 1)]
    value, first, second = (np.array([p.deriv(k)(w0) if k else p(w0) for p in T]) for k in range(3))
    w1 = first[s] / second[s]
    b = np.empty(s + 1)
    b[2:] = second[2:] / first[2:] ** 2
    b[:2] = b[2]
    a, stages = 1 - b * value, []
    for j in range(2, s + 1):
        of_rates = 2 * b[j] * w1 / b[j - 1]
        stages.append((2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], of_rates, -a[j - 1] * of_rates))
    return stages, b[1] * w1


class ByCoefficient:
    """Derivatives of N with respect to coefficients.

    Parameters
    ----------
    law : Polynomial
    slots : sequence of (group, term, channel)
    """

    def __init__(self, law, slots):
        self.shape, self.n_slots, self.parts = (law.n_channels * law.n_points,), len(slots), []
        for g, group in enumerate(law.groups):
            own = [(k, t, c) for k, (h, t, c) in enumerate(slots) if h == g]
            if own:
                terms = sorted({t for _, t, _ in own})
                places = [(k, terms.index(t), slice(c * law.n_points, (c + 1) * law.n_points)) for k, t, c in own]
                self.parts.append((group[terms], places))

    def __call__(self, Z):
        """Derivatives (n, batch, n_slots) at fields in columns (n_values, batch)."""
        found = np.zeros((*self.shape, Z.shape[1], self.n_slots))
        for group, places in self.parts:
            columns = group.columns(Z)
            for k, t, rows in places:
                found[rows, :, k] = columns[t]
        return found


def stable_integrator(law, Z, time, least=1):
    """A scheme with as many steps as stability requires at given states, and at least `least`.

    Eigenvalues are bounded by the largest row sums of the Jacobian and of its antisymmetric part.

    Returns
    -------
    Integrator
    """
    whole, oscillating = 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for k in {int(np.argmax(np.abs(Z[: law.n_channels * law.n_points]).max(axis=0))), 0, Z.shape[1] - 1}:
            J = law.at(Z[:, [k]]).matrix()
            whole = max(whole, float(abs(J).sum(axis=1).max(initial=0)))
            # Boundary values, which depend only on themselves, would look like oscillations.
            live = np.flatnonzero(np.diff(J.indptr) > 1)
            J = J[live][:, live]
            oscillating = max(oscillating, float(abs(J - J.T).sum(axis=1).max(initial=0)) / 2)
    if not math.isfinite(whole):
        return Integrator(time, least)
    plain = Integrator(time, max(least, math.ceil(time * whole / _STABLE)))
    n_steps = max(least, math.ceil(time * oscillating / _OSCILLATING))
    n_stages = math.ceil((1 + time * whole / n_steps / _CHEBYSHEV) ** 0.5)
    if n_stages > _MOST_STAGES:
        n_steps, n_stages = n_steps * math.ceil((n_stages / _MOST_STAGES) ** 2), _MOST_STAGES
    stabilised = Integrator(time, n_steps, max(n_stages, 2))
    return stabilised if _WORTH * stabilised.work < plain.work else plain
