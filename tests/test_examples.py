"""The gallery runs from start to end; training is cut to two epochs, the numbers are not looked at."""

import importlib
import runpy
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline

from sklearn_hss import FNORegressor
from sklearn_hss.datasets import make_gray_scott, make_heat, make_poisson
from sklearn_hss.estimators._base import BaseNeuralRegressor
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer, trajectory_l2_scorer

EXAMPLES = Path(__file__).parents[1] / "examples"
# Those that take seconds; all others are slow, new ones too.
QUICK = [
    "plot_grid_search",
    "plot_greens_function",
    "plot_quickstart",
    "bench_fit",
    "bench_gpu",
    "bench_training",
    "figure_5",
]


def quick_or_slow(name, *values):
    return pytest.param(*values, id=name, marks=() if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("path", [quick_or_slow(path.stem, path) for path in sorted(EXAMPLES.glob("plot_*.py"))])
def test_example(path, monkeypatch, tmp_path):
    train = BaseNeuralRegressor._train

    def short_train(self, train_data, valid_data, partial, checkpoints=None):
        self._training = replace(self._training, max_epochs=2)
        train(self, train_data, valid_data, partial, checkpoints)

    monkeypatch.setattr(BaseNeuralRegressor, "_train", short_train)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    with joblib.parallel_config("threading"):  # other processes would train in full
        runpy.run_path(str(path), run_name="__main__")
    pictures = list(tmp_path.glob("*.png"))
    assert pictures
    assert all(picture.stat().st_size > 5_000 for picture in pictures)


LINE = partial(make_poisson, n_points=32)
BENCHMARKS = [
    (
        "bench_comparison",
        {"N_TEST": 4, "N_COEFFICIENTS": 40, "N_FORCES": 20},
        (["1-D Poisson, 10 samples", "-u'' + 2000 u^3 = f, 200 samples"], ["sklearn_hss", "ridge", "PySINDy"], 1),
    ),
    (
        "bench_conformal",
        {"N_SPLITS": 3, "CALIBRATION": (20, 30, 50), "SECONDS": 0.05},
        (["heat, five steps, noise 1 %"],),
    ),
    ("bench_datasets", {"FRACTION": 0.002}, ()),
    ("bench_fit", {"N_POINTS": 128, "SAMPLES": (8,)}, (["--table", "poisson"],)),
    # A problem in one dimension, three in two and one in three.
    ("bench_fit", {}, (["--table", "problems", "hopeless", "--only", "white, N = 4"],)),
    (
        "bench_kronecker",
        {"SEEDS": (0,), "N_POINTS": 32, "N_TEST": 5},
        (("paper", "rank"),),  # the other tables take minutes
    ),
    (
        "bench_layer",
        {
            "GRIDS": [((16, 16), 4, 2, False, (0.75, 0.60)), ((8, 8, 8), 2, 2, True, None)],
            "CONTRACTIONS": [((64,), 8, 1, 2, 2, 16), ((32, 32), 4, 8, 2, 2, None)],
            "STEPS": [((64,), 4, 3), ((16, 16), 4, 2)],
        },
        (),
    ),
    (
        "bench_evolution",
        {"N_TEST": 3, "SIZES": (1,), "PAPER_GRID": 128, "PAPER_STEPS": 3, "GRID": 64, "ROLLOUT": 3},
        (["--table", "burgers", "--seeds", "0", "--seconds", "0.2"],),
    ),
    ("bench_gpu", {}, (["--device", "cpu", "--quick"],)),
    ("bench_linalg", {"SIZES": [256, 512], "SLOPES_FROM": 256}, ()),
    ("bench_local_networks", {"N_TRAIN": 12, "N_TEST": 2}, (1, ["1-D, 256", "variable a, 31 x 31"])),
    ("bench_local", {"GRID": {"grid": (16, 16)}}, (["--table", "own", "--seeds", "1", "--only", "a, smooth"],)),
    (
        "bench_local",
        {"SIZES": {(8, 8): (2, None), (16, 16): (2, 1e9)}},
        (["--table", "size"],),
    ),
    (
        "bench_local",
        {"N_POINTS": 128, "N_TEST": 5, "NOISE": {1e-4: 2e-4}, "NOISE_SAMPLES": (10,)},
        (["--table", "recipe", "steps", "noise", "degenerate", "--seeds", "1", "--only", "1-D"],),
    ),
    ("bench_local", {}, (["--table", "degenerate", "mesh", "--seeds", "1", "--only", "two domains"],)),
    (
        "bench_nonlinear",
        {"SECONDS": 0.1, "PROBE": 0.05, "SEEDS": (0,), "N_TRAJECTORIES": 20, "N_COEFFICIENTS": 50, "N_FORCES": 20},
        (),
    ),
    ("bench_nothing_set", {}, (["-u'' + 2000 u^3 = f", "unseen: smooth, 90 points"], 0.05)),
    (
        "bench_start",
        {"N_TRAIN": 12, "N_TEST": 4, "PROBLEMS": {"line, noise": (LINE, 0.01)}, "LONG": ("line", LINE, 12, 1)},
        (["--seconds", "0.05", "--seeds", "1"],),
    ),
    ("bench_trained", {"N_TEST": 4}, (["1-D Poisson, N = 100"], ["auto", "FNO"], 1, None, 0.01)),
    (
        "bench_training",
        {"FITS": [(FNORegressor(width=4, modes=4, depth=1), 16, 8, 4, 1, 1.15)], "STEPS": [((32,), 2)]},
        (),
    ),
]


@pytest.mark.parametrize(
    ("name", "constants", "arguments"), [quick_or_slow(benchmark[0], *benchmark) for benchmark in BENCHMARKS]
)
def test_benchmark(name, constants, arguments, monkeypatch, capsys, tmp_path):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    import _timing

    monkeypatch.setattr(_timing.interleaved_medians, "__defaults__", (1, 1))
    benchmark = importlib.import_module(name)
    for constant, value in constants.items():
        monkeypatch.setattr(benchmark, constant, value)
    monkeypatch.chdir(tmp_path)
    benchmark.main(*arguments)
    assert "to reach" in capsys.readouterr().out


@pytest.fixture
def paper(monkeypatch):
    """Imports a script of examples/paper."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.syspath_prepend(EXAMPLES / "paper")
    # Workers that an earlier test started would not find the scripts: they have the path of that time.
    get_reusable_executor().shutdown(wait=True)
    return importlib.import_module


PAPER = ["table_1", "table_2", "figure_2", "figure_3", "figure_5", "figure_6", "figures_7_8_9"]


@pytest.mark.parametrize("name", [quick_or_slow(name, name) for name in PAPER])
def test_paper(name, paper, tmp_path, capsys):
    arguments = ["--budget", "smoke", "--n-jobs", "1", "--output", str(tmp_path)]
    if name == "figure_6":  # the other models of Table 1 thrice
        arguments += ["--models", "FNO", "ridge", "LocalEvolutionRegressor"]
    paper(name).main(arguments)
    assert "Failed" not in capsys.readouterr().out
    assert (tmp_path / "smoke" / f"{name}.png").stat().st_size > 5_000
    comment, header, *rows = (tmp_path / "smoke" / f"{name}.csv").read_text().splitlines()
    assert comment.startswith(f"# {name}; examples/paper --budget smoke --seeds 1 --n-jobs 1")
    assert "; sklearn_hss " in comment
    assert "model" in header or name == "figure_5"
    assert len(rows) >= 5


def test_paper_goes_on_where_it_was_stopped(paper, tmp_path, monkeypatch, capsys):
    table_1, study = paper("table_1"), paper("_study")
    arguments = ["--budget", "smoke", "--n-jobs", "1", "--output", str(tmp_path), "--models"]
    table_1.main([*arguments, "ridge", "least squares"])
    first = capsys.readouterr().out
    assert "6 fits, 0 of them" in first
    assert "Failed" not in first

    def no_learning_curve(*arguments, **kwargs):
        raise AssertionError("fitted again")

    monkeypatch.setattr(study, "learning_curve", no_learning_curve)
    table_1.main([*arguments, "ridge"])
    again = capsys.readouterr().out
    assert "3 fits, 3 of them" in again
    assert [line for line in again.splitlines() if line.startswith("ridge")] == [
        line for line in first.splitlines() if line.startswith("ridge")
    ]


def test_paper_search_goes_on_where_it_was_stopped(paper, tmp_path, monkeypatch):
    study = paper("_study")
    X = np.random.RandomState(0).randn(20, 3)

    def scores(estimator, name, alphas):
        search = GridSearchCV(estimator, {name: alphas}, cv=2, scoring="r2", refit=False, error_score="raise")
        return search.fit(X, X).cv_results_["mean_test_score"]

    model = study.Remembered(Ridge(), str(tmp_path))
    expected = scores(Ridge(), "alpha", [1.0, 2.0])
    np.testing.assert_array_equal(scores(model, "estimator__alpha", [1.0, 2.0]), expected)
    monkeypatch.setattr(Ridge, "fit", None)  # not to be called
    np.testing.assert_array_equal(scores(model, "estimator__alpha", [2.0]), expected[1:])
    with pytest.raises(TypeError):
        scores(model, "estimator__alpha", [3.0])


@pytest.mark.slow
def test_paper_goes_on_after_a_kill(tmp_path):
    command = [sys.executable, str(EXAMPLES / "paper" / "table_1.py"), "--budget", "smoke", "--n-jobs", "1"]
    command += ["--models", "ridge", "FNO", "--output", str(tmp_path)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while first.poll() is None and not len(list(tmp_path.rglob("output.pkl"))) >= 2:
            time.sleep(0.01)
    finally:
        first.kill()
        first.wait()
    done = len(list(tmp_path.rglob("output.pkl")))
    assert 2 <= done < 6  # it was killed in the middle
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"6 fits, {done} of them finished by an earlier run" in again


def test_paper_compares_means_over_seeds(paper):
    study = paper("_study")
    rows = [
        {"model": model, "seed": seed, "error": error, "n_parameters": n_parameters, "to_paper_grid": 2.0}
        for model, seed, error, n_parameters in [
            ("FNO", 0, 0.1, 7),
            ("FNO", 1, 0.3, 7),
            ("ridge", 0, np.nan, 0),
            ("ridge", 1, 0.5, 9),
        ]
    ]
    table = pd.DataFrame(rows).assign(
        equation="Heat", data="all", train_error=0.0, shifted_error=np.nan, fit_seconds=1.0, training="soap", code="abc"
    )
    fno, ridge = study.compare(table, {("Heat", "FNO"): ("7", 0.4)}).itertuples()
    assert (fno.seeds, fno.failures, fno.parameters, fno.paper_parameters) == (2, 0, 7, "7")
    np.testing.assert_allclose([fno.error, fno.smallest, fno.largest, fno.ratio], [0.2, 0.1, 0.3, 1.0])
    assert (ridge.seeds, ridge.failures, ridge.parameters, ridge.error) == (1, 1, 9, 0.5)
    assert np.isnan(ridge.paper_error)


def test_paper_keys_tell_fits_apart(paper, tmp_path):
    study, table_1 = paper("_study"), paper("table_1")
    problems = [
        table_1.problem(equation, n_points, n_train, 5, beta, str(tmp_path))
        for equation in table_1.NAMES
        for n_points in (32, 64)
        for n_train in (10, 20)
        for beta in ((1.0, 0.1) if equation == "burgers" else (1.0,))
    ]
    things = [*problems, Ridge(1.0), Ridge(2.0), FNORegressor(), make_pipeline(Ridge(1.0))]
    keys = [str(study.describe(thing)) for thing in things]
    assert len(set(keys)) == len(keys)
    assert not any(str(tmp_path) in key for key in keys)


def test_paper_law_goes_from_the_first_state_to_the_later_one(paper):
    settings, study = paper("_settings"), paper("_study")

    class Exact(BaseEstimator):
        """A law that needs no fit: the solver's."""

        def __init__(self, grid_shape=(16, 16)):
            self.grid_shape = grid_shape

        def fit(self, X):
            self.seen_ = X
            return self

        def predict(self, X):
            rates = [tuple(map(float, pair)) for pair in X[:, 2:, 0, 0]]
            _, later = make_gray_scott(initial=X[:, :2], pattern=rates, states=(0, 1), verbose=0)
            return np.concatenate([later, X[:, 2:]], axis=1)

    X, y = study.pairs(make_gray_scott, n_samples=3, n_points=(16, 16), states=(0, 4), random_state=0)
    law = settings.GrayScottLaw(Exact(), states=(0, 2), n_steps=4).fit(X, y)
    np.testing.assert_allclose(law.predict(X), y, rtol=1e-10, atol=1e-12)
    seen = law.estimator_.seen_  # two pairs of each simulation, one after the other
    assert seen.shape == (6, 2, 4, 16, 16)
    np.testing.assert_array_equal(seen[::2, 0].reshape(3, -1), X)
    np.testing.assert_allclose(law.estimator_.predict(seen[:, 0]), seen[:, 1], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(law.estimator_.predict(seen[::2, 1])[:, :2], seen[1::2, 0, :2], rtol=1e-10, atol=1e-12)


def test_paper_tunes_networks(paper):
    settings, study = paper("_settings"), paper("_study")
    X, y = make_poisson(30, 32, random_state=0)
    good = {"optimizer": ["adamw"], "lr": [1e-3, 1e-2]}
    network = FNORegressor(width=4, modes=4, depth=1, max_epochs=20, random_state=0)
    model = settings.Tuned(network, [good, {"optimizer": ["soap"], "lr": [1e-9]}], 8000.0, relative_l2_scorer).fit(X, y)
    # Six of thirty samples are held out, and the candidates judged on these, as by hand.
    ((train, test),) = ShuffleSplit(1, test_size=6, random_state=0).split(X)
    rates = [("adamw", 1e-3), ("adamw", 1e-2), ("soap", 1e-9)]
    errors = [
        relative_l2_error(
            y[test], clone(network).set_params(optimizer=name, lr=lr).fit(X[train], y[train]).predict(X[test])
        )
        for name, lr in rates
    ]
    best = model.best_estimator_
    assert (best.optimizer, best.lr) == rates[np.argmin(errors)]
    assert best.max_seconds == 8000
    again = clone(network).set_params(optimizer=best.optimizer, lr=best.lr).fit(X, y)  # on all samples
    assert study.training_of(model) == f"adamw {best.lr:g}, 20 epochs of 30"
    np.testing.assert_allclose(relative_l2_error(again.predict(X), model.predict(X)), 0, atol=1e-4)


def test_paper_tunes_time_stepping_and_leaves_the_rest(paper):
    settings, study = paper("_settings"), paper("_study")
    networks = settings.table_3(settings="auto")
    models = {name: settings.time_stepping(model) for name, model in (networks | {"ridge": Ridge()}).items()}
    tuned = settings.tuned(models, 0.2, trajectory_l2_scorer, lm=True)
    assert tuned["ridge"] is models["ridge"]
    assert tuned[settings.LINEAR_START].estimator.max_seconds == 0.2
    tried = {
        name: {value for grid in model.candidates for value in grid["optimizer"]}
        for name, model in tuned.items()
        if isinstance(model, settings.Tuned)
    }
    assert set(tried) == set(networks) - {settings.LINEAR_START}
    assert {name for name, optimizers in tried.items() if "lm" in optimizers} == {"Neural-HSS"}
    trajectories = make_heat(6, 32, solver="exact", return_trajectories=True, random_state=0)[1][:, ::10]
    model = tuned["Neural-HSS"].fit(trajectories)
    assert np.isfinite(trajectory_l2_scorer(model, trajectories))
    network = study.inside(model)
    assert (network.settings, network.max_seconds) == ("auto", 0.2)
    assert len(model.cv_results_["params"]) == 7
    # The tables of the paper say all that they said before.
    assert all(model.settings == "paper" for model in settings.table_3().values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table_1", "table_2", "figure_2", "figure_3"])
def test_paper_trained(name, paper, tmp_path, monkeypatch, capsys):
    script = paper(name)
    budget = {**script.BUDGETS["trained"], **script.BUDGETS["smoke"]}
    seconds = budget["seconds"]
    budget["seconds"] = dict.fromkeys(seconds, 0.2) if isinstance(seconds, dict) else 0.2
    budget.pop("on", None)
    monkeypatch.setitem(script.BUDGETS, "trained", budget)
    models = ["FNO", "Neural-HSS", "Neural-HSS, linear start"]
    script.main(["--budget", "trained", "--n-jobs", "1", "--output", str(tmp_path), "--models", *models])
    assert "Failed" not in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "trained" / f"{name}.csv", comment="#")
    assert set(table["model"]) == set(models)
    assert table["training"].str.contains("adamw|soap|lm|no training").all()


def test_paper_runs_a_part(paper, tmp_path, capsys):
    table_1, figure_6, study = paper("table_1"), paper("figure_6"), paper("_study")
    arguments = ["--budget", "smoke", "--n-jobs", "1", "--output", str(tmp_path)]
    table = table_1.main([*arguments, "--models", "ridge", "--equations", "Heat", "Burgers"])
    assert table["equation"].tolist() == ["Heat", "Burgers"]
    with pytest.raises(study.NothingToDo, match="there are: Heat, Poisson, Neumann, Burgers"):
        table_1.main([*arguments, "--equations", "Helmholtz"])
    with pytest.raises(study.NothingToDo, match=r"'Ridge'.* there are: Neural-HSS"):
        table_1.main([*arguments, "--models", "Ridge"])
    with pytest.raises(study.NothingToDo, match=r"trained.* there are: smoke, cpu, paper"):
        figure_6.main(["--budget", "trained", "--output", str(tmp_path)])


@pytest.mark.slow
def test_paper_search_on_a_cluster(paper, tmp_path):
    pytest.importorskip("distributed")
    figure_5 = paper("figure_5")
    scores = []
    for backend in ("loky", "dask"):
        arguments = ["--budget", "smoke", "--n-jobs", "2", "--output", str(tmp_path / backend), "--backend", backend]
        figure_5.main(arguments)
        scores.append(pd.read_csv(tmp_path / backend / "smoke" / "figure_5.csv", comment="#")["error"])
    np.testing.assert_array_equal(*scores)


@pytest.mark.slow
def test_paper_in_one_go(paper, tmp_path, capsys):
    run_all = paper("run_all")
    run_all.main(["--budget", "smoke", "--n-jobs", "1", "--output", str(tmp_path), "--models", "Green Learning"])
    out = capsys.readouterr().out
    assert "there are: Neural-HSS\n" in out  # those of the ablation
    assert out.index("=== Summary") > out.index("=== Figures 7 to 9")
    rows = (tmp_path / "smoke" / "summary.csv").read_text().splitlines()[2:]
    assert len(rows) == 5  # heat, Neumann, 2-D Poisson, and two sizes of Figure 2
    assert all("Green Learning" in row for row in rows)
    with pytest.raises(SystemExit):  # what argparse refuses is not passed over
        run_all.main(["--budget", "none"])


def test_paper_shows_what_there_is_when_a_script_fails(paper, tmp_path, monkeypatch, capsys):
    run_all, table_1 = paper("run_all"), paper("table_1")

    class Broken:
        __doc__ = "Broken."
        __name__ = "broken"

        def main(self, arguments):
            raise TypeError("of this script")

    monkeypatch.setattr(run_all, "SCRIPTS", (Broken(), table_1))
    with pytest.raises(SystemExit, match="Failed, see above: broken"):
        run_all.main(["--budget", "smoke", "--n-jobs", "1", "--output", str(tmp_path), "--models", "ridge"])
    captured = capsys.readouterr()
    assert "of this script" in captured.err
    assert (tmp_path / "smoke" / "summary.txt").read_text() in captured.out
    assert captured.out.count("\nridge") == 6  # heat, Neumann and Burgers, by the script and in the summary
