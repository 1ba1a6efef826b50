"""Linear maps between fields on grids of several dimensions, made of one-dimensional factors."""

from collections.abc import Iterable, Sequence
from math import prod

import torch

from ._building import as_tensor
from ._checks import check_dtype, check_parts, check_rank, check_tolerance, is_factor
from ._hss_matrix import HSSMatrix
from ._operands import as_given, as_linear_operator, as_operand, check_operand, is_array_like


def modal_product(Z, W, mode):
    """Modal product Z x_mode W (Definition A.1 of the Neural-HSS paper).

    Parameters
    ----------
    Z : Tensor
    W : Tensor of shape (rows, columns)
    mode : int
        Dimension of Z that has the size ``columns``; from the end if negative.

    Returns
    -------
    Tensor
        Like Z, with ``rows`` in that dimension.
    """
    return (Z.movedim(mode, -1) @ W.mT).movedim(-1, mode)


def multilinear(Z, matrices):
    """Modal products with one matrix per mode, over the last dimensions of Z."""
    for mode, W in enumerate(matrices, -len(matrices)):
        Z = modal_product(Z, W, mode)
    return Z


class FieldOperator:
    """A linear map between fields on two grids; as a matrix it acts on fields flattened in C order.

    A subclass has the attributes ``grid_in``, ``grid_out``, ``dtype`` and ``device`` and the methods ``_apply``, on
    fields in the last dimensions of a tensor, ``_transposed``, ``_converted`` and ``_scaled``.
    """

    grid_in: tuple[int, ...]
    grid_out: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def apply(self, Z):
        """Apply the map to fields.

        Parameters
        ----------
        Z : Tensor or array-like of shape (\\*batch, \\*grid_in)
            Fields. Tensors must be of the type of the map.

        Returns
        -------
        Tensor or ndarray of shape (\\*batch, \\*grid_out)
            A tensor if `Z` is one.

        Raises
        ------
        ValueError
            If the fields are not on the grid.
        TypeError
            If they are complex, or tensors of another type.
        """
        Z, was_array = as_operand(Z, self)
        if tuple(Z.shape[-len(self.grid_in) :]) != self.grid_in:
            raise ValueError(f"Fields of shape {tuple(Z.shape)} do not end in the grid {self.grid_in} of the map.")
        if Z.dtype != self.dtype:
            raise TypeError(f"Fields of {Z.dtype} do not fit a map of {self.dtype}; convert one of them.")
        return as_given(self._apply(Z), was_array)

    def _apply(self, Z):
        raise NotImplementedError

    def to(self, *args, **kwargs):
        """Convert type or device, with the arguments of :meth:`torch.Tensor.to`.

        Parameters
        ----------
        *args, **kwargs
            Such as ``torch.float32`` or ``"cuda"``.

        Returns
        -------
        FieldOperator
            Of the same kind.

        Raises
        ------
        TypeError
            For types other than float32 and float64.
        """

        def convert(X):
            X = X.to(*args, **kwargs)
            check_dtype(X.dtype)
            return X

        return self._converted(convert)

    def _converted(self, convert):
        raise NotImplementedError

    def _transposed(self):
        raise NotImplementedError

    def _scaled(self, c):
        raise NotImplementedError

    def __mul__(self, c):
        """Multiple by a number."""
        if not is_factor(c) or (isinstance(c, torch.Tensor) and c.ndim):
            return NotImplemented
        return self._scaled(c if isinstance(c, torch.Tensor) else float(c))

    __rmul__ = __mul__

    def _with_channels_in(self, rows, columns):
        """The map between fields whose first mode, the channels, is in other units, by factors of rows and columns."""
        raise NotImplementedError

    @property
    def n_parameters(self) -> int:
        """Numbers that the map is stored in."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns: points of the grids."""
        return prod(self.grid_out), prod(self.grid_in)

    @property
    def T(self):
        """Transpose, that shares the factors."""
        return self._transposed()

    # NumPy must leave `array @ A` alone, instead of making an array of objects of A.
    __array_ufunc__ = None

    def __matmul__(self, x):
        """Product with a flat field (n_columns,) or with several in columns (n_columns, k), array-like or tensor."""
        if not is_array_like(x):
            return NotImplemented
        x, was_array = as_operand(x, self)
        check_operand(x, self.dtype, self.shape[1], f"a {type(self).__name__}")
        if x.ndim == 1:
            y = self._apply(x.reshape(self.grid_in)).reshape(-1)
        else:
            y = self._apply(x.mT.reshape(*x.shape[:-2], -1, *self.grid_in)).flatten(-len(self.grid_out)).mT
        return as_given(y, was_array)

    def to_dense(self) -> torch.Tensor:
        """Expand to a dense matrix.

        Returns
        -------
        Tensor of shape (n_rows, n_columns)
        """
        return self @ torch.eye(self.shape[1], dtype=self.dtype, device=self.device)

    def aslinearoperator(self):
        """Return SciPy's view of the map, for its iterative solvers.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator
            With products with the matrix and its transpose.
        """
        return as_linear_operator(self.shape, self.dtype, self.__matmul__, self.T.__matmul__)


class KroneckerSum(FieldOperator):
    """Sum of Kronecker products of HSS matrices: the m-dimensional HSS map of eq. (1) of the Neural-HSS paper.

    A field Z is mapped to H(Z) = sum_k Z x_1 W1⁽ᵏ⁾ x_2 ... x_m Wm⁽ᵏ⁾, so that on fields flattened in C order, the
    matrix is sum_k W1⁽ᵏ⁾ ⊗ ... ⊗ Wm⁽ᵏ⁾. Storage is O(outer_rank (n_1 + ... + n_m) rank).

    Parameters
    ----------
    factors : sequence of HSSMatrix
        One per mode, each a batch of `outer_rank` matrices of that mode.

    Attributes
    ----------
    factors : tuple of HSSMatrix
        The same.
    grid_in, grid_out : tuple of int
        Grids of the fields.
    outer_rank : int
        Number of terms.
    rank, levels : tuple of int
        HSS rank and depth of the cluster tree per mode.
    n_parameters : int
        Number of generator entries, padding left out.
    dtype, device
        Those of the generators.

    Raises
    ------
    ValueError
        If the factors are not batches of equal size.
    TypeError
        If they are no HSS matrices of one type on one device.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import KroneckerSum
    >>> L = torch.diag(torch.full((16,), 2.0)) - torch.diag(torch.ones(15), 1) - torch.diag(torch.ones(15), -1)
    >>> first, second = torch.stack([L, torch.eye(16)]), torch.stack([torch.eye(16), L])
    >>> laplacian = KroneckerSum.from_dense([first, second], levels=1)
    >>> laplacian
    KroneckerSum(grid_in=(16, 16), grid_out=(16, 16), outer_rank=2, rank=(1, 1), levels=(1, 1), n_parameters=656)
    >>> laplacian.apply(torch.ones(16, 16))[0, 0]
    tensor(2.)
    """

    def __init__(self, factors: Sequence[HSSMatrix]) -> None:
        self.factors = tuple(factors)
        for W in self.factors:
            if not isinstance(W, HSSMatrix):
                raise TypeError(f"factors must be HSS matrices, not of type {type(W).__name__}.")
        batches = [W.batch_shape for W in self.factors]
        if not batches or any(len(batch) != 1 or batch != batches[0] for batch in batches):
            raise ValueError(
                f"factors have the batch shapes {batches}; every mode needs one batch of outer_rank matrices."
            )
        check_parts(self.factors, "The factors of a KroneckerSum")

    @classmethod
    def from_dense(
        cls,
        factors: Iterable,
        tol: float = 1e-13,
        rank: int | Sequence[int] | None = None,
        levels: int | str | Sequence[int | str] = "auto",
    ) -> "KroneckerSum":
        """Compress dense factors.

        Parameters
        ----------
        factors : sequence of Tensors or array-likes of shape (outer_rank, rows, columns)
            One per mode.
        tol : float, default=1e-13
            Relative size of the singular values to drop from blocks.
        rank : int or one per mode, default=None
            Largest HSS rank, whatever `tol` says.
        levels : int or "auto" or one per mode, default="auto"
            Depth of the cluster trees. "auto" is as deep as saves numbers, which may be no tree at all.

        Returns
        -------
        KroneckerSum
        """
        check_tolerance(tol)
        factors = [as_tensor(W, f"factors[{i}]", 3) for i, W in enumerate(factors)]
        ranks, depths = per_mode(rank, len(factors)), per_mode(levels, len(factors))
        return cls([_compressed(W, tol, *how) for W, *how in zip(factors, ranks, depths, strict=True)])

    @property
    def grid_in(self) -> tuple[int, ...]:  # type: ignore[override]
        """Sizes of the inputs."""
        return tuple(W.shape[-1] for W in self.factors)

    @property
    def grid_out(self) -> tuple[int, ...]:  # type: ignore[override]
        """Sizes of the outputs."""
        return tuple(W.shape[-2] for W in self.factors)

    @property
    def outer_rank(self) -> int:
        """Number of terms."""
        return self.factors[0].batch_shape[0]

    @property
    def rank(self) -> tuple[int, ...]:
        """HSS rank per mode."""
        return tuple(W.rank for W in self.factors)

    @property
    def levels(self) -> tuple[int, ...]:
        """Depth of the cluster tree per mode."""
        return tuple(W.levels for W in self.factors)

    @property
    def n_parameters(self) -> int:
        """Number of generator entries, padding left out."""
        return sum(W.n_parameters for W in self.factors)

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Type of the generators."""
        return self.factors[0].dtype

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Device of the generators."""
        return self.factors[0].device

    def __repr__(self) -> str:
        return (
            f"KroneckerSum(grid_in={self.grid_in}, grid_out={self.grid_out}, outer_rank={self.outer_rank}, "
            f"rank={self.rank}, levels={self.levels}, n_parameters={self.n_parameters})"
        )

    def _apply(self, Z):
        # One mode is small, so that products with its dense matrices are faster than with its generators.
        dense = [W.to_dense() for W in self.factors]
        result = multilinear(Z, [W[0] for W in dense])
        for k in range(1, self.outer_rank):
            result = result + multilinear(Z, [W[k] for W in dense])
        return result

    def _with_channels_in(self, rows, columns):
        channels = HSSMatrix.from_dense(rows[:, None] * self.factors[0].to_dense() * columns, levels=0)
        return KroneckerSum([channels, *self.factors[1:]])

    def _transposed(self):
        return KroneckerSum([W.T for W in self.factors])

    def _scaled(self, c):
        return KroneckerSum([c * self.factors[0], *self.factors[1:]])

    def truncate(self, tol: float = 1e-12, rank: int | None = None) -> "KroneckerSum":
        """Return a sum with factors of smaller HSS rank, as :meth:`HSSMatrix.truncate` does it to each.

        Parameters
        ----------
        tol : float, default=1e-12
            Relative size of the singular values to drop.
        rank : int, default=None
            Largest rank to keep.

        Returns
        -------
        KroneckerSum
        """
        return KroneckerSum([W.truncate(tol, rank) for W in self.factors])

    def _converted(self, convert):
        return KroneckerSum([convert(W) for W in self.factors])


class SymbolOperator(FieldOperator):
    """Map that is diagonal in a product basis: the inverse of a separable operator by fast diagonalisation.

    A field Z is mapped to (G o (Z x_1 Z1ᵀ ... x_m Zmᵀ)) x_1 X1 ... x_m Xm: analysis with the columns of Z1, ..., Zm,
    multiplication by the symbol G, synthesis from the columns of X1, ..., Xm. The inverse of a Kronecker sum
    A ⊗ I + I ⊗ B is of this form, with the eigenvectors of A and B and G[i, j] = 1 / (lambda_i + mu_j) (Lynch, Rice and
    Thomas 1964). It costs no more than one Kronecker product of dense factors.

    Parameters
    ----------
    outputs : sequence of Tensors of shape (n_out, p)
        X1, ..., Xm, real or complex.
    inputs : sequence of Tensors of shape (n_in, p)
        Z1, ..., Zm.
    symbol : Tensor of shape (p_1, ..., p_m)
        G.
    inverse : KroneckerSum, default=None
        The operator that this one inverts, where there is one.

    Attributes
    ----------
    outputs, inputs, symbol, inverse
        The same.
    grid_in, grid_out : tuple of int
        Grids of the fields.
    n_parameters : int
        Numbers that determine the map: the generator entries of `inverse`, else the entries of bases and symbol.
    dtype, device
        Type of the fields, float32 or float64, and device.

    Raises
    ------
    ValueError
        If bases and symbol are of different sizes.
    TypeError
        If they are not of one precision on one device, or the symbol of complex bases is real.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import SymbolOperator
    >>> X = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    >>> A = SymbolOperator([X, X], [X, X], torch.ones(8, 8, dtype=torch.float64))
    >>> torch.allclose(A.to_dense(), torch.eye(64, dtype=torch.float64))
    True
    """

    def __init__(
        self,
        outputs: Sequence[torch.Tensor],
        inputs: Sequence[torch.Tensor],
        symbol: torch.Tensor,
        inverse: KroneckerSum | None = None,
    ) -> None:
        self.outputs, self.inputs, self.symbol, self.inverse = tuple(outputs), tuple(inputs), symbol, inverse
        bases = (*self.outputs, *self.inputs)
        check_parts([X.real for X in (symbol, *bases)], "Bases and symbol of a SymbolOperator")
        if not symbol.is_complex() and any(X.is_complex() for X in bases):
            raise TypeError("symbol must be complex where bases are, which come in pairs of conjugates.")
        sizes = [tuple(X.shape[1] for X in bases) for bases in (self.outputs, self.inputs)]
        if any(size != tuple(symbol.shape) for size in sizes):
            raise ValueError(
                f"symbol has shape {tuple(symbol.shape)}, but the bases have {sizes[0]} and {sizes[1]} columns."
            )

    @property
    def grid_in(self) -> tuple[int, ...]:  # type: ignore[override]
        """Sizes of the inputs."""
        return tuple(len(X) for X in self.inputs)

    @property
    def grid_out(self) -> tuple[int, ...]:  # type: ignore[override]
        """Sizes of the outputs."""
        return tuple(len(X) for X in self.outputs)

    @property
    def n_parameters(self) -> int:
        """Numbers that determine the map."""
        if self.inverse is not None:
            return self.inverse.n_parameters
        return sum(X.numel() for X in (*self.outputs, *self.inputs, self.symbol))

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Type of the fields."""
        return self.symbol.real.dtype

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Device of the bases."""
        return self.symbol.device

    def __repr__(self) -> str:
        what = f"symbol={tuple(self.symbol.shape)}" if self.inverse is None else f"inverse={self.inverse!r}"
        return f"SymbolOperator(grid_in={self.grid_in}, grid_out={self.grid_out}, {what})"

    def _apply(self, Z):
        kind = self.symbol.dtype
        coefficients = multilinear(Z.to(kind), [X.mT.to(kind) for X in self.inputs])
        field = multilinear(self.symbol * coefficients, [X.to(kind) for X in self.outputs])
        return field.real if kind.is_complex else field

    def _with_channels_in(self, rows, columns):
        inverse = None if self.inverse is None else self.inverse._with_channels_in(1 / columns, 1 / rows)
        outputs, inputs = (
            [factor[:, None] * bases[0], *bases[1:]] for factor, bases in ((rows, self.outputs), (columns, self.inputs))
        )
        return SymbolOperator(outputs, inputs, self.symbol, inverse)

    def _transposed(self):
        return SymbolOperator(self.inputs, self.outputs, self.symbol, None if self.inverse is None else self.inverse.T)

    def _scaled(self, c):
        inverse = None if self.inverse is None or c == 0 else (1 / c) * self.inverse
        return SymbolOperator(self.outputs, self.inputs, self.symbol * c, inverse)

    def _converted(self, convert):
        def move(X):
            return torch.complex(convert(X.real), convert(X.imag)) if X.is_complex() else convert(X)

        inverse = None if self.inverse is None else self.inverse._converted(convert)
        outputs, inputs = [move(X) for X in self.outputs], [move(X) for X in self.inputs]
        return SymbolOperator(outputs, inputs, move(self.symbol), inverse)


class LowRankOperator(FieldOperator):
    """Map of low rank between fields, such as ridge regression on few samples.

    Parameters
    ----------
    outputs, inputs : Tensors of shape (rank, \\*grid_out) and (rank, \\*grid_in)
        Fields: an input is mapped to the sum of the outputs times its inner products with the inputs.

    Attributes
    ----------
    outputs, inputs
        The same.
    grid_in, grid_out : tuple of int
        Grids of the fields.
    n_parameters : int
        Number of entries.
    dtype, device
        Those of the fields.

    Raises
    ------
    ValueError
        If there are not as many outputs as inputs.
    TypeError
        If they are not of one type, float32 or float64, on one device.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import LowRankOperator
    >>> mean = LowRankOperator(torch.ones(1, 4, 4), torch.full((1, 4, 4), 1 / 16))
    >>> mean.apply(torch.arange(16.0).view(4, 4))[0, 0]
    tensor(7.5000)
    """

    def __init__(self, outputs: torch.Tensor, inputs: torch.Tensor) -> None:
        check_parts((outputs, inputs), "Outputs and inputs of a LowRankOperator")
        if len(outputs) != len(inputs):
            raise ValueError(
                f"There are {len(outputs)} outputs and {len(inputs)} inputs; there must be as many of both."
            )
        self.outputs, self.inputs = outputs, inputs
        self.grid_out, self.grid_in = tuple(outputs.shape[1:]), tuple(inputs.shape[1:])
        self.dtype, self.device = outputs.dtype, outputs.device

    @property
    def n_parameters(self) -> int:
        """Number of entries."""
        return self.outputs.numel() + self.inputs.numel()

    def __repr__(self) -> str:
        return f"LowRankOperator(grid_in={self.grid_in}, grid_out={self.grid_out}, rank={len(self.outputs)})"

    def _apply(self, Z):
        coefficients = Z.flatten(-len(self.grid_in)) @ self.inputs.flatten(1).mT
        return (coefficients @ self.outputs.flatten(1)).unflatten(-1, self.grid_out)

    def _with_channels_in(self, rows, columns):
        outputs, inputs = (
            torch.einsum("c,kc...->kc...", factor, fields)
            for factor, fields in ((rows, self.outputs), (columns, self.inputs))
        )
        return LowRankOperator(outputs, inputs)

    def _transposed(self):
        return LowRankOperator(self.inputs, self.outputs)

    def _scaled(self, c):
        return LowRankOperator(c * self.outputs, self.inputs)

    def _converted(self, convert):
        return LowRankOperator(convert(self.outputs), convert(self.inputs))


class OperatorSum(FieldOperator):
    """Sum of maps between the same grids.

    Parameters
    ----------
    terms : sequence of FieldOperator
        At least one.

    Attributes
    ----------
    terms : tuple of FieldOperator
        The same.
    grid_in, grid_out : tuple of int
        Grids of the fields.
    n_parameters : int
        Sum of those of the terms.
    dtype, device
        Type of the fields, and device.

    Raises
    ------
    ValueError
        If there are no terms, or some on different grids.
    TypeError
        If they are not of one type on one device.

    Examples
    --------
    >>> import torch
    >>> from sklearn_hss.linalg import KroneckerSum, OperatorSum
    >>> identity = KroneckerSum.from_dense([torch.eye(4)[None], torch.eye(4)[None]])
    >>> OperatorSum([identity, identity]).apply(torch.ones(4, 4))[0, 0]
    tensor(2.)
    """

    def __init__(self, terms: Sequence[FieldOperator]) -> None:
        self.terms = tuple(terms)
        grids = [(term.grid_in, term.grid_out) for term in self.terms]
        if not grids or any(grid != grids[0] for grid in grids):
            raise ValueError(f"terms map between the grids {grids}; there must be at least one, and all the same.")
        check_parts(self.terms, "The terms of an OperatorSum")
        self.grid_in, self.grid_out = grids[0]
        self.dtype, self.device = self.terms[0].dtype, self.terms[0].device

    @property
    def n_parameters(self) -> int:
        """Sum of those of the terms."""
        return sum(term.n_parameters for term in self.terms)

    def __repr__(self) -> str:
        return f"OperatorSum([{', '.join(map(repr, self.terms))}])"

    def _apply(self, Z):
        return torch.stack([term.apply(Z) for term in self.terms]).sum(0)

    def _with_channels_in(self, rows, columns):
        return OperatorSum([term._with_channels_in(rows, columns) for term in self.terms])

    def _transposed(self):
        return OperatorSum([term.T for term in self.terms])

    def _scaled(self, c):
        return OperatorSum([c * term for term in self.terms])

    def _converted(self, convert):
        return OperatorSum([term._converted(convert) for term in self.terms])


def per_mode(value, n_modes):
    """One value per mode, from one for all or a sequence."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * n_modes


def _compressed(W, tol, rank, levels):
    """Batch of HSS matrices of a batch of dense ones; without levels, where "auto" finds these to save nothing."""
    check_rank(rank, 0)
    A = HSSMatrix._compress(W, tol, rank, levels)
    if levels == "auto" and A.n_parameters >= W.numel():
        return HSSMatrix._compress(W, 0, None, 0)
    return A
