"""Which rows a memory may be made of."""

import numpy as np
import pytest
import torch
from skmemae._data.draws import distance_from
from skmemae._data.statistics import learn_scaling
from skmemae._train.survey import survey

from skmemae._data.layout import choose_layout
from skmemae._data.loader import Loader


def load(X):
    layout = choose_layout(X.shape[1:])
    return Loader(X, layout, learn_scaling(X, layout, "standard"), torch.device("cpu"))


def run(X, share, rows=None, seed=0):
    rows = torch.arange(len(X)) if rows is None else rows
    return survey(load(X), rows, share, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spread", [0.01, 2.0])
def test_a_share_is_left_out_of_those_that_are_far_from_most_also_where_they_are_near_each_other(rng, spread):
    X = rng.normal(size=(500, 4))
    X[:40] = 6 + spread * rng.normal(size=(40, 4))
    found = run(X, 0.08)
    assert len(found.trusted) == 460 and found.trusted.min() >= 40


def test_nothing_is_left_out_of_training_data_that_is_said_to_be_clean(rng):
    X = rng.normal(size=(300, 4))
    X[7] = 100
    assert torch.equal(run(X, 0.001).trusted, torch.arange(300))
    found = run(X, 0.004)
    assert 7 not in found.trusted and found.draws is None and run(X, 0.005).draws is not None


def test_the_share_is_one_of_all_rows_with_their_copies(rng):
    X = np.repeat(rng.normal(size=(100, 3)), 5, axis=0)
    X[:5] = [[30.0 + i, 0, 0] for i in range(5)]
    thinned = torch.arange(0, 500, 5)  # one of each five, whose four copies are left out with it
    assert len(run(X, 0.05, thinned).trusted) >= 100 - 0.05 * 500
    assert len(run(X, 0.05).trusted) >= 475


def test_equal_rows_have_one_signature():
    found = run(np.array([[0.0, 1.0], [2.0, 3.0], [0.0, 1.0], [4.0, 5.0]]), 0.01)
    assert found.signatures[0] == found.signatures[2] and len(np.unique(found.signatures)) == 3


def test_the_distance_is_that_to_the_nearest_other_row_of_a_draw():
    drawn = torch.tensor([[[0.0, 0.0], [3.0, 0.0]], [[10.0, 0.0], [0.0, 0.0]]])
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 20.0]])
    assert distance_from(drawn, x).tolist() == [(3 + 10) / 2, 2.0, 20.0]
    assert distance_from(torch.zeros(3, 5, 2), torch.zeros(1, 2)).tolist() == [0.0]


def test_one_seed_gives_the_same_rows(rng):
    X = rng.normal(size=(200, 3))
    assert torch.equal(run(X, 0.2).trusted, run(X, 0.2).trusted)
    assert not torch.equal(run(X, 0.2).trusted, run(X, 0.2, seed=1).trusted)


@pytest.mark.parametrize("n", [2, 3, 40])
def test_few_rows_are_enough(rng, n):
    assert 1 <= len(run(rng.normal(size=(n, 2)), 0.5).trusted) <= n
