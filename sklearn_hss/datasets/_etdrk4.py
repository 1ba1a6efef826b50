"""Fourth-order exponential time differencing for many fields at once. Imports torch, so import it on demand."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from ._generation import report

# Maximal number of steps between checks for divergence and updates of the progress bar.
_ROUND = 50


def etdrk4_coefficients(z, n_contour=32):
    """Coefficients of ETDRK4 for real z = dt L, without the factor dt.

    Their closed forms suffer from cancellation for small z. Each coefficient is an entire function of z, and hence the
    mean of its values on a circle of radius 1 around z, where there is no cancellation (Kassam and Trefethen). For real
    z, half of the circle is sufficient. Everything is evaluated in complex128.

    Parameters
    ----------
    z : ndarray of floats
    n_contour : int, default=32
        Number of points on the half circle. The mean converges faster than any power; 32 points reach rounding level.

    Returns
    -------
    dict of str to ndarray
        "full" and "half", exp(z) and exp(z / 2); "stage", the weight of the inner stages; "first", "inner" and "last",
        the weights of the nonlinear term at the beginning, at both intermediate stages, and at the end.
    """
    weights = {name: np.zeros(np.shape(z)) for name in ("stage", "first", "inner", "last")}
    for angle in np.pi * (np.arange(n_contour) + 0.5) / n_contour:
        r = np.asarray(z) + np.exp(1j * angle)
        e = np.exp(r)
        weights["stage"] += ((np.exp(r / 2) - 1) / r).real
        weights["first"] += ((-4 - r + e * (4 - 3 * r + r**2)) / r**3).real
        weights["inner"] += (2 * (2 + r + e * (r - 2)) / r**3).real
        weights["last"] += ((-4 - 3 * r - r**2 + e * (4 - r)) / r**3).real
    return {"full": np.exp(z), "half": np.exp(z / 2), **{name: w / n_contour for name, w in weights.items()}}


class ETDRK4:
    """Stepper of u' = L u + N(u) for a real diagonal L that is integrated exactly.

    Cox and Matthews' scheme with the coefficients of Kassam and Trefethen (Fourth-order time-stepping for stiff PDEs,
    SIAM J. Sci. Comput. 26, 2005).

    Parameters
    ----------
    linear : ndarray of shape (\\*shape,)
        L, for one sample of u; real.
    dt : float
    dtype : torch.dtype
        Type of the real and imaginary parts of u.
    device : torch.device
    """

    def __init__(self, linear: np.ndarray, dt: float, dtype: torch.dtype, device: torch.device):
        self.dt = dt
        self.dtype = dtype
        self.device = device
        coefficients = etdrk4_coefficients(dt * linear)
        for name in ("stage", "first", "inner", "last"):
            coefficients[name] *= dt
        self._coefficients = {name: self.pairs(values) for name, values in coefficients.items()}

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """The array, real or complex, in the precision and on the device of the computation."""
        dtype = self.dtype.to_complex() if np.iscomplexobj(array) else self.dtype
        return torch.tensor(array, dtype=dtype, device=self.device)

    def pairs(self, factors: np.ndarray) -> torch.Tensor:
        """Real factors of complex tensors, for their views as pairs of real and imaginary parts.

        A product of the real with the complex tensor would convert the former every time.
        """
        return self.tensor(np.repeat(factors[..., None], 2, axis=-1))

    def advance(
        self,
        u: torch.Tensor,
        n_steps: int,
        nonlinear: Callable[[torch.Tensor, torch.Tensor], object],
        first_sample: int = 0,
    ) -> None:
        """Take steps, in place.

        Parameters
        ----------
        u : complex tensor of shape (n_samples, \\*shape)
        n_steps : int
        nonlinear : callable
            ``nonlinear(u, out)`` writes N(u) into `out`.
        first_sample : int, default=0
            Number of the first sample of u, for error messages.

        Raises
        ------
        RuntimeError
            If a sample becomes infinite or NaN.
        """
        c = self._coefficients
        stage = torch.empty_like(u)
        nonlinear_terms = [torch.empty_like(u) for _ in range(4)]
        u_, stage_, n_u, n_a, n_b, n_c = map(torch.view_as_real, (u, stage, *nonlinear_terms))
        half = torch.empty_like(u_)
        for _ in range(n_steps):
            nonlinear(u, nonlinear_terms[0])
            torch.mul(u_, c["half"], out=half)
            torch.addcmul(half, n_u, c["stage"], out=stage_)
            nonlinear(stage, nonlinear_terms[1])
            # The last stage starts from the first one, whose memory the second one uses.
            torch.mul(stage_, c["half"], out=n_c).addcmul_(n_u, c["stage"], value=-1)
            torch.addcmul(half, n_a, c["stage"], out=stage_)
            nonlinear(stage, nonlinear_terms[2])
            torch.addcmul(n_c, n_b, c["stage"], value=2, out=stage_)
            nonlinear(stage, nonlinear_terms[3])
            u_.mul_(c["full"]).addcmul_(n_u, c["first"]).addcmul_(n_a.add_(n_b), c["inner"])
            u_.addcmul_(n_c, c["last"])
        self._check(u_, first_sample)

    def _check(self, u, first_sample):
        # A sum is finite if all its terms are, and one pass over the memory.
        finite = torch.isfinite(u.flatten(1).sum(1)).tolist()
        if not all(finite):
            samples = ", ".join(str(first_sample + i) for i, good in enumerate(finite) if not good)
            raise RuntimeError(
                f"The simulation of sample{'s' * (',' in samples)} {samples} became infinite or NaN with "
                f"dt={self.dt:g}; try a smaller dt, or smaller initial values."
            )


def trajectory(
    stepper: ETDRK4,
    fields: np.ndarray,
    nonlinear: Callable[[torch.Tensor, torch.Tensor], object],
    steps: Sequence[int],
    first_sample: int = 0,
) -> Iterator[np.ndarray]:
    """States of a doubly periodic field after given numbers of steps.

    Parameters
    ----------
    stepper : ETDRK4
        Stepper of the coefficients of ``torch.fft.rfft2``.
    fields : ndarray of shape (n_samples, ..., n_1, n_2)
        Initial states.
    nonlinear, first_sample
        As in :meth:`ETDRK4.advance`.
    steps : increasing sequence of ints

    Yields
    ------
    ndarray of the shape of `fields`
    """
    u = torch.fft.rfft2(stepper.tensor(fields))
    done = 0
    for step in steps:
        while done < step:
            n_steps = min(_ROUND, step - done)
            stepper.advance(u, n_steps, nonlinear, first_sample)
            done += n_steps
            report(len(fields) * n_steps / steps[-1])
        yield torch.fft.irfft2(u, s=fields.shape[-2:]).cpu().numpy() if step else fields
