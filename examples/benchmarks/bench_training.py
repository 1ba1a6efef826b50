"""Time of a training step in ``NeuralHSSRegressor.fit`` over that of a bare torch loop: ``python bench_training.py``.

Both train the same network (n = 256, levels 3, rank 2, depth 3) on 1,000 samples of 1-D Poisson data in batches of 256,
with fused AdamW, gradient clipping and a cosine schedule, in float32 on one thread. `fit` additionally validates and
scales the data, shuffles from its own random state, guards against divergence and keeps a history.
"""

import torch
from _timing import interleaved_medians

from sklearn_hss import NeuralHSSRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.nn import NeuralHSS

N_EPOCHS, BATCH_SIZE = 50, 256


def bare_loop(F, U):
    """The loop that one would write by hand."""
    F, U = torch.from_numpy(F / abs(F).max()), torch.from_numpy(U / abs(U).max())
    net = NeuralHSS(256, 256, depth=3, rank=2, levels=3)
    parameters = list(net.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_EPOCHS, eta_min=1e-5)
    for _ in range(N_EPOCHS):
        for rows in torch.randperm(len(F)).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = (net(F[rows]) - U[rows]).square().sum(1).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        schedule.step()


def main():
    torch.set_num_threads(1)
    F, U = (array.astype("float32") for array in make_poisson(n_samples=1000, random_state=0))
    settings = {"max_epochs": N_EPOCHS, "batch_size": BATCH_SIZE, "init": "random", "random_state": 0}
    regressor = NeuralHSSRegressor(rank=2, levels=3, **settings)
    seconds = interleaved_medians(
        {"bare loop": lambda: bare_loop(F, U), "fit": lambda: regressor.fit(F, U)}, rounds=10, calls=2
    )
    steps = N_EPOCHS * -(-len(F) // BATCH_SIZE)
    for name, value in seconds.items():
        print(f"{name:>10}: {value / steps * 1e3:.3f} ms per step")
    print(f"{'ratio':>10}: {seconds['fit'] / seconds['bare loop']:.3f}  (to reach: 1.10)")


if __name__ == "__main__":
    main()
