"""Write the page of results from stored rows, beside the paper's numbers."""

import json
from pathlib import Path

import numpy as np

from skmemae.benchmark import ablation, cells, choices, kddcup99, odds, one_class, report, selection, tables, video
from skmemae.benchmark.detectors import DEEP, OURS

# Tables 1 to 3 of the paper, under the detector names of the rows. The networks of the paper's AE and MemAE differ from ours.
PAPER = {
    "MNIST": {"OC-SVM": 0.9499, "KDE": 0.8116, "VAE": 0.9632, "no memory": 0.9619, "MemAE": 0.9751},
    "CIFAR-10": {"OC-SVM": 0.5619, "KDE": 0.5756, "VAE": 0.5725, "no memory": 0.5706, "MemAE": 0.6088},
    "KDDCUP99": {"OC-SVM": 0.7954, "no memory": 0.9342, "MemAE": 0.9641},
    "UCSD Ped2": {"no memory": 0.9170, "MemAE": 0.9410},
}
TITLE = """# Results

Written by `python -m skmemae.benchmark document` from the rows in `docs/results`, one line of JSON for each data set, task,
seed and detector, with parameters, seconds and versions. Detectors run on the same splits at their defaults, or as their
section says, and are fitted without labels. "no memory" is MemAE with `memory_size=0`; "MemAE, paper's preset" has the layers
and settings of the paper. The column "paper" holds the paper's numbers.
[What makes the memory work](what_works.md) describes the experiments behind the defaults and the data they were chosen on.
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
SECTIONS = {
    "one-class": (one_class, "one-class --data-home DIR"),
    "kddcup99": (kddcup99, "kddcup99 --data-home DIR"),
    "odds-clean": (odds, "odds --splits clean --data-home DIR"),
    "odds-contaminated": (odds, "odds --splits contaminated --data-home DIR"),
    "tables-clean": (tables, "tables --splits clean --data-home DIR"),
    "tables-contaminated": (tables, "tables --splits contaminated --data-home DIR"),
    "ablation": (ablation, "ablation --data-home DIR"),
    "choices": (choices, "choices --data-home DIR"),
    "selection-contaminated": (selection, "selection --splits contaminated --data-home DIR"),
    "selection-clean": (selection, "selection --splits clean --data-home DIR"),
    "video": (video, "video --data-home DIR"),
}


def add_arguments(parser):
    """Add the options of the page."""
    parser.add_argument("--rows", default="docs/results", metavar="DIR", help="folder of the rows (default: %(default)s)")
    parser.add_argument("--page", default="docs/benchmarks.md", metavar="FILE", help="file to write (default: %(default)s)")


def run(args):
    """Write a section for each protocol that has rows."""
    sections = [TITLE]
    for name, (protocol, command) in SECTIONS.items():
        rows = cells.read(Path(args.rows) / f"{name}.jsonl")
        if rows:
            rows = selection.digest(rows) if protocol is selection else rows
            sections.append(section(name, protocol, command, rows))
    stored = Path(args.rows) / "speed.json"
    if stored.exists():
        sections.append(speed_section(json.loads(stored.read_text())))
    Path(args.page).write_text("\n".join(sections))
    print(f"{args.page} written")


def section(name, protocol, command, rows):
    """Section of a protocol: heading, description, command and tables."""
    parts = [f"## {name}\n", protocol.__doc__, f"```console\npython -m skmemae.benchmark {command}\n```\n"]
    value = next(iter(protocol.COLUMNS))
    sets = report.grouped(rows, "data")
    for data, group in sets.items() if len(sets) < _MANY_SETS else ():
        parts += [f"### {data}\n", report.markdown(with_paper(data, report.summary(group, "detector", protocol.COLUMNS))), ""]
        if len(report.grouped(group, "task")) > 1:
            parts += [f"{value} by task:\n", report.markdown(report.pivot(group, "task", "detector", value)), ""]
    if len(sets) >= _MANY_SETS:
        means = report.data_means(rows, protocol.COLUMNS)
        parts += [report.markdown(report.summary(means, "detector", protocol.COLUMNS)), ""]
        parts += [f"{value} by data set:\n", report.markdown(report.pivot(rows, "data", "detector", value)), ""]
        parts += [selection.sentence(rows) if protocol is selection else wins(rows, value), ""]
    return "\n".join([*parts, made_with(rows), ""])


def speed_section(stored):
    """Section of ``benchmarks/speed.py``: heading, description, command, table, figure and versions."""
    versions = ", ".join(f"{package} {version}" for package, version in stored["made_with"].items())
    table = report.markdown(report.figure_lines(stored["rows"]))
    figure = "![Seconds by the number of rows, both on logarithmic axes](images/growth.png)\n"
    return "\n".join([SPEED, table, "", figure, versions, ""])


def with_paper(data, lines):
    """Lines of a table with the paper's numbers as one more column, if the paper has the data set."""
    published = next((numbers for name, numbers in PAPER.items() if data.startswith(name)), None)
    if published is None:
        return lines
    column = ["paper", *[format(published[line[0]], ".4f") if line[0] in published else "" for line in lines[1:]]]
    return [[*line, cell] for line, cell in zip(lines, column, strict=True)]


def wins(rows, value):
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


def made_with(rows):
    """Sentence on the seeds, threads and versions of the rows."""
    counts = {name: len(report.grouped(group, "seed")) for name, group in report.grouped(rows, "detector").items()}
    by_count = report.grouped([{"n": n, "name": name} for name, n in counts.items()], "n")
    seeds = "; ".join(f"{n} for {', '.join(row['name'] for row in group)}" for n, group in by_count.items())
    versions = ", ".join(f"{package} {number}" for package, number in rows[-1]["versions"].items())
    return f"Seeds: {seeds}. Threads: {rows[-1]['threads']}. {versions}."
