"""Gauss-Newton on all generators of an HSS matrix, from the best available initial matrix."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.func import jvp, vjp

from ...linalg import ClusterTree, HSSMatrix
from ...linalg._cluster_tree import join_leaves, split_leaves
from ...linalg._product import telescopic_product
from .._form import growing
from .._least_squares import Point, gauss_newton, lsmr_solution
from ._matrix import MatrixForm, on_interval, ranks
from ._null_spaces import NullSpaces
from ._ridge import Ridge
from ._variable_projection import VariableProjection


@dataclass(frozen=True)
class GaussNewton(MatrixForm):
    """In one dimension, an HSS matrix by nonlinear least squares over all generators, slow."""

    rank: int = 1

    solver: ClassVar[str] = "gauss_newton"
    effort: ClassVar[int] = 3
    by_name_only: ClassVar[bool] = True
    correctable: ClassVar[bool] = False

    @classmethod
    def path(cls, samples, options):
        on_interval(samples, options)
        yield from growing(cls(options, rank) for rank in ranks(options, 4))

    def fit(self, samples, start=None):
        X, Y = samples.with_constant().columns
        alpha = 0.0 if self.options.alpha == "auto" else samples.penalty(self.options.alpha)
        operators = list(self.starts(samples))
        errors = [samples.error(operator.apply(samples.X)) for operator in operators]
        best = operators[errors.index(min(errors))]
        return HSSMatrix(
            best.row_tree, best.col_tree, *fit_generators(best, X, Y, alpha=alpha, tol=max(samples.noise / 10, 1e-14))
        )

    def starts(self, samples):
        """Initial matrices of the same rank by null spaces, variable projection, if applicable, and least squares."""
        n_in, n_out = samples.grid_in[0], samples.grid_out[0]
        smallest, options = min(n_in, n_out), self.options
        start = VariableProjection.of_rank(self.rank, n_in, n_out, options, smallest)
        if start.min_samples <= samples.n_samples:
            yield start.fit(samples)
        if samples.adjoint is not None or (samples.asymmetry < 0.1 and options.symmetric is not False):
            levels = ClusterTree.max_levels(smallest, 2 * self.rank) if options.levels == "auto" else options.levels
            if -(-max(n_in, n_out) // 2**levels) + self.rank <= samples.n_samples:
                yield NullSpaces(options, self.rank, levels, samples.adjoint is not None).fit(samples)
        levels = ClusterTree.max_levels(smallest, max(2 * self.rank, 8)) if options.levels == "auto" else options.levels
        left, right = Ridge.minimum_norm(samples)
        yield HSSMatrix.from_low_rank(left, right, levels=levels).truncate(1e-14, self.rank)

    def __str__(self):
        return f"Gauss-Newton, rank {self.rank}"


def fit_generators(A, X, Y, *, alpha=0.0, max_iter=50, tol=1e-14, inner=200):
    """Improve the generators of `A` such that A X approximates Y in the least-squares sense.

    Minimises |Y - A X|² + alpha |g - g₀|² over all generators g, where g₀ are the initial ones; the linear systems are
    solved by at most `inner` steps of LSMR with products of the Jacobian, in O(n r) memory. The result is never worse
    than `A` in this measure.
    """
    parts = (*A.D, *A.U, *A.V)
    shapes, sizes, n = [g.shape for g in parts], [g.numel() for g in parts], A.levels
    x, target, pull = split_leaves(X, A.col_tree), Y.reshape(-1), math.sqrt(alpha)
    start = torch.cat([g.reshape(-1) for g in parts])

    def unpack(g):
        parts = [part.view(shape) for part, shape in zip(g.split(sizes), shapes, strict=True)]
        return parts[: n + 1], parts[n + 1 : 2 * n + 1], parts[2 * n + 1 :]

    def predict(g):
        D, U, V = unpack(g)
        return join_leaves(telescopic_product(D, U, V, x), A.row_tree).reshape(-1)

    def evaluate(g):
        return Point(g, torch.cat([target - predict(g), pull * (start - g)]))

    def linearise(point):
        _, transposed = vjp(predict, point.x)  # type: ignore[misc]

        def forward(step):
            return torch.cat([jvp(predict, (point.x,), (step,))[1], pull * step])

        def adjoint(r):
            return transposed(r[: len(target)])[0] + pull * r[len(target) :]

        def propose(damping):
            damp = damping * float(target.norm()) / math.sqrt(len(start))
            step = lsmr_solution(forward, adjoint, point.residual, len(start), damp=damp, max_iter=inner, tol=1e-12)
            return point.x + step

        return propose

    found = gauss_newton(evaluate, linearise, start, float(target.norm()), max_iter=max_iter, tol=tol, slow=0.999)
    return unpack(found.x)
