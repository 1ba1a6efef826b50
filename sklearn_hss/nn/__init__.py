"""Torch modules: HSS layers, the networks built from them, and baseline networks."""

from ._activation import TrainableLeakyReLU
from ._cp_linear import CPLinear
from ._deeponet import DeepONet
from ._factformer import FactFormer
from ._fno import FNO, SpectralConv
from ._green_learning import GreenLearning
from ._hss_linear import HSSLinear
from ._hss_multilinear import HSSMultilinear
from ._levenberg_marquardt import LevenbergMarquardt
from ._neural_hss import NeuralHSS
from ._patch_hss import PatchHSS
from ._rational import Rational
from ._resnet import ResNet
from ._soap import SOAP

__all__ = [
    "FNO",
    "SOAP",
    "CPLinear",
    "DeepONet",
    "FactFormer",
    "GreenLearning",
    "HSSLinear",
    "HSSMultilinear",
    "LevenbergMarquardt",
    "NeuralHSS",
    "PatchHSS",
    "Rational",
    "ResNet",
    "SpectralConv",
    "TrainableLeakyReLU",
]
