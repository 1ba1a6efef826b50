"""SOAP: Adam in the eigenbases of Shampoo's preconditioner, for stacks of matrices."""

import torch

from ._stacks import gram, rotate, stacks_of

# Separation imposed on equal eigenvalues, relative to their mean.
_APART = 1e-6
# Curvature in every direction, by which a basis remains as it is where all gradients have been zero.
_TINY = 1e-30


def _distinct(matrices):
    """Gram matrices without multiple eigenvalues, whose eigenvectors rounding alone would determine.

    The gradient of a tall block has many singular values equal to zero.
    """
    size = _APART * matrices.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    steps = torch.linspace(1, 0, matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return matrices + torch.diag_embed(size * steps)


def cholesky_qr(matrices):
    """Orthonormal factors of QR decompositions, by shifted Cholesky QR in three passes (Fukaya et al. 2020).

    On a GPU, ``torch.linalg.qr`` decomposes one matrix of a stack after the other, with dozens of kernels each; here, a
    few kernels process the whole stack. In float64, the condition numbers may be up to 1e15.

    Parameters
    ----------
    matrices : Tensor of shape (..., n, n)
        Regular matrices. Their columns may have any lengths.

    Returns
    -------
    Tensor
        Factors of the same shape and type; the triangular ones would have a positive diagonal.
    """
    Q = torch.nn.functional.normalize(matrices.double(), dim=-2, eps=0)
    shift = 1e-14 * Q.shape[-1] * torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device)
    for j in range(3):
        # Without checks of success, which would wait for the device.
        R = torch.linalg.cholesky_ex(Q.mT @ Q + (shift if j == 0 else 0), upper=True)[0]
        Q = torch.linalg.solve_triangular(R, Q, upper=True, left=False)
    return Q.to(matrices.dtype)


def largest_ratio(beta, beta_square, n_steps):
    """Bound of the average over the root of the mean square, both corrected, in coordinates that never change.

    It follows from the Cauchy-Schwarz inequality, and is 1 if both decay alike. A correction of a basis rotates the
    averages, but not the mean squares; ratios above the bound have no other cause, and can be thousands.
    """
    if beta_square == 0:
        return 1.0 if beta == 0 else float("inf")
    q = beta**2 / beta_square
    weights = n_steps if q == 1 else (1 - q**n_steps) / (1 - q)
    corrected = (1 - beta_square**n_steps) ** 0.5 / (1 - beta**n_steps)
    return (1 - beta) * (weights / (1 - beta_square)) ** 0.5 * corrected


def _orthonormal(matrices):
    return cholesky_qr(matrices) if matrices.is_cuda else torch.linalg.qr(matrices)[0]


def _correct_basis(state, side):
    """One step of subspace iteration, the largest eigenvalues first; the moments follow."""
    old = state[side]
    image = _distinct(state[f"{side}_gram"]) @ old + _TINY * old
    order = (old * image).sum(-2).argsort(-1, descending=True)
    columns = order.unsqueeze(-2)
    image = image.gather(-1, columns.expand_as(image))
    new = _orthonormal(image)
    average, square = state["average"], state["square"]
    if side == "left":
        state["average"] = (new.mT @ old) @ average
        state["square"] = square.gather(-2, order.unsqueeze(-1).expand_as(square))
    else:
        state["average"] = average @ (old.mT @ new)
        state["square"] = square.gather(-1, columns.expand_as(square))
    state[side] = new


class SOAP(torch.optim.Optimizer):
    """Adam in the eigenbases of Shampoo's preconditioner (Vyas et al. 2024), block by block for stacks of matrices.

    A generator of HSS matrices is a stack (..., rows, columns) of unrelated blocks. Every block has two bases of its
    own, the eigenvectors of moving averages of G Gᵀ and Gᵀ G over its gradients G, and Adam with decoupled weight decay
    operates in their coordinates, where no step is larger than Adam's could be in fixed ones. Blocks of equal shape in
    all parameters of a group form one batch, so that a step consists of a few batched matrix products, regardless of
    the number of parameters. Vectors and numbers, and sides longer than `max_size`, retain their original coordinates,
    as in Adam.

    The first step only determines the bases, and a missing gradient is treated as zero.

    Parameters
    ----------
    params : iterable of Parameter or of dict
        Parameters to optimise. In a group with ``"blocks": "first"``, the first two dimensions of the parameters are
        rows and columns, as in convolutions, instead of the last two.
    lr : float, default=1e-2
        Learning rate.
    betas : tuple of float, default=(0.95, 0.95)
        Decay of the moving averages of gradients, and of their squares and the matrices above.
    eps : float, default=1e-12
        Added to the root of the mean square.
    weight_decay : float, default=0.0
        Decoupled weight decay.
    every : int, default=10
        Number of steps between corrections of the bases, by one step of subspace iteration each.
    max_size : int, default=256
        Largest number of rows or columns for which a basis is used.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    Vyas et al., SOAP: Improving and stabilizing Shampoo using Adam, arXiv:2409.11321.
    Fukaya et al., Shifted Cholesky QR for computing the QR factorization of ill-conditioned matrices, SIAM J. Sci.
    Comput. 42 (2020).

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import HSSLinear, SOAP
    >>> generator = torch.Generator().manual_seed(0)
    >>> layer, x = HSSLinear(32, 32, rank=2, levels=2), torch.randn(100, 32, generator=generator)
    >>> optimizer = SOAP(layer.parameters(), lr=1e-2)
    >>> for step in range(300):
    ...     loss = (layer(x) - x).square().mean()
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     _ = optimizer.step()
    >>> bool(loss < 1e-2)
    True
    """

    def __init__(self, params, lr=1e-2, betas=(0.95, 0.95), eps=1e-12, weight_decay=0.0, every=10, max_size=256):
        self._stacks: dict = {}
        for name, value, valid, rule in (
            ("lr", lr, lr >= 0, "at least 0"),
            ("betas", betas, len(betas) == 2 and all(0 <= beta < 1 for beta in betas), "two numbers from 0 to below 1"),
            ("eps", eps, eps >= 0, "at least 0"),
            ("weight_decay", weight_decay, weight_decay >= 0, "at least 0"),
            ("every", every, every >= 1, "at least 1"),
            ("max_size", max_size, max_size >= 1, "at least 1"),
        ):
            if not valid:
                raise ValueError(f"{name}={value} must be {rule}.")
        numbers = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**numbers, "every": every, "max_size": max_size, "blocks": "last"})

    def __setstate__(self, state):
        super().__setstate__(state)
        self._stacks = {}

    def add_param_group(self, param_group):
        """Add a group of parameters, as in every torch optimiser.

        Parameters
        ----------
        param_group : dict
            Group with ``params`` and its own settings.
        """
        super().add_param_group(param_group)
        self._stacks = {}

    @torch.no_grad()
    def step(self, closure=None):
        """Make a step.

        Parameters
        ----------
        closure : callable, default=None
            Function that computes the loss and its gradients, unless these exist already.

        Returns
        -------
        Tensor or None
            The loss that `closure` returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for i, group in enumerate(self.param_groups):
            if i not in self._stacks:
                self._stacks[i] = stacks_of(group["params"], group["blocks"])
            for stack in self._stacks[i]:
                # The state of a stack is stored with its first parameter, so that state_dict includes it.
                self._move(stack, self.state[stack.parameters[0]], group)
        return loss

    def _move(self, stack, state, group):
        gradient = stack.gather([torch.zeros_like(p) if p.grad is None else p.grad for p in stack.parameters])
        beta, beta_square = group["betas"]
        if not state:
            state["n_steps"] = 0
            state["average"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            for side, size in zip(("left", "right"), stack.shape[1:], strict=True):
                if 1 < size <= group["max_size"]:
                    state[f"{side}_gram"] = gram(gradient, side)
                    state[side] = torch.linalg.eigh(_distinct(state[f"{side}_gram"]))[1].flip(-1)
            return
        bases = {side: state[side] for side in ("left", "right") if side in state}
        state["n_steps"] += 1
        g = rotate(gradient, bases)
        state["average"].lerp_(g, 1 - beta)
        state["square"].mul_(beta_square).addcmul_(g, g, value=1 - beta_square)
        corrections = 1 - beta ** state["n_steps"], 1 - beta_square ** state["n_steps"]
        change = state["average"] / state["square"].sqrt().div_(corrections[1] ** 0.5).add_(group["eps"])
        most = corrections[0] * largest_ratio(beta, beta_square, state["n_steps"])
        change.clamp_(-most, most).mul_(-group["lr"] / corrections[0])
        if group["weight_decay"]:
            torch._foreach_mul_(stack.parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(stack.parameters, stack.scatter(rotate(change, bases, back=True)))
        for side in bases:
            state[f"{side}_gram"].lerp_(gram(gradient, side), 1 - beta_square)
            if state["n_steps"] % group["every"] == 0:
                _correct_basis(state, side)
