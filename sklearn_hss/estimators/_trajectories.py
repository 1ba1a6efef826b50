"""Trajectories, and their pairs of consecutive states."""

import numpy as np
from sklearn.utils import check_array

from .._containers import Rows, as_lazy, as_plain, read, refuse_complex

STATES: dict = {"dtype": [np.float64, np.float32], "order": "C"}


def check_trajectories(X, estimator):
    """Trajectories as one array; values that are not finite may lie outside of a mask, and are checked later."""
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
    _check_times(X, estimator)
    return X


def _check_times(X, estimator):
    name = type(estimator).__name__
    if len(X.shape) < 3:
        raise ValueError(
            f"{name} requires y to be passed, but the target y is None: without y, X must be trajectories "
            f"(n_trajectories, n_times, *state), and has shape {X.shape}; a single one is X[np.newaxis]."
        )
    if X.shape[1] < 2:
        raise ValueError(f"X has trajectories of n_times={X.shape[1]}; at least 2 are needed for a step.")


class _States:
    """All states of trajectories in a container, one after the other, of which slices can be read."""

    def __init__(self, trajectories, name):
        self.trajectories, self.name, self.dtype = trajectories, name, trajectories.dtype
        n_trajectories, self.n_times, *state = trajectories.shape
        self.shape = (n_trajectories * self.n_times, *state)

    def __getitem__(self, part):
        start, stop, _ = part.indices(self.shape[0])
        found = [np.empty((0, *self.shape[1:]), self.dtype)]
        while start < stop:
            trajectory, first = divmod(start, self.n_times)
            last = min(first + stop - start, self.n_times)
            found.append(read(self.trajectories[trajectory, first:last], self.name))
            start += last - first
        return np.concatenate(found)


class LazyTrajectories:
    r"""Trajectories in a large container, of which states are read when they are needed.

    Parameters
    ----------
    X : container of shape (n_trajectories, n_times, \*state)
    estimator : object
        For messages.

    Attributes
    ----------
    shape : tuple (n_trajectories, n_times, \*state)
    """

    def __init__(self, X, estimator):
        _check_times(X, estimator)
        self.shape = X.shape
        # Of dask arrays, because these are slow to take apart; of arrays where that makes no copy.
        plain = isinstance(X, np.ndarray) and X.flags.c_contiguous
        if plain or callable(getattr(X, "compute", None)):
            self._states = X.reshape(-1, *X.shape[2:])
        else:
            self._states = _States(X, "X")

    def __len__(self):
        return self.shape[0]

    def states(self, times):
        """Rows of all states at the given times (a slice), trajectory by trajectory."""
        numbers = np.arange(self.shape[0] * self.shape[1]).reshape(self.shape[:2])
        return Rows(self._states, "X", numbers[:, times].ravel())


def lazy_trajectories(X, estimator):
    """LazyTrajectories of a large container, anything else as it is."""
    lazy = as_lazy(X, "X")
    return LazyTrajectories(lazy.source, estimator) if isinstance(lazy, Rows) else X


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
    X : array-like of shape (n_trajectories, n_times, \*state), LazyTrajectories, or list of arrays (n_times, \*state)
    fit_params : dict
        Arguments whose names end in ``groups`` or ``sample_weight`` are converted from trajectories to pairs.
    estimator : object
        For messages.

    Returns
    -------
    X, y : ndarrays of shape (n_pairs, \*state), or Rows
    fit_params : dict

    Raises
    ------
    ValueError
        If these are not trajectories of at least two times.
    """
    if isinstance(X, LazyTrajectories):
        n_pairs = np.full(len(X), X.shape[1] - 1)
    else:
        X = as_plain(X, "X")
        X = (
            [check_trajectories(x[np.newaxis], estimator)[0] for x in map(np.asarray, X)]
            if is_ragged(X)
            else check_trajectories(X, estimator)
        )
        n_pairs = np.array([len(x) - 1 for x in X])
    fit_params = {
        name: _per_pair(name, value, n_pairs)
        if np.ndim(value) and name.endswith(("groups", "sample_weight"))
        else value
        for name, value in fit_params.items()
    }
    if isinstance(X, LazyTrajectories):
        return X.states(slice(None, -1)), X.states(slice(1, None)), fit_params
    if isinstance(X, list):
        shapes = sorted({x.shape[1:] for x in X})
        if len(shapes) > 1:
            raise ValueError(f"X has trajectories of states of different shapes, {shapes}; all must have the same.")
        return np.concatenate([x[:-1] for x in X]), np.concatenate([x[1:] for x in X]), fit_params
    states = X.shape[2:]
    return X[:, :-1].reshape(-1, *states), X[:, 1:].reshape(-1, *states), fit_params
