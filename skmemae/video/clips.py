"""Overlapping clips of videos, cut out on access."""

from collections.abc import Iterable, Sequence
from itertools import product
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skmemae._data.sources import RowSource
from skmemae._validation import check_numbers
from skmemae.video.reading import read_video

_LARGEST = 1e30  # float32 still holds the sum of such numbers over a cell
_Videos = Iterable[ArrayLike | str | Path]


class ClipWindows(BaseEstimator):
    """Cut videos into overlapping clips without copying frames.

    A scikit-learn transformer, without ``set_output``.

    Parameters
    ----------
    length : int, default=16
        Frames per clip.
    stride : int, default=1
        Frames between the starts of consecutive clips.
    changes : bool, default=False
        Replace each frame by the absolute difference of its pixels from the previous frame. For a fixed camera: the static
        background vanishes, and abnormal motion differs more from the training data. The first frame of a video has no
        predecessor and is in no clip.
    cell : int, default=1
        Side in pixels of the squares that are averaged, after the differences are taken. Pixels that do not fill a square at
        the right and lower edges are cut off.

    Attributes
    ----------
    frame_shape_ : tuple of int
        Shape of a frame seen in ``fit``, (H, W) or (H, W, C), in pixels.

    See Also
    --------
    read_video : Read a video file or a folder of frames into an array.

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
        "changes": ["boolean"],
        "cell": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, length: int = 16, stride: int = 1, changes: bool = False, cell: int = 1) -> None:
        self.length = length
        self.stride = stride
        self.changes = changes
        self.cell = cell

    def fit(self, X: _Videos, y: object = None) -> Self:
        """Learn the shape of a frame.

        Parameters
        ----------
        X : list of array-like of shape (T, H, W) or (T, H, W, C), or of paths
            Arrays are not copied, memory maps included; paths are read by :func:`read_video`.
        y : Ignored

        Returns
        -------
        self : ClipWindows

        Raises
        ------
        ValueError, OSError
            As :meth:`transform`.
        """
        self.fit_transform(X)
        return self

    def transform(self, X: _Videos) -> "Clips":
        """Cut videos with frames of the shape seen in ``fit`` into clips.

        Parameters
        ----------
        X : list of array-like of shape (T, H, W) or (T, H, W, C), or of paths

        Returns
        -------
        clips : Clips of shape (n_clips, C, length, H, W)

        Raises
        ------
        ValueError
            If a video is shorter than a clip, has frames of another shape or smaller than a cell, or holds anything but finite
            real numbers. The message names the video.
        OSError
            If a file cannot be read.
        """
        check_is_fitted(self)
        return self._clips(X, self.frame_shape_)

    def fit_transform(self, X: _Videos, y: object = None) -> "Clips":
        """Fit and transform; each file is read once.

        Parameters
        ----------
        X : list of array-like of shape (T, H, W) or (T, H, W, C), or of paths
        y : Ignored

        Returns
        -------
        clips : Clips of shape (n_clips, C, length, H, W)

        Raises
        ------
        ValueError, OSError
            As :meth:`transform`.
        """
        clips = self._clips(X)
        self.frame_shape_ = clips.videos[0].shape[1:]
        return clips

    def _clips(self, videos: _Videos, frame_shape: tuple[int, ...] | None = None) -> "Clips":
        self._validate_params()
        check_numbers(self.get_params(), accepts_bool=("changes",))
        arrays = _as_videos(videos, self.length + self.changes, self.cell, frame_shape, self.changes or self.cell > 1)
        return Clips(arrays, self.length, self.stride, self.changes, self.cell)


class Clips(RowSource):
    """Array-like of clips, each cut out on access, so that only the videos take memory.

    Returned by :class:`ClipWindows`.

    Parameters
    ----------
    videos : list of ndarray of shape (T, H, W) or (T, H, W, C)
    length, stride : int
    changes : bool
    cell : int

    Attributes
    ----------
    shape : tuple of int
        (n_clips, C, length, H, W), with C = 1 for grey videos; H and W in cells.
    dtype : numpy.dtype
        The videos' dtype; float32 with ``changes`` or ``cell`` above 1.
    video, start : ndarray of shape (n_clips,), int
        Index of each clip's video, and of its first frame in that video.
    """

    def __init__(self, videos: Sequence[np.ndarray], length: int, stride: int, changes: bool = False, cell: int = 1) -> None:
        self.videos = videos
        self.length = length
        self.changes = changes
        self.cell = cell
        starts = [np.arange(int(changes), len(video) - length + 1, stride) for video in videos]
        self.start = np.concatenate(starts)
        self.video = self.groups = np.repeat(np.arange(len(videos)), [len(s) for s in starts])
        self.dtype = np.dtype(np.float32) if changes or cell > 1 else np.result_type(*(video.dtype for video in videos))
        height, width, *channels = videos[0].shape[1:]
        self.shape = (len(self.start), *(channels or [1]), length, height // cell, width // cell)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """One clip for an int; an array of clips for a slice, indices or a mask."""
        rows = np.arange(len(self))[rows]
        indices = rows.ravel()
        clips = np.empty((rows.size, *self.shape[1:]), dtype=self.dtype)
        for i in np.unique(self.video[indices]):
            positions = np.flatnonzero(self.video[indices] == i)
            frames = self.start[indices[positions]][:, None] + np.arange(self.length)
            # A frame that several clips share is read and processed once.
            unique_frames, inverse = np.unique(frames, return_inverse=True)
            processed = self._process(self.videos[i], unique_frames)
            for position, frame_rows in zip(positions, inverse.reshape(frames.shape), strict=True):
                clips[position] = np.moveaxis(processed[frame_rows], -1, 0)
        return clips if rows.ndim else clips[0]

    def _process(self, video: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Frames at the indices, with differences and cells applied, (n_frames, H, W, C)."""
        frames = video[indices]
        if self.changes:
            exact = np.result_type(frames.dtype, np.float32)  # float32 would lose small differences of large numbers
            frames = np.abs(np.subtract(frames, video[indices - 1], dtype=exact)).astype(np.float32, copy=False)
        if frames.ndim == 3:
            frames = frames[..., None]
        return frames if self.cell == 1 else _cell_means(frames, self.cell)


def _cell_means(frames: np.ndarray, cell: int) -> np.ndarray:
    """Means over squares of ``cell`` pixels a side; adds strided slices, as NumPy is slow at means over short axes."""
    height, width = (size // cell * cell for size in frames.shape[1:3])
    total = np.zeros((len(frames), height // cell, width // cell, frames.shape[3]), dtype=np.float32)
    for y, x in product(range(cell), repeat=2):
        total += frames[:, y:height:cell, x:width:cell]
    return total / cell**2


def _as_videos(
    videos: _Videos, min_frames: int, cell: int, frame_shape: tuple[int, ...] | None, makes_float32: bool
) -> list[np.ndarray]:
    """Convert videos to arrays of one frame shape and at least ``min_frames`` frames; errors name the video."""
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
        if len(video) < min_frames:
            raise ValueError(f"{name} has {len(video)} frames, but a clip needs {min_frames}.")
        frame_shape = video.shape[1:] if frame_shape is None else frame_shape
        if video.shape[1:] != frame_shape:
            raise ValueError(f"{name} has frames of shape {video.shape[1:]}, but ClipWindows is expecting {frame_shape}.")
        if min(frame_shape[:2]) < cell:
            raise ValueError(f"{name} has frames of shape {frame_shape}, which are smaller than a cell of {cell} pixels.")
        if video.dtype.kind == "f":
            _check_finite(video, name, makes_float32)
        arrays.append(video)
    if not arrays:
        raise ValueError("ClipWindows needs at least one video; got an empty list.")
    return arrays


def _check_finite(video: np.ndarray, name: str, makes_float32: bool) -> None:
    for frame in video:
        check_array(frame.reshape(len(frame), -1), input_name=name)
        if makes_float32 and np.abs(frame).max() > _LARGEST:
            raise ValueError(f"{name} holds numbers beyond {_LARGEST:.0e}, for which float32 ('changes', 'cell') has no room.")
