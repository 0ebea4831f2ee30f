"""Figures of ``python benchmarks/speed.py``: a function for each figure returns rows from :func:`row`."""

from statistics import median
from time import perf_counter


def row(label, value, unit, goal, *, seconds=None, reference=None):
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


def seconds(work) -> float:
    """Seconds of a call of ``work``."""
    start = perf_counter()
    work()
    return perf_counter() - start


def in_turns(repeats, *works) -> list[float]:
    """Median seconds of each work, called in turns so that drifts of the machine affect all; the first turn is a warm-up."""
    turns = [[seconds(work) for work in works] for _ in range(repeats + 1)]
    return [median(column) for column in zip(*turns[1:], strict=True)]
