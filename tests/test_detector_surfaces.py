"""Detectors of surfaces: defaults, flaws, files, updates and explanations."""

import pickle

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector
from tests.problems import detector

SIDE = 48
FLAW = slice(20, 23), slice(30, 34)
PATCHES = {"anomaly_score": "smooth-patches", "max_epochs": 2}


def weaves(n, seed=0, channels=None):
    """Images of a woven surface in light that varies, bytes."""
    rng = np.random.default_rng(seed)
    across, down = rng.uniform(0, 2 * np.pi, size=(2, n, 1, 1))
    weave = np.sin(np.arange(SIDE) / 1.5 + across) * np.sin(np.arange(SIDE)[:, None] / 1.5 + down)
    noise = ndimage.gaussian_filter(rng.normal(size=(n, SIDE, SIDE)), (0, 1, 1))
    images = (rng.uniform(0.6, 1.2, size=(n, 1, 1)) * (110 + 30 * weave + 40 * noise)).clip(0, 255).astype(np.uint8)
    return images if channels is None else np.stack([images // (1 + i) for i in range(channels)], axis=-1)


def flawed(X):
    wrong = X.copy()
    wrong[:, *FLAW] //= 3
    return wrong


GOOD, BAD = weaves(30, 1), flawed(weaves(30, 2))


def roc_auc(fitted):
    return roc_auc_score(np.repeat([0, 1], [len(GOOD), len(BAD)]), fitted.decision_function(np.concatenate([GOOD, BAD])))


@pytest.fixture(scope="module")
def fitted():
    return MemAEDetector(random_state=0, max_epochs=4).fit(weaves(200))


def test_the_defaults_of_surfaces_find_small_flaws_that_errors_and_turns_do_not(fitted):
    params = fitted.resolved_params_
    assert (params["anomaly_score"], params["scaling"]) == ("smooth-patches", "log-contrast")
    assert roc_auc(fitted) > 0.95
    assert fitted.predict(BAD).mean() > 0.9 and fitted.predict(GOOD).mean() < 0.25
    for other in ("smooth", "smooth-turns"):
        assert roc_auc(detector(anomaly_score=other, max_epochs=4).fit(weaves(80))) < 0.9


def test_flaws_in_a_tenth_of_the_training_images_are_found_all_the_same():
    X = np.concatenate([weaves(72), flawed(weaves(8, 3))])
    for number, image in enumerate(X[72:]):
        image[:] = np.roll(image, (5 * number, -11 * number), axis=(0, 1))  # anywhere
    assert roc_auc(detector(max_epochs=2).fit(X)) > 0.9


def test_shares_and_regions_show_the_flaw(fitted):
    explanation = fitted.explain(BAD[:10])
    assert (explanation.shares >= 0).all()
    np.testing.assert_allclose(explanation.shares.sum(axis=(1, 2)), explanation.scores, rtol=1e-9)
    np.testing.assert_array_equal(explanation.scores, fitted.decision_function(BAD[:10]))
    boxes = np.array([[side.start, side.stop] for side in FLAW])
    np.testing.assert_allclose(np.median(explanation.regions, axis=0), boxes, atol=4)
    p = fitted.p_value_map(BAD)
    assert np.median(p[:, *FLAW]) < 0.01 and np.median(p) > 0.2


def test_shares_of_colours_and_of_blank_images_add_up():
    X = weaves(20, channels=3)
    explanation = detector(**PATCHES).fit(X).explain(np.concatenate([flawed(X[:2]), 0 * X[:2], 255 + 0 * X[:1]]))
    assert (explanation.shares >= 0).all()
    np.testing.assert_allclose(explanation.shares.sum(axis=(1, 2, 3)), explanation.scores, rtol=1e-9)


@pytest.mark.parametrize("channels", [None, 3])
def test_files_and_pickles_give_the_same_bits(channels, tmp_path):
    X = weaves(20, channels=channels)
    fitted = detector(**PATCHES).fit(X)
    fitted.save(tmp_path / "detector.safetensors")
    for again in (MemAEDetector.load(tmp_path / "detector.safetensors"), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(again.decision_function(flawed(X)), fitted.decision_function(flawed(X)))
        np.testing.assert_array_equal(again.p_value_map(X[:3]), fitted.p_value_map(X[:3]))
    again = detector(**PATCHES).fit(X)
    np.testing.assert_array_equal(again.decision_scores_, fitted.decision_scores_)


def test_an_update_keeps_the_patches_and_moves_the_threshold():
    fitted = detector(max_epochs=2).fit(weaves(60))
    features = fitted._model.features
    fitted.partial_fit(weaves(20, 4))
    for before, after in zip(features.state_dict().values(), fitted._model.features.state_dict().values(), strict=True):
        assert np.array_equal(before, after)
    assert roc_auc(fitted) > 0.9


def test_bytes_and_floats_have_equal_scores():
    bytes_, floats = (detector(max_epochs=2).fit(weaves(30) / unit) for unit in (1, 255))
    np.testing.assert_allclose(bytes_.decision_function(BAD), floats.decision_function(BAD / 255), rtol=1e-2)


def test_large_images_of_colours_are_fitted_in_few_steps():
    X = np.random.default_rng(0).integers(0, 256, size=(6, 300, 300, 3)).astype(np.uint8)
    fitted = detector(**PATCHES).fit(X)
    assert fitted._model.networks.config["pixel_size"] == 5
    assert fitted.reconstruct(X[:1]).shape == (1, 300, 300, 3)
    assert np.isfinite(fitted.decision_scores_).all()
    wrong = X[:2].copy()
    wrong[:, 100:120, 100:120] = np.where(np.indices((20, 20)).sum(axis=0)[..., None] % 10 < 5, 0, 255)
    assert (fitted.decision_function(wrong) > fitted.decision_function(X[:2])).all()
