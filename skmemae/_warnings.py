"""Warnings, shown at the line of the caller's that led to them."""

import sys
import warnings

import numpy as np

# Frames of these packages stand between the caller's line and ours.
_PASSED = ("skmemae", "sklearn", "pyod", "joblib", "contextlib", "torch")


class MemoryCollapseWarning(UserWarning):
    """The memory has collapsed: one item answers every sample, or the threshold removes all items."""


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line that is neither this package's nor that of a package which calls it."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def warn_of_collapse(usage: np.ndarray, zero_row_fraction: float, shrink_threshold: float) -> None:
    """Warn if the training queries show a collapse.

    Parameters
    ----------
    usage : ndarray of shape (ensemble_size, N)
        Share of the queries that used each item of each network.
    zero_row_fraction : float
        Share of the queries whose weights all missed the threshold.
    shrink_threshold : float
        The threshold as a multiple of 1/N.
    """
    if usage.shape[1] < 2:
        return
    if zero_row_fraction > 0.5:
        warn_caller(
            f"{zero_row_fraction:.0%} of the training queries have no weight above the threshold of {shrink_threshold}/N, so "
            "each is answered by its best item alone. Lower shrink_threshold or temperature for a mixture of items.",
            MemoryCollapseWarning,
        )
    if (np.count_nonzero(usage, axis=1) == 1).any():
        warn_caller(
            "A single memory item answers every training sample, so all reconstructions are equal. "
            "Lower temperature, or train longer.",
            MemoryCollapseWarning,
        )
