"""Common parts of these scripts: the command line, fits that are never repeated, tables and their files."""

import argparse
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import sklearn
import torch
from matplotlib.ticker import NullFormatter
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.model_selection import learning_curve
from sklearn.pipeline import Pipeline
from tqdm.auto import tqdm

import sklearn_hss
from sklearn_hss.metrics import relative_l2_scorer

RESULTS = ("error", "train_error", "shifted_error", "fit_seconds", "n_parameters", "training", "code")  # of `fit`
#: Sizes of networks, and of local laws, with the budget "smoke".
SMALL = {"width": 8, "degree": 1, "radius": 1}


#: Values of ``--budget``; not all scripts support all. "smoke": tiny networks; "cpu": less data than the paper, and
#: the settings of its networks; "trained": its data, and settings that are tuned; "paper": all that it has.
BUDGETS = ("smoke", "cpu", "trained", "paper")


class NothingToDo(SystemExit):
    """A script has nothing of what the options ask for."""

    def __init__(self, wanted, known):
        super().__init__(f"Of {wanted}, there is none here; there are: {', '.join(dict.fromkeys(known))}")


@dataclass(frozen=True)
class Problem:
    """A data set, what of it is for testing, and how that is scored.

    Attributes
    ----------
    make : callable
        Function without arguments that returns ``(X, y)``, the test samples last; y is None for trajectories.
    n_test : int
        Number of test samples.
    scorer : callable
        A scorer of scikit-learn whose values are minus the error.
    make_shifted : callable, optional
        Function that returns ``(X, y)`` of another distribution, to test on, too.
    """

    make: Callable
    n_test: int
    scorer: Callable = relative_l2_scorer
    make_shifted: Callable | None = None

    def generate(self):
        """Make the data, for whoever reads them from the disk afterwards."""
        self.make()
        if self.make_shifted:
            self.make_shifted()


def trajectories(make, every, **arguments):
    """Every so many-th state of the trajectories, for :class:`RolloutRegressor`, and no targets."""
    return make(return_trajectories=True, **arguments)[1][:, ::every], None


def pairs(make, inverse=False, every=1, dtype="float64", **arguments):
    """Flat inputs and outputs of a generator, at every so many-th point of its grid; ``inverse=True`` swaps them.

    Channels that only the inputs have, coefficients of the equation, are inputs of the inverse problem, too.
    """
    X, y = make(**arguments)
    if every > 1:
        points = (..., *[slice(None, None, every)] * len(arguments["n_points"]))
        X, y = X[points], y[points]
    if inverse:
        n_channels = y.shape[1] if y.ndim == 4 else None
        X, y = (y, X) if n_channels is None else (np.concatenate([y, X[:, n_channels:]], 1), X[:, :n_channels])
    return X.reshape(len(X), -1).astype(dtype), y.reshape(len(y), -1).astype(dtype)


def fit(key, problem, estimator, n_train):
    """Train `estimator` on the first `n_train` samples of `problem` and test it; `key` tells all that is done.

    Returns
    -------
    dict
        Values of the names in `RESULTS`. The error on training samples is that of as many as there are for testing.
    """
    X, y = problem.make()
    fitted = []

    def scorer(model, X, y=None):
        fitted.append(model)  # which learning_curve does not return
        some = slice(problem.n_test)  # of the training samples, there may be many
        return problem.scorer(model, X[some], None if y is None else y[some])

    n_pool = len(X) - problem.n_test
    _, train, test, seconds, _ = learning_curve(
        estimator,
        X,
        y,
        train_sizes=[n_train],
        cv=[(np.arange(n_pool), np.arange(n_pool, len(X)))],
        scoring=scorer,
        return_times=True,
        error_score="raise",
    )
    return {
        "error": -test[0, 0],
        "train_error": -train[0, 0],
        "shifted_error": -problem.scorer(fitted[0], *problem.make_shifted()) if problem.make_shifted else np.nan,
        "fit_seconds": seconds[0, 0],
        "n_parameters": count_parameters(fitted[0]),
        "training": training_of(fitted[0]),
        "code": code(),
    }


def attempt(fit, *arguments):
    """Result of `fit`; if it fails, NaN and the reason."""
    try:
        return fit(*arguments)
    except (ArithmeticError, MemoryError, RuntimeError, ValueError, np.linalg.LinAlgError) as error:
        return {**dict.fromkeys(RESULTS, np.nan), "n_parameters": 0, "failure": repr(error)}


def describe(thing):
    """Plain values that tell all about a problem or an estimator, but not where its data are kept."""
    if isinstance(thing, Problem):
        return [describe(value) for value in vars(thing).values()]
    if isinstance(thing, partial):
        keywords = {name: describe(value) for name, value in thing.keywords.items() if name != "data_home"}
        return [describe(thing.func), [describe(value) for value in thing.args], keywords]
    if isinstance(thing, Pipeline):
        return [describe(step) for _, step in thing.steps]
    if isinstance(thing, BaseEstimator):
        parameters = thing.get_params(deep=False).items()
        return [type(thing).__name__, {name: describe(value) for name, value in parameters}]
    if isinstance(thing, np.ndarray):
        return thing.tolist()
    if isinstance(thing, dict):
        return {name: describe(value) for name, value in thing.items()}
    return getattr(thing, "__name__", None) or repr(thing)


def _code():
    here = Path(__file__).parent
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True)
    except OSError:  # there is no git
        return sklearn_hss.__version__
    return found.stdout.strip() or sklearn_hss.__version__


_CODE = _code()  # when this process began, not when a fit ends


def code():
    """Version of the code by git, or else that of the package."""
    return _CODE


def _fitted(estimator, X, y):
    start = time.perf_counter()
    return clone(estimator).fit(X, y), time.perf_counter() - start


class Remembered(MetaEstimatorMixin, BaseEstimator):
    """A regressor whose fits are kept in a folder, so that a search that was stopped goes on where it was.

    Parameters
    ----------
    estimator : regressor
        With fixed random states.
    folder : str
        Where the fitted estimators are kept.
    """

    def __init__(self, estimator, folder):
        self.estimator = estimator
        self.folder = folder

    def fit(self, X, y):
        """Fit, or load what an earlier run has fitted, and the seconds that it took."""
        self.estimator_, self.fit_seconds_ = joblib.Memory(self.folder, verbose=0).cache(_fitted)(self.estimator, X, y)
        return self

    def predict(self, X):
        """Predict with the fitted regressor."""
        return self.estimator_.predict(X)


def inside(model):
    """The fitted model inside of searches, rollouts and pipelines."""
    if any(hasattr(model, attribute) for attribute in ("n_parameters_", "coef_", "dual_coef_")):
        return model
    for attribute in ("estimator_", "best_estimator_", "regressor_"):
        if hasattr(model, attribute):
            return inside(getattr(model, attribute))
    return inside(model[-1])  # of a pipeline


def count_parameters(model):
    """Number of fitted numbers of one of our estimators, or of a linear or kernel model of scikit-learn."""
    model = inside(model)
    if hasattr(model, "n_parameters_"):
        return model.n_parameters_
    return int(np.size(model.coef_ if hasattr(model, "coef_") else model.dual_coef_))


def training_of(model):
    """Optimiser, rate and epochs of a network; nothing of other models."""
    model = inside(model)
    if not hasattr(model, "training_"):
        return ""
    if not model.n_iter_:
        return "no training"
    rate = "" if model.training_["optimizer"] == "lm" else f" {model.training_['lr']:g}"
    return f"{model.training_['optimizer']}{rate}, {model.n_iter_} epochs of {model.training_['batch_size']}"


def duration(n_epochs, batch_size, seconds):
    """How long networks train: in words."""
    return f"{seconds} s of training" if seconds else f"{n_epochs} epochs, batches of {batch_size}"


def tasks(equation, data, problem, n_train, models):
    """Arguments of :meth:`Study.run` for all models of a dictionary."""
    task = {"equation": equation, "data": data, "problem": problem, "n_train": n_train}
    return [{**task, "model": name, "estimator": model} for name, model in models.items()]


class Study:
    """One script's run: its command line, its fits and its files.

    Parameters
    ----------
    doc : str
        Description for ``--help``; its first line.
    budgets : dict
        Description of the script for each value of ``--budget``.
    arguments : list of str, default=None
        Those of the command line if None.
    backends : tuple of str, default=("loky",)
        Choices of ``--backend``, the first one by default.
    """

    def __init__(self, doc, budgets, arguments=None, backends=("loky",)):
        parser = argparse.ArgumentParser(description=doc.split("\n")[0])
        parser.add_argument(
            "--budget",
            choices=BUDGETS,
            default="cpu",
            help="smoke: tiny networks; trained: the paper's data and hours; paper: for a GPU; default: cpu",
        )
        parser.add_argument(
            "--seeds", type=int, help="number of seeds of the networks, on the same data; default: the budget's"
        )
        parser.add_argument("--models", nargs="+", default=None, help="names of the models to train; default: all")
        parser.add_argument("--equations", nargs="+", default=None, help="equations, as tables have them; default: all")
        parser.add_argument("--n-jobs", type=int, default=2, help="number of fits at a time, default: 2")
        parser.add_argument("--output", type=Path, default=Path("paper-results"), help="folder of the results")
        parser.add_argument("--backend", choices=backends, default=backends[0], help="what runs fits side by side")
        options = parser.parse_args(arguments)
        self.backend = options.backend
        self.budget = options.budget
        if self.budget not in budgets:
            raise NothingToDo(f"--budget {self.budget}", budgets)
        self.settings = budgets[self.budget]
        if options.seeds is not None and options.seeds < 1:
            parser.error(f"argument --seeds: {options.seeds} must be at least 1")
        self.seeds = range(options.seeds or self.settings.get("seeds", 1))
        self.n_jobs = min(options.n_jobs, self.settings.get("n_jobs", options.n_jobs))
        self.models, self.equations = options.models, options.equations
        self.output = options.output / options.budget
        self.output.mkdir(parents=True, exist_ok=True)
        self.data_home = str(self.output / "data")
        # All fits are forgotten when the text of `fit` changes.
        self.fit = joblib.Memory(self.output / "fits", verbose=0).cache(fit, ignore=["problem", "estimator", "n_train"])

    def wants(self, model, equation):
        """Whether the options name both, or do not restrict them."""
        return (not self.models or model in self.models) and (not self.equations or equation in self.equations)

    def nothing_to_do(self, known):
        """The error to raise where nothing is wanted; `known` are pairs of models and equations."""
        models, equations = zip(*known, strict=True)
        if self.equations and not set(self.equations) & set(equations):
            return NothingToDo(f"--equations {self.equations}", equations)
        return NothingToDo(f"--models {self.models}", models)

    def run(self, tasks):
        """Do all fits that an earlier run has not finished.

        Parameters
        ----------
        tasks : list of dict
            With a `problem`, an `estimator`, `n_train`, and further entries, such as `model`, for the table.

        Returns
        -------
        DataFrame
            A row per task and seed, with those further entries and the results of :func:`fit`.
        """
        jobs = []
        for task in tasks:
            if not self.wants(task["model"], task["equation"]):
                continue
            parameters = task["estimator"].get_params()
            random = [name for name in parameters if name.endswith("random_state")]
            small = {
                name: least
                for name, value in parameters.items()
                for ending, least in (SMALL.items() if self.budget == "smoke" else ())
                # Without a width of their own, networks have a single channel; laws choose whatever is "auto".
                if name.endswith(ending) and (isinstance(value, int) or (value == "auto" and ending != "width"))
            }
            trained = any(name.endswith("max_epochs") for name in parameters)
            for seed in self.seeds if trained else [0]:
                estimator = clone(task["estimator"]).set_params(**dict.fromkeys(random, seed), **small)
                jobs.append(({**task, "seed": seed}, estimator))
        if not jobs:
            raise self.nothing_to_do([(task["model"], task["equation"]) for task in tasks])
        arguments = []
        for task, estimator in jobs:
            problem, n_train = task["problem"], task["n_train"]
            key = [describe(problem), describe(estimator), n_train]
            arguments.append((key, problem, estimator, n_train))
        done = [self.fit.check_call_in_cache(*each) for each in arguments]
        print(f"{len(jobs)} fits, {sum(done)} of them finished by an earlier run", flush=True)
        # Once and by all cores, instead of by every process that meets them first.
        missing = {str(key[0]): problem for (key, problem, *_), known in zip(arguments, done, strict=True) if not known}
        with joblib.parallel_config(n_jobs=self.n_jobs):
            for problem in missing.values():
                problem.generate()
        parallel = joblib.Parallel(self.n_jobs, return_as="generator", pre_dispatch="all")
        results = parallel(joblib.delayed(attempt)(self.fit, *each) for each in arguments)
        bar = tqdm(zip(jobs, results, strict=True), total=len(jobs), unit="fit", miniters=1)
        rows = []
        for (task, _), result in bar:
            told = {key: value for key, value in task.items() if key not in ("problem", "estimator")}
            rows.append({**told, **result})
            bar.set_postfix_str(f"{task['model']} {result['error']:.1e}", refresh=False)
        table = pd.DataFrame(rows)
        others = sorted(set(table["code"].dropna()) - {code()})
        if others:
            print(f"Some fits are of other code: {', '.join(others)}. Remove {self.output / 'fits'} to do them again.")
        if "failure" in table:
            for row in table[table["failure"].notna()].itertuples():
                print(f"Failed: {row.equation}, {row.data}, {row.model}: {row.failure}")
            table = table.drop(columns="failure")
        return table

    def finish(self, name, tasks, published):
        """Run the tasks, print them beside the paper's numbers, and save ``<name>.csv``.

        Returns
        -------
        DataFrame
            Result of :func:`compare`.
        """
        means = compare(self.run(tasks), published)
        print(as_text(means))
        self.save(name, means)
        return means

    def save(self, name, table):
        """Write `table` to ``<name>.csv``, with a comment that says where it comes from."""
        options = f"--budget {self.budget} --seeds {len(self.seeds)} --n-jobs {self.n_jobs}"
        for option, values in (("models", self.models), ("equations", self.equations)):
            options += f" --{option} {' '.join(map(repr, values))}" if values else ""
        with open(self.output / f"{name}.csv", "w") as file:
            file.write(f"# {name}; examples/paper {options}; {versions()}\n")
            table.to_csv(file, index=False, float_format="%.4g")


def versions():
    """Versions and hardware, of the run that writes a table; that of a fit is in its column "code"."""
    packages = (("sklearn_hss", sklearn_hss), ("torch", torch), ("scikit-learn", sklearn), ("numpy", np))
    cpu = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")  # the name of the processor, where Linux tells it
    names = (
        [line for line in listed.read_text().splitlines() if line.startswith("model name")] if listed.exists() else []
    )
    cpu = names[0].partition(":")[2].strip() if names else cpu
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{cpu}, {joblib.cpu_count()} cores"
    return ", ".join([*(f"{name} {package.__version__}" for name, package in packages), hardware])


def compare(table, published):
    """Means over the seeds beside what the paper has.

    Parameters
    ----------
    table : DataFrame
        Result of :meth:`Study.run`, with the columns `equation`, `data` and `model`.
    published : dict
        By equation and model, the number of parameters as the paper prints it, and the error.

    Returns
    -------
    DataFrame
        A row per task. "ratio" is our error over the paper's, after multiplication with a column `to_paper_grid`, if
        there is one: a norm that is no mean grows with the number of points.
    """
    groups = table.groupby([name for name in table.columns if name not in (*RESULTS, "seed")], sort=False)
    means = groups.agg(
        seeds=("error", "count"),
        failures=("error", lambda errors: errors.isna().sum()),
        parameters=("n_parameters", "max"),
        error=("error", "mean"),
        smallest=("error", "min"),
        largest=("error", "max"),
        train_error=("train_error", "mean"),
        shifted_error=("shifted_error", "mean"),
        fit_seconds=("fit_seconds", "mean"),
        training=("training", lambda texts: "; ".join(texts.dropna().unique())),
        code=("code", "first"),
    ).reset_index()
    names = [(row.equation, row.model.split(",")[0]) for row in means.itertuples()]
    means["paper_parameters"] = [published.get(name, ("", np.nan))[0] for name in names]
    means["paper_error"] = [published.get(name, ("", np.nan))[1] for name in names]
    means["ratio"] = means["error"] * means.get("to_paper_grid", 1.0) / means["paper_error"]
    return means


def as_text(means):
    """Result of :func:`compare` in readable form, one equation after the other."""
    lines = []
    for (equation, data), rows in means.groupby(["equation", "data"], sort=False):
        lines.append(f"\n{equation}; {data}")
        lines.append(
            f"{'':<28} {'parameters':>11} {'(paper)':>8} {'error':>8} {'(spread)':>20} {'(paper)':>8} {'ratio':>8} "
            f"{'shifted':>8} {'seconds':>8}"
        )
        for row in rows.itertuples():
            spread = f"({row.smallest:.1e}, {row.largest:.1e})" if row.seeds > 1 else ""
            paper = ("", "") if np.isnan(row.paper_error) else (f"{row.paper_error:.2g}", f"{row.ratio:.2g}")
            shifted = "" if np.isnan(row.shifted_error) else f"{row.shifted_error:.1e}"
            lines.append(
                f"{row.model:<28} {row.parameters:>11,} {row.paper_parameters:>8} {row.error:>8.1e} {spread:>20} "
                f"{paper[0]:>8} {paper[1]:>8} {shifted:>8} {row.fit_seconds:>8.1f}  {row.training}".rstrip()
            )
    return "\n".join(lines)


def curves(axis, means, x, y="error", spread=True):
    """Lines through a column of what :func:`compare` returns over another, one per model, with the spread of errors."""
    for name, rows in means.groupby("model", sort=False):
        axis.plot(rows[x], rows[y], "o-", label=name)
        if spread:
            axis.fill_between(rows[x], rows["smallest"], rows["largest"], alpha=0.2)
    axis.set(xscale="log", yscale="log")


def draw(means, path):
    """Picture of what :func:`compare` returns, a panel per equation: our errors as dots, the paper's as rings.

    Errors have their spread over the seeds, and are those that "ratio" compares, on the paper's grid.
    """
    means = means.replace([np.inf, -np.inf], np.nan)
    panels = list(means.groupby("equation", sort=False))
    n_columns = min(2, len(panels))
    heights = [2.2 + 0.24 * rows["model"].nunique() for _, rows in panels]
    heights = [max(heights[start : start + n_columns]) for start in range(0, len(panels), n_columns)]
    figure, axes = plt.subplots(
        len(heights),
        n_columns,
        figsize=(6.2 * n_columns, sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axis, (equation, rows) in zip(axes.flat, panels, strict=False):
        models = list(dict.fromkeys(rows["model"]))[::-1]
        for place, (data, some) in enumerate(rows.groupby("data", sort=False)):
            at = [models.index(name) for name in some["model"]]
            factor = some.get("to_paper_grid", 1.0)
            color = f"C{place if place == 0 else place + 1}"  # C1 is the paper's
            axis.hlines(at, factor * some["smallest"], factor * some["largest"], color=color)
            axis.plot(factor * some["error"], at, "o", color=color, label=data)
        axis.plot(
            rows["paper_error"], [models.index(name) for name in rows["model"]], "o", color="C1", ms=9, fillstyle="none"
        )
        axis.set_yticks(range(len(models)), models)
        if rows[["error", "paper_error"]].notna().any(axis=None):
            axis.set_xscale("log")
            low, high = axis.get_xlim()
            if high > 30 * low:
                axis.xaxis.set_minor_formatter(NullFormatter())  # labels that would overlap
        axis.set_title(equation)
        axis.grid(axis="x", alpha=0.3)
        axis.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.4, -0.1))
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle("test error: dots; the paper's: rings")
    figure.savefig(path, dpi=100)
    plt.close(figure)
