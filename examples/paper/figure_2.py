"""Figure 2: data efficiency on the 1-D Poisson equation (Section 3.1, Appendix F.2.1, Table 9): ``python figure_2.py``.

Every model learns from 10 to 1,000 samples, through scikit-learn's ``learning_curve``, and is tested on 1,000 others.
"""

from functools import partial

import matplotlib.pyplot as plt
from _settings import simple_models, table_9, tuned
from _study import Problem, Study, curves, duration, tasks

from sklearn_hss.datasets import make_poisson

# "trained" takes an hour and a quarter on two cores.
BUDGETS = {
    "smoke": {"n_points": 32, "n_test": 20, "sizes": [10, 32], "epochs": 2},
    "cpu": {"n_points": 64, "n_test": 1000, "sizes": [10, 32, 100, 316, 1000], "epochs": 50, "seeds": 2},
    "trained": {"n_points": 256, "n_test": 1000, "sizes": [10, 32, 100, 316, 1000], "seconds": 180},
    "paper": {"n_points": 256, "n_test": 1000, "sizes": [10, 32, 100, 316, 1000], "epochs": 500, "seeds": 3},
}


def main(arguments=None):
    study = Study(__doc__, BUDGETS, arguments)
    settings = study.settings
    make = partial(make_poisson, n_points=settings["n_points"])
    problem = Problem(
        partial(make, n_samples=max(settings["sizes"]) + settings["n_test"], random_state=0),
        settings["n_test"],
        make_shifted=partial(make, n_samples=settings["n_test"], forcing="grf", random_state=1),
    )
    seconds = settings.get("seconds")
    networks = tuned(table_9(settings="auto"), seconds, lm=True) if seconds else table_9(max_epochs=settings["epochs"])
    models = {**networks, **simple_models(max(settings["sizes"]), settings["n_points"])}
    trained = duration(settings.get("epochs"), 256, seconds)
    data = f"{settings['n_points']} points, {trained}, {settings['n_test']} for testing"
    everything = [
        task
        for size in settings["sizes"]
        for task in tasks("Poisson, 1-D", f"{data}; {size} samples", problem, size, models)
    ]
    table = study.finish("figure_2", everything, {})
    print(f"\n{data}, error by number of samples")
    print(table.pivot_table("error", "model", "n_train", sort=False).to_string(float_format="{:.1e}".format))

    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    curves(axis, table, "n_train")
    axis.set(xlabel="training samples", ylabel="relative L2 error")
    axis.set_title(f"1-D Poisson, {data}")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(study.output / "figure_2.png", dpi=120)
    plt.close(figure)
    return table


if __name__ == "__main__":
    main()
