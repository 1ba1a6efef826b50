"""Losses, against sums written down."""

import numpy as np
import pytest
import torch

from sklearn_hss.nn._losses import residuals, sample_losses


def fields(*shape):
    rng = np.random.RandomState(0)
    return (torch.from_numpy(rng.standard_normal((3, *shape))) for _ in range(2))


@pytest.mark.parametrize("shape", [(7,), (2, 7), (5, 4), (2, 5, 4)])
@pytest.mark.parametrize("masked", [False, True])
def test_values(shape, masked):
    n_modes = 1 if shape in ((7,), (2, 7)) else 2
    grid = shape[-n_modes:]
    p, t = fields(*shape)
    keep = torch.ones(grid, dtype=torch.float64)
    if masked:
        keep[..., 1] = 0
    inside = keep.expand(1, *shape).clone() if masked else None
    e = ((p - t) * keep).numpy()
    axes = tuple(range(1, e.ndim))
    l2 = (e**2).sum(axes)
    h1 = l2.copy()
    for axis in range(e.ndim - n_modes, e.ndim):
        n = e.shape[axis]
        for i in range(n - 1):
            a, b = (np.take((p - t).numpy(), j, axis) for j in (i, i + 1))
            both = np.take(keep.numpy(), i, axis - e.ndim) * np.take(keep.numpy(), i + 1, axis - e.ndim)
            h1 += (((b - a) * n * both) ** 2).reshape(3, -1).sum(1)
    expected = {"l2": l2, "relative_l2": l2 / ((t * keep).numpy() ** 2).sum(axes), "h1": h1}
    for name, values in expected.items():
        np.testing.assert_allclose(sample_losses(name, p, t, n_modes, inside), values, rtol=1e-12)
        np.testing.assert_allclose(residuals(name, p, t, n_modes, inside).square().sum(1), values, rtol=1e-12)


def test_targets_that_are_zero_are_not_divided_by():
    p, _ = fields(7)
    assert torch.isfinite(sample_losses("relative_l2", p, torch.zeros_like(p), 1)).all()


def test_callables():
    p, t = fields(7)
    inside = torch.ones(1, 7, dtype=torch.float64)
    inside[0, 2] = 0
    expected = ((p - t) * inside).abs().sum(1)
    assert torch.equal(sample_losses(lambda a, b: (a - b).abs(), p, t, 1, inside), expected)
    assert torch.equal(sample_losses(lambda a, b: (a - b).abs().sum(1), p, t, 1, inside), expected)
    for bad in (lambda a, b: (a - b).abs().sum(), lambda a, b: (a - b)[:2], lambda a, b: 1.0):
        with pytest.raises(ValueError, match="one value for each of the 3 samples"):
            sample_losses(bad, p, t, 1)
