"""The HSS layer in several dimensions."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..linalg import HSSMatrix
from ._hss_parameters import HSSParameters, check_rank_and_levels

# Bytes of a field between two modes that fits into the cache of a CPU; elsewhere few large steps are faster.
_CPU_CHUNK, _OTHER_CHUNK = 2**20, 2**28
# Number of columns above which matrix products do not become more efficient.
_WIDE = 512
# Size of the field of a channel between two modes up to which all channels are multiplied at once. This copies fields,
# but avoids a loop over the channels, which is slower for small fields; at four times this size, the loop is faster.
_SMALL = 2**15
# Costs in multiples of a flop of large matrix products, fitted to bench_layer.py: of an entry of a factor that is
# materialised; and in products with HSS matrices, of a flop and of moving a number of the field.
_DENSE_ENTRY, _HSS_FLOP, _HSS_MOVE = 300, 1.5, 250
# Number of samples for which the cost of forming the entries of factors is negligible.
_MANY = 10**6


class _DenseProduct(torch.autograd.Function):
    """sum_k X x_1 W_1[k] ... x_m W_m[k] for m >= 2 and dense W, in large matrix products without transpositions.

    The terms are combined in groups with one matrix per mode, see :func:`_groups`. Samples are processed in chunks for
    which the fields between the modes fit into the cache. With `recompute`, the backward pass recomputes these fields.
    """

    @staticmethod
    def forward(ctx, x, recompute, out_shape, *matrices):
        # x: (batch, C, *grid), matrices: (C, rows, columns)
        y = x.new_zeros(*x.shape[:2], *out_shape)
        kept: list[torch.Tensor] = []
        for chunk, c, groups in _portions(x, matrices):
            part = y[chunk, c].flatten(2)
            for group in groups:
                fields = _fields(x[chunk, c], group)
                part.baddbmm_(group[0].expand(len(part), -1, -1), fields[-1])
                kept += [] if recompute else fields
        ctx.save_for_backward(x, *matrices, *kept)
        ctx.n_matrices = len(matrices)
        return y

    @staticmethod
    def backward(ctx, grad):
        x, *saved = ctx.saved_tensors
        matrices, kept = saved[: ctx.n_matrices], iter(saved[ctx.n_matrices :])
        if torch.is_grad_enabled():
            return _traced_backward(ctx.needs_input_grad, grad, x, matrices)
        grad_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        grads = [torch.zeros_like(W) for W in matrices]
        portions = zip(_portions(x, matrices), _portions(x, grads), strict=True)
        for (chunk, c, groups), (*_, grad_groups) in portions:
            for group, grad_group in zip(groups, grad_groups, strict=True):
                part = x[chunk, c]
                fields = [next(kept) for _ in group[1:]] if saved[ctx.n_matrices :] else _fields(part, group)
                g = grad[chunk, c].flatten(2)
                for W, grad_W, z in zip(group, grad_group, reversed(fields), strict=False):
                    g = g.reshape(len(z), len(W), -1)
                    grad_W.addbmm_(g, z.mT)
                    g = torch.bmm(W.mT.expand(len(z), -1, -1), g)
                g = g.view(-1, len(group[-1]))
                grad_group[-1].addmm_(g.mT, part.reshape(len(g), -1))
                if grad_x is not None:
                    grad_x[chunk, c].add_((g @ group[-1]).view(part.shape))
        return grad_x, None, None, *grads


def _traced_backward(needed, grad, x, matrices):
    """The same gradients by autograd, which can be differentiated again with respect to all operands."""
    m = x.ndim - 2
    channels = []
    for c in range(x.shape[1]):
        groups = [[W[c] for W in matrices[i : i + m]] for i in range(0, len(matrices), m)]
        fields = [_fields(x[:, c], group)[-1] for group in groups]
        channels.append(sum(group[0] @ field for group, field in zip(groups, fields, strict=True)))
    y = torch.stack(channels, 1).view(grad.shape)
    operands = (x, None, None, *matrices)
    wanted = [operand for operand, need in zip(operands, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
    return tuple(next(gradients) if need else None for need in needed)


def _groups(factors):
    """Matrices of :class:`_DenseProduct`, group after group, from dense factors (C, terms, rows, columns) per mode.

    In two dimensions, a group has enough terms for wide products: the matrix of the last mode gives the rows of all
    terms, (term, row) x column, and that of the first mode sums over them, row x (column, term). In more dimensions,
    products are large anyway, and a group is one term.
    """
    first, *middle, last = factors
    size = max(1, _WIDE // last.shape[-2]) if not middle else 1
    matrices = []
    for k in range(0, first.shape[1], size):
        matrices.append(first[:, k : k + size].permute(0, 2, 3, 1).flatten(2))
        matrices += [W[:, k] for W in middle]
        matrices.append(last[:, k : k + size].flatten(1, 2))
    return matrices


def _portions(x, matrices):
    """Chunks of the samples of every channel, with the groups of matrices of the channel."""
    m = x.ndim - 2
    largest = max(W.shape[-2] * x[0, 0].numel() // x.shape[-1] for W in matrices[m - 1 :: m]) if len(x) else 1
    limit = _CPU_CHUNK if x.device.type == "cpu" else _OTHER_CHUNK
    size = max(1, limit // (largest * x.element_size()))
    for c in range(x.shape[1]):
        groups = [[W[c] for W in matrices[i : i + m]] for i in range(0, len(matrices), m)]
        for start in range(0, len(x), size):
            yield slice(start, start + size), c, groups


def _fields(x, group):
    """Operands of the matrices of a group, from the last mode but one to the first, after the last has been applied."""
    z = x.reshape(-1, x.shape[-1]) @ group[-1].mT
    fields = []
    for mode in reversed(range(len(group) - 1)):
        W = group[mode]
        z = z.view(prod(x.shape[: mode + 1]), W.shape[1], -1)
        fields.append(z)
        if mode:
            z = torch.bmm(W.expand(len(z), -1, -1), z)
    return fields


def _all_channels(x, first, last):
    """Product of x (batch, C, rows, columns) with factors (C, terms), in one batched matrix product per mode."""
    batch, n_channels, n_rows, _ = x.shape
    terms, n_columns = last.shape[1:3]
    z = torch.bmm(x.transpose(0, 1).flatten(1, 2), last.flatten(1, 2).mT)  # (C, batch * rows, terms * columns)
    z = z.view(n_channels, batch, n_rows, terms, n_columns).permute(0, 3, 2, 1, 4)
    z = z.reshape(n_channels, terms * n_rows, batch * n_columns)
    y = torch.bmm(first.transpose(1, 2).flatten(2), z)
    return y.view(n_channels, first.shape[2], batch, n_columns).permute(2, 0, 1, 3)


def _dense_product(x, factors, recompute):
    """Product of x (batch, C, *grid) with factors (C, terms), all of whose entries are formed."""
    # (terms, ...) without channels becomes (1, terms, ...).
    factors = [W.to_dense().view(x.shape[1], -1, *W.shape[-2:]) for W in factors]
    if len(factors) == 1:
        return torch.einsum("bcn,cmn->bcm", x, factors[0].sum(1))
    small = factors[0].shape[1] * x[:, 0].numel() <= _SMALL
    if x.shape[1] > 1 and len(factors) == 2 and small and not recompute:
        return _all_channels(x, *factors)
    # Without gradients, no fields are stored.
    recompute = recompute or not torch.is_grad_enabled()
    return _DenseProduct.apply(x, recompute, tuple(W.shape[-2] for W in factors), *_groups(factors))


def _mode_by_mode(x, factors):
    """Product of x (batch, C, *grid) with factors (C, terms), HSS matrices or dense ones, mode by mode."""
    z = x.transpose(0, 1).unsqueeze(1)  # (C, terms, batch, *grid)
    for mode, W in reversed(list(enumerate(factors))):
        z = z.movedim(mode + 3, 2)
        z = (W @ z.flatten(3)).unflatten(3, z.shape[3:]).movedim(2, mode + 3)
    return z.sum(1).transpose(0, 1)


def _balanced(factors):
    """Batches of HSS matrices, scaled such that the matrices of each term have equal norms."""
    norms = torch.stack([W.to_dense().flatten(1).norm(dim=1).double() for W in factors])
    # If a matrix is zero, the term is zero for any others.
    scales = torch.where((norms > 0).all(0), norms.clamp_min(1e-300).log().mean(0).exp() / norms, 1.0)
    # The diagonal blocks of all levels carry the size of a matrix.
    sized = ([D * c.to(D)[:, None, None, None] for D in W.D] for W, c in zip(factors, scales, strict=True))
    return [HSSMatrix(W.row_tree, W.col_tree, D, W.U, W.V) for W, D in zip(factors, sized, strict=True)]


class HSSMultilinear(nn.Module):
    """Linear layer for fields on an m-dimensional grid: a sum of products of HSS matrices (eq. 1 of the paper).

    H(Z) = sum_k Z ×_1 W_1⁽ᵏ⁾ ... ×_m W_m⁽ᵏ⁾, where ×_j applies a matrix along the j-th dimension of the grid.

    Parameters
    ----------
    in_shape : tuple of int
        Grid of the input; any number of dimensions, of any sizes.
    out_shape : tuple of int, default=None
        Grid of the output, with the same number of dimensions; `in_shape` if None.
    outer_rank : int, default=8
        Number of terms k.
    rank, levels : int or tuple of int, default=2, 2
        HSS rank of the factors and depth of their cluster trees, for all dimensions or for each one. The factors of a
        dimension with 0 levels are dense.
    channels : int, default=None
        Number of channels of the input, each of which has its own terms. None means that there is no channel axis.
    bias : bool, default=False
        Whether to add a learnable offset.
    recompute : bool, default=False
        Whether the backward pass recomputes the fields between the modes. The layer then stores only its input, instead
        of up to 1 + (m - 1) `outer_rank` fields of that size.
    contraction : {"auto", "dense", "hss"}, default="auto"
        "dense" forms all entries of the factors, then multiplies with them; "hss" multiplies with HSS matrices, which
        is faster if a dimension is large. "auto" compares the numbers of operations, weighted by their speed on a CPU.
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Attributes
    ----------
    modes : ModuleList
        Per dimension, the generators D, U, V of the factors, with leading dimensions ([channels,] outer_rank).
    bias : Parameter of shape ([channels,] \\*out_shape) or None

    Raises
    ------
    ValueError
        If `levels` is too deep for a dimension, `rank` exceeds its smallest leaf, or the shapes do not match.

    Notes
    -----
    Gradients of any order are supported. Under autocast, the layer computes in the type of its parameters.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import HSSMultilinear
    >>> layer = HSSMultilinear((64, 64), outer_rank=8, rank=2, levels=2)
    >>> layer(torch.zeros(5, 64, 64)).shape
    torch.Size([5, 64, 64])
    >>> sum(parameter.numel() for parameter in layer.parameters())
    21760
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int] | None = None,
        *,
        outer_rank: int = 8,
        rank: int | Sequence[int] = 2,
        levels: int | Sequence[int] = 2,
        channels: int | None = None,
        bias: bool = False,
        recompute: bool = False,
        contraction: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.out_shape = self.in_shape if out_shape is None else tuple(out_shape)
        m = len(self.in_shape)
        if not m or len(self.out_shape) != m:
            raise ValueError(
                f"out_shape={self.out_shape} must have the same number of dimensions as in_shape={self.in_shape}."
            )
        for name, value in (("outer_rank", outer_rank), ("channels", 1 if channels is None else channels)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if contraction not in ("auto", "dense", "hss"):
            raise ValueError(f'contraction={contraction!r} must be "auto", "dense" or "hss".')
        ranks, depths = per_mode("rank", rank, m), per_mode("levels", levels, m)
        for j, (n_in, n_out) in enumerate(zip(self.in_shape, self.out_shape, strict=True)):
            check_rank_and_levels(ranks[j], depths[j], **{f"in_shape[{j}]": n_in, f"out_shape[{j}]": n_out})
        self.outer_rank, self.rank, self.levels = outer_rank, rank, levels
        self.channels, self.recompute, self.contraction = channels, recompute, contraction
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        batch = (outer_rank,) if channels is None else (channels, outer_rank)
        self.modes = nn.ModuleList(
            HSSParameters(*sizes, batch, **factory)
            for sizes in zip(self.in_shape, self.out_shape, ranks, depths, strict=True)
        )
        self.bias = nn.Parameter(torch.empty(*batch[:-1], *self.out_shape, **factory)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw generators as :class:`HSSLinear` does, scaled to the variance of a single HSS matrix; the bias is zero.

        The entries of a product with an HSS matrix have about a third of the variance of the input, those of a sum over
        `outer_rank` products of m matrices would have ``outer_rank / 3**m`` of it.
        """
        m = len(self.modes)
        scale = (3 ** (m - 1) / self.outer_rank) ** (0.5 / m)
        for mode in self._modes():
            mode._draw(scale)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @torch.no_grad()
    def install(self, factors: Sequence[HSSMatrix]) -> None:
        """Set the layer to the map of given factors, truncated to its trees and ranks, and the bias to zero.

        Parameters
        ----------
        factors : sequence of HSSMatrix
            One batch of matrices per dimension, of batch shape (terms,) with at most `outer_rank` terms. All channels
            are set to the same map. The matrices of a term are scaled to equal norms, which does not change the map,
            and balances the effect of training steps. Unused terms are set to zero in the first dimension only, so that
            training can use them.

        Raises
        ------
        ValueError
            If there are too many terms or their shapes do not match.
        """
        wanted = list(zip(self.out_shape, self.in_shape, strict=True))
        shapes = [W.shape for W in factors]
        terms = {shape[:-2] for shape in shapes}
        if [shape[-2:] for shape in shapes] != wanted or len(terms) != 1 or len(*terms) != 1:
            raise ValueError(
                f"Factors of shapes {shapes} do not fit: they must be (terms, rows, columns), per dimension {wanted}."
            )
        ((n_terms,),) = terms
        if n_terms > self.outer_rank:
            raise ValueError(
                f"outer_rank={self.outer_rank} is too small for {n_terms} terms: it must be at least {n_terms}."
            )
        for mode, W in zip(self._modes(), _balanced(factors), strict=True):
            mode._write(W)
        for D in self._modes()[0].D:
            D[..., n_terms:, :, :, :] = 0
        if self.bias is not None:
            self.bias.zero_()

    def _modes(self) -> list[Any]:
        return list(self.modes)

    @property
    def factors(self) -> list[HSSMatrix]:
        """Factors W_j per dimension, as batches ([channels,] outer_rank) that share the parameters."""
        return [mode.weight for mode in self._modes()]

    @property
    def n_padding(self) -> int:
        """Number of parameter entries that only pad smaller leaves, which have neither effect nor gradient."""
        return sum(mode.n_padding for mode in self._modes())

    def _contraction(self, batch):
        """The contraction with the lowest cost per channel for a given number of samples."""
        if self.contraction != "auto":
            return self.contraction
        if not isinstance(batch, int):  # unknown in an export, where the factors are constants that are formed once
            batch = _MANY
        channels, dense, hss = self.channels or 1, 0.0, 0.0
        shape = [*self.in_shape]
        for j in reversed(range(len(shape))):
            n_in, n_out = shape[j], self.out_shape[j]
            n_fibres = batch * prod(shape) // n_in
            n_entries = self.outer_rank * n_in * n_out
            # In one dimension, the terms are summed before the product.
            dense += 2 * n_fibres * (n_entries if len(shape) > 1 else n_in * n_out) + _DENSE_ENTRY * n_entries
            n_generators = sum(W.numel() for W in self.modes[j].parameters()) / channels
            hss += n_fibres * (2 * _HSS_FLOP * n_generators + _HSS_MOVE * self.outer_rank * n_in)
            shape[j] = n_out
        return "dense" if dense <= hss else "hss"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to the last dimensions of `x`.

        Parameters
        ----------
        x : Tensor of shape (..., [channels,] \\*in_shape)
            Input fields.

        Returns
        -------
        Tensor of shape (..., [channels,] \\*out_shape)
            Output fields.
        """
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"HSSMultilinear takes a torch tensor, not {type(x).__name__}.")
        channels = () if self.channels is None else (self.channels,)
        wanted = (*channels, *self.in_shape)
        if x.shape[-len(wanted) :] != wanted:
            raise ValueError(
                f"Input of shape {tuple(x.shape)} does not fit HSSMultilinear(in_shape={self.in_shape}, "
                f"channels={self.channels}): its last dimensions must be {wanted}."
            )
        dtype = next(self.parameters()).dtype
        if torch.is_autocast_enabled(x.device.type):
            # Autocast does not affect the product, so everything is computed in the type of the parameters.
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x.to(dtype))
        fields = x.reshape(-1, *(channels or (1,)), *self.in_shape)
        factors, dense = self.factors, self._contraction(fields.shape[0]) == "dense"
        if torch.compiler.is_compiling():
            # An exported module accepts batches of any size, so nothing may depend on the size of this one.
            y = _mode_by_mode(fields, [W.to_dense() for W in factors] if dense else factors)
        elif dense:
            y = _dense_product(fields, factors, self.recompute)
        elif self.recompute and torch.is_grad_enabled():
            y = checkpoint(_mode_by_mode, fields, factors, use_reentrant=False, preserve_rng_state=False)
        else:
            y = _mode_by_mode(fields, factors)
        y = y.reshape(*x.shape[: x.ndim - len(wanted)], *channels, *self.out_shape)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Return the settings that ``repr`` shows."""
        return (
            f"in_shape={self.in_shape}, out_shape={self.out_shape}, outer_rank={self.outer_rank}, rank={self.rank}, "
            f"levels={self.levels}, channels={self.channels}, bias={self.bias is not None}, "
            f"recompute={self.recompute}, contraction={self.contraction!r}"
        )


def per_mode(name: str, value: int | Sequence[int], n_modes: int) -> tuple[int, ...]:
    """Expand a parameter, given for all dimensions of the grid or for each, to one value per dimension.

    Raises
    ------
    ValueError
        If the number of values is wrong.
    """
    values = tuple(value) if isinstance(value, Sequence) else (value,) * n_modes
    if len(values) != n_modes:
        raise ValueError(f"{name}={value!r} must be one number, or {n_modes} numbers for {n_modes} dimensions.")
    return values
