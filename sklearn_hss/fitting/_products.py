"""Sums of Kronecker products as lists of factors: Y = sum_k X x_1 W1⁽ᵏ⁾ ... x_m Wm⁽ᵏ⁾.

The map is linear in the factors of any one mode, so :func:`grow_terms` alternates between the modes and adds terms.
:func:`polish_terms` improves all of them together. If there are sufficiently many samples, :func:`least_squares_terms`
extracts the terms from the unstructured least-squares map; :func:`symbol_terms` extracts them from a map that is
diagonal in a product basis. Terms are lists of tensors (outer_rank, q_j, p_j), one per mode.
"""

import torch

from ..linalg import HSSMatrix, KroneckerProductSum
from ..linalg._cluster_tree import split_leaves
from ..linalg._modes import along, modal_product, multilinear, per_mode, unfold
from ._least_squares import Point, gauss_newton, lsmr_solution, mode_basis
from ._samples import relative_error

# Entries of a Jacobian up to which Gauss-Newton steps are dense.
_DENSE = 500_000
# Relative size above which directions of the inputs are determined by the samples.
_SEEN = 1e-8
# Equations per unknown in a fit to products with a map.
_EQUATIONS = 20
# Terms with an error below the first use all directions of the inputs; others are restricted to those above the
# relative sizes of the second if this increases the error by at most the third factor and reduces the factors by more
# than the fourth.
_FINE, _COARSE, _HARDLY, _SMALLER = 1e-4, (1e-2, 1e-3), 1.5, 10.0


def in_products(operator, samples, options):
    """Approximate a map by Kronecker products that are accurate for inputs like those of the samples.

    For a map that is diagonal in a product basis, these are terms of its symbol; otherwise they are fitted to the
    samples, and to products with the map if there are too few samples.
    """
    outer_rank, generator = options.outer_rank, torch.Generator().manual_seed(0)
    symbol = getattr(operator, "symbol", None)
    if symbol is not None:
        bases = samples.bases(1e-11, of_inputs=True)
        x = alike(samples, 4 * outer_rank + 8, generator)
        y = operator.apply(x)
    else:
        seen = samples.bases(1e-11, of_inputs=True)
        n_unknowns = outer_rank * sum(P.shape[1] * n for P, n in zip(seen, samples.grid_out, strict=True))
        n = -(-_EQUATIONS * n_unknowns // samples.Y[0].numel())
        few = samples.first(n)
        drawn = alike(samples, n - few.n_samples, generator)
        x, y = torch.cat([few.X, drawn]), torch.cat([few.Y, operator.apply(drawn)])
        bases = [mode_basis([x], j, 1e-11)[0] for j in range(x.ndim - 1)]
    if symbol is None or symbol.is_complex():
        W = grow_terms(multilinear(x, [P.mT for P in bases]), y, outer_rank, generator=generator)
        dense = [w @ P.mT for w, P in zip(W, bases, strict=True)]
    else:
        coefficients = multilinear(samples.X, [Z.mT for Z in operator.inputs])
        sizes = [unfold(coefficients, j).square().mean(1).sqrt() for j in range(x.ndim - 1)]
        dense = symbol_terms(operator, outer_rank, sizes)
    return as_factors(dense, x, y, options, samples.noise)


def alike(samples, n_drawn, generator):
    """Random inputs with the same covariance in every mode as those of the samples, zero where all of these are."""
    X = samples.X
    bases = samples.bases(1e-11, of_inputs=True)
    compressed = multilinear(X, [P.mT for P in bases])
    spreads = [unfold(compressed, j).square().mean(1).sqrt() for j in range(X.ndim - 1)]
    z = torch.randn(n_drawn, *map(len, spreads), dtype=X.dtype, generator=generator)
    x = multilinear(z, [P * s / s.max() for P, s in zip(bases, spreads, strict=True)])
    return torch.where(X.abs().amax(0) > 0, x, 0)


def as_factors(dense, x, y, options, noise):
    """Kronecker products with factors of the requested rank and levels, fitted to samples if this truncates them.

    A given number of terms that is not accurate may fit insignificant small directions of the inputs with large
    coefficients that cancel. They are refitted without these directions if this hardly increases the error.
    """

    def made(dense, tol):
        if options.rank == "auto":
            return KroneckerProductSum.from_dense(dense, levels=options.levels)
        cutoff = max(noise, tol**2)
        return KroneckerProductSum(
            project_terms(dense, x, y, rank=options.rank, levels=options.levels, tol=cutoff, directions=tol)
        )

    found = made(dense, 1e-12)
    error, size = relative_error(found.apply(x), y), largest_factor(found)
    for tol in _COARSE if options.outer_rank != "auto" and error > _FINE else ():
        spans = [P * s for P, s in (mode_basis([x], j, tol) for j in range(x.ndim - 1))]
        whitening = [torch.linalg.pinv(span).mT for span in spans]
        W, compressed = [w @ P for w, P in zip(dense, spans, strict=True)], multilinear(x, [P.mT for P in whitening])
        for _ in range(3):
            W = alternate(W, compressed, y)
        coarse = made([w @ P.mT for w, P in zip(W, whitening, strict=True)], tol)
        if _SMALLER * largest_factor(coarse) < size and relative_error(coarse.apply(x), y) <= _HARDLY * error:
            return coarse
    return found


def largest_factor(products):
    """The largest norm of a factor."""
    return max(float(W.to_dense().flatten(1).norm(dim=1).max()) for W in products.factors)


def apply_terms(W, x):
    """The map of the terms, on samples (n_samples, p_1, ..., p_m)."""
    result = x.new_zeros(len(x), *(w.shape[1] for w in W))
    for factors in zip(*W, strict=True):
        result = result + multilinear(x, factors)
    return result


def others(W, x, mode):
    """Samples times the factors of all modes but one, for each term: (outer_rank, n_samples, ..., p_mode, ...)."""
    result = []
    for factors in zip(*W, strict=True):
        z = x
        for j, factor in enumerate(factors):
            if j != mode:
                z = modal_product(z, factor, j + 1)
        result.append(z)
    return torch.stack(result)


def alternate(W, x, y, *, ridge=0.0, modes=None):
    """One sweep of alternating least squares over all or the given modes.

    Samples x and y are (n_samples, p_1, ..., p_m) and (n_samples, q_1, ..., q_m); `ridge` is a penalty on the factors,
    relative to the size of their regressors.
    """
    W = list(W)
    for j in range(len(W)) if modes is None else modes:
        Z = others(W, x, j).movedim(j + 2, 1).flatten(2).flatten(0, 1)
        size = Z.norm(dim=1).clamp_min(1e-300)
        gram = (Z @ Z.mT) / size / size[:, None]
        shift = (ridge + 1e-14 * len(gram)) * torch.eye(len(gram), dtype=x.dtype)
        L = torch.linalg.cholesky(gram + shift)
        solution = torch.cholesky_solve((Z @ unfold(y, j).mT) / size[:, None], L) / size[:, None]
        W[j] = solution.unflatten(0, (len(W[j]), -1)).mT.contiguous()
        W = balanced(W) if modes is None else W
    return W


def balanced(W):
    """Terms whose factors all have the same norm."""
    norms = torch.stack([w.flatten(1).norm(dim=1) for w in W]).clamp_min(1e-300)
    mean = norms.log().mean(0).exp()
    return [w * (mean / norm)[:, None, None] for w, norm in zip(W, norms, strict=True)]


def grow_terms(x, y, outer_rank, *, start=None, ridge=0.0, sweeps=3, generator=None):
    """Fit up to `outer_rank` terms by alternating least squares, adding terms until they reproduce the samples.

    New terms are fitted to the residual of the others, then all are fitted together in `sweeps` sweeps. The number of
    new terms is half of the existing number, and at least one. Each starts from random values, a single one from two
    different ones; `start` contains terms from which to continue.
    """
    sizes = list(zip(y.shape[1:], x.shape[1:], strict=True))
    W = start or [x.new_zeros(0, *size) for size in sizes]
    while len(W[0]) < outer_rank:
        left = y - apply_terms(W, x)
        if float(left.norm()) <= 1e-14 * float(y.norm()):
            break  # the residual is negligible
        n_new = min(outer_rank - len(W[0]), max(len(W[0]) // 2, 1))
        starts = []
        for _ in range(2 if n_new == 1 else 1):
            new = [torch.randn(n_new, *size, dtype=x.dtype, generator=generator) for size in sizes]
            for _ in range(5):
                new = alternate(new, x, left, ridge=ridge)
            starts.append(new)
        new = min(starts, key=lambda new: float((left - apply_terms(new, x)).norm()))
        W = [torch.cat([w, added]) for w, added in zip(W, new, strict=True)]
        for _ in range(sweeps):
            W = alternate(W, x, y, ridge=ridge)
    return W


def polish_terms(W, x, y, *, symmetric=False, thorough=False, tol=1e-13):
    """Improve all terms together by Gauss-Newton steps, solved densely if the Jacobian is small, otherwise by LSMR.

    With `symmetric`, all factors are symmetric, which halves the unknowns and the required samples. The factors of a
    symmetric map are either symmetric or occur in pairs that are not. A `thorough` polish may take ten times as long.
    """
    sizes, modes = [w.numel() for w in W], range(len(W))
    dense = y.numel() * sum(sizes) <= (10 if thorough else 1) * _DENSE

    def allowed(changes):
        return [(w + w.mT) / 2 for w in changes] if symmetric else changes

    def unpacked(v):
        return allowed([part.view(w.shape) for part, w in zip(v.split(sizes), W, strict=True)])

    def packed(changes):
        return torch.cat([change.reshape(-1) for change in allowed(changes)])

    def jacobian(w, z, mode):
        """Columns of the entries of the factors of a mode."""
        R, q, p = w.shape
        J = z.new_zeros(q, z.shape[1], q, R, p)
        J[range(q), :, range(q)] = z.mT.unflatten(1, (R, p))
        J = J.view(*y.movedim(mode + 1, 0).shape, q, R, p).movedim(0, mode + 1).reshape(-1, q, R, p).movedim(2, 1)
        return ((J + J.mT) / 2 if symmetric else J).flatten(1)

    def linearise(point):
        # Mode by mode, the map of the changes is one product with the samples times all other factors.
        Z = [others(point.x, x, j).movedim(j + 2, 1).flatten(2).flatten(0, 1) for j in modes]
        scale = sum(float(z.square().sum()) for z in Z) ** 0.5 / len(Z)

        def forward(v):
            total = torch.zeros_like(y)
            for j, change in enumerate(unpacked(v)):
                moved = change.movedim(0, 1).flatten(1) @ Z[j]
                total += moved.view(y.movedim(j + 1, 0).shape).movedim(0, j + 1)
            return total

        def adjoint(r):
            return packed([(unfold(r, j) @ Z[j].mT).unflatten(1, W[j].shape[::2]).movedim(1, 0) for j in modes])

        if dense:
            J = torch.cat([jacobian(W[j], Z[j], j) for j in modes], dim=1)
            gram, gradient = J.mT @ J, J.mT @ point.residual.reshape(-1)
            typical = gram.diagonal().mean() * torch.eye(len(gram), dtype=x.dtype)

        def propose(damping):
            if dense:
                L, failed = torch.linalg.cholesky_ex(gram + damping * typical)
                if failed:
                    return None
                step = torch.cholesky_solve(gradient.unsqueeze(-1), L).squeeze(-1)
            else:
                step = lsmr_solution(forward, adjoint, point.residual, sum(sizes), damp=damping * scale, max_iter=150)
            return balanced([w + change for w, change in zip(point.x, unpacked(step), strict=True)])

        return propose

    def evaluate(W):
        return Point(W, y - apply_terms(W, x))

    patient = {"max_iter": 60, "slow": 0.98, "tries": 8}
    effort = patient if dense or thorough else {"max_iter": 30, "slow": 0.9, "tries": 3}
    return gauss_newton(evaluate, linearise, allowed(W), float(y.norm()), tol=tol, least=1e-15, **effort).x


def rearranged_map(x, y, *, alpha=0.0):
    """Singular value decomposition of the least-squares (ridge) map, rearranged by modes.

    The samples have two modes; returns left (q_1 p_1, k), s (k,) and right (k, q_2 p_2).
    """
    (p1, p2), (q1, q2) = x.shape[1:], y.shape[1:]
    u, s, vh = torch.linalg.svd(x.flatten(1), full_matrices=False)
    kept = s > 1e-12 * s[:1]
    M = (vh.mT * torch.where(kept, s / (s * s + alpha).clamp_min(1e-300), 0)) @ (u.mT @ y.flatten(1))  # (p, q)
    return torch.linalg.svd(M.view(p1, p2, q1, q2).permute(2, 0, 3, 1).reshape(q1 * p1, q2 * p2), full_matrices=False)


def least_squares_terms(x, y, outer_rank, pairs):
    """Terms of the :func:`rearranged_map`: the best ones for white inputs (Van Loan and Pitsianis 1993)."""
    left, s, right = pairs
    root = s[:outer_rank].sqrt()
    W = left[:, :outer_rank].mT * root[:, None], right[:outer_rank] * root[:, None]
    return [w.reshape(-1, q, p) for w, q, p in zip(W, y.shape[1:], x.shape[1:], strict=True)]


def symbol_terms(operator, outer_rank, sizes, *, n_sweeps=300):
    """Terms of a map that is diagonal in a product basis, from an SVD (CP decomposition in 3-D) of its real symbol.

    The terms are optimal for inputs whose coefficients per mode have the `sizes`, a list of vectors (p_j,).
    """
    G = operator.symbol
    sizes = [size / size.max() for size in sizes]
    seen = [size > _SEEN for size in sizes]
    T = G
    for j, (size, mask) in enumerate(zip(sizes, seen, strict=True)):
        T = T * along(size * mask, j, G.ndim)
    if G.ndim == 2:
        u, s, vh = torch.linalg.svd(T, full_matrices=False)
        vectors = [u[:, :outer_rank] * s[:outer_rank].sqrt(), vh[:outer_rank].mT * s[:outer_rank].sqrt()]
    else:
        vectors = cp_decomposition(T, outer_rank, n_sweeps=n_sweeps)
    vectors = [
        torch.where(mask[:, None], v / torch.where(mask, size, 1)[:, None], 0)
        for v, size, mask in zip(vectors, sizes, seen, strict=True)
    ]
    if G.ndim == 2:
        # Directions without inputs: ridge regression of their part of the symbol on the terms.
        weights = s[:outer_rank] / (s[:outer_rank] + _SEEN**0.5 * s[0])
        left = (G * (sizes[1] * seen[1])) @ vh[:outer_rank].mT * (weights / s[:outer_rank].clamp_min(1e-300).sqrt())
        right = (
            (G * (sizes[0] * seen[0])[:, None]).mT
            @ u[:, :outer_rank]
            * (weights / s[:outer_rank].clamp_min(1e-300).sqrt())
        )
        vectors = [
            torch.where(mask[:, None], v, extended)
            for v, extended, mask in zip(vectors, (left, right), seen, strict=True)
        ]
    return [
        torch.einsum("ip,pk,jp->kij", X, v, Z)
        for X, v, Z in zip(operator.outputs, vectors, operator.inputs, strict=True)
    ]


def cp_decomposition(T, rank, *, n_sweeps=300):
    """Vectors (p_j, rank) of a sum of `rank` outer products close to a tensor, by alternating least squares.

    Terms are added one at a time, each followed by a tenth of the sweeps.
    """
    n_modes, generator = T.ndim, torch.Generator().manual_seed(0)
    letters = "abcdefgh"[:n_modes]
    expand = ",".join(f"{letter}k" for letter in letters) + "->" + letters

    def sweep(vectors, target):
        vectors = list(vectors)
        for j in range(n_modes):
            rest = [v for i, v in enumerate(vectors) if i != j]
            gram = torch.ones((), dtype=T.dtype)
            for v in rest:
                gram = gram * (v.mT @ v)
            names = [f"{letter}k" for i, letter in enumerate(letters) if i != j]
            rhs = torch.einsum(f"{letters},{','.join(names)}->{letters[j]}k", target, *rest)
            gram = gram + 1e-14 * gram.diagonal().mean() * torch.eye(len(gram), dtype=T.dtype)
            vectors[j] = torch.linalg.solve(gram, rhs.mT).mT
            norms = torch.stack([v.norm(dim=0) for v in vectors]).clamp_min(1e-300)
            mean = norms.log().mean(0).exp()
            vectors = [v * (mean / norm) for v, norm in zip(vectors, norms, strict=True)]
        return vectors

    vectors = [T.new_zeros(p, 0) for p in T.shape]
    for k in range(rank):
        left = T - torch.einsum(expand, *vectors) if k else T
        term = [torch.rand(p, 1, dtype=T.dtype, generator=generator) for p in T.shape]
        for _ in range(10):
            term = sweep(term, left)
        vectors = [torch.cat([v, new], dim=1) for v, new in zip(vectors, term, strict=True)]
        for _ in range(n_sweeps if k == rank - 1 else n_sweeps // 10):
            vectors = sweep(vectors, T)
    return vectors


def project_terms(W, x, y, *, rank, levels, tol=1e-15, directions=1e-12, rounds=2):
    """Truncate factors on the grids to HSS matrices of a given rank, and refit each mode to the truncated others.

    `x` and `y` are samples of the target map and `tol` is the relative precision of the factors; directions of the
    inputs of a relative size below `directions` are ignored. Each mode is refitted `rounds` times; the best result is
    returned, one batch of matrices per mode.
    """
    depths = per_mode(levels, len(W))
    bases = [mode_basis([x], j, directions) for j in range(len(W))]
    spans = [P * s for P, s in bases]
    factors = [truncated(w, P, rank, depth, tol) for w, P, depth in zip(W, spans, depths, strict=True)]
    dense = [A.to_dense() for A in factors]
    best, best_error = factors, float((y - apply_terms(dense, x)).norm())
    for _ in range(rounds):
        for j, depth in enumerate(depths):
            if best_error < 1e-12 * float(y.norm()):
                return best
            # In the directions of the inputs, since the samples do not determine the others.
            P = bases[j][0]
            inside = [A @ P if i == j else A for i, A in enumerate(dense)]
            w = alternate(inside, modal_product(x, P.mT, j + 1), y, modes=[j])[j] @ P.mT
            factors = list(factors)
            factors[j] = truncated(w, spans[j], rank, depth, tol)
            dense[j] = factors[j].to_dense()
            error = float((y - apply_terms(dense, x)).norm())
            if error < best_error:
                best, best_error = list(factors), error
    return best


def truncated(w, span, rank, levels, tol=1e-15):
    """HSS matrices of a given rank close to dense matrices w, in particular on the span of the inputs.

    The columns of `span` are directions of the inputs, in their typical sizes. The diagonal blocks compensate for the
    truncation error there, exactly if the inputs have no more directions than a leaf has points. Coefficients that are
    too large for their relative precision `tol` are avoided.
    """
    A = HSSMatrix.from_dense(w, tol=1e-14, rank=rank, levels=levels)
    if A.levels == 0:
        return A
    # Sines on a part of the interval are nearly dependent; the amplified coefficients must not be lost in rounding.
    cutoff = 1e-9 if tol < 1e-12 else tol**0.5
    lost = split_leaves(w @ span - A @ span, A.row_tree)
    change = lost @ torch.linalg.pinv(split_leaves(span, A.col_tree), rtol=cutoff)
    return HSSMatrix(A.row_tree, A.col_tree, [A.D[0] + change, *A.D[1:]], A.U, A.V)
