"""What the README says of each protocol is what the code of today gives, on one split.

Overview: data of scikit-learn. The others run with ``pytest -m slow tests/test_regression.py --data-home DIR``.
"""

import numpy as np
import pytest

import adbench
import kddcup99
import odds
import one_class
import video
from skmemae.benchmark import overview, report, store
from tests.test_readme_numbers import OVERVIEW, RESULTS, STORED

# The program, its arguments, and how far one split of rows with one stored seed may be away.
PROGRAMS = {
    "MNIST, mean ROC AUC over ten classes": (one_class, ["--data", "mnist", "--tasks", "class 2"], 0.01),
    "CIFAR-10 (30,000 images), the same": (one_class, ["--data", "cifar10", "--tasks", "class 0"], 0.02),
    "ODDS, 17 tables, clean training, mean ROC AUC": (odds, ["--splits", "clean"], None),
    "ODDS, contaminated training": (odds, ["--splits", "contaminated"], None),
    "ADBench, 13 other tables, clean training": (adbench, ["--splits", "clean"], None),
    "ADBench, contaminated training": (adbench, ["--splits", "contaminated"], None),
    "KDDCUP99, F1 at the top fifth": (kddcup99, [], None),
    "UCSD Ped2 at half resolution, ROC AUC of frames": (video, ["--data", "ped2"], None),
}


@pytest.mark.slow
@pytest.mark.parametrize("line", STORED)
def test_published_protocols(line, tmp_path, data_home):
    script, arguments, tolerance = PROGRAMS[line]
    name, _, value = STORED[line]
    script.main([*arguments, "--seeds", "1", "--detectors", "MemAE", "--data-home", data_home, "--out", str(tmp_path)])
    rows = store.read(tmp_path, name)
    assert rows
    before = store.read(RESULTS, name)
    for row in rows:
        stored = [r[value] for r in before if (r["data"], r["task"], r["detector"]) == (row["data"], row["task"], "MemAE")]
        bound = max(3 * np.std(stored, ddof=1), 1e-4) if len(stored) > 1 else tolerance
        assert row[value] == pytest.approx(np.mean(stored), abs=bound), (row["data"], row["task"])


@pytest.mark.slow
def test_overview(tmp_path):
    overview.main(["--seeds", "1", "--out", str(tmp_path)])
    for data in OVERVIEW[0][:-1]:
        now, before = (
            [row for row in store.read(folder, "overview") if (row["data"], row["detector"]) == (data, "MemAE")]
            for folder in (tmp_path, RESULTS)
        )
        (now,), before = (report.seed_means(rows, "roc_auc") for rows in (now, before))
        assert now == pytest.approx(np.mean(before), abs=3 * np.std(before, ddof=1)), data
