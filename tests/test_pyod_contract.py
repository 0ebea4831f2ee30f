"""What PyOD's test suite asserts for a model, and what its ensembles need."""

from inspect import signature

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pyod.models.base import BaseDetector
from pyod.models.lscp import LSCP
from pyod.models.ts_od import TimeSeriesOD
from pyod.utils.data import generate_data
from pyod.utils.persistence import load, save
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector


@pytest.fixture(scope="module")
def data():
    return generate_data(n_train=300, n_test=100, n_features=6, contamination=0.1, random_state=42)


@pytest.fixture(scope="module")
def fitted(data):
    return MemAEDetector(contamination=0.1, max_epochs=30, random_state=42).fit(data[0])


def test_parameters_and_fitted_attributes(fitted):
    assert isinstance(fitted, BaseDetector)
    for name in ("decision_scores_", "labels_", "threshold_", "_mu", "_sigma", "_classes"):
        assert getattr(fitted, name) is not None
    assert len(fitted.decision_scores_) == 300 and fitted._classes == 2
    assert_allclose([fitted._mu, fitted._sigma], [fitted.decision_scores_.mean(), fitted.decision_scores_.std()])
    assert_allclose(fitted.threshold_, np.percentile(fitted.decision_scores_, 90) * (1 + 1e-5), rtol=1e-6)
    assert_array_equal(fitted.labels_, fitted.decision_scores_ > fitted.threshold_)


def test_scores_rank_the_outliers(fitted, data):
    X_train, X_test, y_train, y_test = data
    scores = fitted.decision_function(X_test)
    assert scores.shape == (100,) and roc_auc_score(y_test, scores) > 0.9
    assert roc_auc_score(y_train, fitted.decision_scores_) > 0.9
    assert_allclose(fitted.decision_function(X_train), fitted.decision_scores_)


def test_labels_of_the_training_data_are_what_predict_says(fitted, data):
    assert_array_equal(fitted.predict(data[0]), fitted.labels_)
    assert fitted.predict(data[1]).shape == (100,)
    assert_array_equal(clone(fitted).fit_predict(data[0]), fitted.labels_)


@pytest.mark.parametrize("method", ["linear", "unify"])
def test_probabilities(fitted, data, method):
    probabilities = fitted.predict_proba(data[1], method=method)
    assert probabilities.shape == (100, 2) and probabilities.min() >= 0 and probabilities.max() <= 1
    assert_allclose(probabilities.sum(axis=1), 1)
    assert_allclose(probabilities, BaseDetector.predict_proba(fitted, data[1], method=method))
    assert_allclose(probabilities, fitted.predict_proba(data[1].tolist(), method=method))
    with_confidence, confidence = fitted.predict_proba(data[1], method=method, return_confidence=True)
    assert_allclose(with_confidence, probabilities)
    assert_allclose(confidence, fitted.predict_confidence(data[1]))


def test_an_unknown_probability_method_is_an_error(fitted, data):
    with pytest.raises(ValueError, match="'linear' or 'unify'"):
        fitted.predict_proba(data[1], method="something")


def test_confidence_is_pyods_without_its_quadratic_cost(fitted, data):
    labels, confidence = fitted.predict(data[1], return_confidence=True)
    assert_array_equal(labels, fitted.predict(data[1]))
    assert confidence.shape == (100,) and confidence.min() >= 0 and confidence.max() <= 1
    assert_allclose(confidence, BaseDetector.predict_confidence(fitted, data[1]))


@pytest.mark.filterwarnings("ignore:The cost of rejection")
def test_rejection(fitted, data):
    labels = fitted.predict_with_rejection(data[1])
    assert set(np.unique(labels)) <= {-2, 0, 1} and labels.dtype.kind == "i"
    assert_array_equal(labels, BaseDetector.predict_with_rejection(fitted, data[1]))
    for costs in ({}, {"delta": 0.4}, {"c_fp": 3}, {"c_fn": 5}, {"c_r": 0.2}):
        _, stats = fitted.predict_with_rejection(data[1], return_stats=True, **costs)
        assert 0 <= stats[0] <= 1
        assert_allclose(stats, BaseDetector.predict_with_rejection(fitted, data[1], return_stats=True, **costs)[1])
    for T in (1, 4, 64):
        assert_array_equal(
            fitted.predict_with_rejection(data[1], T=T), BaseDetector.predict_with_rejection(fitted, data[1], T=T)
        )


def test_a_rank_is_the_number_of_training_scores_below(fitted, data):
    scores = fitted.decision_function(data[1])
    ranks = fitted._predict_rank(data[1])
    assert_array_equal(ranks, [(fitted.decision_scores_ < score).sum() for score in scores])
    assert_array_equal(ranks, BaseDetector._predict_rank(fitted, data[1]))
    assert_allclose(fitted._predict_rank(data[1], normalized=True), ranks / ranks.max())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_deprecated_evaluation_still_works(data, capsys):
    detector = MemAEDetector(max_epochs=5, random_state=0)
    assert detector.fit_predict_score(data[0], data[2]) == roc_auc_score(data[2], detector.decision_scores_)
    assert 0.5 < detector.fit_predict_score(data[0], data[2], scoring="prc_n_score") <= 1
    with pytest.raises(NotImplementedError):
        detector.fit_predict_score(data[0], data[2], scoring="something")


@pytest.mark.parametrize("contamination", [0, 0.51, 10.0])
def test_contamination_out_of_range_is_refused_at_fit(data, contamination):
    with pytest.raises(ValueError, match="contamination"):
        MemAEDetector(contamination).fit(data[0])


def test_y_is_ignored_without_a_warning(data, recwarn):
    X, _, y, _ = data
    with_y = MemAEDetector(max_epochs=2, random_state=0).fit(X, np.arange(len(X)) / 7)
    assert_array_equal(with_y.decision_scores_, MemAEDetector(max_epochs=2, random_state=0).fit(X).decision_scores_)
    assert with_y.predict_proba(X).shape == (300, 2) and not recwarn.list


def test_save_and_load(fitted, data, tmp_path):
    save(fitted, tmp_path / "detector.joblib")
    trust = {"trusted": True} if "trusted" in signature(load).parameters else {}  # which PyOD asks for since 3.6
    again = load(tmp_path / "detector.joblib", **trust)
    assert_array_equal(again.decision_function(data[1]), fitted.decision_function(data[1]))


def test_clone(fitted, data):
    copy = clone(fitted)
    assert not hasattr(copy, "decision_scores_") and copy.get_params() == fitted.get_params()
    assert_array_equal(copy.fit(data[0]).decision_scores_, fitted.decision_scores_)


def test_convention_acts_on_output_alone(fitted, data):
    X = data[1]
    det = clone(fitted).fit(data[0])
    scores, labels = det.decision_function(X), det.predict(X)
    same = [det.predict_proba(X), det.predict_confidence(X), det.predict_with_rejection(X), det._predict_rank(X)]
    det.set_params(convention="sklearn")
    assert_allclose(det.decision_function(X), -scores - det.offset_)
    assert_allclose(det.score_samples(X), -scores)
    assert_array_equal(det.predict(X), 1 - 2 * labels)
    assert det.offset_ == -det.threshold_
    assert set(np.unique(det.labels_)) == {0, 1}
    for before, after in zip(
        same,
        [det.predict_proba(X), det.predict_confidence(X), det.predict_with_rejection(X), det._predict_rank(X)],
        strict=True,
    ):
        assert_array_equal(before, after)


def test_ensembles_take_it(data):
    X_train, X_test, _, y_test = data
    members = [MemAEDetector(max_epochs=20, random_state=seed) for seed in (0, 1)]
    assert roc_auc_score(y_test, LSCP(members, random_state=0).fit(X_train).decision_function(X_test)) > 0.8


def test_a_window_over_a_time_series_takes_it():
    series = np.sin(np.arange(400) / 5.0)
    series[200:205] += 3
    bridge = TimeSeriesOD(detector=MemAEDetector(max_epochs=20, random_state=0), window_size=20)
    assert 180 <= int(np.argmax(np.ravel(bridge.fit(series.reshape(-1, 1)).decision_scores_))) <= 225
