"""A law and its correction: against sums written by hand, and problems whose parts are known."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_hss import (
    FieldScaler,
    HSSRegressor,
    LocalEvolutionRegressor,
    NeuralHSSRegressor,
    RolloutRegressor,
)
from sklearn_hss import ResidualRegressor as Residual
from sklearn_hss.exceptions import DivergenceWarning, UnverifiedFitWarning
from sklearn_hss.metrics import relative_l2_error

TINY = NeuralHSSRegressor(init="random", max_epochs=2, random_state=0)
SQUARES = KernelRidge(kernel="poly", degree=2, alpha=1e-8)


def samples(n_samples=80, shape=(12,), seed=0):
    """X, and targets of a linear map and a smaller part that is quadratic."""
    rng = np.random.RandomState(seed)
    X, n = rng.standard_normal((n_samples, *shape)), int(np.prod(shape))
    rows = X.reshape(n_samples, n)
    linear, squares = rng.standard_normal((2, n, n)) / n**0.5
    return X, (rows @ linear).reshape(X.shape), 0.1 * ((rows @ squares)[:, :1] ** 2 * rows[:1]).reshape(X.shape)


class Recorder(RegressorMixin, BaseEstimator):
    """Keeps what it was fitted to, and predicts zeros."""

    def fit(self, X, y, sample_weight=None):
        self.seen_ = X, y, sample_weight
        return self

    def predict(self, X):
        return np.zeros((len(X), *self.seen_[1].shape[1:]))


class First(RegressorMixin, BaseEstimator):
    """The exact law y = 2 x, or what a function of it makes of this; as many features as y has."""

    def __init__(self, change=None):
        self.change = change

    def fit(self, X, y, sample_weight=None):
        self.n_ = int(np.prod(y.shape[1:]))
        return self

    def predict(self, X):
        y = 2 * X[:, : self.n_]
        return y if self.change is None else self.change(y)


def above(y):
    """Infinite where the first value is positive."""
    return np.where(y[:, :1] > 0, np.inf, y)


@pytest.mark.parametrize("with_prediction", [False, True])
@pytest.mark.parametrize("cv", [None, 4])
def test_prediction_is_the_sum_of_two_fits(cv, with_prediction):
    X, linear, rest = samples()
    y = linear + rest
    model = Residual(Ridge(), KNeighborsRegressor(3), with_prediction=with_prediction, cv=cv, only_if_better=False)
    model.fit(X[:60], y[:60])
    law = Ridge().fit(X[:60], y[:60])
    predicted, new = law.predict(X[:60]) if cv is None else cross_val_predict(Ridge(), X[:60], y[:60], cv=4), X[60:]
    inputs = (np.hstack([X[:60], predicted]), np.hstack([new, law.predict(new)])) if with_prediction else (X[:60], new)
    # Neighbours take an average of targets, whatever these were divided by.
    rest = KNeighborsRegressor(3).fit(inputs[0], y[:60] - predicted).predict(inputs[1])
    np.testing.assert_allclose(model.predict(new), law.predict(new) + rest, rtol=1e-12)
    np.testing.assert_allclose(model.scale_, np.abs(y[:60] - predicted).max(), rtol=1e-12)
    assert model.corrected_
    assert np.isnan(model.held_out_error_)
    assert model.reason_ == "only_if_better=False"


def test_law_and_correction_beat_either():
    X, linear, rest = samples(120, (8,))
    y, (train, test) = linear + rest, (slice(100), slice(100, None))
    model = Residual(Ridge(1e-8), SQUARES).fit(X[train], y[train])
    error = relative_l2_error(y[test], model.predict(X[test]))
    assert error < 1e-5 < 1e-2 < relative_l2_error(y[test], model.law_.predict(X[test]))
    assert model.corrected_
    assert "lowers" in model.reason_
    assert model.held_out_error_ < 1e-5
    # By hand, on the last fifth of the training samples.
    law = Ridge(1e-8).fit(X[:80], y[:80])
    assert np.isclose(model.law_error_, np.linalg.norm(law.predict(X[80:100]) - y[80:100]) / np.linalg.norm(y[80:100]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("correction", [make_pipeline(StandardScaler(), Ridge()), TINY, KNeighborsRegressor()])
def test_exact_law_needs_no_correction(correction, dtype):
    X = samples()[0].astype(dtype)
    model = Residual(First(), correction).fit(X, 2 * X)
    assert not model.corrected_
    assert model.correction_ is None
    assert model.scale_ is None
    assert "exact" in model.reason_
    assert model.law_error_ == model.held_out_error_ == 0
    np.testing.assert_array_equal(model.predict(X), 2 * X)
    forced = Residual(First(), correction, only_if_better=False).fit(X, 2 * X)
    assert not forced.corrected_
    assert forced.reason_ == "the law is exact"
    assert forced.predict(X).dtype == dtype


@pytest.mark.parametrize("cv", [None, 5])
def test_correction_of_noise_is_not_used(cv):
    X, linear, _ = samples(100)
    y = linear + 0.1 * np.random.RandomState(1).standard_normal(linear.shape)
    model = Residual(Ridge(), RandomForestRegressor(5, random_state=0), cv=cv).fit(X, y)
    assert not model.corrected_
    assert "does not lower" in model.reason_
    assert model.held_out_error_ == model.law_error_
    np.testing.assert_array_equal(model.predict(X), Ridge().fit(X, y).predict(X))


def test_law_that_comes_too_close_to_its_samples_needs_folds():
    X, linear, rest = samples(40, (60,))
    y = linear + 5 * rest[:, :1]
    seen = Residual(LinearRegression(), KNeighborsRegressor(), only_if_better=False).fit(X, y)
    unseen = Residual(LinearRegression(), KNeighborsRegressor(), only_if_better=False, cv=5).fit(X, y)
    assert unseen.scale_ > 1e6 * seen.scale_


def test_channels_of_different_size_and_without_residual():
    X = np.random.RandomState(0).standard_normal((30, 3, 8))
    y = np.stack([2 * X[:, 0] + 1e-3 * X[:, 1] ** 2, 2 * X[:, 1] + 1e3 * X[:, 0], 2 * X[:, 2]], axis=1)
    correction = Recorder()
    model = Residual(make_pipeline(First()), correction, only_if_better=False).fit(X.reshape(30, -1), y.reshape(30, -1))
    assert model.scale_.shape == (1,)  # no grid is known
    nested = HSSRegressor(grid_shape=8, random_state=0)
    model = Residual(nested, clone(correction), only_if_better=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the law is not linear
        model.fit(X, y)
    left = y - model.law_.predict(X)
    np.testing.assert_allclose(model.scale_, np.abs(left).max(axis=(0, 2)), rtol=1e-6)
    targets = model.correction_.seen_[1].reshape(y.shape)
    np.testing.assert_allclose(np.abs(targets).max(axis=(0, 2)), 1)


def test_fields_and_rows():
    X, linear, rest = samples(40, (4, 6))
    y = linear + rest
    model = Residual(TINY, Recorder(), only_if_better=False).fit(X, y)
    rows, targets, _ = model.correction_.seen_
    assert rows.shape == targets.shape == (40, 24)
    assert model.predict(X[:3]).shape == (3, 4, 6)
    model = Residual(Ridge(), TINY, only_if_better=False).fit(X, y)
    assert model.correction_.predict(X).shape == y.shape
    np.testing.assert_allclose(
        model.predict(X),
        Ridge().fit(X.reshape(40, -1), y.reshape(40, -1)).predict(X.reshape(40, -1)).reshape(y.shape)
        + model.scale_ * model.correction_.predict(X),
    )
    # Predictions of the law as a channel behind those of X, or as features.
    model = Residual(Ridge(), clone(TINY).set_params(grid_shape=(4, 6)), with_prediction=True, only_if_better=False)
    assert model.fit(X, y).correction_.n_features_in_ == 48
    assert model.fit(X[:, None], y[:, None]).predict(X[:, None]).shape == (40, 1, 4, 6)
    model = Residual(Ridge(), Ridge(), with_prediction=True).fit(X, y[:, 0, 0])
    assert model.predict(X).shape == (40,)


def test_single_numbers_are_given_as_such():
    X, linear, _ = samples()
    model = Residual(Ridge(), RandomForestRegressor(5, random_state=0), only_if_better=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.fit(X, linear[:, 0] ** 2).predict(X).shape == (80,)
        assert model.score(X, linear[:, 0] ** 2) > 0.5


def test_what_lies_outside_of_a_mask_does_not_matter():
    X, linear, rest = samples(60, (5, 6))
    mask = np.ones((5, 6), bool)
    mask[3:, :2] = False
    X, y = X * mask, (linear + rest) * mask
    reference = Residual(Ridge(), SQUARES).fit(X, y)
    spoilt = [np.where(mask, fields, np.nan) for fields in (X, y)]
    for given in (mask, "auto"):
        model = Residual(Ridge(), SQUARES, mask=given).fit(*spoilt)
        found = model.predict(spoilt[0])
        np.testing.assert_allclose(found[:, mask], reference.predict(X)[:, mask])
        assert np.isnan(found[:, ~mask]).all()
        assert np.isclose(model.score(*spoilt), reference.score(X, y))
        np.testing.assert_array_equal(model.mask_, mask)
    with pytest.raises(ValueError, match=r"NaN.*pass mask="):
        Residual(Ridge(), SQUARES).fit(*spoilt)
    bad = X.copy()
    bad[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="inside of the mask"):
        Residual(Ridge(), SQUARES, mask=mask).fit(bad, y)


@pytest.mark.parametrize("cv", [None, 3, KFold(4, shuffle=True, random_state=0)])
def test_weights(cv):
    X, linear, rest = samples(40)
    y, weight = linear + rest, np.random.RandomState(1).randint(0, 3, 40).astype(float)
    model = Residual(Ridge(), Recorder(), cv=cv, only_if_better=False).fit(X, y, weight)
    np.testing.assert_array_equal(model.law_.coef_, Ridge().fit(X[weight > 0], y[weight > 0], weight[weight > 0]).coef_)
    np.testing.assert_array_equal(model.correction_.seen_[2], weight[weight > 0])
    with pytest.raises(ValueError, match="sample_weight was given, but fit of the estimator KNeighborsRegressor"):
        Residual(Ridge(), KNeighborsRegressor()).fit(X, y, weight)
    with pytest.raises(ValueError, match="sample_weight was given, but fit of the estimator KNeighborsRegressor"):
        Residual(KNeighborsRegressor(), Ridge()).fit(X, y, weight)


@pytest.mark.parametrize("n_samples", [1, 2])
def test_few_samples_are_too_few_to_judge(n_samples):
    X, linear, _ = samples(n_samples)
    with pytest.warns(UnverifiedFitWarning, match=f"n_samples = {n_samples} are too few to hold any out"):
        model = Residual(DummyRegressor(strategy="constant", constant=np.zeros(12)), Ridge()).fit(X, linear)
    assert not model.corrected_
    assert np.isnan(model.law_error_)
    model.set_params(correction=Ridge(1e-10), only_if_better=False).fit(X, linear)
    np.testing.assert_allclose(model.predict(X), linear, atol=1e-6)


def test_law_that_diverges_is_not_corrected():
    X, linear, _ = samples()
    with pytest.warns(DivergenceWarning, match=rf"infinite or NaN for {(X[:, 0] > 0).sum()} of 80 training samples"):
        model = Residual(First(above), Ridge()).fit(X, linear)
    assert not model.corrected_
    last = X[np.argsort(X[:, 0] > 0, kind="stable")]  # those that diverge are held out
    with pytest.warns(DivergenceWarning, match="held out|training samples"):
        assert not Residual(First(above), Ridge()).fit(last, last).corrected_
    # Where only new samples do, these are NaN, and the others are corrected as ever.
    model = Residual(First(above), Ridge(), only_if_better=False).fit(X[X[:, 0] <= 0], linear[X[:, 0] <= 0])
    found = model.predict(X)
    assert model.corrected_
    assert (np.isfinite(found).all(axis=1) == (X[:, 0] <= 0)).all()
    assert np.isnan(found[X[:, 0] > 0]).all()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Residual(Ridge(), make_pipeline(StandardScaler(), TINY)), r"set correction__neuralhssregressor__grid_shape"),
        (Residual(make_pipeline(StandardScaler(), TINY), Ridge()), r"set law__neuralhssregressor__grid_shape"),
        (
            Residual(Ridge(), TINY, with_prediction=True),
            r"set grid_shape of the correction, such as to \(4, 6\)",
        ),
        (Residual(Ridge(), Ridge(), cv=ShuffleSplit(2, random_state=0)), "does not hold out every sample once"),
        (Residual(Ridge(), Ridge(), cv=True), "'cv' parameter"),
        (Residual(Ridge(), 3), "'correction' parameter"),
        (Residual(Ridge(), Ridge(), mask=np.ones(5, bool)), r"mask has shape \(5,\)"),
    ],
)
def test_refused_before_any_fit(model, message):
    X, linear, _ = samples(10, (4, 6))
    with pytest.raises(ValueError, match=message):
        model.fit(X, linear)


def test_failed_fit_leaves_the_one_before():
    X, linear, rest = samples()
    model = Residual(Ridge(), SQUARES).fit(X, linear + rest)
    before = model.predict(X)
    with pytest.raises(ValueError, match="inconsistent"):
        model.fit(X, linear[:5])
    np.testing.assert_array_equal(model.predict(X), before)


def test_searches_pipelines_clones_and_pickles():
    X, linear, rest = samples(40, (16,))
    y = linear + rest
    model = make_pipeline(FieldScaler(), Residual(Ridge(), clone(TINY)))
    search = GridSearchCV(model, {"residualregressor__correction__rank": [1, 2]}, cv=2, error_score="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs
        search.fit(X, y)
        again = clone(search.best_estimator_).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), search.predict(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(search)).predict(X), search.predict(X))
    # A search inside.
    inner = GridSearchCV(KNeighborsRegressor(), {"n_neighbors": [1, 3]}, cv=2)
    assert Residual(Ridge(), inner, only_if_better=False).fit(X, y).correction_.best_params_
    names = [f"x{i}" for i in range(16)]
    framed = Residual(Ridge(), SQUARES).fit(pd.DataFrame(X, columns=names), pd.DataFrame(y))
    np.testing.assert_array_equal(framed.feature_names_in_, names)


def test_rollouts_with_parameters_of_the_equation():
    rng = np.random.RandomState(0)
    states, parameter = rng.standard_normal((60, 1, 4)), rng.uniform(1, 2, (60, 1, 1)) * np.ones((1, 1, 4))

    def step(u, p):
        return 0.9 * np.roll(u, 1, axis=-1) + 0.02 * p * u.mean(-1, keepdims=True)

    X = np.concatenate([states, parameter], axis=1)
    model = RolloutRegressor(Residual(Ridge(1e-8), SQUARES), residual=False, scale=None).fit(X, step(states, parameter))
    found = model.rollout(X[:5], 10)
    expected = states[:5]
    for k in range(1, 11):
        expected = step(expected, parameter[:5])
        np.testing.assert_allclose(found[:, k, :1], expected, atol=1e-4)
    np.testing.assert_array_equal(found[:, -1, 1:], parameter[:5])
    assert model.estimator_.corrected_


def test_rollouts_of_a_law_and_what_is_not_local():
    rng = np.random.RandomState(0)
    n, x = 32, np.arange(32) / 32
    states = rng.standard_normal((12, 4)) @ np.sin(
        2 * np.pi * np.arange(1, 5)[:, None] * (x + rng.uniform(size=(4, 1)))
    )
    k = 2j * np.pi * np.arange(n // 2 + 1)

    def step(u):
        diffused = np.fft.irfft(np.exp(0.1 * 1e-2 * k**2) * np.fft.rfft(u), n)
        return diffused + 0.02 * np.square(u).mean(-1, keepdims=True) * np.sin(2 * np.pi * x) ** 3

    trajectories = [states]
    for _ in range(5):
        trajectories.append(step(trajectories[-1]))
    trajectories = 1e3 * np.stack(trajectories, axis=1)  # units matter to a law, and are left alone
    law = LocalEvolutionRegressor(1, 1, dt=0.1, spacing=1 / n, boundary="periodic", form="law", random_state=0)
    errors = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the law is not local
        for name, model in {"law": law, "both": Residual(law, SQUARES)}.items():
            model = RolloutRegressor(model).fit(trajectories[:10])
            assert not model.increments_
            np.testing.assert_array_equal(model.scale_, 1)
            errors[name] = relative_l2_error(trajectories[10:, 1:], model.rollout(trajectories[10:, 0], 5)[:, 1:])
    assert errors["both"] < 0.2 * errors["law"]
    assert model.estimator_.corrected_
    with pytest.raises(ValueError, match="a law du/dt = N\\(u\\) requires states; use 'auto'"):
        RolloutRegressor(Residual(law, SQUARES), residual=True).fit(trajectories)
