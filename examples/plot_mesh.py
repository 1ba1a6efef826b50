"""
==========================================
Finite elements: learning on your own mesh
==========================================

A mesh has no grid: fields are vectors with a number for each node. ``LocalOperatorRegressor`` needs to know which nodes
are neighbours, or where they are. Here, scikit-fem makes a disk with two materials, a flow and a mass matrix, and
twenty of its solutions teach the equation. Displays take the nodes and triangles of the mesh.

Takes about ten seconds on one core. It needs scikit-fem, ``pip install "sklearn-hss[fem]"``.
"""

# %%
# The mesh and the simulations
# ----------------------------
# Any mesh of triangles of scikit-fem will do, one that was read from a file, too.

from pathlib import Path

import numpy as np
import skfem

from sklearn_hss import LocalOperatorRegressor
from sklearn_hss.datasets import make_elliptic_mesh
from sklearn_hss.metrics import relative_l2_error
from sklearn_hss.plotting import FieldPredictionDisplay, OperatorDisplay

disk = skfem.MeshTri.init_circle(4)
F, U, mesh, neighbours = make_elliptic_mesh(
    70,
    disk,
    diffusivity=lambda x, y: np.where(x + 0.3 * y > 0.1, 5.0, 1.0),
    velocity=(lambda x, y: -30 * y, lambda x, y: 30 * x),
    length_scale=0.15,
    return_mesh=True,
    random_state=0,
    verbose=0,
)
points, triangles = mesh.p.T, mesh.t.T
print(f"{len(points)} nodes, {len(triangles)} triangles, fields of shape {F.shape}")

# %%
# Neighbours, or points
# ---------------------
# Triangles tell exactly which nodes are coupled. Where coordinates are all that is known, the nearest nodes are taken,
# which are more, so that more samples are needed.

for name, law, n_samples in (("neighbours", {"neighbours": neighbours}, 20), ("points", {"points": points}, 40)):
    model = LocalOperatorRegressor(**law, random_state=0).fit(F[:n_samples], U[:n_samples])
    print(f"{name:<11} {n_samples} samples: error {relative_l2_error(U[40:], model.predict(F[40:])):.1e}")

# %%
# White noise is unlike anything in the training, and the law holds for it as well.

model = LocalOperatorRegressor(neighbours=neighbours, random_state=0).fit(F[:20], U[:20])
white, of_white = make_elliptic_mesh(
    5,
    disk,
    diffusivity=lambda x, y: np.where(x + 0.3 * y > 0.1, 5.0, 1.0),
    velocity=(lambda x, y: -30 * y, lambda x, y: 30 * x),
    forcing="gaussian",
    random_state=1,
    verbose=0,
)
print(f"white noise: error {relative_l2_error(of_white, model.predict(white)):.1e}")

# %%
# The pictures
# ------------
# A test sample, and responses to sources at single nodes: the flow turns them around the middle.

on_mesh = {"points": points, "triangles": triangles}
FieldPredictionDisplay.from_estimator(model, F[40:], U[40:], **on_mesh).figure_.savefig("mesh.png", dpi=120)
display = OperatorDisplay.from_estimator(model, **on_mesh)
picture = Path("mesh_sources.png").resolve()
display.figure_.savefig(picture, dpi=120)
print(f"Picture: {picture}")
