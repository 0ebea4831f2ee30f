"""Samples of a detector as arrays that can be drawn, and checks of what displays are made of."""

from numbers import Integral

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted


def as_array(X):
    """X as an array, also if it is a tensor on a GPU or one that requires gradients."""
    return np.asarray(X.detach().cpu() if isinstance(X, torch.Tensor) else X)


def is_table(detector) -> bool:
    """Whether a fitted detector takes vectors rather than images or clips."""
    check_is_fitted(detector, "sample_shape_")
    return len(detector.sample_shape_) == 1


def names_of_samples(X):
    """Index of a pandas DataFrame as an array, else None."""
    return np.asarray(X.index) if hasattr(X, "index") and hasattr(X, "columns") else None


def names_of_features(names, n_features):
    """Names of the columns as an array; x0, x1, ... for None."""
    return np.array([f"x{i}" for i in range(n_features)] if names is None else [str(name) for name in names])


def scaled_rows(X, detector):
    """Rows of a table in scaled units, those of :meth:`MemAEDetector.anomaly_map`, in which columns compare: (n, d)."""
    scaling = detector._fitted_model().scaling
    rows = detector.channels_first(np.asarray(X, dtype=np.float64))  # pandas makes objects of its own dtypes
    return scaling.apply(torch.from_numpy(rows)).numpy()


def channels_last(X, detector):
    """Images (n, H, W) or clips (n, T, H, W), with a last axis of three channels; other numbers of channels are averaged."""
    samples = detector.channels_first(X)
    return np.moveaxis(samples, 1, -1) if samples.shape[1] == 3 else samples.mean(axis=1)


def pick_frames(clips, frames):
    """One frame of each clip: (n, T, H, W[, 3]) -> (n, H, W[, 3])."""
    return clips[np.arange(len(clips)), frames]


def worst_frames(errors):
    """Number of the frame with the largest sum of errors in each clip."""
    return errors.reshape(*errors.shape[:2], -1).sum(axis=2).argmax(axis=1)


def displayable(colours):
    """Divisor that brings colours into [0, 1] for imshow: 255 for bytes, else 1."""
    return 255 if colours.max() > 1.5 else 1


def check_positive_int(value, name, caller):
    """Raise a ValueError unless the value is a positive int."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"The {name!r} parameter of {caller} must be a positive int. Got {value!r} instead.")


def check_values(values, name, caller):
    """A vector of numbers as an array; raise a ValueError if it is none, is empty or holds NaN or infinity."""
    array = as_array(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iufb" or not np.isfinite(array).all():
        raise ValueError(
            f"The {name!r} parameter of {caller} must be a vector of at least one finite number. "
            f"Got an array of shape {array.shape} and dtype {array.dtype} instead."
        )
    return array


def check_samples(samples, name, caller):
    """Rows or images as an array; raise a ValueError if they are neither or none."""
    array = as_array(samples)
    if not (array.ndim in (2, 3) or (array.ndim == 4 and array.shape[3] == 3)) or array.size == 0:
        raise ValueError(
            f"The {name!r} parameter of {caller} must be rows (n, d) or images (n, H, W) or (n, H, W, 3), at least one. "
            f"Got an array of shape {array.shape} instead."
        )
    return array


def check_shape(array, shape, name, like, caller):
    """The array; raise a ValueError unless it has the shape of another parameter."""
    array = as_array(array)
    if array.shape != tuple(shape):
        raise ValueError(
            f"The {name!r} parameter of {caller} must fit {like!r} and have shape {tuple(shape)}. "
            f"Got an array of shape {array.shape} instead."
        )
    return array
