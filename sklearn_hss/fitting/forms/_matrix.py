"""Common base class of the forms of one-dimensional fields, which deliver HSS matrices and may be corrected."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ...linalg import ClusterTree, HSSMatrix
from .._form import Form, NotApplicable, OtherDimension
from .._least_squares import RidgeRegression

RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class MatrixForm(Form):
    """Base class of the forms of one-dimensional fields."""

    correctable: ClassVar[bool] = True

    def deliver(self, operator, samples, alpha=None):
        """HSS matrix of at most the given rank, corrected by ridge regression on what it predicts, and symmetric."""
        matrix, options = self.as_matrix(operator), self.options
        if options.rank != "auto" and matrix.rank > options.rank:
            matrix = matrix.truncate(tol=0, rank=options.rank)
        if alpha is not None:
            prediction = matrix.apply(samples.X)
            left, right = correction(prediction, samples).factors(alpha)
            matrix = matrix.with_low_rank(left.mT, (matrix.T @ right).mT, coarsen=options.levels == "auto")
        return symmetrised(matrix, samples, options)

    def as_matrix(self, operator) -> HSSMatrix:
        """HSS matrix of the result of `fit`."""
        return operator

    @property
    def symmetric(self) -> bool:
        return self.options.symmetric is True


def correction(prediction, samples):
    """Ridge regression of the residuals of a map on its predictions."""
    predicted = prediction.flatten(1).mT
    W, s, V = torch.linalg.svd(predicted, full_matrices=False)
    kept = int((s > 1e-13 * s[:1]).sum())
    return RidgeRegression((W[:, :kept], s[:kept], V[:kept]), samples.columns[1] - predicted)


def symmetrised(matrix, samples, options):
    """The symmetric part, if symmetry is required and not yet given."""
    if options.symmetric is not True:
        return matrix
    x = (samples.X + samples.Y).mT
    if float((matrix @ x - matrix.T @ x).norm()) <= 1e-11 * float((matrix @ x).norm()):
        return matrix
    return ((matrix + matrix.T) * 0.5).truncate(1e-15, None if options.rank == "auto" else options.rank)


def ranks(options, largest=RANKS[-1]):
    """Candidate ranks."""
    return [rank for rank in RANKS if rank <= largest] if options.rank == "auto" else [options.rank]


def on_interval(samples, options):
    """Number of points of the smaller side; raises for fields of several dimensions."""
    if len(samples.grid_in) > 1:
        raise OtherDimension(f"applies to one-dimensional fields, not to fields on {samples.grid_in}")
    return min(samples.grid_in[0], samples.grid_out[0])


def square_only(samples):
    if not samples.is_square:
        raise NotApplicable(
            f"needs equally many output and input points; got {samples.Y[0].numel()} and {samples.X[0].numel()}"
        )


def trees(samples, levels):
    """Cluster trees of a depth over outputs and inputs."""
    return ClusterTree(samples.grid_out[0], levels), ClusterTree(samples.grid_in[0], levels)
