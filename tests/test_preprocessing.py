"""FieldScaler against scikit-learn's scalers on flat data, and against plain NumPy on grids."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_hss import FieldScaler, HSSRegressor, NeuralHSSRegressor, preprocessing
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer

METHODS = ["max", "standard"]
GRID = (4, 6)
MASK = np.arange(24).reshape(GRID) % 5 != 0


def fields(*shape, seed=0, dtype=np.float64):
    return (3 + 2 * np.random.RandomState(seed).standard_normal(shape)).astype(dtype)


def scaled_by_hand(X, method, axis=None):
    if method == "max":
        return X / np.abs(X).max(axis=axis, keepdims=True)
    return (X - X.mean(axis=axis, keepdims=True)) / X.std(axis=axis, keepdims=True)


SCALERS = [FieldScaler(), FieldScaler("standard"), FieldScaler("standard", per_channel=False)]


@parametrize_with_checks(SCALERS)
def test_check_estimator(estimator, check):
    check(estimator)


@parametrize_with_checks(SCALERS)
def test_check_estimator_with_metadata_routing(estimator, check):
    with sklearn.config_context(enable_metadata_routing=True):
        check(estimator)


@pytest.mark.parametrize(("method", "reference"), [("max", MaxAbsScaler), ("standard", StandardScaler)])
def test_flat_fields_are_one_column_to_scikit_learn(method, reference):
    X, new = fields(7, 24), fields(3, 24, seed=1)
    scaler, reference = FieldScaler(method).fit(X), reference().fit(X.reshape(-1, 1))
    np.testing.assert_allclose(scaler.scale_, reference.scale_)
    np.testing.assert_allclose(scaler.transform(new), reference.transform(new.reshape(-1, 1)).reshape(3, 24))
    np.testing.assert_allclose(
        scaler.inverse_transform(new), reference.inverse_transform(new.reshape(-1, 1)).reshape(3, 24)
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(5, 9), (5, 4, 6), (5, 3, 4, 2)])
@pytest.mark.parametrize("method", METHODS)
def test_fields_on_a_grid(method, shape, dtype):
    X = fields(*shape, dtype=dtype)
    scaler = FieldScaler(method).fit(X)
    scaled = scaler.transform(X)
    assert scaled.shape == shape
    assert scaled.dtype == dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(scaled, scaled_by_hand(X.astype(np.float64), method), rtol=4 * eps, atol=4 * eps)
    back = scaler.inverse_transform(scaled)
    assert (back.shape, back.dtype) == (shape, dtype)
    np.testing.assert_allclose(back, X, rtol=8 * eps, atol=8 * eps)
    assert scaler.grid_shape_ == shape[1:]
    assert scaler.scale_.shape == scaler.center_.shape == (1,)
    # Rows of the same numbers, whichever shape was fitted.
    np.testing.assert_array_equal(scaler.transform(X.reshape(5, -1)), scaled.reshape(5, -1))
    np.testing.assert_array_equal(FieldScaler(method).fit_transform(X.reshape(5, -1)), scaled.reshape(5, -1))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_channels(method, flat):
    X = fields(5, 3, *GRID) * np.array([1, 100, 1e-3])[:, None, None]
    given = X.reshape(5, -1) if flat else X
    scaler = FieldScaler(method, grid_shape=GRID)
    scaled = scaler.fit_transform(given)
    assert scaled.shape == given.shape
    assert scaler.scale_.shape == scaler.center_.shape == (3,)
    np.testing.assert_allclose(scaled.reshape(X.shape), scaled_by_hand(X, method, axis=(0, 2, 3)), atol=1e-14)
    np.testing.assert_allclose(scaler.inverse_transform(scaled), given)
    together = FieldScaler(method, grid_shape=GRID, per_channel=False)
    np.testing.assert_allclose(together.fit_transform(X), scaled_by_hand(X, method), atol=1e-14)
    assert together.scale_.shape == (1,)


def test_one_dimension_with_channels():
    X = fields(5, 2, 9) * np.array([[1], [10]])
    np.testing.assert_allclose(FieldScaler(grid_shape=9).fit_transform(X), scaled_by_hand(X, "max", axis=(0, 2)))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("grid_shape", [None, GRID])
@pytest.mark.parametrize("method", METHODS)
def test_mask(method, grid_shape, flat):
    X = fields(5, 2, *GRID) * np.array([1, 10])[:, None, None]
    X[..., ~MASK] = 1e6
    given = X.reshape(5, -1) if flat else X
    scaler = FieldScaler(method, mask=MASK.tolist(), grid_shape=grid_shape).fit(given)
    scaled = scaler.transform(given).reshape(X.shape)
    np.testing.assert_allclose(scaled[..., MASK], scaled_by_hand(X[..., MASK], method, axis=(0, 2)), atol=1e-14)
    np.testing.assert_array_equal(scaled[..., ~MASK], 1e6)
    np.testing.assert_array_equal(scaler.inverse_transform(scaled)[..., ~MASK], 1e6)
    np.testing.assert_allclose(scaler.inverse_transform(scaled), X)
    assert scaler.grid_shape_ == GRID
    whole = FieldScaler(method, mask=np.ones(GRID, dtype=bool)).fit(X)
    np.testing.assert_array_equal(whole.scale_, FieldScaler(method, grid_shape=GRID).fit(X).scale_)


@pytest.mark.parametrize("method", METHODS)
def test_constant_fields(method):
    # 0.1 is no binary number, so its mean may be off by rounding.
    X = np.stack([np.zeros((50, 7)), np.full((50, 7), 0.1), fields(50, 7)], axis=1)
    scaler = FieldScaler(method, grid_shape=7).fit(X)
    scaled = scaler.transform(X)
    np.testing.assert_array_equal(scaled[:, 0], 0)
    np.testing.assert_allclose(scaled[:, 1], 1 if method == "max" else 0, atol=1e-15)
    assert np.ptp(scaled[:, 2]) > 0.1
    np.testing.assert_allclose(scaler.inverse_transform(scaled), X)


def test_noise_of_rounding_is_constant():
    X = np.float32(7) + np.float32(5e-7) * np.random.RandomState(0).randint(0, 2, (5, 9)).astype(np.float32)
    assert len(np.unique(X)) == 2
    assert FieldScaler("standard").fit(X).scale_ == 1


@pytest.mark.parametrize("batch", [1, 2**18])
def test_large_offset_in_float32(batch, monkeypatch):
    monkeypatch.setattr(preprocessing, "_BATCH", batch)
    X = (1e4 + np.random.RandomState(0).standard_normal((400, 32))).astype(np.float32)
    scaler = FieldScaler("standard").fit(X)
    exact = X.astype(np.float64)
    np.testing.assert_allclose(scaler.center_, exact.mean(), rtol=1e-14)
    np.testing.assert_allclose(scaler.scale_, exact.std(), rtol=1e-10)
    scaled = scaler.transform(X)
    np.testing.assert_allclose(scaled, scaled_by_hand(exact, "standard"), rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(scaler.inverse_transform(scaled), X)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("batch", [1, 2**18])
@pytest.mark.parametrize(
    ("unit", "dtype"), [(1e300, np.float64), (1e-300, np.float64), (5e36, np.float32), (1e-36, np.float32)]
)
@pytest.mark.parametrize("method", METHODS)
def test_units_do_not_matter(method, unit, dtype, batch, monkeypatch):
    monkeypatch.setattr(preprocessing, "_BATCH", batch)
    X = fields(6, 9)
    scaler = FieldScaler(method)
    scaled = scaler.fit_transform((unit * X).astype(dtype))
    rtol = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(scaled, scaled_by_hand(X, method), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(scaler.inverse_transform(scaled) / unit, X, rtol=rtol, atol=rtol)


def test_smallest_numbers():
    X = np.array([[0, 5e-324]])
    assert np.isfinite(FieldScaler("standard").fit_transform(X)).all()
    np.testing.assert_array_equal(FieldScaler().fit_transform(X), [[0, 1]])


@pytest.mark.parametrize("method", METHODS)
def test_sample_weights_are_repetitions(method):
    X, weight = fields(4, *GRID), np.array([2, 0, 1, 3])
    X[1] *= 100
    weighted = FieldScaler(method).fit(X, sample_weight=weight)
    repeated = FieldScaler(method).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose([weighted.scale_, weighted.center_], [repeated.scale_, repeated.center_])
    if method == "standard":
        reference = StandardScaler().fit(X.reshape(-1, 1), sample_weight=np.repeat(weight, 24))
        np.testing.assert_allclose([weighted.scale_, weighted.center_], [reference.scale_, reference.mean_])


@pytest.mark.parametrize("batch", [1, 100, 2**18])
@pytest.mark.parametrize("method", METHODS)
def test_partial_fit_is_fit_on_all(method, batch, monkeypatch):
    X, weight = fields(11, 2, *GRID), np.random.RandomState(1).uniform(size=11)
    X += np.arange(11)[:, None, None, None]
    parts = FieldScaler(method, mask=MASK)
    for rows in (slice(0, 2), slice(2, 3), slice(3, 11)):
        parts.partial_fit(X[rows], sample_weight=weight[rows])
    monkeypatch.setattr(preprocessing, "_BATCH", batch)
    whole = FieldScaler(method, mask=MASK).fit(X, sample_weight=weight)
    np.testing.assert_allclose([parts.scale_, parts.center_], [whole.scale_, whole.center_], rtol=1e-13)
    again = parts.fit(X, sample_weight=weight)  # forgets what came before
    np.testing.assert_allclose([again.scale_, again.center_], [whole.scale_, whole.center_], rtol=1e-13)


def test_copy():
    X = fields(5, *GRID)
    before = X.copy()
    kept = FieldScaler().fit(X)
    scaled = kept.transform(X)
    np.testing.assert_array_equal(X, before)
    in_place = FieldScaler(copy=False).fit(X)
    np.testing.assert_array_equal(X, before)
    assert np.shares_memory(in_place.transform(X), X)
    np.testing.assert_array_equal(X, scaled)
    assert np.shares_memory(in_place.inverse_transform(X), X)
    np.testing.assert_allclose(X, before)
    # Other layouts give the same numbers, in a copy.
    columns = np.asfortranarray(before)
    np.testing.assert_array_equal(in_place.transform(columns), scaled)
    np.testing.assert_array_equal(in_place.transform(columns.reshape(5, -1)[:, ::-1]), scaled.reshape(5, -1)[:, ::-1])
    np.testing.assert_array_equal(columns, before)


def test_read_only_fields_are_copied(tmp_path):
    np.save(tmp_path / "X.npy", fields(5, *GRID))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    scaler = FieldScaler(copy=False).fit(X)
    for fields_given in (X, X.reshape(5, -1)):
        np.testing.assert_array_equal(scaler.transform(fields_given).ravel(), FieldScaler().fit_transform(X).ravel())
        np.testing.assert_allclose(scaler.inverse_transform(fields_given), fields_given * scaler.scale_)


def test_feature_names_and_data_frames():
    frame = pd.DataFrame(fields(5, 3), columns=["u", "v", "w"], index=list("abcde"))
    scaler = FieldScaler("standard").set_output(transform="pandas").fit(frame)
    np.testing.assert_array_equal(scaler.get_feature_names_out(), ["u", "v", "w"])
    scaled = scaler.transform(frame)
    pd.testing.assert_frame_equal(scaled, (frame - frame.values.mean()) / frame.values.std())
    np.testing.assert_allclose(scaler.inverse_transform(scaled), frame)
    np.testing.assert_allclose(scaler.inverse_transform(scaled.to_numpy()), frame)
    grid = FieldScaler().fit(fields(5, *GRID))
    np.testing.assert_array_equal(grid.get_feature_names_out(), [f"x{i}" for i in range(24)])


@pytest.mark.parametrize("direction", ["transform", "inverse_transform", "partial_fit"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 6, 4), "X has fields of shape (6, 4), but the fit was on fields of shape (4, 6)."),
        ((2, 2, 4, 6), "X has fields of shape (2, 4, 6), but the fit was on fields of shape (4, 6)."),
        ((2, 23), "X has 23 features, but FieldScaler is expecting 24 features as input."),
    ],
)
def test_another_grid(direction, shape, message):
    scaler = FieldScaler().fit(fields(5, *GRID))
    scale = scaler.scale_.copy()
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        getattr(scaler, direction)(fields(*shape))
    np.testing.assert_array_equal(scaler.scale_, scale)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "min"}, "The 'method' parameter of FieldScaler must be a str among"),
        ({"per_channel": "no"}, "The 'per_channel' parameter of FieldScaler must be an instance of"),
        ({"grid_shape": 0}, "The 'grid_shape' parameter of FieldScaler must be"),
        ({"grid_shape": (4, 0)}, "grid_shape=(4, 0) must be a positive integer or a tuple of these"),
        ({"grid_shape": (5, 5)}, "X has fields of shape (4, 6), which do not fit the grid (5, 5)"),
        ({"mask": True}, "The 'mask' parameter of FieldScaler must be an array-like"),
        ({"mask": np.ones(GRID)}, "mask has dtype float64 and 24 points; it must be boolean and not empty."),
        ({"mask": np.zeros(GRID, dtype=bool)}, "mask has dtype bool and 0 points; it must be boolean and not empty."),
        ({"mask": MASK.T}, "mask has shape (6, 4), but the fields are on the grid (4, 6)"),
        ({"mask": MASK, "grid_shape": 24}, "mask has shape (4, 6) and grid_shape is (24,); they must be equal."),
    ],
)
def test_parameters_that_do_not_fit(parameters, message):
    scaler = FieldScaler().fit(fields(5, 3, 3))
    before = {name: value for name, value in vars(scaler).items() if name not in scaler.get_params()}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        scaler.set_params(**parameters).fit(fields(5, *GRID))
    after = {name: value for name, value in vars(scaler).items() if name not in scaler.get_params()}
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_data_that_cannot_be_used():
    scaler = FieldScaler()
    with pytest.raises(NotFittedError):
        scaler.transform(fields(5, *GRID))
    X = fields(5, *GRID)
    with pytest.raises(ValueError, match="at least one non-zero"):
        scaler.fit(X, sample_weight=np.zeros(5))
    with pytest.raises(ValueError, match="sample_weight"):
        scaler.fit(X, sample_weight=np.ones(4))
    scaler.fit(X)
    X[0, 0, 0] = np.nan
    for method in (scaler.fit, scaler.partial_fit, scaler.transform):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            method(X)
    outside = FieldScaler(mask=MASK).fit(fields(5, *GRID))
    assert not MASK[0, 0]
    for method in (outside.fit, outside.partial_fit, outside.transform):
        method(X)


@pytest.mark.parametrize("method", METHODS)
def test_predictions_that_diverge_come_back(method):
    X = fields(5, *GRID)
    scaler = FieldScaler(method).fit(X)
    scaled = scaler.transform(X)
    X[0, 0, :2] = scaled[0, 0, :2] = np.nan, np.inf
    np.testing.assert_allclose(scaler.inverse_transform(scaled), X)


@pytest.mark.parametrize("method", METHODS)
def test_clone_and_pickle(method):
    X = fields(5, *GRID)
    scaler = FieldScaler(method, mask=MASK).fit(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scaler)).transform(X), scaler.transform(X))
    np.testing.assert_array_equal(clone(scaler).fit(X).transform(X), scaler.transform(X))


def smooth_problem(n_samples=12, n=8):
    """A linear map between fields on a grid."""
    F = np.random.RandomState(0).standard_normal((n_samples, n, n))
    A = np.linalg.inv(2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1))
    return F, 50 * A @ F @ A


@pytest.mark.parametrize("method", METHODS)
def test_pipeline_on_a_grid(method):
    F, U = smooth_problem()
    model = make_pipeline(FieldScaler(method), NeuralHSSRegressor(levels=1, rank=2, max_epochs=2, random_state=0))
    prediction = model.fit(F, U).predict(F)
    assert prediction.shape == U.shape
    by_hand = clone(model[1]).fit(scaled_by_hand(F, method), U).predict(scaled_by_hand(F, method))
    np.testing.assert_allclose(prediction, by_hand, rtol=1e-6, atol=1e-6 * np.abs(U).max())


def test_target_on_a_grid():
    F, U = smooth_problem()
    model = TransformedTargetRegressor(
        make_pipeline(FieldScaler(), HSSRegressor(random_state=0)), transformer=FieldScaler()
    )
    model.fit(F[:8], U[:8])
    assert model.predict(F[8:]).shape == (4, 8, 8)
    assert relative_l2_error(U[8:], model.predict(F[8:])) < 1e-8
    assert (cross_val_score(model, F, U, scoring=relative_l2_scorer, cv=3) > -1e-8).all()


@pytest.mark.parametrize("method", METHODS)
def test_flat_target(method):
    F, U = (X.reshape(len(X), -1) for X in smooth_problem())
    model = TransformedTargetRegressor(Ridge(alpha=1e-3), transformer=FieldScaler(method, grid_shape=(8, 8)))
    scaled = scaled_by_hand(U, method)
    undo = StandardScaler().fit(U.reshape(-1, 1)) if method == "standard" else MaxAbsScaler().fit(U.reshape(-1, 1))
    by_hand = undo.inverse_transform(Ridge(alpha=1e-3).fit(F, scaled).predict(F).reshape(-1, 1)).reshape(U.shape)
    np.testing.assert_allclose(model.fit(F, U).predict(F), by_hand)
    assert 0.9 < model.score(F, U) <= 1


def test_search():
    F, U = (X.reshape(len(X), -1) for X in smooth_problem())
    model = TransformedTargetRegressor(
        make_pipeline(FieldScaler(), KernelRidge(alpha=1e-6)), transformer=FieldScaler(mask=np.ones((8, 8), dtype=bool))
    )
    grid = {"transformer__method": METHODS, "regressor__fieldscaler__method": METHODS}
    search = GridSearchCV(model, grid, cv=3, scoring=relative_l2_scorer).fit(F, U)
    assert np.isfinite(search.best_score_)


def test_sample_weight_through_a_pipeline():
    F, U = (X.reshape(len(X), -1) for X in smooth_problem())
    weight = np.arange(12.0)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = FieldScaler("standard").set_fit_request(sample_weight=True)
        model = make_pipeline(scaler, Ridge().set_fit_request(sample_weight=False)).fit(F, U, sample_weight=weight)
    np.testing.assert_allclose(model[0].center_, np.average(F.mean(axis=1), weights=weight))
