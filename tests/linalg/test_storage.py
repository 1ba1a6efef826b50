import copy
import functools
import io
import json
import os
import pickle

import numpy as np
import pytest
import torch

from sklearn_hss.linalg import ClusterTree, HSSMatrix, KroneckerProductSum, LinearMap

CASES = {
    "square": ((16, 16, 2), 2, ()),
    "rectangular with padding": ((13, 9, 2), 3, ()),
    "batch": ((13, 13, 1), 2, (2, 3)),
    "empty batch": ((13, 13, 1), 2, (0,)),
    "rank 0": ((13, 13, 2), 0, ()),
    "one block": ((5, 7, 0), 1, ()),
    "one entry": ((1, 1, 0), 1, ()),
}


def random_hss(m, n, levels, rank, batch_shape=(), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    trees = ClusterTree(m, levels), ClusterTree(n, levels)
    return HSSMatrix.random(*trees, rank, batch_shape=batch_shape, generator=generator, dtype=dtype)


def assert_equal(A, B):
    assert (A.row_tree, A.col_tree, A.dtype, A.device) == (B.row_tree, B.col_tree, B.dtype, B.device)
    for name in "DUV":
        for a, b in zip(getattr(A, name), getattr(B, name), strict=True):
            assert torch.equal(a, b)


@pytest.fixture
def A():
    return random_hss(13, 13, 2, 2)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_files_hold_the_very_numbers(case, dtype, tmp_path):
    sizes, rank, batch_shape = CASES[case]
    A = random_hss(*sizes, rank, batch_shape, dtype)
    A.save(tmp_path / "matrix.npz")
    assert_equal(HSSMatrix.load(tmp_path / "matrix.npz"), A)
    assert_equal(HSSMatrix.load(str(tmp_path / "matrix.npz"), device="cpu"), A)


def test_results_of_arithmetic_are_saved_like_any_matrix(A, tmp_path):
    for B in (A.T, A @ A, A + A, A.truncate(rank=1), A.coarsen(1), A.inverse(), HSSMatrix.identity(40)):
        B.save(tmp_path / "matrix.npz")
        assert_equal(HSSMatrix.load(tmp_path / "matrix.npz"), B)


def test_generators_that_need_gradients_are_saved(A, tmp_path):
    HSSMatrix(A.row_tree, A.col_tree, [d.requires_grad_() for d in A.D], A.U, A.V).save(tmp_path / "matrix.npz")
    loaded = HSSMatrix.load(tmp_path / "matrix.npz")
    assert not loaded.D[0].requires_grad
    assert_equal(loaded, A)


def test_files_are_plain_arrays(A, tmp_path):
    A.save(tmp_path / "matrix.npz")
    with np.load(tmp_path / "matrix.npz", allow_pickle=False) as file:
        assert set(file) == {"format", "map", "D0", "D1", "D2", "U0", "U1", "V0", "V1"}
        assert json.loads(str(file["map"])) == {
            "kind": "HSSMatrix",
            "row_tree": {"kind": "ClusterTree", "n": 13, "levels": 2},
            "col_tree": {"kind": "ClusterTree", "n": 13, "levels": 2},
            "D": ["D0", "D1", "D2"],
            "U": ["U0", "U1"],
            "V": ["V0", "V1"],
        }
        np.testing.assert_array_equal(file["U1"], A.U[1])


def save_in_the_first_layout(A, path):
    arrays = {f"{name}{i}": g.numpy() for name in "DUV" for i, g in enumerate(getattr(A, name))}
    sizes = np.array([A.row_tree.n, A.col_tree.n, A.levels])
    np.savez(path, format=np.array("sklearn_hss.HSSMatrix 1"), sizes=sizes, **arrays)


@pytest.mark.parametrize("case", CASES)
def test_files_of_the_first_layout(case, tmp_path):
    sizes, rank, batch_shape = CASES[case]
    A = random_hss(*sizes, rank, batch_shape)
    save_in_the_first_layout(A, tmp_path / "matrix.npz")
    assert_equal(HSSMatrix.load(tmp_path / "matrix.npz"), A)
    assert_equal(LinearMap.load(tmp_path / "matrix.npz"), A)


def test_files_of_other_kinds(A, tmp_path):
    KroneckerProductSum([HSSMatrix.random(A.row_tree, A.col_tree, 1, batch_shape=(2,))]).save(tmp_path / "sum.npz")
    assert isinstance(LinearMap.load(tmp_path / "sum.npz"), KroneckerProductSum)
    with pytest.raises(ValueError, match=r"contains a map of type KroneckerProductSum, not HSSMatrix; LinearMap\.load"):
        HSSMatrix.load(tmp_path / "sum.npz")


def test_names_are_taken_as_they_are(A, tmp_path):
    A.save(tmp_path / "matrix")
    assert os.listdir(tmp_path) == ["matrix"]
    assert_equal(HSSMatrix.load(tmp_path / "matrix"), A)


def test_files_in_the_working_directory(A, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    A.save("matrix.npz")
    assert_equal(HSSMatrix.load("matrix.npz"), A)


def test_files_may_be_read_by_those_who_may_read_new_files(A, tmp_path):
    (tmp_path / "other").touch()
    A.save(tmp_path / "matrix.npz")
    assert os.stat(tmp_path / "matrix.npz").st_mode == os.stat(tmp_path / "other").st_mode


def test_an_existing_file_is_replaced(A, tmp_path):
    A.T.save(tmp_path / "matrix.npz")
    A.save(tmp_path / "matrix.npz")
    assert_equal(HSSMatrix.load(tmp_path / "matrix.npz"), A)
    assert os.listdir(tmp_path) == ["matrix.npz"]


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("exists", [False, True])
def test_a_save_that_fails_leaves_the_old_file(error, exists, A, tmp_path, monkeypatch):
    if exists:
        A.save(tmp_path / "matrix.npz")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(file, **arrays):
        file.write(b"half of a file")
        raise error

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(type(error)):
        A.T.save(tmp_path / "matrix.npz")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folders_that_do_not_exist(A, tmp_path):
    with pytest.raises(FileNotFoundError):
        A.save(tmp_path / "nowhere" / "matrix.npz")
    with pytest.raises(FileNotFoundError):
        HSSMatrix.load(tmp_path / "matrix.npz")


def wrong_files():
    def with_arrays(change, save=HSSMatrix.save):
        def write(path):
            save(random_hss(13, 13, 2, 2), path)
            with np.load(path) as file:
                arrays = dict(file)
            change(arrays)
            with open(path, "wb") as file:
                np.savez(file, **arrays)

        return write

    def truncated(share):
        def write(path):
            random_hss(13, 13, 2, 2).save(path)
            whole = path.read_bytes()
            path.write_bytes(whole[: int(share * len(whole))])

        return write

    def flipped(path):
        random_hss(13, 13, 2, 2).save(path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)

    yield "text", lambda path: path.write_text("no matrix")
    yield "empty", lambda path: path.write_bytes(b"")
    yield "pickle", lambda path: path.write_bytes(pickle.dumps(random_hss(13, 13, 2, 2)))
    yield "npy", lambda path: path.write_bytes(npy(np.ones(3)))
    yield "npy of objects", lambda path: path.write_bytes(npy(np.array([{}, None])))
    yield "cut to half", truncated(0.5)
    yield "cut by a little", truncated(0.99)
    yield "one byte wrong", flipped
    yield "another npz", lambda path: np.savez(path, x=np.ones(3))
    yield "another format", with_arrays(lambda arrays: arrays.update(format=np.array("sklearn_hss.HSSMatrix 2")))
    yield "objects", with_arrays(lambda arrays: arrays.update(D0=np.array([{}, None])))
    yield "strings", with_arrays(lambda arrays: arrays.update(D0=np.array(["x"])))
    yield "complex numbers", with_arrays(lambda arrays: arrays.update(D0=arrays["D0"].astype(complex)))
    yield "mixed types", with_arrays(lambda arrays: arrays.update(D0=arrays["D0"].astype(np.float32)))
    yield (
        "integers",
        with_arrays(lambda arrays: arrays.update({k: v.astype(int) for k, v in arrays.items() if k[0] in "DUV"})),
    )
    yield "missing generator", with_arrays(lambda arrays: arrays.pop("V1"))
    yield "wrong shape", with_arrays(lambda arrays: arrays.update(U0=arrays["U0"][..., :1]))
    yield "missing dimensions", with_arrays(lambda arrays: arrays.update(D0=np.array(1.0)))
    for sizes in ([13, 13, 40], [-13, 13, 2], [13, 13]):
        change = functools.partial(dict.update, sizes=np.array(sizes))
        yield f"first layout, {sizes}", with_arrays(change, save_in_the_first_layout)
    yield "no sizes", with_arrays(lambda arrays: arrays.pop("sizes"), save_in_the_first_layout)
    yield "no description", with_arrays(lambda arrays: arrays.pop("map"))
    for text in (
        "",
        "1",
        "null",
        '"D0"',
        '{"kind": "HSSMatrix"}',
        '{"kind": "Path"}',
        '{"kind": ["HSSMatrix"]}',
        '{"kind": "OperatorSum", "terms": []}',
        '{"kind": "OperatorSum", "terms": [1]}',
        '{"kind": "LowRankOperator", "outputs": 1, "inputs": 2}',
        '{"kind": "ClusterTree", "n": 3, "levels": 1}',
        "[" * 100_000,
    ):
        change = functools.partial(dict.update, map=np.array(text))
        yield f"description {text[:40]}", with_arrays(change)


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(("name", "write"), [*wrong_files()])
def test_wrong_files_are_refused(name, write, tmp_path):
    path = tmp_path / "matrix.npz"
    write(path)
    with pytest.raises(ValueError, match=r"does not contain a complete map written by save: .|contains a map of type"):
        HSSMatrix.load(path)


def test_conversions(A):
    B = A.to(torch.float32)
    assert {g.dtype for g in (*B.D, *B.U, *B.V)} == {torch.float32}
    torch.testing.assert_close(B.to_dense(), A.to_dense().float())
    assert_equal(A.to("cpu"), A)
    assert_equal(A.to(device="cpu", dtype=torch.float64), A)
    A.factor()
    assert A.to(torch.float32).factor().dtype == torch.float32


def test_detach_cuts_the_graph(A):
    M = HSSMatrix(A.row_tree, A.col_tree, [d.clone().requires_grad_() for d in A.D], A.U, A.V)
    assert (M @ torch.ones(13, dtype=A.dtype)).requires_grad
    assert not (M.detach() @ torch.ones(13, dtype=A.dtype)).requires_grad
    assert_equal(M.detach(), A)
    gradient = torch.autograd.grad((M.to(torch.float32) @ torch.ones(13)).sum(), M.D[0])[0]
    assert gradient.dtype == torch.float64


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda A: pickle.loads(pickle.dumps(A))])
def test_copies_share_nothing(duplicate, A):
    A.factor()
    B = duplicate(A)
    assert_equal(A, B)
    expected = A @ torch.ones(13, dtype=A.dtype)
    B.D[0].zero_()
    torch.testing.assert_close(A @ torch.ones(13, dtype=A.dtype), expected)
    assert not B.D[0].any()
    assert B._factor is None
