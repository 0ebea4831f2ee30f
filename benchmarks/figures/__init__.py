"""Figures of ``python benchmarks/speed.py``: a function for each figure returns rows from :func:`row`."""

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any


def row(
    label: str, value: float, unit: str, goal: str, *, seconds: float | None = None, reference: float | None = None
) -> dict[str, Any]:
    """Row of the table.

    Parameters
    ----------
    label : str
        Name of the measurement, the column "what".
    value : float
    unit : str
    goal : str
        Target for the value, such as "<= 2"; "" for none.
    seconds, reference : float or None, default=None
        Measured seconds, and those of the reference if the value is a ratio of the two.

    Returns
    -------
    row : dict
    """
    return {"what": label, "value": value, "unit": unit, "goal": goal, "seconds": seconds, "reference_seconds": reference}


def seconds(work: Callable[[], Any]) -> float:
    """Seconds of a call of ``work``."""
    start = perf_counter()
    work()
    return perf_counter() - start


def in_turns(repeats: int, *works: Callable[[], Any]) -> list[float]:
    """Median seconds of each work, called in turns so that drifts of the machine affect all; the first turn is a warm-up."""
    turns = [[seconds(work) for work in works] for _ in range(repeats + 1)]
    return [median(column) for column in zip(*turns[1:], strict=True)]
