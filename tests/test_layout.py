"""From the shape of X to the sample and the backbone."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_image

from skmemae._data.layout import choose_layout, warn_of_sensors

SHAPES = [
    ((5,), {}, "fc", (5,)),
    ((1,), {}, "fc", (1,)),
    ((8, 9), {}, "conv2d", (1, 8, 9)),
    ((5, 15), {}, "conv2d", (1, 5, 15)),
    ((4, 9), {}, "fc", (36,)),
    ((200, 3), {}, "fc", (600,)),
    ((4, 9), {"backbone": "conv2d"}, "conv2d", (1, 4, 9)),
    ((5, 90), {"backbone": "conv2d"}, "conv2d", (1, 5, 90)),
    ((5, 90), {"backbone": "fc"}, "fc", (450,)),
    ((4, 6), {"backbone": lambda shape: None}, "conv2d", (1, 4, 6)),
    ((1, 28, 28), {}, "conv2d", (1, 28, 28)),
    ((3, 32, 32), {}, "conv2d", (3, 32, 32)),
    ((32, 32, 3), {}, "conv2d", (3, 32, 32)),
    ((13, 32, 4), {}, "conv2d", (4, 13, 32)),
    ((1, 2, 90), {}, "conv2d", (1, 2, 90)),
    ((3, 32, 3), {"channel_axis": 1}, "conv2d", (3, 32, 3)),
    ((3, 32, 3), {"channel_axis": -1}, "conv2d", (3, 3, 32)),
    ((3, 3, 4), {}, "conv2d", (4, 3, 3)),
    ((3, 4, 4), {}, "conv2d", (3, 4, 4)),
    ((2, 24, 24), {}, "conv2d", (2, 24, 24)),
    ((24, 24, 40), {}, "conv2d", (40, 24, 24)),
    ((40, 24, 24), {}, "conv2d", (40, 24, 24)),
    ((16, 16, 20), {}, "conv2d", (20, 16, 16)),
    ((12, 24, 30), {}, "conv2d", (12, 24, 30)),
    ((24, 30, 12), {}, "conv2d", (12, 24, 30)),
    ((7, 6, 12), {"channel_axis": -1}, "conv2d", (12, 7, 6)),
    ((7, 6, 12), {"channel_axis": 2}, "conv2d", (6, 7, 12)),
    ((7, 6, 12), {"backbone": "conv3d"}, "conv3d", (1, 7, 6, 12)),
    ((7, 6, 12), {"channel_axis": None}, "conv3d", (1, 7, 6, 12)),
    ((1, 8, 16, 17), {}, "conv3d", (1, 8, 16, 17)),
    ((8, 16, 17, 3), {}, "conv3d", (3, 8, 16, 17)),
    ((2, 8, 24, 24), {}, "conv3d", (2, 8, 24, 24)),
    ((8, 24, 24, 2), {}, "conv3d", (2, 8, 24, 24)),
    ((64,), {"sample_shape": (1, 8, 8)}, "conv2d", (1, 8, 8)),
    ((60,), {"sample_shape": [5, 4, 3]}, "conv2d", (3, 5, 4)),
    ((64,), {"sample_shape": (2, 32)}, "fc", (64,)),
    ((3, 4, 5), {"backbone": "fc"}, "fc", (60,)),
]


@pytest.mark.parametrize("array_shape, params, family, sample_shape", SHAPES)
def test_shape_chooses_backbone_and_channels_without_a_word(array_shape, params, family, sample_shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layout = choose_layout(array_shape, **params)
    assert (layout.family, layout.sample_shape) == (family, sample_shape)
    samples = torch.arange(2 * torch.Size(array_shape).numel()).reshape(2, *array_shape)
    network_side = layout.to_network(samples)
    assert network_side.shape == (2, *sample_shape)
    assert torch.equal(layout.from_network(network_side), samples)


@pytest.mark.parametrize("shape", [(3, 32, 3), (20, 24, 30), (7, 6, 12), (4, 8, 16, 3), (9, 9, 9)])
def test_channels_that_could_be_on_either_side_are_taken_for_the_first_with_a_warning(shape):
    with pytest.warns(UserWarning, match=r"Axis 1 of X is taken for the channels .*channel_axis=1 says so") as warned:
        layout = choose_layout(shape)
    assert layout.sample_shape == shape and warned[0].filename == __file__


@pytest.mark.parametrize("shape", [(5, 16), (100, 8)])
def test_long_images_might_be_windows_of_time_series_which_is_told(shape):
    with pytest.warns(UserWarning, match=r"are taken for images. For windows of time series give backbone='fc'"):
        assert choose_layout(shape).sample_shape == (1, *shape)


def test_channels_last_are_moved_not_reshaped():
    samples = torch.randn(2, 5, 6, 3)
    assert torch.equal(choose_layout((5, 6, 3)).to_network(samples), samples.permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    "array_shape, params, message",
    [
        ((3, 0), {}, "minimum of 1 is required"),
        ((64,), {"sample_shape": (1, 8, 9)}, "'sample_shape' parameter is .* which has 72 numbers; .* with 64 numbers"),
        ((64,), {"sample_shape": ()}, "'sample_shape' parameter must be None or a tuple of positive int"),
        ((64,), {"sample_shape": (8.0, 8)}, "'sample_shape' parameter must be None or a tuple of positive int"),
        ((64,), {"sample_shape": (True, 64)}, "'sample_shape' parameter must be None or a tuple of positive int"),
        ((64,), {"sample_shape": (-8, -8)}, "'sample_shape' parameter must be None or a tuple of positive int"),
        ((64,), {"backbone": "conv2d"}, "backbone='conv2d' needs samples with 2 axes"),
        ((8, 8), {"backbone": "conv3d"}, "backbone='conv3d' needs samples with 3 axes"),
        ((2, 2, 2, 2, 2), {}, "got samples of shape"),
        ((3, 8, 8), {"channel_axis": 7}, "channel_axis=7"),
        ((3, 8, 8), {"channel_axis": 0}, "channel_axis=0"),
        ((3, 8, 8), {"channel_axis": -4}, "channel_axis=-4"),
        ((3, 8, 8), {"channel_axis": True}, "'channel_axis' parameter must be 'auto', an int or None"),
        ((8, 8), {"channel_axis": 1}, "channel_axis=1"),
        ((3, 8, 8), {"channel_axis": None, "backbone": "conv2d"}, "channel_axis=None is not an axis"),
        ((3, 4, 8, 8), {"channel_axis": None}, "got samples of shape"),
    ],
)
def test_what_does_not_fit_is_named(array_shape, params, message):
    with pytest.raises(ValueError, match=message):
        choose_layout(array_shape, **params)


def windows(rng, scales, n=80, length=24):
    """Windows of sensors, (n, length, sensors)."""
    times = rng.random((n, 1, 1)) * 6 + np.arange(length)[:, None] / 3
    return (np.sin(times + np.arange(len(scales))) + 0.1 * rng.normal(size=(n, length, len(scales)))) * scales


@pytest.mark.parametrize("n_sensors", [5, 8, 12, 24, 38, 60])
@pytest.mark.parametrize("sensors_first", [False, True])
def test_windows_of_sensors_with_units_of_their_own_are_not_taken_for_images_in_silence(rng, n_sensors, sensors_first):
    X = windows(rng, np.logspace(0, 4, n_sensors)[rng.permutation(n_sensors)])
    X = X.swapaxes(1, 2) if sensors_first else X
    with pytest.warns(UserWarning, match="windows of time series give backbone='fc'"):
        warn_of_sensors(X, choose_layout(X.shape[1:]), "auto")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for backbone in ("conv2d", "fc"):
            warn_of_sensors(X, choose_layout(X.shape[1:], backbone), backbone)


@pytest.mark.parametrize("images", ["digits", "photographs"])
def test_images_are_no_windows(images):
    photograph = load_sample_image("china.jpg")[:, :, 1]
    images = load_digits().images if images == "digits" else np.stack([photograph[i::9, ::9][:40, :60] for i in range(5)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for X in (images, images.swapaxes(1, 2), images * 1e-3, np.zeros((5, 8, 8))):
            warn_of_sensors(X, choose_layout(X.shape[1:]), "auto")
