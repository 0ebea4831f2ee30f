"""What the README says of each protocol is what the code of today gives, on one split.

Overview: data of scikit-learn. The others run with ``pytest -m slow tests/test_regression.py --data-home DIR``.
"""

import csv
import json

import numpy as np
import pytest

from skmemae.benchmark import cells
from skmemae.benchmark.__main__ import main
from tests.test_readme_numbers import OVERVIEW, RESULTS, STORED

# The command's arguments, and how far one split of rows with one stored seed may be away.
COMMANDS = {
    "MNIST, mean ROC AUC over ten classes": (["one-class", "--data", "mnist", "--classes", "2"], 0.01),
    "CIFAR-10 (30,000 images), the same": (["one-class", "--data", "cifar10", "--classes", "0"], 0.02),
    "ODDS, 17 tables, clean training, mean ROC AUC": (["odds", "--splits", "clean"], None),
    "ODDS, contaminated training": (["odds", "--splits", "contaminated"], None),
    "ADBench, 13 other tables, clean training": (["tables", "--splits", "clean"], None),
    "ADBench, contaminated training": (["tables", "--splits", "contaminated"], None),
    "KDDCUP99, F1 at the top fifth": (["kddcup99"], None),
    "UCSD Ped2 at half resolution, ROC AUC of frames": (["video", "--data", "ped2"], None),
}


def test_every_row_of_the_readme_is_guarded():
    assert list(COMMANDS) == list(STORED)


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_published_protocols(line, tmp_path, data_home):
    arguments, tolerance = COMMANDS[line]
    protocol, _, value = STORED[line]
    main([*arguments, "--seeds", "1", "--detectors", "MemAE", "--data-home", data_home, "--out", str(tmp_path)])
    rows = cells.read(tmp_path / f"{protocol}.jsonl")
    assert rows
    before = cells.read(RESULTS / f"{protocol}.jsonl")
    for row in rows:
        stored = [r[value] for r in before if (r["data"], r["task"], r["detector"]) == (row["data"], row["task"], "MemAE")]
        bound = max(3 * np.std(stored, ddof=1), 1e-4) if len(stored) > 1 else tolerance
        assert row[value] == pytest.approx(np.mean(stored), abs=bound), (row["data"], row["task"])


@pytest.mark.slow
def test_overview(tmp_path):
    main(["overview", "--seeds", "1", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "overview.json").read_text())
    with open(RESULTS / "overview.csv", newline="") as file:
        before = list(csv.DictReader(file))
    for data in OVERVIEW[0][:-1]:
        of_seeds = {}
        for row in before:
            if (row["data"], row["detector"]) == (data, "MemAE"):
                of_seeds.setdefault(row["seed"], []).append(float(row["roc_auc"]))
        stored = [np.mean(values) for values in of_seeds.values()]
        now = np.mean([row["roc_auc"] for row in rows["rows"] if (row["data"], row["detector"]) == (data, "MemAE")])
        assert now == pytest.approx(np.mean(stored), abs=3 * np.std(stored, ddof=1)), data
