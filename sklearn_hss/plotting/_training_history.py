"""Losses of networks over their training."""

from collections.abc import Sequence

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._geometry import innermost
from ._style import COLOURS, LEGEND, PANEL, SINGLE, check_axes, pyplot


class TrainingHistoryDisplay:
    """Losses of a network over the epochs or seconds of its training, and its learning rate.

    Made by :meth:`from_estimator` or :meth:`from_history`. Losses are those of the scaled fields, on a logarithmic
    axis. The learning rate has a panel of its own, below, where it is known and changes.

    Parameters
    ----------
    history : list of dict
        One row per epoch with its ``epoch``, ``train_loss``, and where there are such ``valid_loss``, ``lr`` and
        ``dur``, the seconds it took: the attribute ``history_`` of networks.

    Attributes
    ----------
    history : list of dict
        The rows.
    lines_ : dict of str to matplotlib Line2D
        With the keys "train_loss", and "valid_loss" and "lr" where these are drawn.
    axes_ : ndarray of matplotlib Axes, of shape (1,) or (2,)
        The panel of the losses, and that of the learning rate if there is one.
    figure_ : matplotlib Figure
        The figure that holds the axes.

    See Also
    --------
    DataEfficiencyDisplay : Errors against the number of samples.

    Examples
    --------
    >>> from sklearn_hss import FNORegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> from sklearn_hss.plotting import TrainingHistoryDisplay
    >>> F, U = make_poisson(20, 32, random_state=0)
    >>> model = FNORegressor(width=4, modes=4, max_epochs=5, validation_fraction=0.2, random_state=0).fit(F, U)
    >>> display = TrainingHistoryDisplay.from_estimator(model)
    >>> sorted(display.lines_)
    ['lr', 'train_loss', 'valid_loss']
    """

    def __init__(self, *, history: Sequence[dict]) -> None:
        rows = list(history)
        if not rows or not all(isinstance(row, dict) and "train_loss" in row for row in rows):
            raise ValueError("history must be dicts with the key 'train_loss', one for each epoch and one at least.")
        self.history = rows

    @classmethod
    def from_estimator(cls, estimator, *, over="epochs", axes=None) -> "TrainingHistoryDisplay":
        """Draw the training of a fitted network.

        Parameters
        ----------
        estimator : estimator
            Fitted; a network, or a pipeline, a search or an estimator of this package around one.
        over : {"epochs", "seconds"}, default="epochs"
            The horizontal axis.
        axes : array of matplotlib Axes, default=None
            Where to draw: one for the losses, and one for the learning rate if that changes. On a new figure if None.

        Returns
        -------
        TrainingHistoryDisplay
            With the picture drawn.

        Raises
        ------
        TypeError
            If the estimator has no history.
        """
        check_is_fitted(estimator)
        network = innermost(estimator, "history_")
        if network is None:
            raise TypeError(f"{type(estimator).__name__} has no history_; networks of this package have one.")
        return cls.from_history(network.history_, over=over, axes=axes)

    @classmethod
    def from_history(cls, history, *, over="epochs", axes=None) -> "TrainingHistoryDisplay":
        """Draw the rows of a history.

        Parameters
        ----------
        history : list of dict
            One row per epoch, as the attribute ``history_`` of networks has them.
        over : {"epochs", "seconds"}, default="epochs"
            The horizontal axis.
        axes : array of matplotlib Axes, default=None
            Where to draw: one for the losses, and one for the learning rate if that changes. On a new figure if None.

        Returns
        -------
        TrainingHistoryDisplay
            With the picture drawn.

        Raises
        ------
        ValueError
            For rows without a loss, and for seconds that are not known.
        """
        return cls(history=history).plot(over=over, axes=axes)

    def plot(self, *, over="epochs", axes=None) -> "TrainingHistoryDisplay":
        """Draw the picture, once more or elsewhere.

        Parameters
        ----------
        over : {"epochs", "seconds"}, default="epochs"
            The horizontal axis.
        axes : array of matplotlib Axes, default=None
            Where to draw: one for the losses, and one for the learning rate if that changes. On a new figure if None.

        Returns
        -------
        TrainingHistoryDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            For another axis than these, and for seconds that are not known.
        """
        if over not in ("epochs", "seconds"):
            raise ValueError(f"over={over!r} must be 'epochs' or 'seconds'.")
        if over == "seconds" and not all("dur" in row for row in self.history):
            raise ValueError("over='seconds' needs the seconds of all epochs, 'dur', which this history has not.")
        x = (
            np.cumsum([row["dur"] for row in self.history])
            if over == "seconds"
            else np.array([row.get("epoch", i + 1) for i, row in enumerate(self.history)])
        )
        curves = {
            key: np.array([row.get(key, np.nan) for row in self.history], dtype=np.float64)
            for key in ("train_loss", "valid_loss", "lr")
        }
        rates = curves["lr"][np.isfinite(curves["lr"])]
        with_rate = bool(len(rates)) and float(np.ptp(rates)) > 0
        self.axes_ = self._panels(with_rate, axes)
        self.figure_ = self.axes_[0].figure
        shown: dict[str, tuple] = {"train_loss": (self.axes_[0], "training", COLOURS[0], "-")}
        if np.isfinite(curves["valid_loss"]).any():
            shown["valid_loss"] = (self.axes_[0], "validation", COLOURS[1], "--")
        if with_rate:
            shown["lr"] = (self.axes_[1], None, COLOURS[2], "-")
        marker = "o" if len(x) == 1 else None
        self.lines_ = {
            key: ax.plot(x, curves[key], dashes, color=colour, label=label, marker=marker)[0]
            for key, (ax, label, colour, dashes) in shown.items()
        }
        for ax, name in zip(self.axes_, ("loss", "learning rate"), strict=False):
            ax.set(yscale="log", ylabel=name)
            ax.grid(color="0.92")
        if over == "epochs":
            from matplotlib.ticker import MaxNLocator

            self.axes_[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        self.axes_[-1].set_xlabel("epoch" if over == "epochs" else "seconds")
        self.axes_[0].legend(**LEGEND)
        return self

    def _panels(self, with_rate, axes):
        if axes is not None:
            return check_axes(axes, 1, 1 + with_rate)[0]
        plt = pyplot()
        if not with_rate:
            return plt.subplots(figsize=SINGLE, layout="constrained", squeeze=False)[1][0]
        size = (SINGLE[0], SINGLE[1] + 0.4 * PANEL[1])
        return plt.subplots(2, 1, figsize=size, layout="constrained", sharex=True, height_ratios=[3, 1])[1]
