"""Units, scores and use of items after training."""

import numpy as np
import pytest
import torch

from skmemae import MemoryCollapseWarning
from skmemae._data.loader import Loader
from skmemae._model.files import model_of, state_of
from skmemae._train.distributed import SingleProcess
from skmemae._train.loop import Split
from skmemae._train.result import UseOfMemory, score_training, warn_of_collapse
from tests.problems import CPU, detector

X = np.random.default_rng(0).normal(size=(60, 5))
UNKNOWN = torch.full((60,), -1)


def fresh_model():
    """A model of three networks of 15 items, without a calibration."""
    model = model_of(state_of(detector(memory_unit="sample", ensemble_size=3, max_epochs=2).fit(X)._model))
    model.calibration = None
    return model


def scored(model, held_out=()):
    loader = Loader(X, model.layout, model.scaling, CPU)
    held_out = torch.tensor(held_out, dtype=torch.int64)
    trained = torch.tensor(sorted(set(range(60)) - set(held_out.tolist())))
    return loader, score_training(model, loader, Split(trained, held_out), UNKNOWN, SingleProcess(), torch.arange(60))


def test_typical_distances_are_medians_and_uses_are_counted():
    model = fresh_model()
    loader, result = scored(model)
    x = loader.samples(torch.arange(60))
    with torch.no_grad():
        outputs = [network(x) for network in model.networks.networks]
    distances = [np.median((output.query - output.read_out).square().sum(dim=1)) for output in outputs]
    np.testing.assert_allclose(model.score.typical_query_distances, distances, rtol=1e-5)
    np.testing.assert_allclose(result.scores, model.scores(X), rtol=1e-6)
    np.testing.assert_allclose(result.use.usage.ravel(), (model.weights(X) > 0).mean(axis=0), atol=1e-6)
    assert result.use.zero_row_fraction == 0 and len(result.calibrating) == 0


def test_held_out_samples_calibrate_the_others():
    model = fresh_model()
    _, result = scored(model, held_out=range(20))
    np.testing.assert_array_equal(result.calibrating, np.arange(20))
    assert model.calibration is not None and len(model.calibration.trained) == 20


def test_scores_that_are_not_finite_after_training_are_an_error():
    model = fresh_model()
    with torch.no_grad():
        next(model.networks.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="Training ended with scores that are not finite: lower learning_rate"):
        scored(model)


@pytest.mark.parametrize(
    ("usage", "zero_rows", "said"),
    [
        ([[0.5, 0.5]], 0.6, "60% of the training queries have no weight above the threshold of 2.0/N"),
        ([[0.5, 0.5], [1.0, 0.0]], 0.0, "A single memory item answers every training sample"),
    ],
)
def test_a_collapse_warns(usage, zero_rows, said):
    with pytest.warns(MemoryCollapseWarning, match=said):
        warn_of_collapse(UseOfMemory(np.array(usage), zero_rows, 2.0), 2.0)


@pytest.mark.parametrize(("usage", "zero_rows"), [([[0.5, 0.1]], 0.5), ([[1.0]], 0.9), (np.zeros((1, 0)), 0.0)])
def test_a_memory_in_use_does_not_warn(usage, zero_rows, recwarn):
    warn_of_collapse(UseOfMemory(np.asarray(usage), zero_rows, 2.0), 1.0)
    assert not recwarn
