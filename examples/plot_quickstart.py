"""
===================================================
Quickstart: a surrogate of the 1-D Poisson equation
===================================================

Right-hand sides f and solutions u of -u'' = f are given on 256 points. Six models learn the map from f to u from 10
to 316 such pairs: the linear HSS map; Neural-HSS, which starts from that; Neural-HSS with random initial weights,
trained by Levenberg-Marquardt for six seconds, and with the settings of its paper (Table 9); ridge regression; and
plain least squares. All are tested on new right-hand sides of the same kind (sine modes 1 to 10), and on two kinds
that the training data do not contain: modes 11 to 40, and smooth Gaussian random fields.

Takes about a minute.
"""

# %%
# The data
# --------
# One training set, of which every fit takes the first N samples, and three test sets.

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression, Ridge

from sklearn_hss import HSSRegressor, NeuralHSSRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.metrics import relative_l2_error

F, U = make_poisson(n_samples=316, random_state=0)
TESTS = {
    "modes 1-10": make_poisson(n_samples=200, random_state=1),
    "modes 11-40": make_poisson(n_samples=200, modes=(11, 40), random_state=2),
    "random fields": make_poisson(n_samples=200, forcing="grf", random_state=3),
}
SIZES = [10, 32, 100, 316]

# %%
# The models
# ----------
# Every model is a scikit-learn regressor. `Ridge` and `LinearRegression` learn a dense 256 x 256 matrix; they come
# without an intercept, because zero forcing gives zero solution.

MODELS = {
    "HSSRegressor": HSSRegressor(random_state=0),
    "Neural-HSS": NeuralHSSRegressor(rank=2, levels=3, random_state=0, verbose=1),
    "Neural-HSS, random start": NeuralHSSRegressor(
        rank=2, levels=3, init="random", max_seconds=6, random_state=0, verbose=1
    ),
    "Neural-HSS of the paper": NeuralHSSRegressor(
        rank=2, levels=3, init="random", settings="paper", random_state=0, verbose=1
    ),
    "Ridge(alpha=1)": Ridge(alpha=1.0, fit_intercept=False),
    "least squares": LinearRegression(fit_intercept=False),
}

rows, fitted = [], {}
for name, model in MODELS.items():
    for n_samples in SIZES:
        start = time.perf_counter()
        model.fit(F[:n_samples], U[:n_samples])
        row = {"model": name, "samples": n_samples}
        row["fit [s]"] = time.perf_counter() - start
        row["parameters"] = getattr(model, "n_parameters_", F.shape[1] * U.shape[1])
        row.update({test: relative_l2_error(u, model.predict(f)) for test, (f, u) in TESTS.items()})
        rows.append(row)
table = pd.DataFrame(rows)

# %%
# The table
# ---------
# Mean relative L2 error; above 1 is worse than predicting zero. The training forcings span ten dimensions. Least
# squares therefore finds the map on them from ten samples on, but knows nothing of what happens outside of their span.
# The HSS map does: it was fitted as the inverse of a local operator.

formats = {"fit [s]": "{:.2f}".format, "parameters": "{:,}".format} | dict.fromkeys(TESTS, "{:.1e}".format)
print(f"\nRelative L2 error of u on forcings like those of the training ({next(iter(TESTS))}) and on others:\n")
print(table.to_string(index=False, formatters=formats))

# %%
# The picture
# -----------
# Above: one test sample each, and what the HSS map and Neural-HSS from random weights make of it after training on
# 316 samples. Below: the table.

figure = plt.figure(figsize=(12, 6.5), layout="constrained")
upper, lower = figure.subfigures(2, 1)
top, bottom = upper.subplots(1, 3), lower.subplots(1, 3, sharey=True)
x = np.arange(256) / 256
for axis, (test, (f, u)) in zip(top, TESTS.items(), strict=True):
    axis.plot(x, u[0], "k", linewidth=3, alpha=0.4, label="true u")
    for colour, name in (("C0", "HSSRegressor"), ("C5", "Neural-HSS, random start")):
        axis.plot(x, MODELS[name].predict(f[:1])[0], colour, label=f"{name}, N = 316", linewidth=1)
    axis.set(title=f"test forcing: {test}", xlabel="x")
top[0].set_ylabel("u")
top[0].legend(fontsize="small", loc="lower left")

STYLES = ("C0o-", "C3^-", "C5d-", "C4v-", "C1s--", "C2x:")
for axis, test in zip(bottom, TESTS, strict=True):
    for style, (name, curve) in zip(STYLES, table.groupby("model", sort=False), strict=True):
        axis.loglog(curve["samples"], curve[test], style, label=name, markerfacecolor="none")
    axis.axhline(1, color="k", linewidth=0.5)
    axis.set(xlabel="training samples")
bottom[0].set_ylabel("relative L2 error")
bottom[1].text(0.04, 0.04, "thin line: error of predicting zero", fontsize="small", transform=bottom[1].transAxes)
bottom[2].legend(fontsize="small", loc="lower right")

picture = Path("quickstart.png").resolve()
figure.savefig(picture, dpi=120)
print(f"\nPicture: {picture}")
