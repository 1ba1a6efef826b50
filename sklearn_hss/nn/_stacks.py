"""Parameters as stacks of matrices, for optimisers that precondition matrices."""

import torch

from ._activation import TrainableLeakyReLU
from ._hss_parameters import HSSParameters


def parameter_groups(module):
    """Groups of the parameters of a module, as torch optimisers take them.

    Parameters
    ----------
    module : Module

    Returns
    -------
    list of dict
        Groups with ``params``, ``blocks``, which specifies the matrices for :func:`as_stack`, and ``slopes``, which is
        True for the slopes of activations, single numbers that require their own learning rate.
    """
    slopes = [part.slope for part in module.modules() if isinstance(part, TrainableLeakyReLU)]
    generators = [p for part in module.modules() if isinstance(part, HSSParameters) for p in part._generators()]
    known = {id(p) for p in (*slopes, *generators)}
    groups = [
        {"params": generators, "blocks": "last", "slopes": False},
        {"params": [p for p in module.parameters() if id(p) not in known], "blocks": "first", "slopes": False},
        {"params": slopes, "blocks": "last", "slopes": True},
    ]
    return [group for group in groups if group["params"]]


def as_stack(tensor, blocks):
    """View, or copy, of a parameter or its gradient as a stack (n_blocks, rows, columns).

    Parameters
    ----------
    tensor : Tensor
        Numbers and vectors become blocks of one entry.
    blocks : {"last", "first"}
        Which two dimensions are rows and columns: the last two, as for generators of HSS matrices, or the first two, as
        for convolutions.
    """
    if tensor.ndim < 2:
        return tensor.reshape(-1, 1, 1)
    if blocks == "first":
        tensor = tensor.movedim((0, 1), (-2, -1))
    return tensor.reshape(-1, *tensor.shape[-2:])


def from_stack(stack, like, blocks):
    """The inverse of :func:`as_stack`, for a tensor of the shape of `like`."""
    if like.ndim > 2 and blocks == "first":
        return stack.view(*like.shape[2:], *like.shape[:2]).movedim((-2, -1), (0, 1))
    return stack.view(like.shape)


class Stack:
    """Parameters whose matrices have the same shape, as one stack.

    Attributes
    ----------
    parameters : list of Parameter
    shape : tuple of int
        Shape of the whole stack.
    """

    def __init__(self, parameters, blocks):
        self.parameters, self.blocks = parameters, blocks
        sizes = [as_stack(p, blocks).shape for p in parameters]
        self.counts = [size[0] for size in sizes]
        self.shape = (sum(self.counts), *sizes[0][1:])

    def gather(self, tensors):
        """The stack of tensors that have the shapes of the parameters."""
        return torch.cat([as_stack(tensor, self.blocks) for tensor in tensors])

    def scatter(self, stack):
        """Tensors of the shapes of the parameters."""
        parts = stack.split(self.counts)
        return [from_stack(part, p, self.blocks) for part, p in zip(parts, self.parameters, strict=True)]


def stacks_of(parameters, blocks):
    """Stacks of all parameters, one for each shape of matrices, type and device."""
    alike: dict = {}
    for p in parameters:
        alike.setdefault((tuple(as_stack(p, blocks).shape[1:]), p.dtype, p.device), []).append(p)
    return [Stack(some, blocks) for some in alike.values()]


def gram(stack, side):
    """G Gᵀ of every matrix G for the left side, Gᵀ G for the right one."""
    return stack @ stack.mT if side == "left" else stack.mT @ stack


def rotate(stack, bases, back=False):
    """Coordinates of matrices in bases of their left and right sides, those that are given, or back from these."""
    if "left" in bases:
        stack = (bases["left"] if back else bases["left"].mT) @ stack
    if "right" in bases:
        stack = stack @ (bases["right"].mT if back else bases["right"])
    return stack
