"""Trained networks leave for torch and ONNX with their scales and masks, and follow the `device` parameter."""

import pickle

import numpy as np
import pytest
import torch
from entrances import NETWORKS, name_of, problem
from sklearn.base import clone

from sklearn_hss import FNORegressor, NeuralHSSRegressor, ResNetRegressor

DATA = problem(12, (6, 7))
# In units in which a forgotten scale or offset cannot be overlooked.
X, Y = 50 * DATA.X + 7, 1e3 * DATA.Y - 300
RNG = np.random.RandomState(0)
CHANNELS = {"X": np.stack([X, 0.1 * X], axis=1), "y": np.stack([Y, 1e-3 * Y, Y + 1], axis=1)}


def outside(fields, value):
    return np.where(DATA.mask, fields, value)


CASES = {
    **{name_of(model): (model, X, Y) for model in NETWORKS},
    "patches": (NeuralHSSRegressor(architecture="patches", max_epochs=2, random_state=0), *[RNG.randn(9, 20)] * 2),
    "standard scales": (clone(NETWORKS[1]).set_params(scale="standard"), X, Y),
    "channels": (clone(NETWORKS[1]).set_params(grid_shape=(6, 7), scale="standard"), *CHANNELS.values()),
    "mask": (clone(NETWORKS[1]).set_params(mask=DATA.mask), outside(X, 1e9), outside(Y, 0)),
    "NaN outside": (clone(NETWORKS[0]).set_params(mask="auto"), outside(X, np.nan), outside(Y, np.nan)),
    "flat": (clone(NETWORKS[0]).set_params(grid_shape=(6, 7)), X.reshape(12, -1), Y.reshape(12, -1)),
    "numbers": (NETWORKS[0], X, Y.mean((1, 2))),
}


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("case", CASES)
def test_the_module_predicts_what_the_estimator_predicts(case, kind):
    model, X, Y = CASES[case]
    X, Y = X.astype(kind), Y.astype(kind)
    model = clone(model).set_params(dtype=kind.__name__).fit(X, Y)
    module = model.to_torch()
    assert not module.training
    expected = model.predict(X)
    with torch.no_grad():
        found = module(torch.from_numpy(X))
        flat = module(torch.from_numpy(X.reshape(len(X), -1)))
        one = module(torch.from_numpy(X[:1]))
    assert (found.shape, found.numpy().dtype) == (expected.shape, expected.dtype)
    atol = 50 * np.finfo(kind).eps * np.nanmax(np.abs(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
    np.testing.assert_allclose(flat, expected, rtol=0, atol=atol)
    np.testing.assert_allclose(one, expected[:1], rtol=0, atol=atol)


@pytest.mark.parametrize("case", CASES)
def test_gradients_with_respect_to_inputs(case):
    model, X, Y = CASES[case]
    module = clone(model).set_params(dtype="float64").fit(X, Y).to_torch()
    x = torch.tensor(X[:2], requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x).nansum(), x)
    assert torch.isfinite(gradient).all()
    # Central differences along a direction, in the units of the data.
    direction = torch.from_numpy(np.random.RandomState(1).randn(*x.shape)) * np.nanmedian(np.abs(X))
    with torch.no_grad():
        up, down = (module(x + step * direction).nansum() for step in (1e-6, -1e-6))
    slope = float((gradient * direction).nansum())
    assert float(up - down) / 2e-6 == pytest.approx(slope, rel=1e-4, abs=1e-6 * np.nanmax(np.abs(Y)))
    assert slope != 0


def test_gradients_are_those_of_the_linear_map():
    # The network reproduces A, so that the gradient of the mean is the mean of the rows of A.
    line = problem(30, (32,))
    module = NeuralHSSRegressor(dtype="float64", random_state=0).fit(line.X, line.Y).to_torch()
    x = torch.tensor(line.X[:1], requires_grad=True)
    module(x).sum().backward()
    A = np.linalg.solve(2 * np.eye(32) - np.eye(32, k=1) - np.eye(32, k=-1), np.eye(32))
    np.testing.assert_allclose(x.grad[0], A.sum(0), rtol=1e-6)


def test_the_module_is_a_copy():
    model = clone(NETWORKS[1]).fit(X, Y)
    expected = model.predict(X)
    module = model.to_torch(dtype="float32")
    before = module(torch.tensor(X, dtype=torch.float32))
    for parameter in module.parameters():
        parameter.data.zero_()
    np.testing.assert_array_equal(model.predict(X), expected)
    module = model.to_torch(dtype="float32")
    model.fit(X, 2 * Y)
    torch.testing.assert_close(module(torch.tensor(X, dtype=torch.float32)), before, rtol=0, atol=0)
    # All that it needs is in its state.
    other = model.to_torch(dtype="float32")
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(torch.tensor(X, dtype=torch.float32)), before, rtol=0, atol=0)


def test_what_the_module_refuses():
    model = clone(NETWORKS[1]).fit(X, Y)
    with pytest.raises(ValueError, match="dtype='float16' must be 'float32', 'float64' or None"):
        model.to_torch(dtype="float16")
    with pytest.raises(ValueError, match=r"fields of shape \(7, 6\), but the training was on fields of shape \(6, 7\)"):
        model.to_torch()(torch.zeros(2, 7, 6))
    model.fit(X, 1e60 * Y)
    with pytest.raises(ValueError, match=r"too short a range for the fields, of which y_offset .*use dtype='float64'"):
        model.to_torch(dtype="float32")
    found = model.to_torch(dtype="float64")(torch.from_numpy(X)).detach()
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-3)


def exported(case):
    """A module, an example for an export, and the arguments that leave the number of samples open."""
    model, X, Y = CASES[case]
    model = clone(model).set_params(dtype="float32").fit(X.astype(np.float32), Y.astype(np.float32))
    example = torch.from_numpy(np.nan_to_num(X[:3].astype(np.float32)))
    return model, example, ({0: torch.export.Dim("batch", min=1)},)


EXPORTED = ["NeuralHSSRegressor", "patches", "channels", "NaN outside", "ResNetRegressor"]


@pytest.mark.parametrize("case", EXPORTED)
def test_exported_programs(case):
    model, example, shapes = exported(case)
    program = torch.export.export(model.to_torch(), (example,), dynamic_shapes=shapes).module()
    X = CASES[case][1].astype(np.float32)
    for fields in (X[:1], X):
        expected = model.predict(fields)
        found = program(torch.from_numpy(fields)).detach()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.nanmax(np.abs(expected)))


@pytest.mark.parametrize("case", ["NeuralHSSRegressor", "patches", "NaN outside"])
def test_onnx_files(case, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, example, shapes = exported(case)
    path = tmp_path / "model.onnx"
    torch.onnx.export(model.to_torch(), (example,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    X = CASES[case][1].astype(np.float32)
    for fields in (X[:1], X):
        expected = model.predict(fields)
        (found,) = session.run(None, {given.name: fields})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.nanmax(np.abs(expected)))


def test_onnx_has_no_fourier_transforms(tmp_path):
    pytest.importorskip("onnxscript")
    model, example, shapes = exported("channels")
    with pytest.raises(torch.onnx.errors.OnnxExporterError):
        torch.onnx.export(
            model.to_torch(), (example,), tmp_path / "m.onnx", dynamo=True, dynamic_shapes=shapes, verbose=False
        )


# The device


def test_predictions_follow_the_device(monkeypatch):
    model = FNORegressor(width=4, depth=2, modes=2, max_epochs=2, device="cpu", random_state=0).fit(X, Y)
    expected = model.predict(X)
    model = pickle.loads(pickle.dumps(model))
    moves = []
    monkeypatch.setattr(type(model.net_.module_), "to", lambda self, *args, **kwargs: moves.append(args) or self)
    model.predict(X)
    assert not moves
    # Another device of this machine would be "cuda"; its name is what the network must be brought to.
    model.set_params(device=torch.device("cpu", 0))
    np.testing.assert_array_equal(model.predict(X), expected)
    model.predict(X)
    assert moves == [(torch.device("cpu", 0),)]
    assert torch.device(model.net_.device) == torch.device("cpu", 0)


@pytest.mark.parametrize("call", ["predict", "partial_fit", "to_torch"])
def test_a_device_that_is_not_here_is_refused(call):
    model = ResNetRegressor(width=4, depth=2, max_epochs=1, random_state=0).fit(X, Y).set_params(device="meta")
    arguments = {"predict": (X,), "partial_fit": (X, Y), "to_torch": ()}[call]
    with pytest.raises(ValueError, match="device='meta' cannot be used here"):
        getattr(model, call)(*arguments)
    np.testing.assert_array_equal(model.set_params(device="cpu").predict(X), model.set_params(device="auto").predict(X))
