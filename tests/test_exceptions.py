"""Warnings: their categories, and the lines that they name."""

import concurrent.futures
import inspect
import re
import runpy
import signal
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import LinAlgWarning
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

import sklearn_hss
from sklearn_hss import FieldScaler, HSSRegressor, HSSTransformer, NeuralHSSRegressor, RolloutRegressor, exceptions
from sklearn_hss._warnings import warn_user
from sklearn_hss.datasets import make_burgers
from sklearn_hss.exceptions import (
    AmbiguousFitWarning,
    CompressionWarning,
    DataWarning,
    DivergenceWarning,
    ExtrapolationWarning,
    HSSWarning,
    PoorFitWarning,
    UnverifiedFitWarning,
)
from sklearn_hss.linalg import HSSMatrix

OURS = (HSSWarning, ConvergenceWarning, LinAlgWarning)
NOISE = np.random.RandomState(0).standard_normal((16, 16))
ALMOST = NOISE + 0.03 * np.random.RandomState(1).standard_normal(NOISE.shape)
CHANNELS_LAST = np.random.RandomState(2).standard_normal((8, 6, 3))
SINGULAR = HSSMatrix.from_diagonal([1.0, 1e-20])


def check_line(category, match, call, *arguments):
    """One warning is of the category, and all that the package gives name the line of the lambda."""
    with pytest.warns(category, match=match) as caught:
        call(*arguments)
    lines = {(w.filename, w.lineno) for w in caught if issubclass(w.category, OURS)}
    assert lines == {(call.__code__.co_filename, call.__code__.co_firstlineno)}


@pytest.mark.parametrize("name", exceptions.__all__)
def test_categories_are_user_warnings_that_say_what_to_do(name):
    category = getattr(exceptions, name)
    assert issubclass(category, HSSWarning)
    assert issubclass(category, UserWarning)
    assert not issubclass(category, RuntimeWarning)
    assert sklearn_hss.exceptions is exceptions
    if category is not HSSWarning:
        assert "Issued by" in inspect.getdoc(category)


def test_all_categories_are_exported():
    classes = inspect.getmembers(exceptions, inspect.isclass)
    assert sorted(name for name, _ in classes) == exceptions.__all__ == sorted(exceptions.__all__)


def test_all_warnings_are_given_in_the_name_of_the_user():
    package = Path(sklearn_hss.__file__).parent
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if "warn(" in path.read_text()}
    assert found == {"_warnings.py"}


class Interrupted(Callback):
    def on_epoch_end(self, net, **kwargs):
        signal.raise_signal(signal.SIGINT)


class Squaring(RegressorMixin, BaseEstimator):
    """A step that diverges from all states above one."""

    def fit(self, X, y):
        return self

    def predict(self, X):
        return X**2


class OfTheUser(NeuralHSSRegressor):
    """Warnings from derived classes also point to the user's code."""

    def fit(self, X, y):
        return super().fit(X, y)


def no_score(model, X, y):
    """To predict may give warnings of its own, which are tested apart."""
    return 0.0


# Ways to fit: one line each, which warnings must name.
FITS = {
    "directly": lambda model, X, y: model.fit(X, y),
    "in a pipeline": lambda model, X, y: make_pipeline(FieldScaler(), model).fit(X, y),
    "in a pipeline in a pipeline": lambda model, X, y: make_pipeline(make_pipeline(model)).fit(X, y),
    "in cross_val_score": lambda model, X, y: cross_val_score(model, X, y, cv=2, scoring=no_score),
    "in GridSearchCV": lambda model, X, y: GridSearchCV(model, {}, cv=2, scoring=no_score).fit(X, y),
    "in learning_curve": lambda model, X, y: learning_curve(model, X, y, cv=2, train_sizes=[1.0], scoring=no_score),
}
TRANSFORMS = {
    "fit_transform": lambda model, X, y: model.fit_transform(X, y),
    "fit_transform of a pipeline": lambda model, X, y: make_pipeline(FieldScaler(), model).fit_transform(X, y),
    "fit of a pipeline": lambda model, X, y: make_pipeline(model, FunctionTransformer()).fit(X, y),
}


SYMMETRIC = {"symmetric": True, "solver": "closed_form", "rank": 1}
NETWORK = NeuralHSSRegressor(levels=1, width=1, max_epochs=1, init="random", random_state=0)


@pytest.mark.parametrize("way", FITS)
def test_networks(way):
    check_line(DataWarning, "contains channels", FITS[way], clone(NETWORK), CHANNELS_LAST, CHANNELS_LAST)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals go to the main thread")
@pytest.mark.parametrize("way", FITS)
def test_interrupted_networks(way):
    model = clone(NETWORK).set_params(max_epochs=3, callbacks=[Interrupted()])
    check_line(ConvergenceWarning, "interrupted by user", FITS[way], model, NOISE, NOISE)
    check_line(ConvergenceWarning, "interrupted by user", FITS[way], model.set_params(warm_start=True), NOISE, NOISE)


def test_classes_of_the_user():
    lines, first = inspect.getsourcelines(OfTheUser.fit)
    with pytest.warns(DataWarning) as caught:
        make_pipeline(OfTheUser(**NETWORK.get_params())).fit(CHANNELS_LAST, CHANNELS_LAST)
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, first + len(lines) - 1)}


@pytest.mark.parametrize("way", FITS)
@pytest.mark.parametrize(
    ("category", "match", "settings", "y"),
    [
        (PoorFitWarning, "The best fit found", {}, np.roll(NOISE, 1, axis=0)),
        (PoorFitWarning, "not those of a symmetric operator", SYMMETRIC, np.roll(NOISE, 1, axis=1)),
        (AmbiguousFitWarning, "The choice of a .* form is close", {}, ALMOST),
    ],
    ids=["poor", "not symmetric", "ambiguous"],
)
def test_fits_of_linear_maps(way, category, match, settings, y):
    check_line(category, match, FITS[way], HSSRegressor(random_state=0, **settings), NOISE, y)


@pytest.mark.parametrize("way", list(FITS)[:3])
def test_fits_of_few_samples(way):
    check_line(UnverifiedFitWarning, "none to verify", FITS[way], HSSRegressor(), NOISE[:1], NOISE[:1])


@pytest.mark.parametrize("way", FITS)
def test_fits_of_linear_maps_to_channels(way):
    check_line(DataWarning, "contains channels", FITS[way], HSSRegressor(), CHANNELS_LAST, CHANNELS_LAST)


@pytest.mark.parametrize("way", TRANSFORMS)
def test_transformers(way):
    check_line(DataWarning, "contains channels", TRANSFORMS[way], HSSTransformer(), CHANNELS_LAST, CHANNELS_LAST)
    noise = np.roll(NOISE, 1, axis=0)
    check_line(PoorFitWarning, "The best fit found", TRANSFORMS[way], HSSTransformer(random_state=0), NOISE, noise)


def test_inputs_and_outputs_outside_the_span():
    waves = np.sin(2 * np.pi * np.outer([1, 2, 3], np.arange(16) / 16))
    F = np.einsum("nij,ix,jy->nxy", np.random.RandomState(3).standard_normal((8, 3, 3)), waves, waves)
    other = np.random.RandomState(4).standard_normal(F.shape)
    model, transformer = (Map(solver="eigenbasis", random_state=0).fit(F, F) for Map in (HSSRegressor, HSSTransformer))
    pipeline = make_pipeline(FunctionTransformer(), transformer)
    match = "outside the span of the training inputs"
    check_line(ExtrapolationWarning, match, lambda: model.predict(other))
    check_line(ExtrapolationWarning, match, lambda: model.score(other, other))
    check_line(ExtrapolationWarning, match, lambda: make_pipeline(FunctionTransformer(), model).predict(other))
    check_line(ExtrapolationWarning, match, lambda: transformer.transform(other))
    check_line(ExtrapolationWarning, match, lambda: pipeline.transform(other))
    check_line(LinAlgWarning, "not in the range of the operator", lambda: transformer.inverse_transform(other))
    check_line(LinAlgWarning, "not in the range of the operator", lambda: pipeline.inverse_transform(other))


def test_singular_maps():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # three samples are few
        transformer = HSSTransformer(solver="least_squares").fit(NOISE[:3], NOISE[:3])
    pipeline = make_pipeline(FunctionTransformer(), transformer)
    check_line(LinAlgWarning, "The operator is singular", lambda: transformer.inverse_transform(NOISE))
    check_line(LinAlgWarning, "The operator is singular", lambda: pipeline.inverse_transform(NOISE))


def test_rollouts():
    model, states = RolloutRegressor(Squaring(), residual=False, scale=None), np.full((4, 3, 2), 2.0)
    far = np.full((4, 13, 2), 2.0)
    model.fit(states)
    match = "became infinite or NaN"
    check_line(DivergenceWarning, match, lambda: model.rollout(states[:, 0], 12))
    check_line(DivergenceWarning, "Rollouts grow to", lambda: model.rollout(states[:, 0], 5))
    check_line(DivergenceWarning, match, lambda: model.score(far))
    check_line(DivergenceWarning, match, lambda: cross_val_score(model, far, cv=2))
    check_line(DivergenceWarning, match, lambda: GridSearchCV(model, {}, cv=2, error_score=0.0).fit(far))


def test_generators():
    check_line(DataWarning, "cell Peclet number", lambda: make_burgers(1, refinement=1, t_final=0.2, random_state=0))


def test_singular_matrices():
    match, b = "singular to working precision", np.ones(2)
    check_line(LinAlgWarning, match, lambda: SINGULAR.solve(b))
    check_line(LinAlgWarning, match, lambda: SINGULAR.factor())
    b_with_grad = torch.ones(2, dtype=torch.float64, requires_grad=True)
    check_line(LinAlgWarning, match, lambda: SINGULAR.solve(b_with_grad))
    # Through an iterative solver of SciPy.
    preconditioner = LinearOperator((2, 2), matvec=SINGULAR.solve, dtype=float)
    check_line(LinAlgWarning, match, lambda: cg(np.eye(2), b, M=preconditioner, maxiter=1))


def test_matrices_that_do_not_compress():
    check_line(CompressionWarning, "holds", lambda: HSSMatrix.from_dense(np.tile(NOISE, (4, 4)) ** 2, levels=2))


CALL = """import warnings
from sklearn_hss.linalg import HSSMatrix
A = HSSMatrix.from_diagonal([1.0, 1e-20])

for _ in range(3):
    A.solve([1.0, 1.0])
"""


@pytest.mark.parametrize("folder", ["sklearn_hss", "site-packages/sklearn", "torch"])
def test_scripts_in_folders_named_like_packages(tmp_path, folder):
    script = tmp_path / folder / "sklearn_hss.py"
    script.parent.mkdir(parents=True)
    script.write_text(CALL)
    with pytest.warns(LinAlgWarning) as caught:
        runpy.run_path(str(script))
    assert {(w.filename, w.lineno) for w in caught} == {(str(script), 6)}


@pytest.mark.parametrize("name", ["<stdin>", "<string>", "<ipython-input-1>"])
def test_code_without_a_file(name):
    with pytest.warns(LinAlgWarning) as caught:
        exec(compile(CALL, name, "exec"), {})
    assert {(w.filename, w.lineno) for w in caught} == {(name, 6)}


def test_filters_and_registries_are_those_of_the_user():
    code, users = compile(CALL, "users.py", "exec"), {"__name__": "users.module"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        exec(code, users)
    assert len(caught) == 1  # of three from one line
    assert "__warningregistry__" in users
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", module=re.escape("users.module"))
        exec(code, users)
    assert not caught
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=LinAlgWarning, module=re.escape("users.module"))
        with pytest.raises(LinAlgWarning):
            exec(code, users)


def test_threads_without_a_line_of_the_user():
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.warns(DataWarning, match="a message") as caught:
        pool.submit(warn_user, "a message", DataWarning).result()
    assert caught[0].filename == concurrent.futures.thread.__file__
