"""Scorers under both conventions and both codings of y."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from skmemae import MemAEDetector, metrics


@pytest.mark.parametrize("scorer", [metrics.roc_auc, metrics.average_precision, metrics.precision_at_n])
def test_a_scorer_says_the_same_under_every_pairing(table, scorer):
    X, y = table
    det = MemAEDetector(max_epochs=30, random_state=0).fit(X)
    found = {
        scorer(det.set_params(convention=convention), X, coded)
        for convention in ("pyod", "sklearn")
        for coded in (y, 1 - 2 * y)
    }
    assert len(found) == 1 and 0.7 < found.pop() <= 1
    assert scorer(IsolationForest(random_state=0).fit(X), X, y) > 0.9


@pytest.mark.parametrize("y", [[0, 1, 2], [1, 1, 1], ["a", "b", "a"], [-1, 0, 1]])
def test_labels_that_could_mean_anything_are_refused(y):
    with pytest.raises(ValueError, match="y must hold 0 and 1"):
        metrics.is_outlier(y)


def test_labels_without_outliers_are_fine():
    assert not metrics.is_outlier([0, 0]).any()
    assert metrics.is_outlier(np.array([-1, 1])).tolist() == [True, False]
