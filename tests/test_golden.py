"""Scores do not change unless they are meant to: ``python tests/golden.py`` renews them."""

import json

import golden
import numpy as np
import pytest

STORED = json.loads(golden.FILE.read_text())


@pytest.mark.parametrize("case", golden.CASES)
def test_scores_are_the_stored_ones(case):
    np.testing.assert_allclose(golden.scores(case), STORED[case], rtol=2e-3)


def test_every_stored_score_is_checked():
    assert set(STORED) == set(golden.CASES) and all(np.isfinite(values).all() for values in STORED.values())
