"""Networks trained on samples that a local law makes: ``python bench_local_networks.py``, about five minutes.

FNO and Neural-HSS are trained on real pairs, and on as many pairs of a law that was fitted to ten real ones: forcings
of the same kind and the solutions of the law for them. Both are tested on the same real pairs, beside the law itself.
"""

import argparse
import warnings
from collections.abc import Callable

from _linear_problems import flux_matrix
from _local_problems import wavy
from _training import PAPER_FNO
from scipy.sparse.linalg import splu

from sklearn_hss import FNORegressor, HSSRegressor, NeuralHSSRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.metrics import relative_l2_error

N_LAW, N_TRAIN, N_TEST = 10, 1000, 100
# The factor between the errors that must not be exceeded.
WITHIN = 1.5


def variable(n_samples, grid, random_state):
    """-div(a grad u) = f with a coefficient that is no product, for random fields inside of the square.

    Forcings of a few sines would not do: all of them vanish on the same lines, where they tell nothing about a law.
    """
    F, _ = make_poisson(n_samples, [n + 1 for n in grid], forcing="grf", refinement=1, random_state=random_state)
    F = F[:, 1:, 1:]
    U = splu(flux_matrix(wavy(grid))).solve(F.reshape(n_samples, -1).T).T
    return F, U.reshape(F.shape)


#: Functions of the number of samples and the seed.
PROBLEMS: dict[str, Callable] = {
    "1-D, 256": lambda n, seed: make_poisson(n, 256, random_state=seed),
    "box, 32 x 32": lambda n, seed: make_poisson(n, (32, 32), random_state=seed),
    "variable a, 31 x 31": lambda n, seed: variable(n, (31, 31), random_state=seed),
}


def networks(n_axes, **training):
    """The paper's two networks (Tables 5 and 9), from random weights."""
    rates = {"lr": 1e-3, "weight_decay": 1e-3} if n_axes == 1 else {"lr": 8e-4, "weight_decay": 1e-5}
    training = {"settings": "paper", "batch_size": 32, "random_state": 0, **rates, **training}
    return {
        "FNO": FNORegressor(**PAPER_FNO[n_axes], **training),
        "Neural-HSS": NeuralHSSRegressor(init="random", **training),
    }


def compare(make, epochs, n_train=None, n_test=None):
    """Errors on real samples: of the law, and of every network trained on real pairs and on those of the law.

    Parameters
    ----------
    make : callable
        One of `PROBLEMS`.
    epochs : int
    n_train, n_test : int, default=None
        `N_TRAIN` and `N_TEST` if None.

    Returns
    -------
    law : float
    errors : dict of str to (float, float)
    """
    n_train, n_test = n_train or N_TRAIN, n_test or N_TEST
    F, U = make(n_train + n_test, 0)
    real, test = (F[:-n_test], U[:-n_test]), (F[-n_test:], U[-n_test:])
    law = HSSRegressor(solver="local", random_state=0).fit(F[:N_LAW], U[:N_LAW])
    forcings, _ = make(n_train, 1)
    drawn = forcings, law.predict(forcings)

    def error(model):
        return relative_l2_error(test[1], model.predict(test[0]))

    errors = {
        name: tuple(error(network.fit(*pairs)) for pairs in (real, drawn))
        for name, network in networks(F.ndim - 1, max_epochs=epochs).items()
    }
    return error(law), errors


def main(epochs=20, problems=None):
    """Print the table."""
    warnings.simplefilter("ignore")
    print(f"{N_TRAIN} pairs, {epochs} epochs, mean relative L2 error on {N_TEST} real samples; law of {N_LAW} pairs")
    print(f"{'problem':20} {'law':>8}  {'network':10} {'real':>8} {'drawn':>8} {'ratio':>6}  to reach")
    for name, make in PROBLEMS.items():
        if problems and name not in problems:
            continue
        law, errors = compare(make, epochs)
        for network, (real, drawn) in errors.items():
            print(
                f"{name:20} {law:8.1e}  {network:10} {real:8.1e} {drawn:8.1e} {drawn / real:6.2f}  {WITHIN}", flush=True
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--only", nargs="+", default=None, choices=PROBLEMS, help="problems; default: all")
    options = parser.parse_args()
    main(options.epochs, options.only)
