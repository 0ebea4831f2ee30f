"""Pictures are drawn from the right numbers."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from skmemae import MemAEDetector
from skmemae.display import AnomalyMapDisplay, MemoryDisplay, NormalityDisplay, ReconstructionDisplay


@pytest.fixture(autouse=True)
def close_figures():
    yield
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("shape", [(40, 8, 9), (40, 1, 8, 9), (40, 8, 9, 3), (40, 3, 8, 9), (20, 1, 5, 8, 9)])
def test_images_and_clips_can_be_shown(rng, shape):
    X = rng.uniform(size=shape)
    det = MemAEDetector(max_epochs=2, random_state=0).fit(X)
    display = ReconstructionDisplay.from_estimator(det, X[:4])
    assert display.samples.shape[:3] == display.reconstructions.shape[:3] == (4, 8, 9)
    assert display.plot().axes_.shape == (3, 4)
    memory = MemoryDisplay.from_estimator(det, n_items=6)
    assert (np.diff(memory.usage) <= 0).all()
    assert memory.plot(n_columns=3).axes_.shape == (-(-len(memory.items) // 3), 3)


def test_what_is_drawn_is_the_sample_and_its_reconstruction(rng):
    X = rng.uniform(size=(40, 8, 9))
    det = MemAEDetector(max_epochs=2, random_state=0).fit(X)
    axes = ReconstructionDisplay.from_estimator(det, X[:3]).plot().axes_
    drawn = [line[1].get_images()[0].get_array() for line in axes]
    np.testing.assert_allclose(drawn[0], X[1])
    np.testing.assert_allclose(drawn[1], det.reconstruct(X)[1], rtol=1e-5)
    np.testing.assert_allclose(drawn[2], det.anomaly_map(X)[1], rtol=1e-5)
    assert [line[0].get_ylabel() for line in axes] == ["sample", "reconstruction", "error"]


def test_it_draws_into_a_given_figure(rng):
    X = rng.uniform(size=(40, 8, 9))
    det = MemAEDetector(max_epochs=1, random_state=0).fit(X)
    figure = matplotlib.pyplot.figure()
    assert ReconstructionDisplay.from_estimator(det, X[:3]).plot(figure=figure).figure_ is figure


def test_vectors_cannot_be_shown(table):
    det = MemAEDetector(max_epochs=1, random_state=0).fit(table[0])
    with pytest.raises(ValueError, match="fitted on vectors"):
        ReconstructionDisplay.from_estimator(det, table[0][:3])


@pytest.mark.parametrize("shape", [(40, 8, 9), (20, 1, 5, 8, 9), (40, 8, 9, 3)])
def test_errors_are_laid_over_frames(rng, shape):
    X = rng.uniform(size=shape)
    det = MemAEDetector(max_epochs=1, random_state=0).fit(X)
    display = AnomalyMapDisplay.from_estimator(det, X[:4]).plot()
    frame, overlay = display.axes_[2, 0].get_images()
    errors = display.errors.mean(axis=-1) if len(shape) == 4 else display.errors
    np.testing.assert_allclose(overlay.get_alpha(), errors[0] / errors.max())
    assert [line[0].get_ylabel() for line in display.axes_] == ["sample", "reconstruction", "error"]


def test_abnormal_frames_are_shaded():
    display = NormalityDisplay([1, 1, 0.2, 0.1, 1, 0.3], [0, 0, 1, 1, 0, 1]).plot()
    assert [(patch.get_x(), patch.get_width()) for patch in display.axes_.patches] == [(1.5, 2), (4.5, 1)]
    np.testing.assert_array_equal(display.axes_.get_lines()[0].get_ydata(), display.normality)
    axes = matplotlib.pyplot.subplots()[1]
    assert NormalityDisplay([1, 0]).plot(axes, color="tab:blue").axes_ is axes
    with pytest.raises(ValueError, match="one label for each frame"):
        NormalityDisplay([1, 0], [1])
