"""Loaders of published data sets, from files in a folder or downloaded with scikit-learn."""

import gzip
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import loadmat
from sklearn.datasets import fetch_kddcup99, fetch_openml
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import Bunch

DataHome = str | os.PathLike[str] | None  # type of a folder of data sets

# sha256 of the bytes of all images and then all labels (image data), or of the file (tables).
_MNIST = "c2069063c1105f2bf96266aef1ff68c6e13bdda7a54e37bf19c16f1db24efc83"
_CIFAR10_30K = "7c533284b956e581cb7e92cfccf7cd82ca62180d842b7340ceecd4654e325eaa"
_KDDCUP99 = "8045aca0d84e70e622d1148d7df782496f6333bf6eb979a1b0837c42a9fd9561"
ODDS = {
    "arrhythmia": "e4d47e499591ae31e5d7f0cd983367092353eac240f48e14c9b36457edb3460d",
    "cardio": "5e568b6a73711012c481fa6cc984ab9c68e9a4fa44d6aeb3b43efa381c3f695b",
    "glass": "2c506e6e1e2ca1e82a905d10a90773151ff812c4bd969c71a12db5b2bb6e7921",
    "ionosphere": "8ac5dfa6f47db4acdfe10615489b7f7dd015d79d5b381ce641e72baca3cfefb0",
    "letter": "f4a229b0e2a6b0c9157ce27fa760bcbac0f948cd690b2f5d51c120e5450f2195",
    "lympho": "031b907ecb50347720b08b38f8139d05635adeca9335a064d89d5569c27a5834",
    "mnist": "9479e221f236684c09f3e11c7ad124725d34ecd301b9450425e8b113368413a6",
    "musk": "50bbf414caceb66cfe6f6b1eb7c1ff7c6eb1e6d87173f7bb597ba55cd3dc5493",
    "optdigits": "30c664cd6f3740a173277a27cd1028d471b06f0835a9902c9712749cec58c1c4",
    "pendigits": "7bc32ac83b3d583443acea8b1342a54aaa59eaedb9996af405322f473f3c22bc",
    "pima": "b6a5be8d548b9293d6958beceb1c77055591714d25d40d957eba87808456468f",
    "satellite": "6feac3112b9c14e1c3e60afc437f2f3d29dc1000119c9f950c628078778d6aa0",
    "satimage-2": "95c37a07cea2cb201f6900d14f521510e10b6b2f0074c06ac46d3157440ec67b",
    "shuttle": "b6e396c92354d5dcf5036901e36dc58e2913f2d1a5e138c35a2bedf9c69db899",
    "vertebral": "84b50b055f118f54b5c976650ccd284ab7c1adee822f8b3eb517c7e2c890d15e",
    "vowels": "51d5397bad1ceeda22b7cd44fd58125c5d603c9c2edb53aa59933330e259ac7b",
    "wbc": "afe6b26953cc196b9a480318c903e0edef22529c2f61bd02082438c6e70630a7",
}
ADBENCH = {
    "ALOI": "792d0b5bd1147bfc9574a1974f157b39fbd4cbed8ecd04cf983fd554498ed477",
    "breastw": "4f37ce07dbc25ddad8178fdc6d664ab46d2d0000ee28c2787c3c7ff3c03ef9f6",
    "Cardiotocography": "5ae84910430f05923e11b6f537243263977c9136949dabd891e3570aeec51e29",
    "cover": "945a097c3542ae81a551bf1c06dcad78a755d94f84fcaf1d60687e42d1a656df",
    "donors": "5824ec854465f2763b4bfe3da1ae9f25ed5433b5c6e265d42e37da4f82a58679",
    "Hepatitis": "4a87a2f7d8013e5bfde63294fae61ec7a612322de72f338a7f9491749025ad98",
    "http": "9d98710091551587f4740cfc851a6b064fff6319a337c2dc77ee6da4bcc2e02c",
    "landsat": "ba17e2158c07469597b89db49d3982c874c6b713ff6670721ddc88969da77987",
    "magic.gamma": "0be375984d7af9ea7a63b12206c240840d8b7daa3607021c5fb8756407dd86f1",
    "PageBlocks": "10a9b4d5bb5d3b9083caab4c4062f665610eada703c3d927bf7c34b1f2d0d223",
    "SpamBase": "d0c46c7928e43f6496bcd06e09de0b70f6bc8143792dfa0a43f450263d254e9b",
    "Wilt": "c70b72aa611ec87b20efb400943ef3ce4f8bf7aa58fcef825fbd28cc5cee3cc9",
    "WPBC": "68a6d67242643855713bcdad07d89ecc472bd00000dccc17ba87916eb2693d19",
}
_ADDRESSES = {
    "mnist.npz": "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "kddcup.data_10_percent.gz": "http://kdd.ics.uci.edu/databases/kddcup99/kddcup.data_10_percent.gz",
}
_KDDCUP99_SYMBOLIC = [1, 2, 3, 6, 11, 20, 21]  # columns


class _Tables(NamedTuple):
    """A collection of tables, each in a file of its own that holds X and y."""

    loader: str
    folder: str
    suffix: str
    address: str


_ODDS = _Tables("load_odds", "odds", ".mat", "https://github.com/yzhao062/pyod/tree/development/examples/data")
_ADBENCH = _Tables("load_adbench", "tables", ".npz", "https://github.com/Minqi824/ADBench/tree/main/adbench/datasets/Classical")


def load_mnist(data_home: DataHome = None) -> Bunch:
    """Load MNIST: 70,000 grey images of handwritten digits.

    Parameters
    ----------
    data_home : path-like or None, default=None
        Folder with ``mnist.npz`` (``x_train``, ``y_train``, ``x_test``, ``y_test``). Without that file, OpenML's "mnist_784"
        is downloaded by :func:`sklearn.datasets.fetch_openml`, which caches it in this folder.

    Returns
    -------
    dataset : Bunch
        ``data`` of shape (70000, 28, 28), uint8, ``target`` of shape (70000,), int, the digit, and ``name``.

    Raises
    ------
    ValueError
        If the file is not the published data.
    OSError
        If there is no file and the download fails.
    """
    path = _find(data_home, "mnist.npz")
    if path is None:
        return _from_openml("mnist_784", data_home, (28, 28), "MNIST", "mnist.npz")
    with np.load(path, allow_pickle=False) as file:
        X = np.concatenate([file["x_train"], file["x_test"]])
        y = np.concatenate([file["y_train"], file["y_test"]])
    check_digest(path, _MNIST, X.tobytes(), y.astype(np.uint8).tobytes())
    return Bunch(data=X, target=y.astype(int), name="MNIST")


def load_fashion_mnist(data_home: DataHome = None) -> Bunch:
    """Load Fashion-MNIST from OpenML: 70,000 grey images of clothes.

    Parameters
    ----------
    data_home : path-like or None, default=None
        Folder where :func:`sklearn.datasets.fetch_openml` caches its download.

    Returns
    -------
    dataset : Bunch
        ``data`` of shape (70000, 28, 28), uint8, ``target`` of shape (70000,), int, the class, and ``name``.

    Raises
    ------
    OSError
        If the download fails.
    """
    return _from_openml("Fashion-MNIST", data_home, (28, 28), "Fashion-MNIST", None)


def load_cifar10(data_home: DataHome = None) -> Bunch:
    """Load CIFAR-10: 60,000 colour images of ten classes, or 30,000 of them.

    Parameters
    ----------
    data_home : path-like or None, default=None
        Folder with ``cifar10_30k.npz`` (``x``, ``y``: 3,000 training images of each class). Without that file, OpenML's
        "CIFAR_10", which has all images, is downloaded and cached in this folder.

    Returns
    -------
    dataset : Bunch
        ``data`` of shape (n_samples, 3, 32, 32), uint8, ``target`` of shape (n_samples,), int, the class, and ``name``,
        which tells the two apart.

    Raises
    ------
    ValueError
        If the file is not the published data.
    OSError
        If there is no file and the download fails.
    """
    path = _find(data_home, "cifar10_30k.npz")
    if path is None:
        return _from_openml("CIFAR_10", data_home, (3, 32, 32), "CIFAR-10", "cifar10_30k.npz")
    with np.load(path, allow_pickle=False) as file:
        X, y = file["x"], file["y"]
    check_digest(path, _CIFAR10_30K, X.tobytes(), y.tobytes())
    return Bunch(data=np.ascontiguousarray(np.moveaxis(X, -1, 1)), target=y.astype(int), name="CIFAR-10 (30k subset)")


def load_kddcup99(data_home: DataHome = None) -> Bunch:
    """Load KDD Cup 1999, the 10 % file: 494,021 network connections, with attacks as inliers.

    Attacks are four fifths of the rows, so the literature treats them as inliers and rows labelled "normal." as outliers.

    Parameters
    ----------
    data_home : path-like or None, default=None
        Folder with ``kddcup.data_10_percent.gz``. Without that file, the data is downloaded by
        :func:`sklearn.datasets.fetch_kddcup99`, which caches it in this folder.

    Returns
    -------
    dataset : Bunch
        ``data`` of shape (494021, 41), object, ``target`` of shape (494021,), int, 1 = outlier (labelled "normal."), and
        ``name``. Values are str when read from the file; numbers and bytes when downloaded.

    Raises
    ------
    ValueError
        If the file is not the published data.
    OSError
        If there is no file and the download fails.
    """
    path = _find(data_home, "kddcup.data_10_percent.gz")
    if path is None:
        try:
            X, labels = fetch_kddcup99(percent10=True, data_home=data_home, return_X_y=True)
        except OSError as error:
            raise _offline("KDDCUP99", data_home, "kddcup.data_10_percent.gz") from error
        return Bunch(data=X, target=(labels == b"normal.").astype(int), name="KDDCUP99")
    check_digest(path, _KDDCUP99, path.read_bytes())
    with gzip.open(path, "rt") as file:
        rows = np.array([line.rstrip("\n").split(",") for line in file], dtype=object)
    return Bunch(data=rows[:, :-1], target=(rows[:, -1] == "normal.").astype(int), name="KDDCUP99")


def encode_kddcup99(X: np.ndarray) -> np.ndarray:
    """Encode the rows of KDDCUP99 as numbers: 34 numeric columns, then the seven symbolic ones one-hot encoded.

    Parameters
    ----------
    X : ndarray of shape (n_samples, 41)
        The ``data`` of :func:`load_kddcup99`.

    Returns
    -------
    encoded : ndarray of shape (n_samples, n_columns), float32
        121 columns for the 10 % file; not scaled. One-hot columns depend on the symbols in X.
    """
    numeric = np.delete(X, _KDDCUP99_SYMBOLIC, axis=1).astype(np.float32)
    symbols = X[:, _KDDCUP99_SYMBOLIC].astype(str)
    return np.hstack([numeric, OneHotEncoder(sparse_output=False, dtype=np.float32).fit_transform(symbols)])


def load_odds(name: str, data_home: DataHome = None) -> Bunch:
    """Load one of seventeen tables of the ODDS library (S. Rayana, Stony Brook University, 2016) used in PyOD's benchmark.

    Parameters
    ----------
    name : str
        One of ``skmemae.datasets.ODDS``.
    data_home : path-like or None, default=None
        Folder with ``NAME.mat``, or with a folder ``odds`` that holds it. There is no download.

    Returns
    -------
    dataset : Bunch
        ``data`` of shape (n_samples, d), float64, ``target`` of shape (n_samples,), int, 1 = outlier, and ``name``.

    Raises
    ------
    ValueError
        If the name is unknown or the file is not the published data.
    OSError
        If there is no file.
    """
    return _load_table(_ODDS, ODDS, name, data_home)


def load_adbench(name: str, data_home: DataHome = None) -> Bunch:
    """Load one of thirteen tables of ADBench (Han et al., NeurIPS 2022) that :func:`load_odds` does not have.

    Parameters
    ----------
    name : str
        One of ``skmemae.datasets.ADBENCH``.
    data_home : path-like or None, default=None
        Folder with ``NAME.npz``, or with a folder ``tables`` that holds it: ``X`` and ``y`` of the collection's file, whose
        name there starts with a number. There is no download.

    Returns
    -------
    dataset : Bunch
        ``data`` of shape (n_samples, d), float64, ``target`` of shape (n_samples,), int, 1 = outlier, and ``name``.

    Raises
    ------
    ValueError
        If the name is unknown or the file is not the published data.
    OSError
        If there is no file.
    """
    return _load_table(_ADBENCH, ADBENCH, name, data_home)


def _load_table(tables: _Tables, digests: dict[str, str], name: str, data_home: DataHome) -> Bunch:
    """Load a table from ``data_home`` or the collection's folder in it; its sha256 must be the one in ``digests``."""
    loader, folder, suffix, address = tables
    if name not in digests:
        raise ValueError(f"The 'name' parameter of {loader} must be one of {list(digests)}. Got {name!r} instead.")
    file = name + suffix
    path = _find(data_home, f"{folder}/{file}") or _find(data_home, file)
    if path is None:
        raise FileNotFoundError(f"{absent(data_home, file, folder)}. Get it from {address} and put it there.")
    check_digest(path, digests[name], path.read_bytes())
    if suffix == ".mat":
        content = loadmat(path)
    else:
        with np.load(path, allow_pickle=False) as arrays:
            content = dict(arrays)
    return Bunch(data=content["X"].astype(np.float64), target=content["y"].ravel().astype(int), name=name)


def _find(data_home: DataHome, file: str) -> Path | None:
    """Path of a file in the folder; None if there is no such file."""
    path = None if data_home is None else Path(data_home) / file
    return path if path is not None and path.is_file() else None


def check_digest(path: Path, expected: str, *contents: bytes) -> None:
    """Raise ValueError if the sha256 of the concatenated contents is not the expected one."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    if digest.hexdigest() != expected:
        raise ValueError(f"{path} is not the published data: sha256 is {digest.hexdigest()}, expected {expected}.")


def _from_openml(
    openml_name: str,
    data_home: DataHome,
    shape: tuple[int, ...],
    name: str,
    file: str | None,
) -> Bunch:
    """Download images of a shape from OpenML, where ``file`` is missing; scikit-learn verifies the checksum."""
    try:
        X, y = fetch_openml(openml_name, version=1, data_home=data_home, as_frame=False, return_X_y=True)
    except OSError as error:
        raise _offline(name, data_home, file) from error
    return Bunch(data=X.reshape(-1, *shape).astype(np.uint8), target=y.astype(int), name=name)


def _offline(name: str, data_home: DataHome, file: str | None) -> OSError:
    """Error for a data set that is neither on disk nor downloadable."""
    if file is None:
        return OSError(f"{name} is not at hand: the download failed. Work online once.")
    bring = f"or get {_ADDRESSES[file]} and name its folder as data_home" if file in _ADDRESSES else "or bring the file"
    return OSError(f"{name} is not at hand: {absent(data_home, file)}, and the download failed. Work online once, {bring}.")


def absent(data_home: DataHome, file: str, folder: str | None = None) -> str:
    """Text that says where a file was looked for and not found."""
    if data_home is None:
        return f"data_home, the folder of {file}, is not given"
    return f"{file} is not in data_home={str(data_home)!r}" + (f" or its folder {folder!r}" if folder else "")
