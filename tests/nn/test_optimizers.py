"""SOAP and Levenberg-Marquardt, against dense computations of the same steps."""

import copy

import numpy as np
import pytest
import torch

from sklearn_hss.datasets import make_poisson
from sklearn_hss.nn import SOAP, HSSLinear, LevenbergMarquardt, NeuralHSS, ResNet, _soap
from sklearn_hss.nn._stacks import as_stack, from_stack, parameter_groups, rotate, stacks_of

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")


def problem(n=16, n_samples=40, dtype=torch.float64, seed=0):
    rng = np.random.RandomState(seed)
    X = torch.from_numpy(rng.standard_normal((n_samples, n))).to(dtype)
    return X, X.cumsum(1) / n


def layer(n=16, dtype=torch.float64):
    torch.manual_seed(0)
    return HSSLinear(n, n, rank=2, levels=2, dtype=dtype)


def train(net, optimizer, X, Y, n_steps):
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = (net(X) - Y).square().sum(1).mean()
        loss.backward()
        optimizer.step()
    return float(loss)


# Stacks


@pytest.mark.parametrize("blocks", ["first", "last"])
@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (2, 3, 4), (2, 3, 4, 5)])
def test_stacks_are_views_and_back(shape, blocks):
    tensor = torch.arange(float(np.prod(shape))).reshape(shape)
    stack = as_stack(tensor, blocks)
    assert stack.ndim == 3
    if len(shape) > 1:
        assert stack.shape[1:] == (shape[:2] if blocks == "first" else shape[-2:])
    assert torch.equal(from_stack(stack, tensor, blocks), tensor)


def test_stacks_put_equal_matrices_together():
    parameters = [torch.randn(3, 2, 2), torch.randn(2, 2), torch.randn(5), torch.randn(2, 3)]
    stacks = stacks_of(parameters, "last")
    assert sorted(stack.shape for stack in stacks) == [(1, 2, 3), (4, 2, 2), (5, 1, 1)]
    for stack in stacks:
        for tensor, back in zip(stack.parameters, stack.scatter(stack.gather(stack.parameters)), strict=True):
            assert torch.equal(tensor, back)


def test_groups_of_a_network():
    net = NeuralHSS((16, 16), (16, 16), depth=2, width=2, kernel_size=3, levels=1)
    groups = parameter_groups(net)
    assert sum(p.numel() for group in groups for p in group["params"]) == sum(p.numel() for p in net.parameters())
    (slopes,) = [group for group in groups if group["slopes"]]
    assert len(slopes["params"]) == len(net.slopes)
    assert {group["blocks"] for group in groups if not group["slopes"]} == {"first", "last"}


# SOAP


def soap_of_one_matrix(grads, lr, beta, every, eps=1e-12):
    """Changes of one matrix, written down without stacks: the moments in the original coordinates."""
    L = grads[0] @ grads[0].T
    R = grads[0].T @ grads[0]

    def distinct(A):
        """Without multiple eigenvalues, as those at zero of the Gram matrices of a tall block."""
        return A + 1e-6 * np.trace(A) / len(A) * np.diag(np.linspace(1, 0, len(A)))

    left, right = (np.linalg.eigh(distinct(A))[1][:, ::-1] for A in (L, R))
    average, square, change = np.zeros_like(grads[0]), np.zeros_like(grads[0]), np.zeros_like(grads[0])
    for t, G in enumerate(grads[1:], 1):
        average = beta * average + (1 - beta) * G
        square = beta * square + (1 - beta) * (left.T @ G @ right) ** 2
        m, v = left.T @ average @ right / (1 - beta**t), square / (1 - beta**t)
        change = change - lr * left @ (m / (np.sqrt(v) + eps)) @ right.T
        L, R = beta * L + (1 - beta) * G @ G.T, beta * R + (1 - beta) * G.T @ G
        if t % every == 0:
            for side, A in (("left", distinct(L)), ("right", distinct(R))):
                Q = left if side == "left" else right
                order = np.argsort(-np.diag(Q.T @ A @ Q), kind="stable")
                Q = np.linalg.qr(A @ Q[:, order])[0]
                if side == "left":
                    left, square = Q, square[order]
                else:
                    right, square = Q, square[:, order]
    return change


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (5, 5), (6, 2), (3, 1)])
def test_soap_is_the_textbook_for_every_block(rows, columns):
    rng = np.random.RandomState(0)
    grads = rng.standard_normal((12, 3, rows, columns))
    start = rng.standard_normal((3, rows, columns))
    p = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = SOAP([p], lr=0.1, betas=(0.9, 0.9), every=4)
    for gradient in grads:
        p.grad = torch.from_numpy(gradient)
        optimizer.step()
    for k in range(3):
        expected = start[k] + soap_of_one_matrix(grads[:, k], 0.1, 0.9, 4)
        np.testing.assert_allclose(p.detach().numpy()[k], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 17, 64])
def test_cholesky_qr_is_qr(n, dtype):
    torch.manual_seed(n)
    A = torch.randn(5, n, n, dtype=torch.float64) + 2 * n**0.5 * torch.eye(n)
    A = (A * torch.logspace(0, -20, n)).to(dtype)  # lengths of columns do not matter
    Q, R = torch.linalg.qr(A)
    expected = Q * R.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]
    torch.testing.assert_close(_soap.cholesky_qr(A), expected, atol=1e3 * torch.finfo(dtype).eps, rtol=0)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weakest", [1e-6, 1e-14])
def test_cholesky_qr_of_almost_singular_matrices(weakest, dtype, device):
    """As those of a step: images of a random basis, of which few eigenvalues say almost everything."""
    torch.manual_seed(0)
    V, B = (torch.linalg.qr(torch.randn(7, 32, 32, dtype=torch.float64))[0] for _ in range(2))
    A = ((V * torch.logspace(0, np.log10(weakest), 32)) @ V.mT @ B).to(dtype)
    Q = _soap.cholesky_qr(A.to(device)).cpu()
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(Q.mT @ Q, torch.eye(32, dtype=dtype).expand(7, 32, 32), atol=1e3 * eps, rtol=0)
    torch.testing.assert_close(Q @ (Q.mT @ A), A, atol=1e2 * eps, rtol=0)
    R = Q.mT @ A
    assert R.tril(-1).abs().max() < 1e2 * eps * A.norm(dim=(-2, -1)).max()


def test_bases_of_soap_do_not_depend_on_the_decomposition(monkeypatch):
    X, Y = problem()
    losses = []
    for decompose in (lambda A: torch.linalg.qr(A)[0], _soap.cholesky_qr):
        monkeypatch.setattr(_soap, "_orthonormal", decompose)
        net = layer()
        losses.append(train(net, SOAP(net.parameters(), lr=3e-2, every=2), X, Y, 100))
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert losses[0] < 0.1 * float(Y.square().sum(1).mean())


@pytest.mark.parametrize("decompose", [lambda A: torch.linalg.qr(A)[0], _soap.cholesky_qr])
def test_bases_stay_where_gradients_are_zero(monkeypatch, decompose):
    monkeypatch.setattr(_soap, "_orthonormal", decompose)
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.ones(2, 3, 3))
    optimizer = SOAP([p], every=1)
    for _ in range(5):
        p.grad = torch.stack([torch.zeros(3, 3), torch.randn(3, 3)])
        optimizer.step()
    assert torch.equal(p[0], torch.ones(3, 3))
    assert p.isfinite().all()
    (basis,) = (state["left"][0].abs() for state in optimizer.state.values())
    torch.testing.assert_close(basis.sort()[0], torch.eye(3).sort()[0])


@pytest.mark.parametrize(("beta", "beta_square"), [(0.95, 0.95), (0.9, 0.999), (0.0, 0.9), (0.9, 0.81), (0.9, 0.5)])
@pytest.mark.parametrize("n_steps", [1, 2, 7, 300])
def test_largest_ratio_is_that_of_the_worst_gradients(beta, beta_square, n_steps):
    ages = np.arange(n_steps)[::-1]
    weights, squares = (1 - beta) * beta**ages, (1 - beta_square) * beta_square**ages

    def ratio(gradients):
        average, square = weights @ gradients / weights.sum(), squares @ gradients**2 / squares.sum()
        return abs(average) / square**0.5

    bound = _soap.largest_ratio(beta, beta_square, n_steps)
    assert ratio(weights / squares) == pytest.approx(bound)  # equality in Cauchy-Schwarz
    assert all(ratio(g) <= bound * (1 + 1e-9) for g in np.random.RandomState(0).standard_normal((50, n_steps)))
    assert beta != beta_square or bound == pytest.approx(1)


def test_steps_of_soap_are_bounded(monkeypatch):
    """Corrections of the bases rotate averages into directions whose mean squares are those of small gradients."""

    def largest_change():
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.zeros(128, 128, dtype=torch.float64))
        optimizer, largest = SOAP([p], lr=1.0), 0.0
        for t in range(61):
            p.grad = 1e-3 * torch.randn(128, 128, dtype=torch.float64)
            if t % 10 == 0:  # just before a correction
                p.grad += torch.outer(*torch.randn(2, 128, dtype=torch.float64))
            (state,) = optimizer.state.values() or [{}]
            bases = {side: state[side] for side in ("left", "right") if side in state}
            before = p.detach().clone()
            optimizer.step()
            largest = max(largest, float(rotate((p.detach() - before)[None], bases).abs().max()))
        return largest

    assert largest_change() <= 1 + 1e-9
    monkeypatch.setattr(_soap, "largest_ratio", lambda *_: np.inf)
    assert largest_change() > 1.4


def test_soap_without_bases_is_adam():
    X, Y = problem()
    nets = [layer(), layer()]
    soap = SOAP(nets[0].parameters(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1, eps=1e-8, max_size=1)
    adam = torch.optim.AdamW(nets[1].parameters(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    train(nets[0], soap, X, Y, 1)  # only looks
    for _ in range(20):
        train(nets[0], soap, X, Y, 1)
        train(nets[1], adam, X, Y, 1)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_soap_is_ahead_of_adam_on_a_linear_equation():
    X, Y = (torch.from_numpy(fields / np.abs(fields).max()) for fields in make_poisson(50, 64, random_state=0))
    losses = {}
    for name, make in (("soap", SOAP), ("adam", torch.optim.AdamW)):
        torch.manual_seed(0)
        net = NeuralHSS(64, 64, dtype=torch.float64)
        optimizer = make([group for group in parameter_groups(net) if not group["slopes"]], lr=1e-2, weight_decay=0)
        for step in range(300):
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 * (1 - step / 300)
            losses[name] = train(net, optimizer, X, Y, 1)
    assert losses["soap"] < 0.1 * losses["adam"]


def test_grouping_does_not_matter():
    X, Y = problem()
    nets = [layer(), layer()]
    together = SOAP(nets[0].parameters(), lr=1e-2)
    apart = SOAP([{"params": [p]} for p in nets[1].parameters()], lr=1e-2)
    for net, optimizer in zip(nets, (together, apart), strict=True):
        train(net, optimizer, X, Y, 25)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_state_of_soap_can_be_saved():
    X, Y = problem()
    net = layer()
    optimizer = SOAP(net.parameters(), lr=1e-2)
    train(net, optimizer, X, Y, 15)
    twin, state = copy.deepcopy(net), copy.deepcopy(optimizer.state_dict())
    other = SOAP(twin.parameters(), lr=1.0)
    other.load_state_dict(state)
    train(net, optimizer, X, Y, 15)
    train(twin, other, X, Y, 15)
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_soap_takes_convolutions_and_missing_gradients():
    torch.manual_seed(0)
    net = ResNet((16,), width=4, depth=1)
    unused = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = SOAP([*parameter_groups(net), {"params": [unused]}], lr=1e-2)
    X, Y = problem(dtype=torch.float32)
    first = train(net, optimizer, X, Y, 1)
    assert train(net, optimizer, X, Y, 60) < 0.5 * first
    assert torch.equal(unused, torch.ones(3, 3))


@pytest.mark.parametrize(
    ("name", "value"), [("lr", -1), ("betas", (0.9, 1.0)), ("eps", -1.0), ("weight_decay", -1), ("every", 0)]
)
def test_soap_refuses(name, value):
    with pytest.raises(ValueError, match=f"{name}="):
        SOAP([torch.nn.Parameter(torch.ones(2, 2))], **{name: value})


# Levenberg-Marquardt


def dense_jacobian(net, X):
    names = [name for name, _ in net.named_parameters()]
    values = tuple(p.detach() for p in net.parameters())

    def f(*tensors):
        return torch.func.functional_call(net, dict(zip(names, tensors, strict=True)), (X,)).flatten()

    parts = torch.autograd.functional.jacobian(f, values)
    return torch.cat([J.reshape(J.shape[0], -1) for J in parts], 1)


def test_a_step_solves_the_damped_equations():
    X, Y = problem(n=8, n_samples=12)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(8, 5, dtype=X.dtype), torch.nn.Tanh(), torch.nn.Linear(5, 8, dtype=X.dtype)
    )
    J = dense_jacobian(net, X)
    before = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
    r = (net(X) - Y).detach().flatten()
    optimizer = LevenbergMarquardt(net.parameters(), max_iter=500, tol=1e-7, n_probes=2)
    optimizer.step(lambda: net(X) - Y)
    step = torch.nn.utils.parameters_to_vector(net.parameters()).detach() - before
    # The damping is in units of the mean diagonal, which probes estimate: it is what makes the step's equations hold.
    g, A = J.T @ r, J.T @ J
    residual = -(A @ step + g)
    damping = float(residual @ step / (step @ step))
    assert 0.2 < damping / (0.1 * float(A.diagonal().mean())) < 5
    exact = torch.linalg.solve(A + damping * torch.eye(len(g)), -g)
    assert float((step - exact).norm() / exact.norm()) < 1e-4


def test_converges_where_adam_does_not():
    X, Y = problem(n=32, n_samples=60)
    net = layer(32)
    optimizer = LevenbergMarquardt(net.parameters())
    for _ in range(40):
        loss = optimizer.step(lambda: net(X) - Y)
    assert float(loss) < 1e-8 * float(Y.square().sum())


def test_a_step_never_makes_the_sum_larger():
    X, Y = problem()
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Linear(16, 8, dtype=X.dtype), torch.nn.Tanh(), torch.nn.Linear(8, 16, dtype=X.dtype)
    )
    optimizer = LevenbergMarquardt(net.parameters(), damping=1e-12)
    losses = [float(optimizer.step(lambda: net(X) - 10 * Y.abs())) for _ in range(30)]
    assert losses == sorted(losses, reverse=True)


def test_nothing_left_is_no_error():
    X, _ = problem()
    net = layer()
    target = net(X).detach()
    optimizer = LevenbergMarquardt(net.parameters())
    for _ in range(3):
        assert float(optimizer.step(lambda: net(X) - target)) == 0
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_levenberg_marquardt_refuses_float32():
    with pytest.raises(ValueError, match="float64"):
        LevenbergMarquardt(layer(dtype=torch.float32).parameters())
