"""Thresholder objects of PyThresh as ``contamination``."""

import importlib
import pkgutil

import numpy as np
import pytest

from tests.problems import detector


def pythresh_classes():
    import pythresh.thresholds as package

    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        try:
            members = vars(importlib.import_module(f"pythresh.thresholds.{module}"))
        except ImportError:  # needs a package of its own
            continue
        found = [value for name, value in members.items() if name.lower() == module and isinstance(value, type)]
        if found and module not in (
            "all",
            "base",
            "gamgmm",
            "meta",
            "mixmod",
            "vae",
        ):  # some take minutes, meta downloads a model
            yield found[0]


@pytest.mark.filterwarnings("ignore")
def test_pythresh_sets_threshold_labels_and_decisions_that_agree():
    pytest.importorskip("pythresh")
    X = np.random.default_rng(0).normal(size=(300, 6))
    X[:12] *= 4
    det = detector(max_epochs=10).fit(X)
    tried = 0
    for thresholder in pythresh_classes():
        expected = thresholder().fit(det.decision_scores_.copy()).labels_
        det.set_threshold(thresholder())
        np.testing.assert_array_equal(det.labels_, expected, err_msg=thresholder.__name__)
        assert det.offset_ == -det.threshold_
        for convention, outlier in (("pyod", 1), ("sklearn", -1)):
            det.set_params(convention=convention)
            decision = det.decision_function(X)
            np.testing.assert_array_equal(det.predict(X) == outlier, det.labels_ == 1)
            np.testing.assert_array_equal(decision < 0 if outlier == -1 else decision > det.threshold_, det.labels_ == 1)
        tried += 1
    assert tried >= 10
