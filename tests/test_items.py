"""Maintenance of memory items in training."""

import pytest
import torch

from skmemae._train import items as module
from skmemae._train.items import LearnedItems, RowItems, random_queries
from skmemae._train.loop import split_rows, train_networks
from skmemae._train.optimiser import Adam
from skmemae.network import build_row_network
from tests.problems import SETTINGS, learned_items, problem


def items_of(network, loader, run, usage=None):
    """Items that start to answer in the second of twenty epochs and are settled from the thirteenth on."""

    def draw(count):
        batches = [loader.samples(rows) for rows in torch.arange(len(loader)).split(32)]
        return random_queries(network, batches, count, run.generator)

    return LearnedItems(network.memory.items, Adam(network), draw, max_epochs=20, usage=usage)


@pytest.mark.parametrize("memory_size", [5, 20, 300])
def test_the_memory_starts_at_distinct_encodings(memory_size):
    network, loader, run = problem(n=100, memory_size=memory_size)
    items, before = network.memory.items.detach(), network.memory.items.detach().clone()
    maintained = items_of(network, loader, run)
    for epoch in (0, 1, 3):
        maintained.begin_epoch(epoch)
        assert torch.equal(items, before)
    maintained.begin_epoch(2)
    with torch.no_grad():
        encodings = network.encoder(loader.samples(torch.arange(100)))
    assert (torch.cdist(items, encodings).amin(dim=1) < 0.2 * encodings.std()).all()
    distances = torch.cdist(items, items) + torch.eye(memory_size) * 9
    assert distances.min() > 0


def test_idle_items_are_revived_and_others_left_alone():
    network, loader, run = problem(memory_size=6)
    maintained = items_of(network, loader, run)
    optimiser = maintained.optimiser
    for moments in (optimiser.means, optimiser.squares):
        for m in moments:
            m.fill_(1.0)
    before = network.memory.items.detach().clone()
    mass = torch.tensor([40.0, 0.0, 30.0, 0.1, 50.0, 80.0])
    for epoch in (0, 1, 12, 19):  # before the memory answers, and when it is settled
        maintained.end_epoch(epoch, mass)
        assert torch.equal(network.memory.items, before)
    maintained.end_epoch(11, mass)
    moved = (network.memory.items != before).any(dim=1)
    assert moved.tolist() == [False, True, False, True, False, False]
    at = next(i for i, p in enumerate(optimiser.parameters) if p is network.memory.items)
    assert optimiser.means[at].sum(dim=1).tolist() == [4, 0, 4, 0, 4, 4]


def test_idle_items_of_a_trained_memory_are_revived_once():
    network, loader, run = problem(memory_size=3)
    before = network.memory.items.detach().clone()
    maintained = items_of(network, loader, run, usage=torch.tensor([0.9, 0.1, 0.0]))
    assert (maintained.first_epoch, maintained.settled_epoch) == (0, 0)
    maintained.begin_epoch(1)
    maintained.end_epoch(0, torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(network.memory.items, before)
    maintained.begin_epoch(0)
    assert (network.memory.items != before).any(dim=1).tolist() == [False, False, True]


def test_a_memory_where_every_item_is_used_is_left_alone():
    network, loader, run = problem(memory_size=6)
    before, state = network.memory.items.detach().clone(), run.generator.get_state()
    items_of(network, loader, run).revive(torch.tensor([9.0, 9, 1, 9, 9, 9]))
    assert torch.equal(network.memory.items, before) and torch.equal(run.generator.get_state(), state)


@pytest.mark.parametrize("revival", [True, False])
def test_revival_puts_a_collapsed_memory_to_use(revival):
    """All items but one start opposite to every query, where nothing reaches them."""
    network, loader, run = problem(n=400, memory_size=16, temperature=0.05)
    loader._resident += 3  # one-sided data, so that queries have a common direction

    class Collapsed(LearnedItems):
        def begin_epoch(self, epoch):
            if epoch == self.first_epoch:
                with torch.no_grad():
                    center = network.encoder(loader.samples(torch.arange(400))).mean(dim=0)
                    self.items.copy_(-1e3 * center)
                    self.items[0] = center

        def revive(self, mass):
            if revival:
                super().revive(mass)

    def collapsed(training):
        learned = learned_items(training)
        return Collapsed(learned.items, learned.optimiser, learned.draw, training.settings.max_epochs)

    split = split_rows(loader, torch.arange(400), 0.1, run)
    train_networks([network], loader, split, SETTINGS._replace(max_epochs=40), run, collapsed)
    used = (network.memory.weights(network.encoder(loader.samples(torch.arange(400)))) > 0).any(dim=0).float().mean()
    assert used > 0.9 if revival else used < 0.5


def test_a_row_is_reconstructed_without_its_own_item():
    generator = torch.Generator().manual_seed(0)
    network = build_row_network(3, (2,), members=2, memory_size=6, generator=generator, temperature=0.1)
    rows = torch.randn(6, 3, generator=generator)
    own = torch.cat([torch.arange(6), torch.tensor([-1])]).expand(2, -1)
    items = RowItems(network, rows.expand(2, -1, -1).contiguous(), own, torch.arange(6), n_training=6)
    items.end_epoch(0, None)
    assert torch.equal(network.memory.rows[1], rows) and torch.equal(network.memory.keys, network.queries(items.examples))
    weights = network.memory.weights(network.queries(rows), **items.hidden(torch.arange(6)))
    assert (weights.diagonal(dim1=1, dim2=2) == 0).all() and (network.memory.weights(network.queries(rows)) > 0).any()


def test_members_that_are_not_trained_on_a_row_have_no_error_on_it():
    generator = torch.Generator().manual_seed(0)
    network = build_row_network(3, (2,), members=1, memory_size=6, generator=generator, temperature=0.1)
    rows = torch.randn(6, 3, generator=generator)
    own = torch.cat([torch.arange(6), torch.tensor([-1])])[None]
    items = RowItems(network, rows[None].clone(), own, torch.arange(6), n_training=4)
    output, target = items.forward(network.train(), rows, torch.arange(6))
    assert torch.equal(target, rows)
    wrong = (output.reconstruction[0] != rows).any(dim=1)
    assert wrong.tolist() == [True] * 4 + [False] * 2


def test_of_many_columns_some_are_reconstructed_in_each_step(monkeypatch):
    monkeypatch.setattr(module, "_RECONSTRUCTED", 3)
    generator = torch.Generator().manual_seed(0)
    network = build_row_network(8, (4, 2), members=2, memory_size=6, generator=generator, temperature=0.1)
    rows = torch.randn(6, 8, generator=generator)
    own = torch.cat([torch.arange(6), torch.tensor([-1])]).expand(2, -1)
    items = RowItems(network, rows.expand(2, -1, -1).contiguous(), own, torch.arange(6), n_training=6)
    whole = network(rows, own[:, :6], items.examples).reconstruction
    for columns in ([0, 2, 4, 6], [1, 3, 5, 7], [0, 2, 4, 6]):
        output, target = items.forward(network, rows, torch.arange(6))
        assert torch.equal(target, rows[:, columns])
        torch.testing.assert_close(output.reconstruction, whole[..., columns])
    items.end_epoch(0, None)
    some = network(rows, own[:, :6], columns=slice(1, None, 2)).reconstruction
    torch.testing.assert_close(some, network(rows, own[:, :6]).reconstruction[..., 1::2])
    items.begin_epoch(3)  # also after a break
    assert torch.equal(items.forward(network, rows, torch.arange(6))[1], rows[:, 1::2])


def test_the_unit_of_queries_is_that_in_which_other_rows_predict_best():
    generator = torch.Generator().manual_seed(0)
    network = build_row_network(2, (2,), members=1, memory_size=200, generator=generator, temperature=0.1)
    rows = torch.randn(1, 200, 2, generator=generator)
    own = torch.cat([torch.arange(200), torch.tensor([-1])])[None]
    items = RowItems(network, rows, own, torch.arange(200), n_training=200)
    network.encoder[-1].weight.data *= 1e-3
    before = network.encoder[-1].weight.clone()
    items.begin_epoch(1)
    assert torch.equal(network.encoder[-1].weight, before)
    items.begin_epoch(0)
    assert network.encoder[-1].weight.norm() > 100 * before.norm()


def test_a_memory_of_equal_rows_keeps_its_unit():
    generator = torch.Generator().manual_seed(0)
    network = build_row_network(2, (2,), members=1, memory_size=20, generator=generator, temperature=0.1)
    own = torch.cat([torch.arange(20), torch.tensor([-1])])[None]
    before = [parameter.clone() for parameter in network.parameters()]
    RowItems(network, torch.zeros(1, 20, 2), own, torch.arange(20), n_training=20).begin_epoch(0)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
