"""Why no linear map fits: the likeliest cause, by tests that tell offset, scarcity, noise and nonlinearity apart."""

import math

import torch

# Singular values of the inputs below this fraction of the largest count as zero.
_DEPENDENT = 1e-8
# A part of the outputs that is smaller than this fraction of them is explained.
_EXPLAINED = 1e-3
# Mean square of the differences of neighbours, in units of twice the mean square: 1 for white noise.
_ROUGH = 0.4
# Residuals, or combinations of samples, that a test needs at least.
_ENOUGH = 3


def likeliest_cause(X, Y, grid, ones, centred):
    """One sentence on why the samples are not explained.

    Combinations of samples whose inputs cancel have outputs that cancel, too, if the map is linear; what these leave is
    a multiple of the sum of the weights where there is an offset, rough where there is noise, and smooth where the map
    is not linear. Where no inputs cancel, the same is tried on a local law, f at a point as a combination of u and its
    differences there, which has few unknowns.

    Parameters
    ----------
    X, Y : Tensors of shape (n_columns, n_samples) and (n_rows, n_samples)
        Samples in columns.
    grid : tuple of int
        Of the outputs.
    ones : Tensor of shape (n_samples,)
        Weights of the samples, which a constant has been multiplied with, too.
    centred : bool
        Whether the samples are about their means.

    Returns
    -------
    str
    """
    n_samples = X.shape[1]
    few = f"Likeliest cause: too few samples ({n_samples} of fields of {len(X)} points); give more."
    for unexplained, constant, size in residuals(X, Y, grid, ones):
        if unexplained.shape[1] < _ENOUGH:
            continue
        if float(unexplained.norm()) <= _EXPLAINED * size:
            return few
        along = (unexplained * constant).sum(-1).square() / constant.square().sum(-1).clamp_min(1e-16)
        if not centred and float(along.sum()) > 0.9 * float(unexplained.square().sum()):
            return "Likeliest cause: an offset, u = A f + c; set fit_intercept=True or subtract the solution for f = 0."
        left = float(unexplained.norm()) / size
        if roughness(unexplained, grid) > _ROUGH and not powers_help(X, Y, grid):
            return (
                f"Likeliest cause: noise, as what no linear map explains ({left:.1%}) is rough; more samples may help. "
                "Inputs and outputs that do not belong together look the same."
            )
        return (
            f"Likeliest cause: nonlinearity, as what no linear map explains ({left:.1%}) is smooth or has to do with "
            "powers of u; a network, such as NeuralHSSRegressor, may help."
        )
    return few


def residuals(X, Y, grid, ones):
    """What is left of outputs whose inputs cancel, then of a local law.

    Yields
    ------
    unexplained : Tensor of shape (n_points, n_combinations)
    constant : Tensor of shape (n_combinations,) or (n_points, n_combinations)
        A constant in the same combinations.
    size : float
        Norm that it would have, if nothing were explained.
    """
    _, s, V = torch.linalg.svd(X, full_matrices=X.shape[1] > X.shape[0])
    rank = int((s > _DEPENDENT * s[:1]).sum())
    cancelling = V[rank:].mT
    n_left = cancelling.shape[1]
    yield Y @ cancelling, ones @ cancelling, float(Y.norm()) * (n_left / X.shape[1]) ** 0.5
    cancelling = local_combinations(local_features(Y, grid))
    if len(X) == len(Y) and cancelling is not None:
        n_left, left = cancelling.shape[-1], (X.unsqueeze(1) @ cancelling).squeeze(1)
        yield left, ones @ cancelling, float(X.norm()) * (n_left / X.shape[1]) ** 0.5


def powers_help(X, Y, grid):
    """Whether a local law with squares or cubes of u in it leaves much less than one without."""
    if len(X) != len(Y):
        return False

    def left(*powers):
        """Mean square of the residuals, given as many unknowns."""
        scale = float(Y.abs().max()) or 1.0
        features = torch.cat([local_features((Y / scale) ** power, grid) for power in powers], dim=1)
        cancelling = local_combinations(features)
        if cancelling is None:
            return math.inf
        return float((X.unsqueeze(1) @ cancelling).square().sum()) / cancelling.shape[-1]

    return min(left(1, 2), left(1, 3)) < 0.5 * left(1)


def local_combinations(features):
    """Per point, orthonormal combinations of the samples in which all features cancel; None if there are few."""
    n_features, n_samples = features.shape[1:]
    if n_samples - n_features < _ENOUGH:
        return None
    return torch.linalg.qr(features.mT, mode="complete")[0][..., n_features:]


def local_features(U, grid):
    """Values of u and its first and second differences along every axis: (n_points, n_features, n_samples)."""
    fields = U.mT.reshape(-1, *grid)
    columns = [fields]
    for axis in range(1, fields.ndim):
        if fields.shape[axis] < 3:
            continue
        before, after = (torch.roll(fields, shift, axis) for shift in (1, -1))
        columns += [after - before, after - 2 * fields + before]
    return torch.stack([column.flatten(1).mT for column in columns], dim=1)


def roughness(columns, grid):
    """Mean square of differences of neighbours over twice the mean square: about 1 for white noise, near 0 if smooth.

    The mean over the axes that have more than a few points.
    """
    fields = columns.mT.reshape(-1, *grid)
    size = float(fields.square().mean()) or 1.0
    steps = [fields.diff(dim=axis) for axis in range(1, fields.ndim) if fields.shape[axis] > 4]
    return sum(float(step.square().mean()) / (2 * size) for step in steps) / max(len(steps), 1)
