"""
==============================================
Trajectories: short simulations, long rollouts
==============================================

``RolloutRegressor`` learns a step in time with any regressor and repeats it; ``LocalEvolutionRegressor`` learns the
equation du/dt = N(u) and integrates it. Both are fitted to three short trajectories of the heat equation here, and
go on for four times as long from new initial states. ``RolloutDisplay`` shows rollouts in space and time, and how
their errors grow.

Takes about twenty seconds on one core.
"""

# %%
# The data
# --------
# Trajectories are arrays (n_trajectories, n_times, \*grid). Ten steps of three of them are for the training.

from pathlib import Path

from sklearn.linear_model import Ridge

from sklearn_hss import HSSRegressor, LocalEvolutionRegressor, RolloutRegressor
from sklearn_hss.datasets import make_heat
from sklearn_hss.metrics import relative_l2_error
from sklearn_hss.plotting import RolloutDisplay

n = 64
times, U = make_heat(8, n, solver="exact", return_trajectories=True, random_state=0, verbose=0)
train, test = U[:3, :11], U[3:]
print(f"trained on {train.shape}, tested on {test.shape}")

# %%
# Three models
# ------------
# Ridge regression knows nothing of states that three trajectories do not show. A linear map whose inverse couples
# neighbours does, and so does a law.

models = {
    "linear map": RolloutRegressor(HSSRegressor(random_state=0)),
    "law": LocalEvolutionRegressor(1, dt=times[1] - times[0], spacing=1 / n, form="law", random_state=0),
    "ridge": RolloutRegressor(Ridge(1e-8, fit_intercept=False)),
}
for name, model in models.items():
    rollouts = model.fit(train).rollout(test[:, 0], len(times) - 1)
    print(f"{name:<11} relative L2 error of {len(times) - 1} steps: {relative_l2_error(test, rollouts):.1e}")
print(models["law"].formula_)
print(f"spectral radius of the linear map: {models['linear map'].spectral_radius_:.5f}")

# %%
# The picture
# -----------
# One of the five test trajectories, and the errors of all: means, and bands from the smallest to the largest.

display = RolloutDisplay.from_estimators(models, test, times=times, extent=(0, 1 - 1 / n))
picture = Path("trajectories.png").resolve()
display.figure_.savefig(picture, dpi=120)
print(f"Picture: {picture}")
