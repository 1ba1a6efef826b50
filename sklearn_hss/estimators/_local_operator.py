"""Sparse laws M f = L u between fields on a grid, a mask or a mesh, and their solutions."""

from numbers import Real

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import kneighbors_graph
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from .._containers import as_plain
from .._fields import as_rows, check_same_fields, check_spacing, refuse_nan
from .._parameters import Count
from .._warnings import warn_user
from ..exceptions import DataWarning, ExtrapolationWarning
from ..fitting import Options
from ..fitting._law_trials import SPURIOUS
from ..fitting._neighbourhoods import Neighbourhood, Points
from ..fitting._newton import NonlinearInverse
from ..fitting.forms._local import LocalForm, SparseLocalInverse
from ..fitting.forms._noisy_local import SparseNoisyLocalInverse
from ..fitting.forms._polynomial_law import PolynomialLaw
from ..fitting.forms._ridge import Ridge
from ..linalg import OperatorSum, SparseInverse
from . import _linear_map
from ._linear_map import LinearFieldMap
from ._score import FieldRegressorMixin

# Number of nearest nodes that usually include all neighbours in a triangulation, in one, two and three dimensions.
_NEAREST = {1: 4, 2: 12}
_NEAREST_IN_SPACE = 26
# Targets with at most this fraction of the values of the inputs are not treated as fields.
_NUMBERS = 0.5
# Laws with a smaller error on held-out samples than this are accepted even if some rows are not determined.
_HARMLESS = 1e-6
# Relative size up to which a component of a forcing outside the range of a singular law is regarded as rounding.
_SOLVABLE = 1e-8


class LocalOperatorRegressor(FieldRegressorMixin, LinearFieldMap):
    __doc__ = f"""Sparse law M f = L u between fields, learned from a handful of pairs; predictions solve it for u.

    Discretised partial differential equations couple neighbours only: L is sparse, and so is M, which is the identity
    for finite differences, a mass matrix for finite elements, and an average for compact schemes. Around every point i,
    f and u are related by a few coefficients,

    .. math:: f_i + \\sum_k m_{{ik}} (D_k f)_i = \\sum_k l_{{ik}} (D_k u)_i,

    with differences D_k of neighbouring values. Each sample gives one equation for these coefficients, so about as many
    samples as there are coefficients in a row determine the law, and hence the solution operator for all forcings, on
    any domain and with any variable coefficients: five samples for Poisson's equation on a grid in the plane, nine with
    mixed derivatives.

    Parameters
    ----------
    radius : int from 1 to 3 or "auto", default="auto"
        Number of neighbours of u on either side along an axis; on a mesh, number of edges to the farthest neighbour.
        "auto" selects the smallest radius that is accurate.
    neighbourhood : {{"auto", "cross", "box"}}, default="auto"
        Whether neighbours lie along the axes only, or fill a box, as mixed derivatives require. Applies to grids only.
    two_sided : bool or "auto", default="auto"
        Whether the law involves f at the neighbours, so that M is not just the identity.
    sharing : {{"auto", "shared", "class", "row"}}, default="auto"
        Rows that share their coefficients: all rows ("shared"), as for constant coefficients; rows with the same
        neighbours inside the domain ("class"), as for constant coefficients with different laws at the boundaries; or
        none ("row"), which is always the case on a mesh.
    symmetric : bool or "auto", default="auto"
        If True, L is symmetric and M is the identity.
    periodic : bool, tuple of bool or "auto", default="auto"
        Whether the ends of the axes are neighbours, for all axes or for each. "auto" determines this from the samples.
    noise : float or "auto", default="auto"
        Error of `y`, relative to its size.
    correct : bool, default=True
        Whether to add a ridge regression of the residuals of the law, on the span of the samples, if this reduces the
        error on held-out samples, as for data from a finer grid. The correction improves the predictions for inputs in
        this span, and leaves those for other inputs to the law.
    neighbours : sparse matrix of shape (n_nodes, n_nodes), default=None
        Neighbours of the nodes of a mesh, given by the nonzero entries, in either direction. Fields have the shape
        (n_samples, n_nodes) or (n_samples, n_channels, n_nodes).
    points : array-like of shape (n_nodes, n_dimensions), default=None
        Coordinates of scattered points, as an alternative to `neighbours`; the nearest points are neighbours.
    n_neighbors : int or "auto", default="auto"
        Number of nearest points, for `points`. "auto" is 4 on a line, 12 in the plane and 26 in space, which includes
        the neighbours in typical meshes of triangles and tetrahedra.
    degree : {{1, 2, 3}}, default=1
        With 2 or 3, nonlinear laws M f = N(u) are considered as well, where N is a polynomial of this degree in
        neighbouring values, with the same coefficients at all points, and ridge regression if no law is accurate: see
        Notes. Applies to grids only.
    spacing : float or tuple of float, default=1.0
        Distance between neighbouring points, along all axes or along each. It scales the coefficients of `law_` to
        those of derivatives, and affects nothing else.{_linear_map.PARAMETERS.rstrip()}

    Attributes
    ----------
    L_, M_ : sparse arrays of shape (n_values, n_values), or None
        The law, ``M_ @ f = L_ @ (u - intercept_)``, for flat fields, with channels first. The entries of each row of
        `M_` in its own channel sum to one. Where u is zero for every f, as on Dirichlet boundaries and outside of the
        mask, the rows of `M_` are empty and those of `L_` have only a diagonal entry. Both are None if there is no
        law, and `L_` is None for a nonlinear law.
    operator_ : SparseInverse or OperatorSum of :mod:`sklearn_hss.linalg`, or another object
        The solution operator: a flat field u is ``operator_ @ f``. If it is a sum, the terms are the law and a
        correction. Predictions add `intercept_`, and are zero or NaN outside of the mask. Operators of nonlinear laws
        support this product only.
    degree_ : int
        Degree of the selected law: 1 if it is linear.
    law_ : list of dict, or None
        Terms of a nonlinear law, with the keys "side" ("f" or "u"), "term", "channel" and "coefficient";
        ``pandas.DataFrame(model.law_)`` converts it to a table. Terms with a star belong to rows next to boundaries,
        where neighbours of f are missing. None for linear laws, which `L_` and `M_` describe in full.
    formula_ : str or None
        The same law with one line per channel, such as ``f = -1.0 u_xx + 2000 u^3``.
    null_space_ : ndarray of shape (n_values, k)
        Orthonormal basis, in columns, of the fields that L maps to zero, such as the constants in Neumann and periodic
        problems; k is 0 if the law has unique solutions.
    amplification_ : float
        Largest ratio ``|u| / |f|`` of solutions, divided by that of the training samples. A large value indicates that
        the law has solutions unlike those of the samples, so that it may be wrong for other forcings; it is 1 to 30
        for well-determined laws.
    undetermined_ : ndarray of bool, of the shape of one target
        Rows of the law that the samples do not fully determine. They are completed from the rows of the same class, or
        by a minimum norm.
    radius_, neighbourhood_, two_sided_, sharing_ : int, str, bool, str
        The selected values of these parameters; the neighbourhood of a mesh is "mesh".
    periodic_ : tuple of bool
        Axes whose ends are neighbours.
    alpha_ : float or None
        Ridge penalty of the correction; None without a correction.{_linear_map.ATTRIBUTES.rstrip()}

    See Also
    --------
    HSSRegressor : Comparison of local laws with other forms, and hierarchical matrices in one dimension.

    Notes
    -----
    Nonlinear laws are determined by least squares over all points and samples together, so one sample may be
    sufficient. The terms are products of values and of differences of u at a point, up to the degree, or divergences of
    fluxes, which consist of means and differences of neighbouring values; terms that do not reduce the error on
    held-out samples are removed. In two-sided laws, differences of f and mixed differences of u give compact schemes,
    which data from finer grids require. Beyond boundaries, u is continued by an odd or even reflection, or
    periodically, according to the equations. Predictions solve M f = N(u) by Newton's method with a line search,
    starting from the solution of the nearest training forcing; if this fails, by continuation in the forcing. If there
    are several solutions, one near those of the training data is found. Points next to corners, where data from finer
    grids have singular solutions, have individual additional terms.

    The candidates also include the linear laws above, and ridge regression if no law is accurate. Coefficients that
    vary from point to point, and terms that are not polynomials, cannot be represented with a `degree` above 1: `fit`
    then issues a warning that names the most likely cause.

    References
    ----------
    Boullé, Townsend: Learning elliptic partial differential equations with randomized linear algebra, Foundations of
    Computational Mathematics 23 (2023), on why so few samples suffice.

    Lele: Compact finite difference schemes with spectral-like resolution, Journal of Computational Physics 103 (1992),
    on two-sided laws.

    Examples
    --------
    Seven solutions on an L-shaped domain determine the equation there, for forcings of any kind:

    >>> import numpy as np
    >>> from sklearn_hss import LocalOperatorRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> from sklearn_hss.metrics import relative_l2_error
    >>> mask = np.ones((24, 24), dtype=bool)
    >>> mask[:12, :12] = False
    >>> F, U = make_poisson(107, (24, 24), domain=mask, forcing="gaussian", random_state=0, verbose=0)
    >>> model = LocalOperatorRegressor(mask=mask, random_state=0).fit(F[:7], U[:7])
    >>> bool(relative_l2_error(U[7:], model.predict(F[7:])) < 1e-11)
    True
    >>> model.radius_, model.neighbourhood_, model.two_sided_
    (1, 'cross', False)
    >>> row = model.L_[[20 * 24 + 20]]  # that of a point in the middle, in units of 1 / h²
    >>> np.round(row.data / 24**2, 6) + 0.0
    array([-1., -1.,  4., -1., -1.])
    """

    _forcings: np.ndarray
    _points: Points

    _parameter_constraints: dict = {
        **LinearFieldMap._parameter_constraints,
        "radius": [Count(1, 3), StrOptions({"auto"})],
        "neighbourhood": [StrOptions({"auto", "cross", "box"})],
        "two_sided": ["boolean", StrOptions({"auto"})],
        "sharing": [StrOptions({"auto", "shared", "class", "row"})],
        "symmetric": ["boolean", StrOptions({"auto"})],
        "periodic": ["boolean", tuple, list, StrOptions({"auto"})],
        "noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "correct": ["boolean"],
        "neighbours": ["sparse matrix", None],
        "points": ["array-like", None],
        "n_neighbors": [Count(1), StrOptions({"auto"})],
        "degree": [Count(1, 3)],
        "spacing": [Interval(Real, 0, None, closed="neither"), tuple, list],
    }

    def __init__(
        self,
        radius="auto",
        neighbourhood="auto",
        *,
        two_sided="auto",
        sharing="auto",
        symmetric="auto",
        periodic="auto",
        noise="auto",
        correct=True,
        neighbours=None,
        points=None,
        n_neighbors="auto",
        degree=1,
        spacing=1.0,
        fit_intercept="auto",
        random_state=None,
        grid_shape=None,
        mask=None,
        verbose=0,
    ):
        self.radius = radius
        self.neighbourhood = neighbourhood
        self.two_sided = two_sided
        self.sharing = sharing
        self.symmetric = symmetric
        self.periodic = periodic
        self.noise = noise
        self.correct = correct
        self.neighbours = neighbours
        self.points = points
        self.n_neighbors = n_neighbors
        self.degree = degree
        self.spacing = spacing
        self.fit_intercept = fit_intercept
        self.random_state = random_state
        self.grid_shape = grid_shape
        self.mask = mask
        self.verbose = verbose

    # Fit

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        r"""Learn the law.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Input fields f. Channels, and flattened fields of several dimensions, require `grid_shape`; a mesh is
            treated as a grid of one dimension.
        y : array-like of the shape of X
            Output fields u.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. A weight of 2 is equivalent to a second copy of the sample.

        Returns
        -------
        object
            This estimator, fitted.

        Raises
        ------
        ValueError
            If the data or parameters are invalid, before any fitting.

        Warns
        -----
        sklearn_hss.exceptions.DataWarning
            If the targets are not fields, for which there is no law: ridge regression then predicts them.
        """
        if self.symmetric is True and self.two_sided is True:
            raise ValueError("symmetric=True needs a law with the identity for M; use two_sided=False or 'auto'.")
        if self.degree > 1:
            self._check_nonlinear()
        adjacency = self._adjacency(as_rows(X)[1])

        def further(inputs, outputs, domain):
            self._check_fields(inputs, outputs, domain, adjacency is not None)
            return {"adjacency": adjacency}

        return self._fit(X, y, sample_weight, further)

    def _check_nonlinear(self):
        """Reject parameters that nonlinear laws do not support."""
        for name, refused, why in (
            ("neighbours", self.neighbours is not None, "are supported on grids only"),
            ("points", self.points is not None, "are supported on grids only"),
            ("symmetric", self.symmetric is True, "have no symmetric matrix"),
            ("sharing", self.sharing in ("class", "row"), "have the same coefficients at all points"),
            ("fit_intercept", self.fit_intercept is True, "include a constant term"),
        ):
            if refused:
                value = "" if name in ("neighbours", "points") else f"={getattr(self, name)!r}"
                raise ValueError(f"{name}{value} requires degree=1: laws of degree={self.degree} {why}.")

    def _adjacency(self, shape):
        """Neighbours of the nodes of a mesh, for fields of a given shape; None for grids."""
        graph = mesh_graph(self.neighbours, self.points, self.n_neighbors)
        if graph is None:
            return None
        given, n_nodes = "neighbours" if self.points is None else "points", graph.shape[0]
        for name, alone in (("neighbourhood", "auto"), ("periodic", "auto")):
            value = getattr(self, name)
            if not (value == alone or (name == "periodic" and value is False)):
                raise ValueError(f"{name}={value!r} applies to grids, but {given} describes a mesh; omit one of them.")
        if self.sharing not in ("auto", "row"):
            raise ValueError(f"sharing={self.sharing!r} applies to grids: the rows of a mesh share no coefficients.")
        if super()._grid_shape() not in (None, (n_nodes,)):
            raise ValueError(
                f"grid_shape={self.grid_shape!r} does not match {given} of {n_nodes} nodes; omit one of them."
            )
        if shape is not None and (not shape or shape[-1] % n_nodes):
            raise ValueError(
                f"{given} has {n_nodes} nodes, but X has fields of shape {shape}; they must be of shape ({n_nodes},) "
                f"or (n_channels, {n_nodes})."
            )
        return graph

    def _grid_shape(self):
        if self.neighbours is None and self.points is None:
            return super()._grid_shape()
        return (np.shape(self.neighbours if self.points is None else self.points)[0],)

    def _check_fields(self, inputs, outputs, domain, is_mesh):
        """Reject invalid fields, and parameters that are incompatible with the fields."""
        grid = inputs.grid
        if (grid, inputs.n_channels or 1) != (outputs.grid, outputs.n_channels or 1):
            if grid == outputs.grid or outputs.size > max(1, _NUMBERS * inputs.size):
                raise ValueError(
                    "A local law needs outputs on the grid of the inputs, with the same number of channels; got fields "
                    f"of shape {outputs.shape} and {inputs.shape}."
                )
            return
        if min(grid) < 2:
            raise ValueError(
                f"A local law needs neighbours, but X has n_features = {inputs.size} on the grid {grid}; omit axes of "
                "a single point."
            )
        if not is_mesh and self.radius != "auto" and min(grid) <= 2 * self.radius:
            raise ValueError(
                f"radius={self.radius} needs {2 * self.radius + 1} points along every axis, but the grid is {grid}."
            )
        if self.periodic != "auto":
            wanted = np.atleast_1d(np.asarray(self.periodic))
            if wanted.dtype != bool or wanted.shape not in ((1,), (len(grid),)):
                raise ValueError(
                    f"periodic={self.periodic!r} must be a boolean, or one for each of the axes of the grid {grid}."
                )
            if (wanted & (np.array(grid) < 3)).any():
                raise ValueError(
                    f"periodic={self.periodic!r} needs 3 points along every such axis, but the grid is {grid}."
                )
        check_spacing(self.spacing, grid)
        if domain.inputs is not None:
            needed = ~domain.inputs if domain.outputs is None else domain.outputs & ~domain.inputs
            if needed.any():
                raise ValueError(
                    f"X is NaN in all samples at {needed.sum()} values where y has data; a law needs both, so provide "
                    "X there, or pass a mask= without these points."
                )

    def _options(self, samples):
        periodic = self.periodic
        if not isinstance(periodic, str):
            n_axes = len(samples.grid_in) - samples.has_channels
            periodic = tuple(map(bool, np.broadcast_to(periodic, n_axes)))
        return Options(
            degree=self.degree,
            spacing=check_spacing(self.spacing, samples.grid_in[int(samples.has_channels) :]),
            radius=self.radius,
            neighbourhood=self.neighbourhood,
            two_sided=False if self.symmetric is True else self.two_sided,
            sharing=self.sharing,
            symmetric=self.symmetric,
            periodic=periodic,
            noise=self.noise,
            alpha="auto" if self.correct or not samples.is_square else None,
        )

    def _forms(self, samples):
        if not samples.is_square:
            warn_user(
                f"y has {samples.Y[0].numel()} values per sample, which are not fields on the grid of X: there is no "
                "law, and ridge regression is used instead.",
                DataWarning,
            )
            return [Ridge]
        left = samples.about(samples.means()) if self.fit_intercept is True else samples
        if not (left.X.any() and left.Y.any()):
            but = " but for a constant field" if left is not samples else ""
            raise ValueError(f"All values of X, or all of y, are zero{but}, which does not determine a law.")
        linear = [SparseLocalInverse, SparseNoisyLocalInverse]
        return linear if self.degree == 1 else [linear[0], PolynomialLaw, linear[1], Ridge]

    def _keep(self, found, scales, samples):
        super()._keep(found, scales, samples)
        forcings = samples.X / samples.ones.view(-1, *[1] * (samples.X.ndim - 1))
        self._forcings = (forcings if scales is None else forcings * scales[0]).flatten(1).numpy()
        shape = samples.grid_in[int(samples.has_channels) :]
        self.L_ = self.M_ = None
        self.null_space_, self.amplification_ = np.zeros((samples.Y[0].numel(), 0)), np.nan
        self.undetermined_ = np.zeros(self._target_shape, dtype=bool)
        self.radius_ = self.neighbourhood_ = self.two_sided_ = self.sharing_ = self.periodic_ = None
        self.degree_, self.law_, self.formula_ = 1, None, None
        if not found.form.linear:
            self._keep_nonlinear(found, shape)
        if not isinstance(found.form, LocalForm):
            return
        law, stencil = self._law, found.form.stencil
        self.periodic_ = found.form.periodic
        self._points = Points(shape, self.periodic_, samples.adjacency)
        self._n_axes = len(shape)
        if samples.adjacency is not None:  # meshes given by neighbours alone are assumed to be plane
            self._n_axes = 2 if self.points is None else np.shape(self.points)[1]
        self.radius_, self.two_sided_, self.sharing_ = stencil.of_u.radius, stencil.of_f.radius > 0, stencil.sharing
        self.neighbourhood_ = "mesh" if samples.adjacency is not None else "box" if stencil.of_u.box else "cross"
        self.amplification_ = found.fitted.amplification
        self.undetermined_ = found.fitted.undetermined.reshape(self._target_shape)
        if law.left is not None:
            null_space = law.left.numpy()
            self.null_space_ = null_space / np.linalg.norm(null_space, axis=0)
        L, M = law.L.to_scipy(), law.M.to_scipy()
        n_channels = len(self.undetermined_.reshape(-1, len(self._points)))
        channel = np.repeat(np.arange(n_channels), len(self._points))
        own = sp.csr_array(M.multiply(channel[:, None] == channel)) if n_channels > 1 else M
        sums = own.sum(axis=1)
        # The unit of a channel is the same in all its rows, and only the units make the sums differ from one.
        units = np.array([np.median(sums[(channel == c) & (sums != 0)]) for c in range(n_channels)])
        by_rows = sp.diags_array(1 / units[channel])
        self.L_, self.M_ = sp.csr_array(by_rows @ L), sp.csr_array(by_rows @ M)

    def _keep_nonlinear(self, found, shape):
        """Fitted attributes of a nonlinear law."""
        form, law = found.form, self.operator_
        self.radius_, self.two_sided_, self.sharing_ = form.radius, form.two_sided, "shared"
        self.periodic_ = tuple(end == ("periodic", "periodic") for end in form.ends)
        self._points, self._n_axes = Points(shape, self.periodic_), len(shape)
        self.M_, self.degree_ = law.M, max(law.degree, 1)
        if law.degree < 2 and "1" not in {row["term"] for row in law.table()}:
            self.L_ = law.linear_matrix()
        self.law_, self.formula_ = law.table(), law.formula()

    @property
    def _law(self):
        """The operator without its correction."""
        return self.operator_.terms[0] if isinstance(self.operator_, OperatorSum) else self.operator_

    @property
    def _is_nonlinear(self):
        return isinstance(self.operator_, NonlinearInverse)

    # Use

    def predict(self, X, *, return_converged=False):
        r"""Solve the law for given inputs, and add the correction.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Input fields, on the grid or mesh seen in `fit`.
        return_converged : bool, default=False
            Whether to also return for which inputs a solution was found, instead of issuing a warning.

        Returns
        -------
        y : ndarray of shape (n_samples, ...)
            Output fields, in the shape of the training outputs and the floating-point type of `X`.
        converged : ndarray of bool, of shape (n_samples,)
            Only with ``return_converged=True``. Linear laws always have a solution.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If Newton's method finds no solution of a nonlinear law; `y` then contains the last iterate.
        """
        converged = []

        def solve(F):
            U, found = self.operator_.solve(F)
            converged.append(found)
            return U

        check_is_fitted(self, "operator_")
        product = self._apply(X, solve if self._is_nonlinear else None)
        y = product.reshape(len(product), *self._target_shape)
        found = converged[0] if converged else np.ones(len(y), dtype=bool)
        if return_converged:
            return y, found
        if not found.all():
            warn_user(
                f"Newton's method has found no solution for {np.sum(~found)} of {len(found)} inputs, which may have "
                "none: predict(X, return_converged=True) returns for which inputs it converged.",
                ConvergenceWarning,
            )
        return y

    def residual(self, X, y):
        r"""Relative residual of the law: ``|M f - L u|`` divided by the larger of ``|M f|`` and ``|L u|``.

        It detects outputs that do not solve the equation for their inputs, such as those of simulations that have not
        converged, without solving it. For pairs that satisfy the law, it is of the order of the rounding error, at
        worst times the condition number of L; for unrelated fields, it is between one and two. It does not include the
        correction.

        Parameters
        ----------
        X, y : array-likes of shape (n_samples, \\*grid), ... as in `fit`
            Input and output fields.

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If the fields are not those of the fit, or there is no law.
        """
        self._check_law()
        rows = []
        for fields, name, shape, fill in (
            (X, "X", self._input_shape, self._domain.fill_inputs),
            (y, "y", self._output_shape, self._domain.fill_outputs),
        ):
            values, given = as_rows(fields, name)
            check_same_fields(given, shape, name)
            values = fill(values)
            refuse_nan(values, name, self.mask)
            values = check_array(values, dtype=np.float64, input_name=name)
            if values.shape[1] != shape.size:
                raise ValueError(f"{name} has {values.shape[1]} values per sample, but the law has {shape.size}.")
            rows.append(values)
        if len(rows[0]) != len(rows[1]):
            raise ValueError(f"X has {len(rows[0])} samples and y {len(rows[1])}; these numbers must be equal.")
        sides = self._sides(*rows)
        sizes = np.maximum(*(np.linalg.norm(side, axis=1) for side in sides))
        return np.linalg.norm(sides[0] - sides[1], axis=1) / np.where(sizes > 0, sizes, 1)

    def _sides(self, F, U):
        """M f and L u, or N(u), of rows, in the units of the channels if these differ."""
        if self._is_nonlinear:
            return tuple(side.T for side in self.operator_.sides(F.T, U.T))
        U = U if self._intercept is None else U - self._intercept
        sides = (self.M_ @ F.T).T, (self.L_ @ U.T).T
        if self._channel_scales is None:
            return sides
        units = np.repeat(self._channel_scales[0].flatten().numpy(), len(self._points))
        return tuple(side / units for side in sides)

    @validate_params(
        {
            "n_samples": [Count(1), None],
            "forcing": [StrOptions({"span", "gaussian", "grf"}), "array-like"],
            "length_scale": [Interval(Real, 0, None, closed="neither"), None],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def sample(self, n_samples=None, *, forcing="span", length_scale=None, random_state=None):
        """Draw further pairs, for example to train networks.

        Parameters
        ----------
        n_samples : int, default=None
            Number of pairs. If None, 100, or the number of the given forcings.
        forcing : {"span", "gaussian", "grf"} or array-like, default="span"
            Inputs: random linear combinations of the training inputs ("span"); white noise ("gaussian"); smooth random
            fields, also on irregular domains and meshes ("grf"); or an array of inputs in the shape of the training
            inputs. Random inputs have the mean square of the training inputs, and are zero where all of these are.
        length_scale : float, default=None
            Length scale of "grf", in steps between neighbouring points. If None, it is chosen such that the fields are
            as rough as the training inputs.
        random_state : int, RandomState instance or None, default=None
            Determines the inputs.

        Returns
        -------
        X : ndarray of shape (n_samples, ...)
            Inputs, in the shape of the training inputs.
        y : ndarray of shape (n_samples, ...)
            Predictions for these inputs.

        Raises
        ------
        ValueError
            For inputs of another shape, and inputs for which there is no solution.

        Warns
        -----
        sklearn_hss.exceptions.ExtrapolationWarning
            If the samples do not fully determine the law, or it may be wrong for inputs unlike those of the samples.
        """
        self._check_law()
        if length_scale is not None and not (isinstance(forcing, str) and forcing == "grf"):
            raise ValueError(f"length_scale={length_scale} applies to forcing='grf', not to forcing={forcing!r}.")
        if isinstance(forcing, str):
            F = self._drawn(forcing, n_samples or 100, length_scale, check_random_state(random_state))
        else:
            F = self._given(forcing, n_samples)
        if not isinstance(forcing, str) or forcing != "span":
            self._warn_of_doubts()
        if self.null_space_.shape[1]:
            F = self._with_solutions(F, drawn=isinstance(forcing, str))
        F = F.reshape(len(F), *self._source_shape)
        return F, self.predict(F)

    def _check_law(self):
        check_is_fitted(self, "operator_")
        if self.M_ is None:
            why = (
                "no law explained the samples"
                if self._input_shape.size == self._output_shape.size
                else ("the training targets were not fields on the grid of the inputs")
            )
            raise ValueError(f"There is no law: {why}.")

    def _given(self, forcing, n_samples):
        F, shape = as_rows(forcing, "forcing")
        check_same_fields(shape, self._input_shape, "forcing")
        F = self._domain.fill_inputs(F)
        refuse_nan(F, "forcing", self.mask)
        F = check_array(F, dtype=np.float64, input_name="forcing")
        if F.shape[1] != self._input_shape.size or n_samples not in (None, len(F)):
            raise ValueError(
                f"forcing has {len(F)} fields of {F.shape[1]} values; it must have {n_samples or len(F)} fields of "
                f"{self._input_shape.size}."
            )
        return F

    def _drawn(self, kind, n_samples, length_scale, rng):
        """Rows of random inputs."""
        seen = self._forcings
        if kind == "span":
            return rng.standard_normal((n_samples, len(seen))) @ seen / len(seen) ** 0.5
        n_points = len(self._points)
        F, channels = rng.standard_normal((n_samples, seen.shape[1])), seen.reshape(len(seen), -1, n_points)
        live = (channels != 0).any(0)
        if kind == "grf":
            F = F.reshape(n_samples, -1, n_points)
            for c in range(F.shape[1]):
                F[:, c] = self._smoothed(F[:, c], live[c], length_scale or self._length_scale(channels[:, c]))
        F = F.reshape(n_samples, *channels.shape[1:]) * live
        size = [np.sqrt(np.square(Z).sum((0, 2)) / len(Z)) for Z in (F, channels)]
        return (F * (size[1] / np.where(size[0] > 0, size[0], 1))[:, None]).reshape(n_samples, -1)

    def _length_scale(self, fields):
        """Length scale of random fields whose differences between neighbours are as large as those of given fields."""
        steps = self._points.steps(torch.from_numpy(fields)).numpy()
        slope = np.square(steps).mean() * self._n_axes / (np.square(fields).mean() or 1.0)
        d = min(self._n_axes, 3)
        # For the spectrum (1 + s² k²)^-4 of `_smoothed`, the mean square of k is d / (6 - d) / s².
        return (d / (6 - d) / slope) ** 0.5 if slope > 0 else float(max(self._points.shape))

    def _smoothed(self, fields, live, scale):
        """Solutions v of (1 - scale² Laplace)² v = f, by differences between the points in use, free at the ends."""
        near = self._points.neighbours(Neighbourhood(1)).numpy()
        row, k = np.nonzero((near >= 0) & (near != near[:, :1]) & live[:, None] & live[near])
        weight = 2 * self._n_axes / max(np.bincount(row).max(initial=1), 1) if self._points.is_mesh else 1.0
        graph = sp.csr_array((np.full(len(row), weight), (row, near[row, k])), shape=(len(live), len(live)))
        smoothing = SparseInverse(sp.eye_array(len(live)) + scale**2 * (sp.diags_array(graph.sum(axis=1)) - graph))
        return (smoothing @ (smoothing @ (fields * live).T)).T

    def _with_solutions(self, F, drawn):
        """Project inputs onto the range of a singular law; given inputs that are not close to it raise an error."""
        U = (self._law @ F.T).T
        left = (self.M_ @ F.T - self.L_ @ U.T).T
        if not drawn:
            part = np.linalg.norm(left, axis=1) / np.maximum(np.linalg.norm(F, axis=1), 1e-300)
            if part.max() > _SOLVABLE:
                raise ValueError(
                    f"forcing has no solution: {part.max():.1%} of it lies outside the range of the law, such as a "
                    "mean in Neumann and periodic problems; subtract this part."
                )
        return F - left

    def _warn_of_doubts(self):
        n_open = int(self.undetermined_.sum())
        # Rows whose neighbours are a subset of those of another row are undetermined even by exact samples. This is
        # harmless.
        if n_open and not self.held_out_error_ < _HARMLESS:
            warn_user(
                f"The training samples do not determine the law at {n_open} of {self.undetermined_.size} values; "
                "provide more samples, or use forcing='span'.",
                ExtrapolationWarning,
            )
        elif self.amplification_ > SPURIOUS:
            warn_user(
                f"The law has solutions {self.amplification_:.0e} times larger than those of the training samples; "
                "provide more samples, or use forcing='span'.",
                ExtrapolationWarning,
            )


def mesh_graph(neighbours, points, n_neighbors):
    """Neighbours of the nodes of a mesh, or of scattered points, or None for a grid.

    Returns
    -------
    sparse array of bool and shape (n_nodes, n_nodes), or None

    Raises
    ------
    ValueError
        If both are given, or either is invalid.
    """
    if points is None and n_neighbors != "auto":
        raise ValueError(f"n_neighbors={n_neighbors} is the number of nearest points and requires points=.")
    if points is not None and neighbours is not None:
        raise ValueError("neighbours and points are given, but both determine the neighbours; omit one of them.")
    if points is not None:
        points = check_array(as_plain(points, "points"), dtype=np.float64, input_name="points", ensure_min_samples=2)
        n_nodes, n_axes = points.shape
        k = _NEAREST.get(n_axes, _NEAREST_IN_SPACE) if n_neighbors == "auto" else n_neighbors
        if n_neighbors != "auto" and k >= n_nodes:
            raise ValueError(f"n_neighbors={k} needs more than {k} points, but there are {n_nodes}.")
        neighbours = kneighbors_graph(points, min(k, n_nodes - 1))
    if neighbours is None:
        return None
    if neighbours.ndim != 2 or neighbours.shape[0] != neighbours.shape[1] or neighbours.shape[0] < 2:
        raise ValueError(
            f"neighbours has shape {neighbours.shape}; it must be square, with a row for each of at least 2 nodes."
        )
    graph = sp.csr_array(neighbours) != 0
    return sp.csr_array(graph + graph.T)
