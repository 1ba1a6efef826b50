"""Green Learning: an integral operator whose kernel is a neural network."""

from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ._field_network import FieldNetwork, places
from ._rational import Rational


def rational_network(n_in, width, depth, **factory):
    """Network from R^n_in to R: `depth` dense layers of `width` units with rational activations, and a linear layer."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(width if i else n_in, width, **factory), Rational(**factory)]
    layers.append(nn.Linear(width, 1, **factory))
    for layer in layers:
        # He initialisation, as for the ReLU that the activations initially approximate: with torch's default, the
        # coordinates decay from layer to layer, and the network is initially almost constant.
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class GreenLearning(FieldNetwork):
    """Green's function as a rational network: u(x_i) = sum_j w_j G(x_i, y_j) f(y_j) + u_hom(x_i).

    G is a network of the coordinates x and y, u_hom (the homogeneous solution) a network of x. They have `depth` layers
    of `width` units with rational activations, and a linear layer. The points are x_j = j / n in every dimension, all
    with the quadrature weight 1 / n, which is the trapezoidal rule if G f is zero on the boundary or periodic. The
    kernel network has 83,115 parameters in one dimension with the default width and depth (the paper's 83K), the
    network of u_hom 82,987.

    A training step evaluates the kernel once for all its samples; prediction evaluates it once for all samples until
    the weights change. Each evaluation is one pass of a network over n_out n_in pairs of points: 65,536 on a grid of
    256 points, 17 million on a grid of 64 x 64, for which a training step takes minutes on one core, independently of
    the batch size. More than `chunk_size` pairs are processed in chunks whose hidden values are recomputed in the
    backward pass. Memory is then required for the kernel matrix, its gradient, and the hidden values of one chunk.

    Parameters
    ----------
    in_features : int or tuple of int
        Grid of the inputs, of one or two dimensions.
    out_features : int or tuple of int, default=None
        Grid of the outputs; that of the inputs if None.
    width : int, default=128
        Number of units per layer.
    depth : int, default=6
        Number of layers with activation.
    homogeneous : bool, default=True
        Whether to include the term u_hom. Without it, f = 0 gives u = 0.
    chunk_size : int, default=None
        Number of pairs of points at which G is evaluated at a time, at least one row of the kernel matrix. None is
        4,096 on CPUs, in view of their caches, and 65,536 elsewhere (about 1 GiB in training).
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Raises
    ------
    ValueError
        For grids of more than two dimensions.

    References
    ----------
    Boullé, Earls, Townsend, Data-driven discovery of Green's functions with human-understandable deep learning,
    Scientific Reports 12, 2022. Boullé, Halikias, Townsend, Elliptic PDE learning is provably data-efficient, PNAS 120,
    2023.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import GreenLearning
    >>> GreenLearning((8, 9), width=16, depth=2)(torch.ones(5, 8, 9)).shape
    torch.Size([5, 8, 9])
    """

    def __init__(
        self,
        in_features: int | tuple[int, ...],
        out_features: int | tuple[int, ...] | None = None,
        width: int = 128,
        depth: int = 6,
        homogeneous: bool = True,
        chunk_size: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features)
        for name, grid in (("in_features", self.grid_in), ("out_features", self.grid_out)):
            if len(grid) > 2:
                raise ValueError(
                    f"{name}={grid} has {len(grid)} dimensions; GreenLearning supports grids of one or two, such as "
                    "(64, 64)."
                )
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.chunk_size = chunk_size
        self.G = rational_network(len(self.grid_out) + len(self.grid_in), width, depth, **factory)
        self.u_hom = rational_network(len(self.grid_out), width, depth, **factory) if homogeneous else None
        self.x: torch.Tensor
        self.y: torch.Tensor
        for name, grid in (("x", self.grid_out), ("y", self.grid_in)):
            self.register_buffer(name, places(grid, **factory).flatten(1).T.contiguous(), persistent=False)

    def kernel(self) -> torch.Tensor:
        """Evaluate G on all pairs of points.

        Returns
        -------
        Tensor of shape (n_out, n_in)
            Values G(x_i, y_j), one row per output point, one column per input point; without the quadrature weights.
        """
        chunk_size = self.chunk_size or (4096 if self.x.device.type == "cpu" else 65536)
        chunks = self.x.split(max(1, chunk_size // len(self.y)))
        if len(chunks) == 1 or not torch.is_grad_enabled():
            return torch.cat([self._rows(chunk) for chunk in chunks])
        return torch.cat(
            [checkpoint(self._rows, chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
        )

    def homogeneous_solution(self) -> torch.Tensor:
        """Evaluate u_hom on the grid.

        Returns
        -------
        Tensor of shape (n_out,)
            Values u_hom(x_i); zeros if there is no such term.
        """
        return self.x.new_zeros(len(self.x)) if self.u_hom is None else self.u_hom(self.x)[:, 0]

    def _rows(self, x):
        """Rows of the kernel matrix at the points `x`."""
        pairs = torch.cat([x.repeat_interleave(len(self.y), 0), self.y.repeat(len(x), 1)], dim=1)
        return self.G(pairs).view(len(x), len(self.y))

    def discretised(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluate G and u_hom on the grid; without gradients, only once as long as the weights do not change.

        Returns
        -------
        kernel : Tensor of shape (n_out, n_in)
            As in :meth:`kernel`.
        homogeneous_solution : Tensor of shape (n_out,)
            As in :meth:`homogeneous_solution`.
        """
        return self._kept(self, lambda: (self.kernel(), self.homogeneous_solution()))

    def _body(self, f):
        kernel, homogeneous = self.discretised()
        return torch.addmm(homogeneous, f.flatten(1), kernel.T, alpha=1 / prod(self.grid_in))
