"""Conversion of operands of products, solves and builders, and the SciPy interface of matrices."""

import numpy as np
import torch
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator

from .._containers import as_plain


def is_array_like(x):
    """Whether `x` contains numbers for a product, and is not an operator that may implement the product itself."""
    return isinstance(x, list | tuple) or hasattr(x, "__array__") or issparse(x)


def as_array(x, name):
    """NumPy array of numbers, from anything that :func:`as_plain` reads, lists, data frames and sparse matrices."""
    if not is_array_like(x) and not np.isscalar(x):
        raise TypeError(f"{name} must be an array, not of type {type(x).__name__}.")
    x = as_plain(x, name)
    x = x.toarray() if issparse(x) else as_plain(np.asarray(x), name)
    if x.dtype == object:  # Python numbers are converted to a type of NumPy, other objects are not
        x = as_plain(np.array(x.tolist()).reshape(x.shape), name)
        if x.dtype == object:
            raise TypeError(f"{name} must hold real numbers, not objects.")
    return x


def real_array(x, name="The operand"):
    """Reject complex arrays, which torch would cast to their real part."""
    x = as_array(x, name)
    if np.iscomplexobj(x):
        _refuse_complex()
    return x


def _refuse_complex():
    raise TypeError("Complex operands are not supported; multiply the real and the imaginary part.")


def as_operand(x, matrix):
    """Tensor of an operand of `matrix`, and whether the operand, and hence the result, is an array instead."""
    if isinstance(x, torch.Tensor):
        return x, False
    return from_numpy(real_array(x), matrix.dtype).to(matrix.device), True


def as_given(x, was_array):
    """Convert the result of an operation on a tensor from :func:`as_operand` to an array if the operand was one."""
    return x.detach().cpu().numpy() if was_array else x


def from_numpy(x, dtype):
    """Tensor of a given type that shares the memory of an array if possible."""
    x = np.asarray(x, dtype=torch.empty(0, dtype=dtype).numpy().dtype)
    can_share = x.flags.writeable and x.flags.aligned and all(s >= 0 and s % x.itemsize == 0 for s in x.strides)
    return torch.from_numpy(x if can_share else np.array(x, order="C"))


def check_operand(x, A, n, side="columns"):
    """Reject operands whose type or number of rows does not fit the map `A`, which has `n` points on that side."""
    kind = f"this {type(A).__name__}"
    if x.is_complex():
        _refuse_complex()
    if x.dtype != A.dtype:
        raise TypeError(f"An operand of {x.dtype} does not fit {kind} of {A.dtype}; convert one of them.")
    if x.ndim == 0:
        raise ValueError(f"A scalar does not fit {kind}; the operand must be a vector or a matrix.")
    rows = x.shape[0] if x.ndim == 1 else x.shape[-2]
    if rows != n:
        raise ValueError(f"An operand with {rows} rows does not fit {kind} with {n} {side}.")


def as_linear_operator(shape, dtype, apply, adjoint):
    """SciPy's view of one matrix, given its products with NumPy arrays."""
    if len(shape) != 2:
        raise ValueError(f"SciPy does not support batches; select one matrix of this batch of shape {shape} first.")
    return LinearOperator(
        shape,
        dtype=torch.empty(0, dtype=dtype).numpy().dtype,
        matvec=apply,
        matmat=apply,
        rmatvec=adjoint,
        rmatmat=adjoint,
    )
