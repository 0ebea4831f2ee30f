"""Pictures of p-values of places: images, maps with one colour scale, and outlines."""

import warnings

import matplotlib
import numpy as np
import pytest
from problems import detector
from sklearn.exceptions import NotFittedError

from skmemae.display import PValueMapDisplay

pytestmark = pytest.mark.usefixtures("figures")


@pytest.fixture
def p_values(rng):
    """Maps of two images of 8 by 9 pixels, with one block below 0.001 in the first."""
    p = rng.uniform(0.01, 1, size=(2, 8, 9))
    p[0, 2:4, 5:9] = 1e-5
    return p


def drawn(ax):
    return np.asarray(ax.get_images()[0].get_array())


def outlines(ax):
    """Edges of pixels that are drawn, as a set of pairs of points."""
    collection = ax.collections[-1]
    return {tuple(map(tuple, segment)) for segment in collection.get_segments()}


@pytest.mark.parametrize("shape", [(40, 8, 9), (40, 1, 8, 9), (40, 8, 9, 3), (40, 3, 8, 9), (20, 1, 5, 8, 9), (20, 5, 8, 9, 3)])
def test_images_and_clips_can_be_shown(rng, shape):
    X = rng.uniform(size=shape)
    det = detector(max_epochs=1).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        display = PValueMapDisplay.from_estimator(det, X, n_samples=3).plot()
        display.figure_.canvas.draw()
    assert display.samples.shape[:3] == display.p_values.shape == (3, 8, 9) and display.axes_.shape == (3, 3)
    assert display.figure_.get_suptitle() == f"The first 3 of {len(X)} samples"
    if len(shape) < 5:
        np.testing.assert_array_equal(display.p_values, det.p_value_map(X[:3]))


def test_of_a_clip_the_frame_with_the_smallest_p_values_is_shown(rng):
    X = rng.uniform(size=(40, 1, 5, 8, 9))
    det = detector(max_epochs=1).fit(X)
    X[0, 0, 4, 2:5, 2:5], X[1, 0, 1, 2:5, 2:5] = 5, 5
    display = PValueMapDisplay.from_estimator(det, X[:2])
    np.testing.assert_array_equal(display.samples, [X[0, 0, 4], X[1, 0, 1]])
    np.testing.assert_array_equal(display.p_values[1], det.p_value_map(X[:2])[1, 1])


def test_maps_share_their_colours_and_the_level_is_on_the_bar(rng, p_values):
    X = rng.uniform(size=(2, 8, 9))
    display = PValueMapDisplay(X, p_values).plot()
    np.testing.assert_array_equal(drawn(display.axes_[1, 0]), X[1])
    np.testing.assert_allclose(drawn(display.axes_[1, 1]), -np.log10(p_values[1]))
    assert {ax.get_images()[0].get_clim() for ax in display.axes_[:, 1]} == {(0, 5)}
    bar = display.figure_.axes[-1]
    assert "p-value" in bar.get_ylabel() and bar.get_lines()[-1].get_ydata()[0] == pytest.approx(3)
    assert [ax.get_title() for ax in display.axes_[0]] == ["sample", "p-value", "p < 0.001"]
    assert not display.figure_.get_suptitle()
    assert display.plot(limit=1e-7).axes_[0, 1].get_images()[0].get_clim() == pytest.approx((0, 7))
    assert PValueMapDisplay(X, np.ones((2, 8, 9))).plot().axes_[0, 1].get_images()[0].get_clim() == pytest.approx((0, 3))


def test_outlines_run_around_the_pixels_below_the_level(rng, p_values):
    axes = PValueMapDisplay(rng.uniform(size=(2, 8, 9)), p_values).plot().axes_
    edges = {((x - 0.5, y), (x + 0.5, y)) for x in range(5, 9) for y in (1.5, 3.5)}
    edges |= {((x, y - 0.5), (x, y + 0.5)) for y in (2, 3) for x in (4.5, 8.5)}
    assert outlines(axes[0, 2]) == edges and outlines(axes[1, 2]) == set()
    assert axes[0, 2].get_xlim() == (-0.5, 8.5) and axes[0, 2].get_ylim() == (7.5, -0.5)
    one = np.ones((1, 1, 1)) * 1e-4
    assert len(outlines(PValueMapDisplay(one, one).plot().axes_[0, 2])) == 4


def test_colours_of_bytes_and_a_figure_of_the_caller_are_taken(rng, p_values):
    colours = rng.integers(0, 256, size=(2, 8, 9, 3))
    figure = matplotlib.pyplot.figure()
    display = PValueMapDisplay(colours, p_values).plot(figure)
    assert display.figure_ is figure
    np.testing.assert_allclose(drawn(display.axes_[1, 2]), colours[1] / 255)


def test_what_cannot_be_drawn_is_named(rng, p_values):
    X = rng.uniform(size=(2, 8, 9))
    with pytest.raises(ValueError, match="'samples' parameter of PValueMapDisplay must be images"):
        PValueMapDisplay(X[0], X[0])
    with pytest.raises(ValueError, match="'p_values' parameter of PValueMapDisplay must fit 'samples'"):
        PValueMapDisplay(X, p_values[:1])
    for bad in (0 * p_values, 2 + p_values, np.nan * p_values):
        with pytest.raises(ValueError, match=r"'p_values' parameter of PValueMapDisplay must be in the range \(0.0, 1.0\]"):
            PValueMapDisplay(X, bad)
    for level in (0, 1, True, np.nan, "low"):
        with pytest.raises(ValueError, match="'level' parameter of PValueMapDisplay must be a float"):
            PValueMapDisplay(X, p_values, level=level)
    with pytest.raises(ValueError, match=r"'limit' parameter of PValueMapDisplay.plot .* Got 2"):
        PValueMapDisplay(X, p_values).plot(limit=2)


def test_detectors_without_p_values_of_places_are_named(rng):
    X = rng.normal(size=(40, 3))
    with pytest.raises(ValueError, match="needs images or clips"):
        PValueMapDisplay.from_estimator(detector(max_epochs=1).fit(X), X)
    with pytest.raises(ValueError, match="'n_samples' parameter of PValueMapDisplay.from_estimator"):
        PValueMapDisplay.from_estimator(detector(), X, n_samples=0)
    with pytest.raises(NotFittedError):
        PValueMapDisplay.from_estimator(detector(), X)
