import numpy as np
import pytest
import torch
from torch.nn.functional import gelu

from sklearn_hss.nn import FNO, SpectralConv
from sklearn_hss.nn._counting import count_parameters
from sklearn_hss.nn._fno import largest_modes

DOUBLE = {"dtype": torch.float64}


def literal_spectral_conv(layer, x):
    """Sum over the modes, one at a time, by the definition of the Fourier coefficients."""
    weight = torch.view_as_complex(layer.weight.detach()).numpy()
    x = x.numpy()
    grid = x.shape[2:]
    places = np.meshgrid(*(np.arange(n) / n for n in grid), indexing="ij")
    y = np.zeros((len(x), weight.shape[1], *grid), dtype=complex)
    for place in np.ndindex(*weight.shape[2:]):
        k = [j if j < m else j - 2 * m for j, m in zip(place[:-1], layer.modes[:-1], strict=True)] + [place[-1]]
        wave = np.exp(2j * np.pi * sum(k_i * x_i for k_i, x_i in zip(k, places, strict=True)))
        coefficients = (x * wave.conj()).reshape(*x.shape[:2], -1).mean(axis=2)
        term = np.einsum("bi,io->bo", coefficients, weight[(slice(None), slice(None), *place)])
        term = term.reshape(*term.shape, *[1] * len(grid)) * wave
        # The modes of the other sign have the conjugate coefficients, but for those that are their own.
        own = k[-1] == 0 or 2 * k[-1] == grid[-1]
        y += term.real if own else 2 * term.real
    return torch.from_numpy(y.real)


@pytest.mark.parametrize(
    ("grid", "modes"),
    [((16,), (5,)), ((15,), (8,)), ((16,), (9,)), ((7, 9), (3, 4)), ((8, 6), (3, 4)), ((5, 6, 7), (2, 2, 3))],
)
def test_spectral_conv_is_the_sum_over_the_modes(grid, modes):
    torch.manual_seed(0)
    layer = SpectralConv(2, 3, modes, **DOUBLE)
    x = torch.randn(4, 2, *grid, **DOUBLE)
    torch.testing.assert_close(layer(x).detach(), literal_spectral_conv(layer, x), rtol=1e-12, atol=1e-12)


def test_modes_beyond_those_kept_are_left_out():
    layer = SpectralConv(1, 1, (4,), **DOUBLE)
    x = torch.cos(2 * torch.pi * 4 * torch.arange(16, **DOUBLE) / 16)[None, None]
    assert layer(x).abs().max() < 1e-13
    assert layer(torch.ones(1, 1, 16, **DOUBLE)).abs().min() > 1e-3


@pytest.mark.parametrize(("grid", "modes"), [((12,), 4), ((12, 10), (4, 3)), ((8, 6, 10), (2, 3, 3))])
@pytest.mark.parametrize("channels", [(None, None), (2, 3), (None, 2)])
def test_network_is_its_definition(grid, modes, channels):
    torch.manual_seed(0)
    net = FNO(grid, in_channels=channels[0], out_channels=channels[1], width=5, modes=modes, depth=3, **DOUBLE)
    x = torch.randn(4, channels[0] or 1, *grid, **DOUBLE)
    axes = torch.meshgrid(*(torch.arange(n, **DOUBLE) / n for n in grid), indexing="ij")
    y = torch.cat([x, torch.stack(axes).expand(4, -1, *grid)], dim=1)

    def pointwise(layer, y):
        bias = layer.bias.reshape(-1, *[1] * len(grid))
        return torch.einsum("oi,bi...->bo...", layer.weight.flatten(1), y) + bias

    y = pointwise(net.lifting, y)
    for i in range(3):
        y = literal_spectral_conv(net.spectral[i], y.detach()) + pointwise(net.pointwise[i], y)
        y = gelu(y) if i < 2 else y
    y = pointwise(net.projection, y)
    x, y = (f if c else f[:, 0] for f, c in zip((x, y), channels, strict=True))
    torch.testing.assert_close(net(x), y, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (dict(in_features=256), 102_657),  # paper: 102K
        (dict(in_features=256, depth=6), 153_921),  # paper: 150K
        # Paper: 132K, which is this number of weights if a complex one counts once: 132,241.
        (dict(in_features=(64, 64), width=16, modes=8), 263_313),
    ],
)
def test_number_of_parameters(arguments, count):
    assert count_parameters(FNO(**arguments)) == count


def test_finer_grids_give_the_same_function():
    # Band-limited inputs, and layers whose results stay within the band, so that nothing is aliased: without gelu.
    torch.manual_seed(0)
    coarse = FNO((16, 12), width=4, modes=(3, 4), depth=1, **DOUBLE)
    fine = FNO((48, 36), width=4, modes=(3, 4), depth=1, **DOUBLE)
    fine.load_state_dict(coarse.state_dict())
    coarse.coordinates = fine.coordinates = True

    def field(n, m):
        x, y = np.ix_(np.arange(n) / n, np.arange(m) / m)
        return torch.from_numpy(np.cos(2 * np.pi * 2 * x) * np.sin(2 * np.pi * y) + np.sin(2 * np.pi * (x + 2 * y)))[
            None
        ]

    for net in (coarse, fine):  # coordinates are no periodic functions
        net.places = torch.zeros_like(net.places)
    torch.testing.assert_close(fine(field(48, 36))[:, ::3, ::3], coarse(field(16, 12)), rtol=1e-12, atol=1e-12)


def test_finer_grids_nearly_give_the_same_function_with_activations():
    torch.manual_seed(0)
    nets = [FNO(n, width=8, modes=6, depth=3, coordinates=False, **DOUBLE) for n in (64, 256)]
    nets[1].load_state_dict(nets[0].state_dict())
    x = [torch.sin(2 * torch.pi * torch.arange(n, **DOUBLE) / n)[None] for n in (64, 256)]
    torch.testing.assert_close(nets[1](x[1])[:, ::4], nets[0](x[0]), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("grid", [(1,), (2,), (3,), (7,), (31,), (2, 3), (13, 8), (3, 2, 5)])
def test_any_grid(grid):
    net = FNO(grid, width=3, modes=largest_modes(grid), depth=2)
    assert net(torch.randn(4, *grid)).shape == (4, *grid)


def test_another_output_grid():
    net = FNO((12, 9), (6, 18), width=4, modes=2, out_channels=2, **DOUBLE)
    y = net(torch.randn(3, 12, 9, **DOUBLE))
    assert y.shape == (3, 2, 6, 18)
    # At the start, cells are averaged, so that constants stay constants.
    torch.testing.assert_close(net.regrid(torch.ones(1, 1, 12, 9, **DOUBLE)), torch.ones(1, 1, 6, 18, **DOUBLE))
    halves = net.regrid.matrices["0"]
    torch.testing.assert_close(halves.detach() @ torch.arange(12.0, **DOUBLE), torch.arange(0.5, 12, 2, **DOUBLE))


@pytest.mark.parametrize(
    ("grid", "modes", "largest"),
    [
        ((16,), 10, r"\(9,\)"),
        ((16, 8), 6, r"\(8, 5\)"),
        ((16, 8), (9, 5), r"\(8, 5\)"),
        ((7, 7), 4, r"\(3, 4\)"),
        ((16,), (4, 4), r"\(9,\)"),
    ],
)
def test_modes_above_the_grid_are_refused(grid, modes, largest):
    with pytest.raises(
        ValueError, match=rf"modes=.* does not fit the grid .* the largest value that works is {largest}"
    ):
        FNO(grid, modes=modes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(in_features=(1, 8), modes=1), r"at least two points in all but the last, not \(1, 8\)"),
        (dict(in_features=(4, 4, 4, 4), modes=1), "FNO supports grids of one to three dimensions"),
        (
            dict(in_features=(8, 8), out_features=64, modes=2),
            r"out_features=\(64,\) and in_features=\(8, 8\) must have equally many",
        ),
        (dict(in_features=16, modes=(4.5,)), r"modes=\(4.5,\) does not fit the grid"),
        (dict(in_features=16, modes=("a",)), r"modes=\('a',\) does not fit the grid"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FNO(**arguments)


def test_numpy_integers():
    assert FNO(np.int64(32), modes=np.int64(4))(torch.zeros(2, 32)).shape == (2, 32)


def test_inputs_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"Input of shape \(2, 9\) does not fit FNO\(in_features=\(8,\)"):
        FNO(8, modes=2)(torch.zeros(2, 9))


def test_gradients():
    torch.manual_seed(0)
    net = FNO((5, 4), (3, 4), width=2, modes=(2, 2), depth=2, **DOUBLE)
    names, values = zip(*net.named_parameters(), strict=True)

    def apply(x, *values):
        return torch.func.functional_call(net, dict(zip(names, values, strict=True)), x)

    x = torch.randn(2, 5, 4, requires_grad=True, **DOUBLE)
    assert torch.autograd.gradcheck(apply, (x, *values))


class EverySecondTime:
    """neuraloperator 2.0 applies the activation of a block without channel MLP twice; the paper does it once."""

    def __init__(self, activation):
        self.activation, self.n_calls = activation, 0

    def __call__(self, x):
        self.n_calls += 1
        return self.activation(x) if self.n_calls % 2 else x


# Grids whose first dimensions are even: it shifts the spectra of odd ones wrongly.
@pytest.mark.parametrize(("grid", "modes"), [((32,), (6,)), ((16, 15), (4, 5)), ((8, 6, 11), (3, 2, 4))])
def test_agrees_with_neuraloperator(grid, modes):
    neuralop = pytest.importorskip("neuralop.models", reason="neuraloperator is not installed")
    torch.manual_seed(0)
    ours = FNO(grid, in_channels=2, out_channels=3, width=6, modes=modes, depth=4)
    theirs = neuralop.FNO(
        # Of the last dimension, they keep half of the modes that they are given, and one.
        n_modes=(*(2 * m for m in modes[:-1]), 2 * (modes[-1] - 1)),
        in_channels=2,
        out_channels=3,
        hidden_channels=6,
        n_layers=4,
        lifting_channel_ratio=0,
        projection_channel_ratio=1,
        use_channel_mlp=False,
        fno_skip="linear",
        positional_embedding="grid",
        non_linearity=EverySecondTime(gelu),
    )
    theirs.projection = torch.nn.Identity()  # of two layers at least, where ours has one
    with torch.no_grad():
        (lifting,) = theirs.lifting.fcs
        lifting.weight.copy_(ours.lifting.weight.flatten(2))
        lifting.bias.copy_(ours.lifting.bias)
        for i, (spectral, pointwise) in enumerate(zip(ours.spectral, ours.pointwise, strict=True)):
            weight = torch.view_as_complex(spectral.weight)
            # They order modes from the lowest negative to the highest positive one.
            weight = torch.fft.fftshift(weight, dim=tuple(range(2, weight.ndim - 1))) if len(grid) > 1 else weight
            theirs.fno_blocks.convs[i].weight.tensor.copy_(weight)
            theirs.fno_blocks.convs[i].bias.copy_(pointwise.bias.reshape(-1, *[1] * len(grid)))
            theirs.fno_blocks.fno_skips[i].conv.weight.copy_(pointwise.weight.flatten(2))
        x = torch.randn(3, 2, *grid)
        expected = torch.einsum("oi,bi...->bo...", ours.projection.weight.flatten(1), theirs(x))
        expected += ours.projection.bias.reshape(-1, *[1] * len(grid))
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)
