"""Sphinx configuration."""

import skmemae

project = "skmemae"
author = "the skmemae developers"
copyright = "2026, the skmemae developers"
release = version = skmemae.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = "skmemae"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_show_sourcelink = False
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
nitpicky = False
