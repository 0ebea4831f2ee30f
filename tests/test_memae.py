"""The whole network, built and restored."""

import pytest
import torch
from torch import nn

from skmemae.network import MemAE, build_network, restore_network

SHAPES = [
    ((1,), "fc", (8, 3), "sample"),
    ((7,), "fc", (8, 3), "sample"),
    ((1, 1, 1), "conv2d", (4, 3), "sample"),
    ((1, 8, 8), "conv2d", (4, 6), "sample"),
    ((3, 17, 23), "conv2d", (4, 6, 5), "location"),
    ((2, 9, 31), "conv2d", (4, 6, 5), "sample"),
    ((1, 5, 13, 11), "conv3d", (4, 6), "location"),
    ((3, 1, 7, 2), "conv3d", (4, 6), "sample"),
]


@pytest.mark.parametrize("shape, backbone, widths, unit", SHAPES)
@pytest.mark.parametrize("memory_size", [0, 12])
def test_the_reconstruction_has_the_samples_exact_shape(shape, backbone, widths, unit, memory_size):
    network = build_network(shape, backbone, widths, memory_size=memory_size, memory_unit=unit)
    output = network(torch.randn(3, *shape))
    assert output.reconstruction.shape == (3, *shape)
    if not memory_size:
        assert output.read_out is None and network.memory is None
        return
    positions = output.encoding.shape[2:] if unit == "location" else ()
    assert network.memory.weights(network.queries(output.encoding)).shape == (3, *positions, 12)
    assert network.memory.items.shape[1] == widths[-1]
    assert network.decode_items(network.memory.items[3:8], output.encoding.shape[1:]).shape == (5, *shape)


def test_the_decoder_sees_nothing_but_the_read_out():
    network = build_network((6,), "fc", (8, 4), memory_size=1)
    reconstruction = network(torch.randn(10, 6)).reconstruction
    torch.testing.assert_close(reconstruction, reconstruction[:1].expand(10, 6))


def test_parameters_come_from_the_generator_alone():
    state = torch.get_rng_state()

    def parameters(seed):
        network = build_network((1, 9, 9), "conv2d", (4, 6), memory_size=5, generator=torch.Generator().manual_seed(seed))
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    assert torch.equal(parameters(0), parameters(0)) and not torch.equal(parameters(0), parameters(1))
    assert torch.isfinite(parameters(0)).all()
    assert torch.equal(state, torch.get_rng_state())


def test_a_callable_backbone_keeps_its_own_initialisation_and_the_global_generator():
    def backbone(sample_shape):
        encoder = nn.Linear(sample_shape[0], 2)
        nn.init.constant_(encoder.bias, 3.0)
        return encoder, nn.Linear(2, sample_shape[0])

    state = torch.get_rng_state()
    first, second = (build_network((5,), backbone, None, memory_size=4) for _ in range(2))
    assert (first.encoder.bias == 3).all()
    assert torch.equal(first.decoder.weight, second.decoder.weight)
    assert torch.equal(state, torch.get_rng_state())


def test_a_backbone_that_loses_the_shape_is_refused():
    with pytest.raises(ValueError, match=r"decoder that gives samples of shape \(4,\), but samples have shape \(5,\)"):
        build_network((5,), lambda shape: (nn.Linear(5, 2), nn.Linear(2, 4)), None, memory_size=3)


@pytest.mark.parametrize("pair", [None, nn.Linear(5, 5), (nn.Linear(5, 2),), (nn.Linear(5, 2), "decoder")])
def test_a_backbone_that_is_no_pair_of_modules_is_refused(pair):
    with pytest.raises(TypeError, match="'backbone' parameter must return a pair of torch.nn.Module"):
        build_network((5,), lambda shape: pair, None, memory_size=3)


@pytest.mark.parametrize("unit", ["sample", "location"])
def test_an_item_decodes_to_what_its_query_would_get(unit):
    network = build_network((1, 8, 8), "conv2d", (4, 6), memory_size=1, memory_unit=unit)
    output = network(torch.randn(3, 1, 8, 8))
    decoded = network.decode_items(network.memory.items, output.encoding.shape[1:])
    torch.testing.assert_close(output.reconstruction, decoded.expand(3, 1, 8, 8))


def linear(sample_shape):
    return nn.Linear(sample_shape[0], 4), nn.Linear(4, sample_shape[0])


@pytest.mark.parametrize(
    "shape, backbone, unit", [((6,), "fc", "sample"), ((1, 7, 7), "conv2d", "location"), ((6,), linear, "sample")]
)
@pytest.mark.parametrize("memory_size", [0, 12])
def test_a_restored_network_is_the_network(shape, backbone, unit, memory_size):
    memory = {"similarity": "dot", "temperature": 0.3, "shrink_threshold": 2.0, "memory_heads": 2}
    spec = {"sample_shape": shape, "backbone": backbone, "widths": (8, 4), "memory_size": memory_size, "memory_unit": unit}
    network = build_network(**spec, **memory, generator=torch.Generator().manual_seed(3))
    state = torch.get_rng_state()
    again = restore_network({name: value.clone() for name, value in network.state_dict().items()}, **spec, **memory)
    assert torch.equal(state, torch.get_rng_state())
    x = torch.randn(5, *shape)
    assert torch.equal(again(x).reconstruction, network(x).reconstruction)
    assert not again.training and all(p.requires_grad for p in again.parameters())
    with pytest.raises(RuntimeError, match=r"size mismatch|Missing key"):
        restore_network(network.state_dict(), **spec | {"sample_shape": (*shape[:-1], 9), "memory_unit": "sample"}, **memory)


def test_the_network_without_its_memory_is_the_autoencoder():
    network = build_network((5,), "fc", (8, 3), memory_size=4)
    x = torch.randn(6, 5)
    plain = MemAE(network.encoder, network.decoder)
    assert torch.equal(plain(x).reconstruction, network.decoder(network.encoder(x)))
