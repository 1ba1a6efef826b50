"""Two processes that train one network, by ``accelerator``, against one process."""

import os
import pickle
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed_fits import CASES, WEIGHT, X, Y, make, weights
from sklearn.base import clone

import sklearn_hss

accelerate = pytest.importorskip("accelerate")
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "distributed_fits.py"


def environment(**more):
    """Variables of processes that find the package where this one does, with a thread each."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What either process has found."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for index in range(2):
        own = {"RANK": str(index), "LOCAL_RANK": str(index)}
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        with open(folder / f"{index}.log", "w") as log:
            command = [sys.executable, str(SCRIPT), str(folder)]
            processes.append(subprocess.Popen(command, env=environment(**own, **shared), stdout=log, stderr=log))
    try:
        for index, process in enumerate(processes):
            assert process.wait(timeout=600) == 0, (folder / f"{index}.log").read_text()
    finally:
        for process in processes:
            process.kill()
    return [pickle.loads((folder / f"{index}.pickle").read_bytes()) for index in range(2)]


def assert_close(found, expected, bound):
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


def fit(name, **parameters):
    """A case in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(name, **parameters).fit(*CASES[name][2])


@pytest.mark.parametrize("name", CASES)
def test_two_processes_find_the_weights_of_one(results, name):
    expected = fit(name)
    (first, history), (second, other_history) = (result["cases"][name] for result in results)
    np.testing.assert_array_equal(first, second)
    assert_close(first, weights(expected), 1e-5 if name == "float32" else 1e-6)
    assert len(history) == len(other_history) == expected.n_iter_
    for row, other_row, expected_row in zip(history, other_history, expected.history_, strict=True):
        for key in row.keys() - {"dur"}:
            assert row[key] == other_row[key] == pytest.approx(expected_row[key], rel=1e-5)


def test_cases_are_what_they_are_meant_to_be(results):
    assert [result["count"] for result in results] == [2, 2]
    assert len(X) % CASES["SOAP"][1]["batch_size"] == 1
    assert 0 in WEIGHT
    for name in ("early stopping", "weights"):
        assert fit(name).n_iter_ < CASES[name][1]["max_epochs"]
    assert fit("linear start").init_ == "linear"


@pytest.mark.parametrize("fact", ["seconds", "no seed", "stopped", "continued", "continued fit", "search"])
def test_both_processes_find_the_same(results, fact):
    first, second = (result["facts"][fact] for result in results)
    np.testing.assert_array_equal(first, second)


def test_one_process_stops_both(results):
    assert [result["facts"]["stopped after"] for result in results] == [2, 2]


def test_checkpoints(results):
    """Ctrl-C in one process ends both; the main one alone writes, and all continue from that."""
    expected = weights(fit("AdamW"))
    for result in results:
        facts = result["facts"]
        assert facts["interrupted after"] == 2  # in the third epoch
        assert_close(facts["continued"], expected, 1e-6)
        np.testing.assert_array_equal(facts["only read"], facts["continued"])
    assert [result["facts"]["writes"] for result in results] == [True, False]


def test_fits_go_on(results):
    expected = fit("AdamW", warm_start=True).fit(X, Y).partial_fit(X, Y)
    assert_close(results[0]["facts"]["continued fit"], weights(expected), 1e-6)


def test_clones_share_the_accelerator_and_pickles_do_not_have_it(results):
    assert all(result["facts"]["clone"] and result["facts"]["pickle"] is None for result in results)


def test_processes_refuse_what_differs_together(results):
    for result in results:
        parameter, error_of_main, data = result["facts"]["errors"]
        assert "Process 1 has other lr than the main process; with an accelerator, give every process" in parameter
        assert "init='linear' with residual=True needs outer_rank=2" in error_of_main
        assert "Process 1 has other values of X than the main process" in data


def test_auto_is_the_same_for_any_number_of_processes(results):
    alone = fit("AdamW", optimizer="auto", max_epochs=1, accelerator=accelerate.Accelerator(cpu=True))
    assert alone.training_["optimizer"] == results[0]["facts"]["optimizer"] == "soap"
    assert fit("AdamW", optimizer="auto", max_epochs=1).training_["optimizer"] == "lm"


def test_one_process(tmp_path):
    accelerator = accelerate.Accelerator(cpu=True)
    model = fit("SOAP", accelerator=accelerator)
    np.testing.assert_array_equal(weights(model), weights(fit("SOAP")))
    assert clone(model).accelerator is accelerator
    sklearn_hss.save(model, tmp_path / "model.hss")
    loaded = sklearn_hss.load(tmp_path / "model.hss")
    assert loaded.accelerator is None
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"accelerator": "cpu"}, "accelerator='cpu' must be an accelerate.Accelerator, or None"),
        ({"accelerator": accelerate.Accelerator}, "must be an accelerate.Accelerator, or None"),
        ({"optimizer": "lm"}, "optimizer='lm' needs the residuals of all samples in one place"),
        ({"device": torch.device("meta")}, r"device=.*meta.* is not that of the accelerator, cpu; use device='auto'"),
    ],
)
def test_refused(parameters, message):
    parameters = {"accelerator": accelerate.Accelerator(cpu=True), **parameters}
    with pytest.raises(ValueError, match=message):
        make("AdamW", **parameters).fit(X, Y)


def test_accumulation_is_refused():
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="gradient_accumulation_steps=2, which the estimator does not use; set it to"):
        make("AdamW", accelerator=accelerator).fit(X, Y)


def test_mixed_precision_is_refused(monkeypatch):
    accelerator = accelerate.Accelerator(cpu=True)
    monkeypatch.setattr(accelerate.Accelerator, "mixed_precision", "bf16")
    with pytest.raises(ValueError, match=r"mixed_precision='bf16'.*dtype='bfloat16' in the estimator"):
        make("AdamW", accelerator=accelerator).fit(X, Y)
