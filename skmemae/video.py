"""Videos as clips, and the scores of clips as scores of frames."""

from collections import deque
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skmemae.engine.samples import RowSource

_FRAMES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff")


class ClipWindows(BaseEstimator):
    """Cut videos into overlapping clips without copying a frame; a scikit-learn transformer, but for ``set_output``.

    Parameters
    ----------
    length : int, default=16
        Frames of a clip.
    stride : int, default=1
        Frames from the start of one clip to the start of the next.

    Attributes
    ----------
    frame_shape_ : tuple of int
        (H, W) or (H, W, C) of the frames seen in ``fit``.

    See Also
    --------
    read_video : A video file or a folder of frames as an array.

    Examples
    --------
    >>> import numpy as np
    >>> from skmemae import MemAEDetector
    >>> from skmemae.video import ClipWindows, frame_scores, normality_score
    >>> videos = [np.random.default_rng(i).integers(0, 255, size=(30, 16, 16), dtype=np.uint8) for i in range(2)]
    >>> clips = ClipWindows(length=8).fit_transform(videos)
    >>> clips.shape
    (46, 1, 8, 16, 16)
    >>> detector = MemAEDetector(max_epochs=1, random_state=0).fit(clips)
    >>> errors = frame_scores(detector.decision_function(clips), clips)
    >>> [p.shape for p in normality_score(errors)]
    [(30,), (30,)]
    """

    _parameter_constraints = {
        "length": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, length=16, stride=1):
        self.length = length
        self.stride = stride

    def fit(self, X, y=None):
        """Learn what a frame looks like.

        Parameters
        ----------
        X : list of array-like of shape (T, H, W) or (T, H, W, C), or of paths
            Arrays are not copied, memory maps included; paths are read by :func:`read_video`.
        y : Ignored

        Returns
        -------
        self : object
        """
        self.fit_transform(X)
        return self

    def transform(self, X):
        """Clips of videos whose frames look like those of ``fit``.

        Parameters
        ----------
        X : list of array-like of shape (T, H, W) or (T, H, W, C), or of paths

        Returns
        -------
        clips : Clips of shape (n_clips, C, length, H, W)

        Raises
        ------
        ValueError
            If a video is shorter than a clip, its frames have another size or number of channels, or its values are no
            finite numbers. Says which video.
        OSError
            If a file cannot be read.
        """
        check_is_fitted(self)
        return self._clips(X, self.frame_shape_)

    def fit_transform(self, X, y=None):
        """Clips of videos; reads files once.

        Parameters
        ----------
        X : list of array-like of shape (T, H, W) or (T, H, W, C), or of paths
        y : Ignored

        Returns
        -------
        clips : Clips
        """
        clips = self._clips(X)
        self.frame_shape_ = clips.videos[0].shape[1:]
        return clips

    def _clips(self, videos, frame_shape=None):
        self._validate_params()
        return Clips(_as_videos(videos, self.length, frame_shape), self.length, self.stride)


class Clips(RowSource):
    """Clips of videos, each cut out when it is asked for: an array for the detector that takes the memory of the videos alone.

    Made by :class:`ClipWindows`.

    Parameters
    ----------
    videos : list of ndarray of shape (T, H, W) or (T, H, W, C)
    length, stride : int

    Attributes
    ----------
    shape : tuple of int
        (n_clips, C, length, H, W), with C = 1 for grey videos.
    dtype : numpy.dtype
    video, start : ndarray of shape (n_clips,), int
        Which video each clip is from, and its first frame there.
    """

    def __init__(self, videos, length, stride):
        self.videos = videos
        self.length = length
        starts = [np.arange(0, len(video) - length + 1, stride) for video in videos]
        self.start = np.concatenate(starts)
        self.video = np.repeat(np.arange(len(videos)), [len(s) for s in starts])
        self.dtype = np.result_type(*(video.dtype for video in videos))
        height, width, *channels = videos[0].shape[1:]
        self.shape = (len(self.start), *(channels or [1]), length, height, width)

    def __getitem__(self, rows):
        """One clip, or an array of those that a slice, indices or a mask choose."""
        rows = np.arange(len(self))[rows]
        chosen = np.empty((rows.size, *self.shape[1:]), dtype=self.dtype)
        for clip, row in zip(chosen, rows.ravel(), strict=True):
            frames = self.videos[self.video[row]][self.start[row] : self.start[row] + self.length]
            clip[...] = frames if frames.ndim == 3 else np.moveaxis(frames, -1, 0)
        return chosen if rows.ndim else chosen[0]


def read_video(path):
    """A video file, or a folder of frames in the order of the numbers in their names.

    Parameters
    ----------
    path : path-like
        Read with imageio: ``pip install skmemae[video]``. For many or long videos, ``numpy.save`` what this returns once, and
        give ``ClipWindows`` memory maps from then on.

    Returns
    -------
    video : ndarray of shape (T, H, W) or (T, H, W, 3), uint8

    Raises
    ------
    OSError
        If there is nothing at the path, or it cannot be read.
    ValueError
        If frames of a folder differ in shape.
    """
    imageio = _imageio()
    path = Path(path)
    if path.is_file():
        try:
            return np.asarray(imageio.imread(path, plugin="pyav"))
        except Exception as error:  # each decoder has exceptions of its own
            raise OSError(f"Video {path} cannot be read: {error}") from error
    files = sorted((f for f in path.glob("*") if f.suffix.lower() in _FRAMES), key=_number)
    if not files:
        raise FileNotFoundError(f"Video {path} is neither a file nor a folder of frames ({', '.join(_FRAMES)}).")
    frames = [_read_frame(file) for file in files]
    for file, frame in zip(files, frames, strict=True):
        if frame.shape != frames[0].shape:
            raise ValueError(f"Frame {file} has shape {frame.shape}; the first frame of that video has {frames[0].shape}.")
    return np.stack(frames)


def _read_frame(file):
    try:
        return np.asarray(_imageio().imread(file, plugin="pillow"))
    except Exception as error:
        raise OSError(f"Frame {file} cannot be read: {error}") from error


def _imageio():
    try:
        import imageio.v3
    except ImportError as error:
        raise ImportError("Reading videos needs imageio: pip install skmemae[video]") from error
    return imageio.v3


def _number(file):
    digits = "".join(c if c.isdigit() else " " for c in file.stem).split()
    return [int(d) for d in digits], file.name


def _as_videos(videos, length, frame_shape):
    """Arrays of one frame shape, each long enough for a clip; errors name the video."""
    if isinstance(videos, (str, Path)) or getattr(videos, "ndim", 0) in (3, 4):
        raise ValueError("ClipWindows needs a list of videos; got one video. Use [video].")
    arrays = []
    for i, video in enumerate(videos):
        name = f"Video {i}"
        if isinstance(video, (str, Path)):
            name, video = f"Video {video}", read_video(video)
        if not isinstance(video, np.ndarray):
            video = np.asarray(video)
        if video.ndim not in (3, 4) or video.dtype.kind not in "uif":
            raise ValueError(
                f"{name} has shape {video.shape} and dtype {video.dtype}; "
                "accepted are numbers of shape (T, H, W) or (T, H, W, C)."
            )
        if len(video) < length:
            raise ValueError(f"{name} has {len(video)} frames, which is shorter than a clip of length={length}.")
        frame_shape = video.shape[1:] if frame_shape is None else frame_shape
        if video.shape[1:] != frame_shape:
            raise ValueError(f"{name} has frames of shape {video.shape[1:]}, but ClipWindows is expecting {frame_shape}.")
        if video.dtype.kind == "f":
            _check_finite(video, name)
        arrays.append(video)
    if not arrays:
        raise ValueError("ClipWindows needs at least one video; got an empty list.")
    return arrays


def _check_finite(video, name):
    for frame in video:
        check_array(frame.reshape(len(frame), -1), input_name=name)


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
        One for each video, in scaled units, higher = more abnormal; summed over the channels.
    """
    maps = [np.empty(video.shape[:3], dtype=np.float32) for video in clips.videos]
    frames_of = _nearest_frames(clips)
    for first in range(0, len(clips), batch_size):
        rows = np.arange(len(clips))[first : first + batch_size]
        for row, clip in zip(rows, detector.anomaly_map(clips[rows]).sum(axis=1), strict=True):
            frames = np.arange(*frames_of[row])
            # With a stride, a few frames may be in no clip: they get the map of the clip's frame that is nearest to them.
            maps[clips.video[row]][frames] = clip[np.clip(frames - clips.start[row], 0, clips.length - 1)]
    return maps


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
    >>> detector = MemAEDetector(max_epochs=1, random_state=0).fit(ClipWindows(length=4).fit_transform([video]))
    >>> online = OnlineNormality(detector)
    >>> [bool(np.isnan(online.push(frame))) for frame in video[:5]]
    [True, True, True, False, False]
    """

    def __init__(self, detector):
        check_is_fitted(detector)
        self.detector = detector
        channels, self._length, height, width = detector.sample_shape_
        self._frame_shape = (height, width) if channels == 1 else (height, width, channels)
        self._frames = deque(maxlen=self._length)
        self._range = np.min(detector.decision_scores_), np.max(detector.decision_scores_)
        self.delay = self._length - 1 - self._length // 2

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
            If the frame has another shape than those of training.
        """
        frame = np.asarray(frame)
        if frame.shape != self._frame_shape:
            raise ValueError(f"The frame has shape {frame.shape}, but OnlineNormality is expecting {self._frame_shape}.")
        self._frames.append(frame)
        if len(self._frames) < self._length:
            return float("nan")
        clip = Clips([np.stack(self._frames)], self._length, stride=1)
        error = -float(self.detector.score_samples(clip)[0])
        least, most = self._range
        return 1 - (error - least) / ((most - least) or 1.0)
