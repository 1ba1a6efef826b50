"""Generators and readers of PDE data, in the style of :mod:`sklearn.datasets`."""

from ._burgers import make_burgers
from ._heat import make_heat
from ._helmholtz import make_helmholtz
from ._poisson import make_poisson
from ._readers import load_diffusionpde, load_the_well

__all__ = ["load_diffusionpde", "load_the_well", "make_burgers", "make_heat", "make_helmholtz", "make_poisson"]
