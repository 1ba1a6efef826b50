"""All public entrances for arrays, as small calls, for the tests that run through every one of them."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge

from sklearn_hss import (
    ConformalFieldRegressor,
    DeepONetRegressor,
    FactFormerRegressor,
    FieldScaler,
    FNORegressor,
    GreenLearningRegressor,
    HSSRegressor,
    HSSTransformer,
    LocalOperatorRegressor,
    NeuralHSSRegressor,
    ResidualRegressor,
    ResNetRegressor,
    RolloutRegressor,
)

# Two epochs: whether it runs at all is the question, not how well.
NETWORKS = [
    NeuralHSSRegressor(init="random", max_epochs=2, random_state=0),
    FNORegressor(width=4, depth=2, modes=2, max_epochs=2, random_state=0),
    FactFormerRegressor(width=8, head_dim=4, max_epochs=2, random_state=0),
    GreenLearningRegressor(width=4, depth=2, max_epochs=2, random_state=0),
    ResNetRegressor(width=4, depth=2, max_epochs=2, random_state=0),
    DeepONetRegressor(width=4, depth=2, max_epochs=2, random_state=0),
]
LINEAR = [HSSRegressor(random_state=0), HSSTransformer(random_state=0)]
# Maps fields to fields of the same shape.
LOCAL = LocalOperatorRegressor(random_state=0)
RESIDUAL = ResidualRegressor(NETWORKS[1], NETWORKS[0], only_if_better=False)
CONFORMAL = ConformalFieldRegressor(NETWORKS[1], method="split", alpha=0.5, random_state=0)
MAPS = [*NETWORKS, *LINEAR, LOCAL, RESIDUAL, CONFORMAL]
REGRESSORS = [*NETWORKS, LINEAR[0], LOCAL, RESIDUAL, CONFORMAL]
# FactFormer is for two dimensions and more.
FLAT_MAPS = [model for model in MAPS if not isinstance(model, FactFormerRegressor)]
OTHERS = [RolloutRegressor(Ridge()), FieldScaler()]


def name_of(estimator):
    """Name of a parametrised test."""
    return type(estimator).__name__


def apply(model, X):
    """Predictions, or what a transformer makes of X."""
    return model.predict(X) if hasattr(model, "predict") else model.transform(X)


@dataclass
class Problem:
    """Fields of Poisson's equation by the usual scheme, u = 0 around the grid."""

    X: np.ndarray
    Y: np.ndarray
    mask: np.ndarray


def problem(n_samples=24, grid=(8, 9), seed=0, kind: Any = np.float64):
    """Inputs and outputs of an exact linear map on a grid, and the mask of an L-shape."""
    rng = np.random.RandomState(seed)
    mask = np.ones(grid, dtype=bool)
    mask[tuple(slice(-(n // 3), None) for n in grid)] = False
    X = rng.standard_normal((n_samples, *grid))
    second = [2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1) for n in grid]
    laplacian = sum(
        reduce(np.kron, [matrix if i == axis else np.eye(n) for i, n in enumerate(grid)])
        for axis, matrix in enumerate(second)
    )
    Y = np.linalg.solve(laplacian, X.reshape(n_samples, -1).T).T.reshape(X.shape)
    return Problem(X.astype(kind), Y.astype(kind), mask)
