"""The gallery runs from start to end; training is cut to two epochs, the numbers are not looked at."""

import importlib
import runpy
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from sklearn_hss import FNORegressor
from sklearn_hss.estimators._base import BaseNeuralRegressor

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("plot_*.py")), ids=lambda path: path.stem)
def test_example(path, monkeypatch, tmp_path):
    train = BaseNeuralRegressor._train

    def short_train(self, train_data, valid_data, n_epochs, **kwargs):
        train(self, train_data, valid_data, 2, **kwargs)

    monkeypatch.setattr(BaseNeuralRegressor, "_train", short_train)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    with joblib.parallel_config("threading"):  # other processes would train in full
        runpy.run_path(str(path), run_name="__main__")
    pictures = list(tmp_path.glob("*.png"))
    assert pictures
    assert all(picture.stat().st_size > 5_000 for picture in pictures)


@pytest.mark.parametrize(
    ("name", "constants", "arguments"),
    [
        ("bench_datasets", {"FRACTION": 0.002}, ()),
        ("bench_fit", {"N_POINTS": 128, "SAMPLES": (8,)}, ()),
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
        ("bench_linalg", {"SIZES": [256, 512], "SLOPES_FROM": 256}, ()),
        (
            "bench_nonlinear",
            {"SECONDS": 0.1, "PROBE": 0.05, "SEEDS": (0,), "N_TRAJECTORIES": 20, "N_COEFFICIENTS": 50},
            (),
        ),
        (
            "bench_training",
            {"FITS": [(FNORegressor(width=4, modes=4, depth=1), 16, 8, 4, 1, 1.15)], "STEPS": [((32,), 2)]},
            (),
        ),
    ],
)
def test_benchmark(name, constants, arguments, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    import _timing

    monkeypatch.setattr(_timing.interleaved_medians, "__defaults__", (1, 1))
    benchmark = importlib.import_module(name)
    for constant, value in constants.items():
        monkeypatch.setattr(benchmark, constant, value)
    benchmark.main(*arguments)
    assert "to reach" in capsys.readouterr().out


@pytest.fixture
def paper(monkeypatch):
    """Imports a script of examples/paper."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.syspath_prepend(EXAMPLES / "paper")
    return importlib.import_module


PAPER = ["table_1", "table_2", "figure_2", "figure_3", "figure_5", "figure_6", "figures_7_8_9"]


@pytest.mark.parametrize("name", PAPER)
def test_paper(name, paper, tmp_path, capsys):
    arguments = ["--budget", "smoke", "--n-jobs", "1", "--output", str(tmp_path)]
    if name == "figure_6":  # the other models of Table 1 thrice
        arguments += ["--models", "FNO", "ridge"]
    paper(name).main(arguments)
    assert "Failed" not in capsys.readouterr().out
    assert (tmp_path / "smoke" / f"{name}.png").stat().st_size > 5_000
    comment, header, *rows = (tmp_path / "smoke" / f"{name}.csv").read_text().splitlines()
    assert comment.startswith(f"# {name}; examples/paper --budget smoke --seeds 1; sklearn_hss ")
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


def test_paper_search_on_a_cluster(paper, tmp_path):
    pytest.importorskip("distributed")
    figure_5 = paper("figure_5")
    scores = []
    for backend in ("loky", "dask"):
        arguments = ["--budget", "smoke", "--n-jobs", "2", "--output", str(tmp_path / backend), "--backend", backend]
        figure_5.main(arguments)
        scores.append(np.loadtxt(tmp_path / backend / "smoke" / "figure_5.csv", delimiter=",", skiprows=2)[:, :4])
    np.testing.assert_array_equal(*scores)


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
