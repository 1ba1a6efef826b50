"""How much room the numerical tests have: runs under other instruction sets, with other seeds, and with tighter bounds.

    python tests/rounding.py --seeds 0 1 2 --room 10

Every instruction set runs with the first seed, and every seed with the processor's own instructions. Bounds of at most
1e-6 in assertions are divided by `room`: what fails has less room than that. Finished runs are not repeated, so that
the work can be stopped and split; the failures of all runs are listed at the end.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ANY = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OPENBLAS_CORETYPE": "Nehalem"}
INSTRUCTIONS = {"native": {}, "torch": {}, "mkl": {}, "openblas": {}, "all": ANY}
for name, variable in zip(("torch", "mkl", "openblas"), ANY, strict=True):
    INSTRUCTIONS[name] = {variable: ANY[variable]}
NUMERICAL = ["linalg", "fitting", "nn", "datasets", "estimators/test_linear.py", "estimators/test_linear_grids.py"]
NUMERICAL += ["estimators/test_neural_hss_grids.py", "estimators/test_rollout.py", "test_metrics.py"]
NUMERICAL += ["test_preprocessing.py", "test_fields.py", "test_offsets.py", "test_channels.py", "test_extremes.py"]
NUMERICAL += ["test_masks.py", "test_containers.py"]
# Bounds of at most this size are about rounding; larger ones are about methods, and do not depend on it.
ROUNDING = 1e-6


class Tighter(ast.NodeTransformer):
    """Divides small numbers on the larger side of asserted inequalities, and in tolerances."""

    def __init__(self, room):
        self.room = room

    def visit_Assert(self, node):
        for compare in ast.walk(node):
            if isinstance(compare, ast.Compare):
                sides = [compare.left, *compare.comparators]
                for i, op in enumerate(compare.ops):
                    larger = i + isinstance(op, ast.Lt | ast.LtE)
                    if isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                        sides[larger] = self.tightened(sides[larger])
                compare.left, compare.comparators = sides[0], sides[1:]
        return self.generic_visit(node)

    def visit_keyword(self, node):
        if node.arg in ("rtol", "atol", "rel", "abs"):
            node.value = self.tightened(node.value)
        return self.generic_visit(node)

    def tightened(self, bound):
        """Names are looked at when the test runs, all else is as it is written."""
        if isinstance(bound, ast.Constant) and isinstance(bound.value, float) and 0 < bound.value <= ROUNDING:
            return ast.Constant(bound.value / self.room)
        if isinstance(bound, ast.Name):
            source = (
                f"({bound.id} / {self.room} if type({bound.id}) is float and {bound.id} <= {ROUNDING} else {bound.id})"
            )
            return ast.parse(source, mode="eval").body
        if isinstance(bound, ast.BinOp):
            bound.left, bound.right = self.tightened(bound.left), self.tightened(bound.right)
        return bound


def tightened_tests(folder, room):
    """A copy of the tests with tighter bounds, beside the examples, which some of them import."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "examples").symlink_to(ROOT / "examples")
    for path in (folder / "tests").rglob("test_*.py"):
        tree = Tighter(room).visit(ast.parse(path.read_text()))
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    return folder / "tests"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--instructions", nargs="+", choices=INSTRUCTIONS, default=list(INSTRUCTIONS))
    parser.add_argument("--room", type=float, default=1.0)
    parser.add_argument("--output", type=Path, default=ROOT / ".rounding")
    parser.add_argument("pytest", nargs="*", help="further arguments, after --")
    arguments = parser.parse_args()
    tests = tightened_tests(arguments.output / f"room-{arguments.room:g}", arguments.room)
    runs = [(name, arguments.seeds[0]) for name in arguments.instructions]
    runs += [(arguments.instructions[0], seed) for seed in arguments.seeds[1:]]
    failures = {}
    for name, seed in runs:
        report = arguments.output / f"room-{arguments.room:g}-{name}-{seed}.txt"
        if not report.exists():
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "--tb=short",
                "-m",
                "not slow",
                "-n",
                "2",
                "--rootdir",
                tests,
            ]
            command += ["-c", ROOT / "pyproject.toml", f"--hypothesis-seed={seed}", *arguments.pytest]
            path = os.pathsep.join([str(tests), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
            environment = {**os.environ, **INSTRUCTIONS[name], "HSS_TEST_SEED": str(seed), "PYTHONPATH": path}
            run = subprocess.run(
                [*command, *(tests / part for part in NUMERICAL)],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if run.returncode not in (0, 1):
                sys.exit(run.stdout + run.stderr)
            report.write_text(run.stdout)
        for test in re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", report.read_text(), re.MULTILINE):
            failures.setdefault(test, []).append(f"{name}, seed {seed}")
        print(f"{name}, seed {seed}: {report.read_text().splitlines()[-1]}", flush=True)
    for test, where in sorted(failures.items()):
        print(f"{test}: {'; '.join(where)}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
