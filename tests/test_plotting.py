import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

from sklearn_hss.linalg import ClusterTree, HSSMatrix
from sklearn_hss.plotting import HSSMatrixDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def random_hss(m, n, levels, rank, batch_shape=()):
    generator = torch.Generator().manual_seed(0)
    trees = ClusterTree(m, levels), ClusterTree(n, levels)
    return HSSMatrix.random(*trees, rank, batch_shape=batch_shape, generator=generator)


def sibling_blocks(A):
    """Per level, the dense blocks above and below the diagonal of every parent."""
    dense = A.to_dense()
    for level in range(1, A.levels + 1):
        r, c = A.row_tree.offsets(level), A.col_tree.offsets(level)
        yield [
            (dense[r[i] : r[i + 1], c[i + 1] : c[i + 2]], dense[r[i + 1] : r[i + 2], c[i] : c[i + 1]])
            for i in range(0, 2**level, 2)
        ]


def smooth_kernel(m, n):
    i, j = torch.arange(m, dtype=torch.float64) / m, torch.arange(n, dtype=torch.float64) / n
    return 1 / (0.01 + (i[:, None] - j).abs())


@pytest.mark.parametrize("tol", [1e-12, 1e-8, 1e-4])
@pytest.mark.parametrize(
    "A",
    [
        random_hss(64, 64, 3, 3),
        random_hss(61, 45, 3, 2),
        random_hss(24, 24, 3, 5),
        random_hss(7, 9, 0, 2),
        HSSMatrix.identity(40, levels=2),
        HSSMatrix.from_dense(smooth_kernel(128, 100), levels=3),
        HSSMatrix.from_dense(torch.zeros(16, 16), levels=1),
        random_hss(40, 40, 2, 2) + random_hss(40, 40, 2, 2),
    ],
    ids=["random", "rectangular", "rank above leaf", "one block", "identity", "kernel", "zero", "redundant"],
)
def test_ranks_are_those_of_the_dense_blocks(A, tol):
    threshold = tol * torch.linalg.matrix_norm(A.to_dense(), 2)
    expected = [
        [[int(torch.linalg.matrix_rank(block, atol=threshold, rtol=0)) for block in pair] for pair in level]
        for level in sibling_blocks(A)
    ]
    found = HSSMatrixDisplay.from_matrix(A, tol=tol).ranks_
    assert [level.tolist() for level in found] == expected


def test_every_block_is_drawn_in_its_place():
    A = random_hss(60, 40, 2, 3)
    display = HSSMatrixDisplay.from_matrix(A)
    diagonal, off_diagonal = display.ax_.collections
    boxes = [path.get_extents().bounds for c in (diagonal, off_diagonal) for path in c.get_paths()]
    assert len(diagonal.get_paths()) == 4
    assert sum(width * height for _, _, width, height in boxes) == 60 * 40
    # x before y: the block above the diagonal is on the right.
    assert off_diagonal.get_paths()[0].get_extents().bounds == (20, 0, 20, 30)
    np.testing.assert_array_equal(off_diagonal.get_array(), np.concatenate([r.ravel() for r in display.ranks_]))
    assert display.ax_.get_ylim() == (60, 0)
    assert display.ax_.get_xlim() == (0, 40)
    assert {text.get_text() for text in display.ax_.texts} == {"3"}


def test_small_blocks_carry_no_number():
    texts = HSSMatrixDisplay.from_matrix(random_hss(512, 512, 7, 2)).ax_.texts
    assert 0 < len(texts) < 100
    assert min(text.get_fontsize() for text in texts) >= 5


def test_the_title_names_shape_and_rank():
    assert HSSMatrixDisplay.from_matrix(random_hss(61, 45, 3, 2)).ax_.get_title() == "HSS matrix, 61 × 45, rank 2"


@pytest.mark.parametrize("A", [random_hss(64, 64, 3, 3), random_hss(7, 9, 0, 2), random_hss(300, 300, 1, 90)])
def test_pictures_can_be_saved(A, tmp_path):
    HSSMatrixDisplay.from_matrix(A).figure_.savefig(tmp_path / "spy.png")
    picture = plt.imread(tmp_path / "spy.png")
    assert picture.std() > 0.1


def test_axes_of_the_user_are_drawn_on():
    figure, (first, second) = plt.subplots(1, 2)
    display = HSSMatrixDisplay.from_matrix(random_hss(64, 64, 3, 3), ax=first)
    assert display.ax_ is first
    assert display.figure_ is figure
    assert display.plot(ax=second) is display
    assert display.ax_ is second
    assert len(second.collections) == len(first.collections) == 2


def test_estimators_are_drawn_by_their_operator():
    A = random_hss(64, 64, 3, 3)
    estimator = LinearRegression()
    with pytest.raises(NotFittedError):
        HSSMatrixDisplay.from_estimator(estimator)
    estimator.operator_ = A
    ranks = HSSMatrixDisplay.from_estimator(estimator, tol=1e-8).ranks_
    np.testing.assert_equal(ranks, HSSMatrixDisplay.from_matrix(A, tol=1e-8).ranks_)


def test_gradients_are_no_hindrance():
    A = random_hss(16, 16, 1, 1)
    assert HSSMatrixDisplay.from_matrix(
        HSSMatrix(A.row_tree, A.col_tree, [d.requires_grad_() for d in A.D], A.U, A.V)
    ).ranks_[0].tolist() == [[1, 1]]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"single matrix can be drawn, not a batch of shape \(2,\)"):
        HSSMatrixDisplay.from_matrix(random_hss(16, 16, 1, 1, (2,)))
    with pytest.raises(TypeError, match="must be an HSSMatrix, not ndarray"):
        HSSMatrixDisplay.from_matrix(np.eye(3))
    for tol in (-1, 1, float("nan")):
        with pytest.raises(ValueError, match=f"tol={tol} must be"):
            HSSMatrixDisplay.from_matrix(random_hss(16, 16, 1, 1), tol=tol)
    assert not plt.get_fignums()


def test_matplotlib_is_imported_by_the_first_picture_only():
    code = "import sys, sklearn_hss.plotting; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install sklearn-hss\[plot\]"):
        HSSMatrixDisplay.from_matrix(random_hss(16, 16, 1, 1))
