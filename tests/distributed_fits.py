"""Trainings in several processes, whose results test_accelerator.py compares with those of one.

``python tests/distributed_fits.py FOLDER`` leaves a file for each of two processes in the folder.
"""

import multiprocessing
import os
import pickle
import signal
import socket
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from sklearn_hss import FNORegressor, NeuralHSSRegressor

N_SAMPLES, N_POINTS = 21, 32
X = np.random.RandomState(0).standard_normal((N_SAMPLES, N_POINTS))
Y = np.tanh(np.cumsum(X, axis=1))
WEIGHT = np.random.RandomState(1).uniform(0.1, 3, N_SAMPLES)
WEIGHT[3] = 0
X_GRID = np.random.RandomState(2).standard_normal((12, 8, 8))
Y_GRID = np.cumsum(np.cumsum(X_GRID, axis=1), axis=2)
MASK = np.hypot(*np.mgrid[-1:1:8j, -1:1:8j]) < 1

_HSS = {"architecture": "hss", "depth": 2, "levels": 2, "rank": 1, "init": "random", "max_epochs": 6, "batch_size": 8}
_FNO = {"width": 4, "depth": 2, "max_epochs": 6, "batch_size": 8}
_STOPPING = {"validation_fraction": 0.3, "early_stopping": True, "n_iter_no_change": 2, "lr": 0.05, "max_epochs": 40}
#: Estimators and their data, by name.
CASES: dict = {
    # Batches of 8, 8 and 5.
    "AdamW": (
        NeuralHSSRegressor,
        {**_HSS, "optimizer": "adamw", "gradient_clip": 1e-2, "slope_penalty": 0.1, "slope_rate": 1.0},
        (X, Y),
    ),
    # The last batch of 1 is smaller than the number of processes.
    "SOAP": (NeuralHSSRegressor, {**_HSS, "optimizer": "soap", "batch_size": 10}, (X, Y)),
    "linear start": (NeuralHSSRegressor, {"max_epochs": 6, "init": "linear", "optimizer": "soap"}, (X, Y)),
    "FNO by AdamW": (FNORegressor, _FNO, (X, Y)),
    "FNO by SOAP": (FNORegressor, {**_FNO, "optimizer": "soap"}, (X, Y)),
    "L-BFGS": (FNORegressor, {**_FNO, "optimizer": torch.optim.LBFGS, "lr": 0.1, "max_epochs": 1}, (X, Y)),
    "float32": (FNORegressor, {**_FNO, "dtype": "float32"}, (X, Y)),
    "early stopping": (FNORegressor, {**_FNO, **_STOPPING}, (X, Y)),
    "weights": (NeuralHSSRegressor, {**_HSS, **_STOPPING, "optimizer": "soap"}, (X, Y, WEIGHT)),
    "mask": (FNORegressor, {**_FNO, "mask": MASK, "loss": "relative_l2", "batch_size": 5}, (X_GRID, Y_GRID)),
}


def make(name, **parameters):
    """The estimator of a case."""
    kind, arguments, _ = CASES[name]
    return kind(**{"dtype": "float64", "random_state": 0, **arguments, **parameters})


def weights(model):
    """All that was learned, as one vector."""
    return np.concatenate([p.detach().numpy().ravel() for p in model.net_.module_.parameters()]).astype(float)


class Stop(Callback):
    """Stops one process after two epochs."""

    def __init__(self, stops):
        self.stops = stops

    def on_epoch_end(self, net, **kwargs):
        if self.stops and len(net.history) == 2:
            raise KeyboardInterrupt


class Interrupt(Callback):
    """Sends Ctrl-C to one process in its eighth step, once."""

    state_names = ()
    n_left = 8

    def __init__(self, signals):
        self.signals = signals

    def on_batch_end(self, net, training, **kwargs):
        Interrupt.n_left -= training
        if self.signals and Interrupt.n_left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def facts(accelerator, folder):
    """Results for which there is no single process to compare with."""
    index = accelerator.process_index
    found = {}

    def fitted(name, **parameters):
        return make(name, accelerator=accelerator, **parameters).fit(*CASES[name][2])

    found["seconds"] = weights(fitted("AdamW", max_epochs="auto", max_seconds=0.2))
    found["no seed"] = weights(fitted("linear start", init="auto", random_state=None))
    stopped = fitted("AdamW", device="cpu", callbacks=[Stop(index == 1)])
    found["device"] = str(stopped.net_.device)
    found["stopped"], found["stopped after"] = weights(stopped), stopped.n_iter_

    # Only the main process writes, and the other one reads nothing.
    own = folder / f"checkpoints {index}"
    checkpoints = {"callbacks": [Interrupt(index == 1)], "checkpoint": own}
    interrupted = fitted("AdamW", **checkpoints)
    found["interrupted after"] = interrupted.n_iter_
    found["continued"] = weights(fitted("AdamW", **checkpoints))
    found["only read"] = weights(fitted("AdamW", **checkpoints))
    found["writes"] = own.exists()

    model = fitted("AdamW", warm_start=True)
    found["continued fit"] = weights(model.fit(X, Y).partial_fit(X, Y))
    found["optimizer"] = fitted("AdamW", optimizer="auto", max_epochs=1).training_["optimizer"]
    if index == 1:  # by itself
        model.predict(X)
    found["clone"] = clone(model).accelerator is accelerator
    found["pickle"] = pickle.loads(pickle.dumps(model)).accelerator
    search = GridSearchCV(make("FNO by AdamW", accelerator=accelerator), {"width": [2, 3]}, cv=2).fit(X, Y)
    found["search"] = search.cv_results_["mean_test_score"]

    errors = found["errors"] = []
    for case in ({"lr": 1e-3 * (1 + index)}, {"init": "linear", "residual": True, "outer_rank": 1}, {}):
        grids = case.get("init") == "linear"
        data = (X_GRID, Y_GRID) if grids else (X, Y) if case else (X[index::2], Y[index::2])
        try:
            make("AdamW", accelerator=accelerator, **case).fit(*data)
        except ValueError as error:
            errors.append(str(error))
    return found


def main(folder):
    """Train everything, in the processes that were started."""
    from accelerate import Accelerator

    warnings.simplefilter("ignore")
    accelerator, found = Accelerator(cpu=True), {}
    for name, (*_, data) in CASES.items():
        model = make(name, accelerator=accelerator).fit(*data)
        found[name] = weights(model), model.history_
    result = {"count": accelerator.num_processes, "cases": found, "facts": facts(accelerator, folder)}
    (folder / f"{accelerator.process_index}.pickle").write_bytes(pickle.dumps(result))
    accelerator.end_training()


def start(folder, count=2):
    """Run `main` in forks of this process, as ``torchrun`` does in new ones, which must import everything first."""
    import accelerate  # noqa: F401

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]), WORLD_SIZE=str(count))
    processes = []
    for index in range(count):
        os.environ.update(RANK=str(index), LOCAL_RANK=str(index))
        processes.append(multiprocessing.get_context("fork").Process(target=main, args=(folder,)))
        processes[-1].start()
    for process in processes:
        process.join()
    return max(abs(process.exitcode) for process in processes)


if __name__ == "__main__":
    sys.exit((main if "RANK" in os.environ else start)(Path(sys.argv[1])))
