"""Low-rank linear maps between tensors."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import nn


class CPLinear(nn.Module):
    """Linear map from tensors to tensors of any shapes, of low CP rank (Appendix E of the Neural-HSS paper).

    W(Z) = sum_i c_i <v_i⁽¹⁾ ⊗ ... ⊗ v_i⁽ᴹ⁾, Z> u_i⁽¹⁾ ⊗ ... ⊗ u_i⁽ᵐ⁾. The output lies in a space of `rank` dimensions.

    Parameters
    ----------
    in_shape, out_shape : tuple of int
        Shapes of the input and of the output, with any numbers of dimensions.
    rank : int, default=8
        Number of terms.
    bias : bool, default=False
        Whether to add a learnable offset.
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Attributes
    ----------
    c : Parameter of shape (rank,)
        Weights of the terms.
    u, v : ParameterList
        Vectors of the terms per dimension of the output and of the input, of shapes (rank, size).
    bias : Parameter of shape out_shape or None

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import CPLinear
    >>> layer = CPLinear((2, 32, 32), (64, 64), rank=8)
    >>> layer(torch.zeros(5, 2, 32, 32)).shape
    torch.Size([5, 64, 64])
    >>> sum(parameter.numel() for parameter in layer.parameters())
    1560
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        rank: int = 8,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank={rank} must be at least 1.")
        self.in_shape, self.out_shape, self.rank = tuple(in_shape), tuple(out_shape), rank
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.c = nn.Parameter(torch.empty(rank, **factory))
        self.u, self.v = (
            nn.ParameterList(nn.Parameter(torch.empty(rank, n, **factory)) for n in shape)
            for shape in (self.out_shape, self.in_shape)
        )
        self.bias = nn.Parameter(torch.empty(self.out_shape, **factory)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all vectors with unit gain and `c` from U(-b, b), b = 1 / sqrt(rank); the bias is zero."""
        nn.init.uniform_(self.c, -(self.rank**-0.5), self.rank**-0.5)
        for u in self.u:
            nn.init.uniform_(u, -(3**0.5), 3**0.5)
        for v in self.v:
            bound = (3 / v.shape[1]) ** 0.5
            nn.init.uniform_(v, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the map to the last dimensions of `x`.

        Parameters
        ----------
        x : Tensor of shape (..., \\*in_shape)
            Input tensors.

        Returns
        -------
        Tensor of shape (..., \\*out_shape)
            Output tensors.
        """
        batch = x.shape[: x.ndim - len(self.in_shape)]
        if (*batch, *self.in_shape) != x.shape:
            raise ValueError(f"Input of shape {tuple(x.shape)} does not fit CPLinear(in_shape={self.in_shape}).")
        coefficients = self.c * (x.reshape(*batch, prod(self.in_shape)) @ _outer_products(self.v).mT)
        y = (coefficients @ _outer_products(self.u)).reshape(*batch, *self.out_shape)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Return the settings that ``repr`` shows."""
        return f"in_shape={self.in_shape}, out_shape={self.out_shape}, rank={self.rank}, bias={self.bias is not None}"


def _outer_products(vectors):
    """Outer product of the vectors (rank, n_j) of each term, flattened to (rank, prod(n_j))."""
    product, *others = vectors
    for vector in others:
        product = (product.unsqueeze(-1) * vector.unsqueeze(-2)).flatten(1)
    return product
