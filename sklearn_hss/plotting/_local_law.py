"""Coefficients of local laws: maps of those that vary from point to point, bars of those that all points share."""

import itertools
from collections.abc import Mapping, Sequence
from math import factorial, prod
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._fields import check_spacing
from ._geometry import AXES, GEOMETRY, NO_POINTS, innermost, pick, read_geometry
from ._style import COLOURS, PANEL, SINGLE, check_axes, colour_bar, colours_of, documented, pyplot

# Columns of maps, inches of a bar, and of what stands around the bars.
_N_COLUMNS, _BAR, _AROUND = 4, 0.26, 0.75
# Coefficients below this fraction of the largest entry of the law, times the distance of neighbours to the power of the
# derivative, are rounding; and where values beyond these quantiles are far away, they have the colours of the ends.
_NEGLIGIBLE, _QUANTILES = 1e-6, (0.005, 0.995)
# The difference of coefficients that are equal but for the errors of a fit.
_EQUAL = 1e-5

_VIEW = """
    max_terms : int, default=12
        Largest number of bars for each channel, those of the largest terms.
    slice_axis, slice_index : int, default=-1 and None
        Slice of maps of three dimensions: the axis across it, and the point there, the middle one if None.
    axes : array of matplotlib Axes, default=None
        Axes to draw on, one for each map, or for each channel that has bars; those of a new figure if None.
"""


@documented(geometry=GEOMETRY, view=_VIEW)
class LocalLawDisplay:
    """Coefficients of a learned local law.

    Created by :meth:`from_estimator`. A linear law M f = L u whose coefficients vary in space is drawn as maps: of the
    coefficients of u, u_x, u_xx and so on, obtained by applying L to monomials about each point, or of the entries of
    its rows; one more map shows the rows that the samples do not determine. A law with the same coefficients
    everywhere is drawn as bars, whose lengths are the sizes of the terms, with the coefficients as numbers.

    Parameters
    ----------
    maps : dict of str to array-like of shape (\\*grid), default=None
        Coefficients by name, NaN at points without one.
    undetermined : array-like of bool and shape (\\*grid), default=None
        Points whose rows are not determined.
    terms : dict of str to list of dict, default=None
        For every channel, terms with the keys "term", "coefficient" and "share", the length of the bar, if it is
        not the magnitude of the coefficient.
    {geometry}

    Attributes
    ----------
    maps : dict of str to ndarray of shape (\\*grid)
        The coefficients that are drawn as maps.
    undetermined : ndarray of bool and shape (\\*grid), or None
        The rows that are not determined.
    terms : dict of str to list of dict
        The terms that are drawn as bars.
    artists_ : dict of str to matplotlib artist
        Images, lines or bars, by the names of their maps or channels; "undetermined" is that of the rows.
    axes_ : ndarray of matplotlib Axes
        The panels.
    figure_ : matplotlib Figure
        The figure that holds the axes.

    See Also
    --------
    OperatorDisplay : Columns of the solution operator that belongs to the law.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_hss import LocalOperatorRegressor
    >>> from sklearn_hss.datasets import make_elliptic
    >>> from sklearn_hss.plotting import LocalLawDisplay
    >>> diffusivity = np.where(np.arange(16)[:, None] < 8, 1.0, 5.0) * np.ones((16, 16))
    >>> F, U = make_elliptic(9, (16, 16), diffusivity=diffusivity, random_state=0, verbose=0)
    >>> model = LocalOperatorRegressor(spacing=1 / 16, random_state=0).fit(F, U)
    >>> display = LocalLawDisplay.from_estimator(model)
    >>> list(display.maps)  # no derivative along y, which the diffusivity does not depend on
    ['u_x', 'u_xx', 'u_yy']
    >>> np.round(display.maps["u_xx"][[3, 12], 5], 6)
    array([-1., -5.])
    """

    def __init__(
        self,
        *,
        maps: Mapping | None = None,
        undetermined=None,
        terms: Mapping[str, Sequence[dict]] | None = None,
        grid_shape=None,
        mask=None,
        points=None,
        triangles=None,
        extent=None,
    ) -> None:
        if (maps is None) == (terms is None):
            raise ValueError("Give maps= of coefficients that vary from point to point, or terms= of others.")
        self.maps: dict[str, np.ndarray] = {}
        self.terms: dict[str, list[dict]] = {}
        self.undetermined: Any = None
        self.artists_: dict[str, Any] = {}
        if terms is not None:
            self.terms = {str(name): list(rows) for name, rows in terms.items()}
            if not any(self.terms.values()):
                raise ValueError("terms is empty; give one channel with one term at least.")
            return
        arrays = {str(name): np.asarray(field, dtype=np.float64) for name, field in (maps or {}).items()}
        shape = next((field.shape for field in arrays.values()), None)
        if shape is None or any(field.shape != shape for field in arrays.values()):
            raise ValueError("maps must be a dict of one array or more, all of the shape of the grid.")
        fields, self._geometry = read_geometry(
            shape, "maps", grid_shape=grid_shape, mask=mask, points=points, triangles=triangles, extent=extent
        )
        if fields.n_channels is not None:
            raise ValueError(f"maps have shape {shape}; each must be on the grid, without channels.")
        self.maps = {name: field.reshape(fields.grid) for name, field in arrays.items()}
        if undetermined is not None:
            self.undetermined = np.asarray(undetermined, dtype=bool)
            if self.undetermined.size != prod(fields.grid):
                raise ValueError(
                    f"undetermined has shape {self.undetermined.shape}; it must be that of the grid, {fields.grid}."
                )
            self.undetermined = self.undetermined.reshape(fields.grid)

    @classmethod
    def from_estimator(
        cls,
        estimator,
        *,
        kind="derivatives",
        side="u",
        channel=0,
        of_channel=None,
        points=None,
        triangles=None,
        extent=None,
        max_terms=12,
        slice_axis=-1,
        slice_index=None,
        axes=None,
    ) -> "LocalLawDisplay":
        """Draw the law that an estimator has learned.

        Maps are blank where a row has not all neighbours, next to boundaries, since the law is another one there.
        Coefficients of derivatives that are rounding at all determined rows are left out, and colours are those of
        these rows.

        Parameters
        ----------
        estimator : estimator
            Fitted: a :class:`~sklearn_hss.LocalOperatorRegressor`, whose linear laws have maps and nonlinear ones bars,
            a :class:`~sklearn_hss.LocalEvolutionRegressor`, or a search or another estimator around one.
        kind : {"derivatives", "stencil"}, default="derivatives"
            Whether maps are the coefficients of derivatives up to the second ones, in units of the `spacing` of the
            estimator or of the points of a mesh; or on grids the entries of rows, one map for each neighbour.
        side : {"u", "f"}, default="u"
            Side of the law that maps are of: L or M.
        channel, of_channel : int, default=0 and None
            Channel of the equation, and that of the field on the `side`; None is the same.
        points, triangles : array-likes, default=None
            Nodes of a mesh, as for :class:`LocalLawDisplay`; points are those of the fit if none are given.
        extent : sequence of (first, last), default=None
            Coordinates of the first and the last point along every axis; points are counted if None.
        max_terms : int, default=12
            Largest number of bars for each channel, those of the largest terms.
        slice_axis, slice_index : int, default=-1 and None
            Slice of maps of three dimensions: the axis across it, and the point there, the middle one if None.
        axes : array of matplotlib Axes, default=None
            Axes to draw on, one for each map, or for each channel that has bars; those of a new figure if None.

        Returns
        -------
        LocalLawDisplay
            With the picture drawn.

        Raises
        ------
        TypeError
            If the estimator learns no law.
        ValueError
            If it has not found one, and for parameters that do not suit it.
        """
        check_is_fitted(estimator)
        found = innermost(estimator, "law_")
        while hasattr(getattr(found, "law_", None), "fit"):  # what an estimator around it calls its law
            found = innermost(found.law_, "law_")
        if found is None:
            raise TypeError(f"{type(estimator).__name__} learns no law; LocalOperatorRegressor does, for instance.")
        if kind not in ("derivatives", "stencil"):
            raise ValueError(f"kind={kind!r} must be 'derivatives' or 'stencil'.")
        if side not in ("u", "f"):
            raise ValueError(f"side={side!r} must be 'u' or 'f'.")
        if hasattr(found, "L_") and found.law_ is None:
            law = _LinearLaw(found, side, channel, of_channel, points)
            maps = law.derivatives() if kind == "derivatives" else law.stencil()
            geometry = {"points": law.points, "triangles": triangles, "extent": extent}
            geometry |= {"grid_shape": law.grid if law.points is None else None, "mask": found.mask_}
            display = cls(maps=maps, undetermined=law.undetermined, **geometry)
            return display.plot(slice_axis=slice_axis, slice_index=slice_index, axes=axes)
        if not found.law_:
            raise ValueError(f"There is no law: {found.reason_}.")
        return cls(terms=_terms(found.law_)).plot(max_terms=max_terms, axes=axes)

    def plot(self, *, max_terms=12, slice_axis=-1, slice_index=None, axes=None) -> "LocalLawDisplay":
        """Draw the picture, once more or elsewhere.

        Parameters
        ----------
        {view}

        Returns
        -------
        LocalLawDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            For slices, numbers of terms or axes that there cannot be.
        """
        pyplot()
        self.artists_ = {}
        if self.terms:
            self._draw_bars(max_terms, axes)
        else:
            self._draw_maps(self._geometry.sliced(slice_axis, slice_index), axes)
        self.figure_ = self.axes_[0].figure
        return self

    def _draw_maps(self, geometry, axes):
        n = len(self.maps) + (self.undetermined is not None)
        if axes is None:
            n_rows = -(-n // _N_COLUMNS)
            n_columns = -(-n // n_rows)
            size = (PANEL[0] * n_columns, PANEL[1] * n_rows)
            options = {"figsize": size, "layout": "constrained", "squeeze": False}
            every = pyplot().subplots(n_rows, n_columns, **options)[1].ravel()
            for ax in every[n:]:
                ax.set_axis_off()
            self.axes_ = every[:n]
        else:
            self.axes_ = check_axes(axes, 1, n)[0]
        for ax, (name, field) in zip(self.axes_, self.maps.items(), strict=False):
            values = geometry.seen(field)
            if geometry.is_line:
                self.artists_[name] = geometry.draw_line(ax, field, color=COLOURS[0], linewidth=1.2)
                ax.ticklabel_format(useOffset=False)
                low, high = (colours_of(self._usual(geometry, field), least=_EQUAL)[end] for end in ("vmin", "vmax"))
                ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
            else:
                self.artists_[name] = geometry.draw_map(
                    ax, field, **colours_of(self._usual(geometry, field), least=_EQUAL)
                )
                colour_bar(ax, self.artists_[name], values)
            ax.set_title(name, fontsize="medium")
        if self.undetermined is not None:
            self._draw_undetermined(self.axes_[-1], geometry)
        for ax in self.axes_:
            geometry.label(ax)

    def _usual(self, geometry, field):
        """Values of determined rows, or where a few take up more than half of their range the ends of the others."""
        values = geometry.seen(field)
        if self.undetermined is not None:
            known = geometry.seen(np.where(self.undetermined, np.nan, field))
            values = known if np.isfinite(known).any() else values
        finite = values[np.isfinite(values)]
        ends = np.quantile(finite, _QUANTILES) if finite.size else finite
        return ends if finite.size and np.ptp(ends) < np.ptp(finite) / 2 else finite

    def _draw_undetermined(self, ax, geometry):
        from matplotlib.colors import ListedColormap

        if geometry.is_line:
            style = {"color": COLOURS[1], "drawstyle": "steps-mid"}
            self.artists_["undetermined"] = geometry.draw_line(ax, self.undetermined, **style)
            ax.set_yticks([0, 1], ["no", "yes"])
            ax.set_ylim(-0.1, 1.1)
        else:
            colours = {"cmap": ListedColormap(["#f7f7f7", COLOURS[1]]), "vmin": 0, "vmax": 1}
            self.artists_["undetermined"] = geometry.draw_map(ax, self.undetermined, **colours)
        inside = self.undetermined if geometry.mask is None else self.undetermined[geometry.mask]
        ax.set_title(f"undetermined: {inside.sum()} of {inside.size} rows", fontsize="medium")

    def _draw_bars(self, max_terms, axes):
        from matplotlib.ticker import NullFormatter

        if not isinstance(max_terms, int) or isinstance(max_terms, bool) or max_terms < 1:
            raise ValueError(f"max_terms={max_terms!r} must be a positive integer.")
        rows = {}
        for name, terms in self.terms.items():
            sized = [(abs(float(term.get("share", term["coefficient"]))), term) for term in terms]
            rows[name] = sorted(sized, key=lambda pair: -pair[0])[:max_terms]
        if axes is None:
            heights = [_AROUND + _BAR * len(bars) for bars in rows.values()]
            options = {"height_ratios": heights, "figsize": (SINGLE[0], sum(heights)), "layout": "constrained"}
            axes = pyplot().subplots(len(rows), 1, squeeze=False, **options)[1]
        self.axes_ = check_axes(axes, 1, len(rows))[0]
        by_share = any("share" in term for bars in rows.values() for _, term in bars)
        for ax, (name, bars) in zip(self.axes_, rows.items(), strict=True):
            lengths = np.array([length for length, _ in bars])
            least = lengths[lengths > 0].min(initial=1.0)
            colours = [COLOURS[int(term["coefficient"] < 0)] for _, term in bars]
            y = np.arange(len(bars))
            drawn = ax.barh(y, np.maximum(lengths, least), left=0, color=colours, height=0.7)
            self.artists_[name] = drawn
            ax.set_yticks(y, [term["term"] for _, term in bars])
            # From a decade below the shortest bar, with room for the numbers behind the longest.
            low, high = np.floor(np.log10(least) - 0.1), np.log10(max(lengths.max(), least))
            ax.set(xscale="log", ylim=(len(bars) - 0.4, -0.6), xlim=(10**low, 10 ** (high + 0.3 * (high - low))))
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_title(f"terms of {name}", fontsize="medium")
            for place, (length, term) in zip(y, bars, strict=True):
                number = f"{term['coefficient']:.3g}".replace("-", "−")
                style = {"textcoords": "offset points", "va": "center", "fontsize": "small"}
                ax.annotate(number, (max(length, least), place), (4, 0), **style)
        self.axes_[-1].set_xlabel(
            "size of the term, relative to the largest; numbers are coefficients"
            if by_share
            else "magnitude of the coefficient"
        )


def _terms(law):
    """Terms of every channel of a law whose coefficients all points share, by the left sides."""
    found: dict[str, list[dict]] = {}
    for row in law:
        if "field" in row:
            found.setdefault(f"{row['field']}_t", []).append(row)
        else:
            found.setdefault(f"law of channel {row['channel']}", []).append(row)
    if len(found) == 1 and "field" not in law[0]:
        return {"M f = N(u)": next(iter(found.values()))}
    return found


class _LinearLaw:
    """Rows of L or M of a fitted LocalOperatorRegressor, for one pair of channels."""

    def __init__(self, model, side, channel, of_channel, points):
        model._check_law()
        matrix = model.L_ if side == "u" else model.M_
        self.side, self.is_mesh = side, model.neighbourhood_ == "mesh"
        self.grid, self.radius, self.box = model.grid_shape_, model.radius_, model.neighbourhood_ == "box"
        n = prod(self.grid)
        n_channels = matrix.shape[0] // n
        (channel,) = pick([channel], n_channels, "channel", "channels")
        of_channel = channel if of_channel is None else pick([of_channel], n_channels, "of_channel", "channels")[0]
        rows, columns = (slice(c * n, (c + 1) * n) for c in (channel, of_channel))
        self.matrix = matrix[rows, columns].tocoo()
        self.undetermined = model.undetermined_.reshape(n_channels, *self.grid)[channel]
        # Rows of M_ are empty where u is zero, whatever f is.
        self.live = (np.diff(model.M_.indptr) > 0).reshape(n_channels, *self.grid)[channel]
        self.periodic = model.periodic_ or (False,) * len(self.grid)
        self.adjacency = model._points.adjacency
        self.points: Any = None
        if self.is_mesh:
            self.points = model.points if points is None else points
            if self.points is None:
                raise ValueError(NO_POINTS)
            self.points = read_geometry((n,), "law", points=self.points)[1].points
        elif points is not None:
            raise ValueError("points= is for meshes, but the law is one of a grid.")
        else:
            self.spacing = check_spacing(model.spacing, self.grid)

    def _offsets(self):
        """For every entry of the matrix, where its column is, seen from its row, in points."""
        offsets = []
        for n, periodic, i, j in zip(
            self.grid,
            self.periodic,
            np.unravel_index(self.matrix.row, self.grid),
            np.unravel_index(self.matrix.col, self.grid),
            strict=True,
        ):
            offset = j - i
            offsets.append((offset + n // 2) % n - n // 2 if periodic else offset)
        return np.array(offsets)

    def _complete(self):
        """Points that have all neighbours."""
        if self.is_mesh:
            complete = self.live
            for _ in range(self.radius):
                complete = complete & ~((self.adjacency @ (~complete).astype(float)) > 0)
            return complete
        r, n_axes = self.radius, len(self.grid)
        padded = self.live
        for axis, periodic in enumerate(self.periodic):
            width = [(r, r) if a == axis else (0, 0) for a in range(n_axes)]
            padded = np.pad(padded, width, mode="wrap" if periodic else "constant")
        complete = self.live.copy()
        for offset in itertools.product(range(-r, r + 1), repeat=n_axes):
            if self.box or np.count_nonzero(offset) <= 1:
                complete &= padded[tuple(slice(r + o, r + o + n) for o, n in zip(offset, self.grid, strict=True))]
        return complete

    def derivatives(self):
        """Coefficients of u and its derivatives up to the second ones."""
        if self.is_mesh:
            steps = (self.points[self.matrix.col] - self.points[self.matrix.row]).T
        else:
            steps = self._offsets() * np.array(self.spacing)[:, None]
        n_axes, complete = len(steps), self._complete()
        known = complete & ~self.undetermined
        judged = known if known.any() else complete
        off = self.matrix.row != self.matrix.col
        distance = np.abs(steps[:, off]).max(initial=0.0)
        largest = np.abs(self.matrix.data).max(initial=0.0)
        orders = [o for o in itertools.product(range(3), repeat=n_axes) if sum(o) <= 2]
        maps = {}
        for order in sorted(orders, key=lambda o: (sum(o), [-a for a in o])):
            weight = prod((steps[a] ** o / factorial(o) for a, o in enumerate(order)), start=np.ones(steps.shape[1]))
            values = np.bincount(self.matrix.row, self.matrix.data * weight, minlength=prod(self.grid))
            values = np.where(complete, values.reshape(self.grid), np.nan)
            size = np.nanmax(np.abs(values[judged]), initial=0.0)
            if size > _NEGLIGIBLE * largest * distance ** sum(order):
                name = "".join(AXES[a] * o for a, o in enumerate(order))
                maps[f"{self.side}_{name}" if name else self.side] = values
        if not maps:
            raise ValueError(
                "No row of the law has all of its neighbours, so that there are no coefficients of derivatives; "
                "kind='stencil' has the entries."
            )
        return maps

    def stencil(self):
        """Entries of the rows, one map for every neighbour."""
        if self.is_mesh:
            raise ValueError("kind='stencil' is for grids: nodes of a mesh have neighbours of their own each.")
        offsets, inverse = np.unique(self._offsets(), axis=1, return_inverse=True)
        maps = {}
        order = np.argsort(np.abs(offsets).sum(axis=0), kind="stable")
        for k in order:
            entries = inverse.ravel() == k
            values = np.full(prod(self.grid), np.nan)
            values[self.matrix.row[entries]] = self.matrix.data[entries]
            place = ", ".join(f"{offset:+d}" if offset else "0" for offset in offsets[:, k]).replace("-", "−")
            maps[f"{self.side} at ({place})"] = np.where(self.live, values.reshape(self.grid), np.nan)
        return maps
