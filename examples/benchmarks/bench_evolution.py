"""Laws from single trajectories beside networks: ``bench_evolution.py [--table burgers ...] [--seeds 0 1 2]``.

Errors are relative L2 errors on new samples: means over the seeds, of training data and of networks, and half of their
range. "to reach" is for the largest of the seeds. Networks train for ``--seconds`` of CPU time, one thread, with the
learning rate that is best on held-out data after a fifth of that, as in `bench_nonlinear`. Fits are kept in the folder
``--cache``, from which an interrupted run goes on; those of laws are made anew when the code of the laws has changed.

"burgers", one trajectory or more: with 60 s for each network an hour a seed, without ``--networks`` minutes. "paper",
minutes: the paper's own data. "grayscott", minutes, and "long", an hour: reactions and diffusion. "stationary", a
minute. "limits", minutes: where no such law is right. "hybrid", half an hour a seed: a law and a network together.
PySINDy takes part where it is installed.
"""

import argparse
import time
import warnings
from collections import defaultdict
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import torch
from _evolution_problems import PATTERNS, diffusion, gray_scott, noisy, nonlocal_burgers
from _problems import burgers
from _sindy import Sindy, pysindy
from _stationary import table as stationary
from bench_nonlinear import Trained, best_rate, classical, networks
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import RidgeCV

import sklearn_hss
from sklearn_hss import HSSRegressor, NeuralHSSRegressor, ResidualRegressor
from sklearn_hss.datasets import make_burgers
from sklearn_hss.estimators._score import FieldRegressorMixin
from sklearn_hss.metrics import relative_l2_error, trajectory_l2_error

N_POINTS, N_STEPS, DT, N_TEST, TEST_SEED = 128, 15, 0.2, 50, 1000
SIZES = (1, 5, 20, 200)  # of trajectories, for networks
PAPER_GRID, PAPER_STEPS, PAPER_ERROR = 256, 75, 0.12
GRID, FIRST, ROLLOUT = 128, 20, 40  # Gray-Scott: points per axis, the first state, steps of a rollout
NEW_RATES = (0.037, 0.06)
LONG, N_LONG, LONG_ERROR = 1000, 12, 0.294
FORMS = ("HSS in every 2nd conv. block", "FNO", "dilated ResNet")
HSS = FORMS[0]
#: The paper's network, as a correction.
PAPER_HSS = {
    "init": "random", "settings": "paper", "max_epochs": 100, "batch_size": 16, "lr": 3e-3, "grid_shape": N_POINTS
}  # fmt: skip


def makers(n_points, in_channels):
    """The networks of `bench_nonlinear` that take part."""
    hss = {"outer_rank": 1, "rank": 2, "levels": 3}
    channels = {"in_channels": in_channels, "out_channels": 1}
    found = networks((n_points,), 9, {"depth": 3, **hss}, hss, **channels)
    return {name: make for name, make in found.items() if name in FORMS}


class TimedNetwork(RegressorMixin, BaseEstimator):
    """A network of `makers`, tuned and trained for so many seconds, for states in one dimension."""

    def __init__(self, form=HSS, seconds=60.0, seed=0, n_groups=1):
        self.form, self.seconds, self.seed, self.n_groups = form, seconds, seed, n_groups

    def fit(self, X, y):
        """Train; the pairs are those of `n_groups` trajectories, of which one in five is held out for tuning."""
        torch.set_num_threads(1)
        n_pairs, n_points = y.shape
        n_groups = n_pairs if self.n_groups < 5 else self.n_groups
        make = makers(n_points, X.shape[1] // n_points)[self.form]
        self.scales_ = X.std(), y.std()
        X, y = (self._channels(rows, scale, n_points) for rows, scale in zip((X, y), self.scales_, strict=True))
        self.lr_ = best_rate(make, X, y, np.arange(n_pairs) * n_groups // n_pairs, self.seconds / 5)
        self.net_ = Trained(make, self.seed, X, y, lr=self.lr_, seconds=self.seconds)
        self.n_points_ = n_points
        return self

    def _channels(self, rows, scale, n_points):
        return rows.reshape(len(rows), -1, n_points) / scale

    def predict(self, X):
        """Predict."""
        return self.scales_[1] * self.net_(self._channels(X, self.scales_[0], self.n_points_))[:, 0]


class Kept(FieldRegressorMixin, BaseEstimator):
    """A law whose fits are kept in a folder, so that several corrections share them."""

    def __init__(self, model, folder, code):
        self.model, self.folder, self.code = model, folder, code

    def fit(self, X, y):
        """Fit, or find the fit."""
        self.model_ = joblib.Memory(self.folder, verbose=0).cache(fit_law)(self.model, X, y, self.code)
        return self

    def predict(self, X):
        """Predict."""
        return self.model_.predict(X)


def fit_law(model, X, y, code):
    """A fitted clone; `code` is there for the cache."""
    return clone(model).fit(X, y)


def law(dt, spacing, seed, **settings):
    """The estimator that this is about."""
    return sklearn_hss.LocalEvolutionRegressor(dt=dt, spacing=spacing, random_state=seed, **settings)


class Next(RegressorMixin, BaseEstimator):
    """Any regressor of flat states."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y):
        """Fit."""
        self.shape_, self.estimator_ = y.shape[1:], clone(self.estimator)
        self.estimator_.fit(X.reshape(len(X), -1), y.reshape(len(y), -1))
        return self

    def predict(self, X):
        """Predict."""
        return self.estimator_.predict(X.reshape(len(X), -1)).reshape(len(X), *self.shape_)


def pairs(trajectories, n_channels=None):
    """States and those one step later, of which the latter have `n_channels` only."""
    X, y = (part.reshape(-1, *part.shape[2:]) for part in (trajectories[:, :-1], trajectories[:, 1:]))
    return X, y if n_channels is None else y[:, :n_channels]


def fitted(model, trajectories, n_channels=None, code=None):
    """A fitted model, its seconds, and what was warned of; `code` is there for the cache."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = clone(model).fit(*pairs(trajectories, n_channels))
    seconds = time.perf_counter() - start
    return model, seconds, sorted({str(w.message) for w in caught if w.category.__module__.startswith("sklearn_hss")})


def of_sindy(weak, trajectories, test):
    """Errors of PySINDy and its formula."""
    model = Sindy(weak, DT).fit(trajectories)
    return errors(model, test, N_STEPS), model.formula


def rollout(step, states, n_steps, most=1e6):
    """States after 0, 1, ... steps, NaN once they are beyond `most`; channels that are not predicted stay."""
    found, states = [states], states.copy()
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(n_steps):
            running = (np.abs(states) < most).reshape(len(states), -1).all(axis=1)
            states = states.copy()
            if running.any():
                following = step(states[running])
                channels = slice(None) if following.shape[1:] == states.shape[1:] else slice(following.shape[1])
                states[running, channels] = following
            states[~running] = np.nan
            found.append(states)
    return np.stack(found, axis=1)


def bounded(states, most=1e3):
    """States in which what is not finite, or far too large, is `most`."""
    return np.clip(np.nan_to_num(states, nan=most, posinf=most, neginf=-most), -most, most)


def errors(step, test, n_steps, n_channels=None):
    """Errors of one step from all states, and of `n_steps` from the first ones; of fields of all channels together."""
    X, y = pairs(test, n_channels)
    kept = (slice(None), slice(None)) if n_channels is None else (slice(None), slice(None), slice(n_channels))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = relative_l2_error(y, bounded(step(X)))
    last = bounded(rollout(step, test[:, 0], n_steps)[kept][:, -1])
    return {"one step": one, f"{n_steps} steps": relative_l2_error(test[kept][:, n_steps], last)}


def persistence(n_channels=None):
    """No change."""
    return lambda X: X if n_channels is None else X[:, :n_channels]


class Bench:
    """Common to the tables: seeds, the budget of the networks, and the cache.

    Parameters
    ----------
    seeds : list of int
    seconds : float
    folder : path
    with_networks : bool
    """

    def __init__(self, seeds, seconds, folder, with_networks=True):
        self.seeds, self.seconds, self.with_networks = seeds, seconds, with_networks
        self.folder = Path(folder)
        memory = joblib.Memory(self.folder, verbose=0)
        self.fitted, self.of_sindy = memory.cache(fitted), memory.cache(of_sindy)
        for function in (burgers, nonlocal_burgers, diffusion, gray_scott, trajectories_of_the_paper):
            setattr(self, function.__name__, memory.cache(function))
        package = Path(sklearn_hss.__file__).parent
        files = sorted([*package.glob("fitting/**/*.py"), *package.glob("estimators/_l*.py")])
        self.code = joblib.hash([file.read_bytes() for file in [*files, package / "estimators/_residual.py"]])

    def fit(self, model, trajectories, n_channels=None, is_law=False):
        """A fitted model, its seconds, and what was warned of, from the cache where it is there."""
        return self.fitted(model, trajectories, n_channels, self.code if is_law else None)

    def row(self, name, size, found, to_reach=None, note=""):
        """Print a row.

        Parameters
        ----------
        name, size : str
        found : list of dict
            Errors, of every seed.
        to_reach : dict, default=None
        note : str, default=""
        """
        print(f"{name:30} {size:>12}", end="")
        for key in found[0]:
            values = np.array([errors[key] for errors in found])
            print(f"  {key} {values.mean():.2g} ± {np.ptp(values) / 2:.1g}", end="")
            if to_reach and key in to_reach:
                verdict = "reached" if values.max() <= to_reach[key] else "MISSED"
                print(f" (to reach {to_reach[key]:.2g}: {verdict})", end="")
        print(f"  {note}" if note else "", flush=True)

    def laws(self, name, size, data, test, n_steps, to_reach=None, n_channels=None, **settings):
        """Fit a law for every seed, print a row and its formula, and return the fits."""
        fits = [self.fit(law(seed=seed, **settings), data(seed), n_channels, is_law=True) for seed in self.seeds]
        found = [errors(model.predict, test, n_steps, n_channels) for model, _, _ in fits]
        slowest = max(seconds for _, seconds, _ in fits)
        self.row(name, size, found, to_reach, f"{fits[0][0].n_parameters_} numbers, {slowest:.0f} s")
        self.tell(fits[0])
        return fits

    def tell(self, fit):
        """The formula of a law, and what was warned of."""
        model, _, doubts = fit
        for line in str(model.formula_).splitlines():
            print(f"{'':6}{line}")
        for doubt in doubts:
            print(f"{'':6}warned: {doubt}")


def table_burgers(bench):
    """Burgers' equation, viscosity 1e-3: one trajectory or more."""
    print(f"Burgers, viscosity 1e-3, {N_POINTS} points, {N_STEPS} steps of {DT}, {N_TEST} test trajectories")
    test = bench.burgers(N_TEST, N_POINTS, n_steps=N_STEPS, random_state=TEST_SEED)

    def data(size, seed):
        return bench.burgers(size, N_POINTS, n_steps=N_STEPS, dt=DT, random_state=seed)

    bench.row("persistence", "", [errors(persistence(), test, N_STEPS)])
    laws = partial(bench.laws, test=test, n_steps=N_STEPS, dt=DT, spacing=1 / N_POINTS)
    one, five = {"one step": 5e-3, "15 steps": 3e-2}, {"one step": 3e-3, "15 steps": 1e-2}
    laws("law, 10 pairs", "1", lambda seed: data(1, seed)[:, :11], to_reach=one)
    laws("law", "1", lambda seed: data(1, seed), to_reach=one)
    laws("law", "5", lambda seed: data(5, seed), to_reach=five)
    for size in (1, 5):
        of_noise = {"one step": 2e-2} if size == 1 else None
        laws("law, noise of 1e-3", str(size), lambda seed, n=size: noisy(data(n, seed), 1e-3, seed), to_reach=of_noise)
    table_sindy(bench, data, test)
    table_of_networks(bench, data, test)


def table_sindy(bench, data, test):
    """PySINDy, plain and in the weak form."""
    if pysindy is None:
        print(f"{'PySINDy':30} not installed")
        return
    for size in (1, 5):
        for weak in (False, True):
            fits = [bench.of_sindy(weak, data(size, seed), test) for seed in bench.seeds]
            found = [fit[0] for fit in fits]
            name = f"PySINDy {pysindy.__version__}, {'weak form' if weak else 'differences'}"
            bench.row(name, str(size), found)
            print(f"{'':6}u_t = {fits[0][1]}")


def table_of_networks(bench, data, test, sizes=None):
    """Ridge, kernel ridge and the networks."""
    for size in sizes or SIZES:
        others = {name: Next(model) for name, model in classical().items()}
        if bench.with_networks:
            others |= {form: TimedNetwork(form, bench.seconds, n_groups=size) for form in FORMS}
        for name, model in others.items():
            fits = []
            for seed in bench.seeds:
                seeded = clone(model).set_params(**({"seed": seed} if hasattr(model, "seed") else {}))
                fits.append(bench.fit(seeded, data(size, seed)))
            found = [errors(fit[0].predict, test, N_STEPS) for fit in fits]
            bench.row(name, str(size), found, note=f"{np.mean([fit[1] for fit in fits]):.0f} s")


def trajectories_of_the_paper(n_samples, beta, seed, n_points, n_steps):
    """The paper's data, other random numbers: from a grid four times finer, by BDF."""
    return make_burgers(
        n_samples,
        n_points,
        beta=beta,
        t_final=n_steps * DT,
        refinement=4,
        return_trajectories=True,
        random_state=seed,
        verbose=0,
    )[1]


def table_paper(bench):
    """The paper's Burgers rows."""
    print(f"Burgers of the paper, {PAPER_GRID} points from {4 * PAPER_GRID}, {PAPER_STEPS} steps, error (3)")
    for beta in (1.0, 1e-2, 1e-4):
        test = bench.trajectories_of_the_paper(N_TEST, beta, TEST_SEED, PAPER_GRID, PAPER_STEPS)
        nothing = np.repeat(test[:, :1], test.shape[1], axis=1)
        bench.row(f"beta = {beta:g}, persistence", "", [{"trajectory": trajectory_l2_error(test, nothing)}])
        for size in (1, 5, 10):
            found, fits = [], []
            for seed in bench.seeds:
                data = bench.trajectories_of_the_paper(size, beta, seed, PAPER_GRID, PAPER_STEPS)
                fits.append(bench.fit(law(DT, 1 / PAPER_GRID, seed), data, is_law=True))
                predicted = bounded(rollout(fits[-1][0].predict, test[:, 0], PAPER_STEPS))
                found.append({"trajectory": trajectory_l2_error(test, predicted)})
            to_reach = {"trajectory": PAPER_ERROR} if size == 10 else None
            bench.row(f"beta = {beta:g}, law", str(size), found, to_reach, f"{max(fit[1] for fit in fits):.0f} s")
            bench.tell(fits[0])


def table_grayscott(bench):
    """Gray-Scott: one pair for each pattern, and one law for all."""
    print(f"Gray-Scott, {GRID} x {GRID}, steps of 10 s from state {FIRST} on")
    grid = {"dt": 10.0, "spacing": 2 / GRID, "grid_shape": (GRID, GRID)}
    states = range(FIRST, FIRST + ROLLOUT + 1)
    to_reach = {"one step": 3e-3, f"{ROLLOUT} steps": 0.1}

    def simulations(n_samples, last, rates, seed):
        return bench.gray_scott(n_samples, range(FIRST, last + 1), rates, seed, GRID)

    for pattern in PATTERNS:
        test = simulations(1, states[-1], (pattern,), TEST_SEED)[:, :, :2]
        bench.row(f"{pattern}, persistence", "", [errors(persistence(), test, ROLLOUT)])

        def data(seed, pattern=pattern):
            return simulations(1, FIRST + 1, (pattern,), seed)[:, :, :2]

        bench.laws(f"{pattern}, law", "1 pair", data, test, ROLLOUT, to_reach, **grid)
    print(f"f and k as channels, all patterns together; new: f, k = {NEW_RATES}")
    tests = {name: simulations(1, states[-1], (name,), TEST_SEED) for name in (*PATTERNS, NEW_RATES)}
    fits = [
        bench.fit(law(seed=seed, **grid), simulations(12, FIRST + 1, PATTERNS, seed), 2, is_law=True)
        for seed in bench.seeds
    ]
    for name, test in tests.items():
        found = [errors(model.predict, test, ROLLOUT, 2) for model, _, _ in fits]
        bench.row(f"law, {name}", "12 pairs", found, to_reach, f"{max(fit[1] for fit in fits):.0f} s")
    bench.row("persistence, new", "", [errors(persistence(2), tests[NEW_RATES], ROLLOUT, 2)])
    bench.tell(fits[0])


def table_long(bench):
    """Gray-Scott from the beginning to 10,000 s."""
    print(f"Gray-Scott, {GRID} x {GRID}, state 0 to {LONG}, all patterns; the paper has {LONG_ERROR}")
    stored = (0, 1, FIRST, FIRST + 1, LONG - 1, LONG)
    test = bench.gray_scott(6, stored, PATTERNS, TEST_SEED, GRID)
    truth = test[:, -1, :2]
    bench.row("persistence", "", [{"error": relative_l2_error(truth, test[:, 0, :2])}])
    found = defaultdict(list)
    for seed in bench.seeds:
        data = bench.gray_scott(N_LONG, stored, PATTERNS, seed, GRID)
        ends = data[:, [0, -1]]
        mean = np.broadcast_to(ends[:, -1, :2].mean(axis=0), truth.shape)
        found["mean of the ends", f"{N_LONG} pairs"].append(relative_l2_error(truth, mean))
        # Of a pattern, what is known of it: the mean value.
        values = [ends[i % 6 :: 6, -1, :2].mean(axis=(0, 2, 3)) for i in range(6)]
        constant = np.broadcast_to(np.array(values)[:, :, None, None], truth.shape)
        found["mean values by pattern", f"{N_LONG} pairs"].append(relative_l2_error(truth, constant))
        ridge = Next(RidgeCV(np.logspace(-4, 6, 11))).fit(*pairs(ends, 2))
        found["ridge", f"{N_LONG} pairs"].append(relative_l2_error(truth, ridge.predict(test[:, 0])))
        steps = data[:6].reshape(18, 2, *data.shape[2:])
        fit = bench.fit(law(10.0, 2 / GRID, seed, grid_shape=(GRID, GRID)), steps, 2, is_law=True)
        ends = bounded(rollout(fit[0].predict, test[:, 0], LONG)[:, -1, :2])
        found["law of stored states", "18 pairs"].append(relative_l2_error(truth, ends))
        one_by_one = [f"{name} {relative_l2_error(truth[[i]], ends[[i]]):.2g}" for i, name in enumerate(PATTERNS)]
        print(f"{'':6}law, seed {seed}: {', '.join(one_by_one)}")
    for (name, size), values in found.items():
        to_reach = {"error": LONG_ERROR} if name.startswith("law") else None
        bench.row(name, size, [{"error": value} for value in values], to_reach)


def table_stationary(bench):
    """Nonlinear equations without time."""
    stationary(len(bench.seeds))


def limits(bench):
    """Names of problems without such a law, with data by size and seed, settings, and numbers of trajectories."""
    line = {"dt": DT, "spacing": 1 / N_POINTS}
    plane = {"dt": 10.0, "spacing": 2 / GRID, "grid_shape": (GRID, GRID)}
    coarse = {**plane, "spacing": 4 / GRID, "grid_shape": (GRID // 2, GRID // 2)}

    def hidden(size, seed):
        return bench.gray_scott(size, range(FIRST, FIRST + 6), ("maze",), seed, GRID)[:, :, :1]

    def unresolved(size, seed):
        return bench.gray_scott(size, range(FIRST, FIRST + 6), ("maze",), seed, GRID)[:, :, :2, ::2, ::2]

    def too_long(size, seed):
        return bench.burgers(size, N_POINTS, n_steps=N_STEPS, random_state=seed)[:, :: N_STEPS // 3]

    def sharp(size, seed):
        return make_burgers(
            size, N_POINTS // 2, viscosity=1e-4, t_final=3.0, refinement=16, return_trajectories=True,
            random_state=seed, verbose=0,
        )[1]  # fmt: skip

    return {
        "rational diffusivity": (partial(bench.diffusion, diffusivity=_rational, n_points=N_POINTS), line, (5, 50)),
        "nonlocal term": (lambda size, seed: _data(bench.nonlocal_burgers, size, seed), line, (5, 50)),
        "hidden field": (hidden, plane, (2,)),
        "steps of 1 s": (too_long, {**line, "dt": DT * (N_STEPS // 3)}, (5, 50)),
        "Gray-Scott, coarse grid": (unresolved, coarse, (2,)),
        "Burgers, viscosity 1e-4": (sharp, {**line, "spacing": 2 / N_POINTS}, (5, 50)),
    }


def _data(function, size, seed):
    return function(size, N_POINTS, n_steps=N_STEPS, dt=DT, random_state=seed)


def _rational(u):
    return 5e-3 / (1 + 50 * u**2)


def table_limits(bench):
    """Where no local polynomial law is right, or the data do not show it."""
    print("Problems without a law that could be found: never worse than ridge, or with a warning")
    for name, (make, settings, sizes) in limits(bench).items():
        data = (lambda size, seed, f=make: f(size, random_state=seed)) if isinstance(make, partial) else make
        test = data(min(N_TEST, 20) if settings.get("grid_shape") is None else 2, TEST_SEED)
        n_steps = test.shape[1] - 1
        bench.row(f"{name}, persistence", "", [errors(persistence(), test, n_steps)])
        for size in sizes:
            fits = [bench.fit(Next(RidgeCV(np.logspace(-6, 4, 11))), data(size, seed)) for seed in bench.seeds]
            found = [errors(fit[0].predict, test, n_steps) for fit in fits]
            bench.row(f"{name}, ridge", str(size), found)
            largest = max(values["one step"] for values in found)
            fits = bench.laws(f"{name}, law", str(size), partial(data, size), test, n_steps, **settings)
            worst = max(errors(fit[0].predict, test, n_steps)["one step"] for fit in fits)
            warned = all(fit[2] for fit in fits)
            verdict = "reached" if warned or worst <= 1.05 * largest else "MISSED"
            print(f"{'':6}to reach: a warning, or ridge's error: {verdict}")


def table_hybrid(bench):
    """Burgers' equation with a nonlocal term: a law, a network, and both."""
    print(f"Burgers with a nonlocal term, viscosity 4e-3, {N_POINTS} points, {N_STEPS} steps of {DT}")
    test = _data(bench.nonlocal_burgers, N_TEST, TEST_SEED)
    bench.row("persistence", "", [errors(persistence(), test, N_STEPS)])
    alphas = np.logspace(-8, 4, 13)

    def alone(seed):
        return Kept(law(DT, 1 / N_POINTS, seed, form="law"), str(bench.folder), bench.code)

    def both(seed, correction):
        # The term acts all through a step, on the states at its end as well.
        return ResidualRegressor(alone(seed), correction, with_prediction=True)

    for size in SIZES:
        trajectories = {seed: _data(bench.nonlocal_burgers, size, seed) for seed in bench.seeds}
        models = {
            "ridge": lambda seed: Next(RidgeCV(alphas)),
            "law": alone,
            "law + ridge": lambda seed: both(seed, RidgeCV(alphas)),
            "law + HSSRegressor": lambda seed: both(seed, HSSRegressor(grid_shape=N_POINTS, random_state=seed)),
        }
        if bench.with_networks:
            models["law + NeuralHSSRegressor"] = lambda seed: both(
                seed, NeuralHSSRegressor(random_state=seed, **PAPER_HSS)
            )
            for form in (HSS, "FNO"):
                network = partial(TimedNetwork, form, bench.seconds, n_groups=size)
                models[form] = lambda seed, make=network: make(seed=seed)
                models[f"law + {form}"] = lambda seed, make=network: both(seed, make(seed=seed))
        best = {}
        for name, make in models.items():
            fits = [bench.fit(make(seed), trajectories[seed], is_law="law" in name) for seed in bench.seeds]
            found = [errors(fit[0].predict, test, N_STEPS) for fit in fits]
            reason = getattr(fits[0][0], "reason_", "")
            seconds = np.mean([fit[1] for fit in fits])
            bench.row(name, str(size), found, note=f"{seconds:.0f} s; {reason if '+' in name else ''}".rstrip("; "))
            best[name] = np.mean([values["one step"] for values in found])
        together, apart = (min((n for n in best if ("+" in n) == sums), key=best.get) for sums in (True, False))
        verdict = "reached" if best[together] < best[apart] else "MISSED"
        print(f"{'':6}to reach: {together} before {apart}: {verdict}")


TABLES = {
    name.removeprefix("table_"): table
    for name, table in list(globals().items())
    if name.startswith("table_") and name not in ("table_of_networks", "table_sindy")
}


def main(arguments=None):
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", nargs="+", choices=TABLES, default=["burgers", "paper", "grayscott", "limits"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=60.0, help="of training, for every network")
    parser.add_argument("--networks", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--cache", default="bench-results", help="folder for data and fits")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # those about laws are printed
    bench = Bench(options.seeds, options.seconds, options.cache, options.networks)
    print(f"seeds {options.seeds}, {options.seconds:g} s of training for each network")
    for name in options.table:
        TABLES[name](bench)
        print()


if __name__ == "__main__":
    main()
