"""Linear maps between fields, above all HSS matrices, as numerical linear algebra on torch tensors."""

from ._cluster_tree import ClusterTree
from ._diagonalized import DiagonalizedOperator
from ._hss_matrix import HSSMatrix
from ._kronecker_product_sum import KroneckerProductSum
from ._linear_map import LinearMap
from ._low_rank import LowRankOperator
from ._operator_product import OperatorProduct
from ._operator_sum import OperatorSum
from ._sparse_inverse import SparseInverse
from ._sparse_matrix import SparseMatrix
from ._ulv import ULVFactor

__all__ = [
    "ClusterTree",
    "DiagonalizedOperator",
    "HSSMatrix",
    "KroneckerProductSum",
    "LinearMap",
    "LowRankOperator",
    "OperatorProduct",
    "OperatorSum",
    "SparseInverse",
    "SparseMatrix",
    "ULVFactor",
]
