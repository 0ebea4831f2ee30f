"""Warnings, and where they point to."""

import warnings

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skmemae._warnings import warn_caller, warn_of_collapse

from skmemae import MemoryCollapseWarning
from tests.problems import detector

USED = np.array([[0.5, 1.0, 0.5], [0.2, 1.0, 0.1]])


def test_a_warning_points_to_the_line_that_called_us(table):
    det = detector(temperature=1.0, shrink_threshold=20.0, ensemble_size=1, memory_unit="sample")
    with pytest.warns(MemoryCollapseWarning) as warned:
        make_pipeline(StandardScaler(), det).fit(table[0])
    assert [warning.filename for warning in warned] == [__file__]
    with pytest.warns(UserWarning, match="directly") as warned:
        warn_caller("directly")
    assert warned[0].filename == __file__


def test_a_memory_that_works_is_none_to_warn_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_collapse(USED, 0.5, 1.0)
        warn_of_collapse(np.array([[1.0]]), 1.0, 1.0)  # one item is all there is
        warn_of_collapse(np.zeros((4, 0)), 0.0, 1.0)  # no memory


def test_more_than_half_of_the_queries_without_a_weight_above_the_threshold_is_one():
    with pytest.warns(MemoryCollapseWarning, match=r"51% .* threshold of 2.0/N.*Lower shrink_threshold or temperature"):
        warn_of_collapse(USED, 0.51, 2.0)


def test_a_single_item_that_answers_everything_is_one_even_if_in_one_network_alone():
    with pytest.warns(MemoryCollapseWarning, match="A single memory item answers every training sample"):
        warn_of_collapse(np.array([[0.5, 1.0, 0.5], [0.0, 1.0, 0.0]]), 0.0, 1.0)
