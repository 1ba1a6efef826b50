"""Scaling of fields before they are learned from, as in section 3.2 of the Neural-HSS paper."""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils import assert_all_finite, check_array, gen_batches
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_n_features, check_is_fitted, validate_data

from ._containers import LazyFields, Rows, as_lazy, checked, head, select
from ._fields import (
    FieldShape,
    as_rows,
    check_grid_shape,
    check_mask,
    check_same_fields,
    check_weight,
    fill_outside,
    find_domain,
    input_shape,
    masked_grid,
    refuse_nan,
)
from ._parameters import Count, unchanged_on_error

__all__ = ["FieldScaler"]

_CHECKS: dict = {"dtype": [np.float64, np.float32], "order": "C"}
# Numbers that are worked on at a time, in float64: few enough for the cache, so that no second copy of large data is
# ever held.
_BATCH = 2**18


def _batches(X, fields):
    """Rows of X, a batch at a time, and views of them as (n_samples, n_channels, n_points)."""
    for batch in gen_batches(len(X), max(1, _BATCH // fields.size)):
        rows = X[batch]
        yield batch, rows.reshape(len(rows), fields.n_channels or 1, -1)


def _measure(values, weight):
    """Total weight, smallest and largest value, mean and standard deviation, the last four for each scale.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_scales, n_values)
    weight : ndarray of shape (n_samples,)
    """
    low, high = values.min(axis=(0, 2)), values.max(axis=(0, 2))
    # In units of about the largest magnitude, as squares of very large or small values would leave the range of the
    # type. A power of two makes the division exact.
    unit = np.ldexp(1.0, np.frexp(_largest(low, high))[1] - 1)
    values = values / unit[:, None]
    mean = np.average(values.mean(axis=2), axis=0, weights=weight)
    variance = np.average(np.square(values - mean[:, None]).mean(axis=2), axis=0, weights=weight)
    return weight.sum(), low, high, unit * mean, unit * np.sqrt(variance)


def _merge(first, second):
    """Statistics of two sets of samples together, without the cancellation and overflow of sums of squares."""
    weight_1, low_1, high_1, mean_1, std_1 = first
    weight_2, low_2, high_2, mean_2, std_2 = second
    weight = weight_1 + weight_2
    p, q, difference = weight_1 / weight, weight_2 / weight, mean_2 - mean_1
    mean = mean_1 + q * difference
    std = np.hypot(np.hypot(np.sqrt(p) * std_1, np.sqrt(q) * std_2), np.sqrt(p * q) * difference)
    return weight, np.minimum(low_1, low_2), np.maximum(high_1, high_2), mean, std


def _largest(low, high):
    return np.maximum(np.abs(low), np.abs(high))


def _center_and_scale(statistics, method, eps):
    """What to subtract and what to divide by; 1 instead of 0, and instead of the rounding errors of a constant."""
    _, low, high, mean, std = statistics
    largest = _largest(low, high)
    if method == "max":
        return np.zeros_like(mean), np.where(largest == 0, 1.0, largest)
    constant = (high - low <= 2 * eps * largest) | (std == 0)
    return mean, np.where(constant, 1.0, std)


def _values(points, fields):
    """Which values of a flat field belong to the points that count; None if all do."""
    return np.tile(points, fields.n_channels or 1) if isinstance(points, np.ndarray) else None


@dataclass(frozen=True)
class _Scaling:
    """The scaling of a fit, or its inverse, for rows that are read later."""

    fields: FieldShape
    points: slice | np.ndarray
    center: np.ndarray
    scale: np.ndarray
    inverse: bool = False

    def __call__(self, rows):
        if not self.inverse:
            assert_all_finite(fill_outside(rows, _values(self.points, self.fields)), input_name="X")
        return self.apply(np.array(rows))

    def apply(self, rows):
        """Scale C-contiguous rows in place."""
        for _, values in _batches(rows, self.fields):
            # In float64, as a large mean rounded to float32 would be off by much of the standard deviation.
            inside = values[..., self.points].astype(np.float64, copy=False)
            center, scale = self.center[:, None], self.scale[:, None]
            values[..., self.points] = inside * scale + center if self.inverse else (inside - center) / scale
        return rows


class FieldScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Scale fields as a whole, with one scale for all points of the grid.

    The points of a field are values of one function, so they share one scale, unlike the columns of
    :class:`sklearn.preprocessing.StandardScaler`, which would change the operator between two fields. Channels may be
    different quantities, so each has its own. Fields come back in the shape and the floating-point type that they were
    given in.

    Parameters
    ----------
    method : {"max", "standard"}, default="max"
        - "max": division by the largest magnitude in the training data. Zero stays zero, and linear maps stay linear.
        - "standard": the Z-score, minus the mean and divided by the standard deviation over samples and grid, which the
          paper uses for the Navier-Stokes equations.
    per_channel : bool, default=True
        Whether each channel has its own scale, or all share one.
    mask : array-like of bool and shape (\\*grid), "auto" or None, default=None
        Points that count, such as those of a domain that is not a box. The others have no part in the scale, and both
        directions leave them as they are, so that zeros and NaN outside of the domain stay what they are. It applies to
        every channel. "auto" takes the points where the training fields are neither zero nor NaN in all samples.
    grid_shape : int or tuple of int, default=None
        Grid of the fields, such as ``(64, 64)``, which tells channels from points: needed where there are channels. If
        None, it is the shape of the mask; without one, all dimensions of `X` but the first.
    copy : bool, default=True
        Whether to leave the given array alone. False scales in place where `X` is a writeable C-contiguous array of
        floats.

    Attributes
    ----------
    scale_ : ndarray of shape (n_channels,) or (1,)
        What fields are divided by, one number for each channel if there are channels and `per_channel`. It is 1 for a
        channel that is zero throughout, and with "standard" for a constant one, which becomes zero.
    center_ : ndarray of shape (n_channels,) or (1,)
        What is subtracted before that: the mean, and zero with "max".
    grid_shape_ : tuple of int
        Grid of the fields.
    n_features_in_ : int
        Number of values of a field.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the values, where `X` had string column names.

    See Also
    --------
    sklearn.preprocessing.StandardScaler : A scale for every column.

    Notes
    -----
    The neural regressors of this package divide inputs and targets by their largest magnitude themselves (their
    parameter ``scale``), channel by channel. This class is for other models, and for Z-scores.

    As a step of a :class:`sklearn.pipeline.Pipeline` it scales the inputs. For the targets, wrap the regressor in
    :class:`sklearn.compose.TransformedTargetRegressor` with ``transformer=FieldScaler()``:

    - Targets may be flat, or on a grid where the regressor takes these. Its ``score`` takes flat ones only; on a grid,
      use ``scoring=relative_l2_scorer``.
    - It hands no ``sample_weight`` to the scaler.
    - It warns that the scaler has no inverse where zeros come back as rounding errors, as they do with "standard" in
      float32. ``check_inverse=False`` spares that.

    With :class:`sklearn_hss.RolloutRegressor` it goes inside, where it gets states:
    ``RolloutRegressor(make_pipeline(FieldScaler(), model))``. A pipeline around would give it whole trajectories, whose
    times it takes for channels or for points.

    ``set_output`` applies to flat fields: a data frame holds no grid.

    Large memory-mapped arrays, and h5py, zarr and dask arrays, are read in parts. They come back as arrays that scale
    what is read of them when it is read: slices and :func:`numpy.asarray` give NumPy arrays, and selections of samples
    by arrays of indices, such as those of cross-validation, are not read. NaN and infinities are refused then, too.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_hss import FieldScaler
    >>> fields = np.random.default_rng(0).normal(loc=[[[5]], [[100]]], scale=[[[1]], [[10]]], size=(10, 2, 16, 16))
    >>> scaler = FieldScaler(method="standard", grid_shape=(16, 16)).fit(fields)
    >>> scaler.center_.round(), scaler.scale_.round()
    (array([  5., 100.]), array([ 1., 10.]))
    >>> scaled = scaler.transform(fields)
    >>> scaled.shape
    (10, 2, 16, 16)
    >>> np.allclose(scaler.inverse_transform(scaled), fields)
    True
    """

    scale_: np.ndarray
    _fields: FieldShape
    _points: slice | np.ndarray
    _statistics: tuple

    _parameter_constraints: dict = {
        "method": [StrOptions({"max", "standard"})],
        "per_channel": ["boolean"],
        "mask": ["array-like", StrOptions({"auto"}), None],
        "grid_shape": [tuple, list, Count(1), None],
        "copy": ["boolean"],
    }

    def __init__(self, method="max", *, per_channel=True, mask=None, grid_shape=None, copy=True):
        self.method = method
        self.per_channel = per_channel
        self.mask = mask
        self.grid_shape = grid_shape
        self.copy = copy

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Compute the scales.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Training fields. Flat ones with channels have one channel after the other.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in mean and standard deviation. Samples of weight zero do not count at all.

        Returns
        -------
        object
            This scaler, fitted.

        Raises
        ------
        ValueError
            For data or parameters that cannot be used; an earlier fit then stays as it was.
        """
        with unchanged_on_error(self):
            return self._learn(X, sample_weight, restart=True)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Update the scales with more samples, as if all had been given to `fit` at once.

        The first call decides about grid, mask and channels.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Further training fields.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of these samples.

        Returns
        -------
        object
            This scaler, fitted.

        Raises
        ------
        ValueError
            For data or parameters that cannot be used, such as fields on another grid.
        """
        with unchanged_on_error(self):
            return self._learn(X, sample_weight, restart=not hasattr(self, "scale_"))

    def _learn(self, X, sample_weight, restart):
        rows, shape = as_rows(as_lazy(X, "X"))
        mask = check_mask(self.mask)
        if restart:
            # Objects that do not tell their shape are read at once.
            shape = shape or np.asarray(check_array(rows, **_CHECKS, input_name="X", estimator=self)).shape[1:]
            fields, points = self._check_grid(mask, rows, shape)
            n_scales = (fields.n_channels or 1) if self.per_channel else 1
        else:
            fields, points, n_scales = self._fields, self._points, len(self.scale_)
            check_same_fields(shape, fields, "X")
        rows = fill_outside(rows, _values(points, fields))
        refuse_nan(rows, "X", mask)
        X = checked(rows, check_array(head(rows), **_CHECKS, input_name="X", estimator=self))
        weight = check_weight(sample_weight, X)
        validate_data(self, head(rows), reset=restart, skip_check_array=True)

        kept = weight > 0
        if not kept.all():
            X, weight = select(X, kept), weight[kept]
        found = [] if restart else [self._statistics]
        for batch, values in _batches(X, fields):
            inside = values[..., points].reshape(len(values), n_scales, -1)
            found.append(_measure(inside.astype(np.float64, copy=False), weight[batch]))
        self._statistics = reduce(_merge, found)
        self._fields, self._points, self.grid_shape_ = fields, points, fields.grid
        self.center_, self.scale_ = _center_and_scale(self._statistics, self.method, np.finfo(X.dtype).eps)
        return self

    def _check_grid(self, mask, rows, shape):
        """Grid and channels, and the index of the points that count."""
        fields = input_shape(shape, masked_grid(mask, check_grid_shape(self.grid_shape), shape))
        inside = find_domain(mask, rows, rows, fields, fields).outputs
        if inside is None:
            return fields, slice(None)
        return fields, inside.reshape(fields.n_channels or 1, -1).any(axis=0)

    def transform(self, X):
        """Scale fields.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Fields on the grid seen in `fit`.

        Returns
        -------
        array of the shape of X
            Scaled fields; of large arrays in files, one that scales when it is read.

        Raises
        ------
        ValueError
            If the fields are on another grid than in `fit`, or not finite.
        """
        check_is_fitted(self)
        X, shape = as_rows(self._lazy(X))
        check_same_fields(shape, self._fields, "X")
        if isinstance(X, Rows):
            return self._later(X, shape)
        masked = isinstance(self._points, np.ndarray)
        if masked:
            inside = fill_outside(X, _values(self._points, self._fields))
            refuse_nan(inside, "X", self.mask)
            check_array(inside, **_CHECKS, input_name="X", estimator=self)
        else:
            refuse_nan(X, "X", self.mask)
        X = validate_data(
            self, X, reset=False, copy=self.copy, force_writeable=True, ensure_all_finite=not masked, **_CHECKS
        )
        return self._scaling().apply(X).reshape(len(X), *(shape or X.shape[1:]))

    def inverse_transform(self, X):
        """Undo the scaling.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Scaled fields, on the grid seen in `fit`. Infinite values and NaN, such as predictions of a model that
            diverges, are let through.

        Returns
        -------
        array of the shape of X
            Fields in the units of the training data; of large arrays in files, one that scales when it is read.

        Raises
        ------
        ValueError
            If the fields are on another grid than in `fit`.
        """
        check_is_fitted(self)
        X, shape = as_rows(self._lazy(X))
        check_same_fields(shape, self._fields, "X")
        if isinstance(X, Rows):
            return self._later(X, shape, inverse=True)
        # Without a look at the names of columns, which `transform` does not return by default.
        X = check_array(
            X,
            copy=self.copy,
            force_writeable=True,
            ensure_all_finite=False,
            input_name="X",
            estimator=self,
            **_CHECKS,
        )
        _check_n_features(self, X, reset=False)
        return self._scaling(inverse=True).apply(X).reshape(len(X), *(shape or X.shape[1:]))

    def _scaling(self, inverse=False):
        return _Scaling(self._fields, self._points, self.center_, self.scale_, inverse)

    def _lazy(self, X):
        """Rows of large arrays in files, unless they are to be scaled where they are; anything else as it is."""
        in_place = not self.copy and isinstance(X, np.ndarray) and X.flags.writeable
        return X if in_place else as_lazy(X, "X")

    def _later(self, X, shape, inverse=False):
        """Fields that are scaled when they are read."""
        validate_data(self, head(X), reset=False, ensure_all_finite=False, **_CHECKS)
        return LazyFields(self._scaling(inverse), X, shape=shape)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
