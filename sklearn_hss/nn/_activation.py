"""Activations of the paper."""

import torch
from torch import nn


class TrainableLeakyReLU(nn.Module):
    """LeakyReLU with a learnable slope: y = max(x, 0) + alpha min(x, 0) (section 2.1 of the Neural-HSS paper).

    There is one slope for the whole layer. At alpha = 1, the activation is the identity, which suits linear PDEs.

    Parameters
    ----------
    initial_slope : float, default=1.0
        Value of alpha before training.
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import TrainableLeakyReLU
    >>> TrainableLeakyReLU(0.5)(torch.tensor([-2.0, 3.0])).tolist()
    [-1.0, 3.0]
    """

    def __init__(
        self,
        initial_slope: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.initial_slope = initial_slope
        self.slope = nn.Parameter(torch.tensor(float(initial_slope), device=device, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the activation entrywise.

        Parameters
        ----------
        x : Tensor of any shape
            Values before the activation.

        Returns
        -------
        Tensor of the same shape
            Values after it.
        """
        # x where it is positive, x + (1 - alpha) (0 - x) elsewhere; on CPUs faster than torch's prelu.
        return torch.lerp(x, torch.relu(x), 1 - self.slope)

    def extra_repr(self) -> str:
        """Return the settings that ``repr`` shows."""
        return f"initial_slope={self.initial_slope}"
