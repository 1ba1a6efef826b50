"""The one-dimensional HSS layer."""

import torch
from torch import nn

from ..linalg._cluster_tree import join_leaves, split_leaves
from ..linalg._hss_matrix import HSSMatrix
from ..linalg._product import sweep, telescopic_product
from ._hss_parameters import HSSParameters, check_rank_and_levels


class _HSSProduct(torch.autograd.Function):
    """x Wᵀ for rows x and an HSS matrix W, with a backward pass that saves one input and one weight per level.

    This is faster than tracing the sweep, which dominates the cost of training. If derivatives of the gradient are
    required, the sweep is traced.
    """

    @staticmethod
    def forward(ctx, x, row_tree, col_tree, *generators):
        # x: (batch, n_in). Transposing and splitting are views of it, and so is the returned (batch, n_out).
        levels = row_tree.levels
        D, U, V = generators[: levels + 1], generators[levels + 1 : 2 * levels + 1], generators[2 * levels + 1 :]
        y, inputs, weights = sweep(D, U, V, split_leaves(x.mT, col_tree))
        ctx.save_for_backward(x, *generators, *inputs[1:], *weights)
        ctx.trees = row_tree, col_tree
        return join_leaves(y, row_tree).mT

    @staticmethod
    def backward(ctx, grad):
        row_tree, col_tree = ctx.trees
        levels = row_tree.levels
        saved = iter(ctx.saved_tensors)
        x = next(saved)
        D, U, V, inputs, weights = (
            [next(saved) for _ in range(count)] for count in (levels + 1, levels, levels, levels, levels)
        )
        if torch.is_grad_enabled():
            return _traced_backward(ctx.needs_input_grad, grad, row_tree, col_tree, x, D, U, V)
        inputs = [split_leaves(x.mT, col_tree), *inputs]
        # Splitting into leaves and joining them are each other's adjoint.
        grads = [split_leaves(grad.mT, row_tree)]
        grad_D, grad_U, grad_V = [], [], []
        for i in range(levels):
            grad_D.append(torch.bmm(grads[i], inputs[i].mT))
            grad_U.append(_thin_product(grads[i], weights[i]))
            g = torch.bmm(U[i].mT, grads[i])
            grads.append(g.view(g.shape[0] // 2, 2 * g.shape[1], g.shape[2]))
        grad_D.append(torch.bmm(grads[-1], inputs[-1].mT))

        # On the way down, `g` is the gradient of the input of a level. At the leaves it is only formed if needed, and
        # in the memory layout of x, since autograd copies any other.
        wanted, by_rows = ctx.needs_input_grad[0], x.stride(1) == 1
        g = torch.bmm(D[-1].mT, grads[-1])
        for i in reversed(range(levels)):
            g = g.view(V[i].shape[0], V[i].shape[2], g.shape[2])
            grad_V.append(_thin_product(inputs[i], g))
            if i or (wanted and not by_rows):
                g = torch.bmm(D[i].mT, grads[i]).baddbmm_(V[i], g)
        grad_x = None
        if wanted and by_rows and levels:
            g = torch.bmm(grads[0].mT, D[0]).baddbmm_(g.mT, V[0].mT)
            grad_x = join_leaves(g.transpose(0, 1).unsqueeze(-1), col_tree).squeeze(-1)
        elif wanted:
            grad_x = join_leaves(g, col_tree).mT
        return grad_x, None, None, *grad_D, *grad_U, *reversed(grad_V)


def _thin_product(x, w):
    """x wᵀ for thin w; w as the first factor is six times faster if x is stored in rows and the rank is low."""
    return torch.bmm(w, x.mT).mT if x.stride(1) == 1 else torch.bmm(x, w.mT)


def _traced_backward(needed, grad, row_tree, col_tree, x, D, U, V):
    """The same gradients by autograd, which can be differentiated again with respect to all operands."""
    operands = (x, None, None, *D, *U, *V)
    wanted = [operand for operand, need in zip(operands, needed, strict=True) if need]
    y = join_leaves(telescopic_product(D, U, V, split_leaves(x.mT, col_tree)), row_tree).mT
    gradients = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
    return tuple(next(gradients) if need else None for need in needed)


class HSSLinear(HSSParameters):
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
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Attributes
    ----------
    D, U, V : list of Parameter
        Stacked generators from the leaves to the root, laid out as in :class:`sklearn_hss.linalg.HSSMatrix`; registered
        as ``D0``, ``D1``, ...
    bias : Parameter of shape (out_features,) or None

    Raises
    ------
    ValueError
        If `levels` is too deep for the smaller of the two sizes, or `rank` exceeds the smallest leaf.

    Notes
    -----
    The layer computes on (features, batch) columns. Its output is a transposed view of such columns, and an input with
    this memory layout is read without a copy, so that a stack of layers and pointwise activations needs no
    transpositions. Gradients of any order are supported, the first order being optimised; for torch.func use
    ``layer.weight @ x``. Under autocast, the layer computes in the type of its parameters.

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
        check_rank_and_levels(rank, levels, in_features=in_features, out_features=out_features)
        super().__init__(in_features, out_features, rank, levels, device=device, dtype=dtype)
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each generator from U(-b, b), b = 1 / sqrt(fan-in), as :class:`torch.nn.Linear` does; the bias is zero.

        Unit gain, sqrt(3 / fan-in), would be too large, since the contributions of the levels add.
        """
        self._draw()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @torch.no_grad()
    def install(self, operator: HSSMatrix) -> None:
        """Set the weight to a given matrix, truncated to the tree and rank of the layer, and the bias to zero.

        Parameters
        ----------
        operator : HSSMatrix
            Matrix of shape (out_features, in_features). If its rank is lower than that of the layer, the additional
            directions of the bases are not changed but decoupled, so that training can use them.
        """
        self._write(operator)
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to the last dimension of `x`.

        Parameters
        ----------
        x : Tensor of shape (..., in_features)
            Input fields.

        Returns
        -------
        Tensor of shape (..., out_features)
            The products W x + b.
        """
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"HSSLinear takes a torch tensor, not {type(x).__name__}.")
        if x.shape[-1] != self.in_features:
            raise ValueError(
                f"Input with {x.shape[-1]} features does not fit HSSLinear(in_features={self.in_features})."
            )
        generators = self._generators()
        if torch.is_autocast_enabled(x.device.type):
            # Autocast does not affect the product, so everything is computed in the type of the parameters.
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x.to(generators[0].dtype))
        rows = x if x.ndim == 2 else x.reshape(-1, self.in_features)
        y = _HSSProduct.apply(rows, self.row_tree, self.col_tree, *generators)
        if self.bias is not None:
            y = y + self.bias
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Return the settings that ``repr`` shows."""
        return f"{super().extra_repr()}, bias={self.bias is not None}"
