"""Files from which an interrupted training continues with an identical result."""

import hashlib
import io
import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from .._files import complete_file
from .._warnings import warn_user
from ._processes import ALONE

# Beginning of a file: its kind and the number of its format.
_HEADER = b"sklearn_hss checkpoint 1\n"
_DIGEST = hashlib.sha256().digest_size
# The newest file and the one before it, for when the newest is damaged.
_NEWEST, _PREVIOUS = "newest.checkpoint", "previous.checkpoint"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Parameters of an estimator that do not affect the result of a fit.
_WITHOUT_EFFECT = {"accelerator", "checkpoint", "checkpoint_every", "verbose"}
_PLAIN = (bool, int, float, str, type(None))


def parse_interval(every):
    """Parse `checkpoint_every` into epochs and seconds, one of which is None.

    Raises
    ------
    ValueError
        If it is neither a positive integer nor a number of seconds such as "30s".
    """
    seconds = None
    if isinstance(every, str) and every.endswith("s"):
        with suppress(ValueError):
            seconds = float(every[:-1])
    if isinstance(every, str) and not (seconds is not None and 0 <= seconds < np.inf):
        raise ValueError(
            f"checkpoint_every={every!r} is invalid; use a number of seconds such as '30s', or an integer of epochs."
        )
    return (None, seconds) if isinstance(every, str) else (int(every), None)


def fingerprint(estimator, arrays, weights=None):
    """All that the result of a fit depends on, as short texts by name.

    Parameters
    ----------
    estimator : BaseNeuralRegressor
    arrays : dict of str to array-like or None
        Data.
    weights : list of Tensor, default=None
        Weights from which training continues, unless it begins with new ones.
    """
    parameters = estimator.get_params(deep=False).items()
    texts = {name: _text(value) for name, value in parameters if name not in _WITHOUT_EFFECT}
    texts = {"estimator": type(estimator).__name__, **texts}
    for name, array in {**arrays, **({} if weights is None else {"the weights": weights})}.items():
        texts[f"values of {name}"] = _hash(array)
    return texts


def _text(value):
    if isinstance(value, np.ndarray):
        return f"an array with hash {_hash(value)}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return type(value).__name__  # its state differs at every call, and the file stores the numbers drawn
    if hasattr(value, "__qualname__"):  # functions and classes have an address in their text
        return f"{value.__module__}.{value.__qualname__}"
    text = repr(value)
    return type(value).__qualname__ if " at 0x" in text else text


def _hash(value):
    if value is None:
        return "none"
    digest = hashlib.sha256()
    for array in value if isinstance(value, list) else [value]:
        array = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array
        array = np.atleast_1d(array) if np.ndim(array) == 0 or not hasattr(array, "dtype") else array
        digest.update(f"{np.dtype(array.dtype).str} {array.shape}".encode())
        for start in range(0, len(array), 256):  # data on disk may not fit into memory
            digest.update(np.ascontiguousarray(array[start : start + 256]).data)
    return digest.hexdigest()[:16]


def _plain(value):
    """Copy of tensors, numbers, texts and containers of them; TypeError for anything else."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_plain(item) for item in value])
    if type(value) in _PLAIN:
        return value
    raise TypeError(type(value).__name__)


def _restored(old, new):
    """The value `new`, in the memory of `old` where there are tensors of the same shape, as others may share it."""
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor) and old.shape == new.shape:
        with torch.no_grad():
            return old.copy_(new)
    if isinstance(old, np.ndarray) and isinstance(new, torch.Tensor):
        return new.numpy()
    if type(old) is type(new) is list and len(old) == len(new):
        return [_restored(*pair) for pair in zip(old, new, strict=True)]
    return new


class Checkpoints:
    """The checkpoints of one run of training: two files in a folder, the newest one and the one before it.

    They are written between two batches, at the given interval or after an interrupt, so that they are consistent.
    Writing is atomic, and a hash detects damaged files. A file contains tensors, numbers and texts, and reading it
    executes no code.

    Parameters
    ----------
    path : str or Path
        The folder, or one for each fingerprint if it ends in ``*``.
    every : int or str
        Epochs, or seconds as in "30s".
    found : dict of str to str
        The :func:`fingerprint` of the run.
    processes : Processes, default=ALONE
        Those that train. The main one writes and reads, for all.

    Raises
    ------
    ValueError
        If the folder holds the run of another call, or `every` is no interval.
    """

    def __init__(self, path, every, found, processes=ALONE):
        path = Path(path)
        if path.name == "*":
            path = path.with_name(f"{found['estimator']}-{hashlib.sha256(repr(found).encode()).hexdigest()[:16]}")
        self.folder, self.fingerprint, self.processes = path, found, processes
        self.every = parse_interval(every)
        self.signal, self.failed = None, False
        self.facts: dict = {}
        self.written_ = time.monotonic()
        self.state = processes.of_main(self._open)

    def _open(self):
        """Make the folder, and read what it holds."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with complete_file(self.folder / "test"):
                pass
            (self.folder / "test").unlink(missing_ok=True)
        except OSError as error:
            self._report(error)
        return self._read()

    def _report(self, error):
        if not self.failed:
            warn_user(
                f"No checkpoint could be written to {self.folder} ({error}); training continues without.", UserWarning
            )
        self.failed = True

    def _read(self):
        """The state of the newest file that is not damaged, or None."""
        for name in (_NEWEST, _PREVIOUS):
            try:
                content = (self.folder / name).read_bytes()
            except OSError:  # usually because it does not exist
                continue
            payload = content[len(_HEADER) + _DIGEST :]
            if (
                content[: len(_HEADER)] == _HEADER
                and hashlib.sha256(payload).digest() == content[len(_HEADER) :][:_DIGEST]
            ):
                state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
                self._refuse_others(state["fingerprint"])
                return state
            warn_user(f"The checkpoint {self.folder / name} is damaged and not used.", UserWarning)
        return None

    def _refuse_others(self, theirs):
        if theirs == self.fingerprint:
            return
        for name in dict.fromkeys((*self.fingerprint, *theirs)):
            ours, other = self.fingerprint.get(name, "none"), theirs.get(name, "none")
            if ours != other:
                difference = name if name.startswith("values of") else f"{name}={other}, not {ours}"
                other = "other " if name.startswith("values of") else ""
                raise ValueError(
                    f"checkpoint={str(self.folder)!r} holds the training of another call, with {other}{difference}; "
                    "repeat that call, delete the folder, or name another one (one that ends in '/*' gives every call "
                    "its own folder)."
                )

    def begin(self, net):
        """Restore the history, or the final state of a completed training.

        Returns
        -------
        bool
            Whether the training is complete.
        """
        self.n_before = len(net.history)
        if self.state is None:
            return False
        net.history[:] = [{**row, "batches": []} for row in self.state["history"]]
        if self.state["finished"]:
            net.module_.load_state_dict(self.state["module"])
            net.optimizer_.load_state_dict(self.state["optimizer"])
            net.iterator_train__rng.set_state(_rng_of(self.state["rng"]))
        return self.state["finished"]

    def begin_epoch(self, net, iterator):
        """Restore the state that was read, if the run has just begun.

        Returns
        -------
        iterator : iterable
            Remaining batches of the epoch.
        counts : tuple
            Sum of losses, number of samples and number of batches so far in this epoch.
        """
        counts = (0.0, 0, 0)
        if self.state is not None:
            state, self.state = self.state, None
            iterator.rng.set_state(_rng_of(state["rng"]))
            self._restore(net, state)
            counts = tuple(state["epoch"]["counts"])
            net.history.record("lr", state["epoch"]["lr"])
        self.rng_state = iterator.rng.get_state()
        return islice(iterator, counts[2], None), counts

    def visit(self, net, *counts):
        """Write a file if one is due; called before every batch with the counts of :meth:`begin_epoch`."""
        noted = self.processes.total(*(self.signal == number for number in _SIGNALS))
        number = next((number for number, n in zip(_SIGNALS, noted, strict=True) if n), None)
        if number is None and not self._is_time(net, counts[2]):
            return
        self.write(net, counts)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number is not None:  # the signal that was postponed takes effect now
            self.signal = None
            if number in self.handlers:
                signal.signal(number, self.handlers[number])
            os.kill(os.getpid(), number)

    def _is_time(self, net, n_batches):
        epochs, seconds = self.every
        if epochs is None:
            return time.monotonic() - self.written_ >= seconds
        n_done = len(net.history) - 1 - self.n_before
        return n_batches == 0 and n_done > 0 and n_done % epochs == 0

    def write(self, net, counts=None):
        """Write a file: between two batches with the counts of the epoch, or at the end of the training."""
        if not self.processes.is_main:
            return
        finished = counts is None
        rows = [{key: value for key, value in row.items() if key != "batches"} for row in net.history]
        state = {
            "fingerprint": self.fingerprint,
            "finished": finished,
            **self.facts,
            "module": net.module_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "history": rows if finished else rows[:-1],
            "rng": _rng_state(net.iterator_train__rng.get_state() if finished else self.rng_state),
        }
        if not finished:
            state["epoch"] = {"counts": list(counts), "lr": rows[-1]["lr"]}
            state["schedule"] = net.schedule.progress
            # Seconds of an epoch are those of the process that ends it.
            state["callbacks"] = {name: _callback_state(own) for name, own in net.callbacks_ if name != "epoch_timer"}
        buffer = io.BytesIO()
        torch.save(_plain(state), buffer)
        payload = buffer.getbuffer()
        newest = self.folder / _NEWEST
        try:
            with complete_file(newest) as file:
                file.write(_HEADER + hashlib.sha256(payload).digest())
                file.write(payload)
                if newest.exists():
                    os.replace(newest, self.folder / _PREVIOUS)
        except OSError as error:
            self._report(error)
        self.written_ = time.monotonic()

    def _restore(self, net, state):
        net.module_.load_state_dict(state["module"])
        net.optimizer_.load_state_dict(state["optimizer"])
        net.schedule.progress = state["schedule"]
        for name, callback in net.callbacks_:
            for key, value in state["callbacks"].get(name, {}).items():
                setattr(callback, key, _restored(getattr(callback, key, None), value))
            if hasattr(callback, "on_resume"):
                callback.on_resume(net)

    @contextmanager
    def catching_signals(self):
        """Context in which Ctrl-C and SIGTERM are postponed to the end of the batch; a second one is immediate."""
        self.handlers: dict = {}
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number, frame):
            if self.signal is not None and callable(self.handlers[number]):
                self.handlers[number](number, frame)
            self.signal = number

        try:
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a shell
                    self.handlers[number] = signal.signal(number, note)
            yield
        finally:
            for number, handler in self.handlers.items():
                signal.signal(number, handler)


def _callback_state(callback):
    """Attributes of a callback that a file can hold; those in `state_names`, if the callback has these."""
    state = {}
    for name in getattr(callback, "state_names", vars(callback)):
        with suppress(TypeError):
            state[name] = _plain(getattr(callback, name))
    return state


def _rng_state(state):
    kind, keys, *rest = state
    return {"kind": kind, "keys": keys.astype(np.int64), "rest": list(rest)}


def _rng_of(state):
    return (state["kind"], state["keys"].numpy().astype(np.uint32), *state["rest"])
