"""Local laws fitted to the outputs: min |L⁻¹ f - u|² over the entries of L, as required by noise in u.

In least squares for f = L u at every point, noise in u enters the regressors, which biases L; in the fit to the
outputs, it does not. The entries are those of fluxes between neighbours, L = sum_e w_e (e_i - e_j)(e_i - e_j)ᵀ +
diag(c), and of an antisymmetric part (convection) if the map is not symmetric. The fluxes are w_e = ± exp(a_e), which
preserves their sign; second differences of all coefficients along the axes are penalised, as strongly as held-out
errors in u permit.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import least_squares
from scipy.sparse.linalg import splu

from ...linalg import SparseInverse, SparseMatrix
from .._diagnosis import roughness
from .._form import NotApplicable
from .._law_trials import largest_gain
from .._least_squares import Point, gauss_newton
from .._local_law import LawFit, Stencil
from .._local_samples import local_samples
from .._neighbourhoods import Neighbourhood
from ._local import KeptSparse, LocalInverse, SolvedLaw, on_line, refuse_cuts

# Number of points up to which the dense normal equations are affordable, by the number of axes.
_LARGEST = {1: 520, 2: 1100}
# Number of points above which the form is tried only for samples that look noisy, since a fit is expensive.
_CHEAP = 300
# Penalties of second differences, from nearly constant coefficients to free ones.
_PENALTIES = (1e7, 3e4, 1e2, 0.3, 1e-3, 3e-6, 1e-8)
# In two dimensions, where a fit takes seconds.
_FEW_PENALTIES = (1e2, 0.3, 1e-3, 3e-6)
# Error of the law with constant coefficients above which no other law is tried.
_FAR = 0.8
# Roughness of the residual of a law above which it is regarded as noise.
_ROUGH = 0.3
# Mean square of differences of order 5 over that of order 3, both in units of those of white noise.
_PLATEAU = 0.3
# Largest step of the logarithm of a flux.
_LARGEST_STEP = 1.0


@dataclass(frozen=True)
class NoisyLocalInverse(LocalInverse):
    """The inverse of a sparse matrix whose rows couple nearest neighbours, fitted to the outputs instead of at every
    point, for samples with noise on grids of one or two dimensions of up to 520 or 1,100 points.
    """

    penalty_of_differences: float = math.inf
    is_symmetric: bool = True

    effort: ClassVar[int] = 2
    amplifies: ClassVar[bool] = False
    worthwhile: ClassVar[float] = 1.0

    @classmethod
    def path(cls, samples, options):
        """Decreasing smoothness of the coefficients, for symmetric matrices first."""
        refuse_cuts(samples, options)
        local = local_samples(samples)
        refuse_unsuitable(local, options)
        if samples.repeated is not None:
            raise NotApplicable("needs a stationary problem, not time steps, whose laws are two-sided")
        if options.noise == "auto" and len(local.points) > _CHEAP and not is_noise(local):
            raise NotApplicable("needs samples with noise")
        laws = FluxLaw(local, options.symmetric is True)
        if laws.error(laws.constant()) > _FAR:
            raise NotApplicable("is not tried if the samples are far from those of a law with constant coefficients")
        kinds = [options.symmetric] if options.symmetric != "auto" else [True, False]
        if not on_line(samples) and options.noise == "auto":
            kinds = kinds[:1]
        best = math.inf
        for symmetric in kinds:
            if not symmetric and options.symmetric == "auto" and samples.asymmetry < 0.3 * best:
                break
            lowest, misses = math.inf, 0
            for penalty in _PENALTIES if on_line(samples) else _FEW_PENALTIES:
                error = yield cls(options, penalty_of_differences=penalty, is_symmetric=symmetric, n_unknowns=5)
                misses = 0 if error < 0.99 * lowest else misses + 1
                lowest = min(lowest, error)
                if misses > 1:
                    break
            best = min(best, lowest)

    @property
    def symmetric(self):
        return self.is_symmetric

    def fit(self, samples, start=None):
        local = local_samples(samples)
        laws = FluxLaw(local, self.is_symmetric)
        # Values that appear as a boundary in a part of the samples may not do so in all of them.
        fits = start is not None and len(start.coefficients) == laws.n_coefficients
        x = start.coefficients if fits else laws.constant()
        x = laws.fitted(x, self.penalty_of_differences)
        grid = samples.grid_in
        operator = SparseInverse(
            SparseMatrix(laws.matrix(x), grid, grid), SparseMatrix(laws.identity, grid, grid), solver="direct"
        )
        nothing = np.zeros(tuple(local.pinned.shape), dtype=bool)
        return FittedLaw(operator, nothing, largest_gain(local), x)

    def __str__(self):
        symmetric = "symmetric " if self.is_symmetric else ""
        return f"{symmetric}local law fitted to the outputs, smoothness {self.penalty_of_differences:.0e}"


@dataclass(frozen=True)
class SparseNoisyLocalInverse(KeptSparse, NoisyLocalInverse):
    """The inverse of a local law fitted to the outputs, as sparse matrices."""


@dataclass(frozen=True, eq=False)
class FittedLaw(SolvedLaw):
    """A law with its coefficients, which initialise the next fit."""

    coefficients: np.ndarray


def refuse_unsuitable(local, options):
    """Raise NotApplicable for options that fluxes between neighbours do not support, and for too many points."""
    largest = _LARGEST.get(len(local.points.shape), 0)
    if local.points.is_mesh or len(local.pinned) > 1 or len(local.points) > largest:
        raise NotApplicable("needs one field on a grid of one or two dimensions with up to 520 or 1,100 points")
    if options.two_sided is True or options.radius not in ("auto", 1) or options.periodic not in ("auto", False):
        raise NotApplicable("couples nearest neighbours of u only, and supports no periodic axes")
    if options.neighbourhood == "box" or options.sharing in ("class", "shared"):
        raise NotApplicable("has individual coefficients for every point, and no diagonal neighbours")
    if options.noise != "auto" and not options.noise > 0:
        raise NotApplicable("needs samples with noise")


def is_noise(local):
    """Whether high-order differences of u look like noise, or the residual of the law of all points does."""
    U = torch.where(local.pinned, 0, local.U)
    fields = U.view(-1, *local.points.shape)
    for axis, n in enumerate(local.points.shape, 1):
        sizes = [float(fields.diff(n=k, dim=axis).square().mean() / math.comb(2 * k, k)) for k in (3, 5) if n > 4 * k]
        # Differences of noise do not decrease with the order, those of smooth fields do.
        if len(sizes) == 2 and sizes[1] > _PLATEAU * sizes[0]:
            return True
    law = LawFit(local, Stencil(Neighbourhood(1), sharing="class")).law("class")
    left = local.F.flatten(1).numpy().T - law.L @ U.flatten(1).numpy().T
    left[local.pinned.numpy().ravel()] = 0
    return roughness(torch.from_numpy(left.T.copy()).view(-1, *local.points.shape)) > _ROUGH


class FluxLaw:
    """Matrices of fluxes between neighbours, and their errors in u.

    Coefficients are the logarithms of the fluxes, one per pair of neighbours, including points where u is zero and
    points beyond the ends; the diagonal; and, without symmetry, the antisymmetric part of every pair.

    Parameters
    ----------
    local : LocalSamples
    symmetric : bool
    """

    def __init__(self, local, symmetric):
        grid, n = local.points.shape, len(local.points)
        self.live = ~local.pinned[0].numpy()
        self.symmetric, self.grid, self.n = symmetric, grid, n
        self.F = np.where(self.live, local.F[:, 0].numpy(), 0).T
        self.U = np.where(self.live, local.U[:, 0].numpy(), 0).T
        self.identity = sp.diags_array(self.live * 1.0).tocsr()
        number = np.where(self.live, np.arange(n), -1).reshape(grid)
        pairs, differences, axes = [], [], []
        for axis in range(len(grid)):
            around = np.pad(number, [(1, 1) if a == axis else (0, 0) for a in range(len(grid))], constant_values=-1)
            i, j = (np.take(around, range(k, k + grid[axis] + 1), axis) for k in (0, 1))
            used = (i >= 0) | (j >= 0)
            pairs.append(np.stack([i[used], j[used]]))
            differences.append(second_differences(used))
            axes += [axis] * int(used.sum())
        self.i, self.j = np.concatenate(pairs, axis=1)
        self.axis, self.n_pairs = np.array(axes), len(self.i)
        inside = (self.i >= 0) & (self.j >= 0)
        of_pairs, of_points = sp.block_diag(differences), second_differences(self.live.reshape(grid))
        pick = sp.eye_array(n).tocsr()[self.live]
        blocks = [of_pairs, of_points @ pick] + ([] if symmetric else [of_pairs @ sp.diags_array(inside * 1.0)])
        self.differences = sp.csr_array(sp.block_diag(blocks))
        # Units of the diagonal and of the antisymmetric part, which scale them to the size of the logarithms.
        self.size = np.sqrt(np.square(self.F).mean() / np.square(self.U).mean())
        slopes = np.square(self.ends().T @ self.U).mean()
        self.skew = np.sqrt(np.square(self.F).mean() / slopes) if slopes else 1.0
        law = LawFit(local, Stencil(Neighbourhood(1), sharing="class")).law("class")
        diagonal = law.L.diagonal()[self.live]
        self.sign = np.sign(np.median(diagonal)) or 1.0
        self.guess = float(np.median(np.abs(diagonal))) / (2 * len(grid))

    @property
    def n_coefficients(self):
        return self.n + self.n_pairs * (1 if self.symmetric else 2)

    def ends(self, weights=None):
        """Matrix (n, n_pairs) of e_i - e_j, or of weighted ones."""
        w = np.ones(self.n_pairs) if weights is None else weights
        column = np.arange(self.n_pairs)
        found = [(k >= 0, k, s * w) for k, s in ((self.i, 1.0), (self.j, -1.0))]
        rows, columns, values = (
            np.concatenate(z) for z in zip(*((k[ok], column[ok], v[ok]) for ok, k, v in found), strict=True)
        )
        return sp.csr_array((values, (rows, columns)), shape=(self.n, self.n_pairs))

    def parts(self, x):
        """Fluxes, the diagonal, and the antisymmetric part."""
        w = self.sign * np.exp(x[: self.n_pairs])
        return w, x[self.n_pairs : self.n_pairs + self.n] * self.size, x[self.n_pairs + self.n :] * self.skew

    def matrix(self, x):
        """L, with diagonal entries of comparable size where u is zero."""
        w, c, b = self.parts(x)
        B = self.ends()
        L = B @ sp.diags_array(w) @ B.T + sp.diags_array(np.where(self.live, c, np.abs(w).mean()))
        if len(b):
            inside = (self.i >= 0) & (self.j >= 0)
            i, j, b = self.i[inside], self.j[inside], b[inside]
            L = L + sp.csr_array((np.r_[b, -b], (np.r_[i, j], np.r_[j, i])), shape=L.shape)
        return sp.csr_array(L)

    def constant(self):
        """Coefficients of the best law with one flux per axis and one number on the diagonal."""

        n_axes = len(self.grid)

        def expanded(p):
            fluxes, diagonal, skew = p[:n_axes][self.axis], np.full(self.n, p[n_axes]), p[n_axes + 1 :]
            return np.concatenate([fluxes, diagonal, skew[self.axis] if len(skew) else skew])

        def left(p):
            predicted = self.solved(expanded(p))
            if predicted is None:
                return np.full(self.U.size, 1e3)
            return ((predicted[1] - self.U) / (np.linalg.norm(self.U) or 1.0)).ravel().clip(-1e3, 1e3)

        start = np.r_[np.full(n_axes, math.log(self.guess or 1.0)), np.zeros(1 if self.symmetric else 1 + n_axes)]
        return expanded(least_squares(left, start, max_nfev=30).x)

    def solved(self, x):
        """Factors of L and solutions; None if L is singular."""
        try:
            lu = splu(sp.csc_matrix(self.matrix(x)))
        except RuntimeError:
            return None
        u = lu.solve(self.F)
        return (lu, u) if np.isfinite(u).all() else None

    def error(self, x):
        """Relative error of the solutions."""
        found = self.solved(x)
        return math.inf if found is None else float(np.linalg.norm(found[1] - self.U) / np.linalg.norm(self.U))

    def fitted(self, x, penalty):
        """Coefficients by damped Gauss-Newton steps from given ones."""
        scale, root = np.sqrt(self.U.size) / np.linalg.norm(self.U), math.sqrt(penalty)
        penalties = penalty * (self.differences.T @ self.differences)

        def evaluate(x):
            found = self.solved(x)
            if found is None:
                return Point(x, torch.tensor([math.inf]))
            left = np.concatenate([scale * (found[1] - self.U).ravel(), root * (self.differences @ x)])
            return Point(x, torch.from_numpy(left), found)

        def linearise(point):
            lu, u = point.extra
            H, g = self.normal_equations(point.x, lu, u, scale)
            H += penalties.toarray()
            g = g + penalties @ point.x
            diagonal = H.diagonal().copy()
            diagonal = np.maximum(diagonal, 1e-12 * diagonal.max())

            def propose(damping):
                damped = H.copy()
                damped[np.diag_indices_from(damped)] += damping * diagonal
                try:
                    step = -cho_solve(cho_factor(damped, overwrite_a=True, check_finite=False), g)
                except np.linalg.LinAlgError:
                    return None
                step[: self.n_pairs] = step[: self.n_pairs].clip(-_LARGEST_STEP, _LARGEST_STEP)
                return point.x + step

            return propose

        iterations = 10 if len(self.grid) == 1 else 4
        return gauss_newton(evaluate, linearise, x, 1.0, max_iter=iterations, slow=0.99).x

    def normal_equations(self, x, lu, u, scale):
        """JᵀJ and Jᵀr of the residual r = L⁻¹ f - u.

        A coefficient k changes L by a sum of products p qᵀ, and L⁻¹ f by -L⁻¹ p qᵀ L⁻¹ f: JᵀJ is made of elementwise
        products of Pᵀ L⁻ᵀ L⁻¹ P and Qᵀ u uᵀ Q.
        """
        inverse = lu.solve(np.eye(self.n))
        gram, outer = inverse.T @ inverse, u @ u.T
        adjoint = lu.solve(u - self.U, trans="T")
        H, g = 0.0, 0.0
        terms = self.terms(self.parts(x)[0])
        for P, Q in terms:
            g = g - ((P.T @ adjoint) * (Q.T @ u)).sum(1)
        for k, (P, Q) in enumerate(terms):
            for other, of_other in terms[: k + 1]:
                part = (other.T @ (P.T @ gram).T) * (of_other.T @ (Q.T @ outer).T)
                H = H + (part if other is P else part + part.T)
        return scale**2 * H, scale**2 * g

    def terms(self, w):
        """Pairs of matrices P, Q whose columns are those p and q of all coefficients."""
        B = self.ends()
        live = sp.diags_array(self.live * 1.0)
        first = [sp.csr_array(B @ sp.diags_array(w)), sp.csr_array(self.size * live)], [B, sp.csr_array(live)]
        if self.symmetric:
            return [tuple(sp.hstack(part).tocsr() for part in first)]
        inside = ((self.i >= 0) & (self.j >= 0)) * 1.0
        column = np.arange(self.n_pairs)
        at_i, at_j = (
            sp.csr_array((inside, (np.maximum(k, 0), column)), shape=(self.n, self.n_pairs)) for k in (self.i, self.j)
        )
        nothing = sp.csr_array((self.n, self.n_pairs + self.n))
        return [
            tuple(sp.hstack(part).tocsr() for part in ([*first[0], self.skew * at_i], [*first[1], at_j])),
            tuple(sp.hstack(part).tocsr() for part in ([nothing, -self.skew * at_j], [nothing, at_i])),
        ]


def second_differences(used):
    """Second differences along all axes of values at the points of a mask, wherever three are adjacent."""
    number, found = np.cumsum(used.ravel()).reshape(used.shape) - 1, []
    for axis, n in enumerate(used.shape):
        if n < 3:
            continue
        triples = [np.take(number, range(k, n - 2 + k), axis).ravel() for k in range(3)]
        ok = np.all([np.take(used, range(k, n - 2 + k), axis).ravel() for k in range(3)], axis=0)
        row = np.arange(int(ok.sum()))
        rows, columns = np.tile(row, 3), np.concatenate([t[ok] for t in triples])
        values = np.repeat([1.0, -2.0, 1.0], len(row))
        found.append(sp.csr_array((values, (rows, columns)), shape=(len(row), int(used.sum()))))
    return sp.vstack(found).tocsr() if found else sp.csr_array((0, int(used.sum())))
