"""P-values of the places of images and clips."""

import pickle

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from skmemae import MemAEDetector
from skmemae._model import places
from skmemae._model.places import PlaceCalibration, upper_quantiles
from tests.problems import data, detector


def textures(n, seed, size=16):
    """Images of a pattern with a random contrast, soft blobs and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    blobs = gaussian_filter(rng.normal(size=(n, size, size)), (0, 1.5, 1.5))
    contrast = 1 + 0.2 * rng.normal(size=(n, 1, 1))
    return (np.sin(x / 3) + np.cos(y / 4)) * contrast + 0.5 * blobs + 0.1 * rng.normal(size=(n, size, size))


@pytest.fixture(scope="module")
def fitted():
    """A detector whose map is of reconstruction errors."""
    return detector(max_epochs=15, anomaly_score="smooth-turns", scaling="contrast").fit(textures(400, 0))


@pytest.fixture(scope="module")
def of_patches():
    return detector(max_epochs=2, anomaly_score="smooth-patches").fit(textures(400, 0))


def learned(maps):
    maps = torch.as_tensor(maps, dtype=torch.float32)
    return PlaceCalibration(tuple(maps.shape[1:])).learn_maps(maps.split(7), len(maps))


# P-values of detectors.


def test_of_new_normal_images_as_many_p_values_are_small_as_they_say(fitted):
    p = fitted.p_value_map(textures(300, 1))
    assert p.shape == (300, 16, 16) and p.dtype == np.float32 and p.min() > 0 and p.max() <= 1
    calibration = fitted._model.places
    assert (calibration(torch.zeros(1, 16, 16)) == 1).all()  # no error at all
    for level in (0.5, 0.2, 0.05):
        assert abs((p <= level).mean() - level) < level / 3


def test_a_flaw_has_small_p_values_in_its_place_and_nowhere_else(fitted):
    X = textures(60, 2)
    flawed = X.copy()
    flawed[:, 3:6, 9:12] += 3
    p, far = fitted.p_value_map(flawed), fitted.p_value_map(flawed)[:, 10:]
    assert (p[:, 3:6, 9:12] < 0.001).mean() > 0.95
    assert (far < 0.001).mean() < 0.01 and np.median(far) > 0.3


def test_p_values_of_patches_are_as_small_as_they_say_and_smallest_at_a_flaw(of_patches):
    X = textures(300, 1)
    p = of_patches.p_value_map(X)
    for level in (0.5, 0.2, 0.05):
        assert abs((p <= level).mean() - level) < level / 3
    X[:60, 3:6, 9:12] += 3
    p = of_patches.p_value_map(X[:60])
    assert (p[:, 3:6, 9:12] < 0.02).mean() > 0.95 and p[:, 3:6, 9:12].mean() < p[:, 10:].mean() / 20
    assert (p.reshape(60, -1).argmin(axis=1) // 16 < 10).mean() > 0.95


def test_the_map_of_an_image_does_not_depend_on_the_others(fitted):
    X = textures(40, 3)
    whole = fitted.p_value_map(X)
    for some in ([7], [39, 0, 7]):
        np.testing.assert_allclose(fitted.p_value_map(X[some]), whole[some], rtol=1e-3)


def test_both_conventions_have_the_same_map(fitted):
    X = textures(3, 4)
    expected = fitted.p_value_map(X)
    again = pickle.loads(pickle.dumps(fitted)).set_params(convention="sklearn")
    np.testing.assert_array_equal(again.p_value_map(X), expected)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((8, 9), (8, 9)),
        ((1, 8, 9), (8, 9)),
        ((3, 8, 9), (8, 9)),
        ((8, 9, 3), (8, 9)),
        ((1, 5, 8, 9), (5, 8, 9)),
        ((5, 8, 9, 3), (5, 8, 9)),
    ],
)
@pytest.mark.parametrize("memory", [{}, {"memory_size": 0}])
def test_a_place_is_a_pixel_in_every_layout(rng, shape, found, memory):
    X = rng.random((40, *shape))
    p = detector(max_epochs=1, **memory).fit(X).p_value_map(X[:3])
    assert p.shape == (3, *found) and ((p > 0) & (p <= 1)).all()


def test_flat_rows_have_maps_as_the_network_sees_them(rng):
    X = rng.random((40, 72))
    assert detector(max_epochs=1, sample_shape=(1, 8, 9)).fit(X).p_value_map(X[:2]).shape == (2, 8, 9)


def test_flat_images_and_huge_values_have_p_values(fitted):
    odd = np.stack([np.zeros((16, 16)), np.full((16, 16), 7.0), np.full((16, 16), 1e300), -1e300 * np.eye(16)])
    p = fitted.p_value_map(odd)
    assert ((p > 0) & (p <= 1)).all() and p[3].min() < 0.001


def test_a_map_comes_back_from_a_file_and_a_pickle_to_the_bit(tmp_path):
    clips = data()["clips"]
    det = detector(max_epochs=1).fit(clips)
    det.save(tmp_path / "detector")
    for again in (MemAEDetector.load(tmp_path / "detector"), pickle.loads(pickle.dumps(det))):
        np.testing.assert_array_equal(again.p_value_map(clips), det.p_value_map(clips))
        assert again._model.config["places"]


def test_other_units_give_a_warning(fitted):
    with pytest.warns(UserWarning, match="units of those of fit"):
        fitted.p_value_map(255 * textures(5, 9))


def test_an_update_compares_with_its_own_held_out_images_if_it_has_any(fitted):
    X = textures(200, 5) + 2 * np.eye(16)
    before, updated = fitted.p_value_map(X), pickle.loads(pickle.dumps(fitted)).partial_fit(X)
    new = textures(200, 6) + 2 * np.eye(16)
    assert (before <= 0.05).mean() > 0.08 and abs((updated.p_value_map(new) <= 0.05).mean() - 0.05) < 0.025
    few = pickle.loads(pickle.dumps(fitted)).partial_fit(X[:5])
    assert torch.equal(few._model.places.level, fitted._model.places.level)


def test_what_has_no_places_or_no_held_out_samples_is_named(rng):
    X = rng.random((40, 8, 8))
    with pytest.raises(ValueError, match=r"needs images or clips, .* MemAEDetector was fitted on vectors of shape \(64,\)"):
        detector(max_epochs=1).fit(X.reshape(40, 64)).p_value_map(X.reshape(40, 64))
    with pytest.raises(ValueError, match="needs samples that were held out .* fit with validation_fraction above 0"):
        detector(max_epochs=1, validation_fraction=0).fit(X).p_value_map(X)
    with pytest.raises(ValueError, match="X has 7 features"):
        detector(max_epochs=1).fit(X).p_value_map(X[:, :7])


def test_other_errors_can_be_mapped_by_one_method(monkeypatch):
    X = textures(60, 7)
    model = type(detector(max_epochs=1).fit(X)._model)
    monkeypatch.setattr(model, "place_errors", lambda self, batch: batch.x[:, 0].square())
    det = detector(max_epochs=1, scaling="standard").fit(X)
    bright = textures(1, 8)
    bright[0, 4, 4] = 50
    assert det.p_value_map(bright)[0, 4, 4] < 0.001


# The calibration.


def test_a_p_value_is_the_share_of_held_out_places_with_as_large_a_ratio(rng):
    maps = rng.exponential(size=(25, 6, 7)) * np.linspace(1, 20, 42).reshape(6, 7)
    found = learned(maps)
    smooth = found.smoothed(torch.as_tensor(maps).float()).numpy().astype(float)
    prior = 5 * smooth.mean()
    ratios = smooth / ((smooth.sum(axis=0) - smooth + prior) / (24 + 5))  # each map without its part in the level
    np.testing.assert_allclose(found.level, (smooth.sum(axis=0) + prior) / 30, rtol=1e-5)
    new = rng.exponential(size=(3, 6, 7)) * 30
    values = found.smoothed(torch.as_tensor(new).float()).numpy() / found.level.numpy()
    at_least = (ratios.ravel() >= values[..., None]).sum(axis=-1)
    np.testing.assert_allclose(found(torch.as_tensor(new).float()), (1 + at_least) / (1 + ratios.size), rtol=0.5)


def test_p_values_of_quantiles_are_exact_and_fall_between_them(rng):
    values = rng.normal(size=5000).astype(np.float32)
    quantiles, logarithms = (tensor.numpy() for tensor in upper_quantiles(values))
    assert len(quantiles) == len(logarithms) < 1001
    exact = [(1 + (values >= quantile).sum()) / 5001 for quantile in quantiles]
    np.testing.assert_allclose(np.exp(logarithms), exact, rtol=1e-5)
    assert logarithms[0] == 0 and np.exp(logarithms[-1]) == pytest.approx(1 / 5001)
    assert (np.diff(quantiles) > 0).all() and (np.diff(logarithms) < 0).all()
    assert (values > np.sort(quantiles)[-30]).sum() <= 30  # no value of the tail is left out


def test_p_values_fall_as_errors_grow(rng):
    found = learned(rng.exponential(size=(10, 8, 8)))
    p = torch.stack([found(torch.full((1, 8, 8), float(error))) for error in np.geomspace(1e-9, 1e30, 200)])
    assert (p[1:] <= p[:-1]).all() and p[0].min() == 1 and p[-1].max() == pytest.approx(1 / 641)


def test_levels_of_few_maps_are_near_the_mean(rng):
    maps = rng.exponential(size=(200, 8, 8))
    spread = [np.std(learned(maps[:n]).level.numpy()) for n in (2, 20)]
    assert spread[0] < 0.2 and spread[1] < 0.2
    one = learned(maps[:1])
    assert one.level.isfinite().all() and one(torch.as_tensor(maps[:1]).float()).max() <= 1


def test_maps_without_errors_have_p_values_of_one(rng):
    found = learned(np.zeros((5, 4, 4)))
    assert (found(torch.zeros(1, 4, 4)) == 1).all() and found(torch.ones(1, 4, 4)).max() < 0.02


def test_of_many_places_some_are_kept_evenly(rng, monkeypatch):
    maps = rng.exponential(size=(30, 12, 12))
    expected = learned(maps)
    monkeypatch.setattr(places, "_MOST_VALUES", 30 * 144 // 10)
    found = learned(maps)
    assert torch.equal(found.level, expected.level)
    assert found.log_p_values[-1].exp() == pytest.approx(1 / (1 + 30 * 14), rel=1e-3)  # every tenth place or so
    new = torch.as_tensor(rng.exponential(size=(50, 12, 12))).float()
    assert abs((found(new) <= 0.1).float().mean() - (expected(new) <= 0.1).float().mean()) < 0.03
    columns = places._every(10, 144, 30).flatten() % 144
    assert len(columns.unique()) == 140  # different ones of each map


def test_the_blur_is_a_gaussian_of_the_last_two_axes(rng):
    calibration = PlaceCalibration((3, 64, 70))
    errors = rng.exponential(size=(2, 3, 64, 70))
    expected = gaussian_filter(errors, (0, 0, 2, 2), mode="nearest", truncate=3)
    np.testing.assert_allclose(calibration.smoothed(torch.as_tensor(errors).float()), expected, rtol=1e-4)
