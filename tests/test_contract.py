"""What follows from anomaly scores under both conventions: thresholds, labels and p-values."""

import warnings

import numpy as np
import pytest
from pyod.models.base import BaseDetector
from scipy.stats import false_discovery_control, kstest
from sklearn.base import BaseEstimator, clone, is_outlier_detector
from sklearn.metrics import f1_score

from skmemae import MemAEDetector
from skmemae._contract import (
    DualContract,
    best_f1_threshold,
    conformal_p_values,
    contamination_threshold,
    false_alarm_threshold,
)
from tests.problems import detector


class Given(DualContract):
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
        ({"false_alarm_rate": 1e-3}, "needs at least 999 samples that were held out from training, and this detector has 10"),
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


def test_automatic_is_the_upper_fence_of_the_logarithms():
    scores = np.exp(np.arange(101.0))
    assert np.log(contamination_threshold("auto", scores)) == pytest.approx(75 + 1.5 * 50, abs=1e-3)
    assert contamination_threshold("auto", np.ones(9)) > 1  # what is equal is no outlier
    assert np.isfinite(contamination_threshold("auto", np.array([0.0, 0.0, 1e300, 1e300])))


def test_the_conformal_quantile_lets_a_share_of_new_scores_through(rng):
    rates = [(rng.exponential(size=1000) > false_alarm_threshold(0.1, rng.exponential(size=99))).mean() for _ in range(300)]
    assert np.mean(rates) == pytest.approx(0.1, abs=0.006)
    assert false_alarm_threshold(0.01, np.arange(99.0)) >= 98
    with pytest.raises(ValueError, match="false_alarm_rate=0.01 needs at least 99 samples .* has 98"):
        false_alarm_threshold(0.01, np.arange(98.0))


def test_a_larger_false_alarm_rate_flags_no_fewer_samples(rng):
    scores, new = rng.exponential(size=99), rng.exponential(size=1000)
    rates = [0.01, 0.3, 0.7, 0.98, 0.99, 0.995, 1 - 1e-9, 1 - 1e-12, np.nextafter(1, 0)]
    shares = [(new > false_alarm_threshold(rate, scores)).mean() for rate in rates]
    assert shares == sorted(shares)
    assert false_alarm_threshold(1 - 1e-12, scores) == pytest.approx(scores.min(), rel=1e-4)


@pytest.mark.parametrize("rate, needed", [(1e-6, "999999"), (1e-20, r"1e\+20"), (5e-324, "inf")])
def test_a_tiny_false_alarm_rate_needs_many_samples(rate, needed):
    with pytest.raises(ValueError, match=f"needs at least {needed} samples"):
        false_alarm_threshold(rate, np.arange(99.0))


def test_the_best_f1_is_that_of_all_thresholds(rng):
    for _ in range(20):
        scores, outlier = rng.integers(0, 12, size=40).astype(float), rng.random(40) < 0.3
        best = max(f1_score(outlier, scores > border) for border in np.r_[-1, np.unique(scores)])
        assert f1_score(outlier, scores > best_f1_threshold(scores, outlier)) == pytest.approx(best)
    assert best_f1_threshold(np.array([1.0, 3.0]), np.array([False, True])) == 2.0
    assert best_f1_threshold(np.array([1.0, 1.0]), np.array([False, True])) < 1


def test_the_best_f1_of_neighbouring_scores_tells_them_apart():
    low = np.nextafter(1.0, 2)
    scores = np.array([low, np.nextafter(low, 2)])
    assert (scores > best_f1_threshold(scores, np.array([False, True]))).tolist() == [False, True]


def test_a_p_value_is_the_share_of_scores_that_are_as_large():
    shares = [1, 0.75, 0.5, 0.25]
    np.testing.assert_allclose(conformal_p_values(np.array([0.0, 2.0, 3.0, 9.0]), np.array([1.0, 2.0, 3.0])), shares)
    det, new = Given().fit(column(2, 3, 1)), column(0, 2, 3, 9)
    np.testing.assert_allclose(det.p_values(new), shares)
    np.testing.assert_allclose(det.fit(column(*range(50))).p_values(new, X_calibration=column(3, 1, 2)), shares)


@pytest.fixture(scope="module")
def fitted():
    return MemAEDetector(0.05, random_state=0).fit(np.random.default_rng(1).normal(size=(600, 5)))


def test_p_values_of_new_normal_rows_are_uniform(fitted, rng):
    X = rng.normal(size=(400, 5))
    assert kstest(fitted.p_values(X), "uniform").pvalue > 0.01
    assert kstest(fitted.p_values(X, X_calibration=rng.normal(size=(300, 5))), "uniform").pvalue > 0.01
    assert fitted.p_values(X * 4).mean() < 0.15  # and those of abnormal ones are not
    assert fitted.set_params(convention="sklearn").p_values(X * 4).mean() < 0.15
    fitted.set_params(convention="pyod")


def test_a_false_alarm_rate_holds_on_new_normal_rows(fitted, rng):
    X = rng.normal(size=(2000, 5))
    for rate in (0.2, 0.05, 0.01):
        assert fitted.set_threshold(false_alarm_rate=rate).predict(X).mean() == pytest.approx(rate, rel=0.5)


def test_false_discoveries_stay_below_the_rate_that_is_asked_for():
    """Benjamini and Hochberg at 0.2: the mean share of normal rows among those that are found, over 200 repetitions."""
    rng, shares, found = np.random.default_rng(0), [], 0
    for repetition in range(200):
        if repetition % 10 == 0:
            det = MemAEDetector(max_epochs=3, random_state=repetition).fit(rng.normal(size=(300, 4)))
        X = np.vstack([rng.normal(size=(90, 4)), rng.normal(size=(10, 4)) + 5])
        discovered = np.flatnonzero(false_discovery_control(det.p_values(X)) <= 0.2)
        shares.append((discovered < 90).sum() / max(len(discovered), 1))
        found += (discovered >= 90).sum()
    assert np.mean(shares) < 0.2 and found > 0.9 * 2000


def test_learned_items_are_calibrated_by_what_is_held_out(table, rng):
    X, _ = table
    det = detector(memory_unit="sample", max_epochs=5).fit(X)
    assert len(det.calibration_scores_) == 30 and np.isin(det.calibration_scores_, det.decision_scores_).all()
    none = detector(memory_unit="sample", max_epochs=5, validation_fraction=0).fit(X)
    with pytest.raises(ValueError, match="p_values needs samples that were held out from training"):
        none.p_values(X)
    with pytest.raises(ValueError, match="false_alarm_rate=0.1 needs at least 9 samples .* has 0"):
        none.set_threshold(false_alarm_rate=0.1)
    assert none.p_values(X, X_calibration=X[30:]).shape == (300,)


def test_labels_choose_the_threshold_in_either_coding(table):
    X, y = table
    det = detector().fit(X[y == 0])
    assert f1_score(y, det.set_threshold(X_valid=X, y_valid=y).predict(X)) > 0.95
    threshold = det.threshold_
    assert det.set_threshold(X_valid=X, y_valid=1 - 2 * y).threshold_ == threshold
    with pytest.raises(ValueError, match="5 features"):
        det.set_threshold(X_valid=X[:, :5], y_valid=y)
    assert det.threshold_ == threshold


def test_an_automatic_contamination_finds_what_is_far_out(table):
    X, y = table
    det = MemAEDetector("auto", random_state=0).fit(X)
    assert f1_score(y, det.labels_) > 0.9
    assert detector(contamination=0.1).fit(X).set_threshold("auto").threshold_ == contamination_threshold(
        "auto", detector(contamination=0.1).fit(X).decision_scores_
    )
