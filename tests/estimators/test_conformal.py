"""Bands: coverage against its exact value, intervals against loops written by hand, and every kind of field."""

import pickle
from math import ceil

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, LeaveOneOut, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_hss import (
    ConformalFieldRegressor,
    FieldScaler,
    FNORegressor,
    LocalEvolutionRegressor,
    LocalOperatorRegressor,
    RolloutRegressor,
)
from sklearn_hss.datasets import make_poisson
from sklearn_hss.exceptions import DivergenceWarning
from sklearn_hss.metrics import relative_l2_scorer, trajectory_l2_scorer

ESTIMATORS = [
    ConformalFieldRegressor(Ridge()),
    ConformalFieldRegressor(RolloutRegressor(Ridge()), kind="band"),
]


@parametrize_with_checks(ESTIMATORS[:1])
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(ESTIMATORS[1:])
def test_check_estimator_around_time_stepping(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(ESTIMATORS)
def test_check_estimator_with_metadata_routing(estimator, check):
    with sklearn.config_context(enable_metadata_routing=True):
        check(estimator)


class Zero(RegressorMixin, BaseEstimator):
    """Predicts zero, or NaN where the first value of an input is above a limit."""

    def __init__(self, limit=np.inf):
        self.limit = limit

    def fit(self, X, y):
        self.shape_ = np.shape(y)[1:]
        return self

    def predict(self, X):
        prediction = np.zeros((len(X), *self.shape_))
        prediction[X[:, 0] > self.limit] = np.nan
        return prediction


@pytest.fixture(scope="module")
def noisy():
    """Sixty solutions of Poisson's equation with noise, and 500 new ones."""
    F, U = make_poisson(560, 32, modes=(1, 5), random_state=0)
    U = U + 0.05 * U.std() * np.random.default_rng(0).standard_normal(U.shape)
    F.flags.writeable = U.flags.writeable = False
    return F, U


def fitted(kind="pointwise", *, alpha=0.1, n_points=3, shape=None):
    """A regressor that predicts zero, and has been fitted to fields with errors of a given shape."""
    X = np.zeros((40, n_points))
    y = np.outer(np.linspace(-1, 1, 40), np.ones(n_points) if shape is None else shape)
    return ConformalFieldRegressor(Zero(), kind=kind, alpha=alpha, method="split", random_state=0).fit(X, y)


# Coverage


@pytest.mark.parametrize("kind", ["pointwise", "band"])
@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (20, 0.1), (20, 0.35)])
def test_coverage_is_exactly_that_of_order_statistics(kind, n, alpha):
    # |u| is uniform, so that the half-width is the coverage: a beta variable whose mean is the exact value.
    shape, rng = np.array([1.0, 2.0, 5.0]), np.random.RandomState(0)
    model = fitted(kind, alpha=alpha, shape=shape)
    coverages = []
    for _ in range(300):
        u = rng.uniform(-1, 1, n)
        model.calibrate(np.zeros((n, 3)), np.outer(u, shape))
        coverages.append((model.half_width_ / shape).min())
    k = ceil((n + 1) * (1 - alpha) - 1e-12)
    mean, variance = k / (n + 1), k * (n + 1 - k) / (n + 1) ** 2 / (n + 2)
    assert model.coverage_ == pytest.approx(mean)
    assert np.mean(coverages) == pytest.approx(mean, abs=5 * np.sqrt(variance / 300))
    assert np.var(coverages) == pytest.approx(variance, rel=0.4)


def test_coverage_of_splits_and_folds(noisy):
    F, U = noisy
    # Of thirty splits, the mean coverage has a standard deviation of 0.012; some of the samples are in several.
    for kind in ("pointwise", "band"):
        for method, n_splits, least, most in (("split", 30, 19 / 21 - 0.05, 19 / 21 + 0.05), ("cross", 10, 0.8, 1.0)):
            model = ConformalFieldRegressor(
                Ridge(1e-4), kind=kind, method=method, calibration_fraction=0.5, cv=5, random_state=0
            )
            rng, found = np.random.RandomState(0), []
            for _ in range(n_splits):
                order = rng.permutation(len(F))
                train, test = order[:40], order[40:140]
                lower, upper = model.fit(F[train], U[train]).predict_interval(F[test])
                within = (lower <= U[test]) & (U[test] <= upper)
                found.append(within.mean() if kind == "pointwise" else within.all(axis=1).mean())
            assert model.coverage_ == pytest.approx(19 / 21 if method == "split" else 0.8 - 0.875 / 6)
            assert least < np.mean(found) < most


# Intervals against loops written by hand


def test_split_is_a_quantile_of_errors(noisy):
    F, U = noisy
    frozen = FrozenEstimator(Ridge(1e-3).fit(F[:60], U[:60]))
    model = ConformalFieldRegressor(frozen, alpha=0.2).fit(F[60:99], U[60:99])
    assert (model.method_, model.n_calibration_, model.coverage_) == ("split", 39, 0.8)
    errors = np.abs(U[60:99] - frozen.predict(F[60:99]))
    expected = np.array([sorted(errors[:, j])[32 - 1] for j in range(32)])  # (39 + 1) 0.8 = 32
    np.testing.assert_allclose(model.half_width_, expected, rtol=1e-12)
    lower, upper = model.predict_interval(F[100:])
    np.testing.assert_allclose(lower, frozen.predict(F[100:]) - expected, rtol=1e-12)
    np.testing.assert_allclose(upper, frozen.predict(F[100:]) + expected, rtol=1e-12)


def test_band_is_a_quantile_of_largest_errors_relative_to_their_scale(noisy):
    F, U = noisy
    base = Ridge(1e-3).fit(F[:60], U[:60])
    model = ConformalFieldRegressor(Ridge(1e-3), kind="band", alpha=0.2, method="cross").fit(F[:60], U[:60])
    model.calibrate(F[60:99], U[60:99])
    squares = np.mean((U[:60] - base.predict(F[:60])) ** 2, axis=0)
    scale = np.sqrt(squares + 0.01 * squares.mean())
    score = sorted(np.max(np.abs(U[60:99] - base.predict(F[60:99])) / scale, axis=1))[31]
    np.testing.assert_allclose(model.half_width_, score * scale, rtol=1e-9)


@pytest.mark.parametrize(("cv", "kind"), [(LeaveOneOut(), "pointwise"), (KFold(4), "pointwise"), (KFold(4), "band")])
def test_folds_are_those_of_the_jackknife_plus(noisy, cv, kind):
    F, U = (Z[:24] for Z in noisy)
    new, alpha, n = noisy[0][30:40], 0.15, 24
    model = ConformalFieldRegressor(Ridge(1e-3), alpha=alpha, kind=kind, method="cross", cv=cv).fit(F, U)
    assert (model.method_, model.n_calibration_, model.half_width_) == ("cross", 24, None)
    low, high = np.empty((n, *new.shape)), np.empty((n, *new.shape))
    for train, test in cv.split(F):
        base = Ridge(1e-3).fit(F[train], U[train])
        squares = np.mean((U[train] - base.predict(F[train])) ** 2, axis=0)
        scale = np.sqrt(squares + 0.01 * squares.mean())
        for i in test:
            error = np.abs(U[i] - base.predict(F[[i]])[0])
            radius = error if kind == "pointwise" else scale * (error / scale).max()
            low[i], high[i] = base.predict(new) - radius, base.predict(new) + radius
    # Barber et al.: the floor(alpha (n + 1))-th smallest, and the ceil((1 - alpha) (n + 1))-th smallest.
    k_low, k_high = int(np.floor(alpha * (n + 1))), ceil((1 - alpha) * (n + 1))
    lower, upper = model.predict_interval(new)
    np.testing.assert_allclose(lower, np.sort(low, axis=0)[k_low - 1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(upper, np.sort(high, axis=0)[k_high - 1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.predict(new), Ridge(1e-3).fit(F, U).predict(new), rtol=1e-12)


def test_bands_of_folds_contain_the_prediction():
    # With half of the samples outside, ends may come from either side of the prediction.
    rng = np.random.RandomState(0)
    X, y = rng.standard_normal((12, 2)), rng.standard_normal((12, 5))
    model = ConformalFieldRegressor(Ridge(1e-8), alpha=0.9, random_state=0).fit(X, y)
    lower, upper = model.predict_interval(X)
    assert (lower <= model.predict(X)).all()
    assert (model.predict(X) <= upper).all()


def test_wide_where_the_estimator_is_bad():
    half_width = fitted("band", shape=np.array([0.0, 10.0, 100.0])).half_width_
    # Few samples say nothing of errors that never occur, so that every width is at least a tenth of the mean one.
    scale = np.sqrt(np.array([0.0, 100.0, 10000.0]) + 0.01 * 10100 / 3)
    np.testing.assert_allclose(half_width / half_width[2], scale / scale[2], rtol=1e-9)


def test_channels_have_widths_in_units_of_their_own():
    rng = np.random.RandomState(0)
    X, y = np.zeros((100, 4)), rng.standard_normal((100, 2, 4))
    widths = []
    for unit in (1.0, 1e6):
        y[:, 1] *= unit
        model = ConformalFieldRegressor(Zero(), mask=np.ones(4, bool), kind="band", method="split", random_state=0)
        widths.append(model.fit(X, y).half_width_)
    np.testing.assert_allclose(widths[1][0], widths[0][0], rtol=1e-9)
    np.testing.assert_allclose(widths[1][1], 1e6 * widths[0][1], rtol=1e-9)


# How many samples there must be


def test_too_few_samples_are_refused(noisy):
    F, U = noisy
    with pytest.raises(
        ValueError, match=r"n_samples = 8 calibrate, .* alpha=0.1 needs 9; use more samples, or alpha=0.112"
    ):
        ConformalFieldRegressor(Ridge()).fit(F[:8], U[:8])
    assert ConformalFieldRegressor(Ridge(), alpha=0.112).fit(F[:8], U[:8]).method_ == "cross"
    split = ConformalFieldRegressor(Ridge(), method="split")
    with pytest.raises(ValueError, match=r"calibration_fraction=0.25 of n_samples = 35 leaves 8 .* method='cross'"):
        split.fit(F[:35], U[:35])
    assert split.fit(F[:36], U[:36]).n_calibration_ == 9
    with pytest.raises(ValueError, match=r"n_samples = 5 calibrate, .* needs 9"):
        split.calibrate(F[:5], U[:5])
    assert split.n_calibration_ == 9  # as it was
    with pytest.raises(ValueError, match=r"alpha=0\.001 needs 999"):
        ConformalFieldRegressor(Ridge(), alpha=0.001).fit(F, U)


@pytest.mark.parametrize("alpha", [0.5, 1 / 3, 0.3, 0.1, 0.07, 0.05, 0.01])
def test_the_least_number_is_the_first_that_does(alpha):
    X = np.zeros((200, 2))
    model = ConformalFieldRegressor(FrozenEstimator(Zero().fit(X, X)), alpha=alpha)
    n = next(n for n in range(1, 200) if ceil(round((n + 1) * (1 - alpha), 9)) <= n)
    model.fit(X[:n], X[:n])
    with pytest.raises(ValueError, match=f"needs {n};" if n > 1 else "0 sample|needs 1;"):
        model.fit(X[: n - 1], X[: n - 1])


def test_method_is_chosen_by_the_number_of_samples(noisy):
    F, U = noisy
    model = ConformalFieldRegressor(Ridge(), random_state=0)
    assert model.fit(F[:195], U[:195]).method_ == "cross"
    assert model.fit(F[:196], U[:196]).method_ == "split"
    assert model.n_calibration_ == 49


def test_parameters_are_checked(noisy):
    F, U = (Z[:40] for Z in noisy)
    with pytest.raises(ValueError, match="does not hold out every sample once"):
        ConformalFieldRegressor(Ridge(), cv=ShuffleSplit(3, random_state=0)).fit(F, U)
    with pytest.raises(ValueError, match="method='cross' requires new fits"):
        ConformalFieldRegressor(FrozenEstimator(Ridge().fit(F, U)), method="cross").fit(F, U)
    for name, value in {"alpha": 1.0, "kind": "simultaneous", "method": "jackknife", "cv": 1}.items():
        with pytest.raises(ValueError, match=f"The '{name}' parameter"):
            ConformalFieldRegressor(Ridge(), **{name: value}).fit(F, U)
    with pytest.raises(TypeError, match="sample_weight"):
        ConformalFieldRegressor(Ridge()).fit(F, U, sample_weight=np.ones(40))
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        ConformalFieldRegressor(Ridge()).fit(F)
    with pytest.raises(NotFittedError):
        ConformalFieldRegressor(Ridge()).predict_interval(F)
    with pytest.raises(NotFittedError):
        ConformalFieldRegressor(Ridge()).calibrate(F, U)
    model = ConformalFieldRegressor(Ridge(), cv=2).fit(F, U)
    with pytest.raises(ValueError, match="y is missing"):
        model.calibrate(F)
    with pytest.raises(ValueError, match=r"y has shape \(40, 31\); it must have 40 samples"):
        model.calibrate(F, U[:, 1:])


# Predictions that are not finite


def test_what_is_not_finite_counts_as_an_error():
    rng = np.random.RandomState(0)
    X, y = rng.uniform(size=(50, 2)), rng.standard_normal((50, 3))
    X[:4, 0] = 2.0
    model = ConformalFieldRegressor(FrozenEstimator(Zero(1.0).fit(X, y))).fit(X, y)
    # Five of 51 may lie outside: the four of which nothing is known, and one more.
    np.testing.assert_array_equal(model.half_width_, np.sort(np.abs(y[4:]), axis=0)[-1])
    lower, upper = model.predict_interval(np.array([[0.5, 0], [2.0, 0]]))
    np.testing.assert_array_equal(upper[0], model.half_width_)
    assert (lower[1] == -np.inf).all()
    assert (upper[1] == np.inf).all()
    X[:5, 0] = 2.0
    with pytest.warns(DivergenceWarning, match="the band is infinite"):
        model.fit(X, y)
    assert (model.half_width_ == np.inf).all()
    with pytest.warns(DivergenceWarning, match="the band is infinite"):
        crossed = ConformalFieldRegressor(Zero(1.0), kind="band", method="cross").fit(X, y)
    lower, upper = crossed.predict_interval(X)
    assert np.isinf(lower).all()
    assert np.isinf(upper).all()


@pytest.mark.parametrize("size", [1e-150, 1e150])
def test_extreme_sizes(noisy, size):
    F, U = (Z[:60] for Z in noisy)
    for method in ("split", "cross"):
        model = ConformalFieldRegressor(Ridge(1e-3), kind="band", method=method, random_state=0, alpha=0.2)
        usual = np.array(model.fit(F, U).predict_interval(F))
        np.testing.assert_allclose(np.array(model.fit(F, U * size).predict_interval(F)) / size, usual, rtol=1e-6)


# Kinds of fields and of estimators


@pytest.mark.parametrize("kind", ["pointwise", "band"])
@pytest.mark.parametrize("method", ["split", "cross"])
@pytest.mark.parametrize("blank", [0.0, np.nan])
def test_masks(kind, method, blank):
    mask = np.ones((6, 7), bool)
    mask[:3, :3] = False
    rng = np.random.RandomState(0)
    X = rng.standard_normal((60, 6, 7))
    y = X[..., ::-1, :] + 0.1 * rng.standard_normal(X.shape)
    X[:, ~mask], y[:, ~mask] = 7.0, blank
    settings = {"kind": kind, "method": method, "random_state": 0, "cv": 3}
    # The mask of the estimator inside, or one of its own: those that know of none get zeros.
    local = ConformalFieldRegressor(FNORegressor(width=2, depth=1, max_epochs=2, random_state=0, mask=mask), **settings)
    models = [local, ConformalFieldRegressor(Ridge(), mask=mask, **settings)]
    for model in models:
        model.fit(X[:50], y[:50])
        lower, upper = model.predict_interval(X[50:])
        assert lower.shape == upper.shape == (10, 6, 7)
        np.testing.assert_array_equal(model.mask_, mask)
        for values in (lower, upper, model.predict(X[50:])):
            np.testing.assert_array_equal(values[:, ~mask], np.full((10, 9), blank))
        assert (lower[:, mask] < upper[:, mask]).all()
        assert np.isfinite(upper[:, mask]).all()
        assert np.isfinite(relative_l2_scorer(model, X[50:], y[50:]))
        assert np.isfinite(model.score(X[50:], y[50:]))
    # Flat rows of the points inside are the same problem.
    X[:, ~mask] = 0
    flat = ConformalFieldRegressor(Ridge(), **settings).fit(X[:50].reshape(50, -1), y[:50][:, mask])
    for end, of_flat in zip((lower, upper), flat.predict_interval(X[50:].reshape(10, -1)), strict=True):
        np.testing.assert_allclose(end[:, mask], of_flat, rtol=1e-9)


def test_channels_and_pipelines():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((40, 2, 8, 8))
    y = X[:, ::-1] + 0.1 * rng.standard_normal(X.shape)
    network = FNORegressor(width=2, depth=1, max_epochs=2, random_state=0, grid_shape=(8, 8))
    for estimator in (network, make_pipeline(FieldScaler(grid_shape=(8, 8)), network), Ridge()):
        model = ConformalFieldRegressor(estimator, kind="band", cv=2, random_state=0).fit(X, y)
        lower, upper = model.predict_interval(X.astype(np.float32))
        assert lower.shape == upper.shape == y.shape
        assert lower.dtype == upper.dtype == np.float32
        assert (lower < upper).all()
    with pytest.raises(ValueError, match=r"set estimator__fnoregressor__grid_shape"):
        ConformalFieldRegressor(make_pipeline(StandardScaler(), FNORegressor())).fit(X, y)


def test_a_single_target():
    rng = np.random.RandomState(0)
    X, y = rng.standard_normal((60, 3)), rng.standard_normal(60)
    for method in ("split", "cross"):
        model = ConformalFieldRegressor(make_pipeline(StandardScaler(), SVR()), method=method, random_state=0)
        lower, upper = model.fit(X, y).predict_interval(X)
        assert lower.shape == upper.shape == (60,)
        assert np.mean((lower <= y) & (y <= upper)) > 0.8


def test_searches_inside_and_outside(noisy):
    F, U = (Z[:60] for Z in noisy)
    inside = ConformalFieldRegressor(GridSearchCV(Ridge(), {"alpha": [1e-3, 1e3]}, cv=2), cv=2).fit(F, U)
    assert inside.estimator_.best_params_ == {"alpha": 1e-3}
    outside = GridSearchCV(
        ConformalFieldRegressor(Ridge()), {"estimator__alpha": [1e-3, 1e3]}, cv=2, scoring=relative_l2_scorer
    )
    assert outside.fit(F, U).best_params_ == {"estimator__alpha": 1e-3}


def test_a_law_is_certain_without_noise():
    F, U = make_poisson(20, 16, order=2, forcing="gaussian", random_state=0)
    model = ConformalFieldRegressor(LocalOperatorRegressor(random_state=0), cv=2, random_state=0).fit(F, U)
    lower, upper = model.predict_interval(F)
    assert np.abs(upper - lower).max() < 1e-9 * np.abs(U).max()


# Trajectories


def trajectories(n_trajectories, n_times, n_points=6, *, noise=0.0, seed=0):
    """States that a fixed matrix rotates, with errors of each."""
    matrix = np.linalg.qr(np.random.RandomState(1).standard_normal((n_points, n_points)))[0]
    rng = np.random.RandomState(seed)
    states = [rng.standard_normal((n_trajectories, n_points))]
    for _ in range(n_times - 1):
        states.append(states[-1] @ matrix.T + noise * rng.standard_normal(states[-1].shape))
    return np.stack(states, axis=1)


@pytest.mark.parametrize("kind", ["pointwise", "band"])
def test_rollouts(kind):
    U = trajectories(700, 8, noise=0.05)
    model = ConformalFieldRegressor(RolloutRegressor(Ridge()), kind=kind, random_state=0).fit(U[:300])
    lower, upper = model.predict_interval(U[300:, 0])
    assert lower.shape == upper.shape == (400, 8, 6)
    for ends in (lower, upper):
        np.testing.assert_array_equal(ends[:, 0], U[300:, 0])
    within = (lower <= U[300:]) & (U[300:] <= upper)
    found = within[:, 1:].mean() if kind == "pointwise" else within.all(axis=(1, 2)).mean()
    assert found == pytest.approx(model.coverage_, abs=0.1)
    # Errors grow with time, and so does the band.
    widths = (upper - lower).mean(axis=(0, 2))
    assert (np.diff(widths[:5]) > 0).all()
    np.testing.assert_array_equal(model.predict(U[300:, 0]), model.estimator_.rollout(U[300:, 0], 7))
    assert model.score(U[300:]) == pytest.approx(model.estimator_.score(U[300:]))
    assert trajectory_l2_scorer(model, U[300:]) == pytest.approx(trajectory_l2_scorer(model.estimator_, U[300:]))
    width = model.half_width_.mean()
    assert model.calibrate(U[300:]).half_width_.mean() == pytest.approx(width, rel=0.2)
    assert model.n_calibration_ == 400
    with pytest.raises(ValueError, match="y was given"):
        model.score(U[300:, 0], U[300:, 1])
    with pytest.raises(ValueError, match="n_times=5, but those of the fit have n_times=8"):
        model.calibrate(U[300:, :5])


def test_rollouts_of_few_trajectories():
    U = trajectories(50, 5, noise=0.05)
    search = GridSearchCV(RolloutRegressor(Ridge()), {"estimator__alpha": [1e-3, 1e3]}, cv=2)
    for estimator in (search, RolloutRegressor(Ridge(1e-3)), FrozenEstimator(RolloutRegressor(Ridge(1e-3)).fit(U))):
        model = ConformalFieldRegressor(estimator, cv=3, random_state=0).fit(U[:30])
        lower, upper = model.predict_interval(U[30:, 0])
        assert np.mean((lower <= U[30:]) & (U[30:] <= upper)) > 0.8
    # One step, from pairs.
    pairs = ConformalFieldRegressor(RolloutRegressor(Ridge(1e-3)), cv=3, random_state=0).fit(U[:, 0], U[:, 1])
    assert pairs.predict_interval(U[:, 0])[0].shape == (50, 6)


def test_rollouts_with_a_mask_and_channels():
    mask = np.array([False, True, True, True, True, True, True, False])
    U = np.full((140, 4, 2, 8), np.nan)
    U[..., mask] = trajectories(140, 4, 12, noise=0.05).reshape(140, 4, 2, 6)
    U[:, :, 1] *= 1e4
    for estimator in (RolloutRegressor(Ridge(), mask=mask), RolloutRegressor(Ridge())):
        model = ConformalFieldRegressor(estimator, kind="band", mask=mask, cv=4, random_state=0).fit(U[:40])
        lower, upper = model.predict_interval(U[40:, 0])
        assert np.isnan(lower[..., ~mask]).all()
        assert np.isnan(upper[..., ~mask]).all()
        within = ((lower <= U[40:]) & (U[40:] <= upper))[..., mask]
        assert within.all(axis=(1, 2, 3)).mean() > 0.8
        widths = (upper - lower)[:, 1:, :, mask].mean(axis=(0, 1, 3))
        assert widths[1] / widths[0] == pytest.approx(1e4, rel=0.5)
        np.testing.assert_array_equal(model.mask_, mask)


@pytest.mark.slow
def test_rollouts_of_laws():
    x = np.arange(16) / 16
    rng, decay = np.random.RandomState(0), np.exp(-0.05 * np.arange(1, 4) ** 2)
    c = rng.standard_normal((20, 2, 3))
    waves = np.stack(
        [np.sin(2 * np.pi * np.outer(np.arange(1, 4), x)), np.cos(2 * np.pi * np.outer(np.arange(1, 4), x))]
    )
    U = np.stack([np.einsum("nik,ikx->nx", c * decay**t, waves) for t in range(4)], axis=1)
    model = ConformalFieldRegressor(LocalEvolutionRegressor(degree=1, random_state=0), cv=2, random_state=0).fit(U)
    lower, upper = model.predict_interval(U[:, 0])
    assert lower.shape == U.shape
    assert np.abs(upper - lower).max() < 0.05
    assert model.score(U) > 0.999


# The same numbers, always


def test_numbers_are_the_same_in_parallel_and_after_pickling(noisy):
    F, U = (Z[:40] for Z in noisy)
    model = ConformalFieldRegressor(
        FNORegressor(width=2, depth=1, max_epochs=2, random_state=0), kind="band", cv=3, random_state=0
    )
    expected = np.array(model.fit(F, U).predict_interval(F))
    again = clone(model).set_params(n_jobs=2)
    with sklearn.utils.parallel.joblib.parallel_config("threading"):
        np.testing.assert_array_equal(again.fit(F, U).predict_interval(F), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_interval(F), expected)
    split = ConformalFieldRegressor(Ridge(), method="split", random_state=3)
    np.testing.assert_array_equal(split.fit(F, U).half_width_, clone(split).fit(F, U).half_width_)
    assert (split.half_width_ != clone(split).set_params(random_state=4).fit(F, U).half_width_).any()


def test_parameters_that_are_set_later_wait_for_the_next_fit(noisy):
    F, U = (Z[:40] for Z in noisy)
    model = ConformalFieldRegressor(Ridge(), cv=2, random_state=0).fit(F, U)
    expected = model.predict_interval(F)
    np.testing.assert_array_equal(model.set_params(alpha=0.5, kind="band").predict_interval(F), expected)


def test_an_interrupted_fit_leaves_the_earlier_one(noisy):
    F, U = (Z[:40] for Z in noisy)
    model = ConformalFieldRegressor(Ridge(), cv=2, random_state=0).fit(F, U)
    expected = model.predict_interval(F)
    with pytest.raises(ValueError, match="groups"):
        model.set_params(cv=GroupKFold(2)).fit(F, U)
    np.testing.assert_array_equal(model.predict_interval(F), expected)
