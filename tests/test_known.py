"""Training samples are known again, and scored as if they had not been trained on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skmemae import MemAEDetector
from skmemae._data.layout import choose_layout
from skmemae._model.copies import group_copies
from skmemae._model.known import Calibration, Fingerprint, KnownSamples, take_prints
from skmemae._model.scaling import unit_shape


def learned(X):
    layout = choose_layout(X.shape[1:])
    shape = layout.sample_shape
    fingerprint = Fingerprint(unit_shape(shape, layout.family == "fc"), int(np.prod(shape)))
    fingerprint.learn_units(X, layout)
    return layout, fingerprint


def known_of(X):
    """All samples of X, known, with the group of each."""
    copies, known = copies_of(X), KnownSamples(learned(X)[1])
    return known, known.learn_samples(copies, torch.arange(len(X)), torch.zeros(len(copies.counts), dtype=torch.bool))


def copies_of(X):
    layout, fingerprint = learned(X)
    return group_copies(take_prints(X, layout, fingerprint))


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
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = X / fingerprint.scale.numpy() - fingerprint.center.numpy() / fingerprint.scale.numpy()
    for i in range(len(X)):
        for j in range(i):
            same = bool(copies.group[i] == copies.group[j])
            if np.array_equal(X[i], X[j]):
                assert same
            elif np.abs(scaled[i] - scaled[j]).max() > 1e-6 * (1 + np.abs(scaled[[i, j]]).max()):
                assert not same


def odd_table(kind, rng):
    X = rng.normal(size=(200, 4))
    return {
        "one constant column": np.c_[np.full(200, 7.0), X],
        "all but one constant": np.c_[np.zeros((200, 3)), X[:, :1], np.full((200, 2), -3e5)],
        "offset of 1e9": X + 1e9,
        "one column with an offset of 1e9": np.c_[X, X[:, :1] + 1e9],
        "values of 1e300": X * 1e90,
        "one value of 1e300": np.where(np.arange(800).reshape(200, 4) == 5, 1e300, X),
        "one column": X[:, :1],
        "one column of integers": np.arange(200.0)[:, None],
        "zeros and ones": (np.arange(200)[:, None] >> np.arange(8) & 1).astype(float),
        "a flag of a single row": np.c_[X, np.arange(200) == 3],
    }[kind]


ODD = [
    "one constant column",
    "all but one constant",
    "offset of 1e9",
    "one column with an offset of 1e9",
    "values of 1e300",
    "one value of 1e300",
    "one column",
    "one column of integers",
    "zeros and ones",
    "a flag of a single row",
]


@pytest.mark.parametrize("kind", ODD)
def test_different_rows_of_odd_tables_are_never_one(rng, kind):
    X = odd_table(kind, rng)
    known, group = known_of(X)
    assert len(known.counts) == len(X) and (known.counts == 1).all()
    assert torch.equal(find(known, X), group) and len(group.unique()) == len(X)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    X=arrays(np.int64, st.tuples(st.integers(2, 40), st.integers(1, 6)), elements=st.integers(-3, 3)),
    constant=st.sampled_from([None, 0.0, 1.0, -1e9]),
    offset=st.sampled_from([0.0, 1.0, 1e9]),
    unit=st.sampled_from([1.0, 1e-6, 1e90]),
)
def test_clearly_different_rows_are_never_merged_and_equal_ones_always_are(X, constant, offset, unit):
    table = (X + offset) * unit
    if constant is not None:
        table = np.c_[table, np.full(len(X), constant)]
    _, expected, counts = np.unique(X, axis=0, return_inverse=True, return_counts=True)
    copies = copies_of(table)
    pairs = np.unique(np.stack([expected.ravel(), copies.group.numpy()]), axis=1)
    assert pairs.shape[1] == len(counts) == len(copies.counts)
    assert torch.equal(copies.counts[copies.group], torch.from_numpy(counts[expected.ravel()]))


@settings(deadline=None, derandomize=True, max_examples=50)
@given(arrays(np.bool_, st.tuples(st.integers(2, 60), st.integers(1, 10))))
def test_rows_of_zeros_and_ones_are_told_apart(X):
    copies = copies_of(X.astype(float))
    assert len(copies.counts) == len(np.unique(X, axis=0))


def test_a_row_moved_by_a_thousandth_of_a_deviation_in_one_column_is_another_row(rng):
    X = rng.normal(size=(1000, 5))
    known, _ = known_of(X)
    moved = X.copy()
    moved[np.arange(1000), rng.integers(5, size=1000)] += 1e-3
    assert (find(known, moved) == -1).all()


def test_fingerprints_of_all_finite_values_are_finite():
    X = np.array([[1e308, -1e308], [-1.7e308, 1.7e308], [0.0, 5e-324], [1.0, 2.0]])
    layout, fingerprint = learned(X)
    assert torch.isfinite(take_prints(X, layout, fingerprint)).all()


def of_items(X, chosen, n_training):
    layout, fingerprint = learned(X)
    copies = group_copies(take_prints(X, layout, fingerprint))
    known = KnownSamples(fingerprint, n_training)
    group = known.learn_samples(copies, chosen.flatten(), torch.zeros(len(copies.counts), dtype=torch.bool))
    known.learn_items(group, chosen, torch.arange(100, 100 + len(X)))
    return known, group


def test_a_sample_finds_the_items_that_are_made_of_it(rng):
    X, chosen = rng.normal(size=(6, 2)), torch.tensor([[4, 0, 2], [1, 3, 0]])
    known, group = of_items(X, chosen, 3)
    assert known.own_items(group).tolist() == [[1, -1, 2, -1, 0, -1], [2, 0, -1, 1, -1, -1]]
    assert known.own_items(find(known, X)).tolist() == known.own_items(group).tolist()
    assert known.own_items(find(known, X + 0.5)).tolist() == [[-1] * 6] * 2
    assert known.item_rows.tolist() == [[104, 100, 102], [101, 103, 100]]


def test_copies_have_one_own_item(rng):
    X = rng.normal(size=(4, 3))[[0, 1, 2, 1, 3]]
    known, group = of_items(X, torch.tensor([[0, 1, 4]]), 3)
    assert known.own_items(group).tolist() == [[0, 1, -1, 1, 2]]


def test_members_that_were_not_trained_on_a_sample_score_it(rng):
    X = rng.normal(size=(4, 3))
    known, group = of_items(X, torch.tensor([[0, 1, 2], [2, 1, 0], [1, 2, 0]]), 2)
    scoring = known.scoring_members(known.own_items(group))
    assert scoring.tolist() == [[False, True, True, True], [True, True, False, True], [True, True, False, True]]


def test_loaded_samples_know_their_items_again(rng):
    X = rng.normal(size=(6, 2))
    known, group = of_items(X, torch.tensor([[4, 0, 2], [1, 3, 0]]), 2)
    again = KnownSamples(Fingerprint((2,), 2), 2)
    again.load_state_dict(known.state_dict(), assign=True)
    assert torch.equal(again.own_items(find(again, X)), known.own_items(group))
    assert "own_item" not in known.state_dict()  # which follows from the rest


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


def test_calibration_never_lowers_a_score_and_single_scores_are_enough():
    scores = torch.tensor([0.0, 1.0, 1e300], dtype=torch.float64)
    for trained, held_out in (([5.0, 6.0], [1.0]), ([1.0], [2.0]), ([0.0, 0.0], [0.0, 3.0])):
        raised = Calibration().learn_quantiles(np.array(trained), np.array(held_out))(scores, torch.ones(3, dtype=torch.bool))
        assert torch.isfinite(raised).all() and (raised >= scores * (1 - 1e-12)).all()


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


KINDS = {
    "rows": ((300, 5), float, {}),
    "rows of clean data": ((300, 5), float, {"contamination": 0.01}),
    "learned items": ((300, 5), float, {"memory_unit": "sample"}),
    "images": ((60, 9, 9), np.float32, {}),
    "images of bytes": ((60, 9, 9), np.uint8, {}),
    "clips": ((30, 1, 4, 8, 8), float, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rounded_training_samples_keep_their_scores_and_labels(rng, kind):
    shape, dtype, parameters = KINDS[kind]
    X = (rng.random(shape) * 255).astype(dtype) if dtype == np.uint8 else rng.normal(size=shape).astype(dtype)
    detector = MemAEDetector(max_epochs=5, random_state=0, **parameters).fit(X)
    np.testing.assert_array_equal(detector.decision_function(X), detector.decision_scores_)
    for again in (X, X.astype(np.float32), printed(X), X.astype(float).round(7)):
        scores = detector.decision_function(again)
        np.testing.assert_allclose(scores, detector.decision_scores_, rtol=1e-5)
        np.testing.assert_array_equal(detector.predict(again), detector.labels_)
        np.testing.assert_array_equal(detector.explain(again).scores, scores)


def test_an_update_scores_its_samples_as_new_ones_as_well():
    X = np.random.default_rng(0).normal(size=(120, 6, 6))
    detector = MemAEDetector(max_epochs=20, random_state=0).fit(X[:80]).partial_fit(X[80:])
    assert detector.decision_scores_[80:] == pytest.approx(detector.decision_function(X[80:]), rel=1e-5)
    few = detector.partial_fit(X[:4])  # of which none can be held out
    assert few.decision_scores_[120:] == pytest.approx(few.decision_function(X[:4]), rel=1e-5)


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
