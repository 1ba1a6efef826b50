"""Sphinx configuration."""

import sys
import warnings
from pathlib import Path

import sklearn_hss

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import _api  # noqa: E402

# One dict has the public names; a file that has not changed keeps its time, so that Sphinx does not read it again.
for name, text in {"api.rst": _api.page()}.items():
    if not (HERE / name).exists() or (HERE / name).read_text() != text:
        (HERE / name).write_text(text)

project = "sklearn_hss"
author = "The sklearn_hss developers"
copyright = "the sklearn_hss developers"
version = release = sklearn_hss.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "myst_parser",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
default_role = "literal"
numpydoc_show_class_members = False
autosummary_generate = True
autodoc_typehints = "none"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
# CONTRIBUTING.md and CHANGELOG.md are read as they stand, and refer to files beside them.
suppress_warnings = ["myst.xref_missing", "myst.header"]

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_hss"
html_extra_path = ["llms.txt"]
html_theme_options = {
    "logo": {"text": "sklearn_hss"},
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False
# Pages without pages below them have no navigation at their side.
_single = ("get_started", "mathematics", "datasets", "benchmarks", "comparison", "paper", "changelog", "extending")
html_sidebars = {name: [] for name in _single}

linkcheck_anchors = False

warnings.filterwarnings("ignore", category=UserWarning, message="FigureCanvasAgg is non-interactive")
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "ignore_pattern": "benchmarks",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sklearn_hss",),
    "matplotlib_animations": False,
    "show_memory": False,
    "parallel": 2,
    "reset_modules_order": "both",
}
