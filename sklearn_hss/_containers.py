"""One door for arrays as people bring them: what `np.asarray` would take of their meaning, and what it cannot read.

Everything public that takes numbers calls :func:`as_plain` first, so that a container is supported, or refused, in all
places alike.
"""

import sys

import numpy as np
from scipy.sparse import issparse

# Kinds of NumPy types that hold no numbers, though `astype(float)` would make some of them.
_NO_NUMBERS = {"M": "dates", "m": "durations", "U": "text", "S": "bytes", "V": "records"}


def as_plain(x, name):
    """NumPy array of an array-like container; data frames, sparse matrices and scalars are left as they are.

    h5py and zarr arrays are read, dask arrays computed, torch tensors detached and brought to the CPU, xarray arrays
    lose units, coordinates and names of their dimensions, which stay in the order that they are in. Numbers of the
    other byte order are converted. Nothing is copied without need.

    Parameters
    ----------
    x : array-like
    name : str
        Name for messages.

    Returns
    -------
    array-like

    Raises
    ------
    ValueError
        For masked arrays with masked entries, whose fill values are no data, and for dates, durations, text and
        records.
    """
    if isinstance(x, list | tuple):
        _refuse_masked_entries(x, name)
        return x
    if x is None or issparse(x) or hasattr(x, "iloc") or not hasattr(x, "shape"):
        return x
    if hasattr(x, "dims") and hasattr(x, "data"):  # xarray, around an array of any kind
        return as_plain(x.data, name)
    if callable(getattr(x, "compute", None)):  # dask, around an array of any kind
        return as_plain(x.compute(), name)
    return _read(x, name)


def _read(x, name):
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    elif not isinstance(x, np.ndarray):
        x = np.asarray(x)
    if isinstance(x, np.ma.MaskedArray):
        if np.ma.is_masked(x):
            n_masked = int(np.ma.count_masked(x))
            raise ValueError(
                f"{name} is a masked array with {n_masked} masked entries, whose values are no data: fill the masked "
                "points with 0 and pass mask= (True where there are data), where a mask is taken."
            )
        x = x.data
    kind = _NO_NUMBERS.get(x.dtype.kind)
    if kind is not None:
        raise ValueError(f"{name} has dtype {x.dtype}, which holds {kind}; it must hold real numbers.")
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def _refuse_masked_entries(values, name):
    """Look into nested lists, of which NumPy would drop the masks without a word."""
    for value in values:
        if isinstance(value, list | tuple):
            _refuse_masked_entries(value, name)
        elif isinstance(value, np.ma.MaskedArray):
            _read(value, name)


def refuse_complex(x, name):
    """Raise for complex numbers, in scikit-learn's words but without the numbers.

    Raises
    ------
    ValueError
        Tells what to do instead.
    """
    if getattr(getattr(x, "dtype", None), "kind", None) == "c":
        raise ValueError(
            f"Complex data not supported: {name} must be real; give real and imaginary parts as two channels."
        )
