"""Make anomalies from normal videos, to choose parameters without labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from sklearn.utils import Bunch, check_random_state

from skmemae._validation import check_positive_int

_FACTORS = {"fast": (1.5, 2.2), "large": (1.25, 1.6)}  # by which the speed or the size of an abnormal object is multiplied
_CONTRAST = 20  # grey levels: smallest difference of a moving object from the background
_AREA = (0.0005, 0.02)  # smallest and largest object, as a share of the frame
_LEAST_FRAMES = 24  # length of the shortest track
_STEP = 0.03  # longest way of an object from one frame to the next, as a share of the frame's diagonal
_NORMAL = 6  # number of tracks that are pasted into a video at their own speed and size
_EDGE = 0.7  # standard deviation, in pixels, of the blur of a cutout's border


class _Cutout(NamedTuple):
    """A moving object in one frame."""

    image: np.ndarray  # (h, w), float32
    mask: np.ndarray  # (h, w), bool, True on the object
    corner: np.ndarray  # row and column of the image's first pixel in the frame

    @property
    def centre(self) -> np.ndarray:
        return self.corner + np.array(self.mask.shape) / 2


class Track(NamedTuple):
    """A moving object, cut out of consecutive frames."""

    cutouts: list[np.ndarray]  # of shape (h, w), float32
    masks: list[np.ndarray]  # of shape (h, w), float32 in [0, 1]: opacity of the cutout
    corners: np.ndarray  # (n_frames, 2), row and column of each cutout's first pixel in the frame

    def played(self, speed: float, size: float) -> "Track":
        """Copy of the track at another speed and size, with the same centres."""
        numbers = np.floor(np.arange(0, len(self.cutouts) - 0.5, speed)).astype(int)
        cutouts = [ndimage.zoom(self.cutouts[i], size, order=1) for i in numbers]
        masks = [ndimage.zoom(self.masks[i], size, order=1) for i in numbers]
        grown = [np.subtract(mask.shape, self.masks[i].shape) // 2 for mask, i in zip(masks, numbers, strict=True)]
        return Track(cutouts, masks, self.corners[numbers] - grown)


def make_pasted_anomalies(
    videos: Sequence[np.ndarray],
    n_test: int = 3,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Make test videos with known anomalies from normal videos of a fixed camera.

    Moving objects are cut out of a video, frame by frame, and pasted into the same video at another time, in the same places.
    Two copies of each test video get several objects at their own speed and size, which is normal, and one that is abnormal: in
    the first copy 1.5 to 2.2 times as fast, in the second 1.25 to 1.6 times as large.

    Parameters
    ----------
    videos : list of ndarray of shape (T, H, W), uint8
        Grey videos without anomalies.
    n_test : int, default=3
        Number of videos that become test videos; the others are for training.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    dataset : Bunch
        ``train`` and ``test``, ``labels``, ``masks`` and ``name`` as :func:`load_ped2` returns them.

    Raises
    ------
    ValueError
        If ``n_test`` is not a positive int, no video is left to train on, or nothing can be cut out of a test video.

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
    n_test = check_positive_int("n_test", n_test, "make_pasted_anomalies")
    if n_test >= len(videos):
        raise ValueError(
            f"The 'n_test' parameter of make_pasted_anomalies must be less than the number of videos, {len(videos)}, so that "
            f"one is left to train on. Got {n_test!r} instead."
        )
    rng = check_random_state(random_state)
    chosen = np.sort(rng.permutation(len(videos))[:n_test])
    made = []
    for number in chosen:
        tracks = find_tracks(videos[number])
        if not tracks:
            raise ValueError(f"No moving object could be cut out of videos[{number}] for {_LEAST_FRAMES} frames.")
        made += [_paste_all(videos[number], tracks, kind, rng) for kind in _FACTORS]
    test, masks = map(list, zip(*made, strict=True))
    return Bunch(
        train=[video for number, video in enumerate(videos) if number not in chosen],
        test=test,
        labels=[mask.any(axis=(1, 2)).astype(int) for mask in masks],
        masks=masks,
        name="pasted anomalies",
    )


def find_tracks(video: np.ndarray) -> list[Track]:
    """Find the objects that move through a video for at least 24 frames.

    Parameters
    ----------
    video : ndarray of shape (T, H, W), uint8

    Returns
    -------
    tracks : list of Track
    """
    background = np.median(video, axis=0)
    step = _STEP * np.hypot(*video.shape[1:])
    open_tracks: list[list[_Cutout]] = []
    closed: list[list[_Cutout]] = []
    for frame in video:
        open_tracks, ended = _continue(open_tracks, _moving_objects(frame, background), step)
        closed += ended
    return [_track(cutouts) for cutouts in closed + open_tracks if len(cutouts) >= _LEAST_FRAMES]


def _moving_objects(frame: np.ndarray, background: np.ndarray) -> list[_Cutout]:
    """Connected parts of a frame that differ from the background, have the size of an object and do not touch the border."""
    moving = ndimage.binary_closing(np.abs(frame - background) > _CONTRAST, iterations=2)
    labels, _ = ndimage.label(moving)
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        mask = labels[box] == number
        inside = all(side.start > 0 and side.stop < limit for side, limit in zip(box, frame.shape, strict=True))
        if inside and _AREA[0] <= mask.sum() / frame.size <= _AREA[1]:
            found.append(_Cutout(frame[box].astype(np.float32), mask, np.array([side.start for side in box])))
    return found


def _continue(
    tracks: list[list[_Cutout]], found: list[_Cutout], step: float
) -> tuple[list[list[_Cutout]], list[list[_Cutout]]]:
    """Append the objects of the next frame to the tracks; return the open tracks, new ones included, and the ended ones."""
    going, ended, free = [], [], list(range(len(found)))
    for cutouts in tracks:
        last = cutouts[-1]
        near = [i for i in free if np.linalg.norm(found[i].centre - last.centre) <= step]
        growth = [found[i].mask.sum() / last.mask.sum() for i in near]
        if len(near) == 1 and 0.6 < growth[0] < 1.6:  # otherwise two objects have met or parted
            going.append([*cutouts, found[near[0]]])
            free.remove(near[0])
        else:
            ended.append(cutouts)
    return going + [[found[i]] for i in free], ended


def _track(cutouts: list[_Cutout]) -> Track:
    """Track of cutouts with a margin of one pixel and soft borders."""
    images = [np.pad(cutout.image, 1, mode="edge") for cutout in cutouts]
    masks = [ndimage.gaussian_filter(np.pad(cutout.mask, 1).astype(np.float32), _EDGE) for cutout in cutouts]
    return Track(images, masks, np.array([cutout.corner - 1 for cutout in cutouts]))


def _paste_all(video: np.ndarray, tracks: list[Track], kind: str, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Copy of a video with normal tracks and an abnormal one, and the mask of the abnormal one: (T, H, W), bool."""
    made, where = video.astype(np.float32), np.zeros(video.shape, dtype=bool)
    for _ in range(_NORMAL):
        _paste(made, tracks[rng.randint(len(tracks))], rng)
    factor = rng.uniform(*_FACTORS[kind])
    speed, size = (factor, 1.0) if kind == "fast" else (1.0, factor)
    longest = sorted(tracks, key=lambda track: -len(track.cutouts))[: max(1, len(tracks) // 2)]
    _paste(made, longest[rng.randint(len(longest))].played(speed, size), rng, where)
    return made.round().clip(0, 255).astype(np.uint8), where


def _paste(video: np.ndarray, track: Track, rng: np.random.RandomState, where: np.ndarray | None = None) -> None:
    """Paste a track into a video in place, from a random frame on, and set the mask ``where`` on the object."""
    start = rng.randint(max(1, len(video) - len(track.cutouts) + 1))
    for t, (cutout, mask, corner) in enumerate(zip(track.cutouts, track.masks, track.corners, strict=True), start=start):
        first = np.maximum(-corner, 0)
        last = np.minimum(cutout.shape, np.array(video.shape[1:]) - corner)
        inside = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        place: tuple[int | slice, ...] = (t, *(slice(c + a, c + b) for c, a, b in zip(corner, first, last, strict=True)))
        video[place] += mask[inside] * (cutout[inside] - video[place])
        if where is not None:
            where[place] |= mask[inside] > 0.5
