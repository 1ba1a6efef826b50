"""Neural-HSS inside scikit-learn's tools, and the same numbers whatever runs in parallel."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, StandardScaler

from sklearn_hss import NeuralHSSRegressor
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer


def model(**parameters):
    return NeuralHSSRegressor(**{"max_epochs": 10, "lr": 1e-2, "random_state": 0, **parameters})


def test_grid_search_over_rank_and_levels(poisson):
    F, U = poisson
    search = GridSearchCV(model(), {"rank": [1, 2], "levels": [1, 2]}, scoring=relative_l2_scorer, cv=2).fit(F, U)
    scores = pd.DataFrame(search.cv_results_).set_index(["param_rank", "param_levels"])["mean_test_score"]
    assert len(scores) == 4
    assert scores.nunique() == 4
    assert scores[search.best_params_["rank"], search.best_params_["levels"]] == scores.max()
    by_hand = [
        -relative_l2_error(U[test], model(rank=2, levels=1).fit(F[train], U[train]).predict(F[test]))
        for train, test in KFold(2).split(F)
    ]
    assert scores[2, 1] == pytest.approx(np.mean(by_hand))
    assert search.best_estimator_.rank_ == search.best_params_["rank"]


def test_grid_search_reports_structures_that_do_not_fit(poisson):
    search = GridSearchCV(model(max_epochs=2), {"levels": [2, 9]}, cv=2)
    with pytest.warns(FitFailedWarning, match="levels=9 is too deep"):
        search.fit(*poisson)
    assert search.best_params_ == {"levels": 2}


def test_learning_curve(poisson):
    sizes, train_scores, test_scores = learning_curve(
        model(init="random", max_epochs=40), *poisson, train_sizes=[8, 30], cv=KFold(4), scoring=relative_l2_scorer
    )
    assert list(sizes) == [8, 30]
    assert train_scores.shape == test_scores.shape == (2, 4)
    assert test_scores[1].mean() > test_scores[0].mean()


def test_pipeline(poisson):
    F, U = poisson
    pipeline = make_pipeline(MaxAbsScaler(), model(max_epochs=200))
    assert pipeline.fit(F, U).score(F, U) > 0.9
    search = GridSearchCV(
        pipeline.set_params(neuralhssregressor__max_epochs=5), {"neuralhssregressor__rank": [1, 2]}, cv=2
    )
    search.fit(F, U)
    assert search.best_estimator_.named_steps["neuralhssregressor"].net_ is not None
    kept = make_pipeline(FunctionTransformer(), model())
    np.testing.assert_array_equal(kept.fit(F, U).predict(F), model().fit(F, U).predict(F))


def test_transformed_target(poisson):
    F, U = poisson
    wrapped = TransformedTargetRegressor(model(), transformer=StandardScaler(with_mean=False)).fit(F, U)
    by_hand = model().fit(F, U / np.where(U.std(axis=0) > 0, U.std(axis=0), 1))
    np.testing.assert_allclose(wrapped.predict(F) / wrapped.transformer_.scale_, by_hand.predict(F), rtol=1e-6)


def test_cross_val_predict(poisson):
    F, U = poisson
    predicted = cross_val_predict(model(), F, U, cv=KFold(2))
    np.testing.assert_array_equal(predicted[:20], model().fit(F[20:], U[20:]).predict(F[:20]))


def test_clone(poisson):
    fitted = model(rank=1, levels=2).fit(*poisson)
    twin = clone(fitted)
    assert twin.get_params() == fitted.get_params()
    assert not hasattr(twin, "net_")
    np.testing.assert_array_equal(twin.fit(*poisson).predict(poisson[0]), fitted.predict(poisson[0]))


@pytest.mark.parametrize("how", ["joblib", "pickle"])
def test_persistence(poisson, tmp_path, how):
    F, U = poisson
    fitted = model(validation_fraction=0.2, early_stopping=True, verbose=1, warm_start=True).fit(F, U)
    if how == "joblib":
        joblib.dump(fitted, tmp_path / "model.joblib")
        loaded = joblib.load(tmp_path / "model.joblib")
    else:
        loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.predict(F), fitted.predict(F))
    assert loaded.history_ == fitted.history_
    # A loaded model goes on as the original does.
    np.testing.assert_array_equal(loaded.fit(F, U).predict(F), fitted.fit(F, U).predict(F))
    np.testing.assert_array_equal(loaded.partial_fit(F, U).predict(F), fitted.partial_fit(F, U).predict(F))


def test_pickle_is_small(poisson):
    # The data, the optimiser's closures and the progress bar do not travel along.
    fitted = model(verbose=1, max_epochs=2).fit(np.tile(poisson[0], (100, 1)), np.tile(poisson[1], (100, 1)))
    assert len(pickle.dumps(fitted)) < 40 * 8 * fitted.n_parameters_


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_parallel_fits_give_the_same_numbers(poisson, backend):
    arguments = {"scoring": relative_l2_scorer, "cv": KFold(4)}
    serial = cross_val_score(model(batch_size=8, max_epochs=3), *poisson, **arguments)
    with joblib.parallel_config(backend, n_jobs=2):
        parallel = cross_val_score(model(batch_size=8, max_epochs=3), *poisson, **arguments)
    np.testing.assert_array_equal(parallel, serial)


def test_n_jobs(poisson):
    grid = {"rank": [1, 2]}
    serial, parallel = (GridSearchCV(model(max_epochs=5), grid, cv=2, n_jobs=n).fit(*poisson) for n in (None, 2))
    np.testing.assert_array_equal(serial.cv_results_["mean_test_score"], parallel.cv_results_["mean_test_score"])


def test_data_frames(poisson):
    F, U = poisson
    frame = pd.DataFrame(F, columns=[f"x{i}" for i in range(F.shape[1])])
    fitted = model(max_epochs=2).fit(frame, pd.DataFrame(U))
    assert list(fitted.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(fitted.predict(frame), model(max_epochs=2).fit(F, U).predict(F))


def test_memory_maps(poisson, tmp_path):
    joblib.dump(poisson, tmp_path / "data.joblib")
    F, U = joblib.load(tmp_path / "data.joblib", mmap_mode="r")
    assert isinstance(F, np.memmap)
    np.testing.assert_array_equal(model().fit(F, U).predict(F), model().fit(*poisson).predict(poisson[0]))
