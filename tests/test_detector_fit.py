"""Fits that go wrong, and states that change only as a whole."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tests.problems import data, detector


@pytest.mark.parametrize("params", [{"batch_size": 2**63}, {"entropy_weight": 10**30}])
def test_a_large_integer_is_fine(params):
    det = detector(memory_unit="sample", **params).fit(data()["table"])
    assert np.isfinite(det.decision_scores_).all()


class Refuses:
    def fit(self, scores):
        raise RuntimeError("no threshold")


@pytest.mark.parametrize(
    "arguments", [{"contamination": "a"}, {"contamination": Refuses()}, {"threshold": True}, {"threshold": "a"}]
)
def test_a_threshold_that_cannot_be_set_leaves_the_detector_as_it_was(arguments):
    det = detector().fit(data()["table"])
    before = dict(vars(det))
    with pytest.raises((ValueError, RuntimeError)):
        det.set_threshold(**arguments)
    assert all(vars(det)[name] is value for name, value in before.items())


def test_a_device_that_is_not_there_leaves_the_detector_where_it_was():
    X = data()["table"]
    det = detector().fit(X)
    with pytest.raises(ValueError, match="'device'"):
        det.to("cuda:99")
    assert det.device_ == "cpu" and det.to("cpu") is det
    np.testing.assert_array_equal(det.decision_function(X), det.decision_scores_)


def test_import_and_fit_leave_no_thread_no_filter_and_no_bar():
    script = """
        import sys, threading, warnings
        import numpy, sklearn.utils.estimator_checks, scipy.stats, torch, pyod.models.base

        filters = list(warnings.filters)
        from skmemae import MemAEDetector

        assert "tqdm.auto" not in sys.modules  # which warns where notebooks have no widgets
        MemAEDetector(max_epochs=1, random_state=0).fit(numpy.random.default_rng(0).normal(size=(50, 3))).predict([[0.0, 1, 2]])
        assert warnings.filters == filters, [f for f in warnings.filters if f not in filters]
        assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
    """
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stdout and not done.stderr
