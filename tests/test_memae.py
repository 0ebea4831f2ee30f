"""Encoder, memory and decoder together: one network, or those of several members side by side."""

import pytest
import torch
from torch import nn

from skmemae.network import build_network, build_row_network
from skmemae.network.backbones import Backbone

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
    positions = output.query.shape[2:] if unit == "location" else ()
    assert network.memory.weights(output.query).shape == (3, *positions, 12)
    assert network.memory.items.shape[1] == widths[-1]
    assert network.decode_items(network.memory.items[3:8], shape).shape == (5, *shape)


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
    decoded = network.decode_items(network.memory.items, (1, 8, 8))
    torch.testing.assert_close(output.reconstruction, decoded.expand(3, 1, 8, 8))


def test_the_network_without_its_memory_is_the_autoencoder():
    network = build_network((5,), "fc", (8, 3), memory_size=4)
    x = torch.randn(6, 5)
    plain = network.without_memory()
    assert plain.memory is None and plain.encoder is network.encoder
    assert torch.equal(plain(x).reconstruction, network.decoder(network.encoder(x)))


def test_a_backbone_tells_the_memory_how_many_heads_to_have():
    def backbone(sample_shape):
        return Backbone(nn.Linear(sample_shape[0], 6), nn.Linear(6, sample_shape[0]), heads=3)

    assert build_network((5,), backbone, memory_size=4).memory.heads == 3
    assert build_network((5,), lambda shape: backbone(shape)[:2], memory_size=4).memory.heads == 1
    assert build_network((5,), "fc", (6,), memory_size=4, memory_heads=2).memory.heads == 2


def rows_network(members=3, memory_size=7, widths=(6, 2), seed=0):
    """Members whose memories hold random rows of five numbers, addressed by keys of two."""
    generator = torch.Generator().manual_seed(seed)
    return build_row_network(5, widths, members, memory_size, generator, similarity="distance", temperature=0.1)


def test_members_side_by_side_compute_what_each_would_alone():
    together, x = rows_network(), torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    output = together.train()(x)
    assert output.reconstruction.shape == (3, 11, 5) and output.query.shape == (3, 11, 2)
    for i in range(3):
        alone = rows_network(members=1)
        alone.load_state_dict({name: value[i : i + 1] for name, value in together.state_dict().items()})
        torch.testing.assert_close(tuple(part[i : i + 1] for part in output), tuple(alone.train()(x)))


def test_the_decoder_corrects_the_row_that_is_read_out():
    network, x = rows_network(), torch.randn(4, 5)
    output = network(x)
    correction = network.decoder(output.read_out[..., :2])
    assert correction.abs().max() > 0
    torch.testing.assert_close(output.reconstruction, network.memory.weights(output.query) @ network.memory.rows + correction)
    torch.testing.assert_close(network.decode(output.read_out), output.reconstruction)


def test_without_a_memory_members_side_by_side_are_plain_autoencoders():
    network, x = rows_network(memory_size=0), torch.randn(4, 5)
    output = network(x)
    assert network.memory is None and output.query.shape == (3, 4, 2) and output.read_out is None
    assert torch.equal(output.reconstruction, network.decoder(network.encoder(x.expand(3, 4, 5))))


def test_examples_answer_in_place_of_the_memory_and_teach_the_encoder():
    network, x, examples = rows_network().train(), torch.randn(4, 5), torch.randn(3, 7, 5)
    output = network(x, examples=examples)
    assert not torch.allclose(output.reconstruction, network(x).reconstruction)
    output.reconstruction.sum().backward()
    of_rows_alone = [p.grad.clone() for p in network.encoder.parameters()]
    with torch.no_grad():
        network.memory.keys.copy_(network.queries(examples))
        network.memory.rows.copy_(examples)
    torch.testing.assert_close(network(x).reconstruction, output.reconstruction)
    network.zero_grad()
    network(x).reconstruction.sum().backward()
    pairs = zip(of_rows_alone, network.encoder.parameters(), strict=True)
    assert any(not torch.allclose(gradient, p.grad) for gradient, p in pairs)  # the keys of examples have one as well


def test_parameters_and_rows_of_members_come_from_the_generator_alone():
    state = torch.get_rng_state()
    first, same, other = rows_network(seed=0), rows_network(seed=0), rows_network(seed=1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]) and torch.isfinite(value).all()
        assert value.eq(other.state_dict()[name]).all() == (name == "decoder.2.bias"), name  # which begins at zero
    assert torch.equal(state, torch.get_rng_state()) and not first.training
    assert not torch.equal(first.memory.rows[0], first.memory.rows[1])
