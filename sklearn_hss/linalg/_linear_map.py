"""Base class of linear maps between fields."""

from math import prod
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.linalg import LinAlgWarning
from scipy.sparse.linalg import lsmr

from .._warnings import warn_user
from . import _storage
from ._checks import check_dtype, check_memory, is_factor
from ._operands import as_given, as_linear_operator, as_operand, check_operand, is_array_like

# Relative residual above which a solution is rejected.
SOLVED = 1e-6


class LinearMap:
    """Linear map between fields on two grids; as a matrix it acts on fields flattened in C order.

    A map can be applied to fields, transposed, multiplied, solved with, converted, saved and loaded. For this purpose,
    a class of maps provides

    - ``_parts``, the names of the parameters of its constructor. The attributes of these names hold tensors, further
      maps, cluster trees, None, or tuples of these: everything that is converted, saved and counted.
    - ``grid_in`` and ``grid_out``, attributes.
    - ``_apply(fields)``, which maps a tensor (\\*batch, \\*grid_in) of its type to a tensor (\\*batch, \\*grid_out).
    - ``_transposed()``.
    - ``_scaled(c)``, the multiple by a number or a one-element tensor.

    If there is a better method than iteration, the class also provides ``_solve(b)``, which returns the solution for a
    tensor (n_rows,) or (..., n_rows, k) of its type, or None. ``_in_channel_units`` is optional and implements the
    public method of this name; ``_restricted_to`` is for classes with a better method than a product with projections.

    Attributes
    ----------
    grid_in, grid_out : tuple of int
        Grids of the fields.
    shape : tuple of int
        Numbers of points of the grids, (n_rows, n_columns).
    structure : tuple
        (rank, levels, outer_rank): the largest HSS rank, the depth of the deepest cluster tree and the number of
        Kronecker products; None for those that do not apply.
    n_parameters : int
        Number of values that represent the map.
    dtype, device
        Type of the fields, float32 or float64, and device.
    T : LinearMap
        Transpose, which shares the parts.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import LinearMap
    >>> class Scaling(LinearMap):
    ...     _parts = ("weights",)
    ...     def __init__(self, weights):
    ...         self.weights, self.grid_in, self.grid_out = weights, weights.shape, weights.shape
    ...     def _apply(self, fields):
    ...         return self.weights * fields
    ...     def _transposed(self):
    ...         return self
    ...     def _scaled(self, c):
    ...         return Scaling(c * self.weights)
    >>> A = 2 * Scaling(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    >>> A @ torch.ones(4), A.solve(torch.ones(4))
    (tensor([2., 4., 6., 8.]), tensor([0.5000, 0.2500, 0.1667, 0.1250]))
    """

    grid_in: tuple[int, ...]
    grid_out: tuple[int, ...]
    _parts: ClassVar[tuple[str, ...]] = ()
    _kinds: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        LinearMap._kinds.setdefault(cls.__name__, cls)

    def _apply(self, fields):
        raise NotImplementedError

    def _transposed(self):
        raise NotImplementedError

    def _scaled(self, c):
        raise NotImplementedError

    def _solve(self, b):
        return None

    # Parts

    def _rebuilt(self, function):
        """Map of the same kind, with `function` applied to all tensors."""
        return type(self)(**{name: _each(function, getattr(self, name)) for name in self._parts})

    def _leaves(self):
        """Tensors and further maps of which this one consists."""
        for name in self._parts:
            yield from _flat(getattr(self, name))

    @property
    def dtype(self) -> torch.dtype:
        first = next(self._leaves())
        return first.real.dtype if isinstance(first, torch.Tensor) else first.dtype

    @property
    def device(self) -> torch.device:
        return next(self._leaves()).device

    @property
    def n_parameters(self) -> int:
        return sum(x.numel() if isinstance(x, torch.Tensor) else x.n_parameters for x in self._leaves())

    @property
    def shape(self) -> tuple[int, ...]:
        return prod(self.grid_out), prod(self.grid_in)

    @property
    def structure(self) -> tuple[int | None, int | None, int | None]:
        return None, None, None

    def to(self, *args, **kwargs):
        """Convert type or device, with the arguments of :meth:`torch.Tensor.to`.

        Parameters
        ----------
        *args, **kwargs
            Type or device, such as ``torch.float32`` or ``"cuda"``.

        Returns
        -------
        LinearMap
            Map of the same class.

        Raises
        ------
        TypeError
            For types other than float32 and float64.
        """

        def convert(X):
            if X.is_complex():
                return torch.complex(convert(X.real), convert(X.imag))
            X = X.to(*args, **kwargs)
            check_dtype(X.dtype)
            return X

        return self._rebuilt(convert)

    def detach(self):
        """Detach the map from the autograd graph.

        Returns
        -------
        LinearMap
            Map of the same class with the same values.
        """
        return self._rebuilt(torch.Tensor.detach)

    # Products

    def apply(self, fields):
        """Apply the map to fields.

        Parameters
        ----------
        fields : Tensor or array-like of shape (\\*batch, \\*grid_in)
            Tensors must be of the type of the map.

        Returns
        -------
        Tensor or ndarray of shape (\\*batch, \\*grid_out)
            A tensor if `fields` is one.

        Raises
        ------
        ValueError, TypeError
            If the fields are not on the grid, complex, or tensors of another type.
        """
        fields, was_array = as_operand(fields, self)
        if tuple(fields.shape[-len(self.grid_in) :]) != tuple(self.grid_in):
            raise ValueError(f"Fields of shape {tuple(fields.shape)} do not end in the grid {self.grid_in} of the map.")
        if fields.dtype != self.dtype:
            raise TypeError(f"Fields of {fields.dtype} do not fit a map of {self.dtype}; convert one of them.")
        return as_given(self._apply(fields), was_array)

    @property
    def T(self):
        return self._transposed()

    def __matmul__(self, x):
        """Product with a flat field (n_columns,) or with several in columns (..., n_columns, k), array-like or tensor.

        The product with a tensor is a tensor, that with any other array-like a NumPy array.
        """
        if not is_array_like(x):
            return NotImplemented
        x, was_array = as_operand(x, self)
        check_operand(x, self, self.shape[-1])
        y = self._product(x.unsqueeze(-1)).squeeze(-1) if x.ndim == 1 else self._product(x)
        return as_given(y, was_array)

    def _product(self, x):
        fields = x.mT.reshape(*x.shape[:-2], x.shape[-1], *self.grid_in)
        return self._apply(fields).flatten(-len(self.grid_out)).mT

    # NumPy must delegate `array @ A` to the method below, instead of converting A to an array of objects.
    __array_ufunc__ = None

    def __rmatmul__(self, x):
        """Product of a row vector (n_rows,) or a block of them (..., k, n_rows) with the matrix."""
        if not is_array_like(x):
            return NotImplemented
        x, was_array = as_operand(x, self)
        y = self.T @ x if x.ndim < 2 else (self.T @ x.mT).mT
        return as_given(y, was_array)

    def __mul__(self, c):
        """Multiple by a number, or by one number per matrix of a batch."""
        if not is_factor(c) or (isinstance(c, torch.Tensor) and c.ndim > len(self.shape) - 2):
            return NotImplemented
        return self._scaled(c if isinstance(c, torch.Tensor) else float(c))

    __rmul__ = __mul__

    def __neg__(self):
        return -1 * self

    def __truediv__(self, c):
        """Quotient by a number, or by one number per matrix of a batch."""
        return self * (1 / c) if is_factor(c) else NotImplemented

    def to_dense(self) -> torch.Tensor:
        """Expand to a dense matrix.

        Returns
        -------
        Tensor of the shape of the map
            Dense matrix, with O(n²) entries.
        """
        kind = type(self).__name__
        check_memory(prod(self.shape), self.dtype, f"The dense form of this {kind} of shape {self.shape}")
        return self._dense()

    def _dense(self):
        return self @ torch.eye(self.shape[1], dtype=self.dtype, device=self.device)

    def aslinearoperator(self):
        """View of the map as a SciPy operator, for iterative solvers.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator
            Operator with products with the matrix and its transpose.
        """
        return as_linear_operator(self.shape, self.dtype, self.__matmul__, self.T.__matmul__)

    # Solutions

    def solve(self, b):
        """Compute the minimum-norm inputs for which the map gives the specified outputs.

        A square HSS matrix is factorised in O(n r²) and caches its factor, with which it solves in O(n r) per column;
        the solution is differentiable any number of times, also with respect to the generators. Known inverses are
        used. For all other maps, LSMR iterates in float64 with products with the map and its transpose, and the result
        is not differentiable.

        Parameters
        ----------
        b : Tensor or array-like of shape (n_rows,) or (..., n_rows, k)
            Flat outputs, or several in columns.

        Returns
        -------
        Tensor or ndarray of shape (n_columns,) or (..., n_columns, k)
            A tensor if `b` is one.

        Raises
        ------
        ValueError, TypeError
            If `b` has the wrong shape, is complex or a tensor of another type, or contains NaN or infinite values where
            an iteration is used.
        numpy.linalg.LinAlgError
            If a square HSS matrix is singular.

        Warns
        -----
        scipy.linalg.LinAlgWarning
            If a square HSS matrix is singular to working precision; or if there is no solution, so that the
            least-squares solution is returned.
        """
        b, was_array = as_operand(b, self)
        check_operand(b, self, self.shape[-2], "rows")
        x = self._solve(b)
        return as_given(self._iterate(b) if x is None else x, was_array)

    def lstsq(self, b, silent=None):
        """Solve as :meth:`solve` does, for maps in which some rows are zero.

        Parameters
        ----------
        b : Tensor or array-like of shape (n_rows,) or (n_rows, k)
            Flat outputs, or several in columns.
        silent : array-like of bool, of shape (n_rows,), default=None
            Rows that are zero in the map and in `b`.

        Returns
        -------
        Tensor or ndarray of shape (n_columns,) or (n_columns, k)

        Warns
        -----
        scipy.linalg.LinAlgWarning
            If there is no solution, or a matrix has no inverse: the solution of smallest norm is returned.
        """
        return self.solve(b)

    @torch.no_grad()
    def _iterate(self, b):
        """Solution of smallest norm by LSMR, in float64."""
        if not torch.isfinite(b).all():
            raise ValueError("The right-hand sides must not hold NaN or infinite values.")
        A, stack = self.to(torch.float64), b if b.ndim == 1 else b.movedim(-2, 0)
        columns = stack.reshape(len(stack), stack[0].numel()).double()
        # Because of rounding, min(shape) steps are not sufficient: for a condition number of 1e6, 15 times as many were
        # required.
        how = {"atol": 1e-12, "btol": 1e-12, "maxiter": 20 * min(self.shape)}
        found = [lsmr(A.aslinearoperator(), column, **how) for column in columns.cpu().numpy().T]
        solutions = np.array([x for x, *_ in found]).reshape(len(found), self.shape[1])
        x = torch.from_numpy(solutions.T).to(columns)
        left = float((A @ x - columns).norm()) / (float(columns.norm()) or 1.0)
        if left > SOLVED:
            # These exit codes of LSMR indicate a condition number above 1e8 or 1/eps, and too many steps.
            stopped = any(end in (3, 6, 7) for _, end, *_ in found)
            self._warn_of_rest(left, *["LSMR has not converged"] * stopped)
        x = x.reshape(len(x), *stack.shape[1:]).to(b.dtype)
        return x if b.ndim == 1 else x.movedim(0, -2)

    @staticmethod
    def _warn_of_rest(rest, reason="The outputs are not in the range of the operator"):
        warn_user(f"{reason}: the inputs returned have a relative residual of {rest:.1e}.", LinAlgWarning)

    # Further maps

    def with_low_rank(self, outputs, inputs, coarsen=False):
        """Add a map of low rank, given as for :class:`LowRankOperator`.

        Parameters
        ----------
        outputs, inputs : Tensors of shapes (k, \\*grid_out) and (k, \\*grid_in)
            Fields: a field is mapped to the sum of `outputs` times its inner products with `inputs`.
        coarsen : bool, default=False
            Whether cluster trees may become shallower, so that leaves have at least twice as many points as the
            resulting rank.

        Returns
        -------
        LinearMap
        """
        from ._low_rank import LowRankOperator
        from ._operator_sum import OperatorSum

        return self._plus(OperatorSum([self, LowRankOperator(outputs, inputs)]), coarsen)

    def _plus(self, total, coarsen):
        """Convert an :class:`OperatorSum` of this map and a further term to a map of this class if possible."""
        return total

    def in_channel_units(self, rows, columns):
        """Express the map in other units of the channels, which are the first mode of its fields.

        Parameters
        ----------
        rows, columns : Tensors of shapes (grid_out[0],) and (grid_in[0],)
            Factors of the channels of outputs and inputs: their outer product multiplies the map between channels.

        Returns
        -------
        LinearMap

        Raises
        ------
        NotImplementedError
            If this class of maps does not support modes.
        """
        return self._in_channel_units(rows, columns)

    def _in_channel_units(self, rows, columns):
        raise NotImplementedError(f"Maps of type {type(self).__name__} have no mode of channels.")

    def restricted_to(self, bases):
        """Project inputs onto a product of subspaces before the map is applied.

        Parameters
        ----------
        bases : sequence of Tensors of shape (n_j, p_j)
            Orthonormal bases of the subspaces, one per mode.

        Returns
        -------
        LinearMap
            In general a product with the projections; some classes have a better form.
        """
        return self._restricted_to(bases)

    def _restricted_to(self, bases):
        from ._kronecker_product_sum import KroneckerProductSum
        from ._operator_product import OperatorProduct

        projections = [(P @ P.mT).to(self.dtype)[None] for P in bases]
        return OperatorProduct([self, KroneckerProductSum.from_dense(projections, levels=0)])

    # Files

    def save(self, path) -> None:
        """Write the map to a file in NumPy's .npz format, which contains only arrays.

        An existing file is replaced once the new one is complete.

        Parameters
        ----------
        path : str or path-like
            Name of the file, to which no extension is added.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            If the folder of `path` does not exist, or `path` is a folder.
        """
        _storage.save(self, path)

    @classmethod
    def load(cls, path, device: torch.device | str | None = None):
        """Read a map written by :meth:`save`. No code in the file is executed, whatever its origin.

        Parameters
        ----------
        path : str or path-like
            Name of the file.
        device : torch.device or str, default=None
            Device of the map; the CPU if None.

        Returns
        -------
        LinearMap
            Map of the class that was saved.

        Raises
        ------
        ValueError
            If the file does not hold a map of this class.
        FileNotFoundError, IsADirectoryError
            If there is no such file, or it is a folder.
        """
        found = _storage.load(path, device or "cpu", LinearMap._kinds)
        if not isinstance(found, cls):
            kind = type(found).__name__
            raise ValueError(f"{path} contains a map of type {kind}, not {cls.__name__}; LinearMap.load reads any.")
        return found


def _each(function, part):
    if isinstance(part, tuple):
        return tuple(_each(function, x) for x in part)
    if isinstance(part, LinearMap):
        return part._rebuilt(function)
    return function(part) if isinstance(part, torch.Tensor) else part


def _flat(part):
    for x in part if isinstance(part, tuple) else (part,):
        if isinstance(x, tuple):
            yield from _flat(x)
        elif isinstance(x, torch.Tensor | LinearMap):
            yield x
