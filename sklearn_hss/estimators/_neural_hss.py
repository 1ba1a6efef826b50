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
    """Resolve the "auto" parameters of :class:`NeuralHSSRegressor` for given grids.

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
        If `embedding_dim` does not have the number of dimensions of the grids, `levels` is too deep for them, or `rank`
        is too large for the leaves.
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
    # The smallest of the sizes that an HSS layer partitions, whatever the lifting and projection.
    cut = list(grid)
    cut += grid_in if lifting in (None, "hss") else []
    cut += grid_out if projection in (None, "hss") else []
    size = min(cut)
    wanted_rank = rank
    if rank == "auto":
        wanted_rank = 2 if levels == "auto" else max(min(2, size >> levels), 1)
    if levels == "auto":
        # HSS saves parameters only for leaves of at least twice the rank; on smaller grids, there are two leaves.
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


# Parameters that only the paper's network has, with their defaults. Setting one of these selects that network.
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
# Fraction of white noise in an error above which the error is regarded as pure noise.
_WHITE = 0.7
# Error on held-out samples up to which a linear map is accepted, and number of samples sufficient to measure it.
_LINEAR, _ENOUGH = 0.1, 1000
# Numbers in the fields from which the start of a training is found. The fit holds six copies of them in float64.
_START_NUMBERS = 5 * 2**19


def ridge_error(X, Y):
    """Mean relative leave-one-out error of ridge regression without intercept.

    It is that of the best of several penalties, in closed form from the eigenvectors of the Gram matrix.
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
    their largest magnitude, by Levenberg-Marquardt in one dimension and SOAP in several; ``settings="paper"`` uses
    AdamW as in Table 9. Predictions and scores are in the units of the data.

    This network is suited to linear equations. If no linear map fits the data, ``architecture="auto"`` selects
    :class:`sklearn_hss.nn.PatchHSS`, which combines convolutions with HSS matrices between patches of the grid, and
    trains by SOAP in one dimension and by AdamW in several.

    Parameters
    ----------
    rank : int or "auto", default="auto"
        HSS rank: number of columns of every basis. "auto" is 2, the paper's choice for elliptic equations.
    levels : int or "auto", default="auto"
        Depth of the cluster tree. "auto" is 3 in one dimension and 2 in several, or less on grids too small for leaves
        of twice the rank. With 0, all layers are dense.
    architecture : {"auto", "hss", "patches"}, default="auto"
        "hss" is the paper's network, :class:`sklearn_hss.nn.NeuralHSS`; "patches" is
        :class:`sklearn_hss.nn.PatchHSS`. "auto" selects "hss" if a linear map has an error of at most 0.1 on held-out
        samples, if the grid has more than three dimensions or fewer than 32 points, if a parameter is set that only the
        paper's network has, or with ``init="linear"`` or ``settings="paper"``; otherwise it selects "patches".
        `architecture_` and `reason_` report the choice. The value of "auto" for the parameters below depends on the
        architecture.
    outer_rank : int or "auto", default="auto"
        Number of Kronecker products in every layer, in several dimensions; and number of terms of a "cp" lifting or
        projection.
    depth : int or "auto", default="auto"
        Number of HSS layers with activation, or of residual blocks of "patches".
    width : int, None or "auto", default="auto"
        Number of channels between lifting and projection. In "hss", each channel has its own HSS matrices, and a
        parallel pointwise linear map mixes the channels; None and "auto" are the paper's single channel.
    kernel_size : int, None or "auto", default="auto"
        Odd size of a local convolution parallel to every HSS layer, or of the convolutions of "patches". None means no
        convolution, which is also the meaning of "auto" for "hss".
    patch_size : int, tuple of int or "auto", default="auto"
        Number of points of a patch per dimension.
    hss_channels : int or "auto", default="auto"
        Number of channels of "patches" with HSS matrices.
    local_depth : int or "auto", default="auto"
        Number of residual blocks of two local convolutions before each HSS layer, which is then also preceded by a
        convolution, with a residual connection around both. Requires `width` and `kernel_size`.
    residual : bool or "auto", default="auto"
        Whether to add the input of each HSS layer to the output of its activation.
    activation : {"leaky_relu", "gelu", "auto"}, default="auto"
        LeakyReLU with a learnable slope, or GELU.
    embedding_dim : int or tuple of int, default=None
        Grid of the fields between the layers, one number for all dimensions or one for each. If None, the larger of the
        sizes of input and output.
    lifting : {"auto", None, "hss", "dense", "cp", "pointwise"}, default="auto"
        Additional linear layer at the input: "hss", "dense" (full rank), "cp" (low-rank tensor map over channels and
        grid, Appendix E) or "pointwise" (channels only). "auto" is None if the input is large enough for the first HSS
        layer, otherwise "dense"; None is "pointwise" if the number of channels changes. The paper uses "dense" for
        Burgers' equation.
    projection : {"auto", None, "hss", "dense", "cp", "pointwise"}, default="auto"
        Additional linear layer at the output, with the same options. If the output is large enough, "auto" is "hss" in
        one dimension and None in several, otherwise "dense".
    bias : bool or "auto", default="auto"
        Whether the linear layers have biases, which are useful for nonlinear problems. Those of the paper do not.
    initial_slope : float, default=1.0
        Initial slope of the activations. With 1, the untrained network is linear, which is suited to linear PDEs.
    recompute : bool, default=False
        Whether layers of several dimensions recompute intermediate fields for the gradient instead of storing them.
    slope_rate : float or "auto", default="auto"
        Learning rate of the slopes, as a factor of `lr`. With the paper's factor of 1, the slopes drift on linear
        problems, for which "auto" is 1e-3.
    slope_penalty : float, default=0.0
        Factor lambda of the regulariser lambda / 2 * sum (slope - 1)² of Theorem 2.3, added to the loss.
    init : {"auto", "linear", "random"}, default="auto"
        Weights before training. "random" is the initialisation of the paper. "linear" fits the linear map that best
        explains the data, as :class:`HSSRegressor` does, truncates it to `rank`, `levels` and `outer_rank`, and uses it
        as one of the layers; the other layers are the identity (`initial_slope` does not apply). If this map has a
        relative error below 1e-4, or its residual is white noise, the network is not trained; otherwise training starts
        from this map, which is retained if training does not reduce the loss.
        "auto" is "linear" if this map has a relative error below 0.1 on held-out samples, otherwise "random"; in
        several dimensions, it tries inverse forms only, which are fast, if input and output have the same grid. If the
        samples satisfy a local law, as on general domains and with variable coefficients, layers of several dimensions
        are also fitted to solutions of this law, so that a dozen samples determine all their terms.
    {training_parameters}

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the :class:`sklearn_hss.nn.NeuralHSS`.
    rank_, levels_ : int
        The rank and the depth in use.
    init_ : {"linear", "random"}
        The initialisation in use.
    architecture_ : str
        The architecture in use.
    reason_ : str
        Reason for the choice of the architecture.
    slopes_ : ndarray of shape (n_activations,)
        Learned slopes of the activations: `depth` of them, more with `local_depth`, none with GELU or "patches".
    {fitted_attributes}

    See Also
    --------
    sklearn_hss.nn.NeuralHSS : The torch module.
    sklearn_hss.datasets.make_poisson : Generate samples of the Poisson equation.

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
        accelerator=None,
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
        self.accelerator = accelerator
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose
        self.grid_shape = grid_shape
        self.mask = mask

    _choices = ("architecture_", "reason_", "init_", "rank_", "levels_")

    def _look_at(self, X, y, sample_weight, rows):
        if self.architecture != "patches":
            self._structure()  # raises for ranks and levels that do not fit the grid
        self.architecture_ = "hss"  # the architecture for which a linear fit is tried
        self.architecture_, self.reason_, *seen = self._choose_architecture(X, y, rows)
        return seen

    def _choose_architecture(self, X, y, rows):
        """The architecture, the reason for it and, if they were computed, fields and a linear fit of them."""
        given = self._given_for_hss()
        if self.architecture != "auto":
            refused = [*given, *(["init='linear'"] if self.init == "linear" else [])]
            if self.architecture == "patches" and refused:
                raise ValueError(
                    f"{refused[0]} does not apply to architecture='patches'; use architecture='hss', or omit it."
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
            return "hss", f"a grid of {' x '.join(map(str, self._shapes[0].grid))} points is too small for patches"
        n_samples = len(X) if rows is None else len(rows)
        if n_samples < 4:
            return "hss", f"{n_samples} samples are not conclusive"
        scales = [
            max_scales(array, fields.n_channels, rows) for array, fields in zip((X, y), self._shapes, strict=True)
        ]
        some = taken((X, y, None, rows), min(_START_NUMBERS, _ENOUGH * (X.shape[1] + y.shape[1])))[:2]
        F, U = (
            (array.reshape(len(array), len(scale), -1) / scale[:, None]).reshape(len(array), -1).astype(np.float64)
            for array, scale in zip(some, scales, strict=True)
        )
        # Copies of a sample count once, since they must not help to predict it; a sample of weight two does as well.
        distinct = np.sort(np.unique(F, axis=0, return_index=True)[1])
        F, U = F[distinct], U[distinct]
        if len(F) < 4:
            return "hss", f"{len(F)} different samples are not conclusive"
        error, seen = ridge_error(F, U), []
        # With many more samples than values in an input, an HSS map cannot improve on ridge regression.
        if error > _LINEAR and len(F) < 2 * F.shape[1] and self._shapes[0].n_channels is None:
            found = self._try_linear_fit(*weighted_rows(F, U)[:2])
            seen = [F, U, found]
            if found is not None and math.isfinite(found.held_out_error):
                error = min(error, found.held_out_error)
        text = f"a linear map has an error of {error:.2g} on held-out samples"
        return ("hss" if error <= _LINEAR else "patches"), text, *seen

    def _given_for_hss(self):
        """Explicitly set parameters that only the paper's network has, as text."""
        changed = (name for name, default in _OF_HSS.items() if getattr(self, name) != default)
        given = [f"{name}={getattr(self, name)!r}" for name in changed]
        return [*given, "width=None"] if self.width is None else given

    def _structure(self):
        names = ("rank", "levels", "embedding_dim", "lifting", "projection")
        grids = (fields.grid for fields in self._shapes)
        return choose_structure(*grids, **{name: getattr(self, name) for name in names})

    def _form(self):
        """Values of the parameters that depend on the architecture."""
        return {
            name: value if is_auto(getattr(self, name)) else getattr(self, name)
            for name, value in _ARCHITECTURES[self.architecture_].items()
        }

    @property
    def _network(self):
        form = self._module_form
        structured = self.architecture_ == "hss" and form["activation"] == "leaky_relu" and form["width"] is None
        if self.architecture_ == "patches":
            return Network(single=True, soap=6e-3)
        return Network(structured=structured)

    def _make_module(self, inputs, outputs):
        fields = field_arguments(inputs, outputs)
        others = self._given_for_hss() if self.architecture_ == "patches" else []
        if self.architecture not in ("auto", self.architecture_):
            others = [f"architecture={self.architecture!r}"]
        if others:  # the architecture was determined by the fit that is to be continued
            raise ValueError(
                f"{others[0]} is incompatible with architecture={self.architecture_!r} of the earlier fit, which it "
                "would continue; start again with warm_start=False, or restore the earlier value."
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
            # One term is the identity, to cancel that of the residual connection.
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
        X, y = weighted_rows(X, y, sample_weight)[:2]
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
            return 0.0  # training could only learn the noise
        # Few samples can be reproduced by overfitting, so the error on held-out samples counts as well.
        return max(error, found.held_out_error if verified else 1.0)

    def _try_linear_fit(self, X, y):
        """Linear fit of weighted rows, or None if none could be computed."""
        F, U = torch.from_numpy(X), torch.from_numpy(y)
        try:
            # Its warnings, such as that no linear map fits, are not relevant to a nonlinear model.
            return self._linear_fit(F, U, max(self._rounding, np.finfo(X.dtype).eps))
        except (ValueError, np.linalg.LinAlgError, torch.linalg.LinAlgError):
            # LinAlgError: degenerate samples; ValueError: no candidate could be fitted, as for constant zero fields.
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
            # Sums of Kronecker products take long to fit, without benefit on nonlinear data, for which "auto" is meant.
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
