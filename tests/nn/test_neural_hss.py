import itertools

import pytest
import torch

from sklearn_hss.nn import HSSLinear, NeuralHSS, TrainableLeakyReLU
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
    ],
)
def test_impossible_networks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NeuralHSS(32, 32, **arguments)
