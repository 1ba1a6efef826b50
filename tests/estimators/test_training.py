"""Training of all neural regressors: optimisers, losses, budgets, values that are "auto"."""

import time
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from sklearn_hss import (
    DeepONetRegressor,
    FactFormerRegressor,
    FNORegressor,
    GreenLearningRegressor,
    NeuralHSSRegressor,
    ResNetRegressor,
)
from sklearn_hss.datasets import make_poisson
from sklearn_hss.estimators._batches import standard_scales
from sklearn_hss.metrics import relative_l2_error

NETWORKS = [
    NeuralHSSRegressor(architecture="hss", init="random"),
    NeuralHSSRegressor(architecture="patches", init="random"),
    FNORegressor(width=4, depth=2),
    ResNetRegressor(width=4, depth=1),
    DeepONetRegressor(width=8, depth=2),
    GreenLearningRegressor(width=8, depth=2),
    FactFormerRegressor(width=8, head_dim=4),
]
names = [type(network).__name__ for network in NETWORKS]
each = pytest.mark.parametrize("network", NETWORKS, ids=[f"{name}{i}" for i, name in enumerate(names)])


def fitted(network, X, y, sample_weight=None, **parameters):
    parameters = {"random_state": 0, "max_epochs": 10, **parameters}
    return network.__class__(**{**network.get_params(), **parameters}).fit(X, y, sample_weight)


def first_and_last(model):
    return model.history_[0]["train_loss"], model.history_[-1]["train_loss"]


# Optimisers


@each
@pytest.mark.parametrize("optimizer", ["adamw", "soap", "lm"])
def test_every_optimizer_trains_every_network(network, optimizer, poisson):
    model = fitted(network, *poisson, optimizer=optimizer, max_epochs=15 if optimizer != "lm" else 4)
    first, last = first_and_last(model)
    assert last < first
    assert model.training_["optimizer"] == optimizer
    assert type(model.net_.optimizer_).__name__.lower().startswith({"lm": "leven"}.get(optimizer, optimizer))


@pytest.mark.parametrize(
    "optimizer", [torch.optim.RMSprop, torch.optim.LBFGS, partial(torch.optim.SGD, momentum=0.9)], ids=str
)
def test_optimizers_of_torch(optimizer, poisson):
    model = fitted(NETWORKS[0], *poisson, optimizer=optimizer, lr=1e-3)
    first, last = first_and_last(model)
    assert last < first


@pytest.mark.parametrize("optimizer", ["adamw", "soap", "lm"])
@pytest.mark.parametrize("loss", ["l2", "relative_l2", "h1"])
def test_weights_are_repetitions_for_every_optimizer(poisson, optimizer, loss):
    F, U = (fields[:12] for fields in poisson)
    weight = np.arange(12) % 3
    settings = {"optimizer": optimizer, "loss": loss, "dtype": "float64", "batch_size": 100, "scale": "max"}
    settings |= {"max_epochs": 4 if optimizer == "lm" else 10}
    weighted = fitted(NETWORKS[0], F, U, weight, **settings)
    repeated = fitted(NETWORKS[0], *(np.repeat(fields, weight, axis=0) for fields in (F, U)), **settings)
    # Bases of directions without gradient hang on rounding, and random probes on the number of residuals.
    rtol = {"adamw": 1e-8, "soap": 0.03, "lm": 0.8}[optimizer]
    losses = [[row["train_loss"] for row in model.history_] for model in (weighted, repeated)]
    np.testing.assert_allclose(*losses, rtol=rtol)
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-12)


@pytest.mark.parametrize("optimizer", ["adamw", "soap", "lm"])
def test_same_seed_same_numbers_and_warm_start(poisson, optimizer):
    models = [fitted(NETWORKS[0], *poisson, optimizer=optimizer, batch_size=16, max_epochs=5) for _ in range(2)]
    np.testing.assert_array_equal(*(model.predict(poisson[0]) for model in models))
    model = models[0].set_params(warm_start=True)
    before = model.history_[-1]["train_loss"]
    model.fit(*poisson)
    assert model.n_iter_ == len(model.history_) == 10
    assert model.history_[-1]["train_loss"] < before
    model.partial_fit(*poisson)
    assert model.n_iter_ == 11


def test_slopes_have_a_rate_of_their_own(poisson):
    drift = {}
    for rate in (0.0, 1.0):
        model = fitted(NETWORKS[0], *poisson, optimizer="adamw", lr=1e-2, slope_rate=rate, max_epochs=30)
        drift[rate] = np.abs(model.slopes_ - 1).max()
    assert drift[0.0] == 0 < drift[1.0]


def test_another_optimizer_may_go_on(poisson):
    model = fitted(NETWORKS[0], *poisson, optimizer="adamw", warm_start=True, dtype="float64")
    before = model.history_[-1]["train_loss"]
    model.set_params(optimizer="lm", max_epochs=3).fit(*poisson)
    assert model.history_[-1]["train_loss"] < before
    single = fitted(NETWORKS[0], *poisson, optimizer="adamw", warm_start=True, dtype="float32")
    with pytest.raises(ValueError, match="optimizer='lm' needs a network in float64"):
        single.set_params(optimizer="lm", dtype=None).fit(*poisson)


def test_levenberg_marquardt_reaches_what_adamw_does_not():
    F, U = make_poisson(150, 64, random_state=0)
    errors = {}
    for optimizer, epochs in (("lm", 30), ("adamw", 500)):
        model = NeuralHSSRegressor(
            init="random", optimizer=optimizer, max_epochs=epochs, batch_size=100, random_state=0
        )
        errors[optimizer] = relative_l2_error(U[100:], model.fit(F[:100], U[:100]).predict(F[100:]))
    assert errors["lm"] < 0.1 * errors["adamw"]


# Losses


def test_a_callable_loss_is_the_loss(poisson):
    by_name = fitted(NETWORKS[0], *poisson, optimizer="adamw")
    by_hand = fitted(NETWORKS[0], *poisson, optimizer="adamw", loss=lambda p, t: (p - t).square().sum(1))
    np.testing.assert_array_equal(by_name.predict(poisson[0]), by_hand.predict(poisson[0]))
    with pytest.raises(ValueError, match="optimizer='lm' needs"):
        fitted(NETWORKS[0], *poisson, optimizer="lm", loss=lambda p, t: (p - t).abs())


def test_a_relative_loss_cares_for_small_fields():
    F, U = make_poisson(60, 32, forcing="grf", random_state=0)
    sizes = np.logspace(0, -3, 60)[:, None]
    F, U = F * sizes, np.abs(U * sizes)  # homogeneous, not linear
    errors = {}
    for loss in ("l2", "relative_l2"):
        model = fitted(NETWORKS[0], F, U, loss=loss, optimizer="adamw", lr=1e-2, max_epochs=150, initial_slope=0.5)
        errors[loss] = relative_l2_error(U[40:], model.predict(F[40:]))
    assert errors["relative_l2"] < 0.5 * errors["l2"]


# Budgets


@each
def test_seconds_end_the_training(network, poisson):
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)  # nobody interrupted it
        model = fitted(network, *poisson, max_epochs="auto", max_seconds=0.3, verbose=0)
    assert time.monotonic() - start < 30
    assert model.n_iter_ >= 1
    assert model.history_[-1]["lr"] <= model.history_[0]["lr"]
    assert model.training_["max_epochs"] is None


def test_the_schedule_goes_by_what_ends_first(poisson):
    model = fitted(NETWORKS[2], *poisson, max_epochs=5, max_seconds=1e4)
    assert model.n_iter_ == 5
    assert model.history_[-1]["lr"] < 0.5 * model.history_[0]["lr"]
    model = fitted(NETWORKS[2], *poisson, max_epochs=10**6, max_seconds=0.2)
    assert model.n_iter_ < 10**6


def test_a_bar_of_seconds(poisson, capsys):
    fitted(NETWORKS[2], *poisson, max_epochs="auto", max_seconds=0.3, verbose=1)
    assert "0.3/0.3" in capsys.readouterr().err


# Values that are "auto"


def test_the_papers_settings_are_one_word_away(poisson):
    model = NeuralHSSRegressor(settings="paper", init="random", random_state=0).fit(*poisson)
    expected = {"optimizer": "adamw", "lr": 1e-3, "min_lr": 1e-5, "max_epochs": 500, "batch_size": 256}
    expected |= {"weight_decay": 1e-3, "gradient_clip": 1.0, "scale": "max", "slope_rate": 1.0}
    assert model.training_ == expected
    assert (model.architecture_, model.n_iter_) == ("hss", 500)
    explicit = fitted(NETWORKS[0], *poisson, settings="paper", lr=1e-2, max_epochs=3)
    assert (explicit.training_["lr"], explicit.training_["min_lr"], explicit.n_iter_) == (1e-2, 1e-5, 3)


def test_batches_leave_no_small_rest(poisson):
    F, U = (np.tile(fields, (9, 1))[:257] for fields in poisson)
    model = fitted(NETWORKS[0], F, U, optimizer="soap", max_epochs=1)
    assert model.training_["batch_size"] == 129


# Scales


def test_standard_scales_are_those_of_scikit_learn():
    rng = np.random.RandomState(0)
    fields = 5 + 3 * rng.standard_normal((50, 2 * 7)) * np.repeat([1, 10], 7)
    offset, scale = standard_scales(fields, 2)
    channels = fields.reshape(50, 2, 7)
    np.testing.assert_allclose(offset, np.tile(channels.mean((0, 2))[:, None], 7))
    np.testing.assert_allclose(scale, channels.std((0, 2)))
    rows = np.arange(10, 30)
    offset, scale = standard_scales(fields, 2, rows)
    np.testing.assert_allclose(scale, channels[rows].std((0, 2)))


def test_the_mean_field_is_subtracted_where_it_explains_most():
    rng = np.random.RandomState(0)
    noise = rng.standard_normal((20, 100))
    wave = np.sin(np.arange(100))
    for factor in (0, 1):  # variances 0 and 0.5, beside 1
        offset, _ = standard_scales(noise + factor * wave, None, by_point=True)
        assert np.ptp(offset) < 1e-12
    clear, scale = standard_scales(noise + 3 * wave, None, by_point=True)
    np.testing.assert_allclose(clear[0], (noise + 3 * wave).mean(0))
    assert 0.9 < scale[0] < 1.1


def test_points_outside_do_not_count():
    rng = np.random.RandomState(0)
    fields = rng.standard_normal((20, 6)) + 4
    inside = np.array([True, True, False, True, False, True])
    offset, scale = standard_scales(fields * inside, None, inside=inside)
    np.testing.assert_allclose(offset[0], fields[:, inside].mean() * inside)
    np.testing.assert_allclose(scale, fields[:, inside].std())


@pytest.mark.parametrize("network", NETWORKS[1:5], ids=names[1:5])
def test_offsets_cost_nothing(network, poisson):
    F, U = poisson
    # The eigenbases of SOAP would amplify the rounding errors.
    training = {"scale": "standard", "dtype": "float64", "optimizer": "adamw"}
    plain = fitted(network, F, U, **training)
    shifted = fitted(network, 1e3 + F, U - 1e3, **training)
    np.testing.assert_allclose(shifted.predict(1e3 + F) + 1e3, plain.predict(F), atol=1e-6 * np.abs(U).max())


def test_bfloat16(poisson):
    coarse = fitted(NETWORKS[3], *poisson, dtype="bfloat16", max_epochs=30)
    fine = fitted(NETWORKS[3], *poisson, dtype="float32", max_epochs=30)
    assert next(coarse.net_.module_.parameters()).dtype == torch.float32
    error = relative_l2_error(fine.predict(poisson[0]), coarse.predict(poisson[0]))
    assert 0 < error < 0.3
