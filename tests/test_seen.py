"""Samples that were trained on, and what they would score otherwise."""

import numpy as np
import pytest
import torch

from skmemae import MemAEDetector
from skmemae._data.seen import SeenSamples, prints


@pytest.fixture
def samples():
    return torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def seen_of(samples, scores, held_out):
    found = prints(samples).numpy()
    trained = np.setdiff1d(np.arange(len(samples)), held_out)
    return SeenSamples.of(found, scores, trained, held_out), found


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_samples_are_found_again_in_any_order_and_precision(samples, unit):
    samples = unit * samples
    seen, found = seen_of(samples, np.arange(1.0, 201), np.arange(20))
    assert not seen.find(found[:20]).any() and seen.find(found[20:]).all()
    assert seen.find(prints(samples[20:].flip(0).float()).numpy()).all()
    nearly = samples[20:].clone()
    nearly[:, 0, 3, 3] += 1e-3 * unit
    assert not seen.find(prints(nearly).numpy()).any()


def test_blank_samples_are_found():
    seen, found = seen_of(torch.zeros(3, 4), np.ones(3), np.array([0]))
    assert seen.find(found).all()


def test_scores_of_samples_trained_on_get_the_distribution_of_the_others(samples):
    scores = np.random.default_rng(0).lognormal(size=200)
    held_out = np.arange(60)
    scores[held_out] = 3 * scores[held_out] ** 2 + 1
    seen, found = seen_of(samples, scores, held_out)
    raised = seen.as_unseen(scores, found)
    assert np.array_equal(raised[:60], scores[:60])
    assert np.array_equal(raised[60:].argsort(), scores[60:].argsort())
    for level in (0.25, 0.5, 0.75, 0.9):
        assert np.quantile(raised[60:], level) == pytest.approx(np.quantile(scores[:60], level, method="weibull"), rel=0.15)


def test_scores_are_never_lowered_and_stay_finite(samples):
    scores = np.r_[np.full(20, 0.5), np.linspace(1, 2, 178), 0.0, 1e300]
    seen, found = seen_of(samples, scores, np.arange(20))
    raised = seen.as_unseen(scores, found)
    assert (raised >= scores * (1 - 1e-12)).all() and np.isfinite(raised).all()


@pytest.mark.parametrize("n_held_out", [1, 2])
def test_one_sample_held_out_is_enough(samples, n_held_out):
    scores = np.ones(200)
    scores[:n_held_out] = 2.0
    seen, found = seen_of(samples, scores, np.arange(n_held_out))
    assert seen.as_unseen(scores, found) == pytest.approx(2.0)


def test_new_normal_images_are_flagged_about_as_often_as_asked():
    rng = np.random.default_rng(0)
    bumps = np.exp(-((np.arange(12)[:, None, None] - rng.uniform(3, 9, 700)) ** 2) / 4)
    X = np.moveaxis(bumps * bumps[:, ::-1].transpose(1, 0, 2), 2, 0) + rng.normal(scale=0.05, size=(700, 12, 12))
    detector = MemAEDetector(max_epochs=30, validation_fraction=0.3, random_state=0).fit(X[:300])
    assert np.mean(detector.labels_ == 1) == pytest.approx(0.1, abs=0.004)
    for convention, outlier in (("pyod", 1), ("sklearn", -1)):
        detector.set_params(convention=convention)
        assert 0.04 < np.mean(detector.predict(X[300:]) == outlier) < 0.16
        assert np.array_equal(detector.predict(X[:300]) == outlier, detector.labels_ == 1)
    assert -detector.score_samples(X[:300]) == pytest.approx(detector.decision_scores_, rel=1e-5)
    assert -detector.score_samples(X[299:200:-1]) == pytest.approx(detector.decision_scores_[299:200:-1], rel=1e-5)


def test_an_update_judges_its_samples_as_new_ones_as_well():
    X = np.random.default_rng(0).normal(size=(120, 6, 6))
    detector = MemAEDetector(max_epochs=20, random_state=0).fit(X[:80]).partial_fit(X[80:])
    assert detector.decision_scores_[80:] == pytest.approx(detector.decision_function(X[80:]), rel=1e-5)
    few = detector.partial_fit(X[:4])  # of which none can be held out
    assert few.decision_scores_[120:] == pytest.approx(few.decision_function(X[:4]), rel=1e-5)


def test_frames_of_one_video_are_held_out_together():
    from skmemae._data.sources import neighbours_together
    from skmemae.video import ClipWindows

    clips = ClipWindows(length=4).fit_transform([np.random.default_rng(i).normal(size=(12, 8, 8)) for i in range(3)])
    rows = neighbours_together(clips, np.random.default_rng(0).permutation(27))
    groups = clips.video[rows]
    assert (np.diff(groups) != 0).sum() == 2
    assert all((np.diff(rows[groups == group]) == 1).all() for group in range(3))
    assert neighbours_together(np.zeros((3, 2)), np.array([2, 0, 1])).tolist() == [2, 0, 1]
