"""Data in files are read batch by batch, with the numbers of data in memory, within a bounded amount of memory."""

import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from entrances import NETWORKS, name_of, problem
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from sklearn_hss import FieldScaler, FNORegressor, NeuralHSSRegressor, RolloutRegressor, _containers, preprocessing
from sklearn_hss.estimators import _base, _batches, _neural_hss, _rollout, _score
from sklearn_hss.exceptions import DivergenceWarning

DATA = problem(40, (6, 7), kind=np.float32)
_NUMBERS = itertools.count()


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """Files of the data, and limits at which they count as large."""
    monkeypatch.setattr(_containers, "LARGE", 1000)
    monkeypatch.setattr(_containers, "PART", 300)
    monkeypatch.setattr(_batches, "_MAPPED_BYTES", 1000)
    monkeypatch.setattr(_batches, "_PART", 300)
    for name, array in {"X": DATA.X, "Y": DATA.Y}.items():
        np.save(tmp_path / f"{name}.npy", array)
    return [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "XY"]


@pytest.mark.parametrize("parameters", [{}, {"validation_fraction": 0.2}, {"device": "cpu", "scale": "max"}])
@pytest.mark.parametrize("model", [NETWORKS[0], NETWORKS[1]], ids=name_of)
def test_mapped_arrays_give_the_numbers_of_arrays_in_memory(model, parameters, mapped):
    model = clone(model).set_params(batch_size=8, **parameters)
    weight = np.linspace(0.5, 2, len(DATA.X))
    threads = threading.active_count()
    found = clone(model).fit(*mapped, sample_weight=weight)
    expected = clone(model).fit(DATA.X, DATA.Y, sample_weight=weight)
    assert [row["train_loss"] for row in found.history_] == [row["train_loss"] for row in expected.history_]
    np.testing.assert_array_equal(found.predict(mapped[0]), expected.predict(DATA.X))
    found.partial_fit(*mapped)
    np.testing.assert_array_equal(found.predict(mapped[0]), expected.partial_fit(DATA.X, DATA.Y).predict(DATA.X))
    assert threading.active_count() == threads


class Slices:
    """A container that knows slices of its first axis and nothing else, and notes the most that it gave at once."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __getitem__(self, part):
        assert isinstance(part, slice)
        assert part.step is None
        self.most = max(self.most, len(self.array[part]))
        return self.array[part].copy()

    def __len__(self):
        return len(self.array)

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("all was read at once")


def dataset(array):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(f"large-{next(_NUMBERS)}", "w", driver="core", backing_store=False)
    return file.create_dataset("field", data=array)


def dask_array(array):
    return pytest.importorskip("dask.array").from_array(array, chunks=(7, *array.shape[1:]))


def zarr_array(array):
    return pytest.importorskip("zarr").array(array, chunks=(7, *array.shape[1:]))


def file(array):
    """As memory-mapped files are, of a type and a byte order that must be converted."""
    return array.astype(array.dtype.newbyteorder(">")).view(np.memmap)


CONTAINERS = {"slices": Slices, "h5py": dataset, "dask": dask_array, "zarr": zarr_array, "file": file}


@pytest.fixture
def small_is_large(monkeypatch):
    monkeypatch.setattr(_containers, "LARGE", 1000)
    monkeypatch.setattr(_containers, "PART", 600)
    monkeypatch.setattr(_batches, "_MAPPED_BYTES", 1000)
    monkeypatch.setattr(_batches, "_PART", 600)
    monkeypatch.setattr(_rollout, "PART", 300)
    monkeypatch.setattr(preprocessing, "_BATCH", 600)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers_are_read_in_parts(kind, small_is_large):
    model = clone(NETWORKS[1]).set_params(batch_size=8, validation_fraction=0.2)
    weight = np.where(np.arange(40) % 5, 1.0, 0.0)
    expected = clone(model).fit(DATA.X, DATA.Y, sample_weight=weight).partial_fit(DATA.X, DATA.Y)
    X, Y = (CONTAINERS[kind](array) for array in (DATA.X, DATA.Y))
    found = clone(model).fit(X, Y, sample_weight=weight).partial_fit(X, Y)
    assert [row["train_loss"] for row in found.history_] == [row["train_loss"] for row in expected.history_]
    np.testing.assert_array_equal(found.predict(X), expected.predict(DATA.X))
    assert found.score(X, Y) == expected.score(DATA.X, DATA.Y)
    # With one array in memory, and other numbers than float32.
    mixed = clone(model).fit(X, DATA.Y.astype(np.float64))
    np.testing.assert_array_equal(mixed.predict(X), clone(model).fit(DATA.X, DATA.Y.astype(np.float64)).predict(X))


def test_no_more_than_a_part_is_read_at_once(small_is_large):
    X, Y = Slices(DATA.X), Slices(DATA.Y)
    clone(NETWORKS[1]).set_params(batch_size=8).fit(X, Y).predict(X)
    assert 8 <= X.most < 40
    assert 8 <= Y.most < 40


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_in_containers_are_looked_at(bad, small_is_large, monkeypatch):
    monkeypatch.setattr(_base, "new_net", None)  # nothing begins
    X, Y = DATA.X.copy(), DATA.Y.copy()
    Y[31, 2, 3] = bad
    with pytest.raises(ValueError, match="Input y contains NaN or infinity in sample 31"):
        clone(NETWORKS[1]).fit(Slices(X), Slices(Y))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clone(NETWORKS[1]).fit(Slices(X), Slices(X[:30]))
    with pytest.raises(ValueError, match="Complex data not supported"):
        clone(NETWORKS[1]).fit(dataset(X.astype(complex)), Slices(X))


def test_rows_of_containers():
    rows = _containers.Rows(Slices(DATA.X), "X")
    flat = DATA.X.reshape(40, -1)
    picks = np.random.RandomState(0).randint(0, 40, 25)
    for which in (picks, slice(3, 9), slice(None, None, 7), np.arange(40) % 3 == 0, np.array([], dtype=int)):
        np.testing.assert_array_equal(rows[which], flat[which])
        part = rows.part(which)
        assert part.shape == flat[which].shape
        np.testing.assert_array_equal(part[1:4], flat[which][1:4])
        np.testing.assert_array_equal(part[::-1], flat[which][::-1])


BLANK = np.where(DATA.mask, DATA.Y, np.nan)


@pytest.mark.parametrize(("mask", "kind"), [(DATA.mask, "slices"), *(("auto", kind) for kind in CONTAINERS)])
def test_masks_of_containers(kind, mask, small_is_large):
    model = clone(NETWORKS[1]).set_params(batch_size=8, mask=mask)
    X = np.where(DATA.mask, DATA.X, np.nan)
    weight = np.where(np.arange(40) % 5, 1.0, 0.0)
    expected = clone(model).fit(X, BLANK, sample_weight=weight).partial_fit(X, BLANK)
    lazy = [CONTAINERS[kind](array) for array in (X, BLANK)]
    found = clone(model).fit(*lazy, sample_weight=weight).partial_fit(*lazy)
    np.testing.assert_array_equal(found.mask_, DATA.mask)
    assert [row["train_loss"] for row in found.history_] == [row["train_loss"] for row in expected.history_]
    np.testing.assert_array_equal(found.predict(lazy[0]), expected.predict(X))
    assert np.isnan(found.predict(lazy[0])[:, ~DATA.mask]).all()
    assert found.score(*lazy) == pytest.approx(expected.score(X, BLANK), rel=1e-12)
    if kind == "slices":
        assert all(array.most < 40 for array in lazy)


def test_masks_are_found_in_the_last_part(small_is_large):
    Y = DATA.Y.copy()
    Y[:, ~DATA.mask], Y[-1, 5, 6] = 0, 1
    inside = DATA.mask.copy()
    inside[5, 6] = True
    found = clone(NETWORKS[1]).set_params(mask="auto").fit(DATA.X, Slices(Y))
    np.testing.assert_array_equal(found.mask_, inside)
    Y[31, 0, 0] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN or infinity in sample 31"):
        clone(NETWORKS[1]).set_params(mask="auto").fit(DATA.X, Slices(Y))


SCALERS = {
    "max": FieldScaler(),
    "standard": FieldScaler("standard"),
    "given mask": FieldScaler("standard", mask=DATA.mask),
    "mask of the data": FieldScaler(mask="auto"),
    "channels": FieldScaler("standard", grid_shape=(7,)),
}


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("scaler", SCALERS)
def test_scalers_of_containers(scaler, kind, small_is_large):
    scaler, array = SCALERS[scaler], BLANK if SCALERS[scaler].mask is not None else DATA.X
    weight = np.where(np.arange(40) % 5, 1.0, 0.0)
    expected, found = clone(scaler).fit(array, sample_weight=weight), clone(scaler)
    lazy = CONTAINERS[kind](array)
    scaled = found.fit(lazy, sample_weight=weight).transform(lazy)
    np.testing.assert_array_equal(found.scale_, expected.scale_)
    np.testing.assert_array_equal(found.center_, expected.center_)
    # The numbers are those of this fit, not of a later one.
    found.partial_fit(lazy)
    np.testing.assert_array_equal(found.scale_, expected.partial_fit(array).scale_)
    expected = clone(scaler).fit(array, sample_weight=weight)
    in_memory = expected.transform(array)
    assert isinstance(scaled, _containers.LazyFields)
    assert (scaled.shape, scaled.dtype, scaled.ndim, len(scaled)) == (array.shape, array.dtype, 3, 40)
    np.testing.assert_array_equal(scaled, in_memory)
    np.testing.assert_array_equal(expected.inverse_transform(scaled), expected.inverse_transform(in_memory))
    np.testing.assert_array_equal(np.asarray(expected.inverse_transform(lazy)), expected.inverse_transform(array))
    if kind == "slices":
        assert lazy.most < 40


def test_lazy_fields_are_indexed_as_arrays(small_is_large):
    array = FieldScaler().fit_transform(DATA.X)
    lazy = FieldScaler().fit(DATA.X).transform(Slices(DATA.X))
    picks, chosen = np.random.RandomState(0).randint(0, 40, 25), np.arange(40) % 3 == 0
    for read in (3, -1, np.int64(5), slice(3, 9), slice(None, None, 7), slice(-4, None), (slice(2, 5), 1), (4, 2), ...):
        assert isinstance(lazy[read], np.ndarray | np.floating)
        np.testing.assert_array_equal(lazy[read], array[read])
    for unread in (picks, chosen, list(picks), (picks, ...)):
        assert isinstance(lazy[unread], _containers.LazyFields)
        np.testing.assert_array_equal(lazy[unread], array[unread])
        np.testing.assert_array_equal(lazy[unread][2:5], array[unread][2:5])
    np.testing.assert_array_equal(lazy[picks, 1:3], array[picks, 1:3])
    np.testing.assert_array_equal(np.stack(list(lazy)), array)
    np.testing.assert_array_equal(lazy - array, np.zeros_like(array))
    with pytest.raises(IndexError):
        lazy[40]
    with pytest.raises(ValueError, match="without a copy"):
        np.array(lazy, copy=False)


def test_what_a_scaler_gets_is_looked_at(small_is_large, tmp_path):
    X = DATA.X.copy()
    X[31, 2, 3] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN or infinity in sample 31"):
        FieldScaler().fit(Slices(X))
    scaler = FieldScaler().fit(DATA.X)
    scaled = scaler.transform(Slices(X))
    assert np.isfinite(scaled[:31]).all()
    for read in (lambda: scaled[31], lambda: np.asarray(scaled), lambda: clone(NETWORKS[1]).fit(scaled, DATA.Y)):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            read()
    np.testing.assert_array_equal(scaler.inverse_transform(Slices(X)), scaler.inverse_transform(X))
    with pytest.raises(ValueError, match="fields of shape"):
        scaler.transform(Slices(DATA.X.reshape(40, 7, 6)))
    with pytest.raises(ValueError, match="42 features"):
        scaler.transform(Slices(DATA.X.reshape(40, -1)[:, :30]))
    # In place, where that is asked for and possible.
    writeable = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, DATA.X.shape)
    writeable[:] = DATA.X
    assert np.shares_memory(FieldScaler(copy=False).fit_transform(writeable), writeable)
    np.testing.assert_array_equal(writeable, scaler.transform(DATA.X))


@pytest.mark.parametrize("kind", CONTAINERS)
def test_pipelines_train_on_containers(kind, small_is_large):
    model = make_pipeline(FieldScaler("standard"), clone(NETWORKS[1]).set_params(batch_size=8))
    expected = clone(model).fit(DATA.X, DATA.Y)
    X, Y = (CONTAINERS[kind](array) for array in (DATA.X, DATA.Y))
    found = clone(model).fit(X, Y)
    assert [row["train_loss"] for row in found[-1].history_] == [row["train_loss"] for row in expected[-1].history_]
    np.testing.assert_array_equal(found.predict(X), expected.predict(DATA.X))
    assert found.score(X, Y) == expected.score(DATA.X, DATA.Y)
    if kind == "slices":
        assert X.most < 40
        assert Y.most < 40


def test_scaled_containers_are_split_without_being_read(small_is_large):
    X = Slices(DATA.X)
    scaled = FieldScaler().fit(X).transform(X)
    X.most = 0
    parts = train_test_split(scaled, DATA.Y, random_state=0)
    expected = train_test_split(FieldScaler().fit_transform(DATA.X), DATA.Y, random_state=0)
    assert X.most == 0
    for one, other in zip(parts, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    model = clone(NETWORKS[1]).set_params(batch_size=8)
    np.testing.assert_array_equal(
        clone(model).fit(parts[0], parts[2]).predict(parts[1]),
        clone(model).fit(expected[0], expected[2]).predict(expected[1]),
    )
    search = GridSearchCV(model, {"width": [2, 4]}, cv=2)
    in_memory = clone(search).fit(np.asarray(scaled), DATA.Y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(search.fit(scaled, DATA.Y).cv_results_["mean_test_score"], in_memory)
    assert 0 < X.most < 40


# Ten trajectories of four states, on 6 x 7 points.
STATES = np.stack([DATA.X[:10], DATA.X[:10] + DATA.Y[:10], DATA.Y[10:20], DATA.X[20:30]], axis=1)


class Stepped(Slices):
    """Knows slices of the second axis, too, of one trajectory, as h5py and zarr do."""

    def __getitem__(self, key):
        trajectory, times = key
        assert isinstance(trajectory, int)
        assert isinstance(times, slice)
        self.most = max(self.most, len(self.array[key]))
        return self.array[key].copy()


TRAJECTORIES = {**CONTAINERS, "slices": Stepped, "thinned": lambda array: np.repeat(file(array), 2, axis=1)[:, ::2]}
STEPPED = {
    "network": (NETWORKS[1], {}),
    "next states": (NETWORKS[1], {"residual": False, "scale": None}),
    "mask": (NETWORKS[1], {"mask": DATA.mask}),
    "pipeline": (make_pipeline(FieldScaler("standard"), NETWORKS[1]), {}),
    "channels": (clone(NETWORKS[1]).set_params(grid_shape=(7,)), {}),
}


@pytest.mark.parametrize(
    ("model", "kind"),
    [*(("network", kind) for kind in TRAJECTORIES), *((model, "slices") for model in STEPPED if model != "network")],
)
def test_rollouts_of_containers(model, kind, small_is_large):
    inner, parameters = STEPPED[model]
    inner = clone(inner)
    (inner[-1] if hasattr(inner, "steps") else inner).set_params(batch_size=8)
    model = RolloutRegressor(inner, **parameters)
    array = np.where(DATA.mask, STATES, np.nan) if model.mask is not None else STATES
    weight = np.arange(10) % 4
    expected = clone(model).fit(array, sample_weight=None if hasattr(inner, "steps") else weight)
    lazy = TRAJECTORIES[kind](array)
    found = clone(model).fit(lazy, sample_weight=None if hasattr(inner, "steps") else weight)
    np.testing.assert_array_equal(found.scale_, expected.scale_)
    new = array[:, 1]
    np.testing.assert_array_equal(found.predict(new), expected.predict(new))
    np.testing.assert_array_equal(found.predict(CONTAINERS["slices"](new)), expected.predict(new))
    np.testing.assert_array_equal(found.rollout(new, 3), expected.rollout(new, 3))
    for multioutput in ("uniform_average", "raw_values"):
        score = expected.score(array, sample_weight=weight, multioutput=multioutput)
        np.testing.assert_allclose(found.score(lazy, sample_weight=weight, multioutput=multioutput), score, rtol=1e-6)
    if kind == "slices":
        assert lazy.most <= 4


def test_rollouts_of_pairs_in_containers(small_is_large):
    # X has a channel more than the state.
    model = RolloutRegressor(clone(NETWORKS[1]).set_params(batch_size=8, grid_shape=(6, 7)))
    X, y = np.stack([DATA.X, DATA.Y], axis=1), DATA.X[:, None] + DATA.Y[:, None]
    expected = clone(model).fit(X, y)
    for pair in ((Slices(X), Slices(y)), (X, Slices(y)), (Slices(X), y)):
        found = clone(model).fit(*pair)
        np.testing.assert_array_equal(found.predict(pair[0]), expected.predict(X))
        assert found.score(*pair) == pytest.approx(expected.score(X, y), rel=1e-6)
        assert all(array.most < 40 for array in pair if isinstance(array, Slices))


def test_rollouts_look_at_containers(small_is_large):
    model = RolloutRegressor(NETWORKS[1])
    bad = STATES.copy()
    bad[7, 2, 1, 1] = np.inf
    with pytest.raises(ValueError, match="Input X contains NaN or infinity in sample 23"):
        model.fit(Stepped(bad))
    with pytest.raises(ValueError, match="n_times=1; at least 2"):
        model.fit(Stepped(STATES[:, :1]))
    with pytest.raises(ValueError, match="must be trajectories"):
        model.fit(Stepped(STATES.reshape(10, -1)))
    model.fit(Stepped(STATES))
    with pytest.raises(ValueError, match="Input X contains NaN or infinity"):
        model.score(Stepped(bad))
    with pytest.raises(ValueError, match="fields of shape"):
        model.score(Stepped(STATES.reshape(10, 4, 7, 6)))
    # What is not read in batches is an array to the estimator, as ever.
    plain = RolloutRegressor(Ridge()).fit(CONTAINERS["h5py"](STATES))
    np.testing.assert_array_equal(plain.predict(DATA.X), RolloutRegressor(Ridge()).fit(STATES).predict(DATA.X))


class Explosive(FNORegressor):
    """Predicts increments that grow."""

    def predict(self, X):
        return 1e25 * np.asarray(X)


def test_scores_of_diverged_rollouts(small_is_large):
    model = RolloutRegressor(Explosive(width=2, modes=2, depth=1, max_epochs=1, random_state=0)).fit(STATES)
    with pytest.warns(DivergenceWarning):
        assert model.score(Stepped(STATES)) == model.score(STATES) == -np.inf


@pytest.mark.parametrize("weight", [None, np.linspace(0, 2, 40)])
def test_scores_in_parts(weight, monkeypatch):
    true = np.random.RandomState(0).standard_normal((40, 2, 15)) * np.array([1e-3, 1e3])[:, None] + 5
    predicted = true + 0.1 * np.random.RandomState(1).standard_normal(true.shape) * true.std((0, 2))[:, None]
    inside = np.arange(30) % 4 > 0
    parts = zip(
        *(np.where(inside, rows.reshape(40, -1), 0).reshape(40, 2, -1).swapaxes(0, 1) for rows in (true, predicted)),
        strict=True,
    )
    expected = []
    for t, p in parts:
        mean = np.average(t, axis=0, weights=weight)
        w = np.ones(40) if weight is None else weight
        expected.append(1 - (w @ (t - p) ** 2).sum() / (w @ (t - mean) ** 2).sum())
    for part in (10**6, 100):
        monkeypatch.setattr(_containers, "PART", part)
        rows = true.reshape(40, -1), predicted.reshape(40, -1)
        found = _score.field_r2(*rows, weight, 2, "raw_values", inside)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    with pytest.raises(ValueError, match="NaN"):
        _score.field_r2(rows[0], np.where(inside, np.nan, rows[1]))


def test_kept_fields_are_those_of_batches():
    arguments = {"shapes": [(6, 7)] * 2, "scales": (np.array([2.0]), np.array([3.0])), "dtype": np.float32}
    rows = np.arange(1, 40, 2)
    fields = [
        _batches.Fields(DATA.X.reshape(40, -1), DATA.Y.reshape(40, -1), rows / 40, rows, device="cpu", **arguments)
        for _ in range(2)
    ]
    (x, (y, w)), (kept_x, (kept_y, kept_w)) = (f.batch(slice(3, 11)) for f in (fields[0], fields[1].keep()))
    assert fields[1]._tensors is not None
    for one, other, wanted in ((x, kept_x, DATA.X[rows] / 2), (y, kept_y, DATA.Y[rows] / 3), (w, kept_w, rows / 40)):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, wanted[3:11], rtol=1e-6)


def test_a_reader_that_fails_is_heard(mapped, monkeypatch):
    model = clone(NETWORKS[1]).set_params(batch_size=8)

    def fail(*arguments):
        raise OSError("The disk is gone.")

    monkeypatch.setattr(_batches.Fields, "read", fail)
    threads = threading.active_count()
    with pytest.raises(OSError, match="The disk is gone"):
        model.fit(*mapped)
    assert threading.active_count() == threads


def test_the_start_of_large_data_is_found_from_some(monkeypatch):
    # A linear map that a third of the samples determines just as well.
    line = problem(90, (32,))
    monkeypatch.setattr(_neural_hss, "_START_NUMBERS", 30 * 64)
    monkeypatch.setattr(_batches, "_FEWEST", 4)
    seen = []

    class Watched(NeuralHSSRegressor):
        def _try_linear_fit(self, X, y):
            seen.append(X)
            return super()._try_linear_fit(X, y)

    model = Watched(init="linear", random_state=0).fit(line.X, line.Y)
    np.testing.assert_allclose(np.sort(seen[0] * model.x_scale_, axis=0), np.sort(line.X[::3], axis=0))
    np.testing.assert_allclose(model.predict(line.X), line.Y, atol=1e-6)
    weight = np.arange(1.0, 91)
    _, _, some = _batches.taken((line.X, line.Y, weight[:60], np.arange(60)), 30 * 64)
    np.testing.assert_array_equal(some, weight[:60:2])


SCRIPT = """
import resource, sys
import numpy as np, torch
from sklearn.pipeline import make_pipeline
from sklearn_hss import FieldScaler, FNORegressor, NeuralHSSRegressor, RolloutRegressor

torch.set_num_threads(1)
kind, folder, megabytes, n_samples = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
FNO = FNORegressor(width=4, modes=4, depth=1, device="cpu", max_seconds=0.5, random_state=0)
mask = np.ones((64, 64), dtype=bool)
mask[32:, 32:] = False
models = {
    "FNO": FNO,
    "Neural-HSS": NeuralHSSRegressor(max_seconds=0.5, device="cpu", random_state=0),
    "pipeline": make_pipeline(FieldScaler("standard", mask=mask), FNORegressor(**{**FNO.get_params(), "mask": "auto"})),
    "rollouts": RolloutRegressor(make_pipeline(FieldScaler(), FNO)),
}
tiny = np.random.RandomState(0).standard_normal((8, 64, 64)).astype(np.float32)
if kind == "rollouts":
    models[kind].fit(tiny.reshape(2, 4, 64, 64))
else:
    models[kind].fit(tiny, tiny)  # what a first use loads does not count
X, Y = (
    np.lib.format.open_memmap(f"{folder}/{name}.npy", "w+", np.float32, (n_samples, 64, 64)) for name in "XY"
)  # with holes
X[:64] = np.random.RandomState(0).standard_normal((64, 64, 64))
Y[:64] = np.random.RandomState(1).standard_normal((64, 64, 64)) * mask

def used():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmData")) * 1024

# All memory that is not a file. Requests beyond the limit are rejected.
resource.setrlimit(resource.RLIMIT_DATA, (used() + megabytes * 2**20,) * 2)
if kind == "rollouts":
    models[kind].fit(X.reshape(-1, 32, 64, 64)).score(X.reshape(-1, 32, 64, 64))
else:
    models[kind].fit(X, Y)
models[kind].predict(X[:n_samples // 4])
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory that is no file is Linux's")
@pytest.mark.parametrize(
    ("kind", "megabytes", "n_samples"),
    [
        ("FNO", 160, 8192),
        pytest.param("Neural-HSS", 320, 8192, marks=pytest.mark.slow),
        # Inputs and targets are 72 MB each.
        ("pipeline", 112, 4608),
        ("rollouts", 112, 4608),
    ],
)
def test_large_files(kind, megabytes, n_samples, tmp_path):
    command = [sys.executable, "-c", SCRIPT, kind, *map(str, (tmp_path, megabytes, n_samples))]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert result.stdout == "done\n", result.stderr[-2000:]
