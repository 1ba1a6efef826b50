"""
==================================================
Data efficiency with scikit-learn's learning curve
==================================================

How many simulations does a model need? ``LearningCurveDisplay`` answers for any estimator of this package as it does
for those of scikit-learn. Here, three models learn the 1-D Poisson equation from 12 to 200 samples: Neural-HSS from
random weights, as in the paper, but trained by Levenberg-Marquardt; ridge regression; and Neural-HSS as it is by
default, which starts from the fitted linear map and, that being accurate, does not train at all.

Takes about half a minute on two cores.
"""

# %%
import matplotlib.pyplot as plt
from sklearn.linear_model import Ridge
from sklearn.model_selection import LearningCurveDisplay, ShuffleSplit

from sklearn_hss import NeuralHSSRegressor
from sklearn_hss.datasets import make_poisson
from sklearn_hss.metrics import relative_l2_scorer

F, U = make_poisson(n_samples=300, n_points=128, random_state=0)

SIZES = [12, 25, 50, 100, 200]
MODELS = {
    "Neural-HSS, random start": NeuralHSSRegressor(rank=2, levels=3, init="random", max_epochs=30, random_state=0),
    "Neural-HSS": NeuralHSSRegressor(rank=2, levels=3, random_state=0),
    "Ridge(alpha=1)": Ridge(alpha=1.0, fit_intercept=False),
}

# %%
# The display calls ``learning_curve``, two fits at a time; three random splits give the spread.

figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
for name, model in MODELS.items():
    display = LearningCurveDisplay.from_estimator(
        model,
        F,
        U,
        train_sizes=SIZES,
        cv=ShuffleSplit(n_splits=3, test_size=100, random_state=0),
        scoring=relative_l2_scorer,
        negate_score=True,
        score_type="test",
        score_name="relative L2 error",
        n_jobs=2,
        ax=axis,
        line_kw={"marker": "o"},
    )
    display.lines_[0].set_label(name)
    errors = dict(zip(display.train_sizes.tolist(), -display.test_scores.mean(axis=1), strict=True))
    print(f"{name:<24}", "  ".join(f"{size}: {error:.1e}" for size, error in errors.items()))

axis.set(xscale="log", yscale="log", title="1-D Poisson, sine forcing (Appendix F.2.1)")
axis.set_xticks(SIZES, SIZES)
axis.set_xticks([], minor=True)
axis.legend()
figure.savefig("learning_curve.png", dpi=120)
