"""Regressors inside of others: the shapes in which they take samples, and the arguments that they take."""

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
    """Whether an estimator takes fields of several dimensions as they are.

    Those of this package do, and pipelines, searches and transformed targets made of nothing else. All others, which
    scikit-learn promises no more than rows, get rows.
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
    """Refuse arguments that ``fit`` of an estimator does not take.

    Raises
    ------
    ValueError
        Names the first one.
    """
    parameters = signature(estimator.fit).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in fit_params:
        if name not in parameters:
            raise ValueError(f"{name} was given, but fit of the estimator {type(estimator).__name__} does not take it.")


def nested_parameter(estimator, name):
    """First value, but None, of a parameter of this name that estimators inside have; None if none has."""
    for key, value in estimator.get_params().items():
        if isinstance(value, FrozenEstimator):  # tells nothing of the parameters inside
            inner = value.estimator
            value = inner.get_params(deep=False).get(name)
            value = nested_parameter(inner, name) if value is None else value
        elif not key.endswith(f"__{name}"):
            continue
        if value is not None:
            return value
    return None


def nested_grid_shape(estimator):
    """Grid that the parameters of estimators inside tell, None if none does."""
    return check_grid_shape(nested_parameter(estimator, "grid_shape"))


def refuse_lost_grid(name, estimator, shape):
    """Refuse an estimator that would get rows, which some part of it would take for fields of one dimension.

    Parameters
    ----------
    name : str
        Parameter that the estimator is.
    estimator : estimator
        One that is not given fields.
    shape : tuple of int
        Of the fields that become rows.

    Raises
    ------
    ValueError
        Names the part that needs a ``grid_shape``.
    """
    for part, nested in estimator.get_params().items():
        if isinstance(nested, FieldRegressorMixin | LinearFieldMap) and getattr(nested, "grid_shape", ()) is None:
            raise ValueError(
                f"States of shape {shape} are flattened, because not all of {type(estimator).__name__} takes "
                f"them as they are; tell {name}__{part} the grid by grid_shape, such as {shape}."
            )


def read_pairs(model, X, y, mask, weight=None):
    """Rows of inputs and targets, zero outside of the domain; shapes and domain become attributes of the model.

    Parameters
    ----------
    model : estimator
        One with estimators inside.
    X, y : array-like
        As users give them.
    mask : None, "auto" or ndarray of bool
    weight : array-like of shape (n_samples,), default=None

    Returns
    -------
    X, y : ndarrays of shape (n_samples, n_values), in the floating-point type of X

    Raises
    ------
    ValueError
        For data that cannot be used.
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
    # Without a grid that is known, values of one channel, as many as there are.
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
        If they are not like those of the fit.
    """
    check_is_fitted(model)
    X, shape = as_rows(X)
    check_same_fields(shape, FieldShape(model._input_shape), "X")
    X = model._domain.fill_inputs(X)
    refuse_nan(X, "X", mask)
    return validate_data(model, X, reset=False, **_CHECKS)
