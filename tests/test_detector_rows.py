"""MemAEDetector with a memory of rows: no item answers its own row, honest scores, robust scaling."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector, datasets
from tests.problems import detector


def test_each_row_is_left_out_by_a_quarter_of_the_members(rng):
    det = detector(contamination=0.001).fit(rng.normal(size=(400, 3)))
    known = det._model.known
    own = known.own_items(known.find(known.fingerprint(torch.from_numpy(rng.normal(size=(1, 3))))))
    assert (own == -1).all()  # a row that is none of the training data
    own = known.own_item[:, :-1]
    scoring = known.scoring_members(own).sum(dim=0)
    assert det.resolved_params_["ensemble_size"] == 10 and known.n_training == 300
    assert set(scoring.tolist()) <= {2, 3} and (own >= 0).all()


def test_rows_of_the_training_data_are_scored_by_others_in_fit_and_after(table):
    X, _ = table
    det = detector().fit(X)
    np.testing.assert_array_equal(det.decision_function(X), det.decision_scores_)
    np.testing.assert_array_equal(det.predict(X), det.labels_)
    np.testing.assert_allclose(det.decision_function(X[40:45]), det.decision_scores_[40:45], rtol=1e-5)
    members = det.resolved_params_["ensemble_size"]
    made_of = det.memory_rows_.reshape(members, -1)
    weights = det.addressing_weights(X).reshape(len(X), members, -1)
    own = made_of[None] == np.arange(len(X))[:, None, None]
    assert own.any(axis=2).mean() > 0.8
    assert (weights[own] == 0).all()


def test_a_new_row_beside_a_training_row_is_answered_by_it(table):
    X, _ = table
    det = detector(contamination=0.001).fit(X)
    assert np.median(det.decision_function(X + 1e-3)) < 0.8 * np.median(det.decision_scores_)


def repeated(rng, share, rounding=0.0, units=1.0):
    """Rows of which a share occurs twice, and new rows."""
    X, new = rng.normal(size=(250, 5)), rng.normal(size=(1000, 5))
    copies = X[: int(250 * share)]
    return np.concatenate([X, copies + rounding * rng.normal(size=copies.shape)]) * units, new * units


@pytest.mark.filterwarnings("ignore:.*records that occur more than once")
@pytest.mark.parametrize("contamination", [0.001, 0.1])
@pytest.mark.parametrize(
    "share, rounding, units",
    [(0, 0, 1), (0.5, 0, 1), (1, 0, 1), (1, 1e-6, 1), (1, 1e-6, [1e-3, 1, 1e6, 1, 1e3])],
    ids=["distinct", "half twice", "all twice", "rounded copies", "units"],
)
def test_records_that_occur_twice_keep_the_rate_of_false_alarms(share, rounding, units, contamination):
    found = []
    for seed in range(4):
        X, new = repeated(np.random.default_rng(seed), share, rounding, np.array(units))
        det = MemAEDetector(contamination=contamination, random_state=seed).fit(X).set_threshold(false_alarm_rate=0.05)
        p_values = det.p_values(new)
        found.append([det.predict(new).mean(), (p_values <= 0.1).mean(), (p_values <= 0.5).mean()])
    np.testing.assert_allclose(np.mean(found, axis=0), [0.05, 0.1, 0.5], atol=0.05)
    assert np.mean(found, axis=0)[0] < 0.07


@pytest.mark.parametrize("rounding, warns", [(1e-4, True), (1e-3, True), (0.5, False)])
def test_near_copies_are_told(rng, rounding, warns):
    X, _ = repeated(rng, 1, rounding)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector().fit(X)
    assert [("near copy" in str(warning.message)) for warning in caught] == [True] * warns


def test_a_held_value_is_one_record(rng):
    X = rng.normal(size=(100, 5)).repeat(rng.integers(1, 12, 100), axis=0)
    with pytest.warns(UserWarning, match=r"\d\d% of the samples of X are records that occur more than once"):
        det = detector(contamination=0.001).fit(X)
    assert len(det.calibration_scores_) == 100
    det.set_threshold(false_alarm_rate=0.05)
    assert det.predict(rng.normal(size=(2000, 5))).mean() < 0.12


@pytest.mark.parametrize(
    "kind",
    [lambda r, n: r.integers(0, 8, (n, 3)), lambda r, n: r.integers(0, 2, (n, 10)), lambda r, n: r.integers(0, 2, (n, 5))],
)
@pytest.mark.parametrize("contamination", [0.001, 0.1])
def test_p_values_of_few_values_are_not_too_small(kind, contamination):
    low = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # these are kinds, not records
            det = MemAEDetector(contamination=contamination, random_state=seed).fit(kind(rng, 300).astype(float))
        low.append((det.p_values(kind(rng, 1000).astype(float)) <= 0.5).mean())
    assert np.mean(low) < 0.55


def test_a_machine_that_stands_still_is_normal(rng):
    X = np.concatenate([rng.normal([50, 6, 65], [5, 0.5, 4], size=(600, 3)), np.repeat([[0.0, 1.0, 20.0]], 400, axis=0)])
    assert MemAEDetector(contamination="auto", random_state=0).fit(X).labels_[600:].sum() == 0


def test_a_frequent_kind_is_normal_however_far_it_is(rng):
    X = np.concatenate([rng.integers(0, 6, size=(300, 2)), np.full((100, 2), 30), [[30, 60], [60, 30]]]).astype(float)
    det = detector(contamination=0.001).fit(X)
    kind, rare = det.decision_function([[30.0, 30.0], [60.0, 30.0]])
    assert kind < 0.2 * rare


@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8"])
def test_a_row_is_known_again_in_any_dtype(rng, dtype):
    X = rng.integers(-50, 50, size=(150, 4)).astype(np.float64)
    det = detector().fit(X)
    np.testing.assert_array_equal(det.decision_function(X.astype(dtype)), det.decision_scores_)


def test_new_normal_rows_are_flagged_about_as_often_as_asked():
    X, y = load_breast_cancer(return_X_y=True)
    shares = []
    for seed in range(5):
        split = datasets.clean_split(X, 1 - y, random_state=seed)
        det = MemAEDetector(contamination=0.1, random_state=seed).fit(split.X_train)
        shares.append(det.predict(split.X_test[split.y_test == 0]).mean())
    assert 0.08 < np.mean(shares) < 0.13


def test_contamination_says_how_many_rows_the_memory_leaves_out(rng):
    X = rng.normal(size=(400, 4))
    X[:30] = 6 + 0.3 * rng.normal(size=(30, 4))
    y = np.arange(400) < 30
    new = np.concatenate([6 + 0.3 * rng.normal(size=(30, 4)), rng.normal(size=(100, 4))])
    trusting, careful = (MemAEDetector(contamination=c, random_state=0).fit(X) for c in (0.001, 0.1))
    labels = np.arange(130) < 30
    assert roc_auc_score(labels, careful.decision_function(new)) > 0.99 > roc_auc_score(labels, trusting.decision_function(new))
    scores = careful.decision_function(new)
    np.testing.assert_array_equal(careful.set_threshold(0.2).decision_function(new), scores)
    assert careful.decision_scores_[y].min() > np.median(careful.decision_scores_[~y])


def test_a_wild_value_does_not_hide_the_outliers_of_its_column(rng):
    X, y = rng.normal(size=(600, 4)), np.zeros(600)
    X[:20, 0] += 6
    y[:20] = 1
    plain = roc_auc_score(y, MemAEDetector(random_state=0).fit(X).decision_scores_)
    X[300, 0] = -9999
    assert roc_auc_score(y, MemAEDetector(random_state=0).fit(X).decision_scores_) > plain - 0.02 > 0.9


def test_a_flag_that_was_never_set_is_more_abnormal_than_one_that_was_set_once(rng):
    X = np.column_stack([rng.normal(size=(500, 4)), np.zeros((500, 2))])
    X[7, 5] = 1
    none, never, once = np.zeros((3, 6))
    never[4] = once[5] = 1
    det = MemAEDetector(random_state=0).fit(X)
    scores = det.decision_function([none, once, never])
    assert scores[0] < det.threshold_ < scores[1] < scores[2]


@pytest.mark.parametrize("skew", [False, True])
def test_both_tails_of_a_single_column_are_found(rng, skew):
    X = rng.lognormal(size=(500, 1)) if skew else rng.normal(size=(500, 1))
    det = MemAEDetector(random_state=0).fit(X)
    low, middle, high = det.decision_function([[X.min() - 2], [np.median(X)], [X.max() + 2]])
    assert min(low, high) > det.threshold_ > middle


def test_a_row_of_triple_size_among_few_wide_ones_is_the_most_abnormal(rng):
    X = rng.normal(size=(40, 3000))
    X[3] *= 3
    assert MemAEDetector(random_state=0).fit(X).decision_scores_.argmax() == 3


def test_decoded_items_are_near_the_rows_that_they_are_made_of(rng):
    X = rng.normal(size=(150, 4))
    det = MemAEDetector(contamination=0.001, random_state=0).fit(X)
    decoded = det.decode_memory()
    rows = X[det.memory_rows_]
    assert decoded.shape == rows.shape and np.abs(decoded - rows).mean() < 0.3
    np.testing.assert_allclose(det.decode_memory([200, 3]), decoded[[200, 3]], rtol=1e-5, atol=1e-6)


def test_held_out_rows_stop_training_where_that_is_asked_for(rng):
    X = rng.normal(size=(200, 4))
    det = detector(validation_fraction=0.2, learning_rate=1e-30, max_epochs=60).fit(X)  # no epoch is better than the first
    assert det.n_iter_ == len(det.validation_curve_) == 21
    assert detector(learning_rate=1e-30, max_epochs=60).fit(X).n_iter_ == 60


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_rows_are_scored(n):
    det = MemAEDetector(random_state=0).fit(np.arange(2.0 * n).reshape(n, 2))
    assert np.isfinite(det.decision_scores_).all() and np.isfinite(det.decision_function([[1e6, -1e6]])).all()


@pytest.mark.parametrize("n, expected", [(100, (16, 90)), (1000, (4, 900)), (3000, (2, 2700)), (10_000, (1, 8000))])
def test_members_with_more_rows_in_their_memory_are_fewer(n, expected):
    params = detector(max_epochs=1).fit(np.random.default_rng(0).normal(size=(n, 2))).resolved_params_
    assert (params["ensemble_size"], params["memory_size"]) == expected
