"""One entry point for fitting an HSS matrix to samples: it tries what the data allow and keeps what predicts best.

Candidates are fitted without some held-out samples and judged by their error on those: the closed form, the inverse
form, a banded matrix, variable projection, minimum-norm least squares. A candidate that does not reproduce the training
samples may get a correction, ridge regression of what it leaves on what it predicts. On inputs that the training
samples span, the result is then as exact as least squares; off their span it is the candidate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.linalg import solve_banded

from . import _building
from ._closed_form import closed_form
from ._cluster_tree import ClusterTree, split_leaves
from ._diagnosis import likeliest_cause
from ._gauss_newton import best_leaf_size, levenberg_marquardt, variable_projection
from ._hss_matrix import HSSMatrix
from ._local_inverse import LocalInverse, fit_local_inverse

# Held-out errors below the first are as good as rounding allows. A wider band must better those above the second.
_EXACT, _GOOD_BAND = 1e-11, 1e-10
# Errors below the first are those of exact samples; a correction does not save a fit with one above the second.
_ACCURATE, _HOPELESS = 1e-6, 0.3
# Factor by which fits amplify rounding errors, and the error that is no longer taken for one of rounding.
_AMPLIFIED, _NOTICEABLE = 300.0, 1e-2
# Errors of fewer samples, each left out once, tell nothing about a penalty.
_FEW = 5
# A richer candidate is kept only if it divides the held-out error by this.
_WORTHWHILE = 3.0
_MAX_HALF_BANDWIDTH = 8
_RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
# Variable projection holds a dense matrix with n * rank columns.
_MAX_PROJECTION, _MAX_JACOBIAN = 1024, 3_000_000
# What torch and SciPy raise for singular matrices.
_SINGULAR = (np.linalg.LinAlgError, torch.linalg.LinAlgError)
# Singular values of the samples below this fraction of the largest one are rounding errors.
_ROUNDING = 1e-13


@dataclass
class HSSFit:
    """What :func:`fit_hss` found.

    Attributes
    ----------
    operator : HSSMatrix
        The matrix A with Y = A X.
    form : {"forward", "inverse"}
        Whether A or a banded L = A⁻¹ was fitted.
    solver : {"closed_form", "gauss_newton", "banded", "least_squares"}
        How.
    symmetric : bool
        Whether A was taken to be symmetric.
    half_bandwidth : int or None
        Of the banded matrix, where one was fitted.
    alpha : float or None
        Ridge penalty of least squares or of the correction; None if there is neither.
    held_out_error : float
        Mean relative error on samples that were held out, NaN where there were too few.
    residual : float
        Mean relative error of A on all samples.
    reason : str
        Why this candidate was chosen.
    candidates : list of dict
        All that were tried, with their held-out errors.
    inactive : Tensor of bool, of shape (n_rows,)
        Points where all samples of Y are zero, and so are the predictions.
    intercept : Tensor of shape (n_rows,) or None
        The vector c of Y = A X + c, where there is one.
    doubts : callable
        Returns a list of messages for the user. Diagnosis takes a while, and not everybody listens.
    """

    operator: HSSMatrix
    form: str
    solver: str
    symmetric: bool
    half_bandwidth: int | None
    alpha: float | None
    held_out_error: float
    residual: float
    reason: str
    candidates: list
    inactive: torch.Tensor
    intercept: torch.Tensor | None
    doubts: Callable[[], list[str]]


@dataclass(frozen=True)
class Settings:
    """Parameters of :func:`fit_hss`."""

    rank: int | str
    levels: int | str
    symmetric: bool | str
    form: str
    solver: str
    alpha: float | str
    tol: float
    noise: float | None

    @property
    def accurate(self):
        """Error on held-out samples below which these are as good as exact."""
        return accurate(self.noise)


def accurate(noise):
    """Error on held-out samples below which these are as good as exact, for numbers of a relative error `noise`.

    Fits amplify rounding; but an error that users would notice is none of rounding.
    """
    return max(_ACCURATE, min(_AMPLIFIED * (noise or 0), _NOTICEABLE))


@dataclass(frozen=True)
class Data:
    """Samples in columns, scaled to a largest entry of one.

    P and Z are those of the transpose, if there are any. The last `n_made_up` samples are none that were given: they
    help to determine a fit, and have no part in errors or other statistics. Rows of Y that are not `inside` do not
    count either; all do if it is None.
    """

    X: torch.Tensor
    Y: torch.Tensor
    P: torch.Tensor | None = None
    Z: torch.Tensor | None = None
    n_made_up: int = 0
    inside: torch.Tensor | None = None

    @property
    def given(self):
        """Without what was made up."""
        kept = self.X.shape[1] - self.n_made_up
        return replace(self, X=self.X[:, :kept], Y=self.Y[:, :kept], n_made_up=0)

    def error(self, prediction, typical=None):
        """Mean relative error of a prediction of Y, inside."""
        if self.inside is not None:
            prediction = torch.where(self.inside[:, None], prediction, 0)
        return relative_error(prediction, self.Y, typical)


@dataclass(frozen=True)
class Model:
    """A fitted map: its predictions, and how to make an HSS matrix of it. None predicts zero."""

    predict: Callable[[torch.Tensor], torch.Tensor]
    operator: Callable[[], HSSMatrix]


@dataclass(frozen=True)
class Candidate:
    """A way to fit, which needs at least `n_samples` samples."""

    form: str
    solver: str
    label: str
    n_samples: float
    build: Callable[[Data], Model | None]
    symmetric: bool = False
    half_bandwidth: int | None = None
    completed: bool = False  # a closed form with made-up samples, which rounding hurts less than what it was made from


@dataclass(frozen=True)
class Trial:
    """A candidate, the correction that suits it, and its error on held-out samples."""

    candidate: Candidate
    error: float
    base_error: float = math.inf  # without the correction
    alpha: float | None = None


def fit_hss(
    X: torch.Tensor,
    Y: torch.Tensor,
    *,
    adjoint: tuple[torch.Tensor, torch.Tensor] | None = None,
    rank: int | str = "auto",
    levels: int | str = "auto",
    symmetric: bool | str = "auto",
    form: str = "auto",
    solver: str = "auto",
    alpha: float | str = "auto",
    tol: float = 1e-12,
    noise: float | None = None,
    weights: torch.Tensor | None = None,
    intercept: bool | str = False,
    inside: torch.Tensor | None = None,
    random_state: np.random.RandomState | None = None,
) -> HSSFit:
    """Fit an HSS matrix A to samples Y = A X, or Y = A X + c.

    Parameters
    ----------
    X, Y : Tensors of shape (n_columns, n_samples) and (n_rows, n_samples)
        Samples in columns, in float64.
    adjoint : pair of Tensors (P, Z) of shapes (n_rows, n_adjoint) and (n_columns, n_adjoint), default=None
        Samples Z = Aᵀ P of the transpose.
    rank : int or "auto", default="auto"
        Largest HSS rank. "auto" grows it until the held-out error stops falling.
    levels : int or "auto", default="auto"
        Depth of the cluster trees.
    symmetric : bool or "auto", default="auto"
        Whether A is symmetric. "auto" tests Xᵀ Y.
    form : {"auto", "forward", "inverse"}, default="auto"
        Whether to fit A, or its inverse as a banded matrix.
    solver : {"auto", "closed_form", "gauss_newton", "banded", "least_squares"}, default="auto"
        How to fit A.
    alpha : float or "auto", default="auto"
        Ridge penalty of least squares and of corrections, in units of X²; "auto" chooses by the held-out error.
    tol : float, default=1e-12
        Relative size below which singular values of blocks of X count as zero.
    noise : float, default=None
        Relative error of the numbers in Y; that of rounding in float64 if None.
    weights : Tensor of shape (n_samples,), default=None
        Factors that the samples, and so a constant, have been multiplied by; ones if None.
    intercept : bool or "auto", default=False
        Whether to fit c. "auto" does where that lowers the error on held-out samples much.
    inside : Tensor of bool, of shape (n_rows,), default=None
        Rows of Y that count; the others must be zero.
    random_state : numpy.random.RandomState, default=None
        Chooses the held-out samples.

    Returns
    -------
    HSSFit

    Raises
    ------
    ValueError
        If a parameter does not fit the data.
    """
    settings = Settings(rank, levels, symmetric, form, solver, alpha, tol, noise)
    check_settings(settings, len(Y), len(X), adjoint is not None)
    check_ratio(X, Y)
    # A symmetric operator is its own adjoint.
    P, Z = (None, None) if symmetric is True or adjoint is None else adjoint
    samples = Data(X, Y, P, Z, inside=inside)
    ones = torch.ones_like(X[0]) if weights is None else weights
    order = torch.from_numpy((random_state or np.random.RandomState(0)).permutation(X.shape[1]))
    return searched(lambda centred: Problem(samples, ones, order, settings, centred), intercept, settings).solve()


def searched(problem_of, intercept, settings):
    """The problem, with its candidates tried: on the samples as they are, or about their means.

    Parameters
    ----------
    problem_of : callable
        Takes whether to subtract means.
    intercept : bool or "auto"
        "auto" subtracts them where the fast candidates are not accurate otherwise, and much better then.
    settings : Settings
        With its ``accurate``.
    """
    problem = problem_of(intercept is True)
    problem.search(slow=False)
    if intercept == "auto" and problem.n_samples > 2 and problem.lowest > settings.accurate:
        rival = problem_of(True)
        rival.search(slow=False)
        if rival.lowest * rival.size * _WORTHWHILE < problem.lowest * problem.size:
            problem = rival
    problem.search(slow=True)
    return problem


class Problem:
    """The samples as they are, or about their means, and the candidates that are tried on them.

    Parameters
    ----------
    samples : Data
        As given.
    ones : Tensor of shape (n_samples,)
        Weights of the samples.
    order : Tensor of int, of shape (n_samples,)
        Random order, of which the first ones are held out.
    settings : Settings
    centred : bool
        Whether means are subtracted, those of the training samples from what is held out, too.
    """

    def __init__(self, samples, ones, order, settings, centred):
        self.centred, self.ones, self.n_samples = centred, ones, len(ones)
        everything, self.mean = about_mean(samples, ones, centred)
        train, valid = split(samples, order)
        if valid is not None:
            held_out, kept = valid, train
            train, mean = about_mean(pick_samples(samples, kept), ones[kept], centred)
            valid, _ = about_mean(pick_samples(samples, held_out), ones[held_out], centred, mean)
        else:
            train = everything
        everything, self.scale, self.settings = scaled(everything, settings)
        self.data = with_constant(everything)
        self.train = with_constant(rescaled(train, self.scale))
        self.valid = None if valid is None else rescaled(valid, self.scale)
        self.groups = candidate_groups(self.settings, self.data, self.train.given.X.shape[1])
        self.trials: list[Trial] = []

    @property
    def lowest(self):
        """Smallest error on held-out samples so far."""
        return min((t.error for t in self.trials), default=math.inf)

    @property
    def size(self):
        """Mean norm of the held-out outputs, in the units of the user."""
        return math.inf if self.valid is None else self.scale[1] * float(self.valid.Y.norm(dim=0).mean())

    def search(self, slow):
        """Try the candidates that are fast, or those that are not."""
        self.trials += search(self.groups, self.trials, self.train, self.valid, self.settings, slow)

    def solve(self):
        """The fit to all samples of the best candidate."""
        groups, trials, data, settings = self.groups, self.trials, self.data, self.settings
        complete(groups, trials, data, self.train, self.valid, settings)
        tried, fits = list(trials), []
        while True:
            chosen, reason = choose(groups, trials, data, settings)
            fits.append((chosen, reason, *refit(chosen, data, settings)))
            # A fit to all samples that does much worse than that to a part of them is not the one that was chosen.
            if len(trials) < 2 or fits[-1][-1] <= 10 * max(chosen.error, _GOOD_BAND):
                break
            trials.remove(chosen)
        # If none does as well, none of them is a reason to take a worse one.
        if not fits[-1][-1] <= 10 * max(chosen.error, _GOOD_BAND):
            fits.append(min(fits, key=lambda fit: fit[-1]))
        chosen, reason, operator, alpha, residual = fits[-1]
        if operator is None:
            raise ValueError(f"The samples do not determine an operator by {chosen.candidate.label}; use form='auto'.")
        operator = self.scale[1] / self.scale[0] * operator
        return HSSFit(
            operator=operator,
            form=chosen.candidate.form,
            solver=chosen.candidate.solver,
            symmetric=chosen.candidate.symmetric or settings.symmetric is True,
            half_bandwidth=chosen.candidate.half_bandwidth,
            alpha=None if alpha is None else alpha * self.scale[0] * self.scale[0],
            held_out_error=chosen.error,
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
            inactive=(data.Y == 0).all(1),
            intercept=self.mean[1] - operator @ self.mean[0] if self.centred else None,
            doubts=lambda: doubts(chosen, reason, groups, trials, self),
        )


def refit(trial, data, settings):
    """Operator, penalty and residual of a candidate fitted to all samples; None and infinity if it is singular."""
    try:
        operator, alpha = finish(trial, data, settings)
    except _SINGULAR:
        return None, None, math.inf
    if settings.symmetric is True:
        x = data.given.X + data.given.Y
        if float((operator @ x - operator.T @ x).norm()) > 1e-11 * float((operator @ x).norm()):
            rank = None if settings.rank == "auto" else settings.rank
            operator = ((operator + operator.T) * 0.5).truncate(1e-15, rank)
    residual = data.given.error(operator @ data.given.X)
    return (operator, alpha, residual) if math.isfinite(residual) else (None, None, math.inf)


# The data


def check_settings(settings, n_rows, n_columns, with_adjoint):
    """Refuse parameters that do not fit the sizes, or each other."""
    smallest, square = min(n_rows, n_columns), n_rows == n_columns
    rank, levels = settings.rank, settings.levels
    if levels != "auto":
        leaf = min(ClusterTree(n, levels).min_leaf_size for n in (n_rows, n_columns))
        if rank != "auto" and levels and rank > leaf:
            raise ValueError(
                f"rank={rank} exceeds the smallest of 2**{levels} leaves of {smallest} points: "
                f"the largest value that works with levels={levels} is {leaf}."
            )
    elif rank != "auto" and rank > smallest:
        raise ValueError(f"rank={rank} exceeds the {smallest} points of the fields, the largest value that works.")
    for name, value, needs_square in (
        ("symmetric", settings.symmetric, settings.symmetric is True),
        ("form", settings.form, settings.form == "inverse"),
    ):
        if needs_square and not square:
            raise ValueError(f"{name}={value!r} needs as many output as input points; got {n_rows} and {n_columns}.")
    if settings.form == "inverse" and settings.solver not in ("auto", "banded"):
        raise ValueError(f"solver={settings.solver!r} does not apply to form='inverse'; leave it at 'auto'.")
    if settings.solver == "banded" and not square:
        raise ValueError(f"solver='banded' needs as many output as input points; got {n_rows} and {n_columns}.")
    if settings.solver == "closed_form" and not with_adjoint and (settings.symmetric is False or not square):
        raise ValueError(
            "solver='closed_form' needs a symmetric operator or adjoint samples: give adjoint=(P, Z), "
            "or use solver='gauss_newton' or form='inverse'."
        )


def check_ratio(X, Y):
    """Refuse inputs and outputs whose quotients are no numbers."""
    x_scale, y_scale = (float(M.abs().max()) or 1.0 for M in (X, Y))
    if not (math.isfinite(y_scale / x_scale) and math.isfinite(x_scale / y_scale)):
        raise ValueError(
            f"Inputs of size {x_scale:.0e} and outputs of size {y_scale:.0e} are too far apart; use other units."
        )


def about_mean(data, ones, centred, mean=None):
    """Samples minus their means, or those given, and the means; unchanged, and zeros, if not `centred`."""
    if not centred:
        return data, (0.0, 0.0)
    if mean is None:
        mean = tuple(M @ (ones / ones.square().sum()) for M in (data.X, data.Y))
    X, Y = (without(M, torch.outer(m, ones)) for M, m in zip((data.X, data.Y), mean, strict=True))
    return replace(data, X=X, Y=Y), mean


def without(M, constant):
    """The difference; zero where nothing but rounding is left of a constant."""
    left = M - constant
    return torch.where(left.abs() <= _ROUNDING * constant.abs().max(), 0, left)


def scaled(data, settings):
    """Samples with largest entries of one, their scales, and settings in these units."""
    scale = tuple(float(M.abs().max()) or 1.0 for M in (data.X, data.Y))
    if settings.alpha != "auto":
        settings = replace(settings, alpha=settings.alpha / scale[0] / scale[0])
    return rescaled(data, scale), scale, settings


def rescaled(data, scale):
    """Samples in other units."""
    x_scale, y_scale = scale
    P, Z = data.P, data.Z
    if P is not None:
        p_scale = float(P.abs().max()) or 1.0
        P, Z = P / p_scale, Z * (x_scale / y_scale / p_scale)
    return replace(data, X=data.X / x_scale, Y=data.Y / y_scale, P=P, Z=Z)


def split(data, order):
    """Training and held-out samples: a fifth is held out, at least one of three; None is, of fewer."""
    n_samples = len(order)
    n_valid = n_samples // 5 or int(n_samples > 2)
    return order[n_valid:].sort().values, order[:n_valid].sort().values if n_valid else None


def pick_samples(data, columns):
    """Some of the samples."""
    return replace(data, X=data.X[:, columns], Y=data.Y[:, columns])


def with_constant(data):
    """Samples, and where none of the inputs and outputs has a mean, that of the constant input and the zero output.

    Neumann and periodic problems are solvable for such inputs only. What their operators do to a constant is a matter
    of choice; zero is the symmetric one, of smallest norm.
    """
    X, Y = data.X, data.Y
    if (
        len(X) != len(Y)
        or len(X) < 2
        or any((M.sum(0).abs() > 1e-11 * M.abs().sum(0)).any() or not M.any() for M in (X, Y))
    ):
        return data
    one = torch.ones_like(X[:, :1])
    return replace(data, X=torch.cat([X, one], dim=1), Y=torch.cat([Y, 0 * one], dim=1), n_made_up=1)


def relative_error(prediction, Y, typical=None):
    """Mean over the samples of the relative error; of samples that are nearly zero, relative to the typical one."""
    sizes = Y.norm(dim=0)
    typical = float(sizes.mean()) if typical is None else typical
    return float(((prediction - Y).norm(dim=0) / sizes.clamp_min(1e-3 * typical or 1.0)).mean())


def dimension(X):
    """Dimension of the span of samples, up to rounding."""
    s = torch.linalg.svdvals(X)
    return int((s > 10 * _ROUNDING * s[:1]).sum())


def asymmetry(X, Y):
    """How far S = Xᵀ Y = Xᵀ A X is from symmetric: 0 for symmetric A, 1 for antisymmetric A."""
    if X.shape[1] > len(X) + len(Y):
        # Of many samples, S is huge, but it has the norms of a small matrix.
        X, Y = torch.linalg.qr(torch.cat([X, Y]).mT, mode="r").R.mT.split([len(X), len(Y)])
    S = X.mT @ Y
    size = float(S.norm())
    return float((S - S.mT).norm()) / (2 * size) if size > 0 else 0.0


# Candidates


def candidate_groups(settings, data, n_train):
    """Groups of candidates that grow richer, in the order in which they are preferred among equals."""
    forward = settings.form in ("auto", "forward")
    solver, square = settings.solver, len(data.X) == len(data.Y)
    groups = []
    symmetric = settings.symmetric
    if symmetric == "auto":
        symmetric = square and data.P is None and (solver == "closed_form" or asymmetry(data.X, data.Y) < 0.1)
    if forward and solver in ("auto", "closed_form") and (symmetric or data.P is not None):
        groups.append([closed_form_candidate(settings, data, rank, n_train, symmetric) for rank in ranks(settings)])
    if square and solver in ("auto", "banded"):
        limit = min(len(data.X) - 1, _MAX_HALF_BANDWIDTH)
        widths = range(min(1, limit), limit + 1)
        if settings.form in ("auto", "inverse"):
            groups.append([inverse_candidate(settings, w) for w in widths])
        if forward:
            groups.append([banded_candidate(settings, w) for w in widths])
    # With as many samples as points, least squares is determined, too.
    if forward and solver == "auto" and not symmetric and data.P is None and n_train < len(data.X):
        groups.append([projection_candidate(settings, data, rank) for rank in ranks(settings, 4)])
    if forward and solver in ("auto", "least_squares"):
        groups.append([Candidate("forward", "least_squares", "minimum norm", 1, lambda data: None)])
    if forward and solver == "gauss_newton":
        groups.append([gauss_newton_candidate(settings, data, rank, symmetric) for rank in ranks(settings, 4)])
    return groups


def ranks(settings, largest=_RANKS[-1]):
    """Ranks to try."""
    return [rank for rank in _RANKS if rank <= largest] if settings.rank == "auto" else [settings.rank]


def trees(data, levels):
    """Cluster trees of the given depth over outputs and inputs."""
    return ClusterTree(len(data.Y), levels), ClusterTree(len(data.X), levels)


def closed_form_candidate(settings, data, rank, n_train, symmetric):
    """Null spaces, over the deepest tree with leaves of twice the rank, or a deeper one if the samples are too few."""
    n = min(len(data.X), len(data.Y))
    available = n_train if data.P is None else min(n_train, data.P.shape[1])

    def leaf(levels):
        return -(-max(len(data.X), len(data.Y)) // 2**levels)

    levels = settings.levels
    if levels == "auto":
        levels = ClusterTree.max_levels(n, 2 * rank)
        while leaf(levels) + rank > available and n >> (levels + 1) >= rank:
            levels += 1

    def build(data):
        row_tree, col_tree = trees(data, levels)
        *generators, _ = closed_form(
            row_tree, col_tree, data.X, data.Y, data.P, data.Z, rank=rank, input_tol=settings.tol
        )
        return hss_model(HSSMatrix(row_tree, col_tree, *generators))

    needed = max(leaf(levels) + rank, 3 * rank) if levels else 1
    if available < needed and data.P is not None and available < n_train:
        needed = n_train + 1  # it is the adjoint samples that are too few
    label = f"closed form, rank {rank}, {'symmetric' if data.P is None else 'adjoint samples'}"
    return Candidate("forward", "closed_form", label, needed, build, symmetric=data.P is None)


def inverse_candidate(settings, w):
    """Banded L with L y = x."""

    def build(data):
        # A sample that is made up, an output of zero, says nothing about the rows of an inverse.
        local = fit_local_inverse(data.given.X, data.given.Y, w, settings.noise)
        if settings.symmetric is True:
            local = replace(local, ab=symmetrised(local.ab))
        return inverse_model(local, settings)

    label = f"banded inverse, {2 * w + 1} points"
    return Candidate(
        "inverse", "banded", label, 2 * w + 1, build, symmetric=settings.symmetric is True, half_bandwidth=w
    )


def completed_candidate(settings, inverse):
    """Closed form with samples that are too few, completed by products with a symmetric inverse form that fits them.

    The made-up samples weigh little, so that they decide only what the given ones leave open; there, the inverse form
    is accurate, while the closed form does not share its sensitivity to rounding.
    """
    rank = 2 * inverse.half_bandwidth

    def build(data):
        base, _ = finish(Trial(inverse, 0.0, alpha=0.0), data, settings)
        n, n_samples = data.X.shape
        levels = ClusterTree.max_levels(n, 2 * rank) if settings.levels == "auto" else settings.levels
        tree = ClusterTree(n, levels)
        missing = max(max(tree.max_leaf_size + rank, 3 * rank) + rank - n_samples, 0)
        made_up = torch.randn(n, missing, dtype=data.X.dtype, generator=torch.Generator().manual_seed(0))
        # Points where no forcing acts stay without.
        made_up = 1e-4 * made_up * (data.X != 0).any(1, keepdim=True)
        X, Y = torch.cat([data.X, made_up], dim=1), torch.cat([data.Y, base @ made_up], dim=1)
        *generators, _ = closed_form(tree, tree, X, Y, rank=rank, input_tol=settings.tol)
        return hss_model(HSSMatrix(tree, tree, *generators))

    label = f"closed form, rank {rank}, symmetric, completed by a {inverse.label}"
    return Candidate(
        "forward",
        "closed_form",
        label,
        inverse.n_samples,
        build,
        symmetric=True,
        half_bandwidth=inverse.half_bandwidth,
        completed=True,
    )


def banded_candidate(settings, w):
    """Banded A with A x = y, such as a differential operator."""

    def build(data):
        ab = fit_local_inverse(data.Y, data.X, w).ab
        if settings.symmetric is True:
            ab = symmetrised(ab)
        return hss_model(banded_matrix(ab, settings.levels), settings)

    label = f"banded, {2 * w + 1} points"
    return Candidate(
        "forward", "banded", label, 2 * w + 1, build, symmetric=settings.symmetric is True, half_bandwidth=w
    )


def projection_candidate(settings, data, rank):
    """Forward samples alone, no symmetry."""
    n = max(len(data.X), len(data.Y))
    size, needed = best_leaf_size(n, rank)
    levels = settings.levels
    if levels == "auto":
        levels = ClusterTree.max_levels(min(len(data.X), len(data.Y)), size)
    m = -(-n // 2**levels)
    needed = max(needed, m + 2**levels * rank, 2 * m + n * rank // m)
    if not levels or n * rank > _MAX_PROJECTION:
        needed = math.inf

    def build(data):
        row_tree, col_tree = trees(data, levels)
        # More samples than fit a Jacobian of moderate size are left out.
        k = max(needed, _MAX_JACOBIAN // (2**levels * n * rank**2))
        X, Y = data.X[:, :k], data.Y[:, :k]
        generators = variable_projection(row_tree, col_tree, X, Y, rank, input_tol=settings.tol)
        return hss_model(HSSMatrix(row_tree, col_tree, *generators))

    return Candidate("forward", "gauss_newton", f"variable projection, rank {rank}", needed, build)


def gauss_newton_candidate(settings, data, rank, symmetric):
    """Gauss-Newton on all generators, from the best start at hand."""
    n = min(len(data.X), len(data.Y))

    def build(data):
        n_samples, fixed = data.X.shape[1], replace(settings, rank=rank)
        starts = [projection_candidate(fixed, data, rank)]
        if symmetric or data.P is not None:
            starts.append(closed_form_candidate(fixed, data, rank, n_samples, symmetric))
        operators = [start.build(data).operator() for start in starts if start.n_samples <= n_samples]
        levels = settings.levels
        if levels == "auto":
            levels = ClusterTree.max_levels(n, max(2 * rank, 8))
        operators.append(least_squares_operator(data, levels).truncate(1e-14, rank))
        errors = [relative_error(operator @ data.X, data.Y) for operator in operators]
        start = operators[int(np.argmin(errors))]
        alpha = 0.0 if settings.alpha == "auto" else settings.alpha
        return hss_model(start._like(*levenberg_marquardt(start, data.X, data.Y, alpha=alpha)))

    return Candidate("forward", "gauss_newton", f"Gauss-Newton, rank {rank}", 1, build)


def least_squares_operator(data, levels):
    """Minimum-norm least squares, compressed over a tree."""
    W, s, V = torch.linalg.svd(data.X, full_matrices=False)
    kept = s > _ROUNDING * s[:1]
    row_tree, col_tree = trees(data, levels)
    left, right = data.Y @ (V.mT * torch.where(kept, 1 / torch.where(kept, s, 1), 0)), W
    return HSSMatrix(row_tree, col_tree, *_building.low_rank(left, right, row_tree, col_tree))


def hss_model(A, settings=None):
    """Model of an HSS matrix, cut to the rank of the settings."""
    if settings is not None and settings.rank != "auto" and A.rank > settings.rank:
        A = A.truncate(tol=0, rank=settings.rank)
    return Model(A.__matmul__, lambda: A)


def inverse_model(local: LocalInverse, settings):
    """Model of the inverse of a banded matrix, zero where u is pinned."""
    w, active = local.half_bandwidth, (~local.pinned).to(local.ab.dtype)

    def solve(X, ab=local.ab):
        if w == 0:  # old versions of SciPy fail for a single point
            return X / ab[0][:, None]
        return torch.from_numpy(solve_banded((w, w), ab.numpy(), X.numpy(), check_finite=False))

    def operator():
        # By products with the inverse, which Gaussian elimination gives more accurately than the ULV factorisation.
        n, generator = len(active), torch.Generator().manual_seed(0)
        transposed = transposed_band(local.ab)
        A = HSSMatrix.from_products(
            solve, lambda X: solve(X, transposed), (n, n), rank=2 * w, levels=settings.levels, generator=generator
        )
        return masked(A, active)

    if settings.rank != "auto" and 2 * w > settings.rank:
        return hss_model(operator(), settings)
    return Model(lambda X: active[:, None] * solve(active[:, None] * X), operator)


def transposed_band(ab):
    """Diagonals of the transpose of a banded matrix."""
    w = len(ab) // 2
    return torch.stack([torch.roll(ab[w - d], -d) for d in range(-w, w + 1)])


def banded_matrix(ab, levels):
    """HSS matrix with the given diagonals."""
    w = len(ab) // 2
    return HSSMatrix.from_banded((w, w), ab, levels)


def symmetrised(ab):
    """Diagonals of the symmetric part of a banded matrix."""
    w, n = len(ab) // 2, ab.shape[1]
    ab = ab.clone()
    for d in range(1, min(w, n - 1) + 1):
        mean = (ab[w - d, d:] + ab[w + d, : n - d]) / 2
        ab[w - d, d:], ab[w + d, : n - d] = mean, mean
    return ab


def masked(A, active):
    """Symmetric restriction of `A` to the active points: other rows and columns are zero."""
    mask = split_leaves(active[:, None], A.row_tree)
    U, V = ([mask * bases[0], *bases[1:]] if bases else [] for bases in (A.U, A.V))
    return A._like([mask * A.D[0] * mask.mT, *A.D[1:]], U, V)


# Corrections


def assess(candidate, train, valid, settings):
    """Fit a candidate to the training samples and try it, with and without a correction, on the held-out ones."""
    try:
        model = candidate.build(train)
        train = train.given
        prediction, held_out = (torch.zeros_like(train.Y), torch.zeros_like(valid.Y))
        if model is not None:
            prediction, held_out = model.predict(train.X), model.predict(valid.X)
    except _SINGULAR:
        return Trial(candidate, math.inf)
    typical = float(train.Y.norm(dim=0).mean())
    error = valid.error(held_out, typical)
    if not math.isfinite(error):
        return Trial(candidate, math.inf)
    plain = Trial(candidate, error, error)
    if model is None:
        left, right, alpha = least_squares(train, settings)
        error = valid.error(left @ (right.mT @ valid.X), typical)
        return replace(plain, error=error, base_error=error)
    if settings.rank != "auto" or candidate.solver == "gauss_newton" or not 0.1 * _EXACT < plain.error < _HOPELESS:
        return plain
    ridge, trials = Ridge(prediction, train.Y - prediction), []
    if len(ridge.s) > min(len(train.X), len(train.Y)) / 8:
        return plain  # with as many directions, the matrix would be larger than a dense one
    for alpha in ridge.alphas() if settings.alpha == "auto" else [settings.alpha]:
        left, right = ridge.factors(alpha)
        error = valid.error(held_out + left @ (right.mT @ held_out), typical)
        trials.append(replace(plain, error=error, alpha=alpha))
    best = min(trials, key=lambda t: t.error)
    # Exact samples are to be reproduced exactly, which makes the result as good as least squares on their span.
    if trials[-1].error < max(1.1 * best.error, _ACCURATE):
        best = trials[-1]
    # A correction makes the matrix larger, so it must be worth that.
    helps = best.error * _WORTHWHILE < plain.error or (plain.error > _GOOD_BAND and best.error < _ACCURATE)
    helps = helps or (plain.error > _ACCURATE and best.error <= plain.error)
    return best if helps else plain


def least_squares(data, settings):
    """Ridge regression with the penalty of the smallest leave-one-out error, freed of noise.

    Returns
    -------
    left, right : Tensors
        The map is left @ right'.
    alpha : float
    """
    ridge = Ridge(data.X, data.Y)
    alpha = ridge.best_alpha() if settings.alpha == "auto" else settings.alpha
    if settings.alpha == "auto":
        ridge.denoise()
    return *ridge.factors(alpha, None if settings.rank == "auto" else settings.rank), alpha


class Ridge:
    """Ridge regression without intercept of Y on X, samples in columns, for many penalties."""

    def __init__(self, X, Y):
        self.W, self.s, V = torch.linalg.svd(X, full_matrices=False)
        kept = int((self.s > _ROUNDING * self.s[:1]).sum())
        self.W, self.s, self.V = self.W[:, :kept], self.s[:kept], V[:kept]
        self.targets, self.Y = Y, Y @ self.V.mT

    def best_alpha(self):
        """Penalty with the smallest leave-one-out error, as in scikit-learn's RidgeCV; none for hardly any samples."""
        if self.V.shape[1] < _FEW:
            return 0.0
        independent = len(self.V) == self.V.shape[1]
        unexplained = self.targets - self.Y @ self.V

        def error(alpha):
            if independent:
                # Residuals and degrees of freedom vanish with the penalty; their ratio does not.
                weight, left, freedom = 1 / (self.s**2 + alpha), 0.0, 0.0
            else:
                weight, left = alpha / (self.s**2 + alpha), unexplained
                freedom = (1 - self.V.square().sum(0)).clamp_min(1e-12)
            left_out = (left + (self.Y * weight) @ self.V) / (freedom + weight @ self.V.square())
            return float(left_out.square().sum())

        return min(self.alphas(), key=error)

    def denoise(self):
        """Free the coefficients of as much noise as their singular values give away.

        Optimal shrinkage for the Frobenius norm (Gavish, Donoho 2017); the level of the noise is that of what no
        linear map explains. Outputs along the inputs, where operators of this kind have their largest entries, are left
        as they are, so that the noise elsewhere stands alone and is recognised.
        """
        freedom = self.V.shape[1] - len(self.V)
        if not len(self.V) or freedom <= 0:
            return
        noise = (self.targets - self.Y @ self.V).square().sum(1, keepdim=True) / freedom
        noise = noise.clamp_min(1e-16 * float(noise.max()) + 1e-300).sqrt()
        along = self.W @ (self.W.mT @ self.Y) if len(self.W) == len(self.Y) else torch.zeros_like(self.Y)
        self.Y = along + noise * shrunk((self.Y - along) / noise)

    def alphas(self):
        """Penalties to choose from: a hundred times the largest squared singular value, down to none."""
        largest = float(self.s[0]) ** 2 if len(self.s) else 1.0
        return [*(largest * 10.0**exponent for exponent in range(2, -23, -1)), 0.0]

    def factors(self, alpha, rank=None):
        """Coefficients as left @ right', cut to `rank` in the directions of the largest fitted values."""
        left, right = self.Y * (self.s / (self.s**2 + alpha)), self.W
        if rank is not None and rank < left.shape[1]:
            basis = torch.linalg.svd(left * self.s, full_matrices=False)[0][:, :rank]
            left, right = basis, right @ (left.mT @ basis)
        return left, right


def shrunk(Y):
    """Optimal shrinkage of the singular values of a matrix with white noise of unit variance."""
    u, s, vh = torch.linalg.svd(Y, full_matrices=False)
    unit = max(Y.shape) ** 0.5
    beta, y = min(Y.shape) / max(Y.shape), s / unit
    new = ((y**2 - beta - 1).square() - 4 * beta).clamp_min(0).sqrt() / y.clamp_min(1e-300)
    return (u * torch.where(y > 1 + beta**0.5, new, 0) * unit) @ vh


# The choice


def search(groups, before, train, valid, settings, slow):
    """Try the candidates of each group until its error stops falling, and all groups until one is exact.

    Parameters
    ----------
    groups : list of lists of Candidate
    before : list of Trial
        Candidates that have been tried.
    train, valid : Data
    settings : Settings
    slow : bool
        Whether to try the groups that are slow, or the others.

    Returns
    -------
    list of Trial
    """
    trials: list[Trial] = []
    n_train = train.X.shape[1]
    # Samples that depend on others determine no more unknowns of a row.
    n_independent = min(dimension(train.given.X), dimension(train.given.Y))
    for group in groups:
        lowest = min((t.error for t in [*before, *trials]), default=math.inf)
        is_slow = settings.solver == "auto" and any(c.solver == "gauss_newton" for c in group)
        if valid is None or is_slow != slow or (slow and lowest < settings.accurate):
            continue
        best, misses = math.inf, 0
        for candidate in group:
            if candidate.n_samples > (n_train if candidate.half_bandwidth is None else n_independent):
                break
            trials.append(assess(candidate, train, valid, settings))
            error = trials[-1].base_error
            misses = 0 if error * _WORTHWHILE < best else misses + 1
            best = min(best, error)
            if misses > 1 or best < (_GOOD_BAND if candidate.half_bandwidth else _EXACT):
                break
        if any(t.base_error < _EXACT for t in trials):
            break
    return trials


def complete(groups, trials, data, train, valid, settings):
    """Put the completed closed form first, where an inverse form is good and the operator symmetric."""
    inverses = [t for group in groups for t in [pick(group, trials)] if t is not None and t.candidate.form == "inverse"]
    if not inverses or inverses[0].error > _ACCURATE or settings.form != "auto" or data.P is not None:
        return
    lowest = min(t.base_error for t in trials)
    symmetric = settings.symmetric is True or (settings.symmetric == "auto" and asymmetry(data.X, data.Y) < 1e-8)
    rank = 2 * inverses[0].candidate.half_bandwidth
    scarce = data.X.shape[1] < 5 * rank
    if settings.solver == "auto" and symmetric and scarce and lowest > 0.1 * _EXACT:
        candidate = completed_candidate(settings, inverses[0].candidate)
        groups.insert(0, [candidate])
        trials.append(assess(candidate, train, valid, replace(settings, rank=rank)))


def choose(groups, trials, data, settings):
    """The best trial, and why."""
    finalists = [t for t in (pick(group, trials) for group in groups) if t is not None]
    if not finalists:
        return unverified(groups, data, settings)
    lowest = min(t.error for t in finalists)
    equals = [t for t in finalists if t.error <= max(1.2 * lowest, _EXACT)]
    completed = [t for t in finalists if t.candidate.completed and t.error <= _WORTHWHILE * lowest]
    if lowest > _ACCURATE / 10:
        # Held-out samples are noisy, too, and hide some of what the inverse form makes of noise.
        equals = sorted(equals, key=lambda t: (t.candidate.form, t.error))
    # Among equals, the one that needs its correction least: held-out samples say nothing about inputs off their span.
    elif lowest <= _EXACT:
        least = min(t.base_error for t in equals)
        equals = [t for t in equals if t.base_error <= max(_WORTHWHILE * least, _EXACT)]
    chosen = [*completed, *equals][0]
    reason = f"{chosen.candidate.label}: held-out error {chosen.error:.1e}"
    others = sorted((t for t in finalists if t is not chosen), key=lambda t: t.error)
    if others:
        reason += f"; next best, {others[0].candidate.label}: {others[0].error:.1e}"
    return chosen, reason


def doubts(chosen, reason, groups, trials, problem):
    """Messages for the user where the samples do not decide, or where nothing fits."""
    data, found = problem.data.given, []
    if not math.isfinite(chosen.error):
        found.append(f"n_samples = {data.X.shape[1]} leaves none to verify the fit with ({reason}).")
    others = [t for t in (pick(group, trials) for group in groups) if t is not None and t is not chosen]
    rivals = [
        t
        for t in others
        if t.candidate.form != chosen.candidate.form
        and t.error < 2 * chosen.error
        and not (t.candidate.completed or chosen.candidate.completed)
    ]
    if rivals and chosen.error > _GOOD_BAND:
        found.append(
            f"The choice of form={chosen.candidate.form!r} is close ({reason}): away from inputs like these, the two "
            "may differ. Set form= to decide."
        )
    if chosen.candidate.symmetric and asymmetry(data.X, data.Y) > 0.1:
        found.append(
            "The operator was taken to be symmetric, but the samples are not those of a symmetric one "
            f"(asymmetry {asymmetry(data.X, data.Y):.1e}): set symmetric=False."
        )
    if chosen.error > 0.1:
        found.append(
            f"The best fit found has a relative error of {chosen.error:.1e} on held-out samples ({reason}). "
            f"{likeliest_cause(data.X, data.Y, (len(data.Y),), problem.ones, problem.centred)}"
        )
    return found


def unverified(groups, data, settings):
    """What to fit when no candidate could be tried on held-out samples: the last one that is possible at all."""
    n_samples = data.given.X.shape[1]
    everything = [candidate for group in groups for candidate in group]
    possible = [c for c in everything if c.n_samples <= n_samples]
    if not possible:
        wanted = min(everything, key=lambda c: c.n_samples, default=None)
        if wanted is None or not math.isfinite(wanted.n_samples):
            raise ValueError(
                f"No fit with form={settings.form!r}, solver={settings.solver!r} and rank={settings.rank!r} suits "
                f"fields of {len(data.X)} points; use form='auto' and solver='auto'."
            )
        raise ValueError(
            f"n_samples = {n_samples} is too small for a fit by {wanted.label}, which needs {wanted.n_samples}; "
            "give more samples, or use form='auto' and solver='auto'."
        )
    plain = [c for c in possible if c.solver == "least_squares"]
    candidate = (plain or possible)[-1]
    reason = f"{candidate.label}: the samples are too few to hold any out"
    return Trial(candidate, math.nan), reason


def pick(group, trials):
    """The simplest candidate of a group whose error is not much above the lowest one."""
    own = [t for t in trials if any(t.candidate is c for c in group)]
    if not own:
        return None
    lowest = min(t.error for t in own)
    own = [t for t in own if t.error <= max(_WORTHWHILE * lowest, _EXACT)]
    lowest = min(t.base_error for t in own)
    floor = _GOOD_BAND if own[0].candidate.half_bandwidth else _EXACT
    return next(t for t in own if t.base_error <= max(_WORTHWHILE * lowest, floor))


def finish(trial, data, settings):
    """Fit the chosen candidate, with its correction, to all samples.

    Returns
    -------
    operator : HSSMatrix
    alpha : float or None
        Penalty in use.
    """
    model, alpha = trial.candidate.build(data), trial.alpha
    if model is not None:
        base = model.operator()
        if alpha is None:
            return base, None
        prediction = base @ data.given.X
        left, right = Ridge(prediction, data.given.Y - prediction).factors(alpha)
        if settings.levels == "auto":
            leaf = 2 * (base.rank + left.shape[1])
            base = base.coarsen(min(base.levels, ClusterTree.max_levels(len(data.X), leaf)))
        generators = _building.low_rank(left, base.T @ right, base.row_tree, base.col_tree)
        return base + base._like(*generators), alpha
    left, right, alpha = least_squares(data.given, settings)
    size, dense_size = left.numel() + right.numel(), len(left) * len(right)
    if settings.levels == "auto" and size > dense_size / 2:
        return HSSMatrix.from_dense(left @ right.mT, levels=0), alpha
    return HSSMatrix.from_low_rank(left, right, levels=settings.levels), alpha
