"""Tables 3 to 9 of the paper (Appendix L) as estimators, and the simple models that stand beside them.

Where the tables do not lead to the numbers of parameters in Tables 1 and 2, the numbers decide for the baselines: FNO
has 4 layers for the Neumann problem (102K), and ResNet 48 channels on 2-D elliptic problems (165K). Neural-HSS is what
its table says. tests/nn/test_parameter_counts.py prints all numbers beside the paper's.
"""

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklearn_hss import (
    DeepONetRegressor,
    FactFormerRegressor,
    FieldScaler,
    FNORegressor,
    GreenLearningRegressor,
    HSSRegressor,
    NeuralHSSRegressor,
    ResNetRegressor,
)
from sklearn_hss.metrics import relative_l2_scorer

#: What can be fitted to all data where training by gradients takes too long; on linear problems.
WITHOUT_TRAINING = ("Neural-HSS, linear start", "least squares", "ridge", "HSSRegressor")


def standardised(model, grid_shape):
    """`model` between Z-scores of the inputs and the outputs, one mean and deviation per channel."""
    scaler = FieldScaler("standard", grid_shape=grid_shape)
    return TransformedTargetRegressor(make_pipeline(scaler, model), transformer=scaler, check_inverse=False)


def simple_models(grid_shape=None):
    """Least squares, ridge and kernel ridge regression, the last tuned by cross-validation; the fitted HSS map."""
    kernel = {"kernelridge__alpha": np.logspace(-9, -1, 5), "kernelridge__gamma": np.logspace(-5, -1, 5)}
    return {
        "least squares": LinearRegression(fit_intercept=False),
        "ridge": Ridge(alpha=1.0, fit_intercept=False),
        "kernel ridge": GridSearchCV(
            make_pipeline(FieldScaler("standard", grid_shape=grid_shape), KernelRidge(kernel="rbf")),
            kernel,
            cv=3,
            scoring=relative_l2_scorer,
        ),
        "HSSRegressor": HSSRegressor(grid_shape=grid_shape),
    }


def _neural_hss(**settings):
    """The paper's model from random weights, and as it is by default, from the fitted linear map."""
    return {
        "Neural-HSS": NeuralHSSRegressor(init="random", **settings),
        "Neural-HSS, linear start": NeuralHSSRegressor(**settings),
    }


def convolutional(**settings):
    """Neural-HSS for nonlinear problems: HSS matrices per channel in every second block of convolutions."""
    form = {"rank": 2, "levels": "auto", "depth": 2, "width": 16, "local_depth": 1, "kernel_size": 9, "bias": True}
    form |= {"embedding_dim": None, "lifting": "auto", "projection": "auto", "activation": "gelu", "residual": False}
    return NeuralHSSRegressor(**{**settings, **form})


def table_3(fno_depth=6, **training):
    """Heat equation; the Poisson equation with Neumann conditions, with ``fno_depth=4``."""
    training = {"max_epochs": 1000, "batch_size": 256, "lr": 1e-3, "min_lr": 1e-5, "weight_decay": 1e-3, **training}
    training = {"dtype": "float32", **training}
    return {
        **_neural_hss(rank=2, levels=3, depth=3, **training),
        "FNO": FNORegressor(width=32, modes=12, depth=fno_depth, **training),
        "ResNet": ResNetRegressor(width=48, depth=12, **training),
        "DeepONet": DeepONetRegressor(width=192, depth=4, **training),
        "Green Learning": GreenLearningRegressor(width=128, depth=6, homogeneous=False, **training),
    }


def table_4(**training):
    """Burgers' equation."""
    full_rank = {"lifting": "dense", "projection": "dense"}  # Section 3.2
    training = {"max_epochs": 1500, "batch_size": 256, "lr": 5e-4, "min_lr": 1e-6, "weight_decay": 1e-3, **training}
    training = {"dtype": "float32", **training}
    return {
        **_neural_hss(rank=32, levels=3, depth=4, embedding_dim=1024, **full_rank, **training),
        "FNO": FNORegressor(width=64, modes=32, depth=6, **training),
        "ResNet": ResNetRegressor(width=150, depth=12, **training),
        "DeepONet": DeepONetRegressor(width=512, depth=4, **training),
    }


def table_5(**training):
    """Two-dimensional elliptic problems; the Helmholtz equation (Table 6) with 1,000 epochs and batches of 64."""
    training = {"max_epochs": 500, "batch_size": 128, "lr": 8e-4, "min_lr": 1e-5, "weight_decay": 1e-5, **training}
    training = {"dtype": "float32", **training}
    return {
        **_neural_hss(rank=2, levels=2, outer_rank=8, depth=3, **training),
        "FNO": FNORegressor(width=16, modes=8, depth=4, **training),
        "ResNet": ResNetRegressor(width=48, depth=4, **training),
        "DeepONet": DeepONetRegressor(width=64, depth=4, **training),
        "Green Learning": GreenLearningRegressor(width=64, depth=6, homogeneous=False, **training),
        "FactFormer": FactFormerRegressor(width=384, depth=1, heads=1, head_dim=8, kernel_multiplier=1, **training),
    }


def table_7(**training):
    """Navier-Stokes and Gray-Scott equations."""
    training = {"max_epochs": 10, "batch_size": 64, "lr": 1e-3, "min_lr": 1e-5, "weight_decay": 0.0, **training}
    training = {"dtype": "float32", **training}
    return {
        **_neural_hss(rank=8, levels=2, outer_rank=8, depth=3, **training),
        # 32 modes of both signs: 2.1M numbers, if complex ones count once.
        "FNO": FNORegressor(width=32, modes=16, depth=4, **training),
        "ResNet": ResNetRegressor(width=166, depth=4, **training),
        "DeepONet": DeepONetRegressor(width=128, depth=4, **training),
        "FactFormer": FactFormerRegressor(width=384, depth=1, heads=1, head_dim=8, kernel_multiplier=1, **training),
    }


def table_8(n_steps=16_000, n_train=256, **training):
    """Three-dimensional Poisson equation: as many steps for every number of training samples."""
    n_epochs = -(-n_steps // -(-n_train // 16))
    training = {"max_epochs": n_epochs, "batch_size": 16, "min_lr": 1e-5, "weight_decay": 0.0, **training}
    training = {"dtype": "float32", **training}
    fast = {**training, "lr": 5e-3, "min_lr": 1e-3}
    return {
        **_neural_hss(rank=4, levels=2, outer_rank=2, depth=1, **fast),
        "FNO": FNORegressor(width=14, modes=8, depth=2, **fast),
        "ResNet": ResNetRegressor(width=48, depth=2, lr=1e-4, **training),
        "DeepONet": DeepONetRegressor(width=128, depth=4, lr=1e-3, **training),
    }


def table_9(**training):
    """One-dimensional Poisson equation, data efficiency. The dilated ResNet is not the paper's: it sees far points."""
    models = table_3(**{"max_epochs": 500, **training})
    resnet = models["ResNet"].get_params()
    return {**models, "ResNet, dilated": ResNetRegressor(**{**resnet, "dilations": (1, 2, 4, 8)})}
