"""Smallest inputs of faults that were found from outside, each kind with its siblings."""

import importlib
import pkgutil

import numpy as np
import pytest
import torch
from skmemae._data.repeats import thin_repeats
from torch import nn

from skmemae import MemAEDetector
from skmemae.video import ClipWindows, OnlineNormality
from tests.problems import data, detector

# Finite input, NaN score, "inlier".


@pytest.mark.parametrize("scaling", ["auto", "contrast", "standard", "minmax", "log", None])
@pytest.mark.parametrize("name", ["table", "images", "clips"])
def test_a_far_value_has_a_finite_score_and_is_an_outlier(name, scaling):
    X = data()[name].astype(np.float64)
    det = detector(scaling=scaling).fit(X)
    scores = []
    for far in (1e4, 1e20, -1e155, 1e300):
        odd = X[:1].copy()
        odd.flat[2] = far
        scores.append(det.decision_function(odd)[0])
        assert np.isfinite(scores[-1]) and det.predict(odd) == 1, far
        assert np.isfinite(det.reconstruct(odd)).all() and np.isfinite(det.anomaly_map(odd)).all()
    assert scores[0] < scores[1] and scores[1] <= scores[3] * 1.001


@pytest.mark.parametrize("name", ["images", "clips"])
def test_a_sample_in_another_world_of_light_is_an_outlier(name):
    X = data()[name].astype(np.float64)
    det = detector().fit(X)
    assert (det.predict(np.concatenate([X[:1] * 1e20, X[:1] + 1e30, X[:1] * -1e300])) == 1).all()


def test_no_data_in_float32_is_an_outlier():
    X = np.random.default_rng(0).normal(scale=0.1, size=(400, 4)).astype(np.float32)
    odd = X[:1].copy()
    odd[0, 2] = np.finfo(np.float32).min
    det = detector(max_epochs=20).fit(X)
    assert np.isfinite(det.decision_function(odd)).all() and det.predict(odd) == 1


def test_a_module_that_overflows_still_scores_finitely():
    class Steep(nn.Module):
        def forward(self, x):
            return torch.exp(x.clamp(max=200))

    def backbone(shape):
        return nn.Sequential(nn.Linear(shape[0], 2), nn.Tanh()), nn.Sequential(nn.Linear(2, shape[0]))

    def overflowing(shape):
        return nn.Sequential(Steep(), nn.Linear(shape[0], 2), nn.Tanh()), nn.Linear(2, shape[0])

    X = data()["table"]
    for make in (backbone, overflowing):
        det = detector(backbone=make, scaling=None).fit(X)
        assert np.isfinite(det.decision_function(X[:1] * 1e5)).all()


# Equal rows by a sum.


@pytest.mark.parametrize("base", [1.7e15, 1e12])
def test_distinct_rows_are_not_repeats_whatever_stands_beside_them(base):
    X = np.column_stack([np.random.default_rng(0).normal(size=(20_000, 2)), np.full(20_000, base)])
    assert thin_repeats(X) is None
    days = (1.7e18 + np.arange(20_000) * 86_400e9)[:, None]
    assert thin_repeats(days) is None and thin_repeats(days.astype(np.int64)) is None


def test_signs_and_places_tell_rows_apart():
    X = np.repeat([[1.0, 2.0], [-1.0, -2.0], [2.0, 1.0], [1.0, 2.0 + 2**-51]], 100, axis=0)
    assert thin_repeats(X) is None  # four kinds of rows would leave 40, too few to train on
    X = np.tile(np.random.default_rng(0).normal(size=(100, 2)), (9, 1))
    assert np.count_nonzero(thin_repeats(np.concatenate([X, -X, X[:, ::-1]]))) == 3 * 300


def test_repeats_can_be_kept():
    X = np.tile(np.random.default_rng(0).normal(size=(110, 3)), (4, 1))
    thinned, kept = (detector(thin_repeats=thin, ensemble_size=1).fit(X) for thin in (True, False))
    assert thinned.resolved_params_["batch_size"] == kept.resolved_params_["batch_size"]
    assert not np.array_equal(thinned.decision_scores_, kept.decision_scores_)


# Thresholder objects.


def pythresh_classes():
    import pythresh.thresholds as package

    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        try:
            members = vars(importlib.import_module(f"pythresh.thresholds.{module}"))
        except ImportError:  # needs a package of its own
            continue
        found = [value for name, value in members.items() if name.lower() == module and isinstance(value, type)]
        if found and module not in (
            "all",
            "base",
            "gamgmm",
            "meta",
            "mixmod",
            "vae",
        ):  # some take minutes, meta downloads a model
            yield found[0]


@pytest.mark.filterwarnings("ignore")
def test_pythresh_sets_threshold_labels_and_decisions_that_agree():
    pytest.importorskip("pythresh")
    X = np.random.default_rng(0).normal(size=(300, 6))
    X[:12] *= 4
    det = detector(max_epochs=10).fit(X)
    tried = 0
    for thresholder in pythresh_classes():
        expected = thresholder().fit(det.decision_scores_.copy()).labels_
        det.set_threshold(thresholder())
        np.testing.assert_array_equal(det.labels_, expected, err_msg=thresholder.__name__)
        assert det.offset_ == -det.threshold_
        for convention, outlier in (("pyod", 1), ("sklearn", -1)):
            det.set_params(convention=convention)
            decision = det.decision_function(X)
            np.testing.assert_array_equal(det.predict(X) == outlier, det.labels_ == 1)
            np.testing.assert_array_equal(decision < 0 if outlier == -1 else decision > det.threshold_, det.labels_ == 1)
        tried += 1
    assert tried >= 10


# Ties.


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


# Precision of X.


@pytest.mark.parametrize("offset", [0, 1e3, 1e6, 1e9])
def test_equal_numbers_score_alike_in_any_dtype(offset):
    spread = max(1.0, offset / 2**20)  # that float32 tells values apart
    X = (np.random.default_rng(0).normal(size=(200, 8)) * spread * 10 + offset).astype(np.float32)
    X = np.round(X).astype(np.float32)
    det = detector().fit(X.astype(np.float64))
    for dtype in (np.float32, np.int64):
        np.testing.assert_allclose(det.decision_function(X.astype(dtype)), det.decision_scores_, rtol=1e-5)
        np.testing.assert_allclose(detector().fit(X.astype(dtype)).decision_scores_, det.decision_scores_, rtol=1e-5)


@pytest.mark.parametrize("shape", [(40, 10, 10), (12, 1, 4, 8, 8)])
def test_bytes_score_as_floats(shape):
    X = np.random.default_rng(0).integers(198, 203, size=shape).astype(np.uint8)
    det = detector().fit(X)
    np.testing.assert_allclose(det.decision_function(X.astype(np.float64)), det.decision_scores_, rtol=1e-5)


# Training that goes wrong.


@pytest.mark.parametrize("items, learning_rate", [("learned", 10), ("learned", 1000), ("learned", 1e30), ("rows", 1e30)])
def test_training_that_diverges_is_an_error_that_names_the_learning_rate(items, learning_rate):
    det = MemAEDetector(memory_items=items, learning_rate=learning_rate, max_epochs=30, random_state=0)
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


# State that changes only as a whole.


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


def test_live_scores_survive_a_reused_buffer_and_a_bad_frame():
    video = np.random.default_rng(0).random((30, 12, 12))
    windows = ClipWindows(length=4)
    det = detector(max_epochs=1).fit(windows.fit_transform([video]))
    expected, online = (OnlineNormality(det, windows) for _ in range(2))
    buffer = np.empty_like(video[0])
    for i, frame in enumerate(video):
        buffer[:] = frame
        np.testing.assert_equal(online.push(buffer), expected.push(frame))
        if i == 10:
            with pytest.raises(ValueError, match="finite"):
                online.push(np.full_like(frame, np.nan))
    assert np.isfinite(online.push(np.full_like(video[0], 1e30)))


# Time and memory within bounds.


def test_a_ninth_wide_row_costs_little_more_than_eight():
    wide = detector(ensemble_size=1, max_epochs=1).fit(np.random.default_rng(0).normal(size=(20, 20_000)))
    assert wide._model._height(8) == 8 and wide._model._height(9) <= 32 and wide._model._height(1000) * 20_000 <= 2**20


def test_memory_items_are_decoded_in_parts(monkeypatch):
    det = detector(max_epochs=1).fit(data()["clips"])
    whole = det.decode_memory()
    monkeypatch.setattr("skmemae._model._DECODED_NUMBERS", 3 * 4 * 8 * 8)
    np.testing.assert_allclose(det.decode_memory(), whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(det.decode_memory([5, 2]), whole[[5, 2]], rtol=1e-4, atol=1e-5)
