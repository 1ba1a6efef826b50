"""Fields on grids of any dimension, with channels or without, and the rows of numbers that scikit-learn knows."""

from dataclasses import dataclass
from math import prod
from numbers import Integral

import numpy as np


@dataclass(frozen=True)
class FieldShape:
    """Shape of one sample.

    Parameters
    ----------
    grid : tuple of int
        Numbers of points per dimension.
    n_channels : int or None
        None if the fields have no dimension of channels.
    """

    grid: tuple[int, ...]
    n_channels: int | None = None

    @property
    def shape(self):
        """Dimensions of a field: ([n_channels,] *grid)."""
        return self.grid if self.n_channels is None else (self.n_channels, *self.grid)

    @property
    def size(self):
        """Number of values of a field."""
        return prod(self.shape)

    @property
    def is_flat(self):
        """Whether a field is one row of numbers."""
        return len(self.shape) == 1


def as_rows(fields):
    """Fields of several dimensions as rows, a view; anything else is left for scikit-learn to judge.

    Returns
    -------
    rows : array-like
    shape : tuple of int or None
        Shape of one field, None if it is not known yet.
    """
    if isinstance(fields, list | tuple):
        try:
            fields = np.asarray(fields)
        except ValueError:  # ragged, which scikit-learn explains
            return fields, None
    shape = getattr(fields, "shape", None)
    if shape is None or len(shape) < 3:
        return fields, None if shape is None or len(shape) < 1 else tuple(shape[1:])
    return fields.reshape(len(fields), prod(shape[1:])), tuple(shape[1:])


def check_grid_shape(grid_shape):
    """Tuple of the `grid_shape` parameter.

    Raises
    ------
    ValueError
        If it is not one or several positive integers.
    """
    if grid_shape is None:
        return None
    sizes = (grid_shape,) if isinstance(grid_shape, Integral) else tuple(grid_shape)
    if not sizes or any(not isinstance(n, Integral) or n < 1 for n in sizes):
        raise ValueError(f"grid_shape={grid_shape!r} must be a positive integer or a tuple of these, such as (64, 64).")
    return tuple(int(n) for n in sizes)


def input_shape(shape, grid_shape):
    """Grid and channels of the inputs.

    Parameters
    ----------
    shape : tuple of int
        Shape of one input as it was given.
    grid_shape : tuple of int or None
        None: the whole shape is the grid.

    Returns
    -------
    FieldShape

    Raises
    ------
    ValueError
        If the two do not fit.
    """
    return FieldShape(shape) if grid_shape is None else _on_grid(shape, grid_shape, "X")


def output_shape(shape, inputs, grid_shape):
    """Grid and channels of the outputs: the grid of the inputs, unless these have a grid of another size.

    Parameters
    ----------
    shape : tuple of int
        Shape of one output as it was given.
    inputs : FieldShape
    grid_shape : tuple of int or None

    Returns
    -------
    FieldShape

    Raises
    ------
    ValueError
        If the outputs are no fields of as many dimensions as the inputs.
    """
    n_modes = len(inputs.grid)
    if len(shape) < 2 and n_modes == 1 and (inputs.n_channels is None or prod(shape) % inputs.grid[0]):
        return FieldShape((prod(shape),))
    if len(shape) == n_modes > 1 and (grid_shape is None or shape != grid_shape):
        return FieldShape(shape)
    return _on_grid(shape, inputs.grid, "y")


def _on_grid(shape, grid, name):
    if shape == grid:
        return FieldShape(grid)
    if len(shape) == len(grid) + 1 and shape[1:] == grid:
        return FieldShape(grid, shape[0])
    if len(shape) == 1 and shape[0] % prod(grid) == 0:
        n_channels = shape[0] // prod(grid)
        return FieldShape(grid, None if n_channels == 1 else n_channels)
    sizes = ", ".join(map(str, grid))
    raise ValueError(
        f"{name} has fields of shape {shape}, which do not fit the grid {grid}: give (n_samples, {sizes}) or "
        f"(n_samples, n_channels, {sizes}), as they are or flattened to (n_samples, n_points), with "
        f"grid_shape={grid}."
    )


def check_same_fields(shape, seen, name):
    """Refuse fields of another shape than in `fit`, unless they are flattened.

    Raises
    ------
    ValueError
        Names both shapes.
    """
    if shape is None or len(shape) < 2 or shape == seen.shape or (seen.n_channels in (None, 1) and shape == seen.grid):
        return
    if shape != (1, *seen.grid) or seen.n_channels is not None:
        raise ValueError(f"{name} has fields of shape {shape}, but the fit was on fields of shape {seen.shape}.")
