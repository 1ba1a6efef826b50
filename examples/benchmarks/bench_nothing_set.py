"""Networks with nothing set, 20 seconds each, on nonlinear problems: ``python bench_nothing_set.py``.

A quarter of an hour on one core.

The networks were designed and most defaults chosen on the first three problems. The last three, coefficients of
-div(a grad u) = f to solutions u, were made after that; SOAP in one dimension and some rates were chosen on all. Beside
them, ridge and kernel ridge regression, tuned by cross-validation. ``--vary`` trains the baselines with half and twice
their width, modes and rate instead.
"""

import argparse
import time
import warnings

import numpy as np
import scipy.sparse as sp
import torch
from _problems import burgers, two_phase
from bench_init import cubic
from bench_nonlinear import classical
from scipy.sparse.linalg import spsolve

from sklearn_hss import DeepONetRegressor, FNORegressor, NeuralHSSRegressor, ResNetRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.metrics import relative_l2_error

NETWORKS = {
    "NeuralHSSRegressor": NeuralHSSRegressor,
    "FNORegressor": FNORegressor,
    "ResNetRegressor": ResNetRegressor,
    "DeepONetRegressor": DeepONetRegressor,
}


def solution(a, f):
    """Solution of -div(a grad u) = f, u = 0 on the boundary, by finite volumes with harmonic means, at cell centres."""
    matrix = 0
    for axis, n in enumerate(a.shape):
        difference = n * (sp.eye(n + 1, n) - sp.eye(n + 1, n, k=-1))
        rows = np.moveaxis(a, axis, 0)
        inner = 2 * rows[:-1] * rows[1:] / (rows[:-1] + rows[1:])
        # The outermost centres lie half a cell from the boundary.
        faces = np.moveaxis(np.concatenate([2 * rows[:1], inner, 2 * rows[-1:]]), 0, axis)
        along = sp.kron(sp.kron(sp.eye(np.prod(a.shape[:axis])), difference), sp.eye(np.prod(a.shape[axis + 1 :])))
        matrix = matrix + along.T @ sp.diags(faces.ravel()) @ along
    return spsolve(matrix.tocsc(), f.ravel()).reshape(a.shape)


def coefficients(n_samples, grid, length, seed, a_of, f):
    """Logarithms of random coefficients, functions of smooth Gaussian fields, and solutions."""
    fields, _ = make_poisson(
        n_samples,
        grid,
        boundary="neumann",
        forcing="grf",
        length_scale=length,
        refinement=1,
        random_state=seed,
        verbose=0,
    )
    a = a_of(fields / fields.std())
    x = np.meshgrid(*((np.arange(n) + 0.5) / n for n in a.shape[1:]), indexing="ij")
    return np.log(a), np.stack([solution(one, f(*x)) for one in a])


def steps_of_burgers(n):
    states = burgers(n, random_state=0)
    return states[:, :-1].reshape(-1, 128), states[:, 1:].reshape(-1, 128)


def wells(x, y):
    return np.exp(-30 * ((x - 0.3) ** 2 + (y - 0.6) ** 2)) - 0.5


#: Parameters of the baselines that are varied.
VARIED = {
    "FNORegressor": ("width", "modes", "lr"),
    "ResNetRegressor": ("width", "lr"),
    "DeepONetRegressor": ("width", "lr"),
}

#: Maker of so many samples, and numbers to train and to test with.
PROBLEMS = {
    "Burgers, one step": (steps_of_burgers, 200, 50),
    "two phases, 16 x 16": (lambda n: two_phase(n, random_state=0), 1000, 200),
    "-u'' + 2000 u^3 = f": (cubic, 500, 200),
    "unseen: 1 and 8, 24 x 18": (
        lambda n: coefficients(n, (24, 18), 0.25, 11, lambda g: np.where(g > 0.3, 8.0, 1.0), wells),
        800,
        200,
    ),
    "unseen: lognormal, 20 x 20": (
        lambda n: coefficients(n, (20, 20), 0.15, 12, lambda g: np.exp(1.5 * g), lambda x, y: np.sin(5 * x) + y),
        800,
        200,
    ),
    "unseen: smooth, 90 points": (
        lambda n: coefficients(n, 90, 0.2, 13, lambda g: 1 + np.exp(g), lambda x: 1 - 3 * x**2),
        800,
        200,
    ),
}


def data(name):
    """Inputs and outputs of a problem, and the number of the last ones that are for tests."""
    make, n_train, n_test = PROBLEMS[name]
    X, y = make(n_train + n_test)
    return X, y, n_test * len(X) // (n_train + n_test)


def main(problems=tuple(PROBLEMS), seconds=20, n_seeds=1):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"relative L2 errors on new samples, mean and half the range of {n_seeds} seeds, {seconds} s of training")
    print("to reach: Burgers 0.025, two phases 0.016, -u'' + 2000 u^3 = f 0.05, elsewhere kernel ridge and FNO")
    for name in problems:
        X, y, n_test = data(name)
        train, test = slice(-n_test), slice(-n_test, None)
        print(f"\n{name}, {len(X) - n_test} samples", flush=True)
        flat, offset, mean = X.reshape(len(X), -1), X[train].mean(), y[train].reshape(len(y) - n_test, -1).mean(0)
        scale = X[train].std()
        targets = (y.reshape(len(y), -1) - mean) / y[train].std()
        for label, model in classical().items():
            start = time.process_time()
            model.fit((flat[train] - offset) / scale, targets[train])
            found = model.predict((flat[test] - offset) / scale) * y[train].std() + mean
            error = relative_l2_error(y[test].reshape(n_test, -1), found)
            print(f"  {label:20} {error:.4f}            {time.process_time() - start:5.0f} s of CPU time", flush=True)
        for label, network in NETWORKS.items():
            errors, start = [], time.process_time()
            for seed in range(n_seeds):
                model = network(max_seconds=seconds, random_state=seed).fit(X[train], y[train])
                errors.append(relative_l2_error(y[test], model.predict(X[test])))
            used = (time.process_time() - start) / n_seeds
            print(
                f"  {label:20} {np.mean(errors):.4f} ± {np.ptp(errors) / 2:.4f} {used:6.0f} s of CPU time, "
                f"{model.n_parameters_} numbers {getattr(model, 'architecture_', '')}",
                flush=True,
            )


def vary(problems=tuple(PROBLEMS), seconds=20, n_seeds=1):
    """Errors of the baselines with nothing set, and with half and twice the value of one parameter."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"relative L2 errors on new samples, mean of {n_seeds} seeds, {seconds} s of training")
    for name in problems:
        X, y, n_test = data(name)
        print(f"\n{name}", flush=True)
        for label, parameters in VARIED.items():
            network = NETWORKS[label]

            def error(network=network, X=X, y=y, n_test=n_test, **arguments):
                found = []
                for seed in range(n_seeds):
                    model = network(max_seconds=seconds, random_state=seed, **arguments).fit(X[:-n_test], y[:-n_test])
                    found.append(relative_l2_error(y[-n_test:], model.predict(X[-n_test:])))
                return np.mean(found), model

            nothing, model = error()
            sizes = {**model.net_.get_params_for("module"), **model.training_}
            rest = {}
            for parameter in parameters:
                for factor in (0.5, 2):
                    value = scaled(sizes[parameter], factor)
                    try:
                        rest[f"{parameter}={value}"] = error(**{parameter: value})[0]
                    except ValueError as refused:  # more modes than the grid has
                        print(f"  {label:18} {parameter}={value} is left out: {refused}", flush=True)
            best = min(rest, key=rest.get)
            print(
                f"  {label:18} nothing set {nothing:.4f}, ratio to the best {nothing / min(nothing, rest[best]):.2f}; "
                + ", ".join(f"{variant} {found:.4f}" for variant, found in rest.items()),
                flush=True,
            )


def scaled(value, factor):
    """A number, or numbers, times a factor; integers stay integers."""
    if isinstance(value, tuple | list):
        return tuple(scaled(v, factor) for v in value)
    return max(round(value * factor), 1) if isinstance(value, int) else value * factor


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--vary", action="store_true", help="vary the parameters of the baselines")
    options = parser.parse_args()
    (vary if options.vary else main)(options.problems, options.seconds, options.seeds)
