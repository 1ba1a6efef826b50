"""Seconds to fit the linear map beside Ridge: ``bench_fit.py [--table poisson problems hopeless large]``, one thread.

"poisson", about a minute: n = 4096 points, where "known" is told what the operator is like (rank and symmetry, or the
form), and "auto" finds out by itself. "problems", a minute: what there is to fit in one to three dimensions; errors are
those on new samples of the same kind, and of another kind where one law holds for both. "hopeless", minutes: mostly
noise, nonlinearity and domains that are no boxes, where trying everything would be slow and in vain. "large", minutes:
fields of 64 x 64 x 64 points.
"""

import argparse
import statistics
import time
import warnings
from functools import partial

import numpy as np
import torch
from _linear_problems import HOPELESS, LARGE, PROBLEMS, LinearProblem
from _timing import interleaved_medians
from scipy.linalg import solve_banded
from sklearn.linear_model import Ridge

from sklearn_hss import HSSRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.metrics import relative_l2_error

N_POINTS = 4096
SAMPLES = (8, 10, 20, 40)
# A fit may take as many seconds, or as many times as long as Ridge(), whose matrix of 64^3 x 64^3 fits no memory.
SECONDS, RIDGES, SECONDS_LARGE = 2.0, 10.0, 20.0


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


EQUATIONS = {
    "Poisson, second order": (lambda n: poisson(n, 2), {"rank": 2, "symmetric": True}),
    "Poisson, fourth order": (lambda n: poisson(n, 4), {"rank": 4, "form": "inverse"}),
    "convection-diffusion": (convection_diffusion, {"rank": 2, "form": "inverse"}),
}


def compare_with_ridge(only):
    """The table "poisson"."""
    print(f"n = {N_POINTS}, milliseconds; time of HSSRegressor over that of Ridge() to reach: 1")
    print(f"{'problem':24} {'samples':>8} {'Ridge':>7} {'no intercept':>13} {'known':>7} {'auto':>7}   over Ridge()")
    for name, (make, known) in EQUATIONS.items():
        for n_samples in SAMPLES if only in name else ():
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


def seconds(fit):
    """Median of three calls, or a single one that takes a second or more."""
    times = []
    while len(times) < 3 and not (times and times[0] >= 1):
        start = time.perf_counter()
        fit()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def judge(title, problems, only, limit):
    """Form, errors and seconds of every problem, and whether it stays below the limit.

    Parameters
    ----------
    title : str
    problems : dict of str to LinearProblem, or to a callable that makes samples
    only : str
        Text that the names must have in them.
    limit : float
        Seconds that a fit may take, if ten times those of Ridge are not more. Ridge is left out if the limit is that of
        large problems.
    """
    print(f"{title}; to reach: the limit")
    print(f"{'problem':41} {'error':>7} {'other':>7} {'seconds':>8} {'Ridge':>7} {'limit':>6}       chosen form")
    within = []
    # The first fits load libraries.
    for model in (HSSRegressor(), Ridge()):
        model.fit(*make_poisson(8, 32, forcing="gaussian", random_state=0))
    for name, problem in problems.items():
        if only not in name:
            continue
        if not isinstance(problem, LinearProblem):
            problem = LinearProblem(problem)
        samples = problem.make()
        F, U = samples.train
        model = HSSRegressor(random_state=0, **problem.parameters)
        taken = seconds(lambda model=model, F=F, U=U: model.fit(F, U))
        pairs = (samples.test, samples.other)
        errors = [f"{relative_l2_error(pair[1], model.predict(pair[0])):7.1e}" if pair else "-" for pair in pairs]
        ridge, allowed = "-", limit
        if limit < SECONDS_LARGE:
            flat = [fields.reshape(len(fields), -1) for fields in (F, U)]
            of_ridge = seconds(lambda flat=flat: Ridge().fit(*flat))
            ridge, allowed = f"{of_ridge:.3f}", max(limit, RIDGES * of_ridge)
        within.append(taken <= allowed)
        print(
            f"{name:41} {errors[0]:>7} {errors[1]:>7} {taken:8.3f} {ridge:>7} {allowed:6.1f} "
            f"{'ok' if within[-1] else 'over':>5} {model.reason_.split(':')[0]}",
            flush=True,
        )
    print(f"{sum(within)} of {len(within)} ok")


TABLES = {
    "poisson": compare_with_ridge,
    "problems": partial(judge, "Problems, seconds", PROBLEMS, limit=SECONDS),
    "hopeless": partial(judge, "Hopeless problems, seconds", HOPELESS, limit=SECONDS),
    "large": partial(judge, "Large problems, seconds", LARGE, limit=SECONDS_LARGE),
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--table", nargs="+", choices=[*TABLES, "all"], default=["poisson"], help="tables to print")
    parser.add_argument("--only", default="", metavar="TEXT", help="problems with this text in their names")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    for name, table in TABLES.items():
        if name in chosen.table or "all" in chosen.table:
            table(only=chosen.only)


if __name__ == "__main__":
    main()
