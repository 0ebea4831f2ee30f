"""Folders of photographs are read as people see them, and what is not read is said."""

import warnings

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from skmemae.datasets import load_images


def test_images_of_a_folder_in_order_with_their_folders_for_labels(tmp_path, rng):
    images = rng.integers(0, 255, size=(12, 6, 8, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        folder = tmp_path / ("good" if i < 11 else "scratch")
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"part {i}.png")
    found = load_images(tmp_path)
    np.testing.assert_array_equal(found.data, images)  # "part 2" comes before "part 10"
    assert found.target.tolist() == [0] * 11 + [1] and found.target_names == ["good", "scratch"]
    some = load_images(found.filenames[[3, 1]], size=(3, 4), grey=True)
    assert some.data.shape == (2, 3, 4) and some.filenames.tolist() == found.filenames[[3, 1]].tolist()
    assert load_images(str(tmp_path / "scratch")).target_names == ["scratch"]


def test_images_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no images in the folder '.*'\. Images have the suffixes .*\.png"):
        load_images(tmp_path)
    (tmp_path / "a.xcf").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"no images in the folder '.*', but other files: .xcf \(1\)"):
        load_images(tmp_path)
    (tmp_path / "a.xcf").unlink()
    with pytest.raises(FileNotFoundError, match="must be a folder or a list of files. Got 'nowhere'"):
        load_images("nowhere")
    with pytest.raises(FileNotFoundError, match="Got an empty list"):
        load_images([])
    with pytest.raises(OSError, match="nowhere.png cannot be read"):
        load_images([tmp_path / "nowhere.png"])
    Image.fromarray(np.zeros((4, 5), dtype=np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(tmp_path / "2.png")
    with pytest.raises(ValueError, match=r"2.png has shape \(4, 6\), but .*1.png has \(4, 5\). 'size' scales all"):
        load_images(tmp_path)
    assert load_images(tmp_path, size=(2, 2)).data.shape == (2, 2, 2)
    for size in ((0, 2), 3, (1, 2, 3), "ab"):
        with pytest.raises(ValueError, match="'size' parameter of load_images"):
            load_images(tmp_path, size=size)
    (tmp_path / "2.png").write_bytes(b"broken")
    with pytest.raises(OSError, match="2.png cannot be read"):
        load_images(tmp_path)


@pytest.mark.parametrize("kind", ["png", "gif", "webp"])
def test_animations_are_no_images(kind, tmp_path, rng):
    images = [Image.fromarray(frame) for frame in rng.integers(0, 255, size=(3, 4, 5), dtype=np.uint8)]
    images[0].save(tmp_path / f"1.{kind}", save_all=True, append_images=images[1:])
    with pytest.raises(ValueError, match=rf"1.{kind} is an animation of 3 frames; a file with one image is needed"):
        load_images(tmp_path)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp", "gif"])
def test_half_an_image_is_an_error(kind, tmp_path, rng):
    Image.fromarray(rng.integers(0, 255, size=(64, 48, 3), dtype=np.uint8)).save(tmp_path / f"1.{kind}")
    content = (tmp_path / f"1.{kind}").read_bytes()
    (tmp_path / f"1.{kind}").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=f"1.{kind} cannot be read"):
        load_images(tmp_path)


def test_a_tiff_of_several_pages_is_no_image(tmp_path, rng):
    first, *others = map(Image.fromarray, rng.integers(0, 255, size=(3, 4, 5), dtype=np.uint8))
    first.save(tmp_path / "1.tif", save_all=True, append_images=others)
    with pytest.raises(ValueError, match="1.tif has 3 pages; a file with one image is needed"):
        load_images(tmp_path)


def test_smaller_copies_in_a_tiff_and_previews_in_a_photograph_are_no_pages(tmp_path):
    page = np.arange(40, dtype=np.uint8).reshape(5, 8)
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "1.tif"), True) as file:
        Image.fromarray(page).save(file, "TIFF")
        file.newFrame()
        Image.fromarray(page[::2, ::2]).save(file, "TIFF", tiffinfo={254: 1})
    np.testing.assert_array_equal(load_images(tmp_path).data[0], page)
    photograph, preview = (Image.new("RGB", size, "red") for size in ((8, 6), (4, 3)))
    photograph.save(tmp_path / "2.jpg", "MPO", save_all=True, append_images=[preview])
    assert load_images([tmp_path / "2.jpg"]).data.shape == (1, 6, 8, 3)


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
        found = load_images([tmp_path / f"1.{kind}"]).data[0]
        assert found.shape == scene.shape
        np.testing.assert_allclose(found, scene, atol=2 if kind == "jpg" else 0)


def test_a_note_of_the_camera_that_cannot_be_read_says_nothing(tmp_path):
    Image.new("L", (9, 6)).save(tmp_path / "1.jpg", exif=b"Exif\0\0no note")
    assert load_images(tmp_path).data.shape == (1, 6, 9)


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
        found = load_images(tmp_path, size=(2, 2), grey=True)
    assert found.data.shape == (7, 2, 2)
    for name in ("notes.txt", "a.xcf", "b.xcf", "README"):
        (tmp_path / name).write_bytes(b"no image")
    message = r"4 of 11 files in the folder .* are not read: .txt \(1\), .xcf \(2\), no suffix \(1\)\."
    with pytest.warns(UserWarning, match=message) as caught:
        assert len(load_images(tmp_path, size=(2, 2), grey=True).data) == 7
    assert len(caught) == 1 and caught[0].filename == __file__


def test_a_folder_below_a_hidden_one_is_read(tmp_path):
    (folder := tmp_path / ".cache" / "parts").mkdir(parents=True)
    Image.new("L", (5, 4)).save(folder / "1.png")
    assert len(load_images(folder).data) == 1


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_grey_of_sixteen_bits_can_be_scaled(order, tmp_path, rng):
    image = rng.integers(0, 2**16, size=(8, 12)).astype(order)
    Image.fromarray(image).save(tmp_path / "1.tif")
    found = load_images(tmp_path, grey=True).data
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[0], image)
    scaled = load_images(tmp_path, size=(4, 6), grey=True).data[0].astype(int)
    means = np.array(Image.fromarray(image.astype(np.float32)).resize((6, 4), Image.Resampling.BILINEAR))
    assert np.abs(scaled - means).max() <= 0.51
    white = Image.fromarray(np.full((8, 12), 65535, dtype=np.uint16))
    white.save(tmp_path / "1.tif")
    assert (load_images(tmp_path, size=(3, 5)).data == 65535).all()


def test_images_of_one_bit_are_black_and_white(tmp_path, rng):
    image = rng.random((8, 12)) < 0.5
    Image.fromarray(image).save(tmp_path / "1.png")
    np.testing.assert_array_equal(load_images(tmp_path).data[0], 255 * image.astype(np.uint8))
    scaled = load_images(tmp_path, size=(4, 6), grey=True).data
    assert scaled.dtype == np.uint8 and 0 < scaled.mean() < 255


def test_colours_of_print_are_those_of_the_screen(tmp_path):
    Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK").save(tmp_path / "1.jpg", quality=100)
    found = load_images(tmp_path).data[0]
    np.testing.assert_allclose(found.reshape(-1, 3).mean(axis=0), (200, 40, 90), atol=3)


def test_colours_of_a_palette_are_read(tmp_path, rng):
    colours = rng.choice([0, 255], size=(6, 8, 3)).astype(np.uint8)
    Image.fromarray(colours).quantize(8).save(tmp_path / "1.png")
    np.testing.assert_array_equal(load_images(tmp_path).data[0], colours)
