"""Rows of results to files and to a table of text."""

import csv
import json
import platform
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

PACKAGES = ("torch", "scikit-learn", "pyod", "numpy", "scipy")


def table(rows, key, columns):
    """Means of some columns over the rows that share a key, as lines of text.

    Parameters
    ----------
    rows : list of dict
    key : str
        Column whose values become the lines, in order of appearance.
    columns : dict of str to str
        Columns to show and their formats; "±" before the format adds the deviation over tasks' means by seed.
    """
    groups = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    lines = [[key, *columns]]
    for name, group in groups.items():
        line = [name]
        for column, how in columns.items():
            text = format(np.mean([row[column] for row in group]), how.lstrip("±"))
            if how.startswith("±"):
                text += " ± " + format(np.std(seed_means(group, column)), how.lstrip("±"))
            line.append(text)
        lines.append(line)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        line[0].ljust(widths[0]) + "".join("  " + cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def seed_means(rows, column):
    """Mean of a column for each seed."""
    by_seed = defaultdict(list)
    for row in rows:
        by_seed[row["seed"]].append(row[column])
    return [float(np.mean(values)) for values in by_seed.values()]


def save(rows, out, name):
    """Write rows as NAME.csv, and with the versions that made them as NAME.json."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    versions = {package: version(package) for package in PACKAGES}
    made_with = {"python": platform.python_version(), "machine": platform.machine(), **versions}
    (out / f"{name}.json").write_text(json.dumps({"made_with": made_with, "rows": rows}, indent=1) + "\n")
