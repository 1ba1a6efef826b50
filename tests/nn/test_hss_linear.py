import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_hss.linalg import ClusterTree, HSSMatrix
from sklearn_hss.nn import HSSLinear
from sklearn_hss.nn._counting import count_parameters


@st.composite
def layers(draw, max_size=40):
    n_in, n_out = draw(st.integers(1, max_size)), draw(st.integers(1, max_size))
    levels = draw(st.integers(0, ClusterTree.max_levels(min(n_in, n_out))))
    rank = draw(st.integers(1, min(n_in, n_out) >> levels if levels else 3))
    torch.manual_seed(draw(st.integers(0, 2**20)))
    layer = HSSLinear(n_in, n_out, rank, levels, bias=draw(st.booleans()), dtype=torch.float64)
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    return layer


def algorithm_1(layer, x, depth=0):
    """Algorithm 1 of the paper, loop by loop, on one vector; blocks are cut to their own sizes."""
    if depth == layer.levels:
        return layer.D[depth][0] @ x
    merged = [2 * layer.rank] * 2 ** (layer.levels - depth)
    sizes_in, sizes_out = (merged if depth else tree.leaf_sizes for tree in (layer.col_tree, layer.row_tree))
    blocks, z = torch.split(x, sizes_in), []
    for i, block in enumerate(blocks):
        z.append(layer.V[depth][i][: sizes_in[i]].T @ block)
    y = torch.split(algorithm_1(layer, torch.cat(z), depth + 1), layer.rank)
    result = []
    for i, block in enumerate(blocks):
        result.append(
            layer.U[depth][i][: sizes_out[i]] @ y[i] + layer.D[depth][i][: sizes_out[i], : sizes_in[i]] @ block
        )
    return torch.cat(result)


@given(layers(), st.sampled_from([(), (1,), (3,), (2, 3), (0,)]))
def test_forward_is_algorithm_1_and_the_dense_twin(layer, batch_shape):
    x = torch.randn(*batch_shape, layer.in_features, dtype=torch.float64)
    bias = 0 if layer.bias is None else layer.bias
    result = layer(x)
    assert result.shape == (*batch_shape, layer.out_features)
    torch.testing.assert_close(result, x @ layer.weight.to_dense().T + bias, rtol=1e-12, atol=1e-12)
    rows = x.reshape(-1, layer.in_features)
    if len(rows):
        expected = torch.stack([algorithm_1(layer, row) for row in rows]) + bias
        torch.testing.assert_close(result.reshape(expected.shape), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=25)
@given(layers(max_size=14), st.booleans())
def test_gradcheck(layer, transposed):
    x = torch.randn(layer.in_features, 3, dtype=torch.float64).T
    x = (x if transposed else x.contiguous()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *parameters: layer(x), (x, *layer.parameters()))


@given(layers())
def test_gradients_are_those_of_the_dense_twin(layer):
    x = torch.randn(4, layer.in_features, dtype=torch.float64, requires_grad=True)
    target = torch.randn(4, layer.out_features, dtype=torch.float64)
    twin = (layer.weight @ x.T).T + (0 if layer.bias is None else layer.bias)
    inputs = [x, *layer.parameters()]
    expected = torch.autograd.grad((twin - target).square().sum(), inputs)
    actual = torch.autograd.grad((layer(x) - target).square().sum(), inputs)
    for gradient, other in zip(actual, expected, strict=True):
        assert (gradient - other).abs().max() <= 1e-12 * other.abs().max()


def test_input_without_gradient():
    layer = HSSLinear(12, 9, 2, 1)
    layer(torch.randn(3, 12)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_autocast_computes_in_the_type_of_the_parameters():
    layer, x = HSSLinear(20, 17, 2, 2, bias=True), torch.randn(3, 20)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert torch.equal(y, layer(x))


def test_inference_mode_leaves_nothing_behind():
    layer, x = HSSLinear(13, 11, 2, 1), torch.randn(3, 13)  # leaves of unequal sizes, whose padding is cached
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    (layer.weight @ x.T).sum().backward()


@given(layers(max_size=10))
@settings(max_examples=15)
def test_second_derivatives(layer):
    x = torch.randn(2, layer.in_features, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, *parameters: layer(x).square(), (x, *layer.parameters()))


def test_second_derivatives_inside_a_network():
    # A gradient penalty: the layer in the middle must pass on what depends on it through the gradient.
    torch.manual_seed(0)
    layer = HSSLinear(16, 16, 2, 2, dtype=torch.float64)
    twin = torch.nn.Linear(16, 16, bias=False, dtype=torch.float64)
    twin.weight.data = layer.weight.to_dense().detach()
    first, last = (torch.nn.Linear(16, 16, dtype=torch.float64) for _ in range(2))
    x = torch.randn(5, 16, dtype=torch.float64, requires_grad=True)

    def penalty_gradients(middle):
        net = torch.nn.Sequential(first, torch.nn.Tanh(), middle, torch.nn.Tanh(), last)
        (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), [x, first.weight, last.weight])

    torch.testing.assert_close(penalty_gradients(layer), penalty_gradients(twin), rtol=1e-10, atol=1e-13)


def test_arrays_are_refused():
    with pytest.raises(TypeError, match="HSSLinear takes a torch tensor, not ndarray"):
        HSSLinear(16, 16)(np.zeros((2, 16)))


@pytest.mark.parametrize(
    ("n_in", "n_out", "rank", "levels", "count"),
    [
        (256, 256, 2, 3, 9_424),  # the paper's 37K are four of these
        (1024, 1024, 32, 3, 249_856),
        (12, 7, 5, 0, 84),  # no levels: dense
        (10, 5, 1, 1, 5 * 2 + 5 * 3 + (10 + 5) + 4),
    ],
)
def test_number_of_parameters(n_in, n_out, rank, levels, count):
    layer = HSSLinear(n_in, n_out, rank, levels)
    assert layer.weight.n_parameters == count_parameters(layer) == count
    assert count_parameters(HSSLinear(n_in, n_out, rank, levels, bias=True)) == count + n_out


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 4))
def test_closed_formula_of_the_number_of_parameters(rank, multiple, levels):
    # Leaves of m: 2**L (m² + 2 m r); above them 2**l (4 r² + 4 r²) on each level, and a root of 4 r².
    m = rank * multiple
    n = 2**levels * m
    expected = n * (m + 2 * rank) + 8 * rank**2 * (2**levels - 2) + 4 * rank**2 if levels else n * n
    assert count_parameters(HSSLinear(n, n, rank, levels)) == expected


def test_initial_outputs_neither_explode_nor_vanish():
    torch.manual_seed(0)
    for n, rank, levels in [(256, 2, 3), (1024, 32, 3), (256, 16, 0), (4096, 2, 8)]:
        x = torch.randn(64, n)
        # torch.nn.Linear's own initialisation gives 1/3.
        assert 0.2 < HSSLinear(n, n, rank, levels)(x).var() < 1


def test_stack_of_layers_never_transposes():
    layer = HSSLinear(16, 16)
    x = torch.randn(5, 16)
    y = layer(x)
    assert y.T.is_contiguous()
    assert torch.relu(y).T.is_contiguous()
    assert layer(y).T.is_contiguous()


@pytest.mark.parametrize(("n_in", "n_out", "levels"), [(16, 16, 2), (19, 13, 2), (13, 19, 1)])
def test_gradient_of_the_input_has_its_layout(n_in, n_out, levels):
    # Any other would be copied, be it that of rows or of transposed columns.
    torch.manual_seed(0)
    layer = HSSLinear(n_in, n_out, 2, levels, dtype=torch.float64)
    rows, slopes = torch.randn(5, n_in, dtype=torch.float64), torch.randn(5, n_out, dtype=torch.float64)
    expected = slopes @ layer.weight.to_dense()
    for grad in (slopes, slopes.T.contiguous().T):
        for x in (rows, rows.T.contiguous().T):
            x.requires_grad_()
            (gradient,) = torch.autograd.grad(layer(x), x, grad)
            assert gradient.stride() == x.stride()
            torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 5}, "levels=5 is too deep for out_features=20: the largest value that works is 4"),
        ({"levels": -1}, "levels=-1 must be at least 0"),
        ({"rank": 0}, "rank=0 must be at least 1"),
        ({"rank": 3}, "rank=3 exceeds the smallest leaf of out_features=20 .* the largest value .* levels=3 is 2"),
    ],
)
def test_impossible_structure_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HSSLinear(64, 20, **arguments)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"Input with 8 features does not fit HSSLinear\(in_features=16\)"):
        HSSLinear(16, 16)(torch.zeros(2, 8))


def test_copies_state_and_pickles():
    layer, x = HSSLinear(20, 17, 2, 2, bias=True), torch.randn(3, 20)
    other = HSSLinear(20, 17, 2, 2, bias=True)
    other.load_state_dict(layer.state_dict())
    for twin in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer).double().float()):
        torch.testing.assert_close(twin(x), layer(x))
    assert list(layer.state_dict()) == ["D0", "D1", "D2", "U0", "U1", "V0", "V1", "bias"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_cuda_agrees_with_cpu():
    layer, x = HSSLinear(100, 90, 3, 3, dtype=torch.float64), torch.randn(7, 100, dtype=torch.float64)
    expected = layer(x)
    gradients = torch.autograd.grad(expected.square().sum(), list(layer.parameters()))
    layer = layer.cuda()
    actual = layer(x.cuda())
    torch.testing.assert_close(actual.cpu(), expected)
    for gradient, other in zip(
        torch.autograd.grad(actual.square().sum(), list(layer.parameters())), gradients, strict=True
    ):
        torch.testing.assert_close(gradient.cpu(), other)


@pytest.mark.parametrize("shape", [(64, 64), (50, 37), (37, 50)])
@pytest.mark.parametrize("levels", [2, 3, 4])
def test_install(shape, levels):
    # Equal to the matrix where its tree is at least as deep; else as close as rank and levels allow.
    trees = [ClusterTree(n, levels) for n in shape]
    A = HSSMatrix.random(*trees, 2, generator=torch.Generator().manual_seed(0))
    layer = HSSLinear(shape[1], shape[0], rank=4, levels=2, bias=True, dtype=torch.float64)
    layer.install(A)
    torch.testing.assert_close(layer.weight.to_dense(), A.to_dense())
    assert not layer.bias.any()
    # Directions that the matrix does not use stay open to training: V is not zero there.
    assert all((V != 0).any(dim=-2).all() for V in layer.V)
