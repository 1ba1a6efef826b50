"""A residual network on patches of the grid, with HSS matrices that couple all patches."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu, pad

from ..linalg._cluster_tree import ClusterTree
from ._field_network import FieldNetwork, Regrid, convolution, places
from ._hss_multilinear import HSSMultilinear, per_mode
from ._hss_parameters import check_rank_and_levels


class _Global(nn.Sequential):
    """Pointwise map to few channels, an HSS layer for each of these, and a pointwise map back, initially zero."""

    def __init__(self, grid, width, channels, rank, levels, outer_rank, **factory):
        # In one dimension, a sum of HSS matrices is just an HSS matrix of higher rank.
        terms = outer_rank if len(grid) > 1 else 1
        back = convolution(len(grid), channels, width, 1, bias=False, **factory)
        nn.init.zeros_(back.weight)
        super().__init__(
            convolution(len(grid), width, channels, 1, **factory),
            HSSMultilinear(grid, outer_rank=terms, rank=rank, levels=levels, channels=channels, **factory),
            back,
        )


class _Block(nn.Module):
    """x -> x + conv(gelu(conv(x) + beside(x))), or without `beside`."""

    def __init__(self, n_modes, width, kernel_size, beside, **factory):
        super().__init__()
        self.first, self.second = (
            convolution(n_modes, width, width, kernel_size, padding=kernel_size // 2, **factory) for _ in range(2)
        )
        self.beside = beside

    def forward(self, x):
        hidden = self.first(x)
        if self.beside is not None:
            hidden = hidden + self.beside(x)
        return x + self.second(gelu(hidden))


class PatchHSS(FieldNetwork):
    """Residual convolutions on patches of the grid, and HSS matrices between all patches, for nonlinear problems.

    The values of `patch_size` neighbouring points per dimension become channels of one point of a coarser grid, on
    which the network operates: a convolution over 3 patches lifts to `width` channels, `depth` residual blocks of two
    convolutions follow, x -> x + conv(gelu(conv(x))), and a convolution over 3 patches maps back to the values of all
    points. Every second block, starting with the first, is x -> x + conv(gelu(conv(x) + A H B x)): B maps the channels
    to `hss_channels` channels, H is an HSS matrix over all patches for each of these, and A maps back to all channels.
    A is zero before training, so that the network initially consists of convolutions alone, and may remain so for
    problems without long-range dependence.

    Parameters
    ----------
    in_features : int or tuple of int
        Grid of the inputs.
    out_features : int or tuple of int, default=None
        Grid of the outputs, reached by a learned linear map if it differs from that of the inputs; the same if None.
    in_channels, out_channels : int, default=None
        Numbers of channels; None means that the fields have no channel axis.
    width : int, default=None
        Number of channels of a patch. If None, 48 in one dimension and 32 in several.
    depth : int, default=4
        Number of residual blocks.
    patch_size : int or tuple of int, default=None
        Number of points of a patch, for all dimensions or for each, at most that of the grid. A grid that is not a
        multiple of this is padded with zeros. None gives 32 patches in one dimension, of at most 8 points; in several,
        it gives 8 patches per dimension, of at most 4 points in each.
    kernel_size : int, default=3
        Odd number of patches of a convolution kernel per dimension.
    hss_channels : int, default=8
        Number of channels with HSS matrices; with 0, there are none.
    rank : int or tuple of int, default=2
        Rank of the HSS matrices, for all dimensions or for each.
    levels : int or tuple of int, default=None
        Depth of their cluster trees, for all dimensions or for each. If None, the largest depth at which every leaf has
        at least twice the rank in patches; on small grids this is 0, which gives a dense matrix.
    outer_rank : int, default=2
        Number of Kronecker products of HSS matrices in a sum, in several dimensions.
    coordinates : bool, default=True
        Whether the coordinates of the patches are further channels.
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Raises
    ------
    ValueError
        If the grid has more than three dimensions, or a parameter is invalid for it.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import PatchHSS
    >>> PatchHSS((32, 21), width=8, depth=2)(torch.ones(5, 32, 21)).shape
    torch.Size([5, 32, 21])
    """

    def __init__(
        self,
        in_features: int | tuple[int, ...],
        out_features: int | tuple[int, ...] | None = None,
        in_channels: int | None = None,
        out_channels: int | None = None,
        width: int | None = None,
        depth: int = 4,
        patch_size: int | Sequence[int] | None = None,
        kernel_size: int = 3,
        hss_channels: int = 8,
        rank: int | Sequence[int] = 2,
        levels: int | Sequence[int] | None = None,
        outer_rank: int = 2,
        coordinates: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, in_channels, out_channels)
        m = len(self.grid_in)
        if m > 3:
            raise ValueError(f"PatchHSS supports grids of one to three dimensions, not {self.grid_in}.")
        width = (48 if m == 1 else 32) if width is None else width
        if patch_size is None:
            n_patches, most = (32, 8) if m == 1 else (8, 4)
            patch_size = tuple(min(-(-n // n_patches), most) for n in self.grid_in)
        wanted = per_mode("patch_size", patch_size, m)
        for name, value, least in (
            ("width", width, 1),
            ("depth", depth, 1),
            ("patch_size", min(wanted), 1),
            ("hss_channels", hss_channels, 0),
            ("outer_rank", outer_rank, 1),
        ):
            if value < least:
                raise ValueError(f"{name}={value} must be at least {least}.")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be an odd number of at least 1.")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.patch = tuple(map(min, wanted, self.grid_in))
        self.grid = tuple(-(-n // p) for n, p in zip(self.grid_in, self.patch, strict=True))
        self.coordinates = coordinates
        ranks, depths = self._trees(rank, levels)
        self.rank, self.levels = max(ranks), max(depths)

        def beside(i):
            if not hss_channels or i % 2:
                return None
            return _Global(self.grid, width, hss_channels, ranks, depths, outer_rank, **factory)

        n_points = torch.Size(self.patch).numel()
        c_in = (in_channels or 1) * n_points + m * coordinates
        self.lifting = convolution(m, c_in, width, 3, padding=1, **factory)
        self.blocks = nn.Sequential(*(_Block(m, width, kernel_size, beside(i), **factory) for i in range(depth)))
        self.projection = convolution(m, width, (out_channels or 1) * n_points, 3, padding=1, **factory)
        self.regrid = Regrid(self.grid_in, self.grid_out, **factory)
        self.places: torch.Tensor
        self.register_buffer("places", 2 * places(self.grid, **factory) - 1, persistent=False)

    def _trees(self, rank, levels):
        """Ranks and levels of the HSS matrices in every dimension."""
        m = len(self.grid)
        ranks = per_mode("rank", rank, m)
        if levels is None:
            depths = tuple(ClusterTree.max_levels(n, 2 * r) for n, r in zip(self.grid, ranks, strict=True))
        else:
            depths = per_mode("levels", levels, m)
        for j, (n, r, d) in enumerate(zip(self.grid, ranks, depths, strict=True)):
            check_rank_and_levels(r, d, **{"patches" if m == 1 else f"patches[{j}]": n})
        return ranks, depths

    def _split(self, x):
        """Fields (n_samples, channels, *grid_in) as (n_samples, channels * points of a patch, *grid)."""
        missing = [c * p - n for n, c, p in zip(self.grid_in, self.grid, self.patch, strict=True)]
        if any(missing):
            x = pad(x, [*chain.from_iterable((0, k) for k in reversed(missing))])
        m = len(self.grid)
        x = x.reshape(*x.shape[:2], *chain.from_iterable(zip(self.grid, self.patch, strict=True)))
        # Patches come last: axes 2, 4, ... are those of the patches, and 3, 5, ... those of the points in each.
        x = x.permute(0, 1, *range(3, 2 * m + 2, 2), *range(2, 2 * m + 2, 2))
        return x.flatten(1, m + 1)

    def _join(self, x):
        """Inverse of `_split`."""
        m = len(self.grid)
        x = x.unflatten(1, (self.out_channels or 1, *self.patch))
        x = x.permute(0, 1, *chain.from_iterable((m + 2 + j, 2 + j) for j in range(m)))
        for axis, n in enumerate(self.grid_in, 2):
            x = x.flatten(axis, axis + 1).narrow(axis, 0, n)
        return x

    def _body(self, x):
        """Map (n_samples, in_channels, *grid_in) to (n_samples, out_channels, *grid_out)."""
        x = self._split(x)
        if self.coordinates:
            x = torch.cat([x, self.places.expand(x.shape[0], *self.places.shape)], dim=1)
        return self.regrid(self._join(self.projection(self.blocks(self.lifting(x)))))
