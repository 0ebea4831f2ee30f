"""Images and clips in other units than those of fit give a warning; dark, light and odd ones do not."""

import warnings

import numpy as np
import pytest

from skmemae.video import ClipWindows
from tests.problems import detector

RNG = np.random.default_rng(0)
COLOURS = np.clip(RNG.normal([40, 90, 160], [10, 40, 60], size=(60, 12, 12, 3)), 0, 255).astype(np.uint8)
VIDEO = RNG.integers(0, 255, size=(30, 8, 8), dtype=np.uint8)
SAMPLES = {"colours": COLOURS, "grey": COLOURS[..., 1], "clips": ClipWindows(length=4).fit_transform([VIDEO])}


@pytest.fixture(scope="module")
def of_bytes():
    return detector(max_epochs=1).fit(COLOURS)


@pytest.fixture(scope="module")
def of_floats():
    return detector(max_epochs=1).fit(COLOURS / 255)


def units_warned_of(fitted, X):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        fitted.predict(X)
    assert all(warning.filename == __file__ for warning in warned)
    return [str(warning.message) for warning in warned if "units of those of fit" in str(warning.message)]


@pytest.mark.parametrize("scaling", ["contrast", "log-contrast", "standard"])
@pytest.mark.parametrize("kind", SAMPLES)
def test_bytes_and_floats_do_not_go_together(kind, scaling):
    X = SAMPLES[kind]
    floats = ClipWindows(length=4).fit_transform([VIDEO / 255]) if kind == "clips" else X / 255
    for train, new in ((X, floats), (floats, X)):
        fitted = detector(max_epochs=1, scaling=scaling).fit(train)
        assert len(units_warned_of(fitted, new)) == 1
        assert units_warned_of(fitted, train) == []


def test_the_warning_names_both_ranges(of_bytes):
    (message,) = units_warned_of(of_bytes, COLOURS / 255)
    assert message.startswith("X has values from 0 to 1, but those of the training samples were about 9")
    assert "bytes from 0 to 255 and floats from 0 to 1" in message


def test_a_black_image_among_others_does_not_hide_the_units(of_floats):
    assert len(units_warned_of(of_floats, np.r_[COLOURS[:40], COLOURS[:1] * 0])) == 1


@pytest.mark.parametrize(
    "odd",
    [COLOURS[:1] / 255, COLOURS // 100, COLOURS * 0, COLOURS * 0.1, COLOURS * 0.0 + 1e6, np.r_[COLOURS[:3], COLOURS[:3] * 1e9]],
    ids=["one", "dark bytes", "black", "a tenth of the light", "blank", "some of them"],
)
def test_odd_images_are_no_other_units(of_bytes, odd):
    assert units_warned_of(of_bytes, odd) == []


def test_bright_images_of_blank_ones_are_no_other_units():
    blank = 120 + RNG.normal(scale=0.5, size=(40, 8, 8))
    assert units_warned_of(detector(max_epochs=1).fit(blank), RNG.uniform(0, 255, size=(9, 8, 8))) == []


def test_without_units_of_training_there_is_no_warning(of_bytes):
    assert units_warned_of(detector(max_epochs=1, scaling=None).fit(COLOURS), COLOURS / 255) == []
    rows = COLOURS.reshape(60, -1)[:, :5].astype(float)
    assert units_warned_of(detector(max_epochs=1).fit(rows), rows / 255) == []
    heavy = detector(max_epochs=1, scaling="log").fit(RNG.lognormal(sigma=3, size=(40, 8, 8)))
    assert units_warned_of(heavy, np.full((3, 8, 8), 1e300)) == []
