"""Files of estimators: plain data, from which nothing is run.

A file is a zip archive, not compressed, of "metadata.json" and of arrays in NumPy's format, "0.npy" and so on. The
metadata are the format, the versions that wrote it, and a table of objects. A value is null, a boolean, a number, a
string, or a list [i], which stands for object i of the table: so objects may be shared, and refer to each other. The
comment of the archive, at the end of the file, is the SHA-256 of everything before its digits, in this format and all
later ones: so no loader sees damaged data.

To keep files readable for ever:

- The classes that occur have short names in files; `_PLACES` says where they are today.
- Maps and dataclasses are kept as arguments of their constructors, all else by its attributes. A constructor keeps its
  arguments, or takes old ones as well; a class whose attributes change fills in new ones in `__setstate__`.
- If that does not do, `_FORMAT` grows, and `_LOADERS` keeps the function for the old one.
"""

import dataclasses
import hashlib
import importlib
import json
import math
import platform
import re
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import scipy
import scipy.sparse as sp
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.gaussian_process.kernels import Kernel
from sklearn.neural_network._stochastic_optimizers import BaseOptimizer
from sklearn.utils._metadata_requests import _MetadataRequester

from . import __version__
from ._devices import available
from ._files import complete_file, refuse_folder

_FORMAT = 1

# Our classes that occur in fitted estimators, by module.
_PLACES = {
    name: f"{__package__}.{module}"
    for module, names in {
        "_fields": "Domain FieldShape",
        "estimators": "DeepONetRegressor FNORegressor FactFormerRegressor GreenLearningRegressor HSSRegressor "
        "HSSTransformer LocalEvolutionRegressor LocalOperatorRegressor NeuralHSSRegressor ResNetRegressor "
        "ResidualRegressor RolloutRegressor",
        "estimators._training": "Training",
        "fitting._evolution": "Evolution RidgeStep",
        "fitting._integrators": "Integrator",
        "fitting._neighbourhoods": "Points",
        "fitting._newton": "NonlinearInverse",
        "fitting._polynomials": "Feature Groups Polynomial Terms",
        "fitting._reflections": "Lines",
        "fitting._shooting": "Law",
        "linalg": "ClusterTree DiagonalizedOperator HSSMatrix KroneckerProductSum LowRankOperator OperatorProduct "
        "OperatorSum SparseInverse SparseMatrix",
        "linalg._sparse_inverse": "TransposedSparseInverse",
        "metrics": "_FieldScorer _RolloutScorer relative_l2_error trajectory_l2_error",
        "nn": "DeepONet FNO FactFormer GreenLearning LevenbergMarquardt NeuralHSS PatchHSS ResNet SOAP",
        "preprocessing": "FieldScaler",
    }.items()
    for name in names.split()
}
# Those that are kept by their attributes, beside estimators.
_BY_ATTRIBUTES = ("RidgeStep", "_FieldScorer", "_RolloutScorer")
# Bases of all objects of scikit-learn that are kept: estimators, splitters and scorers, and some that these hold.
_OF_SKLEARN = (_MetadataRequester, Kernel, BaseOptimizer)
# Packages of scikit-learn whose modules have effects, or nothing to keep.
_NOT_OF_SKLEARN = {"conftest", "datasets", "experimental", "externals", "tests", "utils"}
_SPARSE = {"csr": ("indices", "indptr"), "csc": ("indices", "indptr"), "bsr": ("indices", "indptr"), "coo": ("coords",)}
_KINDS_OF_NUMBERS = "biufcSUmM"
_PREFIX = b"sklearn_hss sha256 "
_DIGITS = 64
_BLOCK = 1 << 20


def save(model, path):
    """Keep an estimator in a file that later versions read.

    The file holds numbers and names, and no code: it is safe to load from anywhere, on a machine with or without a GPU,
    and predictions are the same to the last bit on the same machine and versions. Training can go on; the state of the
    optimiser is kept with ``warm_start=True``, and callbacks are not.

    Parameters
    ----------
    model : estimator
        Of this package, or of scikit-learn: pipelines, searches, scalers, linear models and others that are made of
        arrays, with estimators of this package inside or not. Fitted or not.
    path : str or path-like
        Taken as it is, without an ending of its own. A file of the name is replaced when the new one is complete.

    Raises
    ------
    TypeError
        If `model` is no estimator, or something in it cannot be kept: functions and classes of users, and objects of
        other packages. The message says where it is. Nothing is written.
    OSError
        If the file cannot be written. One that was there before is as it was.

    Warns
    -----
    UserWarning
        If there are callbacks, which are left out.

    See Also
    --------
    load : The estimator in a file.

    Examples
    --------
    >>> import os, tempfile
    >>> import sklearn_hss
    >>> from sklearn_hss.datasets import make_poisson
    >>> F, U = make_poisson(n_samples=20, n_points=32, random_state=0)
    >>> model = sklearn_hss.HSSRegressor(random_state=0).fit(F, U)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.hss")
    ...     sklearn_hss.save(model, path)
    ...     again = sklearn_hss.load(path)
    >>> bool((again.predict(F) == model.predict(F)).all())
    True
    """
    if not isinstance(model, BaseEstimator):
        raise TypeError(f"model is of type {type(model).__name__}; it must be an estimator.")
    writer = _Writer()
    reference = writer.value(model, type(model).__name__)
    versions = {
        "numpy": np.__version__,
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
        "scipy": scipy.__version__,
        "torch": torch.__version__,
    }
    metadata = {
        "format": _FORMAT,
        "written_by": f"{__package__} {__version__}",
        "versions": versions,
        "model": reference,
        "objects": writer.nodes,
    }
    with complete_file(Path(path)) as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.comment = _PREFIX + _DIGITS * b"0"
            archive.writestr(_entry("metadata.json"), json.dumps(metadata, allow_nan=False))
            for i, array in enumerate(writer.arrays):
                entry = _entry(f"{i}.npy")
                entry.file_size = array.nbytes + 1024  # for files that need zip64
                with archive.open(entry, "w") as part:
                    np.lib.format.write_array(part, array, version=(1, 0), allow_pickle=False)
        digest = _digest(file)
        file.seek(-_DIGITS, 2)
        file.write(digest)


def load(path):
    """Estimator in a file that :func:`save` has written, with this version or an earlier one.

    Nothing in the file is run, whoever has written it: it holds the names of known classes and numbers.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    estimator
        What was on a GPU is there again if there is one, else on the CPU.

    Raises
    ------
    ValueError
        If the file is damaged, is none of :func:`save`, or was written by a version that is too new.
    OSError
        If it cannot be read.

    See Also
    --------
    save : Write such a file.

    Examples
    --------
    >>> import os, tempfile
    >>> import sklearn_hss
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "scaler.hss")
    ...     sklearn_hss.save(sklearn_hss.FieldScaler(method="max"), path)
    ...     sklearn_hss.load(path)
    FieldScaler(method='max')
    """
    refuse_folder(Path(path))
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - len(_PREFIX) - _DIGITS, 0))
        end = file.read()
        if not end.startswith(_PREFIX):
            raise ValueError(f"{path} is no file that sklearn_hss.save has written, or its end is missing.")
        if _digest(file) != end[-_DIGITS:]:
            raise ValueError(f"{path} is damaged: it is not what was written. Take another copy of it.")
        try:
            with zipfile.ZipFile(file) as archive:
                metadata = json.loads(_metadata(archive, size))
                version, author = metadata["format"], metadata["written_by"]
                if type(version) is not int or version <= _FORMAT:
                    return _LOADERS[version](metadata, archive)
        # The description may be anything, and so may be the errors of constructors.
        except Exception as error:
            raise ValueError(
                f"{path} does not hold an estimator that sklearn_hss.save has written: {error!r}"
            ) from error
    raise ValueError(
        f"{path} was written in format {version} by {author:.100}; this version, {__version__}, reads formats up to "
        f"{_FORMAT}: upgrade sklearn_hss."
    )


def _entry(name):
    return zipfile.ZipInfo(name)  # of the year 1980: the same estimators make the same files


def _digest(file):
    """SHA-256 of all but the digits at the end."""
    found = hashlib.sha256()
    left = file.seek(0, 2) - _DIGITS
    file.seek(0)
    while left:
        block = file.read(min(left, _BLOCK))
        found.update(block)
        left -= len(block)
    return found.hexdigest().encode()


def _metadata(archive, size):
    """The metadata of an archive that holds no more than its size, each part once."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries):
        raise ValueError("its parts are compressed")
    if sum(entry.file_size for entry in entries) > size or len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("its parts overlap")
    return archive.read("metadata.json")


# Names


def _name(thing):
    """Name of a class or function in files."""
    name, module = thing.__name__, "numpy" if isinstance(thing, np.ufunc) else thing.__module__
    if module.startswith(f"{__package__}."):
        return name
    # Private modules move.
    for place in (module.split("._")[0], "torch.optim", module):
        if getattr(sys.modules.get(place), name, None) is thing:
            return f"{place}.{name}"
    return ""


def _find(name):
    """Class or function of a name, among those that are known to have no effects."""
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    place, _, last = name.rpartition(".")
    if place == "numpy":
        found = getattr(np, last, None)
        if isinstance(found, np.ufunc) or (isinstance(found, type) and issubclass(found, np.generic)):
            return found
    elif place == "torch.optim":
        found = getattr(torch.optim, last, None)
        if isinstance(found, type) and issubclass(found, torch.optim.Optimizer):
            return found
    elif re.fullmatch(r"sklearn(\.[a-z_]+)+", place) and not _NOT_OF_SKLEARN & set(place.split(".")):
        found = vars(importlib.import_module(place)).get(last)
        if isinstance(found, type) and issubclass(found, _OF_SKLEARN) and found.__module__.startswith("sklearn."):
            return found
        if place == "sklearn.metrics" and last in importlib.import_module(place).__all__:
            return found
    raise ValueError(f"{name!r} is not known")


def _is_known(thing):
    try:
        return _find(_name(thing)) is thing
    except (ValueError, ImportError, AttributeError):
        return False


def _is_filled(kind):
    """Whether objects of a class are kept by their attributes."""
    return issubclass(kind, _OF_SKLEARN) or kind.__name__ in _BY_ATTRIBUTES


def _parts(kind):
    """Arguments of the constructor of a map or dataclass, which are attributes as well."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind) if field.init]
    return list(getattr(kind, "_parts", ()))


# Writing


class _Writer:
    """Table of objects, and their arrays."""

    def __init__(self):
        self.nodes, self.arrays = [], []
        self._known, self._alive, self._open = {}, [], set()

    def value(self, x, path):
        """What stands for `x` in the file; `path` is where it is, for messages."""
        if x is None or type(x) in (bool, int, str) or (type(x) is float and math.isfinite(x)):
            return x
        index = self._known.get(id(x))
        if index is None:
            index = self._known[id(x)] = len(self.nodes)
            self._alive.append(x)  # so that no other object gets its number
            self.nodes.append(None)
            self._open.add(index)
            try:
                self.nodes[index] = self._node(x, path, index)
            except RecursionError:
                raise TypeError(f"{path} is nested too deeply to be kept in a file.") from None
            self._open.discard(index)
        elif index in self._open:
            raise TypeError(f"{path}, of type {type(x).__name__}, is a part of itself, and cannot be kept in a file.")
        return [index]

    def _values(self, values, path):
        return [self.value(x, f"{path}[{i}]") for i, x in enumerate(values)]

    def _array(self, array):
        """Number of an array, and the layout of its memory, on which rounding depends."""
        layout = {"array": len(self.arrays)}
        if not array.flags.c_contiguous:
            once = array[tuple(slice(None) if stride else slice(0, 1) for stride in array.strides)]
            if once.shape != array.shape:  # numbers that are repeated take no memory
                layout["shape"] = list(array.shape)
            layout["order"] = sorted(range(array.ndim), key=lambda k: -abs(array.strides[k]))
            array = np.ascontiguousarray(once.transpose(layout["order"]))
        self.arrays.append(array)
        return layout

    def _node(self, x, path, index):
        kind = type(x)
        if kind in (tuple, list, set, frozenset, torch.Size) or (issubclass(kind, tuple) and _is_known(kind)):
            if kind is list:
                self._open.discard(index)
            name = kind.__name__ if kind is not torch.Size else "torch.Size"
            return {"kind": name, "items": self._values(x, path)}
        if kind is dict:
            self._open.discard(index)
            items = [
                (self.value(k, f"{path}, key {k!r:.50}"), self.value(v, f"{path}[{k!r:.50}]")) for k, v in x.items()
            ]
            return {"kind": "dict", "items": items}
        if kind in (float, complex):
            return {"kind": kind.__name__, "value": repr(x)}
        if kind is bytes:
            return {"kind": "bytes", "hex": x.hex()}
        if kind in (slice, range):
            return {"kind": kind.__name__, "items": self._values((x.start, x.stop, x.step), path)}
        if isinstance(x, np.generic) and x.dtype.kind in _KINDS_OF_NUMBERS:
            return {"kind": "number", "dtype": x.dtype.str, "hex": x.tobytes().hex()}
        if isinstance(x, np.dtype) and (x.kind in _KINDS_OF_NUMBERS or x.kind == "O"):
            return {"kind": "dtype", "name": x.str}
        if kind is np.ma.MaskedArray:
            return {"kind": "masked", "items": self._values((x.data, np.ma.getmaskarray(x)), path)}
        if kind in (np.ndarray, np.memmap) and x.dtype.kind in _KINDS_OF_NUMBERS:
            return {"kind": "array", **self._array(x)}
        if kind is np.ndarray and x.dtype.kind == "O":
            return {"kind": "objects", "shape": list(x.shape), "items": self._values(x.ravel().tolist(), path)}
        if isinstance(x, np.random.RandomState):
            state = x.get_state(legacy=False)
            if state["bit_generator"] == "MT19937":
                return {"kind": "RandomState", "state": self.value(state, path)}
        if kind is torch.Tensor and x.layout is torch.strided:
            return self._tensor(x)
        if kind is torch.dtype:
            return {"kind": "torch.dtype", "name": str(x).removeprefix("torch.")}
        if kind is torch.device:
            return {"kind": "torch.device", "name": str(x)}
        if sp.issparse(x) and x.format in _SPARSE:
            parts = {name: self.value(getattr(x, name), path) for name in ("data", *_SPARSE[x.format])}
            matrix = isinstance(x, sp.spmatrix)
            return {"kind": "sparse", "format": x.format, "matrix": matrix, "shape": list(x.shape), "parts": parts}
        if isinstance(x, type | types.FunctionType | np.ufunc) and _is_known(x):
            return {"kind": "name", "name": _name(x)}
        if _is_known(kind) and _is_filled(kind):
            self._open.discard(index)
            state = x._state_in_files() if hasattr(x, "_state_in_files") else x.__getstate__() or {}
            if type(state) is dict and all(type(key) is str for key in state):
                attributes = {key: self.value(part, f"{path}.{key}") for key, part in state.items()}
                return {"kind": "attributes", "class": _name(kind), "values": attributes}
        elif _is_known(kind) and _parts(kind):
            arguments = {key: self.value(getattr(x, key), f"{path}.{key}") for key in _parts(kind)}
            return {"kind": "arguments", "class": _name(kind), "values": arguments}
        raise TypeError(
            f"{path} is {x!r:.100}, of type {kind.__module__}.{kind.__qualname__}. Files hold numbers, containers, and "
            "estimators of sklearn_hss and scikit-learn, but no code and no other objects. Set it to something else "
            "before saving and back after loading, or pickle the estimator, for the same versions of all packages."
        )

    def _tensor(self, x):
        with torch.inference_mode(False):
            numbers = x.detach().cpu().resolve_conj().resolve_neg()
        node = {"kind": "tensor"}
        if x.dtype is torch.bfloat16:
            numbers, node["dtype"] = numbers.view(torch.int16), "bfloat16"
        node.update(self._array(numbers.numpy()))
        if x.device.type != "cpu":
            node["device"] = str(x.device)
        if x.requires_grad:
            node["requires_grad"] = True
        return node


# Reading


class _Reader:
    """Objects of a table, made when they are asked for."""

    def __init__(self, metadata, archive):
        self._nodes, self._archive = metadata["objects"], archive
        self._made, self._open = {}, set()

    def value(self, x):
        """The object that a value in the file stands for."""
        if x is None or type(x) in (bool, int, float, str):
            return x
        (index,) = x
        if type(index) is not int or index < 0:
            raise ValueError(f"{x} is no object")
        if index not in self._made:
            if index in self._open:
                raise ValueError(f"object {index} is a part of itself")
            self._open.add(index)
            node = self._nodes[index]
            made = self._make(node, index)
            self._made[index] = made
        return self._made[index]

    def _values(self, values):
        return [self.value(x) for x in values]

    def _make(self, node, index):
        kind = node["kind"]
        if kind == "list":
            found = self._made[index] = []
            found.extend(self._values(node["items"]))
            return found
        if kind == "dict":
            found = self._made[index] = {}
            for key, value in node["items"]:
                found[self.value(key)] = self.value(value)
            return found
        if kind in _SIMPLE:
            return _SIMPLE[kind](self._values(node["items"]))
        if kind == "Groups":
            return _find(kind)(self._values(node["items"]))
        if kind in ("float", "complex"):
            return {"float": float, "complex": complex}[kind](node["value"])
        if kind == "bytes":
            return bytes.fromhex(node["hex"])
        if kind == "number":
            return np.frombuffer(bytes.fromhex(node["hex"]), _dtype(node["dtype"]), count=1)[0]
        if kind == "dtype":
            return _dtype(node["name"])
        if kind == "masked":
            return np.ma.MaskedArray(*self._values(node["items"]))
        if kind == "array":
            return np.broadcast_to(self._array(node), node["shape"]) if "shape" in node else self._array(node)
        if kind == "objects":
            found = np.empty(len(node["items"]), dtype=object)
            found[:] = self._values(node["items"])
            return found.reshape(node["shape"])
        if kind == "RandomState":
            return _random_state(self.value(node["state"]))
        if kind == "tensor":
            return self._tensor(node)
        if kind == "torch.dtype":
            found = getattr(torch, node["name"], None)
            if not isinstance(found, torch.dtype):
                raise ValueError(f"{node['name']!r} is no type of torch")
            return found
        if kind == "torch.device":
            return torch.device(node["name"])
        if kind == "sparse":
            return self._sparse(node)
        if kind == "name":
            return _find(node["name"])
        if kind not in ("attributes", "arguments"):
            raise ValueError(f"objects of kind {kind!r} are not known")
        found = _find(node["class"])
        if not isinstance(found, type) or (kind == "attributes") != _is_filled(found):
            raise ValueError(f"{node['class']!r} is no class of such objects")
        if kind == "arguments":
            parts, values = set(_parts(found)), node["values"]
            if not parts or not set(values) <= parts:
                raise ValueError(f"{found.__name__} has other parts")
            return found(**{key: self.value(x) for key, x in values.items()})
        filled = self._made[index] = found.__new__(found)
        state = {key: self.value(x) for key, x in node["values"].items()}
        if hasattr(filled, "__setstate__"):
            filled.__setstate__(state)
        else:
            vars(filled).update(state)
        return filled

    def _array(self, node):
        name = f"{int(node['array'])}.npy"
        size = self._archive.getinfo(name).file_size
        with self._archive.open(name) as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{name} has another version")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            # Before memory is taken.
            count = math.prod(shape)
            if fortran_order or dtype.kind not in _KINDS_OF_NUMBERS or count > size or min(shape, default=0) < 0:
                raise ValueError(f"{name} holds other things than numbers")
            if count * dtype.itemsize != size - file.tell():
                raise ValueError(f"{name} has not the size of its numbers")
        with self._archive.open(name) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        return array.transpose(np.argsort(node["order"])) if "order" in node else array

    def _tensor(self, node):
        tensor = torch.from_numpy(self._array(node))
        if "dtype" in node:
            tensor = tensor.view({"bfloat16": torch.bfloat16}[node["dtype"]])
        if "device" in node:
            tensor = tensor.to(available(node["device"]))
        if "shape" in node:
            tensor = tensor.expand(node["shape"])
        return tensor.requires_grad_() if node.get("requires_grad") else tensor

    def _sparse(self, node):
        form = node["format"]
        data, *indices = (self.value(node["parts"][name]) for name in ("data", *_SPARSE[form]))
        kind = getattr(sp, f"{form}_{'matrix' if node['matrix'] else 'array'}")
        found = kind((data, *indices), shape=tuple(node["shape"]))
        if form != "coo":
            found.check_format(full_check=True)  # products trust the indices, and would read anywhere
        return found


# Containers of which the parts must be there first.
_SIMPLE = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "torch.Size": torch.Size,
    "slice": lambda items: slice(*items),
    "range": lambda items: range(*items),
}


def _dtype(name):
    dtype = np.dtype(name) if re.fullmatch(r"[<>|=]?[a-zA-Z]\d*(\[\d*[a-zA-Z]+\])?", name) else None
    if dtype is None or dtype.kind not in _KINDS_OF_NUMBERS + "O":
        raise ValueError(f"{name!r} is no type of numbers")
    return dtype


def _random_state(state):
    found = np.random.RandomState()
    if state["bit_generator"] != "MT19937" or not 0 <= state["state"]["pos"] <= len(state["state"]["key"]):
        raise ValueError("a generator of random numbers has no such state")
    found.set_state(state)
    return found


def _load_1(metadata, archive):
    with torch.inference_mode(False), torch.enable_grad():
        model = _Reader(metadata, archive).value(metadata["model"])
    if not isinstance(model, BaseEstimator):
        raise ValueError(f"a {type(model).__name__} is no estimator")
    return model


_LOADERS = {1: _load_1}
