"""The bench of tables: halves, splits, settings, and the numbers that it prints."""

import numpy as np
import pytest

import tables
from skmemae.benchmark import store


@pytest.fixture
def home(tmp_path, rng):
    """A folder with two tables, of which some rows are far away."""
    (tmp_path / "oddbench").mkdir()
    for name in tables.ODDBENCH[:3:2]:
        train, test = rng.normal(size=(60, 4)), rng.normal(size=(40, 4))
        test[:15] += 4
        labels = (np.arange(40) < 15).astype(int)
        np.savez(tmp_path / "oddbench" / f"{name}.npz", train=train, test=test, test_labels=labels)
    return tmp_path


def test_the_halves_of_oddbench_are_apart_and_whole():
    names = tables.names_of(tables.GROUPS)
    assert sorted(names["choosing"] + names["reporting"]) == list(tables.ODDBENCH) == sorted(set(tables.ODDBENCH))
    assert [len(names[group]) for group in tables.GROUPS] == [80, 80, 17, 13]


def test_splits_hold_what_they_say(home):
    table = tables.load("choosing", tables.ODDBENCH[0], home)
    clean, contaminated = (tables.split_rows(kind, table, seed=0) for kind in ("clean", "contaminated"))
    assert clean.X_train.shape == (60, 4) and sorted(map(tuple, clean.X_train)) == sorted(map(tuple, table.train))
    assert clean.y_test.sum() == 15 and (clean.X_test[clean.y_test == 1].mean(axis=1) > 2).all()
    assert len(contaminated.X_train) == 60 and len(contaminated.X_test) == 40
    assert (contaminated.X_train.mean(axis=1) > 2).sum() + contaminated.y_test.sum() == 15
    assert tables.split_rows("clean", table, seed=1).X_train[0].tolist() != clean.X_train[0].tolist()


@pytest.mark.parametrize("jobs", [1, 2])
def test_settings_are_compared_with_the_default_and_with_stored_rows(home, capsys, jobs):
    shown = ["--data-home", str(home), "--data", *tables.ODDBENCH[:3:2], "--groups", "choosing", "--seeds", "1"]
    shown += ["--splits", "contaminated", "--beside", str(home / "stored")]
    tables.main([*shown, "--out", str(home / "stored"), "--detectors", "KNN"])
    setting = ["--setting", "quick", "max_epochs=2", "memory_unit=sample", "contamination=told"]
    out = str(home / "out")
    tables.main([*shown, "--out", out, "--detectors", tables.OURS, "quick", *setting, "--jobs", str(jobs)])
    title, head, *lines = capsys.readouterr().out.strip().split("\n\n")[-1].splitlines()
    assert title == "contaminated, choosing, 2 tables" and head.split()[:3] == ["detector", "ROC", "AUC"]
    assert [line.split()[0] for line in lines] == ["MemAE", "quick", "KNN"]
    made = store.read_versions(out)["tables-contaminated"]["detectors"]["quick"]
    assert "max_epochs=2" in made and "memory_unit='sample'" in made and "contamination=0.15" in made


def test_differences_and_ranks_are_those_of_the_tables():
    numbers = {"flagged_normal": 0.1, "fit_seconds": 1.0, "score_seconds": 0.1}
    values = {"a": {"MemAE": [0.5, 0.7], "KNN": [0.8, 0.8]}, "b": {"MemAE": [0.9, 0.9], "KNN": [0.8, 0.8]}}
    rows = [
        {"data": data, "task": "", "seed": seed, "detector": name, "roc_auc": value, **numbers}
        for data, by_name in values.items()
        for name, by_seed in by_name.items()
        for seed, value in enumerate(by_seed)
    ]
    _, ours, other = tables.lines(rows)
    assert ours[:4] == ["MemAE", "0.7500", "", "1.50"]
    assert other[:4] == ["KNN", "0.8000", "+0.0500 ± 0.1500", "1.50"]
