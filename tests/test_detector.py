"""MemAEDetector as its users meet it."""

import copy
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

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
from skmemae._contract import contamination_threshold
from skmemae._model.score import Score
from skmemae.network import Ensemble
from tests.problems import data, detector


def test_members_of_an_ensemble_differ_and_all_count(table):
    X, _ = table
    det = detector(memory_unit="sample", ensemble_size=3).fit(X)
    model = copy.deepcopy(det._model)
    model.calibration = None  # which is of all members
    together, alone = model.scores(X), []
    networks, distances = model.networks, model.score.typical_query_distances
    for network, distance in zip(networks.networks, distances, strict=True):
        model.networks = Ensemble([network], {**networks.config, "members": 1})
        model.score = Score(model.score.name, members=1)
        model.score.learn(typical_query_distances=distance.unsqueeze(0))
        alone.append(model.scores(X))
    np.testing.assert_allclose(together, np.exp(np.log(alone).mean(axis=0)))
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
    assert told["ensemble_size"] * 20 == len(det.memory_) == 80 and told["memory_unit"] == "row"
    assert told["widths"] == (6,) and det.memory_.shape[1] == 6 + 6  # queries and rows
    assert told["backbone"] == det.backbone_ == "fc"
    given = {name: told[name] for name in ("memory_size", "ensemble_size", "widths", "scaling", "batch_size", "anomaly_score")}
    given |= {name: told[name] for name in ("memory_unit", "similarity", "temperature", "learning_rate", "validation_fraction")}
    again = detector(**given)
    np.testing.assert_array_equal(again.fit(table[0]).decision_scores_, det.decision_scores_)


def test_frequent_rows_count_less_where_the_data_is_clean(rng):
    X = np.concatenate([rng.normal(size=(150, 3)), np.full((600, 3), 2.0)])
    thinned, whole = (detector(contamination=share).fit(X).decision_scores_ for share in (0.019, 0.02))
    assert len(thinned) == len(whole) == 750
    assert whole[150] / np.median(whole[:150]) < thinned[150] / np.median(thinned[:150])


@pytest.mark.parametrize("base", [1.7e15, 1e12])
def test_distinct_rows_are_no_copies_whatever_stands_beside_them(rng, base):
    X = np.column_stack([rng.normal(size=(1000, 2)), np.full(1000, base)])
    days = (1.7e18 + np.arange(1000) * 86_400e9)[:, None]
    for rows in (X, days, days.astype(np.int64)):
        assert len(np.unique(detector(contamination=0.001, max_epochs=1).fit(rows).memory_rows_)) >= 998


def test_the_papers_ablations_are_settings(table):
    X, _ = table
    autoencoder = detector(memory_size=0).fit(X)
    assert {autoencoder.resolved_params_[name] for name in ("memory_unit", "similarity", "temperature")} == {None}
    assert autoencoder.memory_.size == autoencoder.memory_usage_.size == 0
    assert autoencoder.zero_row_fraction_ == autoencoder.effective_items_ == 0
    for method in (lambda: autoencoder.addressing_weights(X), autoencoder.decode_memory):
        with pytest.raises(ValueError, match="memory_size=0"):
            method()
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


def with_dropout(sample_shape):
    return (
        nn.Sequential(nn.Linear(sample_shape[0], 8), nn.Dropout(0.3), nn.Linear(8, 3)),
        nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, sample_shape[0])),
    )


def test_a_backbone_that_draws_is_reproducible_alone_and_in_eight_threads():
    X = data()["table"]
    before = torch.get_rng_state()
    plain = detector(backbone=with_dropout).fit(X).decision_scores_
    assert not np.array_equal(plain, detector(backbone=with_dropout, random_state=1).fit(X).decision_scores_)
    with ThreadPoolExecutor(8) as pool:
        for scores in pool.map(lambda _: detector(backbone=with_dropout).fit(X).decision_scores_, range(16)):
            np.testing.assert_array_equal(scores, plain)
    assert torch.equal(before, torch.get_rng_state())


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


# Training that goes wrong.


def test_a_fit_that_diverges_names_the_learning_rate_and_leaves_the_detector_alone(table):
    X, _ = table
    det = detector().fit(X)
    scores = det.decision_function(X)
    before = dict(vars(det.set_params(learning_rate=1000.0)))
    with pytest.raises(ValueError, match=r"Training diverged: .* Lower learning_rate \(now 1000"):
        det.fit(X)
    assert vars(det) == before and np.array_equal(det.decision_function(X), scores)


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

    monkeypatch.setattr("skmemae._model.score.Score.terms", interrupt)
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


# What the results mean.


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


# What a fitted detector shows of its model, and how it moves.


@pytest.mark.parametrize(
    "ask",
    [
        lambda det: det.predict([[1.0]]),
        lambda det: det.set_threshold(0.1),
        lambda det: det.offset_,
        lambda det: det.reconstruct([[1.0]]),
        lambda det: det.model_,
        lambda det: det.memory_,
        lambda det: det.device_,
        lambda det: det.to("cpu"),
        lambda det: det.channels_first([[1.0]]),
        lambda det: det.scaled([[1.0]]),
        lambda det: det.memory_rows_,
        lambda det: det.explain([[1.0]]),
        lambda det: det.decode_memory(),
    ],
)
def test_before_fit_everything_says_so(ask):
    with pytest.raises(NotFittedError):
        ask(MemAEDetector())


@pytest.fixture(scope="module")
def fitted():
    return detector(memory_unit="sample").fit(np.random.default_rng(0).normal(size=(300, 6)))


def test_the_memory_is_alive_and_visible(table):
    X, _ = table
    det = detector(memory_unit="sample", max_epochs=30).fit(X)
    assert det.memory_.shape == (4 * 75, 3) and det.memory_usage_.shape == (4 * 75,)
    assert det.zero_row_fraction_ == 0
    assert (det.memory_usage_ > 0).mean() > 0.5 and det.memory_usage_.max() < 0.9
    weights = det.addressing_weights(X).reshape(len(X), 4, 75) * 4
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(weights > 0, weights * np.log(weights), 0).sum(axis=2)
    assert det.effective_items_ == pytest.approx(np.median(np.exp(entropy)), rel=0.01)
    np.testing.assert_allclose((det.addressing_weights(X) > 0).mean(axis=0), det.memory_usage_, atol=0.02)
    assert det.n_iter_ == len(det.loss_curve_) == len(det.validation_curve_) == 30
    assert det.loss_curve_[-1] < 0.9 * det.loss_curve_[0]


def test_some_items_can_be_decoded_alone(table):
    det = detector(memory_unit="sample").fit(table[0])
    used = np.argsort(-det.memory_usage_)[:5]
    np.testing.assert_allclose(det.decode_memory(used), det.decode_memory()[used], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(det.decode_memory([299, 0]), det.decode_memory()[[299, 0]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("items", [[-1], [300], [0.5], [[1, 2]], 3, "all", [True], [None], [2**63]])
def test_items_that_are_none_of_the_memory_are_refused(fitted, items):
    with pytest.raises(ValueError, match="'items' parameter of decode_memory must be None or a list of int from 0 to 299"):
        fitted.decode_memory(items)


def test_the_score_is_the_squared_error_and_the_map_adds_up_to_it(table):
    X, _ = table
    det = detector(anomaly_score="reconstruction", ensemble_size=1).fit(X)
    np.testing.assert_allclose(det.anomaly_map(X).sum(axis=1), det.decision_scores_, rtol=1e-4)
    residuals = det.scaled(X) - det.scaled(det.reconstruct(X))
    np.testing.assert_allclose((residuals**2).sum(axis=1), det.decision_scores_, rtol=1e-3)


def test_a_move_is_for_scores_and_leaves_the_parameter(table):
    X, _ = table
    det = detector(device="cpu").fit(X)
    scores = det.decision_function(X)
    assert det.to("auto") is det and det.device == "cpu"
    np.testing.assert_allclose(det.decision_function(X), scores, rtol=1e-4)
    assert det.to("cpu").device_ == "cpu" and all(p.device.type == "cpu" for p in det.model_.parameters())


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "meta"])
def test_a_device_to_move_to_is_checked_and_the_detector_stays(fitted, table, device):
    scores = fitted.decision_function(table[0])
    with pytest.raises(ValueError, match=f"'device' parameter is '{device}'"):
        fitted.to(device)
    assert fitted.device_ == "cpu" and np.array_equal(fitted.decision_function(table[0]), scores)


def test_channels_first_lays_samples_out_as_the_network_does(rng):
    X = rng.normal(size=(20, 8, 9, 3))
    det = detector(max_epochs=1).fit(X)
    np.testing.assert_array_equal(det.channels_first(X), np.moveaxis(X, -1, 1))
    decoded = det.decode_memory()
    np.testing.assert_array_equal(det.channels_first(decoded), np.moveaxis(decoded, -1, 1))


def test_only_samples_of_the_shape_that_was_fitted_can_be_laid_out(rng):
    images = detector(max_epochs=1).fit(rng.normal(size=(20, 8, 9)))
    for other in (np.zeros((3, 9, 8)), np.zeros((8, 9)), np.zeros((3, 5))):
        with pytest.raises(ValueError, match=r"\(8, 9\)"):
            images.channels_first(other)


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


@pytest.mark.parametrize("scaling", ["standard", "minmax", "log", "contrast"])
def test_scaled_samples_are_in_the_units_of_the_map(rng, scaling):
    X = rng.gamma(2.0, size=(30, 8, 9, 3)).astype(np.float32)
    det = detector(max_epochs=1, scaling=scaling).fit(X)
    scaled = det.scaled(X)
    assert scaled.shape == (30, 3, 8, 9) and scaled.dtype == np.float32
    if scaling in ("standard", "minmax"):
        channels = np.moveaxis(X, -1, 1)
        mean, spread = channels.mean(axis=(0, 2, 3)), channels.std(axis=(0, 2, 3))
        low, width = channels.min(axis=(0, 2, 3)), np.ptp(channels, axis=(0, 2, 3))
        center, scale = (mean, spread) if scaling == "standard" else (low, width)
        np.testing.assert_allclose(scaled, (channels - center[:, None, None]) / scale[:, None, None], atol=1e-4)
    if scaling != "contrast":  # of which a reconstruction has not quite the units of the sample
        residuals = (scaled - det.scaled(det.reconstruct(X))) ** 2
        np.testing.assert_allclose(np.moveaxis(residuals, 1, -1), det.anomaly_map(X), rtol=1e-2, atol=1e-3)
    with pytest.raises(ValueError, match=r"\(8, 9, 3\)"):
        det.scaled(X[:, :, :8])
