"""Tables of means from rows of results."""

from collections import defaultdict
from typing import Any

import numpy as np

Rows = list[dict[str, Any]]


def table(rows: Rows, key: str, columns: dict[str, str]) -> str:
    """Table as text: means of some columns over the rows that share a key.

    Parameters
    ----------
    rows : list of dict
    key : str
        Column whose values become the lines, in order of appearance.
    columns : dict of str to str
        Columns to show and their formats. "±" before a format adds the standard deviation of the seeds' means if there are
        several seeds, "±e" the standard error of their mean.

    Returns
    -------
    text : str
    """
    return align(summary(rows, key, columns))


def summary(rows: Rows, key: str, columns: dict[str, str]) -> list[list[str]]:
    """Cells of :func:`table` as a list of lines; the first line holds the titles."""
    lines = [[key, *columns]]
    for name, group in grouped(rows, key).items():
        line = [name]
        for column, number_format in columns.items():
            mean = np.mean([row.get(column, np.nan) for row in group])
            plain = number_format.lstrip("±e")
            text = "" if np.isnan(mean) else format(mean, plain)
            means = seed_means(group, column) if number_format.startswith("±") else []
            if len(means) > 1 and text:
                error = np.std(means, ddof=1) / np.sqrt(len(means))
                text += " ± " + format(error if number_format.startswith("±e") else np.std(means), plain)
            line.append(text)
        lines.append(line)
    return lines


def align(lines: list[list[str]]) -> str:
    """Cells as text in aligned columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        line[0].ljust(widths[0]) + "".join("  " + cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def grouped(rows: Rows, key: str) -> dict[Any, Rows]:
    """Dict of lists of rows by the value of a key, in order of appearance."""
    groups = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    return dict(groups)


def seed_means(rows: Rows, column: str) -> list[float]:
    """Means of a column, one per seed."""
    return [float(np.mean([row.get(column, np.nan) for row in group])) for group in grouped(rows, "seed").values()]


def data_means(rows: Rows, columns: dict[str, str]) -> Rows:
    """Means over tasks, one row per data set, detector and seed, so that every data set has the same weight."""
    cells = defaultdict(list)
    for row in rows:
        cells[row["data"], row["detector"], row["seed"]].append(row)

    def means(cell: Rows) -> dict[str, float]:
        return {column: float(np.mean([row.get(column, np.nan) for row in cell])) for column in columns}

    return [{"data": data, "detector": detector, "seed": seed, **means(cell)} for (data, detector, seed), cell in cells.items()]


def pyplot() -> Any:
    """matplotlib.pyplot with a backend that needs no screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
