"""Read video files and folders of frames into arrays."""

import os
from pathlib import Path

import numpy as np

from skmemae._data.layout import are_positive_ints

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff")


def read_video(path, *, size=None, grey=False, out=None):
    """Read a video file, or a folder of frames sorted by the numbers in their names.

    Parameters
    ----------
    path : path-like
        Read with imageio: ``pip install skmemae[video]``.
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
        If frames of a folder differ in shape, ``size`` is not two positive integers, or frames to convert are not uint8.
    ImportError
        If imageio is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import imageio.v3 as iio
    >>> import numpy as np
    >>> from skmemae.video import read_video
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(3):
    ...         iio.imwrite(Path(folder) / f"{i}.png", np.full((20, 30, 3), i, dtype=np.uint8))
    ...     video = read_video(folder, size=(10, 15), grey=True)
    >>> video.shape, int(video[2].max())
    ((3, 10, 15), 2)
    """
    check_size(size, "read_video")
    path = Path(path)
    frames = check_shapes((file, convert(file, frame, size, grey)) for file, frame in _frames(path))
    if out is None:
        return np.stack(list(frames))
    write_frames(frames, Path(out))
    return np.load(out, mmap_mode="r")


def _frames(path):
    """Yield pairs of file and frame in order."""
    imageio = _imageio()
    if path.is_file():
        try:
            frame = None
            for frame in imageio.imiter(path, plugin="pyav"):
                yield path, frame
        except Exception as error:  # decoders raise exceptions of their own
            raise OSError(f"Video {path} cannot be read: {error}") from error
        if frame is None:
            raise OSError(f"Video {path} cannot be read: it has no frames.")
        return
    files = sorted(filter(is_image, path.glob("*")), key=by_number)
    if not files:
        raise FileNotFoundError(f"Video {path} is neither a file nor a folder of frames ({', '.join(_SUFFIXES)}).")
    for file in files:
        yield file, read_frame(file)


def read_frame(file):
    """Array of an image file, of shape (H, W) or (H, W, C)."""
    imageio = _imageio()
    try:
        return np.asarray(imageio.imread(file, plugin="pillow"))
    except Exception as error:
        raise OSError(f"{file} cannot be read: {error}") from error


def is_image(file):
    """Whether the file has a name like those of images."""
    return file.suffix.lower() in _SUFFIXES


def check_size(size, function, accepts_none=True):
    """Raise ValueError if ``size`` is neither (H, W) nor, where that is accepted, None."""
    if size is None and accepts_none:
        return
    if not (isinstance(size, tuple | list) and len(size) == 2 and are_positive_ints(size)):
        accepted = "None or " * accepts_none + "two positive int (H, W)"
        raise ValueError(f"The 'size' parameter of {function} must be {accepted}. Got {size!r} instead.")


def convert(file, frame, size, grey):
    """Scale a frame and convert it to grey."""
    if size is None and not grey:
        return frame
    if frame.dtype != np.uint8:
        raise ValueError(f"{file} has dtype {frame.dtype}, but 'size' and 'grey' change images of uint8 alone.")
    from PIL import Image

    image = Image.fromarray(frame)
    if grey:
        image = image.convert("L")
    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)  # averages when it shrinks
    return np.asarray(image)


def check_shapes(frames):
    """Yield the frames of (file, frame) pairs; raise ValueError if their shapes or dtypes differ."""
    first, shape, dtype = None, None, None
    for file, frame in frames:
        first, shape, dtype = first or file, shape or frame.shape, dtype or frame.dtype
        if frame.shape != shape:
            raise ValueError(
                f"{file} has shape {frame.shape}, but {first} has {shape}. 'size' scales all alike, and 'grey' drops colours."
            )
        if frame.dtype != dtype:
            raise ValueError(f"{file} has dtype {frame.dtype}, but {first} has {dtype}: their numbers mean different things.")
        yield frame


def write_frames(frames, out):
    """Write frames to a file one by one, in the format of ``numpy.save``; an incomplete file is removed."""
    unfinished = out.with_name(out.name + ".part")
    try:
        with open(unfinished, "wb") as file:
            n = 0
            for n, frame in enumerate(frames, start=1):
                if n == 1:
                    header = {"descr": np.lib.format.dtype_to_descr(frame.dtype), "fortran_order": False}
                    np.lib.format.write_array_header_1_0(file, {**header, "shape": (0, *frame.shape)})
                file.write(np.ascontiguousarray(frame).data)
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, {**header, "shape": (n, *frame.shape)})  # the header has room for n
        os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)


def _imageio():
    try:
        import imageio.v3
    except ImportError as error:
        raise ImportError('Images and videos are read with imageio: pip install "skmemae[video]"') from error
    return imageio.v3


def by_number(file):
    """Sort key: the numbers in a file's name, then the name."""
    digits = "".join(c if c.isdigit() else " " for c in file.stem).split()
    return [int(d) for d in digits], file.name
