"""Nested regressors: the shapes in which they accept samples, and the arguments that they accept."""

from inspect import Parameter, signature

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted, validate_data

from .._fields import (
    FieldShape,
    as_rows,
    check_grid_shape,
    check_same_fields,
    domain_mask,
    input_shape,
    inside_domain,
    masked_grid,
    output_shape,
    refuse_nan,
)
from ..preprocessing import FieldScaler
from ._base import BaseNeuralRegressor
from ._linear_map import LinearFieldMap
from ._score import FieldRegressorMixin

_CHECKS: dict = {"dtype": [np.float64, np.float32], "order": "C"}


def takes_fields(estimator, kinds=(FieldRegressorMixin, LinearFieldMap, FieldScaler)):
    """Whether an estimator accepts fields of several dimensions.

    Estimators of this package do, and so do pipelines, searches and transformed targets that consist of these alone.
    All others get rows, which is all that scikit-learn's interface requires them to accept.
    """
    if isinstance(estimator, Pipeline):
        return all(takes_fields(step, kinds) for _, step in estimator.steps if step not in (None, "passthrough"))
    if isinstance(estimator, BaseSearchCV | FrozenEstimator):
        return takes_fields(estimator.estimator, kinds)
    if isinstance(estimator, TransformedTargetRegressor):
        return takes_fields(estimator.regressor, kinds) and takes_fields(estimator.transformer, kinds)
    return isinstance(estimator, kinds)


def reads_batches(estimator):
    """Whether an estimator reads large fields batch by batch: networks, and what is made of them and scalers alone."""
    return takes_fields(estimator, (BaseNeuralRegressor, FieldScaler))


def check_takes(estimator, fit_params):
    """Reject arguments that ``fit`` of an estimator does not accept.

    Raises
    ------
    ValueError
        If there are any; the message names the first one.
    """
    parameters = signature(estimator.fit).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in fit_params:
        if name not in parameters:
            raise ValueError(f"{name} was given, but fit of the estimator {type(estimator).__name__} does not take it.")


def nested_parameter(estimator, name):
    """First value other than None of a parameter of this name in nested estimators; None if there is none."""
    for key, value in estimator.get_params().items():
        if isinstance(value, FrozenEstimator):  # does not list the nested parameters
            inner = value.estimator
            value = inner.get_params(deep=False).get(name)
            value = nested_parameter(inner, name) if value is None else value
        elif not key.endswith(f"__{name}"):
            continue
        if value is not None:
            return value
    return None


def nested_grid_shape(estimator):
    """Grid specified by the parameters of nested estimators; None if there is none."""
    return check_grid_shape(nested_parameter(estimator, "grid_shape"))


def refuse_lost_grid(name, estimator, shape):
    """Reject an estimator that would get rows, which some part of it would mistake for fields of one dimension.

    Parameters
    ----------
    name : str
        Parameter that the estimator is.
    estimator : estimator
        An estimator that does not accept fields.
    shape : tuple of int
        Shape of the fields that are flattened to rows.

    Raises
    ------
    ValueError
        If a part needs a ``grid_shape``; the message names it.
    """
    for part, nested in estimator.get_params().items():
        if isinstance(nested, FieldRegressorMixin | LinearFieldMap) and getattr(nested, "grid_shape", ()) is None:
            raise ValueError(
                f"States of shape {shape} are flattened, because not all steps of {type(estimator).__name__} accept "
                f"fields; set {name}__{part}__grid_shape, such as to {shape}."
            )


def read_pairs(model, X, y, mask, weight=None):
    """Rows of inputs and targets, zero outside of the domain; shapes and domain become attributes of the model.

    Parameters
    ----------
    model : estimator
        A meta-estimator.
    X, y : array-like
        As passed by the user.
    mask : None, "auto" or ndarray of bool
    weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    X, y : ndarrays of shape (n_samples, n_values), in the floating-point type of X

    Raises
    ------
    ValueError
        If the data are invalid.
    """
    (X, x_shape), (y, y_shape) = as_rows(X), as_rows(y, "y")
    grid = masked_grid(mask, nested_grid_shape(model), x_shape)
    X, y, model._domain = inside_domain(mask, X, y, (x_shape, y_shape), grid, weight)
    X, y = validate_data(
        model, X, y, validate_separately=(_CHECKS, {**_CHECKS, "ensure_2d": False, "estimator": model})
    )
    check_consistent_length(X, y)
    model._input_shape = x_shape or X.shape[1:]
    model._target_shape = y.shape[1:] if y_shape is None else y_shape
    model._input_fields = input_shape(model._input_shape, grid)
    # If the grid is not known, all values belong to one channel.
    model._target_fields = (
        FieldShape(model._target_shape or (1,))
        if grid is None
        else output_shape(model._target_shape, model._input_fields, grid)
    )
    model._knows_grid = grid is not None
    model.mask_ = domain_mask(model._domain, model._target_fields)
    return X, y.reshape(len(y), -1).astype(X.dtype, copy=False)


def read_inputs(model, X, mask):
    """Rows of inputs for predictions of a model that was fitted to pairs from :func:`read_pairs`.

    Raises
    ------
    ValueError
        If they do not have the shape seen in `fit`.
    """
    check_is_fitted(model)
    X, shape = as_rows(X)
    check_same_fields(shape, FieldShape(model._input_shape), "X")
    X = model._domain.fill_inputs(X)
    refuse_nan(X, "X", mask)
    return validate_data(model, X, reset=False, **_CHECKS)
