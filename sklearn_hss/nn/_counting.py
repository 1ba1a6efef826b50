"""Number of learnable parameters."""

from torch import nn

from ._hss_parameters import HSSParameters


def count_parameters(module: nn.Module) -> int:
    """Number of learnable real numbers of a module.

    Complex weights count twice; entries that only pad the smaller leaves of an HSS layer are excluded.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    int
    """
    stored = sum(p.numel() * (2 if p.is_complex() else 1) for p in module.parameters() if p.requires_grad)
    return stored - sum(layer.n_padding for layer in module.modules() if isinstance(layer, HSSParameters))
