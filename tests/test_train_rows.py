"""Selection of the rows to train on, and of those that a memory is made of."""

import numpy as np
import pytest
import torch

from skmemae._data.layout import choose_layout
from skmemae._model.copies import group_copies
from skmemae._model.known import Fingerprint, take_prints
from skmemae._train.rows import choose_items, select_rows, some_rows, thin_copies
from tests.problems import loader_of


def copies_of(X):
    layout, fingerprint = choose_layout(X.shape[1:]), Fingerprint(X.shape[1:], X.shape[1])
    fingerprint.learn_units(X, layout)
    return group_copies(take_prints(X, layout, fingerprint))


def selected(X, share, rows=None, needs_subsets=False, seed=0, **trusted):
    rows = torch.arange(len(X)) if rows is None else rows
    return select_rows(loader_of(X), rows, copies_of(X), share, needs_subsets, torch.Generator().manual_seed(seed), **trusted)


@pytest.mark.parametrize("spread", [0.01, 2.0])
def test_a_share_far_from_most_rows_is_left_out_also_where_they_are_near_each_other(rng, spread):
    X = rng.normal(size=(500, 4))
    X[:40] = 6 + spread * rng.normal(size=(40, 4))
    found = selected(X, 0.08)
    assert len(found.rows) == 460 and found.rows.min() >= 40 and found.subsets is None


def test_nothing_is_left_out_of_training_data_that_is_said_to_be_clean(rng):
    X = rng.normal(size=(300, 4))
    X[7] = 100
    assert torch.equal(selected(X, 0.001).rows, torch.arange(300))
    assert 7 not in selected(X, 0.004).rows


def test_subsets_are_of_about_one_over_the_share_of_different_rows(rng):
    found = selected(rng.normal(size=(300, 4)), 0.05, needs_subsets=True)
    assert found.subsets.shape[1:] == (20,) and 4 <= len(found.subsets) <= 50
    assert all(len(rows.unique()) == 20 and rows.min() >= 0 and rows.max() < 300 for rows in found.subsets)


def test_trusted_rows_stay(rng):
    X = rng.normal(size=(300, 4))
    X[[3, 200]] = 100
    found = selected(X, 0.02, n_trusted=10)
    assert 3 in found.rows and 200 not in found.rows


def test_the_share_is_one_of_all_rows_with_their_copies(rng):
    X = np.repeat(rng.normal(size=(100, 3)), 5, axis=0)
    X[:5] = [[30.0 + i, 0, 0] for i in range(5)]
    thinned = torch.arange(0, 500, 5)  # one of each five, whose four copies are left out with it
    assert len(selected(X, 0.05, thinned).rows) >= 100 - 0.05 * 500
    assert len(selected(X, 0.05).rows) >= 475


def test_one_seed_gives_the_same_rows(rng):
    X = rng.normal(size=(200, 3))
    assert torch.equal(selected(X, 0.2).rows, selected(X, 0.2).rows)
    assert not torch.equal(selected(X, 0.2).rows, selected(X, 0.2, seed=1).rows)


@pytest.mark.parametrize("n", [2, 3, 40])
def test_few_rows_are_enough(rng, n):
    assert 1 <= len(selected(rng.normal(size=(n, 2)), 0.5).rows) <= n


@pytest.mark.parametrize("power", [0.5, 0.7, 0.9])
def test_a_power_of_the_number_of_equal_rows_is_kept_and_the_first_of_them(rng, power):
    distinct = rng.normal(size=(120, 3))
    counts = rng.integers(1, 30, size=120)
    order = rng.permutation(counts.sum())
    kind = np.repeat(np.arange(120), counts)[order]
    mask = thin_copies(copies_of(distinct[kind]), power).numpy()
    np.testing.assert_array_equal(np.bincount(kind[mask]), np.ceil(counts**power))
    for number in range(120):
        of_kind = np.flatnonzero(kind == number)
        assert mask[of_kind[: mask[of_kind].sum()]].all()


def test_rows_that_do_not_repeat_are_all_kept_and_few_kinds_of_rows_too(rng):
    X = rng.normal(size=(500, 3))
    assert thin_copies(copies_of(X), 0.5) is None
    assert thin_copies(copies_of(np.repeat(X[:19], 25, axis=0)), 0.5) is None  # fewer than a hundred would be left
    assert thin_copies(copies_of(np.repeat(X, 2, axis=0)), 1.0) is None


def test_as_many_random_rows_are_taken_as_training_has_a_use_for():
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(0, 60_000, 2)
    some = some_rows(rows, generator)
    assert len(some) == 80 * 256 and torch.isin(some, rows).all() and (some.diff() > 0).all()
    assert some_rows(rows[:100], generator) is not None and torch.equal(some_rows(rows[:100], generator), rows[:100])


@pytest.mark.parametrize(("members", "n"), [(1, 100), (3, 100), (16, 501)])
def test_few_members_or_those_of_many_rows_hold_random_rows_and_train_on_all(members, n):
    choice = choose_items(torch.arange(0, 2 * n, 2), members, 30, torch.Generator().manual_seed(0))
    assert choice.rows.shape == (members, 30) and choice.n_training == 30
    assert all(len(rows.unique()) == 30 and (rows % 2 == 0).all() for rows in choice.rows)


@pytest.mark.parametrize("members", [4, 8])
def test_of_few_rows_each_has_members_that_are_not_trained_on_it(members):
    choice = choose_items(torch.arange(100), members, 100, torch.Generator().manual_seed(0))
    assert choice.n_training == 75
    untrained = torch.stack([torch.bincount(rows[75:], minlength=100) for rows in choice.rows])
    assert (untrained.sum(dim=0) == members // 4).all()
