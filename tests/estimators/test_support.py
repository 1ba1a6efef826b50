"""How much of an input lies outside of what the samples determined, against projections written by hand."""

import warnings

import numpy as np
import pytest

from sklearn_hss import HSSRegressor, HSSTransformer, LocalOperatorRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.exceptions import ExtrapolationWarning

pytestmark = pytest.mark.filterwarnings("ignore:(The best fit found|n_samples = |The samples do not|.* explain the)")


def outside(rows, basis):
    """Fractions of the squares of rows that an orthonormal basis does not reach."""
    return 1 - np.square(rows @ basis).sum(1) / np.square(rows).sum(1)


@pytest.mark.parametrize("kind", [HSSRegressor, HSSTransformer])
def test_outside_of_the_span_of_the_samples(kind):
    rng = np.random.RandomState(0)
    F = rng.standard_normal((10, 5)) @ rng.standard_normal((5, 30))
    model = kind(form="forward", solver="least_squares", random_state=0).fit(F, F @ rng.standard_normal((30, 30)))
    basis = np.linalg.svd(F, full_matrices=False)[2][:5].T
    new = rng.standard_normal((7, 30))
    for size in (1.0, 1e-200, 1e200):
        np.testing.assert_allclose(model.support_distance(new * size), outside(new, basis), rtol=1e-9)
    np.testing.assert_allclose(model.support_distance(F), 0, atol=1e-20)
    left = new - new @ basis @ basis.T
    np.testing.assert_allclose(model.support_distance(left), 1, rtol=1e-12)
    np.testing.assert_array_equal(model.support_distance(np.zeros((2, 30))), 0)


def test_outside_of_the_products_of_what_each_axis_has_seen():
    rng = np.random.RandomState(0)
    bases = [np.linalg.qr(rng.standard_normal((n, k)))[0] for n, k in ((6, 3), (8, 5))]
    F = np.einsum("nij,ai,bj->nab", rng.standard_normal((40, 3, 5)), *bases)
    maps = rng.standard_normal((6, 6)), rng.standard_normal((8, 8))
    U = np.einsum("nij,ai,bj->nab", F, *maps)
    model = HSSRegressor(form="forward", solver="als", outer_rank=1, random_state=0).fit(F, U)
    new = rng.standard_normal((9, 6, 8))
    expected = outside(new.reshape(9, -1), np.kron(*bases))
    np.testing.assert_allclose(model.support_distance(new), expected, rtol=1e-9)
    # The warning is about their mean.
    with pytest.warns(ExtrapolationWarning, match=f"^{expected.mean():.0%} of the squared norm of the inputs lies"):
        model.predict(new)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExtrapolationWarning)
        model.predict(F)


def test_channels_count_in_units_of_their_own():
    rng = np.random.RandomState(0)
    F = rng.standard_normal((12, 2, 3)) @ np.eye(3, 20)
    U = F[:, ::-1] @ rng.standard_normal((20, 20))
    new = np.zeros((2, 2, 20))
    new[0, 0, [0, 10]] = new[1, 0, 0] = new[1, 1, 10] = 1
    found = []
    for unit in (1.0, 1e6):
        units = np.array([1.0, unit])[:, None]
        model = HSSRegressor(form="forward", solver="least_squares", grid_shape=20, random_state=0).fit(F * units, U)
        found.append(model.support_distance(new * units))
    np.testing.assert_allclose(found[0], 0.5, rtol=1e-9)
    np.testing.assert_allclose(found[1][0], 0.5, rtol=1e-9)
    # By the largest magnitude of each channel.
    sizes = np.abs(F).max(axis=(0, 2))
    np.testing.assert_allclose(found[1][1], sizes[1] ** -2 / (sizes**-2.0).sum(), rtol=1e-9)


@pytest.mark.parametrize("regressor", [HSSRegressor(random_state=0), LocalOperatorRegressor(random_state=0)])
def test_exact_laws_hold_for_all_inputs(regressor):
    F, U = make_poisson(12, 32, order=2, modes=(1, 5), random_state=0)
    model = regressor.fit(F, U)
    np.testing.assert_array_equal(model.support_distance(np.random.RandomState(0).standard_normal((5, 32))), 0)


def test_points_at_which_the_samples_leave_the_law_open():
    # Rows in the middle have nine unknowns, of which four samples determine four, those in the corners as many.
    F, U = make_poisson(4, (12, 12), order=2, forcing="gaussian", random_state=0)
    model = LocalOperatorRegressor(
        sharing="row", radius=1, neighbourhood="box", two_sided=False, correct=False, random_state=0
    ).fit(F, U)
    is_open = model.undetermined_.ravel()
    assert 0 < is_open.sum() < is_open.size
    np.testing.assert_array_equal(model.support_distance(np.eye(144).reshape(144, 12, 12)), is_open)
    new = np.random.RandomState(0).standard_normal((6, 144))
    expected = np.square(new[:, is_open]).sum(1) / np.square(new).sum(1)
    np.testing.assert_allclose(model.support_distance(new.reshape(6, 12, 12)), expected, rtol=1e-12)
