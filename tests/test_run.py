"""A fit that is killed goes on from its checkpoint to the same bits."""

import errno
import os
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skmemae._train.checkpoint import Checkpoint, identity_of
from torch import nn

from skmemae import MemAEDetector
from skmemae._model import FittedModel
from skmemae._train import checkpoint as checkpoint_module
from skmemae._train import loop
from skmemae.datasets import make_moving_digits


def forgetful(sample_shape):
    return nn.Sequential(nn.Dropout(0.2), nn.Linear(*sample_shape, 3)), nn.Linear(3, *sample_shape)


CASES = {
    "images": ({"max_epochs": 8}, lambda: load_digits().images[:120]),
    "images of bytes, stopped early": (
        {"max_epochs": 60, "memory_size": 0, "tol": 0.1, "n_iter_no_change": 4},
        lambda: load_digits().images[:120].astype(np.uint8),
    ),
    "clips": (
        {"max_epochs": 3, "anomaly_score": "motion"},
        lambda: make_moving_digits(n_clips=30, random_state=0).data,
    ),
    "members": (
        {"max_epochs": 6, "memory_unit": "sample", "ensemble_size": 3},
        lambda: np.random.default_rng(0).normal(size=(100, 4)),
    ),
    "a backbone that draws": (
        {"max_epochs": 6, "backbone": forgetful, "memory_size": 5},
        lambda: np.random.default_rng(0).normal(size=(100, 4)),
    ),
    "rows": ({"max_epochs": 3}, lambda: np.random.default_rng(0).normal(size=(100, 4))),
}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def kill(monkeypatch):
    """Make the fit end after so many writes."""
    monkeypatch.setattr(checkpoint_module, "_SECONDS", 0.0)
    keep = Checkpoint.keep

    def after(n_writes):
        left = [n_writes]

        def keep_or_end(self, *args, **kwargs):
            keep(self, *args, **kwargs)
            left[0] -= 1
            if not left[0]:
                raise Killed

        monkeypatch.setattr(Checkpoint, "keep", keep_or_end)

    return after


@pytest.mark.parametrize("case", CASES)
def test_a_fit_goes_on_to_the_same_bits(tmp_path, kill, case):
    parameters, data = CASES[case]
    X, path = data(), tmp_path / "fit.ckpt"
    whole = MemAEDetector(random_state=0, **parameters).fit(X)
    for n_writes in (1, 4, 7):
        detector = MemAEDetector(random_state=0, **parameters)
        kill(n_writes)
        if case != "rows":
            with pytest.raises(Killed):
                detector.fit(X, checkpoint=path)
            assert path.exists() and not hasattr(detector, "model_")
        kill(0)
        detector.fit(X, checkpoint=path)
        assert not path.exists()
        np.testing.assert_array_equal(detector.decision_scores_, whole.decision_scores_)
        np.testing.assert_array_equal(detector.decision_function(X), whole.decision_function(X))
        assert detector.loss_curve_ == whole.loss_curve_ and detector.validation_curve_ == whole.validation_curve_


def test_of_a_memory_of_rows_nothing_is_kept(tmp_path, monkeypatch):
    paths = []
    monkeypatch.setattr(Checkpoint, "keep", lambda self, *args, **kwargs: paths.append(self.path))
    MemAEDetector(max_epochs=3).fit(np.random.default_rng(0).normal(size=(100, 4)), checkpoint=tmp_path / "fit.ckpt")
    assert set(paths) == {None}


def test_a_fit_whose_batches_were_halved_goes_on_with_halves(tmp_path, kill, monkeypatch):
    X, path, room, backward = load_digits().images[:64], tmp_path / "fit.ckpt", [1000], loop._backward

    def backward_in_little_room(*args):
        if len(args[-1]) > room[0]:
            raise torch.OutOfMemoryError("out of memory")
        return backward(*args)

    def fit(**kwargs):
        return MemAEDetector(max_epochs=6, batch_size=32, anomaly_score="smooth", random_state=0).fit(X, **kwargs)

    monkeypatch.setattr(loop, "_backward", backward_in_little_room)
    in_batches, room[0] = fit(), 16
    with pytest.warns(UserWarning, match="batches are cut into"):
        in_halves = fit()
    kill(3)
    with pytest.warns(UserWarning, match="batches are cut into"), pytest.raises(Killed):
        fit(checkpoint=path)
    kill(0)
    room[0] = 1000  # of the next process, which has to cut all the same
    again = fit(checkpoint=path)
    assert not np.array_equal(in_halves.decision_scores_, in_batches.decision_scores_)
    np.testing.assert_array_equal(again.decision_scores_, in_halves.decision_scores_)


def test_a_fit_without_a_seed_goes_on_with_the_one_that_it_drew(tmp_path, kill):
    X, path = load_digits().images[:60], tmp_path / "fit.ckpt"
    kill(2)
    with pytest.raises(Killed):
        MemAEDetector(max_epochs=4).fit(X, checkpoint=path)
    stored = path.read_bytes()
    kill(0)
    first = MemAEDetector(max_epochs=4).fit(X, checkpoint=path)
    path.write_bytes(stored)
    again = MemAEDetector(max_epochs=4).fit(X, checkpoint=path)
    np.testing.assert_array_equal(first.decision_scores_, again.decision_scores_)


@pytest.mark.parametrize(
    "parameters", [{"max_epochs": 4}, {"max_epochs": 60, "memory_size": 0, "tol": 0.5, "n_iter_no_change": 2}]
)
def test_a_network_that_is_done_is_kept_however_short_the_time(tmp_path, monkeypatch, parameters):
    X, path = load_digits().images[:60], tmp_path / "fit.ckpt"
    detector = MemAEDetector(anomaly_score="smooth", random_state=0, **parameters)
    monkeypatch.setattr(FittedModel, "score_training", lambda *args: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        detector.fit(X, checkpoint=path)
    monkeypatch.undo()
    monkeypatch.setattr(loop, "_train_epoch", lambda *args: (_ for _ in ()).throw(AssertionError("trained again")))
    detector.fit(X, checkpoint=path)
    assert detector.n_iter_ < parameters["max_epochs"] or "tol" not in parameters


def test_a_pipeline_hands_the_path_on(tmp_path, kill):
    X, path = np.random.default_rng(0).normal(size=(100, 4)), tmp_path / "fit.ckpt"
    pipeline = make_pipeline(StandardScaler(), MemAEDetector(memory_unit="sample", max_epochs=4, random_state=0))
    kill(2)
    with pytest.raises(Killed):
        pipeline.fit(X, memaedetector__checkpoint=path)
    kill(0)
    assert path.exists() and pipeline.fit(X, memaedetector__checkpoint=path).predict(X).shape == (100,) and not path.exists()


def test_a_checkpoint_of_another_fit_is_refused_and_stays(tmp_path, kill):
    X, path = load_digits().images[:60], tmp_path / "fit.ckpt"
    kill(1)
    with pytest.raises(Killed):
        MemAEDetector(max_epochs=4, random_state=0).fit(X, checkpoint=path)
    kill(0)
    stored = path.read_bytes()
    other = X.copy()
    other[30] += 1
    for data, parameters in ((other, {}), (X, {"learning_rate": 1e-4}), (X[:50], {})):
        with pytest.raises(ValueError, match="is the checkpoint of another fit"):
            MemAEDetector(**{"max_epochs": 4, "random_state": 0, **parameters}).fit(data, checkpoint=path)
    assert path.read_bytes() == stored
    for content in (b"", b"no checkpoint", stored[: len(stored) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no checkpoint of a fit, or is damaged"):
            MemAEDetector(max_epochs=4, random_state=0).fit(X, checkpoint=path)
    torch.save([1], path)
    with pytest.raises(ValueError, match="is no checkpoint of a fit"):
        MemAEDetector(max_epochs=4, random_state=0).fit(X, checkpoint=path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"widths": [8, 4]}, {"widths": [8, 3]}),
        ({"max_epochs": np.int64(5)}, {"max_epochs": np.int64(6)}),
        ({"learning_rate": np.float32(0.1)}, {"learning_rate": np.float32(0.2)}),
        ({"backbone": max}, {"backbone": min}),
        ({"random_state": np.random.RandomState(0)}, {"random_state": None}),
        ({"backbone": partial(max, 1)}, {"backbone": partial(max, 2)}),
    ],
)
def test_every_parameter_tells_fits_apart(one, other):
    X = np.zeros((5, 2))
    assert identity_of(X, one) == identity_of(X.copy(), dict(one)) != identity_of(X, other)
    assert identity_of(X, {"widths": (8, np.int64(4))}) == identity_of(X, {"widths": [8, 4]})


def test_another_version_is_another_fit_and_states_are_two_seconds_apart(monkeypatch):
    X = np.zeros((5, 2))
    before = identity_of(X, {})
    monkeypatch.setattr(checkpoint_module, "__version__", "9.0")
    assert identity_of(X, {}) != before and checkpoint_module._SECONDS == 2.0


class Narrow(nn.Linear):
    pass


def test_networks_of_other_functions_of_one_name_are_others(tmp_path, kill):
    def layers(kind):
        return lambda shape: (nn.Sequential(nn.Flatten(), kind(64, 4)), nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, shape)))

    X, path = load_digits().images[:60], tmp_path / "fit.ckpt"
    parameters = {"max_epochs": 4, "anomaly_score": "smooth", "random_state": 0}
    kill(1)
    with pytest.raises(Killed):
        MemAEDetector(backbone=layers(nn.Linear), **parameters).fit(X, checkpoint=path)
    kill(0)
    with pytest.raises(ValueError, match="is the checkpoint of another fit: its networks are others"):
        MemAEDetector(backbone=layers(Narrow), **parameters).fit(X, checkpoint=path)
    MemAEDetector(backbone=layers(nn.Linear), **parameters).fit(X, checkpoint=path)
    assert not path.exists()


def test_training_is_not_lost_where_the_threshold_fails(tmp_path):
    class Fails:
        def fit(self, scores):
            raise RuntimeError("no threshold")

    X, path = load_digits().images[:60], tmp_path / "fit.ckpt"
    with pytest.raises(RuntimeError, match="no threshold"):
        MemAEDetector(contamination=Fails(), max_epochs=4, random_state=0).fit(X, checkpoint=path)
    assert path.exists()
    rest = MemAEDetector(max_epochs=4, random_state=0).fit(X, checkpoint=path)
    np.testing.assert_array_equal(rest.decision_scores_, MemAEDetector(max_epochs=4, random_state=0).fit(X).decision_scores_)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_no_code_in_a_file_is_run(tmp_path):
    path = tmp_path / "fit.ckpt"
    torch.save({"identity": Hostile(str(tmp_path / "ran"))}, path)
    with pytest.raises(ValueError, match="is no checkpoint of a fit"):
        MemAEDetector(max_epochs=4).fit(load_digits().images[:60], checkpoint=path)
    assert os.listdir(tmp_path) == ["fit.ckpt"]


def test_a_file_that_cannot_be_written_is_an_error_that_loses_nothing(tmp_path, kill, monkeypatch):
    X, path = load_digits().images[:60], tmp_path / "fit.ckpt"
    trained = []
    monkeypatch.setattr("skmemae._fitting.train_members", lambda *args: trained.append(1))
    with pytest.raises(FileNotFoundError):
        MemAEDetector(max_epochs=4).fit(X, checkpoint=tmp_path / "nowhere" / "fit.ckpt")
    assert not trained  # the error came first
    monkeypatch.undo()
    monkeypatch.setattr(checkpoint_module, "_SECONDS", 0.0)
    whole = MemAEDetector(max_epochs=6, random_state=0).fit(X)
    save, count = torch.save, [0]

    def full(content, file):
        count[0] += 1
        if count[0] == 4:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        MemAEDetector(max_epochs=6, random_state=0).fit(X, checkpoint=path)
    assert os.listdir(tmp_path) == ["fit.ckpt"]  # the one before
    detector = MemAEDetector(max_epochs=6, random_state=0).fit(X, checkpoint=path)
    np.testing.assert_array_equal(detector.decision_scores_, whole.decision_scores_)


_PROGRAM = """
import sys
import torch
from sklearn.datasets import load_digits
from skmemae import MemAEDetector
from skmemae._train import checkpoint
torch.set_num_threads(1)
checkpoint._SECONDS = 0.0
print("fits", flush=True)
MemAEDetector(max_epochs=200, random_state=0).fit(load_digits().images[:300], checkpoint=sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_at_ten_random_moments(tmp_path, rng):
    X, path = load_digits().images[:300], tmp_path / "fit.ckpt"
    whole = MemAEDetector(max_epochs=200, random_state=0).fit(X)
    went_on = 0
    for seconds in rng.uniform(0, 6, size=10):  # each time the fit goes on from where the one before was killed
        process = subprocess.Popen([sys.executable, "-c", _PROGRAM, path], stdout=subprocess.PIPE)
        process.stdout.readline()
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        went_on += path.exists()
    assert went_on
    detector = MemAEDetector(max_epochs=200, random_state=0).fit(X, checkpoint=path)
    np.testing.assert_array_equal(detector.decision_scores_, whole.decision_scores_)
