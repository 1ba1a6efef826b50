"""The Neural-HSS network of the paper."""

from typing import Any

import torch
from torch import nn

from ..linalg import HSSMatrix
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

    def _changing(self) -> list[Any]:
        """Layers that change the size of the fields."""
        linear: list[Any] = [layer for layer in self.layers if not isinstance(layer, TrainableLeakyReLU)]
        return [layer for layer in linear if layer.in_features != layer.out_features]

    @property
    def can_be_linear(self) -> bool:
        """Whether fields can pass all layers but one unchanged, so that :meth:`install` is possible."""
        changing = self._changing()
        if len(changing) < 2:
            return True
        wide = changing[0].out_features >= max(changing[0].in_features, changing[-1].out_features)
        return wide and not any(isinstance(layer, HSSLinear) for layer in changing)

    @torch.no_grad()
    def install(self, operator: HSSMatrix) -> None:
        """Make the network the linear map of a given matrix, cut to the tree and the rank of the layers.

        One linear layer becomes the matrix, all others the identity; slopes become 1 and biases zero.

        Parameters
        ----------
        operator : HSSMatrix
            Of shape (out_features, in_features).

        Raises
        ------
        ValueError
            If the layers are of sizes that cannot pass the fields on unchanged.
        """
        changing = self._changing()
        target: Any = changing[0] if changing else self.layers[0]
        if not self.can_be_linear:
            raise ValueError(
                f"Fields of {self.layers[0].out_features} points between the layers do not let a linear map from "
                f"{operator.shape[1]} to {operator.shape[0]} points pass: embedding_dim must be one of these numbers, "
                "or larger than both with dense lifting and projection."
            )
        if len(changing) > 1:
            wide = nn.functional.pad(operator.to_dense(), (0, 0, 0, target.out_features - operator.shape[0]))
            operator = HSSMatrix.from_dense(wide, tol=0, levels=0)
        for layer in self.layers:
            if isinstance(layer, TrainableLeakyReLU):
                layer.slope.fill_(1)
            elif isinstance(layer, HSSLinear):
                layer.install(operator if layer is target else HSSMatrix.identity(layer.in_features, layer.levels))
            elif isinstance(layer, nn.Linear):
                layer.weight.copy_(operator.to_dense() if layer is target else torch.eye(*layer.weight.shape))
                if layer.bias is not None:
                    layer.bias.zero_()

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
