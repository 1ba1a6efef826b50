"""Training of neural regressors: resolution of the "auto" parameters, and documentation of all parameters."""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any

import torch

from ..nn import SOAP, LevenbergMarquardt

# The parameters and attributes that all neural regressors have, for their docstrings.
_TRAINING_PARAMETERS = """
    settings : {"auto", "paper"}, default="auto"
        Source of the values of parameters that are "auto". With "auto", they result from our measurements
        (:doc:`/benchmarks`). With "paper", they are those of Table 9 of the paper: AdamW for 500 epochs in batches of
        256, a learning rate that decreases from 1e-3 to 1e-5, weight decay 1e-3, and gradients clipped to norm 1.
    optimizer : {"auto", "adamw", "soap", "lm"} or callable, default="auto"
        AdamW; :class:`~sklearn_hss.nn.SOAP`, which preconditions every block of a generator;
        :class:`~sklearn_hss.nn.LevenbergMarquardt`, for networks of up to a few hundred thousand parameters, in
        float64; or a class of ``torch.optim``, or any function of (parameters, lr=...) that returns an optimiser. The
        choice of "auto" depends on the network and is reported in `training_`.
    loss : {"l2", "relative_l2", "h1"} or callable, default="l2"
        Loss of a sample, for scaled fields: the sum of squares of the error (Appendix G of the paper); the same divided
        by the sum of squares of the target; or the former plus the squares of the gradient of the error on a box of
        side 1. A callable takes predictions and targets, tensors of shape (n_samples, ...) that are zero outside the
        domain, and returns one value per sample, or one per point, which are then summed. The loss is the weighted mean
        over the samples.
    lr : float or "auto", default="auto"
        Initial learning rate of the cosine schedule. Ignored by "lm".
    min_lr : float or "auto", default="auto"
        Final learning rate of the schedule.
    max_epochs : int or "auto", default="auto"
        Number of passes over the training data. "auto" gives a few thousand steps, or as many as `max_seconds` permits.
    max_seconds : float or None, default=None
        Seconds after which training ends, unless `max_epochs` is reached earlier; the schedule follows whichever limit
        is closer. The results then depend on the machine.
    batch_size : int or "auto", default="auto"
        Number of samples per step.
    weight_decay : float or "auto", default="auto"
        Decoupled weight decay.
    gradient_clip : float, None or "auto", default="auto"
        Maximal norm of the gradient; larger gradients are scaled down to it. None disables clipping.
    scale : {"auto", "max", "standard", None}, default="auto"
        Scaling of every channel of inputs and targets, which `predict` inverts. "max" divides by the largest magnitude
        in the training data, as the paper does. "standard" subtracts the mean, or the mean field of the targets if that
        explains most of their variance, and divides by the standard deviation. "auto" is "max" for networks that are
        linear, at least initially, otherwise "standard".
    validation_fraction : float or None, default=None
        Fraction of the samples to set aside for the validation loss in `history_`. None trains on all samples.
    early_stopping : bool, default=False
        Whether to stop when the validation loss (the training loss if `validation_fraction` is None) stops decreasing,
        and to restore the weights of the best epoch.
    n_iter_no_change : int, default=50
        Number of epochs without improvement after which early stopping ends the training.
    warm_start : bool, default=False
        Whether `fit` continues from the weights (and scales) of the previous fit, with a new learning-rate schedule.
    callbacks : list of skorch callbacks, default=None
        Callbacks, or pairs (name, callback), to run in addition to those of this package. They are cloned.
    checkpoint : str, path or None, default=None
        Folder of checkpoints. If training is interrupted, the same call of `fit` continues it from the last checkpoint,
        with a result that is bitwise identical on the same machine to that of an uninterrupted training. A completed
        training is only read. The folder of a different call is rejected. With a path that ends in ``/*``, every call
        has its own folder in that path, identified by its data and parameters, as searches require. Ctrl-C and SIGTERM
        write a last checkpoint, between two steps. Callbacks continue with their plain attributes. Unlike `fit`,
        `partial_fit` writes no checkpoints.
    checkpoint_every : int or str, default="60s"
        Number of epochs, or of seconds as in "30s", between checkpoints.
    accelerator : accelerate.Accelerator, default=None
        Accelerator of Hugging Face's accelerate, for training one network in several processes, as ``torchrun``
        starts them: each computes its part of every batch of `batch_size` samples. All processes call `fit` with the
        same parameters and all samples, and obtain the weights of a single process up to rounding, on the device of
        their accelerator. The main process finds the start, reads the clock, writes checkpoints and shows the bar.
        Callbacks run in every process, on its part of the batches. "lm" requires a single process, and "auto" avoids
        it. Pickles and files contain no accelerator.
    device : str or torch.device, default="auto"
        Device for training and prediction. "auto" is CUDA if available, otherwise the CPU.
    dtype : {"float32", "float64", "bfloat16"} or None, default=None
        Precision of the network. None is float64 with "lm"; otherwise it is the type of the data if these have up to
        10^5 numbers, and float32, which is faster, for larger data and for :class:`~sklearn_hss.nn.PatchHSS`. With
        "bfloat16", the parameters are float32 and torch's autocast chooses the type of every operation.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the samples and the validation split. torch's global generator is
        not affected.
    verbose : int, default=0
        Whether to show a progress bar.
    grid_shape : int or tuple of int, default=None
        Grid of the fields, such as ``(64, 64)``, required if they are flattened or have channels. If None, it is the
        shape of the mask, if there is one, otherwise all dimensions of `X` but the first.
    mask : array-like of bool and shape (\\*grid), "auto" or None, default=None
        Points of a domain that is not rectangular, True inside; it applies to every channel. Values outside, such as
        NaN, are ignored; losses and scores are computed from the points inside; predictions are zero outside, or NaN
        where all training targets were NaN. "auto" selects the points where the targets are neither zero nor NaN in all
        samples, and ignores inputs that are NaN in all samples.
"""
_FITTED_ATTRIBUTES = """
    training_ : dict
        The values in use of `optimizer`, `lr`, `min_lr`, `max_epochs`, `batch_size`, `weight_decay`,
        `gradient_clip`, `scale` and `slope_rate`.
    shrinkage_ : float
        Factor of the sum of squares of all weights in the training loss. It is zero, unless the targets contain noise
        (of a relative size above 1e-3, estimated by high-order differences along the grid) to which the network would
        overfit with so few data. It then gives the maximum a posteriori estimate of the weights, for a normal prior
        with the variance of the initial weights.
    history_ : list of dict
        One row per epoch with its ``epoch``, ``train_loss``, ``valid_loss`` (if there are validation data), both for
        the scaled fields, ``lr``, and its duration in seconds, ``dur``. ``pandas.DataFrame(model.history_)`` converts
        it to a table.
    n_iter_ : int
        Number of epochs trained, including those of earlier fits that were continued.
    n_parameters_ : int
        Number of learnable parameters.
    grid_shape_ : tuple of int
        Grid of the inputs.
    x_scale_, y_scale_ : ndarray of shape (n_channels,) or (1,)
        Divisors of inputs and targets, one for each channel.
    x_offset_, y_offset_ : ndarray of shape (n_channels, n_points) or (1, 1)
        Offsets of inputs and targets, subtracted before the division.
    mask_ : ndarray of bool and shape (\\*grid) or None
        Points of the targets inside the domain; None if all are.
    n_features_in_ : int
        Number of points of the inputs.
    feature_names_in_ : ndarray of shape (n_points,)
        Names of the inputs, if `X` had string column names.
"""


def document_training(estimator):
    """Class decorator that inserts the parameters and attributes of all neural regressors into a docstring."""
    # Python 3.13 strips the indentation of docstrings, older versions do not.
    doc = inspect.cleandoc(estimator.__doc__)
    for name, text in (("training_parameters", _TRAINING_PARAMETERS), ("fitted_attributes", _FITTED_ATTRIBUTES)):
        doc = doc.replace(f"{{{name}}}", textwrap.dedent(text).strip())
    estimator.__doc__ = f"\n{doc}\n"
    return estimator


def _adamw(groups, lr, weight_decay=0.0):
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)


def _levenberg_marquardt(groups, lr):
    return LevenbergMarquardt(groups)


#: Optimisers by name.
OPTIMIZERS: dict[str, Callable] = {"adamw": _adamw, "soap": SOAP, "lm": _levenberg_marquardt}


@dataclass(frozen=True)
class Training:
    """Resolved values of the training parameters, none of which is "auto".

    Attributes
    ----------
    optimizer, lr, min_lr, max_epochs, batch_size, weight_decay, gradient_clip, scale
        As in all neural regressors; `max_epochs` is None if only a time limit ends the training.
    slope_rate : float
        Learning rate of the slopes of activations, relative to that of all other parameters.
    """

    optimizer: str | Callable
    lr: float
    min_lr: float
    max_epochs: int | None
    batch_size: int
    weight_decay: float
    gradient_clip: float | None
    scale: str | None
    slope_rate: float = 1.0

    @property
    def needs_float64(self):
        return self.optimizer == "lm"

    def make_optimizer(self, groups):
        """Optimiser of the groups of :func:`sklearn_hss.nn.parameter_groups`."""
        make: Any = OPTIMIZERS[self.optimizer] if isinstance(self.optimizer, str) else self.optimizer
        if self.needs_float64:
            # Its steps have no learning rates, and slopes at kinks are not suited to a quadratic model.
            return make([group for group in groups if not group["slopes"]] or groups, lr=self.lr)
        if isinstance(make, type) and issubclass(make, torch.optim.LBFGS):  # it supports a single group only
            return make([p for group in groups for p in group["params"]], lr=self.lr)
        arguments = inspect.signature(make).parameters
        decay: dict[str, Any] = {"weight_decay": self.weight_decay} if "weight_decay" in arguments else {}
        rates = [{**group, "factor": self.slope_rate if group["slopes"] else 1.0} for group in groups]
        return make(rates, lr=self.lr, **decay)


#: Table 9 of the paper.
PAPER = Training(
    optimizer="adamw",
    lr=1e-3,
    min_lr=1e-5,
    max_epochs=500,
    batch_size=256,
    weight_decay=1e-3,
    gradient_clip=1.0,
    scale="max",
)


# Number of steps if neither epochs nor seconds are set.
_STEPS = {"lm": 60, "soap": 2000, "adamw": 4000}
# The same for grids of fewer than _FEW points, which are tables rather than fields.
_FEW, _STEPS_ON_FEW = 32, 1000
# Points per dimension below which other optimisers have no advantage over AdamW.
_TINY = 32


@dataclass(frozen=True)
class Network:
    """Properties of a network on which, besides the data, the values of "auto" depend.

    Attributes
    ----------
    structured : bool
        Whether the network is a product of HSS matrices with activations that start as the identity.
    linear : bool
        Whether it is linear for other reasons.
    single : bool
        Whether to use float32 for any data, because the network is never exact, and much slower in float64.
    lr : tuple of float
        Suitable learning rates for AdamW, in one dimension and in several.
    soap : float or None
        Suitable learning rate for SOAP in one dimension, if the network needs less time there with SOAP than with
        AdamW, though it is not structured.
    """

    structured: bool = False
    linear: bool = False
    single: bool = False
    lr: tuple[float, float] = (4e-3, 4e-3)
    soap: float | None = None


def resolve(wanted, network, grid, n_samples, n_parameters, max_seconds, squares=True):
    """Resolve all parameters that are "auto".

    Parameters
    ----------
    wanted : dict
        The parameters of the estimator, `settings` among them.
    network : Network
    grid : tuple of int
        The larger of the grids of input and output.
    n_samples, n_parameters : int
    max_seconds : float or None
    squares : bool, default=True
        Whether "lm" can be used.

    Returns
    -------
    Training
    """
    given = {name: value for name, value in wanted.items() if name != "settings" and not is_auto(value)}
    if wanted["settings"] == "paper":
        base = PAPER
    else:
        optimizer = given.get("optimizer") or _choose_optimizer(network, grid, n_parameters, squares)
        base = _measured(optimizer, network, grid, n_samples)
        if "batch_size" in given:
            base = replace(base, batch_size=given["batch_size"])
        if max_seconds is not None:
            base = replace(base, max_epochs=None)
        else:
            n_batches = ceil(n_samples / min(base.batch_size, n_samples))
            n_steps = _STEPS.get(optimizer, _STEPS["adamw"]) if has_fields(grid) else _STEPS_ON_FEW
            base = replace(base, max_epochs=max(1, ceil(n_steps / n_batches)))
    if "lr" in given and "min_lr" not in given:
        paper = wanted["settings"] == "paper"
        base = replace(base, min_lr=min(base.min_lr, given["lr"]) if paper else given["lr"] / 100)
    return replace(base, **given)


def has_fields(grid):
    """Whether a grid has enough points for local structure."""
    return prod(grid) >= _FEW


def is_auto(value):
    """Whether a parameter, of any type, is "auto"."""
    return isinstance(value, str) and value == "auto"


def _sizes_of_batches(network, n_samples):
    """Batch size for AdamW: all samples if there are few, whatever their weights; small for nonlinear problems."""
    if n_samples <= 64:
        return n_samples
    return _equal(256 if network.structured else 16, n_samples)


def _equal(size, n_samples):
    """Batch size close to `size` for which the last batch of an epoch is not much smaller."""
    return ceil(n_samples / ceil(n_samples / size))


def _choose_optimizer(network, grid, n_parameters, squares):
    if not network.structured:
        return "soap" if network.soap and len(grid) == 1 else "adamw"
    if max(grid) < _TINY:
        return "adamw"
    return "lm" if squares and len(grid) == 1 and n_parameters <= 200_000 else "soap"


def _measured(optimizer, network, grid, n_samples):
    """Values determined by benchmarks: bench_trained.py for linear problems, bench_nothing_set.py for others."""
    n_points, linear = prod(grid), network.structured or network.linear
    lr = network.lr[len(grid) > 1]
    found = Training(
        optimizer=optimizer,
        lr=lr,
        min_lr=lr / 100,
        max_epochs=None,
        batch_size=_sizes_of_batches(network, n_samples),
        weight_decay=1e-3,
        gradient_clip=1.0,
        scale="max" if linear else "standard",
        slope_rate=1e-3 if network.structured else 1.0,
    )
    if optimizer == "lm":
        found = replace(found, lr=1.0, min_lr=1.0, batch_size=_equal(128, n_samples), weight_decay=0.0)
    if optimizer == "soap":
        lr = 1e-2 if len(grid) == 1 else 2e-2
        # Small batches converge faster initially, but are noisier at the end; many samples justify a long training.
        least = min(max(40_000 // n_points, 8), 256)
        size = min(max(least, n_samples // 128), 4 * least)
        if network.soap and len(grid) == 1:
            lr, size = network.soap, min(max(16, n_samples // 8), 64)
        found = replace(found, lr=lr, min_lr=lr / 1000, batch_size=_equal(size, n_samples), weight_decay=0.0)
    return found if optimizer == "adamw" else replace(found, gradient_clip=None)
