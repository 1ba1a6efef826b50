"""
================================================
Land and sea: fields that are NaN on the islands
================================================

Simulations of the ocean, or of the flow around obstacles, have no values inside of these: files hold NaN there. All
estimators take such fields as they are, with ``mask="auto"`` or the mask itself; predictions are NaN where the data
were, errors and scores count the sea alone, and pictures are blank on land.

Takes about ten seconds on one core.
"""

# %%
# A sea with three islands
# ------------------------
# A current of two gyres carries a tracer, which diffuses and vanishes at the coasts. Ten simulations teach the models,
# fifty others test them.

from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score

from sklearn_hss import ConformalFieldRegressor, HSSRegressor, LocalOperatorRegressor
from sklearn_hss.datasets import make_elliptic
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer
from sklearn_hss.plotting import FieldPredictionDisplay, OperatorDisplay

n = 40
x, y = np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij")
islands = [(0.3, 0.35, 0.13), (0.68, 0.7, 0.16), (0.72, 0.22, 0.08)]
sea = np.all([(x - a) ** 2 + 1.5 * (y - b) ** 2 > r**2 for a, b, r in islands], axis=0)
current = (
    lambda x, y: 40 * np.sin(np.pi * x) * np.cos(2 * np.pi * y),
    lambda x, y: -20 * np.cos(np.pi * x) * np.sin(2 * np.pi * y),
)
F, U = make_elliptic(60, (n, n), domain=sea, velocity=current, length_scale=0.1, random_state=0, verbose=0)
F[:, ~sea] = U[:, ~sea] = np.nan
train, test = slice(10), slice(10, None)

# %%
# The models
# ----------
# ``mask="auto"`` finds the sea. A model of scikit-learn refuses NaN; inside of an estimator of this package, such as
# the one for prediction bands, it gets zeros on land.

models = {
    "LocalOperatorRegressor": LocalOperatorRegressor(mask="auto", random_state=0),
    "HSSRegressor": HSSRegressor(mask="auto", random_state=0),
    "bands around Ridge": ConformalFieldRegressor(Ridge(1e-4), alpha=0.2, mask="auto", random_state=0),
}
for name, model in models.items():
    predicted = model.fit(F[train], U[train]).predict(F[test])
    assert np.isnan(predicted[:, ~sea]).all()
    print(f"{name:<24} error at sea {relative_l2_error(U[test], predicted, mask=sea):.1e}")

# %%
# Scorers know the mask of the model, so that cross-validation needs nothing else.

errors = -cross_val_score(models["LocalOperatorRegressor"], F[:20], U[:20], scoring=relative_l2_scorer, cv=2)
print(f"cross-validated: {errors.max():.1e}")

# %%
# The pictures
# ------------
# A test sample first, as ridge regression predicts it from so few others, with the width of its band.

display = FieldPredictionDisplay.from_estimator(
    models["bands around Ridge"], F[test], U[test], extent=[(0, 1 - 1 / n), (0, 1 - 1 / n)]
)
display.figure_.savefig("domain_with_holes.png", dpi=120)

# %%
# The learned law is exact, and its inverse tells how a source at one point spreads: downstream, and around the islands.

display = OperatorDisplay.from_estimator(models["LocalOperatorRegressor"], columns=[(14, 5), (8, 28), (33, 15)])
picture = Path("domain_with_holes_sources.png").resolve()
display.figure_.savefig(picture, dpi=120)
print(f"Picture: {picture}")
