"""Bad input of generators and readers is refused before any work; good input may come in any container."""

import inspect
import re
import shutil
import tracemalloc
from itertools import product
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from sklearn_hss import datasets
from sklearn_hss.datasets import _generation, load_diffusionpde, load_the_well, make_gray_scott, make_poisson

GENERATORS = [getattr(datasets, name) for name in datasets.__all__ if name.startswith("make_")]

# Every parameter of a generator that takes an array, with a small one.
rng = np.random.RandomState(0)
ENTRANCES = {
    ("make_poisson", "forcing"): (rng.randint(-9, 9, size=(3, 8, 8)), {}),
    ("make_poisson", "diffusivity"): (rng.randint(1, 9, size=(8, 8)), dict(n_samples=3, n_points=(8, 8), modes=(1, 2))),
    ("make_helmholtz", "forcing"): (rng.randint(-9, 9, size=(3, 8, 8)), {}),
    ("make_elliptic", "forcing"): (rng.randint(-9, 9, size=(3, 8, 8)), {}),
    ("make_elliptic", "diffusivity"): (rng.randint(1, 9, size=(8, 8)), dict(n_samples=3, n_points=(8, 8))),
    ("make_elliptic", "velocity"): (rng.randint(-9, 9, size=(2, 8, 8)), dict(n_samples=3, n_points=(8, 8))),
    ("make_elliptic", "reaction"): (rng.randint(1, 9, size=(8, 8)), dict(n_samples=3, n_points=(8, 8))),
    ("make_elliptic_mesh", "forcing"): (rng.randint(-9, 9, size=(3, 21)), dict(refinement=1)),
    ("make_heat", "initial"): (rng.randint(-9, 9, size=(3, 8)), dict(boundary="periodic", t_final=0.8)),
    ("make_burgers", "initial"): (
        rng.randint(-9, 9, size=(3, 8)),
        dict(boundary="periodic", t_final=0.2, viscosity=1.0),
    ),
    ("make_gray_scott", "initial"): (rng.randint(0, 2, size=(3, 2, 8, 8)), dict(states=(0, 1))),
    ("make_gray_scott", "states"): (np.array([0, 1]), dict(n_samples=2, n_points=(8, 8))),
    ("make_navier_stokes", "initial"): (rng.randint(-9, 9, size=(3, 8, 8)), dict(t_final=0.1)),
    ("make_navier_stokes", "forcing"): (
        rng.randint(-9, 9, size=(8, 8)),
        dict(n_samples=2, n_points=(8, 8), t_final=0.1),
    ),
}


class Duck:
    """The little that some containers have."""

    def __init__(self, array):
        self.shape, self.dtype, self._array = array.shape, array.dtype, array

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def in_file(array):
    return h5py.File("memory", "w", driver="core", backing_store=False).create_dataset("x", data=array)


CONTAINERS = {
    "list": np.ndarray.tolist,
    "float32": lambda array: array.astype("float32") if array.ndim > 1 else array.astype("int32"),
    "int8": lambda array: array.astype("int8"),
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "read-only": read_only,
    "negative strides": lambda array: array[..., ::-1].copy()[..., ::-1],
    "Fortran order": np.asfortranarray,
    "masked, no entry": lambda array: np.ma.array(array, mask=False),
    "torch": torch.as_tensor,
    "h5py": in_file,
    "dask": lambda array: pytest.importorskip("dask.array").from_array(array, chunks=1),
    "xarray": lambda array: pytest.importorskip("xarray").DataArray(array),
    "zarr": lambda array: pytest.importorskip("zarr").array(array),
    "duck": Duck,
}


def call(entrance, array):
    name, parameter = entrance
    return getattr(datasets, name)(**{"random_state": 0, **ENTRANCES[entrance][1], parameter: array})


def test_all_array_parameters_are_here():
    found = {
        (make.__name__, name)
        for make in GENERATORS
        for name, parameter in inspect.signature(make).parameters.items()
        if "_SupportsArray" in str(parameter.annotation) or name == "states"
    }
    assert found == set(ENTRANCES)


@pytest.fixture(scope="module")
def expected():
    return {entrance: call(entrance, array) for entrance, (array, _) in ENTRANCES.items()}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("entrance", ENTRANCES, ids="-".join)
def test_containers(expected, entrance, container):
    array, _ = ENTRANCES[entrance]
    for one, other in zip(call(entrance, CONTAINERS[container](array)), expected[entrance], strict=True):
        np.testing.assert_array_equal(one, other)


def test_data_on_the_disk_are_found_whatever_the_container(tmp_path):
    f = rng.standard_normal((3, 16))
    for forcing in (f, f.tolist(), torch.as_tensor(f), f[:, ::-1].copy()[:, ::-1]):
        make_poisson(forcing=forcing, data_home=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def changed(array, value, dtype=float):
    array = array.astype(dtype)
    array.flat[0] = value
    return array


BAD = {
    "masked": (lambda array: np.ma.array(array, mask=array == array.flat[0]), "masked entries"),
    "list of masked": (lambda array: list(np.ma.array(array, mask=array == array.flat[0])), "masked entries"),
    "NaN": (lambda array: changed(array, np.nan), "NaN"),
    "infinite": (lambda array: changed(array, np.inf), "infinity"),
    "complex": (lambda array: array + 1j, "must be real"),
    "text": (lambda array: array.astype(str), "holds text"),
    "list of text": (lambda array: array.astype(str).tolist(), "holds text"),
    "dates": (lambda array: array.astype("M8[s]"), "holds dates"),
    "ragged": (lambda array: [*array.tolist(), [1.0]], "is not an array of numbers"),
    "an axis too few": (lambda array: array[0], "has shape"),
    "an axis too many": (lambda array: array[..., None, None, None], "shape|dimensions"),
}


@pytest.mark.parametrize(
    ("entrance", "kind"),
    [
        pytest.param(entrance, kind, id=f"{'-'.join(entrance)}-{kind}")
        for entrance, kind in product(ENTRANCES, BAD)
        # Integers say where they are wrong, and forcings may have any number of dimensions.
        if entrance[1] != "states"
        and not (
            kind.startswith("an axis")
            and entrance in [(f"make_{name}", "forcing") for name in ("poisson", "helmholtz", "elliptic")]
        )
    ],
)
def test_bad_fields_are_refused_by_name(entrance, kind):
    spoil, message = BAD[kind]
    with pytest.raises(ValueError, match=rf"{entrance[1]}.*({message})"):
        call(entrance, spoil(ENTRANCES[entrance][0]))


def test_a_mask_is_no_diffusivity():
    with pytest.raises(ValueError, match="diffusivity holds booleans"):
        make_poisson(2, (8, 8), modes=(1, 2), diffusivity=np.ones((8, 8), bool))
    with pytest.raises(ValueError, match=r"diffusivity returned .* masked entries"):
        make_poisson(2, 8, modes=(1, 2), diffusivity=lambda x: np.ma.masked_greater(1 + x, 1.5))


# Integers: what is none is refused, before any work


@pytest.fixture
def no_work(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("work was done")

    monkeypatch.setattr("sklearn_hss.datasets._generation.generate", refuse)


def integers():
    """Generators with their parameters of integers, and of several integers."""
    for make in GENERATORS:
        for name, parameter in inspect.signature(make).parameters.items():
            annotation = str(parameter.annotation)
            if name in ("random_state", "verbose"):  # scikit-learn takes True there
                continue
            if re.search(r"\bint\b", annotation) or parameter.annotation is int:
                several = "tuple[int" in annotation or "Sequence[int" in annotation
                single = re.search(
                    r"(?<!\[)\bint\b(?!,)", annotation.replace("tuple[int, ...]", "").replace("[int]", "")
                )
                if several:
                    yield make, name, [(True, 16), (1, True), (1.0, 16.0), (1.5, 16), ("a", 16)]
                if single:
                    yield make, name, [True, 16.0, 1.5, "16"]


def test_the_integers_are_found():
    found = {(make.__name__, name) for make, name, _ in integers()}
    assert {name for generator, name in found if generator == "make_poisson"} == {
        "n_samples",
        "n_points",
        "modes",
        "order",
        "refinement",
        "n_jobs",
    }
    assert {("make_gray_scott", "states"), ("make_navier_stokes", "n_points"), ("make_heat", "modes")} <= found


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        pytest.param(make, name, value, id=f"{make.__name__}-{name}-{value}")
        for make, name, values in integers()
        for value in values
    ],
)
def test_what_is_no_integer_is_refused(no_work, make, name, value):
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        make(**{name: value})


@pytest.mark.parametrize("load", [load_the_well, load_diffusionpde])
@pytest.mark.parametrize(
    "wrong", [dict(n_samples=True), dict(n_samples=2.0), dict(states=(True, 2)), dict(states=(0, 2.0))]
)
def test_readers_refuse_what_is_no_integer(tmp_path, load, wrong):
    write(tmp_path / "a.hdf5", np.ones((2, 3, 4, 4)))
    with pytest.raises(ValueError, match=next(iter(wrong))):
        load(tmp_path / "a.hdf5", **wrong)


# Sizes


SIZES = {
    make: [
        dict(n_samples=10**12),
        dict(n_points=10**12 if make.__name__ in ("make_heat", "make_burgers") else (10**6, 10**6)),
    ]
    for make in GENERATORS
    if make is not datasets.make_elliptic_mesh
}
SIZES[datasets.make_elliptic_mesh] = [dict(n_samples=10**12), dict(refinement=20)]
SIZES[make_poisson] += [dict(n_points=10**12), dict(n_points=(64,) * 9), dict(n_points=100, refinement=10**12)]
SIZES[make_gray_scott] += [dict(states=range(10**12), return_trajectories=True)]
SIZES[datasets.make_heat] += [dict(t_final=1e3, store_every=1e-5, step=1.0)]
SIZES[datasets.make_navier_stokes] += [dict(t_final=1e3, store_every=1e-5, dt=1e-5, return_trajectories=True)]


@pytest.mark.parametrize(
    ("make", "size"),
    [pytest.param(make, size, id=f"{make.__name__}-{size}") for make, sizes in SIZES.items() for size in sizes],
)
def test_sizes_beyond_memory_are_refused_before_any_work(no_work, make, size):
    tracemalloc.start()
    try:
        name, value = next(iter(size.items()))
        shown = "len(states)=1000000000000" if name == "states" else f"{name}={value}"
        if isinstance(value, int) and name == "n_points" and make is make_poisson:
            shown = f"n_points=({value},)"
        with pytest.raises(ValueError, match=rf"{re.escape(shown)}.* needs [\d,.]+ GiB of memory.*has [\d,.]+ GiB"):
            make(**size)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_the_limit_is_the_size_of_the_arrays(monkeypatch):
    # Right-hand sides and solutions on the grid, and three fields of the fine one.
    needed = 8 * (2 * 100 * 64**2 + 3 * 128**2)
    for memory, fits in [(needed - 1, False), (needed, True)]:
        monkeypatch.setattr("sklearn_hss._memory.machine_memory", lambda memory=memory: memory)
        if fits:
            make_poisson(100, (64, 64))
        else:
            with pytest.raises(ValueError, match=r"n_samples=100, n_points=\(64, 64\), refinement=2 needs 0.0 GiB"):
                make_poisson(100, (64, 64))


def test_sizes_beyond_the_disk_are_refused(tmp_path, monkeypatch):
    arguments = dict(n_samples=10, n_points=64, random_state=0, data_home=tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=8 * 2 * 10 * 64 - 1))
    with pytest.raises(
        ValueError, match=r"n_samples=10, n_points=\(64,\), .*needs 0.0 GiB, but the disk of data_home="
    ):
        make_poisson(**arguments)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=8 * 2 * 10 * 64))
    make_poisson(**arguments)
    # Existing data need no more space, and data on disk no memory.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    monkeypatch.setattr("sklearn_hss._memory.machine_memory", lambda: 8 * 3 * 256)
    make_poisson(**arguments)


def test_an_array_on_the_disk_needs_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(_generation, "check_memory", lambda n_bytes, what: sizes.append(n_bytes))
    sizes = []
    for data_home in (None, tmp_path):
        make_poisson(10, 64, random_state=0, data_home=data_home)
    assert sizes[0] - sizes[1] == 8 * 2 * 10 * 64


# Values in files that stand for missing data


def write(path, array, **attributes):
    """A file of both layouts, The Well's and DiffusionPDE's, with the same array (samples, time, x, y)."""
    with h5py.File(path, "w") as file:
        file.attrs["n_trajectories"] = len(array)
        file["dimensions/time"] = np.arange(array.shape[1], dtype=float)
        for name, n in zip("xy", array.shape[2:], strict=True):
            file[f"dimensions/{name}"] = np.linspace(0, 1, n)
        fill = attributes.pop("fillvalue", None)
        file.create_dataset("t0_fields/A", data=array, fillvalue=fill).attrs.update(attributes)
        file["a"] = array[:, 0]
        file.create_dataset("u", data=np.moveaxis(array, 1, 3), fillvalue=fill).attrs.update(attributes)
    return path


@pytest.mark.parametrize("load", [load_the_well, load_diffusionpde])
@pytest.mark.parametrize("declared", ["_FillValue", "missing_value", "fillvalue"])
def test_fill_values_are_no_data(tmp_path, load, declared):
    array = rng.standard_normal((2, 3, 4, 4)).astype("float32")
    array[1, -1, 0, 0] = -999
    path = write(tmp_path / "a.hdf5", array, **{declared: np.float32(-999)})
    with pytest.raises(ValueError, match=r"a.hdf5 contains 1 times its fill value -999"):
        load(path)
    # Only what is read counts, and is read as it is.
    np.testing.assert_array_equal(load(path, n_samples=1)[1].reshape(4, 4), array[0, -1])
    path = write(tmp_path / "b.hdf5", np.nan_to_num(array, nan=0) * (array > -999), **{declared: np.float32(-999)})
    assert np.isfinite(load(path)[1]).all()


@pytest.mark.parametrize("load", [load_the_well, load_diffusionpde])
def test_packed_data_are_refused(tmp_path, load):
    array = rng.randint(100, size=(2, 3, 4, 4)).astype("int16")
    with pytest.raises(ValueError, match=r"is packed, with scale_factor=0.01; store the numbers themselves"):
        load(write(tmp_path / "a.hdf5", array, scale_factor=0.01, add_offset=1.0))
    load(write(tmp_path / "b.hdf5", array, scale_factor=1.0, add_offset=0.0))
