from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_hss import NeuralHSSRegressor


@parametrize_with_checks([NeuralHSSRegressor()])
def test_check_estimator(estimator, check):
    check(estimator)
