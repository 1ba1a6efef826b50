"""Nonlinear local laws: f around a point as a polynomial in u around it, with the same coefficients at all points."""

import math
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from .._form import EXACT, WORTHWHILE, Form, NotApplicable
from .._law_trials import Trials
from .._local_samples import local_samples
from .._newton import NonlinearInverse, channel_names
from .._polynomials import AXES, Polynomial, Terms, flux_terms, point_terms
from .._reflections import Lines

# Dictionaries, from few terms to many: products of values at a point, with linear differences; fluxes, with the former;
# products of values and differences.
TERMS = ("reaction", "flux", "point")
# Candidate continuations beyond the ends; the first is that of a domain with u = 0 on its boundary.
_ENDS = ("odd beyond", "even", "even node", "odd")
# Relative residual in f, and error in u, below which laws are exact.
_LEAVES, _EXACT = 1e-9, 1e-10
# Factor by which a continuation must reduce the residual of the default one.
_BETTER = 3.0
# Factors by which the residual of a smaller set of terms may be larger: for exact laws, and otherwise.
_AS_EXACT, _AS_GOOD = 3.0, 1.03
# Number of folds; maximal numbers of samples that are solved to validate a law, and that determine continuations.
_FOLDS, _JUDGES, _FEW = 4, 6, 10
# Maximal number of terms of a dictionary, and of stored solutions as initial values.
_MOST, _KEPT = 130, 50
# Ratio of the residuals of individual and joint fits to samples below which the law has a global component.
_ALONE = 1e-2
# Factor of the usual residual above which rows are irregular; number of rounds in which these are determined, since
# more would exclude points where solutions are merely less smooth; error of laws above which this is not attempted.
_IRREGULAR, _ROUNDS, _NEAR = 10.0, 3, 0.05
# Penalties of coefficients of such rows, and the factor by which these must reduce the residual.
_PENALTIES, _HELPS = np.logspace(-1, -11, 11), 0.25
_NEGLIGIBLE = 1e-14
# One in this many terms may be removed at once.
_AT_ONCE = 10


@dataclass(frozen=True)
class PolynomialLaw(Form):
    """The solution of M f = N(u), where N is a polynomial in neighbouring values with the same coefficients at all
    points.
    """

    terms: str = "reaction"
    radius: int = 1
    two_sided: bool = False
    own_rows: bool = False
    ends: tuple[tuple[str, str], ...] = ()
    hidden: str = "odd beyond"

    solver: ClassVar[str] = "local"
    kind: ClassVar[str] = "inverse"
    effort: ClassVar[int] = 1
    amplifies: ClassVar[bool] = True
    linear: ClassVar[bool] = False

    @classmethod
    def path(cls, samples, options):
        """The law with the smallest cross-validated error, and the next best ones if it fails."""
        trials = PolynomialTrials(cls, samples, options).all()
        good = sorted((t for t in trials if math.isfinite(t.error)), key=lambda t: t.error)
        if not good:
            raise NotApplicable("gives no polynomial whose equation can be solved")
        chosen = next(t for t in trials if t.error <= max(WORTHWHILE * good[0].error, EXACT))
        error = yield chosen.form
        for trial in good:
            if math.isfinite(error):
                break
            if trial is not chosen:
                error = yield trial.form

    def fit(self, samples, start=None):
        del start
        data = equations(samples, self.options)
        return Design(self, data).inverse(data)

    def in_units(self, operator, units):
        """Convert to the units of the user, by which f and u are multiplied."""
        n_channels = operator.law.n_channels
        return operator.in_channel_units([units[1]] * n_channels, [1 / units[0]] * n_channels)

    @classmethod
    def cause(cls, samples, options):
        """Distinguish laws that hold for each sample, but not jointly, from laws that are not polynomials."""
        try:
            data = equations(samples, options)
            trials = PolynomialTrials(cls, samples, options)
        except NotApplicable:
            return None
        alone, together = trials.alone_and_together(data)
        if together < _ALONE:
            return None
        if alone < _ALONE * together:
            return (
                "Likeliest cause: the law is not local, or has hidden parameters: polynomials with different "
                "coefficients explain every sample by itself. A network, such as NeuralHSSRegressor, may help."
            )
        return (
            f"Likeliest cause: the law is not a polynomial of degree {options.degree} in neighbouring values, for "
            "example a rational function, or its coefficients vary from point to point, or the grid does not resolve "
            "the solutions. A network, such as NeuralHSSRegressor, may help."
        )

    def __str__(self):
        parts = [f"polynomial law of degree {self.options.degree}"]
        parts.append({"reaction": "values", "flux": "fluxes", "point": "values and differences"}[self.terms])
        parts += ["both sides"] if self.two_sided else []
        parts += ["individual linear terms near corners"] if self.own_rows else []
        parts += [f"radius {self.radius}"] if self.radius > 1 else []
        kinds = dict.fromkeys([kind for end in self.ends for kind in end])
        parts += [kind for kind in kinds if kind != "odd beyond"]
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Equations:
    """Samples in the form required by polynomial laws: flat fields in columns.

    Attributes
    ----------
    F, U : ndarrays of shape (n_channels, n_points, n_samples)
    roots : ndarray of shape (n_samples,)
        Roots of the weights.
    shape, grid : tuple of int
        Shapes of the grid of points, and of the fields, with channels.
    inside, known : ndarrays of bool, of shape (n_points,)
        Points where u is not always zero, and points where f is known.
    """

    F: np.ndarray
    U: np.ndarray
    roots: np.ndarray
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    inside: np.ndarray
    known: np.ndarray

    @property
    def n_channels(self):
        return len(self.F)

    @property
    def n_samples(self):
        return self.F.shape[2]

    def pick(self, index):
        """Some of the samples."""
        return replace(self, F=self.F[..., index], U=self.U[..., index], roots=self.roots[index])

    @property
    def folds(self):
        """Indices of the samples in every part."""
        return [part for part in np.array_split(np.arange(self.n_samples), min(_FOLDS, self.n_samples)) if part.size]


def equations(samples, options):
    """Convert samples to the form required by polynomial laws.

    Raises
    ------
    NotApplicable
        If polynomial laws are not applicable.
    """
    del options
    if samples.centred:
        raise NotApplicable("is not linear, and does not apply to deviations from the mean")
    if samples.adjacency is not None:
        raise NotApplicable("needs a grid")
    local = local_samples(samples)

    def make():
        pinned = local.pinned.numpy()
        if (pinned != pinned[0]).any():
            raise NotApplicable("needs channels with the same boundaries")
        if pinned[0].all():
            raise NotApplicable("needs outputs that are not zero")
        roots = samples.ones.numpy()
        F, U = (np.moveaxis(Z.numpy(), 0, -1) / roots for Z in (local.F, local.U))
        return Equations(F, U, roots, tuple(local.points.shape), samples.grid_in, ~pinned[0], ~local.silent.numpy())

    return samples.kept(("polynomial",), make)


class Mixed(Terms):
    """Differences along two axes of products of values at a point, such as ``(u^2)_xxyy``."""

    suffix: str = ""

    def names(self, channels):
        found = []
        for name, degree in zip(super().names(channels), self.degrees, strict=True):
            found.append(f"{name}_{self.suffix}" if degree == 1 else f"({name})_{self.suffix}")
        return found


class Own(Terms):
    """Terms of some rows, which have no name."""

    def names(self, channels):
        return ["*"] * len(self)


class Design:
    """Columns of the equations of a form: terms of u, and neighbours of f.

    Parameters
    ----------
    form : PolynomialLaw
    data : Equations
        Samples, of which the grid, the boundaries and the number of channels matter.
    """

    def __init__(self, form, data):
        self.form, self.shape, self.inside, self.n_channels = form, data.shape, data.inside, data.n_channels
        shape, inside, known = data.shape, data.inside, data.known
        self.spacing = form.options.spacing
        whole = bool(inside.all())
        self.lines = Lines(shape, form.ends, None if whole else inside.reshape(shape), form.hidden)
        self.known = Lines(shape, form.ends, None if known.all() else known.reshape(shape), form.hidden)
        self.points = self.lines.points

    @cached_property
    def groups(self):
        """Terms of u."""
        form, axes, degree = self.form, range(len(self.shape)), self.form.options.degree
        lines = [self.lines] * self.n_channels
        if form.terms == "point":
            return (*[point_terms(lines, self.spacing, form.radius, degree)], *self._mixed(lines))
        flux = degree if form.terms == "flux" else 1
        return (
            point_terms(lines, self.spacing, 0, degree),
            *(flux_terms(lines, axis, self.spacing, form.radius, flux) for axis in axes),
            *self._mixed(lines),
        )

    def _mixed(self, lines):
        """Second differences along two axes, which accompany averages of f."""
        if not self.form.two_sided and self.form.options.neighbourhood != "box":
            return
        degree = self.form.options.degree
        values = point_terms(lines, self.spacing, 0, degree, least=1)
        for i in range(len(self.shape)):
            for j in range(i):
                for suffix, product in (
                    (2 * AXES[j] + 2 * AXES[i], self._second(j) @ self._second(i)),
                    (AXES[j] + AXES[i], self._slope(j) @ self._slope(i)),
                ):
                    terms = Mixed(values.features, values.powers, product[:, self.points], None, self.points)
                    object.__setattr__(terms, "suffix", suffix)
                    yield terms

    def _shift(self, axis, offset):
        """Matrix of the shift, between flat fields."""
        spread = sp.csr_array(
            (np.ones(len(self.points)), (self.points, np.arange(len(self.points)))),
            shape=(len(self.inside), len(self.points)),
        )
        return sp.csr_array(spread @ self.lines.shift(axis, offset))

    def _second(self, axis):
        h = self.spacing[axis]
        return (self._shift(axis, 1) - 2 * self._shift(axis, 0) + self._shift(axis, -1)) / h**2

    def _slope(self, axis):
        return (self._shift(axis, 1) - self._shift(axis, -1)) / (2 * self.spacing[axis])

    @cached_property
    def averages(self):
        """Differences of f (name, matrix (n_inside, n_points)), of which M consists.

        Rows for which a neighbour of f is unknown, beyond a boundary, have separate coefficients, common to those with
        the same neighbours.
        """
        if not self.form.two_sided:
            return []
        n_axes, found = len(self.shape), []
        shifts = {
            (axis, o): self.known.shift(axis, o, self.points) for axis in range(n_axes) for o in (-2, -1, 0, 1, 2)
        }
        there = {key: np.asarray(S.sum(axis=1)).ravel() == 1 for key, S in shifts.items()}
        missing = np.array([~there[axis, o] for axis in range(n_axes) for o in (-1, 1)])
        patterns, kind = np.unique(missing, axis=1, return_inverse=True)
        for k, pattern in enumerate(patterns.T):
            rows = sp.diags_array((kind.ravel() == k).astype(float))
            for axis in range(n_axes):
                h = self.spacing[axis]
                before, behind = pattern[2 * axis : 2 * axis + 2]
                centre, suffix = shifts[axis, 0], AXES[axis]
                if not before and not behind:
                    second = shifts[axis, 1] - 2 * centre + shifts[axis, -1]
                    slope = shifts[axis, 1] - shifts[axis, -1]
                    found.append((2 * suffix, k, rows @ second / h**2))
                    found.append((suffix, k, rows @ slope / (2 * h)))
                elif before != behind:
                    way = 1 if before else -1
                    found.append((suffix, k, rows @ (shifts[axis, way] - centre) / (way * h)))
                    if there[axis, 2 * way][kind.ravel() == k].all():
                        second = shifts[axis, 2 * way] - 2 * shifts[axis, way] + centre
                        found.append((2 * suffix, k, rows @ second / h**2))
        inner = not patterns[:, 0].any()
        return [("" if k == 0 and inner else "*", suffix, matrix) for suffix, k, matrix in found]

    @property
    def n_terms(self):
        return sum(len(group) for group in self.groups)

    def columns(self, F, U):
        """Terms and minus the differences of f (n_columns, n_inside, n_channels) of a sample (n_channels, n_points)."""
        Z = U.reshape(-1, 1)
        terms = []
        for group in self.groups:
            columns = group.columns(Z)[..., 0]
            terms.append(columns if columns.shape[1] == len(self.points) else columns[:, self.points])
        together = np.concatenate(terms)
        together = np.broadcast_to(together[..., None], (*together.shape, self.n_channels))
        if not self.averages:
            return together
        return np.concatenate([together, -np.stack([matrix @ F.T for *_, matrix in self.averages])])

    def factors(self, data, rows=slice(None)):
        """Triangular factors (n_samples, n_channels, k, k + 1) of the equations of every sample, or some rows of it."""
        found = []
        for i in range(data.n_samples):
            columns, target = self.columns(data.F[..., i], data.U[..., i]), data.F[:, self.points, i]
            both = [np.concatenate([columns[:, rows, a], target[a : a + 1, rows]]) for a in range(self.n_channels)]
            found.append([triangular(z.T * data.roots[i]) for z in both])
        return np.array(found)

    def remains(self, data, coefficients):
        """Residual of f (n_channels, n_inside, n_samples) for coefficients (n_columns, n_channels)."""
        return np.stack(
            [
                data.F[:, self.points, i]
                - np.einsum("tpa,ta->ap", self.columns(data.F[..., i], data.U[..., i]), coefficients)
                for i in range(data.n_samples)
            ],
            axis=2,
        )

    def coefficients(self, factors, folds):
        """Coefficients (n_columns, n_channels), with zeros for insignificant terms."""
        return np.stack([chosen_terms(factors[:, a], folds) for a in range(self.n_channels)], axis=1)

    def inverse(self, data, factors=None):
        """The map from f to the solutions of the law that fits samples best."""
        factors = self.factors(data) if factors is None else factors
        coefficients, own = self.coefficients(factors, data.folds), []
        if self.form.own_rows:
            for _ in range(_ROUNDS):
                rest = self.remains(data, coefficients)
                sizes = np.sqrt(np.square(rest).mean(axis=2)).max(axis=0)
                regular = sizes <= _IRREGULAR * np.median(sizes)
                coefficients = self.coefficients(self.factors(data, regular), data.folds)
            own = self.own_rows(self.remains(data, coefficients), ~regular, coefficients, data)
        return self.solved(coefficients, own, data)

    def own_rows(self, rest, irregular, coefficients, data):
        """Laws of points next to corners, where solutions are singular: groups of a polynomial, and their coefficients.

        The residual of the law of the other points is linear there in the polynomial of u of which the law has mixed
        differences, since the singularity is that of a linear equation. There are fewer samples than neighbours, so the
        weights of minimum norm are used.
        """
        n, (values, *_) = len(self.inside), [group for group in self.groups if isinstance(group, Mixed)]
        start = sum(len(group) for group in self.groups[: self.groups.index(values)])
        place = np.full(n, -1)
        place[self.points] = np.arange(len(self.points))
        place = np.pad(place.reshape(self.shape), 1, constant_values=-1)
        products = [
            values.products(values.values(data.U[..., i].reshape(-1, 1)))[..., 0] for i in range(data.n_samples)
        ]
        found = []
        for a in range(self.n_channels):
            c = coefficients[start : start + len(values), a]
            alone = (values.degrees == 1) & (values.powers[:, a] == 1)
            c = c / np.abs(c).max() if c.any() else alone.astype(float)
            potential = np.stack([c @ product for product in products], axis=1)
            weights = sp.lil_array((n, len(self.points)))
            for k in np.flatnonzero(irregular):
                at = np.unravel_index(self.points[k], self.shape)
                near = place[tuple(slice(x, x + 3) for x in at)].ravel()
                near = near[near >= 0]
                weights[[self.points[k]], near] = potential[near] @ dual_ridge(potential[near], rest[a, k])
            group = Own(values.features, values.powers, sp.csr_array(weights), None, self.points)
            found.append((group, np.outer(c, np.arange(self.n_channels) == a)))
        return found

    def solved(self, coefficients, own, data):
        """The map from f to the solutions of a law."""
        terms, averages = coefficients[: self.n_terms], coefficients[self.n_terms :]
        groups, terms = self.groups, np.split(terms, np.cumsum([len(group) for group in self.groups])[:-1])
        groups, terms = (*groups, *(group for group, _ in own)), [*terms, *(c for _, c in own)]
        law = Polynomial(groups, tuple(terms))
        spread = sp.csr_array(
            (np.ones(len(self.points)), (self.points, np.arange(len(self.points)))),
            shape=(len(self.inside), len(self.points)),
        )
        blocks = []
        for c in averages.T if len(averages) else [[]] * self.n_channels:
            one = sp.eye_array(len(self.inside), format="csr")[self.points]
            blocks.append(spread @ sum((w * m for w, (*_, m) in zip(c, self.averages, strict=True) if w), start=one))
        size = np.square(data.U).sum((0, 1))
        kept = np.sort(np.argsort(-size)[:_KEPT])
        known = tuple(Z[..., kept].reshape(-1, len(kept)) for Z in (data.F, data.U))
        free = np.tile(self.inside, self.n_channels)
        M = sp.csr_array(sp.block_diag(blocks, format="csr"))
        named = [
            (f"{f}_{suffix}{star}", a, float(averages[k, a]))
            for a, f in enumerate(channel_names("f", self.n_channels))
            for k, (star, suffix, _) in enumerate(self.averages)
            if averages[k, a]
        ]
        return NonlinearInverse(law, M, free, data.grid, known, tuple(named))


def triangular(rows):
    """Square triangular factor of a matrix, padded with zeros if necessary."""
    R = scipy.linalg.qr(rows, mode="r", check_finite=False)[0][: rows.shape[1]]
    return np.concatenate([R, np.zeros((rows.shape[1] - len(R), rows.shape[1]))])


def least_squares(R, kept):
    """Coefficients of the last column in terms of the given ones, and their ratios to their uncertainties."""
    A, b = R[:, :-1][:, kept], R[:, -1]
    scale = np.linalg.norm(A, axis=0)
    scale[scale == 0] = 1.0
    u, s, vh = np.linalg.svd(A / scale, full_matrices=False)
    good = s > _NEGLIGIBLE * s[:1]
    x = vh[good].T @ ((u[:, good].T @ b) / s[good])
    spread = np.sqrt(np.square(vh[good] / s[good][:, None]).sum(0))
    return x / scale, np.abs(x) / np.maximum(spread, 1e-300)


def dual_ridge(X, y):
    """Ridge regression of targets (n_samples,) on features (n_features, n_samples), as weights of the samples.

    The penalty is that with the smallest leave-one-out error; if this error is large, the weights are zero.
    """
    values, vectors = np.linalg.eigh(X.T @ X)
    found, smallest = np.zeros(len(y)), _HELPS * np.square(y).sum()
    for penalty in values[-1] * _PENALTIES:
        inverse = (vectors / (np.maximum(values, 0) + penalty)) @ vectors.T
        weights = inverse @ y
        error = np.square(weights / np.diag(inverse)).sum()
        if error < smallest:
            found, smallest = weights, error
    return found


def left(R, kept, c):
    """Norm of the residual of the last column for given coefficients."""
    return np.linalg.norm(R[:, -1] - R[:, :-1][:, kept] @ c)


def cross_validated(R, folds):
    """Function from columns to their relative residual on the left-out parts of the samples."""
    whole, everything = triangular(R.reshape(-1, R.shape[-1])), np.arange(len(R))
    parts = [(whole, whole)]
    if len(folds) > 1:
        parts = [
            tuple(triangular(R[index].reshape(-1, R.shape[-1])) for index in (np.setdiff1d(everything, f), f))
            for f in folds
        ]
    size = np.linalg.norm(whole[:, -1]) or 1.0

    def error(kept):
        return math.sqrt(sum(left(held, kept, least_squares(train, kept)[0]) ** 2 for train, held in parts)) / size

    return whole, error


def chosen_terms(R, folds):
    """Coefficients (n_columns,) of an equation, without terms that do not improve the fit to held-out samples.

    Terms are removed successively, those with the most uncertain coefficients first.
    """
    whole, error = cross_validated(R, folds)
    kept = np.flatnonzero(np.abs(whole[:, :-1]).max(axis=0) > 0)
    sets, errors = [kept], [error(kept)]
    while len(kept) > 1:
        order = np.argsort(least_squares(whole, kept)[1])
        # If there are many, several are removed at once, unless one of these is needed without the others.
        for n_out in (len(kept) // _AT_ONCE, 1):
            rest = np.delete(kept, order[:n_out])
            if n_out and (n_out == 1 or (left_over := error(rest)) <= _AS_GOOD * errors[-1]):
                break
        sets.append(rest)
        errors.append(error(rest) if n_out == 1 else left_over)
        kept = rest
    bound = (_AS_EXACT if min(errors) < _LEAVES else _AS_GOOD) * min(errors)
    chosen = [s for s, e in zip(sets, errors, strict=True) if e <= bound][-1]
    found = np.zeros(R.shape[-1] - 1)
    found[chosen] = least_squares(whole, chosen)[0]
    return found


@dataclass
class PolynomialTrial:
    """A law, and the error of its solutions for left-out samples."""

    form: Any
    error: float


class PolynomialTrials:
    """Laws for samples, in order of the number of terms, as long as further ones may be better."""

    def __init__(self, cls, samples, options):
        self.cls, self.options = cls, options
        self.data = equations(samples, options)
        self.periodic = Trials(cls, samples, options).periods()[-1]
        self.found: list[PolynomialTrial] = []

    def all(self):
        """All trials, in order of complexity."""
        sides = (False, True) if self.options.two_sided == "auto" else (self.options.two_sided,)
        radii = (1,) if self.options.radius == "auto" else (self.options.radius,)
        for two_sided in sides:
            for radius in radii:
                for terms in TERMS:
                    self.attempt(terms, radius, two_sided)
                    if self.best.error < _EXACT:
                        return self.found
        # A one-sided law may be as good as a two-sided one if corners spoil both.
        if True in sides and self.best.error < _NEAR and len(self.data.shape) > 1:
            for terms in TERMS:
                self.attempt(terms, radii[0], True, own_rows=True)
        return self.found

    @property
    def best(self):
        """The best trial so far."""
        return min(self.found, key=lambda t: t.error)

    def attempt(self, terms, radius, two_sided, own_rows=False):
        """Validate a law."""
        form = self.cls(self.options, terms=terms, radius=radius, two_sided=two_sided, own_rows=own_rows)
        form = self.continued(form)
        design = Design(form, self.data)
        if design.n_terms > _MOST and self.found:
            return
        folds, everything = self.data.folds, np.arange(self.data.n_samples)
        rest = np.setdiff1d(everything, folds[0]) if len(folds) > 1 else everything
        held = self.data.pick(folds[0][:_JUDGES])
        law = design.inverse(self.data.pick(rest))
        U, converged = law.solve(held.F.reshape(-1, held.n_samples))
        trial = PolynomialTrial(form, math.inf)
        if converged.all():
            true = held.U.reshape(U.shape)
            size = np.linalg.norm(true, axis=0)
            trial.error = float(np.mean(np.linalg.norm(U - true, axis=0) / np.maximum(size, 1e-3 * size.max())))
        self.found.append(trial)

    def continued(self, form):
        """The form with the continuations beyond boundaries that best satisfy the equations.

        Coefficients from points that have all neighbours determine the residuals of continuations at the others.
        """
        axes = range(len(self.data.shape))
        fixed = [self.options.periodic != "auto" and self.periodic[axis] for axis in axes]
        places = [(axis, side) for axis in axes for side in (0, 1) if not fixed[axis]]

        def ended(kinds):
            ends = tuple(
                ("periodic",) * 2 if fixed[axis] else tuple(kinds[axis, side] for side in (0, 1)) for axis in axes
            )
            return replace(form, ends=ends, two_sided=False)

        best = dict.fromkeys(places, _ENDS[0])
        points = np.unravel_index(np.flatnonzero(self.data.inside), self.data.shape)
        near = {(axis, side): points[axis] == (0, self.data.shape[axis] - 1)[side] for axis, side in places}
        near = {place: rows for place, rows in near.items() if rows.any()}
        inner = ~reduce(np.logical_or, near.values(), np.zeros(len(points[0]), dtype=bool))
        if near and inner.any():
            coefficients = self.pooled(Design(ended(best), self.data), inner)
            rests = {}
            for kind in (*_ENDS, "periodic"):
                if kind != "periodic" or any(self.periodic):
                    # If one axis cannot be periodic, the other one may be.
                    kinds = {p: kind if kind != "periodic" or self.periodic[p[0]] else _ENDS[0] for p in places}
                    rest = Design(ended(kinds), self.data).remains(self.few, coefficients)
                    rests[kind] = np.square(rest).sum((0, 2))
            for place in near:
                sizes = {kind: math.sqrt(rest[near[place]].sum()) for kind, rest in rests.items() if kind != "periodic"}
                kind = min(sizes, key=lambda k: sizes[k])
                if sizes[kind] * _BETTER < sizes[_ENDS[0]]:
                    best[place] = kind
            for axis in axes:
                both = [place for place in near if place[0] == axis]
                if "periodic" in rests and self.periodic[axis] and len(both) == 2:
                    of_best = math.sqrt(sum(rests[best[place]][near[place]].sum() for place in both))
                    if math.sqrt(sum(rests["periodic"][near[p]].sum() for p in both)) * _BETTER < of_best:
                        best |= dict.fromkeys(both, "periodic")
        return replace(ended(best), two_sided=form.two_sided)

    def pooled(self, design, rows):
        """Coefficients (n_columns, n_channels) from some rows of some samples."""
        R = design.factors(self.few, rows)
        whole = [triangular(R[:, a].reshape(-1, R.shape[-1])) for a in range(self.data.n_channels)]
        return np.stack([least_squares(z, np.arange(R.shape[-1] - 1))[0] for z in whole], axis=1)

    @cached_property
    def few(self):
        """The samples from which continuations are determined."""
        return self.data.pick(slice(_FEW))

    def alone_and_together(self, data):
        """Residuals of f with the smallest dictionary, for individual and for joint coefficients of the samples."""
        form = self.continued(self.cls(self.options))
        R = Design(form, self.data).factors(data)
        columns = np.arange(R.shape[-1] - 1)
        alone = together = size = 0.0
        for a in range(data.n_channels):
            whole = triangular(R[:, a].reshape(-1, R.shape[-1]))
            together += left(whole, columns, least_squares(whole, columns)[0]) ** 2
            alone += sum(left(r, columns, least_squares(r, columns)[0]) ** 2 for r in R[:, a])
            size += float(np.linalg.norm(whole[:, -1])) ** 2
        return math.sqrt(alone / (size or 1.0)), math.sqrt(together / (size or 1.0))
