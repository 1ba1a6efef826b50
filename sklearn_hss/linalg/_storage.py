"""Files of linear maps in NumPy's .npz format, which contains arrays but no executable code.

One array, "map", describes in JSON the structure of the map: objects for maps and cluster trees, with their "kind" and
the parameters of its constructor, lists for tuples, the names of their arrays for tensors, and objects with only "text"
for text.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import torch

from .._files import complete_file, refuse_folder
from ._cluster_tree import ClusterTree

_FORMAT, _FIRST_FORMAT = "sklearn_hss.LinearMap 1", "sklearn_hss.HSSMatrix 1"


def save(A, path):
    """Write `A` to a temporary file and move it to `path`, so that a killed process leaves no incomplete file."""
    arrays = {"format": np.array(_FORMAT)}
    arrays["map"] = np.array(json.dumps(_describe(A, "", arrays)))
    with complete_file(Path(path)) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _describe(part, name, arrays):
    """Description of a part for JSON; its tensors are put into `arrays`, under names that begin with `name`."""
    if isinstance(part, torch.Tensor):
        arrays[name] = part.detach().cpu().resolve_conj().numpy()
        return name
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, tuple):
        return [_describe(x, f"{name}{i}", arrays) for i, x in enumerate(part)]
    if hasattr(part, "_parts"):
        prefix = f"{name}." if name else ""
        parts = {key: _describe(getattr(part, key), f"{prefix}{key}", arrays) for key in part._parts}
        return {"kind": type(part).__name__, **parts}
    return part


def load(path, device, kinds):
    """Read a map from a file; `kinds` contains the admissible classes by name."""
    refuse_folder(Path(path))
    try:
        with np.load(path, allow_pickle=False) as file:
            version = str(file["format"]) if "format" in file else None
            if version not in (_FORMAT, _FIRST_FORMAT):
                raise ValueError("it does not name its format")
            description = json.loads(str(file["map"])) if version == _FORMAT else _first_description(file)
            return _build(description, file, device, {**kinds, "ClusterTree": ClusterTree})
    # A description may be arbitrary, and so may the errors of constructors.
    except (ValueError, LookupError, EOFError, zipfile.BadZipFile, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} does not contain a complete map written by save: {error}.") from error


def _first_description(file):
    """Description of the first file format, which supported only HSS matrices."""
    rows, cols, levels = (int(size) for size in file["sizes"])
    generators = {name: [f"{name}{i}" for i in range(levels + (name == "D"))] for name in "DUV"}
    trees = {
        name: {"kind": "ClusterTree", "n": n, "levels": levels} for name, n in (("row_tree", rows), ("col_tree", cols))
    }
    return {"kind": "HSSMatrix", **trees, **generators}


def _build(description, file, device, kinds):
    if isinstance(description, str):
        return torch.from_numpy(file[description]).to(device)
    if isinstance(description, list):
        return tuple(_build(part, file, device, kinds) for part in description)
    if isinstance(description, dict):
        if set(description) == {"text"}:
            return description["text"]
        parts = {key: _build(part, file, device, kinds) for key, part in description.items() if key != "kind"}
        return kinds[description["kind"]](**parts)
    return description
