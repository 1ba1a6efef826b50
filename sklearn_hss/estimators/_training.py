"""How neural regressors train: values of the parameters that are "auto", and the documentation of all of them."""

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
        Where the values of parameters come from that are "auto": from our measurements (:doc:`/benchmarks`), or from
        the paper's Table 9, with which everything trains by AdamW for 500 epochs in batches of 256, from a rate of 1e-3
        down to 1e-5, with weight decay 1e-3 and gradients clipped to norm 1.
    optimizer : {"auto", "adamw", "soap", "lm"} or callable, default="auto"
        AdamW; :class:`~sklearn_hss.nn.SOAP`, which preconditions every block of a generator;
        :class:`~sklearn_hss.nn.LevenbergMarquardt`, for networks of up to some hundred thousand numbers, in float64; or
        a class of ``torch.optim``, or any function of (parameters, lr=...) that returns an optimiser. "auto" depends
        on the network and is reported in `training_`.
    loss : {"l2", "relative_l2", "h1"} or callable, default="l2"
        Loss of a sample, for scaled fields: the sum of squares of the error (Appendix G of the paper), the same over
        that of the target, or with the squares of the gradient of the error on a box of side 1. A callable takes
        predictions and targets, tensors of shape (n_samples, ...) that are zero outside the domain, and returns a value
        per sample, or one per point, which are summed. Samples are averaged, with their weights.
    lr : float or "auto", default="auto"
        Learning rate at the start of the cosine schedule. Without meaning for "lm".
    min_lr : float or "auto", default="auto"
        Learning rate at its end.
    max_epochs : int or "auto", default="auto"
        Number of passes over the training data. "auto" makes some thousand steps, or as many as `max_seconds` allow.
    max_seconds : float or None, default=None
        Seconds after which training ends, if `max_epochs` are not over before; the schedule goes by whichever is
        closer. Results then depend on the machine.
    batch_size : int or "auto", default="auto"
        Number of samples per step.
    weight_decay : float or "auto", default="auto"
        Decoupled weight decay.
    gradient_clip : float, None or "auto", default="auto"
        Largest norm of the gradient; longer ones are scaled down to it. None: any.
    scale : {"auto", "max", "standard", None}, default="auto"
        What is done to every channel of inputs and targets, and undone in `predict`. "max" divides by the largest
        magnitude in the training data, as the paper does. "standard" subtracts the mean, or the mean field of the
        targets if that explains most of their variance, and divides by the standard deviation. "auto" is "max" for
        networks that are linear, at their start at least, else "standard".
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
    checkpoint : str, path or None, default=None
        Folder in which `fit` keeps what the same call of `fit` needs to continue an interrupted training, and ends as
        it would have without the interrupt, bit by bit on the same machine. What was finished is only read. Another
        call's folder is refused. With a path that ends in ``/*``, every call has a folder of its own in there, told
        apart by its data and parameters, as searches need it. Ctrl-C and SIGTERM write a last file, between two steps.
        Callbacks continue with their plain attributes. Unlike `fit`, `partial_fit` keeps nothing.
    checkpoint_every : int or str, default="60s"
        Number of epochs, or seconds as in "30s", between files in there.
    accelerator : accelerate.Accelerator, default=None
        Of Hugging Face's accelerate, for several processes that train one network, as ``torchrun`` starts them: on each
        its part of every batch of `batch_size` samples. All call `fit` with the same parameters and all samples, and
        get the weights that one process would find, up to rounding, on the device of their accelerator. The main one
        alone finds the start, reads the clock, writes checkpoints and shows the bar. Callbacks run in all of them, on
        their parts of the batches. "lm" needs one process, and "auto" does without it. Pickles and files leave
        accelerators out.
    device : str or torch.device, default="auto"
        Where to train and predict. "auto" is CUDA where available, else the CPU.
    dtype : {"float32", "float64", "bfloat16"} or None, default=None
        Precision of the network. None follows data of up to 10^5 numbers and trains in float32, which is faster, on
        more, and :class:`~sklearn_hss.nn.PatchHSS` on any; in float64 with "lm". With
        "bfloat16", parameters are float32 and torch's autocast chooses what is computed in which type.
    random_state : int, RandomState instance or None, default=None
        Determines initial weights, order of the samples and validation split. torch's global generator is left alone.
    verbose : int, default=0
        Whether to show a progress bar.
    grid_shape : int or tuple of int, default=None
        Grid of the fields, such as ``(64, 64)``, needed where they come flattened or with channels. If None, it is the
        shape of the mask, where there is one, else all dimensions of `X` but the first.
    mask : array-like of bool and shape (\\*grid), "auto" or None, default=None
        Points of a domain that is not a box, True inside; it applies to every channel. Whatever the data hold outside,
        NaN perhaps, is ignored; losses and scores count the points inside; predictions are zero outside, or NaN where
        all training targets were NaN. "auto" takes the points where the targets are neither zero nor NaN in all
        samples, and ignores inputs that are NaN in all.
"""
_FITTED_ATTRIBUTES = """
    training_ : dict
        The values in use of `optimizer`, `lr`, `min_lr`, `max_epochs`, `batch_size`, `weight_decay`,
        `gradient_clip`, `scale` and `slope_rate`.
    shrinkage_ : float
        Factor of the sum of squares of all weights in the training loss: zero, unless the targets show noise (more than
        a thousandth, by differences of high order along the grid) that so few data would let the network learn. Then it
        is what makes the weights the most probable ones, for a normal prior with the variance of the initial weights.
    history_ : list of dict
        One row per epoch with its ``epoch``, ``train_loss``, ``valid_loss`` (where there are validation data), both of
        the scaled fields, ``lr``, and the seconds it took, ``dur``. ``pandas.DataFrame(model.history_)`` makes a table
        of it.
    n_iter_ : int
        Number of epochs trained, earlier fits that were continued included.
    n_parameters_ : int
        Number of learnable numbers.
    grid_shape_ : tuple of int
        Grid of the inputs.
    x_scale_, y_scale_ : ndarray of shape (n_channels,) or (1,)
        Divisors of inputs and targets, one for each channel.
    x_offset_, y_offset_ : ndarray of shape (n_channels, n_points) or (1, 1)
        What is subtracted before that.
    mask_ : ndarray of bool and shape (\\*grid) or None
        Points of the targets inside the domain, None where all are.
    n_features_in_ : int
        Number of points of the inputs.
    feature_names_in_ : ndarray of shape (n_points,)
        Names of the inputs, where `X` had string column names.
"""


def document_training(estimator):
    """Class decorator that puts what all neural regressors share into the docstring of one."""
    # Python 3.13 strips the indentation of docstrings, and older ones do not.
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
    """Values of the parameters of training, none of them "auto".

    Attributes
    ----------
    optimizer, lr, min_lr, max_epochs, batch_size, weight_decay, gradient_clip, scale
        As in all neural regressors; `max_epochs` is None where seconds alone end the training.
    slope_rate : float
        Learning rate of the slopes of activations over that of everything else.
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
            # Its steps have no rates, and slopes at kinks do not suit a quadratic model.
            return make([group for group in groups if not group["slopes"]] or groups, lr=self.lr)
        if isinstance(make, type) and issubclass(make, torch.optim.LBFGS):  # one group is all it takes
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


# Number of steps where nobody sets epochs or seconds.
_STEPS = {"lm": 60, "soap": 2000, "adamw": 4000}
# The same on grids of fewer than _FEW points, which are tables rather than fields.
_FEW, _STEPS_ON_FEW = 32, 1000
# Points per dimension below which nothing is gained by better optimisers than AdamW.
_TINY = 32


@dataclass(frozen=True)
class Network:
    """Properties of a network that the values of "auto" depend on, beside the data.

    Attributes
    ----------
    structured : bool
        Whether the network is a product of HSS matrices with activations that start as the identity.
    linear : bool
        Whether it is linear for other reasons.
    single : bool
        Whether float32 suits it whatever the data, because what it does is never exact, and much slower in float64.
    lr : float
        Learning rate of AdamW that suits it.
    """

    structured: bool = False
    linear: bool = False
    single: bool = False
    lr: float = 4e-3


def resolve(wanted, network, grid, n_samples, n_parameters, max_seconds, squares=True):
    """Values for all that is "auto".

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
    """Whether there are points enough for local structure."""
    return prod(grid) >= _FEW


def is_auto(value):
    """Whether a parameter, of any type, is "auto"."""
    return isinstance(value, str) and value == "auto"


def _sizes_of_batches(network, n_samples):
    """Of AdamW: all samples where they are few, whatever their weights; small batches for nonlinear problems."""
    if n_samples <= 64:
        return n_samples
    return _equal(256 if network.structured else 16, n_samples)


def _equal(size, n_samples):
    """Size of batches, about as large as `size`, that leave no small one at the end of an epoch."""
    return ceil(n_samples / ceil(n_samples / size))


def _choose_optimizer(network, grid, n_parameters, squares):
    if not network.structured:
        return "adamw"
    if max(grid) < _TINY:
        return "adamw"
    return "lm" if squares and len(grid) == 1 and n_parameters <= 200_000 else "soap"


def _measured(optimizer, network, grid, n_samples):
    """Values that benchmarks found to be good: bench_trained.py on linear problems, bench_nonlinear.py on others."""
    n_points, linear = prod(grid), network.structured or network.linear
    found = Training(
        optimizer=optimizer,
        lr=network.lr,
        min_lr=network.lr / 100,
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
        # Small batches are ahead at first, and have more noise in the end; many samples are worth a long training.
        least = min(max(40_000 // n_points, 8), 256)
        size = min(max(least, n_samples // 128), 4 * least)
        found = replace(found, lr=lr, min_lr=lr / 1000, batch_size=_equal(size, n_samples), weight_decay=0.0)
    return found if optimizer == "adamw" else replace(found, gradient_clip=None)
