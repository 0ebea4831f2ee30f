"""Upkeep of the memory."""

import pytest
import torch
from skmemae._train.upkeep import LearnedItems, random_queries

from skmemae._train.loop import train_members
from skmemae._train.optimiser import Adam
from tests.problems import ALONE, SETTINGS, problem


def learned_items(network, loader, n, generator, usage=None):
    """Items that start to answer in the second of twenty epochs and are settled from the thirteenth on."""
    return LearnedItems(
        network,
        Adam(network),
        lambda count: random_queries(count, network, loader, torch.arange(n), 32, generator, ALONE),
        max_epochs=20,
        usage=usage,
    )


@pytest.mark.parametrize("memory_size", [5, 20, 300])
def test_the_memory_starts_at_distinct_encodings(memory_size):
    network, loader, generator = problem(n=100, memory_size=memory_size)
    items, before = network.memory.items.detach(), network.memory.items.detach().clone()
    tended = learned_items(network, loader, 100, generator)
    for epoch in (0, 1, 3):
        tended.begin_epoch(epoch)
        assert torch.equal(items, before)
    tended.begin_epoch(2)
    with torch.no_grad():
        encodings = network.encoder(loader.samples(torch.arange(100)))
    assert (torch.cdist(items, encodings).amin(dim=1) < 0.2 * encodings.std()).all()
    distances = torch.cdist(items, items) + torch.eye(memory_size) * 9
    assert distances.min() > 0


def test_items_that_nobody_uses_are_revived_and_others_left_alone():
    network, loader, generator = problem(memory_size=6)
    tended = learned_items(network, loader, 200, generator)
    optimiser = tended.optimiser
    for moments in (optimiser.means, optimiser.squares):
        for m in moments:
            m.fill_(1.0)
    before = network.memory.items.detach().clone()
    mass = torch.tensor([40.0, 0.0, 30.0, 0.1, 50.0, 80.0])
    for epoch in (0, 1, 12, 19):  # before the memory answers, and when it is settled
        tended.end_epoch(epoch, mass)
        assert torch.equal(network.memory.items, before)
    tended.end_epoch(11, mass)
    moved = (network.memory.items != before).any(dim=1)
    assert moved.tolist() == [False, True, False, True, False, False]
    at = next(i for i, p in enumerate(optimiser.parameters) if p is network.memory.items)
    assert optimiser.means[at].sum(dim=1).tolist() == [4, 0, 4, 0, 4, 4]


def test_of_a_memory_that_has_been_trained_idle_items_are_revived_once():
    network, loader, generator = problem(memory_size=3)
    before = network.memory.items.detach().clone()
    tended = learned_items(network, loader, 200, generator, usage=torch.tensor([0.9, 0.1, 0.0]))
    assert (tended.first_epoch, tended.settled_epoch) == (0, 0)
    tended.begin_epoch(1)
    tended.end_epoch(0, torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(network.memory.items, before)
    tended.begin_epoch(0)
    assert (network.memory.items != before).any(dim=1).tolist() == [False, False, True]


def test_a_memory_where_every_item_is_used_is_left_alone():
    network, loader, generator = problem(memory_size=6)
    before, state = network.memory.items.detach().clone(), generator.get_state()
    learned_items(network, loader, 200, generator).revive(torch.tensor([9.0, 9, 1, 9, 9, 9]))
    assert torch.equal(network.memory.items, before) and torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("revival", [True, False])
def test_revival_puts_a_collapsed_memory_to_use(monkeypatch, revival):
    """All items but one start opposite to every query, where nothing reaches them."""

    network, loader, generator = problem(n=400, memory_size=16, temperature=0.05)
    loader._resident += 3  # one-sided data, so that queries have a common direction

    def collapse(self, epoch):
        if epoch == self.first_epoch:
            with torch.no_grad():
                center = network.encoder(loader.samples(torch.arange(400))).mean(dim=0)
                network.memory.items.copy_(-1e3 * center)
                network.memory.items[0] = center

    monkeypatch.setattr(LearnedItems, "begin_epoch", collapse)
    if not revival:
        monkeypatch.setattr(LearnedItems, "revive", lambda *args: None)
    train_members([network], loader, SETTINGS._replace(max_epochs=40), generator, torch.arange(400), ALONE)
    used = (network.memory.weights(network.encoder(loader.samples(torch.arange(400)))) > 0).any(dim=0).float().mean()
    assert used > 0.9 if revival else used < 0.5
