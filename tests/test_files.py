"""Leftovers of killed processes."""

import os
import subprocess
import sys

import pytest
import torch

from sklearn_hss._files import delete_abandoned, partial_name
from sklearn_hss.linalg import ClusterTree, HSSMatrix

# Stops in the middle of a file, until it is killed.
SAVE = """
import sys, time
import numpy as np
from sklearn_hss.linalg import HSSMatrix

def half_of_a_file(file, **arrays):
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(600)

np.savez = half_of_a_file
HSSMatrix.identity(4).save(sys.argv[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="elsewhere, processes cannot be asked whether they run")
def test_the_next_save_deletes_what_a_killed_one_has_left(tmp_path):
    path = tmp_path / "matrix[1].npz"  # a name that is a pattern, too
    process = subprocess.Popen([sys.executable, "-c", SAVE, path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "writing\n"
        (half,) = tmp_path.iterdir()
        A = HSSMatrix.identity(5)
        A.save(path)
        assert set(tmp_path.iterdir()) == {half, path}  # it is still being written
        process.kill()
        process.wait()
        A.save(tmp_path / "other")
        assert half.exists()  # not its business
        A.save(path)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    assert {file.name for file in tmp_path.iterdir()} == {"matrix[1].npz", "other"}
    torch.testing.assert_close(HSSMatrix.load(path).to_dense(), torch.eye(5, dtype=torch.float64))


def test_nothing_else_is_deleted(tmp_path):
    path = tmp_path / "data"
    mine = partial_name(path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    abandoned = mine.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    machine = mine.name.split("-")[1]
    others = [
        mine.name,
        abandoned.replace(machine, "0" * len(machine)),  # of another machine
        abandoned.replace(f"-{dead.pid}-", "-word-"),
        abandoned.replace(f"-{dead.pid}-", f"-{10**30}-"),
        "data.partial-mine",
        "data.partial",
        "data",
        abandoned.replace("data", "data2"),
    ]
    for name in (*others, abandoned):
        (tmp_path / name).touch()
    folder = tmp_path / f"{abandoned}-folder"
    folder.mkdir()
    (folder / "file").touch()
    delete_abandoned(path)
    assert {file.name for file in tmp_path.iterdir()} == set(others)


def test_partial_names_are_beside_their_file_and_never_the_same(tmp_path):
    names = {partial_name(tmp_path / "data") for _ in range(10)}
    assert len(names) == 10
    assert {name.parent for name in names} == {tmp_path}


def test_long_names(tmp_path):
    tree = ClusterTree(4, 1)
    A = HSSMatrix.random(tree, tree, 1)
    A.save(tmp_path / ("x" * 200))
    assert os.listdir(tmp_path) == ["x" * 200]
