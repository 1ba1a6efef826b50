"""Whether a linear map that is applied again and again makes fields grow without bound."""

import numpy as np
import torch

# Products with a vector that an estimate takes.
_N_PRODUCTS = 40
# A spectral radius that is this many times the growth of the samples is that of an unstable step.
GROWS = 1.001


def spectral_radius(step, n_values):
    """Largest magnitude of the eigenvalues of a linear map, from below, by Arnoldi's method.

    Parameters
    ----------
    step : callable
        The map, of vectors (n_values,).
    n_values : int

    Returns
    -------
    float
    """
    m = min(_N_PRODUCTS, n_values)
    Q, H = np.zeros((m + 1, n_values)), np.zeros((m + 1, m))
    Q[0] = np.random.RandomState(0).standard_normal(n_values)
    Q[0] /= np.linalg.norm(Q[0])
    for k in range(m):
        v = step(Q[k])
        size = np.linalg.norm(v)
        for _ in range(2):  # once would not make it orthogonal to rounding
            part = Q[: k + 1] @ v
            H[: k + 1, k] += part
            v -= part @ Q[: k + 1]
        H[k + 1, k] = np.linalg.norm(v)
        if not H[k + 1, k] > 1e-12 * size:
            m = k + 1
            break
        Q[k + 1] = v / H[k + 1, k]
    H = H[:m, :m]
    return float(np.abs(np.linalg.eigvals(H)).max()) if np.isfinite(H).all() else np.inf


def grows(operator, samples):
    """Whether repetition of a map, if it is to be repeated, makes fields grow, and more than any of the samples does.

    Parameters
    ----------
    operator : object with a method ``apply``
        The map, in the units of the samples.
    samples : Samples

    Returns
    -------
    bool
    """
    if samples.repeated is None:
        return False
    unit = samples.repeated * samples.units[1] / samples.units[0]

    def step(x):
        return unit * operator.apply(torch.from_numpy(x).view(1, *samples.grid_in)).numpy().ravel()

    return not spectral_radius(step, samples.X[0].numel()) <= GROWS * max(unit * samples.gain, 1)
