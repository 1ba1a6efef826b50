"""Numbers of parameters beside those of the paper's tables 1 and 2; with ``-s``, pytest prints the table."""

import pytest

from sklearn_hss.nn import FNO, DeepONet, FactFormer, GreenLearning, NeuralHSS, ResNet
from sklearn_hss.nn._counting import count_parameters


def burgers_neural_hss():
    """Table 4, with the full-rank lifting and projection of Section 3.2."""
    return NeuralHSS(256, 256, rank=32, levels=3, depth=4, embedding_dim=1024, lifting="dense", projection="dense")


def navier_stokes_neural_hss():
    """Table 7."""
    return NeuralHSS((128, 128), (128, 128), rank=8, levels=2, outer_rank=8, depth=3)


# What, network, our number, the paper's in thousands, and how far they may be apart; None where the paper's cannot be
# met from its description.
COUNTS = [
    ("Neural-HSS, 1-D", lambda: NeuralHSS(256, 256, rank=2, levels=3, depth=3, projection="hss"), 37_699, 37, 0.02),
    (
        "Neural-HSS, 2-D",
        lambda: NeuralHSS((64, 64), (64, 64), rank=2, levels=2, outer_rank=8, depth=3),
        65_283,
        37,
        None,
    ),
    ("FNO, 1-D, 4 layers", lambda: FNO(256, depth=4), 102_657, 102, 0.01),
    ("FNO, 1-D, 6 layers", lambda: FNO(256, depth=6), 153_921, 150, 0.03),
    # A complex number counts as two; counted once, as the paper seems to, there are 132,241.
    ("FNO, 2-D", lambda: FNO((64, 64), width=16, modes=8), 263_313, 132, None),
    ("ResNet, 1-D", lambda: ResNet(256), 167_185, 165, 0.02),
    # Table 5 says width 64; the paper's number is that of width 48.
    ("ResNet, 2-D, width 64", lambda: ResNet((64, 64), width=64, depth=4), 295_617, 165, None),
    ("ResNet, 2-D, width 48", lambda: ResNet((64, 64), width=48, depth=4), 166_417, 165, 0.01),
    # The paper's number is that of 128 points, its text says 256.
    ("DeepONet, 1-D, 256 points", lambda: DeepONet(256), 272_065, 247, None),
    ("DeepONet, 1-D, 128 points", lambda: DeepONet(128), 247_489, 247, 0.01),
    ("DeepONet, 2-D", lambda: DeepONet((64, 64), width=64), 287_361, 280, 0.03),
    # The paper's number is that of the Green's function alone; the network of the homogeneous solution is as large.
    ("Green Learning, 1-D, G alone", lambda: GreenLearning(256, homogeneous=False), 83_115, 83, 0.01),
    # Table 5 says width 64; the paper's number is that of width 128.
    ("Green Learning, 2-D, width 64", lambda: GreenLearning((8, 8), width=64, homogeneous=False), 21_227, 83, None),
    ("Green Learning, 2-D, width 128", lambda: GreenLearning((8, 8), homogeneous=False), 83_371, 83, 0.01),
    ("Green Learning, 1-D", lambda: GreenLearning(256), 166_102, 83, None),
    ("FactFormer, 2-D", lambda: FactFormer((64, 64)), 3_934_657, 3_900, 0.01),
    ("Neural-HSS, Burgers", burgers_neural_hss, 1_523_716, 1_500, 0.02),
    # The paper says 1.5M; six layers of 32 modes and 64 channels alone have 1.57M.
    ("FNO, Burgers", lambda: FNO(256, width=64, modes=32, depth=6), 1_598_081, 1_500, 0.07),
    ("ResNet, Burgers", lambda: ResNet(256, width=150), 1_624_051, 1_700, 0.05),
    ("DeepONet, Burgers", lambda: DeepONet(256, width=512), 1_708_545, 1_700, 0.01),
    ("Neural-HSS, Navier-Stokes", navier_stokes_neural_hss, 356_355, 329, None),
    # Its 32 modes are those of both signs, 16 here; with complex numbers counted once, there are 2,101,537.
    ("FNO, Navier-Stokes", lambda: FNO((128, 128), width=32, modes=16), 4_198_689, 2_100, None),
    # Table 7 says width 64; the paper's number is that of width 166.
    ("ResNet, Navier-Stokes", lambda: ResNet((128, 128), width=166, depth=4), 1_985_859, 1_990, 0.01),
    ("DeepONet, Navier-Stokes", lambda: DeepONet((128, 128), width=128), 2_196_737, 2_300, 0.05),
]


@pytest.mark.parametrize(("what", "make", "ours", "paper", "tolerance"), COUNTS, ids=[row[0] for row in COUNTS])
def test_number_of_parameters(what, make, ours, paper, tolerance):
    count = count_parameters(make())
    print(f"\n{what:<28} {count:>10,}   paper {paper:>5,}K   ratio {count / paper / 1000:.3f}")
    assert count == ours
    if tolerance is not None:
        assert count == pytest.approx(1000 * paper, rel=tolerance)
