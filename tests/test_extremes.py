"""Numbers at the ends of their ranges, and of few digits."""

import numpy as np
import pytest
from entrances import FLAT_MAPS, LINEAR, MAPS, NETWORKS, apply, name_of, problem
from sklearn.base import clone
from sklearn.linear_model import Ridge

from sklearn_hss import FieldScaler, HSSRegressor, RolloutRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.estimators._score import field_r2
from sklearn_hss.metrics import relative_l2_error, trajectory_l2_error

GRID = problem(12, (6, 7))
LINE = problem(12, (32,))


@pytest.mark.parametrize("data", [LINE, GRID], ids=["1-D", "2-D"])
@pytest.mark.parametrize("model", LINEAR, ids=name_of)
def test_inputs_and_outputs_too_far_apart(model, data):
    with pytest.raises(ValueError, match=r"Inputs of size .*e-300 and outputs of size .* are too far apart"):
        clone(model).fit(1e-300 * data.X, 1e100 * data.Y)


@pytest.mark.parametrize("scales", [(1e-150, 1e150), (1e150, 1e150), (1e-200, 1e-200), (1.0, 1e-280)])
@pytest.mark.parametrize("model", MAPS, ids=name_of)
def test_units_of_any_size(model, scales):
    x, y = scales
    expected = apply(clone(model).fit(GRID.X, GRID.Y), GRID.X)
    fitted = clone(model).fit(x * GRID.X, y * GRID.Y)
    np.testing.assert_allclose(apply(fitted, x * GRID.X) / y, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    if hasattr(model, "score"):
        assert fitted.score(x * GRID.X, y * GRID.Y) == pytest.approx(
            clone(model).fit(GRID.X, GRID.Y).score(GRID.X, GRID.Y), abs=1e-6
        )


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_r2_of_any_size(kind):
    rng = np.random.RandomState(0)
    true, predicted = rng.standard_normal((2, 8, 5))
    expected = field_r2(true, predicted)
    tiny = np.finfo(kind).tiny
    for size in (tiny, tiny**0.5, 1.0, 1e19, float(np.finfo(kind).max) / 100):
        found = field_r2((size * true).astype(kind), (size * predicted).astype(kind))
        assert found == pytest.approx(expected, rel=1e-4)
    assert field_r2(1e-300 * true, 1e300 * predicted) < -1e6


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_metrics_of_any_size(size):
    for metric, unit in ((relative_l2_error, 1.0), (trajectory_l2_error, size)):
        expected = metric(GRID.Y, GRID.X)
        assert metric(size * GRID.Y, size * GRID.X) == pytest.approx(expected * unit, rel=1e-9)
    scaled = FieldScaler("standard").fit_transform(size * GRID.X)
    np.testing.assert_allclose(scaled, FieldScaler("standard").fit_transform(GRID.X))
    states = np.stack([GRID.X, 0.9 * GRID.X, 0.81 * GRID.X], axis=1).reshape(12, 3, -1)
    rollouts = RolloutRegressor(Ridge(alpha=1e-8)).fit(states)
    expected = rollouts.score(states)
    assert RolloutRegressor(Ridge(alpha=1e-8 * size**2 if size < 1e100 else 0.0)).fit(states).score(
        states
    ) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("kind", "level"), [(np.float16, 1e-1), (np.float32, 1e-4), (np.float64, 1e-10)])
def test_precision_of_the_data(kind, level):
    F, U = make_poisson(40, 64, forcing="gaussian", order=2, random_state=0)
    U = U / np.abs(U).max()
    model = HSSRegressor(random_state=0).fit(F[:30].astype(kind), U[:30].astype(kind))
    assert relative_l2_error(U[30:], model.predict(F[30:])) < level
    # A fit that is as good as the numbers are ends the search.
    slow = [row["fit"] for row in model.candidates_ if row["solver"] == "gauss_newton"]
    assert not slow


@pytest.mark.parametrize("model", [NETWORKS[0], clone(LINEAR[0]).set_params(solver="least_squares")], ids=name_of)
def test_integers_and_truth_values(model):
    X = np.random.RandomState(0).randint(0, 5, (12, 6, 7))
    expected = apply(clone(model).fit(X.astype(float), GRID.Y), X.astype(float))
    np.testing.assert_array_equal(apply(clone(model).fit(X, GRID.Y), X), expected)
    flags = X > 2
    np.testing.assert_array_equal(
        apply(clone(model).fit(flags, GRID.Y), flags),
        apply(clone(model).fit(flags.astype(float), GRID.Y), flags.astype(float)),
    )


COUNTS = {"rank", "levels", "depth", "width", "max_epochs", "batch_size", "n_iter_no_change", "outer_rank", "modes"}


@pytest.mark.parametrize("model", FLAT_MAPS, ids=name_of)
def test_true_is_no_integer(model):
    for name in COUNTS & set(model.get_params()):
        with pytest.raises(ValueError, match=f"The '{name}' parameter"):
            clone(model).set_params(**{name: True}).fit(LINE.X, LINE.Y)
    with pytest.raises(ValueError, match="grid_shape"):
        clone(model).set_params(grid_shape=(True, 32)).fit(LINE.X, LINE.Y)


@pytest.mark.parametrize("size", [1e-180, 1e180])
def test_penalties_of_inputs_whose_squares_are_no_numbers(size):
    F = np.random.RandomState(0).standard_normal((30, 16))
    A = np.random.RandomState(1).standard_normal((16, 16))
    model = HSSRegressor(solver="least_squares", fit_intercept=False, random_state=0).fit(size * F, F @ A)
    np.testing.assert_allclose(model.predict(size * F), F @ A, atol=1e-10)
    assert model.alpha_ >= 0
