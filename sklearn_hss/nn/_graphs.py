"""Training steps as CUDA graphs."""

import torch

# Steps before the capture, in which libraries choose their algorithms and allocate their workspaces.
_N_WARM = 3


class GraphedStep:
    """Forward and backward pass on batches of one shape, which one launch repeats instead of hundreds.

    Small networks on a GPU wait for launches. The first calls run on a side stream as they are; the next one is
    captured, and all later ones copy their batch to where the graph reads it. Gradients stay where the graph writes
    them, so nobody may set them to None.

    Parameters
    ----------
    compute : callable
        Returns the loss of a batch, a tensor, and leaves its gradients in the parameters, which had none or zeros. It
        does not synchronise with the device.
    parameters : list of Parameter
    """

    def __init__(self, compute, parameters):
        self.compute, self.parameters = compute, parameters
        self.n_calls, self.graph, self.inputs, self.loss = 0, None, (), None

    def __call__(self, *batch):
        self.n_calls += 1
        if self.graph is not None:
            for place, tensor in zip(self.inputs, batch, strict=True):
                place.copy_(tensor)
            self.graph.replay()
            return self.loss
        for p in self.parameters:
            p.grad = None
        if self.n_calls <= _N_WARM:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                loss = self.compute(*batch)
            torch.cuda.current_stream().wait_stream(stream)
            return loss
        self.inputs = tuple(tensor.clone() for tensor in batch)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.loss = self.compute(*self.inputs).detach()
        self.graph = graph
        graph.replay()  # a capture computes nothing
        return self.loss
