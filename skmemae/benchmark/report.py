"""Tables and figures from rows of results."""

import csv
import json
import platform
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

PACKAGES = ("torch", "scikit-learn", "pyod", "numpy", "scipy")
_MAX_PANELS = 4


def table(rows, key, columns):
    """Table as text: means of some columns over the rows that share a key.

    Parameters
    ----------
    rows : list of dict
    key : str
        Column whose values become the lines, in order of appearance.
    columns : dict of str to str
        Columns to show and their formats. "±" before a format adds the standard deviation of the seeds' means if there are
        several seeds.

    Returns
    -------
    text : str
    """
    return align(summary(rows, key, columns))


def summary(rows, key, columns):
    """Cells of :func:`table` as a list of lines; the first line holds the titles."""
    lines = [[key, *columns]]
    for name, group in grouped(rows, key).items():
        line = [name]
        for column, number_format in columns.items():
            mean = np.mean([row.get(column, np.nan) for row in group])
            text = "" if np.isnan(mean) else format(mean, number_format.lstrip("±"))
            if number_format.startswith("±") and len(grouped(group, "seed")) > 1:
                text += " ± " + format(np.std(seed_means(group, column)), number_format.lstrip("±"))
            line.append(text)
        lines.append(line)
    return lines


def pivot(rows, line, across, value, number_format=".3f"):
    """Table of means of ``value``: a line for each value of ``line``, a column for each of ``across``, and the mean line.

    A column with empty cells has no mean, as it would not be comparable.
    """
    names = list(grouped(rows, across))
    lines, means = [[line, *names]], defaultdict(list)
    for title, group in grouped(rows, line).items():
        by_name = {name: float(np.mean([row[value] for row in cell])) for name, cell in grouped(group, across).items()}
        lines.append([title, *[format(by_name[name], number_format) if name in by_name else "" for name in names]])
        for name, mean in by_name.items():
            means[name].append(mean)
    n_lines = len(lines) - 1
    if n_lines > 1:
        complete = {name: format(np.mean(means[name]), number_format) for name in names if len(means[name]) == n_lines}
        lines.append(["mean", *[complete.get(name, "") for name in names]])
    return lines


def figure_lines(rows):
    """Cells of the table of ``benchmarks/speed.py`` as a list of lines; the first line holds the titles."""
    cells = [[row["what"], str(row["threads"]), f"{row['value']:.4g} {row['unit']}", row["goal"]] for row in rows]
    return [["what", "threads", "value", "goal"], *cells]


def align(lines):
    """Cells as text in aligned columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        line[0].ljust(widths[0]) + "".join("  " + cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def markdown(lines):
    """Cells as a Markdown table."""
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body])


def grouped(rows, key):
    """Dict of lists of rows by the value of a key, in order of appearance."""
    groups = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    return dict(groups)


def seed_means(rows, column):
    """Means of a column, one per seed."""
    return [float(np.mean([row.get(column, np.nan) for row in group])) for group in grouped(rows, "seed").values()]


def data_means(rows, columns):
    """Means over tasks, one row per data set, detector and seed, so that every data set has the same weight."""
    cells = defaultdict(list)
    for row in rows:
        cells[row["data"], row["detector"], row["seed"]].append(row)

    def means(cell):
        return {column: float(np.mean([row.get(column, np.nan) for row in cell])) for column in columns}

    return [{"data": data, "detector": detector, "seed": seed, **means(cell)} for (data, detector, seed), cell in cells.items()]


def finish(rows, columns, out, name):
    """Print the first column by data set and detector and all columns by detector; draw a figure of the first."""
    value = next(iter(columns))
    print("\n" + align(pivot(rows, "data", "detector", value)))
    print("\n" + table(data_means(rows, columns), "detector", columns))
    path = Path(out) / f"{name}.png"
    draw(rows, value, path)
    print(f"\nrows in {path.with_suffix('.jsonl')}, figure in {path}")


def draw(rows, value, path):
    """Draw a value by detector: a dot for each task or seed of a data set, or for each data set if there are many."""
    plt = pyplot()

    sets = grouped(rows, "data")
    panels = sets if len(sets) <= _MAX_PANELS else {f"{len(sets)} data sets": rows}
    figure, axes = plt.subplots(1, len(panels), figsize=(1.5 + 4.2 * len(panels), 4.5), layout="constrained", squeeze=False)
    for axis, (title, panel) in zip(axes[0], panels.items(), strict=True):
        dot = "data" if panels is not sets else "task" if len(grouped(panel, "task")) > 1 else "seed"
        groups = sorted(grouped(panel, "detector").items(), key=lambda item: np.mean([row[value] for row in item[1]]))
        for height, (_, group) in enumerate(groups):
            dots = [np.mean([row[value] for row in members]) for members in grouped(group, dot).values()]
            axis.plot(dots, np.full(len(dots), height), ".", color="tab:gray", alpha=0.6)
            axis.plot(np.mean(dots), height, "D", color="black")
        names = {"data": "a data set", "task": "a task", "seed": "a seed"}
        axis.set(title=title, xlabel=f"{value.replace('_', ' ')} (dot: {names[dot]}, diamond: mean)")
        axis.set_yticks(range(len(groups)), [name for name, _ in groups])
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def pyplot():
    """matplotlib.pyplot with a backend that needs no screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def save(rows, out, name):
    """Write rows as NAME.csv, and with the versions of the packages as NAME.json."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    versions = {package: version(package) for package in PACKAGES}
    made_with = {"python": platform.python_version(), "machine": platform.machine(), **versions}
    (out / f"{name}.json").write_text(json.dumps({"made_with": made_with, "rows": rows}, indent=1) + "\n")
