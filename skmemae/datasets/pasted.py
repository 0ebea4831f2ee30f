"""Anomalies that are made from normal videos, to choose parameters without a label."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from sklearn.utils import Bunch, check_random_state

_FACTORS = {"fast": (1.5, 2.2), "large": (1.25, 1.6)}  # speed or size of what is abnormal, times its own
_CONTRAST = 20  # grey levels by which what moves differs from the background
_AREA = (0.0005, 0.02)  # of a frame
_LEAST_FRAMES = 24  # of a track
_STEP = 0.03  # of the diagonal, that what moves moves at most from a frame to the next
_NORMAL = 6  # tracks at their own speed and size that are pasted into a video
_EDGE = 0.7  # deviation of the blur of a cutout's border, in pixels


class Track(NamedTuple):
    """What moves through a video, cut out of consecutive frames."""

    cutouts: list  # arrays of shape (h, w), float32
    masks: list  # arrays of shape (h, w), float32 in [0, 1]: how much of the cutout shows
    corners: np.ndarray  # (n_frames, 2), the first row and column of each

    def played(self, speed, size):
        """The same at another speed and size, around the same places."""
        numbers = np.floor(np.arange(0, len(self.cutouts) - 0.5, speed)).astype(int)
        cutouts = [ndimage.zoom(self.cutouts[i], size, order=1) for i in numbers]
        masks = [ndimage.zoom(self.masks[i], size, order=1) for i in numbers]
        grown = [np.subtract(mask.shape, self.masks[i].shape) // 2 for mask, i in zip(masks, numbers, strict=True)]
        return Track(cutouts, masks, self.corners[numbers] - grown)


def make_pasted_anomalies(videos, n_test=3, random_state=None):
    """Make test videos with known anomalies from videos without any, of a fixed camera.

    What moves in a video is cut out, frame by frame, and pasted into the same video at another time, in the same places. Two
    copies of each test video get several at their own speed and size, which is normal, and one that is abnormal: in the first
    copy 1.5 to 2.2 times as fast, in the second 1.25 to 1.6 times as large.

    Parameters
    ----------
    videos : list of ndarray of shape (T, H, W), uint8
        Grey videos without anomalies.
    n_test : int, default=3
        How many of them become test videos; the others are for training.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    dataset : Bunch
        ``train`` and ``test``, ``labels``, ``masks`` and ``name`` as of :func:`load_ped2`.

    Raises
    ------
    ValueError
        If there are too few videos, or nothing can be cut out of a test video.

    Examples
    --------
    >>> import numpy as np
    >>> from skmemae.datasets import make_pasted_anomalies
    >>> videos = np.full((2, 60, 40, 60), 200, dtype=np.uint8)
    >>> for t in range(60):
    ...     videos[:, t, 20:25, 2 + t // 2 : 5 + t // 2] = 0
    >>> dataset = make_pasted_anomalies(list(videos), n_test=1, random_state=0)
    >>> len(dataset.train), len(dataset.test), dataset.labels[0].shape
    (1, 2, (60,))
    """
    if not 1 <= n_test < len(videos):
        raise ValueError(
            f"The 'n_test' parameter of make_pasted_anomalies must be an int in the range [1, {len(videos)}), so that of the "
            f"{len(videos)} videos one is left to train on. Got {n_test!r} instead."
        )
    rng = check_random_state(random_state)
    chosen = np.sort(rng.permutation(len(videos))[:n_test])
    made = []
    for number in chosen:
        tracks = find_tracks(videos[number])
        if not tracks:
            raise ValueError(f"Nothing that moves could be cut out of videos[{number}] for {_LEAST_FRAMES} frames.")
        made += [_paste_all(videos[number], tracks, kind, rng) for kind in _FACTORS]
    test, masks = map(list, zip(*made, strict=True))
    return Bunch(
        train=[video for number, video in enumerate(videos) if number not in chosen],
        test=test,
        labels=[mask.any(axis=(1, 2)).astype(int) for mask in masks],
        masks=masks,
        name="pasted anomalies",
    )


def find_tracks(video):
    """What moves through a video: a list of tracks, each of at least 24 frames.

    Parameters
    ----------
    video : ndarray of shape (T, H, W), uint8
    """
    background = np.median(video, axis=0)
    _, height, width = video.shape
    open_tracks: list[list] = []
    closed: list[list] = []
    for frame in video:
        moving = ndimage.binary_closing(np.abs(frame - background) > _CONTRAST, iterations=2)
        labels, _ = ndimage.label(moving)
        found = []
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            mask = labels[box] == number
            inside = all(side.start > 0 and side.stop < limit for side, limit in zip(box, (height, width), strict=True))
            if inside and _AREA[0] <= mask.sum() / (height * width) <= _AREA[1]:
                found.append((frame[box].astype(np.float32), mask, np.array([side.start for side in box])))
        open_tracks, ended = _continue(open_tracks, found, _STEP * np.hypot(height, width))
        closed += ended
    return [_track(parts) for parts in closed + open_tracks if len(parts) >= _LEAST_FRAMES]


def _continue(tracks, found, step):
    """Tracks that go on with what was found in the next frame, new ones among them, and those that end."""
    going, ended, free = [], [], list(range(len(found)))
    for parts in tracks:
        near = [i for i in free if np.linalg.norm(_center(found[i]) - _center(parts[-1])) <= step]
        areas = [found[i][1].sum() / parts[-1][1].sum() for i in near]
        if len(near) == 1 and 0.6 < areas[0] < 1.6:  # else two have met or parted
            going.append([*parts, found[near[0]]])
            free.remove(near[0])
        else:
            ended.append(parts)
    return going + [[found[i]] for i in free], ended


def _center(part):
    return part[2] + np.array(part[1].shape) / 2


def _track(parts):
    """A track of cutouts with a pixel around them, whose borders are soft."""
    cutouts = [np.pad(cutout, 1, mode="edge") for cutout, _, _ in parts]
    masks = [ndimage.gaussian_filter(np.pad(mask, 1).astype(np.float32), _EDGE) for _, mask, _ in parts]
    return Track(cutouts, masks, np.array([corner - 1 for _, _, corner in parts]))


def _paste_all(video, tracks, kind, rng):
    """A copy of a video with normal tracks and an abnormal one, and where that is: (T, H, W), bool."""
    made, where = video.astype(np.float32), np.zeros(video.shape, dtype=bool)
    for _ in range(_NORMAL):
        _paste(made, tracks[rng.randint(len(tracks))], rng)
    factor = rng.uniform(*_FACTORS[kind])
    speed, size = (factor, 1.0) if kind == "fast" else (1.0, factor)
    longest = sorted(tracks, key=lambda track: -len(track.cutouts))[: max(1, len(tracks) // 2)]
    _paste(made, longest[rng.randint(len(longest))].played(speed, size), rng, where)
    return made.round().clip(0, 255).astype(np.uint8), where


def _paste(video, track, rng, where=None):
    """Paste a track from a random frame on, in place, and mark where."""
    start = rng.randint(max(1, len(video) - len(track.cutouts) + 1))
    for t, (cutout, mask, corner) in enumerate(zip(track.cutouts, track.masks, track.corners, strict=True), start=start):
        first = np.maximum(-corner, 0)
        last = np.minimum(cutout.shape, np.array(video.shape[1:]) - corner)
        inside = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        place = (t, *(slice(c + a, c + b) for c, a, b in zip(corner, first, last, strict=True)))
        video[place] += mask[inside] * (cutout[inside] - video[place])
        if where is not None:
            where[place] |= mask[inside] > 0.5
