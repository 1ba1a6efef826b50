"""Threads share matrices, and nobody changes the filters of warnings, which belong to the whole process."""

import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import LinAlgWarning

import sklearn_hss
from sklearn_hss import HSSTransformer
from sklearn_hss.datasets import make_poisson
from sklearn_hss.linalg import HSSMatrix, ULVFactor


def in_threads(function, n_calls=80, n_threads=8):
    barrier = threading.Barrier(n_threads)

    def call(i):
        if i < n_threads:
            barrier.wait()  # all begin at once
        return function(i)

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(call, range(n_calls)))


def laplacian(n):
    return HSSMatrix.from_banded((1, 1), np.stack([np.full(n, -1.0), np.full(n, 2.0), np.full(n, -1.0)]))


@pytest.mark.parametrize("singular", [False, True])
def test_inverse_transforms_in_threads(singular):
    F, U = make_poisson(30, 64, forcing="grf" if singular else "gaussian", random_state=0)
    solver = "least_squares" if singular else "auto"
    transformer = HSSTransformer(solver=solver, random_state=0).fit(F, U)
    outputs = transformer.transform(F)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        expected = transformer.inverse_transform(outputs)
        before = list(warnings.filters)
        results = in_threads(lambda i: transformer.inverse_transform(outputs))
        assert list(warnings.filters) == before
    assert {w.category for w in caught} == ({LinAlgWarning} if singular else set())
    for result in results:
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(transformer.transform(expected), outputs, atol=1e-8 * np.abs(outputs).max())


def test_threads_share_a_factor():
    A, b = laplacian(300), np.random.RandomState(0).standard_normal((80, 300))
    expected = np.linalg.solve(A.to_dense().numpy(), b.T).T
    for solve in (A.solve, lambda x: A.factor().solve_transposed(x)):  # A is symmetric
        for i, x in enumerate(in_threads(lambda i, solve=solve: solve(b[i]))):
            np.testing.assert_allclose(x, expected[i], rtol=0, atol=1e-8 * np.abs(expected).max())


def test_a_factor_of_earlier_numbers_is_never_kept():
    # Some threads change the matrix while others solve with it.
    A, b = laplacian(40), np.ones(40)
    for _ in range(10):
        in_threads(lambda i: A.D[0].mul_(1.1) if i % 4 == 0 else A.solve(b), n_calls=16)
        np.testing.assert_allclose(A.solve(b), np.linalg.solve(A.to_dense().numpy(), b), rtol=1e-8)


def test_a_factor_tells_whether_the_matrix_is_singular():
    regular, singular = laplacian(30), HSSMatrix.from_diagonal([1.0, 1e-20])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not regular.factor().is_singular
        assert singular.factor(warn=False).is_singular
        assert ULVFactor(singular, warn=False).is_singular
        singular.slogdet()
    # Whether the factor was kept makes no difference, and warnings name the line of the user.
    for attempt in (
        lambda: ULVFactor(singular),
        singular.factor,
        lambda: singular.solve(np.ones(2)),
        lambda: singular.solve(torch.ones(2, dtype=torch.float64, requires_grad=True)),
    ):
        with pytest.warns(LinAlgWarning, match="singular to working precision") as record:
            attempt()
        assert [w.filename for w in record] == [__file__]


def test_nobody_changes_the_filters_of_warnings():
    changes = re.compile(r"catch_warnings|simplefilter|filterwarnings")
    folder = Path(sklearn_hss.__file__).parent
    found = [str(path.relative_to(folder)) for path in folder.rglob("*.py") if changes.search(path.read_text())]
    assert set(found) <= {"estimators/_neural_hss.py", "exceptions.py"}  # the latter in examples
