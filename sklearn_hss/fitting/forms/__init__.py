"""The forms of fitted maps, one file per family: :mod:`sklearn_hss.fitting._form` defines the contract."""

from .._form import Form
from ._eigenbasis import Eigenbasis, InputEigenbasis
from ._gauss_newton import GaussNewton
from ._kronecker_products import KroneckerProducts, LeastSquaresProducts
from ._kronecker_sum import KroneckerSum, PeriodicKroneckerSum, WeightedKroneckerSum
from ._local import Local, LocalInverse
from ._noisy_local import NoisyLocalInverse
from ._null_spaces import AugmentedNullSpaces, NullSpaces
from ._ridge import Ridge
from ._variable_projection import VariableProjection

# In order of preference among equally good fits.
FORMS: list[type[Form]] = [
    AugmentedNullSpaces,
    NullSpaces,
    LocalInverse,
    NoisyLocalInverse,
    Local,
    VariableProjection,
    GaussNewton,
    KroneckerSum,
    WeightedKroneckerSum,
    PeriodicKroneckerSum,
    Eigenbasis,
    InputEigenbasis,
    LeastSquaresProducts,
    KroneckerProducts,
    Ridge,
]
