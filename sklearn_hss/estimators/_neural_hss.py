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
from ..nn import NeuralHSS
from ..nn._hss_linear import check_rank_and_levels
from ._base import BaseNeuralRegressor, document_training, field_arguments
from ._linear_map import weighted_rows


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


@document_training
class NeuralHSSRegressor(BaseNeuralRegressor):
    """Neural-HSS: a network of hierarchically semi-separable layers that learns solution operators of PDEs.

    The network (Figure 1 and section 2.1 of the Neural-HSS paper) is a stack of linear layers whose weights are HSS
    matrices, each followed by a LeakyReLU with a learnable slope. It has O(n rank) parameters for fields of n points.
    In several dimensions, every layer is a sum of `outer_rank` Kronecker products of such matrices (eq. 1). Training
    minimises the squared error summed over the grid and averaged over the samples (Appendix G), on fields divided by
    their largest magnitude, with AdamW and a cosine learning-rate schedule; the defaults are those of Table 9.
    Predictions and scores are in the units of the data.

    That network suits linear equations. For nonlinear ones, `width`, `kernel_size`, `local_depth` or `residual`,
    ``activation="gelu"`` and `bias` make the HSS matrices the global part of a more expressive one; :doc:`/user_guide`
    says when they pay.

    Parameters
    ----------
    rank : int or "auto", default="auto"
        HSS rank: number of columns of every basis. "auto" is 2, the paper's choice for elliptic equations.
    levels : int or "auto", default="auto"
        Depth of the cluster tree. "auto" is 3 in one dimension and 2 in several, or less on grids too small for leaves
        of twice the rank. 0 makes all layers dense.
    outer_rank : int, default=8
        Number of Kronecker products in every layer, in several dimensions; and number of terms of a "cp" lifting or
        projection.
    depth : int, default=3
        Number of HSS layers with activation.
    width : int, default=None
        Number of channels between lifting and projection, each with HSS matrices of its own; a pointwise linear map
        beside these mixes the channels. None is the paper's single channel.
    kernel_size : int, default=None
        Odd size of a local convolution beside every HSS layer. None: no convolution.
    local_depth : int, default=0
        Number of residual blocks of two local convolutions before each HSS layer, which then also gets a convolution
        before it and a residual link around both. Needs `width` and `kernel_size`.
    residual : bool, default=False
        Whether to add the input of each HSS layer to the output of its activation.
    activation : {"leaky_relu", "gelu"}, default="leaky_relu"
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
    bias : bool, default=False
        Whether the linear layers have biases. The paper's do not; useful for nonlinear problems.
    initial_slope : float, default=1.0
        Slope of the activations at the start. 1 makes the untrained network linear, which suits linear PDEs.
    recompute : bool, default=False
        Whether layers of several dimensions compute intermediate fields twice instead of storing them for the gradient.
    slope_penalty : float, default=0.0
        Factor lambda of the regulariser lambda / 2 * sum (slope - 1)² of Theorem 2.3, added to the loss.
    init : {"auto", "linear", "random"}, default="auto"
        Weights before training. "random" is the paper's. "linear" fits the linear map that suits the data best, as
        :class:`HSSRegressor` does, cut to `rank`, `levels` and `outer_rank`, and makes it one of the layers; the others
        are the identity (`initial_slope` does not apply). If that map has a relative error below 1e-4, there is no
        training; otherwise training goes on from it, and it is what remains if training has not lowered the loss.
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
    slopes_ : ndarray of shape (n_activations,)
        Learned slopes of the activations: `depth` of them, more with `local_depth`, none with GELU.
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
        "depth": [Count(1)],
        "outer_rank": [Count(1)],
        "width": [Count(1), None],
        "kernel_size": [Count(1), None],
        "local_depth": [Count(0)],
        "residual": ["boolean"],
        "activation": [StrOptions({"leaky_relu", "gelu"})],
        "embedding_dim": [Count(1), tuple, None],
        "lifting": [StrOptions({"auto", "hss", "dense", "cp", "pointwise"}), None],
        "projection": [StrOptions({"auto", "hss", "dense", "cp", "pointwise"}), None],
        "recompute": ["boolean"],
        "bias": ["boolean"],
        "initial_slope": [Interval(Real, None, None, closed="neither")],
        "slope_penalty": [Interval(Real, 0, None, closed="left")],
        "init": [StrOptions({"auto", "linear", "random"})],
    }

    def __init__(
        self,
        rank="auto",
        levels="auto",
        *,
        outer_rank=8,
        depth=3,
        width=None,
        kernel_size=None,
        local_depth=0,
        residual=False,
        activation="leaky_relu",
        embedding_dim=None,
        lifting="auto",
        projection="auto",
        bias=False,
        initial_slope=1.0,
        recompute=False,
        slope_penalty=0.0,
        init="auto",
        lr=1e-3,
        min_lr=1e-5,
        max_epochs=500,
        batch_size=256,
        weight_decay=1e-3,
        gradient_clip=1.0,
        scale="max",
        validation_fraction=None,
        early_stopping=False,
        n_iter_no_change=50,
        warm_start=False,
        callbacks=None,
        device="auto",
        dtype=None,
        random_state=None,
        verbose=0,
        grid_shape=None,
        mask=None,
    ):
        self.rank = rank
        self.levels = levels
        self.outer_rank = outer_rank
        self.depth = depth
        self.width = width
        self.kernel_size = kernel_size
        self.local_depth = local_depth
        self.residual = residual
        self.activation = activation
        self.embedding_dim = embedding_dim
        self.lifting = lifting
        self.projection = projection
        self.bias = bias
        self.initial_slope = initial_slope
        self.recompute = recompute
        self.slope_penalty = slope_penalty
        self.init = init
        self.lr = lr
        self.min_lr = min_lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.scale = scale
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose
        self.grid_shape = grid_shape
        self.mask = mask

    def _make_module(self, inputs, outputs):
        fields = field_arguments(inputs, outputs)
        structure = choose_structure(
            inputs.grid,
            outputs.grid,
            rank=self.rank,
            levels=self.levels,
            embedding_dim=self.embedding_dim,
            lifting=self.lifting,
            projection=self.projection,
        )
        arguments = {
            **fields,
            **structure,
            **{
                name: getattr(self, name)
                for name in (
                    "depth",
                    "outer_rank",
                    "width",
                    "kernel_size",
                    "local_depth",
                    "residual",
                    "activation",
                    "bias",
                    "initial_slope",
                    "recompute",
                )
            },
        }
        return (
            NeuralHSS,
            arguments,
            {
                "rank_": structure["rank"],
                "levels_": structure["levels"],
                "init_": "random",
            },
        )

    def _initialise(self, module, X, y, sample_weight):
        if self.init == "random" or (self.init == "auto" and not module.can_be_linear):
            return math.inf
        if not module.can_be_linear:
            module._refuse_to_be_linear()
        if self.residual and self.outer_rank < 2 and len(self._shapes[0].grid) > 1:
            # One term is the identity, which the residual link has added.
            if self.init == "linear":
                raise ValueError("init='linear' with residual=True needs outer_rank=2 or more, not outer_rank=1.")
            return math.inf
        X, y = (
            (rows.reshape(len(rows), len(scales), -1) / scales[:, None]).reshape(len(rows), -1)
            for rows, scales in ((X, self.x_scale_), (y, self.y_scale_))
        )
        F, U, _ = (torch.from_numpy(rows) for rows in weighted_rows(X, y, sample_weight))
        try:
            # Its doubts, that no linear map fits perhaps, are no news to someone who trains a nonlinear model.
            found = self._linear_fit(F, U, max(self._rounding, np.finfo(self._dtype).eps))
        except (ValueError, np.linalg.LinAlgError, torch.linalg.LinAlgError):
            # LinAlgError: degenerate; ValueError: no candidate could be fitted, as to constant zero fields.
            if self.init == "linear":
                raise
            return math.inf
        verified = math.isfinite(found.held_out_error)
        if self.init == "auto" and not (verified and found.held_out_error < 0.1):
            return math.inf
        before = copy.deepcopy(module.state_dict())
        module.install(found.operator)
        with torch.no_grad():
            inputs = F.reshape(-1, *self._shapes[0].shape).split(self.batch_size)
            kind = {"device": self.net_.device, "dtype": getattr(torch, self._dtype.name)}
            batches = [module(fields.to(**kind)).flatten(1).cpu().double() for fields in inputs]
            predictions = torch.from_numpy(self._domain.finish(torch.cat(batches).numpy()))
            error = relative_error(predictions.nan_to_num(), U)
        if self.init == "auto" and not error < 0.1:  # rank and precision of the layers do not suffice
            module.load_state_dict(before)
            return math.inf
        self.init_ = "linear"
        # Few samples may be reproduced without being understood, so the error on those held out counts, too.
        return max(error, found.held_out_error if verified else 1.0)

    def _linear_fit(self, F, U, noise):
        """Linear map of the rows of F to those of U that the layers can hold."""
        grid_in, grid_out = (fields.grid for fields in self._shapes)
        inside = None if self._domain.outputs is None else torch.from_numpy(self._domain.outputs).view(grid_out)
        samples = Samples(
            F.view(-1, *grid_in), U.view(-1, *grid_out), torch.ones(len(F), dtype=F.dtype), inside=inside, noise=noise
        )
        if len(grid_in) == 1:
            rank = "auto" if self.levels_ == 0 or self.rank_ > min(F.shape[1], U.shape[1]) else self.rank_
            return fit(samples, Options(rank=rank))
        fixed = self.levels_ and not (self._module_arguments["lifting"] or self._module_arguments["projection"])
        options = Options(
            # In a residual network, one term is the identity.
            outer_rank=max(self.outer_rank - int(self.residual), 1),
            rank=self.rank_ if fixed else "auto",
            levels=self.levels_ if fixed else 0,
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
        return self.net_.module_.slopes.detach().cpu().numpy()
