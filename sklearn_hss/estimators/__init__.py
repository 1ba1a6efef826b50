"""Estimators with scikit-learn's interface."""

from ._linear import HSSRegressor, HSSTransformer
from ._neural_hss import NeuralHSSRegressor

__all__ = ["HSSRegressor", "HSSTransformer", "NeuralHSSRegressor"]
