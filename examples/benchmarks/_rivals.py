"""Fits of other packages, for `bench_comparison`: functions of a task that return a function of fields.

All of them see inputs and outputs divided by their standard deviations, and centred unless zero is known to lead to
zero. Packages are imported where they are used, so that those which are missing stop nothing else.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
from bench_evolution import rollout
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.model_selection import GridSearchCV

from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer

#: Gaussian processes choose their kernels by this many samples at most.
N_KERNEL = 200


@dataclass(frozen=True)
class Task:
    """Pairs of fields to learn from, and tests.

    Attributes
    ----------
    X, y : ndarrays of shape (n_samples, *grid)
        For trajectories, all states but the last ones, and those one step later.
    tests : dict of str to pair of ndarrays
        Inputs, and what is to be found after `n_steps` predictions.
    mask : ndarray of shape grid, default=None
        The points of the domain.
    homogeneous : bool, default=True
        Whether X = 0 is known to give y = 0.
    trajectories : ndarray of shape (n_trajectories, n_times, *grid), default=None
    n_steps : int, default=1
    """

    X: np.ndarray
    y: np.ndarray
    tests: dict
    mask: np.ndarray | None = None
    homogeneous: bool = True
    trajectories: np.ndarray | None = None
    n_steps: int = 1

    @classmethod
    def of_trajectories(cls, trajectories, test, name):
        """States one step apart; the error is that of the last states of `test`, predicted from the first ones."""
        X, y = (part.reshape(-1, *part.shape[2:]) for part in (trajectories[:, :-1], trajectories[:, 1:]))
        ends = (test[:, 0], test[:, -1])
        return cls(X, y, {name: ends}, trajectories=trajectories, n_steps=test.shape[1] - 1)

    @property
    def inside(self):
        """The points of the domain, all of them without a mask."""
        return np.ones(self.X.shape[1:], dtype=bool) if self.mask is None else self.mask

    def held_out(self):
        """The task without a fifth of its samples, or a trajectory of five, which become the test."""
        if self.trajectories is not None:
            cut = -max(1, len(self.trajectories) // 5)
            return Task.of_trajectories(self.trajectories[:cut], self.trajectories[cut:], "held out")
        cut = -max(1, len(self.X) // 5)
        return replace(self, X=self.X[:cut], y=self.y[:cut], tests={"held out": (self.X[cut:], self.y[cut:])})

    def errors(self, predict):
        """Mean relative L2 errors by test, NaN where a rollout has grown without bounds."""
        found = {}
        for name, (before, after) in self.tests.items():
            last = predict(before) if self.n_steps == 1 else rollout(predict, before, self.n_steps)[:, -1]
            found[name] = relative_l2_error(after, last, mask=self.mask) if np.isfinite(last).all() else np.nan
        return found


class Scaled:
    """A task's fields divided by their standard deviations, and the way back."""

    def __init__(self, task):
        self.task, self.inside = task, task.inside
        X, y = task.X[:, self.inside], task.y[:, self.inside]
        self.x_mean, self.y_mean = (0.0, 0.0) if task.homogeneous else (X.mean(), y.mean(axis=0))
        self.x_scale, self.y_scale = (X - self.x_mean).std(), (y - self.y_mean).std()
        self.X, self.y = self._inputs(task.X), (y - self.y_mean) / self.y_scale

    def _inputs(self, fields):
        return (fields[:, self.inside] - self.x_mean) / self.x_scale

    def on_grid(self, rows):
        """Rows of values inside as fields (n_samples, 1, *grid)."""
        fields = np.zeros((len(rows), 1, *self.inside.shape))
        fields[:, 0, self.inside] = rows
        return fields

    def predictor(self, predict):
        """A function of fields from one of rows."""

        def predicted(fields):
            return self.on_grid(self.y_mean + self.y_scale * predict(self._inputs(fields)))[:, 0]

        return predicted


def least_squares(task, seed, seconds):
    """The linear map of least squares, and of least norm."""
    data = Scaled(task)
    return data.predictor(LinearRegression(fit_intercept=False).fit(data.X, data.y).predict)


def ridge(task, seed, seconds):
    """Ridge regression, its penalty by leave-one-out errors."""
    data = Scaled(task)
    alphas = np.logspace(-12, 2, 15) * data.X.shape[1]
    return data.predictor(RidgeCV(alphas, fit_intercept=False).fit(data.X, data.y).predict)


def kernel_ridge(task, seed, seconds):
    """Kernel ridge regression, penalty and width by cross-validation."""
    data = Scaled(task)
    grid = {"alpha": np.logspace(-10, -1, 10), "gamma": np.logspace(-4, 1, 11) / data.X.shape[1]}
    search = GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=min(5, len(data.X)), scoring=relative_l2_scorer)
    return data.predictor(search.fit(data.X, data.y).predict)


def gaussian_process(task, seed, seconds):
    """A Gaussian process; a linear kernel, a Gaussian one or their sum, and noise, all by maximum likelihood."""
    data = Scaled(task)
    n = data.X.shape[1]
    smooth = ConstantKernel(1.0, (1e-6, 1e6)) * RBF(n**0.5, (1e-1 * n**0.5, 1e3 * n**0.5))
    linear = ConstantKernel(1.0 / n, (1e-8, 1e4)) * DotProduct(0.0, sigma_0_bounds="fixed")
    noise = WhiteKernel(1e-4, (1e-12, 1.0))
    rows = np.random.RandomState(seed).permutation(len(data.X))[:N_KERNEL]
    models = [
        GaussianProcessRegressor(kernel + noise, alpha=1e-12, n_restarts_optimizer=2, random_state=seed)
        for kernel in (linear, smooth, linear + smooth)
    ]
    found = [model.fit(data.X[rows], data.y[rows]) for model in models]
    kernel = max(found, key=lambda model: model.log_marginal_likelihood_value_).kernel_
    model = GaussianProcessRegressor(kernel, alpha=1e-12, optimizer=None).fit(data.X, data.y)
    return data.predictor(model.predict)


def fno(task, seed, seconds, width, lr):
    """neuraloperator's FNO, by its Trainer, with its loss and AdamW; a cosine over the epochs that fit the seconds."""
    import torch
    from neuralop.data.transforms.data_processors import DefaultDataProcessor
    from neuralop.losses import LpLoss
    from neuralop.models import FNO
    from neuralop.training import AdamW, Trainer

    torch.manual_seed(seed)
    start, data = time.process_time(), Scaled(task)
    tensors = [torch.as_tensor(data.on_grid(rows), dtype=torch.float32) for rows in (data.X, data.y)]
    samples = [{"x": x, "y": y} for x, y in zip(*tensors, strict=True)]
    loader = torch.utils.data.DataLoader(samples, batch_size=min(16, len(samples)), shuffle=True)
    grid = data.inside.shape
    modes = tuple(min(16 if len(grid) == 1 else 12, n // 2) for n in grid)
    net = FNO(modes, in_channels=1, out_channels=1, hidden_channels=width)

    def train(n_epochs):
        optimizer = AdamW(net.parameters(), lr=lr, weight_decay=1e-4)
        trainer = Trainer(
            model=net, n_epochs=n_epochs, data_processor=DefaultDataProcessor(), eval_interval=n_epochs + 1
        )
        begin = time.process_time()
        trainer.train(
            loader,
            {},
            optimizer,
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_epochs),
            training_loss=LpLoss(d=len(grid), p=2),
        )
        return (time.process_time() - begin) / n_epochs

    _timed(train, start, seconds)

    def predict(rows):
        with torch.no_grad():
            found = net(torch.as_tensor(data.on_grid(rows), dtype=torch.float32))
        return found.double().numpy()[:, 0, data.inside]

    return data.predictor(_in_batches(predict))


def deeponet(task, seed, seconds, width, lr):
    """DeepXDE's DeepONet, by its Model.train with Adam; a cosine over the iterations that fit the seconds."""
    import deepxde as dde

    dde.config.set_random_seed(seed)
    start, data = time.process_time(), Scaled(task)
    axes = [np.linspace(-1, 1, n) for n in data.inside.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)[data.inside].astype(np.float32)
    X, y = data.X.astype(np.float32), data.y.astype(np.float32)
    n_test = min(len(X), 4)  # Model.train wants a test set; it is evaluated once
    samples = dde.data.TripleCartesianProd((X, points), y, (X[:n_test], points), y[:n_test])
    net = dde.nn.DeepONetCartesianProd(
        [X.shape[1], width, width, width], [points.shape[1], width, width, width], "gelu", "Glorot normal"
    )
    model = dde.Model(samples, net)

    def train(n_iterations):
        model.compile("adam", lr=lr, decay=("cosine", n_iterations, 0.0), verbose=0)
        begin = time.process_time()
        model.train(iterations=n_iterations, batch_size=min(32, len(X)), display_every=10 * n_iterations, verbose=0)
        return (time.process_time() - begin) / n_iterations

    _timed(train, start, seconds)
    return data.predictor(lambda rows: model.predict((rows.astype(np.float32), points)).astype(float))


def _timed(train, start, seconds):
    """Train for as many epochs as fit into the seconds since `start`; a few before that tell how long they take."""
    n, each = 1, train(1)
    while n * each < seconds / 30:
        n *= 2
        each = train(n)
    train(max(1, int((seconds - (time.process_time() - start)) / each)))


def _in_batches(predict, size=64):
    return lambda rows: np.concatenate([predict(rows[k : k + size]) for k in range(0, len(rows), size)])


def pysindy(task, seed, seconds, weak):
    """PySINDy's PDE library, or the weak one; thresholds by errors of one step."""
    from _sindy import Sindy

    # Its trajectories are on [0, 1] and 0.2 apart, as those of `_problems.burgers`.
    return Sindy(weak, 0.2).fit(task.trajectories)


def pydmd(task, seed, seconds, svd_rank):
    """Dynamic mode decomposition by PyDMD."""
    from pydmd import DMD

    model = DMD(svd_rank=svd_rank).fit(task.X.T, task.y.T)
    return lambda states: model.predict(states.T).T.real


def opinf(task, seed, seconds, n_modes, regulariser):
    """Quadratic operator inference by the package opinf, discrete in time."""
    from opinf.basis import PODBasis
    from opinf.lstsq import L2Solver
    from opinf.models import DiscreteModel

    basis = PODBasis(num_vectors=n_modes).fit(task.X.T)
    model = DiscreteModel("AH", solver=L2Solver(regulariser))
    model.fit(basis.compress(task.X.T), nextstates=basis.compress(task.y.T))

    def step(states):
        return np.stack([basis.decompress(model.rhs(state)) for state in basis.compress(states.T).T])

    return step
