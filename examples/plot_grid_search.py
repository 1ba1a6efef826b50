"""
========================================
Choosing rank and levels by GridSearchCV
========================================

The HSS rank and the depth of the cluster tree are ordinary hyper-parameters. The search below compares nine structures
by cross-validation with the paper's relative L2 error, two fits at a time.

Takes less than half a minute on two cores.
"""

# %%
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.model_selection import GridSearchCV

from sklearn_hss import NeuralHSSRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.metrics import relative_l2_scorer

F, U = make_poisson(n_samples=120, n_points=64, random_state=0)

search = GridSearchCV(
    NeuralHSSRegressor(init="random", max_epochs=10, random_state=0),
    {"rank": [1, 2, 4], "levels": [1, 2, 3]},
    scoring=relative_l2_scorer,
    cv=3,
    n_jobs=2,
    verbose=1,
).fit(F, U)

print(f"best: {search.best_params_}, relative L2 error {-search.best_score_:.1e}")

# %%
# The scores, and what the structures cost in parameters.

results = pd.DataFrame(search.cv_results_)
errors = -results.pivot(index="param_levels", columns="param_rank", values="mean_test_score")
print("\nmean relative L2 error (rows: levels, columns: rank)")
print(errors.to_string(float_format="{:.1e}".format))

figure, axis = plt.subplots(figsize=(4.8, 4), layout="constrained")
image = axis.imshow(errors, origin="lower", cmap="viridis_r", norm="log")
axis.set(xlabel="rank", ylabel="levels", title="cross-validated relative L2 error")
axis.set_xticks(range(len(errors.columns)), errors.columns)
axis.set_yticks(range(len(errors.index)), errors.index)
for row, level in enumerate(errors.index):
    for column, rank in enumerate(errors.columns):
        value = errors.loc[level, rank]
        shade = "white" if value**2 > errors.to_numpy().min() * errors.to_numpy().max() else "black"
        axis.text(column, row, f"{value:.1e}", ha="center", va="center", color=shade)
figure.colorbar(image)
figure.savefig("grid_search.png", dpi=120)
