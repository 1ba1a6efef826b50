"""HSS matrices with known structure, from matrix products, and over shallower trees."""

import itertools

import numpy as np
import torch

from ._blocks import leaf_mask, merge_diagonal
from ._checks import check_memory, count
from ._closed_form import closed_form
from ._cluster_tree import ClusterTree, join_leaves, split_leaves
from ._operands import as_array

# Leaves of trees that are chosen automatically have at least this size, and at least twice the rank.
_LEAF_SIZE = 16


def trees(n_rows, n_columns, levels, rank=0):
    """Trees of given depth, or with leaves of a size appropriate for the rank if `levels` is "auto"."""
    if isinstance(levels, str):
        if levels != "auto":
            raise ValueError(f"levels={levels!r} must be 'auto' or an integer of at least 0.")
        levels = ClusterTree.max_levels(min(n_rows, n_columns), max(_LEAF_SIZE, 2 * rank))
    return ClusterTree(n_rows, levels), ClusterTree(n_columns, levels)


def as_tensor(x, name, ndim):
    """Convert user input to a tensor of finite real numbers: float32 is preserved, other types become float64."""
    given = x if isinstance(x, torch.Tensor) else as_array(x, name)
    if given.dtype.is_complex if isinstance(given, torch.Tensor) else np.iscomplexobj(given):
        raise TypeError(f"Complex matrices are not supported, but {name} is complex.")
    if not isinstance(given, torch.Tensor):
        # A copy, so that later changes of the array do not affect the matrix.
        given = torch.from_numpy(np.array(given, np.float32 if given.dtype == np.float32 else np.float64, order="C"))
    elif given.dtype not in (torch.float32, torch.float64):
        given = given.double()
    if given.ndim < ndim:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; it must have at least {ndim} dimensions.")
    if not torch.isfinite(given).all():
        raise ValueError(f"{name} must not hold NaN or infinite values.")
    return given


def diagonals_of(S):
    """Numbers of lower and upper diagonals of a sparse matrix, and its diagonals, as :func:`banded` takes them."""
    if len(S.shape) != 2 or S.shape[0] != S.shape[1]:
        raise ValueError(f"A sparse matrix must be square, not of shape {S.shape}, to be banded.")
    S = S.tocoo(copy=True)
    S.sum_duplicates()
    i, j, values = (x[S.data != 0] for x in (S.row.astype(np.int64), S.col.astype(np.int64), S.data))
    lower, upper = (max(0, int(distance.max(initial=0))) for distance in (i - j, j - i))
    shape = lower + upper + 1, S.shape[1]
    check_memory(shape[0] * shape[1], torch.float64, f"A matrix of {shape[0]} diagonals of {shape[1]} points")
    ab = np.zeros(shape, dtype=S.dtype)
    ab[upper + i - j, j] = values
    return lower, upper, ab


def bisect(points, tree):
    """Permutation of scattered points (n, d) after which the nodes of `tree` contain neighbours.

    Every node is bisected across its longest side, as in a k-d tree.
    """
    order = np.arange(tree.n)
    for level in range(tree.levels):
        offsets = tree.offsets(level)
        for start, stop in itertools.pairwise(offsets):
            node = order[start:stop]
            longest = np.argmax(np.ptp(points[node], axis=0))
            order[start:stop] = node[np.argsort(points[node, longest], kind="stable")]
    return order


def low_rank(X, Y, row_tree, col_tree):
    """Generators of X Yᵀ."""
    k = X.shape[-1]
    batch = torch.broadcast_shapes(X.shape[:-2], Y.shape[:-2])
    eye = torch.eye(k, dtype=X.dtype, device=X.device)
    levels = row_tree.levels
    D = [X.new_zeros(*batch, 2**levels, row_tree.max_leaf_size, col_tree.max_leaf_size)]
    if not levels:
        return [(X @ Y.mT).unsqueeze(-3)], [], []
    U = [split_leaves(X.expand(*batch, *X.shape[-2:]), row_tree)]
    V = [split_leaves(Y.expand(*batch, *Y.shape[-2:]), col_tree)]
    for level in range(levels - 1, -1, -1):
        if level:
            D.append(X.new_zeros(*batch, 2**level, 2 * k, 2 * k))
            U.append(eye.repeat(2, 1).expand(*batch, 2**level, 2 * k, k))
            V.append(U[-1])
        else:
            D.append(eye.repeat(2, 2).expand(*batch, 1, 2 * k, 2 * k))
    return D, U, V


def diagonal(d, tree):
    """Generators of rank 0 of a diagonal matrix."""
    blocks = split_leaves(d.unsqueeze(-1), tree)
    *batch, _, m, _ = blocks.shape
    D, bases = [torch.diag_embed(blocks.squeeze(-1))], []
    for level in range(tree.levels, 0, -1):
        bases.append(d.new_zeros(*batch, 2**level, m if level == tree.levels else 0, 0))
        D.append(d.new_zeros(*batch, 2 ** (level - 1), 0, 0))
    return D, bases, bases


def banded(lower, upper, ab, tree):
    """Generators of a banded matrix, of rank lower + upper: the bases select the first and last points of each node.

    Rows of `ab` are the diagonals as :func:`scipy.linalg.solve_banded` takes them, ``ab[upper + i - j, j] = A[i, j]``.
    """
    n, levels, device = tree.n, tree.levels, ab.device
    if levels and tree.min_leaf_size < max(lower, upper):
        raise ValueError(
            f"levels={levels} is too deep for {lower} lower and {upper} upper diagonals of n={n}: leaves must not be "
            "smaller than either number; "
            f"the largest value that works is {ClusterTree.max_levels(n, max(lower, upper))}."
        )

    def entry(i, j):
        band = upper + i - j
        inside = (i >= 0) & (i < n) & (j >= 0) & (j < n) & (band >= 0) & (band <= lower + upper)
        return torch.where(inside, ab[..., band.clamp(0, lower + upper), j.clamp(0, n - 1)], 0)

    start = torch.tensor(tree.offsets(levels), device=device)
    position = torch.arange(tree.max_leaf_size, device=device)
    index = start[:-1, None] + position
    mask = leaf_mask(tree, ab.dtype, device)
    D: list[torch.Tensor] = [entry(index[:, :, None], index[:, None, :]) * mask * mask.mT]
    U: list[torch.Tensor] = []
    V: list[torch.Tensor] = []
    for i in range(levels):
        sizes = start.diff()
        # The first `lower` and the last `upper` rows couple to other nodes; for columns, the numbers are exchanged.
        for first, last, bases in ((lower, upper, U), (upper, lower, V)):
            if i == 0:
                starts = torch.arange(first, device=device).expand(len(sizes), -1)
                stops = sizes[:, None] - last + torch.arange(last, device=device)
                ends = torch.cat([starts, stops], dim=-1)
                basis = (position[:, None] == ends[:, None, :]).to(ab.dtype)
            else:
                width = first + last
                basis = ab.new_zeros(2 * width, width)
                basis[:first, :first] = torch.eye(first)
                basis[width + first :, first:] = torch.eye(last)
                basis = basis.expand(len(sizes), -1, -1)
            bases.append(basis.expand(*ab.shape[:-2], *basis.shape))
        # Siblings meet at the start of the right one.
        middle = start[1::2, None, None]
        up, low = torch.arange(upper, device=device), torch.arange(lower, device=device)
        coupling = ab.new_zeros(*ab.shape[:-2], len(middle), 2, lower + upper, 2, lower + upper)
        coupling[..., 0, lower:, 1, :upper] = entry(middle - upper + up[:, None], middle + up)
        coupling[..., 1, :lower, 0, upper:] = entry(middle + low[:, None], middle - lower + low)
        D.append(coupling.flatten(-2).flatten(-3, -2))
        start = start[::2]
    return D, U, V


def coarsen(A, levels):
    """`A` over trees of `levels` levels."""
    row_tree, col_tree, (D, U, V) = A.row_tree, A.col_tree, ([*A.D], [*A.U], [*A.V])
    while row_tree.levels > levels:
        new_trees = [ClusterTree(tree.n, tree.levels - 1) for tree in (row_tree, col_tree)]

        def regroup(x, old, new):
            # Two padded leaves become one.
            *batch, n, m, k = x.shape
            return split_leaves(join_leaves(x.reshape(*batch, 2 * n, m // 2, k), old), new)

        u, v = merge_diagonal(U[0]), merge_diagonal(V[0])
        d = merge_diagonal(D[0]) + u @ D[1] @ v.mT
        d = regroup(d, row_tree, new_trees[0])
        d = regroup(d.mT, col_tree, new_trees[1]).mT
        D = [d, *D[2:]]
        U = [regroup(u @ U[1], row_tree, new_trees[0]), *U[2:]] if len(U) > 1 else []
        V = [regroup(v @ V[1], col_tree, new_trees[1]), *V[2:]] if len(V) > 1 else []
        row_tree, col_tree = new_trees
    return type(A)(row_tree, col_tree, D, U, V)


def as_shallow_as_saves(A):
    """`A` over the trees, at most as deep as its own, that require the fewest numbers."""
    best = A
    while A.levels:
        A = coarsen(A, A.levels - 1)
        if A.n_parameters <= best.n_parameters:
            best = A
    return best


def products_of(apply, apply_transposed, shape):
    """Products with a matrix and its transpose, and its shape, from callables or a SciPy-like operator."""
    if hasattr(apply, "matmat"):
        operator_shape = tuple(apply.shape)
        if shape is not None and tuple(shape) != operator_shape:
            raise ValueError(f"shape={shape} is not that of the operator, {operator_shape}.")
        apply, apply_transposed = apply.matmat, apply_transposed or getattr(apply, "rmatmat", None)
        shape = operator_shape
    for name, function in (("apply", apply), ("apply_transposed", apply_transposed)):
        if not callable(function):
            raise TypeError(
                f"{name} must be a callable, not of type {type(function).__name__}, unless apply is an operator with "
                "shape, matmat and rmatmat, as SciPy's are."
            )
    try:
        n_rows, n_columns = shape
    except (TypeError, ValueError):
        raise ValueError(f"shape={shape!r} must be a pair of integers, (n_rows, n_columns).") from None
    return apply, apply_transposed, (count(n_rows, "shape[0]", 1), count(n_columns, "shape[1]", 1))


def checked_product(function, n_rows, name, dtype, device):
    """Wrap `function`, which may support only NumPy arrays, for tensors, and check its results.

    A function that raises TypeError or AttributeError for a tensor, or returns an array, receives arrays thereafter.
    """
    knows_torch = True

    def product(x):
        nonlocal knows_torch
        # The function receives copies, since it may overwrite its argument.
        y = None
        if knows_torch:
            try:
                y = function(x.clone())
            except (TypeError, AttributeError):
                knows_torch = False
        if not knows_torch:
            try:
                y = function(x.cpu().numpy().copy())
            except (TypeError, NotImplementedError) as error:
                raise TypeError(
                    f"{name} takes neither tensors nor arrays ({error}). Operators need products with their transpose "
                    "(rmatvec, rmatmat) as well."
                ) from error
        if not isinstance(y, torch.Tensor):
            knows_torch = False
            y = torch.from_numpy(np.array(as_array(y, f"The result of {name}"), order="C"))
        if y.is_complex():
            raise TypeError(f"Complex matrices are not supported, but the result of {name} is complex.")
        if y.shape != (n_rows, x.shape[1]):
            raise ValueError(
                f"{name} turned vectors of shape {tuple(x.shape)} into {tuple(y.shape)}; the result must have the "
                f"shape {(n_rows, x.shape[1])}."
            )
        if not torch.isfinite(y).all():
            raise ValueError(f"The result of {name} holds NaN or infinite values.")
        return y.to(dtype=dtype, device=device)

    return product


def from_products(apply, apply_transposed, row_tree, col_tree, *, tol, rank, dtype, device, generator):
    """Generators of a matrix given by its products with blocks of vectors, by sampling (see :mod:`._closed_form`).

    If `rank` is None, the number of samples is doubled until it exceeds the ranks required by `tol` with a margin.
    """
    oversampling = 10
    guess = 8 if rank is None else rank
    n_rows, n_columns = row_tree.n, col_tree.n
    apply = checked_product(apply, n_rows, "apply", dtype, device)
    apply_transposed = checked_product(apply_transposed, n_columns, "apply_transposed", dtype, device)
    leaf = max(row_tree.max_leaf_size, col_tree.max_leaf_size)
    X, Y, P, Z = (torch.empty(n, 0, dtype=dtype, device=device) for n in (n_columns, n_rows, n_rows, n_columns))
    while True:
        n_samples = min(max(leaf, 2 * guess) + guess + oversampling, max(n_rows, n_columns) + oversampling)
        new = n_samples - X.shape[-1]
        x, p = (torch.randn(n, new, dtype=dtype, device=device, generator=generator) for n in (n_columns, n_rows))
        X, P = torch.cat([X, x], dim=-1), torch.cat([P, p], dim=-1)
        Y, Z = torch.cat([Y, apply(x)], dim=-1), torch.cat([Z, apply_transposed(p)], dim=-1)
        # If bases extend into the padding of small leaves, some directions of the samples are rounding errors.
        input_tol = 100 * torch.finfo(dtype).eps
        D, U, V, margin = closed_form(row_tree, col_tree, X, Y, P, Z, rank=rank, tol=tol, input_tol=input_tol)
        if rank is not None or margin >= oversampling // 2 or n_samples > max(n_rows, n_columns):
            return D, U, V
        guess *= 2
