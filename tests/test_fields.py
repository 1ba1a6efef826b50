"""Grids, channels and the rows of numbers that scikit-learn knows."""

import re

import numpy as np
import pandas as pd
import pytest

from sklearn_hss._fields import (
    FieldShape,
    as_rows,
    check_grid_shape,
    check_same_fields,
    input_shape,
    output_shape,
)


@pytest.mark.parametrize(
    ("fields", "shape", "size", "is_flat"),
    [
        (FieldShape((7,)), (7,), 7, True),
        (FieldShape((7,), 1), (1, 7), 7, False),
        (FieldShape((3, 4)), (3, 4), 12, False),
        (FieldShape((3, 4), 2), (2, 3, 4), 24, False),
    ],
)
def test_field_shape(fields, shape, size, is_flat):
    assert (fields.shape, fields.size, fields.is_flat) == (shape, size, is_flat)


def test_rows_are_views():
    fields = np.arange(24.0).reshape(2, 3, 4)
    rows, shape = as_rows(fields)
    assert shape == (3, 4)
    assert np.shares_memory(rows, fields)
    np.testing.assert_array_equal(rows, [np.arange(12), np.arange(12, 24)])
    # C order, whatever the memory layout.
    np.testing.assert_array_equal(as_rows(np.asfortranarray(fields))[0], rows)
    rows, shape = as_rows(np.empty((0, 3, 4)))
    assert (rows.shape, shape) == ((0, 12), (3, 4))


@pytest.mark.parametrize("array", [np.zeros((2, 5)), np.zeros(5), pd.DataFrame(np.zeros((2, 5)))])
def test_rows_stay_as_they_are(array):
    rows, shape = as_rows(array)
    assert rows is array
    assert shape == array.shape[1:]


def test_rows_of_lists():
    rows, shape = as_rows([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert shape == (2, 2)
    np.testing.assert_array_equal(rows, [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert as_rows([[1, 2], [3, 4]])[1] == (2,)
    ragged = [[1, 2], [3]]
    assert as_rows(ragged) == (ragged, None)
    assert as_rows("text") == ("text", None)
    assert as_rows(None) == (None, None)
    assert as_rows(np.float64(3))[1] is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), (5, (5,)), (np.int64(5), (5,)), ((3, 4), (3, 4)), ([3, np.int32(4)], (3, 4)), ((1,), (1,))],
)
def test_grid_shape(given, expected):
    checked = check_grid_shape(given)
    assert checked == expected
    assert checked is None or all(type(n) is int for n in checked)


@pytest.mark.parametrize("given", [0, -3, (), [], (3, 0), (3, -1), (3.0, 4), (3, "4"), ("ab",), (None,), ((3, 4), 5)])
def test_wrong_grid_shapes(given):
    with pytest.raises(ValueError, match=re.escape(f"grid_shape={given!r} must be a positive integer or a tuple")):
        check_grid_shape(given)


@pytest.mark.parametrize(
    ("shape", "grid_shape", "expected"),
    [
        ((12,), None, FieldShape((12,))),
        ((3, 4), None, FieldShape((3, 4))),
        ((2, 3, 4), None, FieldShape((2, 3, 4))),
        ((3, 4), (3, 4), FieldShape((3, 4))),
        ((12,), (3, 4), FieldShape((3, 4))),
        ((24,), (3, 4), FieldShape((3, 4), 2)),
        ((1, 3, 4), (3, 4), FieldShape((3, 4), 1)),
        ((2, 3, 4), (3, 4), FieldShape((3, 4), 2)),
        ((12,), (12,), FieldShape((12,))),
        ((12,), (4,), FieldShape((4,), 3)),
        ((3, 4), (4,), FieldShape((4,), 3)),
    ],
)
def test_input_shape(shape, grid_shape, expected):
    assert input_shape(shape, grid_shape) == expected


@pytest.mark.parametrize(
    ("shape", "grid_shape"),
    [((4, 3), (3, 4)), ((13,), (3, 4)), ((2, 4, 3), (3, 4)), ((2, 2, 3, 4), (3, 4)), ((3, 4), (3,)), ((), (3, 4))],
)
def test_inputs_off_the_grid(shape, grid_shape):
    message = (
        f"X has fields of shape {shape}, which do not fit the grid {grid_shape}: pass an array of shape (n_samples, "
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        input_shape(shape, grid_shape)


@pytest.mark.parametrize(
    ("shape", "inputs", "grid_shape", "expected"),
    [
        # One dimension: any number of outputs, also one.
        ((12,), FieldShape((12,)), None, FieldShape((12,))),
        ((7,), FieldShape((12,)), None, FieldShape((7,))),
        ((), FieldShape((12,)), None, FieldShape((1,))),
        ((7,), FieldShape((12,)), (12,), FieldShape((7,))),
        ((24,), FieldShape((12,)), (12,), FieldShape((24,))),
        ((2, 12), FieldShape((12,)), (12,), FieldShape((12,), 2)),
        # One dimension, with channels.
        ((12,), FieldShape((12,), 2), (12,), FieldShape((12,))),
        ((3, 12), FieldShape((12,), 2), (12,), FieldShape((12,), 3)),
        ((7,), FieldShape((12,), 2), (12,), FieldShape((7,))),
        # Two dimensions.
        ((3, 4), FieldShape((3, 4)), None, FieldShape((3, 4))),
        ((5, 6), FieldShape((3, 4)), None, FieldShape((5, 6))),
        ((5, 6), FieldShape((3, 4)), (3, 4), FieldShape((5, 6))),
        ((12,), FieldShape((3, 4)), None, FieldShape((3, 4))),
        ((24,), FieldShape((3, 4)), None, FieldShape((3, 4), 2)),
        ((2, 3, 4), FieldShape((3, 4)), (3, 4), FieldShape((3, 4), 2)),
        ((1, 3, 4), FieldShape((3, 4), 2), (3, 4), FieldShape((3, 4), 1)),
    ],
)
def test_output_shape(shape, inputs, grid_shape, expected):
    assert output_shape(shape, inputs, grid_shape) == expected


@pytest.mark.parametrize(
    ("shape", "inputs"),
    [
        ((3, 4, 1), FieldShape((3, 4))),
        ((2, 4, 3), FieldShape((3, 4))),
        ((4,), FieldShape((3, 4))),
        ((3, 4), FieldShape((2, 3, 4))),
        ((2, 5), FieldShape((4,), 3)),
    ],
)
def test_outputs_off_the_grid(shape, inputs):
    with pytest.raises(ValueError, match=re.escape(f"y has fields of shape {shape}, which do not fit the grid")):
        output_shape(shape, inputs, inputs.grid)


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        (None, FieldShape((3, 4))),
        ((), FieldShape((3, 4))),
        ((12,), FieldShape((3, 4))),  # rows, whose number scikit-learn checks
        ((13,), FieldShape((3, 4))),
        ((3, 4), FieldShape((3, 4))),
        ((1, 3, 4), FieldShape((3, 4))),
        ((3, 4), FieldShape((3, 4), 1)),
        ((2, 3, 4), FieldShape((3, 4), 2)),
    ],
)
def test_same_fields(shape, seen):
    check_same_fields(shape, seen, "X")


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((4, 3), FieldShape((3, 4))),
        ((3, 4, 1), FieldShape((3, 4))),
        ((2, 3, 4), FieldShape((3, 4))),
        ((1, 3, 4), FieldShape((3, 4), 2)),
        ((2, 4, 3), FieldShape((3, 4), 2)),
        ((3, 4), FieldShape((12,))),
    ],
)
def test_other_fields(shape, seen):
    message = re.escape(f"X has fields of shape {shape}, but the fit was on fields of shape {seen.shape}.")
    with pytest.raises(ValueError, match=message):
        check_same_fields(shape, seen, "X")


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((4,), FieldShape((3, 4))),
        ((3, 4), FieldShape((3, 4), 2)),
        ((4,), FieldShape((4,), 2)),
        ((4,), FieldShape((3, 4), 2)),
    ],
)
def test_single_fields(shape, seen):
    """A field without the axis of samples looks like samples of its parts."""
    with pytest.raises(ValueError, match=r"a single field needs an axis of samples, X\[np.newaxis\]"):
        check_same_fields(shape, seen, "X")
