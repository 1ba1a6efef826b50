"""
=================================================
Reading the equation: coefficients of a local law
=================================================

A local law M f = L u is a sparse matrix, and its rows are the equation: what L does to 1, x, x², ... about a point are
the coefficients of u, u_x, u_xx, ... there. ``LocalLawDisplay`` draws them as maps, so that material and flow are seen
in what was learned from solutions. Laws whose coefficients are the same everywhere, nonlinear ones among them, are
drawn as bars.

Takes about half a minute on one core.
"""

# %%
# Materials and a flow
# --------------------
# -div(a grad u) + b . grad u = f on a square with a hole: a is 4 in a disk and 1 elsewhere, with a smooth transition; b
# turns. Nobody tells the model.

from pathlib import Path

import numpy as np

from sklearn_hss import LocalEvolutionRegressor, LocalOperatorRegressor
from sklearn_hss.datasets import make_burgers, make_elliptic
from sklearn_hss.plotting import LocalLawDisplay

n = 40
x, y = np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij")
mask = (x - 0.65) ** 2 + (y - 0.35) ** 2 > 0.15**2


def diffusivity(x, y):
    """From 1 to 4 within a disk."""
    return 1 + 3 / (1 + np.exp(40 * (np.hypot(x - 0.35, y - 0.6) - 0.2)))


velocity = (lambda x, y: -20 * (y - 0.5), lambda x, y: 20 * (x - 0.5))
F, U = make_elliptic(12, (n, n), domain=mask, diffusivity=diffusivity, velocity=velocity, random_state=0, verbose=0)
model = LocalOperatorRegressor(mask=mask, spacing=1 / n, random_state=0).fit(F, U)
print(model.reason_)

# %%
# The coefficients of u_xx and u_yy are -a, and those of u_x and u_y are b - grad a, as differences across two steps
# see it. Maps are blank next to boundaries, where neighbours are missing. The last one marks rows that the samples have
# not determined, of which there are none here.

display = LocalLawDisplay.from_estimator(model, extent=[(0, 1 - 1 / n), (0, 1 - 1 / n)])
display.figure_.savefig("local_law.png", dpi=120)
known = np.isfinite(display.maps["u_xx"])
error = np.abs(display.maps["u_xx"] + diffusivity(x, y))[known].max()
print(f"largest difference of the coefficient of u_xx and -a: {error:.1e}")

# %%
# Burgers' equation
# -----------------
# A law of evolution, u_t = N(u), from eleven states of one simulation. Bars are as long as the terms are large on the
# states of the training, and colours tell signs; the equation is u_t = 0.01 u_xx - 0.5 (u²)_x.

_, trajectories = make_burgers(1, 64, viscosity=1e-2, t_final=2.0, return_trajectories=True, random_state=0, verbose=0)
law = LocalEvolutionRegressor(degree=2, radius=1, dt=0.2, spacing=1 / 64, random_state=0).fit(trajectories)
print(law.formula_)
display = LocalLawDisplay.from_estimator(law)
picture = Path("local_law_burgers.png").resolve()
display.figure_.savefig(picture, dpi=120)
print(f"Picture: {picture}")
