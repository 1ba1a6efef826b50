"""Coverage and widths of prediction bands: ``python bench_conformal.py``, within five minutes on one core.

Every model is fitted once to `N_TRAIN` samples; then `N_SPLITS` random splits of further samples into some that
calibrate and `N_TEST` that are tested. The splits are equally likely orders of the same samples, so that the mean
coverage over all of them is the exact value. The second table has the intervals that a Gaussian process and an ensemble
of five networks give by themselves, mean +- 1.645 standard deviations, beside conformal bands around the same
predictions. Widths are in units of the standard deviation of the targets. Points where the targets never vary do not
count.
"""

import argparse
import time
import warnings
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from sklearn_hss import (
    ConformalFieldRegressor,
    HSSRegressor,
    LocalEvolutionRegressor,
    LocalOperatorRegressor,
    NeuralHSSRegressor,
    RolloutRegressor,
)
from sklearn_hss.datasets import make_burgers, make_elliptic, make_heat, make_poisson

N_TRAIN, N_TEST, N_SPLITS = 60, 150, 200
CALIBRATION = (20, 50, 200)
ALPHA, QUANTILE = 0.1, 1.645
N_MEMBERS, SECONDS = 5, 4.0


@dataclass
class Problem:
    """Samples, the model for them, and a network of which there are several."""

    X: np.ndarray
    y: np.ndarray
    model: BaseEstimator
    network: BaseEstimator

    def __post_init__(self):
        self.rollouts = isinstance(self.model, RolloutRegressor)
        self.targets = self.y.reshape(len(self.y), -1)
        self.varies = np.ptp(self.targets, axis=0) > 0
        if self.rollouts:
            self.varies[: self.y[0, 0].size] = False
        self.size = self.targets[:, self.varies].std()

    def predictions(self, model):
        """Of a model that is fitted to the first samples, for all, in rows."""
        if self.rollouts:
            model = clone(model).fit(self.y[:N_TRAIN])
            return model.rollout(self.X, self.y.shape[1] - 1).reshape(self.targets.shape)
        return clone(model).fit(self.X[:N_TRAIN], self.y[:N_TRAIN]).predict(self.X).reshape(self.targets.shape)


def noisy(y, level, inside=True):
    """Targets with white noise of `level` times their standard deviation."""
    return y + level * y.std() * np.random.RandomState(1).standard_normal(y.shape) * inside


def poisson(n):
    X, y = make_poisson(n, 64, random_state=0, verbose=0)
    return Problem(X, noisy(y, 0.02), HSSRegressor(random_state=0), NeuralHSSRegressor(init="random"))


def burgers(n):
    X, y = make_burgers(n, 64, viscosity=1e-2, t_final=0.2, refinement=1, random_state=0, verbose=0)
    law = LocalEvolutionRegressor(degree=2, dt=0.2, random_state=0)
    return Problem(X, y, law, RolloutRegressor(NeuralHSSRegressor(init="random")))


def two_phases(n):
    x = np.arange(16)
    mask = (x[:, None] < 8) | (x < 8)
    a = 1 + 9 * np.kron(np.random.RandomState(1).uniform(size=(4, 4)) > 0.5, np.ones((4, 4)))
    X, y = make_elliptic(n, (16, 16), domain=mask, diffusivity=a, random_state=0, verbose=0)
    law = LocalOperatorRegressor(mask=mask, radius=1, neighbourhood="cross", random_state=0)
    return Problem(X, noisy(y, 0.01, mask), law, NeuralHSSRegressor(init="random", mask=mask))


def heat(n):
    X, y = make_heat(n, 64, solver="exact", t_final=0.8, random_state=0, verbose=0)
    return Problem(X, noisy(y, 0.01), HSSRegressor(random_state=0), NeuralHSSRegressor(init="random"))


def rollouts(n):
    _, U = make_heat(
        n, 32, solver="exact", t_final=4.0, store_every=0.8, return_trajectories=True, random_state=0, verbose=0
    )
    U = noisy(U, 0.01)
    step = RolloutRegressor(HSSRegressor(random_state=0))
    return Problem(U[:, 0], U, step, RolloutRegressor(NeuralHSSRegressor(init="random")))


PROBLEMS = {
    "1-D Poisson, noise 2 %": poisson,
    "Burgers, one step": burgers,
    "two phases, L-shape, noise 1 %": two_phases,
    "heat, one step, noise 1 %": heat,
    "heat, five steps, noise 1 %": rollouts,
}


class Known(RegressorMixin, BaseEstimator):
    """Predictions that are known already: inputs are their numbers."""

    def __init__(self, predictions):
        self.predictions = predictions

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return self.predictions[X[:, 0].astype(int)]


def coverage(lower, upper, truth):
    """Fractions of the values and of the samples that are within, and the mean width."""
    within = (lower <= truth) & (truth <= upper)
    return within.mean(), within.all(axis=1).mean(), (upper - lower).mean()


def conformal(problem, predictions, kind, n):
    """Mean coverage, of values or of samples, and mean width, over the splits."""
    truth, predictions = problem.targets[:, problem.varies], predictions[:, problem.varies]
    numbers = np.arange(len(truth))[:, None]
    model = ConformalFieldRegressor(Known(predictions), alpha=ALPHA, kind=kind, method="cross", cv=2, random_state=0)
    model.fit(numbers[:N_TRAIN], truth[:N_TRAIN])  # scales of errors come from these
    rng, found = np.random.RandomState(0), []
    for _ in range(N_SPLITS):
        order = N_TRAIN + rng.permutation(len(truth) - N_TRAIN)
        calibrating, tested = order[:n], order[n : n + N_TEST]
        model.calibrate(numbers[calibrating], truth[calibrating])
        values, samples, width = coverage(*model.predict_interval(numbers[tested]), truth[tested])
        found.append((values if kind == "pointwise" else samples, width / problem.size))
    return np.mean(found, axis=0)


def gaussian_process(problem):
    """Predictions and standard deviations, from the most likely scales."""
    X = problem.X.reshape(len(problem.X), -1)
    X = X / X.std() / X.shape[1] ** 0.5
    kernel = ConstantKernel(1.0, (1e-3, 1e6)) * RBF(1.0, (1e-2, 1e4)) + WhiteKernel(1e-4, (1e-10, 1.0))
    model = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0)
    return model.fit(X[:N_TRAIN], problem.targets[:N_TRAIN]).predict(X, return_std=True)


def ensemble(problem):
    """Mean and standard deviation of networks from several seeds."""
    inside = "estimator__" if isinstance(problem.network, RolloutRegressor) else ""
    members = [
        problem.predictions(
            clone(problem.network).set_params(**{f"{inside}max_seconds": SECONDS, f"{inside}random_state": seed})
        )
        for seed in range(N_MEMBERS)
    ]
    return np.mean(members, axis=0), np.std(members, axis=0, ddof=1)


def main(names=tuple(PROBLEMS)):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    start, rows = time.perf_counter(), []
    print(f"{N_SPLITS} splits, {N_TEST} test samples, {N_TRAIN} to train with; width / standard deviation of targets")
    print(f"{'':30} {'n':>4} {'exact':>6}  {'points':>6} {'width':>7}  {'fields':>6} {'width':>7}")
    for name in names:
        problem = PROBLEMS[name](N_TRAIN + max(CALIBRATION) + N_TEST)
        predictions = problem.predictions(problem.model)
        for n in CALIBRATION:
            exact = ceil(round((n + 1) * (1 - ALPHA), 9)) / (n + 1)
            found = [conformal(problem, predictions, kind, n) for kind in ("pointwise", "band")]
            numbers = "  ".join(f"{mean:6.3f} {width:7.1e}" for mean, width in found)
            far = max(abs(mean - exact) for mean, _ in found)
            print(f"{name:30} {n:4d} {exact:6.3f}  {numbers}  off by {far:.3f}, to reach 0.02", flush=True)
        truth, sides = problem.targets[N_TRAIN:, problem.varies], {"its own model": (predictions, None)}
        sides |= {"Gaussian process": gaussian_process(problem), "5 networks": ensemble(problem)}
        for side, (mean, deviation) in sides.items():
            own = ("",) * 3
            if deviation is not None:
                low, high = (mean + sign * QUANTILE * deviation for sign in (-1, 1))
                of_points, of_fields, width = coverage(*(Z[N_TRAIN:, problem.varies] for Z in (low, high)), truth)
                own = (f"{of_points:.3f}", f"{of_fields:.3f}", f"{width / problem.size:.1e}")
            around = [conformal(problem, mean, kind, 50) for kind in ("pointwise", "band")]
            numbers = "  ".join(f"{mean:6.3f} {width:7.1e}" for mean, width in around)
            rows.append(f"{name:30} {side:16}  {own[0]:>6} {own[1]:>6} {own[2]:>7}   {numbers}")
    print("\nintervals of 90 %: its own (points, fields, width), and conformal with n = 50, by points and by fields")
    print("\n".join(rows))
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS))
    main(parser.parse_args().problems)
