"""A residual network of convolutions as a scikit-learn regressor."""

from sklearn.utils._param_validation import StrOptions

from .._parameters import Count
from ..nn import ResNet
from ._base import BaseNeuralRegressor, document_training, field_arguments


@document_training
class ResNetRegressor(BaseNeuralRegressor):
    """Residual network of convolutions: blocks that act on the neighbourhood of each point.

    This is a baseline of the Neural-HSS paper, trained by the same loop with the same scaling as
    :class:`~sklearn_hss.NeuralHSSRegressor`. It supports one, two or three dimensions, with channels or without.

    Parameters
    ----------
    width : int or "auto", default="auto"
        Number of channels. "auto" is 24 in one dimension and 16 in several; with ``settings="paper"``, it is that of
        the paper's tables for elliptic problems: 48, 64 and 48 in one, two and three dimensions.
    depth : int or "auto", default="auto"
        Number of blocks, each of two convolutions. "auto" is 4; with ``settings="paper"``, it is 12, 4 and 2.
    kernel_size : int, default=3
        Odd number of points of a convolution kernel per dimension.
    dilations : tuple of int or "auto", default="auto"
        Distances between these points, which the blocks use cyclically. "auto" is ``(1, 2, 4, 8)`` in one dimension and
        ``(1, 2, 4)`` in several, limited by the size of the grid; with ``settings="paper"``, it is ``(1,)``.
    padding_mode : {"zeros", "circular", "reflect", "replicate"}, default="zeros"
        Continuation of the fields beyond the boundary; "circular" is appropriate for periodic fields.
    {training_parameters}

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the :class:`sklearn_hss.nn.ResNet`.
    {fitted_attributes}

    See Also
    --------
    sklearn_hss.nn.ResNet : The torch module.

    References
    ----------
    He et al., Deep residual learning for image recognition, CVPR 2016.

    Examples
    --------
    >>> from sklearn_hss import ResNetRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> F, U = make_poisson(n_samples=60, n_points=64, random_state=0)
    >>> model = ResNetRegressor(width=8, depth=2, max_epochs=20, lr=1e-2, random_state=0).fit(F[:50], U[:50])
    >>> model.predict(F[50:]).shape
    (10, 64)
    """

    _parameter_constraints: dict = {
        **BaseNeuralRegressor._parameter_constraints,
        "width": [Count(1), StrOptions({"auto"})],
        "depth": [Count(1), StrOptions({"auto"})],
        "kernel_size": [Count(1)],
        "dilations": [tuple, list, StrOptions({"auto"})],
        "padding_mode": [StrOptions({"zeros", "circular", "reflect", "replicate"})],
    }

    def __init__(
        self,
        width="auto",
        depth="auto",
        *,
        kernel_size=3,
        dilations="auto",
        padding_mode="zeros",
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
        self.kernel_size = kernel_size
        self.dilations = dilations
        self.padding_mode = padding_mode
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

    def _make_module(self, inputs, outputs):
        # The module rejects more than three dimensions.
        i = min(len(inputs.grid), 3) - 1
        paper = self.settings == "paper"
        widths, depths = ((48, 64, 48), (12, 4, 2)) if paper else ((24, 16, 16), (4, 4, 4))
        dilations = self.dilations
        if dilations == "auto":
            most = (1, 2, 4) if i else (1, 2, 4, 8)
            dilations = most[:1] if paper else tuple(d for d in most if d == 1 or d < min(inputs.grid))
        arguments = {
            **field_arguments(inputs, outputs),
            "width": widths[i] if self.width == "auto" else self.width,
            "depth": depths[i] if self.depth == "auto" else self.depth,
            "kernel_size": self.kernel_size,
            "dilations": tuple(dilations),
            "padding_mode": self.padding_mode,
        }
        return ResNet, arguments, {}
