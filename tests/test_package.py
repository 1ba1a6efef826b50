"""The package as a whole: imports, names, documentation."""

import ast
import graphlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate
from sklearn.linear_model import Ridge

import sklearn_hss
from sklearn_hss._doc_links import DOCUMENTATION

ROOT = Path(__file__).parents[1]

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


def test_public_names_are_those_of_the_documentation():
    spec = importlib.util.spec_from_file_location("_api", ROOT / "doc" / "_api.py")
    api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(api)
    listed = [name for _, names in api.SECTIONS.values() for name in names]
    assert len(listed) == len(set(listed))
    # FieldScaler is found twice, at the top and in its module.
    twice = {"sklearn_hss.preprocessing.FieldScaler"}
    assert {f"sklearn_hss.{name}" for name in listed} == set(public_objects()) - twice


@pytest.mark.parametrize("name", ["HSSRegressor", "HSSTransformer", "FNORegressor", "FieldScaler", "RolloutRegressor"])
def test_html_representation_links_to_the_documentation(name):
    estimator = getattr(sklearn_hss, name)
    estimator = estimator(Ridge()) if name == "RolloutRegressor" else estimator()
    assert f'href="{DOCUMENTATION}generated/sklearn_hss.{name}.html"' in estimator._repr_html_()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_to_files_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text())
    assert not [name for name in targets if "://" not in name and not (ROOT / name).exists()]


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
    basics = {"_containers", "_files", "_lazy", "_memory", "_warnings", "exceptions"}
    allowed = {
        "exceptions": {"_lazy", "exceptions"},
        "linalg": {"linalg", *basics},
        "fitting": {"linalg", "fitting", *basics},
        "nn": {"linalg", "nn", *basics},
        "datasets": {"datasets", "_devices", "_endings", "_parameters", *basics},
        "metrics": {"metrics", "_fields", *basics},
        "preprocessing": {"preprocessing", "_doc_links", "_fields", "_parameters", *basics},
    }[module]
    loaded = run(f"import sys, sklearn_hss.{module}; print(*sys.modules)").split()
    assert {name.split(".")[1] for name in loaded if name.startswith("sklearn_hss.")} <= allowed
    assert not {"sklearn", "skorch"} & set(loaded) or module not in ("exceptions", "linalg", "fitting", "nn")
    assert "torch" not in loaded or module in ("linalg", "fitting", "nn")


PACKAGE = Path(sklearn_hss.__file__).parent
SOURCES = {
    ".".join(["sklearn_hss", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
# The others that a part of the package may import, apart from exceptions and names that begin with an underscore.
ARROWS = {
    "exceptions": set(),
    "linalg": set(),
    "fitting": {"linalg"},
    "nn": {"linalg"},
    "datasets": set(),
    "metrics": set(),
    "preprocessing": set(),
    "plotting": {"linalg", "estimators", "metrics"},
    "estimators": {"linalg", "fitting", "nn", "metrics", "preprocessing"},
}


def imported(module, *, at_once=False):
    """Modules that the import statements of one name, everywhere or where they run as it is imported itself."""
    found, nodes = set(), [ast.parse(SOURCES[module].read_text())]
    package = module if SOURCES[module].name == "__init__.py" else module.rpartition(".")[0]
    while nodes:
        node = nodes.pop()
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not (at_once and (later or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)))):
            nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            # A name is a module of its own, or stands in one.
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in SOURCES else base for name in names}
    return found


def part_of(module):
    """The folder, or the file in the top folder, that a module stands in."""
    return module.split(".")[1] if module.startswith("sklearn_hss.") else None


def test_import_statements_are_read():
    assert imported("sklearn_hss.fitting._options") >= {"math", "sklearn_hss.linalg", "sklearn_hss.linalg._modes"}
    assert imported("sklearn_hss.fitting.forms._ridge") >= {"sklearn_hss.linalg", "sklearn_hss.fitting.forms._matrix"}
    assert "sklearn_hss.estimators" in imported("sklearn_hss")
    assert "sklearn_hss.estimators" not in imported("sklearn_hss", at_once=True)
    assert "torch" in imported("sklearn_hss._devices")
    assert "torch" not in imported("sklearn_hss._devices", at_once=True)


def test_every_part_has_its_arrows():
    parts = {part_of(module) for module in SOURCES} - {None}
    assert {part for part in parts if not part.startswith("_")} == set(ARROWS)


@pytest.mark.parametrize("part", [*ARROWS, "_"])
def test_import_statements_point_one_way(part):
    """Also those in functions; the files whose names begin with an underscore are below all others."""
    wrong = {}
    for module in SOURCES:
        if part_of(module) == part or (part == "_" and (part_of(module) or "").startswith("_")):
            others = {part_of(other) for other in imported(module) if other.startswith("sklearn_hss")} - {part}
            public = {other for other in others if other is None or not other.startswith("_")}
            if forbidden := public - ARROWS.get(part, set()) - {"exceptions"}:
                wrong[module] = forbidden
    assert not wrong


@pytest.mark.parametrize(
    ("part", "strangers"),
    [
        ("linalg", {"sklearn", "skorch"}),
        ("fitting", {"sklearn", "skorch"}),
        ("nn", {"sklearn", "skorch"}),
        ("datasets", {"skorch"}),
        ("metrics", {"skorch", "torch"}),
        ("preprocessing", {"skorch", "torch"}),
        ("exceptions", {"sklearn", "skorch", "torch", "numpy"}),
    ],
)
def test_strangers_are_kept_out(part, strangers):
    """Directly or by way of others, at once or later."""
    reached, waiting = {}, [(module, module) for module in SOURCES if part_of(module) == part]
    while waiting:
        module, way = waiting.pop()
        if module not in reached:
            reached[module] = way
            if module in SOURCES:
                waiting += [(other, f"{way} <- {other}") for other in imported(module)]
    met = {way for module, way in reached.items() if module.split(".")[0] in strangers}
    assert not met


def test_only_one_file_knows_skorch():
    knowing = {module for module in SOURCES if any(name.split(".")[0] == "skorch" for name in imported(module))}
    assert knowing == {"sklearn_hss.estimators._base"}


def test_no_import_runs_in_a_circle():
    graph = {module: imported(module, at_once=True) & set(SOURCES) - {module} for module in SOURCES}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == set(SOURCES)


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
