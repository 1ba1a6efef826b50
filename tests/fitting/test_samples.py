"""The samples that maps are fitted to."""

import re

import numpy as np
import pytest
import torch
from grid_operators import as_samples, randn

from sklearn_hss.fitting import Samples
from sklearn_hss.fitting._samples import check_ratio, largest, relative_error
from sklearn_hss.metrics import relative_l2_error


@pytest.mark.parametrize("n_samples", [3, 10, 40])
@pytest.mark.parametrize("kind", ["symmetric", "antisymmetric", "any"])
def test_asymmetry(n_samples, kind):
    rng = np.random.RandomState(0)
    A, X = rng.randn(5, 5), rng.randn(5, n_samples)
    A = {"symmetric": A + A.T, "antisymmetric": A - A.T, "any": A}[kind]
    S = X.T @ A @ X
    expected = np.linalg.norm(S - S.T) / np.linalg.norm(S) / 2
    found = as_samples(torch.from_numpy(X.T.copy()), torch.from_numpy((A @ X).T.copy())).asymmetry
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)
    assert {"symmetric": found < 1e-14, "antisymmetric": found > 1 - 1e-14, "any": 0.1 < found < 0.9}[kind]


def test_asymmetry_of_special_samples():
    X = randn(6, 4, 5)
    assert as_samples(X, X.flatten(1).unflatten(1, (5, 4))).asymmetry == 1
    assert as_samples(X, 0 * X).asymmetry == 0
    # It does not depend on units.
    A = randn(20, 20)
    Y = (X.flatten(1) @ A.mT).view_as(X)
    plain = as_samples(X, Y).asymmetry
    assert as_samples(1e5 * X, 1e-7 * Y).asymmetry == pytest.approx(plain, rel=1e-12)


def test_sizes():
    samples = as_samples(randn(6, 4, 5), randn(6, 7))
    assert (samples.n_samples, samples.grid_in, samples.grid_out, samples.is_square) == (6, (4, 5), (7,), False)
    X, Y = samples.columns
    assert X.shape == (20, 6)
    assert Y.shape == (7, 6)
    torch.testing.assert_close(X[:, 2], samples.X[2].reshape(-1))
    assert as_samples(samples.X, samples.X).is_square


# Errors


def test_errors_are_those_of_the_metric():
    Y, prediction = randn(6, 4, 5), randn(6, 4, 5, seed=1)
    assert as_samples(Y, Y).error(prediction) == pytest.approx(relative_l2_error(Y.numpy(), prediction.numpy()))
    assert as_samples(Y, Y).error(Y) == 0
    assert as_samples(Y, Y).typical == pytest.approx(float(np.mean([np.linalg.norm(y) for y in Y])))


def test_outputs_near_zero_count_relative_to_the_typical_norm():
    Y, prediction = randn(4, 5), randn(4, 5, seed=1)
    Y[3] = 0
    sizes = [float(y.norm()) for y in Y]
    typical = sum(sizes) / 4
    expected = [float((p - y).norm()) / max(s, 1e-3 * typical) for p, y, s in zip(prediction, Y, sizes, strict=True)]
    assert relative_error(prediction, Y) == pytest.approx(np.mean(expected))
    assert as_samples(Y, Y).error(prediction) == pytest.approx(np.mean(expected))
    # The typical norm may be that of other samples.
    expected[3] = float(prediction[3].norm()) / (1e-3 * 50)
    assert as_samples(Y, Y).error(prediction, 50.0) == pytest.approx(np.mean(expected))
    assert relative_error(prediction, 0 * Y) == pytest.approx(float(prediction.norm(dim=1).mean()))


def test_errors_count_the_inside():
    inside = torch.tensor([True, False, True, True])
    Y = torch.where(inside, randn(5, 4), 0)
    prediction = Y + torch.where(inside, 0, 1e6)
    samples = as_samples(Y, Y, inside=inside)
    assert samples.error(prediction) == 0
    prediction[:, 1] = torch.nan
    assert samples.error(prediction) == 0
    prediction[:, 0] += 1
    assert samples.error(prediction) == pytest.approx(float((1 / Y.norm(dim=1)).mean()))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_predictions_that_are_no_numbers_are_infinitely_wrong(value):
    Y = randn(5, 4)
    assert as_samples(Y, Y).error(Y + value) == torch.inf


@pytest.mark.parametrize(("noise", "accurate"), [(0.0, 1e-6), (1e-15, 1e-6), (1e-7, 3e-5), (1e-3, 1e-2)])
def test_accurate_is_a_multiple_of_the_noise(noise, accurate):
    assert as_samples(randn(2, 3), randn(2, 3), noise=noise).accurate == pytest.approx(accurate)


# Decompositions


def test_input_svd_is_without_rounding():
    X = randn(8, 3) @ randn(3, 12, seed=1)
    W, s, V = as_samples(X, X).input_svd
    assert len(s) == 3
    np.testing.assert_allclose(s, np.linalg.svd(X.numpy(), compute_uv=False)[:3])
    torch.testing.assert_close((W * s) @ V, X.mT)
    assert len(as_samples(0 * X, X).input_svd[1]) == 0


def test_independent_samples():
    X, Y = randn(8, 12), randn(8, 12, seed=1)
    assert as_samples(X, Y).n_independent == 8
    assert as_samples(X, randn(8, 2) @ randn(2, 12)).n_independent == 2
    X[4:] = 2 * X[:4]
    assert as_samples(X, Y).n_independent == 4


def test_vanishing_points():
    Y = randn(8, 4, 5)
    Y[:, 0], Y[:, 2, 3] = 1e-13, 0
    Y[:, 1, 1] = 0
    Y[5, 1, 1] = 1e-3
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[0], expected[2, 3] = True, True
    assert torch.equal(as_samples(Y, Y).vanishing, expected)


def test_bases_are_kept():
    X = randn(8, 4, 1) * randn(5)
    samples = as_samples(X, randn(8, 4, 5, seed=1))
    assert [P.shape for P in samples.bases(1e-11)] == [(4, 4), (5, 5)]
    assert [P.shape for P in samples.bases(1e-11, of_inputs=True)] == [(4, 4), (5, 1)]
    assert samples.bases(1e-11) is samples.bases(1e-11)
    # Not by others that are made of these.
    assert samples.pick(slice(2)).bases(1e-11) is not samples.bases(1e-11)
    assert [P.shape for P in samples.pick(slice(2)).bases(1e-11, of_inputs=True)] == [(4, 2), (5, 1)]


# Others made of these


@pytest.fixture
def samples():
    return as_samples(
        randn(8, 4, 5),
        randn(8, 4, 5, seed=1),
        inside=torch.ones(4, 5, dtype=torch.bool),
        noise=1e-3,
    )


def test_pick_and_first(samples):
    part = samples.pick(torch.tensor([3, 1]))
    assert torch.equal(part.X, samples.X[[3, 1]])
    assert torch.equal(part.Y, samples.Y[[3, 1]])
    assert part.n_samples == 2
    assert (part.noise, part.inside is samples.inside) == (1e-3, True)
    assert torch.equal(samples.first(3).X, samples.X[:3])
    assert samples.first(8) is samples
    assert samples.first(9) is samples


@pytest.mark.parametrize(
    ("n_unknowns", "options", "n_samples"),
    [
        (1, {}, 8),
        (1, {"least": 61}, 3),
        (2, {"least": 0}, 3),
        (20, {"per_unknown": 5, "least": 0}, 5),
        (0, {"least": 0}, 1),
    ],
)
def test_enough(samples, n_unknowns, options, n_samples):
    assert samples.enough(n_unknowns, **options).n_samples == n_samples


def test_means_are_weighted(samples):
    weights = torch.arange(1.0, 9.0).double()
    roots = weights.sqrt()
    weighted = Samples(samples.X * roots[:, None, None], samples.Y * roots[:, None, None], roots)
    for found, M in zip(weighted.means(), (samples.X, samples.Y), strict=True):
        np.testing.assert_allclose(found, np.average(M, axis=0, weights=weights), rtol=1e-12)
    about = weighted.about(weighted.means())
    for M in (about.X, about.Y):
        np.testing.assert_allclose(torch.tensordot(roots, M, dims=1), 0, atol=1e-12)


def test_nothing_is_left_of_a_constant():
    constant = 1e3 * (1 + torch.rand(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    X = constant.expand(6, 4).clone()
    X[:, 0] += randn(6)
    samples = as_samples(X, X)
    left = samples.about(samples.means()).X
    assert not left[:, 1:].any()
    np.testing.assert_allclose(left[:, 0], X[:, 0] - X[:, 0].mean(), atol=1e-9)


def test_units():
    A = randn(5, 4)
    X, P = 1e5 * randn(6, 4), 30 * randn(3, 5, seed=1)
    samples = as_samples(X, 1e-7 * X @ A.mT, adjoint=(P, 1e-7 * P @ A))
    units = largest(samples)
    assert units == (float(X.abs().max()), float(samples.Y.abs().max()))
    scaled = samples.scaled(units)
    assert scaled.units == units
    assert (float(scaled.X.abs().max()), float(scaled.Y.abs().max())) == (1, 1)
    # Both kinds of samples are those of one matrix.
    B = 1e-7 * A * units[0] / units[1]
    torch.testing.assert_close(scaled.Y, scaled.X @ B.mT)
    P, Z = scaled.adjoint
    assert float(P.abs().max()) == 1
    torch.testing.assert_close(Z, P @ B)


def test_units_of_zeros_are_one(samples):
    nothing = Samples(0 * samples.X, 0 * samples.Y, samples.ones)
    assert largest(nothing) == (1.0, 1.0)


@pytest.mark.parametrize(("x", "y"), [(1e-200, 1e200), (1e200, 1e-200)])
def test_sizes_that_are_too_far_apart_are_refused(x, y):
    message = re.escape(f"Inputs of size {x:.0e} and outputs of size {y:.0e} are too far apart; use other units.")
    with pytest.raises(ValueError, match=message):
        check_ratio(x, y)
    with pytest.raises(ValueError, match=message):
        largest(as_samples(*(torch.full((2, 3), value, dtype=torch.float64) for value in (x, y))))


@pytest.mark.parametrize("grid", [(12,), (4, 5)])
def test_a_constant_is_added_where_there_is_none(grid):
    X, Y = randn(6, *grid), randn(6, *grid, seed=1)

    def without_mean(M):
        return M - M.flatten(1).mean(1).view(-1, *[1] * len(grid))

    extended = as_samples(without_mean(X), without_mean(Y)).with_constant()
    assert extended.n_samples == len(extended.ones) == 7
    assert torch.equal(extended.X[6], torch.ones(grid).double())
    assert not extended.Y[6].any()
    # Not where inputs or outputs have a mean, nor where all are zero, nor on other grids.
    for pair in (
        (X, without_mean(Y)),
        (without_mean(X), Y),
        (without_mean(X), 0 * Y),
        (without_mean(X), without_mean(Y).flatten(1)[:, 1:]),
    ):
        samples = as_samples(*pair)
        assert samples.with_constant() is samples


def test_joined(samples):
    more = samples.joined(samples.X[:2], samples.Y[:2])
    assert more.n_samples == len(more.ones) == 10
    assert torch.equal(more.X[8:], samples.X[:2])
    assert (more.noise, samples.n_samples) == (1e-3, 8)
