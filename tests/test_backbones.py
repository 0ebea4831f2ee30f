"""Encoders and the decoders that undo them."""

import math

import pytest
import torch
from torch import nn

from skmemae.network.backbones import (
    Layer,
    convolutional,
    frames_as_channels,
    fully_connected,
    initialise,
    member_layers,
    position_sizes,
    stacked_convolutions,
)


def through(backbone, shape):
    """Shapes of the encoding and of the reconstruction of two samples."""
    encoding = backbone.encoder(torch.zeros(2, *shape))
    return tuple(encoding.shape[1:]), tuple(backbone.decoder(encoding).shape[1:])


@pytest.mark.parametrize("shape", [(7,), (2, 3), (1, 2, 3, 4)])
def test_samples_of_any_shape_are_flattened_and_get_it_back(shape):
    assert through(fully_connected(shape, (8, 3)), shape) == ((3,), shape)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 23), (2, 9, 31), (1, 5, 13, 11), (3, 1, 7, 2)])
@pytest.mark.parametrize("bottleneck", [True, False])
def test_maps_of_odd_sizes_come_back_exactly(shape, bottleneck):
    encoding, reconstruction = through(convolutional(shape, (4, 6, 5), bottleneck), shape)
    assert reconstruction == shape
    assert encoding == ((5,) if bottleneck else (5, *(math.ceil(size / 8) for size in shape[1:])))


@pytest.mark.parametrize("shape, pixel_size", [((1, 17, 23), 2), ((3, 31, 30), 4), ((2, 5, 9), 5)])
@pytest.mark.parametrize("bottleneck", [True, False])
def test_networks_of_averages_reconstruct_all_pixels(shape, pixel_size, bottleneck):
    backbone = convolutional(shape, (4, 5), bottleneck, pixel_size)
    encoding, reconstruction = through(backbone, shape)
    assert reconstruction == shape
    seen = [math.ceil(size / pixel_size) for size in shape[1:]]
    assert encoding == ((5,) if bottleneck else (5, *(math.ceil(size / 4) for size in seen)))
    initialise(nn.ModuleList(backbone[:2]), torch.Generator().manual_seed(0))
    for module in backbone[:2]:
        module.eval()
    x = torch.rand(2, *shape)
    means = nn.functional.avg_pool2d(x, pixel_size, ceil_mode=True, count_include_pad=False)
    fine = means.repeat_interleave(pixel_size, dim=2).repeat_interleave(pixel_size, dim=3)[:, :, : shape[1], : shape[2]]
    torch.testing.assert_close(backbone.encoder(fine), backbone.encoder(x), rtol=1e-4, atol=1e-5)


def test_an_axis_may_have_a_stride_of_its_own():
    layers = [Layer(3, 2, 4), Layer(3, (2, 1, 1), 6)]
    mirrored = [Layer(3, (2, 1, 1), 4), Layer(3, 2, 1)]
    assert position_sizes((1, 7, 9, 10), layers) == [(7, 9, 10), (4, 5, 5), (2, 5, 5)]
    backbone = stacked_convolutions((1, 7, 9, 10), layers, mirrored, nn.ReLU)
    assert through(backbone, (1, 7, 9, 10)) == ((6, 2, 5, 5), (1, 7, 9, 10))


def test_a_clip_by_its_frames_as_channels_keeps_a_quarter_of_the_places_per_axis():
    assert through(frames_as_channels((3, 5, 22, 31), (4, 6, 8, 10)), (3, 5, 22, 31)) == ((10, 6, 8), (3, 5, 22, 31))
    assert frames_as_channels((1, 5, 8, 8)).heads == 8 and frames_as_channels((1, 5, 8, 8), (4, 6, 8, 10)).heads == 1


@pytest.mark.parametrize("bare", [True, False])
def test_a_bare_code_may_be_negative_and_the_reconstruction_always(bare):
    for backbone, shape in (
        (fully_connected((5,), (6, 4), nn.ReLU, bare), (5,)),
        (stacked_convolutions((1, 6, 6), [Layer(3, 2, 4)], [Layer(3, 2, 1)], nn.ReLU, bare), (1, 6, 6)),
    ):
        encoding = backbone.encoder(torch.randn(20, *shape))
        assert (encoding.min() < 0) == bare
        assert backbone.decoder(encoding).min() < 0


def test_members_side_by_side_are_layers_of_their_own():
    layers = member_layers(3, (5, 4, 2))
    initialise(layers, torch.Generator().manual_seed(0))
    x, weight = torch.randn(3, 7, 5), layers[0].weight.detach()
    for i in range(3):
        hidden = nn.functional.leaky_relu(x[i] @ weight[i] + layers[0].bias[i], 0.1)
        torch.testing.assert_close(layers(x)[i], hidden @ layers[2].weight[i] + layers[2].bias[i])
    assert not torch.equal(weight[0], weight[1]) and weight.abs().max() <= (3 / 5) ** 0.5


def test_parameters_are_drawn_from_one_generator_and_keep_the_variance():
    backbone = convolutional((1, 32, 32), (16, 32, 8), bottleneck=True)
    module = nn.ModuleList(backbone[:2])
    state = torch.get_rng_state()
    initialise(module, torch.Generator().manual_seed(0))
    before = [p.detach().clone() for p in module.parameters()]
    initialise(module, torch.Generator().manual_seed(0))
    assert all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))
    assert torch.equal(state, torch.get_rng_state())
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            assert float(layer.weight.detach().std()) == pytest.approx(layer.in_features**-0.5, rel=0.05)
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and (layer.bias == 0).all() and (layer.running_var == 1).all()
