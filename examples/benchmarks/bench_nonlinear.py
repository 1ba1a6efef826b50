"""Which form of Neural-HSS suits nonlinear problems? ``python bench_nonlinear.py``, about 25 minutes on one core.

Every network trains for the same seconds of CPU time, with the learning rate out of `RATES` that was best on held-out
training data after `PROBE` seconds; kernel ridge is tuned by cross-validation. Inputs and targets are centred and
scaled alike for all. The problems:

- one step of Burgers' equation, dt = 0.2 up to t = 3, and rollouts of such steps from the initial state;
- the solution of -div(a grad u) = 1 from a coefficient a of two phases;
- the solution of -u'' + 2000 u³ = f from a smooth random f.
"""

import time
import warnings

import numpy as np
import torch
from _problems import burgers, two_phase
from _training import PAPER_FNO, train
from bench_init import cubic
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV

from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer
from sklearn_hss.nn import FNO, NeuralHSS, PatchHSS, ResNet

SECONDS, PROBE, SEEDS = 20, 4, (0, 1)
RATES = (1e-3, 2e-3, 4e-3)
BATCH_SIZE = 16
N_TRAJECTORIES, N_COEFFICIENTS, N_FORCES = 200, 1000, 500
ROLLOUTS = (8, 15)


def networks(grid, kernel_size, paper, hss, **channels):
    """Constructors of the networks by name; `paper` and `hss` are trees and ranks of one channel and of many.

    ``in_channels`` and ``out_channels`` are those of fields that have any.
    """
    paper = {**paper, **channels}
    block = {**channels, "width": 16, "depth": 4, "activation": "gelu", "bias": True, "residual": True, **hss}
    local = {**block, "depth": 2, "residual": False, "kernel_size": kernel_size, "local_depth": 1}
    resnet = {"width": 32 if len(grid) == 1 else 16, "depth": 4, **channels}
    dilations = (1, 2, 4, 8) if len(grid) == 1 else (1, 2, 4)
    return {
        "Neural-HSS of the paper": lambda: NeuralHSS(grid, grid, **paper),
        "+ slope 0.25, bias": lambda: NeuralHSS(grid, grid, initial_slope=0.25, bias=True, **paper),
        "16 channels, residual, GELU": lambda: NeuralHSS(grid, grid, **block),
        f"+ convolution ({kernel_size})": lambda: NeuralHSS(grid, grid, kernel_size=kernel_size, **block),
        "HSS in every 2nd conv. block": lambda: NeuralHSS(grid, grid, **local),
        "PatchHSS": lambda: PatchHSS(grid, **channels),
        "PatchHSS without HSS": lambda: PatchHSS(grid, hss_channels=0, **channels),
        "FNO": lambda: FNO(grid, **channels, **PAPER_FNO[len(grid)]),
        "dilated ResNet": lambda: ResNet(grid, dilations=dilations, **resnet),
    }


def classical():
    """Ridge and kernel ridge, tuned by cross-validation."""
    grid = {"alpha": np.logspace(-8, -2, 4), "gamma": np.logspace(-4, -1, 7)}
    kernel = GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=3, scoring=relative_l2_scorer)
    return {"ridge": RidgeCV(alphas=np.logspace(-4, 4, 9)), "kernel ridge": kernel}


class Flat:
    """An estimator for flat fields, as a function of fields."""

    def __init__(self, estimator, X, Y):
        self.estimator = estimator.fit(X.reshape(len(X), -1), Y.reshape(len(Y), -1))

    def __call__(self, x):
        return self.estimator.predict(x.reshape(len(x), -1)).reshape(x.shape)


class Trained:
    """A network after training, as a function of fields."""

    def __init__(self, make, seed, X, Y, **settings):
        torch.manual_seed(seed)
        start = time.process_time()
        self.net = train(make(), X, Y, seed=seed, batch_size=BATCH_SIZE, **settings)
        self.seconds, self.n_steps = time.process_time() - start, self.net.n_steps

    def __call__(self, x):
        with torch.no_grad():
            return self.net(torch.as_tensor(x, dtype=torch.float32)).double().numpy()


def best_rate(make, X, Y, groups, seconds=None):
    """The learning rate of least error on a fifth of the training data, left out whole groups at a time.

    After `PROBE` seconds, if not others are given.
    """
    held_out = groups >= 0.8 * (groups.max() + 1)

    def error(lr):
        model = Trained(make, 0, X[~held_out], Y[~held_out], lr=lr, seconds=seconds or PROBE)
        return np.nan_to_num(np.mean((model(X[held_out]) - Y[held_out]) ** 2), nan=np.inf)

    return min(RATES, key=error)


def compare(X, Y, groups, makers, errors):
    """Train everything, print a table, and return the mean first error of each.

    `errors` gives errors by name for a function of fields.
    """
    found = {}
    print(f"{'':30} {'numbers':>7} {'rate':>5} {'steps':>6} {'s':>3}  errors")
    for name, estimator in classical().items():
        values = errors(Flat(estimator, X, Y))
        found[name] = next(iter(values.values()))
        print(f"{name:30} {'':24}", *(f"{what} {value:.3f}        " for what, value in values.items()), flush=True)
    for name, make in makers.items():
        lr = best_rate(make, X, Y, groups)
        models = [Trained(make, seed, X, Y, lr=lr, seconds=SECONDS) for seed in SEEDS]
        steps, seconds = (np.mean([getattr(model, key) for model in models]) for key in ("n_steps", "seconds"))
        values = [errors(model) for model in models]
        found[name] = np.mean([next(iter(value.values())) for value in values])
        n_parameters = sum(parameter.numel() for parameter in models[0].net.parameters())
        print(f"{name:30} {n_parameters:7} {lr:.0e} {steps:6.0f} {seconds:3.0f} ", end="")
        for what in values[0]:
            column = [value[what] for value in values]
            print(f" {what} {np.mean(column):.3f} ± {np.ptp(column) / 2:.3f}", end="")
        print(flush=True)
    return found


def best_block(found):
    """Name and error of the best network with HSS layers."""
    name = min(found.keys() - {"ridge", "kernel ridge", "PatchHSS without HSS", "FNO", "dilated ResNet"}, key=found.get)
    return f"{name}, {found[name]:.3f}"


def step_of_burgers():
    trajectories = burgers(N_TRAJECTORIES + 50, random_state=0)
    fitted, test = trajectories[:N_TRAJECTORIES], trajectories[N_TRAJECTORIES:]
    n_steps, n = fitted.shape[1] - 1, fitted.shape[2]
    scale = fitted.std()

    def errors(step):
        state, before, after = test[:, 0] / scale, test[:, :-1].reshape(-1, n), test[:, 1:].reshape(-1, n)
        found = {"one step": relative_l2_error(after, scale * step(before / scale))}
        for k in range(1, max(ROLLOUTS) + 1):
            state = step(state)
            if k in ROLLOUTS:
                found[f"{k} steps"] = relative_l2_error(test[:, k], scale * state)
        return found

    print(f"Burgers, viscosity 1e-3, {n} points, {N_TRAJECTORIES} trajectories of {n_steps} steps of 0.2")
    X, Y = (part.reshape(-1, n) / scale for part in (fitted[:, :-1], fitted[:, 1:]))
    hss = {"outer_rank": 1, "rank": 2, "levels": 3}
    makers = networks((n,), 9, {"depth": 3, **hss}, hss)
    found = compare(X, Y, np.repeat(np.arange(N_TRAJECTORIES), n_steps), makers, errors)
    print(f"best with HSS: {best_block(found)}; to reach: one step 0.025, 15 steps 0.15")


def solutions(x, u, n_fitted, paper, hss):
    """Compare the networks on the way from one field to another; parameters as of `networks`."""
    fitted = slice(n_fitted)
    x = (x - x[fitted].mean()) / x[fitted].std()
    mean = u[fitted].mean(axis=0)
    scale = (u[fitted] - mean).std()

    def errors(solve):
        return {"error": relative_l2_error(u[n_fitted:], mean + scale * solve(x[n_fitted:]))}

    grid = u.shape[1:]
    makers = networks(grid, 9 if len(grid) == 1 else 3, paper, hss)
    return compare(x[fitted], (u[fitted] - mean) / scale, np.arange(n_fitted), makers, errors)


def solution_of_two_phases():
    a, u = two_phase(N_COEFFICIENTS + 200, random_state=0)
    print(f"Two phases to solution, {' x '.join(map(str, u.shape[1:]))} points, {N_COEFFICIENTS} samples")
    # On so few points per dimension, dense factors (no levels) are faster than HSS ones, at few more parameters.
    found = solutions(a, u, N_COEFFICIENTS, {"depth": 3, "levels": 1}, {"outer_rank": 2, "levels": 0})
    print(f"best with HSS: {best_block(found)}; to reach: 0.016")


def solution_of_cubic():
    f, u = cubic(N_FORCES + 200)
    print(f"-u'' + 2000 u^3 = f, {u.shape[1]} points, {N_FORCES} samples")
    hss = {"outer_rank": 1, "rank": 2, "levels": 3}
    found = solutions(f, u, N_FORCES, {"depth": 3, **hss}, hss)
    print(f"best with HSS: {best_block(found)}; to reach: 0.05")


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"{SECONDS} s of training each; errors relative, in L2, mean and half the range of {len(SEEDS)} seeds")
    step_of_burgers()
    solution_of_two_phases()
    solution_of_cubic()


if __name__ == "__main__":
    main()
