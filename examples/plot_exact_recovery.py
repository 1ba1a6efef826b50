"""
===========================================================
Exact recovery: a whole solution operator from a few fields
===========================================================

The solution operator of a linear equation is a matrix with n² entries, yet a few simulations determine it: 3 * rank of
them if it is symmetric (Theorem 2.3 of the Neural-HSS paper), 2 w + 1 if its inverse couples w neighbours on either
side. ``HSSRegressor`` finds it by linear algebra. Here it learns -u'' = f, and other models of scikit-learn beside it.

Takes less than a minute on two cores.
"""

# %%
# Eight simulations
# -----------------
# Right-hand sides of independent normal numbers on 256 points, solved by the second-order scheme. The columns of the
# operator are discrete Green's functions.

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.cross_decomposition import PLSRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge

from sklearn_hss import HSSRegressor, NeuralHSSRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.metrics import relative_l2_error

# Some fits below have too few samples on purpose, and say so.
warnings.simplefilter("ignore", UserWarning)

n = 256
F, U = make_poisson(208, n, forcing="gaussian", order=2, random_state=0)
model = HSSRegressor(random_state=0).fit(F[:8], U[:8])
print(model.operator_)
print(model.reason_)
print(f"relative L2 error on 200 new samples: {relative_l2_error(U[8:], model.predict(F[8:])):.1e}")

exact = make_poisson(forcing=np.eye(n)[1:], order=2)[1].T  # one unit source at a time, none on the boundary
learned = model.operator_.to_dense().numpy()[:, 1:]

# %%
# How many samples?
# -----------------
# The number of samples that suffices does not depend on the number of points, and grows linearly with the rank. The
# operators of higher rank are sums of products of smooth functions, on either side of the diagonal.


def operator_of_rank(rank, n_points=256):
    """Symmetric matrix of the given HSS rank, an even number."""
    x = np.arange(n_points) / n_points
    A = np.diag(1 + np.random.RandomState(0).uniform(size=n_points))
    for k in range(rank // 2):
        upper = np.triu(np.outer(np.cos((k + 1) * x), 1 + np.sin((2 * k + 1) * x)))
        A += upper + np.triu(upper, 1).T
    return A


sizes = {}
for n_points in (256, 1024, 4096):
    F_n, U_n = make_poisson(120, n_points, forcing="gaussian", order=2, random_state=0)
    sizes[n_points] = {
        n_samples: relative_l2_error(
            U_n[20:],
            HSSRegressor(random_state=0, form="forward").fit(F_n[:n_samples], U_n[:n_samples]).predict(F_n[20:]),
        )
        for n_samples in (2, 4, 6, 7, 8, 9, 10, 12)
    }

needed = {}
for rank in (2, 4, 6, 8, 12):
    A = operator_of_rank(rank)
    X = np.random.RandomState(0).standard_normal((150, n))
    closed_form = HSSRegressor(rank=rank, symmetric=True, solver="closed_form", random_state=0)
    for n_samples in range(3 * rank, 6 * rank):
        try:
            prediction = closed_form.fit(X[:n_samples], X[:n_samples] @ A).predict(X[100:])
        except ValueError:  # too few samples
            continue
        if relative_l2_error(X[100:] @ A, prediction) < 1e-6:
            needed[rank] = n_samples
            break
print("\nsamples needed for an error below 1e-6, by rank:", needed)

# %%
# Beside other models
# -------------------
# On normal forcings, and on smooth random fields. Kernel ridge regression and partial least squares are linear here.
# Neural-HSS with random initial weights is the model of the paper, here trained by Levenberg-Marquardt.

METHODS = {
    "HSSRegressor": lambda n_samples: HSSRegressor(random_state=0),
    "least squares": lambda n_samples: LinearRegression(fit_intercept=False),
    "Ridge": lambda n_samples: Ridge(alpha=1e-6, fit_intercept=False),
    "KernelRidge": lambda n_samples: KernelRidge(alpha=1e-6, kernel="linear"),
    "PLSRegression": lambda n_samples: PLSRegression(n_components=min(n_samples - 1, 20), scale=False),
    "Neural-HSS": lambda n_samples: NeuralHSSRegressor(init="random", max_epochs=20, random_state=0),
}
STYLES = dict(zip(METHODS, ["C0o-", "C2x:", "C1s--", "C3v--", "C4^--", "C5d-"], strict=True))
DATA = {
    "normal forcings": make_poisson(500, n, forcing="gaussian", order=2, random_state=0),
    "smooth random fields": make_poisson(500, n, forcing="grf", order=2, refinement=1, random_state=0),
}
SIZES = [4, 6, 8, 10, 20, 40, 80, 160, 300]
curves = {}
for data, (inputs, outputs) in DATA.items():
    for method, make in METHODS.items():
        curves[data, method] = {
            n_samples: relative_l2_error(
                outputs[300:], make(n_samples).fit(inputs[:n_samples], outputs[:n_samples]).predict(inputs[300:])
            )
            for n_samples in (SIZES[::2] if method == "Neural-HSS" else SIZES)
        }

# %%
# Off the training distribution
# -----------------------------
# Forcings of ten sine modes span ten dimensions, and a map from f to u learned from them knows nothing of others. The
# inverse form does: it learns the equation, which is local.

TRAINING = {
    "10 x modes 1-10": make_poisson(10, random_state=0),
    "32 x random fields": make_poisson(32, forcing="grf", random_state=1),
}
TESTS = {
    "modes 1-10": make_poisson(200, random_state=2),
    "modes 11-40": make_poisson(200, modes=(11, 40), random_state=3),
    "random fields": make_poisson(200, forcing="grf", random_state=4),
}
MODELS = {
    "HSSRegressor()": HSSRegressor(random_state=0),
    "HSSRegressor(form='inverse')": HSSRegressor(form="inverse", random_state=0),
    "HSSRegressor(form='forward')": HSSRegressor(form="forward", random_state=0),
    "least squares": LinearRegression(fit_intercept=False),
    "Ridge(alpha=1e-6)": Ridge(alpha=1e-6, fit_intercept=False),
    "Neural-HSS": NeuralHSSRegressor(init="random", max_epochs=20, random_state=0),
}
rows = []
for training, (inputs, outputs) in TRAINING.items():
    for name, estimator in MODELS.items():
        estimator.fit(inputs, outputs)
        errors = {test: relative_l2_error(u, estimator.predict(f)) for test, (f, u) in TESTS.items()}
        rows.append({"trained on": training, "model": name} | errors)
table = pd.DataFrame(rows)
print("\nRelative L2 error:\n")
print(table.to_string(index=False, formatters=dict.fromkeys(TESTS, "{:.1e}".format)))

# %%
# The pictures
# ------------
# Above: the learned Green's functions, the exact ones, and the difference. Below: samples needed, and the comparison.

figure = plt.figure(figsize=(13, 8), layout="constrained")
upper, lower = figure.subfigures(2, 1)
axes = upper.subplots(1, 4, width_ratios=[1, 1, 1, 1.1])
panels = {
    "learned from 8 samples": (learned, "viridis"),
    "exact": (exact, "viridis"),
    "difference": (learned - exact, "RdBu"),
}
for axis, (title, (matrix, colours)) in zip(axes, panels.items(), strict=False):
    limit = np.abs(matrix).max()
    low = 0 if colours == "viridis" else -limit
    image = axis.imshow(matrix, cmap=colours, vmin=low, vmax=limit, extent=(0, 1, 1, 0))
    axis.set(title=title, xlabel="source", ylabel="x" if title.startswith("learned") else None)
    upper.colorbar(image, ax=axis, shrink=0.7)
axes[3].plot(list(needed), list(needed.values()), "C0o-", label="enough for 1e-6")
axes[3].plot(list(needed), [3 * rank for rank in needed], "k:", label="3 * rank")
axes[3].set(xlabel="HSS rank", ylabel="samples", title="samples needed, n = 256")
axes[3].legend()

axes = lower.subplots(1, 3)
for style, (n_points, errors) in zip(("C0o-", "C1s--", "C2^:"), sizes.items(), strict=True):
    axes[0].semilogy(list(errors), list(errors.values()), style, label=f"n = {n_points}", markerfacecolor="none")
axes[0].set(xlabel="samples", ylabel="relative L2 error", title="forward form, rank 2, any n")
axes[0].legend()
for axis, data in zip(axes[1:], DATA, strict=True):
    for method, style in STYLES.items():
        errors = curves[data, method]
        axis.loglog(list(errors), list(errors.values()), style, label=method, markerfacecolor="none")
    axis.set(xlabel="samples", title=data, ylim=(1e-16, 10))
axes[2].legend(fontsize="small", loc="center left", bbox_to_anchor=(1.02, 0.5))

picture = Path("exact_recovery.png").resolve()
figure.savefig(picture, dpi=120)
print(f"\nPicture: {picture}")
