"""Sphinx configuration."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx_gallery.sorting import FunctionSortKey

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
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "**/sg_execution_times.rst", "sg_execution_times.rst"]
templates_path = ["_templates"]
myst_heading_anchors = 3
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(numpy|torch|sklearn|pyod)\..*")]  # their pages are elsewhere
autodoc_typehints = "none"  # the sections of parameters have them
linkcheck_ignore = [r"https?://"]  # links within the site are checked, without a network

add_module_names = False
toc_object_entries_show_parents = "hide"
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

GALLERY = [  # every example, from the first thing to learn to the last
    "plot_quickstart.py",
    "plot_tables.py",
    "plot_images.py",
    "plot_own_images.py",
    "plot_inspection.py",
    "plot_video.py",
    "plot_memory_against_autoencoder.py",
    "plot_compare_detectors.py",
    "plot_explain_rows.py",
    "plot_thresholds.py",
    "plot_p_values.py",
    "plot_choosing_settings.py",
    "plot_contaminated_training.py",
    "plot_memory_items.py",
    "plot_pipeline.py",
    "plot_save_and_load.py",
    "plot_drift.py",
    "plot_adengine.py",
]
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skmemae",),
    "reference_url": {"skmemae": None},
    "within_subsection_order": FunctionSortKey(GALLERY.index),
    "write_computation_times": False,
    "min_reported_time": 3600,
    "show_signature": False,
    "download_all_examples": False,
    "copyfile_regex": r".*\.svg",
    "image_srcset": ["2x"],
    "ignore_repr_types": r"matplotlib|skmemae.*Display",
}

html_theme = "pydata_sphinx_theme"
html_title = "skmemae"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_sidebars = {name: [] for name in ("index", "install", "quickstart", "changelog", "citing")}
html_theme_options = {
    "logo": {"text": f"skmemae {version}", "alt_text": "skmemae"},
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "footer_end": [],
}


def setup(app):
    """Render formulas as MathML, which browsers show without a script from elsewhere."""

    def visit(writer, node):
        block = isinstance(node, nodes.math_block)
        formula = tex2mathml(node.astext(), as_block=block)
        writer.body.append(f'<div class="math">{formula}</div>' if block else formula)
        raise nodes.SkipNode

    app.add_html_math_renderer("mathml", (visit, None), (visit, None))
