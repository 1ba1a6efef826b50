"""Estimators after interrupts and errors, in threads, and in the modes of torch."""

import os
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from entrances import LINEAR, MAPS, NETWORKS, apply, name_of, problem
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from skorch.callbacks import Callback

from sklearn_hss import FieldScaler, HSSRegressor, NeuralHSSRegressor, RolloutRegressor, preprocessing
from sklearn_hss.estimators import _base, _linear_map, _neural_hss

DATA = problem(12, (6, 7))
LINE = problem(30, (32,))


class Interrupted(BaseException):
    """Neither an Exception nor what skorch knows."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted, MemoryError])
@pytest.mark.parametrize("model", MAPS, ids=name_of)
def test_an_interrupted_fit_leaves_the_estimator_as_it_was(model, error, monkeypatch):
    before = clone(model).fit(DATA.X, DATA.Y)
    prediction, state = apply(before, DATA.X), dict(vars(before))
    new = clone(model)

    def interrupt(*arguments, **parameters):
        raise error

    # In the middle of the work: a network is made, a fit is searched for.
    monkeypatch.setattr(_base, "count_parameters", interrupt)
    monkeypatch.setattr(_linear_map, "fit", interrupt)
    for estimator in (before, new):
        with pytest.raises(error):
            estimator.fit(DATA.X[:6], 2 * DATA.Y[:6])
    assert vars(before) == state
    np.testing.assert_array_equal(apply(before, DATA.X), prediction)
    with pytest.raises(NotFittedError):
        apply(new, DATA.X)


def test_an_interrupt_in_the_linear_start(monkeypatch):
    model = NeuralHSSRegressor(random_state=0).fit(LINE.X, LINE.Y)
    prediction, history = model.predict(LINE.X), model.history_

    def interrupt(*arguments, **parameters):
        raise KeyboardInterrupt

    monkeypatch.setattr(_neural_hss, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(LINE.X[:6], LINE.Y[:6])
    np.testing.assert_array_equal(model.predict(LINE.X), prediction)
    assert model.history_ == history


class During(Callback):
    """Does something at the beginning of the third epoch."""

    def __init__(self, action):
        self.action = action

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            self.action()


class AtTheEnd(During):
    """Does something at the end of the training."""

    def on_epoch_begin(self, net, **kwargs):
        pass

    def on_train_end(self, net, **kwargs):
        self.action()


def control_c():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(10**6):  # the signal comes between two instructions
        pass


def stop():
    raise KeyboardInterrupt


def fail():
    raise RuntimeError("a callback failed")


def training(action, **parameters):
    return NeuralHSSRegressor(init="random", max_epochs=6, callbacks=[During(action)], random_state=0, **parameters)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals go to the main thread")
def test_control_c_in_a_callback_warns_and_a_stop_by_one_does_not():
    with pytest.warns(ConvergenceWarning, match="Training interrupted by user"):
        model = training(control_c).fit(LINE.X, LINE.Y)
    assert model.n_iter_ == len(model.history_) == 2
    assert np.isfinite(model.predict(LINE.X)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        stopped = training(stop).fit(LINE.X, LINE.Y)
    assert stopped.n_iter_ == 2


def test_an_error_in_training_leaves_an_earlier_fit():
    model = training(fail)
    with pytest.raises(RuntimeError, match="a callback failed"):
        model.fit(LINE.X, LINE.Y)
    assert not hasattr(model, "net_")
    model.set_params(callbacks=None).fit(LINE.X, LINE.Y)
    prediction, history = model.predict(LINE.X), model.history_
    with pytest.raises(RuntimeError, match="a callback failed"):
        model.set_params(callbacks=[During(fail)]).fit(LINE.X, 2 * LINE.Y)
    np.testing.assert_array_equal(model.predict(LINE.X), prediction)
    assert model.history_ == history
    # A fit that goes on from an earlier one stays usable, with the history of all epochs.
    model.set_params(warm_start=True, max_epochs=2, callbacks=[AtTheEnd(fail)])
    with pytest.raises(RuntimeError, match="a callback failed"):
        model.fit(LINE.X, LINE.Y)
    assert model.n_iter_ == len(model.history_) == 8
    assert np.isfinite(model.predict(LINE.X)).all()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("model", [*MAPS, NeuralHSSRegressor(max_epochs=5, random_state=0)], ids=name_of)
def test_modes_of_torch(model, mode):
    reference = clone(model).fit(DATA.X, DATA.Y)
    expected = apply(reference, DATA.X)
    with mode():
        inside = clone(model).fit(DATA.X, DATA.Y)
        np.testing.assert_array_equal(apply(inside, DATA.X), expected)
        np.testing.assert_array_equal(apply(reference, DATA.X), expected)
        if hasattr(model, "inverse_transform"):
            inside.inverse_transform(DATA.Y)
    np.testing.assert_array_equal(apply(inside, DATA.X), expected)
    if hasattr(model, "warm_start"):
        inside.set_params(warm_start=True).fit(DATA.X, DATA.Y)


@pytest.mark.parametrize("model", [NETWORKS[0], *LINEAR], ids=name_of)
def test_fits_in_threads(model):
    expected = apply(clone(model).fit(DATA.X, DATA.Y), DATA.X)
    filters = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: apply(clone(model).fit(DATA.X, DATA.Y), DATA.X), range(8)))
    for found in results:
        np.testing.assert_array_equal(found, expected)
    assert list(warnings.filters) == filters


def test_rollouts_and_scalers_survive_errors():
    states = np.stack([DATA.X, 0.9 * DATA.X], axis=1)
    model = RolloutRegressor(HSSRegressor(random_state=0)).fit(states)
    prediction = model.predict(DATA.X)

    class Bad(HSSRegressor):
        def fit(self, X, y):
            raise Interrupted

    model.estimator = Bad()
    with pytest.raises(Interrupted):
        model.fit(states)
    np.testing.assert_array_equal(model.predict(DATA.X), prediction)
    with pytest.raises(TypeError, match="n_steps must be an integer"):
        model.rollout(DATA.X, True)
    scaler = FieldScaler().fit(DATA.X)
    state, measure = dict(vars(scaler)), preprocessing._measure

    def interrupt(*arguments):
        raise KeyboardInterrupt

    preprocessing._measure = interrupt
    try:
        with pytest.raises(KeyboardInterrupt):
            scaler.fit(DATA.X[:, :3])
    finally:
        preprocessing._measure = measure
    assert vars(scaler) == state
    scale = scaler.scale_.copy()
    with pytest.raises(ValueError, match="infinity"):
        scaler.fit(np.where(DATA.X > 1, np.inf, DATA.X))
    np.testing.assert_array_equal(scaler.scale_, scale)


TRAINING_IN_THREADS = """
import joblib, numpy as np, os
from sklearn.model_selection import cross_val_score
from skorch.callbacks import Callback
from sklearn_hss import FNORegressor

class Tell(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3:
            os.write(1, b"training\\n")  # in one piece, as the other thread writes, too

X = np.random.RandomState(0).standard_normal((64, 64))
with joblib.parallel_config("threading", n_jobs=2):
    cross_val_score(FNORegressor(width=16, max_epochs=10**6, callbacks=[Tell()]), X, X, cv=2)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_an_interrupt_of_training_in_threads_does_not_abort_python():
    command = [sys.executable, "-c", TRAINING_IN_THREADS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "training\n"
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=120)
        finally:
            child.kill()
    assert child.returncode in (-signal.SIGINT, 130), errors[-2000:]
    assert "KeyboardInterrupt" in errors
    assert "terminate called" not in errors
