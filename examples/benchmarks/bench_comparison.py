"""sklearn_hss beside other packages: ``bench_comparison.py [--problems ...] [--models ...] [--seeds 3] [--cache ...]``.

"Errors": five problems, the estimator that the guide recommends for each with nothing tuned, and beside it ridge and
kernel ridge regression and Gaussian processes of scikit-learn, the FNO of neuraloperator, the DeepONet of DeepXDE, and
for trajectories PySINDy, PyDMD and opinf. Networks have a minute of CPU time, and half a minute, once a problem, for
tuning on held-out samples; other models choose their parameters by cross-validation, likelihood or held-out samples.
The seeds are those of the data, of the order and of the weights. About an hour on one core for three seeds.

"Features", minutes: lines of the shortest scripts, seconds of their imports, and sizes of what they need.

Packages that are missing are left out: pip install "sklearn-hss[compare]".
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from unittest import mock

import _first_fits
import _rivals
import joblib
import numpy as np
import torch
from _problems import burgers
from _rivals import Task
from _stationary import samples as stationary
from bench_nothing_set import coefficients
from packaging.requirements import Requirement

from sklearn_hss import HSSRegressor, LocalEvolutionRegressor, LocalOperatorRegressor, NeuralHSSRegressor
from sklearn_hss.datasets import make_elliptic, make_poisson

SECONDS, N_SEEDS = 60, 3
N_TEST, N_COEFFICIENTS, N_FORCES = 100, 800, 200
DT, N_POINTS, N_STEPS = 0.2, 128, 15  # of Burgers' equation


def poisson(seed):
    """-u'' = f, ten samples, computed on a finer grid; new amplitudes of the same modes, and other modes."""

    def draw(n, k, **options):
        return make_poisson(n, 256, random_state=10 * seed + k, verbose=0, **options)

    return Task(*draw(10, 0), {"same kind": draw(N_TEST, 1), "other modes": draw(N_TEST, 2, modes=(11, 40))})


def materials(seed):
    """-div(a grad u) = f around a hole, a of 1 and 10, ten samples; new random forcings, and sources at points."""
    x, y = np.meshgrid(np.arange(48) / 48, np.arange(48) / 48, indexing="ij")
    mask = (x - 0.4) ** 2 + (y - 0.5) ** 2 > 0.2**2
    a = 1 + 9 * np.kron(np.random.RandomState(0).rand(8, 8) > 0.5, np.ones((6, 6)))
    options = {"domain": mask, "diffusivity": a, "verbose": 0}
    points = np.argwhere(mask[1:, 1:]) + 1
    sources = np.zeros((N_TEST, 48, 48))
    places = points[np.random.RandomState(seed).choice(len(points), N_TEST, replace=False)]
    sources[(np.arange(N_TEST), *places.T)] = 1
    (F, U), *tests = (
        make_elliptic(10, (48, 48), random_state=10 * seed, **options),
        make_elliptic(N_TEST, (48, 48), random_state=10 * seed + 1, **options),
        make_elliptic(forcing=sources, **options),
    )
    return Task(F, U, dict(zip(("same kind", "point sources"), tests, strict=True)), mask=mask)


def trajectories(seed):
    """Burgers' equation, exact solutions: five trajectories of 15 steps, new ones from their first states."""
    U, V = (burgers(n, N_POINTS, n_steps=N_STEPS, dt=DT, random_state=s) for n, s in ((5, seed), (50, 1000)))
    return Task.of_trajectories(U, V, f"{N_STEPS} steps")


def cubic(seed):
    """-u'' + 2000 u³ = f, computed on a grid four times finer."""
    train, test, _ = stationary("cubic", "smooth", seed, (127,), n_train=N_FORCES, n_test=N_TEST, refinement=4)
    return Task(*train, {"same kind": test})


def unknown_coefficients(seed):
    """-div(a grad u) = f: from the logarithm of a lognormal a to u."""
    n = N_COEFFICIENTS + N_TEST
    X, y = coefficients(n, (20, 20), 0.15, 12 + 100 * seed, lambda g: np.exp(1.5 * g), lambda x, y: np.sin(5 * x) + y)
    test = {"same kind": (X[N_COEFFICIENTS:], y[N_COEFFICIENTS:])}
    return Task(X[:N_COEFFICIENTS], y[:N_COEFFICIENTS], test, homogeneous=False)


class OnItsOwn:
    """An estimator in whose fit only seconds of CPU time pass, as in those of the other networks."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y):
        """Fit, and return the estimator."""
        with mock.patch.object(time, "monotonic", time.process_time):
            return self.estimator.fit(X, y)


#: Makers of the tasks, and our estimators for them, functions of the task, a seed and the seconds of networks.
PROBLEMS = {
    "1-D Poisson, 10 samples": (poisson, lambda task, seed, seconds: HSSRegressor(random_state=seed)),
    "hole, two materials, 10 samples": (
        materials,
        lambda task, seed, seconds: HSSRegressor(mask=task.mask, random_state=seed),
    ),
    "Burgers, 5 trajectories": (
        trajectories,
        lambda task, seed, seconds: LocalEvolutionRegressor(dt=DT, spacing=1 / N_POINTS, random_state=seed),
    ),
    "-u'' + 2000 u^3 = f, 200 samples": (
        cubic,
        lambda task, seed, seconds: LocalOperatorRegressor(degree=3, spacing=1 / 128, random_state=seed),
    ),
    "coefficients to solutions, 800 samples": (
        unknown_coefficients,
        lambda task, seed, seconds: OnItsOwn(NeuralHSSRegressor(max_seconds=seconds, random_state=seed)),
    ),
}


@dataclass(frozen=True)
class Model:
    """A function of `_rivals`, the module that it needs, and parameters to choose among on held-out samples."""

    fit: Callable
    module: str = "sklearn"
    candidates: list[dict] = field(default_factory=lambda: [{}])
    of_trajectories: bool = False


def choices(**values):
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


OURS = "sklearn_hss"
RIVALS = {
    "least squares": Model(_rivals.least_squares),
    "ridge": Model(_rivals.ridge),
    "kernel ridge": Model(_rivals.kernel_ridge),
    "Gaussian process": Model(_rivals.gaussian_process),
    "neuraloperator FNO": Model(_rivals.fno, "neuralop", choices(width=(32, 64), lr=(1e-3, 5e-3))),
    "DeepXDE DeepONet": Model(_rivals.deeponet, "deepxde", choices(width=(128, 256), lr=(1e-3, 4e-3))),
    "PySINDy": Model(_rivals.pysindy, "pysindy", choices(weak=(False, True)), of_trajectories=True),
    "PyDMD": Model(_rivals.pydmd, "pydmd", choices(svd_rank=(5, 10, 20, 40, -1)), of_trajectories=True),
    "opinf": Model(
        _rivals.opinf,
        "opinf",
        choices(n_modes=(5, 10, 20, 40), regulariser=(1e-4, 1e-2, 1.0, 1e2)),
        of_trajectories=True,
    ),
}


def fit(problem, name, seed, seconds, chosen, held_out=False):
    """Errors by test, and seconds of CPU time of the fit."""
    make, ours = PROBLEMS[problem]
    task = make(seed).held_out() if held_out else make(seed)
    start = time.process_time()
    if name == OURS:
        model = ours(task, seed, seconds)
        predict = model.fit(*((task.X, task.y) if task.trajectories is None else (task.trajectories,))).predict
    else:
        predict = RIVALS[name].fit(task, seed, seconds, **chosen)
    taken = time.process_time() - start
    return task.errors(predict), taken


def is_there(module):
    """Import a module, so that its seconds are not those of a fit; whether it is installed."""
    os.environ.setdefault("DDE_BACKEND", "pytorch")  # DeepXDE asks for it at import
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name != module:
            raise
        return False
    return True


def tune(run, problem, name, seconds):
    """The candidate of least error on held-out samples of the first seed, and the seconds of all."""
    candidates = RIVALS[name].candidates if name in RIVALS else [{}]
    if len(candidates) == 1:
        return candidates[0], 0.0
    tried = [run(problem, name, 0, seconds / 2 / len(candidates), chosen, True) for chosen in candidates]
    judged = [np.nan_to_num(max(errors.values()), nan=np.inf) for errors, _ in tried]
    return candidates[int(np.argmin(judged))], sum(taken for _, taken in tried)


def shown(errors):
    """Mean, and smallest and largest, of the errors of all seeds."""
    if not np.isfinite(errors).all():
        return "diverged"
    return f"{np.mean(errors):.1e} ({min(errors):.1e}, {max(errors):.1e})"


def compare(problems, models, n_seeds, cache, seconds):
    """Print the errors, problem by problem, and then in one table."""
    run = joblib.Memory(cache, verbose=0).cache(fit)
    print(
        f"Mean relative L2 errors on new samples: mean (smallest, largest) of {n_seeds} seeds. Networks: {seconds:g} s."
    )
    print("Seconds of CPU time of a fit, + of tuning, one thread. To reach, for sklearn_hss: the least error of all")
    table = {}
    for problem in problems:
        print(f"\n{problem}", flush=True)
        found = {}
        for name in models:
            rival = RIVALS.get(name)
            if rival and rival.of_trajectories and PROBLEMS[problem][0] is not trajectories:
                continue
            if rival and not is_there(rival.module):
                print(f"  {name:20} left out: {rival.module} is not installed")
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                chosen, tuning = tune(run, problem, name, seconds)
                fits = [run(problem, name, seed, seconds, chosen) for seed in range(n_seeds)]
            by_test = {test: [errors[test] for errors, _ in fits] for test in fits[0][0]}
            found[name] = by_test, np.mean([taken for _, taken in fits]) + tuning
            print(
                f"  {name:20}",
                *(f"{test} {shown(errors):28}" for test, errors in by_test.items()),
                f"{found[name][1] - tuning:6.1f}{f' + {tuning:.0f}' if tuning else ''} s",
                ", ".join(f"{key} {value:g}" for key, value in chosen.items()),
                flush=True,
            )
        verdict(found)
        table[problem] = found
    summary(table, models)


def verdict(found):
    """Whether sklearn_hss is first, by test."""
    for test in found[OURS][0] if OURS in found and len(found) > 1 else ():
        means = {name: np.mean(by_test[test]) for name, (by_test, _) in found.items()}
        best = min((name for name in means if name != OURS), key=lambda name: np.nan_to_num(means[name], nan=np.inf))
        word = "reached" if means[OURS] <= means[best] else "MISSED"
        print(f"  to reach, {test}: {means[best]:.1e} ({best}): {word}")


def summary(table, models):
    """Markdown: mean errors of the last test of each problem, the harder one, and seconds."""
    print(f"\n| | {' | '.join(table)} |\n|---|{'---|' * len(table)}")
    for name in models:
        cells = []
        for found in table.values():
            by_test, taken = found.get(name, ({}, None))
            error = np.mean([*by_test.values()][-1]) if by_test else None
            cells.append("-" if error is None else f"{error:.1e}, {taken:.1f} s" if error < np.inf else "diverged")
        print(f"| {name} | {' | '.join(cells)} |")


# Features: lines, seconds of imports, sizes.

PRELUDE = {
    "maps": (
        "import json, numpy as np, time, warnings; warnings.simplefilter('ignore'); n_epochs = 2\n"
        "from sklearn_hss.datasets import make_poisson\n"
        "F, U = make_poisson(20, 64, random_state=0, verbose=0); F, U, G = F[:16], U[:16], F[16:]\n"
    ),
    "trajectories": (
        "import json, numpy as np, time, warnings; warnings.simplefilter('ignore')\n"
        "from sklearn_hss.datasets import make_burgers\n"
        "U = make_burgers(3, 64, viscosity=1e-2, t_final=1.0, return_trajectories=True, random_state=0, verbose=0)[1]\n"
        "U, G, dt, dx, n_steps = U[:2], U[2:, 0], 0.2, 1 / 64, 5\n"
    ),
}
#: They do not say that they need torch, because there are other backends, or its wheels are many.
OF_TORCH = ("neuraloperator", "DeepXDE")
MEASURE = "start = time.process_time()\n{}\nprint(json.dumps(time.process_time() - start))"


def child(script):
    """Last line that a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "DDE_BACKEND": "pytorch", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"A first fit has failed:\n{script}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def closure(name, leave_out=frozenset(), extras=()):
    """Distributions that one needs, with itself, but not those that are left out."""
    found, waiting = {}, [(name, extras)]
    while waiting:
        name, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found or key in leave_out:
            continue
        found[key] = importlib.metadata.distribution(name)
        for text in found[key].requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in ("", *extras)):
                waiting.append((needed.name, needed.extras))
    return found


def megabytes(distribution):
    """Size of the files of a distribution, without bytecode."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        module = importlib.util.find_spec(distribution.name.replace("-", "_"))
        paths = Path(module.submodule_search_locations[0]).rglob("*")
    else:
        paths = [Path(file.locate()) for file in distribution.files or ()]
    return sum(path.stat().st_size for path in paths if path.suffix != ".pyc" and path.is_file()) / 1e6


def features(n_imports):
    """Print lines of first fits, seconds of their imports, and sizes of the packages."""
    plain = closure("scipy")
    print(f"\nFirst fits: lines; CPU seconds of imports, median of {n_imports}; MB of the package and of all it needs")
    print("beyond NumPy and SciPy, of which torch; number of packages that these are. To reach: the fewest lines")
    print(
        f"{'package':16} {'of':12} {'lines':>5} {'import':>6} {'own MB':>7} {'all MB':>7} {'torch':>6} {'packages':>8}"
    )
    for kind, scripts in (("maps", _first_fits.MAPS), ("trajectories", _first_fits.TRAJECTORIES)):
        for name, script in scripts.items():
            package = name.replace("_", "-")
            try:
                needed = closure(package, plain.keys()) | (closure("torch", plain.keys()) if name in OF_TORCH else {})
            except importlib.metadata.PackageNotFoundError as missing:
                print(f"{name:16} {kind:12} left out: {missing.name} is not installed")
                continue
            lines = [line for line in script.splitlines() if line.strip()]
            if not child(f"{PRELUDE[kind]}{script}\nprint(json.dumps(bool(P.shape == G.shape)))"):
                raise RuntimeError(f"The first fit of {name} gives predictions of another shape.")
            imports = "\n".join(line for line in lines if line.startswith(("import ", "from ")))
            # NumPy and SciPy are there before.
            measured = "import json, time, numpy, scipy.sparse, scipy.linalg\n" + MEASURE.format(imports)
            seconds = statistics.median(child(measured) for _ in range(n_imports))
            sizes = {key: megabytes(distribution) for key, distribution in needed.items()}
            own = sizes[package.lower()]
            print(
                f"{name:16} {kind:12} {len(lines):5} {seconds:6.2f} {own:7.1f} {sum(sizes.values()):7.0f} "
                f"{sizes.get('torch', 0):6.0f} {len(sizes):8}",
                flush=True,
            )


def main(problems=tuple(PROBLEMS), models=(OURS, *RIVALS), n_seeds=N_SEEDS, cache=None, seconds=SECONDS, n_imports=5):
    torch.set_num_threads(1)
    if problems:
        compare(problems, models, n_seeds, cache, seconds)
    if n_imports:
        features(n_imports)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--models", nargs="*", default=[OURS, *RIVALS])
    parser.add_argument("--seeds", type=int, default=N_SEEDS)
    parser.add_argument("--cache", default=None, help="folder that keeps results")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each network")
    parser.add_argument("--imports", type=int, default=5, help="how often imports are timed; 0: no features")
    options = parser.parse_args()
    main(options.problems, options.models, options.seeds, options.cache, options.seconds, options.imports)
