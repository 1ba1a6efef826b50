"""Constraints of parameters that scikit-learn has not."""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval


class Count(Interval):
    """Integers from `lowest` on. Unlike scikit-learn's intervals, this one does not take True for 1.

    Parameters
    ----------
    lowest : int
    """

    def __init__(self, lowest):
        super().__init__(Integral, lowest, None, closed="left")

    def is_satisfied_by(self, val):
        """Whether `val` is such an integer."""
        return not isinstance(val, bool | np.bool_) and super().is_satisfied_by(val)
