"""Training on CUDA: captured steps equal plain ones. Tests that do not need a GPU run everywhere."""

import pickle
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sklearn_hss import (
    DeepONetRegressor,
    FactFormerRegressor,
    FNORegressor,
    GreenLearningRegressor,
    NeuralHSSRegressor,
    ResNetRegressor,
)
from sklearn_hss._devices import full_float32
from sklearn_hss.estimators import _base
from sklearn_hss.nn import _graphs

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


@pytest.fixture
def fields():
    """Ten samples on a grid, and targets that are no linear function of them; in batches of 4, the last has 2."""
    F = np.random.RandomState(0).randn(10, 12, 8)
    return F, np.tanh(F + np.roll(F, 1, axis=-1))


def training(**parameters):
    return {
        "max_epochs": 6,
        "batch_size": 4,
        "dtype": "float64",
        "random_state": 0,
        "optimizer": "adamw",
        "lr": 1e-3,
        **parameters,
    }


MODELS = {
    "Neural-HSS": (
        NeuralHSSRegressor,
        {"init": "random", "architecture": "hss", "rank": 1, "levels": 1, "outer_rank": 2},
    ),
    "HSS products": (
        NeuralHSSRegressor,
        {"init": "random", "architecture": "hss", "rank": 1, "levels": 1, "slope_penalty": 0.1},
    ),
    "convolutions": (
        NeuralHSSRegressor,
        {
            "init": "random",
            "architecture": "hss",
            "rank": 1,
            "levels": 1,
            "width": 2,
            "kernel_size": 3,
            "local_depth": 1,
        },
    ),
    "recompute": (
        NeuralHSSRegressor,
        {"init": "random", "architecture": "hss", "rank": 1, "levels": 1, "recompute": True},
    ),
    "FNO": (FNORegressor, {"width": 4, "modes": 3, "depth": 2}),
    "ResNet": (ResNetRegressor, {"width": 4, "depth": 2}),
    "DeepONet": (DeepONetRegressor, {"width": 8, "depth": 2}),
    "GreenLearning": (GreenLearningRegressor, {"width": 8, "depth": 2}),
    "FactFormer": (FactFormerRegressor, {"width": 8}),
}


def make(name, **parameters):
    kind, structure = MODELS[name]
    return kind(**structure, **training(**parameters))


def weights(model):
    return [p.detach().cpu() for p in model.net_.module_.parameters()]


def losses(model):
    return [row["train_loss"] for row in model.history_]


# Captured steps, with a graph that computes on the CPU what was captured, and leaves it where a real one would


class FakeGraphs:
    """Stands for torch's CUDA graphs: a replay reads the captured inputs and writes the captured gradients and loss."""

    def __init__(self, monkeypatch, fails=False):
        self.steps, self.n_replays = [], 0
        fake = self

        class Step(_graphs.GraphedStep):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                fake.steps.append(self)

        class Graph:
            def replay(self):
                fake.n_replays += 1
                step = next(step for step in fake.steps if step.graph is self)
                present = [p.grad for p in step.parameters]
                step._drop_gradients()
                step.loss.copy_(step.compute(*step.inputs).detach())
                for p, captured, other in zip(step.parameters, step.grads, present, strict=True):
                    if captured is not None:
                        captured.copy_(p.grad)
                    p.grad = other

        @contextmanager
        def graph(*_, **__):
            yield
            if fails:
                raise RuntimeError("operation not permitted when stream is capturing\nmore")

        class Stream:
            def wait_stream(self, other):
                pass

        for name, value in {
            "CUDAGraph": Graph,
            "graph": graph,
            "current_stream": Stream,
            "stream": nullcontext,
            "device": nullcontext,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(_graphs, "_side_stream", lambda device: Stream())
        monkeypatch.setattr(_base, "GraphedStep", Step)
        monkeypatch.setattr(_base, "can_capture", lambda device: True)


class FewIterations(torch.optim.LBFGS):
    """Calls its closure several times in a step."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr, max_iter=3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "soap", FewIterations])
def test_captured_steps_are_the_plain_ones(fields, monkeypatch, optimizer, weighted):
    F, U = fields
    weight = np.linspace(0.5, 2, len(F)) if weighted else None
    settings = {"optimizer": optimizer, "device": "cpu", "validation_fraction": None}
    plain = make("ResNet", **settings).fit(F, U, weight)
    fake = FakeGraphs(monkeypatch)
    captured = make("ResNet", **settings).fit(F, U, weight)
    assert len(fake.steps) == 2  # batches of 4 and of 2 samples
    assert fake.n_replays >= 9 + 3  # after three steps without, 9 of 12 and 3 of 6
    torch.testing.assert_close(weights(captured), weights(plain), rtol=0, atol=0)
    assert losses(captured) == losses(plain)
    assert captured.net_.graphs is None
    # Epochs that go on are not captured.
    n_replays = fake.n_replays
    captured.partial_fit(F, U)
    assert fake.n_replays == n_replays
    assert losses(captured) == losses(plain.partial_fit(F, U))


class Freezing(Callback):
    """Freezes the first parameter in epoch 3, after the capture, and lets it go in epoch 5."""

    def on_epoch_begin(self, net, **kwargs):
        first = next(net.module_.parameters())
        first.requires_grad = len(net.history) not in (3, 4)
        first.grad = None


def test_captured_steps_follow_frozen_parameters(fields, monkeypatch):
    plain = make("ResNet", device="cpu", callbacks=[Freezing()], max_epochs=9).fit(*fields)
    fake = FakeGraphs(monkeypatch)
    captured = make("ResNet", device="cpu", callbacks=[Freezing()], max_epochs=9).fit(*fields)
    assert fake.n_replays
    torch.testing.assert_close(weights(captured), weights(plain), rtol=0, atol=0)


def test_a_capture_that_fails_is_given_up(fields, monkeypatch):
    plain = make("ResNet", device="cpu").fit(*fields)
    fake = FakeGraphs(monkeypatch, fails=True)
    with pytest.warns(RuntimeWarning, match="without CUDA graphs, possibly slower: operation not permitted") as record:
        captured = make("ResNet", device="cpu").fit(*fields)
    assert len([warning for warning in record if "CUDA graphs" in str(warning.message)]) <= 2  # one for each shape
    assert fake.n_replays == 0
    torch.testing.assert_close(weights(captured), weights(plain), rtol=0, atol=0)


def synchronising(prediction, target):
    error = (prediction - target).square().flatten(1)
    return error if float(error.detach().sum()) >= 0 else 2 * error


@pytest.mark.parametrize("device", DEVICES)
def test_losses_of_users_may_wait_for_the_device(fields, device):
    # The noise of these targets would shrink the weights, with the default loss of the default settings.
    losses = ("l2", synchronising)
    named, own = (make("ResNet", device=device, loss=loss, settings="paper").fit(*fields) for loss in losses)
    torch.testing.assert_close(weights(own), weights(named), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
def test_nothing_of_the_device_is_left_to_load(fields, device):
    F, U = fields
    mask = np.arange(12)[:, None] + np.arange(8) > 3
    model = make("ResNet", device=device, mask=mask).fit(F, U)
    state = model.net_.__getstate__()
    moments = [value for moments in state["optimizer"]["state"].values() for value in moments.values()]
    for tensor in (*state["tensors"].values(), *(value for value in moments if isinstance(value, torch.Tensor))):
        assert tensor.device.type == "cpu"
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(F), model.predict(F))
    model.net_.initialize_optimizer()  # without warm_start, its state is not pickled
    again.partial_fit(F, U)
    assert losses(again)[-1] == pytest.approx(losses(model.partial_fit(F, U))[-1], rel=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["convolutions", "FNO", "ResNet", "FactFormer", "GreenLearning", "DeepONet"])
def test_bfloat16(fields, name, device):
    F, U = fields
    coarse, fine = (make(name, device=device, dtype=dtype, max_epochs=2).fit(F, U) for dtype in ("bfloat16", "float32"))
    assert {p.dtype for p in coarse.net_.module_.parameters()} == {torch.float32}
    deviation = np.abs(coarse.predict(F) - fine.predict(F)).max()
    assert 0 < deviation < 0.1 * np.abs(U).max()


# On a GPU


@needs_cuda
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_captured_plain_and_cpu_agree(fields, monkeypatch, name, weighted):
    F, U = fields
    weight = np.linspace(0.5, 2, len(F)) if weighted else None
    cpu = make(name, device="cpu").fit(F, U, weight)
    replays = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(graph), replay(graph))[1])
    captured = make(name, device="cuda").fit(F, U, weight)
    assert len(set(map(id, replays))) == 2
    monkeypatch.setattr(_base, "can_capture", lambda device: False)
    plain = make(name, device="cuda").fit(F, U, weight)
    np.testing.assert_allclose(losses(captured), losses(plain), rtol=1e-8)
    np.testing.assert_allclose(losses(captured), losses(cpu), rtol=1e-6)
    np.testing.assert_allclose(captured.predict(F), cpu.predict(F), rtol=1e-4, atol=1e-5 * np.abs(U).max())


@needs_cuda
@pytest.mark.parametrize("optimizer", ["soap", FewIterations, torch.optim.SGD])
def test_captured_steps_of_cuda_optimizers(fields, monkeypatch, optimizer):
    captured = make("Neural-HSS", device="cuda", optimizer=optimizer).fit(*fields)
    monkeypatch.setattr(_base, "can_capture", lambda device: False)
    plain = make("Neural-HSS", device="cuda", optimizer=optimizer).fit(*fields)
    np.testing.assert_allclose(losses(captured), losses(plain), rtol=1e-6)
    assert losses(captured)[-1] < losses(captured)[0]
    if optimizer is not FewIterations:  # whose next step diverges, on a CPU as well
        assert captured.partial_fit(*fields).n_iter_ == 7


@needs_cuda
def test_cuda_levenberg_marquardt(fields):
    # Its random vectors are those of the device, so that losses are not those of a CPU.
    model = make("Neural-HSS", device="cuda", optimizer="lm").fit(*fields)
    assert losses(model)[-1] < losses(model)[0]
    assert model.partial_fit(*fields).n_iter_ == 7


@needs_cuda
def test_cuda_float32(poisson):
    F, U = poisson
    options = {"init": "random", "max_epochs": 20, "batch_size": 16, "optimizer": "adamw", "random_state": 0}
    cpu, gpu = (NeuralHSSRegressor(device=device, **options).fit(F, U) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(losses(gpu), losses(cpu), rtol=2e-2)


@needs_cuda
def test_cuda_seconds_end_the_training(fields):
    model = make("ResNet", device="cuda", max_epochs="auto", max_seconds=1).fit(*fields)
    assert model.n_iter_ >= 2
    assert np.isfinite(losses(model)).all()
    assert model.history_[-1]["lr"] < model.history_[0]["lr"]


@needs_cuda
def test_cuda_and_back(fields):
    F, U = fields
    model = make("FNO", device="cuda", warm_start=True).fit(F, U)
    there = losses(model)[-1]
    model.set_params(device="cpu").fit(F, U)
    assert next(model.net_.module_.parameters()).device.type == "cpu"
    assert losses(model)[-1] < there


def test_no_tf32_in_convolutions():
    """torch's default rounds the factors of convolutions in float32 to ten bits on a GPU."""
    before = torch.backends.cudnn.allow_tf32
    try:
        for kept in (True, False):
            torch.backends.cudnn.allow_tf32 = kept
            with full_float32("cpu"):
                assert torch.backends.cudnn.allow_tf32 is kept
            with full_float32(torch.device("cuda")), full_float32("cuda:0"):
                assert torch.backends.cudnn.allow_tf32 is False
            assert torch.backends.cudnn.allow_tf32 is kept
    finally:
        torch.backends.cudnn.allow_tf32 = before
