"""Read video files and folders of frames into arrays."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from skmemae.video._images import SUFFIXES, by_number, check_shapes, check_size, convert, is_image, read_frame


def read_video(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    grey: bool = False,
    out: str | os.PathLike[str] | None = None,
) -> np.ndarray:
    """Read a video file, or a folder of frames sorted by the numbers in their names.

    Parameters
    ----------
    path : path-like
        A video file is read with PyAV, a folder of images with Pillow: ``pip install "skmemae[video]"``.
    size : tuple of int, default=None
        (H, W) to scale every frame to, averaging pixels when it shrinks; None keeps the frames' size.
    grey : bool, default=False
        Convert colours to brightness.
    out : path-like, default=None
        File to write the frames to one by one, in the format of ``numpy.save``, for videos that do not fit in memory.

    Returns
    -------
    video : ndarray of shape (T, H, W) or (T, H, W, C)
        uint8, or the dtype of a folder's frames; a read-only memory map of ``out`` if that is given.

    Raises
    ------
    OSError
        If the path does not exist or cannot be read. Nothing is written to ``out`` then.
    ValueError
        If frames of a folder differ in shape or dtype, one of them is an animation, ``size`` is not two positive integers, or
        frames to convert are not uint8.
    ImportError
        If PyAV or Pillow is needed and not installed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from skmemae.video import read_video
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(3):
    ...         Image.fromarray(np.full((20, 30, 3), i, dtype=np.uint8)).save(Path(folder) / f"{i}.png")
    ...     video = read_video(folder, size=(10, 15), grey=True)
    >>> video.shape, int(video[2].max())
    ((3, 10, 15), 2)
    """
    check_size(size, "read_video")
    path = Path(path)
    frames = check_shapes((file, convert(file, frame, size, grey)) for file, frame in _frames(path))
    if out is None:
        return np.stack(list(frames))
    _write_frames(frames, Path(out))
    return np.load(out, mmap_mode="r")


def _frames(path: Path) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield (file, frame) in the order of time."""
    if path.is_file():
        for frame in _decoded(path):
            yield path, frame
        return
    files = sorted(filter(is_image, path.glob("*")), key=by_number)
    if not files:
        raise FileNotFoundError(f"Video {path} is neither a file nor a folder of frames ({', '.join(SUFFIXES)}).")
    for file in files:
        yield file, read_frame(file)


def _decoded(file: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video file as arrays of shape (H, W, 3), uint8; there is at least one."""
    try:
        import av
    except ImportError as error:
        raise ImportError('Videos are read with PyAV: pip install "skmemae[video]"') from error
    frame = None
    try:
        with av.open(str(file), metadata_errors="replace") as container:  # titles in another encoding do not matter here
            for frame in container.decode(video=0) if container.streams.video else ():
                yield frame.to_ndarray(format="rgb24")
    except av.FFmpegError as error:
        raise OSError(f"Video {file} cannot be read: {error}") from error
    if frame is None:
        raise OSError(f"Video {file} cannot be read: it has no frames.")


def _write_frames(frames: Iterable[np.ndarray], out: Path) -> None:
    """Write frames to a file one by one, in the format of ``numpy.save``; an incomplete file is removed.

    The number of frames is known only after the last one is decoded, so the header is written again at the end.
    """
    unfinished = out.with_name(out.name + ".part")
    try:
        with unfinished.open("wb") as file:
            n_frames = 0
            for n_frames, frame in enumerate(frames, start=1):
                if n_frames == 1:
                    _write_header(file, frame, 0)
                file.write(np.ascontiguousarray(frame).data)
            _write_header(file, frame, n_frames)
        os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_header(file: BinaryIO, frame: np.ndarray, n_frames: int) -> None:
    """Write the header of an array of such frames at the start of a file; NumPy leaves room in it for any number of them."""
    descr = np.lib.format.dtype_to_descr(frame.dtype)
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (n_frames, *frame.shape)})
