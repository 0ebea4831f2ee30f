"""Progress of a fit, and a killed fit that goes on from its checkpoint."""

import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skmemae import MemAEDetector
from skmemae._data import sources
from skmemae._train import fit, loop
from skmemae._train.loop import Training, split_rows, train_networks
from skmemae._train.run import Checkpoint, digest, identity_of
from skmemae.datasets import make_moving_digits
from tests.problems import SETTINGS, learned_items, problem, train


@pytest.mark.parametrize("verbose, shown", [(0, ""), (2, "epoch 3/3: loss ")])
def test_verbose_says_what_it_should(capfd, verbose, shown):
    network, loader, run = problem(verbose=verbose)
    train(network, loader, run, SETTINGS._replace(max_epochs=3))
    out, err = capfd.readouterr()
    assert err == "" and (shown in out if shown else out == "")


def test_verbose_one_is_a_bar(capfd):
    network, loader, run = problem(verbose=1)
    train(network, loader, run, SETTINGS._replace(max_epochs=3))
    out, err = capfd.readouterr()
    assert out == "" and "MemAE: 100%" in err and "3/3" in err and "validation=" in err


def test_a_line_names_the_network_of_several(capfd):
    network, loader, run = problem(verbose=2)
    split = split_rows(loader, torch.arange(200), 0.0, run)
    with run.observed(2, 1):
        train_networks([network, network], loader, split, SETTINGS._replace(max_epochs=1), run, learned_items)
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"network {i}/2, epoch 1/1" for i in (1, 2)]


def forgetful(sample_shape):
    return nn.Sequential(nn.Dropout(0.2), nn.Linear(*sample_shape, 3)), nn.Linear(3, *sample_shape)


CASES = {
    "images": ({"max_epochs": 8}, lambda: load_digits().images[:120]),
    "images of bytes, stopped early": (
        {"max_epochs": 60, "memory_size": 0, "learning_rate": 0.05},
        lambda: load_digits().images[:120].astype(np.uint8),
    ),
    "clips": (
        {"max_epochs": 3, "anomaly_score": "local-paces"},
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
    "rows": ({"max_epochs": 8}, lambda: np.random.default_rng(0).normal(size=(100, 4))),
}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def kill(monkeypatch):
    """Make the fit end after so many writes, each epoch being written."""
    monkeypatch.setattr(Checkpoint, "seconds", 0.0)
    write = Checkpoint.write

    def after(n_writes):
        left = [n_writes]

        def write_or_end(self, state):
            write(self, state)
            left[0] -= 1
            if not left[0]:
                raise Killed

        monkeypatch.setattr(Checkpoint, "write", write_or_end)

    return after


@pytest.mark.parametrize("case", CASES)
def test_a_killed_fit_goes_on_and_ends_as_one_that_was_not(tmp_path, kill, case):
    parameters, data = CASES[case]
    X, path = data(), tmp_path / "fit.ckpt"
    whole = MemAEDetector(random_state=0, **parameters).fit(X)
    for n_writes in (1, 3, 5):
        detector = MemAEDetector(random_state=0, **parameters)
        kill(n_writes)
        with pytest.raises(Killed):
            detector.fit(X, checkpoint=path)
        assert path.exists() and not hasattr(detector, "threshold_")
        kill(0)
        detector.fit(X, checkpoint=path)
        assert not path.exists()
        np.testing.assert_allclose(detector.decision_scores_, whole.decision_scores_, rtol=1e-5)
        np.testing.assert_allclose(detector.decision_function(X), whole.decision_function(X), rtol=1e-5)
        np.testing.assert_allclose(detector.loss_curve_, whole.loss_curve_, rtol=1e-5)
        assert len(detector.validation_curve_) == len(whole.validation_curve_)


def test_epochs_that_are_done_are_not_trained_again(tmp_path, kill, monkeypatch):
    X, path, trained = load_digits().images[:60], tmp_path / "fit.ckpt", []
    epoch = Training.train_epoch
    monkeypatch.setattr(
        Training, "train_epoch", lambda self, model, number: trained.append(number) or epoch(self, model, number)
    )
    kill(1 + 4)  # the first write is before training
    with pytest.raises(Killed):
        MemAEDetector(max_epochs=6, random_state=0).fit(X, checkpoint=path)
    kill(0)
    MemAEDetector(max_epochs=6, random_state=0).fit(X, checkpoint=path)
    assert trained == [0, 1, 2, 3, 4, 5]


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


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The file of a fit that was killed in training."""
    path = tmp_path_factory.mktemp("stored") / "fit.ckpt"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoint, "seconds", 0.0)
        patch.setattr(fit, "train_features", Mock(side_effect=Killed))
        fit_from(path)
    return path.read_bytes()


def fit_from(path):
    return MemAEDetector(max_epochs=4, memory_size=10, random_state=0).fit(load_digits().images[:60], checkpoint=path)


def refused(path):
    """The file is refused with its name and stays as it is."""
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is no checkpoint of a fit, or is damaged. Remove it") as raised:
        fit_from(path)
    assert str(path) in str(raised.value) and path.read_bytes() == before


def test_a_file_of_another_kind_or_with_a_missing_end_is_refused(tmp_path, stored):
    path = tmp_path / "fit.ckpt"
    cut = [stored[: len(stored) * i // 20] for i in range(20)]
    for content in (b"no checkpoint", stored[32:], stored + b"\0", *cut):
        path.write_bytes(content)
        refused(path)
    torch.save([1], path)
    refused(path)


def test_one_flipped_bit_is_noticed(tmp_path, stored, rng):
    path = tmp_path / "fit.ckpt"
    for place in rng.integers(0, len(stored), size=60):
        damaged = bytearray(stored)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        refused(path)


def write_state(path, state):
    """Write a file with a checksum that fits."""
    content = io.BytesIO()
    torch.save(state, content)
    path.write_bytes(hashlib.sha256(content.getvalue()).digest() + content.getvalue())


SPOILT = {
    "seed": ["7", 2**70, -1, True, torch.zeros(2), None],
    "curves": [None, {}, [5], [[[0.5]]], [[[0.5], ["a"]]]],
    "number": [None, "0", 0.0],
    "used": [None, 1, -1.0, float("nan"), float("inf")],
    "model": [None, [], {1: torch.zeros(2)}],
    "training": [None, [], 5, {}],
}
SPOILT_TRAINING = {
    "curves": [[], [[1.0]], [[1.0], [None]]],
    "epoch": [None, 0.0],
    "has_stopped": [0, None],
    "part": [None, [], [0.0, 1.0], [0.0, 1.0, "1"]],
    "optimiser": [{}, None, {"means": [], "squares": [], "steps": [1.0]}],
    "stopping": [{}, {"best": "x", "best_state": None, "waited": 0}],
    "generator": [None, torch.zeros(3), torch.zeros(5056)],
    "stream": [5, [None], [torch.zeros(3)]],
}


def test_a_forged_file_that_lacks_items_or_has_items_of_other_types_is_refused(tmp_path, stored):
    path = tmp_path / "fit.ckpt"
    whole = torch.load(io.BytesIO(stored[32:]), weights_only=True)
    forged = [{k: v for k, v in whole.items() if k != name} for name in whole]
    forged += [{**whole, "more": 1}, {**whole, "identity": torch.zeros(2)}, [], 5, {}]
    forged += [{**whole, name: value} for name, values in SPOILT.items() for value in values]
    for name, values in SPOILT_TRAINING.items():
        forged += [{**whole, "training": {**whole["training"], name: value}} for value in values]
    for state in forged:
        write_state(path, state)
        refused(path)
    write_state(path, whole)
    assert len(fit_from(path).labels_) == 60


@pytest.mark.parametrize("checkpoint", [5, io.BytesIO()])
def test_a_checkpoint_is_a_path(checkpoint):
    with pytest.raises(TypeError, match="The 'checkpoint' parameter must be a path or None. Got .* instead"):
        fit_from(checkpoint)


@pytest.mark.parametrize("contamination", [0.2, 0.001])
def test_a_table_with_another_share_of_outliers_is_another_fit(tmp_path, kill, contamination):
    X, path = np.random.default_rng(0).normal(size=(100, 4)), tmp_path / "fit.ckpt"
    kill(3)
    with pytest.raises(Killed):
        MemAEDetector(max_epochs=8, random_state=0).fit(X, checkpoint=path)
    kill(0)
    with pytest.raises(ValueError, match="is the checkpoint of another fit"):
        MemAEDetector(contamination=contamination, max_epochs=8, random_state=0).fit(X, checkpoint=path)


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
    assert identity_of(X, one, "1") == identity_of(X.copy(), dict(one), "1") != identity_of(X, other, "1")
    assert identity_of(X, {"widths": (8, np.int64(4))}, "1") == identity_of(X, {"widths": [8, 4]}, "1")


def test_another_version_is_another_fit_and_states_are_two_seconds_apart():
    X = np.zeros((5, 2))
    assert identity_of(X, {}, "1.0") != identity_of(X, {}, "1.1") and Checkpoint.seconds == 2.0


def test_parameters_that_change_no_network_are_no_other_fit():
    X = np.zeros((5, 2))
    one, other = {"verbose": 0, "convention": "pyod"}, {"verbose": 2, "convention": "sklearn"}
    assert identity_of(X, one, "1.0") == identity_of(X, other, "1.0")


def test_training_is_not_lost_where_the_threshold_fails(tmp_path):
    class Fails:
        def fit(self, scores):
            raise RuntimeError("no threshold")

    X, path = load_digits().images[:60], tmp_path / "fit.ckpt"
    with pytest.raises(RuntimeError, match="no threshold"):
        MemAEDetector(contamination=Fails(), max_epochs=4, random_state=0).fit(X, checkpoint=path)
    assert path.exists()
    rest = MemAEDetector(max_epochs=4, random_state=0).fit(X, checkpoint=path)
    whole = MemAEDetector(max_epochs=4, random_state=0).fit(X)
    np.testing.assert_allclose(rest.decision_scores_, whole.decision_scores_, rtol=1e-5)


def test_a_fit_that_is_killed_after_training_had_stopped_early_goes_on_with_the_same_random_numbers(tmp_path, monkeypatch):
    X, path = load_digits().images[:60], tmp_path / "fit.ckpt"
    monkeypatch.setattr(Checkpoint, "seconds", 0.0)
    monkeypatch.setattr(loop.EarlyStopping, "should_stop", lambda self, error: True)
    whole = MemAEDetector(max_epochs=8, random_state=0).fit(X)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(fit, "train_features", Mock(side_effect=Killed))
        MemAEDetector(max_epochs=8, random_state=0).fit(X, checkpoint=path)
    rest = MemAEDetector(max_epochs=8, random_state=0).fit(X, checkpoint=path)
    assert len(rest.loss_curve_) == len(whole.loss_curve_) < 8
    np.testing.assert_allclose(rest.decision_scores_, whole.decision_scores_, rtol=1e-5)


def test_a_digest_tells_other_data(monkeypatch):
    X = np.random.default_rng(0).normal(size=(60, 3))
    whole = digest(X)
    monkeypatch.setattr(sources, "_BLOCK_BYTES", 24 * 7)  # blocks of seven rows
    others = []
    for place in np.ndindex(X.shape):
        other = X.copy()
        other[place] = np.nextafter(X[place], 1.0)
        others.append(other)
    assert digest(X) == digest(np.asfortranarray(X)) == digest(np.repeat(X, 2, axis=0)[::2]) == whole
    assert len({digest(data) for data in (X, X[:3], X.astype(np.float32), X.reshape(60, 3, 1), *others)}) == 4 + X.size


def test_a_checkpoint_of_a_fit_with_another_number_anywhere_in_x_is_refused(tmp_path, kill):
    X, path = np.random.default_rng(0).normal(size=(3000, 2)), tmp_path / "fit.ckpt"
    kill(1)
    with pytest.raises(Killed):
        MemAEDetector(random_state=0).fit(X, checkpoint=path)
    kill(0)
    X[1234, 1] += 1e-9  # a row that is not one of a thousand spread over X
    with pytest.raises(ValueError, match="is the checkpoint of another fit"):
        MemAEDetector(random_state=0).fit(X, checkpoint=path)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_no_code_in_a_file_is_run(tmp_path):
    path = tmp_path / "fit.ckpt"
    write_state(path, {"identity": Hostile(str(tmp_path / "ran"))})  # the checksum is right
    with pytest.raises(ValueError, match="is no checkpoint of a fit"):
        MemAEDetector(max_epochs=4).fit(load_digits().images[:60], checkpoint=path)
    assert os.listdir(tmp_path) == ["fit.ckpt"]


def test_a_file_that_cannot_be_written_is_an_error_that_loses_nothing(tmp_path, monkeypatch):
    X, path = load_digits().images[:60], tmp_path / "fit.ckpt"
    missing = tmp_path / "nowhere" / "fit.ckpt"
    with pytest.raises(FileNotFoundError) as raised:  # before training, which would take minutes
        MemAEDetector(max_epochs=100_000).fit(X, checkpoint=missing)
    assert raised.value.filename == str(missing)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as raised:
        MemAEDetector(max_epochs=100_000).fit(X, checkpoint="nowhere/fit.ckpt")
    assert raised.value.filename == "nowhere/fit.ckpt"
    monkeypatch.setattr(Checkpoint, "seconds", 0.0)
    whole = MemAEDetector(max_epochs=6, random_state=0).fit(X)
    save, count = torch.save, [0]

    def full(content, file):
        count[0] += 1
        if count[0] == 5:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        MemAEDetector(max_epochs=6, random_state=0).fit(X, checkpoint=path)
    assert os.listdir(tmp_path) == ["fit.ckpt"]  # the one before
    detector = MemAEDetector(max_epochs=6, random_state=0).fit(X, checkpoint=path)
    np.testing.assert_allclose(detector.decision_scores_, whole.decision_scores_, rtol=1e-5)


_PROGRAM = """
import sys
import torch
from sklearn.datasets import load_digits
from skmemae import MemAEDetector
from skmemae._train import fit, loop
from skmemae._train.run import Checkpoint
torch.set_num_threads(1)
Checkpoint.seconds = 0.0
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
    np.testing.assert_allclose(detector.decision_scores_, whole.decision_scores_, rtol=1e-4)
