"""Constant-coefficient equations on the unit box, -Laplace(u) - wavenumber² u = f, solved by fast transforms."""

import numpy as np
import scipy.fft


def axis_grid(n_points, boundary):
    """Grid of one axis.

    Parameters
    ----------
    n_points : int
    boundary : {"dirichlet", "neumann", "periodic"}

    Returns
    -------
    ndarray of shape (n_points,)
        ``j / n_points``, for Neumann conditions ``(j + 1/2) / n_points``. The end x = 1 is not included; under
        Dirichlet conditions, u is zero there and at the first point, x = 0.
    """
    return (np.arange(n_points) + (0.5 if boundary == "neumann" else 0.0)) / n_points


def box_solver(shape, boundary, order, wavenumber=None, device=None):
    """Solver of -Laplace(u) - wavenumber² u = f by central differences on the product of the grids of `axis_grid`.

    Let A be the usual three-point matrix of one axis, with values beyond the boundary given by odd (Dirichlet), even
    (Neumann) or periodic reflection. The second-order scheme is the sum of the A of all axes. The fourth-order scheme
    is the sum of the five-point A + h² A² / 12 in one and two dimensions; in three, it is the compact 19-point scheme,

        (sum_i A_i - sum_{i<j} (h_i² + h_j²) / 12 A_i A_j) u = (1 - sum_i h_i² / 12 A_i) (f + wavenumber² u).

    All are diagonalised by sine, cosine or Fourier transforms, so the linear system is solved exactly in O(n log n).

    Parameters
    ----------
    shape : tuple of m ints
        Numbers of grid points.
    boundary : {"dirichlet", "neumann", "periodic"}
    order : {2, 4}
        Order of accuracy. The reflections, and hence the fourth order, assume that f vanishes on the boundary
        (Dirichlet) or, unless slopes are passed to the solver, that its normal derivative does (Neumann).
    wavenumber : float, default=None
        None means Poisson's equation: if that is singular (Neumann, periodic), the mean of f is subtracted, and u has
        mean zero.
    device : torch.device, default=None
        None means SciPy's transforms. On a torch device, each axis is multiplied by its matrix of eigenvectors, which
        requires more operations, but of the type that is fastest on a GPU.

    Returns
    -------
    callable
        ``solve(f, slopes=None)`` takes f of shape (n_samples, *shape) and returns u of that shape. Under Neumann
        conditions, `slopes` may list the derivatives of f along every axis at its ends, equal at both, in arrays of the
        shape of f without that axis.

    Raises
    ------
    ValueError
        If the wavenumber is resonant.
    """
    axes = tuple(range(1, len(shape) + 1))
    compact = order == 4 and len(shape) > 2
    angles = [_angles(n, boundary) for n in shape]
    if boundary == "periodic" and device is None:  # the real transform keeps half of the last axis
        angles[-1] = angles[-1][: shape[-1] // 2 + 1]
    inverse = _inverse_symbol(shape, angles, order, compact, wavenumber)
    if device is not None:
        apply = _on_device([_eigenvectors(n, boundary) for n in shape], inverse, device)

    def solve(f, slopes=None):
        if boundary == "neumann" and order == 4 and slopes is not None:
            f = _with_slopes(f, slopes, compact)
        if device is not None:
            return apply(f)
        if boundary == "dirichlet":
            interior = (slice(None), *[slice(1, None)] * len(shape))
            spectrum = scipy.fft.dstn(f[interior], type=1, axes=axes)
            spectrum *= inverse
            u = np.zeros_like(f)
            u[interior] = scipy.fft.idstn(spectrum, type=1, axes=axes, overwrite_x=True)
            return u
        if boundary == "neumann":
            spectrum = scipy.fft.dctn(f, type=2, axes=axes)
            spectrum *= inverse
            return scipy.fft.idctn(spectrum, type=2, axes=axes, overwrite_x=True)
        spectrum = scipy.fft.rfftn(f, axes=axes)
        spectrum *= inverse
        return scipy.fft.irfftn(spectrum, s=shape, axes=axes, overwrite_x=True)

    return solve


def _angles(n, boundary):
    """Frequencies of the eigenvectors of one axis, times h."""
    return {
        "dirichlet": np.pi * np.arange(1, n) / n,
        "neumann": np.pi * np.arange(n) / n,
        "periodic": 2 * np.pi * np.arange(n) / n,
    }[boundary]


def _eigenvectors(n, boundary):
    """Matrix (frequencies, points) with orthonormal rows, in the order of `_angles`."""
    if boundary == "dirichlet":  # the first point is the boundary
        return np.pad(scipy.fft.dst(np.eye(n - 1), type=1, norm="ortho", axis=0), [(0, 0), (1, 0)])
    if boundary == "neumann":
        return scipy.fft.dct(np.eye(n), type=2, norm="ortho", axis=0)
    phases = np.outer(_angles(n, boundary), np.arange(n))
    return (np.cos(phases) + np.sin(phases)) / n**0.5  # the Hartley transform: sines and cosines share the eigenvalue


def _on_device(eigenvectors, inverse, device):
    import torch

    bases = [torch.as_tensor(Q, device=device) for Q in eigenvectors]
    inverse = torch.as_tensor(inverse, device=device)

    def apply(f):
        spectrum = torch.as_tensor(f, device=device)
        for Q in bases:  # each product transforms the first axis of the field and moves its frequencies to the end
            spectrum = torch.tensordot(spectrum, Q, ([1], [1]))
        spectrum *= inverse
        for Q in bases:
            spectrum = torch.tensordot(spectrum, Q, ([1], [0]))
        return spectrum.cpu().numpy()

    return apply


def _inverse_symbol(shape, angles, order, compact, wavenumber):
    scaled = np.ix_(*((2 * np.sin(angle / 2)) ** 2 for angle in angles))  # h² A
    mass = 1.0
    if compact:
        total = sum(scaled)
        laplacian = sum((1 - (total - a) / 12) * (a * n**2) for a, n in zip(scaled, shape, strict=True))
        mass = 1 - total / 12
    else:
        if order == 4:
            scaled = tuple(a + a**2 / 12 for a in scaled)
        laplacian = sum(a / (1 / n) ** 2 for a, n in zip(scaled, shape, strict=True))
    if wavenumber is None:
        singular = laplacian == 0
        return np.where(singular, 0, mass / np.where(singular, 1, laplacian))
    symbol = laplacian - wavenumber**2 * mass
    closest = np.unravel_index(np.argmin(np.abs(symbol)), symbol.shape)
    if np.abs(symbol[closest]) < 1e-10 * np.abs(symbol).max():
        nearest = np.sqrt(laplacian[closest] / np.broadcast_to(mass, symbol.shape)[closest])
        raise ValueError(
            f"wavenumber={wavenumber} is resonant: its square is an eigenvalue of the discretised -Laplace operator, "
            f"so that f does not determine u; choose one farther from {nearest:.10g}."
        )
    return mass / symbol


def _with_slopes(f, slopes, compact):
    # If f has the slope s, the third derivative of u is -s, so at a distance d beyond the end the error of the even
    # reflection of u is s d³ / 3. Its contribution to the scheme is moved to the right-hand side at the end points.
    first, second = (1 / 22, -1 / 264) if compact else (11 / 288, 1 / 288)
    f = f.copy()
    for axis, slope in enumerate(slopes, 1):
        points = np.moveaxis(f, axis, 0)
        h = 1 / len(points)
        points[0] -= first * h * slope
        points[1] -= second * h * slope
        points[-1] += first * h * slope
        points[-2] += second * h * slope
    return f
