import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyRegressor
from sklearn.metrics import make_scorer

from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer, trajectory_l2_error


def fields(*shape, seed=0):
    rng = np.random.RandomState(seed)
    return rng.standard_normal(shape), rng.standard_normal(shape)


@pytest.mark.parametrize("shape", [(4,), (4, 7), (4, 5, 6), (4, 2, 5, 6)])
def test_relative_l2_error_is_equation_2(shape):
    true, predicted = fields(*shape)
    ratios = [np.sqrt(np.sum((predicted[b] - true[b]) ** 2)) / np.sqrt(np.sum(true[b] ** 2)) for b in range(len(true))]
    assert relative_l2_error(true, predicted) == pytest.approx(np.mean(ratios))


def test_mean_of_ratios_is_not_ratio_of_means():
    assert relative_l2_error([[1.0], [100.0]], [[0.0], [100.0]]) == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(4, 7), (4, 3, 7), (4, 3, 2, 5, 6)])
def test_trajectory_l2_error_is_equation_3(shape):
    true, predicted = fields(*shape)
    assert trajectory_l2_error(true, predicted) == pytest.approx(
        np.mean([np.linalg.norm((predicted[b] - true[b]).ravel()) for b in range(len(true))])
    )


@pytest.mark.parametrize("metric", [relative_l2_error, trajectory_l2_error])
def test_sample_weights_are_repetitions(metric):
    true, predicted = fields(3, 5)
    weight = np.array([2, 0, 1])
    repeated = metric(np.repeat(true, weight, axis=0), np.repeat(predicted, weight, axis=0))
    assert metric(true, predicted, sample_weight=weight) == pytest.approx(repeated)


def test_zero_fields():
    assert relative_l2_error([[0.0, 0.0]], [[0.0, 0.0]]) == 0
    assert relative_l2_error([[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]) == np.inf
    assert relative_l2_error([[3.0, 4.0]], [[0.0, 0.0]]) == 1


@pytest.mark.parametrize("unit", [1e-200, 1e-25, 1e25, 1e200])
def test_units_do_not_matter(unit):
    true, predicted = fields(4, 7)
    assert relative_l2_error(unit * true, unit * predicted) == pytest.approx(relative_l2_error(true, predicted))
    assert relative_l2_error(unit * true, 0 * true) == pytest.approx(1)


def test_weight_zero_does_not_count():
    assert relative_l2_error([[0.0], [1.0]], [[1.0], [2.0]], sample_weight=[0, 1]) == 1


@pytest.mark.parametrize("metric", [relative_l2_error, trajectory_l2_error])
@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"y_true has shape \(2, 3\) and y_pred \(2, 4\)"),
        (np.ones((2, 3)), np.ones((3, 3)), "inconsistent numbers of samples"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), "y_true contains NaN.*pass mask=, such as mask_"),
        (np.ones((2, 3)), np.full((2, 3), np.inf), "y_pred contains infinity"),
    ],
)
def test_bad_fields_are_refused(metric, true, predicted, message):
    with pytest.raises(ValueError, match=message):
        metric(true, predicted)


@pytest.mark.parametrize("metric", [relative_l2_error, trajectory_l2_error])
@pytest.mark.parametrize("leading", [(), (2,), (3, 2)])
@pytest.mark.parametrize("flat", [False, True])
def test_mask_leaves_the_rest_of_the_grid_out(metric, leading, flat):
    true, predicted = fields(4, *leading, 5, 6)
    mask = np.random.RandomState(1).uniform(size=(5, 6)) < 0.5
    expected = metric(true[..., mask], predicted[..., mask])
    if flat:
        true, predicted = true.reshape(4, -1), predicted.reshape(4, -1)
    assert metric(true, predicted, mask=mask) == pytest.approx(expected)
    assert metric(true, predicted) != pytest.approx(expected)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((6, 5), bool), r"mask has shape \(6, 5\) and the fields \(5, 6\)"),
        (np.ones((5, 6)), "mask has dtype float64 and 30 points; it must be boolean"),
        (np.zeros((5, 6), bool), "mask has dtype bool and 0 points; it must be boolean and not empty"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        relative_l2_error(*fields(4, 5, 6), mask=mask)


def test_mask_in_a_scorer():
    X, y = fields(6, 4)
    mask = np.array([True, False, True, False])
    model = DummyRegressor(strategy="constant", constant=[0, 5, 0, 5]).fit(X, y)
    assert make_scorer(relative_l2_error, greater_is_better=False, mask=mask)(model, X, y) == -1


def test_scorer_is_minus_the_error_and_takes_flat_and_n_d_fields():
    X, y = fields(6, 4)
    model = DummyRegressor(strategy="constant", constant=np.zeros(4)).fit(X, y)
    assert relative_l2_scorer(model, X, y) == -1

    class Cube(BaseEstimator):
        def predict(self, X):
            return np.zeros((len(X), 3, 4, 5))

    assert relative_l2_scorer(Cube(), X, fields(6, 3, 4, 5)[0]) == -1
