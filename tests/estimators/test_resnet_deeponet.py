"""ResNet and DeepONet as regressors: what they learn, their own parameters, and what they refuse."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_hss import DeepONetRegressor, ResNetRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.estimators._base import BaseNeuralRegressor
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer

SMALL = [
    ResNetRegressor(width=4, depth=2, max_epochs=2, lr=1e-2, random_state=0),
    DeepONetRegressor(width=8, depth=2, max_epochs=2, lr=1e-2, random_state=0),
]
each = pytest.mark.parametrize("model", SMALL, ids=lambda model: type(model).__name__)


def white(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def fitted(model, *data, **parameters):
    return clone(model).set_params(**parameters).fit(*data)


@pytest.mark.parametrize(
    ("model", "bound"),
    [
        # Six blocks of these dilations see the whole interval, which the solution depends on.
        (ResNetRegressor(width=16, depth=6, dilations=(1, 2, 4), max_epochs=50), 0.3),
        (DeepONetRegressor(width=64, max_epochs=100), 0.3),
    ],
    ids=["ResNet", "DeepONet"],
)
def test_learns_poisson(model, bound):
    F, U = make_poisson(120, 64, random_state=0)
    model.set_params(lr=3e-3, batch_size=20, dtype="float32", random_state=0).fit(F[:100], U[:100])
    mean = np.broadcast_to(U[:100].mean(axis=0), U[100:].shape)
    error = relative_l2_error(U[100:], model.predict(F[100:]))
    assert error < bound < relative_l2_error(U[100:], mean) / 2
    assert model.score(F[100:], U[100:]) > 0.9


@pytest.mark.parametrize(
    ("regressor", "grid", "expected"),
    [
        (ResNetRegressor, (256,), 167_185),
        (ResNetRegressor, (8, 8), 295_617),
        (ResNetRegressor, (4, 4, 4), 249_169),
        (DeepONetRegressor, (128,), 247_489),
        (DeepONetRegressor, (64, 64), 287_361),
        (DeepONetRegressor, (4, 4, 4), 107_905),
        (DeepONetRegressor, (2, 3, 2, 2), 102_913),
    ],
)
def test_structure_of_the_paper(regressor, grid, expected):
    X = white(2, *grid)
    model = regressor(settings="paper", max_epochs=1, random_state=0).fit(X, X)
    assert model.n_parameters_ == expected
    assert model.predict(X).shape == X.shape


@pytest.mark.parametrize(("grid", "dilations"), [((64,), [1, 2, 4, 8]), ((5,), [1, 2, 4, 1]), ((1, 9), [1, 1, 1, 1])])
def test_dilations_fit_the_grid(grid, dilations):
    X = white(4, *grid)
    model = ResNetRegressor(max_epochs=1, random_state=0).fit(X, X)
    assert [block[0].dilation[-1] for block in model.net_.module_.blocks] == dilations


@each
@pytest.mark.parametrize(
    ("shape", "target", "grid_shape"),
    [
        ((13,), (13,), None),
        ((13,), (7,), None),
        ((12,), (), None),
        ((5, 7), (5, 7), None),
        ((5, 7), (3, 8), None),
        ((35,), (35,), (5, 7)),
        ((2, 5, 7), (3, 5, 7), (5, 7)),
        ((5, 7), (2, 5, 7), (5, 7)),
        ((2, 13), (13,), 13),
        ((3, 2, 4), (3, 2, 4), None),
        ((2, 3, 2, 4), (3, 2, 4), (3, 2, 4)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shapes(model, shape, target, grid_shape, dtype):
    X, Y = white(6, *shape).astype(dtype), white(6, *target, seed=1).astype(dtype)
    model = fitted(model, X, Y, grid_shape=grid_shape)
    prediction = model.predict(X)
    assert prediction.shape == Y.shape
    assert prediction.dtype == dtype
    assert next(model.net_.module_.parameters()).dtype == getattr(torch, np.dtype(dtype).name)
    assert np.isfinite(prediction).all()


GRIDS = {
    ResNetRegressor: {"width": [2, 8], "depth": [1], "kernel_size": [1, 3], "dilations": [(1,), (4,)]},
    DeepONetRegressor: {"width": [2, 16], "depth": [1, 3]},
}


@each
def test_grid_search_over_own_parameters(model, poisson):
    grid = GRIDS[type(model)]
    model.set_params(dtype="float64")  # in which rounding does not tell equal scores apart
    search = GridSearchCV(model, grid, cv=2, scoring=relative_l2_scorer, error_score="raise").fit(*poisson)
    scores = search.cv_results_["mean_test_score"]
    # Of one point, every dilation is the same.
    assert len(np.unique(scores)) == (6 if "dilations" in grid else 4)
    assert len(scores) == np.prod([len(values) for values in grid.values()])
    assert search.best_score_ == max(scores)
    for name, value in search.best_params_.items():
        assert search.best_estimator_.net_.get_params()[f"module__{name}"] == value


@each
def test_same_seed_same_bits(model, poisson):
    predictions = [fitted(model, *poisson, random_state=seed).predict(poisson[0]) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(predictions[0], predictions[1])
    assert not np.array_equal(predictions[0], predictions[2])


@each
def test_pickle(model, poisson):
    F, U = poisson
    model = fitted(model, F, U, warm_start=True)
    expected = model.predict(F)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(F), expected)
    # Training the copy does not affect the original, and both continue in the same way.
    copy.fit(F, U)
    np.testing.assert_array_equal(model.predict(F), expected)
    np.testing.assert_array_equal(model.fit(F, U).predict(F), copy.predict(F))


@each
def test_predictions_follow_the_training(model, poisson):
    # The values of DeepONet's trunk are kept between predictions, but not beyond a change of its weights.
    F, U = poisson
    model = fitted(model, F, U, warm_start=True, max_epochs=5, scale="max")
    for train in (model.partial_fit, model.fit):
        before = model.predict(F)
        np.testing.assert_array_equal(model.predict(F), before)
        train(F, U)
        after = model.predict(F)
        assert not np.array_equal(after, before)
        model.net_.module_.zero_grad()
        x = torch.from_numpy(F / model.x_scale_).to(next(model.net_.module_.parameters()))
        with torch.enable_grad():
            direct = model.net_.module_(x).detach().numpy() * model.y_scale_
        np.testing.assert_allclose(after, direct, rtol=1e-6, atol=1e-9)


def test_trunk_is_evaluated_once_for_all_predictions(poisson):
    F, U = poisson
    model = fitted(SMALL[1], F, U, batch_size=8)
    calls = []
    model.net_.module_.trunk.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(3):
        model.predict(F)
    assert len(calls) == 1


CHANGES = [
    (SMALL[0], "width", 5),
    (SMALL[0], "depth", 3),
    (SMALL[0], "kernel_size", 5),
    (SMALL[0], "dilations", (1, 2)),
    (SMALL[0], "padding_mode", "circular"),
    (SMALL[1], "width", 9),
    (SMALL[1], "depth", 3),
]


@pytest.mark.parametrize(("model", "name", "value"), CHANGES)
def test_another_structure_is_no_warm_start(model, name, value, poisson):
    model = fitted(model, *poisson, warm_start=True)
    before = model.predict(poisson[0])
    old = getattr(model, name)
    model.set_params(**{name: value})
    with pytest.raises(ValueError, match=f"{name}=.* differs from .* of the earlier fit"):
        model.fit(*poisson)
    np.testing.assert_array_equal(model.predict(poisson[0]), before)
    assert model.set_params(**{name: old}).fit(*poisson).n_iter_ == 4
    assert model.set_params(**{name: value}, warm_start=False).fit(*poisson).n_iter_ == 2


def test_dilations_may_be_a_list(poisson):
    predictions = [fitted(SMALL[0], *poisson, dilations=d).predict(poisson[0]) for d in ([1, 2], (1, 2))]
    np.testing.assert_array_equal(*predictions)


REFUSALS = [
    (SMALL[0], (8,), {"width": 0}, "The 'width' parameter"),
    (SMALL[0], (8,), {"width": "wide"}, "The 'width' parameter"),
    (SMALL[0], (8,), {"depth": 1.5}, "The 'depth' parameter"),
    (SMALL[0], (8,), {"kernel_size": 0}, "The 'kernel_size' parameter"),
    (SMALL[0], (8,), {"kernel_size": 2}, "kernel_size=2 is even and .* 3 is the next that works"),
    (SMALL[0], (8,), {"dilations": 2}, "The 'dilations' parameter"),
    (SMALL[0], (8,), {"dilations": []}, "dilations=.* must be one or several positive integers"),
    (SMALL[0], (8,), {"padding_mode": "same"}, "The 'padding_mode' parameter"),
    (SMALL[0], (8, 3), {"padding_mode": "circular", "dilations": (4,)}, r"needs at least 4 points .* is \(8, 3\)"),
    (SMALL[0], (2, 2, 2, 2), {}, r"one to three dimensions, not \(2, 2, 2, 2\)"),
    (SMALL[1], (8,), {"width": 0}, "The 'width' parameter"),
    (SMALL[1], (8,), {"depth": 0}, "The 'depth' parameter"),
    (SMALL[1], (8,), {"depth": "auto"}, "The 'depth' parameter"),
]


@pytest.mark.parametrize(("model", "grid", "parameters", "message"), REFUSALS)
def test_refusals(model, grid, parameters, message, monkeypatch):
    monkeypatch.setattr(BaseNeuralRegressor, "_train", lambda *args, **kwargs: pytest.fail("training started"))
    with pytest.raises(ValueError, match=message):
        fitted(model, white(4, *grid), white(4, *grid), **parameters)
