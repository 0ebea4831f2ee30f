"""Read, scale and compare images: frames of a video, or photographs."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from skmemae._data.layout import are_positive_ints
from skmemae._runtime import warn_caller

# Of photographs and frames; Pillow has those of other things too, such as .h5 and .mpg. Some need a plugin or a newer Pillow.
_SUFFIXES = (
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"),
)
_OF_FILE_BROWSERS = ("desktop.ini", "thumbs.db")  # hidden on Windows, where no name says so
_SHOWN_AS = {"1": "L", "P": "RGB", "PA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB"}  # modes of Pillow
_ONE_PICTURE = ("MPO", "PSD")  # the others are previews, depths or layers of the first
_TIFF_KIND = 254  # tag of a page; its lowest bit says that the page is a smaller copy of another
_OF_BROKEN_FILES = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError)  # Pillow's decoders raise all of them


def image_files(folder: Path, pattern: str = "**/*") -> list[Path]:
    """Image files of a folder that match a pattern, with a warning that counts files which are not read.

    Hidden files, and those in hidden folders, are passed over.

    Raises
    ------
    FileNotFoundError
        If there are none.
    ImportError
        If Pillow is not installed.
    """
    known = _pillow().registered_extensions()
    suffixes = [suffix for suffix in _SUFFIXES if suffix in known]
    files = [file for file in folder.glob(pattern) if not _is_hidden(file.relative_to(folder)) and file.is_file()]
    images = [file for file in files if file.suffix.lower() in suffixes]
    others = Counter(file.suffix.lower() or "no suffix" for file in files if file.suffix.lower() not in suffixes)
    counts = ", ".join(f"{suffix} ({count})" for suffix, count in sorted(others.items()))
    if not images:
        raise FileNotFoundError(
            f"There are no images in the folder {str(folder)!r}{f', but other files: {counts}' if others else ''}. "
            f"Images have the suffixes {', '.join(suffixes)}."
        )
    if others:
        warn_caller(f"{others.total()} of {len(files)} files in the folder {str(folder)!r} are not read: {counts}.")
    return images


def _is_hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts) or file.name.lower() in _OF_FILE_BROWSERS


def by_number(file: Path) -> tuple[list[int], str]:
    """Sort key: the numbers in a file's name, then the name."""
    digits = "".join(c if c.isdigit() else " " for c in file.stem).split()
    return [int(d) for d in digits], file.name


def read_frame(file: Path) -> np.ndarray:
    """Read an image file into an array of shape (H, W) or (H, W, C), upright.

    Colours of a palette and of print become RGB, and images of one bit 0 and 255.

    Raises
    ------
    OSError
        If the file does not exist or is broken.
    ValueError
        If the file holds several images, as animations do and TIFF files with pages.
    ImportError
        If Pillow is not installed.
    """
    pillow = _pillow()
    try:
        # Given the name, Pillow maps an uncompressed TIFF to memory and mixes up its height and width if it is turned.
        with file.open("rb") as content, pillow.open(content) as image:
            kind, n_images = image.format, _count_images(image)
            image = _upright(image)
            frame = np.asarray(image.convert(_SHOWN_AS[image.mode]) if image.mode in _SHOWN_AS else image)
    except (*_OF_BROKEN_FILES, pillow.DecompressionBombError) as error:
        raise OSError(f"{file} cannot be read: {error}") from error
    if n_images > 1:
        what = "has {} pages" if kind == "TIFF" else "is an animation of {} frames"
        raise ValueError(f"{file} {what.format(n_images)}; a file with one image is needed.")
    return frame.astype(frame.dtype.newbyteorder("="), copy=False)


def _count_images(image: Any) -> int:
    """Number of images in an open file, without the smaller copies that a TIFF may have of its page."""
    n_images = 1 if image.format in _ONE_PICTURE else getattr(image, "n_frames", 1)
    if image.format != "TIFF" or n_images == 1:
        return n_images
    copies = 0
    for page in range(n_images):
        image.seek(page)
        copies += image.tag_v2.get(_TIFF_KIND, 0) & 1
    image.seek(0)
    return n_images - copies


def _upright(image: Any) -> Any:
    """Turn an image as the camera has noted in it; a note that cannot be read says nothing."""
    from PIL import ImageOps

    image.load()  # outside of the try: a broken image is an error
    try:
        return ImageOps.exif_transpose(image)
    except _OF_BROKEN_FILES:
        return image


def check_size(size: object, function: str) -> None:
    """Raise ValueError if ``size`` is neither None nor (H, W)."""
    if size is not None and not (isinstance(size, tuple | list) and len(size) == 2 and are_positive_ints(size)):
        raise ValueError(f"The 'size' parameter of {function} must be None or two positive int (H, W). Got {size!r} instead.")


def convert(frame: np.ndarray, size: tuple[int, int] | None, grey: bool) -> np.ndarray:
    """Convert a frame to grey, unless it is, and scale it to ``size``; the dtype stays."""
    grey = grey and frame.ndim == 3
    if size is None and not grey:
        return frame
    pillow = _pillow()
    if grey:
        frame = np.asarray(pillow.fromarray(frame).convert("L"))
    if size is None:
        return frame
    # Pillow averages uint8 and float32 alone when it shrinks.
    image = pillow.fromarray(frame if frame.dtype == np.uint8 else frame.astype(np.float32))
    scaled = np.asarray(image.resize((size[1], size[0]), pillow.Resampling.BILINEAR))
    if scaled.dtype == frame.dtype:
        return scaled
    return np.rint(scaled).clip(frame.min(), frame.max(), dtype=np.float64).astype(frame.dtype)


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
