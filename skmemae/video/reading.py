"""Read video files and folders of frames into arrays."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from skmemae.video._decoding import decoded
from skmemae.video._images import by_number, check_shapes, check_size, convert, image_files, read_frame


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
        A video file is read with PyAV, a folder of images with Pillow: ``pip install "skmemae[video]"``. Frames are turned
        upright as the file says. Hidden files of a folder are passed over.
    size : tuple of int, default=None
        (H, W) to scale every frame to, averaging pixels when it shrinks; None keeps the frames' size.
    grey : bool, default=False
        Convert colours to brightness; what is grey already stays as it is.
    out : path-like, default=None
        File to write the frames to one by one, in the format of ``numpy.save``, for videos that do not fit in memory.

    Returns
    -------
    video : ndarray of shape (T, H, W) or (T, H, W, C)
        Frames of a file have three channels, uint8; grey ones of more than eight bits have none and keep their numbers
        (uint16). Frames of a folder have the dtype of the images, see :func:`~skmemae.datasets.load_images`. A read-only
        memory map of ``out`` if that is given.

    Raises
    ------
    OSError
        If the path does not exist or cannot be read. Nothing is written to ``out`` then.
    ValueError
        If frames differ in shape or dtype, a file of a folder has several images, frames are to be shown turned by anything
        but multiples of 90 degrees, or ``size`` is not two positive integers.
    ImportError
        If PyAV or Pillow is needed and not installed.

    Warns
    -----
    UserWarning
        If a file breaks off, which shows where it declares its length (MP4, Matroska, AVI, FLV), frames of it are damaged, or
        their times have gaps of more than five times the usual interval: frames are returned as if there were none. If a
        folder holds files that are not read; names their number and suffixes.

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
    frames = check_shapes((file, convert(frame, size, grey)) for file, frame in _frames(path))
    if out is None:
        return np.stack(list(frames))
    _write_frames(frames, Path(out))
    return np.load(out, mmap_mode="r")


def _frames(path: Path) -> Iterator[tuple[Path, np.ndarray]]:
    """Pairs of file and frame in the order of time."""
    if path.is_file():
        return ((path, frame) for frame in decoded(path))
    if not path.is_dir():
        raise FileNotFoundError(f"Video {path} is neither a file nor a folder of frames.")
    return ((file, read_frame(file)) for file in sorted(image_files(path, "*"), key=by_number))


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
