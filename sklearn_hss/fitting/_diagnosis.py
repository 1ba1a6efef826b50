"""Why no linear map fits: the likeliest cause, by tests that tell offset, scarcity, noise and nonlinearity apart."""

import math

import torch

# Singular values of the inputs below this fraction of the largest count as zero.
_DEPENDENT = 1e-8
# A part of the outputs that is smaller than this fraction of them is explained.
_EXPLAINED = 1e-3
# Mean square of the differences of neighbours, in units of twice the mean square: 1 for white noise.
_ROUGH = 0.4
# Degrees of freedom that a test needs, and samples that it takes at most.
_ENOUGH, _MOST = 3, 300


def likeliest_cause(X, Y, grid, ones, centred):
    """One sentence on why the samples are not explained.

    Combinations of samples whose inputs cancel have outputs that cancel, too, if the map is linear. If these do not,
    they are a multiple of the sum of the weights where there is an offset, rough where there is noise, and smooth where
    the map is not linear. Where no inputs cancel, the same is tried on a local law, f at a point as a combination of u
    and its differences there, which has few unknowns.

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
    # As many as tell the causes apart, and no more than fit into memory.
    X, Y, ones = X[:, :_MOST], Y[:, :_MOST], ones[:_MOST]
    few = f"Likeliest cause: too few samples ({n_samples} of fields of {len(X)} points); give more."
    for residual, constant, freedom, size, is_local in residuals(X, Y, grid, ones):
        if freedom < _ENOUGH:
            continue
        left = float(residual.norm()) / (size * (freedom / X.shape[1]) ** 0.5 or 1.0)
        if left <= _EXPLAINED and is_local:
            return few
        if left <= _EXPLAINED:
            return (
                "Likeliest cause: the samples are those of a linear map, but not of one of the form asked for; set "
                "rank, levels, outer_rank, symmetric, form and solver to 'auto', or give more samples."
            )
        along = (residual * constant).sum(-1).square() / constant.square().sum(-1).clamp_min(1e-16)
        if not centred and float(along.sum()) > 0.9 * float(residual.square().sum()):
            return "Likeliest cause: an offset, u = A f + c; set fit_intercept=True or subtract the solution for f = 0."
        if roughness(residual, grid) > _ROUGH and not powers_help(X, Y, grid):
            return (
                f"Likeliest cause: noise, as the part that no linear map explains ({left:.1%}) is rough; more samples "
                "may help. Inputs and outputs that do not belong together look the same."
            )
        return (
            f"Likeliest cause: nonlinearity, as the part that no linear map explains ({left:.1%}) is smooth or has to "
            "do with powers of u; a network, such as NeuralHSSRegressor, may help."
        )
    return few


def residuals(X, Y, grid, ones):
    """Residuals of the outputs after a linear map of the inputs, then of the inputs after a local law.

    Yields
    ------
    residual : Tensor of shape (n_points, n_columns)
    constant : Tensor of shape (n_columns,) or (n_points, n_columns)
        Residual of a constant.
    freedom : int
        Number of its degrees of freedom.
    size : float
        Norm of that of which it is the residual.
    is_local : bool
        Whether it is that of a local law.
    """
    _, s, V = torch.linalg.svd(X, full_matrices=X.shape[1] > X.shape[0])
    cancelling = V[int((s > _DEPENDENT * s[:1]).sum()) :].mT
    yield Y @ cancelling, ones @ cancelling, cancelling.shape[1], float(Y.norm()), False
    if len(X) == len(Y):
        features = local_features(Y, grid)
        freedom = X.shape[1] - features.shape[1]
        if freedom >= _ENOUGH:
            yield unexplained(X, features), unexplained(ones.expand_as(X), features), freedom, float(X.norm()), True


def unexplained(X, features):
    """Residual of every row of X after least squares over the features of its point."""
    Q = torch.linalg.qr(features.mT)[0]  # (n_points, n_samples, n_features)
    return X - (Q @ (Q.mT @ X.unsqueeze(-1))).squeeze(-1)


def powers_help(X, Y, grid):
    """Whether a local law with squares or cubes of u in it leaves much less than one without."""
    if len(X) != len(Y):
        return False
    scale = float(Y.abs().max()) or 1.0

    def left(*powers):
        """Mean square of the residuals per degree of freedom."""
        features = torch.cat([local_features((Y / scale) ** power, grid) for power in powers], dim=1)
        freedom = X.shape[1] - features.shape[1]
        return float(unexplained(X, features).square().sum()) / freedom if freedom >= _ENOUGH else math.inf

    return min(left(1, 2), left(1, 3)) < 0.5 * left(1)


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
