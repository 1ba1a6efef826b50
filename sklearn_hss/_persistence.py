"""Files of estimators: plain data, from which no code is executed.

A file is an uncompressed zip archive of "metadata.json" and of arrays in NumPy's format, "0.npy" and so on. The
metadata consist of the format, the versions that wrote the file, and a table of objects. A value is null, a boolean, a
number, a string, or a list [i], which refers to object i of the table; objects may thus be shared and refer to each
other. The comment of the archive, at the end of the file, is the SHA-256 of everything before its digits, in this
format and all later ones, so that no loader processes damaged data.

To keep files readable in the long term:

- Classes have short names in files; `_PLACES` maps them to their current modules.
- Maps and dataclasses are stored as arguments of their constructors, all other objects by their attributes. A
  constructor retains its arguments, or continues to accept the old ones. Parameters of estimators that are absent from
  a file get their defaults, and a class whose other attributes change adds the new ones in `__setstate__`.
- If this is not sufficient, `_FORMAT` is incremented, and `_LOADERS` retains the function for the old format.
"""

import dataclasses
import hashlib
import importlib
import inspect
import json
import math
import platform
import re
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import scipy.sparse as sp
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.gaussian_process.kernels import Kernel
from sklearn.neural_network._stochastic_optimizers import BaseOptimizer
from sklearn.utils._metadata_requests import _MetadataRequester

from ._devices import available
from ._files import complete_file, refuse_folder

_FORMAT = 1
_VERSION = sys.modules[__package__].__version__  # an import would be circular

# Our classes that occur in fitted estimators, by module.
_PLACES = {
    name: f"{__package__}.{module}"
    for module, names in {
        "_fields": "Domain FieldShape",
        "estimators": "ConformalFieldRegressor DeepONetRegressor FNORegressor FactFormerRegressor "
        "GreenLearningRegressor HSSRegressor HSSTransformer LocalEvolutionRegressor LocalOperatorRegressor "
        "NeuralHSSRegressor ResNetRegressor ResidualRegressor RolloutRegressor",
        "estimators._conformal": "_Fold",
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
# Classes that are stored by their attributes, besides estimators.
_BY_ATTRIBUTES = ("RidgeStep", "_FieldScorer", "_RolloutScorer")
# Base classes of all objects of scikit-learn that can be stored: estimators, splitters, scorers, and parts of these.
_OF_SKLEARN = (_MetadataRequester, Kernel, BaseOptimizer)
# Packages of scikit-learn whose modules have side effects, or no classes to store.
_NOT_OF_SKLEARN = {"conftest", "datasets", "experimental", "externals", "tests", "utils"}
_SPARSE = {"csr": ("indices", "indptr"), "csc": ("indices", "indptr"), "bsr": ("indices", "indptr"), "coo": ("coords",)}
_NUMBERS = "biufcSUmM"
_PREFIX = b"sklearn_hss sha256 "
_DIGITS = 64
_BLOCK = 1 << 20


def save(model, path):
    """Save an estimator to a file that later versions can read.

    The file contains numbers and names, but no code: files from any source can be loaded safely, on machines with or
    without a GPU, and predictions are bitwise identical on the same machine with the same versions. Training can be
    continued; the state of the optimiser is saved with ``warm_start=True``, callbacks are not.

    Parameters
    ----------
    model : estimator
        Estimator of this package or of scikit-learn, fitted or not: pipelines, searches, scalers, linear models and
        others that consist of arrays, which may contain estimators of this package.
    path : str or path-like
        Name of the file, to which no extension is added. An existing file is replaced once the new one is complete.

    Raises
    ------
    TypeError
        If `model` is not an estimator, or contains an object that cannot be saved, such as functions and classes of
        users, and objects of other packages. The message gives its location. Nothing is written.
    OSError
        If the file cannot be written. An existing file is left unchanged.

    Warns
    -----
    UserWarning
        If there are callbacks, which are not saved.

    See Also
    --------
    load : Load an estimator from a file.

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
        "written_by": f"{__package__} {_VERSION}",
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
    """Load an estimator from a file written by :func:`save` of this version or an earlier one.

    No code in the file is executed, whatever its origin: only numbers and the names of known classes are read.

    Parameters
    ----------
    path : str or path-like
        Name of the file.

    Returns
    -------
    estimator
        On a GPU if it was saved from one and one is available, otherwise on the CPU.

    Raises
    ------
    ValueError
        If the file is damaged, was not written by :func:`save`, or was written by a version that is too new.
    OSError
        If it cannot be read.

    See Also
    --------
    save : Save an estimator to a file.

    Examples
    --------
    >>> import os, tempfile
    >>> import sklearn_hss
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "scaler.hss")
    ...     sklearn_hss.save(sklearn_hss.FieldScaler(method="standard"), path)
    ...     sklearn_hss.load(path)
    FieldScaler(method='standard')
    """
    refuse_folder(Path(path))
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - len(_PREFIX) - _DIGITS, 0))
        end = file.read()
        if not end.startswith(_PREFIX):
            raise ValueError(f"{path} is not a file written by sklearn_hss.save, or its end is missing.")
        if _digest(file) != end[-_DIGITS:]:
            raise ValueError(f"{path} is damaged: its checksum does not match its content. Use another copy of it.")
        try:
            with zipfile.ZipFile(file) as archive:
                metadata = json.loads(_metadata(archive, size))
                version, author = metadata["format"], metadata["written_by"]
                if type(version) is not int or version <= _FORMAT:
                    return _LOADERS[version](metadata, archive)
        # The metadata may be arbitrary, and so may the errors of constructors.
        except Exception as error:
            raise ValueError(f"{path} does not contain an estimator written by sklearn_hss.save: {error!r}.") from error
    raise ValueError(
        f"{path} was written in format {version} by {author:.100}; this version, {_VERSION}, reads formats up to "
        f"{_FORMAT}: upgrade sklearn_hss."
    )


def _entry(name):
    return zipfile.ZipInfo(name)  # dated 1980, so that equal estimators give equal files


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
    """Metadata of an archive, after a check that its parts are uncompressed and do not overlap."""
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
    # Private modules may move.
    for place in ("torch.optim", module.split("._")[0], module):
        if getattr(sys.modules.get(place), name, None) is thing:
            return f"{place}.{name}"
    return ""


def _find(name):
    """Class or function of a given name, among those known to have no side effects."""
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


def _defaults(kind):
    """Default parameters of an estimator of this package, some of which may be more recent than a file."""
    if not issubclass(kind, BaseEstimator) or not kind.__module__.startswith(f"{__package__}."):
        return {}
    parameters = inspect.signature(kind).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def _is_filled(kind):
    """Whether objects of a class are stored by their attributes."""
    return issubclass(kind, _OF_SKLEARN) or kind.__name__ in _BY_ATTRIBUTES


def _parts(kind):
    """Arguments of the constructor of a map or dataclass, which are also its attributes."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind) if field.init]
    return list(getattr(kind, "_parts", ()))


# Writing


class _Writer:
    """Builder of the table of objects and of the list of their arrays."""

    def __init__(self):
        self.nodes, self.arrays = [], []
        self._known, self._alive, self._open = {}, [], set()

    def value(self, x, path):
        """Reference to `x` in the file; `path` is its location, for messages."""
        if x is None or type(x) in (bool, int, str) or (type(x) is float and math.isfinite(x)):
            return x
        index = self._known.get(id(x))
        if index is None:
            index = self._known[id(x)] = len(self.nodes)
            self._alive.append(x)  # so that no other object gets the same id
            self.nodes.append(None)
            self._open.add(index)
            try:
                self.nodes[index] = self._node(x, path, index)
            except RecursionError:
                raise TypeError(f"{path} is nested too deeply to be saved.") from None
            self._open.discard(index)
        elif index in self._open:
            raise TypeError(f"{path}, of type {type(x).__name__}, contains itself and cannot be saved.")
        return [index]

    def _values(self, values, path):
        return [self.value(x, f"{path}[{i}]") for i, x in enumerate(values)]

    def _array(self, array):
        """Index of an array, and its memory layout, on which rounding depends."""
        layout: dict[str, Any] = {"array": len(self.arrays)}
        if not array.flags.c_contiguous:
            once = array[tuple(slice(None) if stride else slice(0, 1) for stride in array.strides)]
            if once.shape != array.shape:  # broadcast dimensions are stored once
                layout["shape"] = list(array.shape)
            layout["order"] = sorted(range(array.ndim), key=lambda k: -abs(array.strides[k]))
            array = np.ascontiguousarray(once.transpose(layout["order"]))
        self.arrays.append(array)
        return layout

    def _node(self, x, path, index):
        kind = type(x)
        if kind in (list, dict) or (_is_known(kind) and _is_filled(kind)):
            self._open.discard(index)  # their parts may refer to them
        node = self._plain(x, path)
        if node is None and isinstance(x, np.ndarray | np.generic | np.dtype | np.random.RandomState):
            node = self._of_numpy(x, path)
        if node is None and isinstance(x, torch.Tensor | torch.dtype | torch.device):
            node = self._of_torch(x)
        if node is None and sp.issparse(x) and x.format in _SPARSE:
            parts = {name: self.value(getattr(x, name), path) for name in ("data", *_SPARSE[x.format])}
            matrix = isinstance(x, sp.spmatrix)
            node = {"kind": "sparse", "format": x.format, "matrix": matrix, "shape": list(x.shape), "parts": parts}
        if node is None:
            node = self._named(x, path)
        if node is None:
            raise TypeError(
                f"{path} is {x!r:.100}, of type {kind.__module__}.{kind.__qualname__}. Files can contain numbers, "
                "containers, and estimators of sklearn_hss and scikit-learn, but no code and no other objects. Replace "
                "it before saving and restore it after loading, or pickle the estimator, which requires the same "
                "versions of all packages."
            )
        return node

    def _plain(self, x, path):
        """Node of an object of a built-in type."""
        kind = type(x)
        if kind is dict:
            places = [f"{path}[{key!r:.50}]" for key in x]
            keys, values = (list(map(self.value, part, places)) for part in (x, x.values()))
            return {"kind": "dict", "items": list(zip(keys, values, strict=True))}
        if kind in (list, tuple, set, frozenset) or (issubclass(kind, tuple) and _is_known(kind)):
            return {"kind": kind.__name__, "items": self._values(x, path)}
        if kind in (slice, range):
            return {"kind": kind.__name__, "items": self._values((x.start, x.stop, x.step), path)}
        if kind in (float, complex):
            return {"kind": kind.__name__, "text": repr(x)}
        return {"kind": "bytes", "text": x.hex()} if kind is bytes else None

    def _of_numpy(self, x, path):
        kind = type(x)
        if isinstance(x, np.random.RandomState):
            state = x.get_state(legacy=False)
            return {"kind": "RandomState", "state": self.value(state, path)} if "MT19937" in state.values() else None
        if isinstance(x, np.dtype):
            return {"kind": "dtype", "name": x.str} if x.kind in f"{_NUMBERS}O" else None
        if isinstance(x, np.generic) and x.dtype.kind in _NUMBERS:
            return {"kind": "number", "dtype": x.dtype.str, "text": x.tobytes().hex()}
        if kind is np.ma.MaskedArray:
            return {"kind": "masked", "items": self._values((x.data, np.ma.getmaskarray(x)), path)}
        if kind in (np.ndarray, np.memmap) and x.dtype.kind in _NUMBERS:
            return {"kind": "array", **self._array(x)}
        if kind is np.ndarray and x.dtype.kind == "O":
            return {"kind": "objects", "shape": list(x.shape), "items": self._values(x.ravel().tolist(), path)}
        return None

    def _of_torch(self, x):
        if isinstance(x, torch.dtype | torch.device):
            return {"kind": f"torch.{type(x).__name__}", "name": str(x).removeprefix("torch.")}
        return self._tensor(x) if type(x) is torch.Tensor and x.layout is torch.strided else None

    def _named(self, x, path):
        """Node of a class or function with a known name, or of an object of such a class."""
        if isinstance(x, type | types.FunctionType | np.ufunc):
            return {"kind": "name", "name": _name(x)} if _is_known(x) else None
        kind = type(x)
        if not _is_known(kind):
            return None
        if _is_filled(kind):
            how, state = "attributes", (getattr(x, "_state_in_files", None) or x.__getstate__)() or {}
        else:
            how, state = "arguments", {key: getattr(x, key) for key in _parts(kind)}
        if type(state) is not dict or (how == "arguments" and not state):
            return None
        return {
            "kind": how,
            "class": _name(kind),
            "values": {str(key): self.value(part, f"{path}.{key}") for key, part in state.items()},
        }

    def _tensor(self, x):
        with torch.inference_mode(False):
            numbers = x.detach().cpu().resolve_conj().resolve_neg()
        node: dict[str, Any] = {"kind": "tensor"}
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
    """Reader of a table of objects, which are created on demand."""

    def __init__(self, metadata, archive):
        self._nodes, self._archive = metadata["objects"], archive
        self._made, self._open = {}, set()

    def value(self, x):
        """Object that a value in the file represents."""
        if x is None or type(x) in (bool, int, float, str):
            return x
        (index,) = x
        if type(index) is not int or index < 0:
            raise ValueError(f"{x} is not an object")
        if index not in self._made:
            if index in self._open:
                raise ValueError(f"object {index} contains itself")
            self._open.add(index)
            node = self._nodes[index]
            made = self._make(node, index)
            self._made[index] = made
        return self._made[index]

    def _values(self, values):
        return [self.value(x) for x in values]

    def _make(self, node, index):
        kind = node["kind"]
        found: Any
        if kind == "list":
            found = self._made[index] = []
            found.extend(self._values(node["items"]))
        elif kind == "dict":
            found = self._made[index] = {}
            found.update((self.value(key), self.value(value)) for key, value in node["items"])
        elif kind in _OF_ITEMS:
            found = _OF_ITEMS[kind](*self._values(node["items"]))
        elif kind in _OF_TEXT:
            found = _OF_TEXT[kind](node["text"])
        elif kind in _OF_NAMES:
            found = _OF_NAMES[kind](node["name"])
        elif kind in ("array", "objects", "number", "RandomState", "tensor", "sparse", "attributes", "arguments"):
            found = getattr(self, f"_{kind}")(node, index)
        else:
            raise ValueError(f"objects of kind {kind!r} are not known")
        return found

    def _arguments(self, node, index):
        kind, values = _find(node["class"]), node["values"]
        parts = _parts(kind) if isinstance(kind, type) and not _is_filled(kind) else []
        if not parts or not set(values) <= set(parts):
            raise ValueError(f"{node['class']!r} is not a class with the arguments {list(values)}")
        return kind(**{key: self.value(x) for key, x in values.items()})

    def _attributes(self, node, index):
        kind: Any = _find(node["class"])
        if not isinstance(kind, type) or not _is_filled(kind):
            raise ValueError(f"{node['class']!r} is not a class that is stored by its attributes")
        found: Any = object.__new__(kind)
        self._made[index] = found
        state = _defaults(kind) | {key: self.value(x) for key, x in node["values"].items()}
        getattr(found, "__setstate__", vars(found).update)(state)
        return found

    def _number(self, node, index):
        return np.frombuffer(bytes.fromhex(node["text"]), _dtype(node["dtype"]), count=1)[0]

    def _objects(self, node, index):
        found = np.empty(len(node["items"]), dtype=object)
        found[:] = self._values(node["items"])
        return found.reshape(node["shape"])

    def _RandomState(self, node, index):
        found, state = np.random.RandomState(), self.value(node["state"])
        # NumPy does not check the position, and would read out of bounds.
        if state["bit_generator"] != "MT19937" or not 0 <= state["state"]["pos"] <= len(state["state"]["key"]):
            raise ValueError("the state of a random number generator is invalid")
        found.set_state(state)
        return found

    def _array(self, node, index):
        return np.broadcast_to(self._stored(node), node["shape"]) if "shape" in node else self._stored(node)

    def _stored(self, node):
        """Array as stored, without its broadcast dimensions."""
        name = f"{int(node['array'])}.npy"
        size = self._archive.getinfo(name).file_size
        with self._archive.open(name) as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{name} has another version")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            # Checked before memory is allocated.
            count = math.prod(shape)
            if fortran_order or dtype.kind not in _NUMBERS or count > size or min(shape, default=0) < 0:
                raise ValueError(f"{name} does not contain an array of numbers")
            if count * dtype.itemsize != size - file.tell():
                raise ValueError(f"the size of {name} does not match its shape")
        with self._archive.open(name) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        order = node.get("order", list(range(array.ndim)))
        if sorted(order) != list(range(array.ndim)):
            raise ValueError(f"{order} is not a permutation of the dimensions of {name}")
        return array.transpose(np.argsort(order)) if order else array

    def _tensor(self, node, index):
        tensor = torch.from_numpy(self._stored(node))
        if "dtype" in node:
            tensor = tensor.view({"bfloat16": torch.bfloat16}[node["dtype"]])
        if "device" in node:
            tensor = tensor.to(available(node["device"]))
        if "shape" in node:
            tensor = tensor.expand(node["shape"])
        return tensor.requires_grad_() if node.get("requires_grad") else tensor

    def _sparse(self, node, index):
        form = node["format"]
        data, *indices = (self.value(node["parts"][name]) for name in ("data", *_SPARSE[form]))
        kind = getattr(sp, f"{form}_{'matrix' if node['matrix'] else 'array'}")
        found = kind((data, *indices), shape=tuple(node["shape"]))
        if form != "coo":  # products do not check indices, and would read out of bounds; SciPy itself checks COO
            found.check_format(full_check=True)
        return found


def _dtype(name):
    dtype = np.dtype(name) if re.fullmatch(r"[<>|=]?[a-zA-Z]\d*(\[\d*[a-zA-Z]+\])?", name) else None
    if dtype is None or dtype.kind not in f"{_NUMBERS}O":
        raise ValueError(f"{name!r} is not a numeric type")
    return dtype


def _dtype_of_torch(name):
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r} is not a dtype of torch")
    return found


# Constructors of objects from their items, text or names.
_OF_ITEMS: dict[str, Callable] = {
    "Groups": lambda *items: _find("Groups")(items),
    "frozenset": lambda *items: frozenset(items),
    "masked": np.ma.MaskedArray,
    "range": range,
    "set": lambda *items: set(items),
    "slice": slice,
    "tuple": lambda *items: items,
}
_OF_TEXT: dict[str, Callable] = {"bytes": bytes.fromhex, "complex": complex, "float": float}
_OF_NAMES: dict[str, Callable] = {
    "dtype": _dtype,
    "name": _find,
    "torch.device": torch.device,
    "torch.dtype": _dtype_of_torch,
}


def _load_1(metadata, archive):
    with torch.inference_mode(False), torch.enable_grad():
        model = _Reader(metadata, archive).value(metadata["model"])
    if not isinstance(model, BaseEstimator):
        raise ValueError(f"a {type(model).__name__} is not an estimator")
    return model


_LOADERS = {1: _load_1}
