"""Samples of a detector as arrays that can be drawn, and checks of the arrays that displays are made from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from skmemae._detector import MemAEDetector


def as_array(X: ArrayLike | torch.Tensor) -> np.ndarray:
    """Convert X to an array; X may be a tensor on a GPU or one that requires gradients."""
    return np.asarray(X.detach().cpu() if isinstance(X, torch.Tensor) else X)


def is_table(detector: MemAEDetector) -> bool:
    """Whether a fitted detector takes vectors rather than images or clips."""
    check_is_fitted(detector, "sample_shape_")
    return len(detector.sample_shape_) == 1


def names_of_samples(X: object) -> np.ndarray | None:
    """Index of a pandas DataFrame as an array, else None."""
    return np.asarray(X.index) if hasattr(X, "index") and hasattr(X, "columns") else None


def names_of_features(names: Iterable[object] | None, n_features: int) -> np.ndarray:
    """Names of the columns as an array; x0, x1, ... for None."""
    return np.array([f"x{i}" for i in range(n_features)] if names is None else [str(name) for name in names])


def scaled_rows(X: ArrayLike, detector: MemAEDetector) -> np.ndarray:
    """Rows of a table, (n, d), in the scaled units of :meth:`MemAEDetector.anomaly_map`, which make columns comparable."""
    return detector.scaled(np.asarray(X, dtype=np.float64))  # columns of pandas' own dtypes become objects otherwise


def channels_last(X: ArrayLike, detector: MemAEDetector) -> np.ndarray:
    """Move three channels of images or clips to the last axis; average any other number of channels: (n[, T], H, W[, 3])."""
    samples = detector.channels_first(X)
    return np.moveaxis(samples, 1, -1) if samples.shape[1] == 3 else samples.mean(axis=1)


def pick_frames(clips: np.ndarray, frames: int | np.ndarray) -> np.ndarray:
    """One frame of each clip: (n, T, H, W[, 3]) -> (n, H, W[, 3])."""
    return clips[np.arange(len(clips)), frames]


def worst_frames(errors: np.ndarray) -> np.ndarray:
    """Number of the frame with the largest sum of errors in each clip."""
    return errors.reshape(*errors.shape[:2], -1).sum(axis=2).argmax(axis=1)


def displayable(colours: np.ndarray) -> int:
    """Divisor that brings colours into [0, 1] for imshow: 255 for bytes, else 1."""
    return 255 if colours.max() > 1.5 else 1


def check_values(values: ArrayLike, name: str, caller: str) -> np.ndarray:
    """Convert a vector to an array; raise a ValueError if it is not a vector of numbers, is empty or holds NaN or infinity."""
    array = as_array(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iufb" or not np.isfinite(array).all():
        raise ValueError(
            f"The {name!r} parameter of {caller} must be a vector of at least one finite number. "
            f"Got an array of shape {array.shape} and dtype {array.dtype} instead."
        )
    return array


def check_samples(samples: ArrayLike, name: str, caller: str) -> np.ndarray:
    """Convert rows or images to an array; raise a ValueError if their shape is another one or the array is empty."""
    array = as_array(samples)
    if not (array.ndim in (2, 3) or (array.ndim == 4 and array.shape[3] == 3)) or array.size == 0:
        raise ValueError(
            f"The {name!r} parameter of {caller} must be rows (n, d) or images (n, H, W) or (n, H, W, 3), at least one. "
            f"Got an array of shape {array.shape} instead."
        )
    return array


def check_shape(values: ArrayLike, shape: tuple[int, ...], name: str, like: str, caller: str) -> np.ndarray:
    """Convert values to an array; raise a ValueError unless its shape is that of the parameter ``like``."""
    array = as_array(values)
    if array.shape != tuple(shape):
        raise ValueError(
            f"The {name!r} parameter of {caller} must fit {like!r} and have shape {tuple(shape)}. "
            f"Got an array of shape {array.shape} instead."
        )
    return array
