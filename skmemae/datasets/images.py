"""Read image files of any folder into one array."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from skmemae.video._images import by_number, check_shapes, check_size, convert, image_files, read_frame

_PATH = "The 'path' parameter of load_images must be a folder or a list of files"


def load_images(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | np.ndarray,
    *,
    size: tuple[int, int] | None = None,
    grey: bool = False,
) -> Bunch:
    """Read all images of a folder and its subfolders, or the image files of a list.

    Parameters
    ----------
    path : path-like or list of path-like
        A folder, or files. They are read with Pillow: ``pip install "skmemae[video]"``. Hidden files of a folder are passed
        over. Images are turned upright as the camera has noted (EXIF).
    size : tuple of int, default=None
        (H, W) to scale every image to, averaging pixels when it shrinks; None keeps the size.
    grey : bool, default=False
        Convert colours to brightness; what is grey already stays as it is.

    Returns
    -------
    images : Bunch
        ``data`` of shape (n, H, W) or (n, H, W, C), uint8; grey images of 16 bits are uint16 and those of floats float32, also
        scaled, and those of one bit hold 0 and 255; ``filenames``, an array of str, sorted
        by folder and the numbers in the names; ``target``, an array of int, the number of each file's folder; and
        ``target_names``, the names of the folders. Folders such as "good" and "scratch" so give labels:
        ``y = [images.target_names[t] != "good" for t in images.target]``.

    Raises
    ------
    OSError
        If there are no images, or one of them cannot be read; names it.
    ValueError
        If images differ in shape or dtype, or a file holds several, as animations do and TIFF files with pages; names the
        first. If ``size`` is not two positive integers.
    ImportError
        If Pillow is not installed.

    Warns
    -----
    UserWarning
        If the folder holds files that are not read; names their number and suffixes.

    See Also
    --------
    skmemae.video.read_video : Frames of a video, from a file or a folder.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from skmemae.datasets import load_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("good", "scratch"):
    ...         Path(folder, name).mkdir()
    ...         Image.fromarray(np.zeros((40, 60, 3), dtype=np.uint8)).save(Path(folder, name, "1.png"))
    ...     images = load_images(folder, size=(20, 30))
    >>> images.data.shape, images.target_names, images.target
    ((2, 20, 30, 3), ['good', 'scratch'], array([0, 1]))
    """
    check_size(size, "load_images")
    files = _files(path)
    data = np.stack(list(check_shapes((file, convert(read_frame(file), size, grey)) for file in files)))
    folders = [file.parent for file in files]
    known = sorted(set(folders))
    target = np.array([known.index(folder) for folder in folders])
    names = [folder.name for folder in known]
    return Bunch(data=data, filenames=np.array([str(file) for file in files]), target=target, target_names=names)


def _files(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | np.ndarray) -> list[Path]:
    """Paths of the images, sorted if they come from a folder."""
    if not isinstance(path, str | os.PathLike):
        files = [Path(file) for file in path]
        if not files:
            raise FileNotFoundError(f"{_PATH}. Got an empty list.")
        return files
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{_PATH}. Got {str(path)!r}.")
    return sorted(image_files(folder), key=lambda file: (file.parent, by_number(file)))
