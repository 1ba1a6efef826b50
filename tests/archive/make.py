"""Small fitted estimators of every kind, and the script that has written the files beside it.

    python tests/archive/make.py 1

writes those that are not there yet into tests/archive/1, a folder for every format. Files are never written again: they
stand for those of users.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import sklearn_hss as hss

FOLDER = Path(__file__).parent
N, GRID = 16, (6, 6)
TRAINED = {"max_epochs": 2, "random_state": 0}
DISC = np.hypot(*(np.indices((8, 8)) - 3.5)) < 3.4


def rows(n_samples, *grid, seed=0):
    return np.random.RandomState(seed).standard_normal((n_samples, *grid))


def second_difference(n):
    return 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)


def solutions(F, inside=None):
    """Solutions of a discrete Poisson equation, zero outside of a domain."""
    shape = F.shape[1:]
    L = second_difference(shape[0])
    if len(shape) == 2:
        L = np.kron(L, np.eye(shape[1])) + np.kron(np.eye(shape[0]), second_difference(shape[1]))
    inside = np.ones(L.shape[0], dtype=bool) if inside is None else inside.ravel()
    U = np.zeros((len(F), len(L)))
    U[:, inside] = np.linalg.solve(L[np.ix_(inside, inside)], F.reshape(len(F), -1)[:, inside].T).T
    return U.reshape(F.shape)


def smooth(n_samples, n, seed=0):
    k, x = np.arange(1, 4)[:, None], 2 * np.pi * np.arange(n) / n
    waves = np.concatenate([np.cos(k * x), np.sin(k * x)])
    return np.random.RandomState(seed).uniform(-0.4, 0.4, (n_samples, 6)) @ waves


def trajectories(n_trajectories, n_times=9, n=24, dt=0.1):
    """Of u_t = 0.05 u_xx - u u_x / 2, by Euler steps that are small enough."""
    found = [smooth(n_trajectories, n)]
    for _ in range(n_times - 1):
        u = found[-1]
        for _ in range(20):
            ahead, back = np.roll(u, -1, 1), np.roll(u, 1, 1)
            u = u + dt / 20 * (0.05 * (ahead - 2 * u + back) - (ahead**2 - back**2) / 8)
        found.append(u)
    return np.stack(found, 1)


F, F2, FD = rows(12, N), rows(10, *GRID), rows(14, 8, 8)
U, U2, UD = solutions(F), solutions(F2), solutions(FD, DISC)
SHORT = F[:, :8], solutions(F[:, :8])
CHAIN = sp.csr_array(sp.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(N, N)))
CUBIC = smooth(10, N), smooth(10, N) @ second_difference(N) + smooth(10, N) ** 3
STEPS = trajectories(3)

#: Estimators, with inputs and targets, or trajectories alone.
MODELS = {
    "hss_1d": (hss.HSSRegressor(random_state=0), F, U),
    "hss_2d": (hss.HSSRegressor(random_state=0), F2, U2),
    "hss_mask": (hss.HSSRegressor(mask=DISC, random_state=0), FD, UD),
    "hss_intercept": (hss.HSSRegressor(fit_intercept=True, random_state=0), F, U + 1),
    "transformer": (hss.HSSTransformer(random_state=0), F, U),
    "local_grid": (hss.LocalOperatorRegressor(random_state=0), F2, U2),
    "local_mask": (hss.LocalOperatorRegressor(mask=DISC, random_state=0), FD, UD),
    "local_mesh": (hss.LocalOperatorRegressor(neighbours=CHAIN, random_state=0), F, U),
    "local_cubic": (hss.LocalOperatorRegressor(degree=3, noise=0, random_state=0), CUBIC[1], CUBIC[0]),
    "evolution": (hss.LocalEvolutionRegressor(2, 1, dt=0.1, spacing=1.0, random_state=0), STEPS, None),
    "neural_hss": (hss.NeuralHSSRegressor(rank=1, levels=1, init="random", **TRAINED), F, U),
    "neural_hss_linear": (hss.NeuralHSSRegressor(rank=2, levels=1, **TRAINED), F, U),
    "neural_hss_patches": (hss.NeuralHSSRegressor(architecture="patches", width=2, hss_channels=1, **TRAINED), FD, UD),
    "fno": (hss.FNORegressor(width=4, modes=3, depth=1, **TRAINED), F, U),
    "resnet": (hss.ResNetRegressor(width=4, depth=1, **TRAINED), F2, U2),
    "deeponet": (hss.DeepONetRegressor(width=8, depth=1, **TRAINED), F, U),
    "green_learning": (hss.GreenLearningRegressor(width=8, depth=2, **TRAINED), F, U),
    "factformer": (hss.FactFormerRegressor(width=8, head_dim=4, **TRAINED), F2, U2),
    "rollout": (hss.RolloutRegressor(hss.HSSRegressor(random_state=0)), STEPS, None),
    "rollout_of_rows": (hss.RolloutRegressor(make_pipeline(StandardScaler(), Ridge(1e-3))), STEPS, None),
    "residual": (
        hss.ResidualRegressor(
            hss.HSSRegressor(solver="least_squares"), hss.ResNetRegressor(width=4, depth=1, **TRAINED)
        ),
        F,
        U**2,
    ),
    "scaler": (hss.FieldScaler(), F2, None),
    "conformal": (hss.ConformalFieldRegressor(Ridge(1e-3), kind="band", cv=3, random_state=0), F, U),
    "pipeline": (make_pipeline(MinMaxScaler(), PCA(4), hss.HSSRegressor(random_state=0)), F, U),
    "transformed_target": (TransformedTargetRegressor(hss.HSSRegressor(), transformer=hss.FieldScaler()), F, U),
    "search": (GridSearchCV(hss.HSSRegressor(random_state=0), {"fit_intercept": [True, False]}, cv=2), *SHORT),
}


def fitted(name):
    """An estimator that is fitted, and its inputs."""
    model, X, y = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model.fit(X) if y is None else model.fit(X, y)
    return model, X[:, 0] if X is STEPS else X


def outputs(model, X):
    """Predictions, or inputs transformed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.predict(X) if hasattr(model, "predict") else model.transform(X)


def main(folder):
    folder.mkdir(exist_ok=True)
    for name in MODELS:
        if not (folder / f"{name}.hss").exists():
            model, X = fitted(name)
            hss.save(model, folder / f"{name}.hss")
            np.savez(folder / f"{name}.npz", X=X[:3], expected=outputs(model, X[:3]))


if __name__ == "__main__":
    main(FOLDER / sys.argv[1])
