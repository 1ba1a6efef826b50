"""Local laws beside least squares and ridge: ``bench_local.py [--table own mesh recipe ...]``, one thread.

Errors are the largest of the seeds' mean relative L2 errors on new samples. "least sq." is minimum-norm least squares,
"ridge" has a penalty chosen by leave-one-out errors, "0.1.0" is HSSRegressor before there were local laws, where it was
measured.

"own", two minutes a seed: equations solved on the grid of the data, 63 x 63 points, by HSSRegressor with nothing set.
"mesh", half a minute: finite elements on triangles. "recipe", minutes: the data of the paper, from finer grids.
"steps", a minute: time steps, repeated. "noise", minutes: noise on the solutions. "size", a quarter of an hour: time
and memory. "degenerate", half a minute: data that leave little to learn.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from _linear_problems import box_matrix, flux_matrix, white
from _local_problems import MESHES, OWN_GRID, TIME_STEPS, draw, interval_heat, own_grid, solver, wavy
from scipy.fft import dstn, idstn
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.linear_model import LinearRegression, RidgeCV

from sklearn_hss import HSSRegressor, LocalOperatorRegressor, RolloutRegressor
from sklearn_hss.datasets import make_heat, make_helmholtz, make_poisson
from sklearn_hss.metrics import relative_l2_error

GRID = {}  # another grid than that of the problems: {"grid": (16, 16)}
N_POINTS, N_SIDE, N_TEST = 256, 64, 50  # of the paper's data
NOISE, NOISE_SAMPLES = {1e-6: 5e-6, 1e-4: 2e-4, 1e-2: 1e-2}, (10, 50)
NOISY = {
    "1-D variable a": (interval_heat, [(64,), (256,)]),
    "1-D convection": (partial(interval_heat, velocity=20.0), [(64,), (256,)]),
    "2-D variable a": (lambda grid: flux_matrix(wavy(grid)), [(32, 32)]),
}
# Seconds and bytes of the fit and the first prediction.
SIZES = {
    (64, 64): (2, None),
    (128, 128): (None, None),
    (256, 256): (None, None),
    (512, 512): (60, 1e9),
    (16, 16, 16): (None, None),
    (32, 32, 32): (None, None),
    (64, 64, 64): (90, 1e9),
}
SLOPE = 1.2
WARNING = "warning"


@dataclass(frozen=True)
class Case:
    """A comparison: training samples, tests, the model, and what is to be reached.

    Attributes
    ----------
    make : callable
        Takes a seed, returns the training pair and a dict of test pairs.
    model : callable
        Takes a seed, returns an estimator.
    to_reach : dict
        Largest error of each test, or WARNING: a larger error than one hundredth must not come without a warning.
    before : dict
        Errors of version 0.1.0.
    """

    make: Callable
    model: Callable
    to_reach: dict
    before: dict = field(default_factory=dict)


def in_span(model):
    """Fit of a linear model without intercept to coordinates in the span of the inputs: the same, in less memory."""

    def fit(F, U):
        span = np.linalg.svd(F, full_matrices=False)[2].T
        model.fit(F @ span, U)
        return lambda G: model.predict(G @ span)

    return fit


def plain_errors(train, tests):
    """Errors of least squares and of tuned ridge regression, in the order of the tests."""
    F, U = map(flat, train)
    alphas = np.logspace(-14, 0, 15) * np.square(F).sum(axis=1).mean()
    models = [in_span(LinearRegression(fit_intercept=False)), in_span(RidgeCV(alphas, fit_intercept=False))]
    predictors = [fit(F, U) for fit in models]
    return [[relative_l2_error(flat(u), predict(flat(f))) for predict in predictors] for f, u in tests.values()]


def flat(fields):
    return fields.reshape(len(fields), -1)


def compare(title, cases, seeds, only):
    """A table with a row per case and test."""
    print(f"{title}; to reach: the limit")
    print(
        f"{'problem':48} {'test':>13} {'error':>7} {'limit':>7}      {'0.1.0':>7} {'least sq.':>9} {'ridge':>7} "
        f"{'fit, s':>7}  chosen, warnings"
    )
    verdicts = []
    for name, case in cases.items():
        if only not in name:
            continue
        runs = [run(case, seed) for seed in range(seeds)]
        for k, (test, limit) in enumerate(case.to_reach.items()):
            errors, least, ridge, warned = zip(*(r[2][k] for r in runs), strict=True)
            error = max(errors)
            if limit == WARNING:
                met, shown = all(w or e < 1e-2 for w, e in zip(warned, errors, strict=True)), WARNING
            else:
                met, shown = limit is None or error <= limit, "-" if limit is None else f"{limit:.0e}"
            verdicts += [] if limit is None else [met]
            before = f"{case.before[test]:.1e}" if test in case.before else "-"
            notes = [*dict.fromkeys(r[0] for r in runs), *sorted(set().union(*warned))]
            print(
                f"{name:48} {test:>13} {error:7.1e} {shown:>7} {'' if limit is None else 'ok' if met else 'OVER':>4} "
                f"{before:>7} {max(least):9.1e} {max(ridge):7.1e} {max(r[1] for r in runs):7.2f}  {'; '.join(notes)}",
                flush=True,
            )
    print(f"{sum(verdicts)} of {len(verdicts)} ok\n")


def run(case, seed):
    """Chosen form, seconds of the fit; per test the errors of the model and of plain ones, and the warnings."""
    train, tests = case.make(seed)
    model = case.model(seed)
    _, of_fit, seconds = watched(lambda: model.fit(*train))
    rows = []
    for (f, u), plain in zip(tests.values(), plain_errors(train, tests), strict=True):
        predicted, of_test, _ = watched(lambda f=f: model.predict(f))
        rows.append((relative_l2_error(u, predicted), *plain, of_fit | of_test))
    return model.reason_.split(":")[0], seconds, rows


def watched(call):
    """Result, categories of warnings, seconds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - start
    return result, {w.category.__name__ for w in caught if issubclass(w.category, UserWarning)}, seconds


# Laws that hold to rounding


def own(seeds, only):
    """The table "own"."""

    def samples(problem, kind, seed):
        made = problem.make(kind, seed, **GRID)
        return made.train, {"white": made.test}

    def model(problem, seed):
        parameters = {**problem.parameters, **({"grid_shape": GRID["grid"]} if GRID and problem.parameters else {})}
        return HSSRegressor(random_state=seed, **parameters)

    cases = {
        f"{name}, {kind}": Case(partial(samples, problem, kind), partial(model, problem), {"white": limit})
        for (name, problem), (kind, limit) in product(OWN_GRID.items(), {"white": 1e-11, "smooth": 1e-9}.items())
    }
    compare("Own grid, trained on white and on smooth forcings, HSSRegressor()", cases, seeds, only)


def mesh(seeds, only):
    """The table "mesh"."""

    def samples(make, kind, seed):
        made = make(kind, seed).samples
        return made.train, {"white": made.test, "like training": made.other}

    def model(make, seed):
        return LocalOperatorRegressor(neighbours=make(n_train=1).adjacency, random_state=seed)

    limits = {"white": 1e-11, "like training": 1e-11}
    cases = {
        f"{name}, {kind}": Case(partial(samples, make, kind), partial(model, make), limits)
        for (name, make), kind in product(MESHES.items(), ("white", "smooth"))
    }
    compare("Finite elements, LocalOperatorRegressor(neighbours=adjacency)", cases, seeds, only)


# Data of finer grids


def paper(make, n_train, forcing, tests, seed, **options):
    """Training pair of one forcing and test pairs of several, by a generator of the package."""
    options = {"verbose": 0, **options}
    kinds = {
        "sine": {"forcing": "sine"},
        "unseen modes": {"forcing": "sine", "modes": (11, 40 if isinstance(options["n_points"], int) else 15)},
        "grf": {"forcing": "grf"},
    }
    train = make(n_train, random_state=10 * seed, **kinds[forcing], **options)
    return train, {
        test: make(N_TEST, random_state=10 * seed + k, **kinds[test], **options) for k, test in enumerate(tests, 1)
    }


def recipe(seeds, only):
    """The table "recipe"."""

    def case(make, n_train, forcing, to_reach, before=(), model=HSSRegressor, **options):
        def fitted(seed):
            return model(random_state=seed)

        data = partial(paper, make, n_train, forcing, list(to_reach), **options)
        return Case(data, fitted, to_reach, dict(zip(to_reach, before, strict=False)))

    def targets(sine, unseen, grf):
        return {"sine": sine, "unseen modes": unseen, "grf": grf}

    line, box = {"n_points": N_POINTS}, {"n_points": (N_SIDE, N_SIDE)}
    cut, hole = {**box, "domain": "l-shape"}, {**box, "domain": "perforated"}
    periodic = partial(LocalOperatorRegressor, periodic=True)
    helmholtz = targets(5e-5, 5e-2, 5e-5)
    cases = {
        "1-D, 10 sine": case(make_poisson, 10, "sine", targets(1e-6, 5e-4, 1e-5), (2e-15, 2.4e-2, 1.7e-3), **line),
        "box, 10 sine": case(make_poisson, 10, "sine", targets(5e-4, 5e-2, 3e-4), (3e-13, 8e-2, 2e-2), **box),
        "Helmholtz, 10 sine, LOR(periodic=True)": case(make_helmholtz, 10, "sine", helmholtz, model=periodic, **box),
        "Helmholtz, 10 sine": case(make_helmholtz, 10, "sine", helmholtz, (1e-12, 1, 0.92), **box),
        "L-shape, 20 grf": case(make_poisson, 20, "grf", {"grf": 3e-4}, (0.5,), **cut),
        "L-shape, 20 sine": case(make_poisson, 20, "sine", {"sine": None, "grf": WARNING}, **cut),
        "perforated, 100 sine": case(make_poisson, 100, "sine", {"sine": 1e-3, "grf": WARNING}, **hole),
        "perforated, 100 grf": case(make_poisson, 100, "grf", {"grf": 5e-4}, **hole),
    }
    print(
        "The boundary of the Helmholtz data is periodic, which sine samples cannot tell from u = 0 at the ends. 0.1.0"
    )
    print("had 5 samples of the box and 10 of the L-shape.")
    compare("The paper's data, HSSRegressor() unless said otherwise (LOR: LocalOperatorRegressor)", cases, seeds, only)


# Time steps


def steps(seeds, only):
    """The table "steps"."""

    def heat(n_train, seed):
        _, U = make_heat(n_train + 10, N_POINTS, solver="exact", return_trajectories=True, random_state=seed, verbose=0)
        pairs = (flat_pairs(U[:n_train, :-1]), flat_pairs(U[:n_train, 1:]))
        return pairs, U[n_train:]

    def flat_pairs(U):
        return U.reshape(-1, U.shape[-1])

    def scheme(make, kind, seed):
        made = make(kind, seed)
        return made.train, made.test

    # The states of one trajectory are nearly dependent.
    problems = {
        f"{name}, {kind}": (partial(scheme, make, kind), 1e-10)
        for (name, make), kind in product(TIME_STEPS.items(), ("white", "smooth"))
    } | {
        f"paper's heat, exact in time, {n} trajector{'y' if n == 1 else 'ies'}": (partial(heat, n), 1e-7)
        for n in (1, 10)
    }
    print("Time steps, RolloutRegressor(HSSRegressor()), error of the last state; to reach: the limit")
    print(
        f"{'problem':44} {'steps':>5} {'error':>7} {'limit':>7}      {'least sq.':>9} {'ridge':>7} {'fit, s':>7}  "
        "chosen, warnings"
    )
    verdicts = []
    for name, (make, limit) in problems.items():
        if only not in name:
            continue
        rows, notes = [], []
        for seed in range(seeds):
            train, test = make(seed)
            size = np.square(flat(train[0])).sum(axis=1).mean()
            models = [
                HSSRegressor(random_state=seed),
                LinearRegression(fit_intercept=False),
                RidgeCV(np.logspace(-14, 0, 15) * size, fit_intercept=False),
            ]
            errors = []
            for model in models:
                stepper = RolloutRegressor(model)
                _, of_fit, seconds = watched(lambda stepper=stepper, train=train: stepper.fit(*train))
                rolled, of_rollout, _ = watched(
                    lambda stepper=stepper, test=test: stepper.rollout(test[:, 0], test.shape[1] - 1)
                )
                errors.append(relative_l2_error(test[:, -1], rolled[:, -1]) if np.isfinite(rolled).all() else np.inf)
                if model is models[0]:
                    taken = seconds
                    notes += [stepper.estimator_.reason_.split(":")[0], *sorted(of_fit | of_rollout)]
            rows.append((*errors, taken))
        error, least, ridge, taken = np.max(rows, axis=0)
        verdicts.append(error <= limit)
        print(
            f"{name:44} {test.shape[1] - 1:5} {error:7.1e} {limit:7.0e} {'ok' if verdicts[-1] else 'OVER':>4} "
            f"{least:9.1e} {ridge:7.1e} {taken:7.2f}  {'; '.join(dict.fromkeys(notes))}",
            flush=True,
        )
    print(f"{sum(verdicts)} of {len(verdicts)} ok\n")


# Noise


def noise(seeds, only):
    """The table "noise"."""

    def samples(matrix, grid, kind, n_train, level, seed):
        inverse = solver(matrix(grid), np.ones(np.prod(grid), bool), singular=False)

        def solved(n_samples, seed):
            f = draw(kind, "dirichlet", n_samples, grid, seed)
            return f, inverse(flat(f)).reshape(f.shape)

        (F, U), test = solved(n_train, 3 * seed), solved(N_TEST, 3 * seed + 1)
        noise = white(*U.shape, seed=3 * seed + 2)
        return (F, U + level * np.sqrt(np.mean(U**2)) * noise), {"like training": test}

    models = {
        "HSS": lambda seed: HSSRegressor(random_state=seed),
        "per point": lambda seed: LocalOperatorRegressor(noise=0, sharing="row", random_state=seed),
    }
    cases = {}
    for (equation, (matrix, grids)), kind, n_train, (level, limit) in product(
        NOISY.items(), ("white", "smooth"), NOISE_SAMPLES, NOISE.items()
    ):
        for grid, (model, make) in product(grids, models.items()):
            to_reach = limit if model == "HSS" and equation == "1-D variable a" else None
            name = f"{equation}, {'x'.join(map(str, grid))}, {kind}, N = {n_train}, {level:.0e}, {model}"
            cases[name] = Case(partial(samples, matrix, grid, kind, n_train, level), make, {"like training": to_reach})
    compare("Noise on u, relative: HSSRegressor(), LocalOperatorRegressor(noise=0, sharing='row')", cases, seeds, only)


# Time and memory


def variable_equation(grid):
    """-div(a grad u) on a plane grid, -Laplace u + c u with a random c in space: not separable."""
    if len(grid) == 2:
        return flux_matrix(wavy(grid))
    return box_matrix(grid) + sp.diags_array(np.random.RandomState(0).uniform(0, 500, size=np.prod(grid)))


def make_large(grid, path, n_samples=10):
    """Write samples and a test sample to a file: f = A u, where u solves the equation for white noise to 8 digits."""
    A = sp.csr_array(variable_equation(grid))
    eigenvalues = sum(
        np.expand_dims(4 * (n + 1) ** 2 * np.sin(np.pi * np.arange(1, n + 1) / (2 * (n + 1))) ** 2, others)
        for n, others in zip(grid, ([j for j in range(len(grid)) if j != k] for k in range(len(grid))), strict=True)
    )

    def laplace(f):
        waves = dstn(f.reshape(grid), type=1, norm="ortho")
        return idstn(waves / eigenvalues, type=1, norm="ortho").ravel()

    nearly = LinearOperator(A.shape, laplace)
    U = np.array([cg(A, f.ravel(), M=nearly, rtol=1e-8)[0] for f in white(n_samples + 1, *grid)])
    np.savez(path, F=(A @ U.T).T.reshape(-1, *grid), U=U.reshape(-1, *grid))


def peak_memory():
    """Largest memory of this process, in bytes. On Linux, what getrusage says includes the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fit_large(path):
    """Fit to all samples of a file but the last one, predict that, and print a line of JSON."""
    with np.load(path) as data:
        F, U = data["F"], data["U"]
    torch.set_num_threads(1)
    HSSRegressor().fit(*make_poisson(8, (8, 8), forcing="gaussian", random_state=0))  # loads libraries
    start = time.process_time()  # on one thread, the seconds of a machine that does nothing else
    model = HSSRegressor(random_state=0).fit(F[:-1], U[:-1])
    fitted = time.process_time()
    predicted = model.predict(F[-1:])
    print(
        json.dumps(
            {
                "fit": fitted - start,
                "predict": time.process_time() - fitted,
                "memory": peak_memory(),
                "error": relative_l2_error(U[-1:], predicted),
                "form": model.reason_.split(":")[0],
            }
        )
    )


def in_a_process(function, *arguments):
    """Call a function of this file in another Python, whose memory is its own, and return the output of that."""
    code = f"import bench_local; bench_local.{function}({', '.join(map(repr, arguments))})"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def size(seeds, only):
    """The table "size"; of one seed."""
    del seeds
    print("Time and memory of a process: HSSRegressor().fit and the first prediction, 10 samples; to reach: the limits")
    print(
        f"{'grid':>12} {'points':>7} {'error':>7} {'fit, s':>7} {'predict':>7} {'limit':>6} {'MB':>6} {'limit':>6} "
        "     slope of time   of memory  chosen"
    )
    done: list[tuple] = []
    with tempfile.TemporaryDirectory() as folder:
        for grid, (most_seconds, most_bytes) in SIZES.items():
            name = "x".join(map(str, grid))
            if only not in name:
                continue
            path = str(Path(folder) / f"{name}.npz")
            in_a_process("make_large", grid, path)
            found = json.loads(in_a_process("fit_large", path))
            Path(path).unlink()
            taken, points = found["fit"] + found["predict"], int(np.prod(grid))
            met = [taken <= (most_seconds or np.inf), found["memory"] <= (most_bytes or np.inf)]
            slopes = ["-", "-"]
            if done and len(done[-1][0]) == len(grid):
                _, *before = done[-1]
                growth = np.log(points / before[0])
                values = [
                    np.log(new / old) / growth for new, old in zip((taken, found["memory"]), before[1:], strict=True)
                ]
                met.append(values[0] <= SLOPE)
                slopes = [f"{value:.2f}" for value in values]
            done.append((grid, points, taken, found["memory"]))
            print(
                f"{name:>12} {points:7} {found['error']:7.1e} {found['fit']:7.2f} {found['predict']:7.2f} "
                f"{most_seconds or '-':>6} {found['memory'] / 1e6:6.0f} "
                f"{f'{most_bytes / 1e6:.0f}' if most_bytes else '-':>6} {'ok' if all(met) else 'OVER':>4} "
                f"{slopes[0]:>13} {slopes[1]:>11}  {found['form']}",
                flush=True,
            )
    print(f"Slopes against the number of points, from one row to the next; to reach: {SLOPE} for the time\n")


# Little to learn


def on_mask(mask, n_train, kind="white"):
    """Samples of Poisson's equation on a mask."""
    made = own_grid(kind, 0, n_train, mask.shape, box_matrix, mask=lambda grid: mask)
    return made.train, made.test


def islands():
    mask = np.zeros((24, 24), bool)
    mask[:12] = True
    mask[15::3, 1::4] = True
    return mask


def two_domains():
    mask = np.zeros((24, 24), bool)
    mask[1:10, 2:20] = mask[13:23, 5:24] = True
    return mask


def with_nan(where_f, where_u):
    """Samples of a part of a square: NaN at some points of F, of U; forcings that are given outside mean nothing."""
    part = np.zeros((24, 24), bool)
    part[2:, :19] = True

    def blank(f, u):
        f = np.where(part, f, white(*f.shape, seed=1))
        return np.where(where_f(part), np.nan, f), np.where(where_u(part), np.nan, u)

    return tuple(blank(*pair) for pair in on_mask(part, 12))


def few(n_samples):
    return on_mask(np.ones((24, 24), bool), n_samples)


def copies(n_samples, n_copies):
    (F, U), test = few(n_samples)
    return (np.tile(F, (n_copies, 1, 1)), np.tile(U, (n_copies, 1, 1))), test


def source_in_a_part(tested_in_all):
    """f is zero on one half, and for the test perhaps not."""
    F, part = white(12 + N_TEST, 24, 24), np.arange(24) < 12
    F = F * (part | (np.arange(len(F)) >= 12)[:, None, None] if tested_in_all else part)
    u = solver(box_matrix((24, 24)), np.ones(24**2, bool), singular=False)(flat(F)).reshape(F.shape)
    return (F[:12], u[:12]), (F[12:], u[12:])


def constant():
    F = np.ones((6, 24, 24)) * np.arange(1, 7)[:, None, None]
    return (F, F), (F, F)


def lonely_node():
    """Mesh samples with a further node, and the adjacency in which it has no neighbours."""
    made = MESHES["lumped mass, 705 nodes"](n_train=12)
    rng = np.random.RandomState(0)

    def wider(pair):
        f = rng.standard_normal((len(pair[0]), 1))
        return np.hstack([pair[0], f]), np.hstack([pair[1], f / 7])

    adjacency = sp.block_diag([made.adjacency, sp.csr_array((1, 1), dtype=bool)], format="csr")
    return (wider(made.samples.train), wider(made.samples.test)), adjacency


def degenerate(seeds, only):
    """The table "degenerate"."""
    del seeds
    mesh_samples, adjacency = lonely_node()
    cases = {
        "one-point islands": (on_mask(islands(), 10), {"mask": islands()}),
        "one-point islands, no mask given": (on_mask(islands(), 10), {}),
        "two domains": (on_mask(two_domains(), 10), {"mask": two_domains()}),
        "two domains, mask='auto'": (on_mask(two_domains(), 10), {"mask": "auto"}),
        "F is NaN outside, U is zero": (with_nan(np.invert, np.zeros_like), {"mask": "auto"}),
        "U is NaN outside, F is given": (with_nan(np.zeros_like, np.invert), {"mask": "auto"}),
        "f is zero in a half": (source_in_a_part(False), {}),
        "f is zero in a half, not in the test": (source_in_a_part(True), {}),
        **{f"N = {n}": (few(n), {}) for n in (1, 2, 3)},
        "8 samples, twice each": (copies(8, 2), {}),
        "3 samples, four times each": (copies(3, 4), {}),
        "all fields constant": (constant(), {}),
        "a node without neighbours": (mesh_samples, {"neighbours": adjacency}),
    }
    print("Data that leave little to learn; to reach: a small error, a refusal, or a warning")
    print(f"{'data':36} {'model':23} {'error':>7}  warnings, or the message")
    for name, ((train, test), parameters) in cases.items():
        for kind in (LocalOperatorRegressor, HSSRegressor):
            if only not in name or (kind is HSSRegressor and "neighbours" in parameters):
                continue
            model = kind(**parameters, random_state=0)
            error, notes = "-", []
            try:
                _, of_fit, _ = watched(lambda model=model, train=train: model.fit(*train))
                predicted, of_test, _ = watched(lambda model=model, test=test: model.predict(test[0]))
                known = np.isfinite(test[1])
                error = f"{relative_l2_error(np.where(known, test[1], 0), np.where(known, predicted, 0)):.1e}"
                notes = sorted(of_fit | of_test)
            except ValueError as refusal:
                notes = [f"refused: {refusal}"]
            print(f"{name:36} {kind.__name__:23} {error:>7}  {'; '.join(notes)}", flush=True)
    print()


TABLES = {f.__name__: f for f in (own, mesh, recipe, steps, noise, size, degenerate)}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--table", nargs="+", choices=[*TABLES, "all"], default=["all"], help="tables to print")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds; default 3")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with this text in their names")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name, table in TABLES.items():
        if name in chosen.table or "all" in chosen.table:
            table(chosen.seeds, chosen.only)


if __name__ == "__main__":
    main()
