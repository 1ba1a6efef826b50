"""Maps that are diagonal in product bases."""

from collections.abc import Sequence

import torch

from ._checks import check_parts
from ._linear_map import SOLVED, LinearMap
from ._modes import multilinear

# Condition number up to which half of the digits of a basis and its inverse are correct.
_WELL_CONDITIONED = 1e8


class DiagonalizedOperator(LinearMap):
    """Map that is diagonal in a product basis: the inverse of a separable operator by fast diagonalisation.

    A field Z is mapped to (G o (Z x_1 Z1ᵀ ... x_m Zmᵀ)) x_1 X1 ... x_m Xm: analysis with the columns of Z1, ..., Zm,
    multiplication by the symbol G, synthesis from the columns of X1, ..., Xm. The inverse of a Kronecker sum
    A ⊗ I + I ⊗ B is of this form, with the eigenvectors of A and B and G[i, j] = 1 / (lambda_i + mu_j) (Lynch, Rice and
    Thomas 1964). It costs no more than one Kronecker product of dense factors.

    Parameters
    ----------
    outputs : sequence of Tensors of shape (n_out, p)
        X1, ..., Xm, real or complex; of complex fields, the real part is returned.
    inputs : sequence of Tensors of shape (n_in, p)
        Z1, ..., Zm.
    symbol : Tensor of shape (p_1, ..., p_m)
        G.
    inverse : LinearMap, default=None
        The operator that this one inverts, if there is one.

    Attributes
    ----------
    outputs, inputs, symbol, inverse
        The same.
    grid_in, grid_out, shape, structure, n_parameters, dtype, device, T
        As for every :class:`LinearMap`; if there is an `inverse`, its parameters determine the map.

    Raises
    ------
    ValueError, TypeError
        If the sizes of bases and symbol do not match, their precisions or devices differ, or the symbol of complex
        bases is real.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import DiagonalizedOperator
    >>> X = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    >>> A = DiagonalizedOperator([X, X], [X, X], torch.ones(8, 8, dtype=torch.float64))
    >>> torch.allclose(A.to_dense(), torch.eye(64, dtype=torch.float64))
    True
    """

    _parts = ("outputs", "inputs", "symbol", "inverse")

    def __init__(
        self,
        outputs: Sequence[torch.Tensor],
        inputs: Sequence[torch.Tensor],
        symbol: torch.Tensor,
        inverse: LinearMap | None = None,
    ) -> None:
        self.outputs, self.inputs, self.symbol, self.inverse = tuple(outputs), tuple(inputs), symbol, inverse
        bases = (*self.outputs, *self.inputs)
        check_parts([X.real for X in (symbol, *bases)], "Bases and symbol of a DiagonalizedOperator")
        if not symbol.is_complex() and any(X.is_complex() for X in bases):
            raise TypeError("symbol must be complex if the bases are, which consist of conjugate pairs.")
        self.grid_in, self.grid_out = tuple(map(len, self.inputs)), tuple(map(len, self.outputs))
        sizes = [tuple(X.shape[1] for X in bases) for bases in (self.outputs, self.inputs)]
        if any(size != tuple(symbol.shape) for size in sizes):
            raise ValueError(
                f"symbol has shape {tuple(symbol.shape)}, but the bases have {sizes[0]} and {sizes[1]} columns."
            )

    @property
    def n_parameters(self) -> int:
        return super().n_parameters if self.inverse is None else self.inverse.n_parameters

    @property
    def structure(self):
        return super().structure if self.inverse is None else self.inverse.structure

    def __repr__(self) -> str:
        what = f"symbol={tuple(self.symbol.shape)}" if self.inverse is None else f"inverse={self.inverse!r}"
        return f"DiagonalizedOperator(grid_in={self.grid_in}, grid_out={self.grid_out}, {what})"

    def _apply(self, Z):
        kind = self.symbol.dtype
        coefficients = multilinear(Z.to(kind), [X.mT.to(kind) for X in self.inputs])
        field = multilinear(self.symbol * coefficients, [X.to(kind) for X in self.outputs])
        return field.real if kind.is_complex else field

    def _in_channel_units(self, rows, columns):
        inverse = None if self.inverse is None else self.inverse._in_channel_units(1 / columns, 1 / rows)
        outputs, inputs = (
            [factor[:, None] * bases[0], *bases[1:]] for factor, bases in ((rows, self.outputs), (columns, self.inputs))
        )
        return DiagonalizedOperator(outputs, inputs, self.symbol, inverse)

    def _transposed(self):
        inverse = None if self.inverse is None else self.inverse.T
        return DiagonalizedOperator(self.inputs, self.outputs, self.symbol, inverse)

    def _scaled(self, c):
        inverse = None if self.inverse is None or c == 0 else (1 / c) * self.inverse
        return DiagonalizedOperator(self.outputs, self.inputs, self.symbol * c, inverse)

    def _restricted_to(self, bases):
        inputs = [(P @ P.mT).to(Z.dtype) @ Z for P, Z in zip(bases, self.inputs, strict=True)]
        return DiagonalizedOperator(self.outputs, inputs, self.symbol)

    def _solve(self, b):
        A, right = self.to(torch.float64), b.double()
        for known in (lambda: A.inverse, A._divided):
            if (inverse := known()) is not None:
                x = inverse @ right
                # If the inverse is known on a subspace only, it does not reproduce outputs outside of it.
                if (A @ x - right).norm() <= SOLVED * right.norm():
                    return x.to(b.dtype)
        return None

    def _divided(self):
        """Inverse by division by the symbol; None if the symbol has zeros, or the bases do not span the whole space."""
        bases, size = (*self.outputs, *self.inputs), self.symbol.abs()
        if any(X.shape[0] != X.shape[1] or torch.linalg.cond(X) > _WELL_CONDITIONED for X in bases):
            return None
        if size.min() <= torch.finfo(self.dtype).eps * size.max():
            return None
        outputs, inputs = ([torch.linalg.inv(X).mT for X in side] for side in (self.inputs, self.outputs))
        return DiagonalizedOperator(outputs, inputs, 1 / self.symbol)
