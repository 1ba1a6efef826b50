"""The deep operator network as a scikit-learn regressor."""

from sklearn.utils._param_validation import StrOptions

from .._parameters import Count
from ..nn import DeepONet
from ._base import BaseNeuralRegressor, document_training, field_arguments
from ._training import Network


@document_training
class DeepONetRegressor(BaseNeuralRegressor):
    """Deep operator network: basis functions of the coordinates times coefficients that depend on the input field.

    This is a baseline of the Neural-HSS paper, trained by the same loop with the same scaling as
    :class:`~sklearn_hss.NeuralHSSRegressor`. It supports any number of dimensions, with channels or without.

    Parameters
    ----------
    width : int or "auto", default="auto"
        Number of basis functions and of neurons per hidden layer. "auto" is that of the paper's tables for elliptic
        problems: 192 in one dimension, 64 in two and 128 in three or more.
    depth : int, default=4
        Number of linear layers of the branch network, and of the trunk network.
    {training_parameters}

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the :class:`sklearn_hss.nn.DeepONet`.
    {fitted_attributes}

    See Also
    --------
    sklearn_hss.nn.DeepONet : The torch module.

    References
    ----------
    Lu et al., Learning nonlinear operators via DeepONet based on the universal approximation theorem of operators,
    Nature Machine Intelligence 3, 2021.

    Examples
    --------
    >>> from sklearn_hss import DeepONetRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> F, U = make_poisson(n_samples=60, n_points=64, random_state=0)
    >>> model = DeepONetRegressor(width=32, depth=3, max_epochs=20, lr=1e-2, random_state=0).fit(F[:50], U[:50])
    >>> model.predict(F[50:]).shape
    (10, 64)
    """

    _parameter_constraints: dict = {
        **BaseNeuralRegressor._parameter_constraints,
        "width": [Count(1), StrOptions({"auto"})],
        "depth": [Count(1)],
    }

    def __init__(
        self,
        width="auto",
        depth=4,
        *,
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
    def _network(self):
        return Network(lr=(2e-3, 4e-3))

    def _make_module(self, inputs, outputs):
        width = (192, 64, 128)[min(len(inputs.grid), 3) - 1] if self.width == "auto" else self.width
        arguments = {**field_arguments(inputs, outputs), "width": width, "depth": self.depth}
        return DeepONet, arguments, {}
