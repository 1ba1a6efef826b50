"""A residual network of convolutions."""

from itertools import cycle, islice
from numbers import Integral
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu

from ._field_network import FieldNetwork, Regrid, convolution


class ResNet(FieldNetwork):
    """Residual network of convolutions in one, two or three dimensions.

    It consists of a pointwise lifting to `width` channels, `depth` blocks x -> x + conv(gelu(conv(x))), gelu, and a
    pointwise projection. There is neither normalisation nor striding, so away from the boundary, a shift of the input
    shifts the output. An output depends on ``(kernel_size - 1) * (sum of the dilations of all blocks)`` points on
    either side, 24 by default: solutions that depend on all of a larger grid require `dilations`.

    Parameters
    ----------
    in_features : int or tuple of int
        Grid of the inputs.
    out_features : int or tuple of int, default=None
        Grid of the outputs, reached by a learned linear map if it differs from that of the inputs; the same if None.
    in_channels, out_channels : int, default=None
        Numbers of channels; None means that the fields have no channel axis.
    width : int, default=48
        Number of channels between lifting and projection.
    depth : int, default=12
        Number of blocks, each of two convolutions.
    kernel_size : int, default=3
        Odd number of points of a convolution kernel per dimension.
    dilations : tuple of int, default=(1,)
        Distances between these points, which the blocks use cyclically. ``(1, 2, 4, 8)`` has a much longer range.
    padding_mode : {"zeros", "circular", "reflect", "replicate"}, default="zeros"
        Continuation of the fields beyond the boundary; "circular" is appropriate for periodic fields.
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Raises
    ------
    ValueError
        If the grid has more than three dimensions, or `kernel_size`, `dilations` or `padding_mode` are invalid for it.

    Notes
    -----
    Width 48 gives 167,185 parameters in 1-D with 12 blocks, and 166,417 in 2-D with 4. Without biases, both have
    165,984, the 165K that the Neural-HSS paper states in 1-D and in 2-D, although its tables list width 64 in 2-D,
    which gives 295,617.

    References
    ----------
    He et al., Deep residual learning for image recognition, CVPR 2016.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import ResNet
    >>> ResNet((32, 21), width=8, depth=2)(torch.ones(5, 32, 21)).shape
    torch.Size([5, 32, 21])
    """

    def __init__(
        self,
        in_features: int | tuple[int, ...],
        out_features: int | tuple[int, ...] | None = None,
        in_channels: int | None = None,
        out_channels: int | None = None,
        width: int = 48,
        depth: int = 12,
        kernel_size: int = 3,
        dilations: tuple[int, ...] = (1,),
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, in_channels, out_channels)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        n_modes = len(self.grid_in)
        self._check(kernel_size, dilations, padding_mode)

        def layer(dilation):
            return convolution(
                n_modes,
                width,
                width,
                kernel_size,
                padding=kernel_size // 2 * dilation,
                dilation=dilation,
                padding_mode=padding_mode,
                **factory,
            )

        self.lifting = convolution(n_modes, in_channels or 1, width, 1, **factory)
        self.blocks = nn.ModuleList(
            nn.Sequential(layer(dilation), nn.GELU(), layer(dilation)) for dilation in islice(cycle(dilations), depth)
        )
        self.projection = convolution(n_modes, width, out_channels or 1, 1, **factory)
        self.regrid = Regrid(self.grid_in, self.grid_out, **factory)

    def _check(self, kernel_size, dilations, padding_mode):
        if len(self.grid_in) > 3:
            raise ValueError(f"ResNet supports grids of one to three dimensions, not {self.grid_in}.")
        if kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size={kernel_size} is even and has no centre; {kernel_size + 1} is the next that works."
            )
        if len(dilations) == 0 or any(not isinstance(d, Integral) or d < 1 for d in dilations):
            raise ValueError(f"dilations={dilations} must be one or several positive integers, such as (1, 2, 4).")
        # torch supports at most one period of circular padding, and reflection does not repeat the last point.
        padding = kernel_size // 2 * max(dilations)
        least = {"circular": padding, "reflect": padding + 1}.get(padding_mode, 1)
        if min(self.grid_in) < least:
            raise ValueError(
                f"padding_mode={padding_mode!r} with kernel_size={kernel_size} and dilations={dilations} needs at "
                f"least {least} points per dimension; the grid is {self.grid_in}. 'zeros' and 'replicate' fit any grid."
            )

    def _body(self, x):
        """Map (n_samples, in_channels, *grid_in) to (n_samples, out_channels, *grid_out)."""
        x = self.lifting(x)
        for block in self.blocks:
            x = x + block(x)
        return self.regrid(self.projection(gelu(x)))
