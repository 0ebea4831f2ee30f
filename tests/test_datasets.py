"""Loaders, splits, pasted anomalies and moving digits."""

import gzip
import hashlib
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
from PIL import Image
from sklearn.datasets import load_digits

from skmemae import datasets
from skmemae.datasets import (
    clean_split,
    contaminated_split,
    make_moving_digits,
    make_pasted_anomalies,
    one_class_split,
    published,
)


def test_training_is_normal_and_the_test_set_has_its_share_of_outliers():
    X, y = load_digits(return_X_y=True)
    X = np.column_stack([X, np.arange(len(X))])
    split = one_class_split(X, y, 3, random_state=0)
    assert (y[split.X_train[:, -1].astype(int)] == 3).all()
    test = split.X_test[:, -1].astype(int)
    np.testing.assert_array_equal(y[test] != 3, split.y_test == 1)
    assert abs(split.y_test.mean() - 0.3) < 0.01
    assert not set(test) & set(split.X_train[:, -1].astype(int))
    assert len(split.X_train) + (split.y_test == 0).sum() == (y == 3).sum()
    again = one_class_split(X, y, 3, random_state=0)
    np.testing.assert_array_equal(split.X_test, again.X_test)


def test_digits_move_as_they_should():
    clips = make_moving_digits(n_clips=40, n_frames=8, size=16, random_state=0)
    assert clips.data.shape == (60, 1, 8, 16, 16) and clips.target.sum() == 20
    assert clips.data.min() == 0 and clips.data.max() == 1 and clips.data.dtype == np.float32
    mass = clips.data[:, 0].sum(axis=(2, 3))
    np.testing.assert_allclose(mass, mass[:, :1].repeat(8, axis=1), rtol=1e-5)  # a digit never leaves the frame
    across = np.abs(np.diff(np.argmax(clips.data[:, 0].any(axis=2), axis=-1), axis=1))  # steps of the left edge
    along = np.abs(np.diff(np.argmax(clips.data[:, 0].any(axis=3), axis=-1), axis=1))  # steps of the top edge
    assert (across[:40] == 1).all() and (along[:40] == 0).all()
    upright = (along == 1).all(axis=1)
    assert upright.sum() == 10 and clips.target[upright].all()
    np.testing.assert_array_equal(clips.data, make_moving_digits(40, random_state=0).data)


def walker(n_frames=160, n_steps=90):
    """A video in which a dark square goes to the right, two thirds of a pixel a frame, and is gone."""
    video = np.full((n_frames, 40, 90), 200, dtype=np.uint8)
    for t, frame in enumerate(video[:n_steps]):
        frame[20:26, 2 + 2 * t // 3 : 8 + 2 * t // 3] = 0
    return video


def test_pasted_anomalies_are_faster_or_larger_where_the_masks_say():
    videos = [walker() for _ in range(3)]
    dataset = make_pasted_anomalies(videos, n_test=1, random_state=0)
    assert len(dataset.train) == 2 and len(dataset.test) == 2
    (fast, large), (quick, wide) = dataset.test, dataset.masks
    for video, mask, labels in zip(dataset.test, dataset.masks, dataset.labels, strict=True):
        assert video.dtype == np.uint8 and video.shape == mask.shape and labels.tolist() == mask.any(axis=(1, 2)).tolist()
        assert 0 < labels.mean() < 1 and video[mask].mean() < 60
    assert quick[quick.any(axis=(1, 2))].any(axis=(1)).sum(axis=1).max() == 6  # as wide as the square
    steps = np.diff([np.flatnonzero(mask.any(axis=0))[0] for mask in quick if mask.any()])
    assert steps.mean() > 1.4 * 2 / 3
    assert wide.any(axis=2).sum(axis=1).max() >= 7 and not np.array_equal(fast, large)
    again = make_pasted_anomalies(videos, n_test=1, random_state=0)
    np.testing.assert_array_equal(again.test[0], fast)


def test_pasted_anomalies_need_something_that_moves():
    still = [np.zeros((40, 30, 30), dtype=np.uint8)] * 2
    with pytest.raises(ValueError, match=r"cut out of videos\[\d\]"):
        make_pasted_anomalies(still, n_test=1)
    with pytest.raises(ValueError, match="'n_test' parameter .* must be less than the number of videos, 2, .* Got 2"):
        make_pasted_anomalies(still, n_test=2)
    for n_test in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"'n_test' parameter of make_pasted_anomalies .* positive int. Got {n_test}"):
            make_pasted_anomalies(still, n_test=n_test)


@pytest.mark.parametrize("normal", [[0, 1], 5])
def test_several_classes_can_be_normal(normal):
    X, y = load_digits(return_X_y=True)
    split = one_class_split(X, y, normal, test_size=0.5, outlier_share=0.1, random_state=0)
    assert abs(len(split.X_train) - np.isin(y, normal).sum() / 2) <= 1


def test_clean_training_has_no_outliers_and_contaminated_training_its_share():
    X, y = np.arange(300.0)[:, None], np.repeat([1, 0], [60, 240])
    clean = clean_split(X, y, random_state=0)
    assert len(clean.X_train) == 120 and (clean.X_train >= 60).all() and clean.y_test.sum() == 60
    mixed = contaminated_split(X, y, random_state=0)
    assert len(mixed.X_train) == 180 and (mixed.X_train < 60).any()
    for split in (clean, mixed):
        assert not set(split.X_train.ravel()) & set(split.X_test.ravel())
        np.testing.assert_array_equal(split.X_test.ravel() < 60, split.y_test == 1)


def test_files_that_are_not_the_published_ones_are_refused(tmp_path):
    images = np.zeros((2, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=images, x_test=images, y_train=np.zeros(2), y_test=np.zeros(2))
    np.savez(tmp_path / "cifar10_30k.npz", x=np.zeros((2, 32, 32, 3), dtype=np.uint8), y=np.zeros(2))
    with gzip.open(tmp_path / "kddcup.data_10_percent.gz", "wt") as file:
        file.write("0,tcp,normal.\n")
    scipy.io.savemat(tmp_path / "glass.mat", {"X": np.zeros((2, 2)), "y": np.zeros(2)})
    loaders = (
        datasets.load_mnist,
        datasets.load_cifar10,
        datasets.load_kddcup99,
        lambda home: datasets.load_odds("glass", home),
    )
    for load in loaders:
        with pytest.raises(ValueError, match="is not the published data: sha256"):
            load(tmp_path)


def test_a_table_of_adbench_in_its_folder(tmp_path, monkeypatch):
    (tmp_path / "tables").mkdir()
    path = tmp_path / "tables" / "wine.npz"
    np.savez(path, X=np.arange(6).reshape(3, 2), y=np.array([[0], [1], [0]]))
    monkeypatch.setitem(published.ADBENCH, "wine", hashlib.sha256(path.read_bytes()).hexdigest())
    for home in (tmp_path, tmp_path / "tables"):
        found = datasets.load_adbench("wine", home)
        assert found.data.dtype == np.float64 and found.data.shape == (3, 2) and found.target.tolist() == [0, 1, 0]
    np.savez(path, X=np.zeros((3, 2)), y=np.zeros(3))
    with pytest.raises(ValueError, match="is not the published data: sha256"):
        datasets.load_adbench("wine", tmp_path)
    with pytest.raises(FileNotFoundError, match="wine.npz is not in data_home=.* or its folder 'tables'"):
        datasets.load_adbench("wine", tmp_path / "elsewhere")


@pytest.mark.parametrize("load", [datasets.load_odds, datasets.load_adbench])
@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "glass/../../secret", "..\\secret", "", None])
def test_no_name_leads_out_of_the_folder(load, name, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "secret.mat").write_bytes(b"secret")
    with pytest.raises(ValueError, match="'name' parameter of load_.* must be one of"):
        load(name, tmp_path / "home")


class Hostile:
    """What a pickle turns into a new file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize(
    "load, file",
    [(datasets.load_mnist, "mnist.npz"), (datasets.load_cifar10, "cifar10_30k.npz"), (datasets.load_ped2, "ped2_half.npz")],
)
def test_no_array_is_unpickled(load, file, tmp_path):
    objects = np.array([Hostile(str(tmp_path / "it ran"))], dtype=object)
    np.savez(tmp_path / file, **dict.fromkeys(("x_train", "x_test", "y_train", "y_test", "x", "y"), objects))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load(tmp_path)
    assert not (tmp_path / "it ran").exists()


def test_what_is_absent_is_downloaded_or_said_to_be_missing(tmp_path, monkeypatch):
    def openml(name, version, data_home, as_frame, return_X_y):
        return np.full((3, 3 * 32 * 32 if name == "CIFAR_10" else 784), 7.0), np.array(["0", "1", "2"])

    def kddcup99(percent10, data_home, return_X_y):
        return np.zeros((2, 41), dtype=object), np.array([b"normal.", b"smurf."])

    monkeypatch.setattr(published, "fetch_openml", openml)
    monkeypatch.setattr(published, "fetch_kddcup99", kddcup99)
    for load, shape in (
        (datasets.load_mnist, (3, 28, 28)),
        (datasets.load_fashion_mnist, (3, 28, 28)),
        (datasets.load_cifar10, (3, 3, 32, 32)),
    ):
        dataset = load(tmp_path)
        assert dataset.data.shape == shape and dataset.data.dtype == np.uint8 and dataset.target.tolist() == [0, 1, 2]
    assert datasets.load_kddcup99(tmp_path).target.tolist() == [1, 0]

    def offline(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(published, "fetch_openml", offline)
    monkeypatch.setattr(published, "fetch_kddcup99", offline)
    for load in (datasets.load_mnist, datasets.load_fashion_mnist, datasets.load_cifar10, datasets.load_kddcup99):
        with pytest.raises(OSError, match="not at hand"):
            load(tmp_path)
    with pytest.raises(OSError, match="glass.mat is not in data_home=.* or its folder 'odds'. Get it from http"):
        datasets.load_odds("glass", tmp_path)
    with pytest.raises(ValueError, match="must be one of"):
        datasets.load_odds("iris", tmp_path)


def test_symbols_are_one_hot_and_numbers_stay():
    X = np.zeros((3, 41), dtype=object)
    X[:, 1], X[:, 0] = ["tcp", "udp", "tcp"], [5, 6, 7]
    encoded = datasets.encode_kddcup99(X)
    assert encoded.shape == (3, 34 + 2 + 6) and encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded[:, 0], [5, 6, 7])
    np.testing.assert_array_equal(encoded[:, 34:36], [[1, 0], [0, 1], [1, 0]])


def test_ped2_in_its_published_folder(tmp_path, rng):
    frames = rng.integers(0, 255, size=(4, 6, 8), dtype=np.uint8)
    mask = np.zeros((4, 6, 8), dtype=np.uint8)
    mask[2:, 1:3, 4:6] = 255
    folder = tmp_path / "UCSDped2"
    for part, images, kind in (
        ("Train/Train001", frames, "tif"),
        ("Test/Test001", frames, "tif"),
        ("Test/Test001_gt", mask, "bmp"),
    ):
        (folder / part).mkdir(parents=True)
        for i, image in enumerate(images, start=1):
            Image.fromarray(image).save(folder / part / f"{i:03}.{kind}")
    found = datasets.load_ped2(tmp_path)
    np.testing.assert_array_equal(found.train[0], frames)
    np.testing.assert_array_equal(found.test[0], frames)
    np.testing.assert_array_equal(found.masks[0], mask > 0)
    np.testing.assert_array_equal(found.labels[0], [0, 0, 1, 1])
    with pytest.raises(FileNotFoundError, match="data_home"):
        datasets.load_ped2(tmp_path / "elsewhere")
    np.savez(tmp_path / "ped2_half.npz", x_train=frames, x_test=frames, y_test=np.zeros(4))
    with pytest.raises(ValueError, match="not the published data"):
        datasets.load_ped2(tmp_path)
