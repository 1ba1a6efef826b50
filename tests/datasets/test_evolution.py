"""Common parts of make_heat and make_burgers: the semi-discrete equation, pairs, parameters, jobs, the disk."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from sklearn_hss.datasets import _evolution, make_burgers, make_heat
from sklearn_hss.datasets._evolution import Equation, bdf_trajectory

PI = np.pi
BOTH = pytest.mark.parametrize("make", [make_heat, make_burgers])
SMALL = {"n_points": 32, "modes": (1, 3), "t_final": 1.6, "random_state": 0}


def quiet(make, *args, **kwargs):
    """Without the warning of a coarse grid, which most grids of tests deserve."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return make(*args, **kwargs)


@pytest.mark.parametrize("periodic", [False, True])
def test_right_hand_side_is_the_scheme_written_out_point_by_point(periodic):
    n, nu, beta = 9, 0.03, 0.7
    u = np.random.RandomState(0).standard_normal(n if periodic else n - 1)

    def value(j):
        if periodic:
            return u[j % n]
        return u[j] if 0 <= j < len(u) else 0.0

    expected = [
        nu * n**2 * (value(j - 1) - 2 * value(j) + value(j + 1))
        - beta * (value(j - 1) + value(j) + value(j + 1)) / 3 * (value(j + 1) - value(j - 1)) * n / 2
        for j in range(len(u))
    ]
    np.testing.assert_allclose(Equation(n, periodic, nu, beta)(0, u), expected, atol=1e-12)


@pytest.mark.parametrize("periodic", [False, True])
def test_jacobian_is_the_derivative(periodic):
    equation = Equation(11, periodic, 0.03, 0.7)
    u = np.random.RandomState(0).standard_normal(11 if periodic else 10)
    steps = 1e-30j * np.eye(len(u))  # complex steps differentiate to rounding
    columns = [equation(0, u + step).imag / 1e-30 for step in steps]
    np.testing.assert_allclose(equation.jacobian(0, u).toarray(), np.transpose(columns), atol=1e-13)


@pytest.mark.parametrize("periodic", [False, True])
def test_convection_conserves_the_integrals_of_u_and_its_square(periodic):
    n = 40
    u = np.random.RandomState(0).standard_normal(n if periodic else n - 1)
    convection = Equation(n, periodic, 0.0, 1.0)(0, u)
    assert abs(u @ convection) < 1e-11
    if periodic:  # otherwise u flows out at the ends
        assert abs(np.sum(convection)) < 1e-11


@BOTH
@pytest.mark.parametrize("lag", [1, 3, 8])
def test_pairs_are_all_states_with_the_one_a_step_later(make, lag):
    times, U = quiet(make, 3, return_trajectories=True, **SMALL)
    U_t, U_next = quiet(make, 3, step=0.2 * lag, **SMALL)
    np.testing.assert_allclose(times, [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.6])
    assert U.shape == (3, 9, 32)
    expected = [(U[i, j], U[i, j + lag]) for i in range(3) for j in range(9 - lag)]
    np.testing.assert_array_equal(U_t, [first for first, _ in expected])
    np.testing.assert_array_equal(U_next, [second for _, second in expected])
    U_t[:] = 0  # the arrays do not share memory
    np.testing.assert_array_equal(U_next, [second for _, second in expected])


@BOTH
def test_groups_of_the_docstring_are_the_trajectories(make):
    _, U = quiet(make, 4, return_trajectories=True, **SMALL)
    U_t, _ = quiet(make, 4, **SMALL)
    groups = np.repeat(np.arange(4), len(U_t) // 4)
    for group in range(4):
        assert {u.tobytes() for u in U_t[groups == group]} <= {u.tobytes() for u in U[group]}


@BOTH
@pytest.mark.parametrize("initial", ["sine", "gaussian", "grf"])
@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
def test_random_initial_states_have_maximum_one_and_satisfy_the_boundary_condition(make, initial, boundary):
    arguments = {**SMALL, "initial": initial, "boundary": boundary, "refinement": 1, "t_final": 0.4}
    _, U = quiet(make, 8, return_trajectories=True, **arguments)
    np.testing.assert_allclose(np.abs(U[:, 0]).max(axis=1), 1, rtol=1e-9)
    at_ends = U[:, :, [0, -1]] if make is make_heat else U[:, :, :1]
    if boundary == "dirichlet":
        np.testing.assert_array_equal(at_ends, 0)
    elif initial != "sine":
        assert np.abs(at_ends).min() > 0
    assert len({states.tobytes() for states in U[:, 0]}) == 8
    other = quiet(make, 8, return_trajectories=True, **{**arguments, "random_state": 1})[1]
    assert np.abs(U[:, 0] - other[:, 0]).max() > 0.1


def test_white_initial_states_are_white():
    arguments = {"boundary": "periodic", "t_final": 0.2, "step": 0.2, "solver": "exact", "random_state": 0}
    U_t, _ = make_heat(2000, 20, initial="gaussian", **arguments)
    correlation = np.corrcoef(U_t, rowvar=False)
    np.testing.assert_allclose(correlation, np.eye(20), atol=0.1)


def test_smooth_initial_states_have_the_length_scale():
    length_scale = 0.05
    arguments = {"boundary": "periodic", "t_final": 0.2, "step": 0.2, "solver": "exact", "random_state": 0}
    U_t, _ = make_heat(2000, 64, initial="grf", length_scale=length_scale, **arguments)
    distance = np.arange(64) / 64
    wrapped = sum(np.exp(-((distance + shift) ** 2) / (2 * length_scale**2)) for shift in range(-3, 4))
    wrapped -= wrapped.mean()
    correlation = np.mean(U_t[:, :1] * U_t, axis=0) / np.mean(U_t[:, 0] ** 2)
    np.testing.assert_allclose(correlation, wrapped / wrapped[0], atol=0.1)


def test_smooth_initial_states_of_a_seed_do_not_depend_on_the_grid():
    # Of short waves, too, those that the returned points do not carry are left out.
    arguments = {"boundary": "periodic", "length_scale": 0.01, "t_final": 0.2, "step": 0.2, "solver": "exact"}
    coarse, fine = (
        make_heat(5, 16, initial="grf", refinement=refinement, **arguments, random_state=0)[0] for refinement in (1, 4)
    )
    np.testing.assert_allclose(coarse, fine / np.abs(fine).max(axis=1, keepdims=True), atol=1e-12)


@BOTH
def test_given_initial_states(make):
    u = np.random.RandomState(0).standard_normal((3, 20))
    u[:, [0, -1]] = 0
    before = u.copy()
    _, U = quiet(make, initial=u, t_final=0.8, return_trajectories=True)
    np.testing.assert_array_equal(u, before)
    assert U.shape == (3, 5, 20)
    np.testing.assert_allclose(U[:, 0], u, atol=1e-12)
    _, one = quiet(make, initial=u[1:2], t_final=0.8, return_trajectories=True)
    np.testing.assert_array_equal(one[0], U[1])


def test_a_sine_given_at_both_ends_is_zero_there_up_to_rounding():
    u = np.sin(PI * np.linspace(0, 1, 33))
    assert u[-1] != 0
    _, U = make_heat(initial=[u], return_trajectories=True)
    np.testing.assert_array_equal(U[..., -1], 0)


@BOTH
def test_any_number_of_jobs_gives_the_same_bits(make, monkeypatch):
    monkeypatch.setattr(_evolution, "_BATCH", 4)
    arguments = {**SMALL, "n_samples": 2 * _evolution._BATCH + 3, "t_final": 0.4, "return_trajectories": True}
    _, serial = quiet(make, n_jobs=1, **arguments)
    _, parallel = quiet(make, n_jobs=2, **arguments)
    np.testing.assert_array_equal(serial, parallel)


def test_any_number_of_jobs_gives_the_same_bits_exactly_in_time():
    arguments = {**SMALL, "n_samples": 2 * _evolution._BATCH + 3, "solver": "exact"}
    np.testing.assert_array_equal(make_heat(n_jobs=1, **arguments), make_heat(n_jobs=2, **arguments))


@BOTH
def test_trajectories_on_the_disk_are_used_again(make, tmp_path, monkeypatch):
    expected_U_t, expected_U_next = quiet(make, 3, **SMALL)
    quiet(make, 3, data_home=tmp_path, **SMALL)

    def fail(*args, **kwargs):
        raise AssertionError("solved again")

    monkeypatch.setattr(_evolution, "solve_ivp", fail)
    U_t, U_next = quiet(make, 3, data_home=tmp_path, **SMALL)
    np.testing.assert_array_equal(U_t, expected_U_t)
    np.testing.assert_array_equal(U_next, expected_U_next)
    U_t[:] = 0  # pairs are arrays of their own
    _, U = quiet(make, 3, data_home=tmp_path, return_trajectories=True, **SMALL)
    assert isinstance(U, np.memmap)
    later, _ = quiet(make, 3, data_home=tmp_path, step=1.6, **SMALL)
    np.testing.assert_array_equal(later, U[:, 0])
    for change in ({"rtol": 1e-5}, {"t_final": 1.4}, {"modes": (1, 4)}, {"random_state": 1}, {"refinement": 2}):
        with pytest.raises(AssertionError, match="solved again"):
            quiet(make, 3, data_home=tmp_path, **{**SMALL, **change})


@BOTH
def test_given_initial_states_are_kept_on_the_disk_without_a_seed(make, tmp_path, monkeypatch):
    u = np.sin(PI * np.arange(33) / 33)[None]
    u[:, -1] = 0
    first = quiet(make, initial=u, data_home=tmp_path)
    monkeypatch.setattr(_evolution, "solve_ivp", None)
    np.testing.assert_array_equal(quiet(make, initial=u, data_home=tmp_path), first)
    with pytest.raises(TypeError):
        quiet(make, initial=2 * u, data_home=tmp_path)


@BOTH
@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ({"success": False, "t": [0, 0.2], "message": "too stiff"}, r"Trajectory 17: BDF stopped after t=0.2 \(too st"),
        ({"success": False, "t": [], "message": "too stiff"}, "Trajectory 17: BDF stopped after t=0 "),
        ({"success": True, "y": np.array([[0, 1, np.nan]])}, "Trajectory 17: the state at t=0.4 is not finite; try a "),
    ],
)
def test_failing_integrations_are_named(make, outcome, message, monkeypatch):
    calls, solve_ivp = [], _evolution.solve_ivp

    def fail_at_the_last(*args, **kwargs):
        calls.append(args)
        return SimpleNamespace(**outcome) if len(calls) == 18 else solve_ivp(*args, **kwargs)

    monkeypatch.setattr(_evolution, "solve_ivp", fail_at_the_last)
    with pytest.raises(RuntimeError, match=message):
        quiet(make, 19, **SMALL)


def test_overflow_is_an_error_and_not_an_endless_loop():
    u = np.zeros((2, 16))
    u[1, 5] = 1e200
    with pytest.raises(RuntimeError, match="Trajectory 1: the right-hand side overflows at t=0; try a finer grid"):
        quiet(make_burgers, initial=u)
    with pytest.raises(RuntimeError, match="BDF stopped after t=0 "), np.errstate(all="ignore"):
        bdf_trajectory(explosion := Explosion(4, True, 0.0), np.ones(explosion.n_intervals), np.arange(3.0), 1e-4, 1e-6)


class Explosion(Equation):
    """u' = u², which is infinite at t = 1."""

    def __call__(self, t, u):
        return u**2

    def jacobian(self, t, u):
        return _evolution.sp.diags([2 * u], [0], format="csc")


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_samples": 0}, "'n_samples' parameter"),
        ({"n_points": 1}, "'n_points' parameter"),
        ({"n_points": (64, 64)}, "'n_points' parameter"),
        ({"boundary": "neumann"}, "'boundary' parameter"),
        ({"t_final": 0}, "'t_final' parameter"),
        ({"store_every": -0.2}, "'store_every' parameter"),
        ({"step": 0}, "'step' parameter"),
        ({"step": 0.3}, r"store_every=0.2 does not divide step=0.3; use a whole fraction of that, such as"),
        ({"step": 0.1}, r"store_every=0.2 does not divide step=0.1; use a whole fraction of that, such as"),
        (
            {"t_final": 1.1},
            r"store_every=0.2 does not divide t_final=1.1; use a whole fraction of that, such as",
        ),
        ({"t_final": 0.6, "step": 0.8}, r"step=0.8 is longer than the trajectories; choose one of at most t_final"),
        ({"initial": "cosine"}, "'initial' parameter"),
        ({"initial": [[0, np.nan, 1, 1, 0]]}, "initial contains NaN"),
        ({"initial": [[0, np.inf, 1, 1, 0]]}, "initial contains infinity"),
        ({"initial": [0.0, 1, 1, 1, 0]}, r"initial has shape \(5,\); it must be \(n_samples, n_points\)"),
        (
            {"initial": [[0.0, 1, 1, 1, 0], [0.5, 1, 1, 1, 0]]},
            "initial has the value 0.5 at the point 0 of trajectory 1",
        ),
        ({"initial": [[0.0, 1, 1, 1, 0]], "refinement": 2}, "refinement=2 does not apply to initial states"),
        ({"initial": "gaussian", "refinement": 4}, "refinement=4 does not apply to initial states"),
        ({"initial": [[0.0, 1, 1, 0]]}, "n_points=4 with refinement=1 is too small"),
        ({"modes": (4, 2)}, r"modes=\(4, 2\) must satisfy 1 <= first <= last"),
        ({"modes": (0, 2)}, r"modes=\(0, 2\) must satisfy"),
        ({"modes": (1, 2.5)}, "must be a pair of integers"),
        ({"modes": 3}, "'modes' parameter"),
        ({"length_scale": 0}, "'length_scale' parameter"),
        ({"refinement": 0}, "'refinement' parameter"),
        ({"solver": "euler"}, "'solver' parameter"),
        ({"rtol": 0}, "'rtol' parameter"),
        ({"atol": -1e-6}, "'atol' parameter"),
        ({"return_trajectories": "yes"}, "'return_trajectories' parameter"),
        ({"random_state": "x"}, "'random_state' parameter"),
        ({"n_jobs": 1.5}, "'n_jobs' parameter"),
        ({"data_home": "somewhere", "random_state": None}, "random_state=None does not identify"),
    ],
)
def test_bad_parameters_are_refused(make, arguments, message, monkeypatch):
    monkeypatch.setattr(_evolution.Integrator, "solve", None)  # no work starts
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize(
    ("make", "arguments", "highest"),
    [
        (make_heat, {"n_points": 64}, 63),
        (make_heat, {"n_points": 64, "refinement": 1}, 62),
        (make_heat, {"n_points": 64, "boundary": "periodic"}, 31),
        (make_heat, {"n_points": 65, "boundary": "periodic"}, 32),
        (make_burgers, {"n_points": 64}, 30),
        (make_burgers, {"n_points": 65}, 31),
    ],
)
def test_the_highest_mode_is_the_last_that_the_grid_tells_from_others(make, arguments, highest):
    arguments = {**arguments, "t_final": 0.2, "step": 0.2, "random_state": 0}
    U_t, _ = quiet(make, highest, modes=(1, highest), **arguments)
    singular = np.linalg.svd(U_t, compute_uv=False)
    assert singular[-1] > 1e-5 * singular[0]
    with pytest.raises(ValueError, match=f"cannot be represented on n_points={arguments['n_points']}: .* is {highest}"):
        make(modes=(1, highest + 1), **arguments)
