"""Problems that the linear fits are judged by: pure functions, seeded, small.

Every problem gives training samples and test samples: new ones of the same kind, and where there is a law, others of a
kind that the training did not contain.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from scipy.linalg import solve_banded
from scipy.sparse.linalg import splu

from sklearn_hss.datasets import make_poisson


@dataclass(frozen=True)
class Samples:
    """Inputs and outputs for training, for a test in distribution, and for one out of it, where there is one."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    other: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class LinearProblem:
    """A problem, and parameters of the estimator other than the defaults."""

    make: Callable[..., Samples]
    parameters: dict = field(default_factory=dict)


def white(n_samples, *grid, seed=0):
    return np.random.RandomState(seed).standard_normal((n_samples, *grid))


def smooth(n_samples, *grid, seed=0, n_modes=12):
    """Sums of sines of random amplitudes that fall with the wave number, zero at both ends of each axis."""
    field = np.random.RandomState(seed).standard_normal((n_samples, *[min(n_modes, n) for n in grid]))
    for axis, n in enumerate(grid, 1):
        k = np.arange(1, field.shape[axis] + 1)
        waves = np.sin(np.pi * k[:, None] * np.arange(1, n + 1) / (n + 1)) / (1 + k[:, None])
        field = np.moveaxis(np.moveaxis(field, axis, -1) @ waves, -1, axis)
    return field


def tridiagonal(n, velocity=0.0, shift=0.0, rough=0.0):
    """Diagonals of -(a u')' + velocity u' - shift u, for :func:`scipy.linalg.solve_banded`."""
    h = 1 / (n + 1)
    a = 1 + rough * np.random.RandomState(5).uniform(size=n + 1)
    ab = np.zeros((3, n))
    ab[0, 1:], ab[1], ab[2, :-1] = -a[1:-1] / h**2, (a[1:] + a[:-1]) / h**2 - shift, -a[1:-1] / h**2
    ab[0, 1:] += velocity / (2 * h)
    ab[2, :-1] -= velocity / (2 * h)
    return ab


def interval(n_train, n, draw=white, other=smooth, **coefficients):
    """A tridiagonal equation on an interval."""
    ab = tridiagonal(n, **coefficients)

    def solved(f):
        return f, solve_banded((1, 1), ab, f.T).T

    return split(n_train, *solved(draw(n_train + 20, n)), other and solved(other(20, n, seed=1)))


def second_difference(n, boundary="dirichlet"):
    h = 1 / n if boundary == "periodic" else 1 / (n + 1)
    D = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tolil()
    if boundary == "periodic":
        D[0, -1] = D[-1, 0] = -1.0
    if boundary == "neumann":
        D[0, 0] = D[-1, -1] = 1.0
    return sp.csc_array(D) / h**2


def box_matrix(grid, boundary="dirichlet", shift=0.0):
    """-Laplace - shift by second differences on a box."""
    eyes = [sp.eye_array(n) for n in grid]
    total = -shift * sp.eye_array(int(np.prod(grid)))
    for axis, n in enumerate(grid):
        term = sp.eye_array(1)
        for j, eye in enumerate(eyes):
            term = sp.kron(term, second_difference(n, boundary) if j == axis else eye)
        total = total + term
    return sp.csc_array(total)


def flux_matrix(a):
    """-div(a grad u), a at the points, arithmetic means at the faces, zero outside."""
    n, m = a.shape
    pairs = []
    index = np.arange(n * m).reshape(n, m)
    diagonal = np.zeros_like(a)
    for axis in (0, 1):
        padded = np.pad(a, [(1, 1) if j == axis else (0, 0) for j in (0, 1)], mode="edge")
        before, after = (np.take(padded, range(k, k + a.shape[axis] + 1), axis) for k in (0, 1))
        faces = (before + after) / 2 * (a.shape[axis] + 1) ** 2
        first, last = (np.take(faces, range(k, k + a.shape[axis]), axis) for k in (0, 1))
        diagonal += first + last
        inner = np.take(faces, range(1, a.shape[axis]), axis)
        left, right = (np.take(index, range(k, k + a.shape[axis] - 1), axis) for k in (0, 1))
        pairs.append((left.ravel(), right.ravel(), inner.ravel()))
    rows, cols, values = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    A = sp.coo_array((-values, (rows, cols)), shape=(n * m, n * m))
    return sp.csc_array(A + A.T + sp.diags_array(diagonal.ravel()))


def grid_problem(n_train, grid, matrix, draw=white, other=smooth, mask=None, n_test=20):
    """Any sparse equation on a grid; `mask` cuts a domain out."""
    inside = np.ones(grid, dtype=bool) if mask is None else mask
    lu = splu(sp.csc_matrix(sp.csr_matrix(matrix)[inside.ravel()][:, inside.ravel()]))

    def solved(f):
        f, u = f * inside, np.zeros_like(f)
        u[:, inside] = lu.solve(np.ascontiguousarray(f[:, inside].T)).T
        return f, u

    return split(n_train, *solved(draw(n_train + n_test, *grid)), other and solved(other(n_test, *grid, seed=1)))


def split(n_train, f, u, other=None):
    return Samples((f[:n_train], u[:n_train]), (f[n_train:], u[n_train:]), other or None)


def noisy(samples, level):
    """Noise on the training outputs, relative to their root mean square."""
    f, u = samples.train
    u = u + level * np.sqrt(np.mean(u**2)) * white(*u.shape, seed=9)
    return Samples((f, u), samples.test, samples.other)


def offset(samples):
    """u = A f + c."""
    c = 3 * np.abs(samples.train[1]).max() * np.cos(np.linspace(0, 3, samples.train[1][0].size))
    c = c.reshape(samples.train[1].shape[1:])

    def moved(pair):
        return pair and (pair[0], pair[1] + c)

    return Samples(moved(samples.train), moved(samples.test), moved(samples.other))


def cubic(samples, amount=0.3):
    """A map that is not linear."""
    top = np.abs(samples.train[1]).max()

    def bent(pair):
        return pair[0], pair[1] + amount * pair[1] ** 3 / top**2

    return Samples(bent(samples.train), bent(samples.test))


def single(samples):
    """In float32."""

    def cut(pair):
        return pair and tuple(z.astype(np.float32) for z in pair)

    return Samples(cut(samples.train), cut(samples.test), cut(samples.other))


def without_mean(*shape, seed=0):
    f = white(*shape, seed=seed)
    return f - f.mean(axis=tuple(range(1, f.ndim)), keepdims=True)


def free(n_train, grid, boundary):
    """-Laplace on a box with a null space of constants; inputs and outputs have no mean."""
    A = box_matrix(grid, boundary).toarray()
    inverse = np.linalg.pinv(A, hermitian=True)

    def solved(f):
        return f, (f.reshape(len(f), -1) @ inverse).reshape(f.shape)

    f = smooth(20, *grid, seed=1)
    f = f - f.mean(axis=tuple(range(1, f.ndim)), keepdims=True)
    return split(n_train, *solved(without_mean(n_train + 20, *grid)), solved(f))


def unrelated(n_train, *grid):
    return split(n_train, white(n_train + 20, *grid), white(n_train + 20, *grid, seed=1))


def hierarchical(n_train, n):
    """Not symmetric: exp(-|i - j| / 20) below the diagonal, exp(-|i - j| / 5) above it, and a diagonal."""
    i = np.arange(n)
    distance = np.abs(i[:, None] - i)
    A = np.where(i[:, None] > i, np.exp(-distance / 20), 0.5 * np.exp(-distance / 5)) + np.diag(2 + np.sin(i))
    f = white(n_train + 20, n)
    g = smooth(20, n, seed=1)
    return split(n_train, f, f @ A.T, (g, g @ A.T))


def difference(n_train, n):
    """The operator itself is banded: u = f'' + f'."""
    A = -second_difference(n).toarray() / n**2 + (np.eye(n, k=1) - np.eye(n, k=-1)) / 7
    f = white(n_train + 20, n)
    g = smooth(20, n, seed=1)
    return split(n_train, f, f @ A.T, (g, g @ A.T))


def products(n_train, grid, n_terms=2):
    """A sum of Kronecker products of dense matrices."""
    rng = np.random.RandomState(3)
    f = white(n_train + 20, *grid)
    u = sum(
        np.einsum("ai,bj,sij->sab", *(rng.standard_normal((n, n)) / n**0.5 for n in grid), f) for _ in range(n_terms)
    )
    return split(n_train, f, u)


def low_rank(n_train, n_in, n_out):
    rng = np.random.RandomState(4)
    A = rng.standard_normal((n_out, 5)) @ rng.standard_normal((5, n_in))
    f = white(n_train + 20, n_in)
    return split(n_train, f, f @ A.T)


def paper(n_train, n_points, **options):
    """Data by the generators of the package, and Gaussian random fields as the others."""
    f, u = make_poisson(n_train + 20, n_points, random_state=0, verbose=0, **options)
    options = {**options, "forcing": "grf", "modes": None}
    return split(n_train, f, u, make_poisson(20, n_points, random_state=1, verbose=0, **options))


def l_shape(n):
    mask = np.ones((n, n), dtype=bool)
    mask[n // 2 :, n // 2 :] = False
    return mask


def separable(n):
    x = np.linspace(0, 1, n)
    return np.outer(1 + x, 2 + np.sin(3 * x))


def rough(n):
    return 1 + 4 * np.kron(np.random.RandomState(7).uniform(size=(n // 4, n // 4)), np.ones((4, 4)))


SQUARE = box_matrix((32, 32))

PROBLEMS = {
    # One dimension
    "1-D Poisson, white, N = 8": LinearProblem(lambda: interval(8, 1024)),
    "1-D Poisson, white, N = 4": LinearProblem(lambda: interval(4, 256)),
    "1-D Poisson, paper, N = 10": LinearProblem(lambda: paper(10, 256)),
    "1-D Poisson, paper, N = 100": LinearProblem(lambda: paper(100, 256)),
    "1-D Poisson, grf, N = 32": LinearProblem(lambda: paper(32, 256, forcing="grf")),
    "1-D convection, white, N = 10": LinearProblem(lambda: interval(10, 256, velocity=20.0)),
    "1-D convection, smooth, N = 20": LinearProblem(lambda: interval(20, 256, smooth, white, velocity=20.0)),
    "1-D indefinite, white, N = 40": LinearProblem(lambda: interval(40, 256, shift=300.0, rough=2.0)),
    "1-D Poisson, 1 % noise, N = 40": LinearProblem(lambda: noisy(interval(40, 128), 1e-2)),
    "1-D Poisson, 1e-3 noise, N = 100": LinearProblem(lambda: noisy(interval(100, 128), 1e-3)),
    "1-D Poisson, float32, N = 20": LinearProblem(lambda: single(interval(20, 256))),
    "1-D Poisson, offset, N = 40": LinearProblem(lambda: offset(interval(40, 256))),
    "1-D Poisson, offset, N = 200": LinearProblem(lambda: offset(interval(200, 256))),
    "1-D Neumann, mean-zero, N = 20": LinearProblem(lambda: free(20, (128,), "neumann")),
    "1-D difference operator, N = 10": LinearProblem(lambda: difference(10, 128)),
    "1-D HSS, not symmetric, N = 90": LinearProblem(lambda: hierarchical(90, 128)),
    "1-D HSS, not symmetric, N = 40": LinearProblem(lambda: hierarchical(40, 128)),
    "1-D unrelated, N = 150": LinearProblem(lambda: unrelated(150, 256)),
    "1-D cubic, N = 60": LinearProblem(lambda: cubic(interval(60, 128))),
    "1-D low rank, 64 to 96, N = 30": LinearProblem(lambda: low_rank(30, 64, 96)),
    "1-D Poisson, rank 2, N = 40": LinearProblem(lambda: interval(40, 256), {"rank": 2, "levels": 3}),
    # Several dimensions
    "2-D Poisson, white, N = 4": LinearProblem(lambda: grid_problem(4, (32, 32), SQUARE)),
    "2-D Poisson, paper, N = 5": LinearProblem(lambda: paper(5, (32, 32), modes=(1, 10))),
    "2-D Poisson, paper, N = 150": LinearProblem(lambda: paper(150, (32, 32), modes=(1, 10))),
    "2-D Helmholtz, white, N = 8": LinearProblem(lambda: grid_problem(8, (24, 32), box_matrix((24, 32), shift=900.0))),
    "2-D separable coefficients, N = 10": LinearProblem(lambda: grid_problem(10, (24, 24), flux_matrix(separable(24)))),
    "2-D rough coefficients, N = 100": LinearProblem(lambda: grid_problem(100, (16, 16), flux_matrix(rough(16)))),
    "2-D periodic, mean-zero, N = 8": LinearProblem(lambda: free(8, (16, 20), "periodic")),
    "2-D Neumann, mean-zero, N = 8": LinearProblem(lambda: free(8, (16, 20), "neumann")),
    "2-D L-shape, smooth, N = 20": LinearProblem(
        lambda: grid_problem(20, (24, 24), box_matrix((24, 24)), smooth, white, l_shape(24))
    ),
    "2-D Poisson, 1 % noise, N = 40": LinearProblem(lambda: noisy(grid_problem(40, (32, 32), SQUARE, smooth), 1e-2)),
    "2-D Poisson, 1e-3 noise, N = 40": LinearProblem(lambda: noisy(grid_problem(40, (32, 32), SQUARE), 1e-3)),
    "2-D Poisson, float32, N = 20": LinearProblem(lambda: single(grid_problem(20, (32, 32), SQUARE))),
    "2-D Poisson, offset, N = 12": LinearProblem(lambda: offset(grid_problem(12, (32, 32), SQUARE))),
    "2-D cubic, N = 60": LinearProblem(lambda: cubic(grid_problem(60, (32, 32), SQUARE, smooth))),
    "2-D unrelated, N = 40": LinearProblem(lambda: unrelated(40, 32, 32)),
    "2-D two products, N = 60": LinearProblem(lambda: products(60, (10, 12))),
    "2-D two products, N = 200": LinearProblem(lambda: products(200, (10, 12))),
    "2-D Poisson, 4 products of rank 2, N = 16": LinearProblem(
        lambda: paper(16, (32, 32)), {"outer_rank": 4, "rank": 2, "levels": 2}
    ),
    "3-D Poisson, white, N = 4": LinearProblem(lambda: grid_problem(4, (12, 12, 12), box_matrix((12, 12, 12)))),
}

# The time matters here: most of these suit no form, and it took long to find that out.
HOPELESS = {
    "perforated 64 x 64, N = 10": lambda: paper(10, (64, 64), domain="perforated"),
    "L-shape 64 x 64, N = 20": lambda: paper_domain(20, "l-shape"),
    "2-D 1 % noise 64 x 64, N = 40": lambda: noisy(grid_problem(40, (64, 64), box_matrix((64, 64)), smooth), 1e-2),
    "2-D 1e-3 noise 64 x 64, N = 200": lambda: noisy(grid_problem(200, (64, 64), box_matrix((64, 64)), smooth), 1e-3),
    "2-D unrelated 64 x 64, N = 200": lambda: unrelated(200, 64, 64),
    "2-D cubic 64 x 64, N = 200": lambda: cubic(grid_problem(200, (64, 64), box_matrix((64, 64)), smooth)),
    "2-D offset 64 x 64, N = 40": lambda: offset(grid_problem(40, (64, 64), box_matrix((64, 64)))),
    "1-D unrelated 256, N = 200": lambda: unrelated(200, 256),
    "1-D cubic 1024, N = 200": lambda: cubic(interval(200, 1024)),
    "1-D 1e-3 noise 1024, N = 200": lambda: noisy(interval(200, 1024), 1e-3),
}

LARGE = {
    "3-D Poisson 64 x 64 x 64, N = 16": lambda: cube(64, lambda u: u),
    "3-D cubic 64 x 64 x 64, N = 16": lambda: cube(64, lambda u: u + 0.3 * u**3 / np.abs(u).max() ** 2),
    "3-D unrelated 64 x 64 x 64, N = 16": lambda: unrelated(16, 64, 64, 64),
}


def cube(n, change):
    f, u = make_poisson(36, (n, n, n), forcing="gaussian", random_state=0, verbose=0)
    return split(16, f, change(u))


def paper_domain(n_train, domain):
    return paper(n_train, (64, 64), forcing="grf", domain=domain)
