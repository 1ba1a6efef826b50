"""Maps of low rank between fields."""

import torch

from ._checks import check_parts
from ._linear_map import LinearMap


class LowRankOperator(LinearMap):
    """Map of low rank between fields, such as ridge regression on few samples.

    Parameters
    ----------
    outputs, inputs : Tensors of shape (rank, \\*grid_out) and (rank, \\*grid_in)
        Fields: a field is mapped to the sum of `outputs` times its inner products with `inputs`.

    Attributes
    ----------
    outputs, inputs
        The same.
    grid_in, grid_out, shape, structure, n_parameters, dtype, device, T
        As for every :class:`LinearMap`.

    Raises
    ------
    ValueError, TypeError
        If the numbers of outputs and inputs differ, or they do not have the same type, float32 or float64, and device.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import LowRankOperator
    >>> mean = LowRankOperator(torch.ones(1, 4, 4), torch.full((1, 4, 4), 1 / 16))
    >>> mean.apply(torch.arange(16.0).view(4, 4))[0, 0]
    tensor(7.5000)
    """

    _parts = ("outputs", "inputs")

    def __init__(self, outputs: torch.Tensor, inputs: torch.Tensor) -> None:
        check_parts((outputs, inputs), "Outputs and inputs of a LowRankOperator")
        if len(outputs) != len(inputs):
            raise ValueError(f"There are {len(outputs)} outputs and {len(inputs)} inputs; these numbers must be equal.")
        self.outputs, self.inputs = outputs, inputs
        self.grid_out, self.grid_in = tuple(outputs.shape[1:]), tuple(inputs.shape[1:])

    def __repr__(self) -> str:
        return f"LowRankOperator(grid_in={self.grid_in}, grid_out={self.grid_out}, rank={len(self.outputs)})"

    def _apply(self, Z):
        coefficients = Z.flatten(-len(self.grid_in)) @ self.inputs.flatten(1).mT
        return (coefficients @ self.outputs.flatten(1)).unflatten(-1, self.grid_out)

    def _in_channel_units(self, rows, columns):
        outputs, inputs = (
            torch.einsum("c,kc...->kc...", factor, fields)
            for factor, fields in ((rows, self.outputs), (columns, self.inputs))
        )
        return LowRankOperator(outputs, inputs)

    def _transposed(self):
        return LowRankOperator(self.inputs, self.outputs)

    def _scaled(self, c):
        return LowRankOperator(c * self.outputs, self.inputs)
