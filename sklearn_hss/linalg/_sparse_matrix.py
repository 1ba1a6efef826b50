"""Sparse matrices as maps between fields."""

from math import prod

import numpy as np
import torch
from scipy.sparse import csr_array, issparse

from ._checks import check_dtype
from ._hss_matrix import _without_inference
from ._linear_map import LinearMap
from ._operands import real_array


class SparseMatrix(LinearMap):
    """Sparse matrix between fields, such as a stencil or a finite-element matrix.

    Products are differentiable any number of times, with respect to the fields and to the stored values.

    Parameters
    ----------
    matrix : sparse matrix, array-like or tuple of three Tensors
        Real matrix of shape (n_rows, n_columns), in any format of SciPy or dense; or values, column indices and row
        pointers in SciPy's CSR format, which requires both grids. Explicitly stored zeros are preserved. Types other
        than float32 are converted to float64.
    grid_in, grid_out : tuple of int, default=None
        Grids of the fields; (n_columns,) and (n_rows,) if None.

    Attributes
    ----------
    matrix : tuple of three Tensors
        Values, column indices and row pointers. Conversions change the type of the values only.
    grid_in, grid_out, shape, structure, dtype, device, T
        As for every :class:`LinearMap`.
    n_parameters : int
        Number of stored values.

    Raises
    ------
    ValueError, TypeError
        If `matrix` is not a real matrix, or does not match the grids.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import diags_array
    >>> from sklearn_hss.linalg import SparseMatrix
    >>> A = SparseMatrix(diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(12, 12)), (3, 4), (3, 4))
    >>> A
    SparseMatrix(grid_in=(3, 4), grid_out=(3, 4), n_parameters=34)
    >>> A.apply(np.ones((3, 4)))[0]
    array([1., 0., 0., 0.])
    """

    _parts = ("matrix", "grid_in", "grid_out")

    def __init__(self, matrix, grid_in: tuple[int, ...] | None = None, grid_out: tuple[int, ...] | None = None) -> None:
        if isinstance(matrix, tuple) and len(matrix) == 3 and all(isinstance(x, torch.Tensor) for x in matrix):
            values, *indices = matrix
            if grid_in is None or grid_out is None:
                raise ValueError("A matrix of three tensors needs both grids, grid_in and grid_out.")
            check_dtype(values.dtype)
            if any(x.is_floating_point() or x.is_complex() or x.device != values.device for x in indices):
                raise TypeError("Column indices and row pointers must be integers on the device of the values.")
            shape = prod(grid_out), prod(grid_in)
        else:
            A = _as_csr(matrix)
            values, *indices = (torch.from_numpy(np.array(x)) for x in (A.data, A.indices, A.indptr))
            shape = A.shape
        self.matrix = _without_inference(values), *indices
        self.grid_in = (shape[1],) if grid_in is None else tuple(map(int, grid_in))
        self.grid_out = (shape[0],) if grid_out is None else tuple(map(int, grid_out))
        if self.shape != shape:
            raise ValueError(
                f"matrix has shape {shape}, which does not fit fields on grid_in={self.grid_in} and "
                f"grid_out={self.grid_out}."
            )
        if values.device.type == "cpu":
            self.to_scipy().check_format(full_check=True)

    def _rebuilt(self, function):
        values, *indices = self.matrix
        values = function(values)
        return SparseMatrix((values, *(x.to(values.device) for x in indices)), self.grid_in, self.grid_out)

    @property
    def values(self) -> torch.Tensor:
        """The stored values."""
        return self.matrix[0]

    @property
    def n_parameters(self) -> int:
        return self.values.numel()

    def __repr__(self) -> str:
        return f"SparseMatrix(grid_in={self.grid_in}, grid_out={self.grid_out}, n_parameters={self.n_parameters})"

    def to_scipy(self) -> csr_array:
        """Return the matrix in SciPy's format, sharing memory if it is on the CPU.

        Returns
        -------
        scipy.sparse.csr_array
        """
        return csr_array(tuple(x.detach().cpu().numpy() for x in self.matrix), shape=self.shape)

    def _coordinates(self):
        """Rows and columns of the stored values."""
        _, columns, pointers = self.matrix
        rows = torch.arange(self.shape[0], device=self.device)
        return torch.repeat_interleave(rows, pointers.diff().long(), output_size=len(columns)), columns.long()

    def _apply(self, fields):
        return self._multiply(fields, False)

    def _multiply(self, fields, transposed):
        """Product with the matrix or its transpose, without forming the transpose."""
        inputs, outputs = (self.grid_out, self.grid_in) if transposed else (self.grid_in, self.grid_out)
        batch = fields.shape[: fields.ndim - len(inputs)]
        return _Product.apply(self, transposed, fields.reshape(prod(batch), prod(inputs)), self.values).view(
            *batch, *outputs
        )

    def _transposed(self):
        rows, columns = self._coordinates()
        columns, order = columns.sort(stable=True)
        pointers = torch.searchsorted(columns, torch.arange(self.shape[1] + 1, device=self.device))
        kind = self.matrix[1].dtype
        return SparseMatrix((self.values[order], rows[order].to(kind), pointers.to(kind)), self.grid_out, self.grid_in)

    def _scaled(self, c):
        return self._rebuilt(lambda values: c * values)

    def _in_channel_units(self, rows, columns):
        i, j = self._coordinates()
        i, j = i // (self.shape[0] // self.grid_out[0]), j // (self.shape[1] // self.grid_in[0])
        return self._rebuilt(lambda values: rows[i] * values * columns[j])

    def _dense(self):
        dense = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        return dense.index_put(self._coordinates(), self.values, accumulate=True)


def _as_csr(matrix):
    """Convert a matrix of any format to CSR, in float32 or float64, without duplicates."""
    A = matrix if issparse(matrix) else real_array(matrix, "matrix")
    if A.ndim != 2:
        raise ValueError(f"matrix must have two dimensions, not {A.ndim}.")
    if A.dtype.kind not in "fiub":
        raise TypeError(f"matrix must hold real numbers, not {A.dtype}.")
    A = csr_array(A, dtype=A.dtype if A.dtype == np.float32 else np.float64)
    if not A.has_canonical_format:
        A = A.copy()
        A.sum_duplicates()
    return A


class _Product(torch.autograd.Function):
    """Product of rows of numbers with a sparse matrix, or with its transpose."""

    @staticmethod
    def forward(ctx, A, transposed, x, values):
        ctx.A, ctx.transposed = A, transposed
        ctx.save_for_backward(x, values)
        n = A.shape[1] if transposed else A.shape[0]
        if x.device.type == "cpu":
            matrix, result = A.to_scipy(), x.new_empty(len(x), n)
            matrix, out = matrix.T if transposed else matrix, result.numpy()
            # One field at a time, since reordering the fields in memory would take twice as long as these products.
            for i, row in enumerate(x.detach().contiguous().numpy()):
                out[i] = matrix @ row
            return result
        i, j = A._coordinates()
        i, j = (j, i) if transposed else (i, j)
        return x.new_zeros(len(x), n).index_add(1, i, values * x[:, j])

    @staticmethod
    def backward(ctx, g):
        x, values = ctx.saved_tensors
        grad_x = grad_values = None
        if ctx.needs_input_grad[2]:
            grad_x = _Product.apply(ctx.A, not ctx.transposed, g, values)
        if ctx.needs_input_grad[3]:
            i, j = ctx.A._coordinates()
            i, j = (j, i) if ctx.transposed else (i, j)
            grad_values = (g[:, i] * x[:, j]).sum(0)
        return None, None, grad_x, grad_values
