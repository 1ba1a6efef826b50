"""Losses of fields, as sums of squares of residuals if possible."""

import torch

#: Names of the losses of :func:`residuals`.
LOSSES = ("l2", "relative_l2", "h1")


def residuals(loss, prediction, target, n_modes, inside=None):
    """Residuals of a loss, which is the sum of their squares.

    Parameters
    ----------
    loss : {"l2", "relative_l2", "h1"}
        The error; the error divided by the norm of the target if that is not zero; or the error and its differences
        along every dimension of the grid, times the number of points there, as gradients on the unit box.
    prediction, target : Tensor of shape (n_samples, [n_channels,] *grid)
        Fields.
    n_modes : int
        Number of dimensions of the grid.
    inside : Tensor, default=None
        One inside the domain, zero elsewhere, of shape (1, [n_channels,] *grid). Differences are included if both
        points are inside.

    Returns
    -------
    Tensor of shape (n_samples, n_residuals)
    """
    error = prediction - target
    if inside is not None:
        error = error * inside
    if loss == "h1":
        parts = [error.flatten(1)]
        for axis in range(error.ndim - n_modes, error.ndim):
            difference = error.diff(dim=axis) * error.shape[axis]
            if inside is not None:
                n = inside.shape[axis]
                difference = difference * inside.narrow(axis, 1, n - 1) * inside.narrow(axis, 0, n - 1)
            parts.append(difference.flatten(1))
        return torch.cat(parts, dim=1)
    error = error.flatten(1)
    if loss == "relative_l2":
        norms = (target if inside is None else target * inside).flatten(1).norm(dim=1, keepdim=True)
        error = error / torch.where(norms > 0, norms, 1)
    return error


def sample_losses(loss, prediction, target, n_modes, inside=None):
    """Loss of every sample.

    Parameters
    ----------
    loss : str or callable
        One of :func:`residuals`, or a function of predictions and targets, both zero outside the domain, that returns a
        value per sample or per point. The latter are summed.
    prediction, target, n_modes, inside
        As for :func:`residuals`.

    Returns
    -------
    Tensor of shape (n_samples,)

    Raises
    ------
    ValueError
        If a callable returns values of another shape.
    """
    if not callable(loss):
        return residuals(loss, prediction, target, n_modes, inside).square().sum(1)
    if inside is not None:
        prediction, target = prediction * inside, target * inside
    values = loss(prediction, target)
    if not isinstance(values, torch.Tensor) or values.ndim == 0 or len(values) != len(prediction):
        shape = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
        raise ValueError(
            f"loss returned {shape}; a callable must return a tensor with one value for each of the {len(prediction)} "
            "samples, or one for each point, which are summed."
        )
    return values.flatten(1).sum(1) if values.ndim > 1 else values
