"""The factorized transformer against its equations, written as loops."""

import itertools
import math
import pickle

import pytest
import torch
from torch import nn

from sklearn_hss.nn import FactFormer
from sklearn_hss.nn._counting import count_parameters
from sklearn_hss.nn._factformer import FactorizedAttention, FourierFeatures, InstanceNorm, rotary_angles, rotate


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def awake(module):
    """The same module with kernels as large as the other weights: it starts with almost none."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if ".to_q." in name or ".to_k." in name:
                parameter.mul_(50)
    return module


def network(grid, **arguments):
    return awake(FactFormer(grid, **{"width": 8, "head_dim": 4, "dtype": torch.float64, **arguments}))


# Equations


def layer_norm(x, norm):
    return (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + 1e-5) * norm.weight + norm.bias


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def literal_kernel(u, axis, attention, head):
    """Kernel matrix of an axis for the normed function u: projection, queries and keys, rotation, product."""
    *grid, width = u.shape
    projection, kernel = attention.projections[axis], attention.kernels[axis]
    norm, up, _, down = projection.h
    n, rank = grid[axis], kernel.to_q.weight.shape[0] // attention.heads
    queries, keys = [], []
    for i in range(n):
        points = [p for p in itertools.product(*map(range, grid)) if p[axis] == i]
        mean = sum(projection.gamma.weight @ (attention.to_in.weight @ u[p]) for p in points) / len(points)
        hidden = up.weight @ layer_norm(mean, norm) + up.bias
        phi = down.weight @ (gelu(hidden[:width]) * hidden[width:]) + down.bias
        for vectors, linear in ((queries, kernel.to_q), (keys, kernel.to_k)):
            x = (linear.weight @ phi)[head * rank : (head + 1) * rank]
            angles = torch.tensor([64 * (i / n) / 10_000 ** (2 * k / rank) for k in range(rank // 2)], dtype=x.dtype)
            vectors.append(torch.complex(x[: rank // 2], x[rank // 2 :]) * torch.exp(1j * angles))
    A = torch.stack([torch.stack([(q * k.conj()).sum().real for k in keys]) for q in queries])
    return kernel.scale * A


def literal_attention(u, attention):
    """Attention of one sample, (*grid, width), by the dense kernel of all points: the product of those of the axes."""
    *grid, width = u.shape
    normed = torch.stack([layer_norm(x, attention.in_norm) for x in u.reshape(-1, width)]).reshape(u.shape)
    values = (normed @ attention.to_v.weight.T).reshape(math.prod(grid), attention.heads, -1)
    heads = []
    for head in range(attention.heads):
        dense = torch.ones(1, 1, dtype=u.dtype)
        for axis in range(len(grid)):
            dense = torch.kron(dense, literal_kernel(normed, axis, attention, head))
        heads.append(dense @ values[:, head])
    z = torch.cat(heads, dim=1)
    z = (z - z.mean(0)) / torch.sqrt(z.var(0, unbiased=False) + 1e-5)
    first, _, second = attention.to_out
    return (gelu(z @ first.weight.T) @ second.weight.T).reshape(u.shape)


@pytest.mark.parametrize("grid", [(5,), (4, 3), (1, 6), (2, 3, 2)])
@pytest.mark.parametrize(("heads", "head_dim", "kernel_multiplier"), [(1, 4, 1), (2, 2, 3), (3, 1, 6)])
def test_attention_is_that_of_the_dense_kernel(grid, heads, head_dim, kernel_multiplier):
    attention = awake(FactorizedAttention(grid, 8, heads, head_dim, kernel_multiplier, dtype=torch.float64))
    u = torch.randn(2, *grid, 8, dtype=torch.float64)
    expected = torch.stack([literal_attention(x, attention) for x in u])
    torch.testing.assert_close(attention(u), expected, rtol=1e-9, atol=1e-12)
    assert expected.abs().max() > 1e-3


def test_network_is_its_layers():
    net = network((5, 4), depth=2, in_channels=2, out_channels=3)
    x = torch.randn(3, 2, 5, 4, dtype=torch.float64)
    at = torch.tensor([[[i / 5, j / 4] for j in range(4)] for i in range(5)], dtype=torch.float64)
    u = torch.einsum("bcxy,wc->bxyw", x, net.to_in.weight) + net.to_in.bias
    for (features, linear), attention in zip(net.embeddings, net.attentions, strict=True):
        angles = 2 * math.pi * at @ features.directions
        u = u + linear(torch.cat([torch.sin(angles), torch.cos(angles)], -1))
        u = u + torch.stack([literal_attention(sample, attention) for sample in u])
    u = u.permute(0, 3, 1, 2)
    coarse = net.down[3](gelu(net.down[1](nn.InstanceNorm2d(8)(u))))
    assert coarse.shape == (3, 4, 3, 2)
    # Nearest neighbours, where the grid is not twice the coarse one: point i of n is point i m // n of m.
    fine = coarse[:, :, [i * 3 // 5 for i in range(5)]][..., [j * 2 // 4 for j in range(4)]]
    both = torch.cat([net.up[3](gelu(net.up[1](fine))), u], 1)
    expected = net.to_out[3](gelu(net.to_out[1](nn.functional.group_norm(both, 8, *net.to_out[0].parameters()))))
    torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-12)


def test_rotation_is_a_complex_product():
    x, angles = torch.randn(7, 6, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    product = torch.complex(x[:, :3], x[:, 3:]) * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(rotate(x, angles), torch.cat([product.real, product.imag], 1))


def test_rotated_products_know_distances_alone():
    q, k = torch.randn(2, 6, dtype=torch.float64)
    angles = rotary_angles(9, 6, dtype=torch.float64)
    A = rotate(q.expand(9, 6), angles) @ rotate(k.expand(9, 6), angles).T
    for shift in range(-8, 9):
        diagonal = A.diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert A[0].std() > 0.1


def test_instance_norm_is_that_of_torch():
    x = torch.randn(3, 4, 5, 6)
    torch.testing.assert_close(InstanceNorm()(x), nn.InstanceNorm2d(4)(x))
    assert InstanceNorm()(torch.ones(1, 2, 1)).abs().max() == 0


def test_fourier_features_have_one_direction_per_pair():
    features = FourierFeatures(2, 6)
    x = torch.rand(10, 2)
    torch.testing.assert_close(features(x).square().reshape(10, 2, 3).sum(1), torch.ones(10, 3))
    assert not list(features.parameters())


# Symmetries


def test_without_places_the_order_of_the_points_does_not_matter():
    attention = awake(FactorizedAttention((5, 4), 8, 2, 4, 1, dtype=torch.float64))
    rows, columns = torch.randperm(5), torch.randperm(4)
    u = torch.randn(2, 5, 4, 8, dtype=torch.float64)
    assert not torch.allclose(attention(u[:, rows][:, :, columns]), attention(u)[:, rows][:, :, columns])
    for kernel in attention.kernels:
        kernel.angles.zero_()
    torch.testing.assert_close(attention(u[:, rows][:, :, columns]), attention(u)[:, rows][:, :, columns])


def test_axes_may_be_swapped_with_all_that_belongs_to_them():
    net, swapped = network((5, 4), out_features=(3, 4)), network((4, 5), out_features=(4, 3))
    state = {}
    for name, tensor in net.state_dict().items():
        for part in ("projections", "kernels", "matrices"):
            name = name.replace(f"{part}.0", f"{part}.x").replace(f"{part}.1", f"{part}.0").replace("x", "1")
        tensor = tensor.flip(0) if name.endswith("directions") else tensor
        state[name] = tensor.transpose(2, 3) if tensor.ndim == 4 else tensor
    swapped.load_state_dict(state)
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(swapped(x.mT), net(x).mT)


def test_samples_are_apart():
    net = network((6, 5))
    x = torch.randn(4, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(torch.cat([net(sample[None]) for sample in x]), net(x))


# Sizes


def expected_parameters(n_modes, d, depth=1, heads=1, head_dim=8, multiplier=1, c_in=1, c_out=1):
    embedding = d**2 + d
    values = heads * head_dim
    attention = 2 * d + d * values + d**2 + values * d + d**2  # norm, values, W_in; both linear maps behind
    projection = d**2 + 2 * d + (2 * d**2 + 2 * d) + (d**2 + d)  # γ, norm, perceptron
    kernel = 2 * d * heads * head_dim * multiplier  # queries and keys
    convolutions = 3**n_modes * (2 * d * (d // 2) + 2 * (d // 2) ** 2) + 3 * (d // 2) + d
    output = 4 * d + 2 * d**2 + d * c_out + c_out  # norm, two pointwise maps
    lifting = c_in * d + d
    return lifting + depth * (embedding + attention + n_modes * (projection + kernel)) + convolutions + output


def test_parameter_count_of_the_paper():
    # Table 2 of the Neural-HSS paper says 3.9 M, Table 5 d = 384, depth 1, one head of dimension 8, multiplier 1.
    d = 384
    assert count_parameters(FactFormer((16, 16))) == expected_parameters(2, d) == 3_934_657
    assert 26.5 * d**2 + 70.5 * d + 1 == 3_934_657


@pytest.mark.parametrize("n_modes", [1, 2, 3])
def test_parameter_count(n_modes):
    net = FactFormer((3,) * n_modes, None, 2, 3, width=8, depth=2, heads=3, head_dim=2, kernel_multiplier=4)
    assert count_parameters(net) == expected_parameters(n_modes, 8, 2, 3, 2, 4, 2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("grid", "out"), [(1, 1), (7, 7), (16, 5), ((1, 1), (2, 1)), ((5, 3), (5, 3)), ((13, 8), (6, 8)), ((4, 3, 5),) * 2]
)
def test_shapes(grid, out, dtype):
    for channels_in, channels_out in ((None, None), (2, None), (None, 3)):
        net = FactFormer(grid, out, channels_in, channels_out, width=8, dtype=dtype)
        x = torch.randn(2, 1, *net.grid_in, dtype=dtype) if channels_in is None else torch.randn(2, 1, 2, *net.grid_in)
        y = net(x.to(dtype))
        assert y.shape == (2, 1, *((channels_out,) if channels_out else ()), *net.grid_out)
        assert y.dtype == dtype
        assert y.isfinite().all()
    with pytest.raises(ValueError, match=r"does not fit FactFormer\(in_features=.*its last dimensions must be"):
        net(torch.randn(2, *net.grid_in[:-1], 99))


def test_nothing_is_as_large_as_all_pairs_of_points():
    net, sizes = FactFormer((32, 32), width=8), []

    def record(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        net(torch.randn(1, 32, 32))
    assert max(sizes) <= 32**2 * 2 * 8 < 32**4


def test_the_start_has_almost_no_attention():
    net = FactFormer((32, 32), width=64)
    u = torch.randn(2, 32, 32, 64)
    assert net.attentions[0](u).abs().max() < 0.1 * u.abs().max()


def test_gradients():
    net = network((3, 2), width=4, head_dim=2)
    names, values = zip(*net.named_parameters(), strict=True)

    def call(x, *parameters):
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), (x,))

    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(call, (x, *values), fast_mode=True)
    net(x).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in values if p.numel() > 1)


def test_copies_are_the_same():
    net, x = network((5, 4)), torch.randn(2, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(pickle.loads(pickle.dumps(net))(x), net(x), rtol=0, atol=0)
    other = network((5, 4))
    assert not torch.allclose(other(x), net(x))
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(x), net(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 6}, "width=6 is not a multiple of 4; 4 would work"),
        ({"width": 2}, "width=2 is not a multiple of 4; 4 would work"),
        ({"head_dim": 3}, "head_dim=3 times kernel_multiplier=1 is odd, .* rotates pairs; head_dim=4 would work"),
        (
            {"in_features": (2, 2, 2, 2)},
            r"in_features=\(2, 2, 2, 2\) has 4 dimensions; FactFormer supports one to three",
        ),
    ],
)
def test_what_cannot_work(arguments, message):
    with pytest.raises(ValueError, match=message):
        FactFormer(**{"in_features": 8, **arguments})
