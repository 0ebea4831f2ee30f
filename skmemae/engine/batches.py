"""The only crossing from numpy to torch: scaling statistics, batches on the device, chunks of one fixed shape."""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import Tensor

from skmemae.engine.samples import Layout

_BLOCK_BYTES = 64 * 2**20
_RESIDENT_BYTES = 2 * 2**30


class Scaling(NamedTuple):
    """An affine scaling of the samples, learned in ``fit``, and a soft limit.

    Attributes
    ----------
    center, scale : ndarray that broadcasts against a sample of the network
    limit : float
        Scaled values beyond it are compressed logarithmically, so that one wild column of one row cannot drown the rest and
        no square overflows, while the order of values is kept. Infinite for no limit.
    """

    center: np.ndarray
    scale: np.ndarray
    limit: float

    def apply(self, samples: Tensor) -> Tensor:
        """To scaled float32, computed in the samples' own precision."""
        center, scale = self._tensors(samples)
        scaled = (samples - center).div_(scale)
        if np.isfinite(self.limit) and max(-scaled.min(), scaled.max()) > self.limit:
            beyond = (scaled.abs() - self.limit).clamp_min_(0)
            scaled = scaled.clamp_(-self.limit, self.limit) + torch.sign(scaled) * torch.log1p(beyond)
        return scaled.float()

    def undo(self, scaled: Tensor) -> Tensor:
        """Back to the samples' units."""
        if np.isfinite(self.limit):
            beyond = (scaled.abs() - self.limit).clamp_min(0)
            scaled = scaled.clamp(-self.limit, self.limit) + torch.sign(scaled) * torch.expm1(beyond)
        center, scale = self._tensors(scaled)
        return scaled * scale + center

    def _tensors(self, like: Tensor):
        return (torch.tensor(a, dtype=like.dtype, device=like.device) for a in (self.center, self.scale))


def learn_scaling(X, layout: Layout, kind: str | None) -> Scaling:
    """Statistics of X: per column for vectors, per channel for images and clips.

    Parameters
    ----------
    X : array-like of shape (n_samples, \\*array_shape)
        Read in blocks of rows.
    layout : Layout
    kind : {"standard", "minmax"} or None
        Mean and standard deviation, minimum and range, or nothing. Constant columns keep their units.

    Raises
    ------
    ValueError
        If the values are too large for a float64 variance.
    """
    table = layout.family == "fc"
    limit = 10.0 if table and kind == "standard" else np.inf
    shape = layout.sample_shape if table else (layout.sample_shape[0], *[1] * (len(layout.sample_shape) - 1))
    if kind is None:
        return Scaling(np.zeros(shape), np.ones(shape), limit)
    scaler = StandardScaler(copy=False) if kind == "standard" else MinMaxScaler(copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in _blocks(X):
            samples = layout.to_network(torch.from_numpy(np.array(block, dtype=np.float64)))
            scaler.partial_fit(samples.movedim(1, -1).reshape(-1, samples.shape[1]).numpy())
    if kind == "standard":
        center, scale, spread = scaler.mean_, scaler.scale_, scaler.var_
    else:
        center, scale, spread = scaler.data_min_, 1 / scaler.scale_, scaler.data_range_
    if not (np.isfinite(center).all() and np.isfinite(spread).all()):
        raise ValueError("Input X contains values too large for the statistics of scaling; use scaling=None or rescale X.")
    return Scaling(center.reshape(shape), scale.reshape(shape), limit)


class Batches:
    """Samples of X as scaled float32 tensors on a device.

    What fits is copied to the device once, bytes of images and clips as they are; else rows are read when they are asked for.

    Parameters
    ----------
    X : ndarray of shape (n_samples, \\*array_shape)
        Never written to.
    layout : Layout
    scaling : Scaling
    device : torch.device
    resident : bool or None, default=None
        Hold the samples on the device; None decides by size.
    """

    def __init__(self, X, layout: Layout, scaling: Scaling, device, resident=None):
        self.X = X
        self.layout = layout
        self.scaling = scaling
        self.device = device
        # Scaling with a limit looks at values, which would make the device wait in every batch.
        self._raw = X.dtype == np.uint8 and not np.isfinite(scaling.limit)
        dtype = torch.uint8 if self._raw else torch.float32
        self._resident = None
        if resident or (resident is None and dtype.itemsize * int(np.prod(X.shape)) <= _RESIDENT_BYTES):
            self._resident = torch.empty(X.shape[0], *layout.sample_shape, dtype=dtype, device=device)
            start = 0
            for block in _blocks(X):
                self._resident[start : start + len(block)] = self._to_tensor(block)
                start += len(block)

    def __len__(self):
        return self.X.shape[0]

    def take(self, rows: Tensor) -> Tensor:
        """The samples of the given rows; X is read in ascending order, which is kinder to disks."""
        if self._resident is None:
            ascending, back = torch.sort(rows)
            return self._finish(self._to_tensor(self.X[ascending.numpy()])[back.argsort()])
        return self._finish(self._resident.index_select(0, rows.to(self.device)))

    def chunks(self, size: int):
        """Yield all samples in order as (chunk, count): chunks of one fixed shape, the last padded with zeros.

        One shape for all makes a sample's result independent of its neighbours: matrix products round differently for
        different heights.
        """
        rows = size * max(1, _block_rows(self.X, 2**18) // size)
        for start in range(0, len(self), rows):
            if self._resident is None:
                block = self._finish(self._to_tensor(self.X[start : start + rows]))
            else:
                block = self._finish(self._resident[start : start + rows])
            for chunk in block.split(size):
                count = len(chunk)
                if count < size:
                    chunk = torch.cat([chunk, chunk.new_zeros(size - count, *chunk.shape[1:])])
                yield chunk, count

    def _to_tensor(self, block) -> Tensor:
        """A copy of a block as uint8, or as scaled float32; on the CPU, where float64 always works."""
        exact = block.dtype.itemsize > 4 or block.dtype.kind in "iu"
        kind = np.uint8 if self._raw else np.float64 if exact else np.float32
        samples = self.layout.to_network(torch.from_numpy(np.array(block, dtype=kind)))
        return samples if self._raw else self.scaling.apply(samples)

    def _finish(self, samples: Tensor) -> Tensor:
        samples = samples.to(self.device)
        return self.scaling.apply(samples.float()) if self._raw else samples


def _blocks(X):
    rows = _block_rows(X, _BLOCK_BYTES)
    for start in range(0, X.shape[0], rows):
        yield X[start : start + rows]


def _block_rows(X, n_bytes):
    """Rows of X that take so many bytes as float64, at least one."""
    return max(1, n_bytes // (8 * int(np.prod(X.shape[1:]))))
