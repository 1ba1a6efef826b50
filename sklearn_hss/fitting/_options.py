"""Parameters of a fit, and the checks of those that depend on the grids."""

import math
from dataclasses import dataclass
from typing import Any

from ..linalg import ClusterTree
from ..linalg._modes import per_mode


@dataclass(frozen=True)
class Options:
    """Parameters of a fit, as :class:`sklearn_hss.HSSRegressor` documents them.

    In several dimensions, `levels` may be a sequence of one value per mode. Without a correction, `alpha` is None.
    """

    rank: Any = "auto"
    levels: Any = "auto"
    outer_rank: Any = "auto"
    symmetric: bool | str = "auto"
    form: str = "auto"
    solver: str = "auto"
    alpha: Any = "auto"
    tol: float = 1e-12
    radius: Any = "auto"
    neighbourhood: str = "auto"
    two_sided: bool | str = "auto"
    sharing: str = "auto"
    periodic: Any = "auto"
    noise: Any = "auto"
    degree: int = 1
    spacing: tuple = ()

    @property
    def cut(self):
        """Whether the fitted map must be truncated to a given rank or number of terms."""
        return self.rank != "auto" or self.outer_rank != "auto"

    def check(self, grid_in, grid_out):
        """Reject values that are invalid for the grids.

        Raises
        ------
        ValueError
            Names the parameter and the values that work.
        """
        for name, value, needs_square in (
            ("symmetric", self.symmetric, self.symmetric is True),
            ("form", self.form, self.form == "inverse"),
        ):
            if needs_square and grid_in != grid_out:
                if len(grid_in) == 1:
                    wanted, *got = "equally many output and input points", grid_out[0], grid_in[0]
                else:
                    wanted, *got = "outputs on the grid of the inputs", grid_out, grid_in
                raise ValueError(f"{name}={value!r} needs {wanted}; got {got[0]} and {got[1]}.")
        sizes = [n_in * n_out for n_in, n_out in zip(grid_in, grid_out, strict=True)]
        most = math.prod(sizes) // max(sizes)
        if self.outer_rank != "auto" and self.outer_rank > most and len(sizes) > 1:
            raise ValueError(
                f"outer_rank={self.outer_rank} is more than any map between fields on {grid_in} and {grid_out} needs: "
                f"the largest value that works is {most}."
            )
        for n_in, n_out, depth in zip(grid_in, grid_out, per_mode(self.levels, len(grid_in)), strict=True):
            self._check_tree(min(n_in, n_out), depth, "fields" if len(grid_in) == 1 else "a mode")

    def _check_tree(self, smallest, depth, owner):
        deepest = ClusterTree.max_levels(smallest)
        if depth != "auto" and depth > deepest:
            raise ValueError(
                f"levels={self.levels} is too deep for {owner} of {smallest} points: the largest value that works is "
                f"{deepest}."
            )
        leaf = smallest if depth == "auto" else smallest >> depth
        if depth != 0 and self.rank != "auto" and self.rank > leaf:
            leaves = "" if depth == "auto" else f", the smallest leaf with levels={self.levels}"
            raise ValueError(
                f"rank={self.rank} is too large for {owner} of {smallest} points: the largest value that works is "
                f"{leaf}{leaves}."
            )
