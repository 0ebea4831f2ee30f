"""From a residual to an anomaly score."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter

from skmemae._data.draws import Draws
from skmemae._data.scaling import Scaling
from skmemae._score import Score
from skmemae.network import MemAE, Output, build_network

SINGLE = MemAE(None, None)
PLAIN = Scaling(np.zeros(1), np.ones(1))


def errors(kind, x, reconstruction, scaling=PLAIN):
    """Scores of one network that reconstructs so."""
    x, reconstruction = (torch.as_tensor(a, dtype=torch.float32) for a in (x, reconstruction))
    score = Score(kind, (1.0,))
    output = Output(reconstruction, torch.zeros(len(x), 1))
    return score.combine(score.terms(x, [output], [SINGLE], scaling).numpy())


@pytest.fixture
def images(rng):
    """Images and their reconstructions, channels first."""
    return rng.uniform(size=(2, 12, 2, 24, 30))


def test_reconstruction_is_the_squared_error(images):
    x, reconstruction = images
    expected = ((x - reconstruction) ** 2).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(errors("reconstruction", x, reconstruction), expected, rtol=1e-5)


def test_absolute_is_the_l1_error(images):
    x, reconstruction = images
    expected = np.abs(x - reconstruction).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(errors("absolute", x, reconstruction), expected, rtol=1e-5)


def test_relative_is_the_squared_error_over_the_norm_also_of_blanks(images):
    x, reconstruction = images
    x[3] = 0
    expected = ((x - reconstruction) ** 2).sum(axis=(1, 2, 3)) / np.sqrt((x**2).sum(axis=(1, 2, 3)) + 2 * 24 * 30)
    np.testing.assert_allclose(errors("relative", x, reconstruction), expected, rtol=1e-5)


@pytest.mark.parametrize("height, sigma", [(24, 1.0), (12, 0.5), (30, 1.25), (60, 1.5)])
def test_smooth_is_the_energy_of_the_blurred_residual(rng, height, sigma):
    x, reconstruction = rng.uniform(size=(2, 12, 2, height, 60))
    blurred = gaussian_filter(reconstruction - x, (0, 0, sigma, sigma), mode="nearest", radius=(0, 0, 4, 4))
    expected = (blurred**2).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(errors("smooth", x, reconstruction), expected, rtol=1e-4)


def test_smooth_is_weighed_by_the_distance_from_the_mean_sample(images):
    x, reconstruction = images
    mean_sample = np.random.default_rng(1).normal(size=(2, 24, 30))
    contrast = Scaling(np.zeros((1, 1, 1)), np.ones((1, 1, 1)), mean_sample=mean_sample)
    weights = contrast.distance_from_mean(torch.as_tensor(x, dtype=torch.float32)).numpy()
    assert np.ptp(weights) > 0.01
    expected = weights * errors("smooth", x, reconstruction)
    np.testing.assert_allclose(errors("smooth", x, reconstruction, contrast), expected, rtol=1e-5)


@pytest.mark.parametrize("size, side", [((21, 28), 3), ((40, 41), 6), ((3, 5), 1)])
def test_local_is_a_norm_of_the_errors_of_patches(rng, size, side):
    x, reconstruction = rng.uniform(size=(2, 12, 2, *size))
    residual = ((x - reconstruction) ** 2).mean(axis=1)
    step = max(1, side // 2)  # half overlapping
    patches = sliding_window_view(residual, (side, side), axis=(1, 2))[:, ::step, ::step].mean(axis=(3, 4))
    expected = np.linalg.norm(patches.reshape(12, -1), ord=4, axis=1)
    np.testing.assert_allclose(errors("local", x, reconstruction), expected, rtol=1e-4)


def test_local_of_a_clip_is_the_median_over_its_frames(rng):
    x, reconstruction = rng.uniform(size=(2, 12, 2, 5, 14, 15))
    reconstruction[4, :, 2] = 100  # a frame that was lost
    frames = np.stack([errors("local", x[:, :, t], reconstruction[:, :, t]) for t in range(5)], axis=1)
    np.testing.assert_allclose(errors("local", x, reconstruction), np.median(frames, axis=1), rtol=1e-4)
    assert errors("local", x, reconstruction)[4] < 2 * errors("local", x, reconstruction).mean()


def test_combined_is_the_l1_error_times_one_plus_a_tenth_of_the_distance_in_typical_ones(rng):
    network = build_network((6,), "fc", (8, 3), memory_size=5)
    x = torch.as_tensor(rng.normal(size=(20, 6)), dtype=torch.float32)
    with torch.no_grad():
        output = network(x)
    score = Score("combined", (0.25,))
    assert score.needs_distances and not Score("smooth", (1.0,)).needs_distances
    distance = (output.encoding - output.read_out).square().sum(dim=1)
    expected = (output.reconstruction - x).abs().sum(dim=1) * (1 + distance / 0.25 / 10)
    np.testing.assert_allclose(score.combine(score.terms(x, [output], [network], PLAIN).numpy()), expected, rtol=1e-5)
    blind = output._replace(read_out=None)  # of a network without a memory
    np.testing.assert_allclose(
        score.combine(score.terms(x, [blind], [network], PLAIN).numpy()),
        (output.reconstruction - x).abs().sum(dim=1),
        rtol=1e-5,
    )


def test_combined_of_rows_is_the_error_to_the_power_of_three_halves_and_what_training_makes_small(rng):
    x, reconstruction = rng.normal(size=(2, 20, 6))
    score = Score.of("combined", 3, "fc", of_rows=True)
    assert score == Score("power", (1.0,) * 3) and score.trained_power == 1.5 and not score.needs_distances
    expected = (np.abs(x - reconstruction) ** 1.5).sum(axis=1)
    np.testing.assert_allclose(errors("power", x, reconstruction), expected, rtol=1e-5)
    assert Score.of("combined", 1).trained_power == 2 and Score.of("absolute", 1, of_rows=True).trained_power == 1


@pytest.mark.parametrize(
    "parameter, family, error, exemplars",
    [
        ("combined", "conv2d", "smooth", "turns"),
        ("combined", "conv3d", "relative", "turns"),
        ("motion", "conv3d", "local", "paces"),
    ],
)
def test_the_root_of_an_error_is_multiplied_by_the_distance_from_exemplars(parameter, family, error, exemplars):
    score = Score.of(parameter, 2, family)
    assert score == Score(error, (1.0, 1.0), exemplars=exemplars) and not score.needs_distances
    assert Score.of(error, 1, family) == Score(error, (1.0,))
    terms = np.array([[[4.0, 0.0, 1.0, 3.0], [9.0, 0.0, 1.0, 3.0]]])
    np.testing.assert_allclose(score.combine(terms), [6**0.5 * 3])
    terms[..., 0] = 1e300
    assert np.isfinite(score.combine(terms)).all()


def test_distances_from_draws_and_their_median_are_added_in_typical_units():
    rows = torch.tensor([[[0.0, 0.0], [4.0, 0.0]], [[8.0, 0.0], [0.0, 2.0]]])
    draws = Draws.of(rows)
    assert draws.median.tolist() == [2.0, 0.0]
    found = draws.distances(torch.tensor([[1.0, 0.0], [2.0, 1.0]]))
    assert found.tolist() == [[(1 + 3) / 2, 1.0], [3.0, 1.0]]
    draws = draws.in_units_of(np.array([1.0, 5.0]), found.numpy())
    assert (draws.typical_error, draws.typical_distances) == (3.0, (2.5, 1.0))
    terms = np.ones((2, 3, 5))
    terms[:, :, 3:] = found.numpy()[:, None]
    terms[:, :, 0], terms[:, :, 1] = [[3.0], [6.0]], 0
    score = Score("power", (1.0,) * 3, draws)
    np.testing.assert_allclose(score.combine(terms), [1 + 2 / 2.5 + 1, 2 + 3 / 2.5 + 1])
    np.testing.assert_allclose(score.errors(terms), [3, 6])


def test_networks_are_combined_by_the_geometric_mean():
    terms = np.array([[[4.0, 10.0], [9.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]])
    scores = Score("combined", (1.0, 2.0)).combine(terms)
    np.testing.assert_allclose(scores[0], np.sqrt(4 * 2 * 9))
    assert 0 < scores[1] < 1e-100


@pytest.mark.parametrize("bad", [np.inf, np.nan, np.finfo(np.float64).max])
@pytest.mark.parametrize("members", [1, 3])
def test_scores_are_finite_whatever_the_terms(bad, members):
    terms = np.ones((2, members, 2))
    terms[1] = bad
    with np.errstate(all="raise", under="ignore"):
        scores = Score("combined", (0.1,) * members).combine(terms)
    assert np.isfinite(scores).all() and scores[1] > scores[0]
    draws = Draws(np.zeros((1, 1, 1)), np.zeros(1), 1e-12, (1e-12, 1e-12))
    far = np.ones((2, members, 3))
    far[1, :, 1:] = 1e30
    scores = Score("power", (1.0,) * members, draws).combine(np.concatenate([terms, far], axis=2))
    assert np.isfinite(scores).all() and scores[1] > scores[0]


@pytest.mark.parametrize("kind", ["reconstruction", "relative", "smooth", "local", "combined"])
@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (2, 1, 4, 8, 9), (2, 1, 1, 1)])
def test_a_perfect_reconstruction_has_the_score_zero_and_a_worse_one_more(kind, shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert errors(kind, x, x) == pytest.approx(0, abs=1e-6)
    near, far = errors(kind, x, x + 0.1), errors(kind, x, x + 1000)
    assert (near > 0).all() and (near < far).all()
    output, score = Output(x, torch.zeros(len(x), 1)), Score(kind, (1.0,))
    terms = torch.cat([score.terms(x, [output], [SINGLE], PLAIN), torch.ones(len(x), 1, 1)], dim=2)  # the network counts
    np.testing.assert_allclose(score.shares(x, [output], [SINGLE], terms), np.zeros(shape), atol=1e-6)


@pytest.mark.parametrize("kind", ["reconstruction", "absolute", "power", "smooth", "local", "relative"])
def test_a_sample_scores_alone_what_it_scores_beside_others(rng, kind):
    x = rng.uniform(size=(3, 1, 12, 12))
    reconstruction = x + 0.01 * rng.normal(size=x.shape)
    reconstruction[2] += 1e18
    together = errors(kind, x, reconstruction)
    alone = [errors(kind, x[i : i + 1], reconstruction[i : i + 1])[0] for i in range(3)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)
