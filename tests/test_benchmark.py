"""The benchmark commands, at a small size."""

import ast
import csv
import hashlib
import json
from argparse import Namespace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from skmemae import MemAEDetector, datasets
from skmemae.benchmark import ablation, cells, document, kddcup99, one_class, overview, report, selection
from skmemae.benchmark import video as video_protocol
from skmemae.benchmark.__main__ import main
from skmemae.benchmark.detectors import OURS, PCAError, make_baselines, make_ours
from skmemae.benchmark.overview import make_detectors
from skmemae.datasets import one_class_split
from skmemae.video import ClipWindows


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


def test_options_reach_the_protocol(monkeypatch):
    seen = []
    monkeypatch.setattr(one_class, "run", seen.append)
    monkeypatch.setattr(overview, "run", seen.append)
    main(["one-class", "--seeds", "7", "--out", "o"])
    main(["--seeds", "7", "--out", "o", "one-class"])
    main(["--seeds", "5", "--out", "video"])
    main(["overview", "--seeds", "4"])
    main([])
    found = [(args.protocol, args.seeds, args.out) for args in seen]
    out = "benchmark-results"
    assert found == [*[("one-class", 7, "o")] * 2, (None, 5, "video"), ("overview", 4, out), (None, 1, out)]


def test_the_commands_stand_on_what_users_may_call():
    for path in Path(report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("skmemae"):
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                assert not [name for name in names if name.startswith("_")], path


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


SPLIT = one_class_split(*load_digits(return_X_y=True), 0, random_state=0)


def planned(names, seeds=(0,)):
    makers = {**make_ours(0), **make_baselines(0)}
    return [cells.Cell("digits", "", seed, name, makers[name], lambda: SPLIT) for seed in seeds for name in names]


def test_finished_cells_are_not_run_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    runs = []

    def measure(detector, split):
        runs.append(detector)
        return {"roc_auc": 0.5}

    first = cells.run(planned(["KDE", "PCA"]), path, measure)
    again = cells.run(planned(["KDE", "PCA", "KNN"], seeds=(0, 1)), path, measure)
    assert len(first) == 2 and len(again) == 6 and len(runs) == 6
    assert again[:2] == first and [row["seed"] for row in again] == [0, 0, 0, 1, 1, 1]
    assert {"data", "task", "parameters", "threads", "versions"} <= set(first[0])
    assert "torch" in first[0]["versions"] and len(cells.read(path)) == 6


def test_an_interrupted_run_keeps_what_it_finished_and_other_parameters_are_other_cells(tmp_path):
    path = tmp_path / "rows.jsonl"
    runs = []

    def measure(detector, split):
        if len(runs) == 1:
            raise KeyboardInterrupt
        runs.append(detector)
        return {"roc_auc": 0.5}

    with pytest.raises(KeyboardInterrupt):
        cells.run(planned(["KDE", "PCA"]), path, measure)
    assert [row["detector"] for row in cells.read(path)] == ["KDE"]
    changed = planned(["KDE"])[0]._replace(make=lambda: MemAEDetector(tol=0.5))
    runs.clear()
    cells.run([changed], path, measure)
    assert len(runs) == 1 and cells.read(path)[-1]["parameters"] == "MemAEDetector(tol=0.5)"


def test_ranking_numbers_of_a_known_order():
    found = cells.ranking(np.array([0, 1, 0, 1]), np.array([0.1, 0.9, 0.8, 0.2]))
    assert found == {"roc_auc": 0.75, "precision_at_n": 0.5, "average_precision": pytest.approx(5 / 6)}


@pytest.mark.parametrize("name", list(make_baselines(0)))
def test_every_baseline_of_the_protocols_runs(name):
    numbers, scores = cells.evaluate(make_baselines(0)[name](), SPLIT)
    assert numbers["roc_auc"] > 0.9 and np.isfinite(scores).all()


def odds_folder(tmp_path, monkeypatch):
    """Two small tables in the place of the library's, with their checksums."""
    rng = np.random.default_rng(0)
    known = {}
    for name in ("first", "second"):
        X, y = rng.normal(size=(120, 4)), np.repeat([1, 0], [20, 100])
        X[:20] += 4
        scipy.io.savemat(tmp_path / f"{name}.mat", {"X": X, "y": y[:, None]})
        known[name] = hashlib.sha256((tmp_path / f"{name}.mat").read_bytes()).hexdigest()
    for module in (datasets, datasets.published):
        monkeypatch.setattr(module, "ODDS", known)
    return tmp_path


def test_a_protocol_fills_its_table_and_the_page_shows_it(tmp_path, monkeypatch, capsys):
    home = odds_folder(tmp_path, monkeypatch)
    out = tmp_path / "out"
    names = ["MemAE", "no memory", "KDE", "PCA"]
    main(["odds", "--data-home", str(home), "--seeds", "2", "--out", str(out), "--detectors", *names])
    printed = capsys.readouterr().out
    assert "first" in printed and "precision_at_n" in printed and (out / "odds-clean.png").stat().st_size > 5_000
    rows = cells.read(out / "odds-clean.jsonl")
    assert len(rows) == 2 * 2 * len(names) and all(row["roc_auc"] > 0.9 for row in rows if row["detector"] == OURS)
    main(["document", "--rows", str(out), "--page", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    assert "## odds-clean" in page and "## odds-contaminated" in page and "## one-class" not in page
    assert "Seeds: 2 for MemAE" in page


def test_the_page_shows_the_figures_of_speed(tmp_path):
    row = {
        "figure": "import",
        "threads": 2,
        "device": "cpu",
        "what": "import",
        "value": 1.23456,
        "unit": "times",
        "goal": "<= 2",
    }
    report.save([row], tmp_path, "speed")
    main(["document", "--rows", str(tmp_path), "--page", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    assert "| what | threads | value | goal |" in page and "| import | 2 | 1.235 times | <= 2 |" in page
    assert "python benchmarks/speed.py" in page and "torch" in page.splitlines()[-1]
    assert (Path(__file__).parents[1] / "benchmarks" / "speed.py").exists()


def test_the_papers_numbers_stand_beside_ours():
    lines = document.with_paper("MNIST", [["detector", "roc_auc"], ["MemAE", "0.9"], ["KNN", "0.8"]])
    assert lines == [["detector", "roc_auc", "paper"], ["MemAE", "0.9", "0.9751"], ["KNN", "0.8", ""]]
    assert document.with_paper("clips", lines) is lines


def test_wins_are_counted_over_data_sets():
    scores = {"a": (0.9, 0.8, 0.7, 0.1), "b": (0.6, 0.7, 0.5, 0.1), "c": (0.5, 0.6, 0.9, 0.1)}
    names = (OURS, "VAE", "DeepSVDD", "AutoEncoder")
    rows = [{"data": d, "detector": n, "auc": v} for d, values in scores.items() for n, v in zip(names, values, strict=True)]
    assert document.wins(rows, "auc") == (
        "Of 3 sets, MemAE is above AutoEncoder on 3, VAE on 1, DeepSVDD on 2, and above all of them on 1."
    )
    assert document.wins(rows[:3], "auc") == ""


def connections(rng, n):
    """Rows as KDDCUP99 has them: 41 columns, seven of them symbolic."""
    X = np.empty((n, 41), dtype=object)
    X[:] = rng.integers(0, 5, size=(n, 41)).astype(str)
    X[:, 1] = rng.choice(["tcp", "udp"], size=n)
    y = (rng.uniform(size=n) < 0.2).astype(int)
    X[y == 1, 4] = "900"
    return datasets.encode_kddcup99(X), y


def test_connections_are_flagged_by_the_top_fifth(rng):
    X, y = connections(rng, 400)
    split = kddcup99.half_and_half(X, y, 0)
    assert len(split.X_test) <= len(split.y_test) == 200 == len(split.inverse)
    found = kddcup99.measure(kddcup99.OnDistinctRows(PCAError()), split)
    assert found["roc_auc"] > 0.95 and found["recall"] > 0.7
    assert found["f1"] == pytest.approx(2 * found["precision"] * found["recall"] / (found["precision"] + found["recall"]))


@pytest.mark.parametrize("protocol", ["one-class", "kddcup99", "odds", "ablation", "choices", "selection", "video"])
def test_protocols_without_data_say_so(tmp_path, monkeypatch, protocol):
    def offline(*args, **kwargs):
        raise URLError("no network")

    for name in ("fetch_openml", "fetch_kddcup99"):
        monkeypatch.setattr(datasets.published, name, offline)
    name = {"one-class": ["--data", "mnist"], "ablation": ["--data", "MNIST"]}.get(protocol, [])
    with pytest.raises(SystemExit, match="data_home"):
        main([protocol, "--data-home", str(tmp_path), "--out", str(tmp_path), "--seeds", "1", *name])


@pytest.mark.parametrize("protocol", ["one-class", "kddcup99", "odds", "tables", "ablation", "choices", "selection", "video"])
def test_what_is_asked_for_is_checked_before_anything_is_loaded(tmp_path, monkeypatch, protocol):
    for name in ("_from_openml", "fetch_kddcup99", "_find"):
        monkeypatch.setattr(datasets.published, name, lambda *args, **kwargs: pytest.fail("loads"))
    for option in ("--data", "--detectors"):
        with pytest.raises(SystemExit, match=f"{option} knows .* Got nothing like this."):
            main([protocol, option, "nothing like this", "--out", str(tmp_path)])
    for seeds in ("0", "-1", "x"):
        with pytest.raises(SystemExit) as end:
            main([protocol, "--seeds", seeds])
        assert end.value.code == 2


def test_classes_are_digits():
    with pytest.raises(SystemExit) as end:
        main(["one-class", "--classes", "77"])
    assert end.value.code == 2


@pytest.mark.parametrize("protocol", ["odds", "tables", "video"])
def test_a_folder_that_is_not_given_is_said_to_be_missing(tmp_path, protocol):
    with pytest.raises(SystemExit, match="data_home, the folder of .* is not given. Get .* from http"):
        main([protocol, "--out", str(tmp_path), *(["--data", "ped2"] if protocol == "video" else [])])


def test_what_an_ablation_is_judged_by(rng):
    X = np.round(np.concatenate([rng.normal(size=(160, 3)), rng.normal(5, 1, (40, 3))]), 1)
    y = np.repeat([0, 1], [160, 40])
    found = ablation.measure(PCAError(), kddcup99.half_and_half(X, y, 0))
    assert found["measure"] == found["f1"]
    found = ablation.measure(PCAError(), datasets.clean_split(X, y, random_state=0))
    assert found["measure"] == found["roc_auc"]


def test_contaminated_digits_keep_their_outliers_out_of_the_test_set():
    X, y = load_digits(return_X_y=True)
    X = np.column_stack([X, np.arange(len(X))])
    split = ablation.contaminated_digits(X, y, 3, random_state=0)
    train = y[split.X_train[:, -1].astype(int)]
    assert abs((train != 3).mean() - 0.1) < 0.01
    assert not set(split.X_train[:, -1]) & set(split.X_test[:, -1])


def test_a_number_that_a_detector_lacks_leaves_its_cell_empty():
    rows = [{"who": "a", "seed": 0, "x": 0.5}, {"who": "b", "seed": 0, "x": float("nan")}]
    assert report.summary(rows, "who", {"x": ".2f"}) == [["who", "x"], ["a", "0.50"], ["b", ""]]


def test_video_protocol_finds_what_moves_otherwise(rng):
    def walk(speed):
        frames = np.zeros((24, 40, 40), dtype=np.uint8)
        for t, frame in enumerate(frames):
            at = int(3 + speed * t) % 34
            frame[15:21, at : at + 6] = 200
        return frames

    test = [np.concatenate([walk(0.5), walk(3)]), walk(0.5)]
    labels = [np.repeat([0, 1], 24), np.zeros(24, dtype=int)]
    masks = [(video > 0) & (y[:, None, None] == 1) for video, y in zip(test, labels, strict=True)]
    split = Bunch(train=[walk(0.5), walk(0.6)], test=test, labels=labels, masks=masks, name="walks")
    makers = video_protocol.make_detectors(0, cell=1)
    found = video_protocol.measure(makers["differences, IForest"](), split)
    assert found["macro"] > 0.9 and np.isnan(found["pixel"]) and found["frames_per_second"] > 0
    small = MemAEDetector(widths=(4, 4), max_epochs=1, random_state=0)
    on_clips = video_protocol.OnClips(small, ClipWindows(length=4))
    found = video_protocol.measure(on_clips, split)
    scores = on_clips.fit(split.train).scores(test)
    assert found["raw"] == pytest.approx(roc_auc_score(np.concatenate(labels), np.concatenate(scores)))
    assert found["macro"] == pytest.approx(roc_auc_score(labels[0], scores[0]))


def test_the_paper_preset_sees_whole_frames_where_it_is_asked_for(rng, monkeypatch):
    frames = rng.integers(0, 255, size=(20, 120, 210), dtype=np.uint8)
    one = Bunch(train=[frames], test=[frames], labels=[np.zeros(20)], masks=[np.zeros(frames.shape, dtype=bool)], name="one")
    monkeypatch.setattr(video_protocol, "SETS", {"one": lambda data_home: one})
    args = Namespace(data=None, data_home=None, seeds=1, detectors=None)
    planned = {cell.detector: cell.make() for cell in video_protocol.plan(args)}
    assert not [name for name in planned if "paper" in name]
    clips = {name: det.windows.fit_transform([frames]).shape[1:] for name, det in planned.items()}
    assert clips["MemAE"] == clips["no memory"] == clips["frames, no memory"] == (1, 9, 60, 105)
    assert clips["single frames, no memory"] == (1, 1, 60, 105) and clips["differences, PCA"] == (1, 1, 6, 10)
    args.detectors = ["MemAE", "MemAE, paper's preset"]
    small, paper = (cell.make() for cell in video_protocol.plan(args))
    assert paper.windows.fit_transform([frames]).shape[1:] == (1, 16, 120, 210) and paper.detector.memory_size == 2000


def test_criteria_choose_among_settings(rng):
    X = np.concatenate([rng.normal(size=(150, 2)) @ rng.normal(size=(2, 5)), rng.normal(3, 2, size=(30, 5))])
    split = selection.with_held_out(datasets.contaminated_split, X, np.repeat([0, 1], [150, 30]), 0)
    assert len(split.X_train) == 2 * len(split.X_held_out)
    found = selection.measure(MemAEDetector(max_epochs=2, random_state=0), split)
    assert {"roc_auc", *selection.CRITERIA} == set(found) and 0.5 < found["roc_auc"] <= 1 and 0 <= found["excess mass"] <= 1
    rows = [
        {
            "data": "a",
            "seed": 0,
            "detector": name,
            "roc_auc": area,
            "separation": good,
            "excess mass": 0,
            "held-out error": -good,
        }
        for name, area, good in (("default", 0.7, 1), ("x", 0.9, 3), ("y", 0.5, 2))
    ]
    chosen = {row["detector"]: row["roc_auc"] for row in selection.digest(rows)}
    assert chosen == {
        "default": 0.7,
        "separation": 0.9,
        "excess mass": 0.7,
        "held-out error": 0.7,
        "any": pytest.approx(0.7),
        "best": 0.9,
    }
    assert "default 0%, separation 100%" in selection.sentence(selection.digest(rows)).replace("-0%", "0%")


def test_the_page_knows_the_columns_of_each_protocol_also_where_rows_lack_some():
    assert all(protocol.COLUMNS for protocol, _ in document.SECTIONS.values())
    row = {"data": "set", "seed": 0, "a": 0.5}
    rows = [{**row, "detector": "x"}, {**row, "detector": "y", "b": 1.0}]
    means = report.data_means(rows, {"a": ".1f", "b": ".1f"})
    assert [(row["detector"], row["a"], np.isnan(row["b"])) for row in means[:2]] == [("x", 0.5, True), ("y", 0.5, False)]
