"""Samples in the form required by local laws: channels, points and boundaries."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ._boundaries import boundaries
from ._form import NotApplicable
from ._neighbourhoods import Points

# Relative size of singular values below which combinations of samples are not used to assess roughness.
_SPREAD = 1e-4
# Largest fraction of them that may be noise.
_SMALL = 0.1


def local_samples(samples, periodic=None, *, forward=False):
    """Convert samples to the form required by laws; raises NotApplicable if this is not possible.

    Parameters
    ----------
    samples : Samples
    periodic : tuple of bool, default=None
        Axes whose ends are neighbours; none if None.
    forward : bool, default=False
        Whether the map itself is local, in which case f is its output, and there are no boundaries.

    Returns
    -------
    LocalSamples
    """
    if not samples.is_square:
        raise NotApplicable(f"needs outputs on the grid of the inputs; got {samples.grid_out} and {samples.grid_in}")
    shape = samples.grid_out[int(samples.has_channels) :]
    if np.prod(shape) < 3:
        raise NotApplicable("needs three points or more")
    periodic = tuple(periodic or [False] * len(shape))

    def make():
        points = Points(shape, periodic, samples.adjacency)
        n_channels = samples.grid_out[0] if samples.has_channels else 1
        if not (samples.X.any() and samples.Y.any()):
            raise NotApplicable("needs samples that are not zero")
        F, U = (Z.reshape(samples.n_samples, n_channels, len(points)) for Z in (samples.X, samples.Y))
        if forward:
            nothing = torch.zeros_like(F[0], dtype=torch.bool)
            return LocalSamples(U, F, points, samples.noise, nothing, nothing[0])
        inside = None if samples.inside is None else samples.inside.reshape(n_channels, len(points))
        return LocalSamples(F, U, points, samples.noise, *boundaries(F, U, points, inside))

    return samples.kept(("local", periodic, forward), make)


@dataclass(frozen=True, eq=False)
class LocalSamples:
    """Samples in the form required by laws.

    Attributes
    ----------
    F, U : Tensors of shape (n_samples, n_channels, n_points)
    points : Points
    noise : float
        Relative error of the numbers.
    pinned : Tensor of bool, of shape (n_channels, n_points)
        Values of u that are zero for every f.
    silent : Tensor of bool, of shape (n_points,)
        Points where f is unknown.
    """

    F: torch.Tensor
    U: torch.Tensor
    points: Points
    noise: float
    pinned: torch.Tensor
    silent: torch.Tensor

    @property
    def n_samples(self):
        return len(self.F)

    @property
    def quiet(self):
        """Values at which f and u vanish in all samples, up to rounding (n_channels, n_points)."""
        level = max(1e-8, 100 * self.noise)
        f, u = (Z.square().mean(0).sqrt() <= level * Z.square().mean().sqrt() for Z in (self.F, self.U))
        return f & u

    def rotated(self, matrix):
        """Combinations of the samples, their coefficients in columns."""
        F, U = (torch.tensordot(matrix.mT, Z, dims=1) for Z in (self.F, self.U))
        return replace(self, F=F, U=U)

    def smooth_and_rough(self, n_rough):
        """Combinations of the samples: the smooth ones, and the `n_rough` roughest.

        They are the generalised eigenvectors of the energies of gradients and of fields. Laws fitted to smooth
        solutions are validated on rough ones, since random ones would not test whether a law extrapolates.
        """
        U = self.U.flatten(1)
        rotation, s, _ = torch.linalg.svd(U, full_matrices=False)
        kept = s > max(_SPREAD, min(1e4 * self.noise, _SMALL)) * s[:1]
        whitened = rotation[:, kept] / s[kept]
        steps = self.points.steps(torch.tensordot(whitened.mT, self.U, dims=1)).flatten(1)
        order = torch.linalg.svd(steps, full_matrices=False)[0]  # the roughest combination comes first
        matrix = whitened @ order
        n_rough = max(min(n_rough, matrix.shape[1] - 1), 1)
        noise = self.noise / float(s[kept][-1] / s[0])
        smooth, rough = matrix[:, n_rough:], matrix[:, :n_rough]
        if not smooth.shape[1]:
            smooth = rough
        return replace(self.rotated(smooth), noise=noise), self.rotated(rough)
