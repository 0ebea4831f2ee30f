"""The overview and the protocols, at a small size."""

import ast
import hashlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.utils import Bunch

import ablation
import adbench
import document
import kddcup99
import odds
import one_class
import video
from shared import cells
from shared.detectors import make_image_detectors, make_simple_rivals
from skmemae import MemAEDetector, datasets
from skmemae.benchmark import evaluation, overview, report, store
from skmemae.benchmark.detectors import OURS, PCAError, make_detectors
from skmemae.video import ClipWindows

SPLIT = datasets.one_class_split(*load_digits(return_X_y=True), 0, random_state=0)
BASELINES = {**make_image_detectors(0, "mnist"), **make_simple_rivals(0)}
BASELINES = {name: make for name, make in BASELINES.items() if not isinstance(make(), MemAEDetector)}


def test_the_overview_prints_means_and_writes_rows_and_a_picture(tmp_path, capsys, monkeypatch):
    digits = load_digits()
    makers = {OURS: lambda: MemAEDetector(max_epochs=10, random_state=0), "KDE": make_detectors(0)["KDE"]}
    monkeypatch.setattr(overview, "tasks", lambda: [("digits", digits.images, digits.target, 2)])
    monkeypatch.setattr(overview, "make_detectors", lambda seed: makers)
    overview.main(["--seeds", "2", "--out", str(tmp_path)])
    rows = store.read(tmp_path, "overview")
    assert [(row["detector"], row["seed"]) for row in rows] == [(OURS, 0), ("KDE", 0), (OURS, 1), ("KDE", 1)]
    assert all(0.9 < row["roc_auc"] <= 1 for row in rows)
    mean = np.mean([row["roc_auc"] for row in rows if row["detector"] == "KDE"])
    assert f"KDE {mean:.3f} ±" in " ".join(capsys.readouterr().out.split())
    assert "torch" in store.read_versions(tmp_path)["overview"]["made_with"][0]
    assert (tmp_path / "overview.png").stat().st_size > 10_000


def test_the_package_stands_on_its_public_parts_and_knows_no_protocol():
    for path in Path(report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("skmemae"):
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                assert not [name for name in names if name.startswith("_")], path
            assert getattr(node, "module", None) not in ("shared", "benchmarks"), path


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_finds_other_digits(name):
    numbers, scores = evaluation.evaluate(BASELINES[name](), SPLIT)
    assert numbers["roc_auc"] > (0.9 if name != "ECOD" else 0.8) and np.isfinite(scores).all()


def test_tables_have_means_and_deviations_and_every_set_weighs_the_same():
    rows = [{"who": who, "seed": seed, "x": 1.0 * seed + (who == "b")} for who in "ab" for seed in (0, 2)]
    assert report.summary(rows, "who", {"x": "±.1f"}) == [["who", "x"], ["a", "1.0 ± 1.0"], ["b", "2.0 ± 1.0"]]
    rows += [{"who": "b", "seed": 4, "x": 5.0}]
    assert report.summary(rows, "who", {"x": "±e.3f"})[2] == ["b", "3.000 ± 1.155"]
    assert report.summary([{"who": "a", "seed": 0, "x": float("nan")}], "who", {"x": ".2f"})[1] == ["a", ""]
    cell = {"detector": OURS, "seed": 0}
    rows = [{**cell, "data": "many", "x": 0.5}] * 10 + [{**cell, "data": "one", "x": 1.0}]
    assert [row["x"] for row in report.data_means(rows, {"x": ".1f"})] == [0.5, 1.0]


def test_an_interrupted_run_goes_on_with_the_cells_that_are_missing(tmp_path):
    made = make_detectors(0)

    def planned(*names):
        return [cells.Cell("digits", "", seed, name, made[name], lambda: SPLIT) for seed in (0, 1) for name in names]

    def measure(detector, split):
        if len(runs) == stop_at:
            raise KeyboardInterrupt
        runs.append(detector)
        return {"roc_auc": len(runs) / 7, "flagged_normal": float("nan")}

    runs, stop_at = [], 3
    with pytest.raises(KeyboardInterrupt):
        cells.run(planned("KDE", "PCA"), tmp_path, "rows", measure)
    stop_at = None
    rows = cells.run(planned("KDE", "PCA", "KNN"), tmp_path, "rows", measure)
    assert len(runs) == 6 and [row["roc_auc"] for row in rows] == pytest.approx(np.array([1, 2, 4, 3, 5, 6]) / 7, abs=1e-6)
    stored = {cells.key(row): row for row in store.read(tmp_path, "rows")}
    assert [stored[cells.key(row)]["roc_auc"] for row in rows] == pytest.approx([row["roc_auc"] for row in rows], abs=1e-6)
    assert np.isnan(rows[0]["flagged_normal"])
    versions = store.read_versions(tmp_path)["rows"]
    assert len(versions["made_with"]) == 1 and versions["detectors"]["KNN"] == "OnScaledRows(detector=KNN())"


def test_a_protocol_fills_its_table_and_the_page_shows_it(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    known = {}
    for name in ("first", "second"):
        X, y = rng.normal(size=(120, 4)), np.repeat([1, 0], [20, 100])
        X[:20] += 4
        scipy.io.savemat(tmp_path / f"{name}.mat", {"X": X, "y": y[:, None]})
        known[name] = hashlib.sha256((tmp_path / f"{name}.mat").read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.published, "ODDS", known)
    monkeypatch.setattr(odds, "PROTOCOLS", odds.make_protocols("odds", known, datasets.load_odds))
    out = tmp_path / "out"
    odds.main(["--data-home", str(tmp_path), "--seeds", "2", "--out", str(out), "--detectors", "MemAE", "KDE", "PCA"])
    rows = store.read(out, "odds-clean")
    assert len(rows) == 2 * 2 * 3 and all(row["roc_auc"] > 0.9 for row in rows if row["detector"] == OURS)
    assert (out / "odds-contaminated.png").stat().st_size > 5_000
    document.main(["--rows", str(out), "--page", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    of_kde = [r["roc_auc"] for r in store.read(out, "odds-contaminated") if (r["data"], r["detector"]) == ("first", "KDE")]
    line = f"| KDE | {np.mean(of_kde):.4f} ± {np.std(of_kde):.4f} |"
    assert line in page[page.index("## odds-contaminated") :].partition("### second")[0]
    assert "## odds-clean" in page and "## one-class" not in page and "Seeds: 2 for MemAE, KDE, PCA.\n" in page


def test_wins_are_counted_over_data_sets():
    scores = {"a": (0.9, 0.8, 0.7, 0.1), "b": (0.6, 0.7, 0.5, 0.1), "c": (0.5, 0.6, 0.9, 0.1)}
    names = (OURS, "VAE", "DeepSVDD", "AutoEncoder")
    rows = [{"data": d, "detector": n, "auc": v} for d, values in scores.items() for n, v in zip(names, values, strict=True)]
    assert document.wins(rows, "auc") == (
        "Of 3 sets, MemAE is above AutoEncoder on 3, VAE on 1, DeepSVDD on 2, and above all of them on 1."
    )


@pytest.mark.parametrize("script", [one_class, kddcup99, odds, adbench, ablation, video])
def test_unknown_names_and_missing_data_are_named(tmp_path, monkeypatch, script):
    def offline(*args, **kwargs):
        raise URLError("no network")

    for name in ("fetch_openml", "fetch_kddcup99"):
        monkeypatch.setattr(datasets.published, name, offline)
    with pytest.raises(SystemExit, match="--data knows .* Got nothing like this."):
        script.main(["--data", "nothing like this", "--out", str(tmp_path)])
    only = {ablation: ["--data", "MNIST"], video: ["--data", "ped2"]}.get(script, [])
    with pytest.raises(SystemExit, match="data_home"):
        script.main(["--data-home", str(tmp_path), "--out", str(tmp_path), *only])
    with pytest.raises(SystemExit, match="2"):
        script.main(["--seeds", "0"])


def test_the_top_fifth_of_connections_is_flagged_and_repeats_count(rng):
    X = np.round(np.concatenate([rng.normal(size=(160, 3)), rng.normal(5, 1, (40, 3))]))
    y = np.repeat([0, 1], [160, 40])
    split = kddcup99.half_and_half(X, y, 0)
    assert len(split.X_test) < len(split.y_test) == 100 == len(split.inverse)
    scores = PCAError().fit(np.unique(split.X_train, axis=0)).decision_function(split.X_test)[split.inverse]
    expected = f1_score(split.y_test, scores > np.quantile(scores, 0.8))
    assert kddcup99.measure(kddcup99.OnDistinctRows(PCAError()), split)["f1"] == pytest.approx(expected)
    assert ablation.measure(kddcup99.OnDistinctRows(PCAError()), split)["measure"] == pytest.approx(expected)
    found = ablation.measure(PCAError(), SPLIT)
    assert found["measure"] == found["roc_auc"]


@pytest.mark.parametrize("shape", [(60, 20), (60, 28, 28), (30, 1, 8, 16, 16)])
def test_the_autoencoder_with_an_l1_penalty_has_the_same_layers(rng, shape):
    common = {"memory_unit": "sample" if len(shape) == 2 else "auto", "max_epochs": 1, "random_state": 0}
    plain, sparse = (
        MemAEDetector(**ablation.VARIANTS[name], **common).fit(rng.normal(size=shape)).model_[0] for name in ("AE", "AE-l1")
    )
    assert [p.shape for p in plain.parameters()] == [p.shape for p in sparse.parameters()]


def test_the_l1_penalty_adds_the_gradient_of_the_norm():
    encoding = torch.tensor([[1.0, -2.0], [0.0, 3.0]], requires_grad=True)
    passed = ablation.L1Penalty()(encoding * 1)
    assert torch.equal(passed, encoding)
    passed.square().sum().backward()
    expected = 2 * encoding.detach() + torch.autograd.functional.jacobian(
        lambda e: 0.01 * e.abs().sum(dim=1).mean(), encoding.detach()
    )
    torch.testing.assert_close(encoding.grad, expected)


def test_contaminated_digits_keep_their_outliers_out_of_the_test_set():
    X, y = load_digits(return_X_y=True)
    split = ablation.contaminated_digits(np.column_stack([X, np.arange(len(X))]), y, 3, random_state=0)
    train = y[split.X_train[:, -1].astype(int)]
    assert abs((train != 3).mean() - 0.1) < 0.01
    assert not set(split.X_train[:, -1]) & set(split.X_test[:, -1])


def walk(speed):
    frames = np.zeros((24, 40, 40), dtype=np.uint8)
    for t, frame in enumerate(frames):
        at = int(3 + speed * t) % 34
        frame[15:21, at : at + 6] = 200
    return frames


def test_the_numbers_of_videos_are_those_of_their_frames():
    test, labels = [np.concatenate([walk(0.5), walk(3)]), walk(0.5)], [np.repeat([0, 1], 24), np.zeros(24, dtype=int)]
    masks = [(video > 0) & (y[:, None, None] == 1) for video, y in zip(test, labels, strict=True)]
    split = Bunch(train=[walk(0.5), walk(0.6)], test=test, labels=labels, masks=masks, name="walks")
    found = video.measure(video.makers(split, 0)["differences, IForest"](), split)
    assert np.isnan(found["pixel"]) and found["frames_per_second"] > 0
    on_clips = video.OnClips(MemAEDetector(widths=(4, 4), max_epochs=1, random_state=0), ClipWindows(length=4))
    found = video.measure(on_clips, split)
    scores = on_clips.fit(split.train).scores(test)
    assert found["raw"] == pytest.approx(roc_auc_score(np.concatenate(labels), np.concatenate(scores)))
    assert found["macro"] == pytest.approx(roc_auc_score(labels[0], scores[0]))
