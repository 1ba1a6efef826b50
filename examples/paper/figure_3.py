"""Figures 3 and 4: data efficiency on the 3-D Poisson equation (Section 3.1, Appendix F.2.3, Table 8).

``python figure_3.py`` trains the models on ever more samples, for as many steps but at least one epoch, and draws the
test error against the number of samples, and the time of the training.
"""

from functools import partial

import matplotlib.pyplot as plt
from _settings import simple_models, table_8, tuned
from _study import Problem, Study, curves, duration, pairs, tasks

from sklearn_hss.datasets import make_poisson

SIZES = [16, 32, 64, 128, 256]
# "on" are the numbers of samples that each model learns from, where not all learn from all. At the cpu budget, what
# trains fast learns from all, other networks from the largest number that the paper's claims about them have and that
# trains in minutes. With "trained", it is what 20 GiB of memory and an hour for each network allow, one at a time, a
# night in all: a step of ResNet takes a minute and a half with a single sample, and DeepONet 16 GiB beside the data.
BUDGETS = {
    "smoke": {
        "n_points": 16,
        "modes": (3, 7),
        "n_test": 2,
        "sizes": [3, 4],
        "n_steps": 1,
        "batch_size": 16,
    },
    "cpu": {
        "n_points": 64,
        "modes": (3, 23),
        "n_test": 16,
        "sizes": SIZES,
        "n_steps": 64,
        "batch_size": 2,
        "on": {
            "Neural-HSS": SIZES,
            "Neural-HSS, linear start": SIZES,
            "FNO": [64],
            "ResNet": [128],
            "DeepONet": [128],
            "kernel ridge": [16, 64],
            "HSSRegressor": SIZES,
        },
    },
    "trained": {
        "n_points": 128,
        "modes": (3, 23),
        "n_test": 32,
        "sizes": SIZES,
        "seconds": 900,
        "batch_size": 1,
        "on": {
            "Neural-HSS": SIZES,
            "Neural-HSS, linear start": SIZES[:3],
            "FNO": SIZES[:4],
            "kernel ridge": [16],
            "HSSRegressor": SIZES[:3],
        },
        "n_jobs": 1,
    },
    "paper": {
        "n_points": 128,
        "modes": (3, 23),
        "n_test": 200,
        "sizes": SIZES,
        "n_steps": 16_000,
        "batch_size": 16,
        "seeds": 3,
    },
}


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
    everything, lengths = [], []
    batch_size, seconds = settings["batch_size"], settings.get("seconds")
    for size in settings["sizes"]:
        if seconds:
            networks = tuned(table_8(batch_size=batch_size, grid_shape=grid, settings="auto"), seconds)
            lengths.append(duration(None, None, seconds))
        else:
            networks = table_8(settings["n_steps"], size, batch_size, grid_shape=grid)
            lengths.append(f"{networks['FNO'].max_epochs * -(-size // batch_size)} steps")
        models = {**networks, **simple_models(size, settings["n_points"] ** 3, grid)}
        data = f"{settings['n_points']}^3 points, {lengths[-1]}, batches of {batch_size}"
        chosen = [name for name in models if "on" not in settings or size in settings["on"].get(name, ())]
        everything += tasks(
            "Poisson, 3-D",
            f"{data}, {n_test} for testing; {size} samples",
            problem,
            size,
            {name: models[name] for name in chosen},
        )
    table = study.finish("figure_3", everything, {})

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    curves(left, table, "n_train")
    curves(right, table, "n_train", "fit_seconds", spread=False)
    left.set(ylabel="relative L2 error")
    right.set(ylabel="seconds of training")
    for axis in (left, right):
        axis.set(xlabel="training samples")
        axis.set_xticks(settings["sizes"], settings["sizes"])
        axis.set_xticks([], minor=True)
    left.legend(fontsize="small")
    length = " to ".join(dict.fromkeys((lengths[0], lengths[-1])))
    figure.suptitle(f"3-D Poisson, {settings['n_points']}^3 points, {length}")
    figure.savefig(study.output / "figure_3.png", dpi=120)
    plt.close(figure)
    return table


if __name__ == "__main__":
    main()
