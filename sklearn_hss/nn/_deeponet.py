"""The deep operator network."""

from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu

from ._field_network import FieldNetwork, places


def _dense(sizes, **factory):
    """Linear layers with gelu between them."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layer = nn.Linear(n_in, n_out, **factory)
        # He initialisation: with torch's default, the coordinates decay from layer to layer, and the basis is initially
        # almost constant.
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.GELU()]
    return nn.Sequential(*layers[:-1])


class DeepONet(FieldNetwork):
    """Deep operator network on the grid of the outputs, in any number of dimensions.

    The trunk network maps the coordinates of a point to the values of `width` basis functions there, the branch network
    maps the whole input field to their coefficients; one bias is added per output channel. Several output channels
    share the basis but have their own coefficients, so that the last layer of the branch network is as many times
    wider.

    Parameters
    ----------
    in_features : int or tuple of int
        Grid of the inputs.
    out_features : int or tuple of int, default=None
        Grid of the outputs, which may have another number of dimensions; that of the inputs if None.
    in_channels, out_channels : int, default=None
        Numbers of channels; None means that the fields have no channel axis.
    width : int, default=192
        Number of basis functions, and of neurons in every hidden layer of both networks.
    depth : int, default=4
        Number of linear layers of either network. gelu follows all but the last one of the branch network.
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Notes
    -----
    The coordinates are the same for all samples, so the trunk network is evaluated once per batch and, if no gradients
    are required (``torch.no_grad()``, ``predict``), only once as long as its weights do not change.

    Width 192 and depth 4 give 272,065 parameters on 256 points and 247,489 on 128 points; the Neural-HSS paper states
    247K for 256 points. In 2-D, width 64 gives 287,361 on 64 x 64 points, for which the paper states 280K.

    References
    ----------
    Lu et al., Learning nonlinear operators via DeepONet based on the universal approximation theorem of operators,
    Nature Machine Intelligence 3, 2021.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import DeepONet
    >>> DeepONet((16, 12), out_features=(20, 9), width=8)(torch.ones(5, 16, 12)).shape
    torch.Size([5, 20, 9])
    """

    def __init__(
        self,
        in_features: int | tuple[int, ...],
        out_features: int | tuple[int, ...] | None = None,
        in_channels: int | None = None,
        out_channels: int | None = None,
        width: int = 192,
        depth: int = 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, in_channels, out_channels)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        hidden = [width] * (depth - 1)
        n_inputs, n_outputs = prod(self.grid_in) * (in_channels or 1), out_channels or 1
        if depth < 1:
            raise ValueError(f"depth={depth} must be at least 1.")
        self.branch = _dense([n_inputs, *hidden, width * n_outputs], **factory)
        self.trunk = _dense([len(self.grid_out), *hidden, width], **factory)
        self.bias = nn.Parameter(torch.zeros(n_outputs, **factory))
        self.places: torch.Tensor
        self.register_buffer("places", places(self.grid_out, **factory).flatten(1).T.contiguous(), persistent=False)

    def _basis(self):
        """Values of the basis functions, a Tensor of shape (n_points, width)."""
        return self._kept(self.trunk, lambda: gelu(self.trunk(self.places)))

    def _body(self, x):
        """Map (n_samples, in_channels, *grid_in) to (n_samples, out_channels, *grid_out)."""
        coefficients = self.branch(x.flatten(1)).unflatten(1, (len(self.bias), -1))
        return (coefficients @ self._basis().T + self.bias[:, None]).unflatten(2, self.grid_out)
