"""Boundary conditions, found from fields of which they are known."""

import numpy as np
import pytest

from sklearn_hss.fitting._ends import find_ends, shared_conditions

N = 48
GRIDS = {"from 0": np.arange(N) / N, "inner": np.arange(1, N) / N, "cells": (np.arange(N) + 0.5) / N,
         "with ends": np.arange(N + 1) / N}  # fmt: skip


def waves(kind, x, seed=0):
    rng = np.random.RandomState(seed)
    weights, phases, k = rng.standard_normal((3, 5)), rng.uniform(size=5), np.pi * np.arange(1, 6)[:, None]
    rows = {"sin": np.sin(k * x), "cos": np.cos(k * x), "periodic": np.sin(2 * (k * x + phases[:, None]))}[kind]
    return (weights @ rows).T


@pytest.mark.parametrize(
    ("kind", "grid", "expected"),
    [
        ("periodic", "from 0", ("periodic", "periodic")),
        ("sin", "from 0", ("odd node", "odd beyond")),
        ("sin", "inner", ("odd beyond", "odd beyond")),
        ("sin", "cells", ("odd", "odd")),
        ("cos", "cells", ("even", "even")),
        ("cos", "with ends", ("even node", "even node")),
    ],
)
def test_condition_of_one_axis(kind, grid, expected):
    x = GRIDS[grid]
    (ends,), _ = find_ends(waves(kind, x), (len(x),))
    assert ends == expected


def test_axis_is_periodic_for_all_channels_or_none():
    x = GRIDS["cells"]
    periodic = waves("periodic", x)
    flat = np.exp(-200 * (x - 0.5) ** 2)[:, None]  # at both ends, which suits every condition
    assert shared_conditions([periodic, flat], (N,)) == ["periodic"]
    symmetric = np.sin(2 * np.pi * x)[:, None]  # odd about both ends, and periodic
    assert shared_conditions([symmetric], (N,)) == ["periodic"]
    assert shared_conditions([symmetric, waves("cos", x)], (N,)) == ["wall"]
    assert shared_conditions([periodic], (N,), conditions=["odd"]) == ["odd"]
