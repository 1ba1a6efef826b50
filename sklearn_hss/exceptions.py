"""Categories of the warnings of this package, to silence them or to make errors of them one by one.

Besides, a training that was interrupted warns with scikit-learn's ``ConvergenceWarning``, and a solution with an
operator that has no inverse with SciPy's ``LinAlgWarning``.
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
    """Base of all categories here.

    It is never given itself: a filter for it is one for all of them.

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
    """Nothing that was tried explains the samples.

    Given by `fit` of :class:`sklearn_hss.HSSRegressor` and :class:`sklearn_hss.HSSTransformer`, if the best fit is
    far from samples that were held out, or if ``symmetric=True`` was set and the samples are not those of a
    symmetric operator; by `fit` of :class:`sklearn_hss.LocalOperatorRegressor` with a `degree` above 1, if no law
    that was tried holds to 2e-3; and by `fit` of :class:`sklearn_hss.LocalEvolutionRegressor`, if a law predicts
    held-out states hardly better than no change, or worse than ridge regression. The message names the likeliest
    cause, which decides what helps: more samples, ``fit_intercept=True``, less noise, other settings, or a network
    such as :class:`sklearn_hss.NeuralHSSRegressor` where the equation is not linear.

    Examples
    --------
    To stop at a poor fit, rather than to go on with it:

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

    Given by `fit` of :class:`sklearn_hss.HSSRegressor` and :class:`sklearn_hss.HSSTransformer`. For inputs that are
    unlike the samples, the two may differ much. If it is known whether the operator or its inverse is a differential
    operator, set `form`; more samples, or less alike ones, help as well.

    Examples
    --------
    With `form` set, there is nothing to be in doubt about:

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
    """The samples are too few to hold some out, so that nothing is known of the error of the fit.

    Given by `fit` of :class:`sklearn_hss.HSSRegressor`, :class:`sklearn_hss.HSSTransformer`,
    :class:`sklearn_hss.LocalEvolutionRegressor` and :class:`sklearn_hss.ResidualRegressor`. Give more samples, or
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
    """New inputs lie outside the span of the training inputs for the most part, and there, the operator is not known.

    Given by `predict` of :class:`sklearn_hss.HSSRegressor` and `transform` of :class:`sklearn_hss.HSSTransformer`, for
    fields of several dimensions. The message says how the operator is completed; predictions are as good as that guess.
    Their method `support_distance` tells how much of each input lies outside.
    Also given by :meth:`sklearn_hss.LocalOperatorRegressor.sample`, for forcings of which the samples tell too little.
    Train with inputs that resemble those of which the outputs are wanted.

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
    """Rollouts became infinite or NaN, or grow far beyond all states of the training; or long ones will.

    Given by :meth:`sklearn_hss.RolloutRegressor.rollout`, and by its `fit` where a linear step has a spectral radius
    above one that the training states do not explain: the learned step is unstable; and by `predict` and `rollout` of
    :class:`sklearn_hss.LocalEvolutionRegressor` for states for which its law is. Fewer steps, more trajectories, or
    another estimator or other settings of it may help.

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
    """Data that are perhaps not as they were meant to be.

    Given by `fit` of all estimators, if fields look like a grid with channels behind it: channels come before the
    grid, and `grid_shape` tells the two apart. Given by :func:`sklearn_hss.datasets.make_burgers`, if the grid is
    too coarse for the fronts of the solution; the message names one that is not. Given by `fit` of
    :class:`sklearn_hss.LocalOperatorRegressor` and :class:`sklearn_hss.LocalEvolutionRegressor`, if targets are no
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
    """An HSS matrix holds more numbers than the dense matrix that it was made of.

    Given by :meth:`sklearn_hss.linalg.HSSMatrix.from_dense`: the off-diagonal blocks are not of low rank. An order of
    the points in which neighbours are close, as :meth:`sklearn_hss.linalg.HSSMatrix.from_kernel` finds it, a larger
    `tol` or fewer `levels` may help; else the dense matrix is the better one.

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
