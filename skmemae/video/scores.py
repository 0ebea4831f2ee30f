"""Scores of clips as scores and maps of frames, over a whole video or live."""

from collections import deque

import numpy as np
from sklearn.utils.validation import check_is_fitted


def frame_scores(scores, clips):
    """Scores of clips as scores of frames.

    A clip's score goes to the frame it centres on (section 4.2 of the paper), which of an even number of frames is the one
    after the middle, as in the authors' code. Frames between two centres get a value between theirs; those at the ends of a
    video the nearest clip's.

    Parameters
    ----------
    scores : array-like of shape (n_clips,)
    clips : Clips

    Returns
    -------
    scores : list of ndarray of shape (T,)
        One for each video, in the order of the videos; the direction is that of ``scores``.

    Raises
    ------
    ValueError
        If there are not as many scores as clips.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != clips.start.shape:
        raise ValueError(f"frame_scores needs one score for each of {len(clips)} clips; got an array of shape {scores.shape}.")
    centres = clips.start + clips.length // 2
    return [
        np.interp(np.arange(len(video)), centres[clips.video == i], scores[clips.video == i])
        for i, video in enumerate(clips.videos)
    ]


def frame_maps(detector, clips, batch_size=64):
    """Squared residual of every pixel of every frame, each taken from the clip that centres nearest to it.

    Parameters
    ----------
    detector : MemAEDetector
        Fitted on clips like these.
    clips : Clips
    batch_size : int, default=64
        Clips whose maps are held at a time.

    Returns
    -------
    maps : list of ndarray of shape (T, H, W), float32
        One for each video, in scaled units, higher = more abnormal; summed over the channels. Pixels of a cell are equal.
    """
    maps = [np.empty(video.shape[:3], dtype=np.float32) for video in clips.videos]
    frames_of = _nearest_frames(clips)
    for first in range(0, len(clips), batch_size):
        rows = np.arange(len(clips))[first : first + batch_size]
        for row, clip in zip(rows, detector.anomaly_map(clips[rows]).sum(axis=1), strict=True):
            frames = np.arange(*frames_of[row])
            # With a stride, a few frames may be in no clip: they get the map of the clip's frame that is nearest to them.
            found = clip[np.clip(frames - clips.start[row], 0, clips.length - 1)]
            maps[clips.video[row]][frames] = found if clips.cell == 1 else _pixels(found, clips.cell, maps[0].shape[1:])
    return maps


def _pixels(cells, size, shape):
    """Maps of cells as maps of pixels; pixels that were cut off get the nearest cell's value."""
    rows, columns = (np.minimum(np.arange(n) // size, n // size - 1) for n in shape)
    return cells[:, rows[:, None], columns]


def _nearest_frames(clips):
    """First frame, and the one after the last, nearest to each clip's centre: (n_clips, 2); of two equally near the earlier."""
    found = np.empty((len(clips), 2), dtype=int)
    for i, video in enumerate(clips.videos):
        centres = clips.start[clips.video == i] + clips.length // 2
        edges = np.r_[0, (centres[:-1] + centres[1:]) // 2 + 1, len(video)]
        found[clips.video == i] = np.column_stack([edges[:-1], edges[1:]])
    return found


def normality_score(errors):
    """The paper's p_u: one minus the error, scaled to run from 0 to 1 within each video (section 4.2).

    It looks at a whole video, the best and the worst frame of which are 1 and 0 even if nothing happens there: an evaluation
    helper, and not what ``decision_function`` returns.

    Parameters
    ----------
    errors : list of array-like of shape (T,)
        Errors of the frames of each video, higher = more abnormal.

    Returns
    -------
    normality : list of ndarray of shape (T,)
        In [0, 1], higher = more normal; 1 throughout a video whose errors are all equal.
    """
    found = []
    for error in errors:
        error = np.asarray(error, dtype=np.float64)
        spread = np.ptp(error)
        found.append(1 - (error - error.min()) / (spread if spread > 0 else 1.0))
    return found


class OnlineNormality:
    """Normality of a live video, frame by frame.

    Each frame completes a clip with those before it, whose error goes to the frame that it centres on: ``delay`` frames back.
    Errors are scaled by the training data's, as nothing is known about the rest of the video.

    Parameters
    ----------
    detector : MemAEDetector
        Fitted on clips of :class:`ClipWindows`.
    windows : ClipWindows
        What cut those clips, fitted.

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

    def __init__(self, detector, windows):
        check_is_fitted(detector)
        check_is_fitted(windows)
        self.detector = detector
        self.windows = windows
        self._frames: deque[np.ndarray] = deque(maxlen=windows.length + int(windows.changes))
        self._range = np.min(detector.decision_scores_), np.max(detector.decision_scores_)
        self.delay = windows.length - 1 - windows.length // 2

    def push(self, frame):
        """Take the next frame.

        Parameters
        ----------
        frame : ndarray of shape (H, W) or (H, W, C)

        Returns
        -------
        normality : float
            Of the frame ``delay`` frames back: 1 for the smallest and 0 for the largest error of the training clips, less for
            a larger one; NaN until there are enough frames for a clip.

        Raises
        ------
        ValueError
            If the frame has another shape than those of training, or holds other than finite real numbers. It is then not
            taken.
        """
        frame = np.array(frame)  # a copy: capture devices fill one buffer again and again
        if frame.shape != self.windows.frame_shape_:
            raise ValueError(
                f"The frame has shape {frame.shape}, but OnlineNormality is expecting {self.windows.frame_shape_}."
            )
        if frame.dtype.kind not in "uif" or not np.isfinite(frame).all():
            raise ValueError(f"The frame must hold finite real numbers; got dtype {frame.dtype}.")
        self._frames.append(frame)
        if len(self._frames) < self.windows.length + int(self.windows.changes):
            return float("nan")
        clip = self.windows.transform([np.stack(self._frames)])
        error = -float(self.detector.score_samples(clip)[0])
        least, most = self._range
        return 1 - (error - least) / ((most - least) or 1.0)
