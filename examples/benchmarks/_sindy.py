"""PySINDy on trajectories of one field on a circle, where it is installed."""

import warnings

import numpy as np

from sklearn_hss.metrics import relative_l2_error

try:
    import pysindy
except ImportError:
    pysindy = None

#: Coefficients below are set to zero: of terms as they are, and of terms of unit size.
THRESHOLDS = {False: (0.0, 1e-4, 3e-4, 1e-3, 1e-2), True: (0.03, 0.3, 3.0)}
_N_SUBSTEPS, _N_JUDGED = 40, 30


class Sindy:
    """The sparse polynomial law of best one-step error on training pairs, over `THRESHOLDS`.

    Terms are products of 1, u and u² with 1, u_x and u_xx, derivatives by central differences. Derivatives in time
    are central differences as well, or, in the weak form, moved to test functions.

    Parameters
    ----------
    weak : bool
    dt : float
    """

    def __init__(self, weak, dt):
        self.weak, self.dt = weak, dt

    def fit(self, trajectories):
        """Fit to trajectories (n_trajectories, n_times, n_points)."""
        n_times, n = trajectories.shape[1:]
        x, t = np.arange(n) / n, self.dt * np.arange(n_times)
        terms = {
            "function_library": pysindy.PolynomialLibrary(degree=2, include_bias=False),
            "derivative_order": 2,
        }
        self.library = library = pysindy.PDELibrary(spatial_grid=x, diff_kwargs={"periodic": True}, **terms)
        if self.weak:
            grid = np.stack(np.meshgrid(x, t, indexing="ij"), axis=-1)
            sizes = [0.15, min(0.8, 0.4 * t[-1])]
            library = pysindy.WeakPDELibrary(spatiotemporal_grid=grid, K=400, H_xt=sizes, **terms)
        data = [states.T[:, :, None] for states in trajectories]
        before, after = (part.reshape(-1, n) for part in (trajectories[:, :-1], trajectories[:, 1:]))
        judged = np.linspace(0, len(before) - 1, min(_N_JUDGED, len(before))).astype(int)
        before, after = before[judged], after[judged]
        self.error = np.inf
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.library.fit(data)
            for normalised, thresholds in THRESHOLDS.items():
                for threshold in thresholds:
                    optimizer = pysindy.STLSQ(threshold=threshold, alpha=1e-8, normalize_columns=normalised)
                    np.random.seed(0)  # noqa: NPY002 (PySINDy draws the places of its test functions from it)
                    model = pysindy.SINDy(feature_library=library, optimizer=optimizer).fit(data, t=self.dt)
                    candidate = model.coefficients()[0]
                    error = relative_l2_error(after, _finite(self._step(before, candidate)))
                    if error < self.error:
                        self.error, self.coefficients = error, candidate
                        self.formula = model.equations(4)[0]
        return self

    def _slope(self, u, coefficients):
        terms = np.asarray(self.library.transform(u.T[:, :, None])).reshape(u.shape[1], len(u), -1)
        return (terms @ coefficients).T

    def _step(self, u, coefficients):
        tau = self.dt / _N_SUBSTEPS
        with np.errstate(all="ignore"):
            for _ in range(_N_SUBSTEPS):
                k1 = self._slope(u, coefficients)
                k2 = self._slope(u + tau / 2 * k1, coefficients)
                k3 = self._slope(u + tau / 2 * k2, coefficients)
                k4 = self._slope(u + tau * k3, coefficients)
                u = u + tau / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return u

    def __call__(self, u):
        """States one step later, by the classical method of Runge and Kutta."""
        return self._step(u, self.coefficients)


def _finite(u, most=1e6):
    return np.clip(np.nan_to_num(u, nan=most, posinf=most, neginf=-most), -most, most)
