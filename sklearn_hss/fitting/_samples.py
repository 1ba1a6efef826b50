"""The samples that maps are fitted to: scaled, centred and split once, with the decompositions that forms share."""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import scipy.sparse as sp
import torch

from ._least_squares import ROUNDING, compress

# Outputs that never exceed this fraction of the largest one vanish.
NEGLIGIBLE = 1e-11


@dataclass(frozen=True, eq=False)
class Samples:
    """Pairs of fields Y = A X, in float64.

    Attributes
    ----------
    X, Y : Tensors of shape (n_samples, *grid_in) and (n_samples, *grid_out)
    ones : Tensor of shape (n_samples,), default=None
        Ones, or factors that the samples, and so a constant, have been multiplied by: roots of their weights.
    adjoint : pair of Tensors of shapes (n_adjoint, *grid_out) and (n_adjoint, *grid_in), or None
        Samples Z = Aᵀ P of the transpose.
    inside : Tensor of bool, of shape grid_out, or None
        Points that errors count; all if None. Outputs are zero at the others.
    noise : float
        Relative error of the numbers.
    units : pair of float
        The fields were divided by these.
    has_channels : bool
        Whether the first mode of the grids is that of channels.
    adjacency : sparse array of shape (n_points, n_points), or None
        Neighbours of the nodes, where the fields are those of a mesh.
    repeated : float or None
        The outputs, in the units of the user, times this are the next inputs of the map, which is to be repeated.
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
        """Singular value decomposition W diag(s) V of the matrix of inputs in columns, without what is rounding."""
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
        """How far S = Xᵀ Y = Xᵀ A X is from symmetric: 0 for symmetric A, 1 for antisymmetric A or other grids."""
        if not self.is_square:
            return 1.0
        X, Y = self.columns
        if X.shape[1] > len(X) + len(Y):
            # Of many samples, S is huge, but it has the norms of a small matrix.
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
        """Orthonormal bases of what inputs and outputs, or inputs alone, occupy in each mode; kept."""
        fields = [self.X] if of_inputs else [self.X, self.Y]
        return self.kept((tol, of_inputs), lambda: compress(fields, tol)[0])

    def kept(self, key, make):
        """Anything that several forms need of these samples, made once."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    @property
    def accurate(self):
        """Error below which a fit is as good as exact: fits amplify rounding, but what users would notice is none."""
        return max(1e-6, min(300 * self.noise, 1e-2))

    def error(self, prediction, typical=None):
        """Mean relative error of predicted outputs, inside; of outputs near zero, relative to the typical norm."""
        if self.inside is not None:
            prediction = torch.where(self.inside, prediction, 0)
        error = relative_error(prediction, self.Y, self.typical if typical is None else typical)
        return error if math.isfinite(error) else math.inf

    def predictions(self, operator):
        """Outputs of a map, which need not be linear, for the inputs without the roots of their weights."""
        ones = self.ones.view(-1, *[1] * (self.X.ndim - 1))
        return ones * operator.apply(self.X / ones)

    def penalty(self, alpha):
        """A ridge penalty, in units of squared inputs of the user, in those of the samples; squares may overflow."""
        return alpha / self.units[0] / self.units[0]

    def users_penalty(self, alpha):
        """The inverse of :meth:`penalty`."""
        return alpha * self.units[0] * self.units[0]

    # Others made of these

    def pick(self, index):
        """Some of the samples."""
        return replace(self, X=self.X[index], Y=self.Y[index], ones=self.ones[index])

    def first(self, n_samples):
        """The first ones, or all; the order is random."""
        return self if n_samples >= self.n_samples else self.pick(slice(n_samples))

    def enough(self, n_unknowns, per_unknown=30, least=400_000, size=None):
        """As many of the samples as a fit needs: so many numbers, per unknown or in all; `size` of them per sample."""
        return self.first(max(max(least, per_unknown * n_unknowns) // max(size or self.X[0].numel(), 1), 1))

    def means(self):
        """Mean input and output."""
        weights = self.ones / self.ones.square().sum()
        return tuple(torch.tensordot(weights, M, dims=1) for M in (self.X, self.Y))

    def about(self, means):
        """The samples minus given fields; zero where nothing but rounding is left of a constant."""

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
        """With the constant input and the zero output added, where none of the inputs and outputs has a mean.

        Neumann and periodic problems are solvable for such inputs only. The image of a constant is a matter of
        definition; zero is the symmetric one, of smallest norm.
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
    """Mean over samples (first dimension) of the relative error; of those near zero, relative to the typical norm."""
    sizes = Y.flatten(1).norm(dim=1)
    typical = float(sizes.mean()) if typical is None else typical
    return float(((prediction - Y).flatten(1).norm(dim=1) / sizes.clamp_min(1e-3 * typical or 1.0)).mean())


def largest(samples):
    """Units in which the largest entries are one.

    Raises
    ------
    ValueError
        If their quotients are no numbers.
    """
    units = tuple(float(M.abs().max()) or 1.0 for M in (samples.X, samples.Y))
    check_ratio(*units)
    return units


def check_ratio(x_size, y_size):
    """Refuse sizes of inputs and outputs whose quotients are no numbers."""
    if not (math.isfinite(y_size / x_size) and math.isfinite(x_size / y_size)):
        raise ValueError(
            f"Inputs of size {x_size:.0e} and outputs of size {y_size:.0e} are too far apart; use other units."
        )
