"""Is the linear start a trap, and do optimisers overfit? ``python bench_start.py``, eight minutes on one core.

1. Ten linear equations, half of them with noise of 1 % on the targets: the error on new samples of the linear start,
   and that after some seconds of training from there, with nothing else set; and one on more points, for longer.
2. Ten samples with noise of 1 %, from random weights: errors on new samples of every optimiser, with nothing else set.
"""

import argparse
import warnings
from functools import partial

import numpy as np
import torch

from sklearn_hss import NeuralHSSRegressor
from sklearn_hss.datasets import make_helmholtz, make_poisson
from sklearn_hss.metrics import relative_l2_error

N_TRAIN, N_TEST = 200, 100
LINE, SQUARE = {"n_points": 128}, {"n_points": (32, 32)}
PROBLEMS = {
    "line, sine": (partial(make_poisson, **LINE), 0),
    "line, random fields": (partial(make_poisson, forcing="grf", **LINE), 0),
    "line, sine, noise": (partial(make_poisson, **LINE), 0.01),
    "line, random fields, noise": (partial(make_poisson, forcing="grf", **LINE), 0.01),
    "square, sine": (partial(make_poisson, **SQUARE), 0),
    "square, sine, noise": (partial(make_poisson, **SQUARE), 0.01),
    "square, random fields, noise": (partial(make_poisson, forcing="grf", **SQUARE), 0.01),
    "L-shape": (partial(make_poisson, domain="l-shape", **SQUARE), 0),
    "perforated square": (partial(make_poisson, domain="perforated", **SQUARE), 0),
    "Helmholtz, noise": (partial(make_helmholtz, **SQUARE), 0.01),
}
LONG = ("perforated, 64 x 64", partial(make_poisson, domain="perforated", n_points=(64, 64)), 500, 100)
FEW = {
    "sine": partial(make_poisson, n_points=256),
    "random fields": partial(make_poisson, n_points=256, forcing="grf"),
}


def data(make, noise, n_train):
    """Inputs and targets, of which the first `n_train` are noisy."""
    X, y = make(n_samples=n_train + N_TEST, random_state=0, verbose=0)
    y[:n_train] += noise * y.std() * np.random.RandomState(1).standard_normal(y[:n_train].shape)
    return X, y


def error(model, X, y, n_train):
    model.fit(X[:n_train], y[:n_train])
    return relative_l2_error(y[n_train:], model.predict(X[n_train:])), model


def after_the_start(seconds):
    rows = [(name, make, noise, N_TRAIN, seconds) for name, (make, noise) in PROBLEMS.items()]
    name, make, n_train, long = LONG
    rows.append((name, make, 0, n_train, long * seconds / 8))
    print("mean relative L2 errors on new samples; to reach: ratios of at most 1.05, the last error below 1e-3")
    print(f"{'':30} {'start':>9} {'seconds':>8} {'later':>9} {'ratio':>6}")
    for name, make, noise, n_train, seconds in rows:
        X, y = data(make, noise, n_train)
        network = partial(NeuralHSSRegressor, init="linear", architecture="hss", random_state=0)
        # A step that changes nothing.
        start, _ = error(network(optimizer="adamw", lr=1e-15, max_epochs=1), X, y, n_train)
        end, model = error(network(max_seconds=seconds), X, y, n_train)
        training = model.training_["optimizer"] if model.n_iter_ else "no training"
        print(f"{name:30} {start:>9.2e} {seconds:>8g} {end:>9.2e} {end / start:>6.2f} {training}", flush=True)


def ten_samples(n_seeds):
    print("\nto reach: no error far above those of adamw")
    print(f"{'10 samples, noise of 1 %':30} {'mean':>9}   seeds")
    for name, make in FEW.items():
        X, y = data(make, 0.01, 10)
        for optimizer in ("adamw", "soap", "lm"):
            network = partial(NeuralHSSRegressor, init="random", architecture="hss", optimizer=optimizer)
            errors = [error(network(random_state=seed), X, y, 10)[0] for seed in range(n_seeds)]
            print(f"{f'{name}, {optimizer}':30} {np.mean(errors):>9.4f}   {np.round(errors, 4)}", flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8, help="of training after the start, and more in proportion")
    parser.add_argument("--seeds", type=int, default=3, help="of the networks with ten samples")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    after_the_start(options.seconds)
    ten_samples(options.seeds)


if __name__ == "__main__":
    main()
