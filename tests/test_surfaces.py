"""Images of surfaces and of objects are told apart."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.datasets import load_digits
from torch import nn

from skmemae._data.layout import choose_layout
from skmemae._data.surfaces import shows_surface, variation

SIDE = 128
RNG = np.random.default_rng(0)
PLACES = np.arange(SIDE)
NOISE = RNG.normal(size=(30, SIDE, SIDE))
ACROSS, DOWN = RNG.uniform(0, 2 * np.pi, size=(2, 30, 1, 1))
DIGITS = load_digits()
SURFACES = {
    **{f"noise of grain {grain}": ndimage.gaussian_filter(NOISE, (0, grain, grain)) for grain in (0.5, 1, 2, 4)},
    "stripes": np.sin(PLACES / 2.5 + ACROSS) + 0.1 * NOISE,
    "weave": np.sin(PLACES / 1.3 + ACROSS) * np.sin(PLACES[:, None] / 1.3 + DOWN) + 0.1 * NOISE,
    "dots": ndimage.gaussian_filter((NOISE > 2.3).astype(float), (0, 2, 2)),
    "a part in its place": (np.hypot(PLACES - 64, PLACES[:, None] - 64) < 40) + 0.1 * NOISE,
}
# Round zeros and sixes of 8 x 8 pixels are so alike that they pass for parts in their place.
OBJECTS = {f"digits {digit}": DIGITS.images[DIGITS.target == digit] for digit in (1, 2, 3, 4, 5, 7, 8, 9)}
OBJECTS["all digits"] = DIGITS.images


def resized(X, side):
    """Images of another size, by averages of pixels or by interpolation."""
    mode = "area" if side < X.shape[-1] else "bilinear"
    return nn.functional.interpolate(torch.from_numpy(X)[:, None], size=(side, side), mode=mode)[:, 0].numpy()


def is_surface(X):
    return shows_surface(X, choose_layout(X.shape[1:]))


@pytest.mark.parametrize("side", [16, 32, 64, 128])
@pytest.mark.parametrize("name", SURFACES)
def test_surfaces_of_all_sizes(name, side):
    assert is_surface(resized(SURFACES[name], side))


@pytest.mark.parametrize("side", [16, 32, 64, 128])
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_of_all_sizes(name, side):
    assert not is_surface(resized(OBJECTS[name][:100], side))


@pytest.mark.parametrize("name, expected", [("noise of grain 2", True), ("digits 3", False)])
def test_numbers_of_any_kind(name, expected):
    X = resized({**SURFACES, **OBJECTS}[name][:60], 32)
    X = (X - X.min()) / (X.max() - X.min())
    kinds = {
        "bytes": (255 * X).astype(np.uint8),
        "16 bits": (65535 * X).astype(np.uint16),
        "float32": X.astype(np.float32),
        "negative": X - 3,
        "tiny": 1e-300 * X,
        "huge": 1e300 * (X - 0.5),
        "colours last": np.stack([X, X / 2, 1 - X], axis=-1),
        "colours first": np.stack([X, X / 2, 1 - X], axis=1),
        "wide": np.concatenate([X, X[:, :, ::-1]], axis=2),
    }
    assert {kind: is_surface(Y) for kind, Y in kinds.items()} == dict.fromkeys(kinds, expected)
    wild = X.copy()
    wild[0, 5, 5] = 1e30
    assert is_surface(wild) == expected


def test_constant_images_have_no_variation():
    assert variation(torch.full((20, 1, 32, 32), 3.0, dtype=torch.float64)) == 0
    blank = RNG.uniform(size=(20, 1, 1, 1)) * np.ones((20, 1, 32, 32))
    assert variation(torch.from_numpy(blank)) < 1e-5


def test_few_or_small_images_tables_and_clips_are_no_surfaces():
    X = resized(SURFACES["weave"], 32)
    assert is_surface(X[:10]) and not is_surface(X[:9]) and not is_surface(resized(X, 15))
    assert not is_surface(NOISE[:, 0]) and not is_surface(NOISE[:, :64, :64].reshape(30, 1, 4, 32, 32))


def test_images_among_many_are_looked_at():
    X = np.concatenate([resized(SURFACES["weave"], 32)] * 20)
    assert is_surface(X) and np.array_equal(X[:30], resized(SURFACES["weave"], 32))
