"""Conversion of array-like containers that `np.asarray` cannot read, or whose meaning it would silently change.

Every public function that takes arrays calls :func:`as_plain` first, so that a container is either supported everywhere
or rejected everywhere.
"""

import sys
from math import prod
from numbers import Integral

import numpy as np
from scipy.sparse import issparse

# Kinds of NumPy types that hold no numbers, though `astype(float)` would make some of them.
_NO_NUMBERS = {"M": "dates", "m": "durations", "U": "text", "S": "bytes", "V": "records"}


def as_plain(x, name):
    """Convert an array-like container to a NumPy array; data frames, sparse matrices and scalars are left unchanged.

    h5py and zarr arrays are read, dask arrays are computed, torch tensors are detached and moved to the CPU, and xarray
    arrays lose their units, coordinates and dimension names, but keep the order of their dimensions. Arrays of
    non-native byte order are converted. No copies are made unless necessary.

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
        For masked arrays with masked entries, whose fill values are not data, and for dates, durations, text and
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
                f"{name} is a masked array with {n_masked} masked entries, whose values are not data: fill the masked "
                "points with 0 and pass mask= (True where there are data), if a mask is accepted."
            )
        x = x.data
    kind = _NO_NUMBERS.get(x.dtype.kind)
    if kind is not None:
        raise ValueError(f"{name} has dtype {x.dtype}, which holds {kind}; it must hold real numbers.")
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def _refuse_masked_entries(values, name):
    """Search nested lists for masked arrays, whose masks NumPy would discard silently."""
    for value in values:
        if isinstance(value, list | tuple):
            _refuse_masked_entries(value, name)
        elif isinstance(value, np.ma.MaskedArray):
            _read(value, name)


def refuse_complex(x, name):
    """Raise for complex numbers, with scikit-learn's message but without the numbers.

    Raises
    ------
    ValueError
        If `x` is complex; the message suggests a remedy.
    """
    if getattr(getattr(x, "dtype", None), "kind", None) == "c":
        raise ValueError(
            f"Complex data not supported: {name} must be real; give real and imaginary parts as two channels."
        )


# Size in bytes up to which containers are read as a whole, and the count of numbers read at a time from larger ones.
LARGE, PART = 2**26, 2**20


def read(part, name):
    """NumPy array of what a container gave when it was asked for a part."""
    part = part.compute() if callable(getattr(part, "compute", None)) else part
    return np.asarray(_read(part, name))


class Rows:
    """Fields as rows, in a container that reads data only on demand: files, h5py, zarr, dask and the like.

    Parameters
    ----------
    source : container
        With `shape`, `dtype` and slices of its first axis.
    name : str
        Name for messages.
    rows : ndarray of int, default=None
        Indices of the samples; all if None.

    Attributes
    ----------
    shape : tuple (n_samples, n_values)
    field_shape : tuple of int
        Shape of one sample.
    dtype : dtype
        float32 or float64, the type of the values read.
    """

    ndim = 2

    def __init__(self, source, name, rows=None):
        self.source, self.name, self.rows = source, name, rows
        self.field_shape = tuple(source.shape[1:])
        self.shape = (source.shape[0] if rows is None else len(rows), prod(self.field_shape))
        single = np.dtype(source.dtype).newbyteorder("=") == np.float32
        self.dtype = np.dtype(np.float32 if single else np.float64)

    def __len__(self):
        return self.shape[0]

    def part(self, rows):
        """Select samples without reading them."""
        return Rows(self.source, self.name, np.arange(len(self))[rows] if self.rows is None else self.rows[rows])

    def then(self, function):
        """Rows that a function makes of these, as many and as long ones, when they are read."""
        return Rows(LazyFields(function, self, shape=self.field_shape), self.name)

    def __getitem__(self, rows):
        if self.rows is None and isinstance(rows, slice) and rows.step in (None, 1):
            return self._read(rows)
        wanted = np.arange(len(self))[rows] if self.rows is None else self.rows[rows]
        if isinstance(self.source, np.ndarray | LazyFields):  # which take samples in any order
            return self._read(wanted)
        distinct, back = np.unique(wanted, return_inverse=True)
        if callable(getattr(self.source, "compute", None)):  # dask, where every slice has a cost
            return self._read(distinct)[back]
        # All of these containers support slices.
        runs = np.split(distinct, np.flatnonzero(np.diff(distinct) != 1) + 1) if len(distinct) else []
        found = [self._read(slice(run[0], run[-1] + 1)) for run in runs]
        return np.concatenate(found or [self._read(slice(0, 0))])[back]

    def _read(self, part):
        found = self.source.read(part) if isinstance(self.source, LazyFields) else self.source[part]
        return read(found, self.name).reshape(-1, self.shape[1]).astype(self.dtype, copy=False)

    def check(self):
        """Read everything once, and check that it is finite.

        Raises
        ------
        ValueError
            If a value is not finite.
        """
        for part in blocks(self):
            finite = np.isfinite(self[part]).all(axis=1)
            if not finite.all():
                raise ValueError(
                    f"Input {self.name} contains NaN or infinity in sample {part.start + int(finite.argmin())}."
                )


class LazyFields:
    r"""Fields that a function makes of others in containers, when they are read, and a part at a time.

    To the outside, an array of which an integer or a slice of the first axis reads, as those of the containers do. An
    array of indices or of bools selects samples and reads nothing, so that splits and folds of scikit-learn are lazy
    as well. :func:`numpy.asarray` reads everything.

    Parameters
    ----------
    function : callable
        Makes rows, or fields, of one array of rows for each of `sources`. It must not write into these, must work on
        each sample alone, and must be picklable.
    *sources : Rows or ndarray
        As many of each.
    shape : tuple of int
        Of one field.
    dtype : dtype, default=None
        Of the fields; that of the first of the sources if None.

    Attributes
    ----------
    shape : tuple (n_samples, \*field)
    dtype : dtype
    """

    def __init__(self, function, *sources, shape, dtype=None):
        self.function, self.sources = function, sources
        self.shape, self.ndim, self.dtype = (len(sources[0]), *shape), 1 + len(shape), dtype or sources[0].dtype

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        return f"LazyFields(shape={self.shape}, dtype={self.dtype})"

    def read(self, rows):
        """The given samples."""
        found = self.function(*(source[rows] for source in self.sources))
        return found.reshape(len(found), *self.shape[1:])

    def __getitem__(self, key):
        first, *others = key if isinstance(key, tuple) else (key,)
        if isinstance(first, Integral):
            number = range(len(self))[first]
            return self.read(slice(number, number + 1))[(0, *others)]
        first = slice(None) if first is Ellipsis or first is None else first
        sources = (select(source, first) for source in self.sources)
        part = LazyFields(self.function, *sources, shape=self.shape[1:], dtype=self.dtype)
        whole = all(other is Ellipsis for other in others)
        return part if whole and not isinstance(first, slice) else np.asarray(part)[(slice(None), *others)]

    def __array__(self, dtype=None, copy=None):
        if copy is False:
            raise ValueError("Fields that are computed when they are read cannot become an array without a copy.")
        found = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for part in blocks(self):
            found[part] = self.read(part)
        return found


def blocks(fields):
    """Slices of so many samples that they can be read at once."""
    n = max(PART // max(prod(fields.shape[1:]), 1), 1)
    return [slice(start, min(start + n, len(fields))) for start in range(0, len(fields), n)]


def select(rows, which):
    """Samples of an array, or of Rows, which are not read by that."""
    return rows.part(which) if isinstance(rows, Rows) else rows[which]


def head(rows):
    """Array-like for scikit-learn to judge; of Rows, which are too many to read at once, the first two."""
    return rows[:2] if isinstance(rows, Rows) else rows


def checked(rows, judged):
    """The array that scikit-learn made of an array-like, or Rows, of which everything is then looked at."""
    if not isinstance(rows, Rows):
        return judged
    rows.check()
    return rows


def is_mapped(array):
    """Whether an array is a view of a file, or will be read."""
    while array is not None and not isinstance(array, np.memmap | Rows):
        array = getattr(array, "base", None)
    return array is not None


def as_lazy(x, name):
    """Wrap a large container or file that reads data only on demand as Rows; return anything else unchanged."""
    if hasattr(x, "dims") and hasattr(x, "data") and not isinstance(x, np.ndarray):  # xarray
        x = x.data
    torch = sys.modules.get("torch")
    if isinstance(x, np.generic | list | tuple | np.ma.MaskedArray | Rows) or issparse(x) or hasattr(x, "iloc"):
        return x
    if isinstance(x, np.ndarray) and not is_mapped(x):
        return x
    if torch is not None and isinstance(x, torch.Tensor):
        return x
    shape, dtype = getattr(x, "shape", ()), getattr(x, "dtype", None)
    if len(shape) < 2 or not isinstance(dtype, np.dtype) or dtype.kind not in "fiub" or not hasattr(x, "__getitem__"):
        return x
    return x if prod(shape) * dtype.itemsize <= LARGE else Rows(x, name)
