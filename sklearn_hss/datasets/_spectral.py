"""Parameter checks and batches of the equations on doubly periodic domains. Torch is imported on demand."""

import numpy as np
from sklearn.utils._param_validation import StrOptions

from .._parameters import Count
from ._generation import GENERATION_CONSTRAINTS, POSITIVE

SPECTRAL_CONSTRAINTS: dict[str, list] = {
    "n_samples": [Count(1)],
    "n_points": [tuple, list],
    "dt": POSITIVE,
    "return_trajectories": ["boolean"],
    "dtype": [StrOptions({"float32", "float64"})],
    "device": [str],
    **GENERATION_CONSTRAINTS,
}

# Number of grid points that are processed at a time. On CPUs, larger batches do not fit into the cache, and temporary
# memory between the transforms is returned to the system each time.
_BATCH = {"cpu": 3 * 2**14, "other": 2**22}


def check_grid(n_points):
    """Validate `n_points` and return it as a pair of ints."""
    if len(n_points) != 2 or not all(isinstance(n, int | np.integer) and n >= 4 for n in n_points):
        raise ValueError(f"n_points={n_points!r} must be two integers of at least 4, such as (128, 128).")
    return int(n_points[0]), int(n_points[1])


def batch_size(n_points, device):
    """Number of samples to process at a time."""
    return max(1, _BATCH.get(device.type, _BATCH["other"]) // (n_points[0] * n_points[1]))


def wavenumbers(n_points, length):
    """Angular wavenumbers of the coefficients of a real transform, as a column and a row."""
    first = np.fft.fftfreq(n_points[0], 1 / n_points[0])[:, None]
    last = np.arange(n_points[1] // 2 + 1)[None]
    return 2 * np.pi / length * first, 2 * np.pi / length * last
