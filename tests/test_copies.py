"""Copies of rows: groups of equal ones, and records told from kinds."""

import numpy as np
import pytest
import torch

from skmemae._model.copies import group_copies, repeated_records


def copies_of(X):
    """Copies of the rows of X, whose columns stand for the projections of fingerprints."""
    prints = np.column_stack([X[:, :1], X[:, 1:2], X.sum(axis=1), np.full(len(X), 1e-5)])
    return group_copies(torch.from_numpy(prints.astype(float)))


def records_of(X):
    """Which rows of X are records that came several times."""
    copies = copies_of(X)
    return repeated_records(copies, torch.from_numpy(X.astype(float)).__getitem__)[copies.group].numpy()


def test_groups_know_their_counts_and_first_rows(rng):
    X = rng.normal(size=(5, 2))[[0, 1, 2, 1, 3, 1, 4, 0]]
    copies = copies_of(X)
    assert copies.counts[copies.group].tolist() == [2, 3, 1, 3, 1, 3, 1, 2]
    assert copies.first[copies.group].tolist() == [0, 1, 2, 1, 4, 1, 6, 0]
    assert copies.distinct(torch.tensor([1, 3, 4, 5, 7])).tolist() == [4, 5, 7]  # the last of each


def test_dense_rows_do_not_run_together():
    values = np.arange(10_000) * 2e-6
    counts = copies_of(np.column_stack([values, values])).counts
    assert len(counts) > 1 and counts.max() <= 6


@pytest.mark.parametrize("rounding", [0.0, 1e-6])
def test_records_have_a_value_that_no_other_record_has(rng, rounding):
    X = np.column_stack([rng.normal(size=60), rng.integers(0, 3, 60)])
    X = np.concatenate([X, X[:20] + rounding * rng.normal(size=(20, 2))])
    assert np.array_equal(records_of(X), np.r_[np.ones(20), np.zeros(40), np.ones(20)] > 0)


@pytest.mark.parametrize("levels, width", [(8, 3), (2, 10), (3, 6)])
def test_equal_rows_of_few_values_are_kinds(rng, levels, width):
    X = rng.integers(0, levels, size=(400, width))
    assert not records_of(X).any()
    assert not records_of(np.eye(40)[rng.integers(0, 40, 400)]).any()  # a category, one-hot encoded


@pytest.mark.parametrize("n", [30, 400])
@pytest.mark.parametrize("twice", [0, 100])
def test_a_state_that_comes_again_and_again_is_a_kind(rng, n, twice):
    X = rng.normal(size=(600, 3))
    X = np.concatenate([X, X[:twice], np.repeat([[0.0, 9.0, 9.0]], n, axis=0)])
    assert np.array_equal(np.flatnonzero(records_of(X)), np.r_[np.arange(twice), 600 + np.arange(twice)])


def test_one_column_and_few_groups_do_not_tell(rng):
    assert not records_of(rng.normal(size=(50, 1)).repeat(2, axis=0)).any()
    assert not records_of(rng.normal(size=(5, 3)).repeat(20, axis=0)).any()


def test_images_that_are_equal_are_records(rng):
    copies = copies_of(rng.normal(size=(5, 2)).repeat([1, 2, 1, 3, 1], axis=0))
    assert repeated_records(copies, None)[copies.group].sum() == 5


def test_of_many_groups_some_are_compared(rng, monkeypatch):
    monkeypatch.setattr("skmemae._model.copies._COMPARED_NUMBERS", 400)
    assert records_of(rng.normal(size=(1000, 2)).repeat(2, axis=0)).all()
