"""Turn scores of clips into scores and maps of frames, for a whole video or live."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skmemae._validation import check_positive_int

if TYPE_CHECKING:
    from skmemae._detector import MemAEDetector
    from skmemae.video.clips import Clips, ClipWindows


def frame_scores(scores: ArrayLike, clips: Clips) -> list[np.ndarray]:
    """Interpolate scores of frames from scores of clips.

    A clip's score goes to its centre frame (section 4.2 of the paper); the centre of a clip of even length is the frame after
    the middle, as in the authors' code. Scores are interpolated linearly between centres; frames before the first and after the
    last centre get the score of the nearest clip.

    Parameters
    ----------
    scores : array-like of shape (n_clips,)
    clips : Clips

    Returns
    -------
    scores : list of ndarray of shape (T,)
        One per video, in the order of ``clips.videos``; the direction is that of the scores of the clips.

    Raises
    ------
    ValueError
        If the number of scores is not the number of clips.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != clips.start.shape:
        raise ValueError(f"frame_scores needs one score for each of {len(clips)} clips; got an array of shape {scores.shape}.")
    centres = clips.start + clips.length // 2
    return [
        np.interp(np.arange(len(video)), centres[clips.video == i], scores[clips.video == i])
        for i, video in enumerate(clips.videos)
    ]


def frame_maps(detector: MemAEDetector, clips: Clips, batch_size: int = 64) -> list[np.ndarray]:
    """Compute the squared residuals of all pixels of all frames; a frame's are taken from the clip with the nearest centre.

    Parameters
    ----------
    detector : MemAEDetector
        Fitted on clips of the same shape.
    clips : Clips
    batch_size : int, default=64
        Number of clips whose maps are in memory at a time.

    Returns
    -------
    maps : list of ndarray of shape (T, H, W), float32
        One per video, in scaled units, summed over the channels; higher = more abnormal. Pixels of a cell share one value.

    Raises
    ------
    ValueError
        If ``batch_size`` is not a positive int, or the clips have another shape than those of ``fit``.
    """
    batch_size = check_positive_int("batch_size", batch_size, "frame_maps")
    maps = [np.empty(video.shape[:3], dtype=np.float32) for video in clips.videos]
    frame_ranges = _nearest_frames(clips)
    for first in range(0, len(clips), batch_size):
        rows = np.arange(len(clips))[first : first + batch_size]
        for row, clip in zip(rows, detector.anomaly_map(clips[rows]).sum(axis=1), strict=True):
            frames = np.arange(*frame_ranges[row])
            # With a stride, some frames may be in no clip: they get the map of the clip's nearest frame.
            errors = clip[np.clip(frames - clips.start[row], 0, clips.length - 1)]
            maps[clips.video[row]][frames] = errors if clips.cell == 1 else _pixels(errors, clips.cell, maps[0].shape[1:])
    return maps


def _pixels(cells: np.ndarray, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """Maps of pixels from maps of cells; pixels that were cut off get the value of the nearest cell."""
    rows, columns = (np.minimum(np.arange(n) // size, n // size - 1) for n in shape)
    return cells[:, rows[:, None], columns]


def _nearest_frames(clips: Clips) -> np.ndarray:
    """Ranges of the frames nearest to each clip's centre, (n_clips, 2), ends excluded; ties go to the earlier clip."""
    ranges = np.empty((len(clips), 2), dtype=int)
    for i, video in enumerate(clips.videos):
        centres = clips.start[clips.video == i] + clips.length // 2
        edges = np.r_[0, (centres[:-1] + centres[1:]) // 2 + 1, len(video)]
        ranges[clips.video == i] = np.column_stack([edges[:-1], edges[1:]])
    return ranges


def normality_score(errors: Iterable[ArrayLike]) -> list[np.ndarray]:
    """Compute the normality of frames: one minus the errors, scaled to [0, 1] in each video (p_u in section 4.2 of the paper).

    This score is for evaluation: it needs the whole video, and the best and the worst frame get 1 and 0 even if nothing
    abnormal happens. It is not the score that ``decision_function`` returns.

    Parameters
    ----------
    errors : list of array-like of shape (T,)
        Errors of the frames of each video, higher = more abnormal.

    Returns
    -------
    normality : list of ndarray of shape (T,)
        In [0, 1], higher = more normal; all 1 for a video whose errors are all equal.
    """
    normality = []
    for error in errors:
        error = np.asarray(error, dtype=np.float64)
        spread = np.ptp(error)
        normality.append(1 - (error - error.min()) / (spread if spread > 0 else 1.0))
    return normality


class OnlineNormality:
    """Normality of a live video, frame by frame.

    Each new frame completes a clip with the frames before it. The clip's error goes to its centre frame, ``delay`` frames back.
    Errors are scaled by the range of the training errors, as the rest of the video is unknown.

    Parameters
    ----------
    detector : MemAEDetector
        Fitted on clips of :class:`ClipWindows`.
    windows : ClipWindows
        The fitted transformer that cut the training clips.

    Attributes
    ----------
    delay : int
        Frames between the newest frame and the one that :meth:`push` scores.

    Examples
    --------
    >>> import numpy as np
    >>> from skmemae import MemAEDetector
    >>> from skmemae.video import ClipWindows, OnlineNormality
    >>> video = np.random.default_rng(0).integers(0, 255, size=(40, 16, 16), dtype=np.uint8)
    >>> windows = ClipWindows(length=4)
    >>> detector = MemAEDetector(max_epochs=1, random_state=0).fit(windows.fit_transform([video]))
    >>> online = OnlineNormality(detector, windows)
    >>> [bool(np.isnan(online.push(frame))) for frame in video[:5]]
    [True, True, True, False, False]
    """

    def __init__(self, detector: MemAEDetector, windows: ClipWindows) -> None:
        check_is_fitted(detector)
        check_is_fitted(windows)
        self.detector = detector
        self.windows = windows
        self._n_needed = windows.length + int(windows.changes)
        self._frames: deque[np.ndarray] = deque(maxlen=self._n_needed)
        self._range = np.min(detector.decision_scores_), np.max(detector.decision_scores_)
        self.delay = windows.length - 1 - windows.length // 2

    def push(self, frame: np.ndarray) -> float:
        """Add the next frame and score the frame ``delay`` frames back.

        Parameters
        ----------
        frame : ndarray of shape (H, W) or (H, W, C)

        Returns
        -------
        normality : float
            Higher = more normal: 1 for the smallest and 0 for the largest training error, negative for larger errors; NaN
            until there are enough frames for a clip.

        Raises
        ------
        ValueError
            If the frame's shape differs from the training frames', or it holds anything but finite real numbers. The frame
            is then not added.
        """
        frame = np.array(frame)  # a copy, as capture devices reuse one buffer
        if frame.shape != self.windows.frame_shape_:
            raise ValueError(
                f"The frame has shape {frame.shape}, but OnlineNormality is expecting {self.windows.frame_shape_}."
            )
        if frame.dtype.kind not in "uif" or not np.isfinite(frame).all():
            raise ValueError(f"The frame must hold finite real numbers; got dtype {frame.dtype}.")
        frames = [*self._frames, frame][-self._n_needed :]
        is_whole = len(frames) == self._n_needed
        # The numbers are checked in a clip: before there are enough frames for one, in a clip of the new frame alone.
        clip = self.windows.transform([np.stack(frames if is_whole else [frame] * self._n_needed)])
        error = -float(self.detector.score_samples(clip)[0]) if is_whole else float("nan")
        self._frames.append(frame)  # only now, as all of the above may refuse it
        lowest, highest = self._range
        return 1 - (error - lowest) / ((highest - lowest) or 1.0)
