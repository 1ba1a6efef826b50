import functools
import os
import signal
import subprocess
import sys
import textwrap
import time

import joblib
import numpy as np
import pytest
import threadpoolctl
import torch
from joblib._parallel_backends import SequentialBackend

from sklearn_hss.datasets import _elliptic, _generation, make_helmholtz, make_poisson
from sklearn_hss.datasets._generation import Plan, generate, report

# Many small batches of every kind of solver.
PROBLEMS = {
    "sine 1-D": dict(n_points=32),
    "neumann": dict(n_points=32, boundary="neumann"),
    "white": dict(n_points=(24, 24), forcing="gaussian"),
    "smooth": dict(n_points=(24, 24), forcing="grf"),
    "l-shape": dict(n_points=(24, 24), domain="l-shape"),
    "perforated": dict(n_points=(24, 24), domain="perforated"),
    "diffusivity": dict(n_points=(24, 24), diffusivity=np.linspace(1, 2, 11 * 24 * 24).reshape(11, 24, 24)),
    "3-D": dict(n_points=(24, 24, 24)),
    "3-D diffusivity": dict(
        n_points=(12, 12, 12), diffusivity=np.linspace(1, 2, 12**3).reshape(12, 12, 12), forcing="gaussian"
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_data_are_the_same_bit_for_bit_whatever_n_jobs(monkeypatch, name):
    monkeypatch.setattr(_elliptic, "_BATCH", 2 * 48**2)
    serial = make_poisson(11, **PROBLEMS[name], random_state=0)
    for n_jobs, backend in [(2, "threading"), (3, "threading")]:
        with joblib.parallel_config(backend=backend):
            parallel = make_poisson(11, **PROBLEMS[name], random_state=0, n_jobs=n_jobs)
        for one, other in zip(serial, parallel, strict=True):
            np.testing.assert_array_equal(one, other)


def plan(n_samples=10, prefer="threads", solve=None):
    rng = np.random.RandomState(0)

    def doubled(rows, drawn):
        return drawn, 2 * drawn

    return Plan(
        n_samples=n_samples,
        batch_size=3,
        shapes={"F": (4,), "U": (4,)},
        draw=lambda rows: rng.standard_normal((rows.stop - rows.start, 4)),
        solve=solve or doubled,
        prefer=prefer,
    )


RECIPE = {"generator": "make_test", "random_state": 0}
EXPECTED = np.random.RandomState(0).standard_normal((10, 4))


@pytest.mark.parametrize("prefer", ["threads", "processes"])
@pytest.mark.parametrize("n_jobs", [None, 1, 2])
def test_batches_are_drawn_in_order_and_put_in_their_place(prefer, n_jobs):
    F, U = generate(lambda: plan(prefer=prefer), RECIPE, n_jobs=n_jobs)
    np.testing.assert_array_equal(F, EXPECTED)
    np.testing.assert_array_equal(U, 2 * EXPECTED)


def test_backends_that_return_lists_work_too():
    class ListBackend(SequentialBackend):
        supports_return_generator = False

    joblib.register_parallel_backend("lists", ListBackend)
    with joblib.parallel_config(backend="lists"):
        np.testing.assert_array_equal(generate(plan, RECIPE)[0], EXPECTED)


def test_every_job_has_one_thread_and_the_caller_keeps_its_own():
    def threads():
        pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        return [pool["num_threads"] for pool in pools], torch.get_num_threads()

    def solve(rows, drawn):
        pools, n_torch = threads()
        assert set(pools) <= {1}
        assert n_torch == 1
        return drawn, drawn

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        outside = threads()
        for n_jobs in (1, 2):
            for prefer in ("threads", "processes"):
                generate(lambda prefer=prefer: plan(prefer=prefer, solve=solve), RECIPE, n_jobs=n_jobs)
        assert threads() == outside
    finally:
        torch.set_num_threads(before)


def test_data_on_the_disk_are_those_in_memory_and_are_not_made_twice(tmp_path):
    def refuse():
        raise AssertionError

    first = generate(plan, RECIPE, data_home=tmp_path / "new" / "folder")
    again = generate(refuse, RECIPE, data_home=str(tmp_path / "new" / "folder"))
    for arrays in (first, again):
        assert all(isinstance(a, np.memmap) and not a.flags.writeable for a in arrays)
        np.testing.assert_array_equal(arrays[0], EXPECTED)
        np.testing.assert_array_equal(arrays[1], 2 * EXPECTED)
    with pytest.raises(AssertionError):
        generate(refuse, {**RECIPE, "random_state": 1}, data_home=tmp_path / "new" / "folder")


def test_every_parameter_has_its_own_folder(tmp_path):
    settings = [
        dict(),
        dict(n_samples=4),
        dict(n_points=(16, 18)),
        dict(forcing="grf"),
        dict(forcing="grf", length_scale=0.2),
        dict(modes=(1, 5)),
        dict(order=2),
        dict(refinement=1),
        dict(boundary="periodic"),
        dict(domain="l-shape"),
        dict(domain="perforated"),
        dict(domain="perforated", hole_radius=0.3),
        dict(diffusivity=np.full((16, 16), 2.0)),
        dict(diffusivity=np.full((16, 16), 3.0)),
        dict(forcing=np.ones((3, 16, 16))),
        dict(random_state=1),
    ]
    for n, setting in enumerate(settings, 1):
        arguments = {"n_samples": 3, "n_points": (16, 16), "modes": (1, 3), "random_state": 0, **setting}
        for data_home, n_jobs in [(tmp_path, None), (tmp_path, 2)]:
            kept = make_poisson(**arguments, data_home=data_home, n_jobs=n_jobs, verbose=0)
        for one, other in zip(kept, make_poisson(**arguments), strict=True):
            np.testing.assert_array_equal(one, other)
        assert len(list(tmp_path.iterdir())) == n
    make_helmholtz(3, (16, 16), modes=(1, 3), random_state=0, data_home=tmp_path)
    assert len(list(tmp_path.iterdir())) == len(settings) + 1


def test_mask_comes_with_data_from_the_disk(tmp_path):
    for _ in range(2):
        F, _, mask = make_poisson(2, (24, 24), domain="l-shape", return_mask=True, random_state=0, data_home=tmp_path)
        assert mask.shape == (24, 24)
        assert not F[:, ~mask].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(random_state=None), "random_state=None does not identify the data that data_home would keep"),
        (dict(random_state=np.random.RandomState(0)), "does not identify the data"),
        (dict(random_state=0, diffusivity=np.ones_like), "data_home cannot keep data that depend on a function"),
    ],
)
def test_data_that_cannot_be_found_again_are_not_kept(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_poisson(3, 64, data_home=tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_generation_leaves_nothing(tmp_path, error):
    def solve(rows, drawn):
        if rows.start:
            raise error
        return drawn, drawn

    with pytest.raises(error):
        generate(lambda: plan(solve=solve), RECIPE, data_home=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_killed_generation_is_never_taken_for_data(tmp_path):
    script = textwrap.dedent(
        f"""
        import time
        from sklearn_hss.datasets import _elliptic, make_poisson
        _elliptic._BATCH = 1
        solver = _elliptic._solver
        def slow(*args):
            solve = solver(*args)
            def wait(*args):
                time.sleep(0.2)
                return solve(*args)
            return wait
        _elliptic._solver = slow
        make_poisson(1000, 64, random_state=0, data_home={str(tmp_path)!r})
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.partial-*/*-U.npy")):
        assert time.monotonic() < deadline, "the generation did not start"
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (partial,) = tmp_path.iterdir()

    kept = make_poisson(1000, 64, random_state=0, data_home=tmp_path)
    for one, other in zip(kept, make_poisson(1000, 64, random_state=0), strict=True):
        np.testing.assert_array_equal(one, other)
    # Somebody could still be at work there; a day later nobody is.
    assert partial.exists()
    (folder,) = set(tmp_path.iterdir()) - {partial}
    folder.rename(tmp_path / "elsewhere")
    for path in [*partial.iterdir(), partial]:
        os.utime(path, (0, 0))
    make_poisson(1000, 64, random_state=0, data_home=tmp_path)
    assert not partial.exists()


def test_of_two_at_the_same_data_the_first_to_finish_wins(tmp_path):
    def solve(rows, drawn):
        if not rows.start:
            generate(plan, RECIPE, data_home=tmp_path)
        return drawn, drawn + 1  # to tell them apart

    _, U = generate(lambda: plan(solve=solve), RECIPE, data_home=tmp_path)
    np.testing.assert_array_equal(U, 2 * EXPECTED)
    assert len(list(tmp_path.iterdir())) == 1


def test_progress_shows_up_where_it_takes_long(monkeypatch, capsys):
    def slow(rows, drawn):
        time.sleep(0.05)
        return drawn, drawn

    generate(lambda: plan(solve=slow), RECIPE)
    assert capsys.readouterr().err == ""
    impatient = functools.partial(_generation.tqdm, mininterval=0)
    monkeypatch.setattr(_generation, "tqdm", lambda **options: impatient(**{**options, "delay": 0}))
    generate(lambda: plan(solve=slow), RECIPE)
    assert "make_test: 100%" in capsys.readouterr().err
    generate(lambda: plan(solve=slow), RECIPE, verbose=0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_within_a_batch(monkeypatch, n_jobs):
    class Bar:
        def __init__(self, **options):
            self.moves, self.options = [], options

        def update(self, n):
            self.moves.append(n)

        def __enter__(self):
            bars.append(self)
            return self

        def __exit__(self, *error):
            pass

    def solve(rows, drawn):
        for _ in range(4):
            report((rows.stop - rows.start) / 8)
        return drawn, drawn

    bars = []
    monkeypatch.setattr(_generation, "tqdm", Bar)
    generate(lambda: plan(solve=solve), RECIPE, n_jobs=n_jobs)
    (bar,) = bars
    assert len(bar.moves) == 4 * 5  # four batches
    assert sum(bar.moves) == bar.options["total"] == 10
    report(1)  # not within a job
    assert sum(bar.moves) == 10
