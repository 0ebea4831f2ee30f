"""Loaders of published videos with labelled frames."""

from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from skmemae.datasets.published import check_digest
from skmemae.video import read_video

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
