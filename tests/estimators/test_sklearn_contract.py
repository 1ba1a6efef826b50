"""scikit-learn's own checks, over every public estimator, with no failure expected."""

import os
import subprocess
import sys

import pytest
import sklearn
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_hss import (
    DeepONetRegressor,
    FactFormerRegressor,
    FNORegressor,
    GreenLearningRegressor,
    HSSRegressor,
    HSSTransformer,
    LocalEvolutionRegressor,
    LocalOperatorRegressor,
    NeuralHSSRegressor,
    ResidualRegressor,
    ResNetRegressor,
)

# The checks fit noise, which no linear map explains, and numbers, of which there is no local law.
pytestmark = pytest.mark.filterwarnings(
    "ignore:(The best fit found|n_samples = |y has .* numbers|There is no law|No local law)"
)

LINEAR = [HSSRegressor(), HSSTransformer()]
LAWS = [LocalOperatorRegressor(), LocalOperatorRegressor(degree=2), LocalEvolutionRegressor()]
RESIDUAL = [
    ResidualRegressor(Ridge(), Ridge()),
    ResidualRegressor(Ridge(), Ridge(10), with_prediction=True, cv=2, only_if_better=False),
]

# The checks concern the base class of all networks: one of them is checked every time, the others as slow
# tests. They are small, because the checks fit some sixty times, and look at how well on few points.
NETWORK = NeuralHSSRegressor(depth=1, max_epochs=50, lr=1e-2)
NETWORKS = [
    NeuralHSSRegressor(max_epochs=200),
    FactFormerRegressor(width=8, head_dim=4, max_epochs=20, batch_size=50, lr=1e-2),
    FNORegressor(width=8, depth=2, max_epochs=100, batch_size=200, lr=1e-2),
    GreenLearningRegressor(width=8, depth=2, max_epochs=100, batch_size=200, lr=1e-2),
    ResNetRegressor(width=8, depth=2, max_epochs=100, batch_size=200, lr=1e-2),
    DeepONetRegressor(width=16, depth=2, max_epochs=100, batch_size=200, lr=1e-2),
]


@parametrize_with_checks([*LINEAR, *LAWS, *RESIDUAL, NETWORK])
def test_check_estimator(estimator, check):
    check(estimator)


@parametrize_with_checks([*LINEAR, *LAWS, *RESIDUAL, NETWORK])
def test_check_estimator_with_metadata_routing(estimator, check):
    with sklearn.config_context(enable_metadata_routing=True):
        check(estimator)


@pytest.mark.slow
@parametrize_with_checks(NETWORKS)
def test_check_network(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(NETWORKS)
def test_check_network_with_metadata_routing(estimator, check):
    with sklearn.config_context(enable_metadata_routing=True):
        check(estimator)


@pytest.mark.skipif("SCIPY_ARRAY_API" in os.environ, reason="this is the subprocess")
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("test_check_estimator", "not NeuralHSSRegressor"),
        pytest.param("test_check_network", "Regressor", marks=pytest.mark.slow),
    ],
)
def test_checks_with_scipy_array_api(name, kept):
    # SciPy reads the variable when it is imported, so this takes a new process.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::{name}", "-k", kept]
    result = subprocess.run(
        command, env={**os.environ, "SCIPY_ARRAY_API": "1"}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:]
