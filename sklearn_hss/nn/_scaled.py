"""A network together with the units of its fields."""

from math import prod

import torch
from torch import nn


class ScaledNetwork(nn.Module):
    """A network between fields in the units of the data, which includes the scales and masks of an estimator.

    Parameters
    ----------
    network : Module
        Maps scaled fields (n_samples, \\*inputs.shape) to scaled fields (n_samples, \\*outputs.shape).
    inputs, outputs : FieldShape
        Grids and channels.
    target_shape : tuple of int
        Shape of one output for the user, with ``outputs.size`` values.
    x_offset, y_offset : ndarray of shape (n_channels, n_points) or (1, 1)
    x_scale, y_scale : ndarray of shape (n_channels,)
        A scaled field is ``(field - offset) / scale``.
    inside : pair of ndarrays of bool and shape (n_values,), or None
        Values of a flat input and of a flat output inside the domain; None if all are. Inputs outside are treated as
        zero, and outputs are zero there.
    blank : ndarray of bool and shape (n_outputs,), default=None
        Outputs that are NaN.

    Raises
    ------
    ValueError
        If the range of the type of the network is too short for the scales.
    """

    x_offset: torch.Tensor
    x_scale: torch.Tensor
    y_offset: torch.Tensor
    y_scale: torch.Tensor
    inside_x: torch.Tensor | None
    inside_y: torch.Tensor | None
    blank: torch.Tensor | None

    def __init__(
        self, network, inputs, outputs, target_shape, *, x_offset, x_scale, y_offset, y_scale, inside, blank=None
    ):
        super().__init__()
        self.network = network
        self.in_shape, self.out_shape, self.target_shape = inputs.shape, outputs.shape, tuple(target_shape)
        # As in `predict` of an estimator, a single channel may be given with or without its axis.
        self.taken = {inputs.shape, (inputs.size,), *([inputs.grid] if inputs.n_channels == 1 else [])}
        numbers = next(network.parameters())
        for name, values in {
            "x_offset": x_offset,
            "x_scale": x_scale[:, None],
            "y_offset": y_offset,
            "y_scale": y_scale[:, None],
        }.items():
            cast = torch.as_tensor(values).to(numbers)
            if not torch.isfinite(cast).all() or (name.endswith("scale") and not cast.all()):
                raise ValueError(
                    f"dtype={str(numbers.dtype).removeprefix('torch.')!r} has too short a range for the fields, of "
                    f"which {name} has values up to {abs(values).max():.1e}; use dtype='float64'."
                )
            self.register_buffer(name, cast)
        channels = (len(x_scale), len(y_scale), len(y_scale))
        masks = {"inside_x": inside[0], "inside_y": inside[1], "blank": blank}
        for n_channels, (name, mask) in zip(channels, masks.items(), strict=True):
            tensor = None if mask is None else torch.tensor(mask.reshape(n_channels, -1), device=numbers.device)
            self.register_buffer(name, tensor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map fields in the units of the training data.

        Parameters
        ----------
        x : Tensor of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Input fields, in the type of the module.

        Returns
        -------
        Tensor of shape (n_samples, ...)
            Outputs, in the shape of the training targets.

        Raises
        ------
        ValueError
            For fields of another shape.
        """
        if tuple(x.shape[1:]) not in self.taken:
            raise ValueError(
                f"x has fields of shape {tuple(x.shape[1:])}, but the training was on fields of shape {self.in_shape}."
            )
        x = x.reshape(x.shape[0], len(self.x_scale), -1)  # len() would fix the number in an export
        if self.inside_x is not None:
            x = torch.where(self.inside_x, x, 0)
        y = self.network(((x - self.x_offset) / self.x_scale).reshape(-1, *self.in_shape))
        y = y.reshape(-1, len(self.y_scale), prod(self.out_shape) // len(self.y_scale)) * self.y_scale + self.y_offset
        if self.inside_y is not None:
            y = torch.where(self.inside_y, y, 0)
        if self.blank is not None:
            y = torch.where(self.blank, torch.nan, y)
        return y.reshape(-1, *self.target_shape)
