"""The optimiser and its learning rate."""

import numpy as np
import pytest
import torch

from skmemae.engine.optimiser import Adam, schedule
from skmemae.engine.training import objective
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
        objective(ours.train()(x), x, 2e-4, 0).backward()
        optimiser.step(0.01)
        reference.zero_grad()
        objective(theirs.train()(x), x, 2e-4, 0).backward()
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
