"""Thresholds and p-values from scores."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control, kstest
from sklearn.metrics import f1_score

from skmemae import MemAEDetector
from skmemae._threshold import best_f1_threshold, conformal_p_values, contamination_threshold, false_alarm_threshold
from tests.problems import detector


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
    np.testing.assert_allclose(
        conformal_p_values(np.array([0.0, 2.0, 3.0, 9.0]), np.array([3.0, 1.0, 2.0])), [1, 0.75, 0.5, 0.25]
    )


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
    with pytest.raises(ValueError, match="p_values needs samples that were not trained on"):
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
