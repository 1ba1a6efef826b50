"""Arrays as people bring them give what plain arrays give, or are refused, at every entrance."""

import itertools

import numpy as np
import pytest
from entrances import FLAT_MAPS, LINEAR, MAPS, NETWORKS, apply, name_of, problem
from sklearn.base import clone
from sklearn.linear_model import Ridge

from sklearn_hss import FieldScaler, NeuralHSSRegressor, RolloutRegressor
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer, trajectory_l2_error

SMALL = problem(10, (6, 7))
_NUMBERS = itertools.count()


class Opaque:
    """A container that knows no more than its shape and how to become an array, as h5py's do."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)

    def __len__(self):
        return len(self.array)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def dask_array(array):
    return pytest.importorskip("dask.array").from_array(array, chunks=tuple(max(1, n // 2) for n in array.shape))


def dataset(array):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(f"in-memory-{next(_NUMBERS)}", "w", driver="core", backing_store=False)
    return file.create_dataset("field", data=array)


def data_array(array):
    return pytest.importorskip("xarray").DataArray(array)


def zarr_array(array):
    return pytest.importorskip("zarr").array(array)


def tensor(array):
    return pytest.importorskip("torch").tensor(array, requires_grad=True)


CONTAINERS = {
    "opaque": Opaque,
    "nested lists": lambda array: array.tolist(),
    "list of arrays": list,
    "read-only": read_only,
    "big-endian": lambda array: array.astype(">f8"),
    "negative strides": lambda array: array[::-1].copy()[::-1],
    "Fortran order": np.asfortranarray,
    "unmasked masked array": lambda array: np.ma.array(array, mask=False),
    "h5py": dataset,
    "dask": dask_array,
    "xarray": data_array,
    "zarr": zarr_array,
    "torch": tensor,
}


def fit_and_apply(model, X, Y):
    model = clone(model).fit(X, Y)
    return apply(model, X)


# Networks share one front end: one of them shows what the containers do, all of them what masked entries do.
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("model", [NETWORKS[0], *LINEAR], ids=name_of)
def test_maps(model, container):
    make = CONTAINERS[container]
    expected = fit_and_apply(model, SMALL.X, SMALL.Y)
    found = fit_and_apply(model, make(SMALL.X), make(SMALL.Y))
    np.testing.assert_array_equal(found, expected)
    if hasattr(model, "score"):
        fitted = clone(model).fit(SMALL.X, SMALL.Y)
        for score in (type(fitted).score, relative_l2_scorer):
            # Sums round by the layout in memory.
            expected = score(fitted, SMALL.X, SMALL.Y)
            assert score(fitted, make(SMALL.X), make(SMALL.Y)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("container", CONTAINERS)
def test_scaler_rollouts_and_metrics(container):
    make = CONTAINERS[container]
    np.testing.assert_array_equal(FieldScaler().fit_transform(make(SMALL.X)), FieldScaler().fit_transform(SMALL.X))
    for metric in (relative_l2_error, trajectory_l2_error):
        assert metric(make(SMALL.X), make(SMALL.Y)) == pytest.approx(metric(SMALL.X, SMALL.Y), rel=1e-9)
    # Trajectories of seven points at six times.
    model = RolloutRegressor(Ridge()).fit(SMALL.X)
    found = RolloutRegressor(Ridge()).fit(make(SMALL.X))
    np.testing.assert_array_equal(found.rollout(make(SMALL.X[:, 0]), 3), model.rollout(SMALL.X[:, 0], 3))
    assert found.score(make(SMALL.X)) == model.score(SMALL.X)


def big_endian_float32(array):
    return array.astype(">f4")


def test_precision_survives():
    X, Y = big_endian_float32(SMALL.X), big_endian_float32(SMALL.Y)
    assert fit_and_apply(LINEAR[0], X, Y).dtype == np.float32
    assert FieldScaler().fit_transform(X).dtype == np.float32


MASKED = np.ma.array(SMALL.X, mask=~np.broadcast_to(SMALL.mask, SMALL.X.shape))
REFUSED = {
    "masked": (MASKED, "masked entries.*fill the masked points with 0 and pass mask="),
    "list of masked": (list(MASKED), "masked entries.*fill the masked points with 0 and pass mask="),
    "text": (np.full(SMALL.X.shape, "1.0"), "dtype <U3, which holds text"),
    "dates": (np.full(SMALL.X.shape, "2020-01-01", dtype="M8[D]"), "which holds dates"),
    "durations": (np.full(SMALL.X.shape, 1, dtype="m8[s]"), "which holds durations"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("model", MAPS, ids=name_of)
def test_maps_refuse(model, kind):
    bad, message = REFUSED[kind]
    fitted = clone(model).fit(SMALL.X, SMALL.Y)
    before = dict(vars(fitted))
    for call in (
        lambda: fitted.fit(bad, SMALL.Y),
        lambda: fitted.fit(SMALL.X, bad),
        lambda: apply(fitted, bad),
        *([lambda: fitted.score(SMALL.X, bad)] if hasattr(model, "score") else []),
        *([lambda: fitted.inverse_transform(bad)] if hasattr(model, "inverse_transform") else []),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert vars(fitted) == before


@pytest.mark.parametrize("kind", REFUSED)
def test_everything_else_refuses(kind):
    bad, message = REFUSED[kind]
    scaler, rollouts = FieldScaler().fit(SMALL.X), RolloutRegressor(Ridge()).fit(SMALL.X)
    for call in (
        lambda: FieldScaler().fit(bad),
        lambda: scaler.transform(bad),
        lambda: scaler.inverse_transform(bad),
        lambda: RolloutRegressor(Ridge()).fit(bad),
        lambda: rollouts.score(bad),
        lambda: rollouts.predict(bad[0] if kind == "list of masked" else bad[:, -1]),
        lambda: relative_l2_error(bad, SMALL.X),
        lambda: relative_l2_error(SMALL.X, bad),
        lambda: trajectory_l2_error(SMALL.X, bad),
        lambda: relative_l2_scorer(rollouts, SMALL.X[:, 0], bad),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_masked_entries_are_refused_where_they_hide():
    dask = pytest.importorskip("dask.array")
    with pytest.raises(ValueError, match="masked entries"):
        LINEAR[0].fit(dask.from_array(MASKED), SMALL.Y)


def test_channels_last_get_a_hint():
    X = np.moveaxis(np.stack([SMALL.X, SMALL.Y], axis=1), 1, -1)
    with pytest.raises(ValueError, match=r"Channels come before the grid: np.moveaxis\(X, -1, 1\)"):
        clone(LINEAR[0]).set_params(grid_shape=(6, 7)).fit(X, SMALL.Y)
    with pytest.warns(UserWarning, match=r"pass np.moveaxis\(X, -1, 1\) and grid_shape=\(6, 7\)"):
        clone(NETWORKS[0]).fit(X, X)


def test_ragged_trajectories():
    trajectories = [SMALL.X[i, : 3 + i % 3] for i in range(6)]
    pairs = [np.concatenate(part) for part in zip(*((x[:-1], x[1:]) for x in trajectories), strict=True)]
    weights = np.arange(1.0, 7.0)
    found = RolloutRegressor(Ridge()).fit(trajectories, sample_weight=weights)
    expected = RolloutRegressor(Ridge()).fit(*pairs, np.repeat(weights, [len(x) - 1 for x in trajectories]))
    np.testing.assert_array_equal(found.predict(SMALL.X[:, 0]), expected.predict(SMALL.X[:, 0]))
    with pytest.raises(ValueError, match="list of trajectories of different lengths"):
        found.score(trajectories)
    with pytest.raises(ValueError, match="states of different shapes"):
        RolloutRegressor(Ridge()).fit([SMALL.X[0], SMALL.X[1, :4, :3]])


@pytest.mark.parametrize("model", FLAT_MAPS[:1] + LINEAR, ids=name_of)
@pytest.mark.parametrize("n_numbers", [None, 1, 3])
def test_two_dimensional_fields_to_numbers(model, n_numbers):
    weights = np.random.RandomState(0).standard_normal((42, n_numbers or 1))
    Y = SMALL.X.reshape(10, -1) @ weights
    Y = Y[:, 0] if n_numbers is None else Y
    assert fit_and_apply(model, SMALL.X, Y).shape == (Y.shape if Y.ndim > 1 or hasattr(model, "predict") else (10, 1))


def test_a_memory_map_is_not_copied_for_validation(tmp_path):
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", shape=(40, 32))
    X[:] = np.random.RandomState(0).standard_normal(X.shape)
    X.flush()
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    model = NeuralHSSRegressor(init="random", max_epochs=1, validation_fraction=0.25, random_state=0)
    kept = []
    split = model._split
    model._split = lambda *arguments, **options: kept.append(split(*arguments, **options)) or kept[-1]
    model.fit(mapped, mapped)
    assert all(np.shares_memory(part[0], mapped) for part in kept[0])


def test_weights_are_containers_too():
    weight = np.ma.array(np.ones(10), mask=[True] + [False] * 9)
    for call in (
        lambda: NETWORKS[0].fit(SMALL.X, SMALL.Y, sample_weight=weight),
        lambda: LINEAR[0].fit(SMALL.X, SMALL.Y, sample_weight=weight),
        lambda: FieldScaler().fit(SMALL.X, sample_weight=weight),
        lambda: relative_l2_error(SMALL.X, SMALL.Y, sample_weight=weight),
        lambda: clone(LINEAR[0]).fit(SMALL.X, SMALL.Y).score(SMALL.X, SMALL.Y, sample_weight=weight),
    ):
        with pytest.raises(ValueError, match="sample_weight is a masked array"):
            call()
