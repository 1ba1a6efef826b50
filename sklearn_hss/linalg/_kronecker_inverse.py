"""Inverses of separable operators, fitted to samples as Kronecker sums.

The inverse of a separable elliptic operator is a Kronecker sum of one-dimensional ones: F = A U + U Bᵀ in two
dimensions, with one more term for each further one. It is linear in A and B, so that very few samples determine it:

- :func:`fit_local_sum` takes A and B to be banded, as difference operators are, which determines them whole;
- :func:`fit_dense_sum` takes any A and B, in the subspaces that the samples span;
- :func:`diagonalised` makes the solution operator of them, diagonal in the product of their eigenbases;
- :func:`refine_basis` improves the bases with a free symbol, which covers operators that are diagonal in a product
  basis without being a Kronecker sum; :func:`complete_symbol` gives the symbol where no sample has reached.
"""

from itertools import product
from math import comb

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, lsmr

from ._diagonalized import DiagonalizedOperator
from ._kronecker_product_sum import KroneckerProductSum
from ._modes import along, modal_product, multilinear, unfold

# Symbols are known where the inputs have at least this fraction of their largest energy.
_KNOWN = 1e-6
# Weight of the wish that neighbouring rows be alike: for exact samples, it decides only what these leave open. Where
# the model does not fit them, it is raised to a multiple of the misfit, within bounds. The rows at the ends are freer.
_ALIKE, _PER_MISFIT, _MOST_ALIKE, _AT_ENDS = 1e-9, 1e3, 0.1, 1e-2
# Ridge penalty of coefficients, as a root: what rounding makes of equations that say nothing, and a part of the misfit.
# Without it, combinations that are open would be as large as a misfit divided by rounding.
_OPEN, _OPEN_PER_MISFIT = 1e-14, 1e-4


def mode_basis(fields, mode, tol):
    """Orthonormal basis of what samples occupy in one mode, and the singular values that belong to it.

    Parameters
    ----------
    fields : list of Tensors of shape (n_samples, n_1, ..., n_m)
        Each counts as much as the others.
    mode : int
    tol : float
        Relative singular values below this one count as zero.

    Returns
    -------
    basis : Tensor of shape (n_mode, p)
    sizes : Tensor of shape (p,)
    """
    rows = torch.cat([unfold(Z, mode) / (Z.norm() or 1) for Z in fields], dim=1).mT
    _, s, V = torch.linalg.svd(torch.linalg.qr(rows, mode="r")[1], full_matrices=False)
    kept = max(int((s > tol * s[:1]).sum()), 1)
    return V[:kept].mT.contiguous(), s[:kept]


def compress(fields, tol):
    """Common bases of what samples occupy in every mode, and the samples in them.

    Each mode is compressed before the next one is looked at, so that all but the first cost little.

    Parameters
    ----------
    fields : list of Tensors of shape (n_samples, n_1, ..., n_m)
    tol : float

    Returns
    -------
    bases : list of Tensors of shape (n_j, p_j)
    compressed : list of Tensors of shape (n_samples, p_1, ..., p_m)
    """
    bases = []
    for j in range(fields[0].ndim - 1):
        bases.append(mode_basis(fields, j, tol)[0])
        fields = [modal_product(Z, bases[j].mT, j + 1) for Z in fields]
    return bases, fields


def outer_sum(vectors):
    """Tensor of the sums v_1[i] + v_2[j] + ..."""
    return sum(along(v, j, len(vectors)) for j, v in enumerate(vectors))


def outer_product(vectors):
    """Tensor of the products v_1[i] v_2[j] ..."""
    result = torch.ones((), dtype=vectors[0].dtype)
    for j, v in enumerate(vectors):
        result = result * along(v, j, len(vectors))
    return result


def least_squares(forward, adjoint, target, n_unknowns, max_iter=300, tol=1e-14):
    """Solution of smallest norm by LSMR, of a map given by its products."""
    operator = LinearOperator(
        (target.numel(), n_unknowns),
        matvec=lambda v: forward(torch.from_numpy(np.array(v, dtype=np.float64).reshape(-1))).reshape(-1).numpy(),
        rmatvec=lambda r: adjoint(torch.from_numpy(np.array(r, dtype=np.float64)).view(target.shape)).numpy(),
        dtype=np.float64,
    )
    solution = lsmr(operator, target.reshape(-1).numpy(), atol=tol, btol=tol, conlim=0, maxiter=max_iter)
    return torch.from_numpy(solution[0])


# Banded factors


def difference_stencils(w):
    """Differences of order 0 to 2 w, centred, as rows over the offsets -w, ..., w."""
    rows = torch.zeros(2 * w + 1, 2 * w + 1, dtype=torch.float64)
    for order in range(2 * w + 1):
        # Odd orders are the mean of the two that lie half a step off the centre.
        starts = (w - order // 2,) if order % 2 == 0 else (w - order // 2 - 1, w - order // 2)
        for start in starts:
            for i in range(order + 1):
                rows[order, start + i] += (-1) ** (order - i) * comb(order, i) / len(starts)
    return rows


def shifted(U, mode, offset, periodic):
    """Samples of the neighbours at an offset along a mode; zero beyond the ends, or from the other end."""
    if periodic:
        return torch.roll(U, -offset, mode + 1)
    result, n = torch.zeros_like(U), U.shape[mode + 1]
    if abs(offset) < n:
        kept = n - abs(offset)
        result.narrow(mode + 1, max(-offset, 0), kept).copy_(U.narrow(mode + 1, max(offset, 0), kept))
    return result


def fit_local_sum(F, U, half_bandwidth, *, periodic=False):
    """Banded matrices A_1, ..., A_m with F = U x_1 A_1 + ... + U x_m A_m, least squares.

    Rows that the samples leave open are those of their neighbours.

    Parameters
    ----------
    F, U : Tensors of shape (n_samples, n_1, ..., n_m)
    half_bandwidth : int
        Neighbours on either side that a row couples.
    periodic : bool, default=False
        Whether those beyond an end are the ones at the other end, instead of zero.

    Returns
    -------
    list of Tensors of shape (n_j, n_j)
    """
    columns = _difference_columns(U, half_bandwidth, periodic)
    return _banded(_solve_rowwise(columns, F), periodic)


def fit_weighted_local_sum(F, U, half_bandwidth, *, periodic=False, max_iter=20):
    """Row weights, too: F = (a_1 ⊗ ... ⊗ a_m) o (U x_1 A_1 + ... + U x_m A_m), for separable coefficients.

    For -div(a(x) b(y) grad u) = f, the first mode has the weights a and the matrix A_1 = a⁻¹ (a u')'. Gauss-Newton over
    matrices and weights together, from the guess of :func:`guess_weights`.

    Parameters
    ----------
    F, U : Tensors of shape (n_samples, n_1, ..., n_m)
    half_bandwidth : int
    periodic : bool, default=False
    max_iter : int, default=20
        Largest number of steps.

    Returns
    -------
    matrices, weights : lists of Tensors of shapes (n_j, n_j) and (n_j,)

    Raises
    ------
    numpy.linalg.LinAlgError
        If a weight is not positive.
    """
    n_modes, weights = U.ndim - 1, guess_weights(F, U, periodic=periodic)
    differences = _difference_columns(U, half_bandwidth, periodic)
    V, last = None, np.inf
    for _ in range(max_iter):
        M = outer_product(weights)
        columns = [[M * C for C in of_mode] for of_mode in differences]
        if V is not None:
            columns = [
                [*of_mode, M * V / along(a, j, n_modes)]
                for j, (of_mode, a) in enumerate(zip(columns, weights, strict=True))
            ]
        # The weights, not yet right, are to blame for the misfit: rows must not be made alike because of it.
        coefficients = _solve_rowwise(columns, F, most_alike=1e-5, centred=V is not None)
        if V is not None:
            steps = [c[-1] / a for c, a in zip(coefficients, weights, strict=True)]
            # A constant factor may stand with the weights or with the matrices: with the latter.
            means = [step.mean() for step in steps]
            coefficients = [c[:-1] / (1 - sum(means)) for c in coefficients]
            # At most halved or doubled in a step.
            weights = [a * (1 + step - mean).clamp(0.5, 2) for a, step, mean in zip(weights, steps, means, strict=True)]
        matrices = _banded(coefficients, periodic)
        V = kronecker_sum(U, matrices)
        residual = float((F - outer_product(weights) * V).norm() / F.norm())
        if residual < 1e-13 or residual > 0.9 * last:
            break
        last = residual
    return matrices, weights


def _difference_columns(U, w, periodic):
    """Differences of order 0 to 2 w along every mode, as lists per mode."""
    columns = []
    for j in range(U.ndim - 1):
        neighbours = [shifted(U, j, offset, periodic) for offset in range(-w, w + 1)]
        columns.append(
            [sum(c * V for c, V in zip(row, neighbours, strict=True) if c) for row in difference_stencils(w).tolist()]
        )
    return columns


def _banded(coefficients, periodic):
    """Matrices with the given coefficients (2 w + 1, n_j) of differences."""
    matrices = []
    for c in coefficients:
        w, n = len(c) // 2, c.shape[1]
        A, i = c.new_zeros(n, n), torch.arange(n)
        for offset, band in zip(range(-w, w + 1), difference_stencils(w).mT @ c, strict=True):
            inside = torch.ones(n, dtype=torch.bool) if periodic else (i + offset >= 0) & (i + offset < n)
            A.index_put_((i[inside], (i[inside] + offset) % n), band[inside], accumulate=True)
        matrices.append(A)
    return matrices


def _solve_rowwise(columns, F, most_alike=_MOST_ALIKE, centred=False):
    """Vectors c_jk along mode j with F = sum c_jk o columns[j][k], least squares; the last ones centred, if told so.

    Returns
    -------
    list of Tensors of shape (len(columns[j]), n_j)
    """
    n_modes, sizes = F.ndim - 1, F.shape[1:]
    scales = [[float(C.square().mean().sqrt()) or 1.0 for C in of_mode] for of_mode in columns]
    columns = [[C / s for C, s in zip(*pair, strict=True)] for pair in zip(columns, scales, strict=True)]
    lengths = [n for n, of_mode in zip(sizes, columns, strict=True) for _ in of_mode]

    def forward(c):
        parts, field = iter(c.split(lengths)), torch.zeros_like(F)
        for j, of_mode in enumerate(columns):
            for C in of_mode:
                field.addcmul_(along(next(parts), j, n_modes), C)
        return field

    def adjoint(field):
        return torch.cat([unfold(C * field, j).sum(1) for j, of_mode in enumerate(columns) for C in of_mode])

    def unalike(c):
        return weak * torch.cat([part.diff() for part in c.split(lengths)])

    def unalike_adjoint(d):
        d = weak * d
        zero = d.new_zeros(1)
        return torch.cat(
            [torch.cat([zero, part]) - torch.cat([part, zero]) for part in d.split([n - 1 for n in lengths])]
        )

    gram = _local_gram(columns, sizes)
    largest = gram.diagonal().max()
    ends = torch.tensor([_AT_ENDS], dtype=F.dtype)
    weak = torch.cat([torch.cat([ends, F.new_ones(max(n - 3, 0)), ends])[: n - 1] for n in lengths])
    D = weak[:, None] * torch.block_diag(*[torch.eye(n, dtype=F.dtype).diff(dim=0) for n in lengths])
    # Weights and matrices may exchange constant factors, which the penalties would drive to extremes.
    means = F.new_zeros(n_modes if centred else 0, len(gram))
    ends_of_modes = np.cumsum([len(of_mode) * n for of_mode, n in zip(columns, sizes, strict=True)])
    for row, end, n in zip(means, ends_of_modes, sizes, strict=False):
        row[end - n : end] = (largest / n).sqrt()
    # The factor of the normal equations only preconditions, so that their squared condition number does no harm.
    shift = 1e-14 * len(gram) * largest * torch.eye(len(gram), dtype=F.dtype)

    def solution(strength, ridge):
        strength, ridge = strength * float(largest.sqrt()), ridge * float(largest.sqrt())
        R = torch.linalg.cholesky(gram + strength**2 * (D.mT @ D) + means.mT @ means + shift, upper=True)

        def solve(v, transposed=False):
            matrix = R.mT if transposed else R
            return torch.linalg.solve_triangular(matrix, v.unsqueeze(-1), upper=not transposed).squeeze(-1)

        def preconditioned(z):
            c = solve(z)
            return torch.cat([forward(c).reshape(-1), strength * unalike(c), ridge * c, means @ c])

        def preconditioned_adjoint(r):
            fit, alike, small, mean = r.split([F.numel(), len(D), len(gram), len(means)])
            gradient = adjoint(fit.view(F.shape)) + strength * unalike_adjoint(alike) + ridge * small + means.mT @ mean
            return solve(gradient, transposed=True)

        target = torch.cat([F.reshape(-1), F.new_zeros(len(D) + len(gram) + len(means))])
        return solve(least_squares(preconditioned, preconditioned_adjoint, target, len(gram), max_iter=120))

    c = solution(_ALIKE, _OPEN)
    misfit = float((F - forward(c)).norm() / F.norm())
    if misfit > 1e-10:
        # Coefficients that the samples contradict by that much are not determined any better.
        c = solution(min(_PER_MISFIT * misfit, most_alike), min(_OPEN_PER_MISFIT * misfit, _OPEN_PER_MISFIT))
    parts = iter(c.split(lengths))
    return [torch.stack([next(parts) / s for s in of_mode]) for of_mode in scales]


def _local_gram(columns, sizes):
    """Inner products of the columns of :func:`fit_local_sum`: those of one mode meet in a row, those of two in all."""
    blocks = [(j, C) for j, of_mode in enumerate(columns) for C in of_mode]
    starts = np.cumsum([0] + [sizes[j] for j, _ in blocks])
    gram = columns[0][0].new_zeros(int(starts[-1]), int(starts[-1]))
    for i, (j, C) in enumerate(blocks):
        for k, (mode, other) in enumerate(blocks[: i + 1]):
            inner = (other * C).sum([0] + [d + 1 for d in range(len(sizes)) if d not in (j, mode)])
            inner = torch.diag(inner) if j == mode else inner
            rows, cols = slice(starts[k], starts[k + 1]), slice(starts[i], starts[i + 1])
            gram[rows, cols], gram[cols, rows] = inner, inner.mT
    return gram


def guess_weights(F, U, *, periodic=False, window=3):
    """First guess of the weights of :func:`fit_weighted_local_sum`, from stencils fitted point by point.

    Where coefficients are separable, the coupling to the next point along a mode is the product of a function of that
    mode's coordinate and the weights of all others, so that these are seen in its leading singular vectors.

    Parameters
    ----------
    F, U : Tensors of shape (n_samples, n_1, ..., n_m)
    periodic : bool, default=False
    window : int, default=3
        Points along each mode whose equations are pooled.

    Returns
    -------
    list of Tensors of shape (n_j,)
        Ones, where the stencils give nothing that could be a weight.
    """
    n_modes = U.ndim - 1
    columns = _difference_columns(U, 1, periodic)
    C = torch.stack([U, *(C for of_mode in columns for C in of_mode[1:])], dim=-1)
    typical = C.square().flatten(0, -2).mean(0).sqrt().clamp_min(1e-300)
    C = C / typical
    gram, rhs = torch.einsum("s...a,s...b->...ab", C, C), torch.einsum("s...a,s...->...a", C, F)
    for j in range(n_modes):
        offsets = range(-(window // 2), window // 2 + 1)
        gram, rhs = (sum(shifted(M.unsqueeze(0), j, o, False)[0] for o in offsets) for M in (gram, rhs))
    shift = 1e-10 * gram.diagonal(dim1=-2, dim2=-1).mean() * torch.eye(C.shape[-1], dtype=U.dtype)
    c = torch.linalg.solve(gram + shift, rhs.unsqueeze(-1)).squeeze(-1) / typical
    weights = []
    for mode in range(n_modes):
        # The second differences along all other modes.
        seen = [unfold(c[..., 2 * j + 2].unsqueeze(0), mode) for j in range(n_modes) if j != mode]
        u = torch.linalg.svd(torch.cat(seen, dim=1), full_matrices=False)[0][:, 0]
        weights.append(u / u.mean())
    usable = all((a > 0.01).all() for a in weights)
    return weights if usable else [torch.ones_like(a) for a in weights]


def kronecker_sum(U, matrices):
    """U x_1 A_1 + ... + U x_m A_m."""
    return sum(modal_product(U, A, j - len(matrices)) for j, A in enumerate(matrices))


# Dense factors


def fit_dense_sum(F, U):
    """Matrices A_1, ..., A_m with F = U x_1 A_1 + ... + U x_m A_m, least squares of smallest norm.

    With the unfoldings of U orthonormalised, the equations of one mode alone are solved by a product; LSMR does the
    rest, in a number of steps that hardly depends on the sizes.

    Parameters
    ----------
    F, U : Tensors of shape (n_samples, n_1, ..., n_m)

    Returns
    -------
    list of Tensors of shape (n_j, n_j)
    """
    n_modes, sizes = U.ndim - 1, U.shape[1:]
    factors = [torch.linalg.qr(unfold(U, j).mT) for j in range(n_modes)]
    Q, R = [q.mT for q, _ in factors], [r for _, r in factors]
    shapes = [U.movedim(j + 1, 0).shape for j in range(n_modes)]
    counts = [n * len(q) for n, q in zip(sizes, Q, strict=True)]

    def forward(v):
        field = torch.zeros_like(U)
        for j, part in enumerate(v.split(counts)):
            field += (part.view(sizes[j], -1) @ Q[j]).view(shapes[j]).movedim(0, j + 1)
        return field

    def adjoint(field):
        return torch.cat([(unfold(field, j) @ Q[j].mT).reshape(-1) for j in range(n_modes)])

    solution = least_squares(forward, adjoint, F, sum(counts), max_iter=400)
    return [
        part.view(sizes[j], -1) @ torch.linalg.pinv(R[j].mT, rtol=1e-13)
        for j, part in enumerate(solution.split(counts))
    ]


def diagonalised(matrices, *, symmetric, weights=None, bases=None, with_inverse=False, levels="auto"):
    """Solution operator of a Kronecker sum, by the eigenbases of its matrices.

    Parameters
    ----------
    matrices : list of Tensors of shape (p_j, p_j)
    symmetric : bool
        Whether to take their symmetric parts; with `weights`, those of diag(a_j) A_j.
    weights : list of Tensors of shape (p_j,), default=None
        Factors of the rows, as in :func:`fit_weighted_local_sum`.
    bases : list of Tensors of shape (n_j, p_j), default=None
        Orthonormal bases that the matrices refer to.
    with_inverse : bool, default=False
        Whether to keep the Kronecker sum itself.
    levels : int or "auto" or one per mode, default="auto"
        Depth of the cluster trees of its factors.

    Returns
    -------
    DiagonalizedOperator
        Zero where the sum is singular.

    Raises
    ------
    numpy.linalg.LinAlgError
        If there is no well-conditioned eigenbasis.
    """
    n_modes = len(matrices)
    rows = weights or [torch.ones(len(A), dtype=A.dtype) for A in matrices]
    outputs, inputs, values, symmetrised = [], [], [], []
    for A, a in zip(matrices, rows, strict=True):
        if symmetric:
            root = a.sqrt()
            S = a[:, None] * A
            S = (S + S.mT) / 2
            values_j, V = torch.linalg.eigh(S / root[:, None] / root)
            X = V / root[:, None]
            Z = X
            symmetrised.append(S / a[:, None])
        else:
            values_j, X = torch.linalg.eig(A)
            if float(values_j.imag.abs().max()) <= 1e-12 * float(values_j.abs().max()):
                values_j, X = values_j.real, X.real
            if not float(torch.linalg.cond(X)) < 1e12:
                raise np.linalg.LinAlgError("An eigenbasis is too ill-conditioned.")
            Z = torch.linalg.inv(X).mT / a[:, None]
            symmetrised.append(A)
        outputs.append(X)
        inputs.append(Z)
        values.append(values_j)
    kind = torch.complex128 if any(v.is_complex() for v in values) else torch.float64
    total = outer_sum([v.to(kind) for v in values])
    regular = total.abs() > 1e-11 * total.abs().max()
    symbol = torch.where(regular, 1 / torch.where(regular, total, 1), 0)
    inverse = None
    if with_inverse:
        # In mode j the j-th term has the matrix, and all others have the weights alone.
        terms = [
            torch.stack([a[:, None] * (A if k == j else torch.eye(len(A), dtype=A.dtype)) for k in range(n_modes)])
            for j, (A, a) in enumerate(zip(symmetrised, rows, strict=True))
        ]
        if bases is not None:
            terms = [S @ term @ S.mT for S, term in zip(bases, terms, strict=True)]
        inverse = KroneckerProductSum.from_dense(terms, levels=levels)
    if bases is not None:
        outputs, inputs = ([S.to(X.dtype) @ X for S, X in zip(bases, side, strict=True)] for side in (outputs, inputs))
    return DiagonalizedOperator(outputs, inputs, symbol, inverse)


# Free symbols


def refine_basis(F, U, outputs, *, symmetric, max_iter=8, tol=1e-14):
    """Improve bases X_j such that U = (G o (F x_1 X_1⁻¹ ... x_m X_m⁻¹)) x_1 X_1 ... x_m X_m with a free symbol G.

    Gauss-Newton over the bases, of which the diagonal of X_j⁻¹ dX_j is held at zero because it only scales; for given
    bases the best symbol is known, and what it can take up is projected out (variable projection).

    Parameters
    ----------
    F, U : Tensors of shape (n_samples, p_1, ..., p_m)
    outputs : sequence of Tensors of shape (p_j, p_j)
        First guess of the bases, real.
    symmetric : bool
        Whether the bases are orthonormal.
    max_iter : int, default=8
        Largest number of steps.
    tol : float, default=1e-14
        Relative residual at which to stop.

    Returns
    -------
    bases : list of Tensors of shape (p_j, p_j)
    symbol : Tensor of shape (p_1, ..., p_m)
    energy : Tensor of the same shape
        Sum of squares of the inputs' coefficients: where it vanishes, the symbol is not known.
    """
    n_modes, sizes = F.ndim - 1, F.shape[1:]
    counts = [p * p for p in sizes]

    def expand(bases):
        dual = bases if symmetric else [torch.linalg.inv(X).mT for X in bases]
        H, W = (multilinear(M, [Z.mT for Z in dual]) for M in (F, U))
        energy = H.square().sum(0)
        known = energy > 1e-12 * energy.max()
        share = torch.where(known, 1 / torch.where(known, energy, 1), 0)
        G = (H * W).sum(0) * share
        return H, G, W - G * H, energy, share

    bases = list(outputs)
    H, G, r, energy, share = expand(bases)
    for _ in range(max_iter):
        size = r.norm()
        if not size > tol * U.norm():
            break
        V = G * H
        scales = [_rotation_scales(G, energy, j, symmetric) for j in range(n_modes)]

        def rotations(v, scales=scales):
            parts = zip(v.split(counts), scales, sizes, strict=True)
            return [free(part.view(p, p) * scale) for part, scale, p in parts]

        def free(E):
            E = E - torch.diag(E.diagonal())
            return (E - E.mT) / 2**0.5 if symmetric else E

        def beside(y, H=H, share=share):
            """What a change of the symbol cannot take up."""
            return y - H * ((H * y).sum(0) * share)

        def forward(v, H=H, G=G, V=V, rotations=rotations, beside=beside):
            E = rotations(v)
            return beside(sum(modal_product(V, e, j + 1) - G * modal_product(H, e, j + 1) for j, e in enumerate(E)))

        def adjoint(y, H=H, G=G, V=V, scales=scales, beside=beside):
            y = beside(y)
            return torch.cat(
                [
                    (free(unfold(y, j) @ unfold(V, j).mT - unfold(G * y, j) @ unfold(H, j).mT) * scales[j]).reshape(-1)
                    for j in range(n_modes)
                ]
            )

        step = rotations(least_squares(forward, adjoint, r, sum(counts), max_iter=120))
        for length in (1.0, 0.3, 0.1, 0.03):
            moved = [X + length * X @ E for X, E in zip(bases, step, strict=True)]
            moved = [_orthonormal(X) if symmetric else X / X.norm(dim=0) for X in moved]
            try:
                new = expand(moved)
            except torch.linalg.LinAlgError:
                continue
            if new[2].norm() < size:
                bases, (H, G, r, energy, share) = moved, new
                break
        else:
            break
        if r.norm() > 0.5 * size:
            break
    return bases, G, energy


def known_part(energy):
    """Where a symbol is known: indices that the inputs have excited."""
    return energy > _KNOWN * energy.max()


def _rotation_scales(G, energy, mode, symmetric):
    """Reciprocal effect of mixing basis vector a into b of one mode, as a matrix [a, b]."""
    g, e = (M.movedim(mode, 0).flatten(1) for M in (G, energy))
    effect = (e * g * g).sum(1) - 2 * g @ (e * g).mT + (g * g) @ e.mT
    effect = effect + effect.mT if symmetric else effect
    return (effect.clamp_min(0) + 1e-14 * effect.max() + 1e-300).rsqrt()


def _orthonormal(X):
    u, _, vh = torch.linalg.svd(X)
    return u @ vh


def complete_symbol(G, known, *, max_degree=8):
    """Symbol where it is not known: its reciprocal is a sum of functions of one index, plus a polynomial of these.

    For a function of commuting one-dimensional operators, such as a compact difference scheme, the reciprocal of the
    symbol is a smooth function of their eigenvalues. The sum gives the eigenvalues, and the polynomial what the sum
    leaves. Its degree is that beyond which the fit to what is known no longer improves.

    Parameters
    ----------
    G : Tensor of shape (p_1, ..., p_m)
    known : Tensor of bool, of the same shape
    max_degree : int, default=8

    Returns
    -------
    Tensor of the shape of G
        Zero in slices that are not known at all.
    """
    known = known & (G != 0)
    if known.all() or not known.any():
        return torch.where(known, G, 0)
    n_modes, sizes = G.ndim, G.shape
    index, weight = known.nonzero(), G[known]
    sums = torch.cat([torch.nn.functional.one_hot(index[:, j], p) for j, p in enumerate(sizes)], dim=1).to(G.dtype)

    def fit(columns):
        """Least squares for columns @ x = 1 / G, in the sense of relative errors."""
        A = columns * weight[:, None]
        size = A.norm(dim=0).clamp_min(1e-300)
        solution = torch.linalg.lstsq(A / size, torch.ones_like(weight)[:, None], rcond=1e-13, driver="gelsd").solution
        x = solution[:, 0] / size
        return x, float((A @ x - 1).norm()) / len(weight) ** 0.5

    x, residual = fit(sums)
    reciprocal, values = outer_sum(x.split(sizes)), [v - v.mean() for v in x.split(sizes)]
    for degree in range(2, max_degree + 1, 2):
        for _ in range(2):
            terms = _cross_terms(values, degree)
            if not terms or sums.shape[1] + len(terms) > len(weight) / 2:
                break
            candidate, new = fit(torch.cat([sums, torch.stack([t[known] for t in terms], dim=1)], dim=1))
            if new > 0.3 * residual and degree > 2:
                break
            values = [v - v.mean() for v in candidate[: sums.shape[1]].split(sizes)]
            if new < residual:
                residual, parts = new, candidate[: sums.shape[1]].split(sizes)
                reciprocal = outer_sum(parts) + sum(
                    c * t for c, t in zip(candidate[sums.shape[1] :], terms, strict=True)
                )
    reachable = torch.ones_like(known)
    for j in range(n_modes):
        reachable &= along(known.movedim(j, 0).flatten(1).any(1), j, n_modes)
    return torch.where(known, G, torch.where(reachable & (reciprocal != 0), 1 / reciprocal, 0))


def _cross_terms(values, degree):
    """Products of powers of the eigenvalues, of at least two modes, up to a total degree."""
    n_modes = len(values)
    scaled = [v / v.abs().max().clamp_min(1e-300) for v in values]
    shape = [len(v) for v in values]
    terms = []
    for powers in product(range(degree + 1), repeat=n_modes):
        if sum(powers) <= degree and sum(power > 0 for power in powers) > 1:
            term = torch.ones(shape, dtype=values[0].dtype)
            for j, power in enumerate(powers):
                term = term * along(scaled[j] ** power, j, n_modes)
            terms.append(term)
    return terms
