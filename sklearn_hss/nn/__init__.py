"""Torch modules: HSS layers and the networks built from them."""

from ._activation import TrainableLeakyReLU
from ._cp_linear import CPLinear
from ._hss_linear import HSSLinear
from ._hss_multilinear import HSSMultilinear
from ._neural_hss import NeuralHSS

__all__ = ["CPLinear", "HSSLinear", "HSSMultilinear", "NeuralHSS", "TrainableLeakyReLU"]
