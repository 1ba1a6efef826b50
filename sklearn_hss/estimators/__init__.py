"""The scikit-learn face of the package."""

from ._neural_hss import NeuralHSSRegressor

__all__ = ["NeuralHSSRegressor"]
