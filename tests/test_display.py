"""Pictures of samples and of the memory are drawn from the right numbers; what cannot be drawn is named."""

import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from problems import detector
from sklearn.exceptions import NotFittedError

from skmemae.display import AddressingDisplay, AnomalyMapDisplay, MemoryDisplay, ReconstructionDisplay

pytestmark = pytest.mark.usefixtures("figures")


@pytest.fixture
def frame(rng):
    """120 rows with names of columns and an index."""
    names = ["height", "weight", "age", "a very long name of a column that no picture has room for"]
    X = rng.normal(size=(120, 4)) * [1, 50, 3, 1] + [0, 500, 40, 0]
    return pd.DataFrame(X, columns=names, index=[f"row {i}" for i in range(120)])


def texts(labels):
    return [label.get_text() for label in labels]


def drawn(ax, which=0):
    return np.asarray(ax.get_images()[which].get_array())


# Reconstructions


@pytest.mark.parametrize("shape", [(40, 8, 9), (40, 1, 8, 9), (40, 8, 9, 3), (40, 3, 8, 9), (20, 1, 5, 8, 9), (20, 5, 8, 9, 3)])
@pytest.mark.parametrize("kind", [ReconstructionDisplay, AnomalyMapDisplay])
def test_images_and_clips_can_be_shown(rng, shape, kind):
    X = rng.uniform(size=shape)
    det = detector(max_epochs=2).fit(X)
    display = kind.from_estimator(det, X[:4])
    assert display.samples.shape[:3] == display.reconstructions.shape[:3] == (4, 8, 9)
    assert display.plot().axes_.shape == (3, 4)
    memory = MemoryDisplay.from_estimator(det, n_items=6)
    assert (np.diff(memory.usage) <= 0).all()
    assert memory.plot(n_columns=3).axes_.shape == (-(-len(memory.items) // 3), 3)


def test_what_is_drawn_is_the_sample_and_its_reconstruction(rng):
    X = rng.uniform(size=(40, 8, 9))
    det = detector(max_epochs=2).fit(X)
    axes = ReconstructionDisplay.from_estimator(det, X[:3]).plot().axes_
    sample, reconstruction, error = axes[:, 1]
    np.testing.assert_allclose(drawn(sample), X[1])
    np.testing.assert_allclose(drawn(reconstruction), det.reconstruct(X)[1], rtol=1e-5)
    np.testing.assert_allclose(drawn(error), det.anomaly_map(X)[1], rtol=1e-5)
    assert [line[0].get_ylabel() for line in axes] == ["sample", "reconstruction", "error"]
    assert sample.get_images()[0].get_clim() == reconstruction.get_images()[0].get_clim()


def test_of_a_clip_the_frame_with_the_largest_error_is_shown(rng):
    X = rng.uniform(size=(20, 1, 5, 8, 9))
    det = detector(max_epochs=1).fit(X)
    X[0, 0, 4, 2:5, 2:5], X[1, 0, 1, 2:5, 2:5] = 5, 5
    display = ReconstructionDisplay.from_estimator(det, X[:2])
    np.testing.assert_array_equal(display.samples, [X[0, 0, 4], X[1, 0, 1]])
    np.testing.assert_allclose(display.errors[0], det.anomaly_map(X[:2])[0, 0, 4], rtol=1e-5)


def test_many_samples_wrap(rng):
    X = rng.uniform(size=(30, 8, 9))
    display = ReconstructionDisplay(X, X, X).plot()
    assert display.axes_.shape == (9, 12)
    assert display.figure_.get_size_inches()[0] < 16
    np.testing.assert_array_equal(drawn(display.axes_[3, 2]), X[14])
    assert [ax.axison for ax in display.axes_[6]] == [True] * 6 + [False] * 6
    assert ReconstructionDisplay(X, X, X).plot(n_columns=15).axes_.shape == (6, 15)


def test_errors_are_laid_over_images_and_the_bar_says_how_large_they_are(rng):
    X = rng.uniform(size=(40, 8, 9, 3))
    display = AnomalyMapDisplay(X, X, X**2).plot()
    image, overlay = display.axes_[2, 5].get_images()
    np.testing.assert_allclose(image.get_array(), X[5])
    np.testing.assert_allclose(overlay.get_array(), (X[5] ** 2).mean(axis=-1))
    assert overlay.get_clim() == (0, (X**2).mean(axis=-1).max())
    assert "squared error" in [ax.get_ylabel() for ax in display.figure_.axes]
    assert AnomalyMapDisplay(X, X, X).plot(error_limit=7).axes_[2, 0].get_images()[1].get_clim() == (0, 7)


@pytest.mark.parametrize("page", [0.0, 0.5, 1.0])
def test_an_overlay_shows_on_black_grey_and_white(page):
    colours = AnomalyMapDisplay(*[np.ones((1, 2, 2))] * 3).plot().axes_[2, 0].get_images()[1].get_cmap()
    red, green, blue, opacity = colours(0.5)
    mixed = opacity * np.array([red, green, blue]) + (1 - opacity) * page
    assert np.ptp(mixed) > 0.3
    assert colours(0.0)[3] == 0
    assert colours(1.0)[3] == 1


def test_a_table_is_drawn_as_heat_maps_with_names(frame):
    det = detector().fit(frame)
    rows = frame.iloc[[5, 7]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        display = ReconstructionDisplay.from_estimator(det, rows).plot()
    sample, reconstruction, error = display.axes_[:, 0]
    np.testing.assert_allclose(
        (drawn(sample) - drawn(reconstruction)) ** 2, drawn(error), rtol=0.5, atol=0.3
    )  # mean of members
    np.testing.assert_allclose(drawn(error), det.anomaly_map(rows), rtol=1e-5)
    assert np.abs(drawn(sample)).max() < 5  # scaled units: the second column has values of 500
    assert texts(error.get_xticklabels()) == ["height", "weight", "age", "a very long name of a c…"]
    assert texts(sample.get_yticklabels()) == ["row 5", "row 7"]
    assert AnomalyMapDisplay.from_estimator(det, rows).plot().axes_.shape == (3, 1)


def test_dtypes_of_pandas_and_tensors_are_drawn(frame):
    det = detector(max_epochs=1).fit(frame)
    expected = ReconstructionDisplay.from_estimator(det, frame[:3]).samples
    np.testing.assert_allclose(ReconstructionDisplay.from_estimator(det, frame[:3].astype("Float64")).samples, expected)
    det.fit(frame.to_numpy())
    tensor = torch.tensor(frame[:3].to_numpy(), requires_grad=True)
    np.testing.assert_allclose(ReconstructionDisplay.from_estimator(det, tensor).samples, expected, rtol=1e-6)


def test_of_many_columns_those_with_the_largest_errors_are_drawn(rng):
    X = rng.normal(size=(5, 300))
    errors = np.zeros((5, 300))
    errors[:, 100:140] = 1
    ax = ReconstructionDisplay(X, X, errors).plot().axes_[2, 0]
    assert texts(ax.get_xticklabels()) == [f"x{i}" for i in range(100, 140)]
    assert ax.get_xlabel() == "40 of 300 columns, those with the largest errors"


def test_windows_of_time_series_are_drawn_as_tables(rng):
    X = rng.normal(size=(60, 8, 2))
    display = ReconstructionDisplay.from_estimator(detector().fit(X), X[:3]).plot()
    assert drawn(display.axes_[0, 0]).shape == (3, 16)


def test_it_draws_into_a_given_figure(rng):
    X = rng.uniform(size=(3, 8, 9))
    figure, whole = matplotlib.pyplot.figure(), matplotlib.pyplot.figure()
    part = whole.subfigures(2, 1)[1]
    assert ReconstructionDisplay(X, X, X).plot(figure=figure).figure_ is figure
    assert MemoryDisplay(X, [0.5, 0.3, 0.2]).plot(figure=part).figure_ is part
    assert {ax.figure for ax in whole.axes} == {part}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([1.0], [1.0], [1.0]), r"'samples' parameter of ReconstructionDisplay must be rows .* shape \(1,\)"),
        ((np.ones((2, 3, 3, 2)),) * 3, r"'samples' parameter .* shape \(2, 3, 3, 2\)"),
        ((np.ones((0, 3)),) * 3, r"'samples' parameter .* at least one"),
        ((np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 3))), r"'reconstructions' .* fit 'samples' .* \(2, 3\).* \(2, 4\)"),
        ((np.ones((2, 3)), np.ones((2, 3)), np.ones((3, 3))), r"'errors' parameter"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionDisplay(*arrays)


def test_names_that_do_not_fit_are_named():
    X = np.ones((2, 3))
    with pytest.raises(ValueError, match="'feature_names' parameter"):
        ReconstructionDisplay(X, X, X, feature_names=["a"])
    with pytest.raises(ValueError, match="'sample_names' parameter"):
        ReconstructionDisplay(X, X, X, sample_names=["a"])
    with pytest.raises(ValueError, match=r"'n_columns' parameter of ReconstructionDisplay.plot .* Got 0"):
        ReconstructionDisplay(X, X, X).plot(n_columns=0)


# The memory


def test_items_have_their_numbers_and_usage(rng):
    X = rng.uniform(size=(60, 8, 9))
    det = detector().fit(X)
    display = MemoryDisplay.from_estimator(det, n_items=5).plot()
    most_used = np.argsort(-det.memory_usage_, kind="stable")[:5]
    titles = [f"{i}: {det.memory_usage_[i]:.1%}" for i in most_used]
    assert [ax.get_title() for ax in display.axes_.flat] == titles
    np.testing.assert_allclose(drawn(display.axes_[0, 2]), det.decode_memory(most_used)[2])


def test_items_of_a_table_are_a_heat_map_with_bars_of_usage(frame):
    det = detector().fit(frame)
    display = MemoryDisplay.from_estimator(det, n_items=7).plot()
    items, usage = display.axes_[0]
    assert texts(items.get_xticklabels())[:3] == ["height", "weight", "age"]
    assert texts(items.get_yticklabels()) == [str(number) for number in display.numbers]
    np.testing.assert_allclose([bar.get_width() for bar in usage.patches], 100 * det.memory_usage_[display.numbers])
    # In scaled units a column of 500 +- 50 compares with others.
    columns = np.abs(drawn(items)).max(axis=0)
    assert columns.max() < 10 * columns.min()


def test_of_many_columns_those_in_which_items_differ_most_are_drawn(rng):
    items = rng.normal(size=(5, 50)) * np.repeat([1, 0.01], [30, 20])
    ax = MemoryDisplay(items, np.ones(5)).plot().axes_[0, 0]
    assert texts(ax.get_xticklabels())[:30] == [f"x{i}" for i in range(30)]
    assert "40 of 50 columns" in ax.get_xlabel()


def test_bad_items_are_named(rng):
    X = rng.normal(size=(60, 4))
    det = detector(max_epochs=1).fit(X)
    for n_items in (0, 1.5, True):
        with pytest.raises(ValueError, match="'n_items' parameter of MemoryDisplay.from_estimator must be a positive int. Got"):
            MemoryDisplay.from_estimator(det, n_items=n_items)
    with pytest.raises(ValueError, match="'usage' parameter of MemoryDisplay must fit 'items'"):
        MemoryDisplay(X, [1.0])
    with pytest.raises(ValueError, match="'numbers' parameter"):
        MemoryDisplay(X[:2], [1.0, 1.0], [1, 2, 3])
    with pytest.raises(ValueError, match="needs a memory"):
        MemoryDisplay.from_estimator(detector(memory_size=0, max_epochs=1).fit(X))
    with pytest.raises(ValueError, match="needs a memory"):
        AddressingDisplay.from_estimator(detector(memory_size=0, max_epochs=1).fit(X), X)


# Addressing


def test_the_most_addressed_items_of_each_sample_are_drawn(rng):
    X = rng.uniform(size=(60, 8, 9))
    det = detector().fit(X)
    display = AddressingDisplay.from_estimator(det, X[:4], n_items=6).plot()
    weights = det.addressing_weights(X[:4])
    np.testing.assert_allclose(drawn(display.ax_), weights[:, display.items])
    assert set(weights.argmax(axis=1)) <= set(display.items)
    assert f"({weights[:, display.items].sum() / 4:.0%} of the weight)" in display.ax_.get_xlabel()
    assert display.weights.shape == (4, min(6, len(det.memory_)))


def test_items_of_one_row_count_as_one(frame):
    det = detector(ensemble_size=3).fit(frame)
    display = AddressingDisplay.from_estimator(det, frame.iloc[:5], n_items=10**6)
    np.testing.assert_allclose(display.weights.sum(axis=1), 1, rtol=1e-5)
    row = display.items[3]
    of_row = det.addressing_weights(frame.iloc[:5])[:, det.memory_rows_ == row].sum(axis=1)
    np.testing.assert_allclose(display.weights[:, 3], of_row, rtol=1e-5)
    ax = display.plot(ax=matplotlib.pyplot.subplots()[1]).ax_
    assert ax.get_xlabel().startswith("training row")
    assert texts(ax.get_yticklabels()) == [f"row {i}" for i in range(5)]


def test_weights_of_locations_are_means(rng):
    X = rng.uniform(size=(20, 1, 4, 8, 8))
    det = detector(max_epochs=1).fit(X)
    display = AddressingDisplay.from_estimator(det, X[:2], n_items=4)
    weights = det.addressing_weights(X[:2])
    np.testing.assert_allclose(display.weights, weights.reshape(2, -1, weights.shape[-1]).mean(axis=1)[:, display.items])


def test_bad_weights_are_named(rng):
    with pytest.raises(ValueError, match=r"'weights' parameter of AddressingDisplay .* shape \(3,\)"):
        AddressingDisplay([1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="'items' parameter of AddressingDisplay must fit 'weights'"):
        AddressingDisplay(np.ones((2, 3)), items=[1, 2])
    X = rng.normal(size=(40, 3))
    with pytest.raises(ValueError, match="'n_items' parameter of AddressingDisplay.from_estimator .* Got 0"):
        AddressingDisplay.from_estimator(detector(max_epochs=1).fit(X), X, n_items=0)


# All of them


@pytest.mark.parametrize("kind", [ReconstructionDisplay, AnomalyMapDisplay, AddressingDisplay])
def test_samples_of_another_shape_and_unfitted_detectors_are_named(rng, kind):
    X = rng.normal(size=(40, 3))
    with pytest.raises(ValueError, match="features|shape"):
        kind.from_estimator(detector(max_epochs=1).fit(X), X[:, :2])
    with pytest.raises(NotFittedError):
        kind.from_estimator(detector(), X)


def test_an_unfitted_detector_has_no_memory_to_draw():
    with pytest.raises(NotFittedError):
        MemoryDisplay.from_estimator(detector())
