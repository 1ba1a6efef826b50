"""Accuracy on the paper's 1-D Poisson data (Appendix F.2.1), over seeds and settings: ``python bench_accuracy.py``.

Prints the mean relative L2 error on 1,000 new samples, for the settings of Table 9 and for changes of one of them.
Takes about ten minutes on two cores.
"""

import argparse

import joblib
import numpy as np

from sklearn_hss import NeuralHSSRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.metrics import relative_l2_error

SETTINGS = {
    "Table 9": {},
    "lr=3e-3": {"lr": 3e-3},
    "lr=1e-2": {"lr": 1e-2},
    "batch_size=64": {"batch_size": 64},
    "batch_size=64, lr=3e-3": {"batch_size": 64, "lr": 3e-3},
    "gradient_clip=None": {"gradient_clip": None},
    "weight_decay=0": {"weight_decay": 0.0},
    "slope_penalty=1": {"slope_penalty": 1.0},
    "initial_slope=0.25": {"initial_slope": 0.25},
    "bias=True": {"bias": True},
    "depth=1": {"depth": 1},
    "projection=None": {"projection": None},
    "scale=None": {"scale": None},
    "dtype=float64": {"dtype": "float64"},
}


def error(n_samples, seed, settings):
    """Test error of one fit."""
    F, U = make_poisson(n_samples=2000, random_state=0)
    model = NeuralHSSRegressor(rank=2, levels=3, init="random", settings="paper", random_state=seed)
    model.set_params(**settings).fit(F[:n_samples], U[:n_samples])
    return relative_l2_error(U[1000:], model.predict(F[1000:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n-jobs", type=int, default=2)
    options = parser.parse_args()
    print(f"mean relative L2 error over {options.seeds} seeds (smallest, largest)")
    print(f"{'settings':<24} {'N = 1000':>30} {'N = 100':>30}")
    for name, settings in SETTINGS.items():
        errors = joblib.Parallel(options.n_jobs)(
            joblib.delayed(error)(n_samples, seed, settings)
            for n_samples in (1000, 100)
            for seed in range(options.seeds)
        )
        columns = [f"{np.mean(e):.2e} ({min(e):.2e}, {max(e):.2e})" for e in np.split(np.array(errors), 2)]
        print(f"{name:<24} {columns[0]:>30} {columns[1]:>30}", flush=True)


if __name__ == "__main__":
    main()
