"""Time of a training step of every neural regressor over that of a bare torch loop: ``python bench_training.py``.

1. Both train the same network on the same data, with fused AdamW, gradient clipping and a cosine schedule, in float32
   on one thread. `fit` additionally validates and scales the data, shuffles from its own random state, guards against
   divergence and keeps a history.
2. A step of our FNO over one of neuraloperator's with as many layers, channels and modes. It needs that package:
   ``pip install 'sklearn-hss[compare]'``.
"""

import copy
import importlib.util
from functools import partial

import torch
from _timing import interleaved_medians
from _training import PAPER_FNO

from sklearn_hss import (
    DeepONetRegressor,
    FactFormerRegressor,
    FNORegressor,
    GreenLearningRegressor,
    NeuralHSSRegressor,
    ResNetRegressor,
)
from sklearn_hss.datasets import make_poisson
from sklearn_hss.nn import FNO

FITS = [  # estimator, with the paper's settings, grid, samples, batch size, epochs, and the ratio to reach
    (NeuralHSSRegressor(rank=2, levels=3, init="random"), 256, 1000, 256, 50, 1.10),
    (FNORegressor(), 256, 256, 64, 5, 1.15),
    (ResNetRegressor(), 256, 256, 64, 2, 1.15),
    (DeepONetRegressor(), 256, 1000, 256, 50, 1.15),
    (GreenLearningRegressor(), 64, 1000, 256, 3, 1.15),
    (FactFormerRegressor(), (16, 16), 64, 16, 2, 1.15),
]
STEPS = [  # grid, batch size
    ((256,), 64),
    ((64, 64), 16),
    ((32, 32, 32), 4),
]


def bare_loop(net, F, U, n_epochs, batch_size, device="cpu", optimizer=None):
    """The loop that one would write by hand, with fused AdamW or another optimiser, and the data on the device."""
    F, U = (torch.from_numpy(fields / abs(fields).max()).to(device) for fields in (F, U))
    parameters = list(net.parameters())
    if optimizer is None:
        optimizer = partial(torch.optim.AdamW, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    optimizer = optimizer(parameters, lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_epochs, eta_min=1e-5)
    for _ in range(n_epochs):
        for rows in torch.randperm(len(F), device=device).split(batch_size):
            optimizer.zero_grad()
            loss = (net(F[rows]) - U[rows]).square().flatten(1).sum(1).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        schedule.step()


def fits():
    print(f"{'estimator':>23} {'grid':>6} {'batch':>6} | {'bare loop':>12} {'fit':>12} {'ratio':>6}  to reach")
    for estimator, grid, n_samples, batch_size, n_epochs, goal in FITS:
        F, U = (array.astype("float32") for array in make_poisson(n_samples, grid, forcing="gaussian", random_state=0))
        estimator.set_params(settings="paper", max_epochs=n_epochs, batch_size=batch_size, random_state=0)
        net = copy.deepcopy(estimator.fit(F, U).net_.module_)
        seconds = interleaved_medians(
            {
                "bare": partial(bare_loop, net, F, U, n_epochs, batch_size),
                "fit": partial(estimator.fit, F, U),
            },
            rounds=5,
            calls=2,
        )
        n_steps = n_epochs * -(-n_samples // batch_size)
        bare, fit = (seconds[name] / n_steps * 1e3 for name in ("bare", "fit"))
        size = "x".join(map(str, F.shape[1:]))
        print(
            f"{type(estimator).__name__:>23} {size:>6} {batch_size:>6} | "
            f"{bare:>9.2f} ms {fit:>9.2f} ms {fit / bare:>6.3f}  {goal:.2f}",
            flush=True,
        )


def step(net, x):
    """A function that makes one training step."""
    optimizer = torch.optim.AdamW(net.parameters())

    def call():
        optimizer.zero_grad()
        (net(x) - x).square().mean().backward()
        optimizer.step()

    return call


def fno_steps():
    if importlib.util.find_spec("neuralop") is None:
        print("\nneuraloperator is not installed: no comparison with its FNO")
        return
    from neuralop.models import FNO as TheirFNO

    print(f"\n{'grid':>9} {'batch':>6} | {'FNO':>12} {'neuraloperator':>15} {'ratio':>6}  to reach")
    for grid, batch_size in STEPS:
        size = PAPER_FNO[len(grid)]
        modes = size["modes"]
        theirs = TheirFNO(
            # Of the last dimension, they keep half of the modes that they are given, and one.
            n_modes=(*[2 * modes] * (len(grid) - 1), 2 * (modes - 1)),
            in_channels=1,
            out_channels=1,
            hidden_channels=size["width"],
            n_layers=size["depth"],
            # The fewest that it allows of what ours does not have: a wider lifting, a projection of two layers.
            lifting_channel_ratio=0,
            projection_channel_ratio=1,
            use_channel_mlp=False,
            fno_skip="linear",
        )
        ours = FNO(grid, in_channels=1, out_channels=1, **size)
        x = torch.randn(batch_size, 1, *grid)
        seconds = interleaved_medians({"ours": step(ours, x), "theirs": step(theirs, x)}, rounds=10, calls=2)
        print(
            f"{'x'.join(map(str, grid)):>9} {batch_size:>6} | {seconds['ours'] * 1e3:>9.1f} ms "
            f"{seconds['theirs'] * 1e3:>12.1f} ms {seconds['ours'] / seconds['theirs']:>6.3f}  1.00",
            flush=True,
        )


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, 1 thread")
    fits()
    fno_steps()


if __name__ == "__main__":
    main()
