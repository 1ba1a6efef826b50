"""Several processes that train one network together, each on its part of every batch."""

import sys

import torch

# Types of distribution in which every process holds the whole network.
_DISTRIBUTED = {"NO", "MULTI_CPU", "MULTI_GPU"}


def check_accelerator(accelerator):
    """Refuse anything but an accelerator whose settings the training supports.

    Raises
    ------
    ValueError
        If it is not one, or has other settings.
    """
    accelerate = sys.modules.get("accelerate")  # a user who has an accelerator has imported it
    if accelerator is None:
        return
    if accelerate is None or not isinstance(accelerator, accelerate.Accelerator):
        raise ValueError(f"accelerator={accelerator!r} must be an accelerate.Accelerator, or None.")
    if accelerator.distributed_type.value not in _DISTRIBUTED:
        raise ValueError(
            f"accelerator distributes by {accelerator.distributed_type.value}; only processes with a copy of the "
            f"network each are supported, {', '.join(sorted(_DISTRIBUTED))}."
        )
    if accelerator.mixed_precision != "no":
        raise ValueError(
            f"accelerator has mixed_precision={accelerator.mixed_precision!r}, which the estimator does not use; set "
            "it to 'no', and perhaps dtype='bfloat16' in the estimator."
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"accelerator has gradient_accumulation_steps={accelerator.gradient_accumulation_steps}, which the "
            "estimator does not use; set it to 1, and batch_size to the samples of a step."
        )


class Processes:
    """Communication between the processes of an accelerator, all of which call the same methods in the same order.

    Parameters
    ----------
    accelerator : accelerate.Accelerator or None, default=None
        None for one process alone.

    Attributes
    ----------
    index, count : int
    """

    def __init__(self, accelerator=None):
        self._accelerator = accelerator
        self.index, self.count = 0, 1
        if accelerator is not None:
            self.index, self.count = accelerator.process_index, accelerator.num_processes

    @property
    def is_main(self):
        """Whether this process is the one that makes decisions, writes files and shows bars."""
        return self.index == 0

    def part(self, rows):
        """The rows of a batch, a slice, that belong to this process."""
        start, n = rows.start, rows.stop - rows.start
        if n < self.count:  # too few to share: the mean over processes that have them all is the same
            return rows
        return slice(start + n * self.index // self.count, start + n * (self.index + 1) // self.count)

    def average(self, loss, n_samples, parameters=()):
        """Mean of a loss over the samples of all processes; gradients of parameters are averaged in place.

        Parameters
        ----------
        loss : Tensor of shape ()
            Mean over the samples of this process.
        n_samples : int
            Their number.
        parameters : iterable of Parameter, default=()

        Returns
        -------
        Tensor of shape ()
        """
        if self.count == 1:
            return loss
        gradients = [p.grad for p in parameters if p.grad is not None]
        # One message, as small ones cost as much.
        own = torch.cat([tensor.detach().flatten() for tensor in (*gradients, loss, torch.ones_like(loss))])
        total = self._accelerator.reduce(own.mul_(n_samples), "sum")
        total /= total[-1].clone()
        parts = total.split([gradient.numel() for gradient in gradients] + [2])[:-1]
        if gradients:
            torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])
        return total[-2]

    def total(self, *numbers):
        """Sums of numbers over all processes.

        Returns
        -------
        list of float
        """
        if self.count == 1:
            return list(map(float, numbers))
        own = torch.tensor(numbers, dtype=torch.float64, device=self._accelerator.device)
        return self._accelerator.reduce(own, "sum").tolist()

    def of_main(self, compute):
        """Result of a function that only the main process calls; its error is raised in all processes."""
        if self.count == 1:
            return compute()
        found: list = [None, None]
        if self.is_main:
            try:
                found[0] = compute()
            except Exception as error:
                found[1] = error
        sys.modules["accelerate"].utils.broadcast_object_list(found)
        if found[1] is not None:
            raise found[1]
        return found[0]

    def gathered(self, value):
        """The values of all processes, in their order."""
        return [value] if self.count == 1 else sys.modules["accelerate"].utils.gather_object([value])


#: One process alone.
ALONE = Processes()
