"""One entry point for fitting a map between fields of several dimensions: it tries what the data allow.

Candidates are fitted without some held-out samples and judged by their error on those. From the most special to the
most general:

- the inverse as a Kronecker sum of banded matrices, without or with row weights, which holds for all inputs;
- the inverse as a Kronecker sum of any matrices in the subspaces that the samples span, and the same with a free
  symbol;
- the map itself as a sum of Kronecker products: from the least-squares map where the samples determine that, else by
  alternating least squares;
- ridge regression, which knows no structure.

A map that is known in a subspace only is completed by the best banded one, if that is any good, and by zero otherwise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ._cluster_tree import ClusterTree
from ._diagnosis import likeliest_cause
from ._diagonalized import DiagonalizedOperator
from ._fitting import Data, accurate, asymmetry, check_ratio, least_squares, relative_error, searched, without
from ._fitting import Settings as RidgeSettings
from ._kronecker_forward import (
    alternate,
    apply_terms,
    grow_terms,
    least_squares_terms,
    polish_terms,
    project_terms,
    symbol_terms,
)
from ._kronecker_inverse import (
    complete_symbol,
    compress,
    diagonalised,
    fit_dense_sum,
    fit_local_sum,
    fit_weighted_local_sum,
    known_part,
    mode_basis,
    refine_basis,
)
from ._kronecker_product_sum import KroneckerProductSum
from ._linear_map import LinearMap
from ._low_rank import LowRankOperator
from ._modes import along, multilinear, per_mode, unfold
from ._operator_sum import OperatorSum

# Held-out errors below the first are as good as rounding allows; below the second, nothing more general is tried.
_EXACT, _ACCURATE = 1e-11, 1e-6
# A more general candidate must divide the held-out error by this; so must one with a wider band or more terms.
_WORTHWHILE = 3.0
# A banded inverse completes what is known in a subspace only if its held-out error is below this.
_COMPLETES = 0.1
_MAX_HALF_BANDWIDTH = 3
# More terms are not worth their numbers once the error is below this.
_ENOUGH_TERMS = 1e-9
# Banded forms of fields with more points than this are fitted only on request.
_LARGE = 2**19
_OUTER_RANKS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64)
# Numbers in the samples that a fit takes at most, per unknown and in all.
_PER_UNKNOWN, _ENOUGH = 30, 400_000
# Numbers in the samples times the sizes of their modes that the refinement of a basis takes at most.
_REFINED = 2 * 10**7
_SINGULAR = (np.linalg.LinAlgError, torch.linalg.LinAlgError)


@dataclass
class KroneckerFit:
    """What :func:`fit_kronecker` found.

    Attributes
    ----------
    operator : LinearMap
        The map.
    form : {"forward", "inverse"}
        Whether the map or its inverse was fitted.
    solver : {"banded", "eigenbasis", "als", "least_squares"}
        How.
    symmetric : bool
        Whether the map is symmetric by construction.
    half_bandwidth : int or None
        Of banded factors.
    alpha : float or None
        Relative ridge penalty, of the forward form.
    held_out_error, residual : float
        Mean relative error on held-out samples (NaN without any), and on all.
    reason : str
        Why this candidate was chosen.
    candidates : list of dict
        All that were tried.
    completion : str
        What the map does to inputs of a kind that no sample contained.
    seen : list of Tensors of shape (n_j, p_j), or None
        Orthonormal bases of what the inputs occupied in each mode, where the map is not known beyond.
    inactive : Tensor of bool, of shape (n_rows,)
        Points of an inverse form where all outputs are zero, and so are the predictions.
    intercept : Tensor of shape (n_rows,) or None
        The field c of u = A f + c, where there is one.
    doubts : callable
        Returns a list of messages for the user. Diagnosis takes a while, and not everybody listens.
    """

    operator: LinearMap
    form: str
    solver: str
    symmetric: bool
    half_bandwidth: int | None
    alpha: float | None
    held_out_error: float
    residual: float
    reason: str
    candidates: list
    completion: str
    seen: list[torch.Tensor] | None
    inactive: torch.Tensor
    intercept: torch.Tensor | None
    doubts: Callable[[], list[str]]


@dataclass(frozen=True)
class Candidate:
    """A way to fit; `build` makes a map of samples, its argument whether to make all that the final one needs."""

    form: str
    solver: str
    label: str
    build: Callable[..., LinearMap]
    half_bandwidth: int | None = None
    alpha: float | None = None


@dataclass
class Trial:
    """A candidate and its error on held-out samples."""

    candidate: Candidate
    error: float


@dataclass(frozen=True)
class Settings:
    """Parameters of :func:`fit_kronecker`, and what they mean for the data."""

    outer_rank: int | str
    rank: int | str
    levels: int | str | Sequence[int | str]
    symmetric: bool | str
    tol: float
    alpha: float | str
    noise: float
    active: list[torch.Tensor] | None = field(repr=False)
    inside: torch.Tensor | None = field(default=None, repr=False)
    memo: dict = field(default_factory=dict, repr=False)

    @property
    def accurate(self):
        """Error on held-out samples below which these are as good as exact."""
        return accurate(self.noise)

    def error(self, prediction, Y, typical=None):
        """Mean relative error of predicted fields, inside."""
        prediction = columns(prediction)
        if self.inside is not None:
            prediction = torch.where(self.inside[:, None], prediction, 0)
        return relative_error(prediction, columns(Y), typical)

    @property
    def in_terms(self):
        """Whether the map must be a sum of Kronecker products."""
        return self.outer_rank != "auto"


def fit_kronecker(
    X: torch.Tensor,
    Y: torch.Tensor,
    *,
    outer_rank: int | str = "auto",
    rank: int | str = "auto",
    levels: int | str | Sequence[int | str] = "auto",
    symmetric: bool | str = "auto",
    form: str = "auto",
    solver: str = "auto",
    alpha: float | str = "auto",
    tol: float = 1e-11,
    noise: float | None = None,
    weights: torch.Tensor | None = None,
    intercept: bool | str = False,
    inside: torch.Tensor | None = None,
    random_state: np.random.RandomState | None = None,
) -> KroneckerFit:
    """Fit a linear map between fields to samples, or one with a constant field added to it.

    Parameters
    ----------
    X, Y : Tensors of shape (n_samples, *grid_in) and (n_samples, *grid_out)
        Inputs and outputs, in float64.
    outer_rank : int or "auto", default="auto"
        Number of Kronecker products. "auto" keeps an inverse form as it is, and grows a forward form.
    rank : int or "auto", default="auto"
        Largest HSS rank of the factors of either form. "auto" is what they need.
    levels : int or "auto" or one per mode, default="auto"
        Depth of the factors' cluster trees.
    symmetric : bool or "auto", default="auto"
        Whether the map is symmetric. "auto" tests the samples.
    form : {"auto", "forward", "inverse"}, default="auto"
        What to fit.
    solver : {"auto", "banded", "eigenbasis", "als", "least_squares"}, default="auto"
        How; the first two are of the inverse form, the others of the forward form.
    alpha : float or "auto", default="auto"
        Ridge penalty of the forward form, relative to the mean diagonal of the Gram matrix of the inputs' coefficients.
    tol : float, default=1e-11
        Relative size of singular values that count as zero, where directions are counted.
    noise : float, default=None
        Relative error of the numbers; raises `tol`.
    weights : Tensor of shape (n_samples,), default=None
        Factors that the samples, and so a constant, have been multiplied by; ones if None.
    intercept : bool or "auto", default=False
        Whether to fit the constant field. "auto" does where that lowers the error on held-out samples much.
    inside : Tensor of bool, of shape (n_rows,), default=None
        Points of the outputs that count; the others must be zero.
    random_state : numpy.random.RandomState, default=None
        Chooses the held-out samples.

    Returns
    -------
    KroneckerFit

    Raises
    ------
    ValueError
        If a parameter does not fit the data.
    """
    check_settings(tuple(X.shape[1:]), tuple(Y.shape[1:]), outer_rank, rank, levels, symmetric, form, solver)
    check_ratio(X, Y)
    rng = random_state or np.random.RandomState(0)
    # In random order, so that the first ones, which large fits make do with, are like all.
    order = torch.from_numpy(rng.permutation(len(X)))
    ones = torch.ones(len(X), dtype=X.dtype) if weights is None else weights
    samples = X[order], Y[order], ones[order]
    settings = Settings(
        outer_rank=outer_rank,
        rank=rank,
        levels=levels,
        symmetric=symmetric,
        tol=max(tol, 10 * (noise or 0)),
        alpha=alpha,
        noise=max(noise or 0, 1e-15),
        active=None,
        inside=inside,
    )
    held_out = torch.from_numpy(rng.permutation(len(X)))
    return searched(
        lambda centred: Problem(*samples, held_out, settings, form, solver, centred), intercept, settings
    ).solve()


class Problem:
    """The samples as they are, or about their mean fields, and the candidates that are tried on them.

    Parameters
    ----------
    X, Y : Tensors of shape (n_samples, *grid_in) and (n_samples, *grid_out)
        As given, in random order.
    ones : Tensor of shape (n_samples,)
        Weights of the samples.
    order : Tensor of int, of shape (n_samples,)
        Another random order, of which the first ones are held out.
    settings : Settings
    form, solver : str
        As in :func:`fit_kronecker`.
    centred : bool
        Whether means are subtracted, those of the training samples from what is held out, too.
    """

    def __init__(self, X, Y, ones, order, settings, form, solver, centred):
        self.centred, self.ones, self.form, self.solver = centred, ones, form, solver
        self.n_samples = len(ones)
        self.square = X.shape[1:] == Y.shape[1:]
        n_valid = max(len(X) // 5, 1)
        held_out, kept = order[:n_valid], order[n_valid:]
        if len(kept) <= int(centred):  # too few to hold any out
            held_out = kept = order
        train, mean = about_mean((X[kept], Y[kept]), ones[kept], centred)
        valid, _ = about_mean((X[held_out], Y[held_out]), ones[held_out], centred, mean)
        everything, self.mean = about_mean((X, Y), ones, centred)
        self.scale = x_scale, y_scale = [float(M.abs().max()) or 1.0 for M in everything]
        (self.X, self.Y), self.train, self.valid = ((x / x_scale, y / y_scale) for x, y in (everything, train, valid))
        symmetric = settings.symmetric
        if symmetric == "auto":
            found = asymmetry(columns(self.X), columns(self.Y)) if self.square else 1.0
            symmetric = found < max(1e-8, 100 * settings.noise)
        self.settings = replace(
            settings,
            symmetric=bool(symmetric),
            active=active_planes(self.Y) if self.square else None,
            memo={},
        )
        self.trials: list[Trial] = []
        self.inverse_error = math.inf

    @property
    def lowest(self):
        """Smallest error on held-out samples so far."""
        return min((t.error for t in self.trials), default=math.inf)

    @property
    def size(self):
        """Mean norm of the held-out outputs, in the units of the user."""
        return self.scale[1] * float(self.valid[1].flatten(1).norm(dim=1).mean())

    def attempt(self, candidate):
        """Fit a candidate to the training samples, and note its error on the others."""
        operator = build(candidate, *self.train)
        error = math.inf
        if operator is not None:
            typical = float(columns(self.train[1]).norm(dim=0).mean())
            error = self.settings.error(operator.apply(self.valid[0]), self.valid[1], typical)
        self.trials.append(Trial(candidate, error if math.isfinite(error) else math.inf))
        return self.trials[-1].error

    def search(self, slow):
        """Try candidates from the most special to the most general, until one is accurate.

        The slow ones are sums of Kronecker products; ridge regression comes with the fast ones.
        """
        settings, form, solver = self.settings, self.form, self.solver
        forward = form != "inverse" and solver not in ("banded", "eigenbasis")
        if slow:
            wanted = self.inverse_error > settings.accurate or form == "forward"
            if forward and wanted and not (solver == "auto" and self.lowest <= _EXACT):
                search_terms(settings, solver, self.train, self.attempt)
            return
        if self.square and form != "forward":
            search_inverse(settings, solver, self.train[0], self.attempt, lambda: self.lowest)
            self.inverse_error = self.lowest
            if settings.in_terms and self.trials:
                best = choose(self.trials).candidate
                self.trials.clear()
                self.attempt(in_terms(best, settings))
        plain = not settings.in_terms and settings.rank == "auto" and solver in ("auto", "least_squares")
        if plain and forward and (self.lowest > settings.accurate or form == "forward"):
            self.attempt(ridge_candidate(settings))

    def solve(self):
        """The fit to all samples of the best candidate."""
        X, Y, trials, settings = self.X, self.Y, self.trials, self.settings
        tried = list(trials)
        built: list[tuple[float, Trial, LinearMap]] = []
        while trials:
            chosen = choose(trials)
            operator = build(chosen.candidate, X, Y, final=True)
            if operator is not None:
                residual = settings.error(operator.apply(X), Y)
                built.append((residual, chosen, operator))
                # A fit to all samples that does much worse than that to a part of them is not the one that was chosen.
                if residual <= 10 * max(chosen.error, 1e-10):
                    break
            trials.remove(chosen)
        else:
            if not built:
                raise ValueError(
                    "The samples do not determine a map of this form and solver; use 'auto', or more samples."
                )
            _, chosen, operator = min(built, key=lambda entry: entry[0])
        operator, completion, seen = completed(operator, chosen, tried, X, Y, settings)
        reason = explain(chosen, tried, len(X))
        residual = settings.error(operator.apply(X), Y)
        operator = (self.scale[1] / self.scale[0]) * operator
        intercept = None
        if self.centred:
            intercept = (self.mean[1] - operator.apply(self.mean[0])).flatten()
        return KroneckerFit(
            operator=operator,
            form=chosen.candidate.form,
            solver=chosen.candidate.solver,
            symmetric=settings.symmetric and chosen.candidate.form == "inverse",
            half_bandwidth=chosen.candidate.half_bandwidth,
            alpha=chosen.candidate.alpha,
            held_out_error=chosen.error if len(X) > 1 else math.nan,
            residual=residual,
            reason=reason + ("; about the mean fields" if self.centred else ""),
            candidates=[
                {
                    "form": t.candidate.form,
                    "solver": t.candidate.solver,
                    "fit": t.candidate.label,
                    "held_out_error": t.error,
                }
                for t in tried
            ],
            completion=completion,
            seen=seen,
            inactive=inactive_points(settings, chosen, Y),
            intercept=intercept,
            doubts=lambda: self.doubts(chosen, reason),
        )

    def doubts(self, chosen, reason):
        """Messages for the user where the samples do not decide, or where nothing fits."""
        if len(self.X) < 2:
            return [f"n_samples = {len(self.X)} leaves none to verify the fit with ({reason})."]
        if not chosen.error > 0.1:
            return []
        cause = likeliest_cause(columns(self.X), columns(self.Y), tuple(self.Y.shape[1:]), self.ones, self.centred)
        return [
            f"The best fit found has a relative error of {chosen.error:.1e} on held-out samples ({reason}). {cause}"
        ]


# The data


def check_settings(grid_in, grid_out, outer_rank, rank, levels, symmetric, form, solver):
    """Refuse parameters that do not fit the grids, or each other."""
    square = grid_in == grid_out
    for name, value, wrong in (("symmetric", symmetric, symmetric is True), ("form", form, form == "inverse")):
        if wrong and not square:
            raise ValueError(f"{name}={value!r} needs outputs on the grid of the inputs; got {grid_out} and {grid_in}.")
    forms = {"banded": "inverse", "eigenbasis": "inverse", "als": "forward", "least_squares": "forward"}
    if solver != "auto" and solver not in forms:
        raise ValueError(
            f"solver={solver!r} applies to one-dimensional fields; for fields on {grid_in} use 'auto' or one of "
            f"{sorted(forms)}."
        )
    if solver != "auto" and form not in ("auto", forms[solver]):
        raise ValueError(f"solver={solver!r} does not apply to form={form!r}; leave one of them at 'auto'.")
    if solver == "least_squares" and len(grid_in) > 2:
        raise ValueError(f"solver='least_squares' takes fields of two modes, not {len(grid_in)}; use solver='als'.")
    sizes = [n_in * n_out for n_in, n_out in zip(grid_in, grid_out, strict=True)]
    most = math.prod(sizes) // max(sizes)
    if outer_rank != "auto" and outer_rank > most:
        raise ValueError(
            f"outer_rank={outer_rank} is more than any map between fields on {grid_in} and {grid_out} needs: "
            f"the largest value that works is {most}."
        )
    for n_in, n_out, depth in zip(grid_in, grid_out, per_mode(levels, len(grid_in)), strict=True):
        smallest = min(n_in, n_out)
        deepest = ClusterTree.max_levels(smallest)
        if depth != "auto" and depth > deepest:
            raise ValueError(
                f"levels={levels} is too deep for a mode of {smallest} points: "
                f"the largest value that works is {deepest}."
            )
        leaf = smallest if depth == "auto" else smallest >> depth
        if depth != 0 and rank != "auto" and rank > leaf:
            raise ValueError(
                f"rank={rank} exceeds the smallest leaf of a mode of {smallest} points with levels={levels}: "
                f"the largest value that works is {leaf}."
            )


def columns(fields):
    """Fields as columns."""
    return fields.flatten(1).mT


def active_planes(Y):
    """Range of indices per mode, up to the ends where all outputs vanish, as they do on Dirichlet boundaries."""
    planes = []
    for j in range(Y.ndim - 1):
        sizes = unfold(Y, j).abs().amax(1)
        alive = torch.nonzero(sizes > 1e-14 * sizes.max()).squeeze(-1)
        planes.append(torch.arange(int(alive[0]), int(alive[-1]) + 1) if len(alive) else torch.arange(len(sizes)))
    return planes


def inactive_points(settings, chosen, Y):
    """Mask of the points of a flat field where an inverse form is zero."""
    active = Y.new_ones(Y.shape[1:], dtype=torch.bool)
    if chosen.candidate.solver == "banded":
        for j, kept in enumerate(settings.active):
            on = torch.zeros(Y.shape[j + 1], dtype=torch.bool)
            on[kept] = True
            active &= along(on, j, active.ndim)
    return ~active.reshape(-1)


def about_mean(samples, ones, centred, mean=None):
    """Fields minus their means, or those given, and the means; unchanged, and zeros, if not `centred`."""
    if not centred:
        return samples, (0.0, 0.0)
    if mean is None:
        weights = ones / ones.square().sum()
        mean = tuple(torch.tensordot(weights, M, dims=1) for M in samples)
    return tuple(without(M, torch.tensordot(ones, m, dims=0)) for M, m in zip(samples, mean, strict=True)), mean


def enough(X, Y, n_unknowns, per_unknown=_PER_UNKNOWN):
    """As many of the samples as a fit needs."""
    limit = max(_ENOUGH, per_unknown * n_unknowns)
    n_samples = max(limit // max(X[0].numel(), 1), 1)
    return X[:n_samples], Y[:n_samples]


# Candidates


def search_inverse(settings, solver, X, attempt, lowest):
    """Inverse forms: bands that widen until the error stops falling, then what they cannot express."""
    banded = solver in ("auto", "banded") and (solver == "banded" or X[0].numel() <= _LARGE)
    # An explicit rank is that of the factors of the inverse, unless the map is turned into terms of its own.
    free_rank = settings.rank == "auto" or settings.in_terms
    eigenbasis = solver in ("auto", "eigenbasis") and free_rank
    limit = _MAX_HALF_BANDWIDTH if free_rank else min(settings.rank // 2, _MAX_HALF_BANDWIDTH)

    def widen(periodic):
        best = math.inf
        for w in range(1, limit + 1):
            error = attempt(banded_candidate(settings, w, periodic))
            if lowest() <= _EXACT or not error * _WORTHWHILE < best:
                break
            best = error

    if banded:
        widen(periodic=False)
    error = math.inf
    if eigenbasis and lowest() > _EXACT:
        error = attempt(eigenbasis_candidate(settings, free=False))
        if 1e-10 < error < _COMPLETES:
            attempt(eigenbasis_candidate(settings, free=True))
    partial = eigenbasis and lowest() > settings.accurate
    if partial and any(P.shape[0] > P.shape[1] for P in compress([X], settings.tol)[0]):
        # Noise in the outputs reaches directions that the inputs do not.
        for free in (False, True):
            attempt(eigenbasis_candidate(settings, free=free, of_inputs=True))
    if banded and lowest() > settings.accurate:
        if limit:
            attempt(banded_candidate(settings, 1, False, weighted=True))
        widen(periodic=True)
    if eigenbasis and lowest() > settings.accurate and _COMPLETES <= error < 0.5:
        attempt(eigenbasis_candidate(settings, free=True))


def banded_candidate(settings, w, periodic, weighted=False):
    """Inverse as a Kronecker sum of banded matrices, on the planes where the outputs do not vanish."""

    def fit(X, Y, final):
        planes = settings.active
        bases = [torch.eye(n, dtype=X.dtype)[:, i] for n, i in zip(X.shape[1:], planes, strict=True)]
        n_unknowns = sum(len(i) for i in planes) * (2 * w + 1)
        X, Y = enough(X, Y, n_unknowns)
        for j, i in enumerate(planes):
            if len(i) < X.shape[j + 1]:
                X, Y = X.index_select(j + 1, i), Y.index_select(j + 1, i)
        weights = None
        if weighted:
            matrices, weights = fit_weighted_local_sum(X, Y, w, periodic=periodic)
        else:
            matrices = fit_local_sum(X, Y, w, periodic=periodic)
        return diagonalised(
            matrices,
            symmetric=settings.symmetric,
            weights=weights,
            bases=bases,
            with_inverse=final,
            levels=settings.levels,
        )

    label = f"inverse of a Kronecker sum of {'periodic ' if periodic else ''}{2 * w + 1}-point matrices"
    label += " with row weights" if weighted else ""
    return Candidate("inverse", "banded", label, fit, half_bandwidth=w)


def dense_sum(X, Y, of_inputs, settings):
    """Bases of the modes, samples in them, and the Kronecker sum; kept, because two candidates start from it."""
    key = X.data_ptr(), len(X), of_inputs
    if key not in settings.memo:
        bases, (f, *u) = compress([X] if of_inputs else [X, Y], settings.tol)
        u = multilinear(Y, [S.mT for S in bases]) if of_inputs else u[0]
        f, u = enough(f, u, sum(S.shape[1] ** 2 for S in bases))
        settings.memo[key] = bases, f, u, fit_dense_sum(f, u)
    return settings.memo[key]


def eigenbasis_candidate(settings, free, of_inputs=False):
    """Inverse as a Kronecker sum in the subspaces that the samples (inputs) span, with a free symbol or without."""

    def fit(X, Y, final):
        bases, few_f, few_u, matrices = dense_sum(X, Y, of_inputs, settings)
        if not free:
            return diagonalised(
                matrices,
                symmetric=settings.symmetric,
                bases=bases,
                with_inverse=final,
                levels=settings.levels,
            )
        start = diagonalised(matrices, symmetric=settings.symmetric)
        if start.symbol.is_complex():
            raise np.linalg.LinAlgError("A free symbol needs real eigenvalues.")
        n_samples = max(_REFINED // (few_f[0].numel() * sum(few_f.shape[1:])), 2)
        eigen, symbol, energy = refine_basis(
            few_f[:n_samples], few_u[:n_samples], start.outputs, symmetric=settings.symmetric
        )
        symbol = complete_symbol(symbol, known_part(energy))
        dual = eigen if settings.symmetric else [torch.linalg.inv(E).mT for E in eigen]
        return DiagonalizedOperator(
            [S @ E for S, E in zip(bases, eigen, strict=True)],
            [S @ E for S, E in zip(bases, dual, strict=True)],
            symbol,
        )

    kind = "map with a free symbol" if free else "inverse of a Kronecker sum"
    label = f"{kind} in the span of the {'inputs' if of_inputs else 'samples'}"
    return Candidate("inverse", "eigenbasis", label, fit)


def search_terms(settings, solver, train, attempt):
    """Sums of Kronecker products, of the given number of terms or of as many as lower the error."""
    X, Y = train
    n_in = [P.shape[1] for P in compress([X], settings.tol)[0]]
    determined = X.ndim == 3 and math.prod(n_in) <= len(X)
    ranks: Sequence[int] = (settings.outer_rank,)
    if settings.outer_rank == "auto":
        # With more unknowns than numbers, the samples decide nothing.
        n_unknowns = sum(p * n for p, n in zip(n_in, Y.shape[1:], strict=True)) / (1 + settings.symmetric)
        ranks = [R for R in _OUTER_RANKS if R == 1 or R * n_unknowns < Y.numel()]
    if solver == "least_squares" or (solver == "auto" and determined):
        search_ranks(ranks, lambda R: attempt(least_squares_candidate(settings, R)))
    elif solver in ("auto", "als"):
        for alpha in (0.0, 1e-3) if settings.alpha == "auto" else (settings.alpha,):
            growing: dict = {}
            error = search_ranks(
                ranks[:11],
                lambda R, a=alpha, g=growing: attempt(als_candidate(settings, R, a, g)),
            )
            if error <= settings.accurate:
                break


def search_ranks(ranks, error_of):
    """Grow the number of terms until the error has stopped falling."""
    best, misses = math.inf, 0
    for R in ranks:
        error = error_of(R)
        misses = 0 if error * 1.2 < best else misses + 1
        best = min(best, error)
        if misses > 2 or best < _ENOUGH_TERMS:
            break
    return best


def compressed(X, Y, settings):
    """Samples in bases of the modes, and the bases: common ones for symmetric maps, else those of the inputs whiten."""
    right, left = [], []
    for j in range(X.ndim - 1):
        P, s = mode_basis([X], j, settings.tol)
        right.append(P / s)
        left.append(mode_basis([Y], j, settings.tol)[0])
    # Where the outputs have many more directions than the inputs, symmetry would not save unknowns.
    if settings.symmetric and math.prod(Q.shape[1] for Q in left) <= 2 * math.prod(P.shape[1] for P in right):
        bases, (x, y) = compress([X, Y], settings.tol)
        return x, y, bases, bases
    return multilinear(X, [P.mT for P in right]), multilinear(Y, [Q.mT for Q in left]), left, right


def least_squares_candidate(settings, outer_rank):
    """The least-squares map, split into terms."""
    alpha = 0.0 if settings.alpha == "auto" else settings.alpha

    def fit(X, Y, final):
        x, y, left, right = compressed(X, Y, replace(settings, symmetric=False))
        W = least_squares_terms(x, y, outer_rank, alpha=alpha * float(x.square().sum(0).mean()))
        # The terms are the best ones for white inputs; those for inputs like the samples are not far.
        few_x, few_y = enough(x, y, sum(w.numel() for w in W))
        for _ in range(10 if relative_error(columns(apply_terms(W, few_x)), columns(few_y)) > _EXACT else 0):
            W = alternate(W, few_x, few_y, ridge=alpha)
        return expanded(W, left, right, settings, x, y, final)

    label = f"least squares in {outer_rank} Kronecker products"
    return Candidate("forward", "least_squares", label, fit, alpha=alpha)


def ridge_candidate(settings):
    """Ridge regression, or with alpha="auto" least squares freed of noise."""

    def fit(X, Y, final):
        alpha = settings.alpha
        if alpha != "auto":
            alpha *= float(X.flatten(1).square().sum(0).mean())
        wanted = RidgeSettings("auto", "auto", False, "forward", "least_squares", alpha, settings.tol, None)
        left, right, _ = least_squares(Data(columns(X), columns(Y)), wanted)
        return LowRankOperator(left.mT.unflatten(-1, Y.shape[1:]), right.mT.unflatten(-1, X.shape[1:]))

    alpha = None if settings.alpha == "auto" else settings.alpha
    return Candidate("forward", "least_squares", "ridge regression", fit, alpha=alpha)


def als_candidate(settings, outer_rank, alpha, growing):
    """Alternating least squares, polished.

    `growing` holds what fewer terms have given for the training samples, for more terms to go on from.
    """
    before: list[list[torch.Tensor]] = []

    def fit(X, Y, final):
        x, y, left, right = compressed(X, Y, settings)
        n_unknowns = outer_rank * sum(Q.shape[1] * P.shape[1] for Q, P in zip(left, right, strict=True))
        x, y = enough(x, y, n_unknowns, _PER_UNKNOWN if final else _PER_UNKNOWN // 4)
        if final and before:
            W = [Q.mT @ w @ torch.linalg.pinv(P.mT) for w, Q, P in zip(before[-1], left, right, strict=True)]
        else:
            start = growing.get("terms")
            W = grow_terms(x, y, outer_rank, start=start, ridge=alpha, generator=torch.Generator().manual_seed(0))
            growing["terms"] = W
        for _ in range(12):
            W = alternate(W, x, y, ridge=alpha)
        if not alpha:
            W = polished(W, x, y, symmetric=left is right)
        before.append([Q @ w @ P.mT for w, Q, P in zip(W, left, right, strict=True)])
        return expanded(W, left, right, settings, x, y, final)

    label = f"alternating least squares, {outer_rank} Kronecker products" + (f", ridge {alpha:g}" if alpha else "")
    return Candidate("forward", "als", label, fit, alpha=alpha)


def polished(W, x, y, symmetric):
    """Terms with symmetric factors, where such fit a symmetric map at all, else with any."""
    if symmetric:
        candidate = polish_terms(W, x, y, symmetric=True)
        if float((y - apply_terms(candidate, x)).norm()) < 0.05 * float(y.norm()):
            return candidate
    return polish_terms(W, x, y)


def expanded(W, left, right, settings, x, y, final):
    """Terms in compressed coordinates as a sum of Kronecker products of HSS matrices on the grids."""
    dense = [Q @ w @ P.mT for w, Q, P in zip(W, left, right, strict=True)]
    X, Y = (multilinear(z, [torch.linalg.pinv(B.mT) for B in side]) for z, side in ((x, right), (y, left)))
    return as_factors(dense, X, Y, settings, final)


def as_factors(dense, X, Y, settings, final):
    """Dense factors as HSS matrices of the wanted rank and levels."""
    if settings.rank != "auto":
        return KroneckerProductSum(
            project_terms(dense, X, Y, rank=settings.rank, levels=settings.levels, tol=settings.noise)
        )
    levels = settings.levels if final or settings.levels != "auto" else 0
    return KroneckerProductSum.from_dense(dense, levels=levels)


def in_terms(candidate, settings):
    """Turn a map that is diagonal in a product basis into the wanted number of Kronecker products."""

    def fit(X, Y, final):
        operator = candidate.build(X, Y, False)
        n_modes, generator = X.ndim - 1, torch.Generator().manual_seed(0)
        # Samples like the given ones, but enough of them to determine all factors.
        bases, _ = compress([X], settings.tol)
        spreads = [unfold(multilinear(X, [P.mT for P in bases]), j).square().mean(1).sqrt() for j in range(n_modes)]
        z = torch.randn(4 * settings.outer_rank + 8, *map(len, spreads), dtype=X.dtype, generator=generator)
        x = multilinear(z, [P * s / s.max() for P, s in zip(bases, spreads, strict=True)])
        if operator.symbol.is_complex():
            f, u, left, right = compressed(x, operator.apply(x), settings)
            W = grow_terms(f, u, settings.outer_rank, generator=generator)
            return expanded(W, left, right, settings, f, u, final)
        coefficients = multilinear(X, [Z.mT for Z in operator.inputs])
        sizes = [unfold(coefficients, j).square().mean(1).sqrt() for j in range(n_modes)]
        W = symbol_terms(operator, settings.outer_rank, sizes)
        return as_factors(W, x, operator.apply(x) if settings.rank != "auto" else x, settings, final)

    return replace(candidate, label=f"{candidate.label}, in {settings.outer_rank} Kronecker products", build=fit)


def build(candidate, X, Y, final=False):
    """The map that a candidate makes of samples; None if they are degenerate."""
    try:
        operator = candidate.build(X, Y, final)
    except _SINGULAR:
        return None
    return operator


# The choice


def choose(trials):
    """The best trial; among those that are about as good and accurate, the most special one."""
    lowest = min(t.error for t in trials)
    bound = lowest if lowest > _ACCURATE else max(_WORTHWHILE * lowest, _EXACT)
    return next(t for t in trials if t.error <= bound)


def completed(operator, chosen, tried, X, Y, settings):
    """The map, completed where inputs like none of the samples would go; what that is; and what the samples span."""
    if chosen.candidate.solver == "banded":
        return operator, "rows that the samples leave open are those of their neighbours", None
    seen, _ = compress([X], settings.tol)
    if all(P.shape[0] == P.shape[1] for P in seen):
        return operator, "the samples reach everything", None
    banded = [t for t in tried if t.candidate.solver == "banded"]
    best = min(banded, key=lambda t: t.error, default=None)
    if settings.in_terms or best is None or best.error > _COMPLETES:
        return operator, "inputs outside the span of the samples give zero", seen
    rest = build(best.candidate, X, Y)
    if not isinstance(rest, DiagonalizedOperator):
        return operator, "inputs outside the span of the samples give zero", seen
    within = DiagonalizedOperator(
        rest.outputs, [(P @ P.mT).to(Z.dtype) @ Z for P, Z in zip(seen, rest.inputs, strict=True)], rest.symbol
    )
    completion = f"inputs outside the span of the samples: {best.candidate.label}, held-out error {best.error:.1e}"
    return OperatorSum([operator, rest, -1 * within]), completion, seen


def explain(chosen, tried, n_samples):
    """Why the candidate was chosen, in one line."""
    if n_samples < 2:
        return f"{chosen.candidate.label}: a single sample leaves none to verify the fit with"
    reason = f"{chosen.candidate.label}: held-out error {chosen.error:.1e}"
    for form in ("inverse", "forward"):
        others = [t for t in tried if t.candidate.form == form and t is not chosen]
        if others:
            best = min(others, key=lambda t: t.error)
            reason += f"; next best {form} form, {best.candidate.label}: {best.error:.1e}"
    return reason


def seen_fraction(X, seen):
    """Share of the energy of fields in the product of subspaces, per sample: (n_samples,)."""
    inside = multilinear(X, [P.mT for P in seen]).flatten(1).square().sum(1)
    return inside / X.flatten(1).square().sum(1).clamp_min(1e-300)
