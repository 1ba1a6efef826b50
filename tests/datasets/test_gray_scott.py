import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline
from scipy.signal import resample

from sklearn_hss.datasets import GRAY_SCOTT_PATTERNS, _etdrk4, _spectral, make_gray_scott

PI = np.pi


def grid(n_points):
    return np.meshgrid(*(-1 + 2 * np.arange(n) / n for n in n_points), indexing="ij")


def smooth(n_points):
    x, y = grid(n_points)
    bump = np.exp(2 * np.cos(PI * (x - 0.2)) + np.sin(PI * (y + x))) / np.exp(3)
    return np.stack([1 - 0.6 * bump, 0.5 * np.roll(bump, n_points[1] // 6, 1)])


def solve(initial, state, **options):
    """State number `state` of the given initial states."""
    initial = np.asarray(initial)
    return make_gray_scott(
        len(initial), initial.shape[2:], initial=initial, states=(0, state), parameter_channels=False, **options
    )[1]


def uniform(*states):
    return np.broadcast_to(np.array(states, float)[:, :, None, None], (len(states), 2, 5, 4))


@pytest.mark.parametrize("pattern", ["maze", "bubbles"])
def test_order_in_time(pattern, check_order):
    initial = smooth((16, 18))[None]
    exact = solve(initial, 3, pattern=pattern, dt=0.05)
    resolutions = [10, 20, 40]  # steps between two states
    errors = [np.abs(solve(initial, 3, pattern=pattern, dt=10 / n) - exact).max() for n in resolutions]
    check_order(f"Gray-Scott, {pattern}, ETDRK4 in time", resolutions, errors, 4)


def test_spectral_accuracy_in_space():
    options = {"diffusivities": (2e-3, 1e-3), "pattern": "maze"}
    fine = solve(smooth((144, 144))[None], 5, **options)[0]
    n = np.array([12, 24, 36, 48])
    errors = [np.abs(solve(smooth((m, m))[None], 5, **options)[0] - fine[:, :: 144 // m, :: 144 // m]).max() for m in n]
    orders = -np.diff(np.log(errors)) / np.diff(np.log(n))
    assert (np.diff(orders) > 3).all(), orders
    assert errors[-1] < 1e-8


def test_uniform_states_follow_the_ordinary_differential_equation():
    f, k = 0.03, 0.05
    starts = [(1.0, 0.4), (0.3, 0.2), (0.5, 0.9)]

    def right_hand_side(t, u):
        A, B = u
        return [-A * B**2 + f * (1 - A), A * B**2 - (f + k) * B]

    result = solve(uniform(*starts), 10, pattern=(f, k), dt=0.25)
    for start, fields in zip(starts, result, strict=True):
        exact = solve_ivp(right_hand_side, (0, 100), start, method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
        np.testing.assert_allclose(fields, np.broadcast_to(exact[:, None, None], (2, 5, 4)), atol=1e-8)


@pytest.mark.parametrize("n_points", [(16, 12), (15, 13)])
def test_agrees_with_another_discretisation(n_points):
    """Complex transforms, DOP853."""
    f, k = GRAY_SCOTT_PATTERNS["spirals"]
    squares = sum(s**2 for s in np.meshgrid(*(PI * np.fft.fftfreq(n, 1 / n) for n in n_points), indexing="ij"))

    def right_hand_side(t, u):
        A, B = u.reshape(2, *n_points)
        A_t = np.fft.ifft2(-3e-4 * squares * np.fft.fft2(A)).real - A * B**2 + f * (1 - A)
        B_t = np.fft.ifft2(-1e-4 * squares * np.fft.fft2(B)).real + A * B**2 - (f + k) * B
        return np.stack([A_t, B_t]).ravel()

    rng = np.random.RandomState(0)
    initial = smooth(n_points) * (1 + 0.2 * rng.standard_normal((2, *n_points)))
    expected = solve_ivp(right_hand_side, (0, 50), initial.ravel(), method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
    result = solve([initial], 5, pattern="spirals", diffusivities=(3e-4, 1e-4), dt=0.125)
    np.testing.assert_allclose(result[0], expected.reshape(2, *n_points), atol=1e-8)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_state_without_b_stays_exactly(dtype):
    initial = uniform(*[(1.0, 0.0)] * 6)
    np.testing.assert_array_equal(solve(initial, 30, dtype=dtype), initial)


def test_the_other_steady_states():
    # f (1 - A) = (f + k) B and A B = f + k.
    f, k = GRAY_SCOTT_PATTERNS["bubbles"]
    B = np.roots([-(f + k) / f, 1, -(f + k)])
    A = 1 - (f + k) / f * B
    assert len(B) == 2
    assert (B > 0.1).all()
    initial = uniform(*zip(A, B, strict=True))
    np.testing.assert_allclose(solve(initial, 2, pattern="bubbles"), initial, atol=1e-12)


def test_the_sum_of_both_without_killing_is_heat():
    # For k = 0 and equal diffusivities, A + B - 1 only diffuses and decays, whatever the reaction does.
    n_points, f, d, t = (24, 20), 0.02, 1e-4, 100.0
    initial = smooth(n_points)
    result = solve([initial], 10, pattern=(f, 0.0), diffusivities=(d, d), dt=0.5)[0]
    squares = sum(s**2 for s in np.meshgrid(*(PI * np.fft.fftfreq(n, 1 / n) for n in n_points), indexing="ij"))
    exact = np.fft.ifft2(np.fft.fft2(initial.sum(0) - 1) * np.exp(-(d * squares + f) * t)).real
    np.testing.assert_allclose(result.sum(0) - 1, exact, atol=1e-8)
    assert np.abs(result - initial).max() > 0.1


def test_balance_of_both_substances():
    """The mean of A + B changes by f (1 - mean A) - (f + k) mean B, integrated over time."""
    f, k = GRAY_SCOTT_PATTERNS["spirals"]
    times, U = make_gray_scott(
        1, (32, 32), pattern="spirals", initial=smooth((32, 32))[None], states=range(61), dt=0.5,
        diffusivities=(1e-3, 5e-4), return_trajectories=True, parameter_channels=False,
    )  # fmt: skip
    A, B = U[0].mean((2, 3)).T
    rate = CubicSpline(times, f * (1 - A) - (f + k) * B)
    for first, last in [(10, 60), (20, 40)]:
        change = (A + B)[last] - (A + B)[first]
        assert abs(change) > 0.1
        np.testing.assert_allclose(rate.integrate(times[first], times[last]), change, rtol=1e-5)


def test_symmetries():
    initial = smooth((20, 20))

    def flip(fields, *axes):
        return np.roll(np.flip(fields, axes), [1] * len(axes), axes)

    images = [
        lambda u: np.roll(u, (3, -7), (1, 2)),
        lambda u: flip(u, 1),
        lambda u: flip(u, 1, 2),
        lambda u: u.swapaxes(1, 2),
    ]
    last, *others = solve([initial, *(image(initial) for image in images)], 20, pattern="spots")
    assert np.abs(last - initial).max() > 0.1
    np.testing.assert_allclose(others, [image(last) for image in images], atol=1e-12)


def test_patterns_take_turns_and_each_gets_both_families():
    X, Y = make_gray_scott(14, (32, 32), states=(0, 1), random_state=0)
    assert X.shape == (14, 4, 32, 32)
    assert Y.shape == (14, 2, 32, 32)
    pairs = [(0.014, 0.054), (0.098, 0.057), (0.029, 0.057), (0.058, 0.065), (0.018, 0.051), (0.030, 0.062)]
    for i, fields in enumerate(X):
        f, k = pairs[i % 6]
        np.testing.assert_array_equal(fields[2], f)
        np.testing.assert_array_equal(fields[3], k)
    gaussian = (X[:, 1].max((1, 2)) == 1) & (X[:, 1].min((1, 2)) == 0)
    np.testing.assert_array_equal(gaussian, [False] * 6 + [True] * 6 + [False] * 2)
    X, _ = make_gray_scott(3, (8, 8), pattern=["spots", (0.05, 0.06)], states=(0, 1), random_state=0)
    np.testing.assert_array_equal(X[:, 2:, 0, 0], [(0.030, 0.062), (0.05, 0.06), (0.030, 0.062)])
    # Every sample evolves with its own rates.
    U = smooth((12, 12))
    both = solve([U, U], 5, pattern=["maze", "worms"])
    for pattern, expected in zip(["maze", "worms"], both, strict=True):
        np.testing.assert_allclose(solve([U], 5, pattern=pattern)[0], expected, atol=1e-14)


def initial_states(kind, n_points, n_samples=60, **options):
    return make_gray_scott(n_samples, n_points, initial=kind, states=(0, 1), random_state=0, **options)[0][:, :2]


def test_gaussians():
    X = initial_states("gaussians", (128, 128))
    np.testing.assert_array_equal(X.min((2, 3)), 0)
    np.testing.assert_array_equal(X.max((2, 3)), 1)
    A, B = np.median(X, axis=(2, 3)).T
    assert (A > 0.5).all()
    assert (B < 0.5).all()
    # A bump exp(-s r²) with 150 < s < 300: at its highest point, -Laplace(log B) is 4 s where it stands alone.
    h = 2 / 128
    sharpness = []
    for b in X[:, 1]:
        i, j = np.unravel_index(b.argmax(), b.shape)
        neighbours = b[[i - 1, (i + 1) % 128, i, i], [j, j, j - 1, (j + 1) % 128]]
        sharpness.append(-np.log(neighbours).sum() / (4 * h**2))
    assert 100 < np.median(sharpness) < 350
    # No place is special.
    np.testing.assert_allclose(X[:, 1].mean(0).reshape(4, 32, 4, 32).mean((1, 3)), X[:, 1].mean(), rtol=0.25)
    assert abs(np.corrcoef(X[:, 0].ravel(), X[:, 1].ravel())[0, 1]) < 0.1


def test_fourier_series():
    X = initial_states("fourier", (32, 32), pattern="maze")
    for values, low, high in [(X[:, 0], 0.75, 1.25), (X[:, 1], -0.25, 0.25)]:
        assert low <= values.min() < low + 1e-3
        assert high >= values.max() > high - 1e-3
        quantiles = np.quantile(values, [0.25, 0.5, 0.75])
        np.testing.assert_allclose(quantiles, np.linspace(low, high, 5)[1:4], atol=5e-3)
    neighbours = np.corrcoef(X[:, 0, 1:].ravel(), X[:, 0, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.02
    # Elsewhere, the interpolant: what zeros at the end of the spectrum make of the values.
    fine = initial_states("fourier", (128, 96), n_samples=2, pattern="maze")
    np.testing.assert_allclose(fine[:, :, ::4, ::3], X[:2], atol=1e-13)
    np.testing.assert_allclose(fine, resample(resample(X[:2], 128, axis=2), 96, axis=3), atol=1e-13)


def test_fourier_series_around_the_steady_state_of_the_bubbles():
    X = initial_states("fourier", (32, 32), pattern="bubbles")
    f, k = GRAY_SCOTT_PATTERNS["bubbles"]
    B = np.roots([-(f + k) / f, 1, -(f + k)]).max()
    for values, centre in [(X[:, 0], 1 - (f + k) / f * B), (X[:, 1], B)]:
        width = 0.225 * min(centre, 1 - centre)
        np.testing.assert_allclose([values.min(), values.max()], [centre - width, centre + width], atol=1e-3 * width)


@pytest.mark.parametrize(
    ("pattern", "initial"), [(p, "gaussians") for p in GRAY_SCOTT_PATTERNS] + [("maze", "fourier")]
)
def test_patterns_develop(pattern, initial):
    _, Y = make_gray_scott(
        2, (64, 64), pattern=pattern, initial=initial, states=(0, 60), dtype="float32", random_state=0, dt=2.0
    )
    A, B = Y[:, 0], Y[:, 1]
    assert (B.max((1, 2)) > 0.25).all()
    assert (B.std((1, 2)) > 0.02).all()
    assert B.min() > -0.02
    assert A.min() > 0
    assert A.max() < 1.02


def test_states():
    options = {"n_points": (16, 16), "random_state": 0, "pattern": "maze"}
    times, U = make_gray_scott(2, states=range(8), return_trajectories=True, **options)
    np.testing.assert_array_equal(times, 10.0 * np.arange(8))
    assert U.shape == (2, 8, 4, 16, 16)
    np.testing.assert_array_equal(U[0, :, 2:, 0, 0], [GRAY_SCOTT_PATTERNS["maze"]] * 8)
    X, Y = make_gray_scott(2, states=(5, 7), **options)
    np.testing.assert_allclose(X, U[:, 5], atol=1e-14)
    np.testing.assert_allclose(Y, U[:, 7, :2], atol=1e-14)
    np.testing.assert_allclose(solve(X[:, :2], 2, pattern="maze"), Y, atol=1e-13)
    _, alone = make_gray_scott(2, states=[7], return_trajectories=True, parameter_channels=False, **options)
    np.testing.assert_allclose(alone[:, 0], Y, atol=1e-14)
    given = np.random.RandomState(0).uniform(size=(2, 2, 16, 16))
    X, _ = make_gray_scott(2, (16, 16), initial=given, states=(0, 1), parameter_channels=False)
    np.testing.assert_array_equal(X, given)
    reversed_view = given[:, :, ::-1]
    reversed_view.flags.writeable = False
    X, _ = make_gray_scott(2, (16, 16), initial=reversed_view, states=(0, 1), parameter_channels=False)
    np.testing.assert_array_equal(X, reversed_view)


def test_number_of_jobs_does_not_matter(monkeypatch):
    options = {"n_points": (32, 24), "states": (1, 4), "random_state": 0}
    together = make_gray_scott(7, **options)
    monkeypatch.setitem(_spectral._BATCH, "cpu", 2 * 32 * 24)
    one, two = (make_gray_scott(7, n_jobs=n_jobs, **options) for n_jobs in (1, 2))
    for a, b, c in zip(one, two, together, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, atol=1e-14)
    # Nor does the number of the other samples.
    np.testing.assert_allclose(make_gray_scott(3, **options)[1], one[1][:3], atol=1e-14)


def test_float32():
    options = {"n_points": (32, 32), "states": (0, 10), "random_state": 0}
    single, double = (make_gray_scott(6, dtype=dtype, **options) for dtype in ("float32", "float64"))
    for a, b in zip(single, double, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_data_are_read_again(tmp_path, monkeypatch):
    options = {"n_points": (8, 8), "states": (0, 1), "random_state": 0, "data_home": tmp_path}
    first = make_gray_scott(2, **options)
    others = [{"dtype": "float32"}, {"dt": 2.0}, {"pattern": "maze"}, {"initial": "gaussians"}, {"states": (0, 2)}]
    for other in [*others, {"return_trajectories": True}, {"parameter_channels": False}]:
        make_gray_scott(2, **{**options, **other})
    make_gray_scott(2, **{**options, "random_state": None}, initial=np.ones((2, 2, 8, 8)))
    assert len(list(tmp_path.iterdir())) == 9
    monkeypatch.setattr(_etdrk4, "ETDRK4", None)
    for a, b in zip(first, make_gray_scott(2, **options), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"pattern": "stripes"},
            r"pattern='stripes' is unknown; use 'all', one of 'gliders', 'bubbles', 'maze', 'worms'",
        ),
        ({"pattern": ["maze", "all"]}, "pattern='all' is unknown"),
        ({"pattern": (0.1, -0.1)}, r"pattern=\(0.1, -0.1\) is unknown; .* a pair \(f, k\) of non-negative rates"),
        ({"pattern": []}, r"pattern=\[\] is unknown"),
        ({"pattern": [0.1, 0.2]}, r"pattern=0.1 is unknown"),
        ({"states": (10, 5)}, r"states=\(10, 5\) must be increasing integers from 0 on, such as \(0, 1000\)"),
        ({"states": (-1, 5)}, r"states=\(-1, 5\) must be increasing integers"),
        ({"states": (0, 0.5)}, r"states=\(0, 0.5\) must be increasing integers"),
        ({"states": (0, 1, 2)}, r"states=\(0, 1, 2\) must be two for pairs; return_trajectories=True accepts any"),
        ({"states": (), "return_trajectories": True}, r"states=\(\) must be increasing integers"),
        ({"dt": 3.0}, r"dt=3 does not divide the 10 s between two states; use a whole fraction of that, such as"),
        ({"dt": 20.0}, r"dt=20 does not divide the 10 s between two states; use a whole fraction of that, such as"),
        ({"dt": 0.0}, "'dt' parameter"),
        ({"diffusivities": (1e-5, 0)}, r"diffusivities=\(1e-05, 0\) must be two positive numbers"),
        ({"diffusivities": (1e-5,)}, r"diffusivities=\(1e-05,\) must be two positive numbers"),
        ({"n_points": (8, 2)}, r"n_points=\(8, 2\) must be two integers of at least 4"),
        ({"initial": "noise"}, "'initial' parameter"),
        ({"initial": np.ones((2, 8, 8))}, r"initial has shape \(2, 8, 8\); it must be \(n_samples, 2, n_1, n_2\)"),
        ({"initial": np.full((2, 2, 8, 8), np.inf)}, "initial contains infinity"),
        ({"device": "cuda:9000"}, "device='cuda:9000' cannot be used here"),
        ({"dtype": "float16"}, "'dtype' parameter"),
        ({"data_home": "unused"}, "random_state=None does not identify the data"),
    ],
)
def test_refusals(options, message, monkeypatch):
    monkeypatch.setattr(_etdrk4, "trajectory", None)
    with pytest.raises(ValueError, match=message):
        make_gray_scott(2, **{"n_points": (8, 8), **options})


def test_a_simulation_that_blows_up():
    initial = np.stack([smooth((8, 8)), 100 * smooth((8, 8)), smooth((8, 8))])
    with pytest.raises(RuntimeError, match=r"sample 1 became infinite or NaN with dt=1; try a smaller dt, or smaller"):
        solve(initial, 100)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_gpu():
    options = {"n_points": (64, 48), "states": (0, 10), "random_state": 0}
    on_gpu, on_cpu = (make_gray_scott(6, device=device, **options) for device in ("cuda", "cpu"))
    for a, b in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
