"""
==========================================
Burgers and Gray–Scott from one simulation
==========================================

A nonlinear partial differential equation is a local law: how fast a field changes at a point depends on a few values
around it, in the same way everywhere. ``LocalEvolutionRegressor`` learns that law, u_t = N(u), as a polynomial, from
states that are far apart in time, and steps on from new states. One trajectory, or one pair of states, has thousands
of points, and so is plenty. Networks that learn the step as a whole, beside it, want many more.

Takes about a minute on two cores.
"""

# %%
# Burgers' equation
# -----------------
# The paper's initial states, fronts within a tenth of the time. One trajectory of 20 steps for the law, and up to 20
# for the networks, which get short trainings.

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from sklearn_hss import FNORegressor, LocalEvolutionRegressor, NeuralHSSRegressor, RolloutRegressor
from sklearn_hss.datasets import make_burgers, make_gray_scott
from sklearn_hss.metrics import relative_l2_error

torch.set_num_threads(1)  # of so small networks, more are not faster
settings = {
    "viscosity": 2e-3,
    "t_final": 2.0,
    "store_every": 0.1,
    "step": 0.1,
    "refinement": 4,
    "return_trajectories": True,
    "verbose": 0,
}
times, U = make_burgers(40, 128, random_state=0, **settings)
U_train, U_test = U[:20], U[20:]


def networks(**training):
    """Fourier neural operator and Neural-HSS on patches of the grid, as steps in time."""
    training = {"random_state": 0, **training}
    return {
        "FNO": RolloutRegressor(FNORegressor(width=16, **training)),
        "Neural-HSS": RolloutRegressor(NeuralHSSRegressor(architecture="patches", init="random", **training)),
    }


def errors_of(model, trajectories):
    """Errors of single steps and of rollouts from the first states, and the rollouts, NaN where they diverge."""
    before, after = (part.reshape(-1, *part.shape[2:]) for part in (trajectories[:, :-1], trajectories[:, 1:]))
    rollouts = model.rollout(trajectories[:, 0], trajectories.shape[1] - 1)
    error = relative_l2_error(trajectories[:, 1:], np.nan_to_num(rollouts[:, 1:], nan=1e3))
    return relative_l2_error(after, model.predict(before)), error, rollouts


errors, pictures = {}, {}
for size in (1, 5, 20):
    models = networks(max_epochs=max(60 // size, 6), batch_size=16, lr=3e-3)
    if size < 20:
        models["law"] = LocalEvolutionRegressor(degree=2, dt=0.1, spacing=1 / 128, random_state=0)
    for name, model in models.items():
        start = time.perf_counter()
        model.fit(U_train[:size])
        seconds = time.perf_counter() - start
        errors[name, size], of_rollouts, pictures[name, size] = errors_of(model, U_test)
        print(
            f"Burgers, {size:2} trajectories, {name:10}  {errors[name, size]:.1e} a step, "
            f"{of_rollouts:.1e} in 20 steps, {seconds:.0f} s"
        )
        if name == "law" and size == 1:
            terms = model.law_
            print(f"  {model.formula_}")

# %%
# Gray–Scott
# ----------
# Two substances, 64 x 64 points. Two states of one simulation, 10 s apart, for the law; ten for the networks. Four
# times the usual diffusivities make it a quarter of the usual square, at the same resolution.

rates = {"pattern": "maze", "diffusivities": (8e-5, 4e-5), "parameter_channels": False}
_, V = make_gray_scott(2, (64, 64), states=range(20, 41), return_trajectories=True, random_state=0, verbose=0, **rates)
V_train, V_test = V[:1, :10], V[1:]
models = networks(max_epochs=10, batch_size=1, lr=2e-3, grid_shape=(64, 64))
models["law"] = LocalEvolutionRegressor(dt=10.0, spacing=2 / 64, grid_shape=(64, 64), random_state=0)
for name, model in models.items():
    start = time.perf_counter()
    model.fit(V_train[:, :2] if name == "law" else V_train)
    seconds = time.perf_counter() - start
    of_steps, errors[name, "pair"], pictures[name, "pair"] = errors_of(model, V_test)
    print(f"Gray-Scott, {name:10}  {of_steps:.1e} a step, {errors[name, 'pair']:.1e} in 20 steps, {seconds:.0f} s")
    if name == "law":
        print(model.formula_)

# %%
# The pictures
# ------------
# Above, a test trajectory of Burgers' equation, time upwards, by networks of 20 trajectories and the law of one. Below,
# the second substance after 20 steps.

figure, axes = plt.subplots(2, 5, figsize=(15, 6.6), layout="constrained")
columns = {"truth": None, "law": "law", "FNO": "FNO", "Neural-HSS": "Neural-HSS"}
for axis, (title, name) in zip(axes[0], columns.items(), strict=False):
    field = U_test[0] if name is None else pictures[name, 1 if name == "law" else 20][0]
    size = np.abs(U_test[0]).max() / 2.5
    image = axis.imshow(field, origin="lower", aspect="auto", extent=(0, 1, 0, 2), cmap="RdBu_r", vmin=-size, vmax=size)
    trained = "" if name is None else f"\n{'1 trajectory' if name == 'law' else '20 trajectories'}"
    axis.set(title=title + trained, xticks=[0, 1], yticks=[0, 2], xlabel="x")
axes[0, 0].set_ylabel("Burgers\ntime")
for name in ("law", "FNO", "Neural-HSS"):
    sizes = [size for size in (1, 5, 20) if (name, size) in errors]
    axes[0, 4].loglog(sizes, [errors[name, size] for size in sizes], "o-", label=name)
axes[0, 4].set(xlabel="training trajectories", title="error of one step", xticks=[1, 5, 20], xticklabels=[1, 5, 20])
axes[0, 4].minorticks_off()
axes[0, 4].legend()
for axis, (title, name) in zip(axes[1], columns.items(), strict=False):
    field = (V_test if name is None else pictures[name, "pair"])[0, -1, 1]
    size = V_test[0, -1, 1].max()
    axis.imshow(field.T, origin="lower", cmap="viridis", vmin=0, vmax=size)
    trained = "" if name is None else f"\n{'1 pair' if name == 'law' else '9 pairs'}"
    axis.set(title=title + trained, xticks=[], yticks=[])
axes[1, 0].set_ylabel("Gray–Scott")
axes[1, 4].bar(["law", "FNO", "Neural-HSS"], [errors[name, "pair"] for name in ("law", "FNO", "Neural-HSS")],
               color=["C0", "C1", "C2"])  # fmt: skip
axes[1, 4].set(yscale="log", title="error of 20 steps")
large = [
    f"{'+' if term['coefficient'] > 0 else '-'} {abs(term['coefficient']):.3g} {term['term']}"
    for term in terms
    if term["share"] > 0.1
]
formula = f"u_t = {' '.join(large)} and {len(terms) - len(large)} small terms"
figure.suptitle(f"Learned from one trajectory of Burgers' equation:  {formula}", fontsize="x-large")

picture = Path("one_trajectory.png").resolve()
figure.savefig(picture, dpi=120)
print(f"\nPicture: {picture}")
