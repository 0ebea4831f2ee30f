"""X in blocks of rows: arrays in memory, memory maps, arrays in chunks elsewhere, and rows that are made on request."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

_BLOCK_BYTES = 64 * 2**20


class RowSource:
    """Base class of array-likes that make their rows on request.

    A subclass has ``shape``, ``dtype`` and ``__getitem__`` for an int, a slice, indices or a mask; it returns a new array of
    finite numbers.

    Attributes
    ----------
    chunk_rows : int
        Number of neighbouring rows that are read together.
    groups : ndarray of int of shape (n_samples,) or None
        Group of each row, if neighbouring rows of a group have parts in common, as clips of one video do; else None.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    chunk_rows = 1
    groups: np.ndarray | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


Samples = np.ndarray | RowSource


class ChunkedRows(RowSource):
    """Rows of an array that lies in chunks elsewhere, such as one of zarr, h5py or dask; a chunk is read as a whole.

    Parameters
    ----------
    array : object with ``shape``, ``dtype``, ``chunks`` and slices of rows

    Raises
    ------
    ValueError
        If the array has too few axes, an unknown number of rows, or no real numbers; when rows are read, if one is not finite.
    """

    def __init__(self, array: Any):
        if len(array.shape) < 2:
            raise ValueError(f"Expected 2D array, got {len(array.shape)}D array instead: X has shape {tuple(array.shape)}.")
        if any(size != size for size in array.shape):  # dask's NaN
            raise ValueError(
                f"X has shape {tuple(array.shape)}; a known number of rows is needed: call X.compute_chunk_sizes() before."
            )
        self.shape = tuple(int(size) for size in array.shape)
        self.dtype = np.dtype(array.dtype)
        if self.dtype.kind not in "buif":
            raise ValueError(f"dtype='numeric' is not compatible with X of dtype {self.dtype}; real numbers are needed.")
        if self.dtype.kind == "f" and self.dtype.itemsize > 8:  # a long double, which may be infinite as float64
            self.dtype = np.dtype(np.float64)
        self.array = array
        self.chunk_rows = _largest_chunk(array.chunks)

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, slice) and (key.step or 1) > 0:
            start, stop, step = key.indices(len(self))
            return self._read(start, max(start, stop), step)
        rows = np.arange(len(self))[key]
        distinct, position = np.unique(rows, return_inverse=True)
        samples = np.empty((len(distinct), *self.shape[1:]), dtype=self.dtype)
        ends = np.r_[np.flatnonzero(np.diff(distinct // self.chunk_rows)) + 1, len(distinct)]
        for start, stop in zip(np.r_[0, ends], ends, strict=False):
            if start < stop:
                part = distinct[start:stop]
                samples[start:stop] = self._read(part[0], part[-1] + 1)[part - part[0]]
        return samples[position.reshape(rows.shape)]

    def _read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        with np.errstate(over="ignore"):
            block = np.asarray(self.array[int(start) : int(stop) : int(step)]).astype(self.dtype, copy=False)
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            raise ValueError(f"Input X contains {'NaN' if np.isnan(block).any() else 'infinity'}.")
        return block


def _largest_chunk(chunks: Any) -> int:
    """Number of rows of a chunk: the largest one of dask; 1 for contiguous arrays of h5py."""
    if not chunks:
        return 1
    return max(1, int(np.max(chunks[0])))


def as_source(X: Any) -> Any:
    """X itself, or :class:`ChunkedRows` around an array that lies in chunks elsewhere."""
    in_chunks = all(hasattr(X, name) for name in ("shape", "dtype", "chunks"))
    return ChunkedRows(X) if in_chunks and not isinstance(X, RowSource) else X


def row_blocks(X: Samples) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number of the first row, block of rows)."""
    rows = rows_per_block(X, _BLOCK_BYTES)
    for start in range(0, X.shape[0], rows):
        yield start, X[start : start + rows]


def chunk_rows(X: Samples) -> int:
    """Number of neighbouring rows of X that are read together; 1 for an array in memory."""
    return getattr(X, "chunk_rows", 1)


def rows_per_block(X: Samples, n_bytes: int) -> int:
    """Number of rows of X that take ``n_bytes`` as float64, at least 1; for an array in chunks a multiple of the chunk."""
    rows = max(1, n_bytes // (8 * math.prod(X.shape[1:])))
    chunk = chunk_rows(X)
    return max(1, rows // chunk) * chunk
