"""What products and solves take from their users, and the face that both show SciPy."""

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator


def real_array(x):
    """Refuse complex arrays, which torch would cast to their real part."""
    if np.iscomplexobj(x):
        raise TypeError("Complex operands are not supported; multiply the real and the imaginary part.")
    return x


def check_operand(x, dtype, n, matrix="an HSSMatrix"):
    """Refuse operands whose type or number of rows does not fit a matrix with `n` columns."""
    if x.dtype != dtype:
        raise TypeError(f"An operand of {x.dtype} does not fit {matrix} of {dtype}; convert one of them.")
    if x.ndim == 0:
        raise ValueError(f"A scalar does not fit {matrix}; the operand must be a vector or a matrix.")
    rows = x.shape[0] if x.ndim == 1 else x.shape[-2]
    if rows != n:
        raise ValueError(f"An operand with {rows} rows does not fit {matrix} with {n} columns.")


def as_linear_operator(shape, dtype, apply, adjoint):
    """SciPy's view of one matrix, given its products with NumPy arrays."""
    if len(shape) != 2:
        raise ValueError(f"SciPy knows no batches; take one matrix out of this one of shape {shape} first.")
    return LinearOperator(
        shape,
        dtype=torch.empty(0, dtype=dtype).numpy().dtype,
        matvec=apply,
        matmat=apply,
        rmatvec=adjoint,
        rmatmat=adjoint,
    )
