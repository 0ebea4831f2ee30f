"""What the ``None`` and "auto" of MemAEDetector's parameters come to, all in one place."""

import math
from numbers import Integral

STEPS = 2000  # optimiser steps that "auto" epochs aim at


def scaling(given):
    """Standardise by default, whatever the data."""
    return "standard" if given == "auto" else given


def anomaly_score(given, family):
    """Pick the score that fits the data.

    The norm of an image says how much there is to get wrong. In standardised columns it does not; there, squares let single
    columns drown the rest, and the query's distance finds rows that are far out along directions the decoder knows.
    """
    if given == "auto":
        return "combined" if family == "fc" else "relative"
    return given


def memory_unit(given, family):
    """Clips get a query per location: what moves where is too much for one item to hold. As in section 4.2 of the paper."""
    if given == "auto":
        return "location" if family == "conv3d" else "sample"
    return given


def widths(given, layout, unit):
    """Layer widths for a sample shape.

    Raises
    ------
    ValueError
        If the given widths are not positive integers, or too few for a bottleneck.
    """
    least = 2 if layout.family != "fc" and unit == "sample" else 1
    if given is not None:
        if len(given) < least or not all(isinstance(w, Integral) and not isinstance(w, bool) and w > 0 for w in given):
            raise ValueError(
                f"The 'widths' parameter of MemAEDetector must be None or a tuple of at least {least} positive int. "
                f"Got {given!r} instead."
            )
        return tuple(int(w) for w in given)
    # Half as wide as a sample: an encoder that need not choose what to keep reconstructs outliers like the rest. Never one
    # number alone, of which a cosine knows the sign and nothing else.
    code = min(32, max(2, math.prod(layout.sample_shape) // 2))
    if layout.family == "fc":
        return (64, code)
    levels = min(4, max(1, round(math.log2(max(layout.sample_shape[1:]) / 4))))
    channels = (16, 32, 64, 64)[:levels]
    return (*channels, code) if unit == "sample" else channels


def memory_size(given, n_samples, layout, unit, widths):
    """A hundred items, five hundred for locations, or a quarter of the queries where those are few.

    Prototypes, not copies of the training set; locations are more various than samples.
    """
    if given != "auto":
        return int(given)
    queries, most = n_samples, 100
    if unit == "location":
        queries *= math.prod(-(-size // 2 ** len(widths)) for size in layout.sample_shape[1:])
        most = 500
    return min(most, max(2, queries // 4))


def batch_size(given, n_samples):
    """About a twentieth of the samples."""
    if given != "auto":
        return int(given)
    return min(1024, max(32, 2 ** round(math.log2(n_samples / 20))))


def max_epochs(given, n_samples, batch_size):
    """Epochs for some ``STEPS`` steps."""
    if given != "auto":
        return int(given)
    return min(200, max(20, round(STEPS * batch_size / n_samples)))
