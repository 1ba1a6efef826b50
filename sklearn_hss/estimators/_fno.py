"""The Fourier neural operator as a scikit-learn regressor."""

from numbers import Integral

from sklearn.utils._param_validation import StrOptions

from .._parameters import Count
from ..nn import FNO
from ..nn._fno import largest_modes
from ._base import BaseNeuralRegressor, document_training, field_arguments
from ._training import Network


@document_training
class FNORegressor(BaseNeuralRegressor):
    """Fourier neural operator: layers that act on the lowest Fourier modes, in parallel with pointwise layers.

    This is a baseline of the Neural-HSS paper, trained by the same loop with the same scaling as
    :class:`~sklearn_hss.NeuralHSSRegressor`. It supports one, two or three dimensions, with channels or without.

    Parameters
    ----------
    width : int or "auto", default="auto"
        Number of channels. "auto" is that of the paper's tables for elliptic problems: 32, 16 and 14 in one, two and
        three dimensions.
    modes : int, tuple of int or "auto", default="auto"
        Number of Fourier modes retained in every dimension. "auto" is the paper's number, 12 in one dimension and 8 in
        several, or all modes of smaller grids; without ``settings="paper"`` it is at most a third of the points.
    depth : int or "auto", default="auto"
        Number of layers. "auto" is 4, 4 and 2 in one, two and three dimensions; with ``settings="paper"``, it is 6, 4
        and 2.
    coordinates : bool, default=True
        Whether the coordinates of the points are further input channels.
    {training_parameters}

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the :class:`sklearn_hss.nn.FNO`.
    modes_ : tuple of int
        The modes in use.
    {fitted_attributes}

    See Also
    --------
    sklearn_hss.nn.FNO : The torch module.

    References
    ----------
    Li et al., Fourier neural operator for parametric partial differential equations, ICLR 2021.

    Examples
    --------
    >>> from sklearn_hss import FNORegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> F, U = make_poisson(n_samples=60, n_points=64, random_state=0)
    >>> model = FNORegressor(width=8, depth=2, max_epochs=20, lr=1e-2, random_state=0).fit(F[:50], U[:50])
    >>> model.predict(F[50:]).shape
    (10, 64)
    """

    _parameter_constraints: dict = {
        **BaseNeuralRegressor._parameter_constraints,
        "width": [Count(1), StrOptions({"auto"})],
        "modes": [Count(1), tuple, list, StrOptions({"auto"})],
        "depth": [Count(1), StrOptions({"auto"})],
        "coordinates": ["boolean"],
    }

    def __init__(
        self,
        width="auto",
        modes="auto",
        depth="auto",
        *,
        coordinates=True,
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
        self.modes = modes
        self.depth = depth
        self.coordinates = coordinates
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
        return Network(lr=(2e-3, 8e-3))

    def _make_module(self, inputs, outputs):
        n_modes = len(inputs.grid)
        if n_modes > 3:
            raise ValueError(f"FNORegressor supports fields of one to three dimensions; X has the grid {inputs.grid}.")
        modes = self.modes
        paper = self.settings == "paper"
        if modes == "auto":
            third = (n if paper else max(n // 3, 1) for n in inputs.grid)
            most = map(min, largest_modes(inputs.grid), third)
            modes = tuple(min(12 if n_modes == 1 else 8, m) for m in most)
        modes = (modes,) * n_modes if isinstance(modes, Integral) else tuple(modes)
        arguments = {
            **field_arguments(inputs, outputs),
            "width": (32, 16, 14)[n_modes - 1] if self.width == "auto" else self.width,
            "modes": modes,
            "depth": (6 if paper else 4, 4, 2)[n_modes - 1] if self.depth == "auto" else self.depth,
            "coordinates": self.coordinates,
        }
        return FNO, arguments, {"modes_": modes}
