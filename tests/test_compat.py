"""scikit-learn's callbacks and HTML: networks and epochs of a fit, links, and resolved parameters."""

import re
from inspect import signature

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmemae import MemAEDetector, metrics
from skmemae._compat import DOCUMENTATION
from tests.problems import detector

try:  # from scikit-learn 1.9 on
    from sklearn import callback
except ImportError:
    callback = None
watched = pytest.mark.skipif(callback is None, reason="this version of scikit-learn has no callbacks")


class Recorder:
    """Keeps what it is told; ends a network's training at an epoch if asked to."""

    def __init__(self, stop_at=None, fail_at=None):
        self.stop_at, self.fail_at = stop_at, fail_at
        self.events, self.fitted = [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.events.append(("end", context.task_name, context.task_id))
        if context.task_name == "epoch":
            self.fitted.append(fitted_estimator)
            if context.task_id == self.fail_at:
                raise RuntimeError("no more")
            return context.task_id == self.stop_at
        return False


@watched
@pytest.mark.parametrize("parameters", [{}, {"memory_unit": "sample", "ensemble_size": 2}, {"memory_size": 0}])
def test_a_watched_fit_gives_the_same_bits_and_can_be_scored_after_each_epoch(table, parameters):
    X, y = table
    monitor = callback.ScoringMonitor(scoring={"auc": metrics.roc_auc})
    plain = detector(max_epochs=6, **parameters).fit(X)
    watched = detector(max_epochs=6, **parameters).set_callbacks(monitor).fit(X, y)
    np.testing.assert_array_equal(watched.decision_scores_, plain.decision_scores_)
    rows = monitor.get_logs().data
    epochs = [row for row in rows if row["task_name"] == "epoch"]
    assert len(epochs) == 6 * len(watched.model_) and all(0 < row["auc"] <= 1 for row in rows)
    final = metrics.roc_auc(watched, X, y)
    assert rows[0]["auc"] == pytest.approx(final, abs=0.02)


@watched
@pytest.mark.parametrize("kind", [(20, 8, 8), (6, 1, 4, 8, 8)])
def test_images_and_clips_are_watched_too(rng, kind):
    recorder = Recorder()
    X = rng.random(kind)
    fitted = detector(max_epochs=4).set_callbacks(recorder).fit(X)
    assert recorder.events[:3] == ["setup", ("begin", "fit", 0), ("begin", "network", 0)]
    assert recorder.events[-3:] == [("end", "network", 0), ("end", "fit", 0), "teardown"]
    assert all(np.isfinite(step.decision_function(X)).all() for step in recorder.fitted)
    assert not any("callback" in name and name != "_skl_callbacks" for name in vars(fitted))


@watched
def test_a_callback_can_end_the_training_of_a_network(table):
    recorder = Recorder(stop_at=3)
    fitted = detector(max_epochs=10, memory_unit="sample", ensemble_size=2).set_callbacks(recorder).fit(table[0])
    assert fitted.n_iter_ == 4
    begun = [event for event in recorder.events if event[:2] == ("begin", "network")]
    assert begun == [("begin", "network", 0), ("begin", "network", 1)]
    # Before there is a memory the training of it cannot end.
    fitted = detector(max_epochs=40, memory_unit="sample", ensemble_size=1).set_callbacks(Recorder(stop_at=0)).fit(table[0])
    assert fitted.n_iter_ > 4


@watched
def test_a_callback_that_fails_leaves_the_detector_as_it_was(table):
    recorder = Recorder(fail_at=1)
    fitted = detector().fit(table[0]).set_callbacks(recorder)
    before = dict(vars(fitted))
    with pytest.raises(RuntimeError, match="no more"):
        fitted.fit(table[0])
    assert recorder.events[-1] == "teardown"
    assert vars(fitted).keys() == before.keys() and all(vars(fitted)[name] is value for name, value in before.items())


@watched
def test_callbacks_go_with_clones_and_pipelines_and_not_into_files(table, tmp_path):
    X, y = table
    recorder = Recorder()
    watched = clone(detector(max_epochs=2).set_callbacks(recorder)).fit(X)
    assert "teardown" in recorder.events
    watched.save(tmp_path / "detector.safetensors")
    again = MemAEDetector.load(tmp_path / "detector.safetensors")
    np.testing.assert_array_equal(again.decision_function(X), watched.decision_function(X))
    monitor = callback.ScoringMonitor(scoring={"auc": metrics.roc_auc})
    make_pipeline(StandardScaler(), detector(max_epochs=2).set_callbacks(monitor)).fit(X, y)
    assert len(monitor.get_logs().data) >= 2


@watched
def test_a_bar_for_a_search(table, capfd):
    pytest.importorskip("rich")
    X, y = table
    search = GridSearchCV(detector(max_epochs=2), {"contamination": [0.1, 0.2]}, cv=StratifiedKFold(2), scoring=metrics.roc_auc)
    search.set_callbacks(callback.ProgressBar(max_propagation_depth=2)).fit(X, y)
    shown = capfd.readouterr().out
    assert "GridSearchCV" in shown and "network" in shown


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
