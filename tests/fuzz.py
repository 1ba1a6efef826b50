"""Random calls of all public entrances, good and bad: each works, or is refused by one clear error before any work.

    python tests/fuzz.py --cases 1000 --seed 0

prints the counts, and every case that is not as it should be; the exit status is 1 if there is one. An error is clear
if it is a ValueError or a TypeError (or IndexError for an index, LinAlgError for a singular matrix, OSError for a file
that is not there) that this package or scikit-learn raises itself, in a message of one or two sentences. On exact
linear data with enough samples, a linear map must not be worse than predicting zero without a warning.
"""

import argparse
import collections
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import LinAlgWarning

import sklearn_hss
from sklearn_hss import datasets, linalg, metrics
from sklearn_hss.fitting import FORMS

# Seconds of the processor that a case may take, and of the clock after which it is ended.
SLOW, STUCK = 25.0, 300
NETWORKS = {
    "NeuralHSSRegressor": {"rank": [1, 2, 5, 0, True, "auto", 2.5], "levels": [0, 1, 2, 9, "auto", None]},
    "FNORegressor": {"modes": [1, 2, 40, "auto", 0], "width": [2, 4, True]},
    "FactFormerRegressor": {"width": [4, 8, -1], "head_dim": [2, 4]},
    "GreenLearningRegressor": {"width": [2, 4, "wide"], "depth": [1, 2]},
    "ResNetRegressor": {"width": [2, 4, 0], "depth": [1, 2]},
    "DeepONetRegressor": {"width": [2, 4, 3.5], "depth": [1, 2]},
}
TRAINING = {
    "lr": [1e-3, 1e-2, 0.0, -1.0, np.nan],
    "batch_size": [1, 8, 256, 0, True],
    "validation_fraction": [None, 0.2, 0.99, 1.5],
    "scale": ["max", None, "min"],
    "dtype": [None, "float32", "float64", "int8"],
    "early_stopping": [True, False, "yes"],
}
LINEAR = {
    "rank": ["auto", 1, 2, 50, 0, True],
    "levels": ["auto", 0, 1, 2, 12],
    "symmetric": ["auto", True, False, "maybe"],
    "form": ["auto", "forward", "inverse", "backward"],
    "solver": ["auto", *dict.fromkeys(form.solver for form in FORMS), "lu"],
    "outer_rank": ["auto", 1, 2, 999],
    "alpha": ["auto", 0.0, 1e-3, -1.0],
    "fit_intercept": ["auto", True, False, 3],
}


def pick(rng, values):
    """One of several values, of any types."""
    return values[rng.randint(len(values))]


def some(rng, choices, probability=0.07):
    """A few parameters with random values."""
    return {name: pick(rng, values) for name, values in choices.items() if rng.uniform() < probability}


# Data


def grid_of(rng):
    """A small grid of one to three dimensions."""
    n_modes = rng.choice([1, 1, 2, 2, 3])
    largest = (33, 10, 5)[n_modes - 1]
    return tuple(int(n) for n in rng.randint(1 if rng.uniform() < 0.1 else 4, largest, n_modes))


def linear_map(rng, grid):
    """An exact linear map of fields, as a dense matrix: solutions of a random local equation."""
    size = int(np.prod(grid))
    L = np.zeros((size, size))
    for axis, n in enumerate(grid):
        second = np.diag(np.full(n, 2.0 + rng.uniform())) - np.eye(n, k=1) - rng.uniform(0.5, 1) * np.eye(n, k=-1)
        L += np.kron(np.kron(np.eye(int(np.prod(grid[:axis]))), second), np.eye(int(np.prod(grid[axis + 1 :]))))
    return np.linalg.inv(L)


def pairs(rng):
    """Inputs, outputs, and what is known of them."""
    grid, n_samples = grid_of(rng), int(pick(rng, [1, 2, 3, 5, 8, 12, 20, 40]))
    X = rng.standard_normal((n_samples, *grid))
    A = linear_map(rng, grid)
    Y = (X.reshape(n_samples, -1) @ A.T).reshape(X.shape)
    kind = pick(rng, ["linear"] * 5 + ["offset", "noise", "square", "unrelated", "constant", "zero", "copies"])
    if kind == "offset":
        Y += rng.standard_normal(grid)
    elif kind == "noise":
        Y += 0.01 * np.abs(Y).max() * rng.standard_normal(Y.shape)
    elif kind == "square":
        Y = Y**2
    elif kind == "unrelated":
        Y = rng.standard_normal(Y.shape)
    elif kind == "constant":
        Y[:] = 3.0
    elif kind == "zero":
        X, Y = pick(rng, [(X, 0 * Y), (0 * X, Y), (0 * X, 0 * Y)])
    elif kind == "copies":
        X[:], Y[:] = X[:1], Y[:1]
    unit = pick(rng, [1.0] * 8 + [1e-30, 1e30, 1e-150, 1e150, 1e-300])
    return grid, unit * X, pick(rng, [unit, 1.0]) * Y, kind


def mangle(rng, array):
    """An array as people bring it: another type, container, layout, or with something in it that is no number."""
    how = pick(rng, ["as it is"] * 120 + list(MANGLED))
    return array if how == "as it is" else MANGLED[how](rng, array)


def spoilt(value):
    """Put a value somewhere."""

    def spoil(rng, array):
        array = array.copy()
        if array.size:
            array.flat[rng.randint(array.size)] = value
        return array

    return spoil


class Opaque:
    """A container that knows no more than its shape and how to become an array."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)

    def __len__(self):
        return len(self.array)


MANGLED = {
    "float32": lambda rng, x: x.astype(np.float32),
    "float16": lambda rng, x: x.astype(np.float16),
    "integers": lambda rng, x: np.nan_to_num(np.clip(10 * x, -1e6, 1e6)).astype(int),
    "bool": lambda rng, x: x > 0,
    "complex": lambda rng, x: x + 1j,
    "objects": lambda rng, x: x.astype(object),
    "text": lambda rng, x: x.astype(str),
    "dates": lambda rng, x: np.zeros(x.shape, "M8[s]"),
    "lists": lambda rng, x: x.tolist(),
    "opaque": lambda rng, x: Opaque(x),
    "reversed": lambda rng, x: x[::-1],
    "big-endian": lambda rng, x: x.astype(">f8"),
    "Fortran": lambda rng, x: np.asfortranarray(x),
    "masked": lambda rng, x: np.ma.array(x, mask=x > 0.5),
    "tensor": lambda rng, x: torch.tensor(x),
    "NaN": spoilt(np.nan),
    "infinity": spoilt(np.inf),
    "huge": spoilt(1e120),
    "flat": lambda rng, x: x.reshape(len(x), -1),
    "channels": lambda rng, x: x[:, None],
    "two channels": lambda rng, x: np.stack([x, 1e4 * x], axis=1),
    "channels last": lambda rng, x: np.stack([x, x], axis=-1),
    "transposed": lambda rng, x: x.T,
    "fewer": lambda rng, x: x[: len(x) // 2],
    "coarser": lambda rng, x: x[..., ::2],
    "one number": lambda rng, x: x.reshape(len(x), -1)[:, 0],
    "a vector": lambda rng, x: x.reshape(len(x), -1)[:, :2],
    "none": lambda rng, x: None,
    "scalar": lambda rng, x: 1.0,
    "empty": lambda rng, x: x[:0],
}


# Calls. Each returns what must be finite, or raises; a string tells what is wrong beside that.


def estimator_call(rng):
    """A fit of an estimator, and what can be done with it then."""
    grid, X, Y, kind = pairs(rng)
    name = pick(rng, [*NETWORKS, "HSSRegressor", "HSSRegressor", "HSSRegressor", "HSSTransformer"])
    linear = name.startswith("HSS")
    parameters = some(rng, LINEAR if linear else {**NETWORKS[name], **TRAINING})
    parameters["random_state"] = 0
    if not linear:
        parameters["max_epochs"] = 2
        small = {"width": 4, "depth": 1} if name not in ("NeuralHSSRegressor", "FactFormerRegressor") else {}
        parameters = {**small, **parameters}
    mask = rng.uniform(size=grid) > 0.3
    if rng.uniform() < 0.2:
        parameters["mask"] = pick(rng, [mask, "auto", mask.T, mask.astype(int), np.zeros(grid, bool), mask[..., None]])
    if rng.uniform() < 0.3:
        parameters["grid_shape"] = pick(rng, [grid, grid[::-1], grid[:1], int(np.prod(grid)), 0, (4, 4)])
    X_given, Y_given = mangle(rng, X), mangle(rng, Y)
    weight = pick(rng, [None] * 8 + [np.ones(len(X)), rng.randint(0, 2, len(X)), -np.ones(len(X)), np.ones(3)])

    def call():
        model = getattr(sklearn_hss, name)(**parameters)
        model.fit(X_given, Y_given, **({} if weight is None else {"sample_weight": weight}))
        results = [model.predict(X_given) if hasattr(model, "predict") else model.transform(X_given)]
        if hasattr(model, "score") and len(X) > 1:
            results.append(model.score(X_given, Y_given))
        if hasattr(model, "inverse_transform"):
            results.append(model.inverse_transform(Y_given))
        inside = getattr(model, "mask_", None)
        if inside is not None:
            results[0] = np.nan_to_num(results[0])
        plain = linear and X_given is X and Y_given is Y and kind in ("linear", "offset") and weight is None
        if plain and inside is None and "mask" not in parameters and len(X) > X[0].size + 2:
            error = np.linalg.norm(results[0] - Y) / (np.linalg.norm(Y) or 1)
            if not error < 1:
                return f"relative error {error:.1e} on exact linear data"
        return results

    return f"{name}({parameters}) on {kind} {X.shape}, X {describe(X_given)}, y {describe(Y_given)}", call


def rollout_call(rng):
    """Trajectories, and rollouts."""
    grid, X, _, _ = pairs(rng)
    decay = pick(rng, [0.9, 1.0, 2.0])
    states = mangle(rng, np.stack([X * decay**step for step in range(int(rng.randint(1, 5)))], axis=1))
    inner = sklearn_hss.HSSRegressor(random_state=0)
    mask = {"mask": pick(rng, ["auto", rng.uniform(size=grid) > 0.3])} if rng.uniform() < 0.2 else {}
    residual, n_steps = bool(rng.randint(2)), pick(rng, [0, 1, 5, -1, 1.5, True])

    def call():
        model = sklearn_hss.RolloutRegressor(inner, residual=residual, **mask).fit(states)
        return [np.nan_to_num(model.rollout(X, n_steps)), *([model.score(states)] if len(X) > 1 else [])]

    return f"RolloutRegressor(residual={residual}, {mask}) on trajectories {describe(states)}, {n_steps} steps", call


def scaler_call(rng):
    """Scaling, and back."""
    grid, X, _, _ = pairs(rng)
    X = mangle(rng, X)
    parameters = some(
        rng,
        {
            "method": ["max", "standard", "none"],
            "per_channel": [True, False, "no"],
            "mask": ["auto", rng.uniform(size=grid) > 0.3, np.zeros(grid, bool)],
            "grid_shape": [grid, grid[::-1], 0],
        },
        0.3,
    )
    scaler = sklearn_hss.FieldScaler(**parameters)

    def call():
        scaled = scaler.fit_transform(X)
        back = scaler.inverse_transform(scaled)
        return [np.nan_to_num(scaled), np.nan_to_num(back)] if "mask" in parameters else [scaled, back]

    return f"FieldScaler({parameters}) on {describe(X)}", call


def metric_call(rng):
    """Errors of predictions."""
    grid, X, Y, _ = pairs(rng)
    X, Y = mangle(rng, X), mangle(rng, Y)
    name = pick(rng, ["relative_l2_error", "trajectory_l2_error"])
    options = some(
        rng,
        {
            "mask": ["auto", rng.uniform(size=grid) > 0.3, np.ones(3)],
            "sample_weight": [np.ones(len(X) if hasattr(X, "__len__") else 1), np.ones(2), -1],
            "multioutput": ["joint", "raw_values", "uniform_average", "all"],
        },
        0.2,
    )

    def call():
        error = getattr(metrics, name)(Y, X, **options)
        # A sample that is zero, and is not predicted so, has an infinite relative error, as documented.
        return [] if name.startswith("relative") else [error]

    return f"{name}({describe(Y)}, {describe(X)}, {options})", call


def matrix_call(rng):
    """An HSS matrix, built in some way, and something done with it."""
    n = int(pick(rng, [1, 2, 5, 16, 33, 64]))
    M = np.linalg.inv(np.diag(np.full(n, 2.5)) - np.eye(n, k=1) - np.eye(n, k=-1))
    levels = pick(rng, ["auto"] * 20 + [0, 1, 2, 9, -1, True, 1.5, "deep"])
    rank = pick(rng, [None] * 20 + [1, 2, 0, -1, 1.5, True])
    factor = rng.standard_normal((n, 2))
    builders = {
        "from_dense": lambda given: linalg.HSSMatrix.from_dense(given, rank=rank, levels=levels),
        "from_low_rank": lambda given: linalg.HSSMatrix.from_low_rank(given, factor, levels=levels),
        "from_diagonal": lambda given: linalg.HSSMatrix.from_diagonal(given, levels=levels),
        "from_toeplitz": lambda given: linalg.HSSMatrix.from_toeplitz(given, levels=levels, rank=rank),
        "from_banded": lambda given: linalg.HSSMatrix.from_banded((1, 1), given, levels=levels),
        "from_products": lambda given: linalg.HSSMatrix.from_products(
            lambda x: M @ np.asarray(x), lambda x: M.T @ np.asarray(x), (n, n), rank=rank, levels=levels
        ),
        "identity": lambda given: linalg.HSSMatrix.identity(pick(rng, [n, -1, 0, 2.5, True, 10**15]), levels=levels),
        "random": lambda given: linalg.HSSMatrix.random(
            linalg.ClusterTree(n, levels), linalg.ClusterTree(n, levels), rank
        ),
    }
    x = mangle(rng, rng.standard_normal((n, 3)))
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / "A.npz"), folder, str(Path(folder) / "none" / "A.npz")]
    operations = {
        "A @ x": lambda A: A @ x,
        "x.T @ A": lambda A: np.asarray(x).T @ A,
        "solve": lambda A: A.solve(x),
        "solve tensor": lambda A: A.solve(torch.ones(n, 2, dtype=A.dtype)),
        "A + A.T": lambda A: (A + A.T).to_dense(),
        "A @ A": lambda A: (A @ A).to_dense(),
        "multiple": lambda A: (pick(rng, [2, 0.5, 1j, True, "2", np.float32(2), torch.tensor(2j)]) * A).to_dense(),
        "to": lambda A: (
            A.to(pick(rng, [torch.float32, torch.float64, torch.int64, torch.complex64, torch.float16]))
            @ (torch.ones(n))
        ),
        "truncate": lambda A: A.truncate(pick(rng, [1e-6, 0, -1.0, np.nan]), rank).to_dense(),
        "coarsen": lambda A: A.coarsen(pick(rng, [0, 1, 20, -1, 0.5])).to_dense(),
        "block": lambda A: A.block(pick(rng, [[0], [0.5], [n], "ab", [True]]), [0]),
        "entry": lambda A: A[pick(rng, [0, -1, n, 0.5, slice(None), ...]), 0],
        "norm": lambda A: A.norm(pick(rng, ["fro", 2, 1, "nuclear"])),
        "slogdet": lambda A: A.slogdet()[0],
        "inverse": lambda A: A.inverse().to_dense(),
        "save": lambda A: A.save(pick(rng, paths)),
        "load": lambda A: linalg.HSSMatrix.load(pick(rng, paths)),
        "linear operator": lambda A: A.aslinearoperator() @ np.asarray(x),
    }
    builder, operation = pick(rng, list(builders)), pick(rng, list(operations))
    parts = {"from_low_rank": factor, "from_diagonal": M[0], "from_toeplitz": M[0], "from_banded": M[:1].repeat(3, 0)}
    given = mangle(rng, parts.get(builder, M))

    def call():
        made = builders[builder](given)
        result = operations[operation](made)
        return [] if result is None or isinstance(result, linalg.HSSMatrix) else [result]

    label = f"HSSMatrix.{builder}(n={n}, levels={levels!r}, rank={rank!r}, {describe(given)}), {operation}"
    if "not finite" in describe(x):  # products with it are not, either

        def tried():
            call()
            return []

        return f"{label}, x {describe(x)}", tried
    return f"{label}, x {describe(x)}", call


def data_call(rng):
    """A small data set."""
    name = pick(rng, ["make_poisson", "make_helmholtz", "make_heat", "make_burgers", "make_navier_stokes"])
    parameters = {
        "make_poisson": {
            "n_samples": 2,
            "n_points": pick(rng, [32, (32, 32), 32.0, True, (32, True), 2, (6,) * 4]),
        },
        "make_helmholtz": {"n_samples": 2, "n_points": pick(rng, [(32, 32), (24,), "32", (8, 8)])},
        "make_heat": {"n_samples": 1, "n_points": pick(rng, [32, 64, 3])},
        "make_burgers": {"n_samples": 1, "n_points": pick(rng, [32, 64, -5])},
        "make_navier_stokes": {"n_samples": 1, "n_points": pick(rng, [(16, 16), (16,), 16]), "t_final": 0.1},
    }[name]
    changes = {
        "n_samples": [0, True, 1.5, 10**13],
        "random_state": [None, 3, "seed"],
        "n_jobs": [1, 2, 0, True],
        "verbose": [0, -1],
        "dt": [1e-3, 0.0, 7.0],
        "viscosity": [1e-2, -1.0, np.nan],
        "forcing": ["sine", "grf", "gaussian", "other", np.ones((2, 16, 16)), np.ma.masked_equal(np.eye(16)[None], 1)],
        "domain": ["box", "l-shape", "perforated", "disk"],
    }
    parameters.update({"verbose": 0, **some(rng, changes, 0.08)})

    def call():
        return [np.asarray(array) for array in getattr(datasets, name)(**parameters)]

    return f"{name}({parameters})", call


CALLS = [estimator_call] * 10 + [matrix_call] * 6 + [scaler_call, metric_call, rollout_call, data_call] * 2


# Outcomes


def describe(x):
    """Type and shape in a few words."""
    kind = getattr(x, "dtype", "")
    odd = ""
    if isinstance(x, np.ndarray) and x.dtype.kind == "f" and not np.isfinite(x).all():
        odd = ", not finite"
    return f"{type(x).__name__} {kind} {np.shape(x) if not hasattr(x, 'shape') else tuple(x.shape)}{odd}"


def is_clear(error):
    """Whether an error is a refusal: of the right kind, from us or from scikit-learn, in few words."""
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        return True
    if not isinstance(error, ValueError | TypeError | IndexError):
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    package = Path(sklearn_hss.__file__).parent
    from_us = str(package) in last.filename or f"{os.sep}sklearn{os.sep}" in last.filename
    # Python itself refuses operands that no class knows, and keywords that a function has not.
    words = str(error).partition("\n")[0]
    own_words = any(text in words for text in ("unsupported operand", "unexpected keyword argument", "can't multiply"))
    return (from_us or own_words) and 0 < len(words) < 600


def run(label, call):
    """Class of the outcome, and what to say of it."""
    start = time.process_time()
    signal.alarm(STUCK)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results = call()
        told = [w for w in caught if issubclass(w.category, UserWarning | RuntimeWarning | LinAlgWarning)]
        if isinstance(results, str):
            outcome = ("warned" if told else "wrong"), results
        elif told or all(np.isfinite(np.asarray(result, dtype=float)).all() for result in results):
            outcome = "works", ""
        else:
            outcome = "not finite", ""
    except TimeoutError:
        outcome = "slow", f"more than {STUCK} s"
    except np.linalg.LinAlgError as error:
        outcome = ("refused" if "solve" in label or "inverse" in label else "unclear"), repr(error)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome = ("refused" if is_clear(error) else "unclear"), f"{error!r:.300} ({where.filename}:{where.lineno})"
    finally:
        signal.alarm(0)
    taken = time.process_time() - start
    if taken > SLOW and outcome[0] != "unclear":
        outcome = "slow", f"{taken:.0f} s"
    return outcome


def out_of_time(*_):
    """Handler of the alarm."""
    raise TimeoutError


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, out_of_time)
    counts, start = collections.Counter(), time.perf_counter()
    for number in range(arguments.cases) if arguments.only is None else [arguments.only]:
        rng = np.random.RandomState(np.random.SeedSequence([arguments.seed, number]).generate_state(1)[0])
        with np.errstate(all="ignore"):
            label, call = pick(rng, CALLS)(rng)
        kind, message = run(label, call)
        counts[kind] += 1
        if kind not in ("works", "refused", "warned") or arguments.only is not None:
            print(f"{number}: {kind}: {label[:400]}\n    {message}", flush=True)
    kinds = ("works", "refused", "warned", "unclear", "not finite", "wrong", "slow")
    print(f"{sum(counts.values())} cases, seed {arguments.seed}, {time.perf_counter() - start:.0f} s:")
    print(", ".join(f"{counts[kind]} {kind}" for kind in kinds))
    return int(any(counts[kind] for kind in kinds[3:]))


if __name__ == "__main__":
    sys.exit(main())
