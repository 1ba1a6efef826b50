"""Sphinx configuration."""

import sklearn_hss

project = "sklearn_hss"
author = "The sklearn_hss developers"
version = release = sklearn_hss.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
default_role = "literal"
html_theme = "alabaster"
html_theme_options = {"description": "Learn solution operators of PDEs from few simulations", "page_width": "1100px"}
numpydoc_show_class_members = False
autosummary_generate = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "ignore_pattern": "benchmarks",
    "matplotlib_animations": False,
    "show_memory": False,
}
