"""The contract of a form: one way to fit a map to samples.

A form is a frozen dataclass; an instance is one candidate. :func:`sklearn_hss.fitting.select` walks the `path` of every
form in the list of :mod:`sklearn_hss.fitting.forms`, fits what it yields and keeps what predicts best.
"""

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from ._options import Options
from ._samples import Samples

# Held-out errors below this one are as good as rounding allows.
EXACT = 1e-11
# A richer candidate must divide the held-out error by this.
WORTHWHILE = 3.0


class NotApplicable(Exception):
    """Raised by a form for samples or options that it does not apply to; the message says why."""


class OtherDimension(NotApplicable):
    """Raised for fields of a number of dimensions that a form is not made for."""


Path = Generator["Form", float, Any]


@dataclass(frozen=True)
class Form:
    """Base class of all forms, with what most of them have in common.

    A subclass sets `solver` and `kind`, and has `path`, `fit` and `__str__`. Its docstring, which starts with what it
    fits, becomes its entry in the documentation of the parameter `solver`.

    Attributes
    ----------
    solver : str
        Name by which users ask for it; forms of one family share theirs.
    kind : {"forward", "inverse"}
        Whether the map or its inverse is fitted.
    effort : {0, 1, 2, 3}
        0 is tried first, 1 unless something is exact, 2 unless something is accurate, and 3, which is slow, unless
        something is good.
    by_name_only : bool
        Whether it is tried only where `solver` names it.
    correctable : bool
        Whether ridge regression may correct it on the span of the samples.
    points_per_direction : int
        With fewer points for every direction of a correction, the map would be larger than a dense matrix.
    completion : str
        The action on inputs of a kind that no sample contained.
    amplifies : bool
        Whether noise in the outputs grows in the fit.
    linear : bool
        Whether the map is a linear one.
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
    completion: ClassVar[str] = "the form holds for all inputs"
    amplifies: ClassVar[bool] = False
    linear: ClassVar[bool] = True
    worthwhile: ClassVar[float] = WORTHWHILE
    floor: ClassVar[float] = EXACT

    @classmethod
    def path(cls, samples: Samples, options: Options) -> Path:
        """Yield candidates, the simplest one first, and receive the held-out error of each.

        The path ends where richer candidates are not worth their numbers: its thresholds are its own, and
        :func:`growing` has the usual ones.

        Parameters
        ----------
        samples : Samples
            Those for training.
        options : Options

        Yields
        ------
        Form

        Raises
        ------
        NotApplicable
            If nothing can be yielded.
        """
        raise NotImplementedError

    @property
    def min_samples(self) -> float:
        """Number of samples below which the fit means nothing; infinite where no number would do."""
        return 1

    def fit(self, samples: Samples, start=None):
        """Fit the map. Nothing but the arguments and the fields of the form may matter, and none is changed.

        Parameters
        ----------
        samples : Samples
        start : object, default=None
            What the candidate before this one on the path has given for the same samples, or this one for a part of
            them.

        Returns
        -------
        object
            Anything with a method ``apply(fields)``.

        Raises
        ------
        NotApplicable, numpy.linalg.LinAlgError
            If the samples turn out to be degenerate.
        """
        raise NotImplementedError

    def deliver(self, operator, samples: Samples, alpha: float | None = None):
        """Turn what `fit` has returned into what users get: cut as `options` ask for, and over cluster trees.

        Parameters
        ----------
        operator : object
            What `fit` has returned.
        samples : Samples
        alpha : float, default=None
            Penalty of the correction, where there is to be one.

        Returns
        -------
        LinearMap
        """
        return operator

    def in_units(self, operator, units):
        """Turn what `deliver` has returned, a map between fields divided by units, into one in those of the user."""
        return (units[1] / units[0]) * operator

    @classmethod
    def cause(cls, samples: Samples, options: Options) -> str | None:
        """One sentence on why samples that no fit explains are not of this form, where it can tell."""
        return None

    def doubts(self, operator, samples: Samples) -> list[tuple[str, type[Warning]]]:
        """Messages for users, with their categories, about what `fit` has returned for all samples."""
        return []

    def penalty(self, samples: Samples) -> float | None:
        """Ridge penalty in use, as `alpha` gives it, where there is one."""
        return None

    @property
    def everywhere(self) -> bool:
        """Whether the fit holds for inputs that are no combinations of those in the samples."""
        return True

    @property
    def symmetric(self) -> bool:
        """Whether the map is symmetric by construction."""
        return False

    @property
    def half_bandwidth(self) -> int | None:
        """Neighbours on either side that a banded matrix couples, where there is one."""
        return None

    def __str__(self) -> str:
        raise NotImplementedError


def growing(candidates: Iterable[Form], *, enough=EXACT, patience=1, worthwhile=WORTHWHILE) -> Path:
    """Yield candidates until the error has stopped falling; the usual end of a path.

    Parameters
    ----------
    candidates : iterable of Form
        Ever richer ones.
    enough : float, default=1e-11
        Error at which to stop.
    patience : int, default=1
        How many candidates in a row may fail to lower the error.
    worthwhile : float, default=3.0
        Factor by which a candidate must lower the error.

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
