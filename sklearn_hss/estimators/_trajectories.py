"""Trajectories, and their pairs of consecutive states."""

import numpy as np
from sklearn.utils import check_array

from .._containers import as_plain, refuse_complex

STATES: dict = {"dtype": [np.float64, np.float32], "order": "C"}


def check_trajectories(X, estimator):
    """Trajectories as one array; values that are not finite may lie outside of a mask, and are checked later."""
    name = type(estimator).__name__
    X = as_plain(X, "X")
    if is_ragged(X):
        raise ValueError(
            "X is a list of trajectories of different lengths, but here all must have the same length; alternatively, "
            "pass pairs of states, X and y."
        )
    refuse_complex(X, "X")
    X = check_array(
        X, **STATES, ensure_2d=False, allow_nd=True, ensure_all_finite=False, input_name="X", estimator=estimator
    )
    if X.ndim < 3:
        raise ValueError(
            f"{name} requires y to be passed, but the target y is None: without y, X must be trajectories "
            f"(n_trajectories, n_times, *state), and has shape {X.shape}; a single one is X[np.newaxis]."
        )
    if X.shape[1] < 2:
        raise ValueError(f"X has trajectories of n_times={X.shape[1]}; at least 2 are needed for a step.")
    return X


def is_ragged(X):
    """Whether X is a list of trajectories of different lengths."""
    return isinstance(X, list | tuple) and len({len(x) if np.ndim(x) > 1 else 0 for x in X}) > 1


def _per_pair(name, values, n_pairs):
    """Repeat values that are given per trajectory for each of its pairs.

    Parameters
    ----------
    name : str
    values : array-like
    n_pairs : ndarray of int, of shape (n_trajectories,)
    """
    values = np.asarray(values)
    if len(values) == len(n_pairs):
        return np.repeat(values, n_pairs, axis=0)
    if len(values) != n_pairs.sum():
        raise ValueError(
            f"{name} has shape {values.shape}; it must have {len(n_pairs)} entries, one per trajectory, or "
            f"{n_pairs.sum()}, one per pair of consecutive states."
        )
    return values


def pairs_of(X, fit_params, estimator):
    r"""States and their successors, trajectory by trajectory, and arguments of `fit` with one entry per pair.

    Parameters
    ----------
    X : array-like of shape (n_trajectories, n_times, \*state), or list of arrays (n_times, \*state)
    fit_params : dict
        Arguments whose names end in ``groups`` or ``sample_weight`` are converted from trajectories to pairs.
    estimator : object
        For messages.

    Returns
    -------
    X, y : ndarrays of shape (n_pairs, \*state)
    fit_params : dict

    Raises
    ------
    ValueError
        If these are not trajectories of at least two times.
    """
    X = as_plain(X, "X")
    trajectories = (
        [check_trajectories(x[np.newaxis], estimator)[0] for x in map(np.asarray, X)]
        if is_ragged(X)
        else (check_trajectories(X, estimator))
    )
    n_pairs = np.array([len(x) - 1 for x in trajectories])
    fit_params = {
        name: _per_pair(name, value, n_pairs)
        if np.ndim(value) and name.endswith(("groups", "sample_weight"))
        else value
        for name, value in fit_params.items()
    }
    if isinstance(trajectories, list):
        shapes = sorted({x.shape[1:] for x in trajectories})
        if len(shapes) > 1:
            raise ValueError(f"X has trajectories of states of different shapes, {shapes}; all must have the same.")
        return (
            np.concatenate([x[:-1] for x in trajectories]),
            np.concatenate([x[1:] for x in trajectories]),
            fit_params,
        )
    states = trajectories.shape[2:]
    return trajectories[:, :-1].reshape(-1, *states), trajectories[:, 1:].reshape(-1, *states), fit_params
