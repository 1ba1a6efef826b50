"""
============================================================
Nonlinear problems: a network beside kernel ridge regression
============================================================

Where the solution is no linear function of the input, linear maps end, and the choice is between kernel methods, which
are fitted in a second, and networks, whose trainings take patience. Here both learn what becomes of states of Burgers'
equation within half a unit of time. ``TrainingHistoryDisplay`` shows how the training went.

Takes about half a minute on one core.
"""

# %%
# The data
# --------
# Pairs of an initial state and the state after the fronts have formed. 150 of them, and 50 for the test.

import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV

from sklearn_hss import FNORegressor, HSSRegressor
from sklearn_hss.datasets import make_burgers
from sklearn_hss.exceptions import HSSWarning
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer
from sklearn_hss.plotting import FieldPredictionDisplay, TrainingHistoryDisplay

torch.set_num_threads(1)
warnings.simplefilter("ignore", HSSWarning)  # the linear map is poor, and says so

_, trajectories = make_burgers(
    200, 64, viscosity=1e-2, t_final=0.6, store_every=0.1, return_trajectories=True, random_state=0, verbose=0
)
X, y = trajectories[:, 1], trajectories[:, -1]
X_train, y_train, X_test, y_test = X[:150], y[:150], X[150:], y[150:]

# %%
# The models
# ----------
# The search gives kernel ridge regression its best penalty and width. A fifth of the samples of the network is for the
# validation loss, which tells when more epochs no longer help.

models = {
    "linear map": HSSRegressor(random_state=0),
    "kernel ridge": GridSearchCV(
        KernelRidge(kernel="rbf"),
        {"alpha": np.logspace(-8, 0, 5), "gamma": np.logspace(-4, 0, 5)},
        scoring=relative_l2_scorer,
        cv=3,
    ),
    "FNO": FNORegressor(width=16, modes=16, max_epochs=100, validation_fraction=0.2, random_state=0),
}
for name, model in models.items():
    start = time.perf_counter()
    model.fit(X_train, y_train)
    seconds = time.perf_counter() - start
    print(f"{name:<13} error {relative_l2_error(y_test, model.predict(X_test)):.1e} after {seconds:.1f} s")

# %%
# The training
# ------------
# ``history_`` has a row for each epoch, and the display its losses and the learning rate, which falls to the end.

display = TrainingHistoryDisplay.from_estimator(models["FNO"])
display.figure_.savefig("training.png", dpi=120)
print({name: models["FNO"].training_[name] for name in ("optimizer", "lr", "max_epochs", "batch_size")})

# %%
# The predictions
# ---------------

display = FieldPredictionDisplay.from_estimator(models["FNO"], X_test, y_test, samples=[0, 1], extent=(0, 1 - 1 / 64))
picture = Path("training_fields.png").resolve()
display.figure_.savefig(picture, dpi=120)
print(f"Picture: {picture}")
