"""What MemAEDetector's parameters accept, and what their ``None`` and "auto" come to, all in one place."""

import math
from numbers import Integral, Real

from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

# What each parameter accepts.
CONSTRAINTS = {
    "contamination": [Interval(Real, 0, 0.5, closed="right"), HasMethods(["fit", "predict"])],
    "convention": [StrOptions({"pyod", "sklearn"})],
    "backbone": [StrOptions({"auto", "fc", "conv2d", "conv3d"}), callable],
    "widths": [tuple, list, None],
    "sample_shape": [tuple, list, None],
    "channel_axis": [StrOptions({"auto"}), Integral, None],
    "memory_size": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
    "memory_unit": [StrOptions({"auto", "sample", "location"})],
    "memory_heads": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "similarity": [StrOptions({"cosine", "dot"})],
    "temperature": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "shrink_threshold": [Interval(Real, 0, None, closed="left")],
    "entropy_weight": [Interval(Real, 0, None, closed="left")],
    "latent_l1": [Interval(Real, 0, None, closed="left")],
    "ensemble_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "anomaly_score": [StrOptions({"auto", "reconstruction", "smooth", "local", "relative", "combined"})],
    "scaling": [StrOptions({"auto", "contrast", "log", "standard", "minmax"}), None],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
    "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "device": [str],
    "precision": [StrOptions({"auto", "float32", "bfloat16"})],
    "random_state": ["random_state"],
    "verbose": [Interval(Integral, 0, 2, closed="both"), "boolean"],
}

# Optimiser steps that "auto" epochs aim at. A decoder of images learns with time to make more of a mixture of items than the
# items, outliers included.
STEPS = {"fc": 2000, "conv2d": 1000, "conv3d": 2000}
_LEAST_PIXELS = 16
_MANY_ROWS = 10_000
_NUMBERS_OF_A_BATCH = 2**20


def scaling(given, layout):
    """Pick what is compared: columns in units of their spread, images by what they show and not the light they show it in.

    Images too small to show anything but their level are scaled as a whole, and so are clips, which have a camera each.
    """
    if given != "auto":
        return given
    if layout.family == "fc":
        return "log"
    return "contrast" if layout.family == "conv2d" and math.prod(layout.sample_shape[1:]) >= _LEAST_PIXELS else "standard"


def anomaly_score(given, layout):
    """Pick the score that fits the data.

    In images an edge beside its place is no anomaly, so the residual is smoothed. The norm of a clip says how much there is to
    get wrong. In standardised columns squares let single columns drown the rest, and the query's distance finds rows that are
    far out along directions the decoder knows.

    Raises
    ------
    ValueError
        If a score of images is asked for vectors.
    """
    if given in ("smooth", "local") and layout.family == "fc":
        raise ValueError(f"anomaly_score={given!r} needs images or clips; got vectors, for which 'combined' is the default.")
    if given == "auto":
        return {"fc": "combined", "conv2d": "smooth", "conv3d": "relative"}[layout.family]
    return given


def network_spec(given, layout, n_samples):
    """Arguments of ``build_network``, all plain values, from a detector's parameters.

    Parameters
    ----------
    given : dict
        Of :class:`MemAEDetector`.
    layout : Layout
    n_samples : int
        Samples to train on.

    Raises
    ------
    ValueError
        If vectors are to have a query per location, or the widths are wrong.
    """
    custom = callable(given["backbone"])
    unit = memory_unit(given["memory_unit"], layout.family)
    if layout.family == "fc" and unit == "location" and not custom:
        raise ValueError("memory_unit='location' needs a feature map; got vectors, for which 'sample' is accepted.")
    layers = widths(given["widths"], layout, unit)
    return {
        "sample_shape": layout.sample_shape,
        "family": given["backbone"] if custom else layout.family,
        "widths": layers,
        "memory_size": memory_size(given["memory_size"], n_samples, layout, unit, layers),
        "memory_unit": unit,
        "memory_heads": memory_heads(given["memory_heads"], n_samples, layout, None if custom else layers),
        "similarity": given["similarity"],
        "temperature": temperature(given["temperature"], layout),
        "shrink_threshold": float(given["shrink_threshold"]),
    }


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
    """A hundred items, more for images and locations, or a quarter of the queries where those are few.

    Prototypes, not copies of the training set; images and locations are more various than rows of a table.
    """
    if given != "auto":
        return int(given)
    queries, most = n_samples, 100
    if unit == "location":
        queries *= math.prod(-(-size // 2 ** len(widths)) for size in layout.sample_shape[1:])
        most = 1000
    elif layout.family == "conv2d":
        most = min(500, max(100, n_samples // 10))
    return min(most, max(2, queries // 4))


def memory_heads(given, n_samples, layout, widths):
    """One; for a large table one for every eight numbers of the code, four at most.

    Many rows have many kinds, of which whole prototypes fail the rare ones. ``widths`` is None where a backbone of the user's
    decides.
    """
    if given != "auto":
        return int(given)
    if layout.family != "fc" or widths is None or n_samples < _MANY_ROWS:
        return 1
    return next(heads for heads in range(max(1, min(4, widths[-1] // 8)), 0, -1) if widths[-1] % heads == 0)


def temperature(given, layout):
    """Sharp enough that a read-out is made of few items; for images sharper than for the rest."""
    if given != "auto":
        return float(given)
    return 0.01 if layout.family == "conv2d" else 0.05


def ensemble_size(given, layout):
    """Four networks for a table, where they are small and differ the most; one for images and clips."""
    if given != "auto":
        return int(given)
    return 4 if layout.family == "fc" else 1


def batch_size(given, n_samples, layout):
    """About a twentieth of the samples; fewer images, whose networks are large enough for a small batch.

    A step on large images or clips has enough positions to learn from in a few of them.
    """
    if given != "auto":
        return int(given)
    most = 1024 if layout.family == "fc" else min(128, max(8, _NUMBERS_OF_A_BATCH // math.prod(layout.sample_shape)))
    return min(most, max(32, 2 ** round(math.log2(n_samples / 20))))


def max_epochs(given, n_samples, batch_size, layout):
    """Epochs for some ``STEPS`` steps."""
    if given != "auto":
        return int(given)
    return min(200, max(20, round(STEPS[layout.family] * batch_size / n_samples)))
