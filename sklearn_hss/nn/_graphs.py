"""Training steps as CUDA graphs."""

import threading
from functools import cache
from typing import Any

import torch

from .._warnings import warn_user

# Steps before the capture, in which libraries choose their algorithms and allocate their workspaces.
_N_WARM = 3
# Only one thread at a time uses the single side stream of a device, since work started there during a capture would
# become part of the graph. Each additional stream would require a cuBLAS workspace of tens of megabytes.
_LOCK = threading.Lock()
# Graphs whose capture failed, which must stay alive: torch's allocator may still query which streams they capture.
_FAILED: list = []


@cache
def _side_stream(device):
    return torch.cuda.Stream(device)


def can_capture(device):
    """Whether training steps on a device can be captured."""
    return torch.device(device).type == "cuda"


class GraphedStep:
    """Forward and backward pass on batches of one shape, replayed by one kernel launch instead of hundreds.

    On a GPU, small networks are limited by launches. The first calls run normally on a side stream; the next one is
    captured, and all later ones copy their batch to the input buffers of the graph. Every graph has its own gradients,
    which become those of the parameters whenever it has run. If a capture fails, steps continue without it.

    Parameters
    ----------
    compute : callable
        Function that returns the loss of a batch, a tensor, and adds its gradients to those of the parameters. It must
        not synchronise with the device, and must do the same at every call: Python does not run it after the capture.
    parameters : list of Parameter
    """

    def __init__(self, compute, parameters):
        self.compute, self.parameters = compute, parameters
        self.trained, self.n_calls, self.failed = [], 0, False
        self.graph: Any = None
        self.loss: Any = None
        self.inputs, self.grads = [], []

    def __call__(self, *batch):
        # Streams belong to the current device, which need not be that of the batch.
        with torch.cuda.device(batch[0].device):
            trained = [p.requires_grad for p in self.parameters]
            if trained != self.trained:  # in the first call, and if a callback has frozen some parameters
                self.trained, self.n_calls, self.graph = trained, 0, None
            self.n_calls += 1
            if self.graph is None and self.n_calls > _N_WARM and not self.failed:
                self._capture(batch)
            return self._run(batch) if self.graph is None else self._replay(batch)

    def _run(self, batch):
        self._drop_gradients()
        current = torch.cuda.current_stream()
        with _LOCK:
            stream = current if self.failed else _side_stream(batch[0].device)
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                # The autograd graph attached to the loss would keep nodes alive that belong to this stream.
                loss = self.compute(*batch).detach()
            current.wait_stream(stream)
        return loss

    def _capture(self, batch):
        self._drop_gradients()  # so that the graph writes them, and does not add to them
        self.inputs = [tensor.clone() for tensor in batch]
        graph = torch.cuda.CUDAGraph()
        arguments = {"stream": _side_stream(batch[0].device), "capture_error_mode": "thread_local"}
        try:
            # The outer context restores the current stream, which a failed capture does not.
            with _LOCK, torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, **arguments):
                self.loss = self.compute(*self.inputs).detach()
        except RuntimeError as error:
            _FAILED.append(graph)
            self.failed, self.inputs = True, []
            reason = str(error).partition("\n")[0]
            warn_user(f"Training continues without CUDA graphs, possibly slower: {reason}", RuntimeWarning)
            return
        self.graph, self.grads = graph, [p.grad for p in self.parameters]

    def _replay(self, batch):
        torch._foreach_copy_(self.inputs, list(batch))
        self.graph.replay()
        for p, grad in zip(self.parameters, self.grads, strict=True):
            if p.grad is not grad:  # that of a graph for another shape, which ran in between
                p.grad = grad
        return self.loss.clone()  # the next replay overwrites it

    def _drop_gradients(self):
        for p in self.parameters:
            p.grad = None
