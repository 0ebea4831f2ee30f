"""Loader of published videos with labelled frames."""

from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from skmemae.datasets.published import DataHome, absent, check_digest
from skmemae.video import read_video

# sha256 of the bytes of training frames, test frames and labels in this order, and of the packed masks.
_PED2 = "daae75fda3dc3c1ee7c55c18acbb327b85f55269c10272f0aadaa464d2ec96bc"
_PED2_MASKS = "bcdc3b08ee8bcc6b2bfb2595e3cc1a3e7ce2344743897c9e8bafa35069eade91"
_ADDRESS = "http://www.svcl.ucsd.edu/projects/anomaly"


def load_ped2(data_home: DataHome) -> Bunch:
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
        If Pillow is not installed and the published folder has to be read.
    """
    if data_home is not None and (Path(data_home) / "ped2_half.npz").is_file():
        return _ped2_half(Path(data_home))
    if data_home is None or not (folder := Path(data_home) / "UCSDped2").is_dir():
        raise FileNotFoundError(f"{absent(data_home, 'UCSDped2')}. Get the videos from {_ADDRESS} and put them there.")
    mask_folders = sorted((folder / "Test").glob("Test*_gt"))
    masks = [read_video(path) > 0 for path in mask_folders]
    return Bunch(
        train=[read_video(path) for path in sorted((folder / "Train").glob("Train[0-9]*"))],
        test=[read_video(path.with_name(path.name.removesuffix("_gt"))) for path in mask_folders],
        labels=[mask.any(axis=(1, 2)).astype(int) for mask in masks],
        masks=masks,
        name="UCSD Ped2",
    )


def _ped2_half(data_home: Path) -> Bunch:
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
