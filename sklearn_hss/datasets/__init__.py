"""Generators and readers of PDE data, in the style of :mod:`sklearn.datasets`."""

from ._burgers import make_burgers
from ._general import make_elliptic
from ._gray_scott import GRAY_SCOTT_PATTERNS, make_gray_scott
from ._heat import make_heat
from ._helmholtz import make_helmholtz
from ._mesh import make_elliptic_mesh
from ._navier_stokes import make_navier_stokes
from ._poisson import make_poisson
from ._readers import load_diffusionpde, load_the_well

__all__ = [
    "GRAY_SCOTT_PATTERNS",
    "load_diffusionpde",
    "load_the_well",
    "make_burgers",
    "make_elliptic",
    "make_elliptic_mesh",
    "make_gray_scott",
    "make_heat",
    "make_helmholtz",
    "make_navier_stokes",
    "make_poisson",
]
