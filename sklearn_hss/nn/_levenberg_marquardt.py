"""Matrix-free Levenberg-Marquardt with a Kronecker-factored preconditioner."""

from math import prod
from typing import Any

import torch

from ._stacks import as_stack, from_stack, gram, rotate, stacks_of

# Relative step of the finite differences for products with the Jacobian; the root of the rounding unit of float64.
_DIFFERENCE = 1.5e-8
# Smallest damping relative to the mean of the diagonal of JᵀJ; far below, products with J are not accurate enough.
_LEAST = 1e-10


class LevenbergMarquardt(torch.optim.Optimizer):
    """Levenberg-Marquardt for sums of squares, without forming a Jacobian.

    A step solves (JᵀJ + damping I) p = -Jᵀr by conjugate gradients. Products with J are computed by differences of
    residuals, those with Jᵀ by backward passes. Every block of every parameter is preconditioned by a Kronecker product
    L ⊗ R of the means of G Gᵀ and Gᵀ G over gradients G = Jᵀv of random v, whose covariance is JᵀJ. The damping follows
    the ratio of the true to the predicted decrease (Nielsen's rule); steps that do not decrease the sum are undone.

    It is suited to networks of up to a few hundred thousand parameters in float64, with residuals that are smooth
    functions of these.

    Parameters
    ----------
    params : iterable of Parameter or of dict
        Parameters to optimise, all float64. A group may have ``"blocks": "first"``, as in :class:`SOAP`.
    lr : float, default=1.0
        Factor of the steps.
    damping : float, default=0.1
        Damping of the first step, relative to the mean of the diagonal of JᵀJ.
    max_iter : int, default=15
        Largest number of iterations of conjugate gradients in a step.
    tol : float, default=0.1
        Relative residual at which conjugate gradients stop.
    n_probes : int, default=4
        Number of random vectors v in every step.
    decay : float, default=0.9
        Decay of the moving averages of G Gᵀ and Gᵀ G.
    n_tries : int, default=5
        Maximal number of trial steps, with increasing damping, until one decreases the sum.

    Raises
    ------
    ValueError
        If a parameter is not float64.

    References
    ----------
    H. B. Nielsen, Damping parameter in Marquardt's method, report IMM-REP-1999-05, 1999.
    J. Martens, R. Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, ICML 2015.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.nn import HSSLinear, LevenbergMarquardt
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(100, 32, generator=generator, dtype=torch.float64)
    >>> layer = HSSLinear(32, 32, rank=2, levels=2, dtype=torch.float64)
    >>> optimizer = LevenbergMarquardt(layer.parameters())
    >>> for step in range(20):
    ...     loss = optimizer.step(lambda: layer(x) - x)
    >>> bool(loss / x.square().sum() < 1e-6)
    True
    """

    def __init__(self, params, lr=1.0, damping=0.1, max_iter=15, tol=0.1, n_probes=4, decay=0.9, n_tries=5):
        numbers = {"lr": lr, "damping": damping, "max_iter": max_iter, "tol": tol, "n_probes": n_probes}
        super().__init__(params, {**numbers, "decay": decay, "n_tries": n_tries, "blocks": "last"})
        self._begin()

    def _begin(self):
        """Initialise the state without earlier steps."""
        self._stacks = [s for group in self.param_groups for s in stacks_of(group["params"], group["blocks"])]
        # In the order of the stacks, so that parameters are views of vectors of all entries.
        self._parameters = [p for stack in self._stacks for p in stack.parameters]
        if any(p.dtype != torch.float64 for p in self._parameters):
            raise ValueError("LevenbergMarquardt requires float64, but there are parameters of another type.")
        self._grams: list[dict] = [{} for _ in self._stacks]
        self._blocks = [stack.blocks for stack in self._stacks for _ in stack.parameters]
        self._generator = torch.Generator(self._parameters[0].device).manual_seed(0)
        self._damping: Any = None
        self._growth = 2.0

    def __getstate__(self):
        return {**super().__getstate__(), "progress": self._progress}

    def __setstate__(self, state):
        progress = state.pop("progress", None)
        super().__setstate__(state)
        self._begin()
        if progress is not None:
            self._progress = progress

    def state_dict(self):
        """State of the optimiser, including its estimate of the curvature.

        Returns
        -------
        dict
            State that can be saved.
        """
        return {**super().state_dict(), "progress": self._progress}

    def load_state_dict(self, state_dict):
        """Continue from a state.

        Parameters
        ----------
        state_dict : dict
            State returned by :meth:`state_dict`.
        """
        super().load_state_dict(state_dict)
        self._progress = state_dict["progress"]

    @property
    def _progress(self):
        own = {"damping": self._damping, "growth": self._growth, "generator": self._generator.get_state()}
        return {**own, "grams": [dict(known) for known in self._grams]}

    @_progress.setter
    def _progress(self, progress):
        device = self._parameters[0].device
        self._growth, damping = progress["growth"], progress["damping"]
        self._damping = None if damping is None else damping.to(device, copy=True)
        self._generator.set_state(progress["generator"].cpu())
        self._grams = [{side: gram.to(device) for side, gram in known.items()} for known in progress["grams"]]

    @torch.no_grad()
    def step(self, closure):  # type: ignore[override]
        """Make a step.

        Parameters
        ----------
        closure : callable
            Function that returns the residuals, a Tensor; it is called many times.

        Returns
        -------
        Tensor
            The sum of their squares before the step.
        """
        settings = self.param_groups[0]
        with torch.enable_grad():
            residuals = closure()
        self._residuals, loss = residuals.detach(), residuals.detach().square().sum()

        def pull(v):
            grads = torch.autograd.grad(residuals, self._parameters, v, retain_graph=True, allow_unused=True)
            filled = (torch.zeros_like(p) if g is None else g for p, g in zip(self._parameters, grads, strict=True))
            parts = zip(filled, self._blocks, strict=True)
            return torch.cat([as_stack(g, blocks).reshape(-1) for g, blocks in parts])

        gradient = pull(self._residuals)
        if not gradient.any():
            return loss
        self._probe(pull, settings)
        if self._damping is None:
            self._damping = settings["damping"] * self._mean_diagonal
        kept = [p.clone() for p in self._parameters]
        for _ in range(settings["n_tries"]):
            step, curvature = self._solve(closure, pull, gradient, settings)
            predicted = -(2 * gradient @ step + curvature)
            # The autograd graph of the residuals refers to the parameters, so they are exchanged instead of modified.
            self._exchange(torch._foreach_add(kept, self._by_parameter(step), alpha=settings["lr"]))
            decrease = loss - closure().square().sum()
            if decrease > 0:
                gain = float(decrease / predicted)
                self._damping *= max(1 / 3, 1 - (2 * gain - 1) ** 3)
                self._damping = self._damping.clamp_min(_LEAST * self._mean_diagonal)
                self._growth = 2.0
                break
            self._exchange(kept)
            self._damping *= self._growth
            self._growth *= 2
        return loss

    def _exchange(self, values):
        for p, value in zip(self._parameters, values, strict=True):
            p.data = value

    def _by_parameter(self, vector):
        parts = vector.split([p.numel() for p in self._parameters])
        return [from_stack(*of) for of in zip(parts, self._parameters, self._blocks, strict=True)]

    def _by_stack(self, vector):
        shapes = [stack.shape for stack in self._stacks]
        return [part.view(shape) for part, shape in zip(vector.split([prod(s) for s in shapes]), shapes, strict=True)]

    def _probe(self, pull, settings):
        """Update the factors of the preconditioner with gradients of random combinations of the residuals."""
        traces = []
        for _ in range(settings["n_probes"]):
            signs = torch.randint(2, self._residuals.shape, generator=self._generator, device=self._residuals.device)
            v = pull(2.0 * signs.double() - 1)
            traces.append(v.square().mean())
            for known, G in zip(self._grams, self._by_stack(v), strict=True):
                for side in ("left", "right"):
                    new = gram(G, side)
                    weight = (1 - settings["decay"]) / settings["n_probes"]
                    known[side] = torch.lerp(known[side], new, weight) if side in known else new
        self._mean_diagonal = torch.stack(traces).mean()
        self._bases = []
        for known in self._grams:
            (a, left), (b, right) = (torch.linalg.eigh(known[side]) for side in ("left", "right"))
            a, b = a.clamp_min(0), b.clamp_min(0)
            scale = a.sum(-1).clamp_min(torch.finfo(a.dtype).tiny)[:, None, None]
            self._bases.append((a[:, :, None] * b[:, None, :] / scale, {"left": left, "right": right}))

    def _precondition(self, vector):
        solved = []
        for stack, (curvature, bases) in zip(self._by_stack(vector), self._bases, strict=True):
            solved.append(rotate(rotate(stack, bases) / (curvature + self._damping), bases, back=True))
        return torch.cat([stack.flatten() for stack in solved])

    def _push(self, closure, vector):
        """Product of J with a vector, by a difference of residuals."""
        length = float(_DIFFERENCE * (1 + self._size) / vector.norm())
        kept = [p.data for p in self._parameters]
        self._exchange(torch._foreach_add(kept, self._by_parameter(vector), alpha=length))
        image = (closure().detach() - self._residuals) / length
        self._exchange(kept)
        return image

    def _solve(self, closure, pull, gradient, settings):
        """Solve for the step p by conjugate gradients; return p and pᵀ JᵀJ p."""
        self._size = torch.stack(torch._foreach_norm(self._parameters)).norm()
        step, rest = torch.zeros_like(gradient), -gradient
        z = self._precondition(rest)
        direction, product = z, rest @ z
        first = product
        for _ in range(settings["max_iter"]):
            applied = pull(self._push(closure, direction)) + self._damping * direction
            curvature = direction @ applied
            if not curvature > 0:  # due to rounding, once the residuals are at that level
                break
            length = product / curvature
            step = step + length * direction
            rest = rest - length * applied
            z = self._precondition(rest)
            product, before = rest @ z, product
            if not product > settings["tol"] ** 2 * first:
                break
            direction = z + product / before * direction
        # JᵀJ p = -g - rest - damping p
        return step, step @ (-gradient - rest - self._damping * step)
