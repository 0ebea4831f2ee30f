"""Modules with learned buffers: what one class declares goes everywhere."""

import pickle

import numpy as np
import pytest
import torch

from skmemae import MemAEDetector
from skmemae._model.learned import Learned, at_least, at_most
from skmemae._model.score import Score
from skmemae._train.run import Checkpoint
from tests.problems import detector


class Two(Learned):
    def __init__(self):
        super().__init__()
        self.declare("a", torch.float64, "n", 3)
        self.declare("b", torch.int64, "n")
        self.declare("c", torch.float32, 2, optional=True)


STATE = {"a": torch.ones(5, 3, dtype=torch.float64), "b": torch.arange(5)}


def test_buffers_of_any_of_the_declared_sizes_are_loaded():
    two = Two()
    two.load_state_dict(STATE)
    assert torch.equal(two.a, STATE["a"]) and two.c is None
    two.load_state_dict({**{k: v[:2] for k, v in STATE.items()}, "c": torch.ones(2)}, assign=True)
    assert two.a.shape == (2, 3) and two.c.shape == (2,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"b": torch.arange(4)}, r"b must be torch.int64 of shape \('n',\). Got torch.int64 of \(4,\)"),
        ({"a": torch.ones(5, 3)}, "a must be torch.float64"),
        ({"a": torch.ones(15, dtype=torch.float64)}, r"a must be torch.float64 of shape \('n', 3\)"),
        ({"c": torch.ones(3)}, "c must be torch.float32"),
        ({"b": None}, "Missing key"),
        ({"d": torch.ones(1)}, "Unexpected key"),
    ],
)
def test_buffers_of_other_sizes_types_or_names_are_refused(change, said):
    state = {name: value for name, value in {**STATE, **change}.items() if value is not None}
    with pytest.raises(RuntimeError, match=said):
        Two().load_state_dict(state)


def test_bounds_hold_and_nan_stays():
    values = torch.tensor([-1.0, 2.0, torch.nan])
    assert at_most(values, 1.0)[:2].tolist() == [-1.0, 1.0] and at_least(values, 0.0)[:2].tolist() == [0.0, 2.0]
    assert at_most(values, 1.0)[2].isnan()


@pytest.fixture
def doubled(monkeypatch):
    """Scores that have one more learned number, here a factor of all scores; nothing else of the package knows of it."""
    build, forward = Score.__init__, Score.forward

    def with_factor(self, name, members):
        build(self, name, members)
        self.declare("factor_of_all", torch.float64)
        self.learn(factor_of_all=torch.tensor(2.0))

    monkeypatch.setattr(Score, "__init__", with_factor)
    monkeypatch.setattr(Score, "forward", lambda self, *terms: self.factor_of_all * forward(self, *terms))


def test_one_more_learned_buffer_changes_one_class_and_nothing_else(tmp_path, monkeypatch, request):
    X = np.random.default_rng(0).normal(size=(60, 4))
    before = detector().fit(X)
    request.getfixturevalue("doubled")
    after = detector().fit(X)
    np.testing.assert_allclose(after.decision_scores_, 2 * before.decision_scores_)
    assert "score.factor_of_all" in after._model.state_dict()

    after._model.score.learn(factor_of_all=torch.tensor(3.0))
    expected = 1.5 * after.decision_scores_  # of a number that a new detector would not have
    path = tmp_path / "detector"
    after.save(path)
    for again in (pickle.loads(pickle.dumps(after)), MemAEDetector.load(path), after.to("cpu")):
        np.testing.assert_allclose(again.decision_function(X), expected)

    written = []
    monkeypatch.setattr(Checkpoint, "seconds", 0.0)
    monkeypatch.setattr(Checkpoint, "write", lambda self, state: written.append(state))
    detector().fit(X, checkpoint=tmp_path / "checkpoint")
    assert written[-1]["model"]["score.factor_of_all"] == 2.0

    onnxruntime = pytest.importorskip("onnxruntime")
    after.export_onnx(path)
    session = onnxruntime.InferenceSession(path)
    np.testing.assert_allclose(session.run(["score"], {"X": X})[0], expected, rtol=1e-5)
