"""Block structure of HSS matrices."""

from collections.abc import Sequence

import numpy as np
import torch

from ..linalg import ClusterTree, HSSMatrix
from ..linalg._compression import canonical_generators
from ._style import pyplot, single

_DIAGONAL_COLOUR = "#1b2a41"


class HSSMatrixDisplay:
    """Block structure of an :class:`~sklearn_hss.linalg.HSSMatrix`, shaded by the ranks of its off-diagonal blocks.

    Made by :meth:`from_matrix` or :meth:`from_estimator`. Diagonal blocks, which are stored as they are, are dark.
    Every other block couples two siblings of the cluster trees; its colour, and where there is room a number, tell its
    rank.

    Parameters
    ----------
    row_tree, col_tree : ClusterTree
        Where the rows and the columns are cut.
    ranks : sequence of arrays of shape (2**(level - 1), 2)
        Ranks of the blocks of level 1, 2, ...: ``ranks[level - 1][i]`` holds those above and below the diagonal of node
        i of the level before.
    rank : int
        HSS rank of the matrix, for the title.

    Attributes
    ----------
    ranks_ : list of arrays
        The parameter `ranks`.
    ax_ : matplotlib Axes
        Where the picture was drawn.
    figure_ : matplotlib Figure
        The figure that holds `ax_`.

    Examples
    --------
    >>> from sklearn_hss.linalg import HSSMatrix
    >>> from sklearn_hss.plotting import HSSMatrixDisplay
    >>> laplacian = HSSMatrix.from_banded((1, 1), [[-1.0] * 64, [2.0] * 64, [-1.0] * 64])
    >>> display = HSSMatrixDisplay.from_matrix(laplacian.inverse())
    >>> display.ranks_
    [array([[1, 1]]), array([[1, 1],
           [1, 1]])]
    """

    def __init__(self, *, row_tree: ClusterTree, col_tree: ClusterTree, ranks: Sequence[np.ndarray], rank: int) -> None:
        self.row_tree, self.col_tree, self.rank = row_tree, col_tree, rank
        self.ranks_ = list(ranks)

    @classmethod
    def from_matrix(cls, A: HSSMatrix, *, tol: float = 1e-12, ax=None) -> "HSSMatrixDisplay":
        """Draw a matrix.

        Parameters
        ----------
        A : HSSMatrix
            A single one, no batch.
        tol : float, default=1e-12
            Singular values of a block below `tol` times the Euclidean norm of the matrix do not count for its rank.
        ax : matplotlib Axes, default=None
            Where to draw; on a new figure if None.

        Returns
        -------
        HSSMatrixDisplay
            With the picture drawn.
        """
        if not isinstance(A, HSSMatrix):
            raise TypeError(f"A must be an HSSMatrix, not {type(A).__name__}.")
        if A.batch_shape:
            raise ValueError(f"A single matrix can be drawn, not a batch of shape {A.batch_shape}.")
        if not 0 <= tol < 1:
            raise ValueError(f"tol={tol} must be at least 0 and below 1.")
        display = cls(row_tree=A.row_tree, col_tree=A.col_tree, ranks=_sibling_ranks(A.detach(), tol), rank=A.rank)
        return display.plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator, *, tol: float = 1e-12, ax=None) -> "HSSMatrixDisplay":
        """Draw the matrix that an estimator has learnt.

        Parameters
        ----------
        estimator : estimator
            Fitted, with the matrix as its attribute ``operator_``.
        tol : float, default=1e-12
            Singular values of a block below `tol` times the Euclidean norm of the matrix do not count for its rank.
        ax : matplotlib Axes, default=None
            Where to draw; on a new figure if None.

        Returns
        -------
        HSSMatrixDisplay
            With the picture drawn.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator, "operator_")
        return cls.from_matrix(estimator.operator_, tol=tol, ax=ax)

    def plot(self, ax=None) -> "HSSMatrixDisplay":
        """Draw the picture, once more or elsewhere.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; on a new figure if None.

        Returns
        -------
        HSSMatrixDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot()
        from matplotlib.collections import PolyCollection
        from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap
        from matplotlib.ticker import MaxNLocator

        ax = single(ax, size=(6.4, 5.4))
        self.ax_, self.figure_ = ax, ax.figure
        diagonal, blocks, ranks = self._rectangles()
        m, n = self.row_tree.n, self.col_tree.n
        # Lines between blocks must not cover the smallest ones.
        width = 0.6 if len(diagonal) <= 64 else 0.15
        ax.add_collection(
            PolyCollection([_corners(*r) for r in diagonal], facecolors=_DIAGONAL_COLOUR, edgecolors="w", lw=width)
        )
        ax.set(xlim=(0, n), ylim=(m, 0), box_aspect=1, xlabel="column", ylabel="row")
        ax.set_title(f"HSS matrix, {m} × {n}, rank {self.rank}")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        if blocks:
            # From almost white to a blue that is still lighter than the diagonal; one colour per rank if they are few.
            # Small ranks are pale even where there are no others.
            largest = max(int(ranks.max()), 4)
            colours = LinearSegmentedColormap.from_list("ranks", ["#f7fafd", "#bcd7ee", "#6baed6", "#2f7ebc"])
            norm = BoundaryNorm(np.linspace(-0.5, largest + 0.5, min(largest + 2, 257)), colours.N)
            shaded = PolyCollection([_corners(*r) for r in blocks], array=ranks, cmap=colours, norm=norm)
            shaded.set(edgecolors="#8a97a6", linewidths=width)
            ax.add_collection(shaded)
            ticks = np.arange(0, largest + 1, -(-largest // 8))
            bar = self.figure_.colorbar(shaded, ax=ax, ticks=ticks, shrink=0.9, label="rank of the block")
            bar.minorticks_off()
            self._annotate(blocks, ranks, shaded)
        return self

    def _rectangles(self):
        """Top, bottom, left and right of the diagonal and the off-diagonal blocks, and the ranks of these."""
        rows, cols = self.row_tree, self.col_tree
        r, c = (tree.offsets(tree.levels) for tree in (rows, cols))
        diagonal = [(r[i], r[i + 1], c[i], c[i + 1]) for i in range(rows.n_leaves)]
        blocks = []
        for level in range(1, rows.levels + 1):
            r, c = rows.offsets(level), cols.offsets(level)
            for i in range(0, 2**level, 2):
                blocks.append((r[i], r[i + 1], c[i + 1], c[i + 2]))
                blocks.append((r[i + 1], r[i + 2], c[i], c[i + 1]))
        return diagonal, blocks, np.concatenate([np.ravel(level) for level in self.ranks_] or [np.empty(0, dtype=int)])

    def _annotate(self, blocks, ranks, shaded):
        # The layout is settled by drawing; only then is the size of a block in points known.
        self.figure_.draw_without_rendering()
        size = self.ax_.get_window_extent()
        scale = 72 / self.figure_.dpi
        for (top, bottom, left, right), rank in zip(blocks, ranks, strict=True):
            height = (bottom - top) / self.row_tree.n * size.height * scale
            width = (right - left) / self.col_tree.n * size.width * scale
            text = str(rank)
            points = min(0.6 * height, 0.9 * width / len(text), 13)
            if points >= 5:
                red, green, blue, _ = shaded.cmap(shaded.norm(rank))
                dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.55
                self.ax_.text(
                    (left + right) / 2,
                    (top + bottom) / 2,
                    text,
                    ha="center",
                    va="center_baseline",
                    fontsize=points,
                    color="white" if dark else _DIAGONAL_COLOUR,
                )


def _corners(top, bottom, left, right):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _sibling_ranks(A, tol):
    """Numbers of singular values above `tol` times the norm, of the blocks that couple siblings, from the root down."""
    D, _, _ = canonical_generators(A)
    threshold = tol * A.norm(2)
    ranks = []
    for d in reversed(D[1:]):
        r, c = (size // 2 for size in d.shape[-2:])
        pairs = torch.stack([d[:, :r, c:], d[:, r:, :c]], dim=1)
        ranks.append((torch.linalg.svdvals(pairs) > threshold).sum(-1).cpu().numpy())
    return ranks
