import pytest
import torch

from sklearn_hss.nn import CPLinear


@pytest.mark.parametrize(
    ("in_shape", "out_shape"), [((5,), (4,)), ((2, 5, 3), (4, 6)), ((3, 4), (2, 3, 2, 2)), ((7,), (2, 3))]
)
@pytest.mark.parametrize("bias", [False, True])
def test_explicit_tensor(in_shape, out_shape, bias):
    # The tensor of Appendix E entry by entry: a sum over the terms of products of one number per dimension.
    torch.manual_seed(0)
    layer = CPLinear(in_shape, out_shape, rank=3, bias=bias, dtype=torch.float64)
    if bias:
        torch.nn.init.normal_(layer.bias)
    W = torch.zeros(*out_shape, *in_shape, dtype=torch.float64)
    for i in range(3):
        term = layer.c[i]
        for vector in (*layer.u, *layer.v):
            term = torch.tensordot(term, vector[i], dims=0)
        W = W + term
    x = torch.randn(2, 4, *in_shape, dtype=torch.float64, requires_grad=True)
    expected = torch.tensordot(x, W, dims=(list(range(2, x.ndim)), list(range(len(out_shape), W.ndim))))
    expected = expected + layer.bias if bias else expected
    actual = layer(x)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    inputs = [x, *layer.parameters()]
    for gradient, other in zip(
        torch.autograd.grad(actual.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-11)


def test_initial_outputs_neither_explode_nor_vanish():
    torch.manual_seed(0)
    x = torch.randn(8, 2, 16, 16)
    variances = torch.stack([CPLinear((2, 16, 16), (20, 20))(x).var() for _ in range(50)])
    assert 0.1 < variances.mean() < 1


def test_errors():
    with pytest.raises(ValueError, match="rank=0 must be at least 1"):
        CPLinear((4,), (4,), rank=0)
    with pytest.raises(ValueError, match=r"Input of shape \(2, 4, 5\) does not fit CPLinear\(in_shape=\(4, 4\)\)"):
        CPLinear((4, 4), (4,))(torch.zeros(2, 4, 5))
