"""The fitted object: state, device, and what can be seen of it."""

import pickle

import numpy as np
import pytest
import torch
from skmemae._fitting import score_noise
from skmemae._score import Score
from skmemae._state import FORMAT, model_of, state_of

from skmemae import _model
from skmemae._data.loader import Loader
from skmemae._model import FittedModel
from tests.problems import ALONE, detector

X = np.random.default_rng(0).normal(size=(60, 5))


@pytest.fixture(scope="module")
def model():
    """Three networks of 15 items each."""
    return detector(memory_unit="sample", ensemble_size=3, max_epochs=2).fit(X)._model


def plain(value):
    """Whether a value is made of numbers, text, arrays and containers alone."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return value is None or isinstance(value, str | int | float | np.ndarray)


def test_a_state_is_plain_and_makes_the_model_again(model):
    state = state_of(model)
    assert plain(state) and state["format"] == FORMAT
    again = model_of(pickle.loads(pickle.dumps(state)))
    for method in ("scores", "reconstruct", "residuals", "weights"):
        np.testing.assert_array_equal(getattr(again, method)(X), getattr(model, method)(X))
    np.testing.assert_array_equal(again.items(), model.items())
    assert again.layout == model.layout and again.score == model.score and again.network_spec == model.network_spec


def test_a_state_shares_no_memory_with_the_model(model):
    state, scores = state_of(model), model.scores(X)
    for value in state["parameters"].values():
        value[...] = 0
    np.testing.assert_array_equal(model.scores(X), scores)


def test_parameters_of_a_restored_model_can_be_trained_further(model):
    again = model_of(state_of(model))
    assert all(p.requires_grad for p in again.networks.parameters()) and not again.networks.training


@pytest.mark.parametrize("state", [{}, {"format": 0}, {"format": FORMAT + 1}, {"format": None}])
def test_another_format_is_refused(state):
    with pytest.raises(ValueError, match=f"saved in format .*this version of skmemae reads format {FORMAT}"):
        model_of(state)


def test_a_model_of_an_absent_device_is_restored_on_the_cpu(model):
    again = model_of({**state_of(model), "device": "cuda:99"})
    assert again.device == torch.device("cpu")
    np.testing.assert_array_equal(again.scores(X), model.scores(X))


def test_a_move_returns_the_model():
    model = detector(ensemble_size=1, max_epochs=1).fit(np.eye(5))._model
    assert model.to("cpu") is model and model.device == torch.device("cpu")


@pytest.mark.parametrize("failure", [KeyboardInterrupt, torch.OutOfMemoryError])
def test_a_move_that_fails_leaves_the_model_where_it_was(model, monkeypatch, failure):
    scores = model.scores(X)
    with pytest.raises(ValueError, match="'device' parameter is 'cuda:99'"):
        model.to("cuda:99")

    def fail(networks, device):
        raise failure

    monkeypatch.setattr(_model, "move_to_device", fail)
    with pytest.raises(failure):
        model.to("cpu")
    np.testing.assert_array_equal(model.scores(X), scores)


@pytest.mark.parametrize("numbers", [[7, 0, 7, 44, 15, 14], [40], [], list(range(45))[::-1]])
@pytest.mark.parametrize("at_a_time", [1, 10, 2**24])
def test_some_items_decode_to_what_they_do_among_all(model, numbers, at_a_time, monkeypatch):
    whole = model.decode_items(np.arange(45))
    monkeypatch.setattr(_model, "_DECODED_NUMBERS", at_a_time)
    found = model.decode_items(np.array(numbers, dtype=int))
    assert found.shape == (len(numbers), 5) and found.dtype == np.float32
    np.testing.assert_allclose(found, whole[numbers], rtol=1e-5, atol=1e-6)


def test_an_item_decodes_to_what_its_own_network_makes_of_it_in_the_units_of_x(model):
    network = model.networks[1]
    with torch.no_grad():
        scaled = network.decoder(network.memory.items[4:5]).double()
    np.testing.assert_allclose(model.decode_items(np.array([15 + 4])), model.scaling.inverse(scaled), rtol=1e-5)


def test_results_of_several_networks_are_their_means_side_by_side(model):
    x = next(model._loader(X).chunks(60))[0]
    with torch.no_grad():
        outputs = [network(x) for network in model.networks]
    mean = torch.stack([output.reconstruction for output in outputs]).mean(dim=0)
    np.testing.assert_allclose(model.reconstruct(X), model.scaling.inverse(mean.double()), rtol=1e-4, atol=1e-5)
    squares = torch.stack([(output.reconstruction - x).square() for output in outputs]).mean(dim=0)
    np.testing.assert_allclose(model.residuals(X), squares, rtol=1e-3, atol=1e-6)
    weights = model.weights(X)
    assert weights.shape == (60, 45)
    np.testing.assert_allclose(weights.reshape(60, 3, 15).sum(axis=2), 1 / 3, rtol=1e-5)


def test_reconstructions_have_the_precision_of_x(model):
    assert model.reconstruct(X).dtype == np.float64
    for dtype in (np.float32, np.float16, np.int64, np.uint8):
        assert model.reconstruct((10 * X).astype(dtype)).dtype == np.float32


def test_scoring_the_training_data_learns_typical_distances_and_counts_uses(model):
    networks = model.networks
    blank = FittedModel(model.layout, model.scaling, Score("combined", (1.0,) * 3), model.network_spec, networks)
    loader = Loader(X, model.layout, model.scaling, torch.device("cpu"))
    result = blank.score_training(loader, torch.arange(60), ALONE)
    x = loader.samples(torch.arange(60))
    with torch.no_grad():
        outputs = [network(x) for network in networks]
    distances = [np.median((output.encoding - output.read_out).square().sum(dim=1)) for output in outputs]
    np.testing.assert_allclose(blank.score.typical_distances, distances, rtol=1e-5)
    np.testing.assert_allclose(result.scores, blank.scores(X), rtol=1e-6)
    np.testing.assert_allclose(result.usage.ravel(), (model.weights(X) > 0).mean(axis=0), atol=1e-6)
    assert result.zero_row_fraction == 0


def test_scores_that_are_not_finite_after_training_are_an_error(model):
    broken = model_of(state_of(model))
    with torch.no_grad():
        next(broken.networks.parameters()).fill_(torch.nan)
    loader = Loader(X, model.layout, model.scaling, torch.device("cpu"))
    with pytest.raises(ValueError, match="Training ended with scores that are not finite: lower learning_rate"):
        broken.score_training(loader, torch.arange(60), ALONE)


def test_a_few_samples_are_scored_in_a_chunk_of_their_size(model):
    assert [model._height(n) for n in (1, 8, 9, 100, 500, 10**6)] == [8, 8, 32, 128, 512, 1024]


def test_noise_is_by_how_much_small_batches_differ(model):
    scores = model.scores(X)
    assert score_noise(model, X, scores) < 1e-5
    assert score_noise(model, X, 1.01 * scores) == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert score_noise(model, X[:3], scores[:3]) < 1e-5
