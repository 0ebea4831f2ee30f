"""Loaders, splits, pasted anomalies and moving digits."""

import gzip
import hashlib
import warnings
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
from PIL import Image, TiffImagePlugin
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


def test_images_of_a_folder_in_order_with_their_folders_for_labels(tmp_path, rng):
    images = rng.integers(0, 255, size=(12, 6, 8, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        folder = tmp_path / ("good" if i < 11 else "scratch")
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"part {i}.png")
    found = datasets.load_images(tmp_path)
    np.testing.assert_array_equal(found.data, images)  # "part 2" comes before "part 10"
    assert found.target.tolist() == [0] * 11 + [1] and found.target_names == ["good", "scratch"]
    some = datasets.load_images(found.filenames[[3, 1]], size=(3, 4), grey=True)
    assert some.data.shape == (2, 3, 4) and some.filenames.tolist() == found.filenames[[3, 1]].tolist()
    assert datasets.load_images(str(tmp_path / "scratch")).target_names == ["scratch"]


def test_images_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no images in the folder '.*'\. Images have the suffixes .*\.png"):
        datasets.load_images(tmp_path)
    (tmp_path / "a.xcf").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"no images in the folder '.*', but other files: .xcf \(1\)"):
        datasets.load_images(tmp_path)
    (tmp_path / "a.xcf").unlink()
    with pytest.raises(FileNotFoundError, match="must be a folder or a list of files. Got 'nowhere'"):
        datasets.load_images("nowhere")
    with pytest.raises(FileNotFoundError, match="Got an empty list"):
        datasets.load_images([])
    with pytest.raises(OSError, match="nowhere.png cannot be read"):
        datasets.load_images([tmp_path / "nowhere.png"])
    Image.fromarray(np.zeros((4, 5), dtype=np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(tmp_path / "2.png")
    with pytest.raises(ValueError, match=r"2.png has shape \(4, 6\), but .*1.png has \(4, 5\). 'size' scales all"):
        datasets.load_images(tmp_path)
    assert datasets.load_images(tmp_path, size=(2, 2)).data.shape == (2, 2, 2)
    for size in ((0, 2), 3, (1, 2, 3), "ab"):
        with pytest.raises(ValueError, match="'size' parameter of load_images"):
            datasets.load_images(tmp_path, size=size)
    (tmp_path / "2.png").write_bytes(b"broken")
    with pytest.raises(OSError, match="2.png cannot be read"):
        datasets.load_images(tmp_path)


@pytest.mark.parametrize("kind", ["png", "gif", "webp"])
def test_animations_are_no_images(kind, tmp_path, rng):
    images = [Image.fromarray(frame) for frame in rng.integers(0, 255, size=(3, 4, 5), dtype=np.uint8)]
    images[0].save(tmp_path / f"1.{kind}", save_all=True, append_images=images[1:])
    with pytest.raises(ValueError, match=rf"1.{kind} is an animation of 3 frames; a file with one image is needed"):
        datasets.load_images(tmp_path)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp", "gif"])
def test_half_an_image_is_an_error(kind, tmp_path, rng):
    Image.fromarray(rng.integers(0, 255, size=(64, 48, 3), dtype=np.uint8)).save(tmp_path / f"1.{kind}")
    content = (tmp_path / f"1.{kind}").read_bytes()
    (tmp_path / f"1.{kind}").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=f"1.{kind} cannot be read"):
        datasets.load_images(tmp_path)


def test_a_tiff_of_several_pages_is_no_image(tmp_path, rng):
    first, *others = map(Image.fromarray, rng.integers(0, 255, size=(3, 4, 5), dtype=np.uint8))
    first.save(tmp_path / "1.tif", save_all=True, append_images=others)
    with pytest.raises(ValueError, match="1.tif has 3 pages; a file with one image is needed"):
        datasets.load_images(tmp_path)


def test_smaller_copies_in_a_tiff_and_previews_in_a_photograph_are_no_pages(tmp_path):
    page = np.arange(40, dtype=np.uint8).reshape(5, 8)
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "1.tif"), True) as file:
        Image.fromarray(page).save(file, "TIFF")
        file.newFrame()
        Image.fromarray(page[::2, ::2]).save(file, "TIFF", tiffinfo={254: 1})
    np.testing.assert_array_equal(datasets.load_images(tmp_path).data[0], page)
    photograph, preview = (Image.new("RGB", size, "red") for size in ((8, 6), (4, 3)))
    photograph.save(tmp_path / "2.jpg", "MPO", save_all=True, append_images=[preview])
    assert datasets.load_images([tmp_path / "2.jpg"]).data.shape == (1, 6, 8, 3)


_TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.T,
    6: np.rot90,
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", _TURNS)
def test_photographs_are_upright(orientation, tmp_path):
    scene, note = np.zeros((16, 32), dtype=np.uint8), Image.Exif()
    scene[:8], scene[:8, :8], note[0x0112] = 200, 100, orientation
    held = Image.fromarray(np.ascontiguousarray(_TURNS[orientation](scene)))
    for kind in ("png", "tif", "jpg"):
        held.save(tmp_path / f"1.{kind}", exif=note, **({"quality": 100} if kind == "jpg" else {}))
        found = datasets.load_images([tmp_path / f"1.{kind}"]).data[0]
        assert found.shape == scene.shape
        np.testing.assert_allclose(found, scene, atol=2 if kind == "jpg" else 0)


def test_a_note_of_the_camera_that_cannot_be_read_says_nothing(tmp_path):
    Image.new("L", (9, 6)).save(tmp_path / "1.jpg", exif=b"Exif\0\0no note")
    assert datasets.load_images(tmp_path).data.shape == (1, 6, 9)


def test_hidden_files_are_passed_over_and_others_counted(tmp_path):
    image = Image.fromarray(np.zeros((4, 5), dtype=np.uint8))
    for name in ("1.png", "2.jp2", "3.JFIF", "4.ppm", "5.bmp", "6.webp", "7.gif"):
        kind = {"3.JFIF": "JPEG"}.get(name)
        (image.convert("RGB") if name == "6.webp" else image).save(tmp_path / name, kind)
    (tmp_path / ".thumbnails").mkdir()
    image.save(tmp_path / ".thumbnails" / "1.png")
    for name in ("._1.png", ".DS_Store", "desktop.ini"):
        (tmp_path / name).write_bytes(b"no image")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = datasets.load_images(tmp_path, size=(2, 2), grey=True)
    assert found.data.shape == (7, 2, 2)
    for name in ("notes.txt", "a.xcf", "b.xcf", "README"):
        (tmp_path / name).write_bytes(b"no image")
    message = r"4 of 11 files in the folder .* are not read: .txt \(1\), .xcf \(2\), no suffix \(1\)\."
    with pytest.warns(UserWarning, match=message) as caught:
        assert len(datasets.load_images(tmp_path, size=(2, 2), grey=True).data) == 7
    assert len(caught) == 1 and caught[0].filename == __file__


def test_a_folder_below_a_hidden_one_is_read(tmp_path):
    (folder := tmp_path / ".cache" / "parts").mkdir(parents=True)
    Image.new("L", (5, 4)).save(folder / "1.png")
    assert len(datasets.load_images(folder).data) == 1


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_grey_of_sixteen_bits_can_be_scaled(order, tmp_path, rng):
    image = rng.integers(0, 2**16, size=(8, 12)).astype(order)
    Image.fromarray(image).save(tmp_path / "1.tif")
    found = datasets.load_images(tmp_path, grey=True).data
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[0], image)
    scaled = datasets.load_images(tmp_path, size=(4, 6), grey=True).data[0].astype(int)
    means = np.array(Image.fromarray(image.astype(np.float32)).resize((6, 4), Image.Resampling.BILINEAR))
    assert np.abs(scaled - means).max() <= 0.51
    white = Image.fromarray(np.full((8, 12), 65535, dtype=np.uint16))
    white.save(tmp_path / "1.tif")
    assert (datasets.load_images(tmp_path, size=(3, 5)).data == 65535).all()


def test_images_of_one_bit_are_black_and_white(tmp_path, rng):
    image = rng.random((8, 12)) < 0.5
    Image.fromarray(image).save(tmp_path / "1.png")
    np.testing.assert_array_equal(datasets.load_images(tmp_path).data[0], 255 * image.astype(np.uint8))
    scaled = datasets.load_images(tmp_path, size=(4, 6), grey=True).data
    assert scaled.dtype == np.uint8 and 0 < scaled.mean() < 255


def test_colours_of_print_are_those_of_the_screen(tmp_path):
    Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK").save(tmp_path / "1.jpg", quality=100)
    found = datasets.load_images(tmp_path).data[0]
    np.testing.assert_allclose(found.reshape(-1, 3).mean(axis=0), (200, 40, 90), atol=3)


def test_colours_of_a_palette_are_read(tmp_path, rng):
    colours = rng.choice([0, 255], size=(6, 8, 3)).astype(np.uint8)
    Image.fromarray(colours).quantize(8).save(tmp_path / "1.png")
    np.testing.assert_array_equal(datasets.load_images(tmp_path).data[0], colours)
