"""Figures 3 and 4: data efficiency on the 3-D Poisson equation (Section 3.1, Appendix F.2.3, Table 8).

``python figure_3.py`` trains every model on ever more samples, for as many steps, and draws the test error against the
number of samples, and the time of the training.
"""

from functools import partial

import matplotlib.pyplot as plt
from _settings import simple_models, table_8
from _study import Problem, Study, pairs

from sklearn_hss.datasets import make_poisson

# A model is trained on the numbers of samples for which the paper compares it, or on all of them.
EVERY = ("Neural-HSS", "Neural-HSS, linear start", "HSSRegressor")
BUDGETS = {
    "smoke": {
        "n_points": 16,
        "modes": (3, 7),
        "n_test": 2,
        "sizes": [3, 4],
        "n_steps": 1,
        "batch_size": 16,
        "all": True,
    },
    "cpu": {
        "n_points": 64,
        "modes": (3, 23),
        "n_test": 16,
        "sizes": [16, 32, 64, 128, 256],
        "n_steps": 64,
        "batch_size": 2,
        "all": False,
        "seeds": 2,
    },
    "paper": {
        "n_points": 128,
        "modes": (3, 23),
        "n_test": 200,
        "sizes": [16, 32, 64, 128, 256],
        "n_steps": 16_000,
        "batch_size": 16,
        "all": True,
        "seeds": 3,
    },
}
CLAIMED = {"FNO": [64], "ResNet": [128], "DeepONet": [128], "kernel ridge": [16, 64]}


def main(arguments=None):
    study = Study(__doc__, BUDGETS, arguments)
    settings = study.settings
    grid = (settings["n_points"],) * 3
    make = partial(pairs, make_poisson, n_points=grid, data_home=study.data_home, dtype="float32")
    n_test = settings["n_test"]
    problem = Problem(
        partial(make, modes=settings["modes"], n_samples=max(settings["sizes"]) + n_test, random_state=0),
        n_test,
        make_shifted=partial(make, forcing="grf", n_samples=n_test, random_state=1),
    )
    tasks = []
    for size in settings["sizes"]:
        models = table_8(settings["n_steps"], size, settings["batch_size"], grid_shape=grid)
        models |= simple_models(size, settings["n_points"] ** 3, grid)
        data = f"{settings['n_points']}^3 points, {settings['n_steps']} steps, {size} samples"
        tasks += [
            {"equation": "Poisson, 3-D", "data": data, "model": name, "problem": problem}
            | {"estimator": model, "n_train": size}
            for name, model in models.items()
            if settings["all"] or name in EVERY or size in CLAIMED.get(name, ())
        ]
    table = study.finish("figure_3", tasks, {})

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for name, rows in table.groupby("model", sort=False):
        left.plot(rows["n_train"], rows["error"], "o-", label=name)
        left.fill_between(rows["n_train"], rows["smallest"], rows["largest"], alpha=0.2)
        right.plot(rows["n_train"], rows["fit_seconds"], "o-", label=name)
    left.set(ylabel="relative L2 error")
    right.set(ylabel="seconds of training")
    for axis in (left, right):
        axis.set(xscale="log", yscale="log", xlabel="training samples")
        axis.set_xticks(settings["sizes"], settings["sizes"])
        axis.set_xticks([], minor=True)
    left.legend(fontsize="small")
    figure.suptitle(f"3-D Poisson, {settings['n_points']}^3 points, {settings['n_steps']} training steps")
    figure.savefig(study.output / "figure_3.png", dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
