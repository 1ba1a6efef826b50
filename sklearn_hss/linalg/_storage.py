"""Files of HSS matrices: NumPy's .npz, which holds arrays and nothing that could be run."""

import os
import zipfile
from pathlib import Path

import numpy as np
import torch

from .._files import delete_abandoned, partial_name
from ._checks import check_parts
from ._cluster_tree import ClusterTree

_FORMAT = "sklearn_hss.HSSMatrix 1"


def save(A, path):
    """Write `A` beside `path`, then put it in its place, so that a killed process leaves no half-written file."""
    arrays = {"format": np.array(_FORMAT), "sizes": np.array([A.row_tree.n, A.col_tree.n, A.levels])}
    for name in "DUV":
        for i, generator in enumerate(getattr(A, name)):
            arrays[f"{name}{i}"] = generator.detach().cpu().numpy()
    path = Path(path)
    _refuse_folder(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write {path.name!r} into; make it first.")
    delete_abandoned(path)
    # Not by `tempfile`, whose files only their owner may read.
    temporary = partial_name(path)
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _refuse_folder(path):
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; give the name of a file.")


def load(path, device):
    """Trees and generators of the matrix in a file."""
    _refuse_folder(Path(path))
    try:
        with np.load(path, allow_pickle=False) as file:
            if "format" not in file or str(file["format"]) != _FORMAT:
                raise ValueError("it does not name the format")
            rows, cols, levels = (int(size) for size in file["sizes"])
            generators = [
                [torch.from_numpy(file[f"{name}{i}"]).to(device or "cpu") for i in range(levels + (name == "D"))]
                for name in "DUV"
            ]
            check_parts([generator for level in generators for generator in level], "Its arrays")
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"{path} does not hold an HSSMatrix written by HSSMatrix.save: {error}.") from error
    return ClusterTree(rows, levels), ClusterTree(cols, levels), *generators
