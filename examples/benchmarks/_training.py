"""A loop that trains any network for given epochs or seconds, and the size of the paper's FNO."""

import math
import time

import torch
from torch import nn

#: By the number of dimensions.
PAPER_FNO = {
    1: {"width": 32, "modes": 12, "depth": 4},
    2: {"width": 16, "modes": 8, "depth": 4},
    3: {"width": 14, "modes": 8, "depth": 2},
}


class Scaled(nn.Module):
    """A network whose inputs are divided, and outputs multiplied, by fixed numbers."""

    def __init__(self, net, x_scale, y_scale):
        super().__init__()
        self.net, self.x_scale, self.y_scale = net, float(x_scale), float(y_scale)

    def forward(self, x):
        return self.y_scale * self.net(x / self.x_scale)


def train(net, X, Y, *, epochs=None, seconds=None, lr=1e-3, weight_decay=1e-3, batch_size=32, seed=0):
    """Train with AdamW on the mean square error and a learning rate that falls by a cosine to a hundredth.

    Parameters
    ----------
    net : Module
        Its random start is the caller's.
    X, Y : array-likes of shape (n_samples, *grid)
        Divided by their largest magnitudes.
    epochs, seconds : number
        The budget, one of them. Seconds of CPU time: others on the machine do not count.
    lr, weight_decay, batch_size, seed
        The seed is that of the order of the samples.

    Returns
    -------
    Module
        The network in the units of X and Y, and how many steps it was trained for as `n_steps`.
    """
    if (epochs is None) == (seconds is None):
        raise ValueError(f"epochs={epochs} and seconds={seconds}: pass exactly one of them.")
    X, Y = (torch.as_tensor(fields, dtype=torch.float32) for fields in (X, Y))
    scaled = Scaled(net, X.abs().max(), Y.abs().max())
    X, Y = X / scaled.x_scale, Y / scaled.y_scale
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=weight_decay, betas=(0.9, 0.99), fused=True)
    order = torch.Generator().manual_seed(seed)
    batches, step, start = [], 0, time.process_time()
    while True:
        elapsed = time.process_time() - start
        fraction = elapsed / seconds if epochs is None else step * batch_size / (epochs * len(X))
        if fraction >= 1:
            scaled.n_steps = step
            return scaled.eval()
        if not batches:
            batches = list(torch.randperm(len(X), generator=order).split(batch_size))
        rows = batches.pop()
        for group in optimizer.param_groups:
            group["lr"] = lr * (0.01 + 0.99 * (1 + math.cos(math.pi * fraction)) / 2)
        loss = torch.mean((net(X[rows]) - Y[rows]) ** 2)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
