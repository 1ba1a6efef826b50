"""PatchHSS against torch's functions one by one, how far an output sees, and every kind of grid."""

import pytest
import torch
from torch.nn import functional

from sklearn_hss.nn import PatchHSS
from sklearn_hss.nn._counting import count_parameters


def network(*args, seed=0, **kwargs):
    """A small network of random weights, those that start as zero too."""
    torch.manual_seed(seed)
    net = PatchHSS(*args, **{"width": 6, "depth": 2, "hss_channels": 3, "dtype": torch.float64, **kwargs})
    for weight in net.parameters():
        if not weight.any():
            torch.nn.init.uniform_(weight, -0.5, 0.5)
    return net


def white(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_is_a_loop_of_convolutions_and_matrices():
    net = network((12, 20), in_channels=2, out_channels=3, depth=3, patch_size=2, levels=1)
    x = white(5, 2, 12, 20)

    def conv(layer, x, padding=1):
        return functional.conv2d(x, layer.weight, layer.bias, padding=padding)

    rows, columns = (2 * torch.arange(n, dtype=torch.float64) / n - 1 for n in (6, 10))
    places = torch.stack([rows[:, None].expand(6, 10), columns.expand(6, 10)]).expand(5, 2, 6, 10)
    y = conv(net.lifting, torch.cat([functional.pixel_unshuffle(x, 2), places], dim=1))
    for i, block in enumerate(net.blocks):
        hidden = conv(block.first, y)
        assert (block.beside is not None) == (i != 1)
        if block.beside is not None:
            few, layer, back = block.beside
            left, right = (W.to_dense() for W in layer.factors)
            product = torch.einsum("ctij,ctkl,bcjl->bcik", left, right, conv(few, y, padding=0))
            hidden = hidden + conv(back, product, padding=0)
        y = y + conv(block.second, functional.gelu(hidden))
    expected = functional.pixel_shuffle(conv(net.projection, y), 2)
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)


def test_how_far_an_output_sees():
    x, moved = torch.zeros(1, 96, dtype=torch.float64), torch.zeros(1, 96, dtype=torch.float64)
    moved[0, 48] = 1
    for channels, first, last in ((0, 24, 75), (3, 0, 95)):
        net = network(96, hss_channels=channels, patch_size=4)
        # Patches of four points, of which point 48 is the first of one; lifting, two blocks and projection see six
        # more to either side.
        changed = (net(moved) - net(x)).nonzero()[:, 1]
        assert (changed.min(), changed.max()) == (first, last)


@pytest.mark.parametrize("grid", [(32,), (8, 12), (4, 6, 4)])
def test_starts_as_convolutions_alone(grid):
    torch.manual_seed(0)
    net = PatchHSS(grid, width=4, depth=2, dtype=torch.float64)
    local = PatchHSS(grid, width=4, depth=2, hss_channels=0, dtype=torch.float64)
    local.load_state_dict({k: v for k, v in net.state_dict().items() if "beside" not in k})
    assert torch.equal(net(white(3, *grid)), local(white(3, *grid)))


def test_learns_what_depends_on_distant_points():
    f = white(32, 64).cumsum(1)
    f = f - f.mean(1, keepdim=True)
    f = f / f.std()
    target = torch.tanh(f.flip(1))
    losses = {}
    for channels in (0, 4):
        torch.manual_seed(0)
        net = PatchHSS(64, width=8, depth=2, patch_size=4, hss_channels=channels, dtype=torch.float64)
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
        for _ in range(60):
            optimizer.zero_grad()
            loss = functional.mse_loss(net(f), target)
            loss.backward()
            optimizer.step()
        losses[channels] = loss.item()
    assert losses[4] < losses[0] / 2


def test_parameter_counts():
    # Lifting of 4 values and a place, 4 blocks of 2 convolutions, projection; all with biases.
    convolutions = 48 * (5 * 3 + 1) + 8 * 48 * (48 * 3 + 1) + 4 * (48 * 3 + 1)
    assert count_parameters(PatchHSS(128, hss_channels=0)) == convolutions
    # 32 patches in 8 leaves of 4, of rank 2: blocks of the leaves, bases of leaves and parents, couplings.
    tree = 8 * 4 * 4 + 2 * (8 * 4 * 2 + 4 * 4 * 2 + 2 * 4 * 2) + (4 + 2 + 1) * 4 * 4
    assert count_parameters(PatchHSS(128)) == convolutions + 2 * (8 * (48 + 1) + 8 * tree + 8 * 48)


@pytest.mark.parametrize(
    "grid", [(1,), (2,), (5,), (13,), (64,), (1, 1), (2, 7), (7, 12), (31, 3), (1, 1, 1), (2, 3, 5), (7, 1, 4)]
)
@pytest.mark.parametrize("batch", [(), (3,), (0,), (2, 3)])
def test_any_grid(grid, batch):
    assert network(grid)(white(*batch, *grid)).shape == (*batch, *grid)
    net = network(grid, in_channels=2, out_channels=1, patch_size=3)
    assert net(white(*batch, 2, *grid)).shape == (*batch, 1, *grid)


@pytest.mark.parametrize(
    ("grid", "patches"),
    [
        ((5,), (5,)),
        ((33,), (17,)),
        ((128,), (32,)),
        ((256,), (32,)),
        ((1024,), (128,)),
        ((7, 16), (7, 8)),
        ((21, 64), (7, 16)),
        ((8, 9, 24), (8, 5, 8)),
    ],
)
def test_number_of_patches(grid, patches):
    assert PatchHSS(grid, device="meta").grid == patches


@pytest.mark.parametrize("grid", [(13,), (7, 12), (2, 3, 5)])
def test_patches_lose_nothing(grid):
    net = network(grid, in_channels=2, out_channels=2, patch_size=3)
    x = white(4, 2, *grid)
    assert torch.equal(net._join(net._split(x)), x)


@pytest.mark.parametrize(
    ("grid", "out"),
    [((12,), (20,)), ((20,), (1,)), ((1,), (7,)), ((6, 8), (6, 11)), ((6, 8), (3, 16)), ((3, 4, 5), (5, 4, 3))],
)
def test_another_grid(grid, out):
    net = network(grid, out, in_channels=3, out_channels=2)
    assert net(white(4, 3, *grid)).shape == (4, 2, *out)


def test_an_int_is_one_dimension():
    assert torch.equal(network(9)(white(2, 9)), network((9,))(white(2, 9)))


def test_samples_do_not_mix():
    net, x = network((6, 5)), white(4, 6, 5)
    torch.testing.assert_close(net(x), torch.stack([net(sample) for sample in x]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types(dtype):
    net = network((6, 5), (4, 5), dtype=dtype)
    assert {p.dtype for p in net.parameters()} == {dtype}
    assert net(white(2, 6, 5).to(dtype)).dtype == dtype
    exact = network((6, 5), (4, 5)).double()
    exact.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(white(2, 6, 5).to(dtype)).double(), exact(white(2, 6, 5)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("grid", "out"), [((16,), (7,)), ((5, 4), None), ((2, 3, 2), None)])
def test_gradients(grid, out):
    net = network(grid, out, width=2, hss_channels=2, patch_size=2, rank=1)
    weights = [weight.detach().clone() for weight in net.parameters()]
    direction = [white(*weight.shape, seed=i) for i, weight in enumerate(weights)]
    x = white(3, *grid)

    def loss(step):
        with torch.no_grad():
            for parameter, weight, change in zip(net.parameters(), weights, direction, strict=True):
                parameter.copy_(weight + step * change)
        return net(x).square().sum()

    difference = (loss(1e-6) - loss(-1e-6)) / 2e-6
    loss(0.0).backward()
    slope = sum((p.grad * change).sum() for p, change in zip(net.parameters(), direction, strict=True))
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=0.0)
    assert all(p.grad.any() for p in net.parameters())


@pytest.mark.parametrize(
    ("grid", "arguments", "message"),
    [
        ((2, 2, 2, 2), {}, r"one to three dimensions, not \(2, 2, 2, 2\)"),
        (8, {"kernel_size": 4}, "kernel_size=4 must be an odd number"),
        (8, {"depth": 0}, "depth=0 must be at least 1"),
        (8, {"width": 0}, "width=0 must be at least 1"),
        (8, {"patch_size": 0}, "patch_size=0 must be at least 1"),
        ((8, 8), {"patch_size": (2, 2, 2)}, r"patch_size=\(2, 2, 2\) must be one number, or 2 numbers"),
        (8, {"hss_channels": -1}, "hss_channels=-1 must be at least 0"),
        (128, {"levels": 6}, r"levels=6 is too deep for patches=32: the largest value that works is 5"),
        ((64, 16), {"levels": (1, 4)}, r"levels=4 is too deep for patches\[1\]=8: the largest value that works is 3"),
        (128, {"levels": 2, "rank": 9}, r"rank=9 exceeds the smallest leaf of patches=32 .* levels=2 is 8"),
    ],
)
def test_refusals(grid, arguments, message):
    with pytest.raises(ValueError, match=message):
        network(grid, **arguments)


def test_another_shape_of_input():
    with pytest.raises(ValueError, match=r"Input of shape \(2, 7\) does not fit PatchHSS\(in_features=\(8,\)"):
        network(8)(white(2, 7))
