"""Which start suits Neural-HSS: random weights or the fitted linear map? ``python bench_init.py``, about five minutes.

Errors on new samples for linear and nonlinear equations, with the default settings and with those advised for nonlinear
equations (``initial_slope=0.25, bias=True``), beside the linear map alone. With ``--grids``, in two dimensions, with
the settings of the paper's Table 5 and fewer epochs.
"""

import argparse
import warnings

import numpy as np
from _problems import odd_l_shape, two_phase
from scipy.integrate import solve_ivp
from scipy.linalg import solve_banded

from sklearn_hss import HSSRegressor, NeuralHSSRegressor
from sklearn_hss.datasets import make_helmholtz, make_poisson
from sklearn_hss.metrics import relative_l2_error

N_TEST = 100


def cubic(n_samples, n_points=128, strength=2000.0):
    """-u'' + strength u³ = f with u = 0 at the ends, by Newton's method."""
    F, U = make_poisson(n_samples, n_points, forcing="grf", refinement=1, order=2, random_state=0)
    F, U = 10 * F, 10 * U
    h = 1 / n_points
    for f, u in zip(F, U, strict=True):
        v = u[1:].copy()
        for _ in range(50):
            left, right = np.append(0, v[:-1]), np.append(v[1:], 0)
            residual = (2 * v - left - right) / h**2 + strength * v**3 - f[1:]
            ab = np.empty((3, len(v)))
            ab[[0, 2]], ab[1] = -1 / h**2, 2 / h**2 + 3 * strength * v**2
            step = solve_banded((1, 1), ab, residual)
            v -= step
            if np.abs(step).max() < 1e-12:
                break
        u[1:] = v
    return F, U


def burgers(n_samples, n_points=128, viscosity=1e-3, time=0.2):
    """One step of u_t + u u_x = viscosity u_xx, periodic, from smooth random fields."""
    u0, _ = make_poisson(n_samples, n_points, boundary="periodic", forcing="grf", refinement=1, random_state=0)
    k = 2j * np.pi * np.fft.rfftfreq(n_points, 1 / n_points)
    keep = np.abs(k) < 2 * np.pi * n_points / 3

    def rate(_, flat):
        u = flat.reshape(u0.shape)
        derivative = np.fft.irfft(keep * k * np.fft.rfft(u * u / 2), n_points)
        return (viscosity * np.fft.irfft(k**2 * np.fft.rfft(u), n_points) - derivative).ravel()

    u1 = solve_ivp(rate, (0, time), u0.ravel(), rtol=1e-6, atol=1e-8).y[:, -1]
    return u0, u1.reshape(u0.shape)


PROBLEMS = {
    "Poisson, sine forcing": lambda n: make_poisson(n, random_state=0),
    "Poisson, random fields": lambda n: make_poisson(n, forcing="grf", random_state=0),
    "Poisson, sine, 1 % noise": lambda n: noisy(*make_poisson(n, random_state=0)),
    "-u'' + 2000 u^3 = f": cubic,
    "Burgers, one step": burgers,
}
GRIDS = {
    "Poisson, sine forcing": lambda n: make_poisson(n, (64, 64), random_state=0),
    "Helmholtz, sine forcing": lambda n: make_helmholtz(n, (64, 64), random_state=0),
    "L-shape, odd modes": lambda n: odd_l_shape(n, random_state=0),
    "two-phase coefficient": lambda n: centred(*two_phase(n, random_state=0)),
}
TABLE_5 = {"lr": 8e-4, "weight_decay": 1e-5}
SETTINGS = {"defaults": {}, "slope 0.25, bias": {"initial_slope": 0.25, "bias": True}}


def noisy(F, U):
    """Noise of 1 % on all but the samples to test with."""
    noise = np.random.RandomState(1).standard_normal(U.shape) * 0.01 * U.std()
    noise[-N_TEST:] = 0
    return F, U + noise


def centred(F, U):
    """Inputs of mean zero, and the difference of the outputs from their mean."""
    return F - F[:-N_TEST].mean(0), U - U[:-N_TEST].mean(0)


def main(n_train=200, n_seeds=2, max_epochs=500, problems=PROBLEMS, **training):
    warnings.simplefilter("ignore")
    print(f"{n_train} samples, {max_epochs} epochs, mean relative L2 error on {N_TEST} new samples, {n_seeds} seeds")
    print(f"{'problem':26} {'settings':18} {'random':>9} {'linear':>9} {'HSSRegressor':>13}")
    for name, make in problems.items():
        F, U = make(n_train + N_TEST)
        train, test = slice(n_train), slice(n_train, None)
        linear = relative_l2_error(U[test], HSSRegressor(random_state=0).fit(F[train], U[train]).predict(F[test]))
        for label, settings in SETTINGS.items():
            errors = {}
            for init in ("random", "linear"):
                models = [
                    NeuralHSSRegressor(
                        init=init,
                        settings="paper",
                        batch_size=32,
                        max_epochs=max_epochs,
                        dtype="float32",
                        random_state=seed,
                        **training,
                        **settings,
                    ).fit(F[train], U[train])
                    for seed in range(n_seeds)
                ]
                errors[init] = np.mean([relative_l2_error(U[test], model.predict(F[test])) for model in models])
            print(f"{name:26} {label:18} {errors['random']:9.1e} {errors['linear']:9.1e} {linear:13.1e}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--grids", action="store_true")
    options = parser.parse_args()
    problems, training = (GRIDS, TABLE_5) if options.grids else (PROBLEMS, {})
    main(options.samples, options.seeds, options.epochs, problems, **training)
