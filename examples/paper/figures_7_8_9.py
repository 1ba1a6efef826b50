"""Figures 7 to 9: time of a forward pass, and of a forward and a backward pass (Section 3.2, Appendix K).

``python figures_7_8_9.py`` times the networks of Tables 3 to 7 on the grids of the paper's data, with the paper's
batches or smaller ones.
"""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from _settings import table_3, table_4, table_5, table_7
from _study import Study
from sklearn.base import clone
from torch.utils.benchmark import Timer

# Models, shape of an input and of an output, and the batch size of the paper.
CASES = {
    "Heat": (table_3, (256,), (256,), 256),
    "Burgers": (table_4, (256,), (256,), 256),
    "Poisson, 2-D": (table_5, (64, 64), (64, 64), 128),
    "Gray-Scott": (table_7, (4, 128, 128), (2, 128, 128), 64),
    "Navier-Stokes": (table_7, (128, 128), (128, 128), 64),
}
# How much smaller batches are, how long to measure each pass, and what is left out in two dimensions: Green Learning's
# kernels on all pairs of 4,096 points take minutes on a CPU.
BUDGETS = {
    "smoke": {"divisor": 64, "seconds": 0.01, "without": (), "cases": ["Heat"]},
    "cpu": {"divisor": 16, "seconds": 2.0, "without": ("Green Learning",), "cases": list(CASES)},
    "paper": {"divisor": 1, "seconds": 5.0, "without": (), "cases": list(CASES)},
}


def network(estimator, X, y):
    """The network that an estimator trains."""
    return clone(estimator).set_params(max_epochs=1).partial_fit(X, y).net_.module_


def main(arguments=None):
    study = Study(__doc__, BUDGETS, arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, known = [], []
    for case in study.settings["cases"]:
        table, shape_in, shape_out, batch_size = CASES[case]
        batch_size = max(1, batch_size // study.settings["divisor"])
        grid = shape_in[-2:] if len(shape_in) > 1 else shape_in
        for name, estimator in table(grid_shape=grid, batch_size=batch_size).items():
            if name == "Neural-HSS, linear start" or (len(grid) == 2 and name in study.settings["without"]):
                continue
            known.append((name, case))
            if not study.wants(name, case):
                continue
            x, y = torch.randn(batch_size, *shape_in, device=device), torch.randn(batch_size, *shape_out, device=device)
            net = network(estimator, x[:1].cpu().numpy(), y[:1].cpu().numpy()).to(device)
            names = {"net": net, "x": x, "y": y}
            timed = {}
            for key, statement in {
                # With gradients, because without them some networks keep what does not depend on x.
                "forward": "net(x)",
                "forward + backward": "(net(x) - y).square().sum().backward()",
            }.items():
                timer = Timer(statement, globals=names, num_threads=1)
                timed[key] = timer.blocked_autorange(min_run_time=study.settings["seconds"]).median
            rows.append({"equation": case, "batch_size": batch_size, "model": name, **timed})
            print(
                f"{case:<14} batch {batch_size:>3} {name:<16}",
                *(f"{k} {v * 1e3:9.2f} ms" for k, v in timed.items()),
                flush=True,
            )
    if not rows:
        raise study.nothing_to_do(known)
    results = pd.DataFrame(rows)
    study.save("figures_7_8_9", results)

    n_cases = results["equation"].nunique()
    figure, axes = plt.subplots(2, n_cases, figsize=(13, 5.5), squeeze=False, layout="constrained")
    for column, (case, group) in zip(axes.T, results.groupby("equation", sort=False), strict=True):
        for axis, key in zip(column, ("forward", "forward + backward"), strict=True):
            axis.barh(group["model"][::-1], group[key][::-1] * 1e3)
            axis.set(xscale="log", xlabel=f"{key}, ms")
            axis.set_title(f"{case}, batch {group['batch_size'].iloc[0]}", fontsize="medium")
            if column is not axes.T[0]:
                axis.tick_params(labelsize=7)
    figure.savefig(study.output / "figures_7_8_9.png", dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
