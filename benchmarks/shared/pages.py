"""Tables in Markdown and figures of the rows of protocols."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from skmemae.benchmark.report import Rows, align, data_means, grouped, pyplot, table

_MAX_PANELS = 4


def finish(rows: Rows, columns: dict[str, str], out: str | Path, name: str) -> None:
    """Print the first column by data set and detector and all columns by detector; draw a figure of the first."""
    value = next(iter(columns))
    print("\n" + align(pivot(rows, "data", "detector", value)))
    print("\n" + table(data_means(rows, columns), "detector", columns))
    path = Path(out) / f"{name}.png"
    draw(rows, value, path)
    print(f"\nrows in {path.with_suffix('.csv')}, figure in {path}")


def pivot(rows: Rows, line: str, across: str, value: str, number_format: str = ".3f") -> list[list[str]]:
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


def figure_lines(rows: Rows) -> list[list[str]]:
    """Cells of the table of ``benchmarks/speed.py`` as a list of lines; the first line holds the titles."""
    cells = [[row["what"], str(row["threads"]), f"{row['value']:.4g} {row['unit']}", row["goal"]] for row in rows]
    return [["what", "threads", "value", "goal"], *cells]


def markdown(lines: list[list[str]]) -> str:
    """Cells as a Markdown table."""
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body])


def draw(rows: Rows, value: str, path: Path) -> None:
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
