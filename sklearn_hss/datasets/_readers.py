"""Readers of published simulations: The Well, and the data of DiffusionPDE."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import index
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io
from sklearn.utils._param_validation import validate_params

from .._parameters import Count
from ._checks import as_integer

# Number of bytes that are read at a time.
_BLOCK = 2**26

_COMMON_CONSTRAINTS: dict[str, list] = {
    "path": [str, os.PathLike, list, tuple],
    "states": [tuple, list, range, slice],
    "n_samples": [Count(1), None],
    "return_trajectories": ["boolean"],
}


@validate_params(
    {**_COMMON_CONSTRAINTS, "fields": [tuple, list, None], "parameter_channels": ["boolean", tuple, list]},
    prefer_skip_nested_validation=True,
)
def load_the_well(
    path: str | os.PathLike | list,
    *,
    states: tuple[int, ...] | range | slice = (0, -1),
    fields: list[str] | None = None,
    parameter_channels: bool | list[str] = True,
    n_samples: int | None = None,
    return_trajectories: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Read pairs of states, or trajectories, from files of The Well.

    The Well is a collection of simulations in HDF5 files with a common layout. For its
    ``gray_scott_reaction_diffusion``, the channels of the first state are the concentrations A and B and the parameters
    F and k, those of the second are A and B. Only the requested data are read. Requires h5py: ``pip install
    "sklearn-hss[io]"``.

    Parameters
    ----------
    path : str, path or list of them
        Files, and folders whose ``*.hdf5`` and ``*.h5`` files, including those in subfolders, are read in sorted order.
        Use ``.../data/train`` rather than ``.../data``, which also contains the test set.
    states : tuple of ints or slice, default=(0, -1)
        Indices of the two states; negative ones count from the end. For trajectories, any number of indices, or a
        slice: ``slice(None)`` selects all states, ``slice(None, None, 10)`` every tenth.
    fields : list of str, default=None
        Names of the fields. The default is all fields, scalar fields before vector fields and tensor fields. Every
        component of a vector or tensor is a channel.
    parameter_channels : bool or list of str, default=True
        Whether the parameters of the equation (the ``scalars`` of the file) are appended as constant channels, or the
        names of the parameters to append. Parameters that vary in time are evaluated at the time of the state.
    n_samples : int, default=None
        Number of trajectories, the first ones in the order of the files. The default is all.
    return_trajectories : bool, default=False
        Whether to return trajectories instead of pairs.

    Returns
    -------
    X : ndarray of shape (n_samples, n_inputs, \\*n_points)
        First states: the fields, including those that are constant in time, and the parameters.
    Y : ndarray of shape (n_samples, n_outputs, \\*n_points)
        Second states: the fields that vary in time.
    times : ndarray of shape (n_states,) or (n_samples, n_states)
        Only if `return_trajectories`, instead of X: times of the states, with one row per sample if they differ.
    U : ndarray of shape (n_samples, n_states, n_inputs, \\*n_points)
        Only if `return_trajectories`, instead of Y: the channels of X at all states.

    Raises
    ------
    ImportError
        If h5py is not installed.
    FileNotFoundError
        If a path does not exist.
    ValueError
        If a file is damaged or does not have the layout of The Well, if files are inconsistent or do not contain the
        requested data, or if the data contain missing values or are packed.

    See Also
    --------
    load_diffusionpde : Reader of the data of DiffusionPDE.

    Notes
    -----
    Missing values are those specified by the attributes ``_FillValue`` and ``missing_value`` of an array, and HDF5's
    own fill value unless that is zero: parts of an array that were never written are then read as zeros.

    The arrays have the precision of the files, which is single. HDF5 can be memory-mapped only if an array is
    contiguous and uncompressed in its file. The results are read-only memory maps if they are a part of one such array
    (one file, one scalar field, no parameter channels, equidistant increasing states), and arrays in memory otherwise.

    References
    ----------
    Ohana et al., The Well: a Large-Scale Collection of Diverse Physics Simulations for Machine Learning, NeurIPS 2024.

    Examples
    --------
    A file with this layout, with two trajectories of three states on a grid of 4 x 4 points:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import h5py
    >>> import numpy as np
    >>> from sklearn_hss.datasets import load_the_well
    >>> path = Path(tempfile.mkdtemp()) / "gray_scott_reaction_diffusion_maze_F_0.029_k_0.057.hdf5"
    >>> with h5py.File(path, "w") as file:
    ...     file.attrs["n_trajectories"] = 2
    ...     file["dimensions/time"] = np.array([0.0, 10.0, 20.0])
    ...     file["dimensions/x"] = file["dimensions/y"] = np.linspace(-1, 1, 4)
    ...     file["dimensions"].attrs["spatial_dims"] = ["x", "y"]
    ...     file["scalars/F"], file["scalars/k"] = 0.029, 0.057
    ...     file["t0_fields/A"] = file["t0_fields/B"] = np.ones((2, 3, 4, 4), "float32")
    >>> X, Y = load_the_well(path)
    >>> X.shape, Y.shape
    ((2, 4, 4, 4), (2, 2, 4, 4))
    >>> times, U = load_the_well(path, states=slice(None), return_trajectories=True)
    >>> times, U.shape
    (array([ 0., 10., 20.]), (2, 3, 4, 4, 4))
    """
    h5py = _import_h5py("load_the_well")
    for parameter, names in (("fields", fields), ("parameter_channels", parameter_channels)):
        if isinstance(names, list | tuple) and any(name in names[:i] for i, name in enumerate(names)):
            raise ValueError(f"{parameter}={names!r} must not contain duplicates.")
    files: list[_WellFile] = []
    n_stored = 0
    for file_path in _find_files(path, (".hdf5", ".h5")):
        file = _describe_well_file(h5py, file_path, fields, parameter_channels)
        _check_fit(files, file)
        picked = _pick_states(states, file.times.shape[1], file_path, return_trajectories)
        rows = slice(n_stored, n_stored + file.n_trajectories)
        if n_samples is not None:
            rows = slice(rows.start, min(rows.stop, n_samples))
        files.append(file._replace(states=picked, rows=rows))
        n_stored = rows.stop
        if n_stored == n_samples:
            break
    _check_n_samples(n_samples, n_stored, path)
    if len({len(file.states) for file in files}) > 1:
        raise ValueError(f"states={states!r} selects different numbers of states in the files of {path}.")

    first = files[0]
    outputs = [field.time_varying for field in first.fields.values()]
    if not any(outputs):
        raise ValueError(
            f"fields={list(first.fields)} do not vary in time in {first.path}, so there is no second state."
        )
    times = np.concatenate([file.times[: file.n_rows, file.states] for file in files])
    times = times[0] if (times == times[0]).all() else times
    mapped = _map(h5py, files)
    if mapped is not None:
        if return_trajectories:
            return times, mapped[:, _runs(first.states)[0][0], None]
        start, end = first.states
        return mapped[:, start, None], mapped[:, end, None]

    dtype = np.result_type(*(field.dtype for file in files for field in file.fields.values()))
    grid = tuple(map(len, first.axes.values()))
    n_channels = [field.n_channels for field in first.fields.values()]
    n_inputs, n_outputs = sum(n_channels) + len(first.parameters), int(np.dot(n_channels, outputs))
    X = np.empty((n_stored, len(first.states) if return_trajectories else 1, n_inputs, *grid), dtype)
    Y = np.empty((n_stored, 1, n_outputs, *grid), dtype) if not return_trajectories else None
    for file in files:
        picked = file.states if return_trajectories else file.states[:1]
        with _open_hdf5(h5py, file.path) as source:
            _read(source, file.fields.values(), picked, X[file.rows])
            if Y is not None:
                varying = [field for field in file.fields.values() if field.time_varying]
                _read(source, varying, file.states[1:], Y[file.rows])
        for channel, values in enumerate(file.parameters.values(), sum(n_channels)):
            X[file.rows, :, channel] = values[: file.n_rows, picked].reshape(file.n_rows, -1, *[1] * len(grid))
    return (times, X) if Y is None else (X[:, 0], Y[:, 0])


@validate_params(_COMMON_CONSTRAINTS, prefer_skip_nested_validation=True)
def load_diffusionpde(
    path: str | os.PathLike | list,
    *,
    states: tuple[int, ...] | range | slice = (0, -1),
    n_samples: int | None = None,
    return_trajectories: bool = False,
) -> tuple[np.ndarray | None, np.ndarray]:
    """Read pairs of states, or trajectories, from the Navier-Stokes data of DiffusionPDE.

    Three kinds of files, which are distinguished by their contents, are supported:

    - ``.mat`` of the unbounded flow, as SciPy writes it: vorticities ``a`` of shape [N, X, Y] at t = 0 and ``u`` of
      shape [N, X, Y, T] at the times ``t``. State 0 is ``a``, the others are those of ``u``.
    - ``.mat``, ``.h5`` and ``.hdf5`` in HDF5, with the same names or ``w0`` and ``w``. Requires h5py: ``pip install
      "sklearn-hss[io]"``.
    - ``.npy`` of the bounded flow, one array of shape [N, X, Y, T]. The states of the paper are ``states=(4, 8)``.

    The pairs of the Poisson, Helmholtz and Darcy equations, of shape [N, X, Y], are read as well.

    Parameters
    ----------
    path : str, path or list of them
        Files, and folders whose files of these kinds, including those in subfolders, are read in sorted order.
    states : tuple of ints or slice, default=(0, -1)
        Indices of the two states; negative ones count from the end. For trajectories, any number of indices, or a
        slice: ``slice(None)`` selects all states.
    n_samples : int, default=None
        Number of samples, the first ones in the order of the files. The default is all.
    return_trajectories : bool, default=False
        Whether to return trajectories instead of pairs.

    Returns
    -------
    F : ndarray of shape (n_samples, X, Y)
        First states. Read-only memory map if they come from one ``.npy``.
    U : ndarray of shape (n_samples, X, Y)
        Second states, which are also memory maps in this case.
    times : ndarray of shape (n_states,) or None
        Only if `return_trajectories`, instead of F: times of the states, None if the files do not contain them.
    W : ndarray of shape (n_samples, n_states, X, Y)
        Only if `return_trajectories`, instead of U: trajectories. Read-only memory map if they come from one ``.npy``
        and the states are equidistant.

    Raises
    ------
    ImportError
        If a file needs h5py, which is not installed.
    FileNotFoundError
        If a path does not exist.
    ValueError
        If a file is damaged or not of one of these kinds, if files are inconsistent or do not contain the requested
        data, or if the data contain missing values or are packed.

    See Also
    --------
    load_the_well : Reader of The Well.

    Notes
    -----
    Missing values in HDF5 are defined as in :func:`load_the_well`.

    References
    ----------
    Huang, Yang, Wang, Park, DiffusionPDE: Generative PDE-Solving Under Partial Observation, NeurIPS 2024.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklearn_hss.datasets import load_diffusionpde
    >>> path = Path(tempfile.mkdtemp()) / "v.npy"
    >>> np.save(path, np.zeros((5, 8, 8, 10), "float32"))
    >>> F, U = load_diffusionpde(path, states=(4, 8))
    >>> F.shape, U.shape, isinstance(U, np.memmap)
    ((5, 8, 8), (5, 8, 8), True)
    """
    parts: list[tuple] = []
    grid: Any = None
    times: Any = None
    n_stored = 0
    for file_path in _find_files(path, (".npy", ".mat", ".h5", ".hdf5")):
        with _open_diffusionpde(file_path) as stored:
            n, *shape = stored.later.shape[:3]
            if grid not in (None, shape):
                raise ValueError(f"{file_path} has a grid of {shape} points, the files before it one of {grid}.")
            picked = _pick_states(states, stored.n_states, file_path, return_trajectories)
            if n_samples is not None:
                n = min(n, n_samples - n_stored)
            part_times: Any = None if stored.times is None else stored.times[picked]
            if parts and return_trajectories and not np.array_equal(times, part_times):
                raise ValueError(f"{file_path} has states at the times {part_times}, the files before it at {times}.")
            grid, times = shape, part_times
            parts.append((stored.trajectories(n, picked),) if return_trajectories else stored.states(n, picked))
        n_stored += n
        if n_stored == n_samples:
            break
    _check_n_samples(n_samples, n_stored, path)
    # A single part is not copied, so that a memory map remains one.
    first, *rest = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    return (times, first) if return_trajectories else (first, rest[0])


def _import_h5py(caller):
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f'{caller} needs h5py: pip install "sklearn-hss[io]".') from error
    return h5py


@contextmanager
def _reading(path, kind, errors=Exception):
    """Add the path to errors of libraries, which may have any type for damaged files."""
    try:
        yield
    except (MemoryError, PermissionError):
        raise
    except errors as error:
        raise ValueError(f"{path} is not {kind}, or damaged ({error}).") from error


@contextmanager
def _open_hdf5(h5py, path):
    # Data that are read later may be damaged as well, for which h5py raises these errors. Other errors pass unchanged.
    with _reading(path, "an HDF5 file", (OSError, KeyError, RuntimeError)), h5py.File(path, "r") as file:
        yield file


def _numbers(where, item):
    """Return `item` if it is an array of real numbers; in HDF5 it may be a group, have no shape, or be missing."""
    if getattr(item, "shape", None) is None or item.dtype.kind not in "biuf":
        kind = f"of type {item.dtype}" if hasattr(item, "dtype") else "missing" if item is None else "a group"
        raise ValueError(f"{where} is {kind}; expected is an array of real numbers.")
    if 0 in item.shape:
        raise ValueError(f"{where} has no values, but the shape {tuple(item.shape)}.")
    for attribute, neutral in (("scale_factor", 1), ("add_offset", 0)):
        value = getattr(item, "attrs", {}).get(attribute, neutral)
        if np.any(value != neutral):
            raise ValueError(f"{where} is packed, with {attribute}={value}; store the numbers themselves.")
    return item


def _fill_values(dataset):
    """Values that represent missing data: those declared as in netCDF, and HDF5's own fill value if it is not zero."""
    declared = [dataset.attrs.get("_FillValue"), dataset.attrs.get("missing_value"), dataset.fillvalue or None]
    values = [value for each in declared if each is not None for value in np.ravel(each)]
    return [value for value in values if value.dtype.kind in "biuf" and not np.isnan(value)]


def _present(dataset, key):
    """The values of a part of an array in HDF5, none of which may be missing. NaN is checked elsewhere."""
    values = dataset[key]
    for fill in _fill_values(dataset):
        n_missing = np.count_nonzero(values == fill)
        if n_missing:
            raise ValueError(
                f"{dataset.name!r} of {dataset.file.filename} contains {n_missing} times its fill value {fill:g}, "
                "which represents missing data; write data there, or exclude these samples."
            )
    return values


def _is_integer(value):
    try:
        as_integer(value)
    except TypeError:
        return False
    return True


def _find_files(path, suffixes):
    kinds = ", ".join(f"*{suffix}" for suffix in suffixes)
    files = []
    for item in path if isinstance(path, list | tuple) else [path]:
        item = Path(item).expanduser()
        if not item.exists():
            raise FileNotFoundError(f"{item} does not exist.")
        if item.is_dir():
            found = sorted(file for file in item.rglob("*") if file.suffix in suffixes and file.is_file())
            if not found:
                raise ValueError(f"{item} holds none of {kinds}.")
            files += found
        else:
            files.append(item)
    if not files:
        raise ValueError(f"path={path!r} names no file.")
    return files


def _pick_states(states, n_states, path, any_number):
    if isinstance(states, slice) and any_number:
        picked = list(range(n_states)[states])
    else:
        picked = [] if isinstance(states, slice) else [index(state) for state in states if _is_integer(state)]
        if not picked or len(picked) != len(states) or (len(picked) != 2 and not any_number):
            raise ValueError(
                f"states={states!r} must be a pair of integers (first, second); only trajectories accept another "
                f"number of them, or a slice."
            )
    for state in picked:
        if not -n_states <= state < n_states:
            raise ValueError(f"state {state} was requested, but {path} has {n_states} states, 0 to {n_states - 1}.")
    if not picked:
        raise ValueError(f"states={states!r} selects none of the {n_states} states of {path}.")
    return [state % n_states for state in picked]


def _check_n_samples(n_samples, n_stored, path):
    if n_samples is not None and n_stored < n_samples:
        raise ValueError(f"n_samples={n_samples} were requested, but {path} contains {n_stored}.")


def _runs(states):
    """Pairs of slices (of the stored states, of the returned ones), a single pair for equidistant states."""
    steps = set(np.diff(states))
    if not steps or (len(steps) == 1 and min(steps) > 0):
        step = int(min(steps, default=1))
        return [(slice(states[0], states[-1] + 1, step), slice(None))]
    return [(slice(state, state + 1), slice(i, i + 1)) for i, state in enumerate(states)]


@dataclass(frozen=True)
class _WellField:
    """Location of a field, and the axes (samples, time, \\*space, \\*components) along which it is stored."""

    key: str
    dtype: np.dtype
    sample_varying: bool
    time_varying: bool
    dim_varying: tuple[bool, ...]
    components: tuple[int, ...]

    @property
    def n_channels(self):
        return int(np.prod(self.components))

    @property
    def is_full(self):
        return self.sample_varying and self.time_varying and all(self.dim_varying)


class _WellFile(NamedTuple):
    """Description of a file. `times` and every parameter have shape (n_trajectories, n_steps)."""

    path: Path
    n_trajectories: int
    axes: dict[str, np.ndarray]
    times: np.ndarray
    fields: dict[str, _WellField]
    parameters: dict[str, np.ndarray]
    states: list[int]
    rows: slice

    @property
    def n_rows(self):
        return self.rows.stop - self.rows.start


def _describe_well_file(h5py, path, fields, parameters):
    with _open_hdf5(h5py, path) as file:
        groups = [name for name in ("t0_fields", "t1_fields", "t2_fields") if name in file]
        if "dimensions" not in file or not groups:
            missing = "t0_fields" if "dimensions" in file else "dimensions"
            raise ValueError(f"{path} has no group {missing!r} as files of The Well do; it has: {_listed(file)}.")
        if "n_trajectories" not in file.attrs:
            raise ValueError(f"{path} has no attribute 'n_trajectories'; it has: {_listed(file.attrs)}.")
        n_trajectories = file.attrs["n_trajectories"]
        if not _is_integer(n_trajectories) or n_trajectories < 1:
            raise ValueError(f"{path} has n_trajectories={n_trajectories}; expected is a positive integer.")
        n_trajectories = index(n_trajectories)
        dimensions = file["dimensions"]
        names = _names(dimensions, "spatial_dims", [name for name in dimensions if name != "time"])
        for name in ["time", *names]:
            if name not in dimensions:
                raise ValueError(f"{path} has no 'dimensions/{name}'; 'dimensions' has: {_listed(dimensions)}.")
            if not _numbers(f"'dimensions/{name}' of {path}", dimensions.get(name)).shape:
                raise ValueError(f"{path} has 'dimensions/{name}' of shape (); expected is one value per point.")
        axes = {}
        for name in names:
            coordinates = _present(dimensions[name], ())
            if coordinates.ndim > 1 and not (coordinates == coordinates[0]).all():
                raise ValueError(f"{path} has a grid that varies along {name!r}, which is not supported.")
            axes[name] = coordinates.reshape(-1, coordinates.shape[-1])[0]
        times = np.atleast_2d(_present(dimensions["time"], ()))
        if times.ndim > 2 or len(times) not in (1, n_trajectories):
            raise ValueError(f"{path} has times of shape {times.shape} for {n_trajectories} trajectories.")
        shape = (n_trajectories, times.shape[1])

        stored = {name: f"{group}/{name}" for group in groups for name in _names(file[group], "field_names")}
        wanted = list(stored) if fields is None else list(fields)
        if not wanted:
            raise ValueError(f"fields={fields!r} names none of the fields of {path}, which are: {_listed(stored)}.")
        _check_known(path, "field", wanted, stored)
        scalars = file.get("scalars", {})
        known = _names(scalars, "field_names") if scalars else []
        appended = {True: known, False: []}[parameters] if isinstance(parameters, bool) else list(parameters)
        _check_known(path, "parameter", appended, known)
        arrays = {name: _numbers(f"{stored[name]!r} of {path}", file.get(stored[name])) for name in wanted}
        values = {name: _numbers(f"'scalars/{name}' of {path}", scalars.get(name)) for name in appended}
        return _WellFile(
            path,
            n_trajectories,
            axes,
            np.broadcast_to(times, shape),
            {name: _describe_field(path, array, stored[name], shape, axes) for name, array in arrays.items()},
            {name: _read_parameter(path, value, shape) for name, value in values.items()},
            states=[],
            rows=slice(0),
        )


def _listed(names):
    return ", ".join(map(str, names)) or "nothing"


def _names(group, attribute, default=None):
    # The attribute determines the order, but may be absent from some files.
    names = group.attrs.get(attribute, list(group) if default is None else default)
    return [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(names)]


def _check_known(path, kind, names, known):
    for name in names:
        if name not in known:
            raise ValueError(f"{path} has no {kind} {name!r}; its {kind}s are: {_listed(known)}.")


def _describe_field(path, dataset, key, shape, axes):
    attributes = dataset.attrs
    sample_varying, time_varying = (bool(attributes.get(f"{axis}_varying", True)) for axis in ("sample", "time"))
    dim_varying = tuple(map(bool, attributes.get("dim_varying", [True] * len(axes))))
    leading = [n for n, varies in zip(shape, (sample_varying, time_varying), strict=True) if varies]
    varying = [len(x) for x, varies in zip(axes.values(), dim_varying, strict=True) if varies]
    # Axes along which a field is constant are omitted, or have length one.
    kept = [len(x) if varies else 1 for x, varies in zip(axes.values(), dim_varying, strict=True)]
    for spatial in (kept, varying):
        expected = (*leading, *spatial)
        components = dataset.shape[len(expected) :]
        if dataset.shape[: len(expected)] == expected and bool(components) != key.startswith("t0"):
            return _WellField(key, dataset.dtype, sample_varying, time_varying, dim_varying, components)
    names = ["n_trajectories"] * sample_varying + ["n_steps"] * time_varying + [*axes]
    names += [] if key.startswith("t0") else ["components"]
    raise ValueError(
        f"{path} has {key!r} of shape {dataset.shape}; expected are the axes ({', '.join(names)}), the first of them "
        f"of lengths {(*leading, *kept)}."
    )


def _read_parameter(path, dataset, shape):
    varies = [bool(dataset.attrs.get(f"{axis}_varying", False)) for axis in ("sample", "time")]
    stored = tuple(n if varying else 1 for n, varying in zip(shape, varies, strict=True))
    if dataset.size != np.prod(stored):
        raise ValueError(
            f"{path} has {dataset.name!r} of shape {dataset.shape}; expected are {np.prod(stored)} values."
        )
    return np.broadcast_to(_present(dataset, ()).reshape(stored), shape)


def _check_fit(files, file):
    if not files:
        return
    first = files[0]
    if list(first.axes) != list(file.axes) or any(len(x) != len(file.axes[name]) for name, x in first.axes.items()):
        sizes = [{name: len(x) for name, x in each.axes.items()} for each in (file, first)]
        raise ValueError(f"{file.path} has the grid {sizes[0]}, but {first.path} has {sizes[1]}.")
    for name, x in first.axes.items():
        if not np.allclose(x, file.axes[name], atol=1e-6 * np.ptp(x)):
            raise ValueError(f"{file.path} and {first.path} have different coordinates along {name!r}.")
    for kind in ("fields", "parameters"):
        names = [list(getattr(each, kind)) for each in (file, first)]
        if names[0] != names[1]:
            raise ValueError(f"{file.path} has the {kind} {_listed(names[0])}, but {first.path} {_listed(names[1])}.")
    for name, field in first.fields.items():
        other = file.fields[name]
        if (field.components, field.time_varying) != (other.components, other.time_varying):
            raise ValueError(f"{file.path} and {first.path} have fields {name!r} of different kinds.")


def _map(h5py, files):
    """Memory map of shape (n_samples, n_steps, \\*grid), or None if the result is not a part of one array."""
    file = files[0]
    if len(files) > 1 or len(file.fields) > 1 or file.parameters or len(_runs(file.states)) > 1:
        return None
    (field,) = file.fields.values()
    if not field.is_full or field.components:
        return None
    with _open_hdf5(h5py, file.path) as source:
        dataset = source[field.key]
        in_one_piece = dataset.chunks is None and dataset.external is None and not dataset.is_virtual
        offset = dataset.id.get_offset() if in_one_piece else None
        if offset is None or source.userblock_size or not dataset.dtype.isnative or _fill_values(dataset):
            return None
        return np.memmap(file.path, dataset.dtype, "r", offset, dataset.shape)[: file.n_rows]


def _read(source, fields, states, out):
    """Read the states of fields into `out` of shape (n_samples, n_states, n_channels, \\*grid), channel by channel."""
    channel = 0
    for field in fields:
        dataset = source[field.key]
        sizes = [n if varies else 1 for n, varies in zip(out.shape[3:], field.dim_varying, strict=True)]
        for component in np.ndindex(*field.components):
            for stored, returned in _runs(states):
                for rows in _blocks(dataset, out[:, returned, channel]) if field.sample_varying else [slice(None)]:
                    target = out[rows, returned, channel]
                    wanted = (rows,) * field.sample_varying + (stored,) * field.time_varying
                    wanted += (slice(None),) * (dataset.ndim - len(wanted) - len(component)) + component
                    n_samples = len(target) if field.sample_varying else 1
                    n_states = target.shape[1] if field.time_varying else 1
                    target[...] = _present(dataset, wanted).reshape(n_samples, n_states, *sizes)
            channel += 1


def _blocks(dataset, target):
    # HDF5 is very slow in scattering to an array of channels, so intermediate blocks are used. They do not split
    # chunks, which would be read, and uncompressed, twice.
    whole = dataset.chunks[0] if dataset.chunks else 1
    step = max(1, _BLOCK // (whole * target[0].nbytes)) * whole
    return [slice(start, min(start + step, len(target))) for start in range(0, len(target), step)]


# Names of the first and of the later states: unbounded flow (twice), Poisson, Helmholtz, Darcy.
_PAIRS = [
    ("a", "u"),
    ("w0", "w"),
    ("f_data", "phi_data"),
    ("f_data", "psi_data"),
    ("thresh_a_data", "thresh_p_data"),
]


class _Stored(NamedTuple):
    """Arrays of a file: `first` of shape [N, X, Y] or None, `later` of shape [N, X, Y, T] or [N, X, Y]."""

    first: Any
    later: Any
    times: Any = None

    @property
    def n_states(self):
        return (self.first is not None) + (self.later.shape[3] if len(self.later.shape) == 4 else 1)

    def states(self, n_samples, picked):
        rows = (slice(n_samples), slice(None), slice(None))
        return tuple(_contiguous(self._state(rows, state)) for state in picked)

    def _state(self, rows, state):
        if self.first is None:
            return self.later[(*rows, state)]
        if state == 0:
            return self.first[rows]
        return self.later[(*rows, state - 1)[: len(self.later.shape)]]

    def trajectories(self, n_samples, picked):
        if len(self.later.shape) < 4:
            return np.stack(self.states(n_samples, picked), axis=1)
        offset = self.first is not None
        places = [i for i, state in enumerate(picked) if state >= offset]
        blocks = [
            (places[returned], np.moveaxis(self.later[:n_samples, :, :, stored], 3, 1))
            for stored, returned in (_runs([picked[i] - offset for i in places]) if places else [])
        ]
        if len(blocks) == 1 and len(places) == len(picked):
            return _contiguous(blocks[0][1])
        W = np.empty((n_samples, len(picked), *self.later.shape[1:3]), self.later.dtype)
        for place, block in blocks:
            W[:, place] = block
        for i in set(range(len(picked))) - set(places):
            W[:, i] = self.first[:n_samples, :, :]
        return W


class _Present:
    """Array in HDF5 without missing values. The axes of arrays written by MATLAB are reversed."""

    def __init__(self, dataset):
        self.dataset, self.is_reversed = dataset, "MATLAB_class" in dataset.attrs
        self.shape, self.dtype = dataset.shape[:: -1 if self.is_reversed else 1], dataset.dtype

    def __getitem__(self, key):
        if self.is_reversed:
            return _present(self.dataset, key[::-1]).T
        return _present(self.dataset, key)


def _contiguous(array):
    # A view would keep the whole array in memory; a memory map requires none.
    return array if isinstance(array, np.memmap) else np.ascontiguousarray(array)


@contextmanager
def _open_diffusionpde(path) -> Iterator[_Stored]:
    if path.suffix == ".npy":
        with _reading(path, "a .npy file"):
            later = np.lib.format.open_memmap(path, mode="r")  # np.load also opens files of other kinds
        _numbers(path, later)
        if later.ndim != 4:
            raise ValueError(f"{path} has an array of shape {later.shape}; expected is [N, X, Y, T].")
        yield _Stored(None, later)
    elif _is_hdf5(path):
        with _open_hdf5(_import_h5py(f"load_diffusionpde of {path}"), path) as file:
            names = _pick_arrays(path, file)
            arrays = [_numbers(f"{name!r} of {path}", file.get(name)) for name in names]
            yield _checked(path, names, list(map(_Present, arrays)))
    else:
        with _reading(path, "a file of MATLAB, HDF5 or NumPy (.npy)"):
            known = [name for name, _, _ in scipy.io.whosmat(path)]
            # Loaded before names are checked, since a truncated file ends within one of these arrays.
            loaded = scipy.io.loadmat(path, variable_names=["t", *chain(*_PAIRS)])
        names = _pick_arrays(path, known)
        yield _checked(path, names, [_numbers(f"{name!r} of {path}", loaded[name]) for name in names])


def _is_hdf5(path):
    # The signature is at the beginning, or after a block of 512 bytes (as in MATLAB files), 1024, ...
    with open(path, "rb") as file:
        for offset in (0, 512, 1024, 2048):
            file.seek(offset)
            if file.read(8) == b"\x89HDF\r\n\x1a\n":
                return True
    return False


def _pick_arrays(path, names):
    for pair in _PAIRS:
        if set(pair) <= set(names):
            return [*pair, *({"t"} & set(names))]
    pairs = "; ".join(" and ".join(pair) for pair in _PAIRS)
    raise ValueError(f"{path} has the arrays {_listed(names)}; expected are two of these names: {pairs}.")


def _checked(path, names, arrays):
    first, later, *times = arrays
    shapes = [tuple(array.shape) for array in (first, later)]
    if len(shapes[0]) != 3 or len(shapes[1]) not in (3, 4) or shapes[1][:3] != shapes[0]:
        raise ValueError(
            f"{path} has {names[0]!r} of shape {shapes[0]} and {names[1]!r} of shape {shapes[1]}; expected are "
            f"[N, X, Y] and [N, X, Y, T]."
        )
    stored = _Stored(first, later)
    if not times:
        return stored
    t = np.ravel(times[0][(slice(None),) * len(times[0].shape)])
    if len(t) != stored.n_states - 1:
        raise ValueError(f"{path} has {len(t)} times 't' for {stored.n_states - 1} states in {names[1]!r}.")
    return stored._replace(times=np.concatenate([[0.0], t]))
