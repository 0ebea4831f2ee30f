"""Training samples are known again, and scored as if they had not been trained on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skmemae import MemAEDetector
from skmemae._data.layout import choose_layout
from skmemae._data.sources import neighbours_together
from skmemae._model.known import Calibration, Fingerprint, KnownSamples, group_copies, take_prints
from skmemae._model.scaling import unit_shape
from skmemae.video import ClipWindows


def learned(X):
    layout = choose_layout(X.shape[1:])
    shape = layout.sample_shape
    fingerprint = Fingerprint(unit_shape(shape, layout.family == "fc"), int(np.prod(shape)))
    fingerprint.learn_units(X, layout)
    return layout, fingerprint


def known_of(X):
    """All samples of X, known, with the group of each."""
    layout, fingerprint = learned(X)
    known = KnownSamples(fingerprint)
    return known, known.learn_samples(group_copies(take_prints(X, layout, fingerprint)), torch.arange(len(X)))


def find(known, X):
    return known.find(take_prints(X, choose_layout(X.shape[1:]), known.fingerprint))


def printed(X):
    """Values as they come back from a file with seven significant digits."""
    return np.array([float(f"{value:.7g}") for value in X.ravel()]).reshape(X.shape)


TABLES = {
    "normal": lambda rng: rng.normal(size=(500, 6)),
    "one column": lambda rng: rng.normal(size=(200, 1)),
    "units far apart": lambda rng: rng.normal(size=(500, 4)) * [1e-12, 1.0, 1e6, 1e20],
    "amounts": lambda rng: np.exp(3 * rng.normal(size=(500, 3))),
    "an offset": lambda rng: 300 + rng.normal(size=(300, 5)),
    "a constant column": lambda rng: np.c_[rng.normal(size=(300, 2)), np.full(300, 7.0)],
    "images": lambda rng: rng.normal(size=(100, 12, 9)),
    "clips": lambda rng: rng.normal(size=(30, 1, 4, 8, 8)),
}


@pytest.mark.parametrize("way", ["itself", "float32", "seven digits", "reversed"])
@pytest.mark.parametrize("table", TABLES)
def test_samples_are_found_in_any_order_and_precision(rng, table, way):
    X = TABLES[table](rng)
    known, group = known_of(X)
    ways = {"itself": X, "float32": X.astype(np.float32), "seven digits": printed(X), "reversed": X[::-1]}
    expected = group.flip(0) if way == "reversed" else group
    assert torch.equal(find(known, ways[way]), expected)


def test_bytes_and_rounded_values_are_found_too(rng):
    X = rng.integers(0, 256, size=(80, 10, 10)).astype(np.uint8)
    known, group = known_of(X)
    assert torch.equal(find(known, X.astype(np.float32)), group)
    X = rng.normal(size=(400, 5))
    known, group = known_of(X)
    assert torch.equal(find(known, X.round(7)), group)


@pytest.mark.parametrize("table", TABLES)
def test_new_samples_are_unknown(rng, table):
    known, _ = known_of(TABLES[table](rng))
    new = TABLES[table](np.random.default_rng(1))
    assert (find(known, new) == -1).float().mean() > 0.99


def test_equal_rows_are_one_group_with_their_number(rng):
    distinct, counts = rng.integers(0, 2, size=(60, 12)).astype(float), rng.integers(1, 9, size=60)
    distinct = np.unique(distinct, axis=0)
    kind = rng.permutation(np.repeat(np.arange(len(distinct)), counts[: len(distinct)]))
    known, group = known_of(distinct[kind])
    assert len(known.counts) == len(distinct) and known.counts.sum() == len(kind)
    for number in range(len(distinct)):
        groups = group[kind == number].unique()
        assert len(groups) == 1 and known.counts[groups] == counts[number]


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e9, 1e9 + 1, 1e300, -1e300, 1e-300]), min_size=3, max_size=3),
        min_size=2,
        max_size=12,
    )
)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_no_two_different_rows_become_one(rows):
    X = np.array(rows)
    layout, fingerprint = learned(X)
    copies = group_copies(take_prints(X, layout, fingerprint))
    scaled = X / fingerprint.scale.numpy() - fingerprint.center.numpy() / fingerprint.scale.numpy()
    for i in range(len(X)):
        for j in range(i):
            same = bool(copies.group[i] == copies.group[j])
            if np.array_equal(X[i], X[j]):
                assert same
            elif np.abs(scaled[i] - scaled[j]).max() > 1e-6 * (1 + np.abs(scaled[[i, j]]).max()):
                assert not same


def test_fingerprints_of_all_finite_values_are_finite():
    X = np.array([[1e308, -1e308], [-1.7e308, 1.7e308], [0.0, 5e-324], [1.0, 2.0]])
    layout, fingerprint = learned(X)
    assert torch.isfinite(take_prints(X, layout, fingerprint)).all()


def of_items(X, chosen, n_training):
    layout, fingerprint = learned(X)
    copies = group_copies(take_prints(X, layout, fingerprint))
    known = KnownSamples(fingerprint, n_training)
    group = known.learn_samples(copies, chosen.flatten())
    known.learn_items(group, chosen, torch.arange(100, 100 + len(X)))
    return known, group


def test_a_sample_finds_the_items_that_are_made_of_it(rng):
    X, chosen = rng.normal(size=(6, 2)), torch.tensor([[4, 0, 2], [1, 3, 0]])
    known, group = of_items(X, chosen, 3)
    assert known.own_items(group).tolist() == [[1, -1, 2, -1, 0, -1], [2, 0, -1, 1, -1, -1]]
    assert known.own_items(find(known, X)).tolist() == known.own_items(group).tolist()
    assert known.own_items(find(known, X + 0.5)).tolist() == [[-1] * 6] * 2
    assert known.item_rows.tolist() == [[104, 100, 102], [101, 103, 100]]


def test_repeated_rows_have_an_own_item_in_training_alone(rng):
    X = rng.normal(size=(4, 3))[[0, 1, 2, 1, 3]]
    known, group = of_items(X, torch.tensor([[0, 1, 3, 4]]), 4)
    in_training = known.own_items_of_groups(with_copies=True)
    assert in_training[:, group].tolist() == [[0, 1, -1, 1, 3]]
    assert known.own_items(group).tolist() == [[0, -1, -1, -1, 3]]


def test_members_that_were_not_trained_on_a_sample_score_it(rng):
    X = rng.normal(size=(4, 3))
    known, group = of_items(X, torch.tensor([[0, 1, 2], [2, 1, 0], [1, 2, 0]]), 2)
    scoring = known.scoring_members(known.own_items(group))
    assert scoring.tolist() == [[False, True, True, True], [True, True, False, True], [True, True, False, True]]


def test_scores_of_training_samples_get_the_distribution_of_the_others(rng):
    scores = np.exp(rng.normal(size=2000))
    trained, held_out = 0.5 * scores[:1000] ** 2, scores[1000:]
    calibration = Calibration().learn_quantiles(trained, held_out)
    raised = calibration(torch.from_numpy(trained), torch.ones(1000, dtype=torch.bool)).numpy()
    assert (raised >= trained * (1 - 1e-12)).all()  # never lowered
    order = np.argsort(trained)
    assert (np.diff(raised[order]) >= -1e-9).all()
    levels = [0.3, 0.5, 0.7]
    low = np.quantile(held_out, levels) > np.quantile(trained, levels)
    np.testing.assert_allclose(np.quantile(raised, levels)[low], np.quantile(held_out, levels)[low], rtol=0.05)
    unknown = calibration(torch.from_numpy(trained), torch.zeros(1000, dtype=torch.bool))
    np.testing.assert_array_equal(unknown, trained)


@pytest.mark.parametrize("n_held_out", [1, 2, 3])
def test_one_held_out_sample_is_enough(n_held_out):
    calibration = Calibration().learn_quantiles(np.ones(9), np.full(n_held_out, 2.0))
    raised = calibration(torch.tensor([1.0, 0.0, 1e300], dtype=torch.float64), torch.ones(3, dtype=torch.bool))
    assert raised[0].item() == pytest.approx(2.0) and torch.isfinite(raised).all()


def test_new_normal_images_are_flagged_about_as_often_as_asked():
    rng = np.random.default_rng(0)
    bumps = np.exp(-((np.arange(12)[:, None, None] - rng.uniform(3, 9, 700)) ** 2) / 4)
    X = np.moveaxis(bumps * bumps[:, ::-1].transpose(1, 0, 2), 2, 0) + rng.normal(scale=0.05, size=(700, 12, 12))
    detector = MemAEDetector(max_epochs=30, validation_fraction=0.3, random_state=0).fit(X[:300])
    assert np.mean(detector.labels_ == 1) == pytest.approx(0.1, abs=0.004)
    assert 0.04 < np.mean(detector.predict(X[300:])) < 0.16
    for again in (X[:300], X[:300].astype(np.float32), printed(X[:300])):
        assert np.mean(detector.predict(again) != detector.labels_) < 0.01
    assert -detector.score_samples(X[299:200:-1]) == pytest.approx(detector.decision_scores_[299:200:-1], rel=1e-5)


@pytest.mark.parametrize("kind", ["rows", "learned", "clips"])
def test_labels_of_training_samples_survive_float32_and_seven_digits(rng, kind):
    X = rng.normal(size=(30, 1, 4, 8, 8)) if kind == "clips" else rng.normal(size=(300, 5))
    unit = "sample" if kind == "learned" else "auto"
    detector = MemAEDetector(memory_unit=unit, max_epochs=5, random_state=0).fit(X)
    for again in (X.astype(np.float32), printed(X)):
        assert np.mean(detector.predict(again) != detector.labels_) < 0.01
        assert abs(detector.p_values(again).mean() - detector.p_values(X).mean()) < 0.01


def test_an_update_scores_its_samples_as_new_ones_as_well():
    X = np.random.default_rng(0).normal(size=(120, 6, 6))
    detector = MemAEDetector(max_epochs=20, random_state=0).fit(X[:80]).partial_fit(X[80:])
    assert detector.decision_scores_[80:] == pytest.approx(detector.decision_function(X[80:]), rel=1e-5)
    few = detector.partial_fit(X[:4])  # of which none can be held out
    assert few.decision_scores_[120:] == pytest.approx(few.decision_function(X[:4]), rel=1e-5)


def test_frames_of_one_video_are_held_out_together():
    clips = ClipWindows(length=4).fit_transform([np.random.default_rng(i).normal(size=(12, 8, 8)) for i in range(3)])
    rows = neighbours_together(clips, np.random.default_rng(0).permutation(27))
    groups = clips.video[rows]
    assert (np.diff(groups) != 0).sum() == 2
    assert all((np.diff(rows[groups == group]) == 1).all() for group in range(3))
    assert neighbours_together(np.zeros((3, 2)), np.array([2, 0, 1])).tolist() == [2, 0, 1]


@pytest.mark.parametrize("base", [1.7e15, 1e12])
def test_distinct_rows_are_no_copies_whatever_stands_beside_them(base):
    X = np.column_stack([np.random.default_rng(0).normal(size=(20_000, 2)), np.full(20_000, base)])
    days = (1.7e18 + np.arange(20_000) * 86_400e9)[:, None]
    for rows in (X, days, days.astype(np.int64)):
        assert len(known_of(rows)[0].counts) == 20_000


def test_signs_and_places_tell_rows_apart():
    X = np.random.default_rng(0).normal(size=(100, 2))
    known, group = known_of(np.tile(np.concatenate([X, -X, X[:, ::-1]]), (9, 1)))
    assert len(known.counts) == 300 and (known.counts == 9).all() and len(group.unique()) == 300
