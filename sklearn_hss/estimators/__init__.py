"""Estimators with scikit-learn's interface."""

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
