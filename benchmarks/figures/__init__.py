"""What ``python benchmarks/speed.py`` measures: a function for each figure, which gives rows that :func:`row` makes."""

from statistics import median
from time import perf_counter


def row(what, value, unit, goal, *, seconds=None, reference=None):
    """One line of the table.

    Parameters
    ----------
    what : str
    value : float
    unit : str
    goal : str
    seconds, reference : float or None, default=None
        What the value is a ratio of, where it is one.
    """
    return {"what": what, "value": value, "unit": unit, "goal": goal, "seconds": seconds, "reference_seconds": reference}


def seconds(work) -> float:
    """How long it takes."""
    start = perf_counter()
    work()
    return perf_counter() - start


def in_turns(repeats, *works) -> list[float]:
    """Median seconds of each, taken in turns, so that a machine that drifts does so for all; a first turn is not counted."""
    turns = [[seconds(work) for work in works] for _ in range(repeats + 1)]
    return [median(column) for column in zip(*turns[1:], strict=True)]
