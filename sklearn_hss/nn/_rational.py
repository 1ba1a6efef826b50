"""Rational activation functions."""

import torch
from torch import nn

# The best approximation of ReLU on [-1, 1], from the lowest power on; the denominator is 1 + 2.383 x².
_NUMERATOR = (0.0218, 0.5, 1.5957, 1.1915)
_LEADING = 2.383
# Lower bound on the denominator.
_FLOOR = 0.1


class Rational(nn.Module):
    """Rational activation of type (3, 2) with learnable coefficients, one set for the whole layer.

    y = (a_0 + a_1 x + a_2 x² + a_3 x³) / (0.1 + b_0² + (b_1 + b_2 x)²) is initially the best approximation of ReLU on
    [-1, 1], with error 0.022. As a sum of squares, the denominator has no zero for any coefficients, so training
    encounters no poles. This is no restriction: every quadratic polynomial without real zeros has this form after
    numerator and denominator are multiplied by a common factor.

    Parameters
    ----------
    device : torch.device or str, default=None
        Device of the parameters; torch's default device if None.
    dtype : torch.dtype, default=None
        Type of the parameters; torch's default type if None.

    References
    ----------
    Boullé, Nakatsukasa, Townsend, Rational neural networks, NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import Rational
    >>> Rational()(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.0219,  0.0218,  0.9781], grad_fn=<DivBackward0>)
    """

    def __init__(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        denominator = ((1 - _FLOOR) ** 0.5, 0.0, _LEADING**0.5)
        self.numerator = nn.Parameter(torch.tensor(_NUMERATOR, device=device, dtype=dtype))
        self.denominator = nn.Parameter(torch.tensor(denominator, device=device, dtype=dtype))

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
        a, b = self.numerator, self.denominator
        return (((a[3] * x + a[2]) * x + a[1]) * x + a[0]) / ((b[2] * x + b[1]).square() + (b[0].square() + _FLOOR))
