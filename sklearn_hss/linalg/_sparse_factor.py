"""Solution of sparse systems in float64, optionally bordered, by SuperLU or by multigrid with SuperLU as a fallback."""

from importlib.util import find_spec
from threading import Lock

import numpy as np
from scipy.linalg import qr
from scipy.sparse import block_array, csc_array, csr_array, csr_matrix, diags_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.sparse.linalg import bicgstab, cg, splu

# Bandwidth, after reordering, above which multigrid is faster than a factorisation that takes seconds. It measures the
# cost of a factorisation, since separators have about this size: n for n x n points, 3/4 n² for n x n x n.
_WIDE = 1100
_EPS = np.finfo(float).eps
# Largest backward error that is regarded as rounding.
_ROUNDING = 1e-14
# Relative residual and largest number of iterations of multigrid.
_RESIDUAL, _ITERATIONS = 1e-13, 60
# Largest number of points of the coarsest grid, which is solved by a dense pseudoinverse.
_COARSEST = 500


def sparse_factor(K, solver, right=None, left=None):
    """Solver of systems with a sparse matrix, bordered by the columns `left` and the rows `right`.T if given."""
    K = csr_array(K, dtype=np.float64)
    if not all(np.isfinite(x).all() for x in (K.data, right, left) if x is not None):
        raise ValueError("A sparse matrix to be inverted must not hold NaN or infinite values.")
    if right is None or right.shape[1] == 0:
        return _Factor(K, solver)
    return _BorderedFactor(K, solver, right.astype(np.float64), left.astype(np.float64))


def _refuse_singular():
    raise np.linalg.LinAlgError(
        "L is singular: pass orthonormal bases of the null spaces of L and its transpose as right and left."
    )


def _backward_error(K, size, x, b):
    """Residual relative to the largest terms of which it is composed; NaN is treated as infinite."""
    scale = size * np.linalg.norm(x) + np.linalg.norm(b)
    error = np.linalg.norm(b - K @ x) / (scale or 1.0)
    return error if np.isfinite(error) else np.inf


class _Factor:
    """Factor of a regular matrix."""

    def __init__(self, K, solver):
        size = abs(K)
        rows, columns = size.sum(1), size.sum(0)
        # This includes matrices that map constants to zero, which a factorisation would detect only after a long time.
        if any(
            (total == 0).any() or (len(total) > 1 and (abs(sums) <= 4 * _EPS * total).all())
            for total, sums in ((rows, K.sum(1)), (columns, K.sum(0)))
        ):
            _refuse_singular()
        self._K, self._lock = K, Lock()
        self._direct: _Direct | None = None
        self._multigrid: _Multigrid | None = None
        if solver == "multigrid" or (solver == "auto" and find_spec("pyamg") is not None and _is_wide(K)):
            self._multigrid = _Multigrid(K)
        else:
            self._direct = _Direct(K)

    def solve(self, b, transposed):
        """Solutions for the columns of `b`; columns that are not finite have solutions that are not finite."""
        finite = np.isfinite(b).all(0)
        x = np.full_like(b, np.nan)
        if finite.any():
            x[:, finite] = self._solve(b if finite.all() else b[:, finite], transposed)
        return x

    def _solve(self, b, transposed):
        if self._direct is None and self._multigrid is not None:
            x = self._multigrid.solve(b, transposed)
            if x is not None:
                return x
        with self._lock:
            self._direct = self._direct or _Direct(self._K)
        return self._direct.solve(b, transposed)


def _is_wide(K):
    if K.shape[0] <= _WIDE:
        return False
    order = reverse_cuthill_mckee(csr_matrix(K))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    i, j = K.tocoo().coords
    return abs(place[i] - place[j]).max() > _WIDE


class _Direct:
    """SuperLU of a matrix with scaled rows, first with little pivoting, since full pivoting doubles the fill-in."""

    def __init__(self, K):
        self._weights = 1 / abs(K).max(1).toarray().ravel()
        self._K = csc_array(diags_array(self._weights) @ K)
        self._size = abs(self._K).sum(0).max()
        fast = {
            "permc_spec": "MMD_AT_PLUS_A",
            "diag_pivot_thresh": 0.001,
            "options": {"SymmetricMode": True},
        }
        b = np.random.default_rng(0).standard_normal(K.shape[0])
        for how in (fast, {}):
            try:
                self._lu = splu(self._K, **how)
            except RuntimeError:  # raised by SuperLU for a zero pivot
                _refuse_singular()
            self._refines = False
            x = self._scaled_solve(b, False)
            if _backward_error(self._K, self._size, x, b) <= _ROUNDING:
                break
            self._refines = True
            x = self._scaled_solve(b, False)
            if _backward_error(self._K, self._size, x, b) <= _ROUNDING:
                break
        # A step of inverse iteration estimates the smallest singular value.
        growth = np.linalg.norm(self._scaled_solve(x / np.linalg.norm(x), True))
        if not growth * self._size < 0.1 / _EPS:
            _refuse_singular()

    def _scaled_solve(self, b, transposed):
        trans, K = ("T", self._K.T) if transposed else ("N", self._K)
        x = self._lu.solve(b, trans)
        return x + self._lu.solve(b - K @ x, trans) if self._refines else x

    def solve(self, b, transposed):
        weights = self._weights[:, None]
        return weights * self._scaled_solve(b, True) if transposed else self._scaled_solve(weights * b, False)


class _Multigrid:
    """Ruge-Stüben multigrid as preconditioner of conjugate gradients, or of BiCGStab for nonsymmetric matrices."""

    def __init__(self, K):
        try:
            import pyamg  # noqa: F401
        except ImportError:
            raise ImportError(
                'solver="multigrid" needs pyamg: install sklearn-hss[amg], or use solver="direct".'
            ) from None
        self._K = K
        self._size = abs(K).sum(0).max()
        self._is_symmetric = abs(K - K.T).max() <= _ROUNDING * abs(K).max()
        self._hierarchies = {}

    def _hierarchy(self, transposed):
        """System, sign of its diagonal and preconditioner, which is None if there is no coarse grid."""
        transposed = transposed and not self._is_symmetric
        if transposed not in self._hierarchies:
            import pyamg

            A = csr_matrix(self._K.T if transposed else self._K)
            # Interpolation assumes positive diagonals.
            sign = -1 if A.diagonal().sum() < 0 else 1
            levels = pyamg.ruge_stuben_solver(sign * A, max_coarse=_COARSEST)
            is_coarse = levels.levels[-1].A.shape[0] <= 4 * _COARSEST
            self._hierarchies[transposed] = A, sign, levels.aspreconditioner() if is_coarse else None
        return self._hierarchies[transposed]

    def solve(self, b, transposed):
        """Solutions, or None if the iterations have not converged."""
        A, sign, preconditioner = self._hierarchy(transposed)
        if preconditioner is None:
            return None
        x = np.empty_like(b)
        # Divergent iterations overflow.
        with np.errstate(all="ignore"):
            for j in range(b.shape[1]):
                column = self._column(A, sign, preconditioner, b[:, j])
                if column is None:
                    return None
                x[:, j] = column
        return x

    def _column(self, A, sign, preconditioner, b):
        iterate, n_left = cg if self._is_symmetric else bicgstab, _ITERATIONS
        x, residual = np.zeros_like(b), b
        size = left = np.linalg.norm(b)
        while left > _RESIDUAL * size:
            steps: list[np.ndarray] = []
            target = _RESIDUAL * size
            # The residuals of the Krylov recursions drift from the true residual, from which the method is restarted.
            step, _ = iterate(
                sign * A,
                sign * residual,
                rtol=0,
                atol=target / 2,
                maxiter=n_left,
                M=preconditioner,
                callback=steps.append,
            )
            n_left -= len(steps)
            new = b - A @ (x + step)
            before, left = left, np.linalg.norm(new)
            if left < before:
                x, residual = x + step, new
            if not left < before / 2:  # stagnation, possibly at rounding level
                return x if _backward_error(A, self._size, x, b) <= _ROUNDING else None
            if n_left <= 0 and left > target:
                return None
        return x


class _BorderedFactor:
    """Factor of [[K, left], [right.T, 0]], by a factor of K from which as many rows and columns are removed.

    Dense rows would cause fill-in. Without the rows and columns at which the bases are largest, K is regular, and a
    small Schur complement accounts for the rest.
    """

    def __init__(self, K, solver, right, left):
        n, k = right.shape
        self._K = csr_array(block_array([[K, csr_array(left)], [csr_array(right.T), None]]))
        self._size = abs(self._K).sum(0).max()
        (rows, rest_of_rows), (columns, rest_of_columns) = (_split(basis, n) for basis in (left, right))
        if np.linalg.cond(left[rest_of_columns[:k]]) < 1e3:
            # Removing the same points preserves the diagonal.
            rows, rest_of_rows = columns, rest_of_columns
        self._rows, self._columns, self._rest = rows, columns, (rest_of_rows, rest_of_columns)
        K = self._K
        self._factor = _Factor(K[rows][:, columns], solver)
        B, C = K[rows][:, rest_of_columns].toarray(), K[rest_of_rows][:, columns].toarray()
        self._inner = B, C
        self._products = self._factor.solve(B, False), self._factor.solve(C.T, True)
        self._schur = K[rest_of_rows][:, rest_of_columns].toarray() - C @ self._products[0]
        if not np.linalg.cond(self._schur) < 0.1 / _EPS:
            _refuse_singular()

    def _once(self, b, transposed):
        sides = (self._columns, self._rows), self._rest[::-1]
        (inputs, outputs), (rest_in, rest_out) = (side[::-1] if transposed else side for side in sides)
        B, C = self._inner
        x = np.empty_like(b)
        y = self._factor.solve(b[outputs], transposed)
        if transposed:
            z = np.linalg.solve(self._schur.T, b[rest_out] - B.T @ y)
        else:
            z = np.linalg.solve(self._schur, b[rest_out] - C @ y)
        x[inputs] = y - self._products[int(transposed)] @ z
        x[rest_in] = z
        return x

    def solve(self, b, transposed):
        """Solutions for the columns of `b`, without the unknowns of the border."""
        x, K = self._once(b, transposed), self._K.T if transposed else self._K
        # The reduced K is worse conditioned than the bordered system.
        if _backward_error(K, self._size, x, b) > 10 * _EPS:
            x = x + self._once(b - K @ x, transposed)
        return x


def _split(basis, n):
    """Indices to keep, and indices to remove together with those of the border: those at which a basis is largest."""
    k = basis.shape[1]
    chosen = np.sort(qr(basis.T, mode="r", pivoting=True)[1][:k])
    return np.setdiff1d(np.arange(n), chosen), np.concatenate([chosen, np.arange(n, n + k)])
