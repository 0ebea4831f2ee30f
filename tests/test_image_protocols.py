"""The protocols of magnetic tiles and of contaminated MNIST, on small data."""

import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

import contaminated
import document
import magnetic_tiles
from skmemae import MemAEDetector, datasets
from skmemae.benchmark import store


@pytest.fixture
def tiles(rng, tmp_path, monkeypatch):
    """A folder with 24 images of eight tiles, and four with a bright square for each kind of flaw."""
    images = (np.linspace(60, 160, 32) + rng.integers(0, 20, size=(36, 32, 32))).astype(np.uint8)
    masks = np.zeros(images.shape, dtype=bool)
    masks[24:, 8:14, 8:14] = True
    images[masks] = 250
    content = {
        "images": images,
        "kind": np.repeat(["Free", *magnetic_tiles.KINDS], [24, 4, 4, 4]),
        "tile": np.r_[np.repeat(np.arange(8), 3), np.arange(12)].astype(np.int16),
        "masks": np.packbits(masks.reshape(36, -1), axis=1),
    }
    np.savez(tmp_path / "magnetic_tiles.npz", **content)
    digest = hashlib.sha256(b"".join(content[key].tobytes() for key in ("images", "tile", "masks")))
    monkeypatch.setattr(magnetic_tiles, "_DIGEST", digest.hexdigest())
    return tmp_path


def run_tiles(folder, *names):
    magnetic_tiles.main(["--data-home", str(folder), "--seeds", "2", "--out", str(folder / "out"), "--detectors", *names])
    return store.read(folder / "out", magnetic_tiles.NAME)


def test_tiles_are_on_one_side_of_a_split_and_splits_differ(tiles):
    dataset = magnetic_tiles.load(str(tiles))
    dataset.data[:, 0, 0] = dataset.tile
    splits = [magnetic_tiles.split_tiles(dataset, seed) for seed in range(2)]
    for split in splits:
        normal = split.X_test[split.kind == "Free"]
        assert (len(split.X_train), len(normal), len(split.X_test)) == (18, 6, 18)
        assert not set(split.X_train[:, 0, 0]) & set(normal[:, 0, 0])
        assert (split.masks.any(axis=(1, 2)) == (split.kind != "Free")).all()
    assert set(splits[0].X_train[:, 0, 0]) != set(splits[1].X_train[:, 0, 0])


def test_rivals_find_squares_and_a_second_run_goes_on(tiles, capsys, monkeypatch):
    rows = run_tiles(tiles, "nearest image", "LoG")
    assert [(row["seed"], row["detector"], row["data"]) for row in rows[:4]] == [
        *((0, "nearest image", kind) for kind in magnetic_tiles.KINDS),
        (0, "LoG", "Blowhole"),
    ]
    assert len(rows) == 2 * 2 * 3 and all(np.isnan(row["flagged_normal"]) for row in rows)
    assert all(row["roc_auc"] == 1 and row["pixel"] > 0.9 and row["aupro"] > 0.8 for row in rows)
    assert "GANomaly" in capsys.readouterr().out
    measured, measure = [], magnetic_tiles.measure

    def noted(name, *args):
        measured.append(name)
        return measure(name, *args)

    monkeypatch.setattr(magnetic_tiles, "measure", noted)
    again = run_tiles(tiles, "PCA", "LoG")
    assert measured == ["PCA", "PCA"] and len(again) == 18
    assert list(map(store.texts, again[:12])) == list(map(store.texts, rows))
    assert set(store.read_versions(tiles / "out")[magnetic_tiles.NAME]["detectors"]) == set(magnetic_tiles.makers(0))
    page = document.page(tiles / "out")
    assert "### Fray" in page and "| DifferNet (pretrained network) | 0.977 |" in page and "| PCA | 1.000 ± 0.000 |" in page


def test_the_maps_of_the_detector_are_its_p_values(tiles, monkeypatch):
    split = magnetic_tiles.split_tiles(magnetic_tiles.load(str(tiles)), 0)
    detector = MemAEDetector(anomaly_score="smooth-patches", max_epochs=1, validation_fraction=0.2, random_state=0)
    monkeypatch.setattr(magnetic_tiles, "makers", lambda seed: {"MemAE": lambda: detector})
    rows = list(magnetic_tiles.measure("MemAE", 0, split))
    scores, normal = detector.decision_function(split.X_test), split.kind == "Free"
    assert [row["data"] for row in rows] == list(magnetic_tiles.KINDS)
    assert rows[0]["flagged_normal"] == (scores[normal] > detector.threshold_).mean()
    assert all(row["roc_auc"] > 0.9 and row["pixel"] > 0.9 for row in rows)
    p_values = detector.p_value_map(split.X_test[normal | (split.kind == "Fray")])
    masks = split.masks[normal | (split.kind == "Fray")]
    assert rows[2]["pixel"] == pytest.approx(magnetic_tiles.pixel_roc_auc(1 - p_values.astype(float), masks))


def test_missing_or_other_tiles_are_named(tiles, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="data_home"):
        magnetic_tiles.main([])
    with pytest.raises(SystemExit, match="--detectors knows MemAE, .* Got KNN"):
        magnetic_tiles.main(["--detectors", "KNN"])
    monkeypatch.setattr(magnetic_tiles, "_DIGEST", "0" * 64)
    with pytest.raises(ValueError, match="not the published data"):
        magnetic_tiles.load(str(tiles))


def test_contaminated_training_images_are_not_tested():
    digits = load_digits()
    numbered = Bunch(data=np.column_stack([digits.data, np.arange(len(digits.data))]), target=digits.target)
    splits = [contaminated.split_digits(Bunch(**numbered, share=share), 3, None, 0) for share in (0.0, 0.1)]
    clean, mixed = splits
    assert np.array_equal(clean.X_test, mixed.X_test) and np.array_equal(clean.y_test, mixed.y_test)
    assert abs(mixed.y_test.mean() - 0.3) < 0.01
    shares = [(digits.target[split.X_train[:, -1].astype(int)] != 3).mean() for split in splits]
    assert shares == [0, pytest.approx(0.1, abs=0.005)] and len(clean.X_train) == len(mixed.X_train)
    for split in splits:
        assert not set(split.X_train[:, -1]) & set(split.X_test[:, -1])
    few = contaminated.split_digits(Bunch(**numbered, share=0.1), 3, 50, 0)
    assert len(few.X_train) == 50 and np.array_equal(few.X_test, clean.X_test)


def test_contaminated_digits_fill_their_tables(tmp_path, monkeypatch):
    digits = load_digits()
    dataset = Bunch(data=digits.images, target=digits.target, name="MNIST")
    monkeypatch.setattr(datasets, "load_mnist", lambda data_home: dataset)
    options = ["--images", "60", "--tasks", "class 1", "class 8", "--detectors", "PCA", "KNN", "--out", str(tmp_path)]
    contaminated.main(options)
    rows = store.read(tmp_path, "contaminated-mnist")
    means = {name: np.mean([row["roc_auc"] for row in rows if row["data"] == f"{name} MNIST"]) for name in contaminated.SHARES}
    assert len(rows) == 2 * 2 * 2 and means["clean"] > means["contaminated"] > 0.6
    assert "### contaminated MNIST" in document.page(tmp_path)
