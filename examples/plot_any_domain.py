"""
==========================================
Any domain: one law, a handful of examples
==========================================

Differential equations are local: f at a point depends on u at the point and its neighbours. ``LocalOperatorRegressor``
learns this, a sparse law M f = L u with coefficients of its own at every point, and predicts by solving it. It needs
about as many simulations as a point has neighbours, whatever the domain and the coefficients are. Here it learns the
equation on an L-shape of two materials, around a hole with a flow, and on a mesh of finite elements, beside models that
know nothing of locality.

Takes less than a minute on two cores. The mesh needs scikit-fem, ``pip install "sklearn-hss[fem]"``.
"""

# %%
# Three equations
# ---------------
# Blocks of two materials of contrast 20 on an L-shape; a swirling flow around a hole; and finite elements of a bent
# L-shape, whose mass matrix averages f over neighbours, so that the law has two sides.

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV

from sklearn_hss import FNORegressor, LocalOperatorRegressor, NeuralHSSRegressor
from sklearn_hss.datasets import make_elliptic, make_elliptic_mesh
from sklearn_hss.metrics import relative_l2_error

n = 48
x, y = np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij")
l_shape = (x < 0.5) | (y < 0.5)
blocks = 1.0 + 19 * np.kron(np.random.RandomState(1).uniform(size=(8, 8)) > 0.5, np.ones((6, 6)))
around_hole = (x - 0.42) ** 2 + (y - 0.55) ** 2 > 0.2**2
swirl = (
    lambda x, y: 60 * np.sin(np.pi * x) * np.cos(np.pi * y),
    lambda x, y: -60 * np.cos(np.pi * x) * np.sin(np.pi * y),
)
settings = {"length_scale": 0.1, "random_state": 0, "verbose": 0}

F_mesh, U_mesh, mesh, adjacency = make_elliptic_mesh(
    120, diffusivity=lambda x, y: 1 + 0.5 * np.sin(3 * x + y), velocity=(5.0, -5.0), return_mesh=True, **settings
)
F_blocks, U_blocks = make_elliptic(108, (n, n), domain=l_shape, diffusivity=blocks, **settings)
F_flow, U_flow = make_elliptic(108, (n, n), domain=around_hole, velocity=swirl, **settings)
problems = {
    "two materials,\nL-shape": (8, {"mask": l_shape}, {"mask": l_shape}, F_blocks, U_blocks),
    "flow around a hole": (8, {"mask": around_hole}, {"mask": around_hole}, F_flow, U_flow),
    "finite elements": (20, {"neighbours": adjacency}, {}, F_mesh, U_mesh),
}

# %%
# Five models
# -----------
# Ridge regression chooses its penalty by cross-validation. The networks have short trainings, 80 epochs of small
# batches. The nodes of the mesh are no grid, which the Fourier neural operator needs, so that it does not take part
# there; Neural-HSS takes them in their order as a line.


class FlatRidge(RidgeCV):
    """Ridge regression of flattened fields."""

    def fit(self, X, y):
        self.shape_ = y.shape[1:]
        return super().fit(X.reshape(len(X), -1), y.reshape(len(y), -1))

    def predict(self, X):
        return super().predict(X.reshape(len(X), -1)).reshape(-1, *self.shape_)


training = {"settings": "paper", "max_epochs": 80, "batch_size": 4, "lr": 4e-3, "random_state": 0}
rows, predictions = [], {}
for name, (n_samples, law, domain, F, U) in problems.items():
    models = {
        "LocalOperatorRegressor": LocalOperatorRegressor(**law, random_state=0),
        "Neural-HSS": NeuralHSSRegressor(**domain, init="random", **training),
        "FNO": FNORegressor(width=16, modes=8, **domain, **training),
        "ridge": FlatRidge(np.logspace(-12, 2, 15), fit_intercept=False),
    }
    if F.ndim == 2:
        del models["FNO"]
    for model_name, model in models.items():
        start = time.perf_counter()
        model.fit(F[:n_samples], U[:n_samples])
        seconds = time.perf_counter() - start
        predicted = model.predict(F[n_samples:])
        error = relative_l2_error(U[n_samples:], predicted, **domain)
        predictions[name, model_name] = predicted[0], error
        rows.append(
            {
                "problem": name.replace("\n", " "),
                "samples": n_samples,
                "model": model_name,
                "error": f"{error:.1e}",
                "seconds": f"{seconds:.1f}",
            }
        )
print(pd.DataFrame(rows).to_string(index=False))

# %%
# A source of another kind
# ------------------------
# A law is not bound to the forcings it was learned from. It was taught by smooth fields; here are point sources.

F_sources = np.zeros((5, n, n))
F_sources[np.arange(5), [8, 12, 30, 40, 6], [40, 8, 6, 15, 20]] = n**2
_, U_sources = make_elliptic(forcing=F_sources, domain=l_shape, diffusivity=blocks, verbose=0)
model = LocalOperatorRegressor(mask=l_shape, random_state=0).fit(F_blocks[:8], U_blocks[:8])
print(f"\npoint sources, error {relative_l2_error(U_sources, model.predict(F_sources)):.1e}")
print(model.reason_)

# %%
# The pictures
# ------------
# A test sample of each problem, with the error over all of them.

columns = ["LocalOperatorRegressor", "difference", "ridge", "FNO", "Neural-HSS"]
figure, axes = plt.subplots(len(problems), 1 + len(columns), figsize=(15, 7.6), layout="constrained")


def draw(axis, field, domain, **colours):
    """A field on a mesh or a grid, blank outside of the domain; returns what a colour bar needs."""
    axis.set(xticks=[], yticks=[], aspect="equal")
    axis.set_facecolor("0.88")
    for side in axis.spines.values():
        side.set_visible(False)
    if field.ndim == 1:
        axis.set_facecolor("none")
        return axis.tripcolor(*mesh.p, mesh.t.T, field, shading="gouraud", **colours)
    return axis.imshow(np.where(domain["mask"], field, np.nan).T, origin="lower", **colours)


for row, (name, (n_samples, _, domain, _, U)) in zip(axes, problems.items(), strict=True):
    truth = U[n_samples]
    size = np.abs(truth).max()
    shared = {"cmap": "RdBu_r", "vmin": -size, "vmax": size}
    image = draw(row[0], truth, domain, **shared)
    row[0].set_title("solution")
    row[0].text(-0.14, 0.5, f"{name}\n{n_samples} samples", rotation=90, va="center", ha="center",
                transform=row[0].transAxes, fontsize="large")  # fmt: skip
    for axis, column in zip(row[1:], columns, strict=True):
        if column == "difference":
            error = predictions[name, columns[0]][0] - truth
            size = np.abs(error).max()
            figure.colorbar(draw(axis, error, domain, cmap="PuOr", vmin=-size, vmax=size), ax=axis, shrink=0.8)
            axis.set_title("difference")
        elif (name, column) in predictions:
            predicted, error = predictions[name, column]
            draw(axis, predicted, domain, **shared)
            axis.set_title(f"{column}\nerror {error:.0e}")
        else:
            axis.axis("off")
            axis.text(0.5, 0.5, "needs a grid", ha="center", va="center", transform=axis.transAxes, color="grey")
    figure.colorbar(image, ax=row[-1], shrink=0.8)

picture = Path("any_domain.png").resolve()
figure.savefig(picture, dpi=120)
print(f"\nPicture: {picture}")
