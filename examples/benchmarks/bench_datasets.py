"""Generate the paper's training and test sets: ``bench_datasets.py [poisson_1d heat ...]``.

For every problem, in a process of its own with two jobs: the samples that are generated; seconds; seconds for the whole
of the paper's data, where only a part is generated; the goal for these; and by how much the peak memory of the process
exceeds that at the start, data included, but not workers in other processes (heat and Burgers). Without arguments, all
problems are run, one after the other, in some minutes.
"""

import resource
import subprocess
import sys
import time

from sklearn_hss import datasets

N_JOBS = 2
FRACTION = 1.0  # of the numbers of samples below

# name: (generator, arguments, number of samples, how many times as much work all of the paper's data are, seconds for
# those to reach)
PROBLEMS = {
    "poisson_1d": ("make_poisson", {}, 2000, 1, 5),
    "neumann_1d": ("make_poisson", {"boundary": "neumann"}, 2000, 1, 5),
    "poisson_2d": ("make_poisson", {"n_points": (64, 64)}, 5000, 1, 20),
    "l_shape": ("make_poisson", {"n_points": (64, 64), "domain": "l-shape"}, 2500, 1, 60),
    "perforated": ("make_poisson", {"n_points": (64, 64), "domain": "perforated"}, 2500, 1, 60),
    "helmholtz": ("make_helmholtz", {}, 2500, 1, 20),
    "poisson_3d": ("make_poisson", {"n_points": (128, 128, 128)}, 32, 456 / 32, 456),
    "heat": ("make_heat", {}, 2000, 1, 600),
    "burgers": ("make_burgers", {}, 2000, 1, 600),
    "navier_stokes": ("make_navier_stokes", {}, 1000, 1, 600),
    # 1,200 simulations of 10,000 steps, of which these are 10 of 1,000
    "gray_scott": ("make_gray_scott", {"states": (0, 100)}, 10, 1200 / 10 * 10, 1200 / 10 * 10000 / 100),
}


def measure(name, n_samples):
    """Seconds and peak memory in MiB of a generation."""
    generator, arguments, *_ = PROBLEMS[name]

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    make = getattr(datasets, generator)
    # A small problem triggers imports on first use, which must not be timed.
    small = {"n_points": (32,) * len(arguments["n_points"])} if "n_points" in arguments else {}
    small |= {"states": (0, 1)} if "states" in arguments else {}
    make(1, **{**arguments, **small, "verbose": 0})
    before, start = peak(), time.perf_counter()
    make(n_samples, **arguments, n_jobs=N_JOBS, random_state=0)
    return time.perf_counter() - start, peak() - before


def main(names=PROBLEMS):
    print(f"{'problem':<14} {'samples':>8} {'seconds':>8} {'all, s':>8} {'to reach':>9} {'ratio':>6} {'MiB':>6}")
    for name in names:
        *_, n_samples, whole, goal = PROBLEMS[name]
        n_samples = max(2, int(n_samples * FRACTION))
        command = [sys.executable, __file__, "--measure", name, str(n_samples)]
        measured = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        seconds, memory = map(float, measured.split())
        total = seconds / FRACTION * whole
        print(
            f"{name:<14} {n_samples:>8} {seconds:>8.2f} {total:>8.1f} {goal:>9.0f} {total / goal:>6.2f} {memory:>6.0f}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(*measure(sys.argv[2], int(sys.argv[3])))
    else:
        main(sys.argv[1:] or PROBLEMS)
