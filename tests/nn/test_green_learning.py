"""The integral operator whose kernel is a network."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_hss.nn import GreenLearning
from sklearn_hss.nn._counting import count_parameters

GRIDS = [(9, None), (8, 13), (1, 5), (7, 1), ((4, 3), None), ((5, 7), (2, 6)), ((1, 4), (3, 1))]


def fields(net, n_samples=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_samples, *net.grid_in, generator=generator, dtype=net.x.dtype)


def make(grid_in, grid_out=None, seed=0, **arguments):
    torch.manual_seed(seed)
    return GreenLearning(grid_in, grid_out, **{"width": 6, "depth": 2, "dtype": torch.float64, **arguments})


class PoissonKernel(nn.Module):
    """Product of the Green's functions of -u'' = f, u(0) = u(1) = 0, one per dimension."""

    def forward(self, pairs):
        x, y = pairs.chunk(2, dim=1)
        return (torch.minimum(x, y) * (1 - torch.maximum(x, y))).prod(1, keepdim=True)


@pytest.mark.parametrize(("grid_in", "grid_out"), GRIDS)
def test_against_a_double_loop(grid_in, grid_out):
    net = make(grid_in, grid_out)
    f = fields(net)
    expected = torch.zeros(len(f), *net.grid_out, dtype=torch.float64)
    for i in np.ndindex(net.grid_out):
        x = [k / n for k, n in zip(i, net.grid_out, strict=True)]
        value = net.u_hom(torch.tensor([x], dtype=torch.float64))[0, 0]
        for j in np.ndindex(net.grid_in):
            y = [k / n for k, n in zip(j, net.grid_in, strict=True)]
            g = net.G(torch.tensor([x + y], dtype=torch.float64))[0, 0]
            value = value + g * f[(slice(None), *j)] / np.prod(net.grid_in)
        expected[(slice(None), *i)] = value.detach()
    torch.testing.assert_close(net(f).detach(), expected)
    with torch.no_grad():
        torch.testing.assert_close(net(f), expected)


@pytest.mark.parametrize(("grid_in", "grid_out"), [(3, 2), ((2, 2), None)])
@pytest.mark.parametrize("chunk_size", [None, 4])
def test_gradients(grid_in, grid_out, chunk_size):
    net = make(grid_in, grid_out, width=2, chunk_size=chunk_size)
    f = fields(net, 2).requires_grad_()
    names = [name for name, _ in net.named_parameters()]

    def apply(f, *parameters):
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), f)

    assert torch.autograd.gradcheck(apply, (f, *(p.detach().requires_grad_() for p in net.parameters())))


@pytest.mark.parametrize("n_modes", [1, 2])
@pytest.mark.parametrize("same_grid", [True, False])
def test_converges_with_the_grid_for_a_known_kernel(n_modes, same_grid):
    errors = []
    for n in (8, 16, 32):
        net = make((n,) * n_modes, None if same_grid else (7,) * n_modes, homogeneous=False)
        net.G = PoissonKernel()
        f = torch.sin(2 * torch.pi * net.y).prod(1) * (2 * torch.pi) ** (2 * n_modes)
        u = torch.sin(2 * torch.pi * net.x).prod(1)
        errors.append(float((net(f.view(net.grid_in)).flatten() - u).abs().max()))
    assert errors[2] < 0.02
    # The kink of G lies within a cell where the grids differ, so the order is 2 there on average only.
    assert errors[0] / errors[2] > (13 if same_grid else 8)


def test_is_exact_where_the_rule_is():
    # A constant f: the integrand is linear on either side of the grid point x, and zero on the boundary.
    net = make(12, homogeneous=False)
    net.G = PoissonKernel()
    x = net.x[:, 0]
    torch.testing.assert_close(net(torch.ones(12, dtype=torch.float64)), x * (1 - x) / 2)


@pytest.mark.parametrize("homogeneous", [True, False])
def test_is_linear_up_to_the_homogeneous_solution(homogeneous):
    net = make((5, 4), homogeneous=homogeneous)
    f, g = fields(net, 2)
    zero = net(torch.zeros_like(f))
    torch.testing.assert_close(net(2 * f - 3 * g) - zero, 2 * (net(f) - zero) - 3 * (net(g) - zero))
    torch.testing.assert_close(zero.flatten(), net.homogeneous_solution())
    assert bool(zero.any()) == homogeneous


@pytest.mark.parametrize("chunk_size", [1, 7, 30, 60, 10**6])
def test_chunks_change_nothing(chunk_size):
    whole, chunked = (make((5, 3), (4, 3), chunk_size=size) for size in (None, chunk_size))
    f = fields(whole)
    for net in (whole, chunked):
        net(f).square().sum().backward()
    torch.testing.assert_close(chunked(f), whole(f))
    for a, b in zip(chunked.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    with torch.no_grad():
        torch.testing.assert_close(chunked(f), whole(f))


def test_chunks_save_memory():
    def kept(chunk_size):
        net, sizes = make((12, 12), width=16, depth=4, chunk_size=chunk_size), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):
            net(fields(net))
        return sum(sizes)

    assert kept(144 * 12) < kept(10**6) / 100


class TestCache:
    @pytest.fixture
    def net(self):
        net = make(6)
        net.calls = 0

        def count(*args):
            net.calls += 1

        net.G.register_forward_hook(count)
        return net

    def test_training_evaluates_the_kernel_once_per_step(self, net):
        for step in (1, 2):
            net(fields(net, 50)).sum().backward()
            assert net.calls == step

    @torch.no_grad()
    def test_prediction_evaluates_it_once(self, net):
        for mode in (True, False):
            net.train(mode)
            for n_samples in (1, 20, 3):
                net(fields(net, n_samples))
        assert net.calls == 1

    @pytest.mark.parametrize("fused", [True, False])
    def test_a_step_of_the_optimizer_invalidates(self, net, fused):
        f = fields(net)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=fused)
        with torch.no_grad():
            before = net(f)
        net(f).sum().backward()
        optimizer.step()
        with torch.no_grad():
            after = net(f)
        assert float((after - before).abs().max()) > 1e-3
        torch.testing.assert_close(after, net(f).detach())

    @pytest.mark.parametrize("part", ["G", "u_hom"])
    @torch.no_grad()
    def test_other_changes_invalidate(self, net, part):
        f, other = fields(net), make(6, seed=1)
        net(f)
        getattr(net, part).load_state_dict(getattr(other, part).state_dict())
        torch.testing.assert_close(net(f), copy.deepcopy(net)(f))
        # Past autograd's count of the changes.
        getattr(net, part)[0].weight.data.add_(1)
        torch.testing.assert_close(net(f), copy.deepcopy(net)(f))
        getattr(net, part)[0].bias.data = torch.ones(6, dtype=torch.float64)
        torch.testing.assert_close(net(f), copy.deepcopy(net)(f))

    @torch.no_grad()
    def test_another_type_invalidates(self, net):
        net(fields(net))
        net.float()
        assert net(fields(net)).dtype == torch.float32

    def test_gradients_after_a_prediction(self, net):
        f = fields(net)
        with torch.no_grad():
            net(f)
        assert net(f).requires_grad

    @torch.no_grad()
    def test_is_not_pickled(self, net):
        net = make(6)
        f = fields(net)
        before = len(pickle.dumps(net))
        expected = net(f)
        assert len(pickle.dumps(net)) == before
        torch.testing.assert_close(pickle.loads(pickle.dumps(net))(f), expected)


def test_numbers_of_parameters():
    # The paper's 83K: six layers of width 128 on pairs (x, y) with seven coefficients each, and a linear one.
    assert count_parameters(GreenLearning(256, homogeneous=False)) == 83_115
    assert count_parameters(GreenLearning(64)) == 83_115 + 82_987
    assert count_parameters(GreenLearning((64, 64), width=64, homogeneous=False)) == 21_227


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_and_batch_dimensions(dtype):
    net = make((3, 4), (5, 5), dtype=dtype)
    f = fields(net, 6)
    y = net(f)
    assert y.shape == (6, 5, 5)
    assert y.dtype == dtype
    torch.testing.assert_close(net(f.view(2, 3, 3, 4)), y.view(2, 3, 5, 5))
    torch.testing.assert_close(net(f[0]), y[0])
    assert net(f[:0]).shape == (0, 5, 5)


def test_the_first_kernel_is_not_constant():
    # The network sees the coordinates through all its layers.
    for grid in (32, (6, 6)):
        for seed in range(5):
            kernel = make(grid, width=64, depth=6, seed=seed).kernel().detach()
            assert float(kernel.std() / kernel.abs().mean()) > 0.1


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        (((4, 4, 4), None), r"in_features=\(4, 4, 4\) has 3 dimensions; .* one or two, such as \(64, 64\)"),
        ((4, (2, 2, 2)), r"out_features=\(2, 2, 2\) has 3 dimensions"),
    ],
)
def test_three_dimensions_are_refused(grids, message):
    with pytest.raises(ValueError, match=message):
        GreenLearning(*grids)


def test_other_fields_are_refused():
    with pytest.raises(ValueError, match=r"Input of shape \(2, 5\) does not fit GreenLearning\(in_features=\(6,\)"):
        make(6)(torch.ones(2, 5, dtype=torch.float64))


def test_training_finds_a_known_kernel():
    net = make(16, width=16, depth=2, dtype=torch.float64)
    target = make(16, homogeneous=False)
    target.G = PoissonKernel()
    f = fields(net, 50)
    u = 8 * target(f)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        (net(f) - u).square().mean().backward()
        optimizer.step()
    kernel, exact = net.kernel().detach(), 8 * target.kernel()
    assert float((kernel - exact).norm() / exact.norm()) < 0.1
