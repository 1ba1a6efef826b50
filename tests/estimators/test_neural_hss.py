"""NeuralHSSRegressor on valid data."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from skorch.callbacks import Callback, EpochScoring

from sklearn_hss import NeuralHSSRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.estimators._neural_hss import ridge_error
from sklearn_hss.estimators._noise import white_noise
from sklearn_hss.metrics import relative_l2_error
from sklearn_hss.nn import HSSLinear, NeuralHSS, PatchHSS


def fast(**parameters):
    """The paper's network and training, so that a test has one loop of AdamW to think of."""
    fixed = {"settings": "paper", "init": "random", "max_epochs": 30, "lr": 1e-2, "min_lr": 1e-5, "random_state": 0}
    return NeuralHSSRegressor(**{**fixed, **parameters})


# Accuracy


@pytest.mark.parametrize(
    ("n_samples", "n_seeds", "level"),
    [
        (100, 1, 1.2e-2),
        pytest.param(100, 3, 1.2e-2, marks=pytest.mark.slow),
        pytest.param(1000, 3, 1.5e-3, marks=pytest.mark.slow),
    ],
)
def test_paper_settings_on_1d_poisson(n_samples, n_seeds, level):
    # Table 9 and Appendix F.2.1, mean over seeds; doc/benchmarks.rst has the figures.
    F, U = make_poisson(2000, random_state=0)
    errors = []
    for seed in range(n_seeds):
        model = NeuralHSSRegressor(settings="paper", init="random", random_state=seed).fit(F[:n_samples], U[:n_samples])
        assert (model.rank_, model.levels_, model.n_parameters_) == (2, 3, 37_699)
        np.testing.assert_allclose(model.slopes_, 1, atol=0.05)
        errors.append(relative_l2_error(U[1000:], model.predict(F[1000:])))
    assert np.mean(errors) <= level


def test_nonlinear_target():
    F, _ = make_poisson(300, 16, forcing="grf", random_state=0)
    U = np.abs(F)
    model = fast(max_epochs=300, initial_slope=0.25, bias=True).fit(F[:200], U[:200])
    linear = fast(max_epochs=50, slope_penalty=1e4).fit(F[:200], U[:200])
    assert model.score(F[200:], U[200:]) > 0.9 > 0.5 > linear.score(F[200:], U[200:])


def test_local_blocks(poisson):
    model = fast(width=2, kernel_size=3, local_depth=1, depth=2, max_epochs=5).fit(*poisson)
    losses = [row["train_loss"] for row in model.history_]
    assert losses[-1] < losses[0]
    assert model.slopes_.shape == (5,)
    with pytest.raises(ValueError, match="local_depth=1 needs width and kernel_size"):
        fast(local_depth=1).fit(*poisson)
    with pytest.raises(ValueError, match="The 'local_depth' parameter of NeuralHSSRegressor must be"):
        fast(local_depth=-1).fit(*poisson)


# The loop, against one written by hand


def test_training_is_the_bare_loop(poisson):
    F, U = poisson
    model = fast(max_epochs=4, batch_size=16, weight_decay=0.1, slope_penalty=0.7, dtype="float64", initial_slope=0.5)
    model.fit(F, U)

    seeds = np.random.RandomState(0).randint(np.iinfo(np.int32).max, size=3)
    torch.manual_seed(int(seeds[1]))
    order = np.random.RandomState(seeds[2])
    net = NeuralHSS(32, 32, depth=3, rank=2, levels=3, initial_slope=0.5, dtype=torch.float64)
    X, Y = torch.from_numpy(F / np.abs(F).max()), torch.from_numpy(U / np.abs(U).max())
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    step = 0
    for _ in range(4):
        for rows in torch.from_numpy(order.permutation(40)).split(16):
            for group in optimizer.param_groups:
                group["lr"] = 1e-5 + (1e-2 - 1e-5) * (1 + math.cos(math.pi * step / 12)) / 2
            step += 1
            optimizer.zero_grad()
            loss = ((net(X[rows]) - Y[rows]) ** 2).sum() / len(rows) + 0.35 * ((net.slopes - 1) ** 2).sum()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
    for parameter, expected in zip(model.net_.module_.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(
        model.predict(F), (net(X) * np.abs(U).max()).detach().numpy(), rtol=1e-8, atol=1e-8 * np.abs(U).max()
    )


def test_schedule_goes_from_lr_to_min_lr(poisson):
    rates = [row["lr"] for row in fast(lr=1e-2, min_lr=1e-4, max_epochs=20).fit(*poisson).history_]
    assert rates[0] == 1e-2
    assert rates == sorted(rates, reverse=True)
    assert 1e-4 < rates[-1] < 3e-4


def test_history(poisson):
    model = fast(max_epochs=7, validation_fraction=0.25).fit(*poisson)
    assert model.n_iter_ == len(model.history_) == 7
    assert [row["epoch"] for row in model.history_] == list(range(1, 8))
    assert set(model.history_[0]) == {"epoch", "dur", "lr", "train_loss", "valid_loss"}
    assert "valid_loss" not in fast(max_epochs=1).fit(*poisson).history_[0]


def test_slope_penalty_holds_the_slopes_at_one(poisson):
    F, U = poisson[0], np.abs(poisson[1])
    free = fast(initial_slope=0.5).fit(F, U)
    held = fast(initial_slope=0.5, slope_penalty=1e3).fit(F, U)
    assert np.abs(held.slopes_ - 1).max() < np.abs(free.slopes_ - 1).min()


# Shapes, types and units


def test_units_do_not_matter(poisson):
    F, U = poisson
    expected = fast().fit(F, U).predict(F)
    np.testing.assert_allclose(fast().fit(1e6 * F, 1e-6 * U).predict(1e6 * F), 1e-6 * expected, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-311, 1e-50, 1e40, 1e300])
def test_units_beyond_the_range_of_float32(poisson, unit):
    F, U = poisson
    model = fast(max_epochs=2, dtype="float32")
    expected = model.fit(F, U).predict(F)
    np.testing.assert_allclose(model.fit(unit * F, U).predict(unit * F), expected, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(model.fit(F, unit * U).predict(F), unit * expected, rtol=1e-4, atol=1e-8 * unit)


def test_without_scaling(poisson):
    F, U = poisson
    model = fast(scale=None).fit(F, U)
    assert (model.x_scale_, model.y_scale_) == (1, 1)
    scaled = fast().fit(F, U)
    assert (scaled.x_scale_, scaled.y_scale_) == (np.abs(F).max(), np.abs(U).max())


def test_many_data_train_in_float32(poisson):
    F, U = (np.tile(fields, (50, 1)) for fields in poisson)
    model = fast(max_epochs=1).fit(F, U)
    assert next(model.net_.module_.parameters()).dtype == torch.float32
    assert model.predict(F[:3]).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_follow_the_type_of_the_data(poisson, dtype):
    F, U = (array.astype(dtype) for array in poisson)
    model = fast(max_epochs=2).fit(F, U)
    assert model.predict(F).dtype == dtype
    assert {parameter.dtype for parameter in model.net_.module_.parameters()} == {getattr(torch, np.dtype(dtype).name)}
    other = np.float64 if dtype == np.float32 else np.float32
    assert model.predict(F.astype(other)).dtype == other


def test_explicit_dtype(poisson):
    model = fast(max_epochs=2, dtype="float32").fit(*poisson)
    assert next(model.net_.module_.parameters()).dtype == torch.float32
    assert model.predict(poisson[0]).dtype == np.float64


@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (2, 3), (7, 40), (40, 7), (13, 1), (101, 97), (64, 64)])
def test_any_sizes(n_in, n_out):
    rng = np.random.RandomState(0)
    X, y = rng.standard_normal((6, n_in)), rng.standard_normal((6, n_out))
    model = fast(max_epochs=2).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert model.grid_shape_ == (n_in,)
    assert model.net_.module_.layers[-1].out_features == n_out


def test_one_dimensional_targets(poisson):
    F, U = poisson
    assert fast(max_epochs=2).fit(F, U[:, 5]).predict(F).shape == (40,)
    assert fast(max_epochs=2).fit(F, U[:, 5:6]).predict(F).shape == (40, 1)


def test_automatic_structure():
    def structure(n_in, n_out, **parameters):
        rng = np.random.RandomState(0)
        model = fast(max_epochs=1, **parameters).fit(rng.standard_normal((2, n_in)), rng.standard_normal((2, n_out)))
        return model.rank_, model.levels_, [type(layer).__name__ for layer in model.net_.module_.layers[::2]]

    hss = ["HSSLinear"]
    assert structure(256, 256) == (2, 3, hss * 3 + hss)
    assert structure(20, 20) == (2, 2, hss * 3 + hss)
    assert structure(20, 1)[:2] == (2, 2)
    assert structure(3, 3)[1] == 0
    assert structure(256, 256, rank=32)[:2] == (32, 2)
    assert structure(256, 256, rank=100)[:2] == (100, 1)
    assert structure(256, 256, levels=5)[:2] == (2, 5)
    # Automatic parameters adapt to explicit ones.
    assert structure(16, 16, levels=4)[:2] == (1, 4)
    assert structure(4, 32, lifting=None)[:2] == (2, 1)
    assert structure(32, 4, projection="hss")[:2] == (2, 1)
    assert structure(32, 1, projection=None)[1] == 0


def test_scalar_targets_get_a_dense_projection_and_scalar_inputs_a_dense_lifting():
    rng = np.random.RandomState(0)
    layers = fast(max_epochs=1).fit(rng.standard_normal((4, 64)), rng.standard_normal(4)).net_.module_.layers
    assert isinstance(layers[0], HSSLinear)
    assert isinstance(layers[-1], torch.nn.Linear)
    layers = fast(max_epochs=1).fit(rng.standard_normal((4, 3)), rng.standard_normal((4, 64))).net_.module_.layers
    assert isinstance(layers[0], torch.nn.Linear)
    assert isinstance(layers[-1], HSSLinear)


def test_constant_fields():
    model = fast(max_epochs=3).fit(np.zeros((4, 8)), np.zeros((4, 8)))
    np.testing.assert_array_equal(model.predict(np.zeros((2, 8))), 0)
    assert np.isfinite(fast(max_epochs=3).fit(np.ones((4, 8)), np.full((4, 8), 5.0)).predict(np.ones((2, 8)))).all()


def test_batches_do_not_change_predictions(poisson):
    F, U = poisson
    model = fast(max_epochs=2, dtype="float64").fit(F, U)
    expected = model.predict(F)
    np.testing.assert_allclose(np.concatenate([model.predict(F[i : i + 1]) for i in range(40)]), expected, rtol=1e-9)
    model.set_params(batch_size=7).fit(F, U)
    assert model.predict(F).shape == (40, 32)


def test_score_is_r2_pooled_over_the_grid(poisson):
    F, U = poisson
    model = fast().fit(F, U)
    residual = ((U - model.predict(F)) ** 2).sum()
    assert model.score(F, U) == pytest.approx(1 - residual / ((U - U.mean(axis=0)) ** 2).sum())
    weight = np.arange(40) % 3
    repeated = model.score(np.repeat(F, weight, axis=0), np.repeat(U, weight, axis=0))
    assert model.score(F, U, sample_weight=weight) == pytest.approx(repeated)
    one = fast().fit(F, U[:, 3])
    assert one.score(F, U[:, 3]) == pytest.approx(r2_score(U[:, 3], one.predict(F)))


def test_data_are_not_changed(poisson):
    F, U = (array.copy() for array in poisson)
    fast(max_epochs=2).fit(F, U).predict(F)
    np.testing.assert_array_equal(F, poisson[0])
    np.testing.assert_array_equal(U, poisson[1])


# Weights, continuation, early stopping


def test_sample_weights_are_repetitions(poisson):
    F, U = poisson
    weight = np.arange(40) % 3
    weighted = fast(dtype="float64").fit(F, U, sample_weight=weight)
    repeated = fast(dtype="float64").fit(np.repeat(F, weight, axis=0), np.repeat(U, weight, axis=0))
    np.testing.assert_allclose(weighted.predict(F), repeated.predict(F), rtol=1e-6, atol=1e-9)


def test_warm_start_continues(poisson):
    F, U = poisson
    model = fast(warm_start=True, max_epochs=50).fit(F, U)
    first = model.history_[-1]["train_loss"]
    scales = model.x_scale_, model.y_scale_
    model.fit(2 * F, 2 * U)
    assert model.n_iter_ == 100
    assert model.history_[50]["train_loss"] < 100 * first
    assert model.history_[-1]["train_loss"] < first
    assert (model.x_scale_, model.y_scale_) == scales
    assert [row["lr"] for row in model.history_[50:]] == [row["lr"] for row in model.history_[:50]]


def test_cold_start_starts_again(poisson):
    model = fast(max_epochs=5).fit(*poisson)
    first = model.predict(poisson[0])
    model.fit(*poisson)
    assert model.n_iter_ == 5
    np.testing.assert_array_equal(model.predict(poisson[0]), first)


def test_partial_fit(poisson):
    F, U = poisson
    model = fast()
    for epoch in range(1, 60):
        model.partial_fit(F, U)
        assert model.n_iter_ == epoch
    assert model.history_[-1]["train_loss"] < 0.01 * model.history_[0]["train_loss"]
    assert relative_l2_error(U, model.predict(F)) < 0.2
    assert model.partial_fit(F[:1], U[:1]).n_iter_ == 60
    assert fast(lr=1e-6).partial_fit(F, U).n_iter_ == 1  # below min_lr, which does not matter here


def test_partial_fit_uses_the_present_parameters(poisson):
    model = fast().fit(*poisson).partial_fit(*poisson)
    group, *_ = model.net_.optimizer_.param_groups
    assert (group["lr"], group["weight_decay"]) == (1e-2, 1e-3)
    model.set_params(lr=3e-4, weight_decay=0.5, slope_penalty=4).partial_fit(*poisson)
    assert (group["lr"], group["weight_decay"], model.net_.penalty) == (3e-4, 0.5, 2)


@pytest.mark.parametrize(
    ("name", "value"), [("rank", 3), ("levels", 1), ("depth", 2), ("bias", True), ("dtype", "float32")]
)
def test_another_network_cannot_continue(poisson, name, value):
    model = fast(max_epochs=2, warm_start=True).fit(*poisson)
    before = model.predict(poisson[0])
    model.set_params(**{name: value})
    for method in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=f"{name}={value!r} differs from .* of the earlier fit"):
            method(*poisson)
    np.testing.assert_array_equal(model.predict(poisson[0]), before)
    assert model.set_params(warm_start=False).fit(*poisson).n_iter_ == 2


def test_partial_fit_keeps_the_state_of_the_optimiser(poisson):
    # Two epochs at a constant rate: one call of skorch for both is the twin.
    F, U = poisson
    model = fast().partial_fit(F, U).partial_fit(F, U)
    twin = fast(max_epochs=2, min_lr=1e-2).fit(F, U)
    np.testing.assert_allclose(model.predict(F), twin.predict(F), rtol=1e-9)


class Recorder(Callback):
    """Keeps what it sees in a list that survives cloning."""

    seen: list = []

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.seen.append((dataset_train, dataset_valid, copy.deepcopy(net.module_)))


@pytest.fixture
def recorder():
    Recorder.seen.clear()
    return Recorder()


def test_early_stopping_restores_the_best_weights(poisson, recorder):
    F, _ = poisson
    noise = np.random.RandomState(0).standard_normal(F.shape)  # nothing to learn: the validation loss soon rises
    model = fast(early_stopping=True, validation_fraction=0.3, n_iter_no_change=5, max_epochs=500, callbacks=[recorder])
    model.fit(F, noise)
    losses = [row["valid_loss"] for row in model.history_]
    best = int(np.argmin(losses))
    assert len(losses) == best + 6 < 500
    for parameter, expected in zip(model.net_.module_.parameters(), recorder.seen[best][2].parameters(), strict=True):
        torch.testing.assert_close(parameter, expected)
    train, valid, _ = recorder.seen[0]
    assert (len(train), len(valid)) == (28, 12)


def test_early_stopping_without_validation_data_watches_the_training_loss(poisson):
    model = fast(early_stopping=True, n_iter_no_change=3, max_epochs=400, lr=0.3, min_lr=0.3).fit(*poisson)
    assert model.n_iter_ < 400


def test_early_stopping_at_the_last_epoch_restores_too(poisson, recorder):
    model = fast(early_stopping=True, validation_fraction=0.3, n_iter_no_change=100, max_epochs=100)
    model.set_params(callbacks=[recorder]).fit(poisson[0], np.random.RandomState(0).standard_normal((40, 32)))
    assert model.n_iter_ == 100
    best = int(np.argmin([row["valid_loss"] for row in model.history_]))
    assert best < 99
    torch.testing.assert_close(list(model.net_.module_.parameters()), list(recorder.seen[best][2].parameters()))


def test_no_sample_is_set_aside_unless_asked_for(poisson, recorder):
    fast(max_epochs=1, callbacks=[recorder]).fit(*poisson)
    train, valid, _ = recorder.seen[0]
    assert len(train) == 40
    assert valid is None


def test_early_stopping_counts_any_improvement(poisson):
    model = fast(early_stopping=True, validation_fraction=0.3, n_iter_no_change=3, max_epochs=20, lr=1e-7, min_lr=1e-7)
    losses = [row["valid_loss"] for row in model.fit(*poisson).history_]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 20


# Callbacks, progress, interruption


def test_callbacks_are_cloned_and_kept(poisson):
    callback = EpochScoring("neg_mean_squared_error", name="nmse", on_train=True)
    model = fast(max_epochs=3, callbacks=[("scoring", callback)]).fit(*poisson)
    assert all("nmse" in row for row in model.history_)
    assert not hasattr(callback, "best_score_")
    assert "scoring" in dict(model.net_.callbacks_)


class Stop(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("error")
def test_callback_may_stop_the_training(poisson):
    model = fast(callbacks=[Stop()]).fit(*poisson)
    assert model.n_iter_ == 3
    assert model.predict(poisson[0]).shape == (40, 32)


def test_interruption_keeps_what_was_learned(poisson, monkeypatch):
    calls = []

    def square(self):
        calls.append(None)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return self**2

    monkeypatch.setattr(torch.Tensor, "square", square)
    with pytest.warns(ConvergenceWarning, match="Training interrupted by user"):
        model = fast(callbacks=[Recorder()]).fit(*poisson)
    assert model.n_iter_ == 9  # the tenth epoch was not finished
    assert all("train_loss" in row for row in model.history_)
    assert np.isfinite(model.predict(poisson[0])).all()


def test_progress_bar(poisson, capsys):
    fast(max_epochs=3, verbose=1).fit(*poisson)
    err = capsys.readouterr().err
    assert "NeuralHSSRegressor: 100%" in err
    assert "3/3" in err
    assert "train_loss=" in err
    fast(max_epochs=3).fit(*poisson)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


# Randomness


def test_random_state(poisson):
    F, U = poisson
    first, second = (fast(max_epochs=3, batch_size=8).fit(F, U).predict(F) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, fast(max_epochs=3, batch_size=8, random_state=1).fit(F, U).predict(F))


def test_global_generators_are_left_alone(poisson):
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.mtrand._rand.get_state()[1].copy()
    fast(max_epochs=2, validation_fraction=0.2).fit(*poisson)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.mtrand._rand.get_state()[1], before[1])


# Divergence


def diverging(**parameters):
    return fast(lr=1e30, gradient_clip=None, dtype="float32", **parameters)


def test_divergence_stops_with_the_last_good_weights(poisson, recorder):
    model = diverging(callbacks=[recorder])
    with pytest.raises(FloatingPointError, match=r"NaN or infinite at epoch \d+\. .* Try an lr below 1e\+30 or grad"):
        model.fit(*poisson)
    assert np.isfinite(model.predict(poisson[0][:2] * 0)).all()
    assert all(torch.isfinite(parameter).all() for parameter in model.net_.module_.parameters())
    assert model.n_iter_ >= 1


class Poison(Callback):
    """Makes the weights NaN at the end of the given epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        Recorder.seen.append((None, None, copy.deepcopy(net.module_)))
        if len(net.history) == self.epoch:
            with torch.no_grad():
                next(net.module_.parameters()).fill_(torch.nan)


@pytest.mark.parametrize(("poisoned", "good"), [(4, 3), (6, 5)])
def test_the_restored_weights_are_the_last_finite_ones(poisson, recorder, poisoned, good):
    # Poisoned after epoch 4 of 6, the loss of epoch 5 shows it; after the last epoch, only the weights themselves do.
    model = fast(max_epochs=6, callbacks=[Poison(poisoned)])
    with pytest.raises(FloatingPointError, match=f"at epoch {min(poisoned + 1, 6)}"):
        model.fit(*poisson)
    torch.testing.assert_close(list(model.net_.module_.parameters()), list(recorder.seen[good - 1][2].parameters()))


def test_training_goes_on_after_a_divergence(poisson):
    F, U = poisson
    model = fast().partial_fit(F, U)
    with pytest.raises(FloatingPointError):
        model.partial_fit(1e300 * F, U)
    for _ in range(5):
        model.partial_fit(F, U)
    assert model.history_[-1]["train_loss"] < model.history_[0]["train_loss"]


class PoisonValidation(Callback):
    def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
        if len(net.history) == 3:
            dataset_valid._tensors[1].fill_(torch.nan)


def test_an_infinite_validation_loss_stops_too(poisson):
    model = fast(validation_fraction=0.2, callbacks=[PoisonValidation()])
    with pytest.raises(FloatingPointError, match="at epoch 3"):
        model.fit(*poisson)
    assert np.isfinite(model.predict(poisson[0])).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_cuda(poisson, tmp_path):
    import joblib

    F, U = poisson
    cpu, gpu = fast(device="cpu").fit(F, U), fast(device="cuda").fit(F, U)
    assert fast(max_epochs=1).fit(F, U).net_.device.type == "cuda"
    np.testing.assert_allclose(gpu.predict(F), cpu.predict(F), rtol=1e-4, atol=1e-6 * np.abs(U).max())
    joblib.dump(gpu, tmp_path / "gpu.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "gpu.joblib").predict(F), gpu.predict(F))


# The start from the linear map


def linear_data(n_samples=40, n=64):
    return make_poisson(n_samples, n, forcing="gaussian", order=2, random_state=0)


def cubic_data():
    F, U = make_poisson(60, 32, forcing="grf", random_state=0)
    return F, np.tanh(40 * U)


@pytest.mark.parametrize("init", ["auto", "linear"])
@pytest.mark.parametrize(
    "structure",
    [{}, {"rank": 4, "levels": 2}, {"levels": 0}, {"lifting": "dense", "projection": "dense", "embedding_dim": 80}],
)
def test_linear_problems_need_no_training(init, structure):
    F, U = linear_data()
    model = NeuralHSSRegressor(init=init, random_state=0, **structure).fit(F[:20], U[:20])
    assert (model.init_, model.n_iter_) == ("linear", 0)
    # The start is in the history, so that a plot of losses has a point.
    assert [row["epoch"] for row in model.history_] == [0]
    assert model.history_[0]["train_loss"] < 1e-8
    assert relative_l2_error(U[20:], model.predict(F[20:])) < 1e-10
    np.testing.assert_array_equal(model.slopes_, 1)


def test_other_sizes_of_output():
    F, U = linear_data(300)
    for target in (U[:, ::2], np.hstack([U, U]), U[:, 5]):
        model = NeuralHSSRegressor(init="linear", levels=0, random_state=0).fit(F[:200], target[:200])
        np.testing.assert_allclose(model.predict(F[200:]), target[200:], atol=1e-6 * np.abs(target).max())


def test_training_goes_on_from_the_linear_map_and_cannot_harm():
    F, U = linear_data()
    U = U + 0.02 * U.std() * np.random.RandomState(0).standard_normal(U.shape)
    start = NeuralHSSRegressor(init="linear", max_epochs=1, lr=1e-12, min_lr=0, random_state=0).fit(F, U)
    model = NeuralHSSRegressor(init="linear", max_epochs=30, lr=0.3, random_state=0).fit(F, U)
    assert model.n_iter_ == 30
    assert relative_l2_error(U, model.predict(F)) <= relative_l2_error(U, start.predict(F)) * (1 + 1e-6)
    stopped = NeuralHSSRegressor(
        init="linear", max_epochs=20, early_stopping=True, n_iter_no_change=2, validation_fraction=0.2, random_state=0
    )
    assert stopped.fit(F, U).n_iter_ >= 1


def test_nonlinear_problems_start_at_random():
    F, U = cubic_data()
    model = NeuralHSSRegressor(max_epochs=2, random_state=0).fit(F, U)
    assert (model.init_, model.n_iter_) == ("random", 2)
    expected = NeuralHSSRegressor(max_epochs=2, init="random", random_state=0).fit(F, U)
    np.testing.assert_array_equal(model.predict(F), expected.predict(F))


def test_continuing_after_a_linear_start():
    F, U = linear_data()
    model = NeuralHSSRegressor(warm_start=True, max_epochs=3, random_state=0).fit(F, U)
    before = model.predict(F)
    model.fit(F, 2 * U)
    assert model.n_iter_ == 3
    assert np.abs(model.predict(F) - before).max() > 0
    assert NeuralHSSRegressor(random_state=0).partial_fit(F, U).init_ == "random"


def test_networks_that_cannot_be_linear():
    F, U = linear_data()
    with pytest.raises(ValueError, match="embedding_dim must be one of these numbers"):
        NeuralHSSRegressor(init="linear", embedding_dim=100).fit(F, U)
    assert NeuralHSSRegressor(embedding_dim=100, max_epochs=1, random_state=0).fit(F, U).init_ == "random"


def test_inputs_that_are_zero():
    F, U = linear_data()
    model = NeuralHSSRegressor(architecture="hss", max_epochs=1, random_state=0).fit(0 * F, U)
    assert not model.predict(0 * F).any()


# The architecture by the data


def test_linear_data_get_the_papers_network():
    F, U = linear_data()
    for n_samples in (15, 40):  # fewer samples than points: only a structured fit can tell
        model = NeuralHSSRegressor(init="random", max_epochs=1, random_state=0).fit(F[:n_samples], U[:n_samples])
        assert model.architecture_ == "hss"
        assert "a linear map has an error of" in model.reason_
        assert isinstance(model.net_.module_, NeuralHSS)


@pytest.mark.parametrize("grid", [(32,), (10, 9), (4, 5, 4)])
def test_nonlinear_data_get_patches(grid):
    F = np.random.RandomState(0).standard_normal((40, *grid)).cumsum(axis=-1)
    model = NeuralHSSRegressor(max_epochs=2, random_state=0).fit(F, np.abs(F))
    assert model.architecture_ == "patches"
    assert isinstance(model.net_.module_, PatchHSS)
    assert model.predict(F).shape == F.shape
    assert model.slopes_.shape == (0,)
    assert (model.rank_, model.init_) == (2, "random")
    assert isinstance(model.levels_, int)
    with pytest.raises(ValueError, match="mask"):  # warm starts keep the choice
        model.set_params(warm_start=True, mask=np.ones(grid, dtype=bool)).fit(F, np.abs(F))
    model.set_params(mask=None).fit(F, np.abs(F))
    assert model.n_iter_ == 4
    for parameters in ({"architecture": "hss"}, {"activation": "gelu"}):
        with pytest.raises(ValueError, match="is incompatible with architecture='patches' of the earlier fit"):
            copy.deepcopy(model).set_params(**parameters).fit(F, np.abs(F))


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"activation": "gelu"}, "activation='gelu' is given"),
        ({"bias": True}, "bias=True is given"),
        ({"width": None}, "width=None is given"),
        ({"settings": "paper"}, "settings='paper'"),
        ({"architecture": "hss"}, "architecture='hss'"),
    ],
)
def test_what_is_set_wins(poisson, parameters, reason):
    model = NeuralHSSRegressor(init="random", max_epochs=1, random_state=0, **parameters)
    model.fit(poisson[0], np.abs(poisson[1]))
    assert (model.architecture_, model.reason_) == ("hss", reason)


@pytest.mark.parametrize("parameters", [{"activation": "gelu"}, {"init": "linear"}, {"slope_penalty": 1.0}])
def test_patches_refuse_what_they_do_not_have(poisson, parameters):
    with pytest.raises(ValueError, match="does not apply to architecture='patches'"):
        NeuralHSSRegressor(architecture="patches", **parameters).fit(*poisson)


def test_sizes_of_patches_can_be_set(poisson):
    sizes = {"width": 6, "depth": 1, "kernel_size": 5, "patch_size": 4, "hss_channels": 2, "rank": 1, "levels": 1}
    model = NeuralHSSRegressor(architecture="patches", max_epochs=1, random_state=0, **sizes).fit(*poisson)
    module = model.net_.module_
    assert (module.patch, module.grid, model.levels_) == ((4,), (8,), 1)
    assert module.blocks[0].first.weight.shape == (6, 6, 5)


def test_ridge_error_is_that_of_leaving_out_each():
    rng = np.random.RandomState(0)
    X, Y = rng.standard_normal((12, 5)), rng.standard_normal((12, 3))
    largest = np.linalg.eigvalsh(X @ X.T)[-1]
    errors = []
    for alpha in largest * np.logspace(-12, 0, 7):
        predicted = cross_val_predict(Ridge(alpha=alpha, fit_intercept=False), X, Y, cv=LeaveOneOut())
        errors.append(relative_l2_error(Y, predicted))
    assert ridge_error(X, Y) == pytest.approx(min(errors), rel=1e-6)


# Noise


def test_white_noise_is_seen_and_smooth_fields_are_not():
    rng = np.random.RandomState(0)
    x = np.arange(64) / 64
    smooth = np.sin(2 * np.pi * (x + rng.uniform(size=(20, 1))))[:, :, None] * np.cos(2 * np.pi * x[:40])
    noise = rng.standard_normal(smooth.shape)
    flat = lambda fields: fields.reshape(len(fields), -1)  # noqa: E731
    assert white_noise(flat(smooth), (64, 40)) < 1e-6
    np.testing.assert_allclose(white_noise(flat(smooth + 0.01 * noise), (64, 40)), 0.01, rtol=0.1)
    two = np.stack([smooth, smooth + 0.1 * noise], axis=1)
    found = white_noise(flat(two), (64, 40), 2)
    assert found[0] < 1e-6
    assert found[1] == pytest.approx(0.1, rel=0.1)
    inside = np.zeros((64, 40), dtype=bool)
    inside[:30, :30] = True
    dirty = np.where(inside, smooth, 7 * noise)
    assert white_noise(flat(dirty), (64, 40), inside=inside.ravel()) < 1e-6
    assert white_noise(np.ones((3, 5)), (5,)) == 0


@pytest.mark.parametrize("optimizer", ["soap", "lm"])
def test_few_noisy_samples_shrink_the_weights(optimizer):
    F, U = make_poisson(110, 128, random_state=0)
    noisy = U[:10] + 0.02 * U.std() * np.random.RandomState(1).standard_normal((10, 128))
    settings = {"init": "random", "architecture": "hss", "optimizer": optimizer, "random_state": 0}
    settings |= {"max_epochs": 30 if optimizer == "lm" else 500}
    errors = {}
    for label, loss in (("shrunk", "l2"), ("free", "relative_l2")):
        model = NeuralHSSRegressor(**settings, loss=loss).fit(F[:10], noisy)
        errors[label] = relative_l2_error(U[10:], model.predict(F[10:]))
        assert (model.shrinkage_ > 0) == (label == "shrunk")
    assert errors["shrunk"] < errors["free"]
    assert NeuralHSSRegressor(**{**settings, "max_epochs": 1}).fit(F[:10], U[:10]).shrinkage_ == 0
    many = (
        np.tile(F, (30, 1)),
        np.tile(U, (30, 1)) + 0.02 * U.std() * np.random.RandomState(1).standard_normal((3300, 128)),
    )
    assert NeuralHSSRegressor(**{**settings, "max_epochs": 1}).fit(*many).shrinkage_ == 0
