import numpy as np
import pytest
import torch
from scipy.integrate import simpson, solve_ivp

from sklearn_hss.datasets import _etdrk4, _spectral, make_navier_stokes
from sklearn_hss.datasets._forcing import torus_random_field

PI = np.pi
LI = 2**0.5 * 7**0.75


def grid(n_points):
    return np.meshgrid(*(np.arange(n) / n for n in n_points), indexing="ij")


def swirl(n_points):
    """A smooth field with waves of all lengths, strong enough for the flow to deform it."""
    x, y = grid(n_points)
    w = np.exp(np.sin(2 * PI * x) + 0.5 * np.cos(2 * PI * (y - 2 * x))) * np.cos(2 * PI * y)
    return 4 * (w - w.mean())


def solve(w, **options):
    w = np.asarray(w)
    options = {"n_points": w.shape[1:], "initial": w, "forcing": None, **options}
    return make_navier_stokes(len(w), **options)[1]


def velocity(w):
    """Stream function and velocity, by complex transforms."""
    n_1, n_2 = w.shape[-2:]
    k = 2 * PI * np.fft.fftfreq(n_1, 1 / n_1)[:, None]
    m = 2 * PI * np.fft.fftfreq(n_2, 1 / n_2)
    squares = k**2 + m**2
    squares[0, 0] = np.inf
    psi = np.fft.fft2(w) / squares
    return tuple(np.fft.ifft2(f).real for f in (psi, 1j * m * psi, -1j * k * psi))


def test_order_in_time(check_order):
    w = swirl((24, 24))[None] / 2
    exact = solve(w, dt=1 / 800)
    resolutions = [40, 80, 160]
    errors = [np.abs(solve(w, dt=1 / n, store_every=1) - exact).max() for n in resolutions]
    check_order("Navier-Stokes, ETDRK4 in time", resolutions, errors, 4)


def test_spectral_accuracy_in_space():
    fine = solve(swirl((144, 144))[None], viscosity=1e-2, t_final=0.2, dt=0.01)[0]
    n = np.array([12, 24, 48, 72])
    errors = [
        np.abs(
            solve(swirl((m, m))[None], viscosity=1e-2, t_final=0.2, dt=0.01)[0] - fine[:: 144 // m, :: 144 // m]
        ).max()
        for m in n
    ]
    orders = -np.diff(np.log(errors)) / np.diff(np.log(n))
    assert (np.diff(orders) > 2).all(), orders
    assert errors[-1] < 1e-9


def test_decay_of_the_taylor_green_vortex():
    x, y = grid((20, 16))
    w = np.cos(2 * PI * x) * np.cos(2 * PI * y)
    result = solve([w, 3 * w], viscosity=0.02, t_final=0.7, dt=0.05, store_every=0.7)
    np.testing.assert_allclose(result, np.array([w, 3 * w]) * np.exp(-8 * PI**2 * 0.02 * 0.7), atol=1e-13)


def test_a_steady_flow_whose_modes_interact():
    # w = a cos(2 pi x) + b cos(4 pi y) has v.grad(w) = -3/2 a b sin(2 pi x) sin(4 pi y); q balances it.
    x, y = grid((16, 24))
    a, b, viscosity = 0.7, -0.4, 3e-3
    w = a * np.cos(2 * PI * x) + b * np.cos(4 * PI * y)
    q = -1.5 * a * b * np.sin(2 * PI * x) * np.sin(4 * PI * y)
    q += viscosity * (4 * PI**2 * a * np.cos(2 * PI * x) + 16 * PI**2 * b * np.cos(4 * PI * y))
    np.testing.assert_allclose(solve([w], viscosity=viscosity, forcing=q)[0], w, atol=1e-12)
    assert np.abs(solve([w], viscosity=viscosity) - w).max() > 0.05


@pytest.mark.parametrize("n_points", [(24, 24), (27, 20), (15, 25)])
def test_agrees_with_another_discretisation(n_points):
    """Convective form, complex transforms, DOP853, 2/3 rule by hand."""
    rng = np.random.RandomState(0)
    q = 0.3 * rng.standard_normal(n_points)
    k = np.fft.fftfreq(n_points[0], 1 / n_points[0])[:, None]
    m = np.fft.fftfreq(n_points[1], 1 / n_points[1])
    kept = (3 * abs(k) < n_points[0]) & (3 * abs(m) < n_points[1])
    w = np.fft.ifft2(kept * np.fft.fft2(rng.standard_normal(n_points))).real * 3

    def right_hand_side(t, w):
        w = w.reshape(n_points)
        spectrum = np.fft.fft2(w)
        low = np.fft.ifft2(kept * spectrum).real
        _, v_1, v_2 = velocity(low)
        w_1, w_2 = (np.fft.ifft2(2j * PI * f * kept * spectrum).real for f in (k, m))
        convection = np.fft.ifft2(kept * np.fft.fft2(v_1 * w_1 + v_2 * w_2))
        return (np.fft.ifft2(-0.005 * 4 * PI**2 * (k**2 + m**2) * spectrum) - convection).real.ravel() + q.ravel()

    expected = solve_ivp(right_hand_side, (0, 0.5), w.ravel(), method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    result = solve([w], viscosity=0.005, t_final=0.5, dt=0.0025, forcing=q)[0]
    np.testing.assert_allclose(result, expected.reshape(n_points), atol=1e-8)


def test_mean_stays():
    w = swirl((16, 16)) + 0.3
    result = solve([w], forcing="paper")[0]
    np.testing.assert_allclose(result.mean(), w.mean(), rtol=1e-14)
    np.testing.assert_allclose(result, solve([w - w.mean()], forcing="paper")[0] + w.mean(), atol=1e-13)


def test_energy_balance():
    """d/dt of |v|² / 2 is psi q - viscosity w², and of w² / 2 it is w q - viscosity |grad w|², on average."""
    n_points = (48, 48)
    x, y = grid(n_points)
    q = np.sin(2 * PI * (x + y)) + np.cos(4 * PI * x)
    times, W = make_navier_stokes(
        1, n_points, initial=swirl(n_points)[None], forcing=q, dt=0.0025, store_every=0.005, t_final=0.5,
        viscosity=0.01, return_trajectories=True,
    )  # fmt: skip
    psi, v_1, v_2 = velocity(W[0])
    mean = {"axis": (1, 2)}
    for quadratic, rate in [
        (v_1**2 + v_2**2, psi * q - 0.01 * W[0] ** 2),
        (W[0] ** 2, W[0] * (q + 0.01 * laplace(W[0]))),
    ]:
        change = np.diff((quadratic / 2).mean(**mean)[[0, -1]])
        np.testing.assert_allclose(change, simpson(rate.mean(**mean), x=times), rtol=1e-6)


def laplace(w):
    k = 2 * PI * np.fft.fftfreq(w.shape[-1], 1 / w.shape[-1])
    return np.fft.ifft2(-(k[:, None] ** 2 + k**2) * np.fft.fft2(w)).real


def test_energy_and_enstrophy_without_forcing():
    w = np.fft.ifft2(np.fft.fft2(swirl((32, 32))) * low_modes(32)).real

    def invariants(viscosity):
        _, W = make_navier_stokes(
            1, (32, 32), initial=[w], forcing=None, viscosity=viscosity, return_trajectories=True, dt=0.0025
        )
        _, v_1, v_2 = velocity(W[0])
        return np.array([(v_1**2 + v_2**2).mean((1, 2)), (W[0] ** 2).mean((1, 2))])

    assert (np.diff(invariants(1e-3)) < 0).all()
    conserved = invariants(1e-14)
    np.testing.assert_allclose(conserved, conserved[:, :1] * np.ones(11), rtol=1e-8)
    # It is no steady flow that conserves them.
    assert np.abs(solve([w], viscosity=1e-14) - w).max() > 1


def low_modes(n):
    k = np.abs(np.fft.fftfreq(n, 1 / n))
    return (3 * k[:, None] < n) & (3 * k < n)


def test_symmetries():
    w = swirl((20, 20))

    def flip(w, axis):
        return np.roll(np.flip(w, axis), 1, axis)  # x -> -x on the grid

    w_t, *others = solve([w, np.roll(w, (3, -5), (0, 1)), flip(w, (0, 1)), -flip(w, 0), -w.T], t_final=0.5)
    expected = [np.roll(w_t, (3, -5), (0, 1)), flip(w_t, (0, 1)), -flip(w_t, 0), -w_t.T]
    np.testing.assert_allclose(others, expected, atol=1e-12)
    assert np.abs(solve([-w], t_final=0.5)[0] + w_t).max() > 0.1  # no symmetry


def test_the_forcing_of_the_paper():
    x, y = grid((32, 32))
    q = 0.1 * (np.sin(2 * PI * (x + y)) + np.cos(2 * PI * (x + y)))
    options = {"n_points": (32, 32), "random_state": 0}
    paper = make_navier_stokes(2, **options)
    np.testing.assert_array_equal(paper, make_navier_stokes(2, forcing=q, **options))
    none = make_navier_stokes(2, forcing=None, **options)
    np.testing.assert_array_equal(none[0], paper[0])
    # Alone, it drives one mode that decays: q (1 - exp(-8 pi² nu)) / (8 pi² nu).
    rate = 8 * PI**2 * 1e-3
    alone = solve(np.zeros((1, 32, 32)), forcing="paper")[0]
    np.testing.assert_allclose(alone, -q * np.expm1(-rate) / rate, atol=1e-14)


def test_trajectories():
    options = {"n_points": (16, 16), "random_state": 3, "initial_scale": LI}
    times, W = make_navier_stokes(2, return_trajectories=True, t_final=0.5, **options)
    np.testing.assert_allclose(times, np.arange(6) / 10, atol=1e-15)
    assert W.shape == (2, 6, 16, 16)
    np.testing.assert_array_equal(W[:, [0, -1]].swapaxes(0, 1), make_navier_stokes(2, t_final=0.5, **options))
    continued = solve(W[:, 2], forcing="paper", t_final=0.3)
    np.testing.assert_allclose(continued, W[:, -1], atol=1e-14)


def spectra(fields):
    return np.fft.fft2(fields) / fields[0].size


def test_covariance_of_the_initial_fields():
    n, n_samples = 16, 1000
    W, _ = make_navier_stokes(n_samples, (n, n), t_final=0.02, store_every=0.02, random_state=0)
    k = np.fft.fftfreq(n, 1 / n)
    eigenvalues = 7**1.5 * (4 * PI**2 * (k[:, None] ** 2 + k**2) + 49) ** -2.5
    carried = (np.abs(k[:, None]) < n // 2) & (np.abs(k) < n // 2)
    carried[0, 0] = False
    coefficients = spectra(W)
    assert np.abs(coefficients[:, ~carried]).max() < 1e-16  # mean zero, nothing that the grid cannot carry
    scaled = coefficients[:, carried] / np.sqrt(eigenvalues[carried])
    # |c|² / lambda is exponentially distributed: mean and standard deviation 1.
    means = (np.abs(scaled) ** 2).mean(0)
    assert np.abs(means - 1).max() < 5 / n_samples**0.5
    assert abs(means.mean() - 1) < 4 / (n_samples * means.size / 2) ** 0.5
    assert abs((np.abs(scaled) ** 4).mean() - 2) < 0.05
    # Isotropic, and stationary: real and imaginary parts alike and independent, as are different modes.
    assert np.abs((scaled**2).mean(0)).max() < 6 / n_samples**0.5
    half = scaled[:, (k[:, None] * 100 + k > 0)[carried]]
    correlations = half.T @ half.conj() / n_samples
    assert np.abs(correlations - np.diag(np.diag(correlations))).max() < 6 / n_samples**0.5
    # The variance of the field is the trace of the operator.
    np.testing.assert_allclose((W**2).mean(), eigenvalues[carried].sum(), rtol=0.05)


def test_initial_fields_do_not_depend_on_the_grid_or_the_number_of_samples():
    eigenvalues = lambda squares: 1 / (1 + squares)  # noqa: E731

    def coefficients(n_points, n_samples=3):
        draw, field = torus_random_field(n_points, n_samples, eigenvalues, np.random.RandomState(5))
        return spectra(field(draw(slice(None))))

    fine, few = coefficients((32, 32)), coefficients((32, 32), 2)
    np.testing.assert_array_equal(few, fine[:2])
    assert np.abs(fine[0] - fine[1]).max() > 0.01
    for n_points in [(16, 16), (15, 8), (8, 31), (4, 5)]:
        coarse = coefficients(n_points)
        first, last = ((n - 1) // 2 for n in n_points)
        for i in range(-first, first + 1):
            for j in range(-last, last + 1):
                np.testing.assert_allclose(coarse[:, i, j], fine[:, i, j], atol=1e-15)


def test_initial_scale():
    options = {"n_points": (16, 16), "forcing": None, "random_state": 0, "t_final": 0.1}
    one, many = (make_navier_stokes(2, initial_scale=scale, **options) for scale in (1, LI))
    np.testing.assert_allclose(many[0], LI * one[0], rtol=1e-14)
    assert np.abs(many[1] - LI * one[1]).max() > 1e-5  # the equation is not linear
    given = make_navier_stokes(2, initial=one[0], **{**options, "initial_scale": LI})
    np.testing.assert_allclose(given[1], many[1], atol=1e-15)


def test_default_time_step_is_accurate_enough():
    for scale, bound in [(1.0, 1e-9), (LI, 1e-7)]:
        W, exact = (
            make_navier_stokes(4, (64, 64), initial_scale=scale, random_state=1, **options)[1]
            for options in ({}, {"dt": 0.005})
        )
        assert np.abs(W - exact).max() < bound * np.abs(exact).max()


def test_number_of_jobs_does_not_matter(monkeypatch):
    monkeypatch.setitem(_spectral._BATCH, "cpu", 2 * 16**2)
    one, two = (make_navier_stokes(7, (16, 16), random_state=0, n_jobs=n_jobs) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one, two)
    monkeypatch.undo()
    np.testing.assert_allclose(make_navier_stokes(7, (16, 16), random_state=0), one, atol=1e-15)


def test_float32():
    single = make_navier_stokes(2, (32, 32), random_state=0, dtype="float32", initial_scale=LI)
    double = make_navier_stokes(2, (32, 32), random_state=0, initial_scale=LI)
    assert single[0].dtype == single[1].dtype == np.float32
    np.testing.assert_allclose(single, double, atol=1e-5)


def test_data_are_read_again(tmp_path, monkeypatch):
    options = {"n_points": (8, 8), "random_state": 0, "data_home": tmp_path}
    first = make_navier_stokes(2, **options)
    for other in ({"dtype": "float32"}, {"viscosity": 1e-2}, {"forcing": None}, {"return_trajectories": True}):
        make_navier_stokes(2, **options, **other)
    make_navier_stokes(2, **{**options, "random_state": None}, initial=first[0])
    assert len(list(tmp_path.iterdir())) == 6
    monkeypatch.setattr(_etdrk4, "ETDRK4", None)
    np.testing.assert_array_equal(first, make_navier_stokes(2, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"viscosity": 0}, r"'viscosity' parameter .* must be a float in the range \(0"),
        ({"viscosity": -1e-3}, r"'viscosity' parameter .* must be a float in the range \(0"),
        ({"n_points": (64,)}, r"n_points=\(64,\) must be two integers of at least 4, such as \(128, 128\)"),
        ({"n_points": (64, 3)}, r"n_points=\(64, 3\) must be two integers of at least 4"),
        ({"n_points": (64, 64.5)}, r"n_points=\(64, 64.5\) must be two integers"),
        ({"dt": 0.03}, r"dt=0.03 does not divide t_final=1; use a whole fraction of that, such as"),
        (
            {"dt": 0.03, "return_trajectories": True},
            r"dt=0.03 does not divide store_every=0.1; use a whole",
        ),
        ({"dt": 2.0}, r"dt=2 does not divide t_final=1; use a whole fraction of that, such as"),
        (
            {"store_every": 0.3, "return_trajectories": True},
            r"store_every=0.3 does not divide t_final=1; use a whole fraction of that, such as",
        ),
        ({"initial": np.zeros((3, 8))}, r"initial has shape \(3, 8\); it must be \(n_samples, n_1, n_2\)"),
        ({"initial": np.full((2, 8, 8), np.nan)}, "initial contains NaN"),
        ({"forcing": np.zeros((8, 9))}, r"forcing has shape \(8, 9\); it must be \(8, 8\)"),
        ({"forcing": np.full((8, 8), np.inf)}, "forcing contains infinity"),
        ({"forcing": 1.0}, "'forcing' parameter"),
        ({"device": "cuda:9000"}, "device='cuda:9000' cannot be used here"),
        ({"device": "no such"}, "device='no such' cannot be used here"),
        ({"n_jobs": 1.5}, "'n_jobs' parameter"),
        ({"data_home": "unused"}, "random_state=None does not identify the data"),
    ],
)
def test_refusals(options, message, monkeypatch):
    monkeypatch.setattr(_etdrk4, "trajectory", None)
    with pytest.raises(ValueError, match=message):
        make_navier_stokes(2, **{"n_points": (8, 8), **options})


def test_a_simulation_that_blows_up():
    with pytest.raises(RuntimeError, match=r"sample 1 became infinite or NaN with dt=0.5; try a smaller dt"):
        solve([np.zeros((16, 16)), 1e9 * swirl((16, 16))], dt=0.5, t_final=100, store_every=100)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_gpu():
    options = {"n_points": (64, 48), "random_state": 0, "initial_scale": LI}
    np.testing.assert_allclose(
        make_navier_stokes(3, device="cuda", **options), make_navier_stokes(3, device="cpu", **options), atol=1e-12
    )
