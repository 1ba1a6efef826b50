"""The gallery runs from start to end; training is cut to two epochs, the numbers are not looked at."""

import importlib
import runpy
from pathlib import Path

import joblib
import pytest

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
        ("bench_training", {"N_EPOCHS": 2}, ()),
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
