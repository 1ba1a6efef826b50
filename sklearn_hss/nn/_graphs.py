"""Training steps as CUDA graphs."""

import threading
from functools import cache
from typing import Any

import torch

from .._warnings import warn_user

# Steps before the capture, in which libraries choose their algorithms and allocate their workspaces.
_N_WARM = 3
# Threads take turns on the one side stream of a device: what one of them starts there, while another captures, would
# become part of that graph. Further streams would keep a workspace of cuBLAS each, tens of megabytes.
_LOCK = threading.Lock()
# Graphs whose capture failed: torch's allocator may go on asking them which streams they capture.
_FAILED: list = []


@cache
def _side_stream(device):
    return torch.cuda.Stream(device)


def can_capture(device):
    """Whether training steps on a device can be captured."""
    return torch.device(device).type == "cuda"


class GraphedStep:
    """Forward and backward pass on batches of one shape, which one launch repeats instead of hundreds.

    Small networks on a GPU wait for launches. The first calls run on a side stream as they are; the next one is
    captured, and all later ones copy their batch to where the graph reads it. Every graph has gradients of its own,
    which become those of the parameters again whenever it has run. If a capture fails, all goes on without it.

    Parameters
    ----------
    compute : callable
        Returns the loss of a batch, a tensor, and adds its gradients to those of the parameters. It does not
        synchronise with the device, and does the same whenever it is called: Python runs it no more after the capture.
    parameters : list of Parameter
    """

    def __init__(self, compute, parameters):
        self.compute, self.parameters = compute, parameters
        self.trained, self.n_calls, self.failed = [], 0, False
        self.graph: Any = None
        self.loss: Any = None
        self.inputs, self.grads = [], []

    def __call__(self, *batch):
        # Streams are those of the current device, which need not be that of the batch.
        with torch.cuda.device(batch[0].device):
            trained = [p.requires_grad for p in self.parameters]
            if trained != self.trained:  # at first, and when a callback has frozen some
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
                # With the graph of autograd that hangs on the loss, nodes would stay that belong to this stream.
                loss = self.compute(*batch).detach()
            current.wait_stream(stream)
        return loss

    def _capture(self, batch):
        self._drop_gradients()  # so that the graph writes them, and does not add to them
        self.inputs = [tensor.clone() for tensor in batch]
        graph = torch.cuda.CUDAGraph()
        arguments = {"stream": _side_stream(batch[0].device), "capture_error_mode": "thread_local"}
        try:
            # The outer context goes back to the present stream, which a failed capture does not.
            with _LOCK, torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, **arguments):
                self.loss = self.compute(*self.inputs).detach()
        except RuntimeError as error:
            _FAILED.append(graph)
            self.failed, self.inputs = True, []
            reason = str(error).partition("\n")[0]
            warn_user(f"Training goes on without CUDA graphs, maybe slower: {reason}", RuntimeWarning)
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
