"""FactFormerRegressor."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_hss import FactFormerRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.estimators._base import BaseNeuralRegressor
from sklearn_hss.metrics import relative_l2_error
from sklearn_hss.nn import FactFormer


def fast(**parameters):
    settings = {"width": 8, "head_dim": 4, "max_epochs": 3, "lr": 1e-2, "batch_size": 10, "random_state": 0}
    return FactFormerRegressor(**{**settings, **parameters})


@pytest.fixture(scope="module")
def fields():
    return make_poisson(20, (8, 6), modes=(1, 2), random_state=0)


def test_2d_poisson():
    F, U = make_poisson(60, (16, 16), modes=(1, 5), random_state=0)
    model = fast(width=16, max_epochs=60, dtype="float32").fit(F[:50], U[:50])
    mean = np.broadcast_to(U[:50].mean(0), (10, 16, 16))
    # 0.09 and 0.44.
    assert relative_l2_error(U[50:], model.predict(F[50:])) < 0.4 * relative_l2_error(U[50:], mean)


def test_defaults_are_those_of_the_paper(fields):
    model = FactFormerRegressor(max_epochs=1).fit(*fields)
    assert model.n_parameters_ == 3_934_657
    module = model.net_.module_
    assert isinstance(module, FactFormer)
    assert (module.to_in.out_features, len(module.attentions)) == (384, 1)


@pytest.mark.parametrize(
    ("shape", "target", "grid_shape"),
    [
        ((11,), (11,), None),
        ((11,), (), None),
        ((7, 5), (7, 5), None),
        ((7, 5), (4, 6), None),
        ((2, 7, 5), (3, 7, 5), (7, 5)),
        ((3, 4, 2), (3, 4, 2), None),
    ],
)
def test_shapes_and_channels(shape, target, grid_shape):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, *shape)), rng.standard_normal((6, *target))
    model = fast(grid_shape=grid_shape, max_epochs=1).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_types(fields, dtype):
    F, U = (a.astype(dtype) for a in fields)
    model = fast().fit(F, U)
    assert model.predict(F).dtype == dtype
    assert next(model.net_.module_.parameters()).dtype == (torch.float32 if dtype == np.float32 else torch.float64)


def test_random_state(fields):
    first, again, other = (fast(random_state=seed).fit(*fields).predict(fields[0]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_persistence(fields):
    model = fast().fit(*fields)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(fields[0]), model.predict(fields[0]))


def test_grid_search_over_its_own_parameters(fields):
    names = ("width", "depth", "heads", "head_dim", "kernel_multiplier")
    values = [(4, 1, 1, 2, 1), (8, 1, 1, 2, 1), (4, 2, 1, 2, 1), (4, 1, 2, 2, 1), (4, 1, 1, 4, 1), (4, 1, 1, 2, 2)]
    grid = [{name: [value] for name, value in zip(names, row, strict=True)} for row in values]
    search = GridSearchCV(fast(max_epochs=1), grid, cv=2, error_score="raise").fit(*fields)
    assert set(search.best_params_) == set(names)
    sizes = {
        clone(fast()).set_params(**p, max_epochs=1).fit(*fields).n_parameters_ for p in search.cv_results_["params"]
    }
    assert len(sizes) == len(values) - 1  # twice the heads count as much as heads twice as wide
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_another_network_cannot_continue(fields):
    model = fast(warm_start=True).fit(*fields)
    assert model.fit(*fields).n_iter_ == 6
    for name, value in {"width": 4, "depth": 2, "heads": 2, "head_dim": 2, "kernel_multiplier": 2}.items():
        with pytest.raises(ValueError, match=f"{name}={value} differs from"):
            pickle.loads(pickle.dumps(model)).set_params(**{name: value}).fit(*fields)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"width": 10}, "width=10 is not a multiple of 4; 8 would work"),
        ({"width": 0}, "The 'width' parameter"),
        ({"width": "wide"}, "The 'width' parameter"),
        ({"head_dim": 5}, "head_dim=5 times kernel_multiplier=1 is odd, .* head_dim=6 would work"),
        ({"depth": 0}, "The 'depth' parameter"),
        ({"heads": 0}, "The 'heads' parameter"),
        ({"head_dim": 0}, "The 'head_dim' parameter"),
        ({"kernel_multiplier": 1.5}, "The 'kernel_multiplier' parameter"),
    ],
)
def test_what_cannot_work(fields, parameters, message, monkeypatch):
    monkeypatch.setattr(BaseNeuralRegressor, "_train", lambda *args, **kwargs: pytest.fail("training started"))
    with pytest.raises(ValueError, match=message):
        fast(**parameters).fit(*fields)


def test_fields_that_cannot_work(monkeypatch):
    monkeypatch.setattr(BaseNeuralRegressor, "_train", lambda *args, **kwargs: pytest.fail("training started"))
    X = np.ones((3, 2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"fields of one to three dimensions; X has the grid \(2, 2, 2, 2\)"):
        fast().fit(X, X)
    with pytest.raises(ValueError, match=r"fields of shape \(8,\), which do not fit the grid \(4, 4\)"):
        fast().fit(np.ones((3, 4, 4)), np.ones((3, 8)))
