"""Devices, precision, and what becomes of batches for which there is no room."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch

from skmemae import MemAEDetector
from skmemae.engine.runtime import Pieces, compiled, compiling_pays, resolve_device, training_precision
from skmemae.engine.training import _backward
from skmemae.network import MemAE, Memory, build_network
from tests.test_training import SETTINGS


def test_auto_is_the_accelerator_or_the_cpu():
    expected = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    assert resolve_device("auto") == expected
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "cpu:x", "meta", ""])
def test_what_cannot_be_used_is_named(device):
    with pytest.raises(ValueError, match=f"'device' parameter is '{device}'"):
        resolve_device(device)


@pytest.mark.parametrize(
    "precision, dtype", [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_precision_of_a_matrix_product_in_training(precision, dtype):
    with training_precision(precision, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


class Small:
    """A device with room for so many samples at a time."""

    def __init__(self, room, error=torch.OutOfMemoryError):
        self.room, self.error, self.done = room, error, []

    def __call__(self, part):
        if len(part) > self.room:
            raise self.error("CUDA out of memory. Tried to allocate 20.00 GiB.")
        self.done.append(len(part))
        return part.sum()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_batches_are_halved_until_there_is_room_and_stay_halved(error):
    small, undone = Small(3, error), []
    pieces, x = Pieces(least=2), torch.arange(10.0)
    with pytest.warns(UserWarning, match=r"no room for 10 samples .* 2 pieces") as warned:
        found = pieces.apply(small, x, lambda: undone.append(1))
    assert len(warned) == 2 and "4 pieces" in str(warned[1].message)
    assert sum(found) == x.sum() and len(undone) == 2 and small.done == [3, 3, 2, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(pieces.apply(small, x)) == 4
        assert len(pieces.apply(small, x[:5])) == 2  # pieces of a short batch have two samples too


def test_a_batch_that_cannot_be_halved_is_a_clear_error():
    with (
        pytest.warns(UserWarning, match="2 pieces"),
        pytest.raises(MemoryError, match=r"no room for 3 sample.*cannot be halved.*Tried to"),
    ):
        Pieces(least=2).apply(Small(1), torch.zeros(5))
    with pytest.raises(MemoryError, match="lower batch_size"):
        Pieces(least=2, may_grow=False).apply(Small(1), torch.zeros(8))


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match="something else"):
        Pieces(least=2).apply(lambda part: (_ for _ in ()).throw(RuntimeError("something else")), torch.zeros(5))


def test_a_fit_and_scores_go_on_with_smaller_batches(table, monkeypatch):
    X, _ = table
    whole = MemAEDetector(max_epochs=5, ensemble_size=1, batch_size=64, random_state=0).fit(X)
    forward = MemAE.forward

    def cramped(self, x):
        if len(x) > 20:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, x)

    monkeypatch.setattr(MemAE, "forward", cramped)
    with pytest.warns(UserWarning, match="batches are cut into 4 pieces"):
        cut = MemAEDetector(max_epochs=5, ensemble_size=1, batch_size=64, validation_fraction=0.0, random_state=0).fit(X[:60])
    assert np.isfinite(cut.decision_scores_).all()
    with pytest.warns(UserWarning, match="no room for 1024 samples"):
        np.testing.assert_allclose(whole.decision_function(X), whole.decision_scores_, rtol=1e-5)


def test_gradients_of_pieces_are_those_of_the_whole_batch():
    network = build_network((4,), "fc", (6, 2), memory_size=3).train()
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    gradients = []
    for count in (1, 4):
        pieces = Pieces(least=2)
        pieces.count = count
        pieces.apply(partial(_backward, network, SETTINGS, 1 / len(x)), x)
        gradients.append([p.grad.clone() for p in network.parameters()])
        network.zero_grad()
    torch.testing.assert_close(*gradients)


def test_each_process_of_a_machine_takes_its_own_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", lambda *args, device: device)
    assert [str(resolve_device("cuda", rank)) for rank in (0, 1, 2, 3)] == ["cuda", "cuda:1", "cuda:0", "cuda:1"]
    assert str(resolve_device("cuda:0", 1)) == "cuda:0" and str(resolve_device("cpu", 1)) == "cpu"


@pytest.mark.parametrize(
    "device, family, steps, pays",
    [("cuda", "fc", 10**5, 1), ("cuda", "fc", 999, 0), ("cpu", "fc", 10**5, 0), ("cuda", "conv2d", 10**5, 0)],
)
def test_networks_are_compiled_where_it_pays_alone(device, family, steps, pays):
    assert compiling_pays(torch.device(device), family, steps) == pays


def test_where_nothing_can_be_compiled_training_goes_on(monkeypatch):
    network = build_network((4,), "fc", (6, 2), memory_size=3)

    def fail(module, **options):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.warns(UserWarning, match="goes on without torch.compile, which failed: no compiler"):
        assert compiled(network, torch.zeros(5, 4)) is network


@pytest.mark.slow
def test_a_compiled_network_has_the_same_gradients():
    network = build_network((4,), "fc", (6, 2), memory_size=3).train()
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    found = compiled(network, x)
    assert found is not network and all(p.grad is None for p in network.parameters())
    gradients = []
    for model in (network, found):
        _backward(model, SETTINGS, 1 / len(x), x)
        gradients.append([p.grad.clone() for p in network.parameters()])
        network.zero_grad()
    torch.testing.assert_close(*gradients)


def test_a_chunk_that_is_cut_is_counted_once(table, monkeypatch):
    X, _ = table
    whole, cut = (MemAEDetector(max_epochs=3, ensemble_size=2, random_state=0) for _ in range(2))
    whole.fit(X)
    weights, second = Memory.weights, []

    def cramped(self, query):
        second.append(len(query))
        if len(query) > 300 and len(second) % 2 == 0:  # when the first member has been looked at
            raise torch.OutOfMemoryError("out of memory")
        return weights(self, query)

    monkeypatch.setattr(Memory, "weights", cramped)
    with pytest.warns(UserWarning, match="no room for 1024 samples"):
        cut.fit(X)
    np.testing.assert_allclose(cut.memory_usage_, whole.memory_usage_, rtol=1e-6)
    assert cut.zero_row_fraction_ == pytest.approx(whole.zero_row_fraction_, rel=1e-6)
    np.testing.assert_allclose(cut.decision_scores_, whole.decision_scores_, rtol=1e-5)
