"""The Neural-HSS network of the paper."""

from typing import Any

import torch
from torch import nn

from ._activation import TrainableLeakyReLU
from ._hss_linear import HSSLinear, check_rank_and_levels


class NeuralHSS(nn.Module):
    """Neural-HSS network: lifting, `depth` HSS layers with trainable LeakyReLU, projection (Figure 1 of the paper).

    Parameters
    ----------
    in_features, out_features : int
        Numbers of grid points of the input and output fields.
    depth : int, default=3
        Number of HSS layers between lifting and projection, each followed by its activation.
    rank, levels : int, default=2, 3
        HSS rank and depth of the cluster tree of every HSS layer.
    embedding_dim : int, default=None
        Size of the fields between the layers. The larger of `in_features` and `out_features` if None.
    lifting, projection : {None, "hss", "dense"}, default=None, "hss"
        Linear layer before the first and after the last HSS layer. With None there is no such layer, and the first
        (last) HSS layer itself takes `in_features` (returns `out_features`).
    bias : bool, default=False
        Whether all linear layers have a bias.
    initial_slope : float, default=1.0
        Slope of the activations before training; at 1 the untrained network is linear.
    device : torch.device or str, default=None
        Where the parameters live; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Attributes
    ----------
    layers : Sequential
        All layers, in order.

    Raises
    ------
    ValueError
        If the tree is too deep or the rank too large for one of the HSS layers; names the parameter and the limit.

    Notes
    -----
    ``NeuralHSS(256, 256)`` has four HSS layers, 37,696 weights and 3 slopes: the "37K" of the paper's Tables 1 and 9.
    The "1.5M" for Burgers' equation is ``NeuralHSS(256, 256, depth=4, rank=32, embedding_dim=1024, lifting="dense",
    projection="dense")``.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import NeuralHSS
    >>> net = NeuralHSS(256, 256, depth=3, rank=2, levels=3)
    >>> net(torch.zeros(5, 256)).shape
    torch.Size([5, 256])
    >>> sum(parameter.numel() for parameter in net.parameters())
    37699
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        depth: int = 3,
        rank: int = 2,
        levels: int = 3,
        embedding_dim: int | None = None,
        lifting: str | None = None,
        projection: str | None = "hss",
        bias: bool = False,
        initial_slope: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth={depth} must be at least 1.")
        for name, value in (("lifting", lifting), ("projection", projection)):
            if value not in (None, "hss", "dense"):
                raise ValueError(f'{name}={value!r} must be None, "hss" or "dense".')
        embedding_dim = embedding_dim or max(in_features, out_features)
        cut = {} if lifting == "dense" else {"in_features": in_features}
        cut |= {} if projection == "dense" else {"out_features": out_features}
        cut["embedding_dim"] = embedding_dim
        check_rank_and_levels(rank, levels, **cut)

        # Sizes between the layers, and what stands between them: None marks an HSS layer of the backbone.
        kinds = [lifting] * (lifting is not None) + [None] * depth + [projection] * (projection is not None)
        sizes = [in_features] + [embedding_dim] * (len(kinds) - 1) + [out_features]
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.layers = nn.Sequential()
        for kind, n_in, n_out in zip(kinds, sizes, sizes[1:], strict=False):
            if kind == "dense":
                self.layers.append(nn.Linear(n_in, n_out, bias=bias, **factory))
            else:
                self.layers.append(HSSLinear(n_in, n_out, rank, levels, bias=bias, **factory))
            if kind is None:
                self.layers.append(TrainableLeakyReLU(initial_slope, **factory))

    @property
    def slopes(self) -> torch.Tensor:
        """Slopes alpha of the activations from first to last, as a tensor of shape (depth,)."""
        return torch.stack([layer.slope for layer in self.layers if isinstance(layer, TrainableLeakyReLU)])

    def penalty(self) -> torch.Tensor:
        """Return the regulariser of Theorem 2.3, without its factor lambda / 2.

        Returns
        -------
        Tensor of shape ()
            The sum of (alpha - 1)² over the activations.
        """
        return (self.slopes - 1).square().sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the network to fields in the last dimension of `x`.

        Parameters
        ----------
        x : Tensor of shape (..., in_features)
            Input fields.

        Returns
        -------
        Tensor of shape (..., out_features)
            Output fields.
        """
        return self.layers(x)
