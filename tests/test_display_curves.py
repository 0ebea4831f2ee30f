"""Curves and histograms show the right numbers; all displays are readable on light and dark pages."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from problems import detector
from sklearn.exceptions import NotFittedError

from skmemae.display import (
    AddressingDisplay,
    AnomalyMapDisplay,
    MemoryDisplay,
    NormalityDisplay,
    ReconstructionDisplay,
    ScoreDisplay,
    TrainingCurveDisplay,
)

pytestmark = pytest.mark.usefixtures("figures")


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Training


def test_both_curves_are_drawn_by_epoch(rng):
    det = detector(max_epochs=4).fit(rng.uniform(size=(60, 8, 8)))
    ax = TrainingCurveDisplay.from_estimator(det).plot().ax_
    objective, held_out = ax.get_lines()
    np.testing.assert_array_equal(objective.get_data(), ([1, 2, 3, 4], det.loss_curve_))
    np.testing.assert_array_equal(held_out.get_ydata(), det.validation_curve_)
    assert legend(ax) == ["training objective", "held-out error"]
    assert ax.get_yscale() == "log"


def test_without_held_out_samples_there_is_one_curve(table):
    det = detector(max_epochs=2).fit(table[0])
    assert len(TrainingCurveDisplay.from_estimator(det).plot().ax_.get_lines()) == 1
    assert TrainingCurveDisplay([1.0, 0.0]).plot().ax_.get_yscale() == "linear"


def test_bad_curves_are_named():
    with pytest.raises(ValueError, match=r"'loss_curve' parameter of TrainingCurveDisplay must be a vector .* shape \(0,\)"):
        TrainingCurveDisplay([])
    with pytest.raises(ValueError, match="'loss_curve'"):
        TrainingCurveDisplay([1.0, np.nan])
    with pytest.raises(ValueError, match=r"'validation_curve' parameter .* fit 'loss_curve' .* \(2,\).* \(1,\)"):
        TrainingCurveDisplay([2.0, 1.0], [1.0])


# Scores


def heights(polygon):
    """Sum of the bars of a filled step histogram, by its area in bins."""
    return polygon.get_xy()[1::2, 1][: len(polygon.get_xy()) // 4].sum()


def test_scores_of_training_samples_inliers_and_outliers_are_drawn_apart(table):
    X, y = table
    det = detector().fit(X[30:200])
    new = np.r_[0:30, 200:300]
    ax = ScoreDisplay.from_estimator(det, X[new], 1 - 2 * y[new]).plot().ax_
    scores = -det.score_samples(X[new])
    missed, alarms = ((scores[y[new] == label] > det.threshold_).mean() for label in (1, 0))
    assert legend(ax) == ["training, 10% above", f"inliers, {alarms:.0%} above", f"outliers, {missed:.0%} above", "threshold"]
    (line,) = ax.get_lines()
    assert set(line.get_xdata()) == {det.threshold_}
    assert [round(heights(polygon)) for polygon in ax.patches] == [100, 100, 100]
    assert ax.get_xlim()[1] >= scores.max()


def test_without_labels_new_samples_are_one_group(table):
    det = detector().fit(table[0])
    assert len(ScoreDisplay.from_estimator(det, table[0]).plot().ax_.patches) == 2
    assert len(ScoreDisplay.from_estimator(det).plot().ax_.patches) == 1
    assert ScoreDisplay([1.0, 2.0]).plot().ax_.get_lines()[:] == []


def test_skewed_positive_scores_have_a_logarithmic_axis(rng):
    skewed = rng.lognormal(sigma=3, size=500)
    assert ScoreDisplay(skewed).plot().ax_.get_xscale() == "log"
    assert ScoreDisplay(np.r_[0, skewed]).plot().ax_.get_xscale() == "linear"
    assert ScoreDisplay(rng.uniform(1, 2, 100)).plot().ax_.get_xscale() == "linear"
    assert ScoreDisplay([3.0, 3.0]).plot().ax_.get_xscale() == "linear"


def test_bad_scores_and_labels_are_named(table):
    with pytest.raises(ValueError, match="'training_scores' parameter of ScoreDisplay must be a vector"):
        ScoreDisplay([[1.0]])
    with pytest.raises(ValueError, match="'scores' parameter"):
        ScoreDisplay([1.0], [np.inf])
    with pytest.raises(ValueError, match=r"'y' parameter of ScoreDisplay must fit 'scores' .* \(2,\).* \(1,\)"):
        ScoreDisplay([1.0], [1.0, 2.0], [0])
    with pytest.raises(ValueError, match="y must hold 0 and 1"):
        ScoreDisplay([1.0], [1.0, 2.0], [0, 2])
    with pytest.raises(ValueError, match="'y' parameter of ScoreDisplay must be None without new samples"):
        ScoreDisplay([1.0], y=[1])
    with pytest.raises(ValueError, match="features"):
        ScoreDisplay.from_estimator(detector(max_epochs=1).fit(table[0]), table[0][:, :2])


@pytest.mark.parametrize("kind", [TrainingCurveDisplay, ScoreDisplay])
def test_an_unfitted_detector_is_named(kind):
    with pytest.raises(NotFittedError):
        kind.from_estimator(detector())


# Normality


def test_abnormal_frames_are_shaded():
    display = NormalityDisplay([1, 1, 0.2, 0.1, 1, 0.3], [0, 0, 1, 1, 0, 1]).plot()
    assert [(patch.get_x(), patch.get_width()) for patch in display.ax_.patches] == [(1.5, 2), (4.5, 1)]
    np.testing.assert_array_equal(display.ax_.get_lines()[0].get_ydata(), display.normality)
    with pytest.raises(ValueError, match="one label for each frame"):
        NormalityDisplay([1, 0], [1])


# All of them

IMAGES, ROWS = np.random.default_rng(0).uniform(size=(2, 4, 4)), np.random.default_rng(0).uniform(size=(2, 4))
OF_ONE_AXES = {
    "training": TrainingCurveDisplay([2.0, 1.0], [3.0, 2.0]),
    "scores": ScoreDisplay([1.0, 2.0], [1.0, 9.0], [0, 1], threshold=3),
    "normality": NormalityDisplay([1.0, 0.5], [0, 1]),
    "addressing": AddressingDisplay(ROWS),
}
OF_SEVERAL = {
    "images": ReconstructionDisplay(IMAGES, IMAGES, IMAGES),
    "rows": ReconstructionDisplay(ROWS, ROWS, ROWS),
    "map": AnomalyMapDisplay(IMAGES, IMAGES, IMAGES),
    "memory": MemoryDisplay(IMAGES, [1.0, 0.5]),
    "memory of a table": MemoryDisplay(ROWS, [1.0, 0.5]),
}


@pytest.mark.parametrize("name", OF_ONE_AXES)
def test_displays_of_one_axes_take_it(name):
    figure, ax = matplotlib.pyplot.subplots()
    display = OF_ONE_AXES[name].plot(ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("name", [*OF_ONE_AXES, *OF_SEVERAL])
def test_lines_texts_and_bars_stand_out_from_the_page(name, style):
    with matplotlib.pyplot.style.context(style):
        figure = {**OF_ONE_AXES, **OF_SEVERAL}[name].plot().figure_
        figure.draw_without_rendering()
        page = to_rgb(figure.get_facecolor())
        texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text() and text.get_visible()]
        lines = [line for ax in figure.axes for line in ax.get_lines()]
        bars = [patch for ax in figure.axes for patch in ax.patches]
        colours = (
            [text.get_color() for text in texts] + [line.get_color() for line in lines] + [b.get_facecolor() for b in bars]
        )
    assert texts
    for colour in colours:
        assert np.abs(np.subtract(to_rgb(colour), page)).max() > 0.3
