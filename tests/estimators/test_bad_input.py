"""Bad data and parameters end in one clear error before any training, for every neural regressor."""

import numpy as np
import pytest
import scipy.sparse

from sklearn_hss import (
    DeepONetRegressor,
    FactFormerRegressor,
    FNORegressor,
    GreenLearningRegressor,
    NeuralHSSRegressor,
    ResNetRegressor,
)
from sklearn_hss.estimators._base import BaseNeuralRegressor

REGRESSORS = [
    NeuralHSSRegressor,
    FNORegressor,
    FactFormerRegressor,
    ResNetRegressor,
    DeepONetRegressor,
    GreenLearningRegressor,
]

X = np.random.RandomState(0).standard_normal((6, 16))
Y = np.random.RandomState(1).standard_normal((6, 16))


def spoilt(array, value):
    array = array.copy()
    array[2, 3] = value
    return array


BAD_DATA = {
    "NaN in X": (spoilt(X, np.nan), Y, "Input X contains NaN"),
    "NaN in y": (X, spoilt(Y, np.nan), "Input (y )?contains NaN"),
    "infinity in X": (spoilt(X, np.inf), Y, "Input X contains infinity"),
    "infinity in y": (X, spoilt(Y, -np.inf), "Input (y )?contains infinity"),
    "complex X": (X + 1j, Y, "Complex data not supported"),
    "complex y": (X, Y + 1j, "Complex data not supported"),
    "sparse X": (scipy.sparse.csr_matrix(X), Y, "Sparse data was passed"),
    "ragged X": ([[1.0, 2.0], [3.0]], [[1.0, 2.0], [3.0, 4.0]], "inhomogeneous"),
    "sparse y": (X, scipy.sparse.csr_matrix(Y), "Sparse data was passed"),
    "strings in y": (X, np.full((6, 16), "a"), "y has dtype <U1, which holds text"),
    "a grid in y alone": (X, Y.reshape(6, 4, 4), r"y has fields of shape \(4, 4\), which do not fit the grid \(16,\)"),
    "NaN on a grid": (spoilt(X, np.nan).reshape(6, 4, 4), Y.reshape(6, 4, 4), "Input X contains NaN"),
    "text in X": (np.full((6, 16), "a", dtype=object), Y, "could not convert string to float"),
    "text in y": (X, np.full((6, 16), "a", dtype=object), "could not convert string to float|dtype"),
    "no samples": (X[:0], Y[:0], "Found array with 0 sample"),
    "no points": (X[:, :0], Y, r"0 feature\(s\)"),
    "one sample": (X[:1], Y[:1], "Found array with 1 sample.* minimum of 2 is required"),
    "lengths differ": (X, Y[:4], r"inconsistent numbers of samples: \[6, 4\]"),
    "1-D X": (X[0], Y[0], "Expected 2D array, got 1D array instead"),
    "no y": (X, None, "requires y to be passed, but the target y is None"),
}

BAD_PARAMETERS = {
    "negative lr": ({"lr": -1e-3}, r"The 'lr' parameter .* must be a float in the range \(0.0, inf\) .* Got -0.001"),
    "min_lr above lr": ({"lr": 1e-3, "min_lr": 1e-2}, "min_lr=0.01 must not exceed lr=0.001"),
    "no epochs": ({"max_epochs": 0}, "The 'max_epochs' parameter"),
    "fractional batch": ({"batch_size": 1.5}, "The 'batch_size' parameter"),
    "negative decay": ({"weight_decay": -1}, "The 'weight_decay' parameter"),
    "no gradient": ({"gradient_clip": 0}, "The 'gradient_clip' parameter"),
    "unknown scale": ({"scale": "minmax"}, "The 'scale' parameter"),
    "all for validation": ({"validation_fraction": 1.0}, "The 'validation_fraction' parameter"),
    "too little left to train": (
        {"validation_fraction": 0.99},
        "leaves none of 6 samples .* works is 0.83",
    ),
    "unknown device": ({"device": "tpu:0"}, r"device='tpu:0' cannot be used here; use 'auto' or one of \['cpu'"),
    "device without data": ({"device": "meta"}, "device='meta' cannot be used here"),
    "absent device": ({"device": "cuda:99"}, "device='cuda:99' cannot be used here"),
    "unknown dtype": ({"dtype": "float16"}, "The 'dtype' parameter"),
    "no callback": ({"callbacks": ["x"]}, "callbacks contains 'x', which is neither"),
    "bad seed": ({"random_state": "seed"}, "The 'random_state' parameter"),
}

BAD_STRUCTURE = {
    "levels too deep": ({"levels": 5}, "levels=5 is too deep for n_points=16: the largest value that works is 4"),
    "rank above the leaf": (
        {"rank": 5, "levels": 2},
        "rank=5 exceeds the smallest leaf of n_points=16 .* the largest value .* is 4",
    ),
    "rank above every leaf": ({"rank": 9}, "rank=9 is too large for fields of 16 points: .* that works is 8"),
    "no rank": ({"rank": 0}, "The 'rank' parameter"),
    "negative levels": ({"levels": -1}, "The 'levels' parameter"),
    "no depth": ({"depth": 0}, "The 'depth' parameter"),
    "unknown lifting": ({"lifting": "fourier"}, "The 'lifting' parameter"),
    "infinite slope": ({"initial_slope": np.inf}, "The 'initial_slope' parameter"),
    "negative penalty": ({"slope_penalty": -1}, "The 'slope_penalty' parameter"),
}


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    def train(*args, **kwargs):
        pytest.fail("training started")

    monkeypatch.setattr(BaseNeuralRegressor, "_train", train)


@pytest.mark.parametrize("regressor", REGRESSORS)
@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(regressor, case):
    X, y, message = BAD_DATA[case]
    with pytest.raises((ValueError, TypeError), match=message):
        regressor().fit(X, y)


@pytest.mark.parametrize("regressor", REGRESSORS)
@pytest.mark.parametrize("case", BAD_PARAMETERS)
def test_bad_parameters(regressor, case):
    parameters, message = BAD_PARAMETERS[case]
    with pytest.raises(ValueError, match=message):
        regressor(**parameters).fit(X, Y)


@pytest.mark.parametrize("case", BAD_STRUCTURE)
def test_bad_structure(case):
    parameters, message = BAD_STRUCTURE[case]
    with pytest.raises(ValueError, match=message):
        NeuralHSSRegressor(**parameters).fit(X, Y)


@pytest.mark.parametrize("regressor", REGRESSORS)
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(6), "Sample weights must contain at least one non-zero number"),
        (np.ones(5), "sample_weight.shape == "),
        (-np.ones(6), "Negative values in data passed to `sample_weight`"),
        (np.full(6, np.nan), "sample_weight contains NaN"),
    ],
)
def test_bad_sample_weights(regressor, weight, message):
    with pytest.raises(ValueError, match=message):
        regressor().fit(X, Y, sample_weight=weight)


@pytest.mark.parametrize("regressor", REGRESSORS)
class TestAfterAFit:
    @pytest.fixture
    def fitted(self, regressor, monkeypatch):
        monkeypatch.undo()
        return regressor(max_epochs=1, warm_start=True).fit(X, Y)

    def test_another_grid_in_predict(self, fitted):
        with pytest.raises(ValueError, match=r"X has 8 features, but .* is expecting 16 features"):
            fitted.predict(X[:, :8])

    def test_nan_in_predict(self, fitted):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            fitted.predict(spoilt(X, np.nan))

    def test_other_targets_in_score(self, fitted):
        with pytest.raises(ValueError, match=r"y has shape \(6, 4\), but the predictions have shape \(6, 16\)"):
            fitted.score(X, Y[:, :4])

    def test_other_targets_in_a_continued_fit(self, fitted):
        for method in (fitted.fit, fitted.partial_fit):
            with pytest.raises(ValueError, match=r"y has shape \(6, 4\), but .* earlier fit .* \(n_samples, 16\)"):
                method(X, Y[:, :4])
        with pytest.raises(ValueError, match="X has 8 features"):
            fitted.partial_fit(X[:, :8], Y)

    def test_a_refused_fit_loses_nothing(self, fitted):
        before = fitted.predict(X)
        for data in ((spoilt(X, np.nan), Y), (X, Y[:4])):
            with pytest.raises(ValueError, match=r"NaN|inconsistent"):
                fitted.set_params(warm_start=False).fit(*data)
        with pytest.raises(ValueError, match="cannot be used here"):
            fitted.set_params(device="tpu").fit(X, Y)
        fitted.set_params(device="cpu", validation_fraction=0.99)
        with pytest.raises(ValueError, match="leaves none of 6 samples"):
            fitted.fit(X[:, :12], Y)
        fitted.set_params(validation_fraction=None, callbacks=[1])
        with pytest.raises(ValueError, match="callbacks contains 1"):
            fitted.fit(X[:, :12], Y)
        np.testing.assert_array_equal(fitted.predict(X), before)


@pytest.mark.parametrize("regressor", REGRESSORS)
def test_predict_before_fit(regressor):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        regressor().predict(X)
