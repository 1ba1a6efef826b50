"""The factorized transformer as a scikit-learn regressor."""

from sklearn.utils._param_validation import StrOptions

from .._parameters import Count
from ..nn import FactFormer
from ._base import BaseNeuralRegressor, document_training, field_arguments
from ._training import Network


@document_training
class FactFormerRegressor(BaseNeuralRegressor):
    """Factorized transformer: attention with a kernel for every axis of the grid, computed from the fields themselves.

    This is a baseline of the Neural-HSS paper, trained by the same loop with the same scaling as
    :class:`~sklearn_hss.NeuralHSSRegressor`. It supports one, two or three dimensions, with channels or without. The
    default sizes are those of the paper's tables for two dimensions.

    Parameters
    ----------
    width : int or "auto", default="auto"
        Embedding dimension, a multiple of 4. "auto" is that of the paper's tables, 384.
    depth : int, default=1
        Number of layers of attention.
    heads : int, default=1
        Number of kernels per axis, each with its own values.
    head_dim : int, default=8
        Number of values per head and point.
    kernel_multiplier : int, default=1
        Rank of the kernels divided by `head_dim`. The rank must be even.
    {training_parameters}

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the :class:`sklearn_hss.nn.FactFormer`.
    {fitted_attributes}

    See Also
    --------
    sklearn_hss.nn.FactFormer : The torch module.

    References
    ----------
    Li, Shu, Barati Farimani, Scalable transformer for PDE surrogate modeling, NeurIPS 2023.

    Examples
    --------
    >>> from sklearn_hss import FactFormerRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> F, U = make_poisson(60, (16, 16), modes=(1, 5), random_state=0)
    >>> model = FactFormerRegressor(width=8, max_epochs=20, lr=1e-2, random_state=0).fit(F[:50], U[:50])
    >>> model.predict(F[50:]).shape
    (10, 16, 16)
    """

    _parameter_constraints: dict = {
        **BaseNeuralRegressor._parameter_constraints,
        "width": [Count(1), StrOptions({"auto"})],
        "depth": [Count(1)],
        "heads": [Count(1)],
        "head_dim": [Count(1)],
        "kernel_multiplier": [Count(1)],
    }

    def __init__(
        self,
        width="auto",
        depth=1,
        *,
        heads=1,
        head_dim=8,
        kernel_multiplier=1,
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
        self.heads = heads
        self.head_dim = head_dim
        self.kernel_multiplier = kernel_multiplier
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
        return Network(lr=(2e-3, 2e-3))

    def _make_module(self, inputs, outputs):
        if len(inputs.grid) > 3:
            raise ValueError(
                f"FactFormerRegressor supports fields of one to three dimensions; X has the grid {inputs.grid}."
            )
        arguments = {
            **field_arguments(inputs, outputs),
            "width": 384 if self.width == "auto" else self.width,
            "depth": self.depth,
            "heads": self.heads,
            "head_dim": self.head_dim,
            "kernel_multiplier": self.kernel_multiplier,
        }
        return FactFormer, arguments, {}
