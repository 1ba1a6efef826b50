"""Ctrl-C and other ends of a generation: nothing is left behind, and the process ends as Python does."""

import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import threadpoolctl
import torch

from sklearn_hss import _files
from sklearn_hss.datasets import _generation
from sklearn_hss.datasets._generation import Plan, generate, report

RECIPE = {"generator": "make_test", "random_state": 0}


class Stop(BaseException):
    pass


def plan(step=lambda name, rows: None):
    """A plan that tells `step` what it is about to do."""

    def draw(rows):
        step("draw", rows)
        return np.ones((rows.stop - rows.start, 4))

    def solve(rows, drawn):
        step("solve", rows)
        report(1)
        step("report", rows)
        return drawn, drawn

    return Plan(n_samples=10, batch_size=3, shapes={"F": (4,), "U": (4,)}, draw=draw, solve=solve)


def threads():
    return {pool["filepath"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}, torch.get_num_threads()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Stop])
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("where", ["prepare", "draw", "solve", "report", "write", "close"])
def test_what_ends_a_generation_leaves_nothing(tmp_path, monkeypatch, where, n_jobs, error):
    def step(name, rows=None):
        if name == where and (rows is None or rows.start == 3):
            raise error

    def prepare():
        step("prepare")
        return plan(step)

    def describe(*args, **options):
        step("close")
        return dumps(*args, **options)

    dumps = _generation.json.dumps
    monkeypatch.setattr(_generation.json, "dumps", describe)
    monkeypatch.setattr(_generation, "_file_sink", lambda *args: lambda rows, values: step("write", rows))
    before = threads()
    with pytest.raises(error):
        generate(prepare, RECIPE, n_jobs=n_jobs, data_home=tmp_path)
    assert not list(tmp_path.iterdir())
    assert not _generation._CALLS
    assert threads() == before
    assert not getattr(_generation.tqdm, "_instances", ())


@pytest.mark.filterwarnings("ignore:.*tasks:UserWarning")
@pytest.mark.parametrize("where", ["write", "solve"])
def test_no_job_runs_when_an_error_is_passed_on(where):
    running, started = [], threading.Event()

    def step(name, rows):
        if name != "solve":
            return
        if rows.start == 0 and where == "solve":
            started.wait(60)
            raise Stop
        if rows.start == 3:
            running.append(rows)
            started.set()
            try:
                for _ in range(10**6):  # until the flag is seen, which is long before the end
                    report(0)
                    threading.Event().wait(0.001)
            finally:
                running.clear()

    def write(rows, values):
        started.wait(60)
        raise Stop

    arrays = plan(step)
    with pytest.raises(Stop):
        _generation._fill(arrays, [write if where == "write" else lambda *args: None] * 2, RECIPE, 2, 0)
    assert started.is_set()
    assert not running


# A real Ctrl-C. Threads in compiled code, when Python ends, would abort the process.
CHILD = """
import joblib
from sklearn_hss import datasets
from sklearn_hss.datasets import _generation

solve = _generation._solve

def told(*args):
    print("a job runs\\n", end="", flush=True)
    return solve(*args)

_generation._solve = told
with joblib.parallel_config("threading", n_jobs=2):
    {call}
"""
CALLS = {
    "calls, SciPy": (
        "joblib.Parallel()(joblib.delayed(datasets.make_poisson)(400, (64, 64, 64), forcing='gaussian', device='cpu') "
        "for _ in range(9))"
    ),
    "jobs, torch": "datasets.make_navier_stokes(400, (32, 32), t_final=100.0)",
}


@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
def test_ctrl_c_while_threads_are_at_work():
    children = {
        name: subprocess.Popen(
            [sys.executable, "-c", CHILD.format(call=call)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name, call in CALLS.items()
    }
    try:
        for child in children.values():
            assert child.stdout.readline() == "a job runs\n"
            child.send_signal(signal.SIGINT)
        for name, child in children.items():
            _, errors = child.communicate(timeout=120)
            assert child.returncode in (-signal.SIGINT, 128 + signal.SIGINT, 1), (name, errors)
            assert "\nKeyboardInterrupt\n" in errors, (name, errors)
    finally:
        for child in children.values():
            child.kill()
            child.communicate()


# Files of killed processes


def test_leftovers_of_the_dead_are_deleted_and_those_of_the_living_are_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (folder,) = generate_in(tmp_path)
    shutil.rmtree(folder)
    own = _files.partial_name(folder)
    names = {pid: own.name.replace(f"-{os.getpid()}-", f"-{pid}-") for pid in (dead.pid, os.getpid(), os.getppid())}
    for name in names.values():
        (tmp_path / name).mkdir()
        (tmp_path / name / "F.npy").write_bytes(b"half")
    elsewhere = tmp_path / names[dead.pid].replace(".partial-", ".partial-0")
    elsewhere.mkdir()
    generate_in(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {folder.name, names[os.getpid()], names[os.getppid()], elsewhere.name}


def generate_in(data_home):
    generate(plan, RECIPE, data_home=data_home)
    return list(data_home.glob("make_test-*"))


# Python waits for long work in threads, and what called that work gets no control back


def test_python_waits_for_work_in_threads():
    script = """
import threading
from sklearn_hss._endings import check_ending, python_waits

at_work = threading.Event()

def work():
    try:
        with python_waits():
            with python_waits():
                at_work.set()
                while True:
                    check_ending()
                    threading.Event().wait(0.01)
    finally:
        print("inner left", flush=True)

def outer():
    with python_waits():
        try:
            work()
        finally:
            print("cleaned up", flush=True)
    print("the caller goes on", flush=True)

threading.Thread(target=outer, daemon=True).start()
at_work.wait()
raise KeyboardInterrupt
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "inner left\ncleaned up\n"
    assert ended.stderr.endswith("KeyboardInterrupt\n")
