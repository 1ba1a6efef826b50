import errno
import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
import threadpoolctl
import torch
from joblib._parallel_backends import SequentialBackend

from sklearn_hss.datasets import (
    _elliptic,
    _evolution,
    _generation,
    _gray_scott,
    _navier_stokes,
    make_burgers,
    make_elliptic,
    make_elliptic_mesh,
    make_gray_scott,
    make_heat,
    make_helmholtz,
    make_navier_stokes,
    make_poisson,
)
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
    "mask": dict(n_points=(24, 24), domain=np.arange(576).reshape(24, 24) % 7 > 0),
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
        (dict(random_state=None), "random_state=None does not identify the data to store in data_home"),
        (dict(random_state=np.random.RandomState(0)), "does not identify the data"),
        (dict(random_state=0, diffusivity=np.ones_like), "data_home cannot store data that depend on a function"),
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
        solver = _elliptic.EllipticProblem.solver
        def slow(*args):
            solve = solver(*args)
            def wait(*args):
                time.sleep(0.2)
                return solve(*args)
            return wait
        _elliptic.EllipticProblem.solver = slow
        make_poisson(1000, 64, random_state=0, data_home={str(tmp_path)!r}, verbose=0)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.partial-*/U.npy")):
        assert time.monotonic() < deadline, "the generation did not start"
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (partial,) = tmp_path.iterdir()
    elsewhere = shutil.copytree(partial, partial.with_name(partial.name.split(".")[0] + ".partial-elsewhere-1-0"))

    kept = make_poisson(1000, 64, random_state=0, data_home=tmp_path)
    for one, other in zip(kept, make_poisson(1000, 64, random_state=0), strict=True):
        np.testing.assert_array_equal(one, other)
    # On another machine, somebody could still be at work; a day later nobody is.
    assert not partial.exists()
    assert elsewhere.exists()
    (folder,) = set(tmp_path.iterdir()) - {elsewhere}
    folder.rename(tmp_path / "kept")
    for path in [*elsewhere.iterdir(), elsewhere]:
        os.utime(path, (0, 0))
    make_poisson(1000, 64, random_state=0, data_home=tmp_path)
    assert not elsewhere.exists()


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
            self.total, self.n = options["total"], 0

        def update(self, n):
            self.moves.append(n)
            self.n += n

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


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
@pytest.mark.parametrize("make", [make_poisson, make_heat, make_gray_scott])
def test_any_backend_of_joblib(monkeypatch, backend, make):
    monkeypatch.setattr(_elliptic, "_BATCH", 2 * 48**2)
    monkeypatch.setattr(_evolution, "_BATCH", 2)
    arguments = {
        make_poisson: dict(n_points=(24, 24), domain="perforated"),
        make_heat: dict(n_points=32, t_final=0.8),
        make_gray_scott: dict(n_points=(128, 128), states=(0, 1)),
    }[make]
    expected = make(5, **arguments, random_state=0)
    with joblib.parallel_config(backend, n_jobs=2):
        np.testing.assert_array_equal(make(5, **arguments, random_state=0)[1], expected[1])


def test_calls_in_threads_leave_the_numbers_of_threads_as_they_were():
    def blas():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    def slow(rows, drawn):
        time.sleep(0.05 if rows.start else 0.1)
        return drawn, drawn

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas()
        calls = [threading.Thread(target=generate, args=(lambda n=n: plan(n, solve=slow), RECIPE)) for n in (4, 10)]
        for call in calls:
            call.start()
            time.sleep(0.02)
        for call in calls:
            call.join()
        assert blas() == before


class Captured(Exception):
    pass


def recipe_of(monkeypatch, make, arguments):
    def capture(prepare, recipe, **options):
        raise Captured(recipe)

    monkeypatch.setattr(_generation, "generate", capture)
    with pytest.raises(Captured) as captured:
        make(**{"random_state": 0, **arguments})
    return captured.value.args[0]


states = np.random.RandomState(0).uniform(0.1, 1, size=(3, 2, 16, 16))
KEYS = {
    make_poisson: [
        {"n_samples": 7},
        {"n_points": 128},
        {"domain": "l-shape", "n_points": (64, 64)},
        {"domain": "perforated", "n_points": (64, 64)},
        {"domain": "perforated", "n_points": (64, 64), "hole_radius": 0.3},
        {"domain": np.arange(256) < 200},
        {"domain": np.arange(256) < 201},
        {"domain": np.arange(256) < 200, "refinement": 2},
        {"diffusivity": np.ones(256)},
        {"diffusivity": 2 * np.ones(256)},
        {"boundary": "neumann"},
        {"forcing": "gaussian"},
        {"forcing": "grf"},
        {"forcing": "grf", "length_scale": 0.2},
        {"forcing": states[0, 0]},
        {"modes": (1, 9)},
        {"order": 2},
        {"refinement": 2},
        {"random_state": 1},
    ],
    make_helmholtz: [{"wavenumber": 60}],
    make_elliptic: [
        {"n_samples": 7},
        {"n_points": (64, 32)},
        {"diffusivity": 2.0},
        {"diffusivity": [[2.0, 1.0], [1.0, 2.0]]},
        {"diffusivity": np.ones((64, 64))},
        {"velocity": (1.0, 2.0)},
        {"velocity": (2.0, 1.0)},
        {"velocity": np.ones((2, 64, 64))},
        {"reaction": 1.0},
        {"reaction": np.ones((64, 64))},
        {"domain": np.eye(64, dtype=bool)},
        {"boundary": "neumann"},
        {"boundary": "periodic"},
        {"forcing": "gaussian"},
        {"forcing": "sine"},
        {"forcing": "sine", "modes": (1, 9)},
        {"length_scale": 0.2},
        {"refinement": 3},
        {"random_state": 1},
    ],
    make_elliptic_mesh: [
        {"n_samples": 7},
        {"diffusivity": 2.0},
        {"velocity": (1.0, 2.0)},
        {"velocity": (2.0, 1.0)},
        {"reaction": 1.0},
        {"mass": "lumped"},
        {"forcing": "gaussian"},
        {"forcing": np.ones((3, 833))},
        {"length_scale": 0.2},
        {"refinement": 3},
        {"random_state": 1},
    ],
    make_heat: [
        {"n_samples": 7},
        {"n_points": 128},
        {"diffusivity": 1e-4},
        {"boundary": "periodic"},
        {"t_final": 4},
        {"store_every": 0.4},
        {"initial": "gaussian"},
        {"initial": "grf"},
        {"initial": "grf", "length_scale": 0.2},
        {"initial": np.pad(states[0, 0], [(0, 0), (1, 1)])},
        {"modes": (1, 9)},
        {"refinement": 2},
        {"solver": "exact"},
        {"rtol": 1e-5},
        {"atol": 1e-7},
        {"random_state": 1},
    ],
    make_burgers: [{}, {"viscosity": 2e-3}, {"beta": 0.5}],
    make_gray_scott: [
        {"n_samples": 7},
        {"n_points": (64, 64)},
        {"pattern": "maze"},
        {"pattern": [(0.03, 0.06), "maze"]},
        {"initial": "fourier"},
        {"initial": states},
        {"states": (0, 10)},
        {"diffusivities": (1e-5, 1e-5)},
        {"dt": 0.5},
        {"parameter_channels": False},
        {"return_trajectories": True},
        {"dtype": "float32"},
        {"device": "meta"},
        {"random_state": 1},
    ],
    make_navier_stokes: [
        {"n_samples": 7},
        {"n_points": (64, 64)},
        {"viscosity": 2e-3},
        {"t_final": 2},
        {"dt": 0.01},
        {"return_trajectories": True},
        {"return_trajectories": True, "store_every": 0.2},
        {"initial": states[0]},
        {"initial_scale": 2},
        {"forcing": None},
        {"dtype": "float32"},
        {"device": "meta"},
        {"random_state": 1},
    ],
}


def digests(monkeypatch, make, calls):
    for module in (_gray_scott, _navier_stokes):
        monkeypatch.setattr(module, "resolve_device", lambda device: torch.device(device.replace("auto", "cpu")))
    return [_generation.digest(recipe_of(monkeypatch, make, arguments)) for arguments in calls]


@pytest.mark.parametrize("make", KEYS)
def test_what_changes_the_data_changes_their_name(monkeypatch, make):
    names = digests(monkeypatch, make, [{}, *KEYS[make]] if make is not make_burgers else KEYS[make])
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("make", "calls"),
    [
        (make_poisson, [{}, {"n_samples": np.int64(100), "n_points": np.int32(256), "order": np.int64(4)}]),
        (make_poisson, [{}, {"random_state": np.int64(0), "modes": [1, 10], "hole_radius": 0.3, "length_scale": 1}]),
        (make_poisson, [{"n_points": (24, 24)}, {"n_points": [24, np.int64(24)], "refinement": 2}]),
        (make_poisson, [{"forcing": states[0]}, {"forcing": np.asfortranarray(states[0]), "random_state": None}]),
        (
            make_poisson,
            [
                {"diffusivity": states[0, 0], "n_points": (16, 16), "forcing": "gaussian"},
                {"diffusivity": np.asfortranarray(states[0, 0]), "n_points": (16, 16), "forcing": "gaussian"},
            ],
        ),
        (make_helmholtz, [{}, {"wavenumber": 70}]),
        (make_elliptic, [{}, {"diffusivity": 1, "modes": (1, 2), "n_points": [64, 64], "n_jobs": 2}]),
        (make_elliptic, [{"velocity": (1, 2)}, {"velocity": np.array([1.0, 2.0]), "diffusivity": [[1, 0], [0, 1]]}]),
        (make_elliptic_mesh, [{}, {"diffusivity": 1, "refinement": 4, "mass": "consistent"}]),
        (make_heat, [{"solver": "exact"}, {"solver": "exact", "rtol": 1e-5, "t_final": 8, "step": 0.2}]),
        (make_gray_scott, [{}, {"dt": 1, "diffusivities": [2e-5, 1e-5], "states": [0, 1000], "n_jobs": 2}]),
        (make_gray_scott, [{"pattern": "maze"}, {"pattern": (0.029, 0.057)}]),
        (make_navier_stokes, [{}, {"t_final": 1, "initial_scale": 1, "dt": np.float64(0.02), "store_every": 0.5}]),
    ],
)
def test_equal_data_have_equal_names(monkeypatch, make, calls):
    assert len(set(digests(monkeypatch, make, calls))) == 1


@pytest.mark.parametrize("make", [make_poisson, make_heat, make_navier_stokes, make_gray_scott])
def test_numpy_integers_as_sizes(tmp_path, make):
    arguments = {"t_final": 0.8} if make is make_heat else {"states": (0, 1)} if make is make_gray_scott else {}
    n_points = np.int64(32) if make in (make_poisson, make_heat) else (np.int64(16), np.int64(16))
    for _ in range(2):
        kept = make(np.int64(2), n_points, **arguments, random_state=np.int64(0), data_home=tmp_path)
    np.testing.assert_array_equal(kept[1], make(2, n_points, **arguments, random_state=0)[1])


def test_nothing_is_factorised_for_data_on_the_disk_or_for_refused_calls(tmp_path, monkeypatch):
    arguments = dict(n_samples=2, n_points=(24, 24), domain="l-shape", data_home=tmp_path)
    make_poisson(**arguments, random_state=0)
    monkeypatch.setattr(_elliptic, "l_shape_solver", None)
    make_poisson(**arguments, random_state=0)
    with pytest.raises(ValueError, match="random_state=None does not identify"):
        make_poisson(**arguments)


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(files, folder, plan, name):
        sink = file_sink(files, folder, plan, name)

        def write(rows, values):
            if rows.start:
                raise OSError(errno.ENOSPC, "No space left on device")
            sink(rows, values)

        return write

    file_sink = _generation._file_sink
    monkeypatch.setattr(_generation, "_file_sink", full)
    with pytest.raises(OSError, match="No space left"):
        generate(plan, RECIPE, data_home=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_rename_that_fails_is_not_hidden(tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        generate(plan, RECIPE, data_home=tmp_path)


@pytest.mark.parametrize("damage", ["U.npy", "recipe.json", "truncated"])
def test_a_damaged_folder_is_named(tmp_path, damage):
    generate(plan, RECIPE, data_home=tmp_path)
    (folder,) = tmp_path.iterdir()
    if damage == "truncated":
        (folder / "F.npy").write_bytes((folder / "F.npy").read_bytes()[:200])
    else:
        (folder / damage).unlink()
    with pytest.raises(ValueError, match=rf"{folder.name} is damaged .* delete it"):
        generate(plan, RECIPE, data_home=tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no permissions of this kind")
def test_others_may_read_the_data(tmp_path):
    generate(plan, RECIPE, data_home=tmp_path)
    (tmp_path / "folder").mkdir()
    (folder,) = tmp_path.glob("make_test-*")
    assert folder.stat().st_mode == (tmp_path / "folder").stat().st_mode


def test_no_jobs_are_refused():
    with pytest.raises(ValueError, match="'n_jobs' parameter of make_poisson must be"):
        make_poisson(3, 64, n_jobs=0)


@pytest.mark.parametrize(
    ("make", "arguments", "shape"),
    [
        (make_heat, dict(n_points=32, t_final=0.4, return_trajectories=True), (2, 3, 32)),
        (make_heat, dict(n_points=32, t_final=1, store_every=0.5, return_trajectories=True), (2, 3, 32)),
        (make_navier_stokes, dict(n_points=(16, 16), t_final=0.25, dt=0.125), (2, 16, 16)),
    ],
)
def test_parameters_that_play_no_part_refuse_nothing(make, arguments, shape):
    assert make(2, **arguments, random_state=0)[1].shape == shape


def test_a_file_as_data_home_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"data_home='.*file' is not a writable folder \(.*File exists"):
        generate(plan, RECIPE, data_home=tmp_path / "file")


def test_a_bar_ends_full_and_not_beyond():
    bar = _generation.tqdm(total=6, disable=False, file=io.StringIO())
    for _ in range(7):
        _generation._move(bar, 6 / 7 + 1e-9)
    assert bar.n == 6
