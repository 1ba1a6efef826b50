"""Products and unfoldings of tensors along their modes."""

from collections.abc import Sequence


def modal_product(Z, W, mode):
    """Modal product Z x_mode W (Definition A.1 of the Neural-HSS paper): W acts on one dimension of Z."""
    return (Z.movedim(mode, -1) @ W.mT).movedim(-1, mode)


def multilinear(Z, matrices):
    """Modal products with one matrix per mode, over the last dimensions of Z."""
    for mode, W in enumerate(matrices, -len(matrices)):
        Z = modal_product(Z, W, mode)
    return Z


def unfold(Z, mode):
    """Mode unfolding of samples (n_samples, n_1, ..., n_m): (n_mode, n_samples * others)."""
    return Z.movedim(mode + 1, 0).flatten(1)


def along(v, mode, n_modes):
    """Vector as a tensor that broadcasts along one of the last `n_modes` dimensions."""
    return v.view([-1 if j == mode else 1 for j in range(n_modes)])


def per_mode(value, n_modes):
    """One value per mode, from one for all or a sequence."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * n_modes
