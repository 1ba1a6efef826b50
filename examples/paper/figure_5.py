"""Figure 5: ablation over rank, outer rank and levels on the Gray-Scott equations (Appendix I): ``python figure_5.py``.

A ``GridSearchCV`` over 90 settings, whose finished fits are kept on disk. ``--backend dask`` runs it on a
``LocalCluster`` of dask instead of joblib's own processes, with the same scores.
"""

import contextlib
from functools import partial

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _settings import table_7
from _study import Remembered, Study, pairs
from sklearn.model_selection import GridSearchCV

from sklearn_hss.datasets import make_gray_scott
from sklearn_hss.metrics import relative_l2_scorer

BUDGETS = {
    "smoke": {"n_points": 16, "states": (0, 1), "n_train": 4, "n_test": 2, "epochs": 1, "batch_size": 2},
    "cpu": {"n_points": 128, "states": (0, 100), "n_train": 160, "n_test": 40, "epochs": 2, "batch_size": 16},
    "paper": {"n_points": 128, "states": (0, 1000), "n_train": 960, "n_test": 240, "epochs": 10, "batch_size": 64},
}
GRID = {"rank": [2, 4, 8, 12, 16], "outer_rank": [2, 4, 8, 16, 24, 32], "levels": [1, 2, 3]}
SMOKE_GRID = {"rank": [1, 2], "outer_rank": [1, 2], "levels": [1, 2]}


def draw(results, title, path):
    """Heat maps of the test error over every pair of parameters, averaged over the third, as the paper's."""
    couples = [("rank", "outer_rank"), ("rank", "levels"), ("outer_rank", "levels")]
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for axis, (down, right) in zip(axes, couples, strict=True):
        values = results.pivot_table("error", down, right)
        image = axis.imshow(values, cmap="viridis")
        axis.set_xticks(range(values.shape[1]), values.columns)
        axis.set_yticks(range(values.shape[0]), values.index)
        axis.set(xlabel=right, ylabel=down)
        figure.colorbar(image, ax=axis, label="relative L2 error")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def backend(name, n_jobs):
    """Context in which joblib's parallel calls are dask's, or what they are."""
    if name != "dask":
        return contextlib.nullcontext()
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise SystemExit("--backend dask needs distributed: pip install 'sklearn-hss[dask]'") from None
    stack = contextlib.ExitStack()
    cluster = stack.enter_context(LocalCluster(n_workers=n_jobs, threads_per_worker=1, dashboard_address=None))
    stack.enter_context(Client(cluster))
    stack.enter_context(joblib.parallel_config("dask"))
    return stack


def fit_seconds(model, X, y):
    """Scorer that tells how long the fit took, by whichever run it was done."""
    return model.fit_seconds_


def search(study, seed):
    """Test error and seconds of training of every setting."""
    settings = study.settings
    points = (settings["n_points"],) * 2
    with joblib.parallel_config("threading"):  # whatever fits the models
        X, y = pairs(
            partial(make_gray_scott, states=settings["states"]),
            n_points=points,
            n_samples=settings["n_train"] + settings["n_test"],
            random_state=0,
            data_home=study.data_home,
            n_jobs=study.n_jobs,
            dtype="float32",
        )
    grid = SMOKE_GRID if study.budget == "smoke" else GRID
    model = table_7(max_epochs=settings["epochs"], batch_size=settings["batch_size"], grid_shape=points)["Neural-HSS"]
    found = GridSearchCV(
        Remembered(model.set_params(random_state=seed), str(study.output / "fits")),
        {f"estimator__{name}": values for name, values in grid.items()},
        cv=[(np.arange(settings["n_train"]), np.arange(settings["n_train"], len(X)))],
        scoring={"error": relative_l2_scorer, "seconds": fit_seconds},
        refit=False,
        n_jobs=study.n_jobs,
        error_score="raise",
        verbose=1,
    )
    found = found.fit(X, y).cv_results_
    table = pd.DataFrame(found["params"]).rename(columns=lambda name: name.removeprefix("estimator__"))
    return table.assign(error=-found["mean_test_error"], fit_seconds=found["mean_test_seconds"])


def main(arguments=None):
    study = Study(__doc__, BUDGETS, arguments, backends=("loky", "dask"))
    if not study.wants("Neural-HSS", "Gray-Scott"):
        raise study.nothing_to_do([("Neural-HSS", "Gray-Scott")])
    with backend(study.backend, study.n_jobs):
        tables = [search(study, seed) for seed in study.seeds]
    settings = study.settings
    data = (
        f"Gray-Scott, {settings['n_points']} x {settings['n_points']} points, {settings['n_train']} samples, state "
        f"{settings['states'][1]}, {settings['epochs']} epochs, batches of {settings['batch_size']}; "
        f"{settings['n_test']} for testing"
    )
    results = pd.concat(tables).groupby(list(GRID))
    results = results.agg(
        error=("error", "mean"),
        smallest=("error", "min"),
        largest=("error", "max"),
        fit_seconds=("fit_seconds", "mean"),
    ).reset_index()
    study.save("figure_5", results.assign(data=data))
    draw(results, data, study.output / "figure_5.png")
    print(f"{data}\n{results.sort_values('error').to_string(index=False, float_format='{:.4f}'.format, max_rows=12)}")


if __name__ == "__main__":
    main()
