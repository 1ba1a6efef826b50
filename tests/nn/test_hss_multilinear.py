import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_hss.linalg import ClusterTree, HSSMatrix
from sklearn_hss.nn import HSSMultilinear
from sklearn_hss.nn import _hss_multilinear as module
from sklearn_hss.nn._counting import count_parameters


@st.composite
def layers(draw, max_size=9, max_modes=3):
    m = draw(st.integers(1, max_modes))
    sizes = st.lists(st.integers(1, max_size), min_size=m, max_size=m)
    in_shape, out_shape = draw(sizes), draw(sizes)
    smallest = list(map(min, in_shape, out_shape))
    levels = [draw(st.integers(0, ClusterTree.max_levels(n))) for n in smallest]
    ranks = [draw(st.integers(1, max(1, n >> depth))) for n, depth in zip(smallest, levels, strict=True)]
    torch.manual_seed(draw(st.integers(0, 2**20)))
    layer = HSSMultilinear(
        in_shape,
        out_shape,
        outer_rank=draw(st.integers(1, 4)),
        rank=ranks,
        levels=levels,
        channels=draw(st.sampled_from([None, 1, 3])),
        bias=draw(st.booleans()),
        recompute=draw(st.booleans()),
        contraction=draw(st.sampled_from(["auto", "dense", "hss"])),
        dtype=torch.float64,
    )
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    return layer


def field_shape(layer):
    return (*([] if layer.channels is None else [layer.channels]), *layer.in_shape)


def by_definition(layer, x):
    """The sum over k of eq. (1), from dense factors, one product along one dimension after the other."""
    m = len(layer.in_shape)
    total = 0
    for k in range(layer.outer_rank):
        z = x
        for j, W in enumerate(layer.factors):
            W = W.to_dense()[..., k, :, :]
            if layer.channels is None:
                z = torch.tensordot(z, W, dims=([z.ndim - m + j], [1])).movedim(-1, z.ndim - m + j)
            else:
                z = torch.stack(
                    [
                        torch.tensordot(z_c, W_c, dims=([z_c.ndim - m + j], [1])).movedim(-1, z_c.ndim - m + j)
                        for z_c, W_c in zip(z.unbind(-m - 1), W, strict=True)
                    ],
                    dim=-m - 1,
                )
        total = total + z
    return total if layer.bias is None else total + layer.bias


@settings(max_examples=150)
@given(layers(), st.sampled_from([(), (1,), (5,), (2, 3)]))
def test_forward_is_the_definition(layer, batch_shape):
    x = torch.randn(*batch_shape, *field_shape(layer), dtype=torch.float64)
    result = layer(x)
    assert result.shape[len(batch_shape) :][-len(layer.out_shape) :] == layer.out_shape
    torch.testing.assert_close(result, by_definition(layer, x), rtol=1e-12, atol=1e-12)


@given(layers(), st.booleans())
def test_gradients_are_those_of_the_definition(layer, contiguous):
    x = torch.randn(4, *field_shape(layer), dtype=torch.float64)
    x = (x if contiguous else x.transpose(0, -1).contiguous().transpose(0, -1)).requires_grad_()
    expected = by_definition(layer, x)
    target = torch.randn_like(expected)
    inputs = [x, *layer.parameters()]
    actual = torch.autograd.grad((layer(x) - target).square().sum(), inputs)
    for gradient, other in zip(actual, torch.autograd.grad((expected - target).square().sum(), inputs), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-11)


SMALL = [
    {"in_shape": (4, 3), "out_shape": (3, 5), "levels": (1, 0)},
    {"in_shape": (3, 2), "levels": 1, "channels": 2},
    {"in_shape": (2, 3, 2), "out_shape": (2, 2, 3), "levels": (1, 0, 1)},
]


WAYS = [("dense", False), ("dense", True), ("hss", False)]


# Every way with one layer, every layer with one way.
@pytest.mark.parametrize(
    ("arguments", "contraction", "recompute"),
    [*((SMALL[0], *way) for way in WAYS), *((layer, "dense", False) for layer in SMALL[1:])],
)
def test_derivatives(arguments, contraction, recompute):
    torch.manual_seed(0)
    layer = HSSMultilinear(
        **arguments, outer_rank=2, rank=1, contraction=contraction, recompute=recompute, dtype=torch.float64
    )
    x = torch.randn(2, *field_shape(layer), dtype=torch.float64, requires_grad=True)
    inputs = (x, *layer.parameters())
    assert torch.autograd.gradcheck(lambda x, *parameters: layer(x), inputs)
    assert torch.autograd.gradgradcheck(lambda x, *parameters: layer(x).square(), inputs)


@pytest.mark.parametrize("shape", [(6, 5), (4, 4, 5)])
def test_chunks_and_groups_change_nothing(shape, monkeypatch):
    # So small a cache and so narrow products that there are several of each.
    torch.manual_seed(0)
    for recompute in (False, True):
        layer = HSSMultilinear(shape, outer_rank=5, levels=1, channels=2, recompute=recompute, dtype=torch.float64)
        x = torch.randn(7, 2, *shape, dtype=torch.float64, requires_grad=True)
        inputs = [x, *layer.parameters()]

        def run(layer=layer, x=x, inputs=inputs):
            y = layer(x)
            return y, *torch.autograd.grad(y.square().sum(), inputs)

        expected = run()
        with monkeypatch.context() as patch:
            patch.setattr(module, "_CPU_CHUNK", 3 * 2 * 8 * np.prod(shape))
            patch.setattr(module, "_WIDE", 2 * shape[-1])
            patch.setattr(module, "_SMALL", 0)
            actual = run()
        for value, other in zip(actual, expected, strict=True):
            torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("in_shape", "out_shape"), [((6, 5), (6, 5)), ((4, 7), (5, 3)), ((8, 1), (1, 4))])
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_channels_at_once_or_one_by_one(in_shape, out_shape, batch, monkeypatch):
    torch.manual_seed(0)
    layer = HSSMultilinear(
        in_shape, out_shape, outer_rank=3, levels=0, channels=2, contraction="dense", dtype=torch.float64
    )
    x = torch.randn(batch, 2, *in_shape, dtype=torch.float64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    target = torch.randn(batch, 2, *out_shape, dtype=torch.float64)

    def run(limit):
        monkeypatch.setattr(module, "_SMALL", limit)
        y = layer(x)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), y, rtol=1e-12, atol=1e-12)
        return y, *torch.autograd.grad((y - target).square().sum(), inputs)

    at_once, one_by_one = run(2**15), run(0)
    y = torch.einsum("bcij,ckmi,cknj->bcmn", x, *(W.to_dense() for W in layer.factors))
    by_einsum = y, *torch.autograd.grad((y - target).square().sum(), inputs)
    for value, loop, other in zip(at_once, one_by_one, by_einsum, strict=True):
        torch.testing.assert_close(value, loop, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("recompute", [False, True])
def test_second_derivatives_of_channels_one_by_one(recompute, monkeypatch):
    monkeypatch.setattr(module, "_SMALL", 0)
    torch.manual_seed(0)
    layer = HSSMultilinear(
        (3, 2), outer_rank=2, levels=0, channels=2, contraction="dense", recompute=recompute, dtype=torch.float64
    )
    x = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, *parameters: layer(x).square(), (x, *layer.parameters()))


@pytest.mark.parametrize("shape", [(32, 32), (16, 16, 16)])
def test_recomputation_saves_the_input_only(shape):
    def saved(recompute):
        layer = HSSMultilinear(shape, outer_rank=4, recompute=recompute, contraction="dense")
        x = torch.randn(64, *shape, requires_grad=True)
        sizes = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.__setitem__(t.untyped_storage().data_ptr(), t.numel()) or t, lambda t: t
        ):
            y = layer(x)
        y.sum().backward()
        return sum(size for size in sizes.values() if size >= x.numel() // 64) / x.numel()

    assert saved(recompute=True) < 1.5
    assert saved(recompute=False) > 4


def test_input_without_gradient_and_no_grad():
    for contraction in ("dense", "hss"):
        layer, x = HSSMultilinear((8, 8), levels=1, contraction=contraction), torch.randn(3, 8, 8)
        y = layer(x)
        y.sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
        with torch.no_grad():
            torch.testing.assert_close(layer(x), y)
        assert layer(x[:0]).shape == (0, 8, 8)


def test_autocast_computes_in_the_type_of_the_parameters():
    layer, x = HSSMultilinear((12, 10), levels=1, bias=True), torch.randn(3, 12, 10)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert torch.equal(y, layer(x))


@pytest.mark.parametrize(
    ("shape", "arguments", "count"),
    [
        ((64, 64), {"rank": 2}, 65_280 // 3),  # at most the paper's 65K in three layers
        ((128, 128), {"rank": 8}, 356_352 // 3),
        ((4, 6), {"levels": 0, "outer_rank": 3}, 3 * (16 + 36)),
        ((5, 4), {"levels": (1, 0), "outer_rank": 2, "rank": 1, "channels": 3}, 6 * (4 + 9 + 5 + 5 + 4 + 16)),
    ],
)
def test_number_of_parameters(shape, arguments, count):
    layer = HSSMultilinear(shape, **arguments)
    assert count_parameters(layer) == sum(W.n_parameters for W in layer.factors) == count
    offsets = (arguments.get("channels") or 1) * np.prod(shape)
    assert count_parameters(HSSMultilinear(shape, **arguments, bias=True)) == count + offsets


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("outer_rank", [1, 8])
def test_initial_outputs_neither_explode_nor_vanish(m, outer_rank):
    torch.manual_seed(0)
    x = torch.randn(4, *[32] * m)
    variances = [HSSMultilinear(x.shape[1:], outer_rank=outer_rank)(x).var() for _ in range(20)]
    assert 0.2 < sum(variances) / 20 < 1


def test_large_dimensions_are_contracted_by_hss_products():
    def choice(shape, batch, **arguments):
        return HSSMultilinear(shape, **arguments)._contraction(batch)

    assert choice((64, 64), 128) == choice((64, 64, 64), 4) == choice((128, 128), 32, rank=8) == "dense"
    assert choice((1024, 1024), 4, levels=6) == choice((4096,), 64, levels=6) == "hss"
    assert choice((1024, 1024), 4, levels=0) == "dense"


@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize(
    ("in_shape", "out_shape", "depths"),
    [((16, 12), (16, 12), (2, 2)), ((17, 12), (13, 16), (1, 3)), ((8, 9, 8), (8, 9, 8), (2, 1, 0))],
)
def test_install(in_shape, out_shape, depths, channels):
    # Trees of the given factors as deep as the layer's, deeper, shallower.
    generator = torch.Generator().manual_seed(0)
    factors = [
        HSSMatrix.random(ClusterTree(n_out, depth), ClusterTree(n_in, depth), 2, batch_shape=(3,), generator=generator)
        for n_in, n_out, depth in zip(in_shape, out_shape, depths, strict=True)
    ]
    layer = HSSMultilinear(
        in_shape, out_shape, outer_rank=5, rank=4, levels=1, channels=channels, bias=True, dtype=torch.float64
    )
    torch.nn.init.normal_(layer.bias)
    layer.install(factors)
    x = torch.randn(2, *field_shape(layer), dtype=torch.float64)
    twin = HSSMultilinear(in_shape, out_shape, outer_rank=3, levels=0, dtype=torch.float64)
    for mode, W in zip(twin.modes, factors, strict=True):
        mode.D[0].data = W.to_dense().unsqueeze(-3)
    torch.testing.assert_close(layer(x), by_definition(twin, x))
    # Terms that are not used can be trained: the other dimensions are not zero there.
    (gradient, *_) = torch.autograd.grad(layer(x).square().sum(), layer.modes[0].D)
    assert (gradient[..., 3:, :, :, :].flatten(-3).abs().amax(-1) > 0).all()


def test_install_balances_the_terms():
    generator = torch.Generator().manual_seed(0)
    tree = ClusterTree(12, 1)
    first, second = (HSSMatrix.random(tree, tree, 2, batch_shape=(3,), generator=generator) for _ in range(2))
    x = torch.randn(2, 12, 12, dtype=torch.float64, generator=generator)
    layers = []
    # The same map in another gauge: a step of one size would change the second matrix 1e12 times as much as the first.
    for scale in (1.0, 1e6):
        layers.append(HSSMultilinear((12, 12), outer_rank=3, rank=2, levels=1, dtype=torch.float64))
        layers[-1].install([scale * first, (1 / scale) * second])
    torch.testing.assert_close(layers[0](x), layers[1](x))
    for one, other in zip(layers[0].factors, layers[1].factors, strict=True):
        torch.testing.assert_close(one.to_dense(), other.to_dense())
    norms = [W.to_dense().flatten(1).norm(dim=1) for W in layers[1].factors]
    torch.testing.assert_close(*norms)


def test_factors_that_do_not_fit_are_refused():
    tree = ClusterTree(8, 1)
    W = HSSMatrix.random(tree, tree, 1, batch_shape=(3,))
    layer = HSSMultilinear((8, 8), outer_rank=2)
    with pytest.raises(ValueError, match=r"outer_rank=2 is too small for 3 terms: it must be at least 3"):
        layer.install([W, W])
    with pytest.raises(ValueError, match=r"Factors of shapes \[\(3, 8, 8\)\] do not fit"):
        layer.install([W])
    with pytest.raises(ValueError, match="do not fit"):
        layer.install([HSSMatrix.random(tree, tree, 1)] * 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": (1, 5)}, r"levels=5 is too deep for out_shape\[1\]=20: the largest value that works is 4"),
        ({"rank": (2, 6)}, r"rank=6 exceeds the smallest leaf of out_shape\[1\]=20 .* with levels=2 is 5"),
        ({"rank": (2, 2, 2)}, r"rank=\(2, 2, 2\) must be one number, or 2 numbers for 2 dimensions"),
        ({"out_shape": (16,)}, r"out_shape=\(16,\) must have the same number of dimensions as in_shape=\(64, 32\)"),
        ({"outer_rank": 0}, "outer_rank=0 must be at least 1"),
        ({"channels": 0}, "channels=0 must be at least 1"),
        ({"contraction": "sparse"}, "contraction='sparse' must be"),
    ],
)
def test_impossible_structure_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HSSMultilinear(**({"in_shape": (64, 32), "out_shape": (64, 20)} | arguments))


@pytest.mark.parametrize(("channels", "shape"), [(None, (2, 8, 10)), (3, (2, 8, 8)), (3, (8, 8)), (None, (8,))])
def test_wrong_input_is_refused(channels, shape):
    layer = HSSMultilinear((8, 8), channels=channels)
    with pytest.raises(ValueError, match=r"does not fit HSSMultilinear.* its last dimensions must be \(.*8, 8\)"):
        layer(torch.zeros(shape))


def test_arrays_are_refused():
    with pytest.raises(TypeError, match="HSSMultilinear takes a torch tensor, not ndarray"):
        HSSMultilinear((8, 8))(np.zeros((2, 8, 8)))


def test_copies_and_state():
    layer, x = HSSMultilinear((12, 10), levels=1, bias=True), torch.randn(3, 12, 10)
    other = HSSMultilinear((12, 10), levels=1, bias=True)
    other.load_state_dict(layer.state_dict())
    for twin in (other, copy.deepcopy(layer)):
        torch.testing.assert_close(twin(x), layer(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize(("shape", "channels"), [((40,), 2), ((20, 30), None), ((20, 30), 2), ((10, 12, 9), None)])
def test_cuda_agrees_with_cpu(shape, channels):
    for contraction, recompute in itertools.product(("dense", "hss"), (False, True)):
        layer = HSSMultilinear(
            shape, levels=1, channels=channels, contraction=contraction, recompute=recompute, dtype=torch.float64
        )
        x = torch.randn(5, *field_shape(layer), dtype=torch.float64)
        expected = layer(x)
        gradients = torch.autograd.grad(expected.square().sum(), list(layer.parameters()))
        layer = layer.cuda()
        actual = layer(x.cuda())
        torch.testing.assert_close(actual.cpu(), expected)
        for gradient, other in zip(
            torch.autograd.grad(actual.square().sum(), list(layer.parameters())), gradients, strict=True
        ):
            torch.testing.assert_close(gradient.cpu(), other)
