"""What a fitted detector shows of its model, and how it moves."""

import numpy as np
import pytest

from tests.problems import detector


@pytest.fixture(scope="module")
def fitted():
    return detector(memory_unit="sample").fit(np.random.default_rng(0).normal(size=(300, 6)))


def test_the_memory_is_alive_and_visible(table):
    X, _ = table
    det = detector(memory_unit="sample", max_epochs=30).fit(X)
    assert det.memory_.shape == (4 * 75, 3) and det.memory_usage_.shape == (4 * 75,)
    assert det.zero_row_fraction_ == 0
    assert (det.memory_usage_ > 0).mean() > 0.5 and det.memory_usage_.max() < 0.9
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
    scaled, reconstruction = (
        (values - det._model.scaling.center) / det._model.scaling.scale for values in (X, det.reconstruct(X))
    )
    np.testing.assert_allclose(((scaled - reconstruction) ** 2).sum(axis=1), det.decision_scores_, rtol=1e-3)


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
