"""The samples to which maps are fitted: scaled, centred and split once, with decompositions common to all forms."""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import scipy.sparse as sp
import torch

from ._least_squares import ROUNDING, compress

# Fraction of the largest output below which outputs are regarded as zero.
NEGLIGIBLE = 1e-11


@dataclass(frozen=True, eq=False)
class Samples:
    """Pairs of fields Y = A X, in float64.

    Attributes
    ----------
    X, Y : Tensors of shape (n_samples, *grid_in) and (n_samples, *grid_out)
    ones : Tensor of shape (n_samples,), default=None
        Ones, or the factors by which the samples, and hence a constant, have been multiplied: roots of their weights.
    adjoint : pair of Tensors of shapes (n_adjoint, *grid_out) and (n_adjoint, *grid_in), or None
        Samples Z = Aᵀ P of the transpose.
    inside : Tensor of bool, of shape grid_out, or None
        Points at which errors are measured; all if None. Outputs are zero at the others.
    noise : float
        Relative error of the numbers.
    units : pair of float
        Divisors by which the fields were scaled.
    has_channels : bool
        Whether the first mode of the grids is that of channels.
    adjacency : sparse array of shape (n_points, n_points), or None
        Neighbours of the nodes, if the fields are defined on a mesh.
    repeated : float or None
        If the map is to be repeated, factor that converts outputs, in the units of the user, to the next inputs.
    centred : bool
        Whether means were subtracted.
    """

    X: torch.Tensor
    Y: torch.Tensor
    ones: torch.Tensor = None  # type: ignore[assignment]
    adjoint: tuple[torch.Tensor, torch.Tensor] | None = None
    inside: torch.Tensor | None = None
    noise: float = 1e-15
    units: tuple[float, float] = (1.0, 1.0)
    has_channels: bool = False
    adjacency: sp.csr_array | None = None
    repeated: float | None = None
    centred: bool = False
    _kept: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        if self.ones is None:
            object.__setattr__(self, "ones", self.X.new_ones(len(self.X)))

    @property
    def n_samples(self):
        return len(self.X)

    @property
    def grid_in(self):
        return tuple(self.X.shape[1:])

    @property
    def grid_out(self):
        return tuple(self.Y.shape[1:])

    @property
    def is_square(self):
        """Whether inputs and outputs have the same grid."""
        return self.grid_in == self.grid_out

    @property
    def columns(self):
        """The samples as the columns of two matrices."""
        return self.X.flatten(1).mT, self.Y.flatten(1).mT

    # Statistics

    @cached_property
    def input_svd(self):
        """Singular value decomposition W diag(s) V of the matrix of inputs in columns, truncated at rounding level."""
        W, s, V = torch.linalg.svd(self.columns[0], full_matrices=False)
        kept = int((s > ROUNDING * s[:1]).sum())
        return W[:, :kept], s[:kept], V[:kept]

    @cached_property
    def n_independent(self):
        """Dimension of the span of inputs or outputs, whichever is smaller, up to rounding."""
        s = torch.linalg.svdvals(self.Y.flatten(1))
        of_inputs = self.input_svd[1]
        return min(int((of_inputs > 10 * ROUNDING * of_inputs[:1]).sum()), int((s > 10 * ROUNDING * s[:1]).sum()))

    @cached_property
    def asymmetry(self):
        """Relative asymmetry of S = Xᵀ Y = Xᵀ A X: 0 for symmetric A, 1 for antisymmetric A or different grids."""
        if not self.is_square:
            return 1.0
        X, Y = self.columns
        if X.shape[1] > len(X) + len(Y):
            # For many samples, S is huge, but its norms are those of a small matrix.
            X, Y = torch.linalg.qr(torch.cat([X, Y]).mT, mode="r").R.mT.split([len(X), len(Y)])
        S = X.mT @ Y
        size = float(S.norm())
        return float((S - S.mT).norm()) / (2 * size) if size > 0 else 0.0

    @property
    def gain(self):
        """Largest ratio of the norms of an output and its input."""
        sizes = [M.flatten(1).norm(dim=1) for M in (self.X, self.Y)]
        return float((sizes[1] / torch.where(sizes[0] > 0, sizes[0], math.inf)).max())

    @cached_property
    def vanishing(self):
        """Points where all outputs are zero, up to rounding: a mask of shape grid_out."""
        return self.Y.abs().amax(0) <= NEGLIGIBLE * self.Y.abs().max()

    @cached_property
    def typical(self):
        """Mean norm of the outputs."""
        return float(self.Y.flatten(1).norm(dim=1).mean())

    def bases(self, tol, *, of_inputs=False):
        """Orthonormal bases of the spans of inputs and outputs, or of inputs alone, in each mode; cached."""
        fields = [self.X] if of_inputs else [self.X, self.Y]
        return self.kept((tol, of_inputs), lambda: compress(fields, tol)[0])

    def kept(self, key, make):
        """Cache for intermediate results that several forms need."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    @property
    def accurate(self):
        """Error below which a fit is practically exact; it allows for amplified rounding, within bounds."""
        return max(1e-6, min(300 * self.noise, 1e-2))

    def error(self, prediction, typical=None):
        """Mean relative error of predictions inside the domain, relative to the typical norm for outputs near zero."""
        if self.inside is not None:
            prediction = torch.where(self.inside, prediction, 0)
        error = relative_error(prediction, self.Y, self.typical if typical is None else typical)
        return error if math.isfinite(error) else math.inf

    def predictions(self, operator):
        """Outputs of a map, which need not be linear, for the unweighted inputs, multiplied by the weights' roots."""
        ones = self.ones.view(-1, *[1] * (self.X.ndim - 1))
        return ones * operator.apply(self.X / ones)

    def penalty(self, alpha):
        """Convert a ridge penalty from the units of the user to those of the samples, without overflow of squares."""
        return alpha / self.units[0] / self.units[0]

    def users_penalty(self, alpha):
        """The inverse of :meth:`penalty`."""
        return alpha * self.units[0] * self.units[0]

    # Derived samples

    def pick(self, index):
        """Some of the samples."""
        return replace(self, X=self.X[index], Y=self.Y[index], ones=self.ones[index])

    def first(self, n_samples):
        """The first ones, or all; the order is random."""
        return self if n_samples >= self.n_samples else self.pick(slice(n_samples))

    def enough(self, n_unknowns, per_unknown=30, least=400_000, size=None):
        """As many of the samples as a fit needs, given numbers per unknown or in total; a sample has `size` numbers."""
        return self.first(max(max(least, per_unknown * n_unknowns) // max(size or self.X[0].numel(), 1), 1))

    def means(self):
        """Mean input and output."""
        weights = self.ones / self.ones.square().sum()
        return tuple(torch.tensordot(weights, M, dims=1) for M in (self.X, self.Y))

    def about(self, means):
        """The samples minus given fields; differences at rounding level are set to zero."""

        def left(M, mean):
            constant = torch.tensordot(self.ones, mean, dims=0)
            return torch.where((M - constant).abs() <= ROUNDING * constant.abs().max(), 0, M - constant)

        return replace(self, X=left(self.X, means[0]), Y=left(self.Y, means[1]), centred=True)

    def scaled(self, units):
        """The samples in other units."""
        x_unit, y_unit = units
        adjoint = self.adjoint
        if adjoint is not None:
            P, Z = adjoint
            p_unit = float(P.abs().max()) or 1.0
            adjoint = P / p_unit, Z * (x_unit / y_unit / p_unit)
        return replace(self, X=self.X / x_unit, Y=self.Y / y_unit, adjoint=adjoint, units=units)

    def with_constant(self):
        """Add the constant input with the zero output, if no input or output has a mean.

        Neumann and periodic problems are solvable for such inputs only. The image of a constant is then arbitrary; zero
        is the symmetric choice, of smallest norm.
        """
        X, Y = self.columns
        if not self.is_square or len(X) < 2 or not all(_without_mean(M) for M in (X, Y)):
            return self
        return self.joined(torch.ones_like(self.X[:1]), torch.zeros_like(self.Y[:1]))

    def joined(self, X, Y):
        """The samples and further ones."""
        ones = torch.cat([self.ones, self.ones.new_ones(len(X))])
        return replace(self, X=torch.cat([self.X, X]), Y=torch.cat([self.Y, Y]), ones=ones)


def _without_mean(M):
    return bool(M.any()) and bool((M.sum(0).abs() <= 1e-11 * M.abs().sum(0)).all())


def relative_error(prediction, Y, typical=None):
    """Mean relative error over samples (first dimension), relative to the typical norm for samples near zero."""
    sizes = Y.flatten(1).norm(dim=1)
    typical = float(sizes.mean()) if typical is None else typical
    return float(((prediction - Y).flatten(1).norm(dim=1) / sizes.clamp_min(1e-3 * typical or 1.0)).mean())


def largest(samples):
    """Units in which the largest entries are one.

    Raises
    ------
    ValueError
        If their quotients are not finite.
    """
    units = tuple(float(M.abs().max()) or 1.0 for M in (samples.X, samples.Y))
    check_ratio(*units)
    return units


def check_ratio(x_size, y_size):
    """Reject sizes of inputs and outputs whose quotients are not finite."""
    if not (math.isfinite(y_size / x_size) and math.isfinite(x_size / y_size)):
        raise ValueError(
            f"Inputs of size {x_size:.0e} and outputs of size {y_size:.0e} are too far apart; use other units."
        )
