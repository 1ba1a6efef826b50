"""LocalOperatorRegressor: against the sparse matrices that the samples were made with."""

import pickle
import re

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import spsolve
from scipy.spatial import Delaunay
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, learning_curve
from sklearn.pipeline import make_pipeline

from sklearn_hss import FieldScaler, LocalOperatorRegressor
from sklearn_hss.exceptions import DataWarning, ExtrapolationWarning, UnverifiedFitWarning
from sklearn_hss.linalg import OperatorSum, SparseInverse
from sklearn_hss.metrics import relative_l2_error

RNG = np.random.RandomState


def steps(n, periodic=False):
    """Differences of neighbours, one row per face; u = 0 beyond the ends unless these are neighbours."""
    D = sp.lil_array((n if periodic else n + 1, n))
    D.setdiag(1.0)
    D.setdiag(-1.0, -1)
    if periodic:
        D[0, -1] = -1.0
    return sp.csr_array(D)


def diffusion(grid, seed=0, periodic=False):
    """-div a grad u with random a at the faces, in five points."""
    A, rng = 0.0, RNG(seed)
    for axis, n in enumerate(grid):
        D = (
            sp.kron(steps(n, periodic), sp.eye_array(grid[1]))
            if axis == 0
            else sp.kron(sp.eye_array(grid[0]), steps(n, periodic))
        )
        A = A + D.T @ sp.diags_array(rng.uniform(1, 2, D.shape[0])) @ D
    return sp.csr_array(A)


def solved(A, n_samples, M=None, inside=None, shape=None, seed=1):
    """White f, and u with A u = M f inside and u = 0 elsewhere."""
    n = A.shape[0]
    inside = np.ones(n, bool) if inside is None else inside.ravel()
    F = RNG(seed).standard_normal((n_samples, n)) * inside
    U = np.zeros_like(F)
    rhs = F if M is None else F @ M.T
    U[:, inside] = spsolve(sp.csc_array(A[inside][:, inside]), rhs[:, inside].T).T
    return F.reshape(-1, *(shape or (n,))), U.reshape(-1, *(shape or (n,)))


def same_rows(found, true, rows):
    """Largest difference between rows of sparse matrices, relative to the largest entry."""
    true = sp.csr_array(true)
    return abs(found[rows] - true[rows]).max() / abs(true).max()


GRID = (9, 11)
L_SHAPE = np.ones(GRID, bool)
L_SHAPE[:4, :5] = False
STIFFNESS = diffusion(GRID)
F, U = solved(STIFFNESS, 30, inside=L_SHAPE, shape=GRID)
MODEL = LocalOperatorRegressor(random_state=0)


@pytest.fixture(scope="module")
def fitted():
    return clone(MODEL).set_params(mask=L_SHAPE).fit(F[:8], U[:8])


def error(model, X, y):
    return relative_l2_error(y, model.predict(X))


# The law


def test_law_on_a_mask(fitted):
    inside = L_SHAPE.ravel()
    true = sp.diags_array(1.0 * inside) @ STIFFNESS @ sp.diags_array(1.0 * inside)
    assert same_rows(fitted.L_, true, inside) < 1e-10
    assert same_rows(fitted.M_, sp.eye_array(true.shape[0]), inside) < 1e-12
    assert fitted.M_[~inside].nnz == 0
    assert error(fitted, F[8:], U[8:]) < 1e-12
    assert (fitted.radius_, fitted.neighbourhood_, fitted.two_sided_) == (1, "cross", False)
    assert (fitted.sharing_, fitted.periodic_, fitted.alpha_) == ("row", (False, False), None)
    assert fitted.null_space_.shape == (99, 0)
    assert not fitted.undetermined_.any()
    assert fitted.undetermined_.shape == GRID
    assert isinstance(fitted.operator_, SparseInverse)
    np.testing.assert_array_equal(fitted.mask_, L_SHAPE)


@pytest.mark.parametrize("units", [(1.0, 1.0), (1e6, 1e-3)])
def test_two_sided_law(units):
    # An average of f as compact schemes have it, in an interval.
    n = 24
    A, M = steps(n).T @ steps(n), sp.diags_array([1 / 12, 5 / 6, 1 / 12], offsets=[-1, 0, 1], shape=(n, n))
    X, Y = solved(A, 30, M=M.toarray())
    model = clone(MODEL).set_params(two_sided=True).fit(units[0] * X[:10], units[1] * Y[:10])
    inner = np.arange(2, n - 2)
    assert same_rows(model.M_, M, inner) < 1e-10
    assert same_rows(model.L_, A * (units[0] / units[1]), inner) < 1e-10
    assert isinstance(model.operator_, SparseInverse)
    assert relative_l2_error(units[1] * Y[10:], model.predict(units[0] * X[10:])) < 1e-11
    assert model.two_sided_


def test_channels_in_units_of_their_own():
    A = sp.block_array(
        [[diffusion((6, 7)), 2 * sp.eye_array(42)], [-sp.eye_array(42), diffusion((6, 7), seed=3)]]
    ).tocsr()
    X, Y = solved(A, 40, shape=(2, 6, 7))
    units = np.array([1.0, 1e5])[:, None, None], np.array([1e4, 1e-3])[:, None, None]
    model = clone(MODEL).set_params(grid_shape=(6, 7)).fit(units[0] * X[:20], units[1] * Y[:20])
    errors = relative_l2_error(units[1] * Y[20:], model.predict(units[0] * X[20:]), multioutput="raw_values")
    np.testing.assert_array_less(errors, 1e-11)
    by_rows, by_columns = (np.repeat(unit.ravel(), 42) for unit in units)
    scaled = sp.diags_array(1 / by_rows) @ model.L_ @ sp.diags_array(by_columns)
    assert same_rows(scaled, A, np.arange(84)) < 1e-9
    np.testing.assert_array_less(model.residual(units[0] * X[20:], units[1] * Y[20:]), 1e-12)


def test_periodic_law_has_a_null_space():
    A = diffusion((8, 9), periodic=True)
    X = RNG(0).standard_normal((30, 72))
    X -= X.mean(1, keepdims=True)
    Y = np.linalg.lstsq(A.toarray(), X.T, rcond=None)[0].T
    X, Y = X.reshape(-1, 8, 9), Y.reshape(-1, 8, 9)
    model = clone(MODEL).fit(X[:12], Y[:12])
    assert model.periodic_ == (True, True)
    np.testing.assert_allclose(abs(model.null_space_), 72**-0.5)
    assert same_rows(model.L_, A, np.arange(72)) < 1e-10
    assert error(model, X[12:], Y[12:]) < 1e-11
    for kind in ("span", "gaussian", "grf"):
        np.testing.assert_array_less(model.residual(*model.sample(4, forcing=kind, random_state=0)), 1e-10)
    with pytest.raises(ValueError, match="forcing has no solution"):
        model.sample(forcing=X + 1)


def test_symmetric_law():
    X, Y = solved(steps(20).T @ sp.diags_array(RNG(0).uniform(1, 2, 21)) @ steps(20), 20)
    noisy = Y * (1 + 1e-6 * RNG(1).standard_normal(Y.shape))
    model = clone(MODEL).set_params(symmetric=True, sharing="row", radius=1).fit(X, noisy)
    assert abs(model.L_ - model.L_.T).max() == 0
    assert not model.two_sided_


def test_correction():
    # The matrix has a part that is not local; inputs lie in a space of few dimensions.
    n, n_modes = 128, 5
    waves = np.sin(np.pi * np.outer(np.arange(1, n_modes + 1), np.arange(1, n + 1) / (n + 1)))
    X = RNG(0).standard_normal((30, n_modes)) @ waves
    inverse = np.linalg.inv((steps(n).T @ steps(n)).toarray())
    far = waves.T @ RNG(1).standard_normal((n_modes, n_modes)) @ waves / n**2
    Y = X @ (inverse + 0.1 * np.linalg.norm(inverse, 2) * far).T
    with_it, without = (clone(MODEL).set_params(correct=correct).fit(X[:12], Y[:12]) for correct in (True, False))
    assert isinstance(with_it.operator_, OperatorSum)
    assert with_it.alpha_ is not None
    assert without.alpha_ is None
    assert error(with_it, X[12:], Y[12:]) < 1e-8
    assert error(without, X[12:], Y[12:]) > 1e-6


# Meshes


def triangles(seed=0):
    """Nodes inside of a distorted square, P1 stiffness and mass matrices, and which nodes share a triangle."""
    x = np.stack(np.meshgrid(*[np.arange(10.0)] * 2, indexing="ij"), -1).reshape(-1, 2)
    inner = ((x > 0) & (x < 9)).all(1)
    x[inner] += RNG(seed).uniform(-0.15, 0.15, (inner.sum(), 2))
    n, corners = len(x), Delaunay(x).simplices
    K, M = sp.lil_array((n, n)), sp.lil_array((n, n))
    for t in corners:
        edges = np.array([x[t[2]] - x[t[1]], x[t[0]] - x[t[2]], x[t[1]] - x[t[0]]])
        area = abs(np.linalg.det(edges[:2])) / 2
        K[np.ix_(t, t)] += edges @ edges.T / (4 * area)
        M[np.ix_(t, t)] += area / 12 * (1 + np.eye(3))
    return x[inner], *(sp.csr_array(Z)[inner][:, inner] for Z in (K, M))


COORDINATES, K, MASS = triangles()
LUMPED = sp.diags_array(MASS.sum(axis=1))
SHARED = sp.csr_array(MASS != 0)


def test_mesh_with_lumped_mass():
    X, Y = solved(K, 30, M=LUMPED.toarray())
    model = clone(MODEL).set_params(neighbours=SHARED).fit(X[:14], Y[:14])
    assert error(model, X[14:], Y[14:]) < 1e-12
    true = sp.diags_array(1 / LUMPED.diagonal()) @ K
    assert same_rows(model.L_, true, np.arange(len(COORDINATES))) < 1e-9
    assert (model.neighbourhood_, model.sharing_, model.two_sided_) == ("mesh", "row", False)
    one_way = clone(model).set_params(neighbours=sp.triu(SHARED)).fit(X[:14], Y[:14])
    np.testing.assert_allclose(one_way.predict(X[14:]), model.predict(X[14:]), atol=1e-12)


def test_mesh_with_consistent_mass():
    # White forcings, of which a one-sided law explains nothing.
    X, Y = solved(K, 50, M=MASS.toarray())
    model = clone(MODEL).set_params(neighbours=SHARED).fit(X[:24], Y[:24])
    assert model.two_sided_
    assert error(model, X[24:], Y[24:]) < 1e-11
    # Rows near the boundary may be combined with those inside them, whose neighbours all belong to them.
    sums, known = MASS.sum(axis=1), ~model.undetermined_
    assert known.sum() > 40
    assert same_rows(model.M_, sp.diags_array(1 / sums) @ MASS, known) < 1e-8
    assert same_rows(model.L_, sp.diags_array(1 / sums) @ K, known) < 1e-8


def test_scattered_points():
    X, Y = solved(K, 60, M=LUMPED.toarray())
    model = clone(MODEL).set_params(points=COORDINATES).fit(X[:40], Y[:40])
    assert error(model, X[40:], Y[40:]) < 1e-11


def test_mask_and_channels_on_a_mesh():
    A = sp.block_diag([K, K + sp.eye_array(len(COORDINATES))]).tocsr()
    X, Y = solved(A, 60, shape=(2, len(COORDINATES)))
    X, Y = (np.concatenate([Z, np.full((60, 2, 1), np.nan)], axis=2) for Z in (X, Y))
    graph = sp.block_diag([SHARED, np.zeros((1, 1))])
    mask = np.arange(len(COORDINATES) + 1) < len(COORDINATES)
    model = clone(MODEL).set_params(neighbours=graph, mask=mask).fit(X[:40], Y[:40])
    prediction = model.predict(X[40:])
    assert np.isnan(prediction[..., -1]).all()
    assert relative_l2_error(Y[40:, :, mask], prediction[..., mask]) < 1e-11
    assert model.L_.shape == (2 * mask.size, 2 * mask.size)


# Samples of all kinds


@pytest.mark.parametrize("n_samples", [1, 2, 3])
def test_constant_coefficients_from_few_samples(n_samples):
    A = sp.kron(steps(9).T @ steps(9), sp.eye_array(11)) + sp.kron(sp.eye_array(9), steps(11).T @ steps(11))
    X, Y = solved(A.tocsr(), 20, inside=L_SHAPE, shape=GRID)
    model = clone(MODEL)
    if n_samples == 1:
        with pytest.warns(UnverifiedFitWarning):
            model.fit(X[:1], Y[:1])
    else:
        model.fit(X[:n_samples], Y[:n_samples])
    assert error(model, X[3:], Y[3:]) < 1e-12


def test_samples_that_add_nothing():
    index = [0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 0]
    X, Y = np.concatenate([F[index], 0 * F[:2]]), np.concatenate([U[index], 0 * U[:2]])
    assert error(clone(MODEL).fit(X, Y), F[8:], U[8:]) < 1e-12
    weighted = clone(MODEL).fit(F[:10], U[:10] + (np.arange(10) > 7)[:, None, None], sample_weight=np.arange(10) < 8)
    assert error(weighted, F[8:], U[8:]) < 1e-12
    with pytest.raises(ValueError, match="are zero, which does not determine"):
        clone(MODEL).fit(F[:4], 0 * U[:4])
    with pytest.raises(ValueError, match="zero but for a constant field"):
        clone(MODEL).set_params(fit_intercept=True).fit(np.ones((4, 8, 8)), np.ones((4, 8, 8)))


def test_islands():
    mask = np.zeros(GRID, bool)
    mask[0:3, 0:4] = mask[5, 5] = mask[4:8, 7:10] = mask[8, 0:2] = True
    X, Y = solved(STIFFNESS, 20, inside=mask, shape=GRID)
    for given in (mask, None, "auto"):
        model = clone(MODEL).set_params(mask=given).fit(X[:8], Y[:8])
        assert error(model, X[8:], Y[8:]) < 1e-12


def test_single_precision(fitted):
    model = clone(fitted).fit(F[:20].astype(np.float32), U[:20].astype(np.float32))
    prediction = model.predict(F[20:].astype(np.float32))
    assert prediction.dtype == np.float32
    assert relative_l2_error(U[20:], prediction) < 1e-4


def test_offset():
    offset = 1.0 + np.arange(11.0) * L_SHAPE
    model = clone(MODEL).fit(F[:14], U[:14] + offset)
    assert relative_l2_error(U[14:] + offset, model.predict(F[14:])) < 1e-11
    np.testing.assert_allclose(model.intercept_, offset, rtol=1e-10)
    np.testing.assert_array_less(model.residual(F[14:], U[14:] + offset), 1e-10)


def test_flat_fields(fitted):
    flat = clone(MODEL).set_params(grid_shape=GRID, mask=L_SHAPE).fit(F[:8].reshape(8, -1), U[:8].reshape(8, -1))
    np.testing.assert_allclose(flat.predict(F[8:].reshape(22, -1)), fitted.predict(F[8:]).reshape(22, -1), atol=1e-12)
    assert flat.sample(3, random_state=0)[0].shape == (3, 99)


def test_numbers_have_no_law():
    X = RNG(0).standard_normal((40, 12))
    with pytest.warns(DataWarning, match="there is no law"):
        model = clone(MODEL).fit(X, X @ np.arange(12.0))
    np.testing.assert_allclose(model.predict(X), X @ np.arange(12.0))
    assert model.L_ is None
    with pytest.raises(ValueError, match="There is no law"):
        model.sample()


# Use


def test_residual_tells_pairs_that_belong_together(fitted):
    np.testing.assert_array_less(fitted.residual(F[8:], U[8:]), 1e-12)
    np.testing.assert_array_less(0.5, fitted.residual(F[8:], U[8:][::-1]))
    np.testing.assert_array_equal(fitted.residual(0 * F[:2], 0 * U[:2]), 0)
    L, M = fitted.L_.toarray(), fitted.M_.toarray()
    f, u = F[9].ravel(), U[10].ravel()
    expected = np.linalg.norm(M @ f - L @ u) / max(np.linalg.norm(M @ f), np.linalg.norm(L @ u))
    np.testing.assert_allclose(fitted.residual(F[9:10], U[10:11]), expected)
    with pytest.raises(ValueError, match="X has 2 samples and y 3"):
        fitted.residual(F[:2], U[:3])


def test_drawn_samples(fitted):
    size = np.sqrt(np.square(F).mean())
    for kind in ("span", "gaussian", "grf"):
        X, Y = fitted.sample(200, forcing=kind, random_state=0)
        assert X.shape == Y.shape == (200, *GRID)
        assert not X[:, ~L_SHAPE].any()
        assert 0.8 * size < np.sqrt(np.square(X).mean()) < 1.2 * size
        u = spsolve(sp.csc_array(STIFFNESS[L_SHAPE.ravel()][:, L_SHAPE.ravel()]), X[:, L_SHAPE].T).T
        assert relative_l2_error(u, Y[:, L_SHAPE]) < 1e-11
        np.testing.assert_array_equal(fitted.sample(200, forcing=kind, random_state=0)[0], X)
    span = fitted.sample(20, random_state=1)[0].reshape(20, -1)
    rest = span - span @ np.linalg.pinv(F[:8].reshape(8, -1)) @ F[:8].reshape(8, -1)
    assert abs(rest).max() < 1e-12
    np.testing.assert_allclose(fitted.sample(forcing=F[8:])[1], U[8:], atol=1e-12)


def test_random_fields_are_as_rough_as_asked_for():
    X, Y = solved(diffusion((20, 20)), 20, shape=(20, 20))
    model = clone(MODEL).fit(X[:10], Y[:10])

    def roughness(fields):
        return np.square(np.diff(fields, axis=1)).mean() / np.square(fields).mean()

    smooth, rough = (model.sample(50, forcing="grf", length_scale=s, random_state=0)[0] for s in (2.0, 0.5))
    # Of the spectrum (1 + s² k²)^-4, the mean square of k is 1 / (2 s²), half of it along each axis.
    assert 0.5 < roughness(smooth) / (1 / (4 * 2.0**2)) < 2
    assert roughness(rough) > 4 * roughness(smooth)
    of_training = clone(MODEL).fit(smooth, model.predict(smooth))
    again = of_training.sample(50, forcing="grf", random_state=1)[0]
    assert 0.5 < roughness(again) / roughness(smooth) < 2


def test_doubts_about_other_forcings():
    X, Y = solved(diffusion((12, 12)), 4, shape=(12, 12))
    model = clone(MODEL).set_params(sharing="row", radius=1, neighbourhood="box", two_sided=False).fit(X, Y)
    assert model.undetermined_.sum() > 100
    model.sample(2)
    with pytest.warns(ExtrapolationWarning, match="do not determine the law"):
        model.sample(2, forcing="gaussian")


def test_refused_samples(fitted):
    for arguments, match in (
        ({"forcing": F[:2, :4]}, "fields of shape"),
        ({"forcing": F[:2], "n_samples": 3}, "must have 3 fields"),
        ({"forcing": np.full((1, *GRID), np.nan)}, "NaN"),
        ({"forcing": "sine"}, "forcing"),
        ({"length_scale": 2.0}, "applies to forcing='grf'"),
        ({"n_samples": 0}, "n_samples"),
    ):
        with pytest.raises(ValueError, match=match):
            fitted.sample(**arguments)


def test_scikit_learn_tools(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(F[:2]), fitted.predict(F[:2]))
    assert fitted.score(F[8:], U[8:]) > 1 - 1e-12
    pipeline = make_pipeline(FieldScaler(), clone(MODEL)).fit(F[:10], U[:10])
    assert error(pipeline, F[10:], U[10:]) < 1e-11
    grid = {"radius": [1, 2], "two_sided": [True, False]}
    X, Y = solved(steps(20).T @ steps(20), 24)
    search = GridSearchCV(clone(MODEL), grid, cv=2).fit(X, Y)
    assert search.best_score_ > 1 - 1e-10
    *_, scores = learning_curve(clone(MODEL), X, Y, cv=2, train_sizes=[4, 12])
    assert scores.min() > 1 - 1e-10


# Refusals

CHAIN = sp.csr_array(sp.eye_array(12, k=1) + sp.eye_array(12, k=-1))
PLACES = RNG(0).standard_normal((12, 2))


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"neighbours": CHAIN, "points": PLACES}, "omit one of them"),
        ({"neighbours": CHAIN, "periodic": True}, "periodic=True applies to grids"),
        ({"points": PLACES, "neighbourhood": "box"}, "neighbourhood='box' applies to grids, but points"),
        ({"neighbours": CHAIN, "sharing": "class"}, "sharing='class' applies to grids"),
        ({"neighbours": CHAIN, "grid_shape": (3, 4)}, "grid_shape="),
        ({"neighbours": CHAIN[:6]}, "must be square"),
        ({"neighbours": CHAIN[:7, :7]}, "neighbours has 7 nodes, but X has fields of shape (12,)"),
        ({"neighbours": CHAIN.toarray()}, "sparse"),
        ({"points": np.full((12, 2), np.nan)}, "points contains NaN"),
        ({"points": PLACES[:5]}, "points has 5 nodes"),
        ({"points": PLACES, "n_neighbors": 12}, "n_neighbors=12 needs more than 12 points"),
        ({"n_neighbors": 4}, "requires points="),
        ({"radius": 4}, "radius"),
        ({"radius": True}, "radius"),
        ({"periodic": (True, False)}, "one for each of the axes"),
        ({"periodic": ("yes",)}, "one for each of the axes"),
        ({"symmetric": True, "two_sided": True}, "symmetric=True needs"),
        ({"noise": -1.0}, "noise"),
        ({"mask": np.ones(5, bool)}, "mask has shape (5,)"),
    ],
)
def test_refused_parameters(parameters, match):
    model = clone(MODEL).set_params(**parameters)
    with pytest.raises(ValueError, match=re.escape(match)):
        model.fit(np.eye(12), np.eye(12))
    assert not hasattr(model, "operator_")


@pytest.mark.parametrize(
    ("X", "y", "parameters", "match"),
    [
        (np.eye(6), np.eye(6), {"radius": 3}, "radius=3 needs 7 points"),
        (np.eye(6)[:, :1], np.eye(6)[:, :1], {}, "n_features = 1"),
        (np.ones((4, 6, 1)), np.ones((4, 6, 1)), {"grid_shape": (6, 1)}, "a single point"),
        (np.ones((4, 6, 2)), np.ones((4, 6, 2)), {"grid_shape": (6, 2), "periodic": (False, True)}, "needs 3 points"),
        (np.eye(12), np.eye(12)[:, :10], {}, "on the grid of the inputs"),
        (np.ones((4, 2, 6)), np.ones((4, 6)), {"grid_shape": (6,)}, "the same number of channels"),
        (np.where(np.arange(6) == 2, np.nan, np.eye(6)), np.eye(6), {"mask": "auto"}, "X is NaN in all samples at 1"),
    ],
)
def test_refused_fields(X, y, parameters, match):
    with pytest.raises(ValueError, match=re.escape(match)):
        clone(MODEL).set_params(**parameters).fit(X, y)
