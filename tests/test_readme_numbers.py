"""Every number of the README's results is the one that is stored in ``docs/results``."""

import re
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

import document
from skmemae.benchmark import report, store

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "docs" / "results"
STORED = {
    "MNIST, mean ROC AUC over ten classes": ("one-class", "MNIST", "roc_auc"),
    "CIFAR-10 (30,000 images), the same": ("one-class", "CIFAR-10 (30k subset)", "roc_auc"),
    "ODDS, 17 tables, clean training, mean ROC AUC": ("odds-clean", "", "roc_auc"),
    "ODDS, contaminated training": ("odds-contaminated", "", "roc_auc"),
    "ADBench, 13 other tables, clean training": ("adbench-clean", "", "roc_auc"),
    "ADBench, contaminated training": ("adbench-contaminated", "", "roc_auc"),
    "KDDCUP99, F1 at the top fifth": ("kddcup99", "KDDCUP99", "f1"),
    "UCSD Ped2 at half resolution, ROC AUC of frames": ("video", "UCSD Ped2 (half resolution)", "micro"),
    "190 tables, clean, MemAE at 0.1": ("tables-clean", "", "roc_auc"),
    "190 tables, contaminated, MemAE at 0.1": ("tables-contaminated", "", "roc_auc"),
    "Magnetic tiles, cracks, ROC AUC of images": ("magnetic-tiles", "Crack", "roc_auc"),
    "Magnetic tiles, frayed edges": ("magnetic-tiles", "Fray", "roc_auc"),
}
SPEED = {
    "fit 1,000 x 10": "fit 1,000 x 10, defaults",
    "fit and score 50,000 x 30": "fit and score 50,000 x 30, defaults",
    "fit 60 x 6,000": "fit 60 x 6,000",
    "score 20,000 x 30 after a fit of 8,000": "score 20,000 x 30 against 8,000 rows",
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
    of_tiles = {"no memory": "no memory, patches"} if protocol == "magnetic-tiles" else {}
    return {"PyOD AutoEncoder": "AutoEncoder", **of_frames, **of_tiles}.get(name, name)


def stored(protocol, data, value, name):
    """Mean over the data sets of the means of a detector; NaN without rows."""
    rows = [row for row in store.read(RESULTS, protocol) if row["detector"] == name and data in ("", row["data"])]
    sets = report.grouped(rows, "data").values()
    return np.mean([np.mean([row[value] for row in group]) for group in sets]) if rows else np.nan


def test_the_overview_is_the_stored_one():
    (*sets, mean), lines = OVERVIEW
    assert mean == "mean" and len(lines) == 8
    for name, printed in lines.items():
        means = [stored("overview", data, "roc_auc", detector(name)) for data in sets]
        assert printed == [format(x, ".3f") for x in [*means, np.mean(means)]], name


@pytest.mark.parametrize("line", PUBLISHED[1])
def test_published_protocols_are_the_stored_ones(line):
    titles, lines = PUBLISHED
    protocol, data, value = STORED[line]
    for title, printed in zip(titles, lines[line], strict=True):
        if title == "the paper's MemAE":
            expected = next((paper["MemAE"] for name, paper in document.PAPER.items() if data.startswith(name)), np.nan)
        else:
            expected = stored(protocol, data, value, detector(title, protocol))
        assert printed == ("" if np.isnan(expected) else format(expected, ".3f")), title


def test_numbers_between_the_tables_are_the_stored_ones():
    text = README[README.index("At the default, 0.1, it has") : README.index('"KNN, contrast" sees')]
    printed = [float(number) for number in re.findall(r"0\.\d{3}", text)]
    of_tables = [key for key in STORED.values() if key[0].startswith(("odds", "adbench"))]
    shares = [*of_tables, STORED["KDDCUP99, F1 at the top fifth"]]
    expected = [stored(*key, "MemAE, share 0.1") for key in shares]
    expected += [stored(*key, name) for name in ("KCM", "draws of 32") for key in of_tables]
    np.testing.assert_allclose(printed, expected, atol=5.01e-4)


@pytest.mark.parametrize("line", TIMES[1])
def test_seconds_are_the_stored_ones(line):
    rows = {row["what"]: row for row in store.read(RESULTS, "speed") if row["threads"] == 1}
    for name, printed in zip(TIMES[0], TIMES[1][line], strict=True):
        names = {"AutoEncoder": ("PyOD AutoEncoder", "PyOD's")}.get(name, (name,))
        found = [rows[f"{SPEED[line]}: {known}"]["seconds"] for known in names if f"{SPEED[line]}: {known}" in rows]
        assert printed == (format(found[0], f".{len(printed.partition('.')[2])}f") if found else ""), name


def test_the_page_of_results_is_what_the_rows_give():
    assert document.page(RESULTS) == (ROOT / "docs" / "benchmarks.md").read_text()


def guide(page):
    return " ".join((ROOT / "docs" / "guide" / page).read_text().split())


def test_the_guide_says_how_long_a_call_takes():
    row, rows, image = ((r["onnxruntime"], r["decision_function"]) for r in store.read(RESULTS, "latency"))
    assert (
        f"takes {row[0]:.1f} ms for a row of 30 columns, where ``decision_function`` takes {row[1]:.1f} ms, {rows[0]:.1f} ms "
        f"instead of {rows[1]:.1f} ms for 100 rows, and {image[0]:.2f} ms instead of {image[1]:.1f} ms for a 28 × 28 image"
    ) in guide("onnx.rst")


def test_the_guide_says_how_fast_frames_are():
    means = {
        name: {key: np.mean([row[key] for row in rows]) for key in ("frames_per_second", "live", "memory_seconds")}
        for name, rows in report.grouped(store.read(RESULTS, "frames"), "what").items()
    }
    small, paper = means.values()
    assert (
        f"on one core {small['frames_per_second']:.0f} by the small preset from frames of 120 x 180 pixels, "
        f"{small['live']:.0f} of them live, and {paper['frames_per_second']:.1f} by the paper's from 256 x 256; addressing "
        f"takes {1e3 * small['memory_seconds']:.0f} and {1e3 * paper['memory_seconds']:.0f} milliseconds of that"
    ) in guide("video.rst")
    (video,) = store.read(RESULTS, "streaming")
    text = f"a video of {video['video_gib']:.0f} GiB with {video['peak_gib']:.2f} GiB of memory at most"
    assert text.replace(" 0.", " .") in guide("video.rst")


def test_the_guide_says_how_far_it_goes():
    text, held = guide("large_data.md"), [row["resident_mib"] for row in store.read(RESULTS, "long-runs")]
    assert f"held {held[2]:.0f} MiB after 300 fits and {held[-1]:.0f} at the end, in one thread with six open files" in text
    assert {(row["threads"], row["open_files"]) for row in store.read(RESULTS, "long-runs")} == {(1, 6)}
    ranks = [row for row in store.read(RESULTS, "speed") if row["figure"] == "ranks"]
    epochs, fit = (row["value"] for row in ranks if "two processes" in row["what"])
    assert (
        f"run an epoch {epochs:.2f} times as fast as one, and a fit of three epochs with its statistics {fit:.2f} times" in text
    )


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("the default", "default"),
        ("largest :func:`~skmemae.metrics.separation`", "separation"),
        ("largest excess mass", "excess mass"),
        ("smallest error of held-out rows", "held-out error"),
        ("any (the mean of all settings)", "any"),
        ("best (needs labels)", "best"),
    ],
)
def test_the_guide_says_what_choosing_without_labels_brings(line, name):
    found = []
    for kind in ("contaminated", "clean"):
        rows = [row for row in store.read(RESULTS, f"selection-{kind}") if row["detector"] == name]
        found.append(np.mean(report.seed_means(rows, "roc_auc")))
    page = (ROOT / "docs" / "guide" / "choosing.rst").read_text()
    (printed,) = (text.removeprefix(line).split() for text in page.splitlines() if text.startswith(line))
    assert printed == [format(value, ".3f") for value in found]
