"""Time and memory of HSSMatrix beside dense torch, SciPy and STRUMPACK, on one thread: ``python bench_linalg.py``.

The matrix is the Green's function of the 1-D Laplacian, the inverse of a tridiagonal matrix with 2.001 on its diagonal:
of rank 2 and, at every size, of condition number 3e3. "build" makes it from products with random vectors, which
``scipy.linalg.solve_banded`` computes. That function thus does the work of an HSS product, with a few operations per
point; it is beside the others as a lower bound, for it needs to know the tridiagonal matrix. Takes about a minute.
"""

import numpy as np
import torch
from _timing import interleaved_medians
from scipy.linalg import solve_banded

from sklearn_hss.linalg import HSSMatrix

SIZES = [1024, 4096, 16384, 65536, 262144]
LARGEST_DENSE = 4096
SLOPES_FROM = 4096  # below, the constant cost of a call from Python outweighs what grows with n

# Milliseconds of STRUMPACK 8 with leaves of 64 points, on one thread. They come from another run of the same problem,
# not from this script, so the ratios to them are less exact than the others.
STRUMPACK = {
    4096: {"product": 0.19, "factor": 4.4, "solve": 0.33},
    16384: {"product": 0.9, "factor": 18, "solve": 1.7, "build": 260},
    262144: {"product": 32, "factor": 393, "solve": 58},
}
RATIO_TO_REACH, SLOPE_TO_REACH = 2, 1.1


def tensors(x):
    """All tensors in a nest of lists, tuples and objects."""
    if isinstance(x, torch.Tensor):
        yield x
    elif isinstance(x, list | tuple):
        for part in x:
            yield from tensors(part)
    elif hasattr(x, "__dict__"):
        yield from tensors(list(vars(x).values()))


def n_bytes(x):
    """Memory behind these tensors; views of one storage count once, and as a whole."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors(x)}.values())


def greens_matrix(n):
    """The Green's function, and the diagonals of its inverse."""
    diagonals = np.tile([[-1.0], [2.001], [-1.0]], n)
    return HSSMatrix.from_banded((1, 1), diagonals).inverse(), diagonals


def measure(n):
    """Milliseconds of everything at one size, bytes, and the deviations of product and build from solve_banded."""
    A, diagonals = greens_matrix(n)
    factor = A.factor()
    b = torch.randn(n, dtype=torch.float64)

    def products(x):
        return torch.from_numpy(solve_banded((1, 1), diagonals, x.numpy()))

    def build():
        return HSSMatrix.from_products(products, products, (n, n), generator=torch.Generator().manual_seed(0))

    quick = {
        "product": lambda: A @ b,
        "solve": lambda: factor.solve(b),
        "solve_banded": lambda: solve_banded((1, 1), diagonals, b.numpy()),
    }
    # A matrix keeps its factor; the detached one has none yet.
    medium = {"factor": lambda: A.detach().factor(), "inverse": A.inverse}
    slow = {"build": build}
    if n <= LARGEST_DENSE:
        dense = A.to_dense()
        lu = torch.linalg.lu_factor(dense)
        quick["dense product"] = lambda: dense @ b
        quick["LU solve"] = lambda: torch.linalg.lu_solve(*lu, b.unsqueeze(-1))
        slow["LU factor"] = lambda: torch.linalg.lu_factor(dense)
    times = {}
    for contenders, rounds, calls in ((quick, 15, 8), (medium, 15, 1), (slow, 3, 1)):
        times |= interleaved_medians(contenders, max(2, min(rounds, rounds * 16384 // n)), calls)

    expected = products(b)
    errors = [float(torch.linalg.norm(M @ b - expected) / torch.linalg.norm(expected)) for M in (A, build())]
    memory = {"generators": n_bytes([A.D, A.U, A.V]), "factor": n_bytes(factor)}
    return {name: seconds * 1e3 for name, seconds in times.items()}, memory, errors


def number(x):
    """Milliseconds, or a dash for what was not measured."""
    return "-" if x is None else f"{x:.3f}" if x < 10 else f"{x:.1f}"


def ratio(times, over, name, other):
    """Time of one thing over that of another."""
    return f"{times[name] / over[other]:.2g}" if other in over else "-"


def slope(sizes, values):
    """Exponent p of the power law values ~ sizes**p, by least squares over the logarithms."""
    return np.polyfit(np.log(sizes), np.log(values), 1)[0]


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = {n: measure(n) for n in SIZES}
    times = {n: result[0] for n, result in results.items()}

    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread, float64; medians in ms")
    columns = ["product", "factor", "solve", "build", "inverse"]
    others = ["dense product", "LU factor", "LU solve"]
    print(f"\n{'':7} |{'HSSMatrix':^50} |{'dense torch':^36} |{'SciPy':^14}")
    hss = "".join(f"{name:>10}" for name in columns)
    print(f"{'n':>7} |{hss} |{'product':>12}{'LU factor':>12}{'LU solve':>12} |{'solve_banded':>14}")
    for n in SIZES:
        hss = "".join(f"{number(times[n][name]):>10}" for name in columns)
        dense = "".join(f"{number(times[n].get(name)):>12}" for name in others)
        print(f"{n:>7} |{hss} |{dense} |{number(times[n]['solve_banded']):>14}")

    print(f"\nTime of HSSMatrix over that of others (to reach, against STRUMPACK: {RATIO_TO_REACH})")
    print(f"{'':7} |{'over dense torch':^27} |{'over solve_banded':^18} |{'over STRUMPACK 8 (another run)':^36}")
    print(
        f"{'n':>7} |{'product':>9}{'factor':>9}{'solve':>9} |{'product':>9}{'solve':>9} |"
        f"{'product':>9}{'factor':>9}{'solve':>9}{'build':>9}"
    )
    for n in SIZES:
        pairs = [("product", "dense product"), ("factor", "LU factor"), ("solve", "LU solve")]
        dense = "".join(f"{ratio(times[n], times[n], *pair):>9}" for pair in pairs)
        banded = "".join(f"{ratio(times[n], times[n], name, 'solve_banded'):>9}" for name in ("product", "solve"))
        strumpack = "".join(f"{ratio(times[n], STRUMPACK.get(n, {}), name, name):>9}" for name in columns[:4])
        print(f"{n:>7} |{dense} |{banded} |{strumpack}")

    fitted = [n for n in SIZES if n >= SLOPES_FROM]
    print(f"\nExponent p of time and memory ~ n^p, least squares over n = {', '.join(map(str, fitted))}")
    for name in columns:
        goal = f"  (to reach: {SLOPE_TO_REACH})" if name in ("product", "factor", "solve") else ""
        print(f"{'time of ' + name:>24}: {slope(fitted, [times[n][name] for n in fitted]):.2f}{goal}")
    for name in ("generators", "factor"):
        used = [results[n][1][name] for n in fitted]
        print(f"{'memory of ' + name:>24}: {slope(fitted, used):.2f}  ({used[-1] / fitted[-1]:.0f} bytes per point)")
    worst = np.max([result[2] for result in results.values()], axis=0)
    print(f"\nDeviation from solve_banded, at most: product {worst[0]:.0e}, that of the matrix built {worst[1]:.0e}")


if __name__ == "__main__":
    main()
