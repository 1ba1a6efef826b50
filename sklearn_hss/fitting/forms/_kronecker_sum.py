"""The inverse as a Kronecker sum of banded matrices, F = U x_1 A_1 + ... + U x_m A_m, as for separable equations.

It is linear in the matrices, so that very few samples determine it. With row weights, the equation may be multiplied by
a product of functions of one coordinate each (separable coefficients).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ...linalg import DiagonalizedOperator, KroneckerProductSum
from ...linalg._modes import along, modal_product, unfold
from .._form import EXACT, WORTHWHILE, Form, NotApplicable, OtherDimension
from .._least_squares import Point, difference_stencils, gauss_newton, lsmr_solution
from .._products import in_products

_WIDEST = 3
# Banded forms of fields with more points than this are fitted only on request.
_LARGE = 2**19
# Weight of the regularisation that makes neighbouring rows similar. For exact samples, it affects only coefficients
# that these do not determine. If the model does not fit, it is increased to a multiple of the misfit, within bounds. It
# is weaker for rows at the ends.
_ALIKE, _PER_MISFIT, _MOST_ALIKE, _AT_ENDS = 1e-9, 1e3, 0.1, 1e-2
# Square root of the ridge penalty of coefficients, at rounding level, and as a fraction of the misfit. Without it,
# undetermined combinations would be as large as the misfit divided by rounding.
_OPEN, _OPEN_PER_MISFIT = 1e-14, 1e-4
# Outputs at the ends below this fraction of the others are assumed to be those of a Dirichlet problem.
_SMALL = 0.2
# Relative residual of laws of single points above which matrices with row weights, and wider bands, are not tried.
_FAR, _UNRELATED = 0.3, 0.9
# Number of points of a coarser grid for a preliminary test, and the largest relative residual there.
_COARSE, _CLOSE = 4096, 0.05
# Misfit below which samples are nearly exact.
_ACCURATE = 1e-4


@dataclass(frozen=True)
class ProductForm(Form):
    """Base class of the inverse forms of fields of several dimensions, which are diagonal in a product basis."""

    kind: ClassVar[str] = "inverse"
    worthwhile: ClassVar[float] = 1.2

    def deliver(self, operator, samples, alpha=None):
        """As Kronecker products if `outer_rank` is given, otherwise with the factors of the inverse over trees."""
        options = self.options
        if options.outer_rank != "auto":
            return in_products(operator, samples, options)
        if operator.inverse is None:
            return operator
        dense = [W.to_dense() for W in operator.inverse.factors]
        inverse = KroneckerProductSum.from_dense(dense, levels=options.levels)
        return DiagonalizedOperator(operator.outputs, operator.inputs, operator.symbol, inverse)

    @property
    def symmetric(self):
        return self.is_symmetric

    is_symmetric: bool = False


def on_grid(samples, options):
    """Whether the map is symmetric; raises NotApplicable if no inverse form applies."""
    if len(samples.grid_in) < 2:
        raise OtherDimension("applies to fields of several dimensions, not of one")
    if not samples.is_square:
        raise NotApplicable(f"needs outputs on the grid of the inputs; got {samples.grid_out} and {samples.grid_in}")
    return samples.asymmetry < max(1e-8, 100 * samples.noise) if options.symmetric == "auto" else options.symmetric


@dataclass(frozen=True)
class KroneckerSum(ProductForm):
    """In several dimensions, the inverse as a Kronecker sum of banded matrices, as for separable equations."""

    w: int = 1
    periodic: bool = False

    solver: ClassVar[str] = "banded"
    effort: ClassVar[int] = 0
    completion: ClassVar[str] = "rows the samples do not determine are regularised towards their neighbours"

    @classmethod
    def path(cls, samples, options):
        """Growing bandwidths; an explicit rank is that of the factors, unless Kronecker products are requested."""
        symmetric = on_grid(samples, options)
        if options.solver == "auto" and samples.X[0].numel() > _LARGE:
            raise NotApplicable(f"is not tried for more than {_LARGE} points")
        free = options.rank == "auto" or options.outer_rank != "auto"
        widest = _WIDEST if free else min(options.rank // 2, _WIDEST)
        yield from cls.candidates(options, symmetric, widest, samples)

    @classmethod
    def candidates(cls, options, symmetric, widest, samples):
        best = math.inf
        if options.solver == "auto" and samples.X[0].numel() > 2 * _COARSE and thinned_misfit(samples, widest) > _CLOSE:
            raise NotApplicable("is not tried if the samples are far from those of a Kronecker sum")
        for w in range(1, widest + 1):
            error = yield cls(options, is_symmetric=symmetric, w=w)
            if error <= EXACT or not error * WORTHWHILE < best or (error > 1 and local_misfit(samples) > _UNRELATED):
                break
            best = error

    def fit(self, samples, start=None):
        planes = active_planes(samples)
        X, Y = samples.X, samples.Y
        bases = [torch.eye(n, dtype=X.dtype)[:, i] for n, i in zip(samples.grid_in, planes, strict=True)]
        few = samples.enough(sum(len(i) for i in planes) * (2 * self.w + 1), least=100_000)
        X, Y = few.X, few.Y
        for j, i in enumerate(planes):
            if len(i) < X.shape[j + 1]:
                X, Y = X.index_select(j + 1, i), Y.index_select(j + 1, i)
        matrices, weights = self.matrices(X, Y)
        return diagonalised(matrices, symmetric=self.symmetric, weights=weights, bases=bases, with_inverse=True)

    @property
    def half_bandwidth(self):
        return self.w

    def matrices(self, F, U):
        """The banded matrices, and weights of the rows."""
        return fit_local_sum(F, U, self.w, periodic=self.periodic), None

    def __str__(self):
        periodic = "periodic " if self.periodic else ""
        return f"inverse of a Kronecker sum of {periodic}{2 * self.w + 1}-point matrices"


@dataclass(frozen=True)
class WeightedKroneckerSum(KroneckerSum):
    """In several dimensions, the inverse as a Kronecker sum of banded matrices that is multiplied by one number per
    point of each axis, as for separable coefficients.
    """

    effort: ClassVar[int] = 2

    @classmethod
    def candidates(cls, options, symmetric, widest, samples):
        """The narrowest candidate, if a local law is close to the samples."""
        if not widest or local_misfit(samples) > _FAR:
            raise NotApplicable("is not tried if the samples are far from those of a local law")
        yield cls(options, is_symmetric=symmetric)

    def matrices(self, F, U):
        return fit_weighted_local_sum(F, U, self.w)

    def __str__(self):
        return super().__str__() + " with row weights"


@dataclass(frozen=True)
class PeriodicKroneckerSum(KroneckerSum):
    """In several dimensions, the inverse as a Kronecker sum of periodic banded matrices."""

    periodic: bool = True

    effort: ClassVar[int] = 2

    @classmethod
    def candidates(cls, options, symmetric, widest, samples):
        """No candidates if the outputs vanish at all ends, where periodicity has no effect."""
        U = samples.Y
        ends = torch.cat([unfold(U, j)[[0, -1]].flatten() for j in range(U.ndim - 1)])
        if float(ends.square().mean()) < _SMALL**2 * float(U.square().mean()):
            raise NotApplicable("is not tried if the outputs vanish at all ends")
        yield from super().candidates(options, symmetric, widest, samples)


def active_planes(samples):
    """Range of indices per mode, up to the ends where all outputs vanish, as they do on Dirichlet boundaries."""
    planes = []
    for j, n in enumerate(samples.grid_out):
        alive = torch.nonzero(~samples.vanishing.movedim(j, 0).flatten(1).all(1)).squeeze(-1)
        planes.append(torch.arange(int(alive[0]), int(alive[-1]) + 1) if len(alive) else torch.arange(n))
    return planes


def fit_local_sum(F, U, half_bandwidth, *, periodic=False):
    """Banded matrices A_1, ..., A_m with F = U x_1 A_1 + ... + U x_m A_m, by least squares.

    Rows the samples do not determine are regularised towards their neighbours. Values beyond an end are zero or, if
    `periodic`, those at the other end.
    """
    columns = _difference_columns(U, half_bandwidth, periodic)
    return _banded(_solve_rowwise(columns, F), periodic)


def fit_weighted_local_sum(F, U, half_bandwidth, *, periodic=False, max_iter=20):
    """Fit with row weights: F = (a_1 ⊗ ... ⊗ a_m) o (U x_1 A_1 + ... + U x_m A_m), for separable coefficients.

    For -div(a(x) b(y) grad u) = f, the first mode has the weights a and the matrix A_1 = a⁻¹ (a u')'. Matrices and
    weights are fitted together by Gauss-Newton, starting from :func:`guess_weights`. Returns the matrices and the
    weights.
    """
    n_modes, differences = U.ndim - 1, _difference_columns(U, half_bandwidth, periodic)

    def weighted(columns, weights):
        M = outer_product(weights)
        return [[M * C for C in of_mode] for of_mode in columns]

    def evaluate(found):
        matrices, weights = found
        V = kronecker_sum(U, matrices)
        return Point(found, F - outer_product(weights) * V, V)

    def linearise(point):
        weights = point.x[1]
        columns = [
            [*of_mode, outer_product(weights) * point.extra / along(a, j, n_modes)]
            for j, (of_mode, a) in enumerate(zip(weighted(differences, weights), weights, strict=True))
        ]
        # The misfit is due to inaccurate weights, and must not increase the regularisation of the rows.
        coefficients = _solve_rowwise(columns, F, most_alike=1e-5, centred=True)
        steps = [c[-1] / a for c, a in zip(coefficients, weights, strict=True)]
        # A constant factor is assigned to the matrices, not to the weights.
        means = [step.mean() for step in steps]
        coefficients = [c[:-1] / (1 - sum(means)) for c in coefficients]
        # Weights are at most halved or doubled in a step.
        weights = [a * (1 + step - mean).clamp(0.5, 2) for a, step, mean in zip(weights, steps, means, strict=True)]
        moved = _banded(coefficients, periodic), weights
        return lambda damping: moved

    weights = guess_weights(F, U, periodic=periodic)
    matrices = _banded(_solve_rowwise(weighted(differences, weights), F, most_alike=1e-5), periodic)
    found = gauss_newton(
        evaluate, linearise, (matrices, weights), float(F.norm()), max_iter=max_iter, tol=1e-13, slow=0.9, tries=1
    )
    return found.x


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
    """Vectors c_jk along mode j with F = sum c_jk o columns[j][k], least squares; if `centred`, the last are centred.

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
    # Weights and matrices are defined up to constant factors, which the penalties would drive to extremes.
    means = F.new_zeros(n_modes if centred else 0, len(gram))
    ends_of_modes = np.cumsum([len(of_mode) * n for of_mode, n in zip(columns, sizes, strict=True)])
    for row, end, n in zip(means, ends_of_modes, sizes, strict=False):
        row[end - n : end] = (largest / n).sqrt()
    # The factor of the normal equations is only a preconditioner, so their squared condition number is harmless.
    shift = 1e-14 * len(gram) * largest * torch.eye(len(gram), dtype=F.dtype)

    def solution(strength, ridge, max_iter):
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
        return solve(lsmr_solution(preconditioned, preconditioned_adjoint, target, len(gram), max_iter=max_iter))

    def misfit(c):
        return float((F - forward(c)).norm() / F.norm())

    # The preconditioner is nearly the inverse, so many iterations are needed only for exact samples.
    c = solution(_ALIKE, _OPEN, 15)
    left = misfit(c)
    if 1e-13 < left < _ACCURATE:
        c = solution(_ALIKE, _OPEN, 120)
        left = misfit(c)
    if left > 1e-10:
        # The misfit limits the accuracy to which coefficients are determined.
        strength, ridge = min(_PER_MISFIT * left, most_alike), min(_OPEN_PER_MISFIT * left, _OPEN_PER_MISFIT)
        c = solution(strength, ridge, 15 if left > _ACCURATE else 120)
    parts = iter(c.split(lengths))
    return [torch.stack([next(parts) / s for s in of_mode]) for of_mode in scales]


def _local_gram(columns, sizes):
    """Gram matrix of the columns of :func:`fit_local_sum`: columns of one mode overlap in one row only."""
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

    If the coefficients are separable, the coupling to the next point along a mode is the product of a function of the
    coordinate of that mode and the weights of all others, which are therefore its leading singular vectors. If the
    stencils give no admissible weights, these are ones.
    """
    n_modes = U.ndim - 1
    c, _ = local_stencils(F, U, periodic=periodic, window=window)
    weights = []
    for mode in range(n_modes):
        # The second differences along all other modes.
        seen = [unfold(c[..., 2 * j + 2].unsqueeze(0), mode) for j in range(n_modes) if j != mode]
        u = torch.linalg.svd(torch.cat(seen, dim=1), full_matrices=False)[0][:, 0]
        weights.append(u / u.mean())
    usable = all((a > 0.01).all() for a in weights)
    return weights if usable else [torch.ones_like(a) for a in weights]


def thinned_misfit(samples, w):
    """Relative residual of a sum of matrices with w neighbours, at points of a coarser grid."""
    few, n_modes = samples.first(4), len(samples.grid_in)
    F, columns = few.X, _difference_columns(few.Y, w, False)
    for j, n in enumerate(samples.grid_in, 1):
        kept = torch.linspace(0, n - 1, min(n, int(_COARSE ** (1 / n_modes)))).long()
        F, columns = F.index_select(j, kept), [[C.index_select(j, kept) for C in of_mode] for of_mode in columns]
    coefficients = _solve_rowwise(columns, F)
    left = F - sum(
        along(c, j, n_modes) * C
        for j, of_mode in enumerate(columns)
        for c, C in zip(coefficients[j], of_mode, strict=True)
    )
    return float(left.norm()) / (float(F.norm()) or 1.0)


def local_misfit(samples):
    """Relative residual of :func:`local_stencils` for some of the samples."""
    few = samples.enough(0, least=100_000)
    return samples.kept("local misfit", lambda: local_stencils(few.X, few.Y)[1])


def local_stencils(F, U, *, periodic=False, window=3):
    """Coefficients of u and its first and second differences at every point, fitted in a window around it.

    Returns the coefficients, (n_1, ..., n_m, 2 m + 1), and the relative residual of F.
    """
    n_modes, columns = U.ndim - 1, _difference_columns(U, 1, periodic)
    C = torch.stack([U, *(C for of_mode in columns for C in of_mode[1:])], dim=-1)
    typical = C.square().flatten(0, -2).mean(0).sqrt().clamp_min(1e-300)
    C = C / typical
    gram, rhs = torch.einsum("s...a,s...b->...ab", C, C), torch.einsum("s...a,s...->...a", C, F)
    for j in range(n_modes):
        offsets = range(-(window // 2), window // 2 + 1)
        gram, rhs = (sum(shifted(M.unsqueeze(0), j, o, False)[0] for o in offsets) for M in (gram, rhs))
    shift = 1e-10 * gram.diagonal(dim1=-2, dim2=-1).mean() * torch.eye(C.shape[-1], dtype=U.dtype)
    c = torch.linalg.solve(gram + shift, rhs.unsqueeze(-1)).squeeze(-1)
    misfit = float((F - (C * c).sum(-1)).norm()) / (float(F.norm()) or 1.0)
    return c / typical, misfit


def kronecker_sum(U, matrices):
    """U x_1 A_1 + ... + U x_m A_m."""
    return sum(modal_product(U, A, j - len(matrices)) for j, A in enumerate(matrices))


def shifted(U, mode, offset, periodic):
    """Samples of the neighbours at an offset along a mode; zero beyond the ends, or from the other end."""
    if periodic:
        return torch.roll(U, -offset, mode + 1)
    result, n = torch.zeros_like(U), U.shape[mode + 1]
    if abs(offset) < n:
        kept = n - abs(offset)
        result.narrow(mode + 1, max(-offset, 0), kept).copy_(U.narrow(mode + 1, max(offset, 0), kept))
    return result


def diagonalised(matrices, *, symmetric, weights=None, bases=None, with_inverse=False):
    """Solution operator of a Kronecker sum, by the eigenbases of its matrices; zero where the sum is singular.

    With `symmetric`, it is that of the symmetric parts of the matrices, or of diag(a_j) A_j with `weights` a_j, factors
    of the rows as in :func:`fit_weighted_local_sum`. The matrices refer to orthonormal `bases` (n_j, p_j), if given.
    `with_inverse` retains the Kronecker sum itself. Raises LinAlgError if there is no well-conditioned eigenbasis.
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
        inverse = KroneckerProductSum.from_dense(terms, levels=0)
    if bases is not None:
        outputs, inputs = ([S.to(X.dtype) @ X for S, X in zip(bases, side, strict=True)] for side in (outputs, inputs))
    return DiagonalizedOperator(outputs, inputs, symbol, inverse)


def outer_sum(vectors):
    """Tensor of the sums v_1[i] + v_2[j] + ..."""
    return sum(along(v, j, len(vectors)) for j, v in enumerate(vectors))


def outer_product(vectors):
    """Tensor of the products v_1[i] v_2[j] ..."""
    result = torch.ones((), dtype=vectors[0].dtype)
    for j, v in enumerate(vectors):
        result = result * along(v, j, len(vectors))
    return result
