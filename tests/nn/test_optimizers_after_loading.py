"""Optimisers that were pickled go on."""

import pickle

import pytest
import torch

from sklearn_hss.nn import SOAP, HSSLinear, LevenbergMarquardt


@pytest.mark.parametrize("kind", [SOAP, LevenbergMarquardt])
def test_optimisers_go_on_after_loading(kind):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 16, generator=generator, dtype=torch.float64)
    torch.manual_seed(0)
    layer = HSSLinear(16, 16, rank=1, levels=1, dtype=torch.float64)
    optimizer = kind(layer.parameters())

    def steps(layer, optimizer, n):
        for _ in range(n):
            residuals = layer(x) - x
            if kind is SOAP:
                optimizer.zero_grad()
                residuals.square().mean().backward()
                optimizer.step()
            else:
                optimizer.step(lambda: layer(x) - x)
        return float((layer(x) - x).detach().square().mean())

    before = steps(layer, optimizer, 3)
    layer, optimizer = pickle.loads(pickle.dumps((layer, optimizer)))
    assert steps(layer, optimizer, 10) < 0.9 * before
