"""
=============================
Noisy solutions: which model?
=============================

Solutions that were measured, or not computed to the end, have errors. How much a model suffers depends on how much it
knows: a local law is any sparse equation, an HSS matrix any operator with off-diagonal blocks of low rank, and ridge
regression any matrix at all. Errors against the number of samples tell, at two levels of noise.

Takes about half a minute on one core.
"""

# %%
# Data with noise
# ---------------
# An equation with a variable coefficient, -(a u')' = f, on 64 points. The outputs of the training have normal noise, of
# 0.1 % and of 3 % of their size; those of the test have none, so that errors are those of the truth.

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import RidgeCV

from sklearn_hss import HSSRegressor, LocalOperatorRegressor
from sklearn_hss.datasets import make_elliptic
from sklearn_hss.exceptions import HSSWarning
from sklearn_hss.plotting import DataEfficiencyDisplay

warnings.simplefilter("ignore", HSSWarning)  # no map explains noise, which is what this is about

n = 64
F, U = make_elliptic(160, (n,), diffusivity=lambda x: 1 + 0.8 * np.sin(7 * x), random_state=0, verbose=0)
inside = np.abs(U).max(axis=0) > 0  # boundaries are known
noise = np.random.RandomState(0).standard_normal(U.shape) * inside * np.sqrt(np.mean(U**2))

# %%
# The models
# ----------
# All of them find their regularisation themselves. The local law estimates the noise from the samples.

models = {
    "local law": LocalOperatorRegressor(random_state=0),
    "HSS matrix": HSSRegressor(form="forward", random_state=0),
    "ridge": RidgeCV(np.logspace(-10, 2, 13), fit_intercept=False),
}
sizes = [8, 20, 60]

# %%
# The picture
# -----------
# Medians over two training sets, drawn at random. The law of eight samples is better than ridge regression on sixty,
# since three coefficients at each point are all that it has to find. That blocks have low rank says less.

figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
for axis, level in zip(axes, (1e-3, 3e-2), strict=True):
    display = DataEfficiencyDisplay.from_estimators(
        models,
        F[:100],
        (U + level * noise)[:100],
        train_sizes=sizes,
        X_test=F[100:],
        y_test=U[100:],
        n_seeds=2,
        random_state=0,
        ax=axis,
    )
    axis.axhline(level, color="0.5", linestyle=":", linewidth=1)
    axis.set_title(f"noise of {level:.1%} in the outputs, dotted")
    for name, errors in display.errors.items():
        print(f"noise {level:.1%}, {name:<10}", "  ".join(f"{error:.1e}" for error in np.median(errors, axis=1)))
axes[1].set_ylabel("")
picture = Path("noise.png").resolve()
figure.savefig(picture, dpi=120)
print(f"Picture: {picture}")
