"""Faults that came from the caller's torch, its random numbers, its interruptions, and forks."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from skmemae._runtime import isolated
from tests.problems import data, detector

# The caller's torch.


def settings():
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.empty(0).dtype


@pytest.fixture
def restored():
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.mark.parametrize("setting", ["no_grad", "inference_mode", "float64", "float16", "meta", "device context", "autocast"])
@pytest.mark.parametrize("name", ["table", "images", "bytes", "clips"])
def test_the_callers_torch_changes_nothing_and_is_left_alone(name, setting, restored):
    X = data()[name]
    plain = detector().fit(X)
    pickled = pickle.dumps(plain)
    contexts = {
        "no_grad": torch.no_grad(),
        "inference_mode": torch.inference_mode(),
        "device context": torch.device("meta"),
        "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
    }
    if setting.startswith("float"):
        torch.set_default_dtype(getattr(torch, setting))
    if setting == "meta":
        torch.set_default_device("meta")
    with contexts.get(setting, warnings.catch_warnings()):
        before = settings()
        np.testing.assert_array_equal(detector().fit(X).decision_scores_, plain.decision_scores_)
        np.testing.assert_array_equal(plain.decision_function(X), plain.decision_scores_)
        np.testing.assert_array_equal(pickle.loads(pickled).decision_function(X), plain.decision_scores_)
        plain.reconstruct(X), plain.anomaly_map(X), plain.addressing_weights(X), plain.decode_memory([0])
        assert settings() == before


def interrupted(function, lines):
    """Call the function and raise a KeyboardInterrupt in it after so many lines; whether it came to that."""

    def trace(frame, event, argument):
        nonlocal lines
        if event == "line":
            lines -= 1
            if lines == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()  # of a coverage tool
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("what", ["fit", "score"])
def test_an_interruption_at_any_moment_leaves_torch_as_it_was(what):
    """In bfloat16, in which autocast comes and goes at every step."""
    X = data()["table"][:40]
    det = detector(precision="bfloat16", max_epochs=2, ensemble_size=1).fit(X)
    expected, stops, before = det.decision_scores_, 0, settings()
    work, moments = {
        "fit": (lambda: detector(precision="bfloat16", max_epochs=2, ensemble_size=1).fit(X), range(1500, 60_000, 1511)),
        "score": (lambda: det.decision_function(X), range(1, 2500, 7)),
    }[what]
    for lines in moments:
        stops += interrupted(work, lines)
        assert settings() == before
        assert torch.autocast_increment_nesting() == 1
        torch.autocast_decrement_nesting()
    assert stops > 10
    np.testing.assert_array_equal(
        detector(precision="bfloat16", max_epochs=2, ensemble_size=1).fit(X).decision_scores_, expected
    )


def with_dropout(sample_shape):
    return (
        nn.Sequential(nn.Linear(sample_shape[0], 8), nn.Dropout(0.3), nn.Linear(8, 3)),
        nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, sample_shape[0])),
    )


def test_a_backbone_that_draws_is_reproducible_alone_and_in_eight_threads(restored):
    X = data()["table"]
    before = torch.get_rng_state()
    plain = detector(backbone=with_dropout).fit(X).decision_scores_
    assert not np.array_equal(plain, detector(backbone=with_dropout, random_state=1).fit(X).decision_scores_)
    torch.set_default_dtype(torch.float64)
    np.testing.assert_array_equal(detector(backbone=with_dropout).fit(X).decision_scores_, plain)
    torch.set_default_dtype(torch.float32)
    with ThreadPoolExecutor(8) as pool:
        for scores in pool.map(lambda _: detector(backbone=with_dropout).fit(X).decision_scores_, range(16)):
            np.testing.assert_array_equal(scores, plain)
    assert torch.equal(before, torch.get_rng_state())


def lazy(sample_shape):
    return nn.Sequential(nn.LazyLinear(4)), nn.LazyLinear(sample_shape[0])


def test_lazy_modules_train_and_load():
    X = data()["table"]
    det = detector(backbone=lazy, max_epochs=20).fit(X)
    assert det.loss_curve_[-1] < det.loss_curve_[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(det)).decision_function(X), det.decision_scores_)


# Fork.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", ["table", "images"])
def test_a_detector_loaded_in_a_parent_scores_in_a_forked_child(tmp_path, name):
    X = np.repeat(data()[name], 30, axis=0)
    det = detector().fit(X)
    (tmp_path / "detector").write_bytes(pickle.dumps(det))
    np.save(tmp_path / "X.npy", X)
    script = """
        import os, pickle
        import numpy as np
        import torch

        torch.set_num_threads(4)
        detector = pickle.load(open("detector", "rb"))
        child = os.fork()
        if child == 0:
            np.save("scores.npy", detector.decision_function(np.load("X.npy")))
            os._exit(0)
        os.waitpid(child, 0)
    """
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    try:
        assert process.wait(timeout=60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), det.decision_scores_, rtol=1e-5)


def test_threads_of_the_caller_do_not_see_the_settings_of_a_fit():
    seen = []
    isolated(lambda: [thread := threading.Thread(target=lambda: seen.append(settings())), thread.start(), thread.join()])
    assert seen == [(True, False, False, torch.float32)]
