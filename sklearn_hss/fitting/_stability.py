"""Stability of the repeated application of a linear map."""

import numpy as np
import torch

# Number of products with a vector in an estimate.
_N_PRODUCTS = 40
# Spectral radius, relative to the growth of the samples, above which a step is unstable.
GROWS = 1.001


def spectral_radius(step, n_values):
    """Lower estimate of the spectral radius of a linear map, by Arnoldi's method.

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
        for _ in range(2):  # a single pass would not be orthogonal to rounding
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
    """Whether a map that is to be repeated makes fields grow, and more than any of the samples.

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
