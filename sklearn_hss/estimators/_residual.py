"""A law, and a regressor that learns its residuals."""

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, _fit_context, clone
from sklearn.model_selection import check_cv
from sklearn.utils._param_validation import HasMethods, StrOptions

from .._containers import as_plain
from .._fields import Domain, FieldShape, as_rows, check_mask, check_weight, rounding_unit
from .._parameters import unchanged_on_error
from .._warnings import quiet, warn_user
from ..exceptions import DivergenceWarning, UnverifiedFitWarning
from ._batches import max_scales
from ._nested import check_takes, read_inputs, read_pairs, refuse_lost_grid, takes_fields
from ._score import FieldRegressorMixin

# One sample in this many is held out, to test whether the correction helps.
_HELD_OUT = 5
# Smallest number of samples of which one can be held out.
_JUDGED = 3
# A correction must reduce the error by this fraction, since smaller reductions may be due to chance.
_HELPS = 0.05
# Residuals up to this multiple of the rounding error are regarded as rounding.
_EXACT = 100.0


class ResidualRegressor(MetaEstimatorMixin, FieldRegressorMixin, BaseEstimator):
    """A law and its correction: predictions are the sum of two regressors, the second of which learns the residuals.

    If an equation is known to be mostly local or linear, :class:`LocalOperatorRegressor`, :class:`HSSRegressor` or
    similar regressors learn that part from few samples. The residual, such as a nonlocal term or one of another type,
    is smaller and often simpler than the whole, so a network or a kernel method learns it from fewer samples than it
    would need for the full operator.

    Parameters
    ----------
    law : regressor
        Regressor that is fitted first, to the targets: an estimator of this package or of scikit-learn, a pipeline or a
        search. Estimators of this package, and pipelines and searches that consist of these alone, receive fields in
        their original shape; all others receive them flattened.
    correction : regressor
        Regressor, of any of these types, that is fitted to the residuals ``y - law.predict(X)``, divided by their
        largest magnitude in every channel.
    with_prediction : bool, default=False
        Whether the correction receives the predictions of the law in addition to `X`, as further channels, or as
        further features of flat fields. For fields, ``grid_shape`` of a nested estimator, or the mask, must distinguish
        channels from points.
    cv : int, cross-validation generator or None, default=None
        Splits by which residuals of held-out samples are computed: an int is a number of contiguous folds. None uses
        the residuals of the fit to all samples, which is appropriate for a law with few coefficients. A law with many
        coefficients, such as ridge regression, overfits its own samples and needs folds: it is then fitted once for
        each fold and once to all samples, and the correction also learns the differences between these fits.
    only_if_better : bool, default=True
        Whether to omit the correction if it does not reduce the error on samples held out of both fits by at least 5 %.
        These are the last fifth of the samples, so that states of one trajectory stay together; samples in any other
        systematic order should be shuffled. This requires one further fit of the correction, and of the law unless `cv`
        is set. If False, the correction is always used.
    mask : array-like of bool and shape (\\*grid), "auto" or None, default=None
        Points of a domain that is not rectangular, True inside; it applies to every channel. Values outside are set to
        zero before they reach the regressors; predictions are zero there, or NaN where all training targets were NaN.
        Scores refer to the points inside. "auto" selects the points where the targets are neither zero nor NaN in all
        samples.

    Attributes
    ----------
    law_ : regressor
        The fitted clone of `law`.
    correction_ : regressor or None
        The fitted clone of `correction`; None if it is not used.
    corrected_ : bool
        Whether the correction is used.
    reason_ : str
        Reason for or against the correction.
    held_out_error_ : float
        Relative error on held-out samples, with the correction if it is used. NaN if no samples were held out.
    law_error_ : float
        Relative error of the law alone on these samples.
    scale_ : ndarray of shape (n_channels,) or None
        Divisors of the residuals, one for each channel of the targets; None without a correction.
    mask_ : ndarray of bool and shape (\\*grid) or None
        Points inside the domain; None if all are.
    n_features_in_ : int
        Number of values of an input.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the inputs, if `X` had string column names.

    See Also
    --------
    RolloutRegressor : Time stepping with this estimator, or any other.
    sklearn.ensemble.StackingRegressor : Combination of regressors that all learn the targets.

    Examples
    --------
    A linear map plus a quadratic term, which a polynomial kernel of degree two learns:

    >>> import numpy as np
    >>> from sklearn.kernel_ridge import KernelRidge
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn_hss import ResidualRegressor
    >>> from sklearn_hss.datasets import make_poisson
    >>> from sklearn_hss.metrics import relative_l2_error
    >>> F, U = make_poisson(120, 16, modes=(1, 5), random_state=0)
    >>> U = U + U**2 / U.max()
    >>> model = ResidualRegressor(Ridge(1e-6), KernelRidge(kernel="poly", degree=2, alpha=1e-6))
    >>> model = model.fit(F[:100], U[:100])
    >>> print(model.reason_)
    the correction lowers the error on held-out samples, 0.123, to 2.44e-06
    >>> bool(relative_l2_error(U[100:], model.predict(F[100:])) < 1e-4)
    True
    """

    _parameter_constraints: dict = {
        "law": [HasMethods(["fit", "predict"])],
        "correction": [HasMethods(["fit", "predict"])],
        "with_prediction": ["boolean"],
        "cv": ["cv_object"],
        "only_if_better": ["boolean"],
        "mask": ["array-like", StrOptions({"auto"}), None],
    }

    _input_fields: FieldShape
    _target_fields: FieldShape
    _input_shape: tuple[int, ...]
    _target_shape: tuple[int, ...]
    _domain: Domain

    def __init__(self, law, correction, *, with_prediction=False, cv=None, only_if_better=True, mask=None):
        self.law = law
        self.correction = correction
        self.with_prediction = with_prediction
        self.cv = cv
        self.only_if_better = only_if_better
        self.mask = mask

    # The nested estimators validate their own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Fit the law, and the correction to its residuals.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_features)
            Inputs. float32 and float64 are kept, everything else becomes float64.
        y : array-like of shape (n_samples, \\*grid), ... as for X, or (n_samples,)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, for regressors that accept them. Samples of weight zero are ignored.

        Returns
        -------
        object
            This estimator, fitted.

        Raises
        ------
        ValueError
            If the data or parameters are invalid; an earlier fit is then preserved.

        Warns
        -----
        sklearn_hss.exceptions.UnverifiedFitWarning
            If there are fewer than three samples, so that none can be held out; the correction is then not used.
        sklearn_hss.exceptions.DivergenceWarning
            If predictions of the law are not finite; the correction is then not used.
        """
        with unchanged_on_error(self):
            return self._fit(X, y, sample_weight)

    def _fit(self, X, y, weight):
        if weight is not None:
            for estimator in (self.law, self.correction):
                check_takes(estimator, {"sample_weight": weight})
        X, y, weight, rounding = self._check_data(X, y, weight)
        unseen = None if self.cv is None else self._unseen_predictions(X, y, weight)
        if weight is not None:
            X, y, unseen, weight = (None if rows is None else rows[weight > 0] for rows in (X, y, unseen, weight))
        self.law_error_ = self.held_out_error_ = np.nan
        self.corrected_, self.reason_ = True, "only_if_better=False"
        if self.only_if_better:
            self._judge(X, y, weight, unseen, rounding)
        self.law_ = self._fit_law(X, y, weight)
        self.correction_ = self.scale_ = None
        if not self.corrected_:
            return self
        predicted = self._of_law(self.law_, X) if unseen is None else unseen
        n_lost = len(X) - np.isfinite(predicted).all(axis=1).sum()
        if n_lost or self.law_error_ == np.inf:
            where = f"{n_lost} of {len(X)} training samples" if n_lost else "held-out samples"
            self._decline(f"predictions of the law are infinite or NaN for {where}")
            warn_user(f"There is no correction: {self.reason_}.", DivergenceWarning)
        elif not (y != predicted).any():
            self._decline("the law is exact")
        else:
            self.correction_, self.scale_ = self._fit_correction(X, y - predicted, predicted, weight)
        return self

    def _check_data(self, X, y, weight):
        """Rows of inputs and targets, weights, and the rounding unit of the original arrays."""
        mask, weight = check_mask(self.mask), as_plain(weight, "sample_weight")
        rounding = max(rounding_unit(as_rows(X)[0], as_rows(y, "y")[0]) or 0, np.finfo(np.float64).eps)
        X, y = read_pairs(self, X, y, mask, weight)
        self._check_nested()
        if weight is not None:
            weight = check_weight(weight, X, X.dtype)
        return X, y, weight, rounding

    def _check_nested(self):
        """Reject regressors that do not know the grid of the fields they receive."""
        for name in ("law", "correction"):
            estimator = getattr(self, name)
            if len(self._input_shape) > 1 and not takes_fields(estimator):
                refuse_lost_grid(name, estimator, self._input_shape)
        if self.with_prediction and takes_fields(self.correction):
            grids = self._input_fields.grid, self._target_fields.grid
            if not self._knows_grid:
                raise ValueError(
                    "with_prediction=True passes predictions as further channels of X; set grid_shape of the "
                    f"correction, such as to {self._input_shape[-len(grids[0]) :]}."
                )
            if grids[0] != grids[1]:
                raise ValueError(
                    f"with_prediction=True needs y on the grid of X, {grids[0]}, not on {grids[1]}; use a correction "
                    "that accepts flattened fields, or with_prediction=False."
                )

    def _fit_law(self, X, y, weight):
        # Many regressors take a single target in one dimension only.
        shape = self._target_shape if takes_fields(self.law) or not self._target_shape else (-1,)
        return self._fitted(self.law, self._for_law(X), y.reshape(len(y), *shape), weight)

    def _fit_correction(self, X, residuals, predicted, weight):
        """Fit to residuals, and return their scales as well."""
        scale = max_scales(residuals, self._target_fields.n_channels)
        scaled = self._channels(residuals) / scale[:, None]
        shape = self._target_shape if takes_fields(self.correction) or not self._target_shape else (-1,)
        targets = scaled.astype(X.dtype, copy=False).reshape(len(X), *shape)
        return self._fitted(self.correction, self._for_correction(X, predicted), targets, weight), scale

    def _fitted(self, estimator, X, y, weight):
        return clone(estimator).fit(X, y, **({} if weight is None else {"sample_weight": weight}))

    def _for_law(self, X):
        return X.reshape(len(X), *self._input_shape) if takes_fields(self.law) else X

    def _for_correction(self, X, predicted):
        fields = takes_fields(self.correction)
        if not self.with_prediction:
            return X.reshape(len(X), *self._input_shape) if fields else X
        X = np.hstack([X, predicted.astype(X.dtype, copy=False)])
        return X.reshape(len(X), -1, *self._input_fields.grid) if fields else X

    def _of_law(self, law, X):
        """Predictions of the law, in rows, zero outside of the domain."""
        return self._domain.fill_outputs(np.asarray(law.predict(self._for_law(X))).reshape(len(X), -1))

    def _of_correction(self, correction, scale, X, predicted):
        """Contribution of the correction to these predictions of the law, in rows."""
        values = np.asarray(correction.predict(self._for_correction(X, predicted)))
        return (self._channels(values) * scale[:, None]).reshape(len(X), -1)

    def _channels(self, values):
        return values.reshape(len(values), self._target_fields.n_channels or 1, -1)

    def _unseen_predictions(self, X, y, weight):
        """Cross-validated predictions of the law for all samples."""
        predicted, seen = np.full(y.shape, np.nan), np.zeros(len(X), int)
        for train, test in check_cv(self.cv).split(X, y):
            if weight is not None:
                train = train[weight[train] > 0]
            law = self._fit_law(X[train], y[train], None if weight is None else weight[train])
            predicted[test] = self._of_law(law, X[test])
            seen[test] += 1
        if (seen != 1).any():
            raise ValueError(f"cv={self.cv!r} does not hold out every sample once, as KFold does.")
        return predicted

    def _judge(self, X, y, weight, unseen, rounding):
        """Whether the correction helps on the last fifth of the samples, when both are fitted to the others."""
        n = len(X)
        if n < _JUDGED:
            self._decline(f"n_samples = {n} are too few to hold any out and test whether the correction helps")
            warn_user(
                f"The correction is not used: {self.reason_}; provide more samples, or use only_if_better=False.",
                UnverifiedFitWarning,
            )
            return
        n_train = n - max(n // _HELD_OUT, 1)
        train, test = slice(n_train), slice(n_train, None)
        of_train, of_test = (None, None) if weight is None else (weight[train], weight[test])
        sizes = max_scales(y, self._target_fields.n_channels)[:, None]

        def error(predicted):
            left, whole = (
                np.average(np.square(self._channels(rows) / sizes, dtype=float).sum((1, 2)), weights=of_test)
                for rows in (y[test] - predicted, y[test])
            )
            return float(np.sqrt(left / whole)) if whole else float(np.sqrt(left))

        # Its warnings would refer to splits and fits that the user did not request.
        with quiet(), np.errstate(all="ignore"):
            if unseen is None:
                law = self._fit_law(X[train], y[train], of_train)
                unseen = np.vstack([self._of_law(law, X[part]) for part in (train, test)])
            if not np.isfinite(unseen).all():
                self.law_error_ = self.held_out_error_ = np.inf
                return
            self.law_error_ = self.held_out_error_ = error(unseen[test])
            if self.law_error_ <= _EXACT * rounding or not (y[train] != unseen[train]).any():
                self._decline(f"the law is exact, with an error of {self.law_error_:.1e} on held-out samples")
                return
            correction, scale = self._fit_correction(X[train], (y - unseen)[train], unseen[train], of_train)
            corrected = error(unseen[test] + self._of_correction(correction, scale, X[test], unseen[test]))
        numbers = f"the error on held-out samples, {self.law_error_:.3g}"
        if corrected <= (1 - _HELPS) * self.law_error_:
            self.held_out_error_ = corrected
            self.reason_ = f"the correction lowers {numbers}, to {corrected:.3g}"
        else:
            self._decline(f"the correction does not lower {numbers}, but changes it to {corrected:.3g}")

    def _decline(self, reason):
        self.corrected_, self.reason_ = False, reason

    def predict(self, X):
        """Predict with the law, and with the correction if it is used.

        Parameters
        ----------
        X : array-like of shape (n_samples, \\*grid), (n_samples, n_channels, \\*grid) or (n_samples, n_features)
            Inputs, of the shape seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, \\*target)
            Predictions of the shape of the targets in `fit`, in the floating-point type of `X`.
        """
        X = read_inputs(self, X, self.mask)
        predicted = self._of_law(self.law_, X)
        if self.corrected_:
            finite = np.isfinite(predicted).all(axis=1)
            total = np.full(predicted.shape, np.nan)
            if finite.any():
                total[finite] = predicted[finite] + self._of_correction(
                    self.correction_, self.scale_, X[finite], predicted[finite]
                )
            predicted = total
        predicted = self._domain.finish(predicted.astype(X.dtype))
        return predicted.reshape(len(X), *self._target_shape)
