"""Fits that go wrong, and states that change only as a whole."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from torch import nn

from skmemae import MemAEDetector
from tests.problems import data, detector


@pytest.mark.parametrize("unit, learning_rate", [("sample", 10), ("sample", 1000), ("sample", 1e30), ("row", 1e30)])
def test_training_that_diverges_is_an_error_that_names_the_learning_rate(unit, learning_rate):
    det = MemAEDetector(memory_unit=unit, learning_rate=learning_rate, max_epochs=30, random_state=0)
    with pytest.raises(ValueError, match="learning_rate"):
        det.fit(data()["table"])


def test_training_that_ends_with_scores_that_are_not_finite_is_an_error():
    class BreaksInScoring(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (1 if self.training else np.nan)

    def backbone(shape):
        return nn.Linear(shape[0], 2), BreaksInScoring(2, shape[0])

    with pytest.raises(ValueError, match="not finite"):
        detector(backbone=backbone, validation_fraction=0.0).fit(data()["table"])


def test_an_extreme_temperature_gives_finite_scores():
    assert np.isfinite(detector(temperature=1e30).fit(data()["images"]).threshold_)


def test_too_large_networks_are_a_memory_error_that_names_them():
    with pytest.raises(MemoryError, match="widths"):
        detector(widths=(10**7, 10**6)).fit(data()["table"])


@pytest.mark.parametrize("params", [{"batch_size": 2**63}, {"entropy_weight": 10**30}])
def test_a_large_integer_is_fine(params):
    det = detector(memory_unit="sample", **params).fit(data()["table"])
    assert np.isfinite(det.decision_scores_).all()


@pytest.mark.parametrize(
    "X",
    [
        np.eye(22)[np.random.default_rng(0).integers(0, 4, 300)],
        np.full((50, 5), 3.0),
        np.repeat([[0.0, 1.0], [1.0, 0.5]], 40, 0),
    ],
    ids=["one-hot", "constant", "two rows"],
)
def test_equal_rows_keep_their_label_in_a_batch_in_eights_and_alone(X):
    det = MemAEDetector(random_state=0, max_epochs=30).fit(X)
    for size in (1, 8, 40):
        labels = np.concatenate([det.predict(X[i : i + size]) for i in range(0, len(X), size)])
        np.testing.assert_array_equal(labels, det.labels_)


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


def test_names_of_columns_are_forgotten_by_a_fit_on_an_array():
    pandas = pytest.importorskip("pandas")
    h5py = pytest.importorskip("h5py")
    X = data()["table"]
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    det = detector().fit(frame)
    with h5py.File("names", "w", driver="core", backing_store=False) as file:
        det.fit(file.create_dataset("X", data=X, chunks=(10, 6)))
        assert not hasattr(det, "feature_names_in_")
        det.predict(X)
