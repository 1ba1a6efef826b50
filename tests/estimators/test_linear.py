"""HSSRegressor and HSSTransformer: what they find from how many samples, and how they deal with bad data."""

import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import LinAlgWarning
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline

from sklearn_hss import HSSRegressor, HSSTransformer, NeuralHSSRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.linalg import ClusterTree, HSSMatrix
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer

sys.path.insert(0, str(Path(__file__).parents[1]))
import operators
from operators import smooth, solutions, white

sys.path.pop(0)


def error(model, F, U):
    return relative_l2_error(U, model.predict(F))


def fitted(F, U, n_samples, **parameters):
    return HSSRegressor(random_state=0, **parameters).fit(F[:n_samples], U[:n_samples])


# Exact recovery


@pytest.mark.parametrize("n", [256, 4096])
@pytest.mark.parametrize("parameters", [{"rank": 2, "symmetric": True}, {"symmetric": True}, {}])
def test_poisson_from_eight_samples(n, parameters):
    F, U = make_poisson(208, n, forcing="gaussian", order=2, random_state=0)
    model = fitted(F, U, 8, **parameters)
    assert error(model, F[8:], U[8:]) <= 1e-12
    assert (model.form_, model.solver_, model.symmetric_, model.rank_) == ("forward", "closed_form", True, 2)


@pytest.mark.parametrize("n", [256, 4096])
@pytest.mark.parametrize("parameters", [{"rank": 2, "symmetric": True}, {}])
def test_helmholtz_from_ten_samples(n, parameters):
    F = white(n, 210)
    U = solutions(operators.helmholtz(n), F)
    assert error(fitted(F, U, 10, **parameters), F[10:], U[10:]) <= 1e-12 * (10 if n == 4096 else 1)


def test_fourth_order_scheme_from_ten_samples():
    # Rank 4 needs 12 samples in the closed form; ten do, because the inverse form completes them. The remainder is
    # rounding of the samples, which the inverse form magnifies by a part of the operator's condition number, 1e7.
    F, U = make_poisson(60, 4096, forcing="gaussian", order=4, random_state=0)
    assert error(fitted(F, U, 10, symmetric=True), F[10:], U[10:]) <= 2e-11


@pytest.mark.parametrize("n_samples", range(8, 24, 3))
def test_completion_with_nearly_enough_samples(n_samples):
    # Noise keeps the closed form from being exact, so that completing it is tried, however few samples are missing.
    F, U = make_poisson(60, 64, forcing="gaussian", order=4, random_state=0)
    noisy = U + 1e-10 * np.abs(U).max() * white(64, 60, seed=1)
    assert error(fitted(F, noisy, n_samples, symmetric=True), F[30:], U[30:]) <= 1e-6


@pytest.mark.parametrize("n", [256, 4096])
@pytest.mark.parametrize("operator", ["convection_diffusion", "indefinite", "convection_variable"])
def test_four_white_samples_are_enough_for_three_points(n, operator):
    F = white(n, 104)
    U = solutions(getattr(operators, operator)(n), F)
    model = fitted(F, U, 4)
    # Rounding times the condition number, 1e5 and 1e7 for the two sizes and more with a variable velocity.
    level = {256: 1e-9, 4096: 1e-8}[n]
    assert error(model, F[4:], U[4:]) <= level


@pytest.mark.parametrize("n", [256, 4096])
@pytest.mark.parametrize("operator", ["convection_diffusion", "indefinite", "convection_variable"])
def test_smooth_samples_determine_the_operator_on_white_forcings(n, operator):
    ab = getattr(operators, operator)(n)
    F, F_white = smooth(n, 10), white(n, 50, seed=1)
    model = fitted(F, solutions(ab, F), 10)
    level = {256: 1e-9, 4096: 1e-7}[n]
    assert error(model, F_white, solutions(ab, F_white)) <= level


def test_forward_samples_alone_without_symmetry():
    F = white(256, 184)
    U = solutions(operators.convection_diffusion(256), F)
    model = fitted(F, U, 84, form="forward")
    assert (model.form_, model.solver_, model.rank_) == ("forward", "variable_projection", 2)
    assert error(model, F[84:], U[84:]) <= 1e-10


def test_adjoint_samples():
    n, ab = 256, operators.convection_diffusion(256)
    F, P = white(n, 110), white(n, 10, seed=1)
    transposed = np.array([np.roll(ab[2], 1), ab[1], np.roll(ab[0], -1)])
    U, Z = solutions(ab, F), solutions(transposed, P)
    for parameters in ({"form": "forward"}, {"rank": 2, "solver": "closed_form"}, {}):
        model = HSSRegressor(random_state=0, **parameters).fit(F[:10], U[:10], adjoint=(P, Z))
        assert (model.solver_, model.symmetric_) == ("closed_form", False)
        assert error(model, F[10:], U[10:]) <= 1e-10


def test_rectangular_operators_from_adjoint_samples():
    A = HSSMatrix.random(ClusterTree(90, 3), ClusterTree(130, 3), 2, generator=torch.Generator().manual_seed(0))
    F, P = white(130, 160), white(90, 60, seed=1)
    model = HSSRegressor(rank=2, levels=3, random_state=0).fit(F[:60], (A @ F[:60].T).T, adjoint=(P, P @ A))
    assert model.predict(F).shape == (160, 90)
    assert error(model, F[60:], (A @ F[60:].T).T) <= 1e-10


@pytest.mark.parametrize("n", [256, 1024, 4096])
def test_theorem_2_3_the_number_of_samples_does_not_depend_on_the_size(n):
    # 3 rank samples determine a symmetric operator, fewer do not.
    F = white(n, 60)
    U = solutions(operators.indefinite_constant(n, 0.0), F)
    assert error(fitted(F, U, 8, solver="closed_form", rank=2), F[10:], U[10:]) < 1e-11
    with pytest.raises(ValueError, match="needs 6"):
        fitted(F, U, 5, solver="closed_form", rank=2)


def symmetric_operator(n, rank, seed=0):
    """Dense sum of rank / 2 symmetric semi-separable matrices, so of HSS rank `rank`, and a diagonal."""
    rng = np.random.RandomState(seed)
    x = np.arange(n) / n
    A = np.diag(1 + rng.uniform(size=n))
    for k in range(rank // 2):
        u, v = np.cos((k + 1) * x), 1 + np.sin((2 * k + 1) * x)
        A += np.triu(np.outer(u, v)) + np.triu(np.outer(u, v), 1).T
    return A


@pytest.mark.parametrize("rank", [2, 4, 8])
def test_theorem_2_3_the_number_of_samples_grows_linearly_with_the_rank(rank):
    n = 256
    A, F = symmetric_operator(n, rank), white(n, 100)
    U = F @ A
    enough = 3 * rank + 3 * max(1, rank // 5) + 2
    model = HSSRegressor(rank=rank, symmetric=True, solver="closed_form", random_state=0)
    assert error(model.fit(F[:enough], U[:enough]), F[enough:], U[enough:]) < 1e-7
    with pytest.raises(ValueError, match=f"needs {3 * rank}"):
        model.fit(F[: 3 * rank - 1], U[: 3 * rank - 1])


# Inputs that do not span the space


@pytest.mark.parametrize("n_samples", [10, 32, 100, 1000])
def test_paper_forcing_in_distribution(n_samples):
    F, U = make_poisson(1200, random_state=0)
    model = fitted(F, U, n_samples)
    least_squares = LinearRegression(fit_intercept=False).fit(F[:n_samples], U[:n_samples])
    found, reference = error(model, F[1000:], U[1000:]), error(least_squares, F[1000:], U[1000:])
    assert found <= 1e-9
    assert found <= max(10 * reference, 1e-12)


def test_off_the_training_span():
    F, U = make_poisson(300, random_state=0)
    unseen, fields = make_poisson(100, modes=(11, 40), random_state=1), make_poisson(132, forcing="grf", random_state=2)
    for parameters in ({"form": "inverse"}, {}):
        model = fitted(F, U, 10, **parameters)
        assert error(model, F[200:], U[200:]) <= 1e-5
        assert error(model, *unseen) <= 5e-2
        model = fitted(*fields, 32, **parameters)
        assert error(model, fields[0][32:], fields[1][32:]) <= 2e-5
        assert error(model, *unseen) <= 5e-2
    assert error(LinearRegression(fit_intercept=False).fit(F[:10], U[:10]), *unseen) > 0.9


@pytest.mark.parametrize("forcing", ["gaussian", "grf"])
@pytest.mark.parametrize("n", [64, pytest.param(256, marks=pytest.mark.slow)])
def test_the_choice_of_the_form_under_noise(n, forcing):
    for n_samples in (20, 100):
        F, U = make_poisson(n_samples + 200, n, forcing=forcing, order=2, refinement=1, random_state=0)
        test = F[n_samples:], U[n_samples:]
        noise = np.random.RandomState(1).standard_normal((n_samples, n)) * np.sqrt(np.mean(U[:n_samples] ** 2))
        for level in (1e-6, 1e-4, 1e-2):
            noisy = U[:n_samples] + level * noise
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                errors = {
                    form: error(HSSRegressor(form=form, random_state=0).fit(F[:n_samples], noisy), *test)
                    for form in ("auto", "forward", "inverse")
                }
            assert errors["auto"] <= 2 * min(errors["forward"], errors["inverse"])


def test_noise_on_the_paper_forcing_against_ridge():
    F, U = make_poisson(1200, random_state=0)
    white_test = make_poisson(200, forcing="gaussian", random_state=1)
    for n_samples in (32, 100, 1000):
        noise = np.random.RandomState(1).standard_normal((n_samples, 256)) * 0.01 * np.sqrt(np.mean(U**2))
        noisy = U[:n_samples] + noise
        ridge = RidgeCV(np.logspace(-8, 4, 25), fit_intercept=False).fit(F[:n_samples], noisy)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = HSSRegressor(random_state=0).fit(F[:n_samples], noisy)
        # A local law is at least about as good, and holds for other forcings.
        assert error(model, F[1000:], U[1000:]) <= 2 * error(ridge, F[1000:], U[1000:])
        assert error(model, *white_test) < 1.01 * error(ridge, *white_test)


# As scikit-learn estimators


def test_inverse_transform_returns_the_inputs():
    for n in (64, 1024):
        F, U = make_poisson(40, n, forcing="gaussian", order=2, random_state=0)
        transformer = HSSTransformer(random_state=0).fit(F[:20], U[:20])
        condition = 4 / np.pi**2 * n**2
        back = transformer.inverse_transform(transformer.transform(F))
        assert np.abs(back - F).max() <= 1e-8 * condition
        # In fact much closer than asked.
        np.testing.assert_allclose(back, F, atol=1e-6)


def test_inverse_transform_of_a_singular_operator():
    F, U = make_poisson(30, 64, random_state=0)
    transformer = HSSTransformer(solver="least_squares", random_state=0).fit(F, U)
    with pytest.warns(LinAlgWarning, match="The operator is singular"):
        back = transformer.inverse_transform(transformer.transform(F))
    np.testing.assert_allclose(back, F, atol=1e-6)
    F, A = white(8, 40), white(8, 5, seed=1)
    transformer = HSSTransformer(random_state=0).fit(F, F @ A.T)
    with pytest.warns(LinAlgWarning, match="The operator is not square"):
        back = transformer.inverse_transform(F @ A.T)
    np.testing.assert_allclose(back @ A.T, F @ A.T)
    with pytest.raises(ValueError, match="X has 8 features, but the outputs of this transformer have 5"):
        transformer.inverse_transform(F)


def test_pipelines_and_searches():
    F, U = make_poisson(60, 64, forcing="gaussian", random_state=0)
    pipeline = make_pipeline(HSSTransformer(random_state=0), NeuralHSSRegressor(max_epochs=2, random_state=0))
    assert relative_l2_error(U, pipeline.fit(F, U).predict(F)) < 1e-2
    search = GridSearchCV(
        HSSRegressor(symmetric=True, solver="closed_form", random_state=0),
        {"rank": [1, 4], "levels": [2, 3]},
        scoring=relative_l2_scorer,
        cv=3,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        search.fit(F, U)
    assert search.best_params_["rank"] == 4
    assert -search.best_score_ < 1e-10
    assert search.best_estimator_.levels_ == search.best_params_["levels"]
    scores = cross_val_score(HSSRegressor(random_state=0), F, U, cv=3)
    np.testing.assert_allclose(scores, 1)
    named = Pipeline([("map", HSSTransformer(random_state=0))]).set_output(transform="pandas")
    assert list(named.fit(F, U).transform(F).columns[:2]) == ["hsstransformer0", "hsstransformer1"]


def test_weights_are_repetitions():
    F, U = make_poisson(12, 32, forcing="gaussian", random_state=0)
    U = U + 0.01 * U.std() * white(32, 12, seed=3)
    weight = np.array([1, 2, 3, 0] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        weighted = HSSRegressor(random_state=0).fit(F, U, sample_weight=weight)
        repeated = HSSRegressor(random_state=0).fit(np.repeat(F, weight, axis=0), np.repeat(U, weight, axis=0))
    np.testing.assert_allclose(weighted.predict(F), repeated.predict(F), atol=1e-10 * np.abs(U).max())


def test_types_and_pickles():
    F, U = make_poisson(20, 64, forcing="gaussian", random_state=0)
    model = HSSRegressor(random_state=0).fit(F.astype(np.float32), U.astype(np.float32))
    assert model.predict(F.astype(np.float32)).dtype == np.float32
    assert model.predict(F).dtype == np.float64
    assert error(model, F, U) < 1e-5
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(F), model.predict(F))
    assert clone(model).get_params() == model.get_params()
    assert HSSRegressor(random_state=0).fit(F, U[:, 3]).predict(F).shape == (20,)


def test_report():
    F, U = make_poisson(20, 64, forcing="gaussian", random_state=0)
    model = HSSRegressor(random_state=0).fit(F, U)
    assert model.operator_.shape == (64, 64)
    assert model.n_parameters_ == model.operator_.n_parameters
    assert model.residual_ < 1e-12
    assert model.held_out_error_ == min(c["held_out_error"] for c in model.candidates_)
    assert "held-out error" in model.reason_


# Data that break assumptions


def test_a_block_without_forcing():
    ab = operators.convection_diffusion(128)
    F = white(128, 40)
    F[:, 50:60] = 0
    U = solutions(ab, F)
    model = fitted(F, U, 20)
    assert error(model, F[20:], U[20:]) <= 1e-9
    # In the inverse form, the equations of these rows come from their neighbours and hold for new forcings, too.
    full = white(128, 20, seed=1)
    assert error(fitted(F, U, 20, form="inverse"), full, solutions(ab, full)) <= 1e-6


def test_constant_columns_and_duplicates():
    F, U = make_poisson(30, 64, forcing="gaussian", random_state=0)
    F[:, 20] = 1.0
    F, U = make_poisson(forcing=F, order=2)
    assert error(fitted(F, U, 12), F[12:], U[12:]) <= 1e-8
    twice = HSSRegressor(random_state=0).fit(np.repeat(F[:12], 2, axis=0), np.repeat(U[:12], 2, axis=0))
    np.testing.assert_allclose(twice.predict(F), fitted(F, U, 12).predict(F), atol=1e-12)


def test_a_rank_that_is_too_small_is_reported():
    F, U = make_poisson(60, 128, forcing="gaussian", random_state=0)
    with pytest.warns(UserWarning, match="relative error of .* on held-out samples"):
        model = fitted(F, U, 60, rank=1, solver="closed_form")
    assert min(model.residual_, model.held_out_error_) > 0.1
    assert model.operator_.rank <= 1


def test_inputs_and_outputs_swapped():
    # The differential operator, then: banded, and of rank 2, too.
    F, U = make_poisson(40, 128, forcing="gaussian", order=2, random_state=0)
    model = HSSRegressor(random_state=0).fit(U[:20], F[:20])
    assert error(model, U[20:], F[20:]) <= 1e-8
    ab, fields = operators.convection_diffusion(128), smooth(128, 40)
    model = HSSRegressor(random_state=0).fit(solutions(ab, fields)[:20], fields[:20])
    assert (model.form_, model.solver_, model.half_bandwidth_) == ("forward", "local", 1)
    assert error(model, solutions(ab, fields), fields) <= 1e-8


def test_an_operator_that_is_not_symmetric_but_said_to_be():
    F = white(64, 40)
    U = solutions(operators.convection_diffusion(64, velocity=60.0), F)
    with pytest.warns(UserWarning, match="not those of a symmetric operator"):
        fitted(F, U, 30, symmetric=True, rank=2, solver="closed_form")


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 13, 31, 127, 251])
def test_any_size(n):
    F = white(n, 60)
    U = solutions(operators.indefinite_constant(n, 0.0), F) if n > 1 else 2 * F
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = fitted(F, U, 30)
    assert error(model, F[30:], U[30:]) <= 1e-10
    transformer = HSSTransformer(random_state=0).fit(F[:30], U[:30])
    np.testing.assert_allclose(transformer.inverse_transform(U), F, atol=1e-6)


@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
def test_operators_that_are_singular_on_constants(boundary):
    F, U = make_poisson(160, 128, boundary=boundary, forcing="gaussian", random_state=1)
    assert error(fitted(F, U, 60), F[60:], U[60:]) <= 1e-10


def test_noise_does_not_inflate_the_operator():
    # A correction by as many directions as there are samples would be larger than a dense matrix.
    F = white(256, 100)
    U = solutions(operators.indefinite_constant(256, 0.0), F)
    U = U + 0.05 * U.std() * white(256, 100, seed=1)
    for boundary_data in ((F, U), make_poisson(100, 128, forcing="grf", random_state=0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = HSSRegressor(random_state=0).fit(*boundary_data)
        assert model.n_parameters_ <= boundary_data[0].shape[1] ** 2


def test_symmetry_is_kept():
    F = white(100, 40)
    U = solutions(operators.indefinite_constant(100, 0.0), F)
    U = U + 0.01 * U.std() * white(100, 40, seed=1)
    for parameters in ({}, {"solver": "least_squares"}, {"form": "inverse"}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = HSSRegressor(symmetric=True, random_state=0, **parameters).fit(F, U)
        dense = model.operator_.to_dense()
        assert model.symmetric_
        assert (dense - dense.T).abs().max() <= 1e-12 * dense.abs().max()


def test_ridge_with_a_given_penalty_is_that_of_scikit_learn():
    F, W = white(40, 200), white(30, 40, seed=1)
    U = F @ W + 3 * white(30, 200, seed=2)
    weight = np.random.RandomState(3).randint(0, 4, size=200)
    for alpha in (0.0, 1.0, 100.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = HSSRegressor(solver="least_squares", alpha=alpha).fit(F, U, sample_weight=weight)
        expected = Ridge(alpha=alpha, fit_intercept=False).fit(F, U, sample_weight=weight).predict(F)
        np.testing.assert_allclose(model.predict(F), expected, atol=1e-9)


def test_ridge_finds_its_penalty_where_least_squares_interpolates():
    # Smooth forcings, linearly independent; without a penalty, the noise would be reproduced exactly.
    ab, F = operators.convection_diffusion(200), smooth(200, 140)
    U = solutions(ab, F)
    noisy = U[:40] + 1e-3 * np.abs(U).max() * white(200, 40, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = HSSRegressor(solver="least_squares").fit(F[:40], noisy)
    ridge = RidgeCV(np.logspace(-8, 4, 25), fit_intercept=False).fit(F[:40], noisy)
    assert error(model, F[40:], U[40:]) <= 1.1 * error(ridge, F[40:], U[40:])


def test_small_outputs_beside_noisy_ones():
    F, W = white(40, 300), white(30, 40, seed=1)
    U = F @ W
    U[:, :10] = 1e3 * U[:, :10] + 100 * white(10, 300, seed=2)
    model = HSSRegressor(random_state=0).fit(F, U)
    assert error(model, F, np.where(np.arange(30) < 10, model.predict(F), F @ W)) <= 1e-6


@pytest.mark.parametrize("parameters", [{}, {"rank": 2}, {"form": "inverse"}, {"solver": "local"}])
def test_inputs_without_information(parameters):
    F = np.zeros((10, 16))
    F[:, 3] = white(1, 10)[:, 0]
    for inputs in (np.zeros((10, 16)), F):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                prediction = HSSRegressor(**parameters).fit(inputs, F).predict(inputs)
            except (ValueError, np.linalg.LinAlgError):
                continue
        assert np.isfinite(prediction).all()


@pytest.mark.parametrize("n_samples", [1, 2, 3])
def test_hardly_any_samples(n_samples):
    F = white(32, n_samples)
    U = F @ white(32, 32, seed=1)
    with pytest.warns(UserWarning, match="leaves none to verify|relative error of"):
        model = HSSRegressor(random_state=0).fit(F, U)
    # The operator of smallest norm that reproduces them.
    least_squares = np.linalg.lstsq(F, U, rcond=None)[0]
    np.testing.assert_allclose(model.predict(F), F @ least_squares, atol=1e-12)


def test_fields_that_are_zero():
    F = white(16, 10)
    assert not HSSRegressor(random_state=0).fit(F, np.zeros_like(F)).predict(F).any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert np.isfinite(HSSRegressor(random_state=0).fit(np.zeros_like(F), F).predict(F)).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rank": 0}, "The 'rank' parameter"),
        ({"rank": 17}, "rank=17 is too large for fields of 16 points: .* is 16"),
        (
            {"rank": 5, "levels": 2},
            r"rank=5 is too large for fields of 16 points: .* is 4, the smallest leaf with levels=2",
        ),
        ({"levels": 5}, "levels=5 is too deep for fields of 16 points: .* is 4"),
        ({"symmetric": "yes"}, "The 'symmetric' parameter"),
        ({"form": "both"}, "The 'form' parameter"),
        ({"solver": "magic"}, "The 'solver' parameter"),
        ({"alpha": -1.0}, "The 'alpha' parameter"),
        ({"form": "inverse", "solver": "closed_form"}, "solver='closed_form' does not apply to form='inverse'"),
        ({"solver": "closed_form", "symmetric": False}, "needs a symmetric operator or adjoint samples"),
        ({"solver": "closed_form", "rank": 3}, "n_samples = 6 is too small .* needs 9"),
    ],
)
def test_bad_parameters(parameters, message):
    F, U = white(16, 6), white(16, 6, seed=1)
    with pytest.raises(ValueError, match=message):
        HSSRegressor(**parameters).fit(F, U)


def test_bad_data():
    F, U = white(16, 8), white(16, 8, seed=1)
    for wrong, message in (
        ((F, U[:4]), "inconsistent numbers of samples"),
        ((np.where(F > 1, np.nan, F), U), "NaN"),
        ((F + 1j, U), "Complex data not supported"),
        ((F, U.reshape(-1, 4, 4)), "do not fit the grid"),
    ):
        with pytest.raises(ValueError, match=message):
            HSSRegressor().fit(*wrong)
    for parameters in ({"symmetric": True}, {"form": "inverse"}):
        with pytest.raises(ValueError, match="needs equally many output and input points; got 4 and 16"):
            HSSRegressor(**parameters).fit(F, U[:, :4])
    with pytest.raises(ValueError, match=r"adjoint must be a pair"):
        HSSRegressor().fit(F, U, adjoint=F)
    with pytest.raises(ValueError, match=r"adjoint=\(P, Z\) has 16 and 4 points"):
        HSSRegressor().fit(F, U, adjoint=(F, U[:, :4]))
    model = HSSRegressor(solver="least_squares").fit(F, U)
    before = model.predict(F)
    with pytest.raises(ValueError, match="inconsistent"):
        model.fit(F, U[:4])
    np.testing.assert_array_equal(model.predict(F), before)
