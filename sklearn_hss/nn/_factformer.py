"""The factorized transformer."""

from math import pi
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm

from ._field_network import FieldNetwork, Regrid, convolution, places


class InstanceNorm(nn.Module):
    """Normalisation of every channel of every sample to mean zero and variance one over the grid.

    Unlike torch's, it supports any number of dimensions, and gives zero on a grid of one point instead of an error.
    """

    def forward(self, x):
        return layer_norm(x, x.shape[2:])


class GatedGELU(nn.Module):
    """Product of one half of the channels with the GELU of the other half."""

    def forward(self, x):
        gate, value = x.chunk(2, dim=-1)
        return gelu(gate) * value


class FourierFeatures(nn.Module):
    """Sines and cosines of coordinates x in random directions b, which are not learned: sin 2πb·x, cos 2πb·x."""

    def __init__(self, n_modes, n_features, **factory):
        super().__init__()
        self.register_buffer("directions", torch.randn(n_modes, n_features // 2, **factory))

    def forward(self, x):
        angles = 2 * pi * x @ self.directions
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


def rotary_angles(n, rank, **factory):
    """Angles of the n points j / n of an axis in the rank / 2 planes, a Tensor of shape (n, rank / 2).

    A point is rotated by 64 x in the first plane and by decreasing angles in the others: the paper's code divides x by
    the smallest distance, 1/64, that the embedding should resolve.
    """
    frequencies = 64 * 10_000 ** (-torch.arange(0, rank, 2, **factory) / rank)
    return torch.outer(torch.arange(n, **factory) / n, frequencies)


def rotate(x, angles):
    """Rotary embedding of vectors in the last dimension: their halves are real and imaginary part, times exp(i angle).

    The product of a query at x and a key at y then depends on the coordinates through x - y alone.
    """
    real, imaginary = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([real * cos - imaginary * sin, imaginary * cos + real * sin], dim=-1)


def axis_mean(u, axis):
    """Mean of a function, (n_samples, *grid, width), over all axes but one: (n_samples, n, width)."""
    others = [m for m in range(1, u.ndim - 1) if m != axis + 1]
    return u.mean(others) if others else u


class Projection(nn.Module):
    """Learnable projection of a function on the grid to a function on one axis, φ(x) = h(∫ γ(u(x, ξ)) dξ).

    The integral is the mean over all other axes, γ is linear, and h is a layer norm and a gated perceptron. As γ
    commutes with the mean, the module takes the mean of u: the linear map acts on n points, not on the whole grid.
    """

    def __init__(self, width, **factory):
        super().__init__()
        self.gamma = nn.Linear(width, width, bias=False, **factory)
        self.h = nn.Sequential(
            nn.LayerNorm(width, **factory),
            nn.Linear(width, 2 * width, **factory),
            GatedGELU(),
            nn.Linear(width, width, **factory),
        )

    def forward(self, mean):
        """Map (n_samples, n, width) to the same shape."""
        return self.h(self.gamma(mean))


class AxialKernel(nn.Module):
    """Low-rank kernel matrix of an axis, A = Q Kᵀ: queries and keys are linear in φ, and rotated by their position."""

    def __init__(self, n, width, heads, head_dim, kernel_multiplier, **factory):
        super().__init__()
        self.heads = heads
        rank = head_dim * kernel_multiplier
        self.to_q = nn.Linear(width, heads * rank, bias=False, **factory)
        self.to_k = nn.Linear(width, heads * rank, bias=False, **factory)
        for linear in (self.to_q, self.to_k):
            # The gain is so small that attention is initially negligible: the following norm adds 1e-5 to the variance.
            nn.init.xavier_uniform_(linear.weight, gain=0.02)
        # As in the code of the paper. Without a softmax, it matters only relative to the 1e-5 of the following norm.
        self.scale = rank**-0.5 if kernel_multiplier > 4 else 1.0
        self.angles: torch.Tensor
        self.register_buffer("angles", rotary_angles(n, rank, **factory), persistent=False)

    def forward(self, phi):
        """Map (n_samples, n, width) to (n_samples, heads, n, n)."""
        q, k = (
            rotate(linear(phi).unflatten(-1, (self.heads, -1)).transpose(1, 2), self.angles)
            for linear in (self.to_q, self.to_k)
        )
        return self.scale * q @ k.transpose(-1, -2)


class FactorizedAttention(nn.Module):
    """Attention whose kernel is a product of one kernel per axis: z(x, y) = ∫ A¹(x, ξ) ∫ A²(y, η) v(ξ, η) dη dξ in 2-D.

    Each kernel is the matrix of an axis, applied to all lines of the grid along it; no matrix couples all points. An
    instance norm and a perceptron follow.

    Parameters
    ----------
    grid : tuple of int
    width, heads, head_dim, kernel_multiplier : int
        As in :class:`FactFormer`.
    """

    def __init__(self, grid, width, heads, head_dim, kernel_multiplier, **factory):
        super().__init__()
        self.heads = heads
        self.in_norm = nn.LayerNorm(width, **factory)
        self.to_v = nn.Linear(width, heads * head_dim, bias=False, **factory)
        self.to_in = nn.Linear(width, width, bias=False, **factory)
        self.projections = nn.ModuleList(Projection(width, **factory) for _ in grid)
        self.kernels = nn.ModuleList(AxialKernel(n, width, heads, head_dim, kernel_multiplier, **factory) for n in grid)
        self.out_norm = InstanceNorm()
        self.to_out = nn.Sequential(
            nn.Linear(heads * head_dim, width, bias=False, **factory),
            nn.GELU(),
            nn.Linear(width, width, bias=False, **factory),
        )

    def forward(self, u):
        """Map (n_samples, *grid, width) to the same shape."""
        u = self.in_norm(u)
        z = self.to_v(u).movedim(-1, 1).unflatten(1, (self.heads, -1))
        for axis, (projection, kernel) in enumerate(zip(self.projections, self.kernels, strict=True)):
            A = kernel(projection(self.to_in(axis_mean(u, axis))))
            # Each step moves the first axis of the grid to the end, so that all steps restore the original order.
            z = torch.einsum("bhij,bhcj...->bhc...i", A, z)
        return self.to_out(self.out_norm(z.flatten(1, 2)).movedim(1, -1))


class FactFormer(FieldNetwork):
    """Factorized transformer in one, two or three dimensions.

    It consists of a pointwise lifting; `depth` layers u -> u + e + attention(u + e), where e is an embedding of the
    coordinates; and a decoder that concatenates the result with a copy of it which convolutions have mapped to half the
    grid and back.

    The attention has a low-rank kernel for every axis instead of one for the grid. It is computed from functions on the
    axes, which are learnable projections of u.

    In 2-D, with one channel, width d, one head of dimension 8, multiplier 1 and depth 1, it has 26.5 d² + 70.5 d + 1
    parameters; 3,934,657 for the default width.

    Parameters
    ----------
    in_features : int or tuple of int
        Grid of the inputs.
    out_features : int or tuple of int, default=None
        Grid of the outputs, reached by a learned linear map if it differs from that of the inputs; the same if None.
    in_channels, out_channels : int, default=None
        Numbers of channels; None means that the fields have no channel axis.
    width : int, default=384
        Embedding dimension, a multiple of 4.
    depth : int, default=1
        Number of layers of attention.
    heads : int, default=1
        Number of kernels per axis, each with its own values.
    head_dim : int, default=8
        Number of values per head and point.
    kernel_multiplier : int, default=1
        Rank of the kernels divided by `head_dim`. The rank must be even.
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Raises
    ------
    ValueError
        If `width` is not a multiple of 4, `head_dim` times `kernel_multiplier` is odd, or there are more than three
        dimensions.

    Notes
    -----
    This is the model of the authors' code for Darcy flow, with the following differences. The instance norm after the
    attention is over the grid; in the code it is over the second axis and the channels, which come last there. Linear
    maps of a mean replace means of linear maps. Coordinates are j / n as in the other networks, not j / (n - 1). The
    code supports two dimensions only.

    References
    ----------
    Li, Shu, Barati Farimani, Scalable transformer for PDE surrogate modeling, NeurIPS 2023.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import FactFormer
    >>> FactFormer((32, 21), width=8)(torch.ones(5, 32, 21)).shape
    torch.Size([5, 32, 21])
    """

    def __init__(
        self,
        in_features: int | tuple[int, ...],
        out_features: int | tuple[int, ...] | None = None,
        in_channels: int | None = None,
        out_channels: int | None = None,
        width: int = 384,
        depth: int = 1,
        heads: int = 1,
        head_dim: int = 8,
        kernel_multiplier: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, in_channels, out_channels)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        n_modes = len(self.grid_in)
        if n_modes > 3:
            raise ValueError(f"in_features={in_features} has {n_modes} dimensions; FactFormer supports one to three.")
        if width < 4 or width % 4:
            raise ValueError(f"width={width} is not a multiple of 4; {max(4, width - width % 4)} would work.")
        if head_dim * kernel_multiplier % 2:
            raise ValueError(
                f"head_dim={head_dim} times kernel_multiplier={kernel_multiplier} is odd, but the rotary embedding "
                f"rotates pairs; head_dim={head_dim + 1} would work."
            )
        self.to_in = nn.Linear(in_channels or 1, width, **factory)
        self.embeddings = nn.ModuleList(
            nn.Sequential(FourierFeatures(n_modes, width, **factory), nn.Linear(width, width, **factory))
            for _ in range(depth)
        )
        self.attentions = nn.ModuleList(
            FactorizedAttention(self.grid_in, width, heads, head_dim, kernel_multiplier, **factory)
            for _ in range(depth)
        )

        def convolve(n_in, n_out, **arguments):
            return convolution(n_modes, n_in, n_out, 3, padding=1, **arguments, **factory)

        half = width // 2
        self.down = nn.Sequential(InstanceNorm(), convolve(width, half, stride=2), nn.GELU(), convolve(half, half))
        self.up = nn.Sequential(nn.Upsample(self.grid_in), convolve(half, half), nn.GELU(), convolve(half, width))
        self.to_out = nn.Sequential(
            nn.GroupNorm(8, 2 * width, **factory),
            convolution(n_modes, 2 * width, width, 1, bias=False, **factory),
            nn.GELU(),
            convolution(n_modes, width, out_channels or 1, 1, **factory),
        )
        self.regrid = Regrid(self.grid_in, self.grid_out, **factory)
        self.places: torch.Tensor
        self.register_buffer("places", places(self.grid_in, **factory).movedim(0, -1), persistent=False)

    def _body(self, x):
        """Map (n_samples, in_channels, *grid_in) to (n_samples, out_channels, *grid_out)."""
        u = self.to_in(x.movedim(1, -1))
        for embedding, attention in zip(self.embeddings, self.attentions, strict=True):
            u = u + embedding(self.places)
            u = u + attention(u)
        u = u.movedim(-1, 1)
        return self.regrid(self.to_out(torch.cat([self.up(self.down(u)), u], dim=1)))
