"""From samples to operators, by linear algebra: every method is a small class in :mod:`.forms`."""

from ._form import Form, NotApplicable, growing
from ._options import Options
from ._samples import Samples
from ._selection import Fit, fit, select
from .forms import FORMS

__all__ = ["FORMS", "Fit", "Form", "NotApplicable", "Options", "Samples", "fit", "growing", "select"]
