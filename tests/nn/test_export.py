"""Modules go through torch.export, and into ONNX files, with an open number of samples."""

import pytest
import torch

from sklearn_hss.nn import (
    FNO,
    CPLinear,
    DeepONet,
    FactFormer,
    GreenLearning,
    HSSLinear,
    HSSMultilinear,
    NeuralHSS,
    PatchHSS,
    ResNet,
)

# A module of every kind and for every option that changes the operations, and the shape of a sample.
MODULES = {
    "HSSLinear": (lambda: HSSLinear(16, 16, levels=2), (16,)),
    "HSSLinear, leaves of several sizes": (lambda: HSSLinear(13, 22, rank=2, levels=2, bias=True), (13,)),
    "HSSLinear, dense": (lambda: HSSLinear(8, 9, levels=0), (8,)),
    "CPLinear": (lambda: CPLinear((2, 6), (5, 4), rank=3, bias=True), (2, 6)),
    "HSSMultilinear, dense": (lambda: HSSMultilinear((8, 9), outer_rank=2, levels=1, contraction="dense"), (8, 9)),
    "HSSMultilinear, hss": (lambda: HSSMultilinear((8, 9), outer_rank=2, levels=1, contraction="hss"), (8, 9)),
    "HSSMultilinear, auto": (lambda: HSSMultilinear((8, 9), (10, 8), outer_rank=2, levels=1, bias=True), (8, 9)),
    "HSSMultilinear, channels": (lambda: HSSMultilinear((8, 8), outer_rank=2, levels=1, channels=3), (3, 8, 8)),
    "HSSMultilinear, 1-D": (lambda: HSSMultilinear((8,), outer_rank=1, levels=1, channels=2), (2, 8)),
    "HSSMultilinear, 3-D": (lambda: HSSMultilinear((4, 5, 6), outer_rank=2, levels=1, recompute=True), (4, 5, 6)),
    "NeuralHSS": (lambda: NeuralHSS(16, 12, depth=1, levels=2), (16,)),
    "NeuralHSS, dense lifting": (
        lambda: NeuralHSS(16, 12, depth=1, levels=1, embedding_dim=20, lifting="dense", projection="cp", bias=True),
        (16,),
    ),
    "NeuralHSS, channels": (
        lambda: NeuralHSS(
            16,
            16,
            depth=1,
            levels=1,
            in_channels=2,
            width=3,
            kernel_size=3,
            residual=True,
            bias=True,
            activation="gelu",
        ),
        (2, 16),
    ),
    "NeuralHSS, 2-D": (lambda: NeuralHSS((8, 8), (8, 10), depth=1, levels=1, outer_rank=2), (8, 8)),
    "NeuralHSS, 2-D, local": (
        lambda: NeuralHSS(
            (8, 8),
            (8, 8),
            depth=1,
            levels=1,
            outer_rank=2,
            in_channels=2,
            out_channels=1,
            width=2,
            kernel_size=3,
            local_depth=1,
            projection="hss",
        ),
        (2, 8, 8),
    ),
    "PatchHSS": (lambda: PatchHSS(22, width=4, depth=1, in_channels=2), (2, 22)),
    "PatchHSS, 2-D": (lambda: PatchHSS((8, 7), (9, 7), width=4, depth=1, levels=1), (8, 7)),
    "ResNet": (lambda: ResNet((8, 6), (9, 6), width=4, depth=1, padding_mode="circular"), (8, 6)),
    "DeepONet": (lambda: DeepONet((8, 6), (5, 9), in_channels=2, out_channels=3, width=8, depth=2), (2, 8, 6)),
    "GreenLearning": (lambda: GreenLearning((4, 2), width=8, depth=1), (4, 2)),
    "GreenLearning, chunks": (lambda: GreenLearning(8, width=8, depth=1, chunk_size=32, homogeneous=False), (8,)),
    "FactFormer": (lambda: FactFormer((8, 6), (9, 6), width=8, in_channels=2), (2, 8, 6)),
}
SIZES = (1, 2, 50)


def module(name):
    torch.manual_seed(0)
    make, shape = MODULES[name]
    network = make().eval()
    for parameter in network.parameters():  # slopes of one and biases of zero would show little
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return network, [torch.randn(n, *shape) for n in (3, *SIZES)]


def open_batch():
    return ({0: torch.export.Dim("batch", min=1)},)


@pytest.mark.parametrize("name", MODULES)
def test_exported_programs_take_any_number_of_samples(name):
    network, (example, *inputs) = module(name)
    # As after predictions, when networks have kept what does not depend on the input.
    with torch.no_grad():
        expected = [network(x) for x in inputs]
        program = torch.export.export(network, (example,), dynamic_shapes=open_batch()).module()
        for x, y in zip(inputs, expected, strict=True):
            torch.testing.assert_close(program(x), y, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(network(x), y, rtol=0, atol=0)


def test_an_export_leaves_nothing_behind_that_is_no_tensor():
    # The first use of these sizes of leaves and of this network is an export.
    network = HSSLinear(29, 31, rank=2, levels=2)
    torch.export.export(network, (torch.randn(3, 29),), dynamic_shapes=open_batch())
    x = torch.randn(4, 29)
    torch.testing.assert_close(network(x), x @ network.weight.to_dense().mT)
    network = DeepONet(8, width=4, depth=2)
    with torch.no_grad():
        torch.export.export(network, (torch.randn(3, 8),), dynamic_shapes=open_batch())
        quiet = network(torch.ones(2, 8))
    torch.testing.assert_close(quiet, network(torch.ones(2, 8)))


def test_an_export_follows_the_weights():
    # Cached results of a network must not be exported as constants.
    network = DeepONet(8, width=4, depth=2)
    x = torch.randn(3, 8)
    with torch.no_grad():
        network(x)
        program = torch.export.export(network, (x,), dynamic_shapes=open_batch())
    assert {name for name, _ in program.named_parameters()} == {name for name, _ in network.named_parameters()}
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    assert {"p_trunk_0_weight", "p_trunk_2_weight"} <= used


def test_the_fourier_operator_exports_to_torch_alone():
    torch.manual_seed(0)
    network = FNO((8, 6), width=4, modes=2, depth=2).eval()
    program = torch.export.export(network, (torch.randn(3, 8, 6),), dynamic_shapes=open_batch()).module()
    x = torch.randn(7, 8, 6)
    torch.testing.assert_close(program(x), network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_onnx_files_predict_the_same(tmp_path, name):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, (example, *inputs) = module(name)
    torch.onnx.export(
        network, (example,), tmp_path / "network.onnx", dynamo=True, dynamic_shapes=open_batch(), verbose=False
    )
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    for x in inputs:
        (y,) = session.run(None, {given.name: x.numpy()})
        torch.testing.assert_close(torch.as_tensor(y), network(x).detach(), rtol=1e-5, atol=1e-5)
