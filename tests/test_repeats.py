"""Which of many equal rows to train on."""

import dask.array
import numpy as np
import pytest

from skmemae._data import sources
from skmemae._data.repeats import thin_repeats


@pytest.fixture
def repeated(rng):
    """150 rows that occur once, one that occurs 101 times and one that occurs 4 times."""
    rows = [rng.normal(size=(150, 3)), np.repeat([[1.0, 2.0, 3.0]], 101, axis=0), np.repeat([[3.0, 2.0, 1.0]], 4, axis=0)]
    return rng.permutation(np.concatenate(rows))


def counts(rows):
    return np.sort(np.unique(rows, axis=0, return_counts=True)[1])


def test_of_equal_rows_the_square_root_of_their_number_is_kept(repeated):
    mask = thin_repeats(repeated)
    assert mask.shape == (255,) and mask.dtype == bool
    assert counts(repeated[mask])[-3:].tolist() == [1, 2, 11] and mask.sum() == 163


def test_the_first_of_equal_rows_are_those_that_are_kept(repeated):
    mask = thin_repeats(repeated)
    frequent = np.flatnonzero((repeated == [1.0, 2.0, 3.0]).all(axis=1))
    assert mask[frequent[:11]].all() and not mask[frequent[11:]].any()


def test_rows_that_do_not_repeat_are_all_kept_and_a_few_kinds_of_rows_too(rng):
    assert thin_repeats(rng.normal(size=(500, 3))) is None
    assert thin_repeats(np.arange(100.0)[:, None] // 2) is None  # of a pair both are kept
    assert thin_repeats(rng.integers(0, 2, size=(500, 3)).astype(np.uint8)) is None  # fewer than 100 would be left


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.int8, np.uint8])
def test_rows_may_have_any_dtype(rng, dtype):
    X = rng.integers(0, 100, size=(120, 5)).astype(dtype)
    X = np.concatenate([X, X, X])
    assert counts(X).min() == 3
    assert counts(X[thin_repeats(X)]).tolist() == np.ceil(np.sqrt(counts(X))).tolist()


@pytest.mark.parametrize("layout", ["C", "F", "reversed", "dask", "blocks"])
def test_where_and_how_the_rows_lie_makes_no_difference(repeated, layout, monkeypatch):
    expected = thin_repeats(repeated)
    if layout == "blocks":
        monkeypatch.setattr(sources, "_BLOCK_BYTES", 8 * 3 * 10)
    stored = {
        "F": np.asfortranarray(repeated),
        "reversed": repeated[:, ::-1].copy()[:, ::-1],
        "dask": dask.array.from_array(repeated, chunks=(7, 3)),
    }.get(layout, repeated)
    X = sources.as_source(stored)
    np.testing.assert_array_equal(thin_repeats(X), expected)
