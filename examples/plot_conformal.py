"""
================================================
How sure is it? Bands with a guaranteed coverage
================================================

``ConformalFieldRegressor`` puts bands around the predictions of any regressor: errors on samples that a fit has not
seen tell how wide these have to be. Bands for single points contain the truth at 90 % of all points; those for whole
fields contain all points of 90 % of all fields. Neither depends on the regressor being right.

Takes about ten seconds on one core.
"""

# %%
# One dimension
# -------------
# Sixty noisy solutions of Poisson's equation are few, so that every one of them both teaches and calibrates: by ten
# fits, each of which leaves out six. The noise is larger on the right.

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import Ridge

from sklearn_hss import ConformalFieldRegressor, HSSRegressor
from sklearn_hss.datasets import make_elliptic, make_poisson
from sklearn_hss.exceptions import PoorFitWarning

warnings.simplefilter("ignore", PoorFitWarning)  # no map explains the noise, which is what the bands are about

n_train, n_test = 60, 300
x = np.arange(64) / 64
F, U = make_poisson(n_train + n_test, 64, modes=(1, 5), random_state=0, verbose=0)
noise = 0.15 * U.std() * (0.3 + 2 * x**2) * np.random.RandomState(0).standard_normal(U.shape)
U = U + noise * (np.abs(U).max(axis=0) > 1e-12)
train, test = slice(n_train), slice(n_train, None)

bands = {}
for kind in ("band", "pointwise"):
    model = ConformalFieldRegressor(HSSRegressor(form="forward", random_state=0), kind=kind, random_state=0)
    model.fit(F[train], U[train])
    bands[kind], predicted = model.predict_interval(F[test]), model.predict(F[test])
    within = (bands[kind][0] <= U[test]) & (U[test] <= bands[kind][1])
    print(
        f"{kind:10} ({model.method_}): {within.mean():.1%} of the points, {within.all(axis=1).mean():.1%} of the fields"
    )

# %%
# Two dimensions
# --------------
# An L-shape of two materials, and ridge regression of scikit-learn, which gets flattened fields. Of 240 samples, a
# quarter calibrates. The band is wide where ridge regression is bad, and zero outside of the mask.

n = 24
i, j = np.indices((n, n))
mask = (i < n // 2) | (j < n // 2)
diffusivity = np.where(i < n // 3, 1.0, 10.0)
F2, U2 = make_elliptic(300, (n, n), domain=mask, diffusivity=diffusivity, random_state=0, verbose=0)
model = ConformalFieldRegressor(Ridge(1e-2), mask=mask, kind="band", random_state=0).fit(F2[:240], U2[:240])
lower, upper = model.predict_interval(F2[240:])
within = ((lower <= U2[240:]) & (U2[240:] <= upper)).all(axis=(1, 2))
print(f"L-shape    ({model.method_}): {within.mean():.1%} of the fields; on average {model.coverage_:.1%}")

# %%
# Inputs of another kind
# ----------------------
# A band holds for inputs like those that calibrated it. How much of an input lies outside of what the samples have
# shown, `support_distance` tells beforehand.

ridge = HSSRegressor(form="forward", solver="least_squares", random_state=0).fit(F[train], U[train])
rough = np.random.RandomState(0).standard_normal((5, 64))
for name, inputs in (("like those of the training", F[test]), ("white noise", rough)):
    print(f"inputs {name}: {ridge.support_distance(inputs).mean():.0%} outside of the span of the samples")

# %%
# The picture

blue, light, orange = "#0072B2", "#9ecae1", "#D55E00"
figure, axes = plt.subplot_mosaic(
    [["line", "line", "line"], ["truth", "predicted", "width"]], figsize=(10, 7), layout="constrained"
)
axis = axes["line"]
axis.fill_between(x, *(end[0] for end in bands["band"]), color=light, label="band for the field, 90 %")
axis.fill_between(x, *(end[0] for end in bands["pointwise"]), color=blue, alpha=0.6, label="band for a point, 90 %")
axis.plot(x, U[test][0], ".", color=orange, markersize=5, label="truth, with noise")
axis.plot(x, predicted[0], color="black", linewidth=1, label="prediction")
axis.set(xlabel="x", ylabel="u", title="A new solution and its bands, from 60 samples", xlim=(0, x[-1]))
axis.legend(loc="best", frameon=False)

size = np.abs(U2[240]).max()
for name, field, colours in (
    ("truth", U2[240], {"cmap": "RdBu_r", "vmin": -size, "vmax": size}),
    ("predicted", model.predict(F2[240:])[0], {"cmap": "RdBu_r", "vmin": -size, "vmax": size}),
    ("width", (upper - lower)[0], {"cmap": "viridis", "vmin": 0}),
):
    axis = axes[name]
    axis.set(xticks=[], yticks=[], title=name if name != "width" else "width of the band, 90 %")
    axis.set_facecolor("0.88")
    image = axis.imshow(np.where(mask, field, np.nan).T, origin="lower", **colours)
    figure.colorbar(image, ax=axis, shrink=0.8)

picture = Path("conformal.png").resolve()
figure.savefig(picture, dpi=120)
print(f"\nPicture: {picture}")
