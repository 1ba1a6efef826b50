"""NeuralHSSRegressor on fields of two and three dimensions, and with channels."""

import pickle
import warnings

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from sklearn_hss import HSSRegressor, NeuralHSSRegressor
from sklearn_hss.datasets import make_helmholtz, make_poisson
from sklearn_hss.exceptions import PoorFitWarning
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer


def model(**parameters):
    fixed = {"settings": "paper", "architecture": "hss", "max_epochs": 2, "init": "random", "random_state": 0}
    return NeuralHSSRegressor(**{**fixed, **parameters})


def white(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def flat(fields):
    return fields.reshape(len(fields), -1)


@pytest.fixture(scope="module")
def fields():
    """Smooth fields on a grid of 12 x 16 points, and the solutions of Poisson's equation for them."""
    F, U = make_poisson(16, (12, 16), forcing="grf", refinement=1, random_state=0)
    F.flags.writeable = U.flags.writeable = False
    return F, U


@pytest.fixture(scope="module")
def paper():
    """Data of the paper's 2-D experiment."""
    return make_poisson(24, (64, 64), random_state=0)


# Shapes


@pytest.mark.parametrize(("n", "parameters", "expected"), [(64, {}, 65_283), (128, {"rank": 8}, 356_355)])
def test_parameter_counts(n, parameters, expected):
    # outer_rank HSS matrices per axis and layer, and three slopes.
    X = white(2, n, n)
    fitted = model(max_epochs=1, **parameters).fit(X, X)
    assert fitted.n_parameters_ == expected
    assert (fitted.rank_, fitted.levels_) == (parameters.get("rank", 2), 2)
    assert fitted.grid_shape_ == (n, n)
    assert fitted.n_features_in_ == n * n


@pytest.mark.parametrize(("grid", "init"), [((12, 16), "random"), ((5, 7), "auto"), ((8, 6, 10), "random")])
def test_flat_fields_give_the_same_bits(grid, init):
    X = white(5, *grid)
    Y = np.flip(X, axis=-1) + X**2
    whole = model(init=init).fit(X, Y)
    rows = model(init=init, grid_shape=grid).fit(flat(X), flat(Y))
    assert whole.predict(X).shape == Y.shape
    assert rows.predict(flat(X)).shape == flat(Y).shape
    assert whole.grid_shape_ == rows.grid_shape_ == grid
    assert whole.history_[-1]["train_loss"] == rows.history_[-1]["train_loss"]
    np.testing.assert_array_equal(flat(whole.predict(X)), rows.predict(flat(X)))
    np.testing.assert_array_equal(whole.predict(flat(X)), whole.predict(X))
    mixed = model(init=init).fit(X, flat(Y))
    np.testing.assert_array_equal(mixed.predict(X), rows.predict(flat(X)))


@pytest.mark.parametrize(
    ("shape", "target", "grid_shape"),
    [
        ((2, 12, 16), (12, 16), (12, 16)),
        ((2, 12, 16), (2, 12, 16), (12, 16)),
        ((2, 12, 16), (3, 12, 16), (12, 16)),
        ((12, 16), (2, 12, 16), (12, 16)),
        ((1, 12, 16), (1, 12, 16), (12, 16)),
        ((2, 8, 6, 10), (8, 6, 10), (8, 6, 10)),
        ((2, 16), (16,), 16),
        ((2, 16), (3, 16), 16),
        ((16,), (2, 16), (16,)),
        ((2, 16), (2 * 16,), 16),
        ((12, 16), (13, 15), None),
        ((12, 16), (10, 20), None),
        ((2, 12, 16), (2, 12, 16), None),  # a grid of three dimensions
        ((4, 6, 5, 4), (4, 6, 5, 4), None),
    ],
)
def test_shapes_and_channels(shape, target, grid_shape):
    X, Y = white(4, *shape), white(4, *target, seed=1)
    fitted = model(grid_shape=grid_shape).fit(X, Y)
    assert fitted.predict(X).shape == Y.shape
    assert fitted.n_features_in_ == np.prod(shape)
    if grid_shape is not None and len(target) != 2:  # flat, that would be one more grid of one dimension
        twin = model(grid_shape=grid_shape).fit(flat(X), flat(Y))
        np.testing.assert_array_equal(twin.predict(flat(X)), flat(fitted.predict(X)))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))


def test_predictions_are_those_of_the_module():
    X, Y = white(4, 2, 12, 16), white(4, 12, 16, seed=1)
    fitted = model(grid_shape=(12, 16), width=3, dtype="float64").fit(X, Y)
    with torch.no_grad():
        scaled = torch.from_numpy(X / np.abs(X).max(axis=(0, 2, 3), keepdims=True))
        expected = fitted.net_.module_(scaled).numpy() * np.abs(Y).max()
    np.testing.assert_allclose(fitted.predict(X), expected, rtol=1e-12)
    assert fitted.net_.module_.in_channels == 2
    assert fitted.net_.module_.out_channels is None


def test_one_channel_is_that_of_no_channels():
    X, Y = white(4, 12, 16), white(4, 12, 16, seed=1)
    with_channels = model(grid_shape=(12, 16)).fit(X[:, None], Y[:, None])
    np.testing.assert_allclose(with_channels.predict(X)[:, 0], with_channels.predict(X[:, None])[:, 0])


# Training


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"width": 3},
        {"kernel_size": 3},
        {"residual": True},
        {"activation": "gelu"},
        {"lifting": "cp", "projection": "cp"},
        {"lifting": "hss", "projection": "hss", "embedding_dim": (14, 20)},
        {"lifting": "dense", "projection": "dense", "embedding_dim": 10},
        {"width": 3, "kernel_size": 3, "residual": True, "activation": "gelu", "bias": True},
    ],
)
def test_options_train(fields, options):
    F, _ = fields
    fitted = model(max_epochs=40, lr=1e-2, **options).fit(F, F**2 + F)
    losses = [row["train_loss"] for row in fitted.history_]
    assert len(losses) == 40
    # A "cp" layer of eight terms keeps eight numbers of a field, of which little can be made.
    assert losses[-1] < (1 if options.get("lifting") == "cp" else 0.5) * losses[0]
    assert fitted.slopes_.shape == ((0,) if options.get("activation") == "gelu" else (3,))
    first, second = (clone(fitted).set_params(max_epochs=2).fit(F, F**2 + F) for _ in range(2))
    np.testing.assert_array_equal(first.predict(F), second.predict(F))


def test_recompute_changes_nothing(fields):
    F, U = fields
    stored, again = (model(max_epochs=5, recompute=recompute).fit(F, U) for recompute in (False, True))
    np.testing.assert_allclose(again.predict(F), stored.predict(F), rtol=1e-9, atol=1e-9 * np.abs(U).max())


def test_validation_and_weights(fields):
    F, U = fields
    weight = np.tile([1, 2], 8)
    weighted = model(max_epochs=5, dtype="float64").fit(F, U, sample_weight=weight)
    copied = model(max_epochs=5, dtype="float64").fit(np.repeat(F, weight, axis=0), np.repeat(U, weight, axis=0))
    np.testing.assert_allclose(weighted.predict(F), copied.predict(F), rtol=1e-7, atol=1e-8 * np.abs(U).max())
    validated = model(max_epochs=5, validation_fraction=0.25, early_stopping=True).fit(F, U)
    assert all("valid_loss" in row for row in validated.history_)


# The start from the linear map


@pytest.mark.parametrize("n_samples", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_the_linear_start_needs_no_training(paper, n_samples):
    F, U = paper
    fitted = model(init="linear").fit(F[:n_samples], U[:n_samples])
    assert fitted.init_ == "linear"
    assert fitted.n_iter_ == 0
    assert [row["epoch"] for row in fitted.history_] == [0]
    assert relative_l2_error(U[16:], fitted.predict(F[16:])) < 1e-4
    np.testing.assert_array_equal(fitted.slopes_, 1)
    # It is a linear map.
    np.testing.assert_allclose(
        fitted.predict(F[16:18] - 2 * F[18:20]),
        fitted.predict(F[16:18]) - 2 * fitted.predict(F[18:20]),
        atol=1e-4 * np.abs(U).max(),
    )


def test_the_linear_start_is_the_linear_map(fields):
    F, U = fields
    # Dense layers with as many terms as the map needs hold all of it.
    fitted = NeuralHSSRegressor(init="linear", levels=0, outer_rank=12, random_state=0).fit(F, U)
    linear = HSSRegressor(random_state=0).fit(F, U)
    assert fitted.n_iter_ == 0
    np.testing.assert_allclose(fitted.predict(F), linear.predict(F), atol=1e-6 * np.abs(U).max())


def test_the_automatic_start(fields, paper):
    F, U = paper
    assert model(init="auto").fit(F[:4], U[:4]).init_ == "linear"
    F = fields[0][:6]
    nonlinear = model(init="auto").fit(F, F**2)
    assert nonlinear.init_ == "random"
    assert nonlinear.n_iter_ == 2
    np.testing.assert_array_equal(nonlinear.predict(F), model(init="random").fit(F, F**2).predict(F))


@pytest.mark.parametrize("options", [{"width": 2}, {"activation": "gelu"}, {"lifting": "cp"}])
def test_networks_that_cannot_be_linear(fields, options):
    F, U = fields
    assert model(init="auto", **options).fit(F, U).init_ == "random"
    with pytest.raises(ValueError, match="Only a network of one channel, with leaky_relu and without"):
        model(init="linear", **options).fit(F, U)


@pytest.mark.parametrize("options", [{"kernel_size": 3}, {"residual": True}, {"bias": True}])
def test_extensions_start_as_the_linear_map(fields, options):
    F, U = fields
    fitted = model(init="linear", levels=0, outer_rank=13, **options).fit(F, U)
    assert fitted.n_iter_ == 0
    assert relative_l2_error(U, fitted.predict(F)) < 1e-5


# The start from a local law: domains and coefficients for which the layer needs more samples than there are


def domain(name, n_train=12):
    """Samples to train on and others, on a part of a square."""
    F, U = make_poisson(n_train + 48, (16, 16), domain=name, forcing="grf", refinement=1, order=2, random_state=0)
    return F[:n_train], U[:n_train], F[n_train:], U[n_train:]


def largest_generator(fitted):
    return max(float(p.detach().abs().max()) for p in fitted.net_.module_.parameters())


def test_the_linear_start_from_a_law():
    F, U, *test = domain("l-shape")
    start = model(init="linear", levels=1, max_epochs=1, lr=1e-30, min_lr=0).fit(F, U)
    error = relative_l2_error(test[1], start.predict(test[0]))
    # As many terms that are fitted to the twelve samples alone have hundreds of times as many unknowns.
    with pytest.warns(PoorFitWarning):
        without = HSSRegressor(outer_rank=8, rank=2, levels=1, solver="als", random_state=0).fit(F, U)
    assert start.init_ == "linear"
    assert 10 * error < 1 < relative_l2_error(test[1], without.predict(test[0]))
    assert largest_generator(start) < 30


def test_steps_of_the_default_size_improve_the_start_from_a_law():
    F, U, *_ = domain("perforated")
    fitted = model(init="linear", levels=1, outer_rank=4, max_epochs=15).fit(F, U)
    # All samples are in one batch, so that the first loss is that of the start.
    losses = [row["train_loss"] for row in fitted.history_]
    assert losses[-1] < losses[0]
    assert max(losses) < 2 * losses[0]
    assert largest_generator(fitted) < 30
    settings = {"init": "linear", "levels": 1, "outer_rank": 4}
    start = model(**settings, max_epochs=1, lr=1e-30, min_lr=0).fit(F, U)
    preconditioned = model(**settings, max_epochs=15, settings="auto", optimizer="soap").fit(F, U)
    errors = [relative_l2_error(U, some.predict(F)) for some in (preconditioned, start)]
    assert errors[0] < 1.05 * errors[1]


def test_a_law_in_kronecker_products():
    F, U, *test = domain("l-shape")
    law = HSSRegressor(solver="local", random_state=0).fit(F, U).predict(test[0])
    errors = []
    for n_terms in (2, 8):
        fitted = HSSRegressor(outer_rank=n_terms, solver="local", random_state=0).fit(F, U)
        assert (fitted.solver_, fitted.outer_rank_) == ("local", n_terms)
        errors.append(relative_l2_error(law, fitted.predict(test[0])))
    assert errors[1] < 0.1 * errors[0]
    assert errors[1] < 0.05


# Going on


def test_warm_start_and_partial_fit(fields):
    F, U = fields
    warm = model(warm_start=True).fit(F, U)
    assert warm.fit(F, U).n_iter_ == 4
    assert warm.partial_fit(F, U).n_iter_ == 5
    np.testing.assert_array_equal(warm.predict(flat(F)), warm.predict(F))
    before = warm.predict(F)
    for go_on in (warm.fit, warm.partial_fit):
        with pytest.raises(ValueError, match=r"X has fields of shape \(16, 12\), but the fit was on .* \(12, 16\)"):
            go_on(F.transpose(0, 2, 1), U.transpose(0, 2, 1))
        with pytest.raises(ValueError, match=r"X has fields of shape \(12, 15\), but the fit was on .* \(12, 16\)"):
            go_on(F[:, :, 1:], U[:, :, 1:])
        with pytest.raises(ValueError, match=r"y has shape \(16, 12, 8\), but that of the earlier fit had shape"):
            go_on(F, U[:, :, ::2])
    np.testing.assert_array_equal(warm.predict(F), before)
    with pytest.raises(ValueError, match="outer_rank=3 differs from 8 of the earlier fit"):
        warm.set_params(outer_rank=3).fit(F, U)


def test_partial_fit_alone():
    X, Y = white(4, 2, 8, 12), white(4, 8, 12, seed=1)
    fitted = model(grid_shape=(8, 12))
    for _ in range(3):
        fitted.partial_fit(X, Y)
    assert fitted.n_iter_ == 3
    assert fitted.predict(X).shape == Y.shape


# scikit-learn's tools


def test_grid_search(fields):
    F, U = fields
    grid = {"rank": [1, 2], "outer_rank": [1, 3], "levels": [1, 2]}
    scores = []
    for X, Y, shape in ((F, U, None), (flat(F), flat(U), (12, 16))):
        search = GridSearchCV(model(grid_shape=shape), grid, scoring=relative_l2_scorer, cv=KFold(2)).fit(X, Y)
        scores.append(search.cv_results_["mean_test_score"])
        assert search.best_estimator_.rank_ == search.best_params_["rank"]
    np.testing.assert_array_equal(*scores)
    assert len(np.unique(scores[0])) == 8


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_the_same_numbers_in_parallel(fields, backend):
    F, U = fields
    arguments = {"scoring": relative_l2_scorer, "cv": KFold(4)}
    serial = cross_val_score(model(batch_size=4, width=2), F, U, **arguments)
    with joblib.parallel_config(backend, n_jobs=2):
        parallel = cross_val_score(model(batch_size=4, width=2), F, U, **arguments)
    np.testing.assert_array_equal(parallel, serial)


def test_float32(fields):
    F, U = (a.astype(np.float32) for a in fields)
    fitted = model().fit(F, U)
    assert fitted.predict(F).dtype == np.float32
    assert next(fitted.net_.module_.parameters()).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_cuda(fields):
    F, U = fields
    options = {"max_epochs": 20, "dtype": "float64", "width": 2, "kernel_size": 3}
    there = model(device="cuda", **options).fit(F, U)
    assert next(there.net_.module_.parameters()).is_cuda
    here = model(device="cpu", **options).fit(F, U)
    np.testing.assert_allclose(there.predict(F), here.predict(F), rtol=1e-6, atol=1e-6 * np.abs(U).max())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(there)).predict(F), there.predict(F))
    linear = NeuralHSSRegressor(init="linear", device="cuda", levels=0, outer_rank=12).fit(F, U)
    assert relative_l2_error(U, linear.predict(F)) < 1e-4


# Refusals


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel_size": 4}, "kernel_size=4 must be an odd number of at least 1"),
        ({"embedding_dim": (12, 16, 3)}, r"embedding_dim=\(12, 16, 3\) must be an integer or have 2 entries"),
        ({"embedding_dim": (12,)}, r"embedding_dim=\(12,\) must be an integer or have 2 entries"),
        ({"levels": 5}, "levels=5 is too deep for n_points=12: the largest value that works is 3"),
        ({"rank": 7}, "rank=7 is too large for fields of 12 points: the largest value that works is 6"),
        ({"rank": 4, "levels": 2}, r"rank=4 exceeds the smallest leaf .* works with levels=2 is 3"),
        ({"grid_shape": (12, 12)}, r"X has fields of shape \(12, 16\), which do not fit the grid \(12, 12\)"),
        ({"grid_shape": (12, -1)}, r"grid_shape=\(12, -1\) must be a positive integer or a tuple"),
        ({"outer_rank": 0}, "The 'outer_rank' parameter of NeuralHSSRegressor must be"),
    ],
)
def test_parameters_that_do_not_fit(fields, parameters, message):
    F, U = fields
    fitted = model().fit(F, U)
    before = fitted.predict(F)
    with pytest.raises(ValueError, match=message):
        fitted.set_params(**parameters).fit(F, U)
    np.testing.assert_array_equal(fitted.predict(F), before)


def test_data_that_do_not_fit(fields):
    F, U = fields
    for Y in (flat(U)[:, :100], flat(U)[:, :190]):
        with pytest.raises(ValueError, match=r"y has fields of shape .*, which do not fit the grid \(12, 16\)"):
            model().fit(F, Y)
    with pytest.raises(ValueError, match=r"y has fields of shape \(12, 16\), which do not fit the grid \(2, 12, 16\)"):
        model().fit(np.stack([F, F], axis=1), U)
    with pytest.raises(ValueError, match="contains NaN"):
        model().fit(np.where(F > 0, np.nan, F), U)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        model().fit(F[:1], U[:1])
    four = white(2, 4, 4, 4, 4)
    with pytest.raises(ValueError, match="at most 3 are supported"):
        model(width=2).fit(four, four)


def test_other_fields_than_in_the_fit(fields):
    F, U = fields
    channels = np.stack([F, F], axis=1)
    fitted = model(grid_shape=(12, 16)).fit(channels, U)
    for X, shape in (
        (channels[:, :1], r"\(1, 12, 16\)"),
        (F, r"\(12, 16\)"),
        (channels.transpose(0, 1, 3, 2), r"\(2, 16, 12\)"),
    ):
        with pytest.raises(ValueError, match=rf"X has fields of shape {shape}, but the fit was on .* \(2, 12, 16\)"):
            fitted.predict(X)
    with pytest.raises(ValueError, match="X has 192 features, but NeuralHSSRegressor is expecting 384"):
        fitted.predict(flat(F))


def test_zero_fields(fields):
    F, _ = fields
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not model().fit(F, 0 * F).predict(0 * F).any()


@pytest.mark.parametrize("make", [make_poisson, make_helmholtz])
@pytest.mark.parametrize("n", [4, pytest.param(16, marks=pytest.mark.slow)])
def test_the_linear_start_keeps_its_generators_small(make, n):
    F, U = make(24, (64, 64), random_state=0)
    fitted = NeuralHSSRegressor(init="linear", max_epochs=1, random_state=0).fit(F[:n], U[:n])
    assert fitted.n_iter_ == 0
    assert relative_l2_error(U[16:], fitted.predict(F[16:])) < 1e-4
    size = max(float(p.detach().abs().max()) for p in fitted.net_.module_.parameters())
    assert size < 1e8


def test_zero_fields_from_the_default_start():
    F, U = make_poisson(6, (12, 16), forcing="gaussian", random_state=0)
    for X, Y in ((0 * F, 0 * U), (F, 0 * U), (0 * F, U)):
        model = NeuralHSSRegressor(max_epochs=1, random_state=0).fit(X, Y)
        assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("embedding_dim", [(0, 4), (8.5, 4), ("a", 4)])
def test_embedding_of_no_points(embedding_dim):
    F = np.zeros((4, 12, 16))
    with pytest.raises(ValueError, match=r"embedding_dim=.* must be a positive integer"):
        NeuralHSSRegressor(embedding_dim=embedding_dim).fit(F, F)


def test_flat_channels_of_one_dimension():
    rng = np.random.RandomState(0)
    X, Y = rng.standard_normal((4, 2, 16)), rng.standard_normal((4, 3, 16))
    model = NeuralHSSRegressor(grid_shape=16, max_epochs=2, init="random", random_state=0)
    expected = model.fit(X, Y).predict(X).reshape(4, -1)
    np.testing.assert_array_equal(model.fit(X.reshape(4, -1), Y.reshape(4, -1)).predict(X.reshape(4, -1)), expected)
