"""Utilities for estimators that scikit-learn does not provide."""

from contextlib import contextmanager
from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval


class Count(Interval):
    """Integers from `lowest` to `highest`, inclusive. Unlike scikit-learn's intervals, this one rejects booleans.

    Parameters
    ----------
    lowest : int
    highest : int, default=None
        No bound if None.
    """

    def __init__(self, lowest, highest=None):
        super().__init__(Integral, lowest, highest, closed="left" if highest is None else "both")

    def is_satisfied_by(self, val):
        """Whether `val` is such an integer."""
        return not isinstance(val, bool | np.bool_) and super().is_satisfied_by(val)


@contextmanager
def unchanged_on_error(estimator):
    """Context that restores an estimator after an error or an interrupt, so that an earlier fit is preserved."""
    before = estimator.__dict__.copy()
    try:
        yield
    except BaseException:
        estimator.__dict__ = before
        raise
