"""What users' modules draw, apart from what anybody else draws."""

from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest
import torch

from skmemae.network import RandomStream
from skmemae.network.randomness import draw_seed


def draw(stream):
    with stream.active():
        return torch.rand(3)


def test_a_stream_goes_on_where_it_stopped_whatever_is_drawn_outside():
    torch.manual_seed(0)
    stream, again = RandomStream(5), RandomStream(5)
    first = draw(stream)
    torch.rand(7)
    second = draw(stream)
    assert torch.equal(first, draw(again)) and torch.equal(second, draw(again))
    assert not torch.equal(first, second) and not torch.equal(first, draw(RandomStream(6)))


def test_what_is_drawn_outside_does_not_move():
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    draw(RandomStream(1))
    with pytest.raises(KeyError), RandomStream(2).active():
        torch.rand(2)
        raise KeyError
    assert torch.equal(torch.rand(4), expected)


def test_threads_take_turns():
    def slow(seed):
        with RandomStream(seed).active():
            first = torch.rand(1)
            sleep(0.02)
            return torch.cat([first, torch.rand(1)])

    expected = [slow(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(slow, range(4)), expected))


def test_seeds_are_those_of_every_version_of_torch():
    generator = torch.Generator().manual_seed(0)
    assert [draw_seed(generator) for _ in range(3)] == [398764591, 1478610112, 1537364731]
