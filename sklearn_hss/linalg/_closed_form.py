"""HSS matrices from samples by null spaces (Levitt and Martinsson 2024, the theory behind the paper's Theorem 2.3).

Let Y = A X and Z = Aᵀ P, with samples as columns. On a leaf t, combinations of the samples that vanish there,
X_t N = 0, make Y_t N = (A_t,rest X_rest) N a product with the off-diagonal block row alone: its range is that of U_t.
The adjoint samples give V_t in the same way. Outside of the bases, Y_t X_t⁺ and Z_t P_t⁺ determine the diagonal block;
the rest, Uᵀ (Y - D X) = A' (Vᵀ X), is the same problem one level up. A symmetric matrix is its own adjoint: P = X,
Z = Y.
"""

import torch

from ._blocks import merge_rows
from ._cluster_tree import split_leaves
from ._compression import leading_directions


def separate(X, Y, tol):
    """Split samples Y = D X + rest, block by block, where the rest acts on the null space of X.

    Parameters
    ----------
    X, Y : Tensors of shape (*batch, N, m, n_samples) and (*batch, N, k, n_samples)
    tol : float
        Singular values of a block of X below `tol` times its largest one are treated as zero.

    Returns
    -------
    slope : Tensor of shape (*batch, N, k, m)
        Y X⁺.
    rest : Tensor of shape (*batch, N, k, j)
        Y N up to a rotation of the samples, with N an orthonormal basis of the null space of X.
    """
    m = X.shape[-2]
    R = torch.linalg.qr(torch.cat([X, Y], dim=-2).mT, mode="r")[1]
    rest = R[..., m:, m:].mT
    # The singular value decomposition is used only for blocks of X that may be rank-deficient, which are usually few.
    pivots = torch.diagonal(R[..., :m, :m], dim1=-2, dim2=-1).abs()
    regular = torch.full(pivots.shape[:-1], pivots.shape[-1] == m, device=X.device)
    if m:
        regular = regular & (pivots > max(1e-6, tol) * pivots.amax(-1, keepdim=True)).all(-1)
    if regular.all():
        return torch.linalg.solve_triangular(R[..., :m, :m], R[..., :m, m:], upper=True).mT, rest
    slope = Y.new_zeros(*Y.shape[:-1], m)
    free = Y.new_zeros(*Y.shape[:-1], pivots.shape[-1])
    good, bad = R[regular], R[~regular]
    slope[regular] = (
        torch.linalg.solve_triangular(good[..., :m, :m], good[..., :m, m:], upper=True).mT if len(good) else 0
    )
    w, s, vh = torch.linalg.svd(bad[..., :m, :m], full_matrices=False)
    positive = s > tol * s[..., :1]
    projected = bad[..., :m, m:].mT @ w  # columns: coordinates of the samples along the left singular vectors
    slope[~regular] = (projected * torch.where(positive, 1 / torch.where(positive, s, 1), 0).unsqueeze(-2)) @ vh
    free[~regular] = projected * ~positive.unsqueeze(-2)
    return slope, torch.cat([free, rest], dim=-1)


def dense_solution(X, Y, P, Z, tol):
    """Matrix A that fits Y = A X and Z = Aᵀ P: the mean of both fits where both determine it, otherwise either one."""

    def one(X, Y, P, Z):
        x_inverse, p_inverse = (torch.linalg.pinv(M, rtol=tol) for M in (X, P))
        A = Y @ x_inverse
        return A + (Z @ p_inverse).mT @ (torch.eye(X.shape[-2], dtype=X.dtype, device=X.device) - X @ x_inverse)

    return (one(X, Y, P, Z) + one(P, Z, X, Y).mT) / 2


def closed_form(row_tree, col_tree, X, Y, P=None, Z=None, *, rank=None, tol=1e-12, input_tol=1e-12):
    """Generators D, U, V of the HSS matrix A with Y = A X and Z = Aᵀ P.

    Exact for exact samples in general position when A has HSS rank `rank` and there are at least leaf size + rank and
    3 rank samples of either kind, with leaves of at least 2 rank.

    Parameters
    ----------
    row_tree, col_tree : ClusterTree
    X, Y : Tensors of shape (*batch, n_columns, n_samples) and (*batch, n_rows, n_samples)
    P, Z : Tensors of shape (*batch, n_rows, n_adjoint) and (*batch, n_columns, n_adjoint), default=None
        Samples of the transpose; if None, A is taken to be symmetric.
    rank : int, default=None
        Number of columns of the bases; determined by `tol` if None.
    tol : float, default=1e-12
        Relative threshold below which singular values are treated as zero in the choice of the rank.
    input_tol : float, default=1e-12
        Relative threshold below which singular values of blocks of X and P are treated as zero.

    Returns
    -------
    D, U, V : lists of tensors
    margin : int
        Smallest excess of sampled directions over the rank; if negative, the samples cannot determine the rank.
    """
    symmetric = P is None
    x, y = split_leaves(X, col_tree), split_leaves(Y, row_tree)
    p, z = (x, y) if symmetric else (split_leaves(P, row_tree), split_leaves(Z, col_tree))
    D, U, V = [], [], []
    margin = x.shape[-1]
    for _ in range(row_tree.levels):
        forward, seen = separate(x, y, input_tol)
        backward, seen_adjoint = (forward, seen) if symmetric else separate(p, z, input_tol)
        u = leading_basis(seen, y, rank, tol)
        v = u if symmetric else leading_basis(seen_adjoint, z, rank, tol)
        margin = min(margin, x.shape[-1] - x.shape[-2] - u.shape[-1], p.shape[-1] - p.shape[-2] - v.shape[-1])
        backward = (backward - v @ (v.mT @ backward)).mT
        d = forward - u @ (u.mT @ forward) + u @ (u.mT @ backward)
        D.append(d)
        U.append(u)
        V.append(v)
        x, y, p, z = v.mT @ x, u.mT @ (y - d @ x), u.mT @ p, v.mT @ (z - d.mT @ p)
        x, y, p, z = (merge_rows(block) for block in (x, y, p, z))
    D.append(dense_solution(x, y, p, z, input_tol))
    return D, U, V, margin


def leading_basis(seen, y, rank, tol):
    """The `rank` leading directions of sampled off-diagonal block rows; their number is determined by `tol` if None."""
    if rank is None:
        if not seen.numel() or not y.numel():
            return seen[..., :0]
        threshold = max(tol, 10 * torch.finfo(y.dtype).eps) * torch.linalg.matrix_norm(y).amax(-1)[..., None, None]
        return leading_directions(seen, threshold, None)
    u = leading_directions(seen, -1.0, rank)
    if u.shape[-1] < rank:  # with fewer samples or rows than that, zeros fill the documented shape
        u = torch.nn.functional.pad(u, (0, rank - u.shape[-1]))
    return u
