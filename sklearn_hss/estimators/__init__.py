"""Estimators with scikit-learn's interface."""

from ._fno import FNORegressor
from ._linear import HSSRegressor, HSSTransformer
from ._neural_hss import NeuralHSSRegressor

__all__ = ["FNORegressor", "HSSRegressor", "HSSTransformer", "NeuralHSSRegressor"]
