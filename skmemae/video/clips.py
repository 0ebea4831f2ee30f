"""Videos as overlapping clips that are cut out when they are asked for."""

from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skmemae.engine.samples import RowSource
from skmemae.video.reading import read_video


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
