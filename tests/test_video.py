"""Videos are read, cut into clips, and scored by frames."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from figures.memory import anonymous_memory
from skmemae import MemAEDetector
from skmemae.video import ClipWindows, OnlineNormality, frame_maps, frame_scores, normality_score


@pytest.fixture
def videos(rng):
    return [rng.integers(0, 255, size=(n, 12, 14), dtype=np.uint8) for n in (20, 9, 33)]


@pytest.fixture
def detector(videos):
    return MemAEDetector(max_epochs=2, random_state=0).fit(ClipWindows(length=6).fit_transform(videos))


@pytest.mark.parametrize("stride", [1, 3])
def test_clips_are_the_windows_of_each_video(videos, stride):
    clips = ClipWindows(length=6, stride=stride).fit_transform(videos)
    expected = np.concatenate([np.lib.stride_tricks.sliding_window_view(v, 6, axis=0)[::stride] for v in videos])
    expected = np.moveaxis(expected, -1, 1)[:, None]
    assert clips.shape == expected.shape and clips.ndim == 5 and len(clips) == len(expected)
    for rows in (slice(None), slice(2, 5), [4, 0, 4], 3, -1, np.arange(len(clips)) % 2 == 0):
        np.testing.assert_array_equal(clips[rows], expected[rows])
    np.testing.assert_array_equal(np.asarray(clips), expected)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_clips_of_changes_hold_what_differs_from_the_frame_before_in_cells(rng, channels):
    videos = [rng.integers(0, 255, size=(n, 9, 14, *channels), dtype=np.uint8) for n in (12, 7)]
    clips = ClipWindows(length=4, stride=2, changes=True, cell=2).fit_transform(videos)
    expected = []
    for video in videos:
        change = np.abs(np.diff(video.astype(float), axis=0))[:, :8]
        cells = change.reshape(len(change), 4, 2, 7, 2, -1).mean(axis=(2, 4))
        expected += [np.moveaxis(cells[t : t + 4], -1, 0) for t in range(0, len(cells) - 3, 2)]
    assert clips.shape == (6, 3 if channels else 1, 4, 4, 7) and clips.dtype == np.float32
    np.testing.assert_allclose(np.asarray(clips), expected, rtol=1e-6)
    np.testing.assert_allclose(clips[[5, 1, 5]], np.stack([expected[i] for i in (5, 1, 5)]), rtol=1e-6)
    # The first change is that of frame 1, so the first clip centres on frame 3.
    np.testing.assert_array_equal(frame_scores(np.arange(6), clips)[1], [4, 4, 4, 4, 4.5, 5, 5])


def test_clips_do_not_copy_the_videos(tmp_path, rng):
    file = np.lib.format.open_memmap(tmp_path / "video.npy", mode="w+", dtype=np.uint8, shape=(40, 8, 8))
    file[:] = rng.integers(0, 255, size=file.shape)
    clips = ClipWindows(length=8).fit_transform([np.load(tmp_path / "video.npy", mmap_mode="r")])
    assert isinstance(clips.videos[0], np.memmap)
    colours = rng.uniform(size=(20, 8, 8, 3)).astype(np.float32)
    clips = ClipWindows(length=8).fit_transform([colours])
    assert clips.shape == (13, 3, 8, 8, 8) and np.shares_memory(clips.videos[0], colours)
    np.testing.assert_array_equal(clips[2][1], colours[2:10, ..., 1])


def test_a_detector_takes_clips_for_the_array_that_they_stand_for(videos):
    clips = ClipWindows(length=6).fit_transform(videos)
    # Of clips of videos neighbours are held out together.
    settings = {"max_epochs": 2, "validation_fraction": 0, "random_state": 0}
    detector, as_array = MemAEDetector(**settings).fit(clips), MemAEDetector(**settings).fit(np.asarray(clips))
    np.testing.assert_array_equal(detector.decision_scores_, as_array.decision_scores_)
    np.testing.assert_array_equal(detector.decision_function(clips), as_array.decision_function(np.asarray(clips)))
    assert detector.sample_shape_ == (1, 6, 12, 14)
    with pytest.raises(ValueError, match="features"):
        detector.decision_function(ClipWindows(length=6).fit_transform([np.zeros((8, 12, 14, 3))]))
    with pytest.raises(ValueError, match="minimum of 2"):
        MemAEDetector().fit(ClipWindows(length=9).fit_transform(videos[1:2]))


def test_videos_go_through_a_pipeline(videos, detector):
    steps = Pipeline([("clips", ClipWindows(length=6)), ("memae", MemAEDetector(max_epochs=2, random_state=0))]).fit(videos)
    clips = ClipWindows(length=6).fit_transform(videos)
    np.testing.assert_array_equal(steps.decision_function(videos), detector.decision_function(clips))


def test_frames_get_the_score_of_the_clip_that_centres_on_them(videos):
    clips = ClipWindows(length=6).fit_transform(videos)
    scores = np.arange(len(clips), dtype=float)
    frames = frame_scores(scores, clips)
    assert [len(f) for f in frames] == [20, 9, 33]
    np.testing.assert_array_equal(frames[1], 15 + np.array([0, 0, 0, 0, 1, 2, 3, 3, 3]))
    sparse = ClipWindows(length=6, stride=3).fit_transform(videos[1:2])
    np.testing.assert_allclose(frame_scores([0, 3], sparse)[0], [0, 0, 0, 0, 1, 2, 3, 3, 3])
    with pytest.raises(ValueError, match="one score for each of 47 clips"):
        frame_scores(scores[1:], clips)


def test_normality_runs_from_one_to_zero_within_each_video():
    found = normality_score([[1.0, 3.0, 2.0], [5.0, 5.0], [100.0, 0.0]])
    np.testing.assert_allclose(np.concatenate(found), [1, 0, 0.5, 1, 1, 0, 1])


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
def test_a_batch_of_maps_needs_a_positive_int(videos, detector, batch_size):
    clips = ClipWindows(length=6).fit_transform(videos)
    with pytest.raises(ValueError, match=rf"'batch_size' parameter of frame_maps must be a positive int. Got {batch_size}"):
        frame_maps(detector, clips, batch_size=batch_size)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_maps_cover_every_frame_from_the_nearest_clip(videos, detector, stride):
    clips = ClipWindows(length=6, stride=stride).fit_transform(videos)
    maps = frame_maps(detector, clips, batch_size=7)
    for i, (video, found) in enumerate(zip(videos, maps, strict=True)):
        assert found.shape == video.shape
        rows = np.flatnonzero(clips.video == i)
        whole = detector.anomaly_map(clips[rows])[:, 0]
        for t in range(len(video)):
            nearest = np.argmin(np.abs(clips.start[rows] + 3 - t))
            at = np.clip(t, clips.start[rows][nearest], clips.start[rows][nearest] + 5)
            np.testing.assert_allclose(found[t], whole[nearest][at - clips.start[rows][nearest]], rtol=1e-5)


def test_frames_one_at_a_time_score_like_the_whole_video(videos, detector):
    online = OnlineNormality(detector, ClipWindows(length=6).fit(videos))
    live = np.array([online.push(frame) for frame in videos[2]])
    errors = frame_scores(detector.decision_function(clips := ClipWindows(length=6).fit_transform(videos[2:])), clips)[0]
    least, most = detector.decision_scores_.min(), detector.decision_scores_.max()
    assert np.isnan(live[:5]).all()
    with pytest.raises(ValueError, match=r"The frame has shape \(14, 12\), but OnlineNormality is expecting \(12, 14\)"):
        online.push(videos[2][0].T)
    np.testing.assert_allclose(live[5:], 1 - (errors[5 - online.delay : len(errors) - online.delay] - least) / (most - least))


def test_changes_in_cells_are_scored_live_and_mapped_in_pixels(rng):
    video = rng.integers(0, 255, size=(14, 9, 13), dtype=np.uint8)
    clips = (windows := ClipWindows(length=5, changes=True, cell=2)).fit_transform([video])
    det = MemAEDetector(max_epochs=1, random_state=0).fit(clips)
    online = OnlineNormality(det, windows)
    live = np.array([online.push(frame) for frame in video])
    assert np.isnan(live[:5]).all()
    np.testing.assert_array_equal(np.argsort(live[5:]), np.argsort(-det.decision_function(clips)))
    found, cells = frame_maps(det, clips)[0], det.anomaly_map(clips)[:, 0]
    assert found.shape == video.shape
    np.testing.assert_allclose(found[7, :8, :12], cells[4, 2].repeat(2, axis=0).repeat(2, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found[:, 8], found[:, 7])
    np.testing.assert_array_equal(found[:, :, 12], found[:, :, 11])


@pytest.mark.parametrize("length", [1, 3])
def test_colours_are_not_taken_for_frames(rng, length):
    video = rng.uniform(size=(12, 8, 8, 3))
    det = MemAEDetector(max_epochs=1, random_state=0).fit(clips := (windows := ClipWindows(length)).fit_transform([video]))
    assert det.sample_shape_ == (3, length, 8, 8)
    assert frame_maps(det, clips)[0].shape == (12, 8, 8)
    online = OnlineNormality(det, windows)
    live = [online.push(frame) for frame in video][length - 1 :]
    np.testing.assert_array_equal(np.argsort(live), np.argsort(-det.decision_function(clips)))


def test_maps_add_up_the_channels(rng):
    det = MemAEDetector(max_epochs=1, random_state=0).fit(
        clips := ClipWindows(3).fit_transform([rng.uniform(size=(12, 8, 8, 3))])
    )
    expected = det.anomaly_map(clips[4:5])[0].sum(axis=0)[1]  # its middle frame is the sixth of the video
    np.testing.assert_allclose(frame_maps(det, clips)[0][5], expected, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_small_changes_of_large_numbers_are_seen(rng, dtype):
    changes = rng.integers(0, 5, size=(6, 6))
    clips = ClipWindows(1, changes=True).fit_transform([np.stack([10**8 + 0 * changes, 10**8 + changes]).astype(dtype)])
    assert clips.dtype == np.float32
    np.testing.assert_array_equal(clips[0][0, 0], changes)


def test_numbers_beyond_float32_are_named_where_it_is_needed():
    video = np.full((9, 8, 8), 1e300)
    assert ClipWindows(4).fit_transform([video]).dtype == np.float64
    for parameters in ({"changes": True}, {"cell": 2}):
        with pytest.raises(ValueError, match=r"Video 0 holds numbers beyond 1e\+30"):
            ClipWindows(4, **parameters).fit_transform([video])


def test_frames_smaller_than_a_cell_are_named():
    with pytest.raises(ValueError, match="smaller than a cell of 9"):
        ClipWindows(3, cell=9).fit([np.zeros((8, 8, 8))])


def test_files_are_read_once(monkeypatch):
    read = []
    monkeypatch.setattr("skmemae.video.clips.read_video", lambda path: read.append(path) or np.zeros((9, 8, 8)))
    ClipWindows(4).fit_transform(["a", "b"])
    assert read == ["a", "b"]


def test_a_transform_does_not_change_what_fit_learned(videos):
    windows = ClipWindows(length=6).fit(videos)
    before = dict(vars(windows))
    windows.transform(videos[:1])
    assert vars(windows) == before


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([np.zeros((4, 12, 14))], "Video 0 has 4 frames, but a clip needs 6"),
        ([np.zeros((8, 12, 14)), np.zeros((8, 12, 15))], r"Video 1 has frames of shape \(12, 15\)"),
        ([np.zeros((8, 12, 14, 3))], r"Video 0 has frames of shape \(12, 14, 3\), but ClipWindows is expecting \(12, 14\)"),
        ([np.full((8, 12, 14), np.nan)], "Video 0 contains NaN"),
        ([np.zeros((8, 12))], "Video 0 has shape"),
        ([np.zeros((8, 12, 14), dtype=object)], "dtype object"),
        (np.zeros((8, 12, 14)), "list of videos"),
        ([], "at least one video"),
    ],
)
def test_bad_videos_are_named(videos, bad, message):
    windows = ClipWindows(length=6).fit(videos)
    with pytest.raises(ValueError, match=message):
        windows.transform(bad)
    with pytest.raises(ValueError, match="'length' parameter of ClipWindows"):
        ClipWindows(length=0).fit(videos)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to see what a process holds")
def test_a_long_video_stays_on_the_disk(tmp_path, rng):
    # A file of a gigabyte, of which only the frames of the clips are written.
    video = np.lib.format.open_memmap(tmp_path / "video.npy", mode="w+", dtype=np.uint8, shape=(262_144, 64, 64))
    video.reshape(-1, 2048, 64, 64)[:, :8] = rng.integers(0, 255, size=(8, 64, 64), dtype=np.uint8)
    n_bytes = video.nbytes
    del video
    clips = ClipWindows(length=8, stride=2048).fit_transform([np.load(tmp_path / "video.npy", mmap_mode="r")])
    narrow = {"widths": (2, 2, 4, 4), "memory_size": 10, "batch_size": 4, "max_epochs": 1, "random_state": 0}
    MemAEDetector(**narrow).fit(clips[:8])  # what is loaded at first use is not what is measured
    with anonymous_memory() as held:
        detector = MemAEDetector(**narrow).fit(clips)
        detector.decision_function(clips)
    assert max(held) - held[0] < n_bytes / 3


def test_live_scores_survive_a_reused_buffer_and_a_bad_frame():
    video = np.random.default_rng(0).random((30, 12, 12))
    windows = ClipWindows(length=4)
    det = MemAEDetector(max_epochs=1, random_state=0).fit(windows.fit_transform([video]))
    expected, online = (OnlineNormality(det, windows) for _ in range(2))
    buffer = np.empty_like(video[0])
    for i, frame in enumerate(video):
        buffer[:] = frame
        np.testing.assert_equal(online.push(buffer), expected.push(frame))
        if i == 10:
            with pytest.raises(ValueError, match="finite"):
                online.push(np.full_like(frame, np.nan))
    assert np.isfinite(online.push(np.full_like(video[0], 1e30)))


@pytest.mark.parametrize("n_before", [0, 2, 9])
def test_a_frame_that_is_refused_is_not_added(n_before):
    video = np.random.default_rng(0).random((30, 12, 12))
    windows = ClipWindows(length=4, changes=True)
    det = MemAEDetector(max_epochs=1, random_state=0).fit(windows.fit_transform([video]))
    expected, online = (OnlineNormality(det, windows) for _ in range(2))
    for frame in video[:n_before]:
        np.testing.assert_equal(online.push(frame), expected.push(frame))
    with pytest.raises(ValueError, match=r"holds numbers beyond 1e\+30"):
        online.push(np.full((12, 12), 1e300))
    for frame in video[n_before:]:
        np.testing.assert_equal(online.push(frame), expected.push(frame))


def test_a_bool_is_no_length_of_clips(videos):
    with pytest.raises(ValueError, match="'length' parameter"):
        ClipWindows(length=True).fit(videos)
