"""What follows from anomaly scores under both conventions: thresholds, labels, and what an error leaves behind."""

import warnings

import numpy as np
import pytest
from pyod.models.base import BaseDetector
from sklearn.base import BaseEstimator, clone, is_outlier_detector
from sklearn.exceptions import NotFittedError

from skmemae import MemAEDetector
from skmemae._contract import DualContractDetector, contamination_threshold, unchanged_on_error
from tests.problems import detector


class Given(DualContractDetector):
    """A detector whose anomaly scores are the first column."""

    def __init__(self, contamination=0.1, convention="pyod"):
        self.contamination = contamination
        self.convention = convention

    def fit(self, X, y=None):
        self._set_training_scores(-self.score_samples(X))
        return self

    def score_samples(self, X):
        return -np.asarray(X, dtype=np.float64)[:, 0]


def column(*scores):
    return np.array(scores, dtype=np.float64)[:, None]


class Threshold(BaseEstimator):
    """A PyThresh-like object."""

    def __init__(self, factor=2.0):
        self.factor = factor

    def fit(self, scores):
        self.labels_ = (scores > self.factor * np.median(scores)).astype(int)
        return self


class Fixed:
    """A PyThresh-like object with these labels, told by ``predict`` alone."""

    def __init__(self, labels):
        self.labels = labels

    def fit(self, scores):
        scores[:] = 0  # it was given a copy

    def predict(self, scores):
        return self.labels


def test_a_share_takes_the_quantile_and_a_little_more():
    scores = np.random.default_rng(0).uniform(1, 2, size=101)
    assert contamination_threshold(0.1, scores) == np.quantile(scores, 0.9) * (1 + 1e-5)
    assert contamination_threshold(0.1, scores, noise=1e-3) == np.quantile(scores, 0.9) * (1 + 1e-2)
    assert contamination_threshold(0.5, np.ones(4)) > 1


def test_rows_that_share_the_score_at_the_quantile_stay_on_one_side_however_it_is_rounded():
    scores = np.r_[np.ones(50), np.full(50, 3.0), 9.0]
    det = Given(0.25).fit(scores[:, None])
    assert det.labels_.sum() == 1
    assert det.predict(column(3 * (1 + 1e-7), 3 * (1 - 1e-7), 3.001)).tolist() == [0, 0, 1]


def test_an_object_sets_the_threshold_halfway_between_its_labels_and_is_not_touched():
    threshold = Threshold()
    det = Given(threshold).fit(column(1, 2, 3, 4, 10))
    assert det.threshold_ == 7 and det.labels_.tolist() == [0, 0, 0, 0, 1]
    assert vars(threshold) == {"factor": 2.0} and not hasattr(det, "thresholder_")
    assert det.predict(column(6.9, 7.1)).tolist() == [0, 1]
    assert det.predict_confidence(column(1, 20)).shape == (2,)


@pytest.mark.parametrize(
    "labels, threshold", [([0, 0, 1, 1], 2.5), ([1, 1, 1, 1], 1 / (1 + 1e-5)), ([0, 0, 0, 0], 4 * (1 + 1e-5))]
)
def test_labels_are_what_the_object_says(labels, threshold):
    scores = np.array([1.0, 2, 3, 4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert contamination_threshold(Fixed(labels), scores) == pytest.approx(threshold, rel=1e-12)
    assert scores.tolist() == [1, 2, 3, 4]
    assert Given(Fixed(labels)).fit(scores[:, None]).labels_.tolist() == labels


def test_neighbouring_scores_are_told_apart():
    scores = np.array([1.0, np.nextafter(1.0, 2)])
    assert Given(Fixed([0, 1])).fit(scores[:, None]).labels_.tolist() == [0, 1]


def test_labels_that_do_not_follow_the_scores_keep_their_number_with_a_warning():
    with pytest.warns(UserWarning, match="labels of Fixed do not follow the order of the scores.*the 2 with the largest"):
        det = Given(Fixed([1, 0, 0, 1])).fit(column(1, 2, 3, 4))
    assert det.labels_.tolist() == [0, 0, 1, 1]


def test_warnings_point_at_the_line_that_called():
    with pytest.warns(UserWarning, match="do not follow the order") as warned:
        Given(Fixed([1, 0, 0, 1])).fit(column(1, 2, 3, 4))
    assert warned[0].filename == __file__


def test_equal_scores_with_different_labels_warn_too():
    with pytest.warns(UserWarning, match="do not follow the order"):
        Given(Fixed([0, 1, 0])).fit(column(1, 2, 2))


def test_a_thresholder_of_pythresh_is_taken(table):
    pythresh = pytest.importorskip("pythresh.thresholds.iqr")
    X, y = table
    det = detector(contamination=pythresh.IQR()).fit(X)
    assert 0 < det.labels_.sum() < 150 and np.array_equal(det.predict(X), det.labels_)
    assert det.labels_[y == 1].mean() > det.labels_[y == 0].mean()
    assert isinstance(clone(det).contamination, pythresh.IQR)


def test_the_threshold_moves_without_a_refit(table):
    X, _ = table
    det = detector(contamination=0.1, memory_unit="sample").fit(X)
    assert det.labels_.sum() == 30
    at_ten_percent = det.predict_confidence(X)
    assert det.set_threshold(0.05).labels_.sum() == 15 and det.predict(X).sum() == 15
    refitted = detector(contamination=0.05, memory_unit="sample").fit(X)
    np.testing.assert_array_equal(det.predict_confidence(X), refitted.predict_confidence(X))
    assert not np.array_equal(det.predict_confidence(X), at_ten_percent)
    assert det.set_threshold(threshold=1e9).labels_.sum() == 0 and det.offset_ == -1e9
    assert det.contamination == 0.1  # a parameter is never changed
    assert det.set_threshold(Threshold()).labels_.sum() == (det.decision_scores_ > 2 * np.median(det.decision_scores_)).sum()


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({}, "needs one of contamination, threshold, false_alarm_rate, or X_valid and y_valid. Got none instead"),
        ({"contamination": 0.1, "threshold": 1.0}, "Got contamination and threshold instead"),
        (
            {"contamination": 0.9},
            r"'contamination' parameter of set_threshold must be a float in the range \(0.0, 0.5\]",
        ),
        ({"contamination": 0}, "'contamination' parameter of set_threshold"),
        ({"contamination": True}, "'contamination' parameter of set_threshold"),
        ({"contamination": "automatic"}, "'contamination' parameter of set_threshold"),
        ({"false_alarm_rate": 0}, r"'false_alarm_rate' parameter of set_threshold must be a float in the range \(0.0, 1.0\)"),
        ({"false_alarm_rate": 1.0}, "'false_alarm_rate' parameter of set_threshold"),
        ({"false_alarm_rate": "low"}, "'false_alarm_rate' parameter of set_threshold"),
        ({"false_alarm_rate": 1e-3}, "needs at least 999 samples that were not trained on, of which this detector has 10"),
        ({"false_alarm_rate": 0.1, "X_valid": np.zeros((2, 6))}, "Got false_alarm_rate and X_valid, y_valid instead"),
        ({"X_valid": np.zeros((2, 6))}, "X_valid and y_valid together"),
        ({"X_valid": np.zeros((2, 6)), "y_valid": [0, 1, 1]}, "y_valid has shape"),
        ({"X_valid": np.zeros((2, 6)), "y_valid": [0, 0]}, "both inliers and outliers"),
        ({"X_valid": np.zeros((2, 6)), "y_valid": [3, 0]}, "y must hold 0 and 1"),
        ({"contamination": np.nan}, "'contamination' parameter of set_threshold"),
        ({"threshold": np.nan}, "'threshold' parameter of set_threshold"),
        ({"threshold": -np.inf}, "'threshold' parameter of set_threshold"),
        ({"threshold": True}, "'threshold' parameter of set_threshold"),
        ({"threshold": "1"}, "'threshold' parameter of set_threshold"),
        ({"threshold": 10**400}, "'threshold' parameter of set_threshold"),
        ({"contamination": 10**400}, "'contamination' parameter of set_threshold"),
    ],
)
def test_a_wrong_threshold_is_named_and_changes_nothing(wrong, message):
    det = Given().fit(column(*range(10)))
    before = dict(vars(det))
    with pytest.raises(ValueError, match=message):
        det.set_threshold(**wrong)
    assert vars(det) == before


@pytest.mark.parametrize(
    "ask",
    [
        lambda det: det.predict(column(1)),
        lambda det: det.set_threshold(0.1),
        lambda det: det.offset_,
        lambda det: det.reconstruct(column(1)),
        lambda det: det.model_,
        lambda det: det.memory_,
        lambda det: det.device_,
        lambda det: det.to("cpu"),
        lambda det: det.channels_first(column(1)),
        lambda det: det.decode_memory(),
    ],
)
def test_before_fit_everything_says_so(ask):
    with pytest.raises(NotFittedError):
        ask(MemAEDetector())


def test_a_score_at_the_threshold_is_an_inlier_under_either_convention():
    det = Given(0.2).fit(column(1, 2, 3, 4, 5)).set_threshold(threshold=4.0)
    assert det.labels_.tolist() == det.predict(column(1, 2, 3, 4, 5)).tolist() == [0, 0, 0, 0, 1]
    det.set_params(convention="sklearn")
    assert det.predict(column(1, 2, 3, 4, 5)).tolist() == [1, 1, 1, 1, -1]
    assert det.decision_function(column(1, 4, 6)).tolist() == [3, 0, -2] and det.score_samples(column(7)).tolist() == [-7]


def test_fit_predict_says_what_predict_says_under_either_convention():
    X = column(*np.random.default_rng(0).normal(size=50))
    for convention in ("pyod", "sklearn"):
        det = Given(0.3, convention)
        np.testing.assert_array_equal(det.fit_predict(X), det.predict(X))
    assert det.predict(X).tolist() == (1 - 2 * det.labels_).tolist()


def test_confidence_among_equal_scores_is_pyods():
    X = column(*np.random.default_rng(0).integers(0, 5, size=40))
    det = Given(0.2).fit(X)
    np.testing.assert_allclose(det.predict_confidence(X), BaseDetector.predict_confidence(det, X))


def test_confidence_takes_the_share_that_the_threshold_was_moved_to():
    X = np.random.default_rng(0).normal(size=(40, 1))
    moved = Given(0.1).fit(X).set_threshold(0.32)  # of which 40 rows have no such share
    moved.labels_[:] = 0
    np.testing.assert_array_equal(moved.predict_confidence(X), Given(0.32).fit(X).predict_confidence(X))


def test_scikit_learn_knows_what_kind_of_estimator_it_is():
    assert is_outlier_detector(Given())


def test_labels_are_integers_and_nothing_else():
    for convention in ("pyod", "sklearn"):
        det = Given(0.3, convention).fit(column(*range(10)))
        assert det.labels_.dtype.kind == det.predict(column(1, 2)).dtype.kind == "i"


def test_probabilities_of_equal_training_scores_are_numbers():
    det = Given().fit(np.ones((5, 1)))
    for method in ("linear", "unify"):
        assert np.isfinite(det.predict_proba(column(0, 1, 2), method)).all()
    np.testing.assert_array_equal(det.predict_proba(column(0, 1, 1.5, 3), "linear")[:, 1], [0, 0, 0.5, 1])
    np.testing.assert_allclose(det.predict_proba(column(0, 1, 2), "unify")[:, 1], [0, 0, 0.6826895], atol=1e-6)


def test_p_values_take_scores_within_their_noise_for_equal():
    det = Given().fit(column(1, 2, 3, 4))
    det._noise = 1e-3
    np.testing.assert_allclose(det.p_values(column(4.01, 4.1), X_calibration=column(1, 2, 3, 4)), [0.4, 0.2])


def test_labels_of_a_half_given_validation_set_are_asked_for():
    det = Given().fit(column(1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"^set_threshold needs X_valid and y_valid together. Got one of them alone.$"):
        det.set_threshold(X_valid=column(1, 2))


def test_with_rejection_a_score_at_the_threshold_is_an_inlier_too():
    det = Given(0.2).fit(column(1, 2, 3, 4, 5)).set_threshold(threshold=4.0)
    assert det.predict_with_rejection(column(1, 4, 5), T=1e-3).tolist() == [0, 0, 1]


def test_statistics_of_rejection_are_those_of_the_share_that_the_threshold_came_from():
    X = np.random.default_rng(0).exponential(size=(100, 1))
    moved = Given(0.1).fit(X).set_threshold(0.3)
    expected = Given(0.3).fit(X)
    stats = BaseDetector.compute_rejection_stats(expected)
    np.testing.assert_allclose(moved.compute_rejection_stats(), stats)
    np.testing.assert_allclose(moved.predict_with_rejection(X, return_stats=True)[1], stats)
    none = Given(Threshold(1e9)).fit(X).predict_with_rejection(X, return_stats=True)[1]  # a hundredth at least
    np.testing.assert_allclose(none, BaseDetector.compute_rejection_stats(Given((1 + 1e-9) / 100).fit(X)))
    for contamination in ("auto", Threshold(), Threshold(-1.0)):
        labels, stats = Given(contamination).fit(X).predict_with_rejection(X, return_stats=True)
        assert labels.shape == (100,) and np.isfinite(stats).all()


def test_a_misspelt_convention_is_named_where_results_are_asked_for():
    det = Given().fit(column(1, 2, 3)).set_params(convention="Sklearn")
    for method in (det.predict, det.decision_function):
        with pytest.raises(ValueError, match="'convention' parameter must be 'pyod' or 'sklearn'. Got 'Sklearn'"):
            method(column(1, 2))


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_attributes_as_they_were(failure):
    det = Given()
    det.old = before = [1]
    with pytest.raises(failure), unchanged_on_error(det):
        det.new, det.old = 1, 2
        raise failure
    assert not hasattr(det, "new") and det.old is before
    with unchanged_on_error(det):
        det.new = 1
    assert det.new == 1
