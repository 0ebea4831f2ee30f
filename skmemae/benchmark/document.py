"""Write the page of results from stored rows, with the paper's numbers beside them."""

import json
from pathlib import Path

import numpy as np

from skmemae.benchmark import ablation, cells, choices, kddcup99, odds, one_class, report, video
from skmemae.benchmark.detectors import DEEP, OURS

# Tables 1 to 3 of the paper, with the names that the rows have. The paper's AE and MemAE are other networks than ours.
PAPER = {
    "MNIST": {"OC-SVM": 0.9499, "KDE": 0.8116, "VAE": 0.9632, "no memory": 0.9619, "MemAE": 0.9751},
    "CIFAR-10": {"OC-SVM": 0.5619, "KDE": 0.5756, "VAE": 0.5725, "no memory": 0.5706, "MemAE": 0.6088},
    "KDDCUP99": {"OC-SVM": 0.7954, "no memory": 0.9342, "MemAE": 0.9641},
    "UCSD Ped2": {"no memory": 0.9170, "MemAE": 0.9410},
}
TITLE = """# Results

Made by `python -m skmemae.benchmark document` from the rows in `docs/results`, one line of JSON for each data set, task, seed
and detector, with its parameters, seconds and versions. Detectors run at their defaults, or as their section says, on the same
splits; no label reaches a fit. "no memory" is MemAE with `memory_size=0`, "MemAE, paper's preset" has the layers and settings
that the paper prints. The column "paper" holds the paper's own numbers.
What was tried, and on which part of the data the defaults were chosen, is told in [what makes the memory work](what_works.md).
"""
SPEED = """## speed

Speed and memory: ``fit`` beside a bare loop and PyOD, long data, growth with rows, addressing, several processes.

Each figure runs in a process of its own with the number of threads that its line says. Seconds are medians of repeats taken in
turns, and a ratio is of medians of one run. Goals are what the figure is meant to reach, met or not.

```console
python benchmarks/speed.py
```
"""
_MANY_SETS = 10  # one table for all of them, instead of one for each
SECTIONS = {
    "one-class": (one_class, "one-class --data-home DIR"),
    "kddcup99": (kddcup99, "kddcup99 --data-home DIR"),
    "odds-clean": (odds, "odds --splits clean --data-home DIR"),
    "odds-contaminated": (odds, "odds --splits contaminated --data-home DIR"),
    "ablation": (ablation, "ablation --data-home DIR"),
    "choices": (choices, "choices --data-home DIR"),
    "video": (video, "video --data-home DIR"),
}


def add_arguments(parser):
    """Options of the page."""
    parser.add_argument("--rows", default="docs/results", metavar="DIR", help="where the rows are (default: %(default)s)")
    parser.add_argument("--page", default="docs/benchmarks.md", metavar="FILE", help="what to write (default: %(default)s)")


def run(args):
    """Write a section for each protocol that has rows."""
    sections = [TITLE]
    for name, (protocol, command) in SECTIONS.items():
        rows = cells.read(Path(args.rows) / f"{name}.jsonl")
        if rows:
            sections.append(section(name, protocol, command, rows))
    stored = Path(args.rows) / "speed.json"
    if stored.exists():
        sections.append(speed_section(json.loads(stored.read_text())))
    Path(args.page).write_text("\n".join(sections))
    print(f"{args.page} written")


def section(name, protocol, command, rows):
    """Heading, what the protocol is, the command, and its tables."""
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
        parts += [wins(rows, value), ""]
    return "\n".join([*parts, made_with(rows), ""])


def speed_section(stored):
    """What ``benchmarks/speed.py`` stored: heading, what it measures, the command, its table and its picture."""
    made = ", ".join(f"{what} {number}" for what, number in stored["made_with"].items())
    table = report.markdown(report.figure_lines(stored["rows"]))
    picture = "![Seconds by the number of rows, both on logarithmic axes](images/growth.png)\n"
    return "\n".join([SPEED, table, "", picture, made, ""])


def with_paper(data, lines):
    """The lines of a table with the paper's numbers as one more column, where it has some."""
    known = next((numbers for name, numbers in PAPER.items() if data.startswith(name)), None)
    if known is None:
        return lines
    column = ["paper", *[format(known[line[0]], ".4f") if line[0] in known else "" for line in lines[1:]]]
    return [[*line, cell] for line, cell in zip(lines, column, strict=True)]


def wins(rows, value):
    """On how many data sets MemAE is above each of PyOD's deep detectors; nothing where they have not all run."""
    names = (OURS, *DEEP)
    cells_of = {data: report.grouped(group, "detector") for data, group in report.grouped(rows, "data").items()}
    means = [
        {who: np.mean([row[value] for row in by_name[who]]) for who in names}
        for by_name in cells_of.values()
        if all(who in by_name for who in names)
    ]
    if not means:
        return ""
    counts = ", ".join(f"{who} on {sum(mean[OURS] > mean[who] for mean in means)}" for who in DEEP)
    above_all = sum(mean[OURS] > max(mean[who] for who in DEEP) for mean in means)
    return f"Of {len(means)} sets, MemAE is above {counts}, and above all of them on {above_all}."


def made_with(rows):
    """Seeds, threads and versions of the rows."""
    seeds = {who: len(report.grouped(group, "seed")) for who, group in report.grouped(rows, "detector").items()}
    by_count = report.grouped([{"n": n, "who": who} for who, n in seeds.items()], "n")
    told = "; ".join(f"{n} for {', '.join(row['who'] for row in group)}" for n, group in by_count.items())
    versions = ", ".join(f"{package} {number}" for package, number in rows[-1]["versions"].items())
    return f"Seeds: {told}. Threads: {rows[-1]['threads']}. {versions}."
