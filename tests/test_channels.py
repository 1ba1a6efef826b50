"""Channels of different units are learned alike, and none is hidden by another of larger numbers."""

import numpy as np
import pytest
from entrances import FLAT_MAPS, LINEAR, NETWORKS, apply, name_of
from sklearn.base import clone
from sklearn.linear_model import Ridge

from sklearn_hss import (
    FNORegressor,
    GreenLearningRegressor,
    HSSRegressor,
    LocalOperatorRegressor,
    NeuralHSSRegressor,
    RolloutRegressor,
)
from sklearn_hss.datasets import make_poisson
from sklearn_hss.estimators._score import field_r2
from sklearn_hss.metrics import relative_l2_error, trajectory_l2_error

F, U = make_poisson(60, 32, forcing="grf", length_scale=0.3, random_state=0)
SLOPE = np.gradient(U, axis=1)
# The same two quantities in units of their own size, and in units 1e5 apart.
EVEN = np.stack([U / np.abs(U).max(), SLOPE / np.abs(SLOPE).max()], axis=1)
UNITS = np.array([1e5, 1e-3])[:, None]
UNEVEN = EVEN * UNITS
X = F[:, None]
WITH_CHANNELS = [model for model in FLAT_MAPS if not isinstance(model, GreenLearningRegressor | LocalOperatorRegressor)]


@pytest.mark.parametrize("model", WITH_CHANNELS, ids=name_of)
def test_units_do_not_matter(model):
    model = clone(model)
    model.set_params(**{name: (32,) for name in model.get_params() if name.endswith("grid_shape")})
    even = apply(clone(model).fit(np.concatenate([X, EVEN], axis=1), EVEN), np.concatenate([X, EVEN], axis=1))
    inputs = np.concatenate([1e-4 * X, UNEVEN], axis=1)
    uneven = apply(clone(model).fit(inputs, UNEVEN), inputs)
    error = relative_l2_error(even, uneven / UNITS, multioutput="raw_values")
    np.testing.assert_array_less(error, 1e-8)


@pytest.mark.parametrize("model", [NeuralHSSRegressor(init="random"), FNORegressor(width=8, depth=2)], ids=name_of)
def test_training_does_not_lose_a_channel(model):
    model.set_params(grid_shape=(32,), max_epochs=150, lr=1e-2, batch_size=20, random_state=0).fit(X[:40], UNEVEN[:40])
    errors = relative_l2_error(UNEVEN[40:], model.predict(X[40:]), multioutput="raw_values")
    assert errors.max() < 0.3
    # With one scale, the second channel would be left as it was drawn: its error is in the hundreds.
    assert errors.max() < 20 * errors.min()


@pytest.mark.parametrize("model", LINEAR, ids=name_of)
def test_linear_maps_are_exact_in_every_channel(model):
    fitted = clone(model).set_params(grid_shape=(32,)).fit(X[:40], UNEVEN[:40])
    errors = relative_l2_error(UNEVEN[40:], apply(fitted, X[40:]), multioutput="raw_values")
    np.testing.assert_array_less(errors, 1e-6)
    # The operator is that of the units of the data.
    product = (fitted.operator_ @ X[40:].reshape(20, -1).T).T.reshape(20, 2, 32)
    if np.ndim(fitted.intercept_) == 0:
        np.testing.assert_allclose(product, apply(fitted, X[40:]))


def test_the_score_shows_a_lost_channel():
    model = HSSRegressor(grid_shape=(32,), random_state=0).fit(X, UNEVEN)
    lost = UNEVEN * [[[1.0], [0.0]]]

    def predict(inputs):
        return lost

    model.predict = predict
    assert model.score(X, UNEVEN) < 0.6
    np.testing.assert_allclose(model.score(X, UNEVEN, multioutput="raw_values"), [1, 0], atol=0.1)
    with pytest.raises(ValueError, match="multioutput='all' must be"):
        model.score(X, UNEVEN, multioutput="all")


def test_metrics_by_channel():
    rng = np.random.RandomState(0)
    wrong = UNEVEN * (1 + np.array([[0.1], [0.5]]) * rng.choice([-1, 1], UNEVEN.shape))
    for metric in (relative_l2_error, trajectory_l2_error):
        single = [metric(UNEVEN[:, i], wrong[:, i]) for i in range(2)]
        np.testing.assert_allclose(metric(UNEVEN, wrong, multioutput="raw_values"), single)
        assert metric(UNEVEN, wrong, multioutput="uniform_average") == pytest.approx(np.mean(single))
        assert metric(UNEVEN, wrong) == metric(UNEVEN, wrong, multioutput="joint")
        with pytest.raises(ValueError, match="requires fields with channels"):
            metric(UNEVEN[:, 0], wrong[:, 0], multioutput="raw_values")
        with pytest.raises(ValueError, match="multioutput='both' must be"):
            metric(UNEVEN, wrong, multioutput="both")
    np.testing.assert_allclose(relative_l2_error(UNEVEN, wrong, multioutput="raw_values"), [0.1, 0.5])


@pytest.mark.parametrize("model", [NETWORKS[0], HSSRegressor(random_state=0)], ids=name_of)
def test_rollouts_have_a_scale_per_channel(model):
    states = np.stack([UNEVEN, 0.9 * UNEVEN, 0.81 * UNEVEN], axis=1)
    rollouts = RolloutRegressor(clone(model).set_params(grid_shape=(32,)), residual=True).fit(states)
    np.testing.assert_allclose(rollouts.scale_, 0.1 * np.abs(UNEVEN).max(axis=(0, 2)))
    flat = RolloutRegressor(Ridge()).fit(states.reshape(60, 3, -1))
    assert flat.scale_.shape == (1,)
    if isinstance(model, HSSRegressor):
        error = relative_l2_error(states[:, 2], rollouts.rollout(UNEVEN, 2)[:, 2], multioutput="raw_values")
        np.testing.assert_array_less(error, 1e-6)


def test_a_channel_that_does_not_vary_is_measured_by_itself():
    static = np.broadcast_to(U[:1], U.shape)
    both = np.stack([U, static], axis=1)
    for error, expected in ((0.0, 1.0), (1e-3, 1 - 1e-6), (1.0, 0.0)):
        predicted = np.stack([U, (1 - error) * static], axis=1).reshape(60, -1)
        found = field_r2(both.reshape(60, -1), predicted, n_channels=2, multioutput="raw_values")
        np.testing.assert_allclose(found, [1.0, expected], atol=1e-9)
