"""Devices, precision, and what becomes of batches for which there is no room."""

import threading
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmemae import MemAEDetector, MemoryCollapseWarning
from skmemae._runtime import MicroBatches, is_out_of_memory, isolated, resolve_device, training_dtype, warn_caller
from skmemae._train.loop import Split, Training
from skmemae.network import Memory, RowMemAE
from tests.problems import SETTINGS, data, detector, problem


def test_auto_is_the_accelerator_or_the_cpu():
    expected = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    assert resolve_device("auto") == expected
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "cpu:x", "meta", ""])
def test_what_cannot_be_used_is_named(device):
    with pytest.raises(ValueError, match=f"'device' parameter is '{device}'"):
        resolve_device(device)


def test_precision_is_that_of_the_device_unless_it_is_asked_for(monkeypatch):
    cpu, cuda, mps = map(torch.device, ("cpu", "cuda", "mps"))
    assert training_dtype("auto", cpu) == training_dtype("float32", cpu) == torch.float32
    assert training_dtype("bfloat16", cpu) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert [training_dtype(name, cuda) for name in ("auto", "float32")] == [torch.bfloat16, torch.float32]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert training_dtype("auto", cuda) == training_dtype("auto", mps) == torch.float32
    for device in (cuda, mps):
        with pytest.raises(ValueError, match=f"'bfloat16', which device '{device}' does not have; 'float32' is accepted"):
            training_dtype("bfloat16", device)


@pytest.mark.parametrize(
    ("name", "score"), [("table", "auto"), ("images", "smooth-turns"), ("clips", "relative-turns"), ("clips", "local-paces")]
)
def test_training_in_bfloat16_is_near_and_leaves_weights_in_float32(name, score):
    X = data()[name]
    full, half, again = (
        detector(precision=precision, max_epochs=10, anomaly_score=score).fit(X)
        for precision in ("float32", "bfloat16", "bfloat16")
    )
    assert (full.resolved_params_["precision"], half.resolved_params_["precision"]) == ("float32", "bfloat16")
    np.testing.assert_array_equal(half.decision_scores_, again.decision_scores_)
    assert not np.array_equal(full.decision_scores_, half.decision_scores_)
    assert spearmanr(full.decision_scores_, half.decision_scores_).statistic > 0.7
    assert {value.dtype for value in half._model.parameters()} == {torch.float32}


class Small:
    """A device with room for so many samples at a time."""

    def __init__(self, room, error=torch.OutOfMemoryError):
        self.room, self.error, self.done = room, error, []

    def __call__(self, part):
        if len(part) > self.room:
            raise self.error("CUDA out of memory. Tried to allocate 20.00 GiB.")
        self.done.append(len(part))
        return part.sum()


@pytest.mark.filterwarnings("ignore:.*has no room for")
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_batches_are_halved_until_there_is_room_and_stay_halved(error):
    small, undone = Small(3, error), []
    micro, x = MicroBatches(least=2), torch.arange(10.0)
    with pytest.warns(UserWarning, match=r"no room for 10 samples .* 2 parts") as warned:
        found = micro.map(small, x, undo=lambda: undone.append(1))
    assert len(warned) == 2 and "4 parts" in str(warned[1].message)
    assert sum(found) == x.sum() and len(undone) == 2 and small.done == [3, 3, 2, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(micro.map(small, x)) == 4
        assert len(micro.map(small, x[:5])) == 2  # parts of a short batch have two samples too


def test_a_batch_that_cannot_be_halved_is_a_clear_error():
    with (
        pytest.warns(UserWarning, match="2 parts"),
        pytest.raises(MemoryError, match=r"no room for 3 sample.*cannot be halved.*Tried to"),
    ):
        MicroBatches(least=2).map(Small(1), torch.zeros(5))
    with pytest.raises(MemoryError, match="lower batch_size"):
        MicroBatches(least=2, may_split=False).map(Small(1), torch.zeros(8))


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match="something else"):
        MicroBatches(least=2).map(lambda part: (_ for _ in ()).throw(RuntimeError("something else")), torch.zeros(5))


@pytest.mark.filterwarnings("ignore:.*has no room for")
def test_a_fit_and_scores_go_on_with_smaller_batches(table, monkeypatch):
    X, _ = table
    whole = MemAEDetector(max_epochs=5, ensemble_size=1, batch_size=64, random_state=0).fit(X)
    forward = RowMemAE.forward

    def cramped(self, x, *args, **kwargs):
        if len(x) > 20:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(RowMemAE, "forward", cramped)
    with pytest.warns(UserWarning, match="batches are cut into 4 parts"):
        cut = MemAEDetector(max_epochs=5, ensemble_size=1, batch_size=64, validation_fraction=0.0, random_state=0).fit(X[:60])
    assert np.isfinite(cut.decision_scores_).all()
    with pytest.warns(UserWarning, match="no room for 512 samples"):
        np.testing.assert_allclose(whole.decision_function(X), whole.decision_scores_, rtol=1e-5)


def test_gradients_of_parts_are_those_of_the_whole_batch():
    network, loader, run = problem(n=10)
    rows, gradients = torch.arange(10), []
    training = Training(network.train(), loader, Split(rows, rows[:0]), SETTINGS, run)
    for count in (1, 4):
        micro = MicroBatches(least=2)
        micro.count = count
        micro.map(lambda x, some: training.backward(network, x, some, 0.1), loader.samples(rows), rows)
        gradients.append([p.grad.clone() for p in network.parameters()])
        network.zero_grad()
    torch.testing.assert_close(*gradients)


def test_each_process_of_a_machine_takes_its_own_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", lambda *args, device: device)
    assert [str(resolve_device("cuda", rank)) for rank in (0, 1, 2, 3)] == ["cuda", "cuda:1", "cuda:0", "cuda:1"]
    assert str(resolve_device("cuda:0", 1)) == "cuda:0" and str(resolve_device("cpu", 1)) == "cpu"


def test_a_chunk_that_is_cut_is_counted_once(table, monkeypatch):
    X, _ = table
    params = {"memory_unit": "sample", "max_epochs": 3, "ensemble_size": 2, "random_state": 0}
    whole, cut = (MemAEDetector(**params) for _ in range(2))
    whole.fit(X)
    use, asked = Memory.use, []

    def cramped(self, query):
        asked.append(len(query))
        if len(query) > 200 and len(asked) % 2 == 0:  # when the first network has been looked at
            raise torch.OutOfMemoryError("out of memory")
        return use(self, query)

    monkeypatch.setattr(Memory, "use", cramped)
    with pytest.warns(UserWarning, match="no room for 300 samples"):
        cut.fit(X)
    np.testing.assert_allclose(cut.memory_usage_, whole.memory_usage_, rtol=1e-6)
    assert cut.zero_row_fraction_ == pytest.approx(whole.zero_row_fraction_, rel=1e-6)
    np.testing.assert_allclose(cut.decision_scores_, whole.decision_scores_, rtol=1e-5)


def test_a_part_has_as_many_samples_as_there_was_room_for():
    micro = MicroBatches(least=2)
    assert micro.size(10) == 10
    micro.count = 4
    assert micro.size(10) == 2 and micro.size(3) == 1


def test_running_out_of_memory_has_several_messages():
    said = [
        "CUDA out of memory",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        "not enough memory",
    ]
    assert all(is_out_of_memory(RuntimeError(text)) for text in said)
    assert is_out_of_memory(torch.OutOfMemoryError()) and not is_out_of_memory(RuntimeError("shapes do not match"))


def settings_here():
    """Everything of torch's that a caller may have set: gradients, inference, autocast, and dtype and device of new tensors."""
    x = torch.ones(2, 2)
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_cache_enabled(),
        x.dtype,
        x.device.type,
        torch.tensor([1.5]).dtype,
        torch.full((1,), 0.5).dtype,
        torch.arange(3).dtype,
        torch.zeros(2, dtype=torch.float64).dtype,
        (x @ x).dtype,
    )


class Float64:
    def __enter__(self):
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *error):
        torch.set_default_dtype(torch.float32)


CALLERS = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "device": lambda: torch.device("meta"),
    "dtype": Float64,
}


@pytest.mark.parametrize("caller", CALLERS)
def test_whatever_the_caller_has_set_is_off_inside_and_back_afterwards(caller):
    usual = settings_here()
    with CALLERS[caller]():
        before = settings_here()
        assert before != usual
        inside = isolated(settings_here)()
        assert settings_here() == before
        with pytest.raises(KeyboardInterrupt):
            isolated(interrupt)()
        assert settings_here() == before
    assert inside == usual == settings_here()


def interrupt():
    with torch.autocast("cpu", dtype=torch.float16), torch.no_grad():
        raise KeyboardInterrupt


@pytest.mark.parametrize("caller", CALLERS)
def test_a_fit_gives_the_same_bits_whatever_the_caller_has_set(table, caller):
    X, _ = table
    expected = MemAEDetector(max_epochs=2, ensemble_size=1, random_state=0).fit(X)
    with CALLERS[caller]():
        found = MemAEDetector(max_epochs=2, ensemble_size=1, random_state=0).fit(X)
        scores = found.decision_function(X)
    np.testing.assert_array_equal(found.decision_scores_, expected.decision_scores_)
    np.testing.assert_array_equal(scores, expected.decision_function(X))
    parameters = dict(found.model_.named_parameters())
    assert not any(p.is_inference() or p.dtype != torch.float32 for p in parameters.values())
    assert all(p.requires_grad for p in parameters.values())


def test_a_warning_points_to_the_line_that_called_us(table):
    det = detector(temperature=1.0, shrink_threshold=20.0, ensemble_size=1, memory_unit="sample")
    with pytest.warns(MemoryCollapseWarning) as warned:
        make_pipeline(StandardScaler(), det).fit(table[0])
    assert [warning.filename for warning in warned] == [__file__]
    with pytest.warns(UserWarning, match="directly") as warned:
        warn_caller("directly")
    assert warned[0].filename == __file__


def test_threads_of_the_caller_do_not_see_the_settings_of_a_fit():
    seen = []

    @isolated
    def work():
        thread = threading.Thread(target=lambda: seen.append(settings_here()))
        thread.start()
        thread.join()

    usual = settings_here()
    with torch.no_grad():
        work()
    assert seen == [usual]
