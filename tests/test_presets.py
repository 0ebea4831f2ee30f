"""The presets against what the paper prints, layer by layer (section 4)."""

import numpy as np
import pytest
import torch
from torch import nn

from skmemae import MemAEDetector, presets
from skmemae._data.layout import choose_layout
from skmemae.network import build_network

# "Conv2(k, s, c)" and "Dconv2(k, s, c)": kernel, stride, number of kernels, as printed in sections 4.1 and 4.2.
PRINTED = {
    "mnist": ((1, 28, 28), [(1, 2, 16), (3, 2, 32), (3, 2, 64)], [(3, 2, 64), (3, 2, 32), (3, 2, 1)]),
    "cifar10": (
        (3, 32, 32),
        [(3, 2, 64), (3, 2, 128), (3, 2, 128), (3, 2, 256)],
        [(3, 2, 256), (3, 2, 128), (3, 2, 128), (3, 2, 3)],
    ),
    "video": (
        (1, 16, 64, 64),
        [(3, 2, 96), (3, 2, 128), (3, 2, 256), (3, 2, 256)],
        [(3, 2, 256), (3, 2, 256), (3, 2, 128), (3, 2, 1)],
    ),
}
MEMORY = {"mnist": (100, 1024), "cifar10": (500, 1024), "video": (2000, 256), "kddcup99": (50, 3)}


def network(name, sample_shape):
    params = presets.paper(name)
    keys = ("memory_size", "memory_unit", "similarity", "temperature", "shrink_threshold")
    return build_network(sample_shape, params["backbone"], None, **{key: params[key] for key in keys}).eval()


def blocks(part):
    """(kernel, stride, channels) of the convolutions, and the modules after each."""
    layers, after = [], []
    for module in part:
        if isinstance(module, nn.modules.conv._ConvNd):
            assert len(set(module.kernel_size)) == len(set(module.stride)) == 1
            layers.append((module.kernel_size[0], module.stride[0], module.out_channels))
            after.append([])
        else:
            after[-1].append(type(module))
    return layers, after


@pytest.mark.parametrize("name", PRINTED)
def test_convolutions_are_those_of_the_paper(name):
    sample_shape, encoder, decoder = PRINTED[name]
    net = network(name, sample_shape)
    norm = nn.BatchNorm3d if name == "video" else nn.BatchNorm2d
    for part, printed in ((net.encoder, encoder), (net.decoder, decoder)):
        layers, after = blocks(part)
        assert layers == printed
        expected = [[norm, nn.ReLU]] * len(printed)
        if part is net.decoder:  # "Except for the last Dconv2, each layer is followed by a batch normalization and a ReLU"
            expected = [*expected[:-1], []]
        assert after == expected
    assert net.memory.items.shape == MEMORY[name]
    assert net(torch.zeros(2, *sample_shape)).reconstruction.shape == (2, *sample_shape)


def test_video_keeps_one_item_per_location():
    net = network("video", (1, 16, 64, 64))
    query = net(torch.zeros(2, 1, 16, 64, 64)).query
    assert query.shape == (2, 256, 1, 4, 4) and net.memory.weights(query).shape == (2, 1, 4, 4, 2000)


def test_kddcup99_is_fully_connected_with_tanh():
    net = network("kddcup99", (120,))
    sizes = [(m.in_features, m.out_features) for m in net.modules() if isinstance(m, nn.Linear)]
    assert sizes == [(120, 60), (60, 30), (30, 10), (10, 3), (3, 10), (10, 30), (30, 60), (60, 120)]
    kinds = [type(m) for m in [*net.encoder, *net.decoder] if isinstance(m, nn.Linear | nn.Tanh)]
    assert kinds == [nn.Linear, nn.Tanh] * 7 + [nn.Linear]  # "Except the last one, each FC layer is followed by a Tanh"
    assert net.memory.items.shape == MEMORY["kddcup99"]


@pytest.mark.parametrize("name", MEMORY)
def test_the_printed_numbers(name):
    params = presets.paper(name)
    assert params["entropy_weight"] == 0.0002 and params["learning_rate"] == 0.0001  # sections 3.4 and 4
    of_images = name in ("mnist", "cifar10")
    assert params["similarity"] == ("dot" if of_images else "cosine")  # equation 5, and the authors' code
    assert params["temperature"] == 1.0  # equation 4
    assert 1 <= params["shrink_threshold"] <= 3  # section 3.3.3: lambda in [1/N, 3/N]
    assert params["anomaly_score"] == "reconstruction"
    params["memory_size"] = -1
    assert presets.paper(name)["memory_size"] == MEMORY[name][0]


@pytest.mark.parametrize(
    "name, shape",
    [("mnist", (12, 28, 28)), ("cifar10", (12, 32, 32, 3)), ("video", (4, 1, 16, 16, 16)), ("kddcup99", (50, 121))],
)
def test_presets_fit_the_shapes_of_their_data(name, shape):
    X = np.random.default_rng(0).normal(size=shape)
    params = presets.paper(name) | {"max_epochs": 1, "memory_size": 20}
    detector = MemAEDetector(**params, random_state=0).fit(X)
    assert detector.reconstruct(X).shape == shape
    assert detector.memory_.shape[1] == MEMORY[name][1]
    assert choose_layout(shape[1:]).sample_shape == detector.sample_shape_


@pytest.mark.parametrize("channels", [1, 3])
def test_the_small_preset_sees_all_frames_at_once_and_keeps_places(channels, rng):
    clips = rng.normal(size=(12, channels, 5, 22, 31))
    params = presets.small_video() | {"max_epochs": 1, "memory_size": 10}
    detector = MemAEDetector(**params, random_state=0).fit(clips)
    assert detector.reconstruct(clips).shape == clips.shape
    assert detector.addressing_weights(clips).shape == (12, 6, 8, 10) and detector.memory_.shape == (10, 64)
    kinds = {type(module) for module in detector.model_[0].modules() if isinstance(module, nn.modules.conv._ConvNd)}
    assert kinds == {nn.Conv2d, nn.ConvTranspose2d}


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match=r"'name' parameter of paper must be one of \['cifar10', .*Got 'imagenet' instead"):
        presets.paper("imagenet")
