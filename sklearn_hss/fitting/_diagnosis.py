"""Most likely cause of a poor linear fit, by tests that distinguish offset, scarcity, noise and nonlinearity."""

import math

import torch

# Relative size of singular values of the inputs below which they are treated as zero.
_DEPENDENT = 1e-8
# Relative residual below which the outputs are explained.
_EXPLAINED = 1e-3
# Mean square of the differences of neighbours, in units of twice the mean square: 1 for white noise.
_ROUGH = 0.4
# Degrees of freedom that a test requires; maximal number of samples, and of values for a local law.
_ENOUGH, _MOST, _NUMBERS = 3, 300, 300_000


def likeliest_cause(samples, centred):
    """One sentence on why samples are not explained; `centred` indicates that their means were subtracted.

    If the map is linear, combinations of samples whose inputs cancel have outputs that cancel as well. Otherwise, these
    outputs are a multiple of the sum of the weights if there is an offset, rough if there is noise, and smooth if the
    map is not linear. If no inputs cancel, the same test is applied to a local law, f at a point as a combination of u
    and its differences there, which has few unknowns.
    """
    n_samples, n_points, samples = samples.n_samples, samples.X[0].numel(), samples.first(_MOST)
    few = f"Likeliest cause: too few samples ({n_samples} of fields of {n_points} points); provide more."
    for residual, constant, freedom, size, is_local in residuals(samples):
        if freedom < _ENOUGH:
            continue
        left = float(residual.norm()) / (size * (freedom / samples.n_samples) ** 0.5 or 1.0)
        if left <= _EXPLAINED and is_local:
            return few
        if left <= _EXPLAINED:
            return (
                "Likeliest cause: the samples are those of a linear map, but not of the requested form; set "
                "rank, levels, outer_rank, symmetric, form and solver to 'auto', or provide more samples."
            )
        along = (residual.flatten(1) * constant).sum(0).square() / constant.square().sum(0).clamp_min(1e-16)
        if not centred and float(along.sum()) > 0.9 * float(residual.square().sum()):
            return "Likeliest cause: an offset, u = A f + c; set fit_intercept=True or subtract the solution for f = 0."
        if roughness(residual) > _ROUGH and not powers_help(samples):
            return (
                f"Likeliest cause: noise, as the part that no linear map explains ({left:.1%}) is rough; more samples "
                "may help. Mismatched inputs and outputs have the same effect."
            )
        return (
            f"Likeliest cause: nonlinearity, as the part that no linear map explains ({left:.1%}) is smooth or depends "
            "on powers of u; a network, such as NeuralHSSRegressor, may help."
        )
    return few


def residuals(samples):
    """Residuals of the outputs after a linear map of the inputs, then of the inputs after a local law.

    Yields the residual (k, *grid), that of a constant (k, 1) or (k, n_points), the number of degrees of freedom, the
    norm of the target, and whether the residual is that of a local law.
    """
    X = samples.X.flatten(1)
    u, s, _ = torch.linalg.svd(X, full_matrices=len(X) > X.shape[1])
    cancelling = u[:, int((s > _DEPENDENT * s[:1]).sum()) :].mT
    outputs = torch.tensordot(cancelling, samples.Y, dims=1)
    yield outputs, (cancelling @ samples.ones)[:, None], len(cancelling), float(samples.Y.norm()), False
    if samples.is_square:
        F, features = local_problem(samples)
        freedom = len(F) - features.shape[1]
        if freedom >= _ENOUGH:
            ones = samples.ones.view(-1, *[1] * (F.ndim - 1)).expand_as(F)
            yield unexplained(F, features), unexplained(ones, features).flatten(1), freedom, float(F.norm()), True


def unexplained(F, features):
    """Residual of fields after least squares over the features of every point (n_samples, n_features, n_points)."""
    Q = torch.linalg.qr(features.movedim(2, 0))[0]
    f = F.flatten(1).mT.unsqueeze(-1)  # (n_points, n_samples, 1)
    return (f - Q @ (Q.mT @ f)).squeeze(-1).mT.view_as(F)


def powers_help(samples):
    """Whether a local law with squares or cubes of u has a much smaller residual than a linear one."""
    if not samples.is_square:
        return False

    def left(*powers):
        """Mean square of the residuals per degree of freedom."""
        F, features = local_problem(samples, *powers)
        freedom = len(F) - features.shape[1]
        return float(unexplained(F, features).square().sum()) / freedom if freedom >= _ENOUGH else math.inf

    return min(left(1, 2), left(1, 3)) < 0.5 * left(1)


def local_problem(samples, *powers):
    """Inputs, and powers of u with their first and second differences, at all points or in a box.

    Returns
    -------
    F : Tensor of shape (n_samples, *box)
    features : Tensor of shape (n_samples, n_features, n_points)
    """
    grid = sizes = list(samples.grid_out)
    while math.prod(sizes) * samples.n_samples > _NUMBERS and max(sizes) > 3:
        sizes = [max(n // 2, 3) if n == max(sizes) else n for n in sizes]
    box = (slice(None), *(slice((n - m) // 2, (n + m) // 2) for n, m in zip(grid, sizes, strict=True)))
    F, U, columns = samples.X[box], samples.Y[box], []
    scale = float(U.abs().max()) or 1.0
    for V in ((U / scale) ** power for power in powers or (1,)):
        columns.append(V)
        for axis in (axis for axis in range(1, V.ndim) if V.shape[axis] > 2):
            before, after = (torch.roll(V, shift, axis) for shift in (1, -1))
            columns += [after - before, after - 2 * V + before]
    if sizes != grid:  # at the ends of the box, the differences are wrong
        inner = (slice(None), *(slice(1, -1) for _ in grid))
        F, columns = F[inner], [column[inner] for column in columns]
    return F, torch.stack([column.flatten(1) for column in columns], dim=1)


def roughness(fields):
    """Mean square of differences of neighbours over twice the mean square: about 1 for white noise, near 0 if smooth.

    It is averaged over the axes that have more than a few points.
    """
    size = float(fields.square().mean()) or 1.0
    steps = [fields.diff(dim=axis) for axis in range(1, fields.ndim) if fields.shape[axis] > 4]
    return sum(float(step.square().mean()) / (2 * size) for step in steps) / max(len(steps), 1)
