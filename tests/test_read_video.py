"""Video files and folders of frames are read as people see them, and what is missing is said."""

import sys
import warnings
import wave

import av
import numpy as np
import pytest
from media import set_display_matrix, write_video
from PIL import Image

from skmemae.datasets import load_images
from skmemae.video import ClipWindows, read_video


@pytest.fixture
def moving(rng):
    """Two seconds of a pattern that moves, (50, 32, 64, 3)."""
    pattern = rng.integers(0, 255, size=(4, 8, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    return np.stack([np.roll(pattern, 3 * t, axis=1) for t in range(50)])


@pytest.mark.parametrize("read", [read_video, load_images])
def test_without_pillow_the_extra_is_named(read, tmp_path, monkeypatch):
    (tmp_path / "0.png").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"Images are read with Pillow: .*skmemae\[video\]"):
        read(tmp_path)


def test_videos_are_read_without_pillow(tmp_path, moving, monkeypatch):
    write_video(tmp_path / "video.mp4", moving[:4])
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert read_video(tmp_path / "video.mp4").shape == (4, 32, 64, 3)


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "video.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"Videos are read with PyAV: .*skmemae\[video\]"):
        read_video(tmp_path / "video.mp4")


def test_a_folder_of_frames_is_a_video(tmp_path, rng):
    video = rng.integers(0, 255, size=(12, 10, 8), dtype=np.uint8)
    for i, frame in enumerate(video):
        Image.fromarray(frame).save(tmp_path / f"frame{i}.png")
    (tmp_path / "._frame0.png").write_bytes(b"what macOS notes of a file")
    np.testing.assert_array_equal(read_video(tmp_path), video)
    assert ClipWindows(length=4).fit_transform([tmp_path]).shape == (9, 1, 4, 10, 8)
    Image.fromarray(video[0, :5]).save(tmp_path / "frame12.png")
    with pytest.raises(ValueError, match="frame12.png has shape"):
        read_video(tmp_path)
    Image.fromarray(video[0].astype(np.uint16)).save(tmp_path / "frame12.png")
    for out in (None, tmp_path / "video.npy"):
        with pytest.raises(ValueError, match="frame12.png has dtype uint16, but .*frame0.png has uint8"):
            read_video(tmp_path, out=out)
    (tmp_path / "frame12.png").write_bytes(b"no picture")
    with pytest.raises(OSError, match="frame12.png cannot be read"):
        read_video(tmp_path)
    with pytest.raises(OSError, match="frame12.png cannot be read"):
        read_video(tmp_path, out=tmp_path / "video.npy")
    assert not list(tmp_path.glob("video*"))
    with pytest.raises(FileNotFoundError, match="neither a file nor a folder of frames"):
        read_video(tmp_path / "missing")


def test_frames_are_changed_and_written_on_the_way(tmp_path, rng):
    video = rng.integers(0, 255, size=(11, 8, 12, 3), dtype=np.uint8)
    (tmp_path / "frames").mkdir()
    for i, frame in enumerate(video):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{i}.png")
    written = read_video(tmp_path / "frames", out=tmp_path / "video.npy")
    assert isinstance(written, np.memmap) and not written.flags.writeable
    np.testing.assert_array_equal(written, video)
    small = read_video(tmp_path / "frames", size=(4, 6), grey=True, out=tmp_path / "small.npy")
    brightness = (video @ [0.299, 0.587, 0.114]).reshape(11, 4, 2, 6, 2).mean(axis=(2, 4))
    assert small.shape == (11, 4, 6) and np.corrcoef(small.ravel(), brightness.ravel())[0, 1] > 0.9
    np.testing.assert_array_equal(small, read_video(tmp_path / "frames", size=(4, 6), grey=True))
    Image.fromarray(rng.integers(0, 60000, size=(8, 12), dtype=np.uint16)).save(tmp_path / "frames" / "11.png")
    with pytest.raises(ValueError, match="11.png has dtype uint16, but .*0.png has uint8"):
        read_video(tmp_path / "frames", grey=True)
    with pytest.raises(ValueError, match="'size' parameter of read_video"):
        read_video(tmp_path / "frames", size=(4, 0))


def test_a_video_file_is_a_video(tmp_path, rng):
    video = np.repeat(rng.integers(0, 255, size=(10, 4, 4, 3), dtype=np.uint8), 8, axis=1).repeat(8, axis=2)
    write_video(tmp_path / "video.mp4", video)
    found = read_video(tmp_path / "video.mp4")
    assert found.shape == video.shape and found.dtype == np.uint8
    assert np.corrcoef(found.ravel(), video.ravel())[0, 1] > 0.9  # the codec loses a little
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(OSError, match="broken.mp4 cannot be read"):
        read_video(tmp_path / "broken.mp4")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        file.writeframes(bytes(1600))
    with pytest.raises(OSError, match="sound.wav cannot be read: it has no frames"):
        read_video(tmp_path / "sound.wav")


@pytest.mark.parametrize(
    "matrix, shown",
    [
        ((0, 1, -1, 0), lambda v: np.rot90(v, -1, axes=(1, 2))),
        ((-1, 0, 0, -1), lambda v: v[:, ::-1, ::-1]),
        ((0, -1, 1, 0), lambda v: np.rot90(v, 1, axes=(1, 2))),
        ((-1, 0, 0, 1), lambda v: v[:, :, ::-1]),
        ((1, 0, 0, -1), lambda v: v[:, ::-1]),
        ((0, 1, 1, 0), lambda v: v.swapaxes(1, 2)),
        ((0, 0, 0, 0), lambda v: v),  # nothing could be seen: players take no notice
    ],
)
def test_videos_are_upright(tmp_path, moving, matrix, shown):
    path = tmp_path / "phone.mp4"
    write_video(path, moving[:6])
    expected = shown(read_video(path))
    set_display_matrix(path, *matrix)
    np.testing.assert_array_equal(read_video(path), expected)
    np.testing.assert_array_equal(read_video(path, out=tmp_path / "phone.npy"), expected)
    assert read_video(path, size=(8, 16), grey=True).shape == (6, 8, 16)
    assert ClipWindows(4).fit([path]).frame_shape_ == expected.shape[1:]


def test_a_video_shown_askew_is_an_error(tmp_path, moving):
    write_video(tmp_path / "askew.mp4", moving[:4])
    set_display_matrix(tmp_path / "askew.mp4", 0.71, 0.71, -0.71, 0.71)
    with pytest.raises(ValueError, match=r"askew.mp4 has the display matrix \[\[0.71, 0.71\], .* multiples of 90 degrees"):
        read_video(tmp_path / "askew.mp4")


@pytest.mark.parametrize("suffix, codec", [("mkv", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4"), ("mp4", "libx264")])
def test_half_a_video_is_said_to_be_half(tmp_path, moving, suffix, codec):
    write_video(tmp_path / f"whole.{suffix}", moving, codec=codec)
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    (half := tmp_path / f"half.{suffix}").write_bytes(content[: 3 * len(content) // 4])
    if suffix == "mp4":
        with pytest.raises(OSError, match=r"half.mp4 cannot be read: .*Invalid data"):
            read_video(half)
        return
    with pytest.warns(
        UserWarning, match=rf"half.{suffix} breaks off: it declares 2.00 seconds, but ends after [01]\."
    ) as caught:
        assert 10 < len(read_video(half)) < 45
    assert {warning.filename for warning in caught} == {__file__}


def test_half_a_video_without_its_index_is_an_error(tmp_path, moving):
    write_video(tmp_path / "whole.mov", moving)  # whose index is at the end
    content = (tmp_path / "whole.mov").read_bytes()
    (tmp_path / "half.mov").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match="half.mov cannot be read: .*Invalid data found when processing input"):
        read_video(tmp_path / "half.mov")


def test_damaged_frames_are_counted(tmp_path, moving):
    write_video(tmp_path / "video.mpg", moving, codec="mpeg2video")
    content = bytearray((tmp_path / "video.mpg").read_bytes())
    (tmp_path / "video.mpg").write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match=r"video.mpg is damaged: 1 of its \d+ frames could not be decoded in full"):
        read_video(tmp_path / "video.mpg")


def test_frames_that_nothing_can_be_decoded_from_are_said(tmp_path, moving):
    packets = []
    with av.open(str(tmp_path / "headless.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=32, pix_fmt="yuv420p")
        stream.gop_size = 25
        for frame in moving:
            packets += stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
        for packet in [*packets, *stream.encode()][1:]:  # without the frame that the next 24 are changes of
            container.mux(packet)
    with pytest.warns(UserWarning, match=r"headless.mkv is damaged: 0.96 seconds at its start or end could not be decoded"):
        assert len(read_video(tmp_path / "headless.mkv")) == 25


@pytest.mark.parametrize(
    "name, settings",
    [
        ("constant.mp4", {}),
        ("sound.mp4", {"sound": 4}),
        ("sound.mkv", {"sound": 4}),
        ("slow.mkv", {"fps": 1}),
        ("variable.mp4", {"times": np.cumsum(np.resize([17, 33, 33, 120, 40], 50))}),
        ("variable.mkv", {"times": np.cumsum(np.resize([17, 33, 33, 120, 40], 50))}),
        ("late.mp4", {"times": 90_000 + 40 * np.arange(50)}),
        ("late.mkv", {"times": 90_000 + 40 * np.arange(50)}),
        ("backwards.avi", {}),
        ("parts.avi", {"codec": "mpeg4"}),
        ("hidden.webm", {"codec": "libvpx-vp9"}),
        ("stream.ts", {}),
        ("program.mpg", {"codec": "mpeg2video"}),
        ("flash.flv", {"codec": "flv"}),
        ("bare.h264", {}),
    ],
)
def test_good_videos_are_read_without_a_warning(tmp_path, moving, name, settings):
    write_video(tmp_path / name, moving, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_video(tmp_path / name)) == len(moving)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_gap_in_time_is_said(tmp_path, moving, suffix):
    times = 40 * np.arange(50) + 2000 * (np.arange(50) > 24)
    write_video(tmp_path / f"gap.{suffix}", moving, times=times)
    with pytest.warns(UserWarning, match=r"has 1 gap\(s\) in time, .* of 2.04 seconds after frame 24 \(at 0.96 s") as caught:
        assert len(read_video(tmp_path / f"gap.{suffix}")) == 50
    assert len(caught) == 1 and caught[0].filename == __file__


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_grey_videos_of_many_bits_keep_them(tmp_path, rng, bits):
    video = rng.integers(0, 2**bits, size=(6, 10, 14)).astype(np.uint16)
    write_video(tmp_path / "thermal.mkv", video, codec="ffv1", pix_fmt=f"gray{bits}le")
    found = read_video(tmp_path / "thermal.mkv")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, video)
    small = read_video(tmp_path / "thermal.mkv", size=(5, 7), grey=True)
    assert small.dtype == np.uint16 and small.shape == (6, 5, 7) and abs(small.mean() / video.mean() - 1) < 0.05
    assert ClipWindows(4, changes=True).fit_transform([tmp_path / "thermal.mkv"]).shape == (2, 1, 4, 10, 14)


def test_files_of_a_folder_that_are_no_frames_are_counted(tmp_path):
    for name in ("0.png", "1.bmp"):
        Image.fromarray(np.zeros((4, 5), dtype=np.uint8)).save(tmp_path / name)
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "labels.json"):
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"2 of 4 files in the folder .* are not read: .json \(1\), .txt \(1\)") as caught:
        assert read_video(tmp_path, out=tmp_path / "video.npy").shape == (2, 4, 5)
    assert len(caught) == 1 and caught[0].filename == __file__


def test_frames_are_upright(tmp_path, rng):
    video = rng.integers(0, 255, size=(5, 6, 9), dtype=np.uint8)
    note = Image.Exif()
    note[0x0112] = 6
    for i, frame in enumerate(video):
        Image.fromarray(np.rot90(frame)).save(tmp_path / f"{i}.png", exif=note)
    np.testing.assert_array_equal(read_video(tmp_path), video)
