"""Values beyond boundaries, and polynomials in neighbouring values: against twins by hand, and differences."""

import numpy as np
import pytest

from sklearn_hss.fitting._newton import Jacobian
from sklearn_hss.fitting._polynomials import Polynomial, flux_terms, monomials, point_terms
from sklearn_hss.fitting._reflections import REFLECTIONS, Lines

RNG = np.random.RandomState
# Continuations of 1, 2, 3, 4 beyond the last point, by hand.
BEYOND = {
    "odd": [-4, -3],
    "odd beyond": [0, -4],
    "odd node": [-3, -2],
    "even": [4, 3],
    "even node": [3, 2],
    "periodic": [1, 2],
}


@pytest.mark.parametrize("kind", BEYOND)
def test_continuations(kind):
    u = np.arange(1.0, 5)
    lines = Lines((4,), ((kind, kind),))
    extended = np.array([*u, *BEYOND[kind]])
    before = np.array([*u[::-1], *BEYOND[kind]]) if kind != "periodic" else np.array([*u[::-1], 4, 3])
    if kind not in ("periodic",):
        mirrored = {4.0: 1.0, 3.0: 2.0, 2.0: 3.0, 1.0: 4.0, 0.0: 0.0}
        before[4:] = [np.sign(z) * mirrored[abs(z)] for z in before[4:]]
    for offset in (0, 1, 2):
        np.testing.assert_array_equal(lines.shift(0, offset) @ u, extended[offset : offset + 4])
        np.testing.assert_array_equal(lines.shift(0, -offset) @ u, before[offset : offset + 4][::-1])


def test_every_continuation_is_tested():
    assert {*REFLECTIONS, "periodic"} == set(BEYOND)


def test_lines_of_a_mask():
    # Two rows; the middle of the second one is outside, where u = 0 at the point next to the domain.
    inside = np.ones((2, 5), dtype=bool)
    inside[1, 2] = False
    lines = Lines((2, 5), (("odd beyond",) * 2,) * 2, inside, "odd beyond")
    u = np.arange(1.0, 11).reshape(2, 5)
    ahead = np.array([[2, 3, 4, 5, 0], [7, 0, 0, 10, 0]], dtype=float)
    np.testing.assert_array_equal(lines.shift(1, 1) @ u.ravel(), ahead[inside])
    beyond = np.array([[3, 4, 5, 0, -5], [0, -7, 0, 0, -10]], dtype=float)
    np.testing.assert_array_equal(lines.shift(1, 2) @ u.ravel(), beyond[inside])
    assert len(lines.points) == 9


def random_polynomial(n_channels, seed=0):
    inside = np.ones((5, 6), dtype=bool)
    inside[3:, 4:] = False
    lines = [Lines((5, 6), (("odd beyond", "even"), ("periodic", "periodic")), inside)] * n_channels
    spacing, rng = (0.5, 0.3), RNG(seed)
    groups = point_terms(lines, spacing, 1, 2), *(flux_terms(lines, axis, spacing, 1, 3) for axis in (0, 1))
    law = Polynomial(groups, tuple(rng.standard_normal((len(group), n_channels)) for group in groups))
    return law, np.tile(inside.ravel(), n_channels), rng.standard_normal((30 * n_channels, 3))


@pytest.mark.parametrize("n_channels", [1, 2])
def test_derivatives_are_those_of_differences(n_channels):
    law, inside, U = random_polynomial(n_channels)
    direction, h = RNG(1).standard_normal(U.shape), 1e-5
    differences = (law(U + h * direction) - law(U - h * direction)) / (2 * h)
    derivative = law.at(U)
    scale = np.abs(differences).max()
    assert np.abs(derivative(direction[..., None])[..., 0] - differences).max() < 1e-7 * scale
    for k in range(3):
        assert np.abs(derivative.matrix(k) @ direction[:, k] - differences[:, k]).max() < 1e-7 * scale
    # The same from the common pattern, between the points of the domain.
    jacobian = Jacobian(law, inside)
    data = jacobian.data(np.where(inside[:, None], U, 0)[inside])
    at = law.at(np.where(inside[:, None], U, 0))
    for k in range(3):
        dense = np.zeros((jacobian.n, jacobian.n))
        for j in range(jacobian.n):
            entries = slice(*jacobian.indptr[j : j + 2])
            dense[jacobian.indices[entries], j] = data[entries, k]
        expected = at.matrix(k).toarray()[np.ix_(inside, inside)]
        assert np.abs(dense - expected).max() < 1e-12 * np.abs(expected).max()


def test_terms_by_hand():
    n, h = 7, 0.25
    lines, u = [Lines((n,), (("odd beyond",) * 2,))], RNG(2).standard_normal(n)
    padded = np.concatenate([[0], u, [0]])
    slope, second = (padded[2:] - padded[:-2]) / (2 * h), (padded[2:] - 2 * u + padded[:-2]) / h**2
    terms = point_terms(lines, (h,), 1, 2)
    values = dict(zip(terms.names(["u"]), terms.columns(u[:, None])[..., 0], strict=True))
    assert set(values) == {"1", "u", "u_x", "u_xx", "u^2", "u u_x", "u u_xx", "u_x^2", "u_x u_xx", "u_xx^2"}
    for name, expected in {"1": np.ones(n), "u u_x": u * slope, "u_xx": second, "u_x u_xx": slope * second}.items():
        np.testing.assert_allclose(values[name], expected, rtol=1e-12, atol=1e-12)
    fluxes = flux_terms(lines, 0, (h,), 1, 3)
    values = dict(zip(fluxes.names(["u"]), fluxes.columns(u[:, None])[..., 0], strict=True))
    mean, step = (padded[1:] + padded[:-1]) / 2, np.diff(padded) / h
    for name, flux in {"u_x": mean, "u_xx": step, "(u^2 u_x)_x": mean**2 * step, "(u_x^3)_x": step**3}.items():
        np.testing.assert_allclose(values[name], np.diff(flux) / h, rtol=1e-12, atol=1e-10)


def test_monomials_are_all_products():
    # Binomial coefficients count them.
    assert len(monomials(3, 3, 0)) == 20
    assert len({tuple(row) for row in monomials(3, 3, 0)}) == 20
    assert monomials(3, 3).sum(axis=1).min() == 1


@pytest.mark.parametrize("kind", ["periodic", "even"])
def test_fluxes_conserve(kind):
    # The outflow of a point is the inflow of the next one; differences give no flux through an even boundary.
    lines, u = [Lines((6, 7), ((kind, kind),) * 2)], RNG(3).standard_normal((42, 2))
    for axis in (0, 1):
        terms = flux_terms(lines, axis, (0.5, 0.2), 2, 3)
        kept = np.ones(len(terms), dtype=bool)
        if kind == "even":  # fluxes of odd order in the differences vanish there
            odd = [sum(feature.orders) % 2 for feature in terms.features]
            kept = terms.powers @ odd % 2 == 1
        columns = terms.columns(u)[kept]
        assert np.abs(columns.sum(axis=1)).max() < 1e-10 * np.abs(columns).max()
