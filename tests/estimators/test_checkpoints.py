"""Interrupted trainings, which continue from their checkpoints, against trainings that were not interrupted."""

import errno
import itertools
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from sklearn_hss import (
    DeepONetRegressor,
    FactFormerRegressor,
    FNORegressor,
    GreenLearningRegressor,
    NeuralHSSRegressor,
    ResNetRegressor,
)
from sklearn_hss.estimators import _base

N_POINTS = 32
NETWORKS = {
    "lm": (
        NeuralHSSRegressor,
        {"architecture": "hss", "depth": 1, "levels": 1, "init": "random", "optimizer": "lm", "max_epochs": 5},
    ),
    "soap": (
        NeuralHSSRegressor,
        {"architecture": "hss", "depth": 2, "levels": 2, "init": "random", "optimizer": "soap", "max_epochs": 8},
    ),
    "linear start": (NeuralHSSRegressor, {"init": "linear", "depth": 1, "rank": 1, "levels": 2, "max_epochs": 6}),
    "patches": (NeuralHSSRegressor, {"width": 8, "depth": 2, "max_epochs": 4}),
    "FNO": (FNORegressor, {"width": 8, "depth": 2, "max_epochs": 5}),
    "ResNet": (ResNetRegressor, {"width": 8, "depth": 2, "max_epochs": 5}),
    "DeepONet": (DeepONetRegressor, {"width": 16, "depth": 2, "max_epochs": 5}),
    "Green learning": (GreenLearningRegressor, {"width": 8, "depth": 2, "max_epochs": 5}),
    "FactFormer": (FactFormerRegressor, {"width": 8, "head_dim": 4, "max_epochs": 4}),
    "early stopping": (
        ResNetRegressor,
        {"width": 8, "depth": 2, "max_epochs": 40, "lr": 0.03, "early_stopping": True, "n_iter_no_change": 2}
        | {"validation_fraction": 0.3},
    ),
}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def fields():
    rng = np.random.default_rng(0)
    F = rng.standard_normal((30, N_POINTS))
    return F, np.tanh(np.cumsum(F, axis=1))


@pytest.fixture
def killed_after(monkeypatch):
    """Function that makes trainings end before a batch of that number."""
    notify = _base._Net.notify

    def set_number(number):
        count = 0

        def counting(self, name, **arguments):
            nonlocal count
            if name == "on_batch_begin" and arguments["training"]:
                count += 1
                if count == number:
                    raise Killed
            return notify(self, name, **arguments)

        monkeypatch.setattr(_base._Net, "notify", counting)

    return set_number


def make(name, **parameters):
    estimator, own = NETWORKS[name]
    return estimator(**{"batch_size": 8, "random_state": 0, **own, **parameters})


def state(model):
    """Everything that must not depend on interrupts."""
    rows = [{key: value for key, value in row.items() if key != "dur"} for row in model.history_]
    weights = [tensor.numpy().tobytes() for tensor in model.net_.module_.state_dict().values()]
    return rows, weights, model.n_iter_


def fit_with_interrupts(model, killed_after, number, *data):
    """Fit anew after every kill, as a new process would, and the number of tries."""
    for tries in range(1, 100):
        killed_after(number)
        try:
            model.fit(*data)
            killed_after(0)
            return model, tries
        except Killed:
            model = type(model)(**model.get_params())
    raise AssertionError("no progress")


@pytest.mark.parametrize("name", NETWORKS)
def test_killed_trainings_end_as_others(name, fields, killed_after, tmp_path):
    weight = np.linspace(1, 2, len(fields[0]))
    expected = make(name).fit(*fields, weight)
    found, tries = fit_with_interrupts(
        make(name, checkpoint=tmp_path, checkpoint_every="0s"), killed_after, 7, *fields, weight
    )
    assert tries > 2
    assert state(found) == state(expected)
    np.testing.assert_array_equal(found.predict(fields[0]), expected.predict(fields[0]))
    # The state of the optimiser and the order of the samples go on as well.
    assert state(found.partial_fit(*fields)) == state(expected.partial_fit(*fields))


def test_every_second_epoch(fields, killed_after, tmp_path):
    expected = make("soap").fit(*fields)
    found, tries = fit_with_interrupts(
        make("soap", checkpoint=str(tmp_path), checkpoint_every=2), killed_after, 10, *fields
    )
    assert tries == 4  # of 4 batches in each of 8 epochs, the first 8 are kept
    assert state(found) == state(expected)


def test_what_is_finished_is_read(fields, tmp_path, monkeypatch):
    first = make("soap", checkpoint=tmp_path).fit(*fields)
    monkeypatch.setattr(_base._Net, "train_step", None)
    assert state(make("soap", checkpoint=tmp_path, verbose=1).fit(*fields)) == state(first)


def test_a_fit_that_goes_on(fields, killed_after, tmp_path):
    expected = make("soap", warm_start=True).fit(*fields).fit(*fields)
    model = make("soap", warm_start=True).fit(*fields)
    model.set_params(checkpoint=tmp_path, checkpoint_every="0s")
    weights = {name: tensor.clone() for name, tensor in model.net_.module_.state_dict().items()}
    killed_after(9)
    with pytest.raises(Killed):
        model.fit(*fields)
    killed_after(0)
    # Weights that changed meanwhile are those of another call.
    with pytest.raises(ValueError, match="with other values of the weights"):
        model.fit(*fields)
    again = make("soap", warm_start=True).fit(*fields)
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.net_.module_.state_dict().items())
    again.set_params(checkpoint=tmp_path, checkpoint_every="0s").fit(*fields)
    assert state(again) == state(expected)


def test_random_seeds_are_kept(fields, killed_after, tmp_path):
    """Without a seed, the validation samples of the first process are those of the next."""
    options = {"random_state": None, "validation_fraction": 0.3, "checkpoint": tmp_path, "checkpoint_every": "0s"}
    model, tries = fit_with_interrupts(make("ResNet", **options), killed_after, 5, *fields)
    again = make("ResNet", **options)
    assert tries > 2
    assert state(again.fit(*fields)) == state(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_epochs": 9}, "max_epochs=8, not 9"),
        ({"lr": 0.1}, "lr='auto', not 0.1"),
        ({"mask": np.ones(N_POINTS, bool)}, "mask=None, not an array"),
        ({"loss": torch.nn.functional.mse_loss}, "loss='l2', not torch.nn.functional.mse_loss"),
    ],
)
def test_another_call_is_refused(change, message, fields, tmp_path):
    make("soap", checkpoint=tmp_path).fit(*fields)
    if "loss" in change:
        change = {**change, "optimizer": "soap"}
    with pytest.raises(ValueError, match=message):
        make("soap", checkpoint=tmp_path, **change).fit(*fields)


def test_other_data_are_refused(fields, tmp_path):
    F, U = fields
    make("soap", checkpoint=tmp_path).fit(F, U)
    with pytest.raises(ValueError, match="with other values of X"):
        make("soap", checkpoint=tmp_path).fit(F + 1e-15, U)
    with pytest.raises(ValueError, match="with other values of sample_weight"):
        make("soap", checkpoint=tmp_path).fit(F, U, np.ones(len(F)))


def test_damaged_files(fields, killed_after, tmp_path):
    expected = make("soap").fit(*fields)

    newest, previous = tmp_path / "newest.checkpoint", tmp_path / "previous.checkpoint"

    def start():
        killed_after(9)
        with pytest.raises(Killed):
            make("soap", checkpoint=tmp_path, checkpoint_every="0s").fit(*fields)
        killed_after(0)

    start()
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{newest} is damaged and not used"):
        model = make("soap", checkpoint=tmp_path, max_epochs=8).fit(*fields)
    assert state(model) == state(expected)
    for left in tmp_path.iterdir():
        left.unlink()
    start()
    for file in (newest, previous):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="is damaged and not used"):
        model = make("soap", checkpoint=tmp_path).fit(*fields)
    assert state(model) == state(expected)


def test_a_full_disk_does_not_end_the_training(fields, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    expected = make("soap").fit(*fields)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="No checkpoint could be written to .*No space left on device") as caught:
        model = make("soap", checkpoint=tmp_path, checkpoint_every="0s").fit(*fields)
    assert len(caught) == 1
    assert state(model) == state(expected)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_does_not_end_the_training(fields, tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="No checkpoint could be written"):
        model = make("soap", checkpoint=tmp_path / "file" / "folder").fit(*fields)
    assert state(model) == state(make("soap").fit(*fields))


class _Raises(Callback):
    """Sends a signal to this process at some batch."""

    def __init__(self, number, at):
        self.number, self.at = number, at

    def on_train_begin(self, net, **kwargs):
        self.count_ = 0

    def on_batch_end(self, net, training, **kwargs):
        self.count_ += 1
        if self.count_ == self.at:
            signal.raise_signal(self.number)


@pytest.fixture
def default_handlers():
    """Handlers of a process in the foreground, wherever the tests run."""
    kept = [(signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)]
    kept = [(number, signal.signal(number, handler)) for number, handler in kept]
    yield
    for number, handler in kept:
        signal.signal(number, handler)


@pytest.mark.usefixtures("default_handlers")
def test_ctrl_c_writes_a_checkpoint(fields, tmp_path):
    # The counts of callbacks are kept, so that the signal comes once.
    model = make("soap", checkpoint=tmp_path, callbacks=[_Raises(signal.SIGINT, 9)])
    with pytest.warns(ConvergenceWarning, match="interrupted by user. The same call continues it"):
        model.fit(*fields)
    assert model.n_iter_ == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert state(model.fit(*fields)) == state(make("soap").fit(*fields))


def test_the_seconds_go_on(fields, killed_after, tmp_path, monkeypatch):
    """Of seconds that a clock counts which advances by a tenth whenever it is read."""
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 10)
    options = {"max_seconds": 60, "checkpoint": tmp_path, "checkpoint_every": "0s"}
    model, tries = fit_with_interrupts(make("ResNet", max_epochs="auto", **options), killed_after, 20, *fields)
    assert tries > 2
    rates = [row["lr"] for row in model.history_]
    assert np.all(np.diff(rates) <= 0)
    assert rates[-1] < 0.1 * rates[0]


def test_searches_do_not_repeat_fits(fields, tmp_path, monkeypatch):
    model = make("ResNet", checkpoint=tmp_path / "*")
    search = GridSearchCV(model, {"lr": [1e-3, 1e-2]}, cv=2).fit(*fields)
    assert len(list(tmp_path.iterdir())) == 5  # two rates, two folds, and the best of all data
    monkeypatch.setattr(_base._Net, "train_step", None)
    again = GridSearchCV(model, {"lr": [1e-3, 1e-2]}, cv=2).fit(*fields)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])


def test_the_bar_continues(fields, killed_after, tmp_path, capsys):
    model = make("soap", checkpoint=tmp_path, checkpoint_every="0s", verbose=1)
    killed_after(20)
    with pytest.raises(Killed):
        model.fit(*fields)
    assert "4/8" in capsys.readouterr().err
    killed_after(0)
    model.fit(*fields)
    shown = capsys.readouterr().err
    assert "4/8" in shown
    assert "8/8" in shown
    assert "3/8" not in shown


@pytest.mark.parametrize("every", ["soon", "-1s", "infs", "30", 0, True, 1.5])
def test_bad_intervals(every, fields):
    with pytest.raises(ValueError, match="checkpoint_every"):
        make("soap", checkpoint_every=every).fit(*fields)


def _fit_in_a_child(model, data):
    """Process number of a copy of this process that fits and exits with 0."""
    child = os.fork()
    if child:
        return child
    try:
        model.fit(*data)
        os._exit(0)
    finally:
        os._exit(1)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")


@needs_fork
@pytest.mark.parametrize(
    ("name", "n_kills"),
    [("soap", 5), *(pytest.param(name, 50, marks=pytest.mark.slow) for name in NETWORKS)],
)
def test_kill_9_at_any_moment(name, n_kills, fields, tmp_path):
    """Processes that are killed without notice, some of them while they write, as they write after every step."""
    options = {"max_epochs": 20 if name == "lm" else 60, "n_iter_no_change": 10**6}
    start = time.monotonic()
    expected = make(name, **options).fit(*fields)
    seconds = time.monotonic() - start
    model = make(name, checkpoint=tmp_path, checkpoint_every="0s", **options)
    random.seed(0)
    killed = 0
    while killed < n_kills:
        child = _fit_in_a_child(model, fields)
        time.sleep(random.uniform(0.03, 0.1 + 2 * seconds / n_kills))
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)[1]
        killed += 1
        if ended == 0:  # so little was left
            break
    assert state(model.fit(*fields)) == state(expected)


@needs_fork
@pytest.mark.usefixtures("default_handlers")
def test_sigterm_writes_a_checkpoint(fields, tmp_path):
    model = make("soap", checkpoint=tmp_path, max_epochs=10**6)
    child = _fit_in_a_child(model, fields)
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
    _, ended = os.waitpid(child, 0)
    assert os.WIFSIGNALED(ended)
    assert os.WTERMSIG(ended) == signal.SIGTERM
    assert (tmp_path / "newest.checkpoint").exists()
