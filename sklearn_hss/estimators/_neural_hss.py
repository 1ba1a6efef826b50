"""Neural-HSS as a scikit-learn regressor."""

import copy
import math
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from .._parameters import Count
from ..fitting import Options, Samples, fit
from ..fitting._samples import relative_error
from ..linalg import ClusterTree
from ..nn import NeuralHSS, PatchHSS
from ..nn._hss_linear import check_rank_and_levels
from ._base import _AUTO, BaseNeuralRegressor, document_training, field_arguments
from ._batches import max_scales, taken
from ._linear_map import weighted_rows
from ._noise import white_noise
from ._training import Network, has_fields, is_auto


def choose_structure(grid_in, grid_out, *, rank, levels, embedding_dim, lifting, projection):
    """Settle the "auto" parameters of :class:`NeuralHSSRegressor` for given grids.

    Parameters
    ----------
    grid_in, grid_out : tuple of int
    rank, levels, embedding_dim, lifting, projection
        As in :class:`NeuralHSSRegressor`.

    Returns
    -------
    dict
        Keyword arguments of :class:`sklearn_hss.nn.NeuralHSS`.

    Raises
    ------
    ValueError
        If `embedding_dim` has not the dimensions of the grids, if `levels` is too deep for them, or `rank` too large
        for the leaves.
    """
    n_modes = len(grid_in)
    if embedding_dim is None:
        grid = tuple(map(max, grid_in, grid_out))
    else:
        grid = (embedding_dim,) * n_modes if isinstance(embedding_dim, Integral) else tuple(embedding_dim)
    if len(grid) != n_modes:
        raise ValueError(
            f"embedding_dim={embedding_dim} must be an integer or have {n_modes} entries, as the grid has."
        )
    if any(not isinstance(n, Integral) or n < 1 for n in grid):
        raise ValueError(f"embedding_dim={embedding_dim!r} must be a positive integer or a tuple of these.")
    # The smallest of the sizes that an HSS layer cuts, come what may.
    cut = list(grid)
    cut += grid_in if lifting in (None, "hss") else []
    cut += grid_out if projection in (None, "hss") else []
    size = min(cut)
    wanted_rank = rank
    if rank == "auto":
        wanted_rank = 2 if levels == "auto" else max(min(2, size >> levels), 1)
    if levels == "auto":
        # Leaves of twice the rank are where HSS starts to save numbers; below that, two leaves must do.
        levels = min(3 if n_modes == 1 else 2, ClusterTree.max_levels(size, 2 * wanted_rank))
        levels = levels or min(1, ClusterTree.max_levels(size, wanted_rank))
        if levels == 0 and rank != "auto":
            raise ValueError(
                f"rank={rank} is too large for fields of {size} points: the largest value that works is "
                f"{size // 2} (or set levels=0 for dense layers)."
            )

    check_rank_and_levels(wanted_rank, levels, n_points=min(grid))

    def fits(grid):
        return levels == 0 or min(grid) >> levels >= wanted_rank

    if projection == "auto":
        projection = ("hss" if n_modes == 1 else None) if fits(grid_out) else "dense"
    return {
        "rank": wanted_rank,
        "levels": levels,
        "embedding_dim": grid[0] if n_modes == 1 else grid,
        "lifting": (None if fits(grid_in) else "dense") if lifting == "auto" else lifting,
        "projection": projection,
    }


# Parameters that only the paper's network has, with their defaults. Who sets one of these wants that network.
_OF_HSS = {
    "local_depth": "auto",
    "residual": "auto",
    "activation": "auto",
    "bias": "auto",
    "lifting": "auto",
    "projection": "auto",
    "embedding_dim": None,
    "initial_slope": 1.0,
    "slope_penalty": 0.0,
}
#: Values of "auto" by architecture; None leaves them to the module, which knows the grid.
_ARCHITECTURES: dict[str, dict] = {
    "hss": {
        "depth": 3,
        "outer_rank": 8,
        "width": None,
        "kernel_size": None,
        "local_depth": 0,
        "residual": False,
        "activation": "leaky_relu",
        "bias": False,
    },
    "patches": {
        "depth": 4,
        "outer_rank": 2,
        "width": None,
        "kernel_size": 3,
        "patch_size": None,
        "hss_channels": 8,
    },
}
# Part of an error that is white noise from which on nothing else is reckoned with.
_WHITE = 0.7
# Error on held-out samples up to which a linear map holds, and number of samples that are enough to see it.
_LINEAR, _ENOUGH = 0.1, 1000
# Numbers in the fields from which the start of a training is found. The fit holds six copies of them in float64.
_START_NUMBERS = 5 * 2**19


def ridge_error(X, Y):
    """Mean relative error of ridge regression on samples that it has not seen, by leaving out each.

    With the best of some penalties, in closed form from the eigenvectors of the Gram matrix. No intercept.
    """
    values, vectors = np.linalg.eigh(X @ X.T)
    values = np.maximum(values, 0)
    rotated = vectors.T @ Y
    norms = np.linalg.norm(Y, axis=1)
    norms = np.where(norms > 0, norms, 1)
    errors = []
    for penalty in values[-1] * np.logspace(-12, 0, 7) + np.finfo(float).tiny:
        shrunk = penalty / (values + penalty)
        left = np.maximum((vectors**2 * shrunk).sum(1), 1e-12)  # the diagonal of I - H
        residuals = vectors @ (shrunk[:, None] * rotated) / left[:, None]
        errors.append(np.mean(np.linalg.norm(residuals, axis=1) / norms))
    return min(errors)


@document_training
class NeuralHSSRegressor(BaseNeuralRegressor):
    """Neural-HSS: a network of hierarchically semi-separable layers that learns solution operators of PDEs.

    The network (Figure 1 and section 2.1 of the Neural-HSS paper) is a stack of linear layers whose weights are HSS
    matrices, each followed by a LeakyReLU with a learnable slope. It has O(n rank) parameters for fields of n points.
    In several dimensions, every layer is a sum of `outer_rank` Kronecker products of such matrices (eq. 1). Training
    minimises the squared error summed over the grid and averaged over the samples (Appendix G), on fields divided by
    their largest magnitude, by Levenberg-Marquardt in one dimension and SOAP in several; ``settings="paper"`` has the
    AdamW of Table 9. Predictions and scores are in the units of the data.

    That network suits linear equations. Where no linear map fits the data, `architecture` chooses another one, in which
    HSS matrices connect patches of the grid beside convolutions, :class:`sklearn_hss.nn.PatchHSS`.

    Parameters
    ----------
    rank : int or "auto", default="auto"
        HSS rank: number of columns of every basis. "auto" is 2, the paper's choice for elliptic equations.
    levels : int or "auto", default="auto"
        Depth of the cluster tree. "auto" is 3 in one dimension and 2 in several, or less on grids too small for leaves
        of twice the rank. 0 makes all layers dense.
    architecture : {"auto", "hss", "patches"}, default="auto"
        "hss" is the paper's network, :class:`sklearn_hss.nn.NeuralHSS`; "patches" is
        :class:`sklearn_hss.nn.PatchHSS`. "auto" is "hss" where a linear map has an error of at most 0.1 on samples that
        were held out, and where the grid has more than three dimensions or fewer than 32 points, a parameter
        is set that only the paper's network has, ``init="linear"`` or ``settings="paper"``; else "patches".
        `architecture_` and `reason_` report the choice. The parameters below that are "auto" have values that suit the
        architecture.
    outer_rank : int or "auto", default="auto"
        Number of Kronecker products in every layer, in several dimensions; and number of terms of a "cp" lifting or
        projection.
    depth : int or "auto", default="auto"
        Number of HSS layers with activation, or of residual blocks of "patches".
    width : int, None or "auto", default="auto"
        Number of channels between lifting and projection. Of "hss", each has HSS matrices of its own, and a pointwise
        linear map beside these mixes them; None is the paper's single channel, and "auto", too.
    kernel_size : int, None or "auto", default="auto"
        Odd size of a local convolution beside every HSS layer, or of those of "patches". None: no convolution, which is
        what "auto" is for "hss".
    patch_size : int, tuple of int or "auto", default="auto"
        Number of points of a patch per dimension.
    hss_channels : int or "auto", default="auto"
        Number of channels of "patches" with HSS matrices.
    local_depth : int or "auto", default="auto"
        Number of residual blocks of two local convolutions before each HSS layer, which then also gets a convolution
        before it and a residual link around both. Needs `width` and `kernel_size`.
    residual : bool or "auto", default="auto"
        Whether to add the input of each HSS layer to the output of its activation.
    activation : {"leaky_relu", "gelu", "auto"}, default="auto"
        LeakyReLU with a learnable slope, or GELU.
    embedding_dim : int or tuple of int, default=None
        Grid of the fields between the layers, one number for all dimensions or one for each. The larger of the sizes of
        input and output if None.
    lifting : {"auto", None, "hss", "dense", "cp", "pointwise"}, default="auto"
        Additional linear layer at the entrance: "hss", "dense" (full rank), "cp" (low-rank tensor map over channels and
        grid, Appendix E) or "pointwise" (channels only). "auto" is None where the input is large enough for the first
        HSS layer to take it, else "dense"; None is "pointwise" where the number of channels changes. The paper uses
        "dense" for Burgers' equation.
    projection : {"auto", None, "hss", "dense", "cp", "pointwise"}, default="auto"
        Additional linear layer at the exit, likewise. "auto" is "hss" in one dimension and None in several where the
        output is large enough, else "dense".
    bias : bool or "auto", default="auto"
        Whether the linear layers have biases. The paper's do not; useful for nonlinear problems.
    initial_slope : float, default=1.0
        Slope of the activations at the start. 1 makes the untrained network linear, which suits linear PDEs.
    recompute : bool, default=False
        Whether layers of several dimensions compute intermediate fields twice instead of storing them for the gradient.
    slope_rate : float or "auto", default="auto"
        Learning rate of the slopes over `lr`. At a rate of 1, the paper's, they drift on linear problems; "auto" is
        1e-3 there.
    slope_penalty : float, default=0.0
        Factor lambda of the regulariser lambda / 2 * sum (slope - 1)² of Theorem 2.3, added to the loss.
    init : {"auto", "linear", "random"}, default="auto"
        Weights before training. "random" is the paper's. "linear" fits the linear map that suits the data best, as
        :class:`HSSRegressor` does, cut to `rank`, `levels` and `outer_rank`, and makes it one of the layers; the others
        are the identity (`initial_slope` does not apply). If that map has a relative error below 1e-4, or leaves
        nothing but white noise, there is no training; otherwise training goes on from it, and it is what remains if
        training has not lowered the loss.
        "auto" is "linear" where that map has a relative error below 0.1 on held-out samples, else "random"; in several
        dimensions it tries inverse forms only, which are fast, where the grids of input and output are the same. Where
        the samples obey a local law, as on domains that are no boxes and with any coefficients, layers of several
        dimensions are fitted to solutions of that law as well, so that a dozen samples suffice for all their terms.
    {training_parameters}

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the :class:`sklearn_hss.nn.NeuralHSS`.
    rank_, levels_ : int
        The rank and the depth in use.
    init_ : {"linear", "random"}
        The start in use.
    architecture_ : str
        The architecture in use.
    reason_ : str
        Why.
    slopes_ : ndarray of shape (n_activations,)
        Learned slopes of the activations: `depth` of them, more with `local_depth`, none with GELU or patches.
    {fitted_attributes}

    See Also
    --------
    sklearn_hss.nn.NeuralHSS : The torch module.
    sklearn_hss.datasets.make_poisson : Data to try it on.

    References
    ----------
    Sittoni, Zangrando, Casulli, Guglielmi, Tudisco: Neural-HSS: Hierarchical Semi-Separable Neural PDE Solver.

    Examples
    --------
    >>> from sklearn_hss import NeuralHSSRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> F, U = make_poisson(n_samples=60, n_points=64, random_state=0)
    >>> model = NeuralHSSRegressor(rank=2, levels=3, max_epochs=200, lr=1e-2, random_state=0)
    >>> model = model.fit(F[:50], U[:50])
    >>> model.predict(F[50:]).shape
    (10, 64)
    >>> bool(model.score(F[50:], U[50:]) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        **BaseNeuralRegressor._parameter_constraints,
        "rank": [Count(1), StrOptions({"auto"})],
        "levels": [Count(0), StrOptions({"auto"})],
        "depth": [Count(1), _AUTO],
        "outer_rank": [Count(1), _AUTO],
        "width": [Count(1), None, _AUTO],
        "kernel_size": [Count(1), None, _AUTO],
        "local_depth": [Count(0), _AUTO],
        "residual": ["boolean", _AUTO],
        "patch_size": [Count(1), tuple, list, _AUTO],
        "hss_channels": [Count(0), _AUTO],
        "activation": [StrOptions({"leaky_relu", "gelu", "auto"})],
        "embedding_dim": [Count(1), tuple, None],
        "lifting": [StrOptions({"auto", "hss", "dense", "cp", "pointwise"}), None],
        "projection": [StrOptions({"auto", "hss", "dense", "cp", "pointwise"}), None],
        "recompute": ["boolean"],
        "bias": ["boolean", _AUTO],
        "initial_slope": [Interval(Real, None, None, closed="neither")],
        "slope_rate": [Interval(Real, 0, None, closed="left"), _AUTO],
        "architecture": [StrOptions({"auto", *_ARCHITECTURES})],
        "slope_penalty": [Interval(Real, 0, None, closed="left")],
        "init": [StrOptions({"auto", "linear", "random"})],
    }

    def __init__(
        self,
        rank="auto",
        levels="auto",
        *,
        architecture="auto",
        outer_rank="auto",
        depth="auto",
        width="auto",
        kernel_size="auto",
        patch_size="auto",
        hss_channels="auto",
        local_depth="auto",
        residual="auto",
        activation="auto",
        embedding_dim=None,
        lifting="auto",
        projection="auto",
        bias="auto",
        initial_slope=1.0,
        recompute=False,
        slope_rate="auto",
        slope_penalty=0.0,
        init="auto",
        settings="auto",
        optimizer="auto",
        loss="l2",
        lr="auto",
        min_lr="auto",
        max_epochs="auto",
        max_seconds=None,
        batch_size="auto",
        weight_decay="auto",
        gradient_clip="auto",
        scale="auto",
        validation_fraction=None,
        early_stopping=False,
        n_iter_no_change=50,
        warm_start=False,
        callbacks=None,
        checkpoint=None,
        checkpoint_every="60s",
        device="auto",
        dtype=None,
        random_state=None,
        verbose=0,
        grid_shape=None,
        mask=None,
    ):
        self.rank = rank
        self.levels = levels
        self.architecture = architecture
        self.outer_rank = outer_rank
        self.depth = depth
        self.width = width
        self.kernel_size = kernel_size
        self.patch_size = patch_size
        self.hss_channels = hss_channels
        self.local_depth = local_depth
        self.residual = residual
        self.activation = activation
        self.embedding_dim = embedding_dim
        self.lifting = lifting
        self.projection = projection
        self.bias = bias
        self.initial_slope = initial_slope
        self.recompute = recompute
        self.slope_rate = slope_rate
        self.slope_penalty = slope_penalty
        self.init = init
        self.settings = settings
        self.optimizer = optimizer
        self.loss = loss
        self.lr = lr
        self.min_lr = min_lr
        self.max_epochs = max_epochs
        self.max_seconds = max_seconds
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.scale = scale
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose
        self.grid_shape = grid_shape
        self.mask = mask

    _choices = ("architecture_", "reason_", "init_", "rank_", "levels_")

    def _look_at(self, X, y, sample_weight, rows):
        if self.architecture != "patches":
            self._structure()  # refuses ranks and levels that do not fit the grid
        self.architecture_ = "hss"  # of which a linear fit is tried
        self.architecture_, self.reason_, *seen = self._choose_architecture(X, y, rows)
        return seen

    def _choose_architecture(self, X, y, rows):
        """The architecture, why, and perhaps fields and the linear fit of them."""
        given = self._given_for_hss()
        if self.architecture != "auto":
            refused = [*given, *(["init='linear'"] if self.init == "linear" else [])]
            if self.architecture == "patches" and refused:
                raise ValueError(
                    f"{refused[0]} does not apply to architecture='patches'; use architecture='hss', or leave it out."
                )
            return self.architecture, f"architecture={self.architecture!r}"
        if given:
            return "hss", f"{given[0]} is given"
        if self.settings == "paper" or self.init == "linear":
            return "hss", "settings='paper'" if self.settings == "paper" else "init='linear'"
        n_modes = len(self._shapes[0].grid)
        if n_modes > 3:
            return "hss", f"there are no convolutions in {n_modes} dimensions"
        if not has_fields(self._shapes[0].grid):
            return "hss", f"a grid of {' x '.join(map(str, self._shapes[0].grid))} points has no patches"
        n_samples = len(X) if rows is None else len(rows)
        if n_samples < 4:
            return "hss", f"{n_samples} samples cannot tell"
        scales = [
            max_scales(array, fields.n_channels, rows) for array, fields in zip((X, y), self._shapes, strict=True)
        ]
        some = taken((X, y, None, rows), min(_START_NUMBERS, _ENOUGH * (X.shape[1] + y.shape[1])))[:2]
        F, U = (
            (array.reshape(len(array), len(scale), -1) / scale[:, None]).reshape(len(array), -1).astype(np.float64)
            for array, scale in zip(some, scales, strict=True)
        )
        # Copies of a sample count once, as they do not help to predict it, and as a weight of two does.
        distinct = np.sort(np.unique(F, axis=0, return_index=True)[1])
        F, U = F[distinct], U[distinct]
        if len(F) < 4:
            return "hss", f"{len(F)} different samples cannot tell"
        error, seen = ridge_error(F, U), []
        # With more samples than numbers in an input, ridge regression has seen all there is.
        if error > _LINEAR and len(F) < 2 * F.shape[1] and self._shapes[0].n_channels is None:
            found = self._try_linear_fit(*weighted_rows(F, U)[:2])
            seen = [F, U, found]
            if found is not None and math.isfinite(found.held_out_error):
                error = min(error, found.held_out_error)
        text = f"a linear map has an error of {error:.2g} on samples that were held out"
        return ("hss" if error <= _LINEAR else "patches"), text, *seen

    def _given_for_hss(self):
        """Parameters that are set and that only the paper's network has, as text."""
        changed = (name for name, default in _OF_HSS.items() if getattr(self, name) != default)
        given = [f"{name}={getattr(self, name)!r}" for name in changed]
        return [*given, "width=None"] if self.width is None else given

    def _structure(self):
        names = ("rank", "levels", "embedding_dim", "lifting", "projection")
        grids = (fields.grid for fields in self._shapes)
        return choose_structure(*grids, **{name: getattr(self, name) for name in names})

    def _form(self):
        """Values of the parameters that the architecture settles."""
        return {
            name: value if is_auto(getattr(self, name)) else getattr(self, name)
            for name, value in _ARCHITECTURES[self.architecture_].items()
        }

    @property
    def _network(self):
        form = self._module_form
        structured = self.architecture_ == "hss" and form["activation"] == "leaky_relu" and form["width"] is None
        return Network(structured=structured, single=self.architecture_ == "patches")

    def _make_module(self, inputs, outputs):
        fields = field_arguments(inputs, outputs)
        others = self._given_for_hss() if self.architecture_ == "patches" else []
        if self.architecture not in ("auto", self.architecture_):
            others = [f"architecture={self.architecture!r}"]
        if others:  # the choice was made by the fit that is to be continued
            raise ValueError(
                f"{others[0]} does not go with architecture={self.architecture_!r} of the earlier fit, which cannot be "
                "continued with it; start again with warm_start=False, or set it back."
            )
        self._module_form = self._form()
        if self.architecture_ == "patches":
            rank = 2 if is_auto(self.rank) else self.rank
            levels = None if is_auto(self.levels) else self.levels
            return PatchHSS, {**fields, **self._module_form, "rank": rank, "levels": levels}, {"init_": "random"}
        structure = self._structure()
        own = ("initial_slope", "recompute")
        arguments = {**fields, **structure, **self._module_form, **{name: getattr(self, name) for name in own}}
        return (
            NeuralHSS,
            arguments,
            {
                "rank_": structure["rank"],
                "levels_": structure["levels"],
                "init_": "random",
            },
        )

    def _initialise(self, module, data, seen):
        if self.architecture_ == "patches":
            self.rank_, self.levels_ = module.rank, module.levels
            return math.inf
        if self.init == "random" or (self.init == "auto" and not module.can_be_linear):
            return math.inf
        if not module.can_be_linear:
            module._refuse_to_be_linear()
        if self._module_form["residual"] and self._module_form["outer_rank"] < 2 and len(self._shapes[0].grid) > 1:
            # One term is the identity, which the residual link has added.
            if self.init == "linear":
                raise ValueError("init='linear' with residual=True needs outer_rank=2 or more, not outer_rank=1.")
            return math.inf
        X, y, sample_weight = taken(data, _START_NUMBERS)
        X, y = (
            ((rows.reshape(len(rows), len(scales), -1) - offsets) / scales[:, None]).reshape(len(rows), -1)
            for rows, scales, offsets in (
                (X, self.x_scale_, self.x_offset_),
                (y, self.y_scale_, self.y_offset_),
            )
        )
        known = seen and sample_weight is None and np.array_equal(X, seen[0]) and np.array_equal(y, seen[1])
        X, y, _ = weighted_rows(X, y, sample_weight)
        found = seen[2] if known else self._try_linear_fit(X, y)
        if found is None:
            return math.inf
        F, U = torch.from_numpy(X), torch.from_numpy(y)
        verified = math.isfinite(found.held_out_error)
        if self.init == "auto" and not (verified and found.held_out_error < 0.1):
            return math.inf
        before = copy.deepcopy(module.state_dict())
        module.install(found.operator)
        with torch.no_grad():
            inputs = F.reshape(-1, *self._shapes[0].shape).split(256)
            kind = {"device": self.net_.device, "dtype": getattr(torch, self._dtype.name)}
            batches = [module(fields.to(**kind)).flatten(1).cpu().double() for fields in inputs]
            predictions = torch.from_numpy(self._domain.finish(torch.cat(batches).numpy()))
            error = relative_error(predictions.nan_to_num(), U)
        if self.init == "auto" and not error < 0.1:  # rank and precision of the layers do not suffice
            module.load_state_dict(before)
            return math.inf
        self.init_ = "linear"
        left = (U - predictions.nan_to_num()).numpy()
        grid, inside = self._shapes[1].grid, self._domain.outputs
        size = np.sqrt(np.mean(np.square(left if inside is None else left[:, inside])))
        if white_noise(left, grid, inside=inside)[0] > _WHITE * size > 0:
            return 0.0  # training could but learn the noise
        # Few samples may be reproduced without being understood, so the error on those held out counts, too.
        return max(error, found.held_out_error if verified else 1.0)

    def _try_linear_fit(self, X, y):
        """Linear fit of weighted rows, or None where there is none that could be found."""
        F, U = torch.from_numpy(X), torch.from_numpy(y)
        try:
            # Its doubts, that no linear map fits perhaps, are no news to someone who trains a nonlinear model.
            return self._linear_fit(F, U, max(self._rounding, np.finfo(X.dtype).eps))
        except (ValueError, np.linalg.LinAlgError, torch.linalg.LinAlgError):
            # LinAlgError: degenerate; ValueError: no candidate could be fitted, as to constant zero fields.
            if self.init == "linear":
                raise
            return None

    def _linear_fit(self, F, U, noise):
        """Linear map of the rows of F to those of U that the layers can hold."""
        structure = self._structure()
        levels = structure["levels"]
        grid_in, grid_out = (fields.grid for fields in self._shapes)
        inside = None if self._domain.outputs is None else torch.from_numpy(self._domain.outputs).view(grid_out)
        samples = Samples(
            F.view(-1, *grid_in), U.view(-1, *grid_out), torch.ones(len(F), dtype=F.dtype), inside=inside, noise=noise
        )
        if len(grid_in) == 1:
            rank = "auto" if levels == 0 or structure["rank"] > min(F.shape[1], U.shape[1]) else structure["rank"]
            return fit(samples, Options(rank=rank))
        fixed = levels and not (structure["lifting"] or structure["projection"])
        form = self._form()
        options = Options(
            # In a residual network, one term is the identity.
            outer_rank=max(form["outer_rank"] - int(form["residual"]), 1),
            rank=structure["rank"] if fixed else "auto",
            levels=levels if fixed else 0,
            # Sums of Kronecker products take long to fit; on nonlinear data, which "auto" is for, in vain.
            form="inverse" if self.init == "auto" and grid_in == grid_out else "auto",
        )
        return fit(samples, options)

    @property
    def _penalty(self):
        return self.slope_penalty / 2

    @property
    def slopes_(self):
        """Learned slopes of the activations, from first to last."""
        if self.architecture_ == "patches":
            return np.empty(0)
        return self.net_.module_.slopes.detach().cpu().numpy()
