"""Packages whose names are imported on first use, because torch, scikit-learn and skorch take seconds to import."""

import importlib
from collections.abc import Callable, Mapping


def lazily(package: str, module_of: Mapping[str, str | None]) -> Callable:
    """Make the function `__getattr__` of a package (PEP 562).

    Parameters
    ----------
    package : str
        Its `__name__`.
    module_of : mapping
        For each name, the module below the package that has it, or None for one that is such a module itself.

    Returns
    -------
    callable
        From a name to the object.
    """

    def find(name):
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f".{module_of[name] or name}", package)
        return module if module_of[name] is None else getattr(module, name)

    return find
