"""Read, scale and compare images: frames of a video, or photographs."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from skmemae._data.layout import are_positive_ints

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff")
_OF_BROKEN_FILES = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError)  # Pillow's decoders raise all of them


def is_image(file: Path) -> bool:
    """Whether a file's suffix is that of an image format."""
    return file.suffix.lower() in SUFFIXES


def by_number(file: Path) -> tuple[list[int], str]:
    """Sort key: the numbers in a file's name, then the name."""
    digits = "".join(c if c.isdigit() else " " for c in file.stem).split()
    return [int(d) for d in digits], file.name


def read_frame(file: Path) -> np.ndarray:
    """Read an image file into an array of shape (H, W) or (H, W, C).

    Of a file with several images, such as a TIFF with pages, the first one is read. Colours of a palette become RGB.

    Raises
    ------
    OSError
        If the file does not exist or is broken.
    ValueError
        If the file is an animation.
    ImportError
        If Pillow is not installed.
    """
    pillow = _pillow()
    try:
        with pillow.open(file) as image:
            n_frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG") else 1
            frame = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    except (*_OF_BROKEN_FILES, pillow.DecompressionBombError) as error:
        raise OSError(f"{file} cannot be read: {error}") from error
    if n_frames > 1:
        raise ValueError(f"{file} is an animation of {n_frames} frames; a file with one image is needed.")
    return frame


def check_size(size: object, function: str) -> None:
    """Raise ValueError if ``size`` is neither None nor (H, W)."""
    if size is not None and not (isinstance(size, tuple | list) and len(size) == 2 and are_positive_ints(size)):
        raise ValueError(f"The 'size' parameter of {function} must be None or two positive int (H, W). Got {size!r} instead.")


def convert(file: Path, frame: np.ndarray, size: tuple[int, int] | None, grey: bool) -> np.ndarray:
    """Scale a frame to ``size`` and convert it to grey; raise ValueError, which names the file, if it is not uint8."""
    if size is None and not grey:
        return frame
    if frame.dtype != np.uint8:
        raise ValueError(f"{file} has dtype {frame.dtype}, but 'size' and 'grey' change images of uint8 alone.")
    pillow = _pillow()
    image = pillow.fromarray(frame)
    if grey:
        image = image.convert("L")
    if size is not None:
        image = image.resize((size[1], size[0]), pillow.Resampling.BILINEAR)  # averages when it shrinks
    return np.asarray(image)


def check_shapes(frames: Iterable[tuple[Path, np.ndarray]]) -> Iterator[np.ndarray]:
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


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('Images are read with Pillow: pip install "skmemae[video]"') from error
    return Image
