"""Displays, their data against what is drawn; pictures whose texts lie on each other or outside fail."""

import itertools
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_hss import (
    ConformalFieldRegressor,
    FNORegressor,
    HSSRegressor,
    LocalEvolutionRegressor,
    LocalOperatorRegressor,
    RolloutRegressor,
)
from sklearn_hss.datasets import make_elliptic, make_heat, make_poisson
from sklearn_hss.linalg import HSSMatrix
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer
from sklearn_hss.plotting import (
    DataEfficiencyDisplay,
    FieldPredictionDisplay,
    HSSMatrixDisplay,
    LocalLawDisplay,
    OperatorDisplay,
    RolloutDisplay,
    TrainingHistoryDisplay,
)
from sklearn_hss.plotting._style import PANEL, SINGLE, colours_of, short_labels

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def visible_texts(figure):
    """Texts that are seen, with the boxes that they take up."""
    figure.draw_without_rendering()
    renderer, found = figure.canvas.get_renderer(), []
    every = list(figure.axes) + [child for ax in figure.axes for child in ax.child_axes]
    ticks = {}
    for ax in dict.fromkeys(every):
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                room = 1e-9 * (high - low)
                for label in (tick.label1, tick.label2):
                    ticks[label] = ax.axison and tick.get_visible() and low - room <= tick.get_loc() <= high + room
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_text().strip() and text.get_visible() and ticks.get(text, True):
            ax = text.axes
            if ax is None or ax.get_visible():
                found.append((text.get_text(), text.get_window_extent(renderer)))
    return found


def assert_readable(figure):
    """No text lies on another one or leaves the figure."""
    texts = visible_texts(figure)
    assert len(texts) > 3
    for text, box in texts:
        assert figure.bbox.x0 - 1 <= box.x0, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width <= 1 or height <= 1, (one, other)


def test_overlapping_labels_are_noticed():
    figure, (left, right) = plt.subplots(1, 2)
    left.set_title("a title that is long enough to reach into the next one")
    right.set_title("a title that is long enough to reach into the last one")
    with pytest.raises(AssertionError, match="a title"):
        assert_readable(figure)
    figure, ax = plt.subplots(layout="constrained")
    assert_readable(figure)
    ax.set_xticks([0.5, 0.501], ["first", "second"])
    with pytest.raises(AssertionError, match="first"):
        assert_readable(figure)
    figure, ax = plt.subplots()
    ax.set_ylabel("label\nof\nmany\nlines\nthat\nis\ncut")
    with pytest.raises(AssertionError, match="cut"):
        assert_readable(figure)


def fields(*shape, seed=0):
    """Smooth fields of two signs."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(shape)
    for axis in range(1, len(shape)):
        y = y + np.roll(y, 1, axis=axis)
    return y


class Recorder(RegressorMixin, BaseEstimator):
    """Twice the inputs, and what it was asked for."""

    def fit(self, X, y=None):
        self.asked_ = []
        return self

    def predict(self, X):
        self.asked_.append(np.asarray(X))
        return 2 * np.asarray(X)

    def rollout(self, u0, n_steps):
        return np.stack([np.asarray(u0) * 0.9**k for k in range(n_steps + 1)], axis=1)


# Fields and predictions


def test_maps_have_the_data_and_share_their_limits():
    true = fields(3, 8, 12)
    predicted = true + 0.1 * fields(3, 8, 12, seed=1)
    display = FieldPredictionDisplay.from_predictions(true, predicted, samples=[2, 0])
    assert display.axes_.shape == display.artists_.shape == (2, 3)
    for row, sample in enumerate((2, 0)):
        drawn = [image.get_array() for image in display.artists_[row]]
        for found, expected in zip(drawn, (true, predicted, predicted - true), strict=True):
            np.testing.assert_array_equal(found, expected[sample].T)
        limits = [image.get_clim() for image in display.artists_[row]]
        size, error = np.abs(true[sample]).max(), np.abs(predicted - true)[sample].max()
        assert limits == [(-size, size), (-size, size), (-error, error)]
        names = [image.get_cmap().name for image in display.artists_[row]]
        assert names == ["RdBu_r", "RdBu_r", "PuOr_r"]
        expected = f"{relative_l2_error(true[[sample]], predicted[[sample]]):.1e}".replace("e-0", "e−")
        assert expected in display.axes_[row, 2].get_title()
        assert display.axes_[row, 0].get_ylabel().startswith(f"sample {sample}")
    assert_readable(display.figure_)


def test_fields_of_one_sign_have_a_sequential_map():
    true = 1 + np.random.default_rng(0).uniform(size=(1, 6, 6))
    image = FieldPredictionDisplay.from_predictions(true, true).artists_[0, 0]
    assert image.get_cmap().name == "viridis"
    assert image.get_clim() == (true.min(), true.max())
    assert colours_of(np.array([-0.001, 1.0]))["cmap"] == "viridis"  # a rounding below zero is no second sign
    constant = colours_of(np.full(4, 3.0))
    assert (constant["vmin"], constant["vmax"]) == (1.5, 4.5)
    nothing = colours_of(np.full(4, np.nan))
    assert nothing["vmin"] < nothing["vmax"]


def test_colour_bars_are_beside_their_images_and_pointed_beyond_the_truth():
    true = fields(1, 8, 8)
    display = FieldPredictionDisplay.from_predictions(true, 3 * true)
    display.figure_.draw_without_rendering()
    bars = [ax.child_axes for ax in display.axes_[0]]
    assert [len(bar) for bar in bars] == [0, 1, 1]
    for ax, (bar,) in zip(display.axes_[0, 1:], bars[1:], strict=True):
        image, beside = ax.get_window_extent(), bar.get_window_extent()
        points = 0.05 * beside.height if bar is bars[1][0] else 0.0  # of its ends
        assert (image.y0, image.y1) == pytest.approx((beside.y0 - points, beside.y1 + points), abs=0.5)
        assert image.x1 < beside.x0
    assert display.artists_[0, 1].colorbar.extend == "both"
    assert display.artists_[0, 2].colorbar.extend == "neither"


@pytest.mark.parametrize("outside", ["mask", "NaN"])
def test_points_outside_are_blank(outside):
    true, mask = fields(1, 10, 10), np.ones((10, 10), bool)
    mask[:5, :5] = False
    predicted = true + 1
    true[0, ~mask] = np.nan if outside == "NaN" else 1e3
    kept = {"mask": mask} if outside == "mask" else {}
    display = FieldPredictionDisplay.from_predictions(true, predicted, **kept)
    for image in display.artists_[0]:
        np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), ~mask.T)
    assert display.artists_[0, 0].get_clim()[1] < 100
    expected = relative_l2_error(np.where(mask, true, 0), predicted, mask=mask)
    assert f"{expected:.1e}".replace("e-0", "e−") in display.axes_[0, 2].get_title()
    display.figure_.canvas.draw()  # and blank is what is seen
    x, y = display.axes_[0, 0].transData.transform((1, 1))
    seen = np.asarray(display.figure_.canvas.buffer_rgba())[int(display.figure_.bbox.height - y), int(x), :3]
    np.testing.assert_allclose(seen / 255, 0.88, atol=0.01)


def test_predictions_that_are_not_finite_are_told():
    true = fields(1, 6, 6)
    predicted = true.copy()
    predicted[0, 2, 3] = np.inf
    display = FieldPredictionDisplay.from_predictions(true, predicted)
    assert "not finite" in display.axes_[0, 2].get_title()
    assert np.ma.getmaskarray(display.artists_[0, 1].get_array()).sum() == 1


def test_lines_and_bands_in_one_dimension():
    true = fields(2, 30)
    predicted = true + 0.1
    display = FieldPredictionDisplay.from_predictions(
        true, predicted, interval=(true - 1, true + 1), samples=1, extent=(0, 1)
    )
    (truth, prediction), (error,) = display.artists_[0]
    np.testing.assert_allclose(truth.get_xydata(), np.stack([np.linspace(0, 1, 30), true[1]], axis=1))
    np.testing.assert_array_equal(prediction.get_ydata(), predicted[1])
    np.testing.assert_allclose(error.get_ydata(), 0.1)
    (band,) = display.axes_[0, 0].collections
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == pytest.approx((true[1].min() - 1, true[1].max() + 1))
    assert_readable(display.figure_)


def test_width_of_bands_in_two_dimensions():
    true, half = fields(1, 8, 8), np.random.default_rng(0).uniform(size=(1, 8, 8))
    display = FieldPredictionDisplay.from_predictions(true, true, interval=(true - half, true + half))
    np.testing.assert_allclose(display.artists_[0, 3].get_array(), 2 * half[0].T)
    assert display.artists_[0, 3].get_clim()[0] == 0
    assert_readable(display.figure_)


@pytest.mark.parametrize(("axis", "index"), [(0, 2), (1, 0), (-1, None)])
def test_slices_of_three_dimensions(axis, index):
    true = fields(1, 4, 5, 6)
    display = FieldPredictionDisplay.from_predictions(true, true, slice_axis=axis, slice_index=index)
    expected = true[0].take(3 if index is None else index, axis=axis)
    np.testing.assert_array_equal(display.artists_[0, 0].get_array(), expected.T)
    assert f"{'xyz'[axis]} = {3 if index is None else index}" in display.axes_[0, 0].get_title()
    assert display.axes_[0, 0].get_ylabel() == ("y" if axis == -1 else "z")


def test_channels_are_rows():
    true = fields(2, 3, 6, 7)
    named = {"grid_shape": (6, 7), "field_names": ["u", "v", "w"]}
    display = FieldPredictionDisplay.from_predictions(true.reshape(2, -1), true, **named)
    assert display.axes_.shape == (3, 3)
    for channel in range(3):
        np.testing.assert_array_equal(display.artists_[channel, 0].get_array(), true[0, channel].T)
        assert display.axes_[channel, 0].get_ylabel() == "uvw"[channel] + "\ny"
    assert_readable(display.figure_)
    one = FieldPredictionDisplay.from_predictions(true, true, channels=[-1], samples=1, grid_shape=(6, 7))
    np.testing.assert_array_equal(one.artists_[0, 0].get_array(), true[1, 2].T)


def square_mesh(n=6):
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n), indexing="ij"))
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    halves = [[corner, corner + n, corner + 1], [corner + n, corner + n + 1, corner + 1]]
    return np.stack([x, y], axis=1), np.concatenate([np.stack(half, axis=1) for half in halves])


@pytest.mark.parametrize("known", [True, False])
def test_meshes(known):
    points, triangles = square_mesh()
    true = np.sin(3 * points[:, 0])[None] * np.cos(2 * points[:, 1])
    mask = points[:, 0] < 0.7
    display = FieldPredictionDisplay.from_predictions(
        true, true + 0.1, points=points, triangles=triangles if known else None, mask=mask
    )
    image = display.artists_[0, 0]
    np.testing.assert_allclose(image.get_array()[mask], true[0, mask])
    mesh = image._triangulation
    assert len(mesh.triangles) == len(triangles)
    np.testing.assert_array_equal(mesh.mask, ~mask[mesh.triangles].all(axis=1))
    np.testing.assert_allclose(display.artists_[0, 2].get_clim(), (-0.1, 0.1))
    assert display.axes_[0, 0].get_xlim()[1] > 1
    assert_readable(display.figure_)


def test_points_on_a_line_are_sorted():
    points = np.array([[0.5], [0.0], [1.0], [0.2]])
    display = FieldPredictionDisplay.from_predictions([[1.0, 0.0, 3.0, 2.0]], [[1.0, 0.0, 3.0, 2.0]], points=points)
    np.testing.assert_array_equal(display.artists_[0, 0][0].get_xydata(), [[0, 0], [0.2, 2], [0.5, 1], [1, 3]])


def test_estimators_predict_only_what_is_drawn():
    X = fields(5, 8)
    model = Recorder().fit(X)
    display = FieldPredictionDisplay.from_estimator(model, X, X, samples=[3, -1])
    np.testing.assert_array_equal(np.concatenate(model.asked_), X[[3, 4]])
    np.testing.assert_array_equal(display.artists_[1, 0][1].get_ydata(), 2 * X[4])
    assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == ["sample 3", "sample 4"]
    frame = pd.DataFrame(X)
    again = FieldPredictionDisplay.from_estimator(model, frame, frame, samples=3)
    np.testing.assert_array_equal(again.artists_[0, 0][1].get_ydata(), 2 * X[3])


def test_grid_mask_and_bands_of_an_estimator_are_known():
    n = 8
    i, j = np.indices((n, n))
    mask = (i < 4) | (j < 4)
    F, U = make_elliptic(30, (n, n), domain=mask, random_state=0, verbose=0)
    U = U + 1e-3 * U.std() * np.random.RandomState(0).standard_normal(U.shape) * mask
    model = ConformalFieldRegressor(Ridge(1e-3), mask=mask, random_state=0).fit(F[:25], U[:25])
    display = FieldPredictionDisplay.from_estimator(model, F[25:], U[25:])
    assert display.axes_.shape == (1, 4)
    lower, upper = model.predict_interval(F[25:26])
    np.testing.assert_allclose(display.artists_[0, 3].get_array().T[mask], (upper - lower)[0][mask])
    np.testing.assert_array_equal(np.ma.getmaskarray(display.artists_[0, 0].get_array()), ~mask.T)
    without = FieldPredictionDisplay.from_estimator(model, F[25:], U[25:], interval=False)
    assert without.axes_.shape == (1, 3)
    flat = make_pipeline(FunctionTransformer(), HSSRegressor(grid_shape=(n, n), mask=mask, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat.fit(F.reshape(30, -1), U.reshape(30, -1))
        of_rows = FieldPredictionDisplay.from_estimator(flat, F.reshape(30, -1), U.reshape(30, -1), samples=2)
    np.testing.assert_array_equal(of_rows.artists_[0, 0].get_array().T[mask], U[2][mask])


@pytest.mark.parametrize(
    ("y_true", "y_pred", "options", "message"),
    [
        (np.ones(5), np.ones(5), {}, "must be fields"),
        (np.ones((2, 5)), np.ones((2, 6)), {}, "must be equal"),
        (np.ones((2, 5)) * 1j, np.ones((2, 5)), {}, "Complex data not supported"),
        (np.ones((2, 5)), np.ones((2, 5)), {"samples": 2}, "samples=2 must be .* from 0 to 1"),
        (np.ones((2, 5)), np.ones((2, 5)), {"samples": []}, "samples="),
        (np.ones((2, 5)), np.ones((2, 5)), {"channels": 1}, "channels=1"),
        (np.ones((2, 5, 5)), np.ones((2, 5, 5)), {"grid_shape": (5, 6)}, "do not fit the grid"),
        (np.ones((2, 5, 5)), np.ones((2, 5, 5)), {"mask": np.ones((4, 5), bool)}, "mask has shape"),
        (np.ones((2, 5, 5)), np.ones((2, 5, 5)), {"mask": "auto"}, "mask='auto' is for estimators"),
        (np.ones((2, 5, 5)), np.ones((2, 5, 5)), {"extent": (0, 1)}, "extent=.* for each of the axes"),
        (np.ones((2, 5)), np.ones((2, 5)), {"extent": (1, 1)}, "different first and last"),
        (np.ones((2, 2, 3, 4, 5)), np.ones((2, 2, 3, 4, 5)), {}, "up to 3"),
        (np.ones((2, 3, 3, 3)), np.ones((2, 3, 3, 3)), {"slice_axis": 3}, "slice_axis=3"),
        (np.ones((2, 3, 3, 3)), np.ones((2, 3, 3, 3)), {"slice_index": 3}, "slice_index=3 .* from 0 to 2"),
        (np.ones((2, 5)), np.ones((2, 5)), {"interval": np.ones(5)}, "interval must be a pair"),
        (np.ones((2, 5)), np.ones((2, 5)), {"interval": (np.ones((2, 5)), np.ones((2, 6)))}, "upper end of interval"),
        (np.ones((2, 5)), np.ones((2, 5)), {"field_names": ["u", "v"]}, "must be 1 names"),
        (np.ones((2, 5)), np.ones((2, 5)), {"points": np.ones((2, 5))}, r"give mesh.p.T"),
        (np.ones((2, 5)), np.ones((2, 5)), {"points": np.ones((5, 3))}, "in space"),
        (np.ones((2, 5)), np.ones((2, 5)), {"triangles": [[0, 1, 2]]}, "give points= as well"),
        (np.ones((2, 5)), np.ones((2, 5)), {"points": np.ones((5, 2)), "triangles": [[0, 1, 5]]}, "from 0 to 5"),
        (np.ones((2, 5)), np.ones((2, 5)), {"points": np.ones((5, 2)), "triangles": np.ones((3, 9), int)}, "mesh.t.T"),
        (np.ones((2, 5)), np.ones((2, 5)), {"points": np.ones((5, 2)), "extent": (0, 1)}, "extent= is for grids"),
    ],
)
def test_fields_that_cannot_be_drawn_are_refused(y_true, y_pred, options, message):
    with pytest.raises(ValueError, match=message):
        FieldPredictionDisplay.from_predictions(y_true, y_pred, **options)
    assert not plt.get_fignums()


def test_bad_requests_of_estimators_are_refused_before_predictions():
    X = fields(4, 6, 6)
    with pytest.raises(NotFittedError):
        FieldPredictionDisplay.from_estimator(LinearRegression(), X, X)
    model = Recorder().fit(X)
    for options in ({"samples": 9}, {"grid_shape": (5, 5)}):
        with pytest.raises(ValueError, match=r"samples=9|do not fit"):
            FieldPredictionDisplay.from_estimator(model, X, X, **options)
    assert not model.asked_


def test_axes_of_the_user_and_sizes_of_figures():
    true = fields(2, 6, 6)
    figure, axes = plt.subplots(1, 3)
    display = FieldPredictionDisplay.from_predictions(true, true, axes=axes)
    assert display.figure_ is figure
    assert list(display.axes_[0]) == list(axes)
    with pytest.raises(ValueError, match="3 axes were given, but the picture has 2 × 3 panels"):
        display.plot(samples=[0, 1], axes=axes)
    with pytest.raises(TypeError, match="must be matplotlib Axes"):
        display.plot(axes=["ax"] * 3)
    again = display.plot(samples=[0, 1])
    assert again is display
    assert tuple(display.figure_.get_size_inches()) == pytest.approx((3 * PANEL[0], 2 * PANEL[1]))
    for single in (
        DataEfficiencyDisplay.from_errors({"a": [1.0]}, train_sizes=[3]).figure_,
        TrainingHistoryDisplay.from_history([{"train_loss": 1.0}]).figure_,
    ):
        assert tuple(single.get_size_inches()) == pytest.approx(SINGLE)


# Rollouts


def test_rollouts_in_space_and_time():
    true = np.abs(fields(3, 5, 12)) + 1
    predicted = {"good": true * 1.01, "bad": true * 2}
    times = [0.0, 0.5, 1.0, 2.0, 4.0]
    display = RolloutDisplay.from_predictions(true, predicted, times=times, trajectory=1, extent=(0, 1))
    assert display.images_.shape == (3, 1)
    for image, y in zip(display.images_[:, 0], (true, *predicted.values()), strict=True):
        np.testing.assert_array_equal(image.get_array(), y[1].T)
        assert image.get_clim() == (true[1].min(), true[1].max())
    good, bad, no_change = display.lines_
    np.testing.assert_allclose(good.get_ydata(), 0.01)
    np.testing.assert_allclose(bad.get_ydata(), 1.0)
    np.testing.assert_array_equal(good.get_xdata(), times[1:])
    expected = [relative_l2_error(true[:, k], true[:, 0]) for k in range(1, 5)]
    np.testing.assert_allclose(no_change.get_ydata(), expected)
    assert_readable(display.figure_)


def test_snapshots_of_planes():
    mask = np.ones((6, 7), bool)
    mask[:2] = False
    true = fields(2, 9, 6, 7)
    predicted = np.where(mask, true + 0.1, 5.0)
    display = RolloutDisplay.from_predictions(true, predicted, mask=mask, snapshots=[2, 8])
    assert display.images_.shape == (2, 2)
    np.testing.assert_array_equal(display.images_[1, 1].get_array().T[mask], predicted[0, 8][mask])
    assert np.ma.getmaskarray(display.images_[0, 0].get_array()).sum() == (~mask).sum()
    expected = [relative_l2_error(true[:, k], predicted[:, k], mask=mask) for k in range(1, 9)]
    np.testing.assert_allclose(display.lines_[0].get_ydata(), expected)
    assert_readable(display.figure_)
    assert RolloutDisplay.from_predictions(true, true).images_.shape == (2, 4)
    assert RolloutDisplay.from_predictions(true[:, :2], true[:, :2]).images_.shape == (2, 1)


def test_lines_end_where_rollouts_do():
    true = fields(2, 4, 10)
    predicted = true.copy()
    predicted[1, 2:] = np.nan
    display = RolloutDisplay.from_predictions(true, predicted)
    np.testing.assert_array_equal(np.isfinite(display.lines_[0].get_ydata()), [True, False, False])
    assert np.isinf(display.errors_["prediction"][1, 2:]).all()


def test_estimators_roll_out_from_first_states():
    true = np.abs(fields(3, 4, 10)) + 1
    model = Recorder().fit(true)
    display = RolloutDisplay.from_estimators({"a": model, "b": make_search(model, true)}, true)
    np.testing.assert_allclose(display.y_pred["a"][:, :, 0], true[:, :1] * 0.9 ** np.arange(4)[:, None])
    np.testing.assert_array_equal(display.y_pred["a"], display.y_pred["b"])
    assert list(RolloutDisplay.from_estimator(model, true).errors_) == ["Recorder"]
    times, U = make_heat(6, 32, solver="exact", return_trajectories=True, random_state=0)
    step = RolloutRegressor(HSSRegressor(random_state=0)).fit(U[:5])
    of_step = RolloutDisplay.from_estimator(step, U[5:], times=times)
    np.testing.assert_array_equal(of_step.images_[1, 0].get_array(), step.rollout(U[5:, 0], len(times) - 1)[0].T)


def make_search(model, X):
    search = GridSearchCV(model, {}, scoring=lambda *arguments: 0.0, cv=2)
    return search.fit(X, X)


@pytest.mark.parametrize(
    ("y_true", "y_pred", "options", "message"),
    [
        (np.ones((2, 5)), np.ones((2, 5)), {}, "must be trajectories"),
        (np.ones((2, 1, 5)), np.ones((2, 1, 5)), {}, "at least 2 times"),
        (np.ones((2, 3, 5)), np.ones((2, 4, 5)), {}, "must be equal"),
        (np.ones((2, 3, 5)), {}, {}, "y_pred is empty"),
        (np.ones((2, 3, 5)), np.ones((2, 3, 5)), {"times": [0, 1]}, "3 increasing numbers"),
        (np.ones((2, 3, 5)), np.ones((2, 3, 5)), {"times": [0, 1, 1]}, "3 increasing numbers"),
        (np.ones((2, 3, 5)), np.ones((2, 3, 5)), {"trajectory": 2}, "trajectory="),
        (np.ones((2, 3, 5)), np.ones((2, 3, 5)), {"channel": 1}, "channel="),
        (np.ones((2, 3, 5)), np.ones((2, 3, 5)), {"snapshots": [1]}, "snapshots= is for states of two"),
        (np.ones((2, 3, 5, 5)), np.ones((2, 3, 5, 5)), {"snapshots": [3]}, "snapshots="),
    ],
)
def test_rollouts_that_cannot_be_drawn_are_refused(y_true, y_pred, options, message):
    with pytest.raises(ValueError, match=message):
        RolloutDisplay.from_predictions(y_true, y_pred, **options)
    assert not plt.get_fignums()


def test_estimators_without_rollouts_are_refused():
    X = fields(3, 4, 10)
    with pytest.raises(TypeError, match="LinearRegression has no rollouts"):
        RolloutDisplay.from_estimator(LinearRegression().fit(X[0], X[0]), X)
    with pytest.raises(TypeError, match="must be a dict"):
        RolloutDisplay.from_estimators([], X)


# Data efficiency


def test_errors_against_samples():
    errors = {"a": [[0.1, 0.3, 0.2], [0.01, 0.03, 0.02]], "b": [0.5, 0.0]}
    display = DataEfficiencyDisplay.from_errors(errors, train_sizes=[10, 40])
    a, b = display.lines_
    np.testing.assert_allclose(a.get_xydata(), [[10, 0.2], [40, 0.02]])
    assert b.get_ydata()[1] > 0  # zero has no place on a logarithmic axis
    corners = display.bands_[0].get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (0.01, 0.3)
    assert len(display.bands_) == 1
    assert (display.ax_.get_xscale(), display.ax_.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["10", "40"]
    assert_readable(display.figure_)
    colours = [line.get_color() for line in display.lines_]
    assert len(set(colours)) == len({line.get_marker() for line in display.lines_}) == 2


def test_sizes_that_are_close_are_not_all_labelled():
    sizes = [10, 11, 12, 20, 100, 1000, 1010]
    display = DataEfficiencyDisplay.from_errors({"a": np.ones(7)}, train_sizes=sizes)
    assert_readable(display.figure_)
    assert "1000" in [text.get_text() for text in display.ax_.get_xticklabels()]


def test_fits_are_those_of_a_loop():
    F, U = make_poisson(40, 16, modes=(1, 5), random_state=0)
    models = {"ridge": Ridge(1e-6), "least squares": LinearRegression(fit_intercept=False)}
    options = {"train_sizes": [8, 4], "X_test": F[30:], "y_test": U[30:], "n_seeds": 2, "random_state": 3}
    display = DataEfficiencyDisplay.from_estimators(models, F[:30], U[:30], **options)
    rng = np.random.RandomState(3)
    orders = [rng.permutation(30) for _ in range(2)]
    for name, model in models.items():
        for row, size in enumerate((4, 8)):
            for column, order in enumerate(orders):
                fitted = model.fit(F[:30][order[:size]], U[:30][order[:size]])
                expected = relative_l2_error(U[30:], fitted.predict(F[30:]))
                assert display.errors[name][row, column] == pytest.approx(expected, rel=1e-9)


def test_cross_validation_is_that_of_learning_curves():
    F, U = make_poisson(30, 16, modes=(1, 5), random_state=0)
    display = DataEfficiencyDisplay.from_estimators({"ridge": Ridge()}, F, U, train_sizes=[5, 10], cv=3)
    _, _, scores = learning_curve(Ridge(), F, U, train_sizes=[5, 10], cv=3, scoring=relative_l2_scorer)
    np.testing.assert_allclose(display.errors["ridge"], -scores)


def test_frames_have_a_row_for_each_fit():
    frame = pd.DataFrame({"model": ["a", "a", "a", "b"], "samples": [10, 10, 20, 20], "error": [1.0, 3.0, 0.5, 0.1]})
    display = DataEfficiencyDisplay.from_frame(frame)
    np.testing.assert_array_equal(display.errors["a"], [[1.0, 3.0], [0.5, np.nan]])
    np.testing.assert_array_equal(display.lines_[0].get_xydata(), [[10, 2], [20, 0.5]])
    np.testing.assert_array_equal(display.lines_[1].get_xydata(), [[20, 0.1]])
    with pytest.raises(ValueError, match="error='loss' is no column of the frame"):
        DataEfficiencyDisplay.from_frame(frame, error="loss")


def test_fits_that_fail_leave_a_gap():
    class Fussy(Ridge):
        def fit(self, X, y):
            if len(X) < 6:
                raise ValueError("too few samples")
            return super().fit(X, y)

    F, U = make_poisson(30, 16, modes=(1, 5), random_state=0)
    with pytest.warns(FitFailedWarning, match="2 of 4 fits failed .* too few samples"):
        display = DataEfficiencyDisplay.from_estimators(
            {"fussy": Fussy()}, F[:20], U[:20], train_sizes=[4, 8], X_test=F[20:], y_test=U[20:], n_seeds=2
        )
    np.testing.assert_array_equal(display.lines_[0].get_xdata(), [8])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_sizes": [0, 5]}, "train_sizes=.* positive integers"),
        ({"train_sizes": [0.5]}, "train_sizes=.* positive integers"),
        ({"train_sizes": [5], "y_test": np.ones((3, 4))}, "y_test was given without X_test"),
        ({"train_sizes": [30]}, "goes up to 30, but there are 16"),
        ({"train_sizes": [5], "X_test": np.ones((3, 4)), "y_test": np.ones((3, 4)), "cv": 3}, "leave one of them out"),
        ({"train_sizes": [5], "X_test": np.ones((3, 4)), "y_test": np.ones((3, 4)), "n_seeds": 0}, "n_seeds=0"),
        ({"train_sizes": [5], "X_test": np.ones((3, 4))}, "belong together"),
    ],
)
def test_bad_learning_curves_are_refused_before_fits(options, message):
    class Never(Ridge):
        def fit(self, X, y):
            raise AssertionError

    with pytest.raises(ValueError, match=message):
        DataEfficiencyDisplay.from_estimators({"never": Never()}, np.ones((20, 4)), np.ones((20, 4)), **options)


@pytest.mark.parametrize(
    ("errors", "error", "message"),
    [
        ({}, TypeError, "at least one name"),
        ({"a": [1.0]}, ValueError, "'a' have shape"),
        ({"a": [-1.0, -2.0]}, ValueError, "minus the error"),
    ],
)
def test_errors_that_are_none_are_refused(errors, error, message):
    with pytest.raises(error, match=message):
        DataEfficiencyDisplay.from_errors(errors, train_sizes=[5, 10])


# Operators


def test_columns_and_spectrum_are_those_of_the_matrix():
    generator = np.random.default_rng(0)
    A = generator.standard_normal((12, 12))
    display = OperatorDisplay.from_operator(HSSMatrix.from_dense(torch.from_numpy(A), levels=1), columns=[3, -1])
    for line, column in zip(display.artists_, (3, 11), strict=True):
        np.testing.assert_allclose(line.get_ydata(), A[:, column])
    np.testing.assert_allclose(display.singular_values_, np.linalg.svd(A, compute_uv=False))
    np.testing.assert_allclose(display.axes_[-1].lines[0].get_ydata(), display.singular_values_)
    assert_readable(display.figure_)


def test_columns_on_planes_are_maps():
    A = np.random.default_rng(0).standard_normal((20, 20))
    mask = np.ones((4, 5), bool)
    mask[0] = False
    display = OperatorDisplay.from_operator(A, columns=[(2, 3)], grid_shape=(4, 5), mask=mask, spectrum=False)
    assert display.columns_.tolist() == [13]
    assert len(display.axes_) == 1
    assert display.singular_values_ is None
    np.testing.assert_array_equal(display.artists_[0].get_array().T[mask], A[:, 13].reshape(4, 5)[mask])
    assert display.axes_[0].get_title() == "source at (2, 3)"


def test_columns_that_are_zero_are_not_chosen():
    A = np.zeros((30, 30))
    A[:, 10:20] = 1 + np.random.default_rng(0).uniform(size=(30, 10))
    display = OperatorDisplay.from_operator(A)
    assert len(display.columns_) == 3
    assert set(display.columns_) <= set(range(10, 20))
    assert display.axes_[-1].get_title() == "singular values (20 zero)"
    assert_readable(display.figure_)


def test_operators_of_estimators():
    F, U = make_poisson(12, 16, forcing="gaussian", order=2, random_state=0)
    model = HSSRegressor(random_state=0).fit(F, U)
    dense = model.operator_.to_dense().numpy()
    np.testing.assert_allclose(OperatorDisplay.from_estimator(model, columns=[5]).responses_[0], dense[:, 5])
    search = GridSearchCV(HSSRegressor(random_state=0), {"fit_intercept": [False]}, cv=2).fit(F, U)
    np.testing.assert_allclose(
        OperatorDisplay.from_estimator(search, columns=[5]).responses_[0], dense[:, 5], atol=1e-10
    )
    ridge = Ridge().fit(F, U)
    np.testing.assert_array_equal(OperatorDisplay.from_estimator(ridge, columns=[5]).responses_[0], ridge.coef_[:, 5])


def test_operators_that_cannot_be_drawn_are_refused():
    with pytest.raises(TypeError, match="Recorder has no linear operator"):
        OperatorDisplay.from_estimator(Recorder().fit(None))
    A = np.eye(9)
    for options, message in (
        ({"columns": [9]}, "columns has 9, which is no point"),
        ({"columns": [(1, 3)], "grid_shape": (3, 3)}, r"columns has \(1, 3\)"),
        ({"columns": []}, "columns is empty"),
        ({"spectrum": "yes"}, "spectrum='yes'"),
        ({"channel": 1}, "channel="),
    ):
        with pytest.raises(ValueError, match=message):
            OperatorDisplay.from_operator(A, **options)
    with pytest.raises(ValueError, match="must be a matrix"):
        OperatorDisplay.from_operator(np.ones(3))
    large = np.broadcast_to(np.ones(1), (2049, 2049))
    with pytest.raises(ValueError, match=r"spectrum=True needs .* 2049 × 2049.* use spectrum=False"):
        OperatorDisplay.from_operator(large, columns=[0], spectrum=True)
    assert not plt.get_fignums()
    assert OperatorDisplay.from_operator(large, columns=[0]).singular_values_ is None


# Local laws


def test_coefficients_of_derivatives_are_those_of_the_equation():
    n = 16
    x, y = np.indices((n, n)) / n
    mask = (x - 0.4) ** 2 + (y - 0.5) ** 2 > 0.2**2
    equation = {"diffusivity": lambda x, y: 1 + x + 0 * y, "velocity": (5.0, -3.0)}
    F, U = make_elliptic(10, (n, n), domain=mask, **equation, random_state=0, verbose=0)
    model = LocalOperatorRegressor(mask=mask, spacing=1 / n, random_state=0).fit(F, U)
    display = LocalLawDisplay.from_estimator(model)
    expected = {"u_x": 5 - 1 + 0 * x, "u_y": -3 + 0 * x, "u_xx": -1 - x, "u_yy": -1 - x}
    assert list(display.maps) == list(expected)
    whole = mask.copy()
    whole[0], whole[:, 0] = False, False  # the grid has two sides of the box
    padded = np.pad(whole, 1)
    for shift in (padded[2:, 1:-1], padded[:-2, 1:-1], padded[1:-1, 2:], padded[1:-1, :-2]):
        whole = whole & shift
    for name, values in expected.items():
        np.testing.assert_array_equal(np.isfinite(display.maps[name]), whole)
        np.testing.assert_allclose(display.maps[name][whole], values[whole], atol=1e-6)
        drawn = display.artists_[name].get_array()
        np.testing.assert_array_equal(np.ma.getmaskarray(drawn), ~whole.T)
    assert "0 of" in display.axes_[-1].get_title()
    assert_readable(display.figure_)
    stencil = LocalLawDisplay.from_estimator(model, kind="stencil")
    assert len(stencil.maps) == 5
    at = (n - 4) * n + n - 4
    assert stencil.maps["u at (+1, 0)"][n - 4, n - 4] == model.L_[at, at + n]
    assert stencil.maps["u at (0, −1)"][n - 4, n - 4] == model.L_[at, at - 1]
    assert_readable(stencil.figure_)


def test_undetermined_rows_are_marked_and_do_not_set_the_colours():
    field, open_rows = np.ones((6, 6)), np.zeros((6, 6), bool)
    field[2, 3], open_rows[2, 3] = 1e6, True
    field[0, 0] = 2.0
    display = LocalLawDisplay(maps={"u": field}, undetermined=open_rows).plot()
    np.testing.assert_array_equal(display.artists_["undetermined"].get_array(), open_rows.T)
    assert display.artists_["u"].get_clim()[1] <= 2
    assert display.artists_["u"].colorbar.extend in ("max", "both")
    assert display.axes_[-1].get_title() == "undetermined: 1 of 36 rows"


def test_terms_are_bars():
    terms = [
        {"term": "u_xx", "coefficient": 0.01, "share": 1.0},
        {"term": "(u^2)_x", "coefficient": -0.5, "share": 0.4},
        {"term": "u", "coefficient": 1e-3, "share": 1e-4},
    ]
    display = LocalLawDisplay(terms={"u_t": terms, "v_t": terms[:1]}).plot(max_terms=2)
    bars = display.artists_["u_t"]
    assert [bar.get_width() for bar in bars] == pytest.approx([1.0, 0.4])
    assert bars[0].get_facecolor() != bars[1].get_facecolor()
    assert [text.get_text() for text in display.axes_[0].texts] == ["0.01", "−0.5"]
    assert [text.get_text() for text in display.axes_[0].get_yticklabels()] == ["u_xx", "(u^2)_x"]
    assert_readable(display.figure_)


def test_laws_of_evolution_have_bars():
    x = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    start = np.random.default_rng(0).standard_normal((4, 5)) @ np.array([np.sin(k * x + k) for k in range(1, 6)])
    spectrum = np.fft.rfft(start)
    rates = np.exp(-0.02 * np.arange(17) ** 2 * np.arange(4)[:, None])
    U = np.fft.irfft(spectrum[:, None] * rates, 32)
    model = LocalEvolutionRegressor(1, spacing=x[1], boundary="periodic", form="law", random_state=0).fit(U)
    display = LocalLawDisplay.from_estimator(model)
    assert [row["term"] for row in display.terms["u_t"]] == [row["term"] for row in model.law_]
    largest = max(display.terms["u_t"], key=lambda row: row["share"])
    assert largest["term"] == "u_xx"
    assert largest["coefficient"] == pytest.approx(0.02, rel=0.05)
    inside = LocalLawDisplay.from_estimator(RolloutRegressor(model).fit(U))
    assert inside.terms == display.terms


def test_laws_that_cannot_be_drawn_are_refused():
    F, U = make_poisson(8, 16, forcing="gaussian", order=2, random_state=0)
    with pytest.raises(TypeError, match="Ridge learns no law"):
        LocalLawDisplay.from_estimator(Ridge().fit(F, U))
    model = LocalOperatorRegressor(random_state=0).fit(F, U)
    for options, message in (
        ({"kind": "entries"}, "kind='entries'"),
        ({"side": "g"}, "side='g'"),
        ({"channel": 1}, "channel="),
        ({"points": np.ones((16, 1))}, "points= is for meshes"),
    ):
        with pytest.raises(ValueError, match=message):
            LocalLawDisplay.from_estimator(model, **options)
    path = sp.diags_array([np.ones(15), np.ones(15)], offsets=[-1, 1])
    on_mesh = LocalOperatorRegressor(neighbours=path, random_state=0).fit(F, U)
    with pytest.raises(ValueError, match="nodes of a mesh need coordinates"):
        LocalLawDisplay.from_estimator(on_mesh)
    line = np.arange(16)[:, None] / 16
    with pytest.raises(ValueError, match="kind='stencil' is for grids"):
        LocalLawDisplay.from_estimator(on_mesh, kind="stencil", points=line)
    found = LocalLawDisplay.from_estimator(on_mesh, points=line).maps["u_xx"]
    np.testing.assert_allclose(found[2:-1], -1, atol=1e-6)  # the last one has a neighbour that is no node
    assert np.isnan(found[:2]).all()
    with pytest.raises(ValueError, match=r"Give maps= .* or terms="):
        LocalLawDisplay()
    with pytest.raises(ValueError, match="terms is empty"):
        LocalLawDisplay(terms={})
    with pytest.raises(ValueError, match="maps must be a dict"):
        LocalLawDisplay(maps={})
    with pytest.raises(ValueError, match="max_terms=0"):
        LocalLawDisplay(terms={"u_t": [{"term": "u", "coefficient": 1.0}]}).plot(max_terms=0)


# Trainings


def test_losses_and_rates():
    history = [{"epoch": k, "train_loss": 2.0**-k, "lr": 0.1 / k, "dur": 0.5} for k in range(1, 6)]
    display = TrainingHistoryDisplay.from_history(history)
    np.testing.assert_array_equal(display.lines_["train_loss"].get_xydata(), [[k, 2.0**-k] for k in range(1, 6)])
    np.testing.assert_array_equal(display.lines_["lr"].get_ydata(), [0.1 / k for k in range(1, 6)])
    assert len(display.axes_) == 2
    assert_readable(display.figure_)
    seconds = TrainingHistoryDisplay.from_history(history, over="seconds")
    np.testing.assert_allclose(seconds.lines_["train_loss"].get_xdata(), np.arange(1, 6) / 2)
    constant = TrainingHistoryDisplay.from_history([{**row, "lr": 0.1, "valid_loss": 1.0} for row in history])
    assert set(constant.lines_) == {"train_loss", "valid_loss"}
    assert len(constant.axes_) == 1


def test_histories_of_networks():
    F, U = make_poisson(10, 16, modes=(1, 5), random_state=0)
    network = FNORegressor(width=2, modes=2, depth=1, max_epochs=3, random_state=0).fit(F, U)
    display = TrainingHistoryDisplay.from_estimator(make_pipeline(FunctionTransformer(), network).fit(F, U))
    assert display.lines_["train_loss"].get_ydata().tolist() == [row["train_loss"] for row in network.history_]


def test_histories_that_cannot_be_drawn_are_refused():
    for history in ([], [{"loss": 1}], [1]):
        with pytest.raises(ValueError, match="history must be dicts"):
            TrainingHistoryDisplay.from_history(history)
    with pytest.raises(ValueError, match="over='steps'"):
        TrainingHistoryDisplay.from_history([{"train_loss": 1}], over="steps")
    with pytest.raises(ValueError, match="over='seconds' needs"):
        TrainingHistoryDisplay.from_history([{"train_loss": 1}], over="seconds")
    with pytest.raises(TypeError, match="LinearRegression has no history_"):
        TrainingHistoryDisplay.from_estimator(LinearRegression().fit([[1]], [1]))
    assert not plt.get_fignums()


# All of them


def test_labels_are_short_and_tell_numbers_apart():
    assert short_labels([0.0, 0.25, 0.5]) == ["0", "0.25", "0.5"]
    assert short_labels([-2e-15, 0.0, 2e-15]) == ["−2e−15", "0", "2e−15"]
    assert short_labels([1000.1, 1000.2]) == ["1000.1", "1000.2"]
    assert short_labels([8000.0, 10000.0]) == ["8000", "10000"]
    assert short_labels([7]) == ["7"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: FieldPredictionDisplay.from_predictions(fields(1, 6), fields(1, 6)),
        lambda: RolloutDisplay.from_predictions(fields(1, 3, 6), fields(1, 3, 6)),
        lambda: RolloutDisplay.from_predictions(fields(1, 3, 6, 6), fields(1, 3, 6, 6)),
        lambda: DataEfficiencyDisplay.from_errors({"a": [1.0]}, train_sizes=[3]),
        lambda: OperatorDisplay.from_operator(np.eye(5)),
        lambda: LocalLawDisplay(maps={"u": np.ones((4, 4))}).plot(),
        lambda: LocalLawDisplay(terms={"u": [{"term": "u", "coefficient": 1.0}]}).plot(),
        lambda: TrainingHistoryDisplay.from_history([{"train_loss": 1}]),
        lambda: HSSMatrixDisplay.from_matrix(HSSMatrix.identity(16)),
    ],
)
def test_without_matplotlib_all_say_what_to_install(draw, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install sklearn-hss\[plot\]"):
        draw()
