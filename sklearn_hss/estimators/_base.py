"""Base class of the neural regressors, the only connection between scikit-learn's interface and skorch's training."""

import dis
import math
import os
import threading
import time
from collections import deque
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict
from numbers import Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer
from skorch.helper import predefined_split
from tqdm.auto import tqdm

from .._containers import Rows, as_lazy, checked, head, select
from .._devices import available, full_float32, resolve_device
from .._endings import python_waits
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
from ..nn._graphs import GraphedStep, can_capture
from ..nn._losses import LOSSES, residuals, sample_losses
from ..nn._scaled import ScaledNetwork
from ..nn._stacks import parameter_groups
from ._batches import Batches, Fields, max_scales, standard_scales, taken
from ._callbacks import light_callback
from ._checkpoints import Checkpoints, fingerprint, parse_interval
from ._noise import white_noise
from ._processes import ALONE, Processes, check_accelerator
from ._score import FieldRegressorMixin
from ._training import OPTIMIZERS, PAPER, Network, Training, document_training, resolve

__all__ = ["BaseNeuralRegressor", "document_training", "field_arguments"]

# Modules draw their initial weights from torch's global generator, which is seeded before and restored afterwards, by
# one thread at a time.
_INITIALISATION_LOCK = threading.Lock()
# Prevents threads that share a model from using its network while it is being moved to another device.
_MOVE_LOCK = threading.Lock()
_AUTO = StrOptions({"auto"})
# Relative noise of the targets above which weights are shrunk, and an empirical factor of the shrinkage: fewer
# directions matter than there are weights.
_VISIBLE, _SHRINKAGE = 1e-3, 3.0
# Numbers in the data above which float32 is faster.
_MANY_NUMBERS = 10**5
# Number of epochs, never reached, if a time limit ends the training.
_FOREVER = 10**12
# Number of steps that Python may be ahead of a GPU if a time limit ends the training.
_AHEAD = 8
# Attributes that `_set_scales` sets.
_SCALES = ("x_offset_", "x_scale_", "y_offset_", "y_scale_", "shrinkage_")
# Relative error of an initialised module that training cannot be expected to improve on.
_NOTHING_LEFT = 1e-4


def field_arguments(inputs, outputs):
    """Arguments that specify the grids and channels for a module of :mod:`sklearn_hss.nn`.

    Raises
    ------
    ValueError
        If the grids do not have equally many dimensions.
    """
    if len(inputs.grid) != len(outputs.grid):
        raise ValueError(
            f"y has the grid {outputs.grid} and X the grid {inputs.grid}; they must have equally many dimensions."
        )
    one_dimensional = len(inputs.grid) == 1
    return {
        "in_features": inputs.grid[0] if one_dimensional else inputs.grid,
        "out_features": outputs.grid[0] if one_dimensional else outputs.grid,
        "in_channels": inputs.n_channels,
        "out_channels": outputs.n_channels,
    }


def _comes_from_a_raise(error):
    """Whether a raise statement raised `error`, and not a signal, which comes between any two instructions."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


class _Net(NeuralNet):
    """skorch's loop with our losses and optimisers, that waits for the device once per epoch and not once per step."""

    def __init__(self, module, *, training=None, loss="l2", n_modes=1, penalty=0.0, inside=None, **arguments):
        self.training = training
        self.loss = loss
        self.n_modes = n_modes
        self.penalty = penalty
        self.inside = inside
        # Captured steps by the shapes of their batches; None where steps are not captured.
        self.schedule, self.autocast, self.graphs = None, False, None
        self.checkpoints, self.processes = None, ALONE
        self.shrinkage, self.shrunk = 0.0, None
        super().__init__(module, **arguments)

    def initialize_optimizer(self, triggered_directly=None):
        self.optimizer_ = self.training.make_optimizer(parameter_groups(self.module_))
        return self

    def notify(self, method_name, **arguments):
        # A callback stops the training as Ctrl-C does, by KeyboardInterrupt; only the latter requires a warning.
        try:
            super().notify(method_name, **arguments)
        except KeyboardInterrupt as stop:
            self.stopped_by_callback_ = _comes_from_a_raise(stop)
            self._someone_stops(method_name, True)
            raise
        if self._someone_stops(method_name, False):
            self.stopped_by_callback_ = True
            raise KeyboardInterrupt

    def _someone_stops(self, method_name, this_one):
        """Whether one of the processes stops after this epoch: the others would wait for it for ever."""
        return method_name == "on_epoch_end" and any(self.processes.total(this_one))

    @property
    def _default_callbacks(self):
        return [("epoch_timer", EpochTimer())]  # losses are kept without callbacks

    def infer(self, x, **arguments):
        if not self.autocast:
            return super().infer(x, **arguments)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            return super().infer(x, **arguments).float()

    def get_loss(self, y_pred, y_true, X=None, training=False):
        target, weight = y_true if isinstance(y_true, tuple) else (y_true, None)
        losses = sample_losses(self.loss, y_pred, target, self.n_modes, self.inside)
        loss = (losses if weight is None else losses * weight).mean()
        if training and self.penalty:
            loss = loss + self.penalty * self.module_.penalty()
        if training and self.shrinkage:
            loss = loss + self.shrinkage * torch.stack([p.square().sum() for p in self.weights()]).sum()
        return loss

    def weights(self):
        """All parameters but the slopes of activations, which are not expected to be small."""
        if self.shrunk is None:
            groups = parameter_groups(self.module_)
            self.shrunk = [p for group in groups if not group["slopes"] for p in group["params"]]
        return self.shrunk

    def train_step(self, batch, **arguments):
        if self.training.needs_float64:
            x, y = batch
            return {"loss": self.optimizer_.step(lambda: self._residuals(x, y))}
        return super().train_step(batch, **arguments)

    def _zero_grad_optimizer(self, set_to_none=None):
        if self.graphs is None:  # a captured step overwrites gradients
            super()._zero_grad_optimizer(set_to_none)

    def train_step_single(self, batch, **arguments):
        if self.graphs is None:
            step = super().train_step_single(batch, **arguments)
        else:
            step = self._graphed_step(self.graphs, batch)
        loss = self.processes.average(step["loss"], len(batch[0]), self.module_.parameters())
        return {**step, "loss": loss}

    def validation_step(self, batch, **arguments):
        step = super().validation_step(batch, **arguments)
        return {**step, "loss": self.processes.average(step["loss"], len(batch[0]))}

    def _graphed_step(self, graphs, batch):
        x, y = batch
        tensors = (x, *y) if isinstance(y, tuple) else (x, y)

        def compute(x, *y):
            self._set_training(True)
            loss = self.get_loss(self.infer(x), y if len(y) > 1 else y[0], training=True)
            loss.backward()
            return loss

        key = tuple(tensor.shape for tensor in tensors)
        if key not in graphs:
            graphs[key] = GraphedStep(compute, list(self.module_.parameters()))
        return {"loss": graphs[key](*tensors)}

    def _residuals(self, x, y):
        """Residuals of which the loss is the sum of squares."""
        target, weight = y if isinstance(y, tuple) else (y, None)
        found = residuals(self.loss, self.module_(x), target, self.n_modes, self.inside)
        found = found * (len(x) ** -0.5 if weight is None else (weight / len(x)).sqrt()[:, None])
        if self.shrinkage:
            found = torch.cat([found.flatten(), *(self.shrinkage**0.5 * p.flatten() for p in self.weights())])
        if self.penalty:
            found = torch.cat([found.flatten(), self.penalty**0.5 * (self.module_.slopes - 1)])
        return found

    def run_single_epoch(self, iterator, training, prefix, step_fn, **arguments):
        if iterator is None:
            return
        checkpoints = self.checkpoints if training else None
        iterator.processes, sizes = self.processes, iterator.sizes
        total, n_samples, n_batches = 0.0, 0, 0
        if checkpoints is not None:
            iterator, (total, n_samples, n_batches) = checkpoints.begin_epoch(self, iterator)
        for batch in iterator:
            if checkpoints is not None:
                checkpoints.visit(self, total, n_samples, n_batches)
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **arguments)
            self.notify("on_batch_end", batch=batch, training=training, **step)
            size = sizes[n_batches]
            total = total + step["loss"].detach() * size
            n_samples, n_batches = n_samples + size, n_batches + 1
            if training and self.schedule is not None and self.schedule.out_of_time:
                break
        self.history.record(prefix + "_loss", float(total) / n_samples)
        self.history.record(prefix + "_batch_count", n_batches)

    def __getstate__(self):
        return self.plain_state()

    def plain_state(self, optimizer=True, keeps=lambda callback: True):
        """The parts that cannot be made anew, as plain data and tensors on the CPU, which load anywhere.

        Parameters
        ----------
        optimizer : bool, default=True
            Whether to include the state of the optimiser.
        keeps : callable, default=None
            Predicate for the callbacks of the user to include.
        """
        return {
            "module": self.module,
            "arguments": self.get_params_for("module"),
            "dtype": next(self.module_.parameters()).dtype,
            "tensors": _on_cpu(dict(self.module_.state_dict())),
            "optimizer": _on_cpu(self.optimizer_.state_dict()) if optimizer else None,
            "training": self.training,
            "device": str(self.device),
            "rng": self.iterator_train__rng,
            "batch_size": self.batch_size,
            "autocast": self.autocast,
            "history": list(self.history),
            "callbacks": [pair for pair in self.callbacks_ if not isinstance(pair[1], EpochTimer) and keeps(pair[1])],
        }

    def __setstate__(self, state):
        arguments, tensors = state["arguments"], state["tensors"]
        # Without allocating memory, since the sizes in a file may be arbitrary.
        with torch.device("meta"):
            shapes = {name: tensor.shape for name, tensor in state["module"](**arguments).state_dict().items()}
        if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
            raise ValueError(f"The weights are not those of {state['module'].__name__}({arguments}).")
        with torch.inference_mode(False), torch.enable_grad():
            net = new_net(state["module"], arguments, available(state["device"]), state["rng"])
            # Constructed in its original type, since buffers computed in another type have other rounding errors.
            net.module_.to(state["dtype"])
            net.module_.load_state_dict(tensors)
            net.training, net.batch_size, net.autocast = (state[key] for key in ("training", "batch_size", "autocast"))
            net.initialize_optimizer()
            if state["optimizer"] is not None:
                net.optimizer_.load_state_dict(state["optimizer"])
        net.history.extend(state["history"])
        net.callbacks = state["callbacks"]
        net.callbacks_ = [*net.callbacks_, *state["callbacks"]]
        self.__dict__.update(net.__dict__)


def new_net(module, arguments, device, rng, seed=0):
    """Initialised net for a module class, its arguments, and the RandomState that orders samples."""
    net = _Net(
        module,
        criterion=torch.nn.Identity,  # the loss is _Net.get_loss
        training=PAPER,
        iterator_train=Batches,
        iterator_train__rng=rng,
        iterator_valid=Batches,
        callbacks__print_log=None,
        device=device,
        verbose=0,
        **{f"module__{name}": value for name, value in arguments.items()},
    )
    with _INITIALISATION_LOCK, torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also touch the generators of every GPU.
        torch.default_generator.manual_seed(int(seed))
        return net.initialize()


def _on_cpu(state):
    """A copy of nested containers with their tensors on the CPU."""
    if isinstance(state, torch.Tensor):
        return state.detach().cpu()
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    return [_on_cpu(value) for value in state] if isinstance(state, list) else state


@torch.no_grad()
def mean_loss(net, fields):
    """Loss of a net on fields, which are not trained on."""
    batches, total = Batches(fields, net.batch_size, processes=net.processes), 0.0
    for (x, y), size in zip(batches, batches.sizes, strict=True):
        total += float(net.processes.average(net.get_loss(net.infer(x), y), len(x))) * size
    return total / len(fields)


def _tensors(net):
    return [*net.module_.parameters(), *net.module_.buffers()]


class _Schedule(Callback):
    """Cosine schedule of the learning rate over steps or seconds, whichever limit is closer."""

    state_names = ()  # a checkpoint has its progress

    def __init__(self, training, n_epochs, max_seconds, constant=False):
        self.training, self.n_epochs, self.max_seconds, self.constant = training, n_epochs, max_seconds, constant

    def on_train_begin(self, net, **kwargs):
        self.start_, self.n_steps_, self.rate_ = time.monotonic(), 0, self.training.lr
        self.elapsed_ = 0.0
        self.launched_: deque = deque()

    @property
    def progress(self):
        """Steps and seconds so far, which a continued run begins with."""
        return [self.n_steps_, time.monotonic() - self.start_]

    @progress.setter
    def progress(self, value):
        self.n_steps_, self.start_ = value[0], time.monotonic() - value[1]
        if self.max_seconds is not None:
            self.elapsed_ = value[1] / self.max_seconds

    def _read_clock(self, net):
        """Find the part of the seconds that is over, by the clock of the main process."""
        if self.max_seconds is not None:
            seconds = time.monotonic() - self.start_ if net.processes.is_main else 0.0
            self.elapsed_ = net.processes.total(seconds)[0] / self.max_seconds

    @property
    def out_of_time(self):
        """Whether the time limit is reached."""
        return self.elapsed_ >= 1

    def _set_rate(self, net):
        if self.constant:
            return
        progress = min(max(self.n_steps_ / self.total_, self.elapsed_), 1)
        low, high = self.training.min_lr, self.training.lr
        self.rate_ = low + (high - low) * (1 + math.cos(math.pi * progress)) / 2
        if not self.training.needs_float64:
            for group in net.optimizer_.param_groups:
                group["lr"] = self.rate_ * group.get("factor", 1.0)

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        self.total_ = math.inf if self.n_epochs is None else self.n_epochs * -(-len(dataset_train) // net.batch_size)
        self._set_rate(net)
        net.history.record("lr", self.rate_)

    def on_batch_begin(self, net, training, **kwargs):
        if training:
            self._set_rate(net)
            self.n_steps_ += 1

    def on_batch_end(self, net, training, **kwargs):
        # Python may be hundreds of steps ahead of a GPU, and the clock with it.
        if training and self.max_seconds is not None and torch.device(net.device).type == "cuda":
            self.launched_.append(torch.cuda.current_stream(net.device).record_event())
            if len(self.launched_) > _AHEAD:
                self.launched_.popleft().synchronize()
        if training:
            self._read_clock(net)

    def on_epoch_end(self, net, **kwargs):
        self._read_clock(net)
        if self.out_of_time:
            raise KeyboardInterrupt  # skorch's way to stop


class _DivergenceGuard(Callback):
    """Stops a run whose loss or weights are no longer finite, and restores the last weights known to be good."""

    state_names = ("unproven_", "good_")

    def __init__(self, advice):
        self.advice = advice

    def on_train_begin(self, net, **kwargs):
        # Collected once, because searching the module takes longer than copying its tensors.
        self.tensors_ = _tensors(net)
        self.unproven_ = self.good_ = self._copies()

    def on_epoch_begin(self, net, **kwargs):
        self.unproven_ = self._copies()

    def on_epoch_end(self, net, **kwargs):
        if not all(math.isfinite(net.history[-1].get(name, 0.0)) for name in ("train_loss", "valid_loss")):
            self._stop(net)
        # A finite loss proves that the weights from which it was computed are finite.
        self.good_ = self.unproven_

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
            f"The weights from before that epoch are restored. Try {self.advice}."
        )


class _StartKept(Callback):
    """Restores the weights from before the training if it has increased the loss."""

    state_names = ("start_", "loss_")

    def __init__(self, fields):
        self.fields = fields

    def on_train_begin(self, net, **kwargs):
        self.start_ = [tensor.detach().clone() for tensor in _tensors(net)]
        self.loss_ = mean_loss(net, self.fields)

    @torch.no_grad()
    def on_train_end(self, net, **kwargs):
        if not mean_loss(net, self.fields) <= self.loss_:
            for tensor, copy in zip(_tensors(net), self.start_, strict=True):
                tensor.copy_(copy)


class _GradientClipping(Callback):
    """skorch's GradientNormClipping, without searching the module for its parameters at every step."""

    state_names = ()

    def __init__(self, max_norm):
        self.max_norm = max_norm

    def on_train_begin(self, net, **kwargs):
        self.parameters_ = list(net.module_.parameters())

    def on_grad_computed(self, net, **kwargs):
        torch.nn.utils.clip_grad_norm_(self.parameters_, self.max_norm)


class _Progress(Callback):
    """Progress bar over the epochs, or over the seconds of a time limit, with losses and remaining time."""

    state_names = ("n_before_",)

    def __init__(self, label, n_epochs, max_seconds):
        self.label, self.n_epochs, self.max_seconds = label, n_epochs, max_seconds

    def on_train_begin(self, net, **kwargs):
        total, unit = (self.max_seconds, "s") if self.n_epochs is None else (self.n_epochs, "epoch")
        self.bar_, self.start_ = tqdm(total=total, desc=self.label, unit=unit, dynamic_ncols=True), time.monotonic()
        self.n_before_ = len(net.history)

    def on_resume(self, net):
        """Show the progress of the run that wrote a checkpoint."""
        self.start_ -= net.schedule.progress[1]
        self.bar_.update(len(net.history) - 1 - self.n_before_ if self.n_epochs is not None else self._passed)
        self.bar_.refresh()

    @property
    def _passed(self):
        return min(round(time.monotonic() - self.start_, 1), self.max_seconds) - self.bar_.n

    def on_epoch_end(self, net, **kwargs):
        losses = {key: net.history[-1].get(key) for key in ("train_loss", "valid_loss")}
        self.bar_.set_postfix({key: f"{loss:.2e}" for key, loss in losses.items() if loss is not None}, refresh=False)
        self.bar_.update(1 if self.n_epochs is not None else self._passed)

    def __getstate__(self):
        return {key: value for key, value in vars(self).items() if key != "bar_"}

    def close(self):
        """Close the bar in its current state, also after an error."""
        if hasattr(self, "bar_"):
            self.bar_.close()


class BaseNeuralRegressor(FieldRegressorMixin, BaseEstimator):
    """Base class of the neural regressors: trains a torch module on fields.

    A subclass names the module and its arguments in `_make_module`; everything else, from validation and scaling to
    training, prediction and score, is here. The training loop itself is skorch's.
    """

    _parameter_constraints: dict = {
        "settings": [StrOptions({"auto", "paper"})],
        "optimizer": [StrOptions({"auto", *OPTIMIZERS}), callable],
        "loss": [StrOptions(set(LOSSES)), callable],
        "lr": [Interval(Real, 0, None, closed="neither"), _AUTO],
        "min_lr": [Interval(Real, 0, None, closed="left"), _AUTO],
        "max_epochs": [Count(1), _AUTO],
        "max_seconds": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Count(1), _AUTO],
        "weight_decay": [Interval(Real, 0, None, closed="left"), _AUTO],
        "gradient_clip": [Interval(Real, 0, None, closed="neither"), _AUTO, None],
        "scale": [StrOptions({"auto", "max", "standard"}), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "early_stopping": ["boolean"],
        "n_iter_no_change": [Count(1)],
        "warm_start": ["boolean"],
        "callbacks": [list, tuple, None],
        "checkpoint": [str, os.PathLike, None],
        "checkpoint_every": [Count(1), str],
        "accelerator": "no_validation",  # which would import accelerate
        "device": [str, torch.device],
        "dtype": [StrOptions({"float32", "float64", "bfloat16"}), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "grid_shape": [tuple, list, Count(1), None],
        "mask": ["array-like", StrOptions({"auto"}), None],
    }

    # Attributes set by `_look_at` and `_initialise`, whose cost a continued fit need not incur again.
    _choices: tuple[str, ...] = ()

    net_: _Net
    _target_shape: tuple[int, ...]
    _shapes: tuple[FieldShape, FieldShape]
    _domain: Domain
    _mask: np.ndarray | str | None
    _training: Training
    _precision: str
    _device: str | torch.device
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
            Those set by a parameter of the estimator have its name.
        fitted : dict
            Fitted attributes, such as ``rank_``.

        Raises
        ------
        ValueError
            If the parameters do not fit the data.
        """
        raise NotImplementedError

    def _look_at(self, X, y, sample_weight, rows):
        """Inspect the flat, unscaled training data, before anything depends on them.

        Returns
        -------
        object
            Passed on to `_initialise`.
        """

    @property
    def _network(self):
        """The Network on which the values of "auto" depend; called after `_make_module`."""
        return Network()

    def _initialise(self, module, data, seen):
        """Initialise the module with better weights than random ones, before training.

        Parameters
        ----------
        module : Module
        data : tuple (X, y, sample_weight, rows)
            The training data, as :func:`taken` takes some of them.
        seen : object
            From `_look_at`.

        Returns
        -------
        float
            Estimate of its mean relative error, without noise; infinity if the module was not changed.
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
            and float64 are preserved, other types are converted to float64.
        y : array-like of shape (n_samples, \\*grid), ... as for X, or (n_samples,)
            Target fields.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss. A weight of 2 is equivalent to a second copy of the sample, as long as
            all samples fit into one batch.

        Returns
        -------
        object
            This estimator, fitted.

        Raises
        ------
        ValueError
            If the data or parameters are invalid, before any training.
        FloatingPointError
            If the loss becomes NaN or infinite. The weights from before that epoch are restored.
        """
        restart = not (self.warm_start and hasattr(self, "net_"))
        return self._fit(X, y, sample_weight, restart=restart, min_samples=2)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Train for one epoch at the constant learning rate `lr`, from the current weights if there are any.

        The scaling of the fields is determined in the first call.

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
        return self._fit(X, y, sample_weight, restart=not hasattr(self, "net_"), min_samples=1, partial=True)

    def _fit(self, X, y, sample_weight, *, restart, min_samples, partial=False):
        before = self.__dict__.copy()
        # The caller may be in a context without gradients, which training needs.
        with python_waits(), torch.inference_mode(False), torch.enable_grad():
            with unchanged_on_error(self):
                train, valid, checkpoints = self._prepare(X, y, sample_weight, restart, min_samples, partial)
            try:
                if restart and self._start_error <= _NOTHING_LEFT:
                    self._keep_start(train, valid)
                else:
                    self._train(train, valid, partial, checkpoints)
            except FloatingPointError:
                raise  # the last good weights are kept
            except BaseException:
                if restart:
                    self.__dict__ = before
                raise
        # The error of the initial weights is relevant to the first run only.
        self._start_error = math.inf
        return self

    def _prepare(self, X, y, sample_weight, restart, min_samples, partial):
        """Validate everything, split off validation data, and make the net or check that the current one fits."""
        self._check_training(partial)
        device, processes = self._resolve_device(), Processes(self.accelerator)
        # In C order, because rounding depends on the memory layout.
        checks = {"dtype": [np.float64, np.float32], "order": "C", "ensure_min_samples": min_samples}
        mask = check_mask(self.mask)
        (X, x_shape), (y, shape) = as_rows(as_lazy(X, "X")), as_rows(as_lazy(y, "y"), "y")
        grid_shape = masked_grid(mask, check_grid_shape(self.grid_shape), x_shape)
        if restart:
            self._rounding = rounding_unit(X, y)
            X, y, domain = inside_domain(mask, X, y, (x_shape, shape), grid_shape, sample_weight)
        else:
            check_same_fields(x_shape, self._shapes[0], "X")
            if not np.array_equal(np.asarray(mask), np.asarray(self._mask)):
                raise ValueError(
                    "mask differs from that of the earlier fit, which cannot be continued with it; start again with "
                    "warm_start=False, or restore its earlier value."
                )
            domain = self._domain
            X, y = domain.fill(X, y, mask)
        separately = checks, {**checks, "ensure_2d": False, "estimator": self}
        judged = validate_data(self, head(X), head(y), reset=restart, validate_separately=separately)
        check_consistent_length(X, y)
        X, y = map(checked, (X, y), judged)
        x_shape, shape = x_shape or X.shape[1:], y.shape[1:] if shape is None else shape
        y = y if isinstance(y, Rows) else y.reshape(len(y), -1)
        if not restart and shape != self._target_shape:
            earlier = str(("n_samples", *self._target_shape)).replace("'", "")
            raise ValueError(f"y has shape {(len(y), *shape)}, but that of the earlier fit had shape {earlier}.")
        if restart:
            warn_of_channels_last(x_shape, grid_shape)
            inputs = input_shape(x_shape, grid_shape)
            shapes = inputs, output_shape(shape, inputs, grid_shape)
        else:
            shapes = self._shapes
        checkpoints, known = None, None
        if self.checkpoint is not None and not partial:
            weights = None if restart else _tensors(self.net_)
            found = fingerprint(self, {"X": X, "y": y, "sample_weight": sample_weight}, weights)
            checkpoints = Checkpoints(self.checkpoint, self.checkpoint_every, found, processes)
            known = checkpoints.state
        X, y, sample_weight = self._drop_unweighted(X, y, sample_weight)
        self._refuse_different(processes, X, y, sample_weight)

        rng = check_random_state(self.random_state)
        seeds = rng.randint(np.iinfo(np.int32).max, size=3) if known is None else known["seeds"]
        seeds = processes.of_main(lambda: seeds)
        train, valid = self._split(X, y, sample_weight, seeds[0], enabled=not partial)
        n_samples = len(y) if train[3] is None else len(train[3])
        seen = None
        if restart:
            self._shapes, self._domain = shapes, domain
            if known is None:
                seen = self._by_main(self._choices, self._look_at, *train)
            else:
                self.__dict__.update(known["choices"])
        module, arguments, fitted = self._make_module(*shapes)
        if restart:
            self._dtype = np.dtype({"bfloat16": "float32"}.get(self.dtype, self.dtype) or X.dtype)
            self._precision = self.dtype or self._dtype.name
            self._mask, self._start_row, self._device = mask, [], self.device
            self.mask_ = domain_mask(domain, shapes[1])
            self.net_ = new_net(
                module,
                {**arguments, "dtype": getattr(torch, self._dtype.name)},
                device,
                np.random.RandomState(seeds[2]),
                seeds[1],
            )
            self.n_parameters_ = count_parameters(self.net_.module_)
            self._resolve(n_samples)
            self._by_main(_SCALES, self._set_scales, train, shapes)
            self.grid_shape_, self._target_shape, self._module_arguments = shapes[0].grid, shape, arguments
            for name, value in fitted.items():
                setattr(self, name, value)
            if known is not None:
                self.__dict__.update(known["choices"])
                self._start_error = known["start_error"]
            elif partial:
                self._start_error = math.inf
            else:
                self._by_main(("_start_error", *self._choices), self._start, train, seen)
            if self.dtype is None and (partial or self._start_error > _NOTHING_LEFT):
                many = n_samples * sum(fields.size for fields in shapes) > _MANY_NUMBERS
                if self._training.needs_float64 or many or self._network.single:
                    self._cast("float64" if self._training.needs_float64 else "float32")
            self.net_.training = self._training
            self.net_.initialize_optimizer()
        else:
            self._check_continuation(arguments)
            self._resolve(n_samples)
            if self._training.needs_float64 and self._precision != "float64":
                raise ValueError(
                    f"optimizer={self.optimizer!r} needs a network in float64, but that of the earlier fit is in "
                    f"{self._precision}; start again with warm_start=False."
                )
            changed = self._training.optimizer != self.net_.training.optimizer
            self.net_.training = self._training
            if changed:
                self.net_.initialize_optimizer()
            self._move(device)
        self._begin_alike(processes)
        if checkpoints is not None:
            choices = {name: value for name, value in vars(self).items() if name in self._choices}
            checkpoints.facts = {"seeds": list(map(int, seeds)), "start_error": self._start_error, "choices": choices}
        return train, valid, checkpoints

    def _resolve_device(self):
        """Torch device of `device`, or of the accelerator if there is one."""
        if self.accelerator is None:
            return resolve_device(self.device)
        chosen = self.accelerator.device
        if chosen.type == "cpu":  # accelerate numbers it by process
            chosen = torch.device("cpu")
        if self.device not in ("auto", chosen, str(chosen)):
            raise ValueError(f"device={self.device!r} is not that of the accelerator, {chosen}; use device='auto'.")
        return chosen

    def _refuse_different(self, processes, X, y, sample_weight):
        """Refuse data and parameters that differ between the processes."""
        if processes.count == 1:
            return
        # A few samples are enough to detect a difference.
        X, y, sample_weight = taken((X, y, sample_weight, None), 0)
        found = fingerprint(self, {"X": X, "y": y, "sample_weight": sample_weight})
        found = {name: text for name, text in found.items() if name != "device"}
        first, *others = processes.gathered(found)
        for index, other in enumerate(others, 1):
            different = [name for name in first if other.get(name) != first[name]]
            if different:
                raise ValueError(
                    f"Process {index} differs from the main process in {different[0]}; with an accelerator, pass the "
                    "same parameters and all samples to every process."
                )

    def _by_main(self, names, compute, *arguments):
        """Let the main process set attributes of the given names for all; returns what `compute` does, there."""
        found: list = []

        def attributes():
            found.append(compute(*arguments))
            return {name: value for name, value in vars(self).items() if name in names}

        self.__dict__.update(Processes(self.accelerator).of_main(attributes))
        return found[0] if found else None

    def _start(self, train, seen):
        """Initialise the network."""
        self._start_error = self._initialise(self.net_.module_, train, seen)

    def _begin_alike(self, processes):
        """Give all processes the weights, the optimiser and the random state of the main process."""
        if processes.count == 1:
            return
        net = self.net_
        module, optimizer, rng = processes.of_main(
            lambda: (
                _on_cpu(dict(net.module_.state_dict())),
                _on_cpu(net.optimizer_.state_dict()),
                net.iterator_train__rng.get_state(),
            )
        )
        net.module_.load_state_dict(module)
        net.optimizer_.load_state_dict(optimizer)
        net.iterator_train__rng.set_state(rng)

    def _check_training(self, partial):
        check_accelerator(self.accelerator)
        parse_interval(self.checkpoint_every)
        rates = (self.min_lr, self.lr)
        if not partial and not any(isinstance(rate, str) for rate in rates) and self.min_lr > self.lr:
            raise ValueError(f"min_lr={self.min_lr} must not exceed lr={self.lr}; decrease min_lr as well.")
        if self.optimizer == "lm":
            if callable(self.loss):
                raise ValueError(
                    f"loss={self.loss!r} is not known to be a sum of squares, which optimizer='lm' needs; use one of "
                    f"{LOSSES}, or optimizer='adamw'."
                )
            if self.dtype not in (None, "float64"):
                raise ValueError(f"dtype={self.dtype!r} is too coarse for optimizer='lm'; use 'float64' or None.")
            if self.accelerator is not None:
                raise ValueError(
                    "optimizer='lm' needs the residuals of all samples in one place, and does not work with an "
                    "accelerator; use optimizer='soap' or 'adamw', or accelerator=None."
                )
        self._check_callbacks()

    def _check_callbacks(self):
        for callback in self.callbacks or ():
            instance = callback[1] if isinstance(callback, tuple) and len(callback) == 2 else callback
            if not isinstance(instance, Callback):
                raise ValueError(
                    f"callbacks contains {callback!r}, which is neither a skorch callback nor a pair (name, callback)."
                )

    def _resolve(self, n_samples):
        """Resolve all parameters that are "auto"."""
        names = [name for name in asdict(PAPER) if name != "slope_rate"]
        wanted = {name: getattr(self, name) for name in (*names, "settings")}
        slope_rate = getattr(self, "slope_rate", "auto")
        grid = tuple(map(max, *(fields.grid for fields in self._shapes)))
        self._training = resolve(
            {**wanted, "slope_rate": slope_rate},
            self._network,
            grid,
            n_samples,
            self.n_parameters_,
            self.max_seconds,
            # Whatever the number of processes, which changes no result.
            squares=self._precision_allowed == "float64" and not callable(self.loss) and self.accelerator is None,
        )
        self.training_ = {name: getattr(self._training, name) for name in (*names, "slope_rate")}

    @property
    def _precision_allowed(self):
        """The type of the network, or the most precise one to which it may be converted."""
        continued = hasattr(self.net_, "history") and len(self.net_.history) > 0
        return self._precision if continued else self.dtype or "float64"

    def _set_scales(self, train, shapes):
        """Offsets and scales of inputs and targets, from the training samples."""
        kind = self._training.scale
        of_inputs = self._domain.inputs
        if of_inputs is None and self.mask_ is not None and shapes[0].grid == shapes[1].grid:
            # A domain determined from the targets applies to the inputs as well, if no other is known.
            of_inputs = np.tile(self.mask_.ravel(), shapes[0].n_channels or 1)
        found = []
        for array, fields, inside in zip(train[:2], shapes, (of_inputs, self._domain.outputs), strict=True):
            offset, scale = np.zeros((1, 1)), np.ones(1)
            if kind == "max":
                scale = max_scales(array, fields.n_channels, train[3])
            elif kind == "standard":
                by_point = array is train[1]
                offset, scale = standard_scales(
                    array, fields.n_channels, train[3], weight=train[2], inside=inside, by_point=by_point
                )
            found.append((offset, scale))
        (self.x_offset_, self.x_scale_), (self.y_offset_, self.y_scale_) = found
        self.shrinkage_ = self._find_shrinkage(train[1], train[3])

    def _find_shrinkage(self, y, rows):
        """Ratio of the variances of the noise in the scaled targets and of all weights; zero if that is negligible."""
        fields, inside = self._shapes[1], self._domain.outputs
        default = self.settings == "auto" and self.loss == "l2"
        # With many more equations than unknowns, the network does not overfit noise.
        if not default or len(y if rows is None else rows) * fields.size > 2 * self.n_parameters_:
            return 0.0
        y = y[slice(None) if rows is None else rows]
        sizes = np.sqrt(np.mean(np.square(y.reshape(len(y), len(self.y_scale_), -1) / self.y_scale_[:, None]), (0, 2)))
        noise = white_noise(y, fields.grid, fields.n_channels, inside) / self.y_scale_
        if not (noise > _VISIBLE * sizes).any():
            return 0.0
        weights = torch.cat([p.detach().flatten() for p in self.net_.weights()])
        return float(_SHRINKAGE * np.mean(noise**2) / (len(y) * weights.double().square().mean()))

    def _cast(self, dtype):
        """Convert the network to another type."""
        self._dtype, self._precision = np.dtype(dtype), dtype
        self.net_.module_.to(getattr(torch, dtype))

    def _check_continuation(self, arguments):
        """Refuse to continue with a net that does not match the current parameters."""
        changed = {key: (value, self._module_arguments[key]) for key, value in arguments.items()}
        changed["dtype"] = (self.dtype or self._precision, self._precision)
        for name, (value, old) in changed.items():
            if value != old:
                raise ValueError(
                    f"{name}={value!r} differs from {old!r} of the earlier fit, which cannot be continued with it; "
                    "start again with warm_start=False, or restore its earlier value."
                )

    def _move(self, device):
        if torch.device(self.net_.device) != device:
            self.net_.module_.to(device)
            self.net_.initialize_optimizer()
            self.net_.device = device
        self._device = self.device

    def _follow_device(self):
        """Move the network to `device`, if that parameter was changed since the last move."""
        # A network from a machine with a GPU remains where it could be loaded, unless another device is requested.
        if self.device != self._device:
            device = self._resolve_device()
            with _MOVE_LOCK:
                self._move(device)

    def _drop_unweighted(self, X, y, sample_weight):
        if sample_weight is None:
            return X, y, None
        sample_weight = check_weight(sample_weight, X, X.dtype)
        # Samples of weight zero are removed, so that they do not affect batches and scales.
        kept = sample_weight > 0
        if not kept.all():
            X, y = select(X, kept), select(y, kept)
            sample_weight = sample_weight[kept]
        return X, y, sample_weight

    def _split(self, X, y, sample_weight, seed, enabled):
        """Arrays, weights and rows of the training samples, and of the validation samples if there are any."""
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

    def _fields(self, data):
        return Fields(
            *data,
            shapes=[fields.shape for fields in self._shapes],
            scales=(self.x_scale_, self.y_scale_),
            offsets=(self.x_offset_, self.y_offset_),
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
        """Keep the network as initialised, with its losses as the history."""
        net = self.net_
        self._set_loss(net)
        losses = {"train_loss": train, "valid_loss": valid}
        row = {name: mean_loss(net, self._fields(data)) for name, data in losses.items() if data is not None}
        self._start_row = [{"epoch": 0, **row, "lr": self._training.lr, "dur": 0.0}]
        self._set_history(net)

    def _set_loss(self, net):
        net.inside, net.loss, net.n_modes = self._inside(), self.loss, len(self._shapes[1].grid)
        net.batch_size, net.autocast, net.penalty = self._training.batch_size, self._precision == "bfloat16", 0.0
        net.shrinkage, net.processes = self.shrinkage_, Processes(self.accelerator)

    def _train(self, train, valid, partial, checkpoints=None):
        net, training = self.net_, self._training
        self._set_loss(net)
        n_epochs, max_seconds = (1, None) if partial else (training.max_epochs, self.max_seconds)
        train, valid = (None if data is None else self._fields(data).keep() for data in (train, valid))
        progress = _Progress(type(self).__name__, n_epochs, max_seconds)
        schedule, stopping = _Schedule(training, n_epochs, max_seconds, constant=partial), None
        if self.early_stopping and not partial:
            monitor = "train_loss" if valid is None else "valid_loss"
            stopping = EarlyStopping(monitor, patience=self.n_iter_no_change, threshold=0, load_best=True)
        clipping = None if training.gradient_clip is None else _GradientClipping(training.gradient_clip)
        bar = progress if self.verbose and net.processes.is_main else None
        guard = _DivergenceGuard(self._advice())
        kept = _StartKept(train if valid is None else valid) if math.isfinite(self._start_error) else None
        # The schedule comes last at the end of an epoch, since it may stop the training before later callbacks run.
        own = [callback for callback in (guard, clipping, kept, bar, stopping, schedule) if callback is not None]
        users = [clone(callback, safe=False) for callback in self.callbacks or ()]

        net.train_split = None if valid is None else predefined_split(valid)
        n_total = _FOREVER if n_epochs is None else n_epochs
        net.callbacks, net.max_epochs = own[:-1] + users + own[-1:], n_total
        net.penalty, net.stopped_by_callback_ = self._penalty, False
        net.initialize_callbacks()
        if not partial:
            net.initialize_optimizer()
        for group in net.optimizer_.param_groups:
            if not training.needs_float64:
                group["lr"] = training.lr * group.get("factor", 1.0)
                if "weight_decay" in group:
                    group["weight_decay"] = training.weight_decay
        net.schedule, net.checkpoints = schedule, checkpoints
        # Captures do not pay off for one epoch, and a function of the user may have a state or wait for the device.
        if can_capture(net.device) and not (partial or training.needs_float64 or callable(net.loss)):
            net.graphs = {}
        n_before = len(net.history)
        finished = checkpoints is not None and checkpoints.begin(net)
        try:
            if not finished:
                net.max_epochs = n_total - (len(net.history) - n_before)
                signals = nullcontext() if checkpoints is None else checkpoints.catching_signals()
                with full_float32(net.device), signals:
                    net.partial_fit(train)
        finally:
            progress.close()
            if len(net.history) > n_before and "train_loss" not in net.history[-1]:
                net.history.pop()  # an epoch that was not finished
            # Parts specific to this run are removed, so that the net can be pickled, and loaded without a GPU.
            net.train_split, net.callbacks, net.schedule, net.graphs, net.checkpoints = None, users, None, None, None
            net.callbacks_ = [(name, callback) for name, callback in net.callbacks_ if callback not in own]
            self._set_history(net)
        if finished:
            return
        if self.n_iter_ - n_before < n_total and not net.stopped_by_callback_:
            goes_on = "" if checkpoints is None else f" The same call continues it, from {checkpoints.folder}."
            warn_user(f"Training interrupted by user.{goes_on}", ConvergenceWarning)
        elif checkpoints is not None:
            checkpoints.write(net)

    def _set_history(self, net):
        rows = [
            {key: value for key, value in row.items() if key != "batches" and not key.endswith(("_best", "_count"))}
            for row in net.history
        ]
        self.history_, self.n_iter_ = self._start_row + rows, len(rows)

    def _advice(self):
        """Remedies for a divergence that are not in use already."""
        options = {
            "gradient_clip=1.0": (self._training.gradient_clip or math.inf) > 1,
            "scale='max'": self._training.scale is None,
            "dtype='float64'": self._dtype == np.float32,
        }
        return " or ".join(
            [f"an lr below {self._training.lr:g}", *(option for option, helps in options.items() if helps)]
        )

    def __getstate__(self):
        # An unfitted estimator may be sent to other processes to be fitted there, which requires all callbacks.
        return self._state(light_callback if hasattr(self, "net_") else lambda callback: True)

    def _state_in_files(self):
        """State as in pickles, but without callbacks, which are code."""
        if self.callbacks:
            warn_user(f"callbacks={self.callbacks!r} are not saved; set them again after loading.", UserWarning)
        return self._state(lambda callback: False)

    def _state(self, keeps):
        state = {**super().__getstate__()}
        state["accelerator"] = None  # it belongs to this process, and changes no result
        if self.callbacks:
            state["callbacks"] = [c for c in self.callbacks if keeps(c[1] if isinstance(c, tuple) else c)] or None
        if "net_" in state:
            state["net_"] = self.net_.plain_state(self.warm_start, keeps)
        return state

    def __sklearn_clone__(self):
        # The same accelerator, not a copy of it.
        bare = object.__new__(type(self))
        bare.__dict__ = {**self.__dict__, "accelerator": None}
        return BaseEstimator.__sklearn_clone__(bare).set_params(accelerator=self.accelerator)

    def __setstate__(self, state):
        if "net_" in state:
            net = _Net.__new__(_Net)
            net.__setstate__(state["net_"])
            state = {**state, "net_": net}
        super().__setstate__(state)

    def predict(self, X):
        """Predict the output fields for new inputs.

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
        X, shape = as_rows(as_lazy(X, "X"))
        check_same_fields(shape, self._shapes[0], "X")
        X = self._domain.fill_inputs(X)
        refuse_nan(X, "X", self.mask)
        X = checked(X, validate_data(self, head(X), reset=False, dtype=[np.float64, np.float32], order="C"))
        self._follow_device()
        scale, offset = self.y_scale_[:, None].astype(X.dtype), self.y_offset_.astype(X.dtype)
        prediction, stop = np.empty((len(X), self._shapes[1].size), X.dtype), 0
        with full_float32(self.net_.device):
            for found in self.net_.forward_iter(self._fields((X,))):
                start, stop = stop, stop + len(found)
                prediction[start:stop] = found.flatten(1).numpy()
                channels = prediction[start:stop].reshape(len(found), len(scale), -1)
                channels *= scale
                channels += offset
                self._domain.finish(prediction[start:stop])
        return prediction.reshape(len(X), *self._target_shape)

    def to_torch(self, dtype=None):
        """Return the trained network as a standalone torch module, between fields in the units of the data.

        Scales, offsets and masks are included: the module takes the inputs of `predict` as tensors, and returns its
        outputs. It is differentiable with respect to the fields and to the weights, and can be exported with any number
        of samples, by :func:`torch.export.export` and, if the network has no Fourier transform, to ONNX files (torch
        does not support those of :class:`FNORegressor`). It is a copy: later changes of the estimator do not affect the
        module, and vice versa.

        Parameters
        ----------
        dtype : {"float32", "float64"}, default=None
            Type of weights, inputs and outputs. If None, it is that of the network; for ``dtype="bfloat16"``, it is
            float32, the type of the weights.

        Returns
        -------
        torch.nn.Module
            In evaluation mode, on the device of the network. Maps tensors (n_samples, \\*grid), or any other shape that
            `predict` takes, to tensors in the shape of the training targets.

        Raises
        ------
        ValueError
            If `dtype` has another value, or its range is too short for the fields.

        Examples
        --------
        The gradient of a mean output with respect to the input field, as in optimal control:

        >>> import torch
        >>> from sklearn_hss import NeuralHSSRegressor
        >>> from sklearn_hss.datasets import make_poisson
        >>> F, U = make_poisson(n_samples=20, n_points=32, random_state=0)
        >>> module = NeuralHSSRegressor(random_state=0).fit(F, U).to_torch(dtype="float64")
        >>> f = torch.tensor(F[:1], requires_grad=True)
        >>> module(f).mean().backward()
        >>> f.grad.shape
        torch.Size([1, 32])
        """
        check_is_fitted(self, "net_")
        if dtype not in (None, "float32", "float64"):
            raise ValueError(f"dtype={dtype!r} must be 'float32', 'float64' or None.")
        self._follow_device()
        network = deepcopy(self.net_.module_).to(getattr(torch, dtype or self._dtype.name))
        return ScaledNetwork(
            network,
            *self._shapes,
            self._target_shape,
            x_offset=self.x_offset_,
            x_scale=self.x_scale_,
            y_offset=self.y_offset_,
            y_scale=self.y_scale_,
            inside=(self._domain.inputs, self._domain.outputs),
            blank=self._domain.blank,
        ).eval()

    @property
    def _target_fields(self):
        return self._shapes[1]
