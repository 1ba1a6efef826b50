"""The one-dimensional HSS layer."""

import torch
from torch import nn

from ..linalg._cluster_tree import ClusterTree, join_leaves, split_leaves
from ..linalg._hss_matrix import HSSMatrix, generator_shapes
from ..linalg._product import FastTelescopicProduct


class HSSLinear(nn.Module):
    """Linear layer y = W x + b whose weight W is an HSS matrix (Algorithm 1 of the Neural-HSS paper).

    Parameters
    ----------
    in_features, out_features : int
        Numbers of grid points of the input and of the output; any sizes, equal or not.
    rank : int, default=2
        Columns of every basis U and V, at most the size of the smallest leaf. Unused when ``levels=0``.
    levels : int, default=3
        Depth of the cluster tree; 0 makes the weight dense.
    bias : bool, default=False
        Whether to add a learnable offset.
    device, dtype
        Those of the parameters, as in :class:`torch.nn.Linear`.

    Attributes
    ----------
    D, U, V : ParameterList
        Stacked generators from the leaves to the root, laid out as in :class:`sklearn_hss.linalg.HSSMatrix`.
    bias : Parameter of shape (out_features,) or None

    Raises
    ------
    ValueError
        If `levels` is too deep for the smaller of the two sizes, or `rank` exceeds the smallest leaf.

    Notes
    -----
    The layer computes on (features, batch) columns. Its output is a transposed view of such columns, and an input with
    that memory layout is read without a copy, so that in a stack of layers and pointwise activations nothing is ever
    transposed. Gradients can be taken once; for higher derivatives use ``layer.weight @ x``.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import HSSLinear
    >>> layer = HSSLinear(256, 256, rank=2, levels=3)
    >>> layer(torch.zeros(5, 256)).shape
    torch.Size([5, 256])
    >>> layer.weight.n_parameters
    9424
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int = 2,
        levels: int = 3,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_rank_and_levels(rank, levels, in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.rank, self.levels = rank, levels
        self.row_tree = ClusterTree(out_features, levels)
        self.col_tree = ClusterTree(in_features, levels)
        self.D, self.U, self.V = (
            nn.ParameterList(torch.empty(shape, device=device, dtype=dtype) for shape, _ in shapes)
            for shapes in generator_shapes(self.row_tree, self.col_tree, rank)
        )
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each generator from U(-b, b), b = 1 / sqrt(fan-in), as :class:`torch.nn.Linear` does; the bias is zero.

        On the paper's 1-D Poisson data this trains three times closer than unit gain, b = sqrt(3 / fan-in), because the
        levels of the tree add up.
        """
        for parameters, shapes in zip(
            (self.D, self.U, self.V), generator_shapes(self.row_tree, self.col_tree, self.rank), strict=True
        ):
            for parameter, (_, fan_in) in zip(parameters, shapes, strict=True):
                bound = fan_in**-0.5
                nn.init.uniform_(parameter, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def weight(self) -> HSSMatrix:
        """The weight as an HSSMatrix that shares, and differentiates to, the parameters."""
        return HSSMatrix(self.row_tree, self.col_tree, self.D, self.U, self.V)

    @property
    def n_padding(self) -> int:
        """Parameter entries that only pad smaller leaves: no effect, no gradient."""
        return self.weight._n_padding()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to the last dimension of `x`.

        Parameters
        ----------
        x : Tensor of shape (..., in_features)

        Returns
        -------
        Tensor of shape (..., out_features)
        """
        if x.shape[-1] != self.in_features:
            raise ValueError(
                f"Input with {x.shape[-1]} features does not fit HSSLinear(in_features={self.in_features})."
            )
        columns = split_leaves(x.reshape(-1, self.in_features).mT, self.col_tree)
        y = FastTelescopicProduct.apply(columns, *self.D, *self.U, *self.V)
        y = join_leaves(y, self.row_tree).mT.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def extra_repr(self):
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, rank={self.rank}, "
            f"levels={self.levels}, bias={self.bias is not None}"
        )


def check_rank_and_levels(rank: int, levels: int, **sizes: int) -> None:
    """Refuse a tree that is too deep, or a rank above the smallest leaf, for any of the named `sizes`.

    Raises
    ------
    ValueError
        Names the parameter, its value and the largest value that works.
    """
    for name, value, least in (("rank", rank, 1), ("levels", levels, 0)):
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}.")
    name, size = min(sizes.items(), key=lambda item: item[1])
    deepest = ClusterTree.max_levels(size)
    if levels > deepest:
        raise ValueError(f"levels={levels} is too deep for {name}={size}: the largest value that works is {deepest}.")
    smallest_leaf = size >> levels
    if levels and rank > smallest_leaf:
        raise ValueError(
            f"rank={rank} exceeds the smallest leaf of {name}={size} cut into 2**{levels} leaves: "
            f"the largest value that works with levels={levels} is {smallest_leaf}."
        )
