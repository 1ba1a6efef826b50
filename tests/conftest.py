"""One torch thread: several collapse when another process competes, and results must not depend on their number.

With HSS_TEST_SEED=k in the environment, every seed that a test (or the code it calls) gives to a generator of numpy or
torch is moved by 1000 k, and hypothesis draws other examples, so that the same tests see other data.
"""

import os

import hypothesis
import numpy as np
import torch

torch.set_num_threads(1)
OFFSET = 1000 * int(os.environ.get("HSS_TEST_SEED", "0"))
hypothesis.settings.register_profile("tests", deadline=None, derandomize=not OFFSET, database=None)
hypothesis.settings.load_profile("tests")


def moved(seed):
    return seed + OFFSET if isinstance(seed, (int, np.integer)) else seed


def move_seeds():
    random_state, default_rng, manual_seed = np.random.RandomState, np.random.default_rng, torch.manual_seed

    class AnyRandomState(type):
        def __instancecheck__(cls, instance):  # those that were made before, or by pickle
            return isinstance(instance, random_state)

    class RandomState(random_state, metaclass=AnyRandomState):
        def __init__(self, seed=None):
            super().__init__(moved(seed))

    class Generator(torch.Generator):
        def manual_seed(self, seed):
            return super().manual_seed(moved(seed))

    np.random.RandomState, torch.Generator = RandomState, Generator
    np.random.default_rng = lambda seed=None: default_rng(moved(seed))
    torch.manual_seed = lambda seed: manual_seed(moved(seed))


if OFFSET:
    move_seeds()
