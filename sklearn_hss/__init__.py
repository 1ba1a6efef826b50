"""Learn solution operators of PDEs from few simulations, with scikit-learn's interface."""

from typing import TYPE_CHECKING

from ._lazy import lazily

if TYPE_CHECKING:
    from . import datasets, estimators, exceptions, linalg, metrics, nn, plotting, preprocessing
    from ._persistence import load, save
    from .estimators import (
        ConformalFieldRegressor,
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
        RolloutRegressor,
    )
    from .preprocessing import FieldScaler

__version__ = "0.1.0.dev0"

# Importing torch takes a second, so everything is imported on first use.
_MODULE_OF = {
    "ConformalFieldRegressor": "estimators",
    "DeepONetRegressor": "estimators",
    "FNORegressor": "estimators",
    "FactFormerRegressor": "estimators",
    "FieldScaler": "preprocessing",
    "GreenLearningRegressor": "estimators",
    "HSSRegressor": "estimators",
    "HSSTransformer": "estimators",
    "LocalEvolutionRegressor": "estimators",
    "LocalOperatorRegressor": "estimators",
    "NeuralHSSRegressor": "estimators",
    "ResNetRegressor": "estimators",
    "ResidualRegressor": "estimators",
    "RolloutRegressor": "estimators",
    "datasets": None,
    "estimators": None,
    "exceptions": None,
    "linalg": None,
    "load": "_persistence",
    "metrics": None,
    "nn": None,
    "plotting": None,
    "preprocessing": None,
    "save": "_persistence",
}

__all__ = [
    "ConformalFieldRegressor",
    "DeepONetRegressor",
    "FNORegressor",
    "FactFormerRegressor",
    "FieldScaler",
    "GreenLearningRegressor",
    "HSSRegressor",
    "HSSTransformer",
    "LocalEvolutionRegressor",
    "LocalOperatorRegressor",
    "NeuralHSSRegressor",
    "ResNetRegressor",
    "ResidualRegressor",
    "RolloutRegressor",
    "__version__",
    "datasets",
    "estimators",
    "exceptions",
    "linalg",
    "load",
    "metrics",
    "nn",
    "plotting",
    "preprocessing",
    "save",
]


__getattr__ = lazily(__name__, _MODULE_OF)


def __dir__():
    return __all__
