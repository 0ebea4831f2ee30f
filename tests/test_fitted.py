"""The fitted model: its state, its device, and its results."""

import pickle

import numpy as np
import pytest
import torch

from skmemae._model import fitted
from skmemae._model.files import FORMAT, model_of, state_of
from skmemae._train.fit import score_noise
from tests.problems import detector

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
    assert again.config == model.config and again.layout == model.layout


def test_a_state_shares_no_memory_with_the_model(model):
    state, scores = state_of(model), model.scores(X)
    for value in state["arrays"].values():
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


@pytest.mark.parametrize("failure", [KeyboardInterrupt, torch.OutOfMemoryError])
def test_a_move_that_fails_leaves_the_model_where_it_was(model, monkeypatch, failure):
    scores = model.scores(X)
    with pytest.raises(ValueError, match="'device' parameter is 'cuda:99'"):
        model.move("cuda:99")

    def fail(module, device):
        raise failure

    monkeypatch.setattr(fitted, "move_to_device", fail)
    with pytest.raises(failure):
        model.move("cpu")
    np.testing.assert_array_equal(model.scores(X), scores)


@pytest.mark.parametrize("numbers", [[7, 0, 7, 44, 15, 14], [40], [], list(range(45))[::-1]])
def test_some_items_decode_as_among_all(model, numbers):
    whole = model.decode_items(np.arange(45))
    found = model.decode_items(np.array(numbers, dtype=int))
    assert found.shape == (len(numbers), 5) and found.dtype == np.float32
    np.testing.assert_allclose(found, whole[numbers], rtol=1e-5, atol=1e-6)


def test_an_item_is_decoded_by_its_own_network_in_the_units_of_x(model):
    network = model.networks.networks[1]
    with torch.no_grad():
        scaled = network.decoder(network.memory.items[4:5]).double()
    np.testing.assert_allclose(model.decode_items(np.array([15 + 4])), model.scaling.inverse(scaled), rtol=1e-5)


def test_results_of_several_networks_are_their_means_side_by_side(model):
    x = next(model._loader(X).chunks(60)).x
    with torch.no_grad():
        outputs = [network(x) for network in model.networks.networks]
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


def test_a_chunk_has_the_fewest_rows_that_hold_the_samples(model):
    assert [model.height(n) for n in (1, 24, 25, 100, 500, 10**6)] == [24, 24, 128, 128, 512, 1024]


def test_the_whole_model_is_one_call_of_a_module(model):
    with torch.no_grad():
        scores, residuals = model(torch.from_numpy(X[:24]))
    np.testing.assert_allclose(scores, model.scores(X[:24]), rtol=1e-6)
    np.testing.assert_allclose(residuals, model.residuals(X[:24]), rtol=1e-4, atol=1e-6)


def test_noise_is_the_difference_of_scores_of_small_batches(model):
    scores = model.scores(X)
    assert score_noise(model, X, scores) < 1e-5
    assert score_noise(model, X, 1.01 * scores) == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert score_noise(model, X[:3], scores[:3]) < 1e-5


def test_a_wide_row_costs_little_more_than_its_numbers():
    wide = detector(ensemble_size=1, max_epochs=1).fit(np.random.default_rng(0).normal(size=(20, 20_000)))
    assert wide._model.height(8) <= 24 and wide._model.height(1000) * 20_000 <= 2**20


def test_memory_items_are_decoded_in_parts(model, monkeypatch):
    whole, sizes, decode = model.decode_items(np.arange(45)), [], type(model.networks).decode_items
    monkeypatch.setattr(fitted, "_DECODED_NUMBERS", 10 * 5)
    monkeypatch.setattr(type(model.networks), "decode_items", lambda self, some: sizes.append(len(some)) or decode(self, some))
    np.testing.assert_allclose(model.decode_items(np.arange(45)), whole, rtol=1e-5, atol=1e-6)
    assert sizes == [10, 10, 10, 10, 5]
