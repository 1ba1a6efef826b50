"""Every estimator in eight threads gives the numbers that it gives in one.

The filters of warnings are not compared: scikit-learn changes and restores them in its checks of arrays, which threads
do in any order before Python 3.14.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from entrances import MAPS, apply, name_of, problem
from sklearn.base import clone

from sklearn_hss import FieldScaler, HSSRegressor, LocalEvolutionRegressor, RolloutRegressor

N_THREADS = 8
DATA = problem(12, (6, 7))
RNG = np.random.RandomState(0)
# Two decaying modes of a periodic line, as the laws of evolution learn them.
POINTS = 2 * np.pi * np.arange(16) / 16
START = RNG.standard_normal((6, 2)) @ np.stack([np.sin(POINTS), np.cos(2 * POINTS)])
STATES = np.stack([np.exp(-0.1 * t) * START for t in range(4)], axis=1)
CASES = {name_of(model): (model, (DATA.X, DATA.Y), DATA.X) for model in MAPS} | {
    "RolloutRegressor": (RolloutRegressor(HSSRegressor(random_state=0)), (STATES,), START),
    "LocalEvolutionRegressor": (LocalEvolutionRegressor(dt=1.0, random_state=0), (STATES[:, 0], STATES[:, 1]), START),
    "FieldScaler": (FieldScaler(), (DATA.X,), DATA.X),
}


def in_threads(function):
    """Results of as many calls as there are threads, which all begin at once."""
    barrier = threading.Barrier(N_THREADS)

    def call(i):
        barrier.wait()
        return function(i)

    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(call, range(N_THREADS)))


@pytest.mark.filterwarnings("ignore")  # of poor fits to what is no law
@pytest.mark.parametrize("case", CASES)
def test_fits_and_predictions(case):
    model, fields, X = CASES[case]
    fitted = clone(model).fit(*fields)
    expected = [apply(fitted, X[: 1 + i % 4]) for i in range(N_THREADS)]
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for function in (
        lambda i: apply(fitted, X[: 1 + i % 4]),  # of one model
        lambda i: apply(clone(model).fit(*fields), X[: 1 + i % 4]),  # of a model each
    ):
        for found, wanted in zip(in_threads(function), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002


def test_gradients_of_a_module_in_threads():
    model = clone(MAPS[1]).fit(DATA.X, DATA.Y)
    module = model.to_torch(dtype="float64")

    def gradient(i):
        x = torch.tensor(DATA.X[i : i + 2], requires_grad=True)
        return torch.autograd.grad(module(x).sum(), x)[0]

    expected = [gradient(i) for i in range(N_THREADS)]
    for found, wanted in zip(in_threads(gradient), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
