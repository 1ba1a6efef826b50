"""Two processes that train one network, by ``accelerator``, against one process."""

import contextlib
import functools
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
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


def environment():
    """Variables of processes that find the package where this one does, with a thread each."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of either process."""
    folder = tmp_path_factory.mktemp("processes")
    log = folder / "log"
    with open(log, "w") as file:
        # In a group of processes of its own, which ends as a whole.
        started = {"env": environment(), "stdout": file, "stderr": file, "start_new_session": True}
        process = subprocess.Popen([sys.executable, str(SCRIPT), str(folder)], **started)
    try:
        assert process.wait(timeout=600) == 0, log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return [pickle.loads((folder / f"{index}.pickle").read_bytes()) for index in range(2)]


def assert_close(found, expected, bound):
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


@functools.cache
def fit(name, **parameters):
    """A case in this process, not to be changed."""
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


def test_the_cpu_has_no_number(results):
    assert [result["facts"]["device"] for result in results] == ["cpu", "cpu"]


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
    expected = clone(fit("AdamW")).set_params(warm_start=True).fit(X, Y).fit(X, Y).partial_fit(X, Y)
    assert_close(results[0]["facts"]["continued fit"], weights(expected), 1e-6)


def test_clones_share_the_accelerator_and_pickles_do_not_have_it(results):
    assert all(result["facts"]["clone"] and result["facts"]["pickle"] is None for result in results)


def test_processes_refuse_what_differs_together(results):
    for result in results:
        parameter, error_of_main, data = result["facts"]["errors"]
        assert "Process 1 differs from the main process in lr; with an accelerator, pass the same" in parameter
        assert "init='linear' with residual=True needs outer_rank=2" in error_of_main
        assert "Process 1 differs from the main process in values of X" in data


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


@pytest.mark.slow
def test_torchrun():
    """The benchmark, in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = str(ROOT / "examples" / "benchmarks" / "bench_processes.py")
    command += [script, "--rows", "1", "--batches", "1"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    header, row = done.stdout.strip().splitlines()
    assert header.split()[-3:] == ["2", "ratio", "difference"]
    assert float(row.split()[-1]) < 1e-6


@pytest.mark.slow
def test_the_cluster_of_the_guide(tmp_path):
    """The script of the section runs, with the scores of a search without dask."""
    pytest.importorskip("distributed")
    page = (ROOT / "doc" / "user_guide" / "processes.rst").read_text()
    section = page.partition("Searches and data on a cluster\n")[2]
    _, code, _ = re.split(r"::\n\n|\n(?=\S)", section[section.index("On one machine::") :], maxsplit=2)
    script = textwrap.dedent(code)
    alone = script.replace('with joblib.parallel_config("dask", scatter=[F, U]):', "if True:")
    assert alone != script
    scores = []
    for name, text in (("dask", script), ("alone", alone)):
        folder = tmp_path / name
        folder.mkdir()
        tell = "\n            print(search.cv_results_['mean_test_score'].tolist(), len(client.nthreads()))\n"
        (folder / "script.py").write_text(text.rstrip() + tell)
        command = [sys.executable, "script.py"]
        done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        scores.append(done.stdout)
        assert len(list((folder / "runs").iterdir())) == 5  # two folds of two settings, and the best on all
    assert scores[0] == scores[1]
    assert scores[0].endswith("] 2\n")
