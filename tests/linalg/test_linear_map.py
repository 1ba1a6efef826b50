"""Properties of every linear map, against dense twins: the tests of a class of maps inherit them, and make examples."""

from math import prod

import numpy as np
import pytest
import torch
from scipy.linalg import LinAlgWarning
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator

from sklearn_hss.linalg import (
    DiagonalizedOperator,
    HSSMatrix,
    KroneckerProductSum,
    LinearMap,
    LowRankOperator,
    OperatorProduct,
    OperatorSum,
    SparseInverse,
    SparseMatrix,
)

GRIDS = [((6, 5), (6, 5)), ((6, 5), (4, 7)), ((5,), (5,)), ((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4, 3, 3))]
SQUARE = [grids for grids in GRIDS if grids[0] == grids[1]]


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def kron(matrices):
    result = torch.ones(1, 1, dtype=matrices[0].dtype)
    for A in matrices:
        result = torch.kron(result, A.contiguous())
    return result


def close(actual, expected, tol=1e-11):
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=tol, atol=tol)


def pytest_generate_tests(metafunc):
    if "grids" in metafunc.fixturenames:
        metafunc.parametrize("grids", metafunc.cls.grids, ids=str)


class LinearMapTests:
    grids = GRIDS
    structure = None, None, None
    # Whether it holds arrays that do not count: padding, or what follows from others.
    holds_more = False

    def make(self, grid_in, grid_out):
        """A map of the class between fields on these grids, and its dense twin, made without it."""
        raise NotImplementedError

    @pytest.fixture
    def pair(self, grids):
        return self.make(*grids)

    def test_dense_twin(self, pair, grids):
        A, twin = pair
        assert isinstance(A, LinearMap)
        assert (A.grid_in, A.grid_out) == grids
        assert A.shape == tuple(twin.shape)
        assert (A.dtype, A.device) == (torch.float64, torch.device("cpu"))
        close(A.to_dense(), twin)
        assert A.structure == self.structure
        assert repr(A).startswith(type(A).__name__) or type(A).__repr__ is object.__repr__

    @pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3), (0,)])
    def test_batches_of_fields(self, pair, batch):
        A, twin = pair
        fields = randn(*batch, *A.grid_in, seed=3)
        expected = (fields.flatten(-len(A.grid_in)) @ twin.mT).view(*batch, *A.grid_out)
        close(A.apply(fields), expected)
        result = A.apply(np.asfortranarray(fields.numpy()))
        assert isinstance(result, np.ndarray)
        close(result, expected)

    def test_products(self, pair):
        A, twin = pair
        n_rows, n = A.shape
        x, X = randn(n, seed=3), randn(n, 4, seed=4)
        for operand in (x, X, X[:, :1], X[:, ::2], X[:, :0], randn(4, n).mT, randn(2, n, 3)):
            close(A @ operand, twin @ operand)
            result = A @ operand.numpy()
            assert isinstance(result, np.ndarray)
            close(result, twin @ operand)
        close(A @ np.ones(n, dtype=np.int64), twin.sum(1))
        for operand in (randn(n_rows), randn(3, n_rows)):
            close(operand @ A, operand @ twin)
            result = operand.numpy() @ A
            assert isinstance(result, np.ndarray)
            close(result, operand @ twin)

    def test_transpose(self, pair):
        A, twin = pair
        assert (A.T.grid_in, A.T.grid_out) == (A.grid_out, A.grid_in)
        close(A.T.to_dense(), twin.mT)
        close(A.T.T.to_dense(), twin)
        x, y = randn(*A.grid_in), randn(*A.grid_out, seed=1)
        close((A.apply(x) * y).sum(), (x * A.T.apply(y)).sum())

    def test_multiples(self, pair):
        A, twin = pair
        for c in (3, -0.5, 0, np.float64(2), np.int64(2), torch.tensor(0.25)):
            close((c * A).to_dense(), float(c) * twin)
            close((A * c).to_dense(), float(c) * twin)
        close((-A / 4).to_dense(), -twin / 4)
        close(A.to_dense(), twin)  # the map itself has not changed

    def test_solutions(self, pair):
        A, twin = pair
        inverse = torch.linalg.pinv(twin, rtol=1e-10)
        b = twin @ randn(A.shape[1], 2, seed=7)
        for right in (b, b[:, :0], torch.stack([b, 0 * b])):
            close(A.solve(right), inverse @ right, 1e-7)
        result = A.solve(b[:, 0].numpy())
        assert isinstance(result, np.ndarray)
        close(result, inverse @ b[:, 0], 1e-7)
        single = A.to(torch.float32).solve(b[:, 0].float())
        assert single.dtype == torch.float32
        assert (A @ single.double() - b[:, 0]).norm() < 1e-4 * b[:, 0].norm()
        with pytest.raises(ValueError, match=rf"with {len(b) + 1} rows does not fit this {type(A).__name__} with"):
            A.solve(randn(len(b) + 1))

    def test_outputs_of_no_input(self, pair):
        A, twin = pair
        u, s, _ = torch.linalg.svd(twin)
        none = u[:, int((s > 1e-10 * s[0]).sum()) :]
        if not none.shape[1]:
            return
        b = twin @ randn(A.shape[1])
        with pytest.warns(LinAlgWarning, match=r"not in the range of the operator: .* residual of 7\.1e-01") as record:
            x = A.solve(b / b.norm() + none[:, 0])
        assert record[0].filename == __file__
        close(x, torch.linalg.pinv(twin, rtol=1e-10) @ b / b.norm(), 1e-7)

    def test_gradients(self):
        A, _ = self.make(*self.grids[0])
        tensors = []

        def collect(x):
            tensors.append(x.detach().clone().requires_grad_())
            return x

        def apply(fields, *parts):
            parts = iter(parts)
            return A._rebuilt(lambda _: next(parts)).apply(fields)

        A._rebuilt(collect)
        fields = randn(2, *A.grid_in).requires_grad_()
        assert torch.autograd.gradcheck(apply, (fields, *tensors), fast_mode=True)
        assert not A._rebuilt(lambda x: x.detach().requires_grad_()).detach().apply(fields.detach()).requires_grad

    def test_types_and_devices(self, pair):
        A, _ = pair
        B, fields = A.to(torch.float32), randn(2, *A.grid_in)
        assert B.dtype == torch.float32
        result = B.apply(fields.float())
        assert result.dtype == torch.float32
        assert (B @ fields[0].flatten().numpy()).dtype == np.float32
        assert 1e-10 < (result.double() - A.apply(fields)).norm() / A.apply(fields).norm() < 1e-5
        for wrong in (torch.complex64, torch.float16, torch.int64):
            with pytest.raises(TypeError, match=f"Only float32 and float64 matrices are supported, not {wrong}"):
                A.to(wrong)
        there = A.to("meta")
        assert there.device.type == there.apply(fields.to("meta")).device.type == "meta"
        if torch.cuda.is_available():
            there = A.to("cuda")
            assert there.apply(fields.cuda()).is_cuda
            close(there.apply(fields.cuda()).cpu(), A.apply(fields))
            close(there.T.to_dense().cpu(), A.to_dense().mT)
            if A.grid_in == A.grid_out:
                b = A @ randn(A.shape[1])
                close(there.solve(b.cuda()).cpu(), A.solve(b), 1e-7)

    def test_files(self, pair, tmp_path):
        A, _ = pair
        fields = randn(2, *A.grid_in)
        for B in (A, A.T.T, 2 * A, A.to(torch.float32)):
            B.save(tmp_path / "map")
            for loaded in (LinearMap.load(tmp_path / "map"), type(A).load(str(tmp_path / "map"), device="cpu")):
                assert type(loaded) is type(A)
                assert loaded.n_parameters == B.n_parameters
                assert torch.equal(loaded.apply(fields.to(B.dtype)), B.apply(fields.to(B.dtype)))
        assert LinearMap.load(tmp_path / "map", device="meta").device.type == "meta"

    def test_number_of_parameters(self, pair, tmp_path):
        A, _ = pair
        A.save(tmp_path / "map")
        with np.load(tmp_path / "map", allow_pickle=False) as file:
            stored = sum(file[name].size for name in file if file[name].dtype.kind in "fc")
        assert A.n_parameters < stored if self.holds_more else A.n_parameters == stored
        assert A.n_parameters == A.T.n_parameters == (2 * A).n_parameters == A.to(torch.float32).n_parameters

    def test_operators_of_scipy(self, pair):
        A, twin = pair
        L, twin = A.aslinearoperator(), twin.numpy()
        assert isinstance(L, LinearOperator)
        assert (L.shape, L.dtype) == (A.shape, np.float64)
        x, y = randn(A.shape[1], 2).numpy(), randn(A.shape[0], 2, seed=1).numpy()
        close(L.matvec(x[:, 0]), twin @ x[:, 0])
        close(L.rmatvec(y[:, 0]), twin.T @ y[:, 0])
        close(L.matmat(x), twin @ x)
        close(L.rmatmat(y), twin.T @ y)

    def test_additions_of_low_rank(self, pair):
        A, twin = pair
        outputs, inputs = randn(2, *A.grid_out), randn(2, *A.grid_in, seed=1)
        B = A.with_low_rank(outputs, inputs)
        close(B.to_dense(), twin + outputs.flatten(1).mT @ inputs.flatten(1))
        close(A.with_low_rank(outputs, inputs, coarsen=True).to_dense(), B.to_dense())
        with pytest.raises(ValueError, match=r"terms map between the grids"):
            A.with_low_rank(outputs, randn(2, *A.grid_in, 1))

    def test_units_of_channels(self, pair):
        A, twin = pair
        if type(A)._in_channel_units is LinearMap._in_channel_units:
            with pytest.raises(NotImplementedError, match=f"Maps of type {type(A).__name__} have no mode of channels"):
                A.in_channel_units(None, None)
            return
        rows, columns = randn(A.grid_out[0]), randn(A.grid_in[0], seed=1)
        left, right = (v.repeat_interleave(n // len(v)) for v, n in zip((rows, columns), A.shape, strict=True))
        B = A.in_channel_units(rows, columns)
        close(B.to_dense(), left[:, None] * twin * right)
        assert B.structure[2] == self.structure[2]

    def test_restrictions(self, pair):
        A, twin = pair
        bases = [torch.linalg.qr(randn(n, 1 + n // 2, seed=j))[0] for j, n in enumerate(A.grid_in)]
        close(A.restricted_to(bases).to_dense(), twin @ kron([P @ P.mT for P in bases]))

    def test_impossible_operands(self, pair):
        A, _ = pair
        n, kind = A.shape[1], type(A).__name__
        for wrong in (torch.zeros(n + 1, dtype=torch.float64), np.zeros((n + 1, 2))):
            with pytest.raises(ValueError, match=f"with {n + 1} rows does not fit this {kind} with {n} columns"):
                A @ wrong
        for attempt in (lambda: A @ torch.zeros(n), lambda: A.solve(torch.zeros(A.shape[0]))):
            with pytest.raises(TypeError, match=rf"An operand of torch\.float32 does not fit this {kind}"):
                attempt()
        with pytest.raises(ValueError, match="A scalar does not fit"):
            A @ torch.zeros((), dtype=torch.float64)
        for attempt in (lambda x: A @ x, lambda x: A.apply(x.reshape(A.grid_in))):
            with pytest.raises(TypeError, match="Complex operands are not supported"):
                attempt(np.zeros(n, dtype=complex))
        with pytest.raises(ValueError, match="do not end in the grid"):
            A.apply(np.zeros((*A.grid_in, 2)))
        with pytest.raises(TypeError, match=r"Fields of torch\.float32 do not fit a map of torch\.float64"):
            A.apply(torch.zeros(A.grid_in))
        for wrong in ("x", None, object()):
            with pytest.raises(TypeError):
                A @ wrong


def blocks(n_rows, n_columns):
    """Two diagonal blocks, and rank 2 everywhere."""
    diagonal = [randn(n_rows // 2, n_columns // 2, seed=i) for i in range(2)]
    return torch.block_diag(*diagonal) + randn(n_rows, 2, seed=2) @ randn(2, n_columns, seed=3)


class TestHSSMatrix(LinearMapTests):
    grids = [((16,), (16,)), ((24,), (16,)), ((16,), (24,))]
    structure = 2, 1, None

    def make(self, grid_in, grid_out):
        dense = blocks(*grid_out, *grid_in)
        return HSSMatrix.from_dense(dense, levels=1), dense

    def test_additions_of_low_rank(self, pair):
        super().test_additions_of_low_rank(pair)
        A, _ = pair
        outputs, inputs = randn(1, *A.grid_out), randn(1, *A.grid_in)
        B, C = A.with_low_rank(outputs, inputs), A.with_low_rank(torch.cat([outputs] * 8), torch.cat([inputs] * 8))
        assert (type(B), B.structure, C.structure) == (HSSMatrix, (3, 1, None), (10, 1, None))
        # Leaves of 8 points hold a rank of 4.
        for k, levels in ((2, 1), (3, 0)):
            more = A.with_low_rank(torch.cat([outputs] * k), torch.cat([inputs] * k), coarsen=True)
            assert more.levels == levels

    def test_batches(self):
        A = HSSMatrix.from_dense(torch.stack([blocks(16, 16)] * 2), levels=1)
        with pytest.raises(ValueError, match=r"Fields need one matrix, not a batch of shape \(2,\)"):
            A.apply(randn(16))
        close((A * torch.tensor([1.0, 2.0])).to_dense()[1], 2 * blocks(16, 16))


class TestHSSMatrixWithPadding(LinearMapTests):
    grids = [((13,), (13,)), ((13,), (9,))]
    structure = 7, 2, None
    holds_more = True

    def make(self, grid_in, grid_out):
        dense = randn(*grid_out, *grid_in)
        return HSSMatrix.from_dense(dense, levels=2, tol=0), dense


class TestKroneckerProductSum(LinearMapTests):
    structure = 0, 0, 3

    def make(self, grid_in, grid_out):
        dense = [randn(3, n, m, seed=j) for j, (n, m) in enumerate(zip(grid_out, grid_in, strict=True))]
        A = KroneckerProductSum.from_dense(dense, levels=0)
        return A, sum(kron([W[k] for W in dense]) for k in range(3))


class TestDiagonalizedOperator(LinearMapTests):
    """In real bases that are incomplete in most cases."""

    def make(self, grid_in, grid_out):
        p = tuple(min(sizes) for sizes in zip(grid_in, grid_out, strict=True))
        outputs, inputs = (
            [torch.eye(n, k, dtype=torch.float64) + randn(n, k, seed=seed + j) / 5 for j, (n, k) in enumerate(sizes)]
            for seed, sizes in ((0, zip(grid_out, p, strict=True)), (5, zip(grid_in, p, strict=True)))
        )
        symbol = randn(*p, seed=11)
        symbol = symbol + symbol.sign()
        twin = kron(outputs) @ torch.diag(symbol.reshape(-1)) @ kron([Z.mT for Z in inputs])
        return DiagonalizedOperator(outputs, inputs, symbol), twin


class TestComplexBases(LinearMapTests):
    """The inverse of a Kronecker sum of matrices with complex eigenvalues, which it does not know."""

    grids = SQUARE

    def make(self, grid_in, grid_out):
        matrices = [randn(n, n, seed=j) + 5 * torch.eye(n, dtype=torch.float64) for j, n in enumerate(grid_in)]
        values, outputs = zip(*[torch.linalg.eig(A) for A in matrices], strict=True)
        inputs = [torch.linalg.inv(X).mT for X in outputs]
        total = sum(v.view([-1 if i == j else 1 for i in range(len(grid_in))]) for j, v in enumerate(values))
        twin = torch.linalg.inv(kronecker_sum(matrices))
        return DiagonalizedOperator(outputs, inputs, 1 / total), twin


def kronecker_sum(matrices):
    eyes = [torch.eye(len(A), dtype=torch.float64) for A in matrices]
    return sum(kron([A if i == j else eyes[i] for i in range(len(eyes))]) for j, A in enumerate(matrices))


class TestKnownInverse(LinearMapTests):
    grids = SQUARE
    holds_more = True

    def make(self, grid_in, grid_out):
        matrices = [randn(n, n, seed=j) for j, n in enumerate(grid_in)]
        matrices = [A @ A.mT + torch.eye(len(A)) for A in matrices]
        values, X = zip(*[torch.linalg.eigh(A) for A in matrices], strict=True)
        total = sum(v.view([-1 if i == j else 1 for i in range(len(grid_in))]) for j, v in enumerate(values))
        terms = [
            torch.stack([A if i == j else torch.eye(len(A), dtype=torch.float64) for i in range(len(matrices))])
            for j, A in enumerate(matrices)
        ]
        inverse = KroneckerProductSum.from_dense(terms, levels=0)
        self.structure = 0, 0, len(matrices)
        twin = torch.linalg.inv(kronecker_sum(matrices))
        return DiagonalizedOperator(X, X, 1 / total, inverse), twin


class TestLowRankOperator(LinearMapTests):
    def make(self, grid_in, grid_out):
        outputs, inputs = randn(2, *grid_out), randn(2, *grid_in, seed=1)
        return LowRankOperator(outputs, inputs), outputs.flatten(1).mT @ inputs.flatten(1)


class TestOperatorSum(LinearMapTests):
    def make(self, grid_in, grid_out):
        kinds = TestKroneckerProductSum, TestDiagonalizedOperator, TestLowRankOperator
        parts = [kind().make(grid_in, grid_out) for kind in kinds]
        return OperatorSum([A for A, _ in parts]), sum(twin for _, twin in parts)


class TestOperatorProduct(LinearMapTests):
    """Through fields of two points."""

    def make(self, grid_in, grid_out):
        parts = [TestLowRankOperator().make(grid_in, (2,)), TestLowRankOperator().make((2,), grid_out)]
        (A, a), (B, b) = parts
        return OperatorProduct([B, A]), b @ a


def sparse(n_rows, n_columns, seed=0):
    """A third of the entries of a random matrix."""
    dense = randn(n_rows, n_columns, seed=seed)
    return dense * (randn(n_rows, n_columns, seed=seed + 1).abs() > 1)


def as_sparse(dense, grid_in=None, grid_out=None):
    return SparseMatrix(csr_array(dense.numpy()), grid_in, grid_out)


class TestSparseMatrix(LinearMapTests):
    def make(self, grid_in, grid_out):
        twin = sparse(prod(grid_out), prod(grid_in))
        return as_sparse(twin, grid_in, grid_out), twin


def regular(n):
    return sparse(n, n, seed=2) + 5 * torch.eye(n, dtype=torch.float64)


class TestSparseInverse(LinearMapTests):
    """With a further matrix, which is singular where it is square."""

    def make(self, grid_in, grid_out):
        n, n_in = prod(grid_out), prod(grid_in)
        L, M = regular(n), sparse(n, n_in)
        if n == n_in:
            M = regular(n).mT.clone()
            M[::3], M[:, ::3] = 0, 0
        return SparseInverse(as_sparse(L, grid_out, grid_out), as_sparse(M, grid_in, grid_out)), torch.linalg.inv(L) @ M


class TestSparseInverseOfOneMatrix(LinearMapTests):
    grids = SQUARE

    def make(self, grid_in, grid_out):
        L = regular(prod(grid_in))
        return SparseInverse(as_sparse(L, grid_out, grid_in)), torch.linalg.inv(L)


class TestTransposedSparseInverse(LinearMapTests):
    def make(self, grid_in, grid_out):
        A, twin = TestSparseInverse().make(grid_out, grid_in)
        return A.T, twin.mT


class TestSingularSparseInverse(LinearMapTests):
    """By bordered systems, for two null vectors which are not the same on both sides."""

    grids = SQUARE

    def make(self, grid_in, grid_out):
        L = regular(prod(grid_in))
        L[:, -1], L[:, -2] = L[:, 0], -2 * L[:, 1]
        u, _, v = torch.linalg.svd(L)
        A = SparseInverse(as_sparse(L, grid_out, grid_in), right=v[-2:].mT, left=u[:, -2:])
        return A, torch.linalg.pinv(L, rtol=1e-10)


class Mask(LinearMap):
    """A map of a user: fields times weights, and no more than the contract asks for."""

    _parts = ("weights",)

    def __init__(self, weights):
        self.weights, self.grid_in, self.grid_out = weights, tuple(weights.shape), tuple(weights.shape)

    def _apply(self, fields):
        return self.weights * fields

    def _transposed(self):
        return self

    def _scaled(self, c):
        return Mask(c * self.weights)


class TestMapOfUser(LinearMapTests):
    grids = SQUARE

    def make(self, grid_in, grid_out):
        weights = 1 + randn(*grid_in).abs()
        weights[..., 0] = 0
        return Mask(weights), torch.diag(weights.flatten())
