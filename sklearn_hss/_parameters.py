"""Help for estimators that scikit-learn has not."""

from contextlib import contextmanager
from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval


class Count(Interval):
    """Integers from `lowest` on, to `highest`. Unlike scikit-learn's intervals, this one does not take True for 1.

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
    """Context in which an error, or an interrupt, leaves an estimator as it was before: an earlier fit stays."""
    before = estimator.__dict__.copy()
    try:
        yield
    except BaseException:
        estimator.__dict__ = before
        raise
