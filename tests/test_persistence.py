"""Detectors that are saved, copied and cloned."""

import copy
import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from skmemae import MemAEDetector
from tests.problems import detector

X = np.random.default_rng(0).normal(size=(60, 5))


@pytest.fixture(scope="module")
def fitted():
    return detector(ensemble_size=2, max_epochs=2).fit(X)


def same(a, b):
    np.testing.assert_array_equal(a.decision_function(X), b.decision_function(X))
    np.testing.assert_array_equal(a.predict(X), b.predict(X))
    np.testing.assert_array_equal(a.decode_memory(), b.decode_memory())
    assert a.get_params() == b.get_params() and a.resolved_params_ == b.resolved_params_
    assert a.device_ == b.device_ and a.threshold_ == b.threshold_


def test_pickles_hold_numpy_alone_and_survive_mmap_deepcopy_and_joblib(fitted, tmp_path):
    data = pickle.dumps(fitted)
    assert b"torch" not in data
    joblib.dump(fitted, tmp_path / "detector.joblib")
    for other in (
        pickle.loads(data),
        joblib.load(tmp_path / "detector.joblib", mmap_mode="r"),
        copy.deepcopy(fitted),
        copy.copy(fitted),
    ):
        same(other, fitted)


def test_a_copy_has_numbers_of_its_own(fitted):
    scores, other = fitted.decision_function(X), copy.deepcopy(fitted)
    for parameter in other.model_.parameters():
        parameter.data.zero_()
    np.testing.assert_array_equal(fitted.decision_function(X), scores)


def test_a_clone_is_unfitted_and_fits_to_the_same(fitted):
    again = clone(fitted)
    with pytest.raises(NotFittedError):
        again.predict(X)
    np.testing.assert_array_equal(again.fit(X).decision_scores_, fitted.decision_scores_)


def test_an_unfitted_detector_stays_unfitted():
    again = pickle.loads(pickle.dumps(detector(widths=(8, 3))))
    assert again.get_params() == detector(widths=(8, 3)).get_params()
    with pytest.raises(NotFittedError):
        again.predict(np.eye(5))


def test_a_loaded_detector_can_be_fitted_again_and_its_threshold_moved(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    assert again.set_threshold(0.5).labels_.sum() == 30
    np.testing.assert_array_equal(again.fit(X).decision_scores_, fitted.decision_scores_)


def test_a_detector_fitted_on_an_absent_device_loads_on_the_cpu(fitted):
    state = fitted.__getstate__()
    state["_model"]["device"] = "cuda:99"
    other = MemAEDetector.__new__(MemAEDetector)
    other.__setstate__(state)
    assert other.device_ == "cpu" and np.array_equal(other.decision_function(X), fitted.decision_function(X))


@pytest.mark.parametrize("spoil", [lambda state: state.pop("_model"), lambda state: state["_model"].update(format=99)])
def test_a_state_of_another_version_says_what_to_do(fitted, spoil):
    state = fitted.__getstate__()
    spoil(state)
    with pytest.raises(ValueError, match="Load it with the version that saved it, or fit it again"):
        MemAEDetector.__new__(MemAEDetector).__setstate__(state)


def test_taking_the_state_leaves_the_detector_as_it_was(fitted):
    before = dict(vars(fitted))
    fitted.__getstate__()
    assert vars(fitted) == before


def small_backbone(sample_shape):
    return nn.Linear(sample_shape[0], 2), nn.Linear(2, sample_shape[0])


def test_a_detector_with_a_backbone_of_ones_own_can_be_saved():
    det = detector(backbone=small_backbone, memory_size=10).fit(X)
    same(pickle.loads(pickle.dumps(det)), det)


def test_a_process_that_was_forked_after_a_load_can_score(fitted, tmp_path):
    joblib.dump((fitted, np.tile(X, (100, 1))), tmp_path / "detector.joblib")
    script = """
import os, sys
import joblib
detector, X = joblib.load(sys.argv[1])  # starts no thread that a fork would lose
child = os.fork()
if child == 0:
    detector.decision_function(X)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "detector.joblib")]
    subprocess.run(command, check=True, timeout=60, env={**os.environ, "OMP_NUM_THREADS": "2"})


def test_skops_loads_it_trusting_the_detector_alone(fitted):
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(fitted)
    assert skops.get_untrusted_types(data=data) == ["skmemae._detector.MemAEDetector"]
    again = skops.loads(data, trusted=["skmemae._detector.MemAEDetector"])
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))
    assert again.resolved_params_ == fitted.resolved_params_
