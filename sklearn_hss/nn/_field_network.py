"""Base class of the baseline networks: fields with or without channels, coordinates, and changes of the grid."""

from math import prod
from numbers import Integral
from typing import Any

import torch
from torch import nn


def as_grid(features):
    """Grid of a `features` parameter: an int means one dimension."""
    return (int(features),) if isinstance(features, Integral) else tuple(int(n) for n in features)


def places(grid, **factory):
    """Coordinates j / n of the grid points, a Tensor of shape (n_modes, *grid)."""
    axes = [torch.arange(n, **factory) / n for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def convolution(n_modes, *args, **kwargs):
    """Convolution layer in `n_modes` dimensions."""
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n_modes - 1](*args, **kwargs)


class Regrid(nn.Module):
    """Learned linear map from one grid to another, with one matrix per dimension, initially averages over cells.

    Parameters
    ----------
    grid_in, grid_out : tuple of int
        Grids with the same number of dimensions. Dimensions of equal size are not changed.
    device, dtype
        Device and type of the matrices.
    """

    def __init__(self, grid_in, grid_out, device=None, dtype=None):
        super().__init__()
        if len(grid_in) != len(grid_out):
            raise ValueError(f"out_features={grid_out} and in_features={grid_in} must have equally many dimensions.")
        self.matrices = nn.ParameterDict()
        for axis, (n_in, n_out) in enumerate(zip(grid_in, grid_out, strict=True)):
            if n_in == n_out:
                continue
            # Overlap of the cells of both grids, as a fraction of the cell of the output.
            ends_in, ends_out = (torch.arange(n + 1, device=device, dtype=dtype) / n for n in (n_in, n_out))
            overlap = torch.minimum(ends_in[1:], ends_out[1:, None]) - torch.maximum(ends_in[:-1], ends_out[:-1, None])
            self.matrices[str(axis)] = nn.Parameter(overlap.clamp(min=0) * n_out)

    def forward(self, x):
        for axis, matrix in self.matrices.items():
            x = torch.movedim(torch.tensordot(x, matrix, ([int(axis) + 2], [1])), -1, int(axis) + 2)
        return x


def _same(a, b):
    """Whether two tensors are equal in values, type and device."""
    return (a.dtype, a.device) == (b.dtype, b.device) and torch.equal(a, b)


class FieldNetwork(nn.Module):
    """Base class of networks that map channels on a grid to channels on a grid, in `_body`.

    Parameters
    ----------
    in_features : int or tuple of int
        Grid of the inputs.
    out_features : int or tuple of int, default=None
        Grid of the outputs; that of the inputs if None.
    in_channels, out_channels : int, default=None
        Numbers of channels; None means that the fields have no channel axis.
    """

    def __init__(self, in_features, out_features=None, in_channels=None, out_channels=None):
        super().__init__()
        self.grid_in = as_grid(in_features)
        self.grid_out = self.grid_in if out_features is None else as_grid(out_features)
        self.in_channels, self.out_channels = in_channels, out_channels
        self._cache: tuple[torch.Tensor, Any] | None = None

    def _kept(self, module, compute):
        """Result of `compute`, cached without gradients as long as the weights of `module` do not change."""
        # An export needs all operations; under autocast, results have another type.
        if torch.compiler.is_compiling() or torch.is_grad_enabled():
            return compute()
        if torch.is_autocast_enabled(next(module.parameters()).device.type):
            return compute()
        # Compared by value, since the version counters of torch miss some changes (those through `.data`).
        weights = nn.utils.parameters_to_vector(module.parameters())
        if torch._C._functorch.is_functorch_wrapped_tensor(weights):  # many sets of weights at once, as in vmap
            return compute()
        if self._cache is None or not _same(self._cache[0], weights):
            self._cache = weights, compute()
        return self._cache[1]

    def __getstate__(self):
        # Copies and pickles do not include results that can be recomputed.
        return {**self.__dict__, "_cache": None}

    def _body(self, x):
        """Map (n_samples, in_channels, *grid_in) to (n_samples, out_channels, *grid_out)."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the network to fields in the last dimensions of `x`.

        Parameters
        ----------
        x : Tensor of shape (..., [in_channels,] \\*in_features)
            Input fields.

        Returns
        -------
        Tensor of shape (..., [out_channels,] \\*out_features)
            Output fields.
        """
        wanted = self.grid_in if self.in_channels is None else (self.in_channels, *self.grid_in)
        batch = x.shape[: -len(wanted)]
        if (*batch, *wanted) != x.shape:
            raise ValueError(
                f"Input of shape {tuple(x.shape)} does not fit {type(self).__name__}(in_features={self.grid_in}, "
                f"in_channels={self.in_channels}): its last dimensions must be {wanted}."
            )
        y = self._body(x.reshape(prod(batch), self.in_channels or 1, *self.grid_in))
        channels = () if self.out_channels is None else (self.out_channels,)
        return y.reshape(*batch, *channels, *self.grid_out)
