"""What a notebook shows of a detector."""

import re
from inspect import signature

import pytest
from problems import detector
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skmemae._html import DOCUMENTATION

from skmemae import MemAEDetector

PAGE = DOCUMENTATION + "generated/skmemae.MemAEDetector.html"
SHOWS_TABLE = hasattr(BaseEstimator, "_get_params_html")  # scikit-learn 1.7
LINKS_PARAMETERS = SHOWS_TABLE and "doc_link" in signature(BaseEstimator._get_params_html).parameters  # 1.8
needs_a_table = pytest.mark.skipif(not SHOWS_TABLE, reason="this version of scikit-learn shows no table of parameters")


def test_the_detector_links_to_its_page(table):
    assert f'href="{PAGE}"' in detector()._repr_html_()


@pytest.mark.skipif(not LINKS_PARAMETERS, reason="this version of scikit-learn links no parameters")
def test_every_parameter_links_to_its_text():
    html = detector()._repr_html_()
    linked = set(re.findall(rf'href="{PAGE}#:~:text=(\w+),', html))
    assert linked == set(MemAEDetector().get_params())


@needs_a_table
def test_a_fitted_detector_shows_what_auto_came_to(table):
    det = detector(temperature=0.5).fit(table[0])
    shown = {name: repr(value) for name, value in det._get_params_html().items()}
    assert shown["memory_size"] == f"'auto' → {det.resolved_params_['memory_size']}"
    assert shown["widths"] == f"None → {det.resolved_params_['widths']}"
    assert shown["backbone"] == "'auto' → 'fc'"
    assert shown["temperature"] == "0.5"
    assert shown["sample_shape"] == "None"
    assert shown["max_epochs"] == "5"
    assert "&#x27;auto&#x27; → &#x27;fc&#x27;" in det._repr_html_()
    assert "→" not in clone(det)._repr_html_()


@needs_a_table
def test_a_parameter_set_after_fit_is_shown_as_it_is(table):
    det = detector().fit(table[0]).set_params(temperature=0.25)
    assert repr(det._get_params_html()["temperature"]) == "0.25"


def test_a_pipeline_shows_it_too(table):
    html = make_pipeline(StandardScaler(), detector()).fit(table[0])._repr_html_()
    assert PAGE in html
    assert ("→" in html) == SHOWS_TABLE
