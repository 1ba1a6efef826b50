"""Generators of PDE data, in the style of :mod:`sklearn.datasets`."""

from ._helmholtz import make_helmholtz
from ._poisson import make_poisson

__all__ = ["make_helmholtz", "make_poisson"]
