"""From the shape of X to the sample and the backbone."""

import numpy as np
import pytest
import torch

from skmemae.engine.samples import plan_layout, thin_repeats


@pytest.mark.parametrize(
    "array_shape, params, family, sample_shape",
    [
        ((5,), {}, "fc", (5,)),
        ((1,), {}, "fc", (1,)),
        ((8, 9), {}, "conv2d", (1, 8, 9)),
        ((1, 28, 28), {}, "conv2d", (1, 28, 28)),
        ((3, 32, 32), {}, "conv2d", (3, 32, 32)),
        ((32, 32, 3), {}, "conv2d", (3, 32, 32)),
        ((3, 32, 3), {}, "conv2d", (3, 32, 3)),
        ((3, 32, 3), {"channel_axis": -1}, "conv2d", (3, 3, 32)),
        ((7, 6, 12), {"channel_axis": -1}, "conv2d", (12, 7, 6)),
        ((7, 6, 12), {"channel_axis": 2}, "conv2d", (6, 7, 12)),
        ((7, 6, 12), {"backbone": "conv3d"}, "conv3d", (1, 7, 6, 12)),
        ((7, 6, 12), {"channel_axis": None}, "conv3d", (1, 7, 6, 12)),
        ((1, 8, 16, 17), {}, "conv3d", (1, 8, 16, 17)),
        ((8, 16, 17, 3), {}, "conv3d", (3, 8, 16, 17)),
        ((64,), {"sample_shape": (1, 8, 8)}, "conv2d", (1, 8, 8)),
        ((60,), {"sample_shape": (5, 4, 3)}, "conv2d", (3, 5, 4)),
        ((3, 4, 5), {"backbone": "fc"}, "fc", (60,)),
        ((4, 6), {"backbone": lambda shape: None}, "conv2d", (1, 4, 6)),
    ],
)
def test_shape_chooses_backbone_and_channels(array_shape, params, family, sample_shape):
    layout = plan_layout(array_shape, **params)
    assert (layout.family, layout.sample_shape) == (family, sample_shape)
    samples = torch.arange(2 * torch.Size(array_shape).numel()).reshape(2, *array_shape)
    network_side = layout.to_network(samples)
    assert network_side.shape == (2, *sample_shape)
    assert torch.equal(layout.from_network(network_side), samples)


def test_channels_last_are_moved_not_reshaped():
    samples = torch.randn(2, 5, 6, 3)
    assert torch.equal(plan_layout((5, 6, 3)).to_network(samples), samples.permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    "array_shape, params, message",
    [
        ((3, 0), {}, "minimum of 1 is required"),
        ((64,), {"sample_shape": (1, 8, 9)}, "sample_shape"),
        ((64,), {"backbone": "conv2d"}, "backbone='conv2d' needs samples with 2 axes"),
        ((8, 8), {"backbone": "conv3d"}, "backbone='conv3d' needs samples with 3 axes"),
        ((2, 2, 2, 2, 2), {}, "got samples of shape"),
        ((3, 8, 8), {"channel_axis": 7}, "channel_axis=7"),
        ((3, 8, 8), {"channel_axis": 0}, "channel_axis=0"),
        ((8, 8), {"channel_axis": 1}, "channel_axis=1"),
    ],
)
def test_what_does_not_fit_is_named(array_shape, params, message):
    with pytest.raises(ValueError, match=message):
        plan_layout(array_shape, **params)


def test_of_equal_rows_the_square_root_of_their_number_is_kept():
    rng = np.random.default_rng(0)
    rare = rng.normal(size=(150, 3))
    X = rng.permutation(
        np.concatenate([rare, np.repeat([[1.0, 2.0, 3.0]], 101, axis=0), np.repeat([[3.0, 2.0, 1.0]], 4, axis=0)])
    )
    kept = X[thin_repeats(X)]
    _, counts = np.unique(kept, axis=0, return_counts=True)
    assert sorted(counts)[-2:] == [2, 11] and (counts == 1).sum() == 150


def test_rows_that_do_not_repeat_are_all_kept_and_a_few_kinds_of_rows_too():
    rng = np.random.default_rng(0)
    assert thin_repeats(rng.normal(size=(500, 3))) is None
    assert thin_repeats(rng.integers(0, 2, size=(500, 3)).astype(np.uint8)) is None
