"""Tables 3 to 9 of the paper (Appendix L) as estimators, and the simple models and local laws that stand beside them.

Where these tables do not lead to the numbers of parameters in Tables 1 and 2, the numbers decide for the baselines: FNO
has 4 layers for the Neumann problem (102K), ResNet 48 channels on 2-D elliptic problems (165K) and 166 on the others
(1.99M), Green Learning 128 units in 2-D and no homogeneous solution (83K). Neural-HSS is what its table says, which in
2-D is 65K and not the paper's 37K. Its lifting and projection are dense for Burgers' equation only: for the Gray-Scott
and Navier-Stokes equations Section 3.2 has dense ones, too, but one alone, between 128 x 128 points, has 268M
numbers, and the paper's network 329K. tests/nn/test_parameter_counts.py prints all numbers beside the paper's.

Networks train as these tables say, or with ``settings="auto"`` as the estimators do by default; :func:`tuned` then
chooses their optimisers and learning rates.
"""

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_hss import (
    DeepONetRegressor,
    FactFormerRegressor,
    FieldScaler,
    FNORegressor,
    GreenLearningRegressor,
    HSSRegressor,
    LocalEvolutionRegressor,
    NeuralHSSRegressor,
    ResNetRegressor,
    RolloutRegressor,
)
from sklearn_hss.datasets import make_gray_scott
from sklearn_hss.metrics import relative_l2_scorer, trajectory_l2_scorer

LINEAR_START = "Neural-HSS, linear start"
#: Models that are fitted to as much data as in the paper if training all networks takes too long; on linear problems.
ON_ALL_DATA = (LINEAR_START, "least squares", "ridge", "HSSRegressor")
#: Name of the local laws, and the numbers of simulations that are enough for them.
LAW = "LocalEvolutionRegressor"
N_BURGERS, N_GRAY_SCOTT = 3, 12
#: Candidates of :class:`Tuned` for every network, rates around those that are "auto"; and for a small Neural-HSS.
CANDIDATES = (
    {"optimizer": ["adamw"], "lr": [7e-4, 2e-3, 6e-3]},
    {"optimizer": ["soap"], "lr": [2e-3, 6e-3, 2e-2]},
)
LEVENBERG_MARQUARDT = {"optimizer": ["lm"]}
#: Part of its seconds that a network trains with each candidate.
TRIAL = 1 / 8


def standardised(model, grid_shape):
    """`model` between Z-scores of the inputs and the outputs: the mean field, and one deviation per channel.

    Without the mean field, which the constant forcing of the Navier-Stokes equations makes, models without bias fail.
    """
    scaler = make_pipeline(StandardScaler(with_std=False), FieldScaler("standard", grid_shape=grid_shape))
    return TransformedTargetRegressor(make_pipeline(scaler, model), transformer=scaler, check_inverse=False)


def simple_models(n_samples, n_values, grid_shape=None):
    """Least squares, ridge and kernel ridge regression, and the fitted HSS map.

    Ridge regression has scikit-learn's default penalty, in the units of the data; it is there for what it does without
    any care. Kernel ridge regression is tuned by cross-validation, and left out above 5,000 samples, whose kernel
    matrix it factorises a hundred times. The matrices of least squares and ridge regression are left out where they
    would take minutes or all of the memory, above 10,000 and 20,000 values of a field.
    """
    kernel = {"kernelridge__alpha": np.logspace(-9, -1, 5), "kernelridge__gamma": np.logspace(-7, -1, 7)}
    models = {}
    if n_values <= 10_000:
        models["least squares"] = LinearRegression(fit_intercept=False)
    if n_values <= 20_000:
        models["ridge"] = Ridge(alpha=1.0, fit_intercept=False)
    if n_samples <= 5_000:
        regressor = make_pipeline(FieldScaler("standard", grid_shape=grid_shape), KernelRidge(kernel="rbf"))
        models["kernel ridge"] = GridSearchCV(regressor, kernel, cv=3, scoring=relative_l2_scorer)
    models["HSSRegressor"] = HSSRegressor(grid_shape=grid_shape)
    return models


def time_stepping(model):
    """`model` learns increments; a search tries rollouts of trajectories that it has not seen."""
    if not isinstance(model, GridSearchCV):
        return RolloutRegressor(model)
    grid = {f"estimator__{name}": values for name, values in model.param_grid.items()}
    return GridSearchCV(RolloutRegressor(model.estimator), grid, cv=model.cv, scoring=trajectory_l2_scorer)


def burgers_law(n_points):
    """The law of Burgers' equation, learned from trajectories and rolled out."""
    return time_stepping(LocalEvolutionRegressor(dt=0.2, spacing=1 / n_points, form="law"))


class GrayScottLaw(MetaEstimatorMixin, BaseEstimator):
    """The law of the Gray-Scott equations, learned from states close in time, rolled out to one that is far away.

    The simulations are those that begin with the inputs, of which the other models see two states only: the solver goes
    through the others, and repeats its way. The seconds of a fit have its own in them.

    Parameters
    ----------
    estimator : LocalEvolutionRegressor
        With `grid_shape`. Its step is the time from a state to the next.
    states : tuple of int
        It is fitted to the pairs of each of these states and the next one. They are no neighbours.
    n_steps : int
        Which state is predicted.
    """

    def __init__(self, estimator, states, n_steps):
        self.estimator = estimator
        self.states = states
        self.n_steps = n_steps

    def _fields(self, X):
        return np.reshape(X, (len(X), 4, *self.estimator.grid_shape))

    def fit(self, X, y=None):
        """Fit the law to states of the simulations that begin with `X`; the last ones, `y`, are not looked at."""
        begin = self._fields(X)
        _, U = make_gray_scott(
            initial=begin[:, :2],
            pattern=[(float(f), float(k)) for f, k in begin[:, 2:, 0, 0]],
            states=[state + later for state in self.states for later in (0, 1)],
            return_trajectories=True,
            verbose=0,
        )
        self.estimator_ = clone(self.estimator).fit(U.reshape(-1, 2, *U.shape[2:]))
        return self

    def predict(self, X):
        """Predict the state after `n_steps` steps."""
        fields = self._fields(X)
        for _ in range(self.n_steps):
            fields = self.estimator_.predict(fields)
        return fields[:, :2].reshape(len(X), -1)


def gray_scott_law(n_points, n_steps):
    """The law of all patterns, f and k among its variables.

    Its states are early ones, where everything moves, but not the first, of which the grid does not resolve the change.
    """
    law = LocalEvolutionRegressor(
        dt=10.0, spacing=2 / n_points, grid_shape=(n_points,) * 2, field_names=["A", "B", "f", "k"], form="law"
    )
    return GrayScottLaw(law, (5, 20), n_steps)


class Tuned(MetaEstimatorMixin, BaseEstimator):
    """A network that is trained for some seconds, with the optimiser and rate that are best on samples held out.

    A fifth of the training samples is held out, a hundred at most. The best candidate starts again, on all of them.

    Parameters
    ----------
    estimator : regressor
        One of this package's networks, or time stepping around one.
    candidates : list of dict
        Grids of the network's parameters, as those of ``GridSearchCV``.
    max_seconds : float
        Seconds of the training; those of a candidate are `TRIAL` of them.
    scoring : callable
        A scorer of scikit-learn.
    """

    def __init__(self, estimator, candidates, max_seconds, scoring):
        self.estimator = estimator
        self.candidates = candidates
        self.max_seconds = max_seconds
        self.scoring = scoring

    def fit(self, X, y=None):
        """Try the candidates, and train with the best."""
        names = self.estimator.get_params()
        network = next(name for name in names if name.endswith("max_seconds")).removesuffix("max_seconds")
        grid = [{network + name: values for name, values in candidate.items()} for candidate in self.candidates]
        model = clone(self.estimator).set_params(**{f"{network}max_seconds": TRIAL * self.max_seconds})
        held_out = ShuffleSplit(1, test_size=min(max(len(X) // 5, 1), 100), random_state=0)
        search = GridSearchCV(model, grid, cv=held_out, scoring=self.scoring, refit=False).fit(X, y)
        self.cv_results_ = search.cv_results_
        model.set_params(**search.best_params_, **{f"{network}max_seconds": self.max_seconds})
        self.best_estimator_ = model.fit(X, y)
        return self

    def predict(self, X):
        """Predict with the trained network."""
        return self.best_estimator_.predict(X)


def tuned(models, max_seconds, scoring=relative_l2_scorer, lm=False):
    """`models`, of which networks train for as many seconds each.

    Those that start from random weights choose their optimiser and rate; with `lm`, Neural-HSS may take
    Levenberg-Marquardt. The linear start has the values of "auto": every candidate would fit the same map again, which
    takes long and is mostly all there is to it.
    """
    found = {}
    for name, model in models.items():
        seconds = [parameter for parameter in model.get_params() if parameter.endswith("max_seconds")]
        if not seconds:
            found[name] = model
        elif name == LINEAR_START:
            found[name] = clone(model).set_params(**{seconds[0]: max_seconds})
        else:
            candidates = [*CANDIDATES, LEVENBERG_MARQUARDT] if lm and name == "Neural-HSS" else [*CANDIDATES]
            found[name] = Tuned(model, candidates, max_seconds, scoring)
    return found


def _training(paper, given):
    """Arguments of networks: those of a table of the paper, but for what is given, or what is given alone."""
    return given if given.get("settings") == "auto" else {"settings": "paper", "dtype": "float32", **paper, **given}


def _neural_hss(linear_start=(), **settings):
    """The paper's model from random weights, and from the fitted linear map, with settings that suit this one."""
    settings["architecture"] = "hss"
    return {
        "Neural-HSS": NeuralHSSRegressor(init="random", **settings),
        LINEAR_START: NeuralHSSRegressor(**{"init": "linear", **settings, **dict(linear_start)}),
    }


def patches(**settings):
    """Neural-HSS for nonlinear problems, on patches of the grid; its sizes are the default ones."""
    form = dict.fromkeys(("rank", "levels", "outer_rank", "depth", "width", "lifting", "projection"), "auto")
    form |= {"architecture": "patches", "embedding_dim": None}
    return NeuralHSSRegressor(**{**settings, **form})


def table_3(fno_depth=6, linear_start=(), **training):
    """Heat equation; the Poisson equation with Neumann conditions, with ``fno_depth=4``.

    The linear start of the Poisson equation has the settings of the table. The increments of the heat equation on ten
    sine modes have HSS rank 10; the maps of rank 2 that fit them are local, explicit steps that are too long, and
    rollouts with them blow up.
    """
    paper = {"max_epochs": 1000, "batch_size": 256, "lr": 1e-3, "min_lr": 1e-5, "weight_decay": 1e-3}
    training = _training(paper, training)
    return {
        **_neural_hss(linear_start, rank=2, levels=3, depth=3, **training),
        "FNO": FNORegressor(width=32, modes=12, depth=fno_depth, **training),
        "ResNet": ResNetRegressor(width=48, depth=12, **training),
        "DeepONet": DeepONetRegressor(width=192, depth=4, **training),
        "Green Learning": GreenLearningRegressor(width=128, depth=6, homogeneous=False, **training),
    }


def table_4(**training):
    """Burgers' equation."""
    full_rank = {"lifting": "dense", "projection": "dense"}  # Section 3.2
    paper = {"max_epochs": 1500, "batch_size": 256, "lr": 5e-4, "min_lr": 1e-6, "weight_decay": 1e-3}
    training = _training(paper, training)
    form = {"rank": 32, "levels": 3, "depth": 4, "embedding_dim": 1024, "architecture": "hss"}
    return {
        "Neural-HSS": NeuralHSSRegressor(init="random", **form, **full_rank, **training),
        "FNO": FNORegressor(width=64, modes=32, depth=6, **training),
        "ResNet": ResNetRegressor(width=150, depth=12, **training),
        "DeepONet": DeepONetRegressor(width=512, depth=4, **training),
    }


def table_5(green_learning_width=128, **training):
    """Two-dimensional elliptic problems; the Helmholtz equation (Table 6) with 1,000 epochs and batches of 64.

    The linear start has one layer with leaves of half the axis: 37K numbers, as the paper prints for Neural-HSS. It is
    in float64, as the simple models are; all other networks are in float32.
    """
    paper = {"max_epochs": 500, "batch_size": 128, "lr": 8e-4, "min_lr": 1e-5, "weight_decay": 1e-5}
    training = _training(paper, training)
    linear_start = {"levels": 1, "depth": 1, "dtype": "float64"}
    return {
        **_neural_hss(linear_start, rank=2, levels=2, outer_rank=8, depth=3, **training),
        "FNO": FNORegressor(width=16, modes=8, depth=4, **training),
        "ResNet": ResNetRegressor(width=48, depth=4, **training),
        "DeepONet": DeepONetRegressor(width=64, depth=4, **training),
        "Green Learning": GreenLearningRegressor(width=green_learning_width, depth=6, homogeneous=False, **training),
        "FactFormer": FactFormerRegressor(width=384, depth=1, heads=1, head_dim=8, kernel_multiplier=1, **training),
    }


def table_7(**training):
    """Navier-Stokes and Gray-Scott equations."""
    paper = {"max_epochs": 10, "batch_size": 64, "lr": 1e-3, "min_lr": 1e-5, "weight_decay": 0.0}
    training = _training(paper, training)
    form = {"rank": 8, "levels": 2, "outer_rank": 8, "depth": 3, "architecture": "hss"}
    return {
        "Neural-HSS": NeuralHSSRegressor(init="random", **form, **training),
        # 32 modes of both signs: 2.1M numbers, if complex ones count once.
        "FNO": FNORegressor(width=32, modes=16, depth=4, **training),
        "ResNet": ResNetRegressor(width=166, depth=4, **training),
        "DeepONet": DeepONetRegressor(width=128, depth=4, **training),
        "FactFormer": FactFormerRegressor(width=384, depth=1, heads=1, head_dim=8, kernel_multiplier=1, **training),
    }


def table_8(n_steps=16_000, n_train=256, batch_size=16, **training):
    """Three-dimensional Poisson equation: as many steps for every number of training samples, but whole epochs."""
    n_epochs = -(-n_steps // -(-n_train // batch_size))
    paper = {"max_epochs": n_epochs, "min_lr": 1e-5, "weight_decay": 0.0}
    training["batch_size"] = batch_size
    fast, slow, training = (
        _training({**paper, **rates}, training) for rates in ({"lr": 5e-3, "min_lr": 1e-3}, {"lr": 1e-4}, {"lr": 1e-3})
    )
    return {
        **_neural_hss(rank=4, levels=2, outer_rank=2, depth=1, **fast),
        "FNO": FNORegressor(width=14, modes=8, depth=2, **fast),
        "ResNet": ResNetRegressor(width=48, depth=2, **slow),
        "DeepONet": DeepONetRegressor(width=128, depth=4, **training),
    }


def table_9(**training):
    """One-dimensional Poisson equation, data efficiency."""
    return table_3(**{"max_epochs": 500, **training})
