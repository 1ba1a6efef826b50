"""Networks from random weights on linear equations, trained as well as they can be: ``python bench_trained.py``.

Every network trains for the same seconds, with the optimiser and the rate out of `CANDIDATES` that were best on a
fifth of the training samples after a quarter of these seconds; then with all samples, from several seeds. "auto" is
Neural-HSS with nothing set but ``init="random"``. One thread each, and a GPU where there is one. Everything takes
hours, so `--problems` and `--models` choose parts, ``--chosen soap 0.03`` gives the optimiser and the rate, and
`--cache` keeps what has been done; problems of half an hour a fit run where they are named.
"""

import argparse
import time
import warnings

import joblib
import numpy as np
import torch
from sklearn.base import clone

from sklearn_hss import DeepONetRegressor, FNORegressor, NeuralHSSRegressor, ResNetRegressor
from sklearn_hss.datasets import make_helmholtz, make_poisson
from sklearn_hss.metrics import relative_l2_error

N_TEST = 200


def _grid(make, **arguments):
    return lambda n: make(n, (64, 64), random_state=0, verbose=0, **arguments)


#: Maker of the data, training samples, seconds, and the error to reach.
PROBLEMS = {
    "1-D Poisson, N = 100": (lambda n: make_poisson(n, random_state=0, verbose=0), 100, 10, 1e-4),
    "1-D Poisson, N = 1000": (lambda n: make_poisson(n, random_state=0, verbose=0), 1000, 20, 1e-4),
    "1-D Neumann, N = 1000": (lambda n: make_poisson(n, boundary="neumann", random_state=0, verbose=0), 1000, 20, 2e-4),
    "64 x 64 Poisson, N = 100": (_grid(make_poisson), 100, 40, 5e-3),
    "64 x 64 perforated, N = 500": (_grid(make_poisson, domain="perforated"), 500, 100, 3e-3),
    "64 x 64 L-shape, N = 500": (_grid(make_poisson, domain="l-shape"), 500, 100, 2e-2),
    "64 x 64 Helmholtz, N = 500": (_grid(make_helmholtz), 500, 100, 6e-3),
    "64 x 64 Poisson, N = 4200": (_grid(make_poisson), 4200, 1800, 1e-4),
    "64 x 64 perforated, N = 2250": (_grid(make_poisson, domain="perforated"), 2250, 1800, 1e-3),
}
MODELS = {
    "Neural-HSS": NeuralHSSRegressor(init="random", architecture="hss"),
    "FNO": FNORegressor(),
    "ResNet": ResNetRegressor(),
    "DeepONet": DeepONetRegressor(),
}
#: Optimisers and rates that are tried; for Neural-HSS in one dimension "lm" as well.
CANDIDATES = [
    *({"optimizer": "adamw", "lr": lr} for lr in (1e-3, 3e-3, 1e-2)),
    *({"optimizer": "soap", "lr": lr} for lr in (3e-3, 1e-2, 3e-2)),
]


def fit(problem, model, seconds, part=None, seed=0):
    """Error on new samples, or on a fifth of the training samples with ``part="held out"``; seconds; what it did."""
    make, n_train, *_ = PROBLEMS[problem]
    X, y = make(n_train + N_TEST)
    train, test = slice(n_train), slice(n_train, None)
    if part == "held out":
        train, test = slice(n_train // 5, n_train), slice(n_train // 5)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fitted = clone(model).set_params(max_seconds=seconds, random_state=seed).fit(X[train], y[train])
        except FloatingPointError:
            return np.inf, 0, {}, 0
    taken = time.process_time() - start
    return relative_l2_error(y[test], fitted.predict(X[test])), taken, fitted.training_, fitted.n_iter_


def tune(run, problem, model, seconds):
    """The candidate of least error on held-out samples."""
    candidates = list(CANDIDATES)
    if isinstance(model, NeuralHSSRegressor) and problem.startswith("1-D"):
        candidates.append({"optimizer": "lm"})
    errors = [run(problem, clone(model).set_params(**c), seconds / 4, "held out")[0] for c in candidates]
    return candidates[int(np.argmin(errors))]


def main(problems, models, n_seeds, cache, share, given=None):
    torch.set_num_threads(1)
    run = joblib.Memory(cache, verbose=0).cache(fit)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{device}; mean relative L2 error on {N_TEST} new samples, smallest and largest of {n_seeds} seeds")
    for problem in problems:
        _, _, seconds, goal = PROBLEMS[problem]
        seconds *= share
        print(f"\n{problem}, {seconds:g} s; to reach {goal:.0e}", flush=True)
        for name in models:
            if name == "auto":
                chosen = {}
            elif given:
                chosen = {"optimizer": given[0], "lr": float(given[1])}
            else:
                chosen = tune(run, problem, MODELS[name], seconds)
            model = clone(MODELS.get(name, MODELS["Neural-HSS"])).set_params(**chosen)
            found = [run(problem, model, seconds, None, seed) for seed in range(n_seeds)]
            errors = [error for error, *_ in found]
            how = " ".join(str(value) for value in chosen.values()) or found[0][2].get("optimizer")
            print(
                f"  {name:12} {how:12} {np.mean(errors):.1e} ({min(errors):.1e}, {max(errors):.1e}), "
                f"{np.mean([result[1] for result in found]):.0f} s of CPU time, "
                f"{np.mean([result[3] for result in found]):.0f} epochs",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", nargs="*", default=[name for name in PROBLEMS if PROBLEMS[name][2] < 1000])
    parser.add_argument("--models", nargs="*", default=["auto", *MODELS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", default=None, help="folder that keeps results")
    parser.add_argument("--chosen", nargs=2, metavar=("OPTIMIZER", "LR"), help="instead of the search")
    parser.add_argument("--share", type=float, default=1.0, help="factor of all seconds")
    options = parser.parse_args()
    main(options.problems, options.models, options.seeds, options.cache, options.share, options.chosen)
