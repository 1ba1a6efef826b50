"""Green Learning as a scikit-learn regressor."""

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from .._parameters import Count
from ..nn import GreenLearning
from ._base import BaseNeuralRegressor, document_training, field_arguments
from ._training import Network


@document_training
class GreenLearningRegressor(BaseNeuralRegressor):
    """Green Learning: an integral operator whose kernel, the Green's function, is a network with rational activations.

    This is a baseline of the Neural-HSS paper for linear equations, trained by the same loop with the same scaling as
    :class:`~sklearn_hss.NeuralHSSRegressor`. It supports fields of one or two dimensions without channels. A training
    step costs one pass of the network over all pairs of an output and an input point, independently of the batch size:
    tens of milliseconds for 64 points, but minutes on one core for grids of 64 x 64.

    Parameters
    ----------
    width : int or "auto", default="auto"
        Number of units per layer. "auto" is the paper's number: 128 in one dimension and 64 in two.
    depth : int, default=6
        Number of layers with activation.
    homogeneous : bool, default=True
        Whether a second network of the same size learns the solution for zero forcing. Without it, the model is linear
        in `X` and, in one dimension, has the 83K parameters of the paper.
    {training_parameters}

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the :class:`sklearn_hss.nn.GreenLearning`.
    greens_function_ : ndarray of shape (n_out_points, n_in_points)
        Values G(x_i, y_j) of the learned Green's function in the units of the data, so that a flat field f has the
        prediction ``greens_function_ @ (quadrature_weights_ * f) + homogeneous_solution_``.
    homogeneous_solution_ : ndarray of shape (n_out_points,)
        Prediction for zero forcing.
    quadrature_weights_ : ndarray of shape (n_in_points,)
        Quadrature weights of the points: 1 / n_in_points, as on the unit interval or square.
    {fitted_attributes}

    See Also
    --------
    sklearn_hss.nn.GreenLearning : The torch module.
    HSSRegressor : Fit of a linear map in closed form.

    References
    ----------
    Boullé, Earls, Townsend, Data-driven discovery of Green's functions with human-understandable deep learning,
    Scientific Reports 12, 2022. Boullé, Halikias, Townsend, Elliptic PDE learning is provably data-efficient, PNAS 120,
    2023.

    Examples
    --------
    >>> from sklearn_hss import GreenLearningRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> F, U = make_poisson(n_samples=60, n_points=16, forcing="gaussian", random_state=0)
    >>> model = GreenLearningRegressor(width=16, depth=2, max_epochs=200, lr=1e-2, random_state=0).fit(F[:50], U[:50])
    >>> model.predict(F[50:]).shape
    (10, 16)
    >>> model.greens_function_[8, [4, 8, 12]].round(1).tolist()  # that of -u'' = f is 1/8, 1/4, 1/8 there
    [0.1, 0.2, 0.1]
    """

    _parameter_constraints: dict = {
        **BaseNeuralRegressor._parameter_constraints,
        "width": [Count(1), StrOptions({"auto"})],
        "depth": [Count(1)],
        "homogeneous": ["boolean"],
    }

    def __init__(
        self,
        width="auto",
        depth=6,
        *,
        homogeneous=True,
        settings="auto",
        optimizer="auto",
        loss="l2",
        lr="auto",
        min_lr="auto",
        max_epochs="auto",
        max_seconds=None,
        batch_size="auto",
        weight_decay="auto",
        gradient_clip="auto",
        scale="auto",
        validation_fraction=None,
        early_stopping=False,
        n_iter_no_change=50,
        warm_start=False,
        callbacks=None,
        checkpoint=None,
        checkpoint_every="60s",
        accelerator=None,
        device="auto",
        dtype=None,
        random_state=None,
        verbose=0,
        grid_shape=None,
        mask=None,
    ):
        self.width = width
        self.depth = depth
        self.homogeneous = homogeneous
        self.settings = settings
        self.optimizer = optimizer
        self.loss = loss
        self.lr = lr
        self.min_lr = min_lr
        self.max_epochs = max_epochs
        self.max_seconds = max_seconds
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.scale = scale
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.accelerator = accelerator
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose
        self.grid_shape = grid_shape
        self.mask = mask

    @property
    def greens_function_(self):
        """Learned Green's function in the units of the data."""
        return self._values()[0] * float(self.y_scale_[0] / self.x_scale_[0])

    @property
    def homogeneous_solution_(self):
        """Learned homogeneous solution in the units of the data, including the offsets of the scaling."""
        solution = self._values()[1] * float(self.y_scale_[0])
        of_offset = self.greens_function_ @ np.broadcast_to(self.x_offset_[0], self._shapes[0].size)
        return (solution + self.y_offset_[0] - of_offset / self._shapes[0].size).astype(solution.dtype)

    @property
    def quadrature_weights_(self):
        """Weights of the points of the inputs."""
        check_is_fitted(self, "net_")
        return np.full(self._shapes[0].size, 1 / self._shapes[0].size)

    def _values(self):
        check_is_fitted(self, "net_")
        with torch.no_grad():
            return [values.cpu().numpy() for values in self.net_.module_.discretised()]

    @property
    def _network(self):
        return Network(linear=True, lr=(2e-3, 2e-3))

    def _make_module(self, inputs, outputs):
        for name, fields in (("X", inputs), ("y", outputs)):
            if fields.n_channels is not None:
                raise ValueError(
                    f"GreenLearningRegressor does not support channels; {name} has n_channels={fields.n_channels} "
                    f"on the grid {fields.grid}. Use one regressor per pair of an input and an output channel."
                )
            if len(fields.grid) > 2:
                raise ValueError(
                    "GreenLearningRegressor supports fields of one or two dimensions; "
                    f"{name} has the grid {fields.grid}."
                )
        fields = field_arguments(inputs, outputs)
        arguments = {
            "in_features": fields["in_features"],
            "out_features": fields["out_features"],
            "width": (128, 64)[len(inputs.grid) - 1] if self.width == "auto" else self.width,
            "depth": self.depth,
            "homogeneous": self.homogeneous,
        }
        return GreenLearning, arguments, {}
