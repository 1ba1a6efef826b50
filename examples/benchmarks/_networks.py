"""Baselines in plain torch for the benchmarks, and a loop that trains anything for given epochs or seconds.

All networks map fields of shape (batch, *grid) to such fields.
"""

import math
import time
from itertools import cycle, islice

import torch
from torch import nn
from torch.nn.functional import gelu


class SpectralConv(nn.Module):
    """Convolution by a product of the lowest Fourier modes, both signs on all axes but the last (Li et al., 2021)."""

    def __init__(self, n_axes, width, modes):
        super().__init__()
        self.modes = modes
        kept = [2 * modes] * (n_axes - 1) + [modes]
        # Real pairs, so that counting parameters counts numbers.
        self.weight = nn.Parameter(torch.rand(width, width, *kept, 2) / width**2)

    def forward(self, x):
        axes = tuple(range(2, x.ndim))
        spectrum = torch.fft.rfftn(x, dim=axes)
        ends = torch.cat([torch.arange(self.modes), torch.arange(-self.modes, 0)])
        kept = torch.meshgrid(*[ends] * (len(axes) - 1), torch.arange(self.modes), indexing="ij")
        kept = (slice(None), slice(None), *kept)
        product = torch.zeros_like(spectrum)
        product[kept] = torch.einsum("bi...,io...->bo...", spectrum[kept], torch.view_as_complex(self.weight))
        return torch.fft.irfftn(product, s=x.shape[2:], dim=axes)


class FNO(nn.Module):
    """Fourier neural operator with coordinates as further inputs.

    Width 32, 12 modes, 4 layers in 1-D: 102,657 numbers; width 16, 8 modes, 4 layers in 2-D: 263,313, or 132,241 if a
    complex number counts once, as it does in the paper's 132K.
    """

    def __init__(self, n_axes, width=None, modes=None, depth=4):
        super().__init__()
        width, modes = width or (32 if n_axes == 1 else 16), modes or (12 if n_axes == 1 else 8)
        conv = (nn.Conv1d, nn.Conv2d)[n_axes - 1]
        self.lift, self.project = conv(1 + n_axes, width, 1), conv(width, 1, 1)
        self.spectral = nn.ModuleList(SpectralConv(n_axes, width, modes) for _ in range(depth))
        self.pointwise = nn.ModuleList(conv(width, width, 1) for _ in range(depth))

    def forward(self, x):
        places = torch.meshgrid(*(torch.linspace(0, 1, n) for n in x.shape[1:]), indexing="ij")
        x = self.lift(torch.stack([x, *(place.to(x).expand_as(x) for place in places)], dim=1))
        for i, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            x = spectral(x) + pointwise(x)
            if i < len(self.spectral) - 1:
                x = gelu(x)
        return self.project(x)[:, 0]


class ResNet(nn.Module):
    """Residual blocks of two convolutions of three points per axis; ``dilations=(1, 2, 4, 8)`` makes it a dilated one.

    Width 48, 12 blocks in 1-D: 167,185 parameters.
    """

    def __init__(self, n_axes, width=48, depth=12, dilations=(1,), padding_mode="zeros"):
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d)[n_axes - 1]
        self.lift, self.project = conv(1, width, 1), conv(width, 1, 1)

        def layer(dilation):
            return conv(width, width, 3, padding=dilation, dilation=dilation, padding_mode=padding_mode)

        self.blocks = nn.ModuleList(
            nn.Sequential(layer(dilation), nn.GELU(), layer(dilation)) for dilation in islice(cycle(dilations), depth)
        )

    def forward(self, x):
        x = self.lift(x[:, None])
        for block in self.blocks:
            x = x + block(x)
        return self.project(gelu(x))[:, 0]


class DeepONet(nn.Module):
    """Inner products of a branch network of the whole input and a trunk network of the place, on the input's grid.

    Width 192, depth 4 on 256 points: 272,065 parameters.
    """

    def __init__(self, grid, width=192, depth=4):
        super().__init__()

        def dense(size):
            layers = [nn.Linear(size, width)]
            for _ in range(depth - 1):
                layers += [nn.GELU(), nn.Linear(width, width)]
            return nn.Sequential(*layers)

        self.branch, self.trunk = dense(math.prod(grid)), dense(len(grid))
        self.bias = nn.Parameter(torch.zeros(()))
        axes = torch.meshgrid(*(torch.linspace(0, 1, n) for n in grid), indexing="ij")
        self.register_buffer("places", torch.stack(axes, dim=-1).reshape(-1, len(grid)))

    def forward(self, x):
        return (self.branch(x.flatten(1)) @ self.trunk(self.places).T + self.bias).reshape(x.shape)


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
