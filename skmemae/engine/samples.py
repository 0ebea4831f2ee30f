"""From X to samples: backbone choice and channel axis, and which rows of many equal ones to train on."""

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor

from skmemae.engine.sources import numbered_blocks

_POSITIONS = {"conv2d": 2, "conv3d": 3}
_USUAL_CHANNELS = (1, 3, 4)
_LEAST_ROWS = 100


class Layout(NamedTuple):
    """How the samples lie in X and how the network wants them."""

    family: str  # "fc", "conv2d" or "conv3d"
    array_shape: tuple[int, ...]  # of one sample as X holds it: X.shape[1:]
    shaped: tuple[int, ...]  # the same after `sample_shape` has been given to it
    channel_axis: int | None  # of `shaped`; None: the samples have no channel axis, or are vectors
    sample_shape: tuple[int, ...]  # what the network sees: (d,) or (channels, *positions)

    def to_network(self, samples: Tensor) -> Tensor:
        """(b, *array_shape) -> (b, *sample_shape)."""
        samples = samples.reshape(-1, *self.shaped)
        if self.channel_axis is not None:
            samples = samples.movedim(self.channel_axis + 1, 1)
        return samples.reshape(-1, *self.sample_shape)

    def from_network(self, samples: Tensor) -> Tensor:
        """(b, *sample_shape) -> (b, *array_shape)."""
        if self.channel_axis is not None:
            samples = samples.movedim(1, self.channel_axis + 1)
        return samples.reshape(-1, *self.array_shape)


def plan_layout(array_shape, backbone="auto", sample_shape=None, channel_axis="auto") -> Layout:
    """Choose the backbone family and find the channels.

    Parameters
    ----------
    array_shape : tuple of int
        X.shape[1:].
    backbone : {"auto", "fc", "conv2d", "conv3d"} or callable, default="auto"
    sample_shape : tuple of int or None, default=None
        Shape to give each sample first.
    channel_axis : {"auto"}, int or None, default="auto"
        Axis of the channels, counted in an array of many samples (so 1 or -1); None if there is none.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or the backbone does not fit the shape.
    """
    array_shape = tuple(int(size) for size in array_shape)
    if min(array_shape) == 0:
        raise ValueError(f"Found array with samples of shape {array_shape} while a minimum of 1 is required along every axis.")
    shaped = array_shape if sample_shape is None else tuple(int(size) for size in sample_shape)
    if math.prod(shaped) != math.prod(array_shape) or min(shaped) < 1:
        raise ValueError(
            f"The 'sample_shape' parameter is {shaped}, which has {math.prod(shaped)} numbers; "
            f"samples of X have shape {array_shape} with {math.prod(array_shape)} numbers."
        )
    family = _choose_family(shaped, backbone, channel_axis)
    if family == "fc":
        return Layout("fc", array_shape, shaped, None, (math.prod(shaped),))
    axis = _find_channels(shaped, family, channel_axis)
    positions = [size for i, size in enumerate(shaped) if i != axis]
    return Layout(family, array_shape, shaped, axis, (1 if axis is None else shaped[axis], *positions))


def _choose_family(shaped, backbone, channel_axis) -> str:
    rank = len(shaped)
    if backbone in ("fc", *_POSITIONS):
        positions = _POSITIONS.get(backbone)
        if positions is not None and rank not in (positions, positions + 1):
            raise ValueError(
                f"backbone={backbone!r} needs samples with {positions} axes, or {positions + 1} with the channels; "
                f"got samples of shape {shaped}. The 'sample_shape' parameter gives flat rows a shape."
            )
        return backbone
    if rank == 1:
        return "fc"
    without_channels = rank if channel_axis is None else rank - 1
    if rank == 2 or (rank == 3 and without_channels == 2):
        return "conv2d"
    if (rank == 4 and without_channels == 3) or rank == 3:
        return "conv3d"
    raise ValueError(
        f"backbone={backbone!r} knows vectors (d), images (H, W), (C, H, W), (H, W, C) and clips (C, T, H, W), (T, H, W, C); "
        f"got samples of shape {shaped}."
    )


def _find_channels(shaped, family, channel_axis) -> int | None:
    if len(shaped) == _POSITIONS[family]:
        if channel_axis not in ("auto", None):
            raise ValueError(
                f"channel_axis={channel_axis!r} leaves too few axes for {family} in samples of shape {shaped}; "
                "use None or 'auto' for samples without channels."
            )
        return None
    if channel_axis == "auto":
        return len(shaped) - 1 if shaped[-1] in _USUAL_CHANNELS and shaped[0] not in _USUAL_CHANNELS else 0
    rank = len(shaped) + 1
    if channel_axis is None or not -rank < channel_axis < rank or channel_axis == 0:
        raise ValueError(
            f"channel_axis={channel_axis!r} is not an axis of samples of shape {shaped} for {family}; "
            f"accepted are 'auto' and axes of X from 1 to {rank - 1}."
        )
    return channel_axis % rank - 1


def thin_repeats(X) -> np.ndarray | None:
    """Of each set of equal rows, as many as the square root of their number: where few rows make most of X, others drown.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Read in blocks of rows.

    Returns
    -------
    rows : ndarray of shape (n_samples,), bool, or None
        The rows to train on; None if all are, or if these are too few to train on.
    """
    # Equal rows have equal weighted sums, and next to never others. A sum along each row rounds the same way for equal rows,
    # which a matrix product does not.
    weights = np.random.default_rng(0).uniform(1, 2, size=math.prod(X.shape[1:]))
    sums = np.empty(X.shape[0])
    with np.errstate(over="ignore", invalid="ignore"):
        for start, block in numbered_blocks(X):
            samples = np.asarray(block, dtype=np.float64).reshape(len(block), -1)
            sums[start : start + len(block)] = (samples * weights).sum(axis=1)
    order = np.argsort(sums, kind="stable")
    ascending = sums[order]
    first = np.r_[True, ascending[1:] != ascending[:-1]]
    if first.all():
        return None
    starts = np.flatnonzero(first)
    counts = np.diff(np.r_[starts, len(sums)])
    rank = np.arange(len(sums)) - np.repeat(starts, counts)
    rows = np.empty(len(sums), dtype=bool)
    rows[order] = rank < np.repeat(np.ceil(np.sqrt(counts)), counts)
    return None if rows.all() or np.count_nonzero(rows) < _LEAST_ROWS else rows
