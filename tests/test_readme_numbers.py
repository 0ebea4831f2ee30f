"""Every number of the README's results is the one that is stored in ``docs/results``."""

import csv
import re
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from skmemae.benchmark import cells, report
from skmemae.benchmark.document import PAPER

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "docs" / "results"
STORED = {
    "MNIST, mean ROC AUC over ten classes": ("one-class", "MNIST", "roc_auc"),
    "CIFAR-10 (30,000 images), the same": ("one-class", "CIFAR-10 (30k subset)", "roc_auc"),
    "ODDS, 17 tables, clean training, mean ROC AUC": ("odds-clean", "", "roc_auc"),
    "ODDS, contaminated training": ("odds-contaminated", "", "roc_auc"),
    "ADBench, 13 other tables, clean training": ("tables-clean", "", "roc_auc"),
    "ADBench, contaminated training": ("tables-contaminated", "", "roc_auc"),
    "KDDCUP99, F1 at the top fifth": ("kddcup99", "KDDCUP99", "f1"),
    "UCSD Ped2 at half resolution, ROC AUC of frames": ("video", "UCSD Ped2 (half resolution)", "micro"),
}
SPEED = {
    "fit 1,000 x 10": ("fit 1,000 x 10, defaults: MemAE", "fit 1,000 x 10, defaults: PyOD's"),
    "fit and score 50,000 x 30": ("fit and score 50,000 x 30, defaults: MemAE", "fit and score 50,000 x 30, defaults: PyOD's"),
    "fit 20,000 x 30": ("MemAE: fits over PyOD's",),
    "score 20,000 x 30": ("MemAE: rows scored over PyOD's",),
    "learned items: fit 20,000 x 30": ("MemAE, learned items: fits over PyOD's",),
    "learned items: score 20,000 x 30": ("MemAE, learned items: rows scored over PyOD's",),
    "no memory: score 20,000 x 30": ("no memory: rows scored over PyOD's",),
}


def tables():
    """Tables of the README by their column titles: a dict of line title to cells."""
    found = {}
    for is_table, group in groupby(README.splitlines(), key=lambda line: line.startswith("|")):
        if is_table:
            titles, _, *lines = ([cell.strip(" *") for cell in line.strip("|").split("|")] for line in group)
            found[tuple(titles[1:])] = {line[0]: line[1:] for line in lines}
    return found


OVERVIEW, PUBLISHED, TIMES = tables().items()


def detector(name, protocol=""):
    of_frames = {"PCA": "differences, PCA", "KNN": "differences, KNN"} if protocol == "video" else {}
    return {"PyOD AutoEncoder": "AutoEncoder", **of_frames}.get(name, name)


def stored(protocol, data, value, name):
    """Mean over the data sets of the means of a detector; NaN without rows."""
    rows = {cells.row_key(row): row for row in cells.read(RESULTS / f"{protocol}.jsonl")}.values()
    rows = [row for row in rows if row["detector"] == name and data in ("", row["data"])]
    sets = report.grouped(rows, "data").values()
    return np.mean([np.mean([row[value] for row in group]) for group in sets]) if rows else np.nan


def test_the_overview_is_the_stored_one():
    with open(RESULTS / "overview.csv", newline="") as file:
        rows = [row | {"roc_auc": float(row["roc_auc"])} for row in csv.DictReader(file)]
    (*sets, mean), lines = OVERVIEW
    assert mean == "mean" and len(lines) == 8
    for name, printed in lines.items():
        mine = [row for row in rows if row["detector"] == detector(name)]
        means = [np.mean([row["roc_auc"] for row in mine if row["data"] == data]) for data in sets]
        assert printed == [format(x, ".3f") for x in [*means, np.mean(means)]], name


@pytest.mark.parametrize("line", PUBLISHED[1])
def test_published_protocols_are_the_stored_ones(line):
    titles, lines = PUBLISHED
    protocol, data, value = STORED[line]
    for title, printed in zip(titles, lines[line], strict=True):
        if title == "the paper's MemAE":
            expected = next((paper["MemAE"] for name, paper in PAPER.items() if data.startswith(name)), np.nan)
        else:
            expected = stored(protocol, data, value, detector(title, protocol))
        assert printed == ("" if np.isnan(expected) else format(expected, ".3f")), title


def test_numbers_between_the_tables_are_the_stored_ones():
    text = README[README.index("At the default, 0.1, it has") : README.index('"KNN, contrast" sees')]
    printed = [float(number) for number in re.findall(r"0\.\d{3}", text)]
    of_tables = [key for key in STORED.values() if key[1] == ""]
    shares = [*of_tables, STORED["KDDCUP99, F1 at the top fifth"]]
    expected = [stored(*key, "MemAE, share 0.1") for key in shares]
    expected += [stored(*key, name) for name in ("KCM", "draws of 32") for key in of_tables]
    np.testing.assert_allclose(printed, expected, atol=5.01e-4)


@pytest.mark.parametrize("line", TIMES[1])
def test_seconds_are_the_stored_ones(line):
    with open(RESULTS / "speed.csv", newline="") as file:
        rows = {row["what"]: row for row in csv.DictReader(file) if row["threads"] == "1"}
    ours, *theirs = SPEED[line]
    seconds = [rows[ours]["seconds"], rows[theirs[0]]["seconds"] if theirs else rows[ours]["reference_seconds"]]
    for printed, expected in zip(TIMES[1][line], seconds, strict=True):
        decimals = len(printed.partition(".")[2])
        assert printed == format(float(expected), f".{decimals}f")
