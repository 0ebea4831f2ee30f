"""Video files and folders of frames as arrays."""

import os
from pathlib import Path

import numpy as np

from skmemae._data.layout import are_positive_ints

_FRAMES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff")


def read_video(path, *, size=None, grey=False, out=None):
    """A video file, or a folder of frames in the order of the numbers in their names.

    Parameters
    ----------
        path : path-like
            Read with imageio: ``pip install skmemae[video]``.
        size : tuple of int, default=None
            (H, W) to scale every frame to, averaging where it shrinks; None leaves frames as they are.
        grey : bool, default=False
            Turn colours into their brightness.
        out : path-like, default=None
            File to write the frames to one by one, as ``numpy.save`` does, for videos that do not fit in memory.

    Returns
    -------
        video : ndarray of shape (T, H, W) or (T, H, W, 3), uint8
            A read-only memory map of ``out`` if that is given.

    Raises
    ------
        OSError
            If there is nothing at the path, or it cannot be read. Nothing is left at ``out`` then.
        ValueError
            If frames of a folder differ in shape, ``size`` is not two positive integers, or frames to change are not uint8.

    Examples
    --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import imageio.v3 as iio
        >>> import numpy as np

    from skmemae._data.layout import are_positive_ints
        >>> from skmemae.video import read_video
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for i in range(3):
        ...         iio.imwrite(Path(folder) / f"{i}.png", np.full((20, 30, 3), i, dtype=np.uint8))
        ...     video = read_video(folder, size=(10, 15), grey=True)
        >>> video.shape, int(video[2].max())
        ((3, 10, 15), 2)
    """
    if size is not None and not (len(size) == 2 and are_positive_ints(size)):
        raise ValueError(f"The 'size' parameter of read_video must be None or two positive int (H, W). Got {size!r} instead.")
    path = Path(path)
    frames = _same_shape((file, _change(file, frame, size, grey)) for file, frame in _frames(path))
    if out is None:
        return np.stack(list(frames))
    write_frames(frames, Path(out))
    return np.load(out, mmap_mode="r")


def _frames(path):
    """Yield (file, frame) in order."""
    imageio = _imageio()
    if path.is_file():
        try:
            frame = None
            for frame in imageio.imiter(path, plugin="pyav"):
                yield path, frame
        except Exception as error:  # each decoder has exceptions of its own
            raise OSError(f"Video {path} cannot be read: {error}") from error
        if frame is None:
            raise OSError(f"Video {path} cannot be read: it has no frames.")
        return
    files = sorted((f for f in path.glob("*") if f.suffix.lower() in _FRAMES), key=_number)
    if not files:
        raise FileNotFoundError(f"Video {path} is neither a file nor a folder of frames ({', '.join(_FRAMES)}).")
    for file in files:
        try:
            frame = np.asarray(imageio.imread(file, plugin="pillow"))
        except Exception as error:
            raise OSError(f"Frame {file} cannot be read: {error}") from error
        yield file, frame


def _change(file, frame, size, grey):
    if size is None and not grey:
        return frame
    if frame.dtype != np.uint8:
        raise ValueError(f"Frame {file} has dtype {frame.dtype}; 'size' and 'grey' of read_video change uint8 frames alone.")
    from PIL import Image

    image = Image.fromarray(frame)
    if grey:
        image = image.convert("L")
    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)  # of Pillow, averages what it shrinks
    return np.asarray(image)


def _same_shape(frames):
    shape = None
    for file, frame in frames:
        shape = shape or frame.shape
        if frame.shape != shape:
            raise ValueError(f"Frame {file} has shape {frame.shape}; the first frame of that video has {shape}.")
        yield frame


def write_frames(frames, out):
    """Frames, one at a time, to a file as ``numpy.save`` writes it; it is complete or not there."""
    part = out.with_name(out.name + ".part")
    try:
        with open(part, "wb") as file:
            n = 0
            for n, frame in enumerate(frames, start=1):
                if n == 1:
                    header = {"descr": np.lib.format.dtype_to_descr(frame.dtype), "fortran_order": False}
                    np.lib.format.write_array_header_1_0(file, {**header, "shape": (0, *frame.shape)})
                file.write(np.ascontiguousarray(frame).data)
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, {**header, "shape": (n, *frame.shape)})  # numpy leaves room for n
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _imageio():
    try:
        import imageio.v3
    except ImportError as error:
        raise ImportError("Reading videos needs imageio: pip install skmemae[video]") from error
    return imageio.v3


def _number(file):
    digits = "".join(c if c.isdigit() else " " for c in file.stem).split()
    return [int(d) for d in digits], file.name
