"""Which of many equal rows to train on."""

import numpy as np

from skmemae._data.sources import row_blocks

_LEAST_ROWS = 100
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def thin_repeats(X) -> np.ndarray | None:
    """Keep ceil(sqrt(k)) of k identical rows, so that frequent rows do not dominate training.

    Rows are identical when their bytes are. They are compared by digests of 64 bits, which differ for different rows but with
    a probability of 3e-6 among ten million of them.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Read in blocks of rows.

    Returns
    -------
    training_mask : ndarray of shape (n_samples,), bool, or None
        The rows to train on; None if all are, or if the rows that are kept would be fewer than 100.
    """
    digests = np.concatenate([_digests(np.asarray(block)) for _, block in row_blocks(X)])
    order = np.argsort(digests, kind="stable")
    ascending = digests[order]
    first = np.r_[True, ascending[1:] != ascending[:-1]]
    if first.all():
        return None
    starts = np.flatnonzero(first)
    counts = np.diff(np.r_[starts, len(digests)])
    rank = np.arange(len(digests)) - np.repeat(starts, counts)
    training_mask = np.empty(len(digests), dtype=bool)
    training_mask[order] = rank < np.repeat(np.ceil(np.sqrt(counts)), counts)
    return None if training_mask.all() or np.count_nonzero(training_mask) < _LEAST_ROWS else training_mask


def _digests(block: np.ndarray) -> np.ndarray:
    """A number for the bytes of each row: the sum over words that are mixed, each with the number of its column."""
    data = np.ascontiguousarray(block).reshape(len(block), -1).view(np.uint8)
    data = np.pad(data, ((0, 0), (0, -data.shape[1] % 8))) if data.shape[1] % 8 else data
    words = data.view(np.uint64) + np.random.default_rng(0).integers(2**64, size=data.shape[1] // 8, dtype=np.uint64)
    for shift in (32, 29):  # each step is invertible, so rows that differ in one word never share a digest
        words ^= words >> np.uint64(shift)
        words *= _MULTIPLIER
    words ^= words >> np.uint64(32)
    return words.sum(axis=1, dtype=np.uint64)
