"""Distances from random subsets of the training rows, and from their median row."""

import numpy as np
import pytest
import torch

from skmemae._model import subsets as module
from skmemae._model.subsets import RandomSubsets, Subsets, distance_from
from tests.problems import detector

ROWS = torch.tensor([[0.0, 0.0], [4.0, 0.0], [8.0, 0.0], [0.0, 2.0]])
PLACES, GROUPS = torch.tensor([[0, 1], [2, 3]]), torch.arange(4)
NEW = torch.tensor([-1, -1])


@pytest.fixture
def subsets():
    """Distances in the units of the columns, as if all rows had the same scale."""
    subsets = RandomSubsets((2,)).learn_rows(ROWS, PLACES, GROUPS)
    subsets.scales.fill_(1)
    return subsets


def test_distances_are_those_from_the_nearest_rows_and_from_the_median(subsets):
    assert subsets.median.tolist() == [2.0, 0.0]
    found = subsets(torch.tensor([[1.0, 0.0], [2.0, 1.0]]), NEW)
    assert found.tolist() == [[(1 + 3) / 2, 1.0], [3.0, 1.0]]


def test_a_sample_is_not_compared_with_itself_however_it_was_rounded(subsets):
    x = torch.tensor([[0.0, 1e-6], [8.0, 0.0]])
    torch.testing.assert_close(subsets(x, torch.tensor([0, 2]))[:, 0], torch.tensor([(4 + 2) / 2, (4 + 10) / 2]))
    assert subsets(x, NEW)[:, 0].tolist() == pytest.approx([1.0, 2.0], abs=1e-5)  # rows of others, of which one lies here


def test_a_subset_of_nothing_but_the_sample_says_nothing():
    own = Subsets(torch.ones(1, 2), torch.zeros(3, 5, dtype=torch.int64), torch.zeros(1))
    assert distance_from(own, torch.zeros(1, 2), torch.zeros(1)).tolist() == [0.0]


def test_a_row_is_a_unit_as_large_as_the_root_of_its_distance_from_the_other_subsets():
    found = RandomSubsets((2,)).learn_rows(ROWS, PLACES, GROUPS, weights=(0.5, 0.25))
    own = torch.tensor([(4 + 2) / 2, (4 + 4) / 2, (4 + 10) / 2, (2 + 10) / 2])  # each without itself in its own subset
    torch.testing.assert_close(found.scales, (own / own.median()).sqrt())
    x = torch.tensor([[4.5, 0.0]])
    expected = (0.5 / found.scales[1] + 3.5 / found.scales[2]) / 2
    torch.testing.assert_close(found(x, NEW[:1])[0, 0], expected)
    assert found.weights.tolist() == [1.0, 0.25]


def test_no_scale_is_far_below_the_others():
    far = torch.arange(1.0, 19.0).view(3, 6) * 10
    near = torch.arange(6.0).view(3, 2) * 1e-6  # two of each subset lie in one place
    places, groups = torch.arange(24).view(3, 8), torch.arange(24)
    scales = RandomSubsets((1,)).learn_rows(torch.cat([near, far], 1).view(-1, 1), places, groups).scales.view(3, 8)
    assert scales[:, :2].flatten().tolist() == pytest.approx([0.05**0.5] * 6) and (scales[:, 2:] > 0.5).all()
    same = RandomSubsets((1,)).learn_rows(torch.zeros(24, 1), places, groups).scales
    assert (same == same[0]).all() and same[0] > 0


def test_units_are_medians_over_the_training_samples(subsets):
    subsets.learn_units(np.array([[1.0, 0.0], [4.0, 0.0], [2.0, 0.0]]))
    assert subsets.typical_distances.tolist() == [2.0, 1.0]  # a median of zero is no unit
    assert subsets.in_units(torch.tensor([[3.0, 5.0]])).tolist() == [2 * 1.5 + 5.0]


def many(rng, n=50):
    rows = torch.from_numpy(rng.normal(size=(20, 3))).float()
    places = torch.from_numpy(rng.integers(20, size=(4, 6)))  # some rows are in several subsets, as in a small table
    subsets = RandomSubsets((3,)).learn_rows(rows, places, torch.arange(20))
    x = torch.cat([rows, torch.from_numpy(rng.normal(size=(n - 20, 3))).float()])
    return subsets, x, torch.where(torch.arange(n) < 20, torch.arange(n), -1)


def test_a_row_of_several_subsets_counts_in_each(rng):
    subsets, x, group = many(rng)
    rows, distances = subsets.rows, torch.zeros(len(x))
    for places in subsets.places:
        distance = torch.cdist(x, rows[places], p=1.0) / subsets.scales[places]
        distances += distance.masked_fill(group[:, None] == places, torch.inf).amin(dim=1) / len(subsets.places)
    torch.testing.assert_close(subsets(x, group)[:, 0], distances)


@pytest.mark.parametrize("numbers", [1, 24 * 3 * 7, 2**27])
def test_shares_of_the_columns_sum_to_the_distances_in_units(rng, numbers, monkeypatch):
    monkeypatch.setattr(module, "_NUMBERS", numbers)
    subsets, x, group = many(rng)
    subsets.learn_units(subsets(x, group).numpy())
    shares = subsets.shares(x, group)
    assert shares.shape == x.shape and (shares >= 0).all()
    torch.testing.assert_close(shares.sum(dim=1).double(), subsets.in_units(subsets(x, group)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("numbers", [1, 2**14])
def test_the_exported_computation_gives_the_same(rng, numbers, monkeypatch):
    monkeypatch.setattr(module, "_NUMBERS_OF_EXPORT", numbers)
    subsets, x, group = many(rng)
    expected = subsets(x, group)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(subsets(x, group), expected)


@pytest.mark.parametrize("contamination", [0.01, 0.1])
def test_rows_of_subsets_score_the_same_after_rounding(rng, contamination):
    X = rng.normal(size=(300, 6)) * [1, 10, 1e3, 1e5, 0.1, 1] + [0, 100, 0, 1e6, 3, -5]
    det = detector(contamination=contamination).fit(X)
    for again in (X.astype(np.float32), np.vectorize(lambda value: float(f"{value:.7g}"))(X), X.round(7)):
        np.testing.assert_allclose(det.decision_function(again), det.decision_scores_, rtol=1e-5)
        np.testing.assert_array_equal(det.predict(again), det.labels_)


def test_rows_of_an_older_file_are_those_of_its_subsets(rng):
    rows = torch.from_numpy(rng.normal(size=(24, 3))).float()
    groups, places = torch.arange(24), torch.arange(24).view(4, 6)
    subsets = RandomSubsets((3,)).learn_rows(rows, places, groups)
    subsets.scales.fill_(1)
    state = subsets.state_dict()
    older = {name: state[name] for name in ("median", "typical_distances")}
    older |= {"rows": rows.view(4, 6, 3), "groups": groups.view(4, 6)}
    again = RandomSubsets((3,))
    again.load_state_dict(older)
    x = torch.from_numpy(rng.normal(size=(5, 3))).float()
    torch.testing.assert_close(again(x, -torch.ones(5)), subsets(x, -torch.ones(5)))
    assert again.weights.tolist() == [1, 1]


@pytest.mark.parametrize("place", [-1, 24])
def test_places_without_a_row_are_refused(rng, place):
    state = many(rng)[0].state_dict()
    state["places"] = state["places"].clone().fill_(place)
    with pytest.raises(RuntimeError, match=f"places must be numbers of 20 rows. Got {place} to {place}"):
        RandomSubsets((3,)).load_state_dict(state)
