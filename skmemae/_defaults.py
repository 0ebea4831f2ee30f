"""Accepted values of the parameters of MemAEDetector, and one table of the defaults for each kind of data."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skmemae._data.layout import Layout, are_positive_ints
from skmemae._model.score import ERRORS, FACTORS
from skmemae._validation import check_numbers
from skmemae.network.backbones import averaged_shape, usual_pixel_size

FEWEST_FRAMES = 3  # smallest number of frames of a clip for a score with "paces"
USUAL_SHARE = 0.1  # of outliers in training data, where ``contamination`` does not say
_MOST_MEMBERS = 10_000
_MOST_ITEMS = 2**22

CONSTRAINTS: dict[str, list] = {
    "contamination": [Interval(Real, 0, 0.5, closed="right"), StrOptions({"auto"}), HasMethods(["fit"])],
    "convention": [StrOptions({"pyod", "sklearn"})],
    "backbone": [StrOptions({"auto", "fc", "conv2d", "conv3d"}), callable],
    "widths": [tuple, list, None],
    "sample_shape": [tuple, list, None],
    "channel_axis": [StrOptions({"auto"}), Integral, None],
    "memory_size": [StrOptions({"auto"}), Interval(Integral, 0, _MOST_ITEMS, closed="both")],
    "memory_unit": [StrOptions({"auto", "row", "sample", "location"})],
    "similarity": [StrOptions({"auto", "cosine", "dot", "distance"})],
    "temperature": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "shrink_threshold": [Interval(Real, 0, None, closed="left")],
    "entropy_weight": [Interval(Real, 0, None, closed="left")],
    "ensemble_size": [StrOptions({"auto"}), Interval(Integral, 1, _MOST_MEMBERS, closed="both")],
    "anomaly_score": [str],
    "scaling": [StrOptions({"auto", "contrast", "log-contrast", "log", "standard", "minmax"}), None],
    "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
    "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "validation_fraction": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
    "time_limit": [Interval(Real, 0, None, closed="neither"), None],
    "device": [str],
    "precision": [StrOptions({"auto", "float32", "bfloat16"})],
    "random_state": ["random_state"],
    "verbose": [Interval(Integral, 0, 2, closed="both"), "boolean"],
}


class Case(NamedTuple):
    """Facts on which a default may depend."""

    n: int  # samples to train on
    layout: Layout
    params: dict[str, Any]  # of MemAEDetector; those in earlier rows of the table are resolved
    is_surface: bool = False  # whether images vary little from one to the next

    @property
    def size(self) -> int:
        """How many numbers a sample has."""
        return math.prod(self.layout.sample_shape)

    @property
    def sides(self) -> tuple[int, ...]:
        """Sizes of the axes other than channels, as the networks see them."""
        shape = self.layout.sample_shape
        return averaged_shape(shape, pixel_size_of(self.params, self.layout))[1:]

    @property
    def code(self) -> int:
        """Width of an encoding: half of a sample, at most 32; a wider one would reconstruct outliers as well.

        It is at least 2, as the cosine of two single numbers depends on their signs alone.
        """
        return min(32, max(2, self.size // 2))

    @property
    def share(self) -> float:
        """Share of outliers in the training data."""
        return share_of_outliers(self.params)


def share_of_outliers(params: dict[str, Any]) -> float:
    """Share of outliers in the training data: ``contamination`` if it is a number, else a tenth."""
    return float(params["contamination"]) if isinstance(params["contamination"], Real) else USUAL_SHARE


def weight_of_outliers(share: float) -> float:
    """How far training data counts as contaminated, in [0, 1]: 0 up to a share of a thousandth, 1 from a fiftieth on."""
    return min(1.0, max(0.0, (share - 0.001) / 0.019))


def share_to_leave_out(share: float) -> float:
    """Share of the rows of a table that the memory leaves out: more than there are outliers, as not all are recognised.

    In clean data it is the share of outliers, and from a share of a fiftieth on at least a tenth.
    """
    return share + weight_of_outliers(share) * max(0.0, USUAL_SHARE - share)


def pixel_size_of(params: dict[str, Any], layout: Layout) -> int:
    """Pixels of a side that are averaged for the networks; a callable backbone sees all pixels."""
    return usual_pixel_size(layout.sample_shape) if layout.family == "conv2d" and not callable(params["backbone"]) else 1


def power_of_copies(c: Case) -> float:
    """Of k equal rows k to this power are kept: from the root of k in clean data to all, as a frequent row is likely normal."""
    return 0.5 + 0.5 * weight_of_outliers(c.share)


def image_scaling(c: Case) -> str:
    if c.is_surface:
        return "log-contrast"
    return "contrast" if math.prod(c.layout.sample_shape[1:]) >= 16 else "standard"


def image_score(c: Case) -> str:
    """The score of images: local features find flaws of surfaces, and quarter turns tell objects from other objects."""
    if c.params["memory_size"] == 0:
        return "smooth"
    return "smooth-patches" if c.is_surface else "smooth-turns"


def with_memory(with_it: str, without: str) -> Callable[[Case], str]:
    return lambda c: with_it if c.params["memory_size"] != 0 else without


def row_widths(c: Case) -> tuple[int, ...]:
    """Queries of rows only decide which rows are near, so up to 16 numbers they may be as wide as a row."""
    return (max(c.code, min(16, c.size)) if c.params["memory_size"] != 0 else c.code,)


def vector_widths(c: Case) -> tuple[int, ...]:
    return (64, c.code)


def conv_widths(c: Case) -> tuple[int, ...]:
    """Channels of layers, until a feature map has about four positions along its larger side.

    With an item per sample the width of the item follows.
    """
    levels = min(4, max(1, round(math.log2(max(c.sides) / 4))))
    channels = (16, 32, 64, 64)[:levels]
    return channels if c.params["memory_unit"] == "location" else (*channels, c.code)


def row_items(c: Case) -> int:
    """All rows, at most 8000 and at most a million numbers; this limit is never below 100 rows."""
    return min(max(100, min(8000, 2**20 // c.size)), c.n)


def learned_items(c: Case) -> int:
    """At most a quarter of the training queries, so that items are prototypes and not copies."""
    queries, most = c.n, 100
    if c.params["memory_unit"] == "location":
        queries *= math.prod(-(-s // 2 ** len(c.params["widths"])) for s in c.sides)
        most = 1000
    elif c.layout.family == "conv2d":
        most = min(500, max(100, c.n // 10))
    return min(most, max(2, queries // 4))


def heads_of_many(c: Case) -> int:
    """One head for every eight numbers of a query, at most 4, if there are at least 10,000 samples; else one.

    Many samples are of many kinds, and prototypes of whole samples reconstruct the rare kinds badly.
    """
    if c.n < 10_000 or callable(c.params["backbone"]):
        return 1
    width = c.params["widths"][-1]
    return next(h for h in range(max(1, min(4, width // 8)), 0, -1) if width % h == 0)


def row_members(c: Case) -> int:
    """From 16 members for few numbers, with which members are cheap, to 4; down to one for many rows."""
    return max(min(16, 4000 // c.n, 2**19 // (c.n * c.size)), min(4, 8000 // c.n), 1)


def an_eightieth(c: Case) -> int:
    return min(256, max(64, c.n // 80))


def few_numbers(c: Case) -> int:
    return min(128, max(8, 2**20 // (c.layout.sample_shape[0] * math.prod(c.sides))))


def a_twentieth(most: Callable[[Case], int]) -> Callable[[Case], int]:
    return lambda c: min(most(c), max(32, 2 ** round(math.log2(c.n / 20))))


def eighty_steps(c: Case) -> int:
    return max(1, round(80 / -(-c.n // c.params["batch_size"])))


def image_batch(c: Case) -> int:
    """About a 64th of the images, from 32 to 128: small batches rank outliers as well in less time."""
    return min(few_numbers(c), max(32, 2 ** round(math.log2(c.n / 64))))


def epochs_of(steps: int, least: int = 20) -> Callable[[Case], int]:
    """A rule: epochs for about so many optimiser steps. With more, a decoder learns to reconstruct outliers as well."""
    return lambda c: min(200, max(least, round(steps * c.params["batch_size"] / c.n)))


of_rows, of_vectors = with_memory("power-subsets", "power"), with_memory("absolute-query", "absolute")
of_clips = with_memory("relative-turns", "relative")

# The columns: tables with a memory of rows or without a memory; other vectors; images; clips. Functions take a Case.
# fmt: off
KINDS =                    ("rows",       "vectors",                 "images",          "clips")
EARLY = {  # before rows are selected
    "memory_unit":         ("row",        "sample",                  "sample",          "location"),
    "scaling":             ("log",        "log",                     image_scaling,     "standard"),
    "power_of_copies":     (power_of_copies, 0.5,                    1.0,               1.0),
    "anomaly_score":       (of_rows,      of_vectors,                image_score,       of_clips),
}
LATE = {
    "widths":              (row_widths,   vector_widths,             conv_widths,       conv_widths),
    "memory_size":         (row_items,    learned_items,             learned_items,     learned_items),
    "memory_heads":        (1,            heads_of_many,             1,                 1),
    "similarity":          ("distance",   "cosine",                  "cosine",          "cosine"),
    "temperature":         (0.1,          0.05,                      0.01,              0.05),
    "ensemble_size":       (row_members,  4,                         1,                 1),
    "learning_rate":       (5e-3,         2e-3,                      2e-3,              2e-3),
    "batch_size":          (an_eightieth, a_twentieth(lambda c: 1024), image_batch,     a_twentieth(few_numbers)),
    "max_epochs":          (eighty_steps, epochs_of(2000),           epochs_of(320, 12), epochs_of(500)),
    "validation_fraction": (0.0,          0.1,                       0.1,               0.1),
}
# fmt: on
_OF_MEMORY = ("memory_unit", "memory_heads", "similarity", "temperature")


def kind_of(params: dict[str, Any], layout: Layout) -> str:
    """The column of the table for these parameters and samples."""
    if layout.family != "fc":
        return "images" if layout.family == "conv2d" else "clips"
    return "rows" if params["memory_unit"] in ("auto", "row") and not callable(params["backbone"]) else "vectors"


def decide(params: dict[str, Any], layout: Layout, n_samples: int, is_surface: bool = False) -> dict[str, Any]:
    """The parameters; those that the selection of rows depends on are resolved.

    Parameters
    ----------
    params : dict
        Parameters of :class:`MemAEDetector`, as the user gave them.
    layout : Layout
    n_samples : int
        Number of all training samples.
    is_surface : bool, default=False
        Whether images vary little from one to the next.
    """
    decided = {**params, "power_of_copies": "auto", "memory_heads": "auto"}
    decided["backbone"] = params["backbone"] if callable(params["backbone"]) else layout.family
    return _filled(decided, EARLY, kind_of(params, layout), Case(n_samples, layout, decided, is_surface))


def resolve(decided: dict[str, Any], layout: Layout, n_training: int) -> dict[str, Any]:
    """The parameters with every None and "auto" resolved; without a memory its parameters are None.

    Parameters
    ----------
    decided : dict
        Result of :func:`decide`.
    layout : Layout
    n_training : int
        Number of samples to train on.
    """
    if decided["batch_size"] != "auto":
        decided = {**decided, "batch_size": min(decided["batch_size"], max(2, n_training))}
    resolved = _filled(decided, LATE, kind_of(decided, layout), Case(n_training, layout, decided))
    for name in ("temperature", "shrink_threshold", "entropy_weight", "learning_rate", "validation_fraction"):
        resolved[name] = float(resolved[name])
    for name in ("memory_size", "ensemble_size", "batch_size", "max_epochs"):
        resolved[name] = int(resolved[name])
    resolved["widths"] = tuple(int(width) for width in resolved["widths"])
    resolved["per_sample"] = resolved["memory_unit"] != "location"
    resolved["pixel_size"] = pixel_size_of(resolved, layout)
    resolved["side_by_side"] = kind_of(decided, layout) == "rows"
    if resolved["side_by_side"]:
        resolved["memory_size"] = min(resolved["memory_size"], n_training)
    return resolved if resolved["memory_size"] else {**resolved, **dict.fromkeys(_OF_MEMORY)}


def _filled(params: dict[str, Any], table: Mapping[str, Sequence], kind: str, case: Case) -> dict[str, Any]:
    """The parameters; those that are "auto" and in this part of the table get the value or the rule of their column."""
    filled = dict(params)
    for name, row in table.items():
        if params[name] == "auto" or (name == "widths" and params[name] is None):
            rule = row[KINDS.index(kind)]
            filled[name] = rule(case._replace(params=filled)) if callable(rule) else rule
    return filled


def check_values(params: dict[str, Any]) -> None:
    """Raise if a value is wrong in a way that :data:`CONSTRAINTS` cannot express.

    Raises
    ------
    ValueError
    """
    check_numbers(params, accepts_bool=("verbose", "random_state"))
    widths, score = params["widths"], params["anomaly_score"]
    if widths is not None and not (len(widths) and are_positive_ints(widths)):
        raise ValueError(
            f"The 'widths' parameter of MemAEDetector must be None or a tuple of positive int. Got {widths!r} instead."
        )
    if score not in ("auto", *ERRORS, *(f"{error}-{factor}" for error in ERRORS for factor in FACTORS)):
        raise ValueError(
            f"The 'anomaly_score' parameter of MemAEDetector must be 'auto' or one of {ERRORS}, which may be followed by a "
            f"hyphen and one of {FACTORS}. Got {score!r} instead."
        )


def check_fit(params: dict[str, Any], layout: Layout) -> None:
    """Raise if values do not fit each other or the samples.

    Raises
    ------
    ValueError
    """
    vectors, kind, unit = layout.family == "fc", kind_of(params, layout), params["memory_unit"]
    if unit == "row" and kind != "rows":
        raise ValueError("memory_unit='row' needs backbone='fc', as tables have by default; for others 'sample' is accepted.")
    if vectors and unit == "location" and not callable(params["backbone"]):
        raise ValueError("memory_unit='location' needs a feature map; got vectors, for which 'sample' is accepted.")
    per_sample = unit == "sample" or (unit == "auto" and layout.family != "conv3d")
    least = 2 if not vectors and per_sample else 1
    if params["widths"] is not None and len(params["widths"]) < least:
        raise ValueError(
            f"The 'widths' parameter of MemAEDetector must be None or a tuple of at least {least} positive int. "
            f"Got {params['widths']!r} instead."
        )
    error, _, factor = params["anomaly_score"].partition("-")
    if factor == "paces" and (layout.family != "conv3d" or layout.sample_shape[1] < FEWEST_FRAMES):
        raise ValueError(
            f"anomaly_score={params['anomaly_score']!r} needs clips of at least {FEWEST_FRAMES} frames; got samples of "
            f"{layout.sample_shape}."
        )
    if factor == "patches" and layout.family != "conv2d":
        raise ValueError(f"anomaly_score={params['anomaly_score']!r} needs images; got samples of {layout.sample_shape}.")
    if vectors and (error in ("smooth", "local") or factor == "turns"):
        raise ValueError(f"anomaly_score={params['anomaly_score']!r} needs images or clips; got vectors.")
    needed = {"query": "learned memory items", "subsets": "a memory of rows"}.get(factor)
    if needed and (params["memory_size"] == 0 or (kind == "rows") != (factor == "subsets")):
        raise ValueError(f"anomaly_score={params['anomaly_score']!r} needs {needed}, which this detector has not.")
