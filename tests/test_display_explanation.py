"""Explanations are drawn as bars that sum to the score, and as maps with the region boxed."""

import warnings
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.colors import to_rgb
from problems import detector

from skmemae.display import ExplanationDisplay


@dataclass
class Explained:
    """The attributes of an explanation that are drawn."""

    scores: Any
    shares: Any
    values: Any
    expected: Any
    regions: Any = None
    feature_names: Any = None
    index: Any = None


ROWS = Explained(
    scores=np.array([6.0, 1.0]),
    shares=np.array([[1.0, 3.0, 0.0, 2.0], [0.25, 0.25, 0.5, 0.0]]),
    values=np.array([[1.5, 20000.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]),
    expected=np.array([[1.0, 10000.0, 3.0, 0.123456], [5.0, 6.0, 9.0, 8.0]]),
    feature_names=np.array(["a", "b", "c", "d"]),
)
IMAGES = Explained(
    scores=np.array([2.0, 3.0]),
    shares=np.random.default_rng(0).uniform(size=(2, 6, 8)),
    values=np.random.default_rng(1).uniform(size=(2, 6, 8)),
    expected=np.zeros((2, 6, 8)),
    regions=np.array([[[1, 3], [2, 6]], [[0, 6], [0, 8]]]),
)

pytestmark = pytest.mark.usefixtures("figures")


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def widths(ax):
    return [bar.get_width() for bar in ax.patches]


def test_the_largest_shares_are_bars_and_the_rest_is_one_bar():
    first, second = ExplanationDisplay(ROWS, n_features=2).plot().axes_[0]
    assert labels(first) == ["b = 2e+04 (expected 1e+04)", "d = 4 (expected 0.1235)", "2 others"]
    assert widths(first) == [3, 2, 1]
    assert labels(second)[0] == "c = 7 (expected 9)"
    assert sum(widths(second)) == ROWS.scores[1]
    assert [first.get_title(), second.get_title()] == ["0: score 6", "1: score 1"]
    assert first.yaxis_inverted()  # the largest on top


def test_few_features_are_all_drawn():
    ax = ExplanationDisplay(ROWS).plot().axes_[0, 0]
    assert len(widths(ax)) == 4
    assert ExplanationDisplay(ROWS).plot(n_columns=1).axes_.shape == (2, 1)


def test_the_map_is_laid_over_the_image_and_the_region_is_boxed():
    axes = ExplanationDisplay(IMAGES).plot().axes_
    image, overlay = axes[1, 0].get_images()
    np.testing.assert_array_equal(image.get_array(), IMAGES.values[0])
    np.testing.assert_allclose(overlay.get_array(), 100 * IMAGES.shares[0] / IMAGES.scores[0])
    (box,) = axes[1, 0].patches
    assert (box.get_y(), box.get_x(), box.get_height(), box.get_width()) == (0.5, 1.5, 2, 4)
    assert axes[0, 1].get_title() == "1: score 3"


def test_of_a_clip_the_frame_of_its_region_is_shown(rng):
    shares = np.zeros((1, 5, 6, 8))
    shares[0, 4], shares[0, 2, 1:3, 2:6] = 0.5, 1.0  # frame 4 has more in all, but the region is in frame 2
    clips = Explained(np.ones(1), shares, rng.uniform(size=shares.shape), shares, np.array([[[2, 3], [1, 3], [2, 6]]]))
    axes = ExplanationDisplay(clips).plot().axes_
    np.testing.assert_array_equal(axes[0, 0].get_images()[0].get_array(), clips.values[0, 2])


def test_rows_of_a_frame_keep_their_names(rng):
    X = pd.DataFrame(rng.normal(size=(100, 3)), columns=["a", "b", "c"], index=np.arange(100) + 1000)
    det = detector().fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        display = ExplanationDisplay.from_estimator(det, X.iloc[:2], n_features=1).plot()
    scores = -det.score_samples(X.iloc[:2])
    assert [ax.get_title() for ax in display.axes_[0]] == [f"100{i}: score {scores[i]:.3g}" for i in range(2)]
    np.testing.assert_allclose([sum(widths(ax)) for ax in display.axes_[0]], scores, rtol=1e-4)
    assert labels(display.axes_[0, 0])[0].split(" = ")[0] in "abc"


@pytest.mark.parametrize("shape", [(40, 8, 9), (40, 3, 8, 9), (40, 8, 9, 3), (20, 1, 5, 8, 9), (60, 8, 2)])
def test_explanations_of_all_kinds_of_samples_are_drawn(rng, shape):
    X = rng.uniform(size=shape)
    display = ExplanationDisplay.from_estimator(detector(max_epochs=1).fit(X), X[:3]).plot()
    drawn = [ax for ax in display.axes_.flat if ax.axison]
    assert len(drawn) == (3 if len(shape) == 3 and shape[2] == 2 else 6)


@pytest.mark.parametrize("explanation", [ROWS, IMAGES], ids=["rows", "images"])
def test_the_first_samples_are_drawn_and_the_title_says_so(explanation):
    display = ExplanationDisplay(explanation, n_samples=1).plot()
    assert [ax.get_title() for ax in display.axes_.flat if ax.get_title()] == [f"0: score {explanation.scores[0]:.3g}"]
    assert display.figure_.get_suptitle() == "The first 1 of 2 samples"
    assert ExplanationDisplay(explanation).plot().figure_.get_suptitle() == ""


@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist, pd.DataFrame, pl.DataFrame])
def test_of_thousands_of_rows_the_first_are_explained(rng, kind):
    X = rng.normal(size=(3000, 3))
    display = ExplanationDisplay.from_estimator(detector(max_epochs=1).fit(X[:100]), kind(X), n_samples=3).plot()
    assert len(display.explanation.scores) == 3 and np.array_equal(display.explanation.values, X[:3])
    assert display.figure_.get_suptitle() == "The first 3 of 3000 samples"


def test_bad_explanations_are_named(rng):
    with pytest.raises(ValueError, match="'n_features' parameter of ExplanationDisplay must be a positive int. Got 0"):
        ExplanationDisplay(ROWS, n_features=0)
    with pytest.raises(ValueError, match="'n_samples' parameter of ExplanationDisplay must be a positive int. Got 0"):
        ExplanationDisplay(ROWS, n_samples=0)
    channels_first = Explained(np.ones(1), np.ones((1, 3, 6, 8)), np.ones((1, 3, 6, 8)), None, IMAGES.regions[:1])
    with pytest.raises(ValueError, match=r"'explanation' parameter .* \(1, 3, 6, 8\).* from_estimator"):
        ExplanationDisplay(channels_first)
    with pytest.raises(ValueError, match="'n_columns' parameter of ExplanationDisplay.plot"):
        ExplanationDisplay(ROWS).plot(n_columns=0)


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("explanation", [ROWS, IMAGES], ids=["rows", "images"])
def test_texts_and_bars_stand_out_from_the_page(explanation, style):
    with matplotlib.pyplot.style.context(style):
        figure = ExplanationDisplay(explanation, n_features=2).plot().figure_
        figure.draw_without_rendering()
        page = to_rgb(figure.get_facecolor())
        colours = [text.get_color() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        colours += [
            patch.get_edgecolor() if explanation is IMAGES else patch.get_facecolor() for patch in figure.axes[0].patches
        ]
    for colour in colours:
        assert np.abs(np.subtract(to_rgb(colour), page)).max() > 0.3
