"""HSS matrices as numerical linear algebra on torch tensors."""

from ._cluster_tree import ClusterTree
from ._hss_matrix import HSSMatrix
from ._kronecker import KroneckerSum, LowRankOperator, OperatorSum, SymbolOperator
from ._ulv import ULVFactor

__all__ = ["ClusterTree", "HSSMatrix", "KroneckerSum", "LowRankOperator", "OperatorSum", "SymbolOperator", "ULVFactor"]
