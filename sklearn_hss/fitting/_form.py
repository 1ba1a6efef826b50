"""The contract of a form: one way to fit a map to samples.

A form is a frozen dataclass; an instance is one candidate. :func:`sklearn_hss.fitting.select` follows the `path` of
every form in the list of :mod:`sklearn_hss.fitting.forms`, fits its candidates and selects the best predictor.
"""

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from ._options import Options
from ._samples import Samples

# Held-out error below which a candidate is exact up to rounding.
EXACT = 1e-11
# Factor by which a richer candidate must reduce the held-out error.
WORTHWHILE = 3.0


class NotApplicable(Exception):
    """Raised by a form for samples or options to which it does not apply; the message states the reason."""


class OtherDimension(NotApplicable):
    """Raised for fields of a number of dimensions that a form does not support."""


Path = Generator["Form", float, Any]


@dataclass(frozen=True)
class Form:
    """Base class of all forms, with common defaults.

    A subclass sets `solver` and `kind`, and implements `path`, `fit` and `__str__`. The first paragraph of its
    docstring, which describes the fitted map, is its entry in the documentation of the parameter `solver`.

    Attributes
    ----------
    solver : str
        Name in the `solver` parameter; forms of one family have the same name.
    kind : {"forward", "inverse"}
        Whether the map or its inverse is fitted.
    effort : {0, 1, 2, 3}
        Forms of effort 0 are always tried, those of effort 1 unless a fit is exact, those of effort 2 unless one is
        accurate, and those of effort 3, which are slow, unless one is good.
    by_name_only : bool
        Whether the form is tried only if `solver` names it.
    correctable : bool
        Whether ridge regression may correct it on the span of the samples.
    points_per_direction : int
        With fewer points for every direction of a correction, the map would be larger than a dense matrix.
    completion : str
        Extrapolation to inputs outside the span of the samples.
    amplifies : bool
        Whether the fit amplifies noise in the outputs.
    linear : bool
        Whether the map is linear.
    worthwhile, floor : float
        A simpler candidate is preferred to a richer one of the same path if its error is below `worthwhile` times the
        lowest one, or below `floor`.
    """

    options: Options

    solver: ClassVar[str]
    kind: ClassVar[str] = "forward"
    effort: ClassVar[int] = 2
    by_name_only: ClassVar[bool] = False
    correctable: ClassVar[bool] = False
    points_per_direction: ClassVar[int] = 4
    completion: ClassVar[str] = "the form applies to all inputs"
    amplifies: ClassVar[bool] = False
    linear: ClassVar[bool] = True
    worthwhile: ClassVar[float] = WORTHWHILE
    floor: ClassVar[float] = EXACT

    @classmethod
    def path(cls, samples: Samples, options: Options) -> Path:
        """Yield candidates, the simplest one first, and receive the held-out error of each.

        The path ends when richer candidates do not justify their additional parameters. The thresholds belong to the
        form; :func:`growing` provides the usual ones.

        Parameters
        ----------
        samples : Samples
            Training samples.
        options : Options

        Yields
        ------
        Form

        Raises
        ------
        NotApplicable
            If there is no candidate.
        """
        raise NotImplementedError

    @property
    def min_samples(self) -> float:
        """Minimal number of samples for a meaningful fit; infinite if no number is sufficient."""
        return 1

    def fit(self, samples: Samples, start=None):
        """Fit the map. The result depends only on the arguments and the fields of the form, which are not modified.

        Parameters
        ----------
        samples : Samples
        start : object, default=None
            Result of the previous candidate on the path for the same samples, or of this candidate for a part of them.

        Returns
        -------
        object
            Operator with a method ``apply(fields)``.

        Raises
        ------
        NotApplicable, numpy.linalg.LinAlgError
            If the samples turn out to be degenerate.
        """
        raise NotImplementedError

    def deliver(self, operator, samples: Samples, alpha: float | None = None):
        """Convert the result of `fit` to the final map, truncated according to `options`, and over cluster trees.

        Parameters
        ----------
        operator : object
            Result of `fit`.
        samples : Samples
        alpha : float, default=None
            Penalty of the correction; None for no correction.

        Returns
        -------
        LinearMap
        """
        return operator

    def in_units(self, operator, units):
        """Convert the result of `deliver`, a map between scaled fields, to the units of the user."""
        return (units[1] / units[0]) * operator

    @classmethod
    def cause(cls, samples: Samples, options: Options) -> str | None:
        """One sentence on why samples that no fit explains are not of this form, or None if this is unknown."""
        return None

    def doubts(self, operator, samples: Samples) -> list[tuple[str, type[Warning]]]:
        """Warnings, with their categories, about the result of `fit` for all samples."""
        return []

    def penalty(self, samples: Samples) -> float | None:
        """Ridge penalty in use, in the units of `alpha`, or None."""
        return None

    @property
    def everywhere(self) -> bool:
        """Whether the fit applies to inputs that are not linear combinations of those in the samples."""
        return True

    @property
    def symmetric(self) -> bool:
        """Whether the map is symmetric by construction."""
        return False

    @property
    def half_bandwidth(self) -> int | None:
        """Half-bandwidth if the form has a banded matrix, otherwise None."""
        return None

    def __str__(self) -> str:
        raise NotImplementedError


def growing(candidates: Iterable[Form], *, enough=EXACT, patience=1, worthwhile=WORTHWHILE) -> Path:
    """Yield candidates until the error stops decreasing; the usual end of a path.

    Parameters
    ----------
    candidates : iterable of Form
        Candidates of increasing complexity.
    enough : float, default=1e-11
        Error at which to stop.
    patience : int, default=1
        Number of consecutive candidates that may fail to reduce the error.
    worthwhile : float, default=3.0
        Factor by which a candidate must reduce the error.

    Returns
    -------
    float
        The smallest error.
    """
    best, misses = math.inf, 0
    for candidate in candidates:
        error = yield candidate
        misses = 0 if error * worthwhile < best else misses + 1
        best = min(best, error)
        if misses > patience or best < enough:
            break
    return best
