"""From a residual to an anomaly score."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter

from skmemae._model.scaling import FAR_LIMIT, Scaling
from skmemae._model.score import ERRORS, FACTORS, Score, Terms
from skmemae.network import Ensemble, Output


def plain(sample_shape):
    """Scaling that changes nothing."""
    scaling = Scaling(sample_shape, False, FAR_LIMIT)
    scaling.learn_units(np.zeros(1), np.ones(1))
    return scaling


def errors(name, x, reconstruction, scaling=None):
    """Errors of one member that reconstructs so."""
    x, reconstruction = (torch.as_tensor(a, dtype=torch.float32) for a in (x, reconstruction))
    score = Score(name, 1)
    output = Output(reconstruction.unsqueeze(0), torch.zeros(1, len(x), 1))
    return score.errors(score.terms(x, output, scaling or plain(x.shape[1:]))).numpy()


def scored(score, terms):
    """Scores of terms, without a factor."""
    return score(score.errors(terms), None, None).numpy()


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
    contrast = plain((2, 24, 30))
    contrast.learn(mean_sample=torch.from_numpy(np.random.default_rng(1).normal(size=(2, 24, 30))))
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


def test_power_is_the_sum_of_errors_to_the_power_of_three_halves(images):
    x, reconstruction = images
    expected = (np.abs(x - reconstruction) ** 1.5).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(errors("power", x, reconstruction), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "name, power",
    [("absolute", 1.0), ("power", 1.5), ("power-subsets", 1.5), ("absolute-query", 2.0), ("smooth-turns", 2.0), ("local", 2.0)],
)
def test_training_makes_the_errors_of_the_score_small(name, power):
    assert Score(name, 3).trained_power == power


def test_a_name_is_an_error_and_a_factor():
    for error in ERRORS:
        assert (Score(error, 1).error, Score(error, 1).factor) == (error, None)
        for factor in FACTORS:
            assert (Score(f"{error}-{factor}", 1).error, Score(f"{error}-{factor}", 1).factor) == (error, factor)


def test_the_query_multiplies_by_one_plus_a_tenth_of_its_distance_in_typical_ones(rng):
    config = {"sample_shape": (6,), "members": 2, "backbone": "fc", "widths": (8, 3), "side_by_side": False, "per_sample": True}
    config |= {"memory_size": 5, "memory_heads": 1, "similarity": "cosine", "temperature": 1.0, "shrink_threshold": 1.0}
    networks = Ensemble.build(config, torch.Generator().manual_seed(0))
    x = torch.as_tensor(rng.normal(size=(20, 6)), dtype=torch.float32)
    with torch.no_grad():
        output = networks(x)
    score = Score("absolute-query", 2)
    score.learn(typical_query_distances=torch.tensor([0.25, 2.0]))
    terms = score.terms(x, output, plain((6,)))
    assert terms.errors.shape == terms.query_distances.shape == (20, 2) and terms.errors.dtype == torch.float64
    distance = (output.query - output.read_out).square().sum(dim=2)
    of_members = (output.reconstruction - x).abs().sum(dim=2) * (1 + distance / torch.tensor([[0.25], [2.0]]) / 10)
    np.testing.assert_allclose(scored(score, terms), of_members.log().mean(dim=0).exp(), rtol=1e-5)
    assert Score("absolute", 2).terms(x, output, plain((6,))).query_distances is None
    blind = score.terms(x, output._replace(read_out=None), plain((6,)))  # of networks without a memory
    np.testing.assert_array_equal(scored(score, blind), scored(Score("absolute", 2), blind))


def test_the_root_of_an_error_is_multiplied_by_the_distance_from_features():
    score = Score("smooth-turns", 2)
    terms = Terms(torch.tensor([[4.0, 9.0]], dtype=torch.float64))
    found = score(score.errors(terms), None, torch.tensor([3.0]))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, [6**0.5 * 3])
    assert torch.isfinite(score(torch.tensor([1e300], dtype=torch.float64), None, torch.tensor([1e38]))).all()


def test_distances_from_subsets_are_added_to_the_error_in_its_unit():
    score = Score("power-subsets", 3)
    score.learn(typical_error=torch.tensor(3.0))
    terms = Terms(torch.tensor([[3.0] * 3, [6.0] * 3], dtype=torch.float64))
    found = score(score.errors(terms), torch.tensor([5.0, 7.0], dtype=torch.float64), None)
    np.testing.assert_allclose(found, [1 + 5, 2 + 7])


def test_members_are_combined_by_the_geometric_mean_of_those_that_score():
    of_members = torch.tensor([[8.0, 9.0, 3.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    scores = scored(Score("power", 3), Terms(of_members))
    np.testing.assert_allclose(scores[0], 6)
    assert 0 < scores[1] < 1e-99
    scoring = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    np.testing.assert_allclose(scored(Score("power", 3), Terms(of_members, scoring=scoring)), [27**0.5, 1])


@pytest.mark.parametrize("bad", [np.inf, np.nan, np.finfo(np.float64).max])
@pytest.mark.parametrize("members", [1, 3])
def test_scores_are_finite_whatever_the_terms(bad, members):
    values = torch.ones(2, members, dtype=torch.float64)
    values[1] = bad
    score = Score("absolute-query", members)
    score.learn(typical_query_distances=torch.full((members,), 0.1))
    scores = scored(score, Terms(values, values))
    assert np.isfinite(scores).all() and scores[1] > scores[0]
    score = Score("power-subsets", members)
    score.learn(typical_error=torch.tensor(1e-12))
    scores = score(score.errors(Terms(values)), torch.tensor([1.0, 1e42], dtype=torch.float64), None)
    assert torch.isfinite(scores).all() and scores[1] > scores[0]


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (2, 1, 4, 8, 9), (2, 1, 1, 1)])
def test_a_perfect_reconstruction_has_the_score_zero_and_a_worse_one_more(kind, shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert errors(kind, x, x) == pytest.approx(0, abs=1e-6)
    near, far = errors(kind, x, x + 0.1), errors(kind, x, x + 1000)
    assert (near > 0).all() and (near < far).all()


def shares(kind, x, reconstructions, scoring=None):
    output = Output(torch.as_tensor(reconstructions, dtype=torch.float32), None)
    return Score(kind, len(reconstructions)).shares(torch.as_tensor(x, dtype=torch.float32), output, scoring)


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (2, 1, 4, 8, 9), (2, 1, 1, 1)])
def test_shares_of_a_sample_are_not_negative_and_sum_to_one_also_without_an_error(rng, kind, shape):
    x, reconstructions = rng.random(shape), rng.random((3, *shape))
    reconstructions[:, 1] = x[1]
    found = shares(kind, x, reconstructions)
    assert found.shape == shape and found.dtype == torch.float64 and (found >= 0).all()
    np.testing.assert_allclose(found.flatten(1).sum(dim=1), 1, rtol=1e-9)


@pytest.mark.parametrize("kind", ERRORS)
def test_the_share_of_a_wrong_place_is_nearly_all(rng, kind):
    x = rng.random((2, 1, 24, 24))
    wrong = np.stack([x, x])
    wrong[..., 10:14, 5:9] += 3
    found = shares(kind, x, wrong + 0.001)
    assert (found[..., 8:16, 3:11].sum(dim=(1, 2, 3)) > 0.95).all()


def test_shares_are_those_of_the_members_that_score(rng):
    x, reconstructions = rng.random((2, 5)), rng.random((3, 2, 5))
    scoring = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    alone = [shares("power", x, reconstructions[i : i + 1]) for i in range(3)]
    expected = torch.stack([alone[0][0], (alone[1][1] + alone[2][1]) / 2])
    torch.testing.assert_close(shares("power", x, reconstructions, scoring), expected)


@pytest.mark.parametrize("kind", ERRORS)
def test_a_sample_scores_alone_what_it_scores_beside_others(rng, kind):
    x = rng.uniform(size=(3, 1, 12, 12))
    reconstruction = x + 0.01 * rng.normal(size=x.shape)
    reconstruction[2] += 1e18
    together = errors(kind, x, reconstruction)
    alone = [errors(kind, x[i : i + 1], reconstruction[i : i + 1])[0] for i in range(3)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)
