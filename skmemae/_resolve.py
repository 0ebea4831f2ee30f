"""What MemAEDetector's parameters accept, and what their ``None`` and "auto" come to, all in one place."""

import math
from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skmemae._data.layout import Layout, are_positive_ints

_MOST_NETWORKS = 10_000
_MOST_ITEMS = 2**22

# What each parameter accepts.
CONSTRAINTS: dict[str, list] = {
    "contamination": [Interval(Real, 0, 0.5, closed="right"), StrOptions({"auto"}), HasMethods(["fit"])],
    "convention": [StrOptions({"pyod", "sklearn"})],
    "backbone": [StrOptions({"auto", "fc", "conv2d", "conv3d"}), callable],
    "widths": [tuple, list, None],
    "sample_shape": [tuple, list, None],
    "channel_axis": [StrOptions({"auto"}), Integral, None],
    "memory_size": [StrOptions({"auto"}), Interval(Integral, 0, _MOST_ITEMS, closed="both")],
    "memory_items": [StrOptions({"auto", "learned", "rows"})],
    "memory_unit": [StrOptions({"auto", "sample", "location"})],
    "memory_heads": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "similarity": [StrOptions({"auto", "cosine", "dot", "distance"})],
    "temperature": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "shrink_threshold": [Interval(Real, 0, None, closed="left")],
    "entropy_weight": [Interval(Real, 0, None, closed="left")],
    "latent_l1": [Interval(Real, 0, None, closed="left")],
    "ensemble_size": [StrOptions({"auto"}), Interval(Integral, 1, _MOST_NETWORKS, closed="both")],
    "anomaly_score": [StrOptions({"auto", "reconstruction", "absolute", "smooth", "local", "relative", "combined", "motion"})],
    "scaling": [StrOptions({"auto", "contrast", "log", "standard", "minmax"}), None],
    "thin_repeats": [StrOptions({"auto"}), "boolean"],
    "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
    "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "validation_fraction": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "device": [str],
    "precision": [StrOptions({"auto", "float32", "bfloat16"})],
    "random_state": ["random_state"],
    "warm_start": ["boolean"],
    "verbose": [Interval(Integral, 0, 2, closed="both"), "boolean"],
}

# Optimiser steps that "auto" epochs aim at. With time a decoder of images learns to reconstruct outliers as well.
STEPS = {"fc": 2000, "conv2d": 800, "conv3d": 2000, "rows": 80}
_LEAST_PIXELS = 16
FEWEST_FRAMES = 3  # of a clip whose motion is looked at
_MANY_ROWS = 10_000
_BATCH_NUMBERS = 2**20
_MOST_ROWS = 8000  # memory items that are made of rows, of one member and of all together
_ROW_NUMBERS = 2**20  # of the items of a member together
_FEW_ROWS, _MOST_MEMBERS = 4000, (16, 4)  # rows below which members are more than four, and the most of few and of many rows
_FEW_COLUMNS = 16
_CLEAN = 0.02  # contamination below which rare rows are trusted
ROWS_TEMPERATURE = 0.1  # the unit of the queries is fitted to it


def check_numbers(params: dict[str, Any], accepts_bool=("thin_repeats", "verbose", "random_state", "warm_start")) -> None:
    """Raise where a bool stands for a number, which scikit-learn's intervals accept, or a number does not fit into a float.

    Raises
    ------
    ValueError
    """
    for name, value in params.items():
        if isinstance(value, bool) and name not in accepts_bool:
            raise ValueError(f"The {name!r} parameter must not be a bool. Got {value!r} instead.")
        if isinstance(value, Real) and not is_finite(value):
            raise ValueError(f"The {name!r} parameter must be a finite number. Got {value!r} instead.")


def is_finite(value: Real) -> bool:
    """Whether a number is finite as a float."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def resolve(params: dict[str, Any], layout: Layout, n_samples: int) -> dict[str, Any]:
    """The parameters with every None and "auto" resolved that depends on the data.

    Parameters
    ----------
    params : dict
        Of :class:`MemAEDetector`.
    layout : Layout
    n_samples : int
        Samples to train on.

    Returns
    -------
    resolved : dict
        With the same keys; what does not depend on the data as it came.

    Raises
    ------
    ValueError
        If values do not fit each other or the data.
    """
    custom = callable(params["backbone"])
    unit = resolve_memory_unit(params["memory_unit"], layout.family)
    if layout.family == "fc" and unit == "location" and not custom:
        raise ValueError("memory_unit='location' needs a feature map; got vectors, for which 'sample' is accepted.")
    items = resolve_memory_items(params["memory_items"], params["memory_heads"], layout, custom)
    rows = items == "rows"
    layers = resolve_widths(params["widths"], layout, unit, rows, params["memory_size"] != 0)
    size = resolve_batch_size(params["batch_size"], n_samples, layout, rows)
    return {
        **params,
        "backbone": params["backbone"] if custom else layout.family,
        "widths": layers,
        "memory_items": items,
        "memory_size": resolve_memory_size(params["memory_size"], n_samples, layout, unit, layers, rows),
        "memory_unit": unit,
        "memory_heads": resolve_memory_heads(params["memory_heads"], n_samples, layout, None if custom or rows else layers),
        "similarity": resolve_similarity(params["similarity"], rows),
        "temperature": resolve_temperature(params["temperature"], layout, rows),
        "shrink_threshold": float(params["shrink_threshold"]),
        "entropy_weight": float(params["entropy_weight"]),
        "latent_l1": float(params["latent_l1"]),
        "ensemble_size": resolve_ensemble_size(params["ensemble_size"], layout, n_samples, rows),
        "anomaly_score": resolve_anomaly_score(params["anomaly_score"], layout, params["memory_size"] != 0),
        "scaling": resolve_scaling(params["scaling"], layout),
        "thin_repeats": resolve_thin_repeats(params["thin_repeats"], params["contamination"], layout, rows),
        "learning_rate": resolve_learning_rate(params["learning_rate"], rows),
        "batch_size": size,
        "max_epochs": resolve_max_epochs(params["max_epochs"], n_samples, size, layout, rows),
        "validation_fraction": resolve_validation_fraction(params["validation_fraction"], rows),
    }


def resolve_memory_items(value, heads, layout, custom):
    """Resolve ``memory_items``: rows for tables, whose layers and memory are the package's own; else learned.

    Raises
    ------
    ValueError
        If rows are asked for images, clips, a callable backbone or several heads.
    """
    several = heads not in ("auto", 1)
    possible = layout.family == "fc" and not custom and not several
    if value == "auto":
        return "rows" if possible else "learned"
    if value == "rows" and not possible:
        raise ValueError(
            "memory_items='rows' needs backbone='fc', as tables have by default, and memory_heads=1; for others 'learned' is "
            "accepted."
        )
    return value


def resolve_similarity(value, rows):
    """Resolve ``similarity``: squared distances between rows, of which near ones answer; else equation 5."""
    if value != "auto":
        return value
    return "distance" if rows else "cosine"


def resolve_thin_repeats(value, contamination, layout, rows):
    """Resolve ``thin_repeats``: frequent rows count less where rare ones are known to be normal.

    Where rows may be outliers, being frequent is what speaks for a row.
    """
    if value != "auto":
        return bool(value) and layout.family == "fc"
    return layout.family == "fc" and (not rows or (isinstance(contamination, Real) and contamination < _CLEAN))


def resolve_learning_rate(value, rows):
    """Resolve ``learning_rate``: larger for the few steps of a memory of rows."""
    if value != "auto":
        return float(value)
    return 5e-3 if rows else 2e-3


def resolve_validation_fraction(value, rows):
    """Resolve ``validation_fraction``: nothing is held out from a memory of rows, which leaves out each row in turn."""
    if value != "auto":
        return float(value)
    return 0.0 if rows else 0.1


def resolve_scaling(value, layout):
    """Resolve ``scaling``: columns in units of their spread, images by what they show whatever the light.

    Images too small to show anything but their level are scaled as a whole, and so are clips.
    """
    if value != "auto":
        return value
    if layout.family == "fc":
        return "log"
    return "contrast" if layout.family == "conv2d" and math.prod(layout.sample_shape[1:]) >= _LEAST_PIXELS else "standard"


def resolve_anomaly_score(value, layout, remembers):
    """Resolve ``anomaly_score``.

    In images an edge beside its place is no anomaly, so the residual is smoothed. What an image shows tells more than pixels,
    so where there is a memory the distance from exemplars counts as well. A clip with more to see has a larger error,
    so the error is divided by its norm. In standardised columns squares let single columns drown the rest, and the query's
    distance finds rows that are far out along directions the decoder knows. From a mixture of rows nothing is far in that way;
    there the distance is that from random draws of rows, which finds clusters of outliers that answer for each other.

    Raises
    ------
    ValueError
        If a score of images is asked for vectors.
    """
    if value == "motion" and (layout.family != "conv3d" or layout.sample_shape[1] < FEWEST_FRAMES):
        raise ValueError(
            f"anomaly_score='motion' needs clips of at least {FEWEST_FRAMES} frames; got samples of {layout.sample_shape}."
        )
    if value in ("smooth", "local") and layout.family == "fc":
        raise ValueError(f"anomaly_score={value!r} needs images or clips; got vectors, for which 'combined' is the default.")
    if value == "auto":
        return "combined" if remembers or layout.family == "fc" else {"conv2d": "smooth", "conv3d": "relative"}[layout.family]
    return value


def resolve_memory_unit(value, family):
    """Resolve ``memory_unit``: clips get a query per location, as in section 4.2 of the paper."""
    if value == "auto":
        return "location" if family == "conv3d" else "sample"
    return value


def resolve_widths(value, layout, unit, rows=False, remembers=True):
    """Resolve ``widths``.

    Raises
    ------
    ValueError
        If the given widths are not positive integers, or too few for a bottleneck.
    """
    least = 2 if layout.family != "fc" and unit == "sample" else 1
    if value is not None:
        if len(value) < least or not are_positive_ints(value):
            raise ValueError(
                f"The 'widths' parameter of MemAEDetector must be None or a tuple of at least {least} positive int. "
                f"Got {value!r} instead."
            )
        return tuple(int(w) for w in value)
    # Half as wide as a sample: an encoder that need not choose what to keep reconstructs outliers like the rest. Never one
    # number alone, of which a cosine knows the sign and nothing else.
    code = min(32, max(2, math.prod(layout.sample_shape) // 2))
    if layout.family == "fc" and rows:
        # A linear map finds the columns in which rows that are alike are near. It decides which rows answer and not what they
        # look like, so of few columns it need not leave any out.
        return (max(code, min(_FEW_COLUMNS, math.prod(layout.sample_shape))) if remembers else code,)
    if layout.family == "fc":
        return (64, code)
    levels = min(4, max(1, round(math.log2(max(layout.sample_shape[1:]) / 4))))
    channels = (16, 32, 64, 64)[:levels]
    return (*channels, code) if unit == "sample" else channels


def resolve_memory_size(value, n_samples, layout, unit, widths, rows=False):
    """Resolve ``memory_size``: a hundred items, more for images and locations, or a quarter of the queries if that is less.

    Items are prototypes, not copies of the training set; images and locations vary more than rows of a table. Where items are
    rows they are many, and no more than there are.
    """
    if rows:
        if value != "auto":
            return min(int(value), n_samples)
        return min(max(100, min(_MOST_ROWS, _ROW_NUMBERS // math.prod(layout.sample_shape))), n_samples)
    if value != "auto":
        return int(value)
    queries, most = n_samples, 100
    if unit == "location":
        queries *= math.prod(-(-size // 2 ** len(widths)) for size in layout.sample_shape[1:])
        most = 1000
    elif layout.family == "conv2d":
        most = min(500, max(100, n_samples // 10))
    return min(most, max(2, queries // 4))


def resolve_memory_heads(value, n_samples, layout, widths):
    """Resolve ``memory_heads``: one; for a large table one for every eight numbers of the code, four at most.

    Many rows are of many kinds, and whole prototypes reconstruct the rare ones badly. ``widths`` is None for a callable
    backbone.
    """
    if value != "auto":
        return int(value)
    if layout.family != "fc" or widths is None or n_samples < _MANY_ROWS:
        return 1
    return next(heads for heads in range(max(1, min(4, widths[-1] // 8)), 0, -1) if widths[-1] % heads == 0)


def resolve_temperature(value, layout, rows=False):
    """Resolve ``temperature``: sharp enough that a read-out is made of few items, for images sharper than for the rest.

    With items of rows the unit of the queries is fitted to the temperature, so any would do.
    """
    if value != "auto":
        return float(value)
    if rows:
        return ROWS_TEMPERATURE
    return 0.01 if layout.family == "conv2d" else 0.05


def resolve_ensemble_size(value, layout, n_samples=0, rows=False):
    """Resolve ``ensemble_size``: four members for a table, where they are small and differ the most; else one.

    Members with few rows in their memory are more, at no more time, and those with many are fewer.
    """
    if value != "auto":
        return int(value)
    if rows:
        few, many = _MOST_MEMBERS
        return max(min(few, _FEW_ROWS // n_samples), min(many, _MOST_ROWS // n_samples), 1)
    return 4 if layout.family == "fc" else 1


def resolve_batch_size(value, n_samples, layout, rows=False):
    """Resolve ``batch_size``: about a twentieth of the samples; fewer images or clips, of which a few have many positions."""
    if value != "auto":
        return min(int(value), max(2, n_samples))
    if rows:
        return min(256, max(64, n_samples // STEPS["rows"]))
    most = 1024 if layout.family == "fc" else min(128, max(8, _BATCH_NUMBERS // math.prod(layout.sample_shape)))
    return min(most, max(32, 2 ** round(math.log2(n_samples / 20))))


def resolve_max_epochs(value, n_samples, batch_size, layout, rows=False):
    """Resolve ``max_epochs``: enough for about ``STEPS`` optimiser steps."""
    if value != "auto":
        return int(value)
    if rows:
        return max(1, round(STEPS["rows"] / -(-n_samples // batch_size)))
    return min(200, max(20, round(STEPS[layout.family] * batch_size / n_samples)))
