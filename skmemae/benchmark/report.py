"""Rows of results to tables of text and to pictures."""

import csv
import json
import platform
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

PACKAGES = ("torch", "scikit-learn", "pyod", "numpy", "scipy")
_MOST_PANELS = 4


def table(rows, key, columns):
    """Means of some columns over the rows that share a key, as lines of text.

    Parameters
    ----------
    rows : list of dict
    key : str
        Column whose values become the lines, in order of appearance.
    columns : dict of str to str
        Columns to show and their formats; "±" before the format adds the deviation over tasks' means by seed if there are
        several.
    """
    return align(summary(rows, key, columns))


def summary(rows, key, columns):
    """The cells of :func:`table`: a list of lines, the first one the titles."""
    lines = [[key, *columns]]
    for name, group in grouped(rows, key).items():
        line = [name]
        for column, how in columns.items():
            mean = np.mean([row[column] for row in group])
            text = "" if np.isnan(mean) else format(mean, how.lstrip("±"))
            if how.startswith("±") and len(grouped(group, "seed")) > 1:
                text += " ± " + format(np.std(seed_means(group, column)), how.lstrip("±"))
            line.append(text)
        lines.append(line)
    return lines


def pivot(rows, line, across, value, how=".3f"):
    """Means of one number, a line for each value of one key and a column for each of another; the last line is their mean.

    A column that lacks lines has no mean, which would not be comparable.
    """
    names = list(grouped(rows, across))
    lines, means = [[line, *names]], defaultdict(list)
    for title, group in grouped(rows, line).items():
        by_name = {name: float(np.mean([row[value] for row in part])) for name, part in grouped(group, across).items()}
        lines.append([title, *[format(by_name[name], how) if name in by_name else "" for name in names]])
        for name, mean in by_name.items():
            means[name].append(mean)
    full = len(lines) - 1
    if full > 1:
        lines.append(["mean", *[format(np.mean(means[name]), how) if len(means[name]) == full else "" for name in names]])
    return lines


def figure_lines(rows):
    """Cells of the table of speed and memory: rows of ``benchmarks/speed.py`` as lines, the first one the titles."""
    cells = [[row["what"], str(row["threads"]), f"{row['value']:.4g} {row['unit']}", row["goal"]] for row in rows]
    return [["what", "threads", "value", "goal"], *cells]


def align(lines):
    """Cells as text in columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        line[0].ljust(widths[0]) + "".join("  " + cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def markdown(lines):
    """Cells as a table in Markdown."""
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body])


def grouped(rows, key):
    """Rows by the value of a key, in order of appearance."""
    groups = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    return dict(groups)


def seed_means(rows, column):
    """Mean of a column for each seed."""
    return [float(np.mean([row[column] for row in group])) for group in grouped(rows, "seed").values()]


def data_means(rows, columns):
    """One row per data set, detector and seed, so that a set of ten tasks weighs as much as a set of one."""
    cells = defaultdict(list)
    for row in rows:
        cells[row["data"], row["detector"], row["seed"]].append(row)
    return [
        {"data": data, "detector": detector, "seed": seed, **{c: float(np.mean([row[c] for row in cell])) for c in columns}}
        for (data, detector, seed), cell in cells.items()
    ]


def finish(rows, columns, out, name):
    """Print what a protocol found: its first column by data set and detector, all columns by detector; draw a picture."""
    value = next(iter(columns))
    print("\n" + align(pivot(rows, "data", "detector", value)))
    print("\n" + table(data_means(rows, columns), "detector", columns))
    path = Path(out) / f"{name}.png"
    draw(rows, value, path)
    print(f"\nrows in {path.with_suffix('.jsonl')}, picture in {path}")


def chosen(names, known):
    """The names to run, all that are known for None; an unknown one ends the program."""
    unknown = set(names or ()) - set(known)
    if unknown:
        raise SystemExit(f"--data knows {list(known)}, got {sorted(unknown)}")
    return list(known) if names is None else names


def draw(rows, value, path):
    """A number by detector: a dot for each task or seed of a data set, or for each data set where these are many."""
    plt = pyplot()

    sets = grouped(rows, "data")
    panels = sets if len(sets) <= _MOST_PANELS else {f"{len(sets)} data sets": rows}
    figure, axes = plt.subplots(1, len(panels), figsize=(1.5 + 4.2 * len(panels), 4.5), layout="constrained", squeeze=False)
    for axis, (title, panel) in zip(axes[0], panels.items(), strict=True):
        dot = "data" if panels is not sets else "task" if len(grouped(panel, "task")) > 1 else "seed"
        groups = sorted(grouped(panel, "detector").items(), key=lambda item: np.mean([row[value] for row in item[1]]))
        for height, (_, group) in enumerate(groups):
            dots = [np.mean([row[value] for row in part]) for part in grouped(group, dot).values()]
            axis.plot(dots, np.full(len(dots), height), ".", color="tab:gray", alpha=0.6)
            axis.plot(np.mean(dots), height, "D", color="black")
        names = {"data": "a data set", "task": "a task", "seed": "a seed"}
        axis.set(title=title, xlabel=f"{value.replace('_', ' ')} (dot: {names[dot]}, diamond: mean)")
        axis.set_yticks(range(len(groups)), [name for name, _ in groups])
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def pyplot():
    """Where pictures are drawn without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


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
