"""Many fits leave nothing behind: no memory, no open files, no threads, no settings of torch and NumPy."""

import gc
import os
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from entrances import problem

from sklearn_hss import FNORegressor, HSSRegressor, NeuralHSSRegressor

N_FITS = 300
DATA = problem(8, (16,))
MODELS = [
    FNORegressor(width=4, depth=1, modes=2, max_epochs=1, random_state=0),
    NeuralHSSRegressor(init="random", architecture="hss", max_epochs=1, random_state=0),
    HSSRegressor(random_state=0),
]


def megabytes():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def settings():
    gc.collect()  # files that other tests have left open
    generator = np.random.get_state()  # noqa: NPY002
    return {
        "files": len(os.listdir("/proc/self/fd")),
        "threads": (threading.active_count(), torch.get_num_threads()),
        "numpy": (np.geterr(), np.get_printoptions()),
        "generators": (torch.get_rng_state().tolist(), generator[0], generator[1].tolist(), *generator[2:]),
        "torch": (
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(),
            torch.is_autocast_enabled("cpu"),
            torch.backends.mkldnn.enabled,
        ),
        "warnings": list(warnings.filters),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read as Linux tells it")
def test_many_fits():
    def fits(n):
        for i in range(n):
            model = MODELS[i % len(MODELS)]
            model.fit(DATA.X, DATA.Y)
            model.predict(DATA.X)

    fits(10 * len(MODELS))  # what a first use loads and keeps
    before, size = settings(), megabytes()
    fits(N_FITS)
    growth = megabytes() - size
    after = settings()
    assert after.pop("files") <= before.pop("files")  # those of other tests may be closed meanwhile
    assert after == before
    assert growth < 20
