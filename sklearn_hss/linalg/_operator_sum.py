"""Sums of maps of any kind."""

from collections.abc import Sequence

from ._checks import check_parts
from ._linear_map import LinearMap


class OperatorSum(LinearMap):
    """Sum of maps between the same grids.

    Parameters
    ----------
    terms : sequence of LinearMap
        One or more maps. Batches of HSS matrices are not supported.

    Attributes
    ----------
    terms : tuple of LinearMap
        The same.
    grid_in, grid_out, shape, structure, n_parameters, dtype, device, T
        As for every :class:`LinearMap`.

    Raises
    ------
    ValueError, TypeError
        If there are no terms, or their grids, types or devices differ.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import KroneckerProductSum, OperatorSum
    >>> identity = KroneckerProductSum.from_dense([torch.eye(4)[None], torch.eye(4)[None]])
    >>> OperatorSum([identity, identity]).apply(torch.ones(4, 4))[0, 0]
    tensor(2.)
    """

    _parts = ("terms",)

    def __init__(self, terms: Sequence[LinearMap]) -> None:
        self.terms = tuple(terms)
        grids = [(term.grid_in, term.grid_out) for term in self.terms]
        if not grids or any(grid != grids[0] for grid in grids):
            raise ValueError(f"terms map between the grids {grids}; there must be at least one term, on equal grids.")
        check_parts(self.terms, "The terms of an OperatorSum")
        self.grid_in, self.grid_out = grids[0]

    def __repr__(self) -> str:
        return f"OperatorSum([{', '.join(map(repr, self.terms))}])"

    def _apply(self, Z):
        return sum(term._apply(Z) for term in self.terms)

    def _in_channel_units(self, rows, columns):
        return OperatorSum([term.in_channel_units(rows, columns) for term in self.terms])

    def _transposed(self):
        return OperatorSum([term.T for term in self.terms])

    def _scaled(self, c):
        return OperatorSum([c * term for term in self.terms])
