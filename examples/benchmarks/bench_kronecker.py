"""The linear map in several dimensions: ``bench_kronecker.py [paper pairs rank diffusion noise three large]``.

Mean relative L2 errors on new samples, mean over the seeds, and seconds per fit, on one thread. Without arguments, all
tables but "large" are printed, in some minutes; "large" is 128^3, which takes a few GiB.
"""

import sys
import time
import warnings
from functools import partial

import numpy as np
import pandas as pd
import torch
from _problems import odd_l_shape
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from tqdm.auto import tqdm

from sklearn_hss import HSSRegressor, NeuralHSSRegressor
from sklearn_hss.datasets import make_helmholtz, make_poisson
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer

SEEDS = (0, 1, 2)
N_POINTS = 64
N_TEST = 50
GRID_3D = (64, 64, 64)


class Flat:
    """A model of flat fields, for fields on grids."""

    def __init__(self, model):
        self.model = model

    def fit(self, F, U):
        self.model.fit(F.reshape(len(F), -1), U.reshape(len(U), -1))
        self.shape = U.shape[1:]
        return self

    def predict(self, F):
        return self.model.predict(F.reshape(len(F), -1)).reshape(-1, *self.shape)


def least_squares():
    return Flat(LinearRegression(fit_intercept=False))


def ridge():
    return Flat(RidgeCV(np.logspace(-14, 4, 19), fit_intercept=False))


def kernel_ridge():
    grid = {"alpha": [1e-10, 1e-7, 1e-4], "gamma": [1e-6, 1e-5, 1e-4, 1e-3]}
    return Flat(GridSearchCV(KernelRidge(kernel="rbf"), grid, scoring=relative_l2_scorer, cv=3))


def hss(**parameters):
    return HSSRegressor(random_state=0, **parameters)


def table(title, rows):
    """Print mean errors of (label, [(F, U, tests)], model factory) with one column per test set."""
    lines = []
    for labels, runs, make in tqdm(rows, desc=title, leave=False):
        errors, seconds = [], []
        for F, U, tests in runs:
            start = time.perf_counter()
            model = make().fit(F, U)
            seconds.append(time.perf_counter() - start)
            errors.append([relative_l2_error(V, model.predict(G)) for G, V in tests.values()])
        means = dict(zip(runs[0][2], (f"{e:.1e}" for e in np.mean(errors, axis=0)), strict=True))
        lines.append({**labels, **means, "seconds": f"{np.mean(seconds):.2f}"})
    print(f"\n{title}\n{pd.DataFrame(lines).to_string(index=False)}", flush=True)


def paper():
    """Sine forcings of Appendix F; the paper's Neural-HSS has 7e-8 from 4,200 and 6e-3 from 2,250 samples."""
    rows = []
    for name, make in (("Poisson", make_poisson), ("Helmholtz", make_helmholtz)):
        data = [make(100 + N_TEST, (N_POINTS, N_POINTS), random_state=seed) for seed in SEEDS]
        for n, label, model in (
            (4, "HSSRegressor()", hss),
            (4, "HSSRegressor(outer_rank=8)", lambda: hss(outer_rank=8)),
            (4, "HSSRegressor(outer_rank=10)", lambda: hss(outer_rank=10)),
            (32, "HSSRegressor(form='forward', outer_rank=8)", lambda: hss(form="forward", outer_rank=8)),
            (4, "HSSRegressor(outer_rank=8, rank=2, levels=2)", lambda: hss(outer_rank=8, rank=2, levels=2)),
            (4, "least squares", least_squares),
            (100, "least squares", least_squares),
            (4, "ridge", ridge),
            (100, "ridge", ridge),
        ):
            runs = [(F[:n], U[:n], {"error": (F[-N_TEST:], U[-N_TEST:])}) for F, U in data]
            rows.append(({"equation": name, "samples": n, "model": label}, runs, model))
    table(f"Sine forcings, {N_POINTS}x{N_POINTS}, in distribution", rows)


def pairs():
    """Five-point schemes, trained and tested on three kinds of forcing."""
    n, kinds, rows = (N_POINTS, N_POINTS), {"white": "gaussian", "smooth": "grf", "sine": "sine"}, []
    for name, make, options in (
        ("Poisson", make_poisson, {}),
        ("Helmholtz", make_helmholtz, {"boundary": "dirichlet"}),
    ):
        options = {"order": 2, "refinement": 1, **options}
        tests = {k: make(N_TEST, n, forcing=f, random_state=99, **options) for k, f in kinds.items()}
        for kind, forcing in kinds.items():
            data = [make(8, n, forcing=forcing, random_state=seed, **options) for seed in SEEDS]
            for samples, label, model in (
                (8, "HSSRegressor()", hss),
                (3, "HSSRegressor()", hss),
                (8, "HSSRegressor(outer_rank=8)", lambda: hss(outer_rank=8)),
                (8, "least squares", least_squares),
                (8, "ridge", ridge),
            ):
                runs = [(F[:samples], U[:samples], tests) for F, U in data]
                rows.append(({"equation": name, "trained on": kind, "samples": samples, "model": label}, runs, model))
    table(f"Five-point schemes, {N_POINTS - 1}x{N_POINTS - 1} inner points, tested on", rows)


def rank():
    """Cost of the HSS rank, for factors of the full spectrum."""
    n, rows = (N_POINTS, N_POINTS), []
    options = {"order": 2, "forcing": "gaussian"}
    data = [make_poisson(8 + N_TEST, n, random_state=seed, **options) for seed in SEEDS]
    for r in (1, 2, 4, 8, "auto"):
        parameters = {"outer_rank": 8, "rank": r, "levels": 2}
        F, U = data[0]
        size = hss(**parameters).fit(F[:8], U[:8]).n_parameters_
        runs = [(F[:8], U[:8], {"error": (F[8:], U[8:])}) for F, U in data]
        label = {"form": "8 Kronecker products, leaf 16", "HSS rank": r, "parameters": f"{size:,}"}
        rows.append((label, runs, lambda p=parameters: hss(**p)))
    model = hss().fit(*(array[:8] for array in data[0]))
    label = {"form": "inverse", "HSS rank": max(model.operator_.inverse.rank), "parameters": f"{model.n_parameters_:,}"}
    rows.append((label, runs, hss))
    table("White forcings, 8 samples, five-point Poisson: error against HSS rank", rows)


def mild(x, y):
    """Coefficient between 0.5 and 1.5."""
    return 1 + 0.5 * np.sin(2 * np.pi * x) * np.sin(2 * np.pi * y)


def wild(x, y):
    """Coefficient between 0.3 and 1.7, no sum of few products."""
    return mild(x, y) + 0.2 * np.cos(3 * np.pi * (x + y**2))


def variable_diffusion(a, n_samples, random_state):
    """Data of -div(a grad u) = f at the inner points."""
    F, U = make_poisson(n_samples, (N_POINTS, N_POINTS), diffusivity=a, refinement=1, random_state=random_state)
    return F[:, 1:, 1:], U[:, 1:, 1:]


def diffusion():
    """Not separable: -div(a(x, y) grad u) and the L-shape with odd modes; one seed."""
    rows = []
    for name, make, outer_ranks in (
        ("-div(a grad u), mild a", partial(variable_diffusion, mild), (8, 16, 32)),
        ("-div(a grad u), wild a", partial(variable_diffusion, wild), (8, 16, 32)),
        ("L-shape", partial(odd_l_shape, n_points=N_POINTS), (8,)),
    ):
        data = [make(n_samples=500 + N_TEST, random_state=seed) for seed in SEEDS[:1]]
        for label, model in (
            *((f"HSSRegressor(outer_rank={R})", lambda R=R: hss(outer_rank=R, form="forward")) for R in outer_ranks),
            ("HSSRegressor()", hss),
            ("ridge", ridge),
            ("kernel ridge", kernel_ridge),
            ("least squares", least_squares),
        ):
            runs = [(F[:500], U[:500], {"error": (F[500:], U[500:])}) for F, U in data]
            rows.append(({"equation": name, "model": label}, runs, model))
    table("Not separable, 500 samples", rows)


def noise():
    """1 % noise on U, one seed; errors on exact test data."""
    rows = []
    for kind, options in {
        "sine": {},
        "white": {"order": 2, "forcing": "gaussian"},
        "smooth": {"order": 2, "forcing": "grf", "refinement": 1},
    }.items():
        n = (N_POINTS // (1 if kind == "sine" else 2),) * 2
        for samples in (4, 16, 64):
            runs = []
            for seed in SEEDS[:1]:
                F, U = make_poisson(samples + N_TEST, n, random_state=seed, **options)
                V = U[:samples] + 0.01 * U.std() * np.random.RandomState(seed).standard_normal((samples, *n))
                runs.append((F[:samples], V, {"error": (F[samples:], U[samples:])}))
            for label, model in (
                ("HSSRegressor()", hss),
                ("HSSRegressor(form='inverse')", lambda: hss(form="inverse")),
                ("HSSRegressor(form='forward')", lambda: hss(form="forward")),
                ("ridge", ridge),
            ):
                rows.append(({"forcing": kind, "samples": samples, "model": label}, runs, model))
    table("1 % noise on U", rows)


def three(grid=None):
    """Modes 3 to 23 in three dimensions, 16 samples; AdamW on the same terms at the settings of Table 8."""
    grid = grid or GRID_3D
    F, U = make_poisson(20, grid, random_state=0)
    runs = [(F[:16], U[:16], {"error": (F[16:], U[16:])})]
    rows = [({"model": "HSSRegressor()"}, runs, hss)]
    rows += [({"model": f"HSSRegressor(outer_rank={R})"}, runs, lambda R=R: hss(outer_rank=R)) for R in (2, 8, 16)]
    if grid == GRID_3D:

        def adamw():
            settings = {
                "outer_rank": 2,
                "rank": 4,
                "levels": 2,
                "depth": 1,
                "lr": 5e-3,
                "min_lr": 1e-3,
                "weight_decay": 0.0,
            }
            return NeuralHSSRegressor(
                init="random", settings="paper", batch_size=16, max_epochs=300, random_state=0, verbose=1, **settings
            )

        rows.append(({"model": "Neural-HSS, AdamW, 300 steps (paper: 16,000)"}, runs, adamw))
    table(f"3-D Poisson, {'x'.join(map(str, grid))}, 16 samples", rows)


def large():
    """The paper's 128^3."""
    three((128, 128, 128))


def main(names=("paper", "pairs", "rank", "diffusion", "noise", "three")):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    for name in names:
        globals()[name]()
    print("to reach: see doc/benchmarks.rst")


if __name__ == "__main__":
    main(sys.argv[1:] or ("paper", "pairs", "rank", "diffusion", "noise", "three"))
