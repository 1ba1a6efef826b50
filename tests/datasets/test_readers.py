"""Files are written here as the descriptions of the data sets say, and compared with the arrays they were made from."""

import re
import sys

import h5py
import numpy as np
import pytest
import scipy.io
from sklearn.linear_model import Ridge

from sklearn_hss import NeuralHSSRegressor
from sklearn_hss.datasets import _readers, load_diffusionpde, load_the_well

N_POINTS = (4, 8)
TIMES = np.arange(6, dtype="float32") * 10
PATTERNS = {"bubbles": (0.098, 0.057), "gliders": (0.014, 0.054), "maze": (0.029, 0.057)}


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


class Varying(np.ndarray):
    """Array that knows along which axes it varies, as the attributes of a field or scalar say."""


def varying(array, sample, time, dims=(True, True)):
    array = np.asarray(array, "float32").view(Varying)
    array.flags_ = {"sample_varying": sample, "time_varying": time, "dim_varying": list(dims)}
    return array


def write_well(path, fields, scalars, *, vectors=None, tensors=None, times=TIMES, n_points=N_POINTS, **storage):
    """Write a file of The Well; `storage` goes to the fields, e.g. chunks, compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n_trajectories = len(next(iter(fields.values())))
    with h5py.File(path, "w") as file:
        file.attrs["dataset_name"] = "gray_scott_reaction_diffusion"
        file.attrs["grid_type"] = "cartesian"
        file.attrs["n_spatial_dims"] = len(n_points)
        file.attrs["n_trajectories"] = n_trajectories
        file.attrs["simulation_parameters"] = list(scalars)
        dimensions = file.create_group("dimensions")
        names = ["x", "y", "z"][: len(n_points)]
        dimensions.attrs["spatial_dims"] = names
        dimensions.create_dataset("time", data=times).attrs["sample_varying"] = np.ndim(times) == 2
        for name, n in zip(names, n_points, strict=True):
            grid = dimensions.create_dataset(name, data=np.linspace(-1, 1, n, endpoint=False, dtype="float32"))
            grid.attrs["sample_varying"] = grid.attrs["time_varying"] = False
            boundary = file.create_group(f"boundary_conditions/{name}_periodic")
            boundary.attrs["bc_type"], boundary.attrs["associated_dims"] = "PERIODIC", [name]
            boundary["mask"] = np.arange(n) % (n - 1) == 0
        write_group(file, "scalars", scalars, {"sample_varying": False, "time_varying": False}, {})
        everywhere = {"sample_varying": True, "time_varying": True, "dim_varying": [True] * len(n_points)}
        for order, each in enumerate([fields, vectors or {}, tensors or {}]):
            write_group(file, f"t{order}_fields", each, everywhere, storage)
    return path


def write_group(file, name, arrays, flags, storage):
    group = file.create_group(name)
    group.attrs["field_names"] = list(arrays) or np.empty(0, "S1")
    for key, array in arrays.items():
        own = storage if np.ndim(array) > 3 else {}
        dataset = group.create_dataset(key, data=np.asarray(array, "float32"), **own)
        for flag, value in getattr(array, "flags_", flags).items():
            dataset.attrs[flag] = value


@pytest.fixture(scope="module")
def gray_scott(tmp_path_factory):
    """Folder of three files as The Well names them, chunked in some of the ways HDF5 allows, and what is in them."""
    folder = tmp_path_factory.mktemp("well") / "gray_scott_reaction_diffusion" / "data" / "train"
    storages = [{"chunks": (1, 1, 4, 8)}, {"chunks": (2, 4, 2, 2), "compression": "gzip"}, {}]
    arrays = {}
    for seed, ((pattern, (F, k)), storage) in enumerate(zip(PATTERNS.items(), storages, strict=True)):
        A, B = (random(3, len(TIMES), *N_POINTS, seed=2 * seed + i) for i in range(2))
        path = folder / f"gray_scott_reaction_diffusion_{pattern}_F_{F}_k_{k}.hdf5"
        write_well(path, {"A": A, "B": B}, {"F": F, "k": k}, **storage)
        arrays[path] = A, B, F, k
    return folder, arrays


def test_the_well_pairs_of_a_folder(gray_scott):
    folder, arrays = gray_scott
    X, Y = load_the_well(folder)
    assert X.dtype == Y.dtype == np.float32
    assert X.shape == (9, 4, *N_POINTS)
    assert Y.shape == (9, 2, *N_POINTS)
    for i, (A, B, F, k) in enumerate(arrays.values()):
        for j in range(3):
            np.testing.assert_array_equal(X[3 * i + j, :2], [A[j, 0], B[j, 0]])
            np.testing.assert_array_equal(Y[3 * i + j], [A[j, -1], B[j, -1]])
            np.testing.assert_array_equal(X[3 * i + j, 2], np.float32(F))
            np.testing.assert_array_equal(X[3 * i + j, 3], np.float32(k))


def test_the_well_paths(gray_scott):
    folder, arrays = gray_scott
    X, Y = load_the_well(folder)
    first, second, third = arrays
    for path, rows in [
        (first, slice(0, 3)),
        (str(second), slice(3, 6)),
        ([third, first], [6, 7, 8, 0, 1, 2]),
        (folder.parent, slice(None)),
        ([folder], slice(None)),
    ]:
        for loaded, expected in zip(load_the_well(path), (X, Y), strict=True):
            np.testing.assert_array_equal(loaded, expected[rows])


@pytest.mark.parametrize("n_samples", [1, 3, 4, 9])
def test_the_well_first_samples(gray_scott, n_samples):
    folder, _ = gray_scott
    X, Y = load_the_well(folder)
    loaded = load_the_well(folder, n_samples=n_samples)
    np.testing.assert_array_equal(loaded[0], X[:n_samples])
    np.testing.assert_array_equal(loaded[1], Y[:n_samples])


@pytest.mark.parametrize("states", [(0, -1), (2, 3), (-2, 1), (3, 3), [-6, 5]])
def test_the_well_pairs_of_any_states(gray_scott, states):
    folder, arrays = gray_scott
    X, Y = load_the_well(folder, states=states)
    start, end = states
    for channel in range(2):
        whole = np.concatenate([each[channel] for each in arrays.values()])
        np.testing.assert_array_equal(X[:, channel], whole[:, start])
        np.testing.assert_array_equal(Y[:, channel], whole[:, end])


@pytest.mark.parametrize(
    "states", [slice(None), slice(None, None, 2), slice(1, -1), range(3), (0, -1), (3,), (4, 1, -1, 1)]
)
@pytest.mark.parametrize("n_samples", [None, 5])
@pytest.mark.parametrize("block", [1, 2**26])
def test_the_well_trajectories(monkeypatch, gray_scott, states, n_samples, block):
    monkeypatch.setattr(_readers, "_BLOCK", block)
    folder, arrays = gray_scott
    times, U = load_the_well(folder, states=states, n_samples=n_samples, return_trajectories=True)
    picked = np.arange(len(TIMES))[states if isinstance(states, slice) else list(states)]
    np.testing.assert_array_equal(times, TIMES[picked])
    whole = np.concatenate([np.stack([A, B], axis=2) for A, B, *_ in arrays.values()])
    np.testing.assert_array_equal(U[:, :, :2], whole[:n_samples, picked])
    for j, values in enumerate(np.repeat([each[2:] for each in arrays.values()], 3, axis=0)[:n_samples]):
        for channel, value in enumerate(values, 2):
            np.testing.assert_array_equal(U[j, :, channel], np.float32(value))


def test_the_well_subsets_of_channels(gray_scott):
    folder, _ = gray_scott
    X, Y = load_the_well(folder)
    for fields, parameters, inputs, outputs in [
        (["B"], True, [1, 2, 3], [1]),
        (["B", "A"], False, [1, 0], [1, 0]),
        (("A",), ["k"], [0, 3], [0]),
        (None, [], [0, 1], [0, 1]),
    ]:
        loaded = load_the_well(folder, fields=fields, parameter_channels=parameters)
        np.testing.assert_array_equal(loaded[0], X[:, inputs])
        np.testing.assert_array_equal(loaded[1], Y[:, outputs])


def test_the_well_parameters_and_fields_that_vary_or_do_not(tmp_path):
    density, mask, depth = random(3, 6, *N_POINTS), random(*N_POINTS, seed=1), random(3, 6, 8, seed=2)
    by_sample, by_time, by_both = random(3, seed=3), random(6, seed=4), random(3, 6, seed=5)
    speed, background = random(3, *N_POINTS, seed=6), random(6, *N_POINTS, seed=7)
    velocity, stress = random(3, 6, *N_POINTS, 2, seed=8), random(3, 6, *N_POINTS, 2, 2, seed=9)
    path = write_well(
        tmp_path / "other.h5",
        {
            "density": density,
            "mask": varying(mask, False, False),
            "speed": varying(speed, True, False),
            "background": varying(background, False, True),
            "depth": varying(depth, True, True, dims=(False, True)),
            "kept": varying(depth[:, :, None], True, True, dims=(False, True)),
        },
        {
            "by_sample": varying(by_sample, True, False),
            "by_time": varying(by_time, False, True),
            "by_both": varying(by_both, True, True),
            "of_length_one": np.array([7.0]),
        },
        vectors={"velocity": velocity},
        tensors={"stress": stress},
        times=TIMES + np.arange(3)[:, None],
        chunks=True,
    )
    X, Y = load_the_well(path, states=(1, 4), n_samples=2)
    assert X.shape == (2, 6 + 2 + 4 + 4, *N_POINTS)
    assert Y.shape == (2, 4 + 2 + 4, *N_POINTS)
    for j in range(2):
        for i, expected in enumerate(
            [
                density[j, 1],
                mask,
                speed[j],
                background[1],
                np.tile(depth[j, 1], (4, 1)),
                np.tile(depth[j, 1], (4, 1)),
                *(velocity[j, 1, ..., d] for d in range(2)),
                *(stress[j, 1, ..., d, e] for d in range(2) for e in range(2)),
                *(np.full(N_POINTS, value) for value in (by_sample[j], by_time[1], by_both[j, 1], 7.0)),
            ]
        ):
            np.testing.assert_array_equal(X[j, i], expected, err_msg=f"channel {i}")
        np.testing.assert_array_equal(Y[j, :2], [density[j, 4], background[4]])
        np.testing.assert_array_equal(Y[j, 2], np.tile(depth[j, 4], (4, 1)))
        np.testing.assert_array_equal(Y[j, 4:6], np.moveaxis(velocity[j, 4], -1, 0))
        np.testing.assert_array_equal(Y[j, 6:], np.moveaxis(stress[j, 4].reshape(*N_POINTS, 4), -1, 0))

    times, U = load_the_well(
        path,
        fields=["velocity", "mask", "background"],
        states=[0, 5],
        parameter_channels=["by_both"],
        return_trajectories=True,
    )
    assert U.shape == (3, 2, 5, *N_POINTS)
    np.testing.assert_array_equal(times, TIMES[[0, 5]] + np.arange(3)[:, None])
    np.testing.assert_array_equal(U[:, :, :2], np.moveaxis(velocity[:, [0, 5]], -1, 2))
    np.testing.assert_array_equal(U[:, :, 2], np.broadcast_to(mask, (3, 2, *N_POINTS)))
    np.testing.assert_array_equal(U[:, :, 3], np.broadcast_to(background[[0, 5]], (3, 2, *N_POINTS)))
    np.testing.assert_array_equal(U[..., 4, 1, 2], by_both[:, [0, 5]])


@pytest.mark.parametrize("n_points", [(8,), (4, 4, 4)])
def test_the_well_in_other_dimensions(tmp_path, n_points):
    pressure = random(2, 6, *n_points)
    path = write_well(tmp_path / "other.hdf5", {"pressure": pressure}, {"nu": 0.5}, n_points=n_points, chunks=True)
    X, Y = load_the_well(path)
    np.testing.assert_array_equal(X[:, 0], pressure[:, 0])
    np.testing.assert_array_equal(X[:, 1], np.full_like(X[:, 1], 0.5))
    np.testing.assert_array_equal(Y[:, 0], pressure[:, -1])


def test_the_well_reads_no_more_than_asked_for(tmp_path):
    # 2 x 16 TB, of which only what is written here takes space in the file; reading the rest would need it in memory.
    path = tmp_path / "huge.hdf5"
    shape = (1000, 1_000_000, 64, 64)
    with h5py.File(path, "w") as file:
        file.attrs["n_trajectories"] = shape[0]
        file["dimensions/time"] = np.arange(shape[1], dtype="float32")
        file["dimensions/x"] = file["dimensions/y"] = np.arange(64.0)
        for seed, name in enumerate("AB"):
            field = file.create_dataset(f"t0_fields/{name}", shape, "float32", chunks=(1, 1, 64, 64))
            field[1, -1] = random(64, 64, seed=seed)
    X, Y = load_the_well(path, n_samples=3)
    assert X.shape == Y.shape == (3, 2, 64, 64)
    assert not X.any()
    np.testing.assert_array_equal(Y[1], [random(64, 64, seed=seed) for seed in range(2)])
    assert not Y[[0, 2]].any()
    times, U = load_the_well(path, n_samples=2, states=slice(1, None, 499_999), return_trajectories=True)
    np.testing.assert_array_equal(times, [1, 500_000, 999_999])
    np.testing.assert_array_equal(U[:, -1], Y[:2])


def test_the_well_is_memory_mapped_where_it_can_be(gray_scott):
    _, arrays = gray_scott
    chunked, compressed, contiguous = arrays
    A = arrays[contiguous][0]
    options = {"fields": ["A"], "parameter_channels": False, "return_trajectories": True}
    times, U = load_the_well(contiguous, **options, states=slice(1, None, 2), n_samples=2)
    assert isinstance(U, np.memmap)
    assert not U.flags.writeable
    np.testing.assert_array_equal(times, TIMES[1::2])
    np.testing.assert_array_equal(U[:, :, 0], A[:2, 1::2])
    X, Y = load_the_well(contiguous, fields=["A"], parameter_channels=False, states=(3, -1))
    assert isinstance(X, np.memmap)
    assert isinstance(Y, np.memmap)
    np.testing.assert_array_equal(X[:, 0], A[:, 3])
    np.testing.assert_array_equal(Y[:, 0], A[:, -1])
    for path, changed in [
        (chunked, {}),
        (compressed, {}),
        (contiguous, {"fields": ["A", "B"]}),
        (contiguous, {"states": (0, 1, 4)}),
        ([contiguous, contiguous], {}),
        (contiguous, {"parameter_channels": ["F"]}),
        (contiguous, {"parameter_channels": True, "return_trajectories": False}),
    ]:
        _, U = load_the_well(path, **{**options, **changed})
        assert type(U) is np.ndarray


def test_the_well_big_endian_is_read(tmp_path):
    path = write_well(tmp_path / "a.hdf5", {"A": random(2, 6, *N_POINTS)}, {})
    with h5py.File(path, "a") as file:
        flags = dict(file["t0_fields/A"].attrs)
        del file["t0_fields/A"]
        file["t0_fields"].create_dataset("A", data=random(2, 6, *N_POINTS), dtype=">f4").attrs.update(flags)
    _, U = load_the_well(path, states=slice(None), return_trajectories=True)
    assert type(U) is np.ndarray
    np.testing.assert_array_equal(U[:, :, 0], random(2, 6, *N_POINTS))


def test_the_well_goes_into_estimators(gray_scott):
    folder, _ = gray_scott
    X, Y = load_the_well(folder)
    model = NeuralHSSRegressor(max_epochs=1, grid_shape=N_POINTS, init="random", levels=1, rank=1, random_state=0)
    assert model.fit(X, Y).predict(X).shape == Y.shape
    assert Ridge().fit(X.reshape(9, -1), Y.reshape(9, -1)).score(X.reshape(9, -1), Y.reshape(9, -1)) > 0


def error(match, kind=ValueError):
    return pytest.raises(kind, match=re.escape(match))


def test_the_well_bad_requests(gray_scott, tmp_path):
    folder, arrays = gray_scott
    path = next(iter(arrays))
    with error(f"{tmp_path / 'none'} does not exist.", FileNotFoundError):
        load_the_well(tmp_path / "none")
    with error(f"{tmp_path} holds none of *.hdf5, *.h5."):
        load_the_well(tmp_path)
    with error("path=[] names no file."):
        load_the_well([])
    with error(f"state 6 was requested, but {path} has 6 states, 0 to 5."):
        load_the_well(folder, states=(0, 6))
    with error(f"state -7 was requested, but {path} has 6 states"):
        load_the_well(folder, states=(-7, 1), return_trajectories=True)
    with error("states=(0, 1, 2) must be a pair of integers"):
        load_the_well(folder, states=(0, 1, 2))
    with error("states=slice(None, None, None) must be a pair of integers"):
        load_the_well(folder, states=slice(None))
    with error("states=(0, 0.5) must be a pair of integers"):
        load_the_well(folder, states=(0, 0.5))
    for options in ({}, {"return_trajectories": True}):
        with error("states=(False, True) must be a pair of integers"):
            load_the_well(folder, states=(False, True), **options)
    with error("states=slice(9, None, None) selects none of the 6 states"):
        load_the_well(folder, states=slice(9, None), return_trajectories=True)
    with error(f"n_samples=10 were requested, but {folder} contains 9."):
        load_the_well(folder, n_samples=10)
    with error(f"{path} has no field 'C'; its fields are: A, B."):
        load_the_well(folder, fields=["A", "C"])
    with error("fields=[] names none of the fields"):
        load_the_well(folder, fields=[])
    with error(f"{path} has no parameter 'D'; its parameters are: F, k."):
        load_the_well(folder, parameter_channels=["D"])
    with error("fields=['A', 'B', 'A'] must not contain duplicates."):
        load_the_well(folder, fields=["A", "B", "A"])
    with error("parameter_channels=('k', 'k') must not contain duplicates."):
        load_the_well(folder, parameter_channels=("k", "k"))
    with pytest.raises(ValueError, match="The 'n_samples' parameter of load_the_well"):
        load_the_well(folder, n_samples=0)


def test_the_well_bad_files(tmp_path):
    path = tmp_path / "bad.hdf5"
    path.write_text("no HDF5")
    with error(f"{path} is not an HDF5 file, or damaged"):
        load_the_well(path)
    A = random(3, 6, *N_POINTS)

    def damaged(change):
        with h5py.File(write_well(path, {"A": A}, {"F": 0.1}), "a") as file:
            change(file)
        return path

    def replace(key, data):
        def change(file):
            flags = dict(file[key].attrs)
            del file[key]
            file[key] = data
            file[key].attrs.update(flags)

        return change

    def remove(key):
        return lambda file: file.__delitem__(key)

    with error(f"{path} has no group 'dimensions' as files of The Well do; it has: boundary_conditions, scalars, t0"):
        load_the_well(damaged(remove("dimensions")))
    with error(f"{path} has no 'dimensions/y'; 'dimensions' has: time, x."):
        load_the_well(damaged(remove("dimensions/y")))
    with error(f"{path} has no attribute 'n_trajectories'; it has: dataset_name, grid_type"):
        load_the_well(damaged(lambda file: file.attrs.__delitem__("n_trajectories")))

    def remove_fields(file):
        for order in range(3):
            del file[f"t{order}_fields"]

    with error(f"{path} has no group 't0_fields' as files of The Well do; it has: boundary_conditions, dimensions"):
        load_the_well(damaged(remove_fields))
    expected = "expected are the axes (n_trajectories, n_steps, x, y), the first of them of lengths (3, 6, 4, 8)."
    for shape in [(3, 6, 8, 4), (2, 6, 4, 8), (3, 5, 4, 8), (3, 6, 4), (3, 6, 4, 8, 2)]:
        with error(f"{path} has 't0_fields/A' of shape {shape}; {expected}"):
            load_the_well(damaged(replace("t0_fields/A", random(*shape))))
    with error(f"{path} has '/scalars/F' of shape (2,); expected are 1 values."):
        load_the_well(damaged(replace("scalars/F", [1.0, 2.0])))
    with error(f"fields=['A'] do not vary in time in {path}"):
        load_the_well(write_well(path, {"A": varying(A[:, 0], True, False)}, {}))
    with error(f"{path} has times of shape (2, 6) for 3 trajectories."):
        load_the_well(damaged(replace("dimensions/time", np.tile(TIMES, (2, 1)))))
    with error(f"{path} has times of shape (1, 1, 6) for 3 trajectories."):
        load_the_well(damaged(replace("dimensions/time", TIMES[None, None])))
    with error("has a grid that varies along 'x'"):
        load_the_well(damaged(replace("dimensions/x", random(3, 4))))
    for name in ("x", "time"):
        with error(f"{path} has 'dimensions/{name}' of shape (); expected is one value per point."):
            load_the_well(damaged(replace(f"dimensions/{name}", 0.0)))
    for n_trajectories in ("x", 0, -1, 2.5, True):
        with error(f"{path} has n_trajectories={n_trajectories}; expected is a positive integer."):
            load_the_well(damaged(lambda file, n=n_trajectories: file.attrs.update(n_trajectories=n)))
    with error(f"{path} has n_trajectories=0; expected is a positive integer."):
        load_the_well(write_well(path, {"A": A[:0]}, {}))
    for key in ("t0_fields/A", "scalars/F", "dimensions/x"):
        for data, kind in [(None, "a group"), (b"text", "of type object"), (1j, "of type complex128")]:

            def change(file, key=key, data=data):
                del file[key]
                file.create_group(key) if data is None else file.create_dataset(key, data=data)

            with error(f"'{key}' of {path} is {kind}; expected is an array of real numbers."):
                load_the_well(damaged(change))
        with error(f"'{key}' of {path} is of type float32; expected is an array of real numbers."):
            load_the_well(damaged(replace(key, h5py.Empty("float32"))))
        with error(f"'{key}' of {path} has no values, but the shape (0, 4)."):
            load_the_well(damaged(replace(key, np.empty((0, 4)))))
    for key in ("t0_fields/A", "scalars/F"):
        with error(f"'{key}' of {path} is missing; expected is an array of real numbers."):
            load_the_well(damaged(remove(key)))


@pytest.mark.parametrize("load", [load_the_well, load_diffusionpde])
def test_damaged_chunk(tmp_path, load):
    path = write_well(tmp_path / "bad.hdf5", {"A": W0}, {})
    with h5py.File(path, "a") as file:
        file["a"] = random(3, 6, 4)
        del file["t0_fields/A"]
        shape = (3, 6, *N_POINTS)
        file["u"] = file["t0_fields/A"] = file.create_dataset(None, shape, "float32", chunks=shape, fletcher32=True)
        file.attrs["n_trajectories"] = 3
        file["u"].id.write_direct_chunk((0, 0, 0, 0), bytes(file["u"].nbytes) + b"sum?")
    with error(f"{path} is not an HDF5 file, or damaged ("):
        load(path)


def test_the_well_files_that_do_not_fit_together(tmp_path):
    A = random(3, 6, *N_POINTS)
    one, two = tmp_path / "1.hdf5", tmp_path / "2.hdf5"
    write_well(one, {"A": A}, {"F": 0.1})
    write_well(two, {"A": A[:, :, :, :4]}, {"F": 0.1}, n_points=(4, 4))
    with error(f"{two} has the grid {{'x': 4, 'y': 4}}, but {one} has {{'x': 4, 'y': 8}}."):
        load_the_well(tmp_path)
    load_the_well(tmp_path, n_samples=3)  # does not get to the second
    write_well(two, {"A": A}, {"F": 0.1})
    with h5py.File(two, "a") as file:
        file["dimensions/x"][...] *= 2
    with error(f"{two} and {one} have different coordinates along 'x'."):
        load_the_well(tmp_path)
    write_well(two, {"B": A}, {"F": 0.1})
    with error(f"{two} has the fields B, but {one} A."):
        load_the_well(tmp_path)
    write_well(two, {"A": A}, {"k": 0.1})
    with error(f"{two} has the parameters k, but {one} F."):
        load_the_well(tmp_path)
    write_well(two, {"A": varying(A[:, 0], True, False)}, {"F": 0.1})
    with error(f"{two} and {one} have fields 'A' of different kinds."):
        load_the_well(tmp_path)
    # Fewer states fit, as long as those asked for are there.
    write_well(two, {"A": A[:, :4]}, {"F": 0.1}, times=TIMES[:4])
    np.testing.assert_array_equal(load_the_well(tmp_path)[1][3:, 0], A[:, 3])
    times, _ = load_the_well(tmp_path, return_trajectories=True)
    np.testing.assert_array_equal(times, [[0, 50]] * 3 + [[0, 30]] * 3)
    with error("states=slice(None, None, None) selects different numbers of states in the files"):
        load_the_well(tmp_path, states=slice(None), return_trajectories=True)


N, T = 5, 10
W0, W, STEPS = random(N, *N_POINTS), random(N, *N_POINTS, T, seed=1), np.linspace(0.1, 1, T, dtype="float32")
WHOLE = np.concatenate([W0[..., None], W], axis=-1)


def write_matlab_73(path, arrays):
    # As MATLAB does: a block of 512 bytes before the HDF5 file, axes reversed, the class of every array.
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array.T, chunks=True).attrs["MATLAB_class"] = np.bytes_("single")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def write_h5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


@pytest.fixture(
    params=[
        ("v5.mat", scipy.io.savemat, ("a", "u")),
        ("v73.mat", write_matlab_73, ("a", "u")),
        ("h5py.mat", write_h5, ("w0", "w")),
        ("h5py.h5", write_h5, ("a", "u")),
    ],
    ids=lambda param: param[0],
)
def unbounded(request, tmp_path):
    name, write, (first, later) = request.param
    path = tmp_path / name
    write(path, {first: W0, later: W, "t": STEPS})
    return path


@pytest.fixture
def bounded(tmp_path):
    path = tmp_path / "ns-bounded" / "1" / "v.npy"
    path.parent.mkdir(parents=True)
    np.save(path, W)
    return path


def test_diffusionpde_unbounded(unbounded):
    F, U = load_diffusionpde(unbounded)
    assert F.dtype == U.dtype == np.float32
    np.testing.assert_array_equal(F, W0)
    np.testing.assert_array_equal(U, W[..., -1])
    F, U = load_diffusionpde(str(unbounded), states=(3, -2), n_samples=2)
    np.testing.assert_array_equal(F, WHOLE[:2, ..., 3])
    np.testing.assert_array_equal(U, WHOLE[:2, ..., -2])
    times, trajectories = load_diffusionpde(unbounded, states=slice(None), return_trajectories=True)
    np.testing.assert_array_equal(times, [0, *STEPS])
    np.testing.assert_array_equal(trajectories, np.moveaxis(WHOLE, -1, 1))
    for states in [(0,), (2, 4, 6), (0, 0, 3)]:
        _, trajectories = load_diffusionpde(unbounded, states=states, return_trajectories=True)
        np.testing.assert_array_equal(trajectories, np.moveaxis(WHOLE[..., list(states)], -1, 1))
    times, trajectories = load_diffusionpde(unbounded, states=(4, 0, -1), return_trajectories=True, n_samples=3)
    np.testing.assert_array_equal(times, [STEPS[3], 0, 1])
    np.testing.assert_array_equal(trajectories, np.moveaxis(WHOLE[:3, ..., [4, 0, -1]], -1, 1))


def test_diffusionpde_bounded_is_memory_mapped(bounded):
    for path in (bounded, bounded.parents[1]):
        for array, state in zip(load_diffusionpde(path, states=(4, 8), n_samples=4), (4, 8), strict=True):
            assert isinstance(array, np.memmap)
            np.testing.assert_array_equal(array, W[:4, ..., state])
    times, trajectories = load_diffusionpde(bounded, states=slice(1, None, 3), return_trajectories=True)
    assert times is None
    assert isinstance(trajectories, np.memmap)
    np.testing.assert_array_equal(trajectories, np.moveaxis(W[..., 1::3], -1, 1))
    _, trajectories = load_diffusionpde(bounded, states=(0, 1, 5), return_trajectories=True)
    np.testing.assert_array_equal(trajectories, np.moveaxis(W[..., [0, 1, 5]], -1, 1))


def test_diffusionpde_several_files(unbounded):
    other = unbounded.with_name("another.mat")
    scipy.io.savemat(other, {"a": -W0, "u": -W, "t": STEPS})
    F, U = load_diffusionpde(unbounded.parent)
    np.testing.assert_array_equal(F, np.concatenate([-W0, W0]))
    np.testing.assert_array_equal(U, np.concatenate([-W, W])[..., -1])
    F, U = load_diffusionpde([unbounded, other], n_samples=7)
    np.testing.assert_array_equal(F, np.concatenate([W0, -W0])[:7])
    times, trajectories = load_diffusionpde([other, unbounded], n_samples=6, return_trajectories=True)
    np.testing.assert_array_equal(times, [0, 1])
    np.testing.assert_array_equal(trajectories[:, 1], np.concatenate([-W, W])[:6, ..., -1])


@pytest.mark.parametrize("names", [("f_data", "phi_data"), ("f_data", "psi_data"), ("thresh_a_data", "thresh_p_data")])
@pytest.mark.parametrize("write", [scipy.io.savemat, write_matlab_73])
def test_diffusionpde_static_equations(tmp_path, names, write):
    write(tmp_path / "static.mat", dict(zip(names, (W0, W[..., 0]), strict=True)))
    F, U = load_diffusionpde(tmp_path, n_samples=4)
    np.testing.assert_array_equal(F, W0[:4])
    np.testing.assert_array_equal(U, W[:4, ..., 0])


def test_diffusionpde_reads_no_more_than_asked_for(tmp_path):
    path = tmp_path / "huge.h5"
    shape = (1_000_000, 128, 128, 100)
    with h5py.File(path, "w") as file:
        file.create_dataset("a", shape[:3], "float32", chunks=(1, 128, 128))
        file.create_dataset("u", shape, "float32", chunks=(1, 128, 128, 1))[1, ..., -1] = 1
    F, U = load_diffusionpde(path, n_samples=2)
    assert not F.any()
    assert U[1].all()
    assert not U[0].any()


def test_diffusionpde_goes_into_estimators(unbounded, bounded):
    for path in (unbounded, bounded):
        F, U = load_diffusionpde(path)
        model = NeuralHSSRegressor(max_epochs=1, init="random", levels=1, rank=1, random_state=0)
        assert model.fit(F, U).predict(F).shape == U.shape
        assert Ridge().fit(F.reshape(N, -1), U.reshape(N, -1)).predict(F.reshape(N, -1)).shape == (N, 32)


def test_diffusionpde_bad_requests(bounded, tmp_path):
    with error("does not exist.", FileNotFoundError):
        load_diffusionpde(tmp_path / "none.npy")
    (tmp_path / "empty").mkdir()
    with error(f"{tmp_path / 'empty'} holds none of *.npy, *.mat, *.h5, *.hdf5."):
        load_diffusionpde(tmp_path / "empty")
    with error(f"state 10 was requested, but {bounded} has 10 states, 0 to 9."):
        load_diffusionpde(bounded, states=(0, 10))
    with error("states=(1,) must be a pair of integers"):
        load_diffusionpde(bounded, states=(1,))
    with error(f"n_samples=6 were requested, but {bounded} contains 5."):
        load_diffusionpde(bounded, n_samples=6)


def test_diffusionpde_bad_files(tmp_path):
    path = tmp_path / "merge_0.npy"
    np.save(path, W0)
    with error(f"{path} has an array of shape {W0.shape}; expected is [N, X, Y, T]."):
        load_diffusionpde(path)
    np.save(path, W)
    whole = path.read_bytes()
    np.savez(tmp_path / "zipped", W)
    for content in (b"", whole[:5], whole[:100], whole[:-1], (tmp_path / "zipped.npz").read_bytes(), b"text" * 9):
        path.write_bytes(content)
        with error(f"{path} is not a .npy file, or damaged ("):
            load_diffusionpde(path)
    np.save(path, W.astype(object))
    with error(f"{path} is not a .npy file, or damaged (Array can't be memory-mapped: Python objects in dtype"):
        load_diffusionpde(path)
    for dtype in ("complex64", "<U9", "S9", "M8[s]"):
        np.save(path, np.ones((2, 4, 8, 10)).astype(int).astype(dtype))
        with error(f"{path} is of type {np.dtype(dtype)}; expected is an array of real numbers."):
            load_diffusionpde(path)
    np.save(path, W[:0])
    with error(f"{path} has no values, but the shape (0, 4, 8, 10)."):
        load_diffusionpde(path)
    path = tmp_path / "bad.mat"
    for compressed in (False, True):
        scipy.io.savemat(path, {"a": W0, "u": W}, do_compression=compressed)
        whole = path.read_bytes()
        for size in [*range(0, 300, 20), len(whole) // 2, len(whole) - 1]:
            path.write_bytes(whole[:size])
            # Without an array, that is what is wrong; and the end of a file between two arrays cannot be seen.
            with error(str(path)):
                load_diffusionpde(path)
        with error(f"{path} is not a file of MATLAB, HDF5 or NumPy (.npy), or damaged ("):
            load_diffusionpde(path)
    path.write_bytes(b"nothing of that kind" * 20)
    with error(f"{path} is not a file of MATLAB, HDF5 or NumPy (.npy), or damaged ("):
        load_diffusionpde(path)
    write_h5(path, {"a": W0, "u": W})
    path.write_bytes(path.read_bytes()[:1000])
    with error(f"{path} is not an HDF5 file, or damaged"):
        load_diffusionpde(path)
    for write in (scipy.io.savemat, write_h5, write_matlab_73):
        write(path, {"a": W0, "output": W})
        with error(f"{path} has the arrays a, output; expected are two of these names: a and u; w0 and w;"):
            load_diffusionpde(path)
        write(path, {"a": W0, "u": W * 1j})
        with error(f"'u' of {path} is of type complex64; expected is an array of real numbers."):
            load_diffusionpde(path)
        write(path, {"a": W0[:0], "u": W[:0]})
        with error(f"'a' of {path} has no values, but the shape"):
            load_diffusionpde(path)
        write(path, {"a": W0[:4], "u": W})
        with error(f"{path} has 'a' of shape (4, 4, 8) and 'u' of shape (5, 4, 8, 10); expected are [N, X, Y] and"):
            load_diffusionpde(path)
        write(path, {"a": W0, "u": W, "t": STEPS[:3]})
        with error(f"{path} has 3 times 't' for 10 states in 'u'."):
            load_diffusionpde(path)
    write_h5(path, {"u": W})
    with h5py.File(path, "a") as file:
        file.create_group("a").attrs["MATLAB_class"] = "struct"
    with error(f"'a' of {path} is a group; expected is an array of real numbers."):
        load_diffusionpde(path)
    one, two = tmp_path / "1.mat", tmp_path / "2.mat"
    scipy.io.savemat(one, {"a": W0, "u": W, "t": STEPS})
    scipy.io.savemat(two, {"a": W0[:, :, :4], "u": W[:, :, :4]})
    with error(f"{two} has a grid of [4, 4] points, the files before it one of [4, 8]."):
        load_diffusionpde([one, two])
    scipy.io.savemat(two, {"a": W0, "u": W, "t": STEPS * 2})
    with error(f"{two} has states at the times [0. 2.], the files before it at [0. 1.]."):
        load_diffusionpde([one, two], return_trajectories=True)


def test_without_h5py(monkeypatch, gray_scott, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with error('load_the_well needs h5py: pip install "sklearn-hss[io]".', ImportError):
        load_the_well(gray_scott[0])
    scipy.io.savemat(tmp_path / "a.mat", {"a": W0, "u": W})
    np.testing.assert_array_equal(load_diffusionpde(tmp_path / "a.mat")[0], W0)
    path = next(iter(gray_scott[1]))
    with error(f'load_diffusionpde of {path} needs h5py: pip install "sklearn-hss[io]".', ImportError):
        load_diffusionpde(path)
