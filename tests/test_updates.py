"""Updates of a fitted detector: what it learns of new samples, what it forgets, what stays as it is."""

import pickle

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector
from skmemae._contract import contamination_threshold
from tests.problems import detector


class Stream:
    """Rows of three hidden factors, whose loadings and centre drift from one regime to another."""

    def __init__(self, seed, d=8):
        self.rng = np.random.default_rng(seed)
        self.loadings = self.rng.normal(size=(2, 3, d))
        self.centre = 2 * self.rng.normal(size=d)

    def rows(self, n, time):
        loadings = (1 - time) * self.loadings[0] + time * self.loadings[1]
        return self.rng.normal(size=(n, 3)) @ loadings + 0.3 * self.rng.normal(size=(n, loadings.shape[1])) + time * self.centre

    def problem(self, n=500):
        """Rows after the drift, and outliers: columns of such rows, each shuffled; and what belongs to the old regime."""
        shuffled = np.column_stack([self.rng.permutation(column) for column in self.rows(n, 1).T])
        return np.vstack([self.rows(n, 1), shuffled, self.rows(n, 0)]), np.repeat([0, 1], [n, 2 * n])


ABRUPT, GRADUAL = np.ones(12), np.minimum(1, np.arange(1, 15) / 5)
LEARNED = {"memory_unit": "sample", "ensemble_size": 2}


@pytest.mark.parametrize(
    "times, parameters",
    [(ABRUPT, {}), (GRADUAL, {}), *(pytest.param(times, LEARNED, marks=pytest.mark.slow) for times in (ABRUPT, GRADUAL))],
    ids=["abrupt-rows", "gradual-rows", "abrupt-learned", "gradual-learned"],
)
def test_after_a_drift_updates_are_as_good_as_a_refit(times, parameters):
    stream = Stream(0)
    old = MemAEDetector(random_state=0, **parameters).fit(stream.rows(1000, 0))
    updated, pieces = pickle.loads(pickle.dumps(old)), [stream.rows(100, time) for time in times]
    for piece in pieces:
        updated.partial_fit(piece)
    refitted = MemAEDetector(random_state=0, **parameters).fit(np.vstack(pieces[-10:]))
    X, y = stream.problem()
    auc = {name: roc_auc_score(y, det.decision_function(X)) for name, det in zip("our", (old, updated, refitted), strict=True)}
    assert auc["u"] > auc["r"] - 0.01 and auc["u"] > auc["o"] + 0.2
    # The threshold follows: of the new normal rows the old one flags nearly all.
    assert updated.predict(X[:500]).mean() < 0.2 < 0.9 < old.predict(X[:500]).mean()


def test_without_a_drift_updates_do_no_harm():
    stream = Stream(1)
    updated = MemAEDetector(random_state=0).fit(stream.rows(500, 1))
    X, y = stream.problem()
    X, y = X[:1000], y[:1000]
    before = roc_auc_score(y, updated.decision_function(X))
    for _ in range(8):
        updated.partial_fit(stream.rows(60, 1))
    assert roc_auc_score(y, updated.decision_function(X)) > before - 0.01


def test_the_memory_takes_the_new_rows_and_drops_the_oldest(rng):
    det = detector(contamination=0.001).fit(rng.normal(size=(900, 3)))
    det.partial_fit(rng.normal(size=(80, 3)))
    assert set(det.memory_rows_) == set(range(980))  # there is room for 1000
    new = rng.normal(size=(300, 3))
    det.partial_fit(new)
    assert set(det.memory_rows_) == set(range(280, 1280))
    own = det.explain(new[:50]).rows  # the new rows do not answer themselves
    assert (own >= 280).all() and not (own == np.arange(980, 1030)[:, None]).any()
    assert len(det.decision_scores_) == len(det.labels_) == len(det.calibration_scores_) == 1000
    np.testing.assert_allclose(det.decision_scores_[-300:], det.decision_function(new), rtol=1e-4)


def test_new_rows_without_the_share_of_outliers_come_into_the_memory(rng):
    det = detector(max_epochs=2).fit(rng.normal(size=(300, 4)))
    new = rng.normal(size=(100, 4))
    new[:10] += 30
    det.partial_fit(new)
    taken = np.isin(np.arange(300, 400), det.memory_rows_)
    assert not taken[:10].any() and taken[10:].mean() > 0.9


@pytest.mark.parametrize("parameters", [{}, LEARNED])
def test_the_scaling_stays_and_a_threshold_that_was_set_does_not(table, parameters):
    X, _ = table
    det = detector(max_epochs=10, **parameters).fit(X)
    center = det._model.scaling.center.clone()
    det.set_threshold(threshold=1e9).partial_fit(X + 1)
    assert (det._model.scaling.center == center).all() and det.n_iter_ == 10 + (5 if parameters else 2)
    assert det.threshold_ == contamination_threshold(0.1, det.decision_scores_, det._noise) < 1e9


def test_learned_items_that_nothing_uses_move():
    rng = np.random.default_rng(0)
    det = detector(memory_unit="sample", ensemble_size=1, max_epochs=20).fit(rng.normal(size=(200, 4)))
    for _ in range(6):
        new = rng.normal(size=(200, 4)) + 6
        det.partial_fit(new)
    assert (det.addressing_weights(new) > 0).any(axis=0).mean() > 0.5
    assert len(det.decision_scores_) == 1000


def test_learned_items_that_are_used_stay_where_they_are(rng):
    X = rng.normal(size=(200, 4))
    det = detector(memory_unit="sample", ensemble_size=1, memory_size=6, max_epochs=20).fit(X)
    before = det.memory_.copy()
    assert (det.memory_usage_ > 0.05 / 6).all()
    det.set_params(learning_rate=1e-9).partial_fit(X)
    np.testing.assert_allclose(det.memory_, before, atol=1e-5)


@pytest.mark.parametrize("kind", ["images", "clips", "memory_size=0", "windows"])
def test_all_shapes_can_be_updated(rng, kind):
    shape = {"images": (24, 8, 8, 3), "clips": (8, 1, 4, 8, 8), "memory_size=0": (60, 4), "windows": (60, 6, 2)}[kind]
    det = detector(max_epochs=2, **({"memory_size": 0} if kind == "memory_size=0" else {})).fit(rng.random(shape))
    n_epochs = det.n_iter_
    det.partial_fit(rng.random(shape))
    assert len(det.decision_scores_) == 2 * shape[0] and det.n_iter_ == len(det.loss_curve_) > n_epochs
    assert np.isfinite(det.decision_function(rng.random(shape))).all()


def test_the_first_update_is_a_fit_and_small_pieces_add_up(table):
    X, _ = table
    det = detector().partial_fit(X[:60])
    np.testing.assert_array_equal(det.decision_scores_, detector().fit(X[:60]).decision_scores_)
    for start in range(60, 80, 2):
        det.partial_fit(X[start : start + 2])
    assert len(det.decision_scores_) == 80 and det._window == (80, 1000)


def test_one_seed_gives_the_same_bits(table):
    X, _ = table
    scores = [detector().fit(X[:200]).partial_fit(X[200:]).decision_function(X) for _ in range(2)]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize(
    "X, message",
    [
        (np.zeros((3, 5)), "5 features"),
        (np.zeros((1, 6)), "minimum of 2"),
        (np.full((3, 6), np.nan), "NaN"),
        ("abc", "2D array"),
    ],
)
def test_bad_samples_are_named_and_change_nothing(table, X, message):
    det = detector().fit(table[0])
    before = dict(vars(det))
    with pytest.raises(ValueError, match=message):
        det.partial_fit(X)
    assert vars(det).keys() == before.keys() and all(vars(det)[name] is value for name, value in before.items())


def test_an_interruption_leaves_the_detector_as_it_was(table, monkeypatch):
    det = detector().fit(table[0])
    scores = det.decision_function(table[0])
    monkeypatch.setattr("skmemae._train.fit.train_networks", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        det.partial_fit(table[0])
    np.testing.assert_array_equal(det.decision_function(table[0]), scores)


@pytest.mark.parametrize(
    "parameters, n_rows, later",
    [
        ({"contamination": 0.01}, (80, 80), {}),  # too few for a share, and then enough
        ({"contamination": 0.01, "memory_size": 50, "ensemble_size": 1}, (500, 20), {}),
        ({"contamination": 0.05}, (15, 60), {}),
        ({}, (200, 100), {"contamination": 0.001}),
        ({"contamination": 0.001}, (200, 100), {"contamination": 0.1}),
    ],
)
def test_scores_of_a_window_are_in_one_unit(rng, parameters, n_rows, later):
    det = MemAEDetector(random_state=0, **parameters).fit(rng.normal(size=(n_rows[0], 20)))
    before = np.median(det.decision_scores_)
    had_subsets = det._model.subsets is not None
    det.set_params(**later).partial_fit(rng.normal(size=(n_rows[1], 20)))
    assert (det._model.subsets is not None) == had_subsets
    assert 0.5 < np.median(det.decision_scores_[-n_rows[1] :]) / before < 2
    assert (det.p_values(rng.normal(size=(400, 20))) < 0.05).mean() < 0.35
    assert det.predict(4 * rng.normal(size=(100, 20))).mean() > 0.9


@pytest.mark.parametrize(
    "later",
    [
        {"memory_size": 0},
        {"memory_unit": "sample"},
        {"anomaly_score": "absolute"},
        {"temperature": 9.0, "widths": (9, 5), "shrink_threshold": 0.0, "similarity": "dot", "ensemble_size": 3},
    ],
)
@pytest.mark.parametrize("parameters", [{}, LEARNED])
def test_what_is_set_for_the_next_fit_does_not_change_an_update(table, parameters, later):
    X, _ = table
    updated, expected = (detector(**parameters).fit(X[:150]) for _ in range(2))
    updated.set_params(**later).partial_fit(X[150:])
    expected.partial_fit(X[150:])
    np.testing.assert_array_equal(updated.decision_function(X), expected.decision_function(X))
    stay = ("memory_unit", "memory_size", "anomaly_score")
    assert {name: updated.resolved_params_[name] for name in stay} == {name: expected.resolved_params_[name] for name in stay}


def test_values_beyond_the_limit_are_compressed_once(rng):
    det = detector(scaling=None, max_epochs=2).fit(1e100 * rng.normal(size=(60, 3)))
    new = 1e50 * rng.normal(size=(30, 3))
    det.partial_fit(new)
    np.testing.assert_allclose(det.decision_scores_[-30:], det.decision_function(new), rtol=1e-5)


def test_frequent_kinds_stay_frequent(rng):
    kinds = np.array([[0.0, 0], [1, 0], [0, 1], [5, 5]])
    det = MemAEDetector(contamination=0.001, random_state=0).fit(kinds[np.r_[:4, rng.choice(4, 996, p=[0.4, 0.3, 0.2, 0.1])]])
    counts = sorted(det._model.known.counts.tolist())
    for _ in range(5):
        det.partial_fit(kinds[rng.choice(4, 100, p=[0.4, 0.3, 0.2, 0.1])])
    np.testing.assert_allclose(sorted(det._model.known.counts.tolist()), counts, rtol=0.3)
    assert not det.predict(kinds).any()


def test_rows_that_left_the_window_leave_the_memory(rng):
    det = detector(contamination=0.5).fit(rng.normal(size=(1000, 3)))
    for number in range(1, 4):
        det.partial_fit(rng.normal(size=(500, 3)))
        assert det.memory_rows_.min() >= 500 * number
    det.partial_fit(rng.normal(size=(3000, 3)))  # more than the window holds
    assert det.memory_rows_.min() >= 4500 and len(det.decision_scores_) == 1000


@pytest.mark.parametrize(
    "shape, parameters",
    [
        ((4,), {}),
        ((4,), {"memory_unit": "sample", "max_epochs": 20}),
        ((8, 8), {"max_epochs": 10}),
        ((1, 4, 8, 8), {"max_epochs": 4}),
    ],
    ids=["rows", "learned items", "images", "clips"],
)
def test_false_alarms_hold_once_the_window_has_changed_its_scale(rng, shape, parameters):
    det = MemAEDetector(random_state=0, **parameters).fit(rng.normal(size=(1000, *shape)))
    n_calibration = len(det.calibration_scores_)
    for _ in range(3):
        det.partial_fit(3 * rng.normal(size=(500, *shape)))
    assert len(det.calibration_scores_) == pytest.approx(n_calibration, abs=2)
    p_values = det.p_values(3 * rng.normal(size=(1000, *shape)))
    assert (p_values <= 0.1).mean() < 0.2 and 0.3 < (p_values <= 0.5).mean() < 0.7


def test_images_that_left_the_window_leave_the_reference_features(rng):
    det = MemAEDetector(max_epochs=2, random_state=0).fit(rng.normal(size=(300, 8, 8)))
    for _ in range(4):
        det.partial_fit(rng.normal(size=(400, 8, 8)))
    assert det._model.features.size <= 1000


def test_resolved_parameters_are_those_in_use(table):
    det = detector(max_epochs=4).fit(table[0])
    before = det.resolved_params_
    det.set_params(scaling="minmax", sample_shape=(2, 3), temperature=9.0).partial_fit(table[0][:50])
    for name in ("scaling", "sample_shape", "temperature"):
        assert det.resolved_params_[name] == before[name]
