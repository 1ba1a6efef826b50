"""Files of estimators: what was saved comes back, for ever, and nothing else ever does."""

import copy
import errno
import functools
import io
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from archive.make import CHAIN, MODELS, F, U, fitted, outputs, rows, second_difference, solutions
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch.callbacks import Callback

import sklearn_hss as hss
from sklearn_hss import _persistence
from sklearn_hss.fitting import FORMS
from sklearn_hss.metrics import relative_l2_scorer

ARCHIVE = sorted((Path(__file__).parent / "archive").glob("*/*.hss"))
NETWORKS = {
    "neural_hss": {},
    "neural_hss_patches": {},
    "fno": {},
    "deeponet": {"optimizer": torch.optim.RMSprop},
    "resnet": {"dtype": "bfloat16"},
    "green_learning": {"optimizer": "soap"},
    "factformer": {"validation_fraction": 0.2, "early_stopping": True},
}


@functools.cache
def _fitted(name):
    return fitted(name)


def made(name):
    """A fitted estimator that tests may change, and its inputs."""
    model, X = _fitted(name)
    return copy.deepcopy(model), X


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.hss"


def again(model, path):
    hss.save(model, path)
    return hss.load(path)


def plain(parameters):
    return {name: str(value) for name, value in parameters.items()}


# Round trips


@pytest.mark.parametrize("name", MODELS)
def test_all_is_the_same_after_loading(name, path):
    model, X = made(name)
    before = outputs(model, X)
    loaded = again(model, path)
    np.testing.assert_array_equal(outputs(loaded, X), before)
    np.testing.assert_array_equal(outputs(model, X), before)
    assert plain(loaded.get_params()) == plain(model.get_params())
    assert repr(loaded) == repr(model)
    assert plain(clone(loaded).get_params()) == plain(clone(model).get_params())
    # Parts that are computed when they are asked for are not kept.
    assert set(vars(loaded)) == set(vars(model))
    if MODELS[name][2] is not None and hasattr(model, "predict"):
        assert loaded.score(X, MODELS[name][2]) == model.score(X, MODELS[name][2])
    if hasattr(model, "rollout"):
        np.testing.assert_array_equal(loaded.rollout(X, 3), model.rollout(X, 3))
    if hasattr(model, "predict_interval"):
        np.testing.assert_array_equal(loaded.predict_interval(X), model.predict_interval(X))
    hss.save(loaded, path.with_name("twin"))
    assert hss.load(path.with_name("twin")).get_params().keys() == model.get_params().keys()


@pytest.mark.parametrize("name", MODELS)
def test_estimators_that_are_not_fitted(name, path):
    loaded = again(MODELS[name][0], path)
    assert repr(loaded) == repr(MODELS[name][0])


@pytest.mark.parametrize("solver", sorted({form.solver for form in FORMS}))
def test_every_solver(solver, path):
    X = rows(8, 5, 5) if solver in ("als", "banded", "eigenbasis", "local") else F
    y = solutions(X)
    if solver == "variable_projection":
        X = rows(24, 32)
        y = np.linalg.solve(second_difference(32) + 0.1 * np.eye(32, k=1), X.T).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = hss.HSSRegressor(solver=solver, random_state=0).fit(X, y)
    before = outputs(model, X)
    loaded = again(model, path)
    np.testing.assert_array_equal(outputs(loaded, X), before)
    assert loaded.solver_ == solver
    assert repr(loaded.operator_) == repr(model.operator_)


@pytest.mark.parametrize("warm_start", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_goes_on(name, warm_start, path):
    model, X, y = MODELS[name]
    model = clone(model).set_params(warm_start=warm_start, **NETWORKS[name]).fit(X, y).partial_fit(X, y)
    loaded, pickled = again(model, path), pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(outputs(loaded, X), outputs(model, X))
    assert loaded.history_ == model.history_
    if not warm_start:
        model.net_.initialize_optimizer()
    for going_on in (model, loaded, pickled):
        going_on.partial_fit(X, y)
    for other in (loaded, pickled):
        np.testing.assert_array_equal(outputs(other, X), outputs(model, X))
        assert other.n_iter_ == model.n_iter_ == len(model.net_.history)
    for going_on in (model, loaded, pickled):
        going_on.fit(X, y)
    for other in (loaded, pickled):
        np.testing.assert_array_equal(outputs(other, X), outputs(model, X))


def test_only_warm_starts_keep_the_optimiser(path):
    X, y = MODELS["fno"][1:]
    sizes = {}
    for warm_start in (True, False):
        model = clone(MODELS["fno"][0]).set_params(warm_start=warm_start).fit(X, y)
        hss.save(model, path)
        sizes[warm_start] = len(pickle.dumps(model)), path.stat().st_size
    n_bytes = 8 * model.n_parameters_
    for with_it, without in zip(sizes[True], sizes[False], strict=True):
        assert with_it - without > 1.9 * n_bytes  # two moments
    assert sizes[False][0] < n_bytes + 10_000
    # It is decided when the model is kept.
    assert len(pickle.dumps(model.set_params(warm_start=True))) > sizes[False][0] + 1.9 * n_bytes


@pytest.mark.parametrize("name", ["neural_hss", "hss_1d", "scaler", "rollout", "evolution", "transformer"])
def test_files_and_pickles_do_not_grow_with_the_samples(name, path):
    sizes = []
    for copies in (1, 20):
        model, X, y = MODELS[name]
        data = [np.concatenate([part] * copies) for part in (X, y) if part is not None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = clone(model).fit(*data)
        hss.save(model, path)
        sizes.append((path.stat().st_size, len(pickle.dumps(model))))
    assert np.subtract(*sizes[::-1]).max() < 2000 < data[0].nbytes / 4


def test_scikit_learn(path):
    X, y = F, U
    models = [
        make_pipeline(FunctionTransformer(np.arcsinh, np.sinh), StandardScaler(), Ridge()),
        MLPRegressor(hidden_layer_sizes=(4,), max_iter=20, random_state=0),
        hss.RolloutRegressor(MLPRegressor(hidden_layer_sizes=(4,), max_iter=20, random_state=0)),
    ]
    for model in models:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(*((MODELS["rollout"][1],) if isinstance(model, hss.RolloutRegressor) else (X, y)))
        inputs = MODELS["rollout"][1][:, 0] if isinstance(model, hss.RolloutRegressor) else X
        np.testing.assert_array_equal(again(model, path).predict(inputs), model.predict(inputs))
    search = clone(MODELS["search"][0]).set_params(scoring=relative_l2_scorer).fit(*MODELS["search"][1:])
    loaded = again(search, path)
    assert loaded.score(*MODELS["search"][1:]) == search.score(*MODELS["search"][1:])
    np.testing.assert_array_equal(loaded.cv_results_["params"], search.cv_results_["params"])


def test_names_of_columns_and_random_states(path):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(F, columns=[f"x{i}" for i in range(F.shape[1])])
    model = hss.HSSRegressor(random_state=np.random.RandomState(3)).fit(table, U)
    loaded = again(model, path)
    np.testing.assert_array_equal(loaded.feature_names_in_, model.feature_names_in_)
    np.testing.assert_array_equal(loaded.predict(table), model.predict(table))
    assert loaded.random_state.rand() == model.random_state.rand()


VALUES = {
    "numbers": [None, True, 3, -(2**70), 1.5, -0.0, np.inf, -np.inf, 1 + 2j],
    "numbers of NumPy": [np.float32(0.1), np.int8(-3), np.bool_(True), np.float64("nan"), np.complex64(1j)],
    "text": ["", "ä\ud800\n", b"\x00\xff", np.str_("x"), np.array(["a", "bcd"]), np.array([], dtype="U3")],
    "containers": [(1, (2, [3])), {1, 2}, frozenset("a"), {(1, 2): "x", None: {}}, slice(1, None), range(3), ()],
    "arrays": [
        np.zeros((0, 3)),
        np.array(3.0),
        np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(10)[::-2],
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.broadcast_to(np.arange(3), (10**9, 3)),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.arange(3, dtype=">i4"),
        np.array([[None, "a"], [(1,), 2.0]], dtype=object),
        np.ma.MaskedArray([1.0, 2.0], [True, False]),
    ],
    "tensors": [
        torch.arange(6).reshape(2, 3).T,
        torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0)).permute(1, 2, 0),
        torch.ones(3).expand(10**9, 3),
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.tensor([1 + 2j]).conj(),
        torch.ones(2, requires_grad=True),
        torch.zeros(0, 2),
    ],
    "types": [np.dtype("f4"), np.float32, torch.float64, torch.device("cpu"), torch.optim.Adam, np.log1p],
    "sparse": [CHAIN, CHAIN.tocsc(), CHAIN.tocoo(), CHAIN.tobsr()],
}


@pytest.mark.parametrize("kind", VALUES)
def test_values(kind, path):
    values = VALUES[kind]
    loaded = again(Ridge(alpha=values), path).alpha
    assert len(loaded) == len(values)
    for a, b in zip(loaded, values, strict=True):
        assert type(a) is type(b)
        if isinstance(b, torch.Tensor):
            assert (a.shape, a.dtype, a.stride(), a.requires_grad) == (b.shape, b.dtype, b.stride(), b.requires_grad)
            few = (slice(5),) * min(b.ndim, 1)
            assert torch.equal(a[few], b[few])
        elif isinstance(b, np.ndarray | np.generic):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert not b.size or np.array_equal(np.argsort(a.strides), np.argsort(np.abs(b.strides)))
            assert repr(a[:5] if b.ndim else a) == repr(b[:5] if b.ndim else b)
        elif kind == "sparse":
            assert (a.format, a.shape) == (b.format, b.shape)
            assert (a != b).nnz == 0
        else:
            assert a == b
            assert str(a) == str(b)
    assert np.isnan(again(Ridge(alpha=np.nan), path).alpha)


def test_shared_and_cyclic_objects(path):
    shared, cycle = np.ones(3), []
    cycle.append({"cycle": cycle})
    loaded = again(Ridge(alpha=[shared, (shared,), cycle]), path).alpha
    assert loaded[0] is loaded[1][0]
    assert loaded[2][0]["cycle"] is loaded[2]


def test_the_same_estimators_make_the_same_files(path):
    model, _ = made("hss_1d")
    hss.save(model, path)
    first = path.read_bytes()
    hss.save(hss.load(path), path)
    assert path.read_bytes() == first


def test_files_are_npz(path):
    hss.save(made("hss_1d")[0], path)
    with np.load(path, allow_pickle=False) as file:
        metadata = json.loads(file["metadata.json"])
        assert all(isinstance(file[name], np.ndarray) for name in file if name != "metadata.json")
    assert metadata["format"] == 1
    assert metadata["written_by"] == f"sklearn_hss {hss.__version__}"
    assert metadata["versions"]["torch"] == torch.__version__


def test_models_of_a_gpu_are_loaded_where_there_is_none(path):
    model, X = made("fno")
    expected = model.predict(X)
    model.net_.device = torch.device("cuda")  # as it would be there; weights are kept on the CPU anyhow
    for loaded in (pickle.loads(pickle.dumps(model)), again(model, path)):
        if not torch.cuda.is_available():
            np.testing.assert_array_equal(loaded.predict(X), expected)
        else:
            np.testing.assert_allclose(loaded.predict(X), expected, rtol=1e-6)
            assert next(loaded.net_.module_.parameters()).is_cuda


def test_loading_leaves_generators_and_modes_alone(path):
    model, _ = made("fno")
    hss.save(model, path)
    before = torch.get_rng_state()
    with torch.inference_mode():
        loaded = hss.load(path)
    assert torch.equal(torch.get_rng_state(), before)
    loaded.partial_fit(*MODELS["fno"][1:])


def test_import_is_quick():
    code = "import sys, sklearn_hss as h; print('torch' in sys.modules, 'sklearn' in sys.modules, 'save' in dir(h))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]


# The archive


@pytest.mark.parametrize("file", ARCHIVE, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_archived_files_load_for_ever(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of its version
        model = hss.load(file)
    with np.load(file.with_suffix(".npz")) as data:
        found, expected = outputs(model, data["X"]), data["expected"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    if file.parent.name == str(_persistence._FORMAT):
        assert plain(model.get_params()).keys() == plain(MODELS[file.stem][0].get_params()).keys()


def test_the_archive_has_everything():
    kept = {file.stem for file in ARCHIVE if file.parent.name == str(_persistence._FORMAT)}
    assert kept >= set(MODELS)
    assert max(file.stat().st_size for file in ARCHIVE) < 40_000
    used = set()
    for file in ARCHIVE:
        with zipfile.ZipFile(file) as archive:
            metadata = json.loads(archive.read("metadata.json"))
        used |= {node.get("class") or node.get("name") or node["kind"] for node in metadata["objects"]}
    assert {name for name in hss.__all__ if name.endswith(("Regressor", "Transformer", "Scaler"))} <= used
    # Classes whose names are promised, but for those that have rows of their own in other tests.
    assert set(_persistence._PLACES) - used <= {
        "KroneckerProductSum",
        "LevenbergMarquardt",
        "LowRankOperator",
        "OperatorProduct",
        "OperatorSum",
        "DiagonalizedOperator",
        "SOAP",
        "TransposedSparseInverse",
        "_FieldScorer",
        "_RolloutScorer",
        "relative_l2_error",
        "trajectory_l2_error",
    }


# Damage


def described(value):
    """All that a model consists of, in a form that can be compared."""
    writer = _persistence._Writer()
    reference = writer.value(value, "model")
    return json.dumps([reference, writer.nodes]), [(a.dtype.str, a.shape, a.tobytes()) for a in writer.arrays]


def test_damaged_files_are_recognised(path):
    rng = np.random.RandomState(0)
    files = [next(file for file in ARCHIVE if file.stem == name) for name in ("hss_1d", "scaler", "fno", "local_mesh")]
    for k in range(1000):
        file = files[k % len(files)]
        data = bytearray(file.read_bytes())
        if k % 3:
            for position in rng.randint(len(data), size=1 + k % 2):
                data[position] ^= 1 << rng.randint(8)
        else:
            del data[rng.randint(len(data)) :]
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"damaged|not a file written by sklearn_hss.save"):
            hss.load(path)


def packed(path, metadata, arrays=(), names=None, **options):
    """Write a file whose digest is right, whatever it holds."""
    with open(path, "w+b") as file:
        with zipfile.ZipFile(file, "w", **options) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that occur twice
            archive.comment = _persistence._PREFIX + 64 * b"0"
            archive.writestr("metadata.json", metadata if isinstance(metadata, str | bytes) else json.dumps(metadata))
            for i, data in enumerate(arrays):
                archive.writestr(names[i] if names else f"{i}.npy", data)
        digest = _persistence._digest(file)
        file.seek(-64, 2)
        file.write(digest)


def test_parameters_that_a_file_does_not_know_have_their_defaults(path):
    hss.save(hss.FNORegressor(modes=3), path)
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("metadata.json"))
    (node,) = (node for node in metadata["objects"] if node.get("class") == "FNORegressor")
    del node["values"]["checkpoint_every"], node["values"]["depth"]
    packed(path, metadata)
    loaded = hss.load(path)
    assert plain(loaded.get_params()) == plain(hss.FNORegressor(modes=3).get_params())


def test_damage_that_the_digest_would_not_tell(path):
    """The same with a digest that is right: an error, or a model of other numbers, but never a crash or code."""
    rng = np.random.RandomState(0)
    file = next(file for file in ARCHIVE if file.stem == "local_mesh")
    with zipfile.ZipFile(file) as archive:
        metadata = archive.read("metadata.json")
        arrays = [archive.read(f"{i}.npy") for i in range(len(archive.namelist()) - 1)]
    n_refused = 0
    for k in range(300):
        parts = [bytearray(part) for part in (metadata, *arrays)]
        part = parts[0 if k % 2 else rng.randint(len(parts))]
        part[rng.randint(len(part))] ^= 1 << rng.randint(7)
        packed(path, bytes(parts[0]), map(bytes, parts[1:]))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outputs(hss.load(path), F)
        except Exception as error:  # those of predict may be any
            n_refused += isinstance(error, ValueError)
    assert n_refused > 100


def test_files_of_the_future(path):
    metadata = {"format": 2, "written_by": "sklearn_hss 0.3", "anything": []}
    packed(path, metadata)
    with pytest.raises(
        ValueError,
        match=r"model\.hss was written in format 2 by sklearn_hss 0\.3; this version, .*, reads formats up to 1: "
        "upgrade sklearn_hss",
    ):
        hss.load(path)


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(shape, descr="<f8"):
    """An array in NumPy's format of which there is nothing but the header."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


class Evil:
    def __reduce__(self):
        return eval, ("__import__('pytest').fail('code was run')",)


def ridge(*objects):
    """A table of objects with an estimator that refers to the second one."""
    return [{"kind": "attributes", "class": "sklearn.linear_model.Ridge", "values": {"alpha": [1]}}, *objects]


ARRAY = {"kind": "array", "array": 0}
HOSTILE = {
    "os.system": (ridge({"kind": "name", "name": "os.system"}), []),
    "eval": (ridge({"kind": "name", "name": "builtins.eval"}), []),
    "a module": (ridge({"kind": "name", "name": "numpy.os"}), []),
    "a function of numpy": (ridge({"kind": "name", "name": "numpy.load"}), []),
    "a function of torch": (ridge({"kind": "name", "name": "torch.load"}), []),
    "a function of ours": (ridge({"kind": "name", "name": "make_poisson"}), []),
    "sklearn.utils": (ridge({"kind": "name", "name": "sklearn.utils._testing.os"}), []),
    "a function of sklearn": (ridge({"kind": "name", "name": "sklearn.datasets.fetch_openml"}), []),
    "a module of sklearn": (ridge({"kind": "name", "name": "sklearn.linear_model._base.sp"}), []),
    "tests of sklearn": (ridge({"kind": "name", "name": "sklearn.linear_model.tests.test_ridge.Ridge"}), []),
    "dots": (ridge({"kind": "name", "name": "sklearn..os.system"}), []),
    "a network as an object": ([{"kind": "attributes", "class": "FNO", "values": {}}], []),
    "arguments of a network": ([{"kind": "arguments", "class": "FNO", "values": {"in_features": 4}}], []),
    "arguments of an optimiser": ([{"kind": "arguments", "class": "SOAP", "values": {}}], []),
    "arguments of an estimator": ([{"kind": "arguments", "class": "HSSRegressor", "values": {}}], []),
    "attributes of a map": ([{"kind": "attributes", "class": "HSSMatrix", "values": {}}], []),
    "a function as a class": ([{"kind": "arguments", "class": "relative_l2_error", "values": {}}], []),
    "other arguments": ([{"kind": "arguments", "class": "ClusterTree", "values": {"n": 4, "levels": 1, "x": 1}}], []),
    "no estimator": ([{"kind": "arguments", "class": "ClusterTree", "values": {"n": 4, "levels": 1}}], []),
    "a class without objects": ([{"kind": "attributes", "class": "sklearn.base.BaseEstimator", "values": [1]}], []),
    "an unknown kind": ([{"kind": "pickle", "text": "80"}], []),
    "a pickled array": (ridge(ARRAY), [npy(np.array([Evil()], dtype=object))]),
    "a huge array": (ridge(ARRAY), [header((10**15,))]),
    "a huge array of nothing": (ridge(ARRAY), [header((10**15,), "<U0")]),
    "a shape that overflows": (ridge(ARRAY), [header((2**33, 2**33))]),
    "a negative shape": (ridge(ARRAY), [header((-1, -8))]),
    "a missing array": (ridge({"kind": "array", "array": 1}), [npy(np.ones(2))]),
    "names with dots": (ridge({"kind": "array", "array": "../0"}), [npy(np.ones(2))]),
    "an order that is none": (ridge({**ARRAY, "order": [0, 0]}), [npy(np.ones((2, 2)))]),
    "indices outside of a matrix": (
        ridge(
            {
                "kind": "sparse",
                "format": "csr",
                "matrix": False,
                "shape": [2, 2],
                "parts": {"data": [2], "indices": [3], "indptr": [4]},
            },
            ARRAY,
            {"kind": "array", "array": 1},
            {"kind": "array", "array": 2},
        ),
        [npy(np.ones(2)), npy(np.array([0, 10**6])), npy(np.array([0, 1, 2]))],
    ),
    "coordinates outside of a matrix": (
        ridge(
            {
                "kind": "sparse",
                "format": "coo",
                "matrix": False,
                "shape": [2, 2],
                "parts": {"data": [2], "coords": [3]},
            },
            ARRAY,
            {"kind": "tuple", "items": [[4], [4]]},
            {"kind": "array", "array": 1},
        ),
        [npy(np.ones(2)), npy(np.array([0, 10**6]))],
    ),
    "a place outside of a generator": (
        ridge(
            {"kind": "RandomState", "state": [2]},
            {"kind": "dict", "items": [["bit_generator", "MT19937"], ["state", [3]], ["has_gauss", 0], ["gauss", 0.0]]},
            {"kind": "dict", "items": [["key", [4]], ["pos", 10**9]]},
            ARRAY,
        ),
        [npy(np.zeros(624, dtype=np.uint32))],
    ),
    "a cycle": (ridge({"kind": "tuple", "items": [[1]]}), []),
    "a long cycle": (ridge({"kind": "tuple", "items": [[2]]}, {"kind": "frozenset", "items": [[1]]}), []),
    "no such object": (ridge({"kind": "tuple", "items": [[7]]}), []),
    "a negative object": (ridge({"kind": "tuple", "items": [[-1]]}), []),
    "values of other kinds": (ridge({"kind": "tuple", "items": [{"kind": "tuple"}]}), []),
    "deep": (ridge(*({"kind": "tuple", "items": [[k]]} for k in range(2, 10**5))), []),
    "a list": ([{"kind": "list", "items": []}], []),
    "nothing": ([], []),
    "no list": (None, []),
    "huge text": (ridge({"kind": "range", "items": [0, "x", 1]}), []),
    "an object type": (ridge({"kind": "number", "dtype": "|O", "text": "00" * 8}), []),
    "a device of nobody": (ridge({"kind": "torch.device", "name": "os"}), []),
    "weights of another size": (
        [
            {"kind": "attributes", "class": "FNORegressor", "values": {"net_": [1]}},
            {
                "kind": "dict",
                "items": [["module", [2]], ["arguments", [3]], ["tensors", [4]]],
            },
            {"kind": "name", "name": "FNO"},
            {"kind": "dict", "items": [["in_features", 10**6], ["out_features", 10**6], ["width", 10**5]]},
            {"kind": "dict", "items": []},
        ],
        [],
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(case, path, monkeypatch):
    objects, arrays = HOSTILE[case]
    packed(path, {"format": 1, "written_by": "somebody", "model": [0], "objects": objects}, arrays)
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("code was run"))
    with pytest.raises(ValueError, match=r"model\.hss does not contain an estimator written by sklearn_hss\.save"):
        hss.load(path)


def test_hostile_archives(path):
    good = {"format": 1, "written_by": "us", "model": [0], "objects": ridge(ARRAY)}
    array = npy(np.ones(2))
    packed(path, good, [array])
    np.testing.assert_array_equal(hss.load(path).alpha, np.ones(2))
    packed(path, good, [array, array], ["0.npy", "0.npy"])
    with pytest.raises(ValueError, match="its parts overlap"):
        hss.load(path)
    packed(path, good, [array, array], ["../../0.npy", "/0.npy"])  # nothing is unpacked, wherever it wants to be
    with pytest.raises(ValueError, match=r"0\.npy"):
        hss.load(path)
    packed(path, good, [npy(np.zeros(10**6))], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="its parts are compressed"):
        hss.load(path)
    for metadata in (
        b"\xff",
        "",
        "[]",
        "{}",
        "[" * 10**6,
        '{"format": "1", "written_by": 3}',
        '{"format": true}',
        '{"format": 0, "written_by": ""}',
    ):
        packed(path, metadata)
        with pytest.raises(ValueError, match="does not contain an estimator"):
            hss.load(path)


def test_other_files(path):
    for content in (b"", b"PK", pickle.dumps(Ridge()), npy(np.ones(3)), bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.hss is not a file written by sklearn_hss\.save"):
            hss.load(path)
    np.savez(path.with_suffix(".npz"), x=np.ones(3))
    with pytest.raises(ValueError, match="is not a file written by"):
        hss.load(path.with_suffix(".npz"))
    with pytest.raises(FileNotFoundError):
        hss.load(path.with_name("nothing"))
    with pytest.raises(IsADirectoryError):
        hss.load(path.parent)


# Objects that cannot be saved, and their locations


class Recorder(Callback):
    def __init__(self, data=None):
        self.data = data

    def on_train_begin(self, net, X=None, **kwargs):
        self.seen_ = 0

    def on_epoch_end(self, net, **kwargs):
        self.seen_ += 1


class Keeper(Recorder):
    def on_train_begin(self, net, X=None, **kwargs):
        self.seen_, self.data_set_ = 0, X


class Own(hss.HSSRegressor):
    pass


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (hss.FNORegressor(loss=lambda p, t: (p - t) ** 2), r"FNORegressor\.loss is <function"),
        (hss.FNORegressor(optimizer=functools.partial(torch.optim.Adam)), r"FNORegressor\.optimizer is functools"),
        (
            make_pipeline(StandardScaler(), Ridge(alpha={"a": [1, os]})),
            r"Pipeline\.steps\[1\]\[1\]\.alpha\['a'\]\[1\] is <m",
        ),
        (Ridge(alpha=torch.nn.Linear(2, 2)), r"Ridge\.alpha is Linear"),
        (Own(), "Own is Own"),
        (Ridge(alpha=np.zeros(2, dtype=[("a", "f8")])), r"Ridge\.alpha is array"),
    ],
)
def test_what_cannot_be_kept_is_named(model, where, path):
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match=where):
        hss.save(model, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_cycles_and_depths_that_cannot_be_kept(path):
    pair = ([],)
    pair[0].append(pair)
    with pytest.raises(TypeError, match=r"Ridge\.alpha\[0\]\[0\], of type tuple, contains itself"):
        hss.save(Ridge(alpha=pair), path)
    deep = []
    for _ in range(10**5):
        deep = [deep]
    with pytest.raises(TypeError, match="nested too deeply"):
        hss.save(Ridge(alpha=deep), path)
    with pytest.raises(TypeError, match="model is of type list; it must be an estimator"):
        hss.save([], path)


def test_callbacks_stay_behind(path):
    X, y = MODELS["fno"][1:]
    model = clone(MODELS["fno"][0]).set_params(callbacks=[Recorder()]).fit(X, y)
    with pytest.warns(UserWarning, match=r"callbacks=\[.*Recorder.* are not saved; set them again"):
        loaded = again(model, path)
    assert loaded.callbacks is None
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hss.save(loaded, path)
        pickled = pickle.loads(pickle.dumps(model))
    (_, callback) = pickled.net_.callbacks_[-1]
    assert (type(pickled.callbacks[0]), callback.seen_) == (Recorder, 2)


@pytest.mark.parametrize("data", [np.zeros(20_000), {"x": [torch.zeros(101, 100)]}, "set"])
def test_callbacks_that_hold_data_are_not_pickled(data):
    X, y = MODELS["fno"][1:]
    heavy = Keeper() if isinstance(data, str) else Recorder(data)
    model = clone(MODELS["fno"][0]).set_params(callbacks=[("light", Recorder(np.zeros(100))), heavy])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(pickle.loads(pickle.dumps(model)).callbacks) == 2  # for a fit in another process
    model.fit(X, y)
    with pytest.warns(
        UserWarning, match=f"callback {type(heavy).__name__} holds data and is excluded from copies and pickles"
    ):
        pickled = pickle.loads(pickle.dumps(model))
    assert len(pickle.dumps(pickled)) < 40_000
    assert [name for name, _ in pickled.net_.callbacks_ if "Recorder" in name or "light" in name] == ["light"]
    assert len(model.callbacks) == 2
    np.testing.assert_array_equal(pickled.predict(X), model.predict(X))


# Folders and disks


@pytest.mark.parametrize("how", ["full at once", "full in the middle", "full at the end"])
def test_full_disks(how, path, monkeypatch):
    model, _ = made("hss_1d")
    hss.save(model, path)
    before = path.read_bytes()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*args, **kwargs):
        raise full

    target = {
        "full at once": (zipfile.ZipFile, "writestr"),
        "full in the middle": (np.lib.format, "write_array"),
        "full at the end": (os, "fsync"),
    }[how]
    monkeypatch.setattr(*target, fail)
    with pytest.raises(OSError, match=r"No space left on device; nothing was written: .*model\.hss") as raised:
        hss.save(hss.HSSRegressor(mask=np.ones(3, dtype=bool)), path)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_device_that_is_full():
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no such device here")
    with open("/dev/full", "wb") as file, pytest.raises(OSError, match="No space"):
        file.write(bytes(10**6))


def test_folders_that_may_not_be_written(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    path = folder / "model.hss"
    if os.access(folder, os.W_OK):  # the superuser may write anywhere
        really = open

        def refusing(name, mode="r", *args, **kwargs):
            if "x" in mode:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(name))
            return really(name, mode, *args, **kwargs)

        monkeypatch.setattr("builtins.open", refusing)
    with pytest.raises(PermissionError, match=r"Permission denied; nothing was written: .*model\.hss"):
        hss.save(Ridge(), path)
    monkeypatch.undo()
    assert os.listdir(folder) == []


def test_folders_that_are_not_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"The folder .*nowhere' of 'model\.hss' does not exist; create it first"
    ):
        hss.save(Ridge(), tmp_path / "nowhere" / "model.hss")
    with pytest.raises(IsADirectoryError, match="is a folder; pass the name of a file"):
        hss.save(Ridge(), tmp_path)
