"""What holds for the package as a whole: imports, names, documentation."""

import inspect
import subprocess
import sys

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import sklearn_hss

SUBMODULES = ("datasets", "exceptions", "linalg", "metrics", "nn", "plotting", "preprocessing")
MODULES = ["sklearn_hss", *(f"sklearn_hss.{name}" for name in SUBMODULES)]


def public_objects():
    for module_name in MODULES:
        module = __import__(module_name, fromlist=["*"])
        names = getattr(module, "__all__", None) or [
            name for name, value in vars(module).items() if getattr(value, "__module__", "") == module_name
        ]
        for name in names:
            value = getattr(module, name)
            if (inspect.isclass(value) or inspect.isfunction(value)) and not name.startswith("_"):
                yield f"{module_name}.{name}"


def public_methods():
    for path in public_objects():
        module_name, name = path.rsplit(".", 1)
        value = getattr(__import__(module_name, fromlist=["*"]), name)
        if inspect.isclass(value):
            for method, member in inspect.getmembers(value):
                own = getattr(member, "__module__", "") or ""
                if method.startswith("_") or method == "extra_repr":
                    continue
                if callable(member) and own.startswith("sklearn_hss"):
                    yield f"{path}.{method}"


def test_public_names():
    assert set(public_objects()) == {
        "sklearn_hss.DeepONetRegressor",
        "sklearn_hss.FactFormerRegressor",
        "sklearn_hss.FieldScaler",
        "sklearn_hss.FNORegressor",
        "sklearn_hss.GreenLearningRegressor",
        "sklearn_hss.HSSRegressor",
        "sklearn_hss.HSSTransformer",
        "sklearn_hss.NeuralHSSRegressor",
        "sklearn_hss.ResNetRegressor",
        "sklearn_hss.RolloutRegressor",
        "sklearn_hss.datasets.load_diffusionpde",
        "sklearn_hss.datasets.load_the_well",
        "sklearn_hss.datasets.make_burgers",
        "sklearn_hss.datasets.make_gray_scott",
        "sklearn_hss.datasets.make_heat",
        "sklearn_hss.datasets.make_helmholtz",
        "sklearn_hss.datasets.make_navier_stokes",
        "sklearn_hss.datasets.make_poisson",
        "sklearn_hss.exceptions.AmbiguousFitWarning",
        "sklearn_hss.exceptions.CompressionWarning",
        "sklearn_hss.exceptions.DataWarning",
        "sklearn_hss.exceptions.DivergenceWarning",
        "sklearn_hss.exceptions.ExtrapolationWarning",
        "sklearn_hss.exceptions.HSSWarning",
        "sklearn_hss.exceptions.PoorFitWarning",
        "sklearn_hss.exceptions.UnverifiedFitWarning",
        "sklearn_hss.linalg.ClusterTree",
        "sklearn_hss.linalg.HSSMatrix",
        "sklearn_hss.linalg.KroneckerProductSum",
        "sklearn_hss.linalg.LinearMap",
        "sklearn_hss.linalg.LowRankOperator",
        "sklearn_hss.linalg.OperatorSum",
        "sklearn_hss.linalg.DiagonalizedOperator",
        "sklearn_hss.linalg.ULVFactor",
        "sklearn_hss.metrics.relative_l2_error",
        "sklearn_hss.metrics.trajectory_l2_error",
        "sklearn_hss.nn.CPLinear",
        "sklearn_hss.nn.DeepONet",
        "sklearn_hss.nn.FNO",
        "sklearn_hss.nn.GreenLearning",
        "sklearn_hss.nn.Rational",
        "sklearn_hss.nn.ResNet",
        "sklearn_hss.nn.FactFormer",
        "sklearn_hss.nn.SpectralConv",
        "sklearn_hss.nn.HSSLinear",
        "sklearn_hss.nn.HSSMultilinear",
        "sklearn_hss.nn.NeuralHSS",
        "sklearn_hss.nn.TrainableLeakyReLU",
        "sklearn_hss.plotting.HSSMatrixDisplay",
        "sklearn_hss.preprocessing.FieldScaler",
    }


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_is_light():
    heavy = "{name for name in sys.modules if name in ('torch', 'skorch', 'sklearn', 'matplotlib', 'pandas')}"
    assert run(f"import sys, sklearn_hss; dir(sklearn_hss); sklearn_hss.__version__; print({heavy})") == "set()"


def test_every_public_name_can_be_imported():
    for name in sklearn_hss.__all__:
        assert getattr(sklearn_hss, name) is not None
    assert set(sklearn_hss.__all__) <= set(dir(sklearn_hss))
    with pytest.raises(AttributeError, match="no attribute 'NoSuchRegressor'"):
        sklearn_hss.NoSuchRegressor  # noqa: B018


@pytest.mark.parametrize("module", ["exceptions", "linalg", "fitting", "nn", "datasets", "metrics", "preprocessing"])
def test_arrows_point_one_way(module):
    # Rooms without arrows of their own: what is known of arrays, fields, parameters, files, devices and warnings.
    basics = {"_containers", "_files", "_memory", "_warnings", "exceptions"}
    allowed = {
        "exceptions": {"exceptions"},
        "linalg": {"linalg", *basics},
        "fitting": {"linalg", "fitting", *basics},
        "nn": {"linalg", "nn", *basics},
        "datasets": {"datasets", "_devices", "_endings", "_parameters", *basics},
        "metrics": {"metrics", "_fields", *basics},
        "preprocessing": {"preprocessing", "_fields", "_parameters", *basics},
    }[module]
    loaded = run(f"import sys, sklearn_hss.{module}; print(*sys.modules)").split()
    assert {name.split(".")[1] for name in loaded if name.startswith("sklearn_hss.")} <= allowed
    assert not {"sklearn", "skorch"} & set(loaded) or module not in ("exceptions", "linalg", "fitting", "nn")
    assert "torch" not in loaded or module in ("linalg", "fitting", "nn")


# Not asked for: examples and cross-references of every method (EX01, SA01), a second paragraph (ES01), a line break
# before the summary (GL01), descriptions of obvious return values (RT03).
IGNORED = {"EX01", "SA01", "ES01", "GL01", "RT03"}


@pytest.mark.parametrize("path", [*public_objects(), *public_methods()])
def test_docstrings_are_numpydoc(path):
    report = validate(path)
    errors = [f"{code}: {message}" for code, message in report["errors"] if code not in IGNORED]
    assert not errors, f"{path}: {errors}"


def test_classes_and_functions_have_examples():
    for path in public_objects():
        module_name, name = path.rsplit(".", 1)
        assert ">>>" in inspect.getdoc(getattr(__import__(module_name, fromlist=["*"]), name)), path


@pytest.mark.parametrize("name", [name for name in sklearn_hss.__all__ if name.endswith("Regressor")])
def test_all_parameters_are_documented_by_their_names(name):
    estimator = getattr(sklearn_hss, name)
    documented = {
        n for entry in NumpyDocString(inspect.getdoc(estimator))["Parameters"] for n in entry.name.split(", ")
    }
    assert documented == set(inspect.signature(estimator).parameters)
