"""Write the page of results from stored rows, beside the paper's numbers."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ablation
import adbench
import contaminated
import kddcup99
import magnetic_tiles
import odds
import one_class
import tables
import video
from shared import pages
from shared.detectors import DEEP
from skmemae.benchmark import report, store
from skmemae.benchmark.detectors import OURS
from skmemae.benchmark.report import Rows

# Tables 1 to 3 of the paper, under the detector names of the rows. The networks of the paper's AE and MemAE differ from ours.
PAPER = {
    "MNIST": {"OC-SVM": 0.9499, "KDE": 0.8116, "VAE": 0.9632, "no memory": 0.9619, "MemAE": 0.9751},
    "CIFAR-10": {"OC-SVM": 0.5619, "KDE": 0.5756, "VAE": 0.5725, "no memory": 0.5706, "MemAE": 0.6088},
    "KDDCUP99": {"OC-SVM": 0.7954, "no memory": 0.9342, "MemAE": 0.9641},
    "UCSD Ped2": {"no memory": 0.9170, "MemAE": 0.9410},
}
TITLE = """# Results

Written by `python benchmarks/document.py` from the files of `docs/results`: a CSV file for each section, with a row for each
data set, task, seed and detector, and `versions.json` with the versions and the detectors' parameters. Detectors run on the
same splits at their defaults, or as their section says, and are fitted without labels. "no memory" is MemAE with
`memory_size=0`; "MemAE, paper's preset" has the layers and settings of the paper. The column "paper" holds the paper's numbers.
[What makes the memory work](what_works.md) describes the experiments behind the defaults and the data they were chosen on.
"""
CHOICES = """Effect of the defaults: one parameter changed at a time, on the data that the defaults were chosen on.

Images: MNIST with 2 and 8 normal, CIFAR-10 with airplane, deer and ship normal, as in ``one-class``, and where not said
otherwise scored by the error alone, without reference features. Tables: nine of ODDS, as in ``odds``, seven of ADBench, as in
``adbench``, with the share of outliers in the training data as ``contamination``, and KDDCUP99. The measure is F1 of the top
fifth for KDDCUP99 and ROC AUC for the others; higher = better. These results do not test the defaults; those of the other
sections do. They were measured with an earlier version; the program is no longer kept.
"""
SELECTION = """Choosing settings by criteria without labels, compared with the best result.

Thirteen settings of MemAEDetector were fitted on two thirds of the training rows of the tables of ``odds`` and ``adbench``, of
which at most 2,000 rows were drawn. Each criterion chose one of them by the last third, which holds outliers where the split
is contaminated, and the table shows the ROC AUC of its choice on the test set. "separation" is
``skmemae.metrics.separation``, "excess mass" that of Goix (2016), with uniform rows in the box around the training rows,
"held-out error" the mean anomaly score, smaller = better. "default" and "any", the mean of all settings, look at nothing.
"best" is the choice by the test labels. The settings were fitted with an earlier version; the program is no longer kept.
"""
SPEED = """## speed

Speed and memory: ``fit`` against a bare loop and PyOD, data on disk, growth with rows, addressing, several processes.

Each figure is measured in a separate process with the number of threads in its line. Seconds are medians of alternating
repeats; ratios are of medians from one run. A goal is the target of a figure, reached or not. Memory
items are learned in the figures up to addressing and in growth, grid search and ranks.

```console
python benchmarks/speed.py
```
"""
_MANY_SETS = 10  # from this number of data sets, one table for all instead of one for each


class Section(NamedTuple):
    """Section of the page, about one file of results."""

    text: str | None
    columns: dict[str, str]  # numbers to show, the first one first, and their formats
    command: str = ""  # prints the numbers; empty for a study whose program is gone
    published: str = ""  # table of the numbers of others


SELECTED = {"roc_auc": "±.4f", "above_any": ".4f"}
SECTIONS = {
    "one-class": Section(one_class.__doc__, one_class.COLUMNS, "one_class.py"),
    "contaminated-mnist": Section(contaminated.__doc__, contaminated.COLUMNS, "contaminated.py"),
    "magnetic-tiles": Section(
        magnetic_tiles.__doc__,
        magnetic_tiles.COLUMNS,
        "magnetic_tiles.py",
        f"{magnetic_tiles.ABOUT_PUBLISHED}\n\n{pages.markdown(magnetic_tiles.published_lines())}\n",
    ),
    "kddcup99": Section(kddcup99.__doc__, kddcup99.COLUMNS, "kddcup99.py"),
    "odds-clean": Section(odds.__doc__, odds.COLUMNS, "odds.py --splits clean"),
    "odds-contaminated": Section(odds.__doc__, odds.COLUMNS, "odds.py --splits contaminated"),
    "adbench-clean": Section(adbench.__doc__, odds.COLUMNS, "adbench.py --splits clean"),
    "adbench-contaminated": Section(adbench.__doc__, odds.COLUMNS, "adbench.py --splits contaminated"),
    "ablation": Section(ablation.__doc__, ablation.COLUMNS, "ablation.py"),
    "choices": Section(CHOICES, ablation.COLUMNS),
    "selection-contaminated": Section(SELECTION, SELECTED),
    "selection-clean": Section(SELECTION, SELECTED),
    "video": Section(video.__doc__, video.COLUMNS, "video.py"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Write a section for each file of results."""
    parser = argparse.ArgumentParser(prog="python benchmarks/document.py", description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", default="docs/results", metavar="DIR", help="folder of the rows (default: %(default)s)")
    parser.add_argument("--page", default="docs/benchmarks.md", metavar="FILE", help="file to write (default: %(default)s)")
    args = parser.parse_args(argv)
    Path(args.page).write_text(page(args.rows))
    print(f"{args.page} written")


def page(folder: str | Path) -> str:
    """Text of the page; files of results that the folder lacks are left out."""
    versions = store.read_versions(folder)
    sections = [TITLE]
    for name, about in SECTIONS.items():
        rows = store.read(folder, name)
        if rows:
            sections.append(section(name, about, rows, versions[name]))
    benches = {kind: store.read(folder, f"tables-{kind}") for kind in odds.SPLITS}
    if all(benches.values()):
        sections.append(bench_section(benches, versions["tables-clean"]))
    rows = store.read(folder, "speed")
    if rows:
        sections.append(speed_section(rows, versions["speed"]))
    return "\n".join(sections)


def section(name: str, about: Section, rows: Rows, versions: dict[str, Any]) -> str:
    """Section of a file of results: heading, description, command, tables, seeds and versions."""
    parts = [f"## {name}\n", str(about.text)]
    if about.command:
        parts.append(f"```console\npython benchmarks/{about.command} --data-home DIR\n```\n")
    value = next(iter(about.columns))
    sets = report.grouped(rows, "data")
    for data, group in sets.items() if len(sets) < _MANY_SETS else ():
        parts += [f"### {data}\n", pages.markdown(with_paper(data, report.summary(group, "detector", about.columns))), ""]
        if len(report.grouped(group, "task")) > 1:
            parts += [f"{value} by task:\n", pages.markdown(pages.pivot(group, "task", "detector", value)), ""]
    if len(sets) >= _MANY_SETS:
        means = report.data_means(rows, about.columns)
        parts += [pages.markdown(report.summary(means, "detector", about.columns)), ""]
        parts += [
            f"{value} by data set:\n",
            pages.markdown(pages.pivot(rows, "data", "detector", value)),
            "",
            wins(rows, value),
        ]
    parts += [about.published] if about.published else []
    return "\n".join([*parts, seeds(rows), "", made_with(versions), ""])


def bench_section(benches: dict[str, Rows], versions: dict[str, Any]) -> str:
    """Section of the bench for tables, by kind of split: for each group of tables the lines that the program prints."""
    parts = [f"## tables\n\n{tables.__doc__}\n```console\npython benchmarks/tables.py --data-home DIR\n```\n"]
    for kind, rows in benches.items():
        for title, lines in tables.group_tables(rows, kind).items():
            parts += [f"{title}:\n", pages.markdown(lines), ""]
    return "\n".join([*parts, seeds(next(iter(benches.values()))), "", made_with(versions), ""])


def speed_section(rows: Rows, versions: dict[str, Any]) -> str:
    """Section of ``benchmarks/speed.py``: heading, description, command, table, figure and versions."""
    figure = "![Seconds by the number of rows, both on logarithmic axes](images/growth.png)\n"
    return "\n".join([SPEED, pages.markdown(pages.figure_lines(rows)), "", figure, made_with(versions), ""])


def with_paper(data: str, lines: list[list[str]]) -> list[list[str]]:
    """Lines of a table with the paper's numbers as one more column, if the paper has the data set."""
    published = next((numbers for name, numbers in PAPER.items() if data.startswith(name)), None)
    if published is None:
        return lines
    column = ["paper", *[format(published[line[0]], ".4f") if line[0] in published else "" for line in lines[1:]]]
    return [[*line, cell] for line, cell in zip(lines, column, strict=True)]


def wins(rows: Rows, value: str) -> str:
    """Sentence that counts the data sets where MemAE beats PyOD's deep detectors; empty if no set has all of them."""
    names = (OURS, *DEEP)
    groups = [report.grouped(group, "detector") for group in report.grouped(rows, "data").values()]
    means = [
        {name: np.mean([row[value] for row in by_name[name]]) for name in names}
        for by_name in groups
        if all(name in by_name for name in names)
    ]
    if not means:
        return ""
    counts = ", ".join(f"{name} on {sum(mean[OURS] > mean[name] for mean in means)}" for name in DEEP)
    above_all = sum(mean[OURS] > max(mean[name] for name in DEEP) for mean in means)
    return f"Of {len(means)} sets, MemAE is above {counts}, and above all of them on {above_all}."


def seeds(rows: Rows) -> str:
    """Sentence on the number of seeds of each detector."""
    counts = [
        {"n": len(report.grouped(group, "seed")), "name": name} for name, group in report.grouped(rows, "detector").items()
    ]
    by_count = report.grouped(counts, "n").items()
    return "Seeds: " + "; ".join(f"{n} for {', '.join(row['name'] for row in group)}" for n, group in by_count) + "."


def made_with(versions: dict[str, Any]) -> str:
    """Line with the versions that the rows were measured with; several if a run was resumed with others."""
    return "; ".join(", ".join(f"{name} {value}" for name, value in today.items()) for today in versions["made_with"]) + "."


if __name__ == "__main__":
    main()
