"""Fits and scores under any settings of the caller's torch, and with modules of the user."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

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
