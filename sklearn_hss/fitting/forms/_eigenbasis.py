"""The inverse in the subspaces that the samples span: as a Kronecker sum of arbitrary matrices, or with a free symbol.

A free symbol covers operators that are diagonal in a product of bases without being a Kronecker sum, such as compact
difference schemes.
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch

from ...linalg import DiagonalizedOperator
from ...linalg._modes import along, modal_product, multilinear, unfold
from .._form import NotApplicable
from .._least_squares import Point, gauss_newton, lsmr_solution
from ._kronecker_products import tolerance
from ._kronecker_sum import ProductForm, diagonalised, on_grid, outer_sum

# Symbols are determined where the inputs have at least this fraction of their largest energy.
_KNOWN = 1e-6
# Errors of the Kronecker sum between which a free symbol may be better.
_GOOD, _POOR = 1e-10, 0.5
# Maximal product of the count of numbers in the samples and of the sizes of their modes for the refinement of a basis.
_REFINED = 2 * 10**7
# The same limit for one sample, above which a refinement would take minutes.
_LARGEST = 4 * 10**6


@dataclass(frozen=True)
class Eigenbasis(ProductForm):
    """In several dimensions, the inverse as a Kronecker sum of arbitrary matrices in the span of the samples, or a map
    that is diagonal in a product basis.
    """

    free: bool = False

    solver: ClassVar[str] = "eigenbasis"
    effort: ClassVar[int] = 1
    everywhere: ClassVar[bool] = False
    worthwhile: ClassVar[float] = 1.0
    of_inputs: ClassVar[bool] = False

    @classmethod
    def path(cls, samples, options):
        symmetric = on_grid(samples, options)
        if options.rank != "auto" and options.outer_rank == "auto":
            raise NotApplicable("has no factors of a given rank; use rank='auto', or outer_rank for products")
        if cls.of_inputs:
            own, common = (samples.bases(tolerance(samples, options), of_inputs=inputs) for inputs in (True, False))
            if all(P.shape[1] == S.shape[1] for P, S in zip(own, common, strict=True)):
                raise NotApplicable("needs inputs that span fewer dimensions than the outputs")
        error = yield cls(options, is_symmetric=symmetric)
        if _GOOD < error < _POOR:
            yield cls(options, is_symmetric=symmetric, free=True)

    def fit(self, samples, start=None):
        bases = samples.bases(tolerance(samples, self.options), of_inputs=self.of_inputs)
        sizes = [S.shape[1] for S in bases]
        few = samples.enough(sum(p * p for p in sizes), 15, least=150_000, size=math.prod(sizes))
        f, u = (multilinear(M, [S.mT for S in bases]) for M in (few.X, few.Y))
        if not self.free:
            return diagonalised(fit_dense_sum(f, u), symmetric=self.symmetric, bases=bases, with_inverse=True)
        if f[0].numel() * sum(f.shape[1:]) > _LARGEST:
            raise NotApplicable("is not tried with a free symbol if the samples span so large a space")
        eigen = self.first_guess(bases, start)
        if eigen is None:
            eigen = diagonalised(fit_dense_sum(f, u), symmetric=self.symmetric).outputs
        if any(X.is_complex() for X in eigen):
            raise NotApplicable("needs real eigenvalues for a free symbol")
        eigen = [_orthonormal(X) for X in eigen] if self.symmetric else eigen
        n_samples = max(_REFINED // (f[0].numel() * sum(f.shape[1:])), 2)
        outputs, symbol, energy = refine_basis(f[:n_samples], u[:n_samples], eigen, symmetric=self.symmetric)
        symbol = extrapolated_symbol(symbol, known_part(energy))
        inputs = outputs if self.symmetric else [torch.linalg.inv(E).mT for E in outputs]
        expanded = ([S @ E for S, E in zip(bases, side, strict=True)] for side in (outputs, inputs))
        return DiagonalizedOperator(next(expanded), next(expanded), symbol)

    @staticmethod
    def first_guess(bases, start):
        """Eigenbases of an earlier fit in given bases, if their sizes match; otherwise None."""
        if start is None or any(S.shape[1] != X.shape[1] for S, X in zip(bases, start.outputs, strict=True)):
            return None
        return [S.to(X.dtype).mT @ X for S, X in zip(bases, start.outputs, strict=True)]

    def __str__(self):
        kind = "map with a free symbol" if self.free else "inverse of a Kronecker sum"
        return f"{kind} in the span of the {'inputs' if self.of_inputs else 'samples'}"


@dataclass(frozen=True)
class InputEigenbasis(Eigenbasis):
    """In several dimensions, either of these maps in the span of the inputs alone, which excludes directions in which
    the outputs contain only noise.
    """

    effort: ClassVar[int] = 2
    of_inputs: ClassVar[bool] = True


def fit_dense_sum(F, U):
    """Matrices A_1, ..., A_m with F = U x_1 A_1 + ... + U x_m A_m, by minimum-norm least squares.

    With the unfoldings of U orthonormalised, the equations of one mode alone are solved by a product; this makes LSMR
    converge in a number of steps that hardly depends on the sizes.
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

    solution = lsmr_solution(forward, adjoint, F, sum(counts), max_iter=400)
    return [
        part.view(sizes[j], -1) @ torch.linalg.pinv(R[j].mT, rtol=1e-13)
        for j, part in enumerate(solution.split(counts))
    ]


def refine_basis(F, U, outputs, *, symmetric, max_iter=8, tol=1e-14):
    """Improve bases X_j such that U = (G o (F x_1 X_1⁻¹ ... x_m X_m⁻¹)) x_1 X_1 ... x_m X_m with a free symbol G.

    The bases are optimised by Gauss-Newton, from an initial guess `outputs`. The diagonal of X_j⁻¹ dX_j is fixed at
    zero since it only scales; for given bases, the optimal symbol is known, and its contribution is projected out
    (variable projection). Returns the bases, orthonormal if `symmetric`, the symbol, and the sum of squares of the
    inputs' coefficients: where it vanishes, the symbol is not determined.
    """
    n_modes, sizes = F.ndim - 1, F.shape[1:]
    counts = [p * p for p in sizes]

    def evaluate(bases):
        dual = bases if symmetric else [torch.linalg.inv(X).mT for X in bases]
        H, W = (multilinear(M, [Z.mT for Z in dual]) for M in (F, U))
        energy = H.square().sum(0)
        known = energy > 1e-12 * energy.max()
        share = torch.where(known, 1 / torch.where(known, energy, 1), 0)
        G = (H * W).sum(0) * share
        return Point(bases, W - G * H, (H, G, energy, share))

    def free(E):
        E = E - torch.diag(E.diagonal())
        return (E - E.mT) / 2**0.5 if symmetric else E

    def linearise(point):
        H, G, energy, share = point.extra
        V = G * H
        scales = [_rotation_scales(G, energy, j, symmetric) for j in range(n_modes)]

        def rotations(v):
            parts = zip(v.split(counts), scales, sizes, strict=True)
            return [free(part.view(p, p) * scale) for part, scale, p in parts]

        def beside(y):
            """The part that a change of the symbol cannot compensate."""
            return y - H * ((H * y).sum(0) * share)

        def forward(v):
            E = rotations(v)
            return beside(sum(modal_product(V, e, j + 1) - G * modal_product(H, e, j + 1) for j, e in enumerate(E)))

        def adjoint(y):
            y = beside(y)
            gradients = (unfold(y, j) @ unfold(V, j).mT - unfold(G * y, j) @ unfold(H, j).mT for j in range(n_modes))
            return torch.cat([(free(E) * scale).reshape(-1) for E, scale in zip(gradients, scales, strict=True)])

        step = rotations(lsmr_solution(forward, adjoint, point.residual, sum(counts), max_iter=120))

        def propose(shortening):
            moved = [X + X @ E / shortening for X, E in zip(point.x, step, strict=True)]
            moved = [_orthonormal(X) if symmetric else X / X.norm(dim=0) for X in moved]
            regular = symmetric or all(float(torch.linalg.cond(X)) < 1e14 for X in moved)
            return moved if regular else None

        return propose

    found = gauss_newton(
        evaluate,
        linearise,
        list(outputs),
        float(U.norm()),
        max_iter=max_iter,
        tol=tol,
        slow=0.5,
        tries=4,
        damping=1.0,
        least=1.0,
    )
    _, symbol, energy, _ = found.extra
    return found.x, symbol, energy


def known_part(energy):
    """Mask of the indices that the inputs excite, where a symbol is determined."""
    return energy > _KNOWN * energy.max()


def _rotation_scales(G, energy, mode, symmetric):
    """Reciprocal effect of adding basis vector a to b in one mode, as a matrix [a, b]."""
    g, e = (M.movedim(mode, 0).flatten(1) for M in (G, energy))
    effect = (e * g * g).sum(1) - 2 * g @ (e * g).mT + (g * g) @ e.mT
    effect = effect + effect.mT if symmetric else effect
    return (effect.clamp_min(0) + 1e-14 * effect.max() + 1e-300).rsqrt()


def _orthonormal(X):
    u, _, vh = torch.linalg.svd(X)
    return u @ vh


def extrapolated_symbol(G, known, *, max_degree=8):
    """Extrapolate a symbol whose reciprocal is a sum of functions of one index, plus a polynomial of these.

    For a function of commuting one-dimensional operators, such as a compact difference scheme, the reciprocal of the
    symbol is a smooth function of their eigenvalues. The sum gives the eigenvalues, and the polynomial the rest. Its
    degree is increased until the fit to known values no longer improves. Slices without known values are zero.
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
