"""Arrays that lie elsewhere, and reading by blocks."""

import dask.array
import h5py
import numpy as np
import pytest
import zarr

from skmemae import MemAEDetector
from skmemae._data import sources
from skmemae._data.sources import ChunkedRows, RowSource, as_source, chunk_rows, row_blocks, rows_per_block

KEYS = [slice(None), slice(3, 20, 2), slice(5, 2), slice(9, 2, -3), 4, [30, 2, 2, 29], np.array([], dtype=int), "mask"]
KINDS = ["zarr", "h5py", "h5py, contiguous", "dask"]


def elsewhere(kind, X, folder, rows=7):
    """X as an array of some library, in chunks of a few rows."""
    chunks = (rows, *X.shape[1:])
    if kind == "zarr":
        return zarr.create_array(str(folder / "x.zarr"), data=X, chunks=chunks)
    if kind == "dask":
        return dask.array.from_array(X, chunks=chunks)
    file = h5py.File(folder / "x.h5", "w")
    return file.create_dataset("x", data=X, chunks=None if "contiguous" in kind else chunks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", KEYS)
def test_rows_are_those_of_the_array(rng, tmp_path, kind, key):
    X = rng.normal(size=(31, 4, 3)).astype(np.float32)
    key = rng.uniform(size=31) > 0.5 if isinstance(key, str) else key
    rows = as_source(elsewhere(kind, X, tmp_path))
    assert isinstance(rows, RowSource) and rows.shape == X.shape and rows.dtype == X.dtype and len(rows) == 31
    np.testing.assert_array_equal(rows[key], X[key])
    np.testing.assert_array_equal(np.asarray(rows), X)


def test_a_chunk_is_read_once_for_all_rows_that_are_asked_of_it(rng):
    reads = []

    class Watched:
        X = rng.normal(size=(40, 2))
        shape, dtype, chunks = X.shape, X.dtype, (10, 2)

        def __getitem__(self, key):
            reads.append((key.start, key.stop))
            return self.X[key]

    rows = ChunkedRows(Watched())
    np.testing.assert_array_equal(rows[[33, 2, 31, 9, 35]], Watched.X[[33, 2, 31, 9, 35]])
    assert reads == [(2, 10), (31, 36)]
    assert chunk_rows(rows) == 10 and rows_per_block(rows, 8 * 2 * 25) == 20 and rows_per_block(rows, 1) == 10


def test_an_array_in_memory_is_its_own_source(rng):
    X = rng.normal(size=(5, 2))
    assert as_source(X) is X and as_source([[1.0]]) == [[1.0]]
    assert [(start, len(block)) for start, block in row_blocks(X)] == [(0, 5)]
    assert chunk_rows(X) == 1 and rows_per_block(X, 8 * 2 * 3) == 3


def test_blocks_follow_each_other_and_cover_every_row(rng, monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK_BYTES", 8 * 2 * 3)
    X = rng.normal(size=(10, 2))
    found = list(row_blocks(X))
    assert [start for start, _ in found] == [0, 3, 6, 9]
    np.testing.assert_array_equal(np.concatenate([block for _, block in found]), X)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(150, 6), (40, 8, 8)])
def test_a_detector_takes_them_and_finds_the_same(rng, tmp_path, kind, shape):
    X = rng.normal(size=shape)
    rows = elsewhere(kind, X, tmp_path)
    params = {"max_epochs": 3, "ensemble_size": 1, "random_state": 0}
    here, there = MemAEDetector(**params).fit(X), MemAEDetector(**params).fit(rows)
    np.testing.assert_array_equal(there.decision_scores_, here.decision_scores_)
    np.testing.assert_array_equal(there.decision_function(rows), here.decision_function(X))
    np.testing.assert_array_equal(there.reconstruct(rows), here.reconstruct(X))


@pytest.mark.parametrize(
    "array, message",
    [
        (dask.array.from_array(np.array([[1.0, np.nan], [0.0, 1.0]])), "Input X contains NaN"),
        (dask.array.from_array(np.array([["a"], ["b"]])), "dtype='numeric' is not compatible"),
        (
            dask.array.from_array(np.eye(4))[dask.array.from_array(np.arange(4)) > 1],
            r"a known number of rows.*compute_chunk_sizes\(\)",
        ),
        (dask.array.zeros((0, 3)), r"Found array with 0 sample\(s\)"),
        (dask.array.zeros((5, 0)), "minimum of 1 is required"),
        (dask.array.zeros(5), "Expected 2D array"),
    ],
)
def test_what_does_not_fit_is_told(array, message):
    with pytest.raises(ValueError, match=message):
        MemAEDetector(max_epochs=1).fit(array)


def test_nan_is_told_when_scoring_too(rng):
    X = rng.normal(size=(50, 2))
    detector = MemAEDetector(max_epochs=1, ensemble_size=1, random_state=0).fit(X)
    X[40, 1] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        detector.predict(dask.array.from_array(X, chunks=(10, 2)))
