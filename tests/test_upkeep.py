"""Upkeep of the memory."""

import pytest
import torch

from skmemae._train import loop
from skmemae._train.loop import train_members
from skmemae._train.optimiser import Adam
from skmemae._train.upkeep import fill_memory, revive_items
from tests.problems import ALONE, SETTINGS, problem


@pytest.mark.parametrize("memory_size", [5, 20, 300])
def test_the_memory_starts_at_distinct_encodings(memory_size):
    network, loader, generator = problem(n=100, memory_size=memory_size)
    fill_memory(network, loader, torch.arange(100), 32, generator, ALONE)
    items = network.memory.items.detach()
    with torch.no_grad():
        encodings = network.encoder(loader.samples(torch.arange(100)))
    assert (torch.cdist(items, encodings).amin(dim=1) < 0.2 * encodings.std()).all()
    distances = torch.cdist(items, items) + torch.eye(memory_size) * 9
    assert distances.min() > 0


def test_items_that_nobody_uses_are_revived_and_others_left_alone():
    network, loader, generator = problem(memory_size=6)
    optimiser = Adam(network)
    for moments in (optimiser.means, optimiser.squares):
        for m in moments:
            m.fill_(1.0)
    before = network.memory.items.detach().clone()
    mass = torch.tensor([40.0, 0.0, 30.0, 0.1, 50.0, 80.0])
    revive_items(network, mass, loader, torch.arange(200), 32, optimiser, generator, ALONE)
    moved = (network.memory.items != before).any(dim=1)
    assert moved.tolist() == [False, True, False, True, False, False]
    at = next(i for i, p in enumerate(optimiser.parameters) if p is network.memory.items)
    assert optimiser.means[at].sum(dim=1).tolist() == [4, 0, 4, 0, 4, 4]


def test_a_memory_where_every_item_is_used_is_left_alone():
    network, loader, generator = problem(memory_size=6)
    before, state = network.memory.items.detach().clone(), generator.get_state()
    revive_items(network, torch.tensor([9.0, 9, 1, 9, 9, 9]), loader, torch.arange(200), 32, None, generator, ALONE)
    assert torch.equal(network.memory.items, before) and torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("revival", [True, False])
def test_revival_puts_a_collapsed_memory_to_use(monkeypatch, revival):
    """All items but one start opposite to every query, where nothing reaches them."""

    def collapse(network, loader, rows, batch_size, generator, processes):
        with torch.no_grad():
            center = network.encoder(loader.samples(rows)).mean(dim=0)
            network.memory.items.copy_(-1e3 * center)
            network.memory.items[0] = center

    monkeypatch.setattr(loop, "fill_memory", collapse)
    if not revival:
        monkeypatch.setattr(loop, "revive_items", lambda *args: None)
    network, loader, generator = problem(n=400, memory_size=16, temperature=0.05)
    loader._resident += 3  # one-sided data, so that queries have a common direction
    train_members([network], loader, SETTINGS._replace(max_epochs=40), generator, torch.arange(400), ALONE)
    used = (network.memory.weights(network.encoder(loader.samples(torch.arange(400)))) > 0).any(dim=0).float().mean()
    assert used > 0.9 if revival else used < 0.5
