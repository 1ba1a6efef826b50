"""The only bridge between scikit-learn's estimators and skorch's training loop."""

import dis
import inspect
import math
import textwrap
import threading
from numbers import Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_consistent_length, check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from skorch.helper import predefined_split
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm.auto import tqdm

from .._devices import resolve_device
from .._endings import check_ending, python_waits
from .._fields import (
    Domain,
    FieldShape,
    as_rows,
    check_grid_shape,
    check_mask,
    check_same_fields,
    check_weight,
    domain_mask,
    input_shape,
    inside_domain,
    masked_grid,
    output_shape,
    refuse_nan,
    rounding_unit,
    warn_of_channels_last,
)
from .._parameters import Count, unchanged_on_error
from .._warnings import warn_user
from ..nn._counting import count_parameters
from ._score import FieldRegressorMixin

# Modules draw their initial weights from torch's global generator, which is seeded and restored around that. Threads
# must take turns.
_INITIALISATION_LOCK = threading.Lock()
# Relative error of an initialised module that AdamW cannot be expected to improve on.
_NOTHING_LEFT = 1e-4


# The parameters and attributes that all neural regressors have, for their docstrings.
_TRAINING_PARAMETERS = """
    lr : float, default=1e-3
        Learning rate at the start of the cosine schedule. This and what follows are those of the paper's Table 9 by
        default, for one dimension; in two, its Table 5 has 8e-4 here, weight decay 1e-5 and batches of 128.
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
        Division of every channel of inputs and targets by its largest magnitude in the training data, undone in
        `predict`.
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


def field_arguments(inputs, outputs):
    """Arguments that tell a module of :mod:`sklearn_hss.nn` the grids and channels.

    Raises
    ------
    ValueError
        If the grids have not as many dimensions.
    """
    if len(inputs.grid) != len(outputs.grid):
        raise ValueError(
            f"y has the grid {outputs.grid} and X the grid {inputs.grid}; they must have as many dimensions."
        )
    one_dimensional = len(inputs.grid) == 1
    return {
        "in_features": inputs.grid[0] if one_dimensional else inputs.grid,
        "out_features": outputs.grid[0] if one_dimensional else outputs.grid,
        "in_channels": inputs.n_channels,
        "out_channels": outputs.n_channels,
    }


def max_scales(fields, n_channels, rows=None):
    """Largest magnitude of every channel; 1 where that is zero, so that constant zero fields stay what they are.

    Of the given `rows` alone, a batch at a time, as these would be a copy of what may not fit into memory.
    """
    scales = np.zeros(n_channels or 1)
    for batch in gen_batches(len(fields) if rows is None else len(rows), 1024):
        channels = fields[batch if rows is None else rows[batch]]
        channels = channels.reshape(len(channels), len(scales), -1)
        scales = np.maximum(scales, np.maximum(channels.max(axis=(0, 2)), -channels.min(axis=(0, 2))))
    return np.where(scales > 0, scales, 1.0)


_ONE = np.ones(1)


class _Fields(torch.utils.data.Dataset):
    """Input and target fields, scaled and cast batch by batch: no scaled copy of the whole data is ever held.

    With `rows`, a part of them; `sample_weight` is that of the part.
    """

    def __init__(self, X, y=None, sample_weight=None, rows=None, *, shapes, scales=(_ONE, _ONE), dtype, device):
        # scikit-learn's check of a fold's size and skorch's callbacks look for the names X and y.
        self.X, self.y, self.sample_weight, self.rows = X, y, sample_weight, rows
        self.shapes, self.scales, self.dtype, self.device = shapes, scales, dtype, device

    def __len__(self):
        return len(self.X if self.rows is None else self.rows)

    def batch(self, rows):
        """Scaled ``(x, y)`` of the given rows, as tensors on the device; ``(x, (y, sample_weight))`` with weights."""
        of_all = rows if self.rows is None else self.rows[rows]
        x, y, weight = (
            None if array is None else self._to_tensor(array, which, scale).view(-1, *shape)
            for array, which, scale, shape in zip(
                (self.X, self.y, self.sample_weight),
                (of_all, of_all, rows),
                (*self.scales, _ONE),
                (*self.shapes, ()),
                strict=True,
            )
        )
        return x, y if weight is None else (y, weight)

    def _to_tensor(self, array, rows, scales):
        # A copy, which index arrays make anyway, because the caller's memory may be read-only. Scaled before it is
        # cast, because the data may exceed the range of float32.
        picked = array[rows].copy() if isinstance(rows, slice) else array[rows]
        channels = picked.reshape(len(picked), len(scales), -1)
        channels /= scales[:, None]
        return torch.from_numpy(picked.astype(self.dtype, copy=False)).to(self.device)


def _taken(data):
    """Inputs, targets and weights of the rows of a part of the data."""
    X, y, sample_weight, rows = data
    return (X, y, sample_weight) if rows is None else (X[rows], y[rows], sample_weight)


class _Batches:
    """In-memory replacement of torch's DataLoader, which costs more than a training step of a small network.

    With `rng`, every pass is in a new random order.
    """

    def __init__(self, dataset, batch_size, rng=None):
        self.dataset, self.batch_size, self.rng = dataset, batch_size, rng

    def __len__(self):
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self):
        n = len(self.dataset)
        order = None if self.rng is None else self.rng.permutation(n)
        for start in range(0, n, self.batch_size):
            check_ending()
            rows = slice(start, start + self.batch_size)
            yield self.dataset.batch(rows if order is None else order[rows])


def _comes_from_a_raise(error):
    """Whether a raise statement raised `error`, and not a signal, which comes between any two instructions."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


class _Net(NeuralNet):
    """skorch's loop with the loss of Appendix G: the squared error summed over a field, averaged over the samples."""

    def __init__(self, module, *, penalty=0.0, inside=None, **arguments):
        self.penalty = penalty
        self.inside = inside
        super().__init__(module, **arguments)

    def notify(self, method_name, **arguments):
        # A callback stops the training as Ctrl-C does, by KeyboardInterrupt; only the latter deserves a warning.
        try:
            super().notify(method_name, **arguments)
        except KeyboardInterrupt as stop:
            self.stopped_by_callback_ = _comes_from_a_raise(stop)
            raise

    def get_loss(self, y_pred, y_true, X=None, training=False):
        target, weight = y_true if isinstance(y_true, tuple) else (y_true, None)
        errors = (y_pred - target).square()
        if self.inside is not None:
            errors = errors * self.inside
        errors = errors.flatten(1).sum(1)
        loss = (errors if weight is None else errors * weight).mean()
        if training and self.penalty:
            loss = loss + self.penalty * self.module_.penalty()
        return loss


@torch.no_grad()
def mean_loss(net, fields):
    """Loss of a net on fields, which are not trained on."""
    batches = _Batches(fields, net.batch_size)
    return sum(float(net.get_loss(net.module_(x), y)) * len(x) for x, y in batches) / len(fields)


class _DivergenceGuard(Callback):
    """Stops a run whose loss or weights are no longer finite, with the last weights that were known to be good."""

    def __init__(self, advice):
        self.advice = advice

    def on_train_begin(self, net, **kwargs):
        # Collected once, because searching the module takes longer than copying its tensors.
        self.tensors_ = [*net.module_.parameters(), *net.module_.buffers()]
        self.unproven_ = self.good_ = self._copies()

    def on_epoch_begin(self, net, **kwargs):
        self.unproven_ = self._copies()

    def on_batch_end(self, net, loss, training, **kwargs):
        if not training:
            return
        if not math.isfinite(loss.item()):
            self._stop(net)
        # A finite loss vouches for the weights that it was computed with.
        if self.unproven_ is not None:
            self.good_, self.unproven_ = self.unproven_, None

    def on_epoch_end(self, net, **kwargs):
        if not math.isfinite(net.history[-1].get("valid_loss", 0.0)):
            self._stop(net)

    def on_train_end(self, net, **kwargs):
        if not all(torch.isfinite(tensor).all() for tensor in self.tensors_):
            self._stop(net)

    def _copies(self):
        return [tensor.detach().clone() for tensor in self.tensors_]

    @torch.no_grad()
    def _stop(self, net):
        for tensor, copy in zip(self.tensors_, self.good_, strict=True):
            tensor.copy_(copy)
        net.initialize_optimizer()  # its moments are no longer finite either
        raise FloatingPointError(
            f"The loss became NaN or infinite at epoch {len(net.history)}. "
            f"The weights from before that epoch are kept. Try {self.advice}."
        )


class _StartKept(Callback):
    """Goes back to the weights from before the training, if it has made the loss larger."""

    def __init__(self, fields):
        self.fields = fields

    def on_train_begin(self, net, **kwargs):
        self.start_ = [(p, p.detach().clone()) for p in (*net.module_.parameters(), *net.module_.buffers())]
        self.loss_ = mean_loss(net, self.fields)

    @torch.no_grad()
    def on_train_end(self, net, **kwargs):
        if not mean_loss(net, self.fields) <= self.loss_:
            for tensor, copy in self.start_:
                tensor.copy_(copy)


class _GradientClipping(Callback):
    """skorch's GradientNormClipping, without searching the module for its parameters at every step."""

    def __init__(self, max_norm):
        self.max_norm = max_norm

    def on_train_begin(self, net, **kwargs):
        self.parameters_ = list(net.module_.parameters())

    def on_grad_computed(self, net, **kwargs):
        torch.nn.utils.clip_grad_norm_(self.parameters_, self.max_norm)


class _Progress(Callback):
    """Progress bar over the epochs, with the losses and the time left."""

    def __init__(self, label, n_epochs):
        self.label, self.n_epochs = label, n_epochs

    def on_train_begin(self, net, **kwargs):
        self.bar_ = tqdm(total=self.n_epochs, desc=self.label, unit="epoch", dynamic_ncols=True)

    def on_epoch_end(self, net, **kwargs):
        losses = {key: net.history[-1].get(key) for key in ("train_loss", "valid_loss")}
        self.bar_.set_postfix({key: f"{loss:.2e}" for key, loss in losses.items() if loss is not None}, refresh=False)
        self.bar_.update()

    def __getstate__(self):
        return {key: value for key, value in vars(self).items() if key != "bar_"}

    def close(self):
        """Leave the bar as it stands, also after an error."""
        if hasattr(self, "bar_"):
            self.bar_.close()


class BaseNeuralRegressor(FieldRegressorMixin, BaseEstimator):
    """Base class of the neural regressors: trains a torch module on fields.

    A subclass names the module and its arguments in `_make_module`; everything else, from validation and scaling to
    training, prediction and score, is here. The training loop itself is skorch's.
    """

    _parameter_constraints: dict = {
        "lr": [Interval(Real, 0, None, closed="neither")],
        "min_lr": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Count(1)],
        "batch_size": [Count(1)],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "gradient_clip": [Interval(Real, 0, None, closed="neither"), None],
        "scale": [StrOptions({"max"}), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "early_stopping": ["boolean"],
        "n_iter_no_change": [Count(1)],
        "warm_start": ["boolean"],
        "callbacks": [list, tuple, None],
        "device": [str, torch.device],
        "dtype": [StrOptions({"float32", "float64"}), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "grid_shape": [tuple, list, Count(1), None],
        "mask": ["array-like", StrOptions({"auto"}), None],
    }

    _target_shape: tuple[int, ...]
    _shapes: tuple[FieldShape, FieldShape]
    _domain: Domain
    _mask: np.ndarray | str | None
    _start_error: float
    _start_row: list[dict]

    def _make_module(self, inputs, outputs):
        """Module class, its keyword arguments, and attributes to set on the estimator.

        Parameters
        ----------
        inputs, outputs : FieldShape
            Grids and channels. The module takes a tensor (n_samples, *inputs.shape) and returns one of shape
            (n_samples, *outputs.shape).

        Returns
        -------
        module : type
        arguments : dict
            Those that a parameter of the estimator sets have its name.
        fitted : dict
            Fitted attributes, such as ``rank_``.

        Raises
        ------
        ValueError
            If the parameters do not fit the data.
        """
        raise NotImplementedError

    def _initialise(self, module, X, y, sample_weight):
        """Give the module better weights than random ones, before training.

        Returns
        -------
        float
            Estimate of the mean relative error that it then has; infinity if it was left as it was.
        """
        return math.inf

    @property
    def _penalty(self):
        """Factor of ``module.penalty()`` in the training loss; 0 for modules without one."""
        return 0.0

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Input fields, at least two. Channels, and flattened fields of several dimensions, need `grid_shape`. float32
            and float64 are kept, everything else becomes float64.
        y : array-like of shape (n_samples, \\*grid), ... as for X, or (n_samples,)
            Target fields.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss. A weight of 2 acts as a second copy of the sample would, as long as
            everything fits into one batch.

        Returns
        -------
        object
            This estimator, fitted.

        Raises
        ------
        ValueError
            For data or parameters that cannot be used; before any training.
        FloatingPointError
            If the loss becomes NaN or infinite. The weights from before that epoch are kept.
        """
        restart = not (self.warm_start and hasattr(self, "net_"))
        return self._fit(X, y, sample_weight, restart=restart, n_epochs=self.max_epochs, min_samples=2)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Train for one epoch at the constant learning rate `lr`, from the present weights if there are any.

        The scaling of the fields is that of the first call.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Input fields.
        y : array-like of shape (n_samples, \\*grid), ... as for X, or (n_samples,)
            Target fields.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss.

        Returns
        -------
        object
            This estimator, fitted.
        """
        return self._fit(
            X, y, sample_weight, restart=not hasattr(self, "net_"), n_epochs=1, min_samples=1, partial=True
        )

    def _fit(self, X, y, sample_weight, *, restart, n_epochs, min_samples, partial=False):
        before = self.__dict__.copy()
        # The caller may be in a context without gradients, which training needs.
        with python_waits(), torch.inference_mode(False), torch.enable_grad():
            with unchanged_on_error(self):
                train, valid = self._prepare(X, y, sample_weight, restart, min_samples, partial)
            try:
                if restart and self._start_error <= _NOTHING_LEFT:
                    self._keep_start(train, valid)
                else:
                    self._train(train, valid, n_epochs, constant_lr=partial)
            except FloatingPointError:
                raise  # the last good weights are kept
            except BaseException:
                if restart:
                    self.__dict__ = before
                raise
        # The start matters for the run that began with it, no later one.
        self._start_error = math.inf
        return self

    def _prepare(self, X, y, sample_weight, restart, min_samples, partial):
        """Check everything, split off validation data, and make the net or check that the present one fits."""
        if self.min_lr > self.lr and not partial:
            raise ValueError(f"min_lr={self.min_lr} must not exceed lr={self.lr}; lower min_lr, too.")
        device = resolve_device(self.device)
        self._check_callbacks()
        # In C order, because rounding depends on the memory layout.
        checks = {"dtype": [np.float64, np.float32], "order": "C", "ensure_min_samples": min_samples}
        mask = check_mask(self.mask)
        (X, x_shape), (y, shape) = as_rows(X), as_rows(y, "y")
        grid_shape = masked_grid(mask, check_grid_shape(self.grid_shape), x_shape)
        if restart:
            self._rounding = rounding_unit(X, y)
            X, y, domain = inside_domain(mask, X, y, (x_shape, shape), grid_shape, sample_weight)
        else:
            check_same_fields(x_shape, self._shapes[0], "X")
            if not np.array_equal(np.asarray(mask), np.asarray(self._mask)):
                raise ValueError(
                    "mask differs from that of the earlier fit, which cannot be continued with it; start again with "
                    "warm_start=False, or set it back."
                )
            domain = self._domain
            X, y = domain.fill(X, y, mask)
        X, y = validate_data(
            self, X, y, reset=restart, validate_separately=(checks, {**checks, "ensure_2d": False, "estimator": self})
        )
        check_consistent_length(X, y)
        x_shape, shape = x_shape or X.shape[1:], y.shape[1:] if shape is None else shape
        y = y.reshape(len(y), -1)
        if not restart and shape != self._target_shape:
            earlier = str(("n_samples", *self._target_shape)).replace("'", "")
            raise ValueError(f"y has shape {(len(y), *shape)}, but that of the earlier fit had shape {earlier}.")
        if restart:
            warn_of_channels_last(x_shape, grid_shape)
            inputs = input_shape(x_shape, grid_shape)
            shapes = inputs, output_shape(shape, inputs, grid_shape)
        else:
            shapes = self._shapes
        X, y, sample_weight = self._drop_unweighted(X, y, sample_weight)

        rng = check_random_state(self.random_state)
        seeds = rng.randint(np.iinfo(np.int32).max, size=3)
        train, valid = self._split(X, y, sample_weight, seeds[0], enabled=not partial)
        module, arguments, fitted = self._make_module(*shapes)
        if restart:
            self._dtype = np.dtype(self.dtype or X.dtype)
            self._shapes, self._domain, self._mask, self._start_row = shapes, domain, mask, []
            self.mask_ = domain_mask(domain, shapes[1])
            self.net_ = self._make_net(module, arguments, device, seeds[1:])
            self.x_scale_, self.y_scale_ = (
                max_scales(array, fields.n_channels, train[3]) if self.scale == "max" else np.ones(1)
                for array, fields in zip(train[:2], shapes, strict=True)
            )
            self.grid_shape_, self._target_shape, self._module_arguments = shapes[0].grid, shape, arguments
            self.n_parameters_ = count_parameters(self.net_.module_)
            for name, value in fitted.items():
                setattr(self, name, value)
            self._start_error = math.inf if partial else self._initialise(self.net_.module_, *_taken(train))
        else:
            self._check_continuation(arguments)
            self._move(device)
        return train, valid

    def _check_callbacks(self):
        for callback in self.callbacks or ():
            instance = callback[1] if isinstance(callback, tuple) and len(callback) == 2 else callback
            if not isinstance(instance, Callback):
                raise ValueError(
                    f"callbacks contains {callback!r}, which is neither a skorch callback nor a pair (name, callback)."
                )

    def _check_continuation(self, arguments):
        """Refuse to go on with a net that is not the one that the parameters now describe."""
        changed = {key: (value, self._module_arguments[key]) for key, value in arguments.items()}
        changed["dtype"] = (self.dtype or self._dtype.name, self._dtype.name)
        for name, (value, old) in changed.items():
            if value != old:
                raise ValueError(
                    f"{name}={value!r} differs from {old!r} of the earlier fit, which cannot be continued with it; "
                    "start again with warm_start=False, or set it back."
                )

    def _move(self, device):
        if torch.device(self.net_.device) != device:
            self.net_.device = device
            self.net_.module_.to(device)
            self.net_.initialize_optimizer()

    def _drop_unweighted(self, X, y, sample_weight):
        if sample_weight is None:
            return X, y, None
        sample_weight = check_weight(sample_weight, X, X.dtype)
        # Without the samples of weight zero, batches and scales are those of data without these samples.
        kept = sample_weight > 0
        if not kept.all():
            X, y, sample_weight = X[kept], y[kept], sample_weight[kept]
        return X, y, sample_weight

    def _split(self, X, y, sample_weight, seed, enabled):
        """Arrays, weights and rows of the training samples, and of those to validate with if there are any."""
        parts: list = [None]
        if self.validation_fraction is not None and enabled:
            n_valid = math.ceil(self.validation_fraction * len(X))
            if n_valid == len(X):
                raise ValueError(
                    f"validation_fraction={self.validation_fraction} leaves none of {len(X)} samples to train on; "
                    f"the largest value that works is {1 - 1 / len(X):.2g}."
                )
            order = np.random.RandomState(seed).permutation(len(X))
            parts = [np.sort(order[n_valid:]), np.sort(order[:n_valid])]
        # Weights of mean one in either part: with equal weights, the loss is the unweighted one.
        data = []
        for rows in parts:
            weight = sample_weight if rows is None or sample_weight is None else sample_weight[rows]
            data.append((X, y, None if weight is None else weight / weight.mean(), rows))
        return data[0], data[1] if len(data) > 1 else None

    def _make_net(self, module, arguments, device, seeds):
        net = _Net(
            module,
            criterion=torch.nn.Identity,  # the loss is _Net.get_loss
            optimizer=torch.optim.AdamW,
            optimizer__fused=True,
            optimizer__betas=(0.9, 0.99),
            iterator_train=_Batches,
            iterator_train__rng=np.random.RandomState(seeds[1]),
            iterator_valid=_Batches,
            callbacks__print_log=None,
            device=device,
            verbose=0,
            module__dtype=getattr(torch, self._dtype.name),
            **{f"module__{name}": value for name, value in arguments.items()},
        )
        with _INITIALISATION_LOCK, torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also touch the generators of every GPU.
            torch.default_generator.manual_seed(int(seeds[0]))
            return net.initialize()

    def _fields(self, data):
        return _Fields(
            *data,
            shapes=[fields.shape for fields in self._shapes],
            scales=(self.x_scale_, self.y_scale_),
            dtype=self._dtype,
            device=self.net_.device,
        )

    def _inside(self):
        """Mask of the outputs on the device, for the loss."""
        inside = self._domain.outputs
        if inside is None:
            return None
        return torch.from_numpy(inside.astype(self._dtype)).view(1, *self._shapes[1].shape).to(self.net_.device)

    def _keep_start(self, train, valid):
        """Leave the network as it was initialised: its losses are the history."""
        net = self.net_
        net.inside, net.batch_size = self._inside(), self.batch_size
        losses = {"train_loss": train, "valid_loss": valid}
        row = {name: mean_loss(net, self._fields(data)) for name, data in losses.items() if data is not None}
        self._start_row = [{"epoch": 0, **row, "lr": self.lr, "dur": 0.0}]
        self._set_history(net)

    def _train(self, train, valid, n_epochs, constant_lr):
        net = self.net_
        train, valid = (None if data is None else self._fields(data) for data in (train, valid))
        progress, schedule, stopping = _Progress(type(self).__name__, n_epochs), None, None
        if not constant_lr:
            schedule = LRScheduler(
                CosineAnnealingLR, T_max=n_epochs, eta_min=self.min_lr, last_epoch=-1, event_name="lr"
            )
            if self.early_stopping:
                monitor = "train_loss" if valid is None else "valid_loss"
                stopping = EarlyStopping(monitor, patience=self.n_iter_no_change, threshold=0, load_best=True)
        clipping = None if self.gradient_clip is None else _GradientClipping(self.gradient_clip)
        bar = progress if self.verbose else None
        guard = _DivergenceGuard(self._advice())
        kept = _StartKept(train if valid is None else valid) if math.isfinite(self._start_error) else None
        own = [callback for callback in (guard, clipping, schedule, stopping, kept, bar) if callback is not None]
        users = [clone(callback, safe=False) for callback in self.callbacks or ()]

        net.train_split = None if valid is None else predefined_split(valid)
        net.callbacks, net.max_epochs, net.batch_size = own + users, n_epochs, self.batch_size
        net.penalty, net.inside, net.stopped_by_callback_ = self._penalty, self._inside(), False
        net.initialize_callbacks()
        net.lr, net.optimizer__weight_decay = self.lr, self.weight_decay
        if not constant_lr:
            net.initialize_optimizer()
        for group in net.optimizer_.param_groups:
            group.update(lr=self.lr, weight_decay=self.weight_decay)
        n_before = len(net.history)
        try:
            net.partial_fit(train)
        finally:
            progress.close()
            if len(net.history) > n_before and "train_loss" not in net.history[-1]:
                net.history.pop()  # an epoch that was not finished
            # What only served this run goes, so that the net can be pickled, and loaded where there is no GPU.
            net.train_split, net.callbacks = None, users
            net.callbacks_ = [(name, callback) for name, callback in net.callbacks_ if callback not in own]
            self._set_history(net)
        if self.n_iter_ - n_before < n_epochs and not net.stopped_by_callback_:
            warn_user("Training interrupted by user.", ConvergenceWarning)

    def _set_history(self, net):
        rows = [
            {key: value for key, value in row.items() if key != "batches" and not key.endswith(("_best", "_count"))}
            for row in net.history
        ]
        self.history_, self.n_iter_ = self._start_row + rows, len(rows)

    def _advice(self):
        """What may help against a divergence, and is not set already."""
        options = {
            "gradient_clip=1.0": self.gradient_clip is None or self.gradient_clip > 1,
            "scale='max'": self.scale is None,
            "dtype='float64'": self._dtype == np.float32,
        }
        return " or ".join([f"an lr below {self.lr:g}", *(option for option, helps in options.items() if helps)])

    def predict(self, X):
        """Predict the fields that belong to new inputs.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_points)
            Input fields, on the grid seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, ...)
            Predictions in the shape and the units of the training targets, in the floating-point type of `X`.
        """
        check_is_fitted(self, "net_")
        X, shape = as_rows(X)
        check_same_fields(shape, self._shapes[0], "X")
        X = self._domain.fill_inputs(X)
        refuse_nan(X, "X", self.mask)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32], order="C")
        prediction = np.ascontiguousarray(self.net_.predict(self._fields((X,))), dtype=X.dtype)
        channels = prediction.reshape(len(X), len(self.y_scale_), -1)
        channels *= self.y_scale_[:, None].astype(X.dtype)
        return self._domain.finish(prediction.reshape(len(X), -1)).reshape(len(X), *self._target_shape)

    @property
    def _target_fields(self):
        return self._shapes[1]
