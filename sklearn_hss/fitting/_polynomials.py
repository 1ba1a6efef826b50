"""Polynomials in neighbouring values, and in the fluxes between neighbours: the terms of local nonlinear laws."""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from ._least_squares import difference, difference_stencils

# Names of the axes in formulas.
AXES = "xyz"


@dataclass(frozen=True)
class Feature:
    """A factor of terms: a mean or a difference of neighbouring values of a channel.

    Attributes
    ----------
    channel : int
    orders : tuple of int
        Order of the difference along every axis.
    matrix : sparse array of shape (n_rows, n_values)
        Matrix from a flat field with its channels to the feature at the points of the domain, or at the faces.
    """

    channel: int
    orders: tuple[int, ...]
    matrix: sp.csr_array

    def name(self, channels):
        """Name in formulas, such as ``u_xx``; `channels` are the names of the channels."""
        along = "".join(axis * order for axis, order in zip(AXES, self.orders, strict=False))
        return channels[self.channel] + (f"_{along}" if along else "")


@dataclass(frozen=True, eq=False)
class Terms:
    """Products of features, or their divergences if they are fluxes.

    Attributes
    ----------
    features : tuple of Feature
    powers : ndarray of int, of shape (n_terms, n_features)
        Exponents of the features in every term.
    divergence : sparse array of shape (n_points, n_rows), or None
        Matrix from fluxes through the faces to their divergence; for products at points of a part of the grid, to the
        whole grid; None for the identity.
    axis : int or None
        Axis of the fluxes.
    points : ndarray of int
        Points of the domain.
    """

    features: tuple[Feature, ...]
    powers: np.ndarray
    divergence: sp.csr_array | None
    axis: int | None
    points: np.ndarray

    def __len__(self):
        return len(self.powers)

    def __getitem__(self, kept):
        """Some of the terms, with the features they require."""
        powers = self.powers[kept]
        used = np.flatnonzero(powers.any(axis=0))
        return Terms(tuple(self.features[k] for k in used), powers[:, used], self.divergence, self.axis, self.points)

    @property
    def n_points(self):
        """Points of the grid, inside of the domain or not."""
        return len(self.points) if self.divergence is None else self.divergence.shape[0]

    @property
    def degrees(self):
        """Degree of every term."""
        return self.powers.sum(axis=1)

    @cached_property
    def stacked(self):
        """Vertically stacked matrices of all features."""
        return sp.csr_array(sp.vstack([f.matrix for f in self.features])) if self.features else None

    def values(self, Z):
        """Features (n_features, n_rows, batch) of fields in columns (n_values, batch)."""
        if self.stacked is None:
            return np.empty((0, len(self.points), Z.shape[1]))
        return (self.stacked @ Z).reshape(len(self.features), -1, Z.shape[1])

    def products(self, values):
        """Terms (n_terms, n_rows, batch) of features."""
        return np.stack([_monomial(values, powers) for powers in self.powers])

    def columns(self, Z):
        """Values of every term at every point (n_terms, n_points, batch), of fields in columns (n_values, batch)."""
        return self.gathered(self.products(self.values(Z)))

    def gathered(self, products):
        """Map products at the rows (k, n_rows, batch) to the points (k, n_points, batch), with zeros outside."""
        if self.divergence is not None:
            return np.stack([self.divergence @ product for product in products])
        return products

    def names(self, channels):
        """Names of the terms, such as ``u^2 u_x`` and, for fluxes, ``(u u_x)_x``."""
        found = []
        for powers in self.powers:
            factors = [
                f.name(channels) + (f"^{p}" if p > 1 else "") for f, p in zip(self.features, powers, strict=True) if p
            ]
            product = " ".join(factors) or "1"
            if self.axis is None:
                found.append(product)
            elif powers.sum() == 1:
                feature = self.features[int(np.argmax(powers))]
                orders = [o + (axis == self.axis) for axis, o in enumerate(feature.orders)]
                found.append(Feature(feature.channel, tuple(orders), feature.matrix).name(channels))
            else:
                found.append(f"({product})_{AXES[self.axis]}")
        return found


def _monomial(values, powers):
    """Product of powers of features; ones for none."""
    product = None
    for value, power in zip(values, powers, strict=True):
        for _ in range(power):
            product = value if product is None else product * value
    return np.ones(values.shape[1:]) if product is None else product


def monomials(n_features, degree, least=1):
    """Exponents of all products of `n_features` features up to a degree, those of low degree first."""
    found = []
    for d in range(least, degree + 1):
        for factors in itertools.combinations_with_replacement(range(n_features), d):
            found.append(np.bincount(np.array(factors, dtype=int), minlength=n_features))
    return np.array(found, dtype=int).reshape(-1, n_features)


def point_features(lines, spacing, radius, n_channels=None):
    """Values and central differences along the axes at the points of the domain.

    Parameters
    ----------
    lines : list of Lines
        Of every channel.
    spacing : tuple of float
        Distance of neighbouring points along every axis.
    radius : int
        Number of neighbours on either side; 0 for the values alone.
    n_channels : int, default=None
        Number of channels, the first ones, for which there are differences; all if None.
    """
    n_axes = len(lines[0].shape)
    stencils = difference_stencils(radius).numpy()
    found = []
    for c, line in enumerate(lines):
        found.append(Feature(c, (0,) * n_axes, _in_channel(_stencil(line, 0, {0: 1.0}), c, len(lines))))
        if n_channels is not None and c >= n_channels:
            continue
        for axis in range(n_axes):
            for order in range(1, 2 * radius + 1):
                weights = dict(zip(range(-radius, radius + 1), stencils[order] / spacing[axis] ** order, strict=True))
                orders = tuple(order * (a == axis) for a in range(n_axes))
                found.append(Feature(c, orders, _in_channel(_stencil(line, axis, weights), c, len(lines))))
    return found


def face_features(lines, axis, spacing, radius, n_channels=None):
    """Means and differences at the faces across an axis, up to order 2 `radius` - 1.

    The faces are those after every point of the domain, and those before the first points. Means are over two points,
    and differences of even order are the means of those at the points on either side.
    """
    n_axes = len(lines[0].shape)
    found = []
    for c, line in enumerate(lines):
        for order in range(2 * radius if n_channels is None or c < n_channels else 1):
            # Offsets from the point before the face.
            if order % 2:
                weights = dict(zip(range(-(order // 2), order // 2 + 2), difference(order).tolist(), strict=True))
            else:
                half = (np.convolve(difference(order).numpy(), [0.5, 0.5])).tolist()
                weights = dict(zip(range(-(order // 2), order // 2 + 2), half, strict=True))
            weights = {o: w / spacing[axis] ** order for o, w in weights.items()}
            orders = tuple(order * (a == axis) for a in range(n_axes))
            behind = _stencil(line, axis, weights)
            before = _stencil(line, axis, {o - 1: w for o, w in weights.items()}, line.first(axis))
            found.append(Feature(c, orders, _in_channel(sp.vstack([behind, before]), c, len(lines))))
    return found


def divergence(line, axis, spacing):
    """Divergence of fluxes through the faces across an axis, of the shape (n_points, n_faces)."""
    n_inside, first = len(line.points), line.first(axis)
    previous = line.beside(axis, -1)
    number = np.full(len(line), -1)
    number[line.points] = np.arange(n_inside)
    entry = np.where(previous >= 0, number[previous], -1)
    entry[previous < 0] = n_inside + np.searchsorted(first, line.points[previous < 0])
    rows = np.concatenate([line.points, line.points])
    columns = np.concatenate([np.arange(n_inside), entry])
    data = np.repeat([1.0, -1.0], n_inside) / spacing[axis]
    return sp.csr_array((data, (rows, columns)), shape=(len(line), n_inside + len(first)))


def _stencil(line, axis, weights, points=None):
    return sum(w * line.shift(axis, offset, points) for offset, w in weights.items() if w)


def _in_channel(matrix, channel, n_channels):
    blocks = [sp.csr_array(matrix.shape)] * n_channels
    blocks[channel] = matrix
    return sp.csr_array(sp.hstack(blocks))


def point_terms(lines, spacing, radius, degree, *, n_channels=None, least=0):
    """All products at points, as :class:`Terms`."""
    features = point_features(lines, spacing, radius, n_channels)
    points = lines[0].points
    spread = sp.csr_array((np.ones(len(points)), (points, np.arange(len(points)))), shape=(len(lines[0]), len(points)))
    whole = len(points) == len(lines[0])
    return Terms(tuple(features), monomials(len(features), degree, least), None if whole else spread, None, points)


def flux_terms(lines, axis, spacing, radius, degree, *, n_channels=None):
    """All fluxes through the faces across an axis, as :class:`Terms`."""
    features = face_features(lines, axis, spacing, radius, n_channels)
    powers = monomials(len(features), degree)
    return Terms(tuple(features), powers, divergence(lines[0], axis, spacing), axis, lines[0].points)


class Groups(tuple):
    """Groups of terms, with the common sparsity pattern of the Jacobians of all polynomials in them."""

    _patterns: dict

    def __reduce__(self):
        # Patterns refer to features by identity, which copies do not share.
        return Groups, (tuple(self),)

    def pattern(self, n_channels):
        """:class:`Pattern` for a number of channels, cached."""
        patterns = self.__dict__.setdefault("_patterns", {})
        if n_channels not in patterns:
            patterns[n_channels] = Pattern(self, n_channels)
        return patterns[n_channels]


class Pattern:
    """Sparsity pattern of the Jacobian of a polynomial, and its entries as functions of the derivatives by features.

    Parameters
    ----------
    groups : tuple of Terms
    n_channels : int

    Attributes
    ----------
    blocks : list of (rows, columns)
        For every channel, the positions, as pairs of points, of the derivatives of any channel by it.
    maps : dict
        For every feature, the matrix from derivatives by it, at its rows, to these entries.
    """

    def __init__(self, groups, n_channels):
        self.n_channels, self.n_points = n_channels, groups[0].n_points
        self.blocks, self.maps, self._layouts = [], {}, {}
        for channel in range(n_channels):
            entries, columns = [], slice(channel * self.n_points, (channel + 1) * self.n_points)
            for group in groups:
                for feature in group.features:
                    if feature.channel == channel:
                        S = sp.csr_array(feature.matrix[:, columns])
                        D = sp.eye_array(S.shape[0]) if group.divergence is None else group.divergence
                        entries.append((feature, *_triple(sp.csr_array(D), S)))
            keys = [i * self.n_points + j for _, i, j, _, _ in entries]
            union = np.unique(np.concatenate(keys)) if keys else np.zeros(0, int)
            self.blocks.append(np.divmod(union, self.n_points))
            for (feature, _, _, row, weight), key in zip(entries, keys, strict=True):
                where = np.searchsorted(union, key)
                shape = (len(union), feature.matrix.shape[0])
                self.maps[id(feature)] = sp.csr_array((weight, (where, row)), shape=shape)

    def layout(self, batch):
        """Order of the entries, and the sparse matrix of a batch of Jacobians, (point, sample) being an index."""
        if batch not in self._layouts:
            n, C = self.n_points, self.n_channels
            rows, columns = [], []
            for a in range(C):
                for b, (i, j) in enumerate(self.blocks):
                    rows.append(i + a * n)
                    columns.append(j + b * n)
            row, column = (np.concatenate(z).astype(np.int64) for z in (rows, columns))
            row, column = (z[:, None] * batch + np.arange(batch) for z in (row, column))
            order = np.lexsort((column.ravel(), row.ravel()))
            indptr = np.concatenate([[0], np.cumsum(np.bincount(row.ravel(), minlength=n * C * batch))])
            self._layouts = {batch: (order, column.ravel()[order], indptr)}  # the last one, which may be large
        return self._layouts[batch]


def _triple(D, S):
    """Entries (i, j, row, weight) of D diag(s) S, of which each is weight times s[row]."""
    D, S = sp.coo_array(D), sp.csr_array(S)
    counts = np.diff(S.indptr)[D.col]
    k = np.repeat(np.arange(len(D.data)), counts)
    inner = np.arange(len(k)) - np.repeat(np.cumsum(counts) - counts, counts) + S.indptr[D.col[k]]
    return D.row[k], S.indices[inner], D.col[k], D.data[k] * S.data[inner]


@dataclass(frozen=True, eq=False)
class Polynomial:
    """A polynomial N of fields: sums of terms with coefficients that are the same at all points.

    Attributes
    ----------
    groups : tuple of Terms
    coefficients : tuple of ndarrays of shape (n_terms, n_channels)
        One for each group; columns are the channels of N.
    """

    groups: tuple[Terms, ...]
    coefficients: tuple[np.ndarray, ...]

    def __post_init__(self):
        if not isinstance(self.groups, Groups):
            object.__setattr__(self, "groups", Groups(self.groups))

    @property
    def n_channels(self):
        """Number of channels of N; fields may have further ones, as parameters."""
        return self.coefficients[0].shape[1]

    @property
    def n_points(self):
        """Points of the grid, inside of the domain or not."""
        return self.groups[0].n_points

    @cached_property
    def _parts(self):
        """For every group, the terms in use and their coefficients; and all linear terms as one sparse matrix."""
        parts, linear = [], 0
        for group, c in zip(self.groups, self.coefficients, strict=True):
            used = c.any(axis=1)
            is_linear = used & (group.degrees == 1)
            for t in np.flatnonzero(is_linear):
                S = group.features[int(np.argmax(group.powers[t]))].matrix
                out = S if group.divergence is None else group.divergence @ S
                linear = linear + sp.kron(c[t][:, None], out)
            rest = used & ~is_linear
            if rest.any():
                parts.append((group[rest], np.ascontiguousarray(c[rest].T)))
        return parts, None if isinstance(linear, int) else sp.csr_array(linear)

    def __call__(self, Z):
        """N (n_channels * n_points, batch) for fields in columns (n_values, batch)."""
        parts, linear = self._parts
        total = np.zeros((self.n_channels * self.n_points, Z.shape[1])) if linear is None else linear @ Z
        for group, c in parts:
            products = group.products(group.values(Z))
            mixed = np.tensordot(c, products, 1)
            total += group.gathered(mixed).reshape(total.shape)
        return total

    def at(self, Z):
        """The derivative of N at fields in columns."""
        return Derivative(self, Z)


class Derivative:
    """The derivative of a polynomial at fields.

    Parameters
    ----------
    law : Polynomial
    Z : ndarray of shape (n_values, batch)
    """

    def __init__(self, law, Z):
        self.law, self.batch = law, Z.shape[1]
        parts, self.linear = law._parts
        self.slopes = []
        for group, c in parts:
            values = group.values(Z)
            by_feature = np.zeros((len(group.features), len(c), *values.shape[1:]))
            for t, powers in enumerate(group.powers):
                for k in np.flatnonzero(powers):
                    lower = powers.copy()
                    lower[k] -= 1
                    derivative = powers[k] * _monomial(values, lower)
                    for a in np.flatnonzero(c[:, t]):
                        by_feature[k, a] += c[a, t] * derivative
            self.slopes.append((group, by_feature))

    @cached_property
    def _stacked(self):
        """The Jacobians of the batch as one sparse matrix, (point, sample) being an index; without the linear terms."""
        pattern, C = self.law.groups.pattern(self.law.n_channels), self.law.n_channels
        batch = self.batch
        data = [[np.zeros((len(i), batch)) for i, _ in pattern.blocks] for _ in range(C)]
        for group, slopes in self.slopes:
            for feature, by_channel in zip(group.features, slopes, strict=True):
                if feature.channel < C:
                    for a, slope in enumerate(by_channel):
                        if slope.any():
                            data[a][feature.channel] += pattern.maps[id(feature)] @ slope
        order, columns, indptr = pattern.layout(batch)
        values = np.concatenate([block for row in data for block in row]).ravel()[order]
        n = C * self.law.n_points * batch
        return sp.csr_array((values, columns, indptr), shape=(n, n))

    def __call__(self, D):
        """Derivatives along directions, both (n_channels * n_points, batch, k); parameters do not change."""
        n, batch, k = D.shape
        total = np.zeros((n, batch * k)) if self.linear is None else self.linear[:, :n] @ D.reshape(n, -1)
        if self.slopes:
            total = total.reshape(n * batch, k) + self._stacked @ D.reshape(n * batch, k)
        return total.reshape(D.shape)

    def matrix(self, sample=0):
        """Sparse Jacobian (n_channels * n_points, n_channels * n_points) at one of the fields."""
        n = self.law.n_channels * self.law.n_points
        total = sp.csr_array((n, n)) if self.linear is None else self.linear[:, :n]
        if self.slopes:
            own = np.arange(n) * self.batch + sample
            total = total + (self._stacked if self.batch == 1 else self._stacked[own][:, own])
        return sp.csr_array(total)
