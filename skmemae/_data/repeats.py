"""Which of many equal rows to train on."""

import numpy as np
import torch

from skmemae._data.signatures import signatures
from skmemae._data.sources import row_blocks

_LEAST_ROWS = 100


def thin_repeats(X) -> np.ndarray | None:
    """Keep ceil(sqrt(k)) of k identical rows, so that frequent rows do not dominate training.

    Rows are compared by their signatures, which differ for different rows but with a probability of 1e-5 among ten million.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Read in blocks of rows.

    Returns
    -------
    training_mask : ndarray of shape (n_samples,), bool, or None
        The rows to train on; None if all are, or if the rows that are kept would be fewer than 100.
    """
    seen = np.empty(X.shape[0], dtype=np.int64)  # at once, as many small results would tear holes into the heap
    for start, block in row_blocks(X):
        seen[start : start + len(block)] = signatures(torch.from_numpy(np.array(block, dtype=np.float64))).numpy()
    order = np.argsort(seen, kind="stable")
    ascending = seen[order]
    first = np.r_[True, ascending[1:] != ascending[:-1]]
    if first.all():
        return None
    starts = np.flatnonzero(first)
    counts = np.diff(np.r_[starts, len(seen)])
    rank = np.arange(len(seen)) - np.repeat(starts, counts)
    training_mask = np.empty(len(seen), dtype=bool)
    training_mask[order] = rank < np.repeat(np.ceil(np.sqrt(counts)), counts)
    return None if training_mask.all() or np.count_nonzero(training_mask) < _LEAST_ROWS else training_mask
