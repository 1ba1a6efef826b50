import pickle

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from sklearn_hss import FNORegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer


def small(**parameters):
    return FNORegressor(
        **{"width": 8, "modes": 6, "depth": 2, "max_epochs": 60, "lr": 1e-2, "random_state": 0, **parameters}
    )


@pytest.fixture(scope="module")
def data():
    F, U = make_poisson(60, 64, forcing="grf", random_state=0)
    return F[:50], U[:50], F[50:], U[50:]


def test_learns_and_predicts_in_the_units_of_the_data(data):
    F, U, F_test, U_test = data
    model = small(batch_size=10).fit(F, 100 * U)
    assert relative_l2_error(100 * U_test, model.predict(F_test)) < 0.2
    assert model.score(F_test, 100 * U_test) > 0.9


@pytest.mark.parametrize(
    ("grid", "width", "modes", "depth"),
    [((64,), 32, (12,), 6), ((16, 24), 16, (8, 8), 4), ((8, 9, 20), 14, (4, 4, 8), 2), ((7,), 32, (4,), 6)],
)
def test_defaults_are_those_of_the_paper_or_what_the_grid_allows(grid, width, modes, depth):
    X = np.random.RandomState(0).standard_normal((3, *grid))
    model = FNORegressor(settings="paper", max_epochs=1).fit(X, X)
    net = model.net_.module_
    assert (net.lifting.out_channels, model.modes_, len(net.spectral)) == (width, modes, depth)


def test_modes_without_the_papers_settings_are_a_third_of_the_points():
    X = np.random.RandomState(0).standard_normal((3, 16, 64))
    assert FNORegressor(max_epochs=1).fit(X, X).modes_ == (5, 8)


def test_complex_weights_count_as_two_numbers():
    X = np.random.RandomState(0).standard_normal((3, 256))
    assert FNORegressor(depth=4, max_epochs=1).fit(X, X).n_parameters_ == 102_657
    assert FNORegressor(settings="paper", max_epochs=1).fit(X, X).n_parameters_ == 153_921


@pytest.mark.parametrize("shape", [(2, 12, 10), (24,), (6, 8, 7)])
def test_channels_and_other_output_grids(shape):
    X = np.random.RandomState(0).standard_normal((5, *shape))
    grid = shape[1:] if shape[0] == 2 else shape
    y = np.random.RandomState(1).standard_normal((5, 3, *grid) if shape[0] == 2 else (5, *(n // 2 for n in grid)))
    model = small(max_epochs=2, modes=2, grid_shape=grid if shape[0] == 2 else None).fit(X, y)
    assert model.predict(X).shape == y.shape


def test_search_over_its_own_parameters(data):
    search = GridSearchCV(
        small(max_epochs=20), {"width": [2, 8], "modes": [2, 6], "depth": [1, 2]}, scoring=relative_l2_scorer, cv=2
    ).fit(*data[:2])
    assert search.best_params_["width"] == 8
    assert len(set(search.cv_results_["mean_test_score"])) == 8


def test_same_seed_same_numbers_and_pickles(data):
    F, U, F_test, _ = data
    first, second = (small(max_epochs=3).fit(F, U) for _ in range(2))
    np.testing.assert_array_equal(first.predict(F_test), second.predict(F_test))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first)).predict(F_test), first.predict(F_test))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"modes": 40}, r"modes=\(40,\) does not fit the grid \(64,\): the largest value that works is \(33,\)"),
        ({"modes": (3, 3)}, r"modes=\(3, 3\) does not fit the grid \(64,\)"),
        ({"width": 0}, "'width' parameter of FNORegressor"),
        ({"depth": "deep"}, "'depth' parameter of FNORegressor"),
        ({"modes": 2.5}, "'modes' parameter of FNORegressor"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(data, parameters, message):
    with pytest.raises(ValueError, match=message):
        small(**parameters).fit(*data[:2])


def test_four_dimensions_are_refused():
    X = np.zeros((3, 2, 2, 2, 2))
    with pytest.raises(ValueError, match="FNORegressor supports fields of one to three dimensions; X has the grid"):
        FNORegressor().fit(X, X)


def test_another_structure_cannot_be_continued(data):
    model = small(max_epochs=1, warm_start=True).fit(*data[:2])
    with pytest.raises(ValueError, match="width=4 differs from 8 of the earlier fit"):
        model.set_params(width=4).fit(*data[:2])
