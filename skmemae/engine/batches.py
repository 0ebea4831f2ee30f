"""The crossing from numpy to torch: batches on the device, chunks of one fixed shape."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from skmemae.engine.samples import Layout
from skmemae.engine.scaling import Scaling
from skmemae.engine.sources import RowSource, block_rows, chunk_rows, numbered_blocks

_RESIDENT_BYTES = 2 * 2**30
_POOL_BYTES = 64 * 2**20  # of samples that are read together to draw batches from
_RUNS = 64  # parts of X that a pool is made of
_HELD_BYTES = 256 * 2**20
_CHUNK_BYTES = 2**18  # of rows that are read together to be scored


class Batches:
    """Samples of X as scaled float32 tensors on a device.

    What fits is copied to the device once, bytes of images and clips as they are; else rows are read when they are asked for,
    while the network is busy with those before.

    Parameters
    ----------
    X : ndarray or RowSource of shape (n_samples, \\*array_shape)
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
        self._scaling_there = scaling.on(device) if self._raw else scaling
        self._dtype = torch.uint8 if self._raw else torch.float32
        self._sample_bytes = self._dtype.itemsize * math.prod(X.shape[1:])
        self._resident = None
        if resident is None:
            resident = not isinstance(X, RowSource) and self._sample_bytes * X.shape[0] <= _RESIDENT_BYTES
        if resident:
            self._resident = torch.empty(X.shape[0], *layout.sample_shape, dtype=self._dtype, device=device)
            for start, block in numbered_blocks(X):
                self._resident[start : start + len(block)] = self._to_tensor(block)

    def __len__(self):
        return self.X.shape[0]

    @property
    def most_held(self) -> int:
        """How many samples :meth:`hold` should be asked for at most."""
        return max(1, _HELD_BYTES // self._sample_bytes)

    def take(self, rows: Tensor) -> Tensor:
        """The samples of the given rows."""
        return self._finish(self._load(rows))

    def hold(self, rows: Tensor) -> Tensor:
        """The samples of the given rows, kept on the device to be gone through by :meth:`parts` again and again."""
        held = torch.empty(len(rows), *self.layout.sample_shape, dtype=self._dtype, device=self.device)
        done = 0
        for part in rows.split(self._pool_rows(1)):
            held[done : done + len(part)] = self._load(part)
            done += len(part)
        return held

    def parts(self, held: Tensor, size: int):
        """Yield so many at a time of the samples that are held."""
        return map(self._finish, held.split(size))

    def shuffled(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
        """The rows in random order.

        Where X is read in training, the order is one that it can be read in: random runs of neighbours, as many as a pool of
        batches takes, and a random order within the pool. Fewer rows than a pool has are in the order they have in memory.
        """
        pool = self._pool_rows(batch_size)
        if self._resident is not None or len(rows) <= pool:
            return rows[torch.randperm(len(rows), generator=generator)]
        rows = rows.sort().values
        chunk = chunk_rows(self.X)
        run = max(1, pool // _RUNS // chunk) * chunk
        runs = rows.split(torch.unique_consecutive(rows // run, return_counts=True)[1].tolist())
        mixed = torch.cat([runs[i] for i in torch.randperm(len(runs), generator=generator)])
        return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in mixed.split(pool)])

    def stream(self, steps: list[Tensor]):
        """Yield the samples of the rows of each step."""
        sizes = [len(step) for step in steps]
        if self._resident is not None:
            for rows in torch.cat(steps).to(self.device).split(sizes):
                yield self._finish(self._resident.index_select(0, rows))
            return
        count = max(1, self._pool_rows(max(sizes)) // max(sizes))
        pools = [steps[i : i + count] for i in range(0, len(steps), count)]
        loaded = _one_ahead(lambda pool: self._load(torch.cat(pool)), pools)
        for pool, samples in zip(pools, loaded, strict=True):
            yield from map(self._finish, samples.split([len(step) for step in pool]))

    def chunks(self, size: int, start: int = 0, stop: int | None = None):
        """Yield the samples from start to stop as (chunk, count): chunks of one fixed shape, the last padded with zeros.

        One shape for all makes a sample's result independent of its neighbours: matrix products round differently for
        different heights.
        """
        for rows in self._blocks(size, start, len(self) if stop is None else stop):
            block = self._to_tensor(self.X[rows]) if self._resident is None else self._resident[rows]
            for chunk in self._finish(block).split(size):
                count = len(chunk)
                if count < size:
                    chunk = torch.cat([chunk, chunk.new_zeros(size - count, *chunk.shape[1:])])
                yield chunk, count

    def raw_blocks(self):
        """Yield (slice, samples of X there in their own units)."""
        for rows in self._blocks(1, 0, len(self)):
            yield rows, self.layout.to_network(torch.from_numpy(np.array(self.X[rows], dtype=np.float64)))

    def _blocks(self, size, start, stop):
        """Slices of rows that are read together, of whole chunks but for the last."""
        n_bytes = _CHUNK_BYTES if chunk_rows(self.X) == 1 else _POOL_BYTES
        rows = size * max(1, block_rows(self.X, n_bytes) // size)
        return (slice(first, min(first + rows, stop)) for first in range(start, stop, rows))

    def _pool_rows(self, batch_size):
        """How many rows are read together to draw batches from: whole batches."""
        return batch_size * max(1, _POOL_BYTES // self._sample_bytes // batch_size)

    def _load(self, rows: Tensor) -> Tensor:
        """Samples on the device, not finished; X is read in ascending order, which is kinder to disks."""
        if self._resident is not None:
            return self._resident.index_select(0, rows.to(self.device))
        ascending, back = torch.sort(rows)
        return self._to_tensor(self.X[ascending.numpy()]).to(self.device)[back.argsort().to(self.device)]

    def _to_tensor(self, block) -> Tensor:
        """A copy of a block as uint8, or as scaled float32; on the CPU, where float64 always works."""
        exact = block.dtype.itemsize > 4 or block.dtype.kind in "iu"
        kind = np.uint8 if self._raw else np.float64 if exact else np.float32
        samples = self.layout.to_network(torch.from_numpy(np.array(block, dtype=kind)))
        return samples if self._raw else self.scaling.apply(samples)

    def _finish(self, samples: Tensor) -> Tensor:
        samples = samples.to(self.device)
        return self._scaling_there.apply(samples.float()) if self._raw else samples


def _one_ahead(function, items):
    """Like ``map``, but a thread is busy with the next item while the caller is with this one."""
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(function, items[0])
        for item in chain(items[1:], [None]):
            found = ahead.result()
            if item is not None:
                ahead = thread.submit(function, item)
            yield found
