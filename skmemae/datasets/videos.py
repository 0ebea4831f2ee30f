"""Loaders of published videos with labelled frames."""

from pathlib import Path

import numpy as np
from scipy.io import loadmat
from sklearn.utils import Bunch

from skmemae.datasets.published import absent, check_digest
from skmemae.video import read_video
from skmemae.video.reading import check_size, write_frames

# sha256 of the bytes of training frames, test frames and labels in this order, and of the packed masks.
_PED2 = "daae75fda3dc3c1ee7c55c18acbb327b85f55269c10272f0aadaa464d2ec96bc"
_PED2_MASKS = "bcdc3b08ee8bcc6b2bfb2595e3cc1a3e7ce2344743897c9e8bafa35069eade91"


def load_ped2(data_home):
    """Load UCSD Ped2: a walkway from above; only pedestrians are normal.

    Parameters
    ----------
    data_home : path-like
        Folder with ``ped2_half.npz`` and ``ped2_half_masks.npz`` (frames at half resolution), or with the published folder
        ``UCSDped2`` (``Train/Train001/*.tif``, ``Test/Test001/*.tif``, ``Test/Test001_gt/*.bmp``). There is no download.

    Returns
    -------
    dataset : Bunch
        ``train`` and ``test``, lists of ndarray of shape (T, H, W), uint8; ``labels`` and ``masks``, lists of ndarray, one per
        test video: labels of shape (T,), int, 1 = abnormal frame, and masks of shape (T, H, W), bool, True = abnormal pixel;
        and ``name``.

    Raises
    ------
    ValueError
        If the ``.npz`` files are not the published data, or frames of a folder differ in shape.
    OSError
        If files are missing or cannot be read.
    ImportError
        If imageio is not installed and the published folder has to be read.
    """
    if data_home is not None and (Path(data_home) / "ped2_half.npz").is_file():
        return _ped2_half(Path(data_home))
    if data_home is None or not (folder := Path(data_home) / "UCSDped2").is_dir():
        raise _missing("UCSDped2", data_home, "http://www.svcl.ucsd.edu/projects/anomaly")
    mask_folders = sorted((folder / "Test").glob("Test*_gt"))
    masks = [read_video(path) > 0 for path in mask_folders]
    return Bunch(
        train=[read_video(path) for path in sorted((folder / "Train").glob("Train[0-9]*"))],
        test=[read_video(path.with_name(path.name.removesuffix("_gt"))) for path in mask_folders],
        labels=[mask.any(axis=(1, 2)).astype(int) for mask in masks],
        masks=masks,
        name="UCSD Ped2",
    )


def _missing(folders, data_home, address):
    """FileNotFoundError for the folders of a published set."""
    return FileNotFoundError(f"{absent(data_home, folders)}. Get the videos from {address} and put them there.")


def _ped2_half(data_home):
    """UCSD Ped2 at half resolution."""
    path, masks_path = data_home / "ped2_half.npz", data_home / "ped2_half_masks.npz"
    with np.load(path, allow_pickle=False) as file:
        content = dict(file)
    check_digest(path, _PED2, content["x_train"].tobytes(), content["x_test"].tobytes(), content["y_test"].tobytes())
    with np.load(masks_path, allow_pickle=False) as file:
        packed, shape = file["packed"], file["shape"]
    check_digest(masks_path, _PED2_MASKS, packed.tobytes())
    masks = np.unpackbits(packed, axis=1, count=int(shape[1] * shape[2])).reshape(shape).astype(bool)
    test_borders = np.cumsum(content["len_test"])[:-1]
    return Bunch(
        train=np.split(content["x_train"], np.cumsum(content["len_train"])[:-1]),
        test=np.split(content["x_test"], test_borders),
        labels=[labels.astype(int) for labels in np.split(content["y_test"], test_borders)],
        masks=np.split(masks, test_borders),
        name="UCSD Ped2 (half resolution)",
    )


def load_avenue(data_home, size=(256, 256)):
    """Load CUHK Avenue: people walk past a camera; running, throwing, bicycles and loitering are abnormal.

    Parameters
    ----------
    data_home : path-like
        Folder with the published folders ``Avenue Dataset`` (``training_videos/01.avi``, ``testing_videos/01.avi``) and
        ``ground_truth_demo`` (``testing_label_mask/1_label.mat``). There is no download.
    size : tuple of int, default=(256, 256)
        (H, W) to scale frames and masks to; frames are converted to grey, as in the paper.

    Returns
    -------
    dataset : Bunch
        ``train`` and ``test``, ``labels``, ``masks`` and ``name`` as of :func:`load_ped2`. Frames and masks are read-only
        memory maps of files that the first call writes to a folder in ``data_home``.

    Raises
    ------
    ValueError
        If the numbers of frames and masks of a test video differ, or ``size`` is not two positive integers.
    OSError
        If files are missing or cannot be read.
    ImportError
        If imageio is not installed and videos have to be read.
    """
    check_size(size, "load_avenue", accepts_none=False)
    names, address = "'Avenue Dataset' and 'ground_truth_demo'", "http://www.cse.cuhk.edu.hk/leojia/projects/detectabnormal"
    if data_home is None:
        raise _missing(names, data_home, address)
    videos, truth = Path(data_home) / "Avenue Dataset", Path(data_home) / "ground_truth_demo" / "testing_label_mask"
    train, test = sorted((videos / "training_videos").glob("*.avi")), sorted((videos / "testing_videos").glob("*.avi"))
    if not (train and test and truth.is_dir()):
        raise _missing(names, data_home, address)

    def load_masks(video):
        return np.stack(list(loadmat(truth / f"{int(video.stem)}_label.mat")["volLabel"].ravel()))

    cache = Path(data_home) / f"avenue_{size[0]}x{size[1]}"
    return _load_scaled("CUHK Avenue", train, test, load_masks, cache, size)


def load_shanghaitech(data_home, size=(256, 256)):
    """Load ShanghaiTech Campus: thirteen scenes with pedestrians; bicycles, cars, fights and chases are abnormal.

    Parameters
    ----------
    data_home : path-like
        Folder with the published folder ``shanghaitech`` (``training/videos/01_001.avi``, ``testing/frames/01_0014/000.jpg``,
        ``testing/test_pixel_mask/01_0014.npy``). There is no download.
    size : tuple of int, default=(256, 256)
        (H, W) to scale frames and masks to; frames are converted to grey, as in the paper.

    Returns
    -------
    dataset : Bunch
        ``train`` and ``test``, ``labels``, ``masks`` and ``name`` as of :func:`load_ped2`. Frames and masks are read-only
        memory maps of files that the first call writes to a folder in ``data_home``, 20 GB at the default size.

    Raises
    ------
    ValueError
        If the numbers of frames and masks of a test video differ, or ``size`` is not two positive integers.
    OSError
        If files are missing or cannot be read.
    ImportError
        If imageio is not installed and videos have to be read.
    """
    check_size(size, "load_shanghaitech", accepts_none=False)
    address = "https://svip-lab.github.io/dataset/campus_dataset.html"
    if data_home is None:
        raise _missing("shanghaitech", data_home, address)
    folder = Path(data_home) / "shanghaitech"
    train = sorted((folder / "training" / "videos").glob("*.avi"))
    test = sorted(path for path in (folder / "testing" / "frames").glob("*") if path.is_dir())
    if not (train and test):
        raise _missing("shanghaitech", data_home, address)

    def load_masks(video):
        return np.load(folder / "testing" / "test_pixel_mask" / f"{video.name}.npy", mmap_mode="r")

    cache = Path(data_home) / f"shanghaitech_{size[0]}x{size[1]}"
    return _load_scaled("ShanghaiTech", train, test, load_masks, cache, size)


def _load_scaled(name, train, test, load_masks, cache, size):
    """Bunch of scaled frames and masks, which are written to the folder ``cache`` on the first call."""
    train = [_cached(cache / f"train_{path.stem}.npy", _write_frames, path, size) for path in train]
    frames = [_cached(cache / f"test_{path.stem}.npy", _write_frames, path, size) for path in test]
    masks = [_cached(cache / f"masks_{path.stem}.npy", _write_masks, load_masks, path, size) for path in test]
    for path, video, mask in zip(test, frames, masks, strict=True):
        if len(video) != len(mask):
            raise ValueError(f"Video {path} has {len(video)} frames, but masks of {len(mask)}.")
    labels = [np.array([frame.any() for frame in mask], dtype=int) for mask in masks]
    return Bunch(train=train, test=frames, labels=labels, masks=masks, name=f"{name} ({size[0]} x {size[1]})")


def _cached(file, write, *args):
    """Memory map of a file, which ``write(file, *args)`` creates if it does not exist."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        write(file, *args)
    return np.load(file, mmap_mode="r")


def _write_frames(file, path, size):
    read_video(path, size=size, grey=True, out=file)


def _write_masks(file, load_masks, path, size):
    write_frames((_scale_mask(mask > 0, size) for mask in load_masks(path)), file)


def _scale_mask(mask, size):
    """Mask scaled to ``size``; a pixel is abnormal if any of the pixels it covers is."""
    for axis, n in enumerate(size):
        mask = np.logical_or.reduceat(mask, np.arange(n) * mask.shape[axis] // n, axis=axis)
    return mask
