import itertools

import pytest
import torch

from sklearn_hss.linalg import ClusterTree, HSSMatrix
from sklearn_hss.nn import CPLinear, HSSLinear, HSSMultilinear, NeuralHSS, TrainableLeakyReLU
from sklearn_hss.nn._counting import count_parameters


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.25, 1.0, 1.7])
def test_activation_is_leaky_relu(slope):
    x = torch.linspace(-3, 3, 31, dtype=torch.float64)
    activation = TrainableLeakyReLU(slope, dtype=torch.float64)
    torch.testing.assert_close(activation(x), torch.nn.functional.leaky_relu(x, slope))


def test_activation_starts_as_the_identity():
    x = torch.randn(100)
    assert torch.equal(TrainableLeakyReLU()(x), x)


def test_activation_gradients():
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    activation = TrainableLeakyReLU(0.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, slope: activation(x), (x, activation.slope))
    (slope_gradient,) = torch.autograd.grad(activation(x).sum(), activation.slope)
    torch.testing.assert_close(slope_gradient, x.clamp(max=0).sum())


HSS = ["HSSLinear", "TrainableLeakyReLU"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"projection": None}, HSS * 3),
        ({}, [*HSS * 3, "HSSLinear"]),
        ({"lifting": "dense", "projection": "dense", "depth": 1}, ["Linear", *HSS, "Linear"]),
        ({"lifting": "hss", "depth": 2}, ["HSSLinear", *HSS * 2, "HSSLinear"]),
    ],
)
def test_order_of_the_layers(arguments, expected):
    assert [type(layer).__name__ for layer in NeuralHSS(32, 32, **arguments).layers] == expected


@pytest.mark.parametrize("lifting", [None, "hss", "dense"])
@pytest.mark.parametrize("projection", [None, "hss", "dense"])
def test_any_sizes(lifting, projection):
    net = NeuralHSS(33, 21, depth=2, embedding_dim=50, lifting=lifting, projection=projection, bias=True)
    assert net(torch.zeros(2, 4, 33)).shape == (2, 4, 21)
    sizes = [(layer.in_features, layer.out_features) for layer in net.layers if hasattr(layer, "in_features")]
    assert sizes[0][0] == 33
    assert sizes[-1][1] == 21
    assert all(after[0] == before[1] == 50 for before, after in itertools.pairwise(sizes))


def test_parameter_counts_of_the_paper():
    # Tables 1 and 9 (Poisson, "37K") and Table 1 (Burgers, "1.5M"); the slopes come on top.
    assert count_parameters(NeuralHSS(256, 256)) == 4 * 9_424 + 3
    burgers = NeuralHSS(256, 256, depth=4, rank=32, embedding_dim=1024, lifting="dense", projection="dense")
    assert count_parameters(burgers) == 2 * 256 * 1024 + 4 * 249_856 + 4 == 1_523_716


def test_untrained_network_is_linear():
    torch.manual_seed(0)
    net = NeuralHSS(24, 24, rank=2, levels=2, dtype=torch.float64)
    matrix = torch.eye(24, dtype=torch.float64)
    for layer in net.layers:
        if isinstance(layer, HSSLinear):
            matrix = layer.weight.to_dense() @ matrix
    x = torch.randn(5, 24, dtype=torch.float64)
    torch.testing.assert_close(net(x), x @ matrix.T)


def test_penalty_is_that_of_theorem_2_3():
    net = NeuralHSS(16, 16, depth=3, initial_slope=0.5)
    torch.testing.assert_close(net.penalty(), torch.tensor(3 * 0.25))
    net.penalty().backward()
    assert [layer.slope.grad.item() for layer in net.layers if isinstance(layer, TrainableLeakyReLU)] == [-1.0] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"lifting": "fourier"}, "lifting='fourier' must be None"),
        ({"projection": "full"}, "projection='full' must be None"),
        ({"levels": 6}, "levels=6 is too deep for in_features=32"),
        ({"rank": 5}, "rank=5 exceeds the smallest leaf of in_features=32"),
        ({"embedding_dim": 12}, "rank=2 exceeds the smallest leaf of embedding_dim=12"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"kernel_size": 4}, "kernel_size=4 must be an odd number"),
        ({"activation": "relu"}, "activation='relu' must be"),
        ({"local_depth": -1, "width": 2, "kernel_size": 3}, "local_depth=-1 must be at least 0"),
        ({"local_depth": 2}, "local_depth=2 needs width and kernel_size, .* None and None: .* or local_depth=0"),
        ({"local_depth": 1, "width": 2}, "local_depth=1 needs .* 2 and None: width=16 and kernel_size=3 would work"),
        ({"local_depth": 1, "kernel_size": 5}, "local_depth=1 needs width and kernel_size, .* None and 5"),
    ],
)
def test_impossible_networks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NeuralHSS(32, 32, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": (2, 6)}, r"levels=6 is too deep for in_features\[1\]=32: the largest value that works is 5"),
        ({"rank": 5, "lifting": "dense"}, r"rank=5 exceeds the smallest leaf of out_features\[0\]=32"),
        ({"out_features": (32, 32, 32)}, r"out_features=\(32, 32, 32\) must be one number, or 2 numbers"),
    ],
)
def test_impossible_networks_on_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NeuralHSS(**({"in_features": (32, 32), "out_features": (32, 32)} | arguments))


def test_fields_of_four_dimensions_are_not_convolved():
    assert NeuralHSS((4,) * 4, (4,) * 4, depth=1, levels=1)(torch.zeros(2, 4, 4, 4, 4)).shape == (2, 4, 4, 4, 4)
    with pytest.raises(ValueError, match="4 dimensions cannot be convolved"):
        NeuralHSS((4,) * 4, (4,) * 4, levels=1, width=2)


def test_wrong_grids_and_channels_are_refused():
    with pytest.raises(ValueError, match=r"does not fit NeuralHSS\(in_features=\(8, 8\), .* must be \(8, 8\)"):
        NeuralHSS((8, 8), (8, 8), levels=1)(torch.zeros(2, 8, 9))
    with pytest.raises(ValueError, match=r"in_channels=2\): its last dimensions must be \(2, 8, 8\)"):
        NeuralHSS((8, 8), (8, 8), levels=1, in_channels=2)(torch.zeros(3, 8, 8))


def test_parameter_counts_on_grids():
    # The paper's "37K" and "329K" do not follow from its description; 65K and 357K are the layers as written.
    small = NeuralHSS((64, 64), (64, 64), depth=3, rank=2, levels=2, outer_rank=8)
    large = NeuralHSS((128, 128), (128, 128), depth=3, rank=8, levels=2, outer_rank=8)
    assert [type(layer).__name__ for layer in small.layers] == ["HSSMultilinear", "TrainableLeakyReLU"] * 3
    assert (count_parameters(small), count_parameters(large)) == (65_280 + 3, 356_352 + 3)


KINDS = [None, "hss", "dense", "cp", "pointwise"]


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("channels", [(None, None, None), (2, None, 3), (1, None, 1), (2, 3, 1), (None, 3, 2)])
@pytest.mark.parametrize(
    "extras",
    [
        {},
        {"kernel_size": 3, "residual": True, "bias": True, "activation": "gelu"},
        {"kernel_size": 3, "local_depth": 1},
    ],
)
def test_shapes(m, channels, extras):
    torch.manual_seed(0)
    c_in, width, c_out = channels
    if width is None:
        extras = {name: value for name, value in extras.items() if name != "local_depth"}
    in_grid, out_grid = (8, 9, 10)[:m], (9, 8, 12)[:m]
    # Every lifting and every projection, and with plain layers in one dimension every pair of them.
    every_pair = m == 1 and not extras
    for lifting, projection in (
        itertools.product(KINDS, ["auto", *KINDS]) if every_pair else zip(KINDS, [*KINDS[1:], "auto"], strict=True)
    ):
        net = NeuralHSS(
            in_grid,
            out_grid,
            depth=2,
            levels=1,
            outer_rank=2,
            in_channels=c_in,
            width=width,
            out_channels=c_out,
            lifting=lifting,
            projection=projection,
            **extras,
        )
        before, after = ([] if c is None else [c] for c in (c_in, c_out))
        y = net(torch.randn(5, *before, *in_grid))
        assert y.shape == (5, *after, *out_grid)
        assert net(torch.randn(2, 3, *before, *in_grid)).shape == (2, 3, *after, *out_grid)
        y.square().sum().backward()
        assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_blocks_with_channels(m, residual):
    # Every feature from the HSS matrices of its own channel, plus a convolution of all channels, then the activation.
    torch.manual_seed(0)
    grid = (6, 5, 4)[:m]
    net = NeuralHSS(
        grid,
        grid,
        depth=1,
        levels=1,
        in_channels=3,
        width=3,
        out_channels=3,
        kernel_size=3,
        residual=residual,
        bias=True,
        activation="gelu",
        projection=None,
        dtype=torch.float64,
    )
    (layer,) = (part for part in net.modules() if isinstance(part, HSSMultilinear))
    (convolution,) = (
        part for part in net.modules() if isinstance(part, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d)
    )
    assert layer.channels == 3
    assert layer.outer_rank == (1 if m == 1 else 8)
    x = torch.randn(4, 3, *grid, dtype=torch.float64)
    padded = torch.nn.functional.pad(x, (1, 1) * m)
    local = convolution.bias.view(-1, *[1] * m)
    for shift in itertools.product(range(3), repeat=m):
        window = padded[:, :, *(slice(s, s + n) for s, n in zip(shift, grid, strict=True))]
        local = local + torch.einsum("bc...,dc->bd...", window, convolution.weight[:, :, *shift])
    y = torch.nn.functional.gelu(layer(x) + local) + (x if residual else 0)
    torch.testing.assert_close(net(x), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("local_depth", [1, 2])
def test_local_blocks(m, local_depth):
    # x + conv(act(conv(x))), `local_depth` times; x + (conv + HSS)(act(conv(x))); one more activation at the end.
    torch.manual_seed(0)
    grid, depth = (6, 5, 4)[:m], 2
    net = NeuralHSS(
        grid,
        grid,
        depth=depth,
        levels=1,
        rank=1,
        outer_rank=2,
        width=3,
        kernel_size=3,
        local_depth=local_depth,
        bias=True,
        activation="gelu",
        dtype=torch.float64,
    )
    gelu, kinds = torch.nn.functional.gelu, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d
    convolutions = [part for part in net.modules() if isinstance(part, kinds)]
    lifting, *local, projection = convolutions
    hss = [part for part in net.modules() if isinstance(part, HSSMultilinear)]
    assert (len(hss), len(local)) == (depth, depth * 2 * (local_depth + 1))
    expected = 3 + 3 + len(local) * (3 * 3 * 3**m + 3) + sum(map(count_parameters, hss)) + 3 + 1
    assert count_parameters(net) == expected

    x = torch.randn(4, *grid, dtype=torch.float64)
    z, remaining = lifting(x[:, None]), list(local)
    for layer in hss:
        # Modules come in the order of registration: in the last block the first convolution, then the one beside HSS.
        for _ in range(local_depth):
            first, second = remaining.pop(0), remaining.pop(0)
            z = z + second(gelu(first(z)))
        first, second = remaining.pop(0), remaining.pop(0)
        inner = gelu(first(z))
        z = z + second(inner) + layer(inner)
    torch.testing.assert_close(net(x), projection(gelu(z))[:, 0], rtol=1e-12, atol=1e-12)


def test_parameter_counts_of_local_blocks():
    net = NeuralHSS(
        (16, 16), (16, 16), width=16, depth=2, kernel_size=3, outer_rank=2, levels=0, local_depth=1, bias=True
    )
    # Two HSS layers of 16 channels with two pairs of dense factors, eight convolutions, lifting and projection.
    assert count_parameters(net) - len(net.slopes) == 2 * 16 * 2 * 2 * 256 + 8 * (16 * 16 * 9 + 16) + 32 + 17
    # One slope in every block and one after the last.
    assert net.slopes.shape == (5,)
    assert not net.can_be_linear
    one = NeuralHSS(64, 64, width=4, depth=3, kernel_size=5, levels=2, local_depth=2)
    matrices = 3 * 4 * count_parameters(HSSLinear(64, 64, 2, 2))
    assert count_parameters(one) == matrices + 3 * 6 * (4 * 4 * 5) + 2 * 4 + 10


def test_local_blocks_need_a_grid_that_stays():
    net = NeuralHSS((8, 8), (6, 6), width=2, depth=2, kernel_size=3, levels=1, local_depth=1)
    kinds = [type(layer).__name__ for layer in net.layers]
    assert kinds[1:-1] == ["_Residual", "_Residual", "HSSMultilinear", "TrainableLeakyReLU"]


def test_one_channel_has_a_local_branch_too():
    torch.manual_seed(0)
    net = NeuralHSS((8, 8), (8, 8), depth=1, levels=1, kernel_size=1, dtype=torch.float64)
    (layer,) = (part for part in net.modules() if isinstance(part, HSSMultilinear))
    (convolution,) = (part for part in net.modules() if isinstance(part, torch.nn.Conv2d))
    x = torch.randn(3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(net(x), layer(x) + convolution.weight.squeeze() * x)


def test_liftings_of_channels():
    # Channels are one more mode with dense factors, or one more vector.
    def lifting(kind, **arguments):
        net = NeuralHSS((8, 8), (8, 8), levels=1, in_channels=2, width=3, lifting=kind, embedding_dim=16, **arguments)
        return net.layers[0]

    assert [W.shape[1:] for W in lifting("hss").factors] == [(3, 2), (16, 8), (16, 8)]
    assert [W.levels for W in lifting("hss").factors] == [0, 1, 1]
    assert [W.levels for W in lifting("dense").factors] == [0, 0, 0]
    cp = lifting("cp", outer_rank=5)
    assert isinstance(cp, CPLinear)
    assert (cp.in_shape, cp.out_shape, cp.rank) == ((2, 8, 8), (3, 16, 16), 5)
    assert lifting("pointwise").weight.shape == lifting(None).weight.shape == (3, 2, 1, 1)


def test_gelu_has_no_slopes():
    net = NeuralHSS(16, 16, levels=2, activation="gelu")
    assert net.slopes.shape == (0,)
    assert net.penalty() == 0


def random_factors(in_grid, out_grid, levels=1, terms=2):
    generator = torch.Generator().manual_seed(0)
    return [
        HSSMatrix.random(ClusterTree(n, levels), ClusterTree(k, levels), 2, batch_shape=(terms,), generator=generator)
        for n, k in zip(out_grid, in_grid, strict=True)
    ]


def by_definition(factors, x):
    m = len(factors)
    total = 0
    for k in range(factors[0].shape[0]):
        z = x
        for j, W in enumerate(factors):
            z = torch.tensordot(z, W.to_dense()[k], dims=([z.ndim - m + j], [1])).movedim(-1, z.ndim - m + j)
        total = total + z
    return total


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("channels", [None, 1])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"projection": "hss", "bias": True},
        {"lifting": "hss", "kernel_size": 3},
        {"residual": True, "kernel_size": 3, "bias": True},
        {"residual": True, "projection": "pointwise"},
        {"residual": True, "lifting": "dense"},
        {"out_grid": (9, 16, 8)},
        {"lifting": "dense", "projection": "dense", "embedding_dim": 17, "out_grid": (9, 16, 8)},
    ],
)
def test_install_on_a_grid(m, channels, arguments):
    torch.manual_seed(0)
    arguments = dict(arguments)
    in_grid = (8, 16, 8)[:m]
    out_grid = arguments.pop("out_grid", in_grid)[:m]
    net = NeuralHSS(
        in_grid,
        out_grid,
        levels=1,
        outer_rank=3,
        in_channels=channels,
        out_channels=channels,
        initial_slope=0.3,
        dtype=torch.float64,
        **arguments,
    )
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    factors = random_factors(in_grid, out_grid)
    assert net.can_be_linear
    net.install(factors)
    x = torch.randn(5, *[channels] * (channels is not None), *in_grid, dtype=torch.float64)
    torch.testing.assert_close(net(x), by_definition(factors, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("arguments", [{}, {"residual": True, "kernel_size": 3, "projection": None}])
def test_install_in_one_dimension(arguments):
    torch.manual_seed(0)
    net = NeuralHSS(32, 32, levels=2, bias=True, initial_slope=0.3, dtype=torch.float64, **arguments)
    tree = ClusterTree(32, 2)
    A = HSSMatrix.random(tree, tree, 2, generator=torch.Generator().manual_seed(0))
    net.install(A)
    x = torch.randn(5, 32, dtype=torch.float64)
    torch.testing.assert_close(net(x), x @ A.to_dense().T, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "arguments",
    [{"width": 2}, {"activation": "gelu"}, {"lifting": "cp"}, {"in_channels": 2}, {"embedding_dim": 20}],
)
def test_networks_that_cannot_be_linear(arguments):
    net = NeuralHSS((8, 8), (8, 8), levels=1, **arguments)
    assert not net.can_be_linear
    before = [parameter.clone() for parameter in net.parameters()]
    with pytest.raises(ValueError, match="embedding_dim must be" if "embedding_dim" in arguments else "one channel"):
        net.install(random_factors((8, 8), (8, 8)))
    assert all(map(torch.equal, before, net.parameters()))


def test_too_many_terms_change_nothing():
    net = NeuralHSS((8, 8), (8, 8), levels=1, outer_rank=2, residual=True)
    before = [parameter.clone() for parameter in net.parameters()]
    with pytest.raises(ValueError, match="outer_rank=2 is too small for 3 terms"):  # two and minus the identity
        net.install(random_factors((8, 8), (8, 8)))
    assert all(map(torch.equal, before, net.parameters()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_cuda_agrees_with_cpu():
    net = NeuralHSS(
        (16, 12), (16, 12), levels=1, in_channels=2, out_channels=1, width=3, kernel_size=3, dtype=torch.float64
    )
    x = torch.randn(4, 2, 16, 12, dtype=torch.float64)
    expected = net(x)
    torch.testing.assert_close(net.cuda()(x.cuda()).cpu(), expected)
    plain = NeuralHSS((16, 12), (16, 12), levels=1, dtype=torch.float64).cuda()
    factors = random_factors((16, 12), (16, 12))
    plain.install(factors)
    torch.testing.assert_close(plain(x.cuda()[:, 0]).cpu(), by_definition(factors, x[:, 0]))
