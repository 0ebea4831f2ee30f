"""Local features: flaws of a few pixels, and images of all sizes and kinds."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from skmemae.network import PatchFeatures

GREY, COLOURS, WIDE, LARGE, SMALL = (1, 64, 64), (3, 64, 64), (3, 96, 140), (1, 600, 600), (1, 20, 28)


def weaves(n, shape, seed=0):
    """Images of a woven surface: (n, C, H, W)."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    across, down = rng.uniform(0, 2 * np.pi, size=(2, n, 1, 1, 1))
    weave = np.sin(np.arange(width) / 1.5 + across) * np.sin(np.arange(height)[:, None] / 1.5 + down)
    noise = ndimage.gaussian_filter(rng.normal(size=(n, channels, height, width)), (0, 0, 1, 1))
    return torch.from_numpy(weave + noise).float()


def flawed(images):
    """Images with a small bright square, and the row and the column of its centre."""
    side = max(4, min(images.shape[2:]) // 25)
    row, column = images.shape[2] // 3, images.shape[3] // 2
    wrong = images.clone()
    wrong[:, :, row : row + side, column : column + side] += 3
    return wrong, (row + side / 2, column + side / 2)


def learned(images, size=None):
    features = PatchFeatures(images.shape[1:]).eval()
    features.learn(lambda: images.split(size or features.batch_size), torch.Generator().manual_seed(0))
    return features


@pytest.fixture(scope="module")
def grey():
    images = weaves(30, GREY)
    return learned(images), images


@pytest.mark.parametrize("shape, n", [(GREY, 30), (COLOURS, 30), (WIDE, 15), (LARGE, 5), (SMALL, 30)], ids=str)
def test_a_flaw_of_a_few_pixels_has_the_largest_score_and_the_largest_place(shape, n):
    images, new = weaves(n, shape), weaves(3, shape, seed=1)
    features = learned(images)
    wrong, centre = flawed(new)
    assert features(wrong).min() > 3 * max(features(new).max(), features(images).max())
    places = features.places(wrong)
    assert places.shape == (3, *shape[1:]) and (places > 0).all()
    for place in places:
        worst = np.unravel_index(int(place.argmax()), place.shape)
        assert np.abs(np.subtract(worst, centre)).max() <= min(shape[1:]) / 10


def test_scores_of_training_images_have_mean_0_and_deviation_1_in_logarithms(grey):
    features, images = grey
    logarithms = features(images).log()
    assert abs(logarithms.mean()) < 1e-3 and abs(logarithms.std(correction=0) - 1) < 1e-3


def test_an_empty_network_of_the_same_sizes_loads_the_state(grey):
    features, images = grey
    again = PatchFeatures(GREY).eval()
    again.load_state_dict(features.state_dict())
    assert torch.equal(again(images), features(images)) and torch.equal(again.places(images), features.places(images))
    with pytest.raises(RuntimeError, match="size mismatch"):
        PatchFeatures(COLOURS).load_state_dict(features.state_dict())
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_one_image_at_a_time_gives_the_same(grey):
    features, images = grey
    alone = torch.cat([features(image) for image in images[:5].split(1)])
    torch.testing.assert_close(alone, features(images)[:5], rtol=1e-4, atol=1e-5)
    images = images[:10]
    torch.testing.assert_close(learned(images, 10)(images), learned(images, 5)(images), rtol=0.5, atol=0.1)  # other patches


def test_one_seed_gives_the_same_bits(grey):
    features, images = grey
    assert torch.equal(learned(images)(images), features(images))


@pytest.mark.parametrize("images", [weaves(2, GREY), weaves(1, SMALL), torch.zeros(3, *GREY), torch.full((2, 3, 20, 20), 7.0)])
def test_few_and_constant_images_can_be_learned_from(images):
    features = learned(images)
    for x in (images, images + 5, 0 * images, flawed(images)[0]):
        assert torch.isfinite(features(x)).all() and torch.isfinite(features.places(x)).all()
        excess = features.excess(x)
        assert torch.isfinite(excess).all() and (excess >= 0).all() and (excess.flatten(1).sum(dim=1) > 0).all()


def test_huge_values_are_finite_and_stay_in_their_order(grey):
    features, images = grey
    wrong = images[:1].repeat(5, 1, 1, 1)
    wrong[:, :, 30:34, 40:44] += torch.tensor([0, 1, 3, 10, 1e9]).view(5, 1, 1, 1)
    scores = features(wrong)
    assert torch.isfinite(scores).all() and (scores.diff() > 0).all()
    for x in (1e9 * images, -1e9 * images, 0 * images + 1e9):
        assert torch.isfinite(features(x)).all() and torch.isfinite(features.places(x)).all()


def test_the_contrast_of_an_image_as_a_whole_matters_little(grey):
    features, images = grey
    new = weaves(20, GREY, seed=2)
    both = torch.stack([features(new), features(0.7 * new + 2)]).log()
    assert np.corrcoef(both)[0, 1] > 0.99


def test_excess_is_that_of_the_worst_places(grey):
    features, images = grey
    wrong, (row, column) = flawed(images[:3])
    excess = features.excess(wrong)
    near = excess[:, int(row) - 5 : int(row) + 6, int(column) - 5 : int(column) + 6]
    assert (near.sum(dim=(1, 2)) > 0.5 * excess.sum(dim=(1, 2))).all()
