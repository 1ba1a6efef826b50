"""Regressors inside of others: the shapes in which they take samples, and the arguments that they take."""

from inspect import Parameter, signature

from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline

from .._fields import check_grid_shape
from ..preprocessing import FieldScaler
from ._linear_map import LinearFieldMap
from ._score import FieldRegressorMixin


def takes_fields(estimator):
    """Whether an estimator takes fields of several dimensions as they are.

    Those of this package do, and pipelines, searches and transformed targets made of nothing else. All others, which
    scikit-learn promises no more than rows, get rows.
    """
    if isinstance(estimator, Pipeline):
        return all(takes_fields(step) for _, step in estimator.steps if step not in (None, "passthrough"))
    if isinstance(estimator, BaseSearchCV):
        return takes_fields(estimator.estimator)
    if isinstance(estimator, TransformedTargetRegressor):
        return takes_fields(estimator.regressor) and takes_fields(estimator.transformer)
    return isinstance(estimator, FieldRegressorMixin | LinearFieldMap | FieldScaler)


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


def nested_grid_shape(estimator):
    """Grid that the parameters of estimators inside tell, None if none does."""
    nested = [value for name, value in estimator.get_params().items() if name.endswith("__grid_shape")]
    return check_grid_shape(next((value for value in nested if value is not None), None))


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
