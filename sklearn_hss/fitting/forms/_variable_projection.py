"""Variable projection: nonsymmetric HSS matrices from forward samples alone.

At the leaves, Uᵀ Y = (Uᵀ D) X + A' (Vᵀ X) is linear in Uᵀ D and A' for given V: a small least-squares problem per leaf.
Every U is given by null spaces, and the remainder is minimised over V.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from ...linalg import ClusterTree, HSSMatrix
from ...linalg._closed_form import leading_basis, separate
from ...linalg._cluster_tree import split_leaves
from ...linalg._compression import compress_dense
from .._form import NotApplicable, growing
from .._least_squares import Point, gauss_newton
from ._matrix import MatrixForm, on_interval, ranks, trees
from ._null_spaces import may_be_symmetric

# The Jacobian is a dense matrix with n * rank columns.
_MAX_COLUMNS, _MAX_JACOBIAN = 1024, 2_000_000
# Fraction of the outputs in block rows beyond the rank above which the rank is too small.
_HOPELESS = 0.3


@dataclass(frozen=True)
class VariableProjection(MatrixForm):
    """In one dimension, an HSS matrix that is not symmetric, from forward samples alone."""

    rank: int = 1
    levels: int = 0
    needed: float = math.inf

    solver: ClassVar[str] = "variable_projection"
    effort: ClassVar[int] = 3

    @classmethod
    def path(cls, samples, options):
        """Ranks 1 to 4, among those that are compatible with the blocks of the samples."""
        smallest = on_interval(samples, options)
        if options.solver == "auto":
            # With as many samples as points, least squares is determined as well.
            if samples.n_samples >= samples.grid_in[0]:
                raise NotApplicable("needs fewer samples than points")
            if samples.adjoint is not None or may_be_symmetric(samples, options):
                raise NotApplicable("needs an operator that is not symmetric")
        candidates = [
            cls.of_rank(rank, samples.grid_in[0], samples.grid_out[0], options, smallest) for rank in ranks(options, 4)
        ]
        if options.solver == "auto":
            candidates = [c for c in candidates if c.min_samples <= samples.n_samples and c.beyond(samples) < _HOPELESS]
        yield from growing(candidates)

    @classmethod
    def of_rank(cls, rank, n_in, n_out, options, smallest):
        """Candidate with the leaf size m that minimises the number of required samples, 2 m + n rank / m."""
        n = max(n_in, n_out)
        size = max(rank, round(math.sqrt(n * rank / 2)))
        levels = ClusterTree.max_levels(smallest, size) if options.levels == "auto" else options.levels
        m = -(-n // 2**levels)
        needed = max(math.ceil(2 * size + n * rank / size) + 2, m + 2**levels * rank, 2 * m + n * rank // m)
        return cls(options, rank, levels, needed if levels and n * rank <= _MAX_COLUMNS else math.inf)

    @property
    def min_samples(self):
        return self.needed

    def beyond(self, samples):
        """Fraction of the outputs that off-diagonal block rows of this rank cannot explain, a bound on the error."""
        row_tree, col_tree = trees(samples, self.levels)
        X, Y = samples.columns
        _, seen = separate(split_leaves(X, col_tree), split_leaves(Y, row_tree), self.options.tol)
        lost = torch.linalg.svdvals(seen)[..., self.rank :].square().sum()
        return float((lost / Y.square().sum() * X.shape[1] / max(seen.shape[-1], 1)).sqrt())

    def fit(self, samples, start=None):
        extended = samples.with_constant()
        n = max(samples.grid_in[0], samples.grid_out[0])
        k = max(self.needed, _MAX_JACOBIAN // (2**self.levels * n * self.rank**2)) if self.needed < math.inf else None
        X, Y = (M[:, :k] for M in extended.columns)
        row_tree, col_tree = trees(samples, self.levels)
        generators = variable_projection(row_tree, col_tree, X, Y, self.rank, input_tol=self.options.tol)
        return HSSMatrix(row_tree, col_tree, *generators)

    def __str__(self):
        return f"variable projection, rank {self.rank}"


def variable_projection(row_tree, col_tree, X, Y, rank, *, max_iter=60, tol=1e-14, input_tol=1e-12):
    """Generators of the HSS matrix A with Y = A X, over trees of at least one level, from forward samples alone.

    The iteration starts at V = U and takes at most `max_iter` steps, until the relative residual is `tol`; relative
    singular values of blocks of X below `input_tol` are treated as zero.
    """
    x, y = split_leaves(X, col_tree), split_leaves(Y, row_tree)  # (N, m, k)
    slope, seen = separate(x, y, input_tol)
    u = leading_basis(seen, y, rank, tol)
    n, m, k = x.shape
    target = u.mT @ y  # (N, r, k)
    start = u if x.shape == y.shape else torch.eye(m, rank, dtype=X.dtype).expand(n, m, rank)
    others = ~torch.eye(n, dtype=torch.bool)

    def project(v):
        """Residual for given V, with the linear unknowns and an orthonormal basis of their regressors."""
        z = v.mT @ x
        rest = z.expand(n, n, rank, k)[others].view(n, (n - 1) * rank, k)
        Q, R = torch.linalg.qr(torch.cat([x, rest], dim=-2).mT)
        linear = (torch.linalg.pinv(R, rtol=input_tol) @ (Q.mT @ target.mT)).mT
        return Point(v, target - linear @ torch.cat([x, rest], dim=-2), (linear, Q))

    def couplings(linear):
        """A' from the linear unknowns: (N, r, N, r)."""
        full = linear.new_zeros(n, n, rank, rank)
        full[others] = linear[..., m:].unflatten(-1, (n - 1, rank)).movedim(-2, -3).reshape(-1, rank, rank)
        return full.movedim(1, 2)

    def linearise(point):
        # The residual of leaf t changes by -A'[t, s] dV[s]ᵀ X[s], minus the part that its linear unknowns compensate.
        linear, Q = point.extra
        off = x - (x.unsqueeze(0) @ Q.unsqueeze(1)) @ Q.unsqueeze(1).mT  # (N_t, N_s, m, k)
        jacobian = torch.einsum("tasb,tsmk->taksmb", couplings(linear), off).reshape(n * rank * k, n * m * rank)
        gram, gradient = jacobian.mT @ jacobian, jacobian.mT @ point.residual.reshape(-1)
        typical = torch.diagonal(gram).mean() * torch.eye(len(gram), dtype=X.dtype)

        def propose(damping):
            step, failed = torch.linalg.solve_ex(gram + damping * typical, gradient)
            if failed or not torch.isfinite(step).all():
                return None
            return torch.linalg.qr(point.x + step.view(n, m, rank))[0]

        return propose

    found = gauss_newton(project, linearise, start, float(target.norm()), max_iter=max_iter, tol=tol, tries=12)
    v, (linear, _) = found.x, found.extra
    d = slope - u @ (u.mT @ slope) + u @ linear[..., :m]
    tree = ClusterTree(n * rank, row_tree.levels - 1)
    D, U, V = compress_dense(couplings(linear).reshape(n * rank, n * rank), tree, tree, 1e-14, rank)
    return [d, *D], [u, *U], [v, *V]
