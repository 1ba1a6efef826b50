"""Seconds to fit the linear map at n = 4096, beside Ridge: ``python bench_fit.py``, on one thread, about a minute.

"known" is told what the operator is like (rank and symmetry, or the form); "auto" finds out by itself.
"""

import warnings
from functools import partial

import numpy as np
import torch
from _timing import interleaved_medians
from scipy.linalg import solve_banded
from sklearn.linear_model import Ridge

from sklearn_hss import HSSRegressor
from sklearn_hss.datasets import make_poisson

N_POINTS = 4096
SAMPLES = (8, 10, 20, 40)


def poisson(n_samples, order):
    """Gaussian forcings."""
    return make_poisson(n_samples, N_POINTS, forcing="gaussian", order=order, random_state=0)


def convection_diffusion(n_samples, velocity=20.0):
    """-u'' + velocity u' = f by central differences."""
    h = 1 / (N_POINTS + 1)
    ab = np.empty((3, N_POINTS))
    ab[0], ab[1], ab[2] = -1 / h**2 + velocity / (2 * h), 2 / h**2, -1 / h**2 - velocity / (2 * h)
    F = np.random.RandomState(0).standard_normal((n_samples, N_POINTS))
    return F, solve_banded((1, 1), ab, F.T).T


PROBLEMS = {
    "Poisson, second order": (lambda n: poisson(n, 2), {"rank": 2, "symmetric": True}),
    "Poisson, fourth order": (lambda n: poisson(n, 4), {"rank": 4, "form": "inverse"}),
    "convection-diffusion": (convection_diffusion, {"rank": 2, "form": "inverse"}),
}


def main():
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    print(f"n = {N_POINTS}, milliseconds; time of HSSRegressor over that of Ridge() to reach: 1")
    print(f"{'problem':24} {'samples':>8} {'Ridge':>7} {'no intercept':>13} {'known':>7} {'auto':>7}   over Ridge()")
    for name, (make, known) in PROBLEMS.items():
        for n_samples in SAMPLES:
            F, U = make(n_samples)
            models = {
                "Ridge": Ridge(),
                "no intercept": Ridge(fit_intercept=False),
                "known": HSSRegressor(random_state=0, **known),
                "auto": HSSRegressor(random_state=0),
            }
            times = interleaved_medians(
                {label: partial(model.fit, F, U) for label, model in models.items()}, rounds=3, calls=3
            )
            ridge, plain, known_time, auto = (1e3 * times[label] for label in models)
            print(
                f"{name:24} {n_samples:8} {ridge:7.0f} {plain:13.0f} {known_time:7.0f} {auto:7.0f}   "
                f"{known_time / ridge:.2f} {auto / ridge:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
