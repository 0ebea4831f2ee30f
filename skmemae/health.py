"""Warnings of a memory that does not work as one."""

import warnings

import numpy as np


class MemoryCollapseWarning(UserWarning):
    """The memory does not work as one: a single item answers everything, or the threshold shuts all items out."""


def warn_of_collapse(usage, zero_row_fraction, shrink_threshold):
    """Warn if the training queries show a collapse.

    Parameters
    ----------
    usage : ndarray of shape (members, N)
        Share of the queries that used each item of each member.
    zero_row_fraction : float
        Share of the queries whose weights all missed the threshold.
    shrink_threshold : float
        The threshold as a multiple of 1/N.
    """
    if usage.shape[1] < 2:
        return
    if zero_row_fraction > 0.5:
        warnings.warn(
            f"{zero_row_fraction:.0%} of the training queries have no weight above the threshold of {shrink_threshold}/N, so "
            "each is answered by its best item alone. Lower shrink_threshold or temperature for a mixture of items.",
            MemoryCollapseWarning,
            stacklevel=5,
        )
    if (np.count_nonzero(usage, axis=1) == 1).any():
        warnings.warn(
            "A single memory item answers every training sample, so all reconstructions are equal. "
            "Lower temperature, or train longer.",
            MemoryCollapseWarning,
            stacklevel=5,
        )
