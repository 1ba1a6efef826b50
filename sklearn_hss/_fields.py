"""Conversion between fields on grids of any dimension, with optional channels and masks, and scikit-learn's 2-D arrays.

The rows of these arrays are the fields, flattened in C order.
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import _check_sample_weight

from ._containers import Rows, as_plain, blocks, refuse_complex, select
from ._warnings import warn_user
from .exceptions import DataWarning

# A vector of numbers that belongs to a field has fewer entries than this fraction of its points. A longer one is taken
# for a field on a grid of another size, which must be given as an array of that shape.
_VECTOR = 0.25
# A last axis of at most this many entries, after longer ones, looks like channels.
_FEW_CHANNELS = 4


@dataclass(frozen=True)
class FieldShape:
    """Shape of one sample.

    Parameters
    ----------
    grid : tuple of int
        Numbers of points per dimension.
    n_channels : int or None
        None if the fields have no channel axis.
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


def as_rows(fields, name="X"):
    """Reshape fields of several dimensions to rows, as a view; anything else is left to scikit-learn's validation.

    Parameters
    ----------
    fields : array-like
        Anything that :func:`as_plain` reads, or Rows, which are returned unchanged.
    name : str, default="X"
        Name for messages.

    Returns
    -------
    rows : array-like
    shape : tuple of int or None
        Shape of one field, None if it is not known yet.

    Raises
    ------
    ValueError
        As :func:`as_plain`.
    """
    if isinstance(fields, Rows):
        return fields, fields.field_shape
    fields = as_plain(fields, name)
    if isinstance(fields, list | tuple):
        try:
            fields = np.asarray(fields)
        except ValueError:  # ragged, which scikit-learn explains
            return fields, None
    refuse_complex(fields, name)
    shape = getattr(fields, "shape", None)
    if shape is None or len(shape) < 3:
        return fields, None if shape is None or len(shape) < 1 else tuple(shape[1:])
    return fields.reshape(len(fields), prod(shape[1:])), tuple(shape[1:])


def check_grid_shape(grid_shape):
    """Validate the `grid_shape` parameter and return it as a tuple, or None.

    Raises
    ------
    ValueError
        If it is not one or several positive integers.
    """
    if grid_shape is None:
        return None
    sizes = (grid_shape,) if isinstance(grid_shape, Integral) else tuple(grid_shape)
    if not sizes or any(not isinstance(n, Integral) or isinstance(n, bool | np.bool_) or n < 1 for n in sizes):
        raise ValueError(f"grid_shape={grid_shape!r} must be a positive integer or a tuple of these, such as (64, 64).")
    return tuple(int(n) for n in sizes)


def check_spacing(spacing, grid):
    """Validate the `spacing` parameter and return the distance between neighbouring points along every axis.

    Raises
    ------
    ValueError
        If it is neither a positive number nor one for each axis.
    """
    each = tuple(spacing) if isinstance(spacing, tuple | list) else (spacing,) * len(grid)
    if len(each) != len(grid) or not all(isinstance(h, Real) and 0 < float(h) < float("inf") for h in each):
        raise ValueError(
            f"spacing={spacing!r} must be a positive number, or one for each of the axes of the grid {grid}."
        )
    return tuple(map(float, each))


def input_shape(shape, grid_shape):
    """Grid and channels of the inputs.

    Parameters
    ----------
    shape : tuple of int
        Shape of one input as passed by the user.
    grid_shape : tuple of int or None
        If None, the whole shape is the grid.

    Returns
    -------
    FieldShape

    Raises
    ------
    ValueError
        If the two do not fit.
    """
    return FieldShape(shape) if grid_shape is None else on_grid(shape, grid_shape, "X")


def warn_of_channels_last(shape, grid_shape):
    """Warn the user if the last axis of a field looks like channels."""
    if grid_shape is None and len(shape) > 1 and shape[-1] <= _FEW_CHANNELS < min(shape[:-1]):
        warn_user(
            f"X has fields of shape {shape}, which are taken for a grid of {len(shape)} dimensions. If the last axis "
            f"contains channels, pass np.moveaxis(X, -1, 1) and grid_shape={shape[:-1]}.",
            DataWarning,
        )


def output_shape(shape, inputs, grid_shape):
    """Grid and channels of the outputs: the grid of the inputs, unless these have a grid of another size.

    A single number or a vector that belongs to a field of several dimensions is treated as a grid with one long side.

    Parameters
    ----------
    shape : tuple of int
        Shape of one output as passed by the user.
    inputs : FieldShape
    grid_shape : tuple of int or None

    Returns
    -------
    FieldShape

    Raises
    ------
    ValueError
        If the outputs are not fields with the same number of dimensions as the inputs.
    """
    n_modes = len(inputs.grid)
    if len(shape) < 2 and n_modes == 1 and (inputs.n_channels is None or prod(shape) % inputs.grid[0]):
        return FieldShape((prod(shape),))
    if n_modes > 1 and len(shape) < 2 and (not shape or prod(shape) < _VECTOR * prod(inputs.grid)):
        return FieldShape((prod(shape), *[1] * (n_modes - 1)))
    if len(shape) == n_modes > 1 and (grid_shape is None or shape != grid_shape):
        return FieldShape(shape)
    return on_grid(shape, inputs.grid, "y")


def on_grid(shape, grid, name):
    """Channels of fields of a given shape on a grid.

    Raises
    ------
    ValueError
        If they are on another grid; the message states where the channels belong.
    """
    if shape == grid:
        return FieldShape(grid)
    if len(shape) == len(grid) + 1 and shape[1:] == grid:
        return FieldShape(grid, shape[0])
    if len(shape) == 1 and shape[0] % prod(grid) == 0:
        n_channels = shape[0] // prod(grid)
        return FieldShape(grid, None if n_channels == 1 else n_channels)
    hint = f" Channels come before the grid: np.moveaxis({name}, -1, 1)." if shape[:-1] == grid else ""
    sizes = ", ".join(map(str, grid))
    raise ValueError(
        f"{name} has fields of shape {shape}, which do not fit the grid {grid}: pass an array of shape "
        f"(n_samples, {sizes}) or (n_samples, n_channels, {sizes}), or the same flattened to (n_samples, n_points) "
        f"with grid_shape={grid}.{hint}"
    )


def check_same_fields(shape, seen, name):
    """Reject fields whose shape differs from that in `fit`, unless they are flattened.

    Raises
    ------
    ValueError
        If the shapes differ; the message names both.
    """
    if shape is None or shape == seen.shape or (seen.n_channels in (None, 1) and shape == seen.grid):
        return
    # A single field of several dimensions looks like samples of its parts.
    single = bool(shape) and shape in (seen.shape[1:], seen.grid[1:])
    if (len(shape) < 2 and not single) or (seen.n_channels is None and shape == (1, *seen.grid)):
        return
    hint = f"; a single field needs an axis of samples, {name}[np.newaxis]" if single else ""
    raise ValueError(f"{name} has fields of shape {shape}, but the fit was on fields of shape {seen.shape}{hint}.")


def rounding_unit(*arrays):
    """Largest machine epsilon among the arrays, in the types in which they were given."""
    arrays = tuple(array.source if isinstance(array, Rows) else array for array in arrays)
    # The columns of a data frame have individual types; the one that counts is that of the resulting array.
    kinds = [
        np.asarray(array[:0]).dtype if hasattr(array, "columns") else getattr(array, "dtype", np.dtype(np.float64))
        for array in arrays
    ]
    kinds = [kind if isinstance(kind, np.dtype) else np.dtype(np.float64) for kind in kinds]
    return max(float(np.finfo(kind if kind.kind == "f" else np.float64).eps) for kind in kinds)


@dataclass(frozen=True)
class Domain:
    """Values of the fields that are data, and the values to insert elsewhere.

    Attributes
    ----------
    inputs, outputs : ndarray of bool, of shape (n_values,), or None
        Values of a flat input and of a flat output inside the domain; None if all are.
    blank : ndarray of bool, of shape (n_outputs,), or None
        Outputs that are NaN in all training samples, and hence in predictions.
    """

    inputs: np.ndarray | None = None
    outputs: np.ndarray | None = None
    blank: np.ndarray | None = None

    def fill_inputs(self, rows):
        """Rows of inputs with zeros outside."""
        return fill_outside(rows, self.inputs)

    def fill_outputs(self, rows):
        """Rows of outputs with zeros outside."""
        return fill_outside(rows, self.outputs)

    def fill(self, X, y, mask):
        """Inputs and outputs with zeros outside; NaN inside raises an error that refers to the `mask` parameter."""
        X, y = self.fill_inputs(X), self.fill_outputs(y)
        refuse_nan(X, "X", mask)
        refuse_nan(y, "y", mask)
        return X, y

    def finish(self, predictions):
        """Set predictions outside of the domain to zero or NaN, in place."""
        if self.outputs is not None:
            predictions[:, ~self.outputs] = 0
        if self.blank is not None:
            predictions[:, self.blank] = np.nan
        return predictions


def fill_outside(rows, inside):
    """Rows with zeros where they are not `inside`, and unchanged if that is None; data frames keep their names."""
    if inside is None or issparse(rows) or np.shape(rows)[-1:] != inside.shape:
        return rows  # scikit-learn's validation reports these
    if isinstance(rows, Rows):
        return rows.then(partial(fill_outside, inside=inside))
    filled = np.where(inside, np.asarray(rows), np.zeros((), np.asarray(rows).dtype))
    if hasattr(rows, "iloc"):  # names of the columns must survive
        return type(rows)(filled, index=rows.index, columns=rows.columns)
    return filled


def check_mask(mask):
    """Validate the `mask` parameter and return None, "auto" or a boolean array.

    Raises
    ------
    ValueError
        If it is anything else, or contains no point.
    """
    if mask is None or (isinstance(mask, str) and mask == "auto"):
        return mask
    mask = np.asarray(as_plain(mask, "mask"))
    if mask.dtype != bool or mask.ndim < 1 or not mask.any():
        raise ValueError(
            f"mask has dtype {mask.dtype} and {np.count_nonzero(mask)} points; it must be boolean and not empty."
        )
    return mask


def masked_grid(mask, grid_shape, shape):
    """Grid of the inputs: `grid_shape`, or otherwise the shape of the mask if fields of the given shape match it.

    Raises
    ------
    ValueError
        If mask and `grid_shape` have the same number of points, but different shapes.
    """
    if not isinstance(mask, np.ndarray) or shape is None:
        return grid_shape
    if grid_shape is None:
        # Flat fields of one dimension have no channels without a grid_shape.
        flat = len(shape) == 1 and mask.ndim > 1 and shape[0] % mask.size == 0
        fits = mask.shape in (shape, shape[1:]) or flat
        return mask.shape if fits else None
    if mask.size == prod(grid_shape) and mask.shape != grid_shape:
        raise ValueError(f"mask has shape {mask.shape} and grid_shape is {grid_shape}; they must be equal.")
    return grid_shape


def inside_domain(mask, X, y, shapes, grid_shape, sample_weight=None):
    """Inputs and outputs with zeros outside of the domain, and the domain; NaN inside raises an error.

    Parameters
    ----------
    mask : None, "auto" or ndarray of bool
    X, y : array-like
        Rows, or anything that scikit-learn has yet to validate.
    shapes : pair of tuples of int or None
        Shapes of an input and of an output, as from :func:`as_rows`.
    grid_shape : tuple of int or None
    sample_weight : array-like of shape (n_samples,), default=None
        Samples of weight zero are ignored when the domain is determined.

    Returns
    -------
    X, y : array-like
    domain : Domain

    Raises
    ------
    ValueError
        For NaN, or a mask on another grid.
    """
    domain = Domain()
    if mask is not None and None not in shapes:
        inputs = input_shape(shapes[0], grid_shape)
        kept = np.ones(np.shape(X)[0], bool) if sample_weight is None else np.ravel(sample_weight) != 0
        some, of_some = (
            select(rows if isinstance(rows, Rows) else np.asarray(rows), kept)
            if np.shape(rows)[:1] == kept.shape and not kept.all() and kept.any()
            else rows
            for rows in (X, y)
        )
        domain = find_domain(mask, some, of_some, inputs, output_shape(shapes[1], inputs, grid_shape))
    return (*domain.fill(X, y, mask), domain)


def find_domain(mask, X, y, inputs, outputs):
    """Values of inputs and outputs that are data.

    Parameters
    ----------
    mask : None, "auto" or ndarray of bool
        A mask applies to the fields that are on its grid, in every channel. "auto" excludes inputs that are NaN, and
        outputs that are zero or NaN, in all samples.
    X, y : array-like of shape (n_samples, n_values)
    inputs, outputs : FieldShape

    Returns
    -------
    Domain

    Raises
    ------
    ValueError
        If the mask matches neither.
    """
    if mask is None or issparse(X) or issparse(y):  # scikit-learn rejects sparse data
        return Domain()
    X, y = (rows if isinstance(rows, Rows) else np.asarray(rows).reshape(len(rows), -1) for rows in (X, y))
    empty = [_throughout(_is_nan, rows) for rows in (X, y)]
    if isinstance(mask, str):
        kept = [~empty[0], ~_throughout(lambda values: _is_nan(values) | (values == 0), y)]
        if not kept[1].any():
            kept[1] = ~empty[1]  # fields that are zero everywhere do not determine a domain
    else:
        kept = [np.tile(mask.ravel(), f.n_channels or 1) if f.grid == mask.shape else None for f in (inputs, outputs)]
        if kept[0] is None and kept[1] is None:
            raise ValueError(
                f"mask has shape {mask.shape}, but the fields are on the grid {outputs.grid}; mask must have the shape "
                "of the grid."
            )
    blank = empty[1] & ~kept[1] if kept[1] is not None else np.zeros(1, bool)
    inner, outer = (None if inside is None or inside.all() else inside for inside in kept)
    return Domain(inner, outer, blank if blank.any() else None)


def _throughout(holds, rows):
    """At which values something holds in all samples, of which no more are read than it takes."""
    found = np.ones(rows.shape[1], bool)
    for part in blocks(rows):
        found &= holds(rows[part]).all(axis=0)
        if not found.any():
            break
    return found


def _is_nan(values):
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)


def refuse_nan(rows, name, mask):
    """Raise an error for NaN among the data, and suggest a remedy.

    Raises
    ------
    ValueError
        If there are any; the message states the numbers of values and samples concerned.
    """
    if not hasattr(rows, "shape") or len(rows.shape) not in (1, 2) or hasattr(rows, "tocsr") or isinstance(rows, Rows):
        return
    values = np.asarray(rows)
    if values.dtype.kind != "f" or not values.size:
        return
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum()):
            return
    nan = np.isnan(values.reshape(len(values), -1))
    if nan.any():
        points, samples = (f"{nan.any(axis).sum()} of {n}" for axis, n in zip((0, 1), nan.shape[::-1], strict=True))
        where = f"Input {name} contains NaN at {points} values in {samples} samples"
        if mask is None:
            raise ValueError(
                f"{where}; if these lie outside of the domain, pass mask= (a boolean grid, True inside) or mask='auto'."
            )
        if isinstance(mask, str):
            raise ValueError(
                f"{where}, first in sample {nan.any(axis=1).argmax()}, but not in all training samples, so mask='auto' "
                "treats them as data; fill them, leave out these samples, or pass mask= as a boolean grid."
            )
        raise ValueError(f"{where}, inside of the mask; fill them, or exclude these points from the mask.")


def domain_mask(domain, outputs):
    """Points inside the domain in any output channel, of shape (\\*grid); None if all are."""
    return None if domain.outputs is None else domain.outputs.reshape(-1, *outputs.grid).any(axis=0)


def check_weight(sample_weight, X, dtype=np.float64):
    """Validate the weights of the samples, which must be non-negative and not all zero.

    Raises
    ------
    ValueError
        If they are not.
    """
    weight = _check_sample_weight(as_plain(sample_weight, "sample_weight"), X, dtype=dtype, ensure_non_negative=True)
    if not weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weight
