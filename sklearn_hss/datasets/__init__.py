"""Generators of PDE data, in the style of :mod:`sklearn.datasets`."""

from ._burgers import make_burgers
from ._heat import make_heat
from ._helmholtz import make_helmholtz
from ._poisson import make_poisson

__all__ = ["make_burgers", "make_heat", "make_helmholtz", "make_poisson"]
