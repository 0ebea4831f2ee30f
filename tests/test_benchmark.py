"""The benchmark commands, at a small size."""

import csv
import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skmemae import MemAEDetector
from skmemae.benchmark import cells, overview, report
from skmemae.benchmark.__main__ import main
from skmemae.benchmark.detectors import OURS, PCAError
from skmemae.benchmark.overview import make_detectors
from skmemae.datasets import one_class_split


def test_the_overview_prints_ranks_and_writes(tmp_path, capsys, monkeypatch):
    digits = load_digits()
    monkeypatch.setattr(overview, "tasks", lambda: [("digits", digits.images, digits.target, 2)])
    few_epochs = {name: det for name, det in make_detectors(0).items() if name in (OURS, "KDE")}
    few_epochs[OURS].set_params(max_epochs=10)
    monkeypatch.setattr(overview, "make_detectors", lambda seed: few_epochs)
    main(["--seeds", "1", "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert "roc_auc" in out and "KDE" in out and "overview.png" in out
    rows = json.loads((tmp_path / "overview.json").read_text())
    assert {row["detector"] for row in rows["rows"]} == {OURS, "KDE"} and "torch" in rows["made_with"]
    assert all(0.9 < row["roc_auc"] <= 1 for row in rows["rows"])
    with open(tmp_path / "overview.csv") as file:
        assert len(list(csv.DictReader(file))) == 2
    assert (tmp_path / "overview.png").stat().st_size > 10_000


def test_speed_prints_ratios_and_leaves_the_threads_alone(tmp_path, capsys):
    import torch

    threads = torch.get_num_threads()
    main(["speed", "--rows", "300", "--columns", "4", "--epochs", "1", "--repeats", "1", "--out", str(tmp_path)])
    assert "times as fast" in capsys.readouterr().out and torch.get_num_threads() == threads
    assert len(json.loads((tmp_path / "speed.json").read_text())["rows"]) == 4


@pytest.mark.parametrize("name", list(make_detectors(0)))
def test_every_detector_of_the_tables_runs(name):
    digits = load_digits()
    split = one_class_split(digits.images, digits.target, 0, random_state=0)
    detector = make_detectors(0)[name]
    if isinstance(detector, MemAEDetector):
        detector.set_params(max_epochs=10)
    row, scores = cells.evaluate(detector, split)
    assert row["roc_auc"] > 0.9 and len(scores) == len(split.y_test)


def test_pca_error_is_zero_in_the_plane_it_has_seen():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 5))
    pca = PCAError().fit(np.vstack([X, 100 * X]))
    inside, outside = pca.decision_function(np.vstack([X[:1], X[:1] + rng.normal(size=5)]))
    assert outside > inside


def test_a_table_has_means_and_deviations_over_seeds():
    rows = [{"who": who, "seed": seed, "x": 1.0 * seed + (who == "b")} for who in "ab" for seed in (0, 2)]
    text = report.table(rows, "who", {"x": "±.1f"})
    assert text.splitlines()[1].split() == ["a", "1.0", "±", "1.0"]
    assert text.splitlines()[2].split() == ["b", "2.0", "±", "1.0"]


def test_a_set_of_ten_tasks_weighs_as_much_as_a_set_of_one():
    cell = {"detector": OURS, "seed": 0, **dict.fromkeys(overview.COLUMNS, 0.0)}
    rows = [{**cell, "data": "many", "roc_auc": 0.5}] * 10 + [{**cell, "data": "one", "roc_auc": 1.0}]
    assert [row["roc_auc"] for row in report.data_means(rows, overview.COLUMNS)] == [0.5, 1.0]
