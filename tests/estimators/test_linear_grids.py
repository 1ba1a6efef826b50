"""HSSRegressor and HSSTransformer on fields of two and three dimensions, and with channels."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_hss import HSSRegressor, HSSTransformer
from sklearn_hss.datasets import make_helmholtz, make_poisson
from sklearn_hss.linalg import DiagonalizedOperator, KroneckerProductSum
from sklearn_hss.metrics import relative_l2_error, relative_l2_scorer


def error(model, F, U):
    return relative_l2_error(U, model.predict(F))


def fitted(F, U, **parameters):
    return HSSRegressor(random_state=0, **parameters).fit(F, U)


def fitted_quietly(F, U, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return fitted(F, U, **parameters)


# The means of three seeds that the documentation shows, and every time the first of them.
SEEDS = pytest.mark.parametrize("seeds", [range(1), pytest.param(range(3), marks=pytest.mark.slow)])


def mean_error(make, n_train, seeds, **parameters):
    """Mean error of fits to the paper's data of some seeds."""
    errors = []
    for seed in seeds:
        F, U = make(n_train + 20, (64, 64), random_state=seed)
        errors.append(error(fitted(F[:n_train], U[:n_train], **parameters), F[n_train:], U[n_train:]))
    return np.mean(errors)


def second_difference(n):
    return sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(n, n)) * (n + 1) ** 2


def five_point_solutions(F, shift=0.0):
    """Solutions of -Laplace(u) - shift u = f by a sparse LU, zero beyond the ends of any grid."""
    n, m = F.shape[1:]
    A = sp.kron(second_difference(n), sp.eye(m)) + sp.kron(sp.eye(n), second_difference(m)) - shift * sp.eye(n * m)
    return splu(A.tocsc()).solve(F.reshape(len(F), -1).T).T.reshape(F.shape)


@pytest.fixture(scope="module")
def small():
    """Twelve white forcings on a rectangular grid of an odd and an even size, solved by a sparse LU."""
    F = np.random.RandomState(0).standard_normal((12, 13, 18))
    U = five_point_solutions(F, shift=60.0)
    F.flags.writeable = U.flags.writeable = False
    return F, U


def flat(fields):
    return fields.reshape(len(fields), -1)


# The figures that the documentation promises


@SEEDS
@pytest.mark.parametrize(("make", "bound"), [(make_poisson, 2e-7), (make_helmholtz, 5e-7)])
def test_eight_products_from_four_samples_of_the_paper(make, bound, seeds):
    assert mean_error(make, 4, seeds, outer_rank=8) <= bound


@SEEDS
@pytest.mark.parametrize("outer_rank", [10, "auto"])
@pytest.mark.parametrize("make", [make_poisson, make_helmholtz])
def test_ten_products_from_four_samples_of_the_paper(make, outer_rank, seeds):
    # The forcings have ten modes per axis, so that ten products are enough; eight are not.
    assert mean_error(make, 4, seeds, outer_rank=outer_rank) <= 1e-10


@pytest.mark.slow
def test_the_forward_form_from_samples_of_the_paper():
    assert mean_error(make_poisson, 32, range(3), outer_rank=8, form="forward") <= 1e-7


def test_the_forward_form_of_the_helmholtz_equation():
    F, U = make_helmholtz(52, (64, 64), random_state=0)
    model = fitted(F[:32], U[:32], outer_rank=8, form="forward")
    # 3e-8 on most draws, the floor of eight products; on one of four, the alternation has stopped at 1e-5.
    assert error(model, F[32:], U[32:]) <= 1e-4
    assert (model.form_, model.outer_rank_) == ("forward", 8)
    assert isinstance(model.operator_, KroneckerProductSum)


@pytest.mark.parametrize(("make", "extra"), [(make_poisson, {}), (make_helmholtz, {"boundary": "dirichlet"})])
def test_five_point_schemes_from_eight_samples(make, extra):
    extra = {"order": 2, "random_state": 0, **extra}
    white = make(28, (64, 64), forcing="gaussian", **extra)
    smooth = make(28, (64, 64), forcing="grf", refinement=1, **extra)
    sine = make(20, (64, 64), forcing="sine", refinement=1, **extra)
    model = fitted(white[0][:8], white[1][:8])
    assert (model.form_, model.solver_, model.half_bandwidth_, model.outer_rank_) == ("inverse", "banded", 1, 2)
    for F, U in (white, smooth, sine):
        assert error(model, F[8:], U[8:]) <= 1e-10
    model = fitted(smooth[0][:8], smooth[1][:8])
    assert error(model, smooth[0][8:], smooth[1][8:]) <= 1e-7
    assert error(model, *sine) <= 1e-7
    assert error(model, *white) <= 1e-4


def test_three_dimensions():
    F, U = make_poisson(12, (20, 20, 20), modes=(3, 9), random_state=0)
    model = fitted(F[:4], U[:4], outer_rank=8, solver="eigenbasis")
    assert error(model, F[4:], U[4:]) <= 5e-4
    assert model.outer_rank_ == 8
    assert error(fitted(F[:4], U[:4], form="inverse", solver="eigenbasis"), F[4:], U[4:]) <= 1e-4


# Shapes


def test_flat_fields_need_the_grid_and_give_the_same(small):
    F, U = small
    model = fitted(F[:8], U[:8])
    assert error(model, F[8:], U[8:]) <= 1e-10
    assert model.grid_shape_ == (13, 18)
    assert model.n_features_in_ == 13 * 18
    twin = fitted(flat(F[:8]), flat(U[:8]), grid_shape=(13, 18))
    assert model.predict(F[8:]).shape == (4, 13, 18)
    assert twin.predict(flat(F[8:])).shape == (4, 13 * 18)
    np.testing.assert_array_equal(flat(model.predict(F)), twin.predict(flat(F)))
    np.testing.assert_array_equal(model.predict(flat(F)), model.predict(F))
    # The shape of the predictions is that of the training outputs.
    mixed = fitted(F[:8], flat(U[:8]))
    np.testing.assert_array_equal(mixed.predict(F), twin.predict(flat(F)))
    mixed = fitted(flat(F[:8]), U[:8], grid_shape=(13, 18))
    np.testing.assert_array_equal(mixed.predict(flat(F)), model.predict(F))
    assert error(fitted(F[:8].tolist(), U[:8].tolist()), F.tolist(), U) <= 1e-10


def test_outputs_on_another_grid():
    rng = np.random.RandomState(0)
    A, B, F = rng.standard_normal((9, 7)), rng.standard_normal((5, 6)), rng.standard_normal((20, 7, 6))
    U = A @ F @ B.T
    model = fitted(F[:12], U[:12], outer_rank=1)
    assert model.predict(F).shape == (20, 9, 5)
    assert error(model, F[12:], U[12:]) <= 1e-9
    twin = fitted(flat(F[:12]), U[:12], outer_rank=1, grid_shape=(7, 6))
    np.testing.assert_array_equal(twin.predict(flat(F)), model.predict(F))


def test_channels_against_a_dense_twin():
    rng = np.random.RandomState(0)
    # Two terms that mix the channels and act along both axes.
    mix, A, B = rng.standard_normal((2, 1, 2)), rng.standard_normal((2, 6, 6)), rng.standard_normal((2, 5, 5))
    dense = torch.einsum("kab,kcd,kef->acebdf", *map(torch.from_numpy, (mix, A, B))).reshape(30, 60).numpy()
    F = rng.standard_normal((90, 2, 6, 5))
    U = flat(F) @ dense.T
    model = fitted(F[:60], U[:60].reshape(-1, 6, 5), outer_rank=2, grid_shape=(6, 5))
    assert model.predict(F[60:]).shape == (30, 6, 5)
    np.testing.assert_allclose(flat(model.predict(F[60:])), U[60:], atol=1e-8)
    np.testing.assert_allclose(model.operator_.to_dense(), dense, atol=1e-8)
    np.testing.assert_allclose(model.predict(F[60:]), model.predict(flat(F[60:])))
    with_channel = fitted(F[:60], U[:60].reshape(-1, 1, 6, 5), outer_rank=2, grid_shape=(6, 5))
    np.testing.assert_array_equal(with_channel.predict(F)[:, 0], model.predict(F))
    # Without any structure it takes as many samples as inputs.
    least_squares = LinearRegression(fit_intercept=False).fit(flat(F[:60]), U[:60])
    np.testing.assert_allclose(flat(model.predict(F)), least_squares.predict(flat(F)), atol=1e-7)


def test_channels_of_one_dimension():
    rng = np.random.RandomState(0)
    mix, A, F = rng.standard_normal((3, 2)), rng.standard_normal((8, 8)), rng.standard_normal((40, 2, 8))
    U = np.einsum("ab,cd,nbd->nac", mix, A, F)
    model = fitted(F[:30], U[:30], grid_shape=8)
    assert model.predict(F[30:]).shape == (10, 3, 8)
    assert error(model, F[30:], U[30:]) <= 1e-9
    # One channel is none.
    F, U = make_poisson(20, 32, forcing="gaussian", order=2, random_state=0)
    model, twin = fitted(F[:, None], U[:, None], grid_shape=32), fitted(F, U)
    np.testing.assert_array_equal(model.predict(F[:, None])[:, 0], twin.predict(F))


@pytest.mark.parametrize("grid", [(1, 8), (8, 1), (1, 1), (2, 2), (3, 5), (1, 1, 4)])
@pytest.mark.filterwarnings("ignore:.*outside the span")
def test_tiny_grids(grid):
    rng = np.random.RandomState(0)
    F = rng.standard_normal((100, *grid))
    A = rng.standard_normal((np.prod(grid), np.prod(grid)))
    U = (flat(F) @ A.T).reshape(F.shape)
    # Any matrix at all, of as many samples as it has columns; and of one, from which it only must not crash.
    model = fitted_quietly(F[:50], U[:50], form="forward")
    assert model.predict(F).shape == F.shape
    if len(grid) == 2:
        assert error(model, F[50:], U[50:]) <= 1e-8
    for form in ("auto", "forward", "inverse"):
        assert np.isfinite(fitted_quietly(F[:1], U[:1], form=form).predict(F)).all()


# Few samples, odd samples


def test_one_sample_warns_and_two_do_not(small):
    F, U = small
    with pytest.warns(UserWarning, match="n_samples = 1 leaves none to verify the fit with"):
        model = fitted(F[:1], U[:1])
    assert np.isnan(model.held_out_error_)
    assert error(model, F[1:], U[1:]) <= 1e-9  # white, so that one sample does determine two banded matrices
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert error(fitted(F[:2], U[:2]), F[2:], U[2:]) <= 1e-10


@pytest.mark.filterwarnings("ignore:.*outside the span")
@pytest.mark.parametrize("form", ["auto", "forward", "inverse"])
def test_zero_fields(small, form):
    F, U = small
    for X, Y in ((F, 0 * U), (0 * F, 0 * U), (0 * F, U), (0 * F[:1], 0 * U[:1])):
        assert not fitted_quietly(X, Y, form=form).predict(X).any()


def test_weights_are_copies(small):
    F, U = small
    noisy = U + 1e-3 * np.abs(U).max() * np.random.RandomState(1).standard_normal(U.shape)
    weight = np.array([2, 1, 0, 3, 1, 1, 2, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        weighted = HSSRegressor(random_state=0, solver="eigenbasis").fit(F[:8], noisy[:8], sample_weight=weight)
        copied = HSSRegressor(random_state=0, solver="eigenbasis").fit(
            np.repeat(F[:8], weight, axis=0), np.repeat(noisy[:8], weight, axis=0)
        )
        plain = HSSRegressor(random_state=0, solver="eigenbasis").fit(F[:8], noisy[:8])
    np.testing.assert_array_equal(weighted.predict(F), copied.predict(F))
    assert np.abs(weighted.predict(F) - plain.predict(F)).max() > 1e-6 * np.abs(U).max()
    with pytest.raises(ValueError, match="at least one non-zero"):
        HSSRegressor().fit(F, U, sample_weight=np.zeros(12))


def test_duplicates_and_the_order_of_the_samples_do_not_matter(small):
    F, U = small
    model = fitted(F[:6], U[:6])
    order = np.random.RandomState(0).permutation(6)
    np.testing.assert_array_equal(fitted(F[order], U[order]).predict(F), model.predict(F))
    twice = fitted(np.concatenate([F[:6]] * 2), np.concatenate([U[:6]] * 2))
    assert error(twice, F[6:], U[6:]) <= 1e-10


def test_float32(small):
    F, U = small
    single = [a.astype(np.float32) for a in (F, U)]
    model = fitted(single[0][:8], single[1][:8])
    predicted = model.predict(single[0])
    assert predicted.dtype == np.float32
    assert relative_l2_error(U, predicted) <= 1e-5
    assert model.predict(F).dtype == np.float64


def test_memory_layout_does_not_matter(small):
    F, U = small
    model = fitted(F[:8], U[:8])
    strange = [np.asfortranarray(a[:8]) for a in (F, U)]
    np.testing.assert_array_equal(fitted(*strange).predict(np.asfortranarray(F)), model.predict(F))


# Warnings about inputs unlike those of the training


def test_inputs_outside_the_span():
    F, U = make_helmholtz(12, (32, 32), random_state=0)
    white = np.random.RandomState(0).standard_normal(F.shape)
    model = fitted(F[:6], U[:6], outer_rank=10)
    assert model.completion_ == "inputs outside the span of the samples give zero"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(F)
    with pytest.warns(UserWarning, match=r"9\d% of the squared norm of the inputs lies outside the span"):
        model.predict(white)
    # Inputs outside the span of the samples are mapped to zero: only the part in the span of sin(2 pi k x) counts.
    x = np.arange(32) / 32
    basis = np.sqrt(2 / 32) * np.sin(2 * np.pi * np.outer(np.arange(1, 11), x))
    inside = basis.T @ (basis @ white @ basis.T) @ basis
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        np.testing.assert_allclose(model.predict(white), model.predict(inside), atol=1e-8 * np.abs(U).max())
    with pytest.warns(UserWarning, match="outside the span"):
        HSSTransformer(outer_rank=10, random_state=0).fit(F[:6], U[:6]).transform(white)


def test_banded_inverses_know_no_span(small):
    F, U = small
    model = fitted(F[:8], U[:8])
    assert model.completion_ == "rows the samples do not determine are regularised towards their neighbours"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(np.eye(13 * 18).reshape(-1, 13, 18))


def test_doubtful_fits_are_reported():
    F = np.random.RandomState(0).standard_normal((6, 9, 8))
    with pytest.warns(UserWarning, match="The best fit found has a relative error of .* on held-out samples"):
        model = fitted(F, np.random.RandomState(1).standard_normal(F.shape))
    assert model.held_out_error_ > 0.1
    assert len(model.candidates_) > 3
    assert {"form", "solver", "fit", "held_out_error"} == set(model.candidates_[0])


# As scikit-learn estimators


def test_pickle_clone_and_parameters(small):
    F, U = small
    model = HSSRegressor(rank=2, levels=2, random_state=0).fit(F[:8], U[:8])
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict(F), model.predict(F))
    assert (model.rank_, model.levels_, model.outer_rank_) == (2, 2, 2)
    assert model.n_parameters_ == model.operator_.n_parameters == loaded.n_parameters_
    twin = clone(model)
    assert not hasattr(twin, "operator_")
    assert twin.get_params() == model.get_params()
    np.testing.assert_array_equal(twin.fit(F[:8], U[:8]).predict(F), model.predict(F))
    twin.set_params(levels=1, outer_rank=6, solver="banded").fit(F[:8], U[:8])
    assert (twin.levels_, twin.outer_rank_) == (1, 6)


def test_score_is_that_of_flat_fields(small):
    F, U = small
    model = fitted_quietly(F[:8], U[:8], outer_rank=1)
    residual, spread = U - model.predict(F), U - U.mean(axis=0)
    assert model.score(F, U) == pytest.approx(1 - (residual**2).sum() / (spread**2).sum())
    assert model.score(flat(F), flat(U)) == pytest.approx(model.score(F, U))


def test_grid_search(small):
    F, U = small
    grid = {"rank": [1, 2], "outer_rank": [2, 4], "levels": [1, 2]}
    scores = []
    for X, Y, shape in ((F, U, None), (flat(F), flat(U), (13, 18))):
        # One solver is enough here, and quick.
        search = GridSearchCV(
            HSSRegressor(solver="banded", random_state=0, grid_shape=shape),
            grid,
            scoring=relative_l2_scorer,
            cv=KFold(2),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            search.fit(X, Y)
        scores.append(search.cv_results_["mean_test_score"])
        assert search.best_params_["rank"] == 2
    np.testing.assert_array_equal(*scores)
    assert len(np.unique(scores[0])) == 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        by_hand = [
            -error(fitted(F[train], U[train], solver="banded", rank=2, outer_rank=4, levels=1), F[test], U[test])
            for train, test in KFold(2).split(F)
        ]
    best = search.cv_results_["params"].index({"rank": 2, "outer_rank": 4, "levels": 1})
    assert scores[0][best] == pytest.approx(np.mean(by_hand))


def test_pipeline(small):
    F, U = small
    model = make_pipeline(FunctionTransformer(), HSSRegressor(random_state=0)).fit(F[:8], U[:8])
    np.testing.assert_array_equal(model.predict(F), fitted(F[:8], U[:8]).predict(F))
    # Fields pass from a transformer to a regressor in their shape.
    transformer, regressor = (
        estimator(solver="banded", random_state=0) for estimator in (HSSTransformer, HSSRegressor)
    )
    predicted = make_pipeline(transformer, regressor).fit(F[:8], U[:8]).predict(F)
    first = clone(transformer).fit(F[:8], U[:8])
    by_hand = clone(regressor).fit(first.transform(F[:8]), U[:8]).predict(first.transform(F))
    assert predicted.shape == F.shape
    np.testing.assert_array_equal(predicted, by_hand)


def test_transformer(small):
    F, U = small
    transformer = HSSTransformer(random_state=0).fit(F[:8], U[:8])
    np.testing.assert_array_equal(transformer.transform(F), fitted(F[:8], U[:8]).predict(F))
    back = transformer.inverse_transform(U)
    assert back.shape == F.shape
    np.testing.assert_allclose(back, F, atol=1e-9 * np.abs(F).max())
    np.testing.assert_allclose(transformer.inverse_transform(flat(U)), flat(F), atol=1e-9 * np.abs(F).max())
    assert len(transformer.get_feature_names_out()) == 13 * 18
    assert isinstance(transformer.operator_, DiagonalizedOperator)
    with pytest.raises(ValueError, match="X has 12 features, but the outputs of this transformer have 234"):
        transformer.inverse_transform(U[:, 0, :12])


def test_inverse_transform_where_the_operator_is_known_in_a_subspace():
    F, U = make_helmholtz(10, (32, 32), random_state=0)
    transformer = HSSTransformer(random_state=0).fit(F[:6], U[:6])
    back = transformer.inverse_transform(U[6:])
    np.testing.assert_allclose(back, F[6:], atol=1e-7 * np.abs(F).max())


# Refusals


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"levels": 5}, r"levels=5 is too deep for a mode of 13 points: the largest value that works is 3"),
        ({"levels": 2, "rank": 4}, r"rank=4 is too large for a mode of 13 points: .* works is 3, the smallest leaf"),
        ({"rank": 14}, r"rank=14 is too large .* the largest value that works is 13"),
        ({"solver": "closed_form"}, "solver='closed_form' applies to one-dimensional fields"),
        ({"solver": "gauss_newton"}, "solver='gauss_newton' applies to one-dimensional fields"),
        ({"solver": "als", "form": "inverse"}, "solver='als' does not apply to form='inverse'"),
        (
            {"solver": "banded", "form": "forward"},
            "solver='banded' does not apply to form='forward'",
        ),
        ({"grid_shape": (5, 7)}, r"X has fields of shape \(13, 18\), which do not fit the grid \(5, 7\)"),
        ({"grid_shape": (13, 0)}, r"grid_shape=\(13, 0\) must be a positive integer or a tuple of these"),
        ({"grid_shape": (13, 18.0)}, r"grid_shape=\(13, 18.0\) must be a positive integer"),
        ({"grid_shape": ()}, r"grid_shape=\(\) must be a positive integer"),
        ({"outer_rank": 0}, "The 'outer_rank' parameter of HSSRegressor must be"),
    ],
)
def test_parameters_that_do_not_fit(small, parameters, message):
    F, U = small
    with pytest.raises(ValueError, match=message):
        HSSRegressor(**parameters).fit(F, U)


def test_solvers_of_several_dimensions_in_one():
    F, U = make_poisson(8, 32, random_state=0)
    for solver in ("als", "eigenbasis"):
        with pytest.raises(ValueError, match=f"solver='{solver}' applies to fields of several dimensions"):
            HSSRegressor(solver=solver).fit(F, U)


def test_least_squares_in_three_dimensions():
    F = np.random.RandomState(0).standard_normal((4, 4, 4, 4))
    with pytest.raises(ValueError, match="solver='least_squares' needs fields of two modes, not 3; solver='als'"):
        HSSRegressor(solver="least_squares", outer_rank=2).fit(F, F)
    # Without products, it is that of the flat fields.
    model = fitted_quietly(F, F, solver="least_squares", fit_intercept=False)
    np.testing.assert_allclose(model.predict(F), F, atol=1e-12)


def test_square_forms_need_square_maps(small):
    F, U = small
    for parameters in ({"form": "inverse"}, {"symmetric": True}):
        name = next(iter(parameters))
        with pytest.raises(ValueError, match=f"{name}=.* needs outputs on the grid of the inputs"):
            HSSRegressor(**parameters).fit(F, U[:, 1:])


@pytest.mark.parametrize("estimator", [HSSRegressor, HSSTransformer])
def test_data_that_do_not_fit(small, estimator):
    F, U = small
    with pytest.raises(ValueError, match=r"X has fields of shape \(234,\), which do not fit the grid \(10, 10\)"):
        estimator(grid_shape=(10, 10)).fit(flat(F), flat(U))
    with pytest.raises(ValueError, match=r"y has fields of shape \(100,\), which do not fit the grid \(13, 18\)"):
        estimator().fit(F, flat(U)[:, :100])
    with pytest.raises(ValueError, match=r"y has fields of shape \(13, 18, 1\), .*: np.moveaxis\(y, -1, 1\)"):
        estimator().fit(F, U[..., None])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator().fit(F, U[:5])
    with pytest.raises(ValueError, match="adjoint samples apply to one-dimensional fields"):
        estimator().fit(F, U, adjoint=(F, U))
    for X, Y in ((np.where(F > 2, np.nan, F), U), (F, np.where(F > 2, np.inf, U))):
        with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
            estimator().fit(X, Y)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        estimator().fit(F[:0], U[:0])


def test_other_fields_than_in_the_fit(small):
    F, U = small
    model = fitted(F[:8], U[:8])
    with pytest.raises(ValueError, match=r"X has fields of shape \(18, 13\), but the fit was on .* \(13, 18\)"):
        model.predict(F.transpose(0, 2, 1))
    with pytest.raises(ValueError, match=r"X has fields of shape \(2, 13, 18\), but the fit was on .* \(13, 18\)"):
        model.predict(np.stack([F, F], axis=1))
    with pytest.raises(ValueError, match="X has 233 features, but HSSRegressor is expecting 234"):
        model.predict(flat(F)[:, 1:])
    with pytest.raises(ValueError, match="contains NaN"):
        model.predict(np.where(F > 2, np.nan, F))
    model = fitted_quietly(F[:, :2], U[:, :2], grid_shape=18, outer_rank=1)
    with pytest.raises(ValueError, match=r"X has fields of shape \(3, 18\), but the fit was on .* \(2, 18\)"):
        model.predict(F[:, :3])


@pytest.mark.parametrize("wrong", [{"levels": 9}, {"grid_shape": (9, 9)}, {"solver": "closed_form"}])
def test_a_refused_fit_keeps_the_earlier_one(small, wrong):
    F, U = small
    model = fitted(F[:8], U[:8])
    before = model.predict(F)
    with pytest.raises(ValueError):  # noqa: PT011, which one is tested above
        model.set_params(**wrong).fit(F, U)
    np.testing.assert_array_equal(model.predict(F), before)
    with pytest.raises(ValueError, match="contains NaN"):
        model.set_params(levels="auto", grid_shape=None, solver="auto").fit(np.full((3, 4, 4), np.nan), F[:3, :4, :4])
    np.testing.assert_array_equal(model.predict(F), before)


def test_messages_name_tuples():
    F = np.random.RandomState(0).standard_normal((4, 6, 7))
    with pytest.raises(ValueError, match=r"not to fields on \(6, 7\)"):
        HSSRegressor(solver="closed_form").fit(F, F)


def test_more_terms_than_any_map_needs():
    F = np.random.RandomState(0).standard_normal((4, 6, 7))
    with pytest.raises(ValueError, match=r"outer_rank=37 is more than .* the largest value that works is 36"):
        HSSRegressor(outer_rank=37).fit(F, F)


def test_least_squares_stays_exact_in_the_span_of_the_samples():
    # A symmetric operator that is not separable; what least squares makes of few directions is not symmetric.
    rng = np.random.RandomState(0)
    A = rng.standard_normal((42, 42))
    A = A + A.T
    F = (rng.standard_normal((40, 8)) @ rng.standard_normal((8, 42))).reshape(-1, 6, 7)
    U = (F.reshape(40, -1) @ A).reshape(F.shape)
    model = HSSRegressor(random_state=0).fit(F[:30], U[:30])
    assert relative_l2_error(U[30:], model.predict(F[30:])) < 1e-10
    assert not model.symmetric_
