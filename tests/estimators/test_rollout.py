"""Time stepping: against powers of matrices, exact decay and loops written by hand."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneOut,
    cross_val_predict,
    cross_val_score,
    learning_curve,
)
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, StandardScaler
from sklearn.svm import SVR
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_hss import (
    DeepONetRegressor,
    FactFormerRegressor,
    FieldScaler,
    FNORegressor,
    GreenLearningRegressor,
    HSSRegressor,
    NeuralHSSRegressor,
    ResNetRegressor,
    RolloutRegressor,
)
from sklearn_hss.datasets import make_burgers, make_heat
from sklearn_hss.estimators._rollout import takes_fields
from sklearn_hss.exceptions import DivergenceWarning, PoorFitWarning
from sklearn_hss.metrics import (
    relative_l2_error,
    relative_trajectory_l2_scorer,
    trajectory_l2_error,
    trajectory_l2_scorer,
)

# The best linear fit to few states of noise is none.
pytestmark = pytest.mark.filterwarnings("ignore:(The best fit found|n_samples = )")

ESTIMATORS = [RolloutRegressor(Ridge()), RolloutRegressor(Ridge(), residual=False, scale=None)]

TINY = {"max_epochs": 2, "random_state": 0}
REGRESSORS = {
    "NeuralHSS": NeuralHSSRegressor(init="random", **TINY),
    "HSS": HSSRegressor(random_state=0),
    "FNO": FNORegressor(width=4, depth=1, **TINY),
    "FactFormer": FactFormerRegressor(width=8, head_dim=4, **TINY),
    "GreenLearning": GreenLearningRegressor(width=4, depth=1, **TINY),
    "ResNet": ResNetRegressor(width=4, depth=1, **TINY),
    "DeepONet": DeepONetRegressor(width=4, depth=1, **TINY),
}
OTHERS = {
    "Ridge": Ridge(),
    "KernelRidge": KernelRidge(alpha=0.1),
    "KNeighbors": KNeighborsRegressor(2),
    "pipeline": make_pipeline(StandardScaler(), Ridge()),
    "transformed target": TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
    "search": GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2),
}


@parametrize_with_checks(ESTIMATORS)
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([RolloutRegressor(ResNetRegressor(width=8, depth=2, max_epochs=100, lr=1e-2, random_state=0))])
def test_check_estimator_around_a_network(estimator, check):
    check(estimator)


@parametrize_with_checks(ESTIMATORS)
def test_check_estimator_with_metadata_routing(estimator, check):
    with sklearn.config_context(enable_metadata_routing=True):
        check(estimator)


def trajectories(n_trajectories, n_times, *state, seed=0):
    return np.random.RandomState(seed).standard_normal((n_trajectories, n_times, *state))


def stepped(matrix, states, n_steps):
    """Trajectories of u -> matrix @ u, over the last axis."""
    return np.stack([states @ np.linalg.matrix_power(matrix, k).T for k in range(n_steps + 1)], axis=1)


@pytest.fixture
def matrix():
    """A step that neither grows nor decays: an orthogonal matrix."""
    return np.linalg.qr(np.random.RandomState(1).standard_normal((6, 6)))[0]


@pytest.fixture(scope="module")
def heat():
    _, U = make_heat(12, 32, modes=(1, 5), t_final=4.0, solver="exact", return_trajectories=True, random_state=0)
    U.flags.writeable = False
    return U


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("scale", [None, "max"])
def test_rollouts_are_powers_of_a_matrix(matrix, residual, scale):
    rng = np.random.RandomState(0)
    train = stepped(matrix, rng.standard_normal((8, 6)), 3)
    test = stepped(matrix, rng.standard_normal((5, 6)), 30)
    model = RolloutRegressor(LinearRegression(), residual=residual, scale=scale)
    for fitted in (model.fit(train), clone(model).fit(train[:, :-1].reshape(-1, 6), train[:, 1:].reshape(-1, 6))):
        np.testing.assert_allclose(fitted.rollout(test[:, 0], 30), test, atol=1e-11)
        np.testing.assert_allclose(fitted.predict(test[:, 0]), test[:, 1], atol=1e-12)
        np.testing.assert_array_equal(fitted.rollout(test[:, 0], 0), test[:, :1])
        assert fitted.score(test) == pytest.approx(1)
        assert fitted.score(test[:, 0], test[:, 1]) == pytest.approx(1)


def test_exact_decay_of_the_heat_equation():
    # Every sine decays by a factor of its own, that of the differences in space.
    n, diffusivity, dt = 31, 1e-2, 0.5
    x = np.arange(n + 2) / (n + 1)
    sines = np.sin(np.pi * np.outer(np.arange(1, n + 1), x))
    rates = diffusivity * (2 * (n + 1) * np.sin(np.pi * np.arange(1, n + 1) / (2 * (n + 1)))) ** 2
    rng = np.random.RandomState(0)
    coefficients = rng.standard_normal((20, n))
    U = np.stack([coefficients * np.exp(-rates * dt * k) @ sines for k in range(11)], axis=1)
    model = RolloutRegressor(HSSRegressor(random_state=0)).fit(U[:12])
    assert relative_l2_error(U[12:], model.rollout(U[12:, 0], 10)) < 1e-6
    # Twice the step, from every second state.
    model.fit(U[:12, ::2])
    assert relative_l2_error(U[12:, ::2], model.rollout(U[12:, 0], 5)) < 1e-6


class Recorder(RegressorMixin, BaseEstimator):
    """Keeps what it is fitted on, and predicts a constant."""

    def __init__(self, constant=0.0):
        self.constant = constant

    def fit(self, X, y, sample_weight=None, note=None):
        self.X_, self.y_, self.sample_weight_, self.note_ = X.copy(), y.copy(), sample_weight, note
        return self

    def predict(self, X):
        return np.full((len(X), *self.y_.shape[1:]), self.constant, self.y_.dtype)


@pytest.mark.parametrize("state", [(5,), (4, 3), (2, 3, 4)])
def test_the_estimator_learns_scaled_increments_of_all_pairs(state):
    U = trajectories(3, 4, *state)
    model = RolloutRegressor(Recorder(2.0)).fit(U)
    before, increments = [], []
    for trajectory in U:
        for t in range(3):
            before.append(trajectory[t].ravel())
            increments.append((trajectory[t + 1] - trajectory[t]).ravel())
    largest = np.abs(increments).max()
    assert model.scale_ == largest
    assert model.n_features_in_ == np.prod(state)
    np.testing.assert_array_equal(model.estimator_.X_, before)
    np.testing.assert_allclose(model.estimator_.y_, increments / largest)
    np.testing.assert_allclose(model.predict(U[:, 0]), U[:, 0] + 2 * largest)
    np.testing.assert_allclose(model.rollout(U[:, 0], 5)[:, 5], U[:, 0] + 10 * largest)

    model = RolloutRegressor(Recorder(), residual=False).fit(U)
    assert model.scale_ == np.abs(U[:, 1:]).max()
    np.testing.assert_allclose(model.estimator_.y_ * model.scale_, U[:, 1:].reshape(9, -1))
    assert RolloutRegressor(Recorder(), scale=None).fit(U).scale_ == 1


def test_persistence_is_to_predict_zero(heat):
    model = RolloutRegressor(DummyRegressor(strategy="constant", constant=np.zeros(32))).fit(heat)
    np.testing.assert_array_equal(model.rollout(heat[:, 0], 4), np.repeat(heat[:, :1], 5, axis=1))
    assert model.score(heat[:, 0], heat[:, 1]) > 0.9
    # States that never change have nothing to divide by.
    still = np.repeat(heat[:, :1], 3, axis=1)
    model = RolloutRegressor(Ridge()).fit(still)
    assert model.scale_ == 1
    np.testing.assert_array_equal(model.rollout(still[:, 0], 2), still)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*REGRESSORS, *OTHERS])
def test_every_regressor(heat, name, dtype):
    regressor, U = {**REGRESSORS, **OTHERS}[name], heat[:, :4].astype(dtype)
    model = RolloutRegressor(regressor).fit(U[:8])
    rollouts = model.rollout(U[8:, 0], 3)
    assert rollouts.shape == U[8:].shape
    assert rollouts.dtype == dtype
    np.testing.assert_array_equal(rollouts[:, 0], U[8:, 0])
    # A loop written by hand, around a regressor of increments that was fitted by hand.
    X, Y = U[:8, :-1].reshape(-1, 32), U[:8, 1:].reshape(-1, 32)
    scale = float(np.abs(Y - X).max())
    alone = clone(regressor).fit(X, (Y - X) / scale)
    u = U[8:, 0]
    for t in range(1, 4):
        u = u + scale * alone.predict(u)
        np.testing.assert_allclose(rollouts[:, t], u, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6)
    pickled = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(pickled.rollout(U[8:, 0], 3), rollouts)


# All states with one network, one linear map and one regressor of rows; all regressors with one state.
STATES = [(6, 5), (2, 6, 5), (2, 8), (3, 4, 4)]
PAIRS = [(name, state) for name in ("FNO", "HSS", "Ridge") for state in STATES]
PAIRS += [(name, (6, 5)) for name in (*REGRESSORS, *OTHERS) if (name, (6, 5)) not in PAIRS]


@pytest.mark.parametrize(("name", "state"), PAIRS)
def test_grids_and_channels(name, state):
    with_channels = state[0] == 2
    U = trajectories(6, 3, *state)
    regressor = clone({**REGRESSORS, **OTHERS}[name])
    if with_channels and name in REGRESSORS:
        regressor.set_params(grid_shape=state[1:])
    model = RolloutRegressor(regressor).fit(U)
    assert model.n_features_in_ == np.prod(state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # inputs outside of the span of noise
        rollouts = model.rollout(U[:2, 0], 2)
        flat = model.rollout(U[:2, 0].reshape(2, -1), 2)
        assert model.predict(U[:2, 0]).shape == (2, *state)
        assert np.isfinite(model.score(U))
        assert np.isfinite(model.score(U[:, 0], U[:, 1]))
    assert rollouts.shape == (2, 3, *state)
    np.testing.assert_array_equal(flat, rollouts)


def test_who_takes_fields():
    neural, linear = NeuralHSSRegressor(), HSSRegressor()
    fields = [
        neural,
        linear,
        RolloutRegressor(Ridge()),
        make_pipeline(FieldScaler(), neural),
        make_pipeline("passthrough", None, neural),
        GridSearchCV(make_pipeline(FieldScaler(), neural), {}),
        TransformedTargetRegressor(neural, transformer=FieldScaler()),
        make_pipeline(FieldScaler(), GridSearchCV(linear, {})),
    ]
    rows = [
        Ridge(),
        make_pipeline(FieldScaler(), Ridge()),
        make_pipeline(StandardScaler(), neural),
        GridSearchCV(Ridge(), {}),
        TransformedTargetRegressor(neural, transformer=StandardScaler()),
        TransformedTargetRegressor(neural),
        TransformedTargetRegressor(transformer=FieldScaler()),
        None,
    ]
    assert all(takes_fields(estimator) for estimator in fields)
    assert not any(takes_fields(estimator) for estimator in rows)


@pytest.mark.filterwarnings("ignore:The provided functions")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda regressor: make_pipeline(FieldScaler(), regressor),
        lambda regressor: TransformedTargetRegressor(regressor, transformer=FieldScaler(), check_inverse=False),
        lambda regressor: GridSearchCV(regressor, {"rank": [1]}, cv=2),
    ],
)
def test_wrapped_regressors_see_the_grid(wrap):
    U = trajectories(5, 3, 4, 6)
    regressor = NeuralHSSRegressor(init="random", **TINY)
    model = RolloutRegressor(wrap(regressor)).fit(U)
    inner = model.estimator_
    while not isinstance(inner, NeuralHSSRegressor):
        inner = inner[-1] if hasattr(inner, "steps") else getattr(inner, "regressor_", None) or inner.best_estimator_
    assert inner.grid_shape_ == (4, 6)
    assert model.rollout(U[:, 0], 2).shape == U.shape


def test_flattened_states_need_the_grid():
    U = trajectories(5, 3, 4, 6)
    regressor = make_pipeline(StandardScaler(), NeuralHSSRegressor(init="random", **TINY))
    message = r"States of shape \(4, 6\) are flattened, because not all steps of Pipeline accept fields; "
    with pytest.raises(ValueError, match=message + r"set estimator__neuralhssregressor__grid_shape"):
        RolloutRegressor(regressor).fit(U)
    regressor.set_params(neuralhssregressor__grid_shape=(4, 6))
    model = RolloutRegressor(regressor).fit(U)
    assert model.estimator_[-1].grid_shape_ == (4, 6)
    assert model.rollout(U[:, 0], 2).shape == U.shape


def test_what_a_step_depends_on_besides_the_state_stays():
    # u -> c u, with a coefficient c of its own for each sample, behind the state.
    rng = np.random.RandomState(0)
    u, c = rng.standard_normal((40, 3)), rng.uniform(0.5, 1, (40, 1))
    model = RolloutRegressor(LinearRegression()).fit(np.hstack([np.log(np.abs(u)), np.log(c)]), np.log(np.abs(c * u)))
    start = np.hstack([np.log(np.abs(u)), np.log(c)])
    rollouts = model.rollout(start, 7)
    assert rollouts.shape == (40, 8, 4)
    np.testing.assert_allclose(rollouts[:, 7, :3], np.log(c**7 * np.abs(u)), atol=1e-9)
    np.testing.assert_array_equal(rollouts[..., 3], np.repeat(np.log(c), 8, axis=1))
    assert model.predict(start).shape == (40, 3)
    assert model.score(rollouts) == pytest.approx(1)

    # A channel of coefficients.
    X = rng.standard_normal((10, 3, 4, 5))
    model = RolloutRegressor(FNORegressor(width=4, depth=1, grid_shape=(4, 5), **TINY)).fit(X, X[:, :2] * X[:, 2:])
    rollouts = model.rollout(X, 2)
    np.testing.assert_array_equal(rollouts[:, 2, 2], X[:, 2])
    np.testing.assert_array_equal(rollouts[:, 1, :2], model.predict(X))

    # One number as the state.
    model = RolloutRegressor(SVR()).fit(X[:, 0, 0], X[:, 0, 0, 0])
    assert model.predict(X[:, 0, 0]).shape == (10,)
    assert model.rollout(X[:, 0, 0], 2).shape == (10, 3, 5)


def test_score_of_rollouts_is_r2_without_the_first_states(heat):
    model = RolloutRegressor(Ridge(1e-2)).fit(heat[:8])
    true, predicted = heat[8:, 1:], model.rollout(heat[8:, 0], 20)[:, 1:]
    by_hand = 1 - np.sum((predicted - true) ** 2) / np.sum((true - true.mean(axis=(0, 1))) ** 2)
    assert model.score(heat[8:]) == pytest.approx(by_hand)
    assert model.score(heat[8:], sample_weight=[2, 0, 1, 1]) == pytest.approx(model.score(heat[[8, 8, 10, 11]]))


def test_sample_weights_per_trajectory_and_per_pair(heat):
    weight = np.array([2, 0, 1, 3])
    U = heat[:4]
    repeated = RolloutRegressor(Ridge()).fit(np.repeat(U, weight, axis=0))
    per_pair = np.repeat(weight, U.shape[1] - 1)
    pairs = U[:, :-1].reshape(-1, 32), U[:, 1:].reshape(-1, 32)
    for fitted in (
        RolloutRegressor(Ridge()).fit(U, sample_weight=weight),
        RolloutRegressor(Ridge()).fit(U, sample_weight=per_pair),
        RolloutRegressor(Ridge()).fit(*pairs, sample_weight=per_pair),
        RolloutRegressor(make_pipeline(FunctionTransformer(), Ridge())).fit(U, ridge__sample_weight=weight),
    ):
        np.testing.assert_allclose(fitted.predict(heat[:, 0]), repeated.predict(heat[:, 0]), atol=1e-12)
    # One weight for all, of however many trajectories.
    for data in ((U[:1],), (U,), pairs):
        fitted = RolloutRegressor(Recorder()).fit(*data, sample_weight=2.0)
        np.testing.assert_array_equal(fitted.estimator_.sample_weight_, np.full(len(fitted.estimator_.X_), 2.0))
    # Trajectories of weight zero have no part in the scale.
    large = np.concatenate([U, 100 * U[:1]])
    assert RolloutRegressor(Ridge()).fit(large, sample_weight=[1, 1, 1, 1, 0]).scale_ == pytest.approx(
        RolloutRegressor(Ridge()).fit(U).scale_
    )
    assert RolloutRegressor(Recorder()).fit(U, note="as it is").estimator_.note_ == "as it is"


def test_groups_of_a_search_inside(heat):
    class Watched(Ridge):
        def fit(self, X, y):
            firsts = {tuple(trajectory[0]) for trajectory in heat}
            # Either all pairs of a trajectory or none.
            assert len(X) == 20 * sum(tuple(row) in firsts for row in X)
            return super().fit(X, y)

    search = GridSearchCV(Watched(), {"alpha": [1e-3, 1.0]}, cv=GroupKFold(3), error_score="raise")
    RolloutRegressor(search).fit(heat, groups=np.arange(len(heat)))


def test_grid_search_over_trajectories(heat):
    model = RolloutRegressor(NeuralHSSRegressor(max_epochs=5, init="random", random_state=0))
    grid = {"estimator__rank": [1, 2], "residual": [True, False]}
    search = GridSearchCV(model, grid, scoring=trajectory_l2_scorer, cv=KFold(3)).fit(heat)
    assert len(search.cv_results_["mean_test_score"]) == 4
    best = search.cv_results_["params"][search.best_index_]
    by_hand = []
    for train, test in KFold(3).split(heat):
        fitted = clone(model).set_params(**best).fit(heat[train])
        # Whole trajectories on either side.
        by_hand.append(-trajectory_l2_error(heat[test], fitted.rollout(heat[test][:, 0], 20)))
    assert search.best_score_ == pytest.approx(np.mean(by_hand))
    assert search.best_estimator_.estimator_.rank_ == best["estimator__rank"]
    assert search.score(heat) == trajectory_l2_scorer(search, heat)
    assert trajectory_l2_scorer(search, heat) == trajectory_l2_scorer(search.best_estimator_, heat)


def test_folds_are_of_whole_trajectories(heat):
    seen = []

    class Watched(RolloutRegressor):
        def fit(self, X, y=None):
            seen.append({trajectory.tobytes() for trajectory in X})
            return super().fit(X, y)

    assert cross_val_score(Watched(Ridge()), heat, cv=4).shape == (4,)
    assert seen == [{heat[i].tobytes() for i in train} for train, _ in KFold(4).split(heat)]


def test_cross_validation_and_learning_curve(heat):
    model = RolloutRegressor(Ridge(1e-3))
    scores = cross_val_score(model, heat, scoring=trajectory_l2_scorer, cv=3)
    assert (scores < 0).all()
    assert np.isfinite(cross_val_score(model, heat, cv=LeaveOneOut())).all()
    # learning_curve has no default for y.
    sizes, _, test = learning_curve(
        model, heat, None, train_sizes=[2, 8], cv=3, scoring=relative_trajectory_l2_scorer, n_jobs=2
    )
    assert list(sizes) == [2, 8]
    assert test[1].mean() > test[0].mean()
    # Pairs are samples of their own.
    X, y, groups = heat[:, :-1].reshape(-1, 32), heat[:, 1:].reshape(-1, 32), np.repeat(np.arange(12), 20)
    assert cross_val_score(model, X, y, groups=groups, cv=GroupKFold(3)).min() > 0.99
    assert cross_val_predict(model, X, y, groups=groups, cv=GroupKFold(3)).shape == y.shape


def test_scorers(heat):
    model = RolloutRegressor(Ridge()).fit(heat[:8])
    rollouts = model.rollout(heat[8:, 0], 20)
    norms = np.linalg.norm((rollouts - heat[8:]).reshape(4, -1), axis=1)
    assert trajectory_l2_scorer(model, heat[8:]) == pytest.approx(-norms.mean())
    ratios = norms / np.linalg.norm(heat[8:].reshape(4, -1), axis=1)
    assert relative_trajectory_l2_scorer(model, heat[8:]) == pytest.approx(-ratios.mean())
    weight = [1, 0, 2, 1]
    assert trajectory_l2_scorer(model, heat[8:], sample_weight=weight) == pytest.approx(-norms @ weight / 4)
    assert pickle.loads(pickle.dumps(trajectory_l2_scorer))(model, heat[8:]) == trajectory_l2_scorer(model, heat[8:])
    assert repr(trajectory_l2_scorer) == "_RolloutScorer(trajectory_l2_error)"


@pytest.mark.parametrize("regressor", [Ridge(), FNORegressor(width=4, depth=1, grid_shape=(4, 5), **TINY)])
@pytest.mark.parametrize("where", [{"grid_shape": (4, 5)}, {"mask": np.arange(20).reshape(4, 5) % 3 > 0}])
def test_a_scaler_inside_sees_states(regressor, where):
    U = 5 + trajectories(6, 4, 2, 4, 5)
    model = RolloutRegressor(make_pipeline(FieldScaler("standard", **where), regressor)).fit(U)
    states = U[:, :-1][..., where.get("mask", np.ones((4, 5), dtype=bool))]
    # One scale for each channel and none for times, so that other lengths and single states do as well.
    np.testing.assert_allclose(model.estimator_[0].center_, states.mean(axis=(0, 1, 3)))
    for X in (U, U[:, :3]):
        assert trajectory_l2_scorer(model, X) == pytest.approx(
            -trajectory_l2_error(X, model.rollout(X[:, 0], X.shape[1] - 1))
        )
    np.testing.assert_allclose(model.predict(U[:, 0]), model.rollout(U[:, 0], 1)[:, 1])


def test_scorers_compare_the_state_alone():
    # A channel of large coefficients, and flat states with a further feature.
    rng = np.random.RandomState(0)
    for state, n_state in (((3, 4, 5), 2), ((5,), 4)):
        X = rng.standard_normal((10, *state))
        X[:, n_state:] += 1e3
        model = RolloutRegressor(KNeighborsRegressor(2)).fit(X, 0.5 * X[:, :n_state])
        rollouts = model.rollout(X, 3)
        true = rollouts + 0.1 * rng.standard_normal(rollouts.shape)
        true[:, 0] = X
        for scorer, error in (
            (trajectory_l2_scorer, trajectory_l2_error),
            (relative_trajectory_l2_scorer, relative_l2_error),
        ):
            expected = -error(true[:, :, :n_state], rollouts[:, :, :n_state])
            assert scorer(model, true) == pytest.approx(expected)


def test_scorers_refuse_what_they_cannot_score(heat):
    model = RolloutRegressor(Ridge()).fit(heat)
    with pytest.raises(ValueError, match="y must be None: rollouts are scored on the trajectories"):
        trajectory_l2_scorer(model, heat[:, 0], heat[:, 1])
    with pytest.raises(ValueError, match=r"X has shape \(12, 32\); it must be trajectories"):
        trajectory_l2_scorer(model, heat[:, 0])
    with pytest.raises(TypeError, match="Ridge has no rollouts to score; a RolloutRegressor or a search over one has"):
        trajectory_l2_scorer(Ridge().fit(heat[:, 0], heat[:, 1]), heat)
    # The scaler would see trajectories, and scale each time by itself.
    pipeline = make_pipeline(FieldScaler(grid_shape=32), RolloutRegressor(Ridge())).fit(heat)
    with pytest.raises(TypeError, match=r"Pipeline has no rollouts .* inside: RolloutRegressor\(make_pipeline\("):
        trajectory_l2_scorer(pipeline, heat)
    with pytest.raises(ValueError, match="X has trajectories of n_times=1"):
        trajectory_l2_scorer(model, heat[:, :1])


class Squaring(RegressorMixin, BaseEstimator):
    """u -> u², which grows beyond all bounds from above 1."""

    def fit(self, X, y):
        return self

    def predict(self, X):
        assert np.isfinite(X).all()
        return X**2


def test_unstable_rollouts_are_told(recwarn):
    X = np.tile([[1.0], [3.0], [9.0]], (4, 1, 1))  # four trajectories of one value
    model = RolloutRegressor(LinearRegression(fit_intercept=False)).fit(X)
    np.testing.assert_allclose(model.rollout(X[:, 0], 6)[:, -1], 3.0**6)
    np.testing.assert_allclose(model.rollout(1e3 * X[:, 0], 2)[:, -1], 9e3)
    assert not recwarn
    with pytest.warns(DivergenceWarning, match="grow to 2.2e.03 within 7 steps, from states of at most 9.0e.00"):
        model.rollout(X[:, 0], 7)


def test_diverging_rollouts_are_nan_from_there_on():
    model = RolloutRegressor(Squaring(), residual=False, scale=None).fit(np.ones((3, 2, 2)))
    start = np.array([[0.5, 0.5], [0.5, 10.0], [1.0, 1.0], [1e200, 0.0]])
    with pytest.warns(
        DivergenceWarning, match="2 of 4 rollouts became infinite or NaN, the first at step 1 of 12"
    ) as record:
        rollouts = model.rollout(start, 12)
    assert len(record) == 1
    assert record[0].filename == __file__
    for states, u in zip(rollouts, start, strict=True):
        with np.errstate(over="ignore"):
            expected = np.stack([u ** (2.0**k) for k in range(13)])
        expected[~np.isfinite(expected).all(axis=1)] = np.nan
        np.testing.assert_allclose(states, expected)
    with pytest.warns(DivergenceWarning, match="1 of 1 rollouts"):
        assert np.isnan(model.rollout(start[1:2], 12)[0, 9:]).all()
    U = np.repeat(start[:, None], 13, axis=1)
    with pytest.warns(DivergenceWarning, match="2 of 4"):
        assert model.score(U) == -np.inf
    with pytest.warns(DivergenceWarning, match="2 of 4"):
        assert trajectory_l2_scorer(model, U) == -np.inf
    # The scaler of the targets lets infinity through.
    targets = TransformedTargetRegressor(Squaring(), transformer=FieldScaler())
    model = RolloutRegressor(targets, residual=False, scale=None).fit(np.ones((3, 2, 2)))
    with pytest.warns(DivergenceWarning, match="2 of 4"):
        assert trajectory_l2_scorer(model, U) == -np.inf


def test_parameters_and_data_stay_as_they_are(heat):
    random_state = np.random.RandomState(3)
    inner = NeuralHSSRegressor(max_epochs=2, random_state=random_state)
    model = RolloutRegressor(inner).fit(heat.copy())
    assert model.estimator is inner
    assert not hasattr(inner, "net_")
    assert random_state.randint(1000) == np.random.RandomState(3).randint(1000)
    assert model.set_params(estimator__rank=1).estimator.rank == 1
    assert model.get_params()["estimator__rank"] == 1
    before = heat.copy()
    RolloutRegressor(Ridge()).fit(heat).rollout(heat[:, 0], 2)
    np.testing.assert_array_equal(heat, before)


def test_data_frames(heat):
    columns = [f"x{i}" for i in range(32)]
    X, Y = (pd.DataFrame(heat[:, t], columns=columns) for t in (0, 1))
    model = RolloutRegressor(Ridge()).fit(X, Y)
    assert list(model.feature_names_in_) == columns
    np.testing.assert_array_equal(
        model.rollout(X, 2), RolloutRegressor(Ridge()).fit(X.values, Y.values).rollout(X.values, 2)
    )
    with pytest.raises(ValueError, match="feature names should match"):
        model.rollout(X.rename(columns={"x0": "y0"}), 2)


U = trajectories(4, 3, 6)
NAN = U.copy()
NAN[1, 1, 1] = np.nan


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((U[:, :1],), "X has trajectories of n_times=1; at least 2 are needed"),
        (
            (U[0],),
            r"must be trajectories \(n_trajectories, n_times, \*state\), and has shape \(3, 6\); a single one is X\[",
        ),
        ((NAN,), "Input X contains NaN"),
        ((U[:0],), "Found array with 0 sample"),
        ((U + 1j,), "Complex data not supported"),
        ((NAN[:, 1], U[:, 1]), "Input X contains NaN"),
        ((U[:, 1], NAN[:, 1]), "Input (y )?contains NaN"),
        ((U[:, 0], U[:3, 0]), "inconsistent numbers of samples"),
        ((U[:, 0, :4], U[:, 0]), r"y has states of shape \(6,\), but X has states of shape \(4,\); they must be equal"),
        ((U, U[:, :, :4]), r"y has states of shape \(3, 4\), but X has states of shape \(3, 6\)"),
        ((U, U[:, 0]), r"y has states of shape \(6,\), but X has states of shape \(3, 6\)"),
        (
            (U, None, np.ones(5)),
            r"sample_weight has shape \(5,\); it must have 4 entries, one per trajectory, or 8, one",
        ),
        ((U, None, -np.ones(4)), "Negative values in data passed to `sample_weight`"),
        ((U, None, np.zeros(4)), "Sample weights must contain at least one non-zero number"),
        ((U[:, 0], U[:, 1], np.ones(5)), "sample_weight.shape"),
    ],
)
def test_bad_data(data, message):
    class Never(Ridge):
        def fit(self, X, y, sample_weight=None):
            pytest.fail("fitted")

    fitted = RolloutRegressor(Ridge()).fit(U[..., :5])
    with pytest.raises(ValueError, match=message):
        fitted.set_params(estimator=Never()).fit(*data)
    # The earlier fit is as it was.
    assert fitted.rollout(U[:, 0, :5], 1).shape == (4, 2, 5)


def test_bad_parameters():
    with pytest.raises(ValueError, match="The 'estimator' parameter of RolloutRegressor"):
        RolloutRegressor("ridge").fit(U)
    with pytest.raises(ValueError, match="The 'residual' parameter"):
        RolloutRegressor(Ridge(), residual="no").fit(U)
    with pytest.raises(ValueError, match="The 'scale' parameter"):
        RolloutRegressor(Ridge(), scale="std").fit(U)
    with pytest.raises(
        ValueError, match="sample_weight was given, but fit of the estimator KNeighborsRegressor does not"
    ):
        RolloutRegressor(KNeighborsRegressor()).fit(U, sample_weight=np.ones(4))
    with pytest.raises(ValueError, match="adjoint was given, but fit of the estimator Ridge"):
        RolloutRegressor(Ridge()).fit(U, adjoint=None)
    with pytest.raises(ValueError, match="levels=9 is too deep"):
        RolloutRegressor(NeuralHSSRegressor(levels=9)).fit(U)


def test_bad_rollouts():
    model = RolloutRegressor(make_pipeline(MaxAbsScaler(), Ridge()))
    with pytest.raises(NotFittedError):
        model.rollout(U[:, 0], 1)
    with pytest.raises(NotFittedError):
        model.score(U)
    model.fit(U)
    with pytest.raises(ValueError, match="n_steps == -1, must be >= 0"):
        model.rollout(U[:, 0], -1)
    with pytest.raises(TypeError, match="n_steps must be an instance of int"):
        model.rollout(U[:, 0], 1.5)
    with pytest.raises(ValueError, match=r"u0 has fields of shape \(3, 6\), but the fit was on fields of shape \(6,\)"):
        model.rollout(U, 1)
    with pytest.raises(ValueError, match="X has 5 features, but RolloutRegressor is expecting 6 features"):
        model.rollout(U[:, 0, :5], 1)
    with pytest.raises(ValueError, match="Input u0 contains NaN"):
        model.rollout(NAN[:, 1], 1)
    grids = RolloutRegressor(NeuralHSSRegressor(init="random", **TINY)).fit(trajectories(4, 3, 4, 6))
    with pytest.raises(
        ValueError, match=r"X has fields of shape \(6, 4\), but the fit was on fields of shape \(4, 6\)"
    ):
        grids.predict(np.ones((2, 6, 4)))
    with pytest.raises(ValueError, match="requires y to be passed"):
        model.score(U[:, 0])
    with pytest.raises(ValueError, match="X has trajectories of n_times=1; at least 2 are needed"):
        model.score(U[:, :1])


# Linear time steps


def crank_nicolson(n, velocity, n_axes=1, dt=2e-3):
    """Matrix of a step of u_t = (a u')' - velocity u', u = 0 at the ends, or of the sum of that over two axes."""
    a = 1 + 0.5 * np.sin(2 * np.pi * np.arange(n + 1) / (n + 1))
    D = (np.eye(n + 1, n) - np.eye(n + 1, n, k=-1)) * (n + 1)
    A = D.T @ np.diag(a) @ D + velocity * (np.eye(n, k=1) - np.eye(n, k=-1)) * (n + 1) / 2
    if n_axes == 2:
        A = np.kron(np.diag(1 + np.arange(n) / n), A) + np.kron(A, np.eye(n))
    one = np.eye(len(A))
    return np.linalg.solve(one + dt / 2 * A, one - dt / 2 * A)


@pytest.mark.parametrize("kind", ["white", "smooth"])
@pytest.mark.parametrize(("n", "n_axes", "velocity"), [(32, 1, 0), (32, 1, 20), (12, 2, 0), (12, 2, 20)])
def test_crank_nicolson_from_20_pairs(n, n_axes, velocity, kind):
    grid = (n,) * n_axes
    matrix, u = crank_nicolson(n, velocity, n_axes), np.random.RandomState(0).standard_normal((23, *grid))
    if kind == "smooth":
        waves = np.sin(np.pi * np.outer(np.arange(1, n + 1), np.arange(1, n + 1)) / (n + 1))
        for axis in range(1, n_axes + 1):
            u = np.moveaxis(np.moveaxis(u, axis, -1) / np.arange(1, n + 1) @ waves, -1, axis)
    truth = stepped(matrix, u.reshape(23, -1), 50).reshape(23, 51, *grid)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = RolloutRegressor(HSSRegressor(random_state=0)).fit(truth[:20, 0], truth[:20, 1])
        rollouts = model.rollout(truth[20:, 0], 50)
    errors = np.linalg.norm((rollouts - truth[20:])[:, -1].reshape(3, -1), axis=1)
    assert (errors < 1e-10 * np.linalg.norm(truth[20:, -1].reshape(3, -1), axis=1)).all()
    assert not model.increments_
    assert model.spectral_radius_ == pytest.approx(np.abs(np.linalg.eigvals(matrix)).max(), abs=2e-3)


def test_the_heat_data_of_the_paper_from_40_pairs():
    _, U = make_heat(50, solver="exact", return_trajectories=True, random_state=0)
    _, other = make_heat(3, initial="grf", solver="exact", return_trajectories=True, random_state=1)
    model = RolloutRegressor(HSSRegressor(random_state=0)).fit(U[:40, :2])
    for truth, bound in ((U[40:], 1e-12), (other, 5e-6)):
        assert relative_l2_error(truth[:, -1], model.rollout(truth[:, 0], 40)[:, -1]) < bound


def test_a_step_that_is_unstable_beyond_the_training_states_is_warned_of():
    n, c = 40, 0.6  # explicit, which needs c <= 1/2
    matrix = (1 - 2 * c) * np.eye(n) + c * (np.eye(n, k=1) + np.eye(n, k=-1))
    k, x = np.arange(1, 9), np.arange(1, n + 1) / (n + 1)
    u = np.random.RandomState(0).standard_normal((20, 8)) @ np.sin(np.pi * np.outer(k, x))
    with pytest.warns(DivergenceWarning, match=r"a spectral radius of 1\.396, although .* more than a factor of 0\.96"):
        model = RolloutRegressor(HSSRegressor(solver="local", random_state=0)).fit(u, u @ matrix.T)
    assert model.spectral_radius_ == pytest.approx(4 * c * np.cos(np.pi / 2 / (n + 1)) ** 2 - 1, rel=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DivergenceWarning)
        # Here, the training states grow as well.
        model = RolloutRegressor(HSSRegressor(random_state=0)).fit(u, 1.25 * u)
    assert model.spectral_radius_ == pytest.approx(1.25)


@pytest.mark.parametrize("residual", [True, False])
def test_the_spectral_radius_is_that_of_the_step(matrix, residual):
    u = np.random.RandomState(0).standard_normal((30, 6))
    model = RolloutRegressor(HSSRegressor(random_state=0), residual=residual).fit(u, 3 * u @ matrix.T)
    assert model.spectral_radius_ == pytest.approx(3)
    assert model.increments_ == residual


def test_steps_that_are_not_linear_maps_of_states_have_no_spectral_radius(heat):
    assert RolloutRegressor(REGRESSORS["NeuralHSS"]).fit(heat).spectral_radius_ is None
    assert RolloutRegressor(Ridge()).fit(heat).spectral_radius_ is None
    u = heat[:, 0]
    assert RolloutRegressor(HSSRegressor()).fit(np.hstack([u, u]), heat[:, 1]).spectral_radius_ is None


def test_of_steps_that_are_about_as_good_the_stable_one_is_chosen():
    """All pairs are of one trajectory, which the closed form and a local law reproduce, with corrections."""
    _, U = make_heat(4, 64, solver="exact", return_trajectories=True, random_state=0)
    model = RolloutRegressor(HSSRegressor(random_state=0)).fit(U[:1])
    assert model.spectral_radius_ < 1
    assert relative_l2_error(U[1:, -1], model.rollout(U[1:, 0], 40)[:, -1]) < 0.5
    unaware = HSSRegressor(random_state=0).fit(U[0, :-1], U[0, 1:])
    assert np.abs(np.linalg.eigvals(unaware.operator_ @ np.eye(64))).max() > 1.1


def noisy_trajectories(seed):
    """Ten trajectories with noise, and the exact first and second states of ten others."""
    _, U = make_heat(20, 64, initial="grf", solver="exact", return_trajectories=True, random_state=seed)
    return U[:10, ::4] + 1e-2 * np.random.RandomState(seed).standard_normal((10, 11, 64)), U[10:, 0], U[10:, 4]


@pytest.mark.parametrize("seed", [0, 1])
def test_of_noisy_states_the_better_one_of_states_and_increments_is_learned(seed):
    noisy = noisy_trajectories(seed)[0]
    of = {r: RolloutRegressor(HSSRegressor(random_state=0), residual=r).fit(noisy) for r in ("auto", False, True)}
    errors = [
        of[False].estimator_.held_out_error_ * np.linalg.norm(noisy[:, 1:]),
        of[True].estimator_.held_out_error_ * np.linalg.norm(np.diff(noisy, axis=1)),
    ]
    assert of["auto"].increments_ == (errors[1] < errors[0])


@pytest.mark.parametrize("seed", range(5))
def test_whole_trajectories_are_held_out(seed):
    """Pairs of the same trajectories would favour ridge regression, which knows these best."""
    noisy, first, second = noisy_trajectories(seed)
    models = [RolloutRegressor(model).fit(noisy) for model in (HSSRegressor(random_state=0), RidgeCV())]
    errors = [relative_l2_error(second, model.predict(first)) for model in models]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("n_trajectories", [4, 10])
def test_the_held_out_error_is_that_of_new_trajectories(n_trajectories):
    """No linear map predicts shocks, but one that knows other states of the same trajectory comes close."""
    _, U = make_burgers(40, 64, return_trajectories=True, random_state=2, verbose=0)
    with pytest.warns(PoorFitWarning):
        model = RolloutRegressor(HSSRegressor(random_state=0), residual=False).fit(U[:n_trajectories])
    states, following = (U[20:, part].reshape(-1, 64) for part in np.s_[:-1, 1:])
    assert relative_l2_error(following, model.predict(states)) < 2 * model.estimator_.held_out_error_


def test_the_order_of_trajectories_does_not_matter():
    noisy = noisy_trajectories(0)[0]
    fits = [RolloutRegressor(HSSRegressor(random_state=0)).fit(U) for U in (noisy, noisy[::-1])]
    assert len({model.estimator_.held_out_error_ for model in fits}) == 1
