"""Neural-HSS as a scikit-learn regressor."""

import math
import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from ..linalg import ClusterTree
from ..linalg._fitting import fit_hss, relative_error
from ..nn import NeuralHSS
from ..nn._hss_linear import check_rank_and_levels
from ._base import BaseNeuralRegressor
from ._linear import weighted_columns


def choose_structure(n_inputs, n_outputs, *, rank, levels, embedding_dim, lifting, projection):
    """Settle the "auto" parameters of :class:`NeuralHSSRegressor` for given sizes.

    Parameters
    ----------
    n_inputs, n_outputs : int
    rank, levels, embedding_dim, lifting, projection
        As in :class:`NeuralHSSRegressor`.

    Returns
    -------
    dict
        Keyword arguments of :class:`sklearn_hss.nn.NeuralHSS`.

    Raises
    ------
    ValueError
        If `levels` is too deep for the grid, or `rank` too large for its leaves.
    """
    embedding_dim = embedding_dim or max(n_inputs, n_outputs)
    # The smallest of the sizes that an HSS layer cuts, come what may.
    cut = [embedding_dim]
    cut += [n_inputs] if lifting in (None, "hss") else []
    cut += [n_outputs] if projection in (None, "hss") else []
    size = min(cut)
    wanted_rank = rank
    if rank == "auto":
        wanted_rank = 2 if levels == "auto" else max(min(2, size >> levels), 1)
    if levels == "auto":
        # Leaves of twice the rank are where HSS starts to save numbers; below that, two leaves must do.
        levels = min(3, ClusterTree.max_levels(size, 2 * wanted_rank))
        levels = levels or min(1, ClusterTree.max_levels(size, wanted_rank))
        if levels == 0 and rank != "auto":
            raise ValueError(
                f"rank={rank} is too large for fields of {size} points: the largest value that works is "
                f"{size // 2} (or set levels=0 for dense layers)."
            )

    check_rank_and_levels(wanted_rank, levels, n_points=embedding_dim)

    def fits(n):
        return levels == 0 or n >> levels >= wanted_rank

    return {
        "rank": wanted_rank,
        "levels": levels,
        "embedding_dim": embedding_dim,
        "lifting": (None if fits(n_inputs) else "dense") if lifting == "auto" else lifting,
        "projection": ("hss" if fits(n_outputs) else "dense") if projection == "auto" else projection,
    }


class NeuralHSSRegressor(BaseNeuralRegressor):
    """Neural-HSS: a network of hierarchically semi-separable layers that learns solution operators of PDEs.

    The network (Figure 1 and section 2.1 of the Neural-HSS paper) is a stack of linear layers whose weights are HSS
    matrices, each followed by a LeakyReLU with a learnable slope. It has O(n rank) parameters for fields of n points.
    Training minimises the squared error summed over the grid and averaged over the samples (Appendix G), on fields
    divided by their largest magnitude, with AdamW and a cosine learning-rate schedule; the defaults are those of Table
    9. Predictions and scores are in the units of the data.

    Parameters
    ----------
    rank : int or "auto", default="auto"
        HSS rank: number of columns of every basis. "auto" is 2, the paper's choice in one dimension.
    levels : int or "auto", default="auto"
        Depth of the cluster tree. "auto" is 3, or less on grids too small for leaves of twice the rank. 0 makes all
        layers dense.
    depth : int, default=3
        Number of HSS layers with activation.
    embedding_dim : int, default=None
        Number of points of the fields between the layers. The larger of the sizes of input and output if None.
    lifting : {"auto", None, "hss", "dense"}, default="auto"
        Additional linear layer at the entrance. "auto" is None where the input is large enough for the first HSS layer
        to take it, else "dense". The paper uses "dense" for Burgers' equation.
    projection : {"auto", None, "hss", "dense"}, default="auto"
        Additional linear layer at the exit. "auto" is "hss" where the output is large enough, else "dense".
    bias : bool, default=False
        Whether the linear layers have biases. The paper's do not; useful for nonlinear problems.
    initial_slope : float, default=1.0
        Slope of the activations at the start. 1 makes the untrained network linear, which suits linear PDEs.
    slope_penalty : float, default=0.0
        Factor lambda of the regulariser lambda / 2 * sum (slope - 1)² of Theorem 2.3, added to the loss.
    init : {"auto", "linear", "random"}, default="auto"
        Weights before training. "random" is the paper's. "linear" fits the linear map that suits the data best, as
        :class:`HSSRegressor` does, cut to `rank` and `levels`, and makes it one of the layers; the others are the
        identity (`initial_slope` does not apply). If that map has a relative error below 1e-4, there is no training;
        otherwise training goes on from it, and it is what remains if training has not lowered the loss. "auto" is
        "linear" where that map has a relative error below 0.1 on held-out samples, else "random".
    lr : float, default=1e-3
        Learning rate at the start of the cosine schedule.
    min_lr : float, default=1e-5
        Learning rate at its end.
    max_epochs : int, default=500
        Number of passes over the training data.
    batch_size : int, default=256
        Number of samples per step.
    weight_decay : float, default=1e-3
        Decoupled weight decay of AdamW.
    gradient_clip : float or None, default=1.0
        Largest norm of the gradient; longer ones are scaled down to it.
    scale : {"max", None}, default="max"
        Division of inputs and targets by the largest magnitude in the training data, undone in `predict`.
    validation_fraction : float or None, default=None
        Fraction of the samples to set aside for the validation loss in `history_`. None trains on all samples.
    early_stopping : bool, default=False
        Whether to stop when the validation loss (the training loss if `validation_fraction` is None) no longer falls,
        and to restore the weights of the best epoch.
    n_iter_no_change : int, default=50
        Number of epochs without improvement after which early stopping stops.
    warm_start : bool, default=False
        Whether `fit` continues from the weights (and scales) of the previous fit, with a new learning-rate schedule.
    callbacks : list of skorch callbacks, default=None
        Callbacks, or pairs (name, callback), to run beside our own. They are cloned.
    device : str or torch.device, default="auto"
        Where to train and predict. "auto" is CUDA where available, else the CPU.
    dtype : {"float32", "float64"} or None, default=None
        Precision of the network. None follows the data; float32 trains faster.
    random_state : int, RandomState instance or None, default=None
        Determines initial weights, order of the samples and validation split. torch's global generator is left alone.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the :class:`sklearn_hss.nn.NeuralHSS`.
    history_ : list of dict
        One row per epoch with its ``epoch``, ``train_loss``, ``valid_loss`` (where there are validation data), both of
        the scaled fields, ``lr``, and the seconds it took, ``dur``. ``pandas.DataFrame(model.history_)`` makes a table
        of it.
    n_iter_ : int
        Number of epochs trained, earlier fits that were continued included.
    n_parameters_ : int
        Number of learnable numbers.
    rank_, levels_ : int
        The rank and the depth in use.
    init_ : {"linear", "random"}
        The start in use.
    slopes_ : ndarray of shape (depth,)
        Learned slopes of the activations.
    grid_shape_ : tuple of int
        Grid of the inputs.
    x_scale_, y_scale_ : float
        Divisors of inputs and targets.
    n_features_in_ : int
        Number of points of the inputs.
    feature_names_in_ : ndarray of shape (n_points,)
        Names of the inputs, where `X` had string column names.

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
        "rank": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "levels": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "embedding_dim": [Interval(Integral, 1, None, closed="left"), None],
        "lifting": [StrOptions({"auto", "hss", "dense"}), None],
        "projection": [StrOptions({"auto", "hss", "dense"}), None],
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
        depth=3,
        embedding_dim=None,
        lifting="auto",
        projection="auto",
        bias=False,
        initial_slope=1.0,
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
    ):
        self.rank = rank
        self.levels = levels
        self.depth = depth
        self.embedding_dim = embedding_dim
        self.lifting = lifting
        self.projection = projection
        self.bias = bias
        self.initial_slope = initial_slope
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

    def _make_module(self, n_inputs, n_outputs):
        structure = choose_structure(
            n_inputs,
            n_outputs,
            rank=self.rank,
            levels=self.levels,
            embedding_dim=self.embedding_dim,
            lifting=self.lifting,
            projection=self.projection,
        )
        arguments = {
            "in_features": n_inputs,
            "out_features": n_outputs,
            **structure,
            "depth": self.depth,
            "bias": self.bias,
            "initial_slope": self.initial_slope,
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
        F, U = weighted_columns(
            X.astype(np.float64) / self.x_scale_, y.astype(np.float64) / self.y_scale_, sample_weight
        )
        rank = "auto" if self.levels_ == 0 or self.rank_ > min(len(F), len(U)) else self.rank_
        noise = max(np.finfo(array.dtype).eps for array in (X, y))
        with warnings.catch_warnings():
            # That no linear map fits is no news to someone who trains a nonlinear model.
            warnings.simplefilter("ignore", UserWarning)
            try:
                found = fit_hss(F, U, rank=rank, noise=noise)
            except (np.linalg.LinAlgError, torch.linalg.LinAlgError):
                if self.init == "linear":
                    raise
                return math.inf
        verified = math.isfinite(found.held_out_error)
        if self.init == "auto" and not (verified and found.held_out_error < 0.1):
            return math.inf
        module.install(found.operator)
        self.init_ = "linear"
        with torch.no_grad():
            prediction = module(F.T.to(self.net_.device, getattr(torch, self._dtype.name))).T.cpu().double()
        # Few samples may be reproduced without being understood, so those held out have a say.
        return max(relative_error(prediction, U), found.held_out_error if verified else 1.0)

    @property
    def _penalty(self):
        return self.slope_penalty / 2

    @property
    def slopes_(self):
        """Learned slopes of the activations, one per HSS layer."""
        return self.net_.module_.slopes.detach().cpu().numpy()
