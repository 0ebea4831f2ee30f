"""The networks of all members as one module."""

import pytest
import torch
from torch import nn

from skmemae.network import Ensemble, MemAE, RowMemAE

MEMORY = {"similarity": "dot", "temperature": 0.3, "shrink_threshold": 2.0}
BASE = {
    "members": 3,
    "widths": (8, 4),
    "memory_size": 12,
    "memory_heads": 1,
    "per_sample": True,
    "side_by_side": False,
    **MEMORY,
}


def linear(sample_shape):
    return nn.Linear(sample_shape[0], 4), nn.Linear(4, sample_shape[0])


KINDS = {
    "vectors": {"sample_shape": (6,), "backbone": "fc", "memory_heads": 2},
    "images": {"sample_shape": (1, 7, 7), "backbone": "conv2d"},
    "large images": {"sample_shape": (3, 19, 14), "backbone": "conv2d", "pixel_size": 2},
    "clips": {"sample_shape": (1, 4, 6, 6), "backbone": "conv3d", "per_sample": False},
    "a callable": {"sample_shape": (6,), "backbone": linear, "widths": None},
    "rows": {"sample_shape": (6,), "backbone": "fc", "side_by_side": True},
    "one member": {"sample_shape": (6,), "backbone": "fc", "members": 1},
}


def ensemble(kind="vectors", seed=0, **changed):
    return Ensemble.build({**BASE, **KINDS[kind], **changed}, torch.Generator().manual_seed(seed))


def samples(kind, n=5):
    return torch.randn(n, *KINDS[kind]["sample_shape"], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory_size", [0, 12])
def test_every_output_has_a_leading_axis_of_members(kind, memory_size):
    networks, x = ensemble(kind, memory_size=memory_size), samples(kind)
    output, members = networks(x), networks.members
    assert output.reconstruction.shape == (members, *x.shape)
    assert output.query.shape[:2] == (members, 5)
    assert output.entropy is output.mass is None
    if not memory_size:
        assert networks.memories == [] and output.read_out is None and networks.items().shape == (0, 0)
        return
    positions = output.query.shape[3:]
    assert networks.weights(output.query).shape == (members, 5, *positions, 12)
    used, missed, effective = networks.use(x)
    assert used.shape == (members, 5, 12) and missed.shape == effective.shape == (members, 5)
    trained = networks.train()(x)
    assert trained.mass.shape == (members, 12) and trained.entropy.shape == (members, 5, *positions)


@pytest.mark.parametrize("kind", ["vectors", "images", "clips"])
def test_members_are_networks_of_their_own(kind):
    networks, x = ensemble(kind), samples(kind)
    output = networks(x)
    for number, network in enumerate(networks.networks):
        alone = network(x)
        for found, expected in zip(output[:3], alone[:3], strict=True):
            assert torch.equal(found[number], expected)
        assert torch.equal(networks.weights(output.query)[number], network.memory.weights(alone.query))
        for found, expected in zip(networks.use(x), network.memory.use(alone.query), strict=True):
            assert torch.equal(found[number], expected)
    assert not torch.equal(output.reconstruction[0], output.reconstruction[1])


def test_an_item_is_hidden_from_a_sample_of_a_memory_of_rows():
    networks, x = ensemble("rows"), samples("rows")
    hidden = torch.full((3, 5), -1)
    hidden[1, 2] = 7
    weights = networks.weights(networks(x).query, hidden)
    assert weights[1, 2, 7] == 0 and networks.use(x, hidden)[0][1, 2, 7] == 0
    changed = (networks(x, hidden).reconstruction != networks(x).reconstruction).any(dim=2)
    assert changed.nonzero().tolist() in ([[1, 2]], [])  # of a query that had no weight for it
    most = networks.weights(networks(x).query).argmax(dim=2)
    assert (networks(x, most).reconstruction != networks(x).reconstruction).any(dim=2).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory_size", [0, 12])
def test_an_empty_ensemble_of_a_config_loads_the_state_and_is_the_ensemble(kind, memory_size):
    networks, x = ensemble(kind, seed=3, memory_size=memory_size), samples(kind)
    before = torch.get_rng_state()
    again = Ensemble.empty(networks.config)
    again.load_state_dict({name: value.clone() for name, value in networks.state_dict().items()}, assign=True)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(again(x).reconstruction, networks(x).reconstruction)
    assert not any(module.training for module in again.modules()) and all(p.requires_grad for p in again.parameters())
    assert again.config == networks.config


@pytest.mark.parametrize("kind", ["vectors", "images", "clips", "rows"])
def test_a_state_of_other_sizes_is_refused(kind):
    networks = ensemble(kind)
    shape = networks.config["sample_shape"]
    for changed in ({"memory_size": 13}, {"sample_shape": (*shape[:-1], 9), "per_sample": True}, {"members": 4}):
        with pytest.raises(RuntimeError, match=r"size mismatch|Missing key"):
            Ensemble.empty({**networks.config, **changed}).load_state_dict(networks.state_dict(), assign=True)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_come_from_the_generator_alone(kind):
    def numbers(seed):
        return torch.cat([value.flatten().float() for value in ensemble(kind, seed).state_dict().values()])

    state = torch.get_rng_state()
    assert torch.equal(numbers(0), numbers(0)) and not torch.equal(numbers(0), numbers(1))
    assert torch.equal(state, torch.get_rng_state())


def test_a_config_without_pixel_size_is_one_of_single_pixels():
    networks, x = ensemble("images", pixel_size=1), samples("images")
    older = {name: value for name, value in networks.config.items() if name != "pixel_size"}
    again = Ensemble.empty(older)
    again.load_state_dict(networks.state_dict(), assign=True)
    assert torch.equal(again(x).reconstruction, networks(x).reconstruction)


def test_the_config_of_a_callable_tells_what_its_networks_turned_out_to_be():
    config = ensemble("a callable").config
    assert (config["query_width"], config["memory_heads"]) == (4, 1)
    assert ensemble("a callable", memory_size=0).config["query_width"] is None


@pytest.mark.parametrize("kind", ["vectors", "images", "clips", "one member"])
def test_items_are_those_of_one_member_after_the_other_and_decode_by_their_own_network(kind):
    networks = ensemble(kind)
    numbers = torch.tensor([7, 0, 7, 11] if kind == "one member" else [30, 0, 30, 12, 11])
    items = networks.items()
    assert items.shape == (12 * networks.members, 4)
    decoded = networks.decode_items(numbers)
    assert decoded.shape == (len(numbers), *KINDS[kind]["sample_shape"])
    for number, sample in zip(numbers.tolist(), decoded, strict=True):
        network = networks.networks[number // 12]
        assert torch.equal(items[number], network.memory.items[number % 12])
        expected = network.decode_items(items[number : number + 1], KINDS[kind]["sample_shape"])[0]
        torch.testing.assert_close(sample, expected)
    assert networks.decode_items(numbers[:0]).shape == (0, *KINDS[kind]["sample_shape"])


def test_items_of_rows_are_keys_and_rows_and_decode_to_the_row_with_its_correction():
    networks = ensemble("rows")
    memory, items = networks.rows.memory, networks.items()
    assert torch.equal(items, torch.cat([memory.keys, memory.rows], dim=2).flatten(0, 1))
    numbers = torch.tensor([35, 0, 13])
    whole = networks.rows.decode(items.unflatten(0, (3, 12))).flatten(0, 1)
    torch.testing.assert_close(networks.decode_items(numbers), whole[numbers])


def test_kinds_of_networks_are_told_apart():
    assert isinstance(ensemble("rows").rows, RowMemAE) and len(ensemble("rows").networks) == 1
    assert ensemble("vectors").rows is None and isinstance(ensemble("vectors").networks[2], MemAE)
