"""Operands of products, solves and builders as users bring them, and the face that matrices show SciPy."""

import numpy as np
import torch
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator

from .._containers import as_plain


def is_array_like(x):
    """Whether `x` holds numbers for a product, and is no operator that may know how to multiply itself."""
    return isinstance(x, list | tuple) or hasattr(x, "__array__") or issparse(x)


def as_array(x, name):
    """NumPy array of numbers, of whatever :func:`as_plain` reads, of lists, data frames and sparse matrices."""
    if not is_array_like(x) and not np.isscalar(x):
        raise TypeError(f"{name} must be an array, not of type {type(x).__name__}.")
    x = as_plain(x, name)
    x = x.toarray() if issparse(x) else as_plain(np.asarray(x), name)
    if x.dtype == object:  # numbers of Python have a type of NumPy; what stays has none
        x = as_plain(np.array(x.tolist()).reshape(x.shape), name)
        if x.dtype == object:
            raise TypeError(f"{name} must hold real numbers, not objects.")
    return x


def real_array(x, name="The operand"):
    """Refuse complex arrays, which torch would cast to their real part."""
    x = as_array(x, name)
    if np.iscomplexobj(x):
        _refuse_complex()
    return x


def _refuse_complex():
    raise TypeError("Complex operands are not supported; multiply the real and the imaginary part.")


def as_operand(x, matrix):
    """Tensor of an operand of `matrix`, and whether it was none, so that the result should be an array."""
    if isinstance(x, torch.Tensor):
        return x, False
    return from_numpy(real_array(x), matrix.dtype).to(matrix.device), True


def as_given(x, was_array):
    """Result of an operation on what :func:`as_operand` returned."""
    return x.detach().cpu().numpy() if was_array else x


def from_numpy(x, dtype):
    """Tensor of given type that shares the memory of an array where torch can."""
    x = np.asarray(x, dtype=torch.empty(0, dtype=dtype).numpy().dtype)
    can_share = x.flags.writeable and x.flags.aligned and all(s >= 0 and s % x.itemsize == 0 for s in x.strides)
    return torch.from_numpy(x if can_share else np.array(x, order="C"))


def check_operand(x, A, n, side="columns"):
    """Refuse operands whose type or number of rows does not fit the map `A`, which has `n` points on that side."""
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
        raise ValueError(f"SciPy knows no batches; take one matrix out of this one of shape {shape} first.")
    return LinearOperator(
        shape,
        dtype=torch.empty(0, dtype=dtype).numpy().dtype,
        matvec=apply,
        matmat=apply,
        rmatvec=adjoint,
        rmatmat=adjoint,
    )
