"""Products of maps of any kind."""

from collections.abc import Sequence

from ._checks import check_parts
from ._linear_map import LinearMap


class OperatorProduct(LinearMap):
    """Product A B ... of maps, the last of which is applied first.

    Parameters
    ----------
    factors : sequence of LinearMap
        One or more maps, each between the grids of its neighbours. Batches of HSS matrices are not supported.

    Attributes
    ----------
    factors : tuple of LinearMap
        The same.
    grid_in, grid_out, shape, structure, n_parameters, dtype, device, T
        As for every :class:`LinearMap`.

    Raises
    ------
    ValueError, TypeError
        If there are no factors, their grids do not match, or their types or devices differ.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import LowRankOperator, OperatorProduct
    >>> mean = LowRankOperator(torch.ones(1, 4, 4), torch.full((1, 4, 4), 1 / 16))
    >>> OperatorProduct([2 * mean, mean]).apply(torch.ones(4, 4))[0, 0]
    tensor(2.)
    """

    _parts = ("factors",)

    def __init__(self, factors: Sequence[LinearMap]) -> None:
        self.factors = tuple(factors)
        if not self.factors:
            raise ValueError("factors must hold at least one map.")
        check_parts(self.factors, "The factors of an OperatorProduct")
        for left, right in zip(self.factors, self.factors[1:], strict=False):
            if left.grid_in != right.grid_out:
                raise ValueError(
                    f"A factor that takes fields on the grid {left.grid_in} does not match the next one, which gives "
                    f"fields on {right.grid_out}."
                )
        self.grid_in, self.grid_out = self.factors[-1].grid_in, self.factors[0].grid_out

    def __repr__(self) -> str:
        return f"OperatorProduct([{', '.join(map(repr, self.factors))}])"

    def _apply(self, Z):
        for factor in reversed(self.factors):
            Z = factor._apply(Z)
        return Z

    def _in_channel_units(self, rows, columns):
        first, *others = self.factors
        if not others:
            return OperatorProduct([first.in_channel_units(rows, columns)])
        *inner, last = others
        one = rows.new_ones
        first = first.in_channel_units(rows, one(first.grid_in[0]))
        return OperatorProduct([first, *inner, last.in_channel_units(one(last.grid_out[0]), columns)])

    def _transposed(self):
        return OperatorProduct([factor.T for factor in reversed(self.factors)])

    def _scaled(self, c):
        return OperatorProduct([c * self.factors[0], *self.factors[1:]])
