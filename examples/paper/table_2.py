"""Table 2: two-dimensional problems (Section 3.2, Tables 5 to 7): ``python table_2.py``.

Poisson equations on the square, between mixed boundary conditions and on the L-shape, the Helmholtz equation, and the
Gray-Scott and Navier-Stokes equations from the first state to a later one and back.
"""

from functools import partial

from _settings import WITHOUT_TRAINING, convolutional, simple_models, standardised, table_5, table_7
from _study import Problem, Study, draw, pairs

from sklearn_hss.datasets import make_gray_scott, make_helmholtz, make_navier_stokes, make_poisson

# Of the elliptic and the other equations: points per axis, training and test samples, epochs, batch size.
BUDGETS = {
    "smoke": {
        "elliptic": (24, 6, 2, 1, 3),
        "other": (32, 4, 2, 1, 2),
        "full": False,
        "equations": ("Poisson", "Gray-Scott, inverse", "Navier-Stokes"),
    },
    "cpu": {"elliptic": (24, 100, 100, 20, 20), "other": (32, 160, 40, 5, 16), "full": True},
    "paper": {"elliptic": (64, None, None, None, None), "other": (128, 960, 240, 10, 64), "full": False, "seeds": 3},
}
# Samples for training and testing, epochs and batch size.
FULL = {
    "Poisson": (4200, 800, 500, 128),
    "Poisson, mixed": (2250, 250, 500, 128),
    "Poisson, L-shape": (2250, 250, 500, 128),
    "Helmholtz": (2250, 250, 1000, 64),
}
ELLIPTIC = {
    "Poisson": make_poisson,
    "Poisson, mixed": partial(make_poisson, domain="perforated"),
    "Poisson, L-shape": partial(make_poisson, domain="l-shape"),
    "Helmholtz": make_helmholtz,
}
OTHER = {
    "Gray-Scott": partial(pairs, make_gray_scott),
    "Gray-Scott, inverse": partial(pairs, make_gray_scott, inverse=True),
    "Navier-Stokes": partial(pairs, make_navier_stokes),
    "Navier-Stokes, inverse": partial(pairs, make_navier_stokes, inverse=True),
}
MODELS = ("Neural-HSS", "FNO", "ResNet", "DeepONet", "Green Learning", "FactFormer")
ROWS = {
    "Poisson": [("37K", 7e-8), ("132K", 7e-6), ("165K", 3e-4), ("280K", 2e-2), ("83K", 5e-5), ("3.9M", 6e-3)],
    "Poisson, mixed": [("37K", 1e-4), ("132K", 6e-3), ("165K", 8e-2), ("280K", 4e-1), ("83K", 1e-2), ("3.9M", 7e-2)],
    "Poisson, L-shape": [("37K", 2e-2), ("132K", 0.2), ("165K", 0.7), ("280K", 0.8), ("83K", 0.5), ("3.9M", 0.2)],
    "Helmholtz": [("37K", 6e-3), ("132K", 5e-2), ("165K", 1.0), ("280K", 1.0), ("83K", 1.0), ("3.9M", 7e-2)],
    "Gray-Scott": [("329K", 0.294), ("2.1M", 0.331), ("1.99M", 0.273), ("2.3M", 0.315), None, ("3.9M", 0.291)],
    "Gray-Scott, inverse": [("329K", 0.203), ("2.1M", 0.208), ("1.99M", 0.193), ("2.3M", 0.276), None, ("3.9M", 0.192)],
    "Navier-Stokes": [("329K", 0.123), ("2.1M", 0.483), ("1.99M", 0.481), ("2.3M", 0.409), None, ("3.9M", 0.14)],
    "Navier-Stokes, inverse": [
        ("329K", 0.208),
        ("2.1M", 0.19),
        ("1.99M", 0.383),
        ("2.3M", 0.514),
        None,
        ("3.9M", 0.21),
    ],
}
PUBLISHED = {
    (row, model): cell for row, cells in ROWS.items() for model, cell in zip(MODELS, cells, strict=True) if cell
}


def elliptic_tasks(equation, n_points, n_train, n_test, n_epochs, batch_size, data_home, budget):
    grid = (n_points, n_points)
    make = partial(pairs, ELLIPTIC[equation], n_points=grid, data_home=data_home)
    problem = Problem(
        partial(make, n_samples=n_train + n_test, random_state=0),
        n_test,
        make_shifted=partial(make, n_samples=n_test, forcing="grf", random_state=1),
    )
    models = {
        # On a CPU, the width of Table 5; a step of the wider network takes four times as long.
        **table_5(128 if budget == "paper" else 64, max_epochs=n_epochs, batch_size=batch_size, grid_shape=grid),
        **simple_models(n_train, n_points**2, grid),
    }
    data = f"{n_points} x {n_points} points, {n_train} samples"
    return [
        {"equation": equation, "data": data, "model": name, "problem": problem, "estimator": model, "n_train": n_train}
        for name, model in models.items()
    ]


def other_tasks(equation, n_points, n_train, n_test, n_epochs, batch_size, data_home):
    grid = (n_points, n_points)
    make = partial(OTHER[equation], n_points=grid, n_samples=n_train + n_test, random_state=0, data_home=data_home)
    models = table_7(max_epochs=n_epochs, batch_size=batch_size, grid_shape=grid)
    models["Neural-HSS, convolutional"] = convolutional(**models["Neural-HSS"].get_params()).set_params(kernel_size=3)
    n_channels = 4 if equation.startswith("Gray") else 1
    models |= simple_models(n_train, n_channels * n_points**2, grid)
    if equation.startswith("Navier"):
        models = {name: standardised(model, grid) for name, model in models.items()}
    data = f"{n_points} x {n_points} points, {n_train} samples, {n_epochs} epochs"
    problem = Problem(make, n_test)
    return [
        {"equation": equation, "data": data, "model": name, "problem": problem, "estimator": model, "n_train": n_train}
        for name, model in models.items()
    ]


def main(arguments=None):
    study = Study(__doc__, BUDGETS, arguments)
    tasks = []
    for equation, (n_train, n_test, n_epochs, batch_size) in FULL.items():
        n_points, *reduced = study.settings["elliptic"]
        full = (n_train, n_test, n_epochs, batch_size)
        sizes = [mine or theirs for mine, theirs in zip(reduced, full, strict=True)]
        own = elliptic_tasks(equation, n_points, *sizes, study.data_home, study.budget)
        tasks += [{**task, "data": f"{task['data']}, {sizes[2]} epochs"} for task in own]
        if study.settings["full"]:
            everything = elliptic_tasks(equation, 64, *full, study.data_home, study.budget)
            tasks += [task for task in everything if task["model"] in WITHOUT_TRAINING]
    for equation in OTHER:
        tasks += other_tasks(equation, *study.settings["other"], study.data_home)
    equations = study.settings.get("equations", ROWS)
    tasks = [task for task in tasks if task["equation"] in equations]
    draw(study.finish("table_2", tasks, PUBLISHED), study.output / "table_2.png")


if __name__ == "__main__":
    main()
