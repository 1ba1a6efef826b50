"""The public names of the package: ``conf.py`` makes the API reference of them, tests check that none is missing."""

#: Section: sentences about it, and its names below ``sklearn_hss``.
SECTIONS = {
    "Linear maps and local laws": (
        "Structured least squares: a handful of samples, seconds, and machine precision where the data are "
        "exact. :doc:`user_guide/grids` and :doc:`user_guide/domains` explain them.",
        [
            "HSSRegressor",
            "HSSTransformer",
            "LocalOperatorRegressor",
            "LocalEvolutionRegressor",
        ],
    ),
    "Networks": (
        "Networks between fields with one training loop; see :doc:`user_guide/networks`.",
        [
            "NeuralHSSRegressor",
            "FNORegressor",
            "ResNetRegressor",
            "DeepONetRegressor",
            "GreenLearningRegressor",
            "FactFormerRegressor",
        ],
    ),
    "Around other estimators": (
        "Rollouts of time steps, residuals of a law, prediction bands, and scaling, around the estimators "
        "above or those of scikit-learn.",
        [
            "RolloutRegressor",
            "ResidualRegressor",
            "ConformalFieldRegressor",
            "FieldScaler",
        ],
    ),
    "Files": (
        "Fitted and unfitted estimators in files without pickle; see :doc:`user_guide/keeping`.",
        [
            "save",
            "load",
        ],
    ),
    "Displays": (
        "Pictures of fitted estimators, drawn by class methods such as ``from_estimator``, as those of "
        "scikit-learn. ``plot()`` draws again; ``axes_`` or ``ax_``, and ``figure_``, hold the result. "
        "matplotlib is imported when the first one is drawn.",
        [
            "plotting.FieldPredictionDisplay",
            "plotting.RolloutDisplay",
            "plotting.DataEfficiencyDisplay",
            "plotting.OperatorDisplay",
            "plotting.LocalLawDisplay",
            "plotting.TrainingHistoryDisplay",
            "plotting.HSSMatrixDisplay",
        ],
    ),
    "Metrics": (
        "``metrics.relative_l2_scorer`` is the scorer of ``relative_l2_error``: pass it as ``scoring=`` to "
        "``GridSearchCV``, ``cross_val_score`` or ``learning_curve``. Its values are minus the error. "
        "``metrics.trajectory_l2_scorer`` and ``metrics.relative_trajectory_l2_scorer`` take trajectories "
        "without ``y``, and a :class:`RolloutRegressor` or a search over one: minus ``trajectory_l2_error`` "
        "and minus ``relative_l2_error`` of its rollouts from their first states, and minus infinity for "
        "rollouts that diverge.",
        [
            "metrics.relative_l2_error",
            "metrics.trajectory_l2_error",
        ],
    ),
    "Data": (
        "Seeded generators of every equation of the paper and of general elliptic equations, and readers of "
        "published simulations; see :doc:`datasets`.",
        [
            "datasets.make_poisson",
            "datasets.make_helmholtz",
            "datasets.make_elliptic",
            "datasets.make_elliptic_mesh",
            "datasets.make_heat",
            "datasets.make_burgers",
            "datasets.make_gray_scott",
            "datasets.make_navier_stokes",
            "datasets.load_the_well",
            "datasets.load_diffusionpde",
        ],
    ),
    "Linear algebra": (
        "Structured matrices on torch tensors. Every map is a ``LinearMap``, which has the methods that they "
        "share: ``apply`` to fields, products with flat ones, ``solve``, ``T``, ``to``, ``save`` and "
        "``load``.",
        [
            "linalg.LinearMap",
            "linalg.ClusterTree",
            "linalg.HSSMatrix",
            "linalg.ULVFactor",
            "linalg.KroneckerProductSum",
            "linalg.DiagonalizedOperator",
            "linalg.LowRankOperator",
            "linalg.OperatorSum",
            "linalg.OperatorProduct",
            "linalg.SparseMatrix",
            "linalg.SparseInverse",
        ],
    ),
    "Torch modules": (
        "Layers and networks for models of your own.",
        [
            "nn.HSSLinear",
            "nn.HSSMultilinear",
            "nn.CPLinear",
            "nn.TrainableLeakyReLU",
            "nn.NeuralHSS",
            "nn.PatchHSS",
            "nn.FNO",
            "nn.SpectralConv",
            "nn.ResNet",
            "nn.DeepONet",
            "nn.GreenLearning",
            "nn.Rational",
            "nn.FactFormer",
        ],
    ),
    "Optimisers": (
        "For torch modules of any kind.",
        [
            "nn.SOAP",
            "nn.LevenbergMarquardt",
        ],
    ),
    "Warnings": (
        "All are subclasses of ``HSSWarning``; :doc:`user_guide/warnings` lists causes and remedies.",
        [
            "exceptions.HSSWarning",
            "exceptions.PoorFitWarning",
            "exceptions.AmbiguousFitWarning",
            "exceptions.UnverifiedFitWarning",
            "exceptions.ExtrapolationWarning",
            "exceptions.DivergenceWarning",
            "exceptions.DataWarning",
            "exceptions.CompressionWarning",
        ],
    ),
}


def page():
    """The API reference, in reStructuredText."""
    lines = ["API reference", "=============", "", ".. currentmodule:: sklearn_hss", ""]
    for title, (text, names) in SECTIONS.items():
        lines += [title, "-" * len(title), "", text, "", ".. autosummary::", "   :toctree: generated/", ""]
        lines += [*(f"   {name}" for name in names), ""]
    return "\n".join(lines)
