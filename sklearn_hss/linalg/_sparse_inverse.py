"""Inverses of sparse matrices, applied by solving linear systems."""

from math import prod
from threading import Lock

import numpy as np
import torch
from scipy.sparse import csr_array

from ._checks import check_parts
from ._hss_matrix import _without_inference
from ._linear_map import SOLVED, LinearMap
from ._operands import as_given, as_operand, check_operand, from_numpy, real_array
from ._sparse_factor import sparse_factor
from ._sparse_matrix import SparseMatrix

_SOLVERS = "auto", "direct", "multigrid"


class SparseInverse(LinearMap):
    """Solution u of L u = M f with sparse L and M: the map L⁻¹ M.

    L is factorised, in float64, when the map is first applied. The factor is cached until values change, is shared with
    the transpose, and is not saved to files. Solutions are differentiable any number of times, with respect to the
    fields and to all stored values. Fields on a GPU are moved to the CPU and back.

    Parameters
    ----------
    L : SparseMatrix or sparse matrix
        Square matrix. The outputs of the map are on its `grid_in`.
    M : SparseMatrix or sparse matrix, default=None
        Matrix with as many rows as L; the identity if None. At points with zero rows, as where u is prescribed to be
        zero, :meth:`solve` returns inputs that are zero.
    right, left : array-likes of shape (n, k), default=None
        Orthonormal bases of the null spaces of L and its transpose, if L is singular. Then u is orthogonal to `right`,
        and the component of M f along `left`, for which there is no solution, is removed: (u, s) solves the bordered
        system [[L, left], [rightᵀ, 0]] [u, s] = [M f, 0].
    solver : {"auto", "direct", "multigrid"}, default="auto"
        SuperLU; or Krylov iterations with algebraic multigrid (pyamg, the extra ``amg``) for each field, to a relative
        residual of 1e-13 or to rounding, with SuperLU as a fallback if they do not converge in 60 steps. "auto" is
        multigrid if pyamg is installed and the bandwidth of L exceeds 1100 after Cuthill-McKee reordering.

    Attributes
    ----------
    L, M, right, left, solver
        The same.
    grid_in, grid_out, shape, structure, n_parameters, dtype, device, T
        As for every :class:`LinearMap`.

    Raises
    ------
    ValueError, TypeError
        If the parameters are inconsistent.
    numpy.linalg.LinAlgError
        When the map is applied, if L is singular and `right` and `left` are missing or do not span its null spaces.

    Notes
    -----
    Cost for the Poisson equation with variable coefficients and stencils of 5 and 7 points, on one core: seconds for
    the first field, seconds per further field, and peak memory of the process, including 0.3 GB for the libraries. The
    bandwidths are n for n x n points and about 3/4 n² for n x n x n points, and twice that on periodic grids.

    ====  ========================  =====================
    grid  direct                    multigrid
    ====  ========================  =====================
    256²  0.7, 0.01, 0.35 GB        0.4, 0.1, 0.3 GB
    512²  2-5, 0.03-0.06, 0.7 GB    1.1, 0.5, 0.45 GB
    32³   2.5, 0.01, 0.5 GB         0.3, 0.05, 0.3 GB
    48³   40, 0.08, 2.4 GB          0.8, 0.2, 0.4 GB
    64³   250, 0.3, 8 GB            2-4, 0.6-1, 0.55 GB
    ====  ========================  =====================

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import diags_array
    >>> from sklearn_hss.linalg import SparseInverse
    >>> A = SparseInverse(diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(3, 3)))
    >>> A @ np.ones(3)
    array([1.5, 2. , 1.5])
    """

    _parts = ("L", "M", "right", "left", "solver")

    def __init__(self, L, M=None, *, right=None, left=None, solver: str = "auto") -> None:
        if solver not in _SOLVERS:
            raise ValueError(f"solver={solver!r} must be 'auto', 'direct' or 'multigrid'.")
        self.L = L if isinstance(L, SparseMatrix) else SparseMatrix(L)
        n, n_columns = self.L.shape
        if n != n_columns or n == 0:
            raise ValueError(f"L must be square and not empty, not of shape {self.L.shape}.")
        self.grid_out, grid = self.L.grid_in, self.L.grid_out
        if M is not None and not isinstance(M, SparseMatrix):
            M = SparseMatrix(M)
            if M.shape[0] == n:
                M = SparseMatrix(M.matrix, grid if M.shape[1] == n else M.grid_in, grid)
        if M is not None and M.grid_out != grid:
            raise ValueError(f"M gives fields on the grid {M.grid_out}, but L on {grid}; these must be equal.")
        self.M, self.solver = M, solver
        self.grid_in = grid if M is None else M.grid_in
        if (right is None) != (left is None):
            raise ValueError("right and left must be given together: both null spaces have the same dimension.")
        self.right, self.left = (
            None if basis is None else self._as_basis(basis, name) for basis, name in ((right, "right"), (left, "left"))
        )
        if self.right is not None and self.left is not None and self.right.shape != self.left.shape:
            raise ValueError(
                f"right and left have shapes {tuple(self.right.shape)} and {tuple(self.left.shape)}; both null spaces "
                "have the same dimension."
            )
        check_parts(self._leaves(), "The parts of a SparseInverse")
        self._kept = _Kept()

    def _as_basis(self, basis, name):
        if not isinstance(basis, torch.Tensor):
            basis = from_numpy(real_array(basis, name), self.L.dtype).to(self.L.device)
        if basis.ndim != 2 or len(basis) != self.L.shape[0] or basis.shape[1] > len(basis) // 2:
            raise ValueError(
                f"{name} has shape {tuple(basis.shape)}; it must hold the basis of a null space, (n, k) with "
                f"n={self.L.shape[0]} and a small k, in its columns."
            )
        return _without_inference(basis)

    def __repr__(self) -> str:
        border = "" if self.right is None else f"n_null={self.right.shape[1]}, "
        return (
            f"SparseInverse(grid_in={self.grid_in}, grid_out={self.grid_out}, {border}"
            f"n_parameters={self.n_parameters}, solver={self.solver!r})"
        )

    def _apply(self, fields):
        return self._inverse(fields if self.M is None else self.M._apply(fields), False)

    def _apply_transposed(self, fields):
        fields = self._inverse(fields, True)
        return fields if self.M is None else self.M._multiply(fields, True)

    def _inverse(self, fields, transposed):
        """Solutions of systems with L, or its transpose."""
        inputs, outputs = (self.L.grid_in, self.L.grid_out) if transposed else (self.L.grid_out, self.L.grid_in)
        batch, n = fields.shape[: fields.ndim - len(inputs)], self.L.shape[0]
        b = fields.reshape(prod(batch), n)
        if self.right is not None:
            b = torch.nn.functional.pad(b, (0, self.right.shape[1]))
        x = _Solve.apply(self, transposed, b, self.L.values, self.right, self.left)
        return x[:, :n].reshape(*batch, *outputs)

    def _factor(self):
        values = self.L.values, *(x for x in (self.right, self.left) if x is not None)

        def make():
            borders = (None if x is None else x.detach().cpu().numpy() for x in (self.right, self.left))
            return sparse_factor(self.L.to_scipy(), self.solver, *borders)

        # Values that were modified in place, for example by an optimiser, have a new version.
        return self._kept.get(tuple(x._version for x in values), make)

    def _transposed(self):
        return TransposedSparseInverse(self)

    def _scaled(self, c):
        if self.M is None and c != 0:
            return SparseInverse(self.L * (1 / c), right=self.right, left=self.left, solver=self.solver)
        if self.M is None:
            nothing = np.zeros(0), np.zeros(0, int), np.zeros(self.shape[0] + 1, int)
            M = SparseMatrix(csr_array(nothing, shape=self.shape), self.grid_in, self.grid_in)
            M = M.to(self.device, self.dtype)
        else:
            M = c * self.M
        A = SparseInverse(self.L, M, right=self.right, left=self.left, solver=self.solver)
        A._kept = self._kept
        return A

    def _in_channel_units(self, rows, columns):
        # The rows of u correspond to the columns of L; the solution does not require orthonormal bases of null spaces.
        right = None if self.right is None else _in_units(self.right, 1 / rows, self.grid_out)
        if self.M is not None:
            L = self.L.in_channel_units(columns.new_ones(self.L.grid_out[0]), 1 / rows)
            M = self.M.in_channel_units(columns.new_ones(self.M.grid_out[0]), columns)
            return SparseInverse(L, M, right=right, left=self.left, solver=self.solver)
        L = self.L.in_channel_units(1 / columns, 1 / rows)
        left = None if self.left is None else _in_units(self.left, 1 / columns, self.grid_in)
        return SparseInverse(L, right=right, left=left, solver=self.solver)

    # Solutions

    def _solve(self, b):
        return self._inputs(b)

    def lstsq(self, b, silent=None):
        b, was_array = as_operand(b, self)
        check_operand(b, self, self.shape[0], "rows")
        if silent is not None:
            silent = torch.as_tensor(np.asarray(silent), dtype=torch.bool, device=self.device)
            silent = silent if silent.any() and self.shape[0] == self.shape[1] else None
        x = self._inputs(b, silent)
        return as_given(self._iterate(b) if x is None else x, was_array)

    lstsq.__doc__ = LinearMap.lstsq.__doc__

    def _inputs(self, b, silent=None, transposed=False):
        """Minimum-norm inputs for outputs in columns, zero where M has zero rows; None if not available directly."""
        u = (b.unsqueeze(-1) if b.ndim == 1 else b).double()
        try:
            f, is_best = self._of_transpose(u) if transposed else self._of_products(u, silent)
        except np.linalg.LinAlgError:  # M is singular
            return None
        if f is None:
            return None
        with torch.no_grad():
            apply = self._apply_transposed if transposed else self._apply
            grid = self.grid_out if transposed else self.grid_in
            got = apply(f.mT.reshape(*f.shape[:-2], f.shape[-1], *grid).to(self.dtype))
            rest = float((got.reshape(u.mT.shape).mT - u).norm()) / (float(u.norm()) or 1.0)
        if rest > SOLVED:
            if not is_best:
                return None
            self._warn_of_rest(rest)
        f = f.to(b.dtype)
        return f.squeeze(-1) if b.ndim == 1 else f

    def _of_products(self, u, silent):
        """Inputs by products with L, and whether they are a least-squares solution in any case."""
        L = self.L.to(torch.float64)
        r = L._product(_without(u, self.right))
        keep = torch.ones(self.shape[1], dtype=torch.bool, device=self.device) if silent is None else ~silent
        inverse = None
        if self.M is not None:
            if self.shape[0] != self.shape[1]:
                return None, False
            M = self.M.to(torch.float64)
            rows, _ = M._coordinates()
            keep &= torch.bincount(rows[M.values != 0], minlength=len(keep)) > 0
            inverse = SparseInverse(_block(M, keep), solver="direct")

        def within(x):
            part = x[..., keep, :]
            part = part if inverse is None else inverse._product(part)
            return x.new_zeros(x.shape).index_copy(-2, keep.nonzero()[:, 0], part)

        f = within(r)
        if self.left is not None:
            # The map removes any component along this basis.
            f = _without(f, within(self.left.double()))
        return f, silent is not None or self.M is None or bool(keep.all())

    def _of_transpose(self, u):
        w = u
        if self.M is not None:
            if self.shape[0] != self.shape[1]:
                return None, False
            M = SparseInverse(self.M.to(torch.float64), solver="direct")
            w = M._apply_transposed(u.mT.reshape(*u.shape[:-2], u.shape[-1], *M.grid_out))
            w = w.reshape(u.mT.shape).mT
        w = _without(w, self.left)
        L = self.L.to(torch.float64)
        f = L._multiply(w.mT.reshape(*w.shape[:-2], w.shape[-1], *L.grid_out), True).reshape(w.mT.shape).mT
        return _without(f, self.right), self.M is None


class TransposedSparseInverse(LinearMap):
    """Transpose of a :class:`SparseInverse`, with its factor.

    Parameters
    ----------
    inverse : SparseInverse
        The map of which this is the transpose.
    """

    _parts = ("inverse",)

    def __init__(self, inverse: SparseInverse) -> None:
        self.inverse = inverse
        self.grid_in, self.grid_out = inverse.grid_out, inverse.grid_in

    def __repr__(self) -> str:
        return f"TransposedSparseInverse({self.inverse!r})"

    def _apply(self, fields):
        return self.inverse._apply_transposed(fields)

    def _transposed(self):
        return self.inverse

    def _scaled(self, c):
        return TransposedSparseInverse(c * self.inverse)

    def _in_channel_units(self, rows, columns):
        return TransposedSparseInverse(self.inverse.in_channel_units(columns, rows))

    def _solve(self, b):
        return self.inverse._inputs(b, transposed=True)


class _Kept:
    """Cache of a factor and of the versions of its values, shared by maps and excluded from copies and pickles."""

    def __init__(self):
        self._lock, self._value = Lock(), None

    def get(self, versions, make):
        # Other threads wait for the first one, since each factor may take gigabytes.
        with self._lock:
            if self._value is None or self._value[0] != versions:
                self._value = None
                self._value = versions, make()
            return self._value[1]

    def __reduce__(self):
        return _Kept, ()


class _Solve(torch.autograd.Function):
    """Solutions of systems with L or its transpose, bordered or not, for right-hand sides in rows."""

    @staticmethod
    def forward(ctx, A, transposed, b, values, right, left):
        if b.device.type == "meta":
            x = torch.empty_like(b)
        else:
            numbers = b.detach().cpu().double().numpy().T
            x = A._factor().solve(numbers, transposed) if numbers.size else numbers
            x = torch.from_numpy(np.ascontiguousarray(x.T)).to(b)
        ctx.A, ctx.transposed = A, transposed
        ctx.save_for_backward(x, values, right, left)
        return x

    @staticmethod
    def backward(ctx, g):
        x, *entries = ctx.saved_tensors
        w = _Solve.apply(ctx.A, not ctx.transposed, g, *entries)
        n, grads = ctx.A.L.shape[0], [None, None, None]
        # Perturbing the entry (i, j) changes the solution by that for the right-hand side -x_j at i.
        y, z = (x, w) if ctx.transposed else (w, x)
        if ctx.needs_input_grad[3]:
            i, j = ctx.A.L._coordinates()
            grads[0] = -(y[:, i] * z[:, j]).sum(0).to(entries[0].dtype)
        if ctx.needs_input_grad[4]:
            grads[1] = -(z[:, :n].mT @ y[:, n:]).to(entries[0].dtype)
        if ctx.needs_input_grad[5]:
            grads[2] = -(y[:, :n].mT @ z[:, n:]).to(entries[0].dtype)
        return None, None, w, *grads


def _block(M, keep):
    """Rows and columns of a square matrix."""
    rows, columns = M._coordinates()
    inside, place = keep[rows] & keep[columns], keep.cumsum(0) - 1
    n, columns = int(keep.sum()), place[columns[inside]]
    pointers = torch.nn.functional.pad(torch.bincount(place[rows[inside]], minlength=n).cumsum(0), (1, 0))
    return SparseMatrix((M.values[inside], columns.int(), pointers.int()), (n,), (n,))


def _without(x, basis):
    """Columns minus their projections onto the span of a basis."""
    if basis is None:
        return x
    Q = torch.linalg.qr(basis.double())[0]
    return x - Q @ (Q.mT @ x)


def _in_units(basis, factors, grid):
    return basis * factors.repeat_interleave(len(basis) // grid[0])[:, None]
