import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_hss.linalg import ClusterTree
from sklearn_hss.linalg._cluster_tree import join_leaves, split_leaves


@st.composite
def trees(draw):
    n = draw(st.integers(1, 70))
    return ClusterTree(n, draw(st.integers(0, ClusterTree.max_levels(n))))


@given(trees())
def test_every_node_is_the_union_of_its_children(tree):
    for level in range(tree.levels):
        assert tree.offsets(level) == tree.offsets(level + 1)[::2]


@given(trees())
def test_leaves_are_nearly_equal_and_cover_all_indices(tree):
    sizes = tree.leaf_sizes
    assert len(sizes) == tree.n_leaves == 2**tree.levels
    assert sum(sizes) == tree.n
    assert (min(sizes), max(sizes)) == (tree.min_leaf_size, tree.max_leaf_size)
    assert 0 <= max(sizes) - min(sizes) <= 1
    assert tree.is_uniform == (min(sizes) == max(sizes))


def test_balanced_tree_of_the_paper():
    # Definition A.2: n = 2**L k is always split exactly in the middle.
    assert ClusterTree(24, 3).offsets(3) == tuple(range(0, 25, 3))


@given(trees(), st.integers(1, 9))
def test_max_levels(tree, leaf_size):
    deepest = ClusterTree.max_levels(tree.n, leaf_size)
    assert deepest == 0 or ClusterTree(tree.n, deepest).min_leaf_size >= leaf_size
    assert tree.n >> (deepest + 1) < leaf_size


@given(trees())
def test_split_leaves_cuts_and_pads_and_join_leaves_undoes_it(tree):
    x = torch.arange(1.0, 2 * tree.n + 1).view(2, tree.n, 1)
    blocks = split_leaves(x, tree)
    for leaf, (start, size) in enumerate(zip(tree.offsets(tree.levels), tree.leaf_sizes, strict=False)):
        assert torch.equal(blocks[:, leaf, :size], x[:, start : start + size])
        assert not blocks[:, leaf, size:].any()
    assert torch.equal(join_leaves(blocks, tree), x)


@pytest.mark.parametrize(
    ("n", "levels", "message"),
    [
        (0, 0, "n=0 must be at least 1"),
        (10, -1, "levels=-1 must be at least 0"),
        (10, 4, "levels=4 is too deep for n=10: the largest value that leaves no leaf empty is 3"),
    ],
)
def test_impossible_trees_are_refused(n, levels, message):
    with pytest.raises(ValueError, match=message):
        ClusterTree(n, levels)


def test_levels_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="level=4 must be between 0 and levels=3"):
        ClusterTree(16, 3).offsets(4)


def test_trees_compare_by_value():
    assert ClusterTree(16, 3) == ClusterTree(16, 3) != ClusterTree(16, 2)
    assert len({ClusterTree(16, 3), ClusterTree(16, 3)}) == 1
