"""Accepted values of the parameters of MemAEDetector, and one table of the defaults for each kind of data."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skmemae._data.layout import Layout, are_positive_ints
from skmemae._model.score import ERRORS, FACTORS
from skmemae._validation import check_numbers

FEWEST_FRAMES = 3  # of a clip whose motion is compared
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
    "scaling": [StrOptions({"auto", "contrast", "log", "standard", "minmax"}), None],
    "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
    "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "validation_fraction": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": [Interval(Integral, 0, 2, closed="both"), "boolean"],
}


class Case(NamedTuple):
    """Facts on which a default may depend."""

    n: int  # samples to train on
    layout: Layout
    params: dict[str, Any]  # those above it in the table are resolved

    @property
    def size(self) -> int:
        """Numbers of a sample."""
        return math.prod(self.layout.sample_shape)

    @property
    def code(self) -> int:
        """Width of an encoding: half of a sample, at most 32; a wider one would reconstruct outliers as well.

        At least two, as a cosine knows nothing but the sign of a single number.
        """
        return min(32, max(2, self.size // 2))

    @property
    def share(self) -> float:
        """Share of outliers in the training data."""
        return share_of_outliers(self.params)


def share_of_outliers(params: dict[str, Any]) -> float:
    """Share of outliers in the training data, as far as ``contamination`` tells."""
    return float(params["contamination"]) if isinstance(params["contamination"], Real) else USUAL_SHARE


def if_clean(c: Case) -> bool:
    """Where rows may be outliers, being frequent speaks for a row, so frequent ones count less only where data is clean."""
    return isinstance(c.params["contamination"], Real) and c.params["contamination"] < 0.02


def contrast_of_large(c: Case) -> str:
    return "contrast" if math.prod(c.layout.sample_shape[1:]) >= 16 else "standard"


def power_score(c: Case) -> str:
    """Distances from random subsets find clusters of outliers; they are of no use where the data is clean."""
    may_hold_outliers = c.share >= 0.005 and c.share * c.n >= 1
    return "power-subsets" if c.params["memory_size"] != 0 and may_hold_outliers else "power"


def with_memory(with_it: str, without: str) -> Callable[[Case], str]:
    return lambda c: with_it if c.params["memory_size"] != 0 else without


def row_widths(c: Case) -> tuple[int, ...]:
    """Queries of rows only decide which rows are near, so those of few columns may be as wide as a row."""
    return (max(c.code, min(16, c.size)) if c.params["memory_size"] != 0 else c.code,)


def vector_widths(c: Case) -> tuple[int, ...]:
    return (64, c.code)


def conv_widths(c: Case) -> tuple[int, ...]:
    """Layers until a feature map has about four positions along the larger side, then the width of an item per sample."""
    levels = min(4, max(1, round(math.log2(max(c.layout.sample_shape[1:]) / 4))))
    channels = (16, 32, 64, 64)[:levels]
    return channels if c.params["memory_unit"] == "location" else (*channels, c.code)


def row_items(c: Case) -> int:
    """All rows, at most 8000 and a million numbers, but at least 100."""
    return min(max(100, min(8000, 2**20 // c.size)), c.n)


def learned_items(c: Case) -> int:
    """Prototypes, not copies: at most a quarter of the queries."""
    queries, most = c.n, 100
    if c.params["memory_unit"] == "location":
        queries *= math.prod(-(-s // 2 ** len(c.params["widths"])) for s in c.layout.sample_shape[1:])
        most = 1000
    elif c.layout.family == "conv2d":
        most = min(500, max(100, c.n // 10))
    return min(most, max(2, queries // 4))


def heads_of_many(c: Case) -> int:
    """Many rows are of many kinds, of which whole prototypes reconstruct the rare ones badly: one head for eight numbers."""
    if c.n < 10_000 or callable(c.params["backbone"]):
        return 1
    width = c.params["widths"][-1]
    return next(h for h in range(max(1, min(4, width // 8)), 0, -1) if width % h == 0)


def row_members(c: Case) -> int:
    """Members with few rows are cheap."""
    return max(min(16, 4000 // c.n), min(4, 8000 // c.n), 1)


def an_eightieth(c: Case) -> int:
    return min(256, max(64, c.n // 80))


def few_numbers(c: Case) -> int:
    return min(128, max(8, 2**20 // c.size))


def a_twentieth(most: Callable[[Case], int]) -> Callable[[Case], int]:
    return lambda c: min(most(c), max(32, 2 ** round(math.log2(c.n / 20))))


def eighty_steps(c: Case) -> int:
    return max(1, round(80 / -(-c.n // c.params["batch_size"])))


def epochs_of(steps: int) -> Callable[[Case], int]:
    """With time a decoder learns to reconstruct outliers as well."""
    return lambda c: min(200, max(20, round(steps * c.params["batch_size"] / c.n)))


of_images, of_clips = with_memory("smooth-turns", "smooth"), with_memory("relative-turns", "relative")
of_vectors, of_batch = with_memory("absolute-query", "absolute"), a_twentieth(few_numbers)

# The columns: tables with a memory of rows; vectors with learned items; images; clips. A function is a rule of the case.
# fmt: off
KINDS =                    ("rows",       "vectors",                 "images",          "clips")
EARLY = {  # before rows are selected
    "memory_unit":         ("row",        "sample",                  "sample",          "location"),
    "scaling":             ("log",        "log",                     contrast_of_large, "standard"),
    "thins_copies":        (if_clean,     True,                      False,             False),
    "anomaly_score":       (power_score,  of_vectors,                of_images,         of_clips),
}
LATE = {
    "widths":              (row_widths,   vector_widths,             conv_widths,       conv_widths),
    "memory_size":         (row_items,    learned_items,             learned_items,     learned_items),
    "memory_heads":        (1,            heads_of_many,             1,                 1),
    "similarity":          ("distance",   "cosine",                  "cosine",          "cosine"),
    "temperature":         (0.1,          0.05,                      0.01,              0.05),
    "ensemble_size":       (row_members,  4,                         1,                 1),
    "learning_rate":       (5e-3,         2e-3,                      2e-3,              2e-3),
    "batch_size":          (an_eightieth, a_twentieth(lambda c: 1024), of_batch,        of_batch),
    "max_epochs":          (eighty_steps, epochs_of(2000),           epochs_of(800),    epochs_of(2000)),
    "validation_fraction": (0.0,          0.1,                       0.1,               0.1),
}
# fmt: on
_OF_MEMORY = ("memory_unit", "memory_heads", "similarity", "temperature")


def kind_of(params: dict[str, Any], layout: Layout) -> str:
    """The column of the table."""
    if layout.family != "fc":
        return "images" if layout.family == "conv2d" else "clips"
    return "rows" if params["memory_unit"] in ("auto", "row") and not callable(params["backbone"]) else "vectors"


def decide(params: dict[str, Any], layout: Layout, n_samples: int) -> dict[str, Any]:
    """The parameters with those resolved on which the selection of rows depends.

    Parameters
    ----------
    params : dict
        Of :class:`MemAEDetector`, as the user gave them.
    layout : Layout
    n_samples : int
        All training samples.
    """
    decided = {**params, "thins_copies": "auto", "memory_heads": "auto"}
    decided["backbone"] = params["backbone"] if callable(params["backbone"]) else layout.family
    return _filled(decided, EARLY, kind_of(params, layout), layout, n_samples)


def resolve(decided: dict[str, Any], layout: Layout, n_training: int) -> dict[str, Any]:
    """The parameters with every None and "auto" resolved; without a memory, its parameters are None.

    Parameters
    ----------
    decided : dict
        Of :func:`decide`.
    layout : Layout
    n_training : int
        Samples to train on.
    """
    if decided["batch_size"] != "auto":
        decided = {**decided, "batch_size": min(decided["batch_size"], max(2, n_training))}
    resolved = _filled(decided, LATE, kind_of(decided, layout), layout, n_training)
    for name in ("temperature", "shrink_threshold", "entropy_weight", "learning_rate", "validation_fraction"):
        resolved[name] = float(resolved[name])
    for name in ("memory_size", "ensemble_size", "batch_size", "max_epochs"):
        resolved[name] = int(resolved[name])
    resolved["widths"] = tuple(int(width) for width in resolved["widths"])
    resolved["per_sample"] = resolved["memory_unit"] != "location"
    resolved["side_by_side"] = kind_of(decided, layout) == "rows"
    if resolved["side_by_side"]:
        resolved["memory_size"] = min(resolved["memory_size"], n_training)
    return resolved if resolved["memory_size"] else {**resolved, **dict.fromkeys(_OF_MEMORY)}


def _filled(params: dict[str, Any], table: Mapping[str, Sequence], kind: str, layout: Layout, n: int) -> dict[str, Any]:
    """Parameters with those of a part of the table given or by the rule of their kind."""
    filled = dict(params)
    for name, row in table.items():
        if params[name] == "auto" or (name == "widths" and params[name] is None):
            rule = row[KINDS.index(kind)]
            filled[name] = rule(Case(n, layout, filled)) if callable(rule) else rule
    return filled


def check_values(params: dict[str, Any]) -> None:
    """Raise where a value is not accepted that :data:`CONSTRAINTS` do not tell.

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
    """Raise where values do not fit each other or the samples.

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
    if vectors and (error in ("smooth", "local") or factor == "turns"):
        raise ValueError(f"anomaly_score={params['anomaly_score']!r} needs images or clips; got vectors.")
    needed = {"query": "learned memory items", "subsets": "a memory of rows"}.get(factor)
    if needed and (params["memory_size"] == 0 or (kind == "rows") != (factor == "subsets")):
        raise ValueError(f"anomaly_score={params['anomaly_score']!r} needs {needed}, which this detector has not.")
