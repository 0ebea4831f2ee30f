"""The optimiser and its learning rate."""

import numpy as np
import pytest
import torch

from skmemae._train.loop import objective
from skmemae._train.optimiser import Adam, schedule
from skmemae.network import build_network


def test_the_schedule_rises_and_falls_to_zero():
    values = [schedule(x) for x in np.linspace(0, 1, 101)]
    assert max(values) == 1 and values[10] == 1 and values[-1] == pytest.approx(0)
    assert all(b >= a for a, b in zip(values[:10], values[1:11], strict=True))
    assert all(b <= a for a, b in zip(values[10:-1], values[11:], strict=True))


def test_our_adam_is_torchs_adam():
    ours, theirs = (build_network((4,), "fc", (6, 2), memory_size=3) for _ in range(2))
    optimiser, reference = Adam(ours), torch.optim.Adam(theirs.parameters(), lr=0.01)
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        objective(ours.train()(x), x, 2e-4, 0)[0].backward()
        optimiser.step(0.01)
        reference.zero_grad()
        objective(theirs.train()(x), x, 2e-4, 0)[0].backward()
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_parameters_without_a_gradient_stay_and_frozen_ones_are_none_of_its():
    network = build_network((4,), "fc", (6, 2), memory_size=3)
    network.decoder.requires_grad_(False)
    optimiser = Adam(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.encoder(torch.ones(5, 4)).sum().backward()
    optimiser.step(0.01)
    moved = {name.partition(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"encoder"}
    assert all(p.grad is None for p in network.parameters())


def test_moments_of_some_rows_can_be_forgotten():
    network = build_network((4,), "fc", (6, 2), memory_size=3)
    optimiser, items = Adam(network), network.memory.items
    items.grad = torch.ones_like(items)
    optimiser.step(0.01)
    optimiser.forget(items, torch.tensor([1]))
    at = next(i for i, p in enumerate(optimiser.parameters) if p is items)
    for moments in (optimiser.means[at], optimiser.squares[at]):
        assert (moments != 0).all(dim=1).tolist() == [True, False, True]
