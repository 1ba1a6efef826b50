"""Points outside of a mask are no data: whatever they hold, at every entrance, nothing inside depends on it."""

import numpy as np
import pytest
import scipy.sparse
from entrances import CONFORMAL, NETWORKS, RESIDUAL, apply, name_of, problem
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from sklearn_hss import FieldScaler, HSSRegressor, HSSTransformer, RolloutRegressor
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer, trajectory_l2_error

WHOLE = problem(12, (6, 7))
MASK = WHOLE.mask
# Least squares are quick where, as on an L-shape, no special form is right.
LINEAR = [Map(solver="least_squares", random_state=0) for Map in (HSSRegressor, HSSTransformer)]
MAPS, REGRESSORS = [*NETWORKS, *LINEAR, RESIDUAL, CONFORMAL], [*NETWORKS, LINEAR[0], RESIDUAL, CONFORMAL]
X, Y = (np.where(MASK, fields, 0) for fields in (WHOLE.X, WHOLE.Y))


def spoilt(fields, value):
    return np.where(MASK, fields, value)


def fitted(model, mask, X=X, Y=Y):
    return clone(model).set_params(mask=mask).fit(X, Y)


@pytest.mark.parametrize("model", MAPS, ids=name_of)
def test_what_is_outside_has_no_part(model):
    reference = fitted(model, MASK)
    for value in (np.nan, np.inf, 1e30):
        other = fitted(model, MASK, spoilt(X, value), spoilt(Y, value))
        found = apply(other, spoilt(X, value))
        np.testing.assert_array_equal(found[:, MASK], apply(reference, X)[:, MASK])
        # Blank as the training data were.
        assert np.isnan(found[:, ~MASK]).all() if np.isnan(value) else not found[:, ~MASK].any()
    assert not apply(reference, X)[:, ~MASK].any()
    np.testing.assert_array_equal(reference.mask_, MASK)


@pytest.mark.parametrize("model", REGRESSORS, ids=name_of)
def test_scores_count_the_points_inside(model):
    reference = fitted(model, MASK, spoilt(X, np.nan), spoilt(Y, np.nan))
    prediction = reference.predict(X)[:, MASK]
    true = Y[:, MASK]
    left = np.square(true - prediction).sum() / np.square(true - true.mean(axis=0)).sum()
    error = np.mean(np.linalg.norm(true - prediction, axis=1) / np.linalg.norm(true, axis=1))
    for value in (0.0, np.nan, 1e30):
        assert reference.score(X, spoilt(Y, value)) == pytest.approx(1 - left, rel=1e-9)
        assert relative_l2_scorer(reference, X, spoilt(Y, value)) == pytest.approx(-error, rel=1e-9)


@pytest.mark.parametrize("model", MAPS, ids=name_of)
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_auto_finds_the_mask(model, value):
    found = fitted(model, "auto", spoilt(X, value), spoilt(Y, value))
    np.testing.assert_array_equal(found.mask_, MASK)
    np.testing.assert_array_equal(apply(found, X)[:, MASK], apply(fitted(model, MASK), X)[:, MASK])
    assert fitted(model, "auto", WHOLE.X, WHOLE.Y).mask_ is None


@pytest.mark.parametrize("model", MAPS, ids=name_of)
def test_a_single_field_is_told_about_its_axis_of_samples(model):
    found, one = fitted(model, "auto", spoilt(X, np.nan), Y), spoilt(X, np.nan)[0]
    with pytest.raises(ValueError, match=r"fields of shape .*a single field needs an axis of samples, X\[np.newaxis\]"):
        apply(found, one)
    assert len(apply(found, one[np.newaxis])) == 1


@pytest.mark.parametrize("model", MAPS, ids=name_of)
def test_nan_inside_names_the_mask(model):
    bad = X.copy()
    bad[3, 0, 0] = np.nan
    for mask, advice in ((None, "pass mask="), (MASK, "inside of the mask"), ("auto", "not in all training")):
        message = f"contains NaN at 1 of 42 values in 1 of 12 samples.*{advice}"
        with pytest.raises(ValueError, match=f"Input X {message}"):
            fitted(model, mask, bad, Y)
        with pytest.raises(ValueError, match=f"Input y {message}"):
            fitted(model, mask, X, bad)
        with pytest.raises(ValueError, match=f"Input X {message}"):
            apply(fitted(model, mask), bad)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MASK.astype(float), "mask has dtype float64"),
        (np.zeros_like(MASK), "0 points; it must be boolean and not empty"),
        (MASK.T, r"mask has shape \(7, 6\)"),
        ("all", "The 'mask' parameter"),
    ],
)
def test_masks_that_do_not_fit(mask, message):
    for model in (NETWORKS[0], HSSRegressor(), FieldScaler(), RolloutRegressor(NETWORKS[0])):
        with pytest.raises(ValueError, match=message):
            clone(model).set_params(mask=mask).fit(X, Y)


@pytest.mark.parametrize("model", [NETWORKS[0], LINEAR[0]], ids=name_of)
def test_flat_fields_channels_and_warm_start(model):
    flat = fitted(model, MASK, X.reshape(12, -1), Y.reshape(12, -1))
    np.testing.assert_array_equal(flat.predict(X.reshape(12, -1)), fitted(model, MASK).predict(X).reshape(12, -1))
    pair = np.stack([spoilt(X, np.nan), spoilt(Y, np.nan)], axis=1)
    if isinstance(model, HSSRegressor):
        model = clone(model).set_params(solver="als", outer_rank=1)
    channels = fitted(model, MASK, pair, pair)
    np.testing.assert_array_equal(np.isnan(channels.predict(pair)), np.isnan(pair))
    assert np.isfinite(channels.score(pair, pair))
    if hasattr(model, "warm_start"):
        again = clone(model).set_params(mask=MASK, warm_start=True).fit(X, Y).fit(spoilt(X, np.nan), spoilt(Y, np.nan))
        assert again.n_iter_ == 4


def test_a_mask_that_changes_the_linear_fit():
    # Held-out errors, too, are those inside: outside, the inverse of the whole box is not zero.
    model = HSSRegressor(random_state=0, mask=MASK).fit(WHOLE.X, WHOLE.Y * MASK)
    inside = relative_l2_error(WHOLE.Y, model.predict(WHOLE.X), mask=MASK)
    assert model.residual_ == pytest.approx(inside, rel=0.5, abs=1e-10)


def test_metrics():
    for metric in (relative_l2_error, trajectory_l2_error):
        expected = metric(Y[:, MASK], X[:, MASK])
        for value in (0.0, np.nan, np.inf):
            assert metric(spoilt(Y, value), spoilt(X, value), mask=MASK) == pytest.approx(expected)
        with pytest.raises(ValueError, match="NaN"):
            metric(spoilt(Y, np.nan), X)
        with pytest.raises(ValueError, match="mask='auto' is supported by estimators"):
            metric(Y, X, mask="auto")


@pytest.mark.parametrize("method", ["max", "standard"])
@pytest.mark.parametrize("mask", [MASK, "auto"], ids=["given", "auto"])
def test_scaler(method, mask):
    reference = FieldScaler(method).fit(X[:, MASK])
    scaler = FieldScaler(method, mask=mask)
    scaled = scaler.fit_transform(spoilt(X, np.nan))
    np.testing.assert_allclose([scaler.scale_, scaler.center_], [reference.scale_, reference.center_])
    np.testing.assert_allclose(scaled[:, MASK], reference.transform(X[:, MASK]))
    assert np.isnan(scaled[:, ~MASK]).all()
    np.testing.assert_allclose(scaler.inverse_transform(scaled), spoilt(X, np.nan))
    scaler.partial_fit(spoilt(X, np.nan))
    bad = X.copy()
    bad[0, 0, 0] = np.nan
    for call in (scaler.fit, scaler.transform):
        with pytest.raises(ValueError, match=r"inside of the mask|not in all training samples"):
            call(bad)
    with pytest.raises(ValueError, match="infinity"):
        scaler.transform(np.where(np.isnan(bad), np.inf, bad))


@pytest.mark.parametrize("inner", [Ridge(alpha=1e-8), LINEAR[0]], ids=name_of)
def test_rollouts(inner):
    states = np.stack([X, 0.9 * X, 0.81 * X], axis=1)
    reference = RolloutRegressor(clone(inner)).fit(states)
    for mask in (MASK, "auto"):
        model = RolloutRegressor(clone(inner), mask=mask).fit(spoilt(states, np.nan))
        found = model.rollout(spoilt(X, np.nan), 2)
        np.testing.assert_allclose(found[..., MASK], reference.rollout(X, 2)[..., MASK], atol=1e-8)
        assert np.isnan(found[..., ~MASK]).all()
        assert model.score(spoilt(states, np.nan)) > 0.999
        assert np.isnan(model.predict(X)[:, ~MASK]).all()
    bad = states.copy()
    bad[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="inside of the mask"):
        RolloutRegressor(clone(inner), mask=MASK).fit(bad)


@pytest.mark.parametrize("model", [NETWORKS[0], LINEAR[0], FieldScaler()], ids=name_of)
def test_shapes_that_do_not_fit_meet_the_usual_errors(model):
    model = clone(model).set_params(mask=MASK).fit(X, Y)
    with pytest.raises(ValueError, match="X has 1 features"):
        apply(model, np.ones((5, 1)))
    with pytest.raises(TypeError, match="Sparse data was passed"):
        model.fit(scipy.sparse.csr_array(X.reshape(12, -1)), Y.reshape(12, -1))


def test_a_flat_mask_is_not_cut_into_channels():
    model = clone(LINEAR[0])
    coarse = Y[:, 0, :3]
    for mask in (np.array([True, True, False]), np.array([True] * 20 + [False])):
        with pytest.raises(ValueError, match="mask has shape"):
            clone(model).set_params(mask=mask).fit(X.reshape(12, -1), X.reshape(12, -1))
    outputs = np.array([True, True, False])
    fitted_model = clone(model).set_params(mask=outputs).fit(X.reshape(12, -1), np.where(outputs, coarse, np.nan))
    assert fitted_model.grid_shape_ == (42,)


def test_channels_on_domains_of_their_own():
    pair = np.stack([spoilt(X, np.nan), np.where(MASK[:, ::-1], X, np.nan)], axis=1)
    model = clone(NETWORKS[0]).set_params(mask="auto", grid_shape=(6, 7)).fit(pair, pair)
    np.testing.assert_array_equal(np.isnan(model.predict(pair)), np.isnan(pair))
    assert np.isfinite(relative_l2_scorer(model, pair, pair))


def test_samples_of_weight_zero_say_nothing_about_the_domain():
    inputs, outputs = np.concatenate([X, X[:1]]), np.concatenate([Y, np.ones((1, 6, 7))])
    for model in (NETWORKS[0], LINEAR[0]):
        fitted_model = clone(model).set_params(mask="auto").fit(inputs, outputs, sample_weight=np.r_[np.ones(12), 0])
        np.testing.assert_array_equal(fitted_model.mask_, MASK)


def test_a_warm_start_keeps_its_mask():
    model = clone(NETWORKS[0]).set_params(mask=MASK, warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="mask differs from that of the earlier fit"):
        model.set_params(mask=None).fit(X, Y)


def test_composition():
    model = make_pipeline(FieldScaler(mask=MASK), clone(LINEAR[0]).set_params(mask=MASK))
    scores = cross_val_score(model, spoilt(WHOLE.X, np.nan), spoilt(Y, np.nan), scoring=relative_l2_scorer, cv=3)
    assert np.isfinite(scores).all()
    target = TransformedTargetRegressor(clone(LINEAR[0]).set_params(mask="auto"), transformer=FieldScaler())
    assert np.isfinite(relative_l2_scorer(target.fit(X, Y), X, spoilt(Y, np.nan)))
