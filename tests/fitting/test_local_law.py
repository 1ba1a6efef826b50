"""Local laws against the matrices that the samples were made with."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu

from sklearn_hss import HSSRegressor, LocalOperatorRegressor
from sklearn_hss.exceptions import AmbiguousFitWarning
from sklearn_hss.fitting._boundaries import boundaries, null_space
from sklearn_hss.fitting._local_law import LawFit, Stencil
from sklearn_hss.fitting._local_samples import LocalSamples
from sklearn_hss.fitting._neighbourhoods import Differences, Neighbourhood, Points

CROSS, BOX, POINT = Neighbourhood(1), Neighbourhood(1, box=True), Neighbourhood(0)


def five_points(grid, seed=0, periodic=False):
    """-div(a grad u) + c u with random coefficients, u = 0 beyond the ends unless these are neighbours."""
    rng, n = np.random.RandomState(seed), int(np.prod(grid))
    index, L = np.arange(n).reshape(grid), sp.lil_array((n, n))
    for axis in range(len(grid)):
        ahead = np.roll(index, -1, axis)
        last = np.ravel(np.take(index, -1, axis))
        for i, j in zip(index.ravel(), ahead.ravel(), strict=True):
            w = rng.uniform(1, 2)
            if not periodic and i in last:
                L[i, i] += w
                continue
            L[i, i] += w
            L[j, j] += w
            L[i, j] -= w
            L[j, i] -= w
        if not periodic:
            for i in np.ravel(np.take(index, 0, axis)):
                L[i, i] += 1.5
    return sp.csr_array(L)


def samples_of(F, U, grid, periodic=None, inside=None):
    F, U = (torch.from_numpy(np.asarray(Z)).view(len(F), 1, -1) for Z in (F, U))
    points = Points(grid, periodic or (False,) * len(grid))
    return LocalSamples(F, U, points, 1e-15, *boundaries(F, U, points, inside))


def white(n_samples, n, seed=0):
    return np.random.RandomState(seed).standard_normal((n_samples, n))


def unit_rows(A):
    A = A.toarray()
    size = np.abs(A).max(1, keepdims=True)
    return A / np.where(size > 0, size, 1)


@pytest.mark.parametrize(("hood", "n_axes"), [(CROSS, 1), (Neighbourhood(3), 1), (CROSS, 3), (BOX, 2), (POINT, 2)])
def test_differences_are_those_of_polynomials(hood, n_axes):
    offsets, D = hood.offsets(n_axes), hood.differences(n_axes).numpy()
    assert not offsets[0].any()
    assert len(offsets) == len(D) == np.linalg.matrix_rank(D)
    # A constant has no differences, the coordinates have one first difference each.
    np.testing.assert_allclose(D.sum(1), np.eye(len(D))[0], atol=1e-12)
    for axis in range(n_axes if hood.radius else 0):
        slopes = D @ offsets[:, axis]
        assert np.sort(np.abs(slopes))[-1] == pytest.approx(1)
        assert np.sum(np.abs(slopes) > 1e-12) == 1


def test_weights_are_the_transpose_of_differences():
    points = Points((5, 6))
    index = points.neighbours(BOX)
    central = (index >= 0).all(1)
    differences = Differences(index, central, points.differences(BOX))
    field, c = torch.randn(1, 30, dtype=torch.float64), torch.randn(30, 9, dtype=torch.float64)
    c = torch.where(differences.there, c, 0)
    values = torch.cat([field[0], torch.zeros(1)])[index]
    expected = (differences.of(field)[:, 0] * c).sum(1)
    torch.testing.assert_close((differences.weights(c) * values).sum(1), expected)
    torch.testing.assert_close(differences.coefficients(differences.weights(c)[..., None])[..., 0], c)


def test_neighbours():
    points = Points((4, 5), (True, False))
    index = points.neighbours(CROSS).numpy()
    assert set(index[0]) == {0, 1, 5, 15, -1}  # across the ends of the first axis, none across those of the second
    ring = sp.csr_array(np.roll(np.eye(7), 1, axis=1) + np.roll(np.eye(7), -1, axis=1))
    mesh = Points((7,), adjacency=ring)
    assert [set(row) for row in mesh.neighbours(CROSS).numpy()] == [{i, (i + 1) % 7, (i - 1) % 7} for i in range(7)]
    assert set(mesh.neighbours(Neighbourhood(2)).numpy()[0]) == {0, 1, 2, 5, 6}


@pytest.mark.parametrize(("grid", "periodic"), [((40,), False), ((7, 8), False), ((7, 8), True), ((4, 5, 6), False)])
def test_rows_of_their_own(grid, periodic):
    L = five_points(grid, periodic=periodic) + (sp.eye_array(int(np.prod(grid))) if periodic else 0)
    F = white(2 * len(grid) + 4, L.shape[0])
    U = splu(sp.csc_array(L)).solve(F.T).T
    law = LawFit(samples_of(F, U, grid, (periodic,) * len(grid)), Stencil(CROSS)).law("row", examined=True)
    np.testing.assert_allclose(law.L.toarray(), L.toarray(), atol=1e-10 * abs(L).max())
    np.testing.assert_allclose(law.M.toarray(), np.eye(L.shape[0]), atol=1e-14)
    assert not law.undetermined.any()


def test_one_law_per_class_of_points():
    # Three samples are fewer than the unknowns of a row.
    h = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(12, 12))
    L = sp.csr_array(sp.kron(h, sp.eye_array(12)) + sp.kron(sp.eye_array(12), h))
    F = white(3, 144)
    U = splu(sp.csc_array(L)).solve(F.T).T
    for sharing in ("class", "shared"):
        law = LawFit(samples_of(F, U, (12, 12)), Stencil(CROSS)).law(sharing)
        np.testing.assert_allclose(law.L.toarray(), L.toarray(), atol=1e-10)


def test_laws_with_two_sides():
    n = 40
    L = five_points((n,)) + 0.1 * sp.eye_array(n)
    M = sp.diags_array([0.2, 1.0, 0.3], offsets=[-1, 0, 1], shape=(n, n))
    F = white(12, n)
    U = splu(sp.csc_array(L)).solve(M @ F.T).T
    law = LawFit(samples_of(F, U, (n,)), Stencil(CROSS, CROSS)).law("row")
    f = white(20, n, seed=1)
    expected = splu(sp.csc_array(L)).solve(M @ f.T)
    actual = splu(sp.csc_array(law.L)).solve(law.M @ f.T)
    assert np.linalg.norm(actual - expected) < 1e-10 * np.linalg.norm(expected)
    weights = law.M.sum(axis=1)
    np.testing.assert_allclose(weights, 1)  # no common factor of L and M


def masked(mask, seed=0):
    """A law with random coefficients inside, the identity outside."""
    L = five_points(mask.shape, seed)
    keep = sp.diags_array(mask.ravel() * 1.0)
    return sp.csr_array(keep @ L @ keep + sp.diags_array(~mask.ravel() * 1.0))


MASKS = {
    "L-shape": lambda x, y: (x < 5) | (y < 5),
    "a wall": lambda x, y: x != 4,
    "two parts": lambda x, y: (x < 4) | (x > 6),
    "an island": lambda x, y: (x < 5) | ((x == 8) & (y == 8)),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("is_given", [True, False])
def test_masks(name, is_given):
    mask = MASKS[name](*np.indices((10, 11)))
    L = masked(mask)
    F = white(9, mask.size) * mask.ravel()
    U = splu(sp.csc_array(L)).solve(F.T).T
    inside = torch.from_numpy(mask.reshape(1, -1)) if is_given else None
    law = LawFit(samples_of(F, U, mask.shape, inside=inside), Stencil(CROSS)).law("row")
    keep = mask.ravel()
    np.testing.assert_allclose(law.L.toarray()[keep], L.toarray()[keep], atol=1e-10)
    assert not law.L.toarray()[np.ix_(~keep, keep)].any()
    assert abs(law.M[~keep]).sum() == 0


def test_nodal_lines_are_no_boundaries():
    # Odd about the middle, where all samples vanish.
    x = np.arange(1, 32) / 32
    waves = np.sin(2 * np.pi * np.outer(np.arange(1, 6), x))
    F = white(8, 5) @ waves
    h = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(31, 31))
    U = splu(sp.csc_array(h)).solve(F.T).T
    samples = samples_of(F, U, (31,))
    assert not samples.pinned.any()
    law = LawFit(samples, Stencil(CROSS)).law("row", examined=True)
    assert law.undetermined[0, 15]
    np.testing.assert_allclose(law.L.toarray(), h.toarray(), atol=1e-2)
    # A wall with nothing odd about it is one.
    mask = (np.arange(31) != 15).reshape(1, 31)
    U = splu(sp.csc_array(masked(mask))).solve((white(8, 31) * mask).T).T
    assert samples_of(white(8, 31) * mask, U, (31,)).pinned.numpy().ravel().nonzero()[0].tolist() == [15]


def test_constants_in_the_null_space():
    L = five_points((6, 7), periodic=True)
    two = sp.csr_array(sp.block_diag([L, L]))
    free = np.ones((1, 84), dtype=bool)
    F = white(5, 84)
    F -= np.kron(F.reshape(5, 2, 42).mean(2), np.ones(42))
    U = F @ np.linalg.pinv(two.toarray())
    constants, gauge = null_space(two, U, free)
    assert constants.shape == gauge.shape == (84, 2)
    assert abs(two @ constants).max() < 1e-12
    assert np.abs(U @ gauge).max() < 1e-10
    assert null_space(two + 0.1 * sp.eye_array(84), U, free) == (None, None)


def test_rough_combinations():
    x = np.arange(1, 64) / 64
    waves = np.sin(np.pi * np.outer([1, 2, 3, 20, 25], x))
    U = white(5, 5) @ waves
    smooth, rough = samples_of(U, U, (63,)).smooth_and_rough(2)
    assert (smooth.n_samples, rough.n_samples) == (3, 2)

    def roughness(samples):
        U = samples.U[:, 0]
        return U.diff(dim=1).square().sum(1) / U.square().sum(1)

    assert roughness(rough).min() > 10 * roughness(smooth).max()
    both = torch.cat([smooth.U, rough.U])[:, 0].numpy()
    assert np.linalg.matrix_rank(np.vstack([both, U]), tol=1e-8) == 5


def test_open_rows_are_reported():
    # Odd about the middle, as is the law.
    x = np.arange(1, 32) / 32
    a = 1 + np.square(np.linspace(-1, 1, 32))
    L = sp.diags_array([-a[1:-1], a[1:] + a[:-1], -a[1:-1]], offsets=[-1, 0, 1], format="csc")
    F = white(10, 8) @ np.sin(2 * np.pi * np.outer(np.arange(1, 9), x))
    with pytest.warns(AmbiguousFitWarning, match=r"do not determine the local law at \d of 31 points"):
        model = LocalOperatorRegressor(radius=1, noise=0, random_state=0).fit(F, splu(L).solve(F.T).T)
    assert model.undetermined_[15]
    assert model.undetermined_.sum() <= 3


def test_small_values_without_forcing_are_no_boundary():
    L = five_points((10, 12))
    F = white(12, 120).reshape(12, 10, 12)
    F[:, :, 6:] = 0
    U = splu(sp.csc_array(L)).solve(F.reshape(12, -1).T).T
    assert not samples_of(F, U, (10, 12)).pinned.any()
    # With noise, a boundary is not exactly zero.
    bordered = np.pad(U.reshape(12, 10, 12), [(0, 0), (1, 1), (1, 1)])
    bordered += 1e-3 * np.abs(U).mean() * white(12, 168).reshape(bordered.shape)
    forced = np.pad(white(12, 120).reshape(12, 10, 12), [(0, 0), (1, 1), (1, 1)])
    pinned = samples_of(forced, bordered, (12, 14)).pinned.numpy().reshape(12, 14)
    np.testing.assert_array_equal(pinned, np.pad(np.zeros((10, 12), dtype=bool), 1, constant_values=True))


@pytest.mark.parametrize("velocity", [0.0, 15.0])
def test_noise_in_the_outputs(velocity):
    n, h = 48, 1 / 49
    a = 2 + np.sin(3 * np.linspace(0, 1, n + 1))
    side = velocity / (2 * h)
    L = sp.diags_array(
        [-a[1:-1] / h**2 - side, (a[1:] + a[:-1]) / h**2, -a[1:-1] / h**2 + side], offsets=[-1, 0, 1], format="csc"
    )
    F = white(60, n)
    U = splu(L).solve(F.T).T
    noisy = U[:20] + 1e-3 * np.sqrt(np.mean(U**2)) * white(20, n, seed=1)
    by_rows = LocalOperatorRegressor(noise=0, radius=1, two_sided=False, sharing="row", random_state=0)
    errors = []
    for model in (HSSRegressor(random_state=0), by_rows):
        left = model.fit(F[:20], noisy).predict(F[20:]) - U[20:]
        errors.append(np.mean(np.linalg.norm(left, axis=1) / np.linalg.norm(U[20:], axis=1)))
        assert ("fitted to the outputs" in model.reason_) == (model is not by_rows)
    assert errors[0] < 8e-3
    assert 3 * errors[0] < errors[1]
