"""Green Learning as a regressor."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from sklearn_hss import GreenLearningRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.estimators._base import BaseNeuralRegressor
from sklearn_hss.metrics import relative_l2_error

SMALL = {"width": 8, "depth": 2, "max_epochs": 3, "device": "cpu", "random_state": 0}


def noise(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def by_the_kernel(model, X):
    """Prediction made of the attributes that explain it."""
    product = X.reshape(len(X), -1) @ (model.greens_function_ * model.quadrature_weights_).T
    return product + model.homogeneous_solution_


@pytest.mark.parametrize("scale", ["max", "standard", None])
@pytest.mark.parametrize("homogeneous", [True, False])
@pytest.mark.parametrize(
    ("grid_in", "grid_out"), [((7,), (7,)), ((8,), (3,)), ((6,), (1,)), ((5, 4), (5, 4)), ((3, 4), (2, 7))]
)
def test_the_attributes_explain_the_prediction(grid_in, grid_out, homogeneous, scale):
    X, y = 30 * noise(5, *grid_in), 0.01 * noise(5, *grid_out, seed=1)
    model = GreenLearningRegressor(**SMALL, homogeneous=homogeneous, scale=scale, dtype="float64").fit(X, y)
    assert model.greens_function_.shape == (np.prod(grid_out), np.prod(grid_in))
    assert model.homogeneous_solution_.shape == (np.prod(grid_out),)
    prediction = model.predict(X)
    assert prediction.shape == y.shape
    np.testing.assert_allclose(by_the_kernel(model, X), prediction.reshape(5, -1), rtol=1e-10, atol=1e-13)
    assert np.any(model.predict(0 * X)) == (homogeneous or scale == "standard")


def test_finds_the_greens_function():
    F, U = make_poisson(60, 16, forcing="gaussian", random_state=0)
    # Units that differ from the scaled ones by orders of magnitude.
    model = GreenLearningRegressor(width=24, depth=2, max_epochs=400, lr=1e-2, random_state=0, device="cpu")
    model.fit(1e3 * F[:50], 1e-2 * U[:50])
    x = np.arange(16) / 16
    exact = 1e-5 * np.minimum.outer(x, x) * (1 - np.maximum.outer(x, x))
    assert np.linalg.norm(model.greens_function_ - exact) < 0.1 * np.linalg.norm(exact)
    assert relative_l2_error(1e-2 * U[50:], model.predict(1e3 * F[50:])) < 0.1


def test_finds_the_homogeneous_solution():
    F, U = make_poisson(60, 16, forcing="gaussian", random_state=0)
    boundary = np.linspace(1, 2, 16)
    model = GreenLearningRegressor(width=24, depth=2, max_epochs=300, lr=1e-2, random_state=0, device="cpu")
    model.fit(F, U + boundary)
    np.testing.assert_allclose(model.homogeneous_solution_, boundary, atol=0.1)


@pytest.mark.parametrize("name", ["greens_function_", "homogeneous_solution_", "quadrature_weights_"])
def test_nothing_before_the_fit(name):
    model = GreenLearningRegressor()
    with pytest.raises(NotFittedError):
        getattr(model, name)
    assert not hasattr(model, name)


@pytest.mark.parametrize(("shape", "width", "n_parameters"), [((8,), 128, 83_115), ((2, 2), 64, 21_227)])
def test_default_sizes(shape, width, n_parameters):
    X = noise(4, *shape)
    model = GreenLearningRegressor(homogeneous=False, max_epochs=1, device="cpu").fit(X, X)
    assert model.n_parameters_ == n_parameters
    assert model.net_.module_.G[0].out_features == width


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_types(dtype):
    X = noise(6, 5).astype(dtype)
    model = GreenLearningRegressor(**SMALL, dtype=dtype).fit(X, X)
    assert model.predict(X).dtype == dtype
    assert model.greens_function_.dtype == model.homogeneous_solution_.dtype == dtype
    other = {"float32": "float64", "float64": "float32"}[dtype]
    model.set_params(dtype=other).fit(X, X)
    assert model.greens_function_.dtype == other


def test_is_reproducible():
    X = noise(20, 9)
    models = [GreenLearningRegressor(**{**SMALL, "batch_size": 7, "random_state": s}).fit(X, X) for s in (0, 0, 1)]
    np.testing.assert_array_equal(models[0].predict(X), models[1].predict(X))
    assert np.any(models[0].predict(X) != models[2].predict(X))


def test_pickle():
    X = noise(6, 9)
    model = GreenLearningRegressor(**SMALL).fit(X, X)
    before = len(pickle.dumps(model))
    expected = model.predict(X)
    assert len(pickle.dumps(model)) == before
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict(X), expected)
    np.testing.assert_array_equal(loaded.greens_function_, model.greens_function_)


def test_grid_search():
    X = noise(12, 5)
    grid = {"width": [4, 6], "depth": [1, 2], "homogeneous": [True, False]}
    search = GridSearchCV(GreenLearningRegressor(**SMALL), grid, cv=2, error_score="raise").fit(X, X)
    assert len(search.cv_results_["params"]) == 8
    assert search.best_estimator_.greens_function_.shape == (5, 5)


def test_every_fit_is_seen_by_the_next_prediction():
    # The kernel of the last prediction is kept in the module.
    X = noise(20, 6)
    model = GreenLearningRegressor(**{**SMALL, "lr": 1e-2}, warm_start=True, validation_fraction=0.2, dtype="float64")
    model.fit(X, X)
    for refit in (lambda: model.fit(X, X), lambda: model.partial_fit(X, X)):
        before = model.predict(X)
        refit()
        assert np.abs(model.predict(X) - before).max() > 1e-4
        np.testing.assert_allclose(by_the_kernel(model, X), model.predict(X), rtol=1e-10, atol=1e-12)
    model.set_params(early_stopping=True, n_iter_no_change=1, max_epochs=50, lr=0.3).fit(X, X)
    np.testing.assert_allclose(by_the_kernel(model, X), model.predict(X), rtol=1e-8, atol=1e-8)


def test_changed_parameters_are_refused_by_a_continued_fit():
    X = noise(6, 5)
    model = GreenLearningRegressor(**SMALL, warm_start=True).fit(X, X)
    for name, value in (("width", 9), ("depth", 3), ("homogeneous", False)):
        with pytest.raises(ValueError, match=f"{name}={value} differs from"):
            clone_with_net(model).set_params(**{name: value}).fit(X, X)


def clone_with_net(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize(
    ("X", "y", "arguments", "message"),
    [
        (
            (4, 2, 8),
            (4, 2, 8),
            {"grid_shape": 8},
            r"does not support channels; X has n_channels=2 on the grid \(8,\)\. Use one",
        ),
        ((4, 8), (4, 2, 8), {"grid_shape": 8}, r"does not support channels; y has n_channels=2"),
        ((4, 2, 3, 3), (4, 2, 3, 3), {"grid_shape": (3, 3)}, r"X has n_channels=2 on the grid \(3, 3\)"),
        ((4, 2, 2, 2), (4, 2, 2, 2), {}, r"one or two dimensions; X has the grid \(2, 2, 2\)"),
        ((4, 5), (4, 5), {"width": 0}, "The 'width' parameter"),
        ((4, 5), (4, 5), {"depth": 0}, "The 'depth' parameter"),
        ((4, 5), (4, 5), {"depth": "auto"}, "The 'depth' parameter"),
        ((4, 5), (4, 5), {"homogeneous": "yes"}, "The 'homogeneous' parameter"),
    ],
)
def test_refusals_come_before_the_training(X, y, arguments, message, monkeypatch):
    monkeypatch.setattr(BaseNeuralRegressor, "_train", lambda *args, **kwargs: pytest.fail("training started"))
    with pytest.raises(ValueError, match=message):
        GreenLearningRegressor(**arguments).fit(noise(*X), noise(*y))


def test_repr_and_clone():
    model = GreenLearningRegressor(16, 3, homogeneous=False)
    assert repr(model) == "GreenLearningRegressor(depth=3, homogeneous=False, width=16)"
    assert clone(model).get_params() == model.get_params()


def test_the_kernel_is_a_copy():
    X = noise(6, 5)
    model = GreenLearningRegressor(**SMALL, scale=None).fit(X, X)
    expected = model.predict(X)
    kernel = model.greens_function_
    kernel[:] = 0
    model.homogeneous_solution_[:] = 0
    np.testing.assert_array_equal(model.predict(X), expected)
    assert torch.is_grad_enabled()
