"""The Neural-HSS network of the paper."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from ..linalg import HSSMatrix
from ._activation import TrainableLeakyReLU
from ._cp_linear import CPLinear
from ._hss_linear import HSSLinear
from ._hss_multilinear import HSSMultilinear, per_mode
from ._hss_parameters import check_rank_and_levels

_KINDS = (None, "hss", "dense", "cp", "pointwise")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Branches(nn.Module):
    """Sum of a global and a local linear map."""

    def __init__(self, whole, local):
        super().__init__()
        self.whole, self.local = whole, local

    def forward(self, x):
        return self.whole(x) + self.local(x)


class _Residual(nn.Sequential):
    """Layers with a residual connection: x plus their output."""

    def forward(self, x):
        return x + super().forward(x)


class _Builder:
    """Constructs the layers of a network. Fields have a channel axis unless their number of channels `c` is None."""

    def __init__(self, ranks, levels, outer_rank, bias, recompute, factory):
        self.ranks, self.levels, self.bias, self.factory = ranks, levels, bias, factory
        self.n_modes = len(ranks)
        self.sums = {"outer_rank": outer_rank, "recompute": recompute, **factory}

    def outer(self, kind, c_in, grid_in, c_out, grid_out):
        """Lifting or projection, as a list of one layer or none."""
        if kind is None:
            return [] if c_in == c_out else [self.with_channels(nn.Identity(), c_in, c_out)]
        if kind == "pointwise":
            return [self.convolution(c_in, c_out, 1, self.bias)]
        if kind == "cp":
            in_shape = grid_in if c_in is None else (c_in, *grid_in)
            out_shape = grid_out if c_out is None else (c_out, *grid_out)
            return [CPLinear(in_shape, out_shape, self.sums["outer_rank"], self.bias, **self.factory)]
        levels = self.levels if kind == "hss" else (0,) * self.n_modes
        if c_in is None and c_out is None:
            if kind == "dense" and self.n_modes == 1:
                return [nn.Linear(grid_in[0], grid_out[0], bias=self.bias, **self.factory)]
            return [self.hss(None, grid_in, grid_out, levels, self.bias)]
        layer = HSSMultilinear(
            (c_in or 1, *grid_in),
            (c_out or 1, *grid_out),
            rank=(1, *self.ranks),
            levels=(0, *levels),
            bias=self.bias,
            **self.sums,
        )
        return [self.with_channels(layer, c_in, c_out)]

    def hss(self, channels, grid_in, grid_out, levels, bias):
        """HSS layer with the same structure for every channel."""
        if channels is None and self.n_modes == 1:
            return HSSLinear(grid_in[0], grid_out[0], self.ranks[0], levels[0], bias, **self.factory)
        # In one dimension, a sum of HSS matrices is just an HSS matrix of higher rank.
        sums = self.sums if self.n_modes > 1 else {**self.sums, "outer_rank": 1}
        return HSSMultilinear(grid_in, grid_out, rank=self.ranks, levels=levels, channels=channels, bias=bias, **sums)

    def local(self, width, size, activation):
        """Residual block of two convolutions with an activation between them."""
        first, second = (self.convolution(width, width, size, self.bias) for _ in range(2))
        return _Residual(first, activation(), second)

    def block(self, width, grid_in, grid_out, kernel_size, activation, residual, local_depth):
        """HSS layer with its parallel and preceding layers and its activations, which `activation` constructs."""
        same = grid_in == grid_out
        size = kernel_size or (1 if width else None)
        if not (same and size):
            layer = self.hss(width, grid_in, grid_out, self.levels, self.bias)
        else:
            # If there are channels, the offset is that of the convolution.
            whole = self.hss(width, grid_in, grid_out, self.levels, self.bias and width is None)
            layer = _Branches(whole, self.convolution(width, width, size, self.bias and width is not None))
        if local_depth and same:
            first = self.convolution(width, width, size, self.bias)
            before = [self.local(width, size, activation) for _ in range(local_depth)]
            return [*before, _Residual(first, activation(), layer)]
        return [_Residual(layer, activation())] if residual and same else [layer, activation()]

    def convolution(self, c_in, c_out, size, bias):
        """Convolution that preserves the grid."""
        if self.n_modes > len(_CONVOLUTIONS):
            raise ValueError(
                f"Fields of {self.n_modes} dimensions cannot be convolved, not even pointwise: at most 3 are supported."
            )
        convolution = _CONVOLUTIONS[self.n_modes - 1]
        layer = convolution(c_in or 1, c_out or 1, size, padding=size // 2, bias=bias, **self.factory)
        return self.with_channels(layer, c_in, c_out)

    def with_channels(self, layer, c_in, c_out):
        """Adapt a layer for fields with channels to fields that may have no channel axis."""
        if c_in is not None and c_out is not None:
            return layer
        first = -self.n_modes
        before = [nn.Unflatten(first, (1, -1))] if c_in is None else []
        after = [nn.Flatten(first - 1, first)] if c_out is None else []
        return nn.Sequential(*before, layer, *after)


class NeuralHSS(nn.Module):
    """Neural-HSS network: lifting, `depth` HSS layers with activations, projection (Figure 1 of the paper).

    The paper's network has one channel and trainable LeakyReLU. With `width`, `kernel_size`, `residual` and
    ``activation="gelu"``, the HSS matrices are the global part of a more expressive network, for nonlinear problems;
    with `local_depth`, it is a convolutional network in which some convolutions have a parallel HSS layer.

    Parameters
    ----------
    in_features, out_features : int or tuple of int
        Grids of the input and output fields: a number of points, or one per dimension.
    depth : int, default=3
        Number of HSS layers between lifting and projection, each followed by its activation.
    rank, levels : int or tuple of int, default=2, 3
        HSS rank and depth of the cluster tree of every HSS layer, for all dimensions or for each one.
    outer_rank : int, default=8
        Number of terms of HSS layers in more than one dimension, and of liftings and projections of several modes.
    in_channels, out_channels : int, default=None
        Numbers of channels of the input and output fields. None means a single channel without a channel axis.
    width : int, default=None
        Number of channels between lifting and projection. Every channel has its own HSS matrices, and a pointwise
        linear map mixes the channels. None means a single channel.
    embedding_dim : int or tuple of int, default=None
        Grid between the layers. If None, the larger of `in_features` and `out_features` per dimension.
    lifting : {None, "hss", "dense", "cp", "pointwise"}, default=None
        Linear layer before the first HSS layer:

        - None: no layer, or "pointwise" if the number of channels changes.
        - "hss": HSS layer to the embedding grid; channels are a further mode, with dense factors.
        - "dense": the same with dense factors, which in one dimension without channels is a full matrix.
        - "cp": :class:`CPLinear` with `outer_rank` terms, over channels and grid (Appendix E of the paper).
        - "pointwise": the same linear map of the channels at every point.

        With None or "pointwise", the grid is unchanged, and the first HSS layer itself takes `in_features`.
    projection : {"auto", None, "hss", "dense", "cp", "pointwise"}, default="auto"
        Linear layer after the last HSS layer, with the same options. "auto" is "hss" in one dimension without channels,
        otherwise None.
    activation : {"leaky_relu", "gelu"}, default="leaky_relu"
        :class:`TrainableLeakyReLU`, or :class:`torch.nn.GELU`.
    kernel_size : int, default=None
        Odd size of a local convolution parallel to every HSS layer, which also mixes channels. None means no
        convolution.
    local_depth : int, default=0
        Number of residual blocks of two local convolutions before each HSS layer, which is then also preceded by a
        convolution and an activation. The input of these is added to their output, as with `residual`, and a further
        activation follows the last block. Requires `width` and `kernel_size`.
    residual : bool, default=False
        Whether to add the input of each HSS layer to the output of its activation.
    bias : bool, default=False
        Whether all linear layers have a bias: one number per point or, with `width` and in pointwise maps, one per
        channel.
    initial_slope : float, default=1.0
        Slope of the activations before training; with 1, the untrained network is linear.
    recompute : bool, default=False
        Whether HSS layers of several dimensions recompute intermediate fields in the backward pass, to save memory.
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Attributes
    ----------
    layers : Sequential
        All layers, in order.

    Raises
    ------
    ValueError
        If the tree is too deep or the rank too large for one of the HSS layers; the message states the limit.

    Notes
    -----
    ``NeuralHSS(256, 256)`` has four HSS layers, 37,696 weights and 3 slopes: the "37K" of the paper's Tables 1 and 9.
    The "1.5M" for Burgers' equation is ``NeuralHSS(256, 256, depth=4, rank=32, embedding_dim=1024, lifting="dense",
    projection="dense")``.

    HSS layers that change the grid have no parallel convolution or map of the channels, no residual connection, and no
    preceding local blocks.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import NeuralHSS
    >>> net = NeuralHSS(256, 256, depth=3, rank=2, levels=3)
    >>> net(torch.zeros(5, 256)).shape
    torch.Size([5, 256])
    >>> sum(parameter.numel() for parameter in net.parameters())
    37699

    Two input channels and one output channel on a grid, with the extensions:

    >>> net = NeuralHSS((32, 32), (32, 32), in_channels=2, out_channels=1, width=4, activation="gelu", kernel_size=3,
    ...                 residual=True, bias=True)
    >>> net(torch.zeros(5, 2, 32, 32)).shape
    torch.Size([5, 1, 32, 32])
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        out_features: int | Sequence[int],
        *,
        depth: int = 3,
        rank: int | Sequence[int] = 2,
        levels: int | Sequence[int] = 3,
        outer_rank: int = 8,
        in_channels: int | None = None,
        out_channels: int | None = None,
        width: int | None = None,
        embedding_dim: int | Sequence[int] | None = None,
        lifting: str | None = None,
        projection: str | None = "auto",
        activation: str = "leaky_relu",
        kernel_size: int | None = None,
        local_depth: int = 0,
        residual: bool = False,
        bias: bool = False,
        initial_slope: float = 1.0,
        recompute: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("depth", depth),
            ("outer_rank", outer_rank),
            ("in_channels", in_channels),
            ("out_channels", out_channels),
            ("width", width),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        flat = all(c is None for c in (in_channels, out_channels, width))
        grid_in = tuple(in_features) if isinstance(in_features, Sequence) else (in_features,)
        m = len(grid_in)
        if projection == "auto":
            projection = "hss" if m == 1 and flat else None
        for name, kind in (("lifting", lifting), ("projection", projection)):
            if kind not in _KINDS:
                raise ValueError(f'{name}={kind!r} must be None, "hss", "dense", "cp" or "pointwise".')
        if activation not in ("leaky_relu", "gelu"):
            raise ValueError(f'activation={activation!r} must be "leaky_relu" or "gelu".')
        if kernel_size is not None and (kernel_size < 1 or kernel_size % 2 == 0):
            raise ValueError(f"kernel_size={kernel_size} must be an odd number of at least 1, or None.")
        if local_depth < 0:
            raise ValueError(f"local_depth={local_depth} must be at least 0.")
        if local_depth and (width is None or kernel_size is None):
            raise ValueError(
                f"local_depth={local_depth} needs width and kernel_size, which are {width} and {kernel_size}: "
                "width=16 and kernel_size=3 would work, or local_depth=0."
            )
        grid_out = per_mode("out_features", out_features, m)
        grid = per_mode("embedding_dim", embedding_dim or tuple(map(max, grid_in, grid_out)), m)
        ranks, depths = per_mode("rank", rank, m), per_mode("levels", levels, m)
        if (in_channels or 1) != (width or 1):
            lifting = lifting or "pointwise"
        if (out_channels or 1) != (width or 1):
            projection = projection or "pointwise"
        for j in range(m):
            cut = {} if lifting in ("dense", "cp") else {"in_features": grid_in}
            cut |= {} if projection in ("dense", "cp") else {"out_features": grid_out}
            cut["embedding_dim"] = grid
            sizes = {name if m == 1 else f"{name}[{j}]": values[j] for name, values in cut.items()}
            check_rank_and_levels(ranks[j], depths[j], **sizes)

        self.in_channels, self.out_channels, self.width = in_channels, out_channels, width
        self.grid_in, self.grid_out = grid_in, grid_out
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        builder = _Builder(ranks, depths, outer_rank, bias, recompute, factory)
        resizing = ("hss", "dense", "cp")
        first, last = (grid if lifting in resizing else grid_in), (grid if projection in resizing else grid_out)
        grids = [first] + [grid] * (depth - 1) + [last]
        self.layers = nn.Sequential(*builder.outer(lifting, in_channels, grid_in, width, first))

        def act():
            return TrainableLeakyReLU(initial_slope, **factory) if activation == "leaky_relu" else nn.GELU()

        for here, there in pairwise(grids):
            self.layers.extend(builder.block(width, here, there, kernel_size, act, residual, local_depth))
        if local_depth and grids[-2] == grids[-1]:
            # Otherwise the network would end with several linear maps, those of the last block and the projection.
            self.layers.append(act())
        self.layers.extend(builder.outer(projection, width, last, out_channels, grid_out))

    @property
    def slopes(self) -> torch.Tensor:
        """Slopes alpha of the activations from first to last: `depth`, more with `local_depth`, none with GELU."""
        slopes: list[torch.Tensor] = [part.slope for part in self.modules() if isinstance(part, TrainableLeakyReLU)]
        return torch.stack(slopes) if slopes else torch.empty(0)

    def penalty(self) -> torch.Tensor:
        """Return the regulariser of Theorem 2.3, without its factor lambda / 2.

        Returns
        -------
        Tensor of shape ()
            The sum of (alpha - 1)² over the activations.
        """
        return (self.slopes - 1).square().sum()

    def _linear_layers(self):
        """Consecutive layers without activations, and whether each has a residual connection around it."""
        layers: Any = self.layers
        for layer in layers:
            residual = isinstance(layer, _Residual)
            layer = layer[0] if residual else layer
            if isinstance(layer, _Branches):
                layer = layer.whole
            elif isinstance(layer, nn.Sequential):  # of a layer and changes of the shape
                layer = next(part for part in layer if not isinstance(part, nn.Unflatten | nn.Flatten))
            if not isinstance(layer, TrainableLeakyReLU | nn.GELU | nn.Identity):
                yield layer, residual

    def _grids(self, layer):
        """Grids of the input and the output of a linear layer, without channels."""
        if isinstance(layer, HSSLinear | nn.Linear):
            return (layer.in_features,), (layer.out_features,)
        if isinstance(layer, HSSMultilinear | CPLinear):
            m = len(self.grid_in)
            return layer.in_shape[-m:], layer.out_shape[-m:]
        return (), ()  # a pointwise map preserves any grid

    def _changing(self):
        """Layers that change the grid of the fields."""
        return [layer for layer, _ in self._linear_layers() if len(set(self._grids(layer))) > 1]

    @property
    def can_be_linear(self) -> bool:
        """Whether :meth:`install` is possible.

        The network must have one channel, activations with slopes, and no "cp" layer, and all layers but one must be
        able to represent the identity.
        """
        layers = [layer for layer, _ in self._linear_layers()]
        channels = {self.in_channels or 1, self.out_channels or 1}
        if self.width is not None or channels != {1} or not len(self.slopes):
            return False
        if any(isinstance(layer, CPLinear) for layer in layers):
            return False
        changing = self._changing()
        if len(changing) < 2:
            return True
        sizes = zip(self._grids(changing[0])[1], self.grid_in, self.grid_out, strict=True)
        wide = all(n >= max(others) for n, *others in sizes)
        return wide and not any(_is_hierarchical(layer) for layer in changing)

    @torch.no_grad()
    def install(self, operator) -> None:
        """Set the weights such that the network is a given linear map, truncated to the tree and rank of the layers.

        One linear layer is set to the matrix, all others to the identity; slopes are set to 1, convolutions and biases
        to zero. In a residual network, the layers are set to zero, or to the matrix minus the identity.

        Parameters
        ----------
        operator : HSSMatrix, sequence of HSSMatrix, or object with an attribute ``factors``
            In one dimension, a matrix of shape (out_features, in_features). In several dimensions, factors as in
            :meth:`HSSMultilinear.install`.

        Raises
        ------
        ValueError
            If the network cannot be linear, or has too small an `outer_rank`.
        """
        if not self.can_be_linear:
            self._refuse_to_be_linear()
        factors = [operator] if isinstance(operator, HSSMatrix) else list(getattr(operator, "factors", operator))
        layers = [pair for pair in self._linear_layers() if not isinstance(pair[0], _CONVOLUTIONS)]
        changing = self._changing()
        # Preferably the layer that changes the grid, otherwise one without a residual connection.
        target, _ = min(layers, key=lambda pair: (pair[0] not in changing, pair[1]))
        if len(changing) > 1:
            factors = [
                HSSMatrix.from_dense(nn.functional.pad(W.to_dense(), (0, 0, 0, n - W.shape[-2])), tol=0, levels=0)
                for W, n in zip(factors, self._grids(target)[1], strict=True)
            ]
        # The target comes first, so that nothing has changed if it raises an error.
        for layer, residual in sorted(layers, key=lambda pair: pair[0] is not target):
            sizes = zip(factors, *self._grids(layer), strict=True)
            same = [_identity(n_in, n_out, W.levels) for W, n_in, n_out in sizes]
            if layer is target:
                _install(layer, _minus_identity(factors, same) if residual else factors)
            else:
                _install(layer, [0 * same[0], *same[1:]] if residual else same)
        for module in self.modules():
            if isinstance(module, TrainableLeakyReLU):
                module.slope.fill_(1)
            elif isinstance(module, _CONVOLUTIONS):
                pointwise = any(module is layer for layer, _ in self._linear_layers())
                module.weight.fill_(1 if pointwise else 0)
                if module.bias is not None:
                    module.bias.zero_()

    def _refuse_to_be_linear(self):
        if len(self._changing()) > 1:
            grids = self._grids(self._changing()[0])[1], self.grid_in, self.grid_out
            between, given, wanted = (" x ".join(map(str, grid)) for grid in grids)
            raise ValueError(
                f"A network with fields of {between} points between the layers cannot represent a linear map from "
                f"{given} to {wanted} points: embedding_dim must be one of these numbers, or larger than both with "
                "dense lifting and projection."
            )
        raise ValueError(
            "Only a network of one channel, with leaky_relu and without a 'cp' lifting or projection, can represent a "
            "given linear map."
        )

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
        channels = () if self.in_channels is None else (self.in_channels,)
        wanted = (*channels, *self.grid_in)
        batch = x.shape[: -len(wanted)]
        if (*batch, *wanted) != x.shape:
            raise ValueError(
                f"Input of shape {tuple(x.shape)} does not fit NeuralHSS(in_features={self.grid_in}, "
                f"in_channels={self.in_channels}): its last dimensions must be {wanted}."
            )
        if len(batch) == 1:
            return self.layers(x)
        y = self.layers(x.reshape(-1, *wanted))
        return y.reshape(*batch, *y.shape[1:])


def _is_hierarchical(layer):
    if isinstance(layer, HSSMultilinear):
        return any(mode.levels for mode in layer.modes)
    return isinstance(layer, HSSLinear)


def _identity(n_in, n_out, levels):
    """Identity, or the rectangular matrix with ones on the diagonal."""
    if n_in == n_out:
        return HSSMatrix.identity(n_in, levels)
    return HSSMatrix.from_dense(torch.eye(n_out, n_in, dtype=torch.float64), tol=0, levels=0)


def _minus_identity(factors, same):
    """The map of the factors minus the identity, as a matrix, or with an additional term."""
    if not factors[0].batch_shape:
        return [W - one.to(W.dtype) for W, one in zip(factors, same, strict=True)]
    signed = [-1 * same[0], *same[1:]]
    dense = [torch.cat([W.to_dense(), one.to_dense().to(W.D[0])[None]]) for W, one in zip(factors, signed, strict=True)]
    return [HSSMatrix.from_dense(A, tol=0, levels=W.levels) for A, W in zip(dense, factors, strict=True)]


def _batch_of_one(W):
    generators = ([g.unsqueeze(0) for g in stack] for stack in (W.D, W.U, W.V))
    return HSSMatrix(W.row_tree, W.col_tree, *generators)


def _install(layer, factors):
    """Set a linear layer to the map given by factors, one per dimension of the grid."""
    if isinstance(layer, HSSMultilinear):
        factors = [W if W.batch_shape else _batch_of_one(W) for W in factors]
        if len(layer.in_shape) > len(factors):
            ones = torch.ones(*factors[0].batch_shape, 1, 1, dtype=torch.float64)
            factors = [HSSMatrix.from_dense(ones, levels=0), *factors]
        layer.install(factors)
    elif isinstance(layer, HSSLinear):
        layer.install(*factors)
    else:
        layer.weight.copy_(factors[0].to_dense())
        if layer.bias is not None:
            layer.bias.zero_()
