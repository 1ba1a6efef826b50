"""Estimators with scikit-learn's interface."""

from typing import TYPE_CHECKING

from .._lazy import lazily

if TYPE_CHECKING:
    from ._conformal import ConformalFieldRegressor
    from ._deeponet import DeepONetRegressor
    from ._factformer import FactFormerRegressor
    from ._fno import FNORegressor
    from ._green_learning import GreenLearningRegressor
    from ._hss_transformer import HSSTransformer
    from ._linear import HSSRegressor
    from ._local_evolution import LocalEvolutionRegressor
    from ._local_operator import LocalOperatorRegressor
    from ._neural_hss import NeuralHSSRegressor
    from ._residual import ResidualRegressor
    from ._resnet import ResNetRegressor
    from ._rollout import RolloutRegressor

_MODULE_OF = {
    "ConformalFieldRegressor": "_conformal",
    "DeepONetRegressor": "_deeponet",
    "FactFormerRegressor": "_factformer",
    "FNORegressor": "_fno",
    "GreenLearningRegressor": "_green_learning",
    "HSSTransformer": "_hss_transformer",
    "HSSRegressor": "_linear",
    "LocalEvolutionRegressor": "_local_evolution",
    "LocalOperatorRegressor": "_local_operator",
    "NeuralHSSRegressor": "_neural_hss",
    "ResidualRegressor": "_residual",
    "ResNetRegressor": "_resnet",
    "RolloutRegressor": "_rollout",
}

__all__ = [
    "ConformalFieldRegressor",
    "DeepONetRegressor",
    "FNORegressor",
    "FactFormerRegressor",
    "GreenLearningRegressor",
    "HSSRegressor",
    "HSSTransformer",
    "LocalEvolutionRegressor",
    "LocalOperatorRegressor",
    "NeuralHSSRegressor",
    "ResNetRegressor",
    "ResidualRegressor",
    "RolloutRegressor",
]

__getattr__ = lazily(__name__, _MODULE_OF)


def __dir__():
    return __all__
