"""Warning categories of this package, each of which can be silenced or turned into an error on its own.

In addition, an interrupted training issues scikit-learn's ``ConvergenceWarning``, and a solve with a singular operator
issues SciPy's ``LinAlgWarning``.
"""

__all__ = [
    "AmbiguousFitWarning",
    "CompressionWarning",
    "DataWarning",
    "DivergenceWarning",
    "ExtrapolationWarning",
    "HSSWarning",
    "PoorFitWarning",
    "UnverifiedFitWarning",
]


class HSSWarning(UserWarning):
    """Base class of all warnings of this package.

    It is never issued itself; a filter for it applies to all of them.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from sklearn_hss import HSSRegressor
    >>> from sklearn_hss.exceptions import HSSWarning
    >>> F = np.random.RandomState(0).standard_normal((1, 16))
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", HSSWarning)
    ...     model = HSSRegressor().fit(F, F)
    """


class PoorFitWarning(HSSWarning):
    """None of the candidate models explains the samples.

    Issued by `fit` of :class:`sklearn_hss.HSSRegressor` and :class:`sklearn_hss.HSSTransformer`, if the best fit has a
    large error on held-out samples, or if ``symmetric=True`` was set and the samples are not those of a symmetric
    operator; by `fit` of :class:`sklearn_hss.LocalOperatorRegressor` with a `degree` above 1, if no candidate law
    satisfies the samples to within 2e-3; and by `fit` of :class:`sklearn_hss.LocalEvolutionRegressor`, if a law
    predicts held-out states hardly better than the assumption of no change, or worse than ridge regression. The message
    names the most likely cause, which determines the remedy: more samples, ``fit_intercept=True``, less noise, other
    settings, or a network such as :class:`sklearn_hss.NeuralHSSRegressor` if the equation is not linear.

    Examples
    --------
    To stop at a poor fit rather than continue with it:

    >>> import warnings
    >>> from sklearn_hss import HSSRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> from sklearn_hss.exceptions import PoorFitWarning
    >>> F, U = make_poisson(n_samples=20, n_points=32, random_state=0)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", PoorFitWarning)
    ...     model = HSSRegressor(random_state=0).fit(F, U)
    """


class AmbiguousFitWarning(HSSWarning):
    """Two forms of the operator explain the samples about equally well, and neither does so exactly.

    Issued by `fit` of :class:`sklearn_hss.HSSRegressor` and :class:`sklearn_hss.HSSTransformer`. The two forms may
    differ considerably on inputs unlike the samples. If it is known whether the operator or its inverse is a
    differential operator, set `form`; more samples, or more diverse ones, also help.

    Examples
    --------
    With `form` set, the choice is not ambiguous:

    >>> import warnings
    >>> from sklearn_hss import HSSRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> from sklearn_hss.exceptions import AmbiguousFitWarning
    >>> F, U = make_poisson(n_samples=20, n_points=32, random_state=0)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", AmbiguousFitWarning)
    ...     model = HSSRegressor(form="inverse", random_state=0).fit(F, U)
    """


class UnverifiedFitWarning(HSSWarning):
    """There are too few samples to hold some out, so the error of the fit is unknown.

    Issued by `fit` of :class:`sklearn_hss.HSSRegressor`, :class:`sklearn_hss.HSSTransformer`,
    :class:`sklearn_hss.LocalEvolutionRegressor` and :class:`sklearn_hss.ResidualRegressor`. Provide more samples, or
    compare predictions with simulations that were not used in `fit`.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from sklearn_hss import HSSRegressor
    >>> from sklearn_hss.exceptions import UnverifiedFitWarning
    >>> F = np.random.RandomState(0).standard_normal((1, 16))
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", UnverifiedFitWarning)
    ...     model = HSSRegressor().fit(F, F)
    """


class ExtrapolationWarning(HSSWarning):
    """New inputs lie mostly outside the span of the training inputs, where the samples do not determine the operator.

    Issued by `predict` of :class:`sklearn_hss.HSSRegressor` and `transform` of :class:`sklearn_hss.HSSTransformer`, for
    fields of several dimensions. The message states how the operator is extrapolated; the predictions are only as
    accurate as this extrapolation. The method `support_distance` returns the fraction of each input that lies outside.
    Also issued by :meth:`sklearn_hss.LocalOperatorRegressor.sample`, for forcings at which the samples do not determine
    the law sufficiently. Train on inputs that resemble those to be predicted.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_hss import HSSRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> from sklearn_hss.exceptions import ExtrapolationWarning
    >>> F, U = make_poisson(n_samples=20, n_points=32, random_state=0)
    >>> model = HSSRegressor(random_state=0).fit(F, U)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", ExtrapolationWarning)
    ...     predictions = model.predict(F)
    """


class DivergenceWarning(HSSWarning):
    """Rollouts became infinite or NaN, or grow far beyond all training states, or long rollouts would do so.

    Issued by :meth:`sklearn_hss.RolloutRegressor.rollout`, and by its `fit` if a linear step has a spectral radius
    above one that the training states do not explain, so that the learned step is unstable; and by `predict` and
    `rollout` of :class:`sklearn_hss.LocalEvolutionRegressor` for states at which its law is unstable. Fewer steps, more
    trajectories, another estimator or different settings may help.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn_hss import RolloutRegressor
    >>> from sklearn_hss.exceptions import DivergenceWarning
    >>> growing = 2.0 ** np.arange(10)[:, np.newaxis] * np.ones(4)
    >>> model = RolloutRegressor(Ridge(1e-6)).fit(growing[np.newaxis])
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", DivergenceWarning)
    ...     trajectories = model.rollout(np.ones((1, 4)), n_steps=100)
    Traceback (most recent call last):
    sklearn_hss.exceptions.DivergenceWarning: Rollouts grow to ...
    """


class DataWarning(HSSWarning):
    """The data may not be what was intended.

    Issued by `fit` of all estimators, if fields look like a grid with the channels last: channels come before the
    grid, and `grid_shape` distinguishes the two. Issued by :func:`sklearn_hss.datasets.make_burgers`, if the grid is
    too coarse for the fronts of the solution; the message names a sufficiently fine one. Issued by `fit` of
    :class:`sklearn_hss.LocalOperatorRegressor` and :class:`sklearn_hss.LocalEvolutionRegressor`, if the targets are not
    fields on the grid of the inputs.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_hss.datasets import make_burgers
    >>> from sklearn_hss.exceptions import DataWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DataWarning)
    ...     U, U_next = make_burgers(1, refinement=1, t_final=0.2, random_state=0)
    """


class CompressionWarning(HSSWarning):
    """An HSS matrix holds more numbers than the dense matrix it was built from.

    Issued by :meth:`sklearn_hss.linalg.HSSMatrix.from_dense` if the off-diagonal blocks do not have low rank. An
    ordering in which neighbouring points are close, such as the one :meth:`sklearn_hss.linalg.HSSMatrix.from_kernel`
    computes, a larger `tol` or fewer `levels` may help; otherwise the dense matrix is the better choice.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from sklearn_hss.exceptions import CompressionWarning
    >>> from sklearn_hss.linalg import HSSMatrix
    >>> noise = np.random.RandomState(0).standard_normal((64, 64))
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", CompressionWarning)
    ...     A = HSSMatrix.from_dense(noise, levels=3)
    """
