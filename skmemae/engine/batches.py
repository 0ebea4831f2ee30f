"""The crossing from numpy to torch: batches on the device, chunks of one fixed shape."""

import numpy as np
import torch
from torch import Tensor

from skmemae.engine.samples import Layout, RowSource, block_rows, numbered_blocks
from skmemae.engine.scaling import Scaling

_RESIDENT_BYTES = 2 * 2**30


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
        Hold the samples on the device; None decides by size, and against it where rows are made when they are asked for.
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
        if resident is None:
            resident = not isinstance(X, RowSource) and dtype.itemsize * int(np.prod(X.shape)) <= _RESIDENT_BYTES
        if resident:
            self._resident = torch.empty(X.shape[0], *layout.sample_shape, dtype=dtype, device=device)
            for start, block in numbered_blocks(X):
                self._resident[start : start + len(block)] = self._to_tensor(block)

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
        rows = size * max(1, block_rows(self.X, 2**18) // size)
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

    def raw_chunks(self, size: int):
        """Yield the samples of each of :meth:`chunks` as X has them, without padding."""
        for start in range(0, len(self), size):
            yield self.layout.to_network(torch.from_numpy(np.array(self.X[start : start + size], dtype=np.float64)))

    def _to_tensor(self, block) -> Tensor:
        """A copy of a block as uint8, or as scaled float32; on the CPU, where float64 always works."""
        exact = block.dtype.itemsize > 4 or block.dtype.kind in "iu"
        kind = np.uint8 if self._raw else np.float64 if exact else np.float32
        samples = self.layout.to_network(torch.from_numpy(np.array(block, dtype=kind)))
        return samples if self._raw else self.scaling.apply(samples)

    def _finish(self, samples: Tensor) -> Tensor:
        samples = samples.to(self.device)
        return self.scaling.apply(samples.float()) if self._raw else samples
