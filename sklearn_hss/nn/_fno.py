"""The Fourier neural operator."""

from numbers import Integral
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu

from ._field_network import FieldNetwork, Regrid, convolution, places


def largest_modes(grid):
    """Tuple of the numbers of Fourier modes that fields on a grid have in every dimension."""
    return (*(n // 2 for n in grid[:-1]), grid[-1] // 2 + 1)


class SpectralConv(nn.Module):
    """Linear map of the lowest Fourier modes of all channels, one matrix per mode; higher modes are truncated.

    For real fields, half of the modes of the last dimension are sufficient; in the other dimensions, modes of both
    signs have their own weights (the corner blocks of the spectrum).

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of channels.
    modes : tuple of int
        Number of modes retained in every dimension; for either sign, except in the last dimension.
    device : torch.device or str, default=None
        Device of the weights.
    dtype : torch.dtype, default=None
        Type of the fields and of the real and imaginary parts of the weights.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import SpectralConv
    >>> SpectralConv(1, 2, modes=(4, 4))(torch.ones(3, 1, 16, 9)).shape
    torch.Size([3, 2, 16, 9])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: tuple[int, ...],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.modes = tuple(modes)
        kept = [2 * m for m in self.modes[:-1]] + [self.modes[-1]]
        # Real and imaginary parts, uniform as in the code of the paper. Fused AdamW does not support complex numbers.
        weight = torch.rand(in_channels, out_channels, *kept, 2, device=device, dtype=dtype)
        self.weight = nn.Parameter(weight / (in_channels * out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, \\*grid)
            Fields on a grid that resolves the modes.

        Returns
        -------
        Tensor of shape (n_samples, out_channels, \\*grid)
            Fields.
        """
        grid = x.shape[2:]
        axes = tuple(range(2, x.ndim))
        # With norm="forward", the transform does not depend on the size of the grid, and neither does the layer.
        # It is not computed in bfloat16, which autocast may have chosen, since there is no such complex type.
        spectrum = torch.fft.rfftn(x.to(self.weight.dtype), dim=axes, norm="forward")
        kept = self._keep(spectrum)
        product = torch.einsum("bi...,io...->bo...", kept, torch.view_as_complex(self.weight))
        return torch.fft.irfftn(self._embed(product, spectrum.shape[2:]), s=grid, dim=axes, norm="forward")

    def _keep(self, spectrum):
        for axis, m in enumerate(self.modes[:-1], 2):
            n = spectrum.shape[axis]
            spectrum = torch.cat([spectrum.narrow(axis, 0, m), spectrum.narrow(axis, n - m, m)], axis)
        return spectrum[..., : self.modes[-1]]

    def _embed(self, product, sizes):
        product = nn.functional.pad(product, (0, sizes[-1] - self.modes[-1]))
        for axis, (m, n) in enumerate(zip(self.modes[:-1], sizes[:-1], strict=True), 2):
            gap = product.new_zeros(*product.shape[:axis], n - 2 * m, *product.shape[axis + 1 :])
            product = torch.cat([product.narrow(axis, 0, m), gap, product.narrow(axis, m, m)], axis)
        return product


class FNO(FieldNetwork):
    """Fourier neural operator in one, two or three dimensions.

    It consists of a pointwise lifting to `width` channels, `depth` layers x -> gelu(SpectralConv(x) + W x + b), the
    last one without gelu, and a pointwise projection. In 1-D, width 32, 12 modes and depth 4 give 102,657 real numbers.

    Parameters
    ----------
    in_features : int or tuple of int
        Grid of the inputs.
    out_features : int or tuple of int, default=None
        Grid of the outputs, reached by a learned linear map if it differs from that of the inputs; the same if None.
    in_channels, out_channels : int, default=None
        Numbers of channels; None means that the fields have no channel axis.
    width : int, default=32
        Number of channels between lifting and projection.
    modes : int or tuple of int, default=12
        Number of Fourier modes retained in every dimension.
    depth : int, default=4
        Number of layers.
    coordinates : bool, default=True
        Whether the coordinates of the points are further input channels.
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Raises
    ------
    ValueError
        If the grid has fewer modes than `modes`.

    Notes
    -----
    The projection is one linear map, in agreement with the paper's number of parameters; the code of Li et al. has a
    hidden layer there, and pads fields that are not periodic. A network of depth 1 is therefore affine, and a deeper
    one has ``depth - 1`` activations.

    The network can be exported by ``torch.export``, but not to ONNX files: that exporter does not support products of
    the complex numbers that the Fourier transforms return. All other networks of this module can be exported to ONNX.

    References
    ----------
    Li et al., Fourier neural operator for parametric partial differential equations, ICLR 2021.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import FNO
    >>> FNO((32, 21), width=8, modes=4)(torch.ones(5, 32, 21)).shape
    torch.Size([5, 32, 21])
    """

    def __init__(
        self,
        in_features: int | tuple[int, ...],
        out_features: int | tuple[int, ...] | None = None,
        in_channels: int | None = None,
        out_channels: int | None = None,
        width: int = 32,
        modes: int | tuple[int, ...] = 12,
        depth: int = 4,
        coordinates: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, in_channels, out_channels)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        n_modes = len(self.grid_in)
        if n_modes > 3 or min(self.grid_in[:-1], default=2) < 2:
            raise ValueError(
                f"FNO supports grids of one to three dimensions, with at least two points in all but the last, not "
                f"{self.grid_in}."
            )
        self.modes = tuple(modes) if isinstance(modes, tuple | list) else (modes,) * n_modes
        self.coordinates = coordinates
        if len(self.modes) != n_modes or any(
            not isinstance(m, Integral) or not 1 <= m <= most
            for m, most in zip(self.modes, largest_modes(self.grid_in), strict=False)
        ):
            raise ValueError(
                f"modes={modes} does not fit the grid {self.grid_in}: the largest value that works is "
                f"{largest_modes(self.grid_in)}."
            )
        self.lifting = convolution(n_modes, (in_channels or 1) + n_modes * coordinates, width, 1, **factory)
        self.spectral = nn.ModuleList(SpectralConv(width, width, self.modes, **factory) for _ in range(depth))
        self.pointwise = nn.ModuleList(convolution(n_modes, width, width, 1, **factory) for _ in range(depth))
        self.projection = convolution(n_modes, width, out_channels or 1, 1, **factory)
        self.regrid = Regrid(self.grid_in, self.grid_out, **factory)
        self.places: torch.Tensor
        self.register_buffer("places", places(self.grid_in, **factory), persistent=False)

    def _body(self, x):
        """Map (n_samples, in_channels, *grid_in) to (n_samples, out_channels, *grid_out)."""
        if self.coordinates:
            x = torch.cat([x, self.places.expand(x.shape[0], *self.places.shape)], dim=1)
        x = self.lifting(x)
        for i, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            x = spectral(x) + pointwise(x)
            if i < len(self.spectral) - 1:
                x = gelu(x)
        return self.regrid(self.projection(x))
