"""Loaders of published videos with labelled frames."""

from pathlib import Path

import numpy as np
from scipy.io import loadmat
from sklearn.utils import Bunch

from skmemae.datasets.published import check_digest
from skmemae.video import read_video
from skmemae.video.reading import write_frames

# sha256 of the frames' bytes, training then test, and of the packed masks.
_PED2 = "daae75fda3dc3c1ee7c55c18acbb327b85f55269c10272f0aadaa464d2ec96bc"
_PED2_MASKS = "bcdc3b08ee8bcc6b2bfb2595e3cc1a3e7ce2344743897c9e8bafa35069eade91"


def load_ped2(data_home):
    """UCSD Ped2: a walkway from above, on which nobody but pedestrians is normal.

    Parameters
    ----------
    data_home : path-like
        Folder with ``ped2_half.npz`` and ``ped2_half_masks.npz`` (frames at half resolution), or with the published folder
        ``UCSDped2`` (``Train/Train001/*.tif``, ``Test/Test001/*.tif``, ``Test/Test001_gt/*.bmp``). No download is known.

    Returns
    -------
    dataset : Bunch
        ``train`` and ``test``, lists of ndarray of shape (T, H, W), uint8; for each test video ``labels`` of shape (T,), 1 = an
        abnormal frame, and ``masks`` of shape (T, H, W), True = an abnormal pixel; and ``name``.

    Raises
    ------
    ValueError
        If the files' contents are not the published ones.
    OSError
        If there are no files.
    """
    folder = Path(data_home) / "UCSDped2"
    if (Path(data_home) / "ped2_half.npz").is_file():
        return _ped2_half(Path(data_home))
    if not folder.is_dir():
        raise FileNotFoundError(
            f"Neither ped2_half.npz nor the folder UCSDped2 is in data_home={str(data_home)!r}. The videos come from "
            "http://www.svcl.ucsd.edu/projects/anomaly; put them there."
        )
    masked = sorted((folder / "Test").glob("Test*_gt"))
    masks = [read_video(path) > 0 for path in masked]
    return Bunch(
        train=[read_video(path) for path in sorted((folder / "Train").glob("Train[0-9]*"))],
        test=[read_video(path.with_name(path.name.removesuffix("_gt"))) for path in masked],
        labels=[mask.any(axis=(1, 2)).astype(int) for mask in masks],
        masks=masks,
        name="UCSD Ped2",
    )


def _ped2_half(data_home):
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
    """CUHK Avenue: people walk past a camera; running, throwing, bicycles and loitering are not normal.

    Parameters
    ----------
    data_home : path-like
        Folder with the published folders ``Avenue Dataset`` (``training_videos/01.avi``, ``testing_videos/01.avi``) and
        ``ground_truth_demo`` (``testing_label_mask/1_label.mat``). No download is known.
    size : tuple of int, default=(256, 256)
        (H, W) that frames and masks are scaled to; frames become grey, as in the paper.

    Returns
    -------
    dataset : Bunch
        As of :func:`load_ped2`; frames and masks are memory maps of files made in ``data_home`` the first time.

    Raises
    ------
    ValueError
        If a video has not as many frames as masks.
    OSError
        If there are no files, or they cannot be read.
    """
    videos, truth = Path(data_home) / "Avenue Dataset", Path(data_home) / "ground_truth_demo" / "testing_label_mask"
    train, test = sorted((videos / "training_videos").glob("*.avi")), sorted((videos / "testing_videos").glob("*.avi"))
    if not (train and test and truth.is_dir()):
        raise FileNotFoundError(
            f"The folders 'Avenue Dataset' and 'ground_truth_demo' are not in data_home={str(data_home)!r}. The videos come "
            "from http://www.cse.cuhk.edu.hk/leojia/projects/detectabnormal; put them there."
        )

    def masks_of(video):
        return np.stack(list(loadmat(truth / f"{int(video.stem)}_label.mat")["volLabel"].ravel()))

    made = Path(data_home) / f"avenue_{size[0]}x{size[1]}"
    return _scaled("CUHK Avenue", train, test, masks_of, made, size)


def load_shanghaitech(data_home, size=(256, 256)):
    """ShanghaiTech Campus: thirteen places with pedestrians; bicycles, cars, fights and chases are not normal.

    Parameters
    ----------
    data_home : path-like
        Folder with the published folder ``shanghaitech`` (``training/videos/01_001.avi``, ``testing/frames/01_0014/000.jpg``,
        ``testing/test_pixel_mask/01_0014.npy``). No download is known.
    size : tuple of int, default=(256, 256)
        (H, W) that frames and masks are scaled to; frames become grey, as in the paper.

    Returns
    -------
    dataset : Bunch
        As of :func:`load_ped2`; frames and masks are memory maps of files made in ``data_home`` the first time, 20 GB of
        them at this size.

    Raises
    ------
    ValueError
        If a video has not as many frames as masks.
    OSError
        If there are no files, or they cannot be read.
    """
    folder = Path(data_home) / "shanghaitech"
    train = sorted((folder / "training" / "videos").glob("*.avi"))
    test = sorted(path for path in (folder / "testing" / "frames").glob("*") if path.is_dir())
    if not (train and test):
        raise FileNotFoundError(
            f"The folder 'shanghaitech' is not in data_home={str(data_home)!r}. The videos come from "
            "https://svip-lab.github.io/dataset/campus_dataset.html; put them there."
        )

    def masks_of(video):
        return np.load(folder / "testing" / "test_pixel_mask" / f"{video.name}.npy", mmap_mode="r")

    made = Path(data_home) / f"shanghaitech_{size[0]}x{size[1]}"
    return _scaled("ShanghaiTech", train, test, masks_of, made, size)


def _scaled(name, train, test, masks_of, made, size):
    """Frames and masks of one size, from files that are made once."""
    train = [_made(made / f"train_{path.stem}.npy", _frames, path, size) for path in train]
    frames = [_made(made / f"test_{path.stem}.npy", _frames, path, size) for path in test]
    masks = [_made(made / f"masks_{path.stem}.npy", _masks, masks_of, path, size) for path in test]
    for path, video, mask in zip(test, frames, masks, strict=True):
        if len(video) != len(mask):
            raise ValueError(f"Video {path} has {len(video)} frames, but masks of {len(mask)}.")
    labels = [np.array([frame.any() for frame in mask], dtype=int) for mask in masks]
    return Bunch(train=train, test=frames, labels=labels, masks=masks, name=f"{name} ({size[0]} x {size[1]})")


def _made(file, make, *args):
    """Memory map of a file, which is made first if it is not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        make(file, *args)
    return np.load(file, mmap_mode="r")


def _frames(file, path, size):
    read_video(path, size=size, grey=True, out=file)


def _masks(file, masks_of, path, size):
    write_frames((_any_of(mask > 0, size) for mask in masks_of(path)), file)


def _any_of(mask, size):
    """A scaled mask, abnormal where any of a pixel's pixels is."""
    for axis, n in enumerate(size):
        mask = np.logical_or.reduceat(mask, np.arange(n) * mask.shape[axis] // n, axis=axis)
    return mask
