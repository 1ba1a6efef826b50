"""One door for types: matrices are of float32 or float64, made in whatever mode of torch, and of a size that fits."""

import numpy as np
import pytest
import torch

from sklearn_hss.linalg import (
    ClusterTree,
    DiagonalizedOperator,
    HSSMatrix,
    KroneckerProductSum,
    LowRankOperator,
    OperatorSum,
    ULVFactor,
)

TREE = ClusterTree(40, 2)
WRONG = [torch.complex64, torch.complex128, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool]
REFUSAL = "Only float32 and float64 matrices are supported, not "


def random_hss(dtype=torch.float64, batch_shape=()):
    generator = torch.Generator().manual_seed(0)
    return HSSMatrix.random(TREE, TREE, 2, generator=generator, dtype=dtype, batch_shape=batch_shape)


def randn(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def operators():
    kronecker = KroneckerProductSum.from_dense([randn(2, 4, 4), randn(2, 5, 5)])
    return {
        "KroneckerProductSum": kronecker,
        "DiagonalizedOperator": DiagonalizedOperator(
            [randn(4, 4), randn(5, 5)], [randn(4, 4), randn(5, 5)], randn(4, 5)
        ),
        "LowRankOperator": LowRankOperator(randn(3, 4, 5), randn(3, 4, 5)),
        "OperatorSum": OperatorSum([kronecker, 2 * kronecker]),
    }


@pytest.mark.parametrize("dtype", WRONG, ids=str)
def test_other_types_are_refused_everywhere(dtype):
    A = random_hss()
    generators = [[g.to(dtype) for g in stack] for stack in (A.D, A.U, A.V)]
    for attempt in (
        lambda: HSSMatrix(TREE, TREE, *generators),
        lambda: A.to(dtype),
        lambda: A.to("cpu", dtype=dtype),
        lambda: HSSMatrix.random(TREE, TREE, 2, dtype=dtype),
        lambda: HSSMatrix.identity(40, dtype=dtype),
        lambda: HSSMatrix.from_products(lambda x: x, lambda x: x, (40, 40), dtype=dtype),
        lambda: LowRankOperator(randn(3, 4).to(dtype), randn(3, 4).to(dtype)),
        *(lambda operator=operator: operator.to(dtype) for operator in operators().values()),
    ):
        with pytest.raises(TypeError, match=REFUSAL + str(dtype)):
            attempt()


def test_generators_of_several_types_are_refused():
    A = random_hss()
    for D, U, V in (
        ([A.D[0].float(), *A.D[1:]], A.U, A.V),
        (A.D, [A.U[0], A.U[1].float()], A.V),
        (A.D, A.U, [v.to("meta") for v in A.V]),
    ):
        with pytest.raises(TypeError, match="The generators of an HSSMatrix must have the same type and device; got "):
            HSSMatrix(TREE, TREE, D, U, V)
    with pytest.raises(TypeError, match=f"{REFUSAL}torch.complex128"):
        HSSMatrix(TREE, TREE, A.D, A.U, [v + 1j for v in A.V])
    with pytest.raises(TypeError, match=f"{REFUSAL}float64"):
        HSSMatrix(TREE, TREE, [d.numpy() for d in A.D], A.U, A.V)


def test_parts_of_operators_must_be_of_one_type():
    factors = [HSSMatrix.from_dense(randn(2, 4, 4)), HSSMatrix.from_dense(randn(2, 5, 5).float())]
    kronecker = operators()["KroneckerProductSum"]
    for attempt in (
        lambda: KroneckerProductSum(factors),
        lambda: LowRankOperator(randn(3, 4), randn(3, 4).float()),
        lambda: OperatorSum([kronecker, kronecker.to(torch.float32)]),
        lambda: DiagonalizedOperator([randn(4, 4)], [randn(4, 4)], randn(4).float()),
    ):
        with pytest.raises(TypeError, match=r"must have the same type and device; got torch\.float32 on cpu, "):
            attempt()
    # A real symbol would drop the imaginary part of the bases.
    with pytest.raises(TypeError, match="symbol must be complex if the bases are"):
        DiagonalizedOperator([randn(4, 4) + 1j], [randn(4, 4)], randn(4))
    with pytest.raises(TypeError, match="factors must be HSS matrices, not of type Tensor"):
        KroneckerProductSum([randn(2, 4, 4)])
    with pytest.raises(ValueError, match="There are 3 outputs and 2 inputs"):
        LowRankOperator(randn(3, 4), randn(2, 4))
    with pytest.raises(TypeError, match="A must be an HSSMatrix, not of type ndarray"):
        ULVFactor(np.eye(3))


@pytest.mark.parametrize("c", [1j, np.complex64(1), np.complex128(1), True, np.bool_(True), torch.tensor(1j)], ids=repr)
def test_factors_that_are_no_real_numbers_are_refused(c):
    for A in (random_hss(), *operators().values()):
        with pytest.raises(TypeError, match="A matrix can be multiplied by real numbers, not by"):
            A * c
        with pytest.raises(TypeError, match="A matrix can be multiplied by real numbers, not by"):
            c * A
    with pytest.raises(TypeError, match="A matrix can be multiplied by real numbers, not by"):
        random_hss() / c


@pytest.mark.parametrize("c", ["a", None, [2.0], np.ones(2)], ids=repr)
def test_factors_that_are_no_numbers_are_refused(c):
    for A in (random_hss(), *operators().values()):
        for attempt in (lambda A=A: A * c, lambda A=A: c * A):
            with pytest.raises(TypeError):
                attempt()


def test_tensors_of_one_number_are_factors_with_gradients():
    c, x = torch.tensor(2.0, requires_grad=True), randn(20)
    for A in operators().values():
        (gradient,) = torch.autograd.grad(((c * A) @ x).sum(), c)
        torch.testing.assert_close(gradient.double(), (A @ x).sum())
        with pytest.raises(TypeError):
            A * torch.ones(2)


def test_builders_keep_float32_and_turn_other_types_into_float64():
    builders = {
        "dense": lambda kind: HSSMatrix.from_dense(kind(np.eye(4))),
        "banded": lambda kind: HSSMatrix.from_banded((0, 0), kind(np.ones((1, 4)))),
        "toeplitz": lambda kind: HSSMatrix.from_toeplitz(kind(np.arange(4))),
        "low rank": lambda kind: HSSMatrix.from_low_rank(kind(np.ones((4, 1))), kind(np.ones((4, 1)))),
        "diagonal": lambda kind: HSSMatrix.from_diagonal(kind(np.ones(4))),
        "kernel": lambda kind: HSSMatrix.from_kernel(np.arange(4), lambda X, Y: kind(X @ Y.T))[0],
        "kronecker": lambda kind: KroneckerProductSum.from_dense([kind(np.ones((1, 4, 4)))]),
    }
    for name, build in builders.items():
        for numpy_dtype in (np.float32, np.float64, np.float16, np.int32, np.uint8, np.longdouble):
            expected = torch.float32 if numpy_dtype == np.float32 else torch.float64
            assert build(lambda x, dtype=numpy_dtype: x.astype(dtype)).dtype == expected, name
        for dtype in (torch.float32, torch.float64, torch.float16, torch.int32):
            expected = torch.float32 if dtype == torch.float32 else torch.float64
            assert build(lambda x, dtype=dtype: torch.as_tensor(x).to(dtype)).dtype == expected, name
        with pytest.raises(TypeError, match=r"Complex matrices are not supported, but .* is complex"):
            build(lambda x: x.astype(complex))
    assert HSSMatrix.from_low_rank(np.ones((4, 1), np.float32), np.ones((4, 1))).dtype == torch.float64


# Modes of torch

OPERATIONS = {
    "product": lambda A, x, path: A @ x,
    "product from the left": lambda A, x, path: x.mT @ A,
    "solve": lambda A, x, path: A.solve(x),
    "transposed solve": lambda A, x, path: A.factor().solve_transposed(x),
    "inverse": lambda A, x, path: A.inverse() @ x,
    "arithmetic": lambda A, x, path: (2 * A + A @ A - A / 3) @ x,
    "truncate": lambda A, x, path: A.truncate(rank=1) @ x,
    "coarsen": lambda A, x, path: A.coarsen(1) @ x,
    "from products": lambda A, x, path: (
        HSSMatrix.from_products(
            A.__matmul__, A.T.__matmul__, (40, 40), levels=2, generator=torch.Generator().manual_seed(0)
        )
        @ x
    ),
    "from dense": lambda A, x, path: HSSMatrix.from_dense(A.to_dense(), levels=2) @ x,
    "files": lambda A, x, path: (A.save(path), HSSMatrix.load(path) @ x)[1],
    "slogdet": lambda A, x, path: torch.stack(A.slogdet()),
    "entries": lambda A, x, path: A[3:5, ::2],
    "diagonal": lambda A, x, path: A.diagonal(),
    "norms": lambda A, x, path: torch.stack([A.norm(), A.norm(2)]),
    "float32": lambda A, x, path: A.to(torch.float32) @ x.float(),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_works_in_every_mode(name, mode, tmp_path):
    def operate(A, x):
        return OPERATIONS[name](A, x, tmp_path / "A")

    def make():
        # One whose generators are results of operations.
        return random_hss() + 2 * HSSMatrix.identity(40, levels=2)

    # The same numbers, from a matrix that no mode has seen.
    expected = operate(make(), randn(40, 3))
    with mode():
        A, x = make(), randn(40, 3)
        within = operate(A, x)
    torch.testing.assert_close(within.clone(), expected)
    # Made within, used outside; where it has operated before, and where it has not; with gradients.
    with mode():
        fresh = make()
    for matrix in (A, fresh):
        y = randn(40, 3).requires_grad_()
        result = operate(matrix, y)
        torch.testing.assert_close(result.detach(), expected)
        if result.requires_grad:
            result.sum().backward()
            assert y.grad is not None
    # Made outside, used within.
    outside = make()
    with mode():
        torch.testing.assert_close(operate(outside, randn(40, 3)).clone(), expected)


def test_the_factor_does_not_outlive_changes_of_matrices_made_in_inference_mode():
    with torch.inference_mode():
        A = random_hss() + 2 * HSSMatrix.identity(40, levels=2)
        x = A.solve(randn(40))
        A.D[0].mul_(2)
        assert not torch.allclose(A.solve(randn(40)), x)
        torch.testing.assert_close(A @ A.solve(randn(40)), randn(40))


# Sizes and counts

NO_COUNT = [True, np.True_, 1.5, 1.0, "1", None]


@pytest.mark.parametrize("value", [*NO_COUNT, -1], ids=repr)
def test_counts_must_be_integers(value):
    message = "must be (an integer|at least|between)"
    for attempt in (
        lambda: ClusterTree(value, 0),
        lambda: ClusterTree(8, value),
        lambda: HSSMatrix.identity(value),
        lambda: HSSMatrix.random(TREE, TREE, value),
        lambda: HSSMatrix.random(TREE, TREE, 1, batch_shape=(value,)),
        lambda: random_hss().coarsen(value),
        lambda: TREE.offsets(value),
        lambda: HSSMatrix.from_products(lambda x: x, lambda x: x, (value, 3)),
    ):
        with pytest.raises(ValueError, match=message):
            attempt()


BUILDERS = {
    "dense": lambda **options: HSSMatrix.from_dense(np.eye(40), **options),
    "products": lambda **options: HSSMatrix.from_products(lambda x: x, lambda x: x, (40, 40), **options),
    "toeplitz": lambda **options: HSSMatrix.from_toeplitz(np.arange(40), **options),
    "kernel": lambda **options: HSSMatrix.from_kernel(np.arange(40), lambda X, Y: X @ Y.T, **options),
    "kronecker": lambda **options: KroneckerProductSum.from_dense([np.eye(40)[None]], **options),
    "truncate": lambda **options: random_hss().truncate(**options),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_wrong_parameters_of_builders_are_refused(name):
    build = BUILDERS[name]
    for tol in (-1e-3, 1, float("nan"), None, "x", True):
        with pytest.raises(ValueError, match=f"tol={tol} must be at least 0 and below 1"):
            build(tol=tol)
    # Products with random vectors cannot be without a basis.
    lowest = 1 if name in ("products", "toeplitz") else 0
    for rank in (-1, 1.5, 2.0, True, "x", *([0] if lowest else [])):
        with pytest.raises(ValueError, match=f"rank={rank} must be None or an integer of at least {lowest}"):
            build(rank=rank)
    if name != "truncate":
        for levels in (-1, 1.5, True, "deep"):
            with pytest.raises(ValueError, match=r"levels=.* must be"):
                build(levels=levels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_builders_refuse_what_is_not_finite(value):
    def spoilt(*shape):
        x = np.ones(shape)
        x[(-1,) * len(shape)] = value
        return x

    for name, attempt in {
        "A": lambda: HSSMatrix.from_dense(spoilt(4, 4)),
        "ab": lambda: HSSMatrix.from_banded((1, 0), spoilt(2, 4)),
        "c": lambda: HSSMatrix.from_toeplitz(spoilt(4)),
        "r": lambda: HSSMatrix.from_toeplitz(np.ones(4), spoilt(4)),
        "X": lambda: HSSMatrix.from_low_rank(spoilt(4, 1), np.ones((4, 1))),
        "Y": lambda: HSSMatrix.from_low_rank(np.ones((4, 1)), spoilt(4, 1)),
        "d": lambda: HSSMatrix.from_diagonal(spoilt(4)),
        "points": lambda: HSSMatrix.from_kernel(spoilt(4, 2), lambda X, Y: X @ Y.T),
        "kernel": lambda: HSSMatrix.from_kernel(np.ones((4, 2)), lambda X, Y: spoilt(4, 4)),
        r"factors\[1\]": lambda: KroneckerProductSum.from_dense([np.ones((1, 2, 2)), spoilt(1, 2, 2)]),
    }.items():
        with pytest.raises(ValueError, match=rf"{name}.* must not hold NaN or infinite values"):
            attempt()


def test_sizes_beyond_memory_are_refused_before_anything_is_allocated():
    tree, n = ClusterTree(10**15, 40), 10**6
    for attempt in (
        lambda: HSSMatrix.identity(10**15),
        lambda: HSSMatrix.random(tree, tree, 2),
        lambda: HSSMatrix.random(TREE, TREE, 2, batch_shape=(10**15,)),
        lambda: HSSMatrix.identity(n, levels=0),
        lambda: HSSMatrix.from_diagonal(np.ones(n), levels=0),
        lambda: HSSMatrix.from_low_rank(np.ones((n, 1)), np.ones((n, 1)), levels=0),
        lambda: HSSMatrix.from_banded((0, 0), np.ones((1, n)), levels=0),
        lambda: HSSMatrix.from_kernel(np.zeros(n), None),
        lambda: HSSMatrix.from_products(None.__eq__, None.__eq__, (10**15, 10**15)),
    ):
        with pytest.raises(ValueError, match=r"needs .* GiB of memory, but this machine has .* GiB"):
            attempt()


def test_dense_forms_beyond_memory_are_refused(monkeypatch):
    A = random_hss()
    monkeypatch.setattr("sklearn_hss._memory.machine_memory", lambda: 8 * 1599)
    with pytest.raises(ValueError, match=r"dense form of this HSSMatrix of shape \(40, 40\) needs"):
        A.to_dense()


def test_blocks_take_integers():
    A = random_hss()
    for rows in ([0.0, 1.0], [True, False], np.ones(40, dtype=bool), torch.tensor([0.5]), torch.tensor([True]), ["1"]):
        with pytest.raises((TypeError, ValueError), match=r"rows must hold integers|rows has dtype <U1"):
            A.block(rows, [0])
        with pytest.raises((TypeError, ValueError), match=r"columns must hold|columns has dtype"):
            A.block([0], rows)
    with pytest.raises(TypeError, match="takes integers and slices"):
        A[True, 0]
    expected = A.to_dense()[[3, -1]][:, [0, 2]]
    for rows in ([3, -1], np.array([3, -1], dtype=">i4"), torch.tensor([3, -1], dtype=torch.int32), (3, 39)):
        torch.testing.assert_close(A.block(rows, range(0, 4, 2)), expected)
    assert A.block([], [0]).shape == (0, 1)


def test_folders_are_no_files(tmp_path):
    A = random_hss()
    with pytest.raises(IsADirectoryError, match="is a folder; pass the name of a file"):
        A.save(tmp_path)
    with pytest.raises(IsADirectoryError, match="is a folder; pass the name of a file"):
        HSSMatrix.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"The folder .*nowhere' of 'A' does not exist"):
        A.save(tmp_path / "nowhere" / "A")
