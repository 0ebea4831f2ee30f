"""MemAEDetector as its users meet it."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from torch import nn

from skmemae import MemAEDetector, MemoryCollapseWarning, metrics
from skmemae._threshold import contamination_threshold
from tests.problems import detector


def test_members_of_an_ensemble_differ_and_all_count(table):
    X, _ = table
    det = detector(memory_unit="sample", ensemble_size=3).fit(X)
    pairs = zip(det.model_, det._model.score.typical_distances, strict=True)
    together = replace(det._model, seen=None)
    members = [
        replace(together, networks=nn.ModuleList([network]), score=replace(det._model.score, typical_distances=(distance,)))
        for network, distance in pairs
    ]
    alone = [member.scores(X) for member in members]
    np.testing.assert_allclose(together.scores(X), np.exp(np.log(alone).mean(axis=0)))
    assert not np.allclose(alone[0], alone[1], rtol=0.01)


def test_outliers_are_found_in_tables_images_and_clips(table, rng):
    X, y = table
    assert roc_auc_score(y, MemAEDetector(random_state=0).fit(X).decision_scores_) > 0.95
    digits = load_digits()
    zero = digits.target == 0
    det = MemAEDetector(max_epochs=40, random_state=0).fit(digits.images[zero][:100])
    assert roc_auc_score(~zero, det.decision_function(digits.images)) > 0.95
    still = np.repeat(digits.images[zero][:60, None], 4, axis=1)[:, None]
    turned = still.copy()
    turned[:, :, 2:] = still[:, :, 2:, ::-1, :].swapaxes(-1, -2)
    det = MemAEDetector(max_epochs=60, random_state=0).fit(still[:40])
    scores = det.decision_function(np.concatenate([still[40:], turned[40:]]))
    assert roc_auc_score(np.repeat([0, 1], 20), scores) > 0.9


def test_a_memory_that_does_not_work_as_one_warns(table):
    X, _ = table
    with pytest.warns(MemoryCollapseWarning, match="Lower shrink_threshold or temperature"):
        det = detector(temperature=1.0, shrink_threshold=20.0, ensemble_size=1, memory_unit="sample").fit(X)
    assert det.zero_row_fraction_ > 0.5
    np.testing.assert_allclose(det.addressing_weights(X).max(axis=1), 1)


def test_everything_that_was_resolved_is_told(table):
    det = detector(memory_size=20, ensemble_size=4).fit(table[0])
    told = det.resolved_params_
    assert set(told) == set(det.get_params()) and told["memory_size"] == 20 and det.get_params()["batch_size"] == "auto"
    assert told["ensemble_size"] * 20 == len(det.memory_) == 80 and told["memory_items"] == "rows"
    assert told["widths"] == (6,) and det.memory_.shape[1] == 6 + 6  # queries and rows
    assert told["backbone"] == det.backbone_ == "fc"
    given = {name: told[name] for name in ("memory_size", "ensemble_size", "widths", "scaling", "batch_size", "anomaly_score")}
    again = detector(**given)
    np.testing.assert_array_equal(again.fit(table[0]).decision_scores_, det.decision_scores_)


def test_frequent_rows_count_less_unless_asked_otherwise(rng):
    rare, frequent = rng.normal(size=(150, 3)), np.full((600, 3), 2.0)
    X = np.concatenate([rare, frequent])
    thinned, whole = (detector(thin_repeats=thin).fit(X).decision_scores_ for thin in (True, False))
    assert len(thinned) == len(whole) == 750
    assert whole[150] / np.median(whole[:150]) < thinned[150] / np.median(thinned[:150])
    thinned, whole = (detector(thin_repeats=thin).fit(rare).decision_scores_ for thin in (True, False))
    np.testing.assert_array_equal(thinned, whole)


def test_the_papers_ablations_are_settings(table):
    X, _ = table
    autoencoder = detector(memory_size=0).fit(X)
    assert autoencoder.memory_.size == autoencoder.memory_usage_.size == 0 and autoencoder.zero_row_fraction_ == 0
    for method in (lambda: autoencoder.addressing_weights(X), autoencoder.decode_memory):
        with pytest.raises(ValueError, match="memory_size=0"):
            method()
    plain, sparse = (detector(memory_size=0, max_epochs=30, latent_l1=weight).fit(X).model_[0] for weight in (0.0, 10.0))
    with torch.no_grad():
        x = torch.randn(100, 6)
        assert sparse.encoder(x).abs().mean() < 0.5 * plain.encoder(x).abs().mean()
    dense = detector(shrink_threshold=0, entropy_weight=0).fit(X)
    assert (dense.addressing_weights(X) > 0).mean() > (detector().fit(X).addressing_weights(X) > 0).mean()
    sharp = detector(shrink_threshold=0, entropy_weight=100.0, temperature=1.0).fit(X)
    dense = detector(shrink_threshold=0, entropy_weight=0.0, temperature=1.0).fit(X)
    assert sharp.addressing_weights(X).max(axis=1).mean() > dense.addressing_weights(X).max(axis=1).mean()


def test_a_callable_backbone_is_used(table):
    X, _ = table
    det = detector(backbone=small_backbone, memory_size=10).fit(X)
    assert det.backbone_ is small_backbone and det.memory_.shape == (4 * 10, 2)
    np.testing.assert_array_equal(det.decision_scores_, clone(det).fit(X).decision_scores_)


def small_backbone(sample_shape):
    return nn.Linear(sample_shape[0], 2), nn.Linear(2, sample_shape[0])


def test_one_seed_one_result_and_nothing_global_moves(table):
    X, _ = table
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads(), torch.get_default_dtype()
    first = detector().fit(X).decision_scores_
    with ThreadPoolExecutor(4) as pool:
        rest = list(pool.map(lambda _: detector().fit(X).decision_scores_, range(4)))
    assert all(np.array_equal(first, other) for other in rest)
    det = detector()
    assert np.array_equal(det.fit(X).decision_scores_, det.fit(X).decision_scores_)
    assert not np.array_equal(first, detector(random_state=1).fit(X).decision_scores_)
    assert torch.equal(before[0], torch.get_rng_state()) and np.array_equal(before[1], np.random.get_state()[1])
    assert before[2:] == (torch.get_num_threads(), torch.get_default_dtype())


@pytest.mark.parametrize("shape", [(300, 6), (30, 8, 8), (10, 1, 4, 8, 8)])
def test_a_score_does_not_depend_on_its_neighbours(rng, shape):
    X = rng.normal(size=shape)
    det = detector(max_epochs=2).fit(X)
    together = det.decision_function(X)
    alone = np.concatenate([det.decision_function(X[i : i + 1]) for i in range(len(X))])
    order = rng.permutation(len(X))
    np.testing.assert_allclose(alone, together, rtol=1e-6)
    np.testing.assert_allclose(det.decision_function(X[order]), together[order], rtol=1e-6)
    np.testing.assert_allclose(det.decision_scores_, together, rtol=1e-6)


def test_grid_search_with_scorers_of_either_sign(table):
    X, y = table
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    for convention, coded, scoring in [
        ("pyod", y, "roc_auc"),
        ("sklearn", 1 - 2 * y, "roc_auc"),
        ("pyod", 1 - 2 * y, metrics.roc_auc),
        ("sklearn", y, metrics.average_precision),
    ]:
        search = GridSearchCV(detector(convention=convention), {"memory_size": [10, 20]}, scoring=scoring, cv=cv)
        assert search.fit(X, coded).best_score_ > 0.9


def test_a_fit_that_diverges_names_the_learning_rate_and_leaves_the_detector_alone(table):
    X, _ = table
    det = detector().fit(X)
    scores = det.decision_function(X)
    before = dict(vars(det.set_params(learning_rate=1000.0)))
    with pytest.raises(ValueError, match=r"Training diverged: .* Lower learning_rate \(now 1000"):
        det.fit(X)
    assert vars(det) == before and np.array_equal(det.decision_function(X), scores)


@pytest.fixture
def interrupts():
    """Ctrl-C raises, also where a shell started the tests in the background, which it does with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interruption_leaves_the_detector_as_it_was(table, interrupts):
    """Ctrl-C, as a notebook sends it, in the middle of training."""
    X, _ = table
    det = detector().fit(X)
    before, scores = dict(vars(det)), det.decision_function(X)
    det.set_params(max_epochs=100_000, validation_fraction=0.0)
    before["max_epochs"], before["validation_fraction"] = 100_000, 0.0
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        det.fit(X[:, :4])
    assert vars(det) == before
    assert np.array_equal(det.decision_function(X), scores)


def test_an_interruption_of_scoring_leaves_gradients_on(table, monkeypatch):
    X, _ = table
    det = detector().fit(X)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("skmemae._score.Score.terms", interrupt)
    with pytest.raises(KeyboardInterrupt) as kept:  # a notebook keeps the traceback and its frames as well
        det.decision_function(X)
    assert kept.tb is not None
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_an_interrupted_first_fit_leaves_it_unfitted(table, monkeypatch):
    X, _ = table

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("skmemae._train.optimiser.Adam.step", interrupt)
    det = detector()
    with pytest.raises(KeyboardInterrupt):
        det.fit(X)
    assert not hasattr(det, "n_features_in_")
    with pytest.raises(NotFittedError):
        det.predict(X)


def test_columns_are_counted_along_the_second_axis(rng):
    assert detector(max_epochs=1).fit(rng.random((20, 8, 9))).n_features_in_ == 8


def test_with_an_automatic_contamination_a_tenth_is_left_out_and_the_fence_is_of_samples_not_trained_on(rng):
    X = rng.normal(size=(400, 4))
    rows = detector(contamination="auto").fit(X)
    assert rows.resolved_params_["memory_size"] == 360
    learned = detector(contamination="auto", memory_unit="sample").fit(X)
    fence = [
        contamination_threshold("auto", s, learned._noise) for s in (learned.calibration_scores_, learned.decision_scores_)
    ]
    assert learned.threshold_ == fence[0] != fence[1]


def test_a_false_alarm_rate_is_cautious_where_training_holds_outliers(rng):
    X = rng.normal(size=(400, 4))
    X[:40] += 6
    det = MemAEDetector(random_state=0).fit(X).set_threshold(false_alarm_rate=0.15)
    assert det.predict(rng.normal(size=(2000, 4))).mean() < 0.15


@pytest.mark.parametrize(("scaling", "is_seen"), [("standard", True), ("contrast", False)])
def test_whether_a_dark_image_is_abnormal_is_for_the_scaling_to_say(scaling, is_seen):
    digits = load_digits()
    threes = digits.images[digits.target == 3]
    det = MemAEDetector(scaling=scaling, max_epochs=20, random_state=0).fit(threes[:120])
    assert (det.predict(threes[120:] * 0.4).mean() > 0.5) == is_seen


def test_a_category_that_training_has_not_seen_adds_to_the_score(rng):
    X = np.column_stack([rng.normal(size=(300, 2)), np.eye(2)[rng.integers(0, 2, size=300)]])
    det = MemAEDetector(random_state=0).fit(X)
    unseen = X * [1, 1, 0, 0]
    assert (det.decision_function(unseen) > det.decision_function(X)).mean() > 0.9
