"""How samples lie in X, and which backbone fits them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from torch import Tensor

from skmemae._data.sources import Samples
from skmemae._runtime import warn_caller

_POSITIONS = {"conv2d": 2, "conv3d": 3}
_USUAL_CHANNELS = (1, 3, 4)
_MOST_CHANNELS = 16  # largest axis that is taken for channels when nothing else decides
_THIN = 4  # pixels: an "image" so narrow is a window of a few time series
_LONG = 3  # sides of an image in a ratio above this may be time by features

_OWN_UNITS = 10  # times more do the scales of sensors differ than those of times
_LOOKED_AT = 2**18  # numbers that show the scales
_LARGEST = 1e150  # whose differences do not overflow
_WAY_OUT = (
    "For windows of time series give backbone='fc'; backbone='conv2d' says that they are images and silences this warning."
)


@dataclass(frozen=True)
class Layout:
    """How the samples lie in X and how the network wants them.

    Attributes
    ----------
    family : {"fc", "conv2d", "conv3d"}
    array_shape : tuple of int
        Shape of one sample in X: ``X.shape[1:]``.
    given_shape : tuple of int
        The same after ``sample_shape`` was applied.
    channel_axis : int or None
        Axis of ``given_shape`` that holds the channels; None if the samples have no channel axis or are vectors.
    sample_shape : tuple of int
        What the network sees: (d,) or (channels, \\*positions).
    """

    family: str
    array_shape: tuple[int, ...]
    given_shape: tuple[int, ...]
    channel_axis: int | None
    sample_shape: tuple[int, ...]

    @property
    def place_shape(self) -> tuple[int, ...]:
        """Shape of the places of a sample: (H, W) of images, (T, H, W) of clips, () of vectors, which have none."""
        return self.sample_shape[1:]

    def to_network(self, samples: Tensor) -> Tensor:
        """Samples of X in the shape of the network: (b, \\*array_shape) -> (b, \\*sample_shape)."""
        samples = samples.reshape(-1, *self.given_shape)
        if self.channel_axis is not None:
            samples = samples.movedim(self.channel_axis + 1, 1)
        return samples.reshape(-1, *self.sample_shape)

    def from_network(self, samples: Tensor) -> Tensor:
        """Samples of the network in the shape of X: (b, \\*sample_shape) -> (b, \\*array_shape)."""
        if self.channel_axis is not None:
            samples = samples.movedim(1, self.channel_axis + 1)
        return samples.reshape(-1, *self.array_shape)


def choose_layout(
    array_shape: Sequence[int],
    backbone: Any = "auto",
    sample_shape: Sequence[int] | None = None,
    channel_axis: str | int | None = "auto",
) -> Layout:
    """Choose the backbone family and find the channels.

    Parameters
    ----------
    array_shape : tuple of int
        ``X.shape[1:]``.
    backbone : {"auto", "fc", "conv2d", "conv3d"} or callable, default="auto"
    sample_shape : tuple of int or None, default=None
        Shape to give each sample first.
    channel_axis : {"auto"}, int or None, default="auto"
        Axis of X that holds the channels, usually 1 or -1; None if there is none.

    Returns
    -------
    layout : Layout

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or the backbone does not fit the shape.
    """
    array_shape = tuple(int(size) for size in array_shape)
    if min(array_shape) == 0:
        raise ValueError(f"Found array with samples of shape {array_shape} while a minimum of 1 is required along every axis.")
    given_shape = array_shape if sample_shape is None else _check_sample_shape(sample_shape, array_shape)
    if isinstance(channel_axis, bool):
        raise ValueError(f"The 'channel_axis' parameter must be 'auto', an int or None. Got {channel_axis!r} instead.")
    family = _choose_family(given_shape, backbone, channel_axis)
    if family == "fc":
        return Layout("fc", array_shape, given_shape, None, (math.prod(given_shape),))
    axis = _find_channels(given_shape, family, channel_axis)
    positions = [size for i, size in enumerate(given_shape) if i != axis]
    return Layout(family, array_shape, given_shape, axis, (1 if axis is None else given_shape[axis], *positions))


def warn_of_sensors(X: Samples, layout: Layout, backbone: Any) -> None:
    """Warn if samples of shape (H, W), which were taken for images by their shape alone, look like windows of sensors.

    Sensors have units of their own, so the columns of a window, or its rows, differ far more in scale than its times do. The
    rows and columns of images differ alike. Constant rows and columns, as at the border of digits, do not count.

    Parameters
    ----------
    X : ndarray or RowSource of shape (n_samples, \\*array_shape)
    layout : Layout
    backbone : str or callable
        As the user gave it.
    """
    shape = layout.sample_shape
    if backbone != "auto" or layout.family != "conv2d" or layout.channel_axis is not None or _is_long(shape[1:]):
        return
    step = max(1, len(X) * math.prod(shape) // _LOOKED_AT)
    images = np.asarray(X[::step], dtype=np.float64).reshape(-1, *shape[1:])
    images = np.clip(images, -_LARGEST, _LARGEST)
    of_rows, of_columns = (_ratio_of_scales(images, axes) for axes in ((0, 2), (0, 1)))
    if max(of_rows, of_columns) < _OWN_UNITS * min(of_rows, of_columns):
        return
    axis = "rows" if of_rows > of_columns else "columns"
    warn_caller(
        f"Samples of shape {layout.given_shape} are taken for images, but their {axis} differ in scale by a factor of "
        f"{max(of_rows, of_columns):.3g}, as in windows of time series. {_WAY_OUT}"
    )


def _ratio_of_scales(images: np.ndarray, axes: tuple[int, ...]) -> float:
    """The largest median deviation of the rows or columns of images over the smallest that is not zero."""
    center = np.median(images, axis=axes, keepdims=True)
    scales = np.median(np.abs(images - center), axis=axes)
    scales = scales[scales > 0]
    return float(scales.max() / scales.min()) if len(scales) else 1.0


def _is_long(shape: tuple[int, ...]) -> bool:
    return max(shape) > _LONG * min(shape)


def are_positive_ints(values: Iterable) -> bool:
    """Whether all values are integers above zero."""
    return all(isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0 for value in values)


def _check_sample_shape(sample_shape: Sequence[int], array_shape: tuple[int, ...]) -> tuple[int, ...]:
    if not len(sample_shape) or not are_positive_ints(sample_shape):
        raise ValueError(f"The 'sample_shape' parameter must be None or a tuple of positive int. Got {sample_shape!r} instead.")
    sizes = tuple(int(size) for size in sample_shape)
    if math.prod(sizes) != math.prod(array_shape):
        raise ValueError(
            f"The 'sample_shape' parameter is {sizes}, which has {math.prod(sizes)} numbers; "
            f"samples of X have shape {array_shape} with {math.prod(array_shape)} numbers."
        )
    return sizes


def _choose_family(shape: tuple[int, ...], backbone: Any, channel_axis: str | int | None) -> str:
    rank = len(shape)
    if backbone in ("fc", *_POSITIONS):
        positions = _POSITIONS.get(backbone)
        if positions is not None and rank not in (positions, positions + 1):
            raise ValueError(
                f"backbone={backbone!r} needs samples with {positions} axes, or {positions + 1} with the channels; "
                f"got samples of shape {shape}. The 'sample_shape' parameter gives flat rows a shape."
            )
        return backbone
    if rank == 1:
        return "fc"
    if rank == 2:
        is_image = callable(backbone) or channel_axis not in ("auto", None)
        return "conv2d" if is_image else _image_or_window(shape)
    without_channels = rank if channel_axis is None else rank - 1
    if rank == 3 and without_channels == 2:
        return "conv2d"
    if (rank == 4 and without_channels == 3) or rank == 3:
        return "conv3d"
    raise ValueError(
        f"backbone={backbone!r} knows vectors (d), images (H, W), (C, H, W), (H, W, C) and clips (C, T, H, W), (T, H, W, C); "
        f"got samples of shape {shape}."
    )


def _image_or_window(shape: tuple[int, ...]) -> str:
    """Family of samples with two axes: "conv2d" for images (H, W), "fc" for narrow ones, which are windows of series."""
    if min(shape) <= _THIN:
        return "fc"
    if _is_long(shape):
        warn_caller(f"Samples of shape {shape} are taken for images. {_WAY_OUT}")
    return "conv2d"


def _find_channels(shape: tuple[int, ...], family: str, channel_axis: Any) -> int | None:
    if len(shape) == _POSITIONS[family]:
        if channel_axis not in ("auto", None):
            raise ValueError(
                f"channel_axis={channel_axis!r} leaves too few axes for {family} in samples of shape {shape}; "
                "use None or 'auto' for samples without channels."
            )
        return None
    if channel_axis == "auto":
        return _guess_channels(shape)
    rank = len(shape) + 1
    if channel_axis is None or not -rank < channel_axis < rank or channel_axis == 0:
        raise ValueError(
            f"channel_axis={channel_axis!r} is not an axis of samples of shape {shape} for {family}; "
            f"accepted are 'auto' and axes of X from 1 to {rank - 1}."
        )
    return channel_axis % rank - 1


def _guess_channels(shape: tuple[int, ...]) -> int:
    """First or last axis: the one with a usual number of channels, else the one that leaves square images, else a small one."""
    first, last = shape[0], shape[-1]
    usual = first in _USUAL_CHANNELS, last in _USUAL_CHANNELS
    square = shape[-2] == last, shape[-3] == shape[-2]  # height and width, if the channels come first, or last
    few = first <= _MOST_CHANNELS, last <= _MOST_CHANNELS
    for channels_first, channels_last in (usual, square, few):
        if channels_first != channels_last:
            return 0 if channels_first else len(shape) - 1
    if first == last == 1:
        return 0
    warn_caller(
        f"Axis 1 of X is taken for the channels of samples of shape {shape}. channel_axis=1 says so and silences this "
        "warning; channel_axis=-1 takes the last axis."
    )
    return 0
