"""
====================================
A learned operator as preconditioner
====================================

Ten simulations of a convection-diffusion-reaction equation are given, as forcings and solutions in single precision.
``HSSRegressor`` learns the map from one to the other. The problem to be solved is a neighbouring one, though: its
coefficients differ by some per cent, and an integral over the whole domain, which makes the matrix dense, is added. The
learned operator is no longer its inverse, but a preconditioner M with which GMRES needs few iterations.

Takes about ten seconds.
"""

# %%
# The simulations
# ---------------
# The equation is -(a u')' + v u' + c u = f on 1,000 points, with u = 0 at both ends.

import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.linalg import matmul_toeplitz
from scipy.sparse import diags
from scipy.sparse.linalg import LinearOperator, gmres, spilu, spsolve

from sklearn_hss import HSSRegressor

N_POINTS = 1000
H = 1 / (N_POINTS + 1)
x = H * np.arange(1, N_POINTS + 1)


def equation(diffusion, velocity, reaction):
    """Tridiagonal matrix of the equation, by central differences."""
    a = diffusion(H * (np.arange(N_POINTS + 1) + 0.5)) / H**2
    v = velocity(x) / (2 * H)
    diagonals = [-a[1:-1] - v[1:], a[:-1] + a[1:] + reaction(x), -a[1:-1] + v[:-1]]
    return diags(diagonals, offsets=[-1, 0, 1], format="csc")


def diffusion(x):
    return 0.1 * np.exp(1.5 * np.sin(7 * x))


def velocity(x):
    return 2 * np.cos(4 * x)


def reaction(x):
    return 1 + 4 * x


rng = np.random.default_rng(0)
modes = np.arange(1, 41)
F = rng.standard_normal((10, len(modes))) / modes @ np.sin(np.pi * modes[:, None] * x)
simulated = equation(diffusion, velocity, reaction)
U = spsolve(simulated, F.T).T
F, U = F.astype(np.float32), U.astype(np.float32)

# %%
# The operator
# ------------
# That is all that the regressor sees: not the equation, its coefficients or its matrix.

start = time.perf_counter()
model = HSSRegressor(random_state=0).fit(F, U)
print(f"{model}: {time.perf_counter() - start:.2f} s")
print(f"{model.operator_}\n{model.reason_}")

# %%
# The problem to be solved
# ------------------------
# Every coefficient changes by up to ``size`` of its value, smoothly and on its own, and each point is coupled to all
# others. The product with the dense matrix takes a fast Fourier transform; its entries are never formed.

couplings = 50 * H * np.exp(-(x - x[0]) / 0.1)
b = np.exp(-(((x - 0.3) / 0.05) ** 2))


def changed(coefficient, size, seed):
    weights = np.random.default_rng(seed).standard_normal(4)
    largest = np.abs(weights @ np.cos(np.pi * np.arange(1, 5)[:, None] * x)).max()
    return lambda x: coefficient(x) * (1 + size * weights @ np.cos(np.pi * np.arange(1, 5)[:, None] * x) / largest)


def neighbour(size):
    """Local part of the neighbouring problem, a sparse matrix, and the whole of it."""
    terms = (diffusion, velocity, reaction)
    local = equation(*(changed(term, size, seed) for seed, term in enumerate(terms)))
    return local, operator(lambda u: local @ u + matmul_toeplitz(couplings, u))


def operator(product):
    return LinearOperator((N_POINTS, N_POINTS), matvec=lambda u: product(u.ravel()), dtype=float)


# %%
# The learned operator goes into SciPy's solvers as it is.

M = model.operator_.aslinearoperator()
_, A = neighbour(0.1)
u, info = gmres(A, b, M=M)
print(f"\ngmres(A, b, M=M): info={info}, relative residual {np.linalg.norm(A @ u - b) / np.linalg.norm(b):.1e}")

# %%
# The comparison
# --------------
# Below, GMRES gets A M, and u = M y: SciPy applies `M` from the left and then reports residuals that are multiplied by
# it, which says little about A u = b. Its default tolerance, 1e-5, holds in all cases.
#
# A tridiagonal matrix has no fill-in, so that the "incomplete" LU factors are complete and the local part is inverted
# exactly: that of the new problem, where its matrix can be had, or that of the simulations.

LIMIT = 400


def residuals(A, M):
    history = [1.0]
    y, _ = gmres(A @ M, b, restart=LIMIT, maxiter=1, callback=history.append, callback_type="pr_norm")
    return history, M @ y


sizes = [0, 0.01, 0.03, 0.1, 0.3, 0.6]
histories, solutions = {}, {}
for size in sizes:
    local, A = neighbour(size)
    diagonal = local.diagonal()
    preconditioners = {
        "none": operator(lambda u: u),
        "Jacobi": operator(lambda u, diagonal=diagonal: u / diagonal),
        "ILU, new": operator(spilu(local).solve),
        "ILU, simulated": operator(spilu(simulated).solve),
        "learned": M,
    }
    histories[size] = {}
    for name, preconditioner in preconditioners.items():
        # The last solution, that of the learned operator, is kept for the picture.
        histories[size][name], solutions[size] = residuals(A, preconditioner)

counts = pd.DataFrame(
    {name: [len(histories[size][name]) - 1 for size in sizes] for name in preconditioners},
    index=pd.Index([f"{size:.0%}" for size in sizes], name="change"),
)
print("\nIterations of GMRES until the residual is 1e-5 of the right-hand side:\n")
print(counts.map(lambda count: f"> {LIMIT}" if count >= LIMIT else str(count)).to_string())

# %%
# The learned operator does as well as the LU factors of the matrix that made the simulations, though it comes from ten
# solutions in single precision. It does no better, either. With a matrix at hand, ``spilu`` is the better choice: that
# of the new local part hardly notices by how much the coefficients have changed, and an application takes less time.

for name in ("ILU, simulated", "learned"):
    start = time.perf_counter()
    for _ in range(200):
        preconditioners[name] @ b
    print(f"one application, {name}: {(time.perf_counter() - start) / 200 * 1e3:.3f} ms")

# %%
# The learned operator is for those who have the simulations and not the matrix.
#
# Left: what the regressor predicts for b, and the solutions of the neighbouring problems.

figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
styles = {
    "none": {"color": "0.6", "label": "no preconditioner"},
    "Jacobi": {"color": "0.35", "linestyle": ":", "label": "Jacobi"},
    "ILU, new": {"color": "C2", "linestyle": "--", "marker": "s", "label": "ILU of the new local part"},
    "ILU, simulated": {"color": "C1", "linewidth": 5, "alpha": 0.45, "label": "ILU of the simulated matrix"},
    "learned": {"color": "C0", "marker": "o", "label": "learned from 10 simulations"},
}
axes[0].plot(x, model.predict(b[None])[0], "0.6", label="simulated equation (predicted)")
for size, shade in ((0, 0.35), (0.3, 0.7), (0.6, 1)):
    label = "with integral term" + (f", coefficients ± {size:.0%}" if size else "")
    axes[0].plot(x, solutions[size], "C0", alpha=shade, label=label)
axes[0].set(xlabel="x", ylabel="u", title="solutions", ylim=(None, 0.043))
axes[0].legend(fontsize="small", loc="upper right")
for name, style in styles.items():
    axes[1].loglog(range(1, len(histories[0.1][name])), histories[0.1][name][1:], markersize=5, **style)
    if name not in ("none", "Jacobi"):
        axes[2].plot(np.array(sizes) * 100, counts[name], markersize=5, **style)
axes[1].set_xticks([1, 10, 100, LIMIT], [1, 10, 100, LIMIT])
axes[1].set(xlabel="iteration", ylabel="relative residual", title="coefficients ± 10%")
axes[1].legend(fontsize="small")
axes[2].set(
    xlabel="change of the coefficients [%]", ylabel="iterations", title="until the residual is 1e-5", ylim=(0, None)
)
axes[2].legend(fontsize="small")
figure.savefig("preconditioner.png", dpi=120)
