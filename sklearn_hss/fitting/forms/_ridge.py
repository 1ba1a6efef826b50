"""Ridge regression, without structure."""

from dataclasses import dataclass
from typing import ClassVar

from ...linalg import HSSMatrix, LowRankOperator
from .._form import Form, NotApplicable
from .._least_squares import RidgeRegression
from ._matrix import symmetrised


@dataclass(frozen=True)
class Ridge(Form):
    """Ridge regression with `alpha`, or with alpha="auto" denoised least squares."""

    solver: ClassVar[str] = "least_squares"
    everywhere: ClassVar[bool] = False

    @classmethod
    def path(cls, samples, options):
        if options.outer_rank != "auto" or (len(samples.grid_in) > 1 and options.rank != "auto"):
            raise NotApplicable("has no structure, and gives no Kronecker products of a given rank")
        yield cls(options)

    def fit(self, samples, start=None):
        ridge = RidgeRegression(samples.input_svd, samples.columns[1])
        if self.options.alpha == "auto":
            alpha = ridge.best_alpha()
            ridge.denoise()
        elif len(samples.grid_in) > 1:
            alpha = self.options.alpha * self.mean_square(samples)
        else:
            alpha = samples.penalty(self.options.alpha)
        left, right = ridge.factors(alpha, None if self.options.rank == "auto" else self.options.rank)
        return LowRankOperator(
            left.mT.unflatten(-1, samples.grid_out).contiguous(), right.mT.unflatten(-1, samples.grid_in).contiguous()
        )

    @property
    def symmetric(self):
        """Whether the delivered matrix is symmetrised."""
        return self.options.symmetric is True and self.options.outer_rank == "auto"

    @staticmethod
    def mean_square(samples):
        """Unit of the penalty in several dimensions: the mean sum of squares of the inputs."""
        return float(samples.columns[0].square().sum(0).mean()) or 1.0

    def penalty(self, samples):
        """The penalty in use."""
        if self.options.alpha != "auto":
            return self.options.alpha
        alpha = RidgeRegression(samples.input_svd, samples.columns[1]).best_alpha()
        return alpha / self.mean_square(samples) if len(samples.grid_in) > 1 else samples.users_penalty(alpha)

    def deliver(self, operator, samples, alpha=None):
        """In one dimension, an HSS matrix, over a tree if this saves numbers."""
        if len(samples.grid_in) > 1:
            return operator
        left, right = operator.outputs.mT, operator.inputs.mT
        if self.options.levels == "auto" and left.numel() + right.numel() > len(left) * len(right) / 2:
            matrix = HSSMatrix.from_dense(left @ right.mT, levels=0)
        else:
            matrix = HSSMatrix.from_low_rank(left, right, levels=self.options.levels)
        return symmetrised(matrix, samples, self.options)

    @staticmethod
    def minimum_norm(samples):
        """Factors of the least-squares map of smallest norm."""
        return RidgeRegression(samples.input_svd, samples.columns[1]).factors(0.0)

    def __str__(self):
        return "ridge regression"
