"""Figure 6: from Burgers' equation to the heat equation (Appendix J): ``python figure_6.py``.

The models of Table 4 learn time steps of u_t + beta u u_x = nu u_xx for three beta. The rows of beta = 1 are those of
Table 1.
"""

import matplotlib.pyplot as plt
from _study import Study, curves
from table_1 import BUDGETS as ALL_BUDGETS
from table_1 import equation_tasks

#: Training for each beta takes as much of a night as for beta = 1.
BUDGETS = {name: settings for name, settings in ALL_BUDGETS.items() if name != "trained"}
BETAS = (1.0, 1e-2, 1e-4)


def main(arguments=None):
    study = Study(__doc__, BUDGETS, arguments)
    everything = [{**task, "beta": beta} for beta in BETAS for task in equation_tasks(study, "burgers", beta=beta)]
    table = study.finish("figure_6", everything, {})

    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    points = table["data"].str.partition(",")[0]  # not the same for all, and errors are sums over them
    curves(axis, table.assign(model=table["model"] + ", " + points), "beta")
    axis.set(xlabel="beta", ylabel="trajectory L2 error")
    axis.set_title(f"Burgers, {table['data'].iloc[0]}", fontsize="medium")
    axis.invert_xaxis()
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    figure.savefig(study.output / "figure_6.png", dpi=120)
    plt.close(figure)
    return table


if __name__ == "__main__":
    main()
